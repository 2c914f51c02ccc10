//! Requests of a session about its outputs: release, cancel, deliver, retry; and the end of a session.

use super::Scheduler;
use super::job::{State, TaskRef, flag};
use super::worker::WorkerIndex;
use crate::error::Cause;
use crate::fairness::{Program, WEIGHTS};
use crate::ids::{JobId, SessionId, TaskId};
use crate::job::Failure;
use std::sync::Arc;

impl Scheduler {
    /// The session drops its claim to these outputs. What is needed for them only is cancelled or dropped.
    pub(crate) fn release(&mut self, job: JobId, outputs: &[u32]) {
        for r in self.claimed(job, outputs) {
            let job = &mut self.jobs[r.job];
            let task = &mut job.tasks[r.index as usize];
            // The caller may have named one twice.
            if !task.has(flag::CLAIMED) {
                continue;
            }
            task.put(flag::CLAIMED | flag::WANTED, false);
            task.uses -= 1;
            job.claims -= 1;
            let unused = task.uses == 0;
            if let State::Done { value, .. } | State::Lent { value, .. } = task.state
                && job.values[value].holder != WorkerIndex::NONE
                && !job.stays(r.index)
            {
                self.workers[job.values[value].holder].claimed_bytes -= job.values[value].nbytes;
            }
            if unused {
                self.work.push(r);
                self.settle();
            }
            if self.jobs[r.job].claims == 0 {
                self.leaving.push(r.job);
            }
        }
        self.sweep();
    }

    /// These outputs fail as cancelled at once, unless they have ended already; so does what depends on them.
    /// Their claims stay. A value that is there but not yet delivered stays, and is delivered as cancelled.
    pub(crate) fn cancel(&mut self, job: JobId, outputs: &[u32]) {
        for r in self.claimed(job, outputs) {
            let failure = Arc::new(self.failure_of(r, None, Cause::Cancelled));
            let task = &mut self.jobs[r.job].tasks[r.index as usize];
            match task.state {
                state if state.active() => {
                    if let State::Assigned { worker, seq, .. } = state {
                        self.cancel_run(r, worker, seq);
                    }
                    self.fail(r, failure);
                    self.settle();
                }
                _ if task.has(flag::WANTED) => {
                    task.put(flag::WANTED, false);
                    task.put(flag::TOLD, true);
                    self.deliver_failure(failure.task, &failure);
                }
                _ => {}
            }
        }
        self.sweep();
    }

    /// The session wants these outputs in full. One it holds no claim to is answered as cancelled.
    pub(crate) fn deliver(&mut self, job: JobId, outputs: &[u32]) {
        let slot = self.jobs.find(job);
        for &index in outputs {
            let task = slot.and_then(|s| self.jobs[s].tasks.get_mut(index as usize));
            let (Some(slot), Some(task)) = (slot, task.filter(|t| t.has(flag::CLAIMED))) else {
                let task = TaskId { job, index };
                let failure = Failure { task, step: 0, call: None, worker: None, cause: Cause::Cancelled };
                self.deliver_failure(task, &failure);
                continue;
            };
            if let State::Failed { failure, .. } = task.state {
                let failure = self.jobs[slot].failures[failure as usize].clone();
                self.deliver_failure(TaskId { job, index }, &failure);
            } else {
                task.put(flag::WANTED, true);
                self.tell(TaskRef { job: slot, index });
            }
        }
    }

    /// Failed outputs run again, and so do the failed tasks they depend on. The session is told of each output anew, also
    /// of one that is there.
    pub(crate) fn retry(&mut self, job: JobId, outputs: &[u32]) {
        let mut stack = self.claimed(job, outputs);
        for &r in &stack {
            if !matches!(self.jobs[r.job].state(r.index), State::Failed { .. }) {
                self.deliver_again(r);
                self.tell(r);
            }
        }
        while let Some(r) = stack.pop() {
            let State::Failed { .. } = self.jobs[r.job].state(r.index) else { continue };
            let job = &mut self.jobs[r.job];
            job.set(r.index, State::Idle, &mut self.ready);
            job.tries.remove(&r.index);
            job.absolve(r.index);
            stack.extend(job.spec.deps(r.index).iter().map(|&dep| job.resolve(dep)));
            if job.tasks[r.index as usize].has(flag::CLAIMED) {
                self.deliver_again(r);
            }
            // What is claimed starts; the rest is started as somebody turns out to need it.
            self.restart.push(r);
        }
        self.settle();
        self.sweep();
    }

    /// Has every worker get the values of a broadcast.
    pub(super) fn share_with_all(&mut self, slot: u32) {
        let job = &self.jobs[slot];
        if job.spec.broadcast {
            self.workers.iter_mut().for_each(|w| w.outbox.share.extend(job.given()));
        }
    }

    fn deliver_again(&mut self, r: TaskRef) {
        let job = &mut self.jobs[r.job];
        let outputs = &job.spec.outputs;
        let deliver = outputs.binary_search_by_key(&r.index, |o| o.index).is_ok_and(|at| outputs[at].deliver);
        let task = &mut job.tasks[r.index as usize];
        task.put(flag::TOLD, false);
        if deliver {
            task.put(flag::WANTED, true);
        }
    }

    /// The session's graphs get so many times as much of the workers' time as those of a session of weight 1. A weight out of
    /// range is ignored.
    pub(crate) fn set_weight(&mut self, session: SessionId, weight: f64) {
        if WEIGHTS.contains(&weight) {
            self.ready.order.set_weight(Program::of(session), weight);
        }
    }

    /// Everything the session claims is released, and nothing is delivered to it any more.
    pub(crate) fn session_closed(&mut self, session: SessionId) {
        let mut claims = Vec::new();
        for job in self.jobs.iter_mut().filter(|job| job.id.session == session) {
            claims.push((job.id, job.spec.outputs.iter().map(|o| o.index).collect::<Vec<_>>()));
            if job.spec.open {
                Arc::make_mut(&mut job.spec).open = false;
                self.leaving.push(job.slot);
            }
        }
        for (job, outputs) in claims {
            self.release(job, &outputs);
        }
        self.sweep();
        self.ready.groups.close(session);
        let program = Program::of(session);
        let left = self.jobs.iter().filter(|job| job.program == program).count();
        match left {
            _ if program == Program::TASKS => {}
            0 => self.ready.order.leave(program),
            // What is published of it, for example.
            left => self.departed.push((program, left)),
        }
        self.deliveries.retain(|d| d.job.session != session);
    }

    /// A graph has gone. With the last one of a program that has departed, that is forgotten.
    pub(super) fn graph_left(&mut self, program: Program) {
        if let Some(at) = self.departed.iter().position(|(departed, _)| *departed == program) {
            self.departed[at].1 -= 1;
            if self.departed[at].1 == 0 {
                self.departed.swap_remove(at);
                self.ready.order.leave(program);
            }
        }
    }

    /// A part of an open job cannot be taken in: the rest is given up, and all its session claims of it released.
    pub(crate) fn give_up(&mut self, id: JobId) {
        let Some(slot) = self.jobs.find(id) else { return };
        let job = &mut self.jobs[slot];
        Arc::make_mut(&mut job.spec).open = false;
        let outputs: Vec<_> = job.spec.outputs.iter().map(|o| o.index).collect();
        self.leaving.push(slot);
        self.release(id, &outputs);
    }

    fn claimed(&mut self, job: JobId, outputs: &[u32]) -> Vec<TaskRef> {
        let Some(slot) = self.jobs.find(job) else { return Vec::new() };
        let tasks = &self.jobs[slot].tasks;
        let claimed = |index: &u32| tasks.get(*index as usize).is_some_and(|t| t.has(flag::CLAIMED));
        outputs.iter().copied().filter(claimed).map(|index| TaskRef { job: slot, index }).collect()
    }
}
