//! What a saved log says as a whole.

use super::chunk::ChunkKind;
use super::event::EventKind;
use super::run::{Outcome, Run};
use super::saved::{Ending, SavedLog};
use super::{Folded, nanos};
use crate::Counts;
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a saved log says as a whole: how much is in it, whether that is everything, and the sums of its groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The format of the file.
    pub format: u32,
    /// Whether nothing is missing: the log was ended in order, all of it can be read, and nothing was lost.
    pub complete: bool,
    /// How many runs it knows of.
    pub runs: u64,
    /// How many of them are in sums only.
    pub folded: u64,
    /// How many runs are known to be missing.
    pub lost: u64,
    /// How many events it has.
    pub events: u64,
    /// Up to when it says something, in nanoseconds since its start.
    #[serde(rename = "until_ns", with = "nanos")]
    pub until: Duration,
    /// What is missing or damaged, in words.
    pub problems: Vec<String>,
    /// The tasks of each graph and name, in the order of graphs and names.
    pub groups: Vec<GroupSummary>,
    /// The names of all graphs, those that took the most time first.
    pub names: Vec<NameCost>,
}

/// The tasks of one graph and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupSummary {
    /// Their name.
    pub name: String,
    /// The number of their graph; none where those of several are counted together.
    pub graph: Option<u32>,
    /// The tasks by state: as they were counted, or, where they were not, as their runs tell. A task that has run is
    /// `released` there, and one whose run had not ended is `running`.
    pub counts: Counts,
    /// What their runs cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// A name, and what its runs cost in all graphs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NameCost {
    /// The name.
    pub name: String,
    /// What its runs cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What some runs cost together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cost {
    /// How many runs.
    pub runs: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How long they took.
    #[serde(rename = "took_ns", with = "nanos")]
    pub took: Duration,
    /// How long they were on a processor, as far as that was measured.
    #[serde(rename = "cpu_ns", with = "nanos")]
    pub cpu: Duration,
    /// The size of their inputs, as far as it is known.
    pub bytes_in: u64,
    /// The size of their results, as far as it is known.
    pub bytes_out: u64,
    /// The longest of them.
    #[serde(rename = "longest_ns", with = "nanos")]
    pub longest: Duration,
}

impl Cost {
    pub(crate) fn add(&mut self, run: &Run) {
        let took = run.took().unwrap_or_default();
        self.runs += 1;
        self.failed += u64::from(run.outcome == Outcome::Failed);
        self.took = self.took.saturating_add(took);
        self.cpu = self.cpu.saturating_add(run.cpu.unwrap_or_default());
        self.bytes_in = self.bytes_in.saturating_add(run.bytes_in.unwrap_or(0));
        self.bytes_out = self.bytes_out.saturating_add(run.bytes_out.unwrap_or(0));
        self.longest = self.longest.max(took);
    }

    fn add_sum(&mut self, sum: &Folded) {
        self.runs = self.runs.saturating_add(sum.runs());
        self.failed = self.failed.saturating_add(sum.outcomes[Outcome::Failed.index()]);
        self.took = self.took.saturating_add(sum.took);
        self.cpu = self.cpu.saturating_add(sum.cpu);
        self.bytes_in = self.bytes_in.saturating_add(sum.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(sum.bytes_out);
        self.longest = self.longest.max(sum.longest);
    }

    fn add_cost(&mut self, other: &Self) {
        self.runs = self.runs.saturating_add(other.runs);
        self.failed = self.failed.saturating_add(other.failed);
        self.took = self.took.saturating_add(other.took);
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.longest = self.longest.max(other.longest);
    }
}

/// What is gathered of one group.
#[derive(Default)]
struct Group {
    cost: Cost,
    /// When the last run of each task began and how it ended, by the numbers of the task; kept only where nobody has
    /// counted the tasks.
    tasks: FxHashMap<(u32, u64), (Duration, Outcome)>,
    /// The same of tasks that are known from sums only.
    folded: [u64; Outcome::ALL.len()],
}

impl SavedLog {
    /// Reads all of it, and adds up. Damaged parts are left out, and told among the
    /// [`problems`](Summary::problems).
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use swath_insight::log::{Head, Outcome, Run, SavedLog};
    /// let runs = (0..3).map(|i| {
    ///     let mut run = Run::new("parse", i, "worker-0", Duration::from_secs(i));
    ///     run.ended(Duration::from_secs(i + 1), Outcome::Finished);
    ///     run
    /// });
    /// let log = SavedLog::of(Head::new("0.1.0", SystemTime::now()), runs.collect::<Vec<_>>(), [], Vec::new());
    /// let summary = log.summary();
    /// assert_eq!((summary.runs, summary.groups[0].counts.done()), (3, 3));
    /// assert_eq!(summary.names[0].cost.took, Duration::from_secs(3));
    /// ```
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { format: self.format(), until: self.until(), ..Summary::default() };
        let mut problems = self.problems().to_vec();
        let counted = self.counts();
        let mut groups: BTreeMap<(Option<u32>, Arc<str>), Group> = BTreeMap::new();
        for runs in self.run_batches() {
            let runs = match runs {
                Ok(runs) => runs,
                Err(error) => {
                    problems.push(error.to_string());
                    continue;
                }
            };
            for run in runs.iter() {
                summary.runs += 1;
                let group = groups.entry((Some(run.graph), run.name.clone())).or_default();
                group.cost.add(run);
                if counted.is_none() {
                    let last = group.tasks.entry((run.task, run.hash)).or_insert((run.start, run.outcome));
                    if run.start >= last.0 {
                        *last = (run.start, run.outcome);
                    }
                }
            }
        }
        for sum in self.folded() {
            match sum {
                Ok(sum) => {
                    summary.runs = summary.runs.saturating_add(sum.runs());
                    summary.folded = summary.folded.saturating_add(sum.runs());
                    let group = groups.entry((sum.graph, sum.name.clone())).or_default();
                    group.cost.add_sum(&sum);
                    for (all, more) in group.folded.iter_mut().zip(sum.outcomes) {
                        *all = all.saturating_add(more);
                    }
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        for event in self.events() {
            match event {
                Ok(event) => {
                    summary.events += 1;
                    if let EventKind::Gap { runs, .. } = event.kind {
                        summary.lost = summary.lost.saturating_add(runs);
                        problems.push(event.to_string().trim_start().to_string());
                    }
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        let is_told = |kind| matches!(kind, ChunkKind::Runs | ChunkKind::Folded | ChunkKind::Events);
        problems.extend(self.check_those(|kind| !is_told(kind)).iter().map(ToString::to_string));
        let lost = self.totals().map_or(0, |totals| totals.lost_runs + totals.lost_events);
        summary.complete = problems.is_empty() && self.ending() == Ending::Finished && lost == 0;
        summary.problems = problems;
        summary.names = names(&groups);
        summary.groups = merged(groups, counted);
        summary
    }

    /// The runs, some thousands at once, wherever they are.
    fn run_batches(&self) -> impl Iterator<Item = Result<std::borrow::Cow<'_, [Run]>, super::LogError>> + '_ {
        let of_memory = match &self.body {
            super::saved::Body::Memory { runs, .. } => Some(Ok((&**runs).into())),
            super::saved::Body::Chunks { .. } => None,
        };
        of_memory.into_iter().chain(self.run_chunks().map(|runs| runs.map(Into::into)))
    }
}

fn names(groups: &BTreeMap<(Option<u32>, Arc<str>), Group>) -> Vec<NameCost> {
    let mut names: BTreeMap<&str, Cost> = BTreeMap::new();
    for ((_, name), group) in groups {
        names.entry(name).or_default().add_cost(&group.cost);
    }
    let mut names: Vec<_> = names.into_iter().map(|(name, cost)| NameCost { name: name.to_string(), cost }).collect();
    names.sort_by(|a, b| (b.cost.took, b.cost.runs).cmp(&(a.cost.took, a.cost.runs)).then(a.name.cmp(&b.name)));
    names
}

/// The groups with their counts, whether they were counted or not, and those that were counted and never ran.
fn merged(
    groups: BTreeMap<(Option<u32>, Arc<str>), Group>,
    counted: Option<Vec<crate::GroupProgress>>,
) -> Vec<GroupSummary> {
    let is_counted = counted.is_some();
    let mut all: BTreeMap<(Option<u32>, String), GroupSummary> = BTreeMap::new();
    for group in counted.unwrap_or_default() {
        let place = (group.graph, group.name.clone());
        let summary = all.entry(place).or_insert_with(|| GroupSummary {
            name: group.name,
            graph: group.graph,
            ..GroupSummary::default()
        });
        summary.counts += group.counts;
    }
    for ((graph, name), group) in groups {
        // Graphs of one call, and those of tasks, are counted by name alone.
        let own = (graph, name.to_string());
        if is_counted
            && !all.contains_key(&own)
            && let Some(of_name) = all.get_mut(&(None, name.to_string()))
        {
            of_name.cost.add_cost(&group.cost);
            continue;
        }
        let summary =
            all.entry(own).or_insert_with(|| GroupSummary { name: name.to_string(), graph, ..GroupSummary::default() });
        summary.cost.add_cost(&group.cost);
        if !is_counted {
            summary.counts = group.counts();
        }
    }
    all.into_values().collect()
}

impl Group {
    /// The tasks by state, as their runs tell. A run that was lost has its task wait to run again.
    fn counts(&self) -> Counts {
        let mut outcomes = self.folded;
        for (_, outcome) in self.tasks.values() {
            outcomes[outcome.index()] += 1;
        }
        let [running, released, failed, cancelled, waiting] = outcomes;
        Counts { running, released, failed, cancelled, waiting, ..Counts::default() }
    }
}

/// What is in it, whether that is all, and the names by cost.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, runs, folded, events, until, .. } = self;
        write!(f, "format {format}, {:.1} s: {runs} runs", until.as_secs_f64())?;
        if *folded > 0 {
            write!(f, " ({folded} of them in sums only)")?;
        }
        writeln!(f, ", {events} events{}", if self.complete { "" } else { "; incomplete" })?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "  {}", plain(problem)))?;
        let all: f64 = self.names.iter().map(|name| name.cost.took.as_secs_f64()).sum();
        for NameCost { name, cost } in &self.names {
            let took = cost.took.as_secs_f64();
            let share = if all > 0.0 { 100.0 * took / all } else { 0.0 };
            write!(f, "  {:<24} {share:>5.1} % {took:>12.6} s {:>9} runs", plain(name), cost.runs)?;
            if cost.failed > 0 {
                write!(f, ", {} failed", cost.failed)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The same without what would act on a terminal, and no longer than a line.
pub(crate) fn plain(text: &str) -> String {
    const MOST: usize = 400;
    let mut plain: String = text.chars().take(MOST).flat_map(escaped).collect();
    if text.chars().nth(MOST).is_some() {
        plain.push('…');
    }
    plain
}

/// Control characters, and those that turn the direction of text, as Rust writes them.
fn escaped(c: char) -> impl Iterator<Item = char> {
    let acts =
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let (kept, escape) = if acts { (None, Some(c.escape_debug())) } else { (Some(c), None) };
    kept.into_iter().chain(escape.into_iter().flatten())
}
