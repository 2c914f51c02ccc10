//! Which task is to blame for the death of a worker, and how that is found out.
//!
//! What ran in a worker when it died is suspect. A death counts against a task only if that was the only suspect: one that
//! ends its worker costs its neighbours a run, and never their results. So suspects run again in [isolation](Isolation), in
//! one worker at a time, while the other workers go on with the rest; where there is one worker only, others have their
//! turn between two suspects.

use super::Scheduler;
use super::job::{Job, State, TaskRef, flag};
use super::ready::{Isolation, Lane, Rule};
use crate::error::{Cause, DeathCause, DeathRecord};
use crate::fairness::Program;
use crate::ids::{SessionId, TaskId, WorkerId};
use std::sync::Arc;

/// What follows from the death of a worker for those that may have caused it.
pub(super) struct Verdict<'a> {
    record: &'a DeathRecord,
    suspects: &'a [TaskId],
    /// Whether it counts against them.
    counts: bool,
}

impl Verdict<'_> {
    pub(super) fn is_about(&self, task: TaskId) -> bool {
        self.suspects.contains(&task)
    }
}

impl Scheduler {
    /// These may have ended a worker, though others are more likely to have done so. It does not count against them, but
    /// when they run again, that will be told from others.
    pub(crate) fn suspect(&mut self, tasks: &[TaskId]) {
        for &task in tasks {
            if let Some(r) = self.jobs.find_task(task) {
                self.jobs[r.job].deaths.or_default(r.index);
            }
        }
    }

    /// A death counts if there is one suspect. What the worker's tasks had submitted has ended with it and does not run
    /// again, so those that waited for it answer for it.
    ///
    /// Where all of several have been isolated already, one has waited for tasks while another ran. That cannot be done
    /// better, so it counts against all.
    pub(super) fn verdict<'a>(
        &mut self,
        worker: WorkerId,
        suspects: &'a [TaskId],
        record: &'a DeathRecord,
    ) -> Verdict<'a> {
        let own = SessionId::of_tasks(worker);
        let mut others = suspects.iter().filter(|task| task.job.session != own);
        let counts = match others.clone().count() {
            0 | 1 => true,
            _ => others.all(|&task| self.jobs.find_task(task).is_some_and(|r| self.is_isolated(r))),
        };
        Verdict { record, suspects, counts }
    }

    fn is_isolated(&self, r: TaskRef) -> bool {
        let r = self.what_runs(r);
        self.jobs[r.job].isolation(r.index) != Isolation::None
    }

    /// The task that makes a part of a result; otherwise the same one.
    fn what_runs(&self, r: TaskRef) -> TaskRef {
        let job = &self.jobs[r.job];
        match job.tasks[r.index as usize].has(flag::PART) {
            true => TaskRef { job: r.job, index: job.spec.deps(r.index)[0] },
            false => r,
        }
    }

    /// A worker has died under a task, or while it handled its result (`of_result`). Gives why the task fails, if that was its
    /// last run.
    ///
    /// A death of memory says little about a task that ran beside others and beside results: it gets a worker for itself
    /// first, or all workers if it was the kernel that had no memory, and fails if that is not enough.
    pub(super) fn blame(&mut self, r: TaskRef, verdict: &Verdict<'_>, of_result: bool) -> Option<Cause> {
        let &Verdict { record, counts, .. } = verdict;
        let needs = match record.cause {
            DeathCause::OutOfMemory => Isolation::Cluster,
            _ if record.cause.is_of_memory() => Isolation::Worker,
            _ if counts => Isolation::Culprit,
            _ => Isolation::Suspect,
        };
        let runs = self.what_runs(r);
        let had = self.jobs[runs.job].isolation(runs.index);
        self.isolate(runs, needs);
        let deaths = self.jobs[r.job].deaths.or_default(r.index);
        if counts { &mut deaths.counted } else { &mut deaths.shared }.push(record.clone());
        // Where the result was the only suspect, it is found out as it is.
        deaths.of_result |= of_result && !counts;
        if record.cause.is_of_memory() {
            if had < needs || !counts {
                return None;
            }
            let all = deaths.shared.iter().chain(&deaths.counted);
            let records: Vec<_> = all.filter(|d| d.cause.is_of_memory()).cloned().collect();
            let peak = records.iter().map(DeathRecord::peak).max().unwrap_or(0);
            return Some(Cause::MemoryLimit { limit: record.memory_limit.unwrap_or(0), peak, records });
        }
        (deaths.counted.len() >= self.config.allowed_deaths as usize).then(|| Cause::WorkerDied(deaths.counted.clone()))
    }

    /// Isolates a task from now on, if it is not in flight.
    fn isolate(&mut self, r: TaskRef, isolation: Isolation) {
        let job = &mut self.jobs[r.job];
        match job.state(r.index) {
            State::Assigned { .. } => {}
            State::Ready => {
                job.set(r.index, State::Waiting { missing: 0 }, &mut self.ready);
                job.isolate(r.index, isolation);
                job.set(r.index, State::Ready, &mut self.ready);
            }
            _ => job.isolate(r.index, isolation),
        }
    }

    /// Whether a task that may have ended a worker may be sent to one that has nothing else to do: to one worker at a time, or
    /// where no other tasks are ready, to all but one.
    pub(super) fn lets_in(&self, isolation: Isolation) -> bool {
        let open = self.workers.iter().filter(|w| w.accepting()).count();
        let taken = self.workers.iter().filter(|w| w.suspects > 0 && w.busy() > 0).count();
        let others = self.ready.others() > 0;
        let most = if others { 1 } else { open.saturating_sub(1).max(1) };
        let waits = match self.others_had_their_turn {
            true => false,
            false if isolation == Isolation::Culprit && self.ready.suspects > 0 => true,
            false => others && open == 1 && self.suspect_was_last,
        };
        taken < most && !waits
    }
}

impl Job {
    /// Puts a task that is not ready into a lane for those that run so, unless it is in one for less company.
    fn isolate(&mut self, index: u32, isolation: Isolation) {
        if self.isolation(index) >= isolation {
            return;
        }
        let lane = &self.lanes[self.lane_of(index) as usize];
        let nested = self.program == Program::TASKS;
        let rule = Rule { isolation, nested, ..lane.rule.as_deref().cloned().unwrap_or_default() };
        let (priority, infeasible) = (lane.priority, lane.infeasible.clone());
        let known = self.lanes.iter().position(|l| l.priority == priority && l.rule.as_deref() == Some(&rule));
        let at = known.unwrap_or_else(|| {
            // No members: what comes in is always behind the cursor.
            let members = Some(Vec::new());
            self.lanes.push(Lane { priority, rule: Some(Arc::new(rule)), infeasible, members, ..Lane::default() });
            self.lanes.len() - 1
        });
        self.isolated.insert(index, at as u32);
        self.tasks[index as usize].put(flag::LANED | flag::ISOLATED, true);
    }

    /// A task that is neither ready nor in flight has ended no worker. What it needs for want of memory it needs when it
    /// runs again, too.
    pub(super) fn absolve(&mut self, index: u32) {
        if self.deaths.is_empty() || self.deaths.remove(&index).is_none() {
            return;
        }
        if self.isolation(index).is_of_suspects() {
            self.isolated.remove(&index);
            self.tasks[index as usize].put(flag::LANED | flag::ISOLATED, false);
            let laned = self.options_lane(index) != 0;
            self.tasks[index as usize].put(flag::LANED, laned);
        }
    }
}
