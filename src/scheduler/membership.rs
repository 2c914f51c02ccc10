//! Workers that come, go, die or answer late; and time limits.

use super::Scheduler;
use super::job::{State, TaskRef, flag};
use super::worker::{Leaving, Retraction, WorkerIndex, WorkerSpec};
use crate::error::{Cause, DeathRecord};
use crate::ids::{Attempt, TaskId, WorkerId};
use crate::ipc::payload::Payload;
use crate::job::Failure;
use crate::task::wait::WaitKind;
use std::sync::Arc;
use std::time::Duration;

impl Scheduler {
    /// A worker is ready for tasks.
    pub(crate) fn worker_joined(&mut self, id: WorkerId, spec: WorkerSpec) {
        if self.workers.find(id).is_some() {
            return;
        }
        self.workers.insert(id, spec, self.now);
        let broadcast = self.jobs.iter().filter(|job| job.spec.broadcast);
        let values: Vec<_> = broadcast.flat_map(|job| job.given()).collect();
        if let Some(worker) = self.workers.find(id) {
            self.workers[worker].outbox.share = values;
        }
        for w in self.workers.iter_mut() {
            w.futile = false;
        }
    }

    /// The worker is to go: it finishes what runs, gets nothing new, and its results are fetched before
    /// [`Command::Retire`](super::Command::Retire).
    pub(crate) fn worker_retiring(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.find(id) else { return };
        let w = &mut self.workers[worker];
        w.deaf = false;
        if w.leaving == Leaving::No {
            w.leaving = Leaving::Draining { asked_back: false };
        }
    }

    /// The workers that can exist from now on. Tasks that none of them can take fail, unless they have been sent.
    pub(crate) fn set_fleet(&mut self, fleet: Vec<WorkerSpec>) {
        let mut hopeless = Vec::new();
        for job in self.jobs.iter_mut() {
            for lane in &mut job.lanes {
                lane.infeasible = lane.rule.as_ref().and_then(|rule| rule.infeasible(&fleet));
                if lane.infeasible.is_some() {
                    let members = lane.members.iter().flatten();
                    hopeless.extend(members.map(|&index| TaskRef { job: job.slot, index }));
                }
            }
            let isolated = job.isolated.iter().filter(|(_, lane)| job.lanes[**lane as usize].infeasible.is_some());
            hopeless.extend(isolated.map(|(&index, _)| TaskRef { job: job.slot, index }));
        }
        self.fleet = Some(fleet);
        for r in hopeless {
            if self.jobs[r.job].state(r.index).pending() {
                self.admit(r);
                self.settle();
            }
        }
        self.sweep();
    }

    /// A task there starts (+1) or stops (-1) waiting for tasks of its own, and so needs no thread meanwhile.
    pub(crate) fn blocked(&mut self, worker: WorkerId, delta: i32) {
        let Some(index) = self.workers.find(worker) else { return };
        let w = &mut self.workers[index];
        w.blocked = w.blocked.saturating_add_signed(delta).min(w.in_flight());
        if delta > 0 {
            w.stay_if_deaf();
        }
    }

    /// The task that does: it uses nothing meanwhile, but for what it holds.
    pub(crate) fn note_waiter(&mut self, worker: WorkerId, task: TaskId, begins: Option<WaitKind>) {
        let Some(index) = self.workers.find(worker) else { return };
        let found = self.jobs.find_task(task);
        let is_here =
            |r: TaskRef| matches!(self.jobs[r.job].state(r.index), State::Assigned { worker, .. } if worker == index);
        match begins.filter(|_| found.is_some_and(is_here)) {
            Some(kind) => _ = self.workers[index].waiters.insert(task, kind),
            None => _ = self.workers[index].waiters.remove(&task),
        }
    }

    /// Whether a worker has been sent that attempt, and no word of its end has come.
    pub(crate) fn awaits(&mut self, id: WorkerId, attempt: Attempt) -> bool {
        let Some(worker) = self.workers.find(id) else { return false };
        let found = self.jobs.find_task(attempt.task);
        found.is_some_and(|r| {
            let job = &self.jobs[r.job];
            let here = matches!(job.state(r.index), State::Assigned { worker: at, .. } if at == worker);
            here && job.tasks[r.index as usize].attempt == attempt.number
        })
    }

    /// Whether a worker has the result of a task, and nobody else.
    pub(crate) fn holds(&mut self, id: WorkerId, task: TaskId) -> bool {
        let (worker, found) = (self.workers.find(id), self.jobs.find_task(task));
        found.is_some_and(|r| {
            let job = &self.jobs[r.job];
            let State::Done { value, .. } = job.state(r.index) else { return false };
            let value = &job.values[value];
            worker == Some(value.holder) && value.payload.is_none()
        })
    }

    /// A worker has ended. These tasks, which it ran or whose results it handled, are suspects, unless it was ended for a
    /// cancelled task; what it had queued is not. Values only it held are computed again where they are needed.
    pub(crate) fn worker_lost(&mut self, id: WorkerId, suspects: &[TaskId], record: DeathRecord) {
        let Some(worker) = self.workers.find(id) else { return };
        let flight: Vec<(TaskRef, u32)> = self.workers[worker].flight.with_estimates().collect();
        let zombies = std::mem::take(&mut self.workers[worker].zombies);
        let suspects = if self.workers[worker].killed { &[] } else { suspects };
        let verdict = self.verdict(id, suspects, &record);

        // First only bring all states in line with what is left; nothing is started or failed before that is so.
        let mut hopeless = Vec::new();
        for (r, payload_left) in self.held_by(worker) {
            if payload_left {
                self.let_go(r);
                continue;
            }
            self.lose(r);
            if verdict.is_about(self.jobs[r.job].task_id(r.index)) {
                hopeless.extend(self.blame(r, &verdict, true).map(|cause| (r, cause)));
            }
        }
        for &(r, estimate) in &flight {
            self.ready.order.end(self.jobs[r.job].program, estimate);
            let missing = self.lacks(r).missing;
            self.jobs[r.job].set(r.index, State::Waiting { missing }, &mut self.ready);
        }
        self.workers.remove(worker);

        self.settle();
        for (r, cause) in hopeless {
            if self.jobs[r.job].state(r.index).pending() {
                self.fail_dead(r, &record, cause);
            }
        }
        for (r, _) in flight {
            // Others may have failed or abandoned it by now.
            if !matches!(self.jobs[r.job].state(r.index), State::Waiting { .. }) {
                continue;
            }
            let task = self.jobs[r.job].task_id(r.index);
            let is_suspect = verdict.is_about(task);
            if let Some(cause) = is_suspect.then(|| self.blame(r, &verdict, false)).flatten() {
                self.fail_dead(r, &record, cause);
                continue;
            }
            self.admit(r);
            self.settle();
        }
        for zombie in zombies {
            self.zombie_ended(zombie.id);
        }
        self.settle();
        self.sweep();
    }

    /// Fails a task that has ended one worker too many.
    fn fail_dead(&mut self, r: TaskRef, record: &DeathRecord, cause: Cause) {
        let failure = self.jobs[r.job].failure(r.index, Some(record.worker.clone()), cause);
        self.fail(r, Arc::new(failure));
        self.settle();
    }

    /// The tasks whose value is in that worker's store, and whether the supervisor has it too for good.
    fn held_by(&mut self, worker: WorkerIndex) -> Vec<(TaskRef, bool)> {
        let mut held = Vec::new();
        for job in self.jobs.iter_mut() {
            let job_slot = job.slot;
            for value in job.values.iter_mut().filter(|v| v.holder == worker) {
                held.push((TaskRef { job: job_slot, index: value.owner }, value.payload.is_some() && !value.bound));
            }
        }
        held
    }

    /// The worker's store has lost its copy; the supervisor still has one.
    fn let_go(&mut self, r: TaskRef) {
        let State::Done { value, .. } = self.jobs[r.job].state(r.index) else { return };
        let stays = self.jobs[r.job].stays(r.index);
        let value = &mut self.jobs[r.job].values[value];
        self.workers[value.holder].let_go(value.nbytes, stays);
        value.holder = WorkerIndex::NONE;
    }

    /// A value is lost for good.
    fn lose(&mut self, r: TaskRef) {
        let job = &mut self.jobs[r.job];
        match job.state(r.index) {
            State::Done { value, .. } => {
                if std::mem::take(&mut job.values[value].exporting) {
                    job.exporting -= 1;
                    self.leaving.push(r.job);
                }
                self.forget_value(r, false);
                self.withdraw(r);
            }
            _ => self.forget_value(r, false),
        }
        self.restart.push(r);
    }

    /// These tasks have not started and will not. Named are only those that a retraction asked for.
    pub(crate) fn retracted(&mut self, worker: WorkerId, tasks: &[TaskId]) {
        let Some(index) = self.workers.find(worker) else { return };
        let w = &mut self.workers[index];
        let roams = w.retraction.take() == Some(Retraction::ToMove);
        // What was asked back to wait may have been all that runs, which says nothing of what could move.
        w.futile = tasks.is_empty() && (roams || w.futile);
        for &id in tasks {
            let found = self.jobs.find_task(id).map(|r| (r, self.jobs[r.job].state(r.index)));
            match found {
                Some((r, State::Assigned { worker, seq, .. })) if worker == index => {
                    self.land(r, index, seq);
                    self.return_lent(r);
                    self.jobs[r.job].tasks[r.index as usize].put(flag::ROAMS, roams);
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

    /// The answer to a fetch. A value that cannot be sent fails its task, and what depends on it, even where it is.
    /// Some: it has been waited for since then.
    pub(crate) fn exported(
        &mut self,
        worker: WorkerId,
        id: TaskId,
        result: Result<Payload, Box<Failure>>,
    ) -> Option<Duration> {
        let index = self.workers.find(worker)?;
        let since = self.workers[index].asked.iter().find(|(asked, ..)| *asked == id).map(|(_, since, _)| *since);
        self.take_export(worker, id, result);
        since
    }

    fn take_export(&mut self, worker: WorkerId, id: TaskId, result: Result<Payload, Box<Failure>>) {
        let asked = self.workers.find(worker).and_then(|index| {
            let r = self.jobs.find_task(id)?;
            let job = &mut self.jobs[r.job];
            let State::Done { value, .. } = job.state(r.index) else { return None };
            let value = &mut job.values[value];
            (value.holder == index && std::mem::take(&mut value.exporting)).then_some((r, index))
        });
        let Some((r, index)) = asked else {
            self.stale += 1;
            return;
        };
        let w = &mut self.workers[index];
        w.exporting -= 1;
        if let Some(at) = w.asked.iter().position(|(asked, ..)| *asked == id) {
            let (_, since, encoded) = w.asked.swap_remove(at);
            self.sending_rate.ended(since, encoded);
        }
        let job = &mut self.jobs[r.job];
        job.exporting -= 1;
        self.leaving.push(r.job);
        if job.tasks[r.index as usize].uses == 0 {
            self.work.push(r);
            self.settle();
            return self.sweep();
        }
        match result {
            Ok(payload) => {
                job.absolve(r.index);
                if let State::Done { value, .. } = job.state(r.index) {
                    job.values[value].payload = Some(payload);
                }
                if job.tasks[r.index as usize].has(flag::CLAIMED) {
                    self.tell(r);
                }
                self.arrived(r);
            }
            // The worker goes anyway: another one computes it again.
            Err(_) if self.workers[index].leaving == Leaving::Exporting => {
                self.forget_value(r, true);
                self.withdraw(r);
                self.restart.push(r);
            }
            Err(failure) => {
                self.forget_value(r, true);
                self.withdraw(r);
                let failure: Arc<Failure> = failure.into();
                let mut stopped = Vec::new();
                for d in self.dependents(r) {
                    if let State::Assigned { worker, seq, .. } = self.jobs[d.job].state(d.index)
                        && worker == index
                    {
                        self.cancel_run(d, worker, seq);
                        self.jobs[d.job].set(d.index, State::Waiting { missing: 1 }, &mut self.ready);
                        stopped.push(d);
                    }
                }
                self.fail(r, failure.clone());
                // What was lent to these may be spent, so they cannot wait for their other inputs.
                for d in stopped {
                    if self.jobs[d.job].state(d.index).pending() {
                        self.fail(d, failure.clone());
                    }
                }
            }
        }
        self.settle();
        self.sweep();
    }

    /// A fetched value has arrived: a task that waited for it is ready, unless it waits for another one too, and who wants it
    /// of an alias is told.
    fn arrived(&mut self, r: TaskRef) {
        for d in self.dependents(r) {
            if self.jobs[d.job].alias_of().is_some() {
                self.tell(d);
            }
            if self.jobs[d.job].state(d.index) == State::Fetching && !self.awaits_transfer(d) {
                self.jobs[d.job].set(d.index, State::Ready, &mut self.ready);
            }
        }
    }

    pub(super) fn awaits_transfer(&self, r: TaskRef) -> bool {
        let job = &self.jobs[r.job];
        job.spec.deps(r.index).iter().any(|&dep| {
            let target = job.resolve(dep);
            let owner = &self.jobs[target.job];
            matches!(owner.state(target.index), State::Done { value, .. } if owner.values[value].exporting)
        })
    }

    /// Time has passed: overdue tasks fail or are repeated, and workers that ignore a cancellation are ended.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let (now, grace) = (self.now, self.config.cancel_grace);
        let mut overdue = Vec::new();
        for w in self.workers.iter_mut() {
            if w.deaf_at(grace).is_some_and(|at| at <= now) {
                w.deaf = true;
                w.leaving = Leaving::Draining { asked_back: false };
            }
            overdue.extend(w.deadlines.iter().filter(|(at, _)| *at <= now).map(|(_, r)| *r));
            if !w.killed && w.zombies.iter().any(|z| z.kill_at.is_some_and(|at| at <= now)) {
                w.killed = true;
                w.outbox.kill = true;
            }
        }
        for r in overdue {
            let State::Assigned { worker, seq, .. } = self.jobs[r.job].state(r.index) else { continue };
            let limit = self.jobs[r.job].time_limit(r.index).unwrap_or_default();
            let failure = self.failure_of(r, Some(worker), Cause::TimedOut { limit });
            self.cancel_run(r, worker, seq);
            self.attempt_failed(r, failure);
            self.settle();
        }
        self.sweep();
    }

    /// When [`Scheduler::tick`] and [`Scheduler::dispatch`] are to be called again, if nothing happens before.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let probes = self.workers.iter().filter_map(|w| w.probe);
        probes.chain(self.next_time_limit()).chain(self.retried_at()).min()
    }

    /// When the time of a task is over, or that of a worker to end a cancelled one.
    pub(crate) fn next_time_limit(&self) -> Option<Duration> {
        let workers = self.workers.iter();
        workers
            .flat_map(|w| {
                let kills = w.zombies.iter().filter(|_| !w.killed).filter_map(|z| z.kill_at);
                w.deadlines.iter().map(|(at, _)| *at).chain(kills).chain(w.deaf_at(self.config.cancel_grace))
            })
            .min()
    }

    /// Leads retiring workers through the steps of their end.
    pub(super) fn wind_down(&mut self) {
        let leaving: Vec<WorkerIndex> = self
            .workers
            .with_index()
            .filter(|(_, w)| w.leaving != Leaving::No && !w.killed)
            .map(|(worker, _)| worker)
            .collect();
        for worker in leaving {
            if let Leaving::Draining { asked_back } = self.workers[worker].leaving {
                if self.workers[worker].is_drained() {
                    for (r, here) in self.held_by(worker) {
                        if !here {
                            self.fetch(r);
                        }
                    }
                    self.workers[worker].leaving = Leaving::Exporting;
                } else if !asked_back && self.workers[worker].retraction.is_none() {
                    let tasks: Vec<TaskId> =
                        self.workers[worker].flight.iter().map(|r| self.jobs[r.job].task_id(r.index)).collect();
                    let w = &mut self.workers[worker];
                    w.leaving = Leaving::Draining { asked_back: true };
                    w.ask_back(tasks, Retraction::ToMove);
                }
            }
            let w = &mut self.workers[worker];
            // A cancelled task that runs has its time also where the user has the worker retire meanwhile.
            if w.leaving == Leaving::Exporting && w.exporting == 0 && w.is_drained() {
                w.leaving = Leaving::Told;
                w.killed = w.deaf && !w.zombies.is_empty();
                w.outbox.kill = w.killed;
                w.outbox.retire = !w.killed;
            }
        }
    }
}
