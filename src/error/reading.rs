//! What `{:?}` prints of an error: words for who reads it at the end of a program, or the structure with `{:#?}`.

use super::{Error, TaskError};
use crate::error::Cause;
use crate::task::backtrace::TaskBacktrace;
use std::error::Error as StdError;
use std::fmt;

/// The text of an error, those of its sources, and the backtrace of a panic if there is one.
fn for_reading(error: &dyn StdError, task: Option<&TaskError>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    for source in std::iter::successors(error.source(), |&error| error.source()) {
        write!(f, "\ncaused by: {source}")?;
    }
    match task.and_then(backtrace) {
        Some(backtrace) => write!(f, "\n{}", backtrace.trim_end()),
        None => Ok(()),
    }
}

fn backtrace(task: &TaskError) -> Option<&TaskBacktrace> {
    match task.cause() {
        Cause::Panic { backtrace, .. } => Some(backtrace).filter(|backtrace| !backtrace.is_empty()),
        _ => None,
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return for_reading(self, Some(self), f);
        }
        f.debug_struct("TaskError")
            .field("key", &self.key())
            .field("name", &self.name())
            .field("worker", &self.worker())
            .field("needed_by", &self.needed_by())
            .field("cause", self.cause())
            .finish()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return for_reading(self, self.task(), f);
        }
        match self {
            Self::Task(error) => f.debug_tuple("Task").field(error).finish(),
            Self::File(error) => f.debug_tuple("File").field(error).finish(),
            Self::Coordination(error) => f.debug_tuple("Coordination").field(error).finish(),
            Self::Publish(error) => f.debug_tuple("Publish").field(error).finish(),
            Self::Key(error) => f.debug_tuple("Key").field(error).finish(),
            Self::Picture(error) => f.debug_tuple("Picture").field(error).finish(),
            Self::Report(error) => f.debug_tuple("Report").field(error).finish(),
            Self::Collection(error) => f.debug_tuple("Collection").field(error).finish(),
            Self::Timeout { waited } => f.debug_struct("Timeout").field("waited", waited).finish(),
            Self::Deadlock { reason } => f.debug_struct("Deadlock").field("reason", reason).finish(),
            Self::Closed { reason } => f.debug_struct("Closed").field("reason", reason).finish(),
            Self::Invalid { what, why } => f.debug_struct("Invalid").field("what", what).field("why", why).finish(),
            Self::WrongType { key, wanted, reason } => {
                let mut shown = f.debug_struct("WrongType");
                shown.field("key", key).field("wanted", wanted).field("reason", reason).finish()
            }
            Self::OtherClient { key } => f.debug_struct("OtherClient").field("key", key).finish(),
            Self::Encode { key, type_name, reason } => {
                let mut shown = f.debug_struct("Encode");
                shown.field("key", key).field("type_name", type_name).field("reason", reason).finish()
            }
            Self::FunctionNotInExecutable { function } => {
                f.debug_struct("FunctionNotInExecutable").field("function", function).finish()
            }
            Self::NotInExecutable { library, executable } => {
                let mut shown = f.debug_struct("NotInExecutable");
                shown.field("library", library).field("executable", executable).finish()
            }
            Self::Spawn { reason } => f.debug_struct("Spawn").field("reason", reason).finish(),
            Self::Resource { resource, reason } => {
                f.debug_struct("Resource").field("resource", resource).field("reason", reason).finish()
            }
            Self::Connect { path, reason } => {
                f.debug_struct("Connect").field("path", path).field("reason", reason).finish()
            }
            Self::Cluster { name, reason } => {
                f.debug_struct("Cluster").field("name", name).field("reason", reason).finish()
            }
            Self::NotSampled { worker, why } => {
                f.debug_struct("NotSampled").field("worker", worker).field("why", why).finish()
            }
            Self::Unsupported { operation, mode } => {
                f.debug_struct("Unsupported").field("operation", operation).field("mode", mode).finish()
            }
        }
    }
}
