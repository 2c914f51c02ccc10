//! From all elements to one value: each partition by itself, then a tree.

use super::Bag;
use crate::collection::{Chunks, Elements, Input, Layer};
use crate::delayed::{Delayed, IntoArg, delayed};
use crate::task::Data;
use std::cmp::Ordering;
use std::iter::Sum;
use std::sync::Arc;

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
        Self { partitions: self.partitions.clone().split_every(values) }
    }

    /// A value of each partition, by a function with an argument that is the same for all, named after `N`.
    pub(super) fn each_with<N: 'static, X: Data, R: Data>(
        &self,
        x: impl IntoArg<X>,
        function: impl Fn(Elements<T>, Arc<X>) -> R + Copy + Send + 'static,
    ) -> Chunks<R> {
        let layer = Layer::over((Input::elements(&self.partitions), Input::shared(x)));
        layer.named_after::<N>().chunks(function).split_every(self.partitions.most_at_once())
    }

    /// A value of each partition, by a function with an argument that is the same for all.
    pub(super) fn each<X: Data, R: Data, F>(&self, x: impl IntoArg<X>, function: F) -> Chunks<R>
    where
        F: Fn(Elements<T>, Arc<X>) -> R + Copy + Send + 'static,
    {
        self.each_with::<F, X, R>(x, function)
    }

    /// A value of each partition, and one of all these.
    ///
    /// `partition` makes a value of the elements of a partition. It is not called for partitions without elements, unless
    /// there is only one partition. `aggregate` makes one of such values, which it gets in the order of the partitions; it is
    /// called at least once, and in a tree (see [`split_every`](Self::split_every)), so it must be associative. If no
    /// partition has any elements, it is called with an empty list.
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
        let value = move |mut elements: Elements<T>, is_only: Arc<bool>| {
            let first = elements.next();
            (first.is_some() || *is_only).then(|| partition(elements.behind(first)))
        };
        let last = move |values: Vec<Option<R>>| aggregate(values.into_iter().flatten().collect());
        let join = move |values: Vec<Option<R>>| values.iter().any(Option::is_some).then(|| last(values));
        self.each_with::<F, bool, _>(self.npartitions() == 1, value).tree_then::<F, _, _, _>(join, last)
    }

    /// A value of each partition, also of one without elements, and one of all these.
    fn reduced<F, G, R>(&self, partition: F, aggregate: G) -> Delayed<R>
    where
        F: Fn(Elements<T>) -> R + Copy + Send + 'static,
        G: Fn(Vec<R>) -> R + Copy + Send + 'static,
        R: Data,
    {
        let values = self.each_with::<F, (), R>((), move |elements, _| partition(elements));
        values.tree_named_after::<F, G>(aggregate)
    }

    /// Folds each partition from `initial`, and combines the results.
    ///
    /// `combine` must be associative. `initial` is where every partition begins that has elements, so it should be neutral:
    /// 0 for a sum, an empty list for a concatenation. It is the result where there are no elements.
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
        // With whether there were any elements.
        let fold = move |elements: Elements<T>, initial: Arc<A>| {
            let mut is_any = false;
            let folded = elements.inspect(|_| is_any = true).fold(Arc::unwrap_or_clone(initial), binop);
            (folded, is_any)
        };
        let both = move |a: (A, bool), b: (A, bool)| match (a.1, b.1) {
            (true, true) => (combine(a.0, b.0), true),
            (true, false) => a,
            (false, _) => b,
        };
        let join = move |values: Vec<(A, bool)>| one(values.into_iter().reduce(both));
        self.each_with::<F, A, _>(initial, fold).tree_then::<F, _, _, _>(join, move |values| join(values).0)
    }

    /// Combines all elements by an associative function, in their order. `None` where there is none.
    pub fn reduce<F>(&self, function: F) -> Delayed<Option<T>>
    where
        F: Fn(T, T) -> T + Copy + Send + 'static,
    {
        self.each_then(move |elements| elements.reduce(function))
    }

    /// [`reduced`](Self::reduced) where partitions and results are put together in the same way, named after `N`.
    fn each_then<N>(&self, function: N) -> Delayed<Option<T>>
    where
        N: Fn(&mut dyn Iterator<Item = T>) -> Option<T> + Copy + Send + 'static,
    {
        let values = self.each_with::<N, (), Option<T>>((), move |mut elements, _| function(&mut elements));
        let join = move |some: Vec<Option<T>>| function(&mut some.into_iter().flatten());
        values.tree_named_after::<N, _>(join)
    }

    /// How many elements there are.
    pub fn count(&self) -> Delayed<usize> {
        fn count(counts: Vec<usize>) -> usize {
            counts.into_iter().sum()
        }
        self.counts().tree(count)
    }

    /// How many elements each partition has.
    pub(super) fn counts(&self) -> Chunks<usize> {
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
        self.reduced(Iterator::sum, |sums| sums.into_iter().sum())
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
        self.reduced(move |mut elements| elements.any(|e| predicate(&e)), |some| some.contains(&true))
    }

    /// Whether the predicate holds for all elements. A partition is read up to the first for which it does not.
    pub fn all<F>(&self, predicate: F) -> Delayed<bool>
    where
        F: Fn(&T) -> bool + Copy + Send + 'static,
    {
        self.reduced(move |mut elements| elements.all(|e| predicate(&e)), |some| !some.contains(&false))
    }

    /// The first `k` elements of each partition.
    pub(super) fn first_of_each(&self, k: usize) -> Chunks<Vec<T>> {
        fn take<T>(elements: Elements<T>, k: Arc<usize>) -> Vec<T> {
            elements.take(*k).collect()
        }
        self.each(k, take::<T>)
    }

    /// The first `k` elements of the first `npartitions` partitions; `usize::MAX`: of all.
    ///
    /// Fewer where there are not so many, which is logged as a warning; [`first`](Self::first) looks on. The partitions are read only so far, side by side.
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
        fn first<T>(lists: Vec<Vec<T>>, k: usize) -> Vec<T> {
            let read = lists.len();
            let some: Vec<T> = lists.into_iter().flatten().take(k).collect();
            if some.len() < k {
                log::warn!("`take` found {} of {k} elements in {read} partition(s); let it look at more", some.len());
            }
            some
        }
        let lists = self.select(0..npartitions.clamp(1, self.npartitions())).first_of_each(k);
        delayed(first::<T>).pure().call(lists.to_delayed(), k)
    }
}

/// What a tree has put together of at least one value.
pub(super) fn one<T>(value: Option<T>) -> T {
    value.unwrap_or_else(|| unreachable!("no task of a tree is without a value"))
}
