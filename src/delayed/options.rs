//! What a user may say about one task.

use crate::protocol::TaskOptions;
use std::time::Duration;

/// Options of one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) name: Option<String>,
    pub(crate) pure: bool,
    pub(crate) priority: i32,
    pub(crate) retries: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) memory: Option<u64>,
    pub(crate) worker: Option<String>,
    pub(crate) tag: Option<String>,
}

impl Options {
    /// Whether the options change how the task is run, not only what it is called.
    pub(crate) fn matter(&self) -> bool {
        self.to_wire() != TaskOptions::default()
    }

    pub(crate) fn to_wire(&self) -> TaskOptions {
        TaskOptions {
            name: self.name.clone(),
            priority: self.priority,
            retries: self.retries,
            timeout_ms: self.timeout.map(|t| t.as_millis().clamp(1, u64::MAX.into()) as u64),
            memory: self.memory,
            worker: self.worker.clone(),
            tag: self.tag.clone(),
        }
    }
}
