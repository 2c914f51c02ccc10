//! What a running task can ask of its worker.

use super::Worker;
use super::queue::Place;
use crate::graph::node;
use crate::ids::{Attempt, TaskId};
use crate::ipc::clock::ticks;
use crate::ipc::cpu_time;
use crate::ipc::ring::{Ended, RunDetails, Token};
use crate::job::Outcome;
use crate::profile::{self, RunningTask};
use crate::submission::backend::Backend;
use crate::submission::context::BackendScope;
use crate::task::context::{Aside, TaskInfo, TaskScope};
use crate::task::function::{Record, short_name};
use crate::task::run_times;
use crate::task::wait::{TaskWaits, WaitKind};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Of a short run, details are recorded where its inputs and its result take so many bytes.
const WORTH_RECORDING: u64 = 4 << 10;

pub(super) struct WorkerScope {
    worker: &'static Worker,
    pub(super) thread: usize,
    task: Cell<Option<Attempt>>,
    /// When the task began, by [`ticks`], until it calls its first function.
    began: Cell<Option<u64>>,
    /// When the task had come, and the bytes of its inputs, until the record of its first call ends.
    assigned: Cell<u64>,
    bytes_in: Cell<u64>,
    /// When the step began.
    step_began: Cell<u64>,
    /// The name that the user gave the task, if any.
    name: RefCell<Option<String>>,
    step: Cell<Option<(&'static Record, u64)>>,
    /// The record of the step in the ring.
    token: Cell<Option<Token>>,
    pub(super) place: Arc<Place>,
    /// An address in the stack frame that runs the task.
    mark: Cell<usize>,
    /// What shows the running call to whoever samples this thread.
    running: RefCell<Option<RunningTask>>,
}

impl WorkerScope {
    pub(super) fn new(worker: &'static Worker, thread: usize) -> Self {
        Self {
            worker,
            thread,
            task: Cell::new(None),
            began: Cell::new(None),
            assigned: Cell::new(0),
            bytes_in: Cell::new(0),
            step_began: Cell::new(0),
            name: RefCell::new(None),
            step: Cell::new(None),
            token: Cell::new(None),
            place: worker.queue.lock().place_of(thread),
            mark: Cell::new(0),
            running: RefCell::new(None),
        }
    }

    /// A task begins that the worker has had since `arrived`.
    pub(super) fn begin(&self, task: Attempt, name: Option<String>, arrived: u64, now: u64) {
        self.task.set(Some(task));
        self.began.set(Some(now));
        self.assigned.set(arrived);
        self.bytes_in.set(0);
        cpu_time::run_begins(now);
        if name.is_some() || self.name.borrow().is_some() {
            self.name.replace(name);
        }
    }

    /// What its inputs take.
    pub(super) fn takes(&self, bytes: u64) {
        self.bytes_in.set(bytes);
    }

    /// What is recorded of the run of a call that ends now, beside that.
    #[inline]
    fn details(&self, now: u64, bytes_out: u64) -> Option<RunDetails> {
        let (bytes_in, assigned) = (self.bytes_in.take(), self.assigned.take());
        let times = run_times::take();
        let cpu = cpu_time::of_run(self.step_began.get(), now);
        if cpu.is_none() && bytes_in.saturating_add(bytes_out) < WORTH_RECORDING {
            return None;
        }
        let peak = self.worker.page.gauges().peak(self.thread);
        let cpu = cpu.map_or(0, |cpu| cpu.as_nanos() as u64);
        Some(RunDetails {
            assigned,
            cpu,
            bytes_in,
            bytes_out,
            peak,
            times: times.words(now.saturating_sub(self.step_began.get())),
        })
    }

    /// Nothing of the task is further out on the stack than this.
    pub(super) fn show_from(&self, mark: usize) {
        self.mark.set(mark);
    }

    /// The next call of the task begins, so the one before it has ended.
    pub(super) fn step(&self, record: &'static Record, key: u64) {
        self.step.set(Some((record, key)));
        let Some(task) = self.task.get() else { return };
        self.worker.introduce(record);
        let (ring, now) = (self.worker.page.ring(), self.began.take().unwrap_or_else(ticks));
        if let Some(token) = self.token.take() {
            ring.end(token, Ended::Finished, now, self.details(now, 0).as_ref());
        }
        self.step_began.set(now);
        let name = self.name.borrow();
        let name = name.as_deref().filter(|_| !record.has_parts());
        self.token.set(Some(ring.begin(task, record.log_id(), key, self.thread, name, now)));
        match &mut *self.running.borrow_mut() {
            Some(running) => running.next(record.log_id(), name),
            none => *none = Some(profile::begin(record.log_id(), name, self.mark.get())),
        }
    }

    pub(super) fn end(&self, outcome: &Outcome, now: u64) {
        self.running.replace(None);
        self.task.set(None);
        self.step.set(None);
        if let Some(token) = self.token.take() {
            let ended = match outcome {
                Outcome::Failed(_) => Ended::Failed,
                Outcome::Cancelled => Ended::Cancelled,
                Outcome::Value(_) | Outcome::Held { .. } | Outcome::Parts(_) => Ended::Finished,
            };
            let details = self.details(now, outcome.nbytes());
            self.worker.page.ring().end(token, ended, now, details.as_ref());
        }
    }

    /// The name and key of the running call, or of the last one.
    pub(super) fn call(&self) -> (Option<String>, Option<u64>) {
        self.step.get().map(|(record, key)| (self.name_of(record), key)).unzip()
    }

    pub(super) fn name_of(&self, record: &'static Record) -> String {
        let given = self.name.borrow();
        match given.as_deref() {
            // That is the name of what is taken apart.
            Some(name) if !record.has_parts() => name.to_string(),
            _ => short_name(record.path()),
        }
    }
}

impl BackendScope for WorkerScope {
    fn backend(&self) -> Option<Arc<dyn Backend>> {
        Some(self.worker.client())
    }
}

impl TaskScope for WorkerScope {
    fn info(&self) -> Option<TaskInfo> {
        let (record, hash) = self.step.get()?;
        let name = self.name_of(record);
        Some(TaskInfo { key: node::key(&name, hash), name, worker: self.worker.welcome.name.clone() })
    }

    fn cancelled(&self) -> bool {
        self.task.get().is_some_and(|attempt| self.worker.is_cancelled(attempt.task))
    }

    fn set_progress(&self, per_mille: u32) {
        self.worker.page.set_progress(self.thread, per_mille);
    }

    fn step_aside(&self, kind: WaitKind) -> Option<Aside> {
        self.worker.wait_begins(&self.place, self.id(), kind);
        Some(Box::new(ExecutorAside { worker: self.worker, place: Arc::clone(&self.place) }))
    }

    fn waits(&self) -> Option<Arc<TaskWaits>> {
        Some(Arc::clone(&self.place.waits))
    }

    fn id(&self) -> Option<TaskId> {
        self.task.get().map(|attempt| attempt.task)
    }
}

/// A reason for which another executor runs in the place of one whose task waits.
struct ExecutorAside {
    worker: &'static Worker,
    place: Arc<Place>,
}

impl Drop for ExecutorAside {
    fn drop(&mut self) {
        self.worker.reason_ends(&self.place);
    }
}
