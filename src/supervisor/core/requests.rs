//! What clients ask for.

use super::Borrower;
use super::Core;
use super::Phase;
use super::SessionEnd;
use super::Waiting;
use super::WorkerProcess;
use crate::events::{Raw, Recorded};
use crate::ids::ATTACHED_OWNERS;
use crate::ids::{JobId, SessionId, TaskId, WorkerId};
use crate::message::{Answer, Question, Request, ToSession};
use crate::settings::MOST_WORKERS;
use crate::status::LogLine;
use crate::status::RunningTask;
use crate::status::WorkerInfo;
use crate::status::WorkerState;
use crate::supervisor::messages::Overview;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Core {
    pub(super) fn request(&mut self, session: SessionId, request: Request) {
        let job = |number| JobId { session, number };
        match request {
            Request::Submit { number, spec } => {
                if let Err(e) = self.scheduler.submit(job(number), Arc::new(spec), self.now()) {
                    self.tell_session(session, ToSession::Refused { number, reason: e.to_string() });
                }
            }
            Request::Grow { number, part } => {
                if let Err(e) = self.scheduler.grow(job(number), part, self.now()) {
                    self.scheduler.give_up(job(number));
                    self.tell_session(session, ToSession::Refused { number, reason: e.to_string() });
                }
            }
            Request::Release { number, outputs } => self.scheduler.release(job(number), &outputs),
            Request::Cancel { number, outputs } => self.scheduler.cancel(job(number), &outputs),
            Request::Deliver { number, outputs } => self.scheduler.deliver(job(number), &outputs),
            Request::Retry { number, outputs } => self.scheduler.retry(job(number), &outputs),
            Request::Released(segments) => self.take_back(Borrower::Session(session), segments),
            Request::Ask { ticket, question } => {
                if let Some(answer) = self.answer(session, ticket, question) {
                    self.tell_session(session, ToSession::Answer(ticket, answer));
                }
            }
        }
    }

    pub(super) fn answer(&mut self, session: SessionId, ticket: u64, question: Question) -> Option<Answer> {
        Some(match question {
            Question::Workers => Answer::Workers(self.workers()),
            Question::Memory => Answer::Memory(Box::new(self.memory())),
            Question::Deaths => Answer::Deaths(self.deaths.iter().cloned().collect()),
            Question::Logs => Answer::Logs(self.logs()),
            Question::Events => Answer::Events(Box::new(self.events(session))),
            Question::Explain(job, index) => {
                let explanation = self.scheduler.explain(TaskId { job, index });
                Answer::Text(explanation.map_or_else(|| "it is not known any more".to_string(), |e| e.to_string()))
            }
            Question::Progress => {
                let counts = self.scheduler.stats().tasks;
                Answer::Progress { done: counts.done + counts.released, failed: counts.failed, total: counts.total() }
            }
            Question::WaitForWorkers { n, millis } => {
                let until = Instant::now() + Duration::from_millis(millis.min(u64::from(u32::MAX)));
                self.waiting.push(Waiting { n, until, session, ticket });
                return None;
            }
            Question::Scale(n) if n == 0 || n > MOST_WORKERS => {
                Answer::Refused(format!("{n} workers; it must be 1 to {MOST_WORKERS}"))
            }
            Question::Scale(n) => {
                self.scale(n);
                Answer::Done
            }
            Question::Restart => {
                self.restart();
                Answer::Done
            }
        })
    }

    pub(super) fn ready(&self) -> usize {
        self.workers.values().filter(|l| l.phase == Phase::Ready).count()
    }

    pub(super) fn answer_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let (ready, now) = (self.ready(), Instant::now());
        let most = self.slots.iter().filter(|p| !p.closing).count();
        let mut answers = Vec::new();
        self.waiting.retain(|w| {
            let answer = if ready >= w.n {
                Answer::Done
            } else if w.n > most {
                Answer::Refused(format!("{} workers are waited for, and there are to be {most}; use `scale`", w.n))
            } else if now >= w.until {
                Answer::TimedOut
            } else {
                return true;
            };
            answers.push((w.session, w.ticket, answer));
            false
        });
        for (session, ticket, answer) in answers {
            self.tell_session(session, ToSession::Answer(ticket, answer));
        }
    }

    pub(super) fn workers(&self) -> Vec<WorkerInfo> {
        let mut workers: Vec<_> =
            self.workers.iter().map(|(&id, process)| (process.slot, self.info(id, process))).collect();
        workers.sort_by_key(|(slot, _)| *slot);
        workers.into_iter().map(|(_, info)| info).collect()
    }

    pub(super) fn info(&self, id: WorkerId, process: &WorkerProcess) -> WorkerInfo {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", process.pid)).ok();
        let stopped = read("stat").is_some_and(|s| s.rsplit(") ").next().is_some_and(|s| s.starts_with('T')));
        WorkerInfo {
            name: self.slots[process.slot].name.clone(),
            pid: process.pid,
            state: match process.phase {
                _ if stopped => WorkerState::Stopped,
                Phase::Starting(_) => WorkerState::Starting,
                Phase::Ready if self.slots[process.slot].closing => WorkerState::Retiring,
                Phase::Ready => WorkerState::Running,
                Phase::Retiring => WorkerState::Retiring,
            },
            threads: self.settings.threads,
            tasks: self.scheduler.in_flight(id),
            memory: process.statm.private().unwrap_or(0),
            shared_memory: process.page.segment_bytes(),
            managed: process.page.gauges().managed(),
            spilled: process.page.gauges().spilled(),
            paused: self.pause_of(process),
            limit: self.settings.memory_limit,
            running: process
                .page
                .progress()
                .into_iter()
                .map(|(task, n)| RunningTask { key: self.key(process, task), progress: f64::from(n) / 1000.0 })
                .collect(),
        }
    }

    /// What workers have recorded of the tasks of a session, and of those that tasks have submitted.
    fn events(&self, session: SessionId) -> Raw {
        let mut runs: Vec<_> = (self.slots.iter().zip(&self.past_runs))
            .map(|(slot, past)| Recorded { worker: slot.name.clone(), records: past.clone() })
            .collect();
        for process in self.workers.values() {
            runs[process.slot].records.extend(process.page.ring().read());
        }
        for worker in &mut runs {
            worker.records.retain(|r| {
                let submitter = r.run.task.job.session;
                submitter == session || submitter.is_of_tasks()
            });
        }
        Raw { runs, workers: self.steps.entries() }
    }

    pub(in crate::supervisor) fn overview(&self) -> Overview {
        Overview { workers: self.workers(), deaths: self.deaths.iter().cloned().collect(), logs: self.logs() }
    }

    pub(super) fn logs(&self) -> Vec<LogLine> {
        self.slots.iter().zip(&self.recent_lines).flat_map(|(slot, lines)| lines.lines(&slot.name)).collect()
    }

    pub(in crate::supervisor) fn open_session(&mut self, session: SessionId, end: SessionEnd) {
        self.sessions.insert(session, end);
        // If starting workers has been given up, somebody new is a reason to try again.
        self.to_fill |= self.given_up;
    }

    /// Whoever it was has gone.
    pub(in crate::supervisor) fn close_session(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.counted.remove(&session);
        self.scheduler.session_closed(session);
        let lent = self.lent.remove(&Borrower::Session(session)).unwrap_or_default();
        if session != SessionId::CLIENT {
            // The connection has ended, not the program.
            self.abandon(lent.into_keys());
            self.forget_owner(ATTACHED_OWNERS + session.0);
        }
        self.waiting.retain(|w| w.session != session);
    }
}
