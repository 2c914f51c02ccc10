//! Functions that workers run at once, beside their tasks, on the word of a session.
//!
//! Asked are the workers that there are and are to be: one that starts is asked when it has come to work. One whose start
//! fails, or that ends before it has answered, is answered for: with why, or with the record of its death, if it was one. One
//! that is on its way out has no part in it, since the task that waits for the answer may be what keeps it.

use super::Core;
use super::fleet::Phase;
use super::on_command::Asker;
use super::sessions::{AskedWorker, RunBeside, Wait};
use crate::error::Cause;
use crate::ids::WorkerId;
use crate::message::{Answer, RanBeside, ToWorker};
use crate::supervisor::effects::Effects;

impl Core {
    /// A session has a function run on workers: on all, or on those of these names. It is answered when all have run it.
    pub(super) fn answer_run<E: Effects>(
        &mut self,
        asker: Asker,
        names: Option<Vec<String>>,
        function: u64,
        fx: &mut E,
    ) -> Option<Answer> {
        let slots = match names {
            None => Ok((0..self.fleet.slots.len()).filter(|&slot| !self.is_leaving(slot)).collect()),
            Some(names) => names.iter().map(|name| self.slot_of(name)).collect::<Result<Vec<usize>, String>>(),
        };
        let slots = match slots {
            Ok(slots) => slots,
            Err(why) => return Some(Answer::Refused { what: "the workers to run it on".to_string(), why }),
        };
        self.sessions.ran += 1;
        let mut run = RunBeside { serial: self.sessions.ran, function, workers: Vec::with_capacity(slots.len()) };
        for slot in slots {
            if run.workers.iter().any(|known| known.slot == slot) {
                continue;
            }
            let reason = || format!("{} is about to end", self.fleet.slots[slot].name);
            let result = self.is_leaving(slot).then(|| Err(Cause::Closed { reason: reason() }));
            run.workers.push(AskedWorker { slot, process: None, result });
        }
        self.ask_those_at_work(&mut run, fx);
        self.sessions.waiting.push(asker.waits_for(Wait::Ran(run)));
        None
    }

    /// Has those run a function that have come to work and have not been asked.
    pub(super) fn ask_those_at_work<E: Effects>(&mut self, run: &mut RunBeside, fx: &mut E) {
        let (serial, function) = (run.serial, run.function);
        for asked in run.workers.iter_mut().filter(|asked| asked.process.is_none() && asked.result.is_none()) {
            asked.process = self.at_work(asked.slot);
            if let Some((id, _)) = asked.process {
                self.send(id, &ToWorker::RunBeside { serial, function }, fx);
            }
        }
    }

    /// The worker of a slot that has come to work and is to stay, with its process.
    fn at_work(&self, slot: usize) -> Option<(WorkerId, u32)> {
        let process = self.fleet.workers.get(&self.fleet.slots[slot].worker?)?;
        let stays = process.killed.is_none() && !self.fleet.is_to_go(process);
        (process.phase == Phase::Ready && stays).then_some((process.id, process.pid))
    }

    /// Whether there is to be no worker in a slot, or its worker ends as soon as its tasks have.
    fn is_leaving(&self, slot: usize) -> bool {
        let slot = &self.fleet.slots[slot];
        let process = slot.worker.and_then(|worker| self.fleet.workers.get(&worker));
        slot.closing || process.is_some_and(|process| process.phase == Phase::Retiring && process.killed.is_none())
    }

    /// A worker says what became of a function. Its session may have ended.
    pub(super) fn ran_beside(&mut self, worker: WorkerId, serial: u64, result: RanBeside) {
        let runs = self.sessions.waiting.iter_mut().filter_map(|waiting| match &mut waiting.what {
            Wait::Ran(run) if run.serial == serial => Some(run),
            _ => None,
        });
        let asked =
            runs.flat_map(|run| &mut run.workers).find(|asked| asked.process.is_some_and(|(id, _)| id == worker));
        if let Some(asked) = asked {
            asked.result.get_or_insert(result);
        }
    }

    /// What became of a function on all workers, once that is known.
    pub(super) fn have_run(&self, run: &RunBeside) -> Option<Answer> {
        let results = run.workers.iter().map(|asked| {
            let result = asked.result.clone().or_else(|| self.never_answers(asked).map(Err))?;
            Some((self.fleet.slots[asked.slot].name.clone(), result))
        });
        results.collect::<Option<_>>().map(Answer::Ran)
    }

    /// Why a worker will not answer.
    fn never_answers(&self, asked: &AskedWorker) -> Option<Cause> {
        let slot = &self.fleet.slots[asked.slot];
        let closed = |reason| Some(Cause::Closed { reason });
        match (asked.process, &slot.failed) {
            (Some((id, _)), _) if self.fleet.workers.contains_key(&id) => None,
            (Some((_, pid)), _) => match self.history.deaths.iter().rev().find(|record| record.pid == pid) {
                Some(record) => Some(Cause::WorkerDied(vec![record.clone()])),
                None => closed(format!("{} has ended", slot.name)),
            },
            (None, Some(why)) => closed(format!("{} has not come to work: {why}", slot.name)),
            (None, None) if slot.closing || self.fleet.given_up => {
                closed(format!("{} does not come to work", slot.name))
            }
            (None, None) => None,
        }
    }
}
