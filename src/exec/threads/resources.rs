//! Resources that tasks of the pool take while they run. A task that finds too little of one is kept aside until there is
//! enough, and then goes back to the queue with what it takes.

use super::job::PoolJob;
use super::queue::{Queue, Work};
use super::{NoThread, PoolThread, ThreadPool};
use crate::resources::Resources;
use crate::task::wait::WaitKind;
use rustc_hash::FxHashSet;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// So long all that have a resource wait for tasks, and none of a task runs, until one of these is let in that needs it:
/// what was waited for may be done, and the waiter about to go on.
const HELD_UP: Duration = Duration::from_millis(20);

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
    /// How many of those are of tasks.
    nested: usize,
    /// What all of those wait for together. Nobody else gets any of it: who wants much would wait for ever.
    awaited: Resources,
    /// Tasks in the queue that have what they take: submission and task.
    granted: FxHashSet<(u32, u32)>,
    /// What those have that wait for tasks, for as long as they take.
    waiting: Resources,
    /// Tasks of tasks that wait for something else, which may come.
    may_go_on: usize,
    /// Since when only those have what a task of a task is kept aside for.
    held_up_since: Option<Instant>,
}

impl Tally {
    pub(super) fn new(have: Resources) -> Self {
        Self { have, ..Self::default() }
    }

    /// What is left for a job: what the tasks have that it is of, and wait, is there for it.
    fn left_for(&self, job: &PoolJob) -> Resources {
        let holders = std::iter::successors(job.holder.as_deref(), |holder| holder.above.as_deref());
        let waiting = holders.filter(|holder| holder.waits.load(Ordering::Relaxed) > 0);
        self.have.minus(&waiting.fold(self.taken.clone(), |taken, holder| taken.minus(&holder.has)))
    }

    /// Whether a task may start; takes what it needs, or keeps it aside.
    fn admit(&mut self, job: &Arc<PoolJob>, task: u32) -> bool {
        let Some(needs) = job.needs.get(&task) else { return true };
        if self.granted.remove(&(job.submission.number, task)) {
            return true;
        }
        // Who waits for much may wait for a task that waits for this one.
        let is_next = job.is_nested() || self.awaited.min(needs).is_empty();
        let is_free = is_next && self.left_for(job).cover(needs);
        if is_free {
            self.taken = self.taken.plus(needs);
        } else {
            self.awaited = self.awaited.plus(needs);
            self.nested += usize::from(job.is_nested());
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
            let is_next = next.job.is_nested() || blocked.min(&next.needs).is_empty();
            let free = is_next && self.left_for(&next.job).cover(&next.needs);
            if !free {
                blocked = blocked.max(&next.needs);
                if self.nested == 0 && blocked.iter().count() == self.have.iter().count() {
                    break;
                }
                at += 1;
                continue;
            }
            ready.extend(self.grant(at));
        }
        ready
    }

    /// Gives what it takes to one that is kept aside.
    fn grant(&mut self, at: usize) -> Option<(Arc<PoolJob>, u32)> {
        let Parked { job, task, needs } = self.parked.remove(at)?;
        self.taken = self.taken.plus(&needs);
        self.awaited = self.awaited.minus(&needs);
        self.nested -= usize::from(job.is_nested());
        self.granted.insert((job.submission.number, task));
        Some((job, task))
    }

    /// The first task of a task that could run if those that wait for other tasks had nothing.
    fn first_held_up(&self) -> Option<usize> {
        if self.nested == 0 || self.waiting.is_empty() || self.may_go_on > 0 || !self.granted.is_empty() {
            return None;
        }
        let room = self.have.minus(&self.taken.minus(&self.waiting));
        self.parked.iter().position(|parked| parked.job.is_nested() && room.cover(&parked.needs))
    }

    /// What a task is kept aside for.
    pub(super) fn awaited_by(&self, job: &PoolJob, task: u32) -> Option<&Resources> {
        let of_job = |parked: &&Parked| parked.job.submission.number == job.submission.number;
        self.parked.iter().filter(of_job).find(|parked| parked.task == task).map(|parked| &parked.needs)
    }
}

/// A task that has resources. While it waits, they are there for the tasks that it has submitted, and theirs.
pub(super) struct Holder {
    has: Resources,
    /// For how many reasons it waits; changed under the queue's lock.
    waits: AtomicU32,
    /// How many of these are that it waits for tasks, for as long as they take.
    waits_for_tasks: AtomicU32,
    /// The one among those that it is of that is nearest.
    above: Option<Arc<Holder>>,
}

thread_local! {
    /// The task of this thread, or of those that it is of the nearest, that has resources.
    static HOLDER: RefCell<Option<Arc<Holder>>> = const { RefCell::new(None) };
}

/// The task of this thread, or of those that it is of the nearest, that has resources.
pub(super) fn holder() -> Option<Arc<Holder>> {
    HOLDER.with_borrow(Clone::clone)
}

/// Runs a task with its holder.
fn with_holder<R>(holder: Option<Arc<Holder>>, run: impl FnOnce() -> R) -> R {
    struct Before(Option<Arc<Holder>>);
    impl Drop for Before {
        fn drop(&mut self) {
            HOLDER.set(self.0.take());
        }
    }
    let _before = Before(HOLDER.replace(holder));
    run()
}

impl ThreadPool {
    /// Where all that have a resource wait for other tasks, and nothing runs that they may wait for, waiting makes no room: one
    /// that is kept aside goes back to the queue, after a while. Gives how long that is still.
    pub(super) fn let_in_held_up(queue: &mut Queue) -> Option<Duration> {
        let Queue { tally, graphs, nested, .. } = queue;
        let first = if *nested == 0 { tally.first_held_up() } else { None };
        let Some(first) = first else {
            tally.held_up_since = None;
            return None;
        };
        let since = *tally.held_up_since.get_or_insert_with(Instant::now);
        let left = HELD_UP.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Some(left);
        }
        tally.held_up_since = None;
        if let Some((job, task)) = tally.grant(first) {
            graphs.push(&job, job.priority(task), task);
        }
        None
    }

    /// A task begins to wait for others; another thread runs in the place of its own.
    pub(super) fn begin_wait(
        self: &Arc<Self>,
        thread: &PoolThread,
        holder: Option<&Holder>,
        kind: WaitKind,
    ) -> Option<NoThread> {
        let mut queue = self.queue.lock();
        let mut ready = Vec::new();
        if let Some(holder) = holder {
            if kind == WaitKind::ForTasks && holder.waits_for_tasks.fetch_add(1, Ordering::Relaxed) == 0 {
                queue.tally.waiting = queue.tally.waiting.plus(&holder.has);
            }
            if holder.waits.fetch_add(1, Ordering::Relaxed) == 0 {
                ready = self.let_go_on(&mut queue, &Resources::default());
            }
        }
        queue.tally.may_go_on += usize::from(kind == WaitKind::ForOthers && thread.is_nested());
        let refused = self.leave_place(thread, &mut queue);
        drop(queue);
        drop(ready);
        refused
    }

    /// It goes on.
    pub(super) fn end_wait(&self, thread: &PoolThread, holder: Option<&Holder>, kind: WaitKind) {
        let mut queue = self.queue.lock();
        if let Some(holder) = holder {
            holder.waits.fetch_sub(1, Ordering::Relaxed);
            if kind == WaitKind::ForTasks && holder.waits_for_tasks.fetch_sub(1, Ordering::Relaxed) == 1 {
                queue.tally.waiting = queue.tally.waiting.minus(&holder.has);
            }
        }
        queue.tally.may_go_on -= usize::from(kind == WaitKind::ForOthers && thread.is_nested());
        Self::take_place(thread, &mut queue);
    }

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
            None if job.holder.is_none() => run(),
            None => with_holder(job.holder.clone(), run),
            Some(needs) => {
                let holder = Holder {
                    has: needs.clone(),
                    waits: AtomicU32::new(0),
                    waits_for_tasks: AtomicU32::new(0),
                    above: job.holder.clone(),
                };
                let result = with_holder(Some(Arc::new(holder)), run);
                self.take_back(needs);
                result
            }
        }
    }

    #[cold]
    fn take_back(&self, needs: &Resources) {
        let mut queue = self.queue.lock();
        let ready = self.let_go_on(&mut queue, needs);
        drop(queue);
        drop(ready);
    }

    /// Takes back resources, and puts those tasks into the queue that may start now. To be dropped without the lock: with jobs
    /// may go values of the user's.
    fn let_go_on(&self, queue: &mut Queue, returned: &Resources) -> Vec<(Arc<PoolJob>, u32)> {
        let ready = queue.tally.take_back(returned);
        for (job, task) in &ready {
            queue.graphs.push(job, job.priority(*task), *task);
        }
        if !ready.is_empty() {
            self.wake(queue);
        }
        ready
    }
}
