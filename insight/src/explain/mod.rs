//! Why a task is where it is: an answer that says it in words, and as data.

mod key;
mod saved;
#[cfg(test)]
mod tests;
mod text;

pub use key::{KeyError, KeyPrefix};

use crate::log::nanos;
use crate::{TaskState, Totals};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// Why a task has no result yet, where its result is, or what became of it. Its text says it in plain words: tasks go by names
/// and keys.
///
/// ```
/// use std::time::Duration;
/// use swath_insight::TaskState;
/// use swath_insight::explain::{Explanation, Step, TaskName, Why};
/// let first = TaskName::of("parse", 0x3f2a);
/// let why = Why::Inputs { missing: 3, all: 40, first: Some(first.clone()) };
/// let mut told = Explanation::new(TaskName::of("total", 0x91c2), TaskState::Waiting, why);
/// let busy = Why::Busy { workers: 2, on: None, ahead: 6, about: Some(Duration::from_millis(400)), graphs: 0, wants: None };
/// told.because.push(Step::new(first, TaskState::Ready, busy));
/// let text = told.to_string();
/// assert!(text.starts_with("total (total-00000000000091c2) waits for 3 of its 40 inputs.\n  parse-0000000000003f2a "));
/// assert!(text.contains("6 tasks are ahead of it, about 400 ms"), "{text}");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// Which task it is about.
    pub task: TaskDetails,
    /// Where the task stands.
    pub state: TaskState,
    /// Why it stands there.
    pub why: Why,
    /// Where it waits for another task: why that has not ended, and so on, down to the one that holds everything up.
    pub because: Vec<Step>,
    /// When what happened.
    pub timeline: Timeline,
    /// What it has cost until now.
    pub cost: TaskCost,
}

/// A task, as it is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskName {
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: String,
}

/// A task, and the graph that it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskDetails {
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: String,
    /// The number of its graph, as its client counts them. `None`: it is not known, or is that of a task's own client.
    pub graph: Option<u32>,
    /// What the program calls the graph.
    pub label: Option<String>,
}

/// A task that another one waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// Which.
    pub task: TaskName,
    /// Where it stands.
    pub state: TaskState,
    /// Why it stands there.
    pub why: Why,
    /// How many tasks between this one and the one before it are left out.
    pub left_out: u64,
}

/// Why a task stands where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Why {
    /// It has not run, and no result that anybody asked for depends on it.
    NotNeeded,
    /// It is a call of a map of which not all have been sent to the workers.
    NotSent {
        /// How many calls are to be sent before it.
        ahead: u64,
    },
    /// It waits for inputs that have not been computed.
    Inputs {
        /// How many.
        missing: u32,
        /// How many it has.
        all: u32,
        /// The first of those that are missing.
        first: Option<TaskName>,
    },
    /// It waits for inputs that are moved.
    Moving {
        /// How much of them.
        bytes: u64,
        /// From these workers.
        from: Vec<String>,
    },
    /// It waits for memory: each worker that may run it has to make room first.
    Memory {
        /// These workers.
        workers: Vec<PausedWorker>,
    },
    /// It is held back, since it would add to the results in memory, and other tasks are to use some of those first.
    HeldBack {
        /// How much the results take.
        bytes: u64,
        /// How many tasks of its graph wait for results.
        consumers: u64,
    },
    /// It waits until it can run with no other task beside it.
    Alone {
        /// In this worker. `None`: in one that is yet to become free, or in all of them.
        worker: Option<String>,
        /// Why it is to run so.
        reason: Isolated,
    },
    /// No worker that is there is what its options ask for.
    Placement {
        /// What they ask for.
        asked: String,
        /// What there is.
        present: Vec<String>,
    },
    /// It is ready and waits for a thread.
    Busy {
        /// How many workers may run it; in an in-process mode, how many threads.
        workers: u32,
        /// The worker whose queue it is in. `None`: it has not been given to one.
        on: Option<String>,
        /// How many tasks are ahead of it, those that run included.
        ahead: u64,
        /// How long these are likely to take.
        #[serde(rename = "about_ns", with = "optional_nanos")]
        about: Option<Duration>,
        /// How many graphs go before its own.
        graphs: u64,
        /// What it asks for and other tasks have: memory, or a resource.
        wants: Option<String>,
    },
    /// There is no worker that it could be given to.
    NoWorker {
        /// How many are starting.
        starting: u32,
        /// How many are there and about to go.
        leaving: u32,
    },
    /// It runs.
    Running {
        /// Where: a worker; in sync mode `caller`, in threads mode a thread.
        worker: String,
        /// On which of the worker's threads.
        thread: Option<u16>,
        /// For how long.
        #[serde(rename = "since_ns", with = "optional_nanos")]
        since: Option<Duration>,
        /// The median of the times that tasks of its name took.
        #[serde(rename = "usual_ns", with = "optional_nanos")]
        usual: Option<Duration>,
        /// The share that is done, from 0 to 1, as it says itself.
        progress: Option<f64>,
    },
    /// A run of it was cancelled and has not ended.
    CancelledRunEnding {
        /// Where.
        worker: Option<String>,
        /// Whether it is to run again then: it never runs twice at a time.
        again: bool,
    },
    /// It is done, and its result is kept.
    Stored {
        /// By this worker. `None`: by the supervisor, or in this program.
        worker: Option<String>,
        /// How large it is, where that is known.
        bytes: Option<u64>,
        /// In what.
        place: Place,
    },
    /// It is a value that was given, and does not run.
    Given,
    /// It has run, and its result is not kept any more.
    Released,
    /// It failed.
    Failed {
        /// What went wrong.
        error: String,
        /// The task that failed first, where it is another one, which this one needs.
        root: Option<TaskName>,
    },
    /// It was cancelled.
    Cancelled {
        /// The task that was cancelled, where it is another one, which this one needs.
        by: Option<TaskName>,
    },
    /// It was lost with its worker, and is done once more.
    Lost {
        /// The worker.
        worker: String,
        /// Where it stands with that. `None`: nothing is known of that.
        again: Option<Box<Why>>,
    },
    /// It has ended so long ago that nothing else is known of it.
    Forgotten {
        /// The tasks of its name together.
        totals: Totals,
    },
}

/// A worker that starts no tasks for want of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PausedWorker {
    /// Its name.
    pub name: String,
    /// How much memory it uses.
    pub used: u64,
    /// How much it may use.
    pub limit: Option<u64>,
    /// Why it starts none.
    pub reason: String,
}

/// Why a task is to run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Isolated {
    /// It may have ended a worker.
    Suspect,
    /// A worker ran out of memory under it.
    WorkerMemory,
    /// The machine, or a control group, ran out of memory under it: it waits until nothing else runs on any worker.
    MachineMemory,
}

/// Where a result is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Place {
    /// In memory.
    Memory,
    /// On disk.
    Disk,
    /// In memory or on disk: its worker has results of its size in both.
    MemoryOrDisk,
    /// With the supervisor.
    Supervisor,
    /// In this program.
    Program,
}

/// When what happened to a task. What is `None` has not happened, or is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Timeline {
    /// Its graph was submitted.
    #[serde(rename = "submitted_ns", with = "since_1970")]
    pub submitted: Option<SystemTime>,
    /// Its last input was there.
    #[serde(rename = "ready_ns", with = "since_1970")]
    pub ready: Option<SystemTime>,
    /// It was given to a worker.
    #[serde(rename = "assigned_ns", with = "since_1970")]
    pub assigned: Option<SystemTime>,
    /// Its last run began.
    #[serde(rename = "started_ns", with = "since_1970")]
    pub started: Option<SystemTime>,
    /// Its last run ended.
    #[serde(rename = "ended_ns", with = "since_1970")]
    pub ended: Option<SystemTime>,
    /// How many inputs are there, of how many.
    pub inputs: Option<(u32, u32)>,
    /// How large those are that are there, as far as that is known.
    pub input_bytes: u64,
}

/// What a task has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskCost {
    /// Attempts to run it that are known.
    pub runs: u32,
    /// How many of them failed.
    pub failed: u32,
    /// How many of them were lost with their workers.
    pub lost: u32,
    /// How long the last one took that has ended.
    #[serde(rename = "took_ns", with = "optional_nanos")]
    pub took: Option<Duration>,
    /// How long all of them took.
    #[serde(rename = "total_ns", with = "nanos")]
    pub total: Duration,
    /// The median of the times that tasks of its name took.
    #[serde(rename = "usual_ns", with = "optional_nanos")]
    pub usual: Option<Duration>,
    /// How long the last one was on a processor.
    #[serde(rename = "cpu_ns", with = "optional_nanos")]
    pub cpu: Option<Duration>,
    /// The size of its inputs.
    pub bytes_in: Option<u64>,
    /// The size of its result.
    pub bytes_out: Option<u64>,
}

impl TaskName {
    /// A task of that name, whose key has that number.
    #[must_use]
    pub fn of(name: &str, number: u64) -> Self {
        Self { name: name.to_string(), key: crate::log::key(name, number) }
    }

    /// One that is called so.
    #[must_use]
    pub fn new(name: impl Into<String>, key: impl Into<String>) -> Self {
        Self { name: name.into(), key: key.into() }
    }
}

impl From<TaskName> for TaskDetails {
    fn from(TaskName { name, key }: TaskName) -> Self {
        Self { name, key, graph: None, label: None }
    }
}

impl PausedWorker {
    /// One of which nothing but its name is known.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

impl Step {
    /// A task that stands there, for that reason.
    #[must_use]
    pub fn new(task: TaskName, state: TaskState, why: Why) -> Self {
        Self { task, state, why, left_out: 0 }
    }
}

impl Explanation {
    /// That a task stands there, for that reason. Of the rest nothing is known.
    #[must_use]
    pub fn new(task: impl Into<TaskDetails>, state: TaskState, why: Why) -> Self {
        let (timeline, cost) = (Timeline::default(), TaskCost::default());
        Self { task: task.into(), state, why, because: Vec::new(), timeline, cost }
    }
}

/// The middle one of some times.
#[must_use]
pub fn median(times: &mut [Duration]) -> Option<Duration> {
    let middle = times.len() / 2;
    (!times.is_empty()).then(|| *times.select_nth_unstable(middle).1)
}

/// A moment as whole nanoseconds since 1970.
mod since_1970 {
    use crate::log::nanos;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::{Duration, SystemTime};

    pub(super) fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        since.map(nanos::of).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        let since = Option::<u64>::deserialize(deserializer)?;
        Ok(since.and_then(|ns| SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(ns))))
    }
}

/// A time that may not be known, as whole nanoseconds.
mod optional_nanos {
    use crate::log::nanos;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(nanos::of).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_nanos))
    }
}
