//! Events.

use super::Named;
use crate::coordinator::Operation;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Something that is waited for until it is set, by name. From [`Client::event`](crate::Client::event).
///
/// ```
/// use std::time::Duration;
/// use swath::{Client, Error};
/// let client = Client::threads(1);
/// let ready = client.event("ready")?;
/// assert_eq!((ready.name(), ready.is_set()?, ready.try_wait()?), ("ready", false, false));
/// assert!(matches!(ready.wait_timeout(Duration::from_millis(1)), Err(Error::Timeout { .. })));
/// ready.set()?;
/// ready.wait()?;
/// assert!(ready.is_set()? && ready.try_wait()?);
/// ready.clear()?;
/// assert!(!ready.is_set()?);
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
/// let ready = client.event("ready")?;
/// ready.set_async().await?;
/// ready.wait_async().await?;
/// assert!(ready.is_set_async().await?);
/// ready.clear_async().await?;
/// assert!(!ready.is_set_async().await?);
/// # Ok::<(), swath::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Event(pub(super) Named);

impl Event {
    /// Sets it: whoever waits goes on, and nobody waits from now on.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn set(&self) -> Result<()> {
        self.0.done(self.0.now(Operation::Set))
    }

    /// [`set`](Self::set) for async code.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn set_async(&self) -> Result<()> {
        self.0.done(self.0.now_async(Operation::Set).await)
    }

    /// Takes that back: who comes from now on waits.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn clear(&self) -> Result<()> {
        self.0.done(self.0.now(Operation::Clear))
    }

    /// [`clear`](Self::clear) for async code.
    ///
    /// # Errors
    /// As [`clear`](Self::clear).
    pub async fn clear_async(&self) -> Result<()> {
        self.0.done(self.0.now_async(Operation::Clear).await)
    }

    /// Whether it is set.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn is_set(&self) -> Result<bool> {
        self.0.is(self.0.now(Operation::IsSet))
    }

    /// [`is_set`](Self::is_set) for async code.
    ///
    /// # Errors
    /// As [`is_set`](Self::is_set).
    pub async fn is_set_async(&self) -> Result<bool> {
        self.0.is(self.0.now_async(Operation::IsSet).await)
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// [`Error::Deadlock`](crate::Error::Deadlock) in sync mode, where nothing runs that could set it;
    /// [`Error::Closed`](crate::Error::Closed); in a task that has been cancelled, that.
    pub fn wait(&self) -> Result<()> {
        self.0.done(self.0.wait(Operation::Wait))
    }

    /// Whether it is set: [`wait`](Self::wait), without waiting.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn try_wait(&self) -> Result<bool> {
        self.is_set()
    }

    /// Waits until it is set, no longer than that.
    ///
    /// # Errors
    /// [`Error::Timeout`](crate::Error::Timeout) when the time is over before; otherwise as [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<()> {
        self.0.done(self.0.wait_timeout(Operation::Wait, timeout))
    }

    /// [`wait`](Self::wait) for async code. Dropped, it waits no more.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), but no deadlock: the thread may do something else.
    pub async fn wait_async(&self) -> Result<()> {
        self.0.done(self.0.wait_async(Operation::Wait).await)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
