//! Records a client: a thread takes what has happened and writes it to a saved log, each second.

use super::ClientLog;
use super::following::Following;
use super::lines::line_event;
use super::reading::Reading;
use super::saved::{Head, LogError, MemorySample, Writer, WriterState};
use super::sources::RunSources;
use crate::error::{Error, Result};
use crate::ipc::clock::ticks;
use parking_lot::{Condvar, Mutex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use swath_insight::GroupProgress;

/// How often rings are looked at: while they fill, and while nothing happens. In the longer time the fastest threads do not
/// fill a ring.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];
/// How often what was taken is written.
const FLUSH: Duration = Duration::from_secs(1);
/// How long a client that is closed waits for what is to be recorded before its workers are gone.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many groups are written as often as that; more of them, as much less often.
const GROUPS: usize = 200;

/// Tells how many tasks of each group are in which state; nothing where nobody knows any more.
pub(crate) type Counter = Box<dyn Fn() -> Vec<GroupProgress> + Send>;

/// A recording that is under way.
pub(crate) struct Recorder {
    end: Arc<(Mutex<Wishes>, Condvar)>,
    thread: std::thread::JoinHandle<()>,
}

/// What the thread is asked for.
#[derive(Default)]
struct Wishes {
    is_over: bool,
    /// How often it was asked to flush, and of how many of these it has done so.
    flushes: u64,
    flushed: u64,
}

/// A flush that was asked for.
pub(crate) struct Flushing {
    end: Arc<(Mutex<Wishes>, Condvar)>,
    number: u64,
}

impl Flushing {
    pub(crate) fn is_done(&self) -> bool {
        self.end.0.lock().flushed >= self.number
    }
}

/// Why a recorder looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It does so now and then.
    Often,
    /// Somebody waits for it.
    Asked,
    /// It is the last time.
    End,
}

/// What is recorded.
pub(crate) trait Recorded: Send {
    /// Writes what has happened since that time; whether that is anything, and the time now.
    fn take(&mut self, writer: &mut Writer, since: Duration, look: Look) -> (bool, Duration);

    /// How many tasks of each group are in which state; nothing where nobody knows any more.
    fn groups(&mut self) -> Vec<GroupProgress>;

    /// What memory the workers use then.
    fn memory(&mut self, at: Duration) -> Vec<MemorySample>;
}

struct Recording {
    writer: Writer,
    path: PathBuf,
    of: Box<dyn Recorded>,
    state: WriterState,
    /// When something was taken last.
    taken: Duration,
    /// What was counted last, and when that is to be done again.
    counted: (Vec<GroupProgress>, Instant),
}

/// A client, by its own process.
struct OfClient {
    sources: Arc<RunSources>,
    reading: Reading,
    log: Arc<ClientLog>,
    counter: Counter,
    /// Where the workers are those of a local cluster.
    following: Option<Following>,
}

impl Recorder {
    /// Begins to write to a file, at most so many bytes.
    pub(crate) fn start(
        path: &Path,
        limit: Option<u64>,
        sources: &Arc<RunSources>,
        log: Arc<ClientLog>,
        counter: Counter,
        following: Option<Following>,
    ) -> Result<Self> {
        let head = log.head();
        log.inputs.on.store(true, Ordering::Relaxed);
        sources.lines.turn_on();
        let session = following.as_ref().map(|following| following.session);
        let (reading, sources) = (Reading::of_all(sources).of_session(session), Arc::clone(sources));
        Self::start_with(path, limit, &head, Box::new(OfClient { sources, reading, log, counter, following }))
    }

    /// The same of something else.
    pub(crate) fn start_with(path: &Path, limit: Option<u64>, head: &Head, of: Box<dyn Recorded>) -> Result<Self> {
        let mut writer = Writer::create(path, head).map_err(|e| match e {
            LogError::Io { source, .. } => not_recorded(path, &source.to_string()),
            other => Error::invalid("record", other.to_string()),
        })?;
        if let Some(limit) = limit {
            writer = writer.limit(limit);
        }
        let state = writer.state().clone();
        let (named, taken, counted) = (path.to_path_buf(), Duration::ZERO, (Vec::new(), Instant::now()));
        let recording = Recording { writer, path: named, of, state, taken, counted };
        let end = Arc::<(Mutex<Wishes>, Condvar)>::default();
        let until = Arc::clone(&end);
        let thread = std::thread::Builder::new()
            .name("swath-recorder".to_string())
            .spawn(move || recording.go_on(&until))
            .map_err(|e| not_recorded(path, &format!("no thread can be started for it: {e}")))?;
        Ok(Self { end, thread })
    }

    /// Has what has happened, and the counts, written now.
    pub(crate) fn flush(&self) -> Flushing {
        let mut wishes = self.end.0.lock();
        wishes.flushes += 1;
        self.end.1.notify_all();
        Flushing { end: Arc::clone(&self.end), number: wishes.flushes }
    }

    /// The same, and waits for it, but not for ever.
    pub(crate) fn flush_and_wait(&self) {
        let (flushing, began) = (self.flush(), Instant::now());
        while !flushing.is_done() && !self.thread.is_finished() && began.elapsed() < PATIENCE {
            std::thread::park_timeout(PAUSES[0] / 5);
        }
    }

    /// Writes the rest and waits until that is done.
    pub(crate) fn finish(self) {
        self.end.0.lock().is_over = true;
        self.end.1.notify_all();
        if self.thread.join().is_err() {
            log::error!("the thread that records has panicked; the log ends before that");
        }
    }
}

fn not_recorded(path: &Path, reason: &str) -> Error {
    Error::Resource { resource: path.display().to_string(), reason: reason.to_string() }
}

impl Recording {
    fn go_on(mut self, end: &(Mutex<Wishes>, Condvar)) {
        let mut flushed = Instant::now();
        let mut pause = PAUSES[0];
        // Something has happened since memory was looked at last.
        let mut worked = false;
        loop {
            let (is_over, flushes, asked) = {
                let mut wishes = end.0.lock();
                if !wishes.is_over && wishes.flushed == wishes.flushes {
                    end.1.wait_for(&mut wishes, pause);
                }
                (wishes.is_over, wishes.flushes, wishes.flushes > wishes.flushed)
            };
            let look = match (is_over, asked) {
                (true, _) => Look::End,
                (false, true) => Look::Asked,
                (false, false) => Look::Often,
            };
            let (some, now) = self.of.take(&mut self.writer, self.taken, look);
            self.taken = now;
            worked |= some;
            pause = if some { PAUSES[0] } else { (pause * 2).min(PAUSES[1]) };
            if is_over {
                self.count();
                break;
            }
            if flushed.elapsed() >= FLUSH || asked {
                flushed = Instant::now();
                if self.counted.1 <= flushed || asked {
                    self.count();
                }
                if worked {
                    let samples = self.of.memory(self.taken);
                    samples.iter().for_each(|sample| self.writer.memory(sample));
                }
                worked = false;
                let told = self.writer.flush();
                self.tell(told);
                end.0.lock().flushed = flushes;
            }
        }
        let (path, was_stopped) = (self.path, matches!(self.state, WriterState::Stopped { .. }));
        if let Err(e) = self.writer.finish()
            && !was_stopped
        {
            log::warn!("the log of events {} has no end: {e}", path.display());
        }
    }

    /// Writes the counts, where they have changed.
    fn count(&mut self) {
        let groups = self.of.groups();
        if groups.is_empty() || groups == self.counted.0 {
            return;
        }
        self.writer.counts(self.taken, &groups);
        let pause = FLUSH * u32::try_from(groups.len() / GROUPS).unwrap_or(u32::MAX);
        self.counted = (groups, Instant::now() + pause);
    }

    /// Says once that recording has become less, or has stopped.
    fn tell(&mut self, flushed: std::result::Result<(), LogError>) {
        if let Err(e) = flushed {
            log::warn!("recording has stopped: {e}; the program goes on, and it is tried again each second");
        }
        let state = self.writer.state();
        if *state != self.state {
            if !matches!(state, WriterState::Stopped { .. }) {
                log::info!("log of events {}: {state}", self.path.display());
            }
            self.state = state.clone();
        }
    }
}

impl Recorded for OfClient {
    fn take(&mut self, writer: &mut Writer, since: Duration, look: Look) -> (bool, Duration) {
        let Self { sources, reading, log, following, .. } = self;
        let unseen = following.as_mut().map_or(0, |following| log.look(following, sources, look == Look::Asked));
        let now = log.clock.ruler().since_start(ticks());
        let (mut runs, mut events) = (0_u64, Vec::new());
        // What a worker said last comes before its end.
        let (lines, dropped) = sources.lines.take();
        events.extend(lines.into_iter().map(|line| line_event(line, log.started)));
        let (lost, missed) = reading.take(
            log,
            look == Look::End,
            &mut |run| {
                runs += 1;
                writer.run(&run);
            },
            &mut |event| events.push(event),
        );
        let inputs = std::mem::take(&mut *log.inputs.waiting.lock());
        let some = runs > 0 || !events.is_empty() || !inputs.is_empty();
        inputs.into_iter().for_each(|input| writer.input(input));
        events.into_iter().for_each(|event| writer.event(event));
        if dropped > 0 {
            writer.missed(since, 0, dropped, "tasks printed more at once than there is room for");
        }
        let missed = missed + unseen;
        if lost + missed > 0 {
            let reason = "more was recorded at once than there is room for";
            writer.missed(since, lost, missed, reason);
        }
        (some, now)
    }

    fn groups(&mut self) -> Vec<GroupProgress> {
        (self.counter)()
    }

    fn memory(&mut self, at: Duration) -> Vec<MemorySample> {
        self.reading.memory(at)
    }
}
