//! Who goes first: small graphs, programs, and what has waited longest.

use super::*;
use crate::fairness::{RunQueue, last_of};
use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

/// A graph of so many tasks without inputs.
fn batch(tasks: u32) -> JobSpec {
    graph(&vec![&[][..]; tasks as usize], &(0..tasks).collect::<Vec<_>>())
}

fn with_priority(spec: JobSpec, priority: i32) -> JobSpec {
    JobSpec { priority, ..spec }
}

/// Workers of one thread each, with the queues that they have.
struct Fleet {
    rig: Rig,
    sent: BTreeSet<TaskId>,
    queues: BTreeMap<u32, RunQueue<RunTask>>,
    running: BTreeMap<u32, RunTask>,
}

impl Fleet {
    fn new(workers: u32) -> Self {
        let rig = Rig::new(workers, 1);
        Self { rig, sent: BTreeSet::new(), queues: BTreeMap::new(), running: BTreeMap::new() }
    }

    /// Workers give back what they are asked for; those without a task begin the next one.
    fn begin(&mut self) {
        self.enqueue();
        while self.rig.commands.iter().any(|command| matches!(command, Command::Retract { .. })) {
            for command in std::mem::take(&mut self.rig.commands) {
                if let Command::Retract { worker, tasks } = command {
                    self.give_back(worker, &tasks);
                }
            }
            self.enqueue();
        }
        for (&worker, queue) in &mut self.queues {
            if let Entry::Vacant(thread) = self.running.entry(worker)
                && let Some(run) = queue.pop()
            {
                thread.insert(run);
            }
        }
    }

    fn give_back(&mut self, worker: WorkerId, tasks: &[TaskId]) {
        let running = self.running.get(&worker.0).map(|run| run.id);
        let back: Vec<TaskId> = tasks.iter().copied().filter(|id| running != Some(*id)).collect();
        self.queues.entry(worker.0).or_default().retain(|run| !back.contains(&run.id));
        for id in &back {
            self.rig.take(worker.0, *id);
            self.sent.remove(id);
        }
        self.rig.s.retracted(worker, &back);
        self.rig.step();
    }

    fn enqueue(&mut self) {
        for (&worker, runs) in &self.rig.runs {
            let queue = self.queues.entry(worker).or_default();
            runs.iter().filter(|run| self.sent.insert(run.id)).for_each(|run| queue.push(run.clone()));
        }
    }

    /// All workers end a task, again and again, until so many have ended: these, in order.
    fn work(&mut self, n: usize, run_us: u32) -> Vec<TaskId> {
        let mut ended = Vec::new();
        while ended.len() < n {
            self.begin();
            assert!(!self.running.is_empty(), "nothing runs any more");
            for (worker, run) in std::mem::take(&mut self.running) {
                self.rig.take(worker, run.id);
                self.rig.end_run(worker, &run, run_us, Outcome::Value(Payload::inline(&[0])));
                ended.push(run.id);
            }
        }
        self.begin();
        ended
    }

    fn submit(&mut self, number: u32, spec: JobSpec) {
        self.rig.submit(number, spec);
        self.begin();
    }

    /// Another program submits its first graph.
    fn submit_other(&mut self, spec: JobSpec) {
        let id = JobId { session: OTHER, number: 0 };
        self.rig.s.submit(id, Arc::new(spec), self.rig.now).unwrap();
        self.rig.step();
    }
}

const OTHER: SessionId = SessionId(9);

fn numbers(ended: &[TaskId]) -> Vec<u32> {
    ended.iter().map(|id| id.job.number).collect()
}

#[test]
fn a_small_graph_goes_before_a_large_one_that_has_run_for_long() {
    let mut fleet = Fleet::new(1);
    fleet.submit(1, batch(100));
    fleet.work(5, 3000);
    fleet.submit(2, batch(1));
    let ended = fleet.work(3, 3000);
    assert!(ended.contains(&task(2, 0)), "{ended:?}");
}

#[test]
fn a_task_of_a_better_level_overtakes_what_is_queued_in_a_worker() {
    let mut fleet = Fleet::new(1);
    fleet.submit(1, batch(2000));
    fleet.work(200, 100);
    let queued = fleet.rig.runs[&0].len();
    assert!(queued > 10, "{queued}");
    fleet.submit(2, batch(1));
    let runs = &fleet.rig.runs[&0];
    let sent = runs.last().unwrap();
    assert_eq!((sent.id, sent.rank < last_of(sent.rank)), (task(2, 0), true), "it is sent though the queue is full");
    assert!(runs.iter().rev().skip(1).all(|run| run.rank > sent.rank));
}

#[test]
fn a_task_of_higher_priority_overtakes_too() {
    let mut fleet = Fleet::new(1);
    fleet.submit(1, batch(2000));
    fleet.work(60, 100);
    let urgent = WireOptions { priority: 5, ..WireOptions::default() };
    fleet.submit(2, with(batch(1), 0, urgent));
    fleet.submit(3, batch(1));
    let ended = fleet.work(2, 100);
    assert_eq!(ended[1], task(2, 0), "one was running");
}

#[test]
fn what_is_less_urgent_is_asked_back_for_what_finds_no_room() {
    let mut fleet = Fleet::new(1);
    let of_priority = |priority| WireOptions { priority, ..WireOptions::default() };
    fleet.submit(0, batch(1));
    for (number, priority) in [(1, 0), (2, 2), (3, -1), (4, 1), (5, 3)] {
        fleet.submit(number, with(batch(1), 0, of_priority(priority)));
    }
    assert_eq!(numbers(&fleet.work(6, 3000)), [0, 5, 2, 4, 1, 3]);
}

#[test]
fn a_worker_that_has_nothing_to_give_back_to_wait_gives_back_what_another_one_can_run() {
    fn asked(rig: &Rig) -> Vec<(WorkerId, Vec<TaskId>)> {
        let commands = rig.commands.iter().filter_map(|command| match command {
            Command::Retract { worker, tasks } => Some((*worker, tasks.clone())),
            _ => None,
        });
        commands.collect()
    }
    let mut rig = Rig::new(2, 1);
    let end_first = |rig: &mut Rig, worker: u32| {
        let run = rig.runs.get_mut(&worker).filter(|runs| !runs.is_empty()).map(|runs| runs.remove(0));
        run.is_some_and(|run| {
            rig.end_run(worker, &run, 50, Outcome::Value(Payload::inline(&[0])));
            true
        })
    };
    // How long they take is known.
    rig.submit(0, batch(20));
    while end_first(&mut rig, 0) || end_first(&mut rig, 1) {}
    rig.submit(1, batch(2));
    rig.submit(2, with_priority(batch(400), 5));
    for (worker, tasks) in asked(&rig) {
        assert!(tasks.iter().all(|id| id.job.number == 1), "they run: {tasks:?}");
        rig.s.retracted(worker, &[]);
        rig.step();
    }
    // One of the two goes on for longer.
    let gives_back =
        |rig: &Rig| asked(rig).iter().any(|(worker, tasks)| worker.0 == 0 && tasks.iter().any(|id| id.job.number == 2));
    while !gives_back(&rig) {
        assert!(end_first(&mut rig, 1), "one worker has nothing to do, and the other one has a queue");
    }
}

#[test]
fn priority_is_strict_whatever_a_task_asks_for() {
    let timed = |priority| WireOptions { priority, timeout_ms: Some(9000), ..WireOptions::default() };
    let on_worker = |priority| WireOptions { priority, worker: Some("w0".into()), ..WireOptions::default() };
    let with_memory = |priority| WireOptions { priority, memory: Some(1), ..WireOptions::default() };
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..200 {
        let mut fleet = Fleet::new(1);
        fleet.submit(0, batch(1));
        let mut priorities = vec![i32::MAX];
        for number in 1..40 {
            let priority = rng.i32(-3..4);
            let plain = WireOptions { priority, ..WireOptions::default() };
            let options = match rng.u8(..6) {
                0 => timed(priority),
                1 => on_worker(priority),
                2 => with_memory(priority),
                _ => plain,
            };
            fleet.submit(number, with(batch(1), 0, options));
            priorities.push(priority);
        }
        let ended = fleet.work(40, rng.u32(1..3000));
        let ended: Vec<i32> = numbers(&ended).into_iter().map(|number| priorities[number as usize]).collect();
        assert!(ended.is_sorted_by(|a, b| a >= b), "round {round}: {ended:?}");
    }
}

#[test]
fn equal_graphs_run_one_after_the_other() {
    let mut fleet = Fleet::new(1);
    for number in 0..4 {
        fleet.submit(number, batch(40));
    }
    let ended = fleet.work(160, 200);
    let expected: Vec<u32> = (0..4).flat_map(|number| [number; 40]).collect();
    assert_eq!(numbers(&ended), expected);
}

#[test]
fn a_large_graph_goes_on_however_many_small_ones_come() {
    let mut fleet = Fleet::new(1);
    fleet.submit(0, batch(300));
    fleet.work(20, 60_000);
    for number in 1..400 {
        fleet.submit(number, batch(1));
    }
    let ended = fleet.work(160, 60_000);
    let of_large = ended.iter().filter(|id| id.job.number == 0).count();
    assert!((18..=22).contains(&of_large), "{of_large}");
}

#[test]
fn two_programs_share_whatever_they_have_submitted() {
    let mut fleet = Fleet::new(2);
    fleet.submit(0, batch(2000));
    fleet.submit(1, batch(2000));
    fleet.work(20, 5000);
    fleet.submit_other(batch(2000));
    let ended = fleet.work(1000, 5000);
    let of_other = ended.iter().filter(|id| id.job.session == OTHER).count();
    assert!(of_other.abs_diff(500) < 25, "{of_other}");
}

#[test]
fn a_program_of_more_weight_gets_more() {
    let mut fleet = Fleet::new(1);
    fleet.rig.s.set_weight(OTHER, 3.0);
    fleet.submit(0, batch(2000));
    fleet.submit_other(batch(2000));
    let ended = fleet.work(1000, 5000);
    let of_other = ended.iter().filter(|id| id.job.session == OTHER).count();
    assert!(of_other.abs_diff(750) < 25, "{of_other}");
}

#[test]
fn a_graph_has_the_priority_that_it_was_given() {
    let mut fleet = Fleet::new(1);
    fleet.submit(0, batch(3));
    fleet.submit(1, batch(2));
    fleet.submit(2, with_priority(batch(2), 1));
    let ended = numbers(&fleet.work(7, 5000));
    assert_eq!(ended[..3], [0, 2, 2], "one was running");
}

#[test]
fn a_task_that_waits_says_how_many_graphs_are_before_it() {
    let mut fleet = Fleet::new(1);
    for number in 0..5 {
        fleet.submit(number, batch(3));
    }
    let text = fleet.rig.s.explain(task(4, 2)).unwrap().explanation.to_string();
    assert!(text.contains("4 graphs are before it"), "{text}");
}

#[test]
fn no_service_is_left_in_flight_when_a_worker_is_lost() {
    let mut rig = Rig::new(2, 2);
    rig.submit(0, batch(50));
    // Each step validates what is in flight.
    rig.lost(0, &[]);
    rig.lost(1, &[]);
    rig.join(2, 1);
    rig.step();
    rig.value(2, task(0, 0));
}

/// Programs with graphs of all sizes, which go on coming, on workers with queues: a program's oldest graph has one start in
/// sixteen of all that the program has, but for what was in queues before.
#[test]
fn nobody_starves_behind_the_queues_of_workers() {
    for seed in 1..=6 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (workers, programs) = (rng.u32(1..4), rng.u32(1..4));
        let mut fleet = Fleet::new(workers);
        // Tasks of each graph that have not begun, by age.
        let mut waiting: BTreeMap<SessionId, BTreeMap<u32, u32>> = BTreeMap::new();
        // Of each program, its oldest graph, and how many of others have begun since one of that.
        let mut oldest: BTreeMap<SessionId, (u32, usize)> = BTreeMap::new();
        let mut begun = BTreeSet::new();
        for number in 0..120 {
            let session = SessionId(rng.u32(1..=programs));
            let tasks = if rng.u8(0..8) == 0 { rng.u32(100..400) } else { rng.u32(1..10) };
            let id = JobId { session, number };
            fleet.rig.s.submit(id, Arc::new(batch(tasks)), fleet.rig.now).unwrap();
            fleet.rig.step();
            waiting.entry(session).or_default().insert(number, tasks);
            for _ in 0..rng.u32(0..20) {
                fleet.begin();
                let new: Vec<TaskId> =
                    fleet.running.values().map(|run| run.id).filter(|id| begun.insert(*id)).collect();
                for JobId { session, number } in new.into_iter().map(|id| id.job) {
                    let graphs = waiting.get_mut(&session).unwrap();
                    let first = *graphs.keys().next().unwrap();
                    let left = graphs.get_mut(&number).unwrap();
                    *left -= 1;
                    if *left == 0 {
                        graphs.remove(&number);
                    }
                    let (known, waited) = oldest.entry(session).or_default();
                    *waited = if number == first || *known != first { 0 } else { *waited + 1 };
                    *known = first;
                    assert!(*waited <= 64, "seed {seed}: graph {first} has waited for {waited} starts");
                }
                if fleet.running.is_empty() {
                    break;
                }
                let worker = *rng.choice(fleet.running.keys()).unwrap();
                let run = fleet.running.remove(&worker).unwrap();
                fleet.rig.take(worker, run.id);
                let run_us = 1 << rng.u32(4..20);
                fleet.rig.end_run(worker, &run, run_us, Outcome::Value(Payload::inline(&[0])));
            }
        }
    }
}
