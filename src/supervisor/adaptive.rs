//! How many workers there are to be for a load: decided from numbers alone.

use crate::scheduler::Load;
use crate::settings::AdaptOptions;
use std::time::Duration;

/// Results take this share of the memory limits at most, or there are to be more workers.
const FULL: f64 = 0.6;

/// What a worker is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerShape {
    pub(crate) threads: usize,
    pub(crate) memory_limit: Option<u64>,
}

/// Follows the load: up at once, and down when fewer workers would have done for some looks in a row.
#[derive(Debug)]
pub(crate) struct Adaptive {
    min: usize,
    max: usize,
    options: AdaptOptions,
    /// How many looks in a row have found that fewer would do, and the most that one of them wanted.
    below: u32,
    most_wanted: usize,
}

impl Adaptive {
    pub(crate) fn new(min: usize, max: usize, options: AdaptOptions) -> Self {
        Self { min, max, options, below: 0, most_wanted: 0 }
    }

    pub(crate) fn min(&self) -> usize {
        self.min
    }

    pub(crate) fn interval(&self) -> Duration {
        self.options.interval
    }

    /// Whether the last looks have found that fewer workers would do.
    pub(crate) fn wants_fewer(&self) -> bool {
        self.below > 0
    }

    /// How many workers there are to be, where there are `now`.
    pub(crate) fn decide(&mut self, load: Load, shape: WorkerShape, now: usize) -> usize {
        let wanted = self.wanted(load, shape);
        if wanted >= now || now > self.max {
            self.below = 0;
            return wanted;
        }
        self.most_wanted = if self.below == 0 { wanted } else { self.most_wanted.max(wanted) };
        self.below += 1;
        if self.below < self.options.wait {
            return now;
        }
        self.below = 0;
        self.most_wanted
    }

    /// What the load needs by itself.
    fn wanted(&self, load: Load, shape: WorkerShape) -> usize {
        let threads = shape.threads.max(1) as u64;
        let target = self.options.target.as_nanos().max(1);
        let busy = u64::try_from(load.run_time.as_nanos().div_ceil(target)).unwrap_or(u64::MAX);
        // A few long tasks keep no more threads busy than there are tasks.
        let for_time = busy.min(load.tasks).div_ceil(threads);
        let for_memory = shape.memory_limit.map_or(0, |limit| (load.held as f64 / (limit as f64 * FULL)).ceil() as u64);
        let wanted = usize::try_from(for_time.max(for_memory)).unwrap_or(usize::MAX);
        wanted.clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: WorkerShape = WorkerShape { threads: 2, memory_limit: Some(100 << 20) };

    fn load(seconds: u64, tasks: u64, held: u64) -> Load {
        Load { run_time: Duration::from_secs(seconds), tasks, held }
    }

    #[test]
    fn time_and_memory_say_how_many_workers_there_are_to_be() {
        let mut adaptive = Adaptive::new(1, 8, AdaptOptions::default());
        for (load, wanted) in [
            (load(0, 0, 0), 1),
            (load(40, 1000, 0), 4),   // 8 threads for 5 s
            (load(40, 3, 0), 2),      // 3 tasks
            (load(1000, 1000, 0), 8), // the most
            (load(0, 0, 120 << 20), 2),
            (load(0, 0, 121 << 20), 3),
        ] {
            assert_eq!(adaptive.decide(load, SHAPE, 1), wanted, "{load:?}");
        }
        let endless = WorkerShape { memory_limit: None, ..SHAPE };
        assert_eq!(adaptive.decide(load(0, 0, u64::MAX), endless, 1), 1);
    }

    #[test]
    fn there_are_fewer_only_after_some_looks_and_no_fewer_than_one_of_them_wanted() {
        let mut adaptive = Adaptive::new(1, 8, AdaptOptions { wait: 3, ..AdaptOptions::default() });
        let mut looks = |seconds: &[u64]| -> Vec<usize> {
            seconds.iter().map(|&s| adaptive.decide(load(s, 1000, 0), SHAPE, 4)).collect()
        };
        assert_eq!(looks(&[10, 20, 0]), [4, 4, 2]);
        assert_eq!(looks(&[0, 0, 40, 0, 0, 0]), [4, 4, 4, 4, 4, 1], "a busy look begins the count anew");
    }

    fn some_load() -> impl Strategy<Value = Load> {
        (0..10_000_u64, 0..1000_u64, 0..1_u64 << 32).prop_map(|(ms, tasks, held)| Load {
            run_time: Duration::from_millis(ms * 20),
            tasks,
            held,
        })
    }

    proptest! {
        #[test]
        fn it_keeps_its_bounds_goes_up_at_once_and_down_late(
            (min, more) in (1..5_usize, 0..10_usize),
            wait in 0..5_u32,
            loads in prop::collection::vec(some_load(), 1..40),
            threads in 1..4_usize,
        ) {
            let max = min + more;
            let shape = WorkerShape { threads, memory_limit: Some(512 << 20) };
            let mut adaptive = Adaptive::new(min, max, AdaptOptions { wait, ..AdaptOptions::default() });
            let (mut now, mut lower) = (min, 0);
            for load in loads {
                let wanted = adaptive.wanted(load, shape);
                let next = adaptive.decide(load, shape, now);
                prop_assert!((min..=max).contains(&next));
                lower = if wanted < now { lower + 1 } else { 0 };
                if wanted >= now {
                    prop_assert_eq!(next, wanted, "up at once");
                } else {
                    prop_assert!(next >= wanted && next <= now);
                    prop_assert!(next == now || lower >= wait, "down after {} of {} looks", lower, wait);
                }
                if next != now {
                    lower = 0;
                }
                now = next;
            }
        }

        #[test]
        fn a_steady_load_is_met_and_the_number_stays(load in some_load(), now in 1..10_usize, wait in 0..5_u32) {
            let mut adaptive = Adaptive::new(1, 9, AdaptOptions { wait, ..AdaptOptions::default() });
            let wanted = adaptive.wanted(load, SHAPE);
            let after = (0..=wait).fold(now, |now, _| adaptive.decide(load, SHAPE, now));
            prop_assert_eq!(after, wanted);
            prop_assert_eq!((0..10).fold(after, |now, _| adaptive.decide(load, SHAPE, now)), wanted);
        }

        #[test]
        fn more_load_never_wants_fewer_workers(a in some_load(), b in some_load()) {
            let adaptive = Adaptive::new(1, 64, AdaptOptions::default());
            let both = Load {
                run_time: a.run_time.max(b.run_time),
                tasks: a.tasks.max(b.tasks),
                held: a.held.max(b.held),
            };
            prop_assert!(adaptive.wanted(both, SHAPE) >= adaptive.wanted(a, SHAPE).max(adaptive.wanted(b, SHAPE)));
        }
    }
}
