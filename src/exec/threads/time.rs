//! The thread-time of tasks, for those who are charged for it.

use crate::ipc::clock::TickMeter;
use std::time::Duration;

/// What a thread knows of the time, in ticks.
pub(super) struct Time<'a> {
    /// When its last task ended.
    pub(super) now: u64,
    /// Until when what it did has been charged.
    pub(super) charged: u64,
    pub(super) meter: &'a mut TickMeter,
}

impl Time<'_> {
    /// After so much time, a job may be in another level.
    const WORTH_CHARGING: Duration = Duration::from_millis(1);

    pub(super) fn is_to_be_charged(&mut self) -> bool {
        self.meter.between(self.charged, self.now) >= Self::WORTH_CHARGING
    }

    /// The nanoseconds that have not been charged, which the caller does now.
    pub(super) fn uncharged(&mut self) -> u64 {
        self.meter.between(std::mem::replace(&mut self.charged, self.now), self.now).as_nanos() as u64
    }
}
