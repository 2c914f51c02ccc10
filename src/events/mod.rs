//! What has happened: every run of a task, every graph and every worker, with time stamps.
//!
//! Recording is always on and costs some twenty nanoseconds a task. [`Client::events`](crate::Client::events) gives what
//! was recorded; [`EventLog::save`] and [`Client::save_events`](crate::Client::save_events) write it to a file, which
//! [`EventLog::open`] reads, and [`saved::SavedLog`] bit by bit.

// Runs of tasks go into a bounded `ipc::ring`, one for each thread of the threads mode, one on each worker's control page
// (which outlives the worker), one for the sync mode. Graphs and workers change seldom and have a `journal`.

pub(crate) mod explain;
mod file;
pub(crate) mod journal;
pub(crate) mod recorder;
pub(crate) mod sources;

/// Why a run took as long as it did.
pub use swath_insight::diagnosis;
/// Saved logs: what is in them, how they are written, read and exported.
pub use swath_insight::log as saved;

use crate::error::DeathCause;
use crate::ipc::clock::{Clock, Ruler};
use crate::ipc::ring::{Ended, RingRecord};
use crate::task::function::{Record as Function, short_name};
use crate::task::image::build_id;
use journal::{GraphStep, JournalEntry, ProcessStep, WorkerStep};
use rustc_hash::FxHashMap;
use saved::{Head, Outcome, Run};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
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
#[derive(Clone, Debug)]
pub struct EventLog {
    head: Head,
    runs: Arc<[Run]>,
    /// What happened beside runs.
    others: Arc<[saved::Event]>,
    /// Both, in the order of time.
    events: Vec<Event>,
    /// What is missing, in words.
    problems: Vec<String>,
}

/// Equal logs say the same of the same time.
impl PartialEq for EventLog {
    fn eq(&self, other: &Self) -> bool {
        (self.started(), &self.events) == (other.started(), &other.events)
    }
}

impl EventLog {
    /// When the client was opened: what the times of the events count from.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.head.started
    }

    /// The events, in the order of time.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The runs of tasks, each with its start and its end.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// What is missing in a log that was [opened](Self::open), in words: it is cut off, for example, or a part of it is
    /// damaged.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Of runs and of all else.
    fn of(head: Head, runs: Vec<Run>, others: Vec<saved::Event>, problems: Vec<String>) -> Self {
        let mut events = Vec::new();
        events.extend(others.iter().filter_map(file::event));
        runs.iter().for_each(|run| push_events(run, &mut events));
        // Stable: what has the same time stamp stays in the order in which it was pushed.
        events.sort_by_key(|event| event.at);
        Self { head, runs: runs.into(), others: others.into(), events, problems }
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
        let mut others = Vec::new();
        others.extend(self.graphs.entries().into_iter().map(|step| graph_event(step, &ruler)));
        others.extend(from.workers.into_iter().map(|step| worker_event(step, &ruler)));
        let mut names = Names::default();
        let mut runs = Vec::with_capacity(from.runs.iter().map(|worker| worker.records.len()).sum());
        for WorkerRuns { worker, records } in from.runs {
            let worker = Arc::from(worker);
            runs.extend(records.into_iter().map(|record| run_of(record, &worker, &mut names, &ruler)));
        }
        EventLog::of(self.head(), runs, others, Vec::new())
    }

    /// What a saved log begins with.
    fn head(&self) -> Head {
        let mut head = Head::new(env!("CARGO_PKG_VERSION"), self.started);
        head.build = build_id().to_string();
        head.monotonic = self.clock.started();
        head
    }
}

fn graph_event(step: JournalEntry<GraphStep>, ruler: &Ruler) -> saved::Event {
    let kind = match step.what {
        GraphStep::Submitted { graph, tasks } => {
            saved::EventKind::GraphSubmitted { graph, tasks: tasks.into(), label: None, parent: None }
        }
        GraphStep::Finished { graph, began } => {
            saved::EventKind::GraphFinished { graph, took: ruler.between(began, step.at) }
        }
    };
    saved::Event::new(ruler.since_start(step.at), kind)
}

fn worker_event(step: JournalEntry<WorkerStep>, ruler: &Ruler) -> saved::Event {
    let WorkerStep { worker, pid, what } = step.what;
    let kind = match what {
        ProcessStep::Started => saved::EventKind::WorkerStarted { worker, pid },
        ProcessStep::Ready => saved::EventKind::WorkerReady { worker, pid },
        ProcessStep::Lost(cause) => file::lost(worker, pid, &cause),
        ProcessStep::Retired => saved::EventKind::WorkerRetired { worker, pid },
    };
    saved::Event::new(ruler.since_start(step.at), kind)
}

/// The names of functions, each of them once.
#[derive(Default)]
struct Names {
    functions: FxHashMap<u64, Arc<str>>,
    /// Of the last task that has a name of its own.
    last: Option<Arc<str>>,
}

impl Names {
    fn of(&mut self, own: Option<String>, function: u64) -> Arc<str> {
        if let Some(own) = own {
            return match &self.last {
                Some(last) if **last == *own => last.clone(),
                _ => self.last.insert(own.into()).clone(),
            };
        }
        let name = || match Function::at(function) {
            Some(function) => short_name(function.path()).into(),
            // It is in a shared library, which only an in-process mode can call.
            None => "task".into(),
        };
        self.functions.entry(function).or_insert_with(name).clone()
    }
}

fn run_of(record: RingRecord, worker: &Arc<str>, names: &mut Names, ruler: &Ruler) -> Run {
    let RingRecord { run: recorded, start, end } = record;
    let name = names.of(recorded.name, recorded.log_id);
    let mut run = Run::new(name, recorded.key, worker.clone(), ruler.since_start(start));
    (run.graph, run.task, run.thread) = (recorded.task.job.number, recorded.task.index, recorded.thread);
    if let Some((end, ended)) = end {
        let outcome = match ended {
            Ended::Finished => Outcome::Finished,
            Ended::Failed => Outcome::Failed,
            Ended::Cancelled => Outcome::Cancelled,
        };
        run.ended(ruler.since_start(end), outcome);
    }
    run
}

/// The events of a run: its start, and its end if it has one.
fn push_events(run: &Run, events: &mut Vec<Event>) {
    let task = TaskRun {
        key: run.key(),
        name: run.name.to_string(),
        graph: run.graph,
        worker: run.worker.to_string(),
        thread: run.thread,
    };
    events.push(Event { at: run.start, kind: EventKind::TaskStarted { task: task.clone() } });
    let (Some(end), Some(took)) = (run.end, run.took()) else { return };
    let kind = match run.outcome {
        Outcome::Failed => EventKind::TaskFailed { task, took },
        Outcome::Cancelled => EventKind::TaskCancelled { task, took },
        // Its worker's death is an event.
        Outcome::Lost => return,
        _ => EventKind::TaskFinished { task, took },
    };
    events.push(Event { at: end, kind });
}
