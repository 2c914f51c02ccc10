//! Other processes: this program started again, and what the kernel says about them.

use crate::options::{Child, Options};
use crate::report::{Outcome, require};
use crate::{failing, fair, floors, printing, startup};
use std::process::{Command, Stdio};

/// This executable, also when its file has been replaced.
pub(crate) const SELF: &str = "/proc/self/exe";

const MIB: f64 = 1024.0;

/// Ends the process when it goes, however that happens.
pub(crate) struct Guard(pub(crate) std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Fails where the process has ended already, as it should have.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What this program does where it has started itself.
pub(crate) fn child(child: Child, options: &Options) -> Outcome {
    match child {
        Child::Exec => Ok(()),
        Child::Pong => floors::pong(),
        Child::Startup => startup::child(options),
        Child::Print => printing::child(options),
        Child::Failing => failing::child(options),
        Child::Sleep => floors::sleep(),
        Child::Serve => fair::serve(options),
    }
}

/// Measures one system of a workload in a process of its own, which tells its measurements by itself.
pub(crate) fn again(workload: &str, system: &str, options: &Options) -> Outcome {
    again_with(workload, system, options, |_| {})
}

/// As [`again`], started with more.
pub(crate) fn again_with(workload: &str, system: &str, options: &Options, more: impl FnOnce(&mut Command)) -> Outcome {
    let mut command = Command::new(SELF);
    command.args([workload, "--systems", system, "--repeat", &options.repeat.to_string()]);
    if options.quick {
        command.arg("--quick");
    }
    for (name, value) in [("--n", options.n), ("--workers", options.workers.map(|w| w as u64))] {
        if let Some(value) = value {
            command.args([name, &value.to_string()]);
        }
    }
    if let Some(parts) = &options.part {
        command.args(["--part", &parts.join(",")]);
    }
    if let Some(via) = &options.via {
        command.args(["--via", &via.join(",")]);
    }
    more(&mut command);
    require(command.status()?.success(), "the process failed")
}

/// A process that sleeps as long as this is kept.
pub(crate) fn start_sleeper() -> Outcome<Guard> {
    let name = Child::ALL.iter().find(|(_, c)| *c == Child::Sleep).map_or("", |(name, _)| name);
    Ok(Guard(Command::new(SELF).arg(name).stdin(Stdio::piped()).spawn()?))
}

/// Bytes of memory this process has.
pub(crate) fn resident() -> Outcome<u64> {
    Ok((usage(std::process::id())?.rss * MIB * MIB) as u64)
}

/// Memory of a process, in MiB.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) rss: f64,
    pub(crate) pss: f64,
    pub(crate) private: f64,
}

impl Usage {
    fn parse(smaps_rollup: &str) -> Self {
        let mut usage = Self::default();
        for line in smaps_rollup.lines() {
            let mut words = line.split_whitespace();
            let (name, kib) = (words.next(), words.next().and_then(|w| w.parse::<f64>().ok()));
            let mib = kib.unwrap_or_default() / MIB;
            match name {
                Some("Rss:") => usage.rss += mib,
                Some("Pss:") => usage.pss += mib,
                Some("Private_Clean:" | "Private_Dirty:") => usage.private += mib,
                _ => {}
            }
        }
        usage
    }
}

pub(crate) fn usage(pid: u32) -> Outcome<Usage> {
    Ok(Usage::parse(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?))
}

/// Processor time of all threads that a process has, in nanoseconds; `None` if it has ended.
pub(crate) fn cpu_nanos(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next().and_then(|w| w.parse::<u64>().ok()).unwrap_or_default();
    }
    Some(sum)
}

/// How often the threads of a process have gone to sleep, and so were woken; `None` if it has ended.
pub(crate) fn wake_ups(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let Ok(text) = std::fs::read_to_string(thread.path().join("status")) else { continue };
        let slept = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += slept.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or_default();
    }
    Some(sum)
}

/// The parent in the text of a `/proc/PID/stat`.
fn parent(stat: &str) -> Option<u32> {
    // The name in brackets may itself have spaces and brackets in it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A process and all its descendants.
pub(crate) fn family(root: u32) -> Outcome<Vec<u32>> {
    let mut all: Vec<(u32, u32)> = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        all.extend(parent(&stat).map(|parent| (pid, parent)));
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&pid) = family.get(next) {
        family.extend(all.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
        next += 1;
    }
    Ok(family)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_read() {
        let text = "00-ff ---p 0 00:00 0 [rollup]\nRss:  2048 kB\nPss:  1024 kB\nPss_Anon: 7 kB\n\
                    Private_Clean: 256 kB\nPrivate_Dirty:  256 kB\n";
        assert_eq!(Usage::parse(text), Usage { rss: 2.0, pss: 1.0, private: 0.5 });
        assert!(usage(std::process::id()).unwrap().rss > 0.1);
        assert!(resident().unwrap() > 100_000);
    }

    #[test]
    fn parents_are_read() {
        assert_eq!(parent("12 (a) b (c)) S 7 12 12 0"), Some(7));
        assert_eq!(parent("no process"), None);
        assert_eq!(family(std::process::id()).unwrap()[0], std::process::id());
    }

    #[test]
    fn processor_time_is_read() {
        assert!(cpu_nanos(std::process::id()).is_some());
        assert!(cpu_nanos(u32::MAX).is_none());
        assert!(wake_ups(std::process::id()).is_some() && wake_ups(u32::MAX).is_none());
    }
}
