//! What somebody reads of the log of events while it goes on: each run and each event once.

use super::saved::MemorySample;
use super::sources::{RunSources, SourceReader, Taken};
use super::{ClientLog, Event, Names, Outcome, Run, client_event, event, run_of};
use crate::ids::SessionId;
use std::sync::Arc;
use std::time::Duration;

/// How far a reader has come.
pub(crate) struct Reading {
    sources: SourceReader,
    /// Of what the client notes itself.
    steps: u64,
    names: Names,
    /// Whose runs are read; none: there are no others.
    session: Option<SessionId>,
}

impl Reading {
    /// Of all that has not been overwritten.
    pub(crate) fn of_all(sources: &Arc<RunSources>) -> Self {
        Self { sources: sources.reader(false), steps: 0, names: Names::default(), session: None }
    }

    /// Of what comes from now on.
    pub(crate) fn from_now(sources: &Arc<RunSources>, log: &ClientLog) -> Self {
        Self { sources: sources.reader(true), steps: log.steps.noted(), names: Names::default(), session: None }
    }

    /// Takes nothing of what has happened by now.
    pub(crate) fn skip(&mut self, log: &ClientLog) {
        self.sources.skip();
        self.steps = log.steps.noted();
    }

    /// Only what a session has submitted, and what its tasks may have.
    pub(crate) fn of_session(self, session: Option<SessionId>) -> Self {
        Self { session, ..self }
    }

    /// What memory each worker uses then.
    pub(crate) fn memory(&self, at: Duration) -> Vec<MemorySample> {
        self.sources.memory(at)
    }

    /// Gives what has happened: runs that have ended, at the end also those that have not, and events. The answer is how many
    /// runs, at most, and events are missing.
    pub(crate) fn take(
        &mut self,
        log: &ClientLog,
        is_end: bool,
        run: &mut dyn FnMut(Run),
        other: &mut dyn FnMut(Event),
    ) -> (u64, u64) {
        let ruler = log.clock.ruler();
        let (own, own_missed) = log.steps.since(&mut self.steps);
        let (steps, missed) = self.sources.take_steps();
        own.into_iter().map(|step| client_event(step, &ruler)).for_each(&mut *other);
        steps.into_iter().map(|step| event(step, &ruler)).for_each(&mut *other);
        let (names, session) = (&mut self.names, self.session);
        let lost = self.sources.take_runs(is_end, &mut |worker, record, taken| {
            let submitter = record.run.task.job.session;
            if session.is_some_and(|session| submitter != session && !submitter.is_of_tasks()) {
                return;
            }
            let mut taken_run = run_of(record, worker, names, &ruler);
            if let Taken::Lost = taken {
                taken_run.outcome = Outcome::Lost;
            }
            run(taken_run);
        });
        (lost, own_missed + missed)
    }
}
