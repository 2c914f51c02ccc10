//! The sessions of clients, attached programs, and tasks: where each is, what is counted for it, and what it waits for.

use crate::ids::{SessionId, TaskId, WorkerId};
use crate::message::{Beside, RanBeside};
use rustc_hash::FxHashMap;
use std::time::Instant;

#[derive(Default)]
pub(super) struct Sessions {
    pub(super) ends: FxHashMap<SessionId, SessionEnd>,
    pub(super) waiting: Vec<Waiting>,
    /// How often workers have been asked to do something beside their tasks.
    pub(super) ran: u64,
    /// Who has the workers' threads sampled, and for how many reasons.
    pub(super) sampling: FxHashMap<SessionId, usize>,
}

/// Where messages to a session go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// To the client in this process.
    Client,
    /// To a program that attached, through its socket.
    Attached,
    /// To tasks of a worker.
    Worker(WorkerId),
}

/// What a session waits for.
pub(super) enum Wait {
    /// So many workers that are ready, until then.
    Ready { n: usize, until: Instant },
    /// The end of these, until then.
    Gone { workers: Vec<WorkerId>, until: Option<Instant> },
    /// Another worker than the `old` one in that slot, which is ready. From then on, a start that fails is the answer.
    Replaced { slot: usize, old: Option<WorkerId>, until: Option<Instant> },
    /// The end of what workers do beside their tasks.
    Ran(RunBeside),
}

/// What workers do beside their tasks.
pub(super) struct RunBeside {
    pub(super) serial: u64,
    pub(super) what: Beside,
    pub(super) workers: Vec<AskedWorker>,
}

/// A worker that does something beside its tasks.
pub(super) struct AskedWorker {
    pub(super) slot: usize,
    /// It and its process. None: it has not come to work, and so has not been asked.
    pub(super) process: Option<(WorkerId, u32)>,
    /// None: it has not answered.
    pub(super) result: Option<RanBeside>,
}

/// A session waits for something of the workers.
pub(super) struct Waiting {
    pub(super) what: Wait,
    pub(super) session: SessionId,
    pub(super) ticket: u64,
    /// The task that waits, where that is known.
    pub(super) by: Option<TaskId>,
}

impl Sessions {
    pub(super) fn close(&mut self, session: SessionId) {
        self.ends.remove(&session);
        self.waiting.retain(|w| w.session != session);
    }
}
