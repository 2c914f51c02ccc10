//! How much results are likely to take: what those of the same function took, and until there was one, what the task's
//! options declare.

use super::Scheduler;
use super::job::TaskRef;
use crate::task::program;
use rustc_hash::FxHashMap;

/// By function, as a task's program names it: a moving average of what its results took, in bytes.
///
/// Functions outlive jobs, so what one job has taught holds for the next. There are no more of them than the program has.
#[derive(Debug, Default)]
pub(super) struct Sizes(FxHashMap<u64, u64>);

impl Sizes {
    fn learn(&mut self, function: u64, bytes: u64) {
        self.0.entry(function).and_modify(|old| *old = *old - *old / 4 + bytes / 4).or_insert(bytes);
    }
}

impl Scheduler {
    /// A task that ran on a worker with a memory limit has left a result of so many bytes: `held` by the worker, or sent
    /// along.
    pub(super) fn learn_size(&mut self, r: TaskRef, bytes: u64, held: bool) {
        let job = &self.jobs[r.job];
        // Small results of functions of which nobody expects more need not be known.
        if held || job.memory(r.index) > 0 || !self.sizes.0.is_empty() {
            let function = program::function(job.spec.body(r.index));
            if held || job.memory(r.index) > 0 || self.sizes.0.contains_key(&function) {
                self.sizes.learn(function, bytes);
            }
        }
    }

    /// What a task is expected to leave with its worker, in bytes; 0 where nothing is known.
    pub(super) fn leaves(&self, r: TaskRef) -> u64 {
        let job = &self.jobs[r.job];
        let declared = job.memory(r.index);
        if self.sizes.0.is_empty() {
            return declared;
        }
        self.sizes.0.get(&program::function(job.spec.body(r.index))).copied().unwrap_or(declared)
    }
}
