//! The progress of some results.

use super::{Source, WatchProgress};
use crate::client::lowering::Lowering;
use crate::client::{Client, Computable};
use crate::error::Cause;
use crate::graph::node::{Kind, Node};
use crate::status::{Counts, GroupProgress, Progress, TaskState};
use crate::submission::handle::{ResultHandle, ResultState, Submission};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::{Arc, Weak};

/// How far some results are: see [`Client::progress_of`].
#[derive(Clone, Debug)]
pub struct ProgressOf {
    pub(super) source: Source,
}

/// The graphs that results belong to.
#[derive(Default)]
pub(super) struct Part {
    /// Those that have groups of their own.
    graphs: FxHashSet<u32>,
    /// Outputs of others, each with its name.
    outputs: Vec<(String, Weak<Submission>, u32)>,
    /// What was last counted.
    last: Mutex<FxHashMap<u32, Vec<GroupProgress>>>,
}

impl Part {
    fn of_tasks(tasks: &[Arc<Node>], client: &Client) -> Self {
        let mut part = Self::default();
        let mut outputs = Vec::new();
        let mut seen: FxHashSet<*const Node> = FxHashSet::default();
        let mut results = FxHashSet::default();
        let mut left: Vec<&Arc<Node>> = tasks.iter().rev().collect();
        while let Some(node) = left.pop() {
            if !seen.insert(Arc::as_ptr(node)) {
                continue;
            }
            match &node.kind {
                Kind::Held(held) if results.insert(held.identity()) => outputs.extend(ResultHandle::of(held)),
                Kind::Held(_) => {}
                Kind::Call { .. } | Kind::Part(_) => node.each_input(&mut |input| left.push(input)),
            }
        }
        outputs.retain(|output| Arc::ptr_eq(output.submission.backend(), &client.0.backend));
        let counted: FxHashSet<u32> =
            client.0.backend.progress().groups.iter().filter_map(|group| group.graph).collect();
        for output in &outputs {
            let number = output.submission.number;
            match counted.contains(&number) {
                true => drop(part.graphs.insert(number)),
                false => {
                    part.outputs.push((output.label().name(), Arc::downgrade(&output.submission), output.index));
                }
            }
        }
        part
    }

    /// What is counted of them.
    pub(super) fn of(&self, whole: &Progress) -> Vec<GroupProgress> {
        let mut by_graph: FxHashMap<u32, Vec<GroupProgress>> = FxHashMap::default();
        for group in &whole.groups {
            if let Some(graph) = group.graph.filter(|graph| self.graphs.contains(graph)) {
                by_graph.entry(graph).or_default().push(group.clone());
            }
        }
        let mut last = self.last.lock();
        // Of what is counted with others by now, it is known what became of it.
        for (graph, groups) in last.drain() {
            by_graph.entry(graph).or_insert_with(|| {
                let gone = |group: GroupProgress| {
                    GroupProgress::new(group.name.clone(), group.graph, group.totals().when_gone())
                };
                groups.into_iter().map(gone).collect()
            });
        }
        last.clone_from(&by_graph);
        drop(last);
        let mut groups: Vec<GroupProgress> = by_graph.into_values().flatten().collect();
        let mut names: FxHashMap<&str, Counts> = FxHashMap::default();
        for (name, submission, index) in &self.outputs {
            names.entry(name).or_default()[state_of(submission, *index)] += 1;
        }
        groups.extend(names.into_iter().map(|(name, counts)| GroupProgress::new(name, None, counts.into())));
        groups
    }
}

/// The state of an output, as far as its handles know it.
fn state_of(submission: &Weak<Submission>, index: u32) -> TaskState {
    let Some(submission) = submission.upgrade() else { return TaskState::Released };
    submission.with_state(index, |state| match state {
        ResultState::Pending { .. } => TaskState::Waiting,
        ResultState::Remote { .. } | ResultState::Value(_) | ResultState::Payload(_) => TaskState::Memory,
        ResultState::Failed(error) if matches!(error.cause(), Cause::Cancelled) => TaskState::Cancelled,
        ResultState::Failed(_) => TaskState::Failed,
        ResultState::Taken => TaskState::Released,
    })
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({} graphs, {} results)", self.graphs.len(), self.outputs.len())
    }
}

impl ProgressOf {
    /// How far they are now. When the client is gone: nothing is known of them.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.source.look().map(|seen| seen.progress).unwrap_or_default()
    }

    /// The progress again and again, until nothing is left to be done: as [`Client::watch_progress`].
    pub fn watch(&self) -> WatchProgress {
        WatchProgress::new(self.source.clone())
    }
}

impl Client {
    /// How far some results are: futures, persisted values and collections, lists and tuples of them. Counted are all tasks of
    /// the graphs that these results belong to. Of a graph of one call, as `submit` of a call makes it, the results themselves
    /// are counted.
    ///
    /// What has not been submitted counts for nothing, but for results that it uses. So do results of other clients.
    ///
    /// ```
    /// use swath::{Bag, Client};
    /// let client = Client::threads(2);
    /// let squares = client.persist(&Bag::range(0..1000_i64, 10).map(|x| x * x))?;
    /// let progress = client.progress_of(&squares);
    /// let last = progress.watch().last().map(|last| last.counts);
    /// assert_eq!(last.map(|counts| (counts.unfinished(), counts.failed)), Some((0, 0)));
    /// assert_eq!(progress.progress().counts.memory, 10);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn progress_of<C: Computable + ?Sized>(&self, what: &C) -> ProgressOf {
        // What cannot become tasks has none.
        let tasks = Lowering::tasks_of(what).map(|(tasks, _)| tasks).unwrap_or_default();
        let part = match self.0.backend.origin().is_elsewhere() {
            true => Part::default(),
            false => Part::of_tasks(&tasks, self),
        };
        ProgressOf { source: Source::of(self, Some(part)) }
    }
}
