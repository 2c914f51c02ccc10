//! Calls that would wait for ever, since those who could let them go on wait for them.

use super::{Caller, Coordinator, Key, Kind, Operation, Refusal};
use crate::ids::SessionId;
use std::collections::HashSet;

/// What can be told from all others and does nothing while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    Thread(u64),
    Run(SessionId, u64),
}

impl Identity {
    pub(super) fn of(caller: &Caller) -> Option<Self> {
        match (caller.by.thread, caller.by.run) {
            (Some(thread), _) => Some(Self::Thread(thread)),
            (None, Some(run)) => Some(Self::Run(caller.session, run)),
            (None, None) => None,
        }
    }
}

impl<V: Clone> Coordinator<V> {
    /// Why a call that is about to wait would do so for ever, if that is known.
    ///
    /// Where a thread is all that ever runs, nobody sets an event or puts an item while it waits. A lock can be waited for
    /// that another thread has.
    pub(super) fn circle(&self, key: &Key, operation: &Operation<V>, caller: Caller) -> Option<Refusal> {
        let own = Identity::of(&caller)?;
        let kind = key.kind;
        if kind.has_holders() {
            let way = self.way_back(key, own)?;
            let mut text = format!("whoever asks for the {key} has it already");
            if let Some((next, others)) = way.split_first() {
                text = format!("the {key} is held by a task that waits for the {next}");
                for other in others {
                    text.push_str(&format!(", which is held by one that waits for the {other}"));
                }
                text.push_str(", which the caller has");
            }
            return Some(Refusal::Deadlock(text));
        }
        caller.by.thread?;
        let what = match (kind, operation) {
            (Kind::Event, _) => "nobody could set",
            (Kind::Queue, Operation::Put(_)) => "nobody could get an item from",
            (Kind::Queue, _) => "nobody could put an item into",
            _ => "nobody could set",
        };
        Some(Refusal::Deadlock(format!("{what} the {key} while the only thread waits for that")))
    }

    /// What those wait for who have it, and so on, where all ways lead back to that caller. Nothing, where it has all of it
    /// itself.
    fn way_back(&self, key: &Key, own: Identity) -> Option<Vec<Key>> {
        let (mut seen, mut way, mut next) = (HashSet::from([key]), Vec::new(), vec![key]);
        while let Some(key) = next.pop() {
            for holder in self.objects.get(key)?.holders() {
                let holder = Identity::of(&holder.caller)?;
                if holder == own {
                    continue;
                }
                // One that does not wait goes on, and lets go.
                let waits_for = self.blocked.get(&holder)?;
                if seen.insert(waits_for) {
                    way.push(waits_for.clone());
                    next.push(waits_for);
                }
            }
        }
        Some(way)
    }
}
