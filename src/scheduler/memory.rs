//! Workers that are short of memory, and tasks under which workers ran out of it.

use super::Scheduler;
use super::job::{Job, State, TaskRef, flag};
use super::ready::{Lane, Rule};
use super::worker::{Leaving, WorkerIndex};
use crate::error::{Cause, DeathRecord};
use crate::ids::WorkerId;
use std::sync::Arc;

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

    /// A worker has died under a task. Gives why it fails, if that is to be its last run.
    ///
    /// A death of memory says little about a task that ran beside others and beside results: it gets a worker for itself
    /// first, and fails if that is not enough.
    pub(super) fn blame(&mut self, r: TaskRef, record: &DeathRecord) -> Option<Cause> {
        let job = &mut self.jobs[r.job];
        let deaths = job.deaths.or_default(r.index);
        deaths.push(record.clone());
        if record.cause.is_of_memory() {
            let was_alone = job.tasks[r.index as usize].has(flag::ALONE);
            if !was_alone {
                job.isolate(r.index);
                return None;
            }
            // Where the kernel ran out of memory, the task may have had little of it.
            if record.cause.is_of_limit() {
                let records: Vec<_> = deaths.iter().filter(|d| d.cause.is_of_memory()).cloned().collect();
                let peak = records.iter().map(DeathRecord::peak).max().unwrap_or(0);
                return Some(Cause::MemoryLimit { limit: record.memory_limit.unwrap_or(0), peak, records });
            }
        }
        (deaths.len() >= self.config.allowed_deaths as usize).then(|| Cause::WorkerDied(deaths.clone()))
    }
}

impl Job {
    /// Puts a task that is not ready into a lane for those that run alone.
    fn isolate(&mut self, index: u32) {
        let lane = &self.lanes[self.lane_of(index) as usize];
        let rule = Rule { alone: true, ..lane.rule.as_deref().cloned().unwrap_or_default() };
        let (priority, infeasible) = (lane.priority, lane.infeasible.clone());
        let known = self.lanes.iter().position(|l| l.priority == priority && l.rule.as_deref() == Some(&rule));
        let at = known.unwrap_or_else(|| {
            // No members: what comes in is always behind the cursor.
            let members = Some(Vec::new());
            self.lanes.push(Lane { priority, rule: Some(Arc::new(rule)), infeasible, members, ..Lane::default() });
            self.lanes.len() - 1
        });
        self.alone.insert(index, at as u32);
        self.tasks[index as usize].put(flag::LANED | flag::ALONE, true);
    }
}
