//! The threads that run tasks: from an input to a result that is kept or sent.

use super::encode::NotSent;
use super::queue::{Next, Queue};
use super::scope::WorkerScope;
use super::store::Made;
use super::{Worker, encode};
use crate::coordinator;
use crate::error::Cause;
use crate::fairness::last_of;
use crate::ids::{Attempt, TaskId};
use crate::ipc::batch::Batch;
use crate::ipc::clock::{TickMeter, ticks};
use crate::ipc::payload::SMALL;
use crate::ipc::start::end_fork;
use crate::job::{Completion, Input, Outcome};
use crate::message::Task;
use crate::submission::backend::Backend;
use crate::task::Value;
use crate::task::building::Building;
use crate::task::call::{Fault, guarded};
use crate::task::function::{Argument, CallError, Record, short_name};
use crate::task::parts::Parts;
use crate::task::program::{self, Op, Ops, StepFault};
use crate::task::run;
use crate::task::run_times;
use crate::task::shared_input::SharedInput;
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most results that are collected for one message.
const BATCH: usize = 128;
/// How long results may wait while short tasks run: a few times what it takes to send them, since other workers may wait for
/// them.
const LINGER: Duration = Duration::from_micros(50);
/// How long a thread goes on with tasks that are here before it looks whether a message has come: one that overtakes them
/// must not wait for the watcher.
const LOOK: Duration = Duration::from_micros(250);

impl Worker {
    pub(super) fn work_as_thread(&'static self, thread: usize) {
        let scope = Rc::new(WorkerScope::new(self, thread));
        let _entered = crate::submission::context::enter(scope.clone());
        let _sampled = self.sampled.register();
        let mut meter = TickMeter::start();
        let mut sent = ticks();
        let mut looked = sent;
        let mut look = false;
        // When the last task ended, if the next one was queued already: one reading of the clock serves both.
        let mut now = None;
        loop {
            match self.next(thread, look, &mut now) {
                Next::Leave => return,
                Next::Run(task) => {
                    let (suspect, overtakes) = (task.suspect, task.rank < last_of(task.rank));
                    if suspect {
                        // If it ends this process, nobody else is to be blamed for that.
                        self.send_finished();
                    }
                    let began = now.unwrap_or_else(ticks);
                    let (waiting, ended) = self.run(task, began, &scope, &mut meter);
                    now = Some(ended);
                    look = meter.between(looked, ended) > LOOK;
                    if look {
                        looked = ended;
                    }
                    if suspect || overtakes || waiting >= BATCH || meter.between(sent, ended) > LINGER {
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

    /// Runs a task, which begins at `began`, by [`ticks`]. Returns how many results wait to be sent, and when the task ended.
    fn run(&'static self, mut task: Task, began: u64, scope: &WorkerScope, meter: &mut TickMeter) -> (usize, u64) {
        let id = task.id;
        if task.alone {
            self.store.clear_out();
        }
        let attempt = Attempt { task: id, number: task.attempt };
        self.page.begin_task(scope.thread, attempt);
        scope.begin(attempt, task.name.take(), task.arrived, began);
        let mark = 0_u8;
        scope.show_from(&raw const mark as usize);
        let building = Building::of(&task.building);
        let _inside = building.enter();
        // Code of the user's runs also when values are decoded, encoded, sized and dropped.
        let run = || guarded(|| Ok(self.outcome(&mut task, scope)));
        let outcome = run::run(run, |run| self.run_ended(run)).unwrap_or_else(|fault| {
            let (name, key) = scope.call();
            Outcome::Failed(Box::new(self.failure(id, 0, name, key, encode::cause(fault))))
        });
        if !task.parts.is_empty() && !outcome.is_success() {
            self.forget_parts(&task);
        }
        let ended = ticks();
        let took = meter.between(began, ended);
        let run_us = took.as_micros().min(u128::from(u32::MAX)) as u32;
        // While the task still counts as running: it is the one to blame.
        if !self.capture.is_intact(took) {
            self.supervisor.end_robbed();
        }
        self.page.end_task(scope.thread);
        let mut queue = self.queue.lock();
        queue.running.retain(|(other, _)| *other != id);
        let cancelled = !queue.cancelled.is_empty() && queue.cancelled.remove(&id);
        let followed = !queue.pending.is_empty();
        let was_replaced = cancelled && {
            let waits = queue.unwanted.iter().position(|(other, _)| *other == id);
            waits.map(|at| queue.unwanted.swap_remove(at)).is_none()
        };
        let outcome = if cancelled { Outcome::Cancelled } else { outcome };
        let gives = outcome.is_success();
        // The end of a follower must not be reported before the end of this task: so the lock is kept.
        let queue = (followed && gives).then_some(queue);
        if was_replaced {
            self.reason_ends(&scope.place);
        }
        self.watcher.note();
        self.store.unpinned();
        scope.end(&outcome, ended);
        match &outcome {
            Outcome::Value(payload) => self.lend(payload),
            Outcome::Cancelled => {
                self.store.forget(&[id]);
                if !task.parts.is_empty() {
                    self.forget_parts(&task);
                }
            }
            Outcome::Parts(_) => outcome.payloads().for_each(|payload| self.lend(payload)),
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
        if self.capture.ran(took) {
            self.send_own_output();
        }
        (waiting, ended)
    }

    /// A run has ended that has left something, as a lock that it has.
    #[cold]
    fn run_ended(&'static self, run: u64) {
        // Where the supervisor has gone, so has what it had.
        let _ = self.client().coordinate(coordinator::Request::RunEnded { run });
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
        let id = task.id;
        let go_on = |record: &'static Record, key: u64| {
            end_fork();
            run::next(|run| self.run_ended(run));
            scope.step(record, key);
            true
        };
        let began = || self.store.is_limited().then(|| (self.store.used_before(), Instant::now()));
        let (began, ran) = match task.inputs.is_empty() {
            true => (began(), program::run(&task.body, |_| None, go_on)),
            false => match run_times::reading(run_times::WORTH_MEASURING, || self.inputs(task)) {
                // Inputs that leave the store are the task's from here on, and in memory already.
                Ok((inputs, bytes)) => {
                    scope.takes(bytes);
                    (began(), self.run_with(inputs, &task.body, go_on))
                }
                Err(cause) => return Outcome::Failed(Box::new(self.failure(id, 0, None, None, cause))),
            },
        };
        end_fork();
        if let (Some((used, began)), Ok(Some(_))) = (began, &ran) {
            self.store.ran(task, scope.thread, began.elapsed(), used);
        }
        match ran {
            Ok(Some((value, record))) if task.parts.is_empty() => {
                run_times::writing(|| self.keep(id, value, Made::whole(record), task.deliver))
            }
            Ok(Some((value, record))) => run_times::writing(|| self.keep_parts(task, &value, record)),
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

    /// Runs a program with the results of others.
    fn run_with<'a>(
        &self,
        mut inputs: SmallVec<[Argument<'a>; 4]>,
        body: &'a [u8],
        go_on: impl FnMut(&'static Record, u64) -> bool,
    ) -> Result<Option<(Value, &'static Record)>, StepFault> {
        let shared = |argument: &Argument<'_>| match argument {
            Argument::Shared { input, .. } => Some(Arc::clone(input)),
            _ => None,
        };
        let shared: SmallVec<[Arc<SharedInput>; 2]> = inputs.iter().filter_map(shared).collect();
        let mut uses: SmallVec<[u32; 4]> = SmallVec::from_elem(0, inputs.len());
        for op in Ops::new(body) {
            if let Ok(Op::Dependency(i)) = op
                && let Some(n) = uses.get_mut(i)
            {
                *n += 1;
            }
        }
        let input = |i: usize| {
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
        let ran = program::run(body, input, go_on);
        end_fork();
        if !shared.is_empty() {
            self.store.used(&shared);
        }
        ran
    }

    /// The inputs of a task, and what they take in bytes.
    pub(super) fn inputs<'a>(&self, task: &mut Task) -> Result<(SmallVec<[Argument<'a>; 4]>, u64), Cause> {
        let mut bytes = 0;
        let inputs = std::mem::take(&mut task.inputs)
            .into_iter()
            .map(|input| match input {
                Input::Payload(payload) => {
                    bytes += payload.nbytes();
                    Ok(Argument::Payload(payload))
                }
                Input::Found { input, sole } => {
                    bytes += input.nbytes();
                    Ok(Argument::Shared { input, sole })
                }
                Input::Shared { id, .. } => Err(Cause::Decode {
                    type_name: "input".to_string(),
                    reason: format!("the result of task {id} should have been sent before it and was not"),
                }),
                Input::Pending { id } => Err(Cause::Decode {
                    type_name: "input".to_string(),
                    reason: format!("the result of task {id} should be there and is not"),
                }),
                Input::Held { id, take } => {
                    bytes += self.store.bytes_of(id);
                    let found =
                        if take { self.store.take(id) } else { self.store.get(id).map(|f| f.map(|(value, _)| value)) };
                    let undecodable = |reason| Cause::Decode { type_name: "input".to_string(), reason };
                    found
                        .map_err(undecodable)?
                        .map(Argument::Value)
                        .ok_or_else(|| undecodable(format!("task {id} should be in this worker's store and is not")))
                }
            })
            .collect::<Result<_, _>>()?;
        Ok((inputs, bytes))
    }

    /// Makes an outcome of a result: sent with it if it is small or asked for and there is room, else kept in the store.
    pub(super) fn keep(&self, id: TaskId, value: Value, made: Made, deliver: bool) -> Outcome {
        let small = if made.by.is_bound() { Ok(None) } else { encode::encode_small(&value, made.codec) };
        match small {
            Ok(Some(payload)) => return Outcome::Value(payload),
            Ok(None) => {}
            Err(cause) => return self.not_kept(id, made, cause),
        }
        if deliver {
            match encode::encode(&self.pool, &value, made.codec) {
                Ok(payload) => return Outcome::Value(payload),
                // It is kept, and sent once there is room, so that no thread waits for that.
                Err(NotSent::NoRoomNow(_)) => {}
                Err(NotSent::Never(cause)) => return self.not_kept(id, made, cause),
            }
        }
        self.hold(id, value, made)
    }

    /// Keeps a result in the store.
    fn hold(&self, id: TaskId, value: Value, made: Made) -> Outcome {
        let codec = made.codec;
        let size = match encode::own_code(codec, || codec.measure(&value)) {
            Ok(size) => size,
            Err(cause) => return self.not_kept(id, made, cause),
        };
        match self.store.put(id, value, made, size) {
            Ok(()) => Outcome::Held { nbytes: size.bytes, encoded: size.encoded, bound: made.by.is_bound() },
            Err(reason) => self.not_kept(id, made, Cause::Resource { reason }),
        }
    }

    fn not_kept(&self, id: TaskId, made: Made, cause: Cause) -> Outcome {
        Outcome::Failed(Box::new(self.failure(id, 0, Some(short_name(made.by.path())), None, cause)))
    }

    /// Makes an outcome of a result that is taken apart: of each part that is wanted what [`keep`](Self::keep) makes of a
    /// whole, as far as that fits into one message; what else is small or asked for stays in the store and is fetched.
    fn keep_parts(&self, task: &Task, value: &Value, record: &'static Record) -> Outcome {
        let mut message = Batch::default();
        let mut parts = Vec::with_capacity(task.parts.len());
        for wanted in &task.parts {
            let id = TaskId { job: task.id.job, index: wanted.index };
            let made = Made { by: record, codec: record.part(wanted.place) };
            let outcome = match Parts::take(value, wanted.place) {
                Some(part) if message.fits(0, SMALL) => self.keep(id, part, made, wanted.deliver),
                Some(part) => self.hold(id, part, made),
                None => {
                    let (type_name, reason) =
                        (made.codec.name().to_string(), format!("there is no part {}", wanted.place));
                    let cause = Cause::Decode { type_name, reason };
                    Outcome::Failed(Box::new(self.failure(task.id, 0, None, None, cause)))
                }
            };
            match outcome {
                Outcome::Failed(mut failure) => {
                    // It is the maker that fails, and with it all parts.
                    failure.task = task.id;
                    return Outcome::Failed(failure);
                }
                outcome => {
                    outcome.payloads().for_each(|payload| message.add(payload.segments().len(), payload.bytes.len()));
                    parts.push((wanted.index, outcome));
                }
            }
        }
        Outcome::Parts(parts)
    }

    /// Drops what has been kept of a task's parts: they are worth nothing.
    fn forget_parts(&self, task: &Task) {
        let parts: Vec<_> = task.parts.iter().map(|part| TaskId { job: task.id.job, index: part.index }).collect();
        self.store.forget(&parts);
    }
}

impl From<CallError> for Cause {
    fn from(e: CallError) -> Self {
        encode::cause(Fault::Call(e))
    }
}
