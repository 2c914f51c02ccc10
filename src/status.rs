//! What users see of a client, its workers, and a cluster.

mod published;
mod shared;

pub use published::Published;
pub use shared::SharedObject;
/// Why a task is where it is.
pub use swath_insight::explain;
pub use swath_insight::explain::Explanation;
pub use swath_insight::{Counts, ENDED_GRAPHS, GroupProgress, Progress, TaskState, Totals};

use crate::error::words::words;
use crate::error::{DeathRecord, LogLine, Result};
use crate::machine::Machine;
use crate::units::{HumanBytes, counted};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use std::fmt;

/// Which scheduler runs the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// One after the other in the calling thread.
    Sync,
    /// On a pool of threads in this process.
    Threads,
    /// In supervised worker processes.
    Processes,
}

impl Mode {
    /// The word for it: `sync`, `threads` or `processes`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Threads => "threads",
            Self::Processes => "processes",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "sync" => Ok(Self::Sync),
            "threads" => Ok(Self::Threads),
            "processes" => Ok(Self::Processes),
            _ => Err(Error::invalid("mode", format!("`{text}`; it is `sync`, `threads` or `processes`"))),
        }
    }
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum WorkerState {
    /// The process has been started and has not answered yet.
    Starting,
    /// It takes tasks.
    Running,
    /// It finishes what it has and then ends.
    Retiring,
    /// The process is stopped by a signal.
    Stopped,
}

words!(WorkerState, "state of a worker": Starting "starting", Running "running", Retiring "retiring", Stopped "stopped");

/// One worker, as [`Client::workers`](crate::Client::workers) sees it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its name, for example `worker-0`.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// What it is doing.
    pub state: WorkerState,
    /// Threads that run tasks.
    pub threads: usize,
    /// Tasks it has been given and has not finished.
    pub tasks: usize,
    /// Its private memory in bytes.
    pub memory: u64,
    /// Bytes of shared segments that it made and still has, beside its private memory.
    pub shared_memory: u64,
    /// Bytes of results that it keeps in memory.
    pub managed: u64,
    /// Bytes of results that it has moved to disk.
    pub spilled: u64,
    /// Why it starts no tasks for the time being, where memory is the reason.
    pub paused: Option<String>,
    /// Its memory limit in bytes.
    pub limit: Option<u64>,
    /// The tasks it runs right now.
    pub running: Vec<RunningTask>,
}

impl fmt::Display for WorkerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (threads, tasks) = (counted(self.threads as u64, "thread"), counted(self.tasks as u64, "task"));
        write!(f, "{} (pid {}) {}, {threads}, {tasks}, ", self.name, self.pid, self.state)?;
        write!(f, "{}", HumanBytes(self.memory + self.shared_memory))?;
        if let Some(limit) = self.limit {
            write!(f, " of {}", HumanBytes(limit))?;
        }
        if let Some(why) = &self.paused {
            write!(f, ", paused: {why}")?;
        }
        for (at, task) in self.running.iter().enumerate() {
            write!(f, "{}{task}", if at == 0 { ", runs " } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for RunningTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if self.progress > 0.0 { write!(f, " ({:.0}%)", self.progress * 100.0) } else { Ok(()) }
    }
}

/// A task that a worker runs.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct RunningTask {
    /// Its key.
    pub key: String,
    /// How far it is, from 0 to 1, if it says so with [`set_progress`](crate::set_progress).
    pub progress: f64,
}

impl WorkerInfo {
    pub(crate) fn in_process(name: &str) -> Self {
        Self {
            name: name.to_string(),
            pid: std::process::id(),
            state: WorkerState::Running,
            threads: 1,
            tasks: 0,
            memory: 0,
            shared_memory: 0,
            managed: 0,
            spilled: 0,
            paused: None,
            limit: None,
            running: Vec::new(),
        }
    }
}

/// What a local cluster says about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// For how long it has been running.
    pub uptime_seconds: f64,
    /// The socket where programs connect.
    pub socket: PathBuf,
    /// Where it and its workers run.
    pub directory: PathBuf,
    /// What it may use of the machine, as it was when the cluster was started.
    pub machine: Machine,
    /// Workers for each build of a program.
    pub workers: usize,
    /// Executor threads of each worker.
    pub threads: usize,
    /// Memory limit of each worker, in bytes.
    pub memory_limit: Option<u64>,
    /// Memory limit of all workers of all programs together, in bytes.
    pub total_memory_limit: Option<u64>,
    /// How many bytes of shared memory all values together may take.
    pub shared_memory_limit: u64,
    /// How many they take.
    pub shared_memory_used: u64,
    /// Whether it lets nobody in any more, and is to stop when no graph is under way.
    pub draining: bool,
    /// The file in which all programs are recorded, if they are.
    pub record: Option<PathBuf>,
    /// The programs that are connected, or left only seconds ago; one entry for each build.
    pub programs: Vec<ProgramStatus>,
}

/// A line for the cluster, and under it one for each program and each worker of that.
impl fmt::Display for ClusterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (workers, threads) = (counted(self.workers as u64, "worker"), counted(self.threads as u64, "thread"));
        write!(f, "local cluster `{}`, process {}, up {:.1} s", self.name, self.pid, self.uptime_seconds)?;
        write!(f, ", {workers} x {threads}")?;
        if let Some(limit) = self.memory_limit {
            write!(f, ", memory limit {} each", HumanBytes(limit))?;
        }
        write!(f, ", on {}", self.machine)?;
        if self.draining {
            f.write_str(", draining")?;
        }
        if let Some(path) = &self.record {
            write!(f, ", recorded in {}", path.display())?;
        }
        for program in &self.programs {
            write!(f, "\n{program}")?;
        }
        Ok(())
    }
}

/// A line for the program, and one for each worker, lock, queue and so on.
impl fmt::Display for ProgramStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sessions, deaths) = (self.sessions as u64, self.deaths.len() as u64);
        write!(f, "{} (build {}), {}", self.program, self.build, counted(sessions, "connection"))?;
        if deaths > 0 {
            write!(f, ", {}", counted(deaths, "dead worker"))?;
        }
        self.workers.iter().try_for_each(|worker| write!(f, "\n  {worker}"))?;
        self.shared.iter().try_for_each(|object| write!(f, "\n  {object}"))
    }
}

/// One build of a program, as a local cluster sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProgramStatus {
    /// Name of its executable.
    pub program: String,
    /// Which build of it.
    pub build: String,
    /// How many connections it has.
    pub sessions: usize,
    /// How many tasks are still to be done.
    pub unfinished: u64,
    /// Its workers.
    pub workers: Vec<WorkerInfo>,
    /// Workers that died, oldest first.
    pub deaths: Vec<DeathRecord>,
    /// The locks, semaphores, events, queues and variables that are there, by kind and name.
    pub shared: Vec<SharedObject>,
}

/// The last words of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Log {
    /// Whose they are: `cluster`, or program and worker as in `flights/worker-0`.
    pub source: String,
    /// Which build of the program it is; empty for the cluster's own.
    pub build: String,
    /// The words.
    pub text: String,
    /// Line by line, with the tasks they are from. None for the cluster's own.
    pub lines: Vec<LogLine>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::OutputStream;
    use std::fmt::Debug;
    use std::str::FromStr;

    fn reads_back<T: fmt::Display + FromStr<Err = Error> + PartialEq + Debug>(all: &[T]) {
        for one in all {
            assert_eq!(&one.to_string().to_uppercase().parse::<T>().unwrap(), one);
        }
        assert!("nonsense".parse::<T>().unwrap_err().to_string().contains("`nonsense`; it is"));
    }

    #[test]
    fn words_are_read_as_they_are_printed() {
        reads_back(WorkerState::WORDS);
        reads_back(OutputStream::WORDS);
        reads_back(crate::settings::RestartPolicy::WORDS);
        reads_back(&[Mode::Sync, Mode::Threads, Mode::Processes]);
        assert_eq!(format!("{:<9}|", WorkerState::Running), "running  |");
    }

    #[test]
    fn records_are_told_in_a_line() {
        let worker = WorkerInfo {
            pid: 7,
            tasks: 2,
            memory: 12_000_000,
            limit: Some(512_000_000),
            running: vec![
                RunningTask { key: "a-1".into(), progress: 0.25 },
                RunningTask { key: "b-2".into(), progress: 0.0 },
            ],
            ..WorkerInfo::in_process("worker-0")
        };
        let line = "worker-0 (pid 7) running, 1 thread, 2 tasks, 12.0 MB of 512.0 MB, runs a-1 (25%), b-2";
        assert_eq!(worker.to_string(), line);
        let tasks = vec!["a-1".to_string()];
        let printed = LogLine { tasks, ..LogLine::logged("worker-0", "oh", 0) };
        assert_eq!(printed.to_string(), "worker-0 stderr [a-1]: oh");
    }
}
