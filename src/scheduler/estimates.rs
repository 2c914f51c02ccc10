//! How long tasks are likely to take and how large their results will be: what those of the same function took before.
//!
//! A job learns run times from its own tasks as they end. Where each task is a job of its own, that is too late, so both
//! kinds of estimate are also kept by function. Functions outlive jobs, and there are no more of them than the program has.

use super::Scheduler;
use super::job::TaskRef;
use crate::job::JobSpec;
use rustc_hash::FxHashMap;
use std::time::Duration;

/// By function, as a task's program names it: a moving average of run times in nanoseconds.
///
/// A job is taken to be like its first task, and a chain of calls goes by the last: so a job pays for this once. Only
/// runs that succeeded count.
#[derive(Debug, Default)]
pub(super) struct RunTimes(FxHashMap<u64, u32>);

/// No guess is shorter, in nanoseconds: this time the function may take longer, and what waits in a worker's queue meanwhile
/// is not easily had back.
const LEAST: u32 = 100_000;

impl RunTimes {
    /// What the tasks of a job are likely to take; 0 where that is unknown.
    pub(super) fn of(&self, spec: &JobSpec, first: u32) -> u32 {
        if self.0.is_empty() || first as usize == spec.len() {
            return 0;
        }
        let has_parts = spec.parts.first().is_some_and(|(part, _)| spec.deps(*part) == [first]);
        let function = spec.last_call(first, has_parts).map_or(0, |(function, _)| function);
        self.0.get(&function).map_or(0, |time| (*time).max(LEAST))
    }
}

/// Takes in one run time. One long run must not slow down the hand-out of many short ones for long.
fn average(old: u32, run_us: u32) -> u32 {
    let sample = (u64::from(run_us) * 1000).clamp(250, u64::from(u32::MAX)) as i64;
    let old = i64::from(old);
    (if old == 0 { sample } else { old + (sample - old) / 4 }) as u32
}

/// By function, as a task's program names it: a moving average of what its results took, in bytes.
#[derive(Debug, Default)]
pub(super) struct ResultSizes(FxHashMap<u64, u64>);

impl ResultSizes {
    fn learn(&mut self, function: u64, bytes: u64) {
        self.0.entry(function).and_modify(|old| *old = *old - *old / 4 + bytes / 4).or_insert(bytes);
    }
}

/// What it takes to have a value encoded in one process and decoded in another: a moving average of what exports took.
#[derive(Debug)]
pub(super) struct SendingRate {
    /// Nanoseconds for sixteen bytes.
    rate: u64,
    /// Since when the exports that have ended were awaited, and how many bytes they had to encode.
    ended: Vec<(Duration, u64)>,
}

impl Default for SendingRate {
    fn default() -> Self {
        Self { rate: 16, ended: Vec::new() }
    }
}

impl SendingRate {
    /// Exports of less say more of messages than of bytes.
    const TELLING: u64 = 1 << 20;

    /// What sending so many bytes takes, in nanoseconds.
    pub(super) fn time(&self, encoded: u64) -> u64 {
        encoded / 16 * self.rate
    }

    /// An export that was asked for at `since` has ended.
    pub(super) fn ended(&mut self, since: Duration, encoded: u64) {
        if encoded >= Self::TELLING {
            self.ended.push((since, encoded));
        }
    }

    /// Learns from the exports that have ended, now that the time is known. Decoding takes about as long as encoding.
    pub(super) fn learn(&mut self, now: Duration) {
        for (since, encoded) in self.ended.drain(..) {
            let took = now.saturating_sub(since).as_nanos() as u64;
            let rate = (2 * took / (encoded / 16)).clamp(4, 256);
            self.rate = (3 * self.rate + rate) / 4;
        }
    }
}

impl Scheduler {
    /// A task has run for so long, and has succeeded or not.
    pub(super) fn learn_time(&mut self, r: TaskRef, run_us: u32, succeeded: bool) {
        let job = &mut self.jobs[r.job];
        job.estimate = average(job.estimate, run_us);
        job.charge(u64::from(run_us) * 1000, &mut self.ready);
        if succeeded && r.index == job.first {
            let known = self.run_times.0.entry(job.function(r.index)).or_default();
            *known = average(*known, run_us);
        }
    }

    /// A task that ran on a worker with a memory limit has a result of this many bytes, which the worker keeps (`held`) or
    /// has sent along.
    pub(super) fn learn_size(&mut self, r: TaskRef, bytes: u64, held: bool) {
        let job = &self.jobs[r.job];
        // Small results of functions of which nobody expects more need not be known.
        if held || job.memory(r.index) > 0 || !self.result_sizes.0.is_empty() {
            let function = job.function(r.index);
            if held || job.memory(r.index) > 0 || self.result_sizes.0.contains_key(&function) {
                self.result_sizes.learn(function, bytes);
            }
        }
    }

    /// How many bytes a task is expected to leave with its worker: what results of its function took, or until there was
    /// one, what the task's options declare; 0 where nothing is known.
    pub(super) fn leaves(&self, r: TaskRef) -> u64 {
        let job = &self.jobs[r.job];
        let declared = job.memory(r.index);
        if self.result_sizes.0.is_empty() {
            return declared;
        }
        self.result_sizes.0.get(&job.function(r.index)).copied().unwrap_or(declared)
    }
}
