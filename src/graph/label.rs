//! What a task is called, without the graph that it is in.

use crate::error::name::TaskName;
use crate::graph::node;
use crate::graph::node::{Kind, Node, Part, halves};
use crate::graph::options::Options;
use crate::task::codec::Codec;
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
    /// The label of a task without options, whose result may be another each time.
    pub(crate) fn plain(function: &'static Record, hash: u128) -> Self {
        Self { function, options: None, hash: halves(hash), reproducible: false, part: None }
    }

    /// The same, of a task that has a name of its own.
    pub(crate) fn named(function: &'static Record, name: String, hash: u128) -> Self {
        let options = Options { name: Some(name), ..Options::default() };
        Self { options: Some(Arc::new(options)), ..Self::plain(function, hash) }
    }

    pub(crate) fn hash(&self) -> u128 {
        u128::from(self.hash[0]) << 64 | u128::from(self.hash[1])
    }

    #[inline]
    pub(crate) fn of(node: &Node) -> Self {
        match &node.kind {
            Kind::Call { function, options, .. } => Self {
                function,
                options: options.clone(),
                hash: node.hash,
                reproducible: node.reproducible,
                part: None,
            },
            Kind::Part(part) => Self::of_part(node.hash(), part),
            Kind::Held(held) => held.label(),
        }
    }

    #[cold]
    fn of_part(hash: u128, part: &Part) -> Self {
        let whole = Self::of(part.whole());
        let mut places = whole.part.map(|part| part.places).unwrap_or_default();
        places.push(part.place);
        let codec = part.codec().unwrap_or(whole.function.result());
        Self { hash: halves(hash), part: Some(Box::new(PartLabel { places, codec })), ..whole }
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
        node::key(&self.name(), self.hash[0])
    }

    /// What an error calls the task.
    pub(crate) fn task_name(&self) -> TaskName {
        let hash = self.hash[0];
        let is_named = self.part.is_some() || self.options.as_deref().is_some_and(|o| o.name.is_some());
        match is_named {
            true => TaskName::own(self.name(), hash),
            false => TaskName::of_function(self.function.path(), hash),
        }
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
