//! Which results the tasks of a graph take, for a recording: so the log knows what they waited for.

use crate::events::saved::Input;
use crate::graph::Dag;
use crate::graph::label::TaskLabel;
use crate::graph::node::Kind;
use crate::task::function::short_name;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Of a graph with more, the log says that it does not know the rest.
const MOST: usize = 1 << 18;

/// What the tasks of a graph take from each other, and how much more there is.
pub(super) fn inputs_of(dag: &Dag) -> (Vec<Input>, u64) {
    let mut names: FxHashMap<u64, Arc<str>> = FxHashMap::default();
    let mut name = |id: u32| {
        let node = &dag.nodes[id as usize];
        let Kind::Call { function, options, .. } = &node.kind else { return TaskLabel::of(node).name().into() };
        match options.as_deref().and_then(|options| options.name.as_deref()) {
            Some(name) => name.into(),
            None => names.entry(function.log_id()).or_insert_with(|| short_name(function.path()).into()).clone(),
        }
    };
    let (mut inputs, mut more) = (Vec::new(), 0_u64);
    for (id, node) in dag.nodes.iter().enumerate() {
        if !matches!(node.kind, Kind::Call { .. }) {
            continue;
        }
        let task = name(id as u32);
        for &from in dag.refs(id as u32) {
            // A part has no run of its own: what ran is its maker.
            let from = match (&dag.nodes[from as usize].kind, dag.refs(from)) {
                (Kind::Part(_), [maker]) => *maker,
                (Kind::Held(_), _) => continue,
                _ => from,
            };
            if inputs.len() == MOST {
                more += 1;
                continue;
            }
            let hash = dag.nodes[from as usize].key_hash();
            inputs.push(Input::new(0, (Arc::clone(&task), node.key_hash()), (name(from), hash)));
        }
    }
    (inputs, more)
}
