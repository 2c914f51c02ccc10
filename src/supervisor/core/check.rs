//! What must be so between events, and when there is nothing left to do. For tests.

use super::fleet::Phase;
use super::{Core, SessionEnd, session_of};
use crate::coordinator::Listed;

impl Core {
    /// Panics with a clear text if anything in the state contradicts anything else.
    pub(crate) fn validate(&self) {
        self.scheduler.validate();
        self.coordinator.validate();
        for (at, slot) in self.fleet.slots.iter().enumerate() {
            let Some(id) = slot.worker else { continue };
            let process = self.fleet.workers.get(&id);
            assert_eq!(process.map(|process| process.slot), Some(at), "{}'s worker is another slot's", slot.name);
        }
        for (id, process) in &self.fleet.workers {
            assert_eq!((process.id, self.fleet.slots[process.slot].worker), (*id, Some(*id)), "{id:?}'s slot");
        }
        let slots = self.fleet.slots.len();
        assert_eq!((self.history.recent_lines.len(), self.history.past_runs.len()), (slots, slots));
        for (session, end) in &self.sessions.ends {
            if let SessionEnd::Worker(worker) = end {
                assert_eq!(*session, session_of(*worker));
                assert!(
                    self.fleet.workers.contains_key(worker),
                    "{worker:?} has ended, and its tasks' session has not"
                );
            }
        }
        for session in self.sessions.waiting.iter().map(|w| &w.session) {
            assert!(self.sessions.ends.contains_key(session), "something is kept for {session:?}, which has ended");
        }
        self.loans.validate(
            |worker| self.fleet.workers.contains_key(&worker),
            |session| self.sessions.ends.contains_key(&session),
        );
        assert!(!self.agenda.unsettled, "the scheduler has news between events");
    }

    /// Panics if anything is waiting, lent or running.
    pub(crate) fn check_idle(&self) {
        assert!(self.scheduler.is_idle(), "jobs are left: {}", self.state());
        assert!(self.loans.is_empty(), "segments are lent");
        assert!(self.sessions.waiting.is_empty(), "sessions wait for workers");
        assert!(!self.agenda.to_fill, "slots are to be filled");
        for (id, process) in &self.fleet.workers {
            assert_eq!(process.phase, Phase::Ready, "{id:?}");
            assert_eq!(self.scheduler.in_flight(*id), 0, "{id:?} runs tasks");
            assert!(!self.scheduler.owes(*id), "{id:?} owes an answer");
        }
        let stats = self.scheduler.stats();
        for worker in &stats.workers {
            assert_eq!((worker.in_flight, worker.held_values, worker.held_bytes), (0, 0, 0), "{worker:?}");
        }
        if !self.fleet.given_up {
            let open = self.fleet.slots.iter().filter(|slot| !slot.closing);
            open.for_each(|slot| assert!(slot.worker.is_some(), "{} is not filled", slot.name));
        }
    }

    /// Panics if anybody holds or waits for a lock, or waits for anything of that kind.
    pub(crate) fn check_released(&self) {
        let list = self.coordinator.list();
        let left: Vec<_> = list.iter().filter(|listed| listed.waiting > 0 || !listed.holders.is_empty()).collect();
        assert!(left.is_empty() && self.coordinator.len() == 0, "still held, or waited for: {left:?}");
    }

    pub(crate) fn coordinated(&self) -> Vec<Listed> {
        self.coordinator.list()
    }

    /// What there is, for a test that fails.
    pub(crate) fn state(&self) -> String {
        let phases: Vec<_> = self.fleet.workers.iter().map(|(id, process)| (id, &process.phase)).collect();
        format!("{phases:?}, given up: {}, {:#?}", self.fleet.given_up, self.scheduler.stats())
    }
}
