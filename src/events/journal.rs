//! The last transitions of graphs and of worker processes, which are rare. (Runs of tasks are in `ipc::ring`.)

use crate::ipc::clock::ticks;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A transition that is no run of a task, with its time stamp.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JournalEntry<T> {
    pub(crate) at: u64,
    pub(crate) what: T,
}

/// The last transitions, as many as its capacity.
pub(crate) struct Journal<T> {
    capacity: usize,
    entries: Mutex<Entries<T>>,
}

struct Entries<T> {
    last: VecDeque<JournalEntry<T>>,
    /// How many there have been in all.
    noted: u64,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { last: VecDeque::new(), noted: 0 }
    }
}

/// What happens to a graph.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GraphStep {
    Submitted { graph: u32, tasks: u32 },
    Finished { graph: u32, began: u64 },
}

/// What happens to a worker process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerStep {
    pub(crate) worker: String,
    pub(crate) pid: u32,
    pub(crate) what: ProcessStep,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ProcessStep {
    Started,
    Ready,
    Lost(crate::error::DeathCause),
    Retired,
}

impl<T: Clone> Journal<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, entries: Mutex::default() }
    }

    pub(crate) fn note(&self, what: T) {
        self.note_at(ticks(), what);
    }

    pub(crate) fn note_at(&self, at: u64, what: T) {
        if self.capacity == 0 {
            return;
        }
        let mut entries = self.entries.lock();
        if entries.last.len() == self.capacity {
            entries.last.pop_front();
        }
        entries.last.push_back(JournalEntry { at, what });
        entries.noted += 1;
    }

    pub(crate) fn entries(&self) -> Vec<JournalEntry<T>> {
        self.entries.lock().last.iter().cloned().collect()
    }

    /// Those that a reader has not seen which has seen so many in all, and how many of them are not kept any more.
    pub(crate) fn since(&self, seen: &mut u64) -> (Vec<JournalEntry<T>>, u64) {
        let entries = self.entries.lock();
        let new = entries.noted - *seen;
        *seen = entries.noted;
        let kept = entries.last.len().min(usize::try_from(new).unwrap_or(usize::MAX));
        (entries.last.iter().skip(entries.last.len() - kept).cloned().collect(), new - kept as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_each_entry_once_and_how_many_it_has_missed() {
        let journal = Journal::new(3);
        let mut seen = 0;
        let read = |seen: &mut u64| {
            let (entries, missed) = journal.since(seen);
            (entries.into_iter().map(|entry| entry.what).collect::<Vec<_>>(), missed)
        };
        assert_eq!(read(&mut seen), (vec![], 0));
        (1..=2).for_each(|n| journal.note(n));
        assert_eq!(read(&mut seen), (vec![1, 2], 0));
        (3..=7).for_each(|n| journal.note(n));
        assert_eq!(read(&mut seen), (vec![5, 6, 7], 2));
        assert_eq!(read(&mut seen), (vec![], 0));
    }
}
