//! One part of each element.

use super::Bag;
use super::error::BagError;
use crate::collection::{Elements, pass};
use crate::files::formats::json_value::Json;
use crate::task::Data;
use crate::task::returned::KeepError;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// Has parts that go by keys of type `K`: maps, lists and [`Json`].
pub trait Pluck<K: ?Sized> {
    /// A part.
    type Part: Data;

    /// The part under a key.
    fn part(self, key: &K) -> Option<Self::Part>;
}

impl<Q: Eq + Hash + Borrow<K>, K: Eq + Hash + ?Sized, V: Data, S: BuildHasher> Pluck<K> for HashMap<Q, V, S> {
    type Part = V;

    fn part(mut self, key: &K) -> Option<V> {
        self.remove(key)
    }
}

impl<Q: Ord + Borrow<K>, K: Ord + ?Sized, V: Data> Pluck<K> for BTreeMap<Q, V> {
    type Part = V;

    fn part(mut self, key: &K) -> Option<V> {
        self.remove(key)
    }
}

impl<V: Data> Pluck<usize> for Vec<V> {
    type Part = V;

    fn part(mut self, index: &usize) -> Option<V> {
        (*index < self.len()).then(|| self.swap_remove(*index))
    }
}

impl Pluck<str> for Json {
    type Part = Json;

    fn part(mut self, key: &str) -> Option<Json> {
        self.0.get_mut(key).map(|v| Json(v.take()))
    }
}

impl Pluck<usize> for Json {
    type Part = Json;

    fn part(mut self, index: &usize) -> Option<Json> {
        self.0.get_mut(index).map(|v| Json(v.take()))
    }
}

impl<T: Data> Bag<T> {
    /// The part of each element that is under a key. An element without it fails the task with
    /// [`BagError::NoSuchKey`].
    ///
    /// ```
    /// # use swath::bag::Json;
    /// # use swath::{Bag, Client};
    /// let people = [r#"{"name": "Ada"}"#, r#"{"name": "Alan"}"#].map(String::from);
    /// let names = Bag::from_sequence(people, 1).try_map(|line| line.parse::<Json>()).pluck("name");
    /// assert_eq!(names.map(|name| name.to_string()).compute(&Client::sync())?, ["\"Ada\"", "\"Alan\""]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn pluck<K>(&self, key: &K) -> Bag<T::Part>
    where
        T: Pluck<K>,
        K: ToOwned<Owned: Data + Debug> + ?Sized + 'static,
    {
        fn pluck<T: Pluck<K>, K>(elements: Elements<T>, key: Arc<K::Owned>) -> impl Iterator<Item = T::Part> + use<T, K>
        where
            K: ToOwned<Owned: Data + Debug> + ?Sized + 'static,
        {
            let missing = |key: &K::Owned| KeepError(BagError::NoSuchKey { key: format!("{key:?}") });
            pass::unfailing(elements.map(move |e| e.part((*key).borrow()).ok_or_else(|| missing(&key))))
        }
        self.steps(key.to_owned(), pluck::<T, K>)
    }

    /// The part of each element that is under a key, or a default.
    pub fn pluck_or<K>(&self, key: &K, default: T::Part) -> Bag<T::Part>
    where
        T: Pluck<K>,
        K: ToOwned<Owned: Data + Debug> + ?Sized + 'static,
    {
        fn pluck<T: Pluck<K>, K>(
            elements: Elements<T>,
            both: Arc<(K::Owned, T::Part)>,
        ) -> impl Iterator<Item = T::Part> + use<T, K>
        where
            K: ToOwned<Owned: Data> + ?Sized,
        {
            elements.map(move |e| e.part(both.0.borrow()).unwrap_or_else(|| both.1.clone()))
        }
        self.steps((key.to_owned(), default), pluck::<T, K>)
    }
}
