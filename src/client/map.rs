//! Many calls of one function at once, and their results.

use super::future::Future;
use super::{Client, wait};
use crate::delayed::{Delayed, IntoArg};
use crate::error::Result;
use crate::graph::map::MapTasks;
use crate::graph::node::Node;
use crate::status::Mode;
use crate::submission::handle::{ResultHandle, Submission};
use crate::submission::limit::Permit;
use crate::task::Data;
use crate::task::function::{Record, TaskFunction, TryTaskFunction};
use crate::task::returned::IntoError;
use crate::task::wait::poll_waiting;
use smallvec::smallvec;
use std::sync::Arc;
use std::task::Poll;

/// Calls of one function.
enum Calls<R> {
    /// With a value each, known now.
    OfValues(MapTasks),
    Each(Vec<Delayed<R>>),
}

/// The calls of `function` with each of the items.
fn calls<A, R, I>(function: &'static Record, items: I) -> Calls<R>
where
    A: Data,
    I: IntoIterator,
    I::Item: IntoArg<A>,
{
    let call = |arg| Delayed::from_node(Node::call(function, smallvec![arg], None));
    let mut items = items.into_iter();
    let mut values: Vec<A> = Vec::with_capacity(items.size_hint().0);
    while let Some(item) = items.next() {
        match item.into_value() {
            Ok(value) => values.push(value),
            Err(lazy) => {
                let values = values.into_iter().map(IntoArg::<A>::into_arg);
                return Calls::Each(values.chain([lazy]).chain(items.map(IntoArg::into_arg)).map(call).collect());
            }
        }
    }
    Calls::OfValues(MapTasks::new(function, values))
}

/// Asks for all results before anybody waits for one.
fn want_here<T>(futures: &[Future<T>]) {
    for (submission, places) in wait::by_submission(futures) {
        submission.want_here(places.each().map(|(index, _)| index));
    }
}

/// The submission all of whose outputs these are, where its values are made in this process. Who wants them all waits for
/// them together: a thread that takes each as it comes gets in the way of those that make them.
fn whole_submission<T>(futures: &[Future<T>]) -> Option<&Arc<Submission>> {
    let ResultHandle { submission, index } = futures.first()?.output();
    let whole = *index == 0
        && futures.len() == submission.len()
        && futures.windows(2).all(|pair| pair[0].output().is_before(pair[1].output()));
    (whole && submission.backend().mode() != Mode::Processes).then_some(submission)
}

impl Client {
    /// Starts a call of `function` for each item. Does not wait.
    ///
    /// Of many values (not lazy ones), only the first few hundred are sent to worker processes before this returns, the
    /// others meanwhile: a hundred thousand futures are there within some milliseconds. They keep the values until all
    /// calls have been sent to worker processes, or have succeeded in other modes.
    ///
    /// # Errors
    /// As [`submit`](Self::submit). A value that is sent later and cannot be encoded fails its own future, with
    /// [`Cause::Encode`](crate::Cause::Encode).
    ///
    /// ```
    /// use swath::Client;
    /// let client = Client::threads(2);
    /// let lengths = client.map(|s: String| s.len(), ["a", "bb", "ccc"])?;
    /// assert_eq!(client.gather(&lengths)?, [1, 2, 3]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn map<F, A, R, I>(&self, function: F, items: I) -> Result<Vec<Future<R>>>
    where
        F: TaskFunction<(A,), R> + Fn(A) -> R,
        A: Data,
        R: Data,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        let _ = function;
        self.map_calls(F::RECORD, items)
    }

    /// [`map`](Self::map) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn map_async<F, A, R, I>(&self, function: F, items: I) -> Result<Vec<Future<R>>>
    where
        F: TaskFunction<(A,), R> + Fn(A) -> R,
        A: Data,
        R: Data,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        let _ = function;
        self.map_calls_async(F::RECORD, items).await
    }

    /// Starts a call of `function`, which may fail, for each item. Does not wait.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn try_map<F, A, T, E, I>(&self, function: F, items: I) -> Result<Vec<Future<T>>>
    where
        F: TryTaskFunction<(A,), T, E> + Fn(A) -> Result<T, E>,
        A: Data,
        T: Data,
        E: IntoError,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        let _ = function;
        self.map_calls(F::RECORD, items)
    }

    /// [`try_map`](Self::try_map) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn try_map_async<F, A, T, E, I>(&self, function: F, items: I) -> Result<Vec<Future<T>>>
    where
        F: TryTaskFunction<(A,), T, E> + Fn(A) -> Result<T, E>,
        A: Data,
        T: Data,
        E: IntoError,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        let _ = function;
        self.map_calls_async(F::RECORD, items).await
    }

    fn map_calls<A, R, I>(&self, function: &'static Record, items: I) -> Result<Vec<Future<R>>>
    where
        A: Data,
        R: Data,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        match calls(function, items) {
            Calls::OfValues(map) => self.submit_map(map, self.0.limit.acquire()),
            Calls::Each(calls) => self.submit_all(&calls),
        }
    }

    async fn map_calls_async<A, R, I>(&self, function: &'static Record, items: I) -> Result<Vec<Future<R>>>
    where
        A: Data,
        R: Data,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        match calls(function, items) {
            Calls::OfValues(map) => self.submit_map(map, self.0.limit.acquire_async().await),
            Calls::Each(calls) => self.submit_all_async(&calls).await,
        }
    }

    fn submit_map<R: Data>(&self, mut map: MapTasks, permit: Permit) -> Result<Vec<Future<R>>> {
        self.check_origin()?;
        map.priority = self.1;
        let mut futures = Vec::new();
        self.noted(permit, map.len(), || {
            let mut shown = |submission: &Arc<Submission>| {
                futures = (0..submission.len() as u32)
                    .map(|index| Future::new(ResultHandle::new(submission, index)))
                    .collect();
            };
            self.backend().submit_map(Arc::new(map), &mut shown)
        })?;
        Ok(futures)
    }

    /// Waits for the results of futures, in their order.
    ///
    /// # Errors
    /// The failure of the first that has one.
    pub fn gather<T: Data>(&self, futures: &[Future<T>]) -> Result<Vec<T>> {
        // Ask for everything before waiting for anything.
        want_here(futures);
        if let Some(submission) = whole_submission(futures) {
            // After a failure the results before it are waited for one by one; where nobody may wait, the first says so.
            submission.wait_all_or_failure();
        }
        let mut results = Vec::with_capacity(futures.len());
        for future in futures {
            results.push(future.result()?);
        }
        Ok(results)
    }

    /// [`gather`](Self::gather) for async code.
    ///
    /// # Errors
    /// As [`gather`](Self::gather).
    pub async fn gather_async<T: Data>(&self, futures: &[Future<T>]) -> Result<Vec<T>> {
        want_here(futures);
        if let Some(submission) = whole_submission(futures) {
            poll_waiting(|cx| match submission.poll_all_or_failure(cx.waker()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await?;
        }
        let mut results = Vec::with_capacity(futures.len());
        for future in futures {
            results.push(future.await?);
        }
        Ok(results)
    }
}
