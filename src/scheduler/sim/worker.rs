//! The workers of the simulation.

use super::{
    BAD, FLAKY, GUILTY, HANGS, LOCAL, PLAIN, STUCK, Sim, combine, decode, encode, encode_failed, failed,
    kind_and_retries, kind_of,
};
use crate::error::{Cause, DeathCause, DeathRecord, ReturnedError};
use crate::fairness::put;
use crate::ids::{SessionId, TaskId, WorkerId};
use crate::ipc::payload::Payload;
use crate::job::{EXTERNAL, Failure, Input, Outcome, SharedPayload};
use crate::resources::{GivenAmount, Resources};
use crate::scheduler::{Command, Completion, RunTask, WorkerSpec};
use crate::task::wait::WaitKind;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

pub(super) enum Word {
    Finished(Vec<Completion>),
    Retracted(Vec<TaskId>),
    Bounced(Vec<TaskId>),
    Exported(TaskId, Result<Payload, Box<Failure>>),
}

pub(super) struct Running {
    task: RunTask,
    value: u64,
    cancelled: bool,
    /// The number of a job of its own that it waits for.
    waits: Option<u32>,
}

/// A simulated worker and both directions of its socket.
pub(super) struct SimWorker {
    pub(super) id: WorkerId,
    pub(super) threads: usize,
    pub(super) inbox: VecDeque<Command>,
    pub(super) outbox: VecDeque<Word>,
    pub(super) queue: VecDeque<RunTask>,
    pub(super) running: Vec<Running>,
    pub(super) store: FxHashMap<TaskId, u64>,
    pub(super) shared: FxHashMap<TaskId, Payload>,
    pub(super) blocked: i32,
    pub(super) paused: bool,
    /// By a signal: it does nothing, and what is sent to it piles up.
    pub(super) stopped: bool,
    /// Of a hundred turns that it might take, it misses so many.
    pub(super) slowness: u64,
}

impl SimWorker {
    /// Whether something in its queue waits for nothing but a thread.
    pub(super) fn has_runnable(&self) -> bool {
        self.queue.iter().any(is_runnable)
    }

    /// How many of its tasks are said to wait, and wait for nothing.
    pub(super) fn pretended(&self) -> i32 {
        self.blocked - self.running.iter().filter(|r| r.waits.is_some()).count() as i32
    }

    /// Sends back what was to run after these, which give no result, and what was to run after that.
    fn bounce_followers(&mut self, ended: &[TaskId]) {
        let mut ended: Vec<TaskId> =
            ended.iter().copied().filter(|id| !self.running.iter().any(|r| r.task.id == *id)).collect();
        let mut back = Vec::new();
        while let Some(id) = ended.pop() {
            let follows =
                |t: &RunTask| t.inputs.iter().any(|i| matches!(i, Input::Pending { id: ahead } if *ahead == id));
            while let Some(position) = self.queue.iter().position(follows) {
                let task = self.queue.remove(position).unwrap();
                ended.push(task.id);
                back.push(task.id);
            }
        }
        if !back.is_empty() {
            self.outbox.push_back(Word::Bounced(back));
        }
    }
}

fn is_runnable(task: &RunTask) -> bool {
    !task.inputs.iter().any(|input| matches!(input, Input::Pending { .. }))
}

/// How a worker was lost.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Loss {
    Killed,
    /// By one of its tasks.
    Crashed,
    OfMemory,
    /// With all others, on somebody's word: nothing that ran there is blamed.
    Restarted,
    Retired,
}

/// So much of the resource that the first worker has.
pub(super) fn gpus(amount: f64) -> Resources {
    Resources::of([("gpu", GivenAmount::new(amount))])
}

/// The spec of the worker `w{number}`, apart from its size.
pub(super) fn named(number: u32) -> WorkerSpec {
    let tags = if number == 0 { vec!["even".into()] } else { vec![] };
    let resources = if number == 0 { gpus(2.0) } else { Resources::default() };
    WorkerSpec { name: format!("w{number}"), tags, resources, ..WorkerSpec::default() }
}

impl Sim {
    /// The worker `w{number}` joins. Whether its id is even or odd tells its number.
    pub(super) fn join(&mut self, number: u32) {
        let threads = 1 + self.rng.below(3);
        self.next_worker += u32::from(self.next_worker % 2 != number);
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let memory_limit = self.rng.chance(50).then_some(100);
        let spec = WorkerSpec { threads: threads as u32, memory_limit, ..named(number) };
        self.s.worker_joined(id, spec);
        self.workers.push(SimWorker {
            id,
            threads,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            queue: VecDeque::new(),
            running: Vec::new(),
            store: FxHashMap::default(),
            shared: FxHashMap::default(),
            blocked: 0,
            paused: false,
            stopped: false,
            slowness: 0,
        });
    }

    /// Whether a worker takes its turn.
    pub(super) fn moves(&mut self, at: usize) -> bool {
        let w = &self.workers[at];
        !w.stopped && !self.rng.chance(w.slowness)
    }

    /// A worker obeys its next command.
    pub(super) fn obey(&mut self, at: usize) {
        let Some(command) = self.workers[at].inbox.pop_front() else { return };
        let w = &mut self.workers[at];
        match command {
            Command::Run { tasks, .. } => {
                for mut task in tasks {
                    let mut lost = false;
                    for input in &mut task.inputs {
                        if let Input::Shared { id, .. } = input {
                            let there = w.shared.get(id);
                            let there = there.unwrap_or_else(|| panic!("{} needs {id}, which was not sent", task.id));
                            *input = Input::Payload(there.clone());
                        }
                        let Input::Pending { id } = *input else { continue };
                        let known = |t: &RunTask| t.id == id;
                        if w.queue.iter().any(known) || w.running.iter().any(|r| known(&r.task)) {
                            continue;
                        }
                        lost |= !w.store.contains_key(&id);
                        *input = Input::Held { id, take: false };
                    }
                    match lost {
                        true => w.outbox.push_back(Word::Bounced(vec![task.id])),
                        false => put(&mut w.queue, task),
                    }
                }
            }
            Command::Cancel { tasks, .. } => {
                let mut dropped = Vec::new();
                let named = tasks.clone();
                for id in tasks {
                    if let Some(position) = w.queue.iter().position(|t| t.id == id) {
                        let run = w.queue.remove(position).unwrap();
                        dropped.push(Completion { id, attempt: run.attempt, run_us: 0, outcome: Outcome::Cancelled });
                    } else if let Some(running) = w.running.iter_mut().find(|r| r.task.id == id) {
                        running.cancelled = true;
                    }
                }
                if !dropped.is_empty() {
                    w.outbox.push_back(Word::Finished(dropped));
                }
                w.bounce_followers(&named);
            }
            Command::Fetch { tasks, .. } => {
                for id in tasks {
                    let value = *w.store.get(&id).unwrap_or_else(|| panic!("{id} is fetched, but not there"));
                    let local = kind_of(self.specs[&id.job.number].body(id.index)) == Some(LOCAL);
                    let result = if local { Err(failed(id, encode_failed())) } else { Ok(encode(value)) };
                    w.outbox.push_back(Word::Exported(id, result));
                }
            }
            Command::Drop { tasks, .. } => {
                for id in tasks {
                    w.store.remove(&id);
                    w.shared.remove(&id);
                }
            }
            Command::Share { values, .. } => {
                for SharedPayload { id, payload, .. } in values {
                    assert_eq!(decode(&payload), self.values[&id], "shared value of {id}");
                    assert!(w.shared.insert(id, payload).is_none(), "{id} is shared twice");
                }
            }
            Command::Retract { tasks, .. } => {
                let mut back = Vec::new();
                for id in tasks {
                    if let Some(position) = w.queue.iter().position(|t| t.id == id) {
                        w.queue.remove(position);
                        back.push(id);
                    }
                }
                w.outbox.push_back(Word::Retracted(back.clone()));
                w.bounce_followers(&back);
            }
            Command::Retire { worker } => {
                let running: Vec<_> = w.running.iter().map(|r| (r.task.id, r.cancelled, r.waits)).collect();
                assert!(w.queue.is_empty() && running.is_empty(), "retired while it works: {running:?}, {:?}", w.queue);
                self.lose(worker, Loss::Retired);
            }
            Command::Kill { .. } | Command::Deliver { .. } => unreachable!(),
        }
    }

    /// A worker starts the next task of its queue.
    pub(super) fn start(&mut self, at: usize) {
        let w = &mut self.workers[at];
        // Cancelled ones have spare threads in their places.
        let wanted = w.running.iter().filter(|r| !r.cancelled).count();
        if wanted >= w.threads + w.blocked as usize {
            return;
        }
        let Some(position) = w.queue.iter().position(is_runnable) else { return };
        let run = w.queue.remove(position).unwrap();
        let mut value = u64::from(run.id.job.number) << 32 | u64::from(run.id.index) | 1 << 63;
        for (input, &dep) in run.inputs.iter().zip(run.spec.deps(run.id.index)) {
            let own = TaskId { job: run.id.job, index: dep };
            let id = if dep & EXTERNAL == 0 { own } else { run.spec.externals[(dep & !EXTERNAL) as usize] };
            let found = match input {
                Input::Held { id: held, take } => {
                    assert_eq!(*held, id, "inputs come in the order of the dependencies");
                    let found = if *take { w.store.remove(&id) } else { w.store.get(&id).copied() };
                    found.unwrap_or_else(|| panic!("{} needs {id}, which is not there", run.id))
                }
                Input::Payload(payload) => decode(payload),
                Input::Pending { .. } | Input::Shared { .. } | Input::Found { .. } => unreachable!("it is runnable"),
            };
            assert_eq!(found, self.values[&id], "input {id} of {}", run.id);
            value = combine(value, found);
        }
        assert_eq!(run.inputs.len(), run.spec.deps(run.id.index).len());
        w.running.push(Running { task: run, value, cancelled: false, waits: None });
    }

    /// One of a worker's running tasks submits a job and waits for all of its outputs.
    pub(super) fn nest(&mut self, at: usize) {
        let w = &self.workers[at];
        let may_wait = |r: &&Running| {
            let kind = kind_of(r.task.spec.body(r.task.id.index)).unwrap_or(PLAIN);
            r.waits.is_none() && !r.cancelled && kind != HANGS && kind != STUCK
        };
        let (id, first) = (w.id, w.running.iter().find(may_wait).map(|r| r.task.id));
        let Some(task) = first else { return };
        self.answerable.insert(task);
        let number = self.submit_of(SessionId::of_tasks(id), false, false);
        let w = &mut self.workers[at];
        w.running.iter_mut().filter(|r| r.task.id == task).for_each(|r| r.waits = Some(number));
        w.blocked += 1;
        self.s.blocked(id, 1);
        self.s.note_waiter(id, task, Some(WaitKind::ForTasks));
        if id.0 % 2 < self.fleet {
            self.s.worker_staying(id);
        }
    }

    /// Whether some outputs of a job are still waited for.
    fn is_awaited(&self, number: u32) -> bool {
        self.wanted.iter().any(|(id, heard)| id.job.number == number && heard.is_none())
    }

    /// One of a worker's running tasks ends, perhaps.
    pub(super) fn end(&mut self, at: usize) {
        let may_end = |r: &Running| r.cancelled || r.waits.is_none_or(|number| !self.is_awaited(number));
        let running = self.workers[at].running.iter().enumerate();
        let candidates: Vec<usize> = running.filter(|(_, r)| may_end(r)).map(|(position, _)| position).collect();
        let chosen = self.rng.below(candidates.len());
        let Some(&position) = candidates.get(chosen) else { return };
        let w = &mut self.workers[at];
        if w.running[position].waits.take().is_some() {
            w.blocked -= 1;
            self.s.blocked(w.id, -1);
            self.s.note_waiter(w.id, w.running[position].task.id, None);
        }
        let running = &self.workers[at].running[position];
        let id = running.task.id;
        let body = running.task.spec.body(id.index).to_vec();
        let runs = *self.runs.get(&id).unwrap_or(&0);
        let stop = running.cancelled && self.rng.chance(70);
        let fails = || {
            let cause = Cause::Returned(ReturnedError::text("no"));
            Outcome::Failed(failed(id, cause))
        };
        let (kind, retries) = kind_and_retries(&body).unwrap_or((PLAIN, 0));
        let outcome = match kind {
            STUCK => return,
            GUILTY => return self.lose(self.workers[at].id, Loss::Crashed),
            HANGS if !running.cancelled => return,
            HANGS => Outcome::Cancelled,
            _ if stop => Outcome::Cancelled,
            BAD => fails(),
            FLAKY if runs < u32::from(retries) => fails(),
            _ if !running.task.parts.is_empty() => {
                let (value, wanted) = (running.value, running.task.parts.clone());
                let parts = wanted.into_iter().map(|part| {
                    let value = combine(value, u64::from(part.place));
                    let id = TaskId { job: id.job, index: part.index };
                    let sent = self.rng.chance(if part.deliver { 80 } else { 40 });
                    let outcome = match sent {
                        true => Outcome::Value(encode(value)),
                        false => {
                            let held = self.workers[at].store.insert(id, value);
                            assert!(held.is_none(), "{id} is made again where it is");
                            let nbytes = [0, 10, 1_000_000][self.rng.below(3)];
                            Outcome::Held { nbytes, encoded: nbytes, bound: self.rng.chance(20) }
                        }
                    };
                    (part.index, outcome)
                });
                Outcome::Parts(parts.collect())
            }
            _ if running.task.deliver || self.rng.chance(40) => Outcome::Value(encode(running.value)),
            _ => {
                let nbytes = [0, 10, 1_000_000, 1_000_000_000][self.rng.below(4)];
                let encoded = if self.rng.chance(50) { nbytes } else { 0 };
                Outcome::Held { nbytes, encoded, bound: self.rng.chance(20) }
            }
        };
        if matches!(outcome, Outcome::Failed(_)) {
            *self.runs.entry(id).or_default() += 1;
        }
        let w = &mut self.workers[at];
        let running = w.running.swap_remove(position);
        if w.blocked > w.running.len() as i32 {
            // It was only said to wait, and nobody who has ended is.
            w.blocked -= 1;
            self.s.blocked(w.id, -1);
        }
        let is_parts = matches!(outcome, Outcome::Parts(_));
        assert!(is_parts || !outcome.is_success() || running.task.parts.is_empty());
        if let Outcome::Held { .. } = outcome {
            w.store.insert(id, running.value);
        }
        let given = match &outcome {
            Outcome::Value(payload) => Some(Input::Payload(payload.clone())),
            Outcome::Held { .. } => Some(Input::Held { id, take: false }),
            _ => None,
        };
        let followers: Vec<TaskId> = match given {
            Some(given) => {
                let inputs = w.queue.iter_mut().flat_map(|t| &mut t.inputs);
                let waiting = inputs.filter(|i| matches!(i, Input::Pending { id: ahead } if *ahead == id));
                waiting.for_each(|i| *i = given.clone());
                Vec::new()
            }
            None => vec![id],
        };
        let run_us = [0, 1, 100, 5000, 100_000][self.rng.below(5)];
        let completion = Completion { id, attempt: running.task.attempt, run_us, outcome };
        // Some go out together.
        if self.rng.chance(30)
            && let Some(Word::Finished(last)) = w.outbox.back_mut()
        {
            last.push(completion);
        } else {
            w.outbox.push_back(Word::Finished(vec![completion]));
        }
        w.bounce_followers(&followers);
    }

    /// The scheduler hears the next word of a worker.
    pub(super) fn listen(&mut self, at: usize) {
        let w = &mut self.workers[at];
        let Some(word) = w.outbox.pop_front() else { return };
        match word {
            Word::Finished(completions) => self.s.finished(w.id, completions, self.now),
            Word::Retracted(tasks) => self.s.retracted(w.id, &tasks),
            Word::Bounced(tasks) => self.s.bounced(w.id, &tasks),
            Word::Exported(id, result) => drop(self.s.exported(w.id, id, result)),
        }
    }

    pub(super) fn lose(&mut self, id: WorkerId, how: Loss) {
        let at = self.workers.iter().position(|w| w.id == id).unwrap();
        let w = self.workers.remove(at);
        let mut running: Vec<TaskId> = w.running.iter().map(|r| r.task.id).collect();
        if how == Loss::Restarted {
            running.clear();
        }
        self.kills += u32::from(!matches!(how, Loss::Crashed | Loss::Retired | Loss::Restarted));
        // What its own tasks had submitted ends with it.
        let own = SessionId::of_tasks(w.id);
        let others = || w.running.iter().map(|r| &r.task).filter(|task| task.id.job.session != own);
        let sole = others().count() <= 1;
        if how != Loss::Restarted && (sole || others().all(|task| task.suspect)) {
            let deaths = if sole { &mut self.deaths } else { &mut self.shared_deaths };
            others().for_each(|task| *deaths.entry(task.id).or_default() += 1);
        }
        if how == Loss::Crashed && w.running.iter().any(|r| r.task.id.job.session == own) {
            self.answerable.extend(others().map(|task| task.id));
        }
        let mut record = DeathRecord { worker: format!("w{}", w.id.0), ..DeathRecord::default() };
        if how == Loss::OfMemory {
            record.cause = DeathCause::MemoryLimit { used: 101, limit: 100 };
            record.memory_limit = Some(100);
            for r in &w.running {
                let deaths = self.memory_deaths.entry(r.task.id).or_default();
                deaths.0 += 1;
                deaths.1 |= r.task.alone;
            }
        }
        self.vanish(SessionId::of_tasks(w.id));
        self.s.worker_lost(w.id, &running, record);
        // The supervisor replaces a worker that has ended, name and tags included.
        let number = w.id.0 % 2;
        if number < self.fleet && !self.workers.iter().any(|other| other.id.0 % 2 == number) {
            self.join(number);
        } else if self.workers.is_empty() {
            self.join_any();
        }
    }
}
