//! A result that somebody holds already, as a node of a later graph.

use super::label::TaskLabel;
use crate::error::Result;
use crate::ids::TaskId;
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// The results of an earlier submission, with a count of the handles of each.
pub(crate) trait HeldResults: Any + Send + Sync {
    fn label(&self, index: u32) -> TaskLabel;

    /// The task of another process that makes a result; waits until it has been sent there.
    ///
    /// # Errors
    /// Where no such task makes it: the error of the task, or that the result is another client's.
    fn task_sent(&self, index: u32) -> Result<TaskId>;

    fn add_handle(&self, index: u32);

    /// The last handle that goes releases the result.
    fn drop_handle(&self, index: u32);
}

/// A handle of a result, without what it is a result of.
///
/// Results hold each other where tasks run in this process: a graph that waits to run there, or a failed call that may be
/// run again, has handles of others as its nodes, and so on, for as long a chain as users make. When the last handle of such
/// a chain is dropped, each is dropped after the one before, and not inside of it. (What is sent to worker processes is
/// not kept.)
pub(crate) struct Held {
    /// Always there, but for a handle that is being dropped.
    results: Option<Arc<dyn HeldResults>>,
    index: u32,
}

impl Held {
    /// One more handle of a result that has some.
    pub(crate) fn new(results: Arc<dyn HeldResults>, index: u32) -> Self {
        results.add_handle(index);
        Self { results: Some(results), index }
    }

    pub(crate) fn results(&self) -> &Arc<dyn HeldResults> {
        self.results.as_ref().expect("it is taken only from a handle that is being dropped")
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn label(&self) -> TaskLabel {
        self.results().label(self.index)
    }

    pub(crate) fn task_sent(&self) -> Result<TaskId> {
        self.results().task_sent(self.index)
    }

    /// Equal for handles of one result.
    pub(crate) fn identity(&self) -> (*const (), u32) {
        (Arc::as_ptr(self.results()).cast(), self.index)
    }

    fn release(&mut self) {
        if let Some(results) = self.results.take() {
            results.drop_handle(self.index);
        }
    }
}

thread_local! {
    /// Handles that wait until this thread has dropped another one; `None` where it drops none.
    static WAITING: RefCell<Option<Vec<Held>>> = const { RefCell::new(None) };
}

/// The right of a thread's outermost drop to drop all others.
struct Dropping;

impl Dropping {
    /// Keeps a handle for the outermost drop; gives it back where this is the outermost one.
    fn keep(held: Held) -> Option<Held> {
        let mut held = Some(held);
        // Where a thread ends and has no such list any more, drops go inside each other.
        let _ = WAITING.try_with(|waiting| match &mut *waiting.borrow_mut() {
            Some(waiting) => waiting.extend(held.take()),
            none => *none = Some(Vec::new()),
        });
        held
    }

    fn next() -> Option<Held> {
        WAITING.try_with(|waiting| waiting.borrow_mut().as_mut()?.pop()).ok().flatten()
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        // There are some left only where the drop of a value has panicked.
        let left = WAITING.try_with(RefCell::take);
        drop(left);
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(self.results()), self.index)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(results) = self.results.take() else { return };
        let mut next = Dropping::keep(Held { results: Some(results), index: self.index });
        if next.is_none() {
            return;
        }
        let dropping = Dropping;
        while let Some(mut held) = next {
            held.release();
            next = Dropping::next();
        }
        drop(dropping);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({})", self.label().key())
    }
}
