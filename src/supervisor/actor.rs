//! The supervisor actor: a thin shell around its [`Core`], to which it brings what happens.
//!
//! The core is behind a lock, see [`shared_core`](super::shared_core), so that a client in the same process need not wait
//! until the actor's thread wakes up, see [`fast_path`](super::fast_path).

pub(crate) use super::fast_path::FastPath;
pub(crate) use super::messages::{
    CloseSession, Drain, ExplainTask, FindTasks, FromSocket, OpenSession, Remember, Replace, RestartAll, Retire,
    ScaleTo, SessionMessage, Snapshot, Stop, TellCounts, Unfinished,
};
pub(crate) use super::shared_core::Health;

use super::budget::BudgetShare;
use super::core::{Core, Program};
use super::effects::Effects;
use super::live_effects::LiveEffects;
use super::messages::Wake;
use super::shared_core::{ForActor, SharedCore, Turn};
use super::{Executable, SharedMemory};
use crate::error::{Error, Result};
use crate::settings::Settings;
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
        Self::start_workers(settings, executable, image::build_id().clone(), shared, true)
    }

    /// The same in an event loop that goes on without it, for programs of that build.
    pub(crate) fn of_build(
        settings: Settings,
        executable: Executable,
        build: BuildId,
        shared: SharedMemory,
    ) -> Result<Self> {
        Self::start_workers(settings, executable, build, shared, false)
    }

    fn start_workers(
        mut settings: Settings,
        executable: Executable,
        build: BuildId,
        shared: SharedMemory,
        owns_system: bool,
    ) -> Result<Self> {
        let program = Program {
            build,
            is_own: matches!(executable, Executable::Own),
            pages: shared.pages.clone(),
            supervisor_page: shared.page.name().clone(),
        };
        let share = shared.budget.as_ref().zip(settings.memory_limit).map(|(budget, each)| budget.share(each));
        let share = share.map(|share| start_within(share, &mut settings)).transpose()?;
        let effects = LiveEffects::new(&settings, executable, shared);
        let core = Core::new(settings, program, share, effects.now());
        let shared_core = SharedCore::new(core, effects);
        shared_core.start()?;
        Ok(Self { shared_core, owns_system })
    }

    /// Starts the actor; the answer is where the client in this process asks for things.
    pub(crate) fn open(self) -> FastPath {
        let shared_core = Arc::clone(&self.shared_core);
        FastPath::new(self.start(), &shared_core)
    }

    pub(crate) fn health(&self) -> Health {
        Health::of(&self.shared_core)
    }

    /// Does something with the core and sees to what follows from it. None: the core has panicked, now or before.
    pub(super) fn with<R>(
        &self,
        ctx: &mut Context<Self>,
        f: impl FnOnce(&mut Core, &mut LiveEffects) -> R,
    ) -> Option<R> {
        self.turn(ctx, |turn| turn.with(f)).flatten()
    }

    /// Takes a turn at the core and sees to what follows from it. None: there has been a panic beside the core.
    pub(super) fn turn<R>(&self, ctx: &mut Context<Self>, f: impl FnOnce(&mut Turn<'_>) -> R) -> Option<R> {
        let shared_core = &self.shared_core;
        let done = shared_core.around(|| {
            let mut turn = shared_core.turn();
            let result = f(&mut turn);
            (result, turn.conclude_actor())
        });
        let (result, left) = match done {
            Some((result, left)) => (Some(result), left),
            None => (None, shared_core.turn().conclude_actor()),
        };
        self.conclude(left, ctx);
        result
    }

    fn conclude(&self, left: ForActor, ctx: &mut Context<Self>) {
        for (after, timer) in left.timers {
            ctx.run_later(after, move |supervisor, ctx| {
                supervisor.with(ctx, |core, effects| core.timer(timer, effects));
            });
        }
        if left.stop {
            ctx.stop();
        }
        if self.shared_core.around(|| self.shared_core.notify_client()).is_none() {
            // In another turn the client is told of the panic.
            ctx.notify(Wake);
        }
    }
}

/// Takes a share of the budget for the workers there are to be, or for as many as there is room for.
fn start_within(mut share: BudgetShare, settings: &mut Settings) -> Result<BudgetShare> {
    let workers = settings.workers.min(share.room()).max(1);
    share.set(workers).map_err(|reason| Error::Resource {
        resource: "memory for workers".to_string(),
        reason: format!("{reason}; wait until another program has left, or start the cluster with more"),
    })?;
    settings.workers = workers;
    settings.tags.truncate(workers);
    Ok(share)
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // A graph of a million tasks is one message, but a service may send many.
        ctx.set_mailbox_capacity(1 << 16);
        let supervisor = ctx.address();
        self.turn(ctx, |turn| turn.effects().begin(supervisor));
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.shared_core.turn().effects().unlink_pages();
        if self.owns_system {
            System::current().stop();
        }
    }
}
