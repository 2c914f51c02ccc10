//! From failures, as the supervisor reports them, to errors with the names that the client knows.

use super::Remote;
use crate::error::{Error, TaskError};
use crate::graph::label::TaskLabel;
use crate::graph::node;
use crate::ipc::segment::SegmentError;
use crate::job::Failure;

impl Remote {
    /// The error that a failure is to this program: of an output, whose `own` it is or that needed what failed.
    pub(super) fn error(failure: &Failure, output: &TaskLabel, own: bool) -> TaskError {
        let call = failure.call.as_ref().and_then(|call| Some((call.name()?, call.key)));
        let (key, name) = match call {
            Some((name, key)) => (node::key(&name, key), name),
            None if own => (output.key(), output.name()),
            None => (format!("task-{}", failure.task), "task".to_string()),
        };
        TaskError::new(key, name, failure.worker.clone(), Some(output.key()), failure.cause.clone())
    }
}

impl From<SegmentError> for Error {
    fn from(e: SegmentError) -> Self {
        Error::Resource { resource: "shared memory".to_string(), reason: e.to_string() }
    }
}
