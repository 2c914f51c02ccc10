//! What the threads of workers do with their time.

use super::nanos;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{AddAssign, Index, IndexMut};
use std::time::Duration;

/// What a worker's thread does. It does exactly one of these at every moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Use {
    /// It runs a task's function.
    Computing,
    /// It decodes arguments.
    ReadingInputs,
    /// It encodes a result.
    WritingResults,
    /// It moves values to disk, or reads them back.
    Spilling,
    /// The inputs of the next task are not there yet.
    WaitingForInputs,
    /// There is no memory for the next task.
    WaitingForMemory,
    /// What is to run may not run here.
    WaitingForPlacement,
    /// The next task is ready, and was not handed out yet.
    WaitingForHandOut,
    /// There is nothing to do: the client has submitted nothing else.
    WaitingForClient,
    /// Its process starts.
    Starting,
    /// Its process is stopped.
    Stopped,
    /// Its task waits for tasks of its own.
    Suspended,
}

impl Use {
    /// All of them. The place of each is its number in a saved log.
    pub const ALL: [Self; 12] = [
        Self::Computing,
        Self::ReadingInputs,
        Self::WritingResults,
        Self::Spilling,
        Self::WaitingForInputs,
        Self::WaitingForMemory,
        Self::WaitingForPlacement,
        Self::WaitingForHandOut,
        Self::WaitingForClient,
        Self::Starting,
        Self::Stopped,
        Self::Suspended,
    ];

    /// The words for it, as in `waiting for inputs`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Computing => "computing",
            Self::ReadingInputs => "reading inputs",
            Self::WritingResults => "writing results",
            Self::Spilling => "spilling",
            Self::WaitingForInputs => "waiting for inputs",
            Self::WaitingForMemory => "waiting for memory",
            Self::WaitingForPlacement => "waiting for placement",
            Self::WaitingForHandOut => "waiting for hand-out",
            Self::WaitingForClient => "waiting for the client",
            Self::Starting => "starting",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended in a task of its own",
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How much time went into each [`Use`].
///
/// ```
/// use std::time::Duration;
/// use swath_insight::log::{TimeByUse, Use};
/// let mut time = TimeByUse::default();
/// time[Use::Computing] += Duration::from_secs(3);
/// time[Use::Spilling] += Duration::from_secs(1);
/// assert_eq!((time.total(), time.share(Use::Computing)), (Duration::from_secs(4), 0.75));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeByUse([Duration; Use::ALL.len()]);

impl TimeByUse {
    /// All time.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.0.iter().fold(Duration::ZERO, |sum, time| sum.saturating_add(*time))
    }

    /// The part of all time, from 0 to 1; 0 where there is none.
    #[must_use]
    pub fn share(&self, of: Use) -> f64 {
        let total = self.total().as_secs_f64();
        if total == 0.0 { 0.0 } else { self[of].as_secs_f64() / total }
    }

    /// Each use that took time, the longest first.
    #[must_use]
    pub fn ranked(&self) -> Vec<(Use, Duration)> {
        let mut ranked: Vec<_> = Use::ALL.into_iter().map(|u| (u, self[u])).filter(|(_, t)| !t.is_zero()).collect();
        ranked.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        ranked
    }
}

impl Index<Use> for TimeByUse {
    type Output = Duration;

    fn index(&self, of: Use) -> &Duration {
        &self.0[of as usize]
    }
}

impl IndexMut<Use> for TimeByUse {
    fn index_mut(&mut self, of: Use) -> &mut Duration {
        &mut self.0[of as usize]
    }
}

impl AddAssign for TimeByUse {
    fn add_assign(&mut self, other: Self) {
        for of in Use::ALL {
            self[of] = self[of].saturating_add(other[of]);
        }
    }
}

/// As a map from use to nanoseconds, of those that took time.
impl Serialize for TimeByUse {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.ranked().into_iter().map(|(of, time)| (of, nanos::of(time))))
    }
}

impl<'de> Deserialize<'de> for TimeByUse {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By name, so that a use that is not known here is left out rather than refused.
        let by_name = std::collections::BTreeMap::<String, u64>::deserialize(deserializer)?;
        let mut time = Self::default();
        for (name, nanoseconds) in by_name {
            let known = Use::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&name));
            if let Ok(of) = known {
                time[of] = Duration::from_nanos(nanoseconds);
            }
        }
        Ok(time)
    }
}

/// What one thread of a worker has done with its time, from the start of the worker to a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ThreadTime {
    /// Up to then, since the start of the log.
    #[serde(rename = "at_ns", with = "nanos")]
    pub at: Duration,
    /// Whose thread it is.
    pub worker: String,
    /// Which.
    pub thread: u16,
    /// The sums.
    pub uses: TimeByUse,
}

impl ThreadTime {
    /// The sums of a thread up to then.
    #[must_use]
    pub fn new(at: Duration, worker: impl Into<String>, thread: u16, uses: TimeByUse) -> Self {
        Self { at, worker: worker.into(), thread, uses }
    }
}

/// The memory of a worker at a moment, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemorySample {
    /// When, since the start of the log.
    #[serde(rename = "at_ns", with = "nanos")]
    pub at: Duration,
    /// Whose.
    pub worker: String,
    /// What is compared with the limit: private memory and segments of its own.
    pub used: u64,
    /// Its limit, if it has one.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Results in memory.
    #[serde(default)]
    pub managed: u64,
    /// Segments of shared memory.
    #[serde(default)]
    pub shared: u64,
    /// Results on disk.
    #[serde(default)]
    pub spilled: u64,
}

impl MemorySample {
    /// So much was used then.
    #[must_use]
    pub fn new(at: Duration, worker: impl Into<String>, used: u64) -> Self {
        Self { at, worker: worker.into(), used, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_has_its_place_and_comes_back_from_json() {
        let mut time = TimeByUse::default();
        for (i, of) in Use::ALL.into_iter().enumerate() {
            assert_eq!(of as usize, i);
            time[of] = Duration::from_nanos(i as u64);
        }
        let json = serde_json::to_string(&time).unwrap_or_default();
        assert!(json.contains("\"waiting_for_inputs\":4"), "{json}");
        assert_eq!(serde_json::from_str::<TimeByUse>(&json).ok(), Some(time));
        let with_more = json.replace("\"computing\"", "\"x\"").replace('{', "{\"dreaming\":7,");
        assert_eq!(serde_json::from_str::<TimeByUse>(&with_more).ok(), Some(time));
        assert_eq!(TimeByUse::default().share(Use::Computing), 0.0);
    }
}
