//! What a task in the pool can ask of its thread.

use super::job::PoolJob;
use super::resources::{self, Holder};
use super::{PoolThread, ThreadPool};
use crate::ids::{JobId, SessionId, TaskId};
use crate::submission::backend::Backend;
use crate::submission::context::BackendScope;
use crate::task::context::{Aside, TaskInfo, TaskScope};
use crate::task::wait::{TaskWaits, WaitKind};
use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

pub(super) struct ThreadScope {
    pub(super) pool: Weak<ThreadPool>,
    pub(super) thread: Arc<PoolThread>,
    pub(super) task: RefCell<Option<Arc<PoolJob>>>,
    pub(super) id: Cell<u32>,
}

impl BackendScope for ThreadScope {
    fn backend(&self) -> Option<Arc<dyn Backend>> {
        self.pool.upgrade().map(|p| p as Arc<dyn Backend>)
    }
}

impl TaskScope for ThreadScope {
    fn info(&self) -> Option<TaskInfo> {
        let task = self.task.borrow();
        let label = task.as_ref()?.graph.label(self.id.get());
        Some(TaskInfo { key: label.key(), name: label.name(), worker: self.thread.name.to_string() })
    }

    fn cancelled(&self) -> bool {
        self.task.borrow().as_ref().is_some_and(|job| job.skipped(self.id.get()))
            || self.pool.upgrade().is_none_or(|p| p.closed.load(Ordering::Acquire))
    }

    fn set_progress(&self, per_mille: u32) {
        if let Some(job) = &*self.task.borrow() {
            let before = self.thread.running.set_progress(per_mille);
            job.counts.lane(self.thread.shard()).partly_done(self.id.get(), before, per_mille);
        }
    }

    fn log(&self, record: &log::Record<'_>) {
        if let (Some(pool), Some(task)) = (self.pool.upgrade(), self.info()) {
            pool.logs.add(&task, record);
        }
    }

    fn step_aside(&self, kind: WaitKind) -> Option<Aside> {
        let pool = self.pool.upgrade()?;
        let has_some = |job: &Arc<PoolJob>| job.needs.contains_key(&self.id.get());
        let holder = self.task.borrow().as_ref().filter(|job| has_some(job)).and_then(|_| resources::holder());
        if let Some(refused) = pool.begin_wait(&self.thread, holder.as_deref(), kind) {
            refused.log();
        }
        Some(Box::new(ThreadAside { pool: Weak::clone(&self.pool), thread: Arc::clone(&self.thread), holder, kind }))
    }

    fn task(&self) -> Option<TaskId> {
        let number = self.task.borrow().as_ref()?.submission.number;
        Some(TaskId { job: JobId { session: SessionId::CLIENT, number }, index: self.id.get() })
    }

    fn waits(&self) -> Option<Arc<TaskWaits>> {
        Some(Arc::clone(&self.thread.waits))
    }

    fn priority(&self) -> i32 {
        self.task.borrow().as_ref().map_or(0, |job| job.priority(self.id.get()))
    }
}

/// A reason for which another thread runs in the place of this one.
struct ThreadAside {
    pool: Weak<ThreadPool>,
    thread: Arc<PoolThread>,
    /// Its task, where that has resources.
    holder: Option<Arc<Holder>>,
    kind: WaitKind,
}

impl Drop for ThreadAside {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.end_wait(&self.thread, self.holder.as_deref(), self.kind);
        }
    }
}
