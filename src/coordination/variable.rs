//! Variables.

use super::{Named, given};
use crate::coordinator::Operation;
use crate::error::Result;
use crate::task::Data;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A value by name, or none. From [`Client::variable`](crate::Client::variable).
///
/// ```
/// use std::time::Duration;
/// use swath::{Client, Error};
/// let client = Client::threads(1);
/// let best = client.variable::<f64>("best")?;
/// assert_eq!((best.name(), best.try_get()?), ("best", None));
/// assert!(matches!(best.get_timeout(Duration::from_millis(1)), Err(Error::Timeout { .. })));
/// best.set(0.5)?;
/// best.set(0.25)?;
/// assert_eq!((best.get()?, best.try_get()?), (0.25, Some(0.25)));
/// assert_eq!(best.get_timeout(Duration::from_secs(60))?, 0.25);
/// assert_eq!((best.delete()?, best.delete()?), (true, false));
/// # Ok::<(), Error>(())
/// ```
///
/// In async code:
///
/// ```
/// # use swath::Client;
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # let client = Client::threads(1);
/// # runtime.block_on(async {
/// let best = client.variable::<f64>("best")?;
/// best.set_async(0.25).await?;
/// assert_eq!((best.get_async().await?, best.try_get_async().await?), (0.25, Some(0.25)));
/// assert!(best.delete_async().await?);
/// assert_eq!(best.try_get_async().await?, None);
/// # Ok::<(), swath::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Variable<T> {
    named: Named,
    #[serde(skip)]
    value: PhantomData<fn() -> T>,
}

impl<T: Data> Variable<T> {
    pub(super) fn of(named: Named) -> Self {
        Self { named, value: PhantomData }
    }

    /// Gives it a value, instead of the one that it has. Between processes a large one lies in shared memory, see
    /// [`Client::variable`](crate::Client::variable).
    ///
    /// # Errors
    /// [`CoordinationError::WrongType`](super::CoordinationError::WrongType) where it has a value of another type;
    /// [`Error::Encode`](crate::Error::Encode) for what cannot be sent to another process;
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn set(&self, value: T) -> Result<()> {
        self.named.done(self.named.now(Operation::Store(given(value))))
    }

    /// [`set`](Self::set) for async code.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn set_async(&self, value: T) -> Result<()> {
        self.named.done(self.named.now_async(Operation::Store(given(value))).await)
    }

    /// Its value, once it has one.
    ///
    /// # Errors
    /// [`CoordinationError::WrongType`](super::CoordinationError::WrongType) where it has a value of another type;
    /// [`Error::Deadlock`](crate::Error::Deadlock) in sync mode, where nothing runs that could give it one;
    /// [`Error::Closed`](crate::Error::Closed); in a task that has been cancelled, that.
    pub fn get(&self) -> Result<T> {
        self.named.taken(self.named.wait(Operation::Load))
    }

    /// Its value, if it has one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn try_get(&self) -> Result<Option<T>> {
        self.named.taken_if_any(self.named.now(Operation::Load))
    }

    /// Its value, once it has one, and waits no longer than that.
    ///
    /// # Errors
    /// [`Error::Timeout`](crate::Error::Timeout) when the time is over before; otherwise as [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        self.named.taken(self.named.wait_timeout(Operation::Load, timeout))
    }

    /// [`get`](Self::get) for async code.
    ///
    /// # Errors
    /// As [`get`](Self::get), but no deadlock: the thread may do something else.
    pub async fn get_async(&self) -> Result<T> {
        self.named.taken(self.named.wait_async(Operation::Load).await)
    }

    /// [`try_get`](Self::try_get) for async code.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn try_get_async(&self) -> Result<Option<T>> {
        self.named.taken_if_any(self.named.now_async(Operation::Load).await)
    }

    /// Takes its value away; whether it had one. After that it may have one of another type.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn delete(&self) -> Result<bool> {
        self.named.is(self.named.now(Operation::Delete))
    }

    /// [`delete`](Self::delete) for async code.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn delete_async(&self) -> Result<bool> {
        self.named.is(self.named.now_async(Operation::Delete).await)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.named.name()
    }
}

impl<T> Clone for Variable<T> {
    fn clone(&self) -> Self {
        Self { named: self.named.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for Variable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named.fmt(f)
    }
}
