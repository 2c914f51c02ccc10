//! What the modes of this process do with one task: attempts with retries and a time limit, each recorded, and the
//! error that says what failed.

use super::coordination::LocalCoordination;
use crate::error::{Cause, TaskError};
use crate::events::EventKind;
use crate::events::journal::Step;
use crate::events::sources::RunSources;
use crate::graph::label::TaskLabel;
use crate::graph::node::{Arg, Kind};
use crate::graph::{Dag, Graph};
use crate::ids::{Attempt, JobId, SessionId, TaskId};
use crate::ipc::clock::ticks;
use crate::ipc::cpu_time;
use crate::ipc::ring::{Ended, Ring, RunDetails, Token};
use crate::profile::{self, RunningTask};
use crate::submission::handle::{ResultHandle, ResultState, cancelled};
use crate::task::Value;
use crate::task::call::{Fault, call, guarded};
use crate::task::context;
use crate::task::encode::across;
use crate::task::function::{Argument, CallError, Passing, Record};
use crate::task::parts::Parts;
use crate::task::run;
use crate::task::run_times;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A task of a graph, and the thread that runs it.
pub(super) struct GraphTask<'a> {
    pub(super) graph: &'a Graph,
    pub(super) id: u32,
    /// The number of the submission.
    pub(super) submission: u32,
    /// Where the thread records what it runs.
    pub(super) ring: Ring<'a>,
    /// The thread's number.
    pub(super) thread: usize,
    /// The thread's name in errors.
    pub(super) worker: &'a Arc<str>,
    /// Whether values are encoded and decoded again, as between processes.
    pub(super) encodes: bool,
    /// Where it is noted that a task is to run again.
    pub(super) sources: &'a RunSources,
    /// Where a run has what ends with it.
    pub(super) coordination: &'a LocalCoordination,
}

/// The inputs of a task, in a mode's store of results. Each is the result of another task, named by that task's number.
pub(super) trait Inputs {
    /// Why the task must not run: an input failed, or the task was cancelled.
    fn refusal(&self) -> Option<TaskError>;

    /// An input for an attempt that may not be the last one.
    fn copy(&mut self, input: u32) -> Value;

    /// Uses an input. Its last use takes the value, so that the function may own it without a copy.
    fn take(&mut self, input: u32) -> Value;

    /// Gives up one use of an input.
    fn release(&mut self, input: u32);

    /// Whether the task has been cancelled.
    fn is_cancelled(&self) -> bool;

    /// How many attempts at the task have been given up before their functions returned.
    fn given_up(&self) -> u32 {
        0
    }

    /// An attempt begins that is to end by then; `number` others were before.
    fn begin(&mut self, _by: Instant, _number: u32) {}

    /// It has ended. `false`: it had been given up, and what becomes of the task is for others to say.
    fn end(&mut self) -> bool {
        true
    }
}

/// Why an attempt gave no result.
enum Failed {
    Fault(Fault),
    /// It took longer than this limit.
    Late(Duration),
    /// The same, and that has been told before the function returned.
    GivenUp(Duration),
}

/// Runs a task until an attempt succeeds or none is left, and uses up its inputs. The task begins at `now`, by
/// [`ticks`]; afterwards `now` is its end: so tasks in a row need one reading of the clock each.
#[inline]
pub(super) fn execute(task: &GraphTask<'_>, inputs: &mut impl Inputs, now: &mut u64) -> Result<Value, TaskError> {
    if let Some(error) = inputs.refusal() {
        task.graph.refs(task.id).iter().for_each(|&input| inputs.release(input));
        return Err(error);
    }
    let result = match task.graph.options(task.id) {
        Some(o) if o.retries > 0 || o.timeout.is_some() => limited(task, inputs, o.retries, o.timeout, now),
        // Most tasks: what they do not need costs them nothing.
        _ => attempt(task, inputs, None, true, now),
    };
    result.map_err(|failed| error(task, failed))
}

/// Runs a task that has retries or a time limit.
#[cold]
fn limited(
    task: &GraphTask<'_>,
    inputs: &mut impl Inputs,
    retries: u32,
    timeout: Option<Duration>,
    now: &mut u64,
) -> Result<Value, Failed> {
    for number in inputs.given_up()..retries {
        match attempt(task, inputs, Some((timeout, number)), false, now) {
            Ok(value) => {
                task.graph.refs(task.id).iter().for_each(|&input| inputs.release(input));
                return Ok(value);
            }
            Err(given_up @ Failed::GivenUp(_)) => return Err(given_up),
            Err(_) => {
                let attempt = u16::try_from(number + 1).unwrap_or(u16::MAX);
                task.sources
                    .note(Step { session: None, kind: EventKind::Retried { key: task.label().key(), attempt } });
            }
        }
    }
    attempt(task, inputs, Some((timeout, retries)), true, now)
}

/// Calls the function of a task once, and records that. The last attempt uses up the inputs; others copy them. `limit`: how
/// long it may take, if there is a limit, and how many attempts there were before.
#[inline]
fn attempt(
    task: &GraphTask<'_>,
    inputs: &mut impl Inputs,
    limit: Option<(Option<Duration>, u32)>,
    last: bool,
    now: &mut u64,
) -> Result<Value, Failed> {
    let refs = task.graph.refs(task.id);
    let attempts_before = limit.map_or(0, |(_, number)| number);
    let limit = limit.and_then(|(limit, number)| Some((limit?, number)));
    let began = limit.map(|(limit, number)| (limit, number, Instant::now()));
    let deadline = began.and_then(|(limit, number, began)| Some((began.checked_add(limit)?, number)));
    if let Some((by, number)) = deadline {
        inputs.begin(by, number);
    }
    let began_at = *now;
    let token = task.begin(began_at, attempts_before);
    let mark = 0_u8;
    let _running = task.show(&raw const mark as usize);
    let mut used = 0;
    let run = || {
        context::with_deadline(deadline.map(|(by, _)| by), || {
            evaluate(task, &mut || {
                let input = refs[used];
                used += 1;
                if last { inputs.take(input) } else { inputs.copy(input) }
            })
        })
    };
    let result = run::run(run, |run| task.coordination.run_ended(run));
    let late = began.filter(|(limit, _, began)| began.elapsed() > *limit).map(|(limit, ..)| Failed::Late(limit));
    let late = match limit {
        Some((limit, _)) if !inputs.end() => Some(Failed::GivenUp(limit)),
        _ => late,
    };
    *now = ticks();
    let details = cpu_time::of_run(began_at, *now).map(|cpu| details(cpu, run_times::take().words(*now - began_at)));
    task.ring.end(token, ended(&result, late.is_some() || inputs.is_cancelled()), *now, details.as_ref());
    if last {
        // A fault while arguments were put together leaves some of them unused.
        refs[used..].iter().for_each(|&input| inputs.release(input));
    }
    match late {
        Some(late) => {
            // The value's own code runs here.
            drop(result);
            Err(late)
        }
        None => result.map_err(Failed::Fault),
    }
}

#[cold]
fn error(task: &GraphTask<'_>, failed: Failed) -> TaskError {
    let label = task.label();
    match failed {
        Failed::Fault(fault) => task_error(&label, task.worker, fault),
        Failed::Late(limit) | Failed::GivenUp(limit) => {
            let cause = Cause::TimedOut { limit };
            TaskError::new(label.task_name(), Some(Arc::clone(task.worker)), cause)
        }
    }
}

impl GraphTask<'_> {
    fn label(&self) -> TaskLabel {
        self.graph.label(self.id)
    }

    /// Records that an attempt begins.
    #[inline]
    fn begin(&self, now: u64, number: u32) -> Token {
        cpu_time::run_begins(now);
        let (ring, graph) = (self.ring, self.graph);
        let task = TaskId { job: JobId { session: SessionId::CLIENT, number: self.submission }, index: self.id };
        let attempt = Attempt { task, number: number.saturating_add(1).min(u16::MAX.into()) as u16 };
        let dag = match graph {
            Graph::Dag(dag) => dag,
            Graph::Map(map) => {
                let hash = (map.hash(self.id) >> 64) as u64;
                return ring.begin(attempt, map.function().log_id(), hash, self.thread, None, now);
            }
        };
        let node = &dag.nodes[self.id as usize];
        let Kind::Call { function, options, .. } = &node.kind else {
            return ring.begin(attempt, 0, 0, self.thread, None, now);
        };
        let name = options.as_deref().and_then(|o| o.name.as_deref());
        ring.begin(attempt, function.log_id(), node.key_hash(), self.thread, name, now)
    }

    /// Shows what the thread runs to whoever samples it. `mark`: an address in the stack frame that calls the task.
    #[inline]
    fn show(&self, mark: usize) -> Option<RunningTask> {
        match self.graph {
            Graph::Map(map) => Some(profile::begin(map.function().log_id(), None, mark)),
            Graph::Dag(dag) => match &dag.nodes[self.id as usize].kind {
                Kind::Call { function, options, .. } => {
                    let name = options.as_deref().and_then(|o| o.name.as_deref());
                    Some(profile::begin(function.log_id(), name, mark))
                }
                _ => None,
            },
        }
    }
}

/// What is recorded of a long run beside its times. Values that stay in this process are not measured.
fn details(cpu: Duration, times: [u64; 3]) -> RunDetails {
    RunDetails { cpu: cpu.as_nanos() as u64, times, ..RunDetails::default() }
}

/// The result of an earlier submission, which is done.
pub(super) fn result_of(handle: &ResultHandle) -> Result<Value, TaskError> {
    handle.submission.with_state(handle.index, |state| match state {
        ResultState::Value(value) => Ok(value.clone()),
        ResultState::Failed(e) => Err(e.clone()),
        _ => Err(cancelled(&handle.label())),
    })
}

/// How an attempt ended, as it is recorded.
fn ended<T, E>(result: &Result<T, E>, cancelled: bool) -> Ended {
    match result {
        _ if cancelled => Ended::Cancelled,
        Ok(_) => Ended::Finished,
        Err(_) => Ended::Failed,
    }
}

/// Calls the function of a task. `next` gives the results of tasks among its arguments, one after the other.
fn evaluate(task: &GraphTask<'_>, next: &mut dyn FnMut() -> Value) -> Result<Value, Fault> {
    let (id, encodes) = (task.id, task.encodes);
    let dag = match task.graph {
        Graph::Dag(dag) => dag,
        Graph::Map(map) => {
            // Cloning the value runs its own code, too.
            return guarded(|| {
                let (value, function) = (map.value(id), map.function());
                if !encodes {
                    return function.run(&mut [Argument::Value(value)]).map_err(Fault::Call);
                }
                result_of_call(function, function.run(&mut [Argument::Value(across(&value, map.codec())?)])?)
            });
        }
    };
    match &dag.nodes[id as usize].kind {
        Kind::Call { function, args, .. } => {
            let mut slots: SmallVec<[Argument<'_>; 4]> = SmallVec::with_capacity(args.len());
            for arg in args {
                slots.push(Argument::Value(argument(arg, encodes, next)?));
            }
            let value = call(function, &mut slots);
            match (dag.has_parts(id), encodes) {
                (false, false) => value,
                (false, true) => result_of_call(function, value?),
                (true, _) => take_apart(dag, id, value?, encodes.then_some(*function)),
            }
        }
        Kind::Part(_) | Kind::Held(_) => Err(malformed("a held result or a part of another is no call")),
    }
}

/// Takes the parts that somebody wants out of the result of a task.
#[cold]
fn take_apart(dag: &Dag, id: u32, value: Value, encodes: Option<&'static Record>) -> Result<Value, Fault> {
    guarded(move || {
        let mut parts = dag.parts(id).into_iter().flatten();
        // What nobody wants goes with the whole.
        let taken = parts.try_fold(TakenParts::new(), |mut taken, (id, place)| {
            let part = Parts::take(&value, place).ok_or_else(|| malformed("its result has other parts"))?;
            let part = match encodes {
                None => part,
                Some(function) => across(&part, function.part(place))?,
            };
            taken.push((id, part));
            Ok::<_, Fault>(taken)
        });
        taken.map(Passing::value)
    })
}

fn malformed(reason: &str) -> Fault {
    Fault::Call(CallError::Decode { type_name: "task".to_string(), reason: reason.to_string() })
}

/// The parts of a result that has been taken apart, by the tasks that stand for them.
type TakenParts = Vec<(u32, Value)>;

/// What becomes of the parts of the result of a task, now that it has ended.
pub(super) fn results_of_parts(
    graph: &Dag,
    id: u32,
    result: &Result<Value, TaskError>,
) -> Vec<(u32, Result<Value, TaskError>)> {
    match result {
        Ok(taken) => {
            let taken = Passing::<TakenParts>::take(taken).unwrap_or_default();
            taken.into_iter().map(|(part, value)| (part, Ok(value))).collect()
        }
        Err(error) => {
            let parts = graph.parts(id).into_iter().flatten();
            let name = |part: u32| TaskLabel::of(&graph.nodes[part as usize]).task_name();
            parts.map(|(part, _)| (part, Err(error.needed(name(part))))).collect()
        }
    }
}

/// The result of a call as another process would have it; as it is, where it is of no use there.
fn result_of_call(function: &Record, value: Value) -> Result<Value, Fault> {
    if function.is_bound() { Ok(value) } else { Ok(across(&value, function.result())?) }
}

fn argument(arg: &Arg, encodes: bool, next: &mut dyn FnMut() -> Value) -> Result<Value, Fault> {
    match arg {
        Arg::Value(value, codec) if encodes => across(value, codec).map_err(|e| match e {
            CallError::Encode { type_name, reason } => {
                Fault::Call(CallError::Encode { type_name, reason: format!("it is an argument: {reason}") })
            }
            e => Fault::Call(e),
        }),
        Arg::Value(value, _) => Ok(value.clone()),
        Arg::Task(_) | Arg::Elements(_) => Ok(next()),
        Arg::Inline(record, args) => {
            let mut slots = Vec::with_capacity(args.len());
            for arg in args {
                slots.push(Argument::Value(argument(arg, encodes, next)?));
            }
            call(record, &mut slots)
        }
    }
}

/// The error for a fault in a task of this process.
fn task_error(task: &TaskLabel, worker: &Arc<str>, fault: Fault) -> TaskError {
    let cause = Cause::from(fault);
    TaskError::new(task.task_name(), Some(Arc::clone(worker)), cause)
}
