//! Tasks of this process counted by state and name, for the modes that run them here.
//!
//! What happens to a task is counted and never taken back, so each thread has counters of its own, and a reader adds them up
//! without a lock. From what it finds it derives how many tasks are in which state: those that have begun and not ended run,
//! and so on. It reads what happens to a task in reverse order, so that no difference is negative, and takes as waiting what
//! is left of the total; so a reader that comes while a task changes its state may see the old one, and misses none.

use crate::graph::Graph;
use crate::graph::dag::Ids;
use crate::graph::node::{Kind, Node};
use crate::host::report;
use crate::ipc::clock::{Clock, Ruler};
use crate::ipc::fork::Origin;
use crate::status::{Counts, GroupProgress, Progress, Totals};
use crate::submission::Submission;
use crate::submission::backend::Want;
use crate::task::function::{Record, short_name};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use swath_insight::{EndedGroups, NAMES, OTHER_NAMES};

/// What may happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its inputs are there.
    Ready,
    /// A thread has begun with it.
    Started,
    /// Both at once.
    Begun,
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
    /// A run of it has failed.
    FailedRun,
}

/// Behind the steps of a group: for how many ticks its tasks have run.
const TICKS: usize = Step::FailedRun as usize + 1;
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

    /// Whether both are certainly the same.
    fn is(self, other: NameOf<'_>) -> bool {
        match (self.given, other.given) {
            (None, None) => ptr::eq(self.function, other.function),
            (Some(one), Some(other)) => one == other,
            _ => false,
        }
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
    /// How many cells a shard has.
    row: usize,
    /// Nobody holds a result of the graph any more.
    all_released: AtomicBool,
}

impl Counters {
    fn new(names: Vec<String>, shards: usize) -> Self {
        let row = names.len() * STRIDE;
        let cells = (0..row * shards).map(|_| AtomicU64::new(0)).collect();
        let totals = names.iter().map(|_| AtomicU64::new(0)).collect();
        Self { names, totals, cells, shards, row, all_released: AtomicBool::new(false) }
    }

    fn count(&self, shard: Shard, group: u32, step: Step, n: u64) {
        let at = group as usize * STRIDE + step as usize;
        match shard {
            Shard::Own(shard) if shard + 1 < self.shards => {
                let cell = &self.cells[(shard + 1) * self.row + at];
                // Nobody else writes it. Whoever sees this step sees those before it.
                cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Release);
            }
            _ => {
                self.cells[at].fetch_add(n, Ordering::Release);
            }
        }
    }

    fn sum(&self, group: usize, step: usize) -> u64 {
        let at = group * STRIDE + step;
        (0..self.shards)
            .fold(0, |sum: u64, shard| sum.wrapping_add(self.cells[shard * self.row + at].load(Ordering::Acquire)))
    }

    fn counts(&self, group: usize) -> Counts {
        let sum = |step: Step| self.sum(group, step as usize);
        let (after_failure, after_cancel) = (sum(Step::AfterFailure), sum(Step::AfterCancel));
        let all_released = self.all_released.load(Ordering::Acquire);
        let released = sum(Step::Released);
        let [done, failed, cancelled, unneeded] = [Step::Done, Step::Failed, Step::Cancelled, Step::Unneeded].map(sum);
        let released = if all_released { done } else { released };
        let begun = sum(Step::Begun);
        let started = begun + sum(Step::Started);
        let ready = begun + sum(Step::Ready);
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
            let runs = self.sum(group, Step::FailedRun as usize) + self.sum(group, Step::Done as usize);
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
    /// In a fork of that process another thread may have the lock for ever.
    origin: Origin,
    state: Mutex<TableState>,
}

impl GroupTable {
    /// For so many threads with numbers.
    pub(crate) fn new(threads: usize) -> Arc<Self> {
        let (shards, clock) = (1 + threads.min(MOST_SHARDS), Clock::start());
        Arc::new(Self { shards, threads, clock, origin: Origin::here(), state: Mutex::default() })
    }

    /// How far everything is. Once the client is closed, what has not begun never will. In a fork of the process nothing is known.
    pub(crate) fn progress(&self, closed: bool) -> Progress {
        if self.origin.is_elsewhere() {
            return Progress::default();
        }
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

/// The groups of a graph's tasks.
struct FoundGroups<'a> {
    names: SmallVec<[NameOf<'a>; 1]>,
    totals: SmallVec<[u64; 1]>,
    of: Vec<u32>,
    all_are_outputs: bool,
    outputs: Ids,
}

impl<'a> FoundGroups<'a> {
    fn of(graph: &'a Graph) -> Self {
        let all = |name: NameOf<'a>, n| Self {
            names: smallvec![name],
            totals: smallvec![n],
            of: Vec::new(),
            all_are_outputs: true,
            outputs: Ids::new(),
        };
        let dag = match graph {
            Graph::Map(map) => return all(NameOf { function: map.function(), given: None }, map.len() as u64),
            Graph::Dag(dag) => dag,
        };
        if let [node] = &dag.nodes[..]
            && let Some(name) = NameOf::of(node)
        {
            return all(name, 1);
        }
        let mut known: FxHashMap<(usize, &str), u32> = FxHashMap::default();
        let mut last: Option<(NameOf<'_>, u32)> = None;
        let mut found = Self {
            names: SmallVec::new(),
            totals: SmallVec::new(),
            of: Vec::with_capacity(dag.len()),
            all_are_outputs: false,
            outputs: dag.outputs(),
        };
        for node in &dag.nodes {
            let Some(name) = NameOf::of(node) else {
                found.of.push(NONE);
                continue;
            };
            // Mostly tasks of one name stand together.
            let group = match last {
                Some((before, group)) if before.is(name) => group,
                _ => *known.entry(name.key()).or_insert_with(|| {
                    found.names.push(name);
                    found.totals.push(0);
                    found.names.len() as u32 - 1
                }),
            };
            last = Some((name, group));
            found.totals[group as usize] += 1;
            found.of.push(group);
        }
        found.outputs.iter().for_each(|id| found.of[*id as usize] |= OUTPUT);
        found
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
    counters: SmallVec<[(Arc<Counters>, u32); 1]>,
    /// The group of each task. Empty: all are of the first, and outputs.
    of: Vec<u32>,
    /// How many outputs there are.
    outputs: usize,
    /// The tasks that are outputs. Empty: all are.
    output_tasks: Ids,
    /// What has become of each output. Empty where all are released together.
    flags: SmallVec<[AtomicU8; 8]>,
    /// Tasks that have failed or (`true`) were cancelled, with their groups.
    failed: Mutex<FxHashMap<FailedTask, (u32, bool)>>,
    /// The graph that a failed output is of, which this one runs again.
    again: Option<(Arc<TaskCounts>, u32)>,
}

impl TaskCounts {
    /// Begins to count the tasks of a graph. `nested`: a task submits it. `want`: whether its results are released one by one.
    pub(crate) fn new(table: &Arc<GroupTable>, number: u32, graph: &Graph, nested: bool, want: Want) -> Arc<Self> {
        let found = FoundGroups::of(graph);
        let calls: u64 = found.totals.iter().sum();
        let is_own = !nested && calls > 1;
        let own = is_own.then(|| {
            let texts = found.names.iter().map(|name| name.text()).collect();
            Arc::new(Counters::new(texts, table.shards))
        });
        let counters: SmallVec<[_; 1]> = match &own {
            Some(own) => (0..found.names.len() as u32).map(|group| (Arc::clone(own), group)).collect(),
            None => found.names.iter().map(|name| (table.by_name(*name), 0)).collect(),
        };
        for ((counters, group), total) in counters.iter().zip(&found.totals) {
            counters.totals[*group as usize].fetch_add(*total, Ordering::Release);
        }
        // Whoever finds them there finds all of their tasks.
        if let Some(own) = own {
            table.state.lock().live.insert(number, own);
        }
        let outputs = if found.all_are_outputs { graph.len() } else { found.outputs.len() };
        let one_by_one = !is_own || want == Want::Handles;
        // A vector is filled faster.
        let flags = std::iter::repeat_with(AtomicU8::default).take(if one_by_one { outputs } else { 0 });
        let flags = if outputs > 8 { SmallVec::from_vec(flags.collect()) } else { flags.collect() };
        let FoundGroups { of, outputs: output_tasks, .. } = found;
        let (table, failed) = (Arc::clone(table), Mutex::default());
        Arc::new(Self { table, number, is_own, counters, of, outputs, output_tasks, flags, failed, again: None })
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
            outputs: dag.outputs().len(),
            output_tasks: dag.outputs(),
            flags: SmallVec::new(),
            failed: Mutex::default(),
            again: Some((Arc::clone(of), index)),
        })
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

    /// The inputs of these tasks are there.
    pub(crate) fn all_ready(&self, ids: impl Iterator<Item = u32>) {
        let mut ready: SmallVec<[u64; 4]> = SmallVec::from_elem(0, self.counters.len());
        ids.for_each(|id| ready.get_mut(self.group(id).0 as usize).into_iter().for_each(|n| *n += 1));
        for ((counters, group), n) in self.counters.iter().zip(ready) {
            counters.count(Shard::Shared, *group, Step::Ready, n);
        }
    }

    /// All tasks of a map are ready.
    pub(crate) fn map_ready(&self) {
        if let Some((counters, group)) = self.counters.first() {
            counters.count(Shard::Shared, *group, Step::Ready, self.outputs as u64);
        }
    }

    /// The counters that a thread uses for this graph.
    #[inline]
    pub(crate) fn lane(&self, shard: Shard) -> Lane<'_> {
        let cells = match (shard, self.counters.first()) {
            (Shard::Own(shard), Some((own, _))) if self.is_own && shard + 1 < own.shards => {
                &own.cells[(shard + 1) * own.row..(shard + 2) * own.row]
            }
            _ => &[],
        };
        Lane { counts: self, cells }
    }

    /// An output has a result.
    #[inline]
    pub(crate) fn output_done(&self, index: u32) {
        if let Some((of, index)) = &self.again {
            return of.output_done(*index);
        }
        if let Some(flags) = self.flags.get(index as usize)
            && flags.fetch_or(DONE, Ordering::AcqRel) & RELEASED != 0
        {
            self.step(Shard::Shared, self.group_of_output(index), Step::Released);
        }
    }

    fn group_of_output(&self, index: u32) -> u32 {
        let id = if self.output_tasks.is_empty() { Some(&index) } else { self.output_tasks.get(index as usize) };
        id.map_or(NONE, |id| self.group(*id).0)
    }

    /// The client has let go of some outputs. What is said again counts once.
    pub(crate) fn released(&self, indices: &[u32]) {
        if self.is_own && indices.len() >= self.outputs {
            return self.counters.iter().for_each(|(own, _)| own.all_released.store(true, Ordering::Release));
        }
        for &index in indices {
            if let Some(flags) = self.flags.get(index as usize)
                && flags.fetch_or(RELEASED, Ordering::AcqRel) == DONE
            {
                self.step(Shard::Shared, self.group_of_output(index), Step::Released);
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
        self.step(if self.again.is_some() { Shard::Shared } else { shard }, group, step);
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

impl Submission {
    /// Says what counts its tasks. To be said once, before anybody sees the submission.
    pub(crate) fn set_counts(&self, counts: &Arc<TaskCounts>) {
        if self.counts.set(Arc::clone(counts)).is_err() {
            report!(Error, "the tasks of submission {} are counted twice", self.number);
        }
    }

    /// What counts its tasks, where they run in this process.
    pub(crate) fn counts(&self) -> Option<&Arc<TaskCounts>> {
        self.counts.get()
    }

    /// The client has let go of some outputs.
    pub(crate) fn released(&self, indices: &[u32]) {
        if let Some(counts) = self.counts.get() {
            counts.released(indices);
        }
    }
}

/// What a thread counts with. Where a graph has counters of its own, those of one thread are written by that alone.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'a> {
    counts: &'a TaskCounts,
    /// The thread's own; empty where counters are shared.
    cells: &'a [AtomicU64],
}

impl Lane<'_> {
    #[inline]
    fn count(&self, id: u32, step: usize, n: u64) {
        // There are none of what is no call of a user's.
        let group = self.counts.group(id).0;
        match self.cells.get(group as usize * STRIDE + step) {
            // Whoever sees this step sees those before it.
            Some(cell) => cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Release),
            None => self.count_shared(group, step, n),
        }
    }

    fn count_shared(&self, group: u32, step: usize, n: u64) {
        if let Some((counters, group)) = self.counts.counters.get(group as usize) {
            counters.cells[*group as usize * STRIDE + step].fetch_add(n, Ordering::Release);
        }
    }

    /// The inputs of a task are there.
    #[inline]
    pub(crate) fn ready(&self, id: u32) {
        self.count(id, Step::Ready as usize, 1);
    }

    /// The thread has begun with a task.
    #[inline]
    pub(crate) fn started(&self, id: u32) {
        self.count(id, Step::Started as usize, 1);
    }

    /// The thread has begun with a task whose inputs it has just found there.
    #[inline]
    pub(crate) fn begun(&self, id: u32) {
        self.count(id, Step::Begun as usize, 1);
    }

    /// A thread has run a task, for so many ticks.
    #[inline]
    pub(crate) fn ran(&self, id: u32, ticks: u64, failed: bool) {
        self.count(id, TICKS, ticks);
        if failed {
            self.count(id, Step::FailedRun as usize, 1);
        }
    }

    /// The task that the thread runs says how much of it is done, in thousandths, and what it said before.
    #[cold]
    pub(crate) fn partly_done(&self, id: u32, before: u32, now: u32) {
        self.count(id, PARTIAL, u64::from(now).wrapping_sub(u64::from(before)));
    }

    /// A task has a result. Where that is an output, [`TaskCounts::output_done`] is to be told, too.
    #[inline]
    pub(crate) fn done(&self, id: u32) {
        self.count(id, Step::Done as usize, 1);
    }

    /// The last use of a result by another task is over.
    #[inline]
    pub(crate) fn used_up(&self, id: u32) {
        let (_, is_output) = self.counts.group(id);
        if !is_output {
            self.count(id, Step::Released as usize, 1);
        }
    }
}

impl Drop for TaskCounts {
    fn drop(&mut self) {
        if self.again.is_some() || self.table.origin.is_elsewhere() {
            return;
        }
        if self.is_own {
            let mut state = self.table.state.lock();
            if let Some(counters) = state.live.remove(&self.number) {
                state.ended.push(self.number, counters.groups(self.table.clock.ruler()).collect());
            }
            return;
        }
        (0..self.flags.len() as u32).for_each(|index| self.released(&[index]));
    }
}
