//! Running graphs in this process.

pub(crate) mod context;
pub(crate) mod sync;
pub(crate) mod threads;

use crate::error::{Cause, ReturnedError, TaskError};
use crate::graph::node::{Arg, Kind, Node};
use crate::task::Value;
use crate::task::call::{Fault, call};
use crate::task::function::{CallError, Slot};
use smallvec::SmallVec;

/// Calls the function of a node. `next` gives the result of the next task among its arguments.
pub(crate) fn evaluate(node: &Node, next: &mut dyn FnMut() -> Value) -> Result<Value, Fault> {
    match &node.kind {
        Kind::Call { function, args, .. } => {
            let mut slots: SmallVec<[Slot<'_>; 4]> = SmallVec::with_capacity(args.len());
            for arg in args {
                slots.push(Slot::Value(argument(arg, next)?));
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
        Arg::Task(_) | Arg::Stream(_) => Ok(next()),
        Arg::Gather(record, args) => {
            let mut slots = Vec::with_capacity(args.len());
            for arg in args {
                slots.push(Slot::Value(argument(arg, next)?));
            }
            call(record, &mut slots)
        }
    }
}

/// The error that tells of a fault in a task of this process.
pub(crate) fn task_error(node: &Node, worker: &str, fault: Fault) -> TaskError {
    let cause = match fault {
        Fault::Panic { message, location, backtrace } => Cause::Panic { message, location, backtrace },
        Fault::Call(CallError::Returned { message, error, codec }) => {
            Cause::Returned(ReturnedError::here(message, codec.name(), error))
        }
        Fault::Call(CallError::Decode { type_name, reason }) => Cause::Decode { type_name, reason },
        Fault::Call(CallError::InputLost { reason }) => Cause::InputLost { reason },
    };
    TaskError::new(node.key(), node.name(), Some(worker.to_string()), None, cause)
}
