//! What can go wrong, and what the caller is told.

mod coordination;
pub(crate) mod death;
pub(crate) mod file;
pub(crate) mod logged;
pub(crate) mod name;
mod printed;
mod publish;
mod reading;
mod returned;
pub(crate) mod task;
pub(crate) mod words;

pub use crate::task::backtrace::TaskBacktrace;
pub use coordination::CoordinationError;
pub use death::{DeathCause, DeathRecord};
use file::FileError;
pub use printed::{LogLine, OutputStream};
pub use publish::PublishError;
pub use returned::ReturnedError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub use swath_insight::explain::KeyError;
pub use swath_insight::picture::PictureError;
use swath_insight::profile::ProfileOff;
pub use swath_insight::report::ReportError;
pub use task::{Cause, TaskError};

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation has no result.
///
/// `{}` says it in one line. `{:?}` is for reading, too: behind that line it has what each
/// [source](std::error::Error::source) says, and the backtrace of a panic, so that a `fn main() -> swath::Result<()>` tells
/// what happened. `{:#?}` shows the structure.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A task failed, was cancelled or lost its workers.
    #[error(transparent)]
    Task(TaskError),
    /// The wait was over before the result was there.
    #[error("no result within {waited:?}")]
    Timeout {
        /// How long was waited.
        waited: Duration,
    },
    /// A task would wait for what waits for it: for the end of a worker, for example, that is not to end before a task there
    /// has, which waits for this one. Nobody waits any more.
    #[error("this wait would never end: {reason}")]
    Deadlock {
        /// Who waits for whom, and what to do instead.
        reason: String,
    },
    /// The client has been shut down, or its cluster has ended.
    #[error("the client is closed: {reason}")]
    Closed {
        /// Why.
        reason: String,
    },
    /// An argument or setting makes no sense.
    #[error("bad value for {what}: {why}")]
    Invalid {
        /// The argument, option or environment variable.
        what: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// The value of a future has another type than the one asked for.
    #[error("{key} does not hold a `{wanted}`: {reason}")]
    WrongType {
        /// Key of the task.
        key: String,
        /// The type that was asked for.
        wanted: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// A value belongs to another client.
    #[error("{key} lives with another client; gather it there and pass the value")]
    OtherClient {
        /// Key of the task.
        key: String,
    },
    /// An argument could not be encoded for another process.
    #[error("an argument of {key} (`{type_name}`) cannot be sent to another process: {reason}")]
    Encode {
        /// Key of the task.
        key: String,
        /// Type of the argument.
        type_name: String,
        /// What its `Serialize` says.
        reason: String,
    },
    /// A task function lives in a shared library, where worker processes cannot find it.
    #[error("`{function}` is not part of this executable, so worker processes cannot call it; link it statically")]
    FunctionNotInExecutable {
        /// Path of the function.
        function: String,
    },
    /// swath itself lives in a shared library: an extension module, a plugin, a cell of a notebook. Worker processes are the
    /// executable, started again, which would run that from its beginning. Nothing has been started.
    #[error(
        "swath is part of the shared library `{}`, and worker processes would be the executable `{}`, started again: use \
         `Client::threads` or `Client::sync`, or have a program of its own, which links swath, run the tasks",
        library.display(), executable.display()
    )]
    NotInExecutable {
        /// The library.
        library: PathBuf,
        /// The executable of this process.
        executable: PathBuf,
    },
    /// Worker processes could not be started or do not come up, or [`worker_init`](crate::Builder::worker_init) has failed.
    #[error("cannot start workers: {reason}")]
    Spawn {
        /// What failed and what to change.
        reason: String,
    },
    /// The system does not give something: it is used up, or it is not there.
    #[error("{resource}: {reason}")]
    Resource {
        /// What is not given.
        resource: String,
        /// The details, and the setting that changes it.
        reason: String,
    },
    /// No local cluster answers there.
    #[error("cannot connect to the local cluster at {}: {reason}", path.display())]
    Connect {
        /// Path of its socket.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// A local cluster refuses, or cannot be what it should.
    #[error("local cluster `{name}`: {reason}")]
    Cluster {
        /// Its name.
        name: String,
        /// What happened, and what to change.
        reason: String,
    },
    /// A lock, semaphore, event, queue or variable is not what the caller takes it for.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),
    /// A result cannot be published under a name, or not be had by it.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A file cannot be listed, or not be used as asked.
    #[error(transparent)]
    File(#[from] FileError),
    /// No task has a key that begins so, or several have.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no picture of a graph.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// There is no report of a run.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A collection cannot be computed, or its chunks cannot be put together: an error of its own type.
    #[error(transparent)]
    Collection(Arc<dyn std::error::Error + Send + Sync>),
    /// Where tasks run, nothing is sampled, see [`client::profile`](crate::client::profile).
    #[error("nothing is sampled in {worker}: {why}")]
    NotSampled {
        /// The worker, or what an in-process mode calls the place where tasks run.
        worker: String,
        /// Why.
        why: ProfileOff,
    },
    /// Operation that this mode does not have.
    #[error("{operation} is not available in {mode} mode")]
    Unsupported {
        /// What was asked for.
        operation: &'static str,
        /// The mode of the client.
        mode: &'static str,
    },
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        match error.cause() {
            Cause::NotStarted { reason } => Self::Spawn { reason: reason.clone() },
            _ => Self::Task(error),
        }
    }
}

impl Error {
    /// The same error of a value, where it is that of this argument, option or variable.
    pub(crate) fn about(self, name: &str) -> Self {
        match self {
            Self::Invalid { why, .. } => Self::invalid(name, why),
            other => other,
        }
    }

    /// The failed task, where a task is the reason.
    #[must_use]
    pub fn task(&self) -> Option<&TaskError> {
        match self {
            Self::Task(e) => Some(e),
            _ => None,
        }
    }

    /// An error of a collection's own type, see [`collection`](crate::collection).
    ///
    /// ```
    /// #[derive(Debug, thiserror::Error, PartialEq)]
    /// #[error("{0} axes are too many")]
    /// struct TooManyAxes(usize);
    ///
    /// let error = swath::Error::collection(TooManyAxes(40));
    /// assert_eq!(error.to_string(), "40 axes are too many");
    /// assert_eq!(error.downcast_ref::<TooManyAxes>(), Some(&TooManyAxes(40)));
    /// ```
    pub fn collection(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Collection(Arc::new(error))
    }

    /// The error of a collection, if it is an `E`. For what a task function returned there is
    /// [`TaskError::downcast`].
    #[must_use]
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Collection(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// Whether the work was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.task().is_some_and(|e| matches!(e.cause(), Cause::Cancelled))
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into() }
    }
}
