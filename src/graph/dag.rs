//! A graph of nodes: only what its roots need, each task once, in a good order.

use super::held::Held;
use super::node::{Kind, Node};
use super::options::Options;
use crate::lazy_map::LazyMap;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

/// The tasks that some results need, densely numbered.
///
/// The numbers ascend in depth-first order: every task comes after its inputs and soon after the last of them, so that
/// running by ascending number keeps few results alive (the goal of `dask.order`, by a simpler rule).
#[derive(Debug, Default)]
pub(crate) struct Dag {
    pub(crate) nodes: Vec<Arc<Node>>,
    /// The inputs of all tasks, in the order of their arguments and as often as they occur there.
    pub(super) refs: Vec<u32>,
    ref_ends: Vec<u32>,
    /// For each result asked for, its task.
    pub(crate) roots: Ids,
    /// What is added to the priority of each task.
    pub(crate) priority: i32,
    /// When nobody waits for it any more. Who runs it where it is submitted begins no task from then on.
    pub(crate) deadline: Option<Instant>,
    /// Nodes that are results of earlier graphs.
    held: usize,
    /// By task: the parts of its result.
    parts: LazyMap<u32, Vec<u32>>,
    /// Nodes that are parts.
    in_parts: usize,
    /// Those that take resources.
    pub(crate) counted: Vec<u32>,
    /// Whether each task stays one, and none is a step of another.
    pub(super) unfused: bool,
}

/// A list of tasks; mostly of one, since most graphs are asked for one result.
pub(crate) type Ids = SmallVec<[u32; 2]>;

/// Finds the result of a task, where there is one already.
pub(crate) type Known<'a> = &'a dyn Fn(&Arc<Node>) -> Option<Held>;

enum Visit<'a> {
    Enter(&'a Arc<Node>),
    /// Whether the node may be met again.
    Leave(&'a Arc<Node>, bool),
}

/// Finds a node that was met before.
#[derive(Default)]
struct Met {
    by_place: FxHashMap<*const Node, u32>,
    /// Pure calls, which are one task if they have the same options.
    by_hash: FxHashMap<(u128, u64), u32>,
    /// Results of earlier graphs.
    by_result: FxHashMap<(*const (), u32), u32>,
}

impl Met {
    fn get(&self, node: &Arc<Node>) -> Option<u32> {
        self.by_place.get(&Arc::as_ptr(node)).copied().or_else(|| match &node.kind {
            Kind::Held(held) => self.by_result.get(&held.identity()).copied(),
            Kind::Call { .. } | Kind::Part(_) if node.is_pure() => {
                self.by_hash.get(&(node.hash(), node.options_hash())).copied()
            }
            Kind::Call { .. } | Kind::Part(_) => None,
        })
    }

    fn put(&mut self, node: &Arc<Node>, id: u32) {
        self.by_place.insert(Arc::as_ptr(node), id);
        match &node.kind {
            Kind::Held(held) => drop(self.by_result.insert(held.identity(), id)),
            Kind::Call { .. } | Kind::Part(_) if node.is_pure() => {
                self.by_hash.insert((node.hash(), node.options_hash()), id);
            }
            Kind::Call { .. } | Kind::Part(_) => {}
        }
    }
}

impl Dag {
    /// The graph of everything that `roots` need. Equal pure tasks become one, and so do stages of collections.
    ///
    /// Takes about 100 ns a task.
    pub(crate) fn of(roots: &[&Arc<Node>]) -> Self {
        Self::with_known(roots, None)
    }

    /// As [`of`](Self::of); tasks whose result is `known` are not run again.
    pub(crate) fn with_known(roots: &[&Arc<Node>], known: Option<Known<'_>>) -> Self {
        Self::with(roots, known, true)
    }

    /// The same. Unless it `fuses`, each task stays one.
    pub(crate) fn with(roots: &[&Arc<Node>], known: Option<Known<'_>>, fuses: bool) -> Self {
        let mut graph = Self { roots: Ids::with_capacity(roots.len()), unfused: !fuses, ..Self::default() };
        if let [root] = roots
            && !root.has_inputs()
            && known.is_none_or(|known| known(root).is_none())
        {
            // Services submit many graphs of one task.
            let id = graph.add(Arc::clone(root));
            graph.roots.push(id);
            return graph;
        }
        let mut streams = false;
        let mut met = Met::default();
        let mut stack: Vec<Visit<'_>> = Vec::new();
        // Numbers of finished nodes that wait for the node they are an argument of.
        let mut done: Vec<u32> = Vec::new();
        // One root is nobody's input, but one of several may be, or come twice. Handles that lie one behind the other are
        // different ones: then what is said of other nodes holds for the roots, too.
        let ascend = roots.windows(2).all(|pair| std::ptr::from_ref(pair[0]) < std::ptr::from_ref(pair[1]));
        if roots.len() > 1 {
            graph.nodes.reserve(roots.len());
            graph.ref_ends.reserve(roots.len());
        }
        for root in roots {
            stack.push(Visit::Enter(root));
            let mut at_root = !ascend;
            while let Some(visit) = stack.pop() {
                match visit {
                    Visit::Enter(node) => {
                        // A node with one handle is an argument in one place, so it cannot be met again.
                        let shared = at_root || Arc::strong_count(node) > 1 || node.is_one_of_many();
                        at_root = false;
                        if shared && let Some(id) = met.get(node) {
                            done.push(id);
                            continue;
                        }
                        if let Some(known) = known
                            && let Some(held) = known(node)
                        {
                            let result = Arc::new(Node::held(held));
                            let id = met.get(&result).unwrap_or_else(|| {
                                // Only what the graph keeps is noted by its address, which another node may get otherwise.
                                let id = graph.add(Arc::clone(&result));
                                met.put(&result, id);
                                id
                            });
                            met.put(node, id);
                            done.push(id);
                            continue;
                        }
                        stack.push(Visit::Leave(node, shared));
                        let first = stack.len();
                        node.each_input(&mut |input| stack.push(Visit::Enter(input)));
                        stack[first..].reverse();
                    }
                    Visit::Leave(node, shared) => {
                        let mut inputs = 0;
                        node.each_input(&mut |_| inputs += 1);
                        let first = done.len() - inputs;
                        graph.refs.extend(done.drain(first..));
                        streams |= node.takes_streams();
                        let id = graph.add(Arc::clone(node));
                        if shared {
                            met.put(node, id);
                        }
                        done.push(id);
                    }
                }
            }
            graph.roots.extend(done.pop());
        }
        if streams && fuses { graph.inline_streams() } else { graph }
    }

    #[inline]
    pub(super) fn add(&mut self, node: Arc<Node>) -> u32 {
        self.ref_ends.push(self.refs.len() as u32);
        let id = self.nodes.len() as u32;
        match &node.kind {
            Kind::Call { options: None, .. } => {}
            Kind::Call { options: Some(options), .. } => {
                if !options.resources.is_empty() {
                    self.counted.push(id);
                }
            }
            Kind::Part(_) | Kind::Held(_) => self.note(&node, id),
        }
        self.nodes.push(node);
        id
    }

    /// Notes a node that does not run.
    #[cold]
    fn note(&mut self, node: &Node, id: u32) {
        match &node.kind {
            Kind::Call { .. } => {}
            Kind::Held(_) => self.held += 1,
            Kind::Part(_) => {
                self.in_parts += 1;
                let maker = self.refs.last().copied().unwrap_or_default();
                self.parts.or_default(maker).push(id);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How many of them are to run.
    pub(crate) fn tasks(&self) -> usize {
        self.len() - self.held - self.in_parts
    }

    /// How many of them are parts of the results of others.
    pub(crate) fn in_parts(&self) -> usize {
        self.in_parts
    }

    /// Whether the result of a task is taken apart.
    #[inline]
    pub(crate) fn has_parts(&self, id: u32) -> bool {
        self.in_parts > 0 && self.parts.contains_key(&id)
    }

    /// The parts of the result of a task, if that is taken apart: each with its place.
    pub(crate) fn parts(&self, id: u32) -> Option<impl Iterator<Item = (u32, u32)>> {
        let parts = self.parts.get(&id)?;
        Some(parts.iter().filter_map(|&part| Some((part, self.place(part)?))))
    }

    /// The place of a part in the result of its maker; none where it is no part.
    pub(crate) fn place(&self, id: u32) -> Option<u32> {
        if self.in_parts == 0 {
            return None;
        }
        match &self.nodes[id as usize].kind {
            Kind::Part(part) => Some(part.place),
            Kind::Call { .. } | Kind::Held(_) => None,
        }
    }

    /// Changes the options of all tasks that run.
    pub(crate) fn set_options(&mut self, set: impl Fn(&mut Options)) {
        self.counted.clear();
        for (id, node) in (0..).zip(&mut self.nodes) {
            // What takes a result apart is a part of the task that makes it.
            if node.has_parts() {
                continue;
            }
            if let Some(changed) = node.with_options(&set) {
                if changed.options().is_some_and(|options| !options.resources.is_empty()) {
                    self.counted.push(id);
                }
                *node = Arc::new(changed);
            }
        }
    }

    pub(crate) fn options(&self, id: u32) -> Option<&Options> {
        self.nodes.get(id as usize).and_then(|node| node.options())
    }

    /// The inputs of a task in the order of its arguments; one that is used twice occurs twice.
    pub(crate) fn refs(&self, id: u32) -> &[u32] {
        match self.refs.is_empty() {
            true => &[],
            false => row(&self.ref_ends, &self.refs, id),
        }
    }

    /// How often each task's result is used: by arguments, and once if it is asked for.
    pub(crate) fn uses(&self) -> Vec<u32> {
        let mut uses = vec![0; self.len()];
        self.refs.iter().chain(&self.outputs()).for_each(|&r| uses[r as usize] += 1);
        uses
    }

    /// The tasks asked for, ascending and without repeats.
    pub(crate) fn outputs(&self) -> Ids {
        let mut outputs = Ids::from_slice(&self.roots);
        if !outputs.is_sorted_by(|a, b| a < b) {
            outputs.sort_unstable();
            outputs.dedup();
        }
        outputs
    }

    /// For each task, the tasks that use it, once for each use: `ends` and `tasks` in compressed-row form.
    pub(crate) fn dependents(&self) -> (Vec<u32>, Vec<u32>) {
        let mut ends = vec![0_u32; self.len()];
        self.refs.iter().for_each(|&r| ends[r as usize] += 1);
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total - *end;
        }
        let mut tasks = vec![0; self.refs.len()];
        for id in 0..self.len() as u32 {
            for &r in self.refs(id) {
                let at = &mut ends[r as usize];
                tasks[*at as usize] = id;
                *at += 1;
            }
        }
        (ends, tasks)
    }

    /// The result of an earlier submission that a task stands for.
    pub(crate) fn held(&self, id: u32) -> Option<&Held> {
        if self.held == 0 {
            return None;
        }
        match &self.nodes[id as usize].kind {
            Kind::Held(held) => Some(held),
            Kind::Call { .. } | Kind::Part(_) => None,
        }
    }

    /// All of these results.
    pub(crate) fn all_held(&self) -> impl Iterator<Item = &Held> {
        // Most graphs have none, and need not be searched.
        let nodes = if self.held > 0 { &self.nodes[..] } else { &[] };
        nodes.iter().filter_map(|node| match &node.kind {
            Kind::Held(held) => Some(held),
            Kind::Call { .. } | Kind::Part(_) => None,
        })
    }

    /// Whether a task is the result of an earlier submission.
    pub(crate) fn is_held(&self, id: u32) -> bool {
        self.held(id).is_some()
    }
}

/// The slice of a compressed-row list that belongs to `i`.
pub(crate) fn row<'a>(ends: &[u32], items: &'a [u32], i: u32) -> &'a [u32] {
    let i = i as usize;
    let start = if i == 0 { 0 } else { ends[i - 1] as usize };
    &items[start..ends[i] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delayed::{Delayed, delayed};
    use crate::error::{Error, Result};
    use crate::graph::held::HeldResults;
    use crate::graph::label::TaskLabel;
    use crate::ids::TaskId;
    use crate::task::function::{Record, TaskFunction};

    fn inc(x: i64) -> i64 {
        x + 1
    }

    fn add(a: i64, b: i64) -> i64 {
        a + b
    }

    fn graph_of(roots: &[&Delayed<i64>]) -> Dag {
        Dag::of(&roots.iter().map(|d| d.node()).collect::<Vec<_>>())
    }

    #[test]
    fn shared_parts_come_once_and_before_their_users() {
        let x = delayed(inc).call(1);
        let y = delayed(inc).call(&x);
        let z = delayed(add).call(&x, &y);
        let g = graph_of(&[&z, &x, &z]);
        assert_eq!(g.len(), 3);
        assert_eq!(g.roots[..], [2, 0, 2]);
        assert_eq!(g.refs(2), [0, 1]);
        assert_eq!(g.uses(), [3, 1, 1]);
        let (ends, tasks) = g.dependents();
        assert_eq!(row(&ends, &tasks, 0), [1, 2]);
    }

    #[test]
    fn results_in_a_row_may_be_of_one_task_or_inputs_of_each_other() {
        let x = delayed(inc).call(1);
        let row = [delayed(inc).call(&x), x.clone(), x, delayed(inc).call(2)];
        let g = graph_of(&row.each_ref());
        assert_eq!((g.len(), &g.roots[..]), (3, &[1, 0, 0, 2][..]));
    }

    #[test]
    fn equal_pure_calls_are_one_task() {
        let a = delayed(inc).pure().call(1);
        let b = delayed(inc).pure().call(1);
        let c = delayed(inc).pure().call(2);
        assert_eq!(graph_of(&[&(&a + &b), &c]).len(), 3);
        let d = delayed(inc).call(1);
        let e = delayed(inc).call(1);
        assert_eq!(graph_of(&[&(d + e)]).len(), 3);
    }

    #[test]
    fn an_input_used_twice_counts_twice() {
        let x = delayed(inc).call(1);
        let y = delayed(add).call(&x, &x);
        let g = graph_of(&[&y]);
        assert_eq!(g.refs(1), [0, 0]);
        assert_eq!(g.uses(), [2, 1]);
    }

    #[test]
    fn a_long_chain_neither_recurses_nor_overflows() {
        let mut x = delayed(inc).call(0);
        for _ in 0..300_000 {
            x = delayed(inc).call(x);
        }
        assert_eq!(graph_of(&[&x]).len(), 300_001);
        drop(x);
    }

    #[test]
    fn a_tree_is_numbered_depth_first() {
        let leaf = |i: i64| delayed(inc).call(i);
        let l = delayed(add).call(leaf(0), leaf(1));
        let r = delayed(add).call(leaf(2), leaf(3));
        let g = graph_of(&[&delayed(add).call(l, r)]);
        assert_eq!(g.refs(2), [0, 1]);
        assert_eq!(g.refs(5), [3, 4]);
        assert_eq!(g.refs(6), [2, 5]);
    }

    #[test]
    fn steps_are_parts_of_the_only_task_that_reads_them() {
        use crate::Bag;
        let graph = |bag: &Bag<i64>| Dag::of(&bag.to_delayed().iter().map(Delayed::node).collect::<Vec<_>>());
        let two = Bag::range(0..4, 2);
        let steps = two.map(|x| x + 1).filter(|x| *x > 1).map(|x| x * 2);
        assert_eq!(graph(&steps).len(), 2);
        // What two read is a task, and so is what is asked for.
        let halves = steps.repartition(4);
        assert_eq!(graph(&halves).len(), 6);
        let both = Bag::concat([steps.clone(), steps.map(|x| x - 1)]);
        assert_eq!(graph(&both).len(), 4);
        // Options hold for the whole; steps of different places stay apart.
        let named = two.map(|x| x + 1).retries(3).memory(5).map(|x| x + 2).retries(1).tag("gpu");
        let options = graph(&named).nodes[0].options().cloned().expect("options");
        assert_eq!((options.retries, options.memory, options.tag.as_deref()), (3, Some(5), Some("gpu")));
        assert_eq!(graph(&two.map(|x| x + 1).tag("cpu").map(|x| x + 2).tag("gpu")).len(), 4);
        // No deeper than iterators may nest.
        let deep = (0..200).fold(Bag::range(0..1, 1), |bag, _| bag.map(|x| x + 1));
        assert_eq!(graph(&deep).len(), 2);
        assert_eq!(graph(&deep).refs(1), [0]);
    }

    /// Results that are known, and of which the graph needs nothing but a name.
    struct Known;

    impl HeldResults for Known {
        fn label(&self, index: u32) -> TaskLabel {
            fn record<F: TaskFunction<(i64,), i64>>(_: F) -> &'static Record {
                F::RECORD
            }
            TaskLabel::plain(record(inc), index.into())
        }

        fn task_sent(&self, _: u32) -> Result<TaskId> {
            Err(Error::invalid("task", "none makes it"))
        }

        fn add_handle(&self, _: u32) {}

        fn drop_handle(&self, _: u32) {}
    }

    #[test]
    fn known_results_are_not_taken_for_each_other() {
        let results: Arc<dyn HeldResults> = Arc::new(Known);
        // All calls of one hash have the same result, the others one each.
        let calls: Vec<Delayed<i64>> = (0..100)
            .map(|i| match i % 2 {
                0 => delayed(inc).pure().priority(i).call(0),
                _ => delayed(inc).pure().call(i64::from(i)),
            })
            .collect();
        let same = calls[0].node().hash();
        let numbers: FxHashMap<u128, u32> = calls.iter().zip(0..).map(|(call, i)| (call.node().hash(), i)).collect();
        let known = |node: &Arc<Node>| Some(Held::new(Arc::clone(&results), numbers[&node.hash()]));
        let roots: Vec<&Arc<Node>> = calls.iter().map(Delayed::node).collect();
        let graph = Dag::with_known(&roots, Some(&known));
        assert_eq!(graph.len(), 51);
        for (call, &root) in calls.iter().zip(&graph.roots) {
            assert_eq!(graph.held(root).map(Held::index), Some(numbers[&call.node().hash()]));
        }
        assert_eq!(graph.roots[0], graph.roots[98]);
        assert_eq!(calls[98].node().hash(), same);
    }
}
