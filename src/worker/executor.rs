//! The threads that run tasks: from an input to a result that is kept or sent.

use super::encode::NotSent;
use super::queue::{Next, Queue};
use super::scope::WorkerScope;
use super::{Worker, encode};
use crate::error::Cause;
use crate::ids::{Attempt, TaskId};
use crate::ipc::start::end_fork;
use crate::job::{Completion, Input, Outcome};
use crate::message::{FromWorker, Task};
use crate::task::Value;
use crate::task::building::Building;
use crate::task::call::{Fault, guarded};
use crate::task::function::{Argument, CallError, Record, short_name};
use crate::task::program::{self, Op, Ops};
use crate::task::shared_input::SharedInput;
use crate::task::size::Size;
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most results that are collected for one message.
const BATCH: usize = 128;
/// How long results may wait while short tasks run.
const LINGER: Duration = Duration::from_micros(500);

impl Worker {
    pub(super) fn work_as_thread(&'static self, thread: usize) {
        let scope = Rc::new(WorkerScope::new(self, thread));
        let _entered = crate::submission::context::enter(scope.clone());
        let mut sent = Instant::now();
        // When the last task ended, if the next one was queued already: one reading of the clock serves both.
        let mut now = None;
        loop {
            match self.next(thread, &mut now) {
                Next::Leave => return,
                Next::Run(task) => {
                    let suspect = task.suspect;
                    if suspect {
                        // If it ends this process, nobody else is to be blamed for that.
                        self.send_finished();
                    }
                    let began = now.unwrap_or_else(Instant::now);
                    let (waiting, ended) = self.run(task, began, &scope);
                    now = Some(ended);
                    if suspect || waiting >= BATCH || ended.duration_since(sent) > LINGER {
                        self.send_finished();
                        sent = ended;
                        now = None;
                    }
                }
                Next::Read => {
                    let frames = self.supervisor.read();
                    self.handle(frames);
                    let mut queue = self.queue.lock();
                    queue.reading = false;
                    let others = queue.tasks.len().saturating_sub(1);
                    for _ in 0..others.min(queue.idle) {
                        self.work.notify_one();
                    }
                }
            }
        }
    }

    /// Runs a task. Returns how many results wait to be sent, and when the task ended.
    fn run(&'static self, mut task: Task, began: Instant, scope: &WorkerScope) -> (usize, Instant) {
        let id = task.id;
        if task.alone {
            self.store.clear_out();
        }
        let attempt = Attempt { task: id, number: task.attempt };
        self.page.begin_task(scope.thread, attempt);
        scope.begin(attempt, task.name.take());
        let building = Building::of(&task.building);
        let _inside = building.enter();
        // Code of the user's runs also when values are decoded, encoded, sized and dropped.
        let outcome = guarded(|| Ok(self.outcome(&mut task, scope))).unwrap_or_else(|fault| {
            let (name, key) = scope.call();
            Outcome::Failed(Box::new(self.failure(id, 0, name, key, encode::cause(fault))))
        });
        let ended = Instant::now();
        let run_us = ended.duration_since(began).as_micros().min(u128::from(u32::MAX)) as u32;
        // While the task still counts as running: it is the one to blame.
        if !self.capture.is_intact(ended.duration_since(began)) {
            self.supervisor.end_robbed();
        }
        self.page.end_task(scope.thread);
        let mut queue = self.queue.lock();
        queue.running.retain(|other| *other != id);
        let cancelled = !queue.cancelled.is_empty() && queue.cancelled.remove(&id);
        let followed = !queue.pending.is_empty();
        let outcome = if cancelled { Outcome::Cancelled } else { outcome };
        let gives = matches!(outcome, Outcome::Value(_) | Outcome::Held { .. });
        // The end of a follower must not be reported before the end of this task: so the lock is kept.
        let queue = (followed && gives).then_some(queue);
        self.watcher.note();
        self.store.unpinned();
        scope.end(&outcome);
        match &outcome {
            Outcome::Value(payload) => self.lend(payload),
            Outcome::Cancelled => self.store.forget(&[id]),
            Outcome::Held { .. } | Outcome::Failed(_) => {}
        }
        let given = match &outcome {
            _ if !followed => None,
            Outcome::Value(payload) if payload.segments().is_empty() => Some(Input::Payload(payload.clone())),
            Outcome::Held { .. } => Some(Input::Held { id, take: false }),
            _ => None,
        };
        let waiting = {
            let mut finished = self.finished.lock();
            finished.push(Completion { id, attempt: task.attempt, run_us, outcome });
            finished.len()
        };
        if followed {
            self.start_followers(queue.unwrap_or_else(|| self.queue.lock()), id, given);
        }
        // Without the lock: this may wait until the watcher empties a full pipe, and the watcher needs the lock.
        if self.capture.ran(ended.duration_since(began)) {
            self.send_own_output();
        }
        (waiting, ended)
    }

    /// A task has ended: the tasks that wait for its result run now, or go back if there is none.
    fn start_followers(&self, mut queue: MutexGuard<'_, Queue>, id: TaskId, given: Option<Input>) {
        let Some(given) = given else {
            let bounced = queue.pending.fail(&[id]);
            drop(queue);
            return self.bounce(bounced);
        };
        let ready = queue.pending.supply(id, || given.clone());
        // This thread runs one itself.
        for _ in 1..ready.len().min(queue.idle + 1) {
            self.work.notify_one();
        }
        for task in ready.into_iter().rev() {
            queue.tasks.push_front(task);
        }
    }

    fn outcome(&'static self, task: &mut Task, scope: &WorkerScope) -> Outcome {
        let mut inputs = match self.inputs(task) {
            Ok(inputs) => inputs,
            Err(cause) => return Outcome::Failed(Box::new(self.failure(task.id, 0, None, None, cause))),
        };
        let shared = |argument: &Argument<'_>| match argument {
            Argument::Shared { input, .. } => Some(Arc::clone(input)),
            _ => None,
        };
        let shared: SmallVec<[Arc<SharedInput>; 2]> = inputs.iter().filter_map(shared).collect();
        let body = &task.body;
        let mut uses: SmallVec<[u32; 4]> = SmallVec::from_elem(0, inputs.len());
        if !inputs.is_empty() {
            for op in Ops::new(body) {
                if let Ok(Op::Dependency(i)) = op
                    && let Some(n) = uses.get_mut(i)
                {
                    *n += 1;
                }
            }
        }
        let mut input = |i: usize| {
            let left = uses.get_mut(i)?;
            *left -= 1;
            let argument = inputs.get_mut(i)?;
            Some(match argument {
                // The last use moves the value out, so that the function may own it without a copy.
                _ if *left == 0 => std::mem::replace(argument, Argument::Taken),
                Argument::Value(value) => Argument::Value(value.clone()),
                Argument::Payload(payload) => Argument::Payload(payload.clone()),
                Argument::Shared { input, sole } => Argument::Shared { input: input.clone(), sole: *sole },
                Argument::Bytes(bytes) => Argument::Bytes(bytes),
                Argument::Taken => Argument::Taken,
            })
        };
        let id = task.id;
        let go_on = |record: &'static Record, key: u64| {
            end_fork();
            scope.step(record, key);
            true
        };
        let began = self.store.is_limited().then(|| (self.store.used_before(), Instant::now()));
        let ran = program::run(body, &mut input, go_on);
        end_fork();
        if let (Some((used, began)), Ok(Some((_, record)))) = (began, &ran) {
            self.store.ran(record, scope.thread, began.elapsed(), used);
        }
        if !shared.is_empty() {
            self.store.used(&shared);
        }
        match ran {
            Ok(Some((value, record))) => self.keep(task, value, record),
            Ok(None) => Outcome::Cancelled,
            Err(fault) => {
                let cause = encode::cause(fault.fault);
                let (name, key) = match fault.call {
                    Some((record, key)) => (Some(scope.name_of(record)), Some(key)),
                    None => (None, None),
                };
                Outcome::Failed(Box::new(self.failure(id, fault.step, name, key, cause)))
            }
        }
    }

    pub(super) fn inputs<'a>(&self, task: &mut Task) -> Result<SmallVec<[Argument<'a>; 4]>, Cause> {
        if task.inputs.is_empty() {
            return Ok(SmallVec::new());
        }
        std::mem::take(&mut task.inputs)
            .into_iter()
            .map(|input| match input {
                Input::Payload(payload) => Ok(Argument::Payload(payload)),
                Input::Found { input, sole } => Ok(Argument::Shared { input, sole }),
                Input::Shared { id, .. } => Err(Cause::Decode {
                    type_name: "input".to_string(),
                    reason: format!("the result of task {id} should have been sent before it and was not"),
                }),
                Input::Pending { id } => Err(Cause::Decode {
                    type_name: "input".to_string(),
                    reason: format!("the result of task {id} should be there and is not"),
                }),
                Input::Held { id, take } => {
                    let found =
                        if take { self.store.take(id) } else { self.store.get(id).map(|f| f.map(|(value, _)| value)) };
                    let undecodable = |reason| Cause::Decode { type_name: "input".to_string(), reason };
                    found
                        .map_err(undecodable)?
                        .map(Argument::Value)
                        .ok_or_else(|| undecodable(format!("task {id} should be in this worker's store and is not")))
                }
            })
            .collect()
    }

    /// Makes an outcome of a result: sent with it if it is small or asked for and there is room, else kept in the store.
    pub(super) fn keep(&self, task: &Task, value: Value, record: &'static Record) -> Outcome {
        let failed = |cause| {
            let name = Some(short_name(record.path()));
            Outcome::Failed(Box::new(self.failure(task.id, 0, name, None, cause)))
        };
        let bound = record.is_bound();
        let small = if bound { Ok(None) } else { encode::encode_small(&value, record) };
        match small {
            Ok(Some(payload)) => return Outcome::Value(payload),
            Ok(None) => {}
            Err(cause) => return failed(cause),
        }
        if task.deliver {
            match encode::encode(&self.pool, &value, record) {
                Ok(payload) => return Outcome::Value(payload),
                // It is kept, and sent once there is room, so that no thread waits for that.
                Err(NotSent::NoRoomNow(_)) => {}
                Err(NotSent::Never(cause)) => return failed(cause),
            }
        }
        let codec = record.result();
        let Size { bytes: nbytes, encoded } = match encode::own_code(codec, || codec.measure(&value)) {
            Ok(size) => size,
            Err(cause) => return failed(cause),
        };
        match self.store.put(task.id, value, record, nbytes) {
            Ok(()) => Outcome::Held { nbytes, encoded, bound },
            Err(reason) => failed(Cause::Resource { reason }),
        }
    }

    /// A task begins or ends to wait for tasks of its own; meanwhile another thread runs tasks instead.
    pub(crate) fn waiting(&'static self, begins: bool) {
        let mut queue = self.queue.lock();
        if !begins {
            queue.active += 1;
            drop(queue);
            self.supervisor.send(&FromWorker::Blocked(-1));
            return;
        }
        queue.active -= 1;
        let mut failed = None;
        if queue.idle > 0 {
            self.work.notify_one();
        } else {
            // Numbers are used again, because the control page shows only the first ones.
            let thread = queue.free_threads.pop().unwrap_or_else(|| {
                queue.next_thread += 1;
                queue.next_thread - 1
            });
            queue.active += 1;
            let spawned = std::thread::Builder::new()
                .name(format!("executor-{thread}"))
                .spawn(move || self.work_as_thread(thread));
            if spawned.is_err() {
                queue.active -= 1;
                queue.free_threads.push(thread);
            }
            failed = spawned.err();
        }
        drop(queue);
        // Without the lock: standard error may be full, and the threads that empty it need the lock.
        if let Some(e) = failed {
            log::error!("no thread to run what a task waits for: {e}");
        }
        self.send_finished();
        self.supervisor.send(&FromWorker::Blocked(1));
    }
}

impl From<CallError> for Cause {
    fn from(e: CallError) -> Self {
        encode::cause(Fault::Call(e))
    }
}
