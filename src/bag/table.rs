//! Values by key, in the order in which the keys are met.

use rustc_hash::FxHashMap;
use std::borrow::Borrow;
use std::hash::Hash;

/// See the head of this module. The same in every mode, as the order in which elements are met is.
#[derive(Clone, Debug)]
pub(super) struct Table<K, V> {
    /// Each value, and a number that is larger than those of all keys met before.
    entries: FxHashMap<K, (V, usize)>,
    next: usize,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { entries: FxHashMap::default(), next: 0 }
    }
}

impl<K, V> Table<K, V> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn in_order(&self) -> Vec<(&K, &V)> {
        let mut all: Vec<_> = self.entries.iter().collect();
        all.sort_unstable_by_key(|(_, (_, met))| *met);
        all.into_iter().map(|(key, (value, _))| (key, value)).collect()
    }

    pub(super) fn into_vec(self) -> Vec<(K, V)> {
        let mut all: Vec<_> = self.entries.into_iter().collect();
        all.sort_unstable_by_key(|(_, (_, met))| *met);
        all.into_iter().map(|(key, (value, _))| (key, value)).collect()
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    #[inline]
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|(value, _)| value)
    }

    #[inline]
    pub(super) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.entries.get_mut(key).map(|(value, _)| value)
    }

    /// The value of a key; a default one where there is none.
    #[inline]
    pub(super) fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let next = &mut self.next;
        let entry = self.entries.entry(key).or_insert_with(|| {
            *next += 1;
            (V::default(), *next)
        });
        &mut entry.0
    }

    /// Room for so many more keys.
    pub(super) fn reserve(&mut self, keys: usize) {
        self.entries.reserve(keys);
    }

    /// Takes in another table, whose keys are met after those of this one.
    pub(super) fn merge(&mut self, other: Self, put: impl Fn(&mut V, V))
    where
        V: Default,
    {
        // Its numbers stay in order if all of them grow by as much, so it need not be sorted.
        let before = self.next;
        for (key, (value, met)) in other.entries {
            put(&mut self.entries.entry(key).or_insert_with(|| (V::default(), before + met)).0, value);
        }
        self.next = before + other.next;
    }
}
