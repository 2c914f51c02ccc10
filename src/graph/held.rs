//! A result that somebody holds already, as a node of a later graph.

use super::label::TaskLabel;
use crate::error::Result;
use crate::ids::TaskId;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// The results of an earlier submission, with a count of the handles of each.
pub(crate) trait HeldResults: Any + Send + Sync {
    fn label(&self, index: u32) -> TaskLabel;

    fn hash(&self, index: u32) -> u128;

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
pub(crate) struct Held {
    results: Arc<dyn HeldResults>,
    index: u32,
}

impl Held {
    /// One more handle of a result that has some.
    pub(crate) fn new(results: Arc<dyn HeldResults>, index: u32) -> Self {
        results.add_handle(index);
        Self { results, index }
    }

    pub(crate) fn results(&self) -> &Arc<dyn HeldResults> {
        &self.results
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn label(&self) -> TaskLabel {
        self.results.label(self.index)
    }

    pub(crate) fn hash(&self) -> u128 {
        self.results.hash(self.index)
    }

    pub(crate) fn task_sent(&self) -> Result<TaskId> {
        self.results.task_sent(self.index)
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.results), self.index)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.results.drop_handle(self.index);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({})", self.label().key())
    }
}
