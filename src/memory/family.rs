//! The processes that a worker's tasks have started, found again and again at little cost.
//!
//! The kernel lists the children of each thread in a file of its own, and a worker has a thread for each task that waits.
//! So these files are read only where a process of the family may have come: the kernel numbers processes and threads in
//! order and tells the latest number, also of those that start in a PID namespace below. Where nobody has started anything
//! there is nothing to look for; where others have, theirs are told from ours by their parents.

use super::process::{Statm, descendants_and_files, proportional};
use std::fs;
use std::time::{Duration, Instant};

/// A process has its number a moment before it can be found; so much later it can be.
const SETTLED: Duration = Duration::from_millis(100);

/// All is looked at so often in any case: a process may be started with a number of somebody's choice, and not every kernel
/// that looks like Linux tells the latest.
const LONGEST: Duration = Duration::from_secs(5);

/// A process and its descendants.
#[derive(Debug)]
pub(crate) struct Family {
    pid: u32,
    descendants: Vec<u32>,
    /// When all was looked at, and how many files that took.
    complete: Option<(Instant, u32)>,
    /// Up to this number all have been looked at that are there.
    settled: u32,
    /// Who has been looked at beyond that, in order: none of ours.
    others: Vec<u32>,
    /// The latest number, as it was then: who had it can be found soon.
    latest: Option<(u32, Instant)>,
}

impl Family {
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, descendants: Vec::new(), complete: None, settled: 0, others: Vec::new(), latest: None }
    }

    /// Private memory of all of them in bytes, where `own` is that of the process itself. A page that a fork shares with its
    /// parent counts once where they have more than `suspicious`.
    pub(crate) fn private(&mut self, own: u64, suspicious: u64) -> u64 {
        self.look(latest_pid(), Instant::now());
        let private = |pid: &u32| Statm::of(*pid).private().unwrap_or(0);
        let sum = own + self.descendants.iter().map(private).sum::<u64>();
        if self.descendants.is_empty() || sum < suspicious {
            return sum;
        }
        // This takes milliseconds, so only when much depends on it.
        let shares = std::iter::once(&self.pid).chain(&self.descendants).map(|pid| proportional(*pid));
        shares.sum::<Option<u64>>().unwrap_or(sum)
    }

    /// Finds them, where `latest` is the number of the latest process or thread, if that is known. The answer is how many
    /// files have been read.
    fn look(&mut self, latest: Option<u32>, now: Instant) -> u32 {
        let mut read = 0;
        if self.may_have_grown(latest, now, &mut read) {
            let (descendants, files) = descendants_and_files(self.pid);
            self.descendants = descendants;
            self.complete = Some((now, files));
            read += files;
        }
        match (latest, self.latest) {
            (Some(latest), None) => self.latest = Some((latest, now)),
            (Some(latest), Some((before, since))) if now.saturating_duration_since(since) >= SETTLED => {
                self.settled = before;
                self.others.retain(|pid| *pid > before);
                self.latest = Some((latest, now));
            }
            _ => {}
        }
        read
    }

    fn may_have_grown(&mut self, latest: Option<u32>, now: Instant, read: &mut u32) -> bool {
        let (Some(latest), Some((at, files))) = (latest, self.complete) else { return true };
        // Numbers begin again when the highest has been given. Many new ones take as long to look at as all.
        let few = latest.checked_sub(self.settled).is_some_and(|new| new <= files / 2);
        if self.settled == 0 || !few || now.saturating_duration_since(at) >= LONGEST {
            return true;
        }
        for pid in self.settled + 1..=latest {
            // It may have ended, and its number be another's.
            if self.descendants.contains(&pid) {
                return true;
            }
            let Err(place) = self.others.binary_search(&pid) else { continue };
            *read += 1;
            match parent(pid) {
                Some(parent) if parent == self.pid || self.descendants.contains(&parent) => return true,
                Some(_) => self.others.insert(place, pid),
                None => {}
            }
        }
        false
    }
}

/// The number of the process or thread that was started last, in this PID namespace or one below.
fn latest_pid() -> Option<u32> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    // No number is 0; who says so does not know.
    text.split_whitespace().last()?.parse().ok().filter(|latest| *latest > 0)
}

/// The process that has started a process, or has adopted it. Threads have that of their process.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may have any bytes.
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[name_ends + 1..]).ok()?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::memory::process::descendants;
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    /// A shell that starts a sleeper for each line it is given, and tells the number.
    struct Parent {
        shell: Child,
        said: BufReader<std::process::ChildStdout>,
    }

    impl Parent {
        fn start() -> Self {
            let script = "while read line; do sleep 1000 >/dev/null & echo $!; done";
            let mut shell =
                Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let said = BufReader::new(shell.stdout.take().unwrap());
            Self { shell, said }
        }

        fn starts(&mut self) -> u32 {
            self.shell.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            let mut line = String::new();
            self.said.read_line(&mut line).unwrap();
            line.trim().parse().unwrap()
        }

        fn family(&self) -> Family {
            Family::of(self.shell.id())
        }
    }

    impl Drop for Parent {
        fn drop(&mut self) {
            for pid in descendants(self.shell.id()) {
                kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
            }
            self.shell.kill().unwrap();
            self.shell.wait().unwrap();
        }
    }

    #[test]
    fn no_file_is_read_while_nothing_is_started_however_many_threads_there_are() {
        let (finish, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        std::thread::scope(|scope| {
            let finish = finish;
            for _ in 0..50 {
                scope.spawn(|| drop(wait.lock().map(|wait| wait.recv())));
            }
            let mut family = Family::of(std::process::id());
            let begin = Instant::now();
            // Others start something meanwhile, so the latest number is one of the test's.
            let latest = latest_pid();
            let mut at = |millis| family.look(latest, begin + Duration::from_millis(millis));
            assert!(at(0) >= 50, "all at first");
            at(100);
            at(200);
            for tenths in 3..49 {
                assert_eq!(at(tenths * 100), 0, "after {tenths} tenths of a second");
            }
            assert!(at(5200) >= 50, "all in any case, now and then");
            drop(finish);
        });
    }

    #[test]
    fn what_is_started_between_two_looks_is_found_and_what_has_ended_counts_for_nothing() {
        let mut parent = Parent::start();
        let mut family = parent.family();
        let first = parent.starts();
        family.private(0, u64::MAX);
        assert_eq!(family.descendants, [first]);
        for _ in 0..3 {
            let next = parent.starts();
            assert!(family.private(0, u64::MAX) > 0);
            assert!(family.descendants.contains(&next), "{next}: {family:?}");
        }
        assert!(family.private(0, 0) > 0, "exactly");
        for pid in family.descendants.clone() {
            kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
        }
        crate::ipc::testing::until(|| family.private(7, u64::MAX) == 7);
    }

    #[test]
    fn what_others_start_is_looked_at_alone_and_what_a_descendant_starts_is_found() {
        let (mut parent, mut other) = (Parent::start(), Parent::start());
        let mut family = parent.family();
        let begin = Instant::now();
        family.look(None, begin);
        let (theirs, ours) = (other.starts(), parent.starts());
        let newly = |family: &mut Family, pid: u32| {
            (family.settled, family.complete) = (pid - 1, Some((begin, 10)));
            family.look(Some(pid), begin)
        };
        assert_eq!(newly(&mut family, theirs), 1, "not of the family");
        assert_eq!(newly(&mut family, theirs), 0, "once");
        assert!(family.descendants.is_empty());
        assert_eq!(newly(&mut family, ours), 3, "itself, and then the children of each: {family:?}");
        assert_eq!(family.descendants, [ours]);
    }

    #[test]
    fn all_is_looked_at_where_the_latest_number_says_nothing() {
        let mut parent = Parent::start();
        parent.starts();
        let mut family = parent.family();
        let begin = Instant::now();
        for (latest, why) in [(None, "unknown"), (Some(7), "numbers begin again"), (Some(1 << 22), "very many are new")]
        {
            (family.settled, family.complete) = (1000, Some((begin, 1)));
            family.descendants.clear();
            family.look(latest, begin);
            assert_eq!(family.descendants.len(), 1, "{why}");
        }
    }
}
