//! How long a thread was on a processor during a run.
//!
//! The kernel's clock of a thread costs a system call, so it is not asked for each run: at the beginning of a run where the
//! last reading is old, and at the end of one that was long. Between a reading and the beginning of a run there are only
//! short runs, one after the other; that time counts as spent on the processor.

use super::clock::{Clock, ticks, uses_counter};
use nix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::sync::LazyLock;
use std::time::Duration;

thread_local! {
    /// When the clock of this thread was read last, in ticks, and what it said, in nanoseconds.
    static READ: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// What makes durations of ticks.
static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::start);
/// The length of a long run in ticks: about 100 µs, somewhat more or less by the rate of the processor's counter.
static LONG: LazyLock<u64> = LazyLock::new(|| {
    LazyLock::force(&CLOCK);
    if uses_counter() { 250_000 } else { 100_000 }
});

/// Whether a run is so long that more is measured of it than its times.
#[inline]
pub(crate) fn is_long(began: u64, ended: u64) -> bool {
    ended.saturating_sub(began) >= *LONG
}

/// A run begins on this thread.
#[inline]
pub(crate) fn run_begins(now: u64) {
    if is_long(READ.get().0, now) {
        READ.set((now, thread_ns()));
    }
}

/// How long this thread was on a processor during a run of its that has just ended; none for a short one.
#[inline]
pub(crate) fn of_run(began: u64, ended: u64) -> Option<Duration> {
    is_long(began, ended).then(|| measured(began))
}

#[cold]
fn measured(began: u64) -> Duration {
    let (now, cpu) = (ticks(), thread_ns());
    let (at, before) = READ.replace((now, cpu));
    let ruler = CLOCK.ruler();
    let since = Duration::from_nanos(cpu.saturating_sub(before));
    since.saturating_sub(ruler.between(at, began)).min(ruler.between(began, now))
}

/// How long this thread has been on a processor. 0 where the kernel does not say.
fn thread_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn run(work: impl FnOnce()) -> Option<Duration> {
        let began = ticks();
        run_begins(began);
        work();
        of_run(began, ticks())
    }

    fn spin(time: Duration) {
        let from = thread_ns();
        while thread_ns() < from + time.as_nanos() as u64 {}
    }

    #[test]
    fn a_run_that_computes_and_sleeps_counts_what_it_computes() {
        let long = Duration::from_millis(20);
        assert_eq!(run(|| {}), None);
        for _ in 0..3 {
            let began = Instant::now();
            let slept = run(|| std::thread::sleep(long)).unwrap_or_default();
            assert!(slept < long / 4, "{slept:?}");
            let both = run(|| {
                std::thread::sleep(long);
                spin(long);
            });
            let both = both.unwrap_or_default();
            assert!(both >= long - long / 50 && both < began.elapsed() - 2 * long + long / 4, "{both:?}");
            // Short ones in between are not counted for a long one.
            (0..100).for_each(|_| assert_eq!(run(|| {}), None));
        }
    }
}
