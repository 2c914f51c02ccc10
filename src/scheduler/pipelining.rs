//! Tasks that are sent to a worker ahead of their inputs.
//!
//! A chain of short tasks would spend its time on messages if each task were sent when the one before it has ended. So a
//! task goes to a worker as soon as everything it lacks is in flight there; the worker starts it when these have
//! ended, at once and without asking. Only short tasks with small results are worth it: for a longer one a message
//! costs nothing, and a large result is to be moved into its last user, which only the scheduler can decide. Nothing is
//! sent ahead of a part of a result, and no alias is sent: only tasks that run are in flight.

use super::Scheduler;
use super::job::{State, TaskRef, flag};
use super::worker::WorkerIndex;
use crate::fairness::Rank;
use crate::ids::{TaskId, WorkerId};
use crate::job::EXTERNAL;

/// Tasks that take longer are not sent ahead, in nanoseconds.
const SHORT: u32 = 500_000;
/// Nor those with more inputs, so that looking at all of them is cheap.
const MOST_INPUTS: usize = 8;
/// A job with more tasks is not searched for those that use results of others.
const MOST_PIPELINED: usize = 64;

impl Scheduler {
    /// A task was sent: sends along the first of its successors that lacks nothing but results of this worker's tasks,
    /// and after that the first successor of the successor, and so on.
    pub(super) fn send_follower(&mut self, mut last: TaskRef, worker: WorkerIndex) {
        loop {
            let job = &self.jobs[last.job];
            let no_successor = job.dependents.is_empty() && !job.tasks[last.index as usize].has(flag::SHARED);
            if no_successor || job.bulky || !(1..=SHORT).contains(&job.estimate) {
                return;
            }
            let next = self.successors(last).take(MOST_INPUTS).find_map(|r| Some((r, self.ahead_of(r, worker)?)));
            let Some((r, ahead)) = next else { return };
            // What takes another job's result may be of another function. One that is not known is taken to be as short; as
            // it counts for a full queue then, nothing follows it.
            let estimate = job.estimate.max(self.jobs[r.job].estimate);
            let rank = self.rank_of(r);
            if estimate > SHORT || !self.workers[worker].can_send_ahead(estimate, self.config.prefetch, rank) {
                return;
            }
            self.send(r, worker, ahead, rank);
            last = r;
        }
    }

    fn rank_of(&self, r: TaskRef) -> Rank {
        let job = &self.jobs[r.job];
        job.place(job.lane_of(r.index)).rank()
    }

    /// Who uses a task's result: tasks of its own job, then those of others.
    fn successors(&self, r: TaskRef) -> impl Iterator<Item = TaskRef> {
        let row = |slot: u32, row: u32| {
            let job = &self.jobs[slot];
            job.dependents[job.dependent_range(row)].iter().map(move |&index| TaskRef { job: slot, index })
        };
        let owner = &self.jobs[r.job];
        let shared = owner.tasks[r.index as usize].has(flag::SHARED);
        let users = shared.then(|| owner.users.get(&r.index)).flatten().into_iter().flatten();
        let elsewhere =
            users.flat_map(move |&(slot, external)| row(slot, self.jobs[slot].tasks.len() as u32 + external));
        row(r.job, r.index).chain(elsewhere)
    }

    /// How many inputs a task would be sent ahead of, if it can be sent to this worker now.
    fn ahead_of(&self, r: TaskRef, worker: WorkerIndex) -> Option<u8> {
        let job = &self.jobs[r.job];
        let task = &job.tasks[r.index as usize];
        let State::Waiting { .. } = task.state else { return None };
        let deps = job.spec.deps(r.index);
        let not_now = flag::LANED | flag::DOOMED | flag::ZOMBIE | flag::ROAMS;
        if task.has(not_now | flag::PART | flag::ALIAS) || deps.len() > MOST_INPUTS {
            return None;
        }
        let mut ahead = 0;
        for &dep in deps {
            let target = job.resolve(dep);
            let owner = &self.jobs[target.job];
            match owner.state(target.index) {
                // One with a time limit may end for its task, and go on in its worker.
                State::Assigned { worker: at, .. } if at == worker => {
                    if owner.bulky || owner.tasks[target.index as usize].has(flag::LANED) {
                        return None;
                    }
                    ahead += 1;
                }
                State::Done { value, .. } => {
                    let value = &owner.values[value];
                    if value.payload.is_none() && value.holder != worker {
                        return None;
                    }
                }
                State::Data { .. } => {}
                _ => return None,
            }
        }
        (ahead > 0).then_some(ahead)
    }

    /// Notes the tasks of a new job that use results of earlier jobs. A large job is not searched for them.
    pub(super) fn note_pipelined(&mut self, slot: u32) {
        let job = &self.jobs[slot];
        if job.external_inputs.is_empty() || job.tasks.len() > MOST_PIPELINED || job.alias_of().is_some() {
            return;
        }
        for index in 0..job.tasks.len() as u32 {
            let deps = job.spec.deps(index);
            let late = deps.len() <= MOST_INPUTS && deps.iter().any(|dep| dep & EXTERNAL != 0);
            if late && matches!(job.state(index), State::Waiting { .. }) {
                self.pipelined.push(TaskRef { job: slot, index });
            }
        }
    }

    /// Sends tasks of new jobs to the workers where the tasks that they use are in flight.
    pub(super) fn send_pipelined(&mut self) {
        for r in std::mem::take(&mut self.pipelined) {
            if self.jobs.state_of(r).is_some_and(|state| matches!(state, State::Waiting { .. })) {
                self.send_one_pipelined(r);
            }
        }
    }

    fn send_one_pipelined(&mut self, r: TaskRef) {
        let job = &self.jobs[r.job];
        let inputs = job.spec.deps(r.index).iter().map(|&dep| job.resolve(dep));
        let mut flying = inputs.filter_map(|t| match self.jobs[t.job].state(t.index) {
            State::Assigned { worker, .. } => Some((worker, self.jobs[t.job].estimate)),
            _ => None,
        });
        let Some((worker, before)) = flying.next() else { return };
        // A task sent ahead starts before everything in the worker's queue. A program that submits a task for each result as it
        // comes would keep all others waiting; as long as there are others, no thread is idle without it.
        if self.ready.total > 0 || self.workers[worker].queued() > 0 {
            return;
        }
        // Where it is not known what its own function takes, that of its input is the best guess.
        let estimate = before.max(job.estimate);
        let Some(ahead) = self.ahead_of(r, worker) else { return };
        let rank = self.rank_of(r);
        if before > 0 && estimate <= SHORT && self.workers[worker].can_send_ahead(estimate, self.config.prefetch, rank)
        {
            self.send(r, worker, ahead, rank);
            self.send_follower(r, worker);
        }
    }

    /// The worker sends these tasks back: an input that they were sent ahead of has no result there.
    pub(crate) fn bounced(&mut self, worker: WorkerId, tasks: &[TaskId]) {
        let Some(index) = self.workers.find(worker) else { return };
        for &id in tasks {
            let found = self.jobs.find_task(id).map(|r| (r, self.jobs[r.job].state(r.index)));
            match found {
                Some((r, State::Assigned { worker, seq, .. })) if worker == index => {
                    self.land(r, index, seq);
                    self.admit(r);
                }
                _ => {
                    if !self.end_zombie(index, id, None) {
                        self.stale += 1;
                    }
                }
            }
            self.settle();
        }
        self.sweep();
    }
}
