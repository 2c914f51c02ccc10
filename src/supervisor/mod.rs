//! Worker processes and the actor that supervises them.
//!
//! The [`core`] of a supervisor has the scheduler's state, the workers' slots, and what is known of their deaths. Its
//! [`actor`] runs in a thread of its own, and a client in the same process may do the actor's work for a moment. A
//! [`worker_link`] actor for each worker owns that worker's pipes and process and waits for its messages. Decisions are the
//! scheduler's; the others only carry its commands out and bring it events.

pub(crate) mod actor;
mod adaptive;
pub(crate) mod budget;
pub(crate) mod connection;
pub(crate) mod core;
mod effects;
pub(crate) mod fast_path;
mod in_process;
mod live_effects;
pub(crate) mod messages;
mod names;
pub(crate) mod shared_core;
#[cfg(test)]
mod sim;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod worker_link;
mod worker_slot;

pub(crate) use in_process::start_here;

use crate::error::{Error, Result};
use crate::events::sources::RunSources;
use crate::ipc::ledger::Ledger;
use crate::ipc::page::{ControlPage, PageName};
use crate::ipc::segment::SegmentPool;
use crate::ipc::start::wake_orphans;
use crate::settings::Settings;
use budget::MemoryBudget;
pub(crate) use names::PublishedNames;
use nix::sys::resource::{Resource, getrlimit};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The program that workers run.
#[derive(Clone, Debug)]
pub(crate) enum Executable {
    /// This process's own, also after its file has been replaced.
    Own,
    /// That of a program that attached, by a descriptor of it.
    Of(Arc<OwnedFd>),
}

/// The shared memory that all users of a supervisor share with it.
#[derive(Clone)]
pub(crate) struct SharedMemory {
    /// Where the account of the shared memory is.
    pub(crate) page: Arc<ControlPage>,
    /// What the workers' pages are named after.
    pub(crate) pages: PageName,
    pub(crate) ledger: Ledger,
    pub(crate) pool: SegmentPool,
    /// What the workers of all supervisors may have together.
    pub(crate) budget: Option<Arc<MemoryBudget>>,
    /// What results are published as.
    pub(crate) names: PublishedNames,
    /// What takes the runs of tasks, if they are recorded in a file.
    pub(crate) sources: Arc<RunSources>,
}

impl SharedMemory {
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        wake_orphans(&PageName::sweep());
        let resource = |e: &dyn std::fmt::Display| Error::Resource {
            resource: "shared memory for control pages".to_string(),
            reason: e.to_string(),
        };
        let name = PageName::new().map_err(|e| resource(&e))?;
        let page = Arc::new(ControlPage::create(&name, 0).map_err(|e| resource(&e))?);
        let ledger = Ledger::shared(Arc::clone(&page), Arc::clone(&page));
        ledger.set_limit(settings.shared_memory);
        ledger.set_most_files(most_memory_files());
        ledger.set_disk_limit(settings.spill_limit.unwrap_or(u64::MAX));
        // The supervisor's own segments are those of the client in the same process.
        let pool = SegmentPool::new(0, ledger.clone(), (settings.shared_memory / 8) as usize);
        let budget = settings.total_memory.map(MemoryBudget::new);
        Ok(Self { page, pages: name, ledger, pool, budget, names: PublishedNames::new(), sources: Arc::default() })
    }
}

/// How many memory files there may be: each costs the supervisor's process a descriptor, and half of those it may open are
/// left for everything else.
pub(crate) fn most_memory_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(512, |(soft, _)| soft / 2)
}
