//! Messages to workers and sessions.

use super::loans::Borrower;
use super::{Core, SessionEnd};
use crate::coordinator::Answer;
use crate::error::DeathCause;
use crate::host::report;
use crate::ids::{SessionId, WorkerId};
use crate::ipc::batch::Batch;
use crate::job::{Delivered, Delivery, Input, SharedPayload};
use crate::message::{PART, Task, Tasks, ToSession, ToWorker};
use crate::scheduler::RunTask;
use crate::supervisor::effects::Effects;

impl Core {
    pub(super) fn send<E: Effects>(&mut self, worker: WorkerId, message: &ToWorker, fx: &mut E) {
        if let Err(e) = fx.send(worker, message) {
            let slot = self.fleet.workers.get(&worker).map(|process| &self.fleet.slots[process.slot]);
            report!(Error, "a message to {} cannot be sent: {e}", slot.map_or("a worker", |slot| slot.name.as_str()));
            self.kill(worker, DeathCause::Protocol(e.to_string()), false, fx);
        }
    }

    pub(super) fn run<E: Effects>(&mut self, worker: WorkerId, tasks: Vec<RunTask>, fx: &mut E) {
        // They are mostly alike.
        let body = tasks.first().map_or(0, |task| task.spec.body(task.id.index).len());
        let (mut batch, mut size) = (Tasks::with_room(tasks.len(), body), Batch::default());
        for task in tasks {
            let payloads = task.inputs.iter().filter_map(|input| match input {
                Input::Payload(payload) => Some(payload),
                _ => None,
            });
            let (segments, mut more_bytes) = payloads
                .clone()
                .fold((0, 0), |(n, bytes), payload| (n + payload.segments().len(), bytes + payload.bytes.len()));
            payloads.for_each(|payload| self.loans.lend(Borrower::Worker(worker), payload));
            let body = task.spec.body(task.id.index);
            more_bytes += body.len() + PART * task.parts.len();
            if !size.fits(segments, more_bytes) {
                self.send(worker, &ToWorker::Run(std::mem::take(&mut batch)), fx);
                size.clear();
            }
            size.add(segments, more_bytes);
            let options = &task.spec.options;
            let name =
                (options.binary_search_by_key(&task.id.index, |o| o.0).ok()).and_then(|at| options[at].1.name.clone());
            batch.push(Task {
                id: task.id,
                name,
                attempt: task.attempt,
                deliver: task.deliver,
                alone: task.alone,
                suspect: task.suspect,
                rank: task.rank,
                building: task.spec.building.clone(),
                parts: task.parts,
                body,
                inputs: task.inputs,
                arrived: 0,
            });
        }
        if !batch.is_empty() {
            self.send(worker, &ToWorker::Run(batch), fx);
        }
    }

    /// Gives values to a worker that are to stay in its reach.
    pub(super) fn share<E: Effects>(&mut self, worker: WorkerId, values: Vec<SharedPayload>, fx: &mut E) {
        for value in values {
            self.loans.lend(Borrower::Worker(worker), &value.payload);
            self.send(worker, &ToWorker::Share(vec![value]), fx);
        }
    }

    pub(super) fn deliver<E: Effects>(&mut self, session: SessionId, deliveries: Vec<Delivery>, fx: &mut E) {
        match self.sessions.ends.get(&session) {
            Some(SessionEnd::Client) => self.tell_session(session, ToSession::Deliveries(deliveries), fx),
            Some(_) => {
                let (mut batch, mut size) = (Vec::new(), Batch::default());
                for delivery in deliveries {
                    if let Ok(Delivered::Value(payload)) = &delivery.result {
                        let (segments, bytes) = (payload.segments().len(), payload.bytes.len());
                        if !size.fits(segments, bytes) {
                            self.tell_session(session, ToSession::Deliveries(std::mem::take(&mut batch)), fx);
                            size.clear();
                        }
                        size.add(segments, bytes);
                    }
                    batch.push(delivery);
                }
                self.tell_session(session, ToSession::Deliveries(batch), fx);
            }
            None => report!(Debug, "a message to session {} that is gone", session.0),
        }
    }

    pub(super) fn tell_session<E: Effects>(&mut self, session: SessionId, message: ToSession, fx: &mut E) {
        let Some(&end) = self.sessions.ends.get(&session) else { return };
        let borrower = match end {
            SessionEnd::Client => None,
            SessionEnd::Attached => Some(Borrower::Session(session)),
            SessionEnd::Worker(worker) => Some(Borrower::Worker(worker)),
        };
        if let (Some(borrower), ToSession::Deliveries(deliveries)) = (borrower, &message) {
            for delivery in deliveries {
                if let Ok(Delivered::Value(payload)) = &delivery.result {
                    self.loans.lend(borrower, payload);
                }
            }
        }
        if let (Some(borrower), ToSession::Called(_, Answer::Value(payload) | Answer::Item(payload, _))) =
            (borrower, &message)
        {
            self.loans.lend(borrower, payload);
        }
        match end {
            SessionEnd::Client | SessionEnd::Attached => fx.notify(session, message),
            SessionEnd::Worker(worker) => self.send(worker, &ToWorker::Session(message), fx),
        }
    }
}
