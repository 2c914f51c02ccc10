//! The watcher: the main thread, which reads, samples memory and sends results while all others run tasks, and reaps what
//! the programs of tasks leave behind.
//!
//! While tasks start and end it does a round every few milliseconds. Once that has become quiet, because those that run
//! take long, it waits on descriptors: for messages, for what tasks print, and for word of another thread; and now and
//! then it looks at the memory. While nothing runs it waits for word of another thread alone.

use super::Worker;
use super::orphans::Orphans;
use crate::ipc::clock::monotonic_ms;
use crate::ipc::poll_waker::PollWaker;
use crate::message::FromWorker;
use nix::errno::Errno;
use nix::poll::PollTimeout;
use smallvec::SmallVec;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long between two rounds of the watcher while tasks start and end.
pub(super) const TICK: Duration = Duration::from_millis(2);
/// How often it empties the pipes while a task fills them as fast as it can.
const FLOW: Duration = Duration::from_micros(100);
/// For so long nothing must have happened before the watcher waits on descriptors.
const QUIET: Duration = Duration::from_millis(20);
/// How long the watcher waits on descriptors while tasks run, before it samples the memory.
const ROUND_MS: u8 = 100;
/// The same where memory has a limit.
const LIMITED_ROUND_MS: u8 = 50;
/// While memory grows by more than this from round to round, the watcher looks as often as while tasks start and end.
const GROWTH: u64 = 1 << 20;
/// How long the worker must have been idle before the watcher waits without a limit.
const CALM: Duration = Duration::from_millis(100);
/// How often a sample goes to the control page while tasks run.
const SAMPLE: Duration = Duration::from_millis(100);
/// How long tasks must have waited for memory before the supervisor is told to send them elsewhere.
const LASTING: Duration = Duration::from_millis(50);

/// How other threads wake the watcher.
pub(super) struct WatcherWaker {
    /// How much has happened that the watcher should know of.
    events: AtomicU64,
    waker: PollWaker,
}

impl WatcherWaker {
    pub(super) fn new() -> Result<Self, String> {
        let waker = PollWaker::new().map_err(|e| format!("no descriptor to wake a thread with: {e}"))?;
        Ok(Self { events: AtomicU64::new(0), waker })
    }

    /// Something has happened that can wait until the watcher's next round.
    pub(super) fn note(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// Something has happened: a watcher that waits wakes up. An error: the descriptor is not what it was.
    pub(super) fn wake(&self) -> Result<(), Errno> {
        self.note();
        self.waker.wake()
    }

    fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Waits until one of these can be read, or more than `seen` has happened. False: the time is up.
    fn wait(&self, seen: u64, others: &[BorrowedFd<'_>], timeout: PollTimeout) -> bool {
        self.waker.wait(|| self.events() == seen, others, timeout)
    }
}

impl Worker {
    /// There is more memory: wakes a thread if a task that waited for it may start now.
    pub(super) fn eased(&self) {
        // Where memory was given back, files may have ended with it.
        self.send_ended_files();
        self.send_moves();
        let queue = self.queue.lock();
        if !queue.tasks.is_empty() && queue.idle > 0 && self.pause_reason(&queue).is_none() {
            self.work.notify_one();
        }
    }

    pub(super) fn wake_watcher(&self) {
        if self.watcher.wake().is_err() {
            self.supervisor.end_robbed();
        }
    }

    /// The watcher's loop; what it is for is said at the head of [`super`].
    pub(super) fn watch(&'static self) -> ! {
        let mut orphans = Orphans::default();
        let mut paused_since: Option<Instant> = None;
        let mut told_paused = false;
        let (mut seen, mut news) = (0, Instant::now());
        let mut sampled: Option<Instant> = None;
        let (mut busy, mut reads, mut adopted) = (true, false, false);
        let round = PollTimeout::from(if self.store.is_limited() { LIMITED_ROUND_MS } else { ROUND_MS });
        let mut used = u64::MAX;
        loop {
            let (before, quiet) = (seen, news.elapsed());
            seen = self.watcher.events();
            if seen != before {
                news = Instant::now();
            }
            let flows = self.capture.flows();
            if seen != before || quiet < QUIET || flows || !self.deferred.lock().is_empty() {
                self.rest();
            } else {
                let mut others = SmallVec::<[BorrowedFd<'_>; 3]>::new();
                if busy {
                    // While tasks are to wait for room, their pipes are left alone.
                    others.extend(self.capture.pipes().filter(|_| !self.output_waits()));
                    others.extend(reads.then(|| self.supervisor.descriptor()));
                }
                let timeout = if busy || adopted || quiet < CALM { round } else { PollTimeout::NONE };
                if self.watcher.wait(seen, &others, timeout) {
                    news = Instant::now();
                }
            }
            self.page.beat(monotonic_ms());
            let process = self.store.sample();
            if process > used.saturating_add(GROWTH) {
                news = Instant::now();
            }
            used = process;
            if sampled.is_none_or(|at| at.elapsed() > SAMPLE) {
                self.page.add_sample(process);
                sampled = Some(Instant::now());
            }
            if self.terminated.swap(false, Ordering::AcqRel) {
                self.supervisor.send(&FromWorker::Retire);
            }
            self.send_finished();
            self.make_way();
            self.eased();
            self.export_deferred();
            self.send_others_output();
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
            reads = runs && !queue.reading && (queue.idle == 0 || paused);
            if reads && self.supervisor.poll(0) {
                queue.reading = true;
                drop(queue);
                self.read_in_turn();
            } else {
                drop(queue);
            }
            busy = runs || self.exporting.load(Ordering::Relaxed) > 0;
            adopted = orphans.reap(|| self.queue.lock().running.iter().map(|(id, _)| *id).collect());
        }
    }

    /// Sleeps until the next round. A task that fills a pipe as fast as it can is not left to wait for that long.
    fn rest(&self) {
        let next = Instant::now() + TICK;
        while self.capture.flows() && Instant::now() < next {
            std::thread::sleep(FLOW);
            self.send_others_output();
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }

    /// Whether tasks print faster than it is taken, so that they are left to wait for room.
    fn output_waits(&self) -> bool {
        self.page.output_pause(monotonic_ms) > 0
    }

    /// Sends what tasks print that run, unless they are to wait.
    fn send_others_output(&self) {
        if !self.output_waits() {
            self.send_printed();
        }
    }

    /// The thread of a task waits for a moment in its own place, and reads meanwhile, if nobody else does.
    pub(super) fn pass(&'static self, time: Duration) {
        if std::mem::replace(&mut self.queue.lock().reading, true) {
            return std::thread::park_timeout(time);
        }
        if self.supervisor.poll(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)) {
            self.read_in_turn();
        } else {
            let mut queue = self.queue.lock();
            queue.reading = false;
            if queue.idle > 0 {
                self.work.notify_one();
            }
        }
        // Who reads from now on is for it to see.
        self.wake_watcher();
    }

    /// Handles the messages that have come, and lets another thread read.
    fn read_in_turn(&'static self) {
        let frames = self.supervisor.read();
        self.handle(frames);
        let mut queue = self.queue.lock();
        queue.reading = false;
        for _ in 0..queue.tasks.len().max(1).min(queue.idle) {
            self.work.notify_one();
        }
    }
}
