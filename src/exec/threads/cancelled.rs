//! Tasks of the pool that go on though nobody wants their results: another thread runs in the place of theirs at once, until
//! their functions return.

use super::job::PoolJob;
use super::{NoThread, PoolThread, Queue, ThreadPool};
use crate::submission::calls::forget_tasks;
use crate::task::wait::TaskWaits;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// In the place of so many at most: whoever drops many futures, one by one, may have each task begin before it is dropped.
const MOST_SPARE: usize = 16;
/// No task.
const NOTHING: u64 = u64::MAX;

/// What a thread runs, for those who cancel tasks.
pub(super) struct Running {
    /// The numbers of the submission and of the task.
    task: AtomicU64,
    /// How much of it is done, in thousandths, as it says itself.
    per_mille: AtomicU32,
    /// It was cancelled, and another thread runs in the place of this one. Changed under the queue's lock.
    cancelled: AtomicBool,
}

impl Default for Running {
    fn default() -> Self {
        Self { task: AtomicU64::new(NOTHING), per_mille: AtomicU32::new(0), cancelled: AtomicBool::new(false) }
    }
}

impl Running {
    pub(super) fn begin(&self, submission: u32, id: u32) {
        self.task.store(u64::from(submission) << 32 | u64::from(id), Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.task.store(NOTHING, Ordering::Release);
    }

    /// Notes how much of the task is done; gives what was noted before.
    pub(super) fn set_progress(&self, per_mille: u32) -> u32 {
        self.per_mille.swap(per_mille, Ordering::Relaxed)
    }

    /// How much of the task is done.
    pub(super) fn progress(&self) -> u32 {
        self.per_mille.load(Ordering::Relaxed)
    }

    /// The numbers of the submission and of the task that runs.
    pub(super) fn now(&self) -> Option<(u32, u32)> {
        let task = self.task.load(Ordering::Acquire);
        (task != NOTHING).then_some(((task >> 32) as u32, task as u32))
    }

    /// The task that runs, if it is one of this submission.
    fn of(&self, submission: u32) -> Option<u32> {
        let task = self.task.load(Ordering::Acquire);
        (task != NOTHING && task >> 32 == u64::from(submission)).then_some(task as u32)
    }
}

impl ThreadPool {
    /// Tasks of a job have been marked as not wanted: those that run hold up nobody from now on, and those that wait are told.
    pub(super) fn make_way(&self, job: &PoolJob) {
        let Some(pool) = self.this.upgrade() else { return };
        let mut queue = self.queue.lock();
        let (there, others): (Vec<_>, Vec<_>) =
            queue.threads.iter().partition(|thread| thread.running.cancelled.load(Ordering::Relaxed));
        let runs = |thread: &PoolThread| thread.running.of(job.submission.number).is_some_and(|id| job.skipped(id));
        let spare = MOST_SPARE.saturating_sub(there.len());
        let running: Vec<Arc<PoolThread>> =
            others.iter().filter(|thread| runs(thread)).take(spare).map(|thread| Arc::clone(thread)).collect();
        let mut refused = Vec::new();
        for thread in running {
            thread.running.cancelled.store(true, Ordering::Relaxed);
            refused.extend(pool.leave_place(&thread, &mut queue));
        }
        let waiting: Vec<Arc<TaskWaits>> =
            queue.threads.iter().filter(|thread| runs(thread)).map(|thread| Arc::clone(&thread.waits)).collect();
        drop(queue);
        refused.iter().for_each(NoThread::log);
        let number = job.submission.number;
        forget_tasks(self, |task| task.job.number == number && job.skipped(task.index));
        waiting.iter().for_each(|waits| waits.wake());
    }

    /// A task that is not wanted has ended.
    pub(super) fn end_cancelled(&self, thread: &PoolThread) {
        Self::note_end(thread, &mut self.queue.lock());
    }

    /// A thread that is done with its task takes its place again, also where that was cancelled as it ended.
    pub(super) fn note_end(thread: &PoolThread, queue: &mut Queue) {
        if thread.running.cancelled.swap(false, Ordering::Relaxed) {
            Self::take_place(thread, queue);
        }
    }
}
