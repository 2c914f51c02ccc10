//! Which tasks are blamed for the end of a worker.

use super::{Core, WorkerProcess, session_of};
use crate::error::DeathCause;
use crate::ids::{TaskId, WorkerId};
use crate::supervisor::effects::{Effects, WorkerPage};
use rustc_hash::FxHashSet;

/// What a worker did since the last word of it: one of these may have ended it.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// What ran when it ended.
    pub(super) running: Vec<TaskId>,
    /// What had ended, and word of that had not arrived: a thread, a drop or an alarm of such a task may outlive it.
    pub(super) ended: Vec<TaskId>,
    /// Whose results it was encoding or dropping, outside of any task.
    pub(super) results: Vec<TaskId>,
    /// Whether those that had ended may have caused it, too.
    ended_count: bool,
}

impl Suspects {
    /// Those that may have caused the death. At least one, if there are any: no task ends workers for ever.
    pub(super) fn likely(&self) -> Vec<TaskId> {
        let ended = self.ended.iter().filter(|_| self.ended_count);
        self.running.iter().chain(&self.results).chain(ended).copied().collect()
    }
}

impl Core {
    /// Who may have ended a worker that has ended so.
    ///
    /// What ran when it crashed is the likely cause: tasks, and results that were being encoded or dropped. What had ended
    /// before is, where nothing ran; and where descriptors had been closed, which shows only when the worker uses them next.
    /// Against whom the death counts is decided by the scheduler.
    pub(super) fn suspects<E: Effects>(&mut self, process: &WorkerProcess, cause: &DeathCause, fx: &E) -> Suspects {
        let Some(page) = fx.page(process.id) else { return Suspects::default() };
        let running = self.not_waiting(process.id, page.running());
        // A task of which there has been word is no more under way, or with the number of another attempt.
        let mut seen: FxHashSet<TaskId> = running.iter().copied().collect();
        let begun = page.begun().into_iter();
        let untold = begun.filter(|attempt| self.scheduler.awaits(process.id, *attempt) && seen.insert(attempt.task));
        let ended: Vec<TaskId> = untold.map(|attempt| attempt.task).collect();
        let results: Vec<TaskId> =
            page.results().into_iter().filter(|id| self.scheduler.holds(process.id, *id)).collect();
        let nothing_ran = running.is_empty() && results.is_empty();
        let ended_count = nothing_ran || *cause == DeathCause::DescriptorsClosed;
        Suspects { running, ended, results, ended_count }
    }

    /// Those of the tasks that a worker ran that did not wait for a lock, an item or the like: these did nothing. All, where all
    /// did.
    fn not_waiting(&self, worker: WorkerId, running: Vec<TaskId>) -> Vec<TaskId> {
        let waiting = self.coordinator.blocked_tasks(session_of(worker));
        let others: Vec<TaskId> = running.iter().filter(|task| !waiting.contains(task)).copied().collect();
        if others.is_empty() { running } else { others }
    }
}
