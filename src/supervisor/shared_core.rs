//! The core behind its lock: a thread that takes the lock tells the core what has happened and carries out what follows.
//!
//! Messages leave with the core's lock released. A message to a worker may wake that worker on this processor, and its
//! answer would find the core taken. A message to the client in this process runs the client's own code. The lock
//! `notifying` keeps those messages in order; a thread takes it before the core's lock, never after it.

use super::core::Core;
use crate::ids::WorkerId;
use crate::message::ToSession;
use crate::remote::Remote;
use crate::supervisor::connection::Connection;
use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::sync::{Arc, Weak};

pub(crate) struct SharedCore {
    core: Mutex<Core>,
    notifying: Mutex<()>,
}

/// How much was left to read from a worker's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum ReadEnd {
    /// Everything that has come has been taken in.
    All,
    /// There may be more.
    More,
    /// There will be nothing more.
    End,
}

/// Connections to workers on which something waits to be sent.
pub(crate) type Unsent = smallvec::SmallVec<[(WorkerId, Arc<Connection>); 2]>;

impl SharedCore {
    pub(crate) fn new(core: Core) -> Arc<Self> {
        let shared_core = Arc::new(Self { core: Mutex::new(core), notifying: Mutex::new(()) });
        shared_core.core.lock().belongs_to(&shared_core);
        shared_core
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    /// The core, if nobody else has it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Core>> {
        self.core.try_lock()
    }

    /// Takes in what a worker has sent. Whether the actor must be called to do the rest.
    pub(in crate::supervisor) fn read(&self, worker: WorkerId) -> (ReadEnd, bool) {
        let mut core = self.core.lock();
        let read = core.read(worker);
        (read, self.conclude(core))
    }

    /// Sees to what follows from what the core has been told, and tells the client, unless another thread does so now.
    /// Whether the actor must be called to do the rest.
    pub(crate) fn conclude(&self, mut core: MutexGuard<'_, Core>) -> bool {
        core.settle();
        let turn = if core.has_outgoing() { self.notifying.try_lock() } else { None };
        let outgoing = if turn.is_some() { core.take_outgoing() } else { Vec::new() };
        let left = core.calls_actor();
        self.send_out(core);
        notify(outgoing);
        left
    }

    /// Releases the core and sends what it has to say to workers. Answers to whom.
    pub(crate) fn send_out(&self, mut core: MutexGuard<'_, Core>) -> Unsent {
        let unsent = core.take_unsent();
        drop(core);
        unsent.iter().for_each(|(_, connection)| connection.flush());
        unsent
    }

    /// Tells the client in this process all there is to tell it.
    pub(crate) fn notify_client(&self) {
        if !self.core.lock().has_outgoing() {
            return;
        }
        let _turn = self.notifying.lock();
        loop {
            let outgoing = self.core.lock().take_outgoing();
            if outgoing.is_empty() {
                return;
            }
            notify(outgoing);
        }
    }
}

thread_local! {
    static NOTIFYING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is notifying a client something, so that others wait for it to do so.
pub(in crate::supervisor) fn is_notifying() -> bool {
    NOTIFYING.get()
}

fn notify(outgoing: Vec<(Weak<Remote>, ToSession)>) {
    let before = NOTIFYING.replace(true);
    for (client, word) in outgoing {
        if let Some(client) = client.upgrade() {
            client.hear(word);
        }
    }
    NOTIFYING.set(before);
}
