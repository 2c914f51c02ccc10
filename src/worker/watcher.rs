//! The watcher: the thread that reads, samples memory and sends results while all others run tasks.

use super::Worker;
use crate::ipc::clock::monotonic_ms;
use crate::message::FromWorker;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the watcher polls while tasks run.
pub(super) const TICK: Duration = Duration::from_millis(2);
/// How often it empties the pipes while a task fills them as fast as it can.
const FLOW: Duration = Duration::from_micros(100);
/// How long the worker must have been idle before the watcher sleeps.
const CALM: Duration = Duration::from_millis(100);
/// How long the watcher waits for a message before it checks whether another thread could read.
const TURN_MS: u64 = 10;
/// How often memory is sampled while tasks run.
const SAMPLE: Duration = Duration::from_millis(100);
/// How long tasks must have waited for memory before the supervisor is told to send them elsewhere.
const LASTING: Duration = Duration::from_millis(50);

impl Worker {
    /// There is more memory: wakes a thread if a task that waited for it may start now.
    pub(super) fn eased(&self) {
        // Where memory was given back, files may have ended with it.
        self.send_ended_files();
        let queue = self.queue.lock();
        if !queue.tasks.is_empty() && queue.idle > 0 && self.pause_reason(&queue).is_none() {
            self.work.notify_one();
        }
    }

    pub(super) fn wake_watcher(&self) {
        // A watcher that is about to sleep sees this and stays awake.
        self.activity.fetch_add(1, Ordering::Relaxed);
        let mut awake = self.watcher_awake.lock();
        if !*awake {
            *awake = true;
            self.watcher_wake_up.notify_one();
        }
    }

    /// The watcher's loop; what it is for is said at the head of [`super`].
    pub(super) fn watch(&'static self) {
        let mut paused_since: Option<Instant> = None;
        let mut told_paused = false;
        let (mut seen, mut calm_since) = (0, Instant::now());
        let mut sampled: Option<Instant> = None;
        loop {
            {
                let mut awake = self.watcher_awake.lock();
                while !*awake {
                    self.watcher_wake_up.wait(&mut awake);
                    calm_since = Instant::now();
                }
            }
            self.rest();
            self.page.beat(monotonic_ms());
            let process = self.store.sample();
            if sampled.is_none_or(|at| at.elapsed() > SAMPLE) {
                self.page.add_sample(process);
                sampled = Some(Instant::now());
            }
            self.send_finished();
            self.eased();
            self.export_deferred();
            self.send_others_output();
            let busy = {
                let mut queue = self.queue.lock();
                let waits = self.pause_reason(&queue);
                let paused = waits.is_some();
                // A short pause is not reported: on other workers, the inputs would have to be moved.
                let since = *paused_since.get_or_insert_with(Instant::now);
                if !paused {
                    paused_since = None;
                }
                if told_paused != paused && (!paused || since.elapsed() > LASTING) {
                    told_paused = paused;
                    self.store.note_waits(waits);
                    self.supervisor.send(&FromWorker::Paused(paused));
                }
                let runs = !queue.running.is_empty() || paused || told_paused || !self.deferred.lock().is_empty();
                if runs && !queue.reading && (queue.idle == 0 || paused) {
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
                let mut awake = self.watcher_awake.lock();
                // A task that starts now counts its start first and sets this again.
                *awake = false;
                if self.activity.load(Ordering::Relaxed) != seen {
                    *awake = true;
                }
            }
        }
    }

    /// Sleeps until the next tick. A task that fills a pipe as fast as it can is not left to wait for that long.
    fn rest(&self) {
        let next = Instant::now() + TICK;
        while self.capture.flows() && Instant::now() < next {
            std::thread::sleep(FLOW);
            self.send_others_output();
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }

    /// Sends what tasks print that run, unless it comes faster than it is taken: then they are left to wait for room.
    fn send_others_output(&self) {
        if self.page.output_pause(monotonic_ms) == 0 {
            self.send_printed();
        }
    }

    /// Waits up to `TURN_MS` for messages, handles them, and lets another thread read. Does not wait while the pipes are to
    /// be emptied again.
    fn read_in_turn(&'static self) {
        if self.supervisor.poll(if self.capture.flows() { 0 } else { TURN_MS }) {
            let frames = self.supervisor.read();
            self.handle(frames);
        }
        let mut queue = self.queue.lock();
        queue.reading = false;
        for _ in 0..queue.tasks.len().max(1).min(queue.idle) {
            self.work.notify_one();
        }
    }
}
