//! From lazy nodes to something that can be run: tasks that need each other, or many calls of one function.

pub(crate) mod copy;
pub(crate) mod dag;
pub(crate) mod held;
mod inline;
pub(crate) mod label;
mod literals;
pub(crate) mod map;
pub(crate) mod node;
pub(crate) mod options;
pub(crate) mod picture;
pub(crate) mod wire;

pub(crate) use dag::Dag;

use label::TaskLabel;
use map::MapTasks;
use node::Node;
use options::Options;
use std::borrow::Cow;
use std::sync::Arc;

/// The tasks of one submission, densely numbered.
#[derive(Debug)]
pub(crate) enum Graph {
    /// Tasks that may need each other, written out.
    Dag(Dag),
    /// Calls of one function with one value each, held as a rule. None needs another, and each result is wanted.
    Map(Arc<MapTasks>),
}

impl Graph {
    pub(crate) fn len(&self) -> usize {
        match self {
            Graph::Dag(dag) => dag.len(),
            Graph::Map(map) => map.len(),
        }
    }

    pub(crate) fn node(&self, id: u32) -> Cow<'_, Arc<Node>> {
        match self {
            Graph::Dag(dag) => Cow::Borrowed(&dag.nodes[id as usize]),
            Graph::Map(map) => Cow::Owned(map.node(id)),
        }
    }

    /// What a task is called. The values of a map are left alone: copying and dropping them is their own code.
    pub(crate) fn label(&self, id: u32) -> TaskLabel {
        match self {
            Graph::Dag(dag) => TaskLabel::of(&dag.nodes[id as usize]),
            Graph::Map(map) => TaskLabel::plain(map.function(), map.hash(id)),
        }
    }

    pub(crate) fn options(&self, id: u32) -> Option<&Options> {
        match self {
            Graph::Dag(dag) => dag.options(id),
            Graph::Map(_) => None,
        }
    }

    /// The inputs of a task in the order of its arguments; one that is used twice occurs twice.
    pub(crate) fn refs(&self, id: u32) -> &[u32] {
        match self {
            Graph::Dag(dag) => dag.refs(id),
            Graph::Map(_) => &[],
        }
    }

    /// Priority of a task; higher runs earlier.
    pub(crate) fn priority(&self, id: u32) -> i32 {
        match self {
            Graph::Dag(dag) => dag.priority.saturating_add(dag.options(id).map_or(0, |o| o.priority)),
            Graph::Map(map) => map.priority,
        }
    }
}

impl Default for Graph {
    /// A graph without tasks.
    fn default() -> Self {
        Graph::Dag(Dag::default())
    }
}
