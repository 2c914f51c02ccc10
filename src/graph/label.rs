//! What a task is called, without the graph that it is in.

use crate::graph::node;
use crate::graph::node::{Kind, Node, Part};
use crate::graph::options::Options;
use crate::task::codec::Codec;
use crate::task::function::{Record, short_name};
use std::sync::Arc;

/// What an output is called, without keeping the graph that makes it.
#[derive(Clone)]
pub(crate) struct TaskLabel {
    pub(crate) function: &'static Record,
    options: Option<Arc<Options>>,
    pub(crate) hash: u128,
    /// Where it is only a part of what the function gives.
    part: Option<Box<PartLabel>>,
}

/// Which part of a result is meant.
#[derive(Clone)]
struct PartLabel {
    /// The place in the result, then that in the part, and so on.
    places: Vec<u32>,
    codec: &'static Codec,
}

impl TaskLabel {
    pub(crate) fn new(function: &'static Record, options: Option<Arc<Options>>, hash: u128) -> Self {
        Self { function, options, hash, part: None }
    }

    #[inline]
    pub(crate) fn of(node: &Node) -> Self {
        match &node.kind {
            Kind::Call { function, options, .. } => Self::new(function, options.clone(), node.hash),
            Kind::Part(part) => Self::of_part(node.hash, part),
            Kind::Held(held) => held.label(),
        }
    }

    #[cold]
    fn of_part(hash: u128, part: &Part) -> Self {
        let whole = Self::of(part.whole());
        let mut places = whole.part.map(|part| part.places).unwrap_or_default();
        places.push(part.place);
        let codec = part.codec().unwrap_or(whole.function.result());
        Self { hash, part: Some(Box::new(PartLabel { places, codec })), ..whole }
    }

    /// What the result is encoded with.
    pub(crate) fn codec(&self) -> &'static Codec {
        self.part.as_ref().map_or(self.function.result(), |part| part.codec)
    }

    pub(crate) fn name(&self) -> String {
        let whole = match self.options.as_deref().and_then(|o| o.name.as_deref()) {
            Some(name) => name.to_string(),
            None => short_name(self.function.path()),
        };
        let places = self.part.iter().flat_map(|part| &part.places);
        places.fold(whole, |name, place| node::part_name(&name, *place))
    }

    pub(crate) fn key(&self) -> String {
        node::key(&self.name(), (self.hash >> 64) as u64)
    }

    /// Whether the task has the options of a node.
    pub(crate) fn has_options_of(&self, node: &Node) -> bool {
        match &node.kind {
            // The hash says which part of which result it is.
            Kind::Part(part) => self.has_options_of(part.whole()),
            Kind::Held(held) => self.options == held.label().options,
            Kind::Call { .. } => self.options.as_deref() == node.options(),
        }
    }

    pub(crate) fn is_pure(&self) -> bool {
        self.options.as_deref().is_some_and(|o| o.pure)
    }
}
