//! Queues.

use super::{Named, given};
use crate::coordinator::Operation;
use crate::error::Result;
use crate::submission::calls::Got;
use crate::task::Data;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A queue by name, first in, first out, with room for so many items. From [`Client::queue`](crate::Client::queue).
///
/// ```
/// use std::time::Duration;
/// use swath::{Client, Error};
/// let client = Client::threads(1);
/// let numbers = client.queue::<u64>("numbers", 2)?;
/// assert!(numbers.name() == "numbers" && numbers.is_empty()?);
/// numbers.put(1)?;
/// numbers.put_timeout(2, Duration::from_secs(60))?;
/// assert_eq!((numbers.try_put(3)?, numbers.len()?), (false, 2));
/// assert!(matches!(numbers.put_timeout(3, Duration::from_millis(1)), Err(Error::Timeout { .. })));
/// assert_eq!((numbers.get()?, numbers.get_timeout(Duration::from_secs(60))?), (1, 2));
/// assert_eq!(numbers.try_get()?, None);
/// assert!(matches!(numbers.get_timeout(Duration::from_millis(1)), Err(Error::Timeout { .. })));
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
/// let numbers = client.queue::<u64>("numbers", 1)?;
/// numbers.put_async(1).await?;
/// assert_eq!((numbers.try_put_async(2).await?, numbers.len_async().await?), (false, 1));
/// assert_eq!(numbers.get_async().await?, 1);
/// assert!(numbers.try_get_async().await?.is_none() && numbers.is_empty_async().await?);
/// # Ok::<(), swath::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Queue<T> {
    named: Named,
    #[serde(skip)]
    items: PhantomData<fn() -> T>,
}

impl<T: Data> Queue<T> {
    pub(super) fn of(named: Named) -> Self {
        Self { named, items: PhantomData }
    }

    /// Puts an item at the end, once there is room.
    ///
    /// Room is counted in items. Between processes a large item lies in shared memory until it is taken, see
    /// [`Client::queue`](crate::Client::queue).
    ///
    /// # Errors
    /// [`CoordinationError::WrongType`](super::CoordinationError::WrongType) and
    /// [`OtherLimit`](super::CoordinationError::OtherLimit) where the queue was made for something else;
    /// [`Error::Encode`](crate::Error::Encode) for what cannot be sent to another process;
    /// [`Error::Deadlock`](crate::Error::Deadlock) in sync mode, where nothing runs that could make room;
    /// [`Error::Closed`](crate::Error::Closed); in a task that has been cancelled, that.
    pub fn put(&self, item: T) -> Result<()> {
        self.named.done(self.named.wait(Operation::Put(given(item))))
    }

    /// Puts an item at the end, if there is room. `false`: there is none, and the item is dropped.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn try_put(&self, item: T) -> Result<bool> {
        self.named.was_done(self.named.now(Operation::Put(given(item))))
    }

    /// Puts an item at the end, once there is room. What has no room within that time is dropped.
    ///
    /// # Errors
    /// [`Error::Timeout`](crate::Error::Timeout) when the time is over before; otherwise as [`put`](Self::put).
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<()> {
        self.named.done(self.named.wait_timeout(Operation::Put(given(item)), timeout))
    }

    /// [`put`](Self::put) for async code. Dropped before there was room, it puts nothing.
    ///
    /// # Errors
    /// As [`put`](Self::put), but no deadlock: the thread may do something else.
    pub async fn put_async(&self, item: T) -> Result<()> {
        self.named.done(self.named.wait_async(Operation::Put(given(item))).await)
    }

    /// [`try_put`](Self::try_put) for async code.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn try_put_async(&self, item: T) -> Result<bool> {
        self.named.was_done(self.named.now_async(Operation::Put(given(item))).await)
    }

    /// Takes the first item, once there is one.
    ///
    /// # Errors
    /// [`CoordinationError::WrongType`](super::CoordinationError::WrongType) and
    /// [`OtherLimit`](super::CoordinationError::OtherLimit) where the queue was made for something else;
    /// [`Error::Deadlock`](crate::Error::Deadlock) in sync mode, where nothing runs that could put one there;
    /// [`Error::Closed`](crate::Error::Closed); in a task that has been cancelled, that.
    pub fn get(&self) -> Result<T> {
        self.named.taken(self.named.wait(Operation::Get))
    }

    /// Takes the first item, if there is one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn try_get(&self) -> Result<Option<T>> {
        self.named.taken_if_any(self.named.now(Operation::Get))
    }

    /// Takes the first item, once there is one, and waits no longer than that.
    ///
    /// # Errors
    /// [`Error::Timeout`](crate::Error::Timeout) when the time is over before; otherwise as [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        self.named.taken(self.named.wait_timeout(Operation::Get, timeout))
    }

    /// [`get`](Self::get) for async code. Dropped, it takes none: one that was on its way goes back to its place, before all that
    /// were put later. What others have taken by then they have.
    ///
    /// # Errors
    /// As [`get`](Self::get), but no deadlock: the thread may do something else.
    pub async fn get_async(&self) -> Result<T> {
        self.named.taken(self.named.wait_async(Operation::Get).await)
    }

    /// [`try_get`](Self::try_get) for async code.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn try_get_async(&self) -> Result<Option<T>> {
        self.named.taken_if_any(self.named.now_async(Operation::Get).await)
    }

    /// How many items lie in it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn len(&self) -> Result<usize> {
        self.length(self.named.now(Operation::Len))
    }

    /// [`len`](Self::len) for async code.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn len_async(&self) -> Result<usize> {
        self.length(self.named.now_async(Operation::Len).await)
    }

    /// Whether nothing lies in it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// [`is_empty`](Self::is_empty) for async code.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn is_empty_async(&self) -> Result<bool> {
        Ok(self.len_async().await? == 0)
    }

    fn length(&self, got: Result<Got>) -> Result<usize> {
        match got? {
            Got::Len(len) => Ok(usize::try_from(len).unwrap_or(usize::MAX)),
            _ => self.named.beside(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.named.name()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { named: self.named.clone(), items: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named.fmt(f)
    }
}
