//! Resources that are counted.

use super::*;
use crate::resources::{GivenAmount, Resources};
use crate::task::wait::WaitKind;

fn gpus(amount: f64) -> Resources {
    Resources::of([("gpu", GivenAmount::new(amount))])
}

fn takes(amount: f64) -> WireOptions {
    WireOptions { resources: gpus(amount), ..WireOptions::default() }
}

/// A worker of eight threads with so much of the resource.
fn rig(amount: f64) -> Rig {
    let mut rig = Rig::new(0, 1);
    let spec = WorkerSpec { name: "w0".into(), threads: 8, resources: gpus(amount), ..WorkerSpec::default() };
    rig.s.set_fleet(vec![spec.clone()]);
    rig.s.worker_joined(WorkerId(0), spec);
    rig
}

#[test]
fn no_more_run_than_there_is_and_none_is_starved() {
    let mut rig = rig(2.0);
    rig.submit(1, with(with(graph(&[&[], &[]], &[0, 1]), 0, takes(1.0)), 1, takes(2.0)));
    rig.submit(2, with(with(graph(&[&[], &[]], &[0, 1]), 0, takes(1.0)), 1, takes(0.0)));
    assert_eq!(rig.on(0), [0, 1], "a small one does not overtake the large one; one that takes nothing does");
    let why = rig.s.explain(task(1, 1)).unwrap().explanation.why.to_string();
    assert_eq!(
        why,
        "waits for the 2 of `gpu` that it asks for, which other tasks have on every worker that may run it"
    );
    rig.value(0, task(1, 0));
    assert!(rig.runs[&0].iter().any(|t| t.id == task(1, 1)));
    rig.fails(0, task(1, 1));
    assert!(rig.runs[&0].iter().any(|t| t.id == task(2, 0)));
}

#[test]
fn a_cancelled_run_keeps_what_it_took_until_it_has_ended() {
    let mut rig = rig(1.0);
    rig.submit(1, with(graph(&[&[]], &[0]), 0, takes(1.0)));
    rig.submit(2, with(graph(&[&[]], &[0]), 0, takes(0.5)));
    rig.s.cancel(job(1), &[0]);
    rig.step();
    assert_eq!(rig.runs[&0].len(), 1);
    rig.end(0, task(1, 0), Outcome::Cancelled);
    assert_eq!(rig.runs[&0][0].id, task(2, 0));
}

#[test]
fn what_no_worker_has_can_never_run() {
    let mut rig = rig(1.0);
    rig.submit(1, with(graph(&[&[]], &[0]), 0, takes(1.5)));
    let failure = rig.delivered[0].result.as_ref().unwrap_err();
    let Cause::Infeasible { reason } = &failure.cause else { panic!() };
    assert!(reason.contains("wants 1.5 of `gpu`, but there is `w0`"), "{reason}");
    assert!(reason.contains("with 1 of `gpu`"), "{reason}");
}

#[test]
fn what_a_task_submits_uses_what_the_task_has_where_it_is() {
    let mut rig = rig(2.0);
    let other = WorkerSpec { name: "w1".into(), threads: 8, resources: gpus(2.0), ..WorkerSpec::default() };
    rig.s.worker_joined(WorkerId(1), other);
    rig.submit(1, with(graph(&[&[]], &[0]), 0, takes(2.0)));
    let at = if rig.on(0).is_empty() { 1 } else { 0 };
    rig.s.blocked(WorkerId(at), 1);
    rig.s.note_waiter(WorkerId(at), task(1, 0), Some(WaitKind::ForTasks));
    let inner = JobId { session: SessionId::of_tasks(WorkerId(at)), number: 1 };
    let mut spec = with(graph(&[&[]], &[0]), 0, takes(1.5));
    spec.parent = Some(task(1, 0));
    rig.s.submit(inner, Arc::new(spec), rig.now).unwrap();
    rig.step();
    assert_eq!(rig.runs.values().map(Vec::len).sum::<usize>(), 2, "it waits for nobody");
}

#[test]
fn what_tasks_submit_uses_together_no_more_than_what_the_task_has() {
    let mut rig = rig(2.0);
    rig.submit(1, with(graph(&[&[]], &[0]), 0, takes(2.0)));
    let began = |rig: &Rig, id: TaskId| rig.runs[&0].iter().any(|t| t.id == id);
    let first = submit_inner(&mut rig, 1, task(1, 0), takes(1.0));
    assert!(!began(&rig, first), "its parent runs");
    waits(&mut rig, task(1, 0));
    assert!(began(&rig, first));
    let second = submit_inner(&mut rig, 2, task(1, 0), takes(1.5));
    let third = submit_inner(&mut rig, 3, task(1, 0), takes(1.0));
    assert!(!began(&rig, second) && began(&rig, third), "as much as is left");
    rig.submit(2, with(graph(&[&[]], &[0]), 0, takes(0.5)));
    rig.value(0, first);
    assert!(!began(&rig, second));
    rig.value(0, third);
    assert!(began(&rig, second) && !began(&rig, task(2, 0)), "nobody else uses it");
}

/// A task on worker 0 waits for others.
fn waits(rig: &mut Rig, task: TaskId) {
    rig.s.blocked(WorkerId(0), 1);
    rig.s.note_waiter(WorkerId(0), task, Some(WaitKind::ForTasks));
    rig.step();
}

/// Submits a graph of one task of a task that waits on worker 0.
fn submit_inner(rig: &mut Rig, number: u32, parent: TaskId, options: WireOptions) -> TaskId {
    let id = JobId { session: SessionId::of_tasks(WorkerId(0)), number };
    let mut spec = with(graph(&[&[]], &[0]), 0, options);
    spec.parent = Some(parent);
    rig.s.submit(id, Arc::new(spec), rig.now).unwrap();
    rig.step();
    TaskId { job: id, index: 0 }
}

#[test]
fn what_a_task_has_is_lent_over_a_level_that_names_none() {
    let mut rig = rig(1.0);
    rig.submit(1, with(graph(&[&[]], &[0]), 0, takes(1.0)));
    waits(&mut rig, task(1, 0));
    let between = submit_inner(&mut rig, 1, task(1, 0), WireOptions::default());
    waits(&mut rig, between);
    let last = submit_inner(&mut rig, 2, between, takes(1.0));
    assert!(rig.runs[&0].iter().any(|t| t.id == last), "it waits for nobody");
}

#[test]
fn where_all_that_have_a_resource_wait_one_of_what_they_wait_for_is_let_in() {
    let mut rig = rig(2.0);
    rig.submit(1, with(with(graph(&[&[], &[]], &[0, 1]), 0, takes(1.0)), 1, takes(1.0)));
    waits(&mut rig, task(1, 0));
    let first = submit_inner(&mut rig, 1, task(1, 0), takes(2.0));
    let is_let_in = |rig: &Rig, id: TaskId| rig.runs[&0].iter().any(|t| t.id == id);
    rig.s.tick(ms(50));
    rig.step();
    assert!(!is_let_in(&rig, first) && rig.s.next_deadline().is_none(), "one that has some runs, and may give it back");
    waits(&mut rig, task(1, 1));
    rig.step();
    let second = submit_inner(&mut rig, 2, task(1, 1), takes(2.0));
    let at = rig.s.next_deadline().unwrap();
    assert!(!is_let_in(&rig, first) && !is_let_in(&rig, second));
    rig.now = at;
    rig.s.tick(at);
    rig.step();
    assert!(is_let_in(&rig, first) != is_let_in(&rig, second), "one at a time");
    let (runs, waits) = if is_let_in(&rig, first) { (first, second) } else { (second, first) };
    rig.value(0, runs);
    assert!(!is_let_in(&rig, waits), "who waited for the first goes on before");
    rig.now = rig.s.next_deadline().unwrap();
    rig.s.tick(rig.now);
    rig.step();
    assert!(is_let_in(&rig, waits));
}

#[test]
fn nobody_is_let_in_while_something_runs_that_those_wait_for_who_have_a_resource() {
    let mut rig = rig(1.0);
    let other = WorkerSpec { name: "w1".into(), threads: 1, ..WorkerSpec::default() };
    let first = WorkerSpec { name: "w0".into(), resources: gpus(1.0), ..WorkerSpec::default() };
    rig.s.set_fleet(vec![first, other.clone()]);
    rig.s.worker_joined(WorkerId(1), other);
    rig.submit(1, with(graph(&[&[]], &[0]), 0, takes(1.0)));
    waits(&mut rig, task(1, 0));
    let there = WireOptions { worker: Some("w1".into()), ..WireOptions::default() };
    let inner = submit_inner(&mut rig, 1, task(1, 0), there);
    assert_eq!(rig.on(1), [0]);
    rig.submit(2, graph(&[&[]], &[0]));
    assert_eq!(rig.on(0), [0, 0]);
    waits(&mut rig, task(2, 0));
    let waits = submit_inner(&mut rig, 2, task(2, 0), takes(1.0));
    assert_eq!(rig.s.next_deadline(), None, "what runs elsewhere ends, and then who has it goes on");
    let why = rig.s.explain(waits).unwrap().explanation.why.to_string();
    assert!(why.starts_with("waits for the 1 of `gpu` that it asks for, which other tasks have"), "{why}");
    rig.s.blocked(WorkerId(0), -1);
    rig.s.note_waiter(WorkerId(0), task(1, 0), None);
    rig.value(1, inner);
    rig.value(0, task(1, 0));
    assert!(rig.runs[&0].iter().any(|t| t.id == waits));
}
