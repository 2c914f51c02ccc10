//! One test for each rule.
#![allow(clippy::unwrap_used)]

mod aliases;
mod blame;
mod fairness;
mod parts;
mod resources;

use super::explain::Stage;
use super::job::{State, Task};
use super::worker::{Flight, WorkerIndex};
use super::*;
use crate::error::{Cause, DeathRecord};
use crate::ids::JobId;
use crate::ipc::ledger::Ledger;
use crate::ipc::payload::Payload;
use crate::ipc::segment::SegmentPool;
use crate::job::{Delivered, EXTERNAL, Failure, Outcome, WantedResult, WireOptions};
use proptest::prelude::*;
use std::collections::BTreeMap;
use swath_insight::explain::{Isolated, Why};

const SESSION: SessionId = SessionId(7);

fn job(number: u32) -> JobId {
    JobId { session: SESSION, number }
}

fn task(number: u32, index: u32) -> TaskId {
    TaskId { job: job(number), index }
}

/// A spec from the dependencies of its tasks and its outputs, all delivered.
pub(super) fn graph(deps: &[&[u32]], outputs: &[u32]) -> JobSpec {
    let mut spec = JobSpec::default();
    for list in deps {
        spec.deps.extend_from_slice(list);
        spec.dep_ends.push(spec.deps.len() as u32);
        spec.body_ends.push(0);
    }
    spec.outputs = outputs.iter().map(|&index| WantedResult { index, deliver: true }).collect();
    spec
}

fn kept(mut spec: JobSpec) -> JobSpec {
    for output in &mut spec.outputs {
        output.deliver = false;
    }
    spec
}

fn with(mut spec: JobSpec, index: u32, options: WireOptions) -> JobSpec {
    spec.options.push((index, options));
    spec.options.sort_by_key(|(index, _)| *index);
    spec
}

fn panicked(id: TaskId) -> Box<Failure> {
    let cause = Cause::Panic { message: "no".into(), location: String::new(), backtrace: Default::default() };
    Box::new(Failure { task: id, step: 0, call: None, worker: None, cause })
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A scheduler with its commands sorted for asking.
struct Rig {
    s: Scheduler,
    now: Duration,
    /// What each worker has been sent to run and has not ended.
    runs: BTreeMap<u32, Vec<RunTask>>,
    commands: Vec<Command>,
    /// Everything delivered so far.
    delivered: Vec<Delivery>,
}

impl Rig {
    fn new(workers: u32, threads: u32) -> Self {
        Self::configured(workers, threads, Config::default())
    }

    fn configured(workers: u32, threads: u32, config: Config) -> Self {
        let mut rig = Self {
            s: Scheduler::new(config),
            now: Duration::ZERO,
            runs: BTreeMap::new(),
            commands: Vec::new(),
            delivered: Vec::new(),
        };
        for number in 0..workers {
            rig.join(number, threads);
        }
        rig
    }

    fn join(&mut self, number: u32, threads: u32) {
        let spec = WorkerSpec { name: format!("w{number}"), threads, ..WorkerSpec::default() };
        self.s.worker_joined(WorkerId(number), spec);
    }

    fn submit(&mut self, number: u32, spec: JobSpec) {
        self.s.submit(job(number), Arc::new(spec), self.now).unwrap();
        self.step();
    }

    /// Dispatches, and keeps the other commands of this step.
    fn step(&mut self) {
        self.s.validate();
        let mut commands = Vec::new();
        self.s.dispatch(self.now, &mut commands);
        self.s.validate();
        self.s.validate_busy();
        self.commands.clear();
        for command in commands {
            match command {
                Command::Run { worker, tasks } => self.runs.entry(worker.0).or_default().extend(tasks),
                Command::Deliver { session, deliveries } => {
                    assert!(deliveries.iter().all(|d| d.job.session == session));
                    self.delivered.extend(deliveries);
                }
                other => self.commands.push(other),
            }
        }
    }

    /// Indexes of what is in flight on a worker.
    fn on(&self, worker: u32) -> Vec<u32> {
        self.runs.get(&worker).into_iter().flatten().map(|t| t.id.index).collect()
    }

    fn take(&mut self, worker: u32, id: TaskId) -> RunTask {
        let runs = self.runs.entry(worker).or_default();
        let at = runs.iter().position(|t| t.id == id).unwrap_or_else(|| panic!("{id} is not on {worker}"));
        runs.remove(at)
    }

    fn end(&mut self, worker: u32, id: TaskId, outcome: Outcome) {
        let run = self.take(worker, id);
        self.end_run(worker, &run, 10, outcome);
    }

    fn end_run(&mut self, worker: u32, run: &RunTask, run_us: u32, outcome: Outcome) {
        let completion = Completion { id: run.id, attempt: run.attempt, run_us, outcome };
        self.s.finished(WorkerId(worker), vec![completion], self.now);
        self.step();
    }

    /// The worker sends back tasks that were sent ahead of results it has not.
    fn bounces(&mut self, worker: u32, tasks: &[TaskId]) {
        for id in tasks {
            self.take(worker, *id);
        }
        self.s.bounced(WorkerId(worker), tasks);
        self.step();
    }

    /// What a task in flight was sent ahead of.
    fn ahead_of(&self, worker: u32, id: TaskId) -> Vec<TaskId> {
        let run = self.runs[&worker].iter().find(|t| t.id == id).unwrap();
        let ahead = run.inputs.iter().filter_map(|i| match i {
            Input::Pending { id } => Some(*id),
            _ => None,
        });
        ahead.collect()
    }

    fn value(&mut self, worker: u32, id: TaskId) {
        self.end(worker, id, Outcome::Value(Payload::inline(&[id.index as u8])));
    }

    fn held(&mut self, worker: u32, id: TaskId, nbytes: u64) {
        self.end(worker, id, Outcome::Held { nbytes, encoded: nbytes, bound: false });
    }

    fn fails(&mut self, worker: u32, id: TaskId) {
        self.end(worker, id, Outcome::Failed(panicked(id)));
    }

    fn lost(&mut self, worker: u32, running: &[TaskId]) {
        self.runs.remove(&worker);
        let record = DeathRecord { worker: format!("w{worker}"), ..DeathRecord::default() };
        self.s.worker_lost(WorkerId(worker), running, record);
        self.step();
    }

    /// A worker runs out of memory.
    fn burst(&mut self, worker: u32, running: &[TaskId]) {
        self.runs.remove(&worker);
        let record = DeathRecord {
            worker: format!("w{worker}"),
            cause: DeathCause::MemoryLimit { used: 110, limit: 100 },
            memory_limit: Some(100),
            ..DeathRecord::default()
        };
        self.s.worker_lost(WorkerId(worker), running, record);
        self.step();
    }

    fn state(&self, id: TaskId) -> Stage {
        self.s.task_state(id).unwrap()
    }

    /// Index and result of all deliveries so far: the bytes, "ready", or the index of the failure's task.
    fn told(&self) -> Vec<(u32, Result<Vec<u8>, u32>)> {
        let tell = |d: &Delivery| match &d.result {
            Ok(Delivered::Value(p)) => Ok(p.content().to_vec()),
            Ok(Delivered::Ready { .. }) => Ok(b"ready".to_vec()),
            Err(f) => Err(f.task.index),
        };
        self.delivered.iter().map(|d| (d.index, tell(d))).collect()
    }

    fn drops(&self) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        for command in &self.commands {
            if let Command::Drop { worker, tasks } = command {
                all.extend(tasks.iter().map(|t| (worker.0, t.index)));
            }
        }
        all
    }

    fn fetches(&self) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        for command in &self.commands {
            if let Command::Fetch { worker, tasks } = command {
                all.extend(tasks.iter().map(|t| (worker.0, t.index)));
            }
        }
        all
    }

    fn cancels(&self) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        for command in &self.commands {
            if let Command::Cancel { worker, tasks } = command {
                all.extend(tasks.iter().map(|t| (worker.0, t.index)));
            }
        }
        all
    }

    fn kills(&self) -> Vec<u32> {
        self.commands
            .iter()
            .filter_map(|c| match c {
                Command::Kill { worker, cause: DeathCause::CancelIgnored } => Some(worker.0),
                _ => None,
            })
            .collect()
    }

    fn retracts(&self) -> Vec<(u32, Vec<u32>)> {
        let mut all = Vec::new();
        for command in &self.commands {
            if let Command::Retract { worker, tasks } = command {
                all.push((worker.0, tasks.iter().map(|t| t.index).collect()));
            }
        }
        all
    }
}

#[test]
fn hot_structs_stay_small() {
    assert_eq!(size_of::<State>(), 8);
    assert_eq!(size_of::<Task>(), 16);
    assert!(size_of::<super::values::TaskValue>() <= 88);
    assert!(size_of::<RunTask>() <= 88);
}

#[test]
fn a_chain_stays_on_its_worker_and_is_dropped_behind_itself() {
    let mut rig = Rig::new(2, 1);
    rig.submit(1, graph(&[&[], &[0], &[1]], &[2]));
    assert_eq!(rig.on(0), [0]);
    rig.held(0, task(1, 0), 100);
    let run = rig.runs[&0][0].clone();
    assert!(matches!(run.inputs[..], [Input::Held { id, take: true }] if id == task(1, 0)));
    assert!(!run.deliver);
    rig.held(0, task(1, 1), 100);
    assert_eq!(rig.drops(), [], "what was taken needs no drop");
    assert_eq!(rig.state(task(1, 0)), Stage::Released);
    let run = rig.runs[&0][0].clone();
    assert!(run.deliver);
    rig.value(0, task(1, 2));
    assert_eq!(rig.told(), [(2, Ok(vec![2]))]);
    rig.s.release(job(1), &[2]);
    rig.step();
    assert!(rig.s.is_idle());
    assert_eq!(rig.s.stats().workers[0].held_values, 0);
}

#[test]
fn shared_inputs_are_not_taken_and_are_dropped_after_the_last_user() {
    let mut rig = Rig::new(1, 2);
    rig.submit(1, graph(&[&[], &[0], &[0]], &[1, 2]));
    rig.held(0, task(1, 0), 8);
    for run in &rig.runs[&0] {
        assert!(matches!(run.inputs[..], [Input::Held { take: false, .. }]));
    }
    rig.value(0, task(1, 1));
    assert_eq!(rig.drops(), []);
    rig.value(0, task(1, 2));
    assert_eq!(rig.drops(), [(0, 0)]);
}

#[test]
fn a_task_that_may_be_retried_takes_nothing() {
    let mut rig = Rig::new(1, 1);
    let options = WireOptions { retries: 1, ..WireOptions::default() };
    rig.submit(1, with(graph(&[&[], &[0]], &[1]), 1, options));
    rig.held(0, task(1, 0), 8);
    assert!(matches!(rig.runs[&0][0].inputs[..], [Input::Held { take: false, .. }]));
    rig.fails(0, task(1, 1));
    assert_eq!(rig.on(0), [1], "tried again");
    rig.fails(0, task(1, 1));
    assert_eq!(rig.told(), [(1, Err(1))]);
    assert_eq!(rig.drops(), [(0, 0)]);
}

#[test]
fn what_nobody_needs_does_not_run() {
    let mut rig = Rig::new(1, 8);
    rig.submit(1, graph(&[&[], &[], &[0]], &[2]));
    assert_eq!(rig.on(0), [0]);
    assert_eq!(rig.state(task(1, 1)), Stage::Unneeded);
    rig.submit(2, graph(&[&[], &[]], &[]));
    assert!(rig.s.job_counts(job(2)).is_none(), "a job without outputs is done at once");
}

#[test]
fn given_values_are_finished_at_submit() {
    let mut rig = Rig::new(1, 1);
    let mut spec = graph(&[&[], &[0]], &[0, 1]);
    spec.data.push((0, Payload::inline(&[42])));
    rig.submit(1, spec);
    assert_eq!(rig.told(), [(0, Ok(vec![42]))]);
    let run = rig.take(0, task(1, 1));
    assert!(matches!(&run.inputs[..], [Input::Payload(payload)] if payload.content() == [42]));
}

#[test]
fn order_is_priority_then_submission_then_index() {
    let mut rig = Rig::new(0, 1);
    let urgent = WireOptions { priority: 5, ..WireOptions::default() };
    rig.submit(1, graph(&[&[], &[]], &[0, 1]));
    rig.submit(2, with(graph(&[&[], &[], &[]], &[0, 1, 2]), 2, urgent));
    rig.join(0, 1);
    let mut order = Vec::new();
    rig.step();
    while let Some(run) = rig.runs.get(&0).and_then(|r| r.first()).cloned() {
        order.push((run.id.job.number, run.id.index));
        rig.value(0, run.id);
    }
    assert_eq!(order, [(2, 2), (1, 0), (1, 1), (2, 0), (2, 1)]);
}

#[test]
fn later_ready_tasks_with_lower_indexes_go_first() {
    let mut rig = Rig::new(1, 1);
    // 0, and 1 which needs it, then many sources.
    rig.submit(1, graph(&[&[], &[0], &[], &[], &[], &[]], &[1, 2, 3, 4, 5]));
    let long = rig.take(0, task(1, 0));
    rig.end_run(0, &long, 50_000, Outcome::Value(Payload::inline(&[0])));
    assert_eq!(rig.on(0)[0], 2, "that was sent ahead");
    let long = rig.take(0, task(1, 2));
    rig.end_run(0, &long, 50_000, Outcome::Value(Payload::inline(&[0])));
    assert_eq!(rig.on(0)[0], 1);
}

#[test]
fn options_do_not_change_the_order_within_a_job() {
    let mut rig = Rig::new(1, 1);
    let plain: &[u32] = &[];
    let tasks = [plain; 6];
    let mut spec = graph(&tasks, &[0, 1, 2, 3, 4, 5]);
    for (index, memory, tag) in [(1, Some(5), None), (3, None, Some("t".into())), (4, Some(5), None)] {
        spec = with(spec, index, WireOptions { memory, tag, ..WireOptions::default() });
    }
    rig.submit(1, spec);
    let mut order = Vec::new();
    while let Some(run) = rig.runs.get(&0).and_then(|r| r.first()).cloned() {
        order.push(run.id.index);
        rig.value(0, run.id);
    }
    assert_eq!(order, [0, 1, 2, 4, 5], "and one that must wait is passed over");
}

#[test]
fn prefetch_follows_the_run_time() {
    let mut rig = Rig::new(1, 1);
    let n = 4000u32;
    let lists: Vec<&[u32]> = vec![&[]; n as usize];
    let all: Vec<u32> = (0..n).collect();
    rig.submit(1, graph(&lists, &all));
    assert_eq!(rig.on(0), [0, 1], "one beyond the threads while nothing is known");
    let run = rig.take(0, task(1, 0));
    rig.end_run(0, &run, 1000, Outcome::Value(Payload::default()));
    let queued = rig.on(0).len();
    assert!((2..=6).contains(&queued), "about 4 ms of 1 ms tasks, not {queued}");
    for _ in 0..40 {
        let run = rig.runs[&0][0].clone();
        rig.take(0, run.id);
        rig.end_run(0, &run, 0, Outcome::Value(Payload::default()));
    }
    assert!(rig.on(0).len() > 500, "short tasks are sent in bulk, not {}", rig.on(0).len());
    assert!(rig.on(0).len() <= 1025);
}

#[test]
fn sources_go_in_runs_of_neighbours() {
    let mut rig = Rig::new(2, 4);
    let lists: Vec<&[u32]> = vec![&[]; 8];
    rig.submit(1, graph(&lists, &[0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(rig.on(0), [0, 1, 2, 3]);
    assert_eq!(rig.on(1), [4, 5, 6, 7]);
}

#[test]
fn few_tasks_are_spread_over_idle_workers() {
    let mut rig = Rig::new(2, 4);
    rig.submit(1, graph(&[&[], &[]], &[0, 1]));
    assert_eq!((rig.on(0), rig.on(1)), (vec![0], vec![1]));
}

#[test]
fn many_small_jobs_go_in_order_of_submission() {
    let mut rig = Rig::new(1, 1);
    for number in 0..2000 {
        rig.s.submit(job(number), Arc::new(graph(&[&[]], &[0])), Duration::ZERO).unwrap();
    }
    rig.step();
    let mut done = Vec::new();
    let mut commands = Vec::new();
    while let Some(run) = rig.runs.get_mut(&0).filter(|r| !r.is_empty()).map(|r| r.remove(0)) {
        done.push(run.id.job.number);
        let outcome = Outcome::Value(Payload::default());
        let completion = Completion { id: run.id, attempt: run.attempt, run_us: 1, outcome };
        rig.s.finished(WorkerId(0), vec![completion], Duration::ZERO);
        rig.s.dispatch(Duration::ZERO, &mut commands);
        for command in commands.drain(..) {
            if let Command::Run { tasks, .. } = command {
                rig.runs.entry(0).or_default().extend(tasks);
            }
        }
    }
    assert_eq!(done, (0..2000).collect::<Vec<_>>());
    rig.s.session_closed(SESSION);
    assert!(rig.s.is_idle());
}

#[test]
fn a_task_goes_where_most_of_its_input_is_and_the_rest_is_fetched() {
    let mut rig = Rig::new(2, 1);
    rig.submit(1, graph(&[&[], &[], &[0, 1]], &[2]));
    rig.held(0, task(1, 0), 1_000);
    rig.held(1, task(1, 1), 50_000_000);
    assert_eq!(rig.fetches(), [(0, 0)]);
    assert_eq!(rig.state(task(1, 2)), Stage::Fetching);
    assert!(rig.s.explain(task(1, 2)).unwrap().explanation.why.to_string().contains("moved"));
    rig.s.exported(WorkerId(0), task(1, 0), Ok(Payload::inline(&[7])));
    rig.step();
    let run = rig.take(1, task(1, 2));
    assert!(matches!(&run.inputs[0], Input::Payload(payload) if payload.content() == [7]));
    assert!(matches!(run.inputs[1], Input::Held { take: true, .. }));
}

#[test]
fn a_task_with_large_inputs_waits_for_their_worker_but_small_ones_move() {
    for (nbytes, home) in [(1_000_000_000, 0), (10, 1)] {
        let mut rig = Rig::new(2, 1);
        let pinned = WireOptions { worker: Some("w0".into()), ..WireOptions::default() };
        // 1 keeps worker 0 busy when 2 becomes ready.
        let spec = graph(&[&[], &[], &[0]], &[1, 2]);
        rig.submit(1, with(with(spec, 0, pinned.clone()), 1, pinned));
        assert_eq!(rig.on(0), [0, 1]);
        rig.held(0, task(1, 0), nbytes);
        if home == 0 {
            assert_eq!(rig.on(0), [1, 2], "queued behind, for {nbytes} bytes take longer to move");
        } else {
            assert_eq!(rig.fetches(), [(0, 0)]);
        }
    }
}

#[test]
fn what_lies_in_buffers_moves_at_the_price_of_a_message() {
    for (encoded, spilled, moves) in [(0, 0, true), (256 << 20, 0, false), (0, 200 << 20, false)] {
        let mut rig = Rig::new(2, 1);
        rig.s.spilled(WorkerId(0), spilled);
        let pinned = WireOptions { worker: Some("w0".into()), ..WireOptions::default() };
        // 2 keeps worker 0 busy when 3 becomes ready. What a task takes is known by then: 10 ms.
        let spec = graph(&[&[], &[], &[], &[1]], &[0, 2, 3]);
        let spec = with(with(with(spec, 0, pinned.clone()), 1, pinned.clone()), 2, pinned);
        rig.submit(1, spec);
        let run = rig.take(0, task(1, 0));
        rig.end_run(0, &run, 10_000, Outcome::Value(Payload::default()));
        let run = rig.take(0, task(1, 1));
        rig.end_run(0, &run, 10_000, Outcome::Held { nbytes: 256 << 20, encoded, bound: false });
        if moves {
            assert_eq!(rig.fetches(), [(0, 1)]);
        } else {
            assert_eq!(rig.on(0), [2, 3]);
        }
    }
}

#[test]
fn many_tasks_on_one_value_do_not_wait_for_its_worker() {
    let mut rig = Rig::new(4, 1);
    let lists: Vec<&[u32]> = [&[][..]].into_iter().chain(std::iter::repeat_n(&[0][..], 40)).collect();
    rig.submit(1, graph(&lists, &(1..41).collect::<Vec<_>>()));
    let run = rig.take(0, task(1, 0));
    rig.end_run(0, &run, 5000, Outcome::Held { nbytes: 16 << 20, encoded: 16 << 20, bound: false });
    assert_eq!(rig.fetches(), [(0, 0)], "it is encoded once, for all of them");
    let shared = Payload::inline(&[0; 5000]);
    rig.s.exported(WorkerId(0), task(1, 0), Ok(shared));
    rig.step();
    assert!((0..4).all(|worker| !rig.on(worker).is_empty()), "{:?}", rig.runs);
    let shares = |rig: &Rig| rig.commands.iter().filter(|c| matches!(c, Command::Share { .. })).count();
    assert_eq!(shares(&rig), 3, "once for each worker that did not have it");
    for worker in 1..4 {
        let inputs = rig.runs[&worker].iter().flat_map(|run| &run.inputs);
        assert!(inputs.into_iter().all(|input| matches!(input, Input::Shared { sole: false, .. })));
    }
    let (mut later, mut dropped) = (0, Vec::new());
    while let Some(worker) = (0..4).find(|worker| !rig.on(*worker).is_empty()) {
        let next = task(1, rig.on(worker)[0]);
        rig.value(worker, next);
        later += shares(&rig);
        dropped.extend(rig.drops());
    }
    assert_eq!(later, 0);
    dropped.sort_unstable();
    assert_eq!(dropped, [(0, 0), (1, 0), (2, 0), (3, 0)]);
}

#[test]
fn a_buffer_is_sent_with_each_task_and_kept_by_no_worker() {
    let pool = SegmentPool::new(1, Ledger::in_memory(u64::MAX), 0);
    let segment = pool.alloc(16 << 20).unwrap().freeze();
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[], &[0], &[0], &[0]], &[1, 2, 3]));
    let run = rig.take(0, task(1, 0));
    rig.end_run(0, &run, 10, Outcome::Value(Payload::new(&[0; 40][..], vec![segment], None)));
    for index in 1..4 {
        let inputs = rig.take(0, task(1, index)).inputs;
        assert!(matches!(&inputs[..], [Input::Payload(_)]), "{inputs:?}");
    }
    // Otherwise its memory would go back to its owner only after the last task's end.
    assert!(!rig.commands.iter().any(|c| matches!(c, Command::Share { .. })));
}

#[test]
fn where_sending_turns_out_to_be_slow_less_is_sent() {
    const BYTES: u64 = 16 << 20;
    let mut rig = Rig::new(2, 1);
    // Four tasks of 5 ms use a value that takes four milliseconds for each of them to send, if it goes as expected.
    let send = |rig: &mut Rig, number: u32| {
        rig.submit(number, graph(&[&[], &[0], &[0], &[0], &[0]], &[1, 2, 3, 4]));
        let (worker, run) = (0..2).find_map(|w| Some((w, rig.runs.get(&w)?.first()?.clone()))).unwrap();
        rig.take(worker, run.id);
        rig.end_run(worker, &run, 5000, Outcome::Held { nbytes: BYTES, encoded: BYTES, bound: false });
        let fetched = !rig.fetches().is_empty();
        if fetched {
            rig.now += ms(400);
            rig.s.exported(WorkerId(worker), run.id, Ok(Payload::inline(&[0; 5000])));
            rig.step();
        }
        while let Some((worker, run)) = (0..2).find_map(|w| Some((w, rig.runs.get(&w)?.first()?.clone()))) {
            rig.take(worker, run.id);
            rig.end_run(worker, &run, 5000, Outcome::Value(Payload::default()));
        }
        fetched
    };
    assert_eq!([1, 2, 3].map(|number| send(&mut rig, number)), [true, false, false]);
}

#[test]
fn a_chain_of_large_buffers_stays_where_it_is() {
    let mut rig = Rig::new(2, 1);
    rig.submit(1, graph(&[&[], &[0], &[1], &[2]], &[3]));
    for index in 0..3 {
        let run = rig.take(0, task(1, index));
        rig.end_run(0, &run, 10_000, Outcome::Held { nbytes: 1 << 30, encoded: 0, bound: false });
        assert_eq!((rig.fetches(), rig.on(0)), (vec![], vec![index + 1]));
    }
}

#[test]
fn a_value_that_one_task_alone_uses_is_not_kept_for_others() {
    let mut rig = Rig::new(1, 1);
    let mut spec = graph(&[&[], &[0], &[], &[2], &[2]], &[1, 3, 4]);
    spec.data.push((0, Payload::inline(&[1; 5000])));
    spec.data.push((2, Payload::inline(&[2; 5000])));
    rig.submit(1, spec);
    let run = rig.take(0, task(1, 1));
    assert!(matches!(&run.inputs[..], [Input::Payload(_)]));
    rig.end_run(0, &run, 5, Outcome::Value(Payload::default()));
    let run = rig.take(0, task(1, 3));
    assert!(matches!(run.inputs[..], [Input::Shared { sole: false, .. }]));
    rig.end_run(0, &run, 5, Outcome::Value(Payload::default()));
    assert_eq!(rig.drops(), []);
    let run = rig.take(0, task(1, 4));
    assert!(matches!(run.inputs[..], [Input::Shared { .. }]), "it is there: nothing is sent");
    rig.end_run(0, &run, 5, Outcome::Value(Payload::default()));
    assert_eq!(rig.drops(), [(0, 2)]);
}

#[test]
fn inline_inputs_leave_the_choice_but_prefer_the_same_worker() {
    let mut rig = Rig::new(2, 1);
    rig.submit(1, graph(&[&[], &[], &[1]], &[0, 2]));
    rig.value(1, task(1, 1));
    assert_eq!(rig.on(1), [2]);
}

#[test]
fn an_idle_worker_gets_what_another_has_queued() {
    let mut rig = Rig::new(1, 1);
    let lists: Vec<&[u32]> = vec![&[]; 2];
    rig.submit(1, graph(&lists, &[0, 1]));
    assert_eq!(rig.on(0), [0, 1]);
    rig.join(1, 1);
    rig.now = ms(5);
    rig.step();
    assert_eq!(rig.retracts(), [(0, vec![1])]);
    rig.step();
    assert_eq!(rig.retracts(), [], "asked once");
    rig.take(0, task(1, 1));
    rig.s.retracted(WorkerId(0), &[task(1, 1)]);
    rig.step();
    assert_eq!(rig.on(1), [1]);
}

#[test]
fn a_short_queue_is_left_alone_until_it_does_not_move() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[], &[], &[], &[]], &[0, 1, 2, 3]));
    for index in 0..2 {
        let run = rig.take(0, task(1, index));
        rig.end_run(0, &run, 1, Outcome::Value(Payload::default()));
    }
    assert_eq!(rig.on(0), [2, 3]);
    rig.join(1, 1);
    rig.step();
    assert_eq!(rig.retracts(), []);
    let again = rig.s.next_deadline().unwrap();
    assert!(again <= ms(2));
    rig.now = again;
    rig.s.tick(again);
    rig.step();
    assert_eq!(rig.retracts(), [(0, vec![3])]);
    rig.s.retracted(WorkerId(0), &[]);
    rig.step();
    assert_eq!(rig.retracts(), [], "it had started; no use in asking again");
    assert_eq!(rig.s.next_deadline(), None);
}

#[test]
fn a_retracted_task_gets_back_what_was_lent_to_it() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[], &[], &[0]], &[1, 2]));
    rig.held(0, task(1, 0), 10);
    assert_eq!(rig.on(0), [1, 2]);
    rig.join(1, 1);
    rig.now = ms(50);
    rig.step();
    assert_eq!(rig.retracts(), [(0, vec![2])]);
    rig.take(0, task(1, 2));
    rig.s.retracted(WorkerId(0), &[task(1, 2)]);
    rig.step();
    assert_eq!(rig.fetches(), [(0, 0)], "on its way to the idle worker");
    rig.s.exported(WorkerId(0), task(1, 0), Ok(Payload::inline(&[1])));
    rig.step();
    assert_eq!(rig.on(1), [2]);
}

#[test]
fn blocked_tasks_need_no_thread() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[], &[], &[]], &[0, 1, 2]));
    assert_eq!(rig.on(0), [0, 1]);
    rig.s.blocked(WorkerId(0), 1);
    rig.step();
    assert_eq!(rig.on(0), [0, 1, 2]);
}

#[test]
fn a_failure_reaches_all_dependents_and_nobody_else() {
    let mut rig = Rig::new(1, 4);
    rig.submit(1, graph(&[&[], &[], &[0, 1], &[2], &[1]], &[2, 3, 4]));
    rig.fails(0, task(1, 0));
    rig.value(0, task(1, 1));
    rig.value(0, task(1, 4));
    let told = rig.told();
    assert_eq!(told.iter().filter(|t| t.1 == Err(0)).count(), 2);
    assert_eq!(told.last().unwrap(), &(4, Ok(vec![4])));
    let told = rig.s.explain(task(1, 3)).unwrap();
    assert!(matches!(told.explanation.why, Why::Failed { root: Some(_), .. }), "{told:?}");
}

#[test]
fn of_several_failed_inputs_the_first_counts_whichever_was_faster() {
    for order in [[0, 1], [1, 0]] {
        let mut rig = Rig::new(1, 4);
        rig.submit(1, graph(&[&[], &[], &[0, 1], &[2]], &[3]));
        rig.fails(0, task(1, order[0]));
        assert_eq!(rig.told(), [], "the other input is still to end");
        rig.fails(0, task(1, order[1]));
        assert_eq!(rig.told(), [(3, Err(0))]);
    }
}

#[test]
fn failed_inputs_of_another_job_count_in_the_order_of_the_inputs() {
    let mut rig = Rig::new(1, 4);
    rig.submit(1, graph(&[&[], &[], &[1, 0]], &[0, 1]));
    rig.fails(0, task(1, 1));
    rig.fails(0, task(1, 0));
    let mut spec = graph(&[&[EXTERNAL | 1, EXTERNAL]], &[0]);
    spec.externals = vec![task(1, 0), task(1, 1)];
    rig.submit(2, spec);
    assert_eq!(rig.told().last().unwrap(), &(0, Err(1)));
}

#[test]
fn a_doomed_task_recovers_when_its_failed_input_is_retried() {
    let mut rig = Rig::new(1, 4);
    rig.submit(1, graph(&[&[], &[], &[0, 1]], &[0, 2]));
    rig.fails(0, task(1, 0));
    rig.s.retry(job(1), &[0]);
    rig.step();
    rig.value(0, task(1, 1));
    rig.value(0, task(1, 0));
    rig.value(0, task(1, 2));
    assert!(matches!(rig.told().last(), Some((2, Ok(_)))));
}

#[test]
fn a_failure_crosses_jobs() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(graph(&[&[]], &[0])));
    let mut spec = graph(&[&[EXTERNAL], &[0]], &[1]);
    spec.externals = vec![task(1, 0)];
    rig.submit(2, spec);
    rig.fails(0, task(1, 0));
    assert_eq!(rig.told(), [(0, Err(0)), (1, Err(0))]);
}

#[test]
fn results_are_used_by_later_jobs_and_live_until_the_last_of_them() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(graph(&[&[]], &[0])));
    rig.held(0, task(1, 0), 10);
    assert_eq!(rig.told(), [(0, Ok(b"ready".to_vec()))]);
    let mut spec = graph(&[&[EXTERNAL]], &[0]);
    spec.externals = vec![task(1, 0)];
    rig.submit(2, spec.clone());
    rig.s.release(job(1), &[0]);
    rig.step();
    assert_eq!(rig.drops(), []);
    assert_eq!(
        rig.s.submit(job(3), Arc::new(spec), Duration::ZERO),
        Err(SubmitError::UnknownInput(task(1, 0))),
        "no longer claimed"
    );
    rig.value(0, task(2, 0));
    assert_eq!(rig.drops(), [(0, 0)]);
    assert!(rig.s.job_counts(job(1)).is_some(), "needed, should job 2 have to be computed again");
    rig.s.release(job(2), &[0]);
    rig.step();
    assert!(rig.s.is_idle());
}

#[test]
fn a_result_that_nobody_holds_any_more_is_there_or_made_again_for_what_must_run_again() {
    for bytes in [1, 1 << 20] {
        let mut rig = Rig::new(2, 1);
        rig.submit(1, kept(graph(&[&[]], &[0])));
        let at = if rig.on(0).is_empty() { 1 } else { 0 };
        rig.end(at, task(1, 0), Outcome::Value(Payload::inline(&vec![0; bytes])));
        let mut spec = kept(graph(&[&[EXTERNAL]], &[0]));
        spec.externals = vec![task(1, 0)];
        rig.submit(2, spec);
        let at = if rig.on(0).is_empty() { 1 } else { 0 };
        rig.held(at, task(2, 0), 10);
        rig.s.release(job(1), &[0]);
        rig.step();
        rig.lost(at, &[]);
        if bytes > 1 {
            rig.value(1 - at, task(1, 0));
        }
        rig.value(1 - at, task(2, 0));
        assert_eq!(rig.state(task(2, 0)), Stage::Done);
        rig.s.release(job(2), &[0]);
        rig.step();
        assert!(rig.s.is_idle());
    }
}

#[test]
fn release_cancels_what_is_needed_for_it_only() {
    let mut rig = Rig::new(1, 4);
    rig.submit(1, graph(&[&[], &[], &[0], &[0, 1]], &[2, 3]));
    rig.s.release(job(1), &[3, 3, 99]);
    rig.step();
    assert_eq!(rig.cancels(), [(0, 1)]);
    rig.end(0, task(1, 1), Outcome::Held { nbytes: 5, encoded: 5, bound: false });
    assert_eq!(rig.drops(), [(0, 1)], "it came too late to be cancelled");
    rig.value(0, task(1, 0));
    rig.value(0, task(1, 2));
    assert_eq!(rig.told(), [(2, Ok(vec![2]))]);
}

#[test]
fn a_job_is_gone_while_its_cancelled_runs_still_end() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[]], &[0]));
    rig.s.session_closed(SESSION);
    rig.step();
    assert!(rig.s.is_idle());
    assert_eq!(rig.cancels(), [(0, 0)]);
    let again = rig.s.submit(job(1), Arc::new(graph(&[&[]], &[0])), rig.now);
    assert_eq!(again, Err(SubmitError::Duplicate { number: 1 }));
    rig.submit(2, graph(&[&[], &[]], &[0, 1]));
    assert_eq!(rig.s.stats().workers[0].in_flight, 3, "a spare thread has the place of the cancelled run");
    rig.end(0, task(1, 0), Outcome::Cancelled);
    assert_eq!(rig.s.stats().workers[0].cancelled, 0);
    assert_eq!(rig.s.stats().stale, 0);
}

#[test]
fn cancel_fails_at_once_and_drops_what_only_that_needed() {
    let mut rig = Rig::new(1, 4);
    rig.submit(1, graph(&[&[], &[], &[0], &[1]], &[2, 3]));
    rig.s.cancel(job(1), &[2]);
    rig.step();
    assert_eq!(rig.told(), [(2, Err(2))]);
    assert!(matches!(rig.delivered[0].result.as_ref().unwrap_err().cause, Cause::Cancelled));
    assert_eq!(rig.cancels(), [(0, 0)]);
    rig.end(0, task(1, 0), Outcome::Cancelled);
    rig.value(0, task(1, 1));
    rig.value(0, task(1, 3));
    rig.s.cancel(job(1), &[3]);
    rig.step();
    assert_eq!(rig.told().len(), 2, "too late to cancel");
}

#[test]
fn a_cancelled_task_that_goes_on_costs_its_worker() {
    let config = Config { cancel_grace: ms(100), ..Config::default() };
    let mut rig = Rig::configured(1, 2, config);
    rig.submit(1, graph(&[&[], &[]], &[0, 1]));
    rig.now = ms(10);
    rig.s.cancel(job(1), &[0]);
    rig.step();
    rig.submit(2, graph(&[&[]], &[0]));
    assert_eq!(rig.on(0), [0, 1, 0], "a spare thread has the place of the cancelled one");
    rig.value(0, task(2, 0));
    assert_eq!(rig.s.next_deadline(), Some(ms(60)), "half of its time");
    rig.now = ms(60);
    rig.s.tick(rig.now);
    rig.submit(3, graph(&[&[]], &[0]));
    assert_eq!((rig.on(0), rig.kills()), (vec![0, 1], vec![]), "others finish, and nothing begins");
    rig.s.cancel(job(3), &[0]);
    rig.step();
    assert_eq!(rig.s.next_deadline(), Some(ms(110)));
    rig.now = ms(110);
    rig.s.tick(rig.now);
    rig.step();
    assert_eq!(rig.kills(), [0]);
    assert_eq!(rig.s.next_deadline(), None);
    for _ in 0..5 {
        // Not the neighbour's fault, however often it happens.
        rig.lost(0, &[task(1, 0), task(1, 1)]);
        rig.join(0, 2);
        rig.step();
        assert_eq!(rig.on(0), [1]);
        rig.s.workers[WorkerIndex(0)].killed = true;
    }
}

#[test]
fn an_overdue_task_fails_at_once() {
    let mut rig = Rig::new(1, 1);
    let options = WireOptions { timeout_ms: Some(50), retries: 1, ..WireOptions::default() };
    rig.submit(1, with(graph(&[&[]], &[0]), 0, options));
    let deadline = rig.s.next_deadline().unwrap();
    assert_eq!(deadline, ms(50));
    rig.now = deadline;
    rig.s.tick(deadline);
    rig.step();
    assert_eq!(rig.cancels(), [(0, 0)]);
    assert_eq!(rig.told(), [], "one more try");
    assert!(rig.s.explain(task(1, 0)).unwrap().explanation.why.to_string().contains("must not run twice"));
    rig.end(0, task(1, 0), Outcome::Cancelled);
    assert_eq!(rig.on(0), [0]);
    rig.now = ms(100);
    rig.s.tick(rig.now);
    rig.step();
    assert_eq!(rig.told(), [(0, Err(0))]);
    let error = rig.delivered[0].result.as_ref().unwrap_err();
    assert!(matches!(error.cause, Cause::TimedOut { limit } if limit == Duration::from_millis(50)));
    assert_eq!(error.worker.as_deref(), Some("w0"));
}

#[test]
fn a_run_that_took_longer_only_by_time_that_does_not_count_is_in_time() {
    let mut rig = Rig::new(1, 1);
    let options = WireOptions { timeout_ms: Some(50), ..WireOptions::default() };
    rig.submit(1, with(graph(&[&[]], &[0]), 0, options));
    let run = rig.take(0, task(1, 0));
    rig.now += Duration::from_micros(49_999);
    rig.end_run(0, &run, 5_000_000, Outcome::Value(Payload::inline(&[0])));
    assert_eq!(rig.told(), [(0, Ok(vec![0]))]);
}

#[test]
fn what_ended_after_its_limit_has_failed_though_nobody_had_looked() {
    let mut rig = Rig::new(1, 1);
    let options = WireOptions { timeout_ms: Some(50), retries: 1, ..WireOptions::default() };
    rig.submit(1, with(graph(&[&[]], &[0]), 0, options));
    for outcome in [Outcome::Held { nbytes: 9, encoded: 9, bound: false }, Outcome::Value(Payload::inline(&[0]))] {
        assert_eq!(rig.on(0), [0]);
        assert_eq!(rig.told(), []);
        let run = rig.take(0, task(1, 0));
        rig.now += Duration::from_micros(50_001);
        rig.end_run(0, &run, 50_001, outcome);
    }
    let error = rig.delivered[0].result.as_ref().unwrap_err();
    assert!(matches!(error.cause, Cause::TimedOut { limit } if limit == ms(50)), "{error:?}");
    rig.submit(2, with(graph(&[&[]], &[0]), 0, WireOptions { timeout_ms: Some(50), ..WireOptions::default() }));
    let run = rig.take(0, task(2, 0));
    rig.end_run(0, &run, 50_000, Outcome::Value(Payload::inline(&[0])));
    assert!(rig.delivered.last().unwrap().result.is_ok());
}

#[test]
fn tasks_with_a_time_limit_are_sent_to_free_threads_only() {
    let mut rig = Rig::new(1, 1);
    let options = WireOptions { timeout_ms: Some(50), ..WireOptions::default() };
    let spec = with(with(graph(&[&[], &[]], &[0, 1]), 0, options.clone()), 1, options);
    rig.submit(1, spec);
    assert_eq!(rig.on(0), [0]);
    rig.value(0, task(1, 0));
    assert_eq!(rig.on(0), [1]);
}

#[test]
fn a_lost_worker_blames_what_ran_and_only_that() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[], &[]], &[0, 1]));
    assert_eq!(rig.on(0), [0, 1]);
    rig.lost(0, &[task(1, 0)]);
    rig.join(1, 1);
    rig.step();
    assert_eq!(rig.on(1), [0], "with no other");
    rig.lost(1, &[task(1, 0)]);
    rig.join(2, 1);
    rig.step();
    assert_eq!(rig.on(2), [1], "others have their turn");
    let told = rig.s.explain(task(1, 0)).unwrap();
    let Why::Lost { again: Some(again), .. } = &told.explanation.why else { panic!("{told:?}") };
    assert!(matches!(**again, Why::Alone { reason: Isolated::Suspect, .. }), "{told:?}");
    rig.value(2, task(1, 1));
    rig.submit(2, graph(&[&[]], &[0]));
    assert_eq!(rig.on(2), [0]);
    rig.lost(2, &[task(1, 0)]);
    rig.join(3, 1);
    rig.step();
    let error = rig.delivered.iter().find_map(|d| d.result.as_ref().err()).unwrap();
    let Cause::WorkerDied(records) = &error.cause else { panic!("{error:?}") };
    assert_eq!(records.iter().map(|r| r.worker.as_str()).collect::<Vec<_>>(), ["w0", "w1", "w2"]);
    assert_eq!(rig.on(3), [0], "what had waited goes on");
    rig.value(3, task(2, 0));
    assert_eq!(rig.told(), [(1, Ok(vec![1])), (0, Err(0)), (0, Ok(vec![0]))]);
}

#[test]
fn lost_values_are_computed_again_with_what_they_need() {
    let mut rig = Rig::new(2, 1);
    // 0 → 1 → 2, with 2 kept; 3 keeps the other worker busy.
    rig.submit(1, kept(graph(&[&[], &[0], &[1], &[]], &[2, 3])));
    rig.held(0, task(1, 0), 1);
    rig.held(0, task(1, 1), 1);
    rig.held(0, task(1, 2), 1);
    assert_eq!(rig.state(task(1, 0)), Stage::Released);
    let mut spec = graph(&[&[EXTERNAL]], &[0]);
    spec.externals = vec![task(1, 2)];
    rig.submit(2, spec);
    rig.lost(0, &[task(2, 0)]);
    assert_eq!(rig.state(task(1, 2)), Stage::Waiting);
    assert_eq!(rig.state(task(2, 0)), Stage::Waiting);
    rig.value(1, task(1, 3));
    rig.held(1, task(1, 0), 1);
    rig.held(1, task(1, 1), 1);
    rig.held(1, task(1, 2), 1);
    rig.value(1, task(2, 0));
    assert_eq!(rig.told().len(), 3, "ready is told once: {:?}", rig.told());
}

#[test]
fn values_of_another_job_are_computed_again_there() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(graph(&[&[]], &[0])));
    rig.held(0, task(1, 0), 1);
    let mut spec = kept(graph(&[&[EXTERNAL]], &[0]));
    spec.externals = vec![task(1, 0)];
    rig.submit(2, spec);
    rig.s.release(job(1), &[0]);
    rig.step();
    rig.held(0, task(2, 0), 1);
    assert_eq!(rig.state(task(1, 0)), Stage::Released);
    rig.lost(0, &[]);
    rig.join(1, 1);
    rig.step();
    assert_eq!(rig.on(1), [0]);
    rig.value(1, task(1, 0));
    assert_eq!(rig.runs[&1][0].id, task(2, 0));
}

#[test]
fn an_export_that_fails_fails_the_task_and_its_dependents() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(graph(&[&[]], &[0])));
    rig.held(0, task(1, 0), 1);
    rig.s.deliver(job(1), &[0]);
    rig.step();
    assert_eq!(rig.fetches(), [(0, 0)]);
    rig.s.exported(WorkerId(0), task(1, 0), Err(panicked(task(1, 0))));
    rig.step();
    assert_eq!(rig.told(), [(0, Ok(b"ready".to_vec())), (0, Err(0))]);
    assert_eq!(rig.drops(), [(0, 0)]);
}

#[test]
fn a_result_that_ends_its_worker_whenever_it_is_sent_fails_in_the_end() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(graph(&[&[], &[0]], &[0, 1])));
    rig.s.deliver(job(1), &[0]);
    for worker in 0..3 {
        rig.held(worker, task(1, 0), 1);
        assert_eq!(rig.fetches(), [(worker, 0)]);
        assert!(rig.s.holds(WorkerId(worker), task(1, 0)));
        rig.lost(worker, &[task(1, 0)]);
        rig.join(worker + 1, 1);
        rig.step();
    }
    let failures: Vec<_> = rig.delivered.iter().filter_map(|d| d.result.as_ref().err()).collect();
    assert!(
        failures.iter().all(|f| matches!(&f.cause, Cause::WorkerDied(records) if records.len() == 3)),
        "{failures:?}"
    );
    assert_eq!(failures.len(), 2, "it, and what needs it");
    assert!(rig.on(3).is_empty());
}

#[test]
fn a_result_that_has_been_sent_is_not_blamed_any_more() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(graph(&[&[]], &[0])));
    for worker in 0..2 {
        rig.held(worker, task(1, 0), 1);
        rig.lost(worker, &[task(1, 0)]);
        rig.join(worker + 1, 1);
        rig.step();
    }
    rig.held(2, task(1, 0), 1);
    rig.s.deliver(job(1), &[0]);
    rig.step();
    rig.s.exported(WorkerId(2), task(1, 0), Ok(Payload::inline(&[1])));
    rig.step();
    assert!(!rig.s.holds(WorkerId(2), task(1, 0)), "the supervisor has it, too");
    assert!(rig.told().contains(&(0, Ok(vec![1]))));
}

#[test]
fn an_export_that_fails_takes_down_those_that_use_the_value_in_place() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(graph(&[&[], &[0]], &[0, 1])));
    rig.held(0, task(1, 0), 1);
    rig.s.deliver(job(1), &[0]);
    rig.step();
    rig.s.exported(WorkerId(0), task(1, 0), Err(panicked(task(1, 0))));
    rig.step();
    assert_eq!((rig.cancels(), rig.drops()), (vec![(0, 1)], vec![(0, 0)]), "in this order");
    assert_eq!(rig.told()[1..], [(0, Err(0)), (1, Err(0))]);
}

#[test]
fn deliver_fetches_once_and_answers_every_time() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(graph(&[&[]], &[0])));
    rig.held(0, task(1, 0), 1);
    rig.s.deliver(job(1), &[0]);
    rig.step();
    rig.s.deliver(job(1), &[0]);
    rig.step();
    assert!(rig.fetches().is_empty());
    rig.s.exported(WorkerId(0), task(1, 0), Ok(Payload::inline(&[3])));
    rig.s.deliver(job(1), &[0]);
    rig.s.deliver(job(1), &[9]);
    rig.s.deliver(job(9), &[0]);
    rig.step();
    let told = rig.told();
    assert_eq!(told[1..3], [(0, Ok(vec![3])), (0, Ok(vec![3]))]);
    assert_eq!(told[3..], [(9, Err(9)), (0, Err(0))], "what is not claimed is answered all the same");
}

#[test]
fn released_while_it_is_fetched_a_value_is_dropped_with_the_answer() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(graph(&[&[]], &[0])));
    rig.held(0, task(1, 0), 1);
    rig.s.deliver(job(1), &[0]);
    rig.step();
    rig.s.release(job(1), &[0]);
    rig.step();
    assert_eq!(rig.drops(), []);
    rig.s.exported(WorkerId(0), task(1, 0), Ok(Payload::inline(&[3])));
    rig.step();
    assert_eq!(rig.drops(), [(0, 0)]);
    assert!(rig.s.is_idle());
}

#[test]
fn retry_runs_the_failed_part_again() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[], &[0], &[1]], &[0, 2]));
    rig.value(0, task(1, 0));
    rig.fails(0, task(1, 1));
    assert_eq!(rig.told()[1], (2, Err(1)));
    rig.bounces(0, &[task(1, 2)]);
    rig.s.retry(job(1), &[0, 2]);
    rig.step();
    assert_eq!(rig.on(0), [1, 2]);
    rig.value(0, task(1, 1));
    rig.value(0, task(1, 2));
    assert_eq!(rig.told()[2..], [(0, Ok(vec![0])), (2, Ok(vec![2]))], "of both it hears anew");
}

#[test]
fn short_chains_are_sent_ahead() {
    let mut rig = Rig::new(2, 1);
    rig.submit(1, graph(&[&[], &[0], &[1], &[2]], &[0, 1, 2, 3]));
    assert_eq!(rig.on(0), [0], "how long its tasks take is not known yet");
    rig.value(0, task(1, 0));
    assert_eq!(rig.on(0), [1, 2, 3]);
    assert_eq!(rig.ahead_of(0, task(1, 1)), []);
    assert_eq!(rig.ahead_of(0, task(1, 2)), [task(1, 1)]);
    assert_eq!(rig.ahead_of(0, task(1, 3)), [task(1, 2)]);
    let told = rig.s.explain(task(1, 3)).unwrap();
    assert!(
        matches!(told.explanation.why, Why::Inputs { missing: 1, .. }) && told.ids.contains(&task(1, 2)),
        "{told:?}"
    );
    for index in 1..4 {
        rig.value(0, task(1, index));
    }
    assert_eq!(rig.told().len(), 4);
}

#[test]
fn what_is_sent_ahead_needs_no_thread_yet() {
    let mut rig = Rig::new(1, 2);
    rig.submit(1, graph(&[&[], &[0], &[1], &[2]], &[3]));
    rig.value(0, task(1, 0));
    assert_eq!(rig.on(0), [1, 2, 3]);
    rig.submit(2, graph(&[&[]], &[0]));
    assert_eq!(rig.runs[&0].len(), 4, "the other thread is free");
}

#[test]
fn long_tasks_and_large_results_are_not_followed_ahead() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[], &[0], &[1]], &[2]));
    let run = rig.take(0, task(1, 0));
    rig.end_run(0, &run, 1000, Outcome::Value(Payload::inline(&[0])));
    assert_eq!(rig.on(0), [1]);
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[], &[0], &[1]], &[2]));
    rig.end(0, task(1, 0), Outcome::Held { nbytes: 1 << 20, encoded: 1 << 20, bound: false });
    assert_eq!(rig.on(0), [1]);
}

#[test]
fn what_a_retried_task_sends_back_waits_for_it() {
    let mut rig = Rig::new(1, 1);
    let retries = WireOptions { retries: 1, ..WireOptions::default() };
    rig.submit(1, with(graph(&[&[], &[0], &[1]], &[2]), 1, retries));
    rig.value(0, task(1, 0));
    assert_eq!(rig.on(0), [1, 2]);
    rig.fails(0, task(1, 1));
    assert_eq!(rig.on(0), [2, 1], "it runs again, and the word about the other is not here yet");
    rig.bounces(0, &[task(1, 2)]);
    rig.value(0, task(1, 1));
    rig.value(0, task(1, 2));
    assert_eq!(rig.told(), [(2, Ok(vec![2]))]);
}

#[test]
fn a_later_job_goes_along_with_what_it_uses() {
    let mut rig = Rig::new(2, 1);
    rig.submit(1, kept(graph(&[&[], &[0]], &[1])));
    rig.value(0, task(1, 0));
    assert_eq!(rig.on(0), [1]);
    let mut spec = graph(&[&[EXTERNAL]], &[0]);
    spec.externals.push(task(1, 1));
    rig.submit(2, spec);
    assert_eq!(rig.ahead_of(0, task(2, 0)), [task(1, 1)]);
    rig.value(0, task(1, 1));
    rig.value(0, task(2, 0));
    assert_eq!(rig.told().last().unwrap().1, Ok(vec![0]));
}

/// A job of one call, of the result of the job before it if there is one.
fn link(number: u32, function: u64, of_earlier: bool) -> JobSpec {
    let mut spec = JobSpec::default();
    call(&mut spec, function);
    if of_earlier {
        spec.externals.push(task(number - 1, 0));
        spec.deps.push(EXTERNAL);
    }
    spec.dep_ends.push(spec.deps.len() as u32);
    spec.outputs.push(WantedResult { index: 0, deliver: false });
    spec
}

#[test]
fn what_a_function_takes_is_known_to_later_jobs() {
    let mut rig = Rig::new(1, 1);
    let there = |rig: &Rig| rig.runs[&0].iter().map(|t| t.id.job.number).collect::<Vec<_>>();
    (1..=3).for_each(|number| rig.submit(number, link(number, 5, false)));
    assert_eq!(there(&rig), [1, 2], "one runs, and one may wait, since they may take long");
    (1..=3).for_each(|number| rig.value(0, task(number, 0)));
    (4..=9).for_each(|number| rig.submit(number, link(number, 5, false)));
    assert_eq!(there(&rig), [4, 5, 6, 7, 8, 9]);
    rig.submit(10, link(10, 6, false));
    assert_eq!(there(&rig).len(), 6, "of another function nothing is known");
}

#[test]
fn chains_of_jobs_are_sent_ahead_as_far_as_they_fit() {
    let mut rig = Rig::new(2, 1);
    rig.submit(1, link(1, 5, false));
    let run = rig.take(0, task(1, 0));
    // Eight fill the queue.
    rig.end_run(0, &run, 500, Outcome::Value(Payload::inline(&[0])));
    (2..=20).for_each(|number| rig.submit(number, link(number, 5, true)));
    let there = |rig: &Rig| rig.runs[&0].iter().map(|t| t.id.job.number).collect::<Vec<_>>();
    assert_eq!(there(&rig), (2..=9).collect::<Vec<_>>());
    assert_eq!(rig.ahead_of(0, task(9, 0)), [task(8, 0)]);
    // What was submitted too early follows when there is room.
    for number in 2..=20 {
        let run = rig.take(0, task(number, 0));
        rig.end_run(0, &run, 500, Outcome::Value(Payload::inline(&[0])));
    }
    assert!(rig.runs.values().all(Vec::is_empty));
    assert_eq!(rig.told().len(), 20);
}

#[test]
fn a_chain_that_goes_on_does_not_keep_others_waiting() {
    let mut rig = Rig::new(1, 1);
    let end = |rig: &mut Rig, number: u32| {
        let run = rig.take(0, task(number, 0));
        rig.end_run(0, &run, 400, Outcome::Value(Payload::inline(&[0])));
    };
    let on = |rig: &Rig| rig.runs[&0].iter().map(|t| t.id.job.number).collect::<Vec<_>>();
    for (number, function) in [(1, 5), (40, 6)] {
        rig.submit(number, link(number, function, false));
        end(&mut rig, number);
    }
    (2..=3).for_each(|number| rig.submit(number, link(number, 5, true)));
    assert_eq!(on(&rig), [2, 3], "the last goes ahead");
    rig.submit(50, link(50, 6, false));
    let timed = WireOptions { timeout_ms: Some(1000), ..WireOptions::default() };
    rig.submit(51, with(link(51, 6, false), 0, timed));
    // A program goes on with each result when it comes, and a worker with what was ahead.
    let (mut runs, mut next) = (2, 4);
    let mut ended = Vec::new();
    while !ended.contains(&50) || !ended.contains(&51) {
        assert!(next < 20, "they wait for ever: {:?} have ended, {:?} are there", ended, on(&rig));
        rig.submit(next, link(next, 5, true));
        next += 1;
        let follows = on(&rig).contains(&(runs + 1));
        end(&mut rig, runs);
        ended.push(runs);
        runs = if follows { runs + 1 } else { on(&rig)[0] };
    }
}

#[test]
fn a_function_that_was_short_is_not_taken_to_be_shorter_than_a_guess_may_be() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, link(1, 5, false));
    rig.value(0, task(1, 0));
    let mut many = JobSpec::default();
    for index in 0..1000 {
        call(&mut many, 5);
        many.dep_ends.push(0);
        many.outputs.push(WantedResult { index, deliver: false });
    }
    rig.submit(2, many);
    assert!((2..=41).contains(&rig.runs[&0].len()), "{}", rig.runs[&0].len());
}

#[test]
fn what_failed_teaches_nothing_of_its_function() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, link(1, 5, false));
    rig.fails(0, task(1, 0));
    (2..=4).for_each(|number| rig.submit(number, link(number, 5, false)));
    assert_eq!(rig.runs[&0].len(), 2, "one runs, and one may wait, since they may take long");
}

#[test]
fn options_restrict_where_a_task_runs() {
    let mut rig = Rig::new(2, 4);
    let spec = WorkerSpec {
        name: "big".into(),
        threads: 1,
        memory_limit: Some(100),
        tags: vec!["gpu".into()],
        ..WorkerSpec::default()
    };
    rig.s.worker_joined(WorkerId(9), spec);
    let tagged = WireOptions { tag: Some("gpu".into()), ..WireOptions::default() };
    let named = WireOptions { worker: Some("w1".into()), ..WireOptions::default() };
    rig.submit(1, with(with(graph(&[&[], &[]], &[0, 1]), 0, tagged), 1, named));
    assert_eq!((rig.on(9), rig.on(1)), (vec![0], vec![1]));
    let elsewhere = WireOptions { worker: Some("w5".into()), ..WireOptions::default() };
    rig.submit(2, with(graph(&[&[], &[]], &[0, 1]), 0, elsewhere));
    assert_eq!(rig.state(task(2, 0)), Stage::Ready);
    assert!(rig.s.explain(task(2, 0)).unwrap().explanation.why.to_string().contains("a worker that is not there"));
}

#[test]
fn the_memory_of_a_task_that_waits_for_its_own_does_not_keep_them_out() {
    let mut rig = Rig::new(0, 0);
    let spec = WorkerSpec { name: "w".into(), threads: 2, memory_limit: Some(100), ..WorkerSpec::default() };
    rig.s.worker_joined(WorkerId(0), spec);
    let asks = |n| WireOptions { memory: Some(n), ..WireOptions::default() };
    rig.submit(1, with(graph(&[&[]], &[0]), 0, asks(60)));
    rig.submit(2, with(graph(&[&[]], &[0]), 0, asks(90)));
    let nested = JobId { session: SessionId::of_tasks(WorkerId(0)), number: 3 };
    let two = with(with(graph(&[&[], &[]], &[0, 1]), 0, asks(50)), 1, asks(50));
    rig.s.submit(nested, Arc::new(two), rig.now).unwrap();
    rig.step();
    assert_eq!(rig.runs[&0].len(), 1, "there is room when it has ended");
    rig.s.blocked(WorkerId(0), 1);
    rig.step();
    let mut ended = 0;
    while rig.runs[&0].len() > 1 {
        assert_eq!(rig.runs[&0].len(), 2, "one at a time");
        let next = rig.runs[&0][1].id;
        assert_eq!(next.job, nested);
        ended += 1;
        rig.value(0, next);
    }
    assert_eq!(ended, 2);
    rig.s.blocked(WorkerId(0), -1);
    rig.value(0, task(1, 0));
    assert_eq!(rig.runs[&0][0].id, task(2, 0), "of another program, or of this one: only with room");
}

#[test]
fn memory_asked_for_fits_and_is_not_starved() {
    let mut rig = Rig::new(0, 1);
    let spec =
        WorkerSpec { name: "w".into(), threads: 8, memory_limit: Some(100), tags: vec![], ..WorkerSpec::default() };
    rig.s.worker_joined(WorkerId(0), spec);
    let asks = |n| WireOptions { memory: Some(n), ..WireOptions::default() };
    rig.submit(1, with(with(graph(&[&[], &[]], &[0, 1]), 0, asks(60)), 1, asks(90)));
    assert_eq!(rig.on(0), [0]);
    rig.submit(2, with(with(graph(&[&[], &[]], &[0, 1]), 0, asks(30)), 1, asks(0)));
    assert_eq!(rig.runs[&0].len(), 2, "the small one does not overtake the large one; the one without does");
    assert!(rig.s.explain(task(1, 1)).unwrap().explanation.why.to_string().contains("which other tasks have"));
    rig.value(0, task(1, 0));
    assert!(rig.runs[&0].iter().any(|t| t.id == task(1, 1)));
    rig.value(0, task(1, 1));
    assert!(rig.runs[&0].iter().any(|t| t.id == task(2, 0)));
}

#[test]
fn infeasible_tasks_fail_at_submit_and_say_why() {
    let mut rig = Rig::new(1, 1);
    let fleet =
        WorkerSpec { name: "w0".into(), threads: 1, memory_limit: Some(1000), tags: vec![], ..WorkerSpec::default() };
    rig.s.set_fleet(vec![fleet]);
    let asks = WireOptions { memory: Some(5000), tag: Some("gpu".into()), ..WireOptions::default() };
    rig.submit(1, with(graph(&[&[], &[0], &[1]], &[2]), 1, asks));
    let failure = rig.delivered[0].result.as_ref().unwrap_err();
    let Cause::Infeasible { reason } = &failure.cause else { panic!() };
    assert_eq!(failure.task.index, 1);
    for part in ["it ", "5000 B", "gpu", "`w0` with 1000 B"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(rig.runs.get(&0).map_or(0, Vec::len), 0, "its inputs are not computed for nothing");
    let named = WireOptions { worker: Some("w0".into()), ..WireOptions::default() };
    rig.submit(2, with(with(graph(&[&[], &[0]], &[1]), 0, named.clone()), 1, named));
    rig.s.set_fleet(vec![]);
    rig.step();
    assert_eq!(rig.told().len(), 2, "the fleet has changed");
    assert_eq!(rig.told()[1], (1, Err(1)));
}

#[test]
fn a_retiring_worker_finishes_and_hands_over() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, kept(graph(&[&[], &[], &[], &[0]], &[0, 1, 2, 3])));
    rig.held(0, task(1, 0), 10);
    rig.s.worker_retiring(WorkerId(0));
    rig.step();
    let (_, asked) = rig.retracts().remove(0);
    let running = rig.on(0)[0];
    let back: Vec<TaskId> = asked.iter().filter(|i| **i != running).map(|i| task(1, *i)).collect();
    for id in &back {
        rig.take(0, *id);
    }
    rig.s.retracted(WorkerId(0), &back);
    rig.step();
    assert_eq!(rig.on(0), [running], "nothing new");
    rig.held(0, task(1, running), 10);
    let mut fetched = rig.fetches();
    fetched.sort_unstable();
    assert_eq!(fetched, [(0, 0), (0, running)]);
    for (_, index) in fetched {
        rig.s.exported(WorkerId(0), task(1, index), Ok(Payload::inline(&[1])));
    }
    rig.step();
    assert!(matches!(rig.commands[..], [Command::Retire { worker: WorkerId(0) }]));
    rig.join(1, 4);
    rig.lost(0, &[]);
    assert_eq!(rig.on(1).len(), 2, "only what had not run");
    assert!(!rig.on(1).contains(&0));
}

#[test]
fn stale_words_are_counted_and_ignored() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[]], &[0]));
    let bad = |id, attempt| Completion {
        id,
        attempt,
        run_us: 0,
        outcome: Outcome::Held { nbytes: 1, encoded: 1, bound: false },
    };
    let all = vec![bad(task(1, 0), 7), bad(task(1, 5), 1), bad(task(2, 0), 1)];
    rig.s.finished(WorkerId(0), all, rig.now);
    rig.s.finished(WorkerId(5), vec![bad(task(1, 0), 1)], rig.now);
    rig.s.exported(WorkerId(0), task(1, 0), Ok(Payload::default()));
    rig.s.retracted(WorkerId(0), &[task(3, 3)]);
    rig.s.worker_lost(WorkerId(5), &[], DeathRecord::default());
    rig.s.blocked(WorkerId(0), -3);
    rig.step();
    assert_eq!(rig.s.stats().stale, 6);
    rig.value(0, task(1, 0));
    assert_eq!(rig.told(), [(0, Ok(vec![0]))]);
}

#[test]
fn malformed_specs_are_refused_and_change_nothing() {
    let good = || with(graph(&[&[], &[0], &[0, 1]], &[1, 2]), 1, WireOptions::default());
    let mut rig = Rig::new(1, 1);
    let mut cases: Vec<JobSpec> = Vec::new();
    let mut case = |change: &dyn Fn(&mut JobSpec)| {
        let mut spec = good();
        change(&mut spec);
        cases.push(spec);
    };
    case(&|s| s.body_ends[1] = 5);
    case(&|s| s.bodies.push(1));
    case(&|s| s.dep_ends[0] = 9);
    case(&|s| s.dep_ends[2] = 2);
    case(&|s| s.dep_ends[2] = u32::MAX);
    case(&|s| s.dep_ends.push(3));
    case(&|s| s.deps[0] = 1);
    case(&|s| s.deps[2] = 0);
    case(&|s| s.deps[0] = EXTERNAL);
    case(&|s| s.deps[0] = u32::MAX);
    case(&|s| s.outputs[0].index = 2);
    case(&|s| s.outputs[1].index = 3);
    case(&|s| s.outputs.swap(0, 1));
    case(&|s| s.options[0].0 = 3);
    case(&|s| s.options.push((1, WireOptions::default())));
    case(&|s| s.data.push((1, Payload::default())));
    case(&|s| s.data.push((3, Payload::default())));
    case(&|s| s.data.extend([(0, Payload::default()), (0, Payload::default())]));
    for spec in cases {
        let result = rig.s.submit(job(1), Arc::new(spec.clone()), rig.now);
        assert!(matches!(result, Err(SubmitError::Malformed(_))), "{spec:?} → {result:?}");
        assert!(rig.s.is_idle());
    }
    let mut spec = good();
    spec.externals.push(task(8, 0));
    assert_eq!(rig.s.submit(job(1), Arc::new(spec), rig.now), Err(SubmitError::UnknownInput(task(8, 0))));
    rig.submit(1, good());
    let again = rig.s.submit(job(1), Arc::new(good()), rig.now);
    assert_eq!(again, Err(SubmitError::Duplicate { number: 1 }));
    let mut spec = graph(&[&[EXTERNAL]], &[0]);
    spec.externals.push(task(1, 2));
    let other = JobId { session: SessionId(8), number: 1 };
    let result = rig.s.submit(other, Arc::new(spec), rig.now);
    assert_eq!(result, Err(SubmitError::UnknownInput(task(1, 2))), "another session's result");
}

#[test]
fn repeated_dependencies_are_found_in_long_lists_too() {
    let mut lists: Vec<Vec<u32>> = vec![vec![]; 20];
    lists.push((0..20).collect());
    let refs: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
    let mut spec = graph(&refs, &[20]);
    let mut rig = Rig::new(1, 1);
    rig.s.submit(job(1), Arc::new(spec.clone()), rig.now).unwrap();
    spec.deps[19] = 3;
    let result = rig.s.submit(job(2), Arc::new(spec), rig.now);
    assert!(matches!(result, Err(SubmitError::Malformed(_))));
}

#[test]
fn deep_chains_do_not_recurse() {
    let n = 200_000u32;
    let mut spec = JobSpec::default();
    for index in 0..n {
        spec.deps.extend(index.checked_sub(1));
        spec.dep_ends.push(spec.deps.len() as u32);
        spec.body_ends.push(0);
    }
    spec.outputs = vec![WantedResult { index: n - 1, deliver: true }];
    let mut s = Scheduler::new(Config::default());
    s.worker_joined(WorkerId(0), WorkerSpec { threads: 1, ..WorkerSpec::default() });
    let mut out = Vec::new();
    let spec = Arc::new(spec);
    // Failing from the bottom, abandoned from the top, and retried.
    s.submit(job(1), spec.clone(), Duration::ZERO).unwrap();
    s.dispatch(Duration::ZERO, &mut out);
    let failed = Completion { id: task(1, 0), attempt: 1, run_us: 0, outcome: Outcome::Failed(panicked(task(1, 0))) };
    s.finished(WorkerId(0), vec![failed], Duration::ZERO);
    out.clear();
    s.dispatch(Duration::ZERO, &mut out);
    assert!(matches!(&out[..], [Command::Deliver { .. }]));
    s.retry(job(1), &[n - 1]);
    assert_eq!(s.job_counts(job(1)).unwrap().unfinished(), u64::from(n));
    s.release(job(1), &[n - 1]);
    assert!(s.is_idle());
}

#[test]
fn the_scheduler_drives_itself() {
    for workers in [1, 2, 64] {
        assert_eq!(drive_noops(10_000, workers), 10_000);
    }
}

#[test]
fn flight_lists_close_their_gaps() {
    let mut flight = Flight::default();
    let r = |index| TaskRef { job: 0, index };
    let mut seqs: Vec<u32> = (0..500).map(|i| flight.push(r(i), 1, 0, 1)).collect();
    for i in 1..490 {
        flight.remove(seqs[i as usize]);
    }
    assert!(flight.sparse());
    flight.compact(|task, seq| seqs[task.index as usize] = seq);
    assert!(!flight.sparse());
    let left: Vec<u32> = flight.iter().map(|r| r.index).collect();
    assert_eq!(left, [0].into_iter().chain(490..500).collect::<Vec<_>>());
    for &i in &left {
        assert_eq!(flight.at(seqs[i as usize]), Some(r(i)));
        flight.remove(seqs[i as usize]);
    }
    assert_eq!(flight.len(), 0);
}

fn dags() -> impl Strategy<Value = (Vec<Vec<u32>>, Vec<u32>)> {
    prop::collection::vec(prop::collection::btree_set(0u32..1000, 0..4), 1..40).prop_flat_map(|raw| {
        let n = raw.len() as u32;
        let deps: Vec<Vec<u32>> = raw
            .into_iter()
            .enumerate()
            .map(|(index, set)| {
                let mut list: Vec<u32> =
                    if index == 0 { vec![] } else { set.iter().map(|d| d % index as u32).collect() };
                list.sort_unstable();
                list.dedup();
                list
            })
            .collect();
        let outputs = prop::collection::btree_set(0..n, 1..=n.min(6) as usize);
        (Just(deps), outputs.prop_map(|set| set.into_iter().collect()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any graph ends with each output delivered once, each needed task run once, and nothing left.
    #[test]
    fn any_graph_is_worked_off((deps, outputs) in dags(), workers in 1u32..4, held in any::<u64>()) {
        let refs: Vec<&[u32]> = deps.iter().map(Vec::as_slice).collect();
        let mut rig = Rig::new(workers, 2);
        rig.submit(1, graph(&refs, &outputs));
        let mut ran = Vec::new();
        loop {
            let fetches = rig.fetches();
            for (worker, index) in &fetches {
                rig.s.exported(WorkerId(*worker), task(1, *index), Ok(Payload::inline(&[*index as u8])));
            }
            let retracts = rig.retracts();
            for (worker, _) in &retracts {
                rig.s.retracted(WorkerId(*worker), &[]);
            }
            if !fetches.is_empty() || !retracts.is_empty() {
                rig.step();
                continue;
            }
            let next = rig.runs.iter().find_map(|(w, runs)| Some((*w, runs.first()?.clone())));
            let Some((worker, run)) = next else { break };
            ran.push(run.id.index);
            if run.deliver || held >> (run.id.index % 64) & 1 == 0 {
                rig.value(worker, run.id);
            } else {
                rig.held(worker, run.id, u64::from(run.id.index) * 1000);
            }
        }
        let mut told: Vec<u32> = rig.delivered.iter().filter(|d| d.result.is_ok()).map(|d| d.index).collect();
        told.sort_unstable();
        prop_assert_eq!(&told, &outputs);
        let unique: std::collections::BTreeSet<u32> = ran.iter().copied().collect();
        prop_assert_eq!(unique.len(), ran.len());
        rig.s.release(job(1), &outputs);
        rig.step();
        prop_assert!(rig.s.is_idle());
        for w in rig.s.stats().workers {
            prop_assert_eq!(w.held_values + u64::from(w.in_flight), 0);
        }
    }
}

#[test]
fn a_task_blamed_for_memory_runs_alone_before_it_fails() {
    let mut rig = Rig::new(1, 2);
    rig.submit(1, graph(&[&[], &[], &[], &[]], &[0, 1, 2, 3]));
    assert_eq!(rig.on(0)[..2], [0, 1]);
    rig.burst(0, &[task(1, 0), task(1, 1)]);
    rig.join(1, 2);
    rig.step();
    // The lowest goes first, and nothing goes with it.
    assert_eq!(rig.on(1), [0]);
    assert!(rig.runs[&1][0].alone);
    assert!(
        rig.s.explain(task(1, 1)).unwrap().explanation.why.to_string().contains("for itself"),
        "{:?}",
        rig.s.explain(task(1, 1))
    );
    rig.value(1, task(1, 0));
    assert_eq!(rig.on(1), [1], "then the other one that was there");
    rig.burst(1, &[task(1, 1)]);
    assert_eq!(rig.told().last(), Some(&(1, Err(1))));
    let Some(Err(failure)) = rig.delivered.last().map(|d| &d.result) else { panic!() };
    let Cause::MemoryLimit { limit: 100, peak: 110, records } = &failure.cause else { panic!("{failure:?}") };
    assert_eq!(records.len(), 2);
    // What had only waited there is not to blame, and is in company again.
    rig.join(2, 2);
    rig.step();
    assert_eq!(rig.on(2), [2, 3]);
    assert!(rig.runs[&2].iter().all(|t| !t.alone));
}

#[test]
fn a_worker_is_cleared_for_a_task_that_is_to_run_alone() {
    let mut rig = Rig::new(2, 1);
    rig.submit(1, graph(&[&[], &[]], &[0, 1]));
    let (a, b) = (rig.on(0)[0], rig.on(1)[0]);
    rig.burst(0, &[task(1, a)]);
    rig.submit(2, graph(&[&[], &[], &[]], &[0, 1, 2]));
    assert_eq!(rig.on(1), [b], "the only worker is not given anything else");
    rig.value(1, task(1, b));
    assert_eq!(rig.on(1), [a]);
    rig.value(1, task(1, a));
    assert!(!rig.on(1).is_empty(), "others come when it has ended");
}

#[test]
fn what_a_task_alone_waits_for_may_join_it() {
    let mut rig = Rig::new(1, 1);
    rig.submit(1, graph(&[&[]], &[0]));
    rig.burst(0, &[task(1, 0)]);
    rig.join(1, 1);
    rig.step();
    assert_eq!(rig.on(1), [0]);
    rig.submit(2, graph(&[&[]], &[0]));
    assert_eq!(rig.on(1).len(), 1);
    rig.s.blocked(WorkerId(1), 1);
    rig.step();
    assert_eq!(rig.on(1).len(), 2);
    rig.value(1, task(2, 0));
    rig.s.blocked(WorkerId(1), -1);
    rig.value(1, task(1, 0));
}

#[test]
fn a_paused_worker_gets_nothing_and_says_why() {
    let mut rig = Rig::new(2, 1);
    rig.s.paused(WorkerId(0), true);
    rig.submit(1, graph(&[&[], &[], &[], &[]], &[0, 1, 2, 3]));
    assert!(rig.on(0).is_empty());
    assert!(!rig.on(1).is_empty());
    rig.s.paused(WorkerId(1), true);
    rig.submit(2, graph(&[&[]], &[0]));
    assert!(
        rig.s.explain(task(2, 0)).unwrap().explanation.why.to_string().contains("room in its memory first: w0, w1")
    );
    rig.s.paused(WorkerId(0), false);
    rig.step();
    assert!(!rig.on(0).is_empty());
    rig.s.paused(WorkerId(7), true);
}

#[test]
fn copies_that_can_be_had_again_are_given_up_when_memory_is_short() {
    let mut rig = Rig::configured(2, 1, Config { large_copy: 10, ..Config::default() });
    rig.submit(1, kept(graph(&[&[]], &[0])));
    rig.held(0, task(1, 0), 20);
    rig.s.deliver(job(1), &[0]);
    rig.step();
    assert_eq!(rig.fetches(), [(0, 0)]);
    rig.s.exported(WorkerId(0), task(1, 0), Ok(Payload::inline(&[7; 20])));
    rig.step();
    // A copy is there, so that nothing has to be fetched; after it is given up it is fetched again.
    rig.s.deliver(job(1), &[0]);
    rig.step();
    assert!(rig.fetches().is_empty());
    rig.s.relieve();
    rig.s.deliver(job(1), &[0]);
    rig.step();
    assert_eq!(rig.fetches(), [(0, 0)]);
    rig.s.exported(WorkerId(0), task(1, 0), Ok(Payload::inline(&[7; 20])));
    rig.step();
    assert_eq!(rig.told().last(), Some(&(0, Ok(vec![7; 20]))));
}

/// The next task of a spec calls this function.
fn call(spec: &mut JobSpec, function: u64) {
    crate::task::program::call_step(&mut spec.bodies, function, 0, 0);
    spec.body_ends.push(spec.bodies.len() as u32);
}

/// Reads `n` parts of 64 MiB and reduces them in a tree of width 8, with workers of 1 GiB. Answers with the most bytes
/// that a worker held, and the most tasks in flight.
fn read_and_reduce(n: u32, threads: u32) -> (u64, usize) {
    const PART: u64 = 64 << 20;
    let mut spec = JobSpec::default();
    // As the client numbers them: each sum right after what it adds up.
    let mut sums: Vec<u32> = Vec::new();
    let mut leaves = Vec::new();
    let mut push = |deps: &[u32], function: u64| {
        spec.deps.extend_from_slice(deps);
        spec.dep_ends.push(spec.deps.len() as u32);
        call(&mut spec, function);
        spec.dep_ends.len() as u32 - 1
    };
    for _ in 0..n / 8 {
        let parts: Vec<u32> = (0..8).map(|_| push(&[], 1)).collect();
        sums.push(push(&parts, 2));
        leaves.extend(parts);
    }
    let last = push(&sums, 2);
    spec.outputs.push(WantedResult { index: last, deliver: true });
    let mut rig = Rig::new(0, 0);
    for number in 0..2 {
        let spec =
            WorkerSpec { name: format!("w{number}"), threads, memory_limit: Some(1 << 30), ..WorkerSpec::default() };
        rig.s.worker_joined(WorkerId(number), spec);
    }
    rig.submit(1, spec);
    let (mut most, mut flying) = (0, 0);
    for round in 0.. {
        if !rig.delivered.is_empty() {
            break;
        }
        assert!(round < 10_000, "{:?}", rig.s.stats());
        rig.now += ms(30);
        flying = flying.max(rig.on(0).len() + rig.on(1).len());
        for (worker, index) in rig.fetches() {
            rig.s.exported(WorkerId(worker), task(1, index), Ok(Payload::inline(&[0; 20])));
        }
        rig.step();
        for worker in 0..2 {
            let Some(run) = rig.runs.get(&worker).and_then(|runs| runs.first()).cloned() else { continue };
            rig.take(worker, run.id);
            let outcome = match leaves.binary_search(&run.id.index) {
                Ok(_) => Outcome::Held { nbytes: PART, encoded: PART, bound: false },
                Err(_) => Outcome::Value(Payload::inline(&[0])),
            };
            let completion = Completion { id: run.id, attempt: run.attempt, run_us: 30_000, outcome };
            rig.s.finished(WorkerId(worker), vec![completion], rig.now);
            most = rig.s.stats().workers.iter().map(|w| w.held_bytes).fold(most, u64::max);
        }
        rig.step();
    }
    (most, flying)
}

#[test]
fn readers_do_not_run_ahead_of_their_consumers() {
    for threads in [1, 2, 4] {
        let (most, flying) = read_and_reduce(200, threads);
        // The target is 60 % of 1 GiB, at which nothing is spilled.
        assert!(most <= 614 << 20, "{} MiB held by {threads} threads", most >> 20);
        assert!(flying >= 2 * threads.min(2) as usize, "{flying}");
    }
}

#[test]
fn results_that_are_there_to_stay_do_not_stop_what_makes_more() {
    let mut rig = Rig::new(0, 0);
    let spec = WorkerSpec { name: "w0".into(), threads: 2, memory_limit: Some(1000), ..WorkerSpec::default() };
    rig.s.worker_joined(WorkerId(0), spec);
    let all: Vec<u32> = (0..40).collect();
    rig.submit(1, kept(graph(&vec![&[][..]; 40], &all)));
    for done in 0..40 {
        let Some(&next) = rig.on(0).first() else { panic!("stuck after {done}: {:?}", rig.s.explain(task(1, 39))) };
        rig.held(0, task(1, next), 100);
        if done == 20 {
            assert_eq!(rig.on(0).len(), 1, "one at a time");
            rig.s.spilled(WorkerId(0), 2000);
            rig.step();
            assert!(rig.on(0).len() > 1, "what is on disk takes no memory");
            rig.s.spilled(WorkerId(0), 0);
        }
    }
}

#[test]
fn a_source_that_must_wait_does_not_stop_others() {
    let mut rig = Rig::new(0, 0);
    let spec = WorkerSpec { name: "w0".into(), threads: 2, memory_limit: Some(1000), ..WorkerSpec::default() };
    rig.s.worker_joined(WorkerId(0), spec);
    rig.submit(1, kept(graph(&[&[]], &[0])));
    rig.held(0, task(1, 0), 900);
    rig.submit(2, kept(graph(&[&[], &[]], &[0, 1])));
    assert_eq!(rig.on(0), [0]);
    assert!(rig.s.explain(task(2, 1)).unwrap().explanation.why.to_string().contains("use some of those first"));
    let mut uses = graph(&[&[EXTERNAL]], &[0]);
    uses.externals.push(task(1, 0));
    rig.submit(3, uses);
    assert_eq!(rig.runs[&0].iter().map(|t| t.id).collect::<Vec<_>>(), [task(2, 0), task(3, 0)]);
}

/// Tasks without inputs that call this function, each said to need so much memory.
fn readers(n: u32, function: u64, memory: Option<u64>) -> JobSpec {
    let mut spec = JobSpec::default();
    for index in 0..n {
        spec.dep_ends.push(0);
        call(&mut spec, function);
        spec.outputs.push(WantedResult { index, deliver: false });
        if memory.is_some() {
            spec.options.push((index, WireOptions { memory, ..WireOptions::default() }));
        }
    }
    spec
}

/// A rig with one worker that has so many threads and a memory limit of 1000 bytes.
fn limited(threads: u32) -> Rig {
    let mut rig = Rig::new(0, 0);
    let spec = WorkerSpec { name: "w0".into(), threads, memory_limit: Some(1000), ..WorkerSpec::default() };
    rig.s.worker_joined(WorkerId(0), spec);
    rig
}

#[test]
fn what_readers_declare_holds_until_their_results_are_known() {
    let mut rig = limited(16);
    rig.submit(1, readers(40, 1, Some(200)));
    assert_eq!(rig.on(0).len(), 3, "600 B of results is where moving them begins");
    let reason = rig.s.explain(task(1, 39)).unwrap().explanation.why.to_string();
    assert!(reason.contains("use some of those first"), "{reason}");
    rig.held(0, task(1, 0), 20);
    rig.step();
    assert_eq!(rig.on(0).len(), 5, "what they need while they run must fit, but no more is left of them than 20 B");
    // What nobody declares and nobody knows is not held back.
    let mut rig = limited(16);
    rig.submit(1, readers(40, 1, None));
    assert!(rig.on(0).len() >= 16);
}

#[test]
fn what_a_function_leaves_is_known_to_later_jobs() {
    let mut rig = limited(16);
    rig.submit(1, readers(1, 1, None));
    rig.held(0, task(1, 0), 200);
    rig.submit(2, readers(40, 1, None));
    assert_eq!(rig.on(0).len(), 2, "beside the one that is there");
    rig.submit(3, readers(2, 2, None));
    assert_eq!(rig.on(0).len(), 4, "of others nothing is known");
    rig.end(0, task(2, 0), Outcome::Value(Payload::inline(&[0])));
    rig.step();
    assert_eq!(rig.on(0).len(), 3, "it may have been an exception, and the others may leave as much");
    for done in 1..20 {
        rig.end(0, task(2, done), Outcome::Value(Payload::inline(&[0])));
        rig.step();
    }
    assert!(rig.on(0).len() >= 16, "{:?}", rig.on(0));
}

#[test]
fn a_small_result_of_what_declares_much_holds_nothing_back() {
    let mut rig = limited(4);
    rig.submit(1, readers(8, 1, Some(400)));
    assert_eq!(rig.on(0).len(), 1);
    rig.end(0, task(1, 0), Outcome::Value(Payload::inline(&[0])));
    rig.step();
    assert_eq!(rig.on(0).len(), 2, "as many as fit while they run");
}

#[test]
fn what_runs_counts_as_what_it_will_leave() {
    let mut rig = limited(16);
    rig.submit(1, readers(1, 1, None));
    rig.held(0, task(1, 0), 500);
    rig.s.release(job(1), &[0]);
    rig.submit(2, readers(1, 1, None));
    rig.submit(3, readers(1, 2, Some(150)));
    assert_eq!(rig.on(0), [0], "500 B to come leave no room for 150");
    rig.submit(4, readers(1, 3, Some(50)));
    assert_eq!(rig.runs[&0].iter().map(|t| t.id).collect::<Vec<_>>(), [task(2, 0), task(4, 0)]);
}

#[test]
fn a_worker_with_nothing_to_do_waits_for_what_others_use_up_and_for_nothing_else() {
    let rig = |claimed: bool| {
        let mut rig = limited(1);
        let spec = WorkerSpec { name: "w1".into(), threads: 1, memory_limit: Some(1000), ..WorkerSpec::default() };
        rig.s.worker_joined(WorkerId(1), spec);
        // 0 to 5 are read; 6 needs all of them.
        let mut spec = JobSpec::default();
        for index in 0..6 {
            spec.dep_ends.push(0);
            call(&mut spec, 1);
            if claimed {
                spec.outputs.push(WantedResult { index, deliver: false });
            }
        }
        spec.deps.extend(0..6);
        spec.dep_ends.push(6);
        call(&mut spec, 2);
        spec.outputs.push(WantedResult { index: 6, deliver: true });
        rig.submit(1, spec);
        assert_eq!((rig.on(0).len(), rig.on(1).len()), (2, 2));
        let first = rig.on(0);
        first.into_iter().for_each(|index| rig.held(0, task(1, index), 300));
        rig.step();
        rig
    };
    let mut waits = rig(false);
    assert_eq!((waits.on(0).len(), waits.on(1).len()), (0, 2), "{:?}", waits.s.stats());
    let second = waits.on(1);
    second.into_iter().for_each(|index| waits.held(1, task(1, index), 300));
    waits.step();
    assert_eq!(waits.on(0).len() + waits.on(1).len(), 1, "nothing else would go on");
    let stays = rig(true);
    assert_eq!(stays.on(0).len(), 1, "what is kept for the client makes no room");
}

#[test]
fn what_waits_for_tasks_of_its_own_does_not_keep_those_from_starting() {
    let mut rig = limited(1);
    rig.submit(1, readers(1, 1, None));
    rig.s.blocked(WorkerId(0), 1);
    rig.submit(2, graph(&[&[], &[], &[0, 1]], &[2]));
    rig.s.submit(job(3), Arc::new(kept(graph(&[&[]], &[0]))), rig.now).unwrap();
    for (number, index) in [(2, 0), (2, 1), (3, 0)] {
        if rig.runs[&0].iter().any(|t| t.id == task(number, index)) {
            rig.held(0, task(number, index), 700);
            rig.step();
        }
    }
    assert!(rig.runs[&0].len() > 1, "{:?}", rig.s.explain(task(3, 0)));
}
