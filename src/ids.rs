//! Names of the things that cross process borders.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One client's connection to a supervisor. Unique within a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SessionId(pub(crate) u32);

/// Sessions of tasks that submit tasks are numbered from here, by worker.
const TASK_SESSIONS: u32 = 1 << 30;
/// And those of programs that attach end here; their segments' owners are numbered beyond.
pub(crate) const ATTACHED_OWNERS: u32 = 1 << 31;

impl SessionId {
    /// The session of the client in the supervisor's own process.
    pub(crate) const CLIENT: Self = Self(0);

    /// Whose claims are those to published results. It is nobody's, and is never told anything.
    pub(crate) const PUBLISHED: Self = Self(u32::MAX);

    /// The session of the tasks of a worker.
    pub(crate) fn of_tasks(worker: WorkerId) -> Self {
        Self(TASK_SESSIONS + worker.0)
    }

    /// Whether its jobs are submitted by tasks.
    pub(crate) fn is_of_tasks(self) -> bool {
        (TASK_SESSIONS..ATTACHED_OWNERS).contains(&self.0)
    }
}

/// One submitted graph: the session that sent it, and that session's own number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct JobId {
    pub(crate) session: SessionId,
    pub(crate) number: u32,
}

/// One task of a job. Ids of a job are dense and ascend in execution order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TaskId {
    pub(crate) job: JobId,
    pub(crate) index: u32,
}

/// One attempt at a task: each time a task is sent to a worker, its attempt gets the next number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) task: TaskId,
    pub(crate) number: u16,
}

/// One life of a worker process. A replacement gets a new one; they are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct WorkerId(pub(crate) u32);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job.session.0, self.job.number, self.index)
    }
}
