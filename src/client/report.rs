//! A report of what a client does for a while: recorded apart from everything else, and written at the end.

use super::Client;
use super::profile::Profiling;
use crate::error::{Error, LogLine, Result};
use crate::events::ClientLog;
use crate::events::reading::Reading;
use crate::events::saved::{LogError, MemorySample, SavedLog, Writer};
use parking_lot::{Condvar, Mutex};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use swath_insight::report;
use swath_insight::source::SavedSource;
use swath_insight::{Counts, GroupProgress, TaskState};

/// How often what has happened is read: while there is some, and while nothing happens.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];
/// How often memory is looked at.
const SAMPLES: Duration = Duration::from_millis(250);
/// How large the recording may become before runs are summed up.
const LIMIT: u64 = 256 << 20;

/// A report is written when this is dropped, see [`Client::performance_report`].
#[must_use = "the report is of the time until this is dropped, when it is written"]
pub struct PerformanceReport {
    path: PathBuf,
    /// Until it is written.
    recording: Option<Result<Recording>>,
}

/// What is recorded for a report.
struct Recording {
    client: Client,
    profiling: Option<Profiling>,
    /// When it began, in seconds since 1970.
    began: u64,
    /// The groups of graphs that had ended by then, of which nothing is told.
    before: Vec<GroupProgress>,
    /// Whether it is this that records which results tasks take.
    has_inputs: bool,
    end: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<(Writer, Option<LogError>)>,
    /// What is written to. It has no name, so that nothing is left of it, however this process ends.
    file: File,
}

impl Client {
    /// Records what happens until the answer is dropped, and then writes a report of it: one HTML file that any browser opens,
    /// without a network, with summary, diagnosis, progress, what each thread ran, workers, profile, logs and deaths. Meanwhile
    /// threads that run tasks are [sampled](Self::start_profile), where they can be. It is Dask's `performance_report`.
    ///
    /// What fails is told by [`finish`](PerformanceReport::finish); where it is dropped instead, it is logged. The name has to end
    /// in `.html`. Only its owner may read the file: it has in it what tasks print. An older one is replaced when the new one is
    /// whole.
    ///
    /// Runs that are overwritten before they are read are missing, and the report says how many: [`Builder::record`] and a
    /// report of that log miss none.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// # let directory = tempfile::tempdir().expect("a directory");
    /// # let path = directory.path().join("r.html");
    /// let client = Client::threads(2);
    /// let report = client.performance_report(&path);
    /// client.compute(&delayed(|x: u64| x * x).name("square").map(0..100_u64))?;
    /// report.finish()?;
    /// assert!(std::fs::read_to_string(&path).expect("a report").contains("square"));
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// [`Builder::record`]: super::Builder::record
    pub fn performance_report(&self, path: impl Into<PathBuf>) -> PerformanceReport {
        let path = path.into();
        let recording = report::check(&path).map_err(Error::from).and_then(|()| Recording::start(self));
        if let Err(e) = &recording {
            log::warn!("there will be no report {}: {e}", path.display());
        }
        PerformanceReport { path, recording: Some(recording) }
    }
}

impl PerformanceReport {
    /// Where the report is written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the report now.
    ///
    /// # Errors
    /// [`Error::Report`] where it cannot be written there, [`Error::Resource`] where nothing could be recorded,
    /// [`Error::Unsupported`] for a program that is attached to a local cluster, and for the client of a task.
    pub fn finish(mut self) -> Result<()> {
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        match self.recording.take() {
            Some(recording) => recording?.write(&self.path),
            None => Ok(()),
        }
    }
}

impl Drop for PerformanceReport {
    fn drop(&mut self) {
        if let Err(e) = self.write() {
            log::error!("there is no report {}: {e}", self.path.display());
        }
    }
}

impl fmt::Debug for PerformanceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerformanceReport").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Recording {
    fn start(client: &Client) -> Result<Self> {
        let mode = client.mode().name();
        let sources = client.0.backend.sources().filter(|_| client.0.owner);
        let sources = sources.ok_or(Error::Unsupported { operation: "performance_report", mode })?;
        let log = Arc::clone(&client.0.log);
        let file = tempfile::tempfile().map_err(|e| not_recorded(&e))?;
        let to = file.try_clone().map_err(|e| not_recorded(&e))?;
        let writer = Writer::begin(to, path_of(&file), &log.head()).map_err(|e| not_recorded(&e))?.limit(LIMIT);
        let progress = client.0.backend.progress();
        let is_over = |group: &GroupProgress| match group.graph {
            Some(graph) => progress.of_graph(graph).all(|group| group.counts.unfinished() == 0),
            None => true,
        };
        let before = progress.groups.iter().filter(|group| is_over(group)).cloned().collect();
        // Where threads cannot be sampled, the report is without a profile.
        let profiling = client.start_profile().map_err(|e| log::info!("the report has no profile: {e}")).ok();
        let reading = Reading::from_now(&sources, &log);
        let has_inputs = log.begin_inputs();
        let end = Arc::<(Mutex<bool>, Condvar)>::default();
        let (until, of) = (Arc::clone(&end), client.clone());
        let thread = std::thread::Builder::new()
            .name("swath-report".to_string())
            .spawn(move || Recorder { client: of, writer, reading, has_inputs }.go_on(&until))
            .map_err(|e| not_recorded(&e))?;
        Ok(Self { client: client.clone(), profiling, began: now(), before, has_inputs, end, thread, file })
    }

    fn write(self, path: &Path) -> Result<()> {
        let Self { client, profiling, began, before, has_inputs, end, thread, file } = self;
        *end.0.lock() = true;
        end.1.notify_all();
        let recorded = thread.join().map_err(|_| not_recorded(&"the thread that records has panicked"))?;
        let (mut writer, flushed) = recorded;
        if let Some(error) = flushed {
            log::warn!("the report is not of everything: {error}");
        }
        if has_inputs {
            client.0.log.end_inputs();
        }
        // Workers tell what was printed until the client is closed.
        let lines = client.logs().unwrap_or_default();
        let is_new = |line: &LogLine| line.time / 1_000_000_000 >= began;
        lines.into_iter().filter(is_new).for_each(|line| writer.event(client.0.log.line(line)));
        let groups = since(&before, client.0.backend.progress().groups);
        if !groups.is_empty() {
            writer.counts(client.0.log.now(), &groups);
        }
        writer.finish().map_err(|e| not_recorded(&e))?;
        let log = SavedLog::open(path_of(&file)).map_err(|e| not_recorded(&e))?;
        let title = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let mut source = SavedSource::of(&log).titled(&title);
        if let Some(profile) = profiling.as_ref().and_then(|_| client.profile().ok()) {
            source = source.with_profile(profile.between(began..u64::MAX));
        }
        drop(profiling);
        Ok(report::save(&source, path)?)
    }
}

/// The groups without what there was before. Graphs that have ended are counted together in the end, whose counts only grow.
fn since(before: &[GroupProgress], now: Vec<GroupProgress>) -> Vec<GroupProgress> {
    let is_there = |graph: u32| now.iter().any(|group| group.graph == Some(graph));
    let together = before.iter().filter(|group| group.graph.is_none_or(|graph| !is_there(graph)));
    let mut gone: FxHashMap<&str, Counts> = FxHashMap::default();
    together.for_each(|group| *gone.entry(&group.name).or_default() += group.counts.when_gone());
    let known: FxHashSet<u32> = before.iter().filter_map(|group| group.graph).collect();
    let mut groups: Vec<GroupProgress> =
        now.iter().filter(|group| group.graph.is_none_or(|graph| !known.contains(&graph))).cloned().collect();
    for group in groups.iter_mut().filter(|group| group.graph.is_none()) {
        let Some(gone) = gone.get(&*group.name) else { continue };
        for state in TaskState::ALL {
            group.counts[state] = group.counts[state].saturating_sub(gone[state]);
        }
    }
    groups.retain(|group| group.counts.total() > 0);
    groups
}

/// Reads what happens and writes it down.
struct Recorder {
    client: Client,
    writer: Writer,
    reading: Reading,
    has_inputs: bool,
}

impl Recorder {
    /// Goes on until it is to end.
    fn go_on(mut self, end: &(Mutex<bool>, Condvar)) -> (Writer, Option<LogError>) {
        let log = Arc::clone(&self.client.0.log);
        let mut pause = PAUSES[0];
        let mut since = log.now();
        let mut sampled: Option<Instant> = None;
        loop {
            let is_over = {
                let mut is_over = end.0.lock();
                if !*is_over {
                    end.1.wait_for(&mut is_over, pause);
                }
                *is_over
            };
            let now = log.now();
            let some = self.take(&log, is_over, since);
            since = now;
            if is_over || sampled.is_none_or(|sampled| sampled.elapsed() >= SAMPLES) {
                sampled = Some(Instant::now());
                self.sample(now);
            }
            if is_over {
                let flushed = self.writer.flush().err();
                return (self.writer, flushed);
            }
            pause = if some { PAUSES[0] } else { (pause * 2).min(PAUSES[1]) };
        }
    }

    /// Takes what has happened; whether that is anything.
    fn take(&mut self, log: &ClientLog, is_over: bool, since: Duration) -> bool {
        let Self { writer, reading, .. } = self;
        let (mut some, mut events) = (false, Vec::new());
        let (runs_lost, events_lost) = reading.take(
            log,
            is_over,
            &mut |run| {
                some = true;
                writer.run(&run);
            },
            &mut |event| events.push(event),
        );
        some |= !events.is_empty();
        if self.has_inputs {
            log.take_inputs().into_iter().for_each(|input| writer.input(input));
        }
        events.into_iter().for_each(|event| writer.event(event));
        if runs_lost + events_lost > 0 {
            writer.missed(since, runs_lost, events_lost, "more was recorded at once than there is room for");
        }
        some
    }

    /// How much memory workers use. A client that is closed does not tell.
    fn sample(&mut self, at: Duration) {
        for worker in self.client.memory().map(|memory| memory.workers).unwrap_or_default() {
            let mut sample = MemorySample::new(at, &*worker.name, worker.process());
            (sample.limit, sample.managed) = (worker.limit, worker.managed);
            (sample.shared, sample.spilled) = (worker.segments, worker.spilled);
            self.writer.memory(&sample);
        }
    }
}

/// A name by which an open file can be opened again.
fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn not_recorded(why: &dyn fmt::Display) -> Error {
    Error::Resource { resource: "the recording for a report".to_string(), reason: why.to_string() }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
