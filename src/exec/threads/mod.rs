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

mod job;
mod queue;

use crate::error::{Error, Result, TaskError};
use crate::events::{EventRecords, WorkerRuns};
use crate::exec::attempt::held_result;
use crate::exec::budget::Budget;
use crate::exec::queries::{answer_in_process, in_process};
use crate::graph::label::TaskLabel;
use crate::graph::node::Kind;
use crate::graph::{Graph, Ids, row};
use crate::ipc::clock::ticks;
use crate::ipc::ring::OwnRing;
use crate::message::{Answer, Question};
use crate::status::{Explanation, Mode, Progress, Why};
use crate::submission::backend::{Backend, Shown, Want};
use crate::submission::context::BackendScope;
use crate::submission::handle::{ResultState, Submission, Waiter, cancelled};
use crate::submission::reply::Reply;
use crate::task::Value;
use crate::task::codec::Codec;
use crate::task::context;
use crate::task::context::{TaskInfo, TaskScope};
use job::{Job, Kept};
use parking_lot::{Condvar, Mutex};
use queue::{Lane, Queue, Work};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

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
            let result = held_result(output);
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
                seats.iter().map(|s| WorkerRuns { worker: s.name.clone(), records: s.runs.ring().read() }).collect();
            return Reply::ready(Ok(Answer::Events(Box::new(EventRecords { runs, workers: Vec::new() }))));
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
        let why = if run.is_done(slot) {
            Why::DoneHere
        } else if let Some(job) = self.jobs.lock().get(&run.number).and_then(Weak::upgrade) {
            let id = job.outputs.get(slot as usize).copied().unwrap_or(slot);
            match job.missing.get(id as usize).map_or(0, |missing| missing.load(Ordering::Acquire)) {
                0 => Why::ReadyHere { threads: self.threads },
                missing => Why::InputsHere { missing, all: job.graph.refs(id).len() },
            }
        } else {
            Why::EndingHere
        };
        Reply::ready(Ok(Answer::Explanation(Box::new(Explanation::here(key, why)))))
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
