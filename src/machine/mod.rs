//! What this process may use: the least of the machine, its affinity, and every enclosing control group.
//!
//! [`control_group`] knows where the control groups are and what their files say, of either version; here it is put
//! together with what the machine says. All is read anew at each call: a few small files, about 0.1 ms.

pub(crate) mod control_group;

use crate::units::{HumanBytes, counted};
use control_group::{Group, Usage, enclosing, read_file};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// What a program may use, and what bounds it.
///
/// ```
/// let machine = swath::local::machine()?;
/// assert!(machine.cores >= 1 && machine.memory_bytes > 0);
/// println!("{machine}"); // 2 cores (affinity), 629.1 MB (control group /sys/fs/cgroup/memory/box)
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Machine {
    /// How many threads can run at a time.
    pub cores: usize,
    /// What bounds the cores.
    pub cores_bound: Bound,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// What bounds the memory.
    pub memory_bound: Bound,
}

/// What bounds cores or memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Bound {
    /// The machine: it has no more.
    Machine,
    /// The affinity of the process, or the set of processors of its control group: it may run on no more.
    Affinity,
    /// The limit or quota of this control group, given as its directory.
    ControlGroup(PathBuf),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("machine"),
            Self::Affinity => f.write_str("affinity"),
            Self::ControlGroup(directory) => write!(f, "control group {}", directory.display()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cores, memory) = (counted(self.cores as u64, "core"), HumanBytes(self.memory_bytes));
        write!(f, "{cores} ({}), {memory} ({})", self.cores_bound, self.memory_bound)
    }
}

impl Machine {
    /// # Errors
    /// Where the system does not tell its memory.
    pub(crate) fn read() -> io::Result<Self> {
        let (memory_bytes, memory_bound) = bounded_memory(total_of_machine()?, &groups("memory"));
        let (cores, cores_bound) = bounded_cores();
        Ok(Self { cores, cores_bound, memory_bytes, memory_bound })
    }
}

/// Memory that could be had at some time: the least that was left of the machine and of each enclosing control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AvailableMemory {
    /// Bytes that could be had.
    pub bytes: u64,
    /// Of so many bytes, used or not.
    pub of: u64,
    /// What had no more.
    pub bound: Bound,
}

/// `the control group /sys/fs/cgroup/memory/box had 12.0 MB of 629.1 MB available`
impl fmt::Display for AvailableMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} had {} of {} available", self.bound, HumanBytes(self.bytes), HumanBytes(self.of))
    }
}

/// How many threads can run at a time: by the machine, the affinity and the quotas of control groups.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// The memory in bytes that this process and those beside it in its control group may use.
///
/// # Errors
/// Where the system does not tell.
pub(crate) fn total_memory() -> io::Result<u64> {
    Ok(bounded_memory(total_of_machine()?, &groups("memory")).0)
}

/// The memory that could be had now: the least that is left of the machine and of each enclosing control group.
///
/// # Errors
/// Where the system does not tell.
pub(crate) fn available_memory() -> io::Result<AvailableMemory> {
    available_in(&groups("memory"))
}

/// [`available_memory`], given the [`groups`].
///
/// # Errors
/// Where the system does not tell.
pub(crate) fn available_in(groups: &[Group]) -> io::Result<AvailableMemory> {
    let machine = AvailableMemory { bytes: meminfo("MemAvailable:")?, of: total_of_machine()?, bound: Bound::Machine };
    Ok(least_available(machine, groups))
}

/// The control groups that bound this process, its own first.
pub(crate) fn groups(controller: &str) -> Vec<Group> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    enclosing(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"), controller)
}

fn bounded_memory(machine: u64, groups: &[Group]) -> (u64, Bound) {
    let least = control_group::memory(groups, &read_file).into_iter().min_by_key(|usage| usage.limit);
    match least.filter(|usage| usage.limit < machine) {
        Some(Usage { limit, group, .. }) => (limit, Bound::ControlGroup(group)),
        None => (machine, Bound::Machine),
    }
}

fn least_available(machine: AvailableMemory, groups: &[Group]) -> AvailableMemory {
    control_group::memory(groups, &read_file).into_iter().fold(machine, |least, usage| {
        let bytes = usage.limit.saturating_sub(usage.used);
        match bytes < least.bytes {
            true => AvailableMemory { bytes, of: usage.limit, bound: Bound::ControlGroup(usage.group) },
            false => least,
        }
    })
}

fn bounded_cores() -> (usize, Bound) {
    let (cores, list) = (cores(), |path: &str| std::fs::read_to_string(path).ok());
    let online = list("/sys/devices/system/cpu/online").and_then(|text| listed(&text));
    let status = list("/proc/thread-self/status");
    let allowed = status.as_deref().and_then(|text| field(text, "Cpus_allowed_list:")).and_then(listed);
    let quota = || control_group::least_quota(&groups("cpu"), &read_file);
    let bound = match (allowed, online) {
        (Some(allowed), _) if cores < allowed => quota().map_or(Bound::Affinity, Bound::ControlGroup),
        (Some(allowed), Some(online)) if allowed < online => Bound::Affinity,
        _ => Bound::Machine,
    };
    (cores, bound)
}

/// What stands behind a name at the beginning of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// How many numbers are in a list as `0-3,8`.
fn listed(list: &str) -> Option<usize> {
    list.trim().split(',').try_fold(0_usize, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

fn total_of_machine() -> io::Result<u64> {
    meminfo("MemTotal:")
}

fn meminfo(name: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    kibibytes(&text, name).ok_or_else(|| io::Error::other(format!("/proc/meminfo has no {name}")))
}

fn kibibytes(meminfo: &str, name: &str) -> Option<u64> {
    field(meminfo, name)?.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_of_processors_are_counted() {
        for (text, count) in [("0\n", 1), ("0-3\n", 4), ("0-3,8,10-11", 7), ("127", 1)] {
            assert_eq!(listed(text), Some(count), "{text}");
        }
        for text in ["", "\n", "a", "3-1", "1-", "0,,1", "0-18446744073709551615"] {
            assert_eq!(listed(text), None, "{text}");
        }
    }

    #[test]
    fn memory_is_read_in_kibibytes() {
        let text = "MemTotal:       24543436 kB\nMemFree:        1 kB\nMemAvailable:   23456 kB\nOdd:\nBig: 18446744073709551615 kB\n";
        assert_eq!(kibibytes(text, "MemTotal:"), Some(24_543_436 << 10));
        assert_eq!(kibibytes(text, "MemAvailable:"), Some(23_456 << 10));
        assert_eq!(["Mem:", "Odd:", "Big:"].map(|name| kibibytes(text, name)), [None; 3]);
    }

    #[test]
    fn this_machine_tells_what_it_has() {
        let machine = Machine::read().unwrap();
        let available = available_memory().unwrap();
        assert_eq!((machine.cores, machine.memory_bytes), (cores(), total_memory().unwrap()));
        assert!(
            machine.cores >= 1 && available.bytes > 0 && available.bytes <= available.of,
            "{machine} {available:?}"
        );
    }

    #[test]
    fn what_bounds_is_said() {
        let group = Bound::ControlGroup("/sys/fs/cgroup/box".into());
        let machine = Machine { cores: 1, cores_bound: group.clone(), memory_bytes: 600 << 20, memory_bound: group };
        let (cores, memory) =
            ("1 core (control group /sys/fs/cgroup/box)", "629.1 MB (control group /sys/fs/cgroup/box)");
        assert_eq!(machine.to_string(), format!("{cores}, {memory}"));
        let machine = Machine { cores: 2, cores_bound: Bound::Affinity, memory_bound: Bound::Machine, ..machine };
        assert_eq!(machine.to_string(), "2 cores (affinity), 629.1 MB (machine)");
    }
}
