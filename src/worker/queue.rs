//! The queue of a worker: tasks that have not begun, and what a thread does next.

use super::pending::PendingTasks;
use super::{Worker, cap, pending};
use crate::fairness::RunQueue;
use crate::ids::TaskId;
use crate::job::{Completion, Input, Outcome};
use crate::memory::policy::Wait;
use crate::message::{FromWorker, Task};
use crate::submission::calls::forget_tasks;
use crate::task::wait::{TaskWaits, WaitKind};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

pub(super) struct Queue {
    pub(super) tasks: RunQueue<Task>,
    /// Tasks that wait for results of others of this worker.
    pub(super) pending: PendingTasks,
    /// Whether a thread reads the socket.
    pub(super) reading: bool,
    /// Threads that wait for work or until they may read.
    pub(super) idle: usize,
    /// Threads, except those in whose place another one runs. Those beyond the worker's number of threads leave.
    pub(super) active: usize,
    /// Running tasks that were cancelled.
    pub(super) cancelled: FxHashSet<TaskId>,
    /// Those of them in whose place no other thread runs yet, with their threads.
    pub(super) unwanted: Vec<(TaskId, usize)>,
    /// With their threads. A list, since it is never longer than the number of threads.
    pub(super) running: Vec<(TaskId, usize)>,
    /// By the numbers of threads.
    pub(super) places: Vec<Arc<Place>>,
    pub(super) next_thread: usize,
    /// Numbers of threads that have left.
    pub(super) free_threads: Vec<usize>,
}

/// Why another thread runs tasks in the place of one: its task waits for tasks of its own, or goes on though it was cancelled.
#[derive(Default)]
pub(super) struct Place {
    reasons: AtomicU32,
    /// Whether the supervisor knows that the task waits. Which ones are cancelled it knows by itself.
    told: AtomicBool,
    /// The task that waits, or did last.
    waiter: Mutex<Option<TaskId>>,
    /// Those of the task.
    pub(super) waits: Arc<TaskWaits>,
}

impl Place {
    fn is_filled(&self) -> bool {
        self.reasons.load(Ordering::Relaxed) > 0
    }
}

impl Queue {
    pub(super) fn is_running(&self, id: TaskId) -> bool {
        self.running.iter().any(|(running, _)| *running == id)
    }

    /// Tasks that run, but for those in whose place another one may: they may wait for just that one.
    fn in_place(&self) -> usize {
        let is_replaced = |thread: usize| self.places.get(thread).is_some_and(|place| place.is_filled());
        self.running.iter().filter(|(_, thread)| !is_replaced(*thread)).count()
    }

    /// A thread that begins is known by its number from now on.
    pub(super) fn place_of(&mut self, thread: usize) -> Arc<Place> {
        if self.places.len() <= thread {
            self.places.resize_with(thread + 1, Arc::default);
        }
        Arc::clone(&self.places[thread])
    }
}

/// What a thread without a task does next.
pub(super) enum Next {
    Run(Task),
    Read,
    Leave,
}

impl Worker {
    /// What a thread does next; with `look`, it reads first what has come meanwhile, if nobody else does.
    pub(super) fn next(&self, thread: usize, look: bool, now: &mut Option<u64>) -> Next {
        let mut queue = self.queue.lock();
        let mut flushed = false;
        loop {
            if queue.active > self.welcome.threads {
                queue.active -= 1;
                queue.free_threads.push(thread);
                // A thread that stays must look for work.
                self.work.notify_one();
                return Next::Leave;
            }
            let paused = self.pause_reason(&queue).is_some();
            if look && !flushed && !queue.reading && !queue.tasks.is_empty() && self.supervisor.poll(0) {
                *now = None;
                queue.reading = true;
                return Next::Read;
            }
            if !paused && let Some(task) = queue.tasks.pop() {
                queue.running.push((task.id, thread));
                self.page.set_listening(true);
                // Another thread should read while this one is busy: an idle one now, or else the watcher later.
                if !queue.reading && queue.idle > 0 {
                    self.work.notify_one();
                }
                drop(queue);
                self.wake_watcher();
                return Next::Run(task);
            }
            *now = None;
            if !flushed {
                drop(queue);
                self.send_finished();
                if self.capture.unseen() {
                    self.send_own_output();
                }
                self.stop_listening();
                flushed = true;
                queue = self.queue.lock();
                continue;
            }
            if !queue.reading && !paused {
                queue.reading = true;
                return Next::Read;
            }
            if paused {
                // The watcher reads meanwhile: a thread that reads cannot be told that there is room again.
                self.wake_watcher();
            }
            queue.idle += 1;
            self.work.wait(&mut queue);
            queue.idle -= 1;
        }
    }

    /// Why the next task may not start for want of memory; none if it may, or if there is none.
    pub(super) fn pause_reason(&self, queue: &Queue) -> Option<Wait> {
        match queue.tasks.front() {
            Some(task) => self.store.may_start(|| queue.in_place(), task).err(),
            None => {
                self.store.none_waits();
                None
            }
        }
    }

    /// Queues tasks: to run at once, or after tasks that were sent before them.
    pub(super) fn accept(&self, tasks: Vec<Task>) {
        let mut bounced = Vec::new();
        let mut queue = self.queue.lock();
        for mut task in tasks {
            self.find_shared(&mut task);
            if pending::missing(&task).next().is_none() {
                queue.tasks.push(task);
                continue;
            }
            let mut lost = false;
            for input in &mut task.inputs {
                let Input::Pending { id } = *input else { continue };
                // The task it follows was sent shortly before it, and is found unless it has ended.
                let to_come =
                    queue.pending.holds(id) || queue.is_running(id) || queue.tasks.iter().rev().any(|t| t.id == id);
                if !to_come {
                    *input = Input::Held { id, take: false };
                    lost |= !self.store.holds(id);
                }
            }
            if lost {
                bounced.push(task.id);
            } else if pending::missing(&task).next().is_none() {
                queue.tasks.push(task);
            } else {
                queue.pending.add(task);
            }
        }
        drop(queue);
        self.bounce(bounced);
    }

    /// Gives a task the shared inputs that it names. From then on it has them, also when they are to be dropped.
    fn find_shared(&self, task: &mut Task) {
        for input in &mut task.inputs {
            if let Input::Shared { id, sole } = *input
                && let Some(found) = self.store.shared(id)
            {
                *input = Input::Found { input: found, sole };
            }
        }
    }

    /// Sends back tasks that wait for results which this worker will not have.
    pub(super) fn bounce(&self, tasks: Vec<TaskId>) {
        if !tasks.is_empty() {
            // The supervisor must know first how the tasks before them ended.
            self.send_finished();
            self.supervisor.send(&FromWorker::Bounced(tasks));
        }
    }

    /// A thread begins or ends to wait for tasks of its task; meanwhile another one runs tasks instead.
    pub(super) fn wait_begins(&'static self, place: &Place, task: Option<TaskId>, kind: WaitKind) {
        if place.reasons.fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        place.told.store(true, Ordering::Relaxed);
        *place.waiter.lock() = task;
        let refused = self.fill_place(&mut self.queue.lock());
        // Without the lock: standard error may be full, and the threads that empty it need the lock.
        log_refused(refused);
        self.send_finished();
        self.supervisor.send(&FromWorker::Blocked(1, task.map(|task| (task, kind))));
    }

    pub(super) fn reason_ends(&self, place: &Place) {
        if place.reasons.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        self.queue.lock().active += 1;
        if place.told.swap(false, Ordering::Relaxed) {
            let task = place.waiter.lock().take();
            self.supervisor.send(&FromWorker::Blocked(-1, task.map(|task| (task, WaitKind::default()))));
        }
    }

    /// Has another thread run in the place of one.
    fn fill_place(&'static self, queue: &mut Queue) -> Option<std::io::Error> {
        queue.active -= 1;
        if queue.idle > 0 {
            self.work.notify_one();
            return None;
        }
        // Numbers are used again, because the control page shows only the first ones.
        let thread = queue.free_threads.pop().unwrap_or_else(|| {
            queue.next_thread += 1;
            cap::make_room(queue.next_thread);
            queue.next_thread - 1
        });
        queue.active += 1;
        let name = format!("executor-{thread}");
        let spawned = std::thread::Builder::new().name(name).spawn(move || self.work_as_thread(thread));
        if spawned.is_err() {
            queue.active -= 1;
            queue.free_threads.push(thread);
        }
        spawned.err()
    }

    /// Has other threads run in the place of tasks that were cancelled and go on, which may be for long. The watcher does so
    /// in its next round: what is cancelled together with them must not begin.
    pub(super) fn make_way(&'static self) {
        let mut queue = self.queue.lock();
        let mut refused = None;
        for (_, thread) in std::mem::take(&mut queue.unwanted) {
            if queue.place_of(thread).reasons.fetch_add(1, Ordering::Relaxed) == 0 {
                refused = refused.or(self.fill_place(&mut queue));
            }
        }
        drop(queue);
        log_refused(refused);
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
            dropped.extend(queue.pending.remove(*id).map(|t| Completion {
                id: t.id,
                attempt: t.attempt,
                run_us: 0,
                outcome: Outcome::Cancelled,
            }));
        }
        let cancelled: Vec<_> = dropped.iter().map(|d| d.id).collect();
        let bounced = queue.pending.fail(&cancelled);
        let mut waiting = Vec::new();
        for (id, thread) in queue.running.clone() {
            if tasks.contains(&id) && queue.cancelled.insert(id) {
                queue.unwanted.push((id, thread));
                waiting.push(Arc::clone(&queue.place_of(thread).waits));
            }
        }
        let unwanted = !queue.unwanted.is_empty();
        drop(queue);
        if let Some(client) = self.client.get() {
            forget_tasks(&**client, |id| tasks.contains(&id));
        }
        waiting.iter().for_each(|waits| waits.wake());
        if unwanted {
            self.wake_watcher();
        }
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
        back.extend(wanted.iter().filter_map(|id| queue.pending.remove(*id)).map(|t| t.id));
        let bounced = queue.pending.fail(&back);
        drop(queue);
        self.supervisor.send(&FromWorker::Retracted(back));
        self.bounce(bounced);
    }
}

fn log_refused(refused: Option<std::io::Error>) {
    if let Some(e) = refused {
        log::error!("no thread to run tasks in the place of one that waits, or was cancelled: {e}");
    }
}
