//! Messages from workers.

use super::fleet::Phase;
use super::loans::Borrower;
use super::{Core, SessionEnd, owner_of, session_of};
use crate::error::DeathCause;
use crate::events::programs::News;
use crate::host::report;
use crate::ids::WorkerId;
use crate::message::FromWorker;
use crate::supervisor::effects::Effects;

impl Core {
    /// Takes in a message of a worker. An error ends it, see [`Core::misunderstood`].
    pub(crate) fn receive<E: Effects>(
        &mut self,
        worker: WorkerId,
        message: FromWorker,
        fx: &mut E,
    ) -> std::result::Result<(), String> {
        self.notice_gap(fx);
        let phase = self.fleet.workers.get(&worker).map(|process| &process.phase);
        let starting = matches!(phase, Some(Phase::Starting(_)));
        let setting_up = matches!(phase, Some(Phase::SettingUp(_)));
        match message {
            FromWorker::Hello { version, build } if starting => self.welcome(worker, version, &build, fx)?,
            _ if starting => return Err("it did not begin with a hello".to_string()),
            FromWorker::Hello { .. } => return Err("a second hello".to_string()),
            FromWorker::Ready if setting_up => self.set_up(worker, fx),
            FromWorker::NotSetUp(why) if setting_up => self.kill(worker, DeathCause::Init(why), true, fx),
            FromWorker::Ready | FromWorker::NotSetUp(_) => return Err("it was set up before".to_string()),
            FromWorker::Done(done) => {
                let completions = done.unpack().map_err(|e| e.to_string())?;
                #[cfg(test)]
                completions.iter().for_each(|done| super::provoke::completion(self, done.id));
                self.count_of_worker(worker, completions.len());
                self.scheduler.finished(worker, completions, self.now(fx));
            }
            FromWorker::Retracted(tasks) => self.scheduler.retracted(worker, &tasks),
            FromWorker::Bounced(tasks) => self.scheduler.bounced(worker, &tasks),
            FromWorker::Exported(task, result) => self.scheduler.exported(worker, task, result),
            FromWorker::Released(segments) => self.loans.take_back(Borrower::Worker(worker), segments),
            FromWorker::FilesEnded(files) => self.files_ended(files, owner_of(worker), fx),
            FromWorker::Paused(paused) => self.scheduler.paused(worker, paused),
            FromWorker::Retire => {
                if let Some(process) = self.fleet.workers.get_mut(&worker) {
                    process.terminated = true;
                }
                self.replace_in_order();
            }
            FromWorker::RanBeside { serial, result } => self.ran_beside(worker, serial, result),
            FromWorker::NoRoomNow => self.scheduler.relieve(),
            FromWorker::Blocked(delta, task) => {
                self.scheduler.blocked(worker, delta);
                if let Some((task, kind)) = task {
                    self.scheduler.note_waiter(worker, task, (delta > 0).then_some(kind));
                }
                if delta > 0 {
                    self.stay(worker);
                }
            }
            FromWorker::Function { log_id, name } => {
                if fx.takes_news() {
                    fx.tell(News::Function(log_id, name.clone()));
                }
                self.history.add_function(log_id, name);
            }
            FromWorker::Printed { number, stderr, bytes, tasks } => {
                if let Some(process) = self.fleet.workers.get_mut(&worker) {
                    process.told = number;
                }
                self.print(worker, stderr, &bytes, &tasks, fx);
            }
            FromWorker::Session(request) => {
                let session = session_of(worker);
                self.sessions.ends.entry(session).or_insert(SessionEnd::Worker(worker));
                self.request(session, request, fx);
            }
        }
        Ok(())
    }

    /// What a worker has sent makes no sense.
    pub(crate) fn misunderstood<E: Effects>(&mut self, worker: WorkerId, reason: String, fx: &mut E) {
        report!(Error, "a worker broke the protocol: {reason}");
        self.kill(worker, DeathCause::Protocol(reason), true, fx);
    }

    /// What a worker has sent cannot be read, for want of something in this process. Where that is lasting, the tasks that it
    /// was sent for count as suspects, so that they do not run for ever.
    pub(crate) fn unheard<E: Effects>(&mut self, worker: WorkerId, reason: String, lasting: bool, fx: &mut E) {
        report!(Error, "a worker is replaced, and its tasks run again: {reason}");
        self.kill(worker, DeathCause::Unheard(reason), lasting, fx);
    }
}
