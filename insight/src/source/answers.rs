//! The answers that are lists and facts.

use crate::Counts;
use crate::diagnosis::Finding;
use crate::log::{Cost, Machine, Outcome, TimeByUse};
use serde::Serialize;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rows<T> {
    /// The version of the answers.
    pub version: u32,
    /// How many rows can be had, on all pages.
    pub total: usize,
    /// How many more there were, which are not kept in detail.
    pub dropped: u64,
    /// How many rows come before these.
    pub offset: usize,
    /// The rows.
    pub rows: Vec<T>,
}

/// Where a run of a program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunState {
    /// Nothing has run.
    Empty,
    /// Some tasks have not ended.
    Running,
    /// All that was asked for has ended, and some of it failed.
    Failed,
    /// All that was asked for has ended.
    Finished,
}

/// How far everything is, and what there is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The version of the answers.
    pub version: u32,
    /// What it is about: a label of the program, or the name of the file.
    pub title: String,
    /// Whether it has ended, and how.
    pub state: RunState,
    /// How far it is: the line in large type.
    pub first_line: String,
    /// Why it is not faster: the line below it.
    pub second_line: String,
    /// When the log begins, in milliseconds since 1970; none where that is not known.
    pub started_ms: Option<u64>,
    /// From when on something is known, as the time of a run or an event.
    pub from_ns: u64,
    /// Up to when it says something.
    pub until_ns: u64,
    /// From the first submission, or start of a task, to the last end.
    pub wall_ns: u64,
    /// How many workers have run tasks or were there to run some.
    pub workers: usize,
    /// How many threads there were.
    pub threads: usize,
    /// All tasks by state.
    pub counts: Counts,
    /// How many runs are known.
    pub runs: u64,
    /// How many of them are in sums only.
    pub folded: u64,
    /// How many of them failed.
    pub failed_runs: u64,
    /// How many runs are known to be missing.
    pub lost: u64,
    /// How many events there are.
    pub events: u64,
    /// How many workers died.
    pub deaths: usize,
    /// Whether nothing is missing.
    pub complete: bool,
    /// What is missing or damaged, in words.
    pub problems: Vec<String>,
}

/// What became of the time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DiagnosisAnswer {
    /// The version of the answers.
    pub version: u32,
    /// From the first submission, or start of a task, to the last end.
    pub wall_ns: u64,
    /// How many threads there were.
    pub threads: usize,
    /// The sum of the times of all runs.
    pub work_ns: u64,
    /// How long that work takes at least, on so many threads.
    pub ideal_ns: u64,
    /// The longest chain of tasks that need each other, where it is known.
    pub critical_path: Option<Path>,
    /// What the threads did.
    #[serde(rename = "use")]
    pub time: TimeByUse,
    /// What time was lost to, the most first.
    pub findings: Vec<Finding>,
    /// Runs that are in none of the other numbers.
    pub missing: u64,
}

/// A chain of tasks each of which needs the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Path {
    /// How long they ran.
    pub took_ns: u64,
    /// How many they are.
    pub tasks: usize,
    /// The keys of the last of them, the result last.
    pub keys: Vec<String>,
}

/// The tasks of one graph and name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GroupRow {
    /// Their name.
    pub name: String,
    /// The place of the name among all, by time: it has the colour of that rank.
    pub rank: usize,
    /// The number of their graph; none where those of several are counted together.
    pub graph: Option<u32>,
    /// What the program calls the graph.
    pub label: Option<String>,
    /// What a step of a collection is called.
    pub layer: Option<String>,
    /// The tasks by state.
    pub counts: Counts,
    /// What their runs cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// A name, and what its runs cost in all graphs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NameRow {
    /// The name.
    pub name: String,
    /// Its place among all, by time: it has the colour of that rank.
    pub rank: usize,
    /// The part of the time of all runs, from 0 to 1.
    pub share: f64,
    /// The median of the times of its runs; none where they are known as sums only.
    pub usual_ns: Option<u64>,
    /// What its runs cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What a worker did when it was heard of last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WorkerState {
    /// It is known from what it ran; a thread of this process, for example.
    Seen,
    /// It was started, and has not answered yet.
    Starting,
    /// It ran tasks, or was ready to.
    Ready,
    /// It started no tasks.
    Paused,
    /// It did not answer.
    Stalled,
    /// It ended in order.
    Retired,
    /// It died.
    Lost,
}

/// A worker: a process, or in sync and threads mode a thread of the program.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WorkerRow {
    /// Its name.
    pub name: String,
    /// Its process, the last one of that name.
    pub pid: Option<u32>,
    /// What it did when it was heard of last.
    pub state: WorkerState,
    /// Why, where that was said.
    pub reason: Option<String>,
    /// How many threads have run tasks there.
    pub threads: usize,
    /// How many runs.
    pub runs: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The sum of their times.
    pub busy_ns: u64,
    /// The part of the time of its threads, from 0 to 1, in which they ran tasks.
    pub busy: f64,
    /// How long tasks were on a processor, as far as that was measured.
    pub cpu_ns: u64,
    /// What its threads did with their time, where that was recorded.
    #[serde(rename = "use")]
    pub time: Option<TimeByUse>,
    /// The most memory that it used, where that was recorded.
    pub memory: Option<u64>,
    /// Its limit.
    pub limit: Option<u64>,
    /// The most that it had on disk.
    pub spilled: u64,
    /// What came from other workers, in bytes.
    pub received: u64,
    /// What went to other workers.
    pub sent: u64,
    /// How often a worker of that name died.
    pub deaths: usize,
}

/// One attempt of one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskRow {
    /// The name of the task.
    pub name: String,
    /// The place of the name among all.
    pub rank: usize,
    /// The number in its key.
    pub hash: String,
    /// The number of its graph.
    pub graph: u32,
    /// Where it ran.
    pub worker: String,
    /// On which of the worker's threads.
    pub thread: u16,
    /// Which attempt of the task it is, from 0.
    pub attempt: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began.
    pub start_ns: u64,
    /// How long it took; none where it has not ended.
    pub took_ns: Option<u64>,
    /// The median of the runs of its name.
    pub usual_ns: Option<u64>,
    /// How long it waited for a thread after its last input was there.
    pub waited_ns: Option<u64>,
    /// How long it was on a processor.
    pub cpu_ns: Option<u64>,
    /// The size of its inputs.
    pub bytes_in: Option<u64>,
    /// The size of its result.
    pub bytes_out: Option<u64>,
    /// The most memory that its worker was seen to use meanwhile.
    pub peak: Option<u64>,
}

/// A line that a task or a worker printed or logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LogRow {
    /// When.
    pub at_ns: u64,
    /// Where.
    pub worker: String,
    /// The key of the task, if that is known; of several that it may be, in words.
    pub key: Option<String>,
    /// `stdout`, `stderr`, or the level of a log record.
    pub level: String,
    /// The target of a log record.
    pub target: Option<String>,
    /// What it says.
    pub text: String,
}

/// Something that happened beside runs of tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EventRow {
    /// When.
    pub at_ns: u64,
    /// What, in words.
    pub text: String,
}

/// A worker that died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Death {
    /// When.
    pub at_ns: u64,
    /// Its name.
    pub worker: String,
    /// Its process.
    pub pid: u32,
    /// Of what, in words.
    pub reason: String,
    /// What it ran then.
    pub running: Vec<DeathTask>,
    /// How many runs were lost with it.
    pub lost_runs: u64,
    /// How long these had run.
    pub lost_ns: u64,
    /// What it said last.
    pub last_lines: Vec<LogRow>,
}

/// What a worker ran when it died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeathTask {
    /// The key of the task.
    pub key: String,
    /// On which of the worker's threads.
    pub thread: u16,
    /// For how long it had run.
    pub ran_ns: u64,
    /// The size of its inputs.
    pub bytes_in: Option<u64>,
    /// The most memory that its worker was seen to use meanwhile.
    pub peak: Option<u64>,
}

/// The machine, and who wrote this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SystemFacts {
    /// The version of the answers.
    pub version: u32,
    /// The version of swath that ran.
    pub swath: String,
    /// The version of this crate.
    pub insight: String,
    /// Names the build of the program.
    pub build: String,
    /// The format of the log.
    pub format: u32,
    /// The machine it ran on.
    pub machine: Machine,
    /// Where it was read from: the name of a file.
    pub file: Option<String>,
}
