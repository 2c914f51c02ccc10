//! The core behind its lock: whoever has that tells it what has happened, and then sees to what follows.
//!
//! What leaves the core does so with the lock released. Messages to workers: who is woken by one may be given this very
//! processor, and find the core taken. Word to the client in this process: its own code runs then. That has a lock of its
//! own, which keeps it in order; it is waited for before the core's, never after it.

use super::core::Core;
use crate::ids::WorkerId;
use crate::message::ToSession;
use crate::remote::Remote;
use crate::supervisor::worker_link::Pipe;
use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::sync::{Arc, Weak};

pub(crate) struct Hub {
    core: Mutex<Core>,
    telling: Mutex<()>,
}

/// What there was to read from a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Read {
    /// Everything that has come has been taken in.
    All,
    /// There may be more.
    More,
    /// There will be nothing more.
    End,
}

/// Connections to workers on which something waits to be sent.
pub(crate) type Unsent = smallvec::SmallVec<[(WorkerId, Arc<Pipe>); 2]>;

impl Hub {
    pub(crate) fn new(core: Core) -> Arc<Self> {
        let hub = Arc::new(Self { core: Mutex::new(core), telling: Mutex::new(()) });
        hub.core.lock().belongs_to(&hub);
        hub
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    /// The core, if nobody else has it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Core>> {
        self.core.try_lock()
    }

    /// Takes in what a worker has sent. Whether the actor must be called to do the rest.
    pub(in crate::supervisor) fn read(&self, worker: WorkerId) -> (Read, bool) {
        let mut core = self.core.lock();
        let read = core.read(worker);
        (read, self.conclude(core))
    }

    /// Sees to what follows from what the core has been told, and tells the client, unless another thread does so now.
    /// Whether the actor must be called to do the rest.
    pub(crate) fn conclude(&self, mut core: MutexGuard<'_, Core>) -> bool {
        core.settle();
        let turn = if core.has_news() { self.telling.try_lock() } else { None };
        let news = if turn.is_some() { core.take_news() } else { Vec::new() };
        let left = core.calls_actor();
        self.send_out(core);
        tell(news);
        left
    }

    /// Releases the core and sends what it has to say to workers. Answers to whom.
    pub(crate) fn send_out(&self, mut core: MutexGuard<'_, Core>) -> Unsent {
        let unsent = core.take_unsent();
        drop(core);
        unsent.iter().for_each(|(_, pipe)| pipe.flush());
        unsent
    }

    /// Tells the client in this process all there is to tell it.
    pub(crate) fn tell_client(&self) {
        if !self.core.lock().has_news() {
            return;
        }
        let _turn = self.telling.lock();
        loop {
            let news = self.core.lock().take_news();
            if news.is_empty() {
                return;
            }
            tell(news);
        }
    }
}

thread_local! {
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is telling a client something, so that others wait for it to do so.
pub(in crate::supervisor) fn is_telling() -> bool {
    TELLING.get()
}

fn tell(news: Vec<(Weak<Remote>, ToSession)>) {
    let before = TELLING.replace(true);
    for (client, word) in news {
        if let Some(client) = client.upgrade() {
            client.receive(word);
        }
    }
    TELLING.set(before);
}
