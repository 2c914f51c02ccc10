//! How long tasks are likely to take: what those of the same function took in the jobs before.
//!
//! A job learns it from its own tasks as they end. Where each task is a job of its own, that is too late.

use super::Scheduler;
use super::job::TaskRef;
use crate::job::JobSpec;
use crate::task::program;
use rustc_hash::FxHashMap;

/// By function, as a task's program names it: a moving average of run times in nanoseconds.
///
/// A job is taken to be like its first task, and a chain of calls goes by the last: so a job pays for this once. Only
/// what ran to its end is learnt from, so there are no more functions than the program has.
#[derive(Debug, Default)]
pub(super) struct Times(FxHashMap<u64, u32>);

/// No guess is shorter, in nanoseconds: this time the function may take longer, and what waits in a worker's queue meanwhile
/// is not easily had back.
const LEAST: u32 = 100_000;

impl Times {
    /// What the tasks of a job are likely to take; 0 where that is unknown.
    pub(super) fn of(&self, spec: &JobSpec, first: u32) -> u32 {
        let known = |function| self.0.get(&function).copied();
        if self.0.is_empty() || first as usize == spec.len() {
            0
        } else {
            known(program::function(spec.body(first))).map_or(0, |time| time.max(LEAST))
        }
    }
}

/// Takes in one run time. One long run must not slow down the hand-out of many short ones for long.
fn average(old: u32, run_us: u32) -> u32 {
    let sample = (u64::from(run_us) * 1000).clamp(250, u64::from(u32::MAX)) as i64;
    let old = i64::from(old);
    (if old == 0 { sample } else { old + (sample - old) / 4 }) as u32
}

impl Scheduler {
    /// A task has run for so long, and has succeeded or not.
    pub(super) fn learn_time(&mut self, r: TaskRef, run_us: u32, succeeded: bool) {
        let job = &mut self.jobs[r.job];
        job.estimate = average(job.estimate, run_us);
        if succeeded && r.index == job.first {
            let known = self.times.0.entry(program::function(job.spec.body(r.index))).or_default();
            *known = average(*known, run_us);
        }
    }
}
