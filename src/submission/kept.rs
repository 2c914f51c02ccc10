//! Which results a mode without workers keeps: those that have handles.

use super::Submission;
use super::handle::ResultState;
use crate::graph::label::TaskLabel;
use crate::task::Value;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::{Arc, Weak};

/// The submissions of a mode whose results are kept for handles, by their numbers. Each is noted when it is made and removed
/// when it goes; nothing is done for a task.
#[derive(Debug, Default)]
pub(crate) struct KeptResults(Mutex<FxHashMap<u32, Weak<Submission>>>);

impl KeptResults {
    pub(super) fn add(&self, submission: &Arc<Submission>) {
        self.0.lock().insert(submission.number, Arc::downgrade(submission));
    }

    pub(super) fn remove(&self, number: u32) {
        self.0.lock().remove(&number);
    }

    /// The submissions that keep results.
    pub(crate) fn submissions(&self) -> Vec<Arc<Submission>> {
        let all: Vec<_> = self.0.lock().values().cloned().collect();
        // Not under the lock: it may be the last to have one, with values of the user's.
        all.into_iter().filter_map(|submission| submission.upgrade()).collect()
    }

    /// The results that are there, in the order in which they were submitted. One that several submissions have is there once.
    pub(crate) fn results(&self) -> Vec<(TaskLabel, Value)> {
        // With the last owner of a submission go values of the user's: not under the lock.
        let mut all: Vec<_> = self.0.lock().values().filter_map(Weak::upgrade).collect();
        all.sort_unstable_by_key(|submission| submission.number);
        let mut seen = FxHashSet::default();
        let mut results: Vec<_> = all.iter().flat_map(|submission| submission.kept()).collect();
        results.retain(|(_, value)| seen.insert(value.address()));
        results
    }
}

impl Submission {
    /// The values that are here and have handles.
    fn kept(&self) -> Vec<(TaskLabel, Value)> {
        let state = self.state.lock();
        let here = (0..).zip(&state.results.known).filter_map(|(index, result)| match result {
            ResultState::Value(value) if !self.handles(index).is_released() => Some((index, value.clone())),
            _ => None,
        });
        let here: Vec<_> = here.collect();
        drop(state);
        here.into_iter().map(|(index, value)| (self.label(index), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::exec::sync::SyncExecutor;
    use crate::submission::backend::Backend;
    use crate::{Client, delayed};
    use std::sync::Arc;

    #[test]
    fn what_has_no_handles_leaves_nothing_in_the_list() {
        let backend: Arc<dyn Backend> = SyncExecutor::new(0);
        let client = Client::new(Arc::clone(&backend));
        let listed = || backend.kept().unwrap().0.lock().len();
        let call = delayed(|x: u64| x + 1).call(1);
        assert_eq!(client.compute(&call).unwrap(), 2);
        assert_eq!(listed(), 0);
        let futures: Vec<_> = (0..100).map(|_| client.submit(&call).unwrap()).collect();
        assert_eq!(listed(), 100);
        drop(futures);
        assert_eq!(listed(), 0);
    }
}
