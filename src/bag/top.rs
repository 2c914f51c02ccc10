//! The largest elements.

use super::Bag;
use crate::collection::Elements;
use crate::task::Data;
use std::cmp::Ordering;
use std::sync::Arc;

/// The `k` largest items in descending order, the first of equal ones first. Keeps at most `2 k` of them in memory.
pub(super) fn top<T>(items: impl Iterator<Item = T>, k: usize, compare: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    if k == 0 {
        return kept;
    }
    let descending = |a: &T, b: &T| compare(b, a);
    let mut sorted = false;
    for item in items {
        // The first `k` came earlier, so one that equals the least of them does not get in.
        if sorted && compare(&item, &kept[k - 1]).is_le() {
            continue;
        }
        kept.push(item);
        if kept.len() >= k.saturating_mul(2) {
            kept.sort_by(descending);
            kept.truncate(k);
            sorted = true;
        }
    }
    kept.sort_by(descending);
    kept.truncate(k);
    kept
}

impl<T: Data> Bag<T> {
    /// The `k` largest elements in descending order, as a bag of one partition. Of equal ones the first come first.
    pub fn topk(&self, k: usize) -> Bag<T>
    where
        T: Ord,
    {
        self.topk_by(k, T::cmp)
    }

    /// The `k` elements with the largest keys, in descending order, as a bag of one partition.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let letters = Bag::from_sequence("abracadabra".chars(), 3);
    /// let common = letters.frequencies().topk_by_key(2, |(_, count)| *count);
    /// assert_eq!(common.compute(&Client::sync())?, [('a', 5), ('b', 2)]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn topk_by_key<K, F>(&self, k: usize, key: F) -> Bag<T>
    where
        K: Ord,
        F: Fn(&T) -> K + Copy + Send + 'static,
    {
        self.topk_of::<F>(k, move |items, k| {
            // Asked once for each element, when it comes.
            let keyed = items.map(|e| (key(&e), e));
            top(keyed, k, |(a, _), (b, _)| a.cmp(b)).into_iter().map(|(_, e)| e).collect()
        })
    }

    /// The `k` largest elements by a comparison, in descending order, as a bag of one partition.
    pub fn topk_by<F>(&self, k: usize, compare: F) -> Bag<T>
    where
        F: Fn(&T, &T) -> Ordering + Copy + Send + 'static,
    {
        self.topk_of::<F>(k, move |items, k| top(items, k, compare))
    }

    /// What a function finds, in each partition and then among what was found there. The tasks are named after `N`.
    fn topk_of<N: 'static>(
        &self,
        k: usize,
        top: impl Fn(&mut dyn Iterator<Item = T>, usize) -> Vec<T> + Copy + Send + 'static,
    ) -> Bag<T> {
        let topk = move |mut elements: Elements<T>, k: Arc<usize>| (*k, top(&mut elements, *k));
        // The number travels along, as a function of a tree has no other argument.
        let join = move |parts: Vec<(usize, Vec<T>)>| {
            let k = parts.first().map_or(0, |(k, _)| *k);
            (k, top(&mut parts.into_iter().flat_map(|(_, list)| list), k))
        };
        let parts = self.each_with::<N, usize, (usize, Vec<T>)>(k, topk);
        Bag::from_delayed([parts.tree_then::<N, _, _, _>(join, move |parts| join(parts).1)])
    }
}
