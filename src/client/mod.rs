//! The one handle of a program: it runs lazy work in one of the three modes.

mod adapt;
mod ahead;
mod as_completed;
mod blocking;
pub(crate) mod buffered;
mod builder;
mod cluster;
mod computable;
mod compute;
mod durable;
mod explain;
mod failing;
mod future;
mod gather;
mod holdings;
mod lowering;
mod map;
pub mod picture;
pub mod profile;
mod progress;
mod published;
mod recorded_inputs;
mod replay;
mod report;
mod run_on;
mod task_log;
mod wait;
mod watch_events;

pub use crate::settings::{AdaptOptions, RestartPolicy, StartMethod};
pub use crate::start::init;
pub use crate::submission::note::note;
pub use adapt::Adaptive;
pub use ahead::{CompletedAhead, MapAhead};
pub use as_completed::{AsCompleted, Batches, WithResults};
pub use builder::Builder;
pub(crate) use computable::Successor;
pub use computable::{Computable, Results};
pub use failing::{ComputeOptions, Failing};
pub use future::{Awaited, Future, Status};
pub use gather::Gathered;
pub(crate) use picture::rules::{LayerRule, RuleInput};
pub use profile::Profiling;
#[cfg(feature = "progress")]
pub use progress::{AboveBars, ProgressBars};
pub use progress::{ProgressOf, WatchProgress};
pub use report::PerformanceReport;
pub use task_log::TaskLog;
pub use wait::WaitFor;
pub use watch_events::{Happened, WatchEvents};

// Public in `collection`.
#[doc(hidden)]
pub use {
    computable::Handles,
    lowering::{Lowered, Lowering, Plan, PlanContext},
};

use crate::error::{Error, Result};
use crate::events::recorder::Recorder;
use crate::events::{ClientLog, DEFAULT_CAPACITY};
use crate::exec::sync::SyncExecutor;
use crate::exec::threads::{MOST_POOL_THREADS, ThreadPool};
use crate::memory::limit::MemoryLimit;
use crate::status::Mode;
use crate::submission::backend::Backend;
use crate::submission::context::current_backend;
use crate::submission::handle::{ResultHandle, Submission, WeakHandle};
use crate::submission::limit::SubmissionLimit;
use crate::task::call::run_hook;
use crate::task::context::current_task;
use crate::task::function::Record;
use blocking::spawn_blocking;
use parking_lot::Mutex;
use progress::Looks;
use rustc_hash::FxHashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// How many graphs a client has under way at most, if nothing else is said.
pub(crate) const MOST_GRAPHS: usize = 1 << 14;

/// Runs lazy work: in worker processes, on threads, or in the calling thread.
///
/// Cheap to clone, and every method may be called from any thread. A method that may wait, be it for results, workers or
/// room, blocks the calling thread, and has a form for async code, `…_async`, that works under any runtime or none and
/// does not block. Those without one, as [`cancel`](Self::cancel), never wait, but for [`progress`](Self::progress), which asks. (In sync
/// mode tasks run in the thread that submits them, also from async code.)
///
/// Code of yours that a client runs, as wakers, drops of values and `Serialize`, may ask the client: no lock is held around it.
/// But in processes mode wakers and drops run where results are told, so that nothing can wait there: what would is
/// [`Error::Unsupported`].
///
/// Printing a client tells its mode, workers, limits and state. When the last clone is dropped the client shuts down: what
/// still runs is cancelled, and its workers are stopped, which is waited for; async code calls
/// [`shutdown_async`](Self::shutdown_async) before.
///
/// ```
/// use swath::{Client, delayed};
/// let client = Client::threads(4);
/// let squares = delayed(|x: u64| x * x).map(0..100_u64);
/// let total = delayed(|xs: Vec<u64>| xs.into_iter().sum::<u64>()).call(squares);
/// assert_eq!(client.compute(&total)?, 328_350);
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>, GraphPriority);

/// What a handle adds to the priority of all tasks of its graphs.
type GraphPriority = i32;

struct Inner {
    backend: Arc<dyn Backend>,
    /// Whether the end of this handle is the end of the workers; not so for a client inside a task.
    owner: bool,
    /// Whether the first failure cancels the rest of what is computed.
    fail_fast: bool,
    limit: Arc<SubmissionLimit>,
    log: Arc<ClientLog>,
    /// Results of pure tasks that are still held.
    pure: Mutex<PureResults>,
    /// What those who look at its progress share.
    looks: Arc<Looks>,
    /// Its own bars.
    #[cfg(feature = "progress")]
    bars: Mutex<Option<ProgressBars>>,
    /// What is to be done in this process when the client is closed.
    exit: Mutex<Option<&'static Record>>,
    /// What writes down what happens, if that is recorded.
    recorder: Mutex<Option<Recorder>>,
}

impl Inner {
    fn close(&self) {
        // They show how far it came.
        #[cfg(feature = "progress")]
        {
            // Not under the lock: it may take a moment.
            let bars = self.bars.lock().take();
            drop(bars);
        }
        // What is known of the tasks at the end is what is asked for now.
        if let Some(recorder) = &*self.recorder.lock() {
            recorder.flush_and_wait();
            self.backend.progress();
        }
        self.backend.shutdown();
        if let Some(Err(why)) = self.exit.lock().take().map(run_hook) {
            log::error!("`worker_exit` {why}");
        }
        let recorder = self.recorder.lock().take();
        if let Some(recorder) = recorder {
            recorder.finish();
        }
    }
}

/// Results of pure tasks, by the hashes of the tasks.
#[derive(Default)]
struct PureResults {
    results: FxHashMap<u128, WeakHandle>,
    /// How many there may be before those are removed that nobody holds any more.
    most: usize,
}

impl PureResults {
    /// Takes the same time however many there are, but for one call in many. What becomes `unused` is to be dropped when the
    /// lock is released.
    fn insert(&mut self, output: &ResultHandle, unused: &mut Vec<Arc<Submission>>) {
        if self.results.len() >= self.most {
            self.results.retain(|_, output| {
                let submission = output.submission();
                let held = submission.as_ref().is_some_and(|submission| !output.is_released(submission));
                unused.extend(submission);
                held
            });
            self.most = (2 * self.results.len()).max(64);
        }
        self.results.insert(output.hash(), output.downgrade());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.backend.origin().is_elsewhere() {
            // What it stands for is another process's: it is left as it is.
            std::mem::forget(Arc::clone(&self.backend));
        } else if self.owner {
            self.close();
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.backend.describe())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({self})")
    }
}

impl Client {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self::with(backend, true, MOST_GRAPHS, false)
    }

    /// A client that has so many graphs under way at most.
    fn built(backend: Arc<dyn Backend>, graphs: usize, fail_fast: bool) -> Self {
        Self::with(backend, true, graphs, fail_fast)
    }

    pub(crate) fn inside(backend: Arc<dyn Backend>) -> Self {
        Self::with(backend, false, MOST_GRAPHS, false)
    }

    fn with(backend: Arc<dyn Backend>, owner: bool, graphs: usize, fail_fast: bool) -> Self {
        let (limit, log) = (SubmissionLimit::new(graphs, Arc::clone(&backend)), Arc::new(ClientLog::new()));
        let (pure, exit, recorder) = (Mutex::default(), Mutex::default(), Mutex::default());
        let inner = Inner {
            backend,
            owner,
            fail_fast,
            limit,
            log,
            pure,
            looks: Looks::new(),
            #[cfg(feature = "progress")]
            bars: Mutex::default(),
            exit,
            recorder,
        };
        Self(Arc::new(inner), 0)
    }

    /// The same client, all of which is recorded in a file of so many bytes at most.
    fn recorded(self, path: &Path, limit: Option<u64>) -> Result<Self> {
        let (sources, following) = match self.0.backend.sources() {
            Some(sources) => (sources, None),
            None => (Arc::default(), Some(builder::follow(&self, "record")?)),
        };
        let backend = Arc::downgrade(&self.0.backend);
        let counter = move || backend.upgrade().map(|backend| backend.progress().groups).unwrap_or_default();
        let recorder = Recorder::start(path, limit, &sources, Arc::clone(&self.0.log), Box::new(counter), following)?;
        *self.0.recorder.lock() = Some(recorder);
        Ok(self)
    }

    /// The same client, which runs a function in this process when it is closed.
    fn ending_with(self, exit: Option<&'static Record>) -> Self {
        *self.0.exit.lock() = exit;
        self
    }

    /// Starts `n_workers` worker processes with `threads` executor threads each, under a supervisor in this process.
    ///
    /// `mem_limit` is each worker's: `"2GB"`, `"512MiB"`, a number of bytes, a fraction of the machine's memory, or
    /// [`MemoryLimit::None`]. A worker needs at least 4 MB. Returns when the workers have been started; tasks wait until one has answered.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad size, [`Error::Spawn`] or
    /// [`Error::Resource`] where the system refuses.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::local(2, 1, "512MB")?;
    /// assert_eq!(delayed(|x: i64| x + 1).call(41).compute(&client)?, 42);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn local(n_workers: usize, threads: usize, mem_limit: impl Into<MemoryLimit>) -> Result<Self> {
        Self::builder().workers(n_workers).threads(threads).memory_limit(mem_limit).build()
    }

    /// [`local`](Self::local) for async code.
    ///
    /// # Errors
    /// As [`local`](Self::local).
    pub async fn local_async(n_workers: usize, threads: usize, mem_limit: impl Into<MemoryLimit>) -> Result<Self> {
        Self::builder().workers(n_workers).threads(threads).memory_limit(mem_limit).build_async().await
    }

    /// Runs tasks on `n` threads of this process, of which there can be 1 to 1024: less or more is the nearest of these, with
    /// a warning in the log. [`Builder::threads`] refuses other numbers.
    #[must_use]
    pub fn threads(n: usize) -> Self {
        if !(1..=MOST_POOL_THREADS).contains(&n) {
            log::warn!(
                "`Client::threads({n})`: there can be 1 to {MOST_POOL_THREADS} threads; it is the nearest of these"
            );
        }
        Self::new(ThreadPool::new(n, DEFAULT_CAPACITY, None))
    }

    /// Runs each task in the calling thread, in the same order every time: for debugging.
    #[must_use]
    pub fn sync() -> Self {
        Self::new(SyncExecutor::new(DEFAULT_CAPACITY))
    }

    /// All options of a client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Takes mode and sizes from the environment, so that a program can be debugged without a change.
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `SWATH_CLUSTER` | name or path of a running local cluster to connect to; the others are ignored then | |
    /// | `SWATH_SCHEDULER` | `sync`, `threads` or `processes` | `processes` |
    /// | `SWATH_WORKERS` | worker processes | one for each core |
    /// | `SWATH_THREADS` | threads of each worker, or of the threads mode | 1, or one for each core |
    /// | `SWATH_MEMORY_LIMIT` | memory limit of each worker | none |
    /// | `SWATH_RECORD` | file to [record](Builder::record) everything in | none |
    /// | `SWATH_PROGRESS` | `1`: progress bars; `plain`: a line every ten seconds; `0`: neither, whoever asks for them. Every client that is built heeds it | |
    ///
    /// # Errors
    /// [`Error::Invalid`] names a variable whose value makes no sense; otherwise as
    /// [`local`](Self::local).
    pub fn from_env() -> Result<Self> {
        Builder::from_env()?.build()
    }

    /// [`from_env`](Self::from_env) for async code.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub async fn from_env_async() -> Result<Self> {
        Builder::from_env()?.build_async().await
    }

    /// Connects to a running local cluster, by its name or the path of its socket.
    ///
    /// # Errors
    /// [`Error::Connect`] where none answers there, or it refuses: another user's, or another version.
    pub fn connect(name_or_path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().cluster(name_or_path.as_ref()).build()
    }

    /// [`connect`](Self::connect) for async code.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_async(name_or_path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().cluster(name_or_path.as_ref()).build_async().await
    }

    /// Whether this is the process it was made in. To be asked before any lock is touched.
    fn check_origin(&self) -> Result<()> {
        match self.0.backend.origin().reason() {
            Some(reason) => Err(Error::Closed { reason }),
            None => Ok(()),
        }
    }

    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.0.backend)
    }

    /// A handle whose graphs have this priority; it shares everything else with this one. Graphs of a higher priority go
    /// before all of a lower one, and 0 is that of a client. The priority of a task
    /// ([`DelayedFn::priority`](crate::DelayedFn::priority)) is added to that of its graph, and that of a running task to
    /// those of what it submits. What runs is not interrupted.
    ///
    /// Small graphs need none: among graphs of one priority those that have had less of the workers' time go first.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(1);
    /// let background = client.with_priority(-1);
    /// let nightly = background.map(|x: u64| x * x, 0..1000)?;
    /// assert_eq!(client.compute(&delayed(|x: u64| x + 1).call(1))?, 2);
    /// assert_eq!(background.gather(&nightly)?.len(), 1000);
    /// # Ok::<(), swath::Error>(())
    /// ```
    #[must_use]
    pub fn with_priority(&self, priority: i32) -> Self {
        Self(Arc::clone(&self.0), priority)
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.backend.mode()
    }

    /// Cancels what runs, stops the workers, and closes the client and its clones. Futures that are not done fail with
    /// [`Cause::Closed`](crate::Cause::Closed).
    ///
    /// The client that a task has of [`current_client`] is not the task's to close, since other tasks use what it stands
    /// for: there this does nothing but log a warning, in every mode.
    pub fn shutdown(&self) {
        if self.check_origin().is_err() || !self.is_to_close() {
            return;
        }
        self.0.close();
    }

    /// Whether this client is its holder's to close; warns if it is not.
    fn is_to_close(&self) -> bool {
        if !self.0.owner {
            let task = current_task().map_or_else(|| "a task".to_string(), |task| format!("task {}", task.key));
            log::warn!("{task} called `shutdown` on the client it runs under, which does nothing: other tasks use it");
        }
        self.0.owner
    }

    /// [`shutdown`](Self::shutdown) for async code: a thread of its own waits for the workers.
    pub async fn shutdown_async(&self) {
        if self.check_origin().is_err() || !self.is_to_close() {
            return;
        }
        let inner = Arc::clone(&self.0);
        if let Err(e) = spawn_blocking(move || inner.close()).await {
            log::warn!("{e}; this thread waits for the workers");
            self.shutdown();
        }
    }
}

/// Inside a task: a client of whatever runs it, to submit more work and wait for it. `None` elsewhere.
///
/// While a task waits for tasks of its own, its place is given to another one, so this cannot deadlock, even with one
/// worker of one thread; and when the task is cancelled, or over its time limit, the wait ends with an error for which
/// [`is_cancelled`](crate::Error::is_cancelled) is true. So it is with the async forms where the task's own thread polls them,
/// as `block_on` does. Other threads that a task has wait, or poll, for it are not known as its own: a task that joins such a
/// thread keeps its place, and waits for ever where no other worker or thread is free.
///
/// ```
/// use swath::{Client, current_client, delayed};
/// fn fib(n: u64) -> u64 {
///     if n < 2 {
///         return n;
///     }
///     let client = current_client().expect("inside a task");
///     let (a, b) = (delayed(fib).call(n - 1), delayed(fib).call(n - 2));
///     client.compute(&(a + b)).expect("no task fails")
/// }
/// assert_eq!(Client::threads(1).compute(&delayed(fib).call(10))?, 55);
/// # Ok::<(), swath::Error>(())
/// ```
pub fn current_client() -> Option<Client> {
    current_backend().map(Client::inside)
}
