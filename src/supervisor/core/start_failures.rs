//! Whether starting workers leads anywhere.
//!
//! A worker that dies is replaced, and one that tasks kill again and again as well: those tasks fail, others go on. But
//! where workers end before they come to work, the next one will too, and whoever waits for them must be told.

use super::Core;
use super::Phase;
use super::WorkerProcess;
use crate::settings::StartMethod;
use std::time::Instant;

impl Core {
    /// Whether a worker has come to work: it has been welcomed, and then has stayed for a while or taken up a task. That a
    /// task ended it is no fault of its start.
    pub(super) fn has_worked(&self, process: &WorkerProcess) -> bool {
        let welcomed = !matches!(process.phase, Phase::Starting(_));
        let stayed = !self.slots[process.slot].is_early(Instant::now());
        welcomed && (stayed || process.done > 0 || !process.page.running().is_empty())
    }

    /// A worker could not be started, or has ended before it came to work. Where there has been no other for as long as a
    /// start may take, clients are told.
    pub(super) fn start_failed(&mut self, why: &str) {
        if self.workers.values().any(|process| self.has_worked(process)) {
            self.failing_since = None;
            return;
        }
        let patience = self.settings.start_timeout;
        if self.failing_since.get_or_insert_with(Instant::now).elapsed() <= patience {
            return;
        }
        let hint = match self.settings.start_method {
            StartMethod::Automatic => "",
            StartMethod::Init => "; with `StartMethod::Init`, `swath::init()` must be the first line of `main`",
        };
        self.given_up = true;
        self.give_up(&format!("no worker has come to work for {patience:?}; the last: {why}{hint}"));
    }

    /// Somebody asks for workers anew.
    pub(super) fn try_again(&mut self) {
        if std::mem::take(&mut self.given_up) {
            self.failing_since = None;
        }
    }
}
