//! Waiting for several futures.

use super::future::Future;
use super::output::Run;
use super::watcher::{Watcher, wait_until};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

/// How many futures to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// All of them.
    All,
    /// At least one.
    Any,
}

/// Outputs of one run, each with the place of its future in a list.
pub(crate) type Places = Vec<(u32, usize)>;

/// Places of futures in a list, in the order in which they were done.
#[derive(Default)]
pub(crate) struct Arrivals {
    /// Those that have not been looked at, and the one who waits for the next.
    queue: Mutex<(VecDeque<usize>, Option<Watcher>)>,
}

/// The outputs behind some futures, by run, each with its place in the list.
pub(super) fn by_run<T>(futures: &[Future<T>]) -> Vec<(&Arc<Run>, Places)> {
    let mut runs: Vec<(&Arc<Run>, Places)> = Vec::new();
    let mut known: FxHashMap<*const Run, usize> = FxHashMap::default();
    let mut last = None;
    for (place, future) in futures.iter().enumerate() {
        let output = future.output();
        let run = Arc::as_ptr(&output.run);
        // Futures of one run mostly follow each other.
        let at = match last {
            Some((other, at)) if other == run => at,
            _ => *known.entry(run).or_insert_with(|| {
                runs.push((&output.run, Vec::new()));
                runs.len() - 1
            }),
        };
        last = Some((run, at));
        runs[at].1.push((output.slot, place));
    }
    runs
}

impl Arrivals {
    fn of<T>(futures: &[Future<T>]) -> Arc<Self> {
        let arrivals = Arc::new(Self::default());
        for (run, places) in by_run(futures) {
            run.tell_each(places, &arrivals);
        }
        arrivals
    }

    pub(super) fn arrive(&self, places: Vec<usize>) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.0.extend(places);
            queue.1.take()
        };
        if let Some(waiting) = waiting {
            waiting.fire();
        }
    }

    fn pop_or(&self, watcher: impl FnOnce() -> Watcher) -> Option<usize> {
        let mut queue = self.queue.lock();
        let place = queue.0.pop_front();
        if place.is_none() {
            // Whoever asked before has gone, or is the same again.
            queue.1 = Some(watcher());
        }
        place
    }

    fn pop(&self, deadline: Option<Instant>) -> Option<usize> {
        let mut found = None;
        wait_until(deadline, || {
            found = self.pop_or(Watcher::here);
            found.is_some()
        });
        found
    }

    fn poll(&self, waker: &Waker) -> Poll<usize> {
        self.pop_or(|| Watcher::Waker(waker.clone())).map_or(Poll::Pending, Poll::Ready)
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
    let arrivals = Arrivals::of(futures);
    (0..wanted(futures.len(), how)).all(|_| arrivals.pop(deadline).is_some())
}

pub(super) async fn wait_async<T>(futures: &[Future<T>], how: WaitFor) {
    let arrivals = Arrivals::of(futures);
    for _ in 0..wanted(futures.len(), how) {
        std::future::poll_fn(|cx| arrivals.poll(cx.waker())).await;
    }
}

/// Futures in the order in which they are done, see [`Client::as_completed`](crate::Client::as_completed).
pub struct AsCompleted<T> {
    futures: Vec<Option<Future<T>>>,
    arrivals: Arc<Arrivals>,
    left: usize,
}

impl<T> AsCompleted<T> {
    pub(super) fn new(futures: Vec<Future<T>>) -> Self {
        let arrivals = Arrivals::of(&futures);
        Self { left: futures.len(), futures: futures.into_iter().map(Some).collect(), arrivals }
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
        let place = std::future::poll_fn(|cx| self.arrivals.poll(cx.waker())).await;
        self.hand_out(place)
    }
}

impl<T> Iterator for AsCompleted<T> {
    type Item = Future<T>;

    fn next(&mut self) -> Option<Future<T>> {
        if self.left == 0 {
            return None;
        }
        let place = self.arrivals.pop(None)?;
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
