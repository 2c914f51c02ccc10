//! A deterministic simulation of the whole core: the real [`Core`] with the real scheduler, real messages and real segments,
//! and around it simulated workers, sessions, timers and time.
//!
//! Workers fail to start in all the ways there are, answer late, stop, print, run out of memory, break the protocol, die in
//! every phase, are replaced, recycled, scaled and restarted. Sessions submit, grow, release, cancel, retry, ask, and vanish with
//! segments lent to them and by them. Timers come late; messages are full, or too large. The core is driven as in production: by the
//! actor, or by another thread that leaves the actor what only the actor may do.
//!
//! In the end every session has been told of each of its outputs, and nothing is waiting, lent or running anywhere. A seed that
//! fails prints itself.
#![allow(clippy::unwrap_used)]

mod check;
mod coordination;
mod effects;
mod found;
mod published;
mod session;
mod worker;

use super::core::{Core, Program, SessionEnd};
use super::effects::{Effects, Timer};
use super::shared_core::decode_from_worker;
use crate::Client;
use crate::error::DeathCause;
use crate::ids::{SessionId, TaskId, WorkerId};
use crate::ipc::captured::OutputChunk;
use crate::ipc::ledger::Ledger;
use crate::ipc::page::PageName;
use crate::ipc::payload::Payload;
use crate::ipc::segment::SegmentPool;
use crate::message::{FromWorker, Question, Request};
use crate::resources::{GivenAmount, Resources};
use crate::scheduler::Prepared;
use crate::settings::{RestartPolicy, Settings, WorkerHooks};
use crate::task::image;
use crate::task::wait::WaitKind;
use effects::SimEffects;
use fastrand::Rng;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustc_hash::{FxHashMap, FxHashSet};
use session::{Known, SimSession};
use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Kinds of tasks. A body is the kind, a number for it, and eight bytes that the value begins with.
const PLAIN: u8 = 0;
/// Fails always.
const BAD: u8 = 1;
/// Fails the first times, less often than it may be retried.
const FLAKY: u8 = 2;
/// Ends only when it is cancelled.
const HANGS: u8 = 3;
/// Like that, and ignores cancellation.
const STUCK: u8 = 4;
/// Its result is its first input, with the segments that this lies in.
const SAME: u8 = 5;

/// Every so many events everything is validated.
const VALIDATED: u32 = 16;
/// The limit of a worker's memory, where there is one.
const LIMIT: u64 = 1000;

struct World {
    rng: Rng,
    core: Core,
    fx: SimEffects,
    sessions: BTreeMap<SessionId, SimSession>,
    next_session: u32,
    /// Jobs that have been submitted, and how many there may be.
    jobs: u32,
    most_jobs: u32,
    known: FxHashMap<TaskId, Known>,
    cancelled: FxHashSet<TaskId>,
    /// How often runs of tasks have failed that fail at first.
    fails: FxHashMap<TaskId, u8>,
    /// Another thread has left something to the actor.
    called: bool,
    events: u32,
    /// Of a hundred tasks, so many are no plain ones.
    trouble: u8,
    full_messages: bool,
    allowed_deaths: usize,
    /// Under how many dying workers a task ran that it may be blamed for.
    deaths: FxHashMap<TaskId, usize>,
    has_limit: bool,
    /// Workers that have died are not replaced.
    never: bool,
    /// Workers may have ended before they came to work, or are not replaced.
    may_give_up: bool,
    /// Items that have been made, and those that somebody has been given.
    items: u64,
    given: FxHashSet<u64>,
    /// What has been published, or was to be, by name.
    published: BTreeMap<String, Vec<TaskId>>,
    /// All is to come to an end.
    ending: bool,
}

fn combine(a: u64, b: u64) -> u64 {
    (a ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

/// Whether it ends workers, for no fault of their tasks.
fn is_restart(request: &Request) -> bool {
    matches!(request, Request::Ask { question: Question::Restart | Question::RestartWorker { .. }, .. })
}

fn value_of(payload: &Payload) -> u64 {
    u64::from_le_bytes(payload.content().try_into().unwrap())
}

/// What is the same in all simulations, and is looked up on the machine.
fn machine() -> &'static (Settings, PageName) {
    static MACHINE: OnceLock<(Settings, PageName)> = OnceLock::new();
    MACHINE.get_or_init(|| {
        // Full messages have hundreds of descriptors.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        (Client::builder().workers(1).threads(1).settings().unwrap(), PageName::new().unwrap())
    })
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (settings, _) = machine();
        let workers = rng.usize(1..4);
        let has_limit = rng.u8(..) < 100;
        let never = rng.u8(..) < 20;
        let tags = |worker: usize| if worker == 0 { vec!["even".to_string()] } else { Vec::new() };
        let settings = Settings {
            workers,
            threads: rng.usize(1..3),
            memory_limit: has_limit.then_some(LIMIT),
            recycle_after: (rng.u8(..) < 40).then(|| rng.u64(2..8)),
            recycle_unmanaged: (rng.u8(..) < 40).then_some(0.5),
            tags: (0..workers).map(tags).collect(),
            resources: vec![Resources::of([("gpu", GivenAmount::new(2.0))])],
            hooks: WorkerHooks { init: rng.bool().then_some(8), exit: None },
            start_timeout: Duration::from_secs(3),
            worker_timeout: Duration::from_secs(2),
            cancel_grace: Duration::from_millis(50),
            allowed_deaths: rng.u32(1..5),
            restart: if never { RestartPolicy::Never } else { RestartPolicy::Always },
            forward_output: rng.bool(),
            events: 4,
            ..settings.clone()
        };
        Self::with(settings, rng)
    }

    fn with(settings: Settings, mut rng: Rng) -> Self {
        let (_, page) = machine();
        let allowed_deaths = settings.allowed_deaths as usize;
        let (has_limit, never) = (settings.memory_limit.is_some(), settings.restart == RestartPolicy::Never);
        let program = Program {
            build: image::build_id().clone(),
            // Bodies of these tasks are no programs.
            is_own: false,
            pages: page.clone(),
            supervisor_page: page.clone(),
        };
        let mut fx = SimEffects::new(rng.fork(), settings.threads);
        let mut world = Self {
            core: Core::new(settings, program, None, fx.now()),
            sessions: BTreeMap::new(),
            next_session: 1,
            jobs: 0,
            most_jobs: rng.u32(2..8),
            known: FxHashMap::default(),
            cancelled: FxHashSet::default(),
            fails: FxHashMap::default(),
            called: false,
            events: 0,
            trouble: rng.u8(0..40),
            full_messages: rng.u8(..) < 10,
            allowed_deaths,
            deaths: FxHashMap::default(),
            has_limit,
            never,
            may_give_up: never,
            items: 0,
            given: FxHashSet::default(),
            published: BTreeMap::new(),
            ending: false,
            fx: {
                fx.bad_starts = 0;
                fx
            },
            rng,
        };
        if world.rng.bool() {
            let large = world.rng.usize(1..6);
            world.core.prepare_from(large);
        }
        world.core.start(&mut world.fx).unwrap();
        world.core.open_session(SessionId::CLIENT, SessionEnd::Client, &mut world.fx);
        world.fx.mail.insert(SessionId::CLIENT, VecDeque::new());
        let pool = SegmentPool::new(0, Ledger::in_memory(1 << 30), 1 << 20);
        world.sessions.insert(SessionId::CLIENT, SimSession::new(SessionId::CLIENT, SessionEnd::Client, pool));
        world.attach();
        world.follow_as_actor();
        world
    }

    fn now(&self) -> Duration {
        self.fx.clock.get()
    }

    fn pass(&mut self, time: Duration) {
        self.fx.clock.set(self.now() + time);
    }

    /// After an event: what follows is seen to by the actor, or by another thread, which may have to call the actor.
    fn follow(&mut self) {
        if self.rng.bool() {
            return self.follow_as_actor();
        }
        self.fx.in_actor = false;
        self.core.settle(&mut self.fx);
        self.called |= self.core.needs_actor();
        self.validate_now_and_then();
    }

    fn follow_as_actor(&mut self) {
        self.called = false;
        self.fx.in_actor = true;
        self.core.after(&mut self.fx);
        assert!(!self.core.needs_actor(), "the actor leaves something to be done");
        self.fx.in_actor = false;
        self.validate_now_and_then();
    }

    fn validate_now_and_then(&mut self) {
        self.events += 1;
        if self.events.is_multiple_of(VALIDATED) {
            self.core.validate();
        }
    }

    /// The core takes in the next message of a worker; whether there was one.
    fn read_worker(&mut self, id: WorkerId) -> bool {
        let Some(worker) = self.fx.workers.get_mut(&id) else { return false };
        let Some(frame) = worker.next_message() else { return false };
        self.fx.in_actor = false;
        let message = decode_from_worker(self.core.loans(), &self.fx.attachments, id, frame).map_err(|e| e.reason);
        self.fx.blameless = matches!(&message, Ok(FromWorker::Session(request)) if is_restart(request));
        if let Err(reason) = message.and_then(|message| self.core.receive(id, message, &mut self.fx)) {
            // Its connection is closed.
            if let Some(worker) = self.fx.workers.get_mut(&id) {
                assert!(worker.rude, "{id:?} keeps to the protocol, and is told: {reason}");
                worker.cut_off();
            }
            self.core.misunderstood(id, reason, &mut self.fx);
        }
        self.fx.blameless = false;
        self.follow();
        true
    }

    /// The core is told of the end of a worker that has ended; whether it had.
    fn reap(&mut self, id: WorkerId) -> bool {
        let Some(cause) = self.fx.workers.get(&id).and_then(|worker| worker.ended.clone()) else { return false };
        // A part of what it had sent is still read.
        for _ in 0..self.rng.u8(0..4) {
            self.read_worker(id);
        }
        let worker = &self.fx.workers[&id];
        let came_to_work = worker.welcomed && !worker.page.begun.is_empty();
        self.may_give_up |= !came_to_work || self.fx.bad_starts > 0;
        for id in worker.blamed().into_iter().filter(|_| !worker.blameless) {
            *self.deaths.entry(id).or_default() += 1;
        }
        let pauses = self.fx.pauses();
        self.sessions.remove(&SessionId::of_tasks(id));
        self.fx.in_actor = true;
        self.core.print_last_output(id, &mut self.fx);
        let fails = self.fx.failed_starts;
        self.core.ended(id, cause, &mut self.fx);
        if came_to_work && self.fx.failed_starts == fails {
            assert_eq!(self.fx.pauses(), pauses, "{id:?} came to work, and is not replaced at once");
        }
        self.follow_as_actor();
        assert!(!self.fx.workers.contains_key(&id), "{id:?} has ended and is not forgotten");
        true
    }

    /// The timer that is due first comes, if it is due.
    fn ring(&mut self) -> bool {
        let due = self.fx.next_timer().filter(|&at| self.fx.timers[at].0 <= self.now());
        let Some(at) = due else { return false };
        let (_, timer): (_, Timer) = self.fx.timers.swap_remove(at);
        self.fx.in_actor = true;
        self.core.timer(timer, &mut self.fx);
        self.follow_as_actor();
        true
    }

    /// The actor does what it has been called for; whether it has.
    fn answer_calls(&mut self) -> bool {
        if self.called {
            self.follow_as_actor();
            return true;
        }
        let released = self.fx.released.swap(false, Ordering::Relaxed);
        if released {
            self.fx.in_actor = true;
            self.core.return_segments(&mut self.fx);
            self.follow_as_actor();
        }
        released
    }

    fn some_worker(&mut self) -> Option<WorkerId> {
        let all: Vec<WorkerId> = self.fx.workers.keys().copied().collect();
        self.rng.choice(all)
    }

    /// The core is told of a large graph that has been prepared; whether there was one.
    fn bring_prepared(&mut self) -> bool {
        let count = self.fx.preparing.len();
        if count == 0 {
            return false;
        }
        let (job, spec) = self.fx.preparing.swap_remove(self.rng.usize(0..count));
        self.fx.in_actor = true;
        self.core.prepared(job, Prepared::new(job, spec.into()), &mut self.fx);
        self.follow_as_actor();
        true
    }

    fn some_session(&mut self) -> Option<SessionId> {
        let all: Vec<SessionId> = self.sessions.keys().copied().collect();
        self.rng.choice(all)
    }

    /// A worker does something of its own, whether it was told to or not.
    fn work(&mut self, id: WorkerId) {
        let Some(worker) = self.fx.workers.get_mut(&id).filter(|worker| worker.moves()) else { return };
        match self.rng.u8(0..10) {
            _ if worker.begin() => {}
            0..4 => worker.obey(),
            4..6 => drop(worker.start_task()),
            6..9 => drop(worker.end_task(&mut self.rng, &mut self.fails)),
            _ => drop(worker.let_go()),
        }
    }

    /// A worker that is up says, or suffers, something unusual.
    fn unusual(&mut self, id: WorkerId) {
        let tasks: Vec<String> = vec!["task".to_string()];
        let Some(worker) = self.fx.workers.get_mut(&id).filter(|worker| worker.is_up()) else { return };
        match self.rng.u8(0..9) {
            0 => {
                worker.paused = !worker.paused;
                worker.post(&FromWorker::Paused(worker.paused));
            }
            1 => worker.post(&FromWorker::NoRoomNow),
            2 => {
                let delta = if worker.blocked > 0 { -1 } else { i32::from(!worker.running.is_empty()) };
                worker.blocked += delta;
                let waiter = match delta {
                    1 => worker.running.first().map(|task| task.task.id),
                    _ => worker.waiter,
                };
                worker.waiter = waiter.filter(|_| delta == 1);
                let kind = if self.rng.bool() { WaitKind::ForTasks } else { WaitKind::ForOthers };
                worker.post(&FromWorker::Blocked(delta, waiter.map(|task| (task, kind))));
            }
            3 => {
                worker.printed += 1;
                let number = worker.printed;
                worker.post(&FromWorker::Printed { number, stderr: false, bytes: b"line\n".as_slice().into(), tasks });
            }
            4 => {
                worker.printed += 1;
                worker.page.left = Some(OutputChunk { number: worker.printed, stderr: true, bytes: b"last".to_vec() });
            }
            5 => self.core.print_of_running(id, true, b"half a line", &mut self.fx),
            6 => worker.post(&FromWorker::Function { log_id: 1, name: "f".to_string() }),
            7 => worker.page.spilled = self.rng.choice([0, 10, 1_000_000]).unwrap(),
            _ => worker.private = self.rng.choice([0, LIMIT / 2, LIMIT * 2]).unwrap(),
        }
    }

    /// Something bad happens to a worker.
    fn hurt(&mut self, id: WorkerId) {
        let Some(worker) = self.fx.workers.get_mut(&id) else { return };
        match self.rng.u8(0..9) {
            7 if worker.is_up() => {
                worker.page.robbed = true;
                worker.die(DeathCause::Exited(73));
            }
            0..2 => worker.die(DeathCause::Signal(9)),
            2 => worker.die(DeathCause::Exited(3)),
            3 => worker.die(DeathCause::Signal(6)),
            4 if worker.is_up() => worker.post(&FromWorker::Retracted(vec![])),
            4..7 => {
                let stopped = !worker.is_stopped();
                worker.set_stopped(stopped);
            }
            _ if worker.is_up() => {
                self.may_give_up = true;
                worker.rude = true;
                worker.post(&FromWorker::Hello { version: 0, build: image::build_id().clone() });
            }
            _ => {}
        }
    }

    /// Something happens.
    fn step(&mut self) {
        let (worker, session) = (self.some_worker(), self.some_session());
        let (Some(session), kind) = (session, self.rng.u8(0..100)) else { return };
        match (kind, worker) {
            (0..30, Some(worker)) => self.work(worker),
            (30..50, Some(worker)) => drop(self.read_worker(worker)),
            (50..58, _) => self.act(session),
            (58..64, _) => drop(self.read_session(session)),
            (64..72, _) => drop(self.hear(session)),
            (72..75, _) => drop(self.let_go(session)),
            (75, _) => drop(self.answer_calls()),
            (76, _) => drop(self.bring_prepared()),
            (77..81, Some(worker)) => self.unusual(worker),
            (81..83, Some(worker)) => self.hurt(worker),
            (83..86, Some(worker)) => drop(self.reap(worker)),
            (86..89, _) => drop(self.ring()),
            (89..94, _) => {
                let time = self.rng.choice([1, 5, 60, 400, 3100]).unwrap();
                self.pass(Duration::from_millis(time));
            }
            (94, Some(worker)) => {
                if let Some(session) = self.session_of(worker) {
                    match self.rng.bool() {
                        true => self.act(session),
                        false => self.coordinate(session),
                    }
                }
            }
            (95, _) if self.rng.u8(0..3) == 0 => {
                self.fx.bad_starts = self.rng.choice([0, 50, 100]).unwrap();
                self.may_give_up |= self.fx.bad_starts > 0;
            }
            (96, _) if self.rng.u8(0..4) == 0 => {
                self.may_give_up = true;
                self.fx.next_is_too_large = true;
            }
            (97, _) if self.rng.bool() => match session == SessionId::CLIENT || session.is_of_tasks() {
                true => self.attach(),
                false => self.vanish(session),
            },
            (98, _) if self.rng.u8(0..3) == 0 => {
                self.may_give_up = true;
                self.fx.blameless = true;
                self.core.restart(&mut self.fx);
                self.fx.blameless = false;
                self.follow();
            }
            (99, _) if self.rng.u8(0..3) == 0 => {
                self.core.scale(self.rng.usize(1..4)).unwrap();
                self.follow();
            }
            _ => {}
        }
    }

    /// Everybody does what there is to do in turn, until nothing moves any more.
    fn run_out(&mut self) {
        self.fx.bad_starts = 0;
        self.fx.next_is_too_large = false;
        self.close_jobs();
        self.end_calls();
        for worker in self.fx.workers.values_mut() {
            worker.set_stopped(false);
            if worker.is_up() {
                worker.post(&FromWorker::Paused(false));
                worker.paused = false;
                let blocked = std::mem::take(&mut worker.blocked);
                let waiter = worker.waiter.take();
                worker.post(&FromWorker::Blocked(-blocked, waiter.map(|task| (task, WaitKind::ForTasks))));
            }
        }
        for round in 0.. {
            assert!(round < 3000, "it does not come to an end: {} {:?}", self.core.state(), self.fx.timers);
            let mut moved = false;
            let workers: Vec<WorkerId> = self.fx.workers.keys().copied().collect();
            for id in workers {
                let Some(worker) = self.fx.workers.get_mut(&id) else { continue };
                moved |= worker.begin();
                while worker.moves() && !worker.inbox.is_empty() {
                    worker.obey();
                    moved = true;
                }
                while worker.moves() && worker.start_task() {}
                moved |= worker.moves() && worker.end_task(&mut self.rng, &mut self.fails);
                moved |= worker.moves() && worker.let_go();
                while self.read_worker(id) {
                    moved = true;
                }
                moved |= self.reap(id);
            }
            let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
            for id in sessions {
                while self.hear(id) || self.read_session(id) {
                    moved = true;
                }
                moved |= self.let_go(id);
            }
            moved |= self.answer_calls();
            moved |= self.bring_prepared();
            if moved || self.fx.workers.values().any(|w| w.moves() && !w.inbox.is_empty()) {
                continue;
            }
            if self.fx.stopped {
                return;
            }
            let Some(next) = self.fx.next_timer() else { return };
            let due = self.fx.timers[next].0;
            self.fx.clock.set(self.now().max(due));
            self.ring();
        }
    }
}

fn simulate(seed: u64) {
    let mut world = World::new(seed);
    let steps = world.rng.u32(20..300);
    for _ in 0..steps {
        world.step();
    }
    world.check_end();
}

/// Prints the seed of a run that panics.
struct Seed(u64);

impl Drop for Seed {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}: SWATH_CORE_SEED={} repeats it", self.0, self.0);
        }
    }
}

/// Two halves, for two cores. For a longer search, set the number of seeds in `SWATH_CORE_SEEDS`; for one seed,
/// `SWATH_CORE_SEED`.
fn chaos(from: u64) {
    let given = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    if let Some(seed) = given("SWATH_CORE_SEED") {
        let seed = Seed(seed);
        return simulate(seed.0);
    }
    let seeds = given("SWATH_CORE_SEEDS").unwrap_or(10_000);
    for seed in (from..seeds).step_by(2) {
        let seed = Seed(seed);
        simulate(seed.0);
    }
}

#[test]
fn whatever_happens_nothing_is_left_even_seeds() {
    chaos(0);
}

#[test]
fn whatever_happens_nothing_is_left_odd_seeds() {
    chaos(1);
}
