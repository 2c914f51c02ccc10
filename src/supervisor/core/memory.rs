//! The memory of the workers, seen from outside: a worker that cannot run its own code can still be stopped.

use super::{Core, LAST_LINES, Phase, WorkerProcess};
use crate::error::DeathCause;
use crate::ids::WorkerId;
use crate::ipc::page::gauges::Waits;
use crate::memory::oom::Verdict;
use crate::memory::process::{descendants, with_descendants};
use crate::memory::report::{MemoryReport, WorkerMemory};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How the standard library begins to say that there is no memory, and how it ends.
const NO_MEMORY: (&str, &str) = ("memory allocation of ", " bytes failed");

impl Core {
    /// Ends the workers that use more than they may. Counted is what each shares with nobody, what it has in segments, and
    /// what the processes use that its tasks have started.
    pub(super) fn guard_memory(&mut self) {
        self.tight = false;
        self.killer.look();
        for (&id, process) in &self.workers {
            self.scheduler.spilled(id, process.page.gauges().spilled());
        }
        self.recycle_leaking();
        let Some(limit) = self.settings.memory_limit else { return };
        let levels = self.settings.thresholds.levels(limit);
        if levels.terminate == u64::MAX {
            return;
        }
        let mut over = Vec::new();
        for (&id, process) in self.workers.iter().filter(|(_, l)| l.phase == Phase::Ready && l.ended.is_none()) {
            if self.scheduler.in_flight(id) == 0 {
                continue;
            }
            let Some(private) = process.statm.private() else { continue };
            let segments = process.page.gauges().segments();
            let used = segments + with_descendants(process.pid, private, levels.terminate.saturating_sub(segments));
            self.tight |= used > levels.target.min(levels.terminate / 2);
            if used > levels.terminate {
                over.push((id, used));
            }
        }
        for (id, used) in over {
            self.kill_family(id, DeathCause::MemoryLimit { used, limit });
        }
    }

    /// Replaces the workers that use more and more for nobody knows what.
    fn recycle_leaking(&mut self) {
        let (Some(share), Some(limit)) = (self.settings.recycle_unmanaged, self.settings.memory_limit) else { return };
        let mut leaking = Vec::new();
        for (&id, process) in &mut self.workers {
            let gauges = process.page.gauges();
            let used = process.statm.private().unwrap_or(0) + gauges.segments();
            process.unmanaged.look(used.saturating_sub(gauges.managed()));
            if process.unmanaged.bytes().is_some_and(|floor| floor as f64 > limit as f64 * share) {
                leaking.push(id);
            }
        }
        leaking.into_iter().for_each(|id| self.recycle(id, "memory that is not of results stays in use"));
    }

    /// Counts tasks that a worker has done.
    pub(super) fn count_of_life(&mut self, id: WorkerId, tasks: usize) {
        let Some(process) = self.workers.get_mut(&id) else { return };
        process.done += tasks as u64;
        if self.settings.recycle_after.is_some_and(|most| process.done >= most) {
            self.recycle(id, "it has done as many tasks as it is to do");
        }
    }

    /// Lets a worker finish and hand on what it has, to be replaced then.
    fn recycle(&mut self, id: WorkerId, why: &str) {
        let Some(process) = self.workers.get_mut(&id) else { return };
        // What its tasks wait for may have nowhere else to run.
        if process.phase != Phase::Ready || process.recycling || self.scheduler.blocked_on(id) > 0 {
            return;
        }
        process.recycling = true;
        log::info!("{} is replaced: {why}", self.slots[process.slot].name);
        self.scheduler.worker_retiring(id);
    }

    /// A task of a worker waits for tasks of its own. If the worker were on its way out, they might have nowhere to run.
    pub(super) fn stay(&mut self, id: WorkerId) {
        let Some(process) = self.workers.get_mut(&id) else { return };
        if std::mem::take(&mut process.recycling) && !self.slots[process.slot].closing {
            self.scheduler.worker_staying(id);
        }
    }

    /// Ends a worker with all processes that its tasks have started.
    fn kill_family(&mut self, id: WorkerId, cause: DeathCause) {
        let Some(process) = self.workers.get(&id) else { return };
        let family = descendants(process.pid);
        self.kill(id, cause, true);
        for pid in family {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }

    /// The cause of a death, where what the worker said last, or the kernel, tells more than how it ended; and what memory
    /// the machine had, where that may have mattered.
    pub(super) fn explained(&mut self, process: &WorkerProcess, cause: DeathCause) -> (DeathCause, Option<u64>) {
        if let Some(ours) = &process.ended {
            return (ours.clone(), None);
        }
        if cause == DeathCause::Signal(nix::libc::SIGKILL) {
            return match self.killer.verdict() {
                Verdict::Kernel => (DeathCause::OutOfMemory, self.killer.available()),
                Verdict::SomebodyElse => (cause, None),
                Verdict::Unknown => (cause, self.killer.available()),
            };
        }
        (self.out_of_its_own(process, cause), None)
    }

    /// An abort is told from others by what the standard library says before it.
    fn out_of_its_own(&self, process: &WorkerProcess, cause: DeathCause) -> DeathCause {
        let (Some(limit), DeathCause::Signal(nix::libc::SIGABRT)) = (self.settings.memory_limit, &cause) else {
            return cause;
        };
        let number = |line: &str| line.strip_prefix(NO_MEMORY.0)?.strip_suffix(NO_MEMORY.1)?.parse().ok();
        match self.last_words(process).iter().rev().find_map(|line| number(line)) {
            Some(wanted) => DeathCause::AllocationFailed { wanted, limit },
            None => cause,
        }
    }

    /// The last lines that a life has written to its standard output and error.
    pub(super) fn last_words(&self, process: &WorkerProcess) -> Vec<String> {
        self.recent_lines[process.slot].last(LAST_LINES.min(process.said + usize::from(process.speaking)))
    }

    pub(super) fn memory(&self) -> MemoryReport {
        let mut workers: Vec<_> =
            self.workers.values().map(|process| (process.slot, self.memory_of(process))).collect();
        workers.sort_by_key(|(slot, _)| *slot);
        MemoryReport {
            workers: workers.into_iter().map(|(_, worker)| worker).collect(),
            shared_used: self.shared.ledger.used(),
            shared_limit: self.shared.ledger.limit(),
            spill_directory: self.settings.spill_directory.clone(),
            spill_limit: self.settings.spill_limit,
        }
    }

    fn memory_of(&self, process: &WorkerProcess) -> WorkerMemory {
        let gauges = process.page.gauges();
        WorkerMemory {
            name: self.slots[process.slot].name.clone(),
            pid: process.pid,
            limit: self.settings.memory_limit,
            managed: gauges.managed(),
            spilled: gauges.spilled(),
            moved: gauges.moved(),
            pauses: gauges.pauses(),
            segments: gauges.segments(),
            private: process.statm.private().unwrap_or(0),
            paused: self.pause_of(process),
            peaks: process
                .page
                .peaks()
                .into_iter()
                .filter(|p| p.1 > 0)
                .map(|(task, peak)| (self.key(process, task), peak))
                .collect(),
        }
    }

    /// Why a worker starts no tasks, if it does not.
    pub(super) fn pause_of(&self, process: &WorkerProcess) -> Option<String> {
        let gauges = process.page.gauges();
        let disk = if gauges.disk_fails() { ", and the disk takes none: see its log" } else { "" };
        match gauges.waits() {
            Waits::No => None,
            Waits::Spilling => Some(format!("moving results to disk{disk}")),
            Waits::Paused => Some(format!("over its threshold to pause{disk}")),
        }
    }
}
