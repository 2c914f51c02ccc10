//! What a thread does with the time of a run, but computing: it reads inputs, writes the result, or waits for tasks of the
//! run's own.

use crate::ipc::clock::ticks;
use std::cell::Cell;
use std::thread::ThreadId;

/// Bytes from which on it is measured how long an input is read.
pub(crate) const WORTH_MEASURING: usize = 64 << 10;

/// Times of a run, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunTimes {
    pub(crate) reading: u64,
    pub(crate) writing: u64,
    pub(crate) suspended: u64,
}

impl RunTimes {
    /// As they are recorded of a run that took so long: reading, writing, suspended. Less than a hundredth of the run is
    /// not worth it, and counts as computing.
    pub(crate) fn words(self, took: u64) -> [u64; 3] {
        let times = [self.reading, self.writing, self.suspended];
        if times.iter().sum::<u64>() >= took / 100 { times } else { [0; 3] }
    }
}

thread_local! {
    /// Of the run of this thread, up to now.
    static TIMES: Cell<RunTimes> = const { Cell::new(RunTimes { reading: 0, writing: 0, suspended: 0 }) };
    /// How many waits of it there are at the same time, as of async code, and since when.
    static WAITS: Cell<(u32, u64)> = const { Cell::new((0, 0)) };
}

/// The times of the run that ends on this thread.
pub(crate) fn take() -> RunTimes {
    TIMES.take()
}

/// Reads an input of that size.
#[inline]
pub(crate) fn reading<R>(bytes: usize, read: impl FnOnce() -> R) -> R {
    if bytes < WORTH_MEASURING {
        return read();
    }
    let began = ticks();
    let result = read();
    add(|times| times.reading += ticks().saturating_sub(began));
    result
}

/// Writes a result.
#[inline]
pub(crate) fn writing<R>(write: impl FnOnce() -> R) -> R {
    let began = ticks();
    let result = write();
    add(|times| times.writing += ticks().saturating_sub(began));
    result
}

#[inline]
fn add(to: impl FnOnce(&mut RunTimes)) {
    let mut times = TIMES.get();
    to(&mut times);
    TIMES.set(times);
}

/// The run of this thread waits, until this is dropped. On another thread, that says nothing of any run.
#[derive(Debug)]
pub(crate) struct Suspension(ThreadId);

impl Suspension {
    pub(crate) fn begin() -> Self {
        let (waits, since) = WAITS.get();
        WAITS.set((waits + 1, if waits == 0 { ticks() } else { since }));
        Self(std::thread::current().id())
    }
}

impl Drop for Suspension {
    fn drop(&mut self) {
        if std::thread::current().id() != self.0 {
            return;
        }
        let (waits, since) = WAITS.get();
        WAITS.set((waits.saturating_sub(1), since));
        if waits == 1 {
            add(|times| times.suspended += ticks().saturating_sub(since));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn waits_at_the_same_time_count_once_and_small_inputs_do_not() {
        let before = ticks();
        let first = Suspension::begin();
        let second = Suspension::begin();
        std::thread::sleep(Duration::from_millis(2));
        drop(first);
        drop(second);
        let all = ticks() - before;
        reading(10, || std::thread::sleep(Duration::from_millis(1)));
        reading(WORTH_MEASURING, || std::thread::sleep(Duration::from_millis(1)));
        writing(|| std::thread::sleep(Duration::from_millis(1)));
        let times = take();
        assert!(times.suspended > 0 && times.suspended <= all, "{times:?} of {all}");
        assert!(times.reading > 0 && times.writing > 0, "{times:?}");
        assert_eq!(take(), RunTimes::default());
        // One that ends on another thread is nobody's.
        let moved = Suspension::begin();
        std::thread::spawn(move || {
            drop(moved);
            assert_eq!(take(), RunTimes::default());
        })
        .join()
        .expect("it ends");
        WAITS.set((0, 0));
    }
}
