//! Writes a log, at once or bit by bit while things happen.

use super::chunk::{ChunkKind, Header};
use super::columns::Packer;
use super::event::{Event, EventKind};
use super::fold::{Slowest, Sums};
use super::head::Head;
use super::rows::{Input, LONGEST_NAME, ObjectRows, Span, cut, write_folded, write_inputs};
use super::run::{Outcome, Run};
use super::run_rows::RunRows;
use super::target::{Target, create};
use super::{LogError, MemorySample, ThreadTime, nanos};
use crate::{Counts, GroupProgress};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs of one chunk at most.
const CHUNK_RUNS: u32 = 65_536;
/// Sums of one chunk at most.
const CHUNK_SUMS: usize = 8_192;
/// Bytes of one chunk at most, about, before they are packed.
const CHUNK_BYTES: usize = 4 << 20;
/// The least limit that there can be.
const LEAST_LIMIT: u64 = 64 << 10;
/// Bytes of a line or a note at most.
const LONGEST_TEXT: usize = 64 << 10;
/// Events that are kept while nothing can be written.
const KEPT_EVENTS: u32 = 1_000;

/// How much of what happens is written in full.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriterState {
    /// All of it.
    Whole,
    /// The limit is near: runs are summed up by group and tenth of a second, but for those that failed and the slowest
    /// hundredth of each group.
    Folding {
        /// From this time on.
        since: Duration,
    },
    /// The limit is reached: runs are summed up by group, events are counted.
    TotalsOnly {
        /// From this time on.
        since: Duration,
    },
    /// Nothing can be written, for example because the disk is full. Runs are summed up meanwhile, and it is tried again at
    /// each flush.
    Stopped {
        /// From this time on.
        since: Duration,
        /// What the system says.
        reason: String,
    },
}

impl fmt::Display for WriterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = |since: &Duration| since.as_secs_f64();
        match self {
            Self::Whole => f.write_str("everything is recorded"),
            Self::Folding { since: at } => write!(f, "since {:.3} s most runs are only summed up", since(at)),
            Self::TotalsOnly { since: at } => write!(f, "since {:.3} s runs and events are only counted", since(at)),
            Self::Stopped { since: at, reason } => write!(f, "since {:.3} s nothing is recorded: {reason}", since(at)),
        }
    }
}

/// What a log says at its end of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) runs: u64,
    pub(super) folded: u64,
    pub(super) events: u64,
    pub(super) lost_runs: u64,
    pub(super) lost_events: u64,
}

/// A group's counts, as they are saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedCounts {
    pub(super) name: String,
    pub(super) graph: Option<u32>,
    pub(super) counts: Counts,
}

/// A chunk that is still to be written.
struct Unsent {
    kind: ChunkKind,
    count: u32,
    times: (u64, u64),
    payload: Vec<u8>,
}

/// Writes a log. What is given to it is packed in memory and reaches the file in chunks: when there is enough for one, and
/// at each [`flush`](Self::flush). A program that is killed loses what was not flushed, and nothing else.
///
/// Whoever records gives what has happened to it every second or so, and flushes. A writer can be sent to another thread.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use swath_insight::log::{Head, Outcome, Run, SavedLog, Writer};
/// let path = std::env::temp_dir().join(format!("swath-writer-{}.swath", std::process::id()));
/// let mut writer = Writer::create(&path, &Head::new("0.1.0", SystemTime::now()))?;
/// let mut run = Run::new("parse", 1, "worker-0", Duration::from_millis(1));
/// run.ended(Duration::from_millis(3), Outcome::Finished);
/// writer.run(&run);
/// writer.finish()?;
///
/// let log = SavedLog::open(&path)?;
/// let runs: Vec<Run> = log.runs().collect::<Result<_, _>>()?;
/// assert_eq!(runs, [run]);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer<T: Target = File> {
    target: T,
    path: PathBuf,
    /// Where the next chunk goes.
    offset: u64,
    limit: u64,
    state: WriterState,
    packer: Packer,
    runs: RunRows,
    events: ObjectRows,
    memory: ObjectRows,
    uses: ObjectRows,
    inputs: Vec<Input>,
    /// The newest counts, where they have changed.
    counts: Option<(Duration, Vec<SavedCounts>)>,
    sums: Sums,
    slowest: Slowest,
    unsent: VecDeque<Unsent>,
    totals: Totals,
    /// Events that are counted only, since the last one that says so.
    skipped: u64,
    /// The latest time that was seen.
    now: Duration,
    is_finished: bool,
}

impl<T: Target> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Writer");
        out.field("path", &self.path).field("bytes", &self.offset).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Writer<File> {
    /// How large a log may become if nothing else is said: 1 GiB.
    pub const DEFAULT_LIMIT: u64 = 1 << 30;

    /// Begins a log in a file that only its owner may read. A file that was there is emptied.
    ///
    /// # Errors
    /// [`LogError::NotAFile`] for a directory, a device or a pipe; [`LogError::InUse`] where another writer has it;
    /// [`LogError::Io`] where it cannot be created or written.
    pub fn create(path: impl AsRef<Path>, head: &Head) -> Result<Self, LogError> {
        let path = path.as_ref();
        let file = create(path)?;
        Self::begin(file, path, head)
    }
}

impl<T: Target> Writer<T> {
    /// Begins a log anywhere. `path` is what errors call it.
    ///
    /// # Errors
    /// [`LogError::Io`] where it cannot be written.
    pub fn begin(mut target: T, path: impl AsRef<Path>, head: &Head) -> Result<Self, LogError> {
        let path = path.as_ref();
        let bytes = head.encode();
        target.append(&bytes).map_err(|source| LogError::Io { action: "write", path: path.into(), source })?;
        Ok(Self {
            target,
            path: path.into(),
            offset: bytes.len() as u64,
            limit: Writer::DEFAULT_LIMIT,
            state: WriterState::Whole,
            packer: Packer::new(),
            runs: RunRows::default(),
            events: ObjectRows::default(),
            memory: ObjectRows::default(),
            uses: ObjectRows::default(),
            inputs: Vec::new(),
            counts: None,
            sums: Sums::default(),
            slowest: Slowest::default(),
            unsent: VecDeque::new(),
            totals: Totals::default(),
            skipped: 0,
            now: Duration::ZERO,
            is_finished: false,
        })
    }

    /// Bounds the file to so many bytes, 64 KiB at least. At three quarters of it, runs are summed up but for those that
    /// failed and the slowest; at the end, everything is. See [`WriterState`].
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = bytes.max(LEAST_LIMIT);
        self
    }

    /// How much of what happens is written in full, from now on.
    #[must_use]
    pub fn state(&self) -> &WriterState {
        &self.state
    }

    /// How many bytes have been written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Records a run.
    #[inline]
    pub fn run(&mut self, run: &Run) {
        self.now = self.now.max(run.end.unwrap_or(run.start));
        self.totals.runs += 1;
        let is_whole = match self.state {
            WriterState::Whole => true,
            WriterState::Folding { .. } => {
                // Counted whatever its outcome.
                let is_slow = self.slowest.is_slow(run);
                is_slow || run.outcome != Outcome::Finished
            }
            WriterState::TotalsOnly { .. } | WriterState::Stopped { .. } => false,
        };
        if !is_whole {
            self.totals.folded += 1;
            let by_interval = matches!(self.state, WriterState::Folding { .. });
            self.sums.add(run, by_interval);
            if by_interval && self.sums.len() >= CHUNK_SUMS {
                self.seal();
                self.send();
            }
            return;
        }
        self.runs.push(run);
        if self.runs.count >= CHUNK_RUNS || self.runs.size() >= self.chunk_bytes() {
            self.seal_runs();
            self.send();
        }
    }

    /// Records an event. Texts of more than 64 KiB are cut.
    pub fn event(&mut self, event: Event) {
        self.now = self.now.max(event.at);
        self.totals.events += 1;
        let is_dropped = match self.state {
            WriterState::TotalsOnly { .. } => true,
            WriterState::Stopped { .. } => self.events.count >= KEPT_EVENTS || self.events.size() >= self.chunk_bytes(),
            _ => false,
        };
        if is_dropped {
            self.skipped += 1;
            self.totals.lost_events += 1;
            return;
        }
        let Event { at, kind } = event;
        self.events.push(at, &Event { at, kind: bounded(kind) });
        self.send_if(self.events.size());
    }

    /// Records how many tasks of each group are in which state. The newest counts hold.
    pub fn counts(&mut self, at: Duration, groups: &[GroupProgress]) {
        self.now = self.now.max(at);
        let saved = |group: &GroupProgress| SavedCounts {
            name: cut(&group.name, LONGEST_NAME).into_owned(),
            graph: group.graph,
            counts: group.counts,
        };
        self.counts = Some((at, groups.iter().map(saved).collect()));
    }

    /// Records the memory of a worker.
    pub fn memory(&mut self, sample: &MemorySample) {
        self.now = self.now.max(sample.at);
        if self.takes_samples(self.memory.size()) {
            self.memory.push(sample.at, sample);
            self.send_if(self.memory.size());
        }
    }

    /// Records what a thread has done with its time up to now. The newest of each thread holds.
    pub fn thread_time(&mut self, time: &ThreadTime) {
        self.now = self.now.max(time.at);
        if self.takes_samples(self.uses.size()) {
            self.uses.push(time.at, time);
            self.send_if(self.uses.size());
        }
    }

    /// Records which result a task takes.
    pub fn input(&mut self, input: Input) {
        if self.takes_samples(self.inputs.len() * 32) {
            self.inputs.push(input);
            self.send_if(self.inputs.len() * 32);
        }
    }

    /// Says that runs and events are missing which were never given to this writer, and why.
    pub fn missed(&mut self, since: Duration, runs: u64, events: u64, reason: &str) {
        self.totals.lost_runs += runs;
        self.totals.lost_events += events;
        let reason = reason.to_string();
        self.event(Event { at: self.now, kind: EventKind::Gap { since, runs, events, reason } });
    }

    /// Writes what was recorded. After that a killed program loses nothing of it.
    ///
    /// # Errors
    /// [`LogError::Io`] once, when nothing can be written any more. Recording goes on, in sums, and each later flush tries
    /// again; [`state`](Self::state) says how it stands.
    pub fn flush(&mut self) -> Result<(), LogError> {
        let was_stopped = matches!(self.state, WriterState::Stopped { .. });
        if !was_stopped {
            self.seal();
        }
        self.send();
        if !was_stopped && let WriterState::Stopped { reason, .. } = &self.state {
            let source = std::io::Error::other(reason.clone());
            return Err(LogError::Io { action: "write", path: self.path.clone(), source });
        }
        if was_stopped && !matches!(self.state, WriterState::Stopped { .. }) {
            self.seal();
            self.send();
        }
        Ok(())
    }

    /// Ends the log: writes the rest, and that this is all. Dropping a writer does the same, and tells no errors.
    ///
    /// # Errors
    /// [`LogError::Io`] where that cannot be written.
    pub fn finish(mut self) -> Result<(), LogError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), LogError> {
        self.is_finished = true;
        // A writer that had stopped tells nothing new.
        self.flush()?;
        if self.skipped > 0 {
            let (events, reason) = (self.skipped, "the limit of the log".to_string());
            let kind = EventKind::Gap { since: self.now, runs: 0, events, reason };
            self.events.push(self.now, &Event { at: self.now, kind });
        }
        self.state = match std::mem::replace(&mut self.state, WriterState::Whole) {
            WriterState::TotalsOnly { since } => WriterState::Folding { since },
            other => other,
        };
        self.seal();
        let mut end = ObjectRows::default();
        end.push(self.now, &self.totals);
        self.seal_objects(ChunkKind::End, |_| end);
        self.send();
        match &self.state {
            WriterState::Stopped { reason, .. } => {
                let source = std::io::Error::other(reason.clone());
                Err(LogError::Io { action: "write", path: self.path.clone(), source })
            }
            _ => {
                self.target.flush().map_err(|source| LogError::Io { action: "write", path: self.path.clone(), source })
            }
        }
    }

    fn chunk_bytes(&self) -> usize {
        usize::try_from(self.limit / 32).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)
    }

    /// Whether there is room for what is not needed to add up.
    fn takes_samples(&self, size: usize) -> bool {
        match self.state {
            WriterState::Whole | WriterState::Folding { .. } => true,
            WriterState::TotalsOnly { .. } => false,
            WriterState::Stopped { .. } => size < self.chunk_bytes() / 4,
        }
    }

    fn send_if(&mut self, size: usize) {
        if size >= self.chunk_bytes() && !matches!(self.state, WriterState::Stopped { .. }) {
            self.seal();
            self.send();
        }
    }

    fn seal_runs(&mut self) {
        if self.runs.count > 0 {
            let count = self.runs.count;
            let (payload, span) = self.runs.take(&mut self.packer);
            self.unsent.push_back(Unsent { kind: ChunkKind::Runs, count, times: span.times(), payload });
        }
    }

    fn seal_objects(&mut self, kind: ChunkKind, of: impl FnOnce(&mut Self) -> ObjectRows) {
        let mut rows = of(self);
        if rows.count > 0 {
            let count = rows.count;
            let (payload, span) = rows.take(&mut self.packer);
            self.unsent.push_back(Unsent { kind, count, times: span.times(), payload });
        }
    }

    /// Makes chunks of all that was recorded.
    fn seal(&mut self) {
        let is_at_limit = matches!(self.state, WriterState::TotalsOnly { .. });
        self.seal_runs();
        self.seal_objects(ChunkKind::Events, |writer| std::mem::take(&mut writer.events));
        self.seal_objects(ChunkKind::Memory, |writer| std::mem::take(&mut writer.memory));
        self.seal_objects(ChunkKind::Uses, |writer| std::mem::take(&mut writer.uses));
        if !self.inputs.is_empty() {
            let rows = std::mem::take(&mut self.inputs);
            let payload = write_inputs(&rows, &mut self.packer);
            self.unsent.push_back(Unsent { kind: ChunkKind::Inputs, count: rows.len() as u32, times: (0, 0), payload });
        }
        // At the limit these wait for the end.
        if is_at_limit {
            return;
        }
        if let Some((at, groups)) = self.counts.take() {
            let mut rows = ObjectRows::default();
            groups.iter().for_each(|group| rows.push(at, group));
            // Also where there are none: so that these are the newest.
            let count = rows.count;
            let (payload, _) = rows.take(&mut self.packer);
            let times = (nanos::of(at), nanos::of(at));
            self.unsent.push_back(Unsent { kind: ChunkKind::Counts, count, times, payload });
        }
        let sums = self.sums.take();
        if !sums.is_empty() {
            let (payload, span) = write_folded(&sums, &mut self.packer);
            let (kind, count) = (ChunkKind::Folded, sums.len() as u32);
            self.unsent.push_back(Unsent { kind, count, times: Span::times(span), payload });
        }
    }

    /// Writes what is still to be written, as far as that is possible.
    fn send(&mut self) {
        while let Some(chunk) = self.unsent.front() {
            let header = Header::new(chunk.kind, chunk.count, chunk.times, &chunk.payload);
            let written =
                self.target.append(&header.encode(self.offset)).and_then(|()| self.target.append(&chunk.payload));
            if let Err(error) = written {
                self.stop(&error);
                return;
            }
            self.offset += (super::chunk::HEADER + chunk.payload.len()) as u64;
            self.unsent.pop_front();
        }
        self.resume();
        self.keep_to_the_limit();
    }

    /// Nothing can be written. Takes back what was written of a chunk.
    fn stop(&mut self, error: &std::io::Error) {
        // Where this fails too, the reader finds a chunk that is cut off.
        let _ = self.target.take_back_to(self.offset);
        if matches!(self.state, WriterState::Stopped { .. }) {
            return;
        }
        let (since, reason) = (self.now, error.to_string());
        self.state = WriterState::Stopped { since, reason: reason.clone() };
        // What is too much for the disk can leave room for a word on it.
        let mut word = ObjectRows::default();
        word.push(since, &Event { at: since, kind: EventKind::Gap { since, runs: 0, events: 0, reason } });
        let (payload, span) = word.take(&mut self.packer);
        let header = Header::new(ChunkKind::Events, 1, span.times(), &payload).encode(self.offset);
        match self.target.append(&[&header, payload.as_slice()].concat()) {
            Ok(()) => self.offset += (header.len() + payload.len()) as u64,
            Err(_) => {
                let _ = self.target.take_back_to(self.offset);
            }
        }
    }

    /// What could not be written has been, so that from now on everything is again.
    fn resume(&mut self) {
        let WriterState::Stopped { since, reason } = &self.state else { return };
        let (since, reason) = (*since, reason.clone());
        let kind = EventKind::Gap { since, runs: 0, events: std::mem::take(&mut self.skipped), reason };
        self.events.push(self.now, &Event { at: self.now, kind });
        self.state = WriterState::Whole;
    }

    fn keep_to_the_limit(&mut self) {
        let (since, limit) = (self.now, self.limit);
        let totals_only = self.offset >= limit / 16 * 15;
        let is_reached = match self.state {
            WriterState::Whole => self.offset >= limit / 4 * 3,
            WriterState::Folding { .. } => totals_only,
            WriterState::TotalsOnly { .. } | WriterState::Stopped { .. } => false,
        };
        if is_reached && !self.is_finished {
            self.events.push(since, &Event { at: since, kind: EventKind::LimitReached { limit, totals_only } });
            self.state = if totals_only { WriterState::TotalsOnly { since } } else { WriterState::Folding { since } };
        }
    }
}

impl<T: Target> Drop for Writer<T> {
    fn drop(&mut self) {
        if !self.is_finished {
            // Whoever wants to know calls `finish`.
            let _ = self.end();
        }
    }
}

/// The same with its texts cut where they are very long.
fn bounded(mut kind: EventKind) -> EventKind {
    let shorten = |text: &mut String, most: usize| {
        if text.len() > most {
            *text = cut(text, most).into_owned();
        }
    };
    match &mut kind {
        EventKind::GraphSubmitted { label, parent, .. } => {
            label.iter_mut().chain(parent).for_each(|text| shorten(text, LONGEST_NAME));
        }
        EventKind::GroupNamed { name, layer, .. } => {
            shorten(name, LONGEST_NAME);
            shorten(layer, LONGEST_NAME);
        }
        EventKind::WorkerStarted { worker, .. }
        | EventKind::WorkerReady { worker, .. }
        | EventKind::WorkerRetired { worker, .. }
        | EventKind::WorkerResumed { worker } => shorten(worker, LONGEST_NAME),
        EventKind::WorkerPaused { worker, reason }
        | EventKind::WorkerStalled { worker, reason }
        | EventKind::WorkerLost { worker, reason, .. } => {
            shorten(worker, LONGEST_NAME);
            shorten(reason, LONGEST_TEXT);
        }
        EventKind::Transfer { key, from, to, .. } => {
            [key, from, to].into_iter().for_each(|text| shorten(text, LONGEST_NAME));
        }
        EventKind::Spilled { key, worker, .. }
        | EventKind::Loaded { key, worker, .. }
        | EventKind::Retracted { key, worker } => {
            shorten(key, LONGEST_NAME);
            shorten(worker, LONGEST_NAME);
        }
        EventKind::Retried { key, .. } | EventKind::Cancelled { key } => shorten(key, LONGEST_NAME),
        EventKind::Line { worker, key, tasks, level, target, text } => {
            tasks.iter_mut().for_each(|task| shorten(task, LONGEST_NAME));
            [worker, level].into_iter().chain(key).chain(target).for_each(|text| shorten(text, LONGEST_NAME));
            shorten(text, LONGEST_TEXT);
        }
        EventKind::Note { key, topic, value } => {
            key.iter_mut().chain([topic]).for_each(|text| shorten(text, LONGEST_NAME));
            let text = value.to_string();
            if text.len() > LONGEST_TEXT {
                *value = cut(&text, LONGEST_TEXT).into();
            }
        }
        EventKind::Gap { reason, .. } => shorten(reason, LONGEST_TEXT),
        EventKind::GraphFinished { .. } | EventKind::GraphCancelled { .. } | EventKind::LimitReached { .. } => {}
    }
    kind
}
