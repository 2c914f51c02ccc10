//! The results a worker keeps, as they are.

use crate::ids::TaskId;
use crate::protocol::Payload;
use crate::task::Value;
use crate::task::function::Record;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

#[derive(Default)]
pub(super) struct Store {
    held: Mutex<FxHashMap<TaskId, (Value, &'static Record)>>,
    /// Values of others that are to stay mapped.
    shared: Mutex<FxHashMap<TaskId, Payload>>,
}

impl Store {
    pub(super) fn put(&self, id: TaskId, value: Value, record: &'static Record) {
        let old = self.held.lock().insert(id, (value, record));
        drop(old);
    }

    pub(super) fn get(&self, id: TaskId) -> Option<(Value, &'static Record)> {
        self.held.lock().get(&id).cloned()
    }

    pub(super) fn take(&self, id: TaskId) -> Option<Value> {
        self.held.lock().remove(&id).map(|(value, _)| value)
    }

    pub(super) fn forget(&self, ids: &[TaskId]) {
        // A value's own drop may take long or come back here, so it happens outside of the lock.
        let dropped: Vec<_> = {
            let mut held = self.held.lock();
            ids.iter().filter_map(|id| held.remove(id)).collect()
        };
        drop(dropped);
        let mut shared = self.shared.lock();
        if !shared.is_empty() {
            ids.iter().for_each(|id| drop(shared.remove(id)));
        }
    }

    /// Keeps values in reach: their segments mapped, and the mappings filled.
    pub(super) fn share(&self, values: Vec<(TaskId, Payload)>) {
        values.iter().flat_map(|(_, payload)| &payload.segments).for_each(|segment| segment.populate());
        self.shared.lock().extend(values);
    }
}
