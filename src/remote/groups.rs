//! Progress as the client of worker processes sees it: what the supervisor counts, and the calls of maps that have not been
//! sent, or never were.

use crate::error::Result;
use crate::job::GroupCounts;
use crate::status::{Counts, GroupProgress, Progress};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// A map of which not all calls have been sent.
struct OpenMap {
    name: String,
    /// How many of its calls are sent in the end, or have been.
    calls: u64,
}

#[derive(Default)]
struct State {
    open: FxHashMap<u32, OpenMap>,
    /// Calls that have ended without being sent, by name.
    unsent: FxHashMap<String, Counts>,
    /// The latest answer.
    last: Progress,
}

/// What this side counts of maps.
#[derive(Default)]
pub(super) struct RemoteGroups(Mutex<State>);

impl RemoteGroups {
    /// So many calls are to be sent.
    pub(super) fn begin(&self, number: u32, name: String, calls: u64) {
        self.0.lock().open.insert(number, OpenMap { name, calls });
    }

    /// Some of them end without being sent.
    pub(super) fn not_sent(&self, number: u32, counts: Counts) {
        let state = &mut *self.0.lock();
        if counts.total() > 0
            && let Some(map) = state.open.get_mut(&number)
        {
            map.calls = map.calls.saturating_sub(counts.total());
            *state.unsent.entry(map.name.clone()).or_default() += counts;
        }
    }

    /// So many have been sent, and no more are. Those that are left count as cancelled.
    pub(super) fn end(&self, number: u32, sent: u64) {
        let left = self.0.lock().open.get(&number).map_or(0, |map| map.calls.saturating_sub(sent));
        self.not_sent(number, Counts { cancelled: left, ..Counts::default() });
        self.0.lock().open.remove(&number);
    }

    /// The map is not sent at all: its caller has an error.
    pub(super) fn forget(&self, number: u32) {
        self.0.lock().open.remove(&number);
    }

    /// A call that ended without being sent is submitted anew.
    pub(super) fn again(&self, name: &str, cancelled: bool) {
        if let Some(counts) = self.0.lock().unsent.get_mut(name) {
            let count = if cancelled { &mut counts.cancelled } else { &mut counts.failed };
            *count = count.saturating_sub(1);
        }
    }

    /// How far everything is. Where nobody answers any more: as far as it was when somebody did last.
    pub(super) fn progress(&self, ask: impl FnOnce() -> Result<(Vec<GroupCounts>, u32)>) -> Progress {
        let (open, unsent) = {
            let state = self.0.lock();
            let open: Vec<_> = state.open.iter().map(|(number, map)| (*number, map.name.clone(), map.calls)).collect();
            let unsent: Vec<_> = state.unsent.iter().map(|(name, counts)| (name.clone(), *counts)).collect();
            (open, unsent)
        };
        let Ok((counted, threads)) = ask() else { return self.0.lock().last.clone() };
        let named = |group: GroupCounts| {
            let name = group.name.name().unwrap_or_else(|| "task".to_string());
            GroupProgress::new(name, group.graph, group.totals)
        };
        let mut groups: Vec<GroupProgress> = counted.into_iter().map(named).collect();
        for (number, name, calls) in open {
            let there: u64 = groups.iter().filter(|g| g.graph == Some(number)).map(|group| group.counts.total()).sum();
            let waiting = Counts { waiting: calls.saturating_sub(there), ..Counts::default() };
            groups.push(GroupProgress::new(name, Some(number), waiting.into()));
        }
        groups.extend(unsent.into_iter().map(|(name, counts)| GroupProgress::new(name, None, counts.into())));
        let mut progress = Progress::new(groups);
        progress.threads = threads as usize;
        self.0.lock().last = progress.clone();
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::job::CallName;

    fn counted(graph: Option<u32>, counts: Counts) -> (Vec<GroupCounts>, u32) {
        (vec![GroupCounts { name: CallName::Given("f".into()), graph, totals: counts.into() }], 2)
    }

    #[test]
    fn calls_of_a_map_wait_until_they_are_sent() {
        let groups = RemoteGroups::default();
        groups.begin(7, "f".into(), 10);
        let memory = |n| Counts { memory: n, ..Counts::default() };
        let progress = groups.progress(|| Ok(counted(Some(7), memory(4))));
        assert_eq!(
            (progress.groups.len(), progress.threads, progress.counts),
            (1, 2, Counts { memory: 4, waiting: 6, ..Counts::default() })
        );
        groups.not_sent(7, Counts { unneeded: 1, cancelled: 1, ..Counts::default() });
        let progress = groups.progress(|| Ok(counted(Some(7), memory(4))));
        assert_eq!((progress.counts.total(), progress.counts.waiting, progress.counts.unneeded), (10, 4, 1));
        groups.end(7, 5);
        let progress = groups.progress(|| Ok(counted(Some(7), memory(5))));
        assert_eq!(progress.counts, Counts { memory: 5, unneeded: 1, cancelled: 4, ..Counts::default() });
        groups.again("f", true);
        assert_eq!(groups.progress(|| Ok(counted(Some(7), memory(5)))).counts.cancelled, 3);
        let closed = groups.progress(|| Err(Error::Closed { reason: "gone".into() }));
        assert_eq!(closed.counts.cancelled, 3, "as it was last");
    }
}
