//! The supervisor actor: brings events to the scheduler and carries out its commands.

mod lives;
mod memory;
mod messages;
mod requests;
mod starts;
mod traffic;

pub(crate) use crate::ids::ATTACHED_OWNERS;
pub(crate) use messages::{CloseSession, FromSession, FromSocket, LookAt, OpenSession, RestartAll, ScaleTo, Stop};
pub(super) use messages::{FromWorkers, WorkerEnded, WorkerGone, WorkerOutput};

use super::link::Pipe;
use super::place::Place;
use super::tail::Tail;
use super::{Executable, Settings, Shared};
use crate::client::remote::Remote;
use crate::error::{DeathCause, DeathRecord, Error, Result};
use crate::events::journal::{Journal, LifeStep, WorkerStep};
use crate::events::ring;
use crate::ids::{SessionId, WorkerId};
use crate::ipc::clock::monotonic_ms;
use crate::ipc::page::ControlPage;
use crate::ipc::segment::{Attachments, Segment, SegmentId};
use crate::ipc::socket::Socket;
use crate::memory::leak::Floor;
use crate::memory::oom::Killer;
use crate::memory::process::Statm;
use crate::message::{ToSession, ToWorker};
use crate::scheduler::{Command, Config, Scheduler, WorkerSpec};
use crate::task::image::{self, BuildId};
use actix::prelude::*;
use messages::ReturnSegments;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::process::Child;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The session of the client in the supervisor's own process.
pub(crate) const CLIENT: SessionId = SessionId(0);
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

/// Word to a program that attached.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Word {
    /// How many of its tasks have been done since the last word.
    pub(crate) done: u64,
    pub(crate) word: ToSession,
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
    pipe: Rc<Pipe>,
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

pub(crate) struct Supervisor {
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
    past_runs: Vec<Vec<ring::Record>>,
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
    stopping: Option<Instant>,
    /// Whether the event loop ends with this actor.
    owns_system: bool,
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

impl Supervisor {
    /// Starts the worker processes; the actor comes later.
    pub(crate) fn new(settings: Settings, executable: Executable, shared: Shared) -> Result<Self> {
        Self::with_build(settings, executable, image::build_id().clone(), shared, true)
    }

    pub(crate) fn with_build(
        settings: Settings,
        executable: Executable,
        build: BuildId,
        shared: Shared,
        owns_system: bool,
    ) -> Result<Self> {
        let config = Config {
            allowed_deaths: settings.allowed_deaths,
            cancel_grace: settings.cancel_grace,
            ..Config::default()
        };
        let attachments = Attachments::new();
        // A client in this process reads results again and again from the same memory.
        attachments.keep(usize::try_from(settings.shared_memory).unwrap_or(usize::MAX));
        let places: Vec<_> = settings.tags.iter().enumerate().map(|(i, tags)| Place::new(i, tags.clone())).collect();
        let mut supervisor = Self {
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
            stopping: None,
            owns_system,
            places,
            settings,
        };
        supervisor.tell_fleet();
        for place in 0..supervisor.places.len() {
            match supervisor.give_birth() {
                Ok(newborn) => supervisor.newborn.push((place, newborn)),
                Err(e) => {
                    for (_, newborn) in &mut supervisor.newborn {
                        // It has not been told anything yet, so there is nothing to lose.
                        let _ = newborn.child.kill();
                        let _ = newborn.child.wait();
                    }
                    supervisor.shared.pages.unlink_all();
                    return Err(e);
                }
            }
        }
        Ok(supervisor)
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

    fn note(&self, place: usize, pid: u32, what: LifeStep) {
        self.steps.note(WorkerStep { worker: self.places[place].name.clone(), pid, what });
    }

    fn tell_fleet(&mut self) {
        let open = (0..self.places.len()).filter(|&p| !self.places[p].closing);
        let fleet = open.map(|p| self.spec(p)).collect();
        self.scheduler.set_fleet(fleet);
    }

    /// Lets the scheduler decide, does what it says, and sees to it that somebody looks again in time.
    fn after(&mut self, ctx: &mut Context<Self>) {
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
        if !self.watching && self.must_look() {
            self.watching = true;
            let due = self.scheduler.next_deadline().map(|at| at.saturating_sub(self.now()));
            let longest = if self.tight { CLOSE_LOOK } else { LOOK };
            let pause = due.map_or(longest, |due| due.clamp(Duration::from_millis(1), longest));
            ctx.run_later(pause, |supervisor, ctx| {
                supervisor.watching = false;
                supervisor.look();
                supervisor.after(ctx);
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

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // A graph of a million tasks is one message, but a service may send many.
        ctx.set_mailbox_capacity(1 << 16);
        let me = ctx.address();
        self.attachments.set_notifier(Box::new(move || me.do_send(ReturnSegments)));
        for (place, newborn) in std::mem::take(&mut self.newborn) {
            self.settle_in(place, newborn, ctx);
        }
        self.after(ctx);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.shared.pages.unlink_all();
        if self.owns_system {
            System::current().stop();
        }
    }
}
