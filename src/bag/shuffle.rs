//! Elements by key: those of each key together.

use super::Bag;
use super::error::BagError;
use super::table::Table;
use crate::collection::{Input, Layer, Shuffle, Shuffled};
use crate::task::Data;
use std::hash::Hash;

impl<T: Data> Bag<T> {
    /// All elements of each key together: pairs of a key and a list, in `npartitions` partitions; `None`: as many as now.
    ///
    /// Elements move through files without names: in the workers' spill directory where one was set
    /// ([`spill_directory`](crate::Builder::spill_directory)), counted against its limit; otherwise in the directory for
    /// temporary files (`TMPDIR`). A task has one partition of the result in memory, so that memory suffices where each of them fits, whatever the size of the
    /// whole; one key's elements are always in one. Within a partition the keys are in the order in which they are met,
    /// and so are the elements of each key.
    ///
    /// Where the lists are folded afterwards, [`foldby`](Self::foldby) is much faster.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let words = Bag::from_sequence(["apple", "bean", "avocado"].map(String::from), 2);
    /// let mut by_initial = words.groupby(|w| w.chars().next(), None).compute(&Client::sync())?;
    /// by_initial.sort();
    /// let (a, b) = (vec!["apple".to_string(), "avocado".to_string()], vec!["bean".to_string()]);
    /// assert_eq!(by_initial, [(Some('a'), a), (Some('b'), b)]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn groupby<K, F>(&self, key: F, npartitions: impl Into<Option<usize>>) -> Bag<(K, Vec<T>)>
    where
        K: Data + Eq + Hash,
        F: Fn(&T) -> K + Copy + Send + 'static,
    {
        let n = npartitions.into().unwrap_or(self.npartitions()).max(1);
        let shuffle = Shuffle::<T, BagError>::by_key(&self.partitions, n, key);
        let group = move |elements: Shuffled<T, BagError>| {
            let mut groups = Table::<K, Vec<T>>::default();
            elements.for_each(|e| groups.entry(key(&e)).push(e));
            groups.into_vec()
        };
        Bag::new(Layer::over((Input::shuffled(&shuffle),)).named_after::<F>().elements(group))
    }
}
