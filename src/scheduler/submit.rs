//! Taking in a job that has been prepared.

use super::Scheduler;
use super::groups::Calls;
use super::job::{Job, State, TaskRef, flag};
use super::prepared::{Prepared, Start, check_more};
use crate::ids::{JobId, TaskId};
use crate::job::JobSpec;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why a job was not taken. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SubmitError {
    #[error("job {number} of this session exists already; every job of a session needs a number of its own")]
    Duplicate { number: u32 },
    #[error("the graph is malformed: {0}; it was not made by this version of the library, or was damaged on its way")]
    Malformed(String),
    #[error("task {0} is used as an input, but this session holds no result of that name; keep its handle until then")]
    UnknownInput(TaskId),
}

/// Equal jobs go in the order of submission; but what a running task waits for goes first, the latest before the others, so that
/// few tasks wait at a time.
fn place_in_line(id: JobId, number: u64) -> u64 {
    const MIDDLE: u64 = 1 << 62;
    if id.session.is_of_tasks() { MIDDLE - number } else { MIDDLE + number }
}

impl Scheduler {
    /// Takes in a job. Outputs that can never be computed are delivered as failed at once.
    pub(crate) fn submit(&mut self, id: JobId, spec: Arc<JobSpec>, now: Duration) -> Result<(), SubmitError> {
        self.take(Prepared::new(id, spec)?, now)
    }

    /// The same, with most of the work done. What is left takes time in proportion to its external inputs and given values.
    pub(crate) fn take(&mut self, prepared: Prepared, now: Duration) -> Result<(), SubmitError> {
        self.now = self.now.max(now);
        let Prepared { mut job, groups } = prepared;
        let id = job.id;
        // A cancelled run of an earlier job of that name would be taken for one of this.
        let zombie = self.workers.iter().any(|w| w.zombies.iter().any(|z| z.id.job == id));
        if self.jobs.find(id).is_some() || zombie {
            return Err(SubmitError::Duplicate { number: id.number });
        }
        let is_alias = job.tasks.first().is_some_and(|task| task.has(flag::ALIAS));
        for (input, &external) in job.external_inputs.iter_mut().zip(&job.spec.externals) {
            let target = self.jobs.find_task(external).filter(|r| {
                (external.job.session == id.session || is_alias)
                    && self.jobs[r.job].tasks[r.index as usize].has(flag::CLAIMED)
            });
            let Some(target) = target else { return Err(SubmitError::UnknownInput(external)) };
            // Nothing depends on an alias: what it stands for may be named in its place.
            input.target = self.jobs[target.job].alias_of().unwrap_or(target);
        }
        // Who waits for a graph must not wait behind what its own priority is to pass.
        let parent =
            job.spec.parent.filter(|_| id.session.is_of_tasks()).and_then(|parent| self.jobs.find_task(parent));
        let inherited = parent.map_or(0, |r| self.jobs[r.job].priority(r.index));
        job.owner = parent.map_or(id.session, |r| self.jobs[r.job].owner);
        self.ready.groups.enter(&mut job, groups);
        for lane in &mut job.lanes {
            lane.priority = lane.priority.saturating_add(inherited);
            lane.infeasible =
                lane.rule.as_ref().zip(self.fleet.as_ref()).and_then(|(rule, fleet)| rule.infeasible(fleet));
        }
        job.slot = self.jobs.next_slot();
        job.seq = place_in_line(id, self.next_seq);
        job.estimate = self.run_times.of(&job.spec, job.first);
        job.attained.expect(job.tasks.len(), job.estimate.into());
        self.next_seq += 1;
        if !is_alias {
            self.ready.order.enter(job.program);
        }
        self.register_external_inputs(&job);
        self.take_in(job, Start::default(), 0);
        Ok(())
    }

    /// Takes in more tasks of a job that is open. A job that has been freed, with its session, ignores them.
    pub(crate) fn grow(&mut self, id: JobId, more: JobSpec, now: Duration) -> Result<(), SubmitError> {
        self.now = self.now.max(now);
        let Some(slot) = self.jobs.find(id).filter(|slot| self.jobs[*slot].spec.open) else { return Ok(()) };
        check_more(&self.jobs[slot].spec, &more)?;
        if let Some(mut job) = self.jobs.remove(slot) {
            let ready = job.counts[State::Ready.kind()];
            let (tasks, calls) = (job.tasks.len() as u32, Calls::of(&more));
            let start = job.append(more);
            self.ready.groups.grow(&mut job, tasks, calls);
            self.take_in(job, start, ready);
        }
        Ok(())
    }

    /// Gives the tasks of a job their places, from `start` on. So many others of it are ready.
    fn take_in(&mut self, mut job: Box<Job>, start: Start, ready: u32) {
        let slot = job.slot;
        self.ready.total += (job.counts[State::Ready.kind()] - ready) as usize;
        for lane in 0..job.lanes.len() as u32 {
            if job.lanes[lane as usize].ready > 0 && !job.lanes[lane as usize].listed {
                job.list(lane, &mut self.ready);
            }
        }
        let hopeless = self.meet(&mut job);
        let given: Vec<u32> = job.spec.data[start.data..].iter().map(|(index, _)| *index).collect();
        let unclaimed = job.claims == 0;
        self.jobs.insert(job);

        for index in given {
            if self.jobs[slot].tasks[index as usize].has(flag::CLAIMED) {
                self.tell(TaskRef { job: slot, index });
            }
        }
        if self.jobs[slot].alias_of().is_some() {
            self.tell(TaskRef { job: slot, index: 0 });
        }
        for index in hopeless {
            let r = TaskRef { job: slot, index };
            if self.jobs[slot].state(index).pending() {
                self.admit(r);
                self.settle();
            }
        }
        if start.task == 0 {
            self.note_pipelined(slot);
            self.share_with_all(slot);
        }
        if unclaimed {
            self.leaving.push(slot);
            self.sweep();
        }
    }

    /// Lets the tasks of a new job meet what is there: its external inputs, and workers. Gives those that can't run, to be
    /// failed once the job is in place.
    fn meet(&mut self, job: &mut Job) -> Vec<u32> {
        let mut hopeless = Vec::new();
        let states: Vec<(u32, State)> =
            job.external_inputs.iter().map(|e| (e.uses, self.jobs[e.target.job].state(e.target.index))).collect();
        let failed = states.iter().any(|(uses, state)| *uses > 0 && matches!(state, State::Failed { .. }));
        for (row, (_, state)) in (job.tasks.len() as u32..).zip(states) {
            for at in job.dependent_range(row) {
                let index = job.dependents[at];
                let State::Waiting { missing } = job.state(index) else { continue };
                match missing {
                    _ if !state.available() => {}
                    1 if !job.tasks[index as usize].has(flag::ALIAS) => job.set(index, State::Ready, &mut self.ready),
                    _ => job.tasks[index as usize].state = State::Waiting { missing: missing - 1 },
                }
                if failed {
                    hopeless.push(index);
                }
            }
        }
        for lane in 1..job.lanes.len() {
            if job.lanes[lane].infeasible.is_none() {
                continue;
            }
            for index in job.lanes[lane].members.clone().unwrap_or_default() {
                if job.state(index) == State::Ready {
                    job.set(index, State::Waiting { missing: 0 }, &mut self.ready);
                }
                if matches!(job.state(index), State::Waiting { .. }) {
                    hopeless.push(index);
                }
            }
        }
        hopeless.sort_unstable();
        hopeless.dedup();
        hopeless
    }

    /// Makes the job known to the owners of its external inputs.
    fn register_external_inputs(&mut self, job: &Job) {
        let is_alias = job.alias_of().is_some();
        for (at, external) in job.external_inputs.iter().enumerate() {
            let owner = &mut self.jobs[external.target.job];
            owner.refs += 1;
            owner.users.or_default(external.target.index).insert((job.slot, at as u32));
            let task = &mut owner.tasks[external.target.index as usize];
            task.put(flag::SHARED, true);
            if is_alias {
                task.put(flag::KEPT, true);
            }
            task.uses += u32::from(external.uses > 0);
        }
    }
}
