//! Why a task is where it is: what `Client::explain` answers.

use crate::ids::TaskId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a task has no result yet, or where its result is. Its text says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// Its number, or its key where it has none.
    pub(crate) task: String,
    /// Its state, where a scheduler of worker processes knows it.
    pub(crate) state: Option<Stage>,
    pub(crate) why: Why,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// It has not run and nobody needs it.
    Unneeded,
    /// It waits for its inputs.
    Waiting,
    /// It waits for a worker.
    Ready,
    /// It waits for inputs to be moved.
    Fetching,
    /// It has been sent to a worker.
    Running,
    Done,
    /// It was done, and its value has been dropped.
    Released,
    Failed,
}

/// The reason for a task's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Why {
    NotNeeded,
    /// Its cancelled run goes on.
    CancelledRunEnding,
    /// It waits for so many inputs, of which the first are named: to be computed, or to be moved.
    Inputs {
        count: u32,
        first: Vec<(TaskId, Stage)>,
        moving: bool,
    },
    /// It is a part of the result of this task, which is to run.
    PartOf {
        maker: Option<(TaskId, Stage)>,
    },
    NoWorker,
    /// No worker that is there is what its options ask for.
    Placement,
    /// All workers that may run it are paused.
    Memory {
        workers: Vec<String>,
    },
    /// All workers that may run it are to end.
    WorkersLeaving,
    /// A worker ran out of memory under it: it waits for a worker that has nothing else to do.
    Alone,
    /// The kernel ran out of memory under it: it waits until no worker has anything else to do.
    AloneEverywhere,
    /// It may have ended a worker: it waits for one that has nothing else to do.
    Suspect,
    /// The memory that it asks for is in use.
    MemoryAsked {
        bytes: u64,
    },
    /// The resources that it asks for are in use.
    ResourcesAsked {
        resources: String,
    },
    /// Results must be used first.
    HeldBack,
    Busy {
        workers: usize,
        taken_back: bool,
        /// Graphs whose tasks go first.
        before: usize,
    },
    /// A worker has it.
    Running {
        worker: Option<String>,
        ahead: bool,
        failed_runs: u32,
        lost_workers: u32,
    },
    /// Its result is with a worker, or else with the supervisor.
    Stored {
        bytes: u64,
        worker: Option<String>,
    },
    Given,
    Released,
    /// It failed, or this one did, which it depends on.
    Failed {
        root: Option<TaskId>,
    },
    /// Nothing is known of it any more.
    Unknown,
    NotSent,
    /// Its value is with the client.
    GivenHere,
    /// It is a task of the sync mode.
    RanAtOnce,
    /// It is a task of the threads mode, like all that follow.
    DoneHere,
    InputsHere {
        missing: u32,
        all: usize,
    },
    ReadyHere {
        threads: usize,
        before: usize,
    },
    EndingHere,
}

impl Explanation {
    /// Of a task that no scheduler of worker processes has.
    pub(crate) fn here(key: String, why: Why) -> Self {
        Self { task: key, state: None, why }
    }

    /// Of a task that is not known any more.
    pub(crate) fn unknown(task: TaskId) -> Self {
        Self { task: task.to_string(), state: None, why: Why::Unknown }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, state, why } = self;
        match state {
            Some(state) => write!(f, "task {task} is {state}: {why}"),
            None if *why == Why::Unknown => write!(f, "{why}"),
            None => write!(f, "{task} {why}"),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unneeded => "not needed",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Fetching => "fetching inputs",
            Self::Running => "running",
            Self::Done => "done",
            Self::Released => "released",
            Self::Failed => "failed",
        })
    }
}

/// How many graphs go before a task.
struct Before(usize);

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str("; 1 graph is before it"),
            n => write!(f, "; {n} graphs are before it"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNeeded => f.write_str("no result that anybody asked for depends on it"),
            Self::CancelledRunEnding => {
                f.write_str("its cancelled run has not ended on its worker yet, and it must not run twice at a time")
            }
            Self::Inputs { count, first, moving } => {
                let what = if *moving { "moved" } else { "computed" };
                write!(f, "{count} of its inputs must be {what} first: ")?;
                for (at, (id, state)) in first.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{id} ({state})")?;
                }
                match *count as usize - first.len() {
                    0 => Ok(()),
                    rest => write!(f, " and {rest} more"),
                }
            }
            Self::PartOf { maker: None } => f.write_str("it is a part of another task's result"),
            Self::PartOf { maker: Some((id, state)) } => write!(f, "it is a part of the result of {id} ({state})"),
            Self::NoWorker => f.write_str("there is no worker yet"),
            Self::Placement => f.write_str("none of the workers that are there now is what its options ask for"),
            Self::Memory { workers } => {
                let names = workers.join(", ");
                write!(f, "every worker that may run it has to make room in its memory first: {names}")
            }
            Self::WorkersLeaving => f.write_str("every worker that may run it is about to go"),
            Self::Alone => {
                f.write_str("a worker ran out of memory under it, so it waits until it can have one for itself")
            }
            Self::AloneEverywhere => f.write_str(
                "the machine, or a control group, ran out of memory under it, so it waits until nothing else runs on any worker",
            ),
            Self::Suspect => f.write_str(
                "it is one of those that may have ended a worker, so it waits until it can run with no other beside it",
            ),
            Self::MemoryAsked { bytes } => {
                write!(f, "the {bytes} B it asks for are in use by other tasks on every worker that may run it")
            }
            Self::ResourcesAsked { resources } => {
                write!(f, "the {resources} it asks for are in use by other tasks on every worker that may run it")
            }
            Self::HeldBack => {
                f.write_str("it would add to the results in memory, and others are to use some of those first")
            }
            Self::Busy { workers, taken_back, before } => {
                let moved = if *taken_back { " (it was taken back from a busy worker)" } else { "" };
                write!(f, "the {workers} workers that may run it have their hands full{moved}{}", Before(*before))
            }
            Self::Running { worker, ahead, failed_runs, lost_workers } => {
                let name = worker.as_deref().unwrap_or("a worker");
                let order = if *ahead { ", to run as soon as what it needs has run there" } else { "" };
                write!(
                    f,
                    "it was sent to {name}{order}, after {failed_runs} failed runs and {lost_workers} lost workers"
                )
            }
            Self::Stored { bytes, worker } => {
                let place = worker.as_deref().unwrap_or("the supervisor");
                write!(f, "its result of {bytes} B is with {place}")
            }
            Self::Given => f.write_str("its value was given"),
            Self::Released => f.write_str("nobody needs its result any more"),
            Self::Failed { root: None } => f.write_str("it failed itself"),
            Self::Failed { root: Some(root) } => write!(f, "task {root} failed, which it depends on"),
            Self::Unknown => f.write_str("it is not known any more"),
            Self::NotSent => f.write_str("is about to be sent to the workers, after those before it"),
            Self::GivenHere => f.write_str("is given"),
            Self::RanAtOnce => f.write_str("ran when it was submitted"),
            Self::DoneHere => f.write_str("is done"),
            Self::InputsHere { missing, all } => write!(f, "waits for {missing} of its {all} input(s)"),
            Self::ReadyHere { threads, before } => {
                write!(f, "is ready or running; {threads} thread(s) work in graph order{}", Before(*before))
            }
            Self::EndingHere => f.write_str("is about to be done"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{JobId, SessionId};

    #[test]
    fn the_texts_name_the_task_and_the_reason() {
        let task = |index| TaskId { job: JobId { session: SessionId(0), number: 5 }, index };
        let inputs = |count, moving| {
            let first = vec![(task(0), Stage::Running), (task(1), Stage::Done)];
            let state = Some(if moving { Stage::Fetching } else { Stage::Waiting });
            Explanation { task: task(7).to_string(), state, why: Why::Inputs { count, first, moving } }.to_string()
        };
        assert_eq!(
            inputs(2, false),
            "task 0.5.7 is waiting: 2 of its inputs must be computed first: 0.5.0 (running), 0.5.1 (done)"
        );
        assert_eq!(
            inputs(40, true),
            "task 0.5.7 is fetching inputs: 40 of its inputs must be moved first: 0.5.0 (running), 0.5.1 (done) and 38 more"
        );
        let why = Why::PartOf { maker: Some((task(3), Stage::Running)) };
        let part = Explanation { task: task(7).to_string(), state: Some(Stage::Waiting), why };
        assert_eq!(part.to_string(), "task 0.5.7 is waiting: it is a part of the result of 0.5.3 (running)");
        assert_eq!(Explanation::unknown(task(1)).to_string(), "it is not known any more");
        let here = |why| Explanation::here("add-1".to_string(), why).to_string();
        assert_eq!(here(Why::GivenHere), "add-1 is given");
        assert_eq!(here(Why::InputsHere { missing: 1, all: 2 }), "add-1 waits for 1 of its 2 input(s)");
        assert_eq!(
            here(Why::ReadyHere { threads: 3, before: 0 }),
            "add-1 is ready or running; 3 thread(s) work in graph order"
        );
    }
}
