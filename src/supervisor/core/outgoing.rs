//! Messages to workers and sessions.

use super::{Borrower, Core, MESSAGE, SessionEnd, SessionMessage};
use crate::error::DeathCause;
use crate::ids::{SessionId, TaskId, WorkerId};
use crate::ipc::frame::{MAX_FDS, MOST_FDS};
use crate::ipc::payload::Payload;
use crate::job::{Delivered, Delivery, Failure, FailureCause, Outcome};
use crate::message;
use crate::message::{Task, Tasks, ToSession, ToWorker};
use crate::scheduler::{Completion, Input, RunTask};
use std::sync::Arc;

impl Core {
    pub(super) fn send(&mut self, worker: WorkerId, message: &ToWorker) {
        let Some(process) = self.workers.get(&worker) else { return };
        match process.connection.push(message) {
            Ok(true) => self.unsent.push((worker, Arc::clone(&process.connection))),
            Ok(false) => {}
            Err(e) => {
                log::error!("a message to {} cannot be sent: {e}", self.slots[process.slot].name);
                self.kill(worker, DeathCause::Protocol(e.to_string()), false);
            }
        }
    }

    pub(super) fn run(&mut self, worker: WorkerId, tasks: Vec<RunTask>) {
        let (mut batch, mut fds, mut bytes) = (Tasks::default(), 0, 0);
        let mut refused = Vec::new();
        for task in tasks {
            let (mut more_fds, mut more_bytes) = (0, 0);
            for input in &task.inputs {
                if let Input::Payload(payload) = input {
                    Self::lend(&mut self.lent, Borrower::Worker(worker), payload);
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
                self.send(worker, &ToWorker::Run(std::mem::take(&mut batch)));
                (fds, bytes) = (0, 0);
            }
            fds += more_fds;
            bytes += more_bytes;
            let options = &task.spec.options;
            let name =
                (options.binary_search_by_key(&task.id.index, |o| o.0).ok()).and_then(|at| options[at].1.name.clone());
            let inputs = (task.inputs.into_iter())
                .map(|input| match input {
                    Input::Held { id, take } => message::Input::Held { id, take },
                    Input::Ahead { id } => message::Input::Ahead { id },
                    Input::Payload(payload) => message::Input::Payload(payload),
                })
                .collect();
            batch.push(Task {
                id: task.id,
                name,
                attempt: task.attempt,
                deliver: task.deliver,
                alone: task.alone,
                body,
                inputs,
            });
        }
        if !batch.is_empty() {
            self.send(worker, &ToWorker::Run(batch));
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
                Self::lend(&mut self.lent, Borrower::Worker(worker), &value.1);
                self.send(worker, &ToWorker::Share(vec![value]));
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
            SessionEnd::Socket(_) => Some(Borrower::Session(session)),
            SessionEnd::Worker(worker) => Some(Borrower::Worker(*worker)),
        };
        if let (Some(peer), ToSession::Deliveries(deliveries)) = (peer, &word) {
            for delivery in deliveries {
                if let Ok(Delivered::Value(payload)) = &delivery.result {
                    Self::lend(&mut self.lent, peer, payload);
                }
            }
        }
        match end {
            SessionEnd::Here(remote) => self.outgoing.push((remote, word)),
            SessionEnd::Worker(worker) => self.send(worker, &ToWorker::Session(word)),
            SessionEnd::Socket(link) => {
                let done = self.counted.remove(&session).unwrap_or(0);
                link.do_send(SessionMessage { done, word });
            }
        }
    }
}
