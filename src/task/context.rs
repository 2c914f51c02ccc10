//! What a task may ask about itself while it runs.

use super::wait::{TaskWaits, WaitKind};
use crate::ids::TaskId;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// The task that calls.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskInfo {
    /// Its key.
    pub key: String,
    /// Its name.
    pub name: String,
    /// The worker it runs on; in sync mode the caller, in threads mode a thread.
    pub worker: String,
}

/// What runs tasks on this thread, as seen from inside a task.
pub(crate) trait TaskScope {
    /// None between tasks.
    fn info(&self) -> Option<TaskInfo>;
    fn cancelled(&self) -> bool;
    /// So much of the task is done, in thousandths.
    fn set_progress(&self, per_mille: u32);
    /// The task is about to wait for other tasks: another task uses its thread until what this gives is dropped. `None`
    /// where no other task can.
    fn step_aside(&self, kind: WaitKind) -> Option<Aside>;
    /// The waits of the task, which are to be woken when it is not wanted any more. `None` where nobody would.
    fn waits(&self) -> Option<Arc<TaskWaits>>;
    /// The priority of the task, which what it submits inherits, where that is known here.
    fn priority(&self) -> i32 {
        0
    }
    /// The name of the task among the supervisor's, who knows its priority.
    fn id(&self) -> Option<TaskId> {
        None
    }
    /// The task logs a record, which is kept where this mode keeps some.
    fn log(&self, _record: &log::Record<'_>) {}
    /// The name of the task for whoever cancels it.
    fn task(&self) -> Option<TaskId> {
        self.id()
    }
}

/// Whoever drops this takes the place of a task that has waited, on any thread.
pub(crate) type Aside = Box<dyn Send + Sync>;

thread_local! {
    static SCOPES: RefCell<Vec<Rc<dyn TaskScope>>> = const { RefCell::new(Vec::new()) };
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Makes `scope` what tasks on this thread see, until the answer is dropped.
pub(crate) fn enter(scope: Rc<dyn TaskScope>) -> Entered {
    SCOPES.with(|s| s.borrow_mut().push(scope));
    Entered(())
}

pub(crate) struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        let left = SCOPES.with(|s| s.borrow_mut().pop());
        drop(left);
    }
}

/// What runs tasks on this thread.
pub(super) fn current() -> Option<Rc<dyn TaskScope>> {
    SCOPES.try_with(|s| s.borrow().last().cloned()).ok().flatten()
}

/// The priority of the task that runs on this thread; 0 outside of one.
pub(crate) fn priority() -> i32 {
    current().map_or(0, |scope| scope.priority())
}

/// The name of the task that runs on this thread of a worker.
pub(crate) fn id() -> Option<TaskId> {
    current()?.id()
}

/// The name of the task that runs on this thread, for whoever cancels it.
pub(crate) fn task() -> Option<TaskId> {
    current()?.task()
}

/// Runs one attempt of a task in this process: from `deadline` on, it counts as cancelled.
#[inline]
pub(crate) fn with_deadline<R>(deadline: Option<Instant>, attempt: impl FnOnce() -> R) -> R {
    struct Before(Option<Instant>);
    impl Drop for Before {
        fn drop(&mut self) {
            DEADLINE.set(self.0);
        }
    }
    if deadline.is_none() && DEADLINE.get().is_none() {
        return attempt();
    }
    let _before = Before(DEADLINE.replace(deadline));
    attempt()
}

/// When the task that runs on this thread is overdue, where that is known here.
pub(crate) fn deadline() -> Option<Instant> {
    DEADLINE.get()
}

/// A record is logged on this thread: by its task, if it runs one.
pub(crate) fn log(record: &log::Record<'_>) {
    if let Some(scope) = current() {
        scope.log(record);
    }
}

/// Whether the caller is a task.
pub(crate) fn is_task() -> bool {
    SCOPES.try_with(|s| !s.borrow().is_empty()).unwrap_or(false)
}

/// Inside a task: whether its result is not wanted any more, because it was cancelled or is overdue.
///
/// A long task should check from time to time and return early. One that waits for other tasks is told so: the wait ends with
/// an error for which [`is_cancelled`](crate::Error::is_cancelled) is true. Elsewhere `false`.
#[must_use]
pub fn cancelled() -> bool {
    current().is_some_and(|s| s.cancelled()) || DEADLINE.get().is_some_and(|at| Instant::now() >= at)
}

/// Inside a task: says how much of it is done, from 0 to 1: it moves the bar of the task's group by so much of a task, and is
/// seen in [`WorkerInfo::running`](crate::status::WorkerInfo::running). Elsewhere nothing happens.
///
/// What is less than 0 counts as 0, and what is more than 1 as 1. What is no number is ignored. A task may say it as often as it
/// likes: nobody is told, it is looked up by whoever looks.
///
/// ```
/// use swath::{Client, delayed};
/// let slow = delayed(|n: u32| {
///     for i in 0..n {
///         swath::task::set_progress(f64::from(i) / f64::from(n));
///     }
///     n
/// });
/// assert_eq!(slow.call(10).compute(&Client::threads(1))?, 10);
/// # Ok::<(), swath::Error>(())
/// ```
pub fn set_progress(fraction: f64) {
    if !fraction.is_nan()
        && let Some(scope) = current()
    {
        scope.set_progress((fraction.clamp(0.0, 1.0) * 1000.0) as u32);
    }
}

/// Inside a task: says that so many of its steps are done, of how many: [`set_progress`] of the share. Elsewhere nothing happens.
///
/// More than all count as all. Of 0 steps there is nothing to say, and nothing happens.
///
/// ```
/// use swath::{Client, delayed};
/// let sum = delayed(|numbers: Vec<u64>| {
///     let of = numbers.len() as u64;
///     numbers.iter().enumerate().map(|(i, n)| { swath::task::progress(i as u64, of); n }).sum::<u64>()
/// });
/// assert_eq!(sum.call(vec![1, 2, 3]).compute(&Client::threads(1))?, 6);
/// # Ok::<(), swath::Error>(())
/// ```
pub fn progress(done: u64, total: u64) {
    if total > 0 {
        set_progress(done as f64 / total as f64);
    }
}

/// Inside a task: which one it is. `None` elsewhere.
#[must_use]
pub fn current_task() -> Option<TaskInfo> {
    current()?.info()
}
