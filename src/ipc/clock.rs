//! A clock cheap enough to time every task with, and the same in all processes of a machine.
//!
//! Where the kernel itself keeps time by the processor's time-stamp counter, reading that counter costs a third of
//! asking the kernel's clock. Its rate is not known beforehand: a [`Clock`] learns it from the time that has passed
//! since the clock was made.

use nix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

const UNKNOWN: u8 = 0;
const COUNTER: u8 = 1;
const SYSTEM: u8 = 2;

static SOURCE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// A time stamp in ticks of a length that only [`Clock`] knows.
pub(crate) fn ticks() -> u64 {
    match SOURCE.load(Ordering::Relaxed) {
        COUNTER => counter(),
        SYSTEM => monotonic_ns(),
        _ => {
            use_counter(counter_is_trusted());
            ticks()
        }
    }
}

/// Whether ticks are the processor's counter's.
pub(crate) fn uses_counter() -> bool {
    ticks();
    SOURCE.load(Ordering::Relaxed) == COUNTER
}

/// Has this process count the same ticks as another one.
pub(crate) fn use_counter(yes: bool) {
    SOURCE.store(if yes { COUNTER } else { SYSTEM }, Ordering::Relaxed);
}

/// Whether the kernel keeps time by the counter, so that it is steady and equal on all cores.
fn counter_is_trusted() -> bool {
    let current = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    cfg!(target_arch = "x86_64") && current.is_ok_and(|name| name.trim() == "tsc")
}

#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    // SAFETY: the instruction is part of every x86-64 processor and reads a register. Where an operating system forbids
    // it to programs, the kernel's own clock could not be read in user space either, which is how it is on Linux only
    // under `prctl(PR_SET_TSC)`, set by nobody but the program itself.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    monotonic_ns()
}

/// The time of day, in nanoseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The kernel's clock that is never set back, in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// The same in milliseconds.
pub(crate) fn monotonic_ms() -> u64 {
    monotonic_ns() / 1_000_000
}

/// Knows when it was made, and from that how long a tick is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    ticks: u64,
    ns: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let (ticks, ns) = both();
        Self { ticks, ns }
    }

    /// When it was made, by the kernel's clock that is never set back.
    pub(crate) fn started(&self) -> Duration {
        Duration::from_nanos(self.ns)
    }

    /// What makes durations of ticks, now.
    pub(crate) fn ruler(&self) -> Ruler {
        let (ticks, ns) = both();
        let (ticks, ns) = (ticks.saturating_sub(self.ticks), ns.saturating_sub(self.ns));
        Ruler { origin: self.ticks, tick_ns: if ticks == 0 { 1.0 } else { ns as f64 / ticks as f64 } }
    }
}

/// Ticks and the kernel's clock at one moment. A thread can lose its processor between the two readings, which would
/// make every length of a young clock wrong, so the closest of some tries counts.
fn both() -> (u64, u64) {
    const CLOSE_NS: u64 = 1_000;
    let mut best = (0, 0, u64::MAX);
    for _ in 0..8 {
        let before = monotonic_ns();
        let ticks = ticks();
        let apart = monotonic_ns().saturating_sub(before);
        if apart < best.2 {
            best = (ticks, before + apart / 2, apart);
        }
        if apart <= CLOSE_NS {
            break;
        }
    }
    (best.0, best.1)
}

/// The length of a tick, and where counting begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ruler {
    origin: u64,
    tick_ns: f64,
}

impl Ruler {
    /// From the start of the clock to a time stamp; nothing for one before it.
    pub(crate) fn since_start(&self, stamp: u64) -> Duration {
        self.between(self.origin, stamp)
    }

    pub(crate) fn between(&self, from: u64, to: u64) -> Duration {
        Duration::from_nanos((to.saturating_sub(from) as f64 * self.tick_ns) as u64)
    }
}

/// Measures times between ticks of one thread, without asking the kernel each time: how long a tick is, it finds out anew
/// each time that it has become twice as old.
#[derive(Debug)]
pub(crate) struct TickMeter {
    clock: Clock,
    ruler: Ruler,
    until: u64,
}

impl TickMeter {
    pub(crate) fn start() -> Self {
        let clock = Clock::start();
        Self { clock, ruler: clock.ruler(), until: 0 }
    }

    pub(crate) fn between(&mut self, from: u64, to: u64) -> Duration {
        if to > self.until {
            self.ruler = self.clock.ruler();
            self.until = to.saturating_add(to.saturating_sub(self.clock.ticks));
        }
        self.ruler.between(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_meter_measures_short_and_long_times_from_its_start_on() {
        let mut meter = TickMeter::start();
        for ms in [2, 1, 5, 40] {
            let (outer, from) = (Instant::now(), ticks());
            let inner = Instant::now();
            while inner.elapsed() < Duration::from_millis(ms) {
                std::hint::spin_loop();
            }
            let (shortest, to) = (inner.elapsed(), ticks());
            let longest = outer.elapsed();
            let measured = meter.between(from, to);
            assert!(
                measured > shortest.mul_f64(0.98) && measured < longest.mul_f64(1.02),
                "{measured:?}, {shortest:?}"
            );
        }
    }

    #[test]
    fn ticks_measure_what_the_system_measures() {
        let clock = Clock::start();
        // The thread may lose its processor between any two readings: what lies outside the ticks is the longest that
        // they may measure, what lies inside is the shortest.
        let outer = Instant::now();
        let from = ticks();
        let inner = Instant::now();
        while inner.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let shortest = inner.elapsed();
        let to = ticks();
        let longest = outer.elapsed();

        let ruler = clock.ruler();
        let measured = ruler.between(from, to);
        assert!(measured > shortest.mul_f64(0.98) && measured < longest.mul_f64(1.02), "{measured:?}, {shortest:?}");
        assert!(ruler.since_start(to) >= measured);
        assert_eq!(ruler.since_start(0), Duration::ZERO);
    }
}
