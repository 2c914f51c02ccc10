//! The worker processes: started, welcomed, ended, replaced.

use super::fleet::{FailedStart, Phase, WorkerProcess};
use super::loans::Borrower;
use super::{Core, owner_of, session_of};
use crate::error::{DeathCause, Result};
use crate::events::EventKind;
use crate::events::file::lost;
use crate::host::report;
use crate::ids::WorkerId;
use crate::ipc::clock;
use crate::message::{ToSession, ToWorker, Welcome};
use crate::settings::RestartPolicy;
use crate::supervisor::effects::{Effects, Timer, WorkerPage};
use crate::supervisor::worker_slot::WorkerSlot;
use crate::task::image::BuildId;
use crate::version::VERSION;
use std::time::Duration;

/// How long to wait when no process can be started.
const START_PAUSE: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn add_slot(&mut self, tags: Vec<String>) {
        self.fleet.slots.push(WorkerSlot::new(self.fleet.slots.len(), tags));
        self.history.add_slot();
    }

    /// Starts a worker in a slot.
    pub(super) fn fill<E: Effects>(&mut self, slot: usize, fx: &mut E) -> Result<()> {
        let id = WorkerId(self.fleet.next_worker);
        self.fleet.next_worker += 1;
        let pid = fx.spawn(id, self.settings.workers)?;
        let now = self.time(fx);
        self.fleet.slots[slot].begin(id, now);
        report!(Debug, "{} started as process {pid}", self.fleet.slots[slot].name);
        let started = EventKind::WorkerStarted { worker: self.fleet.slots[slot].name.clone(), pid };
        self.note(id, started, fx);
        self.fleet.workers.insert(id, WorkerProcess::new(id, slot, pid, now));
        Ok(())
    }

    fn refill_later<E: Effects>(&mut self, slot: usize, pause: Duration, fx: &mut E) {
        match pause.is_zero() {
            true => self.refill(slot, fx),
            false => fx.call_later(pause, Timer::Refill(slot)),
        }
    }

    pub(super) fn refill<E: Effects>(&mut self, slot: usize, fx: &mut E) {
        let filled = self.fleet.slots[slot].closing || self.fleet.slots[slot].worker.is_some();
        if self.agenda.stopping.is_some() || self.fleet.given_up || filled {
            return;
        }
        if let Err(e) = self.fill(slot, fx) {
            let name = self.fleet.slots[slot].name.clone();
            report!(Error, "{name} cannot be started again: {e}; trying again");
            let why = format!("{name} cannot be started: {e}");
            self.start_failed(&why, FailedStart::Ended, fx);
            self.fleet.slots[slot].failed = Some(why);
            self.refill_later(slot, START_PAUSE, fx);
        }
    }

    /// Fills the slots that have no worker and should have one, also when that has been given up.
    pub(super) fn refill_open<E: Effects>(&mut self, fx: &mut E) {
        self.try_again();
        for slot in 0..self.fleet.slots.len() {
            self.refill(slot, fx);
        }
    }

    pub(super) fn welcome<E: Effects>(
        &mut self,
        worker: WorkerId,
        version: u64,
        build: &BuildId,
        fx: &mut E,
    ) -> std::result::Result<(), String> {
        if version != VERSION {
            return Err(format!("it speaks protocol {version:016x}, not {VERSION:016x}"));
        }
        if *build != self.program.build {
            return Err("it is another build of the program".to_string());
        }
        let now = self.time(fx);
        let Some(process) = self.fleet.workers.get_mut(&worker) else { return Ok(()) };
        let (slot, at_once) = (process.slot, self.settings.hooks.init.is_none());
        let welcome = Welcome {
            id: worker,
            name: self.fleet.slots[slot].name.clone(),
            owner: owner_of(worker),
            threads: self.settings.threads,
            memory_limit: self.settings.memory_limit,
            thresholds: self.settings.thresholds,
            spill_directory: self.settings.spill_directory.clone(),
            supervisor_page: self.program.supervisor_page.clone(),
            own_page: self.program.pages.sibling(owner_of(worker)),
            session: session_of(worker),
            counter: clock::uses_counter(),
            other_program: !self.program.is_own,
            shuffle_directory: self.settings.shuffle_directory.clone(),
            hooks: self.settings.hooks,
            resources: self.settings.resources_of_workers(),
        };
        if !at_once {
            process.phase = Phase::SettingUp(now);
        }
        self.send(worker, &ToWorker::Welcome(Box::new(welcome)), fx);
        if at_once {
            self.set_up(worker, fx);
        }
        Ok(())
    }

    /// A worker has been welcomed and has nothing to do first, or has done it.
    pub(super) fn set_up<E: Effects>(&mut self, worker: WorkerId, fx: &mut E) {
        let Some(process) = self.fleet.workers.get_mut(&worker) else { return };
        process.phase = Phase::Ready;
        let (slot, pid, to_retire) = (process.slot, process.pid, process.to_retire);
        self.fleet.slots[slot].failed = None;
        let ready = EventKind::WorkerReady { worker: self.fleet.slots[slot].name.clone(), pid };
        self.note(worker, ready, fx);
        self.scheduler.worker_joined(worker, self.spec(slot));
        if to_retire || self.fleet.slots[slot].closing {
            self.scheduler.worker_retiring(worker);
        }
        self.samples_as_others(worker, fx);
    }

    pub(super) fn kill<E: Effects>(&mut self, id: WorkerId, cause: DeathCause, blame: bool, fx: &mut E) {
        let Some(process) = self.fleet.workers.get_mut(&id) else { return };
        process.killed.get_or_insert(cause);
        process.blame &= blame;
        fx.kill(id);
    }

    /// Kills all workers, for no fault of their tasks.
    pub(super) fn kill_all<E: Effects>(&mut self, fx: &mut E) {
        self.fleet.all().into_iter().for_each(|id| self.kill(id, DeathCause::Unknown, false, fx));
    }

    /// The process of a worker has ended.
    pub(crate) fn ended<E: Effects>(&mut self, worker: WorkerId, cause: DeathCause, fx: &mut E) {
        self.notice_gap(fx);
        let Some(process) = self.fleet.workers.remove(&worker) else { return };
        let slot = process.slot;
        let worked = self.has_worked(&process, fx);
        let (cause, available) = self.explained(&process, cause, fx);
        let cause = process.of_set_up(cause);
        let unborn = process.was_terminated_at_birth(&cause);
        let expected =
            process.phase == Phase::Retiring || process.dismissed || unborn || self.agenda.stopping.is_some();
        let suspects = self.suspects(&process, &cause, fx);
        let mut record = self.record(&process, &suspects, cause, fx);
        record.available = available;
        let (name, pid) = (self.fleet.slots[slot].name.clone(), process.pid);
        let end = match expected {
            true => EventKind::WorkerRetired { worker: name, pid },
            false => lost(name, pid, &record.cause),
        };
        self.note(worker, end, fx);
        let past = &mut self.history.past_runs[slot];
        past.extend(fx.page(worker).map(WorkerPage::runs).unwrap_or_default());
        past.drain(..past.len().saturating_sub(self.settings.events));
        if !expected {
            report!(Warn, "{record}");
            self.history.add_death(record.clone());
        }
        let silent = matches!(record.cause, DeathCause::Unresponsive(_));
        let end = record.to_string();
        if !expected && process.phase.is_start() {
            self.fleet.slots[slot].failed = Some(end.clone());
        }
        self.history.unset = matches!(process.phase, Phase::SettingUp(_));
        self.scheduler.session_closed(session_of(worker));
        self.sessions.close(session_of(worker));
        self.samples_no_more(session_of(worker), fx);
        self.coordinates_no_more(session_of(worker), fx);
        if process.blame {
            self.scheduler.suspect(&suspects.ended);
            self.scheduler.worker_lost(worker, &suspects.likely(), record);
        } else {
            self.scheduler.worker_lost(worker, &[], record);
        }
        // Its page stays until the end of this: the first attempt to replace it does not count on that memory.
        let _page = fx.forget(worker);
        self.loans.end(Borrower::Worker(worker));
        self.owner_ended(owner_of(worker), fx);
        let start = match (&process.phase, self.fleet.slots[slot].started()) {
            (Phase::SettingUp(_), Some(began)) => FailedStart::SettingUp(began),
            (Phase::Starting(_), Some(began)) if silent => FailedStart::Silent(began),
            _ => FailedStart::Ended,
        };
        let pause = if expected && !unborn {
            self.fleet.slots[slot].leave();
            Duration::ZERO
        } else {
            // Whoever ends all that are born is not to have it done in haste.
            self.fleet.slots[slot].end(worked)
        };
        if worked {
            self.starts_succeed();
        }
        if self.agenda.stopping.is_some() {
            if self.fleet.workers.is_empty() {
                fx.stop();
            }
            return;
        }
        if !self.fleet.slots[slot].closing {
            // The policy is for those that have died.
            if expected || self.settings.restart == RestartPolicy::Always {
                if !worked && !expected {
                    self.start_failed(&end, start, fx);
                }
                return self.refill_later(slot, pause, fx);
            }
            self.fleet.slots[slot].closing = true;
            self.announce_fleet();
        }
        self.history.last_end = Some(end);
        // Those that were on their way out may be the last to go.
        if let Some(reason) = self.nobody_comes() {
            self.give_up(&reason, fx);
        }
    }

    /// Why there will be no workers any more, if that is so.
    pub(super) fn nobody_comes(&self) -> Option<String> {
        let over = self.fleet.workers.is_empty() && self.fleet.most() == 0;
        let last = self.history.last_end.as_ref().filter(|_| over)?;
        Some(format!("all workers have died, and they are not to be replaced; the last: {last}"))
    }

    /// Lets all workers end, and then the actor.
    pub(crate) fn stop<E: Effects>(&mut self, fx: &mut E) {
        if self.agenda.stopping.is_some() {
            return;
        }
        self.agenda.stopping = Some(self.time(fx));
        for id in self.fleet.all() {
            let starting = |process: &WorkerProcess| process.phase.is_start();
            if self.fleet.workers.get(&id).is_some_and(starting) {
                self.kill(id, DeathCause::Unknown, false, fx);
            } else {
                self.send(id, &ToWorker::Shutdown, fx);
            }
        }
        if self.fleet.workers.is_empty() {
            fx.stop();
        }
    }

    /// No worker is left and none will come.
    pub(super) fn give_up<E: Effects>(&mut self, reason: &str, fx: &mut E) {
        report!(Error, "{reason}");
        let sessions: Vec<_> = self.sessions.ends.keys().copied().collect();
        for session in sessions {
            let message = ToSession::Closed { reason: reason.to_string(), unstarted: self.history.unset };
            self.tell_session(session, message, fx);
        }
    }
}
