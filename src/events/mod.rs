//! What has happened: every run of a task, every graph and every worker, with time stamps.
//!
//! Recording is always on and costs some twenty nanoseconds a task. [`Client::events`](crate::Client::events) gives what
//! was recorded.

// Runs of tasks go into a bounded `ipc::ring`, one for each thread of the threads mode, one on each worker's control page
// (which outlives the worker), one for the sync mode. Graphs and workers change seldom and have a `journal`.

pub(crate) mod journal;

use crate::error::{DeathCause, Error, Result};
use crate::files::write_whole;
use crate::graph::node;
use crate::ipc::clock::{Clock, Ruler};
use crate::ipc::ring::{Ended, RingRecord};
use crate::task::function::{Record as Function, short_name};
use journal::{GraphStep, JournalEntry, ProcessStep, WorkerStep};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How many runs are kept for each worker or thread, if nothing else is said.
pub(crate) const DEFAULT_CAPACITY: usize = 4096;
/// The most that may be asked for.
pub(crate) const MOST: usize = 1 << 20;

/// One run of a task function: one attempt, of one task.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskRun {
    /// The task's key.
    pub key: String,
    /// The task's name.
    pub name: String,
    /// The number of the graph it belongs to; those that one client submits count from 0.
    pub graph: u32,
    /// The worker it ran on; in sync mode `caller`, in threads mode a thread.
    pub worker: String,
    /// Which of the worker's threads.
    pub thread: u16,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EventKind {
    /// A graph was submitted.
    GraphSubmitted {
        /// Its number.
        graph: u32,
        /// How many tasks it has.
        tasks: usize,
    },
    /// All results of a graph that somebody wants are there, or have failed.
    GraphFinished {
        /// Its number.
        graph: u32,
        /// Since it was submitted.
        took: Duration,
    },
    /// A task began to run.
    TaskStarted {
        /// Which.
        task: TaskRun,
    },
    /// A task ran and has a result.
    TaskFinished {
        /// Which.
        task: TaskRun,
        /// How long it ran.
        took: Duration,
    },
    /// A run of a task failed.
    TaskFailed {
        /// Which.
        task: TaskRun,
        /// How long it ran.
        took: Duration,
    },
    /// A run ended when its result was not wanted any more: the task was cancelled, or overdue.
    TaskCancelled {
        /// Which.
        task: TaskRun,
        /// How long it ran.
        took: Duration,
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
    /// A worker died.
    WorkerLost {
        /// Its name.
        worker: String,
        /// Its process.
        pid: u32,
        /// Of what.
        cause: DeathCause,
    },
    /// A worker ended in order.
    WorkerRetired {
        /// Its name.
        worker: String,
        /// Its process.
        pid: u32,
    },
}

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Since the start of the log.
    pub at: Duration,
    /// What happened.
    pub kind: EventKind,
}

impl fmt::Display for TaskRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} of graph {} on {}, thread {}", self.key, self.graph, self.worker, self.thread)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GraphSubmitted { graph, tasks } => write!(f, "graph {graph} of {tasks} tasks was submitted"),
            Self::GraphFinished { graph, took } => write!(f, "graph {graph} finished after {took:?}"),
            Self::TaskStarted { task } => write!(f, "{task}, started"),
            Self::TaskFinished { task, took } => write!(f, "{task}, finished after {took:?}"),
            Self::TaskFailed { task, took } => write!(f, "{task}, failed after {took:?}"),
            Self::TaskCancelled { task, took } => write!(f, "{task}, was cancelled after {took:?}"),
            Self::WorkerStarted { worker, pid } => write!(f, "{worker} (pid {pid}) was started"),
            Self::WorkerReady { worker, pid } => write!(f, "{worker} (pid {pid}) is ready"),
            Self::WorkerLost { worker, pid, cause } => write!(f, "{worker} (pid {pid}) {cause}"),
            Self::WorkerRetired { worker, pid } => write!(f, "{worker} (pid {pid}) retired"),
        }
    }
}

/// Seconds since the start of the log, and what happened.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6} s: {}", self.at.as_secs_f64(), self.kind)
    }
}

/// What has happened since a client was opened, as far as it is still known: the last runs of each worker or thread, and
/// the last graphs and workers. In the order of time.
///
/// ```
/// use swath::events::EventKind;
/// use swath::{Client, delayed};
/// let client = Client::threads(2);
/// client.compute(&delayed(|x: i64| x + 1).call(1))?;
/// let log = client.events()?;
/// let finished = log.events().iter().filter(|e| matches!(e.kind, EventKind::TaskFinished { .. }));
/// assert_eq!(finished.count(), 1);
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EventLog {
    started: SystemTime,
    events: Vec<Event>,
}

/// The first line of a saved log.
#[derive(Serialize, Deserialize)]
struct LogHeader {
    swath_events: u32,
    started: SystemTime,
}

const FORMAT: u32 = 1;

impl EventLog {
    /// When the client was opened: what the times of the events count from.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// The events, in the order of time.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Writes the log to a file, as one JSON object a line: all of it, or nothing. A file that was there is replaced, as by
    /// [`Output`](crate::files::Output).
    ///
    /// # Errors
    /// [`Error::Resource`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let write = |out: &mut dyn Write| -> std::io::Result<()> {
            serde_json::to_writer(&mut *out, &LogHeader { swath_events: FORMAT, started: self.started })?;
            for event in &self.events {
                out.write_all(b"\n")?;
                serde_json::to_writer(&mut *out, event)?;
            }
            out.write_all(b"\n")
        };
        write_whole(path, false, write)
            .map_err(|e| Error::Resource { resource: path.display().to_string(), reason: e.to_string() })
    }

    /// Reads a log that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Resource`] where the file cannot be read, [`Error::Invalid`] with the line that is no event.
    ///
    /// ```
    /// use swath::events::EventLog;
    /// use swath::{Client, delayed};
    /// let client = Client::sync();
    /// client.compute(&delayed(|x: i64| x + 1).call(1))?;
    /// let file = std::env::temp_dir().join(format!("swath-events-{}.jsonl", std::process::id()));
    /// let log = client.events()?;
    /// log.save(&file)?;
    /// assert_eq!(EventLog::open(&file)?, log);
    /// # std::fs::remove_file(file).ok();
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let unreadable =
            |e: std::io::Error| Error::Resource { resource: path.display().to_string(), reason: e.to_string() };
        let mut lines = BufReader::new(std::fs::File::open(path).map_err(unreadable)?).lines();
        let wrong = |line: usize, what: &dyn std::fmt::Display| {
            Error::invalid("event log", format!("{}, line {line}: {what}", path.display()))
        };
        let head = lines.next().transpose().map_err(unreadable)?.unwrap_or_default();
        let head: LogHeader = serde_json::from_str(&head).map_err(|e| wrong(1, &e))?;
        if head.swath_events != FORMAT {
            return Err(wrong(1, &format!("format {}; this version reads format {FORMAT}", head.swath_events)));
        }
        let mut events = Vec::new();
        for (i, line) in lines.enumerate() {
            let line = line.map_err(unreadable)?;
            events.push(serde_json::from_str(&line).map_err(|e| wrong(i + 2, &e))?);
        }
        Ok(Self { started: head.started, events })
    }
}

/// The runs that one worker or thread recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerRuns {
    pub(crate) worker: String,
    pub(crate) records: Vec<RingRecord>,
}

/// The records that a mode has of its tasks and workers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct EventRecords {
    pub(crate) runs: Vec<WorkerRuns>,
    pub(crate) workers: Vec<JournalEntry<WorkerStep>>,
}

/// The log of one client: when it was opened, and what happened to its graphs.
pub(crate) struct ClientLog {
    clock: Clock,
    started: SystemTime,
    pub(crate) graphs: journal::Journal<GraphStep>,
}

impl ClientLog {
    pub(crate) fn new() -> Self {
        Self { clock: Clock::start(), started: SystemTime::now(), graphs: journal::Journal::new(DEFAULT_CAPACITY) }
    }

    /// Puts together what is known.
    pub(crate) fn log(&self, from: EventRecords) -> EventLog {
        let ruler = self.clock.ruler();
        let mut events = Vec::new();
        for JournalEntry { at, what } in self.graphs.entries() {
            let kind = match what {
                GraphStep::Submitted { graph, tasks } => EventKind::GraphSubmitted { graph, tasks: tasks as usize },
                GraphStep::Finished { graph, began } => {
                    EventKind::GraphFinished { graph, took: ruler.between(began, at) }
                }
            };
            events.push(Event { at: ruler.since_start(at), kind });
        }
        for JournalEntry { at, what: WorkerStep { worker, pid, what } } in from.workers {
            let kind = match what {
                ProcessStep::Started => EventKind::WorkerStarted { worker, pid },
                ProcessStep::Ready => EventKind::WorkerReady { worker, pid },
                ProcessStep::Lost(cause) => EventKind::WorkerLost { worker, pid, cause },
                ProcessStep::Retired => EventKind::WorkerRetired { worker, pid },
            };
            events.push(Event { at: ruler.since_start(at), kind });
        }
        for WorkerRuns { worker, records } in from.runs {
            for record in records {
                push_run(&worker, record, &ruler, &mut events);
            }
        }
        // Stable: what has the same time stamp stays in the order in which it was pushed.
        events.sort_by_key(|e| e.at);
        EventLog { started: self.started, events }
    }
}

fn push_run(worker: &str, record: RingRecord, ruler: &Ruler, events: &mut Vec<Event>) {
    let run = record.run;
    let name = run.name.unwrap_or_else(|| match Function::at(run.log_id) {
        Some(function) => short_name(function.path()),
        // It is in a shared library, which only an in-process mode can call.
        None => "task".to_string(),
    });
    let task = TaskRun {
        key: node::key(&name, run.key),
        name,
        graph: run.task.job.number,
        worker: worker.to_string(),
        thread: run.thread,
    };
    let start = record.start;
    events.push(Event { at: ruler.since_start(start), kind: EventKind::TaskStarted { task: task.clone() } });
    if let Some((end, ended)) = record.end {
        let took = ruler.between(start, end);
        let kind = match ended {
            Ended::Finished => EventKind::TaskFinished { task, took },
            Ended::Failed => EventKind::TaskFailed { task, took },
            Ended::Cancelled => EventKind::TaskCancelled { task, took },
        };
        events.push(Event { at: ruler.since_start(end), kind });
    }
}
