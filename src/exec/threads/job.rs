//! One submitted graph while it runs.

use super::Seat;
use crate::error::TaskError;
use crate::exec::attempt::{GraphTask, Inputs, execute};
use crate::exec::budget::Budget;
use crate::graph::label::TaskLabel;
use crate::graph::node::Node;
use crate::graph::{Graph, Ids};
use crate::submission::handle::{Submission, cancelled};
use crate::task::Value;
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What is left of a task when it has run.
pub(super) enum Kept {
    Empty,
    Value(Value),
    Failed(TaskError),
}

/// One submitted graph.
pub(super) struct Job {
    pub(super) seq: u64,
    pub(super) run: Arc<Submission>,
    pub(super) graph: Graph,
    pub(super) outputs: Ids,
    /// Per task: inputs (counted as often as they are used) that are not finished.
    pub(super) missing: Vec<AtomicU32>,
    /// Per task: uses of its result that are to come.
    pub(super) uses: Vec<AtomicU32>,
    pub(super) cells: Vec<Mutex<Kept>>,
    /// Where results are counted, with the size of each.
    pub(super) budget: Option<(Arc<Budget>, Vec<AtomicU64>)>,
    pub(super) dependents: (Vec<u32>, Vec<u32>),
    pub(super) left: AtomicUsize,
    /// Per task: whether it need not run. Empty until something is cancelled.
    pub(super) skip: OnceLock<Vec<AtomicBool>>,
    /// Outputs that nobody wants any more, by slot.
    pub(super) dropped: Mutex<Vec<bool>>,
    /// Outputs that were cancelled.
    pub(super) cancelled: Mutex<FxHashSet<u32>>,
    /// Running mean of a source's run time in nanoseconds; 0: unknown.
    pub(super) cost: AtomicU64,
    /// Whether a task of this job has failed, so that the inputs of others must be looked at.
    pub(super) failing: AtomicBool,
}

impl Drop for Job {
    fn drop(&mut self) {
        // What nobody used to the end.
        if let Some((budget, sizes)) = &self.budget {
            budget.gone(sizes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum());
        }
    }
}

impl Job {
    pub(super) fn node(&self, id: u32) -> Cow<'_, Arc<Node>> {
        self.graph.node(id)
    }

    /// Whether the output of a task has been cancelled, which says all that is to be said: it may run again by now.
    pub(super) fn is_over_for(&self, id: u32, slot: u32) -> bool {
        self.skipped(id) && self.cancelled.lock().contains(&slot)
    }

    pub(super) fn label(&self, id: u32) -> TaskLabel {
        TaskLabel::in_graph(&self.graph, id)
    }

    pub(super) fn skipped(&self, id: u32) -> bool {
        self.skip.get().is_some_and(|s| s[id as usize].load(Ordering::Relaxed))
    }

    /// Notes that some outputs are not wanted any more, and marks the tasks that only they need.
    pub(super) fn drop_outputs(&self, slots: &[u32]) {
        if self.graph.layer.is_some() {
            let skip =
                self.skip.get_or_init(|| std::iter::repeat_with(AtomicBool::default).take(self.graph.len()).collect());
            slots.iter().for_each(|&slot| skip[slot as usize].store(true, Ordering::Relaxed));
            return;
        }
        let mut dropped = self.dropped.lock();
        if dropped.is_empty() {
            dropped.resize(self.outputs.len(), false);
        }
        slots.iter().for_each(|&s| dropped[s as usize] = true);
        if self.left.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut needed = vec![false; self.graph.len()];
        for (slot, &id) in self.outputs.iter().enumerate() {
            needed[id as usize] |= !dropped[slot];
        }
        for id in (0..self.graph.len() as u32).rev() {
            if needed[id as usize] {
                self.graph.refs(id).iter().for_each(|&r| needed[r as usize] = true);
            }
        }
        let skip = self.skip.get_or_init(|| needed.iter().map(|_| AtomicBool::new(false)).collect());
        for (flag, needed) in skip.iter().zip(needed) {
            if !needed {
                flag.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Takes one use of a result.
    fn take(&self, id: u32) -> Value {
        let mut cell = self.cells[id as usize].lock();
        let value = match &*cell {
            Kept::Value(value) => value.clone(),
            _ => Arc::new(()),
        };
        if self.uses[id as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
            *cell = Kept::Empty;
            self.uncount(id);
        }
        value
    }

    fn copy(&self, id: u32) -> Value {
        match &*self.cells[id as usize].lock() {
            Kept::Value(value) => value.clone(),
            _ => Arc::new(()),
        }
    }

    fn release(&self, id: u32) {
        if self.uses[id as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.cells[id as usize].lock() = Kept::Empty;
            self.uncount(id);
        }
    }

    fn uncount(&self, id: u32) {
        if let Some((budget, sizes)) = &self.budget {
            budget.gone(sizes[id as usize].swap(0, Ordering::Relaxed));
        }
    }

    fn failure(&self, id: u32) -> Option<TaskError> {
        self.graph.refs(id).iter().find_map(|&r| match &*self.cells[r as usize].lock() {
            Kept::Failed(e) => Some(e.clone()),
            _ => None,
        })
    }

    pub(super) fn execute(&self, id: u32, seat: &Seat, now: &mut u64) -> Result<Value, TaskError> {
        let task = GraphTask {
            graph: &self.graph,
            id,
            submission: self.run.number,
            ring: seat.runs.ring(),
            thread: seat.number,
            worker: &seat.name,
        };
        execute(&task, &mut JobInputs { job: self, id }, now)
    }
}

/// The inputs of a task of a job.
struct JobInputs<'a> {
    job: &'a Job,
    id: u32,
}

impl Inputs for JobInputs<'_> {
    fn refusal(&self) -> Option<TaskError> {
        let Self { job, id } = *self;
        if job.failing.load(Ordering::Acquire)
            && let Some(e) = job.failure(id)
        {
            return Some(e.needed(job.label(id).key()));
        }
        job.skipped(id).then(|| cancelled(&job.label(id)))
    }

    fn copy(&mut self, input: u32) -> Value {
        self.job.copy(input)
    }

    fn take(&mut self, input: u32) -> Value {
        self.job.take(input)
    }

    fn release(&mut self, input: u32) {
        self.job.release(input);
    }

    fn is_cancelled(&self) -> bool {
        self.job.skipped(self.id)
    }
}
