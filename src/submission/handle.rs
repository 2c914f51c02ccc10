//! One output of a submitted graph: what it is called, what is known of it, who waits for it, and its handle.

pub(crate) use super::Run;
pub(crate) use super::waiter::{Watcher, wait_helping};
use crate::error::{Cause, Error, Result, TaskError};
use crate::graph::label::Label;
use crate::ipc::out_of_band::decode_scope;
use crate::ipc::payload::Payload;
use crate::task::{Data, Value, codec};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// What is known of one output.
#[derive(Debug)]
pub(crate) enum Slot {
    /// Not done. `wanted`: its value is to come here as soon as it is.
    Pending {
        wanted: bool,
    },
    /// It is there, in a worker or with the supervisor; `asked`: its value is on the way here.
    Remote {
        nbytes: u64,
        asked: bool,
    },
    Value(Value),
    Payload(Payload),
    Failed(TaskError),
    /// It was here, and its only owner has it now.
    Taken,
}

impl Slot {
    pub(crate) fn is_done(&self) -> bool {
        !matches!(self, Slot::Pending { .. })
    }

    pub(crate) fn is_here(&self) -> bool {
        matches!(self, Slot::Value(_) | Slot::Payload(_) | Slot::Failed(_) | Slot::Taken)
    }
}

/// A value that is in this process.
pub(crate) enum Here {
    Value(Value),
    Payload(Payload),
}

impl Here {
    pub(crate) fn into_typed<T: Data>(self, label: impl Fn() -> Label) -> Result<T> {
        let wrong =
            |reason: String| Error::WrongType { key: label().key(), wanted: std::any::type_name::<T>(), reason };
        match self {
            Here::Value(value) => crate::task::unwrap_value(value)
                .ok_or_else(|| wrong("the task made a value of another type".to_string())),
            Here::Payload(payload) => {
                decode_scope(payload.segments(), || codec::decode::<T>(payload.content())).map_err(wrong)
            }
        }
    }
}

impl Here {
    /// The value as its task's codec knows it.
    pub(crate) fn into_value(self, label: &Label) -> Result<Value> {
        let payload = match self {
            Here::Value(value) => return Ok(value),
            Here::Payload(payload) => payload,
        };
        let codec = label.function.result();
        decode_scope(payload.segments(), || codec.decode(payload.content())).map_err(|reason| Error::WrongType {
            key: label.key(),
            wanted: codec.name(),
            reason,
        })
    }
}

/// The handle of one output. The last clone that goes lets the result go.
pub struct Output {
    pub(crate) run: Arc<Run>,
    pub(crate) slot: u32,
}

impl Output {
    /// The first handle of an output.
    pub(crate) fn new(run: &Arc<Run>, slot: u32) -> Self {
        Self { run: Arc::clone(run), slot }
    }

    /// Whether the other is the next of the same run.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.run, &other.run) && self.slot + 1 == other.slot
    }

    pub(crate) fn label(&self) -> Label {
        self.run.label(self.slot)
    }

    pub(crate) fn name(&self) -> String {
        self.label().name()
    }

    pub(crate) fn key(&self) -> String {
        self.label().key()
    }

    pub(crate) fn hash(&self) -> u128 {
        self.run.hash(self.slot)
    }

    pub(crate) fn downgrade(&self) -> WeakOutput {
        WeakOutput { run: Arc::downgrade(&self.run), slot: self.slot }
    }

    /// Waits for the value. `None`: the time was over before.
    pub(crate) fn wait_here(&self, deadline: Option<Instant>) -> Option<Result<Here, TaskError>> {
        let mut found = None;
        wait_helping(
            deadline,
            || self.run.backend().look(),
            || {
                found = self.run.poll_here(self.slot, Watcher::here);
                found.is_some()
            },
        );
        found
    }
}

impl Clone for Output {
    fn clone(&self) -> Self {
        self.run.handles(self.slot).add();
        Self { run: Arc::clone(&self.run), slot: self.slot }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({})", self.key())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.run.handles(self.slot).remove() {
            self.run.backend().release(&self.run, &[self.slot]);
        }
    }
}

/// An output that somebody may still hold.
pub(crate) struct WeakOutput {
    run: Weak<Run>,
    slot: u32,
}

impl WeakOutput {
    pub(crate) fn upgrade(&self) -> Option<Output> {
        let run = self.run.upgrade()?;
        run.handles(self.slot).add_to_some().then_some(Output { run, slot: self.slot })
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.run.upgrade().is_none_or(|run| run.handles(self.slot).is_gone())
    }
}

/// Lets go of all outputs of a run at once.
pub(crate) struct Whole(pub(crate) Arc<Run>);

impl Drop for Whole {
    fn drop(&mut self) {
        let all: Vec<u32> = (0..self.0.len() as u32).collect();
        self.0.backend().release(&self.0, &all);
    }
}

/// The error of a task, for the user.
pub(crate) fn cancelled(label: &Label) -> TaskError {
    TaskError::new(label.key(), label.name(), None, None, Cause::Cancelled)
}
