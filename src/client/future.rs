//! Handles of results that are being made.

use super::blocking;
use crate::delayed::Delayed;
use crate::delayed::arg::{IntoArg, lists};
use crate::error::words::words;
use crate::error::{Cause, Error, Result, TaskError};
use crate::graph::node::Arg;
use crate::graph::node::Node;
use crate::host::report;
use crate::submission::handle::{LocalValue, ResultHandle, ResultState, Waiter};
use crate::submission::waiter::waited_in_vain;
use crate::task::Data;
use crate::task::wait::AsyncWait;
use once_cell::race::OnceBox;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The handle of a submitted task's result.
///
/// Cheap to clone. It can be waited for in blocking and in async code, under any runtime or none, and passed as an
/// argument to later tasks. When the last handle goes, the result is released, and the task is cancelled if it has not
/// run yet and nothing else needs it.
///
/// ```
/// use swath::{Client, delayed};
/// let client = Client::threads(2);
/// let x = client.submit(&delayed(|x: i64| x * x).call(7))?;
/// let y = client.submit(&delayed(|x: i64| x + 1).call(&x))?;
/// assert_eq!(y.result()?, 50);
/// # Ok::<(), swath::Error>(())
/// ```
#[must_use = "a task is cancelled when the last handle of its result is dropped"]
pub struct Future<T> {
    output: ResultHandle,
    /// What it is in the graphs of later tasks, once it is used in one. A single word until then: a map makes a hundred
    /// thousand of these before its first result.
    node: OnceBox<Arc<Node>>,
    _value: PhantomData<fn() -> T>,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Not done.
    Pending,
    /// The result is there.
    Finished,
    /// It has no result.
    Failed,
    /// It was cancelled.
    Cancelled,
}

words!(Status, "status": Pending "pending", Finished "finished", Failed "failed", Cancelled "cancelled");

impl<T> Clone for Future<T> {
    fn clone(&self) -> Self {
        Self { output: self.output.clone(), node: self.node.clone(), _value: PhantomData }
    }
}

impl<T> fmt::Debug for Future<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Future({}, {:?})", self.key(), self.status())
    }
}

impl<T> Future<T> {
    pub(crate) fn new(output: ResultHandle) -> Self {
        Self { output, node: OnceBox::new(), _value: PhantomData }
    }

    pub(crate) fn output(&self) -> &ResultHandle {
        &self.output
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        self.node.get_or_init(|| Box::new(Arc::new(Node::held(self.output.held()))))
    }

    pub(crate) fn to_node(&self) -> Arc<Node> {
        Arc::clone(self.node())
    }

    /// Key of the task, for example `inc-3f2a90c1e3f2d1b8`.
    pub fn key(&self) -> String {
        self.output.key()
    }

    /// Whether the task has finished or failed.
    pub fn is_done(&self) -> bool {
        self.output.submission.is_done(self.output.index)
    }

    /// How far the task is.
    pub fn status(&self) -> Status {
        self.output.submission.with_state(self.output.index, |state| match state {
            ResultState::Pending { .. } => Status::Pending,
            ResultState::Failed(e) if matches!(e.cause(), Cause::Cancelled) => Status::Cancelled,
            ResultState::Failed(_) => Status::Failed,
            _ => Status::Finished,
        })
    }

    /// Size of the result in bytes, encoded, once it is known: exactly where it has been encoded, else about.
    /// `None` before, in the in-process modes, and for a task that failed.
    pub fn nbytes(&self) -> Option<u64> {
        self.output.submission.with_state(self.output.index, |state| match state {
            ResultState::Remote { nbytes, .. } => Some(*nbytes),
            ResultState::Payload(payload) => Some(payload.nbytes()),
            _ => None,
        })
    }

    /// Lets the task run to its end though no handle is left: a future that is dropped cancels what nobody else waits for.
    /// The result is dropped then; a failure is logged.
    ///
    /// It ends with its client all the same, as [`current_client`](crate::current_client) does with the worker it is in. Who
    /// has another handle can still [cancel](crate::Client::cancel) it. It waits for nothing, so that async code may call it.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(1);
    /// let file = std::env::temp_dir().join(format!("sent-{}", std::process::id()));
    /// let send = delayed(|file: std::path::PathBuf| std::fs::write(file, "by itself").is_ok());
    /// client.submit(&send.call(file.clone()))?.detach();
    /// while !file.exists() {
    ///     std::thread::yield_now();
    /// }
    /// # std::fs::remove_file(file)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(self) {
        let (submission, index) = (Arc::clone(&self.output.submission), self.output.index);
        let output = self.output.clone();
        drop(self);
        let ended = move || {
            let failed = output.submission.with_state(output.index, |state| match state {
                ResultState::Failed(error) => Some(error.clone()),
                _ => None,
            });
            if let Some(error) = failed.filter(|error| !matches!(error.cause(), Cause::Cancelled)) {
                report!(Warn, "{} was detached, so nobody else is told: {error}", output.key());
            }
            drop(output);
        };
        submission.when_done(index, Waiter::Call(Box::new(ended)));
    }

    /// The result as a lazy value, to describe more work with.
    pub fn delayed(&self) -> Delayed<T> {
        Delayed::from_arc(self.to_node())
    }
}

impl<T: Data> Future<T> {
    fn typed(&self, here: Result<LocalValue, TaskError>) -> Result<T> {
        here?.into_typed(|| self.output.label())
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// That of the task that failed, be it this one or one that it needs.
    pub fn result(&self) -> Result<T> {
        match self.output.wait_here(None) {
            Some(here) => self.typed(here),
            None => Err(waited_in_vain(None)),
        }
    }

    /// Waits for the result, but not longer than `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over; the work goes on. Otherwise as [`result`](Self::result).
    pub fn result_timeout(&self, timeout: Duration) -> Result<T> {
        match self.output.wait_here(Instant::now().checked_add(timeout)) {
            Some(here) => self.typed(here),
            None => Err(waited_in_vain(Some(timeout))),
        }
    }

    /// [`result_timeout`](Self::result_timeout) for async code. It needs no runtime's timer: a thread of its own keeps the
    /// time. Where there is a timer, one around the awaited future does the same, without the thread.
    ///
    /// # Errors
    /// As [`result_timeout`](Self::result_timeout).
    pub async fn result_timeout_async(&self, timeout: Duration) -> Result<T> {
        let awaited = std::future::IntoFuture::into_future(self);
        blocking::timeout(timeout, awaited).await?.unwrap_or(Err(Error::Timeout { waited: timeout }))
    }

    fn poll_result(&self, cx: &Context<'_>) -> Poll<Result<T>> {
        match self.output.submission.poll_here(self.output.index, || Waiter::waker(cx.waker())) {
            Some(here) => Poll::Ready(self.typed(here)),
            None => Poll::Pending,
        }
    }
}

/// Waiting for a [`Future`] in async code.
#[must_use = "futures do nothing unless awaited"]
pub struct Awaited<T> {
    future: Future<T>,
    wait: AsyncWait,
}

impl<T> fmt::Debug for Awaited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.future.fmt(f)
    }
}

impl<T: Data> std::future::Future for Awaited<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let polled = this.future.poll_result(cx);
        this.wait.polled(cx, polled).map(|result| result?)
    }
}

impl<T: Data> IntoFuture for Future<T> {
    type Output = Result<T>;
    type IntoFuture = Awaited<T>;

    fn into_future(self) -> Awaited<T> {
        Awaited { future: self, wait: AsyncWait::default() }
    }
}

impl<T: Data> IntoFuture for &Future<T> {
    type Output = Result<T>;
    type IntoFuture = Awaited<T>;

    fn into_future(self) -> Awaited<T> {
        Awaited { future: self.clone(), wait: AsyncWait::default() }
    }
}

impl<T: Data> IntoArg<T> for Future<T> {
    fn into_arg(self) -> Arg {
        Arg::Task(self.to_node())
    }
}

impl<T: Data> IntoArg<T> for &Future<T> {
    fn into_arg(self) -> Arg {
        Arg::Task(self.to_node())
    }
}

lists!(Future);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_is_printed() {
        for status in Status::WORDS {
            assert_eq!(status.to_string().parse::<Status>().ok(), Some(*status));
        }
        assert!("done".parse::<Status>().is_err());
    }
}
