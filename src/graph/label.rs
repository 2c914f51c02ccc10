//! What a task is called, without the graph that it is in.

use crate::graph::node;
use crate::graph::node::{Kind, Node};
use crate::graph::options::Options;
use crate::task::function::{Record, short_name};
use std::sync::Arc;

/// What an output is called, without keeping the graph that makes it.
#[derive(Clone)]
pub(crate) struct TaskLabel {
    pub(crate) function: &'static Record,
    options: Option<Arc<Options>>,
    /// The upper and the lower half: a number of that width would have the label, and whatever holds it, lie at multiples
    /// of 16 bytes.
    hash: [u64; 2],
    /// As of its [`Node`].
    pub(crate) reproducible: bool,
}

impl TaskLabel {
    /// The label of a task without options, whose result may be another each time.
    pub(crate) fn plain(function: &'static Record, hash: u128) -> Self {
        Self { function, options: None, hash: halves(hash), reproducible: false }
    }

    pub(crate) fn hash(&self) -> u128 {
        u128::from(self.hash[0]) << 64 | u128::from(self.hash[1])
    }

    pub(crate) fn of(node: &Node) -> Self {
        match &node.kind {
            Kind::Call { function, options, .. } => {
                Self { function, options: options.clone(), hash: halves(node.hash), reproducible: node.reproducible }
            }
            Kind::Held(held) => held.label(),
        }
    }

    pub(crate) fn name(&self) -> String {
        match self.options.as_deref().and_then(|o| o.name.as_deref()) {
            Some(name) => name.to_string(),
            None => short_name(self.function.path()),
        }
    }

    pub(crate) fn key(&self) -> String {
        node::key(&self.name(), self.hash[0])
    }

    /// Whether the task has the options of a node.
    pub(crate) fn has_options_of(&self, node: &Node) -> bool {
        self.options.as_deref() == node.options()
    }

    pub(crate) fn is_pure(&self) -> bool {
        self.options.as_deref().is_some_and(|o| o.pure)
    }
}

fn halves(hash: u128) -> [u64; 2] {
    [(hash >> 64) as u64, hash as u64]
}
