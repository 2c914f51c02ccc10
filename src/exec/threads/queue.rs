//! What waits to run: tasks that became ready, and tasks without inputs.

use super::job::Job;
use super::{Seat, Threads};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a thread looks for work before it sleeps: about what waking it would cost.
const SPIN: Duration = Duration::from_micros(30);
/// How often it looks before it offers its core to others: every few microseconds.
const YIELD: u32 = 4;
/// How much work a thread takes from a job's sources at once.
const SHARE: u64 = 50_000;

/// Sources of one job and priority that nobody has taken.
pub(super) struct Lane {
    pub(super) job: Arc<Job>,
    /// Empty for a layer, whose tasks all are sources.
    pub(super) listed: Vec<u32>,
    /// The places in the list, or the tasks, that are left.
    pub(super) left: Range<u32>,
}

impl Lane {
    pub(super) fn of_layer(job: &Arc<Job>) -> Self {
        Self { job: Arc::clone(job), listed: Vec::new(), left: 0..job.graph.len() as u32 }
    }

    pub(super) fn of(job: &Arc<Job>, listed: Vec<u32>) -> Self {
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

    /// What the next says it needs, in bytes.
    pub(super) fn declared(&self) -> u64 {
        let next = self.listed.get(self.left.start as usize);
        next.and_then(|&id| self.job.graph.options(id)).and_then(|o| o.memory).unwrap_or(0)
    }
}

/// A task that became ready, in the order of the queue.
pub(super) struct Ready {
    pub(super) priority: i32,
    pub(super) task: u32,
    pub(super) job: Arc<Job>,
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
pub(super) struct Queue {
    pub(super) ready: BinaryHeap<Ready>,
    pub(super) lanes: BTreeMap<(Reverse<i32>, u64), Lane>,
    /// Threads that run or look for tasks, without those that wait for tasks of their own.
    pub(super) active: usize,
    /// Threads that run a task and do not wait for tasks of their own.
    pub(super) busy: usize,
    /// Threads that exist.
    pub(super) alive: usize,
    /// All there have ever been, and those whose thread has left, for threads to come.
    pub(super) seats: Vec<Arc<Seat>>,
    pub(super) free_seats: Vec<Arc<Seat>>,
    pub(super) closed: bool,
}

/// What a thread does next.
pub(super) enum Work {
    One(Arc<Job>, u32),
    Sources(Arc<Job>, Vec<u32>),
}

impl Threads {
    /// The next thing to do; waits for it. `None`: this thread is not needed any more.
    pub(super) fn next(&self, seat: &Arc<Seat>, mut was_busy: bool) -> Option<Work> {
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

    pub(super) fn pop(&self, queue: &mut Queue) -> Option<Work> {
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

    pub(super) fn push(&self, job: &Arc<Job>, tasks: impl IntoIterator<Item = u32>) {
        let mut queue = self.queue.lock();
        for task in tasks {
            let priority = job.graph.priority(task);
            queue.ready.push(Ready { priority, task, job: Arc::clone(job) });
        }
        self.wake(&queue);
    }

    pub(super) fn wake(&self, queue: &Queue) {
        let work = queue.ready.len() + queue.lanes.values().map(|lane| lane.left.len()).take(2).sum::<usize>();
        for _ in 0..work {
            if !self.work.notify_one() {
                break;
            }
        }
    }
}
