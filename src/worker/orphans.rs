//! Processes that came to this worker when their parents ended: reaped, so that nothing unreaped stays with it.
//!
//! The kernel gives them to the main thread, which runs no tasks. It also gives it those of a thread that has ended, and for
//! these somebody may wait still: so a process is reaped only when the tasks that ran when it was found have ended.

use crate::ids::TaskId;
use crate::ipc::process_tree::{Children, adopted, reap};

#[derive(Default)]
pub(super) struct Orphans {
    /// What was there when one of them had ended, and which tasks ran then.
    found: Option<(Vec<u32>, Vec<TaskId>)>,
}

impl Orphans {
    /// Takes leave of those that have ended. To be called by the main thread; the answer is whether there are any.
    pub(super) fn reap(&mut self, running: impl Fn() -> Vec<TaskId>) -> bool {
        let children = Children::of_thread();
        if children == Children::Ended {
            let running = running();
            let (found, tasks) = self.found.get_or_insert_with(|| (adopted(), running.clone()));
            tasks.retain(|task| running.contains(task));
            if tasks.is_empty() {
                found.drain(..).for_each(reap);
                self.found = None;
            }
        }
        children != Children::None
    }
}
