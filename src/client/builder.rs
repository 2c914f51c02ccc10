//! Every option of a client.

use super::blocking::spawn_blocking;
use super::{Client, MOST_GRAPHS};
use crate::RestartPolicy;
use crate::StartMethod;
use crate::daemon::connect::connect;
use crate::error::{Error, Result};
use crate::events::{self, DEFAULT_CAPACITY};
use crate::exec::sync::SyncExecutor;
use crate::exec::threads::ThreadPool;
use crate::fairness::WEIGHTS;
use crate::ipc::page::MOST_THREADS;
use crate::ipc::start::{end_missed, missed_init};
use crate::memory::limit::MemoryLimit;
use crate::memory::machine::available_memory;
use crate::memory::thresholds::Thresholds;
use crate::settings::{MOST_WORKERS, Settings};
use crate::status::Mode;
use crate::submission::backend::Backend;
use crate::supervisor;
use crate::task::image::outside_executable;
use std::env::VarError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// All options of a [`Client`]. Those that a mode has no use for are ignored in it.
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
    shared_memory_limit: MemoryLimit,
    thresholds: Thresholds,
    spill_directory: Option<PathBuf>,
    spill_limit: MemoryLimit,
    recycle_after: Option<u64>,
    recycle_unmanaged: Option<f64>,
    name: Option<String>,
    worker_env: Vec<(String, String)>,
    worker_tags: Vec<(usize, Vec<String>)>,
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
    cluster: Option<PathBuf>,
    size: Option<String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            mode: Mode::Processes,
            workers: None,
            threads: None,
            memory_limit: MemoryLimit::None,
            shared_memory_limit: MemoryLimit::None,
            thresholds: Thresholds::default(),
            spill_directory: None,
            spill_limit: MemoryLimit::None,
            recycle_after: None,
            recycle_unmanaged: None,
            name: None,
            worker_env: Vec::new(),
            worker_tags: Vec::new(),
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
            cluster: None,
            size: None,
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// By convention `/var/tmp` is on a disk, while `/tmp` is often memory.
fn spill_directory() -> PathBuf {
    let disk = PathBuf::from("/var/tmp");
    if disk.is_dir() { disk } else { std::env::temp_dir() }
}

fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value.trim().to_string()).filter(|v| !v.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(value)) => Err(Error::invalid(name, format!("{value:?} is not UTF-8 text"))),
    }
}

/// Checks that a number is at least 1.
fn at_most(what: &str, number: usize, most: usize) -> Result<()> {
    match (1..=most).contains(&number) {
        true => Ok(()),
        false => Err(Error::invalid(what, format!("{number}; it must be 1 to {most}"))),
    }
}

fn number(name: &str, most: usize) -> Result<Option<usize>> {
    let Some(text) = variable(name)? else { return Ok(None) };
    let number = text.parse().map_err(|_| Error::invalid(name, format!("`{text}` is not a whole number")))?;
    at_most(name, number, most).map(|()| Some(number))
}

impl Builder {
    /// The options that the environment asks for, see [`Client::from_env`].
    ///
    /// # Errors
    /// [`Error::Invalid`] names a variable whose value makes no sense.
    pub fn from_env() -> Result<Self> {
        let mut builder = Self::default();
        if let Some(cluster) = variable("SWATH_CLUSTER")? {
            return Ok(builder.cluster(cluster));
        }
        if let Some(mode) = variable("SWATH_SCHEDULER")? {
            builder.mode = mode.parse().map_err(|_| {
                Error::invalid("SWATH_SCHEDULER", format!("`{mode}`; it is `sync`, `threads` or `processes`"))
            })?;
        }
        builder.workers = number("SWATH_WORKERS", MOST_WORKERS)?;
        let most = if builder.mode == Mode::Processes { MOST_THREADS } else { usize::MAX };
        builder.threads = number("SWATH_THREADS", most)?;
        if let Some(limit) = variable("SWATH_MEMORY_LIMIT")? {
            let of_processes = builder.mode == Mode::Processes;
            let checked = limit.parse().and_then(|limit: MemoryLimit| {
                if of_processes { limit.of_worker() } else { limit.bytes() }.map(|_| limit)
            });
            builder.memory_limit = checked.map_err(|e| e.about("SWATH_MEMORY_LIMIT"))?;
        }
        Ok(builder)
    }

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

    /// A named size for the workers, as [`describe_sizes`](crate::describe_sizes) lists them: sets their threads and
    /// memory limit, and starts as many as fit the machine, where these are not given themselves.
    pub fn size(mut self, name: impl Into<String>) -> Self {
        self.size = Some(name.into());
        self
    }

    /// How much shared memory all values of this client may take together. Default: half of what the machine has
    /// available when the client starts, and not more than all workers' limits together.
    ///
    /// The kernel puts no limit on shared memory of this kind, so this one is what protects the machine.
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
    pub fn worker_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.worker_env.push((name.into(), value.into()));
        self
    }

    /// Tags that worker number `index` (from 0) carries, for tasks that ask for one with
    /// [`DelayedFn::tag`](crate::DelayedFn::tag).
    pub fn worker_tags<S: Into<String>>(mut self, index: usize, tags: impl IntoIterator<Item = S>) -> Self {
        self.worker_tags.push((index, tags.into_iter().map(Into::into).collect()));
        self
    }

    /// The working directory of the workers. Default: this process's.
    pub fn local_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.local_directory = Some(path.into());
        self
    }

    /// How long a worker may take to answer after its start. When for so long all workers that are started have ended
    /// before they came to work, the client is closed, with the last death as the reason. Default: 30 s.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// How long a worker that runs tasks, or is to send a result, may give no sign of life before it is replaced. Default:
    /// 30 s.
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
    /// use swath::{Client, Mode, delayed};
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
    /// Default: 4096. Each takes 64 bytes, for a worker in /dev/shm. 0 turns recording off.
    ///
    /// The workers of a local cluster remember 4096 each.
    pub fn events(mut self, runs: usize) -> Self {
        self.events = runs;
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
        let client = |backend: Arc<dyn Backend>| Client::built(backend, self.max_graphs, self.fail_fast);
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
        if !WEIGHTS.contains(&self.weight) {
            let (least, most) = (WEIGHTS.start(), WEIGHTS.end());
            return Err(Error::invalid("weight", format!("{}; it must be {least} to {most}", self.weight)));
        }
        if let Some(cluster) = &self.cluster {
            return Ok(client(connect(Path::new(cluster), self.name.as_deref(), self.weight)?));
        }
        if self.events > events::MOST {
            return Err(Error::invalid("events", format!("{}; it must be 0 to {}", self.events, events::MOST)));
        }
        match self.mode {
            Mode::Sync => Ok(client(SyncExecutor::new(self.events))),
            Mode::Threads => {
                let budget = self.memory_limit.bytes()?;
                Ok(client(ThreadPool::new(self.threads.unwrap_or_else(cores), self.events, budget)))
            }
            Mode::Processes => Ok(client(supervisor::start_here(self.settings()?)?)),
        }
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

    /// Refuses what makes no sense in any mode.
    fn check(&self) -> Result<()> {
        let none = Duration::ZERO;
        for (what, is_wrong, why) in [
            ("workers", self.workers == Some(0), "0; at least one worker is needed"),
            ("threads", self.threads == Some(0), "0; at least one thread is needed"),
            ("allowed_deaths", self.allowed_deaths == 0, "0; a task fails with the first death if it is 1"),
            (
                "recycle_after",
                self.recycle_after == Some(0),
                "0; a worker does one task at least. Leave it out for never",
            ),
            ("max_graphs", self.max_graphs == 0, "0; no graph could be submitted"),
            ("start_timeout", self.start_timeout == none, "0; no worker can answer at once"),
            ("worker_timeout", self.worker_timeout == none, "0; each worker would be taken for dead"),
        ] {
            if is_wrong {
                return Err(Error::invalid(what, why));
            }
        }
        Ok(())
    }

    /// The options of worker processes, checked.
    pub(crate) fn settings(&self) -> Result<Settings> {
        self.check()?;
        let size = self.size.as_deref().map(crate::settings::sizes::size).transpose()?;
        let workers = self.workers.unwrap_or_else(|| size.as_ref().map_or_else(cores, |s| s.fits));
        let threads = self.threads.unwrap_or(size.as_ref().map_or(1, |s| s.threads));
        at_most("workers", workers, MOST_WORKERS)?;
        at_most("threads", threads, MOST_THREADS)?;
        if let Some((name, _)) =
            self.worker_env.iter().find(|(n, v)| n.is_empty() || n.contains(['=', '\0']) || v.contains('\0'))
        {
            return Err(Error::invalid("worker_env", format!("`{name}` cannot be a variable")));
        }
        if let Some(dir) = self.local_directory.as_deref().filter(|d| !d.is_dir()) {
            return Err(Error::invalid("local_directory", format!("{} is not a directory", dir.display())));
        }
        self.thresholds.check()?;
        if let Some(share) = self.recycle_unmanaged.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return Err(Error::invalid("recycle_unmanaged", format!("{share}; it is a share of the limit up to 1")));
        }
        if let Some(dir) = self.spill_directory.as_deref().filter(|d| !d.is_dir()) {
            return Err(Error::invalid("spill_directory", format!("{} is not a directory", dir.display())));
        }
        // Workers may run in another directory, and tasks may change it.
        let absolute = |what: &str, dir: &Option<PathBuf>| {
            let dir = dir.as_deref().map(std::path::absolute).transpose();
            dir.map_err(|e| Error::invalid(what, format!("its absolute path is not known: {e}")))
        };
        let spill = absolute("spill_directory", &self.spill_directory)?;
        let spills = self.thresholds.target.or(self.thresholds.spill).is_some();
        let memory_limit = self.memory_limit.of_worker()?.or(size.map(|s| s.memory_bytes));
        let all = memory_limit.map(|m| m.saturating_mul(workers as u64));
        let half = available_memory()? / 2;
        let shared_memory = self.shared_memory_limit.of_all().map_err(|e| e.about("shared_memory_limit"))?;
        let shared_memory = shared_memory.unwrap_or(all.map_or(half, |all| all.min(half)));
        let mut tags = vec![Vec::new(); workers];
        for (index, more) in &self.worker_tags {
            match tags.get_mut(*index) {
                Some(tags) => tags.extend(more.iter().cloned()),
                None => return Err(Error::invalid("worker_tags", format!("there is no worker {index}"))),
            }
        }
        Ok(Settings {
            workers,
            threads,
            memory_limit,
            thresholds: self.thresholds,
            spill_directory: (spills && memory_limit.is_some()).then(|| spill.clone().unwrap_or_else(spill_directory)),
            spill_limit: self.spill_limit.of_all().map_err(|e| e.about("spill_limit"))?,
            shuffle_directory: spill,
            recycle_after: self.recycle_after,
            recycle_unmanaged: self.recycle_unmanaged,
            shared_memory,
            name: self.name.clone().unwrap_or_else(|| "swath".to_string()),
            env: self.worker_env.clone(),
            tags,
            directory: absolute("local_directory", &self.local_directory)?,
            start_timeout: self.start_timeout,
            worker_timeout: self.worker_timeout,
            cancel_grace: self.cancel_grace,
            allowed_deaths: self.allowed_deaths,
            restart: self.restart,
            start_method: self.start_method,
            forward_output: self.forward_output,
            events: self.events,
        })
    }
}
