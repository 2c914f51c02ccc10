//! What a task is expected to need of a worker's memory.

use super::StoreState;
use crate::job::Input;
use crate::message::Task;
use crate::task::program::{Op, Ops};

/// What a worker uses at some moment.
#[derive(Clone, Copy)]
pub(in crate::worker) struct Used {
    /// All of the process.
    pub(super) process: u64,
    /// Results that are kept.
    pub(super) managed: u64,
}

impl Used {
    /// By how much a run that began at `before` has made the process grow. Meanwhile other threads may have kept results, which
    /// are no growth of what is not managed, or taken some out, which are no growth of the process.
    pub(super) fn since(self, before: Self) -> u64 {
        let unmanaged = |used: Self| used.process.saturating_sub(used.managed);
        let process = self.process.saturating_sub(before.process);
        process.min(unmanaged(self).saturating_sub(unmanaged(before)))
    }
}

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
            // Large buffers in it are read where they are.
            let (bytes, there) = match input {
                Input::Held { id, .. } => {
                    self.entries.get(id).map_or((0, true), |entry| (entry.copied, entry.value.is_some()))
                }
                Input::Payload(payload) => (payload.content().len() as u64, false),
                Input::Pending { .. } | Input::Shared { .. } | Input::Found { .. } => (0, true),
            };
            all += bytes;
            absent += if there { 0 } else { bytes };
        }
        self.policy.need(function, all, absent)
    }
}

#[cfg(test)]
mod tests {
    use super::Used;

    #[test]
    fn what_others_keep_and_take_out_is_not_grown() {
        let before = Used { process: 100, managed: 60 };
        assert_eq!(Used { process: 130, managed: 60 }.since(before), 30);
        assert_eq!(Used { process: 150, managed: 80 }.since(before), 30, "another has kept 20");
        assert_eq!(Used { process: 130, managed: 10 }.since(before), 30, "another has taken 50");
        assert_eq!(Used { process: 70, managed: 30 }.since(before), 0);
    }
}
