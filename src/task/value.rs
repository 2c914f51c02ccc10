//! Values on their way between tasks, and the one place where they are dropped.

use super::Data;
use super::call::dropping;
use std::any::Any;
use std::fmt;
use std::mem::{ManuallyDrop, needs_drop};
use std::ops::Deref;
use std::sync::Arc;

/// A value of some [`Data`] type. Its codec is known to whoever made it and to whoever takes it.
///
/// Whoever drops the last handle drops the value, see [`Owned`].
#[derive(Clone)]
pub struct Value(Arc<dyn Any + Send + Sync>);

impl Value {
    pub(crate) fn new<T: Send + Sync + 'static>(value: T) -> Self {
        Self(Arc::new(Owned::new(value)))
    }

    /// Looks at it. `None`: it is of another type.
    pub(crate) fn get<T: 'static>(&self) -> Option<&T> {
        self.0.downcast_ref::<Owned<T>>().map(Deref::deref)
    }

    /// One more handle, which knows the type, for a task. If it is the last one, the task drops the value. `None`: it is of
    /// another type.
    pub(crate) fn typed<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let owned = Arc::into_raw(Arc::clone(&self.0).downcast::<Owned<T>>().ok()?);
        // SAFETY: the pointer is of an `Arc<Owned<T>>`, and `Owned<T>` has the layout of `T`.
        Some(unsafe { Arc::from_raw(owned.cast::<T>()) })
    }

    /// The address of the value, which is another's only after the last handle has gone.
    pub(crate) fn address(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }

    /// Takes the value: moves it where this is the last handle, clones it otherwise. `None`: it is of another type.
    pub(crate) fn take<T: Data>(self) -> Option<T> {
        Some(match Arc::try_unwrap(self.0.downcast::<Owned<T>>().ok()?) {
            Ok(owned) => owned.into_inner(),
            Err(shared) => T::clone(&shared),
        })
    }

    /// How many handles there are.
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl<T: Send + Sync + 'static> From<Arc<T>> for Value {
    fn from(value: Arc<T>) -> Self {
        let value = Arc::into_raw(value);
        // SAFETY: the pointer is of an `Arc<T>`, and `Owned<T>` has the layout of `T`.
        Self(unsafe { Arc::from_raw(value.cast::<Owned<T>>()) })
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value")
    }
}

/// A value of the user's that the runtime has. A panic of its `drop` is logged: it happens in threads that others depend on,
/// or in a caller who knows nothing of the value. Types without a `drop` cost nothing.
#[repr(transparent)]
pub(crate) struct Owned<T>(ManuallyDrop<T>);

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, and its own `drop`, which would drop the value again, never runs.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if needs_drop::<T>() {
            // SAFETY: this is the only place that drops the value, and nothing uses it afterwards.
            dropping(|| unsafe { ManuallyDrop::drop(&mut self.0) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Breaks(u64);

    impl Drop for Breaks {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_drop_that_panics_ends_there() {
        let value = Value::new(Breaks(1));
        drop(value.clone());
        assert_eq!(value.get::<Breaks>().map(|b| b.0), Some(1));
        drop(value.typed::<Breaks>());
        assert_eq!(value.handles(), 1);
        drop(value);
        std::mem::forget(Value::new(Breaks(2)).take::<Breaks>());
    }

    #[test]
    fn a_value_is_moved_where_it_can_be() {
        let list = vec![1_u64, 2];
        let at = list.as_ptr();
        let value = Value::new(list);
        let copy = value.clone();
        assert_ne!(value.take::<Vec<u64>>().map(|v| v.as_ptr()), Some(at));
        assert_eq!(copy.take::<Vec<u64>>().map(|v| v.as_ptr()), Some(at));
        assert_eq!(Value::new(1_u8).take::<u16>(), None);
    }
}
