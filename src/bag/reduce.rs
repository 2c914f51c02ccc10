//! From all elements to one value: each partition by itself, then a tree.

use super::Bag;
use super::elements::Elements;
use super::layer::{self, Stage};
use crate::delayed::{Delayed, IntoArg, delayed};
use crate::task::Data;
use std::cmp::Ordering;
use std::iter::Sum;
use std::sync::Arc;

/// How many values are put together at once, if nobody says.
pub(super) const SPLIT_EVERY: usize = 8;

impl<T: Data> Bag<T> {
    /// At most so many values are put together in one task when this bag is reduced; default 8, and at least 2.
    ///
    /// It holds for the reductions of this bag, not for those of bags made from it: it stands right before them.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let sum = Bag::range(0..100, 10).split_every(2).sum();
    /// assert_eq!(sum.compute(&Client::sync())?, 4950);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn split_every(&self, values: usize) -> Self {
        Self { split_every: values.max(2), ..self.clone() }
    }

    /// A value of each partition, by a function with an argument that is the same for all, named after `N`.
    pub(super) fn each_with<N, X: Data, R: Data>(
        &self,
        x: impl IntoArg<X>,
        stage: impl Stage<Elements<T>, Arc<X>, R>,
    ) -> Vec<Delayed<R>> {
        let x = x.into_arg();
        let partitions = self.partitions.iter().enumerate();
        partitions.map(|(i, p)| layer::value::<N, _, _, _, _>(stage, i, layer::stream(p), x.clone())).collect()
    }

    /// A value of each partition, by a function with an argument that is the same for all.
    pub(super) fn each<X: Data, R: Data, F>(&self, x: impl IntoArg<X>, stage: F) -> Vec<Delayed<R>>
    where
        F: Stage<Elements<T>, Arc<X>, R>,
    {
        self.each_with::<F, X, R>(x, stage)
    }

    /// Puts values together until there is one. `join` describes that for some of them.
    pub(super) fn tree<R: Data>(
        &self,
        mut values: Vec<Delayed<R>>,
        join: impl Fn(&[Delayed<R>]) -> Delayed<R>,
    ) -> Delayed<R> {
        while values.len() > 1 {
            values = values.chunks(self.split_every).map(&join).collect();
        }
        values.remove(0)
    }

    /// A value of each partition, and one of all these.
    ///
    /// `partition` makes a value of the elements of a partition. `aggregate` makes one of several such values, which it
    /// gets in the order of the partitions; it is called in a tree (see [`split_every`](Self::split_every)), so it must be
    /// associative. With one partition it is not called.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let words = Bag::from_sequence(["a", "bbb", "cc"].map(String::from), 3);
    /// let longest = words.reduction(|words| words.map(|w| w.len()).max(), |all| all.into_iter().max().flatten());
    /// assert_eq!(longest.compute(&Client::sync())?, Some(3));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn reduction<F, G, R>(&self, partition: F, aggregate: G) -> Delayed<R>
    where
        F: Fn(Elements<T>) -> R + Copy + Send + 'static,
        G: Fn(Vec<R>) -> R + Copy + Send + 'static,
        R: Data,
    {
        let values = self.each_with::<F, (), R>((), move |elements, _| partition(elements));
        self.tree(values, |some| delayed(aggregate).pure().call(some))
    }

    /// Folds each partition from `initial`, and combines the results.
    ///
    /// `combine` must be associative. `initial` is where every partition begins, so it should be neutral: 0 for a sum, an
    /// empty list for a concatenation.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let words = Bag::from_sequence(["a", "bbb", "cc"].map(String::from), 3);
    /// let letters = words.fold(0, |sum, word| sum + word.len(), |a, b| a + b);
    /// assert_eq!(letters.compute(&Client::sync())?, 6);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn fold<A, F, G>(&self, initial: A, binop: F, combine: G) -> Delayed<A>
    where
        A: Data,
        F: Fn(A, T) -> A + Copy + Send + 'static,
        G: Fn(A, A) -> A + Copy + Send + 'static,
    {
        let fold = move |elements: Elements<T>, initial| elements.fold(Arc::unwrap_or_clone(initial), binop);
        let combine = move |values: Vec<A>| one(values.into_iter().reduce(combine));
        self.tree(self.each_with::<F, A, A>(initial, fold), |some| delayed(combine).pure().call(some))
    }

    /// Combines all elements by an associative function, in their order. `None` where there is none.
    pub fn reduce<F>(&self, function: F) -> Delayed<Option<T>>
    where
        F: Fn(T, T) -> T + Copy + Send + 'static,
    {
        self.each_then(move |elements| elements.reduce(function))
    }

    /// [`reduction`](Self::reduction) where partitions and results are put together in the same way, named after `N`.
    fn each_then<N>(&self, function: N) -> Delayed<Option<T>>
    where
        N: Fn(&mut dyn Iterator<Item = T>) -> Option<T> + Copy + Send + 'static,
    {
        let values = self.each_with::<N, (), Option<T>>((), move |mut elements, _| function(&mut elements));
        let join = move |some: Vec<Option<T>>| function(&mut some.into_iter().flatten());
        self.tree(values, |some| delayed(join).pure().call(some))
    }

    /// How many elements there are.
    pub fn count(&self) -> Delayed<usize> {
        fn count(counts: Vec<usize>) -> usize {
            counts.into_iter().sum()
        }
        self.tree(self.counts(), |some| delayed(count).pure().call(some))
    }

    /// How many elements each partition has.
    pub(super) fn counts(&self) -> Vec<Delayed<usize>> {
        fn count<T>(elements: Elements<T>, _: Arc<()>) -> usize {
            elements.count()
        }
        self.each((), count::<T>)
    }

    /// The sum of all elements.
    pub fn sum(&self) -> Delayed<T>
    where
        T: Sum,
    {
        self.reduction(Iterator::sum, |sums| sums.into_iter().sum())
    }

    /// The largest element; the last of several. `None` where there is none.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let words = Bag::from_sequence(["a", "ccc", "bb"].map(String::from), 2);
    /// let (max, longest) = Client::sync().compute((words.max(), words.max_by_key(|w| w.len())))?;
    /// assert_eq!((max.as_deref(), longest.as_deref()), (Some("ccc"), Some("ccc")));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn max(&self) -> Delayed<Option<T>>
    where
        T: Ord,
    {
        self.each_then(|elements| elements.max())
    }

    /// The smallest element; the first of several. `None` where there is none.
    pub fn min(&self) -> Delayed<Option<T>>
    where
        T: Ord,
    {
        self.each_then(|elements| elements.min())
    }

    /// The element with the largest key; the last of several. `None` where there is none.
    pub fn max_by_key<K, F>(&self, key: F) -> Delayed<Option<T>>
    where
        K: Ord,
        F: Fn(&T) -> K + Copy + Send + 'static,
    {
        self.each_then(move |elements| elements.max_by_key(key))
    }

    /// The element with the smallest key; the first of several. `None` where there is none.
    pub fn min_by_key<K, F>(&self, key: F) -> Delayed<Option<T>>
    where
        K: Ord,
        F: Fn(&T) -> K + Copy + Send + 'static,
    {
        self.each_then(move |elements| elements.min_by_key(key))
    }

    /// The largest element by a comparison, `f64::total_cmp` for example; the last of several. `None` where there is none.
    pub fn max_by<F>(&self, compare: F) -> Delayed<Option<T>>
    where
        F: Fn(&T, &T) -> Ordering + Copy + Send + 'static,
    {
        self.each_then(move |elements| elements.max_by(compare))
    }

    /// The smallest element by a comparison; the first of several. `None` where there is none.
    pub fn min_by<F>(&self, compare: F) -> Delayed<Option<T>>
    where
        F: Fn(&T, &T) -> Ordering + Copy + Send + 'static,
    {
        self.each_then(move |elements| elements.min_by(compare))
    }

    /// Whether the predicate holds for any element. A partition is read up to the first.
    pub fn any<F>(&self, predicate: F) -> Delayed<bool>
    where
        F: Fn(&T) -> bool + Copy + Send + 'static,
    {
        self.reduction(move |mut elements| elements.any(|e| predicate(&e)), |some| some.contains(&true))
    }

    /// Whether the predicate holds for all elements. A partition is read up to the first for which it does not.
    pub fn all<F>(&self, predicate: F) -> Delayed<bool>
    where
        F: Fn(&T) -> bool + Copy + Send + 'static,
    {
        self.reduction(move |mut elements| elements.all(|e| predicate(&e)), |some| !some.contains(&false))
    }

    /// The first `k` elements of the first `npartitions` partitions; `usize::MAX`: of all.
    ///
    /// Fewer where there are not so many. The partitions are read only so far, side by side.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let bag = Bag::range(0..10, 5);
    /// let client = Client::sync();
    /// assert_eq!(bag.take(3, 1).compute(&client)?, [0, 1]);
    /// assert_eq!(bag.take(3, 2).compute(&client)?, [0, 1, 2]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn take(&self, k: usize, npartitions: usize) -> Delayed<Vec<T>> {
        fn take<T>(elements: Elements<T>, k: Arc<usize>) -> Vec<T> {
            elements.take(*k).collect()
        }
        fn first<T>(lists: Vec<Vec<T>>, k: usize) -> Vec<T> {
            lists.into_iter().flatten().take(k).collect()
        }
        let lists = self.select(0..npartitions.clamp(1, self.npartitions())).each(k, take::<T>);
        delayed(first::<T>).pure().call(lists, k)
    }
}

/// What a tree has put together of at least one value.
pub(super) fn one<T>(value: Option<T>) -> T {
    value.unwrap_or_else(|| unreachable!("no task of a tree is without a value"))
}
