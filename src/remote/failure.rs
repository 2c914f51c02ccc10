//! From failures, as the supervisor reports them, to errors with the names that the client knows.

use super::Remote;
use crate::error::name::TaskName;
use crate::error::{Error, TaskError};
use crate::graph::label::TaskLabel;
use crate::ipc::segment::SegmentError;
use crate::job::{FailedCall, Failure};
use std::sync::Arc;

impl Remote {
    /// The error that a failure is to this program: of an output, whose `own` it is or that needed what failed.
    pub(super) fn error(failure: &Failure, output: &TaskLabel, own: bool) -> TaskError {
        let task = match failure.call.as_ref().and_then(FailedCall::task_name) {
            Some(name) => name,
            None if own => output.task_name(),
            None => TaskName::unknown("task", format!("task-{}", failure.task)),
        };
        let error = TaskError::new(task, failure.worker.as_deref().map(Arc::from), failure.cause.clone());
        match failure.call {
            None if own => error,
            // It may be another call of the same task.
            _ => error.needed(output.task_name()),
        }
    }
}

impl From<SegmentError> for Error {
    fn from(e: SegmentError) -> Self {
        Error::Resource { resource: "shared memory".to_string(), reason: e.to_string() }
    }
}
