//! Tasks whose results are taken apart.

use super::*;
use crate::job::WantedPart;

/// Task 0 with three parts; task 4 uses the last of them.
fn of_parts(outputs: &[u32]) -> JobSpec {
    let mut spec = graph(&[&[], &[0], &[0], &[0], &[3]], outputs);
    spec.parts = vec![(1, 0), (2, 1), (3, 2)];
    spec
}

fn sent(index: u32) -> (u32, Outcome) {
    (index, Outcome::Value(Payload::inline(&[index as u8])))
}

fn held(index: u32) -> (u32, Outcome) {
    (index, Outcome::Held { nbytes: 100, encoded: 100, bound: false })
}

impl Rig {
    /// The parts that the maker is asked for, in its only run.
    fn asked(&self, worker: u32) -> Vec<u32> {
        let runs = &self.runs[&worker];
        let run = runs.iter().find(|run| run.id.index == 0).unwrap();
        run.parts.iter().map(|part| part.index).collect()
    }

    fn parts(&mut self, worker: u32, parts: Vec<(u32, Outcome)>) {
        self.end(worker, task(1, 0), Outcome::Parts(parts));
    }
}

#[test]
fn each_part_that_is_asked_for_is_a_value_of_its_own() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, of_parts(&[1, 4]));
    assert_eq!(rig.on(0), [0]);
    let wanted = |index, place, deliver| WantedPart { index, place, deliver };
    // What nobody asks for is not made; what another task uses is not delivered.
    assert_eq!(rig.runs[&0][0].parts, [wanted(1, 0, true), wanted(3, 2, false)]);
    rig.parts(0, vec![sent(1), held(3)]);
    assert_eq!(rig.told(), [(1, Ok(vec![1]))]);
    assert_eq!([0, 1, 2].map(|i| rig.state(task(1, i))), [Stage::Released, Stage::Done, Stage::Unneeded]);
    assert_eq!(rig.s.stats().workers[0].held_bytes, 100);
    assert!(matches!(rig.runs[&0][0].inputs[..], [Input::Held { id, take: true }] if id == task(1, 3)));
    rig.value(0, task(1, 4));
    assert_eq!(rig.s.stats().workers[0].held_bytes, 0);
    rig.s.release(job(1), &[1, 4]);
    rig.step();
    assert!(rig.s.is_idle());
}

#[test]
fn parts_are_dropped_one_by_one() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(of_parts(&[1, 2, 3])));
    rig.parts(0, vec![held(1), held(2), held(3)]);
    assert_eq!(rig.told(), [1, 2, 3].map(|index| (index, Ok(b"ready".to_vec()))));
    rig.s.release(job(1), &[2]);
    rig.step();
    assert_eq!((rig.drops(), rig.s.stats().workers[0].held_bytes), (vec![(0, 2)], 200));
    rig.s.release(job(1), &[1, 3]);
    rig.step();
    assert_eq!(rig.drops(), [(0, 1), (0, 3)]);
    assert!(rig.s.is_idle());
}

#[test]
fn of_lost_parts_those_that_are_needed_are_made_again() {
    let mut rig = Rig::new(2, 1);
    rig.submit(1, kept(of_parts(&[1, 2, 3])));
    rig.parts(0, vec![sent(1), held(2), held(3)]);
    rig.s.release(job(1), &[3]);
    rig.lost(0, &[]);
    assert_eq!(rig.asked(1), [2], "one is with the supervisor, one nobody needs");
    rig.parts(1, vec![held(2)]);
    assert_eq!((rig.state(task(1, 1)), rig.state(task(1, 2))), (Stage::Done, Stage::Done));
    assert_eq!(rig.told().len(), 3, "they have been told before");
}

#[test]
fn a_lost_part_is_made_again_of_its_makers_inputs() {
    let mut rig = Rig::new(1, 1);
    let mut spec = graph(&[&[], &[0], &[1]], &[2]);
    spec.parts = vec![(2, 0)];
    rig.submit(1, kept(spec));
    rig.held(0, task(1, 0), 10);
    assert!(matches!(rig.runs[&0][0].inputs[..], [Input::Held { take: true, .. }]));
    rig.end(0, task(1, 1), Outcome::Parts(vec![held(2)]));
    rig.join(1, 1);
    rig.lost(0, &[]);
    assert_eq!(rig.on(1), [0]);
    rig.value(1, task(1, 0));
    rig.end(1, task(1, 1), Outcome::Parts(vec![held(2)]));
    assert_eq!(rig.state(task(1, 2)), Stage::Done);
}

#[test]
fn what_is_needed_after_the_maker_was_sent_is_made_by_another_run() {
    let mut rig = Rig::new(0, 1);
    rig.submit(1, kept(of_parts(&[1, 2])));
    rig.s.cancel(job(1), &[2]);
    rig.step();
    rig.join(0, 1);
    rig.step();
    assert_eq!(rig.asked(0), [1]);
    rig.s.retry(job(1), &[2]);
    rig.step();
    rig.parts(0, vec![held(1)]);
    assert_eq!(rig.asked(0), [2]);
    // A part that comes though it is there is no second one.
    rig.parts(0, vec![held(2)]);
    assert_eq!(rig.s.stats().workers[0].held_values, 2);
    assert_eq!(rig.told().last(), Some(&(2, Ok(b"ready".to_vec()))));
}

#[test]
fn the_makers_failure_is_that_of_its_parts() {
    let mut rig = Rig::new(1, 1);
    let options = WireOptions { retries: 1, ..WireOptions::default() };
    rig.submit(1, with(of_parts(&[1, 2, 4]), 0, options));
    rig.fails(0, task(1, 0));
    assert_eq!(rig.on(0), [0], "tried again");
    rig.fails(0, task(1, 0));
    let mut told = rig.told();
    told.sort();
    assert_eq!(told, [(1, Err(0)), (2, Err(0)), (4, Err(0))]);
    rig.s.retry(job(1), &[4]);
    rig.step();
    assert_eq!(rig.asked(0), [3]);
    rig.parts(0, vec![sent(3)]);
    rig.value(0, task(1, 4));
    assert_eq!(rig.told().last(), Some(&(4, Ok(vec![4]))));
}

#[test]
fn a_maker_ends_with_its_last_part_and_what_comes_then_is_dropped() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(of_parts(&[1, 2])));
    let run = rig.runs[&0][0].clone();
    rig.s.cancel(job(1), &[1]);
    rig.step();
    assert_eq!((rig.cancels(), rig.told()), (vec![], vec![(1, Err(1))]), "the other goes on");
    rig.s.release(job(1), &[2]);
    rig.step();
    assert_eq!(rig.cancels(), [(0, 0)]);
    rig.end_run(0, &run, 10, Outcome::Parts(vec![held(1), held(2)]));
    assert_eq!(rig.drops(), [(0, 1), (0, 2)]);
    assert_eq!(rig.s.stats().workers[0].held_values, 0);
}

#[test]
fn a_run_over_its_limit_gives_no_parts() {
    let mut rig = Rig::new(1, 1);
    let options = WireOptions { timeout_ms: Some(1), ..WireOptions::default() };
    rig.submit(1, with(of_parts(&[1, 2]), 0, options));
    let run = rig.runs[&0][0].clone();
    rig.now += ms(2);
    rig.end_run(0, &run, 2000, Outcome::Parts(vec![sent(1), held(2)]));
    let mut told = rig.told();
    told.sort();
    assert_eq!(told, [(1, Err(0)), (2, Err(0))]);
    assert_eq!(rig.drops(), [(0, 2)]);
}

#[test]
fn nothing_is_sent_ahead_of_a_part() {
    let mut rig = Rig::new(1, 1);
    // So that it is known to be short.
    rig.submit(2, graph(&[&[], &[0], &[1], &[2]], &[3]));
    rig.value(0, task(2, 0));
    assert!(rig.on(0).len() > 1, "chains are");
    rig.submit(1, of_parts(&[4]));
    for index in 1..4 {
        rig.value(0, task(2, index));
    }
    assert_eq!(rig.on(0), [0]);
    rig.parts(0, vec![sent(3)]);
    assert_eq!(rig.on(0), [4]);
}

#[test]
fn a_job_may_grow_by_parts() {
    let mut rig = Rig::new(1, 1);
    let mut spec = graph(&[&[]], &[0]);
    spec.open = true;
    rig.submit(1, spec);
    rig.value(0, task(1, 0));
    let mut more = graph(&[&[], &[0]], &[1]);
    more.parts = vec![(1, 7)];
    rig.s.grow(job(1), more, rig.now).unwrap();
    rig.step();
    assert_eq!(rig.runs[&0][0].parts, [WantedPart { index: 2, place: 7, deliver: true }]);
    rig.end(0, task(1, 1), Outcome::Parts(vec![sent(2)]));
    assert_eq!(rig.told().last(), Some(&(2, Ok(vec![2]))));
}

#[test]
fn parts_that_make_no_sense_are_refused() {
    let mut rig = Rig::new(1, 1);
    let refuse = |rig: &mut Rig, change: &dyn Fn(&mut JobSpec)| {
        let mut spec = of_parts(&[1, 4]);
        change(&mut spec);
        let result = rig.s.submit(job(1), Arc::new(spec), rig.now);
        assert!(matches!(result, Err(SubmitError::Malformed(_))), "{result:?}");
        assert!(rig.s.is_idle());
    };
    let cases: [&dyn Fn(&mut JobSpec); 9] = [
        &|spec| spec.parts.swap(0, 1),
        &|spec| spec.parts.push((5, 0)),
        // What has a value, a program, or no maker, is no part.
        &|spec| spec.parts.insert(0, (0, 0)),
        &|spec| {
            spec.bodies.push(1);
            (1..5).for_each(|index| spec.body_ends[index] = 1);
        },
        &|spec| spec.deps[0] = EXTERNAL,
        &|spec| spec.options.push((1, WireOptions::default())),
        // The maker runs, and nobody uses all it gives.
        &|spec| spec.data.push((0, Payload::default())),
        &|spec| spec.outputs.insert(0, WantedResult { index: 0, deliver: true }),
        &|spec| spec.deps[3] = 0,
    ];
    cases.into_iter().for_each(|change| refuse(&mut rig, change));
    // A part of a part.
    refuse(&mut rig, &|spec| spec.parts.push((4, 0)));
    rig.submit(1, of_parts(&[1, 4]));
}
