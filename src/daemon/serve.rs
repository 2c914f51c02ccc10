//! The cluster's process from its lock to its end: its socket, its signals, its event loop.

use super::janitor::Janitor;
use super::paths;
use super::paths::{ClusterPaths, Lock};
use super::recording::ClusterRecording;
use crate::daemon::actor::Daemon;
use crate::daemon::actor::accept;
use crate::daemon::commands::end;
use crate::error::Result;
use crate::host::{self, Hosted, report};
use crate::ipc::event_loop::register;
use crate::ipc::signals::is_ignored;
use crate::ipc::start;
use crate::settings::Settings;
use crate::status::ClusterStatus;
use crate::supervisor::SharedMemory;
use actix::prelude::*;
use interprocess::local_socket::{GenericFilePath, Listener, ListenerNonblockingMode, ListenerOptions, ToFsName};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UnixListener;

/// How long a start waits for another start or stop of the same name.
const TURN: Duration = Duration::from_secs(3);

/// Runs the cluster until it is told to stop.
pub(crate) fn serve(
    paths: ClusterPaths,
    settings: Settings,
    record: Option<(PathBuf, Option<u64>)>,
    ready: impl FnOnce(&ClusterStatus),
) -> Result<()> {
    let dir = paths.directory();
    paths::make_directory(dir)?;
    let mut lock = take_lock(&paths)?;
    if let Err(e) = paths::remove_stale_socket(&paths) {
        lock.give_back();
        return Err(e);
    }
    if dir == paths::directory() {
        paths::sweep(dir);
    }
    let failed = |what: &str, e: &dyn std::fmt::Display| paths.error(format!("{what}: {e}"));
    if let Err(e) = lock.write_pid() {
        lock.give_back();
        return Err(failed("its process id cannot be written down", &e));
    }
    start::raise_descriptor_limit();
    let janitor = Janitor::start(&paths);
    let recording =
        match record.map(|(directory, limit)| ClusterRecording::start(&directory, limit, &paths)).transpose() {
            Ok(recording) => recording.map(Arc::new),
            Err(e) => {
                lock.remove();
                return Err(e);
            }
        };
    let outcome = run(&paths, settings, recording.clone(), ready, &failed);
    if let Some(recording) = recording {
        recording.finish();
    }
    host::finish();
    lock.remove();
    drop(janitor);
    outcome
}

fn run(
    paths: &ClusterPaths,
    settings: Settings,
    recording: Option<Arc<ClusterRecording>>,
    ready: impl FnOnce(&ClusterStatus),
    failed: &dyn Fn(&str, &dyn std::fmt::Display) -> crate::Error,
) -> Result<()> {
    let _hosted = Hosted::begin();
    let shared = SharedMemory::new(&settings)?;
    let listener = bind(paths).map_err(|e| failed("its socket cannot be made", &e))?;
    let signals = signals().map_err(|e| failed("signals cannot be waited for", &e))?;
    let system = System::new();
    let status = system.block_on(async {
        let listener = UnixListener::from_std(listener)?;
        let cluster = Daemon::new(paths.clone(), settings, shared, recording);
        let status = cluster.status();
        let cluster = cluster.start();
        actix::spawn(accept(listener, cluster.clone()));
        let told = register(signals.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        actix::spawn(async move {
            if told.readable().await.is_ok() {
                report!(Info, "stopping: a signal came");
                end(&cluster).await;
                System::current().stop();
            }
        });
        io::Result::Ok(status)
    });
    let status = status.map_err(|e| failed("its event loop cannot be made", &e))?;
    report!(Info, "local cluster `{}` waits at {}", paths.name, paths.socket.display());
    ready(&status);
    system.run().map_err(|e| failed("its event loop failed", &e))
}

fn take_lock(paths: &ClusterPaths) -> Result<Lock> {
    let until = Instant::now() + TURN;
    loop {
        if let Some(lock) = Lock::take(paths)? {
            return Ok(lock);
        }
        if paths::is_listening(paths) || Instant::now() > until {
            let pid = paths::pid(paths).map_or_else(String::new, |pid| format!(" (process {pid})"));
            return Err(paths.error(format!(
                "it is already running{pid}; connect to it, stop it with `local-cluster stop --name {}`, or choose \
                 another name",
                paths.as_told()
            )));
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn bind(paths: &ClusterPaths) -> io::Result<StdListener> {
    let options = ListenerOptions::new()
        .name(paths.socket.as_os_str().to_fs_name::<GenericFilePath>()?)
        .mode(0o600)
        .nonblocking(ListenerNonblockingMode::Accept)
        .reclaim_name(false);
    let Listener::UdSocket(listener) = options.create_sync()?;
    Ok(listener.into())
}

/// Signals become something to read. Blocked in this thread, and in those that it starts. Who starts a cluster with `nohup`
/// does not want SIGHUP to end it.
fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    if !is_ignored(Signal::SIGHUP) {
        set.add(Signal::SIGHUP);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}
