//! What a user may say about one task.

use crate::job::WireOptions;
use crate::resources::{GivenAmount, Resources};
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
    /// The workers that may run it; none: any.
    pub(crate) among: Vec<String>,
    pub(crate) tag: Option<String>,
    /// By name, as they were given.
    pub(crate) resources: Vec<(String, GivenAmount)>,
}

impl Options {
    /// Sets how long an attempt may take: in whole milliseconds, as processes tell each other.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        let whole = timeout.as_nanos().div_ceil(1_000_000).clamp(1, u64::MAX.into());
        self.timeout = Some(Duration::from_millis(whole as u64));
    }

    /// Sets how much of a resource it takes.
    pub(crate) fn set_resource(&mut self, name: String, amount: f64) {
        self.resources.retain(|(known, _)| *known != name);
        let at = self.resources.partition_point(|(known, _)| *known < name);
        self.resources.insert(at, (name, GivenAmount::new(amount)));
    }

    /// What it takes of resources, if the amounts make sense.
    pub(crate) fn resources(&self) -> Resources {
        Resources::of(self.resources.iter().map(|(name, amount)| (name.as_str(), *amount)))
    }

    /// Those of this one, and others that it does not name.
    fn with_resources(&self, others: &[(String, GivenAmount)]) -> Vec<(String, GivenAmount)> {
        let mut all = self.resources.clone();
        for (name, amount) in others {
            match all.iter_mut().find(|(known, _)| known == name) {
                Some((_, mine)) => *mine = mine.max(*amount),
                None => all.push((name.clone(), *amount)),
            }
        }
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all
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
            among: if self.among.is_empty() { inner.among.clone() } else { self.among.clone() },
            tag: self.tag.clone().or_else(|| inner.tag.clone()),
            resources: self.with_resources(&inner.resources),
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
            among: self.among.clone(),
            tag: self.tag.clone(),
            resources: self.resources(),
        }
    }
}
