//! Whether it was the kernel that killed a process, for want of memory.
//!
//! Nothing in the end of a process tells a kill by the kernel from one by anybody else. But the kernel counts its kills,
//! for each control group and for the machine, so a count that has risen at the time tells.

use crate::machine::control_group::{Group, value_of};
use crate::machine::{AvailableMemory, available_in, groups};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a kill that has been counted waits for the death it belongs to.
const LAG: Duration = Duration::from_secs(1);
/// How often it is read what memory there is.
const POLL: Duration = Duration::from_millis(100);

/// What is known of a death by SIGKILL that nobody has owned up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The kernel has killed a process since.
    Kernel,
    /// It has killed none.
    SomebodyElse,
    /// The kernel does not say.
    Unknown,
}

/// The kernel's count of its kills, and those that have been told of.
#[derive(Debug)]
pub(crate) struct Killer {
    groups: Vec<Group>,
    counter: Option<PathBuf>,
    /// Kills that belong to deaths which are known, or to processes that are none of ours.
    settled: u64,
    /// The count a while ago, and when that was.
    lately: (u64, Instant),
    available: (Option<AvailableMemory>, Instant),
}

impl Killer {
    /// Watches the control group of this process, which its children are in too.
    pub(crate) fn new() -> Self {
        let groups = groups("memory");
        let counter = counters(&groups).find(|path| count(path).is_some());
        Self::of(groups, counter)
    }

    fn of(groups: Vec<Group>, counter: Option<PathBuf>) -> Self {
        let now = Instant::now();
        let kills = counter.as_deref().and_then(count).unwrap_or(0);
        let available = (available_in(&groups).ok(), now);
        Self { groups, counter, settled: kills, lately: (kills, now), available }
    }

    /// To be called now and then.
    pub(crate) fn poll(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.available.1) >= POLL {
            self.available = (available_in(&self.groups).ok(), now);
        }
        if now.duration_since(self.lately.1) >= LAG {
            self.settle(now);
        }
    }

    fn settle(&mut self, now: Instant) {
        self.settled = self.settled.max(self.lately.0);
        let kills = self.counter.as_deref().and_then(count);
        self.lately = (kills.unwrap_or(self.lately.0), now);
    }

    /// What memory there was at the last poll.
    pub(crate) fn available(&self) -> Option<AvailableMemory> {
        self.available.0.clone()
    }

    /// A process was killed, and nobody here did it.
    pub(crate) fn verdict(&mut self) -> Verdict {
        match self.counter.as_deref().and_then(count) {
            None => Verdict::Unknown,
            Some(kills) if kills > self.settled => {
                self.settled += 1;
                Verdict::Kernel
            }
            Some(_) => Verdict::SomebodyElse,
        }
    }
}

/// How often the kernel has killed, by a file of such lines.
fn count(path: &Path) -> Option<u64> {
    value_of(&fs::read_to_string(path).ok()?, "oom_kill")
}

/// The files that may hold the count, the most telling first.
fn counters(groups: &[Group]) -> impl Iterator<Item = PathBuf> {
    groups.iter().map(Group::kills).chain([PathBuf::from("/proc/vmstat")])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::machine::control_group::enclosing;

    #[test]
    fn the_count_is_looked_for_where_this_process_is() {
        let of = |cgroups, mounts| counters(&enclosing(cgroups, mounts, "memory")).collect::<Vec<_>>();
        let two = of("0::/user.slice/app\n", "31 24 0:27 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n");
        let wanted = [
            "/sys/fs/cgroup/user.slice/app/memory.events",
            "/sys/fs/cgroup/user.slice/memory.events",
            "/sys/fs/cgroup/memory.events",
            "/proc/vmstat",
        ];
        assert_eq!(two, wanted.map(PathBuf::from));
        let one = of(
            "5:cpu,cpuacct:/x\n4:memory:/box/1\n0::/\n",
            "1 0 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n2 1 0:2 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
             3 1 0:3 / /cg/memory rw - cgroup cgroup rw,memory\n",
        );
        let wanted =
            ["/cg/memory/box/1", "/cg/memory/box", "/cg/memory"].map(|path| format!("{path}/memory.oom_control"));
        assert_eq!(one, [&*wanted[0], &wanted[1], &wanted[2], "/proc/vmstat"].map(PathBuf::from));
        assert_eq!(of("", "nonsense\n"), [PathBuf::from("/proc/vmstat")]);
    }

    #[test]
    fn each_kill_explains_one_death() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        let kills =
            |n: u64| fs::write(&file, format!("low 7\nmax 9\noom 5\noom_kill {n}\noom_group_kill 0\n")).unwrap();
        kills(3);
        let mut killer = Killer::of(Vec::new(), Some(file.clone()));
        assert_eq!(killer.verdict(), Verdict::SomebodyElse, "what was before counts for nothing");
        kills(5);
        assert_eq!([killer.verdict(), killer.verdict()], [Verdict::Kernel; 2]);
        assert_eq!(killer.verdict(), Verdict::SomebodyElse);
        // One that hit a process of somebody else's is forgotten after a while, but not at once.
        kills(6);
        killer.settle(Instant::now());
        assert_eq!(killer.settled, 5);
        killer.settle(Instant::now());
        assert_eq!(killer.verdict(), Verdict::SomebodyElse);
        fs::write(&file, "low 7\n").unwrap();
        assert_eq!(killer.verdict(), Verdict::Unknown);
        fs::remove_file(&file).unwrap();
        assert_eq!(killer.verdict(), Verdict::Unknown);
        killer.poll();
        assert!(killer.available().unwrap().bytes > 0);
    }
}
