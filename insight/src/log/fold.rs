//! Sums of runs, for what a log has no room for; and which runs are worth their room all the same.

use super::nanos;
use super::rows::Folded;
use super::run::{Outcome, Run};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long the intervals are whose runs are summed up.
pub(super) const BUCKET_NS: u64 = 100_000_000;
/// Above so many sums those of several graphs are put together.
const MOST_GROUPS: usize = 10_000;
/// Above so many, those of several names.
const MOST_SUMS: usize = 20_000;
/// What those are called.
const OTHERS: &str = "others";

type Key = (Option<u32>, Arc<str>, u64);

/// Sums of runs by group and interval.
#[derive(Default)]
pub(super) struct Sums {
    sums: FxHashMap<Key, Folded>,
}

impl Sums {
    pub(super) fn len(&self) -> usize {
        self.sums.len()
    }

    /// Adds a run to the sums of its interval, or of all time.
    pub(super) fn add(&mut self, run: &Run, by_interval: bool) {
        let end = run.end.unwrap_or(run.start);
        let interval = if by_interval { nanos::of(end) / BUCKET_NS } else { 0 };
        let mut key = (Some(run.graph), run.name.clone(), interval);
        if self.sums.len() >= MOST_GROUPS && !self.sums.contains_key(&key) {
            key = match self.sums.len() {
                MOST_GROUPS..MOST_SUMS => (None, run.name.clone(), interval),
                _ => (None, OTHERS.into(), 0),
            };
        }
        let sum = self.sums.entry(key).or_insert_with_key(|(graph, name, _)| Folded {
            graph: *graph,
            name: name.clone(),
            from: end,
            to: end,
            outcomes: [0; Outcome::ALL.len()],
            took: Duration::ZERO,
            cpu: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
            longest: Duration::ZERO,
        });
        let took = run.took().unwrap_or_default();
        sum.from = sum.from.min(end);
        sum.to = sum.to.max(end);
        sum.outcomes[run.outcome.index()] += 1;
        sum.took = sum.took.saturating_add(took);
        sum.cpu = sum.cpu.saturating_add(run.cpu.unwrap_or_default());
        sum.bytes_in = sum.bytes_in.saturating_add(run.bytes_in.unwrap_or(0));
        sum.bytes_out = sum.bytes_out.saturating_add(run.bytes_out.unwrap_or(0));
        sum.longest = sum.longest.max(took);
    }

    /// Takes all sums, in the order of time.
    pub(super) fn take(&mut self) -> Vec<Folded> {
        let mut sums: Vec<_> = std::mem::take(&mut self.sums).into_values().collect();
        sums.sort_by(|a, b| (a.from, a.graph, &a.name).cmp(&(b.from, b.graph, &b.name)));
        sums
    }
}

/// Knows which runs of a group are among its slowest hundredth, as far as that can be known at their end.
#[derive(Default)]
pub(super) struct Slowest {
    groups: FxHashMap<(u32, Arc<str>), Times>,
}

/// How long the runs of one group took, in steps of 3 %.
#[derive(Default)]
struct Times {
    /// The steps that are there, with their counts, in order.
    steps: Vec<(u16, u32)>,
    runs: u64,
    kept: u64,
}

impl Slowest {
    /// Whether the run, which is counted too, is slower than 99 in 100 of its group. Of no group more than a hundredth is.
    pub(super) fn is_slow(&mut self, run: &Run) -> bool {
        if self.groups.len() >= MOST_GROUPS {
            // Begins anew rather than grow without a bound.
            self.groups.clear();
        }
        let times = self.groups.entry((run.graph, run.name.clone())).or_default();
        let step = step(nanos::of(run.took().unwrap_or_default()));
        match times.steps.binary_search_by_key(&step, |(step, _)| *step) {
            Ok(i) => times.steps[i].1 = times.steps[i].1.saturating_add(1),
            Err(i) => times.steps.insert(i, (step, 1)),
        }
        times.runs += 1;
        let hundredth = times.runs / 100;
        if times.kept >= hundredth {
            return false;
        }
        // Looks no further than the hundredth.
        let mut as_slow = 0;
        let slower = times.steps.iter().rev().take_while(|(other, _)| *other >= step);
        let is_slow = slower.map(|(_, n)| u64::from(*n)).all(|n| {
            as_slow += n;
            as_slow <= hundredth
        });
        times.kept += u64::from(is_slow);
        is_slow
    }
}

/// The number of the step that a time lies in: 32 to each doubling.
fn step(ns: u64) -> u16 {
    if ns < 32 {
        return ns as u16;
    }
    let doubling = ns.ilog2();
    let part = (ns >> (doubling - 5)) & 31;
    ((doubling - 4) * 32) as u16 + part as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, took: u64, outcome: Outcome) -> Run {
        let mut run = Run::new(name, 1, "w", Duration::from_nanos(1000));
        run.ended(Duration::from_nanos(1000 + took), outcome);
        run
    }

    #[test]
    fn steps_are_in_order_and_three_percent_apart() {
        assert!((0..100_000).map(step).is_sorted());
        let ends = (1..64).flat_map(|doubling| [(1_u64 << doubling) - 1, 1 << doubling]);
        assert!(ends.clone().map(step).is_sorted() && ends.clone().all(|ns| step(ns) < 2048));
        assert_ne!(step(1_000_000), step(1_040_000));
        assert!(step(u64::MAX) > step(u64::MAX / 2));
    }

    #[test]
    fn the_slowest_hundredth_is_found_and_never_more() {
        let mut slowest = Slowest::default();
        let equal = (0..1000).filter(|_| slowest.is_slow(&run("equal", 500, Outcome::Finished))).count();
        assert_eq!(equal, 0);
        let slow = |i: u64| if i % 200 == 199 { 1_000_000 } else { 1_000 + i % 7 };
        let found = (0..2000).filter(|i| slowest.is_slow(&run("some", slow(*i), Outcome::Finished))).count();
        assert!((8..=20).contains(&found), "{found} of 10 slow ones");
        let rising = (0..10_000).filter(|i| slowest.is_slow(&run("rising", 1000 * i, Outcome::Finished))).count();
        assert!((50..=100).contains(&rising), "{rising}");
    }

    #[test]
    fn sums_are_bounded_and_lose_nothing() {
        let mut sums = Sums::default();
        for i in 0..50_000_u64 {
            sums.add(&run(&format!("name {i}"), i, Outcome::ALL[(i % 5) as usize]), i % 2 == 0);
        }
        assert!(sums.len() <= MOST_SUMS + 2, "{}", sums.len());
        let all = sums.take();
        assert_eq!(all.iter().map(Folded::runs).sum::<u64>(), 50_000);
        let took: Duration = all.iter().map(|sum| sum.took).sum();
        assert_eq!(took.as_nanos(), (0..50_000_u128).sum::<u128>());
        assert!(all.is_sorted_by_key(|sum| sum.from) && sums.take().is_empty());
    }
}
