//! When tasks that have not begun are taken back from the queue of a worker: for another one that has nothing to do, or for what
//! is more urgent.

use super::Scheduler;
use super::ready::Rule;
use super::worker::{Retraction, Worker, WorkerIndex};
use crate::fairness::{Rank, urgency};
use crate::ids::TaskId;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// A queue shorter than this, in nanoseconds, is not worth a message, as long as the worker ends tasks.
const SHORT_QUEUE: u64 = 200_000;
/// A worker that has not ended a task for this long is stalled.
const STALLED: Duration = Duration::from_millis(1);

impl Scheduler {
    /// A task of this rank waits for a thread: nothing less urgent goes into the queues of the workers that may run it.
    pub(super) fn keep_queues_for(&mut self, rule: Option<&Rule>, rank: Rank) {
        for w in self.workers.iter_mut() {
            if w.awaited_by.is_none() && rule.is_none_or(|rule| rule.allows(&w.spec) && w.fits(rule)) {
                w.awaited_by = Some(urgency(rank));
            }
        }
    }

    /// Asks back what is less urgent in the queues of workers than what waits for a thread there: it would begin first.
    pub(super) fn recall(&mut self) {
        for w in self.workers.iter_mut() {
            let Some(urgency_of_waiting) = w.awaited_by else { continue };
            let any = w.least_urgent > urgency_of_waiting && w.queued() > 0;
            if !any || w.retraction.is_some() || !w.accepting() {
                continue;
            }
            w.least_urgent = urgency_of_waiting;
            let jobs = &self.jobs;
            let less_urgent = w.flight.with_ranks().filter(|(_, rank)| urgency(*rank) > urgency_of_waiting);
            let tasks: Vec<TaskId> = less_urgent.map(|(r, _)| jobs[r.job].task_id(r.index)).collect();
            w.ask_back(tasks, Retraction::ToWait);
        }
    }

    /// Has queued tasks given back by busy workers while others have nothing to do.
    pub(super) fn balance(&mut self) {
        let mut idle: SmallVec<[WorkerIndex; 16]> = SmallVec::new();
        let mut wanted = 0;
        for w in self.workers.iter_mut() {
            w.probe = None;
        }
        for (worker, w) in self.workers.with_index() {
            if w.accepting() && w.free_threads() > 0 {
                wanted += w.free_threads();
                idle.push(worker);
            }
        }
        let mut busy: SmallVec<[(u32, WorkerIndex); 16]> = SmallVec::new();
        for (worker, w) in self.workers.with_index() {
            if w.accepting() && w.queued() > 0 && w.retraction.is_none() && !w.futile {
                busy.push((w.queued(), worker));
            }
        }
        busy.sort_by_key(|(queued, _)| std::cmp::Reverse(*queued));
        for (queued, worker) in busy {
            if wanted == 0 {
                return;
            }
            let tasks = self.worth_moving(worker, queued.div_ceil(2), &idle);
            let w = &mut self.workers[worker];
            if tasks.is_empty() {
                w.futile = w.probe.is_none();
                continue;
            }
            wanted = wanted.saturating_sub(tasks.len() as u32);
            w.ask_back(tasks, Retraction::ToMove);
        }
    }

    /// The tasks sent last to a worker that an idle one would have done earlier. Where that depends on how long
    /// the worker stays busy, sets the time to check again.
    fn worth_moving(&mut self, worker: WorkerIndex, most: u32, idle: &[WorkerIndex]) -> Vec<TaskId> {
        let w = &self.workers[worker];
        let stalled = self.now.saturating_sub(w.progress);
        if stalled < STALLED && w.wait() < SHORT_QUEUE {
            let probe = w.progress + STALLED;
            self.workers[worker].probe = Some(probe);
            return Vec::new();
        }
        let mut tasks = Vec::new();
        let mut cheapest = None;
        let mut position = u64::from(w.flight.len());
        let length = position.max(1);
        for r in w.flight.iter().rev().take(w.queued() as usize) {
            if tasks.len() as u32 == most {
                break;
            }
            let wait = w.wait() * position / length;
            position -= 1;
            let job = &self.jobs[r.job];
            let rule: Option<&Arc<Rule>> = job.lanes[job.lane_of(r.index) as usize].rule.as_ref();
            // Where a task would not be sent it must not be taken back for, or it would come and go for ever.
            let source = job.dep_range(r.index).is_empty();
            let takes = |w: &Worker| !source || self.sources(w, self.leaves(r)) > 0;
            if !idle.iter().any(|&i| self.usable(i, rule.map(|rule| &**rule)).is_some_and(takes)) {
                continue;
            }
            if job.is_ahead(r.index) {
                continue;
            }
            let cost = self.only_there(r, worker).cost();
            if cost <= wait.max(stalled.as_nanos() as u64) {
                tasks.push(job.task_id(r.index));
            } else {
                cheapest = Some(cheapest.map_or(cost, |c: u64| c.min(cost)));
            }
        }
        if let (true, Some(cost)) = (tasks.is_empty(), cheapest) {
            let probe = w.progress + Duration::from_nanos(cost);
            self.workers[worker].probe = Some(probe);
        }
        tasks
    }
}
