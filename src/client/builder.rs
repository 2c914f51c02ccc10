//! Every option of a client.

mod check;
mod environment;
mod hooks;
mod profile;
mod record;
pub(super) use record::follow;
mod settings;
mod unheeded;

use super::blocking::spawn_blocking;
use super::{Client, MOST_GRAPHS};
use crate::RestartPolicy;
use crate::StartMethod;
use crate::daemon::connect::connect;
use crate::error::{Error, Result};
use crate::events::DEFAULT_CAPACITY;
use crate::events::sources::RunSources;
use crate::exec::Checks;
use crate::exec::sync::SyncExecutor;
use crate::exec::threads::{MOST_POOL_THREADS, ThreadPool};
use crate::ipc::start::{end_missed, missed_init};
use crate::machine::cores;
use crate::memory::limit::MemoryLimit;
use crate::memory::thresholds::Thresholds;
use crate::resources::{GivenAmount, Resources};
use crate::status::Mode;
use crate::submission::backend::Backend;
use crate::supervisor;
use crate::task::function::{Record, TryTaskFunction};
use crate::task::image::outside_executable;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// All options of a [`Client`]. Those that a mode has no use for are ignored in it, with a warning in the log; see
/// [`strict`](Self::strict).
///
/// ```
/// use swath::Client;
/// use std::time::Duration;
/// let client = Client::builder()
///     .workers(2)
///     .threads(1)
///     .memory_limit("1GB")
///     .name("reports")
///     .worker_env("RUST_LOG", "info")
///     .worker_tags(1, ["large"])
///     .worker_timeout(Duration::from_secs(60))
///     .build()?;
/// assert_eq!(client.workers()?.len(), 2);
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `build`"]
pub struct Builder {
    mode: Mode,
    workers: Option<usize>,
    threads: Option<usize>,
    memory_limit: MemoryLimit,
    total_memory_limit: MemoryLimit,
    shared_memory_limit: MemoryLimit,
    thresholds: Thresholds,
    spill_directory: Option<PathBuf>,
    spill_limit: MemoryLimit,
    recycle_after: Option<u64>,
    recycle_unmanaged: Option<f64>,
    name: Option<String>,
    worker_env: Vec<(String, String)>,
    worker_tags: Vec<(usize, Vec<String>)>,
    worker_resources: Vec<(usize, Vec<(String, GivenAmount)>)>,
    threads_resources: Vec<(String, GivenAmount)>,
    local_directory: Option<PathBuf>,
    start_timeout: Duration,
    worker_timeout: Duration,
    cancel_grace: Duration,
    allowed_deaths: u32,
    restart: RestartPolicy,
    start_method: StartMethod,
    forward_output: bool,
    max_graphs: usize,
    fail_fast: bool,
    weight: f64,
    events: usize,
    recording: record::Recording,
    cluster: Option<PathBuf>,
    size: Option<String>,
    worker_init: Option<&'static Record>,
    worker_exit: Option<&'static Record>,
    encode_values: bool,
    strict: bool,
    profile: bool,
    #[cfg(feature = "progress")]
    pub(super) progress: bool,
}

fn given<S: Into<String>>(resources: impl IntoIterator<Item = (S, f64)>) -> Vec<(String, GivenAmount)> {
    resources.into_iter().map(|(name, amount)| (name.into(), GivenAmount::new(amount))).collect()
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            mode: Mode::Processes,
            workers: None,
            threads: None,
            memory_limit: MemoryLimit::None,
            total_memory_limit: MemoryLimit::None,
            shared_memory_limit: MemoryLimit::None,
            thresholds: Thresholds::default(),
            spill_directory: None,
            spill_limit: MemoryLimit::None,
            recycle_after: None,
            recycle_unmanaged: None,
            name: None,
            worker_env: Vec::new(),
            worker_tags: Vec::new(),
            worker_resources: Vec::new(),
            threads_resources: Vec::new(),
            local_directory: None,
            start_timeout: Duration::from_secs(30),
            worker_timeout: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(5),
            allowed_deaths: 3,
            restart: RestartPolicy::Always,
            start_method: StartMethod::Automatic,
            forward_output: true,
            max_graphs: MOST_GRAPHS,
            fail_fast: false,
            weight: 1.0,
            events: DEFAULT_CAPACITY,
            recording: record::Recording::default(),
            cluster: None,
            size: None,
            worker_init: None,
            worker_exit: None,
            encode_values: false,
            strict: false,
            profile: false,
            #[cfg(feature = "progress")]
            progress: false,
        }
    }
}

/// Checks that a number is at least 1.
fn at_most(what: &str, number: usize, most: usize) -> Result<()> {
    match (1..=most).contains(&number) {
        true => Ok(()),
        false => Err(Error::invalid(what, format!("{number}; it must be 1 to {most}"))),
    }
}

impl Builder {
    /// The mode. Default: [`Mode::Processes`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Number of worker processes. Default: one for each core.
    pub fn workers(mut self, n: usize) -> Self {
        self.workers = Some(n);
        self
    }

    /// Executor threads of each worker (default 1); in threads mode, the size of the pool (default: the cores).
    pub fn threads(mut self, n: usize) -> Self {
        self.threads = Some(n);
        self
    }

    /// Memory limit of each worker. Default: none.
    ///
    /// A worker that has one keeps to it: results that do not fit are moved to disk, and a task that takes too much ends
    /// its worker and not the machine; see [`memory_target`](Self::memory_target) and what follows it. In threads mode it
    /// is a budget for the results that are alive: tasks without inputs wait while it is used up.
    pub fn memory_limit(mut self, limit: impl Into<MemoryLimit>) -> Self {
        self.memory_limit = limit.into();
        self
    }

    /// Memory limit of all workers together. Default: none.
    ///
    /// It needs a limit of each worker, by [`memory_limit`](Self::memory_limit) or [`size`](Self::size), and bounds their
    /// number: also that of [`Client::scale`] and [`Client::adapt`]. On a local cluster it holds for the workers of all
    /// programs: a program whose build comes when there is no room for all its workers gets fewer, or is refused.
    pub fn total_memory_limit(mut self, limit: impl Into<MemoryLimit>) -> Self {
        self.total_memory_limit = limit.into();
        self
    }

    /// A named size for the workers, as [`describe_sizes`](crate::describe_sizes) lists them: sets their threads and
    /// memory limit, and starts as many as fit the machine, where these are not given themselves.
    pub fn size(mut self, name: impl Into<String>) -> Self {
        self.size = Some(name.into());
        self
    }

    /// How much shared memory all values of this client may take together. Default: half of what is available when the client
    /// starts, not more than all workers' limits together, and not more than these leave of the memory, but for a tenth of it.
    ///
    /// The kernel puts no limit on shared memory of this kind, so this one is what protects the machine; in a control group it
    /// counts there. Where all limits together are more than the memory of machine or group, `build` logs a warning.
    pub fn shared_memory_limit(mut self, limit: impl Into<MemoryLimit>) -> Self {
        self.shared_memory_limit = limit.into();
        self
    }

    /// The share of its limit that a worker's results may take before the least recently used of them are moved to disk.
    /// `None`: only the process's memory counts. Default: 0.6.
    ///
    /// Like the other three thresholds it has a meaning only with a [`memory_limit`](Self::memory_limit).
    pub fn memory_target(mut self, share: impl Into<Option<f64>>) -> Self {
        self.thresholds.target = share.into();
        self
    }

    /// The share of its limit that a worker process may take before results are moved to disk until it is down to the
    /// target. `None`: never. Default: 0.7.
    pub fn memory_spill(mut self, share: impl Into<Option<f64>>) -> Self {
        self.thresholds.spill = share.into();
        self
    }

    /// The share of its limit that a worker process may take before it starts no more tasks, while those that run go on.
    /// `None`: never. Default: 0.8.
    pub fn memory_pause(mut self, share: impl Into<Option<f64>>) -> Self {
        self.thresholds.pause = share.into();
        self
    }

    /// The share of its limit that a worker process, with those that its tasks started, may take before it is ended and
    /// replaced. `None`: only the kernel's limit holds, a little above. Default: 0.95.
    ///
    /// A task that was running is tried once more with a worker for itself, and fails with
    /// [`Cause::MemoryLimit`](crate::Cause::MemoryLimit) if that is not enough.
    pub fn memory_terminate(mut self, share: impl Into<Option<f64>>) -> Self {
        self.thresholds.terminate = share.into();
        self
    }

    /// Where workers move results to that do not fit into memory: a directory on a real disk. Default: `/var/tmp`, or the
    /// directory for temporary files where there is none.
    ///
    /// Each worker has one file there, without a name, so that nothing is left of it however the worker ends. Where the
    /// directory is set, the pieces that [`groupby`](crate::Bag::groupby) moves lie there, too; else they are in `TMPDIR`.
    /// The modes in this process have no workers: they do not use the directory, and put such pieces into `TMPDIR`.
    pub fn spill_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.spill_directory = Some(path.into());
        self
    }

    /// How much all workers together may move to the spill directory. Default: as much as there is room.
    pub fn spill_limit(mut self, limit: impl Into<MemoryLimit>) -> Self {
        self.spill_limit = limit.into();
        self
    }

    /// Replaces each worker process when it has done so many tasks (at least one), against libraries that leak. Default: never.
    ///
    /// What runs is finished first, and results are handed on, so nothing is lost and nothing is done twice.
    pub fn recycle_after(mut self, tasks: u64) -> Self {
        self.recycle_after = Some(tasks);
        self
    }

    /// Replaces a worker process in the same way when memory that is not of results stays over this share of its limit
    /// for some seconds while it works. Default: never.
    pub fn recycle_unmanaged(mut self, share: f64) -> Self {
        self.recycle_unmanaged = Some(share);
        self
    }

    /// A name for the client, shown where it is printed and in the log. Default: `swath`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets an environment variable for the workers, beside those of this process.
    ///
    /// Libraries with threads of their own would have as many for each worker as there are cores. So that all workers together
    /// have no more, each gets its share, the cores divided by the number of workers and at least 1, in `RAYON_NUM_THREADS`,
    /// `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS`, `MKL_NUM_THREADS` and `POLARS_MAX_THREADS`; but for those that this process
    /// has in its environment, or that are set here.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::builder().workers(1).worker_env("OMP_NUM_THREADS", "3").build()?;
    /// let threads = delayed(|| std::env::var("OMP_NUM_THREADS").ok()).call();
    /// assert_eq!(client.compute(&threads)?.as_deref(), Some("3"));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn worker_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.worker_env.push((name.into(), value.into()));
        self
    }

    /// A function that each worker process runs before its first task, also one that replaces another: to open what tasks need,
    /// or to refuse where it is missing. It takes no argument, captures nothing, and returns a `Result` with any error that a
    /// [`try_delayed`](crate::try_delayed) function may have.
    ///
    /// It has its own time and not that of a task: the worker takes tasks when it has returned, within
    /// [`start_timeout`](Self::start_timeout) of its start. Where it fails or panics, that is the end of its worker
    /// ([`DeathCause::Init`](crate::DeathCause::Init)), and another one is started; where that has been so for `start_timeout`,
    /// what waits for the client's workers gets [`Error::Spawn`] with what the function said.
    ///
    /// In the modes sync and threads it runs once in [`build`](Self::build), whose error its failure is. Programs of a
    /// [local cluster](Self::cluster) share workers if they are of the same build and name the same functions here and in
    /// [`worker_exit`](Self::worker_exit); a program that names others has workers of its own.
    ///
    /// ```
    /// use std::sync::OnceLock;
    /// use swath::{Client, delayed};
    ///
    /// static LIMIT: OnceLock<u64> = OnceLock::new();
    ///
    /// fn configure() -> Result<(), std::num::ParseIntError> {
    ///     let limit = std::env::var("LIMIT").unwrap_or_default().parse()?;
    ///     LIMIT.get_or_init(|| limit);
    ///     Ok(())
    /// }
    ///
    /// let client = Client::builder().workers(2).worker_env("LIMIT", "12").worker_init(configure).build()?;
    /// assert_eq!(delayed(|x: u64| x.min(LIMIT.get().copied().unwrap_or(0))).call(40).compute(&client)?, 12);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn worker_init<F: TryTaskFunction<(), (), E>, E>(mut self, function: F) -> Self {
        let _ = function;
        self.worker_init = Some(F::RECORD);
        self
    }

    /// A function that each worker process runs when it ends in order: when the client is closed, and when the worker is
    /// retired, recycled or one too many. Not when it dies or is killed, and not when this process is. What it returns as an
    /// error is logged.
    ///
    /// When the client is closed, workers have five seconds for it. Tasks that were cancelled then may still run beside it. In
    /// the modes sync and threads it runs once, when the client is closed.
    ///
    /// ```
    /// use swath::status::Mode;
    /// use swath::Client;
    ///
    /// fn tell() -> Result<(), std::io::Error> {
    ///     std::fs::write(std::env::temp_dir().join(format!("ended-{}", std::process::id())), "in order")
    /// }
    ///
    /// let ended = std::env::temp_dir().join(format!("ended-{}", std::process::id()));
    /// Client::builder().mode(Mode::Threads).worker_exit(tell).build()?.shutdown();
    /// assert_eq!(std::fs::read_to_string(&ended)?, "in order");
    /// # std::fs::remove_file(ended)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn worker_exit<F: TryTaskFunction<(), (), E>, E>(mut self, function: F) -> Self {
        let _ = function;
        self.worker_exit = Some(F::RECORD);
        self
    }

    /// Tags that worker number `index` (from 0) carries, for tasks that ask for one with
    /// [`DelayedFn::tag`](crate::DelayedFn::tag).
    pub fn worker_tags<S: Into<String>>(mut self, index: usize, tags: impl IntoIterator<Item = S>) -> Self {
        self.worker_tags.push((index, tags.into_iter().map(Into::into).collect()));
        self
    }

    /// Says how much a worker, by its number, has of resources: what tasks take of while they run, see
    /// [`DelayedFn::resource`](crate::DelayedFn::resource). It stays with the worker when that is replaced; workers that are
    /// added later have none.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::builder()
    ///     .workers(2)
    ///     .threads(2)
    ///     .worker_resources(0, [("gpu", 1.0)])
    ///     .build()?;
    /// // Both run on the first worker, one after the other.
    /// let squares = delayed(|x: u64| x * x).resource("gpu", 1.0).map([2_u64, 3]);
    /// assert_eq!(client.compute(&squares)?, [4, 9]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn worker_resources<S: Into<String>>(
        mut self,
        index: usize,
        resources: impl IntoIterator<Item = (S, f64)>,
    ) -> Self {
        self.worker_resources.push((index, given(resources)));
        self
    }

    /// Says how much the modes threads and sync have of resources, see [`worker_resources`](Self::worker_resources).
    pub fn threads_resources<S: Into<String>>(mut self, resources: impl IntoIterator<Item = (S, f64)>) -> Self {
        self.threads_resources.extend(given(resources));
        self
    }

    /// The working directory of the workers. Default: this process's.
    pub fn local_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.local_directory = Some(path.into());
        self
    }

    /// How long a worker may take to answer after its start. When for so long all workers that are started have ended
    /// before they came to work, the client is closed, with the last death as the reason. 50 ms at least; default: 30 s.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// How long a worker that runs tasks, or is to send a result, may give no sign of life before it is replaced. 200 ms at
    /// least; default: 30 s.
    ///
    /// Long tasks are no problem: the sign of life comes from a thread of its own. A worker that is stopped by a signal
    /// or starved of the processor gives none.
    pub fn worker_timeout(mut self, timeout: Duration) -> Self {
        self.worker_timeout = timeout;
        self
    }

    /// How long a cancelled or overdue task may go on before its worker is replaced. Default: 5 s.
    ///
    /// Meanwhile a spare thread runs others in its place. In the second half of that time its worker gets no new tasks, and is
    /// replaced as soon as nothing else runs there.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = grace;
        self
    }

    /// With how many dying workers (at least one) a task fails that was the only one running there. Default: 3.
    ///
    /// A death under several tasks counts against none of them. Each runs again with no other beside it in its worker, which
    /// shows who ends workers: so a task never fails because of its neighbours.
    pub fn allowed_deaths(mut self, deaths: u32) -> Self {
        self.allowed_deaths = deaths;
        self
    }

    /// What happens when a worker has died. Default: [`RestartPolicy::Always`].
    pub fn restart_policy(mut self, policy: RestartPolicy) -> Self {
        self.restart = policy;
        self
    }

    /// How worker processes begin. Default: [`StartMethod::Automatic`].
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.start_method = method;
        self
    }

    /// Whether what tasks print appears on this process's standard output and error. Default: yes. In either case the
    /// last lines are kept for [`Client::logs`] and for the records of deaths.
    ///
    /// Threads of the client's write it, so a line may appear a moment after the task's result is there. Nothing waits for
    /// them, also where this process has a stream locked or nobody reads it: 16 MiB of each stream are kept until they are
    /// taken, and the lines beyond are dropped, with a line that says how many. Tasks that print faster than a stream takes
    /// it are slowed down before that. When the last handle of the client is dropped, what is left is written first, unless
    /// the stream takes nothing for a second.
    pub fn forward_output(mut self, forward: bool) -> Self {
        self.forward_output = forward;
        self
    }

    /// How many graphs (at least one) may be under way at a time: submitting one more waits for room. Default: 16384.
    ///
    /// A graph of any size counts as one. In sync mode, where submitting is running, it has no meaning.
    pub fn max_graphs(mut self, n: usize) -> Self {
        self.max_graphs = n;
        self
    }

    /// Whether the first task that fails ends [`Client::compute`] and its other forms: its failure is returned at once, and the
    /// rest is cancelled. Default: no, a failing graph runs to its end. See [`Failing`](crate::Failing) for which error is
    /// told, and [`Client::compute_with`] to say it for one call.
    ///
    /// It concerns what is computed, not what is persisted or submitted, and not the client that a task has of
    /// [`current_client`](crate::current_client).
    ///
    /// ```
    /// use swath::status::Mode;
    /// use swath::{Client, delayed};
    /// let client = Client::builder().mode(Mode::Threads).threads(2).fail_fast(true).build()?;
    /// let long = delayed(|| while !swath::cancelled() { std::thread::yield_now() }).call();
    /// let wrong = delayed(|x: i64| 1 / x).call(0);
    /// assert!(client.compute((&long, &wrong)).unwrap_err().to_string().contains("divide by zero"));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn fail_fast(mut self, fast: bool) -> Self {
        self.fail_fast = fast;
        self
    }

    /// How much of the workers' time this program gets beside others of the same local cluster ([`cluster`](Self::cluster)):
    /// programs that have work share it by their weights, whatever they have submitted. Default: 1. Alone it has no effect.
    ///
    /// ```no_run
    /// use swath::Client;
    /// // Three times as much as a program that says nothing.
    /// let client = Client::builder().cluster("reports").weight(3.0).build()?;
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// How many runs of tasks each worker or thread remembers for [`Client::events`], rounded up to a power of two.
    /// Default: 4096. Each takes 64 bytes, for a worker in /dev/shm; one of 100 µs or more, one with large values and one with a
    /// name of its own take the places of two or three. 0 turns recording off.
    ///
    /// The workers of a local cluster remember 4096 each.
    pub fn events(mut self, runs: usize) -> Self {
        self.events = runs;
        self
    }

    /// Sends every value through its encoding in the modes sync and threads, too: arguments, results, and what is scattered.
    /// Default: no; values are passed on there as they are.
    ///
    /// For tests and debugging: a type that does not come back from its encoding as it was, or that has none, fails then
    /// as it would between processes. A failure is the task's, as [`Cause::Encode`](crate::Cause::Encode) or
    /// [`Cause::Decode`](crate::Cause::Decode); in processes mode an argument that cannot be encoded is refused with
    /// [`Error::Encode`] before. What lies between the steps of a collection that are one task is not encoded in any mode.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use swath::status::Mode;
    /// use swath::{Client, delayed};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Reading {
    ///     value: f64,
    ///     #[serde(skip)]
    ///     unit: Option<String>,
    /// }
    ///
    /// let reading = delayed(|value: f64| Reading { value, unit: Some("m".to_string()) }).call(2.0);
    /// let unit = reading.map(|reading: Reading| reading.unit);
    /// assert!(client_of(false).compute(&unit)?.is_some());
    /// // As between processes.
    /// assert!(client_of(true).compute(&unit)?.is_none());
    ///
    /// fn client_of(encode: bool) -> Client {
    ///     Client::builder().mode(Mode::Sync).encode_values(encode).build().expect("it needs nothing")
    /// }
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn encode_values(mut self, encode: bool) -> Self {
        self.encode_values = encode;
        self
    }

    /// Refuses what the mode cannot honour. Default: no; it is ignored, with a warning in the log. It holds for the clients that
    /// tasks have of [`current_client`](crate::current_client), too.
    ///
    /// Of a client these are options that have no meaning in its mode, or that a local cluster has set itself: [`build`](Self::build)
    /// fails with [`Error::Invalid`]. Of a task they are [`tag`](crate::DelayedFn::tag) and
    /// [`on_worker`](crate::DelayedFn::on_worker), since the modes sync and threads have no workers: its graph is refused with
    /// [`Error::Unsupported`]. In processes mode a task that no worker can run always fails, with
    /// [`Cause::Infeasible`](crate::Cause::Infeasible).
    ///
    /// ```
    /// use swath::status::Mode;
    /// use swath::{Client, delayed};
    /// let client = Client::builder().mode(Mode::Threads).strict(true).build()?;
    /// let on_gpu = delayed(|x: u64| x + 1).tag("gpu").call(1);
    /// assert!(client.compute(&on_gpu).unwrap_err().to_string().contains("not available in threads mode"));
    ///
    /// let refused = Client::builder().mode(Mode::Sync).workers(4).strict(true).build().unwrap_err();
    /// assert_eq!(refused.to_string(), "bad value for workers: it has no meaning in sync mode");
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Connects to a running local cluster instead of starting workers: its name, or the path of its socket.
    pub fn cluster(mut self, name_or_path: impl Into<PathBuf>) -> Self {
        self.cluster = Some(name_or_path.into());
        self
    }

    /// Starts the client.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an option that makes no sense, also one that the mode has no use for; [`Error::Spawn`],
    /// [`Error::Resource`] or [`Error::Connect`] where workers cannot be started or the cluster cannot be reached;
    /// [`Error::NotInExecutable`] where this code is part of a shared library, so that only the modes sync and threads work.
    pub fn build(self) -> Result<Client> {
        crate::start::link();
        #[cfg(feature = "progress")]
        let bars = self.wants_bars()?;
        let client = |backend: Arc<dyn Backend>| {
            let client = Client::built(backend, self.max_graphs, self.fail_fast).profiled(self.profile);
            #[cfg(feature = "progress")]
            client.keep_bars(bars);
            client
        };
        if missed_init() {
            // Going on would start workers of a worker, and so on.
            end_missed();
        }
        self.check()?;
        let elsewhere =
            if self.cluster.is_some() || self.mode == Mode::Processes { outside_executable() } else { None };
        if let Some((library, executable)) = elsewhere {
            return Err(Error::NotInExecutable { library, executable });
        }
        if let Some(cluster) = &self.cluster {
            self.check_heeded()?;
            let client = client(connect(Path::new(cluster), self.name.as_deref(), self.weight, self.hooks()?)?);
            return self.recording.begin(client);
        }
        self.check_heeded()?;
        let resources = Resources::of(self.threads_resources.iter().map(|(name, amount)| (name.as_str(), *amount)));
        let (sources, events) = (Arc::<RunSources>::default(), self.recorded_runs());
        let checks =
            Checks { encodes: self.encode_values, strict: self.strict, resources, sources: Arc::clone(&sources) };
        let client = match self.mode {
            Mode::Sync => {
                self.init_here()?;
                client(SyncExecutor::checking(events, checks)).ending_with(self.worker_exit)
            }
            Mode::Threads => {
                at_most("threads", self.threads.unwrap_or(1), MOST_POOL_THREADS)?;
                let budget = self.memory_limit.bytes()?;
                self.init_here()?;
                let pool = ThreadPool::checking(self.threads.unwrap_or_else(cores), events, budget, checks);
                client(pool).ending_with(self.worker_exit)
            }
            Mode::Processes => client(supervisor::start_here(self.settings()?, sources)?),
        };
        self.recording.begin(client)
    }

    /// [`build`](Self::build) for async code: a thread of its own starts or reaches the workers.
    ///
    /// # Errors
    /// As [`build`](Self::build); [`Error::Resource`] where there can be no thread.
    pub async fn build_async(self) -> Result<Client> {
        spawn_blocking(|| self.build()).await?
    }

    pub(crate) fn given_name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}
