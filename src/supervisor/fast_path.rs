//! Where a client asks for things whose supervisor is in the same process.
//!
//! To be woken by the kernel takes a thread some microseconds, as long as everything else about a small task. So the
//! client's thread does for itself what it would wake the actor for, where nobody else has the core: it brings its request
//! as far as the worker's socket, and while it looks for the answer, it looks into that socket, too.

use super::actor::Supervisor;
use super::core::SessionEnd;
use super::messages::Attend;
use super::shared_core::Hub;
use crate::ids::SessionId;
use crate::ids::WorkerId;
use crate::message::Request;
use crate::remote::Remote;
use crate::supervisor::worker_link::Pipe;
use actix::Addr;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// Requests about so many tasks are seen to by the client's own thread. More are worth a thread beside it.
const FEW: usize = 256;

pub(crate) struct Desk {
    pub(crate) supervisor: Addr<Supervisor>,
    /// Goes with the actor, whoever holds the client.
    hub: Weak<Hub>,
    /// What has not been seen to, in order.
    requests: Arc<Mutex<Vec<Request>>>,
    /// The worker that was sent something last from here.
    asked: Mutex<Option<(WorkerId, Weak<Pipe>)>>,
}

impl Desk {
    pub(crate) fn new(supervisor: Addr<Supervisor>, hub: &Arc<Hub>) -> Self {
        Self { supervisor, hub: Arc::downgrade(hub), requests: hub.lock().requests(), asked: Mutex::default() }
    }

    /// Says whom the answers are for. To be said before the first request.
    pub(crate) fn belongs_to(&self, client: &Arc<Remote>) {
        if let Some(hub) = self.hub.upgrade() {
            hub.lock().open_session(SessionId::CLIENT, SessionEnd::Here(Arc::downgrade(client)));
        }
    }

    /// Asks for something. Does not wait, and nothing is told to the client meanwhile: it may hold its own locks.
    pub(crate) fn ask(&self, request: Request) {
        let first = {
            let mut requests = self.requests.lock();
            requests.push(request);
            requests.len() == 1
        };
        // Who put the first one there sees to it that they are taken.
        if first && !self.serve() {
            self.supervisor.do_send(Attend);
        }
    }

    /// Sees to what has been asked for, if that is little and nobody else has the core. `false`: something is left for the
    /// actor.
    fn serve(&self) -> bool {
        let Some(hub) = self.hub.upgrade() else { return true };
        let Some(mut core) = hub.try_lock() else { return false };
        if !core.serve_client_if(|requests| requests.iter().all(is_quick)) {
            return false;
        }
        core.settle();
        let left = core.calls_actor();
        if let Some((worker, pipe)) = hub.send_out(core).pop() {
            *self.asked.lock() = Some((worker, Arc::downgrade(&pipe)));
        }
        !left
    }

    /// Looks whether the worker that was asked last has answered, and takes that in. For a thread of the client that holds
    /// none of its locks.
    pub(crate) fn look(&self) {
        let Some((worker, pipe)) = self.asked.lock().clone() else { return };
        if !pipe.upgrade().is_some_and(|pipe| pipe.has_something()) {
            return;
        }
        let Some(hub) = self.hub.upgrade() else { return };
        let Some(mut core) = hub.try_lock() else { return };
        core.read(worker);
        if hub.conclude(core) {
            self.supervisor.do_send(Attend);
        }
    }
}

fn is_quick(request: &Request) -> bool {
    let tasks = match request {
        Request::Submit { spec, .. } => spec.len(),
        Request::Release { outputs, .. }
        | Request::Cancel { outputs, .. }
        | Request::Deliver { outputs, .. }
        | Request::Retry { outputs, .. } => outputs.len(),
        Request::Grow { .. } | Request::Released(_) | Request::Ask { .. } => return false,
    };
    tasks <= FEW
}
