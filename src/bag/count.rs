//! Tables: how often each element occurs, which there are, and folds by key.

use super::Bag;
use super::reduce::one;
use super::table::Table;
use crate::collection::{Chunks, Elements};
use crate::task::Data;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

/// How often each of some things occurs, like Python's `Counter`.
///
/// A borrowed thing is copied only when it is met for the first time. So a fold into a counter is the fastest way to
/// count what is inside of elements: words in lines, for example, without a `String` for every word.
///
/// ```
/// use swath::bag::Counter;
/// use swath::{Bag, Client};
///
/// fn count(mut words: Counter<String>, line: String) -> Counter<String> {
///     words.extend(line.split_whitespace());
///     words
/// }
///
/// let lines = Bag::from_sequence(["to be or", "not to be"].map(String::from), 2);
/// let words = lines.fold(Counter::new(), count, Counter::merge).compute(&Client::sync())?;
/// assert_eq!((words.get("be"), words.get("is")), (2, 0));
/// assert_eq!(words.most_common(1), [("to".to_string(), 2)]);
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Counter<K>(Table<K, usize>);

impl<K> Default for Counter<K> {
    fn default() -> Self {
        Self(Table::default())
    }
}

impl<K: Eq + Hash> Counter<K> {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one more of `key`.
    #[inline]
    pub fn add<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        match self.0.get_mut(key) {
            Some(count) => *count += 1,
            None => self.add_owned(key.to_owned(), 1),
        }
    }

    /// Counts `count` more of `key`.
    #[inline]
    pub fn add_owned(&mut self, key: K, count: usize) {
        *self.0.entry(key) += count;
    }

    /// How often `key` has been counted.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// How many different things have been counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing has been counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// The two together.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.0.merge(other.0, |count, more| *count += more);
        self
    }

    /// The `k` things that occur most often, with their counts in descending order.
    #[must_use]
    pub fn most_common(&self, k: usize) -> Vec<(K, usize)>
    where
        K: Clone,
    {
        let mut all = self.0.in_order();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        all.into_iter().take(k).map(|(key, count)| (key.clone(), *count)).collect()
    }
}

impl<'a, K, Q> Extend<&'a Q> for Counter<K>
where
    K: Eq + Hash + Borrow<Q>,
    Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
{
    fn extend<I: IntoIterator<Item = &'a Q>>(&mut self, keys: I) {
        keys.into_iter().for_each(|key| self.add(key));
    }
}

/// Pairs of things and counts, in the order in which the things were met.
impl<K> IntoIterator for Counter<K> {
    type Item = (K, usize);
    type IntoIter = std::vec::IntoIter<(K, usize)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

impl<K: Eq + Hash> FromIterator<(K, usize)> for Counter<K> {
    fn from_iter<I: IntoIterator<Item = (K, usize)>>(counts: I) -> Self {
        let (mut counter, counts) = (Self::new(), counts.into_iter());
        counter.0.reserve(counts.size_hint().0);
        counts.for_each(|(key, count)| counter.add_owned(key, count));
        counter
    }
}

impl<K: Eq + Hash> PartialEq for Counter<K> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.0.in_order().into_iter().all(|(key, count)| other.get(key) == *count)
    }
}

impl<K: Serialize> Serialize for Counter<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.in_order())
    }
}

impl<'de, K: Deserialize<'de> + Eq + Hash> Deserialize<'de> for Counter<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<(K, usize)>::deserialize(deserializer).map(Self::from_iter)
    }
}

/// Folds values under equal keys.
fn fold_by<K: Eq + Hash, V, T>(
    items: impl Iterator<Item = (K, T)>,
    initial: impl Fn(T) -> V,
    fold: impl Fn(V, T) -> V,
) -> Vec<(K, V)> {
    let mut table = Table::<K, Option<V>>::default();
    items.for_each(|(key, item)| put(table.entry(key), item, &initial, &fold));
    rows(table)
}

/// Folds a value into what there is of its key.
#[inline]
fn put<V, T>(entry: &mut Option<V>, item: T, initial: impl Fn(T) -> V, fold: impl Fn(V, T) -> V) {
    *entry = Some(match entry.take() {
        Some(value) => fold(value, item),
        None => initial(item),
    });
}

/// What has been folded.
fn rows<K, V>(table: Table<K, Option<V>>) -> Vec<(K, V)> {
    table.into_vec().into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

impl<T: Data> Bag<T> {
    /// How often each element occurs, in the order in which they are met, as a bag of one partition.
    ///
    /// To count what is inside of elements, a fold into a [`Counter`] is faster.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let letters = Bag::from_sequence("abracadabra".chars(), 3);
    /// let counts = letters.frequencies().compute(&Client::sync())?;
    /// assert_eq!(counts, [('a', 5), ('b', 2), ('r', 2), ('c', 1), ('d', 1)]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn frequencies(&self) -> Bag<(T, usize)>
    where
        T: Eq + Hash,
    {
        fn frequencies<T: Eq + Hash>(elements: Elements<T>, _: Arc<()>) -> Counter<T> {
            elements.map(|e| (e, 1)).collect()
        }
        fn merge<T: Eq + Hash>(counters: Vec<Counter<T>>) -> Counter<T> {
            one(counters.into_iter().reduce(Counter::merge))
        }
        fn counts<T: Eq + Hash>(counters: Vec<Counter<T>>) -> Vec<(T, usize)> {
            merge(counters).into_iter().collect()
        }
        let counters = self.each((), frequencies::<T>);
        Bag::from_delayed([counters.tree_then::<Self, _, _, _>(merge::<T>, counts::<T>)])
    }

    /// Each element once, in the order in which they are met, as a bag of one partition.
    pub fn distinct(&self) -> Bag<T>
    where
        T: Eq + Hash,
    {
        fn distinct<T: Eq + Hash>(elements: impl Iterator<Item = T>) -> Vec<T> {
            let mut table = Table::<T, ()>::default();
            elements.for_each(|e| *table.entry(e) = ());
            table.into_vec().into_iter().map(|(e, ())| e).collect()
        }
        fn of_partition<T: Eq + Hash>(elements: Elements<T>, _: Arc<()>) -> Vec<T> {
            distinct(elements)
        }
        fn of_all<T: Eq + Hash>(lists: Vec<Vec<T>>) -> Vec<T> {
            distinct(lists.into_iter().flatten())
        }
        Bag::from_delayed([self.each((), of_partition::<T>).tree(of_all::<T>)])
    }

    /// The first element with each key, in the order in which they are met, as a bag of one partition.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let words = Bag::from_sequence(["apple", "bean", "avocado"].map(String::from), 3);
    /// let initials = words.distinct_by_key(|w| w.chars().next());
    /// assert_eq!(initials.compute(&Client::sync())?, ["apple", "bean"]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn distinct_by_key<K, F>(&self, key: F) -> Bag<T>
    where
        K: Eq + Hash,
        F: Fn(&T) -> K + Copy + Send + 'static,
    {
        let distinct = move |elements: &mut dyn Iterator<Item = T>| {
            let mut met = rustc_hash::FxHashSet::default();
            elements.filter(|e| met.insert(key(e))).collect::<Vec<T>>()
        };
        let lists = self.each_with::<F, (), Vec<T>>((), move |mut elements, _| distinct(&mut elements));
        let join = move |lists: Vec<Vec<T>>| distinct(&mut lists.into_iter().flatten());
        Bag::from_delayed([lists.tree_named_after::<F, _>(join)])
    }

    /// Folds the elements of each key: [`groupby`](Self::groupby) and a fold of each group, without moving the elements.
    ///
    /// `initial` is where every key begins in every partition; `combine` puts the results of partitions together, and
    /// must be associative. The pairs of keys and results are a bag of one partition, in the order in which the keys are
    /// met.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let numbers = Bag::range(0..10, 3);
    /// let sums = numbers.foldby(|x| x % 2 == 0, 0, |sum, x| sum + x, |a, b| a + b);
    /// assert_eq!(sums.compute(&Client::sync())?, [(true, 20), (false, 25)]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn foldby<K, A, F, G, H>(&self, key: F, initial: A, binop: G, combine: H) -> Bag<(K, A)>
    where
        K: Data + Eq + Hash,
        A: Data,
        F: Fn(&T) -> K + Copy + Send + 'static,
        G: Fn(A, T) -> A + Copy + Send + 'static,
        H: Fn(A, A) -> A + Copy + Send + 'static,
    {
        let fold = move |elements: Elements<T>, initial: Arc<A>| {
            let begin = |e| binop(A::clone(&initial), e);
            fold_by(elements.map(|e| (key(&e), e)), begin, binop)
        };
        folded::<F, K, A, H>(&self.each_with::<F, A, _>(initial, fold), combine)
    }

    /// [`foldby`](Self::foldby) with keys that are parts of the elements: each is copied only when it is met for the first
    /// time in a partition.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let sales = Bag::from_sequence([("tea", 2), ("milk", 1), ("tea", 5)].map(|(what, n)| (what.to_string(), n)), 2);
    /// let sums = sales.foldby_ref(|(what, _)| what.as_str(), 0, |sum, (_, n)| sum + n, |a, b| a + b);
    /// assert_eq!(sums.compute(&Client::sync())?, [("tea".to_string(), 7), ("milk".to_string(), 1)]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn foldby_ref<Q, A, F, G, H>(&self, key: F, initial: A, binop: G, combine: H) -> Bag<(Q::Owned, A)>
    where
        Q: ToOwned<Owned: Data + Eq + Hash> + Eq + Hash + ?Sized + 'static,
        A: Data,
        F: Fn(&T) -> &Q + Copy + Send + 'static,
        G: Fn(A, T) -> A + Copy + Send + 'static,
        H: Fn(A, A) -> A + Copy + Send + 'static,
    {
        let fold = move |elements: Elements<T>, initial: Arc<A>| {
            let mut table = Table::<Q::Owned, Option<A>>::default();
            elements.for_each(|e| {
                let begin = |e| binop(A::clone(&initial), e);
                match table.get_mut(key(&e)) {
                    Some(entry) => put(entry, e, begin, binop),
                    None => put(table.entry(key(&e).to_owned()), e, begin, binop),
                }
            });
            rows(table)
        };
        folded::<F, Q::Owned, A, H>(&self.each_with::<F, A, _>(initial, fold), combine)
    }
}

/// Puts the folds of partitions together.
fn folded<N, K, A, H>(tables: &Chunks<Vec<(K, A)>>, combine: H) -> Bag<(K, A)>
where
    N: 'static,
    K: Data + Eq + Hash,
    A: Data,
    H: Fn(A, A) -> A + Copy + Send + 'static,
{
    let join = move |tables: Vec<Vec<(K, A)>>| fold_by(tables.into_iter().flatten(), |a| a, combine);
    Bag::from_delayed([tables.tree_named_after::<N, _>(join)])
}
