//! Tasks that end their workers, and their neighbours: who is blamed, and who has to wait for it.

use super::*;
use std::collections::BTreeSet;

/// A job of so many tasks without inputs.
fn batch(tasks: u32) -> JobSpec {
    graph(&vec![&[][..]; tasks as usize], &(0..tasks).collect::<Vec<_>>())
}

fn died_under(rig: &Rig, id: TaskId) -> Option<usize> {
    let failures = rig.delivered.iter().filter_map(|d| d.result.as_ref().err());
    failures.filter(|failure| failure.task == id).find_map(|failure| match &failure.cause {
        Cause::WorkerDied(records) => Some(records.len()),
        _ => None,
    })
}

/// Every worker runs what it has on its threads, and a `guilty` task ends its worker at once; the others end after that.
/// Gives how often each task was begun.
fn run_all(rig: &mut Rig, workers: u32, threads: u32, guilty: impl Fn(TaskId) -> bool) -> BTreeMap<TaskId, u32> {
    let mut begun: BTreeMap<TaskId, u32> = BTreeMap::new();
    let mut started: BTreeSet<(u32, TaskId)> = BTreeSet::new();
    let mut alive: Vec<u32> = (0..workers).collect();
    let mut next = workers;
    for _ in 0..10_000 {
        if rig.s.is_idle() || alive.iter().all(|worker| rig.runs.get(worker).is_none_or(Vec::is_empty)) {
            break;
        }
        let has_suspect = |worker: &&u32| rig.runs.get(worker).is_some_and(|runs| runs.iter().any(|run| run.suspect));
        let suspected = alive.iter().filter(has_suspect).count();
        assert!(suspected <= 1.max(alive.len() - 1), "suspects leave a worker to others");
        for worker in alive.clone() {
            let runs = rig.runs.get(&worker).map_or(&[][..], |runs| &runs[..]);
            let running: Vec<TaskId> = runs.iter().take(threads as usize).map(|run| run.id).collect();
            for &id in &running {
                if started.insert((worker, id)) {
                    *begun.entry(id).or_default() += 1;
                }
            }
            if running.iter().any(|id| guilty(*id)) {
                rig.lost(worker, &running);
                alive.retain(|other| *other != worker);
                rig.join(next, threads);
                alive.push(next);
                next += 1;
                rig.step();
            } else if let Some(&id) = running.first() {
                rig.value(worker, id);
            }
        }
    }
    begun
}

#[test]
fn a_death_with_several_suspects_counts_against_none_of_them() {
    let mut rig = Rig::new(1, 4);
    rig.submit(1, batch(4));
    let running: Vec<TaskId> = rig.on(0).into_iter().map(|index| task(1, index)).collect();
    assert_eq!(running.len(), 4);
    rig.lost(0, &running);
    rig.join(1, 4);
    rig.step();
    assert_eq!(rig.on(1), [0], "nothing beside it");
    rig.lost(1, &[task(1, 0)]);
    rig.join(2, 4);
    rig.step();
    for index in 1..4 {
        assert_eq!(rig.on(2), [index], "one by one, and before what has ended a worker");
        rig.value(2, task(1, index));
        assert!(rig.told().contains(&(index, Ok(vec![index as u8]))));
    }
    for worker in 2..4 {
        assert_eq!((rig.on(worker), died_under(&rig, task(1, 0))), (vec![0], None));
        rig.lost(worker, &[task(1, 0)]);
        rig.join(worker + 1, 4);
        rig.step();
    }
    assert_eq!(died_under(&rig, task(1, 0)), Some(3), "those that it had alone");
}

#[test]
fn an_innocent_task_never_fails_by_its_neighbours_deaths() {
    for (workers, threads) in [(1, 1), (1, 4), (2, 4), (3, 2)] {
        let mut rig = Rig::new(workers, threads);
        rig.submit(1, batch(40));
        let guilty = |id: TaskId| id.index % 4 == 1;
        let begun = run_all(&mut rig, workers, threads, guilty);
        for index in 0..40 {
            let id = task(1, index);
            assert_eq!(died_under(&rig, id).is_some(), guilty(id), "{id} on {workers} x {threads}");
            assert!(guilty(id) || begun[&id] <= 2, "{id} was begun {} times", begun[&id]);
        }
    }
}

#[test]
fn good_tasks_behind_thirty_that_end_their_workers_have_a_worker() {
    let mut rig = Rig::new(2, 4);
    rig.submit(1, batch(30));
    rig.submit(2, batch(40));
    let guilty = |id: TaskId| id.job == job(1);
    let begun = run_all(&mut rig, 2, 4, guilty);
    let good: Vec<bool> = rig.delivered.iter().map(|d| d.result.is_ok()).collect();
    assert_eq!(good.iter().filter(|good| **good).count(), 40);
    let last_good = good.iter().rposition(|good| *good).unwrap();
    let bad_before = good[..last_good].iter().filter(|good| !**good).count();
    assert!(bad_before <= 20, "{bad_before} of 30 had used up their deaths before the last good one was done");
    assert!((0..30).all(|index| begun[&task(1, index)] <= 4), "{begun:?}");
}

#[test]
fn where_nothing_else_is_to_be_done_suspects_use_more_workers_and_leave_one() {
    let mut rig = Rig::new(4, 2);
    rig.submit(1, batch(8));
    for worker in 0..4 {
        let running: Vec<TaskId> = rig.on(worker).into_iter().map(|index| task(1, index)).collect();
        rig.lost(worker, &running);
    }
    (4..8).for_each(|worker| rig.join(worker, 2));
    rig.step();
    let taken: Vec<usize> = (4..8).map(|worker| rig.on(worker).len()).collect();
    assert_eq!(taken.iter().sum::<usize>(), 3, "{taken:?}");
    rig.submit(2, batch(2));
    assert_eq!((4..8).map(|worker| rig.on(worker).len()).sum::<usize>(), 5, "others come at once");
}

#[test]
fn a_task_that_has_ended_no_worker_is_in_company_again() {
    let mut rig = Rig::new(1, 2);
    rig.submit(1, batch(2));
    rig.lost(0, &[task(1, 0), task(1, 1)]);
    rig.join(1, 2);
    rig.step();
    rig.value(1, task(1, 0));
    rig.value(1, task(1, 1));
    assert!(rig.s.jobs.iter().all(|job| job.deaths.is_empty() && job.isolated.is_empty()));
}

#[test]
fn what_a_task_has_submitted_is_not_a_suspect_beside_it() {
    let mut rig = Rig::new(1, 2);
    rig.submit(1, batch(1));
    for worker in 0..3 {
        assert_eq!(rig.on(worker), [0]);
        let nested = JobId { session: SessionId::of_tasks(WorkerId(worker)), number: 7 };
        rig.s.submit(nested, Arc::new(batch(1)), rig.now).unwrap();
        rig.s.blocked(WorkerId(worker), 1);
        rig.step();
        // As the supervisor does it: the session ends first.
        rig.s.session_closed(nested.session);
        rig.lost(worker, &[task(1, 0), TaskId { job: nested, index: 0 }]);
        rig.join(worker + 1, 2);
        rig.step();
    }
    assert_eq!(died_under(&rig, task(1, 0)), Some(3));
}

#[test]
fn what_an_isolated_task_waits_for_is_not_held_up_by_the_next_one() {
    let mut rig = Rig::new(1, 2);
    rig.submit(1, batch(2));
    rig.lost(0, &[task(1, 0), task(1, 1)]);
    rig.join(1, 2);
    rig.step();
    assert_eq!(rig.on(1), [0], "the other waits for it");
    let nested = JobId { session: SessionId::of_tasks(WorkerId(1)), number: 7 };
    rig.s.submit(nested, Arc::new(batch(40)), rig.now).unwrap();
    rig.s.blocked(WorkerId(1), 1);
    rig.step();
    for n in 0..40 {
        let inner: Vec<TaskId> = rig.runs[&1].iter().map(|run| run.id).filter(|id| id.job == nested).collect();
        assert!(!inner.is_empty(), "none runs after {n}");
        rig.value(1, inner[0]);
    }
    rig.s.blocked(WorkerId(1), -1);
    rig.value(1, task(1, 0));
    rig.value(1, task(1, 1));
    assert_eq!(rig.delivered.len(), 42);
}

#[test]
fn a_suspect_joins_one_that_waits_only_where_nothing_else_can_go_on() {
    let mut rig = Rig::new(1, 2);
    rig.submit(1, batch(2));
    rig.lost(0, &[task(1, 0), task(1, 1)]);
    rig.join(1, 2);
    rig.step();
    assert_eq!(rig.on(1), [0]);
    let nested = JobId { session: SessionId::of_tasks(WorkerId(1)), number: 7 };
    rig.s.submit(nested, Arc::new(batch(1)), rig.now).unwrap();
    rig.s.blocked(WorkerId(1), 1);
    rig.step();
    let inner = TaskId { job: nested, index: 0 };
    let there = |rig: &Rig| rig.runs[&1].iter().map(|run| run.id).collect::<Vec<_>>();
    assert_eq!(there(&rig), [task(1, 0), inner], "its worker might be ended by either");
    rig.value(1, inner);
    assert_eq!(there(&rig), [task(1, 0)], "it may go on now");
    assert_eq!(rig.s.next_deadline(), Some(ms(20)));
    rig.now = ms(20);
    rig.s.tick(rig.now);
    rig.step();
    // It may wait for a lock that the other one has.
    assert_eq!(there(&rig), [task(1, 0), task(1, 1)]);
    rig.value(1, task(1, 1));
    rig.s.blocked(WorkerId(1), -1);
    rig.value(1, task(1, 0));
    assert_eq!(rig.delivered.len(), 3);
}

/// The kernel has ended the worker for want of memory.
fn killed_for_memory(rig: &mut Rig, worker: u32, running: &[TaskId]) {
    let record = DeathRecord { cause: DeathCause::OutOfMemory, worker: format!("w{worker}"), ..DeathRecord::default() };
    rig.runs.remove(&worker);
    rig.s.worker_lost(WorkerId(worker), running, record);
    rig.step();
}

#[test]
fn a_task_that_the_kernel_had_no_memory_for_runs_with_nothing_else_in_any_worker_before_it_fails() {
    let mut rig = Rig::new(2, 2);
    rig.submit(1, batch(8));
    let [first, second] = [0, 1].map(|worker| rig.on(worker));
    let hungry = task(1, first[0]);
    killed_for_memory(&mut rig, 0, &[hungry]);
    rig.join(2, 2);
    rig.step();
    assert!(rig.on(2).is_empty(), "nothing is started until all have ended");
    let told = rig.s.explain(hungry).unwrap();
    let Why::Lost { again: Some(again), .. } = &told.explanation.why else { panic!("{told:?}") };
    assert!(matches!(**again, Why::Alone { reason: Isolated::MachineMemory, .. }), "{told:?}");
    let mut left = second;
    while let Some(index) = left.first().copied() {
        rig.value(1, task(1, index));
        left = rig.on(1);
        assert!(left.is_empty() || !left.contains(&hungry.index) || left.len() == 1);
        if left == [hungry.index] {
            break;
        }
    }
    let at = if rig.on(1) == [hungry.index] { 1 } else { 2 };
    let other = 3 - at;
    assert_eq!((rig.on(at), rig.on(other)), (vec![hungry.index], vec![]), "it has all of the memory");
    killed_for_memory(&mut rig, at, &[hungry]);
    let failure = rig.delivered.iter().find_map(|d| d.result.as_ref().err()).unwrap();
    let Cause::MemoryLimit { records, .. } = &failure.cause else { panic!("{failure:?}") };
    assert_eq!(records.len(), 2);
    assert!(!rig.on(other).is_empty(), "others go on");
}
