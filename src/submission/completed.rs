//! Results of several submissions in the order in which they are there.

use super::Submission;
use crate::ipc::fork::Origin;
use crate::submission::waiter::{Waiter, wait_until};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

/// Outputs that follow each other, as their futures do in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    index: u32,
    len: u32,
    place: usize,
}

impl Stretch {
    fn end(&self) -> u32 {
        self.index + self.len
    }

    fn each(self) -> impl Iterator<Item = (u32, usize)> {
        (self.index..self.end()).zip(self.place..)
    }
}

/// Outputs of one run, each with the place of its future in a list. Takes no more room than the list is out of order.
#[derive(Debug, Default)]
pub(crate) struct ListPositions {
    stretches: Vec<Stretch>,
    len: usize,
}

impl ListPositions {
    pub(crate) fn push(&mut self, index: u32, len: usize, place: usize) {
        self.len += len;
        self.stretches.push(Stretch { index, len: len as u32, place });
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Each output and its place.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, usize)> {
        self.stretches.iter().flat_map(|stretch| stretch.each())
    }

    /// The same, so that they can be found by their outputs.
    pub(crate) fn in_order(mut self) -> Self {
        self.stretches.sort_unstable_by_key(|stretch| stretch.index);
        if self.stretches.windows(2).any(|pair| pair[0].end() > pair[1].index) {
            // Some outputs are in the list more than once.
            self.stretches = self.each().map(|(index, place)| Stretch { index, len: 1, place }).collect();
            self.stretches.sort_unstable_by_key(|stretch| stretch.index);
        }
        self
    }

    /// Where an output is in the list. They must be in order.
    pub(crate) fn of(&self, index: u32) -> impl Iterator<Item = usize> {
        let first = self.stretches.partition_point(|stretch| stretch.end() <= index);
        let found = self.stretches[first..].iter().take_while(move |stretch| stretch.index <= index);
        found.map(move |stretch| stretch.place + (index - stretch.index) as usize)
    }

    /// The outputs before `end`, and their places. They must be in order.
    pub(crate) fn before(&self, end: u32) -> impl Iterator<Item = (u32, usize)> {
        self.each().take_while(move |(index, _)| *index < end)
    }
}

/// Places of futures in a list, in the order in which they were done.
pub(crate) struct CompletionQueue {
    origin: Origin,
    /// Those that have not been looked at, and the one who waits for the next.
    queue: Mutex<(VecDeque<usize>, Option<Waiter>)>,
}

impl Default for CompletionQueue {
    fn default() -> Self {
        Self { origin: Origin::here(), queue: Mutex::default() }
    }
}

impl CompletionQueue {
    /// Whether nothing arrives any more, in a fork of the process it was made in.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.origin.is_elsewhere()
    }

    /// The queue of these results of several submissions, each with its place in a list.
    pub(crate) fn of<'a>(runs: impl IntoIterator<Item = (&'a Arc<Submission>, ListPositions)>) -> Arc<Self> {
        let arrivals = Arc::new(Self::default());
        for (run, places) in runs {
            run.tell_each(places.in_order(), &arrivals);
        }
        arrivals
    }

    pub(crate) fn arrive(&self, places: impl IntoIterator<Item = usize>) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.0.extend(places);
            queue.1.take()
        };
        if let Some(waiting) = waiting {
            waiting.fire();
        }
    }

    fn pop_or(&self, watcher: impl FnOnce() -> Waiter) -> Option<usize> {
        let place = self.pop_arrived();
        if place.is_some() {
            return place;
        }
        // Cloning a waker runs the code of whoever made it, and so does dropping one: not under the lock.
        let watcher = watcher();
        let mut queue = self.queue.lock();
        let place = queue.0.pop_front();
        let unused = match place {
            Some(_) => Some(watcher),
            // Whoever asked before has gone, or is the same again.
            None => queue.1.replace(watcher),
        };
        drop(queue);
        drop(unused);
        place
    }

    /// The first of those that have arrived.
    pub(crate) fn pop_arrived(&self) -> Option<usize> {
        self.queue.lock().0.pop_front()
    }

    pub(crate) fn pop(&self, deadline: Option<Instant>) -> Option<usize> {
        let mut found = None;
        wait_until(deadline, || {
            found = self.pop_or(Waiter::here);
            found.is_some()
        });
        found
    }

    pub(crate) fn poll(&self, waker: &Waker) -> Poll<usize> {
        self.pop_or(|| Waiter::waker(waker)).map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(indices: &[u32]) -> ListPositions {
        let (mut places, mut place) = (ListPositions::default(), 0);
        for stretch in indices.chunk_by(|a, b| a + 1 == *b) {
            places.push(stretch[0], stretch.len(), place);
            place += stretch.len();
        }
        places.in_order()
    }

    fn of(places: &ListPositions, index: u32) -> Vec<usize> {
        let mut found: Vec<_> = places.of(index).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn places_are_found_whatever_the_order_of_the_list() {
        for indices in [&[0, 1, 2, 3][..], &[3, 2, 1, 0], &[5, 6, 7, 1, 2], &[1, 2, 3, 2, 3, 4, 2], &[4, 4, 4], &[]] {
            let places = places(indices);
            assert_eq!(places.len(), indices.len());
            for index in 0..9 {
                let wanted: Vec<_> = (0..indices.len()).filter(|&place| indices[place] == index).collect();
                assert_eq!(of(&places, index), wanted, "{index} in {indices:?}");
                assert_eq!(places.before(index).count(), indices.iter().filter(|&&s| s < index).count());
            }
        }
        assert_eq!(places(&[5, 6, 7, 1, 2]).stretches.len(), 2);
    }
}
