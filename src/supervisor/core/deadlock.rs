//! Tasks that wait for the end of workers which cannot end before they do.
//!
//! A worker that retires ends when its tasks have; a task that waits for the end of workers waits for all tasks there; and one
//! that waits for tasks of its own waits for those, and one that waits for a lock for those who have it. Whoever is met on the
//! way from itself waits for ever.

use super::on_command::Asker;
use super::sessions::{Wait, Waiting};
use super::{Core, SessionEnd, session_of};
use crate::ids::{SessionId, TaskId, WorkerId};
use crate::message::Answer;
use crate::supervisor::effects::Effects;
use rustc_hash::{FxHashMap, FxHashSet};

/// A task on a worker, and what it waits for as far as it has been followed.
struct Step {
    worker: WorkerId,
    task: TaskId,
    /// The step before: the one that waits for this.
    before: Option<usize>,
    /// What that waits for.
    why: Why,
}

/// Why a task waits for another one.
enum Why {
    /// It is to end before its worker does.
    End,
    /// It is a task of its own.
    Own,
    /// It has that lock.
    Has(String),
}

impl Core {
    /// What a session is told that asks for the end of these workers, and would wait for ever.
    pub(super) fn deadlock<E: Effects>(&self, asker: &Asker, workers: Vec<WorkerId>, fx: &E) -> Option<Answer> {
        self.circle(asker.session, asker.by, &workers, fx).map(Answer::Deadlock)
    }

    /// What a session is told that waits, and would do so for ever now.
    pub(super) fn deadlock_of<E: Effects>(&self, waiting: &Waiting, fx: &E) -> Option<Answer> {
        self.circle(waiting.session, waiting.by, &self.ends_for(waiting), fx).map(Answer::Deadlock)
    }

    /// The workers whose end is waited for.
    fn ends_for(&self, waiting: &Waiting) -> Vec<WorkerId> {
        let there = |id: &WorkerId| self.fleet.workers.contains_key(id);
        match &waiting.what {
            // What is run beside tasks waits for none.
            Wait::Ready { .. } | Wait::Ran(_) => Vec::new(),
            Wait::Gone { workers, .. } => workers.iter().copied().filter(there).collect(),
            Wait::Replaced { old, .. } => old.iter().copied().filter(there).collect(),
        }
    }

    /// How a task that waits for the end of these workers waits for itself, if it does.
    fn circle<E: Effects>(
        &self,
        session: SessionId,
        by: Option<TaskId>,
        workers: &[WorkerId],
        fx: &E,
    ) -> Option<String> {
        let Some(&SessionEnd::Worker(own)) = self.sessions.ends.get(&session) else { return None };
        let is_asker = |step: &Step| step.worker == own && by.is_none_or(|by| by == step.task);
        let mut children: FxHashMap<TaskId, Vec<(WorkerId, TaskId)>> = FxHashMap::default();
        for &worker in self.fleet.workers.keys() {
            for task in self.scheduler.tasks_on(worker) {
                if let Some(parent) = self.scheduler.parent_of(task) {
                    children.entry(parent).or_default().push((worker, task));
                }
            }
        }
        let (mut steps, mut met): (Vec<Step>, FxHashSet<WorkerId>) = (Vec::new(), FxHashSet::default());
        let mut known = FxHashSet::default();
        let mut to_end: Vec<(WorkerId, Option<usize>)> = workers.iter().map(|&worker| (worker, None)).collect();
        let mut next = 0;
        loop {
            for (worker, before) in to_end.drain(..) {
                if met.insert(worker) {
                    let there = self.scheduler.tasks_on(worker).filter(|task| known.insert(*task));
                    steps.extend(there.map(|task| Step { worker, task, before, why: Why::End }));
                }
            }
            let step = steps.get(next)?;
            if is_asker(step) {
                return Some(self.told(own, by, &steps, next, fx));
            }
            let (worker, task) = (step.worker, step.task);
            for waiting in &self.sessions.waiting {
                let is_here = self.sessions.ends.get(&waiting.session) == Some(&SessionEnd::Worker(worker));
                if is_here && waiting.by.is_none_or(|by| by == task) {
                    to_end.extend(self.ends_for(waiting).into_iter().map(|worker| (worker, Some(next))));
                }
            }
            if self.scheduler.blocked_on(worker) > 0 {
                for &(worker, task) in children.get(&task).into_iter().flatten() {
                    if known.insert(task) {
                        steps.push(Step { worker, task, before: Some(next), why: Why::Own });
                    }
                }
            }
            for (lock, holder, task) in self.coordinator.holders_before(session_of(worker), task) {
                if let Some(&SessionEnd::Worker(worker)) = self.sessions.ends.get(&holder)
                    && known.insert(task)
                {
                    steps.push(Step { worker, task, before: Some(next), why: Why::Has(lock) });
                }
            }
            next += 1;
        }
    }

    /// In words: who waits for whom, from the task that asks to itself.
    fn told<E: Effects>(&self, own: WorkerId, by: Option<TaskId>, steps: &[Step], last: usize, fx: &E) -> String {
        let key = |worker: WorkerId, task: Option<TaskId>| {
            let process = self.fleet.workers.get(&worker).zip(task);
            process.map_or_else(|| "a task".to_string(), |(process, task)| self.key(process, task, fx))
        };
        let mut way = vec![last];
        while let Some(before) = steps[way[way.len() - 1]].before {
            way.push(before);
        }
        let mut text = format!("{} on {} would wait for", key(own, by), self.name_of(own));
        for (n, at) in way.into_iter().rev().enumerate() {
            let (step, worker) = (&steps[at], self.name_of(steps[at].worker));
            let key = if at == last { "this task".to_string() } else { key(step.worker, Some(step.task)) };
            let waits = if n == 0 { "" } else { ", which waits for" };
            match &step.why {
                Why::Own if at == last => text.push_str(&format!("{waits} this task on {worker}")),
                Why::Own => text.push_str(&format!("{waits} its task {key} on {worker}")),
                Why::Has(lock) => text.push_str(&format!("{waits} {lock}, which {key} on {worker} has")),
                Why::End => text.push_str(&format!("{waits} the end of {worker}, where {key} runs")),
            }
        }
        text.push_str(". Let the program ask, or a task that nobody there waits for");
        text
    }
}
