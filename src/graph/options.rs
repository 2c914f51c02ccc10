//! What a user may say about one task.

use crate::job::WireOptions;
use std::time::Duration;

/// Options of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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
    /// Sets how long an attempt may take: in whole milliseconds, as processes tell each other.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        let whole = timeout.as_nanos().div_ceil(1_000_000).clamp(1, u64::MAX.into());
        self.timeout = Some(Duration::from_millis(whole as u64));
    }

    /// Whether the options change how the task is run, not only what it is called.
    pub(crate) fn matter(&self) -> bool {
        self.to_wire() != WireOptions::default()
    }

    /// Whether a task with these options can take in one with the others.
    pub(crate) fn agrees(&self, inner: &Self) -> bool {
        fn same<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        same(&self.worker, &inner.worker) && same(&self.tag, &inner.tag)
    }

    /// The options of this task when it has taken in the other: those that say more.
    pub(crate) fn with(&self, inner: &Self) -> Self {
        Self {
            name: self.name.clone(),
            pure: self.pure,
            priority: self.priority.max(inner.priority),
            retries: self.retries.max(inner.retries),
            timeout: self.timeout.into_iter().chain(inner.timeout).min(),
            memory: self.memory.max(inner.memory),
            worker: self.worker.clone().or_else(|| inner.worker.clone()),
            tag: self.tag.clone().or_else(|| inner.tag.clone()),
        }
    }

    pub(crate) fn to_wire(&self) -> WireOptions {
        WireOptions {
            name: self.name.clone(),
            priority: self.priority,
            retries: self.retries,
            timeout_ms: self.timeout.map(|t| t.as_millis() as u64),
            memory: self.memory,
            worker: self.worker.clone(),
            tag: self.tag.clone(),
        }
    }
}
