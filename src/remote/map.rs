//! How the calls of a map get to the workers: a few at once, by the caller, so that they start; the others in growing
//! parts, by a thread of its own, while the caller goes on and the workers work.

use super::{Remote, SubmissionEntry, forward};
use crate::error::{Cause, Error, Result, TaskError};
use crate::graph::Graph;
use crate::graph::map::{MapTasks, WiredPart};
use crate::graph::wire::argument_error;
use crate::host::report;
use crate::ids::TaskId;
use crate::job::JobSpec;
use crate::message::Request;
use crate::status::Counts;
use crate::submission::Again;
use crate::submission::backend::{Backend, Shown, Want};
use crate::submission::context::{ClientId, encoding_for};
use crate::submission::handle::{ResultHandle, ResultState, Submission, cancelled, closed};
use crate::submission::task_map::{Dropped, TaskMap};
use crate::task::building::Building;
use crate::task::context;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many calls the caller sends.
const FIRST: u32 = 256;
/// How many make one message at most.
const MOST: u32 = 4096;

/// A map on its way to the workers.
struct MapSender {
    remote: Arc<Remote>,
    submission: Arc<Submission>,
    map: Arc<MapTasks>,
    /// The running task whose call it is.
    parent: Option<TaskId>,
    /// The first call that has not been sent, and how many tasks, and calls among them, have been.
    next: u32,
    tasks: u32,
    calls: u64,
    /// Whether some calls have failed without being sent, which may be run again from here.
    kept: bool,
}

impl Remote {
    /// Starts the calls of a map. The first calls are sent before it is `shown`, so that the workers begin meanwhile.
    pub(super) fn send_map(self: Arc<Self>, map: Arc<MapTasks>, shown: Shown<'_>) -> Result<Arc<Submission>> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let graph = Graph::Map(Arc::clone(&map));
        let submission = Submission::new(number, self.clone(), &graph, Want::Handles, Again::of(&graph));
        submission.set_task_map(TaskMap::unsent(self.job(number)));
        if map.len() == 0 {
            return Ok(submission);
        }
        self.groups.begin(number, map.name(), map.len() as u64);
        let entry = SubmissionEntry::new(&submission, 1);
        self.submissions.lock().insert(number, entry);
        let mut sender = MapSender {
            remote: Arc::clone(&self),
            submission: Arc::clone(&submission),
            map,
            parent: context::id(),
            next: 0,
            tasks: 0,
            calls: 0,
            kept: false,
        };
        let begun = sender.send_some(FIRST, true);
        if begun.is_err() || sender.is_over() {
            sender.end();
            if begun.is_err() {
                // Nobody will ever release what it counts.
                self.submissions.lock().remove(&number);
                self.groups.forget(number);
            }
            return begun.map(|()| {
                shown(&submission);
                submission
            });
        }
        shown(&submission);
        // Taken out by whoever sends: the values' own code runs under no lock.
        let sender = Arc::new(Mutex::new(Some(sender)));
        let here = Arc::clone(&sender);
        let send = move || {
            let sender = here.lock().take();
            if let Some(mut sender) = sender {
                sender.send_rest();
            }
        };
        if let Err(e) = std::thread::Builder::new().name("swath-map-sender".to_string()).spawn(send) {
            report!(Warn, "no thread to send the tasks of a map: {e}; the caller does it");
            let sender = sender.lock().take();
            if let Some(mut sender) = sender {
                sender.send_rest();
            }
        }
        Ok(submission)
    }

    /// Runs an output again for which no task was ever sent.
    pub(crate) fn retry_unsent(self: Arc<Self>, submission: &Arc<Submission>, index: u32) -> Result<()> {
        let Some(task_map) = submission.task_map() else { return Ok(()) };
        // Until then somebody may still fail it as cancelled.
        task_map.wait_sent(index);
        let Some(dag) = submission.failed_call(index) else { return Ok(()) };
        let failed = submission.with_state(index, |state| match state {
            ResultState::Failed(e) => Some(matches!(e.cause(), Cause::Cancelled)),
            _ => None,
        });
        let again = Arc::clone(&self).submit(dag, Want::Values)?;
        if let Some(cancelled) = failed {
            self.groups.again(&submission.label(index).name(), cancelled);
        }
        if submission.reopen(index) {
            let again = ResultHandle::new(&again, 0);
            let from = Arc::downgrade(&again.submission);
            task_map.set_replacement(index, again);
            forward(&from, 0, Arc::downgrade(submission), index);
        }
        Ok(())
    }
}

impl MapSender {
    fn is_over(&self) -> bool {
        self.next as usize >= self.map.len()
    }

    /// Sends what is left, in parts that grow.
    fn send_rest(&mut self) {
        let mut n = 2 * FIRST;
        while !self.is_over() {
            if let Some(room) = self.remote.room() {
                // If it says that the client is closed, sending says so, too.
                drop(room.wait());
            }
            if let Err(e) = self.send_some(n, false) {
                let reason = e.to_string();
                self.submission.fail_rest(|label| closed(label, &reason));
                break;
            }
            n = (2 * n).min(MOST);
        }
        self.end();
    }

    /// Sends about `n` calls. The first to be refused is an error of the caller's, if it is he who sends them.
    fn send_some(&mut self, n: u32, caller: bool) -> Result<()> {
        self.remote.check_open()?;
        let Some(task_map) = self.submission.task_map() else { return Ok(()) };
        let ids = self.next..self.next.saturating_add(n).min(self.map.len() as u32);
        let dropped = task_map.dropped(ids.clone());
        let skip = |id: u32| !dropped.is_empty() && dropped.binary_search_by_key(&id, |(at, _)| *at).is_ok();
        let wire = || self.map.wire(ids.clone(), Some(&self.remote.pool), skip);
        let part = encoding_for(ClientId::of(&*self.remote), wire)?;
        let WiredPart { mut spec, ends, refused, next } = part;
        let mut failed = Vec::new();
        for (id, e) in refused {
            let error = argument_error(e, self.submission.label(id).key(), self.map.codec());
            if caller {
                return Err(error);
            }
            failed.push((id, ResultState::Failed(self.refused(id, error))));
        }
        self.kept |= !failed.is_empty() || dropped.iter().any(|(_, how)| *how == Dropped::Cancelled);
        let ended = |how| dropped.iter().filter(|(id, h)| *id < next && *h == how).count() as u64;
        let (unneeded, cancelled_calls) = (ended(Dropped::Released), ended(Dropped::Cancelled));
        let unsent = Counts { failed: failed.len() as u64, cancelled: cancelled_calls, unneeded, ..Counts::default() };
        self.remote.groups.not_sent(self.submission.number, unsent);
        failed.extend(dropped.iter().map(|&(id, _)| (id, ResultState::Failed(cancelled(&self.submission.label(id))))));
        spec.open = (next as usize) < self.map.len();
        // Only what is said in the first part counts: that is sent by the caller.
        spec.priority = self.map.priority;
        spec.parent = self.parent;
        spec.building = Building::current().states().to_vec();
        let (number, first, tasks) = (self.submission.number, self.tasks, ends.len() as u32);
        let calls = spec.outputs.len() as u64;
        {
            let mut submissions = self.remote.submissions.lock();
            // Without an entry, the submission has been closed, or a part of it refused.
            let Some(entry) = submissions.get_mut(&number) else {
                drop(submissions);
                self.remote.check_open()?;
                return Err(Error::Closed { reason: "a part of the map has been refused".to_string() });
            };
            entry.unreleased += spec.outputs.len() as u32;
        }
        // Before anybody may take them as sent.
        self.submission.settle(failed);
        let rows = (first..).zip(ends).filter(|(_, id)| *id != u32::MAX).map(|(task, id)| (id, task));
        let late = task_map.sent(next, rows, || {
            self.remote.uplink.send(match first == 0 && self.next == 0 {
                true => Request::Submit { number, spec },
                false => Request::Grow { number, part: spec },
            })
        })?;
        (self.next, self.tasks) = (next, first + tasks);
        self.calls += calls;
        let of = |how| late.iter().filter(move |(_, h)| *h == how).map(|(task, _)| *task).collect::<Vec<_>>();
        let (released, cancelled) = (of(Dropped::Released), of(Dropped::Cancelled));
        if !cancelled.is_empty() {
            self.remote.cancel_tasks(number, cancelled);
        }
        if !released.is_empty() {
            self.remote.released(number, released, false);
        }
        Ok(())
    }

    fn refused(&self, id: u32, error: Error) -> TaskError {
        let label = self.submission.label(id);
        let cause = match error {
            Error::Encode { type_name, reason, .. } => Cause::Encode { type_name, reason },
            other => Cause::Resource { reason: other.to_string() },
        };
        TaskError::new(label.task_name(), None, cause)
    }

    /// Nothing more is sent.
    fn end(&self) {
        self.remote.groups.end(self.submission.number, self.calls);
        if self.next > 0 && !self.is_over() {
            // The job would wait for the rest as long as the client lives.
            self.remote.send_quietly(Request::Grow { number: self.submission.number, part: JobSpec::default() });
        }
        if let Some(task_map) = self.submission.task_map() {
            task_map.close();
        }
        if self.is_over() && !self.kept {
            self.submission.forget_all_calls();
        }
        let forgotten = {
            let mut submissions = self.remote.submissions.lock();
            match submissions.get_mut(&self.submission.number) {
                Some(entry) => {
                    entry.unreleased -= 1;
                    if entry.unreleased == 0 { submissions.remove(&self.submission.number) } else { None }
                }
                None => None,
            }
        };
        // What was released last may have been kept back.
        let released = forgotten.and_then(|entry| entry.said).map(|said| said.released);
        if let Some(outputs) = released.filter(|released| !released.is_empty()) {
            self.remote.send_quietly(Request::Release { number: self.submission.number, outputs });
        }
    }
}
