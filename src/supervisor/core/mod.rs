//! What a supervisor knows, and what it does: brings events to the scheduler and carries out its commands.

mod incoming;
mod memory;
mod output;
mod requests;
mod start_failures;
mod workers;

use super::actor::Supervisor;
use super::messages::{ReturnSegments, Word};
use super::shared_core::{Hub, Unsent};
use crate::error::{DeathCause, DeathRecord, Error, Result};
use crate::events::journal::{Journal, ProcessStep, WorkerStep};
use crate::ids::{SessionId, WorkerId};
use crate::ipc::clock::monotonic_ms;
use crate::ipc::frame::Decoder;
use crate::ipc::page::ControlPage;
use crate::ipc::ring;
use crate::ipc::segment::{Attachments, Segment, SegmentId};
use crate::ipc::socket::Socket;
use crate::memory::leak::Floor;
use crate::memory::oom::Killer;
use crate::memory::process::Statm;
use crate::message::{Request, ToSession, ToWorker};
use crate::remote::Remote;
use crate::scheduler::{Command, Config, Scheduler, WorkerSpec};
use crate::settings::Settings;
use crate::supervisor::recent_lines::Tail;
use crate::supervisor::worker_link::Pipe;
use crate::supervisor::worker_slot::Place;
use crate::supervisor::{Executable, Shared};
use crate::task::image::BuildId;
use actix::prelude::*;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::process::Child;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often workers are looked at while they run something.
const LOOK: Duration = Duration::from_millis(100);
/// How often when one of them is near its memory limit.
const CLOSE_LOOK: Duration = Duration::from_millis(10);
/// How many deaths are remembered.
const DEATHS: usize = 100;
/// How many of the last lines go into the record of a death.
const LAST_LINES: usize = 100;
/// How long workers may take to stop before they are killed.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// Most bytes of tasks in one message.
const MESSAGE: usize = 1 << 20;

/// Where word to a session goes.
#[derive(Clone)]
pub(crate) enum SessionEnd {
    Here(Weak<Remote>),
    /// The actor that owns the socket of a program that attached.
    Socket(Recipient<Word>),
    Worker(WorkerId),
}

/// Whom segments are lent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    Worker(WorkerId),
    Session(SessionId),
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Starting(Instant),
    Ready,
    Retiring,
}

/// One life of a worker.
struct Life {
    place: usize,
    pid: u32,
    pipe: Arc<Pipe>,
    decoder: Decoder,
    page: Arc<ControlPage>,
    phase: Phase,
    /// Since when it has owed an answer, as far as that was seen.
    owing: Option<u64>,
    /// Why we ended it, if we did.
    ended: Option<DeathCause>,
    /// Whether its tasks are to blame for its death.
    blame: bool,
    /// What the kernel says of its memory.
    statm: Statm,
    /// How many of the last lines of its place's output are its own.
    said: usize,
    /// Whether the last of them has no end yet.
    speaking: bool,
    /// The last piece of its output that it has told of.
    told: u64,
    /// Tasks it has done.
    done: u64,
    /// What it uses beside results.
    unmanaged: Floor,
    /// It is on its way out, to be replaced.
    recycling: bool,
}

pub(crate) struct Core {
    settings: Settings,
    executable: Executable,
    build: BuildId,
    shared: Shared,
    scheduler: Scheduler,
    attachments: Attachments,
    clock: Instant,
    places: Vec<Place>,
    tails: Vec<Tail>,
    lives: FxHashMap<WorkerId, Life>,
    next_worker: u32,
    /// Processes started before the actor was.
    newborn: Vec<(usize, Newborn)>,
    sessions: FxHashMap<SessionId, SessionEnd>,
    /// Tasks of attached programs that are done, and that they have not been told of.
    counted: FxHashMap<SessionId, u64>,
    lent: FxHashMap<Peer, FxHashMap<SegmentId, (Arc<Segment>, u32)>>,
    deaths: VecDeque<DeathRecord>,
    /// By place: names of functions of a program that is not ours, as its workers have told them.
    functions: FxHashMap<u64, String>,
    steps: Journal<WorkerStep>,
    /// By place: what workers that are gone had recorded.
    past_runs: Vec<Vec<ring::RingRecord>>,
    waiting: Vec<Waiting>,
    watching: bool,
    /// A worker is so near its limit that it must be looked at often.
    tight: bool,
    /// What the kernel does when memory runs out.
    killer: Killer,
    /// Since when no worker that was started has come to work.
    starved: Option<Instant>,
    /// That has lasted too long: clients have been told, and no more are started.
    given_up: bool,
    /// Carrying out commands has brought the scheduler news.
    unsettled: bool,
    /// Places have been opened.
    to_fill: bool,
    /// The actor has been called to do what nobody else can, and has not come yet.
    called: bool,
    /// What the client in this process has asked for.
    requests: Arc<Mutex<Vec<Request>>>,
    /// What it is to be told.
    news: Vec<(Weak<Remote>, ToSession)>,
    /// Connections to workers on which something waits to be sent.
    unsent: Unsent,
    /// Where this is.
    hub: Weak<Hub>,
    stopping: Option<Instant>,
}

struct Newborn {
    child: Child,
    socket: Socket,
    page: Arc<ControlPage>,
    id: WorkerId,
}

/// Somebody waits for workers.
struct Waiting {
    n: usize,
    until: Instant,
    session: SessionId,
    ticket: u64,
}

impl Core {
    /// Starts the worker processes.
    pub(crate) fn new(settings: Settings, executable: Executable, build: BuildId, shared: Shared) -> Result<Self> {
        let config = Config {
            allowed_deaths: settings.allowed_deaths,
            cancel_grace: settings.cancel_grace,
            ..Config::default()
        };
        let attachments = Attachments::new();
        // A client in this process reads results again and again from the same memory.
        attachments.keep(usize::try_from(settings.shared_memory).unwrap_or(usize::MAX));
        let places: Vec<_> = settings.tags.iter().enumerate().map(|(i, tags)| Place::new(i, tags.clone())).collect();
        let mut core = Self {
            tails: places.iter().map(|_| Tail::default()).collect(),
            executable,
            build,
            shared,
            scheduler: Scheduler::new(config),
            attachments,
            clock: Instant::now(),
            lives: FxHashMap::default(),
            next_worker: 0,
            newborn: Vec::new(),
            sessions: FxHashMap::default(),
            counted: FxHashMap::default(),
            lent: FxHashMap::default(),
            deaths: VecDeque::new(),
            functions: FxHashMap::default(),
            steps: Journal::new(settings.events),
            past_runs: vec![Vec::new(); places.len()],
            waiting: Vec::new(),
            watching: false,
            tight: false,
            killer: Killer::new(),
            starved: None,
            given_up: false,
            unsettled: false,
            to_fill: false,
            called: false,
            requests: Arc::default(),
            news: Vec::new(),
            unsent: Unsent::new(),
            hub: Weak::new(),
            stopping: None,
            places,
            settings,
        };
        core.tell_fleet();
        for place in 0..core.places.len() {
            match core.give_birth() {
                Ok(newborn) => core.newborn.push((place, newborn)),
                Err(e) => {
                    for (_, newborn) in &mut core.newborn {
                        // It has not been told anything yet, so there is nothing to lose.
                        let _ = newborn.child.kill();
                        let _ = newborn.child.wait();
                    }
                    core.shared.pages.unlink_all();
                    return Err(e);
                }
            }
        }
        Ok(core)
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    fn spec(&self, place: usize) -> WorkerSpec {
        WorkerSpec {
            name: self.places[place].name.clone(),
            threads: self.settings.threads as u32,
            memory_limit: self.settings.memory_limit,
            tags: self.places[place].tags.clone(),
        }
    }

    fn note(&self, place: usize, pid: u32, what: ProcessStep) {
        self.steps.note(WorkerStep { worker: self.places[place].name.clone(), pid, what });
    }

    fn tell_fleet(&mut self) {
        let open = (0..self.places.len()).filter(|&p| !self.places[p].closing);
        let fleet = open.map(|p| self.spec(p)).collect();
        self.scheduler.set_fleet(fleet);
    }

    /// The actor takes over: the workers' connections need its event loop.
    pub(crate) fn begin(&mut self, ctx: &mut Context<Supervisor>) {
        let me = ctx.address();
        self.attachments.set_notifier(Box::new(move || me.do_send(ReturnSegments)));
        for (place, newborn) in std::mem::take(&mut self.newborn) {
            self.settle_in(place, newborn, ctx);
        }
    }

    pub(crate) fn end(&self) {
        self.shared.pages.unlink_all();
    }

    /// Where the client in this process puts what it asks for.
    pub(crate) fn requests(&self) -> Arc<Mutex<Vec<Request>>> {
        Arc::clone(&self.requests)
    }

    /// Sees to what the client in this process has asked for, if it suits. Whoever has the core takes it all, so that it is
    /// served in its order.
    pub(crate) fn serve_client_if(&mut self, suits: impl FnOnce(&[Request]) -> bool) -> bool {
        let requests = {
            let mut requests = self.requests.lock();
            if !suits(&requests) {
                return false;
            }
            std::mem::take(&mut *requests)
        };
        requests.into_iter().for_each(|request| self.request(SessionId::CLIENT, request));
        true
    }

    pub(crate) fn belongs_to(&mut self, hub: &Arc<Hub>) {
        self.hub = Arc::downgrade(hub);
    }

    pub(crate) fn take_unsent(&mut self) -> Unsent {
        std::mem::take(&mut self.unsent)
    }

    /// What the client in this process is to be told.
    pub(crate) fn take_news(&mut self) -> Vec<(Weak<Remote>, ToSession)> {
        std::mem::take(&mut self.news)
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Lets the scheduler decide and does what it says.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut commands = Vec::new();
            self.scheduler.dispatch(self.now(), &mut commands);
            for command in commands {
                self.obey(command);
            }
            if !std::mem::take(&mut self.unsettled) {
                break;
            }
        }
        self.answer_waiting();
    }

    /// Whether the actor must be called, which has not been before, to do what is left.
    pub(crate) fn calls_actor(&mut self) -> bool {
        let left = self.to_fill || self.has_news() || (!self.watching && self.must_look());
        left && !std::mem::replace(&mut self.called, true)
    }

    /// Lets the scheduler decide, does what it says, and sees to it that somebody looks again in time.
    pub(crate) fn after(&mut self, ctx: &mut Context<Supervisor>) {
        self.called = false;
        if std::mem::take(&mut self.to_fill) {
            self.refill_open(ctx);
        }
        self.settle();
        if !self.watching && self.must_look() {
            self.watching = true;
            let due = self.scheduler.next_deadline().map(|at| at.saturating_sub(self.now()));
            let longest = if self.tight { CLOSE_LOOK } else { LOOK };
            let pause = due.map_or(longest, |due| due.clamp(Duration::from_millis(1), longest));
            ctx.run_later(pause, |supervisor, ctx| {
                supervisor.with(ctx, |core, _| {
                    core.watching = false;
                    core.look();
                });
            });
        }
    }

    fn must_look(&self) -> bool {
        !self.waiting.is_empty()
            || !self.counted.is_empty()
            || self.stopping.is_some()
            || self.scheduler.next_deadline().is_some()
            || self.lives.iter().any(|(id, life)| life.phase != Phase::Ready || self.scheduler.owes(*id))
    }

    /// Looks for workers that do not answer and for deadlines.
    fn look(&mut self) {
        self.scheduler.tick(self.now());
        let counted: Vec<_> = self.counted.keys().copied().collect();
        for session in counted {
            self.tell_session(session, ToSession::Deliveries(Vec::new()));
        }
        let now = monotonic_ms();
        let mut kill = Vec::new();
        for (&id, life) in &mut self.lives {
            let (silent, most) = match life.phase {
                Phase::Starting(since) => (since.elapsed().as_millis() as u64, self.settings.start_timeout),
                // One that is to end owes its end.
                Phase::Ready if !self.scheduler.owes(id) => {
                    life.owing = None;
                    continue;
                }
                Phase::Ready | Phase::Retiring => {
                    let since = *life.owing.get_or_insert(now);
                    (now.saturating_sub(life.page.heartbeat().max(since)), self.settings.worker_timeout)
                }
            };
            if u128::from(silent) > most.as_millis() {
                kill.push((id, silent));
            }
        }
        for (id, silent) in kill {
            self.kill(id, DeathCause::Unresponsive(silent), true);
        }
        self.guard_memory();
        if self.stopping.is_some_and(|since| since.elapsed() > STOP_GRACE) {
            let left: Vec<_> = self.lives.keys().copied().collect();
            left.into_iter().for_each(|id| self.kill(id, DeathCause::Unknown, false));
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Run { worker, tasks } => self.run(worker, tasks),
            Command::Cancel { worker, tasks } => self.tell(worker, &ToWorker::Cancel(tasks)),
            Command::Fetch { worker, tasks } => self.tell(worker, &ToWorker::Fetch(tasks)),
            Command::Share { worker, values } => self.share(worker, values),
            Command::Drop { worker, tasks } => self.tell(worker, &ToWorker::Drop(tasks)),
            Command::Retract { worker, tasks } => self.tell(worker, &ToWorker::Retract(tasks)),
            Command::Kill { worker, cause } => self.kill(worker, cause, true),
            Command::Retire { worker } => {
                if let Some(life) = self.lives.get_mut(&worker) {
                    life.phase = Phase::Retiring;
                }
                self.tell(worker, &ToWorker::Shutdown);
            }
            Command::Deliver { session, deliveries } => self.deliver(session, deliveries),
        }
    }
}

/// The number under which a worker makes segments. The supervisor's process is 0.
fn owner_of(worker: WorkerId) -> u32 {
    worker.0 + 1
}

/// The session of a worker's tasks.
fn session_of(worker: WorkerId) -> SessionId {
    SessionId::of_tasks(worker)
}
