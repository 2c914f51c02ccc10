//! A map and a list that are mostly empty, and then take a word.

use rustc_hash::FxHashMap;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};

/// A hash map that takes memory only while there is something in it.
#[derive(Clone, Debug)]
pub(crate) struct LazyMap<K, V>(Option<Box<FxHashMap<K, V>>>);

impl<K, V> Default for LazyMap<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Eq + Hash, V> LazyMap<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.as_ref()?.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.as_mut()?.get_mut(key)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.get_or_insert_default().insert(key, value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let map = self.0.as_mut()?;
        let value = map.remove(key);
        if map.is_empty() {
            self.0 = None;
        }
        value
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().flat_map(|map| map.iter())
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        if let Some(map) = &mut self.0 {
            map.retain(keep);
            if map.is_empty() {
                self.0 = None;
            }
        }
    }
}

impl<K: Eq + Hash, V: Default> LazyMap<K, V> {
    /// The value of a key, made where there is none.
    pub(crate) fn or_default(&mut self, key: K) -> &mut V {
        self.0.get_or_insert_default().entry(key).or_default()
    }
}

/// A list that takes memory only once there is something in it.
#[derive(Clone, Debug)]
#[expect(clippy::box_collection, reason = "a word is what it is for")]
pub(crate) struct LazyVec<T>(Option<Box<Vec<T>>>);

impl<T: 'static> LazyVec<T> {
    const EMPTY: &'static Vec<T> = &Vec::new();
}

impl<T> Default for LazyVec<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<Vec<T>> for LazyVec<T> {
    fn from(list: Vec<T>) -> Self {
        Self((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl<T: 'static> Deref for LazyVec<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        self.0.as_deref().unwrap_or(Self::EMPTY)
    }
}

impl<T: 'static> DerefMut for LazyVec<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        self.0.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_a_word_while_nothing_is_in_it() {
        let mut list = LazyVec::<u32>::from(Vec::new());
        assert_eq!(size_of_val(&list), size_of::<usize>());
        assert!(list.is_empty() && list.0.is_none());
        list.push(5);
        assert_eq!((list.len(), &list[..]), (1, &[5][..]));
        assert_eq!(*LazyVec::from(vec![1, 2]), [1, 2]);
    }

    #[test]
    fn it_takes_a_word_while_nothing_is_in_it() {
        let mut map = LazyMap::<u32, u32>::default();
        assert_eq!(size_of_val(&map), size_of::<usize>());
        assert!(map.is_empty() && map.get(&1).is_none() && map.remove(&1).is_none() && map.iter().next().is_none());
        *map.or_default(1) += 5;
        assert_eq!((map.insert(1, 6), map.insert(2, 7), map.len()), (Some(5), None, 2));
        assert!(map.contains_key(&2) && map.get_mut(&2).is_some());
        map.retain(|key, _| *key == 1);
        assert_eq!(map.iter().collect::<Vec<_>>(), [(&1, &6)]);
        assert_eq!(map.remove(&1), Some(6));
        assert!(map.is_empty() && map.0.is_none());
    }
}
