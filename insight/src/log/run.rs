//! One run of a task: what is recorded of it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outcome {
    /// It had not ended when it was recorded.
    #[default]
    Running,
    /// It has a result.
    Finished,
    /// It has an error.
    Failed,
    /// Its result was not wanted any more: the task was cancelled, or overdue.
    Cancelled,
    /// Its worker died while it ran.
    Lost,
}

impl Outcome {
    /// All of them. The place of each is its number in a saved log.
    pub const ALL: [Self; 5] = [Self::Running, Self::Finished, Self::Failed, Self::Cancelled, Self::Lost];

    /// The word for it, as in `finished`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One attempt of one task. All times count from the start of the log; those beyond 584 years are recorded as that.
///
/// What is `None` was not measured.
///
/// ```
/// use std::time::Duration;
/// use swath_insight::log::{Outcome, Run};
/// let mut run = Run::new("parse", 0x3f2a, "worker-1", Duration::from_millis(10));
/// run.graph = 3;
/// run.ended(Duration::from_millis(14), Outcome::Finished);
/// assert_eq!(run.key(), "parse-0000000000003f2a");
/// assert_eq!(run.took(), Some(Duration::from_millis(4)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Run {
    /// The number of its graph, as the client counts them.
    pub graph: u32,
    /// The number of the task in its graph.
    pub task: u32,
    /// Which attempt of the task it is, from 0. One that was given to a worker and taken back before it began counts, too.
    pub attempt: u16,
    /// The task's name.
    pub name: Arc<str>,
    /// The number in the task's key.
    pub hash: u64,
    /// Where it ran: a worker; in sync mode `caller`, in threads mode a thread.
    pub worker: Arc<str>,
    /// On which of the worker's threads.
    pub thread: u16,
    /// When its graph was submitted.
    pub submitted: Option<Duration>,
    /// When its last input was there.
    pub ready: Option<Duration>,
    /// When it was given to its worker.
    pub assigned: Option<Duration>,
    /// When its function was called.
    pub start: Duration,
    /// When its function had returned.
    pub end: Option<Duration>,
    /// How long it was on a processor.
    pub cpu: Option<Duration>,
    /// How much of its time went into reading its inputs: from disk, and decoding large ones.
    pub reading: Option<Duration>,
    /// How much went into encoding or storing its result.
    pub writing: Option<Duration>,
    /// How long it waited for tasks of its own, or for something else, while another task could use its thread.
    pub suspended: Option<Duration>,
    /// The size of its inputs.
    pub bytes_in: Option<u64>,
    /// The size of its result.
    pub bytes_out: Option<u64>,
    /// The most memory that its worker was seen to use meanwhile.
    pub peak: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Run {
    /// A run that has started then, with nothing else known of it.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, hash: u64, worker: impl Into<Arc<str>>, start: Duration) -> Self {
        Self {
            graph: 0,
            task: 0,
            attempt: 0,
            name: name.into(),
            hash,
            worker: worker.into(),
            thread: 0,
            submitted: None,
            ready: None,
            assigned: None,
            start,
            end: None,
            cpu: None,
            reading: None,
            writing: None,
            suspended: None,
            bytes_in: None,
            bytes_out: None,
            peak: None,
            outcome: Outcome::Running,
        }
    }

    /// Says when and how it has ended.
    pub fn ended(&mut self, at: Duration, outcome: Outcome) {
        self.end = Some(at);
        self.outcome = outcome;
    }

    /// The task's key: its name, and a number in hexadecimal digits.
    #[must_use]
    pub fn key(&self) -> String {
        key(&self.name, self.hash)
    }

    /// From start to end.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        self.end.map(|end| end.saturating_sub(self.start))
    }
}

/// The key of a task with that name and number.
pub(crate) fn key(name: &str, hash: u64) -> String {
    format!("{name}-{hash:016x}")
}

/// The name and the number in a key; none where it is no key.
pub(crate) fn parse_key(key: &str) -> Option<(&str, u64)> {
    let (name, hash) = key.rsplit_once('-')?;
    let is_number = hash.len() == 16 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_number { Some((name, u64::from_str_radix(hash, 16).ok()?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        for (name, hash) in [("a", 0), ("a-b", u64::MAX), ("", 17), ("a\n\"-", 1)] {
            assert_eq!(parse_key(&key(name, hash)), Some((name, hash)));
        }
        for no_key in ["", "a", "a-", "a-12", "a-000000000000000G", "a-+000000000000001"] {
            assert_eq!(parse_key(no_key), None, "{no_key}");
        }
    }

    #[test]
    fn each_outcome_has_its_place() {
        assert!(Outcome::ALL.iter().enumerate().all(|(i, outcome)| outcome.index() == i));
        assert_eq!(format!("{:>9}|", Outcome::Failed), "   failed|");
    }
}
