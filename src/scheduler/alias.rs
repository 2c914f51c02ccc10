//! Results that others have, too: of another session, or published.

use super::job::{State, TaskRef, flag};
use super::prepared::Prepared;
use super::worker::WorkerIndex;
use super::{Scheduler, SubmitError};
use crate::ids::{JobId, TaskId};
use std::time::Duration;

impl Scheduler {
    /// Takes in a job of one task that has the value of a task of another session, which is claimed there, and goes on having
    /// it when that claim ends. It is claimed by its own session, which is told of the value as of any other. Where that is an
    /// alias that has failed, since its value was lost and could not be made again, it is tried once more.
    pub(crate) fn alias(&mut self, id: JobId, of: TaskId, now: Duration) -> Result<(), SubmitError> {
        if let Some(r) = self.jobs.find_task(of)
            && self.jobs[r.job].alias_of().is_some()
            && let State::Failed { .. } = self.jobs[r.job].state(r.index)
        {
            self.retry(of.job, &[of.index]);
        }
        self.take(Prepared::alias(id, of)?, now)
    }

    /// The task whose value a task has: another one, where it is an alias that has not failed.
    pub(super) fn behind(&self, r: TaskRef) -> TaskRef {
        let job = &self.jobs[r.job];
        job.alias_of().filter(|_| job.state(r.index).active()).unwrap_or(r)
    }

    /// An alias of a task has gone. Where that was the last, its value stays no longer than others use it.
    pub(super) fn kept_no_more(&mut self, of: TaskRef) {
        let owner = &self.jobs[of.job];
        let mut users = owner.users.get(&of.index).into_iter().flatten();
        if users.any(|(job, _)| self.jobs[*job].alias_of().is_some()) {
            return;
        }
        let owner = &mut self.jobs[of.job];
        owner.tasks[of.index as usize].put(flag::KEPT, false);
        if !owner.stays(of.index)
            && let State::Done { value, .. } | State::Lent { value, .. } = owner.state(of.index)
            && owner.values[value].holder != WorkerIndex::NONE
        {
            self.workers[owner.values[value].holder].claimed_bytes -= owner.values[value].nbytes;
        }
    }
}
