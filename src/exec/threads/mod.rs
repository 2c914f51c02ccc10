//! The threads mode: a pool of threads that counts dependencies.
//!
//! A finished task makes ready those that waited for it alone: the first of them runs next on the same thread, without
//! a queue in between; the others go to a queue shared by all threads, ordered by priority, submission and graph order.
//! Tasks without inputs never enter it: each job hands them out in graph order, several at a time when they are short.
//!
//! A thread whose task waits for other tasks is replaced by a spare one for so long.
//!
//! # Why no thread sleeps beside work
//! A thread goes to sleep under the queue's lock, having found nothing there that it may take, and gives up the lock in
//! the same step (`Condvar::wait`). What it may take comes about in four ways, each under that lock too:
//!
//! - Work is put in: [`Threads::wake`] wakes as many sleepers as there is work, so none is left that could take some.
//!   One that is woken may find that another thread was faster, and sleeps again by the same rule.
//! - A thread stops being busy, or its task begins to wait for others: the first looks itself, for the second a sleeper is
//!   woken or a thread started.
//! - The budget admits sources again: it always admits one where no thread is busy, so somebody looks when that changes;
//!   who then takes some wakes the next, which looks whether there is room for more.
//! - The pool is closed or has too many threads: all are woken.
//!
//! Nothing here looks again after a time: a lost wake-up would be a graph that never ends, not one that takes longer.

use super::budget::Budget;
use super::{begin, ended, evaluate, task_error};
use crate::error::{Cause, Error, Result, TaskError};
use crate::events::{Raw, Recorded};
use crate::graph::label::TaskLabel;
use crate::graph::node::{Kind, Node};
use crate::graph::{Graph, Ids, row};
use crate::ipc::clock::ticks;
use crate::ipc::ring::OwnRing;
use crate::message::{Answer, Question};
use crate::status::{Mode, Progress};
use crate::submission::backend::{Backend, Reply, Shown, Want, answer_in_process, in_process};
use crate::submission::context::BackendScope;
use crate::submission::handle::{ResultState, Submission, Waiter, cancelled};
use crate::task::Value;
use crate::task::codec::Codec;
use crate::task::context;
use crate::task::context::{TaskInfo, TaskScope};
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashSet;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// How long a thread looks for work before it sleeps: about what waking it would cost.
const SPIN: Duration = Duration::from_micros(30);
/// How often it looks before it offers its core to others: every few microseconds.
const YIELD: u32 = 4;
/// How much work a thread takes from a job's sources at once.
const SHARE: u64 = 50_000;

/// What is left of a task when it has run.
enum Kept {
    Empty,
    Value(Value),
    Failed(TaskError),
}

/// One submitted graph.
struct Job {
    seq: u64,
    run: Arc<Submission>,
    graph: Graph,
    outputs: Ids,
    /// Per task: inputs (counted as often as they are used) that are not finished.
    missing: Vec<AtomicU32>,
    /// Per task: uses of its result that are to come.
    uses: Vec<AtomicU32>,
    cells: Vec<Mutex<Kept>>,
    /// Where results are counted, with the size of each.
    budget: Option<(Arc<Budget>, Vec<AtomicU64>)>,
    dependents: (Vec<u32>, Vec<u32>),
    left: AtomicUsize,
    /// Per task: whether it need not run. Empty until something is cancelled.
    skip: OnceLock<Vec<AtomicBool>>,
    /// Outputs that nobody wants any more, by slot.
    dropped: Mutex<Vec<bool>>,
    /// Outputs that were cancelled.
    cancelled: Mutex<FxHashSet<u32>>,
    /// Running mean of a source's run time in nanoseconds; 0: unknown.
    cost: AtomicU64,
    /// Whether a task of this job has failed, so that the inputs of others must be looked at.
    failing: AtomicBool,
}

/// Sources of one job and priority that nobody has taken.
struct Lane {
    job: Arc<Job>,
    /// Empty for a layer, whose tasks all are sources.
    listed: Vec<u32>,
    /// The places in the list, or the tasks, that are left.
    left: Range<u32>,
}

impl Lane {
    fn of_layer(job: &Arc<Job>) -> Self {
        Self { job: Arc::clone(job), listed: Vec::new(), left: 0..job.graph.len() as u32 }
    }

    fn of(job: &Arc<Job>, listed: Vec<u32>) -> Self {
        Self { job: Arc::clone(job), left: 0..listed.len() as u32, listed }
    }

    /// Takes the next `n`.
    fn take(&mut self, n: usize) -> Vec<u32> {
        let places = self.left.start..self.left.start + n as u32;
        self.left.start = places.end;
        match self.listed.is_empty() {
            true => places.collect(),
            false => self.listed[places.start as usize..places.end as usize].to_vec(),
        }
    }

    /// What the next says it needs, in bytes.
    fn declared(&self) -> u64 {
        let next = self.listed.get(self.left.start as usize);
        next.and_then(|&id| self.job.graph.options(id)).and_then(|o| o.memory).unwrap_or(0)
    }
}

/// A task that became ready, in the order of the queue.
struct Ready {
    priority: i32,
    task: u32,
    job: Arc<Job>,
}

impl Ready {
    fn rank(&self) -> (i32, Reverse<u64>, Reverse<u32>) {
        (self.priority, Reverse(self.job.seq), Reverse(self.task))
    }
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Ready {}

impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ready {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

#[derive(Default)]
struct Queue {
    ready: BinaryHeap<Ready>,
    lanes: BTreeMap<(Reverse<i32>, u64), Lane>,
    /// Threads that run or look for tasks, without those that wait for tasks of their own.
    active: usize,
    /// Threads that run a task and do not wait for tasks of their own.
    busy: usize,
    /// Threads that exist.
    alive: usize,
    /// All there have ever been, and those whose thread has left, for threads to come.
    seats: Vec<Arc<Seat>>,
    free_seats: Vec<Arc<Seat>>,
    closed: bool,
}

/// What a thread is called, and what it has run. One thread after the other may have it.
struct Seat {
    name: String,
    number: usize,
    runs: OwnRing,
}

pub(crate) struct Threads {
    threads: usize,
    queue: Mutex<Queue>,
    work: Condvar,
    closed: AtomicBool,
    runs: AtomicU32,
    done: AtomicU64,
    failed: AtomicU64,
    total: AtomicU64,
    jobs: Mutex<rustc_hash::FxHashMap<u32, Weak<Job>>>,
    budget: Option<Arc<Budget>>,
    /// Runs that each thread remembers.
    events: usize,
}

/// What a thread does next.
enum Work {
    One(Arc<Job>, u32),
    Sources(Arc<Job>, Vec<u32>),
}

struct ThreadScope {
    pool: Weak<Threads>,
    name: Rc<str>,
    task: RefCell<Option<Arc<Job>>>,
    id: Cell<u32>,
}

impl BackendScope for ThreadScope {
    fn backend(&self) -> Option<Arc<dyn Backend>> {
        self.pool.upgrade().map(|p| p as Arc<dyn Backend>)
    }
}

impl TaskScope for ThreadScope {
    fn info(&self) -> TaskInfo {
        let task = self.task.borrow();
        let label = task.as_ref().map(|job| TaskLabel::in_graph(&job.graph, self.id.get()));
        TaskInfo {
            key: label.as_ref().map(|l| l.key()).unwrap_or_default(),
            name: label.as_ref().map(|l| l.name()).unwrap_or_default(),
            worker: self.name.to_string(),
        }
    }

    fn cancelled(&self) -> bool {
        self.task.borrow().as_ref().is_some_and(|job| job.skipped(self.id.get()))
            || self.pool.upgrade().is_none_or(|p| p.closed.load(Ordering::Acquire))
    }

    fn set_progress(&self, _fraction: f64) {}

    fn waiting(&self, begins: bool) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut queue = pool.queue.lock();
        if begins {
            queue.active -= 1;
            queue.busy -= 1;
            // One that has been woken for something else is not there for this any more.
            if !pool.work.notify_one() {
                pool.spawn(&mut queue);
            }
        } else {
            queue.active += 1;
            queue.busy += 1;
        }
    }
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
    fn node(&self, id: u32) -> Cow<'_, Arc<Node>> {
        self.graph.node(id)
    }

    /// Whether the output of a task has been cancelled, which says all that is to be said: it may run again by now.
    fn is_over_for(&self, id: u32, slot: u32) -> bool {
        self.skipped(id) && self.cancelled.lock().contains(&slot)
    }

    fn label(&self, id: u32) -> TaskLabel {
        TaskLabel::in_graph(&self.graph, id)
    }

    fn skipped(&self, id: u32) -> bool {
        self.skip.get().is_some_and(|s| s[id as usize].load(Ordering::Relaxed))
    }

    /// Notes that some outputs are not wanted any more, and marks the tasks that only they need.
    fn drop_outputs(&self, slots: &[u32]) {
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

    fn execute(&self, id: u32, seat: &Seat, now: &mut u64) -> std::result::Result<Value, TaskError> {
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

impl Threads {
    fn check_open(&self) -> Result<()> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::Closed { reason: "it was shut down".to_string() }),
            false => Ok(()),
        }
    }

    /// Starts the threads; each remembers so many runs.
    /// With a `budget`, tasks without inputs wait while results take more bytes than that.
    pub(crate) fn new(threads: usize, events: usize, budget: Option<u64>) -> Arc<Self> {
        let pool = Arc::new(Self {
            threads: threads.max(1),
            queue: Mutex::default(),
            work: Condvar::new(),
            closed: AtomicBool::new(false),
            runs: AtomicU32::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            total: AtomicU64::new(0),
            jobs: Mutex::default(),
            budget: budget.map(|limit| Arc::new(Budget::new(limit))),
            events,
        });
        let mut queue = pool.queue.lock();
        for _ in 0..pool.threads {
            pool.spawn(&mut queue);
        }
        drop(queue);
        pool
    }

    /// Starts a thread. If the system has none to give, those there are must do.
    fn spawn(self: &Arc<Self>, queue: &mut Queue) {
        let seat = queue.free_seats.pop().unwrap_or_else(|| {
            let number = queue.seats.len();
            let seat = Seat { name: format!("swath-thread-{number}"), number, runs: OwnRing::new(self.events) };
            let seat = Arc::new(seat);
            queue.seats.push(Arc::clone(&seat));
            seat
        });
        let (pool, here) = (Arc::clone(self), Arc::clone(&seat));
        match std::thread::Builder::new().name(seat.name.clone()).spawn(move || pool.work(here)) {
            Ok(_) => {
                queue.alive += 1;
                queue.active += 1;
            }
            Err(e) => {
                queue.free_seats.push(seat);
                log::error!("cannot start a thread: {e}; {} are running", queue.alive);
            }
        }
    }

    fn work(self: Arc<Self>, seat: Arc<Seat>) {
        let scope = Rc::new(ThreadScope {
            pool: Arc::downgrade(&self),
            name: seat.name.as_str().into(),
            task: RefCell::new(None),
            id: Cell::new(0),
        });
        let _entered = crate::submission::context::enter(scope.clone());
        let mut was_busy = false;
        while let Some(work) = self.next(&seat, was_busy) {
            was_busy = true;
            // One task begins when the one before it has ended, so that each is timed by one look at the clock.
            let mut now = ticks();
            match work {
                Work::One(job, id) => self.follow(&job, id, &seat, &scope, &mut now),
                Work::Sources(job, ids) => {
                    let began = Instant::now();
                    let n = ids.len() as u64;
                    for id in ids {
                        self.follow(&job, id, &seat, &scope, &mut now);
                    }
                    let each = (began.elapsed().as_nanos() as u64 / n).max(1);
                    let old = job.cost.load(Ordering::Relaxed);
                    job.cost.store(if old == 0 { each } else { (3 * old + each) / 4 }, Ordering::Relaxed);
                }
            }
            scope.task.replace(None);
        }
    }

    /// The next thing to do; waits for it. `None`: this thread is not needed any more.
    fn next(&self, seat: &Arc<Seat>, mut was_busy: bool) -> Option<Work> {
        let mut spun = None;
        let mut looks = 0_u32;
        loop {
            let mut queue = self.queue.lock();
            queue.busy -= usize::from(std::mem::take(&mut was_busy));
            if queue.closed || queue.active > self.threads {
                queue.active -= 1;
                queue.alive -= 1;
                queue.free_seats.push(Arc::clone(seat));
                self.work.notify_all();
                return None;
            }
            if let Some(work) = self.pop(&mut queue) {
                queue.busy += 1;
                return Some(work);
            }
            let began = *spun.get_or_insert_with(Instant::now);
            if began.elapsed() < SPIN {
                drop(queue);
                for _ in 0..50 {
                    std::hint::spin_loop();
                }
                looks += 1;
                if looks.is_multiple_of(YIELD) {
                    // Who brings work, or waits for what this thread has just done, may have been put on this core.
                    std::thread::yield_now();
                }
                continue;
            }
            self.work.wait(&mut queue);
            spun = None;
        }
    }

    fn pop(&self, queue: &mut Queue) -> Option<Work> {
        let ready = queue.ready.peek().map(|r| (Reverse(r.priority), r.job.seq));
        let lane = queue.lanes.first_key_value().map(|(key, _)| *key);
        match (ready, lane) {
            (Some(r), Some(l)) if l < r => {}
            (Some(_), _) => return queue.ready.pop().map(|r| Work::One(r.job, r.task)),
            (None, None) => return None,
            (None, Some(_)) => {}
        }
        let (threads, busy) = (self.threads, queue.busy);
        let mut entry = queue.lanes.first_entry()?;
        let lane = entry.get_mut();
        let left = lane.left.len();
        let cost = lane.job.cost.load(Ordering::Relaxed);
        let share = SHARE.checked_div(cost).map_or(1, |n| n.clamp(1, 64) as usize);
        let n = share.min(left.div_ceil(2 * threads));
        let n = match self.budget.as_ref().map(|budget| budget.admit(n, busy, lane.declared())) {
            None => n,
            // Of what is ready, something may free memory, whatever its place in the line.
            Some(0) => return queue.ready.pop().map(|r| Work::One(r.job, r.task)),
            Some(n) => {
                // Who sleeps for want of room has not been told that there is some.
                self.work.notify_one();
                n
            }
        };
        let ids = lane.take(n);
        let job = Arc::clone(&lane.job);
        if n == left {
            entry.remove();
        }
        Some(Work::Sources(job, ids))
    }

    /// Runs a task, and after it those of its successors that fall to this thread.
    fn follow(&self, job: &Arc<Job>, first: u32, seat: &Seat, scope: &ThreadScope, now: &mut u64) {
        let mut next = Some(first);
        while let Some(id) = next {
            if scope.task.borrow().is_none() {
                scope.task.replace(Some(Arc::clone(job)));
            }
            scope.id.set(id);
            let result = job.execute(id, seat, now);
            next = self.finish(job, id, result);
        }
    }

    /// Stores a result, makes ready what waited for it, and answers with the task to run next.
    fn finish(&self, job: &Arc<Job>, id: u32, result: std::result::Result<Value, TaskError>) -> Option<u32> {
        let counter = if result.is_ok() { &self.done } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        if job.graph.layer.is_some() {
            // Nothing else uses it.
            if !job.is_over_for(id, id) {
                job.run.settle([(id, result.map_or_else(ResultState::Failed, ResultState::Value))]);
            }
            return self.ended(job, None);
        }
        if let Ok(slot) = job.outputs.binary_search(&id) {
            let (news, kept) = match &result {
                Ok(value) => {
                    (ResultState::Value(value.clone()), job.uses[id as usize].fetch_sub(1, Ordering::AcqRel) > 1)
                }
                Err(e) => (ResultState::Failed(e.clone()), true),
            };
            if kept {
                self.store(job, id, result);
            }
            if !job.is_over_for(id, slot as u32) {
                job.run.settle([(slot as u32, news)]);
            }
        } else {
            self.store(job, id, result);
        }
        let mut next = None;
        let mut others = Vec::new();
        for &d in row(&job.dependents.0, &job.dependents.1, id) {
            if job.missing[d as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
                match next {
                    None => next = Some(d),
                    Some(_) => others.push(d),
                }
            }
        }
        if !others.is_empty() {
            self.push(job, others);
        }
        self.ended(job, next)
    }

    /// One task less is left of a job.
    fn ended(&self, job: &Arc<Job>, next: Option<u32>) -> Option<u32> {
        if job.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.jobs.lock().remove(&job.run.number);
        }
        next
    }

    fn store(&self, job: &Job, id: u32, result: std::result::Result<Value, TaskError>) {
        if result.is_err() {
            job.failing.store(true, Ordering::Release);
        }
        if let (Some((budget, sizes)), Ok(value)) = (&job.budget, &result) {
            let is_source = job.graph.refs(id).is_empty();
            sizes[id as usize].store(budget.kept(&job.node(id), value, is_source), Ordering::Relaxed);
        }
        *job.cells[id as usize].lock() = match result {
            Ok(value) => Kept::Value(value),
            Err(e) => Kept::Failed(e),
        };
    }

    fn push(&self, job: &Arc<Job>, tasks: impl IntoIterator<Item = u32>) {
        let mut queue = self.queue.lock();
        for task in tasks {
            let priority = job.graph.priority(task);
            queue.ready.push(Ready { priority, task, job: Arc::clone(job) });
        }
        self.wake(&queue);
    }

    fn wake(&self, queue: &Queue) {
        let work = queue.ready.len() + queue.lanes.values().map(|lane| lane.left.len()).take(2).sum::<usize>();
        for _ in 0..work {
            if !self.work.notify_one() {
                break;
            }
        }
    }

    /// Makes a job of a graph and starts it.
    fn start(self: &Arc<Self>, graph: Graph, run: Arc<Submission>) -> Arc<Job> {
        let n = graph.len();
        // The tasks of a layer neither wait nor are waited for.
        let waiting = if graph.layer.is_some() { 0 } else { n };
        let outputs = if waiting > 0 { graph.outputs() } else { Ids::new() };
        let job = Arc::new(Job {
            seq: place_in_line(run.number),
            outputs,
            missing: (0..waiting as u32).map(|id| AtomicU32::new(graph.refs(id).len() as u32)).collect(),
            uses: if waiting > 0 { graph.uses().into_iter().map(AtomicU32::new).collect() } else { Vec::new() },
            cells: std::iter::repeat_with(|| Mutex::new(Kept::Empty)).take(waiting).collect(),
            budget: self
                .budget
                .as_ref()
                .map(|budget| (Arc::clone(budget), std::iter::repeat_with(AtomicU64::default).take(waiting).collect())),
            dependents: if waiting > 0 { graph.dependents() } else { Default::default() },
            left: AtomicUsize::new(n),
            skip: OnceLock::new(),
            dropped: Mutex::default(),
            cancelled: Mutex::default(),
            cost: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            run,
            graph,
        });
        self.total.fetch_add(n as u64, Ordering::Relaxed);
        if n == 0 {
            return job;
        }
        self.jobs.lock().insert(job.run.number, Arc::downgrade(&job));
        if self.is_closed() {
            // Nobody will run it. Who closes looks at the jobs after having said so, so that one of the two sees the other.
            self.jobs.lock().remove(&job.run.number);
            job.run.fail_rest(cancelled);
            return job;
        }
        let mut held = Vec::new();
        let mut sources: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for id in 0..waiting as u32 {
            if job.graph.is_held(id) {
                held.push(id);
            } else if job.graph.refs(id).is_empty() {
                sources.entry(job.graph.priority(id)).or_default().push(id);
            }
        }
        let layer = (n > waiting).then(|| (0, Lane::of_layer(&job)));
        if layer.is_some() || !sources.is_empty() {
            let lanes = sources.into_iter().map(|(priority, ids)| (priority, Lane::of(&job, ids))).chain(layer);
            let mut queue = self.queue.lock();
            queue.lanes.extend(lanes.map(|(priority, lane)| ((Reverse(priority), job.seq), lane)));
            self.wake(&queue);
        }
        for id in held {
            self.await_held(&job, id);
        }
        job
    }

    /// Finishes a task that stands for the result of an earlier graph when that is done.
    fn await_held(self: &Arc<Self>, job: &Arc<Job>, id: u32) {
        let node = job.node(id);
        let Kind::Held(output) = &node.kind else { return };
        let (pool, job_) = (Arc::downgrade(self), Arc::clone(job));
        let done = Box::new(move || {
            let Some(pool) = pool.upgrade() else { return };
            let node = job_.node(id);
            let Kind::Held(output) = &node.kind else { return };
            let result = output.submission.with_state(output.index, |slot| match slot {
                ResultState::Value(value) => Ok(value.clone()),
                ResultState::Failed(e) => Err(e.clone()),
                _ => Err(cancelled(&output.label())),
            });
            if let Some(next) = pool.finish(&job_, id, result) {
                pool.push(&job_, [next]);
            }
        });
        output.submission.when_done(output.index, Waiter::Call(done));
    }
}

/// Jobs go in the order of submission; but what a running task waits for goes first, the latest before the others, so that
/// few tasks wait at a time.
fn place_in_line(number: u32) -> u64 {
    const MIDDLE: u64 = 1 << 62;
    if context::is_task() { MIDDLE - u64::from(number) } else { MIDDLE + u64::from(number) }
}

impl Backend for Threads {
    fn mode(&self) -> Mode {
        Mode::Threads
    }

    fn describe(&self) -> String {
        let state = if self.is_closed() { "closed" } else { "running" };
        let s = if self.threads == 1 { "" } else { "s" };
        format!("threads client: {} thread{s} in this process, {state}", self.threads)
    }

    fn submit(self: Arc<Self>, graph: Graph, _want: Want) -> Result<Arc<Submission>> {
        self.submit_layer(graph, &mut |_| ())
    }

    fn submit_layer(self: Arc<Self>, graph: Graph, shown: Shown<'_>) -> Result<Arc<Submission>> {
        self.check_open()?;
        let run = Submission::new(self.runs.fetch_add(1, Ordering::Relaxed), self.clone(), &graph);
        shown(&run);
        self.start(graph, Arc::clone(&run));
        Ok(run)
    }

    fn scatter(
        self: Arc<Self>,
        values: Vec<(Value, &'static Codec, TaskLabel)>,
        _broadcast: bool,
    ) -> Result<Arc<Submission>> {
        self.check_open()?;
        let (values, labels): (Vec<_>, Vec<_>) = values.into_iter().map(|(v, _, label)| (v, label)).unzip();
        let run = Submission::of_values(self.runs.fetch_add(1, Ordering::Relaxed), self.clone(), labels);
        run.settle(values.into_iter().enumerate().map(|(i, v)| (i as u32, ResultState::Value(v))));
        Ok(run)
    }

    fn ask(&self, _run: &Submission, _slots: &[u32]) {}

    fn release(&self, run: &Submission, slots: &[u32]) {
        let job = self.jobs.lock().get(&run.number).and_then(Weak::upgrade);
        if let Some(job) = job {
            job.drop_outputs(slots);
        }
    }

    fn cancel(&self, run: &Arc<Submission>, slots: &[u32]) {
        let job = self.jobs.lock().get(&run.number).and_then(Weak::upgrade);
        if let Some(job) = job {
            job.cancelled.lock().extend(slots);
        }
        self.release(run, slots);
        run.settle(slots.iter().map(|&s| (s, ResultState::Failed(cancelled(&run.label(s))))));
    }

    fn retry(self: Arc<Self>, run: &Arc<Submission>, slot: u32) -> Result<()> {
        self.check_open()?;
        let Some(node) = run.node(slot) else { return Ok(()) };
        if run.reopen(slot) {
            let graph = Graph::of(&[&node]);
            let again = Submission::new(self.runs.fetch_add(1, Ordering::Relaxed), self.clone(), &graph);
            self.start(graph, Arc::clone(&again));
            let (from, to) = (Arc::clone(&again), Arc::clone(run));
            again.when_done(
                0,
                Waiter::Call(Box::new(move || {
                    let result = from.with_state(0, |s| match s {
                        ResultState::Value(v) => ResultState::Value(v.clone()),
                        ResultState::Failed(e) => ResultState::Failed(e.clone()),
                        _ => ResultState::Failed(cancelled(&from.label(0))),
                    });
                    to.settle([(slot, result)]);
                })),
            );
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress {
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
        }
    }

    fn ask_supervisor(&self, question: Question) -> Reply {
        if let Question::Events = question {
            let seats = self.queue.lock().seats.clone();
            let runs =
                seats.iter().map(|s| Recorded { worker: s.name.clone(), records: s.runs.ring().read() }).collect();
            return Reply::ready(Ok(Answer::Events(Box::new(Raw { runs, workers: Vec::new() }))));
        }
        if let (Question::Memory, Some(budget)) = (&question, &self.budget) {
            let (managed, limit) = budget.used();
            return Reply::ready(Ok(Answer::Memory(Box::new(in_process(Mode::Threads, managed, Some(limit))))));
        }
        let names = (0..self.threads).map(|i| format!("swath-thread-{i}")).collect();
        answer_in_process(Mode::Threads, names, question)
    }

    fn explain(&self, run: &Submission, slot: u32) -> Reply {
        let key = run.label(slot).key();
        let text = if run.is_done(slot) {
            format!("{key} is done")
        } else if let Some(job) = self.jobs.lock().get(&run.number).and_then(Weak::upgrade) {
            let id = job.outputs.get(slot as usize).copied().unwrap_or(slot);
            match job.missing.get(id as usize).map_or(0, |missing| missing.load(Ordering::Acquire)) {
                0 => format!("{key} is ready or running; {} thread(s) work in graph order", self.threads),
                n => format!("{key} waits for {n} of its {} input(s)", job.graph.refs(id).len()),
            }
        } else {
            format!("{key} is about to be done")
        };
        Reply::ready(Ok(Answer::Text(text)))
    }

    fn shutdown(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        {
            let mut queue = self.queue.lock();
            queue.closed = true;
            queue.ready.clear();
            queue.lanes.clear();
        }
        self.work.notify_all();
        let jobs: Vec<_> = self.jobs.lock().drain().filter_map(|(_, job)| job.upgrade()).collect();
        for job in jobs {
            job.run.fail_rest(cancelled);
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
