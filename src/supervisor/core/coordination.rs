//! Locks, semaphores, events, queues and variables: what sessions ask of the coordinator, and whose names they mean.

use super::{Core, SessionEnd};
use crate::coordinator::{Answer, By, Caller, Kind, Listed, Refusal, Request, Scope, Target, Told, UNBOUNDED};
use crate::ids::SessionId;
use crate::ipc::payload::Payload;
use crate::message::ToSession;
use crate::status::SharedObject;
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
            let program = of.job.session;
            if !program.is_of_tasks() {
                // Of one that has left nothing is made any more.
                return self.has_session(program).then_some(Scope::Program(program));
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

    /// What there is, for whoever looks on.
    pub(super) fn shared_objects<E: Effects>(&self, fx: &E) -> Vec<SharedObject> {
        let holder = |caller: &Caller| match (self.sessions.ends.get(&caller.session), caller.by.task) {
            (Some(&SessionEnd::Worker(worker)), Some(task)) => {
                let process = self.fleet.workers.get(&worker);
                let key = process.map_or_else(|| "a task".to_string(), |process| self.key(process, task, fx));
                format!("{key} on {}", self.name_of(worker))
            }
            (Some(&SessionEnd::Worker(worker)), None) => format!("a task on {}", self.name_of(worker)),
            _ => "program".to_string(),
        };
        let object = |listed: Listed| SharedObject {
            kind: listed.kind.name().to_string(),
            name: listed.name.to_string(),
            connection: match listed.scope {
                Scope::Program(session) => session.0,
                Scope::Shared => 0,
            },
            holders: listed.holders.iter().map(holder).collect(),
            size: listed.size,
            limit: listed.limit.filter(|limit| listed.kind != Kind::Lock && *limit < UNBOUNDED),
            waiting: listed.waiting,
        };
        self.coordinator.list().into_iter().map(object).collect()
    }

    fn tell_callers<E: Effects>(&mut self, told: Told<Payload>, fx: &mut E) {
        for (session, ticket, answer) in told.answers {
            self.tell_session(session, ToSession::Called(ticket, answer), fx);
        }
    }
}
