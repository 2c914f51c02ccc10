//! A worker process: takes tasks from its socket, runs them on its threads, keeps what is to be kept.
//!
//! There is no thread that only reads. A thread without a task to run reads the socket, if nobody else does, and runs
//! what it finds there: so a task is not handed from thread to thread while it is waited for. While all threads run
//! tasks, the *watcher* reads: it looks every few milliseconds as long as anything runs, and sleeps otherwise. It also
//! gives the signs of life, sends results that wait behind a long task, and ends the process when the supervisor is
//! gone. Where there is a memory limit, the *mover* writes results to disk ([`store`]); while no task may start for want
//! of memory, the watcher reads as if all threads were busy. Who reads is told by `Queue::reading`; it changes under the
//! queue's lock alone.

mod capture;
mod encode;
mod pending;
mod scope;
mod store;
mod uplink;

use crate::ids::TaskId;
use crate::ipc::captured::OutputChunk;
use crate::ipc::clock::{self, monotonic_ms};
use crate::ipc::disk::Disk;
use crate::ipc::ledger::Ledger;
use crate::ipc::page::{ControlPage, PageName};
use crate::ipc::segment::{Attachments, SegmentPool};
use crate::ipc::socket::Socket;
use crate::ipc::start::{die_with_parent, exit_now, wake_orphans};
use crate::job::{Completion, Failure, FailureCause, Outcome};
use crate::memory::machine::available_memory;
use crate::memory::policy::{Policy, Wait};
use crate::message::{FromWorker, Input, Task, ToWorker, Welcome};
use crate::remote::Description;
use crate::task::call::{Fault, discard, guarded};
use crate::task::function::{Argument, CallError, Record, short_name};
use crate::task::program::{self, Op, Ops};
use crate::task::{Value, image};
use crate::version::VERSION;
use capture::Streams;
use encode::Unsent;
use nix::sys::resource::{Resource, setrlimit};
use parking_lot::{Condvar, Mutex, MutexGuard};
use pending::Waiting;
use rustc_hash::FxHashSet;
use scope::WorkerScope;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::Write;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use store::Store;
use uplink::Link;

/// How often the watcher looks while tasks run.
const TICK: Duration = Duration::from_millis(2);
/// How long nothing must have run before the watcher sleeps.
const CALM: Duration = Duration::from_millis(100);
/// How long the watcher reads before it looks whether somebody else could.
const TURN_MS: u64 = 10;
/// How often memory is sampled while tasks run.
const SAMPLE: Duration = Duration::from_millis(100);
/// Results that wait for others to travel with.
const BATCH: usize = 128;
/// How long results may wait while short tasks run.
const LINGER: Duration = Duration::from_micros(500);
/// How long a supervisor may take from the end of its connections to its own.
const DYING: Duration = Duration::from_secs(5);
/// Unused segments are kept for the next value up to this share of the available memory.
const SPARE_SHARE: u64 = 16;
/// And up to this share of the worker's limit.
const SPARE_OF_LIMIT: u64 = 8;
/// How long to wait for room in shared memory before it is an error.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long tasks must have waited for memory before the supervisor is told to send them elsewhere.
const LASTING: Duration = Duration::from_millis(50);
/// Bytes of address space for a thread's stack and its share of the allocator.
const STACKS: u64 = 8 << 20;

struct Queue {
    tasks: VecDeque<Task>,
    /// Tasks that wait for results of others of this worker.
    waiting: Waiting,
    /// Whether somebody reads the socket.
    reading: bool,
    /// Threads that wait for work or for their turn to read.
    idle: usize,
    /// Threads there are, without those that wait for their own tasks. As many as the worker is to have stay.
    active: usize,
    /// Running tasks that were cancelled.
    cancelled: FxHashSet<TaskId>,
    /// As few as there are threads.
    running: Vec<TaskId>,
    next_slot: usize,
    /// Slots of threads that have left.
    free_slots: Vec<usize>,
}

pub(crate) struct Worker {
    welcome: Welcome,
    link: Link,
    queue: Mutex<Queue>,
    work: Condvar,
    store: Store,
    pool: SegmentPool,
    page: Arc<ControlPage>,
    /// Values that are to be sent and for which there was no room, and since when.
    deferred: Mutex<Vec<(TaskId, Instant)>>,
    /// Threads that encode values for others.
    exporting: AtomicUsize,
    /// Results that have not been sent, and since when.
    finished: Mutex<Vec<Completion>>,
    streams: Streams,
    /// Functions whose names the supervisor has been told.
    introduced: Mutex<FxHashSet<u64>>,
    /// Starts and ends of tasks, for the watcher to see whether anything goes on.
    activity: AtomicU64,
    watch: Mutex<bool>,
    watcher: Condvar,
    client: OnceLock<Arc<crate::remote::Remote>>,
    /// The thread that sends what must be read from disk first, once there is one.
    exporter: OnceLock<Option<Sender<(TaskId, Instant)>>>,
}

/// Serves a supervisor until it closes the connection.
pub(crate) fn main(socket: Socket, page: Option<PageName>) -> ! {
    die_with_parent();
    let link = Link::new(socket);
    link.send(&FromWorker::Hello { version: VERSION, build: image::build_id().clone() });
    let first = link.read_first();
    if let (Err(_), Some(page)) = (&first, page) {
        clean_up_after(&page);
    }
    match first.and_then(|first| start(link, first)) {
        Ok(worker) => {
            worker.work_as_thread(0);
            // Other threads do its work now; the process must not end with it.
            loop {
                std::thread::park();
            }
        }
        Err(reason) => {
            // There is nobody to tell but the supervisor's copy of this stream.
            let _ = writeln!(std::io::stderr(), "worker cannot start: {reason}");
            exit_now(72)
        }
    }
}

/// Removes what the supervisor left behind, if it did not go in order.
fn clean_up_after(page: &PageName) {
    // The signal that would end a stuck process must not come in between.
    nix::unistd::alarm::cancel();
    // A dying process closes its descriptors a little before its children get another parent.
    let began = Instant::now();
    while began.elapsed() < DYING {
        if nix::unistd::getppid().as_raw() as u32 != page.owner() {
            page.unlink_orphans();
            return wake_orphans(std::slice::from_ref(page));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn start(link: Link, first: Vec<ToWorker>) -> Result<&'static Worker, String> {
    let mut first = first.into_iter();
    let welcome = match first.next() {
        Some(ToWorker::Welcome(welcome)) => welcome,
        Some(ToWorker::Shutdown) => exit_now(0),
        _ => return Err("the supervisor did not say welcome".to_string()),
    };
    let open = |name| ControlPage::open(name).map(Arc::new).map_err(|e| e.to_string());
    let page = open(&welcome.own_page)?;
    let ledger = Ledger::shared(open(&welcome.supervisor_page)?, Arc::clone(&page));
    // All there may be: a mapping costs no memory of its own but page tables, the five-hundredth part.
    let budget = usize::try_from(ledger.limit()).unwrap_or(usize::MAX);
    let spare = available_memory().unwrap_or(0) / SPARE_SHARE;
    let spare = welcome.memory_limit.map_or(spare, |limit| spare.min(limit / SPARE_OF_LIMIT));
    let pool = SegmentPool::new(welcome.owner, ledger.clone(), spare as usize);
    crate::ipc::segment::install(pool.clone());
    clock::use_counter(welcome.counter);
    page.beat(monotonic_ms());
    encode::install_logger(&welcome.name, &page);
    let threads = welcome.threads;
    if let Some(limit) = welcome.memory_limit {
        cap_memory(limit, threads);
    }
    let policy = welcome.memory_limit.map(|limit| Policy::new(welcome.thresholds.levels(limit)));
    let disk = welcome.spill_directory.clone().map(|directory| Disk::new(directory, ledger));
    let store = Store::new(policy, disk, threads, pool.clone(), Arc::clone(&page));
    let worker: &'static Worker = Box::leak(Box::new(Worker {
        link,
        queue: Mutex::new(Queue {
            tasks: VecDeque::new(),
            waiting: Waiting::default(),
            reading: false,
            idle: 0,
            active: threads,
            cancelled: FxHashSet::default(),
            running: Vec::new(),
            next_slot: threads,
            free_slots: Vec::new(),
        }),
        work: Condvar::new(),
        store,
        pool,
        page,
        deferred: Mutex::default(),
        exporting: AtomicUsize::new(0),
        finished: Mutex::default(),
        streams: Streams::open(),
        introduced: Mutex::default(),
        activity: AtomicU64::new(0),
        watch: Mutex::new(false),
        watcher: Condvar::new(),
        client: OnceLock::new(),
        exporter: OnceLock::new(),
        welcome,
    }));
    worker.link.attachments().keep(budget);
    worker.link.attachments().forget(&worker.welcome.gone);
    worker.link.attachments().set_notifier(Box::new(|| worker.send_released()));
    // Before there are threads: one that reads already would not hear of tasks that another one puts into the queue.
    worker.handle(Ok(first.collect()));
    let spawn = |name: String, f: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name).spawn(f).map(drop).map_err(|e| format!("no thread to be had: {e}"))
    };
    spawn("watcher".to_string(), Box::new(|| worker.watch()))?;
    if worker.store.is_limited() {
        spawn("mover".to_string(), Box::new(|| worker.store.pay_debts(|| worker.eased())))?;
    }
    for slot in 1..threads {
        spawn(format!("executor-{slot}"), Box::new(move || worker.work_as_thread(slot)))?;
    }
    Ok(worker)
}

/// Makes the memory limit hard: an allocation that goes far beyond it fails, which ends the worker and not the machine.
///
/// The kernel counts private memory that can be written, touched or not, so stacks and the allocator's reserves need
/// room of their own. Shared segments are not counted; they have a budget of their own.
fn cap_memory(limit: u64, threads: usize) {
    let room = limit / 5 + STACKS * (threads as u64 + 4);
    let cap = limit.saturating_add(room);
    if let Err(e) = setrlimit(Resource::RLIMIT_DATA, cap, cap) {
        log::warn!("the memory limit cannot be made hard: {e}");
    }
}

/// What a thread without a task does next.
enum Turn {
    Run(Task),
    Read,
    Leave,
}

impl Worker {
    pub(crate) fn attachments(&self) -> &Attachments {
        self.link.attachments()
    }

    fn work_as_thread(&'static self, slot: usize) {
        let scope = Rc::new(WorkerScope::new(self, slot));
        let _entered = crate::submission::context::enter(scope.clone());
        let mut sent = Instant::now();
        // When the task before it ended, if the next one was there already: one look at the clock for both.
        let mut now = None;
        loop {
            match self.turn(slot, &mut now) {
                Turn::Leave => return,
                Turn::Run(task) => {
                    let began = now.unwrap_or_else(Instant::now);
                    let (waiting, ended) = self.run(task, began, &scope);
                    now = Some(ended);
                    if waiting >= BATCH || ended.duration_since(sent) > LINGER {
                        self.send_finished();
                        sent = ended;
                        now = None;
                    }
                }
                Turn::Read => {
                    let frames = self.link.read();
                    self.handle(frames);
                    let mut queue = self.queue.lock();
                    queue.reading = false;
                    let others = queue.tasks.len().saturating_sub(1);
                    for _ in 0..others.min(queue.idle) {
                        self.work.notify_one();
                    }
                }
            }
        }
    }

    fn turn(&self, slot: usize, now: &mut Option<Instant>) -> Turn {
        let mut queue = self.queue.lock();
        let mut flushed = false;
        loop {
            if queue.active > self.welcome.threads {
                queue.active -= 1;
                queue.free_slots.push(slot);
                // Somebody who stays must look at what there is.
                self.work.notify_one();
                return Turn::Leave;
            }
            let closed = self.closed(&queue).is_some();
            if let Some(task) = queue.tasks.pop_front_if(|_| !closed) {
                queue.running.push(task.id);
                self.page.set_listening(true);
                // Somebody should read while this thread is busy: an idle one now, or else the watcher in a while.
                if !queue.reading && queue.idle > 0 {
                    self.work.notify_one();
                }
                drop(queue);
                self.wake_watcher();
                return Turn::Run(task);
            }
            *now = None;
            if !flushed {
                drop(queue);
                self.send_finished();
                if self.streams.unseen() {
                    Streams::flush();
                    self.tell_printed();
                }
                self.stop_listening();
                flushed = true;
                queue = self.queue.lock();
                continue;
            }
            if !queue.reading && !closed {
                queue.reading = true;
                return Turn::Read;
            }
            if closed {
                // The watcher reads meanwhile: who reads cannot be told that there is room again.
                self.wake_watcher();
            }
            queue.idle += 1;
            self.work.wait(&mut queue);
            queue.idle -= 1;
        }
    }

    /// Why the next task must wait, if there is one and it must.
    fn closed(&self, queue: &Queue) -> Option<Wait> {
        if queue.tasks.is_empty() { None } else { self.store.may_start(queue.running.len()).err() }
    }

    /// There may be room for another task.
    fn eased(&self) {
        let queue = self.queue.lock();
        if !queue.tasks.is_empty() && queue.idle > 0 && self.closed(&queue).is_none() {
            self.work.notify_one();
        }
    }

    fn wake_watcher(&self) {
        // Seen by a watcher that is about to sleep, and does not then.
        self.activity.fetch_add(1, Ordering::Relaxed);
        let mut awake = self.watch.lock();
        if !*awake {
            *awake = true;
            self.watcher.notify_one();
        }
    }

    /// The watcher's life, see the head of this module.
    fn watch(&'static self) {
        let mut closed_since: Option<Instant> = None;
        let mut told_closed = false;
        let (mut seen, mut calm_since) = (0, Instant::now());
        let mut sampled: Option<Instant> = None;
        loop {
            {
                let mut awake = self.watch.lock();
                while !*awake {
                    self.watcher.wait(&mut awake);
                    calm_since = Instant::now();
                }
            }
            std::thread::sleep(TICK);
            self.page.beat(monotonic_ms());
            let process = self.store.sample();
            if sampled.is_none_or(|at| at.elapsed() > SAMPLE) {
                self.page.add_sample(process);
                sampled = Some(Instant::now());
            }
            self.send_finished();
            self.eased();
            self.export_deferred();
            self.tell_printed();
            let busy = {
                let mut queue = self.queue.lock();
                let waits = self.closed(&queue);
                let closed = waits.is_some();
                // What passes soon is not worth telling: elsewhere, inputs would have to be moved.
                let since = *closed_since.get_or_insert_with(Instant::now);
                if !closed {
                    closed_since = None;
                }
                if told_closed != closed && (!closed || since.elapsed() > LASTING) {
                    told_closed = closed;
                    self.store.note_waits(waits);
                    self.link.send(&FromWorker::Paused(closed));
                }
                let runs = !queue.running.is_empty() || closed || told_closed || !self.deferred.lock().is_empty();
                if runs && !queue.reading && (queue.idle == 0 || closed) {
                    queue.reading = true;
                    drop(queue);
                    self.read_in_turn();
                }
                runs || self.exporting.load(Ordering::Relaxed) > 0
            };
            let activity = self.activity.load(Ordering::Relaxed);
            if busy || activity != seen {
                seen = activity;
                calm_since = Instant::now();
            } else if calm_since.elapsed() > CALM {
                let mut awake = self.watch.lock();
                // A task that starts now sets this again, after its start has been counted.
                *awake = false;
                if self.activity.load(Ordering::Relaxed) != seen {
                    *awake = true;
                }
            }
        }
    }

    /// Reads until something came or the turn is over.
    fn read_in_turn(&'static self) {
        if self.link.poll(TURN_MS) {
            let frames = self.link.read();
            self.handle(frames);
        }
        let mut queue = self.queue.lock();
        queue.reading = false;
        for _ in 0..queue.tasks.len().max(1).min(queue.idle) {
            self.work.notify_one();
        }
    }

    fn handle(&'static self, messages: Result<Vec<ToWorker>, String>) {
        let messages = match messages {
            Ok(messages) => messages,
            Err(reason) => self.misunderstand(&reason),
        };
        for message in messages {
            match message {
                ToWorker::Run(tasks) => match tasks.unpack() {
                    Ok(tasks) => self.accept(tasks),
                    Err(e) => self.misunderstand(&e.to_string()),
                },
                ToWorker::Cancel(tasks) => self.cancel(&tasks),
                ToWorker::Retract(tasks) => self.retract(tasks),
                ToWorker::Fetch(tasks) => {
                    // The watcher gives signs of life, however long it takes.
                    self.exporting.fetch_add(1, Ordering::Relaxed);
                    self.wake_watcher();
                    tasks.into_iter().for_each(|id| self.export(id, Instant::now()));
                    self.exporting.fetch_sub(1, Ordering::Relaxed);
                }
                ToWorker::Drop(tasks) => {
                    self.store.forget(&tasks);
                    // What the page says of memory is to be true also when nothing runs.
                    self.wake_watcher();
                }
                ToWorker::Share(values) => self.store.share(values),
                ToWorker::Return(segments) => {
                    segments.into_iter().for_each(|(id, deliveries)| self.pool.returned(id, deliveries));
                    self.wake_watcher();
                }
                ToWorker::Forsake(segments) => self.pool.forsake(&segments),
                ToWorker::Gone(owners) => self.attachments().forget(&owners),
                ToWorker::Session(word) => {
                    if let Some(client) = self.client.get() {
                        client.receive(word);
                    }
                }
                ToWorker::Welcome(_) => log::error!("a second welcome"),
                ToWorker::Shutdown => exit_now(0),
            }
        }
        if self.link.is_closed() {
            self.end();
        }
    }

    fn misunderstand(&self, reason: &str) -> ! {
        log::error!("the supervisor cannot be understood: {reason}");
        self.end()
    }

    /// The supervisor is gone.
    fn end(&self) -> ! {
        clean_up_after(&self.welcome.supervisor_page);
        exit_now(0)
    }

    /// Takes in tasks to run: at once, or after others that have been sent before them.
    fn accept(&self, tasks: Vec<Task>) {
        let mut bounced = Vec::new();
        let mut queue = self.queue.lock();
        for mut task in tasks {
            if pending::lacks(&task).next().is_none() {
                queue.tasks.push_back(task);
                continue;
            }
            let mut lost = false;
            for input in &mut task.inputs {
                let Input::Ahead { id } = *input else { continue };
                // What it follows was sent just before it, if it has not ended.
                let to_come = queue.waiting.holds(id)
                    || queue.running.contains(&id)
                    || queue.tasks.iter().rev().any(|t| t.id == id);
                if !to_come {
                    *input = Input::Held { id, take: false };
                    lost |= !self.store.holds(id);
                }
            }
            if lost {
                bounced.push(task.id);
            } else if pending::lacks(&task).next().is_none() {
                queue.tasks.push_back(task);
            } else {
                queue.waiting.add(task);
            }
        }
        drop(queue);
        self.bounce(bounced);
    }

    /// Sends back tasks that came ahead of results which there will not be here.
    fn bounce(&self, tasks: Vec<TaskId>) {
        if !tasks.is_empty() {
            // How the others ended comes first.
            self.send_finished();
            self.link.send(&FromWorker::Bounced(tasks));
        }
    }

    fn cancel(&self, tasks: &[TaskId]) {
        let mut queue = self.queue.lock();
        let mut dropped = Vec::new();
        queue.tasks.retain(|t| {
            let drop = tasks.contains(&t.id);
            if drop {
                dropped.push(Completion { id: t.id, attempt: t.attempt, run_us: 0, outcome: Outcome::Cancelled });
            }
            !drop
        });
        for id in tasks {
            dropped.extend(queue.waiting.remove(*id).map(|t| Completion {
                id: t.id,
                attempt: t.attempt,
                run_us: 0,
                outcome: Outcome::Cancelled,
            }));
        }
        let gone: Vec<_> = dropped.iter().map(|d| d.id).collect();
        let bounced = queue.waiting.fail(&gone);
        let running: Vec<_> = tasks.iter().filter(|id| queue.running.contains(id)).copied().collect();
        queue.cancelled.extend(running);
        drop(queue);
        if !dropped.is_empty() {
            self.finished.lock().extend(dropped);
            self.send_finished();
        }
        self.bounce(bounced);
    }

    pub(crate) fn is_cancelled(&self, id: TaskId) -> bool {
        self.queue.lock().cancelled.contains(&id)
    }

    fn retract(&self, tasks: Vec<TaskId>) {
        let wanted: FxHashSet<TaskId> = tasks.into_iter().collect();
        let mut back = Vec::new();
        let mut queue = self.queue.lock();
        queue.tasks.retain(|t| {
            let retracted = wanted.contains(&t.id);
            if retracted {
                back.push(t.id);
            }
            !retracted
        });
        back.extend(wanted.iter().filter_map(|id| queue.waiting.remove(*id)).map(|t| t.id));
        let bounced = queue.waiting.fail(&back);
        drop(queue);
        self.link.send(&FromWorker::Retracted(back));
        self.bounce(bounced);
    }

    /// Sends a value that is held. One that must be read from disk is left to a thread of its own: whoever reads messages
    /// does not wait for the disk.
    fn export(&'static self, id: TaskId, since: Instant) {
        let exporter = self.store.is_on_disk_only(id).then(|| self.exporter()).flatten();
        if exporter.is_none_or(|exporter| exporter.send((id, since)).is_err()) {
            self.export_now(id, since);
        }
    }

    fn exporter(&'static self) -> Option<&'static Sender<(TaskId, Instant)>> {
        let exporter = self.exporter.get_or_init(|| {
            let (ask, asked) = channel();
            let work = move || asked.into_iter().for_each(|(id, since)| self.export_now(id, since));
            std::thread::Builder::new().name("exporter".to_string()).spawn(work).ok().map(|_| ask)
        });
        exporter.as_ref()
    }

    /// Sends a value that is held; where there is no room for it, a little later.
    fn export_now(&self, id: TaskId, since: Instant) {
        let lost = |reason| Err(Box::new(self.failure(id, 0, None, None, FailureCause::Resource { reason })));
        let result = match self.store.get(id) {
            Ok(Some((value, record))) => {
                let encoded = encode::encode(&self.pool, &value, record);
                // It may have been forgotten meanwhile, and this be its end.
                discard(value);
                match encoded {
                    Err(Unsent::Crowded(_)) if since.elapsed() < PATIENCE => {
                        self.deferred.lock().push((id, since));
                        return self.wake_watcher();
                    }
                    encoded => encoded
                        .map_err(|e| Box::new(self.failure(id, 0, Some(short_name(record.path())), None, e.into()))),
                }
            }
            Ok(None) => lost("its worker does not hold it any more".to_string()),
            Err(reason) => lost(reason),
        };
        if let Ok(payload) = &result {
            self.lend(payload);
        }
        self.link.send(&FromWorker::Exported(id, result));
    }

    /// Tries again to send what there was no room for.
    fn export_deferred(&'static self) {
        let deferred = std::mem::take(&mut *self.deferred.lock());
        if deferred.is_empty() {
            return;
        }
        deferred.into_iter().for_each(|(id, since)| self.export(id, since));
        // Once for all of them. The supervisor may have copies that nobody needs.
        if !self.deferred.lock().is_empty() && !self.store.ask_for_room() {
            self.link.send(&FromWorker::Crowded);
        }
    }

    /// Encodes a value for others. Where that finds no room, results are moved to disk until there is, the supervisor is
    /// told that copies which can be had again had better go, and room is waited for as long as that makes sense.
    fn encode_patiently(&self, value: &Value, record: &'static Record) -> Result<crate::ipc::payload::Payload, Unsent> {
        let since = Instant::now();
        loop {
            match encode::encode(&self.pool, value, record) {
                Err(Unsent::Crowded(_)) if self.store.move_one() => {}
                Err(Unsent::Crowded(_)) if since.elapsed() < PATIENCE => {
                    self.link.send(&FromWorker::Crowded);
                    std::thread::sleep(TICK);
                }
                encoded => return encoded,
            }
        }
    }

    /// Counts one delivery of each segment of ours in the payload.
    fn lend(&self, payload: &crate::ipc::payload::Payload) {
        for segment in payload.segments().iter().filter(|s| s.is_own()) {
            self.pool.lend(segment);
        }
    }

    fn send_finished(&self) {
        // Sent under the lock, so that what is done first is told first.
        let mut finished = self.finished.lock();
        if finished.is_empty() {
            return;
        }
        for done in encode::batches(finished.drain(..)) {
            self.link.send(&FromWorker::Done(done));
        }
    }

    /// Leaves what may still be written to the supervisor, if no task runs.
    fn stop_listening(&self) {
        let queue = self.queue.lock();
        if queue.running.is_empty() && queue.tasks.is_empty() {
            self.page.set_listening(false);
        }
    }

    fn tell_printed(&self) {
        self.streams.look(self.page.ring(), self.page.carried(), |OutputChunk { number, stderr, bytes }, tasks| {
            self.link.send(&FromWorker::Printed { number, stderr, bytes: bytes.into(), tasks });
        });
    }

    /// Has a supervisor that cannot look the function up know its name, before it runs for the first time.
    fn introduce(&self, record: &'static Record) {
        let place = record.log_id();
        if self.welcome.stranger && self.introduced.lock().insert(place) {
            self.link.send(&FromWorker::Function { place, name: short_name(record.path()) });
        }
    }

    fn send_released(&self) {
        let released = self.attachments().take_released();
        if !released.is_empty() {
            self.link.send(&FromWorker::Released(released));
        }
    }

    fn failure(&self, task: TaskId, step: u32, name: Option<String>, key: Option<u64>, cause: FailureCause) -> Failure {
        let call = name.zip(Some(key.unwrap_or_default())).filter(|_| key.is_some());
        Failure { task, step, call, worker: Some(self.welcome.name.clone()), cause }
    }

    /// Runs a task; says how many results wait to be sent, and when it was over.
    fn run(&'static self, mut task: Task, began: Instant, scope: &WorkerScope) -> (usize, Instant) {
        let id = task.id;
        if task.alone {
            self.store.clear_out();
        }
        self.page.set_running(scope.slot, Some(id));
        scope.begin(id, task.name.take());
        // Values run their own code when they are decoded, encoded, sized and dropped.
        let outcome = guarded(|| Ok(self.outcome(&mut task, scope))).unwrap_or_else(|fault| {
            let (name, key) = scope.call();
            Outcome::Failed(Box::new(self.failure(id, 0, name, key, encode::cause(fault))))
        });
        let ended = Instant::now();
        let run_us = ended.duration_since(began).as_micros().min(u128::from(u32::MAX)) as u32;
        self.page.set_running(scope.slot, None);
        let mut queue = self.queue.lock();
        queue.running.retain(|other| *other != id);
        let cancelled = !queue.cancelled.is_empty() && queue.cancelled.remove(&id);
        let followed = !queue.waiting.is_empty();
        let outcome = if cancelled { Outcome::Cancelled } else { outcome };
        let gives = matches!(outcome, Outcome::Value(_) | Outcome::Held { .. });
        // Nobody may run a follower, and tell of it, before this task has been told of: so the lock is kept.
        let queue = (followed && gives).then_some(queue);
        self.activity.fetch_add(1, Ordering::Relaxed);
        self.store.unpinned();
        scope.end(&outcome);
        match &outcome {
            Outcome::Value(payload) => self.lend(payload),
            Outcome::Cancelled => self.store.forget(&[id]),
            Outcome::Held { .. } | Outcome::Failed(_) => {}
        }
        let given = match &outcome {
            _ if !followed => None,
            Outcome::Value(payload) if payload.segments().is_empty() => Some(Input::Payload(payload.clone())),
            Outcome::Held { .. } => Some(Input::Held { id, take: false }),
            _ => None,
        };
        let waiting = {
            let mut finished = self.finished.lock();
            finished.push(Completion { id, attempt: task.attempt, run_us, outcome });
            finished.len()
        };
        if followed {
            self.start_followers(queue.unwrap_or_else(|| self.queue.lock()), id, given);
        }
        // Without the lock: this may wait for a full pipe to be emptied, which the watcher does, who needs the lock.
        if self.streams.ran(ended.duration_since(began)) {
            Streams::flush();
            self.tell_printed();
        }
        (waiting, ended)
    }

    /// A task has ended: what came ahead of its result can run now, or never here.
    fn start_followers(&self, mut queue: MutexGuard<'_, Queue>, id: TaskId, given: Option<Input>) {
        let Some(given) = given else {
            let bounced = queue.waiting.fail(&[id]);
            drop(queue);
            return self.bounce(bounced);
        };
        let ready = queue.waiting.supply(id, || given.clone());
        // One is for this thread.
        for _ in 1..ready.len().min(queue.idle + 1) {
            self.work.notify_one();
        }
        for task in ready.into_iter().rev() {
            queue.tasks.push_front(task);
        }
    }

    fn outcome(&'static self, task: &mut Task, scope: &WorkerScope) -> Outcome {
        let mut inputs = match self.inputs(task) {
            Ok(inputs) => inputs,
            Err(cause) => return Outcome::Failed(Box::new(self.failure(task.id, 0, None, None, cause))),
        };
        let body = &task.body;
        let mut uses: SmallVec<[u32; 4]> = SmallVec::from_elem(0, inputs.len());
        if !inputs.is_empty() {
            for op in Ops::new(body) {
                if let Ok(Op::Dependency(i)) = op
                    && let Some(n) = uses.get_mut(i)
                {
                    *n += 1;
                }
            }
        }
        let mut input = |i: usize| {
            let left = uses.get_mut(i)?;
            *left -= 1;
            let slot = inputs.get_mut(i)?;
            Some(match slot {
                // The last use takes the value along, so that the function may own it without a copy.
                _ if *left == 0 => std::mem::replace(slot, Argument::Taken),
                Argument::Value(value) => Argument::Value(value.clone()),
                Argument::Payload(payload) => Argument::Payload(payload.clone()),
                Argument::Bytes(bytes) => Argument::Bytes(bytes),
                Argument::Taken => Argument::Taken,
            })
        };
        let id = task.id;
        let go_on = |record: &'static Record, key: u64| {
            scope.step(record, key);
            true
        };
        match program::run(body, &mut input, go_on) {
            Ok(Some((value, record))) => self.keep(task, value, record),
            Ok(None) => Outcome::Cancelled,
            Err(fault) => {
                let cause = encode::cause(fault.fault);
                let (name, key) = match fault.call {
                    Some((record, key)) => (Some(scope.name_of(record)), Some(key)),
                    None => (None, None),
                };
                Outcome::Failed(Box::new(self.failure(id, fault.step, name, key, cause)))
            }
        }
    }

    fn inputs<'a>(&self, task: &mut Task) -> Result<SmallVec<[Argument<'a>; 4]>, FailureCause> {
        if task.inputs.is_empty() {
            return Ok(SmallVec::new());
        }
        std::mem::take(&mut task.inputs)
            .into_iter()
            .map(|input| match input {
                Input::Payload(payload) => Ok(Argument::Payload(payload)),
                Input::Ahead { id } => Err(FailureCause::Decode {
                    type_name: "input".to_string(),
                    reason: format!("the result of task {id} should be there and is not"),
                }),
                Input::Held { id, take } => {
                    let found =
                        if take { self.store.take(id) } else { self.store.get(id).map(|f| f.map(|(value, _)| value)) };
                    let undecodable = |reason| FailureCause::Decode { type_name: "input".to_string(), reason };
                    found
                        .map_err(undecodable)?
                        .map(Argument::Value)
                        .ok_or_else(|| undecodable(format!("task {id} should be in this worker's store and is not")))
                }
            })
            .collect()
    }

    /// Sends a result along or keeps it, as the task asks.
    fn keep(&self, task: &Task, value: Value, record: &'static Record) -> Outcome {
        let failed = |cause| {
            let name = Some(short_name(record.path()));
            Outcome::Failed(Box::new(self.failure(task.id, 0, name, None, cause)))
        };
        let bound = record.is_bound();
        if !bound && let Some(payload) = encode::encode_small(&value, record) {
            return Outcome::Value(payload);
        }
        if !task.deliver {
            let nbytes = record.result().size(&value);
            return match self.store.put(task.id, value, record, nbytes) {
                Ok(()) => Outcome::Held { nbytes, bound },
                Err(reason) => failed(FailureCause::Resource { reason }),
            };
        }
        match self.encode_patiently(&value, record) {
            Ok(payload) => Outcome::Value(payload),
            Err(e) => failed(e.into()),
        }
    }

    /// A client of the supervisor, for tasks that submit tasks.
    pub(crate) fn client(&'static self) -> Arc<crate::remote::Remote> {
        Arc::clone(self.client.get_or_init(|| {
            crate::remote::Remote::new(
                Box::new(uplink::FromTask(self)),
                self.welcome.session,
                self.pool.clone(),
                Description::new(format!("processes client inside {}", self.welcome.name), None),
            )
        }))
    }

    /// A task begins or ends to wait for tasks of its own; its place is somebody else's meanwhile.
    pub(crate) fn waiting(&'static self, begins: bool) {
        let mut queue = self.queue.lock();
        if !begins {
            queue.active += 1;
            drop(queue);
            self.link.send(&FromWorker::Blocked(-1));
            return;
        }
        queue.active -= 1;
        let mut failed = None;
        if queue.idle > 0 {
            self.work.notify_one();
        } else {
            // Used again, because what runs is only seen from outside in the first slots.
            let slot = queue.free_slots.pop().unwrap_or_else(|| {
                queue.next_slot += 1;
                queue.next_slot - 1
            });
            queue.active += 1;
            let spawned =
                std::thread::Builder::new().name(format!("executor-{slot}")).spawn(move || self.work_as_thread(slot));
            if spawned.is_err() {
                queue.active -= 1;
                queue.free_slots.push(slot);
            }
            failed = spawned.err();
        }
        drop(queue);
        // Without the lock: standard error may be full, and is emptied by threads that need the lock.
        if let Some(e) = failed {
            log::error!("no thread to run what a task waits for: {e}");
        }
        self.send_finished();
        self.link.send(&FromWorker::Blocked(1));
    }
}

impl From<CallError> for FailureCause {
    fn from(e: CallError) -> Self {
        encode::cause(Fault::Call(e))
    }
}
