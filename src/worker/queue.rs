//! The tasks of a worker that have not begun, and what its threads do next.

use super::capture::Streams;
use super::pending::Waiting;
use super::{Worker, pending};
use crate::ids::TaskId;
use crate::job::{Completion, Outcome};
use crate::memory::policy::Wait;
use crate::message::{FromWorker, Input, Task};
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::time::Instant;

pub(super) struct Queue {
    pub(super) tasks: VecDeque<Task>,
    /// Tasks that wait for results of others of this worker.
    pub(super) waiting: Waiting,
    /// Whether somebody reads the socket.
    pub(super) reading: bool,
    /// Threads that wait for work or for their turn to read.
    pub(super) idle: usize,
    /// Threads there are, without those that wait for their own tasks. As many as the worker is to have stay.
    pub(super) active: usize,
    /// Running tasks that were cancelled.
    pub(super) cancelled: FxHashSet<TaskId>,
    /// As few as there are threads.
    pub(super) running: Vec<TaskId>,
    pub(super) next_slot: usize,
    /// Slots of threads that have left.
    pub(super) free_slots: Vec<usize>,
}

/// What a thread without a task does next.
pub(super) enum Turn {
    Run(Task),
    Read,
    Leave,
}

impl Worker {
    pub(super) fn turn(&self, slot: usize, now: &mut Option<Instant>) -> Turn {
        let mut queue = self.queue.lock();
        let mut flushed = false;
        loop {
            if queue.active > self.welcome.threads {
                queue.active -= 1;
                queue.free_slots.push(slot);
                // Somebody who stays must look at what there is.
                self.work.notify_one();
                return Turn::Leave;
            }
            let closed = self.closed(&queue).is_some();
            if let Some(task) = queue.tasks.pop_front_if(|_| !closed) {
                queue.running.push(task.id);
                self.page.set_listening(true);
                // Somebody should read while this thread is busy: an idle one now, or else the watcher in a while.
                if !queue.reading && queue.idle > 0 {
                    self.work.notify_one();
                }
                drop(queue);
                self.wake_watcher();
                return Turn::Run(task);
            }
            *now = None;
            if !flushed {
                drop(queue);
                self.send_finished();
                if self.streams.unseen() {
                    Streams::flush();
                    self.tell_printed();
                }
                self.stop_listening();
                flushed = true;
                queue = self.queue.lock();
                continue;
            }
            if !queue.reading && !closed {
                queue.reading = true;
                return Turn::Read;
            }
            if closed {
                // The watcher reads meanwhile: who reads cannot be told that there is room again.
                self.wake_watcher();
            }
            queue.idle += 1;
            self.work.wait(&mut queue);
            queue.idle -= 1;
        }
    }

    /// Why the next task must wait, if there is one and it must.
    pub(super) fn closed(&self, queue: &Queue) -> Option<Wait> {
        if queue.tasks.is_empty() { None } else { self.store.may_start(queue.running.len()).err() }
    }

    /// Takes in tasks to run: at once, or after others that have been sent before them.
    pub(super) fn accept(&self, tasks: Vec<Task>) {
        let mut bounced = Vec::new();
        let mut queue = self.queue.lock();
        for mut task in tasks {
            if pending::lacks(&task).next().is_none() {
                queue.tasks.push_back(task);
                continue;
            }
            let mut lost = false;
            for input in &mut task.inputs {
                let Input::Ahead { id } = *input else { continue };
                // What it follows was sent just before it, if it has not ended.
                let to_come = queue.waiting.holds(id)
                    || queue.running.contains(&id)
                    || queue.tasks.iter().rev().any(|t| t.id == id);
                if !to_come {
                    *input = Input::Held { id, take: false };
                    lost |= !self.store.holds(id);
                }
            }
            if lost {
                bounced.push(task.id);
            } else if pending::lacks(&task).next().is_none() {
                queue.tasks.push_back(task);
            } else {
                queue.waiting.add(task);
            }
        }
        drop(queue);
        self.bounce(bounced);
    }

    /// Sends back tasks that came ahead of results which there will not be here.
    pub(super) fn bounce(&self, tasks: Vec<TaskId>) {
        if !tasks.is_empty() {
            // How the others ended comes first.
            self.send_finished();
            self.link.send(&FromWorker::Bounced(tasks));
        }
    }

    pub(super) fn cancel(&self, tasks: &[TaskId]) {
        let mut queue = self.queue.lock();
        let mut dropped = Vec::new();
        queue.tasks.retain(|t| {
            let drop = tasks.contains(&t.id);
            if drop {
                dropped.push(Completion { id: t.id, attempt: t.attempt, run_us: 0, outcome: Outcome::Cancelled });
            }
            !drop
        });
        for id in tasks {
            dropped.extend(queue.waiting.remove(*id).map(|t| Completion {
                id: t.id,
                attempt: t.attempt,
                run_us: 0,
                outcome: Outcome::Cancelled,
            }));
        }
        let gone: Vec<_> = dropped.iter().map(|d| d.id).collect();
        let bounced = queue.waiting.fail(&gone);
        let running: Vec<_> = tasks.iter().filter(|id| queue.running.contains(id)).copied().collect();
        queue.cancelled.extend(running);
        drop(queue);
        if !dropped.is_empty() {
            self.finished.lock().extend(dropped);
            self.send_finished();
        }
        self.bounce(bounced);
    }

    pub(crate) fn is_cancelled(&self, id: TaskId) -> bool {
        self.queue.lock().cancelled.contains(&id)
    }

    pub(super) fn retract(&self, tasks: Vec<TaskId>) {
        let wanted: FxHashSet<TaskId> = tasks.into_iter().collect();
        let mut back = Vec::new();
        let mut queue = self.queue.lock();
        queue.tasks.retain(|t| {
            let retracted = wanted.contains(&t.id);
            if retracted {
                back.push(t.id);
            }
            !retracted
        });
        back.extend(wanted.iter().filter_map(|id| queue.waiting.remove(*id)).map(|t| t.id));
        let bounced = queue.waiting.fail(&back);
        drop(queue);
        self.link.send(&FromWorker::Retracted(back));
        self.bounce(bounced);
    }
}
