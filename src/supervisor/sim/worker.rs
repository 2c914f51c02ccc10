//! The workers of the simulation: they understand every message, and their segments are real.

use super::effects::{Clock, frame};
use super::{BAD, FLAKY, HANGS, SAME, STUCK, combine, value_of};
use crate::bytes::Bytes;
use crate::error::{Cause, DeathCause, ReturnedError};
use crate::fairness::put;
use crate::ids::{Attempt, TaskId, WorkerId};
use crate::ipc::captured::OutputChunk;
use crate::ipc::frame::Frame;
use crate::ipc::ledger::Ledger;
use crate::ipc::page::gauges::Waits;
use crate::ipc::payload::Payload;
use crate::ipc::ring::RingRecord;
use crate::ipc::segment::listing::Shown;
use crate::ipc::segment::{Attachments, SegmentPool};
use crate::job::{Completion, Failure, Input, Outcome, SharedPayload};
use crate::message::{self, Completions, FromWorker, Task, ToSession, ToWorker};
use crate::supervisor::core::owner_of;
use crate::supervisor::effects::{GaugeValues, WorkerPage};
use crate::task::image;
use crate::version::VERSION;
use fastrand::Rng;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How a process begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Start {
    Good,
    /// It says nothing.
    Silent,
    OldVersion,
    /// What its program has it do first fails, if there is something.
    NotSetUp,
    /// It does not begin with a hello.
    Rude,
    Dies,
}

/// What a worker shows of itself.
pub(super) struct SimPage {
    clock: Clock,
    /// By a signal: it does nothing, and what is sent to it piles up.
    stopped: Option<Duration>,
    pub(super) running: Vec<TaskId>,
    /// All attempts that it has begun.
    pub(super) begun: Vec<Attempt>,
    /// Results that it encodes or drops.
    pub(super) results: Vec<TaskId>,
    pub(super) robbed: bool,
    pub(super) left: Option<OutputChunk>,
    pub(super) spilled: u64,
}

pub(super) struct Running {
    pub(super) task: Task,
    cancelled: bool,
}

/// A simulated worker and both directions of its socket.
pub(super) struct SimWorker {
    pub(super) id: WorkerId,
    start: Option<Start>,
    threads: usize,
    pub(super) ended: Option<DeathCause>,
    /// It breaks the protocol.
    pub(super) rude: bool,
    /// Its tasks are not to blame for its end.
    pub(super) blameless: bool,
    pub(super) inbox: VecDeque<Frame>,
    pub(super) outbox: VecDeque<Frame>,
    /// For each message in it, the attempt of whose end it is word.
    words: VecDeque<Option<Attempt>>,
    /// Attempts that it has begun, and that the core has had no word of.
    pub(super) untold: Vec<Attempt>,
    pub(super) queue: VecDeque<Task>,
    pub(super) running: Vec<Running>,
    pub(super) store: BTreeMap<TaskId, Payload>,
    pub(super) shared: BTreeMap<TaskId, Payload>,
    /// Messages to the session of its tasks.
    pub(super) mail: VecDeque<ToSession>,
    pub(super) welcomed: bool,
    sets_up: bool,
    pub(super) pool: SegmentPool,
    pub(super) attachments: Attachments,
    /// What it has been shown, and what it has shown.
    pub(super) shown: Shown,
    shows: Shown,
    pub(super) page: SimPage,
    pub(super) private: u64,
    pub(super) blocked: i32,
    /// The task of which it has said so last.
    pub(super) waiter: Option<TaskId>,
    pub(super) paused: bool,
    pub(super) printed: u64,
}

impl SimWorker {
    pub(super) fn new(id: WorkerId, start: Start, threads: usize, clock: Clock) -> Self {
        Self {
            id,
            start: Some(start),
            threads,
            ended: None,
            rude: matches!(start, Start::OldVersion | Start::Rude),
            blameless: false,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            words: VecDeque::new(),
            untold: Vec::new(),
            queue: VecDeque::new(),
            running: Vec::new(),
            store: BTreeMap::new(),
            shared: BTreeMap::new(),
            mail: VecDeque::new(),
            welcomed: false,
            sets_up: start != Start::NotSetUp,
            pool: SegmentPool::new(owner_of(id), Ledger::in_memory(1 << 30), 1 << 20),
            attachments: Attachments::new(),
            shown: Shown::default(),
            shows: Shown::default(),
            page: SimPage {
                clock,
                stopped: None,
                running: Vec::new(),
                begun: Vec::new(),
                results: Vec::new(),
                robbed: false,
                left: None,
                spilled: 0,
            },
            private: 0,
            blocked: 0,
            waiter: None,
            paused: false,
            printed: 0,
        }
    }

    pub(super) fn die(&mut self, cause: DeathCause) {
        self.ended.get_or_insert(cause);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.page.stopped.is_some()
    }

    /// Stops it as a signal does, or lets it go on.
    pub(super) fn set_stopped(&mut self, stopped: bool) {
        self.page.stopped = stopped.then(|| self.page.clock.get());
    }

    /// Whether it can do something by itself.
    pub(super) fn moves(&self) -> bool {
        self.ended.is_none() && !self.is_stopped()
    }

    /// Whether it has been welcomed, and has not ended.
    pub(super) fn is_up(&self) -> bool {
        self.welcomed && self.moves()
    }

    pub(super) fn post(&mut self, message: &FromWorker) {
        let (body, segments) = message::encode(message).unwrap();
        for segment in &segments {
            self.pool.lend(segment);
        }
        self.outbox.push_back(frame(&mut self.shows, body, &segments));
        self.words.push_back(None);
    }

    /// The next message that has arrived at the core.
    pub(super) fn next_message(&mut self) -> Option<Frame> {
        if let Some(told) = self.words.pop_front().flatten() {
            self.untold.retain(|attempt| *attempt != told);
        }
        self.outbox.pop_front()
    }

    /// Its connection has ended, with what was on its way.
    pub(super) fn cut_off(&mut self) {
        self.outbox.clear();
        self.words.clear();
    }

    /// The tasks whose end, or whose run, may have ended it, as its end will be counted.
    pub(super) fn blamed(&self) -> Vec<TaskId> {
        let running = &self.page.running;
        let ended = self.untold.iter().map(|attempt| attempt.task).filter(|task| !running.contains(task));
        let results = &self.page.results;
        let counts = (running.is_empty() && results.is_empty()) || self.page.robbed;
        running.iter().chain(results).copied().chain(ended.filter(|_| counts)).collect()
    }

    fn post_done(&mut self, completion: Completion) {
        let mut done = Completions::default();
        let told = Attempt { task: completion.id, number: completion.attempt };
        done.push(completion);
        self.post(&FromWorker::Done(done));
        self.words.pop_back();
        self.words.push_back(Some(told));
    }

    /// It begins, if it has not; whether that was so.
    pub(super) fn begin(&mut self) -> bool {
        let Some(start) = self.start.take() else { return false };
        let build = image::build_id().clone();
        match start {
            Start::Good | Start::NotSetUp => self.post(&FromWorker::Hello { version: VERSION, build }),
            Start::Silent => return false,
            Start::OldVersion => self.post(&FromWorker::Hello { version: VERSION ^ 1, build }),
            Start::Rude => self.post(&FromWorker::NoRoomNow),
            Start::Dies => self.die(DeathCause::Exited(1)),
        }
        true
    }

    /// It obeys the next message.
    pub(super) fn obey(&mut self) {
        let Some(frame) = self.inbox.pop_front() else { return };
        let message = message::decode(frame, &mut self.attachments.arrival()).unwrap();
        match message {
            ToWorker::Welcome(welcome) => {
                assert_eq!((welcome.id, welcome.owner), (self.id, owner_of(self.id)));
                assert!(!std::mem::replace(&mut self.welcomed, true), "{:?} is welcomed twice", self.id);
                match (welcome.hooks.init, self.sets_up) {
                    (None, _) => {}
                    (Some(_), true) => self.post(&FromWorker::Ready),
                    (Some(_), false) => self.post(&FromWorker::NotSetUp("failed".to_string())),
                }
            }
            ToWorker::Run(tasks) => tasks.unpack().unwrap().into_iter().for_each(|task| self.accept(task)),
            ToWorker::Cancel(tasks) => self.cancel(&tasks),
            ToWorker::Fetch(tasks) => {
                for id in tasks {
                    let value = self.store.get(&id).unwrap_or_else(|| panic!("{id} is fetched, but not there")).clone();
                    self.post(&FromWorker::Exported(id, Ok(value)));
                }
            }
            ToWorker::Drop(tasks) => {
                for id in tasks {
                    self.store.remove(&id);
                    self.shared.remove(&id);
                }
            }
            ToWorker::Share(values) => {
                for SharedPayload { id, payload, .. } in values {
                    assert!(self.shared.insert(id, payload).is_none(), "{id} is shared twice");
                }
            }
            ToWorker::Retract(tasks) => {
                let mut back = Vec::new();
                for id in tasks {
                    if let Some(at) = self.queue.iter().position(|task| task.id == id) {
                        self.queue.remove(at);
                        back.push(id);
                    }
                }
                self.post(&FromWorker::Retracted(back.clone()));
                self.bounce_followers(back);
            }
            ToWorker::Return(segments) => {
                segments.into_iter().for_each(|(id, n)| self.pool.returned(id, n));
                let ended = self.pool.take_ended();
                if !ended.is_empty() {
                    self.post(&FromWorker::FilesEnded(ended));
                }
            }
            ToWorker::Abandon(segments) => self.pool.abandon(&segments),
            ToWorker::FilesEnded(files) => self.attachments.end_files(&files),
            ToWorker::RunBeside { serial, .. } => {
                self.post(&FromWorker::RanBeside { serial, result: Ok(Bytes::default()) });
            }
            ToWorker::Session(message) => self.mail.push_back(message),
            ToWorker::Shutdown => self.die(DeathCause::Exited(0)),
        }
    }

    fn accept(&mut self, mut task: Task) {
        let known = |id: TaskId| {
            self.queue.iter().any(|task| task.id == id) || self.running.iter().any(|run| run.task.id == id)
        };
        let mut lost = false;
        for input in &mut task.inputs {
            if let Input::Shared { id, .. } = input {
                let there = self.shared.get(id);
                let there = there.unwrap_or_else(|| panic!("{} needs {id}, which was not sent", task.id));
                *input = Input::Payload(there.clone());
            }
            let Input::Pending { id } = *input else { continue };
            if !known(id) {
                lost |= !self.store.contains_key(&id);
                *input = Input::Held { id, take: false };
            }
        }
        match lost {
            true => self.post(&FromWorker::Bounced(vec![task.id])),
            false => put(&mut self.queue, task),
        }
    }

    fn cancel(&mut self, tasks: &[TaskId]) {
        for &id in tasks {
            if let Some(at) = self.queue.iter().position(|task| task.id == id) {
                let attempt = self.queue.remove(at).unwrap().attempt;
                self.post_done(Completion { id, attempt, run_us: 0, outcome: Outcome::Cancelled });
            } else if let Some(run) = self.running.iter_mut().find(|run| run.task.id == id) {
                run.cancelled = true;
            }
        }
        let ended = |id: &&TaskId| !self.running.iter().any(|run| run.task.id == **id);
        self.bounce_followers(tasks.iter().filter(ended).copied().collect());
    }

    /// Sends back what was to run after these, which give no result, and what was to run after that.
    fn bounce_followers(&mut self, mut ended: Vec<TaskId>) {
        let mut back = Vec::new();
        while let Some(id) = ended.pop() {
            let follows = |task: &Task| task.inputs.iter().any(|i| matches!(i, Input::Pending { id: of } if *of == id));
            while let Some(at) = self.queue.iter().position(follows) {
                let task = self.queue.remove(at).unwrap();
                ended.push(task.id);
                back.push(task.id);
            }
        }
        if !back.is_empty() {
            self.post(&FromWorker::Bounced(back));
        }
    }

    /// It starts the next task of its queue; whether there was one.
    pub(super) fn start_task(&mut self) -> bool {
        // Cancelled ones have spare threads in their places.
        let wanted = self.running.iter().filter(|running| !running.cancelled).count();
        if wanted >= self.threads + self.blocked as usize {
            return false;
        }
        let runnable = |task: &Task| !task.inputs.iter().any(|input| matches!(input, Input::Pending { .. }));
        let Some(at) = self.queue.iter().position(runnable) else { return false };
        let mut task = self.queue.remove(at).unwrap();
        for input in &mut task.inputs {
            if let Input::Held { id, take } = *input {
                let found = if take { self.store.remove(&id) } else { self.store.get(&id).cloned() };
                let found = found.unwrap_or_else(|| panic!("{} needs {id}, which is not there", task.id));
                *input = Input::Payload(found);
            }
        }
        self.page.running.push(task.id);
        let attempt = Attempt { task: task.id, number: task.attempt };
        self.page.begun.push(attempt);
        self.untold.push(attempt);
        self.running.push(Running { task, cancelled: false });
        true
    }

    /// One of its running tasks ends, perhaps; whether it did.
    pub(super) fn end_task(&mut self, rng: &mut Rng, fails: &mut FxHashMap<TaskId, u8>) -> bool {
        if self.running.is_empty() {
            return false;
        }
        let at = rng.usize(0..self.running.len());
        let Running { task, cancelled } = &self.running[at];
        let (id, attempt) = (task.id, task.attempt);
        let (kind, times) = (task.body[0], task.body[1]);
        let mut store = |id: TaskId, value, sent: bool, rng: &mut Rng| {
            if sent {
                return Outcome::Value(value);
            }
            self.store.insert(id, value);
            let nbytes = rng.choice([0, 10, 1_000_000]).unwrap();
            let encoded = rng.choice([0, nbytes]).unwrap();
            Outcome::Held { nbytes, encoded, bound: rng.u8(..) < 50 }
        };
        let outcome = match kind {
            STUCK => return false,
            HANGS if !cancelled => return false,
            HANGS => Outcome::Cancelled,
            _ if *cancelled && rng.u8(..) < 180 => Outcome::Cancelled,
            BAD => failed(id),
            FLAKY if fails.get(&id).copied().unwrap_or(0) < times => {
                *fails.entry(id).or_default() += 1;
                failed(id)
            }
            _ => {
                let inputs = task.inputs.iter().map(|input| match input {
                    Input::Payload(payload) => value_of(payload),
                    other => panic!("{id} runs without {other:?}"),
                });
                let value = inputs.fold(u64::from_le_bytes(task.body[2..10].try_into().unwrap()), combine);
                let value = match task.inputs.first() {
                    Some(Input::Payload(same)) if kind == SAME => value_of(same),
                    _ => value,
                };
                let mut parts = Vec::new();
                for part in &task.parts {
                    let id = TaskId { job: id.job, index: part.index };
                    let payload = payload(&self.pool, combine(value, part.place.into()), rng.u8(..) < 60);
                    let sent = rng.u8(..) < if part.deliver { 200 } else { 100 };
                    parts.push((part.index, store(id, payload, sent, rng)));
                }
                match task.inputs.first() {
                    _ if !parts.is_empty() => Outcome::Parts(parts),
                    Some(Input::Payload(same)) if kind == SAME => {
                        store(id, same.clone(), task.deliver || rng.u8(..) < 100, rng)
                    }
                    _ => {
                        let payload = payload(&self.pool, value, rng.u8(..) < 60);
                        store(id, payload, task.deliver || rng.u8(..) < 100, rng)
                    }
                }
            }
        };
        self.running.swap_remove(at);
        self.page.running.retain(|running| *running != id);
        let given = match &outcome {
            Outcome::Value(payload) => Some(Input::Payload(payload.clone())),
            Outcome::Held { .. } => Some(Input::Held { id, take: false }),
            _ => None,
        };
        self.post_done(Completion { id, attempt, run_us: rng.choice([0, 1, 100, 5000]).unwrap(), outcome });
        match given {
            Some(given) => {
                let inputs = self.queue.iter_mut().flat_map(|task| &mut task.inputs);
                let waiting = inputs.filter(|input| matches!(input, Input::Pending { id: of } if *of == id));
                waiting.for_each(|input| *input = given.clone());
            }
            None => self.bounce_followers(vec![id]),
        }
        true
    }

    /// It tells which segments of others it no longer uses; whether there were any.
    pub(super) fn let_go(&mut self) -> bool {
        let released = self.attachments.take_released();
        if released.is_empty() {
            return false;
        }
        self.post(&FromWorker::Released(released));
        true
    }
}

fn failed(task: TaskId) -> Outcome {
    let cause = Cause::Returned(ReturnedError::text("no"));
    Outcome::Failed(Box::new(Failure { task, step: 0, call: None, worker: None, cause }))
}

/// A value, in the frame or in a segment.
pub(super) fn payload(pool: &SegmentPool, value: u64, in_segment: bool) -> Payload {
    if !in_segment {
        return Payload::inline(&value.to_le_bytes());
    }
    let mut segment = pool.alloc(5000).unwrap();
    segment[..8].copy_from_slice(&value.to_le_bytes());
    Payload::new(Vec::new(), vec![segment.freeze()], Some(8))
}

impl WorkerPage for SimPage {
    fn silence(&self) -> Duration {
        self.stopped.map_or(Duration::ZERO, |since| self.clock.get() - since)
    }

    fn running(&self) -> Vec<TaskId> {
        self.running.clone()
    }

    fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    fn begun(&self) -> Vec<Attempt> {
        self.begun.clone()
    }

    fn results(&self) -> Vec<TaskId> {
        self.results.clone()
    }

    fn reason(&self) -> Option<String> {
        None
    }

    fn is_robbed(&self) -> bool {
        self.robbed
    }

    fn peaks(&self) -> Vec<(TaskId, u64)> {
        self.running.iter().map(|id| (*id, 1)).collect()
    }

    fn progress(&self) -> Vec<(TaskId, u32)> {
        self.running.iter().map(|id| (*id, 500)).collect()
    }

    fn samples(&self) -> Vec<u64> {
        Vec::new()
    }

    fn last_log(&self) -> Vec<u8> {
        Vec::new()
    }

    fn left_output(&self) -> Option<OutputChunk> {
        self.left.clone()
    }

    fn segment_bytes(&self) -> u64 {
        0
    }

    fn gauges(&self) -> GaugeValues {
        let spilled = self.spilled;
        GaugeValues { managed: 0, spilled, segments: 0, moved: 0, pauses: 0, waits: Waits::No, disk_fails: false }
    }

    fn latest_run(&self, _: TaskId) -> Option<RingRecord> {
        None
    }

    fn runs(&self) -> Vec<RingRecord> {
        Vec::new()
    }

    fn recent(&self, _: usize, _: &mut dyn FnMut(RingRecord)) {}
}
