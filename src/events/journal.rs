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
    entries: Mutex<VecDeque<JournalEntry<T>>>,
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
        if entries.len() == self.capacity {
            entries.pop_front();
        }
        entries.push_back(JournalEntry { at, what });
    }

    pub(crate) fn entries(&self) -> Vec<JournalEntry<T>> {
        self.entries.lock().iter().cloned().collect()
    }
}
