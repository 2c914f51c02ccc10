//! Values by key, in the order in which the keys are met.

use rustc_hash::FxHashMap;
use std::borrow::Borrow;
use std::hash::Hash;

/// See the head of this module. The same in every mode, as the order in which elements are met is.
#[derive(Clone, Debug)]
pub(super) struct Table<K, V>(
    /// Each value, and how many other keys were met before its own.
    FxHashMap<K, (V, usize)>,
);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<K, V> Table<K, V> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn in_order(&self) -> Vec<(&K, &V)> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_unstable_by_key(|(_, (_, met))| *met);
        all.into_iter().map(|(key, (value, _))| (key, value)).collect()
    }

    pub(super) fn into_vec(self) -> Vec<(K, V)> {
        let mut all: Vec<_> = self.0.into_iter().collect();
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
        self.0.get(key).map(|(value, _)| value)
    }

    #[inline]
    pub(super) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key).map(|(value, _)| value)
    }

    /// The value of a key; a default one where there is none.
    #[inline]
    pub(super) fn slot(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let met = self.0.len();
        &mut self.0.entry(key).or_insert_with(|| (V::default(), met)).0
    }
}
