//! What the supervisor is told.

use super::traffic::by_owner;
use super::{ATTACHED_OWNERS, Life, Peer, Phase, SessionEnd, Supervisor};
use crate::client::WorkerInfo;
use crate::cluster::tail::{LogLine, OutputStream};
use crate::error::{DeathCause, DeathRecord};
use crate::ids::{SessionId, WorkerId};
use crate::ipc::frame::Frame;
use crate::ipc::segment::SegmentId;
use crate::message::{self, Question, Request, ToSession, ToWorker};
use actix::prelude::*;
use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::cluster) struct FromWorkers {
    pub(in crate::cluster) worker: WorkerId,
    pub(in crate::cluster) frames: Vec<Frame>,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::cluster) struct WorkerOutput {
    pub(in crate::cluster) worker: WorkerId,
    pub(in crate::cluster) stderr: bool,
    pub(in crate::cluster) bytes: Vec<u8>,
}

/// Its process has ended; what is still in its pipes comes next.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::cluster) struct WorkerEnded {
    pub(in crate::cluster) worker: WorkerId,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::cluster) struct WorkerGone {
    pub(in crate::cluster) worker: WorkerId,
    pub(in crate::cluster) cause: DeathCause,
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

/// A client in this process has put requests there.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FromSession {
    pub(crate) session: SessionId,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
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
pub(super) struct ReturnSegments;

impl Handler<FromWorkers> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: FromWorkers, ctx: &mut Context<Self>) {
        for frame in msg.frames {
            if let Err(reason) = self.hear(msg.worker, frame) {
                log::error!("a worker broke the protocol: {reason}");
                self.kill(msg.worker, DeathCause::Protocol(reason), true);
                break;
            }
        }
        self.after(ctx);
    }
}

impl Handler<FromSession> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: FromSession, ctx: &mut Context<Self>) {
        let requests = std::mem::take(&mut *msg.requests.lock());
        for request in requests {
            let fills = matches!(&request, Request::Ask { question: Question::Scale(_), .. });
            self.request(msg.session, request);
            if fills {
                self.refill_open(ctx);
            }
        }
        self.after(ctx);
    }
}

impl Handler<FromSocket> for Supervisor {
    type Result = std::result::Result<(), String>;

    fn handle(&mut self, msg: FromSocket, ctx: &mut Context<Self>) -> Self::Result {
        let owner = ATTACHED_OWNERS + msg.session.0;
        for frame in msg.frames {
            let (attachments, lent) = (&self.attachments, &self.lent);
            let resolve = &mut |id: SegmentId, fd, len| {
                if id.owner == owner {
                    return attachments.attach(id, fd, len).map_err(|e| e.to_string());
                }
                let held = lent.get(&Peer::Session(msg.session)).and_then(|l| l.get(&id));
                held.map(|(segment, _)| Arc::clone(segment))
                    .ok_or_else(|| format!("segment {id} is not one it was lent"))
            };
            let request: Request = message::decode(frame, resolve).map_err(|e| e.to_string())?;
            let fills = matches!(&request, Request::Ask { question: Question::Scale(_), .. });
            self.request(msg.session, request);
            if fills {
                self.refill_open(ctx);
            }
        }
        self.after(ctx);
        Ok(())
    }
}

impl Handler<WorkerGone> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: WorkerGone, ctx: &mut Context<Self>) {
        self.gone(msg.worker, msg.cause, ctx);
        self.after(ctx);
    }
}

impl Handler<WorkerOutput> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: WorkerOutput, _: &mut Context<Self>) {
        // The worker itself has not come to read it: nothing runs there, or it was cut off.
        let tasks = self.lives.get(&msg.worker).map(|life| self.running(life)).unwrap_or_default();
        self.print(msg.worker, msg.stderr, &msg.bytes, &tasks);
    }
}

impl Handler<WorkerEnded> for Supervisor {
    type Result = ();

    fn handle(&mut self, WorkerEnded { worker }: WorkerEnded, _: &mut Context<Self>) {
        let Some(life) = self.lives.get(&worker) else { return };
        if let Some(piece) = life.page.carried().left().filter(|piece| piece.number > life.told) {
            let tasks = self.running(life);
            self.print(worker, piece.stderr, &piece.bytes, &tasks);
        }
    }
}

impl Supervisor {
    /// The keys of the tasks that a worker runs.
    fn running(&self, life: &Life) -> Vec<String> {
        life.page.running().into_iter().map(|id| self.key(life, id)).collect()
    }

    /// Passes on what a worker has written, and keeps the last of it.
    pub(super) fn print(&mut self, worker: WorkerId, stderr: bool, bytes: &[u8], tasks: &[String]) {
        if self.settings.forward_output {
            // What tasks print is theirs to print. A stream of ours that is closed is no reason to stop.
            let _ = if stderr {
                std::io::stderr().write_all(bytes)
            } else {
                let mut out = std::io::stdout();
                out.write_all(bytes).and_then(|()| out.flush())
            };
        }
        if let Some(life) = self.lives.get_mut(&worker) {
            life.said += bytes.iter().filter(|b| **b == b'\n').count();
            life.speaking = !bytes.ends_with(b"\n");
            let stream = if stderr { OutputStream::Stderr } else { OutputStream::Stdout };
            self.tails[life.place].push(stream, tasks, bytes);
        }
    }
}

impl Handler<OpenSession> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: OpenSession, ctx: &mut Context<Self>) {
        self.sessions.insert(msg.session, msg.end);
        if self.given_up {
            self.refill_open(ctx);
        }
    }
}

impl Handler<CloseSession> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: CloseSession, ctx: &mut Context<Self>) {
        self.close_session(msg.0);
        self.after(ctx);
    }
}

impl Handler<ReturnSegments> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: ReturnSegments, _: &mut Context<Self>) {
        for (owner, segments) in by_owner(self.attachments.take_released(), |(id, _)| id.owner) {
            if owner >= ATTACHED_OWNERS {
                self.tell_session(SessionId(owner - ATTACHED_OWNERS), ToSession::Return(segments));
            } else if owner > 0 {
                self.tell(WorkerId(owner - 1), &ToWorker::Return(segments));
            }
        }
    }
}

impl Handler<Stop> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Instant::now());
        let lives: Vec<_> = self.lives.keys().copied().collect();
        for id in lives {
            if let Some(Life { phase: Phase::Starting(_), .. }) = self.lives.get(&id) {
                self.kill(id, DeathCause::Unknown, false);
            } else {
                self.tell(id, &ToWorker::Shutdown);
            }
        }
        if self.lives.is_empty() {
            ctx.stop();
        }
        self.after(ctx);
    }
}

impl Handler<LookAt> for Supervisor {
    type Result = Look;

    fn handle(&mut self, _: LookAt, _: &mut Context<Self>) -> Look {
        Look { workers: self.workers(), deaths: self.deaths.iter().cloned().collect(), logs: self.logs() }
    }
}

impl Handler<RestartAll> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: RestartAll, ctx: &mut Context<Self>) {
        self.restart();
        self.refill_open(ctx);
        self.after(ctx);
    }
}

impl Handler<ScaleTo> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: ScaleTo, ctx: &mut Context<Self>) {
        self.scale(msg.0);
        self.refill_open(ctx);
        self.after(ctx);
    }
}
