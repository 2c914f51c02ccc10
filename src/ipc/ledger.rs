//! The budget that all shared segments of one supervisor are taken from.
//!
//! Anonymous shared memory has no limit of the kernel's: asking for too much takes the machine down. So every process
//! reserves here before it allocates. The account lies on the supervisor's control page; each process also notes on
//! its own page what it holds, so that the supervisor can write off what a dead one held.

use crate::ipc::page::ControlPage;
use crate::ipc::page::account::{Account, LedgerError, add, subtract};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The disk is not to take that much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} bytes are to be moved to disk and {used} of {limit} are there: raise `spill_limit`")]
pub(crate) struct QuotaError {
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) wanted: u64,
}

/// A handle to the budget.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Book);

#[derive(Clone, Debug)]
enum Book {
    #[cfg(test)]
    Local(Arc<Account>),
    Paged {
        supervisor: Arc<ControlPage>,
        own: Arc<ControlPage>,
    },
}

impl Ledger {
    /// A budget of this process alone.
    #[cfg(test)]
    pub(crate) fn in_memory(limit: u64) -> Self {
        let ledger = Self(Book::Local(Arc::default()));
        ledger.set_limit(limit);
        ledger.set_most_files(u64::MAX);
        ledger.set_disk_limit(u64::MAX);
        ledger
    }

    /// The budget on the supervisor's page, used by the process whose page is `own`. The supervisor gives its own twice.
    pub(crate) fn shared(supervisor: Arc<ControlPage>, own: Arc<ControlPage>) -> Self {
        Self(Book::Paged { supervisor, own })
    }

    fn account(&self) -> &Account {
        match &self.0 {
            #[cfg(test)]
            Book::Local(account) => account,
            Book::Paged { supervisor, .. } => supervisor.account(),
        }
    }

    /// Changes the budget. What is over it already stays.
    pub(crate) fn set_limit(&self, limit: u64) {
        self.account().limit.store(limit, Ordering::Relaxed);
    }

    /// Changes how many memory files there may be.
    pub(crate) fn set_most_files(&self, most: u64) {
        self.account().most_files.store(most, Ordering::Relaxed);
    }

    /// Counts one memory file, unless there are too many.
    pub(crate) fn reserve_file(&self) -> bool {
        let reserved = self.account().reserve_file();
        match &self.0 {
            #[cfg(test)]
            Book::Local(_) => {}
            Book::Paged { own, .. } if reserved => drop(own.shm_files().fetch_add(1, Ordering::Relaxed)),
            Book::Paged { .. } => {}
        }
        reserved
    }

    /// Gives back what [`reserve_file`](Self::reserve_file) took.
    pub(crate) fn release_file(&self) {
        match &self.0 {
            #[cfg(test)]
            Book::Local(_) => {}
            Book::Paged { own, .. } => subtract(own.shm_files(), 1),
        }
        subtract(&self.account().files, 1);
    }

    /// Changes how much may be moved to disk.
    pub(crate) fn set_disk_limit(&self, limit: u64) {
        self.account().disk_limit.store(limit, Ordering::Relaxed);
    }

    /// Takes `bytes` of the disk, or nothing.
    pub(crate) fn reserve_disk(&self, wanted: u64) -> Result<(), QuotaError> {
        let account = self.account();
        let limit = account.disk_limit.load(Ordering::Relaxed);
        add(&account.disk_used, wanted, limit).map_err(|used| QuotaError { limit, used, wanted })?;
        if let Some(own) = self.own() {
            own.disk_used().fetch_add(wanted, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Gives back what [`reserve_disk`](Self::reserve_disk) took.
    pub(crate) fn release_disk(&self, bytes: u64) {
        if let Some(own) = self.own() {
            subtract(own.disk_used(), bytes);
        }
        subtract(&self.account().disk_used, bytes);
    }

    /// The page of this process.
    fn own(&self) -> Option<&ControlPage> {
        match &self.0 {
            #[cfg(test)]
            Book::Local(_) => None,
            Book::Paged { own, .. } => Some(own),
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.account().limit.load(Ordering::Relaxed)
    }

    /// Bytes in use by all processes.
    pub(crate) fn used(&self) -> u64 {
        self.account().used.load(Ordering::Relaxed)
    }

    /// Takes `bytes` out of the budget, or nothing.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), LedgerError> {
        self.account().reserve(bytes)?;
        // A process that dies between the two lines leaves its bytes counted. The other order would forgive bytes that
        // were never counted, and a budget that is too small is better than one that is too large.
        match &self.0 {
            #[cfg(test)]
            Book::Local(_) => {}
            Book::Paged { own, .. } => drop(own.shm_used().fetch_add(bytes, Ordering::Relaxed)),
        }
        Ok(())
    }

    /// Gives back what [`reserve`](Self::reserve) took.
    pub(crate) fn release(&self, bytes: u64) {
        match &self.0 {
            #[cfg(test)]
            Book::Local(_) => {}
            Book::Paged { own, .. } => subtract(own.shm_used(), bytes),
        }
        self.account().release(bytes);
    }

    /// Writes off what a dead process held, and says how much it was. Doing it twice changes nothing.
    pub(crate) fn forgive(&self, dead: &ControlPage) -> u64 {
        let held = dead.shm_used().swap(0, Ordering::Relaxed);
        self.account().release(held);
        subtract(&self.account().files, dead.shm_files().swap(0, Ordering::Relaxed));
        subtract(&self.account().disk_used, dead.disk_used().swap(0, Ordering::Relaxed));
        held
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::page::PageName;
    use std::thread;

    #[test]
    fn a_budget_is_never_exceeded() {
        let ledger = Ledger::in_memory(1000);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for i in 0..2000 {
                        if ledger.reserve(300 + i % 7).is_ok() {
                            assert!(ledger.used() <= 1000);
                            ledger.release(300 + i % 7);
                        }
                    }
                });
            }
        });
        assert_eq!(ledger.used(), 0);
        ledger.reserve(1000).unwrap();
        let error = ledger.reserve(1).unwrap_err();
        assert_eq!(error, LedgerError { limit: 1000, used: 1000, wanted: 1 });
        assert!(error.to_string().contains("shared_memory_limit"));
        assert!(ledger.reserve(u64::MAX).is_err());
        ledger.release(5000);
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn what_a_dead_process_held_is_written_off_once() {
        let name = PageName::new().unwrap();
        let supervisor = Arc::new(ControlPage::create(&name, 0).unwrap());
        let worker_page = Arc::new(ControlPage::create(&name.sibling(1), 0).unwrap());
        let mine = Ledger::shared(supervisor.clone(), supervisor.clone());
        assert!(mine.reserve(1).is_err(), "no budget before one is set");
        mine.set_limit(100);
        // The worker's side has mappings of its own.
        let theirs = Ledger::shared(
            Arc::new(ControlPage::open(supervisor.name()).unwrap()),
            Arc::new(ControlPage::open(worker_page.name()).unwrap()),
        );
        mine.reserve(30).unwrap();
        theirs.reserve(70).unwrap();
        assert_eq!((mine.used(), theirs.limit()), (100, 100));
        assert!(mine.reserve(1).is_err());
        theirs.release(20);
        drop(theirs);
        assert_eq!(mine.forgive(&worker_page), 50);
        assert_eq!(mine.forgive(&worker_page), 0);
        assert_eq!(mine.used(), 30);
        mine.release(30);
        assert_eq!(mine.used(), 0);
    }
}
