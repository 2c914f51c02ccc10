//! What somebody reads of the log of events while it goes on: each run and each event once.

use super::saved::MemorySample;
use super::sources::{RunSources, SourceReader, Taken};
use super::{ClientLog, Event, Names, Outcome, Run, client_event, event, run_of};
use std::sync::Arc;
use std::time::Duration;

/// How far a reader has come.
pub(crate) struct Reading {
    sources: SourceReader,
    /// Of what the client notes itself.
    steps: u64,
    names: Names,
}

impl Reading {
    /// Of all that has not been overwritten.
    pub(crate) fn of_all(sources: &Arc<RunSources>) -> Self {
        Self { sources: sources.reader(false), steps: 0, names: Names::default() }
    }

    /// Of what comes from now on.
    pub(crate) fn from_now(sources: &Arc<RunSources>, log: &ClientLog) -> Self {
        Self { sources: sources.reader(true), steps: log.steps.noted(), names: Names::default() }
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
        let names = &mut self.names;
        let lost = self.sources.take_runs(is_end, &mut |worker, record, taken| {
            let mut taken_run = run_of(record, worker, names, &ruler);
            if let Taken::Lost = taken {
                taken_run.outcome = Outcome::Lost;
            }
            run(taken_run);
        });
        (lost, own_missed + missed)
    }
}
