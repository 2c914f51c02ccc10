//! What is kept of a submission to run outputs again that have failed.

use super::Submission;
use super::handle::ResultState;
use crate::graph::map::MapTasks;
use crate::graph::node::Node;
use crate::graph::{Dag, Graph};
use smallvec::SmallVec;
use std::sync::Arc;

/// What outputs that fail are run again from. Nothing else keeps the arguments and inputs of a submission once it has been
/// sent, or has run: its labels are enough to say what failed.
pub(crate) enum Again {
    /// Whoever runs the tasks knows.
    Elsewhere,
    /// The calls of the outputs, each until it has succeeded or nobody holds its result any more, and what is added to
    /// their priorities.
    Calls { calls: SmallVec<[Option<Arc<Node>>; 1]>, priority: i32 },
    /// The map that it is, until all calls have succeeded.
    Map(Arc<MapTasks>),
}

impl Again {
    pub(crate) fn of(graph: &Graph) -> Self {
        match graph {
            Graph::Dag(dag) => {
                let outputs = dag.outputs();
                let calls = outputs.iter().map(|&id| Some(Arc::clone(&dag.nodes[id as usize]))).collect();
                Self::Calls { calls, priority: dag.priority }
            }
            Graph::Map(map) => Self::Map(Arc::clone(map)),
        }
    }

    /// Takes the call of an output.
    pub(super) fn take(&mut self, index: u32) -> Option<Arc<Node>> {
        match self {
            Self::Calls { calls, .. } => calls.get_mut(index as usize)?.take(),
            Self::Elsewhere | Self::Map(_) => None,
        }
    }
}

impl Submission {
    /// The call of an output that has failed, to run it again, if it is kept here.
    pub(crate) fn failed_call(&self, index: u32) -> Option<Dag> {
        if self.origin.is_elsewhere() {
            return None;
        }
        enum Kept {
            Call(Arc<Node>, i32),
            Map(Arc<MapTasks>),
        }
        let kept = {
            let state = self.state.lock();
            if !matches!(state.results.get(index), ResultState::Failed(_)) {
                return None;
            }
            match &state.again {
                Again::Elsewhere => return None,
                Again::Calls { calls, priority } => Kept::Call(calls.get(index as usize)?.clone()?, *priority),
                Again::Map(map) => Kept::Map(Arc::clone(map)),
            }
        };
        let (node, priority) = match kept {
            Kept::Call(node, priority) => (node, priority),
            // The value's own code runs here.
            Kept::Map(map) => (map.node(index), map.priority),
        };
        let mut dag = Dag::of(&[&node]);
        dag.priority = priority;
        Some(dag)
    }
}
