//! Values that several tasks use: each worker is sent them once.

use super::Scheduler;
use super::job::{Job, State, flag};
use super::worker::{WorkerIndex, Workers};
use crate::ipc::frame::MOST_FDS;
use crate::ipc::payload::Payload;
use crate::job::{EXTERNAL, Input, SharedPayload};
use std::iter::once;

/// A value of no more bytes beside its buffers says only where those are.
const PLACES: u64 = 64;

impl Scheduler {
    /// Gives a worker the value of dependency number `dep` of a job, for a task that it is to run.
    pub(super) fn give(&mut self, job: u32, dep: usize, payload: Payload, worker: WorkerIndex) -> Input {
        let above = self.config.share_above;
        let small = payload.nbytes() <= above || payload.segments().len() > MOST_FDS;
        // Buffers alone cost nothing to send and to read. What is kept for later tasks goes back to its owner a message after
        // it is dropped, and by then the owner may have made new memory, which costs more than all of that.
        if small || payload.content().len() as u64 <= above.min(PLACES) {
            return Input::Payload(payload);
        }
        let user = &self.jobs[job];
        let dep = user.spec.deps[dep];
        let target = user.resolve(dep);
        // Another job counts as one user, however many of its tasks use it.
        let here = if dep & EXTERNAL == 0 { 1 } else { user.external_inputs[(dep & !EXTERNAL) as usize].uses };
        let owner = &mut self.jobs[target.job];
        let task = owner.tasks[target.index as usize];
        let claimed = task.has(flag::CLAIMED);
        let sole = here <= 1 && task.uses <= 1 + u32::from(claimed);
        let id = owner.task_id(target.index);
        let w = &mut self.workers[worker];
        let everywhere = owner.spec.broadcast && matches!(task.state, State::Data { .. });
        if !everywhere && !owner.shared.get(&target.index).is_some_and(|workers| workers.contains(&w.id)) {
            if sole && !claimed {
                return Input::Payload(payload);
            }
            owner.shared.or_default(target.index).push(w.id);
            w.outbox.share.push(SharedPayload { id, payload, populate: false });
        }
        Input::Shared { id, sole }
    }
}

impl Job {
    /// Has the workers that keep a value drop it. Tasks that they have been sent have it all the same.
    pub(super) fn recall(&mut self, index: u32, workers: &mut Workers) {
        if self.shared.is_empty() {
            return;
        }
        for id in self.shared.remove(&index).unwrap_or_default() {
            if let Some(worker) = workers.find(id) {
                workers[worker].outbox.forget(once(self.task_id(index)));
            }
        }
    }

    pub(super) fn recall_all(&mut self, workers: &mut Workers) {
        let shared: Vec<u32> = self.shared.keys().copied().collect();
        shared.into_iter().for_each(|index| self.recall(index, workers));
    }
}
