//! The slots of workers: each has a name, and one worker process after the other.

use crate::ids::WorkerId;
use std::time::{Duration, Instant};

/// A worker that dies sooner than this after its start is started again after a pause.
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

    /// Its worker has ended, as it was to.
    pub(super) fn leave(&mut self) {
        self.worker = None;
    }

    /// Its worker has died; answers how long to wait before the next is started.
    pub(super) fn end(&mut self, now: Instant) -> Duration {
        self.worker = None;
        let early = self.is_early(now);
        // The first early death is replaced at once: a task may have caused it. Workers that never live long wait longer.
        let pause = self.pause;
        self.pause = if early { (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE) } else { Duration::ZERO };
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_deaths_are_followed_by_longer_and_longer_pauses() {
        let mut slot = WorkerSlot::new(0, Vec::new());
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for i in 0..10 {
            slot.begin(WorkerId(i), now);
            now += Duration::from_millis(1);
            pauses.push(slot.end(now).as_millis());
        }
        assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        slot.begin(WorkerId(11), now);
        now += Duration::from_secs(10);
        slot.end(now);
        slot.begin(WorkerId(12), now);
        assert_eq!(slot.end(now), Duration::ZERO, "a long worker is forgiven");
    }
}
