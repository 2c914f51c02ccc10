//! The supervisor actor: a thin shell around its [`Core`], to which it brings what happens.
//!
//! The core is behind a lock, and all it does in one go is short. So a client in the same process need not wait until the
//! actor's thread wakes up: where nobody else has the lock, it has its small requests seen to at once, by itself, up to
//! the message in the worker's socket. Who finds the lock taken leaves the request to the actor.

mod core;
mod messages;

pub(crate) use self::core::SessionEnd;
pub(crate) use crate::ids::ATTACHED_OWNERS;
pub(crate) use messages::{CloseSession, FromSocket, LookAt, OpenSession, RestartAll, ScaleTo, Stop, Word};
pub(super) use messages::{FromWorkers, WorkerEnded, WorkerGone, WorkerOutput};

use self::core::Core;
use super::link::Pipe;
use super::{Executable, Settings, Shared};
use crate::client::remote::Remote;
use crate::error::Result;
use crate::ids::SessionId;
use crate::message::Request;
use crate::task::image::{self, BuildId};
use actix::prelude::*;
use messages::Attend;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// The session of the client in the supervisor's own process.
pub(crate) const CLIENT: SessionId = SessionId(0);
/// Requests about so many tasks are seen to by the client's own thread. More are worth a thread beside it.
const FEW: usize = 256;

pub(crate) struct Supervisor {
    core: Arc<Mutex<Core>>,
    /// Whether the event loop ends with this actor.
    owns_system: bool,
}

impl Supervisor {
    /// Starts the worker processes; the actor comes later.
    pub(crate) fn new(settings: Settings, executable: Executable, shared: Shared) -> Result<Self> {
        let core = Core::new(settings, executable, image::build_id().clone(), shared)?;
        Ok(Self { core: Arc::new(Mutex::new(core)), owns_system: true })
    }

    /// The same in an event loop that goes on without it, for programs of that build.
    pub(crate) fn of_build(settings: Settings, executable: Executable, build: BuildId, shared: Shared) -> Result<Self> {
        let core = Core::new(settings, executable, build, shared)?;
        Ok(Self { core: Arc::new(Mutex::new(core)), owns_system: false })
    }

    /// Starts the actor; the answer is where the client in this process asks for things.
    pub(crate) fn open(self) -> Desk {
        let requests = self.core.lock().requests();
        let core = Arc::downgrade(&self.core);
        Desk { supervisor: self.start(), core, requests }
    }

    /// Does something with the core and sees to what follows from it.
    fn with<R>(&self, ctx: &mut Context<Self>, f: impl FnOnce(&mut Core, &mut Context<Self>) -> R) -> R {
        let mut core = self.core.lock();
        let result = f(&mut core, ctx);
        core.after(ctx);
        let (unsent, news) = (core.take_unsent(), core.take_news());
        drop(core);
        unsent.iter().for_each(Pipe::flush);
        for (client, word) in news {
            if let Some(client) = client.upgrade() {
                client.hear(word);
            }
        }
        result
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // A graph of a million tasks is one message, but a service may send many.
        ctx.set_mailbox_capacity(1 << 16);
        self.with(ctx, Core::begin);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.core.lock().end();
        if self.owns_system {
            System::current().stop();
        }
    }
}

/// Where a client asks for things whose supervisor is in the same process.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) supervisor: Addr<Supervisor>,
    /// It ends with the actor, whoever holds the client.
    core: Weak<Mutex<Core>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Desk {
    /// Says whom the answers are for. To be said before the first request.
    pub(crate) fn belongs_to(&self, client: &Arc<Remote>) {
        if let Some(core) = self.core.upgrade() {
            core.lock().open_session(CLIENT, SessionEnd::Here(Arc::downgrade(client)));
        }
    }

    /// Asks for something. Does not wait, and nothing is told to the client meanwhile: it may hold its own locks.
    pub(crate) fn ask(&self, request: Request) {
        let quick = is_quick(&request);
        let first = {
            let mut requests = self.requests.lock();
            requests.push(request);
            requests.len() == 1
        };
        // Who put the first one there sees to it that they are taken.
        if first && !(quick && self.serve()) {
            self.supervisor.do_send(Attend);
        }
    }

    /// Sees to what has been asked for, if nobody else has the core. `false`: something is left for the actor.
    fn serve(&self) -> bool {
        let Some(core) = self.core.upgrade() else { return true };
        let Some(mut core) = core.try_lock() else { return false };
        core.serve_client();
        core.settle();
        let (unsent, served) = (core.take_unsent(), !core.needs_actor());
        drop(core);
        unsent.iter().for_each(Pipe::flush);
        served
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
