//! The memory that all workers of a cluster may have together, of whatever program they are.

use crate::units::{HumanBytes, counted};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One budget, of which each supervisor takes a share.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    total: u64,
    taken: AtomicU64,
}

/// What the workers of one supervisor take of it. Dropped, it is given back.
#[derive(Debug)]
pub(crate) struct BudgetShare {
    budget: Arc<MemoryBudget>,
    /// Bytes of a worker, and how many there are.
    each: u64,
    workers: usize,
}

impl MemoryBudget {
    pub(crate) fn new(total: u64) -> Arc<Self> {
        Arc::new(Self { total, taken: AtomicU64::new(0) })
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// No share yet of workers of so many bytes.
    pub(crate) fn share(self: &Arc<Self>, each: u64) -> BudgetShare {
        BudgetShare { budget: Arc::clone(self), each: each.max(1), workers: 0 }
    }
}

impl BudgetShare {
    /// How many workers there may be now. Shares change in one thread of the cluster, where all its supervisors run.
    pub(crate) fn room(&self) -> usize {
        let others = self.budget.taken().saturating_sub(self.bytes(self.workers));
        usize::try_from(self.budget.total.saturating_sub(others) / self.each).unwrap_or(usize::MAX)
    }

    /// There are to be so many workers.
    ///
    /// # Errors
    /// Where there is no room for them.
    pub(crate) fn set(&mut self, workers: usize) -> Result<(), String> {
        let room = self.room();
        if workers > room && workers > self.workers {
            return Err(format!(
                "{} of {} each do not fit: of the {} that all workers of the cluster may have together, {} are \
                 taken, so {room} may be here",
                counted(workers as u64, "worker"),
                HumanBytes(self.each),
                HumanBytes(self.budget.total),
                HumanBytes(self.budget.taken()),
            ));
        }
        let (before, after) = (self.bytes(self.workers), self.bytes(workers));
        self.budget.taken.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        self.workers = workers;
        Ok(())
    }

    fn bytes(&self, workers: usize) -> u64 {
        self.each.saturating_mul(workers as u64)
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes(self.workers), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shares_never_take_more_than_there_is_and_are_given_back() {
        let budget = MemoryBudget::new(100);
        let (mut a, mut b) = (budget.share(20), budget.share(30));
        assert_eq!((a.room(), b.room()), (5, 3));
        assert_eq!(a.set(2), Ok(()));
        assert_eq!((a.room(), b.room()), (5, 2));
        let refused = b.set(3).unwrap_err();
        assert!(refused.contains("2 may be here"), "{refused}");
        assert_eq!((b.set(2), budget.taken()), (Ok(()), 100));
        assert!(a.set(3).is_err());
        assert_eq!((a.set(1), a.room(), budget.taken()), (Ok(()), 2, 80));
        drop(b);
        assert_eq!((budget.taken(), a.set(5)), (20, Ok(())));
        drop(a);
        assert_eq!(budget.taken(), 0);
    }
}
