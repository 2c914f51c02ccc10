//! Frames to and from workers and sessions, and who has which segment.

use super::{Core, MESSAGE, Peer, Phase, SessionEnd, Word, owner_of, session_of};
use crate::error::{Cause as FailureCause, DeathCause};
use crate::ids::ATTACHED_OWNERS;
use crate::ids::{SessionId, TaskId, WorkerId};
use crate::ipc::frame::{Frame, MAX_FDS, MOST_FDS};
use crate::ipc::payload::Payload;
use crate::ipc::segment::{Segment, SegmentId};
use crate::job::{Delivered, Delivery, Failure, Input, Outcome};
use crate::message;
use crate::message::{FromWorker, Request, Task, Tasks, ToSession, ToWorker};
use crate::scheduler::{Completion, RunTask};
use crate::supervisor::actor::Read;
use crate::supervisor::most_segments;
use crate::supervisor::worker_link::Taken;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Sorts what concerns segments by who made them.
pub(super) fn by_owner<T>(all: impl IntoIterator<Item = T>, owner: impl Fn(&T) -> u32) -> FxHashMap<u32, Vec<T>> {
    let mut sorted: FxHashMap<u32, Vec<T>> = FxHashMap::default();
    for one in all {
        sorted.entry(owner(&one)).or_default().push(one);
    }
    sorted
}

impl Core {
    pub(super) fn tell(&mut self, worker: WorkerId, message: &ToWorker) {
        let Some(life) = self.lives.get(&worker) else { return };
        match life.pipe.push(message) {
            Ok(true) => self.unsent.push((worker, Arc::clone(&life.pipe))),
            Ok(false) => {}
            Err(e) => {
                log::error!("a message to {} cannot be sent: {e}", self.places[life.place].name);
                self.kill(worker, DeathCause::Protocol(e.to_string()), false);
            }
        }
    }

    pub(super) fn lend(
        lent: &mut FxHashMap<Peer, FxHashMap<SegmentId, (Arc<Segment>, u32)>>,
        to: Peer,
        payload: &Payload,
    ) {
        for segment in payload.segments() {
            let entry = lent.entry(to).or_default().entry(segment.id());
            entry.or_insert_with(|| (Arc::clone(segment), 0)).1 += 1;
        }
    }

    pub(super) fn take_back(&mut self, from: Peer, segments: Vec<(SegmentId, u32)>) {
        let Some(lent) = self.lent.get_mut(&from) else { return };
        for (id, deliveries) in segments {
            if let Some(entry) = lent.get_mut(&id) {
                entry.1 = entry.1.saturating_sub(deliveries);
                if entry.1 == 0 {
                    lent.remove(&id);
                }
            }
        }
    }

    /// Tells the owners of segments that a program had when it left.
    pub(super) fn forsake(&mut self, segments: impl Iterator<Item = SegmentId>) {
        for (owner, segments) in by_owner(segments, |id| id.owner) {
            if owner >= ATTACHED_OWNERS {
                self.tell_session(SessionId(owner - ATTACHED_OWNERS), ToSession::Abandon(segments));
            } else if owner > 0 {
                self.tell(WorkerId(owner - 1), &ToWorker::Abandon(segments));
            }
        }
    }

    /// Nothing that this process has made comes again: nobody is to keep it mapped.
    pub(super) fn forget_owner(&mut self, owner: u32) {
        self.attachments.forget(&[owner]);
        let ready = self.lives.iter().filter(|(_, life)| life.phase == Phase::Ready);
        let ready: Vec<_> = ready.map(|(&id, _)| id).collect();
        ready.into_iter().for_each(|id| self.tell(id, &ToWorker::Gone(vec![owner])));
    }

    pub(super) fn run(&mut self, worker: WorkerId, tasks: Vec<RunTask>) {
        let (mut batch, mut fds, mut bytes) = (Tasks::default(), 0, 0);
        let mut refused = Vec::new();
        for task in tasks {
            let (mut more_fds, mut more_bytes) = (0, 0);
            for input in &task.inputs {
                if let Input::Payload(payload) = input {
                    Self::lend(&mut self.lent, Peer::Worker(worker), payload);
                    more_fds += payload.segments().len();
                    more_bytes += payload.bytes.len();
                }
            }
            if more_fds > MOST_FDS {
                refused.push(self.too_many_segments(&task, more_fds));
                continue;
            }
            let body = task.spec.body(task.id.index);
            more_bytes += body.len();
            if !batch.is_empty() && (fds + more_fds > MAX_FDS || bytes + more_bytes > MESSAGE) {
                self.tell(worker, &ToWorker::Run(std::mem::take(&mut batch)));
                (fds, bytes) = (0, 0);
            }
            fds += more_fds;
            bytes += more_bytes;
            let options = &task.spec.options;
            let name =
                (options.binary_search_by_key(&task.id.index, |o| o.0).ok()).and_then(|at| options[at].1.name.clone());
            batch.push(Task {
                id: task.id,
                name,
                attempt: task.attempt,
                deliver: task.deliver,
                alone: task.alone,
                body,
                inputs: task.inputs,
            });
        }
        if !batch.is_empty() {
            self.tell(worker, &ToWorker::Run(batch));
        }
        if !refused.is_empty() {
            self.scheduler.finished(worker, refused, self.now());
            self.unsettled = true;
        }
    }

    /// Gives values to a worker that are to stay in its reach.
    pub(super) fn share(&mut self, worker: WorkerId, values: Vec<(TaskId, Payload)>) {
        for value in values {
            // One that does not fit a message can't be an input either, which whoever uses it is told.
            if value.1.segments().len() <= MOST_FDS {
                Self::lend(&mut self.lent, Peer::Worker(worker), &value.1);
                self.tell(worker, &ToWorker::Share(vec![value]));
            }
        }
    }

    /// What becomes of a task whose inputs lie in more segments than a message can carry.
    pub(super) fn too_many_segments(&self, task: &RunTask, segments: usize) -> Completion {
        let reason = format!(
            "its inputs lie in {segments} shared segments and a worker takes at most {MOST_FDS} at a time: \
             put the large values together in steps, as a tree"
        );
        let cause = FailureCause::Resource { reason };
        let failure = Failure { task: task.id, step: 0, call: None, worker: None, cause };
        let outcome = Outcome::Failed(Box::new(failure));
        Completion { id: task.id, attempt: task.attempt, run_us: 0, outcome }
    }

    pub(super) fn deliver(&mut self, session: SessionId, deliveries: Vec<Delivery>) {
        match self.sessions.get(&session) {
            Some(SessionEnd::Here(_)) => self.tell_session(session, ToSession::Deliveries(deliveries)),
            Some(_) => {
                let (mut batch, mut fds, mut bytes) = (Vec::new(), 0, 0);
                for delivery in deliveries {
                    if let Ok(Delivered::Value(payload)) = &delivery.result {
                        let n = payload.segments().len();
                        if !batch.is_empty() && (fds + n > MAX_FDS || bytes + payload.bytes.len() > MESSAGE) {
                            self.tell_session(session, ToSession::Deliveries(std::mem::take(&mut batch)));
                            (fds, bytes) = (0, 0);
                        }
                        fds += n;
                        bytes += payload.bytes.len();
                    }
                    batch.push(delivery);
                }
                self.tell_session(session, ToSession::Deliveries(batch));
            }
            None => log::debug!("word to session {} that is gone", session.0),
        }
    }

    pub(super) fn tell_session(&mut self, session: SessionId, word: ToSession) {
        let Some(end) = self.sessions.get(&session).cloned() else { return };
        let peer = match &end {
            SessionEnd::Here(_) => None,
            SessionEnd::Socket(_) => Some(Peer::Session(session)),
            SessionEnd::Worker(worker) => Some(Peer::Worker(*worker)),
        };
        if let (Some(peer), ToSession::Deliveries(deliveries)) = (peer, &word) {
            for delivery in deliveries {
                if let Ok(Delivered::Value(payload)) = &delivery.result {
                    Self::lend(&mut self.lent, peer, payload);
                }
            }
        }
        match end {
            SessionEnd::Here(remote) => self.news.push((remote, word)),
            SessionEnd::Worker(worker) => self.tell(worker, &ToWorker::Session(word)),
            SessionEnd::Socket(link) => {
                let done = self.counted.remove(&session).unwrap_or(0);
                link.do_send(Word { done, word });
            }
        }
    }

    /// Gives segments back to their owners that nobody here uses any more.
    pub(in crate::supervisor) fn return_segments(&mut self) {
        for (owner, segments) in by_owner(self.attachments.take_released(), |(id, _)| id.owner) {
            if owner >= ATTACHED_OWNERS {
                self.tell_session(SessionId(owner - ATTACHED_OWNERS), ToSession::Return(segments));
            } else if owner > 0 {
                self.tell(WorkerId(owner - 1), &ToWorker::Return(segments));
            }
        }
    }

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
            let held = lent.get(&Peer::Session(session)).and_then(|l| l.get(&id));
            held.map(|(segment, _)| Arc::clone(segment)).ok_or_else(|| format!("segment {id} is not one it was lent"))
        };
        let request: Request = message::decode(frame, resolve).map_err(|e| e.to_string())?;
        self.request(session, request);
        Ok(())
    }

    /// Takes in what a worker has sent.
    pub(in crate::supervisor) fn read(&mut self, worker: WorkerId) -> Read {
        let Some(life) = self.lives.get_mut(&worker) else { return Read::End };
        let (frames, read) = match life.pipe.take(&mut life.decoder) {
            Ok(Taken::Frames { frames, all }) => (frames, if all { Read::All } else { Read::More }),
            Ok(Taken::Nothing) => return Read::All,
            Ok(Taken::End) => {
                // Other readers are to see the same.
                life.pipe.close();
                return Read::End;
            }
            Err(reason) => return self.broke_protocol(worker, reason),
        };
        for frame in frames {
            if let Err(reason) = self.hear(worker, frame) {
                return self.broke_protocol(worker, reason);
            }
        }
        read
    }

    fn broke_protocol(&mut self, worker: WorkerId, reason: String) -> Read {
        log::error!("a worker broke the protocol: {reason}");
        if let Some(life) = self.lives.get(&worker) {
            life.pipe.close();
        }
        self.kill(worker, DeathCause::Protocol(reason), true);
        Read::End
    }

    /// Takes in a message of a worker. An error ends it.
    fn hear(&mut self, worker: WorkerId, frame: Frame) -> std::result::Result<(), String> {
        if !frame.fds.is_empty() {
            // The limit of descriptors may have been changed since the start.
            self.shared.ledger.set_most_pieces(most_segments());
        }
        let (attachments, lent) = (&self.attachments, &self.lent);
        let resolve = &mut |id: SegmentId, fd, len| {
            if id.owner == owner_of(worker) {
                return attachments.attach(id, fd, len).map_err(|e| e.to_string());
            }
            let held = lent.get(&Peer::Worker(worker)).and_then(|l| l.get(&id));
            held.map(|(segment, _)| Arc::clone(segment)).ok_or_else(|| format!("segment {id} is not one it was lent"))
        };
        let message: FromWorker = message::decode(frame, resolve).map_err(|e| e.to_string())?;
        let starting = self.lives.get(&worker).is_some_and(|l| matches!(l.phase, Phase::Starting(_)));
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
            FromWorker::Released(segments) => self.take_back(Peer::Worker(worker), segments),
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
                if let Some(life) = self.lives.get_mut(&worker) {
                    life.told = number;
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
