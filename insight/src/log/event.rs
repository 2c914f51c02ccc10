//! What happens beside runs of tasks.

use super::nanos;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Since the start of the log.
    #[serde(rename = "at_ns", with = "nanos")]
    pub at: Duration,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    /// It happened then.
    #[must_use]
    pub fn new(at: Duration, kind: EventKind) -> Self {
        Self { at, kind }
    }
}

/// What happened. Tasks are named by their keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A graph was submitted.
    GraphSubmitted {
        /// Its number, as the client counts them.
        graph: u32,
        /// How many tasks it has.
        tasks: u64,
        /// What the program calls it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        /// The task that submitted it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// All results of a graph that somebody wants are there, or have failed.
    GraphFinished {
        /// Its number.
        graph: u32,
        /// Since it was submitted.
        #[serde(rename = "took_ns", with = "nanos")]
        took: Duration,
    },
    /// A graph was cancelled.
    GraphCancelled {
        /// Its number.
        graph: u32,
    },
    /// What a step of a collection is called.
    GroupNamed {
        /// The number of its graph.
        graph: u32,
        /// The name of its tasks.
        name: String,
        /// The step, as `map parse`.
        layer: String,
        /// How many parts the collection has there.
        partitions: u64,
    },
    /// A worker process was started.
    WorkerStarted {
        /// Its name.
        worker: String,
        /// Its process.
        pid: u32,
    },
    /// A worker has answered for the first time.
    WorkerReady {
        /// Its name.
        worker: String,
        /// Its process.
        pid: u32,
    },
    /// A worker starts no tasks for a while.
    WorkerPaused {
        /// Its name.
        worker: String,
        /// Why.
        reason: String,
    },
    /// A worker starts tasks again.
    WorkerResumed {
        /// Its name.
        worker: String,
    },
    /// A worker has not answered for some time.
    WorkerStalled {
        /// Its name.
        worker: String,
        /// What is known of it.
        reason: String,
    },
    /// A worker ended in order.
    WorkerRetired {
        /// Its name.
        worker: String,
        /// Its process.
        pid: u32,
    },
    /// A worker died.
    WorkerLost {
        /// Its name.
        worker: String,
        /// Its process.
        pid: u32,
        /// Of what, in words.
        reason: String,
        /// Of what, as data.
        #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
        cause: serde_json::Value,
    },
    /// A value was moved from one worker to another.
    Transfer {
        /// Whose result it is.
        key: String,
        /// From this worker.
        from: String,
        /// To this one.
        to: String,
        /// Its size.
        bytes: u64,
        /// How long that took.
        #[serde(rename = "took_ns", with = "nanos")]
        took: Duration,
    },
    /// A value was moved from memory to disk.
    Spilled {
        /// Whose result it is.
        key: String,
        /// Where.
        worker: String,
        /// Its size.
        bytes: u64,
        /// How long that took.
        #[serde(rename = "took_ns", with = "nanos")]
        took: Duration,
    },
    /// A value was read back from disk.
    Loaded {
        /// Whose result it is.
        key: String,
        /// Where.
        worker: String,
        /// Its size.
        bytes: u64,
        /// How long that took.
        #[serde(rename = "took_ns", with = "nanos")]
        took: Duration,
    },
    /// A task is to run again.
    Retried {
        /// Which.
        key: String,
        /// The number of the next attempt.
        attempt: u16,
    },
    /// A task was taken back from a worker that had not started it.
    Retracted {
        /// Which.
        key: String,
        /// From where.
        worker: String,
    },
    /// A task was cancelled.
    Cancelled {
        /// Which.
        key: String,
    },
    /// The log has reached its limit: from here on most runs are only counted and summed up.
    LimitReached {
        /// The limit in bytes.
        limit: u64,
        /// Whether from here on all runs are, and events are only counted.
        totals_only: bool,
    },
    /// Something is missing: nothing could be written, or it was overwritten before it was read.
    Gap {
        /// Since when.
        #[serde(rename = "since_ns", with = "nanos")]
        since: Duration,
        /// How many runs are known to be missing.
        runs: u64,
        /// How many events are known to be missing.
        events: u64,
        /// Why.
        reason: String,
    },
    /// A line that a task or a worker printed or logged.
    Line {
        /// Where.
        worker: String,
        /// By which task, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// The tasks that may have, where that is not known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tasks: Vec<String>,
        /// `stdout`, `stderr`, or the level of a log record.
        level: String,
        /// The target of a log record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        /// What it says.
        text: String,
    },
    /// What a task or the client had to say.
    Note {
        /// By which task; none for the client.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// What it is about.
        topic: String,
        /// What it says.
        value: serde_json::Value,
    },
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GraphSubmitted { graph, tasks, label, parent } => {
                write!(f, "graph {graph} of {tasks} tasks was submitted")?;
                if let Some(label) = label {
                    write!(f, " as {label:?}")?;
                }
                parent.as_ref().map_or(Ok(()), |parent| write!(f, " by {parent}"))
            }
            Self::GraphFinished { graph, took } => write!(f, "graph {graph} finished after {took:?}"),
            Self::GraphCancelled { graph } => write!(f, "graph {graph} was cancelled"),
            Self::GroupNamed { graph, name, layer, partitions } => {
                write!(f, "{name} of graph {graph} is {layer:?}, {partitions} parts")
            }
            Self::WorkerStarted { worker, pid } => write!(f, "{worker} (pid {pid}) was started"),
            Self::WorkerReady { worker, pid } => write!(f, "{worker} (pid {pid}) is ready"),
            Self::WorkerPaused { worker, reason } => write!(f, "{worker} starts no tasks: {reason}"),
            Self::WorkerResumed { worker } => write!(f, "{worker} starts tasks again"),
            Self::WorkerStalled { worker, reason } => write!(f, "{worker} does not answer: {reason}"),
            Self::WorkerRetired { worker, pid } => write!(f, "{worker} (pid {pid}) retired"),
            Self::WorkerLost { worker, pid, reason, .. } => write!(f, "{worker} (pid {pid}) {reason}"),
            Self::Transfer { key, from, to, bytes, took } => {
                write!(f, "{key} ({bytes} bytes) was moved from {from} to {to} in {took:?}")
            }
            Self::Spilled { key, worker, bytes, took } => {
                write!(f, "{worker} moved {key} ({bytes} bytes) to disk in {took:?}")
            }
            Self::Loaded { key, worker, bytes, took } => {
                write!(f, "{worker} read {key} ({bytes} bytes) from disk in {took:?}")
            }
            Self::Retried { key, attempt } => write!(f, "{key} runs again, attempt {attempt}"),
            Self::Retracted { key, worker } => write!(f, "{key} was taken back from {worker}"),
            Self::Cancelled { key } => write!(f, "{key} was cancelled"),
            Self::LimitReached { limit, totals_only: false } => {
                write!(f, "the limit of {limit} bytes is near: from here on most runs are only summed up")
            }
            Self::LimitReached { limit, totals_only: true } => {
                write!(f, "the limit of {limit} bytes is reached: from here on runs and events are only counted")
            }
            Self::Gap { since, runs, events, reason } => {
                write!(f, "missing since {:.6} s: ", since.as_secs_f64())?;
                match (runs, events) {
                    (0, 0) => f.write_str(reason),
                    (runs, events) => write!(f, "{runs} runs, {events} events: {reason}"),
                }
            }
            Self::Line { worker, key, level, text, .. } => {
                write!(f, "{worker} {}{level}: {text}", key.as_ref().map_or(String::new(), |key| format!("{key} ")))
            }
            Self::Note { topic, value, .. } => write!(f, "{topic}: {value}"),
        }
    }
}

/// Seconds since the start of the log, and what happened.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6} s: {}", self.at.as_secs_f64(), self.kind)
    }
}
