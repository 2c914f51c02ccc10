//! What a mode answers when it is asked about a task: an explanation before it has names, times and costs, and what a search
//! for a key has found.

use super::{CallName, FailedCall};
use crate::ids::TaskId;
use crate::ipc::ring::RingRecord;
use crate::task::function::key;
use serde::{Deserialize, Serialize};
use swath_insight::TaskState;
use swath_insight::explain::{Explanation, TaskName, Why};

/// An explanation whose tasks are still to be named by whoever knows their functions, and dated by whoever has a clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Explained {
    pub(crate) explanation: Explanation,
    /// The task and those of the steps, in their order.
    pub(crate) ids: Vec<TaskId>,
    /// The calls of all tasks that are named, in the order of [`names`]. None where there are names already.
    pub(crate) calls: Vec<Option<FailedCall>>,
    /// Runs of these tasks that are on record.
    pub(crate) runs: Vec<SeenRun>,
    /// How long runs of a task's name take, in ticks: the middle one, for those of the tasks of which that is known.
    pub(crate) usual: Vec<(TaskId, u64)>,
}

/// A run of a task, and where it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SeenRun {
    pub(crate) worker: String,
    pub(crate) record: RingRecord,
    /// Its worker has ended since.
    pub(crate) gone: bool,
}

/// How far a search for a key has come: before this task of the job in this slot, and then in the runs of this worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FindFrom {
    pub(crate) slot: u32,
    pub(crate) task: u32,
    /// All that is there has been looked at; runs are next.
    pub(crate) runs: Option<u32>,
}

/// What a part of a search has found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) tasks: Vec<FoundTask>,
    /// Where to go on.
    pub(crate) next: Option<FindFrom>,
}

/// A task with a key that may be meant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FoundTask {
    pub(crate) task: TaskId,
    pub(crate) call: FailedCall,
    /// Its name, where it is known.
    pub(crate) name: Option<String>,
    /// Another call of the same task uses up its result.
    pub(crate) inner: bool,
    /// Its place in the order of submission; none: only runs of it are left.
    pub(crate) seq: Option<u64>,
    /// These runs.
    pub(crate) runs: Vec<SeenRun>,
    /// How long runs of its name take, in ticks.
    pub(crate) usual: Option<u64>,
}

impl Explained {
    /// Of a task that nobody knows any more.
    pub(crate) fn gone(task: TaskId) -> Self {
        let why = Why::Forgotten { totals: swath_insight::Totals::default() };
        Self::of(task, Explanation::new(TaskName::default(), TaskState::Released, why))
    }

    /// Of a task of which nothing else is to be found out.
    pub(crate) fn of(task: TaskId, explanation: Explanation) -> Self {
        Self { explanation, ids: vec![task], calls: Vec::new(), runs: Vec::new(), usual: Vec::new() }
    }

    /// Whether nobody knows the task any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.explanation.why, Why::Forgotten { .. })
    }

    /// Names the tasks that have no name yet, as far as `name` knows those of calls.
    pub(crate) fn name_tasks(&mut self, mut name: impl FnMut(&CallName) -> Option<String>) {
        for ((called, its_key), call) in names(&mut self.explanation).into_iter().zip(&self.calls) {
            let known = if called.is_empty() { call.as_ref() } else { None };
            if let Some((call, new)) = known.and_then(|call| Some((call, name(&call.name)?))) {
                *its_key = key(&new, call.key);
                *called = new;
            }
        }
    }

    /// Gives those that are left a name by which they can at least be asked for.
    pub(crate) fn name_the_rest(&mut self) {
        let mut calls = std::mem::take(&mut self.calls).into_iter();
        for (called, its_key) in names(&mut self.explanation) {
            let call = calls.next().flatten();
            if called.is_empty() {
                *called = "task".to_string();
                *its_key = call.map_or_else(|| "task".to_string(), |call| key("task", call.key));
            }
        }
    }

    /// Where the tasks stand that it tells of, with what they are.
    pub(crate) fn each(&mut self) -> impl Iterator<Item = (TaskId, &mut TaskState, &mut Why)> {
        let Explanation { state, why, because, .. } = &mut self.explanation;
        let steps = because.iter_mut().map(|step| (&mut step.state, &mut step.why));
        let all = std::iter::once((state, why)).chain(steps);
        self.ids.iter().zip(all).map(|(id, (state, why))| (*id, state, why))
    }
}

/// The names and keys in an explanation: of the task, of the steps, and then of those that their reasons name.
fn names(explanation: &mut Explanation) -> Vec<(&mut String, &mut String)> {
    let Explanation { task, why, because, .. } = explanation;
    let mut all = vec![(&mut task.name, &mut task.key)];
    let mut reasons = vec![why];
    for step in because {
        all.push((&mut step.task.name, &mut step.task.key));
        reasons.push(&mut step.why);
    }
    all.extend(reasons.into_iter().filter_map(named).map(|task| (&mut task.name, &mut task.key)));
    all
}

/// The task that a reason names.
pub(crate) fn named(why: &mut Why) -> Option<&mut TaskName> {
    match why {
        Why::Inputs { first, .. } => first.as_mut(),
        Why::Failed { root, .. } => root.as_mut(),
        Why::Cancelled { by } => by.as_mut(),
        Why::Lost { again, .. } => named(again.as_mut()?),
        _ => None,
    }
}

/// The middle one of some times.
pub(crate) fn middle(mut times: Vec<u64>) -> Option<u64> {
    let middle = times.len() / 2;
    (!times.is_empty()).then(|| *times.select_nth_unstable(middle).1)
}

/// Whether a recorded run is one of a call of that name.
pub(crate) fn is_of_name(record: &RingRecord, name: &CallName) -> bool {
    match name {
        CallName::Given(name) => record.run.name.as_ref() == Some(name),
        CallName::Function(offset) => record.run.name.is_none() && record.run.log_id == *offset,
    }
}
