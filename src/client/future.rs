//! Handles of results that are being made.

use super::{Client, WaitFor, blocking, wait};
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
use crate::task::backtrace::TaskBacktrace;
use crate::task::function::{Record, TaskFunction, TryTaskFunction};
use crate::task::returned::IntoError;
use crate::task::wait::AsyncWait;
use once_cell::race::OnceBox;
use smallvec::smallvec;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::slice::from_ref;
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
            let failed = output.failure();
            if let Some(error) = failed.filter(|error| !matches!(error.cause(), Cause::Cancelled)) {
                report!(Warn, "{} was detached, so nobody else is told: {error}", output.key());
            }
            drop(output);
        };
        submission.when_done(index, Waiter::Call(Box::new(ended)));
    }

    /// The failure, if the task has failed by now.
    pub(super) fn failure(&self) -> Option<TaskError> {
        self.output.failure()
    }

    /// The failure, if the task is done.
    fn outcome(&self) -> Option<Option<TaskError>> {
        self.is_done().then(|| self.failure())
    }

    /// Waits for the task's end. `None`: the time was over before.
    fn outcome_until(&self, deadline: Option<Instant>) -> Option<Option<TaskError>> {
        loop {
            // One that is run again after its end is waited for again.
            if let Some(outcome) = self.outcome() {
                return Some(outcome);
            }
            if !wait::wait(from_ref(self), WaitFor::All, deadline) {
                return None;
            }
        }
    }

    /// Waits for the task's end, and gives its failure: that of the task, or of one that it needs. `None`: it has a result. The
    /// result stays where it is.
    ///
    /// In a waker, or in the drop of a value, of worker processes, nothing can wait: what is not done is an error there that
    /// says so, as it is in a task that is not wanted any more. [`error_timeout`](Self::error_timeout) tells that from the task's own.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let tenth = |x: i64| delayed(|x: i64| 10 / x).call(x);
    /// let (good, bad) = (client.submit(&tenth(5))?, client.submit(&tenth(0))?);
    /// assert!(good.error().is_none());
    /// assert!(bad.error().unwrap().to_string().contains("divide by zero"));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn error(&self) -> Option<TaskError> {
        self.outcome_until(None).unwrap_or_else(|| Some(self.not_waited(waited_in_vain(None))))
    }

    /// The wait for the outcome has ended without one: the task's own failure is not known.
    fn not_waited(&self, why: Error) -> TaskError {
        match why {
            Error::Task(cancelled) => cancelled,
            why => TaskError::new(self.output.label().task_name(), None, Cause::Closed { reason: why.to_string() }),
        }
    }

    /// [`error`](Self::error), but waits no longer than `timeout`.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// use std::time::Duration;
    /// let client = Client::threads(1);
    /// let slow = delayed(|ms: u64| std::thread::sleep(Duration::from_millis(ms)));
    /// let slow = client.submit(&slow.call(200))?;
    /// assert!(matches!(slow.error_timeout(Duration::from_millis(1)), Err(swath::Error::Timeout { .. })));
    /// assert!(slow.error_timeout(Duration::from_secs(60))?.is_none());
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over; the work goes on. [`Error::Unsupported`] where it would wait for itself.
    pub fn error_timeout(&self, timeout: Duration) -> Result<Option<TaskError>> {
        self.outcome_until(Instant::now().checked_add(timeout)).ok_or_else(|| waited_in_vain(Some(timeout)))
    }

    /// [`error`](Self::error) for async code.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let bad = client.submit(&delayed(|x: i64| 10 / x).call(0))?;
    /// assert!(bad.error_async().await.unwrap().to_string().contains("divide by zero"));
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn error_async(&self) -> Option<TaskError> {
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            if let Err(why) = wait::wait_async(from_ref(self), WaitFor::All).await {
                return Some(self.not_waited(why));
            }
        }
    }

    /// [`error_timeout`](Self::error_timeout) for async code; a thread of its own keeps the time.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// use std::time::Duration;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let good = client.submit(&delayed(|x: i64| 10 / x).call(5))?;
    /// assert!(good.error_timeout_async(Duration::from_secs(60)).await?.is_none());
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`error_timeout`](Self::error_timeout).
    pub async fn error_timeout_async(&self, timeout: Duration) -> Result<Option<TaskError>> {
        blocking::timeout(timeout, self.error_async()).await?.ok_or(Error::Timeout { waited: timeout })
    }

    /// Waits for the task's end, and says where it panicked: the functions that led there, the innermost first. `None`: it has
    /// not, or `RUST_BACKTRACE=1` was not set where it ran.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let bad = Client::threads(1).submit(&delayed(|x: i64| 10 / x).call(0))?;
    /// match bad.traceback() {
    ///     Some(functions) => println!("{functions}"),
    ///     None => println!("set RUST_BACKTRACE=1"),
    /// }
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn traceback(&self) -> Option<TaskBacktrace> {
        self.error()?.backtrace().cloned()
    }

    /// [`traceback`](Self::traceback) for async code.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let good = client.submit(&delayed(|x: i64| 10 / x).call(5))?;
    /// assert!(good.traceback_async().await.is_none()); // it has not panicked
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn traceback_async(&self) -> Option<TaskBacktrace> {
        self.error_async().await?.backtrace().cloned()
    }

    /// Has a function called with this future when the task is done: with a result, failed or cancelled. It waits for nothing.
    ///
    /// The functions of a client are called by a thread that the client has for that, one after the other, in the order in
    /// which their tasks are done, also in sync mode. So they may wait, submit more, and drop the client. One that panics is logged, and others go
    /// on. Nobody waits for them: the end of a program does not. While it waits, such a function counts as a handle of the
    /// result, so that the task runs to its end though no other is left.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(1);
    /// let (tell, told) = std::sync::mpsc::channel();
    /// client.submit(&delayed(|x: i64| x + 1).call(1))?.on_done(move |future| tell.send(future.result()).unwrap());
    /// assert_eq!(told.recv().unwrap()?, 2);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn on_done(&self, callback: impl FnOnce(Self) + Send + 'static)
    where
        T: 'static,
    {
        let submission = &self.output.submission;
        let callbacks = match submission.check_origin() {
            Ok(()) => Arc::clone(submission.backend().callbacks()),
            // In a fork the client's may be in use by a thread that is not here.
            Err(_) => Arc::default(),
        };
        let future = self.clone();
        let done = move || callbacks.call(Box::new(move || callback(future)));
        submission.when_done(self.output.index, Waiter::Call(Box::new(done)));
    }

    /// The result as a lazy value, to describe more work with.
    pub fn delayed(&self) -> Delayed<T> {
        Delayed::from_arc(self.to_node())
    }
}

impl<T: Data> Future<T> {
    fn typed(&self, here: Result<LocalValue, TaskError>) -> Result<T> {
        here?.into_typed(&self.output.submission, self.output.index)
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
    /// ```
    /// # use swath::{Client, delayed};
    /// use std::time::Duration;
    /// let client = Client::threads(1);
    /// let slow = delayed(|ms: u64| std::thread::sleep(Duration::from_millis(ms)));
    /// let slow = client.submit(&slow.call(200))?;
    /// assert!(matches!(slow.result_timeout(Duration::from_millis(1)), Err(swath::Error::Timeout { .. })));
    /// slow.result_timeout(Duration::from_secs(60))?;
    /// # Ok::<(), swath::Error>(())
    /// ```
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
    /// ```
    /// # use swath::{Client, delayed};
    /// use std::time::Duration;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let square = client.submit(&delayed(|x: i64| x * x).call(7))?;
    /// assert_eq!(square.result_timeout_async(Duration::from_secs(60)).await?, 49);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`result_timeout`](Self::result_timeout).
    pub async fn result_timeout_async(&self, timeout: Duration) -> Result<T> {
        let awaited = std::future::IntoFuture::into_future(self);
        blocking::timeout(timeout, awaited).await?.unwrap_or(Err(Error::Timeout { waited: timeout }))
    }

    /// The failure that an error of this future's result is; the error, where it is none of a task.
    pub(super) fn failure_of(&self, error: Error) -> Result<TaskError> {
        match error {
            Error::Task(failure) => Ok(failure),
            Error::WrongType { wanted, reason, .. } => {
                let cause = Cause::Decode { type_name: wanted.to_string(), reason };
                Ok(TaskError::new(self.output.label().task_name(), None, cause))
            }
            // Some causes are errors of another kind to who waits.
            other => self.failure().ok_or(other),
        }
    }

    /// Starts a call of `function` with the result, when it is there: a task of the client that this future is of. It is as any
    /// other task that uses a future, and waits for nothing but room where very much is under way.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let words = client.submit(&delayed(|s: String| s.split(' ').count()).call("three small words"))?;
    /// assert_eq!(words.then(|n: usize| n * 2)?.result()?, 6);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::submit`](crate::Client::submit). A task that fails shows when its result is used.
    pub fn then<F, R>(&self, function: F) -> Result<Future<R>>
    where
        F: TaskFunction<(T,), R> + Fn(T) -> R,
        R: Data,
    {
        let _ = function;
        self.its_client().submit(&self.call(F::RECORD))
    }

    /// [`then`](Self::then) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let five = client.submit(&delayed(|s: String| s.len()).call("words"))?;
    /// let ten = five.then_async(|n: usize| n * 2).await?;
    /// assert_eq!(ten.await?, 10);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`then`](Self::then).
    pub async fn then_async<F, R>(&self, function: F) -> Result<Future<R>>
    where
        F: TaskFunction<(T,), R> + Fn(T) -> R,
        R: Data,
    {
        let _ = function;
        self.its_client().submit_async(&self.call(F::RECORD)).await
    }

    /// [`then`](Self::then) with a function that may fail.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let text = client.submit(&delayed(|n: i64| n.to_string()).call(42))?;
    /// let number = text.try_then(|text: String| text.parse::<i64>())?;
    /// assert_eq!(number.result()?, 42);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`then`](Self::then).
    pub fn try_then<F, R, E>(&self, function: F) -> Result<Future<R>>
    where
        F: TryTaskFunction<(T,), R, E> + Fn(T) -> Result<R, E>,
        R: Data,
        E: IntoError,
    {
        let _ = function;
        self.its_client().submit(&self.call(F::RECORD))
    }

    /// [`try_then`](Self::try_then) for async code.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let text = client.submit(&delayed(|n: i64| format!("{n} or so")).call(42))?;
    /// let number = text.try_then_async(|text: String| text.parse::<i64>()).await?;
    /// assert!(number.await.unwrap_err().to_string().contains("invalid digit"));
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`then`](Self::then).
    pub async fn try_then_async<F, R, E>(&self, function: F) -> Result<Future<R>>
    where
        F: TryTaskFunction<(T,), R, E> + Fn(T) -> Result<R, E>,
        R: Data,
        E: IntoError,
    {
        let _ = function;
        self.its_client().submit_async(&self.call(F::RECORD)).await
    }

    fn its_client(&self) -> Client {
        Client::inside(Arc::clone(self.output.submission.backend()))
    }

    fn call<R>(&self, function: &'static Record) -> Delayed<R> {
        Delayed::from_node(Node::call(function, smallvec![Arg::Task(self.to_node())], None))
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
