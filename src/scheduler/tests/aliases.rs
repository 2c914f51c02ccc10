//! Results that other sessions have, too.

use super::*;

const READER: SessionId = SessionId(9);

fn published(number: u32) -> JobId {
    JobId { session: SessionId::PUBLISHED, number }
}

fn read(number: u32) -> TaskId {
    TaskId { job: JobId { session: READER, number }, index: 0 }
}

impl Rig {
    fn alias(&mut self, id: JobId, of: TaskId) {
        self.s.alias(id, of, self.now).unwrap();
        self.step();
    }

    /// What the reader has been told since it was asked last.
    fn read(&mut self) -> Vec<Result<Vec<u8>, u32>> {
        let told = self.told();
        let sessions: Vec<SessionId> = self.delivered.drain(..).map(|d| d.job.session).collect();
        assert!(!sessions.contains(&SessionId::PUBLISHED), "nobody hears what is told there");
        told.into_iter().zip(sessions).filter(|(_, session)| *session == READER).map(|((_, told), _)| told).collect()
    }
}

fn with_published() -> Rig {
    let mut rig = Rig::new(2, 1);
    rig.submit(0, kept(graph(&[&[], &[0]], &[1])));
    rig.held(0, task(0, 0), 5000);
    rig.held(0, task(0, 1), 5000);
    rig.alias(published(0), task(0, 1));
    rig
}

#[test]
fn a_published_result_outlives_its_session_and_goes_with_the_last_who_has_it() {
    let mut rig = with_published();
    rig.s.session_closed(SESSION);
    rig.step();
    assert_eq!(rig.drops(), []);
    assert_eq!((rig.s.unfinished(), rig.s.stats().tasks.waiting), (0, 0));
    assert_eq!(rig.s.departed, [(Program::of(SESSION), 1)]);
    rig.alias(read(0).job, TaskId { job: published(0), index: 0 });
    assert_eq!(rig.read(), [Ok(b"ready".to_vec())]);
    assert_eq!(rig.s.results(READER, None), [(read(0), Some(WorkerId(0)), 5000)]);
    rig.s.release(published(0), &[0]);
    rig.step();
    assert_eq!(rig.drops(), []);
    rig.s.session_closed(READER);
    rig.step();
    assert_eq!(rig.drops(), [(0, 1)]);
    assert!(rig.s.is_idle() && rig.s.departed.is_empty());
}

#[test]
fn the_value_is_fetched_for_whoever_wants_it() {
    let mut rig = with_published();
    rig.alias(read(0).job, TaskId { job: published(0), index: 0 });
    rig.read();
    rig.s.deliver(read(0).job, &[0]);
    rig.step();
    assert_eq!(rig.fetches(), [(0, 1)]);
    rig.s.exported(WorkerId(0), task(0, 1), Ok(Payload::inline(&[42; 2000])));
    rig.step();
    assert_eq!(rig.read(), [Ok(vec![42; 2000])]);
    // And is there for the next one.
    rig.alias(read(1).job, TaskId { job: published(0), index: 0 });
    rig.s.deliver(read(1).job, &[0]);
    rig.step();
    assert_eq!(rig.read(), [Ok(b"ready".to_vec()), Ok(vec![42; 2000])]);
}

#[test]
fn graphs_of_others_use_what_is_behind_it() {
    let mut rig = with_published();
    rig.s.session_closed(SESSION);
    rig.alias(read(0).job, TaskId { job: published(0), index: 0 });
    let mut spec = kept(graph(&[&[EXTERNAL]], &[0]));
    spec.externals = vec![read(0)];
    rig.s.submit(read(1).job, Arc::new(spec), rig.now).unwrap();
    rig.step();
    let run = rig.take(0, read(1));
    assert!(matches!(run.inputs[..], [Input::Held { id, take: false }] if id == task(0, 1)));
    // Another session's results are not to be had without an alias.
    let mut spec = kept(graph(&[&[EXTERNAL]], &[0]));
    spec.externals = vec![TaskId { job: published(0), index: 0 }];
    assert!(matches!(rig.s.submit(read(2).job, Arc::new(spec), rig.now), Err(SubmitError::UnknownInput(_))));
}

#[test]
fn what_was_on_a_dead_worker_is_made_again_for_all_who_have_it() {
    let mut rig = with_published();
    rig.s.session_closed(SESSION);
    rig.alias(read(0).job, TaskId { job: published(0), index: 0 });
    rig.s.deliver(read(0).job, &[0]);
    rig.step();
    rig.read();
    rig.lost(0, &[]);
    assert_eq!(rig.s.unfinished(), 2);
    rig.held(1, task(0, 0), 5000);
    rig.held(1, task(0, 1), 5000);
    assert_eq!(rig.fetches(), [(1, 1)]);
    rig.s.exported(WorkerId(1), task(0, 1), Ok(Payload::inline(&[7; 2000])));
    rig.step();
    assert_eq!(rig.read(), [Ok(vec![7; 2000])]);
}

#[test]
fn what_cannot_be_made_again_is_told_and_may_be_retried() {
    let mut rig = with_published();
    rig.s.session_closed(SESSION);
    rig.alias(read(0).job, TaskId { job: published(0), index: 0 });
    rig.read();
    rig.lost(0, &[]);
    rig.fails(1, task(0, 0));
    assert_eq!(rig.read(), [Err(0)]);
    // Who asks has it tried again.
    rig.alias(read(1).job, TaskId { job: published(0), index: 0 });
    rig.fails(1, task(0, 0));
    assert_eq!(rig.read(), [Err(0)]);
    rig.s.retry(read(0).job, &[0]);
    rig.step();
    rig.held(1, task(0, 0), 5000);
    rig.held(1, task(0, 1), 5000);
    assert_eq!(rig.read(), [Ok(b"ready".to_vec())]);
    // It was made for that one alone, and goes with it; the next one has it made anew, and kept.
    rig.s.release(read(0).job, &[0]);
    rig.step();
    assert_eq!(rig.drops(), [(1, 1)]);
    rig.alias(read(2).job, TaskId { job: published(0), index: 0 });
    rig.held(1, task(0, 0), 5000);
    rig.held(1, task(0, 1), 5000);
    assert_eq!(rig.read(), [Ok(b"ready".to_vec())]);
    for id in [read(2).job, read(1).job, published(0)] {
        assert!(!rig.s.is_idle());
        rig.s.release(id, &[0]);
        rig.step();
    }
    assert!(rig.s.is_idle());
}

#[test]
fn who_cancels_what_others_have_cancels_it_for_himself() {
    let mut rig = with_published();
    rig.alias(read(0).job, TaskId { job: published(0), index: 0 });
    rig.read();
    rig.s.cancel(read(0).job, &[0]);
    rig.step();
    assert_eq!(rig.read(), [Err(0)]);
    rig.alias(read(1).job, TaskId { job: published(0), index: 0 });
    assert_eq!(rig.read(), [Ok(b"ready".to_vec())]);
}

#[test]
fn given_values_and_small_ones_are_published_too() {
    let mut rig = Rig::new(1, 1);
    let mut spec = kept(graph(&[&[], &[]], &[0, 1]));
    spec.data.push((0, Payload::inline(&[1, 2])));
    spec.data.push((1, Payload::inline(&[3; 3000])));
    rig.submit(0, spec);
    rig.alias(published(0), task(0, 0));
    rig.alias(published(1), task(0, 1));
    rig.s.session_closed(SESSION);
    rig.step();
    for number in 0..2 {
        rig.alias(read(number).job, TaskId { job: published(number), index: 0 });
    }
    assert_eq!(rig.read(), [Ok(vec![1, 2]), Ok(b"ready".to_vec())]);
    rig.s.deliver(read(1).job, &[0]);
    rig.step();
    assert_eq!(rig.read(), [Ok(vec![3; 3000])]);
}
