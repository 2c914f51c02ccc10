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
pub use crate::settings::sizes::{WorkerSize, describe_sizes};
pub use crate::status::{ClusterStatus, Log, ProgramStatus};

use crate::client::Builder;
use crate::daemon::paths::ClusterPaths;
use crate::error::Result;
use crate::memory::limit::untold;
use crate::message::{Attached, Control};
use std::path::{Path, PathBuf};

/// Runs a local cluster in this process, with the sizes and the name that `options` hold, until it is told to stop: by
/// [`stop`], SIGTERM, SIGINT or SIGHUP. `ready` is called when programs can connect.
///
/// Call it from a program's first thread, while there is no other: the signals are blocked in the calling thread.
///
/// # Errors
/// [`Error::Cluster`](crate::Error::Cluster) where one of that name is running, or its socket cannot be made;
/// [`Error::Invalid`](crate::Error::Invalid) for an option that makes no sense, or a runtime directory that others can
/// reach.
pub fn serve(options: Builder, ready: impl FnOnce(&ClusterStatus)) -> Result<()> {
    crate::start::link();
    let name = options.given_name().unwrap_or(DEFAULT_NAME).to_string();
    let settings = options.for_any_program()?.name(name.clone()).forward_output(false).settings()?;
    crate::daemon::serve::serve(ClusterPaths::named(&name)?, settings, ready)
}

fn control(cluster: impl AsRef<Path>, command: Control) -> Result<(ClusterPaths, Attached)> {
    let paths = ClusterPaths::of(cluster.as_ref())?;
    match crate::daemon::connect::control(&paths, command)? {
        Attached::Refused(reason) => Err(paths.error(reason)),
        answer => Ok((paths, answer)),
    }
}

fn done(cluster: impl AsRef<Path>, command: Control) -> Result<()> {
    match control(cluster, command)? {
        (_, Attached::Done) => Ok(()),
        (paths, _) => Err(paths.error("it answered beside the point")),
    }
}

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
/// [`Error::Resource`](crate::Error::Resource) where the system does not tell its memory.
pub fn machine() -> Result<Machine> {
    Machine::read().map_err(untold)
}

/// What a running cluster does.
///
/// # Errors
/// [`Error::Connect`](crate::Error::Connect) where none answers there. So do the other functions.
pub fn status(cluster: impl AsRef<Path>) -> Result<ClusterStatus> {
    match control(cluster, Control::Status)? {
        (_, Attached::Status(status)) => Ok(*status),
        (paths, _) => Err(paths.error("it answered beside the point")),
    }
}

/// The last lines that a cluster's workers wrote, and those of its own log.
///
/// # Errors
/// As [`status`].
pub fn logs(cluster: impl AsRef<Path>) -> Result<Vec<Log>> {
    match control(cluster, Control::Logs)? {
        (paths, Attached::Logs(workers)) => {
            let own = |text| Log { source: "cluster".to_string(), text, lines: Vec::new() };
            let mut logs: Vec<_> = crate::daemon::paths::last_lines(&paths.log()).map(own).into_iter().collect();
            for lines in workers.chunk_by(|a, b| a.worker == b.worker) {
                let text = lines.iter().flat_map(|l| [l.text.as_str(), "\n"]).collect();
                logs.push(Log { source: lines[0].worker.clone(), text, lines: lines.to_vec() });
            }
            Ok(logs)
        }
        (paths, _) => Err(paths.error("it answered beside the point")),
    }
}

/// Has `workers` workers for each build from now on.
///
/// # Errors
/// As [`status`], and where the number is not 1 to 1024.
pub fn scale(cluster: impl AsRef<Path>, workers: usize) -> Result<()> {
    done(cluster, Control::Scale(workers))
}

/// Replaces all workers by new ones. What they ran or held is computed again where it is still wanted.
///
/// # Errors
/// As [`status`].
pub fn restart(cluster: impl AsRef<Path>) -> Result<()> {
    done(cluster, Control::Restart)
}

/// Stops a cluster: programs that are connected lose it, its workers end, its files are removed. Returns when it has ended.
///
/// # Errors
/// As [`status`], and where it does not end.
pub fn stop(cluster: impl AsRef<Path>) -> Result<()> {
    crate::daemon::connect::stop(&ClusterPaths::of(cluster.as_ref())?)
}

/// Where the log of a cluster of that name is kept. Makes the directory if need be.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a bad name, or a runtime directory that others can reach.
pub fn log_file(name: &str) -> Result<PathBuf> {
    let paths = ClusterPaths::named(name)?;
    crate::daemon::paths::make_directory(&crate::daemon::paths::directory())?;
    Ok(paths.log())
}
