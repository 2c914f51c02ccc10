//! TaskWaits of tasks for other tasks: another one uses the thread meanwhile, and who waits is told when its own task is not
//! wanted any more.

use super::Owned;
use super::call::{is_beside_task, tolerated};
use super::context::{self, Aside, TaskScope};
use super::run_times::Suspension;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// A wait has ended since the task that waits was cancelled or is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotWanted;

/// What a task waits for, which says who can end the wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WaitKind {
    /// Tasks of its own, for as long as they take.
    #[default]
    ForTasks,
    /// Something that may come from elsewhere, as a lock, an item or the end of a time limit.
    ForOthers,
}

impl WaitKind {
    /// That of a wait for tasks.
    pub(crate) fn until(deadline: Option<Instant>) -> Self {
        if deadline.is_some() { Self::ForOthers } else { Self::ForTasks }
    }
}

/// The waits of the task that runs on a thread.
#[derive(Default)]
pub(crate) struct TaskWaits(Mutex<Sleepers>);

#[derive(Default)]
struct Sleepers {
    next: u64,
    wakers: Vec<(u64, Arc<Owned<Waker>>)>,
}

impl TaskWaits {
    /// Has all that wait look whether their task is wanted. They stay: the thread may have begun another task since its last
    /// one was cancelled, and that waits on.
    pub(crate) fn wake(&self) {
        let wakers: Vec<Arc<Owned<Waker>>> = self.0.lock().wakers.iter().map(|(_, waker)| Arc::clone(waker)).collect();
        // Users' code: not under the lock.
        for waker in wakers {
            tolerated("a waker panicked", || waker.wake_by_ref());
        }
    }

    fn add(&self, waker: Waker) -> u64 {
        let mut sleepers = self.0.lock();
        sleepers.next += 1;
        let number = sleepers.next;
        sleepers.wakers.push((number, Arc::new(Owned::new(waker))));
        number
    }

    fn remove(&self, number: u64) {
        let mut sleepers = self.0.lock();
        let at = sleepers.wakers.iter().position(|(other, _)| *other == number);
        let waker = at.map(|at| sleepers.wakers.swap_remove(at));
        drop(sleepers);
        drop(waker);
    }
}

/// A wait of the task that runs on this thread; outside of tasks, nothing.
#[derive(Default)]
pub(crate) struct Wait {
    /// Until this is dropped, on any thread, another task uses the thread.
    _aside: Option<(Aside, Suspension)>,
    waits: Option<(Arc<TaskWaits>, u64)>,
}

impl Wait {
    /// A task begins to wait. Who has the waker is to [check](is_in_vain) at once, and whenever it is woken.
    pub(crate) fn begin(kind: WaitKind, waker: impl FnOnce() -> Waker) -> Self {
        let Some(scope) = context::current() else { return Self::default() };
        let waits = scope.waits().map(|waits| {
            let number = waits.add(waker());
            (waits, number)
        });
        Self { _aside: aside(&*scope, kind), waits }
    }

    /// Another waker is to be used from now on.
    fn replace(&mut self, waker: &Waker) {
        if let Some((waits, number)) = &mut self.waits {
            let new = waits.add(waker.clone());
            waits.remove(std::mem::replace(number, new));
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some((waits, number)) = &self.waits {
            waits.remove(*number);
        }
    }
}

fn aside(scope: &dyn TaskScope, kind: WaitKind) -> Option<(Aside, Suspension)> {
    Some((scope.step_aside(kind)?, Suspension::begin()))
}

/// Whether a wait on this thread is in vain: its task is not wanted any more. What the drop of a result waits for is not the
/// task's.
pub(crate) fn is_in_vain() -> bool {
    !is_beside_task() && context::cancelled()
}

/// When a wait on this thread will be in vain, where that is known: its task is overdue then.
pub(crate) fn in_vain_from() -> Option<Instant> {
    if is_beside_task() { None } else { context::deadline() }
}

/// Runs something that waits for other tasks, and hears for itself when it is in vain.
pub(crate) fn blocking<R>(wait: impl FnOnce() -> R) -> R {
    let _aside = context::current().and_then(|scope| aside(&*scope, WaitKind::ForOthers));
    wait()
}

/// A wait of async code for other tasks. In a task that begins with the first poll that gives nothing, on the task's own
/// thread: whoever polls may sleep until the next one.
#[derive(Default)]
pub(crate) struct AsyncWait {
    kind: WaitKind,
    wait: Option<(Wait, Owned<Waker>)>,
}

impl AsyncWait {
    pub(crate) fn new(kind: WaitKind) -> Self {
        Self { kind, wait: None }
    }

    /// Notes what a poll gives.
    pub(crate) fn polled<T>(&mut self, cx: &Context<'_>, poll: Poll<T>) -> Poll<Result<T, NotWanted>> {
        match poll {
            Poll::Ready(value) => {
                self.wait = None;
                return Poll::Ready(Ok(value));
            }
            Poll::Pending if !context::is_task() && self.wait.is_none() => return Poll::Pending,
            Poll::Pending => self.listen(cx.waker()),
        }
        if is_in_vain() {
            self.wait = None;
            return Poll::Ready(Err(NotWanted));
        }
        Poll::Pending
    }

    fn listen(&mut self, waker: &Waker) {
        match &mut self.wait {
            None => self.wait = Some((Wait::begin(self.kind, || waker.clone()), Owned::new(waker.clone()))),
            Some((wait, known)) if !known.will_wake(waker) => {
                wait.replace(waker);
                *known = Owned::new(waker.clone());
            }
            Some(_) => {}
        }
    }
}

impl fmt::Debug for AsyncWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsyncWait({:?}, {})", self.kind, self.wait.is_some())
    }
}

/// As [`poll_fn`], for what waits for tasks.
pub(crate) fn poll_waiting<T>(
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> impl Future<Output = Result<T, NotWanted>> {
    let mut wait = AsyncWait::default();
    poll_fn(move |cx| {
        let polled = poll(cx);
        wait.polled(cx, polled)
    })
}

/// Awaits what waits for tasks.
pub(crate) async fn waiting<F: Future>(future: F) -> Result<F::Output, NotWanted> {
    let mut future = pin!(future);
    poll_waiting(|cx| future.as_mut().poll(cx)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_is_woken_for_the_task_before_is_woken_for_its_own() {
        let (waits, woken) = (TaskWaits::default(), Arc::new(Woken::default()));
        let number = waits.add(Waker::from(Arc::clone(&woken)));
        waits.wake();
        waits.wake();
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        waits.remove(number);
        waits.wake();
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "it waits no more");
    }
}
