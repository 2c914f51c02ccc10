//! A budget for the results that are alive in this process.

use crate::graph::node::{Kind, Node};
use crate::task::Value;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes results may take before tasks without inputs wait. Those with inputs never do: they free what they use.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    live: AtomicU64,
    /// What a result takes: a moving average.
    typical: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, live: AtomicU64::new(0), typical: AtomicU64::new(0) }
    }

    /// Counts a result; answers with its size, for [`gone`](Self::gone).
    pub(super) fn kept(&self, node: &Node, value: &Value) -> u64 {
        let Kind::Call { function, .. } = &node.kind else { return 0 };
        let bytes = function.result().size(value);
        self.live.fetch_add(bytes, Ordering::Relaxed);
        let old = self.typical.load(Ordering::Relaxed);
        // Two threads that do this at once may lose one of the samples.
        self.typical.store(if old == 0 { bytes } else { old - old / 8 + bytes / 8 }, Ordering::Relaxed);
        bytes
    }

    pub(super) fn gone(&self, bytes: u64) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of results, and how many there may be.
    pub(super) fn used(&self) -> (u64, u64) {
        (self.live.load(Ordering::Relaxed), self.limit)
    }

    /// How many of `n` tasks without inputs may start while `busy` threads run others. One always may where none does:
    /// results may be there to stay.
    pub(super) fn admit(&self, n: usize, busy: usize) -> usize {
        let typical = self.typical.load(Ordering::Relaxed);
        let used = self.live.load(Ordering::Relaxed).saturating_add(typical.saturating_mul(busy as u64));
        let room = self.limit.saturating_sub(used);
        let fit = match room.checked_div(typical) {
            Some(fit) => usize::try_from(fit).unwrap_or(usize::MAX),
            // Nothing is known yet, so nothing is taken in advance.
            None => usize::from(room > 0),
        };
        fit.max(usize::from(busy == 0)).min(n)
    }
}
