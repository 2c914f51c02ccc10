//! The queue of a worker: in the order in which tasks were sent, but for those that overtake.

use super::{Rank, SHARE_OF_OLDEST, urgency};
use std::collections::VecDeque;

/// A task in the queue of a worker.
pub(crate) trait Queued {
    /// It overtakes those of a higher rank.
    fn rank(&self) -> Rank;
}

/// Tasks that have not begun. Where they overtake others of their priority, one start in [`SHARE_OF_OLDEST`] is that of the one
/// that has been here for longest, so that each waits for so many starts at most for each that is older, whatever comes.
#[derive(Debug)]
pub(crate) struct RunQueue<T> {
    /// Each with its number in the order in which they came.
    tasks: VecDeque<(u64, T)>,
    came: u64,
    /// How many have started before others of a higher rank since the oldest had its turn.
    overtook: u32,
}

impl<T: Queued> Queued for (u64, T) {
    fn rank(&self) -> Rank {
        self.1.rank()
    }
}

/// Puts a task at its place.
#[inline]
pub(crate) fn put<T: Queued>(tasks: &mut VecDeque<T>, task: T) {
    let rank = task.rank();
    if tasks.back().is_none_or(|last| last.rank() <= rank) {
        return tasks.push_back(task);
    }
    let at = tasks.iter().position(|other| other.rank() > rank).unwrap_or(tasks.len());
    tasks.insert(at, task);
}

impl<T> Default for RunQueue<T> {
    fn default() -> Self {
        Self { tasks: VecDeque::new(), came: 0, overtook: 0 }
    }
}

impl<T: Queued> RunQueue<T> {
    #[inline]
    pub(crate) fn push(&mut self, task: T) {
        self.came += 1;
        put(&mut self.tasks, (self.came, task));
    }

    /// Puts a task before all others of its priority.
    pub(crate) fn push_front(&mut self, task: T) {
        self.came += 1;
        let own = urgency(task.rank());
        let at = self.tasks.partition_point(|other| urgency(other.rank()) < own);
        self.tasks.insert(at, (self.came, task));
    }

    /// How many are of the first one's priority. They are before all others.
    fn equals(&self) -> usize {
        let first = self.tasks.front().map_or(0, |task| urgency(task.rank()));
        match self.tasks.back() {
            Some(last) if urgency(last.rank()) != first => self.tasks.partition_point(|t| urgency(t.rank()) == first),
            _ => self.tasks.len(),
        }
    }

    /// Where the next one to start is.
    #[inline]
    fn at(&self) -> usize {
        if self.overtook < SHARE_OF_OLDEST - 1 {
            return 0;
        }
        let oldest = self.tasks.iter().take(self.equals()).enumerate().min_by_key(|(_, (came, _))| *came);
        oldest.map_or(0, |(at, _)| at)
    }

    /// The next one to start.
    #[inline]
    pub(crate) fn front(&self) -> Option<&T> {
        self.tasks.get(self.at()).map(|(_, task)| task)
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let at = self.at();
        let last = self.equals().checked_sub(1)?;
        let overtakes = self.tasks[at].rank() < self.tasks[last].rank();
        let (_, task) = self.tasks.remove(at)?;
        self.overtook = if overtakes { (self.overtook + 1) % SHARE_OF_OLDEST } else { 0 };
        Some(task)
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.tasks.iter().map(|(_, task)| task)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.tasks.retain(|(_, task)| keep(task));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{CLASS_BITS, LAST};
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Sent(u32, Rank);

    impl Queued for Sent {
        fn rank(&self) -> Rank {
            self.1
        }
    }

    fn queue(tasks: &[Sent]) -> RunQueue<Sent> {
        let mut queue = RunQueue::default();
        tasks.iter().for_each(|task| queue.push(*task));
        queue
    }

    fn starts(mut queue: RunQueue<Sent>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).map(|task| task.0).collect()
    }

    #[test]
    fn a_task_overtakes_those_of_a_higher_rank() {
        let all = [Sent(1, LAST), Sent(2, 3), Sent(3, LAST), Sent(4, 1), Sent(5, 3), Sent(6, 1)];
        assert_eq!(starts(queue(&all)), [4, 6, 2, 5, 1, 3]);
    }

    #[test]
    fn one_start_in_eight_is_that_of_one_that_was_overtaken() {
        let mut all = vec![Sent(100, LAST), Sent(101, LAST)];
        all.extend((0..20).map(|n| Sent(n, 1)));
        let starts = starts(queue(&all));
        assert_eq!((starts[7], starts[15]), (100, 101), "{starts:?}");
    }

    #[test]
    fn none_starts_before_one_of_a_higher_priority() {
        let of = |priority: i64, rank: Rank| rank - (priority << CLASS_BITS);
        let mut all = vec![Sent(100, LAST), Sent(101, of(1, LAST)), Sent(102, LAST)];
        all.extend((0..20).map(|n| Sent(n, of(1, 1))));
        let mut queue = queue(&all);
        queue.push_front(Sent(103, LAST));
        queue.push_front(Sent(104, of(1, LAST)));
        let starts = starts(queue);
        assert_eq!((starts[0], starts[8]), (104, 101), "{starts:?}");
        assert_eq!(starts[22..], [103, 100, 102], "{starts:?}");
    }

    #[test]
    fn what_is_between_the_first_and_the_last_does_not_wait_for_ever() {
        let mut queue = queue(&[Sent(100, LAST), Sent(101, 2), Sent(102, LAST)]);
        let mut started = Vec::new();
        for n in 0..24 {
            queue.push(Sent(n, 1));
            started.push(queue.pop().unwrap().0);
        }
        assert_eq!((started[7], started[15], started[23]), (100, 101, 102), "{started:?}");
    }

    #[test]
    fn what_is_shown_is_what_starts_next() {
        let mut queue = queue(&(0..9).map(|n| Sent(n, 1)).chain([Sent(9, LAST)]).collect::<Vec<_>>());
        while let Some(next) = queue.front().copied() {
            assert_eq!(queue.pop(), Some(next));
        }
    }
}
