//! Waiting for several futures.

use super::future::Future;
use crate::submission::handle::{Output, Run};
use crate::submission::waiter::{Watcher, wait_until};
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

/// Outputs that follow each other, as their futures do in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    slot: u32,
    len: u32,
    place: usize,
}

impl Stretch {
    fn end(&self) -> u32 {
        self.slot + self.len
    }

    fn each(self) -> impl Iterator<Item = (u32, usize)> {
        (self.slot..self.end()).zip(self.place..)
    }
}

/// Outputs of one run, each with the place of its future in a list. Takes no more room than the list is out of order.
#[derive(Debug, Default)]
pub(crate) struct Places {
    stretches: Vec<Stretch>,
    len: usize,
}

impl Places {
    fn push(&mut self, slot: u32, len: usize, place: usize) {
        self.len += len;
        self.stretches.push(Stretch { slot, len: len as u32, place });
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Each output and its place.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, usize)> {
        self.stretches.iter().flat_map(|stretch| stretch.each())
    }

    /// The same, so that they can be found by their outputs.
    fn in_order(mut self) -> Self {
        self.stretches.sort_unstable_by_key(|stretch| stretch.slot);
        if self.stretches.windows(2).any(|pair| pair[0].end() > pair[1].slot) {
            // Some outputs are in the list more than once.
            self.stretches = self.each().map(|(slot, place)| Stretch { slot, len: 1, place }).collect();
            self.stretches.sort_unstable_by_key(|stretch| stretch.slot);
        }
        self
    }

    /// Where an output is in the list. They must be in order.
    pub(crate) fn of(&self, slot: u32) -> impl Iterator<Item = usize> {
        let first = self.stretches.partition_point(|stretch| stretch.end() <= slot);
        let found = self.stretches[first..].iter().take_while(move |stretch| stretch.slot <= slot);
        found.map(move |stretch| stretch.place + (slot - stretch.slot) as usize)
    }

    /// The outputs before `end`, and their places. They must be in order.
    pub(crate) fn before(&self, end: u32) -> impl Iterator<Item = (u32, usize)> {
        self.each().take_while(move |(slot, _)| *slot < end)
    }
}

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
    let mut place = 0;
    // Futures of one run mostly follow each other.
    for stretch in futures.chunk_by(|a, b| a.output().is_before(b.output())) {
        let Output { run, slot } = stretch[0].output();
        let at = *known.entry(Arc::as_ptr(run)).or_insert_with(|| {
            runs.push((run, Places::default()));
            runs.len() - 1
        });
        runs[at].1.push(*slot, stretch.len(), place);
        place += stretch.len();
    }
    runs
}

impl Arrivals {
    fn of<T>(futures: &[Future<T>]) -> Arc<Self> {
        let arrivals = Arc::new(Self::default());
        for (run, places) in by_run(futures) {
            run.tell_each(places.in_order(), &arrivals);
        }
        arrivals
    }

    pub(crate) fn arrive(&self, places: Vec<usize>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::sync::SyncRunner;
    use crate::graph::label::Label;
    use crate::submission::handle::{Slot, cancelled};
    use crate::task::function::{Record, TaskFunction};

    fn places(slots: &[u32]) -> Places {
        let (mut places, mut place) = (Places::default(), 0);
        for stretch in slots.chunk_by(|a, b| a + 1 == *b) {
            places.push(stretch[0], stretch.len(), place);
            place += stretch.len();
        }
        places.in_order()
    }

    fn of(places: &Places, slot: u32) -> Vec<usize> {
        let mut found: Vec<_> = places.of(slot).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn places_are_found_whatever_the_order_of_the_list() {
        for slots in [&[0, 1, 2, 3][..], &[3, 2, 1, 0], &[5, 6, 7, 1, 2], &[1, 2, 3, 2, 3, 4, 2], &[4, 4, 4], &[]] {
            let places = places(slots);
            assert_eq!(places.len(), slots.len());
            for slot in 0..9 {
                let wanted: Vec<_> = (0..slots.len()).filter(|&place| slots[place] == slot).collect();
                assert_eq!(of(&places, slot), wanted, "{slot} in {slots:?}");
                assert_eq!(places.before(slot).count(), slots.iter().filter(|&&s| s < slot).count());
            }
        }
        assert_eq!(places(&[5, 6, 7, 1, 2]).stretches.len(), 2);
    }

    #[test]
    fn what_is_run_again_is_not_told_of_again() {
        fn record<F: TaskFunction<(u64,), u64>>(_: F) -> &'static Record {
            F::RECORD
        }
        let label = |at| Label::new(record(|x: u64| x), None, at);
        let run = Run::of_values(0, SyncRunner::new(0), (0..3).map(label).collect());
        let failed = || Slot::Failed(cancelled(&run.label(0)));
        run.settle([(0, failed())]);
        let futures = (0..3).map(|slot| Future::<u64>::new(Output::new(&run, slot))).collect();
        let mut completed = AsCompleted::new(futures);
        run.settle([(1, failed())]);
        let done: Vec<u32> = completed.by_ref().take(2).map(|future| future.output().slot).collect();
        assert_eq!(done, [0, 1]);
        assert!(run.reopen(0) && run.reopen(1));
        run.settle((0..3).map(|slot| (slot, Slot::Value(Arc::new(u64::from(slot))))));
        assert_eq!(completed.map(|future| future.output().slot).collect::<Vec<_>>(), [2]);
    }
}
