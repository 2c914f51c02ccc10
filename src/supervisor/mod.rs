//! Worker processes and the actor that supervises them.
//!
//! The [`core`] of a supervisor has the scheduler's state, the workers' slots, and what is known of their deaths. Its
//! [`actor`] runs in a thread of its own, and a client in the same process may do the actor's work for a moment. A
//! [`worker_link`] actor for each worker owns that worker's pipes and process and waits for its messages. Decisions are the
//! scheduler's; the others only carry its commands out and bring it events.

pub(crate) mod actor;
pub(crate) mod connection;
pub(crate) mod core;
pub(crate) mod fast_path;
mod in_process;
pub(crate) mod messages;
pub(crate) mod recent_lines;
pub(crate) mod shared_core;
pub(crate) mod worker_link;
mod worker_slot;

pub(crate) use in_process::start_here;

use crate::client::{RestartPolicy, StartMethod};
use crate::error::{Error, Result};
use crate::ipc::ledger::Ledger;
use crate::ipc::page::{ControlPage, PageName};
use crate::ipc::segment::SegmentPool;
use crate::ipc::start::wake_orphans;
use crate::memory::limit::Bytes;
use crate::memory::thresholds::Thresholds;
use nix::sys::resource::{Resource, getrlimit};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Most workers of one cluster.
pub(crate) const MOST_WORKERS: usize = 1024;

/// The options of a cluster, checked.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) threads: usize,
    /// Bytes for each worker.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) thresholds: Thresholds,
    /// Where results go that do not fit into memory.
    pub(crate) spill_directory: Option<PathBuf>,
    /// Bytes of them for all together.
    pub(crate) spill_limit: Option<u64>,
    /// Bytes of shared segments for all together.
    pub(crate) shared_memory: u64,
    /// A worker is replaced in order when it has done so many tasks.
    pub(crate) recycle_after: Option<u64>,
    /// And when memory that is not of results stays over this share of its limit.
    pub(crate) recycle_unmanaged: Option<f64>,
    pub(crate) name: String,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) tags: Vec<Vec<String>>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) start_timeout: Duration,
    pub(crate) worker_timeout: Duration,
    pub(crate) cancel_grace: Duration,
    pub(crate) allowed_deaths: u32,
    pub(crate) restart: RestartPolicy,
    pub(crate) start_method: StartMethod,
    pub(crate) forward_output: bool,
    /// Task runs that each worker records.
    pub(crate) events: usize,
}

impl Settings {
    pub(crate) fn describe(&self) -> String {
        let s = |n: usize| if n == 1 { "" } else { "s" };
        let limit = match self.memory_limit {
            Some(limit) => format!("memory limit {} each", Bytes(limit)),
            None => "no memory limit".to_string(),
        };
        let (w, t) = (self.workers, self.threads);
        format!("{w} worker{} x {t} thread{}, {limit}", s(w), s(t))
    }
}

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
        ledger.set_most_pieces(most_segments());
        ledger.set_disk_limit(settings.spill_limit.unwrap_or(u64::MAX));
        // The supervisor's own segments are those of the client in the same process.
        let pool = SegmentPool::new(0, ledger.clone(), (settings.shared_memory / 8) as usize);
        Ok(Self { page, pages: name, ledger, pool })
    }
}

/// How many shared segments there may be: each that is in use costs the supervisor's process a descriptor, and half of
/// those it may open are left for everything else.
pub(crate) fn most_segments() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(512, |(soft, _)| soft / 2)
}
