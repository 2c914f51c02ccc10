//! What is known about the death of a worker process.

use super::LogLine;
use crate::ipc::start::{self, NO_WORKER};
use crate::machine::AvailableMemory;
use crate::units::HumanBytes;
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// What memory there was when that was read last: where the kernel ended the worker for want of memory, or may have.
    pub available: Option<AvailableMemory>,
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
    /// Keys of tasks that had ended on it, of which one may have ended it: those whose results were being encoded or dropped,
    /// and those that had ended since the last word that arrived from there, with a thread that one left behind, for example.
    pub ended: Vec<String>,
    /// The last lines it wrote to standard output and error, with the keys of the tasks that may have written them.
    pub last_lines: Vec<LogLine>,
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
    /// It sent no heartbeat for this many milliseconds and was replaced.
    Unresponsive(u64),
    /// A cancelled or overdue task would not stop, so the worker was replaced.
    CancelIgnored,
    /// A task had closed descriptors that the worker needs: its connection, or its standard input, output or error. A task
    /// may close only what it has opened.
    DescriptorsClosed,
    /// It spoke out of turn: a malformed frame, or another build.
    Protocol(String),
    /// What it had sent could not be taken in, for want of something in the process of its supervisor: descriptors or address
    /// space. It is not to blame.
    Unheard(String),
    /// Its [`worker_init`](crate::Builder::worker_init) failed or panicked, ended the process, or took longer than
    /// [`start_timeout`](crate::Builder::start_timeout): what it said.
    Init(String),
    /// Nothing is known.
    #[default]
    Unknown,
    /// It could not go on as a worker, for this reason, and ended itself: a message could not be sent, for example.
    GaveUp(String),
}

impl DeathCause {
    /// Whether it died for want of memory.
    #[must_use]
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
            Self::Exited(NO_WORKER) => {
                f.write_str("did not become a worker, but ran its program as far as to build a client")
            }
            Self::Exited(code) => {
                write!(f, "exited with code {code}")?;
                // A task may exit with that, too.
                start::meaning(*code).map_or(Ok(()), |meaning| write!(f, ", as a worker does that {meaning}"))
            }
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
            Self::DescriptorsClosed => write!(
                f,
                "ended because a task had closed file descriptors of the worker's: a task may close only what it has opened"
            ),
            Self::Protocol(why) => write!(f, "broke the protocol: {why}"),
            Self::Unheard(why) => write!(f, "was replaced because what it sent could not be taken in: {why}"),
            Self::Init(why) => write!(f, "was not set up: its `worker_init` {why}"),
            Self::Unknown => write!(f, "ended for an unknown reason"),
            Self::GaveUp(reason) => write!(f, "ended itself: {reason}"),
        }
    }
}

impl fmt::Display for DeathRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}) {}", self.worker, self.pid, self.cause)?;
        if let Some(available) = &self.available {
            let maybe =
                if self.cause == DeathCause::OutOfMemory { "" } else { "possibly by the kernel for want of memory: " };
            write!(f, "; {maybe}{available} when last looked at")?;
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
        for (at, key) in self.ended.iter().enumerate() {
            write!(f, "{}{key}", if at == 0 { "; just after " } else { ", " })?;
        }
        if let Some(line) = self.last_lines.last() {
            write!(f, "; last line on {}: {}", line.stream, line.text)?;
        }
        Ok(())
    }
}
