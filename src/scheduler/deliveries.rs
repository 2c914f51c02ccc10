//! What sessions are told of their outputs.

use super::Scheduler;
use super::job::{State, TaskRef, flag};
use crate::ids::{SessionId, TaskId};
use crate::job::{Delivered, Delivery, Failure};

impl Scheduler {
    pub(super) fn deliver_failure(&mut self, id: TaskId, failure: &Failure) {
        self.report(id, Err(Box::new(failure.clone())));
    }

    /// Has the session of a task told of that. Nobody is who has claims to what is published.
    fn report(&mut self, id: TaskId, result: Result<Delivered, Box<Failure>>) {
        if id.job.session != SessionId::PUBLISHED {
            self.deliveries.push(Delivery { job: id.job, index: id.index, result });
        }
    }

    /// Delivers a claimed value that is there, or says that it is there, whichever the session waits for.
    pub(super) fn tell(&mut self, r: TaskRef) {
        let job = &self.jobs[r.job];
        let task = job.tasks[r.index as usize];
        let wanted = task.has(flag::WANTED);
        if !wanted && task.has(flag::TOLD) {
            return;
        }
        let source = self.behind(r);
        let owner = &self.jobs[source.job];
        let (payload, nbytes) = match owner.state(source.index) {
            State::Done { value, .. } => (owner.values[value].payload.as_ref(), owner.values[value].nbytes),
            State::Data { entry } => {
                let payload = &owner.spec.data[entry as usize].1;
                (Some(payload), payload.nbytes())
            }
            _ => return,
        };
        let delivered = match payload {
            // A small value costs no more than the message that it is there, and saves a request for it.
            Some(payload) if wanted || payload.is_small() => Delivered::Value(payload.clone()),
            None if wanted => return self.fetch(source),
            _ => Delivered::Ready { nbytes },
        };
        let job = &mut self.jobs[r.job];
        let task = &mut job.tasks[r.index as usize];
        task.put(flag::WANTED, false);
        task.put(flag::TOLD, true);
        let id = job.task_id(r.index);
        self.report(id, Ok(delivered));
    }
}
