//! What async callers need a thread for, as there may be no runtime: work that blocks, and time limits.

use crate::error::{Error, Result};
use crate::task::wait::waiting;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::task::Poll;
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    match thread::Builder::new().name(name.to_string()).spawn(work) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::Resource { resource: "threads".to_string(), reason: format!("{e}; raise `ulimit -u`") }),
    }
}

/// Has a thread of its own do work that blocks. The work goes on if nobody awaits it any more; if it panics, so does
/// whoever awaits it.
pub(super) async fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (tell, told) = oneshot::channel();
    spawn("swath-blocking", move || {
        // Whoever asked may be gone.
        drop(tell.send(catch_unwind(AssertUnwindSafe(work))));
    })?;
    match waiting(told).await? {
        Ok(done) => Ok(done.unwrap_or_else(|panic| resume_unwind(panic))),
        Err(_) => Err(Error::Closed { reason: "a thread ended before its work was done".to_string() }),
    }
}

/// Awaits a future, but not longer than `limit`. `None`: the time was over before.
///
/// A future that is not ready at once costs a thread, which keeps the time, until it is.
pub(super) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<Option<F::Output>> {
    let mut future = pin!(future);
    let mut alarm = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(Some(value)));
        }
        let alarm = match &mut alarm {
            Some(alarm) => alarm,
            none => match Alarm::set(limit) {
                Ok(set) => none.insert(set),
                Err(e) => return Poll::Ready(Err(e)),
            },
        };
        Pin::new(&mut alarm.rings).poll(cx).map(|_| Ok(None))
    })
    .await
}

/// Rings when its time has come. Its thread ends then, or when this is dropped.
struct Alarm {
    rings: oneshot::Receiver<()>,
    _wanted: Sender<()>,
}

impl Alarm {
    fn set(limit: Duration) -> Result<Self> {
        let (ring, rings) = oneshot::channel();
        let (wanted, is_wanted) = channel();
        spawn("swath-alarm", move || {
            if is_wanted.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // It may have been dropped at this moment.
                let _ = ring.send(());
            }
        })?;
        Ok(Self { rings, _wanted: wanted })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::future::{pending, ready};

    fn drive<F: Future>(future: F) -> F::Output {
        crate::submission::waiter::drive(None, future).unwrap()
    }

    #[test]
    fn work_is_done_in_another_thread_and_panics_in_this_one() {
        let here = thread::current().id();
        assert_ne!(drive(spawn_blocking(|| thread::current().id())).unwrap(), here);
        let panic = catch_unwind(|| drive(spawn_blocking(|| panic!("as it is")))).unwrap_err();
        assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "as it is");
    }

    #[test]
    fn time_limits_hold_without_a_runtime() {
        assert_eq!(drive(timeout(Duration::ZERO, ready(1))).unwrap(), Some(1));
        assert_eq!(drive(timeout(Duration::from_millis(1), pending::<()>())).unwrap(), None);
        let later = async { spawn_blocking(|| 2).await.unwrap() };
        assert_eq!(drive(timeout(Duration::MAX, later)).unwrap(), Some(2));
    }
}
