//! The pool's queue: tasks that became ready, tasks without inputs, and how a thread takes the next.

use super::job::PoolJob;
use super::resources::Tally;
use super::{PoolThread, ThreadPool};
use crate::fairness::{Order, Place, Rank, Walk};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a thread spins for work before it sleeps: about what waking it would cost.
const SPIN: Duration = Duration::from_micros(30);
/// How often it looks before it yields its core: every few microseconds.
const YIELD: u32 = 4;
/// How much work, in nanoseconds, a thread takes from a job's sources at once.
const SHARE: u64 = 50_000;

/// Tasks without inputs (sources), of one job and one priority, that no thread has taken.
pub(super) struct SourceQueue {
    pub(super) job: Arc<PoolJob>,
    /// Empty for a map of values, whose tasks are all sources.
    pub(super) listed: Vec<u32>,
    /// The positions in the list that are left; without a list, the tasks.
    pub(super) left: Range<u32>,
}

impl SourceQueue {
    pub(super) fn of_map(job: &Arc<PoolJob>) -> Self {
        Self { job: Arc::clone(job), listed: Vec::new(), left: 0..job.graph.len() as u32 }
    }

    pub(super) fn of(job: &Arc<PoolJob>, listed: Vec<u32>) -> Self {
        Self { job: Arc::clone(job), left: 0..listed.len() as u32, listed }
    }

    /// Takes the next `n`.
    pub(super) fn take(&mut self, n: usize) -> Vec<u32> {
        let places = self.left.start..self.left.start + n as u32;
        self.left.start = places.end;
        match self.listed.is_empty() {
            true => places.collect(),
            false => self.listed[places.start as usize..places.end as usize].to_vec(),
        }
    }

    /// The memory that the next one declares, in bytes.
    pub(super) fn declared(&self) -> u64 {
        let next = self.listed.get(self.left.start as usize);
        next.and_then(|&id| self.job.graph.options(id)).and_then(|o| o.memory).unwrap_or(0)
    }
}

/// What is to start of one job and one priority.
pub(super) struct GraphQueue {
    job: Arc<PoolJob>,
    place: Place,
    /// Tasks that became ready; the lowest is next.
    ready: BinaryHeap<Reverse<u32>>,
    sources: Option<SourceQueue>,
}

/// Names a queue: the position of a job, and a priority.
type QueueKey = (u64, i32);

/// What is to start, of all jobs.
#[derive(Default)]
pub(super) struct Graphs {
    queues: BTreeMap<QueueKey, GraphQueue>,
    order: Order,
    /// The places of those with ready tasks.
    ready: BTreeSet<Place>,
}

impl Graphs {
    fn queue(&mut self, job: &Arc<PoolJob>, priority: i32) -> &mut GraphQueue {
        let order = &mut self.order;
        self.queues.entry((job.position, priority)).or_insert_with(|| {
            let place = job.place(priority);
            order.enter(place.program);
            order.insert(place);
            GraphQueue { job: Arc::clone(job), place, ready: BinaryHeap::new(), sources: None }
        })
    }

    pub(super) fn push(&mut self, job: &Arc<PoolJob>, priority: i32, task: u32) {
        let queue = self.queue(job, priority);
        queue.ready.push(Reverse(task));
        let place = queue.place;
        if queue.ready.len() == 1 {
            self.ready.insert(place);
        }
    }

    pub(super) fn add_sources(&mut self, sources: SourceQueue, priority: i32) {
        let job = Arc::clone(&sources.job);
        self.queue(&job, priority).sources = Some(sources);
    }

    /// Takes the next ready task of a queue.
    fn take_ready(&mut self, place: &Place) -> Option<Work> {
        let queue = self.queues.get_mut(&key(place))?;
        let Reverse(task) = queue.ready.pop()?;
        if queue.ready.is_empty() {
            self.ready.remove(place);
        }
        let job = Arc::clone(&queue.job);
        self.end_if_empty(place);
        Some(Work::One(job, task))
    }

    fn end_if_empty(&mut self, place: &Place) {
        let empty = |queue: &GraphQueue| queue.ready.is_empty() && queue.sources.is_none();
        if self.queues.get(&key(place)).is_some_and(empty) {
            self.queues.remove(&key(place));
            self.order.remove(place);
        }
    }

    /// A job is in another level now.
    fn moved(&mut self, job: &PoolJob) {
        let of_job = (job.position, i32::MIN)..=(job.position, i32::MAX);
        for (_, queue) in self.queues.range_mut(of_job) {
            let (old, new) = (queue.place, job.place(queue.place.priority.0));
            queue.place = new;
            self.order.replace(&old, new);
            if self.ready.remove(&old) {
                self.ready.insert(new);
            }
        }
    }

    /// How many jobs have tasks that go before one.
    pub(super) fn before(&self, job: &PoolJob, priority: i32) -> usize {
        self.order.graphs_before(&job.place(priority))
    }

    /// About how many tasks start before one.
    pub(super) fn tasks_before(&self, job: &PoolJob, priority: i32, task: u32) -> u64 {
        const MOST: usize = 4096;
        let own = job.place(priority);
        let tasks = |queue: &GraphQueue| {
            (queue.ready.len() + queue.sources.as_ref().map_or(0, |sources| sources.left.len())) as u64
        };
        let others = self.order.before(&own).take(MOST).filter_map(|place| self.queues.get(&key(place)));
        let before: u64 = others.map(tasks).sum();
        let Some(queue) = self.queues.get(&key(&own)) else { return before };
        let sources = queue.sources.as_ref().map_or(0, |sources| {
            let at = match sources.listed.is_empty() {
                true => task,
                false => sources.listed.partition_point(|listed| *listed < task) as u32,
            };
            at.min(sources.left.end).saturating_sub(sources.left.start)
        });
        before + queue.ready.len().saturating_sub(1) as u64 + u64::from(sources)
    }

    /// What can start at once, as far as that matters to so many threads.
    fn startable(&self, threads: usize) -> usize {
        let mut n = 0;
        for queue in self.queues.values() {
            n += queue.ready.len() + queue.sources.as_ref().map_or(0, |sources| sources.left.len());
            if n >= threads {
                break;
            }
        }
        n
    }
}

fn key(place: &Place) -> QueueKey {
    (place.seq, place.priority.0)
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) graphs: Graphs,
    pub(super) tally: Tally,
    /// Threads that run or look for tasks, without those that wait for tasks of their own.
    pub(super) active: usize,
    /// Threads that run a task and do not wait for tasks of their own.
    pub(super) busy: usize,
    /// Those of them whose task is of a task.
    pub(super) nested: usize,
    /// Threads that exist.
    pub(super) alive: usize,
    /// All there have ever been; and those that have ended, which later threads take over.
    pub(super) threads: Vec<Arc<PoolThread>>,
    pub(super) free_threads: Vec<Arc<PoolThread>>,
    pub(super) closed: bool,
}

impl Queue {
    /// A thread runs a task, or does so again.
    pub(super) fn enter(&mut self, thread: &PoolThread) {
        self.busy += 1;
        self.nested += usize::from(thread.is_nested());
    }

    /// It does not any more, or waits.
    pub(super) fn leave(&mut self, thread: &PoolThread) {
        self.busy -= 1;
        self.nested -= usize::from(thread.is_nested());
    }
}

/// What a thread does next.
pub(super) enum Work {
    One(Arc<PoolJob>, u32),
    Sources(Arc<PoolJob>, Vec<u32>),
}

impl Work {
    fn is_nested(&self) -> bool {
        let (Self::One(job, _) | Self::Sources(job, _)) = self;
        job.is_nested()
    }
}

impl ThreadPool {
    /// Waits for the next work. `None`: this thread is not needed any more.
    pub(super) fn next(&self, thread: &Arc<PoolThread>, mut was_busy: bool) -> Option<Work> {
        let mut spun = None;
        let mut looks = 0_u32;
        loop {
            let mut queue = self.queue.lock();
            Self::note_end(thread, &mut queue);
            if std::mem::take(&mut was_busy) {
                queue.leave(thread);
            }
            if queue.closed || queue.active > self.threads {
                queue.active -= 1;
                queue.alive -= 1;
                queue.free_threads.push(Arc::clone(thread));
                self.work.notify_all();
                return None;
            }
            Self::let_in_held_up(&mut queue);
            if let Some(work) = self.pop(&mut queue) {
                thread.nested.store(work.is_nested(), Ordering::Relaxed);
                queue.enter(thread);
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
                    // The thread that brings work, or waits for this one's last result, may be scheduled on this core.
                    std::thread::yield_now();
                }
                continue;
            }
            match Self::let_in_held_up(&mut queue) {
                Some(left) => drop(self.work.wait_for(&mut queue, left)),
                None => self.work.wait(&mut queue),
            }
            spun = None;
        }
    }

    pub(super) fn pop(&self, queue: &mut Queue) -> Option<Work> {
        let mut work = self.pop_first(queue);
        let found = work.is_some();
        while let Some(refused) = work.take_if(|work| !Self::admit(queue, work)) {
            // Kept aside, so that it is not dropped here.
            drop(refused);
            work = self.pop_first(queue);
        }
        if found {
            self.note_first(queue);
        }
        work
    }

    fn pop_first(&self, queue: &mut Queue) -> Option<Work> {
        let (threads, busy) = (self.threads, queue.busy);
        let graphs = &mut queue.graphs;
        while let Some(turn) = graphs.order.next(&mut Walk::default()) {
            if let Some(work) = graphs.take_ready(&turn.place) {
                graphs.order.started(&turn, 1);
                return Some(work);
            }
            let sources = graphs.queues.get_mut(&key(&turn.place)).and_then(|queue| queue.sources.as_mut());
            let Some(tasks) = sources else {
                graphs.end_if_empty(&turn.place);
                continue;
            };
            let left = tasks.left.len();
            let cost = tasks.job.cost.load(Ordering::Relaxed);
            let share = match tasks.job.limited || !tasks.job.needs.is_empty() {
                true => 1,
                false => SHARE.checked_div(cost).map_or(1, |n| n.clamp(1, 64) as usize),
            };
            let n = share.min(left.div_ceil(2 * threads)).min(turn.most as usize);
            let n = match self.budget.as_ref().map(|budget| budget.admit(n, busy, tasks.declared())) {
                None => n,
                // A ready task may free memory, whatever its rank.
                Some(0) => {
                    let place = *graphs.ready.first()?;
                    return graphs.take_ready(&place);
                }
                Some(n) => {
                    // Threads that sleep for want of memory have not been told that there is some.
                    self.work.notify_one();
                    n
                }
            };
            let ids = tasks.take(n);
            let job = Arc::clone(&tasks.job);
            if n == left
                && let Some(queue) = graphs.queues.get_mut(&key(&turn.place))
            {
                queue.sources = None;
                graphs.end_if_empty(&turn.place);
            }
            graphs.order.started(&turn, n as u32);
            return Some(Work::Sources(job, ids));
        }
        None
    }

    pub(super) fn push(&self, job: &Arc<PoolJob>, tasks: impl IntoIterator<Item = u32>) {
        let mut queue = self.queue.lock();
        for task in tasks {
            queue.graphs.push(job, job.priority(task), task);
        }
        self.wake(&queue);
    }

    /// Threads have spent so many nanoseconds on a job, in which a source took about `each`, if that was seen.
    pub(super) fn charge(&self, job: &PoolJob, nanos: u64, each: Option<u64>) {
        let before = job.level();
        job.attained.fetch_add(nanos, Ordering::Relaxed);
        if let Some(each) = each {
            let old = job.cost.load(Ordering::Relaxed);
            job.cost.store(if old == 0 { each } else { (3 * old + each) / 4 }, Ordering::Relaxed);
        }
        if job.level() != before {
            let mut queue = self.queue.lock();
            queue.graphs.moved(job);
            self.note_first(&queue);
        }
    }

    /// Whether something waits that goes before a task of a job.
    #[inline]
    pub(super) fn should_yield(&self, job: &PoolJob, id: u32) -> bool {
        self.waits_before(job.place(job.priority(id)).rank())
    }

    /// Whether something waits that goes before what has this rank.
    #[inline]
    pub(super) fn waits_before(&self, rank: Rank) -> bool {
        self.first.load(Ordering::Relaxed) < rank
    }

    fn note_first(&self, queue: &Queue) {
        self.first.store(queue.graphs.order.first_rank(), Ordering::Relaxed);
    }

    pub(super) fn wake(&self, queue: &Queue) {
        self.note_first(queue);
        for _ in 0..queue.graphs.startable(self.threads) {
            if !self.work.notify_one() {
                break;
            }
        }
    }
}
