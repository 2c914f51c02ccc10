//! What is done to workers on command: their number, their retirement, their replacement. None of it is a death: nothing is
//! recorded as one, and no task is blamed.

use super::Core;
use super::sessions::{Wait, Waiting};
use crate::error::DeathCause;
use crate::host::report;
use crate::ids::{SessionId, TaskId, WorkerId};
use crate::message::{Answer, ToSession};
use crate::supervisor::effects::Effects;
use std::time::Duration;

/// Who asks for something that takes time.
pub(super) struct Asker {
    pub(super) session: SessionId,
    pub(super) ticket: u64,
    /// The task that does, where that is known.
    pub(super) by: Option<TaskId>,
}

impl Asker {
    fn waits_for(self, what: Wait) -> Waiting {
        Waiting { what, session: self.session, ticket: self.ticket, by: self.by }
    }
}

impl Core {
    /// Opens or closes slots until `n` are open: those of the lowest numbers, as far as no others have been chosen.
    ///
    /// # Errors
    /// Where there is not memory for so many.
    pub(crate) fn scale(&mut self, n: usize) -> std::result::Result<(), String> {
        self.share.as_mut().map_or(Ok(()), |share| share.set(n))?;
        let mut open = self.fleet.most();
        for slot in 0..self.fleet.slots.len() {
            if open < n && self.fleet.slots[slot].closing {
                self.fleet.slots[slot].closing = false;
                open += 1;
            }
        }
        while open < n {
            self.add_slot(Vec::new());
            open += 1;
        }
        for slot in (0..self.fleet.slots.len()).rev() {
            if open > n && !self.fleet.slots[slot].closing {
                self.close_slot(slot);
                open -= 1;
            }
        }
        self.settings.workers = n;
        self.announce_fleet();
        self.agenda.to_fill = true;
        Ok(())
    }

    /// Retires the workers of these names: there are to be so many fewer from now on. The answer is their processes, which go
    /// even where more workers are wanted before they have.
    pub(crate) fn retire(&mut self, names: &[String]) -> std::result::Result<Vec<WorkerId>, String> {
        let mut slots = names.iter().map(|name| self.slot_of(name)).collect::<std::result::Result<Vec<_>, _>>()?;
        slots.sort_unstable();
        slots.dedup();
        if slots.len() >= self.fleet.most() {
            return Err("one worker at least has to stay".to_string());
        }
        for &slot in &slots {
            report!(Info, "{} retires: on command", self.fleet.slots[slot].name);
            self.close_slot(slot);
        }
        self.settings.workers = self.fleet.most();
        if let Some(share) = &mut self.share {
            share.set(self.settings.workers)?;
        }
        self.announce_fleet();
        let workers: Vec<WorkerId> = slots.into_iter().filter_map(|slot| self.fleet.slots[slot].worker).collect();
        for id in &workers {
            if let Some(process) = self.fleet.workers.get_mut(id) {
                process.to_retire = true;
            }
        }
        Ok(workers)
    }

    /// Replaces a worker by a new one: in order, or when that takes longer than `within`, by force. The answer is its slot,
    /// and the process that goes.
    pub(crate) fn replace<E: Effects>(
        &mut self,
        name: &str,
        within: Duration,
        fx: &mut E,
    ) -> std::result::Result<(usize, Option<WorkerId>), String> {
        let slot = self.slot_of(name)?;
        let worker = self.fleet.slots[slot].worker;
        let by = self.time(fx).checked_add(within);
        match worker.and_then(|id| self.fleet.workers.get_mut(&id)) {
            Some(process) => {
                process.to_replace = true;
                process.replace_by = by.map(|by| process.replace_by.map_or(by, |before| before.min(by)));
                self.replace_in_order();
                self.dismiss_overdue(fx);
            }
            None => self.agenda.to_fill = true,
        }
        Ok((slot, worker))
    }

    /// Replaces all workers at once.
    pub(crate) fn restart<E: Effects>(&mut self, fx: &mut E) {
        report!(Info, "all workers are replaced: on command");
        self.fleet.all().into_iter().for_each(|id| self.dismiss(id, fx));
        self.agenda.to_fill = true;
    }

    /// Ends a worker that has done nothing wrong.
    fn dismiss<E: Effects>(&mut self, id: WorkerId, fx: &mut E) {
        if let Some(process) = self.fleet.workers.get_mut(&id) {
            // One that was being ended for a fault of its own has died of that.
            process.dismissed |= process.killed.is_none();
        }
        self.kill(id, DeathCause::Unknown, false, fx);
    }

    /// Ends the workers that were to be replaced by now.
    pub(super) fn dismiss_overdue<E: Effects>(&mut self, fx: &mut E) {
        let now = self.time(fx);
        let overdue = self.fleet.workers.values().filter(|w| w.replace_by.is_some_and(|by| by <= now) && !w.dismissed);
        let overdue: Vec<WorkerId> = overdue.map(|process| process.id).collect();
        for id in overdue {
            report!(Info, "{} is ended: it was to be replaced by now", self.name_of(id));
            self.dismiss(id, fx);
        }
    }

    /// A session asks for the retirement of workers; it is answered when they are gone.
    pub(super) fn answer_retire<E: Effects>(
        &mut self,
        asker: Asker,
        names: &[String],
        within: Option<Duration>,
        fx: &mut E,
    ) -> Option<Answer> {
        let refused = |why| Some(Answer::Refused { what: "the workers to retire".to_string(), why });
        let workers = names.iter().filter_map(|name| self.fleet.slots[self.slot_of(name).ok()?].worker);
        if let Some(deadlock) = self.deadlock(&asker, workers.collect(), fx) {
            return Some(deadlock);
        }
        match self.retire(names) {
            Ok(workers) => {
                let until = within.and_then(|within| fx.now().checked_add(within));
                self.sessions.waiting.push(asker.waits_for(Wait::Gone { workers, until }));
                None
            }
            Err(why) => refused(why),
        }
    }

    /// A session asks for a new worker; it is answered when that is ready.
    pub(super) fn answer_replace<E: Effects>(
        &mut self,
        asker: Asker,
        name: &str,
        within: Duration,
        fx: &mut E,
    ) -> Option<Answer> {
        let worker = self.slot_of(name).ok().and_then(|slot| self.fleet.slots[slot].worker);
        if let Some(deadlock) = self.deadlock(&asker, worker.into_iter().collect(), fx) {
            return Some(deadlock);
        }
        match self.replace(name, within, fx) {
            Ok((slot, old)) => {
                let until = self.time(fx).checked_add(within);
                self.fleet.slots[slot].failed = None;
                self.sessions.waiting.push(asker.waits_for(Wait::Replaced { slot, old, until }));
                None
            }
            Err(why) => Some(Answer::Refused { what: "the worker to restart".to_string(), why }),
        }
    }

    /// Answers the sessions that wait for something of the workers, as far as there is an answer now.
    pub(super) fn answer_waiting<E: Effects>(&mut self, fx: &mut E) {
        if self.sessions.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.sessions.waiting);
        let (mut answers, now, time) = (Vec::new(), fx.now(), self.time(fx));
        for wait in waiting {
            let answer = match &wait.what {
                Wait::Ready { n, until } => self.are_ready(*n, now >= *until),
                Wait::Gone { workers, until } => {
                    let gone = !workers.iter().any(|id| self.fleet.workers.contains_key(id));
                    let late = until.is_some_and(|until| now >= until);
                    match gone {
                        true => Some(Answer::Retired { left: self.fleet.most() }),
                        false => late.then_some(Answer::TimedOut),
                    }
                }
                Wait::Replaced { slot, old, until } => {
                    self.is_replaced(*slot, *old, until.is_some_and(|until| time >= until))
                }
            };
            // Those before it wait on; whoever closes the circle is told.
            let answer = answer.or_else(|| self.deadlock_of(&wait, fx));
            match answer {
                Some(answer) => answers.push((wait.session, wait.ticket, answer)),
                None => self.sessions.waiting.push(wait),
            }
        }
        for (session, ticket, answer) in answers {
            self.tell_session(session, ToSession::Answer(ticket, answer), fx);
        }
    }

    fn are_ready(&self, n: usize, late: bool) -> Option<Answer> {
        let (ready, most) = (self.fleet.ready().count(), self.fleet.most());
        if ready >= n {
            return Some(Answer::Done);
        }
        if n > most {
            let why = format!("{n} workers are waited for, and there are to be {most}; use `scale`");
            return Some(Answer::Refused { what: "the number of workers".to_string(), why });
        }
        late.then_some(Answer::TimedOut)
    }

    fn is_replaced(&self, slot: usize, old: Option<WorkerId>, late: bool) -> Option<Answer> {
        let slot = &self.fleet.slots[slot];
        if slot.closing {
            let why = format!("{} retires, and is not replaced", slot.name);
            return Some(Answer::Refused { what: "the worker to restart".to_string(), why });
        }
        let new = slot.worker.filter(|&worker| Some(worker) != old);
        if new.is_some_and(|new| self.fleet.ready().any(|ready| ready == new)) {
            return Some(Answer::Done);
        }
        let why = slot.failed.as_ref().filter(|_| late && (old.is_none() || slot.worker != old))?;
        let name = &slot.name;
        Some(Answer::NotStarted(format!("{name} has ended, and no new one has come to work; it is tried again. {why}")))
    }

    /// The slot of that name that has a worker, or is to have one.
    fn slot_of(&self, name: &str) -> std::result::Result<usize, String> {
        let open = || self.fleet.slots.iter().enumerate().filter(|(_, slot)| !slot.closing);
        open().find(|(_, slot)| slot.name == name).map(|(at, _)| at).ok_or_else(|| {
            let there: Vec<_> = open().map(|(_, slot)| slot.name.as_str()).take(8).collect();
            let more = if self.fleet.most() > there.len() { ", …" } else { "" };
            format!("there is no worker `{name}`; there are {}{more}", there.join(", "))
        })
    }

    fn close_slot(&mut self, slot: usize) {
        self.fleet.slots[slot].closing = true;
        if let Some(worker) = self.fleet.slots[slot].worker {
            self.scheduler.worker_retiring(worker);
        }
    }

    pub(super) fn name_of(&self, id: WorkerId) -> &str {
        self.fleet.workers.get(&id).map_or("a worker", |process| &self.fleet.slots[process.slot].name)
    }
}
