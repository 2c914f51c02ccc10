//! One submitted graph while it runs.

use super::Seat;
use crate::error::{Cause, TaskError};
use crate::exec::attempt::{begin, ended, evaluate, task_error};
use crate::exec::budget::Budget;
use crate::graph::label::TaskLabel;
use crate::graph::node::Node;
use crate::graph::{Graph, Ids};
use crate::ipc::clock::ticks;
use crate::submission::handle::{Submission, cancelled};
use crate::task::Value;
use crate::task::context;
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

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

    fn peek(&self, id: u32) -> Value {
        match &*self.cells[id as usize].lock() {
            Kept::Value(value) => value.clone(),
            _ => Arc::new(()),
        }
    }

    fn give_up(&self, id: u32) {
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

    pub(super) fn execute(&self, id: u32, seat: &Seat, now: &mut u64) -> std::result::Result<Value, TaskError> {
        let refs = self.graph.refs(id);
        if self.failing.load(Ordering::Acquire)
            && let Some(e) = self.failure(id)
        {
            refs.iter().for_each(|&r| self.give_up(r));
            return Err(e.needed(self.label(id).key()));
        }
        if self.skipped(id) {
            refs.iter().for_each(|&r| self.give_up(r));
            return Err(cancelled(&self.label(id)));
        }
        if !self.graph.options(id).is_some_and(|o| o.retries > 0 || o.timeout.is_some()) {
            let mut at = 0;
            let token = begin(seat.runs.ring(), self.run.number, &self.graph, id, seat.number, *now);
            let result = evaluate(&self.graph, id, &mut || {
                at += 1;
                self.take(refs[at - 1])
            });
            *now = ticks();
            let late = self.skipped(id);
            seat.runs.ring().end(token, ended(&result, late), *now);
            refs[at..].iter().for_each(|&r| self.give_up(r));
            return result.map_err(|fault| task_error(&self.label(id), &seat.name, fault));
        }
        self.execute_with_options(id, &self.node(id), refs, seat, now)
    }

    fn execute_with_options(
        &self,
        id: u32,
        node: &Node,
        refs: &[u32],
        seat: &Seat,
        now: &mut u64,
    ) -> std::result::Result<Value, TaskError> {
        let worker = &seat.name;
        let (retries, timeout) = node.options().map_or((0, None), |o| (o.retries, o.timeout));
        let mut attempt = 0;
        let result = loop {
            let mut at = 0;
            let began = Instant::now();
            let mut input = || {
                at += 1;
                self.peek(refs[at - 1])
            };
            let deadline = timeout.and_then(|limit| began.checked_add(limit));
            let token = begin(seat.runs.ring(), self.run.number, &self.graph, id, seat.number, *now);
            let result = context::with_deadline(deadline, || evaluate(&self.graph, id, &mut input));
            let late = timeout.filter(|limit| began.elapsed() > *limit);
            *now = ticks();
            seat.runs.ring().end(token, ended(&result, late.is_some() || self.skipped(id)), *now);
            match (result, late) {
                (Ok(value), None) => break Ok(value),
                _ if attempt < retries => attempt += 1,
                (_, Some(limit)) => {
                    let cause = Cause::TimedOut { limit };
                    break Err(TaskError::new(node.key(), node.name(), Some(worker.clone()), None, cause));
                }
                (Err(fault), None) => break Err(task_error(&TaskLabel::of(node), worker, fault)),
            }
        };
        refs.iter().for_each(|&r| self.give_up(r));
        result
    }
}
