//! Waiting for several futures.

use super::future::Future;
use crate::error::Result;
use crate::submission::completed::CompletionQueue;
use crate::submission::completed::ListPositions;
use crate::submission::handle::{ResultHandle, Submission};
use crate::task::wait::poll_waiting;
use rustc_hash::FxHashMap;
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

/// The outputs behind some futures, by submission, each with its place in a list, where they begin at `place`.
pub(super) fn by_submission<T>(futures: &[Future<T>], mut place: usize) -> Vec<(&Arc<Submission>, ListPositions)> {
    let mut submissions: Vec<(&Arc<Submission>, ListPositions)> = Vec::new();
    let mut known: FxHashMap<*const Submission, usize> = FxHashMap::default();
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

/// Asks for all results before anybody waits for one.
pub(super) fn want_here<T>(futures: &[Future<T>]) {
    for (submission, places) in by_submission(futures, 0) {
        submission.want_here(places.each().map(|(index, _)| index));
    }
}

/// How many of the futures must be done.
fn wanted(n: usize, how: WaitFor) -> usize {
    match how {
        WaitFor::All => n,
        WaitFor::Any => n.min(1),
    }
}

pub(super) fn wait<T>(futures: &[Future<T>], how: WaitFor, deadline: Option<Instant>) -> bool {
    let arrivals = CompletionQueue::of(by_submission(futures, 0));
    (0..wanted(futures.len(), how)).all(|_| arrivals.pop(deadline).is_some())
}

pub(super) async fn wait_async<T>(futures: &[Future<T>], how: WaitFor) -> Result<()> {
    let arrivals = CompletionQueue::of(by_submission(futures, 0));
    for _ in 0..wanted(futures.len(), how) {
        poll_waiting(|cx| arrivals.poll(cx.waker())).await?;
    }
    Ok(())
}
