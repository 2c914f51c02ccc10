//! What users see of memory.

use crate::units::HumanBytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// How one worker uses its memory, in bytes; see [`Client::memory`](crate::Client::memory).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerMemory {
    /// Name of the worker.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Its memory limit.
    pub limit: Option<u64>,
    /// Results it keeps in memory, in its own and in shared memory.
    pub managed: u64,
    /// Results it has on disk.
    pub spilled: u64,
    /// All it has ever moved to disk, whatever has become of it.
    pub moved: u64,
    /// How often tasks have had to wait there for want of memory.
    pub pauses: u64,
    /// Shared segments that it made and uses. Those used by others only are part of
    /// [`MemoryReport::shared_used`].
    pub segments: u64,
    /// Resident memory that it shares with nobody.
    pub private: u64,
    /// Whether it starts no tasks until it has less in memory, and why.
    pub paused: Option<String>,
    /// The most that the process used while each of the running tasks ran: key and bytes. Where a worker has several
    /// threads, the tasks beside it are included.
    pub peaks: Vec<(String, u64)>,
}

impl WorkerMemory {
    /// What is compared with the limit: private memory and segments in use.
    #[must_use]
    pub fn process(&self) -> u64 {
        self.private + self.segments
    }

    /// What is in memory and not a result: the program itself, what tasks use while they run, and leaks.
    #[must_use]
    pub fn unmanaged(&self) -> u64 {
        self.process().saturating_sub(self.managed)
    }
}

/// How the workers of a client use memory and disk, in bytes. Printing it gives a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryReport {
    /// One entry for each worker.
    pub workers: Vec<WorkerMemory>,
    /// Shared segments of all processes, unused ones included.
    pub shared_used: u64,
    /// What they may take.
    pub shared_limit: u64,
    /// Where workers move results to that do not fit.
    pub spill_directory: Option<PathBuf>,
    /// What they may take there, if that is limited.
    pub spill_limit: Option<u64>,
}

impl MemoryReport {
    /// Results on disk, of all workers.
    #[must_use]
    pub fn spilled(&self) -> u64 {
        self.workers.iter().map(|w| w.spilled).sum()
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |n: u64| HumanBytes(n).to_string();
        writeln!(
            f,
            "{:<12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}  state",
            "worker", "limit", "process", "managed", "unmanaged", "private", "segments", "spilled"
        )?;
        for w in &self.workers {
            writeln!(
                f,
                "{:<12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}  {}",
                w.name,
                w.limit.map_or("none".to_string(), bytes),
                bytes(w.process()),
                bytes(w.managed),
                bytes(w.unmanaged()),
                bytes(w.private),
                bytes(w.segments),
                bytes(w.spilled),
                w.paused.as_deref().unwrap_or("running"),
            )?;
            for (key, peak) in &w.peaks {
                writeln!(f, "  {key}: peak {}", bytes(*peak))?;
            }
        }
        write!(f, "shared segments {} of {}", HumanBytes(self.shared_used), HumanBytes(self.shared_limit))?;
        if let Some(directory) = &self.spill_directory {
            write!(f, "; on disk {}", HumanBytes(self.spilled()))?;
            if let Some(limit) = self.spill_limit {
                write!(f, " of {}", HumanBytes(limit))?;
            }
            write!(f, " in {}", directory.display())?;
        }
        Ok(())
    }
}
