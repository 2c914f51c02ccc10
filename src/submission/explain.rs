//! What a client knows itself of a task whose result is there, or never will be.

use crate::error::{Cause, TaskError};
use crate::graph::label::TaskLabel;
use crate::submission::Submission;
use crate::submission::handle::ResultState;
use crate::task::Value;
use crate::task::call::guarded_serde;
use swath_insight::TaskState;
use swath_insight::explain::{Place, TaskName, Why};

/// Where a task stands, and why.
pub(crate) type Stands = (TaskState, Why);

/// What is known of an output; none, while it is not done.
pub(crate) fn of_output(submission: &Submission, index: u32) -> Option<Stands> {
    let label = submission.label(index);
    let value = submission.with_state(index, |state| match state {
        ResultState::Pending { .. } => Err(None),
        ResultState::Failed(e) => Err(Some(failed(e, &label))),
        ResultState::Value(value) => Ok(value.clone()),
        ResultState::Remote { nbytes, .. } => Err(Some(stored(*nbytes, Place::Supervisor))),
        ResultState::Payload(payload) => Err(Some(stored(payload.nbytes(), Place::Program))),
        ResultState::Taken => Err(Some((TaskState::Released, Why::Released))),
    });
    match value {
        Err(stands) => stands,
        // What nothing counts has been given.
        Ok(_) if submission.counts().is_none() && submission.task_map().is_none() => {
            Some((TaskState::Memory, Why::Given))
        }
        Ok(value) => Some(kept(&value, &label)),
    }
}

fn stored(bytes: u64, place: Place) -> Stands {
    (TaskState::Memory, Why::Stored { worker: None, bytes: Some(bytes), place })
}

/// That a result is kept.
pub(crate) fn kept(value: &Value, label: &TaskLabel) -> Stands {
    // The value's own code runs here, under no lock.
    let bytes = guarded_serde("Serialize", || label.codec().size(value)).ok();
    (TaskState::Memory, Why::Stored { worker: None, bytes, place: Place::Program })
}

/// That a task failed or was cancelled, itself or with another one.
pub(crate) fn failed(error: &TaskError, label: &TaskLabel) -> Stands {
    let other = (error.key() != label.key()).then(|| TaskName::new(error.name(), error.key()));
    match error.cause() {
        Cause::Cancelled => (TaskState::Cancelled, Why::Cancelled { by: other }),
        cause => {
            let text = cause.to_string();
            let error = text.strip_prefix("failed: ").map_or(text.clone(), str::to_string);
            (TaskState::Failed, Why::Failed { error, root: other })
        }
    }
}

/// What a task is called.
pub(crate) fn called(label: &TaskLabel) -> TaskName {
    TaskName::new(label.name(), label.key())
}
