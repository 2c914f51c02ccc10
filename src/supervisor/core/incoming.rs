//! Messages from workers and sessions.

use super::{Borrower, Core, Phase, SessionEnd, owner_of, session_of};
use crate::error::DeathCause;
use crate::ids::ATTACHED_OWNERS;
use crate::ids::SessionId;
use crate::ids::WorkerId;
use crate::ipc::frame::Frame;
use crate::ipc::segment::SegmentId;
use crate::job::Outcome;
use crate::message;
use crate::message::FromWorker;
use crate::message::Request;
use crate::scheduler::Completion;
use crate::supervisor::actor::ReadEnd;
use crate::supervisor::connection::Received;
use crate::supervisor::most_segments;
use std::sync::Arc;

impl Core {
    /// Takes in a message of a program behind a socket. An error ends its session.
    pub(in crate::supervisor) fn hear_session(
        &mut self,
        session: SessionId,
        frame: Frame,
    ) -> std::result::Result<(), String> {
        let owner = ATTACHED_OWNERS + session.0;
        let (attachments, lent) = (&self.attachments, &self.lent);
        let resolve = &mut |id: SegmentId, fd, len| {
            if id.owner == owner {
                return attachments.attach(id, fd, len).map_err(|e| e.to_string());
            }
            let held = lent.get(&Borrower::Session(session)).and_then(|l| l.get(&id));
            held.map(|(segment, _)| Arc::clone(segment)).ok_or_else(|| format!("segment {id} is not one it was lent"))
        };
        let request: Request = message::decode(frame, resolve).map_err(|e| e.to_string())?;
        self.request(session, request);
        Ok(())
    }

    /// Takes in what a worker has sent.
    pub(in crate::supervisor) fn read(&mut self, worker: WorkerId) -> ReadEnd {
        let Some(process) = self.workers.get_mut(&worker) else { return ReadEnd::End };
        let (frames, read) = match process.connection.take(&mut process.decoder) {
            Ok(Received::Frames { frames, all }) => (frames, if all { ReadEnd::All } else { ReadEnd::More }),
            Ok(Received::Nothing) => return ReadEnd::All,
            Ok(Received::End) => {
                // Other readers are to see the same.
                process.connection.close();
                return ReadEnd::End;
            }
            Err(reason) => return self.broke_protocol(worker, reason),
        };
        for frame in frames {
            if let Err(reason) = self.receive(worker, frame) {
                return self.broke_protocol(worker, reason);
            }
        }
        read
    }

    fn broke_protocol(&mut self, worker: WorkerId, reason: String) -> ReadEnd {
        log::error!("a worker broke the protocol: {reason}");
        if let Some(process) = self.workers.get(&worker) {
            process.connection.close();
        }
        self.kill(worker, DeathCause::Protocol(reason), true);
        ReadEnd::End
    }

    /// Takes in a message of a worker. An error ends it.
    fn receive(&mut self, worker: WorkerId, frame: Frame) -> std::result::Result<(), String> {
        if !frame.fds.is_empty() {
            // The limit of descriptors may have been changed since the start.
            self.shared.ledger.set_most_pieces(most_segments());
        }
        let (attachments, lent) = (&self.attachments, &self.lent);
        let resolve = &mut |id: SegmentId, fd, len| {
            if id.owner == owner_of(worker) {
                return attachments.attach(id, fd, len).map_err(|e| e.to_string());
            }
            let held = lent.get(&Borrower::Worker(worker)).and_then(|l| l.get(&id));
            held.map(|(segment, _)| Arc::clone(segment)).ok_or_else(|| format!("segment {id} is not one it was lent"))
        };
        let message: FromWorker = message::decode(frame, resolve).map_err(|e| e.to_string())?;
        let starting = self.workers.get(&worker).is_some_and(|l| matches!(l.phase, Phase::Starting(_)));
        match message {
            FromWorker::Hello { version, build } if starting => self.welcome(worker, version, &build)?,
            _ if starting => return Err("it did not begin with a hello".to_string()),
            FromWorker::Hello { .. } => return Err("a second hello".to_string()),
            FromWorker::Done(done) => {
                let completions = done.unpack().map_err(|e| e.to_string())?;
                self.count(&completions);
                self.count_of_life(worker, completions.len());
                self.scheduler.finished(worker, completions, self.now());
            }
            FromWorker::Retracted(tasks) => self.scheduler.retracted(worker, &tasks),
            FromWorker::Bounced(tasks) => self.scheduler.bounced(worker, &tasks),
            FromWorker::Exported(task, result) => self.scheduler.exported(worker, task, result),
            FromWorker::Released(segments) => self.take_back(Borrower::Worker(worker), segments),
            FromWorker::Paused(paused) => self.scheduler.paused(worker, paused),
            FromWorker::Crowded => self.scheduler.relieve(),
            FromWorker::Blocked(delta) => {
                self.scheduler.blocked(worker, delta);
                if delta > 0 {
                    self.stay(worker);
                }
            }
            // A program has so many functions at most, unless something is wrong with it.
            FromWorker::Function { place, name } if self.functions.len() < 1 << 16 => {
                self.functions.insert(place, name);
            }
            FromWorker::Function { .. } => {}
            FromWorker::Printed { number, stderr, bytes, tasks } => {
                if let Some(process) = self.workers.get_mut(&worker) {
                    process.told = number;
                }
                self.print(worker, stderr, &bytes, &tasks);
            }
            FromWorker::Session(request) => {
                let session = session_of(worker);
                self.sessions.entry(session).or_insert(SessionEnd::Worker(worker));
                self.request(session, request);
            }
        }
        Ok(())
    }

    /// Keeps the counts of clients.
    pub(super) fn count(&mut self, done: &[Completion]) {
        let mut counted = None;
        let mut n = 0;
        let mut flush = |session: Option<SessionId>, n: u64| {
            let Some(session) = session else { return };
            match self.sessions.get(&session) {
                Some(SessionEnd::Here(remote)) => {
                    if let Some(remote) = remote.upgrade() {
                        remote.counters.done.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
                    }
                }
                Some(SessionEnd::Socket(_)) => *self.counted.entry(session).or_default() += n,
                _ => {}
            }
        };
        for one in done.iter().filter(|d| matches!(d.outcome, Outcome::Value(_) | Outcome::Held { .. })) {
            let session = Some(one.id.job.session);
            if session != counted {
                flush(counted, n);
                (counted, n) = (session, 0);
            }
            n += 1;
        }
        flush(counted, n);
    }
}
