//! What runs the task that calls, for tasks that submit tasks of their own.

use super::backend::Backend;
use crate::task::context::{self, TaskScope};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// What runs tasks on this thread, and what those can submit tasks to.
pub(crate) trait BackendScope: TaskScope {
    /// `None` where it has been closed.
    fn backend(&self) -> Option<Arc<dyn Backend>>;
}

thread_local! {
    static SCOPES: RefCell<Vec<Rc<dyn BackendScope>>> = const { RefCell::new(Vec::new()) };
    static ENCODING_FOR: Cell<Option<ClientId>> = const { Cell::new(None) };
    static DECODING_FOR: Cell<Option<Arc<dyn Backend>>> = const { Cell::new(None) };
}

/// Which client of this process it is, for as long as there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientId(usize);

impl ClientId {
    /// It is where its backend is.
    pub(crate) fn of<B: Backend + ?Sized>(backend: &B) -> Self {
        Self(std::ptr::from_ref(backend).cast::<()>().addr())
    }
}

/// Encodes what that client is to have.
pub(crate) fn encoding_for<R>(client: ClientId, encode: impl FnOnce() -> R) -> R {
    struct Before(Option<ClientId>);
    impl Drop for Before {
        fn drop(&mut self) {
            ENCODING_FOR.set(self.0);
        }
    }
    let _before = Before(ENCODING_FOR.replace(Some(client)));
    encode()
}

/// Decodes what that client has been given.
pub(crate) fn decoding_for<R>(backend: &Arc<dyn Backend>, decode: impl FnOnce() -> R) -> R {
    struct Before(Option<Arc<dyn Backend>>);
    impl Drop for Before {
        fn drop(&mut self) {
            DECODING_FOR.set(self.0.take());
        }
    }
    let _before = Before(DECODING_FOR.replace(Some(Arc::clone(backend))));
    decode()
}

/// What handles that are decoded here ask: the client that is given them; otherwise that of the task that the caller is.
pub(crate) fn asked_here() -> Option<Arc<dyn Backend>> {
    let given = DECODING_FOR.take();
    DECODING_FOR.set(given.clone());
    given.or_else(current_backend)
}

/// The client that what is encoded here is for; otherwise the one whose task the caller is.
pub(crate) fn client_here() -> Option<ClientId> {
    ENCODING_FOR.get().or_else(|| current_backend().map(|backend| ClientId::of(&*backend)))
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
