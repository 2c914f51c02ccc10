//! Why a run took as long as it did: what its threads did with their time, and what was lost to what.

mod findings;
mod spans;
#[cfg(test)]
mod tests;

pub use findings::{Finding, Problem};

use crate::log::{Cost, EventKind, NameCost, Outcome, Run, SavedLog, TimeByUse, Use, nanos};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use spans::{Span, Spans};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A thread that had nothing to run for no longer than this was between two tasks: it waited for the next to be handed to it.
const HAND_OUT: Duration = Duration::from_millis(1);

/// What is to be diagnosed: the whole log, if nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// One graph, by its number.
    pub graph: Option<u32>,
    /// The graphs of one label.
    pub label: Option<String>,
    /// How many threads there were; none: those that have run something.
    pub threads: Option<usize>,
}

impl Extent {
    /// One graph.
    #[must_use]
    pub fn of_graph(graph: u32) -> Self {
        Self { graph: Some(graph), ..Self::default() }
    }

    /// The graphs of one label.
    #[must_use]
    pub fn of_label(label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..Self::default() }
    }

    /// The same, with so many threads.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: Some(threads), ..self }
    }
}

/// What became of the time of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// From the first submission, or start of a task, to the last end.
    #[serde(rename = "wall_ns", with = "nanos")]
    pub wall: Duration,
    /// How many threads there were.
    pub threads: usize,
    /// The sum of the times of all runs.
    #[serde(rename = "work_ns", with = "nanos")]
    pub work: Duration,
    /// How long that work takes at least, on so many threads.
    #[serde(rename = "ideal_ns", with = "nanos")]
    pub ideal: Duration,
    /// The longest chain of tasks that need each other, where the log knows what they need.
    pub critical_path: Option<CriticalPath>,
    /// What the threads did. It adds up to `threads` × `wall`.
    #[serde(rename = "use")]
    pub time: TimeByUse,
    /// The names, those first whose runs took the most time.
    pub names: Vec<NameCost>,
    /// What time was lost to, the most first; one at least, where anything ran.
    pub findings: Vec<Finding>,
    /// Runs of which the log has sums only, or nothing: they are in none of the other numbers.
    pub missing: u64,
}

/// A chain of tasks each of which needs the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CriticalPath {
    /// How long they ran.
    #[serde(rename = "took_ns", with = "nanos")]
    pub took: Duration,
    /// Their keys, the first one first.
    pub tasks: Vec<String>,
}

/// A graph, or what is known of it.
#[derive(Clone, Copy, Debug, Default)]
struct Graph {
    submitted: Option<Duration>,
    finished: Option<Duration>,
    /// Of its runs.
    first: Option<Duration>,
    last: Option<Duration>,
}

impl Graph {
    fn span(&self) -> Option<Span> {
        let from = self.submitted.or(self.first)?;
        let to = self.finished.into_iter().chain(self.last).max()?;
        Some((from, to.max(from)))
    }
}

/// What is gathered from a log.
struct Gathered {
    extent: Span,
    /// The times in which a graph of any number was under way.
    under_way: Spans,
    /// The runs of the graphs that are looked at, in the order of their starts; those that have not ended end with the log.
    runs: Vec<Run>,
    /// The times in which each thread ran something, also of other graphs.
    busy: BTreeMap<(Arc<str>, u16), Spans>,
    /// The times in which a worker was not ready yet, or started no tasks for want of memory.
    starting: FxHashMap<Arc<str>, Spans>,
    paused: FxHashMap<Arc<str>, Spans>,
    threads: usize,
}

impl Gathered {
    /// The workers of threads that have never run anything, once for each: of workers that are known, with as many threads each
    /// as any of them can have.
    fn unseen_threads(&self) -> Vec<Arc<str>> {
        let mut seen: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for worker in self.starting.keys().chain(self.paused.keys()) {
            seen.entry(worker).or_default();
        }
        self.busy.keys().for_each(|(worker, _)| *seen.entry(worker).or_default() += 1);
        let each = self.threads / seen.len().max(1);
        let missing = seen.into_iter().map(|(worker, seen)| (worker, each.saturating_sub(seen)));
        let unseen = missing.flat_map(|(worker, n)| std::iter::repeat_n(Arc::clone(worker), n));
        unseen.take(self.threads - self.busy.len()).collect()
    }
}

impl SavedLog {
    /// Finds out what became of the time of a run. Parts of the log that are damaged are left out.
    ///
    /// It takes the log's runs into memory, which is some 100 bytes each.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use swath_insight::diagnosis::{Extent, Problem};
    /// use swath_insight::log::{Head, Outcome, Run, SavedLog};
    /// // Two threads; the last task takes much longer than the others.
    /// let runs = [(0, 0, 2), (1, 0, 2), (0, 2, 10)].map(|(thread, start, end)| {
    ///     let mut run = Run::new("parse", start, "worker-0", Duration::from_secs(start));
    ///     run.thread = thread;
    ///     run.ended(Duration::from_secs(end), Outcome::Finished);
    ///     run
    /// });
    /// let log = SavedLog::of(Head::new("0.1.0", SystemTime::now()), runs.to_vec(), [], Vec::new());
    /// let diagnosis = log.diagnose(&Extent::default());
    /// assert_eq!((diagnosis.wall, diagnosis.ideal), (Duration::from_secs(10), Duration::from_secs(6)));
    /// assert_eq!(diagnosis.findings[0].problem, Problem::Straggler);
    /// ```
    #[must_use]
    pub fn diagnose(&self, extent: &Extent) -> Diagnosis {
        let Some(gathered) = self.gather(extent) else { return Diagnosis::default() };
        let wall = gathered.extent.1 - gathered.extent.0;
        let work = gathered.runs.iter().filter_map(Run::took).sum();
        let idle = findings::Idle::of(&gathered);
        let mut diagnosis = Diagnosis {
            wall,
            threads: gathered.threads,
            work,
            ideal: work / u32::try_from(gathered.threads).unwrap_or(u32::MAX).max(1),
            critical_path: self.critical_path(&gathered.runs),
            time: idle.time,
            names: names(&gathered.runs),
            findings: Vec::new(),
            missing: self.missing(),
        };
        diagnosis.findings = findings::find(&diagnosis, &gathered, &idle, self);
        diagnosis
    }

    fn missing(&self) -> u64 {
        let folded: u64 = self.folded().flatten().map(|sum| sum.runs()).sum();
        let lost = self.events().flatten().map(|event| match event.kind {
            EventKind::Gap { runs, .. } => runs,
            _ => 0,
        });
        folded.saturating_add(lost.sum())
    }

    fn gather(&self, wanted: &Extent) -> Option<Gathered> {
        let until = self.until();
        let mut graphs: BTreeMap<u32, Graph> = BTreeMap::new();
        let mut labelled: FxHashSet<u32> = FxHashSet::default();
        let mut starting: FxHashMap<Arc<str>, Vec<Span>> = FxHashMap::default();
        let mut paused = starting.clone();
        let mut names: FxHashSet<Arc<str>> = FxHashSet::default();
        // When each worker ended, in order.
        let mut ends: FxHashMap<String, Vec<Duration>> = FxHashMap::default();
        let mut name = |worker: &str| match names.get(worker) {
            Some(name) => Arc::clone(name),
            None => {
                let name: Arc<str> = worker.into();
                names.insert(Arc::clone(&name));
                name
            }
        };
        for event in self.events().flatten() {
            match event.kind {
                EventKind::GraphSubmitted { graph, label, .. } => {
                    graphs.entry(graph).or_default().submitted = Some(event.at);
                    if label.is_some() && label == wanted.label {
                        labelled.insert(graph);
                    }
                }
                EventKind::GraphFinished { graph, .. } | EventKind::GraphCancelled { graph } => {
                    graphs.entry(graph).or_default().finished = Some(event.at);
                }
                EventKind::WorkerStarted { worker, .. } => {
                    starting.entry(name(&worker)).or_default().push((event.at, until));
                }
                EventKind::WorkerReady { worker, .. } => {
                    // One that was ready when the log began has started before.
                    let begun = starting.entry(name(&worker)).or_default();
                    match begun.last_mut() {
                        Some(last) if last.1 == until => last.1 = event.at,
                        _ => begun.push((Duration::ZERO, event.at)),
                    }
                }
                EventKind::WorkerLost { worker, .. } | EventKind::WorkerRetired { worker, .. } => {
                    ends.entry(worker).or_default().push(event.at);
                }
                EventKind::WorkerPaused { worker, .. } => {
                    paused.entry(name(&worker)).or_default().push((event.at, until));
                }
                EventKind::WorkerResumed { worker } => {
                    if let Some(last) = paused.entry(name(&worker)).or_default().last_mut() {
                        last.1 = last.1.min(event.at);
                    }
                }
                _ => {}
            }
        }
        let is_wanted = |graph: u32| match (wanted.graph, &wanted.label) {
            (Some(number), _) => graph == number,
            (None, Some(_)) => labelled.contains(&graph),
            (None, None) => true,
        };
        let mut runs = Vec::new();
        let mut busy: BTreeMap<(Arc<str>, u16), Vec<Span>> = BTreeMap::new();
        for mut run in self.runs().flatten() {
            // One that has no end on record ended with its worker at the latest.
            let died = || ends.get(&*run.worker)?.iter().copied().filter(|end| *end >= run.start).min();
            let end = run.end.or_else(died).unwrap_or(until).max(run.start);
            if run.end.is_none() && end < until {
                run.outcome = Outcome::Lost;
            }
            run.end = Some(end);
            busy.entry((run.worker.clone(), run.thread)).or_default().push((run.start, end));
            let graph = graphs.entry(run.graph).or_default();
            graph.first = Some(graph.first.map_or(run.start, |first| first.min(run.start)));
            graph.last = Some(graph.last.map_or(end, |last| last.max(end)));
            if is_wanted(run.graph) {
                runs.push(run);
            }
        }
        // Runs are large, so their starts are sorted first.
        runs.sort_by_cached_key(|run| run.start);
        let wanted_spans =
            graphs.iter().filter(|(number, _)| is_wanted(**number)).filter_map(|(_, graph)| graph.span());
        let extent = wanted_spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let threads = wanted.threads.unwrap_or(0).max(busy.len());
        Some(Gathered {
            extent,
            under_way: Spans::of(graphs.values().filter_map(Graph::span)),
            runs,
            busy: busy.into_iter().map(|(thread, spans)| (thread, Spans::of(spans))).collect(),
            starting: starting.into_iter().map(|(worker, spans)| (worker, Spans::of(spans))).collect(),
            paused: paused.into_iter().map(|(worker, spans)| (worker, Spans::of(spans))).collect(),
            threads,
        })
    }

    /// The longest chain of runs by time. A task that is taken as an input and is not among the runs took no time.
    fn critical_path(&self, runs: &[Run]) -> Option<CriticalPath> {
        /// The graph of a task, and the number in its key.
        type Task = (u32, u64);
        let mut inputs: FxHashMap<Task, Vec<u64>> = FxHashMap::default();
        for input in self.inputs().flatten() {
            inputs.entry((input.graph, input.hash)).or_default().push(input.from_hash);
        }
        if inputs.is_empty() {
            return None;
        }
        let mut tasks: FxHashMap<Task, (Duration, &Run)> = FxHashMap::default();
        // Tasks end after what they need: in the order of ends, the inputs of each are known when it comes.
        let mut by_end: Vec<&Run> = runs.iter().filter(|run| run.outcome == Outcome::Finished).collect();
        by_end.sort_by_key(|run| run.end);
        let mut chains: FxHashMap<Task, (Duration, Option<Task>)> = FxHashMap::default();
        let mut longest: Option<(Duration, Task)> = None;
        for run in by_end {
            let task = (run.graph, run.hash);
            let before = inputs.get(&task).into_iter().flatten().map(|hash| (run.graph, *hash));
            let before = before.filter_map(|input| Some((chains.get(&input)?.0, input))).max();
            let took = run.took().unwrap_or_default() + before.map_or(Duration::ZERO, |(took, _)| took);
            tasks.insert(task, (took, run));
            chains.insert(task, (took, before.map(|(_, input)| input)));
            if longest.is_none_or(|(most, _)| took > most) {
                longest = Some((took, task));
            }
        }
        let (took, end) = longest?;
        let mut keys = Vec::new();
        let mut at = Some(end);
        while let Some(task) = at.filter(|_| keys.len() <= chains.len()) {
            keys.push(tasks.get(&task)?.1.key());
            at = chains.get(&task)?.1;
        }
        keys.reverse();
        Some(CriticalPath { took, tasks: keys })
    }
}

fn names(runs: &[Run]) -> Vec<NameCost> {
    let mut costs: BTreeMap<&str, Cost> = BTreeMap::new();
    runs.iter().for_each(|run| costs.entry(&run.name).or_default().add(run));
    let mut names: Vec<_> = costs.into_iter().map(|(name, cost)| NameCost { name: name.to_string(), cost }).collect();
    names.sort_by(|a, b| b.cost.took.cmp(&a.cost.took).then_with(|| a.name.cmp(&b.name)));
    names
}

/// What the threads did, the findings, and the names that took the most time.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.threads == 0 {
            return f.write_str("nothing has run");
        }
        let share = 100.0 * self.time.share(Use::Computing);
        let s = if self.threads == 1 { "" } else { "s" };
        write!(f, "{} thread{s} computed {share:.0} % of {}; ", self.threads, seconds(self.wall))?;
        write!(f, "their work takes {} at least", seconds(self.ideal))?;
        if let Some(path) = &self.critical_path {
            write!(f, ", its longest chain of {} tasks {}", path.tasks.len(), seconds(path.took))?;
        }
        for (of, time) in self.time.ranked().into_iter().filter(|(of, _)| *of != Use::Computing) {
            let share = 100.0 * self.time.share(of);
            if share >= 1.0 {
                write!(f, "\n  {share:>3.0} % {of}: {}", seconds(time))?;
            }
        }
        for (at, finding) in self.findings.iter().enumerate() {
            write!(f, "\n{}. {finding}", at + 1)?;
        }
        const MOST: usize = 8;
        for NameCost { name, cost } in self.names.iter().take(MOST) {
            let share = 100.0 * cost.took.as_secs_f64() / self.work.as_secs_f64().max(f64::MIN_POSITIVE);
            let name = crate::log::plain(name);
            write!(f, "\n  {name:<24} {share:>3.0} % {:>9} {:>9} runs", seconds(cost.took), cost.runs)?;
        }
        if let Some(others) = self.names.len().checked_sub(MOST).filter(|n| *n > 0) {
            write!(f, "\n  and {others} other names")?;
        }
        if self.missing > 0 {
            write!(f, "\n{} runs are missing in this: the log has their sums at most", self.missing)?;
        }
        Ok(())
    }
}

/// A time with three digits.
pub(crate) fn seconds(time: Duration) -> String {
    let s = time.as_secs_f64();
    match s {
        _ if s >= 100.0 => format!("{s:.0} s"),
        _ if s >= 10.0 => format!("{s:.1} s"),
        _ if s >= 1.0 => format!("{s:.2} s"),
        _ if s >= 1e-3 => three(s * 1e3, "ms"),
        _ => three(s * 1e6, "µs"),
    }
}

fn three(n: f64, unit: &str) -> String {
    match n {
        _ if n >= 100.0 => format!("{n:.0} {unit}"),
        _ if n >= 10.0 => format!("{n:.1} {unit}"),
        _ => format!("{n:.2} {unit}"),
    }
}
