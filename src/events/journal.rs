//! The last events of graphs, workers and tasks that are no run. They are rare. (Runs of tasks are in `ipc::ring`.)

use super::EventKind;
use crate::ids::SessionId;
use crate::ipc::clock::ticks;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// An event with its time stamp.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JournalEntry<T> {
    pub(crate) at: u64,
    pub(crate) what: T,
}

/// The last events, as many as its capacity.
#[derive(Debug)]
pub(crate) struct Journal<T> {
    capacity: usize,
    entries: Mutex<Entries<T>>,
}

#[derive(Debug)]
struct Entries<T> {
    last: VecDeque<JournalEntry<T>>,
    /// How many there have been in all.
    noted: u64,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { last: VecDeque::new(), noted: 0 }
    }
}

/// What a client knows of its graphs, and what it has to say.
#[derive(Clone, Debug)]
pub(crate) enum ClientStep {
    Submitted { graph: u32, tasks: u32, label: Option<Arc<str>>, parent: Option<String> },
    Finished { graph: u32, began: u64 },
    Event(EventKind),
}

/// What happens to a worker, or to a task between its runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Whose task it is; none: it is of a worker, which everybody is told of.
    pub(crate) session: Option<SessionId>,
    #[serde(with = "as_json")]
    pub(crate) kind: EventKind,
}

impl Step {
    /// Whether a session is told of it, as of what its own tasks submit.
    pub(crate) fn is_for(&self, session: SessionId) -> bool {
        self.session.is_none_or(|of| of == session || of.is_of_tasks())
    }
}

/// An event has parts that only a self-describing format can hold.
mod as_json {
    use super::EventKind;
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub(super) fn serialize<S: Serializer>(kind: &EventKind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(kind).map_err(ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventKind, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<T: Clone> Journal<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, entries: Mutex::default() }
    }

    pub(crate) fn note(&self, what: T) {
        self.note_at(ticks(), what);
    }

    pub(crate) fn note_at(&self, at: u64, what: T) {
        if self.capacity == 0 {
            return;
        }
        let mut entries = self.entries.lock();
        if entries.last.len() == self.capacity {
            entries.last.pop_front();
        }
        entries.last.push_back(JournalEntry { at, what });
        entries.noted += 1;
    }

    pub(crate) fn entries(&self) -> Vec<JournalEntry<T>> {
        self.entries.lock().last.iter().cloned().collect()
    }

    /// How many there have been in all.
    pub(crate) fn noted(&self) -> u64 {
        self.entries.lock().noted
    }

    /// Those that a reader has not seen which has seen so many in all, and how many of them are not kept any more.
    pub(crate) fn since(&self, seen: &mut u64) -> (Vec<JournalEntry<T>>, u64) {
        let entries = self.entries.lock();
        let new = entries.noted - *seen;
        *seen = entries.noted;
        let kept = entries.last.len().min(usize::try_from(new).unwrap_or(usize::MAX));
        (entries.last.iter().skip(entries.last.len() - kept).cloned().collect(), new - kept as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::codec;

    #[test]
    fn a_reader_sees_each_entry_once_and_how_many_it_has_missed() {
        let journal = Journal::new(3);
        let mut seen = 0;
        let read = |seen: &mut u64| {
            let (entries, missed) = journal.since(seen);
            (entries.into_iter().map(|entry| entry.what).collect::<Vec<_>>(), missed)
        };
        assert_eq!(read(&mut seen), (vec![], 0));
        (1..=2).for_each(|n| journal.note(n));
        assert_eq!(read(&mut seen), (vec![1, 2], 0));
        (3..=7).for_each(|n| journal.note(n));
        assert_eq!(read(&mut seen), (vec![5, 6, 7], 2));
        assert_eq!(read(&mut seen), (vec![], 0));
        assert_eq!(journal.noted(), 7);
    }

    #[test]
    fn a_step_comes_back_from_its_encoding() {
        let kind = EventKind::Retried { key: "a-\"\u{202e}1".to_string(), attempt: 3 };
        let step = Step { session: Some(SessionId(7)), kind };
        let mut bytes = Vec::new();
        codec::encode(&step, &mut bytes, usize::MAX).expect("encodes");
        let back: Step = codec::decode(&bytes).expect("decodes");
        assert_eq!((back.session, back.kind), (step.session, step.kind));
    }
}
