//! Several results of one task, each a value of its own.

use super::Value;
use parking_lot::Mutex;

/// The result of a task that has several: gives each of them once, by its place. What nobody takes is not made a value.
pub(crate) struct Parts(Mutex<Box<TakePart>>);

type TakePart = dyn FnMut(u32) -> Option<Value> + Send;

impl Parts {
    pub(crate) fn value(take: impl FnMut(u32) -> Option<Value> + Send + 'static) -> Value {
        Value::new(Self(Mutex::new(Box::new(take))))
    }

    /// The part at a place of such a result. `None`: it has no such part, or is no such result.
    ///
    /// The own code of users' values runs here.
    pub(crate) fn take(of: &Value, place: u32) -> Option<Value> {
        (of.get::<Self>()?.0.lock())(place)
    }
}
