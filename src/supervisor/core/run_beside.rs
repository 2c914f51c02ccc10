//! Functions that workers run at once, beside their tasks, on the word of a session.
//!
//! Asked are the workers that have come to work and are to stay. One that ends before it has answered is answered for: with
//! the record of its death, if it was one.

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
            None => Ok((0..self.fleet.slots.len()).filter(|&slot| self.at_work(slot).is_some()).collect()),
            Some(names) => names.iter().map(|name| self.slot_of(name)).collect::<Result<Vec<usize>, String>>(),
        };
        let slots = match slots {
            Ok(slots) => slots,
            Err(why) => return Some(Answer::Refused { what: "the workers to run it on".to_string(), why }),
        };
        self.sessions.ran += 1;
        let serial = self.sessions.ran;
        let mut workers: Vec<AskedWorker> = Vec::with_capacity(slots.len());
        for slot in slots {
            let name = self.fleet.slots[slot].name.clone();
            if workers.iter().any(|known| known.name == name) {
                continue;
            }
            match self.at_work(slot) {
                Some((id, pid)) => {
                    self.send(id, &ToWorker::RunBeside { serial, function }, fx);
                    workers.push(AskedWorker { id, name, pid, result: None });
                }
                None => {
                    let reason = format!("{name} has not come to work, or is about to end");
                    let result = Some(Err(Cause::Closed { reason }));
                    workers.push(AskedWorker { id: WorkerId(u32::MAX), name, pid: 0, result });
                }
            }
        }
        self.sessions.waiting.push(asker.waits_for(Wait::Ran(RunBeside { serial, workers })));
        None
    }

    /// The worker of a slot that has come to work and is to stay, with its process.
    fn at_work(&self, slot: usize) -> Option<(WorkerId, u32)> {
        let process = self.fleet.workers.get(&self.fleet.slots[slot].worker?)?;
        let stays = process.killed.is_none() && !self.fleet.is_to_go(process);
        (process.phase == Phase::Ready && stays).then_some((process.id, process.pid))
    }

    /// A worker says what became of a function. Its session may have ended.
    pub(super) fn ran_beside(&mut self, worker: WorkerId, serial: u64, result: RanBeside) {
        let runs = self.sessions.waiting.iter_mut().filter_map(|waiting| match &mut waiting.what {
            Wait::Ran(run) if run.serial == serial => Some(run),
            _ => None,
        });
        let asked = runs.flat_map(|run| &mut run.workers).find(|asked| asked.id == worker && asked.result.is_none());
        if let Some(asked) = asked {
            asked.result = Some(result);
        }
    }

    /// What became of a function on all workers, once that is known.
    pub(super) fn have_run(&self, run: &RunBeside) -> Option<Answer> {
        let is_over = |asked: &AskedWorker| asked.result.is_some() || !self.fleet.workers.contains_key(&asked.id);
        if !run.workers.iter().all(is_over) {
            return None;
        }
        let results = run.workers.iter().map(|AskedWorker { name, pid, result, .. }| {
            let ended = || {
                let record = self.history.deaths.iter().rev().find(|record| record.pid == *pid);
                Err(record.map_or_else(
                    || Cause::Closed { reason: format!("{name} has ended") },
                    |record| Cause::WorkerDied(vec![record.clone()]),
                ))
            };
            (name.clone(), result.clone().unwrap_or_else(ended))
        });
        Some(Answer::Ran(results.collect()))
    }
}
