//! Looks for the tasks of a key among those that are there. There is no index of keys, which would cost something for each
//! task: a search looks at all of them, a part at a time, and others have their turn between two parts.

use super::Scheduler;
use super::job::{Job, flag};
use crate::ids::{SessionId, TaskId};
use crate::job::explained::{FindFrom, FoundTask};
use crate::job::{CallName, FailedCall};
use crate::task::program;
use smallvec::SmallVec;
use std::ops::RangeInclusive;

/// How much a part looks at: calls, and for each graph as much as for some of them.
const PART: u32 = 8192;
const GRAPH: u32 = 4;
/// How many tasks a part names. Where there are more, the key says too little anyway.
const MOST: usize = 32;

/// Which numbers keys may have that are meant, by the name in them.
pub(crate) type Fits<'a> = &'a mut dyn FnMut(&CallName) -> Option<RangeInclusive<u64>>;

impl Scheduler {
    /// The session whose task or graph that is.
    pub(crate) fn owner_of(&self, task: TaskId) -> Option<SessionId> {
        Some(self.jobs[self.jobs.get(task.job)?].owner)
    }

    /// Looks at some tasks from there on, of that session and its tasks, or of all. The answer is where to go on.
    pub(crate) fn find(
        &self,
        session: Option<SessionId>,
        from: FindFrom,
        fits: Fits<'_>,
        found: &mut Vec<FoundTask>,
    ) -> Option<FindFrom> {
        let mut left = PART;
        let mut first = from.task;
        for slot in from.slot..self.jobs.slots() {
            left = left.saturating_sub(GRAPH);
            if left == 0 {
                return Some(FindFrom { slot, task: first, runs: None });
            }
            let is_meant = |job: &&Job| session.is_none_or(|session| job.owner == session || job.id.session == session);
            let Some(job) = self.jobs.by_slot(slot).filter(is_meant) else {
                first = 0;
                continue;
            };
            // What came with a job, and aliases, have no calls.
            for index in first..job.tasks.len() as u32 {
                if left == 0 {
                    return Some(FindFrom { slot, task: index, runs: None });
                }
                left = left.saturating_sub(job.find(index, fits, found).max(1));
            }
            first = 0;
        }
        None
    }
}

impl Job {
    /// Adds the calls of a task that are meant. The answer is how many it has.
    fn find(&self, index: u32, fits: Fits<'_>, found: &mut Vec<FoundTask>) -> u32 {
        let mut calls: SmallVec<[(u64, u64); 8]> = program::keyed_calls(self.spec.body(index)).collect();
        let looked_at = calls.len() as u32;
        // What takes a result apart is a part of the task that makes it.
        if self.tasks[index as usize].has(flag::MAKER) {
            calls.pop();
        }
        let given = self.options(index).and_then(|options| options.name.as_deref());
        let last = calls.len().wrapping_sub(1);
        for (at, (offset, key)) in calls.into_iter().enumerate() {
            let name = match given.filter(|_| at == last) {
                Some(name) => CallName::Given(name.to_string()),
                None => CallName::Function(offset),
            };
            if !fits(&name).is_some_and(|numbers| numbers.contains(&key)) {
                continue;
            }
            let call = FailedCall { name, key };
            let (task, inner, seq) = (self.task_id(index), at != last, Some(self.seq));
            let new = FoundTask { task, call, name: None, inner, seq, runs: Vec::new(), usual: None };
            // The same call may be in many graphs: the latest is meant.
            let has_room = found.len() < MOST;
            match found.iter_mut().find(|known| known.call == new.call) {
                Some(known) if known.seq <= new.seq => *known = new,
                Some(_) => {}
                None if has_room => found.push(new),
                None => {}
            }
        }
        looked_at
    }
}
