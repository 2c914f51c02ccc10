//! Whether a worker has left what a task takes of its memory and its resources while it runs.
//!
//! A task that waits for tasks of its own keeps what it takes: nobody else gets it, but those that it waits for may use it.

use super::Scheduler;
use super::job::{State, TaskRef};
use super::ready::Rule;
use super::worker::{Worker, WorkerIndex};
use crate::ids::TaskId;
use crate::resources::Resources;
use crate::task::wait::WaitKind;
use std::cmp::Reverse;
use std::time::Duration;

/// So long all that have a resource wait for tasks none of which runs, until one of these is let in that needs it: what they have
/// waited for may be done, and the word of that be on its way.
const HELD_UP: Duration = Duration::from_millis(20);

impl Scheduler {
    /// Whether a task under this rule finds the memory and the resources that it needs, and no other waits for them: one
    /// that may wait itself for a nested task does not come before that.
    pub(super) fn has_room(&self, w: &Worker, rule: &Rule) -> bool {
        let is_awaited = || rule.resources.iter().any(|(name, _)| w.awaited.amount(name) > 0);
        w.has_memory(rule)
            && (rule.resources.is_empty() || (self.lacks_for(w, rule).is_empty() && (rule.nested || !is_awaited())))
    }

    /// What a worker has not left of the resources that a task under this rule takes.
    fn lacks_for(&self, w: &Worker, rule: &Rule) -> Resources {
        let mut passed_on = Resources::default();
        for (id, task) in self.task_and_ancestors(rule.parent) {
            if w.waiters.contains_key(&id) && self.is_on(task, w) {
                passed_on = passed_on.plus(&self.jobs[task.job].takes(task.index).1);
            }
        }
        w.lacks(&rule.resources, &passed_on)
    }

    /// A task, the one that has submitted it, and so on; no more than there are jobs, whatever a damaged message says.
    fn task_and_ancestors(&self, task: Option<TaskId>) -> impl Iterator<Item = (TaskId, TaskRef)> {
        let find = |id: TaskId| Some((id, TaskRef { job: self.jobs.get(id.job)?, index: id.index }));
        std::iter::successors(task.and_then(find), move |(_, task)| find(self.jobs[task.job].spec.parent?))
            .take(self.jobs.len())
    }

    fn is_on(&self, task: TaskRef, w: &Worker) -> bool {
        matches!(self.jobs.state_of(task), Some(State::Assigned { worker, .. }) if self.workers[worker].id == w.id)
    }

    /// Keeps the memory and the resources of one worker for a task that waits for them: lanes that come later cannot starve
    /// it.
    pub(super) fn reserve(&mut self, rule: &Rule) {
        if rule.memory == 0 && rule.resources.is_empty() {
            return;
        }
        let candidates = self.workers.with_index().filter(|(_, w)| w.accepting() && rule.allows(&w.spec));
        let lacking = |w: &Worker| self.lacks_for(w, rule).iter().map(|(_, amount)| amount).sum::<u64>();
        let free = |w: &Worker| w.spec.memory_limit.unwrap_or(u64::MAX).saturating_sub(w.memory);
        let best =
            candidates.map(|(at, w)| (at, lacking(w), free(w))).max_by_key(|(_, lacks, free)| (Reverse(*lacks), *free));
        if let Some((at, lacks, _)) = best {
            let w = &mut self.workers[at];
            w.reserved |= rule.memory > 0;
            if lacks > 0 {
                w.awaited = w.awaited.max(&rule.resources);
            }
        }
    }

    /// When a task is let in beside those that have the resources it needs.
    pub(super) fn held_up_until(&self) -> Option<Duration> {
        Some(self.held_up_since? + HELD_UP)
    }

    pub(super) fn was_held_up(&self) -> bool {
        self.held_up_until().is_some_and(|at| at <= self.now)
    }

    /// Whether a worker lacks resources for a nested task, and nothing that runs would give them back: those that have them
    /// there wait for tasks of their own, for as long as they take, and of these none runs in any worker, or waits for what may come
    /// from elsewhere.
    pub(super) fn is_held_up(&self, worker: WorkerIndex, rule: &Rule) -> bool {
        let w = &self.workers[worker];
        if !rule.nested || rule.resources.is_empty() || w.waiters.is_empty() || !w.has_memory(rule) {
            return false;
        }
        let short = self.lacks_for(w, rule);
        let is_holder = |r: TaskRef| !self.jobs[r.job].takes(r.index).1.min(&short).is_empty();
        let waits =
            |w: &Worker, r: TaskRef| w.waiters.get(&self.jobs[r.job].task_id(r.index)) == Some(&WaitKind::ForTasks);
        let is_for_holder = |r: TaskRef| {
            let parent = self.jobs[r.job].spec.parent;
            self.task_and_ancestors(parent).any(|(_, task)| self.is_on(task, w) && is_holder(task))
        };
        w.flight.iter().all(|r| !is_holder(r) || waits(w, r))
            && w.zombies.iter().all(|zombie| zombie.resources.min(&short).is_empty())
            && self.workers.iter().all(|w| {
                let mut under_way = w.flight.iter().chain(w.incoming.iter().copied());
                under_way.all(|r| waits(w, r) || !is_for_holder(r))
            })
    }
}
