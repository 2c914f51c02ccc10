//! Waiting for several futures.

use super::future::Future;
use crate::error::Result;
use crate::submission::completed::CompletionQueue;
use crate::submission::completed::ListPositions;
use crate::submission::handle::{ResultHandle, Submission};
use crate::task::wait::{is_in_vain, poll_waiting};
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// How many futures to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitFor {
    /// All of them.
    All,
    /// At least one.
    Any,
}

/// The outputs behind some futures, by submission, each with its place in the list.
pub(super) fn by_submission<T>(futures: &[Future<T>]) -> Vec<(&Arc<Submission>, ListPositions)> {
    let mut submissions: Vec<(&Arc<Submission>, ListPositions)> = Vec::new();
    let mut known: FxHashMap<*const Submission, usize> = FxHashMap::default();
    let mut place = 0;
    // Futures of one submission mostly follow each other.
    for stretch in futures.chunk_by(|a, b| a.output().is_before(b.output())) {
        let ResultHandle { submission, index } = stretch[0].output();
        let at = *known.entry(Arc::as_ptr(submission)).or_insert_with(|| {
            submissions.push((submission, ListPositions::default()));
            submissions.len() - 1
        });
        submissions[at].1.push(*index, stretch.len(), place);
        place += stretch.len();
    }
    submissions
}

/// How many of the futures must be done.
fn wanted(n: usize, how: WaitFor) -> usize {
    match how {
        WaitFor::All => n,
        WaitFor::Any => n.min(1),
    }
}

pub(super) fn wait<T>(futures: &[Future<T>], how: WaitFor, deadline: Option<Instant>) -> bool {
    let arrivals = CompletionQueue::of(by_submission(futures));
    (0..wanted(futures.len(), how)).all(|_| arrivals.pop(deadline).is_some())
}

pub(super) async fn wait_async<T>(futures: &[Future<T>], how: WaitFor) -> Result<()> {
    let arrivals = CompletionQueue::of(by_submission(futures));
    for _ in 0..wanted(futures.len(), how) {
        poll_waiting(|cx| arrivals.poll(cx.waker())).await?;
    }
    Ok(())
}

/// Futures in the order in which they are done, see [`Client::as_completed`](crate::Client::as_completed).
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct AsCompleted<T> {
    futures: Vec<Option<Future<T>>>,
    arrivals: Arc<CompletionQueue>,
    left: usize,
}

impl<T> AsCompleted<T> {
    pub(super) fn new(futures: Vec<Future<T>>) -> Self {
        let arrivals = CompletionQueue::of(by_submission(&futures));
        Self { left: futures.len(), futures: futures.into_iter().map(Some).collect(), arrivals }
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
        self.left -= 1;
        self.futures[place].take()
    }

    /// The next future that is done, for async code.
    pub async fn next_async(&mut self) -> Option<Future<T>> {
        if self.left == 0 {
            return None;
        }
        let place = match self.if_elsewhere() {
            Some(place) => place,
            None => poll_waiting(|cx| self.arrivals.poll(cx.waker())).await.ok().or_else(|| self.any_left())?,
        };
        self.hand_out(place)
    }
}

impl<T> Iterator for AsCompleted<T> {
    type Item = Future<T>;

    fn next(&mut self) -> Option<Future<T>> {
        if self.left == 0 {
            return None;
        }
        let place = self.if_elsewhere().or_else(|| self.arrivals.pop(None)).or_else(|| self.any_left())?;
        self.hand_out(place)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsCompleted({} left)", self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::sync::SyncExecutor;
    use crate::graph::label::TaskLabel;
    use crate::submission::handle::{ResultState, cancelled};
    use crate::task::function::{Record, TaskFunction};

    #[test]
    fn what_is_run_again_is_not_told_of_again() {
        fn record<F: TaskFunction<(u64,), u64>>(_: F) -> &'static Record {
            F::RECORD
        }
        let label = |at| TaskLabel::plain(record(|x: u64| x), at);
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
}
