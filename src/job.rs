//! What client, scheduler and worker mean by a job: its tasks, their inputs, how a run ends, why it failed, what is delivered.

pub(crate) mod explained;

use crate::error::Cause;
use crate::error::name::TaskName;
use crate::ids::{JobId, TaskId};
use crate::ipc::payload::Payload;
use crate::resources::Resources;
use crate::task::function::{Record, short_name};
use crate::task::program;
use crate::task::shared_input::SharedInput;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::sync::Arc;
use swath_insight::Totals;

/// A dependency that names an entry of [`JobSpec::externals`] instead of a task of the same job.
pub(crate) const EXTERNAL: u32 = 1 << 31;

/// A graph ready to be run elsewhere, in compressed-row form. Every dependency of a task has a smaller index,
/// and a smaller index means "run earlier where there is a choice".
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct JobSpec {
    /// The programs of all tasks, one after the other; task `i` ends at `body_ends[i]`. Empty for a data task.
    pub(crate) bodies: Vec<u8>,
    pub(crate) body_ends: Vec<u32>,
    /// The dependencies of all tasks, one after the other; task `i`'s end at `dep_ends[i]`. No task names one twice.
    pub(crate) deps: Vec<u32>,
    pub(crate) dep_ends: Vec<u32>,
    /// Results of earlier jobs of the same session that tasks of this one use.
    pub(crate) externals: Vec<TaskId>,
    /// Tasks whose result is given: literals too large to ride in a body, and scattered values. Ascending.
    pub(crate) data: Vec<(u32, Payload)>,
    /// Tasks whose results the session asks for. Ascending, without repeats.
    pub(crate) outputs: Vec<WantedResult>,
    /// Tasks that stand for a part of the result of the one task that they depend on, with its place there. They have no
    /// program. Ascending. A task with parts has no result but these: nothing else depends on it, and it is no output.
    pub(crate) parts: Vec<(u32, u32)>,
    /// Tasks with options other than the default. Ascending.
    pub(crate) options: Vec<(u32, WireOptions)>,
    /// The given values go to every worker at once, not with the first task that uses them.
    pub(crate) broadcast: bool,
    /// The worker-local state whose building it is a part of.
    pub(crate) building: Vec<u64>,
    /// A task fails as soon as an input has failed, whatever becomes of the others.
    pub(crate) fails_fast: bool,
    /// What is added to the priority of each of its tasks.
    pub(crate) priority: i32,
    /// The running task that submits it, whose priority is added, too.
    pub(crate) parent: Option<TaskId>,
    /// More tasks are to come, see [`Request::Grow`](crate::message::Request::Grow).
    pub(crate) open: bool,
}

/// What the session wants of one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WantedResult {
    pub(crate) index: u32,
    /// Send the value as soon as there is one; otherwise only say that it is there, and keep it until released.
    pub(crate) deliver: bool,
}

/// What is wanted of one part of a task's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WantedPart {
    /// The task of the same job that stands for it.
    pub(crate) index: u32,
    /// Its place in the result.
    pub(crate) place: u32,
    /// Send the value with word of the end.
    pub(crate) deliver: bool,
}

impl JobSpec {
    /// Number of tasks, data tasks included.
    pub(crate) fn len(&self) -> usize {
        self.body_ends.len()
    }

    /// Adds tasks, whose numbers count on from those there are.
    pub(crate) fn append(&mut self, more: Self) {
        let (tasks, bodies, deps) = (self.len() as u32, self.bodies.len() as u32, self.deps.len() as u32);
        self.bodies.extend_from_slice(&more.bodies);
        self.body_ends.extend(more.body_ends.iter().map(|end| end + bodies));
        self.deps.extend(more.deps.iter().map(|dep| dep + tasks));
        self.dep_ends.extend(more.dep_ends.iter().map(|end| end + deps));
        self.data.extend(more.data.into_iter().map(|(index, payload)| (index + tasks, payload)));
        self.parts.extend(more.parts.iter().map(|(index, place)| (index + tasks, *place)));
        self.outputs.extend(more.outputs.iter().map(|o| WantedResult { index: o.index + tasks, ..*o }));
        self.open = more.open;
    }

    pub(crate) fn body(&self, index: u32) -> &[u8] {
        let i = index as usize;
        let start = if i == 0 { 0 } else { self.body_ends[i - 1] as usize };
        &self.bodies[start..self.body_ends[i] as usize]
    }

    /// The call whose result a task has, or (`has_parts`) takes apart: the place of its function in the program that
    /// submitted it, and its key. None where the result is given.
    pub(crate) fn last_call(&self, index: u32, has_parts: bool) -> Option<(u64, u64)> {
        let (last, before) = program::last_calls(self.body(index));
        before.filter(|_| has_parts).or(last)
    }

    /// The same, with its name.
    pub(crate) fn call(&self, index: u32, has_parts: bool) -> Option<FailedCall> {
        let (offset, key) = self.last_call(index, has_parts)?;
        let given = self.options.binary_search_by_key(&index, |(at, _)| *at).ok();
        let name = given.and_then(|at| self.options[at].1.name.clone());
        Some(FailedCall { name: name.map_or(CallName::Function(offset), CallName::Given), key })
    }

    pub(crate) fn deps(&self, index: u32) -> &[u32] {
        let i = index as usize;
        let start = if i == 0 { 0 } else { self.dep_ends[i - 1] as usize };
        &self.deps[start..self.dep_ends[i] as usize]
    }
}

/// Per-task options as they cross the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireOptions {
    /// The name in the task's key, where it is not its function's.
    pub(crate) name: Option<String>,
    /// Higher runs earlier. Default 0.
    pub(crate) priority: i32,
    /// How often a failed run is repeated before the failure counts.
    pub(crate) retries: u32,
    /// Longest run time of one attempt, in milliseconds.
    pub(crate) timeout_ms: Option<u64>,
    /// Bytes the task is expected to need while it runs.
    pub(crate) memory: Option<u64>,
    /// Name of the only worker that may run it.
    pub(crate) worker: Option<String>,
    /// Names of the workers that may run it; none: any.
    pub(crate) among: Vec<String>,
    /// A tag that the worker must carry.
    pub(crate) tag: Option<String>,
    /// What it takes of its worker's resources while it runs.
    pub(crate) resources: Resources,
}

/// One input of a task that is to run on a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Input {
    /// In the worker's own store. With `take` nobody else wants it, and it may be moved out when the task starts.
    Held {
        id: TaskId,
        take: bool,
    },
    Payload(Payload),
    /// The result of a task that was sent to the same worker before, and has not ended.
    Pending {
        id: TaskId,
    },
    /// A [`SharedPayload`] that the worker has. `sole`: no other task is known that wants it.
    Shared {
        id: TaskId,
        sole: bool,
    },
    /// The same, found in the worker.
    #[serde(skip)]
    Found {
        input: Arc<SharedInput>,
        sole: bool,
    },
}

/// A value that a worker keeps until it is told to drop it, since several tasks read it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SharedPayload {
    pub(crate) id: TaskId,
    pub(crate) payload: Payload,
    /// It is to be mapped, and the mapping filled, before a task asks for it.
    pub(crate) populate: bool,
}

/// How one run of a task ended, as its worker tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The value rides along: it is small, or somebody waits for it.
    Value(Payload),
    /// The value stays in the worker's store. `encoded` of its bytes are written and read when it is sent; the others lie in
    /// buffers that are shared. `bound`: what others are sent of it is worth nothing without the worker.
    Held {
        nbytes: u64,
        encoded: u64,
        bound: bool,
    },
    Failed(Box<Failure>),
    Cancelled,
    /// The parts that were asked for, each a `Value` or `Held`, with the task that stands for it.
    Parts(Vec<(u32, Outcome)>),
}

impl Outcome {
    /// Bytes of the result, of all its parts that are wanted.
    pub(crate) fn nbytes(&self) -> u64 {
        match self {
            Self::Value(payload) => payload.nbytes(),
            Self::Held { nbytes, .. } => *nbytes,
            Self::Failed(_) | Self::Cancelled => 0,
            Self::Parts(parts) => parts.iter().map(|(_, part)| part.nbytes()).sum(),
        }
    }

    /// Whether the run has done what it was to do.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Value(_) | Self::Held { .. } | Self::Parts(_))
    }

    /// What stays in the worker's store of the run of that task.
    pub(crate) fn held(&self, id: TaskId) -> SmallVec<[TaskId; 1]> {
        match self {
            Self::Held { .. } => SmallVec::from_slice(&[id]),
            Self::Parts(parts) => {
                let held = parts.iter().filter(|(_, part)| matches!(part, Self::Held { .. }));
                held.map(|(index, _)| TaskId { job: id.job, index: *index }).collect()
            }
            Self::Value(_) | Self::Failed(_) | Self::Cancelled => SmallVec::new(),
        }
    }

    /// The values that come with it.
    pub(crate) fn payloads(&self) -> impl Iterator<Item = &Payload> {
        let parts = match self {
            Self::Parts(parts) => &parts[..],
            _ => &[],
        };
        let all = std::iter::once(self).chain(parts.iter().map(|(_, part)| part));
        all.filter_map(|outcome| match outcome {
            Self::Value(payload) => Some(payload),
            _ => None,
        })
    }
}

/// How one run ended.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    pub(crate) id: TaskId,
    pub(crate) attempt: u16,
    /// Run time in microseconds, without the time it was queued.
    pub(crate) run_us: u32,
    pub(crate) outcome: Outcome,
}

/// Where a result is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HeldResult {
    pub(crate) task: TaskId,
    /// The worker that has it; none: the supervisor does.
    pub(crate) worker: Option<String>,
    pub(crate) nbytes: u64,
    /// The call that made it; none where it is a part of what another made.
    pub(crate) call: Option<FailedCall>,
}

/// What is known of a call that failed: enough for its session to name it, which keeps no graphs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedCall {
    pub(crate) name: CallName,
    /// The hash in its key.
    pub(crate) key: u64,
}

impl FailedCall {
    /// Its name, if this is the program that it is of.
    pub(crate) fn task_name(&self) -> Option<TaskName> {
        match &self.name {
            CallName::Given(name) => Some(TaskName::own(name.clone(), self.key)),
            CallName::Function(offset) => Some(TaskName::of_function(Record::at(*offset)?.path(), self.key)),
        }
    }

    /// Its name alone.
    pub(crate) fn name(&self) -> Option<String> {
        self.name.name()
    }
}

impl CallName {
    /// The name in words, if this is the program that the call is of.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Self::Given(name) => Some(name.clone()),
            Self::Function(offset) => Record::at(*offset).map(|record| short_name(record.path())),
        }
    }
}

/// What is counted of the calls of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupCounts {
    pub(crate) name: CallName,
    /// The number of their graph; none: they are counted by name alone.
    pub(crate) graph: Option<u32>,
    pub(crate) totals: Totals,
}

/// What a call is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum CallName {
    Given(String),
    /// As its function, by the function's place in the program that submitted it.
    Function(u64),
}

/// Why a task has no result. Crosses processes, so the client makes a `TaskError` of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The task that failed first, not a dependent that fails with it.
    pub(crate) task: TaskId,
    /// Which call of a fused task it was.
    pub(crate) step: u32,
    /// That call, where the reporter knows it.
    pub(crate) call: Option<FailedCall>,
    /// Name of the worker it ran on.
    pub(crate) worker: Option<String>,
    pub(crate) cause: Cause,
}

/// What a session is told about one of its outputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) job: JobId,
    pub(crate) index: u32,
    pub(crate) result: Result<Delivered, Box<Failure>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Delivered {
    Value(Payload),
    /// The result is there and stays where it is.
    Ready {
        nbytes: u64,
    },
}
