//! A submitted graph while the pool runs it: the state of its tasks and their results.

use super::deadlines::{Deadline, LimitedAttempt};
use super::resources::Holder;
use super::{PoolThread, ThreadPool};
use crate::error::{Cause, TaskError};
use crate::exec::attempt::{GraphTask, Inputs, execute};
use crate::exec::budget::Budget;
use crate::fairness::{Place, Program, expected, level_of};
use crate::graph::Graph;
use crate::graph::dag::{Ids, row};
use crate::graph::label::TaskLabel;
use crate::graph::node::Node;
use crate::lazy_map::LazyMap;
use crate::resources::Resources;
use crate::submission::counts::{Shard, Step, TaskCounts};
use crate::submission::handle::{ResultState, Submission, cancelled};
use crate::task::Value;
use crate::task::building::Building;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The result of a task while other tasks need it.
pub(super) enum TaskCell {
    Empty,
    Value(Value),
    Failed(TaskError),
}

/// A submitted graph.
pub(super) struct PoolJob {
    /// Its place in the order of jobs.
    pub(super) position: u64,
    /// Who submitted it: the program, or a task.
    pub(super) program: Program,
    /// The priority of the task that submitted it, which adds to that of each task.
    pub(super) inherited: i32,
    /// The thread-time that its tasks have had, in nanoseconds.
    pub(super) attained: AtomicU64,
    pub(super) submission: Arc<Submission>,
    pub(super) counts: Arc<TaskCounts>,
    pub(super) graph: Graph,
    pub(super) outputs: Ids,
    /// Per task: inputs (counted as often as they are used) that are not finished.
    pub(super) missing: Vec<AtomicU32>,
    /// Per task: uses of its result that are to come.
    pub(super) uses: Vec<AtomicU32>,
    pub(super) cells: Vec<Mutex<TaskCell>>,
    /// The worker-local state whose building it is a part of.
    pub(super) building: Building,
    /// The budget that counts the results, and the size of each.
    pub(super) budget: Option<(Arc<Budget>, Vec<AtomicU64>)>,
    pub(super) dependents: (Vec<u32>, Vec<u32>),
    pub(super) left: AtomicUsize,
    /// Per task: whether it need not run. Empty until something is cancelled.
    pub(super) skip: OnceLock<Vec<AtomicBool>>,
    /// Whether an output is not wanted any more, by index.
    pub(super) dropped: Mutex<Vec<bool>>,
    /// Outputs that were cancelled. Empty until some are.
    pub(super) cancelled: OnceLock<Mutex<FxHashSet<u32>>>,
    /// Running mean of a source's run time in nanoseconds; 0: unknown.
    pub(super) cost: AtomicU64,
    /// Whether a task has a time limit: then threads take one task at a time, since none must be stuck behind another.
    pub(super) limited: bool,
    /// How many attempts at a task have been given up, each over its limit.
    pub(super) given_up: Mutex<FxHashMap<u32, u32>>,
    /// What its tasks take of resources; those that take none are left out.
    pub(super) needs: LazyMap<u32, Resources>,
    /// Of the tasks that it is of, the nearest that has resources.
    pub(super) holder: Option<Arc<Holder>>,
    /// Whether a task of this job has failed, so that tasks must check their inputs.
    pub(super) failing: AtomicBool,
}

impl Drop for PoolJob {
    fn drop(&mut self) {
        // Results whose uses were not all taken.
        if let Some((budget, sizes)) = &self.budget {
            budget.remove(sizes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum());
        }
    }
}

impl PoolJob {
    /// Whether a task has submitted it.
    #[inline]
    pub(super) fn is_nested(&self) -> bool {
        self.program == Program::TASKS
    }

    /// Its level of service.
    #[inline]
    pub(super) fn level(&self) -> u8 {
        if self.program == Program::TASKS {
            return 0;
        }
        let expected = expected(self.graph.len(), self.cost.load(Ordering::Relaxed));
        level_of(expected.max(self.attained.load(Ordering::Relaxed)))
    }

    /// Where its tasks of a priority stand among those of all jobs.
    #[inline]
    pub(super) fn place(&self, priority: i32) -> Place {
        Place {
            priority: Reverse(priority),
            program: self.program,
            level: self.level(),
            seq: self.position,
            job: 0,
            lane: 0,
        }
    }

    #[inline]
    pub(super) fn priority(&self, id: u32) -> i32 {
        self.inherited.saturating_add(self.graph.priority(id))
    }

    pub(super) fn node(&self, id: u32) -> Cow<'_, Arc<Node>> {
        self.graph.node(id)
    }

    /// Whether an output has been cancelled. Then its state must not change: it may run again by now.
    pub(super) fn is_cancelled(&self, index: u32) -> bool {
        self.cancelled.get().is_some_and(|cancelled| cancelled.lock().contains(&index))
    }

    pub(super) fn label(&self, id: u32) -> TaskLabel {
        self.graph.label(id)
    }

    pub(super) fn skipped(&self, id: u32) -> bool {
        self.skip.get().is_some_and(|s| s[id as usize].load(Ordering::Relaxed))
    }

    /// Notes that some outputs are not wanted any more, and marks the tasks that only they need.
    pub(super) fn drop_outputs(&self, indices: &[u32]) {
        if let Graph::Map(map) = &self.graph {
            let skip = self.skip.get_or_init(|| std::iter::repeat_with(AtomicBool::default).take(map.len()).collect());
            indices.iter().for_each(|&index| skip[index as usize].store(true, Ordering::Relaxed));
            return;
        }
        let mut dropped = self.dropped.lock();
        if dropped.is_empty() {
            dropped.resize(self.outputs.len(), false);
        }
        indices.iter().for_each(|&s| dropped[s as usize] = true);
        if self.left.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut needed = vec![false; self.graph.len()];
        for (index, &id) in self.outputs.iter().enumerate() {
            needed[id as usize] |= !dropped[index];
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

    /// Counts the end of a task. A result that nobody wants any more is dropped.
    #[inline]
    pub(super) fn count_end(
        &self,
        id: u32,
        result: Result<Value, TaskError>,
        shard: Shard,
    ) -> Result<Value, TaskError> {
        match result {
            Ok(value) if !self.skipped(id) => {
                self.counts.lane(shard).done(id);
                Ok(value)
            }
            Ok(value) => {
                drop(value);
                self.count_without_result(id, None, shard);
                Err(cancelled(&self.label(id)))
            }
            Err(e) => {
                self.count_without_result(id, Some(&e), shard);
                Err(e)
            }
        }
    }

    /// The same of a task without a result that anybody wants.
    #[cold]
    fn count_without_result(&self, id: u32, error: Option<&TaskError>, shard: Shard) {
        let was_cancelled = |e: &TaskError| matches!(e.cause(), Cause::Cancelled);
        let index = self.output_index(id);
        let step = match error {
            _ if index.is_some_and(|index| self.is_cancelled(index)) => Step::Cancelled,
            _ if self.skipped(id) => Step::Unneeded,
            Some(e) if !was_cancelled(e) => Step::Failed,
            _ => Step::Cancelled,
        };
        self.counts.ended(shard, id, step, || self.node(id).hash());
    }

    /// Which output a task is.
    pub(super) fn output_index(&self, id: u32) -> Option<u32> {
        match &self.graph {
            Graph::Map(_) => Some(id),
            Graph::Dag(_) => self.outputs.binary_search(&id).ok().map(|index| index as u32),
        }
    }

    /// Uses a result; the last use takes it.
    fn take(&self, id: u32, shard: Shard) -> Value {
        let mut cell = self.cells[id as usize].lock();
        let value = match &*cell {
            TaskCell::Value(value) => value.clone(),
            _ => Value::new(()),
        };
        if self.uses[id as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
            let gone = std::mem::replace(&mut *cell, TaskCell::Empty);
            drop(cell);
            if let TaskCell::Value(_) = gone {
                self.counts.lane(shard).used_up(id);
            }
            drop(gone);
            self.uncount(id);
        }
        value
    }

    fn copy(&self, id: u32) -> Value {
        match &*self.cells[id as usize].lock() {
            TaskCell::Value(value) => value.clone(),
            _ => Value::new(()),
        }
    }

    fn release(&self, id: u32, shard: Shard) {
        if self.uses[id as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
            let gone = std::mem::replace(&mut *self.cells[id as usize].lock(), TaskCell::Empty);
            if let TaskCell::Value(_) = gone {
                self.counts.lane(shard).used_up(id);
            }
            // The value's own code runs here, and not under the lock.
            drop(gone);
            self.uncount(id);
        }
    }

    /// The failures of all outputs that need a task which has failed, or are that.
    pub(super) fn failures(&self, id: u32, error: &TaskError) -> Vec<(u32, ResultState)> {
        let mut needs = vec![false; self.graph.len()];
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut needs[id as usize], true) {
                stack.extend(row(&self.dependents.0, &self.dependents.1, id));
            }
        }
        let failed = (0..).zip(self.outputs.iter()).filter(|(_, id)| needs[**id as usize]);
        failed.map(|(index, &id)| (index, ResultState::Failed(error.needed(self.label(id).task_name())))).collect()
    }

    fn uncount(&self, id: u32) {
        if let Some((budget, sizes)) = &self.budget {
            budget.remove(sizes[id as usize].swap(0, Ordering::Relaxed));
        }
    }

    fn failure(&self, id: u32) -> Option<TaskError> {
        self.graph.refs(id).iter().find_map(|&r| match &*self.cells[r as usize].lock() {
            TaskCell::Failed(e) => Some(e.clone()),
            _ => None,
        })
    }
}

impl ThreadPool {
    /// Runs a task. None: it had been given up by the time that its function returned.
    pub(super) fn execute(
        self: &Arc<Self>,
        job: &Arc<PoolJob>,
        id: u32,
        thread: &Arc<PoolThread>,
        now: &mut u64,
    ) -> Option<Result<Value, TaskError>> {
        let task = GraphTask {
            graph: &job.graph,
            id,
            submission: job.submission.number,
            ring: thread.runs.ring(),
            thread: thread.number,
            worker: &thread.name,
            encodes: self.encodes,
            sources: &self.sources,
            coordination: &self.coordination,
        };
        if !job.limited || !job.given_up.lock().contains_key(&id) {
            job.counts.lane(thread.shard()).started(id);
        }
        let _inside = job.building.enter();
        let mut inputs = JobInputs { pool: self, job, id, thread, deadline: None, given_up: false };
        let began = *now;
        let result = execute(&task, &mut inputs, now);
        // One that was refused took no time.
        if *now != began {
            job.counts.lane(thread.shard()).ran(id, now.saturating_sub(began), result.is_err());
        }
        thread.running.end();
        if job.skipped(id) {
            self.end_cancelled(thread);
        }
        (!inputs.given_up).then_some(result)
    }
}

/// The inputs of a task of a job.
struct JobInputs<'a> {
    pool: &'a Arc<ThreadPool>,
    job: &'a Arc<PoolJob>,
    id: u32,
    thread: &'a Arc<PoolThread>,
    /// That of the attempt that runs.
    deadline: Option<Deadline>,
    given_up: bool,
}

impl Inputs for JobInputs<'_> {
    fn refusal(&self) -> Option<TaskError> {
        let Self { job, id, .. } = *self;
        if job.failing.load(Ordering::Acquire)
            && let Some(e) = job.failure(id)
        {
            return Some(e.needed(job.label(id).task_name()));
        }
        job.skipped(id).then(|| cancelled(&job.label(id)))
    }

    fn copy(&mut self, input: u32) -> Value {
        self.job.copy(input)
    }

    fn take(&mut self, input: u32) -> Value {
        self.job.take(input, self.thread.shard())
    }

    fn release(&mut self, input: u32) {
        self.job.release(input, self.thread.shard());
    }

    fn is_cancelled(&self) -> bool {
        self.job.skipped(self.id)
    }

    fn given_up(&self) -> u32 {
        self.job.given_up.lock().get(&self.id).copied().unwrap_or(0)
    }

    fn begin(&mut self, by: Instant, number: u32) {
        let (job, thread) = (Arc::clone(self.job), Arc::clone(self.thread));
        self.deadline = Some(self.pool.begin_limited(by, LimitedAttempt { job, id: self.id, number, thread }));
    }

    fn end(&mut self) -> bool {
        self.given_up = self.deadline.take().is_some_and(|deadline| !self.pool.end_limited(deadline, self.thread));
        !self.given_up
    }
}
