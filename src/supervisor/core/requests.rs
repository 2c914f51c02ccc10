//! What clients ask for.

use super::{Core, Life, Peer, Phase, SessionEnd, Waiting};
use crate::events::{EventRecords, WorkerRuns};
use crate::ids::ATTACHED_OWNERS;
use crate::ids::{JobId, SessionId, TaskId, WorkerId};
use crate::message::{Answer, Question, Request, ToSession};
use crate::settings::MOST_WORKERS;
use crate::status::{Explanation, LogLine};
use crate::status::{RunningTask, WorkerInfo, WorkerState};
use crate::supervisor::messages::Look;
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
            Request::Released(segments) => self.take_back(Peer::Session(session), segments),
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
                let task = TaskId { job, index };
                let explanation = self.scheduler.explain(task).unwrap_or_else(|| Explanation::unknown(task));
                Answer::Explanation(Box::new(explanation))
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
        self.lives.values().filter(|l| l.phase == Phase::Ready).count()
    }

    pub(super) fn answer_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let (ready, now) = (self.ready(), Instant::now());
        let most = self.places.iter().filter(|p| !p.closing).count();
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
        let mut workers: Vec<_> = self.lives.iter().map(|(&id, life)| (life.place, self.info(id, life))).collect();
        workers.sort_by_key(|(place, _)| *place);
        workers.into_iter().map(|(_, info)| info).collect()
    }

    pub(super) fn info(&self, id: WorkerId, life: &Life) -> WorkerInfo {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", life.pid)).ok();
        let stopped = read("stat").is_some_and(|s| s.rsplit(") ").next().is_some_and(|s| s.starts_with('T')));
        WorkerInfo {
            name: self.places[life.place].name.clone(),
            pid: life.pid,
            state: match life.phase {
                _ if stopped => WorkerState::Stopped,
                Phase::Starting(_) => WorkerState::Starting,
                Phase::Ready if self.places[life.place].closing => WorkerState::Retiring,
                Phase::Ready => WorkerState::Running,
                Phase::Retiring => WorkerState::Retiring,
            },
            threads: self.settings.threads,
            tasks: self.scheduler.in_flight(id),
            memory: life.statm.private().unwrap_or(0),
            shared_memory: life.page.segment_bytes(),
            managed: life.page.gauges().managed(),
            spilled: life.page.gauges().spilled(),
            paused: self.pause_of(life),
            limit: self.settings.memory_limit,
            running: life
                .page
                .progress()
                .into_iter()
                .map(|(task, n)| RunningTask { key: self.key(life, task), progress: f64::from(n) / 1000.0 })
                .collect(),
        }
    }

    /// What workers have recorded of the tasks of a session, and of those that tasks have submitted.
    fn events(&self, session: SessionId) -> EventRecords {
        let mut runs: Vec<_> = (self.places.iter().zip(&self.past_runs))
            .map(|(place, past)| WorkerRuns { worker: place.name.clone(), records: past.clone() })
            .collect();
        for life in self.lives.values() {
            runs[life.place].records.extend(life.page.ring().read());
        }
        for worker in &mut runs {
            worker.records.retain(|r| {
                let submitter = r.run.task.job.session;
                submitter == session || submitter.is_of_tasks()
            });
        }
        EventRecords { runs, workers: self.steps.entries() }
    }

    pub(in crate::supervisor) fn overview(&self) -> Look {
        Look { workers: self.workers(), deaths: self.deaths.iter().cloned().collect(), logs: self.logs() }
    }

    pub(super) fn logs(&self) -> Vec<LogLine> {
        self.places.iter().zip(&self.tails).flat_map(|(place, tail)| tail.lines(&place.name)).collect()
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
        let lent = self.lent.remove(&Peer::Session(session)).unwrap_or_default();
        if session != SessionId::CLIENT {
            // The connection has ended, not the program.
            self.forsake(lent.into_keys());
            self.forget_owner(ATTACHED_OWNERS + session.0);
        }
        self.waiting.retain(|w| w.session != session);
    }
}
