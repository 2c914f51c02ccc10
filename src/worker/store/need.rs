//! What a task is expected to need of a worker's memory.

use super::StoreState;
use crate::job::Input;
use crate::message::Task;
use crate::task::program::{Op, Ops};

/// The function by which a task is compared with others: that of its result, or of what is taken apart.
pub(super) fn function(task: &Task) -> usize {
    let (mut last, mut before) = (0, 0);
    for op in Ops::new(&task.body).filter_map(Result::ok) {
        if let Op::Call { record, .. } | Op::Inline { record, .. } = op {
            before = std::mem::replace(&mut last, std::ptr::from_ref(record).addr());
        }
    }
    if task.parts.is_empty() || before == 0 { last } else { before }
}

impl StoreState {
    /// What a task is expected to need while it runs.
    pub(super) fn need(&self, task: &Task) -> u64 {
        let function = function(task);
        let (mut all, mut absent) = (0, 0);
        for input in &task.inputs {
            let (bytes, there) = match input {
                Input::Held { id, .. } => {
                    self.entries.get(id).map_or((0, true), |entry| (entry.bytes, entry.value.is_some()))
                }
                // Large buffers in it are read where they are.
                Input::Payload(payload) => (payload.content().len() as u64, false),
                Input::Pending { .. } | Input::Shared { .. } | Input::Found { .. } => (0, true),
            };
            all += bytes;
            absent += if there { 0 } else { bytes };
        }
        self.policy.need(function, all, absent)
    }
}
