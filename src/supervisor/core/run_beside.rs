//! What workers do at once, beside their tasks, on the word of a session: they run a function, or sample their threads.
//!
//! Asked are the workers that there are and are to be: one that starts is asked when it has come to work. One whose start
//! fails, or that ends before it has answered, is answered for: with why, or with the record of its death, if it was one. One
//! that is on its way out has no part in it, since the task that waits for the answer may be what keeps it.

use super::Core;
use super::fleet::Phase;
use super::on_command::Asker;
use super::sessions::{AskedWorker, RunBeside, Wait};
use crate::error::Cause;
use crate::ids::{SessionId, WorkerId};
use crate::message::{Answer, Beside, RanBeside, ToWorker};
use crate::profile::ProfileCommand;
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
        let what = Beside::Function(function);
        let mut run = RunBeside { serial: self.sessions.ran, what, workers: Vec::with_capacity(slots.len()) };
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

    /// A session has the workers' threads sampled, or asks what has been sampled. Only who is at work is asked: who comes later
    /// is told what to do then.
    pub(super) fn answer_profile<E: Effects>(
        &mut self,
        asker: Asker,
        command: ProfileCommand,
        fx: &mut E,
    ) -> Option<Answer> {
        let session = asker.session;
        match command {
            ProfileCommand::Start => *self.sessions.sampling.entry(session).or_default() += 1,
            ProfileCommand::Stop => {
                let Some(reasons) = self.sessions.sampling.get_mut(&session) else {
                    return Some(Answer::Ran(Vec::new()));
                };
                *reasons -= 1;
                self.sessions.sampling.retain(|_, reasons| *reasons > 0);
                if !self.sessions.sampling.is_empty() {
                    return Some(Answer::Ran(Vec::new()));
                }
            }
            ProfileCommand::Read => {}
        }
        self.sessions.ran += 1;
        let mut run = RunBeside { serial: self.sessions.ran, what: Beside::Profile(command), workers: Vec::new() };
        let at_work = (0..self.fleet.slots.len()).filter(|slot| self.at_work(*slot).is_some());
        run.workers.extend(at_work.map(|slot| AskedWorker { slot, process: None, result: None }));
        self.ask_those_at_work(&mut run, fx);
        self.sessions.waiting.push(asker.waits_for(Wait::Ran(run)));
        None
    }

    /// A worker has come to work: it samples its threads, if others do.
    pub(super) fn samples_as_others<E: Effects>(&mut self, worker: WorkerId, fx: &mut E) {
        if !self.sessions.sampling.is_empty() {
            self.command_profile(worker, ProfileCommand::Start, fx);
        }
    }

    /// A session has ended, and with it its reasons to have threads sampled.
    pub(super) fn samples_no_more<E: Effects>(&mut self, session: SessionId, fx: &mut E) {
        if self.sessions.sampling.remove(&session).is_some() && self.sessions.sampling.is_empty() {
            let at_work: Vec<WorkerId> =
                (0..self.fleet.slots.len()).filter_map(|slot| self.at_work(slot)).map(|(worker, _)| worker).collect();
            at_work.into_iter().for_each(|worker| self.command_profile(worker, ProfileCommand::Stop, fx));
        }
    }

    /// Nobody waits for the answer.
    fn command_profile<E: Effects>(&mut self, worker: WorkerId, command: ProfileCommand, fx: &mut E) {
        self.sessions.ran += 1;
        let what = Beside::Profile(command);
        self.send(worker, &ToWorker::RunBeside { serial: self.sessions.ran, what }, fx);
    }

    /// Has those do it that have come to work and have not been asked.
    pub(super) fn ask_those_at_work<E: Effects>(&mut self, run: &mut RunBeside, fx: &mut E) {
        let (serial, what) = (run.serial, run.what);
        for asked in run.workers.iter_mut().filter(|asked| asked.process.is_none() && asked.result.is_none()) {
            asked.process = self.at_work(asked.slot);
            if let Some((id, _)) = asked.process {
                self.send(id, &ToWorker::RunBeside { serial, what }, fx);
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

    /// A worker says what became of what it was to do. Its session may have ended.
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

    /// What became of it on all workers, once that is known.
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
