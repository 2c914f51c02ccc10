//! The processes that a worker's tasks start: ended with the worker, and reaped by it.
//!
//! A worker leads a process group of its own: no signal to the host's group reaches it, and one signal to its group reaches
//! all that tasks have started. What has left that group is found by a variable in its environment, which names the worker's
//! control page. What has left its parents comes to the worker, which adopts orphans.

use super::page::PageName;
use crate::host::report;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::process::Child;

/// Tells a worker its control page, which it is to remove if the supervisor dies before saying anything. What its tasks
/// start has it too.
pub(super) const PAGE: &str = "SWATH_WORKER_PAGE";

/// Kills a worker and what is in its group. It must not have been waited for.
pub(crate) fn kill_group(worker: u32) {
    match kill(Pid::from_raw(-(worker as i32)), Signal::SIGKILL) {
        // It has ended, and nothing is left of its group.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(e) => report!(Warn, "process {worker} and what its tasks have started cannot be killed: {e}"),
    }
}

/// Ends a worker that has just been started, and forgets it.
pub(crate) fn undo(child: &mut Child) {
    kill_group(child.id());
    let _ = child.wait();
}

/// Whether the process has ended. Its number stays its own until it is waited for.
pub(crate) fn has_ended(child: &Child) -> nix::Result<bool> {
    let how = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    Ok(waitid(Id::Pid(Pid::from_raw(child.id() as i32)), how)? != WaitStatus::StillAlive)
}

/// The processes whose environment, when they were started, had a page that is such a one. Those of other users cannot be
/// seen.
pub(super) fn started_with(is_meant: impl Fn(&PageName) -> bool) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let numbers = entries.flatten().filter_map(number);
    let page = |variable: &[u8]| -> Option<PageName> {
        let value = variable.strip_prefix(PAGE.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()?.parse().ok()
    };
    let meant = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).find_map(page).is_some_and(|page| is_meant(&page))
    };
    numbers.filter(meant).collect()
}

/// How often it is looked for processes that were started while others were being killed.
const ROUNDS: usize = 8;

/// Kills what the tasks of a worker have started that has ended.
pub(crate) fn kill_started_with(page: &PageName) {
    for _ in 0..ROUNDS {
        let left = started_with(|other| other == page);
        let killed = left.iter().filter(|pid| kill(Pid::from_raw(**pid as i32), Signal::SIGKILL).is_ok()).count();
        if killed == 0 {
            return;
        }
    }
}

/// Has this process adopt what its descendants leave behind.
pub(crate) fn adopt_orphans() {
    if let Err(e) = nix::sys::prctl::set_child_subreaper(true) {
        report!(Debug, "what the programs of tasks leave behind goes elsewhere: {e}");
    }
}

/// What there is of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Children {
    None,
    Running,
    Ended,
}

impl Children {
    /// Those of the calling thread alone. Orphans come to the main thread.
    pub(crate) fn of_thread() -> Self {
        Self::among(WaitPidFlag::__WNOTHREAD)
    }

    fn of_process() -> Self {
        Self::among(WaitPidFlag::empty())
    }

    /// Leaves them as they are.
    fn among(which: WaitPidFlag) -> Self {
        let how = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::All, how | which) {
            Ok(WaitStatus::StillAlive) => Self::Running,
            Ok(_) => Self::Ended,
            Err(_) => Self::None,
        }
    }
}

/// The children of the main thread.
pub(crate) fn adopted() -> Vec<u32> {
    let main = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/self/task/{main}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Takes leave of a child, if it has ended.
pub(crate) fn reap(child: u32) {
    let _ = waitpid(Pid::from_raw(child as i32), Some(WaitPidFlag::WNOHANG));
}

/// Kills what this process, which ends, has started and adopted: `descendants` lists it.
pub(crate) fn kill_descendants(descendants: impl Fn() -> Vec<u32>) {
    for _ in 0..ROUNDS {
        if Children::of_process() == Children::None {
            return;
        }
        for pid in descendants() {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
        while Children::of_process() == Children::Ended {
            let _ = waitpid(None, Some(WaitPidFlag::WNOHANG));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::testing::until;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn what_was_started_with_a_page_is_killed_wherever_it_is_and_nothing_else() {
        let page = PageName::new().unwrap();
        let start =
            |page: &PageName| Command::new("sleep").arg("1000").env(PAGE, page.to_string()).process_group(0).spawn();
        let (mut ours, mut other) = (start(&page).unwrap(), start(&page.sibling(7)).unwrap());
        until(|| started_with(|name| *name == page) == [ours.id()]);
        kill_started_with(&page);
        until(|| has_ended(&ours).unwrap());
        assert!(!has_ended(&other).unwrap());
        ours.wait().unwrap();
        undo(&mut other);
    }
}
