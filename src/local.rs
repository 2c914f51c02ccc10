//! The local cluster: worker processes that outlive the programs that use them.
//!
//! A local cluster is a process without a terminal that waits at a socket of its user's. A program connects with
//! [`Client::connect`](crate::Client::connect) and passes its own executable, from which the cluster starts workers:
//! programs of the same build share them, each other build gets as many of its own. Workers run in the directory and
//! with the environment that the cluster was started with, and stay for some seconds after the last program has left.
//!
//! The command `local-cluster` is this module with options. [`serve`] is the cluster itself; the other functions speak
//! to a running one, by its name or the path of its socket.
//!
//! ```no_run
//! use swath::{Client, delayed, local};
//! println!("{} program(s) are connected", local::status("default")?.programs.len());
//! let client = Client::connect("default")?;
//! assert_eq!(delayed(|x: u64| x + 1).call(1).compute(&client)?, 2);
//! # Ok::<(), swath::Error>(())
//! ```

pub use crate::daemon::paths::DEFAULT_NAME;
pub use crate::machine::{AvailableMemory, Bound, Machine};
#[doc(inline)]
pub use crate::settings::sizes::{WorkerSize, describe_sizes};
#[doc(inline)]
pub use crate::status::{ClusterStatus, Log, ProgramStatus};

use crate::client::Builder;
use crate::daemon::connect::PATIENCE;
use crate::daemon::paths::ClusterPaths;
use crate::error::{Error, Result};
use crate::events::saved::SavedLog;
use crate::ipc::page::start_time;
use crate::memory::limit::untold;
use crate::message::{Attached, Control};
use crate::settings::MOST_WORKERS;
use crate::status::{Explanation, WorkerInfo, WorkerState};
use crate::task::image::outside_executable;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Runs a local cluster in this process, with the sizes and the name, or path of the socket, that `options` hold, until it is
/// told to stop: by [`stop`], SIGTERM, SIGINT or SIGHUP, which is not heeded where the process ignores it, as under `nohup`.
/// `ready` is called when programs can connect.
///
/// With [`Builder::record`], which takes a directory here, all that its programs do is recorded in a file there, as that of a
/// client is, with the workers of each program named as `flights/worker-0`, and its name as the label of its graphs. The file is
/// named by the cluster, the time and the process; [`ClusterStatus::record`] says which it is.
///
/// Call it from a program's first thread, while there is no other: the signals are blocked in the calling thread.
///
/// # Errors
/// [`Error::NotInExecutable`] in a shared library. [`Error::Cluster`] where one of that name is running, or its socket cannot be made;
/// [`Error::Invalid`] for an option that makes no sense; [`Error::Resource`] for a runtime directory that cannot be made, or that
/// others can reach.
pub fn serve(options: Builder, ready: impl FnOnce(&ClusterStatus)) -> Result<()> {
    crate::start::link();
    if let Some((library, executable)) = outside_executable() {
        return Err(Error::NotInExecutable { library, executable });
    }
    let paths = ClusterPaths::of(Path::new(options.given_name().unwrap_or(DEFAULT_NAME)))?;
    let record = options.recorded_in()?;
    let settings = options.for_any_program()?.name(paths.name.clone()).forward_output(false).settings()?;
    crate::daemon::serve::serve(paths, settings, record, ready)
}

/// A cluster that is asked something, once or until something is so, and the time that this may take altogether.
struct Asked {
    paths: ClusterPaths,
    began: Instant,
    /// None: each question may take [`PATIENCE`].
    timeout: Option<Duration>,
}

impl Asked {
    fn new(cluster: impl AsRef<Path>, timeout: Option<Duration>) -> Result<Self> {
        Ok(Self { paths: ClusterPaths::of(cluster.as_ref())?, began: Instant::now(), timeout })
    }

    fn left(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(self.began.elapsed()))
    }

    /// Its answer to one question. A cluster that is idle can always be asked once, however short the time is.
    fn ask(&self, command: Control) -> Result<Attached> {
        let patience = self.left().map_or(PATIENCE, |left| left.max(ONCE));
        match crate::daemon::connect::control(&self.paths, command, patience) {
            Ok(Attached::Refused(reason)) => Err(self.paths.error(reason)),
            Err(Error::Timeout { waited }) => Err(Error::Timeout { waited: self.timeout.unwrap_or(waited) }),
            answer => answer,
        }
    }

    fn status(&self) -> Result<ClusterStatus> {
        match self.ask(Control::Status)? {
            Attached::Status(status) => Ok(*status),
            _ => Err(self.beside_the_point()),
        }
    }

    fn done(&self, command: Control) -> Result<()> {
        match self.ask(command)? {
            Attached::Done => Ok(()),
            _ => Err(self.beside_the_point()),
        }
    }

    fn wait_for(&self, mut done: impl FnMut(&ClusterStatus) -> bool) -> Result<()> {
        while !done(&self.status()?) {
            if self.left().is_some_and(|left| left.is_zero()) {
                return Err(Error::Timeout { waited: self.timeout.unwrap_or_default() });
            }
            std::thread::park_timeout(self.left().map_or(LOOK, |left| left.min(LOOK)));
        }
        Ok(())
    }

    fn beside_the_point(&self) -> Error {
        self.paths.error("it answered beside the point")
    }
}

/// How long one question may take at least.
const ONCE: Duration = Duration::from_millis(200);
/// How often it is looked for what is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// The version of swath that this program is built with, and of what it says to a local cluster: a program and its
/// cluster must have both in common.
#[must_use]
pub fn version() -> String {
    crate::version::describe()
}

/// What this program may use of the machine: the least of what there is, what its affinity allows, and what every enclosing
/// control group has (version 1 or 2). Shares of memory, sizes and defaults are of this.
///
/// # Errors
/// [`Error::Resource`] where the system does not tell its memory.
pub fn machine() -> Result<Machine> {
    Machine::read().map_err(untold)
}

/// What a running cluster does.
///
/// # Errors
/// [`Error::Connect`] where none runs there, and [`Error::Timeout`] where one does and does not answer within 30 s: it may have
/// been stopped by a signal. So do the other functions.
pub fn status(cluster: impl AsRef<Path>) -> Result<ClusterStatus> {
    Asked::new(cluster, None)?.status()
}

/// Why a task is where it is, of whatever program: by its key, or the beginning of that, as
/// [`Client::explain_key`](crate::Client::explain_key) says it. The names of functions that have not run yet are not known to a
/// cluster; their tasks are called `task`, with the number in their key.
///
/// # Errors
/// As [`status`]; [`Error::Key`] where no task is known whose key begins so, or several are.
pub fn explain(cluster: impl AsRef<Path>, key: &str) -> Result<Explanation> {
    let cluster = Asked::new(cluster, None)?;
    match cluster.ask(Control::Explain { key: key.to_string() })? {
        Attached::Explained(explanation) => Ok((*explanation)?),
        _ => Err(cluster.beside_the_point()),
    }
}

/// The last lines that a cluster's workers wrote, and those of its own log.
///
/// # Errors
/// As [`status`].
pub fn logs(cluster: impl AsRef<Path>) -> Result<Vec<Log>> {
    let (paths, workers) = worker_logs(cluster.as_ref(), 0)?;
    let own = |text| Log { source: "cluster".to_string(), build: String::new(), text, lines: Vec::new() };
    let own = crate::daemon::paths::last_lines(&paths.log()).map(own);
    Ok(own.into_iter().chain(workers).collect())
}

/// What has happened on a cluster: the file in which it is recorded, or, where it is not, what it remembers of the programs that
/// are there: the last runs of each worker, their last lines, deaths, and how their tasks are counted.
///
/// # Errors
/// As [`status`]; [`Error::Resource`] where there can be no temporary file, or the recording cannot be read.
pub fn events(cluster: impl AsRef<Path>) -> Result<SavedLog> {
    let file =
        tempfile::Builder::new().prefix("swath-events-").tempdir().map_err(|e| unread(&std::env::temp_dir(), &e))?;
    let path = save_events(cluster, file.path().join("events.swath"))?;
    // It is read from the open file, whatever becomes of its name.
    SavedLog::open(&path).map_err(|e| unread(&path, &e))
}

/// The same in a file, which is made at `path` where the cluster is not recorded; the answer is which file it is.
///
/// # Errors
/// As [`status`]; [`Error::Cluster`] where the cluster cannot write the file.
pub fn save_events(cluster: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = std::path::absolute(path.as_ref()).map_err(|e| unread(path.as_ref(), &e))?;
    let cluster = Asked::new(cluster, None)?;
    match cluster.ask(Control::SaveEvents { path })? {
        Attached::Saved(path) => Ok(path),
        _ => Err(cluster.beside_the_point()),
    }
}

fn unread(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Resource { resource: path.display().to_string(), reason: reason.to_string() }
}

/// Those of the last lines of a cluster's workers that came at that time or later, in nanoseconds since 1970. A worker that
/// replaces another goes on with its lines and their numbers.
///
/// # Errors
/// As [`status`].
pub fn logs_since(cluster: impl AsRef<Path>, time: u64) -> Result<Vec<Log>> {
    worker_logs(cluster.as_ref(), time).map(|(_, logs)| logs)
}

fn worker_logs(cluster: &Path, since: u64) -> Result<(ClusterPaths, Vec<Log>)> {
    let cluster = Asked::new(cluster, None)?;
    let Attached::Logs(lines) = cluster.ask(Control::Logs { since })? else { return Err(cluster.beside_the_point()) };
    let mut logs: Vec<Log> = Vec::new();
    for (build, line) in lines {
        let log = match logs.last_mut() {
            Some(last) if last.source == line.worker && last.build == build => last,
            _ => {
                let source = line.worker.clone();
                logs.push(Log { source, build, text: String::new(), lines: Vec::new() });
                let Some(log) = logs.last_mut() else { continue };
                log
            }
        };
        log.text.extend([line.plain().as_str(), "\n"]);
        log.lines.push(line);
    }
    Ok((cluster.paths, logs))
}

/// Has `workers` workers for each build from now on.
///
/// # Errors
/// As [`status`]; [`Error::Invalid`] where the number is not 1 to 1024.
pub fn scale(cluster: impl AsRef<Path>, workers: usize) -> Result<()> {
    check_number(workers)?;
    Asked::new(cluster, None)?.done(Control::Scale(workers))
}

fn check_number(workers: usize) -> Result<()> {
    match (1..=MOST_WORKERS).contains(&workers) {
        true => Ok(()),
        false => Err(Error::invalid("workers", format!("{workers}; it must be 1 to {MOST_WORKERS}"))),
    }
}

/// Replaces all workers by new ones. What they ran or held is computed again where it is still wanted.
///
/// # Errors
/// As [`status`].
pub fn restart(cluster: impl AsRef<Path>) -> Result<()> {
    Asked::new(cluster, None)?.done(Control::Restart)
}

/// Retires workers, and waits until they are gone: what they run is finished, their results move to the others of the same
/// program, and there are so many fewer of these from now on.
///
/// A worker is named as [`status`] has it, `worker-1`, or with its program, `flights/worker-1`, or the beginning of a build,
/// where several programs have one of that name.
///
/// # Errors
/// As [`status`]; [`Error::Cluster`] for a name that no worker has, or several have, and where none would be left;
/// [`Error::Timeout`] where they are not gone in time, which they will be if the cluster has answered.
pub fn retire(cluster: impl AsRef<Path>, workers: &[impl AsRef<str>], timeout: Option<Duration>) -> Result<()> {
    let cluster = Asked::new(cluster, timeout)?;
    let now = cluster.status()?;
    let found = workers.iter().map(|name| find(&now, name.as_ref())).collect::<Result<Vec<_>>>()?;
    let mut builds: Vec<&str> = found.iter().map(|(program, _)| program.build.as_str()).collect();
    builds.sort_unstable();
    builds.dedup();
    for build in builds {
        let of_build = found.iter().filter(|(program, _)| program.build == build);
        let workers = of_build.map(|(_, worker)| worker.name.clone()).collect();
        cluster.done(Control::Retire { build: build.to_string(), workers })?;
    }
    let pids: Vec<u32> = found.iter().map(|(_, worker)| worker.pid).collect();
    cluster.wait_for(|now| !all_workers(now).any(|(_, worker)| pids.contains(&worker.pid)))
}

/// Replaces a worker by a new one, and waits until that is ready, as long as its program is there. What it runs is finished,
/// and its results move, as far as `timeout` allows; then it is ended, and what is left is computed again.
///
/// # Errors
/// As [`retire`]; [`Error::Timeout`] where the cluster does not answer in that time, or there is no new worker 30 s after it.
pub fn restart_worker(cluster: impl AsRef<Path>, worker: &str, timeout: Duration) -> Result<()> {
    let mut cluster = Asked::new(cluster, Some(timeout))?;
    let now = cluster.status()?;
    let (program, old) = find(&now, worker)?;
    let (build, worker) = (program.build.clone(), old.name.clone());
    let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    cluster.done(Control::RestartWorker { build: build.clone(), worker: worker.clone(), millis })?;
    cluster.timeout = timeout.checked_add(PATIENCE);
    cluster.wait_for(|now| {
        let Some(program) = now.programs.iter().find(|program| program.build == build) else { return true };
        let new = |w: &WorkerInfo| w.name == worker && w.pid != old.pid && w.state == WorkerState::Running;
        program.workers.iter().any(new)
    })
}

/// Replaces the workers there are, one after the other, each as [`restart_worker`] does; answers how many.
///
/// # Errors
/// As [`restart_worker`].
pub fn restart_rolling(cluster: impl AsRef<Path>, timeout: Duration) -> Result<usize> {
    let cluster = cluster.as_ref();
    let status = || Asked::new(cluster, Some(timeout))?.status();
    let mut replaced = 0;
    for program in status()?.programs {
        for worker in &program.workers {
            let is_there = |now: &ProgramStatus| {
                now.build == program.build && now.workers.iter().any(|other| other.pid == worker.pid)
            };
            // It may have gone by itself, or with its program.
            if status()?.programs.iter().any(is_there) {
                restart_worker(cluster, &format!("{}/{}", program.build, worker.name), timeout)?;
                replaced += 1;
            }
        }
    }
    Ok(replaced)
}

/// Waits until a program that is connected has `n` workers that take tasks.
///
/// # Errors
/// As [`status`], also where the cluster ends; [`Error::Timeout`] where there are not so many in time; [`Error::Invalid`]
/// where the number is not 1 to 1024.
pub fn wait_for_workers(cluster: impl AsRef<Path>, n: usize, timeout: Option<Duration>) -> Result<()> {
    check_number(n)?;
    let running = |program: &ProgramStatus| {
        program.workers.iter().filter(|worker| worker.state == WorkerState::Running).count() >= n
    };
    Asked::new(cluster, timeout)?.wait_for(|now| now.programs.iter().any(running))
}

fn all_workers(status: &ClusterStatus) -> impl Iterator<Item = (&ProgramStatus, &WorkerInfo)> {
    status.programs.iter().flat_map(|program| program.workers.iter().map(move |worker| (program, worker)))
}

/// The worker that a user names.
fn find<'a>(status: &'a ClusterStatus, name: &str) -> Result<(&'a ProgramStatus, &'a WorkerInfo)> {
    let refused = |reason| Err(Error::Cluster { name: status.name.clone(), reason });
    let (of_program, worker) = name.rsplit_once('/').map_or((None, name), |(program, worker)| (Some(program), worker));
    let named = |program: &ProgramStatus| {
        of_program.is_none_or(|name| program.program == name || program.build.starts_with(name))
    };
    let found: Vec<_> = all_workers(status).filter(|(p, w)| w.name == worker && named(p)).collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let there: Vec<_> = all_workers(status).map(|(p, w)| format!("{}/{}", p.program, w.name)).collect();
            let there = if there.is_empty() { "none has been started".to_string() } else { there.join(", ") };
            refused(format!("there is no worker {name:?}; there are: {there}"))
        }
        _ => {
            let which: Vec<_> = found.iter().map(|(p, w)| format!("{}/{}", p.build, w.name)).collect();
            refused(format!("{name:?} is one of several workers; say which: {}", which.join(", ")))
        }
    }
}

/// Has a cluster let nobody in any more, neither programs nor graphs of those that are connected, and stop when no graph is
/// under way, or the time is over. Returns when it has ended, with the number of tasks that were still to be done.
///
/// # Errors
/// As [`stop`]; [`Error::Timeout`] also where the cluster does not answer in that time, or stops answering.
pub fn drain(cluster: impl AsRef<Path>, timeout: Option<Duration>) -> Result<u64> {
    let cluster = Asked::new(cluster, timeout)?;
    // One that does not answer now is not waited for beyond the time.
    cluster.status()?;
    crate::daemon::connect::drain(&cluster.paths, cluster.left())
}

/// Stops a cluster: programs that are connected lose it, its workers end, its files are removed. Returns when it has ended.
///
/// # Errors
/// As [`status`], and where it does not end.
pub fn stop(cluster: impl AsRef<Path>) -> Result<()> {
    crate::daemon::connect::stop(&ClusterPaths::of(cluster.as_ref())?)
}

/// Where the log of a cluster is that runs in the background: `NAME.log`, beside its socket.
///
/// # Errors
/// [`Error::Invalid`] for a bad name.
pub fn log_file(cluster: impl AsRef<Path>) -> Result<PathBuf> {
    Ok(ClusterPaths::of(cluster.as_ref())?.log())
}

/// Makes the directory of a cluster's files, where it is not there: [`serve`] does so, and whoever keeps the log.
///
/// # Errors
/// [`Error::Invalid`] for a bad name; [`Error::Resource`] for a directory that cannot be made, or that others can reach.
pub fn make_directory(cluster: impl AsRef<Path>) -> Result<()> {
    crate::daemon::paths::make_directory(ClusterPaths::of(cluster.as_ref())?.directory())
}

/// The number of a cluster's process, if there is one; it is not asked for it.
///
/// # Errors
/// [`Error::Invalid`] for a bad name.
pub fn process(cluster: impl AsRef<Path>) -> Result<Option<u32>> {
    let pid = crate::daemon::paths::pid(&ClusterPaths::of(cluster.as_ref())?);
    Ok(pid.filter(|pid| start_time(*pid).is_some()))
}
