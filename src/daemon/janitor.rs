//! What is left of a cluster that is killed goes away all the same.
//!
//! A process that gets SIGKILL can't remove its files, and its workers, which survive it by some milliseconds, may not have
//! been started. So the cluster starts a process of its own executable that waits for its end.

use super::paths;
use super::paths::{ClusterPaths, Lock};
use crate::ipc::page::{PageName, start_time};
use crate::ipc::start;
use std::io::{PipeWriter, Write};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// How long a cluster may take to end, and its lock to be free: a process that it was just starting has all its descriptors
/// until it becomes a worker.
const DYING: Duration = Duration::from_secs(5);

/// The cluster's hold on its janitor.
pub(crate) struct Janitor(Option<(Child, PipeWriter)>);

impl Janitor {
    pub(crate) fn start(paths: &ClusterPaths) -> Self {
        let started = start::spawn_janitor(&paths.socket);
        Self(started.inspect_err(|e| log::warn!("files of this cluster will stay if it is killed: {e}")).ok())
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        let Some((mut child, mut pipe)) = self.0.take() else { return };
        if let Err(e) = pipe.write_all(&[0]).and_then(|()| child.wait()) {
            log::debug!("the janitor has gone before: {e}");
        }
    }
}

/// In the janitor: the cluster of that process has ended. Its log is kept: it may say why.
pub(crate) fn clean_up_after(process: u32, socket: &Path) {
    let Ok(paths) = ClusterPaths::of(socket) else { return };
    let began = Instant::now();
    let is_dying = || {
        std::thread::sleep(Duration::from_millis(1));
        began.elapsed() < DYING
    };
    // A dying process closes its descriptors a little before its end.
    while start_time(process).is_some() && is_dying() {}
    // Another cluster may have begun there already. It cleans up itself.
    while paths::pid(&paths) == Some(process) {
        match Lock::of_dead(&paths) {
            Ok(Some(lock)) => lock.remove_but_log(),
            Ok(None) if is_dying() => {}
            _ => break,
        }
    }
    start::wake_orphans(&PageName::sweep());
}
