//! Tasks that stand for results of earlier graphs, while those are on their way.

use super::ThreadPool;
use super::job::PoolJob;
use crate::exec::attempt::result_of;
use crate::graph::Graph;
use crate::submission::counts::Shard;
use crate::submission::handle::{ResultHandle, Waiter, cancelled};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Jobs that wait for such results, by the numbers of their submissions and of the tasks that stand for them. A job has claims to
/// the results, so that what is done with one must not keep the job.
#[derive(Default)]
pub(super) struct Awaiting(Mutex<FxHashMap<(u32, u32), Arc<PoolJob>>>);

impl ThreadPool {
    /// Finishes a task that stands for a result of an earlier graph as soon as that is done.
    pub(super) fn await_held(&self, job: &Arc<PoolJob>, id: u32, earlier: &ResultHandle) {
        let place = (job.submission.number, id);
        self.awaiting.0.lock().insert(place, Arc::clone(job));
        let pool = Weak::clone(&self.this);
        let done = Box::new(move || {
            let Some(pool) = pool.upgrade() else { return };
            let job = pool.awaiting.0.lock().remove(&place);
            if let Some(job) = job {
                pool.finish_held(&job, id);
            }
        });
        earlier.submission.when_done(earlier.index, Waiter::Call(done));
        if job.skipped(id) {
            // Somebody has given it up meanwhile.
            self.finish_unneeded(job);
        }
    }

    fn finish_held(&self, job: &Arc<PoolJob>, id: u32) {
        let Graph::Dag(dag) = &job.graph else { return };
        let earlier = if job.skipped(id) { None } else { dag.held(id).and_then(ResultHandle::of) };
        let result = earlier.as_ref().map_or_else(|| Err(cancelled(&job.label(id))), result_of);
        let shard = Shard::Shared;
        let mut next = self.finish(job, id, result, shard);
        while let Some(id) = next {
            if !job.skipped(id) {
                return self.push(job, [id]);
            }
            // In the queue it would keep the job until a thread is free, which may be that of what the job has a claim to.
            job.counts.lane(shard).started(id);
            next = self.finish(job, id, Err(cancelled(&job.label(id))), shard);
        }
    }

    /// Tasks that stand for results of earlier graphs, and that nobody needs any more, wait no longer: with the job go its
    /// claims to those results.
    pub(super) fn finish_unneeded(&self, job: &Arc<PoolJob>) {
        let Graph::Dag(dag) = &job.graph else { return };
        if job.skip.get().is_none() || job.left.load(Ordering::Acquire) == 0 {
            return;
        }
        for id in 0..job.missing.len() as u32 {
            if job.skipped(id) && dag.held(id).is_some() {
                let waited = self.awaiting.0.lock().remove(&(job.submission.number, id));
                if waited.is_some() {
                    self.finish_held(job, id);
                }
            }
        }
    }
}
