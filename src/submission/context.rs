//! What runs the task that calls, for tasks that submit tasks of their own.

use super::backend::Backend;
use crate::task::context::{self, TaskScope};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// What runs tasks on this thread, and what those can submit tasks to.
pub(crate) trait BackendScope: TaskScope {
    /// `None` where it has been closed.
    fn backend(&self) -> Option<Arc<dyn Backend>>;
}

thread_local! {
    static SCOPES: RefCell<Vec<Rc<dyn BackendScope>>> = const { RefCell::new(Vec::new()) };
}

/// Makes `scope` what tasks on this thread see, until the answer is dropped.
pub(crate) fn enter(scope: Rc<dyn BackendScope>) -> Entered {
    SCOPES.with(|s| s.borrow_mut().push(Rc::clone(&scope)));
    Entered { _task: context::enter(scope) }
}

pub(crate) struct Entered {
    _task: context::Entered,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = SCOPES.with(|s| s.borrow_mut().pop());
        drop(left);
    }
}

/// Inside a task: the backend that runs it, while that is open.
pub(crate) fn current_backend() -> Option<Arc<dyn Backend>> {
    let scope = SCOPES.try_with(|s| s.borrow().last().cloned()).ok().flatten()?;
    scope.backend()
}
