//! What clients ask for.

use super::loans::Borrower;
use super::memory::pause_of;
use super::on_command::Asker;
use super::sessions::{Wait, Waiting};
use super::{Core, OWN, Phase, SessionEnd, WorkerProcess, owner_of};
use crate::error::LogLine;
use crate::events::programs::News;
use crate::events::sources::RunSources;
use crate::events::{EventRecords, WorkerRuns};
use crate::ids::{ATTACHED_OWNERS, JobId, SessionId, TaskId, WorkerId};
use crate::job::{GroupCounts, HeldResult};
use crate::message::{Answer, Question, Request, ToSession};
use crate::settings::MOST_WORKERS;
use crate::status::{RunningTask, SharedObject, WorkerInfo, WorkerState};
use crate::supervisor::effects::{Effects, WorkerPage};
use std::time::Duration;
use swath_insight::explain::KeyPrefix;

/// What there is to see of a supervisor.
pub(crate) struct Overview {
    pub(crate) workers: Vec<WorkerInfo>,
    pub(crate) deaths: Vec<crate::error::DeathRecord>,
    /// Each with the time when it came.
    pub(crate) logs: Vec<(u64, LogLine)>,
    pub(crate) unfinished: u64,
    pub(crate) shared: Vec<SharedObject>,
}

impl Core {
    /// Takes in a request of a session.
    pub(crate) fn request<E: Effects>(&mut self, session: SessionId, request: Request, fx: &mut E) {
        match request {
            Request::Submit { number, .. } if self.draining && !session.is_of_tasks() => {
                let reason = "the local cluster is stopping: it takes no more graphs".to_string();
                self.tell_session(session, ToSession::Refused { number, reason }, fx);
            }
            request => self.admitted(session, request, fx),
        }
    }

    /// Takes in a request that is not to be refused for its time.
    pub(super) fn admitted<E: Effects>(&mut self, session: SessionId, request: Request, fx: &mut E) {
        let Some(request) = self.intake.pass(session, request) else { return };
        let job = |number| JobId { session, number };
        match request {
            Request::Submit { number, spec } => {
                #[cfg(test)]
                super::provoke::submission(&spec);
                self.submit(job(number), spec, fx);
            }
            Request::Grow { number, part } => {
                if let Err(e) = self.scheduler.grow(job(number), part, self.now(fx)) {
                    self.scheduler.give_up(job(number));
                    self.tell_session(session, ToSession::Refused { number, reason: e.to_string() }, fx);
                }
            }
            Request::Release { number, outputs } => self.scheduler.release(job(number), &outputs),
            Request::Cancel { number, outputs } => self.scheduler.cancel(job(number), &outputs),
            Request::Deliver { number, outputs } => self.scheduler.deliver(job(number), &outputs),
            Request::Retry { number, outputs } => self.scheduler.retry(job(number), &outputs),
            Request::Weight(weight) => self.scheduler.set_weight(session, weight),
            Request::Released(segments) => self.loans.take_back(Borrower::Session(session), segments),
            Request::FilesEnded(files) => {
                let owner = match self.sessions.ends.get(&session) {
                    Some(SessionEnd::Attached) => ATTACHED_OWNERS + session.0,
                    Some(SessionEnd::Worker(worker)) => owner_of(*worker),
                    Some(SessionEnd::Client) | None => OWN,
                };
                self.files_ended(files, owner, fx);
            }
            Request::Ask { ticket, question } => {
                if let Some(answer) = self.answer(session, ticket, question, fx) {
                    self.tell_session(session, ToSession::Answer(ticket, answer), fx);
                }
            }
            Request::Coordinate(request) => self.coordinate(session, request, fx),
            Request::Note(step) => self.note_step(None, *step, fx),
        }
    }

    fn answer<E: Effects>(
        &mut self,
        session: SessionId,
        ticket: u64,
        question: Question,
        fx: &mut E,
    ) -> Option<Answer> {
        Some(match question {
            Question::Workers => Answer::Workers(self.workers(fx)),
            Question::Memory => Answer::Memory(Box::new(self.memory(fx))),
            Question::Deaths => Answer::Deaths(self.history.deaths.iter().cloned().collect()),
            Question::Logs => Answer::Logs(self.logs().into_iter().map(|(_, line)| line).collect()),
            Question::Events => Answer::Events(Box::new(self.events(session, fx))),
            Question::Explain(job, index) => Answer::Explained(Box::new(self.explain(TaskId { job, index }, fx))),
            Question::Find { prefix, from, by } => {
                let of_task = by.and_then(|task| self.scheduler.owner_of(task));
                let found = self.find(Some(of_task.unwrap_or(session)), &KeyPrefix::new(&prefix), from, fx);
                Answer::Found(Box::new(found))
            }
            Question::Groups(by) => {
                let groups = self.groups(session, by, fx);
                Answer::Groups(groups, (self.fleet.ready().count() * self.settings.threads) as u32)
            }
            Question::WaitForWorkers { n, millis } => {
                let until = fx.now() + Duration::from_millis(millis.min(u64::from(u32::MAX)));
                self.sessions.waiting.push(Waiting { what: Wait::Ready { n, until }, session, ticket, by: None });
                return None;
            }
            Question::Scale(n) if n == 0 || n > MOST_WORKERS => {
                let why = format!("{n} workers; it must be 1 to {MOST_WORKERS}");
                Answer::Refused { what: "the number of workers".to_string(), why }
            }
            Question::Scale(n) => match self.scale(n) {
                Ok(()) => Answer::Done,
                Err(why) => Answer::Refused { what: "the number of workers".to_string(), why },
            },
            Question::Restart if session.is_of_tasks() => Answer::Deadlock(
                "a task would restart all workers, its own too, and so run again and restart them again. Let the program \
                 ask, or restart the other workers by name"
                    .to_string(),
            ),
            Question::Restart => {
                self.restart(fx);
                Answer::Done
            }
            Question::Retire { names, millis, by } => {
                let within = millis.map(Duration::from_millis);
                return self.answer_retire(Asker { session, ticket, by }, &names, within, fx);
            }
            Question::RestartWorker { name, millis, by } => {
                return self.answer_replace(Asker { session, ticket, by }, &name, Duration::from_millis(millis), fx);
            }
            Question::Held(tasks) => Answer::Held(self.held_results(session, tasks.as_deref())),
            Question::RunOn { names, function } => {
                return self.answer_run(Asker { session, ticket, by: None }, names, function, fx);
            }
            Question::Profile(command) => {
                return self.answer_profile(Asker { session, ticket, by: None }, command, fx);
            }
            Question::Publish { name, type_name, tasks } => self.publish(session, name, type_name, &tasks, fx),
            Question::Published { name, type_name, numbers } => {
                self.read_published(session, name, type_name, &numbers, fx)
            }
            Question::Unpublish(name) => self.unpublish(name, fx),
            Question::ListPublished => Answer::Published(self.list_published()),
            Question::Adapt { min, max, options } => self.adapt(session, min, max, options),
            Question::StopAdapting(serial) => {
                self.stop_adapting(serial);
                Answer::Done
            }
        })
    }

    /// Where the results of a session are.
    fn held_results(&self, session: SessionId, of: Option<&[TaskId]>) -> Vec<HeldResult> {
        let results = self.scheduler.results(session, of).into_iter();
        let held = |(task, holder, nbytes): (TaskId, Option<WorkerId>, u64)| {
            let worker = holder.map(|id| self.name_of(id).to_string());
            HeldResult { task, worker, nbytes, call: self.scheduler.call(task) }
        };
        results.map(held).collect()
    }

    /// Takes no more graphs but those of tasks, which belong to others that are under way.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// Tasks that are still to be done; one at least for a graph that is not in yet.
    pub(crate) fn unfinished(&self) -> u64 {
        self.scheduler.unfinished() + self.intake.graphs()
    }

    fn workers<E: Effects>(&self, fx: &E) -> Vec<WorkerInfo> {
        let mut processes: Vec<_> = self.fleet.workers.values().collect();
        processes.sort_by_key(|process| process.slot);
        processes.into_iter().filter_map(|process| self.info(process, fx)).collect()
    }

    fn info<E: Effects>(&self, process: &WorkerProcess, fx: &E) -> Option<WorkerInfo> {
        let page = fx.page(process.id)?;
        let gauges = page.gauges();
        let running = page.progress().into_iter();
        Some(WorkerInfo {
            name: self.fleet.slots[process.slot].name.clone(),
            pid: process.pid,
            state: match process.phase {
                _ if fx.is_stopped(process.id) => WorkerState::Stopped,
                Phase::Starting(_) | Phase::SettingUp(_) => WorkerState::Starting,
                Phase::Ready if process.recycling || self.fleet.is_to_go(process) => WorkerState::Retiring,
                Phase::Ready => WorkerState::Running,
                Phase::Retiring => WorkerState::Retiring,
            },
            threads: self.settings.threads,
            tasks: self.scheduler.in_flight(process.id),
            memory: fx.private_memory(process.id).unwrap_or(0),
            shared_memory: page.segment_bytes(),
            managed: gauges.managed,
            spilled: gauges.spilled,
            paused: pause_of(page),
            limit: self.settings.memory_limit,
            running: running
                .map(|(task, n)| RunningTask { key: self.key(process, task, fx), progress: f64::from(n) / 1000.0 })
                .collect(),
        })
    }

    /// What workers have recorded of the tasks of a session, and of those that tasks have submitted.
    fn events<E: Effects>(&self, session: SessionId, fx: &E) -> EventRecords {
        let mut runs: Vec<_> = (self.fleet.slots.iter().zip(&self.history.past_runs))
            .map(|(slot, past)| WorkerRuns { worker: slot.name.clone(), records: past.clone() })
            .collect();
        for process in self.fleet.workers.values() {
            runs[process.slot].records.extend(fx.page(process.id).map(WorkerPage::runs).unwrap_or_default());
        }
        for worker in &mut runs {
            worker.records.retain(|r| {
                let submitter = r.run.task.job.session;
                submitter == session || submitter.is_of_tasks()
            });
        }
        let mut steps = self.history.steps.entries();
        steps.retain(|step| step.what.is_for(session));
        EventRecords { runs, steps }
    }

    pub(crate) fn overview<E: Effects>(&self, fx: &E) -> Overview {
        let deaths = self.history.deaths.iter().cloned().collect();
        let (workers, unfinished) = (self.workers(fx), self.unfinished());
        let mut shared = self.shared_objects(fx);
        shared.extend(self.published_objects());
        Overview { workers, deaths, logs: self.logs(), unfinished, shared }
    }

    fn groups<E: Effects>(&self, session: SessionId, by: Option<TaskId>, fx: &E) -> Vec<GroupCounts> {
        let pages = self.fleet.workers.keys().filter_map(|id| fx.page(*id));
        let running = pages.flat_map(|page| page.progress());
        self.scheduler.groups(session, by, running)
    }

    /// Tells a recording how the tasks of each program are counted.
    pub(crate) fn tell_counts<E: Effects>(&self, fx: &mut E) {
        for session in self.sessions.ends.keys().filter(|session| !session.is_of_tasks()) {
            let groups = self.groups(*session, None, fx);
            fx.tell(News::Counts { session: *session, groups, ended: false });
        }
    }

    /// Gives a recording what is remembered.
    pub(crate) fn remember<E: Effects>(&self, sources: &RunSources, fx: &E) {
        for (slot, past) in self.fleet.slots.iter().zip(&self.history.past_runs) {
            let (worker, records) = (slot.name.clone(), past.clone());
            sources.program.note(News::Past { worker, records, is_there: false });
        }
        for process in self.fleet.workers.values() {
            let worker = self.fleet.slots[process.slot].name.clone();
            let records = fx.page(process.id).map(WorkerPage::runs).unwrap_or_default();
            sources.program.note(News::Past { worker, records, is_there: true });
        }
        self.history.functions().for_each(|(id, name)| sources.program.note(News::Function(id, name)));
        sources.program.note(News::Steps(self.history.steps.entries()));
        self.logs().into_iter().for_each(|(_, line)| sources.lines.push(line));
        for session in self.sessions.ends.keys().filter(|session| !session.is_of_tasks()) {
            let groups = self.groups(*session, None, fx);
            sources.program.note(News::Counts { session: *session, groups, ended: false });
        }
    }

    fn logs(&self) -> Vec<(u64, LogLine)> {
        let slots = self.fleet.slots.iter().zip(&self.history.recent_lines);
        slots.flat_map(|(slot, lines)| lines.arrived(&slot.name, usize::MAX)).collect()
    }

    pub(crate) fn open_session<E: Effects>(&mut self, session: SessionId, end: SessionEnd, fx: &mut E) {
        self.sessions.ends.insert(session, end);
        // If starting workers has been given up, somebody new is a reason to try again.
        self.agenda.to_fill |= self.fleet.given_up;
        if let Some(reason) = self.nobody_comes() {
            self.tell_session(session, ToSession::Closed { reason, unstarted: self.history.unset }, fx);
        }
    }

    /// The session is open.
    pub(crate) fn has_session(&self, session: SessionId) -> bool {
        self.sessions.ends.contains_key(&session)
    }

    /// The client or the program that had the session has left.
    pub(crate) fn close_session<E: Effects>(&mut self, session: SessionId, fx: &mut E) {
        if fx.takes_news() && !session.is_of_tasks() {
            let groups = self.groups(session, None, fx);
            fx.tell(News::Counts { session, groups, ended: true });
        }
        self.sessions.close(session);
        self.intake.close(session);
        self.adapts_no_more(session);
        self.samples_no_more(session, fx);
        fx.close(session);
        self.scheduler.session_closed(session);
        self.coordinates_no_more(session, fx);
        let lent = self.loans.end(Borrower::Session(session));
        if session != SessionId::CLIENT {
            // The connection has ended, not the program.
            self.abandon(lent, fx);
            self.owner_ended(ATTACHED_OWNERS + session.0, fx);
        }
    }
}
