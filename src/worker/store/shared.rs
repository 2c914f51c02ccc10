//! Values of elsewhere that a worker keeps for several tasks, and which of them are decoded.

use crate::ids::TaskId;
use crate::task::Value;
use crate::task::shared_input::SharedInput;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct SharedInputs {
    all: FxHashMap<TaskId, Entry>,
    /// Those that are decoded by their last use, oldest first.
    order: BTreeMap<u64, TaskId>,
    clock: u64,
    /// What is decoded takes so many bytes.
    decoded: u64,
    /// What is decoded and not in use may take so many.
    idle: u64,
}

struct Entry {
    input: Arc<SharedInput>,
    /// Bytes of it that are decoded, as far as they have been counted.
    counted: u64,
    /// Its key in the order of use.
    used: u64,
}

impl SharedInputs {
    pub(super) fn new(idle: u64) -> Self {
        Self { all: FxHashMap::default(), order: BTreeMap::new(), clock: 0, decoded: 0, idle }
    }

    pub(super) fn insert(&mut self, input: Arc<SharedInput>) {
        self.all.insert(input.id(), Entry { input, counted: 0, used: 0 });
    }

    pub(super) fn get(&self, id: TaskId) -> Option<Arc<SharedInput>> {
        self.all.get(&id).map(|entry| Arc::clone(&entry.input))
    }

    /// Takes one out. Says also how many bytes of it had been counted.
    pub(super) fn remove(&mut self, id: TaskId) -> Option<(Arc<SharedInput>, u64)> {
        let entry = self.all.remove(&id)?;
        self.order.remove(&entry.used);
        self.decoded -= entry.counted;
        Some((entry.input, entry.counted))
    }

    /// A task has read one. Says how many bytes of it were counted, and how many are now.
    pub(super) fn used(&mut self, input: &Arc<SharedInput>) -> (u64, u64) {
        // One that has been dropped meanwhile goes with its last task.
        let Some(entry) = self.all.get_mut(&input.id()).filter(|entry| Arc::ptr_eq(&entry.input, input)) else {
            return (0, 0);
        };
        self.clock += 1;
        self.order.remove(&entry.used);
        let before = std::mem::replace(&mut entry.counted, input.decoded_bytes());
        entry.used = self.clock;
        if entry.counted > 0 {
            self.order.insert(entry.used, input.id());
        }
        self.decoded = self.decoded - before + entry.counted;
        (before, entry.counted)
    }

    /// Gives up the decoded value that has not been used for longest, and says how many bytes of it were counted.
    pub(super) fn evict(&mut self) -> Option<(Value, u64)> {
        self.evict_except(&[])
    }

    /// The same while more is decoded than may be idle; not one of `kept`.
    pub(super) fn evict_over(&mut self, kept: &[Arc<SharedInput>]) -> Option<(Value, u64)> {
        if self.decoded > self.idle { self.evict_except(kept) } else { None }
    }

    fn evict_except(&mut self, kept: &[Arc<SharedInput>]) -> Option<(Value, u64)> {
        let all = &mut self.all;
        let (used, value, bytes) = self.order.iter().find_map(|(used, id)| {
            let entry = all.get_mut(id).filter(|entry| !kept.iter().any(|input| input.id() == entry.input.id()))?;
            let value = entry.input.evict()?;
            Some((*used, value, std::mem::take(&mut entry.counted)))
        })?;
        self.order.remove(&used);
        self.decoded -= bytes;
        Some((value, bytes))
    }
}
