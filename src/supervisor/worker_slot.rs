//! The slots of workers: each has a name, and one worker process after the other.

use crate::ids::WorkerId;
use std::time::{Duration, Instant};

/// A worker that has been there for so long has come to work, whether there was any or not.
const EARLY: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One slot.
#[derive(Debug)]
pub(super) struct WorkerSlot {
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    pub(super) worker: Option<WorkerId>,
    /// It is not to be filled again.
    pub(super) closing: bool,
    started: Option<Instant>,
    pause: Duration,
    /// What became of the last start, if that has failed and none has succeeded since.
    pub(super) failed: Option<String>,
}

impl WorkerSlot {
    pub(super) fn new(index: usize, tags: Vec<String>) -> Self {
        Self {
            name: format!("worker-{index}"),
            tags,
            worker: None,
            closing: false,
            started: None,
            pause: Duration::ZERO,
            failed: None,
        }
    }

    pub(super) fn begin(&mut self, id: WorkerId, now: Instant) {
        self.worker = Some(id);
        self.started = Some(now);
    }

    /// Whether its worker has only just been started.
    pub(super) fn is_early(&self, now: Instant) -> bool {
        self.started.is_some_and(|at| now.duration_since(at) < EARLY)
    }

    /// When its worker was started.
    pub(super) fn started(&self) -> Option<Instant> {
        self.started
    }

    /// Its worker has ended, as it was to.
    pub(super) fn leave(&mut self) {
        self.worker = None;
    }

    /// Its worker has died; answers how long to wait before the next is started. One that `worked` was no failed start: a
    /// task may have ended it, and others wait for the next.
    pub(super) fn end(&mut self, worked: bool) -> Duration {
        self.worker = None;
        let pause = if worked { Duration::ZERO } else { self.pause };
        self.pause = if worked { Duration::ZERO } else { (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE) };
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_starts_are_followed_by_longer_and_longer_pauses_and_nothing_else_is() {
        let mut slot = WorkerSlot::new(0, Vec::new());
        let pauses: Vec<_> = (0..10).map(|_| slot.end(false).as_millis()).collect();
        assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(slot.end(true), Duration::ZERO, "a task ended it");
        assert_eq!(slot.end(false), Duration::ZERO, "one that came to work is forgiven what was before");
        assert_eq!(slot.end(false), FIRST_PAUSE);
        assert!((0..100).all(|_| slot.end(true).is_zero()), "tasks that end their workers hold nobody up");
    }
}
