//! Workers that are short of memory.

use super::Scheduler;
use super::job::{State, TaskRef};
use super::worker::{Leaving, WorkerIndex};
use crate::ids::WorkerId;

impl Scheduler {
    /// A worker stops starting tasks until it has less in memory, or starts them again. What runs there goes on.
    pub(crate) fn paused(&mut self, id: WorkerId, paused: bool) {
        let Some(worker) = self.workers.find(id) else { return };
        let w = &mut self.workers[worker];
        w.paused = paused;
        w.futile = false;
        if paused {
            self.relieve();
        }
    }

    /// So much of what a worker holds is on disk.
    pub(crate) fn spilled(&mut self, id: WorkerId, bytes: u64) {
        if let Some(worker) = self.workers.find(id) {
            self.workers[worker].spilled = bytes;
        }
    }

    /// A worker that was to go stays, if it has not finished what runs: it turned out that something there waits for others.
    pub(crate) fn worker_staying(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.find(id)
            && let Leaving::Draining { .. } = self.workers[worker].leaving
        {
            self.workers[worker].leaving = Leaving::No;
        }
    }

    /// Shared memory is short: gives up the copies that the supervisor has of values which their workers have too, as far
    /// as no task is about to use them. A task that needs one later has it fetched again.
    pub(crate) fn relieve(&mut self) {
        let mut copies = Vec::new();
        for job in self.jobs.iter() {
            for value in job.values.iter() {
                let is_copy = value.holder != WorkerIndex::NONE && !value.exporting;
                if is_copy && value.payload.as_ref().is_some_and(|p| p.nbytes() >= self.config.large_copy) {
                    copies.push(TaskRef { job: job.slot, index: value.owner });
                }
            }
        }
        for r in copies {
            let soon = |d: &TaskRef| matches!(self.jobs[d.job].state(d.index), State::Ready | State::Fetching);
            if self.dependents(r).iter().any(soon) {
                continue;
            }
            if let State::Done { value, .. } = self.jobs[r.job].state(r.index) {
                let job = &mut self.jobs[r.job];
                job.values[value].payload = None;
                job.recall(r.index, &mut self.workers);
            }
        }
    }
}
