//! Large graphs on their way in. Another thread prepares them, so that meanwhile nobody waits but who asks about them.

use super::Core;
use crate::events::programs::News;
use crate::ids::{JobId, SessionId};
use crate::job::JobSpec;
use crate::message::{Question, Request, ToSession};
use crate::scheduler::{Prepared, SubmitError};
use crate::supervisor::effects::Effects;
use crate::task::program::calls;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

/// A graph of more tasks is large: to prepare one of this size takes less than a millisecond.
const LARGE: usize = 8192;

pub(super) struct Intake {
    large: usize,
    preparing: FxHashMap<JobId, Uses>,
    /// Requests about those graphs, about graphs that use them or wait behind these, and those that let go of what these
    /// graphs use; in the order in which they came.
    held: VecDeque<(SessionId, Request)>,
    /// The graphs among them.
    behind: FxHashMap<JobId, Uses>,
}

/// The graphs whose results one uses.
type Uses = FxHashSet<JobId>;

fn uses(spec: &JobSpec) -> Uses {
    spec.externals.iter().map(|task| task.job).collect()
}

impl Default for Intake {
    fn default() -> Self {
        Self { large: LARGE, preparing: FxHashMap::default(), held: VecDeque::new(), behind: FxHashMap::default() }
    }
}

impl Intake {
    /// Keeps a request back that is about a graph which is not here yet. The others are for the caller.
    pub(super) fn pass(&mut self, session: SessionId, request: Request) -> Option<Request> {
        if self.preparing.is_empty() {
            return Some(request);
        }
        let lacks = |job: &JobId| self.preparing.contains_key(job) || self.behind.contains_key(job);
        let named = |number| lacks(&JobId { session, number });
        let used = |number| {
            let job = JobId { session, number };
            self.preparing.values().chain(self.behind.values()).any(|uses| uses.contains(&job))
        };
        let waits = match &request {
            Request::Submit { number, spec } => named(*number) || spec.externals.iter().any(|task| lacks(&task.job)),
            Request::Release { number, .. } | Request::Cancel { number, .. } => named(*number) || used(*number),
            Request::Grow { number, .. } | Request::Deliver { number, .. } | Request::Retry { number, .. } => {
                named(*number)
            }
            Request::Ask { question: Question::Explain(job, _), .. } => lacks(job),
            // What a session has submitted, it sees counted, and finds.
            Request::Ask { question: Question::Groups(_) | Question::Find { .. }, .. } => {
                self.preparing.keys().chain(self.behind.keys()).any(|job| job.session == session)
            }
            _ => false,
        };
        if !waits {
            return Some(request);
        }
        if let Request::Submit { number, spec } = &request {
            self.behind.insert(JobId { session, number: *number }, uses(spec));
        }
        self.held.push_back((session, request));
        None
    }

    /// Graphs that are not in yet.
    pub(super) fn graphs(&self) -> u64 {
        (self.preparing.len() + self.behind.len()) as u64
    }

    /// The session has ended.
    pub(super) fn close(&mut self, session: SessionId) {
        self.held.retain(|(holder, _)| *holder != session);
    }
}

impl Core {
    pub(super) fn submit<E: Effects>(&mut self, job: JobId, spec: JobSpec, fx: &mut E) {
        if fx.takes_news() {
            let calls = (0..spec.len() as u32).map(|index| calls(spec.body(index)).count()).sum::<usize>();
            fx.tell(News::Graph(job, u32::try_from(calls).unwrap_or(u32::MAX)));
        }
        if spec.len() <= self.intake.large {
            let taken = Prepared::new(job, spec.into()).and_then(|job| self.scheduler.take(job, self.now(fx)));
            return self.tell_refused(job, taken, fx);
        }
        self.intake.preparing.insert(job, uses(&spec));
        if let Some(prepared) = fx.prepare(job, spec) {
            self.prepared(job, prepared, fx);
        }
    }

    /// A large graph can be taken in now, and then what waits for it.
    pub(crate) fn prepared<E: Effects>(&mut self, job: JobId, prepared: Result<Prepared, SubmitError>, fx: &mut E) {
        self.intake.preparing.remove(&job);
        if self.has_session(job.session) {
            let taken = prepared.and_then(|job| self.scheduler.take(job, self.now(fx)));
            self.tell_refused(job, taken, fx);
        }
        self.intake.behind.clear();
        for (session, request) in std::mem::take(&mut self.intake.held) {
            self.admitted(session, request, fx);
        }
    }

    fn tell_refused<E: Effects>(&mut self, job: JobId, taken: Result<(), SubmitError>, fx: &mut E) {
        if let Err(e) = taken {
            self.tell_session(job.session, ToSession::Refused { number: job.number, reason: e.to_string() }, fx);
        }
    }

    /// Graphs of more tasks are large.
    #[cfg(test)]
    pub(crate) fn prepare_from(&mut self, large: usize) {
        self.intake.large = large;
    }
}
