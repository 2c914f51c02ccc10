//! A budget for the results that are alive in this process.

use crate::graph::node::{Kind, Node};
use crate::task::Value;
use crate::task::call::guarded_serde;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes results may take before tasks without inputs wait. Those with inputs never do: they free what they
/// use.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    live: AtomicU64,
    /// What a result of a task without inputs takes: a moving average.
    typical: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, live: AtomicU64::new(0), typical: AtomicU64::new(0) }
    }

    /// Counts a result. Returns its size, for [`remove`](Self::remove).
    pub(super) fn add(&self, node: &Node, value: &Value, is_source: bool) -> u64 {
        let codec = match &node.kind {
            Kind::Call { function, .. } => function.result(),
            Kind::Part(part) => match part.codec() {
                Some(codec) => codec,
                None => return 0,
            },
            Kind::Held(_) => return 0,
        };
        // A value whose own code panics when it is walked counts for nothing; it may still be what the task is to give.
        let bytes = guarded_serde("Serialize", || codec.size(value)).unwrap_or(0);
        self.live.fetch_add(bytes, Ordering::Relaxed);
        if !is_source {
            return bytes;
        }
        let old = self.typical.load(Ordering::Relaxed);
        // Two threads that do this at once may lose one of the samples.
        self.typical.store(if old == 0 { bytes } else { old - old / 8 + bytes / 8 }, Ordering::Relaxed);
        bytes
    }

    pub(super) fn remove(&self, bytes: u64) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of results, and the limit.
    pub(super) fn used(&self) -> (u64, u64) {
        (self.live.load(Ordering::Relaxed), self.limit)
    }

    /// How many of `n` tasks without inputs may start while `busy` threads run others. Each counts as what earlier ones
    /// left, or as `declared` as long as there was none. One always may where none runs: results may be there to stay.
    pub(super) fn admit(&self, n: usize, busy: usize, declared: u64) -> usize {
        let typical = match self.typical.load(Ordering::Relaxed) {
            0 => declared,
            typical => typical,
        };
        let used = self.live.load(Ordering::Relaxed).saturating_add(typical.saturating_mul(busy as u64));
        let room = self.limit.saturating_sub(used);
        let fit = match room.checked_div(typical) {
            Some(fit) => usize::try_from(fit).unwrap_or(usize::MAX),
            // No size is known yet, so only one may start.
            None => usize::from(room > 0),
        };
        fit.max(usize::from(busy == 0)).min(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_counts_until_something_is_known() {
        let budget = Budget::new(1000);
        assert_eq!(budget.admit(8, 0, 0), 1, "nothing is taken in advance");
        assert_eq!(budget.admit(8, 0, 300), 3);
        assert_eq!(budget.admit(8, 2, 300), 1, "those that run will leave as much");
        assert_eq!(budget.admit(8, 3, 300), 0);
        assert_eq!(budget.admit(8, 0, 5000), 1, "one always may");
        budget.typical.store(100, Ordering::Relaxed);
        assert_eq!(budget.admit(20, 0, 5000), 10, "what is known is what counts");
    }
}
