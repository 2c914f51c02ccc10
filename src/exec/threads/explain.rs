//! Why an output of the pool is not there yet.

use super::ThreadPool;
use crate::status::Why;
use crate::submission::Submission;
use std::sync::Weak;
use std::sync::atomic::Ordering;

impl ThreadPool {
    pub(super) fn why(&self, submission: &Submission, index: u32) -> Why {
        if submission.is_done(index) {
            return Why::DoneHere;
        }
        // Not looked at under the lock: it may be the last handle of the job, with the values in that.
        let job = self.jobs.lock().get(&submission.number).and_then(Weak::upgrade);
        let Some(job) = job else { return Why::EndingHere };
        let id = job.outputs.get(index as usize).copied().unwrap_or(index);
        match job.missing.get(id as usize).map_or(0, |missing| missing.load(Ordering::Acquire)) {
            0 => {
                let queue = self.queue.lock();
                if let Some(wanted) = queue.tally.awaited_by(&job, id) {
                    return Why::ResourcesAsked { resources: wanted.to_string() };
                }
                Why::ReadyHere { threads: self.threads, before: queue.graphs.before(&job, job.priority(id)) }
            }
            missing => Why::InputsHere { missing, all: job.graph.refs(id).len() },
        }
    }
}
