//! The transitions of a task: started, ready, done, failed, no longer needed; and what each means for its neighbours.

use super::job::{ExternalInput, State, TaskRef, flag};
use super::values::TaskValue;
use super::worker::{WorkerIndex, Zombie};
use super::{Completion, Scheduler};
use crate::error::Cause;
use crate::ids::{TaskId, WorkerId};
use crate::job::{EXTERNAL, Failure, Outcome};
use std::sync::Arc;
use std::time::Duration;

/// What a task that has not been sent lacks.
pub(super) struct Lacks {
    /// Inputs that are not available, and its cancelled run that has not ended.
    pub(super) missing: u32,
    /// The inputs among them that have not failed.
    pub(super) open: u32,
    /// The failure of the first input that has one.
    pub(super) failed: Option<Arc<Failure>>,
    /// It does not wait for its other inputs then.
    pub(super) fails_fast: bool,
}

impl Lacks {
    /// The failure it must fail with, if it must now.
    ///
    /// That is when nothing else is open. What was cancelled does not wait: nobody wants to know what else would fail.
    fn verdict(&self) -> Option<Arc<Failure>> {
        let cancelled = |f: &Arc<Failure>| matches!(f.cause, Cause::Cancelled);
        self.failed.clone().filter(|f| self.open == 0 || self.fails_fast || cancelled(f))
    }
}

/// How often a task may lose an input while it reads it.
const LOST_INPUTS: u32 = 8;

impl Scheduler {
    /// Takes in how runs ended. What nobody waits for is counted and ignored.
    pub(crate) fn finished(&mut self, worker: WorkerId, completions: Vec<Completion>, now: Duration) {
        self.now = self.now.max(now);
        let Some(index) = self.workers.find(worker) else {
            self.stale += completions.len() as u64;
            return;
        };
        let w = &mut self.workers[index];
        w.progress = self.now;
        w.futile = false;
        for completion in completions {
            self.finish(index, completion);
        }
        self.settle();
        self.sweep();
    }

    fn finish(&mut self, worker: WorkerIndex, completion: Completion) {
        let Completion { id, attempt, run_us, outcome } = completion;
        let running = self.jobs.find_task(id).and_then(|r| {
            let task = &self.jobs[r.job].tasks[r.index as usize];
            match task.state {
                State::Assigned { worker: at, seq, .. } if at == worker && task.attempt == attempt => Some((r, seq)),
                _ => None,
            }
        });
        let Some((r, seq)) = running else {
            if self.end_zombie(worker, id, Some(attempt)) {
                self.workers[worker].outbox.drop.extend(outcome.held(id));
            } else {
                self.stale += 1;
            }
            self.settle();
            return;
        };
        let exceeded = self.exceeded(r, worker, run_us);
        self.land(r, worker, seq);
        self.learn_time(r, run_us, outcome.is_success());
        self.ready.groups.ran(&self.jobs[r.job].calls, r.index, run_us);
        if let Some(limit) = exceeded {
            // Its end was faster than the look at its deadline.
            self.workers[worker].outbox.drop.extend(outcome.held(id));
            let failure = self.failure_of(r, Some(worker), Cause::TimedOut { limit });
            self.attempt_failed(r, failure);
            return self.settle();
        }
        let limited = self.workers[worker].spec.memory_limit.is_some();
        match outcome {
            Outcome::Value(payload) => {
                let nbytes = payload.nbytes();
                if limited {
                    self.learn_size(r, nbytes, false);
                }
                self.complete(r, TaskValue::sent(r.index, payload), worker);
                self.settle();
                self.forget(r.job);
            }
            Outcome::Held { nbytes, encoded, bound } => {
                if limited {
                    self.learn_size(r, nbytes, true);
                }
                self.complete(r, TaskValue::held(r.index, worker, nbytes, encoded, bound), worker);
            }
            Outcome::Parts(parts) => self.complete_parts(r, parts, worker, limited),
            Outcome::Failed(failure) => self.attempt_failed(r, *failure),
            Outcome::Cancelled => {
                let failure = self.failure_of(r, Some(worker), Cause::Cancelled);
                self.fail(r, Arc::new(failure));
            }
        }
        self.settle();
    }

    /// The time limit that a run has exceeded, if it has. What its worker measured may contain time that does not count, in
    /// which neither it nor the supervisor ran: its deadline has not come then.
    fn exceeded(&self, r: TaskRef, worker: WorkerIndex, run_us: u32) -> Option<Duration> {
        let job = &self.jobs[r.job];
        let laned = job.tasks[r.index as usize].has(flag::LANED);
        let limit = laned.then(|| job.time_limit(r.index)).flatten()?;
        let took_longer = Duration::from_micros(run_us.into()) > limit;
        let mut deadlines = self.workers[worker].deadlines.iter();
        let mut is_due = || deadlines.any(|(at, task)| *task == r && *at <= self.now);
        (took_longer && is_due()).then_some(limit)
    }

    /// Takes a task out of what its worker has in flight. Its state is still `Assigned`, for the caller to change.
    pub(super) fn land(&mut self, r: TaskRef, worker: WorkerIndex, seq: u32) {
        let job = &self.jobs[r.job];
        let w = &mut self.workers[worker];
        let estimate = w.flight.remove(seq);
        self.ready.order.end(job.program, estimate);
        w.ahead -= u32::from(job.is_ahead(r.index));
        if job.tasks[r.index as usize].has(flag::LANED) {
            let (memory, resources) = job.takes(r.index);
            w.give_back(memory, &resources);
            w.deadlines.retain(|(_, task)| *task != r);
            w.leave(job.isolation(r.index));
        }
        w.blocked = w.blocked.min(w.in_flight());
        if !w.waiters.is_empty() {
            w.waiters.remove(&job.task_id(r.index));
        }
        if w.flight.sparse() {
            let jobs = &mut self.jobs;
            w.flight.compact(|task, number| {
                if let State::Assigned { seq, .. } = &mut jobs[task.job].tasks[task.index as usize].state {
                    *seq = number;
                }
            });
        }
    }

    /// A task has ended with a value; `last` is the worker that ran it.
    fn complete(&mut self, r: TaskRef, value: TaskValue, last: WorkerIndex) {
        let job = &mut self.jobs[r.job];
        let stays = value.holder != WorkerIndex::NONE;
        if stays {
            job.bulky = true;
            self.workers[value.holder].hold(value.nbytes, job.stays(r.index));
        }
        let value = job.values.insert(value);
        job.set(r.index, State::Done { value, last }, &mut self.ready);
        if !job.tries.is_empty() {
            job.tries.remove(&r.index);
        }
        // A result that stays with its worker may still end that, when it is sent.
        if !stays {
            job.absolve(r.index);
        }
        self.drop_inputs(r, true);
        self.announce(r);
        if self.jobs[r.job].tasks[r.index as usize].has(flag::CLAIMED) {
            self.tell(r);
        }
    }

    /// A task whose result is taken apart has ended: each part that is still waited for has its value. The task itself has
    /// none, and is done with, unless a part is waited for that this run was not asked for: then it runs again.
    fn complete_parts(&mut self, r: TaskRef, parts: Vec<(u32, Outcome)>, worker: WorkerIndex, limited: bool) {
        let job = &mut self.jobs[r.job];
        job.set(r.index, State::Released, &mut self.ready);
        if !job.tries.is_empty() {
            job.tries.remove(&r.index);
        }
        job.absolve(r.index);
        self.drop_inputs(r, true);
        let (mut total, mut stays) = (0, false);
        for (index, outcome) in parts {
            let part = TaskRef { job: r.job, index };
            let value = match outcome {
                Outcome::Value(payload) => TaskValue::sent(index, payload),
                Outcome::Held { nbytes, encoded, bound } => TaskValue::held(index, worker, nbytes, encoded, bound),
                Outcome::Failed(_) | Outcome::Cancelled | Outcome::Parts(_) => continue,
            };
            let held = value.holder != WorkerIndex::NONE;
            (total, stays) = (total + value.nbytes, stays | held);
            let job = &mut self.jobs[r.job];
            let waits = job.tasks.get(index as usize).is_some_and(|task| {
                let waits = matches!(task.state, State::Waiting { .. });
                waits && task.has(flag::PART) && job.spec.deps(index) == [r.index]
            });
            if waits {
                self.complete(part, value, worker);
            } else if held {
                self.workers[worker].outbox.drop.push(job.task_id(index));
            }
        }
        if limited {
            self.learn_size(r, total, stays);
        }
        if self.jobs[r.job].tasks[r.index as usize].uses > 0 {
            self.restart.push(r);
        }
    }

    /// A value has become available: who waits for it waits for one input less.
    pub(super) fn announce(&mut self, r: TaskRef) {
        self.announce_row(r.job, r.index);
        if self.jobs[r.job].tasks[r.index as usize].has(flag::SHARED) {
            for (job, row) in self.rows_elsewhere(r) {
                self.announce_row(job, row);
                if self.jobs[job].alias_of().is_some() {
                    self.tell(TaskRef { job, index: 0 });
                }
            }
        }
    }

    fn announce_row(&mut self, job: u32, row: u32) {
        let (job, workers) = (&mut self.jobs[job], &mut self.workers);
        for k in job.dependent_range(row) {
            let index = job.dependents[k];
            let doomed = job.tasks[index as usize].has(flag::DOOMED);
            match &mut job.tasks[index as usize].state {
                State::Waiting { missing } => {
                    *missing -= 1;
                    let missing = *missing;
                    if doomed {
                        if !job.one_less_open(index) {
                            self.verdicts.push(TaskRef { job: job.slot, index });
                        }
                    } else if missing == 0 && !job.tasks[index as usize].has(flag::ALIAS) {
                        job.set(index, State::Ready, &mut self.ready);
                    }
                }
                State::Assigned { worker, ahead, .. } if *ahead > 0 => {
                    *ahead -= 1;
                    workers[*worker].ahead -= u32::from(*ahead == 0);
                }
                _ => {}
            }
        }
    }

    /// A value is no longer available: who has not been sent it waits for it again.
    pub(super) fn withdraw(&mut self, r: TaskRef) {
        let mut rows = vec![(r.job, r.index)];
        rows.extend(self.rows_elsewhere(r));
        for (job, row) in rows {
            let job = &mut self.jobs[job];
            for k in job.dependent_range(row) {
                let index = job.dependents[k];
                match &mut job.tasks[index as usize].state {
                    State::Waiting { missing } => *missing += 1,
                    State::Ready | State::Fetching => {
                        job.set(index, State::Waiting { missing: 1 }, &mut self.ready);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The rows of dependents that other jobs keep of a task.
    pub(super) fn rows_elsewhere(&self, r: TaskRef) -> Vec<(u32, u32)> {
        let Some(users) = self.jobs[r.job].users.get(&r.index) else { return Vec::new() };
        users.iter().map(|&(job, external)| (job, self.jobs[job].tasks.len() as u32 + external)).collect()
    }

    /// All dependents of a task, in whatever state and job.
    pub(super) fn dependents(&self, r: TaskRef) -> Vec<TaskRef> {
        let mut rows = vec![(r.job, r.index)];
        rows.extend(self.rows_elsewhere(r));
        let mut all = Vec::new();
        for (slot, row) in rows {
            let job = &self.jobs[slot];
            all.extend(job.dependents[job.dependent_range(row)].iter().map(|&index| TaskRef { job: slot, index }));
        }
        all
    }

    /// Makes a task active that is needed and has no value. What it needs in turn goes on the `restart` list.
    pub(super) fn start(&mut self, r: TaskRef) {
        let task = self.jobs[r.job].tasks[r.index as usize];
        if task.uses == 0 || !task.state.idle() {
            return;
        }
        for k in self.jobs[r.job].dep_range(r.index) {
            let job = &mut self.jobs[r.job];
            let dep = job.spec.deps[k];
            let target = job.resolve(dep);
            if dep & EXTERNAL != 0 {
                let external = &mut job.external_inputs[(dep & !EXTERNAL) as usize];
                external.uses += 1;
                if external.uses > 1 {
                    continue;
                }
            }
            let input = &mut self.jobs[target.job].tasks[target.index as usize];
            input.uses += 1;
            if input.state.idle() {
                self.restart.push(target);
            }
        }
        self.jobs[r.job].set(r.index, State::Waiting { missing: 0 }, &mut self.ready);
        self.admit(r);
    }

    /// Finds out from scratch what an active task still lacks, and whether it can run at all.
    pub(super) fn admit(&mut self, r: TaskRef) {
        let lacks = self.lacks(r);
        if let Some(failure) = lacks.verdict() {
            return self.fail(r, failure);
        }
        if let Some(failure) = self.infeasible(r) {
            return self.fail(r, Arc::new(failure));
        }
        let job = &mut self.jobs[r.job];
        let is_alias = job.tasks[r.index as usize].has(flag::ALIAS);
        let runs = lacks.missing == 0 && !is_alias;
        let state = if runs { State::Ready } else { State::Waiting { missing: lacks.missing } };
        job.set(r.index, state, &mut self.ready);
        job.doom(r.index, lacks.failed.is_some().then_some(lacks.open));
        if is_alias {
            self.tell(r);
        }
    }

    /// How much a task waits for, and the failure of its inputs that counts: that of the first that failed.
    pub(super) fn lacks(&self, r: TaskRef) -> Lacks {
        let job = &self.jobs[r.job];
        let zombie = u32::from(job.tasks[r.index as usize].has(flag::ZOMBIE));
        let (mut missing, mut hopeless) = (zombie, 0);
        let mut failed: Option<&Arc<Failure>> = None;
        for &dep in job.spec.deps(r.index) {
            let target = job.resolve(dep);
            let owner = &self.jobs[target.job];
            let state = owner.state(target.index);
            missing += u32::from(!state.available());
            if let State::Failed { failure, .. } = state {
                hopeless += 1;
                failed = failed.or(Some(&owner.failures[failure as usize]));
            }
        }
        let fails_fast = job.spec.fails_fast;
        Lacks { missing, open: missing - zombie - hopeless, failed: failed.cloned(), fails_fast }
    }

    fn infeasible(&self, r: TaskRef) -> Option<Failure> {
        let job = &self.jobs[r.job];
        let reason = job.lanes[job.lane_of(r.index) as usize].infeasible.as_ref()?;
        let reason = format!("it {reason}; change the options of the task, or start a worker that can take it");
        Some(self.failure_of(r, None, Cause::Infeasible { reason }))
    }

    pub(super) fn failure_of(&self, r: TaskRef, worker: Option<WorkerIndex>, cause: Cause) -> Failure {
        let worker = worker.and_then(|w| self.workers.get(w)).map(|w| w.spec.name.clone());
        self.jobs[r.job].failure(r.index, worker, cause)
    }

    /// A run of an active task failed: it is repeated as often as it may be.
    pub(super) fn attempt_failed(&mut self, r: TaskRef, failure: Failure) {
        let job = &mut self.jobs[r.job];
        let retries = match failure.cause {
            // The other worker has died, and the message that says so has not come yet.
            Cause::InputLost { .. } => job.retries(r.index).max(LOST_INPUTS),
            _ => job.retries(r.index),
        };
        if retries > 0 {
            let tries = job.tries.or_default(r.index);
            *tries += 1;
            if *tries <= retries {
                let attempt = (*tries).min(u16::MAX.into()) as u16;
                self.retried.push((self.jobs[r.job].task_id(r.index), attempt));
                return self.admit(r);
            }
        }
        self.fail(r, Arc::new(failure));
    }

    /// Fails a task, and all that cannot run without it: each when its other inputs have ended too, so that it fails
    /// with the first of them that failed, whichever was faster. A task that was sent its inputs goes on; one that was
    /// sent ahead of some is cancelled.
    pub(super) fn fail(&mut self, r: TaskRef, failure: Arc<Failure>) {
        self.fail_one(r, &failure);
        let mut cancelled = matches!(failure.cause, Cause::Cancelled);
        let mut stack = self.dependents(r);
        while let Some(d) = stack.pop() {
            match self.jobs[d.job].state(d.index) {
                State::Assigned { worker, seq, ahead } if ahead > 0 => {
                    self.cancel_run(d, worker, seq);
                    self.jobs[d.job].set(d.index, State::Waiting { missing: 0 }, &mut self.ready);
                }
                state if state.pending() => {
                    let job = &mut self.jobs[d.job];
                    let doomed = job.tasks[d.index as usize].has(flag::DOOMED);
                    // It has been looked at since another input failed; what is left of its inputs is counted.
                    if doomed && job.one_less_open(d.index) && !cancelled {
                        continue;
                    }
                }
                _ => continue,
            }
            let lacks = self.lacks(d);
            match lacks.verdict() {
                Some(failure) => {
                    self.fail_one(d, &failure);
                    cancelled |= matches!(failure.cause, Cause::Cancelled);
                    stack.extend(self.dependents(d));
                }
                None => {
                    let job = &mut self.jobs[d.job];
                    job.set(d.index, State::Waiting { missing: lacks.missing }, &mut self.ready);
                    job.doom(d.index, Some(lacks.open));
                }
            }
        }
    }

    /// Decides again about a task with a failed input, now that another input has ended.
    fn judge(&mut self, r: TaskRef) {
        // Its job may have been freed by now, and its slot may have another job.
        if self.jobs.is_live(r.job) && self.jobs[r.job].tasks.get(r.index as usize).is_some_and(|t| t.has(flag::DOOMED))
        {
            self.admit(r);
        }
    }

    fn fail_one(&mut self, r: TaskRef, failure: &Arc<Failure>) {
        let job = &mut self.jobs[r.job];
        let active = job.state(r.index).active();
        let number = job.remember(failure);
        job.doom(r.index, None);
        let cancelled = matches!(failure.cause, Cause::Cancelled);
        job.set(r.index, State::Failed { failure: number, cancelled }, &mut self.ready);
        let task = &mut job.tasks[r.index as usize];
        task.put(flag::WANTED, false);
        task.put(flag::ROAMS, false);
        if task.has(flag::CLAIMED) {
            task.put(flag::TOLD, true);
            self.deliver_failure(TaskId { job: self.jobs[r.job].id, index: r.index }, failure);
        }
        if active {
            self.drop_inputs(r, false);
        }
    }

    /// Has a held value sent here, unless it is here or on its way.
    pub(super) fn fetch(&mut self, r: TaskRef) {
        let job = &mut self.jobs[r.job];
        let id = job.task_id(r.index);
        let State::Done { value, .. } = job.state(r.index) else { return };
        let value = &mut job.values[value];
        if value.payload.is_some() || value.exporting {
            return;
        }
        value.exporting = true;
        job.exporting += 1;
        let w = &mut self.workers[value.holder];
        w.exporting += 1;
        w.asked.push((id, self.now, value.encoded));
        w.outbox.fetch.push(id);
    }

    /// A task no longer uses its inputs. `ran` tells that what was lent to it has left the store for certain.
    pub(super) fn drop_inputs(&mut self, r: TaskRef, ran: bool) {
        for k in self.jobs[r.job].dep_range(r.index) {
            let job = &mut self.jobs[r.job];
            let dep = job.spec.deps[k];
            let target = job.resolve(dep);
            if dep & EXTERNAL != 0 {
                let external = &mut job.external_inputs[(dep & !EXTERNAL) as usize];
                external.uses -= 1;
                if external.uses > 0 {
                    continue;
                }
            }
            let owner = &mut self.jobs[target.job];
            let input = &mut owner.tasks[target.index as usize];
            input.uses -= 1;
            let unused = input.uses == 0;
            match input.state {
                State::Lent { value, .. } if target.job == r.job && owner.values[value].taker == r.index => {
                    self.forget_value(target, !ran);
                    if !unused {
                        self.restart.push(target);
                    }
                }
                _ if unused => self.work.push(target),
                _ => {}
            }
        }
    }

    /// What was lent to a task that has not started is as good as before.
    pub(super) fn return_lent(&mut self, r: TaskRef) {
        for k in self.jobs[r.job].dep_range(r.index) {
            let job = &mut self.jobs[r.job];
            let dep = job.spec.deps[k];
            if dep & EXTERNAL != 0 {
                continue;
            }
            if let State::Lent { value, last } = job.state(dep)
                && job.values[value].taker == r.index
            {
                job.set(dep, State::Done { value, last }, &mut self.ready);
                self.announce(TaskRef { job: r.job, index: dep });
            }
        }
    }

    /// Removes the value of a task that is `Done` or `Lent`; `dropping` it from the store it is in.
    pub(super) fn forget_value(&mut self, r: TaskRef, dropping: bool) {
        let job = &mut self.jobs[r.job];
        let (State::Done { value, .. } | State::Lent { value, .. }) = job.state(r.index) else { return };
        let value = job.values.remove(value);
        let id = job.task_id(r.index);
        job.set(r.index, State::Released, &mut self.ready);
        job.recall(r.index, &mut self.workers);
        if value.holder != WorkerIndex::NONE {
            let w = &mut self.workers[value.holder];
            w.let_go(value.nbytes, job.stays(r.index));
            if dropping {
                w.outbox.drop.push(id);
            }
        }
    }

    /// Works off what lost its last use, and what is needed again.
    pub(super) fn settle(&mut self) {
        loop {
            if let Some(r) = self.work.pop() {
                if self.jobs[r.job].tasks[r.index as usize].uses == 0 {
                    self.abandon(r);
                }
            } else if let Some(r) = self.restart.pop() {
                self.start(r);
            } else if let Some(r) = self.verdicts.pop() {
                self.judge(r);
            } else {
                return;
            }
        }
    }

    /// Nobody uses this task: its value goes, or its work ends.
    fn abandon(&mut self, r: TaskRef) {
        match self.jobs[r.job].state(r.index) {
            State::Waiting { .. } | State::Ready | State::Fetching => {
                let job = &mut self.jobs[r.job];
                job.set(r.index, State::Idle, &mut self.ready);
                job.doom(r.index, None);
                self.drop_inputs(r, false);
            }
            State::Assigned { worker, seq, .. } => {
                self.cancel_run(r, worker, seq);
                self.jobs[r.job].set(r.index, State::Idle, &mut self.ready);
                self.drop_inputs(r, false);
            }
            // Another job may need it again.
            State::Done { .. } if self.jobs[r.job].is_final() => {}
            State::Done { value, .. } if !self.jobs[r.job].values[value].exporting => self.forget_value(r, true),
            State::Data { .. } => self.jobs[r.job].recall(r.index, &mut self.workers),
            _ => {}
        }
    }

    /// Cancels the run of an assigned task. The worker keeps it as a zombie; the caller changes the task's state.
    pub(super) fn cancel_run(&mut self, r: TaskRef, worker: WorkerIndex, seq: u32) {
        let (memory, resources) = self.jobs[r.job].takes(r.index);
        self.land(r, worker, seq);
        let job = &mut self.jobs[r.job];
        let id = job.task_id(r.index);
        let task = &mut job.tasks[r.index as usize];
        task.put(flag::ZOMBIE, true);
        let w = &mut self.workers[worker];
        w.take(memory, &resources);
        w.zombies.push(Zombie { id, attempt: task.attempt, memory, resources, kill_at: None });
        w.outbox.cancel.push(id);
    }

    /// A cancelled run has ended. False if there is no such.
    pub(super) fn end_zombie(&mut self, worker: WorkerIndex, id: TaskId, attempt: Option<u16>) -> bool {
        let w = &mut self.workers[worker];
        let found = w.zombies.iter().position(|z| z.id == id && attempt.is_none_or(|a| a == z.attempt));
        let Some(at) = found else { return false };
        let zombie = w.zombies.swap_remove(at);
        w.give_back(zombie.memory, &zombie.resources);
        w.blocked = w.blocked.min(w.in_flight());
        // Where others are overdue, too, that is found at the next look.
        w.stay_if_deaf();
        self.zombie_ended(id);
        true
    }

    /// A task may be sent again, now that its cancelled run is over.
    pub(super) fn zombie_ended(&mut self, id: TaskId) {
        let Some(r) = self.jobs.find_task(id) else { return };
        let job = &mut self.jobs[r.job];
        let task = &mut job.tasks[r.index as usize];
        task.put(flag::ZOMBIE, false);
        let doomed = task.has(flag::DOOMED);
        if let State::Waiting { missing } = &mut task.state {
            *missing -= 1;
            if doomed {
                self.verdicts.push(r);
            } else if *missing == 0 {
                job.set(r.index, State::Ready, &mut self.ready);
            }
        }
    }

    /// Frees the jobs that nobody needs any more.
    pub(super) fn sweep(&mut self) {
        while let Some(slot) = self.leaving.pop() {
            if !self.jobs.is_live(slot) {
                continue;
            }
            let job = &self.jobs[slot];
            if job.claims > 0 || job.refs > 0 || job.exporting > 0 || job.spec.open {
                continue;
            }
            for lane in 0..job.lanes.len() as u32 {
                if job.lanes[lane as usize].listed {
                    self.ready.order.remove(&job.place(lane));
                }
            }
            let Some(mut job) = self.jobs.remove(slot) else { continue };
            job.recall_all(&mut self.workers);
            self.ready.groups.leave(&job);
            if job.spec.broadcast {
                let shared = || job.spec.data.iter().map(|(index, _)| job.task_id(*index));
                self.workers.iter_mut().for_each(|w| w.outbox.forget(shared()));
            }
            self.leave_inputs(slot, &job.external_inputs);
            self.graph_left(job.program);
        }
    }

    /// Forgets how a job is run, if it need never run again, with its claims to results of others.
    fn forget(&mut self, slot: u32) {
        if self.jobs[slot].forget_program() {
            let inputs = std::mem::take(&mut self.jobs[slot].external_inputs);
            self.leave_inputs(slot, &inputs);
        }
    }

    /// A job does not need its inputs from others any more. They are freed by the next sweep, if nobody does.
    fn leave_inputs(&mut self, slot: u32, inputs: &[ExternalInput]) {
        for (external, at) in inputs.iter().zip(0..) {
            let owner = &mut self.jobs[external.target.job];
            owner.refs -= 1;
            if let Some(users) = owner.users.get_mut(&external.target.index) {
                users.remove(&(slot, at));
                if users.is_empty() {
                    owner.users.remove(&external.target.index);
                    owner.tasks[external.target.index as usize].put(flag::SHARED, false);
                }
            }
            self.leaving.push(external.target.job);
            if self.jobs[external.target.job].tasks[external.target.index as usize].has(flag::KEPT) {
                self.kept_no_more(external.target);
            }
        }
    }
}
