//! What a supervisor knows, and what it decides: brings events to the scheduler and carries out its commands.
//!
//! This is plain state. What the core has done by others goes through [`Effects`], which also tells the time; messages come
//! in decoded. The caller has the core's lock, see [`shared_core`](super::shared_core), calls one function for each event,
//! and then [`Core::settle`], or [`Core::after`] in the actor's thread: only there may processes be started and timers set.

mod adapt;
mod blame;
#[cfg(test)]
mod check;
mod clock;
mod coordination;
mod deadlock;
mod explain;
mod fleet;
mod incoming;
mod intake;
mod loans;
mod memory;
mod on_command;
mod outgoing;
mod output;
#[cfg(test)]
pub(crate) mod provoke;
mod published;
mod records;
mod requests;
mod run_beside;
mod sessions;
mod start_failures;
mod workers;

pub(crate) use loans::{Borrower, Loans};
pub(crate) use requests::Overview;
pub(crate) use sessions::SessionEnd;

use super::budget::BudgetShare;
use super::effects::{Effects, Timer, WorkerPage};
use crate::coordinator::Coordinator;
use crate::error::{DeathCause, Result};
use crate::events::EventKind;
use crate::events::journal::Step;
use crate::ids::{SessionId, TaskId, WorkerId};
use crate::ipc::page::PageName;
use crate::ipc::payload::Payload;
use crate::message::ToWorker;
use crate::scheduler::{Command, Config, Scheduler, WorkerSpec};
use crate::settings::Settings;
use crate::task::image::BuildId;
use adapt::Adapting;
use fleet::{Fleet, Phase, WorkerProcess};
use intake::Intake;
use published::PublishedResults;
use records::History;
use sessions::Sessions;
use std::time::{Duration, Instant};

/// How often workers are checked while they run something.
const CHECK: Duration = Duration::from_millis(100);
/// The shortest time after which they are.
const SOON: Duration = Duration::from_millis(1);
/// How often when one of them is near its memory limit.
const CLOSE_CHECK: Duration = Duration::from_millis(10);
/// How long workers may take to stop before they are killed.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// The same where there is something for them to do at their end.
const EXIT_GRACE: Duration = Duration::from_secs(5);
/// The number under which the supervisor's own process makes segments, and the first number of a worker.
const OWN: u32 = 0;
const FIRST_OWNER: u32 = 1;

pub(crate) struct Core {
    settings: Settings,
    program: Program,
    scheduler: Scheduler,
    /// The scheduler's times count from here.
    clock: Instant,
    fleet: Fleet,
    sessions: Sessions,
    intake: Intake,
    loans: Loans,
    coordinator: Coordinator<Payload>,
    published: PublishedResults,
    history: History,
    agenda: Agenda,
    /// Who adapts the number of workers to their load, if anybody does.
    adapting: Option<Adapting>,
    /// How often somebody has begun to.
    adapted: u64,
    /// No more graphs are taken.
    draining: bool,
    /// What its workers take of the memory that all workers of the cluster may have together.
    share: Option<BudgetShare>,
}

/// The program that workers run, and what they are told of the supervisor.
pub(crate) struct Program {
    pub(crate) build: BuildId,
    /// Whether it is that of this process, whose functions are known here.
    pub(crate) is_own: bool,
    /// What the workers' pages are named after.
    pub(crate) pages: PageName,
    pub(crate) supervisor_page: PageName,
}

/// What is left to be done, some of it only by the actor.
#[derive(Default)]
struct Agenda {
    /// Carrying out commands has brought the scheduler news.
    unsettled: bool,
    /// Slots have been opened.
    to_fill: bool,
    /// The next check of the workers: the timer for that has been set.
    check: Option<NextCheck>,
    /// Time in which the supervisor has not run, see [`clock`].
    lost: Duration,
    /// A worker is so near its limit that it must be checked often.
    tight: bool,
    /// Since when the workers are to end, and nothing else is to begin.
    stopping: Option<Instant>,
}

struct NextCheck {
    /// What its timer is known by: when it was set for.
    at: Instant,
    /// When it is due; later than that if the supervisor has not run meanwhile.
    due: Instant,
    /// The nearest time limit when it was set.
    limit: Option<Duration>,
}

impl Core {
    /// Where there is a `share` of a budget, it holds the workers of the settings.
    pub(crate) fn new(settings: Settings, program: Program, share: Option<BudgetShare>, now: Instant) -> Self {
        let config = Config {
            allowed_deaths: settings.allowed_deaths,
            cancel_grace: settings.cancel_grace,
            ..Config::default()
        };
        let mut core = Self {
            program,
            scheduler: Scheduler::new(config),
            clock: now,
            fleet: Fleet::default(),
            sessions: Sessions::default(),
            intake: Intake::default(),
            loans: Loans::default(),
            coordinator: Coordinator::default(),
            published: PublishedResults::default(),
            history: History::new(settings.events),
            agenda: Agenda::default(),
            adapting: None,
            adapted: 0,
            draining: false,
            share,
            settings,
        };
        for tags in core.settings.tags.clone() {
            core.add_slot(tags);
        }
        core.announce_fleet();
        core
    }

    /// Starts the worker processes; all of them, or there is an error.
    pub(crate) fn start<E: Effects>(&mut self, fx: &mut E) -> Result<()> {
        (0..self.fleet.slots.len()).try_for_each(|slot| self.fill(slot, fx))
    }

    fn spec(&self, slot: usize) -> WorkerSpec {
        WorkerSpec {
            name: self.fleet.slots[slot].name.clone(),
            threads: self.settings.threads as u32,
            memory_limit: self.settings.memory_limit,
            tags: self.fleet.slots[slot].tags.clone(),
            resources: self.settings.resources.get(slot).cloned().unwrap_or_default(),
        }
    }

    /// Remembers that something has happened to a worker.
    fn note<E: Effects>(&self, worker: WorkerId, kind: EventKind, fx: &mut E) {
        self.note_step(Some(worker), Step { session: None, kind }, fx);
    }

    /// The same of a task, if it has a call that is known by name.
    fn note_of_task<E: Effects>(&self, task: TaskId, kind: impl FnOnce(String) -> EventKind, fx: &mut E) {
        if let Some(key) = self.key_of(task) {
            self.note_step(None, Step { session: Some(task.job.session), kind: kind(key) }, fx);
        }
    }

    fn note_step<E: Effects>(&self, worker: Option<WorkerId>, step: Step, fx: &mut E) {
        fx.noted(worker, &step);
        self.history.steps.note(step);
    }

    fn announce_fleet(&mut self) {
        let fleet = (0..self.fleet.slots.len()).filter(|&slot| !self.fleet.slots[slot].closing);
        let fleet = fleet.map(|slot| self.spec(slot)).collect();
        self.scheduler.set_fleet(fleet);
    }

    /// What is lent to whom, for those who decode messages.
    pub(crate) fn loans(&self) -> &Loans {
        &self.loans
    }

    /// Lets the scheduler decide and does what it says.
    pub(crate) fn settle<E: Effects>(&mut self, fx: &mut E) {
        self.notice_gap(fx);
        loop {
            let mut commands = Vec::new();
            self.scheduler.dispatch(self.now(fx), &mut commands);
            for command in commands {
                self.obey(command, fx);
            }
            for (task, attempt) in self.scheduler.take_retried() {
                self.note_of_task(task, |key| EventKind::Retried { key, attempt }, fx);
            }
            if !std::mem::take(&mut self.agenda.unsettled) {
                break;
            }
        }
        self.answer_waiting(fx);
    }

    /// Whether something is left to do that only the actor can do.
    pub(crate) fn needs_actor(&self) -> bool {
        self.agenda.to_fill || self.must_set_timer() || self.must_look_at_load()
    }

    /// Lets the scheduler decide, carries its commands out, and sets the timer for the next check.
    pub(crate) fn after<E: Effects>(&mut self, fx: &mut E) {
        if std::mem::take(&mut self.agenda.to_fill) {
            self.refill_open(fx);
        }
        self.settle(fx);
        self.look_at_load_later(fx);
        if !self.must_set_timer() {
            return;
        }
        let (now, limit) = (self.now(fx), self.scheduler.next_time_limit());
        let due = self.scheduler.next_deadline().map(|at| at.saturating_sub(now));
        let longest = if self.agenda.tight { CLOSE_CHECK } else { CHECK };
        let pause = due.map_or(longest, |due| due.clamp(SOON, longest));
        let at = fx.now() + pause;
        match &mut self.agenda.check {
            Some(check) if check.due <= at => check.limit = limit,
            check => {
                *check = Some(NextCheck { at, due: at, limit });
                fx.call_later(pause, Timer::Check(at));
            }
        }
    }

    /// It is time for something.
    pub(crate) fn timer<E: Effects>(&mut self, timer: Timer, fx: &mut E) {
        self.notice_gap(fx);
        match timer {
            // One that was set before a nearer one is not needed any more.
            Timer::Check(at) if self.agenda.check.as_ref().is_none_or(|next| next.at != at) => {}
            Timer::Check(_) => {
                self.agenda.check = None;
                self.check_all(fx);
            }
            Timer::Refill(slot) => self.refill(slot, fx),
            Timer::Adapt(serial) => self.adapt_now(serial),
        }
    }

    /// Whether the timer for the next check is not set, or for later than a task that has been sent since may take.
    fn must_set_timer(&self) -> bool {
        match &self.agenda.check {
            None => self.must_check(),
            Some(check) => {
                self.scheduler.next_time_limit().is_some_and(|limit| check.limit.is_none_or(|known| limit < known))
            }
        }
    }

    fn must_check(&self) -> bool {
        !self.sessions.waiting.is_empty()
            || self.agenda.stopping.is_some()
            || self.scheduler.next_deadline().is_some()
            || self
                .fleet
                .workers
                .iter()
                .any(|(id, w)| w.phase != Phase::Ready || w.to_replace || self.scheduler.owes(*id))
    }

    /// Checks deadlines, workers that do not answer, and memory.
    fn check_all<E: Effects>(&mut self, fx: &mut E) {
        self.scheduler.tick(self.now(fx));
        self.end_silent(fx);
        self.replace_in_order();
        self.dismiss_overdue(fx);
        self.guard_memory(fx);
        let now = self.time(fx);
        if self.agenda.stopping.is_some_and(|since| now.saturating_duration_since(since) > self.stop_grace()) {
            self.kill_all(fx);
        }
    }

    /// How long workers may take to end when all do.
    fn stop_grace(&self) -> Duration {
        if self.settings.hooks.exit.is_some() { EXIT_GRACE } else { STOP_GRACE }
    }

    /// Ends the workers that have owed an answer for too long.
    fn end_silent<E: Effects>(&mut self, fx: &mut E) {
        let now = self.time(fx);
        let mut silent = Vec::new();
        for (&id, process) in &mut self.fleet.workers {
            let (silence, most) = match process.phase {
                Phase::Starting(since) | Phase::SettingUp(since) => {
                    (now.saturating_duration_since(since), self.settings.start_timeout)
                }
                // One that is to end owes its end.
                Phase::Ready if !self.scheduler.owes(id) => {
                    process.owing = None;
                    continue;
                }
                Phase::Ready | Phase::Retiring => {
                    let owing = now.saturating_duration_since(*process.owing.get_or_insert(now));
                    let silence = fx.page(id).map_or(owing, WorkerPage::silence);
                    (owing.min(silence), self.settings.worker_timeout)
                }
            };
            if silence.as_millis() > most.as_millis() {
                silent.push((id, silence.as_millis() as u64));
            }
        }
        for (id, silence) in silent {
            let process = self.fleet.workers.get(&id);
            let cause = match process.is_some_and(|process| matches!(process.phase, Phase::SettingUp(_))) {
                true => {
                    DeathCause::Init(format!("took more than {:?}; raise `start_timeout`", self.settings.start_timeout))
                }
                false => DeathCause::Unresponsive(silence),
            };
            self.kill(id, cause, true, fx);
        }
    }

    fn obey<E: Effects>(&mut self, command: Command, fx: &mut E) {
        match command {
            Command::Run { worker, tasks } => self.run(worker, tasks, fx),
            Command::Cancel { worker, tasks } => self.send(worker, &ToWorker::Cancel(tasks), fx),
            Command::Fetch { worker, tasks } => self.send(worker, &ToWorker::Fetch(tasks), fx),
            Command::Share { worker, values } => self.share(worker, values, fx),
            Command::Drop { worker, tasks } => self.send(worker, &ToWorker::Drop(tasks), fx),
            Command::Retract { worker, tasks } => self.send(worker, &ToWorker::Retract(tasks), fx),
            Command::Kill { worker, cause } => self.kill(worker, cause, true, fx),
            Command::Retire { worker } => {
                if let Some(process) = self.fleet.workers.get_mut(&worker) {
                    process.phase = Phase::Retiring;
                }
                self.send(worker, &ToWorker::Shutdown, fx);
            }
            Command::Deliver { session, deliveries } => self.deliver(session, deliveries, fx),
        }
    }
}

/// The number under which a worker makes segments.
pub(super) fn owner_of(worker: WorkerId) -> u32 {
    worker.0 + FIRST_OWNER
}

/// The session of a worker's tasks.
fn session_of(worker: WorkerId) -> SessionId {
    SessionId::of_tasks(worker)
}
