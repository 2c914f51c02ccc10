//! The core behind its lock: whoever has that tells it what has happened, and then sees to what follows.
//!
//! What leaves the core does so with the lock released. Messages to workers: who is woken by one may be given this very
//! processor, and find the core taken. Word to the client in this process: its own code runs then. That has a lock of its
//! own, which keeps it in order; it is taken before the core's, never after it.

use super::core::Core;
use crate::cluster::link::Pipe;
use crate::ids::WorkerId;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

pub(in crate::cluster) struct Hub {
    core: Mutex<Core>,
    telling: Mutex<()>,
}

/// What there was to read from a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Read {
    /// Everything that has come has been taken in.
    All,
    /// There may be more.
    More,
    /// There will be nothing more.
    End,
}

/// Connections to workers on which something waits to be sent.
pub(super) type Unsent = smallvec::SmallVec<[(WorkerId, Arc<Pipe>); 2]>;

impl Hub {
    pub(super) fn new(core: Core) -> Arc<Self> {
        let hub = Arc::new(Self { core: Mutex::new(core), telling: Mutex::new(()) });
        hub.core.lock().belongs_to(&hub);
        hub
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    /// The core, if nobody else has it.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Core>> {
        self.core.try_lock()
    }

    /// Takes in what a worker has sent. Whether the actor must be called to do the rest.
    pub(in crate::cluster) fn read(&self, worker: WorkerId) -> (Read, bool) {
        let mut core = self.core.lock();
        let read = core.read(worker);
        (read, self.conclude(core))
    }

    /// Sees to what follows from what the core has been told, and tells the client. Whether something is left for the
    /// actor.
    pub(super) fn conclude(&self, mut core: MutexGuard<'_, Core>) -> bool {
        core.settle();
        let (left, news) = (core.needs_actor(), core.has_news());
        self.send_out(core);
        left || (news && !self.try_tell_client())
    }

    /// Releases the core and sends what it has to say to workers. Answers to whom.
    pub(super) fn send_out(&self, mut core: MutexGuard<'_, Core>) -> Unsent {
        let unsent = core.take_unsent();
        drop(core);
        unsent.iter().for_each(|(_, pipe)| pipe.flush());
        unsent
    }

    /// Tells the client in this process what there is to tell it.
    pub(super) fn tell_client(&self) {
        if self.core.lock().has_news() {
            self.tell(&self.telling.lock());
        }
    }

    /// The same, unless another thread is doing so: that may have seen all it is going to see.
    fn try_tell_client(&self) -> bool {
        self.telling.try_lock().map(|turn| self.tell(&turn)).is_some()
    }

    fn tell(&self, _: &MutexGuard<'_, ()>) {
        loop {
            let news = self.core.lock().take_news();
            if news.is_empty() {
                return;
            }
            for (client, word) in news {
                if let Some(client) = client.upgrade() {
                    client.hear(word);
                }
            }
        }
    }
}
