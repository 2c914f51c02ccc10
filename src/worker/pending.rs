//! Tasks that came ahead of results of other tasks of this worker, and wait for these.

use crate::ids::TaskId;
use crate::message::{Input, Task};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

#[derive(Default)]
pub(super) struct Waiting {
    tasks: FxHashMap<TaskId, Task>,
    /// Who waits for a task's result. May name some that do not wait any more.
    followers: FxHashMap<TaskId, SmallVec<[TaskId; 1]>>,
}

/// The tasks whose results a task came ahead of.
pub(super) fn lacks(task: &Task) -> impl Iterator<Item = TaskId> {
    task.inputs.iter().filter_map(|input| match input {
        Input::Ahead { id } => Some(*id),
        _ => None,
    })
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn holds(&self, id: TaskId) -> bool {
        self.tasks.contains_key(&id)
    }

    /// Has a task wait for what it lacks.
    pub(super) fn add(&mut self, task: Task) {
        for id in lacks(&task) {
            self.followers.entry(id).or_default().push(task.id);
        }
        self.tasks.insert(task.id, task);
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(&id);
        self.forget_if_empty();
        task
    }

    /// A result is there, to be had as `given` says. Answers with the tasks that lack nothing more.
    pub(super) fn supply(&mut self, id: TaskId, given: impl Fn() -> Input) -> SmallVec<[Task; 1]> {
        let mut ready = SmallVec::new();
        for follower in self.followers.remove(&id).unwrap_or_default() {
            let Some(task) = self.tasks.get_mut(&follower) else { continue };
            for input in &mut task.inputs {
                if matches!(input, Input::Ahead { id: lacking } if *lacking == id) {
                    *input = given();
                }
            }
            if lacks(task).next().is_none() {
                ready.extend(self.tasks.remove(&follower));
            }
        }
        self.forget_if_empty();
        ready
    }

    /// These tasks give no result here. Takes out all that was to follow them, and what was to follow that.
    pub(super) fn fail(&mut self, ids: &[TaskId]) -> Vec<TaskId> {
        let mut left = Vec::new();
        let mut at = SmallVec::<[TaskId; 8]>::from_slice(ids);
        while let Some(id) = at.pop() {
            for follower in self.followers.remove(&id).unwrap_or_default() {
                let still = self.tasks.get(&follower).is_some_and(|task| lacks(task).any(|lacking| lacking == id));
                if still && self.tasks.remove(&follower).is_some() {
                    left.push(follower);
                    at.push(follower);
                }
            }
        }
        self.forget_if_empty();
        left
    }

    /// Names that are left over mean nothing when nobody waits.
    fn forget_if_empty(&mut self) {
        if self.tasks.is_empty() {
            self.followers.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{JobId, SessionId};
    use crate::ipc::payload::Payload;
    use crate::message::Bytes;

    fn id(index: u32) -> TaskId {
        TaskId { job: JobId { session: SessionId(0), number: 0 }, index }
    }

    fn task(index: u32, after: &[u32]) -> Task {
        Task {
            id: id(index),
            name: None,
            attempt: 0,
            deliver: false,
            alone: false,
            body: Bytes::default(),
            inputs: after.iter().map(|&i| Input::Ahead { id: id(i) }).collect(),
        }
    }

    fn given() -> Input {
        Input::Payload(Payload::inline(&[1]))
    }

    #[test]
    fn a_task_is_ready_when_it_has_everything() {
        let mut waiting = Waiting::default();
        waiting.add(task(3, &[1, 2]));
        waiting.add(task(4, &[3]));
        assert!(waiting.supply(id(1), given).is_empty());
        let ready = waiting.supply(id(2), given);
        assert_eq!(ready.iter().map(|t| t.id).collect::<Vec<_>>(), [id(3)]);
        assert!(ready[0].inputs.iter().all(|i| matches!(i, Input::Payload(_))));
        assert!(waiting.holds(id(4)) && !waiting.holds(id(3)));
        assert_eq!(waiting.supply(id(3), given).len(), 1);
        assert!(waiting.is_empty());
    }

    #[test]
    fn what_follows_goes_with_what_fails() {
        let mut waiting = Waiting::default();
        waiting.add(task(2, &[1]));
        waiting.add(task(3, &[2]));
        waiting.add(task(9, &[8]));
        let mut back = waiting.fail(&[id(1)]);
        back.sort();
        assert_eq!(back, [id(2), id(3)]);
        assert!(waiting.holds(id(9)));
    }

    #[test]
    fn one_that_was_taken_out_and_came_again_is_not_confused() {
        let mut waiting = Waiting::default();
        waiting.add(task(9, &[8]));
        waiting.add(task(2, &[1, 5]));
        assert!(waiting.remove(id(2)).is_some());
        waiting.add(task(2, &[1]));
        assert!(waiting.fail(&[id(5)]).is_empty(), "it does not wait for that any more");
        assert_eq!(waiting.supply(id(1), given).len(), 1);
    }
}
