//! What the supervisor is told.

use super::actor::Supervisor;
use super::core::{Core, SessionEnd};
use crate::error::{DeathCause, DeathRecord};
use crate::ids::{SessionId, WorkerId};
use crate::ipc::frame::Frame;
use crate::message::ToSession;
use crate::status::LogLine;
use crate::status::WorkerInfo;
use actix::prelude::*;

#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::supervisor) struct WorkerOutput {
    pub(in crate::supervisor) worker: WorkerId,
    pub(in crate::supervisor) stderr: bool,
    pub(in crate::supervisor) bytes: Vec<u8>,
}

/// Its process has ended; what is still in its pipes comes next.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::supervisor) struct WorkerEnded {
    pub(in crate::supervisor) worker: WorkerId,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::supervisor) struct WorkerGone {
    pub(in crate::supervisor) worker: WorkerId,
    pub(in crate::supervisor) cause: DeathCause,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OpenSession {
    pub(crate) session: SessionId,
    pub(crate) end: SessionEnd,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseSession(pub(crate) SessionId);

/// The client in this process has asked for something, or something was left to be done here.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::supervisor) struct Attend;

/// Word to a program that attached.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Word {
    /// How many of its tasks have been done since the last word.
    pub(crate) done: u64,
    pub(crate) word: ToSession,
}

/// Frames of a client behind a socket. The answer: whether they made sense.
#[derive(Message)]
#[rtype(result = "std::result::Result<(), String>")]
pub(crate) struct FromSocket {
    pub(crate) session: SessionId,
    pub(crate) frames: Vec<Frame>,
}

/// Stops the workers and then the actor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

/// What there is to see of a supervisor.
#[derive(Message)]
#[rtype(result = "Look")]
pub(crate) struct LookAt;

#[derive(MessageResponse)]
pub(crate) struct Look {
    pub(crate) workers: Vec<WorkerInfo>,
    pub(crate) deaths: Vec<DeathRecord>,
    pub(crate) logs: Vec<LogLine>,
}

/// Replaces all workers.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RestartAll;

/// Changes the number of workers.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ScaleTo(pub(crate) usize);

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReturnSegments;

impl Handler<Attend> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Attend, ctx: &mut Context<Self>) {
        self.with(ctx, |core, _| core.serve_client_if(|_| true));
    }
}

impl Handler<FromSocket> for Supervisor {
    type Result = std::result::Result<(), String>;

    fn handle(&mut self, msg: FromSocket, ctx: &mut Context<Self>) -> Self::Result {
        self.with(ctx, |core, _| msg.frames.into_iter().try_for_each(|frame| core.hear_session(msg.session, frame)))
    }
}

impl Handler<WorkerGone> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: WorkerGone, ctx: &mut Context<Self>) {
        self.with(ctx, |core, ctx| core.gone(msg.worker, msg.cause, ctx));
    }
}

impl Handler<WorkerOutput> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: WorkerOutput, ctx: &mut Context<Self>) {
        // The worker itself has not come to read it: nothing runs there, or it was cut off.
        self.with(ctx, |core, _| core.print_of_running(msg.worker, msg.stderr, &msg.bytes));
    }
}

impl Handler<WorkerEnded> for Supervisor {
    type Result = ();

    fn handle(&mut self, WorkerEnded { worker }: WorkerEnded, ctx: &mut Context<Self>) {
        self.with(ctx, |core, _| core.print_last_words(worker));
    }
}

impl Handler<OpenSession> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: OpenSession, ctx: &mut Context<Self>) {
        self.with(ctx, |core, _| core.open_session(msg.session, msg.end));
    }
}

impl Handler<CloseSession> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: CloseSession, ctx: &mut Context<Self>) {
        self.with(ctx, |core, _| core.close_session(msg.0));
    }
}

impl Handler<ReturnSegments> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: ReturnSegments, ctx: &mut Context<Self>) {
        self.with(ctx, |core, _| core.return_segments());
    }
}

impl Handler<Stop> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.with(ctx, Core::stop);
    }
}

impl Handler<LookAt> for Supervisor {
    type Result = Look;

    fn handle(&mut self, _: LookAt, _: &mut Context<Self>) -> Look {
        self.hub.lock().overview()
    }
}

impl Handler<RestartAll> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: RestartAll, ctx: &mut Context<Self>) {
        self.with(ctx, |core, _| core.restart());
    }
}

impl Handler<ScaleTo> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: ScaleTo, ctx: &mut Context<Self>) {
        self.with(ctx, |core, _| core.scale(msg.0));
    }
}
