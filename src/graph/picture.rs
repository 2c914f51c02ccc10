//! The tasks of a graph as pictures see them.

use super::dag::Dag;
use super::node::{Arg, Kind, Node};
use crate::task::function::{Record, short_name};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use swath_insight::TaskState;
use swath_insight::picture::{NameId, NodeKind, Task, TaskGraph, TaskId};

/// Names that have been asked for: most tasks share them, and a name is made from a path.
#[derive(Default)]
struct Names(FxHashMap<(*const (), *const ()), NameId>);

impl Names {
    fn of(&mut self, node: &Node, graph: &mut TaskGraph) -> NameId {
        let Kind::Call { function, options, .. } = &node.kind else { return graph.name(&node.name()) };
        let options = options.as_ref().map_or(std::ptr::null(), |options| Arc::as_ptr(options).cast());
        *self.0.entry((std::ptr::from_ref(*function).cast(), options)).or_insert_with(|| graph.name(&node.name()))
    }
}

/// The graph as pictures see it, and the id of each of its tasks. The first `results` of its roots are asked for.
pub(crate) fn task_graph(dag: &Dag, results: usize) -> (TaskGraph, Vec<TaskId>) {
    let (mut graph, mut names) = (TaskGraph::new(), Names::default());
    let mut ids: Vec<TaskId> = Vec::with_capacity(dag.len());
    let roots: FxHashSet<u32> = dag.roots.iter().take(results).copied().collect();
    for (node, number) in dag.nodes.iter().zip(0..) {
        let mut task = Task::new(names.of(node, &mut graph), node.key_hash());
        task.is_result = roots.contains(&number);
        match &node.kind {
            Kind::Held(_) => (task.kind, task.state) = (NodeKind::Data, Some(TaskState::Memory)),
            Kind::Part(_) => task.kind = NodeKind::Data,
            Kind::Call { function, .. } if function.is_given() => task.kind = NodeKind::Data,
            Kind::Call { .. } => {}
        }
        let id = graph.push(task, dag.refs(number).iter().map(|&input| ids[input as usize]));
        let steps = steps(node);
        if !steps.is_empty() {
            let mut steps: Vec<NameId> = steps.into_iter().map(|step| graph.name(&short_name(step.path()))).collect();
            steps.push(task.name);
            graph.set_steps(id, steps);
        }
        ids.push(id);
    }
    (graph, ids)
}

/// The steps of collections that a task has taken in, from the first to the last, without its own.
fn steps(node: &Node) -> Vec<&'static Record> {
    let Kind::Call { args, .. } = &node.kind else { return Vec::new() };
    let mut steps = Vec::new();
    let mut left: Vec<&Arg> = args.iter().collect();
    while let Some(arg) = left.pop() {
        if let Arg::Inline(record, args) = arg {
            // What puts a list or another container together is called by a word, and has no path.
            if record.path().contains("::") {
                steps.push(*record);
            }
            left.extend(args);
        }
    }
    steps.reverse();
    steps
}

/// The graph that computes `roots` in Graphviz's language, task by task. Data flows upwards, as in Dask's pictures.
pub(crate) fn dot(roots: &[&Arc<Node>]) -> String {
    task_graph(&Dag::of(roots), roots.len()).0.to_dot()
}
