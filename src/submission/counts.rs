//! Tasks of this process counted by state and name, for the modes that run them here.
//!
//! What happens to a task is counted and never taken back, so each thread has counters of its own, and a reader adds them up
//! without a lock. From what it finds it derives how many tasks are in which state: those that have begun and not ended run,
//! and so on. It reads what happens to a task in reverse order, so that no difference is negative, and takes as waiting what
//! is left of the total; so a reader that comes while a task changes its state may see the old one, and misses none.

use crate::graph::Graph;
use crate::graph::node::{Kind, Node};
use crate::ipc::clock::{Clock, Ruler};
use crate::status::{Counts, GroupProgress, Progress, Totals};
use crate::task::function::{Record, short_name};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use swath_insight::{EndedGroups, NAMES, OTHER_NAMES};

/// What may happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its inputs are there.
    Ready,
    /// A thread has begun with it.
    Started,
    /// It has a result.
    Done,
    /// The result is not kept any more.
    Released,
    Failed,
    Cancelled,
    /// It has ended without a result that anybody wants.
    Unneeded,
    /// It failed, and is to run again.
    AfterFailure,
    /// It was cancelled, and is to run again.
    AfterCancel,
    /// A run has ended.
    Ran,
}

/// Behind the steps of a group: for how many ticks its tasks have run.
const TICKS: usize = Step::Ran as usize + 1;
/// Behind that: how much of its running tasks is done, in thousandths of a task. Each thread adds what its task has more, or
/// less, than it said before, so the sum wraps in a cell, and not over all.
const PARTIAL: usize = TICKS + 1;

/// Counters of one group, in whole cache lines of 128 bytes: neighbours of another thread would slow each other down.
const STRIDE: usize = 16;
/// The group of what is no call of a user's.
const NONE: u32 = u32::MAX >> 1;
/// In the group of a task whose result the client has.
const OUTPUT: u32 = 1 << 31;
/// More threads than these share the counters that belong to nobody.
const MOST_SHARDS: usize = 64;

/// An output that has a result, and one that its client has let go.
const DONE: u8 = 1;
const RELEASED: u8 = 2;

/// A name as tasks have it, by which they are told apart.
#[derive(Clone, Copy)]
struct NameOf<'a> {
    function: &'static Record,
    given: Option<&'a str>,
}

impl<'a> NameOf<'a> {
    fn of(node: &'a Node) -> Option<Self> {
        let Kind::Call { function, options, .. } = &node.kind else { return None };
        // What takes a result apart is a part of the task that makes it.
        let given = options.as_deref().and_then(|options| options.name.as_deref());
        (!node.has_parts()).then_some(Self { function, given })
    }

    fn key(self) -> (usize, &'a str) {
        match self.given {
            Some(name) => (0, name),
            None => (ptr::from_ref(self.function).addr(), ""),
        }
    }

    fn text(self) -> String {
        self.given.map_or_else(|| short_name(self.function.path()), str::to_string)
    }
}

/// Which counters a thread uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shard {
    /// Those that all threads may use.
    Shared,
    /// Those of this number, which no other thread uses meanwhile.
    Own(usize),
}

/// The counters of some groups.
struct Counters {
    names: Vec<String>,
    totals: Vec<AtomicU64>,
    /// For each shard, for each group, its steps.
    cells: Box<[AtomicU64]>,
    shards: usize,
}

impl Counters {
    fn new(names: Vec<String>, shards: usize) -> Self {
        let cells = (0..names.len() * STRIDE * shards).map(|_| AtomicU64::new(0)).collect();
        Self { totals: names.iter().map(|_| AtomicU64::new(0)).collect(), cells, names, shards }
    }

    #[inline]
    fn count(&self, shard: Shard, group: u32, step: Step, n: u64) {
        self.add(shard, group as usize * STRIDE + step as usize, n);
    }

    #[inline]
    fn add(&self, shard: Shard, at: usize, n: u64) {
        match shard {
            Shard::Own(shard) if shard + 1 < self.shards => {
                let cell = &self.cells[(shard + 1) * self.names.len() * STRIDE + at];
                // Nobody else writes it. Whoever sees this step sees those before it.
                cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Release);
            }
            _ => {
                self.cells[at].fetch_add(n, Ordering::Release);
            }
        }
    }

    fn sum(&self, group: usize, step: usize) -> u64 {
        let row = self.names.len() * STRIDE;
        let at = group * STRIDE + step;
        (0..self.shards)
            .fold(0, |sum: u64, shard| sum.wrapping_add(self.cells[shard * row + at].load(Ordering::Acquire)))
    }

    fn counts(&self, group: usize) -> Counts {
        let sum = |step: Step| self.sum(group, step as usize);
        let (after_failure, after_cancel) = (sum(Step::AfterFailure), sum(Step::AfterCancel));
        let released = sum(Step::Released);
        let [done, failed, cancelled, unneeded] = [Step::Done, Step::Failed, Step::Cancelled, Step::Unneeded].map(sum);
        let started = sum(Step::Started);
        let ready = sum(Step::Ready);
        let mut left = self.totals[group].load(Ordering::Acquire);
        let mut some = |n: u64| {
            let n = n.min(left);
            left -= n;
            n
        };
        let ended = done + failed + cancelled + unneeded;
        let counts = Counts {
            released: some(released),
            memory: some(done.saturating_sub(released)),
            failed: some(failed.saturating_sub(after_failure)),
            cancelled: some(cancelled.saturating_sub(after_cancel)),
            unneeded: some(unneeded),
            running: some(started.saturating_sub(ended)),
            ready: some(ready.saturating_sub(started)),
            waiting: 0,
        };
        Counts { waiting: left, ..counts }
    }

    fn groups(&self, ruler: Ruler) -> impl Iterator<Item = (String, Totals)> {
        self.names.iter().enumerate().map(move |(group, name)| {
            let run_time = ruler.between(0, self.sum(group, TICKS));
            let runs = self.sum(group, Step::Ran as usize);
            let counts = self.counts(group);
            // One that is being changed meanwhile may be less than nothing.
            let partial = (self.sum(group, PARTIAL).cast_signed().max(0) as u64).min(1000 * counts.running);
            (name.clone(), Totals { counts, runs, run_time, partial })
        })
    }
}

#[derive(Default)]
struct TableState {
    /// Graphs with groups of their own, by number.
    live: FxHashMap<u32, Arc<Counters>>,
    /// Groups of graphs of one call, and of graphs of tasks.
    functions: FxHashMap<usize, Arc<Counters>>,
    given: FxHashMap<String, Arc<Counters>>,
    others: Option<Arc<Counters>>,
    ended: EndedGroups<String>,
}

/// All tasks of a client, by group.
pub(crate) struct GroupTable {
    shards: usize,
    /// How many threads run tasks at a time.
    threads: usize,
    clock: Clock,
    state: Mutex<TableState>,
}

impl GroupTable {
    /// For so many threads with numbers.
    pub(crate) fn new(threads: usize) -> Arc<Self> {
        let (shards, clock) = (1 + threads.min(MOST_SHARDS), Clock::start());
        Arc::new(Self { shards, threads, clock, state: Mutex::default() })
    }

    /// How far everything is. Once the client is closed, what has not begun never will.
    pub(crate) fn progress(&self, closed: bool) -> Progress {
        let ruler = self.clock.ruler();
        let state = self.state.lock();
        let mut groups = Vec::new();
        let mut add = |name: String, graph, mut totals: Totals| {
            let counts = &mut totals.counts;
            if closed {
                counts.cancelled += std::mem::take(&mut counts.waiting) + std::mem::take(&mut counts.ready);
            }
            groups.push(GroupProgress::new(name, graph, totals));
        };
        let by_name = state.functions.values().chain(state.given.values()).chain(&state.others);
        by_name.flat_map(|counters| counters.groups(ruler)).for_each(|(name, totals)| add(name, None, totals));
        for (name, graph, totals) in state.ended.iter() {
            add(name.map_or(OTHER_NAMES, String::as_str).to_string(), graph, totals);
        }
        for (number, counters) in &state.live {
            counters.groups(ruler).for_each(|(name, totals)| add(name, Some(*number), totals));
        }
        let mut progress = Progress::new(groups);
        progress.threads = self.threads;
        progress
    }

    /// The counters of graphs of one call of that name.
    fn by_name(&self, name: NameOf<'_>) -> Arc<Counters> {
        let mut state = self.state.lock();
        let (function, given) = name.key();
        let known = match name.given {
            Some(_) => state.given.get(given),
            None => state.functions.get(&function),
        };
        if let Some(counters) = known {
            return Arc::clone(counters);
        }
        let new = |name| Arc::new(Counters::new(vec![name], self.shards));
        if state.functions.len() + state.given.len() >= NAMES {
            return Arc::clone(state.others.get_or_insert_with(|| new(OTHER_NAMES.to_string())));
        }
        let counters = new(name.text());
        match name.given {
            Some(_) => state.given.insert(given.to_string(), Arc::clone(&counters)),
            None => state.functions.insert(function, Arc::clone(&counters)),
        };
        counters
    }
}

/// A failed task, as its retry finds it: by its number where it is of a map, or else by its hash.
type FailedTask = u128;

/// The counters of one graph's tasks.
pub(crate) struct TaskCounts {
    table: Arc<GroupTable>,
    number: u32,
    /// The groups are of this graph alone.
    is_own: bool,
    /// For each group of this graph, its counters and its place there.
    counters: Vec<(Arc<Counters>, u32)>,
    /// The group of each task. Empty: all are of the first, and outputs.
    of: Vec<u32>,
    /// The tasks that are outputs. Empty: all are.
    outputs: Vec<u32>,
    flags: Box<[AtomicU8]>,
    /// Tasks that have failed or (`true`) were cancelled, with their groups.
    failed: Mutex<FxHashMap<FailedTask, (u32, bool)>>,
    /// The graph that a failed output is of, which this one runs again.
    again: Option<(Arc<TaskCounts>, u32)>,
}

impl TaskCounts {
    /// Begins to count the tasks of a graph. `nested`: a task submits it.
    pub(crate) fn new(table: &Arc<GroupTable>, number: u32, graph: &Graph, nested: bool) -> Arc<Self> {
        let mut names: Vec<NameOf<'_>> = Vec::new();
        let (mut of, mut totals) = (Vec::new(), Vec::new());
        let mut outputs = Vec::new();
        match graph {
            Graph::Map(map) => {
                names.push(NameOf { function: map.function(), given: None });
                totals.push(map.len() as u64);
            }
            Graph::Dag(dag) => {
                let mut known: FxHashMap<(usize, &str), u32> = FxHashMap::default();
                let mut last: Option<((usize, &str), u32)> = None;
                of.reserve(dag.len());
                for node in &dag.nodes {
                    let Some(name) = NameOf::of(node) else {
                        of.push(NONE);
                        continue;
                    };
                    let key = name.key();
                    // Mostly tasks of one name stand together.
                    let group = match last {
                        Some((before, group)) if before == key => group,
                        _ => *known.entry(key).or_insert_with(|| {
                            names.push(name);
                            totals.push(0);
                            names.len() as u32 - 1
                        }),
                    };
                    last = Some((key, group));
                    totals[group as usize] += 1;
                    of.push(group);
                }
                outputs = dag.outputs().to_vec();
                outputs.iter().for_each(|id| of[*id as usize] |= OUTPUT);
            }
        }
        let calls: u64 = totals.iter().sum();
        let is_own = !nested && calls > 1;
        let own = is_own.then(|| {
            let texts = names.iter().map(|name| name.text()).collect();
            Arc::new(Counters::new(texts, table.shards))
        });
        let counters: Vec<_> = match &own {
            Some(own) => (0..names.len() as u32).map(|group| (Arc::clone(own), group)).collect(),
            None => names.iter().map(|name| (table.by_name(*name), 0)).collect(),
        };
        for ((counters, group), total) in counters.iter().zip(totals) {
            counters.totals[*group as usize].fetch_add(total, Ordering::Release);
        }
        // Whoever finds them there finds all of their tasks.
        if let Some(own) = own {
            table.state.lock().live.insert(number, own);
        }
        let many = if of.is_empty() { graph.len() } else { outputs.len() };
        let flags = std::iter::repeat_with(AtomicU8::default).take(many).collect();
        let (table, failed) = (Arc::clone(table), Mutex::default());
        Arc::new(Self { table, number, is_own, counters, of, outputs, flags, failed, again: None })
    }

    /// The same for a graph that runs a failed output of an earlier one again: what failed there is not counted anew, and
    /// what did not is not counted at all.
    pub(crate) fn again(of: &Arc<Self>, index: u32, graph: &Graph) -> Arc<Self> {
        let Graph::Dag(dag) = graph else { return Arc::clone(of) };
        let mut failed = of.failed.lock();
        let mut groups = vec![NONE; dag.len()];
        for (id, node) in dag.nodes.iter().enumerate() {
            let known = if of.of.is_empty() { u128::from(index) } else { node.hash() };
            if let Some((group, cancelled)) = failed.remove(&known) {
                let step = if cancelled { Step::AfterCancel } else { Step::AfterFailure };
                of.step(Shard::Shared, group, step);
                groups[id] = group;
            }
        }
        drop(failed);
        dag.outputs().iter().for_each(|id| groups[*id as usize] |= OUTPUT);
        Arc::new(Self {
            table: Arc::clone(&of.table),
            number: of.number,
            is_own: false,
            counters: of.counters.clone(),
            of: groups,
            outputs: dag.outputs().to_vec(),
            flags: Box::default(),
            failed: Mutex::default(),
            again: Some((Arc::clone(of), index)),
        })
    }

    /// Whether the counters are of this graph alone, and each task of it counts there.
    pub(crate) fn is_own(&self) -> bool {
        self.is_own
    }

    /// The group of a task, and whether it is an output.
    #[inline]
    fn group(&self, id: u32) -> (u32, bool) {
        match self.of.get(id as usize) {
            Some(group) => (group & !OUTPUT, group & OUTPUT != 0),
            None => (0, true),
        }
    }

    #[inline]
    fn step(&self, shard: Shard, group: u32, step: Step) {
        if let Some((counters, group)) = self.counters.get(group as usize) {
            counters.count(shard, *group, step, 1);
        }
    }

    /// Counters that are of this graph alone have one thread each; others are used by all.
    #[inline]
    fn shard(&self, shard: Shard) -> Shard {
        if self.again.is_some() { Shard::Shared } else { shard }
    }

    /// The inputs of a task are there.
    #[inline]
    pub(crate) fn ready(&self, shard: Shard, id: u32) {
        self.step(self.shard(shard), self.group(id).0, Step::Ready);
    }

    /// So are those of these.
    pub(crate) fn all_ready(&self, ids: impl Iterator<Item = u32>) {
        for id in ids {
            self.ready(Shard::Shared, id);
        }
    }

    /// All tasks of a map are ready.
    pub(crate) fn map_ready(&self) {
        if let Some((counters, group)) = self.counters.first() {
            counters.count(Shard::Shared, *group, Step::Ready, self.flags.len() as u64);
        }
    }

    /// A thread has begun with a task.
    #[inline]
    pub(crate) fn started(&self, shard: Shard, id: u32) {
        self.step(self.shard(shard), self.group(id).0, Step::Started);
    }

    /// A thread has run a task, for so many ticks.
    #[inline]
    pub(crate) fn ran(&self, shard: Shard, id: u32, ticks: u64) {
        let shard = self.shard(shard);
        if let Some((counters, group)) = self.counters.get(self.group(id).0 as usize) {
            counters.add(shard, *group as usize * STRIDE + TICKS, ticks);
            counters.count(shard, *group, Step::Ran, 1);
        }
    }

    /// The task that a thread runs says how much of it is done, in thousandths, and what it said before.
    #[cold]
    pub(crate) fn partly_done(&self, shard: Shard, id: u32, before: u32, now: u32) {
        if let Some((counters, group)) = self.counters.get(self.group(id).0 as usize) {
            let more = u64::from(now).wrapping_sub(u64::from(before));
            counters.add(self.shard(shard), *group as usize * STRIDE + PARTIAL, more);
        }
    }

    /// A task has a result.
    #[inline]
    pub(crate) fn done(&self, shard: Shard, id: u32) {
        let (group, is_output) = self.group(id);
        self.step(self.shard(shard), group, Step::Done);
        if is_output {
            self.output_done(shard, id);
        }
    }

    fn output_done(&self, shard: Shard, id: u32) {
        if let Some((of, index)) = &self.again {
            return of.index_done(Shard::Shared, *index, self.group(id).0);
        }
        let index = match self.outputs.is_empty() {
            true => Some(id),
            false => self.outputs.binary_search(&id).ok().map(|index| index as u32),
        };
        if let Some(index) = index {
            self.index_done(shard, index, self.group(id).0);
        }
    }

    fn index_done(&self, shard: Shard, index: u32, group: u32) {
        let Some(flags) = self.flags.get(index as usize) else { return };
        if flags.fetch_or(DONE, Ordering::AcqRel) & RELEASED != 0 {
            self.step(shard, group, Step::Released);
        }
    }

    /// The last use of a result by another task is over.
    #[inline]
    pub(crate) fn used_up(&self, shard: Shard, id: u32) {
        let (group, is_output) = self.group(id);
        if !is_output {
            self.step(self.shard(shard), group, Step::Released);
        }
    }

    /// The client has let go of some outputs. What is said again counts once.
    pub(crate) fn released(&self, indices: &[u32]) {
        for &index in indices {
            let Some(flags) = self.flags.get(index as usize) else { continue };
            if flags.fetch_or(RELEASED, Ordering::AcqRel) == DONE {
                let id = if self.outputs.is_empty() { index } else { self.outputs[index as usize] };
                self.step(Shard::Shared, self.group(id).0, Step::Released);
            }
        }
    }

    /// A task has ended without a result: it failed, or was cancelled, or nobody needs it.
    #[cold]
    pub(crate) fn ended(&self, shard: Shard, id: u32, step: Step, node: impl FnOnce() -> u128) {
        let (group, _) = self.group(id);
        if group == NONE {
            return;
        }
        self.step(self.shard(shard), group, step);
        if step != Step::Unneeded {
            let (of, key) = match &self.again {
                Some((of, index)) if of.of.is_empty() => (&**of, u128::from(*index)),
                Some((of, _)) => (&**of, node()),
                None if self.of.is_empty() => (self, u128::from(id)),
                None => (self, node()),
            };
            of.failed.lock().insert(key, (group, step == Step::Cancelled));
        }
    }
}

impl Drop for TaskCounts {
    fn drop(&mut self) {
        if self.again.is_some() {
            return;
        }
        if self.is_own {
            let mut state = self.table.state.lock();
            if let Some(counters) = state.live.remove(&self.number) {
                state.ended.push(self.number, counters.groups(self.table.clock.ruler()).collect());
            }
            return;
        }
        let all: Vec<u32> = (0..self.flags.len() as u32).collect();
        self.released(&all);
    }
}
