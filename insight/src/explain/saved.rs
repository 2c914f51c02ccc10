//! Explanations from a saved log: what is recorded of one task.

use super::{Explanation, KeyError, KeyPrefix, Step, TaskCost, TaskDetails, TaskName, Why, median};
use crate::log::{EventKind, Outcome, Run, SavedLog};
use crate::{TaskState, Totals};
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How many steps down to the one that holds a task up are named.
const STEPS: usize = 16;
/// Of how many runs of a name the median is taken at most.
const TIMES: usize = 1 << 17;

/// A task by its graph and the number in its key.
type Task = (u32, u64);

/// A log that is looked through for one key.
struct Looked {
    prefix: KeyPrefix,
    /// Of each name that was met, the numbers of keys that are meant.
    names: FxHashMap<Arc<str>, Option<RangeInclusive<u64>>>,
    /// The runs of tasks that are meant.
    runs: Vec<Run>,
    /// How long runs of names that are meant took.
    times: FxHashMap<Arc<str>, Vec<Duration>>,
    /// The inputs of each task, in their order.
    inputs: FxHashMap<Task, Vec<(Arc<str>, u64)>>,
    /// Tasks that are meant and known from what they take or give.
    related: FxHashSet<(u32, Arc<str>, u64)>,
}

impl Looked {
    fn through(log: &SavedLog, key: &str) -> Self {
        let mut looked = Self {
            prefix: KeyPrefix::new(key),
            names: FxHashMap::default(),
            runs: Vec::new(),
            times: FxHashMap::default(),
            inputs: FxHashMap::default(),
            related: FxHashSet::default(),
        };
        for run in log.runs().flatten() {
            let Some(numbers) = looked.numbers(&run.name) else { continue };
            if let (Some(took), Outcome::Finished) = (run.took(), run.outcome) {
                let times = looked.times.entry(run.name.clone()).or_default();
                if times.len() < TIMES {
                    times.push(took);
                }
            }
            if numbers.contains(&run.hash) {
                looked.runs.push(run);
            }
        }
        for input in log.inputs().flatten() {
            for (name, hash) in [(&input.name, input.hash), (&input.from_name, input.from_hash)] {
                if looked.numbers(name).is_some_and(|numbers| numbers.contains(&hash)) {
                    looked.related.insert((input.graph, name.clone(), hash));
                }
            }
            let task = looked.inputs.entry((input.graph, input.hash)).or_default();
            task.push((input.from_name, input.from_hash));
        }
        looked
    }

    fn numbers(&mut self, name: &Arc<str>) -> Option<RangeInclusive<u64>> {
        match self.names.get(name) {
            Some(known) => known.clone(),
            None => {
                let numbers = self.prefix.numbers(name);
                self.names.entry(name.clone()).or_insert(numbers).clone()
            }
        }
    }

    /// The task that is meant: of equal keys that in the latest graph.
    fn only(&self) -> Result<Option<(u32, Arc<str>, u64)>, KeyError> {
        let of_runs = self.runs.iter().map(|run| (run.graph, run.name.clone(), run.hash));
        let mut found: Vec<_> = of_runs.chain(self.related.iter().cloned()).collect();
        found.sort_by(|a, b| (&a.1, a.2, a.0).cmp(&(&b.1, b.2, b.0)));
        let latest = found.last().cloned();
        found.dedup_by_key(|task| (task.1.clone(), task.2));
        match found.len() {
            0 | 1 => Ok(latest),
            _ => {
                let keys = found.iter().map(|(_, name, hash)| TaskName::of(name, *hash).key);
                Err(KeyError::ambiguous(self.prefix.text(), keys.collect()))
            }
        }
    }
}

/// How the last run of each task ended.
type Ends = FxHashMap<Task, Outcome>;

impl SavedLog {
    /// What is recorded of a task, by its key or the beginning of it: what ran where, when, and for how long beside what is
    /// usual for its name, how it ended, how many attempts there were, and what it waited for where its inputs are recorded.
    /// Takes as long as reading the log.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use swath_insight::log::{Head, Outcome, Run, SavedLog};
    /// let runs = (0..3).map(|i| {
    ///     let mut run = Run::new("parse", i << 60, "worker-0", Duration::from_secs(i));
    ///     run.ended(Duration::from_secs(i + 1), Outcome::Finished);
    ///     run
    /// });
    /// let log = SavedLog::of(Head::new("0.1.0", SystemTime::now()), runs.collect::<Vec<_>>(), [], Vec::new());
    /// let told = log.explain("parse-1")?;
    /// assert_eq!(told.task.key, "parse-1000000000000000");
    /// assert_eq!(told.cost.took, Some(Duration::from_secs(1)));
    /// assert!(log.explain("parse").is_err() && log.explain("nope").is_err());
    /// # Ok::<(), swath_insight::explain::KeyError>(())
    /// ```
    ///
    /// # Errors
    /// [`KeyError::Unknown`] for a key of which the log has nothing; [`KeyError::Ambiguous`] for the beginning of several.
    pub fn explain(&self, key: &str) -> Result<Explanation, KeyError> {
        let mut looked = Looked::through(self, key);
        let Some((graph, name, hash)) = looked.only()? else {
            return self.forgotten(&looked.prefix).ok_or_else(|| KeyError::unknown(looked.prefix.text()));
        };
        let mut runs = std::mem::take(&mut looked.runs);
        runs.retain(|run| run.graph == graph && run.hash == hash && run.name == name);
        runs.sort_by_key(|run| run.start);
        let usual = looked.times.get_mut(&name).and_then(|times| median(times));
        let until = self.until();
        let (state, why) = match runs.last() {
            Some(last) => ended(last, until, usual),
            None => (TaskState::Waiting, Why::NotNeeded),
        };
        let mut told = Explanation::new(TaskName::of(&name, hash), state, why);
        told.task.graph = Some(graph);
        told.cost = cost(&runs, usual);
        if !looked.inputs.is_empty() {
            let ends = self.ends();
            let its = looked.inputs.get(&(graph, hash)).map_or(&[][..], Vec::as_slice);
            let there = its.iter().filter(|(_, input)| ends.get(&(graph, *input)) == Some(&Outcome::Finished)).count();
            told.timeline.inputs = Some((there as u32, its.len() as u32));
            if runs.is_empty() {
                waits(&mut told, (graph, hash), &looked.inputs, &ends);
            }
        }
        self.date(&mut told, &runs);
        Ok(told)
    }

    /// A task of which only its name's totals are left.
    fn forgotten(&self, prefix: &KeyPrefix) -> Option<Explanation> {
        let (name, hash) = prefix.whole()?;
        let mut totals = Totals::default();
        for group in self.summary().groups.into_iter().filter(|group| group.name == name) {
            totals += Totals { counts: group.counts, runs: group.cost.runs, run_time: group.cost.took, partial: 0 };
        }
        let known = totals.runs > 0;
        known.then(|| Explanation::new(TaskName::of(name, hash), TaskState::Released, Why::Forgotten { totals }))
    }

    fn ends(&self) -> Ends {
        let mut last: FxHashMap<Task, (Duration, Outcome)> = FxHashMap::default();
        for run in self.runs().flatten() {
            let known = last.entry((run.graph, run.hash)).or_insert((run.start, run.outcome));
            if run.start >= known.0 {
                *known = (run.start, run.outcome);
            }
        }
        last.into_iter().map(|(task, (_, outcome))| (task, outcome)).collect()
    }

    /// Notes when what happened, and what the graph is called.
    fn date(&self, told: &mut Explanation, runs: &[Run]) {
        let started = self.head().started;
        let at = |since: Duration| -> Option<SystemTime> { started.checked_add(since) };
        let last = runs.last();
        told.timeline.started = last.and_then(|run| at(run.start));
        told.timeline.ended = last.and_then(|run| at(run.end?));
        told.timeline.ready = last.and_then(|run| at(run.ready?));
        told.timeline.assigned = last.and_then(|run| at(run.assigned?));
        told.timeline.submitted = last.and_then(|run| at(run.submitted?));
        let TaskDetails { graph, label, .. } = &mut told.task;
        for event in self.events().flatten() {
            if let EventKind::GraphSubmitted { graph: number, label: called, .. } = event.kind
                && Some(number) == *graph
            {
                *label = called;
                let submitted = &mut told.timeline.submitted;
                *submitted = submitted.or_else(|| at(event.at));
            }
        }
    }
}

/// What became of a task, by its last run.
fn ended(last: &Run, until: Duration, usual: Option<Duration>) -> (TaskState, Why) {
    let worker = last.worker.to_string();
    match last.outcome {
        Outcome::Running => {
            let (since, thread) = (Some(until.saturating_sub(last.start)), Some(last.thread));
            (TaskState::Running, Why::Running { worker, thread, since, usual, progress: None })
        }
        Outcome::Failed => {
            let error = format!("on {worker}; what it said is not in the log");
            (TaskState::Failed, Why::Failed { error, root: None })
        }
        Outcome::Cancelled => (TaskState::Cancelled, Why::Cancelled { by: None }),
        Outcome::Lost => (TaskState::Waiting, Why::Lost { worker, again: None }),
        Outcome::Finished => (TaskState::Released, Why::Released),
    }
}

/// What the runs of a task have cost, in the order of time.
fn cost(runs: &[Run], usual: Option<Duration>) -> TaskCost {
    let of = |outcome| runs.iter().filter(|run| run.outcome == outcome).count() as u32;
    let last = runs.iter().rev().find(|run| run.end.is_some());
    TaskCost {
        runs: runs.len() as u32,
        failed: of(Outcome::Failed),
        lost: of(Outcome::Lost),
        took: last.and_then(Run::took),
        total: runs.iter().filter_map(Run::took).sum(),
        usual,
        cpu: last.and_then(|run| run.cpu),
        bytes_in: last.and_then(|run| run.bytes_in),
        bytes_out: last.and_then(|run| run.bytes_out),
    }
}

/// Says what a task that never ran waits for: the first input without a result, what that waits for, and so on.
fn waits(told: &mut Explanation, task: Task, inputs: &FxHashMap<Task, Vec<(Arc<str>, u64)>>, ends: &Ends) {
    let why = |of: Task| -> (TaskState, Why, Option<(TaskName, u64)>) {
        let its = inputs.get(&of).map_or(&[][..], Vec::as_slice);
        let missing = || its.iter().filter(|(_, hash)| ends.get(&(of.0, *hash)) != Some(&Outcome::Finished));
        let first = missing().next().map(|(name, hash)| (TaskName::of(name, *hash), *hash));
        let (count, named) = (missing().count() as u32, first.as_ref().map(|(name, _)| name.clone()));
        (TaskState::Waiting, Why::Inputs { missing: count, all: its.len() as u32, first: named }, first)
    };
    let (_, first_why, mut next) = why(task);
    if next.is_none() {
        return;
    }
    told.why = first_why;
    let mut seen = FxHashSet::default();
    while let Some((name, hash)) = next.take() {
        let of = (task.0, hash);
        let (state, reason) = match ends.get(&of) {
            _ if !seen.insert(of) || told.because.len() == STEPS => return,
            Some(Outcome::Failed) => {
                let root = Some(name.clone());
                let error = "what it said is not in the log".to_string();
                (told.state, told.why) = (TaskState::Failed, Why::Failed { error: error.clone(), root });
                (TaskState::Failed, Why::Failed { error, root: None })
            }
            Some(Outcome::Cancelled) => {
                (told.state, told.why) = (TaskState::Cancelled, Why::Cancelled { by: Some(name.clone()) });
                (TaskState::Cancelled, Why::Cancelled { by: None })
            }
            _ => {
                let (state, reason, after) = why(of);
                next = after;
                match reason {
                    Why::Inputs { missing: 0, .. } => (TaskState::Ready, Why::NotNeeded),
                    reason => (state, reason),
                }
            }
        };
        told.because.push(Step::new(name, state, reason));
    }
}
