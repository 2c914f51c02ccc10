//! Moving elements to where others with the same key are.
//!
//! Two layers of tasks. The first cuts each partition by a hash of the keys into as many pieces as there are to be
//! partitions, on disk (see [`spool`](crate::collection::shuffle::store)); so it needs little memory, however large its partition is. Each task
//! of the second reads its pieces of all partitions, and has only the elements of its own keys in memory.

use super::Bag;
use super::error::BagError;
use super::table::Table;
use crate::collection::elements::Elements;
use crate::collection::shuffle::store::{Pieces, Writer};
use crate::collection::{layer, pass};
use crate::delayed::{Delayed, IntoArg};
use crate::task::Data;
use crate::task::function::{CallError, returned};
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// In which of `n` partitions a key belongs: the same in every process of a build.
fn place<K: Hash>(key: &K, n: usize) -> usize {
    let mut hasher = FxHasher::default();
    key.hash(&mut hasher);
    // The tables of the second layer use the same hash. Mixed, its bits say nothing of those.
    let mixed = crate::graph::node::mix(hasher.finish());
    ((u128::from(mixed) * n as u128) >> 64) as usize
}

/// Cuts a partition.
fn cut<T: Data, K: Hash>(elements: Elements<T>, n: usize, key: impl Fn(&T) -> K) -> Result<Pieces, BagError> {
    let mut writer = Writer::new(n)?;
    for element in elements {
        writer.append(place(&key(&element), n), &element)?;
    }
    writer.finish()
}

/// Reads the same piece of all partitions.
fn collect<T: Data>(partitions: &[Pieces], piece: usize, mut each: impl FnMut(T)) -> Result<(), CallError> {
    for pieces in partitions {
        pieces.open()?.values(piece, &mut each).map_err(returned)?;
    }
    Ok(())
}

impl<T: Data> Bag<T> {
    /// All elements of each key together: pairs of a key and a list, in `npartitions` partitions; `None`: as many as now.
    ///
    /// Elements move through files without names in the directory for temporary files (`TMPDIR`). A task has one
    /// partition of the result in memory, so that memory suffices where each of them fits, whatever the size of the
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
        let cut = move |elements: Elements<T>, n: Arc<usize>| match cut(elements, *n, key) {
            Ok(pieces) => pieces,
            Err(error) => {
                pass::fail(error);
                Pieces::none()
            }
        };
        let group = move |partitions: Arc<Vec<Pieces>>, piece: Arc<usize>| {
            let mut groups = Table::<K, Vec<T>>::default();
            if let Err(error) = collect(&partitions, *piece, |e: T| groups.slot(key(&e)).push(e)) {
                pass::fault(error);
            }
            groups.into_vec()
        };
        let partitions = self.partitions.iter().enumerate();
        let pieces: Vec<Delayed<Pieces>> =
            partitions.map(|(i, p)| layer::bound::<F, _, _, _, _>(cut, i, layer::stream(p), n.into_arg())).collect();
        let groups = (0..n).map(|i| layer::partition::<F, _, _, _, _>(group, i, (&pieces).into_arg(), i.into_arg()));
        Bag::new(groups.collect())
    }
}
