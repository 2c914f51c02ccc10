//! Whether a worker that uses more memory than it may is to be ended.

use super::policy::Levels;
use std::time::{Duration, Instant};

/// How long a worker whose results are too much may take to move the next one.
const GRACE: Duration = Duration::from_secs(2);
/// Over its limit and this part of it, one in so many, a worker is ended whatever the reason.
const FAR: u64 = 5;

/// Since when a worker has used more than it may, with nothing moved to disk.
#[derive(Debug, Default)]
pub(crate) struct Overrun(Option<(Instant, u64)>);

impl Overrun {
    /// Whether a worker is to be ended that uses `used` bytes, results of `managed` bytes among them, and has ever moved
    /// `moved` bytes to disk. To be asked at each look.
    ///
    /// What its tasks take is never to be too much. Where that fits by itself and the results are too much beside it, those
    /// are being moved, and no task starts meanwhile.
    pub(crate) fn ends(&mut self, levels: &Levels, used: u64, managed: u64, moved: u64, now: Instant) -> bool {
        if used <= levels.terminate {
            self.0 = None;
            return false;
        }
        if used.saturating_sub(managed) > levels.terminate || used > levels.limit.saturating_add(levels.limit / FAR) {
            return true;
        }
        match self.0 {
            Some((since, before)) if before == moved => now.saturating_duration_since(since) > GRACE,
            _ => {
                self.0 = Some((now, moved));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::thresholds::Thresholds;
    use super::*;

    #[test]
    fn tasks_that_take_too_much_end_their_worker_at_once_and_results_only_where_they_stay() {
        let levels = Thresholds::default().levels(1000);
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut overrun = Overrun::default();
        assert!(!overrun.ends(&levels, 950, 0, 0, at(0)), "it may use that much");
        assert!(overrun.ends(&levels, 951, 0, 0, at(0)));
        assert!(overrun.ends(&levels, 1201, 900, 0, at(0)), "far too much");
        assert!(!overrun.ends(&levels, 1200, 900, 0, at(0)));
        assert!(!overrun.ends(&levels, 1100, 800, 0, at(2000)));
        assert!(!overrun.ends(&levels, 1100, 700, 100, at(2001)), "results are moved");
        assert!(!overrun.ends(&levels, 900, 700, 100, at(4002)));
        assert!(!overrun.ends(&levels, 1100, 700, 100, at(4003)), "a new time");
        assert!(overrun.ends(&levels, 1100, 700, 100, at(6004)), "nothing is moved");
        assert!(overrun.ends(&levels, 1100, 149, 100, at(4003)), "the rest is what tasks take");
    }
}
