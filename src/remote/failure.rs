//! From failures, as the supervisor reports them, to errors with the names that the client knows.

use super::Remote;
use crate::error::{Error, TaskError};
use crate::graph::Graph;
use crate::graph::label::TaskLabel;
use crate::graph::node;
use crate::ids::TaskId;
use crate::ipc::segment::SegmentError;
use crate::job::Failure;
use crate::submission::handle::ResultHandle;

impl Remote {
    /// The error that a failure is, with the names that this side knows: of an output, whose `own` it is or that needed
    /// what failed.
    pub(super) fn error(&self, number: u32, failure: &Failure, output: &TaskLabel, own: bool) -> TaskError {
        let named = match &failure.call {
            Some((name, hash)) => Some((node::key(name, *hash), name.clone())),
            None if own => Some((output.key(), output.name())),
            None => {
                let submissions = self.submissions.lock();
                let its = submissions.get(&failure.task.job.number).and_then(|entry| {
                    let names = entry.names.as_ref()?;
                    let end = *names.ends.get(failure.task.index as usize)?;
                    let label = ((end as usize) < names.graph.len()).then(|| names.graph.label(end))?;
                    Some((label.key(), label.name()))
                });
                its.or_else(|| label_of_held(&submissions.get(&number)?.names.as_ref()?.graph, failure.task))
            }
        };
        let (key, name) = named.unwrap_or_else(|| (format!("task-{}", failure.task), "task".to_string()));
        TaskError::new(key, name, failure.worker.clone(), Some(output.key()), failure.cause.clone())
    }
}

/// Key and name of a task of an earlier submission whose result a graph uses.
fn label_of_held(graph: &Graph, task: TaskId) -> Option<(String, String)> {
    let Graph::Dag(dag) = graph else { return None };
    let mut handles = dag.all_held().filter_map(ResultHandle::of);
    let handle = handles.find(|handle| handle.submission.task(handle.index) == Some(task))?;
    Some((handle.key(), handle.name()))
}

impl From<SegmentError> for Error {
    fn from(e: SegmentError) -> Self {
        Error::Resource { resource: "shared memory".to_string(), reason: e.to_string() }
    }
}
