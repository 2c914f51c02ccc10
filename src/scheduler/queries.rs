//! Facts that the supervisor looks up while it carries out commands.

use super::Scheduler;
use super::explain::Counts;
use super::job::{State, TaskRef};
use crate::ids::{SessionId, TaskId, WorkerId};
use crate::job::FailedCall;
use std::time::Duration;

/// What a task of unknown length counts.
const UNKNOWN: Duration = Duration::from_millis(500);

/// What there is to do for workers, and what they keep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// How long what runs and what could run now is likely to take, on one thread.
    pub(crate) run_time: Duration,
    /// How many tasks these are.
    pub(crate) tasks: u64,
    /// Bytes of results that workers keep.
    pub(crate) held: u64,
}

impl Scheduler {
    /// What there is to do. Takes time with the number of graphs.
    pub(crate) fn load(&self) -> Load {
        let mut load = Load { held: self.held(), ..Load::default() };
        for job in self.jobs.iter() {
            let tasks = Counts::of(&job.counts).runnable();
            let each = if job.estimate == 0 { UNKNOWN } else { Duration::from_nanos(job.estimate.into()) };
            let tasks_32 = u32::try_from(tasks).unwrap_or(u32::MAX);
            load.run_time = load.run_time.saturating_add(each.saturating_mul(tasks_32));
            load.tasks += tasks;
        }
        load
    }

    /// Bytes of results that workers keep.
    pub(crate) fn held(&self) -> u64 {
        self.workers.iter().map(|w| w.held_bytes).sum()
    }

    /// The results of a session that are there, with the worker that has each, and its size: of these tasks, or of all.
    pub(crate) fn results(&self, session: SessionId, of: Option<&[TaskId]>) -> Vec<(TaskId, Option<WorkerId>, u64)> {
        let held = |named: TaskRef| {
            let r = self.behind(named);
            let (job, id) = (&self.jobs[r.job], self.jobs[named.job].task_id(named.index));
            match job.state(r.index) {
                State::Done { value, .. } | State::Lent { value, .. } => {
                    let value = &job.values[value];
                    let holder = self.workers.get(value.holder).map(|worker| worker.id);
                    Some((id, holder, value.nbytes))
                }
                State::Data { .. } => Some((id, None, self.value_bytes(r))),
                _ => None,
            }
        };
        match of {
            Some(tasks) => {
                let own = tasks.iter().filter(|task| task.job.session == session);
                own.filter_map(|task| {
                    let job = self.jobs.get(task.job)?;
                    let known = (task.index as usize) < self.jobs[job].tasks.len();
                    if known { held(TaskRef { job, index: task.index }) } else { None }
                })
                .collect()
            }
            None => {
                let jobs = self.jobs.iter().filter(|job| job.id.session == session);
                let tasks =
                    jobs.flat_map(|job| (0..job.tasks.len() as u32).map(|index| TaskRef { job: job.slot, index }));
                tasks.filter_map(held).collect()
            }
        }
    }

    /// Tasks that are still to end; one at least for a graph that may grow.
    pub(crate) fn unfinished(&self) -> u64 {
        let jobs = self.jobs.iter().filter(|job| job.alias_of().is_none());
        jobs.map(|job| Counts::of(&job.counts).unfinished().max(job.spec.open.into())).sum()
    }

    /// Tasks sent to a worker that have not ended, cancelled ones included.
    pub(crate) fn in_flight(&self, worker: WorkerId) -> usize {
        self.workers.find(worker).map_or(0, |index| self.workers[index].in_flight() as usize)
    }

    /// Whether a worker has been sent a command that it has to answer: to run a task, or to send a value.
    pub(crate) fn owes(&self, worker: WorkerId) -> bool {
        self.workers
            .find(worker)
            .is_some_and(|index| self.workers[index].in_flight() + self.workers[index].exporting > 0)
    }

    /// Tasks of a worker that wait for tasks of their own.
    pub(crate) fn blocked_on(&self, worker: WorkerId) -> u32 {
        self.workers.find(worker).map_or(0, |index| self.workers[index].blocked)
    }

    /// The tasks that a worker runs or has in its queue.
    pub(crate) fn tasks_on(&self, worker: WorkerId) -> impl Iterator<Item = TaskId> + '_ {
        let flight = self.workers.find(worker).map(|index| self.workers[index].flight.iter());
        flight.into_iter().flatten().map(|r| self.jobs[r.job].task_id(r.index))
    }

    /// The task that has submitted the graph of this one, if a task has.
    pub(crate) fn parent_of(&self, task: TaskId) -> Option<TaskId> {
        self.jobs[self.jobs.get(task.job)?].spec.parent
    }

    /// The call whose result a task has.
    pub(crate) fn call(&self, id: TaskId) -> Option<FailedCall> {
        let job = self.jobs.get(id.job)?;
        if id.index as usize >= self.jobs[job].tasks.len() {
            return None;
        }
        let r = self.jobs[job].alias_of().unwrap_or(TaskRef { job, index: id.index });
        self.jobs[r.job].call(r.index)
    }

    /// Bytes of a task's inputs, as far as they are known.
    pub(crate) fn input_bytes(&self, task: TaskId) -> u64 {
        let Some(slot) = self.jobs.get(task.job) else { return 0 };
        let job = &self.jobs[slot];
        if task.index as usize >= job.tasks.len() {
            return 0;
        }
        job.spec.deps(task.index).iter().map(|&dep| self.value_bytes(job.resolve(dep))).sum()
    }

    pub(super) fn value_bytes(&self, r: TaskRef) -> u64 {
        let job = &self.jobs[r.job];
        match job.state(r.index) {
            State::Done { value, .. } | State::Lent { value, .. } => job.values[value].nbytes,
            State::Data { entry } => job.spec.data[entry as usize].1.nbytes(),
            _ => 0,
        }
    }
}
