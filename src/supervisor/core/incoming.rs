//! Messages from workers.

use super::fleet::Phase;
use super::loans::Borrower;
use super::memory::pause_of;
use super::{Core, SessionEnd, owner_of, session_of};
use crate::error::DeathCause;
use crate::events::EventKind;
use crate::events::programs::News;
use crate::host::report;
use crate::ids::{TaskId, WorkerId};
use crate::ipc::payload::Payload;
use crate::job::Failure;
use crate::message::{FromWorker, MovedResult};
use crate::supervisor::effects::Effects;

/// Where a result goes that is sent: whoever reads it maps it there, without another copy.
const SHARED_MEMORY: &str = "shared memory";

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
            FromWorker::Retracted(tasks) => {
                self.scheduler.retracted(worker, &tasks);
                let name = self.name_of(worker).to_string();
                for task in tasks {
                    self.note_of_task(task, |key| EventKind::Retracted { key, worker: name.clone() }, fx);
                }
            }
            FromWorker::Bounced(tasks) => self.scheduler.bounced(worker, &tasks),
            FromWorker::Exported(task, result) => self.exported(worker, task, result, fx),
            FromWorker::Moved(moved) => self.moved(worker, moved, fx),
            FromWorker::Released(segments) => self.loans.take_back(Borrower::Worker(worker), segments),
            FromWorker::FilesEnded(files) => self.files_ended(files, owner_of(worker), fx),
            FromWorker::Paused(paused) => {
                self.scheduler.paused(worker, paused);
                self.note_pause(worker, paused, fx);
            }
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

    fn exported<E: Effects>(
        &mut self,
        worker: WorkerId,
        task: TaskId,
        result: Result<Payload, Box<Failure>>,
        fx: &mut E,
    ) {
        let bytes = result.as_ref().ok().map(Payload::nbytes);
        let since = self.scheduler.exported(worker, task, result);
        if let (Some(bytes), Some(since)) = (bytes, since) {
            let took = self.now(fx).saturating_sub(since);
            let (from, to) = (self.name_of(worker).to_string(), SHARED_MEMORY.to_string());
            self.note_of_task(task, |key| EventKind::Transfer { key, from, to, bytes, took }, fx);
        }
    }

    /// A worker has moved results to disk, or back.
    fn moved<E: Effects>(&self, worker: WorkerId, moved: Vec<MovedResult>, fx: &mut E) {
        for MovedResult { task, loaded, bytes, took } in moved {
            let worker = self.name_of(worker).to_string();
            let kind = |key| match loaded {
                true => EventKind::Loaded { key, worker, bytes, took },
                false => EventKind::Spilled { key, worker, bytes, took },
            };
            self.note_of_task(task, kind, fx);
        }
    }

    fn note_pause<E: Effects>(&self, worker: WorkerId, paused: bool, fx: &mut E) {
        let name = self.name_of(worker).to_string();
        let kind = match paused {
            true => {
                let reason = fx.page(worker).and_then(pause_of);
                EventKind::WorkerPaused { worker: name, reason: reason.unwrap_or_else(|| "it has no room".to_string()) }
            }
            false => EventKind::WorkerResumed { worker: name },
        };
        self.note(worker, kind, fx);
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
