//! Where the outputs of a run are made, if that is in other processes: which task makes which.
//!
//! The tasks of a layer are sent little by little. An output that is let go before it has been sent is noted here, and
//! not sent at all.

use super::handle::ResultHandle;
use crate::ids::JobId;
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use std::ops::Range;

/// Outputs that follow each other, made by tasks that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IndexRange {
    slot: u32,
    task: u32,
    len: u32,
}

/// Which task makes which output. Both ascend.
#[derive(Debug, Default)]
pub(crate) struct IndexRanges(Vec<IndexRange>);

impl IndexRanges {
    /// Adds an output, behind all there are.
    pub(crate) fn push(&mut self, slot: u32, task: u32) {
        match self.0.last_mut() {
            Some(row) if row.slot + row.len == slot && row.task + row.len == task => row.len += 1,
            _ => self.0.push(IndexRange { slot, task, len: 1 }),
        }
    }

    pub(crate) fn slot(&self, task: u32) -> Option<u32> {
        let row = self.0[..self.0.partition_point(|row| row.task <= task)].last()?;
        let at = task - row.task;
        (at < row.len).then(|| row.slot + at)
    }

    pub(crate) fn task(&self, slot: u32) -> Option<u32> {
        let row = self.0[..self.0.partition_point(|row| row.slot <= slot)].last()?;
        let at = slot - row.slot;
        (at < row.len).then(|| row.task + at)
    }
}

/// How an output was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    Released,
    Cancelled,
}

#[derive(Default)]
struct Sent {
    rows: IndexRanges,
    /// The first output that has not been sent.
    next: u32,
    gone: FxHashMap<u32, Gone>,
    /// What runs in place of outputs that have never been sent and are to be made after all.
    again: FxHashMap<u32, ResultHandle>,
}

/// See the head of this module.
pub(crate) struct TaskMap {
    pub(crate) job: JobId,
    /// Outputs that are earlier ones, by slot.
    aliases: Vec<(u32, ResultHandle)>,
    sent: Mutex<Sent>,
    more: Condvar,
}

impl TaskMap {
    /// Everything has been sent.
    pub(crate) fn whole(job: JobId, rows: IndexRanges, aliases: Vec<(u32, ResultHandle)>) -> Self {
        let sent = Sent { rows, next: u32::MAX, ..Sent::default() };
        Self { job, aliases, sent: Mutex::new(sent), more: Condvar::new() }
    }

    /// Nothing has been sent.
    pub(crate) fn unsent(job: JobId) -> Self {
        Self { job, aliases: Vec::new(), sent: Mutex::default(), more: Condvar::new() }
    }

    pub(crate) fn alias(&self, slot: u32) -> Option<&ResultHandle> {
        let at = self.aliases.binary_search_by_key(&slot, |(at, _)| *at).ok()?;
        Some(&self.aliases[at].1)
    }

    pub(crate) fn task(&self, slot: u32) -> Option<u32> {
        self.sent.lock().rows.task(slot)
    }

    pub(crate) fn replacement(&self, slot: u32) -> Option<ResultHandle> {
        self.sent.lock().again.get(&slot).cloned()
    }

    pub(crate) fn set_again(&self, slot: u32, output: ResultHandle) {
        let former = self.sent.lock().again.insert(slot, output);
        // The last handle of something: not under the lock.
        drop(former);
    }

    /// The outputs that some tasks make.
    pub(crate) fn slots<T>(&self, words: impl Iterator<Item = (u32, T)>) -> Vec<(u32, T)> {
        let sent = self.sent.lock();
        words.filter_map(|(task, word)| Some((sent.rows.slot(task)?, word))).collect()
    }

    /// The tasks of outputs that are let go. What has not been sent is noted, and has none.
    pub(crate) fn let_go(&self, slots: &[u32], how: Gone) -> Vec<u32> {
        let mut sent = self.sent.lock();
        let mut tasks = Vec::with_capacity(slots.len());
        for &slot in slots {
            if slot >= sent.next {
                sent.gone.entry(slot).and_modify(|old| *old = Gone::Released).or_insert(how);
            } else {
                tasks.extend(sent.rows.task(slot));
            }
        }
        tasks.sort_unstable();
        tasks
    }

    /// Those of some outputs to come that have been let go.
    pub(crate) fn gone(&self, slots: Range<u32>) -> Vec<u32> {
        let sent = self.sent.lock();
        let mut gone: Vec<u32> = match sent.gone.len() < slots.len() {
            true => sent.gone.keys().copied().filter(|slot| slots.contains(slot)).collect(),
            false => slots.filter(|slot| sent.gone.contains_key(slot)).collect(),
        };
        gone.sort_unstable();
        gone
    }

    /// Notes that the outputs before `next` have been sent, some of them as these tasks; `send` sends them meanwhile.
    /// Gives the tasks of those that were let go after they had been written.
    pub(crate) fn sent<E>(
        &self,
        next: u32,
        rows: impl Iterator<Item = (u32, u32)>,
        send: impl FnOnce() -> Result<(), E>,
    ) -> Result<Vec<(u32, Gone)>, E> {
        let mut sent = self.sent.lock();
        rows.for_each(|(slot, task)| sent.rows.push(slot, task));
        let first = std::mem::replace(&mut sent.next, next);
        let result = send();
        let mut late = Vec::new();
        if !sent.gone.is_empty() {
            let Sent { rows, gone, .. } = &mut *sent;
            gone.retain(|slot, how| {
                let here = (first..next).contains(slot);
                if here && let Some(task) = rows.task(*slot) {
                    late.push((task, *how));
                }
                !here
            });
            late.sort_unstable_by_key(|(task, _)| *task);
        }
        drop(sent);
        self.more.notify_all();
        result.map(|()| late)
    }

    /// Nothing more will be sent.
    pub(crate) fn close(&self) {
        self.sent.lock().next = u32::MAX;
        self.more.notify_all();
    }

    /// Waits until an output has been sent, or never will be.
    pub(crate) fn wait_sent(&self, slot: u32) {
        let mut sent = self.sent.lock();
        while sent.next <= slot {
            self.more.wait(&mut sent);
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
        for (slot, task) in [(0, 0), (1, 1), (2, 3), (4, 4), (5, 5)] {
            rows.push(slot, task);
        }
        assert_eq!(rows.0.len(), 3);
        let tasks: Vec<_> = (0..7).map(|slot| rows.task(slot)).collect();
        assert_eq!(tasks, [Some(0), Some(1), Some(3), None, Some(4), Some(5), None]);
        let slots: Vec<_> = (0..7).map(|task| rows.slot(task)).collect();
        assert_eq!(slots, [Some(0), Some(1), None, Some(2), Some(4), Some(5), None]);
    }

    #[test]
    fn what_goes_before_it_is_sent_is_known() {
        let made = TaskMap::unsent(JobId { session: SessionId(0), number: 0 });
        assert!(made.let_go(&[1, 5], Gone::Released).is_empty());
        assert_eq!(made.gone(0..4), [1]);
        // Number 3 goes while 0, 2 and 3 are being written.
        assert!(made.let_go(&[3], Gone::Cancelled).is_empty());
        let late = made.sent(4, [(0, 0), (2, 1), (3, 2)].into_iter(), || Ok::<(), ()>(()));
        assert_eq!(late, Ok(vec![(2, Gone::Cancelled)]));
        assert_eq!(made.let_go(&[2, 0, 1], Gone::Released), [0, 1]);
        assert_eq!(made.gone(4..8), [5]);
    }
}
