//! Waiting for the results of many futures.

use super::future::Future;
use super::wait::{by_submission, want_here};
use super::{Client, Failing};
use crate::error::{Result, TaskError};
use crate::status::Mode;
use crate::submission::completed::CompletionQueue;
use crate::submission::handle::{ResultHandle, Submission};
use crate::submission::waiter::waited_in_vain;
use crate::task::Data;
use crate::task::wait::poll_waiting;
use std::sync::Arc;
use std::task::Poll;

/// What has become of many futures, see [`Client::gather_with`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Gathered<T> {
    /// The results of those that have one, in their order.
    pub values: Vec<T>,
    /// The failures of the others, each with its place in the list of futures.
    pub failed: Vec<(usize, TaskError)>,
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

/// Futures that are waited for until all are done, or one has failed.
struct UntilFailure<'a, T> {
    futures: &'a [Future<T>],
    arrivals: Arc<CompletionQueue>,
    left: usize,
}

impl<'a, T> UntilFailure<'a, T> {
    fn of(futures: &'a [Future<T>]) -> Self {
        Self { futures, arrivals: CompletionQueue::of(by_submission(futures, 0)), left: futures.len() }
    }

    /// Takes notice of one that is done. If it has failed, gives the failure of the first that has one.
    fn take(&mut self, place: usize) -> Result<()> {
        self.left -= 1;
        if self.futures.get(place).and_then(Future::failure).is_none() {
            return Ok(());
        }
        self.futures.iter().find_map(Future::failure).map_or(Ok(()), |error| Err(error.into()))
    }

    fn wait(mut self) -> Result<()> {
        while self.left > 0 {
            let place = self.arrivals.pop(None).ok_or_else(|| waited_in_vain(None))?;
            self.take(place)?;
        }
        Ok(())
    }

    async fn wait_async(mut self) -> Result<()> {
        while self.left > 0 {
            let place = poll_waiting(|cx| self.arrivals.poll(cx.waker())).await?;
            self.take(place)?;
        }
        Ok(())
    }
}

impl<T> Gathered<T> {
    fn of(n: usize) -> Self {
        Self { values: Vec::with_capacity(n), failed: Vec::new() }
    }
}

impl<T: Data> Gathered<T> {
    /// Takes what has become of the next one. An error is that of nobody's task.
    fn take(&mut self, future: &Future<T>, result: Result<T>) -> Result<()> {
        match result {
            Ok(value) => self.values.push(value),
            Err(error) => {
                let failure = future.failure_of(error)?;
                self.failed.push((self.values.len() + self.failed.len(), failure));
            }
        }
        Ok(())
    }

    /// The first failure as an error, where none is allowed.
    fn unless_failed(mut self, failing: Failing) -> Result<Self> {
        match failing {
            Failing::Skip => Ok(self),
            _ if self.failed.is_empty() => Ok(self),
            _ => Err(self.failed.swap_remove(0).1.into()),
        }
    }
}

impl Client {
    /// Waits for the results of futures, in their order.
    ///
    /// ```
    /// # use swath::Client;
    /// let client = Client::threads(2);
    /// let squares = client.map(|x: u64| x * x, 1..=3_u64)?;
    /// assert_eq!(client.gather(&squares)?, [1, 4, 9]);
    /// # Ok::<(), swath::Error>(())
    /// ```
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
    /// ```
    /// # use swath::Client;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let squares = client.map_async(|x: u64| x * x, 1..=3_u64).await?;
    /// assert_eq!(client.gather_async(&squares).await?, [1, 4, 9]);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// [`gather`](Self::gather) that says what becomes of the results when a future has failed:
    ///
    /// - [`Failing::Skip`]: waits for all, and gives both, the results of those that have one and the failures of the others.
    /// - [`Failing::Wait`]: waits for all; then the error is the failure of the first that has one.
    /// - [`Failing::Fast`]: the first failure is the error, at once. The futures are left as they are: none is cancelled.
    /// - [`Failing::AsBuilt`]: one of the last two, as the client was built.
    ///
    /// ```
    /// use swath::client::Failing;
    /// use swath::Client;
    /// let client = Client::threads(2);
    /// let tenths = client.map(|x: u64| 10 / x, 0..5_u64)?;
    /// let gathered = client.gather_with(&tenths, Failing::Skip)?;
    /// assert_eq!(gathered.values, [10, 5, 3, 2]);
    /// assert_eq!(gathered.failed[0].0, 0);
    /// assert!(gathered.failed[0].1.to_string().contains("divide by zero"));
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// The failure, but for [`Failing::Skip`]; [`Error::Unsupported`](crate::Error::Unsupported) where it would wait for
    /// itself, see [`wait`](Self::wait).
    pub fn gather_with<T: Data>(&self, futures: &[Future<T>], failing: Failing) -> Result<Gathered<T>> {
        want_here(futures);
        if self.is_fast(failing) {
            UntilFailure::of(futures).wait()?;
        } else if let Some(submission) = whole_submission(futures) {
            submission.wait_all_or_failure();
        }
        let mut gathered = Gathered::of(futures.len());
        for future in futures {
            gathered.take(future, future.result())?;
        }
        gathered.unless_failed(failing)
    }

    /// [`gather_with`](Self::gather_with) for async code.
    ///
    /// ```
    /// # use swath::Client;
    /// use swath::client::Failing;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let tenths = client.map(|x: u64| 10 / x, 0..5_u64)?;
    /// let gathered = client.gather_with_async(&tenths, Failing::Skip).await?;
    /// assert_eq!((gathered.values, gathered.failed[0].0), (vec![10, 5, 3, 2], 0));
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`gather_with`](Self::gather_with).
    pub async fn gather_with_async<T: Data>(&self, futures: &[Future<T>], failing: Failing) -> Result<Gathered<T>> {
        want_here(futures);
        if self.is_fast(failing) {
            UntilFailure::of(futures).wait_async().await?;
        }
        let mut gathered = Gathered::of(futures.len());
        for future in futures {
            gathered.take(future, future.await)?;
        }
        gathered.unless_failed(failing)
    }
}
