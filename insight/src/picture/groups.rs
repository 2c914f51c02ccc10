//! The tasks of a graph by name: what an overview draws.

use super::graph::{LayerInput, Link, NameId, NodeKind, Task, TaskGraph};
use crate::{Counts, TaskState};
use std::collections::HashMap;
use std::time::Duration;

/// The most groups; what is beyond is one group of other names.
pub(super) const MOST_GROUPS: usize = 60;
/// So many tasks of a group are known one by one.
pub(super) const MOST_LISTED: usize = 500;

/// All tasks of one name.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Their name; none: they have names that are too many to be shown.
    pub(super) name: Option<NameId>,
    pub(super) kind: NodeKind,
    /// How many there are.
    pub(super) len: u64,
    /// How many names they have.
    pub(super) names: u64,
    /// How many of them are asked for.
    pub(super) results: u64,
    /// How many are held as a rule.
    pub(super) of_rules: u64,
    /// How many stand where.
    pub(super) counts: Counts,
    pub(super) time: Option<Duration>,
    pub(super) bytes: Option<u64>,
    /// The first of them.
    pub(super) first: Vec<u32>,
    /// How they use each other.
    pub(super) within: Option<(u64, Link)>,
    /// Steps that each of them takes in.
    pub(super) steps: Vec<NameId>,
    /// The sum of the depths of all.
    depths: u64,
}

/// How the tasks of one group use those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupEdge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) edges: u64,
    pub(super) link: Link,
    /// Whether it leads against the direction in which data flows for the most part.
    pub(super) is_back: bool,
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
    pub(super) edges: Vec<GroupEdge>,
}

/// What is known of the edges between two groups.
#[derive(Clone, Copy, Default)]
struct Pair {
    edges: u64,
    most_inputs: u64,
    most_users: u64,
    /// The kind that layers say.
    said: Option<Link>,
}

impl Pair {
    fn add(&mut self, edges: u64, link: Link) {
        self.said = match self.said {
            None if self.edges == 0 => Some(link),
            said => Some(said.filter(|said| *said == link).unwrap_or(Link::Neighbours)),
        };
        self.edges += edges;
    }

    fn link(&self, from: u64, to: u64) -> Link {
        if let Some(said) = self.said {
            return said;
        }
        match (self.most_inputs, self.most_users) {
            (0 | 1, 0 | 1) => Link::OneToOne,
            (0 | 1, _) => Link::OneToMany,
            (_, 0 | 1) => Link::ManyToOne,
            _ if self.edges == from.saturating_mul(to) => Link::AllToAll,
            _ => Link::Neighbours,
        }
    }
}

impl Groups {
    pub(super) fn of(graph: &TaskGraph) -> Self {
        let of = membership(graph);
        let mut groups: Vec<Group> = Vec::new();
        let depths = depths(graph);
        for (task, number) in graph.tasks.iter().zip(0..) {
            let group = group(&mut groups, of.of_task(task), task.name, task.kind);
            add_task(group, task, number, depths.tasks[number as usize]);
        }
        for (layer, &depth) in graph.layers.iter().zip(&depths.layers) {
            let group = group(&mut groups, of.of_layer(layer.name), layer.name, NodeKind::Task);
            group.len += layer.len;
            group.of_rules += layer.len;
            group.results += if layer.is_result { layer.len } else { 0 };
            group.depths += u64::from(depth).saturating_mul(layer.len);
            if group.steps.is_empty() {
                group.steps.clone_from(&layer.steps);
            }
        }
        if of.has_others
            && let Some(others) = groups.get_mut(of.shown)
        {
            (others.name, others.names, others.kind) = (None, of.names - of.shown as u64, NodeKind::Task);
        }
        let pairs = pairs(graph, &of);
        Self::with(groups, pairs)
    }

    fn with(mut groups: Vec<Group>, pairs: HashMap<(usize, usize), Pair>) -> Self {
        let mut edges = Vec::with_capacity(pairs.len());
        let place = |i: usize, groups: &[Group]| (groups[i].depths as f64 / groups[i].len.max(1) as f64, i);
        for ((from, to), pair) in pairs {
            let link = pair.link(groups[from].len, groups[to].len);
            if from == to {
                groups[from].within = Some((pair.edges, link));
                continue;
            }
            let is_back = place(from, &groups) > place(to, &groups);
            edges.push(GroupEdge { from, to, edges: pair.edges, link, is_back });
        }
        edges.sort_by_key(|edge| (edge.from, edge.to));
        Self { groups, edges }
    }
}

/// Which group tasks are in.
struct Membership {
    tasks: Vec<usize>,
    data: Vec<usize>,
    /// How many groups have a name.
    shown: usize,
    names: u64,
    has_others: bool,
}

impl Membership {
    fn of_task(&self, task: &Task) -> usize {
        match task.kind {
            NodeKind::Task => self.tasks[task.name.0 as usize],
            NodeKind::Data => self.data[task.name.0 as usize],
        }
    }

    fn of_layer(&self, name: NameId) -> usize {
        self.tasks[name.0 as usize]
    }
}

/// Groups are numbered in the order in which their first tasks run; those of few tasks share the last one.
fn membership(graph: &TaskGraph) -> Membership {
    const NONE: usize = usize::MAX;
    let mut found: Vec<((NameId, NodeKind), u64)> = Vec::new();
    let mut places = [vec![NONE; graph.names()], vec![NONE; graph.names()]];
    let tasks = graph.tasks.iter().map(|task| (task.name, task.kind, 1));
    for (name, kind, len) in tasks.chain(graph.layers.iter().map(|layer| (layer.name, NodeKind::Task, layer.len))) {
        let place = &mut places[usize::from(kind == NodeKind::Data)][name.0 as usize];
        if *place == NONE {
            *place = found.len();
            found.push(((name, kind), 0));
        }
        found[*place].1 += len;
    }
    let mut numbers: Vec<usize> = (0..found.len()).collect();
    let mut shown = found.len();
    if found.len() > MOST_GROUPS {
        shown = MOST_GROUPS - 1;
        let mut by_size: Vec<usize> = (0..found.len()).collect();
        by_size.sort_by_key(|&i| std::cmp::Reverse(found[i].1));
        numbers.fill(shown);
        let mut large = by_size[..shown].to_vec();
        large.sort_unstable();
        large.into_iter().enumerate().for_each(|(number, i)| numbers[i] = number);
    }
    let [tasks, data] = places.map(|places| {
        let number = |place: usize| numbers.get(place).copied().unwrap_or_default();
        places.into_iter().map(number).collect()
    });
    Membership { tasks, data, shown, names: found.len() as u64, has_others: found.len() > shown }
}

fn group(groups: &mut Vec<Group>, number: usize, name: NameId, kind: NodeKind) -> &mut Group {
    while groups.len() <= number {
        groups.push(Group {
            name: None,
            kind,
            len: 0,
            names: 1,
            results: 0,
            of_rules: 0,
            counts: Counts::default(),
            time: None,
            bytes: None,
            first: Vec::new(),
            within: None,
            steps: Vec::new(),
            depths: 0,
        });
    }
    let group = &mut groups[number];
    if group.name.is_none() {
        (group.name, group.kind) = (Some(name), kind);
    }
    group
}

fn add_task(group: &mut Group, task: &Task, number: u32, depth: u32) {
    group.len += 1;
    group.results += u64::from(task.is_result);
    group.depths += u64::from(depth);
    if let Some(state) = task.state {
        group.counts[state] += 1;
    }
    if let Some(time) = task.time {
        *group.time.get_or_insert_default() += time;
    }
    if let Some(bytes) = task.bytes {
        *group.bytes.get_or_insert_default() += bytes;
    }
    if group.first.len() < MOST_LISTED {
        group.first.push(number);
    }
}

struct Depths {
    tasks: Vec<u32>,
    layers: Vec<u32>,
}

/// How many tasks there are at most below each.
fn depths(graph: &TaskGraph) -> Depths {
    let mut tasks = vec![0; graph.tasks.len()];
    for task in 0..graph.tasks.len() {
        tasks[task] = graph.inputs(task as u32).iter().map(|&i| tasks[i as usize] + 1).max().unwrap_or(0);
    }
    let mut layers: Vec<u32> = Vec::with_capacity(graph.layers.len());
    for layer in &graph.layers {
        let below = layer.inputs.iter().map(|input| match input {
            LayerInput::Layer { layer, .. } => layers.get(layer.0 as usize).map_or(0, |depth| depth + 1),
            LayerInput::Tasks { tasks: inputs, .. } => {
                inputs.iter().filter_map(|input| tasks.get(input.0 as usize)).max().map_or(0, |depth| depth + 1)
            }
        });
        layers.push(below.max().unwrap_or(0));
    }
    Depths { tasks, layers }
}

fn pairs(graph: &TaskGraph, of: &Membership) -> HashMap<(usize, usize), Pair> {
    let mut pairs: HashMap<(usize, usize), Pair> = HashMap::new();
    let groups: Vec<u32> = graph.tasks.iter().map(|task| of.of_task(task) as u32).collect();
    let mut used = vec![0_u32; graph.tasks.len()];
    let mut counted: Vec<(u32, u64)> = Vec::new();
    let count = |counted: &mut Vec<(u32, u64)>, group: u32| match counted.iter_mut().find(|(known, _)| *known == group)
    {
        Some((_, n)) => *n += 1,
        None => counted.push((group, 1)),
    };
    for task in 0..graph.tasks.len() {
        counted.clear();
        for &input in graph.inputs(task as u32) {
            used[input as usize] += 1;
            count(&mut counted, groups[input as usize]);
        }
        for &(from, inputs) in &counted {
            let pair = pairs.entry((from as usize, groups[task] as usize)).or_default();
            pair.edges += inputs;
            pair.most_inputs = pair.most_inputs.max(inputs);
        }
    }
    let users = users(graph, used);
    for task in 0..graph.tasks.len() {
        counted.clear();
        users.of(task).iter().for_each(|&user| count(&mut counted, groups[user as usize]));
        for &(to, n) in &counted {
            let pair = pairs.entry((groups[task] as usize, to as usize)).or_default();
            pair.most_users = pair.most_users.max(n);
        }
    }
    for layer in &graph.layers {
        let to = of.of_layer(layer.name);
        for input in &layer.inputs {
            match input {
                LayerInput::Layer { layer: from, link, edges } => {
                    if let Some(from) = graph.layers.get(from.0 as usize) {
                        pairs.entry((of.of_layer(from.name), to)).or_default().add(*edges, *link);
                    }
                }
                LayerInput::Tasks { tasks, link, edges } => {
                    counted.clear();
                    let known = tasks.iter().filter_map(|task| groups.get(task.0 as usize));
                    known.for_each(|&group| count(&mut counted, group));
                    let all: u64 = counted.iter().map(|(_, n)| n).sum();
                    for &(from, n) in &counted {
                        let share = (u128::from(*edges) * u128::from(n) / u128::from(all.max(1))) as u64;
                        pairs.entry((from as usize, to)).or_default().add(share, *link);
                    }
                }
            }
        }
    }
    pairs
}

/// For each task those that use it.
struct Users {
    ends: Vec<usize>,
    users: Vec<u32>,
}

impl Users {
    fn of(&self, task: usize) -> &[u32] {
        let first = if task == 0 { 0 } else { self.ends[task - 1] };
        &self.users[first..self.ends[task]]
    }
}

fn users(graph: &TaskGraph, used: Vec<u32>) -> Users {
    let (mut ends, mut total) = (Vec::with_capacity(used.len()), 0);
    for n in used {
        ends.push(total);
        total += n as usize;
    }
    let mut users = vec![0; total];
    for task in 0..graph.tasks.len() as u32 {
        for &input in graph.inputs(task) {
            let at = &mut ends[input as usize];
            users[*at] = task;
            *at += 1;
        }
    }
    Users { ends, users }
}

/// The rank of each name, for its colour: by time if any is known, else by the number of tasks.
pub(super) fn ranks_of_names(graph: &TaskGraph) -> Vec<usize> {
    let mut costs: Vec<(Duration, u64)> = vec![(Duration::ZERO, 0); graph.names()];
    for task in &graph.tasks {
        let cost = &mut costs[task.name.0 as usize];
        cost.0 += task.time.unwrap_or_default();
        cost.1 += 1;
    }
    graph.layers.iter().for_each(|layer| costs[layer.name.0 as usize].1 += layer.len);
    ranks(&costs)
}

/// The rank of each worker, for its colour: by the number of tasks that it ran.
pub(super) fn ranks_of_workers(graph: &TaskGraph) -> Vec<usize> {
    let mut counts = vec![0_u64; graph.workers()];
    graph.tasks.iter().filter_map(|task| task.worker).for_each(|worker| counts[worker.0 as usize] += 1);
    ranks(&counts)
}

fn ranks<C: Ord>(costs: &[C]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|&a, &b| costs[b].cmp(&costs[a]));
    let mut ranks = vec![0; costs.len()];
    order.into_iter().enumerate().for_each(|(rank, i)| ranks[i] = rank);
    ranks
}

impl Group {
    /// Whether anything is known of where its tasks stand.
    pub(super) fn is_counted(&self) -> bool {
        TaskState::ALL.iter().any(|state| self.counts[*state] > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::{Layer, TaskId};
    use super::*;

    fn links(graph: &TaskGraph) -> Vec<(u64, &'static str)> {
        Groups::of(graph).edges.iter().map(|edge| (edge.edges, edge.link.words())).collect()
    }

    fn many(graph: &mut TaskGraph, name: &str, n: usize, inputs: impl Fn(usize) -> Vec<TaskId>) -> Vec<TaskId> {
        let name = graph.name(name);
        (0..n).map(|i| graph.push(Task::new(name, i as u64), inputs(i))).collect()
    }

    #[test]
    fn links_are_known_by_their_degrees() {
        let mut graph = TaskGraph::new();
        let a = many(&mut graph, "a", 6, |_| Vec::new());
        let b = many(&mut graph, "b", 6, |i| vec![a[i]]);
        let c = many(&mut graph, "c", 2, |i| b[3 * i..3 * i + 3].to_vec());
        let d = many(&mut graph, "d", 4, |i| vec![c[i / 2]]);
        let e = many(&mut graph, "e", 3, |_| d.clone());
        many(&mut graph, "f", 2, |i| vec![e[i], e[i + 1]]);
        let words = ["one to one", "n to one", "one to n", "all to all", "neighbours"];
        assert_eq!(links(&graph), [6, 6, 4, 12, 4].into_iter().zip(words).collect::<Vec<_>>());
    }

    #[test]
    fn layers_are_counted_and_never_written_out() {
        let mut graph = TaskGraph::new();
        let (read, parse) = (graph.name("read"), graph.name("parse"));
        let list = graph.name("list");
        let source = graph.push(Task::new(list, 1), []);
        let mut first = Layer::new(read, 1_000_000);
        first.inputs.push(LayerInput::Tasks { tasks: vec![source], link: Link::OneToMany, edges: 1_000_000 });
        let first = graph.push_layer(first);
        let mut second = Layer::new(parse, 1_000_000);
        second.inputs.push(LayerInput::Layer { layer: first, link: Link::OneToOne, edges: 1_000_000 });
        second.is_result = true;
        graph.push_layer(second);
        let groups = Groups::of(&graph);
        assert_eq!(
            groups.groups.iter().map(|g| (g.len, g.results)).collect::<Vec<_>>(),
            [(1, 0), (1_000_000, 0), (1_000_000, 1_000_000)]
        );
        assert_eq!(links(&graph), [(1_000_000, "one to n"), (1_000_000, "one to one")]);
    }

    #[test]
    fn circles_of_names_have_edges_back_and_within() {
        let mut graph = TaskGraph::new();
        let a = many(&mut graph, "a", 1, |_| Vec::new());
        let b = many(&mut graph, "b", 1, |_| a.clone());
        let c = many(&mut graph, "a", 1, |_| b.clone());
        many(&mut graph, "a", 1, |_| c.clone());
        let groups = Groups::of(&graph);
        let edges: Vec<_> = groups.edges.iter().map(|e| (e.from, e.to, e.is_back)).collect();
        assert_eq!(edges, [(0, 1, true), (1, 0, false)]);
        assert_eq!(groups.groups[0].within, Some((1, Link::OneToOne)));
    }

    #[test]
    fn names_without_end_are_one_group() {
        let mut graph = TaskGraph::new();
        for i in 0..1000 {
            let name = graph.name(&format!("name-{i}"));
            graph.push(Task::new(name, i), []);
        }
        let big = many(&mut graph, "big", 10, |_| Vec::new());
        let groups = Groups::of(&graph);
        assert_eq!(groups.groups.len(), MOST_GROUPS);
        assert_eq!(groups.groups.iter().map(|g| g.len).sum::<u64>(), graph.len());
        assert!(groups.groups.iter().any(|g| g.len == 10 && g.first == big.iter().map(|t| t.0).collect::<Vec<_>>()));
        let others = groups.groups.last().expect("others");
        assert_eq!((others.name, others.names), (None, 1001 - (MOST_GROUPS as u64 - 1)));
    }
}
