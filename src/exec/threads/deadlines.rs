//! Time limits of tasks in the pool: a thread of its own looks at them, as those that run the tasks cannot.
//!
//! An attempt that is over its limit has failed at that moment, whatever its function does. No thread can be stopped from
//! outside, so the function goes on aside until it returns: another thread of the pool takes its place, and what it returns
//! is dropped. An attempt is in the list while it runs in time. Whoever takes it out says what becomes of it: its own thread,
//! at its end, or the one that looks at the limits.

use super::job::PoolJob;
use super::{PoolThread, ThreadPool};
use crate::error::{Cause, TaskError};
use crate::host::report;
use crate::submission::calls::forget_tasks;
use crate::submission::counts::Shard;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// An attempt that has a time limit.
pub(super) struct LimitedAttempt {
    pub(super) job: Arc<PoolJob>,
    pub(super) id: u32,
    /// How many attempts there were before.
    pub(super) number: u32,
    pub(super) thread: Arc<PoolThread>,
}

/// When an attempt is to end, and its number in the list.
pub(super) type Deadline = (Instant, u64);

#[derive(Default)]
struct Running {
    attempts: BTreeMap<Deadline, LimitedAttempt>,
    next: u64,
    /// Whether there is a thread that looks at them.
    watched: bool,
}

/// See the head of this module.
#[derive(Default)]
pub(super) struct Deadlines {
    running: Mutex<Running>,
    changed: Condvar,
}

impl ThreadPool {
    /// An attempt begins that is to end by then.
    pub(super) fn begin_limited(self: &Arc<Self>, by: Instant, attempt: LimitedAttempt) -> Deadline {
        let mut running = self.deadlines.running.lock();
        let deadline = (by, running.next);
        running.next += 1;
        running.attempts.insert(deadline, attempt);
        let is_first = running.attempts.first_key_value().is_some_and(|(first, _)| *first == deadline);
        let spawned = if running.watched { Ok(()) } else { self.spawn_watch() };
        running.watched = spawned.is_ok();
        drop(running);
        match spawned {
            Ok(()) if is_first => drop(self.deadlines.changed.notify_one()),
            Ok(()) => {}
            Err(e) => report!(Error, "no thread to look at time limits: {e}; they are looked at when functions return"),
        }
        deadline
    }

    /// An attempt has ended. `false`: it had been given up before.
    pub(super) fn end_limited(&self, deadline: Deadline, thread: &PoolThread) -> bool {
        let in_time = self.deadlines.running.lock().attempts.remove(&deadline).is_some();
        if !in_time {
            self.step_back(thread);
        }
        in_time
    }

    fn spawn_watch(self: &Arc<Self>) -> std::io::Result<()> {
        let pool = Arc::clone(self);
        std::thread::Builder::new().name("swath-deadlines".to_string()).spawn(move || pool.watch()).map(drop)
    }

    /// Gives up what is overdue, until the pool is closed. Sleeps as long as nothing can be.
    fn watch(self: Arc<Self>) {
        let mut running = self.deadlines.running.lock();
        while !self.closed.load(Ordering::Acquire) {
            let Some(entry) = running.attempts.first_entry() else {
                self.deadlines.changed.wait(&mut running);
                continue;
            };
            let (by, _) = *entry.key();
            if by > Instant::now() {
                self.deadlines.changed.wait_until(&mut running, by);
                continue;
            }
            let attempt = entry.remove();
            // Under the lock: its thread finds it gone, and takes its place again, only afterwards.
            let refused = self.step_aside(&attempt.thread);
            drop(running);
            if let Some(refused) = refused {
                refused.log();
            }
            self.give_up(&attempt);
            attempt.thread.waits.wake();
            drop(attempt);
            running = self.deadlines.running.lock();
        }
    }

    /// The pool has been closed: nobody needs to look any more.
    pub(super) fn end_watch(&self) {
        let running = self.deadlines.running.lock();
        self.deadlines.changed.notify_one();
        drop(running);
    }

    /// An attempt is over its limit: the task runs again, or has failed.
    fn give_up(self: &Arc<Self>, attempt: &LimitedAttempt) {
        let LimitedAttempt { job, id, number, thread } = attempt;
        let submission = job.submission.number;
        forget_tasks(&**self, |task| task.job.number == submission && task.index == *id);
        let (retries, limit) = job.graph.options(*id).map_or((0, None), |o| (o.retries, o.timeout));
        if *number < retries {
            job.given_up.lock().insert(*id, number + 1);
            return self.push(job, [*id]);
        }
        let label = job.label(*id);
        let cause = Cause::TimedOut { limit: limit.unwrap_or_default() };
        let error = TaskError::new(label.task_name(), Some(Arc::clone(&thread.name)), cause);
        if let Some(next) = self.finish(job, *id, Err(error), Shard::Shared) {
            self.push(job, [next]);
        }
    }
}
