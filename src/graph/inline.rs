//! Tasks that are read element by element become parts of the task that reads them.
//!
//! A stage of a collection is a task like any other, whose result is a list. Where its only user asks for the elements
//! one after the other ([`Arg::Elements`]), the list need not be: the stage's function is called as a part of its user's
//! task, in the form that gives an iterator. So a chain of stages is one task and one pass, and what two tasks read is
//! still computed once.

use super::dag::Dag;
use super::node::{Arg, Kind, Node};
use crate::graph::options::Options;
use smallvec::SmallVec;
use std::sync::Arc;

/// Most stages in one task: iterators nest, and so do their calls on the stack.
const DEEPEST: u32 = 128;

/// A task, and its inputs as tasks of the graph before.
struct InlinedTask {
    node: Arc<Node>,
    refs: SmallVec<[u32; 4]>,
    /// How many stages it has taken in, one inside the other.
    depth: u32,
}

impl InlinedTask {
    /// The task of a node when it has taken in the stages that `stage` gives it.
    fn new(graph: &Dag, id: u32, mut stage: impl FnMut(u32, Option<&Options>) -> Option<InlinedTask>) -> Self {
        let node = &graph.nodes[id as usize];
        let mut inputs = graph.refs(id).iter().copied();
        let (function, args, options) = match &node.kind {
            Kind::Call { function, args, options } if node.takes_streams() => (function, args, options),
            _ => return Self { node: Arc::clone(node), refs: inputs.collect(), depth: 0 },
        };
        let (mut refs, mut depth, mut options) = (SmallVec::new(), 0, options.clone());
        let mut joined: SmallVec<[Arg; 2]> = SmallVec::with_capacity(args.len());
        for arg in args {
            let mut uses = 0;
            arg.each_task(&mut |_| uses += 1);
            let first = refs.len();
            refs.extend(inputs.by_ref().take(uses));
            if matches!(arg, Arg::Elements(_))
                && let Some(inner) = stage(refs[first], options.as_deref())
                && let Kind::Call { function, args, options: others } = &inner.node.kind
                && let Some(stream) = function.stream()
            {
                refs.truncate(first);
                refs.extend_from_slice(&inner.refs);
                depth = depth.max(inner.depth + 1);
                joined.push(Arg::Inline(stream, args.to_vec()));
                if let Some(others) = others.as_deref().filter(|o| o.matter()) {
                    options = Some(Arc::new(options.as_deref().cloned().unwrap_or_default().with(others)));
                }
            } else {
                joined.push(arg.clone());
            }
        }
        let node = match depth {
            0 => Arc::clone(node),
            _ => Arc::new(Node {
                kind: Kind::Call { function, args: joined, options },
                hash: node.hash,
                reproducible: node.reproducible,
            }),
        };
        Self { node, refs, depth }
    }
}

impl Dag {
    /// Makes one task of each task and the stages that only it reads.
    pub(super) fn inline_streams(self) -> Self {
        let uses = self.uses();
        let mut tasks: Vec<Option<InlinedTask>> = Vec::with_capacity(self.len());
        for id in 0..self.len() as u32 {
            let task = InlinedTask::new(&self, id, |input, outer| {
                let fits = |task: &mut InlinedTask| {
                    let options = task.node.options();
                    uses[input as usize] == 1
                        && task.depth < DEEPEST
                        && task.node.stream().is_some()
                        && options.is_none_or(|inner| outer.is_none_or(|outer| outer.agrees(inner)))
                };
                tasks[input as usize].take_if(fits)
            });
            tasks.push(Some(task));
        }
        let mut graph = Self::default();
        let mut place = vec![0; self.len()];
        for (id, task) in tasks.into_iter().enumerate() {
            if let Some(task) = task {
                graph.refs.extend(task.refs.iter().map(|&r| place[r as usize]));
                place[id] = graph.add(task.node);
            }
        }
        graph.roots.extend(self.roots.iter().map(|&r| place[r as usize]));
        graph
    }
}
