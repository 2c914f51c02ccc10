//! The supervisor actor: a thin shell around its [`Core`], to which it brings what happens.
//!
//! The core is behind a lock, see [`shared_core`](super::shared_core), so that a client in the same process need not wait
//! until the actor's thread wakes up, see [`fast_path`](super::fast_path).

pub(crate) use crate::supervisor::core::SessionEnd;
pub(crate) use crate::supervisor::fast_path::FastPath;
pub(crate) use crate::supervisor::messages::{
    CloseSession, FromSocket, OpenSession, RestartAll, ScaleTo, SessionMessage, Snapshot, Stop,
};
pub(super) use crate::supervisor::messages::{ProcessEnded, Wake, WorkerEnded, WorkerOutput};
pub(super) use crate::supervisor::shared_core::{ReadEnd, SharedCore, is_notifying};

use super::{Executable, SharedMemory};
use crate::error::Result;
use crate::settings::Settings;
use crate::supervisor::core::Core;
use crate::task::image;
use crate::task::image::BuildId;
use actix::prelude::*;
use std::sync::Arc;

pub(crate) struct Supervisor {
    pub(super) shared_core: Arc<SharedCore>,
    /// Whether the event loop ends with this actor.
    owns_system: bool,
}

impl Supervisor {
    /// Starts the worker processes; the actor comes later.
    pub(crate) fn new(settings: Settings, executable: Executable, shared: SharedMemory) -> Result<Self> {
        let core = Core::new(settings, executable, image::build_id().clone(), shared)?;
        Ok(Self { shared_core: SharedCore::new(core), owns_system: true })
    }

    /// The same in an event loop that goes on without it, for programs of that build.
    pub(crate) fn of_build(
        settings: Settings,
        executable: Executable,
        build: BuildId,
        shared: SharedMemory,
    ) -> Result<Self> {
        let core = Core::new(settings, executable, build, shared)?;
        Ok(Self { shared_core: SharedCore::new(core), owns_system: false })
    }

    /// Starts the actor; the answer is where the client in this process asks for things.
    pub(crate) fn open(self) -> FastPath {
        let shared_core = Arc::clone(&self.shared_core);
        FastPath::new(self.start(), &shared_core)
    }

    /// Does something with the core and sees to what follows from it.
    pub(super) fn with<R>(&self, ctx: &mut Context<Self>, f: impl FnOnce(&mut Core, &mut Context<Self>) -> R) -> R {
        let mut core = self.shared_core.lock();
        let result = f(&mut core, ctx);
        core.after(ctx);
        self.shared_core.send_out(core);
        self.shared_core.notify_client();
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
        self.shared_core.lock().end();
        if self.owns_system {
            System::current().stop();
        }
    }
}
