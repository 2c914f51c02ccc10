//! One output of a submitted graph: what it is called, what is known of it, who waits for it, and its handle.

pub(crate) use super::Submission;
use super::context::decoding_for;
pub(crate) use super::waiter::{Waiter, wait_polling};
use crate::error::{Cause, Error, Result, TaskError};
use crate::graph::held::{Held, HeldResults};
use crate::graph::label::TaskLabel;
use crate::graph::node::Node;
use crate::host::footer;
use crate::ids::TaskId;
use crate::ipc::out_of_band::decode_with;
use crate::ipc::payload::Payload;
use crate::submission::reply::Reply;
use crate::task::call::guarded_serde;
use crate::task::wait::WaitKind;
use crate::task::{Data, Value, codec};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// What is known of one output.
#[derive(Debug)]
pub(crate) enum ResultState {
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

impl ResultState {
    pub(crate) fn is_done(&self) -> bool {
        !matches!(self, ResultState::Pending { .. })
    }

    pub(crate) fn is_here(&self) -> bool {
        matches!(self, ResultState::Value(_) | ResultState::Payload(_) | ResultState::Failed(_) | ResultState::Taken)
    }
}

/// A value that is in this process.
#[derive(Clone)]
pub(crate) enum LocalValue {
    Value(Value),
    Payload(Payload),
}

impl LocalValue {
    /// The value of an output of that submission.
    pub(crate) fn into_typed<T: Data>(self, of: &Submission, index: u32) -> Result<T> {
        let wrong = |reason: String| Error::WrongType {
            key: of.label(index).key(),
            wanted: std::any::type_name::<T>(),
            reason,
        };
        decoding_for(of.backend(), || self.into_data()).map_err(wrong)
    }

    /// The value, if it is a `T`.
    pub(crate) fn into_data<T: Data>(self) -> Result<T, String> {
        match self {
            LocalValue::Value(value) => value.take().ok_or_else(|| "the task made a value of another type".to_string()),
            LocalValue::Payload(payload) => decoded(&payload, codec::decode::<T>),
        }
    }
}

/// Decodes a payload, whose type's own code may panic.
fn decoded<T>(payload: &Payload, decode: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<T, String> {
    guarded_serde("Deserialize", || decode_with(payload.segments(), || decode(payload.content())))?
}

impl LocalValue {
    /// The value as its task's codec knows it.
    pub(crate) fn into_value(self, label: &TaskLabel) -> Result<Value> {
        let payload = match self {
            LocalValue::Value(value) => return Ok(value),
            LocalValue::Payload(payload) => payload,
        };
        let codec = label.codec();
        decoded(&payload, |content| codec.decode(content)).map_err(|reason| Error::WrongType {
            key: label.key(),
            wanted: codec.name(),
            reason,
        })
    }
}

/// The handle of one output. The last clone that is dropped releases the result.
pub(crate) struct ResultHandle {
    pub(crate) submission: Arc<Submission>,
    pub(crate) index: u32,
}

impl ResultHandle {
    /// The first handle of an output.
    pub(crate) fn new(submission: &Arc<Submission>, index: u32) -> Self {
        Self { submission: Arc::clone(submission), index }
    }

    /// Whether the other is the next of the same submission.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.submission, &other.submission) && self.index + 1 == other.index
    }

    /// A handle of a held result, if it is one of a submission's; all are.
    pub(crate) fn of(held: &Held) -> Option<Self> {
        let results: Arc<dyn Any + Send + Sync> = Arc::clone(held.results()) as _;
        let submission = results.downcast::<Submission>().ok()?;
        submission.handles(held.index()).add();
        Some(Self { submission, index: held.index() })
    }

    /// The handle of the output that this one is, if it is an earlier one. So there are no chains of them.
    pub(crate) fn first(self) -> Self {
        match self.submission.alias(self.index) {
            Some(earlier) => earlier.clone(),
            None => self,
        }
    }

    /// The same result as a node of later graphs.
    pub(crate) fn held(&self) -> Held {
        Held::new(Arc::clone(&self.submission) as _, self.index)
    }

    pub(crate) fn label(&self) -> TaskLabel {
        self.submission.label(self.index)
    }

    pub(crate) fn key(&self) -> String {
        self.label().key()
    }

    pub(crate) fn hash(&self) -> u128 {
        self.submission.hash(self.index)
    }

    /// Whether this is the answer to a later call that is equal to this one: a result, or a run under way with the same options.
    /// What has failed or was cancelled answers nobody but its own handles.
    pub(crate) fn answers(&self, node: &Node) -> bool {
        self.submission.with_state(self.index, |state| match state {
            ResultState::Remote { .. } | ResultState::Value(_) | ResultState::Payload(_) => true,
            ResultState::Pending { .. } => self.label().has_options_of(node),
            ResultState::Failed(_) | ResultState::Taken => false,
        })
    }

    /// The failure, if there is one by now.
    pub(crate) fn failure(&self) -> Option<TaskError> {
        self.submission.with_state(self.index, |state| match state {
            ResultState::Failed(error) => Some(error.clone()),
            _ => None,
        })
    }

    pub(crate) fn downgrade(&self) -> WeakHandle {
        WeakHandle { submission: Arc::downgrade(&self.submission), index: self.index }
    }

    /// Fails the output as cancelled. As all that is done with an output, it is done where the output is made: the numbers
    /// of another client's submissions mean others there.
    pub(crate) fn cancel(&self) {
        if self.submission.check_origin().is_ok() {
            self.submission.backend().cancel(&self.submission, &[self.index]);
        }
    }

    /// Runs the output's graph again, if it has failed.
    pub(crate) fn retry(&self) -> Result<()> {
        self.submission.check_origin()?;
        Arc::clone(self.submission.backend()).retry(&self.submission, self.index)
    }

    /// Why the output is not there yet.
    pub(crate) fn explain(&self) -> Reply {
        match self.submission.check_origin() {
            Ok(()) => self.submission.backend().explain(&self.submission, self.index),
            Err(closed) => Reply::ready(Err(closed)),
        }
    }

    /// Waits for the value. `None`: the time was over before.
    pub(crate) fn wait_here(&self, deadline: Option<Instant>) -> Option<Result<LocalValue, TaskError>> {
        // Of many that are waited for one after the other, most have come with the first.
        let mut found = self.submission.if_here(self.index);
        if found.is_some() {
            footer::settle();
            return found;
        }
        wait_polling(
            WaitKind::until(deadline),
            deadline,
            || self.submission.backend().poll(),
            || {
                found = self.submission.poll_here(self.index, Waiter::here);
                found.is_some()
            },
        );
        footer::settle();
        found
    }
}

impl Clone for ResultHandle {
    fn clone(&self) -> Self {
        self.submission.handles(self.index).add();
        Self { submission: Arc::clone(&self.submission), index: self.index }
    }
}

impl fmt::Debug for ResultHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({})", self.key())
    }
}

impl Drop for ResultHandle {
    fn drop(&mut self) {
        if self.submission.check_origin().is_err() {
            // What it stands for is another process's, and goes with this one.
            return std::mem::forget(Arc::clone(&self.submission));
        }
        self.submission.drop_handle(self.index);
    }
}

impl HeldResults for Submission {
    fn label(&self, index: u32) -> TaskLabel {
        Submission::label(self, index)
    }

    fn task_sent(&self, index: u32) -> Result<TaskId> {
        self.check_origin()?;
        let unsent = || {
            self.with_state(index, |state| match state {
                ResultState::Failed(e) => e.clone().into(),
                _ => Error::OtherClient { key: self.label(index).key() },
            })
        };
        Submission::task_sent(self, index).ok_or_else(unsent)
    }

    fn add_handle(&self, index: u32) {
        self.handles(index).add();
    }

    fn drop_handle(&self, index: u32) {
        if self.check_origin().is_ok() && self.handles(index).remove() {
            self.backend().release(self, &[index]);
            self.forget(index);
        }
    }
}

/// An output that somebody may still hold.
pub(crate) struct WeakHandle {
    submission: Weak<Submission>,
    index: u32,
}

impl WeakHandle {
    /// The submission, if it is there. Whoever has a lock keeps it until that is released: it may be the last to have it, and
    /// values of the user's go with it.
    pub(crate) fn submission(&self) -> Option<Arc<Submission>> {
        self.submission.upgrade()
    }

    /// A handle of the output, if there is another one.
    pub(crate) fn handle(&self, submission: &Arc<Submission>) -> Option<ResultHandle> {
        // Only then is there a handle: the drop of one that was never counted would take another one's count.
        let counted = submission.handles(self.index).add_to_some();
        counted.then(|| ResultHandle { submission: Arc::clone(submission), index: self.index })
    }

    pub(crate) fn is_released(&self, submission: &Submission) -> bool {
        submission.handles(self.index).is_released()
    }
}

/// Releases all outputs of a submission at once.
pub(crate) struct AllResults(pub(crate) Arc<Submission>);

impl Drop for AllResults {
    fn drop(&mut self) {
        if self.0.check_origin().is_err() {
            return std::mem::forget(Arc::clone(&self.0));
        }
        let all: Vec<u32> = (0..self.0.len() as u32).collect();
        self.0.backend().release(&self.0, &all);
    }
}

/// The error of a task, for the user.
pub(crate) fn cancelled(label: &TaskLabel) -> TaskError {
    TaskError::new(label.task_name(), None, Cause::Cancelled)
}

/// The error of a task that has no result because its client was closed.
pub(crate) fn closed(label: &TaskLabel, reason: &str) -> TaskError {
    TaskError::new(label.task_name(), None, Cause::Closed { reason: reason.to_string() })
}

/// The error of a task that has no result because no worker came up.
pub(crate) fn not_started(label: &TaskLabel, reason: &str) -> TaskError {
    TaskError::new(label.task_name(), None, Cause::NotStarted { reason: reason.to_string() })
}

/// Why a client that was shut down is closed.
pub(crate) const SHUT_DOWN: &str = "it was shut down";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exec::sync::SyncExecutor;
    use crate::task::function::{Record, TaskFunction};

    #[test]
    fn a_released_result_is_not_held_again() {
        fn record<F: TaskFunction<(u64,), u64>>(_: F) -> &'static Record {
            F::RECORD
        }
        let label = TaskLabel::plain(record(|x: u64| x), 1);
        let submission = Submission::of_values(0, SyncExecutor::new(0), vec![label]);
        let handle = ResultHandle::new(&submission, 0);
        let weak = handle.downgrade();
        drop(weak.handle(&submission).unwrap());
        assert!(!weak.is_released(&submission));
        drop(handle);
        for _ in 0..3 {
            assert!(weak.handle(&submission).is_none() && weak.is_released(&submission));
        }
    }
}
