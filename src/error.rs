//! What can go wrong, and what the caller is told.

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
    /// The last samples of its private memory in bytes, oldest first.
    pub memory_samples: Vec<u64>,
    /// Keys of the tasks it was running.
    pub running: Vec<String>,
    /// Sizes in bytes of the inputs of those tasks, in the same order.
    pub input_bytes: Vec<u64>,
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

impl fmt::Display for DeathCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signal(n) => match nix::sys::signal::Signal::try_from(*n) {
                Ok(s) => write!(f, "killed by {s}"),
                Err(_) => write!(f, "killed by signal {n}"),
            },
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
        if let Some(limit) = self.memory_limit {
            write!(f, "; memory limit {limit} B")?;
        }
        if let Some(last) = self.memory_samples.last() {
            write!(f, "; last seen using {last} B")?;
        }
        if !self.running.is_empty() {
            write!(f, "; running {}", self.running.join(", "))?;
        }
        if let Some(line) = self.last_lines.last() {
            write!(f, "; last line on stderr: {line}")?;
        }
        Ok(())
    }
}
