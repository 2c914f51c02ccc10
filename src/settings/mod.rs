//! The options of a cluster, checked, and the policies and sizes they are made of.

mod adapt;
pub(crate) mod sizes;

pub use adapt::AdaptOptions;

use std::path::PathBuf;

use crate::error::words::words;
use crate::machine::Machine;
use crate::memory::thresholds::Thresholds;
use crate::resources::Resources;
use crate::units::{HumanBytes, counted};
use std::time::Duration;

/// Most workers of one cluster.
pub(crate) const MOST_WORKERS: usize = 1024;

/// Variables that say to libraries how many threads they may have.
pub(crate) const INNER_POOLS: [&str; 5] =
    ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"];

/// The options of a cluster, checked.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Settings {
    /// What there was when they were made.
    pub(crate) machine: Machine,
    pub(crate) workers: usize,
    pub(crate) threads: usize,
    /// Bytes for each worker.
    pub(crate) memory_limit: Option<u64>,
    /// Bytes for all workers together; on a local cluster those of all builds.
    pub(crate) total_memory: Option<u64>,
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
    /// Of the first workers; others have none.
    pub(crate) resources: Vec<Resources>,
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
    pub(crate) hooks: WorkerHooks,
    /// Where pieces of shuffles go: the spill directory, where one was set.
    pub(crate) shuffle_directory: Option<PathBuf>,
}

impl Settings {
    /// What each worker has of resources.
    pub(crate) fn resources_of_workers(&self) -> Vec<Resources> {
        (0..self.workers.max(1)).map(|at| self.resources.get(at).cloned().unwrap_or_default()).collect()
    }

    pub(crate) fn describe(&self) -> String {
        let limit = match self.memory_limit {
            Some(limit) => format!("memory limit {} each", HumanBytes(limit)),
            None => "no memory limit".to_string(),
        };
        let (workers, threads) = (counted(self.workers as u64, "worker"), counted(self.threads as u64, "thread"));
        format!("{workers} x {threads}, {limit}, on {}", self.machine)
    }
}

/// What each worker does before its first task and when it ends in order: records of functions, by their offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct WorkerHooks {
    pub(crate) init: Option<u64>,
    pub(crate) exit: Option<u64>,
}

/// What the supervisor does when a worker process has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// It starts another one, after a short pause when they die at once. When none comes to work for as long as
    /// [`Builder::start_timeout`](crate::Builder::start_timeout), it gives up, and what is still to be done fails.
    Always,
    /// It goes on with those that are left. When none is left, what is still to be done fails.
    Never,
}

words!(RestartPolicy, "restart policy": Always "always", Never "never");

/// How a worker process, which is this executable started again, becomes a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum StartMethod {
    /// Before `main`, by itself. Rust's runtime is not set up then: a stack overflow ends the worker without a message.
    Automatic,
    /// In [`init`](crate::init), which must be the first line of `main`.
    Init,
}
