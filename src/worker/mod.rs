//! A worker process: takes tasks from its socket, runs them on its threads, keeps what is to be kept.
//!
//! No thread only reads. A thread without a task to run reads the socket, unless another thread does, and runs the task
//! that it reads: so a task is not handed from thread to thread. While all threads run tasks, the *watcher* reads: it
//! looks every few milliseconds while tasks start and end, and waits on descriptors otherwise. It also sends heartbeats,
//! sends results that wait behind a long task, and ends the process when the supervisor has ended. Where there is a
//! memory limit, the *mover* writes results to disk ([`store`]); while no task may start for want of memory, the watcher
//! reads as if all threads were busy. `Queue::reading` says whether some thread reads; it changes under the queue's lock
//! alone.

mod cap;
mod capture;
mod descriptors;
mod encode;
mod executor;
mod export;
mod limits;
mod messages;
mod orphans;
mod pending;
mod queue;
mod scope;
mod store;
mod uplink;
mod watcher;

use crate::fairness::RunQueue;
use crate::ids::TaskId;
use crate::ipc::clock::{self, monotonic_ms};
use crate::ipc::disk::{self, Disk};
use crate::ipc::ledger::Ledger;
use crate::ipc::page::{ControlPage, PageName};
use crate::ipc::segment::{Attachments, SegmentPool};
use crate::ipc::signals::on_sigterm;
use crate::ipc::socket::Socket;
use crate::ipc::start::{NO_START, end_fork, exit_now, mark_forks, raise_descriptor_limit, wake_orphans};
use crate::job::Completion;
use crate::machine::available_memory;
use crate::memory::policy::Policy;
use crate::message::{FromWorker, ToWorker, Welcome};
use crate::profile::SampledThreads;
use crate::remote::Description;
use crate::task::call::run_hook;
use crate::task::function::Record;
use crate::task::image;
use crate::version::VERSION;
use capture::OutputCapture;
use parking_lot::{Condvar, Mutex};
use pending::PendingTasks;
use queue::Queue;
use rustc_hash::FxHashSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use store::Store;
use uplink::SupervisorSocket;
use watcher::WatcherWaker;

/// How long a dying supervisor may take from closing its connections to its end.
const DYING: Duration = Duration::from_secs(5);
/// Unused segments are kept for the next value up to this share of the available memory.
const SPARE_SHARE: u64 = 16;
/// They are also kept only up to this share of the worker's limit.
const SPARE_OF_LIMIT: u64 = 8;

pub(crate) struct Worker {
    welcome: Welcome,
    supervisor: SupervisorSocket,
    queue: Mutex<Queue>,
    work: Condvar,
    store: Store,
    pool: SegmentPool,
    page: Arc<ControlPage>,
    /// Values to send for which shared memory had no room, and since when.
    deferred: Mutex<Vec<(TaskId, Instant)>>,
    /// How many times values are being encoded for others, or are to be by the exporter.
    exporting: AtomicUsize,
    /// Results that have not been sent, and since when.
    finished: Mutex<Vec<Completion>>,
    capture: OutputCapture,
    /// Functions whose names the supervisor has been told.
    introduced: Mutex<FxHashSet<u64>>,
    watcher: WatcherWaker,
    /// SIGTERM has come, and the supervisor has not been told.
    terminated: AtomicBool,
    client: OnceLock<Arc<crate::remote::Remote>>,
    /// The way to the exporter, the thread that sends results which must be read from disk first, or take long to encode.
    /// Empty until needed.
    exporter: OnceLock<Option<Sender<(TaskId, Instant)>>>,
    sampled: SampledThreads,
    /// Whether its threads are to be sampled.
    sampling: Mutex<bool>,
}

/// The worker that this process is, for signal handlers.
static THIS: OnceLock<&'static Worker> = OnceLock::new();

/// SIGTERM has come before there was a worker.
static TERMINATED: AtomicBool = AtomicBool::new(false);

/// SIGTERM asks for an orderly end. This runs in a signal handler.
fn sigterm_came() {
    match THIS.get() {
        Some(worker) => {
            worker.terminated.store(true, Ordering::Release);
            // Where that fails, the watcher finds its descriptors closed by itself.
            let _ = worker.watcher.wake();
        }
        None => TERMINATED.store(true, Ordering::Release),
    }
}

/// Serves a supervisor until it closes the connection.
pub(crate) fn main(socket: Socket, page: Option<PageName>) -> ! {
    // A supervisor that has not been greeted takes a death of this signal for what it is.
    on_sigterm(sigterm_came);
    let supervisor = SupervisorSocket::new(socket);
    supervisor.send(&FromWorker::Hello { version: VERSION, build: image::build_id().clone() });
    let first = supervisor.read_first();
    if let (Err(_), Some(page)) = (&first, page) {
        clean_up_after(&page);
    }
    match first.and_then(|first| start(supervisor, first)) {
        Ok(worker) => worker.watch(),
        Err(reason) => {
            // The supervisor reads standard error; there is no other way to tell it.
            let _ = writeln!(std::io::stderr(), "worker cannot start: {reason}");
            exit_now(NO_START)
        }
    }
}

/// Removes the pages and segments that a supervisor left behind when it was killed.
fn clean_up_after(page: &PageName) {
    // The alarm that ends a stuck process must not interrupt this.
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

fn start(supervisor: SupervisorSocket, first: Vec<ToWorker>) -> Result<&'static Worker, String> {
    let mut first = first.into_iter();
    let welcome = match first.next() {
        Some(ToWorker::Welcome(welcome)) => *welcome,
        Some(ToWorker::Shutdown) => exit_now(0),
        _ => return Err("the supervisor did not say welcome".to_string()),
    };
    raise_descriptor_limit();
    limits::note();
    mark_forks();
    let open = |name| ControlPage::open(name).map(Arc::new).map_err(|e| e.to_string());
    let page = open(&welcome.own_page)?;
    supervisor.set_page(&page);
    let ledger = Ledger::shared(open(&welcome.supervisor_page)?, Arc::clone(&page));
    let spare = available_memory().map_or(0, |memory| memory.bytes) / SPARE_SHARE;
    let spare = welcome.memory_limit.map_or(spare, |limit| spare.min(limit / SPARE_OF_LIMIT));
    let pool = SegmentPool::new(welcome.owner, ledger.clone(), spare as usize);
    pool.joins(supervisor.attachments());
    crate::ipc::segment::install(pool.clone());
    clock::use_counter(welcome.counter);
    crate::graph::node::number_for(welcome.session);
    page.beat(monotonic_ms());
    capture::install_logger(&welcome.name, &page);
    let threads = welcome.threads;
    if let Some(limit) = welcome.memory_limit {
        cap::set(limit, threads);
        crate::ipc::allocator::return_large(limit);
    }
    page.gauges().set_limit(welcome.memory_limit);
    let policy = welcome.memory_limit.map(|limit| Policy::new(welcome.thresholds.levels(limit)));
    let disk = welcome.spill_directory.clone().map(|directory| Disk::new(directory, ledger.clone()));
    if let Some(directory) = welcome.shuffle_directory.clone() {
        // The same file, if it is the same directory.
        let spilling = disk.clone().filter(|disk| disk.directory() == directory);
        disk::use_for_shuffles(spilling.unwrap_or_else(|| Disk::new(directory, ledger)));
    }
    let store = Store::new(policy, disk, spare, threads, pool.clone(), Arc::clone(&page));
    let worker: &'static Worker = Box::leak(Box::new(Worker {
        supervisor,
        queue: Mutex::new(Queue {
            tasks: RunQueue::default(),
            pending: PendingTasks::default(),
            reading: false,
            idle: 0,
            active: threads,
            cancelled: FxHashSet::default(),
            unwanted: Vec::new(),
            running: Vec::new(),
            places: Vec::new(),
            next_thread: threads,
            free_threads: Vec::new(),
        }),
        work: Condvar::new(),
        store,
        pool,
        page,
        deferred: Mutex::default(),
        exporting: AtomicUsize::new(0),
        finished: Mutex::default(),
        capture: OutputCapture::open(),
        introduced: Mutex::default(),
        watcher: WatcherWaker::new()?,
        terminated: AtomicBool::new(false),
        client: OnceLock::new(),
        exporter: OnceLock::new(),
        sampled: SampledThreads::new(),
        sampling: Mutex::new(false),
        welcome,
    }));
    let _ = THIS.set(worker);
    if TERMINATED.load(Ordering::Acquire) {
        sigterm_came();
    }
    worker.supervisor.attachments().set_notifier(Box::new(|| worker.send_released()));
    set_up(worker);
    // Before threads start: one that reads already would not see tasks that this thread puts into the queue.
    worker.handle(Ok(first.collect()));
    // Whoever says how large the stacks of threads are means this one, too.
    let mut stack = std::env::var_os("RUST_MIN_STACK").is_none().then(|| cap::main_stack() as usize);
    let spawn = |name: String, stack: Option<usize>, f: Box<dyn FnOnce() + Send>| {
        let builder = std::thread::Builder::new().name(name);
        let builder = stack.into_iter().fold(builder, std::thread::Builder::stack_size);
        builder.spawn(f).map(drop).map_err(|e| format!("no thread to be had: {e}"))
    };
    if worker.store.is_limited() {
        spawn("mover".to_string(), None, Box::new(|| worker.store.pay_debts(|| worker.eased())))?;
    }
    for thread in 0..threads {
        spawn(format!("executor-{thread}"), stack.take(), Box::new(move || worker.work_as_thread(thread)))?;
    }
    Ok(worker)
}

/// Does what the program has each worker do first, and says that it is done.
fn set_up(worker: &Worker) {
    let Some(init) = worker.welcome.hooks.init else { return };
    let done = hook_at(init).and_then(run_hook);
    OutputCapture::flush();
    match done {
        Ok(()) => worker.supervisor.send(&FromWorker::Ready),
        Err(why) => {
            worker.supervisor.send(&FromWorker::NotSetUp(why));
            // The supervisor ends this process, with what that function has started.
            loop {
                std::thread::park();
            }
        }
    }
}

fn hook_at(offset: u64) -> Result<&'static Record, String> {
    Record::at(offset).ok_or_else(|| "is no function of this program".to_string())
}

impl Worker {
    pub(crate) fn attachments(&self) -> &Attachments {
        self.supervisor.attachments()
    }

    /// A client of the supervisor, for tasks that submit tasks.
    pub(crate) fn client(&'static self) -> Arc<crate::remote::Remote> {
        end_fork();
        Arc::clone(self.client.get_or_init(|| {
            crate::remote::Remote::new(
                Box::new(uplink::TaskUplink(self)),
                self.welcome.session,
                self.pool.clone(),
                Description::inside(&self.welcome.name, self.welcome.resources.clone()),
            )
        }))
    }
}
