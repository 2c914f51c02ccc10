//! Whether starting workers leads anywhere.
//!
//! A worker that dies is replaced, and one that tasks kill again and again as well: those tasks fail, others go on. But
//! where workers end before they come to work, the next one will too, and whoever waits for them must be told.

use super::fleet::FailedStart;
use super::{Core, WorkerProcess};
use crate::settings::StartMethod;
use crate::supervisor::effects::{Effects, WorkerPage};
use std::time::Instant;

impl Core {
    /// Whether a worker has come to work: it has been welcomed, and then has stayed for a while or begun a task, whatever
    /// became of that. That a task ended it is no fault of its start.
    pub(super) fn has_worked<E: Effects>(&self, process: &WorkerProcess, fx: &E) -> bool {
        let welcomed = !process.phase.is_start();
        let stayed = !self.fleet.slots[process.slot].is_early(self.time(fx));
        let begun = || fx.page(process.id).is_some_and(WorkerPage::has_begun);
        welcomed && (stayed || process.done > 0 || begun())
    }

    /// A worker could not be started, or was and has ended before it came to work. Where there has been no other for as long
    /// as a start may take, clients are told.
    pub(super) fn start_failed<E: Effects>(&mut self, why: &str, start: FailedStart, fx: &mut E) {
        if self.fleet.workers.values().any(|process| self.has_worked(process, fx)) {
            return self.starts_succeed();
        }
        let patience = self.settings.start_timeout;
        let now = self.time(fx);
        let since = self.failing_since(start, now);
        self.fleet.failing_since = Some(since);
        // One that is ready may still come to work.
        if now.saturating_duration_since(since) <= patience || self.fleet.ready().next().is_some() {
            return;
        }
        let hint = match self.settings.start_method {
            StartMethod::Automatic => "",
            StartMethod::Init => "; with `StartMethod::Init`, `swath::client::init()` must be the first line of `main`",
        };
        self.fleet.given_up = true;
        self.give_up(&format!("no worker has come to work for {patience:?}; the last: {why}{hint}"), fx);
    }

    /// Since when starts are taken to fail.
    fn failing_since(&mut self, start: FailedStart, now: Instant) -> Instant {
        let before = self.fleet.failing_since;
        match start {
            FailedStart::Ended => before.unwrap_or(now),
            // A set-up that hangs will hang again.
            FailedStart::SettingUp(since) => before.unwrap_or(since),
            // The process may have been stopped, and the next one not: the time of the first such does not count.
            FailedStart::Silent(since) => match std::mem::replace(&mut self.fleet.was_silent, true) {
                true => before.unwrap_or(since),
                false => before.map_or(now, |before| now.min(before + now.saturating_duration_since(since))),
            },
        }
    }

    /// A worker has come to work.
    pub(super) fn starts_succeed(&mut self) {
        self.fleet.failing_since = None;
        self.fleet.was_silent = false;
    }

    /// Somebody asks for workers anew.
    pub(super) fn try_again(&mut self) {
        if std::mem::take(&mut self.fleet.given_up) {
            self.starts_succeed();
        }
    }
}
