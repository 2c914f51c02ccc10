//! From failures, as the supervisor reports them, to errors with the names that the client knows.

use super::Remote;
use crate::error::name::TaskName;
use crate::error::{Error, TaskError};
use crate::graph::Graph;
use crate::graph::label::TaskLabel;
use crate::ids::TaskId;
use crate::ipc::segment::SegmentError;
use crate::job::Failure;
use crate::submission::handle::ResultHandle;
use std::sync::Arc;

impl Remote {
    /// The error that a failure is, with the names that this side knows: of an output, whose `own` it is or that needed
    /// what failed.
    pub(super) fn error(&self, number: u32, failure: &Failure, output: &TaskLabel, own: bool) -> TaskError {
        let task = match &failure.call {
            Some((name, hash)) => Some(TaskName::own(name.clone(), *hash)),
            None if own => Some(output.task_name()),
            None => {
                let submissions = self.submissions.lock();
                let its = submissions.get(&failure.task.job.number).and_then(|entry| {
                    let names = entry.names.as_ref()?;
                    let end = *names.ends.get(failure.task.index as usize)?;
                    ((end as usize) < names.graph.len()).then(|| names.graph.label(end).task_name())
                });
                its.or_else(|| name_of_held(&submissions.get(&number)?.names.as_ref()?.graph, failure.task))
            }
        };
        let task = task.unwrap_or_else(|| TaskName::unknown("task", format!("task-{}", failure.task)));
        let error = TaskError::new(task, failure.worker.as_deref().map(Arc::from), failure.cause.clone());
        match failure.call {
            None if own => error,
            // It may be another call of the same task.
            _ => error.needed(output.task_name()),
        }
    }
}

/// The name of a task of an earlier submission whose result a graph uses.
fn name_of_held(graph: &Graph, task: TaskId) -> Option<TaskName> {
    let Graph::Dag(dag) = graph else { return None };
    let mut handles = dag.all_held().filter_map(ResultHandle::of);
    let handle = handles.find(|handle| handle.submission.task(handle.index) == Some(task))?;
    Some(handle.label().task_name())
}

impl From<SegmentError> for Error {
    fn from(e: SegmentError) -> Self {
        Error::Resource { resource: "shared memory".to_string(), reason: e.to_string() }
    }
}
