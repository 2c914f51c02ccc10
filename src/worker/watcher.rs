//! The watcher: the thread that reads, samples and sends while all others run tasks.

use super::Worker;
use crate::ipc::clock::monotonic_ms;
use crate::message::FromWorker;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the watcher looks while tasks run.
pub(super) const TICK: Duration = Duration::from_millis(2);
/// How long nothing must have run before the watcher sleeps.
const CALM: Duration = Duration::from_millis(100);
/// How long the watcher reads before it looks whether somebody else could.
const TURN_MS: u64 = 10;
/// How often memory is sampled while tasks run.
const SAMPLE: Duration = Duration::from_millis(100);
/// How long tasks must have waited for memory before the supervisor is told to send them elsewhere.
const LASTING: Duration = Duration::from_millis(50);

impl Worker {
    /// There may be room for another task.
    pub(super) fn eased(&self) {
        let queue = self.queue.lock();
        if !queue.tasks.is_empty() && queue.idle > 0 && self.closed(&queue).is_none() {
            self.work.notify_one();
        }
    }

    pub(super) fn wake_watcher(&self) {
        // Seen by a watcher that is about to sleep, and does not then.
        self.activity.fetch_add(1, Ordering::Relaxed);
        let mut awake = self.watch.lock();
        if !*awake {
            *awake = true;
            self.watcher.notify_one();
        }
    }

    /// The watcher's life, see the head of this module.
    pub(super) fn watch(&'static self) {
        let mut closed_since: Option<Instant> = None;
        let mut told_closed = false;
        let (mut seen, mut calm_since) = (0, Instant::now());
        let mut sampled: Option<Instant> = None;
        loop {
            {
                let mut awake = self.watch.lock();
                while !*awake {
                    self.watcher.wait(&mut awake);
                    calm_since = Instant::now();
                }
            }
            std::thread::sleep(TICK);
            self.page.beat(monotonic_ms());
            let process = self.store.sample();
            if sampled.is_none_or(|at| at.elapsed() > SAMPLE) {
                self.page.add_sample(process);
                sampled = Some(Instant::now());
            }
            self.send_finished();
            self.eased();
            self.export_deferred();
            self.tell_printed();
            let busy = {
                let mut queue = self.queue.lock();
                let waits = self.closed(&queue);
                let closed = waits.is_some();
                // What passes soon is not worth telling: elsewhere, inputs would have to be moved.
                let since = *closed_since.get_or_insert_with(Instant::now);
                if !closed {
                    closed_since = None;
                }
                if told_closed != closed && (!closed || since.elapsed() > LASTING) {
                    told_closed = closed;
                    self.store.note_waits(waits);
                    self.link.send(&FromWorker::Paused(closed));
                }
                let runs = !queue.running.is_empty() || closed || told_closed || !self.deferred.lock().is_empty();
                if runs && !queue.reading && (queue.idle == 0 || closed) {
                    queue.reading = true;
                    drop(queue);
                    self.read_in_turn();
                }
                runs || self.exporting.load(Ordering::Relaxed) > 0
            };
            let activity = self.activity.load(Ordering::Relaxed);
            if busy || activity != seen {
                seen = activity;
                calm_since = Instant::now();
            } else if calm_since.elapsed() > CALM {
                let mut awake = self.watch.lock();
                // A task that starts now sets this again, after its start has been counted.
                *awake = false;
                if self.activity.load(Ordering::Relaxed) != seen {
                    *awake = true;
                }
            }
        }
    }

    /// Reads until something came or the turn is over.
    fn read_in_turn(&'static self) {
        if self.link.poll(TURN_MS) {
            let frames = self.link.read();
            self.handle(frames);
        }
        let mut queue = self.queue.lock();
        queue.reading = false;
        for _ in 0..queue.tasks.len().max(1).min(queue.idle) {
            self.work.notify_one();
        }
    }
}
