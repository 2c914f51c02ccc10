//! What the store has moved between memory and disk, for the log of events.

use super::Store;
use crate::ids::TaskId;
use crate::ipc::disk::OnDisk;
use crate::ipc::out_of_band::decode_with;
use crate::message::MovedResult;
use crate::task::Value;
use crate::task::call::guarded;
use crate::task::codec::Codec;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Most that are kept until they are sent; what is more is not told.
const MOST: usize = 1 << 12;

/// What has been moved and was not told.
#[derive(Default)]
pub(super) struct Moves {
    some: AtomicBool,
    moved: Mutex<Vec<MovedResult>>,
}

impl Moves {
    /// A result has been moved, which began then.
    pub(super) fn add(&self, task: TaskId, loaded: bool, bytes: u64, began: Instant) {
        let mut moved = self.moved.lock();
        if moved.len() < MOST {
            moved.push(MovedResult { task, loaded, bytes, took: began.elapsed() });
            self.some.store(true, Ordering::Relaxed);
        }
    }
}

impl Store {
    /// What has been moved since the last call.
    pub(in crate::worker) fn take_moves(&self) -> Vec<MovedResult> {
        if self.moves.some.load(Ordering::Relaxed) && self.moves.some.swap(false, Ordering::Relaxed) {
            std::mem::take(&mut *self.moves.moved.lock())
        } else {
            Vec::new()
        }
    }

    /// What a result takes, in memory or on disk; nothing if it is not here.
    pub(in crate::worker) fn bytes_of(&self, id: TaskId) -> u64 {
        let state = self.state.lock();
        state.entries.get(&id).map_or(0, |entry| match (&entry.value, &entry.disk) {
            (None, Some(on_disk)) => on_disk.len(),
            _ => entry.bytes,
        })
    }
}

/// Reads a value back. Returns also how much memory it takes: the parts that are mapped from disk take none.
pub(super) fn load(on_disk: &OnDisk, codec: &Codec) -> Result<(Value, u64), String> {
    let payload = on_disk.payload().map_err(|e| format!("a result cannot be read back from disk: {e}"))?;
    let read = guarded(|| {
        let value = decode_with(payload.segments(), || codec.decode(payload.content()));
        Ok(value.map(|value| {
            let bytes = codec.size(&value);
            (value, bytes)
        }))
    });
    read.map_err(|fault| format!("a result cannot be read back from disk: {fault}"))?
}
