//! What the kernel says about a process's memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// The size of a page. Linux on the machines this builds for has no other.
const PAGE: u64 = 4096;

/// Reads how much memory a process uses, on a descriptor that is kept: a microsecond a time.
#[derive(Debug)]
pub(crate) struct Statm(Option<File>);

impl Statm {
    pub(crate) fn of_self() -> Self {
        Self(File::open("/proc/self/statm").ok())
    }

    pub(crate) fn of(pid: u32) -> Self {
        Self(File::open(format!("/proc/{pid}/statm")).ok())
    }

    /// Private resident memory in bytes: shared pages that were touched count for nobody. `None` once it has ended.
    pub(crate) fn private(&self) -> Option<u64> {
        let mut text = [0; 128];
        let n = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        private_bytes(std::str::from_utf8(&text[..n]).ok()?)
    }
}

/// Resident less shared pages, of a line of `/proc/PID/statm`, in bytes.
fn private_bytes(statm: &str) -> Option<u64> {
    let mut fields = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(resident.saturating_sub(shared) * PAGE)
}

/// The processes that a process has started, and those have, as far as they run.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    descendants_and_files(pid).0
}

/// The same, and how many files it took to find them: one for each thread.
pub(super) fn descendants_and_files(pid: u32) -> (Vec<u32>, u32) {
    let mut all = vec![pid];
    let mut next = 0;
    let mut files = 0;
    while let Some(pid) = all.get(next) {
        next += 1;
        // Each thread has children of its own.
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            files += 1;
        }
    }
    (all.split_off(1), files)
}

/// Anonymous memory of a process, each page divided by its users.
pub(super) fn proportional(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|l| l.starts_with("Pss_Anon:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn private_memory_is_what_is_not_shared() {
        assert_eq!(private_bytes("5000 300 100 1 0 400 0"), Some(200 * 4096));
        assert_eq!(private_bytes("5000 100 300 1 0 400 0"), Some(0));
        assert_eq!(private_bytes("5000"), None);
        let before = Statm::of_self().private().unwrap();
        let held = vec![1_u8; 64 << 20];
        assert!(Statm::of(std::process::id()).private().unwrap() > before + (32 << 20));
        drop(held);
    }

    #[test]
    fn grandchildren_are_descendants() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & echo; wait"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The line tells that the sleeper has been started.
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.as_mut().unwrap()), &mut line).unwrap();
        let below = descendants(shell.id());
        assert_eq!(below.len(), 1, "{below:?}");
        assert!(descendants(std::process::id()).contains(&below[0]));
        shell.kill().unwrap();
        shell.wait().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(below[0] as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}
