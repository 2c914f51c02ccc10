//! The memory of workers over time, on a grid of as many points as are asked for.

use super::gathered::{Gathered, LONGEST_NAME, by_number};
use super::{VERSION, Window};
use crate::log::{MemorySample, nanos};
use crate::picture::text::cut;
use serde::Serialize;
use std::collections::BTreeMap;

/// So many workers have lines of their own.
const MOST_WORKERS: usize = 64;

/// The memory of the workers between two times.
///
/// A point is the most that was seen between its time and that of the next. All have the same times, and where there is no
/// sample the value before holds on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryOverTime {
    /// The version of the answers.
    pub version: u32,
    /// The times of the points.
    pub at_ns: Vec<u64>,
    /// Each worker, by name; empty where no memory was recorded.
    pub workers: Vec<WorkerMemory>,
    /// All workers together, also those that have no lines of their own.
    pub all: Option<WorkerMemory>,
    /// How many workers have no lines of their own.
    pub hidden: usize,
}

/// The memory of a worker at each of the times, in bytes. Nothing is known before its first sample.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkerMemory {
    /// Its name.
    pub worker: String,
    /// Its limit.
    pub limit: Option<u64>,
    /// What is compared with the limit.
    pub used: Vec<Option<u64>>,
    /// Results in memory.
    pub managed: Vec<Option<u64>>,
    /// Segments of shared memory.
    pub shared: Vec<Option<u64>>,
    /// Results on disk.
    pub spilled: Vec<Option<u64>>,
}

/// One of the numbers of a sample.
type Part = fn(&MemorySample) -> u64;

impl Gathered {
    pub(super) fn memory_over_time(&self, window: &Window) -> MemoryOverTime {
        let (from, to) = (nanos::of(window.from), nanos::of(window.to));
        let cell = window.cell();
        let mut answer =
            MemoryOverTime { version: VERSION, at_ns: Vec::new(), workers: Vec::new(), all: None, hidden: 0 };
        let mut of_workers: BTreeMap<&str, Vec<&MemorySample>> = BTreeMap::new();
        for sample in self.memory.iter().filter(|sample| nanos::of(sample.at) <= to) {
            of_workers.entry(&sample.worker).or_default().push(sample);
        }
        if of_workers.is_empty() {
            return answer;
        }
        let points = usize::try_from((to - from) / cell).unwrap_or(window.width).min(window.width) + 1;
        answer.at_ns = (0..points as u64).map(|n| from.saturating_add(n.saturating_mul(cell))).collect();
        let place = |sample: &MemorySample| {
            let at = nanos::of(sample.at);
            at.checked_sub(from).map(|since| usize::try_from(since / cell).unwrap_or(points).min(points - 1))
        };
        let column = |samples: &[&MemorySample], part: Part| {
            let mut column: Vec<Option<u64>> = vec![None; points];
            let mut before = None;
            for sample in samples {
                match place(sample) {
                    Some(place) => column[place] = column[place].max(Some(part(sample))),
                    None => before = Some(part(sample)),
                }
            }
            // The last sample of a point, not its highest, is what holds on; but the two are near each other.
            for value in &mut column {
                before = value.or(before);
                *value = before;
            }
            column
        };
        let mut all = WorkerMemory { worker: "all workers".to_string(), limit: Some(0), ..WorkerMemory::default() };
        let mut sorted: Vec<_> = of_workers.into_iter().collect();
        sorted.sort_by(|a, b| by_number(a.0, b.0));
        for (worker, samples) in sorted {
            let limit = samples.iter().rev().find_map(|sample| sample.limit);
            let memory = WorkerMemory {
                worker: cut(worker, LONGEST_NAME),
                limit,
                used: column(&samples, |sample| sample.used),
                managed: column(&samples, |sample| sample.managed),
                shared: column(&samples, |sample| sample.shared),
                spilled: column(&samples, |sample| sample.spilled),
            };
            all.limit = all.limit.zip(limit).map(|(sum, limit)| sum.saturating_add(limit));
            add(&mut all.used, &memory.used);
            add(&mut all.managed, &memory.managed);
            add(&mut all.shared, &memory.shared);
            add(&mut all.spilled, &memory.spilled);
            match answer.workers.len() < MOST_WORKERS {
                true => answer.workers.push(memory),
                false => answer.hidden += 1,
            }
        }
        answer.all = Some(all);
        answer
    }
}

fn add(sums: &mut Vec<Option<u64>>, column: &[Option<u64>]) {
    sums.resize(column.len(), None);
    for (sum, value) in sums.iter_mut().zip(column) {
        *sum = match (*sum, *value) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
    }
}
