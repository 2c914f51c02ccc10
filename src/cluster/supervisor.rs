//! The supervisor actor: brings events to the scheduler and carries out its commands.

use super::link::{Pipe, WorkerLink};
use super::place::Place;
use super::{Executable, Settings, Shared};
use crate::client::remote::Remote;
use crate::client::{RestartPolicy, RunningTask, StartMethod, WorkerInfo, WorkerState};
use crate::error::{DeathCause, DeathRecord, Error, Result};
use crate::graph::node;
pub(crate) use crate::ids::ATTACHED_OWNERS;
use crate::ids::{JobId, SessionId, TaskId, WorkerId};
use crate::ipc::frame::{Frame, MAX_FDS, MAX_FRAME, MOST_FDS};
use crate::ipc::page::{ControlPage, monotonic_ms};
use crate::ipc::segment::{Attachments, Segment, SegmentId};
use crate::ipc::socket::Socket;
use crate::ipc::start;
use crate::message::{self, Answer, Bytes, FromWorker, Question, Request, Task, ToSession, ToWorker, VERSION, Welcome};
use crate::protocol::{Delivered, Delivery, Failure, FailureCause, Outcome, Payload};
use crate::scheduler::{Command, Completion, Config, Input, RunTask, Scheduler, WorkerSpec};
use crate::task::function::short_name;
use crate::task::image::{self, BuildId};
use crate::task::program::{Op, Ops};
use actix::prelude::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The session of the client in the supervisor's own process.
pub(crate) const CLIENT: SessionId = SessionId(0);
/// How often workers are looked at while they run something.
const LOOK: Duration = Duration::from_millis(100);
/// How many deaths are remembered.
const DEATHS: usize = 100;
/// How much of a worker's output is kept, in bytes.
const TAIL: usize = 8 << 10;
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
    /// When it was last sent a task.
    sent: u64,
    /// Why we ended it, if we did.
    ended: Option<DeathCause>,
    /// Whether its tasks are to blame for its death.
    blame: bool,
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
    tails: Vec<String>,
    lives: FxHashMap<WorkerId, Life>,
    next_worker: u32,
    /// Processes started before the actor was.
    newborn: Vec<(usize, Newborn)>,
    sessions: FxHashMap<SessionId, SessionEnd>,
    /// Tasks of attached programs that are done, and that they have not been told of.
    counted: FxHashMap<SessionId, u64>,
    lent: FxHashMap<Peer, FxHashMap<SegmentId, (Arc<Segment>, u32)>>,
    deaths: VecDeque<DeathRecord>,
    waiting: Vec<Waiting>,
    watching: bool,
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

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct FromWorkers {
    pub(super) worker: WorkerId,
    pub(super) frames: Vec<Frame>,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct WorkerOutput {
    pub(super) worker: WorkerId,
    pub(super) stderr: bool,
    pub(super) bytes: Vec<u8>,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct WorkerGone {
    pub(super) worker: WorkerId,
    pub(super) cause: DeathCause,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OpenSession {
    pub(crate) session: SessionId,
    pub(crate) end: SessionEnd,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseSession(pub(crate) SessionId);

/// A client in this process has put requests there.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FromSession {
    pub(crate) session: SessionId,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
}

/// Frames of a client behind a socket. The answer: whether they made sense.
#[derive(Message)]
#[rtype(result = "std::result::Result<(), String>")]
pub(crate) struct FromSocket {
    pub(crate) session: SessionId,
    pub(crate) frames: Vec<Frame>,
}

/// Stops the workers and then the actor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

/// What there is to see of a supervisor.
#[derive(Message)]
#[rtype(result = "Look")]
pub(crate) struct LookAt;

#[derive(MessageResponse)]
pub(crate) struct Look {
    pub(crate) workers: Vec<WorkerInfo>,
    pub(crate) deaths: Vec<DeathRecord>,
    pub(crate) logs: Vec<(String, String)>,
}

/// Replaces all workers.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RestartAll;

/// Changes the number of workers.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ScaleTo(pub(crate) usize);

#[derive(Message)]
#[rtype(result = "()")]
struct ReturnSegments;

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
        let places: Vec<_> = settings.tags.iter().enumerate().map(|(i, tags)| Place::new(i, tags.clone())).collect();
        let mut supervisor = Self {
            tails: vec![String::new(); places.len()],
            places,
            executable,
            build,
            shared,
            scheduler: Scheduler::new(config),
            attachments: Attachments::new(),
            clock: Instant::now(),
            lives: FxHashMap::default(),
            next_worker: 0,
            newborn: Vec::new(),
            sessions: FxHashMap::default(),
            counted: FxHashMap::default(),
            lent: FxHashMap::default(),
            deaths: VecDeque::new(),
            waiting: Vec::new(),
            watching: false,
            unsettled: false,
            stopping: None,
            owns_system,
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

    fn tell_fleet(&mut self) {
        let open = (0..self.places.len()).filter(|&p| !self.places[p].closing);
        let fleet = open.map(|p| self.spec(p)).collect();
        self.scheduler.set_fleet(fleet);
    }

    /// Starts one worker process.
    fn give_birth(&mut self) -> Result<Newborn> {
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let page = ControlPage::create(&self.shared.pages.sibling(id.0 + 1)).map_err(|e| Error::Resource {
            resource: "shared memory for a control page".to_string(),
            reason: e.to_string(),
        })?;
        let program = match &self.executable {
            Executable::Own => "/proc/self/exe".to_string(),
            Executable::Of(fd) => format!("/proc/self/fd/{}", start::number(fd)),
        };
        let mut command = std::process::Command::new(program);
        command.arg0("swath-worker").envs(self.settings.env.iter().map(|(n, v)| (n, v)));
        if let Some(dir) = &self.settings.directory {
            command.current_dir(dir);
        }
        let (child, socket) =
            start::spawn(&mut command, page.name(), self.settings.start_method == StartMethod::Automatic).map_err(
                |e| match e.raw_os_error() {
                    Some(nix::libc::EMFILE | nix::libc::ENFILE) => Error::Resource {
                        resource: "file descriptors".to_string(),
                        reason: format!("a worker process cannot be started: {e}; raise the limit with `ulimit -n`"),
                    },
                    Some(nix::libc::EAGAIN) => Error::Resource {
                        resource: "processes".to_string(),
                        reason: format!("a worker process cannot be started: {e}; raise the limit with `ulimit -u`"),
                    },
                    Some(nix::libc::ENOMEM) => Error::Resource {
                        resource: "memory".to_string(),
                        reason: format!("a worker process cannot be started: {e}"),
                    },
                    _ => Error::Spawn { reason: e.to_string() },
                },
            )?;
        Ok(Newborn { child, socket, page: Arc::new(page), id })
    }

    /// Fills a place with a process.
    fn settle_in(&mut self, place: usize, newborn: Newborn, ctx: &mut Context<Self>) {
        let Newborn { mut child, socket, page, id } = newborn;
        let pid = child.id();
        let pipe = match Pipe::new(socket) {
            Ok(pipe) => pipe,
            Err(e) => {
                log::error!("a worker's socket is of no use: {e}");
                let _ = child.kill();
                let _ = child.wait();
                return self.refill_later(place, Duration::from_secs(1), ctx);
            }
        };
        self.places[place].begin(id, Instant::now());
        log::debug!("{} started as process {pid}", self.places[place].name);
        let link = WorkerLink {
            worker: id,
            pipe: Rc::clone(&pipe),
            child: Some(child),
            supervisor: ctx.address(),
            max_frame: MAX_FRAME,
        };
        link.start();
        let phase = Phase::Starting(Instant::now());
        let life = Life { place, pid, pipe, page, phase, sent: 0, ended: None, blame: true };
        self.lives.insert(id, life);
    }

    fn refill_later(&mut self, place: usize, pause: Duration, ctx: &mut Context<Self>) {
        if pause.is_zero() {
            return self.refill(place, ctx);
        }
        ctx.run_later(pause, move |supervisor, ctx| supervisor.refill(place, ctx));
    }

    fn refill(&mut self, place: usize, ctx: &mut Context<Self>) {
        if self.stopping.is_some() || self.places[place].closing || self.places[place].life.is_some() {
            return;
        }
        match self.give_birth() {
            Ok(newborn) => self.settle_in(place, newborn, ctx),
            Err(e) => {
                log::error!("{} cannot be started again: {e}; trying again", self.places[place].name);
                self.refill_later(place, Duration::from_secs(1), ctx);
            }
        }
        self.after(ctx);
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
            let pause = due.map_or(LOOK, |due| due.clamp(Duration::from_millis(1), LOOK));
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
            || self
                .lives
                .iter()
                .any(|(id, life)| matches!(life.phase, Phase::Starting(_)) || self.scheduler.in_flight(*id) > 0)
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
        for (&id, life) in &self.lives {
            match life.phase {
                Phase::Starting(since) if since.elapsed() > self.settings.start_timeout => {
                    kill.push((id, since.elapsed().as_millis() as u64));
                }
                Phase::Ready if self.scheduler.in_flight(id) > 0 => {
                    let silent = now.saturating_sub(life.page.heartbeat().max(life.sent));
                    if u128::from(silent) > self.settings.worker_timeout.as_millis() {
                        kill.push((id, silent));
                    }
                }
                _ => {}
            }
        }
        for (id, silent) in kill {
            self.kill(id, DeathCause::Unresponsive(silent), true);
        }
        if self.stopping.is_some_and(|since| since.elapsed() > STOP_GRACE) {
            let left: Vec<_> = self.lives.keys().copied().collect();
            left.into_iter().for_each(|id| self.kill(id, DeathCause::Unknown, false));
        }
    }

    fn kill(&mut self, id: WorkerId, cause: DeathCause, blame: bool) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.ended.get_or_insert(cause);
        life.blame &= blame;
        if let Err(e) = kill(Pid::from_raw(life.pid as i32), Signal::SIGKILL) {
            log::warn!("process {} cannot be killed: {e}", life.pid);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Run { worker, tasks } => self.run(worker, tasks),
            Command::Cancel { worker, tasks } => self.tell(worker, &ToWorker::Cancel(tasks)),
            Command::Fetch { worker, tasks } => self.tell(worker, &ToWorker::Fetch(tasks)),
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

    fn tell(&mut self, worker: WorkerId, message: &ToWorker) {
        let Some(life) = self.lives.get(&worker) else { return };
        if let Err(e) = life.pipe.send(message) {
            log::error!("a message to {} cannot be sent: {e}", self.places[life.place].name);
            self.kill(worker, DeathCause::Protocol(e.to_string()), false);
        }
    }

    fn lend(lent: &mut FxHashMap<Peer, FxHashMap<SegmentId, (Arc<Segment>, u32)>>, to: Peer, payload: &Payload) {
        for segment in &payload.segments {
            let entry = lent.entry(to).or_default().entry(segment.id());
            entry.or_insert_with(|| (Arc::clone(segment), 0)).1 += 1;
        }
    }

    fn take_back(&mut self, from: Peer, segments: Vec<(SegmentId, u32)>) {
        let Some(lent) = self.lent.get_mut(&from) else { return };
        for (id, deliveries) in segments {
            if let Some(entry) = lent.get_mut(&id) {
                entry.1 = entry.1.saturating_sub(deliveries);
                if entry.1 == 0 {
                    lent.remove(&id);
                }
            }
        }
    }

    fn run(&mut self, worker: WorkerId, tasks: Vec<RunTask>) {
        if let Some(life) = self.lives.get_mut(&worker) {
            life.sent = monotonic_ms();
        }
        let (mut batch, mut fds, mut bytes) = (Vec::with_capacity(tasks.len()), 0, 0);
        let mut refused = Vec::new();
        for task in tasks {
            let (mut more_fds, mut more_bytes) = (0, 0);
            for input in &task.inputs {
                if let Input::Payload(payload) = input {
                    Self::lend(&mut self.lent, Peer::Worker(worker), payload);
                    more_fds += payload.segments.len();
                    more_bytes += payload.bytes.len();
                }
            }
            if more_fds > MOST_FDS {
                refused.push(self.too_many_segments(&task, more_fds));
                continue;
            }
            let body = task.spec.body(task.id.index);
            more_bytes += body.len();
            if !batch.is_empty() && (fds + more_fds > MAX_FDS || bytes + more_bytes > MESSAGE) {
                self.tell(worker, &ToWorker::Run(std::mem::take(&mut batch)));
                (fds, bytes) = (0, 0);
            }
            fds += more_fds;
            bytes += more_bytes;
            let options = &task.spec.options;
            let name =
                options.binary_search_by_key(&task.id.index, |o| o.0).ok().and_then(|at| options[at].1.name.clone());
            batch.push(Task {
                id: task.id,
                name,
                attempt: task.attempt,
                deliver: task.deliver,
                body: Bytes(body.into()),
                inputs: task
                    .inputs
                    .into_iter()
                    .map(|input| match input {
                        Input::Held { id, take } => message::Input::Held { id, take },
                        Input::Payload(payload) => message::Input::Payload(payload),
                    })
                    .collect(),
            });
        }
        if !batch.is_empty() {
            self.tell(worker, &ToWorker::Run(batch));
        }
        if !refused.is_empty() {
            self.scheduler.finished(worker, refused, self.now());
            self.unsettled = true;
        }
    }

    /// What becomes of a task whose inputs lie in more segments than a message can carry.
    fn too_many_segments(&self, task: &RunTask, segments: usize) -> Completion {
        let reason = format!(
            "its inputs lie in {segments} shared segments and a worker takes at most {MOST_FDS} at a time: \
             put the large values together in steps, as a tree"
        );
        let cause = FailureCause::Resource { reason };
        let failure = Failure { task: task.id, step: 0, call: None, worker: None, cause };
        let outcome = Outcome::Failed(Box::new(failure));
        Completion { id: task.id, attempt: task.attempt, run_us: 0, outcome }
    }

    fn deliver(&mut self, session: SessionId, deliveries: Vec<Delivery>) {
        match self.sessions.get(&session) {
            Some(SessionEnd::Here(remote)) => {
                if let Some(remote) = remote.upgrade() {
                    remote.hear(ToSession::Deliveries(deliveries));
                }
            }
            Some(_) => {
                let (mut batch, mut fds, mut bytes) = (Vec::new(), 0, 0);
                for delivery in deliveries {
                    if let Ok(Delivered::Value(payload)) = &delivery.result {
                        let n = payload.segments.len();
                        if !batch.is_empty() && (fds + n > MAX_FDS || bytes + payload.bytes.len() > MESSAGE) {
                            self.tell_session(session, ToSession::Deliveries(std::mem::take(&mut batch)));
                            (fds, bytes) = (0, 0);
                        }
                        fds += n;
                        bytes += payload.bytes.len();
                    }
                    batch.push(delivery);
                }
                self.tell_session(session, ToSession::Deliveries(batch));
            }
            None => log::debug!("word to session {} that is gone", session.0),
        }
    }

    fn tell_session(&mut self, session: SessionId, word: ToSession) {
        let Some(end) = self.sessions.get(&session).cloned() else { return };
        let peer = match &end {
            SessionEnd::Here(_) => None,
            SessionEnd::Socket(_) => Some(Peer::Session(session)),
            SessionEnd::Worker(worker) => Some(Peer::Worker(*worker)),
        };
        if let (Some(peer), ToSession::Deliveries(deliveries)) = (peer, &word) {
            for delivery in deliveries {
                if let Ok(Delivered::Value(payload)) = &delivery.result {
                    Self::lend(&mut self.lent, peer, payload);
                }
            }
        }
        match end {
            SessionEnd::Here(remote) => {
                if let Some(remote) = remote.upgrade() {
                    remote.hear(word);
                }
            }
            SessionEnd::Worker(worker) => self.tell(worker, &ToWorker::Session(word)),
            SessionEnd::Socket(link) => {
                let done = self.counted.remove(&session).unwrap_or(0);
                link.do_send(Word { done, word });
            }
        }
    }

    /// Takes in the messages of one worker. An error ends it.
    fn hear(&mut self, worker: WorkerId, frame: Frame) -> std::result::Result<(), String> {
        let (attachments, lent) = (&self.attachments, &self.lent);
        let resolve = &mut |id: SegmentId, fd, len| {
            if id.owner == owner_of(worker) {
                return attachments.attach(id, fd, len).map_err(|e| e.to_string());
            }
            let held = lent.get(&Peer::Worker(worker)).and_then(|l| l.get(&id));
            held.map(|(segment, _)| Arc::clone(segment)).ok_or_else(|| format!("segment {id} is not one it was lent"))
        };
        let message: FromWorker = message::decode(frame, resolve).map_err(|e| e.to_string())?;
        let starting = self.lives.get(&worker).is_some_and(|l| matches!(l.phase, Phase::Starting(_)));
        match message {
            FromWorker::Hello { version, build } if starting => self.welcome(worker, version, &build)?,
            _ if starting => return Err("it did not begin with a hello".to_string()),
            FromWorker::Hello { .. } => return Err("a second hello".to_string()),
            FromWorker::Done(done) => {
                self.count(&done);
                let completions = done.into_iter().map(|d| Completion {
                    id: d.id,
                    attempt: d.attempt,
                    run_us: d.run_us,
                    outcome: d.outcome,
                });
                let completions = completions.collect();
                self.scheduler.finished(worker, completions, self.now());
            }
            FromWorker::Retracted(tasks) => self.scheduler.retracted(worker, &tasks),
            FromWorker::Exported(task, result) => self.scheduler.exported(worker, task, result),
            FromWorker::Released(segments) => self.take_back(Peer::Worker(worker), segments),
            FromWorker::Blocked(delta) => self.scheduler.blocked(worker, delta),
            FromWorker::Session(request) => {
                let session = session_of(worker);
                self.sessions.entry(session).or_insert(SessionEnd::Worker(worker));
                self.request(session, request);
            }
        }
        Ok(())
    }

    fn welcome(&mut self, worker: WorkerId, version: u32, build: &BuildId) -> std::result::Result<(), String> {
        if version != VERSION {
            return Err(format!("it speaks version {version} of the protocol, not {VERSION}"));
        }
        if *build != self.build {
            return Err("it is another build of the program".to_string());
        }
        let Some(life) = self.lives.get_mut(&worker) else { return Ok(()) };
        life.phase = Phase::Ready;
        let place = life.place;
        let welcome = Welcome {
            id: worker,
            name: self.places[place].name.clone(),
            owner: owner_of(worker),
            threads: self.settings.threads,
            memory_limit: self.settings.memory_limit,
            supervisor_page: self.shared.page.name().clone(),
            own_page: life.page.name().clone(),
            session: session_of(worker),
        };
        self.tell(worker, &ToWorker::Welcome(welcome));
        self.scheduler.worker_joined(worker, self.spec(place));
        if self.places[place].closing {
            self.scheduler.worker_retiring(worker);
        }
        Ok(())
    }

    /// Keeps the counts of clients.
    fn count(&mut self, done: &[message::Done]) {
        let mut counted = None;
        let mut n = 0;
        let mut flush = |session: Option<SessionId>, n: u64| {
            let Some(session) = session else { return };
            match self.sessions.get(&session) {
                Some(SessionEnd::Here(remote)) => {
                    if let Some(remote) = remote.upgrade() {
                        remote.counters.done.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
                    }
                }
                Some(SessionEnd::Socket(_)) => *self.counted.entry(session).or_default() += n,
                _ => {}
            }
        };
        for one in done.iter().filter(|d| matches!(d.outcome, Outcome::Value(_) | Outcome::Held { .. })) {
            let session = Some(one.id.job.session);
            if session != counted {
                flush(counted, n);
                (counted, n) = (session, 0);
            }
            n += 1;
        }
        flush(counted, n);
    }

    fn request(&mut self, session: SessionId, request: Request) {
        let job = |number| JobId { session, number };
        match request {
            Request::Submit { number, spec } => {
                if let Err(e) = self.scheduler.submit(job(number), Arc::new(spec), self.now()) {
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

    fn answer(&mut self, session: SessionId, ticket: u64, question: Question) -> Option<Answer> {
        Some(match question {
            Question::Workers => Answer::Workers(self.workers()),
            Question::Deaths => Answer::Deaths(self.deaths.iter().cloned().collect()),
            Question::Logs => Answer::Logs(self.logs()),
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
            Question::Scale(n) if n == 0 || n > 1024 => Answer::Refused(format!("{n} workers; it must be 1 to 1024")),
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

    fn ready(&self) -> usize {
        self.lives.values().filter(|l| l.phase == Phase::Ready).count()
    }

    fn answer_waiting(&mut self) {
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

    fn workers(&self) -> Vec<WorkerInfo> {
        let mut workers: Vec<_> = self.lives.iter().map(|(&id, life)| (life.place, self.info(id, life))).collect();
        workers.sort_by_key(|(place, _)| *place);
        workers.into_iter().map(|(_, info)| info).collect()
    }

    fn info(&self, id: WorkerId, life: &Life) -> WorkerInfo {
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
            memory: read("statm").and_then(|s| crate::worker::private_bytes(&s)).unwrap_or(0),
            shared_memory: life.page.segment_bytes(),
            limit: self.settings.memory_limit,
            running: life
                .page
                .progress()
                .into_iter()
                .map(|(task, n)| RunningTask { key: self.key(task), progress: f64::from(n) / 1000.0 })
                .collect(),
        }
    }

    fn logs(&self) -> Vec<(String, String)> {
        self.places.iter().zip(&self.tails).map(|(place, tail)| (place.name.clone(), tail.clone())).collect()
    }

    /// Opens or closes places until there are `n`. New ones are filled by the next `refill_open`.
    fn scale(&mut self, n: usize) {
        for place in &mut self.places[..] {
            place.closing = false;
        }
        while self.places.len() < n {
            self.places.push(Place::new(self.places.len(), Vec::new()));
            self.tails.push(String::new());
        }
        for place in &mut self.places[n..] {
            place.closing = true;
            if let Some(life) = place.life {
                self.scheduler.worker_retiring(life);
            }
        }
        self.settings.workers = n;
        self.tell_fleet();
    }

    fn restart(&mut self) {
        let lives: Vec<_> = self.lives.keys().copied().collect();
        lives.into_iter().for_each(|id| self.kill(id, DeathCause::Unknown, false));
    }

    /// Fills the places that have no worker and should have one.
    fn refill_open(&mut self, ctx: &mut Context<Self>) {
        for place in 0..self.places.len() {
            self.refill(place, ctx);
        }
    }

    fn record(&self, life: &Life, running: &[TaskId], cause: DeathCause) -> DeathRecord {
        // Its log lines are on its page too, where they survive what the pipe could not carry.
        let log = String::from_utf8_lossy(&life.page.last_log()).into_owned();
        let tail = if self.tails[life.place].is_empty() { &log } else { &self.tails[life.place] };
        let lines: Vec<_> = tail.lines().collect();
        DeathRecord {
            worker: self.places[life.place].name.clone(),
            pid: life.pid,
            cause: life.ended.clone().unwrap_or(cause),
            memory_limit: self.settings.memory_limit,
            memory_samples: life.page.samples(),
            running: running.iter().map(|id| self.key(*id)).collect(),
            input_bytes: running.iter().map(|id| self.scheduler.input_bytes(*id)).collect(),
            last_lines: lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(ToString::to_string).collect(),
        }
    }

    /// The user-visible key of a task, as far as it can be told from here.
    fn key(&self, id: TaskId) -> String {
        let unknown = || format!("task-{id}");
        let Some(spec) = self.scheduler.spec(id.job) else { return unknown() };
        // Records are found only in an image of our own build.
        if !matches!(self.executable, Executable::Own) {
            return unknown();
        }
        let calls = Ops::new(spec.body(id.index)).filter_map(|op| match op {
            Ok(Op::Call { record, key, .. }) => Some((record, key)),
            _ => None,
        });
        match calls.last() {
            Some((record, hash)) => {
                let options = &spec.options;
                let given = options.binary_search_by_key(&id.index, |o| o.0).ok();
                let name = given.and_then(|at| options[at].1.name.clone());
                node::key(&name.unwrap_or_else(|| short_name(record.path())), hash)
            }
            None => unknown(),
        }
    }

    fn gone(&mut self, worker: WorkerId, cause: DeathCause, ctx: &mut Context<Self>) {
        let Some(life) = self.lives.remove(&worker) else { return };
        let place = life.place;
        let running = if life.blame { life.page.running() } else { Vec::new() };
        let expected = life.phase == Phase::Retiring || self.stopping.is_some();
        let record = self.record(&life, &life.page.running(), cause);
        if !expected {
            log::warn!("{record}");
            self.deaths.push_back(record.clone());
            while self.deaths.len() > DEATHS {
                self.deaths.pop_front();
            }
        }
        self.scheduler.session_closed(session_of(worker));
        self.sessions.remove(&session_of(worker));
        self.scheduler.worker_lost(worker, &running, record);
        self.shared.ledger.forgive(&life.page);
        self.lent.remove(&Peer::Worker(worker));
        let pause = self.places[place].end(Instant::now());
        if self.stopping.is_none() && !self.places[place].closing {
            match self.settings.restart {
                RestartPolicy::Always => self.refill_later(place, pause, ctx),
                RestartPolicy::Never => {
                    self.places[place].closing = true;
                    self.tell_fleet();
                    if self.lives.is_empty() {
                        self.give_up();
                    }
                }
            }
        }
        if self.stopping.is_some() && self.lives.is_empty() {
            ctx.stop();
        }
    }

    /// No worker is left and none will come.
    fn give_up(&mut self) {
        for (session, end) in &self.sessions {
            if let SessionEnd::Here(remote) = end
                && let Some(remote) = remote.upgrade()
            {
                remote.close("all workers have died, and they are not to be replaced");
            }
            log::error!("session {}: all workers have died, and they are not to be replaced", session.0);
        }
    }

    fn close_session(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.counted.remove(&session);
        self.scheduler.session_closed(session);
        self.lent.remove(&Peer::Session(session));
        self.waiting.retain(|w| w.session != session);
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

impl Handler<FromWorkers> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: FromWorkers, ctx: &mut Context<Self>) {
        for frame in msg.frames {
            if let Err(reason) = self.hear(msg.worker, frame) {
                log::error!("a worker broke the protocol: {reason}");
                self.kill(msg.worker, DeathCause::Protocol(reason), true);
                break;
            }
        }
        self.after(ctx);
    }
}

impl Handler<FromSession> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: FromSession, ctx: &mut Context<Self>) {
        let requests = std::mem::take(&mut *msg.requests.lock());
        for request in requests {
            let fills = matches!(&request, Request::Ask { question: Question::Scale(_), .. });
            self.request(msg.session, request);
            if fills {
                self.refill_open(ctx);
            }
        }
        self.after(ctx);
    }
}

impl Handler<FromSocket> for Supervisor {
    type Result = std::result::Result<(), String>;

    fn handle(&mut self, msg: FromSocket, ctx: &mut Context<Self>) -> Self::Result {
        let owner = ATTACHED_OWNERS + msg.session.0;
        for frame in msg.frames {
            let (attachments, lent) = (&self.attachments, &self.lent);
            let resolve = &mut |id: SegmentId, fd, len| {
                if id.owner == owner {
                    return attachments.attach(id, fd, len).map_err(|e| e.to_string());
                }
                let held = lent.get(&Peer::Session(msg.session)).and_then(|l| l.get(&id));
                held.map(|(segment, _)| Arc::clone(segment))
                    .ok_or_else(|| format!("segment {id} is not one it was lent"))
            };
            let request: Request = message::decode(frame, resolve).map_err(|e| e.to_string())?;
            let fills = matches!(&request, Request::Ask { question: Question::Scale(_), .. });
            self.request(msg.session, request);
            if fills {
                self.refill_open(ctx);
            }
        }
        self.after(ctx);
        Ok(())
    }
}

impl Handler<WorkerGone> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: WorkerGone, ctx: &mut Context<Self>) {
        self.gone(msg.worker, msg.cause, ctx);
        self.after(ctx);
    }
}

impl Handler<WorkerOutput> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: WorkerOutput, _: &mut Context<Self>) {
        if self.settings.forward_output {
            // What tasks print is theirs to print. A stream of ours that is closed is no reason to stop.
            let _ = if msg.stderr {
                std::io::stderr().write_all(&msg.bytes)
            } else {
                let mut out = std::io::stdout();
                out.write_all(&msg.bytes).and_then(|()| out.flush())
            };
        }
        if let Some(life) = self.lives.get(&msg.worker) {
            let tail = &mut self.tails[life.place];
            tail.push_str(&String::from_utf8_lossy(&msg.bytes));
            if tail.len() > 2 * TAIL {
                let cut = tail.len() - TAIL;
                let cut = tail.char_indices().map(|(i, _)| i).find(|i| *i >= cut).unwrap_or(0);
                tail.drain(..cut);
            }
        }
    }
}

impl Handler<OpenSession> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: OpenSession, _: &mut Context<Self>) {
        self.sessions.insert(msg.session, msg.end);
    }
}

impl Handler<CloseSession> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: CloseSession, ctx: &mut Context<Self>) {
        self.close_session(msg.0);
        self.after(ctx);
    }
}

impl Handler<ReturnSegments> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: ReturnSegments, _: &mut Context<Self>) {
        let mut by_owner: FxHashMap<u32, Vec<(SegmentId, u32)>> = FxHashMap::default();
        for (id, deliveries) in self.attachments.take_released() {
            by_owner.entry(id.owner).or_default().push((id, deliveries));
        }
        for (owner, segments) in by_owner {
            if owner >= ATTACHED_OWNERS {
                self.tell_session(SessionId(owner - ATTACHED_OWNERS), ToSession::Return(segments));
            } else if owner > 0 {
                self.tell(WorkerId(owner - 1), &ToWorker::Return(segments));
            }
        }
    }
}

impl Handler<Stop> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Instant::now());
        let lives: Vec<_> = self.lives.keys().copied().collect();
        for id in lives {
            if let Some(Life { phase: Phase::Starting(_), .. }) = self.lives.get(&id) {
                self.kill(id, DeathCause::Unknown, false);
            } else {
                self.tell(id, &ToWorker::Shutdown);
            }
        }
        if self.lives.is_empty() {
            ctx.stop();
        }
        self.after(ctx);
    }
}

impl Handler<LookAt> for Supervisor {
    type Result = Look;

    fn handle(&mut self, _: LookAt, _: &mut Context<Self>) -> Look {
        Look { workers: self.workers(), deaths: self.deaths.iter().cloned().collect(), logs: self.logs() }
    }
}

impl Handler<RestartAll> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: RestartAll, ctx: &mut Context<Self>) {
        self.restart();
        self.after(ctx);
    }
}

impl Handler<ScaleTo> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: ScaleTo, ctx: &mut Context<Self>) {
        self.scale(msg.0);
        self.refill_open(ctx);
        self.after(ctx);
    }
}
