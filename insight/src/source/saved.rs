//! A saved log as a source.

use super::answers::{
    Death, DiagnosisAnswer, EventRow, GroupRow, LogRow, NameRow, Path, Rows, Status, SystemFacts, TaskRow, WorkerRow,
    WorkerState,
};
use super::cells::Stream;
use super::gathered::{Gathered, LONGEST_NAME, by_number};
use super::memory::MemoryOverTime;
use super::profile::ProfileAnswer;
use super::{Answer, MOST_ROWS, Page, Source, VERSION, Window, words};
use crate::diagnosis::{Diagnosis, Extent};
use crate::log::{GroupSummary, NameCost, Outcome, Run, SavedLog, Summary, nanos};
use crate::picture::text::cut;
use crate::profile::Profile;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// So many keys of the critical path are told, the last ones.
const MOST_PATH: usize = 100;
/// What has no name.
const UNTITLED: &str = "a run";
/// So many problems of a log are told.
const MOST_PROBLEMS: usize = 50;

/// Answers from a saved log, which is read once.
///
/// It takes some 150 bytes of memory a run. Of what is damaged nothing is answered, and [`Status::problems`] says so.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use swath_insight::log::{Head, Outcome, Run, SavedLog};
/// use swath_insight::source::{Page, SavedSource, Source, Window};
/// let runs = (0..3).map(|i| {
///     let mut run = Run::new("parse", i, "worker-0", Duration::from_secs(i));
///     run.ended(Duration::from_secs(i + 1), Outcome::Finished);
///     run
/// });
/// let log = SavedLog::of(Head::new("0.1.0", SystemTime::now()), runs.collect::<Vec<_>>(), [], Vec::new());
/// let source = SavedSource::of(&log);
/// assert_eq!(source.status()?.first_line, "Finished in 3 s");
/// assert_eq!(source.names(&Page::default())?.rows[0].cost.runs, 3);
/// let stream = source.stream(&Window::new(Duration::ZERO, Duration::from_secs(3), 100))?;
/// assert_eq!((stream.rows.len(), stream.rows[0].cells.took.len()), (1, 3));
/// # Ok::<(), swath_insight::source::SourceError>(())
/// ```
#[derive(Debug)]
pub struct SavedSource {
    status: Status,
    diagnosis: Diagnosis,
    summary: Summary,
    gathered: Gathered,
    system: SystemFacts,
    profile: Option<Profile>,
}

impl SavedSource {
    /// Reads a log.
    #[must_use]
    pub fn of(log: &SavedLog) -> Self {
        // Each reads the whole log, so two do it at once.
        let (diagnosis, summary, gathered) = std::thread::scope(|scope| {
            let diagnosing = std::thread::Builder::new().spawn_scoped(scope, || log.diagnose(&Extent::default()));
            let summary = log.summary();
            let gathered = Gathered::of(log, &summary);
            let diagnosis = match diagnosing.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(diagnosis)) => diagnosis,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => log.diagnose(&Extent::default()),
            };
            (diagnosis, summary, gathered)
        });
        let status = status(log, &summary, &diagnosis, &gathered);
        let head = log.head();
        let file = log.path().file_name().map(|name| cut(&name.to_string_lossy(), LONGEST_NAME));
        let mut machine = head.machine.clone();
        machine.system = cut(&machine.system, LONGEST_NAME);
        machine.architecture = cut(&machine.architecture, LONGEST_NAME);
        let system = SystemFacts {
            version: VERSION,
            swath: cut(&head.version, LONGEST_NAME),
            insight: env!("CARGO_PKG_VERSION").to_string(),
            build: cut(&head.build, LONGEST_NAME),
            format: log.format(),
            machine,
            file: file.filter(|_| !log.is_in_memory() && !is_nameless(log.path())),
        };
        Self { status, diagnosis, summary, gathered, system, profile: None }
    }

    /// The same with where tasks spent their time, which a log does not have.
    #[must_use]
    pub fn with_profile(self, profile: Profile) -> Self {
        Self { profile: Some(profile), ..self }
    }

    /// The same under that title, where neither the program nor the file's name gives one.
    #[must_use]
    pub fn titled(mut self, title: &str) -> Self {
        if self.status.title == UNTITLED {
            self.status.title = cut(title, LONGEST_NAME);
        }
        self
    }

    fn task(&self, run: &Run) -> TaskRow {
        let rank = self.gathered.ranks.get(&run.name).map_or(usize::MAX, |rank| *rank as usize);
        let since = run.ready.or(run.submitted);
        TaskRow {
            name: cut(&run.name, LONGEST_NAME),
            rank,
            hash: format!("{:016x}", run.hash),
            graph: run.graph,
            worker: cut(&run.worker, LONGEST_NAME),
            thread: run.thread,
            attempt: run.attempt,
            outcome: run.outcome,
            start_ns: nanos::of(run.start),
            took_ns: run.took().map(nanos::of),
            usual_ns: self.gathered.usual.get(rank).copied().flatten(),
            waited_ns: since.map(|since| nanos::of(run.start.saturating_sub(since))),
            cpu_ns: run.cpu.map(nanos::of),
            bytes_in: run.bytes_in,
            bytes_out: run.bytes_out,
            peak: run.peak,
        }
    }

    fn worker(&self, name: &Arc<str>) -> WorkerRow {
        let worker = self.gathered.workers.get(name).cloned().unwrap_or_default();
        let threads = self.gathered.rows.iter().filter(|(of, _)| of == name).count();
        let possible = self.status.wall_ns as f64 * threads as f64;
        let busy = if possible > 0.0 { (worker.busy as f64 / possible).min(1.0) } else { 0.0 };
        WorkerRow {
            name: cut(name, LONGEST_NAME),
            pid: worker.pid,
            state: worker.state.unwrap_or(WorkerState::Seen),
            reason: worker.reason,
            threads,
            runs: worker.runs,
            failed: worker.failed,
            busy_ns: worker.busy,
            busy,
            cpu_ns: worker.cpu,
            time: worker.time,
            memory: worker.memory,
            limit: worker.limit,
            spilled: worker.spilled,
            received: worker.received,
            sent: worker.sent,
            deaths: worker.deaths,
        }
    }

    fn group(&self, group: &GroupSummary) -> GroupRow {
        let facts = group.graph.and_then(|graph| self.gathered.graphs.get(&graph));
        GroupRow {
            name: cut(&group.name, LONGEST_NAME),
            rank: self.gathered.ranks.get(group.name.as_str()).map_or(usize::MAX, |rank| *rank as usize),
            graph: group.graph,
            label: facts.and_then(|facts| facts.label.clone()),
            layer: facts.and_then(|facts| facts.layers.get(&group.name).cloned()),
            counts: group.counts,
            cost: group.cost,
        }
    }

    fn name(&self, name: &NameCost, rank: usize) -> NameRow {
        let all: f64 = self.summary.names.iter().map(|name| name.cost.took.as_secs_f64()).sum();
        NameRow {
            name: cut(&name.name, LONGEST_NAME),
            rank,
            share: if all > 0.0 { name.cost.took.as_secs_f64() / all } else { 0.0 },
            usual_ns: self.gathered.usual.get(rank).copied().flatten(),
            cost: name.cost,
        }
    }
}

/// Whether a path leads to a file that has no name of its own, but is open.
fn is_nameless(path: &std::path::Path) -> bool {
    path.starts_with("/proc") || path.starts_with("/dev/fd")
}

fn status(log: &SavedLog, summary: &Summary, diagnosis: &Diagnosis, gathered: &Gathered) -> Status {
    let counts = summary.groups.iter().map(|group| group.counts).sum();
    let state = words::state(&counts, summary.runs);
    let started = log.head().started.duration_since(UNIX_EPOCH).ok().filter(|since| !since.is_zero());
    let mut problems: Vec<String> = summary.problems.iter().map(|p| cut(p, 400)).collect();
    if let Some(more) = problems.len().checked_sub(MOST_PROBLEMS).filter(|more| *more > 0) {
        problems.truncate(MOST_PROBLEMS);
        problems.push(format!("and {more} more"));
    }
    let failed = gathered.unwell.iter().filter(|run| run.outcome == Outcome::Failed);
    let first_failed = failed.min_by_key(|run| run.start).map(|run| cut(&run.key(), 60));
    let label = gathered.graphs.values().rev().find_map(|graph| graph.label.clone());
    let stem = log.path().file_stem().filter(|_| !log.is_in_memory() && !is_nameless(log.path()));
    let stem = stem.map(|stem| cut(&stem.to_string_lossy(), LONGEST_NAME));
    Status {
        version: VERSION,
        title: label.or(stem).unwrap_or_else(|| UNTITLED.to_string()),
        state,
        first_line: words::first_line(state, &counts, diagnosis, log.ending(), first_failed.as_deref()),
        second_line: words::second_line(state, diagnosis),
        started_ms: started.and_then(|since| u64::try_from(since.as_millis()).ok()),
        from_ns: gathered.from.unwrap_or(0),
        until_ns: nanos::of(summary.until),
        wall_ns: nanos::of(diagnosis.wall),
        workers: gathered.workers.len(),
        threads: diagnosis.threads,
        counts,
        runs: summary.runs,
        folded: summary.folded,
        failed_runs: summary.names.iter().map(|name| name.cost.failed).sum(),
        lost: summary.lost,
        events: summary.events,
        deaths: gathered.deaths.len(),
        complete: summary.complete,
        problems,
    }
}

/// A page of rows that are found, each made when it is known to be on it.
fn page<T, R>(
    all: impl Iterator<Item = T>,
    page: &Page,
    dropped: u64,
    texts: impl Fn(&T) -> Vec<String>,
    row: impl Fn(T) -> R,
) -> Rows<R> {
    let limit = page.limit.min(MOST_ROWS);
    let wanted = page.search.as_ref().map(|text| text.to_lowercase()).filter(|text| !text.is_empty());
    let is_found = |item: &T| match &wanted {
        Some(wanted) => texts(item).iter().any(|text| text.to_lowercase().contains(wanted)),
        None => true,
    };
    let (mut total, mut rows) = (0, Vec::new());
    for item in all.filter(is_found) {
        if total >= page.offset && rows.len() < limit {
            rows.push(row(item));
        }
        total += 1;
    }
    Rows { version: VERSION, total, dropped, offset: page.offset, rows }
}

impl Source for SavedSource {
    fn status(&self) -> Answer<Status> {
        Ok(self.status.clone())
    }

    fn diagnosis(&self) -> Answer<DiagnosisAnswer> {
        let of = &self.diagnosis;
        let path = of.critical_path.as_ref().map(|path| Path {
            took_ns: nanos::of(path.took),
            tasks: path.tasks.len(),
            keys: path.tasks[path.tasks.len().saturating_sub(MOST_PATH)..]
                .iter()
                .map(|key| cut(key, LONGEST_NAME))
                .collect(),
        });
        Ok(DiagnosisAnswer {
            version: VERSION,
            wall_ns: nanos::of(of.wall),
            threads: of.threads,
            work_ns: nanos::of(of.work),
            ideal_ns: nanos::of(of.ideal),
            critical_path: path,
            time: of.time,
            findings: of.findings.clone(),
            missing: of.missing,
        })
    }

    fn groups(&self, of: &Page) -> Answer<Rows<GroupRow>> {
        let mut groups: Vec<_> = self.summary.groups.iter().collect();
        let first = |group: &&GroupSummary| {
            let place = group.graph.zip(self.gathered.ranks.get(group.name.as_str()).copied());
            (group.graph, place.and_then(|place| self.gathered.first.get(&place)).copied().unwrap_or(u64::MAX))
        };
        groups.sort_by_key(first);
        Ok(page(groups.into_iter(), of, 0, |group| vec![group.name.clone()], |group| self.group(group)))
    }

    fn names(&self, of: &Page) -> Answer<Rows<NameRow>> {
        let names = self.summary.names.iter().enumerate();
        Ok(page(names, of, 0, |(_, name)| vec![name.name.clone()], |(rank, name)| self.name(name, rank)))
    }

    fn workers(&self, of: &Page) -> Answer<Rows<WorkerRow>> {
        let mut names: Vec<_> = self.gathered.workers.keys().collect();
        names.sort_by(|a, b| by_number(a, b));
        Ok(page(names.into_iter(), of, 0, |name| vec![name.to_string()], |name| self.worker(name)))
    }

    fn tasks(&self, of: &Page) -> Answer<Rows<TaskRow>> {
        let runs = self.gathered.unwell.iter().chain(&self.gathered.slow);
        let texts = |run: &&Run| vec![run.key(), run.worker.to_string(), run.outcome.to_string()];
        Ok(page(runs, of, self.gathered.more_unwell, texts, |run| self.task(run)))
    }

    fn stream(&self, window: &Window) -> Answer<Stream> {
        Ok(self.gathered.stream(window))
    }

    fn memory(&self, window: &Window) -> Answer<MemoryOverTime> {
        Ok(self.gathered.memory_over_time(window))
    }

    fn profile(&self) -> Answer<ProfileAnswer> {
        Ok(super::profile::answer(self.profile.as_ref()))
    }

    fn logs(&self, of: &Page) -> Answer<Rows<LogRow>> {
        let texts = |line: &&LogRow| {
            let mut texts = vec![line.text.clone(), line.worker.clone(), line.level.clone()];
            texts.extend(line.key.clone());
            texts
        };
        Ok(page(self.gathered.lines.iter(), of, self.gathered.more_lines, texts, LogRow::clone))
    }

    fn events(&self, of: &Page) -> Answer<Rows<EventRow>> {
        let texts = |event: &&EventRow| vec![event.text.clone()];
        Ok(page(self.gathered.events.iter(), of, self.gathered.more_events, texts, EventRow::clone))
    }

    fn deaths(&self, of: &Page) -> Answer<Rows<Death>> {
        let texts = |death: &&Death| vec![death.worker.clone(), death.reason.clone()];
        Ok(page(self.gathered.deaths.iter(), of, 0, texts, Death::clone))
    }

    fn system(&self) -> Answer<SystemFacts> {
        Ok(self.system.clone())
    }
}
