//! Names of control pages, which tell their owner, and the removal of pages whose owner has ended.

use super::PageError;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use shared_memory::ShmemError;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub(super) const SHM_DIR: &str = "/dev/shm";

/// Name of a page: `swath-<pid>-<start time>-<16 hex digits>-<number>`. Process id and start time tell its owner, the
/// random part keeps it from being guessed, the number tells the pages of one owner apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct PageName {
    pid: u32,
    start: u64,
    token: u64,
    number: u32,
}

impl PageName {
    /// A new name of this process's, numbered 0.
    pub(crate) fn new() -> io::Result<Self> {
        let pid = std::process::id();
        let start = start_time(pid).ok_or_else(|| io::Error::other("/proc/self/stat can't be read: mount /proc"))?;
        let mut token = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut token)?;
        Ok(Self { pid, start, token: u64::from_le_bytes(token), number: 0 })
    }

    /// Another page of the same owner.
    pub(crate) fn sibling(&self, number: u32) -> Self {
        Self { number, ..self.clone() }
    }

    /// Process id of its owner.
    pub(crate) fn owner(&self) -> u32 {
        self.pid
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new(SHM_DIR).join(self.to_string())
    }

    pub(super) fn open_file(&self) -> io::Result<File> {
        // Anyone may make names in that directory, so a link is not followed.
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(self.path())
    }

    pub(super) fn io_error(&self, source: io::Error, size: usize) -> PageError {
        match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
            Errno::ENOSPC => PageError::NoSpace(size),
            _ => PageError::Io { name: self.to_string(), source },
        }
    }

    pub(super) fn shmem_error(&self, error: ShmemError, size: usize) -> PageError {
        match error {
            ShmemError::MapCreateFailed(n) | ShmemError::MapOpenFailed(n) | ShmemError::UnknownOsError(n) => {
                self.io_error(io::Error::from_raw_os_error(n as i32), size)
            }
            e => self.io_error(io::Error::other(e), size),
        }
    }

    /// Removes all pages of that name, whatever their number. For their owner, which may have others.
    pub(crate) fn unlink_all(&self) {
        remove_where(|other| other.has_owner_of(self) && other.token == self.token);
    }

    /// Removes all pages of this name's owner. For whoever survives it.
    pub(crate) fn unlink_orphans(&self) {
        remove_where(|other| other.has_owner_of(self));
    }

    /// Whether both belong to the same process.
    pub(crate) fn has_owner_of(&self, other: &Self) -> bool {
        (self.pid, self.start) == (other.pid, other.start)
    }

    /// Removes pages of our user whose owner has ended, and says which. For the start of a supervisor: what is left is
    /// from a crash nobody survived.
    pub(crate) fn sweep() -> Vec<Self> {
        remove_where(|name| {
            let unlocked = || name.open_file().is_ok_and(|file| file.try_lock().is_ok());
            start_time(name.pid) != Some(name.start) && unlocked()
        })
    }
}

fn remove_where(orphaned: impl Fn(&PageName) -> bool) -> Vec<PageName> {
    let mut removed = Vec::new();
    let Ok(entries) = fs::read_dir(SHM_DIR) else { return removed };
    let us = geteuid().as_raw();
    for entry in entries.flatten() {
        let Some(name) = entry.file_name().to_str().and_then(|s| s.parse::<PageName>().ok()) else { continue };
        let ours = entry.metadata().is_ok_and(|m| m.is_file() && m.uid() == us);
        if ours && orphaned(&name) && fs::remove_file(entry.path()).is_ok() {
            removed.push(name);
        }
    }
    removed
}

impl fmt::Display for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "swath-{}-{}-{:016x}-{}", self.pid, self.start, self.token, self.number)
    }
}

/// The text is no name of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a control page")]
pub(crate) struct BadPageName;

impl FromStr for PageName {
    type Err = BadPageName;

    fn from_str(s: &str) -> Result<Self, BadPageName> {
        let parse = || {
            let mut parts = s.strip_prefix("swath-")?.split('-');
            let name = Self {
                pid: parts.next()?.parse().ok()?,
                start: parts.next()?.parse().ok()?,
                token: u64::from_str_radix(parts.next()?, 16).ok()?,
                number: parts.next()?.parse().ok()?,
            };
            // Numbers have other spellings (signs, leading zeroes); only ours is a name of ours.
            (name.to_string() == s).then_some(name)
        };
        parse().ok_or(BadPageName)
    }
}

/// When a process started, in ticks since boot. `None` where there is no such process.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command's name in parentheses, and may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    // Dead, though nobody has waited for it: where the first process of a container does not, it stays so for ever.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(22 - 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::ControlPage;
    use super::*;
    use crate::ipc::testing;
    use std::process::{Command, Stdio};

    #[test]
    fn names_come_back_and_others_are_refused() {
        let name = PageName { pid: 4, start: 88, token: 0xab, number: 3 };
        assert_eq!(name.to_string(), "swath-4-88-00000000000000ab-3");
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
        for bad in [
            "",
            "swath",
            "swath-4-88-ab-3",
            "swath-4-88-00000000000000ab",
            "swath-4-88-00000000000000ab-3-4",
            "swath-04-88-00000000000000ab-3",
            "swath-+4-88-00000000000000ab-3",
            "swath-4-88-00000000000000AB-3",
            "swath-4-88-00000000000000ab-../x",
            "xswath-4-88-00000000000000ab-3",
        ] {
            assert_eq!(bad.parse::<PageName>(), Err(BadPageName), "{bad}");
        }
    }

    #[test]
    fn a_sweep_takes_what_the_dead_left_and_nothing_else() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let alive = PageName {
            pid: child.id(),
            start: start_time(child.id()).unwrap(),
            token: PageName::new().unwrap().token,
            number: 0,
        };
        let page = |name: &PageName| fs::write(name.path(), [0; 64]).unwrap();
        // Same process id, other start time: the id has been used again.
        let dead = PageName { start: alive.start.wrapping_add(1), ..alive.clone() };
        let held = PageName { number: 1, ..dead.clone() };
        let mine = ControlPage::create(&PageName::new().unwrap(), 0).unwrap();
        page(&alive);
        page(&dead);
        page(&held);
        // Locked by a process we can't see: one of another pid namespace.
        let lock = held.open_file().unwrap();
        lock.try_lock().unwrap();
        PageName::sweep();
        assert!(alive.path().exists() && mine.name().path().exists() && held.path().exists());
        assert!(!dead.path().exists());
        drop(lock);
        child.kill().unwrap();
        child.wait().unwrap();
        // A process that another test is starting has the lock until it is another program.
        testing::until(|| {
            PageName::sweep();
            !alive.path().exists() && !held.path().exists()
        });
        assert!(mine.name().path().exists());
    }

    #[test]
    fn an_owner_removes_pages_of_one_name_and_a_survivor_all() {
        let name = PageName::new().unwrap();
        let other = ControlPage::create(&PageName::new().unwrap(), 0).unwrap();
        let pages: Vec<_> = (0..3).map(|i| ControlPage::create(&name.sibling(i), 0).unwrap()).collect();
        name.unlink_all();
        assert!(pages.iter().all(|p| !p.name().path().exists()));
        assert!(other.name().path().exists());

        let of_the_dead = |token| PageName { pid: 4, start: 88, token, number: 0 };
        let (page, sibling) = (of_the_dead(1), of_the_dead(2));
        for name in [&page, &sibling] {
            fs::write(name.path(), [0; 64]).unwrap();
        }
        page.unlink_orphans();
        assert!(!page.path().exists() && !sibling.path().exists() && other.name().path().exists());
    }
}
