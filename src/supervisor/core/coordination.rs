//! Locks, semaphores, events, queues and variables: what sessions ask of the coordinator, and whose names they mean.

use super::{Core, SessionEnd};
use crate::coordinator::{Answer, By, Caller, Refusal, Request, Scope, Target, Told};
use crate::ids::SessionId;
use crate::ipc::payload::Payload;
use crate::message::ToSession;
use crate::supervisor::effects::Effects;

impl Core {
    pub(super) fn coordinate<E: Effects>(&mut self, session: SessionId, request: Request<Payload>, fx: &mut E) {
        let by = request.names().map(|(_, by)| *by).unwrap_or_default();
        let scope = match request.names() {
            Some((target, by)) => self.scope_of(session, target, by),
            None => Some(Scope::Shared),
        };
        let Some(scope) = scope else {
            if let Some(ticket) = request.ticket() {
                self.tell_session(session, ToSession::Called(ticket, Answer::Refused(Refusal::Gone)), fx);
            }
            return;
        };
        let mut told = Told::default();
        self.coordinator.request(Caller { session, by }, scope, request, &mut told);
        self.tell_callers(told, fx);
    }

    /// Whose names a caller means: those of its program. None: nobody knows which one that is.
    fn scope_of(&self, session: SessionId, target: &Target, by: &By) -> Option<Scope> {
        if target.shared {
            return Some(Scope::Shared);
        }
        if !session.is_of_tasks() {
            return Some(Scope::Program(session));
        }
        let mut task = by.task;
        while let Some(of) = task {
            if !of.job.session.is_of_tasks() {
                return Some(Scope::Program(of.job.session));
            }
            task = self.scheduler.parent_of(of);
        }
        // Of a thread that a task has started, or of one whose graph is not wanted any more.
        let mut programs = self.sessions.ends.iter().filter(|(_, end)| !matches!(end, SessionEnd::Worker(_)));
        let (only, others) = (programs.next(), programs.next());
        only.filter(|_| others.is_none()).map(|(session, _)| Scope::Program(*session))
    }

    /// A session has ended, with all it had.
    pub(super) fn coordinates_no_more<E: Effects>(&mut self, session: SessionId, fx: &mut E) {
        let mut told = Told::default();
        self.coordinator.session_ended(session, &mut told);
        if !session.is_of_tasks() {
            self.coordinator.scope_ended(Scope::Program(session), &mut told);
        }
        self.tell_callers(told, fx);
    }

    fn tell_callers<E: Effects>(&mut self, told: Told<Payload>, fx: &mut E) {
        for (session, ticket, answer) in told.answers {
            self.tell_session(session, ToSession::Called(ticket, answer), fx);
        }
    }
}
