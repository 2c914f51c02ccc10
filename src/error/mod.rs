//! What can go wrong, and what the caller is told.

pub(crate) mod file;

use crate::task::codec::{self};
use crate::task::{Data, Value};
use crate::units::HumanBytes;
use file::FileError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A task failed, was cancelled or lost its workers.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The wait was over before the result was there.
    #[error("no result within {waited:?}")]
    Timeout {
        /// How long was waited.
        waited: Duration,
    },
    /// The client has been shut down, or its cluster is gone.
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
    NotInExecutable {
        /// Path of the function.
        function: String,
    },
    /// Worker processes could not be started or do not come up.
    #[error("cannot start worker processes: {reason}")]
    Spawn {
        /// What failed and what to change.
        reason: String,
    },
    /// Something the system has only so much of is used up.
    #[error("{resource} is used up: {reason}")]
    Resource {
        /// What is used up.
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
    /// A file cannot be listed, or not be used as asked.
    #[error(transparent)]
    File(#[from] FileError),
    /// Operation that this mode does not have.
    #[error("{operation} is not available in {mode} mode")]
    Unsupported {
        /// What was asked for.
        operation: &'static str,
        /// The mode of the client.
        mode: &'static str,
    },
}

impl Error {
    /// The failed task, where a task is the reason.
    pub fn task(&self) -> Option<&TaskError> {
        match self {
            Self::Task(e) => Some(e),
            _ => None,
        }
    }

    /// Whether the work was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.task().is_some_and(|e| matches!(e.cause(), Cause::Cancelled))
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into() }
    }
}

/// Why a task has no result: which task, where it ran, and what happened.
#[derive(Clone, Debug)]
pub struct TaskError(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: String,
    name: String,
    worker: Option<String>,
    needed_by: Option<String>,
    cause: Cause,
}

impl TaskError {
    pub(crate) fn new(
        key: String,
        name: String,
        worker: Option<String>,
        needed_by: Option<String>,
        cause: Cause,
    ) -> Self {
        let needed_by = needed_by.filter(|k| *k != key);
        Self(Arc::new(Inner { key, name, worker, needed_by, cause }))
    }

    /// Key of the task that failed, for example `parse-90c1e3f2d1b86e55`.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// Name of the task: its own, or its function's.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The worker it ran on, if it ran.
    pub fn worker(&self) -> Option<&str> {
        self.0.worker.as_deref()
    }

    /// Key of the result that was asked for, where that is another task, which needs the failed one.
    pub fn needed_by(&self) -> Option<&str> {
        self.0.needed_by.as_deref()
    }

    /// What happened.
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// The error that the task function returned, if it returned an `E`.
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
    pub fn downcast<E: Data>(&self) -> Option<E> {
        match &self.0.cause {
            Cause::Returned(e) => e.downcast(),
            _ => None,
        }
    }

    pub(crate) fn needed(&self, by: String) -> Self {
        let i = &*self.0;
        Self::new(i.key.clone(), i.name.clone(), i.worker.clone(), Some(by), i.cause.clone())
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let i = &*self.0;
        write!(f, "task {}", i.key)?;
        if !i.key.starts_with(&i.name) {
            write!(f, " ({})", i.name)?;
        }
        if let Some(worker) = &i.worker {
            write!(f, " on {worker}")?;
        }
        write!(f, " {}", i.cause)?;
        if let Some(by) = &i.needed_by {
            write!(f, " (needed by {by})")?;
        }
        Ok(())
    }
}

impl std::error::Error for TaskError {}

/// What happened to a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// Its function panicked.
    Panic {
        /// What the panic said.
        message: String,
        /// File, line and column.
        location: String,
        /// The backtrace; empty unless `RUST_BACKTRACE=1` was set where it ran.
        backtrace: String,
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
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic { message, location, .. } => write!(f, "panicked at {location}: {message}"),
            Self::Returned(e) => write!(f, "failed: {}", e.message),
            Self::WorkerDied(records) => {
                write!(f, "lost its worker {} time(s)", records.len())?;
                for record in records {
                    write!(f, "; {record}")?;
                }
                Ok(())
            }
            Self::MemoryLimit { limit, peak, records } => {
                let (limit, peak) = (HumanBytes(*limit), HumanBytes(*peak));
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
        }
    }
}

/// The `Err` of a task function.
#[derive(Clone)]
pub struct ReturnedError {
    message: String,
    type_name: String,
    value: ReturnedValue,
}

#[derive(Clone)]
enum ReturnedValue {
    Here(Value),
    Encoded(Arc<[u8]>),
}

impl ReturnedError {
    pub(crate) fn here(message: String, type_name: &str, value: Value) -> Self {
        Self { message, type_name: type_name.to_string(), value: ReturnedValue::Here(value) }
    }

    pub(crate) fn encoded(message: String, type_name: String, bytes: Vec<u8>) -> Self {
        Self { message, type_name, value: ReturnedValue::Encoded(bytes.into()) }
    }

    /// The error's text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error's type.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// The error itself, if it is an `E`.
    pub fn downcast<E: Data>(&self) -> Option<E> {
        match &self.value {
            ReturnedValue::Here(value) => value.downcast_ref::<E>().cloned(),
            ReturnedValue::Encoded(bytes) if self.type_name == std::any::type_name::<E>() => codec::decode(bytes).ok(),
            ReturnedValue::Encoded(_) => None,
        }
    }
}

impl fmt::Debug for ReturnedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.type_name, self.message)
    }
}

/// What is known about one death of a worker process.
///
/// The supervisor writes it from what outlives the process: the exit status, the worker's control page in shared
/// memory, and the end of its standard error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeathRecord {
    /// Name of the worker, for example `worker-1`.
    pub worker: String,
    /// Its process id.
    pub pid: u32,
    /// How it ended.
    pub cause: DeathCause,
    /// Its memory limit in bytes, where it had one.
    pub memory_limit: Option<u64>,
    /// The last samples of the memory it used in bytes, oldest first: private memory and shared segments in use.
    pub memory_samples: Vec<u64>,
    /// What the machine had available when it was last looked at, in bytes: where the kernel ended the worker for want of
    /// memory, or may have.
    pub machine_available: Option<u64>,
    /// Bytes of results it kept in memory.
    pub managed: u64,
    /// Bytes of results it had moved to disk.
    pub spilled: u64,
    /// Keys of the tasks it was running: of a chain of calls, of the call that ran.
    pub running: Vec<String>,
    /// Sizes in bytes of the inputs of those tasks, in the same order.
    pub input_bytes: Vec<u64>,
    /// The most bytes that the process was seen to use while each of those tasks ran, in the same order.
    pub peak_bytes: Vec<u64>,
    /// The last lines it wrote to standard error.
    pub last_lines: Vec<String>,
}

/// How a worker process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DeathCause {
    /// It called `exit` with this code.
    Exited(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// It used more than its memory limit allows and was ended.
    MemoryLimit {
        /// Bytes it used, with the processes that its tasks started.
        used: u64,
        /// Its limit in bytes.
        limit: u64,
    },
    /// It could not get memory that would have taken it far over its limit, and ended itself.
    AllocationFailed {
        /// Bytes it asked for at once.
        wanted: u64,
        /// Its limit in bytes.
        limit: u64,
    },
    /// The kernel ended it because a control group, or the machine, had run out of memory. It is told from other kills by
    /// the kernel's count of them.
    OutOfMemory,
    /// It gave no sign of life for this many milliseconds and was replaced.
    Unresponsive(u64),
    /// A cancelled or overdue task would not stop, so the worker was replaced.
    CancelIgnored,
    /// It spoke out of turn: a malformed frame, or another build.
    Protocol(String),
    /// Nothing is known.
    #[default]
    Unknown,
}

impl DeathCause {
    /// Whether it died for want of memory.
    pub fn is_of_memory(&self) -> bool {
        self.is_of_limit() || *self == Self::OutOfMemory
    }

    /// Whether it died for its memory limit.
    pub(crate) fn is_of_limit(&self) -> bool {
        matches!(self, Self::MemoryLimit { .. } | Self::AllocationFailed { .. })
    }
}

impl DeathRecord {
    /// The most memory that was seen in use, in bytes: in the samples, by its tasks, and at the end.
    pub fn peak(&self) -> u64 {
        let at_the_end = match self.cause {
            DeathCause::MemoryLimit { used, .. } => used,
            _ => 0,
        };
        self.memory_samples.iter().chain(&self.peak_bytes).copied().fold(at_the_end, u64::max)
    }
}

impl fmt::Display for DeathCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signal(n) => match nix::sys::signal::Signal::try_from(*n) {
                Ok(s) => write!(f, "killed by {s}"),
                Err(_) => write!(f, "killed by signal {n}"),
            },
            Self::MemoryLimit { used, limit } => {
                write!(
                    f,
                    "was ended because it used {} of its memory limit of {}",
                    HumanBytes(*used),
                    HumanBytes(*limit)
                )
            }
            Self::AllocationFailed { wanted, limit } => {
                write!(
                    f,
                    "ended when it wanted {} at once, with a memory limit of {}",
                    HumanBytes(*wanted),
                    HumanBytes(*limit)
                )
            }
            Self::OutOfMemory => write!(f, "was killed by the kernel, which had run out of memory"),
            Self::Unresponsive(ms) => write!(f, "gave no sign of life for {ms} ms"),
            Self::CancelIgnored => write!(f, "replaced because a cancelled task would not stop"),
            Self::Protocol(why) => write!(f, "broke the protocol: {why}"),
            Self::Unknown => write!(f, "ended for an unknown reason"),
        }
    }
}

impl fmt::Display for DeathRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}) {}", self.worker, self.pid, self.cause)?;
        if let Some(available) = self.machine_available {
            let maybe =
                if self.cause == DeathCause::OutOfMemory { "" } else { "possibly by the kernel for want of memory: " };
            write!(f, "; {maybe}the machine had {} available when last looked at", HumanBytes(available))?;
        }
        if let Some(limit) = self.memory_limit.filter(|_| !self.cause.is_of_limit()) {
            write!(f, "; memory limit {}", HumanBytes(limit))?;
        }
        if let Some(last) = self.memory_samples.last() {
            write!(f, "; last seen using {}", HumanBytes(*last))?;
        }
        if self.managed + self.spilled > 0 {
            let (managed, spilled) = (HumanBytes(self.managed), HumanBytes(self.spilled));
            write!(f, "; keeping {managed} of results in memory and {spilled} on disk")?;
        }
        for (at, key) in self.running.iter().enumerate() {
            write!(f, "{}{key}", if at == 0 { "; running " } else { ", " })?;
            match self.input_bytes.get(at) {
                Some(&inputs) if inputs > 0 => write!(f, " (inputs of {})", HumanBytes(inputs))?,
                _ => {}
            }
        }
        if let Some(line) = self.last_lines.last() {
            write!(f, "; last line on stderr: {line}")?;
        }
        Ok(())
    }
}
