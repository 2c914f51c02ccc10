//! Tasks counted by state: of a graph, of a group, of everything.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::iter::Sum;
use std::ops::{AddAssign, Index, IndexMut};
use std::time::Duration;

/// Where a task stands. It is in one of these states at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It has not run, and nobody needs it.
    Unneeded,
    /// Its inputs are not there yet.
    Waiting,
    /// Its inputs are there; it waits for a thread.
    Ready,
    /// A thread runs it.
    Running,
    /// Its result is kept.
    Memory,
    /// It has run, and its result is not kept any more.
    Released,
    /// It failed, or what it depends on did.
    Failed,
    /// It was cancelled, or what it depends on was.
    Cancelled,
}

impl TaskState {
    /// All states, in the order of a task's life.
    pub const ALL: [Self; 8] = [
        Self::Unneeded,
        Self::Waiting,
        Self::Ready,
        Self::Running,
        Self::Memory,
        Self::Released,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word for it, as in `waiting`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unneeded => "unneeded",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Memory => "memory",
            Self::Released => "released",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it can change no more unless somebody asks for its result again.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Memory | Self::Released | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How many tasks are in each state. The eight numbers add up to the number of tasks, at every moment.
///
/// ```
/// use swath_insight::{Counts, TaskState};
/// let mut counts = Counts { waiting: 2, memory: 3, ..Counts::default() };
/// counts[TaskState::Failed] += 1;
/// assert_eq!((counts.total(), counts.done(), counts.unfinished()), (6, 3, 2));
/// assert_eq!(counts.to_string(), "3 of 6 tasks done, 1 failed");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "the states are all there are")]
pub struct Counts {
    /// Have not run, and nobody needs them.
    pub unneeded: u64,
    /// Wait for their inputs.
    pub waiting: u64,
    /// Wait for a thread.
    pub ready: u64,
    /// Run.
    pub running: u64,
    /// Have a result that is kept.
    pub memory: u64,
    /// Have run; their results are not kept any more.
    pub released: u64,
    /// Failed, or depend on what did.
    pub failed: u64,
    /// Were cancelled, or depend on what was.
    pub cancelled: u64,
}

impl Counts {
    /// All tasks: the sum of the eight numbers.
    #[must_use]
    pub fn total(&self) -> u64 {
        TaskState::ALL.iter().map(|state| self[*state]).sum()
    }

    /// Tasks that have run and have, or had, a result: `memory` and `released`.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.memory + self.released
    }

    /// Tasks that are still to end: `waiting`, `ready` and `running`.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.waiting + self.ready + self.running
    }

    /// What becomes of them when their graph is gone: its results are released, and what has not run is not needed.
    #[must_use]
    pub fn when_gone(self) -> Self {
        Self {
            unneeded: self.unneeded + self.unfinished(),
            released: self.done(),
            failed: self.failed,
            cancelled: self.cancelled,
            ..Self::default()
        }
    }
}

impl Index<TaskState> for Counts {
    type Output = u64;

    fn index(&self, state: TaskState) -> &u64 {
        match state {
            TaskState::Unneeded => &self.unneeded,
            TaskState::Waiting => &self.waiting,
            TaskState::Ready => &self.ready,
            TaskState::Running => &self.running,
            TaskState::Memory => &self.memory,
            TaskState::Released => &self.released,
            TaskState::Failed => &self.failed,
            TaskState::Cancelled => &self.cancelled,
        }
    }
}

impl IndexMut<TaskState> for Counts {
    fn index_mut(&mut self, state: TaskState) -> &mut u64 {
        match state {
            TaskState::Unneeded => &mut self.unneeded,
            TaskState::Waiting => &mut self.waiting,
            TaskState::Ready => &mut self.ready,
            TaskState::Running => &mut self.running,
            TaskState::Memory => &mut self.memory,
            TaskState::Released => &mut self.released,
            TaskState::Failed => &mut self.failed,
            TaskState::Cancelled => &mut self.cancelled,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for state in TaskState::ALL {
            self[state] += other[state];
        }
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

/// Done of all, and what else is worth saying.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        write!(f, "{} of {total} task{} done", self.done(), if total == 1 { "" } else { "s" })?;
        for state in [TaskState::Running, TaskState::Failed, TaskState::Cancelled, TaskState::Unneeded] {
            if self[state] > 0 {
                write!(f, ", {} {state}", self[state])?;
            }
        }
        Ok(())
    }
}

/// What is known of some tasks together: how many are in which state, and how long they have run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "it is made wherever tasks are counted")]
pub struct Totals {
    /// The tasks by state.
    pub counts: Counts,
    /// Runs that have ended: attempts, so that a task that is retried has several.
    pub runs: u64,
    /// The sum of their times.
    pub run_time: Duration,
    /// How much of the tasks that run is done, as far as they say it themselves: in thousandths of a task.
    pub partial: u64,
}

impl Totals {
    /// How long a task runs in the mean; none where no run has ended.
    #[must_use]
    pub fn mean_run_time(&self) -> Option<Duration> {
        (self.runs > 0).then(|| self.run_time.div_f64(self.runs as f64))
    }

    /// See [`Counts::when_gone`].
    #[must_use]
    pub fn when_gone(self) -> Self {
        Self { counts: self.counts.when_gone(), partial: 0, ..self }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.counts += other.counts;
        self.runs += other.runs;
        self.run_time += other.run_time;
        self.partial += other.partial;
    }
}

/// The tasks of one graph that have one name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupProgress {
    /// The name of the tasks.
    pub name: String,
    /// The number of their graph, as its client counts them; none where it is not known any more: the tasks of several
    /// graphs of that name are counted together then.
    pub graph: Option<u32>,
    /// The tasks by state.
    pub counts: Counts,
    /// Runs that have ended: attempts, so that a task that is retried has several.
    pub runs: u64,
    /// The sum of their times.
    pub run_time: Duration,
    /// How much of the tasks that run is done, as far as they say it themselves: in thousandths of a task.
    #[serde(default)]
    pub partial: u64,
    /// Tasks that ended in a second, in the mean of the last five. `None`: nobody has looked for long enough.
    #[serde(default)]
    pub rate: Option<f64>,
    /// When the last of them is done, from now on. `None`: too few have run.
    #[serde(default)]
    pub left: Option<Duration>,
}

impl GroupProgress {
    /// A group of that name.
    #[must_use]
    pub fn new(name: impl Into<String>, graph: Option<u32>, totals: Totals) -> Self {
        let Totals { counts, runs, run_time, partial } = totals;
        Self { name: name.into(), graph, counts, runs, run_time, partial, rate: None, left: None }
    }

    /// The share of the tasks that is done, from 0 to 1; those that run count with what they say of themselves.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        fraction(&self.counts, self.partial)
    }

    /// The same without its name.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals { counts: self.counts, runs: self.runs, run_time: self.run_time, partial: self.partial }
    }
}

impl From<Counts> for Totals {
    fn from(counts: Counts) -> Self {
        Self { counts, ..Self::default() }
    }
}

impl fmt::Display for GroupProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.counts)
    }
}

/// The share of tasks that is done. Of none, all are.
fn fraction(counts: &Counts, partial: u64) -> f64 {
    let done = counts.done() as f64 + (partial as f64 / 1000.0).min(counts.running as f64);
    match counts.total() {
        0 => 1.0,
        total => done / total as f64,
    }
}

/// How far everything is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// All tasks by state.
    pub counts: Counts,
    /// The same, group by group. The counts of the groups add up to `counts`.
    pub groups: Vec<GroupProgress>,
    /// How many threads run tasks.
    #[serde(default)]
    pub threads: usize,
    /// Tasks that ended in a second, in the mean of the last five. `None`: nobody has looked for long enough.
    #[serde(default)]
    pub rate: Option<f64>,
    /// How long what is left takes. `None`: too little has run.
    #[serde(default)]
    pub left: Option<Duration>,
}

impl Progress {
    /// Of these groups, in the order of their graphs. Those of one name and graph become one.
    #[must_use]
    pub fn new(groups: impl IntoIterator<Item = GroupProgress>) -> Self {
        let mut merged: Vec<GroupProgress> = Vec::new();
        let mut known: HashMap<(String, Option<u32>), usize> = HashMap::new();
        for group in groups {
            match known.entry((group.name.clone(), group.graph)) {
                Entry::Occupied(at) => {
                    let known = &mut merged[*at.get()];
                    known.counts += group.counts;
                    known.runs += group.runs;
                    known.run_time += group.run_time;
                    known.partial += group.partial;
                }
                Entry::Vacant(at) => {
                    at.insert(merged.len());
                    merged.push(group);
                }
            }
        }
        merged.sort_by_key(|group| group.graph);
        Self { counts: merged.iter().map(|group| group.counts).sum(), groups: merged, ..Self::default() }
    }

    /// The share of the tasks that is done, from 0 to 1; those that run count with what they say of themselves. Of none, all
    /// are.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        fraction(&self.counts, self.groups.iter().map(|group| group.partial).sum())
    }

    /// The groups of one graph.
    pub fn of_graph(&self, graph: u32) -> impl Iterator<Item = &GroupProgress> {
        self.groups.iter().filter(move |group| group.graph == Some(graph))
    }

    /// The tasks of one name in all graphs.
    #[must_use]
    pub fn of_name(&self, name: &str) -> Counts {
        self.groups.iter().filter(|group| group.name == name).map(|group| group.counts).sum()
    }
}

/// The counts of all tasks in a line.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_own_number() {
        let mut counts = Counts::default();
        for (n, state) in (1..).zip(TaskState::ALL) {
            counts[state] = n;
        }
        assert_eq!(counts.total(), 36);
        assert_eq!(counts.done(), counts.memory + counts.released);
        let twice: Counts = [counts, counts].into_iter().sum();
        assert!(TaskState::ALL.iter().all(|state| twice[*state] == 2 * counts[*state]));
    }

    #[test]
    fn the_states_are_told_in_words() {
        assert_eq!(format!("{:>9}|", TaskState::Memory), "   memory|");
        let counts = Counts { running: 1, memory: 1, ..Counts::default() };
        assert_eq!(counts.to_string(), "1 of 2 tasks done, 1 running");
        let failed = Counts { failed: 1, ..Counts::default() };
        assert_eq!(failed.to_string(), "0 of 1 task done, 1 failed");
    }
}
