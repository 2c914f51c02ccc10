//! The workers there are and are to be: their slots, their processes, and whether starting them leads anywhere.

use crate::error::DeathCause;
use crate::ids::WorkerId;
use crate::memory::leak::Floor;
use crate::memory::overrun::Overrun;
use crate::supervisor::worker_slot::WorkerSlot;
use rustc_hash::FxHashMap;
use std::time::Instant;

#[derive(Default)]
pub(super) struct Fleet {
    pub(super) slots: Vec<WorkerSlot>,
    pub(super) workers: FxHashMap<WorkerId, WorkerProcess>,
    pub(super) next_worker: u32,
    /// Since when no worker that was started has come to work.
    pub(super) failing_since: Option<Instant>,
    /// One of those has said nothing at all.
    pub(super) was_silent: bool,
    /// That has lasted too long: clients have been told, and no more are started.
    pub(super) given_up: bool,
}

/// How a start has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailedStart {
    /// It ended, or there was none.
    Ended,
    /// It was set up for too long, which began then.
    SettingUp(Instant),
    /// It said nothing for too long, and was started then.
    Silent(Instant),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has said nothing since.
    Starting(Instant),
    /// It has been welcomed, and does since then what its program has it do first.
    SettingUp(Instant),
    Ready,
    Retiring,
}

impl Phase {
    /// Whether it has not come to work yet.
    pub(super) fn is_start(&self) -> bool {
        matches!(self, Self::Starting(_) | Self::SettingUp(_))
    }
}

/// One process of a worker.
pub(super) struct WorkerProcess {
    pub(super) id: WorkerId,
    pub(super) slot: usize,
    pub(super) pid: u32,
    pub(super) phase: Phase,
    /// Since when it has owed an answer, as far as that was seen.
    pub(super) owing: Option<Instant>,
    /// Why we killed it, if we did.
    pub(super) killed: Option<DeathCause>,
    /// Whether its tasks are to blame for its death.
    pub(super) blame: bool,
    /// How many of the last lines of its slot's output are its own, as far as a record of its death has room for them.
    pub(super) lines: usize,
    /// Whether the last of them has no end yet.
    pub(super) open_line: bool,
    /// The last piece of its output that it has told of.
    pub(super) told: u64,
    /// Tasks it has done.
    pub(super) done: u64,
    /// What it uses beside results.
    pub(super) unmanaged: Floor,
    /// Since when it has used more memory than it may.
    pub(super) overrun: Overrun,
    /// It is to go whatever becomes of its slot: somebody may wait for that.
    pub(super) to_retire: bool,
    /// It is on its way out, to be replaced.
    pub(super) recycling: bool,
    /// It was sent SIGTERM, and is to be on its way out as soon as that holds nobody up.
    pub(super) terminated: bool,
    /// It is to be replaced on command, and ended for that at this time, if there is one.
    pub(super) to_replace: bool,
    pub(super) replace_by: Option<Instant>,
    /// It was ended on command, for no fault of its own.
    pub(super) dismissed: bool,
}

impl WorkerProcess {
    pub(super) fn new(id: WorkerId, slot: usize, pid: u32, now: Instant) -> Self {
        Self {
            id,
            slot,
            pid,
            phase: Phase::Starting(now),
            owing: None,
            killed: None,
            blame: true,
            lines: 0,
            open_line: false,
            told: 0,
            done: 0,
            unmanaged: Floor::default(),
            overrun: Overrun::default(),
            to_retire: false,
            recycling: false,
            terminated: false,
            to_replace: false,
            replace_by: None,
            dismissed: false,
        }
    }
}

impl WorkerProcess {
    /// Whether it was sent SIGTERM before it could ask to be replaced: it had nothing to do yet.
    pub(super) fn was_terminated_at_birth(&self, cause: &DeathCause) -> bool {
        const SIGTERM: DeathCause = DeathCause::Signal(nix::sys::signal::Signal::SIGTERM as i32);
        matches!(self.phase, Phase::Starting(_)) && *cause == SIGTERM
    }

    /// The cause of its end, where that says only how the process ended, and not that it was being set up.
    pub(super) fn of_set_up(&self, cause: DeathCause) -> DeathCause {
        let was = match cause {
            DeathCause::Signal(_) => "was ",
            DeathCause::Exited(_) | DeathCause::Unknown => "",
            _ => return cause,
        };
        match self.phase {
            Phase::SettingUp(_) if self.killed.is_none() => {
                DeathCause::Init(format!("had not ended when its process {was}{cause}"))
            }
            _ => cause,
        }
    }

    /// It could not do what it owes until now.
    pub(super) fn count_anew(&mut self, now: Instant) {
        self.owing = None;
        if let Phase::Starting(since) | Phase::SettingUp(since) = &mut self.phase {
            *since = now;
        }
    }
}

impl Fleet {
    /// Whether a worker is to go, or its slot is to have none.
    pub(super) fn is_to_go(&self, process: &WorkerProcess) -> bool {
        process.to_retire || self.slots[process.slot].closing
    }

    /// The workers that have been welcomed and are not on their way out.
    pub(super) fn ready(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.workers.iter().filter(|(_, process)| process.phase == Phase::Ready).map(|(&id, _)| id)
    }

    pub(super) fn all(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    /// How many workers there are to be.
    pub(super) fn most(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.closing).count()
    }
}
