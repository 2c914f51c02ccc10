//! Running graphs in this process.

mod budget;
pub(crate) mod sync;
pub(crate) mod threads;

use crate::error::{Cause, ReturnedError, TaskError};
use crate::graph::Graph;
use crate::graph::label::TaskLabel;
use crate::graph::node::{Arg, Kind};
use crate::ids::SessionId;
use crate::ids::{JobId, TaskId};
use crate::ipc::ring::{Ended, Ring, Token};
use crate::task::Value;
use crate::task::call::{Fault, call, guarded};
use crate::task::function::{Argument, CallError};
use smallvec::SmallVec;

/// Records that a call of this process begins. `number` is that of the submission.
pub(crate) fn begin(ring: Ring<'_>, number: u32, graph: &Graph, id: u32, thread: usize, now: u64) -> Token {
    let task = TaskId { job: JobId { session: SessionId::CLIENT, number }, index: id };
    if let Some(layer) = &graph.layer {
        return ring.begin(task, layer.function().log_id(), (layer.hash(id) >> 64) as u64, thread, None, now);
    }
    let node = &graph.nodes[id as usize];
    let Kind::Call { function, options, .. } = &node.kind else { return ring.begin(task, 0, 0, thread, None, now) };
    let name = options.as_deref().and_then(|o| o.name.as_deref());
    ring.begin(task, function.log_id(), node.key_hash(), thread, name, now)
}

/// How a call ended, as it is recorded.
pub(crate) fn ended<T, E>(result: &Result<T, E>, late: bool) -> Ended {
    match result {
        _ if late => Ended::Cancelled,
        Ok(_) => Ended::Finished,
        Err(_) => Ended::Failed,
    }
}

/// Calls the function of a task. `next` gives the result of the next task among its arguments.
pub(crate) fn evaluate(graph: &Graph, id: u32, next: &mut dyn FnMut() -> Value) -> Result<Value, Fault> {
    if let Some(layer) = &graph.layer {
        // Copying the value is its own code, too.
        return guarded(|| layer.function().run(&mut [Argument::Value(layer.value(id))]).map_err(Fault::Call));
    }
    match &graph.nodes[id as usize].kind {
        Kind::Call { function, args, .. } => {
            let mut slots: SmallVec<[Argument<'_>; 4]> = SmallVec::with_capacity(args.len());
            for arg in args {
                slots.push(Argument::Value(argument(arg, next)?));
            }
            call(function, &mut slots)
        }
        Kind::Held(_) => Err(Fault::Call(CallError::Decode {
            type_name: "task".to_string(),
            reason: "a held result is no call".to_string(),
        })),
    }
}

fn argument(arg: &Arg, next: &mut dyn FnMut() -> Value) -> Result<Value, Fault> {
    match arg {
        Arg::Value(value, _) => Ok(value.clone()),
        Arg::Task(_) | Arg::Elements(_) => Ok(next()),
        Arg::Inline(record, args) => {
            let mut slots = Vec::with_capacity(args.len());
            for arg in args {
                slots.push(Argument::Value(argument(arg, next)?));
            }
            call(record, &mut slots)
        }
    }
}

/// The error that tells of a fault in a task of this process.
pub(crate) fn task_error(task: &TaskLabel, worker: &str, fault: Fault) -> TaskError {
    let cause = match fault {
        Fault::Panic { message, location, backtrace } => Cause::Panic { message, location, backtrace },
        Fault::Call(CallError::Returned { message, error, codec }) => {
            Cause::Returned(ReturnedError::here(message, codec.name(), error))
        }
        Fault::Call(CallError::Decode { type_name, reason }) => Cause::Decode { type_name, reason },
        Fault::Call(CallError::InputLost { reason }) => Cause::InputLost { reason },
    };
    TaskError::new(task.key(), task.name(), Some(worker.to_string()), None, cause)
}
