//! The core behind its lock: a thread that takes the lock tells the core what has happened and carries out what follows.
//!
//! Messages leave with the core's lock released. A message to a worker may wake that worker on this processor, and its
//! answer would find the core taken. A message to the client in this process runs the client's own code. The lock
//! `notifying` keeps those messages in order; a thread takes it before the core's lock, never after it.
//!
//! # A panic in the core
//! [`Turn::with`] is the only door to the core, for the actor's thread and for the client's threads that do the actor's
//! work. It catches a panic there, as [`SharedCore::around`] does one beside it: what the core knows may be half changed then, so nobody uses it any more. The workers are
//! killed, all sessions are told `Closed` with the panic's text, also those that are opened later, and the actor stops when
//! the last worker has ended. The thread goes on, whoever's it is. The program's panic hook is not run: it is its own code,
//! and the lock is held; what it would tell is logged.

use super::connection::{Received, Unreadable};
use super::core::{Borrower, Core, Loans, SessionEnd, owner_of};
use super::effects::{Effects, Timer};
use super::live_effects::{LiveEffects, Outgoing, PendingSends};
use super::messages::SessionMessage;
use super::most_memory_files;
use crate::error::{Error, Result};
use crate::host::report;
use crate::ids::{ATTACHED_OWNERS, SessionId, WorkerId};
use crate::ipc::frame::Frame;
use crate::ipc::segment::listing::{ListedFile, ListedSegment};
use crate::ipc::segment::{Arrival, Attachments, Segment, SegmentError};
use crate::message;
use crate::message::{FromWorker, Opened, Receive, Request, ToSession};
use crate::remote::Remote;
use crate::submission::waiter::telling;
use crate::task::call::{Fault, guarded};
use actix::Recipient;
use parking_lot::{Mutex, MutexGuard};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// To read a request of more bytes takes longer than others are to wait, a millisecond.
const LARGE: usize = 256 << 10;

pub(super) const PANICKED: &str = "the supervisor panicked";

pub(crate) struct SharedCore {
    state: Mutex<State>,
    notifying: Mutex<()>,
    /// What the client in this process has asked for and nobody has served, in order.
    requests: Mutex<Vec<Request>>,
}

struct State {
    core: Core,
    effects: LiveEffects,
    /// The core has panicked, and what sessions are told of that.
    broken: Option<String>,
    /// The actor has been called to do what nobody else can, and has not come yet.
    called: bool,
}

/// A thread's turn at the core.
pub(super) struct Turn<'a> {
    shared: &'a SharedCore,
    state: MutexGuard<'a, State>,
}

/// What a turn has left to the actor.
#[derive(Default)]
pub(super) struct ForActor {
    pub(super) timers: Vec<(Duration, Timer)>,
    pub(super) stop: bool,
}

/// How much was left to read from a worker's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// Everything that has come has been taken in.
    All,
    /// There may be more.
    More,
    /// There will be nothing more.
    End,
}

impl SharedCore {
    pub(super) fn new(core: Core, effects: LiveEffects) -> Arc<Self> {
        let state = State { core, effects, broken: None, called: false };
        let shared = Arc::new(Self { state: Mutex::new(state), notifying: Mutex::new(()), requests: Mutex::default() });
        shared.state.lock().effects.belongs_to(&shared);
        shared
    }

    /// Starts the workers; all of them, or there is an error.
    pub(super) fn start(&self) -> Result<()> {
        let mut turn = self.turn();
        let panicked =
            || Err(Error::Spawn { reason: "the supervisor panicked while it started its workers".to_string() });
        let started = turn.with(Core::start).unwrap_or_else(panicked);
        if started.is_err() {
            turn.state.effects.undo_start();
        }
        started
    }

    pub(super) fn turn(&self) -> Turn<'_> {
        Turn { shared: self, state: self.state.lock() }
    }

    /// A turn, if no other thread has the core.
    fn try_turn(&self) -> Option<Turn<'_>> {
        Some(Turn { shared: self, state: self.state.try_lock()? })
    }

    /// The client in this process is this one. The answer: whether the actor must be called to do the rest.
    pub(super) fn open_client(&self, client: &Arc<Remote>) -> bool {
        let left = {
            let mut turn = self.turn();
            turn.state.effects.open_client(client);
            match turn.state.broken.clone() {
                Some(reason) => turn.state.effects.close_client(reason),
                None => {
                    turn.with(|core, effects| core.open_session(SessionId::CLIENT, SessionEnd::Client, effects));
                }
            }
            turn.calls_actor()
        };
        self.notify_client();
        left
    }

    /// Puts a request of the client in this process behind those that wait to be served; how many these are then.
    pub(super) fn push_request(&self, request: Request) -> usize {
        let mut requests = self.requests.lock();
        requests.push(request);
        requests.len()
    }

    /// Whether the client in this process has asked for something that nobody has served.
    pub(super) fn has_requests(&self) -> bool {
        !self.requests.lock().is_empty()
    }

    /// Serves what the client in this process has asked for, if it suits and no other thread has the core. Nothing is told
    /// to the client, so that its thread may hold its locks. The answer: whether the actor need not be called, and where
    /// a message has been sent last.
    pub(super) fn try_serve(&self, suits: impl FnOnce(&[Request]) -> bool) -> (bool, PendingSends) {
        let Some(mut turn) = self.try_turn() else { return (false, PendingSends::new()) };
        let served = turn.with(|core, effects| {
            let served = self.serve(core, effects, suits);
            if served {
                core.settle(effects);
            }
            served
        });
        if served == Some(false) {
            return (false, PendingSends::new());
        }
        let left = turn.calls_actor();
        (!left, turn.send_out())
    }

    /// The same, and tells the client what there is to tell it, so that its thread must not hold its locks. The answer:
    /// whether the actor must be called to do the rest; none, where nothing was done.
    pub(super) fn try_serve_and_tell(&self, suits: impl FnOnce(&[Request]) -> bool) -> Option<bool> {
        let mut turn = self.try_turn()?;
        let served = turn.with(|core, effects| {
            let served = self.serve(core, effects, suits);
            if served {
                core.settle(effects);
            }
            served
        });
        if served == Some(false) {
            return None;
        }
        Some(self.around(|| turn.conclude()).unwrap_or(true))
    }

    /// Serves what the client in this process has asked for, if it suits. The thread that has the core serves all of it, so
    /// that it is served in its order.
    pub(super) fn serve(
        &self,
        core: &mut Core,
        effects: &mut LiveEffects,
        suits: impl FnOnce(&[Request]) -> bool,
    ) -> bool {
        let requests = {
            let mut requests = self.requests.lock();
            if !suits(&requests) {
                return false;
            }
            std::mem::take(&mut *requests)
        };
        requests.into_iter().for_each(|request| core.request(SessionId::CLIENT, request, effects));
        true
    }

    /// Takes in what a worker has sent, and sees to what follows. The second answer: whether the actor must be called to do
    /// the rest.
    pub(super) fn read(&self, worker: WorkerId) -> (ReadEnd, bool) {
        self.around(|| self.turn().read(worker)).unwrap_or((ReadEnd::End, true))
    }

    /// The same, if no other thread has the core.
    pub(super) fn try_read(&self, worker: WorkerId) -> Option<(ReadEnd, bool)> {
        let turn = self.try_turn()?;
        Some(self.around(|| turn.read(worker)).unwrap_or((ReadEnd::End, true)))
    }

    /// Does what a thread does around the core. A panic there breaks off as one in the core does: what the thread was about to
    /// tell or send is lost. None: it has panicked, and the actor must be called.
    pub(super) fn around<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        guarded(|| Ok(f())).map_err(|fault| self.turn().break_off(fault)).ok()
    }

    /// Tells the client in this process all there is to tell it.
    pub(super) fn notify_client(&self) {
        if !self.state.lock().effects.has_outgoing() {
            return;
        }
        let _turn = self.notifying.lock();
        loop {
            let outgoing = self.state.lock().effects.take_outgoing();
            if outgoing.is_empty() {
                return;
            }
            notify(outgoing);
        }
    }
}

/// Tells whether the core of a supervisor is of use, for those who bring it sessions.
pub(crate) struct Health(Weak<SharedCore>);

impl Health {
    pub(super) fn of(shared_core: &Arc<SharedCore>) -> Self {
        Self(Arc::downgrade(shared_core))
    }

    /// It has neither panicked nor gone with its actor.
    pub(crate) fn is_sound(&self) -> bool {
        self.0.upgrade().is_some_and(|shared_core| shared_core.state.lock().broken.is_none())
    }
}

impl Turn<'_> {
    /// Does something with the core. None: it has panicked, now or before.
    pub(super) fn with<R>(&mut self, f: impl FnOnce(&mut Core, &mut LiveEffects) -> R) -> Option<R> {
        let State { core, effects, broken, .. } = &mut *self.state;
        if broken.is_some() {
            return None;
        }
        match guarded(|| Ok(f(core, effects))) {
            Ok(result) => Some(result),
            Err(fault) => {
                self.break_off(fault);
                None
            }
        }
    }

    /// The supervisor has panicked, and nobody uses the core any more.
    fn break_off(&mut self, fault: Fault) {
        let State { effects, broken, .. } = &mut *self.state;
        let reason = match fault {
            Fault::Panic { message, location, backtrace } => {
                report!(Error, "the supervisor panicked at {location}: {message}\n{backtrace}");
                format!("the supervisor panicked: {message} (at {location})")
            }
            other => format!("the supervisor failed: {other}"),
        };
        effects.break_off(&reason);
        *broken = Some(reason);
    }

    /// What is known only here of workers and sessions.
    pub(super) fn effects(&mut self) -> &mut LiveEffects {
        &mut self.state.effects
    }

    /// A program has come, whose socket that actor owns.
    pub(super) fn open_session(&mut self, session: SessionId, link: Recipient<SessionMessage>) {
        if let Some(reason) = self.state.broken.clone() {
            // Those that were there have been told.
            let message = ToSession::Closed { reason, unstarted: false };
            return link.do_send(SessionMessage(message));
        }
        self.state.effects.open_link(session, link);
        self.with(|core, effects| core.open_session(session, SessionEnd::Attached, effects));
    }

    /// Takes in frames of a program behind a socket, as far as none of them is large. An error ends its session.
    pub(super) fn read_session(
        &mut self,
        session: SessionId,
        frames: &mut dyn Iterator<Item = Frame>,
    ) -> std::result::Result<Option<Opened>, String> {
        let read = self.with(|core, effects| {
            for frame in frames {
                let opened = open_request(core.loans(), &effects.attachments, session, frame)?;
                if opened.len() > LARGE {
                    return Ok(Some(opened));
                }
                core.request(session, opened.read().map_err(|e| e.to_string())?, effects);
            }
            Ok(None)
        });
        read.unwrap_or_else(|| Err(PANICKED.to_string()))
    }

    /// Takes in a request that has been read, unless its session has ended meanwhile. None: the core has panicked.
    pub(super) fn take_request(&mut self, session: SessionId, request: Request) -> Option<()> {
        self.with(|core, effects| {
            if core.has_session(session) {
                core.request(session, request, effects);
            }
        })
    }

    fn read(mut self, worker: WorkerId) -> (ReadEnd, bool) {
        let read = self.with(|core, effects| {
            let read = read(core, effects, worker);
            core.settle(effects);
            read
        });
        (read.unwrap_or(ReadEnd::End), self.conclude())
    }

    /// Ends the turn of a thread that is not the actor's: tells the client what there is to tell it, unless another thread
    /// does so now. The answer: whether the actor must be called to do the rest.
    fn conclude(mut self) -> bool {
        let shared = self.shared;
        let outgoing = self.state.effects.has_outgoing();
        let turn = if outgoing { shared.notifying.try_lock() } else { None };
        let outgoing = if turn.is_some() { self.state.effects.take_outgoing() } else { Vec::new() };
        let left = self.calls_actor();
        self.send_out();
        notify(outgoing);
        left
    }

    /// Ends a turn of the actor. The answer is what it has to do besides.
    pub(super) fn conclude_actor(mut self) -> ForActor {
        self.state.called = self.state.broken.is_some();
        self.with(Core::after);
        let effects = &mut self.state.effects;
        let left = ForActor { timers: effects.take_timers(), stop: effects.is_stopping() };
        self.send_out();
        left
    }

    /// The process of a worker has ended. If the core has panicked, nobody else will see to that.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        let State { effects, broken, .. } = &mut *self.state;
        if broken.is_some() {
            effects.forget(worker);
            if !effects.has_workers() {
                effects.stop();
            }
        }
    }

    /// Whether the actor must be called, which has not been before, to do what is left.
    fn calls_actor(&mut self) -> bool {
        let state = &mut *self.state;
        let left = state.broken.is_some() || state.effects.has_outgoing() || state.core.needs_actor();
        left && !std::mem::replace(&mut state.called, true)
    }

    /// Releases the core and sends the messages to workers. The answer is where to.
    fn send_out(mut self) -> PendingSends {
        let pending = self.state.effects.take_pending();
        drop(self);
        pending.iter().for_each(|(_, connection)| connection.flush());
        pending
    }
}

/// Takes in what a worker has sent.
fn read(core: &mut Core, effects: &mut LiveEffects, worker: WorkerId) -> ReadEnd {
    let Some(live) = effects.worker_mut(worker) else { return ReadEnd::End };
    let (frames, read) = match live.connection.take(&mut live.decoder) {
        Ok(Received::Frames { frames, all }) => (frames, if all { ReadEnd::All } else { ReadEnd::More }),
        Ok(Received::Nothing) => return ReadEnd::All,
        Ok(Received::End) => {
            // Other readers are to see the same.
            live.connection.close();
            return ReadEnd::End;
        }
        Err(e) => return misunderstood(core, effects, worker, e),
    };
    for frame in frames {
        if !frame.fds.is_empty() {
            // The limit of descriptors may have been changed since the start.
            effects.shared.ledger.set_most_files(most_memory_files());
        }
        let message = decode_from_worker(core.loans(), &effects.attachments, worker, frame);
        let received = message.and_then(|message| core.receive(worker, message, effects).map_err(Unreadable::broken));
        if let Err(why) = received {
            return misunderstood(core, effects, worker, why);
        }
    }
    read
}

fn misunderstood(core: &mut Core, effects: &mut LiveEffects, worker: WorkerId, why: Unreadable) -> ReadEnd {
    if let Some(live) = effects.worker_mut(worker) {
        live.connection.close();
    }
    match why.is_ours {
        true => core.unheard(worker, why.reason, why.lasting, effects),
        false => core.misunderstood(worker, why.reason, effects),
    }
    ReadEnd::End
}

/// Decodes a message of a worker, and maps the segments that it brings.
pub(super) fn decode_from_worker(
    loans: &Loans,
    attachments: &Attachments,
    worker: WorkerId,
    frame: Frame,
) -> std::result::Result<FromWorker, Unreadable> {
    let (borrower, owner) = (Borrower::Worker(worker), owner_of(worker));
    let mut from = FromBorrower { loans, borrower, owner, arrival: attachments.arrival(), lacking: None };
    let message = message::decode(frame, &mut from);
    message.map_err(|e| match from.lacking {
        Some(e) => Unreadable { reason: e.to_string(), is_ours: true, lasting: true },
        None => Unreadable::broken(e),
    })
}

/// Maps the segments that a request of an attached program brings.
pub(super) fn open_request(
    loans: &Loans,
    attachments: &Attachments,
    session: SessionId,
    frame: Frame,
) -> std::result::Result<Opened, String> {
    let (borrower, owner) = (Borrower::Session(session), ATTACHED_OWNERS + session.0);
    let mut from = FromBorrower { loans, borrower, owner, arrival: attachments.arrival(), lacking: None };
    message::open(frame, &mut from).map_err(|e| e.to_string())
}

/// Takes in the segments of somebody who may send its own, and those that it was lent.
struct FromBorrower<'a> {
    loans: &'a Loans,
    borrower: Borrower,
    /// The number under which it makes segments.
    owner: u32,
    arrival: Arrival<'a>,
    /// What of it this process has no address space for.
    lacking: Option<SegmentError>,
}

impl Receive for FromBorrower<'_> {
    fn file(&mut self, listed: ListedFile, fd: OwnedFd) -> std::result::Result<(), String> {
        if listed.id.owner != self.owner {
            return Err(format!("memory file {} is not its own", listed.id));
        }
        Receive::file(&mut self.arrival, listed, fd)
    }

    fn segment(&mut self, listed: ListedSegment) -> std::result::Result<Arc<Segment>, String> {
        match listed.id.owner == self.owner {
            true => self.arrival.segment(listed).map_err(|e| {
                let reason = e.to_string();
                self.lacking = Some(e).filter(|e| matches!(e, SegmentError::AddressSpace { .. }));
                reason
            }),
            false => self.loans.held(self.borrower, listed.id),
        }
    }
}

fn notify(outgoing: Outgoing) {
    telling(|| {
        for (client, message) in outgoing {
            if let Some(client) = client.upgrade() {
                client.receive(message);
            }
        }
    });
}
