//! Where the outputs of a submission are made, if that is in other processes: which task makes which.
//!
//! The calls of a map are sent little by little. An output that is dropped before it has been sent is noted here, and
//! not sent at all.

use super::handle::ResultHandle;
use crate::ids::JobId;
use crate::lazy_map::LazyMap;
use parking_lot::{Condvar, Mutex};
use smallvec::SmallVec;
use std::ops::Range;

/// Outputs that follow each other, made by tasks that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexRange {
    index: u32,
    task: u32,
    len: u32,
}

impl IndexRange {
    /// The output that a task makes, if it is one of these.
    pub(crate) fn index(self, task: u32) -> Option<u32> {
        let at = task.wrapping_sub(self.task);
        (at < self.len).then(|| self.index + at)
    }
}

/// Which task makes which output. Both ascend.
#[derive(Debug, Default)]
pub(crate) struct IndexRanges(SmallVec<[IndexRange; 1]>);

impl IndexRanges {
    /// Adds an output, behind all there are.
    pub(crate) fn push(&mut self, index: u32, task: u32) {
        match self.0.last_mut() {
            Some(row) if row.index + row.len == index && row.task + row.len == task => row.len += 1,
            _ => self.0.push(IndexRange { index, task, len: 1 }),
        }
    }

    fn around(&self, task: u32) -> Option<IndexRange> {
        self.0[..self.0.partition_point(|row| row.task <= task)].last().copied()
    }

    #[cfg(test)]
    fn index(&self, task: u32) -> Option<u32> {
        self.around(task)?.index(task)
    }

    pub(crate) fn task(&self, index: u32) -> Option<u32> {
        let row = self.0[..self.0.partition_point(|row| row.index <= index)].last()?;
        let at = index - row.index;
        (at < row.len).then(|| row.task + at)
    }
}

/// How an output was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    Released,
    Cancelled,
}

#[derive(Default)]
struct Sent {
    rows: IndexRanges,
    /// The first output that has not been sent.
    next: u32,
    dropped: LazyMap<u32, Dropped>,
    /// What runs in place of outputs that have never been sent and are to be made after all.
    replacements: LazyMap<u32, ResultHandle>,
}

/// See the head of this module.
pub(crate) struct TaskMap {
    pub(crate) job: JobId,
    tasks: Tasks,
}

enum Tasks {
    /// One output, of the one task of the job, which has been sent. Most submissions are a future, and there are many.
    One,
    Many(Box<Many>),
}

struct Many {
    /// Outputs that are earlier ones, by index.
    aliases: Vec<(u32, ResultHandle)>,
    sent: Mutex<Sent>,
    more: Condvar,
}

impl TaskMap {
    /// Everything has been sent.
    pub(crate) fn whole(job: JobId, rows: IndexRanges, aliases: Vec<(u32, ResultHandle)>) -> Self {
        if aliases.is_empty() && rows.0[..] == [IndexRange { index: 0, task: 0, len: 1 }] {
            return Self { job, tasks: Tasks::One };
        }
        let sent = Sent { rows, next: u32::MAX, ..Sent::default() };
        Self::many(job, aliases, sent)
    }

    /// Nothing has been sent.
    pub(crate) fn unsent(job: JobId) -> Self {
        Self::many(job, Vec::new(), Sent::default())
    }

    fn many(job: JobId, aliases: Vec<(u32, ResultHandle)>, sent: Sent) -> Self {
        let many = Many { aliases, sent: Mutex::new(sent), more: Condvar::new() };
        Self { job, tasks: Tasks::Many(Box::new(many)) }
    }

    fn of_many(&self) -> Option<&Many> {
        match &self.tasks {
            Tasks::One => None,
            Tasks::Many(many) => Some(many),
        }
    }

    pub(crate) fn alias(&self, index: u32) -> Option<&ResultHandle> {
        let aliases = &self.of_many()?.aliases;
        let at = aliases.binary_search_by_key(&index, |(at, _)| *at).ok()?;
        Some(&aliases[at].1)
    }

    pub(crate) fn task(&self, index: u32) -> Option<u32> {
        match self.of_many() {
            None => (index == 0).then_some(0),
            Some(many) => many.sent.lock().rows.task(index),
        }
    }

    /// How many outputs before one have not been sent, where it has not either.
    pub(crate) fn unsent_before(&self, index: u32) -> u64 {
        self.of_many().map_or(0, |many| u64::from(index.saturating_sub(many.sent.lock().next)))
    }

    pub(crate) fn replacement(&self, index: u32) -> Option<ResultHandle> {
        self.of_many()?.sent.lock().replacements.get(&index).cloned()
    }

    pub(crate) fn set_replacement(&self, index: u32, output: ResultHandle) {
        let Some(many) = self.of_many() else { return };
        let former = many.sent.lock().replacements.insert(index, output);
        // The last handle of something: not under the lock.
        drop(former);
    }

    /// The output that a task makes. `near`: the outputs around the one that was asked for before, and afterwards around
    /// this one, since those that are asked for one after the other mostly lie together.
    pub(crate) fn index(&self, task: u32, near: &mut Option<IndexRange>) -> Option<u32> {
        let Some(many) = self.of_many() else { return (task == 0).then_some(0) };
        if let Some(index) = near.and_then(|near| near.index(task)) {
            return Some(index);
        }
        *near = many.sent.lock().rows.around(task);
        near.and_then(|near| near.index(task))
    }

    /// The tasks of outputs that are dropped. What has not been sent is noted, and has none.
    pub(crate) fn drop_outputs(&self, indices: &[u32], how: Dropped) -> Vec<u32> {
        let Some(many) = self.of_many() else { return indices.to_vec() };
        let mut sent = many.sent.lock();
        let mut tasks = Vec::with_capacity(indices.len());
        for &index in indices {
            if index >= sent.next {
                let how = if sent.dropped.contains_key(&index) { Dropped::Released } else { how };
                sent.dropped.insert(index, how);
            } else {
                tasks.extend(sent.rows.task(index));
            }
        }
        tasks.sort_unstable();
        tasks
    }

    /// Those of some outputs to come that have been dropped.
    pub(crate) fn dropped(&self, indices: Range<u32>) -> Vec<(u32, Dropped)> {
        let Some(many) = self.of_many() else { return Vec::new() };
        let sent = many.sent.lock();
        let mut dropped: Vec<(u32, Dropped)> = match sent.dropped.len() < indices.len() {
            true => {
                sent.dropped.iter().map(|(index, how)| (*index, *how)).filter(|(at, _)| indices.contains(at)).collect()
            }
            false => indices.filter_map(|index| Some((index, *sent.dropped.get(&index)?))).collect(),
        };
        dropped.sort_unstable_by_key(|(index, _)| *index);
        dropped
    }

    /// Notes that the outputs before `next` have been sent, some of them as these tasks; `send` sends them meanwhile.
    /// Gives the tasks of those that were dropped after they had been written.
    pub(crate) fn sent<E>(
        &self,
        next: u32,
        rows: impl Iterator<Item = (u32, u32)>,
        send: impl FnOnce() -> Result<(), E>,
    ) -> Result<Vec<(u32, Dropped)>, E> {
        let Some(many) = self.of_many() else { return send().map(|()| Vec::new()) };
        let mut sent = many.sent.lock();
        rows.for_each(|(index, task)| sent.rows.push(index, task));
        let first = std::mem::replace(&mut sent.next, next);
        let result = send();
        let mut late = Vec::new();
        if !sent.dropped.is_empty() {
            let Sent { rows, dropped, .. } = &mut *sent;
            dropped.retain(|index, how| {
                let here = (first..next).contains(index);
                if here && let Some(task) = rows.task(*index) {
                    late.push((task, *how));
                }
                !here
            });
            late.sort_unstable_by_key(|(task, _)| *task);
        }
        drop(sent);
        many.more.notify_all();
        result.map(|()| late)
    }

    /// Nothing more will be sent.
    pub(crate) fn close(&self) {
        if let Some(many) = self.of_many() {
            many.sent.lock().next = u32::MAX;
            many.more.notify_all();
        }
    }

    /// Waits until an output has been sent, or never will be.
    pub(crate) fn wait_sent(&self, index: u32) {
        let Some(many) = self.of_many() else { return };
        let mut sent = many.sent.lock();
        while sent.next <= index {
            many.more.wait(&mut sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SessionId;

    #[test]
    fn tasks_and_outputs_find_each_other() {
        let mut rows = IndexRanges::default();
        for (index, task) in [(0, 0), (1, 1), (2, 3), (4, 4), (5, 5)] {
            rows.push(index, task);
        }
        assert_eq!(rows.0.len(), 3);
        let tasks: Vec<_> = (0..7).map(|index| rows.task(index)).collect();
        assert_eq!(tasks, [Some(0), Some(1), Some(3), None, Some(4), Some(5), None]);
        let indices: Vec<_> = (0..7).map(|task| rows.index(task)).collect();
        assert_eq!(indices, [Some(0), Some(1), None, Some(2), Some(4), Some(5), None]);
    }

    #[test]
    fn whatever_was_asked_for_before_the_answer_is_the_same() {
        let mut rows = IndexRanges::default();
        for (index, task) in [(0, 0), (1, 1), (2, 3), (4, 4), (5, 5), (9, 7)] {
            rows.push(index, task);
        }
        let expected: Vec<_> = (0..9).map(|task| rows.index(task)).collect();
        let map = TaskMap::whole(JobId { session: SessionId(0), number: 0 }, rows, Vec::new());
        for before in 0..9 {
            for task in 0..9 {
                let mut near = None;
                assert_eq!(map.index(before, &mut near), expected[before as usize]);
                assert_eq!(map.index(task, &mut near), expected[task as usize], "{task} after {before}");
            }
        }
    }

    #[test]
    fn what_goes_before_it_is_sent_is_known() {
        let map = TaskMap::unsent(JobId { session: SessionId(0), number: 0 });
        assert!(map.drop_outputs(&[1, 5], Dropped::Released).is_empty());
        assert_eq!(map.dropped(0..4), [(1, Dropped::Released)]);
        // Number 3 goes while 0, 2 and 3 are being written.
        assert!(map.drop_outputs(&[3], Dropped::Cancelled).is_empty());
        let late = map.sent(4, [(0, 0), (2, 1), (3, 2)].into_iter(), || Ok::<(), ()>(()));
        assert_eq!(late, Ok(vec![(2, Dropped::Cancelled)]));
        assert_eq!(map.drop_outputs(&[2, 0, 1], Dropped::Released), [0, 1]);
        assert_eq!(map.dropped(4..8), [(5, Dropped::Released)]);
    }
}
