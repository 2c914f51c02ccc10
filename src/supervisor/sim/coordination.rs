//! Locks, semaphores, events, queues and variables in the simulation: sessions ask for them at random, wait, go, and vanish.
//!
//! In the end all that waited for a lock have had it, nothing is held by anybody, and no item was given twice.

use super::worker::payload;
use super::{World, value_of};
use crate::coordinator::{Answer, By, Call, Kind, Operation, Patience, Request, Target};
use crate::ids::SessionId;
use crate::ipc::payload::Payload;
use crate::message;
use crate::supervisor::core::SessionEnd;
use std::collections::{BTreeMap, BTreeSet};

/// The most items of the queue.
const MOST: u64 = 2;

/// What a session has asked for and has.
#[derive(Default)]
pub(super) struct Calls {
    /// Calls that have not been answered, and of what kind each is.
    pub(super) open: BTreeMap<u64, Kind>,
    pub(super) leases: BTreeSet<u64>,
    next: u64,
}

fn target(kind: Kind, name: &str, limit: u64) -> Target {
    let type_name = if matches!(kind, Kind::Queue | Kind::Variable) { "u64" } else { "" };
    Target { kind, name: name.to_string(), limit, type_name: type_name.to_string(), shared: false }
}

fn queue() -> Target {
    target(Kind::Queue, "q", MOST)
}

impl World {
    /// Who calls, as a session may say: of tasks, one that runs.
    fn by(&mut self, id: SessionId) -> By {
        let Some(SessionEnd::Worker(worker)) = self.sessions.get(&id).map(|session| session.end) else {
            return By::default();
        };
        let running = self.fx.workers.get(&worker).map(|w| w.page.running.clone()).unwrap_or_default();
        let task = self.rng.choice(running).filter(|_| self.rng.u8(..) < 240);
        By { task, run: task.map(|task| u64::from(task.job.number) << 32 | u64::from(task.index)), thread: None }
    }

    fn call(&mut self, id: SessionId, target: Target, operation: Operation<Payload>, patience: Patience) {
        let by = self.by(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let ticket = session.calls.next;
        session.calls.next += 1;
        session.calls.open.insert(ticket, target.kind);
        let call = Call { target, operation, patience, by };
        self.ask(id, message::Request::Coordinate(Request::Call { ticket, call }));
    }

    /// A session does something with locks and so on, at random.
    pub(super) fn coordinate(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id).filter(|session| !session.closed) else { return };
        let (open, held) = (session.calls.open.keys().copied(), session.calls.leases.iter().copied());
        let (some_open, some_held) = (self.rng.choice(open), self.rng.choice(held));
        let pool = session.pool.clone();
        let patience =
            self.rng.choice([Patience::None, Patience::Blocking, Patience::Limited, Patience::Async]).unwrap();
        let value = |world: &mut Self| {
            world.items += 1;
            payload(&pool, world.items, world.rng.u8(..) < 60)
        };
        let (to, operation) = match (self.rng.u8(0..16), some_held, some_open) {
            (0..3, ..) => (target(Kind::Lock, ["a", "b", "c"][self.rng.usize(0..3)], 1), Operation::Acquire),
            (3, ..) => (target(Kind::Semaphore, "s", 2), Operation::Acquire),
            (4..6, ..) => (queue(), Operation::Put(value(self))),
            (6..8, ..) => (queue(), Operation::Get),
            (8, ..) => (target(Kind::Event, "e", 0), Operation::Wait),
            (9, ..) => {
                let operation = self.rng.choice([Operation::Set, Operation::Clear]).unwrap();
                (target(Kind::Event, "e", 0), operation)
            }
            (10, ..) => (target(Kind::Variable, "v", 0), Operation::Store(value(self))),
            (11, ..) => (target(Kind::Variable, "v", 0), Operation::Load),
            (12..15, Some(lease), _) => return self.let_lease_go(id, lease),
            (15, _, Some(ticket)) => {
                return self.ask(id, message::Request::Coordinate(Request::Forget { ticket }));
            }
            _ => return,
        };
        self.call(id, to, operation, patience);
    }

    fn let_lease_go(&mut self, id: SessionId, lease: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.calls.leases.remove(&lease);
        }
        self.ask(id, message::Request::Coordinate(Request::Release { lease, ticket: None }));
    }

    /// A session hears the answer to a call.
    pub(super) fn called(&mut self, id: SessionId, ticket: u64, answer: Answer<Payload>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(kind) = session.calls.open.remove(&ticket) else {
            assert!(session.closed, "{id:?} has not called, or has been answered before: {answer:?}");
            return;
        };
        match answer {
            Answer::Done if matches!(kind, Kind::Lock | Kind::Semaphore) => {
                session.calls.leases.insert(ticket);
                if self.ending {
                    self.let_lease_go(id, ticket);
                }
            }
            Answer::Item(item, place) => {
                let value = value_of(&item);
                assert!(self.given.insert(value), "{value} is given twice");
                // It came when nobody waited for it any more.
                if self.rng.u8(..) < 40 && !self.ending {
                    self.given.remove(&value);
                    let request = Request::PutBack { target: queue(), value: item, place, by: By::default() };
                    self.ask(id, message::Request::Coordinate(request));
                }
            }
            _ => {}
        }
    }

    /// Everybody lets go of what he has, and waits no more for what need not come; locks go from one to the next.
    pub(super) fn end_calls(&mut self) {
        self.ending = true;
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get(&id).filter(|session| !session.closed) else { continue };
            let leases: Vec<u64> = session.calls.leases.iter().copied().collect();
            let open = session.calls.open.iter();
            let others: Vec<u64> = open
                .filter(|(_, kind)| !matches!(kind, Kind::Lock | Kind::Semaphore))
                .map(|(ticket, _)| *ticket)
                .collect();
            leases.into_iter().for_each(|lease| self.let_lease_go(id, lease));
            for ticket in others {
                self.ask(id, message::Request::Coordinate(Request::Forget { ticket }));
            }
        }
    }

    /// What lies in queues and variables is taken away.
    pub(super) fn empty_queues(&mut self) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().filter(|id| !id.is_of_tasks()).collect();
        for id in ids {
            if self.sessions.get(&id).is_none_or(|session| session.closed) {
                continue;
            }
            // Items that were put back may be more than there is room for.
            for _ in 0..300 {
                self.call(id, queue(), Operation::Get, Patience::None);
            }
            self.call(id, target(Kind::Variable, "v", 0), Operation::Delete, Patience::None);
        }
    }
}
