//! Records a client: a thread takes what has happened and writes it to a saved log, each second.

use super::ClientLog;
use super::reading::Reading;
use super::saved::{LogError, Writer, WriterState};
use super::sources::RunSources;
use crate::error::{Error, Result};
use crate::ipc::clock::ticks;
use parking_lot::{Condvar, Mutex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often rings are looked at: while they fill, and while nothing happens. In the longer time the fastest threads do not
/// fill a ring.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];
/// How often what was taken is written.
const FLUSH: Duration = Duration::from_secs(1);

/// A recording that is under way.
pub(crate) struct Recorder {
    end: Arc<(Mutex<bool>, Condvar)>,
    thread: std::thread::JoinHandle<()>,
}

struct Recording {
    writer: Writer,
    path: PathBuf,
    reading: Reading,
    log: Arc<ClientLog>,
    state: WriterState,
    /// When something was taken last.
    taken: Duration,
}

impl Recorder {
    /// Begins to write to a file, at most so many bytes.
    pub(crate) fn start(
        path: &Path,
        limit: Option<u64>,
        sources: &Arc<RunSources>,
        log: Arc<ClientLog>,
    ) -> Result<Self> {
        let mut writer = Writer::create(path, &log.head()).map_err(|e| match e {
            LogError::Io { source, .. } => not_recorded(path, &source.to_string()),
            other => Error::invalid("record", other.to_string()),
        })?;
        if let Some(limit) = limit {
            writer = writer.limit(limit);
        }
        let (reading, state) = (Reading::of_all(sources), writer.state().clone());
        let (named, taken) = (path.to_path_buf(), Duration::ZERO);
        let recording = Recording { writer, path: named, reading, log, state, taken };
        let end = Arc::new((Mutex::new(false), Condvar::new()));
        let until = Arc::clone(&end);
        let thread = std::thread::Builder::new()
            .name("swath-recorder".to_string())
            .spawn(move || recording.go_on(&until))
            .map_err(|e| not_recorded(path, &format!("no thread can be started for it: {e}")))?;
        Ok(Self { end, thread })
    }

    /// Writes the rest and waits until that is done.
    pub(crate) fn finish(self) {
        *self.end.0.lock() = true;
        self.end.1.notify_all();
        if self.thread.join().is_err() {
            log::error!("the thread that records the client has panicked; the log ends before that");
        }
    }
}

fn not_recorded(path: &Path, reason: &str) -> Error {
    Error::Resource { resource: path.display().to_string(), reason: reason.to_string() }
}

impl Recording {
    fn go_on(mut self, end: &(Mutex<bool>, Condvar)) {
        let mut flushed = Instant::now();
        let mut pause = PAUSES[0];
        loop {
            let is_over = {
                let mut is_over = end.0.lock();
                if !*is_over {
                    end.1.wait_for(&mut is_over, pause);
                }
                *is_over
            };
            let some = self.take(is_over);
            pause = if some { PAUSES[0] } else { (pause * 2).min(PAUSES[1]) };
            if is_over {
                break;
            }
            if flushed.elapsed() >= FLUSH {
                flushed = Instant::now();
                let told = self.writer.flush();
                self.tell(told);
            }
        }
        let (path, was_stopped) = (self.path, matches!(self.state, WriterState::Stopped { .. }));
        if let Err(e) = self.writer.finish()
            && !was_stopped
        {
            log::warn!("the log of events {} has no end: {e}", path.display());
        }
    }

    /// Takes what has happened; whether that is anything.
    fn take(&mut self, is_end: bool) -> bool {
        let Self { writer, reading, log, taken: since, .. } = self;
        let now = log.clock.ruler().since_start(ticks());
        let (mut runs, mut events) = (0_u64, Vec::new());
        let (lost, missed) = reading.take(
            log,
            is_end,
            &mut |run| {
                runs += 1;
                writer.run(&run);
            },
            &mut |event| events.push(event),
        );
        let some = runs > 0 || !events.is_empty();
        events.into_iter().for_each(|event| writer.event(event));
        if lost + missed > 0 {
            let reason = "more was recorded at once than there is room for";
            writer.missed(*since, lost, missed, reason);
        }
        *since = now;
        some
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
