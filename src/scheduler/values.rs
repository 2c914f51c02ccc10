//! The values of a job's tasks.

use super::worker::WorkerIndex;
use crate::ipc::payload::Payload;
use crate::lazy_map::LazyVec;
use std::ops::{Index, IndexMut};

/// A computed value: in the supervisor, in a worker's store, or both.
#[derive(Debug)]
pub(super) struct TaskValue {
    pub(super) payload: Option<Payload>,
    pub(super) nbytes: u64,
    /// So many of them are written and read when the holder sends it; the others lie in shared buffers.
    pub(super) encoded: u64,
    pub(super) owner: u32,
    /// The task it is lent to, in the state `Lent`.
    pub(super) taker: u32,
    pub(super) holder: WorkerIndex,
    /// Without the holder the payload is worth nothing.
    pub(super) bound: bool,
    /// A fetch is under way; the value stays until that is answered.
    pub(super) exporting: bool,
}

impl TaskValue {
    /// The value of task `owner`, in the supervisor.
    pub(super) fn sent(owner: u32, payload: Payload) -> Self {
        let nbytes = payload.nbytes();
        let value = Self::held(owner, WorkerIndex::NONE, nbytes, 0, false);
        Self { payload: Some(payload), ..value }
    }

    /// The value of task `owner`, in the store of a worker.
    pub(super) fn held(owner: u32, holder: WorkerIndex, nbytes: u64, encoded: u64, bound: bool) -> Self {
        Self { payload: None, nbytes, encoded, owner, taker: 0, holder, bound, exporting: false }
    }
}

#[derive(Debug, Default)]
pub(super) struct TaskValues {
    entries: Vec<Option<TaskValue>>,
    free: LazyVec<u32>,
}

impl TaskValues {
    pub(super) fn insert(&mut self, value: TaskValue) -> u32 {
        if !self.free.is_empty()
            && let Some(at) = self.free.pop()
        {
            self.entries[at as usize] = Some(value);
            return at;
        }
        if self.entries.is_empty() {
            // Most jobs have one task.
            self.entries.reserve_exact(1);
        }
        self.entries.push(Some(value));
        (self.entries.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, at: u32) -> TaskValue {
        let value = self.entries[at as usize].take().expect("a state names a value that is there");
        self.free.push(at);
        value
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut TaskValue> {
        self.entries.iter_mut().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &TaskValue> {
        self.entries.iter().flatten()
    }

    #[cfg(test)]
    pub(super) fn enumerate(&self) -> impl Iterator<Item = (u32, &TaskValue)> {
        self.entries.iter().enumerate().filter_map(|(i, v)| Some((i as u32, v.as_ref()?)))
    }
}

impl Index<u32> for TaskValues {
    type Output = TaskValue;
    fn index(&self, at: u32) -> &TaskValue {
        self.entries[at as usize].as_ref().expect("a state names a value that is there")
    }
}

impl IndexMut<u32> for TaskValues {
    fn index_mut(&mut self, at: u32) -> &mut TaskValue {
        self.entries[at as usize].as_mut().expect("a state names a value that is there")
    }
}
