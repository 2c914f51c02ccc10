//! The account of the budgets on the supervisor's control page: what may be used, and what is.

use std::sync::atomic::{AtomicU64, Ordering};

/// There is not that much left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} bytes of shared memory are wanted and {used} of {limit} are in use: \
     raise `shared_memory_limit`, or release results earlier"
)]
pub(crate) struct LedgerError {
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) wanted: u64,
}

/// What may be used, and what is.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(in crate::ipc) struct Account {
    pub(in crate::ipc) limit: AtomicU64,
    pub(in crate::ipc) used: AtomicU64,
    /// The same for the number of segments: the supervisor has a descriptor of each that is in use.
    pub(in crate::ipc) most_files: AtomicU64,
    pub(in crate::ipc) files: AtomicU64,
    /// The same for results on disk.
    pub(in crate::ipc) disk_limit: AtomicU64,
    pub(in crate::ipc) disk_used: AtomicU64,
}

/// Adds to a counter what keeps it within its limit, or says what it is.
pub(in crate::ipc) fn add(counter: &AtomicU64, wanted: u64, limit: u64) -> Result<(), u64> {
    // Numbers only: no other memory is published by them, so no ordering is needed.
    let more = |used: u64| used.checked_add(wanted).filter(|sum| *sum <= limit);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map(drop)
}

impl Account {
    pub(in crate::ipc) fn reserve(&self, wanted: u64) -> Result<(), LedgerError> {
        let limit = self.limit.load(Ordering::Relaxed);
        add(&self.used, wanted, limit).map_err(|used| LedgerError { limit, used, wanted })
    }

    pub(in crate::ipc) fn release(&self, bytes: u64) {
        subtract(&self.used, bytes);
    }

    pub(in crate::ipc) fn reserve_file(&self) -> bool {
        add(&self.files, 1, self.most_files.load(Ordering::Relaxed)).is_ok()
    }
}

/// Stops at zero: a worker that scribbled over its page must not make the budget endless.
pub(in crate::ipc) fn subtract(counter: &AtomicU64, bytes: u64) {
    // The closure never declines, so neither does the update.
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(bytes)));
}
