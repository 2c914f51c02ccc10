//! The messages to the supervisor actor, and how it handles each.

use super::actor::Supervisor;
use super::core::{Core, Overview};
use super::shared_core::PANICKED;
use crate::error::DeathCause;
use crate::events::sources::RunSources;
use crate::host::report;
use crate::ids::{JobId, SessionId, TaskId, WorkerId};
use crate::ipc::frame::Frame;
use crate::job::explained::{Explained, FindFrom, Found};
use crate::message::{Opened, Request, ToSession};
use crate::scheduler::{Prepared, SubmitError};
use crate::task::call::guarded;
use actix::prelude::*;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use swath_insight::explain::KeyPrefix;

#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::supervisor) struct WorkerOutput {
    pub(in crate::supervisor) worker: WorkerId,
    pub(in crate::supervisor) stderr: bool,
    pub(in crate::supervisor) bytes: Vec<u8>,
}

/// A worker's process has ended; what is still in its pipes comes next.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::supervisor) struct ProcessEnded {
    pub(in crate::supervisor) worker: WorkerId,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::supervisor) struct WorkerEnded {
    pub(in crate::supervisor) worker: WorkerId,
    pub(in crate::supervisor) cause: DeathCause,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OpenSession {
    pub(crate) session: SessionId,
    /// The actor that owns its socket.
    pub(crate) link: Recipient<SessionMessage>,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseSession(pub(crate) SessionId);

/// The client in this process has made a request, or another thread has left something that only the actor can do.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::supervisor) struct Wake;

/// A message to a program that attached.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SessionMessage(pub(crate) ToSession);

/// Frames of a client behind a socket. The answer is an error if they cannot be decoded.
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

/// Tells the recording how the tasks are counted.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TellCounts;

/// Gives to a recording that there is not all that is remembered.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Remember(pub(crate) Arc<RunSources>);

/// Asks for an overview of a supervisor's workers. None: its core has panicked.
#[derive(Message)]
#[rtype(result = "Option<Overview>")]
pub(crate) struct Snapshot;

/// Why a task is where it is. None: the core has panicked.
#[derive(Message)]
#[rtype(result = "Option<Explained>")]
pub(crate) struct ExplainTask(pub(crate) TaskId);

/// One part of a search for tasks whose keys begin so. None: the core has panicked.
#[derive(Message)]
#[rtype(result = "Option<Found>")]
pub(crate) struct FindTasks {
    pub(crate) prefix: KeyPrefix,
    pub(crate) from: FindFrom,
}

/// Replaces all workers.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RestartAll;

/// Retires workers. None: the core has panicked.
#[derive(Message)]
#[rtype(result = "Option<std::result::Result<(), String>>")]
pub(crate) struct Retire(pub(crate) Vec<String>);

/// Replaces a worker: in order, or after that time by force. None: the core has panicked.
#[derive(Message)]
#[rtype(result = "Option<std::result::Result<(), String>>")]
pub(crate) struct Replace {
    pub(crate) worker: String,
    pub(crate) within: Duration,
}

/// Takes no more graphs of programs.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain;

/// How many tasks are still to be done. None: the core has panicked.
#[derive(Message)]
#[rtype(result = "Option<u64>")]
pub(crate) struct Unfinished;

/// Changes the number of workers.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ScaleTo(pub(crate) usize);

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReturnSegments;

/// A large graph has been prepared, or is refused.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::supervisor) struct PreparedJob {
    pub(in crate::supervisor) job: JobId,
    pub(in crate::supervisor) prepared: Result<Prepared, SubmitError>,
}

impl Handler<Wake> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        let shared_core = &self.shared_core;
        self.with(ctx, |core, effects| shared_core.serve(core, effects, |_| true));
    }
}

impl Handler<FromSocket> for Supervisor {
    type Result = ResponseActFuture<Self, std::result::Result<(), String>>;

    fn handle(&mut self, FromSocket { session, frames }: FromSocket, ctx: &mut Context<Self>) -> Self::Result {
        self.read_session(session, frames.into_iter(), ctx)
    }
}

impl Supervisor {
    /// Takes in the frames one after the other; a large one is read by another thread, and the rest waits for that.
    fn read_session(
        &self,
        session: SessionId,
        mut frames: std::vec::IntoIter<Frame>,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, std::result::Result<(), String>> {
        let read = self.turn(ctx, |turn| turn.read_session(session, &mut frames));
        let opened = match read.unwrap_or_else(|| Err(PANICKED.to_string())) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Box::pin(fut::ready(Ok(()))),
            Err(reason) => return Box::pin(fut::ready(Err(reason))),
        };
        Box::pin(read_aside(opened).into_actor(self).then(move |read, supervisor, ctx| {
            let taken = read.and_then(|request| {
                let taken = supervisor.turn(ctx, |turn| turn.take_request(session, request));
                taken.flatten().ok_or_else(|| PANICKED.to_string())
            });
            match taken {
                Ok(()) => supervisor.read_session(session, frames, ctx),
                Err(reason) => Box::pin(fut::ready(Err(reason))),
            }
        }))
    }
}

/// Reads a request in a thread of its own.
async fn read_aside(opened: Opened) -> std::result::Result<Request, String> {
    let opened = Arc::new(Mutex::new(Some(opened)));
    let (tell, told) = tokio::sync::oneshot::channel();
    let of_thread = Arc::clone(&opened);
    let thread = std::thread::Builder::new().name("swath-intake".to_string());
    match thread.spawn(move || drop(tell.send(read_taken(&of_thread)))) {
        Ok(_) => told.await.unwrap_or_else(|_| Err("the thread that read it has ended".to_string())),
        Err(e) => {
            report!(Warn, "no thread to read a large request with: {e}; others wait for it");
            read_taken(&opened)
        }
    }
}

fn read_taken(opened: &Mutex<Option<Opened>>) -> std::result::Result<Request, String> {
    let Some(opened) = opened.lock().take() else { return Err("it has been read".to_string()) };
    guarded(|| Ok(opened.read())).map_err(|fault| fault.to_string())?.map_err(|e| e.to_string())
}

impl Handler<WorkerEnded> for Supervisor {
    type Result = ();

    fn handle(&mut self, WorkerEnded { worker, cause }: WorkerEnded, ctx: &mut Context<Self>) {
        self.turn(ctx, |turn| {
            turn.with(|core, effects| core.ended(worker, cause, effects));
            turn.forget(worker);
        });
    }
}

impl Handler<WorkerOutput> for Supervisor {
    type Result = ();

    fn handle(&mut self, WorkerOutput { worker, stderr, bytes }: WorkerOutput, ctx: &mut Context<Self>) {
        // The worker itself has not come to read it: nothing runs there, or it was cut off.
        self.with(ctx, |core, effects| core.print_of_running(worker, stderr, &bytes, effects));
    }
}

impl Handler<ProcessEnded> for Supervisor {
    type Result = ();

    fn handle(&mut self, ProcessEnded { worker }: ProcessEnded, ctx: &mut Context<Self>) {
        self.with(ctx, |core, effects| core.print_last_output(worker, effects));
    }
}

impl Handler<OpenSession> for Supervisor {
    type Result = ();

    fn handle(&mut self, OpenSession { session, link }: OpenSession, ctx: &mut Context<Self>) {
        self.turn(ctx, |turn| turn.open_session(session, link));
    }
}

impl Handler<CloseSession> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: CloseSession, ctx: &mut Context<Self>) {
        self.with(ctx, |core, effects| core.close_session(msg.0, effects));
    }
}

impl Handler<ReturnSegments> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: ReturnSegments, ctx: &mut Context<Self>) {
        self.with(ctx, Core::return_segments);
    }
}

impl Handler<PreparedJob> for Supervisor {
    type Result = ();

    fn handle(&mut self, PreparedJob { job, prepared }: PreparedJob, ctx: &mut Context<Self>) {
        self.with(ctx, |core, effects| core.prepared(job, prepared, effects));
    }
}

impl Handler<Stop> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.with(ctx, Core::stop);
    }
}

impl Handler<Snapshot> for Supervisor {
    type Result = Option<Overview>;

    fn handle(&mut self, _: Snapshot, _: &mut Context<Self>) -> Option<Overview> {
        self.shared_core.turn().with(|core, effects| core.overview(effects))
    }
}

impl Handler<ExplainTask> for Supervisor {
    type Result = Option<Explained>;

    fn handle(&mut self, ExplainTask(task): ExplainTask, _: &mut Context<Self>) -> Self::Result {
        self.shared_core.turn().with(|core, effects| core.explain(task, effects))
    }
}

impl Handler<FindTasks> for Supervisor {
    type Result = Option<Found>;

    fn handle(&mut self, FindTasks { prefix, from }: FindTasks, _: &mut Context<Self>) -> Self::Result {
        self.shared_core.turn().with(|core, effects| core.find(None, &prefix, from, effects))
    }
}

impl Handler<TellCounts> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: TellCounts, _: &mut Context<Self>) {
        self.shared_core.turn().with(|core, effects| core.tell_counts(effects));
    }
}

impl Handler<Remember> for Supervisor {
    type Result = ();

    fn handle(&mut self, Remember(sources): Remember, _: &mut Context<Self>) {
        self.shared_core.turn().with(|core, effects| core.remember(&sources, effects));
    }
}

impl Handler<RestartAll> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: RestartAll, ctx: &mut Context<Self>) {
        self.with(ctx, Core::restart);
    }
}

impl Handler<Retire> for Supervisor {
    type Result = Option<std::result::Result<(), String>>;

    fn handle(&mut self, Retire(names): Retire, ctx: &mut Context<Self>) -> Self::Result {
        self.with(ctx, |core, _| core.retire(&names).map(drop))
    }
}

impl Handler<Replace> for Supervisor {
    type Result = Option<std::result::Result<(), String>>;

    fn handle(&mut self, msg: Replace, ctx: &mut Context<Self>) -> Self::Result {
        self.with(ctx, |core, effects| core.replace(&msg.worker, msg.within, effects).map(drop))
    }
}

impl Handler<Drain> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Context<Self>) {
        self.with(ctx, |core, _| core.drain());
    }
}

impl Handler<Unfinished> for Supervisor {
    type Result = Option<u64>;

    fn handle(&mut self, _: Unfinished, _: &mut Context<Self>) -> Self::Result {
        self.shared_core.turn().with(|core, _| core.unfinished())
    }
}

impl Handler<ScaleTo> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: ScaleTo, ctx: &mut Context<Self>) {
        if let Some(Err(why)) = self.with(ctx, |core, _| core.scale(msg.0)) {
            report!(Warn, "the number of workers stays: {why}");
        }
    }
}
