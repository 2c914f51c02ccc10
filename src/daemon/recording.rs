//! Records all programs of a local cluster in one file.
//!
//! Each program's supervisor has [`RunSources`] of its own; the thread of the recorder takes from all of them. Workers are
//! named with their programs, as `flights/worker-0`. Programs count their graphs each for itself, so here they get other
//! numbers: those of a session follow each other.

use super::paths::ClusterPaths;
use crate::error::logged::Time;
use crate::error::{Error, Result};
use crate::events::journal::{JournalEntry, Step};
use crate::events::lines::line_event;
use crate::events::recorder::{Flushing, Recorded, Recorder};
use crate::events::saved::{Event, EventKind, Head, LogError, MemorySample, Outcome, Run, Writer};
use crate::events::sources::{RunSources, SourceReader, Taken};
use crate::events::{Names, event, head_of, run_named};
use crate::ids::{JobId, SessionId};
use crate::ipc::clock::{Clock, Ruler, ticks, wall_clock};
use crate::ipc::ring::RingRecord;
use crate::job::{CallName, GroupCounts};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use swath_insight::{Counts, GroupProgress};

/// Graphs of a session get numbers in blocks of so many.
const BLOCK: u32 = 1 << 16;
/// Groups of sessions that have ended, before they are counted by name alone.
const ENDED: usize = 10_000;
/// A run whose function nobody has named waits for so many looks.
const PATIENCE: u32 = 40;

/// The recording of a cluster.
pub(crate) struct ClusterRecording {
    pub(crate) path: PathBuf,
    programs: Arc<Mutex<Vec<Program>>>,
    /// The next block of numbers of graphs.
    next: Arc<AtomicU32>,
    recorder: Mutex<Option<Recorder>>,
}

struct Program {
    name: String,
    sources: Arc<RunSources>,
    reader: SourceReader,
    names: Names,
    /// Workers as they are called here.
    workers: FxHashMap<Arc<str>, Arc<str>>,
    /// Runs of functions whose names are not known yet, and how often that was looked for.
    unnamed: Vec<(Arc<str>, RingRecord, Taken, u32)>,
    graphs: Graphs,
}

impl ClusterRecording {
    /// Begins to record in a new file in that directory.
    pub(crate) fn start(directory: &Path, limit: Option<u64>, paths: &ClusterPaths) -> Result<Self> {
        let failed = |reason: String| Error::Resource { resource: directory.display().to_string(), reason };
        let directory_is_there = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        directory_is_there.map_err(|e| failed(format!("it cannot be made, to record in it: {e}")))?;
        let directory = std::path::absolute(directory).map_err(|e| failed(e.to_string()))?;
        let second = Time(wall_clock()).to_string();
        let second = second.split('.').next().unwrap_or(&second).replace(':', "");
        let path = directory.join(format!("{}-{second}Z-{}.swath", paths.name, std::process::id()));
        let programs = Arc::<Mutex<Vec<Program>>>::default();
        let (clock, started) = (Clock::start(), SystemTime::now());
        let head = head_of(started, &clock);
        let of = Recording { clock, started, programs: Arc::clone(&programs), counts: CountsOf::default() };
        let recorder = Recorder::start_with(&path, limit, &head_without_build(head), Box::new(of))?;
        Ok(Self { path, programs, next: Arc::default(), recorder: Mutex::new(Some(recorder)) })
    }

    /// What the supervisor of a program is to record in.
    pub(crate) fn program(&self, name: &str) -> Arc<RunSources> {
        let mut programs = self.programs.lock();
        let same =
            |program: &Program| program.name == name || program.name.rsplit_once('#').is_some_and(|(n, _)| n == name);
        let before = programs.iter().filter(|program| same(program)).count();
        let name = if before == 0 { name.to_string() } else { format!("{name}#{}", before + 1) };
        let sources = Arc::new(RunSources::of_program());
        programs.push(Program::new(name, Arc::clone(&sources), Arc::clone(&self.next)));
        sources
    }

    /// Has what has happened written now. The answer tells when that is done.
    pub(crate) fn flush(&self) -> Option<Flushing> {
        self.recorder.lock().as_ref().map(Recorder::flush)
    }

    /// Writes the rest.
    pub(crate) fn finish(&self) {
        let recorder = self.recorder.lock().take();
        if let Some(recorder) = recorder {
            recorder.finish();
        }
    }
}

/// The build of a cluster's own executable says nothing of the programs.
fn head_without_build(mut head: Head) -> Head {
    head.build = String::new();
    head
}

/// Writes what a cluster that is not recorded remembers of its programs, as a log that only its owner may read.
pub(crate) fn write(
    path: &Path,
    started: SystemTime,
    clock: Clock,
    programs: Vec<(String, Arc<RunSources>)>,
) -> std::result::Result<(), LogError> {
    let mut writer = Writer::create(path, &head_without_build(head_of(started, &clock)))?.limit(u64::MAX);
    let next = Arc::<AtomicU32>::default();
    let (ruler, mut counts) = (clock.ruler(), CountsOf::default());
    for (name, sources) in programs {
        let mut program = Program::new(name, sources, Arc::clone(&next));
        program.take(&mut writer, &ruler, started, (Duration::ZERO, true), &mut counts);
    }
    writer.counts(ruler.since_start(ticks()), &counts.groups());
    writer.finish()
}

/// What the recorder's thread has.
struct Recording {
    clock: Clock,
    started: SystemTime,
    programs: Arc<Mutex<Vec<Program>>>,
    counts: CountsOf,
}

impl Recorded for Recording {
    fn take(&mut self, writer: &mut Writer, since: Duration, is_end: bool) -> (bool, Duration) {
        let Self { clock, started, programs, counts } = self;
        let ruler = clock.ruler();
        let now = ruler.since_start(ticks());
        let mut some = false;
        let mut programs = programs.lock();
        for program in &mut *programs {
            some |= program.take(writer, &ruler, *started, (since, is_end), counts);
        }
        // Of a program whose supervisor has ended, all has been taken.
        programs.retain(|program| Arc::strong_count(&program.sources) > 2 || !program.unnamed.is_empty());
        (some, now)
    }

    fn groups(&mut self) -> Vec<GroupProgress> {
        self.counts.groups()
    }

    fn memory(&mut self, at: Duration) -> Vec<MemorySample> {
        let programs = self.programs.lock();
        let of = |program: &Program| {
            let mut samples = program.reader.memory(at);
            // One that has run nothing yet has no name here, and little to show.
            samples.retain_mut(|sample| match program.workers.get(&*sample.worker) {
                Some(named) => {
                    sample.worker = named.to_string();
                    true
                }
                None => false,
            });
            samples
        };
        programs.iter().flat_map(of).collect()
    }
}

impl Program {
    fn new(name: String, sources: Arc<RunSources>, next: Arc<AtomicU32>) -> Self {
        let graphs = Graphs { next, ..Graphs::default() };
        let (names, workers) = (Names::default(), FxHashMap::default());
        let reader = sources.reader(false);
        Self { name, sources, reader, names, workers, unnamed: Vec::new(), graphs }
    }

    fn take(
        &mut self,
        writer: &mut Writer,
        ruler: &Ruler,
        started: SystemTime,
        (since, is_end): (Duration, bool),
        counts: &mut CountsOf,
    ) -> bool {
        let Self { name: program, sources, reader, names, workers, unnamed, graphs } = self;
        let news = sources.program.take();
        let mut some = !news.graphs.is_empty();
        for (at, job, calls) in news.graphs {
            let at = ruler.since_start(at);
            let graph = graphs.begin(job, calls, at);
            let label = Some(program.clone());
            writer.event(Event::new(at, EventKind::GraphSubmitted { graph, tasks: calls.into(), label, parent: None }));
        }
        let named = |worker: &str| format!("{program}/{worker}");
        let (lines, dropped) = sources.lines.take();
        for mut line in lines {
            some = true;
            line.worker = named(&line.worker);
            writer.event(line_event(line, started));
        }
        let (steps, missed_steps) = reader.take_steps();
        for mut step in news.steps.into_iter().chain(steps) {
            some = true;
            graphs.rename(&mut step, &named);
            writer.event(event(step, ruler));
        }
        let mut found = Vec::new();
        for (worker, records, is_there) in news.past {
            let (worker, taken) =
                (Arc::<str>::from(named(&worker)), if is_there { Taken::Running } else { Taken::Lost });
            found.extend(records.into_iter().map(|record| (Arc::clone(&worker), record, taken, 0)));
        }
        let mut lost = reader.take_runs(is_end, &mut |worker, record, taken| {
            let worker = workers.entry(Arc::clone(worker)).or_insert_with(|| named(worker).into());
            found.push((Arc::clone(worker), record, taken, 0));
        });
        some |= !found.is_empty();
        for (worker, record, taken, looks) in std::mem::take(unnamed).into_iter().chain(found) {
            let function = record.run.log_id;
            let name = record.run.name.clone().map(Arc::from).or_else(|| sources.program.function(function));
            let Some(name) = name.or_else(|| (is_end || looks > PATIENCE).then(|| "task".into())) else {
                // The worker's word of it is on its way.
                unnamed.push((worker, record, taken, looks + 1));
                continue;
            };
            let name = names.once(name);
            let job = record.run.task.job;
            let mut run = run_named(record, name, &worker, ruler);
            run.graph = graphs.number(job);
            if let (Taken::Lost, Outcome::Running) = (taken, run.outcome) {
                run.outcome = Outcome::Lost;
            }
            graphs.ran(job, &run, &mut |event| writer.event(event));
            writer.run(&run);
        }
        if unnamed.len() > 1 << 16 {
            lost += unnamed.len() as u64;
            unnamed.clear();
        }
        for (session, groups) in news.counts {
            let name = |name: &CallName| match name {
                CallName::Given(name) => Arc::from(name.as_str()),
                CallName::Function(offset) => sources.program.function(*offset).unwrap_or_else(|| "task".into()),
            };
            graphs.counted(session, &groups, &mut |event| writer.event(event));
            counts.note(
                session,
                groups.iter().map(|group| (name(&group.name), graphs.of(session, group), group.totals.counts)),
            );
        }
        for session in news.ended {
            graphs.end(session);
            counts.end(session);
        }
        let missed = dropped + news.missed + missed_steps;
        if lost + missed > 0 {
            writer.missed(since, lost, missed, "more was recorded at once than there is room for");
        }
        some
    }
}

/// The numbers of graphs, and when they began.
#[derive(Default)]
struct Graphs {
    blocks: FxHashMap<(SessionId, u32), u32>,
    next: Arc<AtomicU32>,
    open: FxHashMap<JobId, Open>,
}

struct Open {
    began: Duration,
    calls: u32,
    last: Duration,
}

impl Graphs {
    fn number(&mut self, job: JobId) -> u32 {
        let block = self.blocks.entry((job.session, job.number / BLOCK));
        let block = *block.or_insert_with(|| self.next.fetch_add(1, Ordering::Relaxed));
        block.wrapping_mul(BLOCK).wrapping_add(job.number % BLOCK)
    }

    fn of(&mut self, session: SessionId, group: &GroupCounts) -> Option<u32> {
        group.graph.map(|number| self.number(JobId { session, number }))
    }

    fn begin(&mut self, job: JobId, calls: u32, at: Duration) -> u32 {
        self.open.insert(job, Open { began: at, calls, last: at });
        self.number(job)
    }

    /// Names workers and graphs of an event as they are called here.
    fn rename(&mut self, step: &mut JournalEntry<Step>, named: &dyn Fn(&str) -> String) {
        let session = step.what.session;
        match &mut step.what.kind {
            EventKind::WorkerStarted { worker, .. }
            | EventKind::WorkerReady { worker, .. }
            | EventKind::WorkerPaused { worker, .. }
            | EventKind::WorkerResumed { worker }
            | EventKind::WorkerStalled { worker, .. }
            | EventKind::WorkerRetired { worker, .. }
            | EventKind::WorkerLost { worker, .. }
            | EventKind::Spilled { worker, .. }
            | EventKind::Loaded { worker, .. }
            | EventKind::Retracted { worker, .. }
            | EventKind::Line { worker, .. } => *worker = named(worker),
            EventKind::Transfer { from, to, .. } => (*from, *to) = (named(from), named(to)),
            EventKind::GraphSubmitted { graph, .. }
            | EventKind::GraphFinished { graph, .. }
            | EventKind::GraphCancelled { graph }
            | EventKind::GroupNamed { graph, .. } => {
                if let Some(session) = session {
                    *graph = self.number(JobId { session, number: *graph });
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, job: JobId, found: &mut dyn FnMut(Event)) {
        let Some(Open { began, last, .. }) = self.open.remove(&job) else { return };
        let (graph, took) = (self.number(job), last.saturating_sub(began));
        found(Event::new(last, EventKind::GraphFinished { graph, took }));
    }

    /// A run has ended. One of a graph of one call is its end, unless it is to run again.
    fn ran(&mut self, job: JobId, run: &Run, found: &mut dyn FnMut(Event)) {
        let Some(open) = self.open.get_mut(&job) else { return };
        open.last = open.last.max(run.end.unwrap_or(run.start));
        if open.calls <= 1 && run.outcome == Outcome::Finished {
            self.finish(job, found);
        }
    }

    /// A graph of which nothing is left to do has finished.
    fn counted(&mut self, session: SessionId, groups: &[GroupCounts], found: &mut dyn FnMut(Event)) {
        let mut left: FxHashMap<u32, u64> = FxHashMap::default();
        for group in groups {
            let Some(graph) = group.graph else { continue };
            let Counts { unneeded, waiting, ready, running, .. } = group.totals.counts;
            *left.entry(graph).or_default() += unneeded + waiting + ready + running;
        }
        for (number, _) in left.into_iter().filter(|(_, left)| *left == 0) {
            self.finish(JobId { session, number }, found);
        }
    }

    /// Of a session that has ended nothing more comes.
    fn end(&mut self, session: SessionId) {
        self.open.retain(|job, _| job.session != session);
    }
}

type Named = (Arc<str>, Option<u32>);

/// The newest counts of each session, and the last of those that have ended.
#[derive(Default)]
struct CountsOf {
    sessions: BTreeMap<u32, Vec<(Named, Counts)>>,
    ended: BTreeMap<Named, Counts>,
}

impl CountsOf {
    fn note(&mut self, session: SessionId, groups: impl Iterator<Item = (Arc<str>, Option<u32>, Counts)>) {
        let groups = groups.map(|(name, graph, counts)| ((name, graph), counts)).collect();
        self.sessions.insert(session.0, groups);
    }

    fn end(&mut self, session: SessionId) {
        for (named, counts) in self.sessions.remove(&session.0).into_iter().flatten() {
            *self.ended.entry(named).or_default() += counts;
        }
        if self.ended.len() > ENDED {
            for ((name, _), counts) in std::mem::take(&mut self.ended) {
                *self.ended.entry((name, None)).or_default() += counts;
            }
        }
    }

    fn groups(&self) -> Vec<GroupProgress> {
        let mut all = self.ended.clone();
        for (named, counts) in self.sessions.values().flatten() {
            *all.entry(named.clone()).or_default() += *counts;
        }
        let group = |((name, graph), counts): (Named, Counts)| GroupProgress::new(&*name, graph, counts.into());
        all.into_iter().map(group).collect()
    }
}
