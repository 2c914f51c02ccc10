//! Tasks that wait in this worker for results of its other tasks.

use crate::ids::TaskId;
use crate::job::Input;
use crate::message::Task;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

#[derive(Default)]
pub(super) struct PendingTasks {
    tasks: FxHashMap<TaskId, Task>,
    /// The tasks that wait for a task's result. May name some that do not wait any more.
    followers: FxHashMap<TaskId, SmallVec<[TaskId; 1]>>,
}

/// The tasks whose results a task still waits for.
pub(super) fn missing(task: &Task) -> impl Iterator<Item = TaskId> {
    task.inputs.iter().filter_map(|input| match input {
        Input::Pending { id } => Some(*id),
        _ => None,
    })
}

impl PendingTasks {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn holds(&self, id: TaskId) -> bool {
        self.tasks.contains_key(&id)
    }

    /// Adds a task that waits for the results it is missing.
    pub(super) fn add(&mut self, task: Task) {
        for id in missing(&task) {
            self.followers.entry(id).or_default().push(task.id);
        }
        self.tasks.insert(task.id, task);
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(&id);
        self.forget_if_empty();
        task
    }

    /// A task's result has come; `given` makes the input of it. Returns the tasks that are complete now.
    pub(super) fn supply(&mut self, id: TaskId, given: impl Fn() -> Input) -> SmallVec<[Task; 1]> {
        let mut ready = SmallVec::new();
        for follower in self.followers.remove(&id).unwrap_or_default() {
            let Some(task) = self.tasks.get_mut(&follower) else { continue };
            for input in &mut task.inputs {
                if matches!(input, Input::Pending { id: missing } if *missing == id) {
                    *input = given();
                }
            }
            if missing(task).next().is_none() {
                ready.extend(self.tasks.remove(&follower));
            }
        }
        self.forget_if_empty();
        ready
    }

    /// These tasks give no result here. Removes all tasks that wait for them, directly or not, and returns their ids.
    pub(super) fn fail(&mut self, ids: &[TaskId]) -> Vec<TaskId> {
        let mut left = Vec::new();
        let mut at = SmallVec::<[TaskId; 8]>::from_slice(ids);
        while let Some(id) = at.pop() {
            for follower in self.followers.remove(&id).unwrap_or_default() {
                let still = self.tasks.get(&follower).is_some_and(|task| missing(task).any(|other| other == id));
                if still && self.tasks.remove(&follower).is_some() {
                    left.push(follower);
                    at.push(follower);
                }
            }
        }
        self.forget_if_empty();
        left
    }

    /// When no task waits, names that are left over mean nothing.
    fn forget_if_empty(&mut self) {
        if self.tasks.is_empty() {
            self.followers.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fairness::LAST;
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
            suspect: false,
            rank: LAST,
            building: Vec::new(),
            parts: Vec::new(),
            body: Bytes::default(),
            inputs: after.iter().map(|&i| Input::Pending { id: id(i) }).collect(),
            arrived: 0,
        }
    }

    fn given() -> Input {
        Input::Payload(Payload::inline(&[1]))
    }

    #[test]
    fn a_task_is_ready_when_it_has_everything() {
        let mut pending = PendingTasks::default();
        pending.add(task(3, &[1, 2]));
        pending.add(task(4, &[3]));
        assert!(pending.supply(id(1), given).is_empty());
        let ready = pending.supply(id(2), given);
        assert_eq!(ready.iter().map(|t| t.id).collect::<Vec<_>>(), [id(3)]);
        assert!(ready[0].inputs.iter().all(|i| matches!(i, Input::Payload(_))));
        assert!(pending.holds(id(4)) && !pending.holds(id(3)));
        assert_eq!(pending.supply(id(3), given).len(), 1);
        assert!(pending.is_empty());
    }

    #[test]
    fn what_follows_goes_with_what_fails() {
        let mut pending = PendingTasks::default();
        pending.add(task(2, &[1]));
        pending.add(task(3, &[2]));
        pending.add(task(9, &[8]));
        let mut back = pending.fail(&[id(1)]);
        back.sort();
        assert_eq!(back, [id(2), id(3)]);
        assert!(pending.holds(id(9)));
    }

    #[test]
    fn one_that_was_taken_out_and_came_again_is_not_confused() {
        let mut pending = PendingTasks::default();
        pending.add(task(9, &[8]));
        pending.add(task(2, &[1, 5]));
        assert!(pending.remove(id(2)).is_some());
        pending.add(task(2, &[1]));
        assert!(pending.fail(&[id(5)]).is_empty(), "it does not wait for that any more");
        assert_eq!(pending.supply(id(1), given).len(), 1);
    }
}
