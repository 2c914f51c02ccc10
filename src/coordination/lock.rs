//! Locks and semaphores.

use super::Named;
use crate::coordinator::Operation::Acquire;
use crate::error::Result;
use crate::submission::calls::{Got, Lease};
use crate::submission::waiter::drive;
use crate::units::Shown;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A lock by name: one at a time has it. From [`Client::lock`](crate::Client::lock).
///
/// ```
/// use std::time::Duration;
/// use swath::{Client, Error};
/// let client = Client::threads(1);
/// let lock = client.lock("licence")?;
/// assert_eq!(lock.name(), "licence");
/// let guard = lock.acquire()?;
/// assert!(lock.try_acquire()?.is_none());
/// let in_vain = lock.acquire_timeout(Duration::from_millis(1));
/// assert!(matches!(in_vain, Err(Error::Timeout { .. })));
/// guard.release()?;
/// assert!(lock.acquire_timeout(Duration::from_secs(60)).is_ok());
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
/// let lock = client.lock("licence")?;
/// let guard = lock.acquire_async().await?;
/// assert!(lock.try_acquire_async().await?.is_none());
/// guard.release_async().await?;
/// assert!(lock.try_acquire_async().await?.is_some());
/// # Ok::<(), swath::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lock(pub(super) Named);

/// The lock is its holder's until this is dropped.
///
/// ```
/// # use swath::Client;
/// # let client = Client::threads(1);
/// let lock = client.lock("licence")?;
/// lock.acquire()?.release()?; // as a drop, and says whether it was still held
/// {
///     let _guard = lock.acquire()?;
///     assert!(lock.try_acquire()?.is_none());
/// }
/// assert!(lock.try_acquire()?.is_some());
/// # Ok::<(), swath::Error>(())
/// ```
#[must_use = "the lock is released when this is dropped"]
pub struct LockGuard(Lease);

/// A semaphore by name: so many at a time have it. From [`Client::semaphore`](crate::Client::semaphore).
///
/// ```
/// use std::time::Duration;
/// use swath::{Client, Error};
/// let client = Client::threads(1);
/// let connections = client.semaphore("connections", 2)?;
/// assert_eq!(connections.name(), "connections");
/// let one = connections.acquire()?;
/// let two = connections.try_acquire()?;
/// assert!(two.is_some() && connections.try_acquire()?.is_none());
/// let in_vain = connections.acquire_timeout(Duration::from_millis(1));
/// assert!(matches!(in_vain, Err(Error::Timeout { .. })));
/// one.release()?;
/// assert!(connections.acquire_timeout(Duration::from_secs(60)).is_ok());
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
/// let connections = client.semaphore("connections", 1)?;
/// let permit = connections.acquire_async().await?;
/// assert!(connections.try_acquire_async().await?.is_none());
/// permit.release_async().await?;
/// assert!(connections.try_acquire_async().await?.is_some());
/// # Ok::<(), swath::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Semaphore(pub(super) Named);

/// A permit of a semaphore is its holder's until this is dropped.
///
/// ```
/// # use swath::Client;
/// # let client = Client::threads(1);
/// let connections = client.semaphore("connections", 1)?;
/// connections.acquire()?.release()?; // as a drop, and says whether it was still held
/// {
///     let _permit = connections.acquire()?;
///     assert!(connections.try_acquire()?.is_none());
/// }
/// assert!(connections.try_acquire()?.is_some());
/// # Ok::<(), swath::Error>(())
/// ```
#[must_use = "the permit is released when this is dropped"]
pub struct Permit(Lease);

impl Named {
    fn lease(&self, got: Result<Got>) -> Result<Lease> {
        self.lease_if_any(got)?.map_or_else(|| self.beside(), Ok)
    }

    fn lease_if_any(&self, got: Result<Got>) -> Result<Option<Lease>> {
        match got? {
            Got::Lease(lease) => Ok(Some(lease)),
            Got::Nothing => Ok(None),
            _ => self.beside(),
        }
    }
}

/// Both are acquired and released the same way.
macro_rules! acquired {
    ($handle:ident, $guard:ident, $what:literal, $one:literal) => {
        impl $handle {
            #[doc = concat!("Waits for ", $one, ".")]
            ///
            /// # Errors
            /// [`Error::Deadlock`](crate::Error::Deadlock) where the caller would wait for itself;
            /// [`Error::Closed`](crate::Error::Closed); in a task that has been cancelled, that.
            pub fn acquire(&self) -> Result<$guard> {
                self.0.lease(self.0.wait(Acquire)).map($guard)
            }

            #[doc = concat!("Has ", $one, ", if that is free. `None`: it is not.")]
            ///
            /// # Errors
            /// [`Error::Closed`](crate::Error::Closed).
            pub fn try_acquire(&self) -> Result<Option<$guard>> {
                self.0.lease_if_any(self.0.now(Acquire)).map(|lease| lease.map($guard))
            }

            #[doc = concat!("Waits for ", $one, ", no longer than that.")]
            ///
            /// # Errors
            /// [`Error::Timeout`](crate::Error::Timeout) when the time is over before; otherwise as [`acquire`](Self::acquire).
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<$guard> {
                self.0.lease(self.0.wait_timeout(Acquire, timeout)).map($guard)
            }

            /// [`acquire`](Self::acquire) for async code. Dropped, it waits no more.
            ///
            /// # Errors
            /// As [`acquire`](Self::acquire), but that a deadlock is not noticed: the thread may do something else.
            pub async fn acquire_async(&self) -> Result<$guard> {
                self.0.lease(self.0.wait_async(Acquire).await).map($guard)
            }

            /// [`try_acquire`](Self::try_acquire) for async code.
            ///
            /// # Errors
            /// As [`try_acquire`](Self::try_acquire).
            pub async fn try_acquire_async(&self) -> Result<Option<$guard>> {
                self.0.lease_if_any(self.0.now_async(Acquire).await).map(|lease| lease.map($guard))
            }

            /// Its name.
            #[must_use]
            pub fn name(&self) -> &str {
                self.0.name()
            }
        }

        impl $guard {
            #[doc = concat!("Releases the ", $what, ", as a drop does, and says whether it was still held.")]
            ///
            /// # Errors
            /// [`CoordinationError::NotHeld`](super::CoordinationError::NotHeld) where it had gone with the run of the task that had
            /// acquired it; [`Error::Closed`](crate::Error::Closed).
            pub fn release(self) -> Result<()> {
                drive(None, self.0.release()).unwrap_or_else(|| Err(crate::submission::waiter::waited_in_vain(None)))
            }

            /// [`release`](Self::release) for async code.
            ///
            /// # Errors
            /// As [`release`](Self::release).
            pub async fn release_async(self) -> Result<()> {
                self.0.release().await
            }
        }

        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} of `{}`", stringify!($guard), Shown(self.0.name()))
            }
        }
    };
}

acquired!(Lock, LockGuard, "lock", "the lock");
acquired!(Semaphore, Permit, "permit", "a permit");
