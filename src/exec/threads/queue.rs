//! The pool's queue: tasks that became ready, tasks without inputs, and how a thread takes the next.

use super::job::PoolJob;
use super::{PoolThread, ThreadPool};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
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

/// A task that became ready, in the order of the queue.
pub(super) struct Ready {
    pub(super) priority: i32,
    pub(super) task: u32,
    pub(super) job: Arc<PoolJob>,
}

impl Ready {
    fn rank(&self) -> (i32, Reverse<u64>, Reverse<u32>) {
        (self.priority, Reverse(self.job.position), Reverse(self.task))
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
pub(super) struct Queue {
    pub(super) ready: BinaryHeap<Ready>,
    pub(super) sources: BTreeMap<(Reverse<i32>, u64), SourceQueue>,
    /// Threads that run or look for tasks, without those that wait for tasks of their own.
    pub(super) active: usize,
    /// Threads that run a task and do not wait for tasks of their own.
    pub(super) busy: usize,
    /// Threads that exist.
    pub(super) alive: usize,
    /// All there have ever been; and those that have ended, which later threads take over.
    pub(super) threads: Vec<Arc<PoolThread>>,
    pub(super) free_threads: Vec<Arc<PoolThread>>,
    pub(super) closed: bool,
}

/// What a thread does next.
pub(super) enum Work {
    One(Arc<PoolJob>, u32),
    Sources(Arc<PoolJob>, Vec<u32>),
}

impl ThreadPool {
    /// Waits for the next work. `None`: this thread is not needed any more.
    pub(super) fn next(&self, thread: &Arc<PoolThread>, mut was_busy: bool) -> Option<Work> {
        let mut spun = None;
        let mut looks = 0_u32;
        loop {
            let mut queue = self.queue.lock();
            queue.busy -= usize::from(std::mem::take(&mut was_busy));
            if queue.closed || queue.active > self.threads {
                queue.active -= 1;
                queue.alive -= 1;
                queue.free_threads.push(Arc::clone(thread));
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
                    // The thread that brings work, or waits for this one's last result, may be scheduled on this core.
                    std::thread::yield_now();
                }
                continue;
            }
            self.work.wait(&mut queue);
            spun = None;
        }
    }

    pub(super) fn pop(&self, queue: &mut Queue) -> Option<Work> {
        let ready = queue.ready.peek().map(|r| (Reverse(r.priority), r.job.position));
        let sources = queue.sources.first_key_value().map(|(key, _)| *key);
        match (ready, sources) {
            (Some(r), Some(l)) if l < r => {}
            (Some(_), _) => return queue.ready.pop().map(|r| Work::One(r.job, r.task)),
            (None, None) => return None,
            (None, Some(_)) => {}
        }
        let (threads, busy) = (self.threads, queue.busy);
        let mut entry = queue.sources.first_entry()?;
        let tasks = entry.get_mut();
        let left = tasks.left.len();
        let cost = tasks.job.cost.load(Ordering::Relaxed);
        let share = match tasks.job.limited {
            true => 1,
            false => SHARE.checked_div(cost).map_or(1, |n| n.clamp(1, 64) as usize),
        };
        let n = share.min(left.div_ceil(2 * threads));
        let n = match self.budget.as_ref().map(|budget| budget.admit(n, busy, tasks.declared())) {
            None => n,
            // A ready task may free memory, whatever its rank.
            Some(0) => return queue.ready.pop().map(|r| Work::One(r.job, r.task)),
            Some(n) => {
                // Threads that sleep for want of memory have not been told that there is some.
                self.work.notify_one();
                n
            }
        };
        let ids = tasks.take(n);
        let job = Arc::clone(&tasks.job);
        if n == left {
            entry.remove();
        }
        Some(Work::Sources(job, ids))
    }

    pub(super) fn push(&self, job: &Arc<PoolJob>, tasks: impl IntoIterator<Item = u32>) {
        let mut queue = self.queue.lock();
        for task in tasks {
            let priority = job.graph.priority(task);
            queue.ready.push(Ready { priority, task, job: Arc::clone(job) });
        }
        self.wake(&queue);
    }

    pub(super) fn wake(&self, queue: &Queue) {
        let work = queue.ready.len() + queue.sources.values().map(|tasks| tasks.left.len()).take(2).sum::<usize>();
        for _ in 0..work {
            if !self.work.notify_one() {
                break;
            }
        }
    }
}
