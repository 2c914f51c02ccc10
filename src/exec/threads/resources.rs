//! Resources that tasks of the pool take while they run. A task that finds too little of one is kept aside until there is
//! enough, and then goes back to the queue with what it takes.

use super::ThreadPool;
use super::job::PoolJob;
use super::queue::{Queue, Work};
use crate::resources::Resources;
use rustc_hash::FxHashSet;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// A task that waits for resources.
struct Parked {
    job: Arc<PoolJob>,
    task: u32,
    needs: Resources,
}

/// What there is of resources, and who has or wants it. It lies in the queue, under its lock.
#[derive(Default)]
pub(super) struct Tally {
    have: Resources,
    taken: Resources,
    parked: VecDeque<Parked>,
    /// What all of those wait for together. Nobody else gets any of it: who wants much would wait for ever.
    awaited: Resources,
    /// Tasks in the queue that have what they take: submission and task.
    granted: FxHashSet<(u32, u32)>,
}

impl Tally {
    pub(super) fn new(have: Resources) -> Self {
        Self { have, ..Self::default() }
    }

    /// Whether a task may start; takes what it needs, or keeps it aside.
    fn admit(&mut self, job: &Arc<PoolJob>, task: u32) -> bool {
        let Some(needs) = job.needs.get(&task) else { return true };
        if self.granted.remove(&(job.submission.number, task)) {
            return true;
        }
        let is_free = self.awaited.min(needs).is_empty() && self.have.minus(&self.taken).cover(needs);
        if is_free {
            self.taken = self.taken.plus(needs);
        } else {
            self.awaited = self.awaited.plus(needs);
            self.parked.push_back(Parked { job: Arc::clone(job), task, needs: needs.clone() });
        }
        is_free
    }

    /// Takes back what a task had; gives those that may start now, which have what they take.
    fn take_back(&mut self, needs: &Resources) -> Vec<(Arc<PoolJob>, u32)> {
        self.taken = self.taken.minus(needs);
        let (mut ready, mut blocked) = (Vec::new(), Resources::default());
        let mut at = 0;
        while let Some(next) = self.parked.get(at) {
            let free = self.have.minus(&self.taken).cover(&next.needs) && blocked.min(&next.needs).is_empty();
            if !free {
                blocked = blocked.max(&next.needs);
                if blocked.iter().count() == self.have.iter().count() {
                    break;
                }
                at += 1;
                continue;
            }
            let Some(Parked { job, task, needs }) = self.parked.remove(at) else { break };
            self.taken = self.taken.plus(&needs);
            self.awaited = self.awaited.minus(&needs);
            self.granted.insert((job.submission.number, task));
            ready.push((job, task));
        }
        ready
    }
}

thread_local! {
    /// What the task of this thread has for those that it submits.
    static LENT: RefCell<Resources> = RefCell::default();
}

/// What the task of this thread has for those that it submits.
pub(super) fn lent() -> Resources {
    LENT.with_borrow(Clone::clone)
}

/// Runs a task that has these resources for those that it submits.
fn lending<R>(resources: Resources, run: impl FnOnce() -> R) -> R {
    struct Before(Resources);
    impl Drop for Before {
        fn drop(&mut self) {
            LENT.set(std::mem::take(&mut self.0));
        }
    }
    let _before = Before(LENT.replace(resources));
    run()
}

impl ThreadPool {
    /// Whether what has been taken out of the queue may start; it is kept aside otherwise.
    pub(super) fn admit(queue: &mut Queue, work: &Work) -> bool {
        match work {
            Work::One(job, task) => queue.tally.admit(job, *task),
            // Tasks that need resources are taken one by one.
            Work::Sources(job, tasks) => tasks.iter().all(|task| queue.tally.admit(job, *task)),
        }
    }

    /// Runs a task that may have been given resources, and takes them back.
    #[inline]
    pub(super) fn with_resources<R>(&self, job: &PoolJob, task: u32, run: impl FnOnce() -> R) -> R {
        match job.needs.get(&task) {
            None if job.lent.is_empty() => run(),
            None => lending(job.lent.clone(), run),
            Some(needs) => {
                let result = lending(job.lent.plus(needs), run);
                self.take_back(needs);
                result
            }
        }
    }

    #[cold]
    fn take_back(&self, needs: &Resources) {
        let mut queue = self.queue.lock();
        let ready = queue.tally.take_back(needs);
        for (job, task) in &ready {
            queue.graphs.push(job, job.priority(*task), *task);
        }
        self.wake(&queue);
        drop(queue);
        // With jobs may go values of the user's.
        drop(ready);
    }
}
