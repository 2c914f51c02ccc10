//! What a worker says of its memory on its control page.

use crate::ipc::page::MOST_THREADS;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Why a worker starts no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    No,
    /// Results are being moved to disk.
    Spilling,
    /// The process uses too much.
    Paused,
}

/// Bytes, each written by the process alone.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Gauges {
    managed: AtomicU64,
    spilled: AtomicU64,
    segments: AtomicU64,
    /// What it has reserved of the disk.
    pub(crate) disk: AtomicU64,
    peaks: [AtomicU64; MOST_THREADS],
    waits: AtomicU32,
    /// Whether the disk takes nothing.
    disk_fails: AtomicU32,
    /// The worker's limit; 0: there is none.
    limit: AtomicU64,
    /// Bytes of results that have ever been moved to disk.
    moved: AtomicU64,
    /// How often tasks had to wait for memory.
    pauses: AtomicU64,
}

impl Gauges {
    /// What results take, in memory and on disk.
    pub(crate) fn set_results(&self, managed: u64, spilled: u64) {
        self.managed.store(managed, Ordering::Relaxed);
        self.spilled.store(spilled, Ordering::Relaxed);
    }

    pub(crate) fn managed(&self) -> u64 {
        self.managed.load(Ordering::Relaxed)
    }

    pub(crate) fn spilled(&self) -> u64 {
        self.spilled.load(Ordering::Relaxed)
    }

    /// What the process uses: private memory, and segments of its own in use. It counts for every task that runs.
    pub(crate) fn set_process(&self, private: u64, segments: u64) {
        self.segments.store(segments, Ordering::Relaxed);
        for peak in &self.peaks {
            // Only this process writes it, from one thread but for the restarts, after which either value will do.
            if peak.load(Ordering::Relaxed) < private + segments {
                peak.store(private + segments, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn segments(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }

    /// Another task runs on an executor thread.
    pub(crate) fn restart_peak(&self, thread: usize) {
        self.peaks[thread].store(0, Ordering::Relaxed);
    }

    /// The most that the process used since the task of an executor thread began.
    pub(crate) fn peak(&self, thread: usize) -> u64 {
        self.peaks.get(thread).map_or(0, |peak| peak.load(Ordering::Relaxed))
    }

    pub(crate) fn set_waits(&self, waits: Waits) {
        self.waits.store(waits as u32, Ordering::Relaxed);
    }

    pub(crate) fn waits(&self) -> Waits {
        match self.waits.load(Ordering::Relaxed) {
            0 => Waits::No,
            1 => Waits::Spilling,
            _ => Waits::Paused,
        }
    }

    pub(crate) fn count_moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    pub(crate) fn count_pause(&self) {
        self.pauses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pauses(&self) -> u64 {
        self.pauses.load(Ordering::Relaxed)
    }

    pub(crate) fn set_disk_fails(&self, fails: bool) {
        self.disk_fails.store(u32::from(fails), Ordering::Relaxed);
    }

    pub(crate) fn disk_fails(&self) -> bool {
        self.disk_fails.load(Ordering::Relaxed) != 0
    }
}
