//! The threads mode: a pool of threads that counts dependencies.
//!
//! A finished task makes ready the tasks that waited for it alone: the first of them runs next on the same thread,
//! without a queue in between, unless something waits that goes before it ([`fairness`](crate::fairness)); the others go to
//! a queue shared by all threads. Tasks without inputs (sources) have queues of their own ([`SourceQueue`]), which give them out in graph order,
//! several at a time when they are short.
//!
//! While a task waits for other tasks, another thread runs in the place of its thread; so also while a function goes on whose
//! task has failed as overdue ([`deadlines`]) or was cancelled ([`cancelled`](self::cancelled)).
//!
//! # Why no thread sleeps beside work
//! A thread goes to sleep under the queue's lock, having found nothing there that it may take, and gives up the lock in
//! the same step (`Condvar::wait`). What it may take comes about in five ways, each under that lock too:
//!
//! - Work is put in: [`ThreadPool::wake`] wakes as many parked threads as there is work, so none is left that could take
//!   some. One that is woken may find that another thread was faster, and sleeps again by the same rule.
//! - A thread stops being busy: it looks for work itself. Its task begins to wait for others: a parked thread is woken or a
//!   thread started.
//! - The budget admits sources again: it always admits one when no thread is busy, so a thread looks when that changes;
//!   one that takes some wakes the next, which looks whether there is room for more.
//! - Resources are given back: what waited for them is put in. Where only tasks have them that wait for others, the thread that
//!   finds nothing else looks again after a while, by the clock.
//! - The pool is closed or has too many threads: all are woken.
//!
//! But for that, no thread looks again after a time: with a lost wake-up, a graph would never end, not only take longer.

mod backend;
mod cancelled;
mod deadlines;
mod explain;
mod held;
mod job;
mod queue;
mod resources;
mod scope;
#[cfg(test)]
mod tests;
mod time;

use crate::error::{Error, Result, TaskError};
use crate::events::sources::{RingOwner, RunSources};
use crate::exec::Checks;
use crate::exec::attempt::results_of_parts;
use crate::exec::budget::Budget;
use crate::exec::coordination::LocalCoordination;
use crate::exec::logs::TaskLogs;
use crate::fairness::{Program, Rank};
use crate::graph::dag::row;
use crate::graph::{Dag, Graph};
use crate::host::report;
use crate::ipc::clock::{TickMeter, ticks};
use crate::ipc::fork::Origin;
use crate::ipc::ring::{OwnRing, RunSource};
use crate::lazy_map::LazyMap;
use crate::profile::SampledThreads;
use crate::resources::Resources;
use crate::submission::Again;
use crate::submission::backend::{Backend, NoPlaces, Shown, Want};
use crate::submission::callbacks::Callbacks;
use crate::submission::counts::{GroupTable, Shard, TaskCounts};
use crate::submission::handle::{ResultHandle, ResultState, SHUT_DOWN, Submission, cancelled, closed};
use crate::submission::kept::KeptResults;
use crate::submission::published::PublishedValues;
use crate::task::Value;
use crate::task::building::Building;
use crate::task::context;
use crate::task::context::TaskScope;
use crate::task::wait::TaskWaits;

use deadlines::Deadlines;
use job::{PoolJob, TaskCell};
use parking_lot::{Condvar, Mutex};
use queue::{Queue, SourceQueue, Work};
use resources::Tally;
use scope::ThreadScope;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;
use time::Time;

/// The name of a pool thread and the record of its runs. When a thread has ended, a later one takes them over.
struct PoolThread {
    name: Arc<str>,
    number: usize,
    runs: Arc<OwnRing>,
    _owner: RingOwner,
    /// For how many reasons another thread runs in its place. Changed under the queue's lock.
    away: AtomicU32,
    /// Whether its task is of a task. Changed under the queue's lock, too.
    nested: AtomicBool,
    running: cancelled::Running,
    /// Those of the task that it runs.
    waits: Arc<TaskWaits>,
}

/// The system gives the pool no more threads.
struct NoThread {
    error: std::io::Error,
    running: usize,
}

impl NoThread {
    fn log(&self) {
        report!(Error, "cannot start a thread: {}; {} are running", self.error, self.running);
    }
}

/// The most threads of a pool. A system that gives no more ends a program that asks for them, not with an error.
pub(crate) const MOST_POOL_THREADS: usize = 1024;

pub(crate) struct ThreadPool {
    this: Weak<Self>,
    threads: usize,
    queue: Mutex<Queue>,
    work: Condvar,
    /// The rank of what goes first of all that waits. A hint: it changes under the queue's lock.
    first: AtomicI64,
    closed: AtomicBool,
    origin: Origin,
    callbacks: Arc<Callbacks>,
    submissions: AtomicU32,
    groups: Arc<GroupTable>,
    awaiting: held::Awaiting,
    jobs: Mutex<rustc_hash::FxHashMap<u32, Weak<PoolJob>>>,
    budget: Option<Arc<Budget>>,
    /// Whether values are encoded and decoded again, as between processes.
    encodes: bool,
    coordination: LocalCoordination,
    kept: KeptResults,
    published: PublishedValues,
    no_places: NoPlaces,
    resources: Resources,
    deadlines: Deadlines,
    /// How many runs each thread remembers.
    recorded: usize,
    /// What takes them, if they are recorded in a file.
    sources: Arc<RunSources>,
    /// What tasks log.
    logs: TaskLogs,
    sampled: SampledThreads,
}

impl PoolThread {
    /// The counters that it has for itself.
    fn shard(&self) -> Shard {
        Shard::Own(self.number)
    }

    /// Whether its task is of a task.
    fn is_nested(&self) -> bool {
        self.nested.load(Ordering::Relaxed)
    }
}

impl ThreadPool {
    fn check_open(&self) -> Result<()> {
        if let Some(reason) = self.origin.reason() {
            return Err(Error::Closed { reason });
        }
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::Closed { reason: SHUT_DOWN.to_string() }),
            false => Ok(()),
        }
    }

    /// Starts the threads; each remembers the last `recorded` runs. With a `budget`, tasks without inputs wait while
    /// results take more bytes than that.
    pub(crate) fn new(threads: usize, recorded: usize, budget: Option<u64>) -> Arc<Self> {
        Self::checking(threads, recorded, budget, Checks::default())
    }

    /// The same, with these checks.
    pub(crate) fn checking(threads: usize, recorded: usize, budget: Option<u64>, checks: Checks) -> Arc<Self> {
        let pool = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            threads: threads.clamp(1, MOST_POOL_THREADS),
            queue: Mutex::new(Queue { tally: Tally::new(checks.resources.clone()), ..Queue::default() }),
            work: Condvar::new(),
            first: AtomicI64::new(Rank::MAX),
            closed: AtomicBool::new(false),
            origin: Origin::here(),
            callbacks: Arc::default(),
            submissions: AtomicU32::new(0),
            groups: GroupTable::new(threads.clamp(1, MOST_POOL_THREADS)),
            awaiting: held::Awaiting::default(),
            jobs: Mutex::default(),
            budget: budget.map(|limit| Arc::new(Budget::new(limit))),
            deadlines: Deadlines::default(),
            recorded,
            logs: TaskLogs::new(Arc::clone(&checks.sources)),
            sources: checks.sources,
            sampled: SampledThreads::new(),
            encodes: checks.encodes,
            coordination: LocalCoordination::new(false, checks.encodes),
            kept: KeptResults::default(),
            published: PublishedValues::default(),
            no_places: NoPlaces::new(checks.strict),
            resources: checks.resources,
        });
        let mut queue = pool.queue.lock();
        let refused: Vec<_> = (0..pool.threads).filter_map(|_| pool.spawn(&mut queue)).collect();
        drop(queue);
        refused.iter().for_each(NoThread::log);
        pool
    }

    /// Starts a thread. If the system refuses, the pool goes on with those it has; to be logged without the lock.
    fn spawn(self: &Arc<Self>, queue: &mut Queue) -> Option<NoThread> {
        let thread = queue.free_threads.pop().unwrap_or_else(|| {
            let number = queue.threads.len();
            let name: Arc<str> = format!("swath-thread-{number}").into();
            let runs = Arc::new(OwnRing::new(self.recorded));
            let owner = self.sources.add(&name, &(Arc::clone(&runs) as Arc<dyn RunSource>));
            let thread = Arc::new(PoolThread {
                name,
                number,
                runs,
                _owner: owner,
                away: AtomicU32::new(0),
                nested: AtomicBool::new(false),
                running: cancelled::Running::default(),
                waits: Arc::default(),
            });
            queue.threads.push(Arc::clone(&thread));
            thread
        });
        let (pool, here) = (Arc::clone(self), Arc::clone(&thread));
        match std::thread::Builder::new().name(thread.name.to_string()).spawn(move || pool.work(here)) {
            Ok(_) => {
                queue.alive += 1;
                queue.active += 1;
                None
            }
            Err(error) => {
                queue.free_threads.push(thread);
                Some(NoThread { error, running: queue.alive })
            }
        }
    }

    /// Has another thread run in the place of one whose task goes on.
    fn step_aside(self: &Arc<Self>, thread: &PoolThread) -> Option<NoThread> {
        self.leave_place(thread, &mut self.queue.lock())
    }

    fn leave_place(self: &Arc<Self>, thread: &PoolThread, queue: &mut Queue) -> Option<NoThread> {
        if thread.away.fetch_add(1, Ordering::Relaxed) > 0 {
            return None;
        }
        queue.active -= 1;
        queue.leave(thread);
        // If none sleeps, or those that do are woken already, a new thread is needed.
        if self.work.notify_one() { None } else { self.spawn(queue) }
    }

    /// A reason to step aside is over.
    fn step_back(&self, thread: &PoolThread) {
        Self::take_place(thread, &mut self.queue.lock());
    }

    fn take_place(thread: &PoolThread, queue: &mut Queue) {
        if thread.away.fetch_sub(1, Ordering::Relaxed) == 1 {
            queue.active += 1;
            queue.enter(thread);
        }
    }

    fn work(self: Arc<Self>, thread: Arc<PoolThread>) {
        let scope = Rc::new(ThreadScope {
            pool: Arc::downgrade(&self),
            thread: Arc::clone(&thread),
            task: RefCell::new(None),
            id: Cell::new(0),
        });
        let _entered = crate::submission::context::enter(scope.clone());
        let _sampled = self.sampled.register();
        let mut was_busy = false;
        let mut meter = TickMeter::start();
        while let Some(work) = self.next(&thread, was_busy) {
            was_busy = true;
            // Each task begins when the one before it ended, so that a task needs one reading of the clock.
            let now = ticks();
            let mut time = Time { now, charged: now, meter: &mut meter };
            match work {
                Work::One(job, id) => {
                    self.run_chain(&job, id, &thread, &scope, &mut time);
                    self.charge(&job, time.uncharged(), None);
                }
                Work::Sources(job, ids) => {
                    let began = Instant::now();
                    let mut n = 0;
                    // All are of one priority.
                    let rank = ids.first().map_or(Rank::MAX, |id| job.place(job.priority(*id)).rank());
                    let mut left = ids.into_iter();
                    while let Some(id) = left.next() {
                        self.run_chain(&job, id, &thread, &scope, &mut time);
                        n += 1;
                        if self.waits_before(rank) && left.len() > 0 {
                            self.push(&job, left.by_ref());
                        }
                    }
                    let each = (began.elapsed().as_nanos() as u64 / n).max(1);
                    self.charge(&job, time.uncharged(), Some(each));
                }
            }
            scope.task.replace(None);
        }
    }

    /// Runs a task, then one that its end made ready, and so on.
    fn run_chain(
        self: &Arc<Self>,
        job: &Arc<PoolJob>,
        first: u32,
        thread: &Arc<PoolThread>,
        scope: &ThreadScope,
        time: &mut Time<'_>,
    ) {
        let mut next = Some(first);
        while let Some(id) = next {
            if scope.task.borrow().is_none() {
                scope.task.replace(Some(Arc::clone(job)));
            }
            scope.id.set(id);
            thread.running.begin(job.submission.number, id);
            let result = self.with_resources(job, id, || self.execute(job, id, thread, &mut time.now));
            if thread.running.progress() != 0 {
                scope.set_progress(0);
            }
            next = result.and_then(|result| self.finish(job, id, result, thread.shard()));
            if next.is_some() {
                if time.is_to_be_charged() {
                    self.charge(job, time.uncharged(), None);
                }
                // One that needs resources gets them where it is taken out of the queue.
                if self.should_yield(job, id) || next.is_some_and(|next| job.needs.contains_key(&next)) {
                    return self.push(job, next);
                }
            }
        }
    }

    /// Stores a result and makes ready the tasks that waited for it alone. Returns the one to run next on this thread.
    #[inline(always)]
    fn finish(
        &self,
        job: &Arc<PoolJob>,
        id: u32,
        result: std::result::Result<Value, TaskError>,
        shard: Shard,
    ) -> Option<u32> {
        let result = job.count_end(id, result, shard);
        if let Graph::Map(_) = job.graph {
            // No other task uses it.
            if result.is_ok() {
                job.counts.output_done(id);
            }
            self.settle(job, id, result.map_or_else(ResultState::Failed, ResultState::Value));
            return self.ended(job, None);
        }
        if let Err(e) = &result
            && job.submission.fails_fast()
            && !job.failing.swap(true, Ordering::AcqRel)
            && !self.is_closed()
        {
            job.submission.settle(job.failures(id, e));
        }
        if let Graph::Dag(dag) = &job.graph
            && dag.has_parts(id)
        {
            return self.finish_parts(job, results_of_parts(dag, id, &result), shard);
        }
        if let Ok(index) = job.outputs.binary_search(&id) {
            let (news, kept) = match &result {
                Ok(value) => {
                    job.counts.output_done(index as u32);
                    (ResultState::Value(value.clone()), job.uses[id as usize].fetch_sub(1, Ordering::AcqRel) > 1)
                }
                Err(e) => (ResultState::Failed(e.clone()), true),
            };
            if kept {
                self.store(job, id, result);
            }
            self.settle(job, index as u32, news);
        } else {
            self.store(job, id, result);
        }
        let mut next = None;
        let mut others = Vec::new();
        for &d in row(&job.dependents.0, &job.dependents.1, id) {
            if job.missing[d as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
                job.counts.lane(shard).ready(d);
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

    /// The same for a task whose result is taken apart: each part is a result, and what waits for it is ready.
    fn finish_parts(
        &self,
        job: &Arc<PoolJob>,
        parts: Vec<(u32, std::result::Result<Value, TaskError>)>,
        shard: Shard,
    ) -> Option<u32> {
        let mut ready = Vec::new();
        for (part, result) in parts {
            let result = match job.skipped(part) {
                true => {
                    drop(result);
                    Err(cancelled(&job.label(part)))
                }
                false => result,
            };
            ready.extend(self.finish(job, part, result, shard));
        }
        let others = ready.split_off(ready.len().min(1));
        if !others.is_empty() {
            self.push(job, others);
        }
        self.ended(job, ready.pop())
    }

    /// Notes what became of an output, unless it has been cancelled: then it may run again by now.
    fn settle(&self, job: &PoolJob, index: u32, news: ResultState) {
        if job.is_cancelled(index) {
            return;
        }
        // A task that saw the pool closed gave up, and what it answered is no result.
        let news = match self.is_closed() {
            true => ResultState::Failed(closed(&job.submission.label(index), SHUT_DOWN)),
            false => news,
        };
        job.submission.settle([(index, news)]);
    }

    /// Counts a task of a job as ended.
    fn ended(&self, job: &Arc<PoolJob>, next: Option<u32>) -> Option<u32> {
        if job.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.jobs.lock().remove(&job.submission.number);
        }
        next
    }

    fn store(&self, job: &PoolJob, id: u32, result: std::result::Result<Value, TaskError>) {
        if result.is_err() {
            job.failing.store(true, Ordering::Release);
        }
        if let (Some((budget, sizes)), Ok(value)) = (&job.budget, &result) {
            let is_source = job.graph.refs(id).is_empty();
            sizes[id as usize].store(budget.add(&job.node(id), value, is_source), Ordering::Relaxed);
        }
        *job.cells[id as usize].lock() = match result {
            Ok(value) => TaskCell::Value(value),
            Err(e) => TaskCell::Failed(e),
        };
    }

    /// Starts running a graph, once its submission has been shown.
    fn run(self: Arc<Self>, graph: Graph, want: Want, shown: Shown<'_>) -> Result<Arc<Submission>> {
        self.check_open()?;
        let number = self.submissions.fetch_add(1, Ordering::Relaxed);
        let submission = Submission::new(number, self.clone(), &graph, want, Again::of(&graph));
        let counts = TaskCounts::new(&self.groups, number, &graph, context::is_task(), want);
        submission.set_counts(&counts);
        shown(&submission);
        self.start(graph, Arc::clone(&submission), counts);
        Ok(submission)
    }

    /// Makes a job of a graph and starts it.
    fn start(self: &Arc<Self>, graph: Graph, submission: Arc<Submission>, counts: Arc<TaskCounts>) -> Arc<PoolJob> {
        let n = graph.len();
        // The calls of a map neither wait nor are waited for.
        let none = Dag::default();
        let dag = match &graph {
            Graph::Dag(dag) => dag,
            Graph::Map(_) => &none,
        };
        let waiting = dag.len() as u32;
        let mut needs = LazyMap::default();
        for &id in &dag.counted {
            let wanted = dag.options(id).map(|options| options.resources()).unwrap_or_default();
            if !wanted.is_empty() {
                needs.insert(id, wanted);
            }
        }
        let job = Arc::new(PoolJob {
            position: queue_position(submission.number),
            program: if context::is_task() { Program::TASKS } else { Program::ONLY },
            inherited: context::priority(),
            attained: AtomicU64::new(0),
            outputs: dag.outputs(),
            missing: (0..waiting).map(|id| AtomicU32::new(dag.refs(id).len() as u32)).collect(),
            uses: dag.uses().into_iter().map(AtomicU32::new).collect(),
            cells: (0..waiting).map(|_| Mutex::new(TaskCell::Empty)).collect(),
            budget: self
                .budget
                .as_ref()
                .map(|budget| (Arc::clone(budget), (0..waiting).map(|_| AtomicU64::default()).collect())),
            building: Building::current(),
            dependents: dag.dependents(),
            left: AtomicUsize::new(n),
            skip: OnceLock::new(),
            dropped: Mutex::default(),
            cancelled: OnceLock::new(),
            cost: AtomicU64::new(0),
            limited: dag.nodes.iter().any(|node| node.options().is_some_and(|o| o.timeout.is_some())),
            given_up: Mutex::default(),
            needs,
            holder: resources::holder(),
            failing: AtomicBool::new(false),
            counts,
            submission,
            graph,
        });
        if n == 0 {
            return job;
        }
        self.jobs.lock().insert(job.submission.number, Arc::downgrade(&job));
        if self.is_closed() {
            // No thread will run it. `shutdown` sets its flag while it has the jobs: one of the two sees the other.
            self.jobs.lock().remove(&job.submission.number);
            job.submission.fail_rest(|label| closed(label, SHUT_DOWN));
            return job;
        }
        let mut held = Vec::new();
        let mut sources: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        if let Graph::Dag(dag) = &job.graph {
            for id in 0..waiting {
                if let Some(result) = dag.held(id) {
                    held.extend(ResultHandle::of(result).map(|handle| (id, handle)));
                } else if dag.refs(id).is_empty() {
                    sources.entry(job.priority(id)).or_default().push(id);
                }
            }
        }
        sources.values().for_each(|ids| job.counts.all_ready(ids.iter().copied()));
        if let Graph::Map(_) = job.graph {
            job.counts.map_ready();
        }
        let map = matches!(job.graph, Graph::Map(_)).then(|| (job.priority(0), SourceQueue::of_map(&job)));
        if map.is_some() || !sources.is_empty() {
            let sources = sources.into_iter().map(|(priority, ids)| (priority, SourceQueue::of(&job, ids))).chain(map);
            let mut queue = self.queue.lock();
            sources.for_each(|(priority, sources)| queue.graphs.add_sources(sources, priority));
            self.wake(&queue);
        }
        for (id, handle) in held {
            self.await_held(&job, id, &handle);
        }
        job
    }
}

/// Equal jobs run in the order of submission; but jobs that a running task waits for come first, the latest before the
/// others, so that few tasks wait at a time.
fn queue_position(number: u32) -> u64 {
    const MIDDLE: u64 = 1 << 62;
    if context::is_task() { MIDDLE - u64::from(number) } else { MIDDLE + u64::from(number) }
}
