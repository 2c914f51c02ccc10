//! Copies of tasks, with one more argument for those that need no other task: something to wait for, or something that makes
//! them different.
//!
//! A function takes the arguments that it knows. What is behind them is an input as any other, which must be there before
//! the task runs, and whose value nobody looks at.

use super::node::{Arg, Kind, Node};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// A copy of each root and of all that it needs, where those that need no other task have `last` as their last argument.
/// Results that are held, and values that are given, are left as they are: nothing runs for them.
pub(crate) fn copy(roots: &[Arc<Node>], last: &Arg) -> Vec<Arc<Node>> {
    let mut copies = Copies { done: FxHashMap::default(), last };
    // Chains may be long, so what a task needs is copied before it and not from within.
    let mut stack: Vec<(&Arc<Node>, bool)> = Vec::new();
    for root in roots {
        stack.push((root, false));
        while let Some((node, inputs_are_done)) = stack.pop() {
            if copies.done.contains_key(&Arc::as_ptr(node)) {
                continue;
            }
            if inputs_are_done {
                let copy = copies.node(node);
                copies.done.insert(Arc::as_ptr(node), copy);
                continue;
            }
            stack.push((node, true));
            node.each_input(&mut |input| stack.push((input, false)));
        }
    }
    roots.iter().map(|root| copies.of(root)).collect()
}

struct Copies<'a> {
    /// By the tasks that they are of.
    done: FxHashMap<*const Node, Arc<Node>>,
    last: &'a Arg,
}

impl Copies<'_> {
    fn of(&self, node: &Arc<Node>) -> Arc<Node> {
        Arc::clone(self.done.get(&Arc::as_ptr(node)).unwrap_or(node))
    }

    /// The copy of a task whose inputs have been copied.
    fn node(&self, node: &Arc<Node>) -> Arc<Node> {
        match &node.kind {
            Kind::Held(_) => Arc::clone(node),
            Kind::Call { function, options: None, .. } if function.is_given() => Arc::clone(node),
            Kind::Part(part) => {
                let maker = self.of(part.maker());
                if Arc::ptr_eq(&maker, part.maker()) {
                    Arc::clone(node)
                } else {
                    Arc::new(Node::part(&maker, part.place))
                }
            }
            Kind::Call { function, args, options } => {
                let mut is_first = true;
                node.each_input(&mut |input| is_first &= Arc::ptr_eq(&self.of(input), input));
                let mut args: SmallVec<[Arg; 2]> = args.iter().map(|arg| self.arg(arg)).collect();
                if is_first {
                    args.push(self.last.clone());
                }
                Arc::new(Node::call(function, args, options.clone()))
            }
        }
    }

    fn arg(&self, arg: &Arg) -> Arg {
        match arg {
            Arg::Value(..) => arg.clone(),
            Arg::Task(node) => Arg::Task(self.of(node)),
            Arg::Elements(node) => Arg::Elements(self.of(node)),
            Arg::Inline(record, args) => Arg::Inline(record, args.iter().map(|arg| self.arg(arg)).collect()),
        }
    }
}
