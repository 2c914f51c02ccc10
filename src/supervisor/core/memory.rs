//! The memory of the workers, seen from outside: a worker that cannot run its own code can still be stopped.

use super::{Core, Phase, WorkerProcess};
use crate::error::DeathCause;
use crate::host::report;
use crate::ids::WorkerId;
use crate::ipc::page::gauges::Waits;
use crate::machine::AvailableMemory;
use crate::memory::oom::Verdict;
use crate::memory::report::{MemoryReport, WorkerMemory};
use crate::supervisor::effects::{Effects, GaugeValues, WorkerPage};

/// How the standard library begins to say that there is no memory, and how it ends.
const NO_MEMORY: (&str, &str) = ("memory allocation of ", " bytes failed");
/// The signal of an abort, and that of a kill.
const ABORTED: DeathCause = DeathCause::Signal(nix::libc::SIGABRT);
const KILLED: DeathCause = DeathCause::Signal(nix::libc::SIGKILL);

impl Core {
    /// Ends the workers that use more than they may. Counted is what each shares with nobody, what it has in segments, and
    /// what the processes use that its tasks have started.
    pub(super) fn guard_memory<E: Effects>(&mut self, fx: &mut E) {
        self.agenda.tight = false;
        fx.poll_machine();
        for &id in self.fleet.workers.keys() {
            self.scheduler.spilled(id, fx.page(id).map_or(0, |page| page.gauges().spilled));
        }
        self.recycle_leaking(fx);
        let Some(limit) = self.settings.memory_limit else { return };
        let levels = self.settings.thresholds.levels(limit);
        if levels.terminate == u64::MAX {
            return;
        }
        let mut over = Vec::new();
        let now = self.time(fx);
        let workers = self.fleet.workers.iter_mut();
        for (&id, process) in workers.filter(|(_, p)| p.phase == Phase::Ready && p.killed.is_none()) {
            if self.scheduler.in_flight(id) == 0 {
                continue;
            }
            let (Some(private), Some(page)) = (fx.private_memory(id), fx.page(id)) else { continue };
            let GaugeValues { segments, managed, moved, .. } = page.gauges();
            let used = segments + fx.family_memory(id, private, levels.terminate.saturating_sub(segments));
            self.agenda.tight |= used > levels.target.min(levels.terminate / 2);
            if process.overrun.ends(&levels, used, managed, moved, now) {
                over.push((id, used));
            }
        }
        for (id, used) in over {
            self.kill(id, DeathCause::MemoryLimit { used, limit }, true, fx);
        }
    }

    /// Replaces the workers that use more and more for nobody knows what.
    fn recycle_leaking<E: Effects>(&mut self, fx: &E) {
        let (Some(share), Some(limit)) = (self.settings.recycle_unmanaged, self.settings.memory_limit) else { return };
        let mut leaking = Vec::new();
        for (&id, process) in &mut self.fleet.workers {
            let Some(gauges) = fx.page(id).map(WorkerPage::gauges) else { continue };
            let used = fx.private_memory(id).unwrap_or(0) + gauges.segments;
            process.unmanaged.sample(used.saturating_sub(gauges.managed));
            if process.unmanaged.bytes().is_some_and(|floor| floor as f64 > limit as f64 * share) {
                leaking.push(id);
            }
        }
        leaking.into_iter().for_each(|id| self.recycle(id, "memory that is not of results stays in use"));
    }

    /// Counts tasks that a worker has done.
    pub(super) fn count_of_worker(&mut self, id: WorkerId, tasks: usize) {
        let Some(process) = self.fleet.workers.get_mut(&id) else { return };
        process.done += tasks as u64;
        if self.settings.recycle_after.is_some_and(|most| process.done >= most) {
            self.recycle(id, "it has done as many tasks as it is to do");
        }
    }

    /// Lets a worker finish and hand on what it has, to be replaced then.
    fn recycle(&mut self, id: WorkerId, why: &str) {
        let Some(process) = self.fleet.workers.get_mut(&id) else { return };
        // What its tasks wait for may have nowhere else to run.
        if process.phase != Phase::Ready || process.recycling || self.scheduler.blocked_on(id) > 0 {
            return;
        }
        process.recycling = true;
        report!(Info, "{} is replaced: {why}", self.fleet.slots[process.slot].name);
        self.scheduler.worker_retiring(id);
    }

    /// Replaces the workers that were sent SIGTERM, or are to be replaced on command, for no fault of their tasks: those
    /// that can go now.
    pub(super) fn replace_in_order(&mut self) {
        let asked = |process: &WorkerProcess| match () {
            () if process.recycling => None,
            () if process.to_replace => Some((process.id, "on command")),
            () => process.terminated.then_some((process.id, "it was sent SIGTERM")),
        };
        let asked: Vec<_> = self.fleet.workers.values().filter_map(asked).collect();
        asked.into_iter().for_each(|(id, why)| self.recycle(id, why));
    }

    /// A task of a worker waits for tasks of its own. If the worker were on its way out, they might have nowhere to run.
    pub(super) fn stay(&mut self, id: WorkerId) {
        let Some(process) = self.fleet.workers.get_mut(&id) else { return };
        let recycling = std::mem::take(&mut process.recycling);
        if recycling && self.fleet.workers.get(&id).is_some_and(|process| !self.fleet.is_to_go(process)) {
            self.scheduler.worker_staying(id);
        }
    }

    /// The cause of a death, where what the worker said last, or the kernel, tells more than how it ended; and what memory
    /// there was, where that may have mattered.
    pub(super) fn explained<E: Effects>(
        &self,
        process: &WorkerProcess,
        cause: DeathCause,
        fx: &mut E,
    ) -> (DeathCause, Option<AvailableMemory>) {
        if let Some(ours) = &process.killed {
            return (ours.clone(), None);
        }
        if cause == KILLED {
            return match fx.verdict() {
                (Verdict::Kernel, available) => (DeathCause::OutOfMemory, available),
                (Verdict::SomebodyElse, _) => (cause, None),
                (Verdict::Unknown, available) => (cause, available),
            };
        }
        if fx.page(process.id).is_some_and(WorkerPage::is_robbed) {
            return (DeathCause::DescriptorsClosed, None);
        }
        if let Some(reason) = fx.page(process.id).and_then(WorkerPage::reason) {
            return (DeathCause::GaveUp(reason), None);
        }
        (self.out_of_its_own(process, cause), None)
    }

    /// An abort is told from others by what the standard library says before it.
    fn out_of_its_own(&self, process: &WorkerProcess, cause: DeathCause) -> DeathCause {
        let Some(limit) = self.settings.memory_limit.filter(|_| cause == ABORTED) else { return cause };
        let number = |line: &str| line.strip_prefix(NO_MEMORY.0)?.strip_suffix(NO_MEMORY.1)?.parse().ok();
        match self.history.last_lines(process, "").iter().rev().find_map(|line| number(&line.text)) {
            Some(wanted) => DeathCause::AllocationFailed { wanted, limit },
            None => cause,
        }
    }

    pub(super) fn memory<E: Effects>(&self, fx: &E) -> MemoryReport {
        let mut processes: Vec<_> = self.fleet.workers.values().collect();
        processes.sort_by_key(|process| process.slot);
        let (shared_used, shared_limit) = fx.shared_memory();
        MemoryReport {
            workers: processes.into_iter().filter_map(|process| self.memory_of(process, fx)).collect(),
            shared_used,
            shared_limit,
            spill_directory: self.settings.spill_directory.clone(),
            spill_limit: self.settings.spill_limit,
        }
    }

    fn memory_of<E: Effects>(&self, process: &WorkerProcess, fx: &E) -> Option<WorkerMemory> {
        let page = fx.page(process.id)?;
        let gauges = page.gauges();
        let peaks = page.peaks().into_iter().filter(|p| p.1 > 0);
        Some(WorkerMemory {
            name: self.fleet.slots[process.slot].name.clone(),
            pid: process.pid,
            limit: self.settings.memory_limit,
            managed: gauges.managed,
            spilled: gauges.spilled,
            moved: gauges.moved,
            pauses: gauges.pauses,
            segments: gauges.segments,
            private: fx.private_memory(process.id).unwrap_or(0),
            paused: pause_of(page),
            peaks: peaks.map(|(task, peak)| (self.key(process, task, fx), peak)).collect(),
        })
    }
}

/// Why a worker starts no tasks, if it does not.
pub(super) fn pause_of(page: &impl WorkerPage) -> Option<String> {
    let gauges = page.gauges();
    let disk = if gauges.disk_fails { ", and the disk takes none: see its log" } else { "" };
    match gauges.waits {
        Waits::No => None,
        Waits::Spilling => Some(format!("moving results to disk{disk}")),
        Waits::Paused => Some(format!("over its threshold to pause{disk}")),
    }
}
