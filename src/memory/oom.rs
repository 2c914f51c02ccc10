//! Whether it was the kernel that killed a process, for want of memory.
//!
//! Nothing in the end of a process tells a kill by the kernel from one by anybody else. But the kernel counts its kills,
//! for each control group and for the machine, so a count that has risen at the time tells.

use crate::memory::machine::available_memory;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a kill that has been counted waits for the death it belongs to.
const LAG: Duration = Duration::from_secs(1);
/// How often the machine's memory is read.
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
    counter: Option<PathBuf>,
    /// Kills that belong to deaths which are known, or to processes that are none of ours.
    settled: u64,
    /// The count a while ago, and when that was.
    lately: (u64, Instant),
    available: (Option<u64>, Instant),
}

impl Killer {
    /// Watches the control group of this process, which its children are in too.
    pub(crate) fn new() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let counters = counters(&read("/proc/self/cgroup"), &read("/proc/self/mounts"));
        Self::of(counters.into_iter().find(|path| count(path).is_some()))
    }

    fn of(counter: Option<PathBuf>) -> Self {
        let now = Instant::now();
        let kills = counter.as_deref().and_then(count).unwrap_or(0);
        Self { counter, settled: kills, lately: (kills, now), available: (available_memory().ok(), now) }
    }

    /// To be called now and then.
    pub(crate) fn poll(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.available.1) >= POLL {
            self.available = (available_memory().ok(), now);
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

    /// What the machine had available at the last poll, in bytes.
    pub(crate) fn available(&self) -> Option<u64> {
        self.available.0
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

/// The number behind `oom_kill` in a file of such lines.
fn count(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The files that may hold the count, the most telling first, given `/proc/self/cgroup` and `/proc/self/mounts`.
fn counters(cgroups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(root), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (controller, file) = match kind {
            "cgroup2" => ("", "memory.events"),
            "cgroup" if options.split(',').any(|o| o == "memory") => ("memory", "memory.oom_control"),
            _ => continue,
        };
        let mine = cgroups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            controllers.split(',').any(|c| c == controller).then(|| fields.next()).flatten()
        });
        if let Some(path) = mine {
            files.push(Path::new(root).join(path.trim_start_matches('/')).join(file));
        }
        // In a container the path may be that of the host, and the mount just its end.
        files.push(Path::new(root).join(file));
    }
    files.push(PathBuf::from("/proc/vmstat"));
    files
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_count_is_looked_for_where_this_process_is() {
        let two = counters("0::/user.slice/app\n", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n");
        let wanted = ["/sys/fs/cgroup/user.slice/app/memory.events", "/sys/fs/cgroup/memory.events", "/proc/vmstat"];
        assert_eq!(two, wanted.map(PathBuf::from));
        let one = counters(
            "5:cpu,cpuacct:/x\n4:memory:/box/1\n0::/\n",
            "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /cg/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup /cg/memory cgroup rw,memory 0 0\n",
        );
        let wanted = ["/cg/memory/box/1/memory.oom_control", "/cg/memory/memory.oom_control", "/proc/vmstat"];
        assert_eq!(one, wanted.map(PathBuf::from));
        assert_eq!(counters("", "nonsense\n"), [PathBuf::from("/proc/vmstat")]);
    }

    #[test]
    fn each_kill_explains_one_death() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        let kills =
            |n: u64| fs::write(&file, format!("low 7\nmax 9\noom 5\noom_kill {n}\noom_group_kill 0\n")).unwrap();
        kills(3);
        let mut killer = Killer::of(Some(file.clone()));
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
        assert!(killer.available().unwrap() > 0);
    }
}
