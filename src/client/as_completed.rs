//! Futures in the order in which they are done.

use super::blocking;
use super::future::Future;
use super::wait::{by_submission, want_here};
use crate::error::{Error, Result};
use crate::host::footer;
use crate::submission::completed::CompletionQueue;
use crate::submission::waiter::waited_in_vain;
use crate::task::Data;
use crate::task::wait::{is_in_vain, poll_waiting};
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Futures in the order in which they are done, see [`Client::as_completed`](crate::Client::as_completed).
///
/// More may [join](Self::add) while others are waited for. It ends when there is none left, and goes on when some are added
/// after that.
///
/// ```
/// use swath::{Client, delayed};
/// let client = Client::threads(2);
/// // The way to 1, of whatever length: each step is submitted when the one before is done.
/// let step = delayed(|n: u64| if n % 2 == 0 { n / 2 } else { 3 * n + 1 });
/// let mut completed = client.as_completed(vec![client.submit(&step.call(27))?]);
/// let mut steps = 1;
/// while let Some(done) = completed.next() {
///     if done.result()? != 1 {
///         completed.add(client.submit(&step.call(&done))?);
///         steps += 1;
///     }
/// }
/// assert_eq!(steps, 111);
/// # Ok::<(), swath::Error>(())
/// ```
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct AsCompleted<T> {
    /// By their places.
    futures: Vec<Option<Future<T>>>,
    /// Places without a future, which nobody will be told of any more.
    free: Vec<usize>,
    arrivals: Arc<CompletionQueue>,
}

impl<T> AsCompleted<T> {
    pub(super) fn new(futures: Vec<Future<T>>) -> Self {
        let arrivals = CompletionQueue::of(by_submission(&futures, 0));
        Self { futures: futures.into_iter().map(Some).collect(), free: Vec::new(), arrivals }
    }

    /// One more to wait for. It may be done already, or be here a second time.
    pub fn add(&mut self, future: Future<T>) {
        let place = self.free.pop().unwrap_or(self.futures.len());
        future.output().submission.tell_one(future.output().index, place, &self.arrivals);
        match self.futures.get_mut(place) {
            Some(free) => *free = Some(future),
            None => self.futures.push(Some(future)),
        }
    }

    /// How many have not been given out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.futures.len() - self.free.len()
    }

    /// Whether all have been given out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In a fork all are done at once, as each is an error there.
    fn if_elsewhere(&self) -> Option<usize> {
        self.arrivals.is_elsewhere().then(|| self.futures.iter().position(Option::is_some)).flatten()
    }

    /// For a task that is not wanted any more: one that is not done. Its result says so at once.
    fn any_left(&self) -> Option<usize> {
        is_in_vain().then(|| self.futures.iter().position(Option::is_some)).flatten()
    }

    fn hand_out(&mut self, place: usize) -> Option<Future<T>> {
        let future = self.futures.get_mut(place)?.take()?;
        self.free.push(place);
        if self.is_empty() {
            // Later ones lie one behind the other again.
            self.futures.clear();
            self.free.clear();
        }
        Some(future)
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Option<Future<T>> {
        let place = self.if_elsewhere().or_else(|| self.arrivals.pop(deadline)).or_else(|| self.any_left())?;
        footer::settle();
        self.hand_out(place)
    }

    /// The next future that is done, for async code.
    ///
    /// ```
    /// # use swath::Client;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let mut completed = client.as_completed(client.map(|x: u64| x * x, 1..=5_u64)?);
    /// let mut sum = 0;
    /// while let Some(square) = completed.next_async().await {
    ///     sum += square.await?;
    /// }
    /// assert_eq!(sum, 55);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn next_async(&mut self) -> Option<Future<T>> {
        if self.is_empty() {
            return None;
        }
        let place = match self.if_elsewhere() {
            Some(place) => place,
            None => poll_waiting(|cx| self.arrivals.poll(cx.waker())).await.ok().or_else(|| self.any_left())?,
        };
        self.hand_out(place)
    }

    /// The next future that is done, if one is before `timeout` is over. `None`: there is none left.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over; all that are left can still be waited for. [`Error::Unsupported`] where it
    /// would wait for itself, see [`Client::wait`](crate::Client::wait).
    ///
    /// ```
    /// use std::time::Duration;
    /// use swath::{Client, Error};
    /// let client = Client::threads(1);
    /// let slow = client.map(|ms: u64| std::thread::sleep(Duration::from_millis(ms)), [200])?;
    /// let mut completed = client.as_completed(slow);
    /// assert!(matches!(completed.next_timeout(Duration::from_millis(1)), Err(Error::Timeout { .. })));
    /// assert!(completed.next_timeout(Duration::from_secs(60))?.is_some());
    /// assert!(completed.next_timeout(Duration::ZERO)?.is_none());
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Future<T>>> {
        if self.is_empty() {
            return Ok(None);
        }
        match self.next_until(Instant::now().checked_add(timeout)) {
            Some(future) => Ok(Some(future)),
            None => Err(waited_in_vain(Some(timeout))),
        }
    }

    /// [`next_timeout`](Self::next_timeout) for async code; a thread of its own keeps the time.
    ///
    /// ```
    /// # use swath::Client;
    /// use std::time::Duration;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let mut completed = client.as_completed(client.map(|x: u64| x * x, [3_u64])?);
    /// assert!(completed.next_timeout_async(Duration::from_secs(60)).await?.is_some());
    /// assert!(completed.next_timeout_async(Duration::ZERO).await?.is_none());
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`next_timeout`](Self::next_timeout).
    pub async fn next_timeout_async(&mut self, timeout: Duration) -> Result<Option<Future<T>>> {
        blocking::timeout(timeout, self.next_async()).await?.ok_or(Error::Timeout { waited: timeout })
    }

    /// Waits until a future is done, and gives all that are by then. `None`: there is none left.
    ///
    /// ```
    /// # use swath::Client;
    /// let client = Client::threads(2);
    /// let mut completed = client.as_completed(client.map(|x: u64| x * x, 0..9_u64)?);
    /// completed.extend(client.map(|x: u64| x + 1, 0..9_u64)?);
    /// let mut done = 0;
    /// while let Some(batch) = completed.next_batch() {
    ///     done += batch.len();
    /// }
    /// assert_eq!((done, completed.len(), completed.is_empty()), (18, 0, true));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn next_batch(&mut self) -> Option<Vec<Future<T>>> {
        let first = self.next()?;
        Some(self.with_others(first))
    }

    /// [`next_batch`](Self::next_batch) for async code.
    ///
    /// ```
    /// # use swath::Client;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let mut completed = client.as_completed(client.map(|x: u64| x * x, 0..9_u64)?);
    /// let mut done = 0;
    /// while let Some(batch) = completed.next_batch_async().await {
    ///     done += batch.len();
    /// }
    /// assert_eq!(done, 9);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn next_batch_async(&mut self) -> Option<Vec<Future<T>>> {
        let first = self.next_async().await?;
        Some(self.with_others(first))
    }

    /// A future with all others that are done.
    fn with_others(&mut self, first: Future<T>) -> Vec<Future<T>> {
        let mut batch = vec![first];
        while !self.is_empty()
            && let Some(place) = self.if_elsewhere().or_else(|| self.arrivals.pop_arrived())
        {
            batch.extend(self.hand_out(place));
        }
        batch
    }

    /// All that are done at a time, again and again until none is left: [`next_batch`](Self::next_batch) as an iterator.
    ///
    /// ```
    /// use swath::Client;
    /// let client = Client::threads(2);
    /// let mut completed = client.as_completed(client.map(|x: u64| x * x, 0..100_u64)?);
    /// let mut sum = 0;
    /// for batch in completed.batches() {
    ///     sum += client.gather(&batch)?.iter().sum::<u64>();
    /// }
    /// assert_eq!(sum, 328_350);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn batches(&mut self) -> Batches<'_, T> {
        Batches(self)
    }
}

impl<T: Data> AsCompleted<T> {
    /// Each future with its result, which comes here as soon as the task is done.
    ///
    /// ```
    /// use swath::Client;
    /// let client = Client::threads(2);
    /// let tenths = client.map(|x: u64| 10 / x, 0..5_u64)?;
    /// let (good, bad): (Vec<_>, Vec<_>) =
    ///     client.as_completed(tenths).with_results().partition(|(_, result)| result.is_ok());
    /// assert_eq!((good.len(), bad.len()), (4, 1));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn with_results(self) -> WithResults<T> {
        want_here(&self.futures.iter().flatten().cloned().collect::<Vec<_>>());
        WithResults(self)
    }
}

impl<T> Extend<Future<T>> for AsCompleted<T> {
    /// More to wait for.
    fn extend<I: IntoIterator<Item = Future<T>>>(&mut self, futures: I) {
        let mut futures = futures.into_iter();
        while !self.free.is_empty() {
            match futures.next() {
                Some(future) => self.add(future),
                None => return,
            }
        }
        let futures: Vec<Future<T>> = futures.collect();
        for (submission, places) in by_submission(&futures, self.futures.len()) {
            submission.tell_each(places.in_order(), &self.arrivals);
        }
        self.futures.extend(futures.into_iter().map(Some));
    }
}

impl<T> Iterator for AsCompleted<T> {
    type Item = Future<T>;

    fn next(&mut self) -> Option<Future<T>> {
        if self.is_empty() { None } else { self.next_until(None) }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsCompleted({} left)", self.len())
    }
}

/// Futures that are done at a time, see [`AsCompleted::batches`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
#[derive(Debug)]
pub struct Batches<'a, T>(&'a mut AsCompleted<T>);

impl<T> Iterator for Batches<'_, T> {
    type Item = Vec<Future<T>>;

    fn next(&mut self) -> Option<Vec<Future<T>>> {
        self.0.next_batch()
    }
}

impl<T> FusedIterator for Batches<'_, T> {}

/// Futures in the order in which they are done, each with its result: see [`AsCompleted::with_results`].
///
/// ```
/// use std::time::Duration;
/// use swath::Client;
/// let client = Client::threads(1);
/// let square = |x: u64| x * x;
/// let mut completed = client.as_completed(client.map(square, [1_u64, 2])?).with_results();
/// completed.extend(client.map(square, [3_u64])?);
/// completed.add(client.map(square, [4_u64])?.remove(0));
/// assert_eq!(completed.len(), 4);
/// let (_, first) = completed.next_timeout(Duration::from_secs(60))?.unwrap();
/// let sum = completed.by_ref().try_fold(first?, |sum, (_, square)| square.map(|square| sum + square))?;
/// assert!(sum == 30 && completed.is_empty());
/// # Ok::<(), swath::Error>(())
/// ```
#[must_use = "iterators are lazy and do nothing unless consumed"]
#[derive(Debug)]
pub struct WithResults<T>(AsCompleted<T>);

impl<T: Data> WithResults<T> {
    /// One more to wait for, as [`AsCompleted::add`].
    pub fn add(&mut self, future: Future<T>) {
        want_here(std::slice::from_ref(&future));
        self.0.add(future);
    }

    /// How many have not been given out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all have been given out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next future that is done, with its result, for async code.
    ///
    /// ```
    /// # use swath::Client;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let mut completed = client.as_completed(client.map(|x: u64| x * x, 1..=5_u64)?).with_results();
    /// let mut sum = 0;
    /// while let Some((_, square)) = completed.next_async().await {
    ///     sum += square?;
    /// }
    /// assert_eq!(sum, 55);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn next_async(&mut self) -> Option<(Future<T>, Result<T>)> {
        let future = self.0.next_async().await?;
        let result = (&future).await;
        Some((future, result))
    }

    /// The next future that is done, with its result, if one is before `timeout` is over. `None`: there is none left.
    ///
    /// # Errors
    /// As [`AsCompleted::next_timeout`]. A task that failed is no such error.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<(Future<T>, Result<T>)>> {
        Ok(self.0.next_timeout(timeout)?.map(with_result))
    }

    /// [`next_timeout`](Self::next_timeout) for async code; a thread of its own keeps the time.
    ///
    /// ```
    /// # use swath::Client;
    /// use std::time::Duration;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let mut completed = client.as_completed(client.map(|x: u64| x * x, [3_u64])?).with_results();
    /// let (_, square) = completed.next_timeout_async(Duration::from_secs(60)).await?.unwrap();
    /// assert_eq!(square?, 9);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`next_timeout`](Self::next_timeout).
    pub async fn next_timeout_async(&mut self, timeout: Duration) -> Result<Option<(Future<T>, Result<T>)>> {
        let Some(future) = self.0.next_timeout_async(timeout).await? else { return Ok(None) };
        let result = (&future).await;
        Ok(Some((future, result)))
    }
}

fn with_result<T: Data>(future: Future<T>) -> (Future<T>, Result<T>) {
    let result = future.result();
    (future, result)
}

impl<T: Data> Extend<Future<T>> for WithResults<T> {
    /// More to wait for.
    fn extend<I: IntoIterator<Item = Future<T>>>(&mut self, futures: I) {
        let futures: Vec<Future<T>> = futures.into_iter().collect();
        want_here(&futures);
        self.0.extend(futures);
    }
}

impl<T: Data> Iterator for WithResults<T> {
    type Item = (Future<T>, Result<T>);

    fn next(&mut self) -> Option<(Future<T>, Result<T>)> {
        self.0.next().map(with_result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::sync::SyncExecutor;
    use crate::graph::label::TaskLabel;
    use crate::submission::handle::{ResultHandle, ResultState, Submission, cancelled};
    use crate::task::function::{Record, TaskFunction};

    fn label(at: u128) -> TaskLabel {
        fn record<F: TaskFunction<(u64,), u64>>(_: F) -> &'static Record {
            F::RECORD
        }
        TaskLabel::plain(record(|x: u64| x), at)
    }

    #[test]
    fn what_is_run_again_is_not_told_of_again() {
        let submission = Submission::of_values(0, SyncExecutor::new(0), (0..3).map(label).collect());
        let failed = || ResultState::Failed(cancelled(&submission.label(0)));
        submission.settle([(0, failed())]);
        let futures = (0..3).map(|index| Future::<u64>::new(ResultHandle::new(&submission, index))).collect();
        let mut completed = AsCompleted::new(futures);
        submission.settle([(1, failed())]);
        let done: Vec<u32> = completed.by_ref().take(2).map(|future| future.output().index).collect();
        assert_eq!(done, [0, 1]);
        assert!(submission.reopen(0) && submission.reopen(1));
        submission.settle((0..3).map(|index| (index, ResultState::Value(crate::task::Value::new(u64::from(index))))));
        assert_eq!(completed.map(|future| future.output().index).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn places_are_used_again_and_nobody_is_told_twice() {
        let submission = Submission::of_values(0, SyncExecutor::new(0), (0..9).map(label).collect());
        let future = |index| Future::<u64>::new(ResultHandle::new(&submission, index));
        let settle = |index: u32| {
            submission.settle([(index, ResultState::Value(crate::task::Value::new(u64::from(index))))]);
        };
        let mut completed = AsCompleted::new(vec![future(0)]);
        for index in 1..8 {
            completed.add(future(index));
            settle(index - 1);
            assert_eq!(completed.next().map(|future| future.output().index), Some(index - 1));
            assert_eq!((completed.len(), completed.arrivals.pop_arrived()), (1, None));
        }
        // Once for the future that stays, once for those that come and go.
        assert_eq!(completed.futures.len(), 2);
        completed.extend([8, 8, 7].map(future));
        assert_eq!(completed.len(), 4);
        settle(8);
        assert_eq!(completed.next_batch().map(|batch| batch.len()), Some(2));
        settle(7);
        assert_eq!(completed.batches().map(|batch| batch.len()).collect::<Vec<_>>(), [2]);
        assert!(completed.is_empty() && completed.futures.is_empty());
    }
}
