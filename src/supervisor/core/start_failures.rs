//! Whether starting workers leads anywhere.
//!
//! A worker that dies is replaced, and one that tasks kill again and again as well: those tasks fail, others go on. But
//! where workers end before they come to work, the next one will too, and whoever waits for them must be told.

use super::{Core, Life, Phase};
use crate::settings::StartMethod;
use std::time::Instant;

impl Core {
    /// Whether a worker has come to work: it has been welcomed, and then has stayed for a while or taken up a task. That a
    /// task ended it is no fault of its start.
    pub(super) fn has_worked(&self, life: &Life) -> bool {
        let welcomed = !matches!(life.phase, Phase::Starting(_));
        let stayed = !self.places[life.place].is_early(Instant::now());
        welcomed && (stayed || life.done > 0 || !life.page.running().is_empty())
    }

    /// A worker could not be started, or has ended before it came to work. Where there has been no other for as long as a
    /// start may take, clients are told.
    pub(super) fn start_failed(&mut self, why: &str) {
        if self.lives.values().any(|life| self.has_worked(life)) {
            self.starved = None;
            return;
        }
        let patience = self.settings.start_timeout;
        if self.starved.get_or_insert_with(Instant::now).elapsed() <= patience {
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
            self.starved = None;
        }
    }
}
