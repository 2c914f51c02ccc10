//! Worker processes and the actor that supervises them.

use crate::client::{Client, RestartPolicy};
use crate::error::Result;
use std::path::PathBuf;
use std::time::Duration;

/// The options of a cluster, checked.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) threads: usize,
    /// Bytes for each worker.
    pub(crate) memory_limit: Option<u64>,
    /// Bytes of shared segments for all together.
    pub(crate) shared_memory: u64,
    pub(crate) name: String,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) tags: Vec<Vec<String>>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) start_timeout: Duration,
    pub(crate) worker_timeout: Duration,
    pub(crate) cancel_grace: Duration,
    pub(crate) allowed_deaths: u32,
    pub(crate) restart: RestartPolicy,
    pub(crate) forward_output: bool,
}

pub(crate) fn local(_settings: Settings) -> Result<Client> {
    Err(crate::Error::Spawn { reason: "not yet".to_string() })
}
