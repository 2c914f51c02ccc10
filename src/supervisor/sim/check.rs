//! What must be so, whatever happened.

use super::session::Heard;
use super::{BAD, HANGS, STUCK, World};
use crate::error::Cause;
use crate::ids::{SessionId, TaskId};
use crate::job::Failure;
use std::collections::BTreeSet;

impl World {
    /// A failure must come from a task that could fail so, and that the output depends on.
    pub(super) fn justify(&self, id: TaskId, failure: &Failure) {
        let failed = failure.task;
        let mut seen = BTreeSet::new();
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            if seen.insert(id) {
                stack.extend(&self.known[&id].inputs);
            }
        }
        assert!(seen.contains(&failed), "{id} fails for {failed}, which it does not use");
        let task = &self.known[&failed];
        match &failure.cause {
            Cause::Returned(_) => {
                assert_eq!(task.kind, BAD, "{failed} failed {:?} times", self.fails.get(&failed))
            }
            Cause::TimedOut { .. } => assert!(task.kind == HANGS || task.kind == STUCK, "{failed}"),
            Cause::Cancelled => assert!(self.cancelled.contains(&failed), "{failed}"),
            Cause::WorkerDied(records) => {
                let deaths = self.deaths.get(&failed).copied().unwrap_or(0);
                assert!(records.len() >= self.allowed_deaths && deaths >= self.allowed_deaths, "{failed}: {deaths}");
            }
            Cause::MemoryLimit { records, .. } => assert!(self.has_limit && !records.is_empty(), "{failed}"),
            Cause::Infeasible { .. } => assert!(task.picky || self.never, "{failed}"),
            other => panic!("{other:?}"),
        }
    }

    /// Everybody has been told everything, and nothing is left anywhere.
    pub(super) fn check_end(&mut self) {
        self.run_out();
        for session in self.sessions.values() {
            let untold: Vec<_> = session.wanted.iter().filter(|(_, heard)| **heard == Heard::Nothing).collect();
            assert!(untold.is_empty(), "{:?} was never told of {untold:?}: {}", session.id, self.core.state());
            assert!(session.calls.open.is_empty(), "{:?} is forgotten: {:?}", session.id, session.calls.open);
            assert!(session.tickets.is_empty(), "{:?} was never answered {:?}", session.id, session.tickets);
        }
        self.empty_queues();
        self.unpublish_all();
        self.run_out();
        assert_eq!(self.core.published_names(), [""; 0]);
        assert!(self.fx.names.is_empty(), "names are taken: {:?}", self.fx.names);
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let session = self.sessions.get_mut(&id).unwrap();
            session.values.clear();
            let wanted: Vec<TaskId> = session.wanted.keys().copied().collect();
            if session.closed || (id != SessionId::CLIENT && !id.is_of_tasks() && self.rng.bool()) {
                self.vanish(id);
            } else {
                wanted.into_iter().for_each(|claim| self.release(id, claim.job, vec![claim.index]));
            }
        }
        self.run_out();
        self.core.validate();
        self.core.check_idle();
        self.core.check_released();
        assert_eq!(self.fx.attachments.len(), 0, "segments are still mapped; there is {:?}", self.core.coordinated());
        for worker in self.fx.workers.values() {
            assert!(worker.store.is_empty(), "{:?} still holds {:?}", worker.id, worker.store.keys());
            assert!(worker.shared.is_empty(), "{:?} still shares {:?}", worker.id, worker.shared.keys());
            assert!(worker.queue.is_empty() && worker.running.is_empty(), "{:?} still works", worker.id);
            let (mapped, pool) = (worker.attachments.len(), worker.pool.stats());
            assert_eq!((mapped, pool.live), (0, 0), "{:?} still maps, or lends, segments", worker.id);
        }
        for session in self.sessions.values() {
            let (mapped, pool) = (session.attachments.len(), session.pool.stats());
            assert_eq!((mapped, pool.live), (0, 0), "{:?} still maps, or lends, segments", session.id);
        }
        self.fx.in_actor = true;
        self.core.stop(&mut self.fx);
        self.follow_as_actor();
        self.run_out();
        assert!(self.fx.stopped, "it does not stop");
    }
}
