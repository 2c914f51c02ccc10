//! Why a task has no result: which task, where it ran, and what happened.

use super::death::{DeathCause, DeathRecord};
use super::name::TaskName;
use super::returned::ReturnedError;
use crate::task::Data;
use crate::task::backtrace::TaskBacktrace;
use crate::task::call::Fault;
use crate::task::function::CallError;
use crate::units::HumanBytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a task has no result: which task, where it ran, and what happened.
///
/// `{}` says it in one line, `{:?}` also what its sources say, each in a line, and the backtrace of a panic; `{:#?}` shows
/// the structure.
#[derive(Clone)]
pub struct TaskError(Arc<Inner>);

enum Inner {
    Failed(Failed),
    /// A result that needs a failed task. `error` is that task's own.
    Needed {
        error: TaskError,
        by: TaskName,
    },
}

/// One task that failed.
struct Failed {
    task: TaskName,
    worker: Option<Arc<str>>,
    cause: Cause,
}

impl TaskError {
    pub(crate) fn new(task: TaskName, worker: Option<Arc<str>>, cause: Cause) -> Self {
        Self(Arc::new(Inner::Failed(Failed { task, worker, cause })))
    }

    fn failed(&self) -> &Failed {
        match &*self.0 {
            Inner::Failed(failed) => failed,
            Inner::Needed { error, .. } => error.failed(),
        }
    }

    /// Key of the task that failed, for example `parse-90c1e3f2d1b86e55`.
    #[must_use]
    pub fn key(&self) -> &str {
        self.failed().task.key()
    }

    /// Name of the task: its own, or its function's.
    #[must_use]
    pub fn name(&self) -> &str {
        self.failed().task.name()
    }

    /// The worker it ran on, if it ran.
    #[must_use]
    pub fn worker(&self) -> Option<&str> {
        self.failed().worker.as_deref()
    }

    /// Key of the result that was asked for, where that is another task, which needs the failed one.
    #[must_use]
    pub fn needed_by(&self) -> Option<&str> {
        match &*self.0 {
            Inner::Failed(_) => None,
            Inner::Needed { by, .. } => Some(by.key()).filter(|key| *key != self.key()),
        }
    }

    /// What happened.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.failed().cause
    }

    /// Where the task panicked: the functions that led there, if `RUST_BACKTRACE=1` was set where it ran.
    #[must_use]
    pub fn backtrace(&self) -> Option<&TaskBacktrace> {
        match self.cause() {
            Cause::Panic { backtrace, .. } => Some(backtrace).filter(|backtrace| !backtrace.is_empty()),
            _ => None,
        }
    }

    /// The error that the task function returned, if it is an `E` and was kept: with
    /// [`keep_error`](crate::DelayedFn::keep_error), or in a [`KeepError`](crate::KeepError). A text comes back as a `String`
    /// without.
    ///
    /// ```
    /// use swath::{Client, try_delayed};
    /// fn parse(s: String) -> Result<i64, String> {
    ///     s.parse().map_err(|e| format!("{s}: {e}"))
    /// }
    /// let client = Client::sync();
    /// let error = client.compute(&try_delayed(parse).call("seven")).unwrap_err();
    /// let returned: String = error.task().unwrap().downcast().unwrap();
    /// assert!(returned.starts_with("seven: invalid digit"));
    /// ```
    #[must_use]
    pub fn downcast<E: Data>(&self) -> Option<E> {
        match self.cause() {
            Cause::Returned(e) => e.downcast(),
            _ => None,
        }
    }

    /// The same failure, as that of a result which needs the failed task.
    pub(crate) fn needed(&self, by: TaskName) -> Self {
        let error = match &*self.0 {
            Inner::Failed(_) => self.clone(),
            Inner::Needed { error, .. } => error.clone(),
        };
        Self(Arc::new(Inner::Needed { error, by }))
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, name) = (self.key(), self.name());
        write!(f, "task {key}")?;
        if !key.starts_with(name) {
            write!(f, " ({name})")?;
        }
        if let Some(worker) = self.worker() {
            write!(f, " on {worker}")?;
        }
        write!(f, " {}", self.cause())?;
        if let Some(by) = self.needed_by() {
            write!(f, " (needed by {by})")?;
        }
        Ok(())
    }
}

impl std::error::Error for TaskError {
    /// The source of the error that the task function returned: the text of that error itself is in this one's.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.cause() {
            Cause::Returned(error) => error.source(),
            _ => None,
        }
    }
}

/// What happened to a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cause {
    /// Its function panicked.
    Panic {
        /// What the panic said.
        message: String,
        /// File, line and column.
        location: String,
        /// The backtrace; empty unless `RUST_BACKTRACE=1` was set where it ran.
        backtrace: TaskBacktrace,
    },
    /// Its function returned `Err`.
    Returned(ReturnedError),
    /// The worker process under it died, as often as there are records.
    WorkerDied(Vec<DeathRecord>),
    /// It needs more memory than a worker has: its worker died for want of memory, and so did the next one, where it had
    /// all of the memory for itself.
    MemoryLimit {
        /// The limit of a worker in bytes.
        limit: u64,
        /// The most memory that was seen in use while it ran, in bytes.
        peak: u64,
        /// The deaths.
        records: Vec<DeathRecord>,
    },
    /// One attempt took longer than the task's timeout.
    TimedOut {
        /// The timeout.
        #[serde(with = "milliseconds")]
        limit: Duration,
    },
    /// It was cancelled.
    Cancelled,
    /// Its result could not be encoded for another process.
    Encode {
        /// Type of the result.
        type_name: String,
        /// What its `Serialize` says.
        reason: String,
    },
    /// An input or the result could not be decoded.
    Decode {
        /// Type of the value.
        type_name: String,
        /// What its `Deserialize` says.
        reason: String,
    },
    /// Something the system has only so much of was used up.
    Resource {
        /// What, and what to change.
        reason: String,
    },
    /// An input that lived with another worker was lost again and again while it was read.
    InputLost {
        /// What happened.
        reason: String,
    },
    /// No worker can ever run it.
    Infeasible {
        /// What it asks for, and what there is.
        reason: String,
    },
    /// The client was closed, or its cluster went away, before it was done.
    Closed {
        /// What happened.
        reason: String,
    },
    /// A list that it was to unpack has another number of items.
    WrongLength {
        /// How many there were to be.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// No worker came up to run it: [`worker_init`](crate::Builder::worker_init) failed for too long. Whoever waits for the
    /// result gets [`Error::Spawn`](crate::Error::Spawn).
    NotStarted {
        /// What happened.
        reason: String,
    },
}

/// Of a call in this process.
impl From<Fault> for Cause {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Panic { message, location, backtrace } => Self::Panic { message, location, backtrace },
            Fault::Call(CallError::Returned(error)) => Self::Returned(ReturnedError::local(*error)),
            Fault::Call(CallError::Encode { type_name, reason }) => Self::Encode { type_name, reason },
            Fault::Call(CallError::Decode { type_name, reason }) => Self::Decode { type_name, reason },
            Fault::Call(CallError::InputLost { reason }) => Self::InputLost { reason },
            Fault::Call(CallError::WrongLength { expected, found }) => Self::WrongLength { expected, found },
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic { message, location, .. } => write!(f, "panicked at {location}: {message}"),
            Self::Returned(e) => write!(f, "failed: {e}"),
            Self::WorkerDied(records) => {
                write!(f, "lost its worker {} time(s)", records.len())?;
                for record in records {
                    write!(f, "; {record}")?;
                }
                Ok(())
            }
            Self::MemoryLimit { limit, peak, records } => {
                let (limit, peak) = (HumanBytes(*limit), HumanBytes(*peak));
                if records.last().is_some_and(|record| record.cause == DeathCause::OutOfMemory) {
                    write!(
                        f,
                        "needs more memory than the machine, or a control group, has, also when nothing else runs: "
                    )?;
                    write!(f, "{peak} were seen in use; make it smaller pieces, or give it more")?;
                    return records.iter().try_for_each(|record| write!(f, "; {record}"));
                }
                write!(f, "needs more memory than a worker has, also when it runs alone: {peak} were seen in use of ")?;
                write!(f, "{limit}; raise `memory_limit`, or make it smaller pieces")?;
                records.iter().try_for_each(|record| write!(f, "; {record}"))
            }
            Self::TimedOut { limit } => write!(f, "took longer than its timeout of {limit:?}"),
            Self::Cancelled => write!(f, "was cancelled"),
            Self::Encode { type_name, reason } => {
                write!(f, "has a result (`{type_name}`) that cannot be encoded: {reason}")
            }
            Self::Decode { type_name, reason } => write!(f, "met a `{type_name}` that cannot be decoded: {reason}"),
            Self::Resource { reason } => write!(f, "found no room: {reason}"),
            Self::InputLost { reason } => write!(f, "lost an input: {reason}"),
            Self::Infeasible { reason } => write!(f, "can never run: {reason}"),
            Self::Closed { reason } => write!(f, "has no result: {reason}"),
            Self::NotStarted { reason } => write!(f, "has no worker: {reason}"),
            Self::WrongLength { expected, found } => {
                write!(f, "got a list of {found} items, which was to be unpacked into {expected}; say how many it has")
            }
        }
    }
}

/// A duration as whole milliseconds.
mod milliseconds {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DeathCause;
    use crate::task::returned::Returned;

    /// What is written for a cause, by variant and field. Processes of one version must agree on it.
    #[derive(Serialize)]
    enum Layout {
        Panic {
            message: String,
            location: String,
            backtrace: Option<(u64, Vec<u64>)>,
        },
        Returned {
            message: String,
            own: u64,
            sources: Vec<String>,
            debug: String,
            type_name: String,
            value: Option<Vec<u8>>,
        },
        WorkerDied(Vec<DeathRecord>),
        MemoryLimit {
            limit: u64,
            peak: u64,
            records: Vec<DeathRecord>,
        },
        TimedOut {
            limit_ms: u64,
        },
        Cancelled,
        Encode {
            type_name: String,
            reason: String,
        },
        Decode {
            type_name: String,
            reason: String,
        },
        Resource {
            reason: String,
        },
        InputLost {
            reason: String,
        },
        Infeasible {
            reason: String,
        },
        Closed {
            reason: String,
        },
        WrongLength {
            expected: u64,
            found: u64,
        },
        NotStarted {
            reason: String,
        },
    }

    fn bytes(of: &impl Serialize) -> Vec<u8> {
        bincode::serde::encode_to_vec(of, bincode::config::standard()).expect("encodes")
    }

    #[test]
    fn the_encoding_of_each_cause_is_pinned() {
        let text = |s: &str| s.to_string();
        let records =
            || vec![DeathRecord { worker: text("w"), pid: 300, cause: DeathCause::Signal(9), ..Default::default() }];
        let reason = || text("why");
        let value = Some(vec![1, 2, 255]);
        let sources = vec![text("s")];
        let (own, debug) = (text("m"), text("d"));
        let error = Returned { text: own, place: None, sources: sources.clone(), debug, type_name: "t", value: None };
        let returned = ReturnedError::encoded(error, value.clone());
        let limit = Duration::from_millis(70_000);
        let all = [
            (
                Cause::Panic { message: text("m"), location: text("l"), backtrace: TaskBacktrace::of(5, vec![300]) },
                Layout::Panic { message: text("m"), location: text("l"), backtrace: Some((5, vec![300])) },
            ),
            (
                Cause::Returned(returned),
                Layout::Returned { message: text("m"), own: 1, sources, debug: text("d"), type_name: text("t"), value },
            ),
            (Cause::WorkerDied(records()), Layout::WorkerDied(records())),
            (
                Cause::MemoryLimit { limit: 1, peak: 1 << 40, records: records() },
                Layout::MemoryLimit { limit: 1, peak: 1 << 40, records: records() },
            ),
            (Cause::TimedOut { limit }, Layout::TimedOut { limit_ms: 70_000 }),
            (Cause::Cancelled, Layout::Cancelled),
            (
                Cause::Encode { type_name: text("t"), reason: reason() },
                Layout::Encode { type_name: text("t"), reason: reason() },
            ),
            (
                Cause::Decode { type_name: text("t"), reason: reason() },
                Layout::Decode { type_name: text("t"), reason: reason() },
            ),
            (Cause::Resource { reason: reason() }, Layout::Resource { reason: reason() }),
            (Cause::InputLost { reason: reason() }, Layout::InputLost { reason: reason() }),
            (Cause::Infeasible { reason: reason() }, Layout::Infeasible { reason: reason() }),
            (Cause::Closed { reason: reason() }, Layout::Closed { reason: reason() }),
            (Cause::WrongLength { expected: 3, found: 300 }, Layout::WrongLength { expected: 3, found: 300 }),
            (Cause::NotStarted { reason: reason() }, Layout::NotStarted { reason: reason() }),
        ];
        for (number, (cause, layout)) in all.iter().enumerate() {
            let encoded = bytes(cause);
            assert_eq!(encoded, bytes(layout), "{cause:?}");
            assert_eq!(usize::from(encoded[0]), number, "{cause:?}");
            let (back, used): (Cause, usize) =
                bincode::serde::decode_from_slice(&encoded, bincode::config::standard()).expect("decodes");
            assert_eq!(used, encoded.len());
            assert_eq!(format!("{back:?}"), format!("{cause:?}"));
        }
        assert_eq!(bytes(&all[1].0), [1, 1, b'm', 1, 1, 1, b's', 1, b'd', 1, b't', 1, 3, 1, 2, 255]);
        assert_eq!(bytes(&all[4].0), [4, 252, 112, 17, 1, 0]);
    }
}
