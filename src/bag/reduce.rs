//! From all elements to one value: each partition by itself, then a tree.

use super::Bag;
use super::elements::Elements;
use super::layer::{self, Stage};
use crate::delayed::{Delayed, IntoArg, delayed};
use crate::task::Data;
use std::iter::Sum;
use std::sync::Arc;

/// How many values are put together at once, if nobody says.
const SPLIT_EVERY: usize = 8;

impl<T: Data> Bag<T> {
    /// A value of each partition, by a function with an argument that is the same for all, named after `N`.
    fn each_with<N, X: Data, R: Data>(
        &self,
        x: impl IntoArg<X>,
        stage: impl Stage<Elements<T>, Arc<X>, R>,
    ) -> Vec<Delayed<R>> {
        let x = x.into_arg();
        let partitions = self.partitions.iter().enumerate();
        partitions.map(|(i, p)| layer::value::<N, _, _, _, _>(stage, i, layer::stream(p), x.clone())).collect()
    }

    /// A value of each partition, and one of all these.
    ///
    /// `partition` makes a value of the elements of a partition, and `aggregate` one of several such values, in the order of
    /// the partitions; it is called in a tree, with at most `split_every` values at a time (`None`: 8). So
    /// `aggregate` must be associative.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let longest = Bag::from_sequence(["a", "bbb", "cc"].map(String::from), 3)
    ///     .reduction(|words| words.map(|w| w.len()).max(), |lengths| lengths.into_iter().max().flatten(), None);
    /// assert_eq!(longest.compute(&Client::sync())?, Some(3));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn reduction<F, G, R>(&self, partition: F, aggregate: G, split_every: impl Into<Option<usize>>) -> Delayed<R>
    where
        F: Fn(Elements<T>) -> R + Copy + Send + 'static,
        G: Fn(Vec<R>) -> R + Copy + Send + 'static,
        R: Data,
    {
        let values = self.each_with::<F, (), R>((), move |elements, _| partition(elements));
        tree(values, aggregate, split_every.into().unwrap_or(SPLIT_EVERY))
    }

    /// How many elements there are.
    pub fn count(&self) -> Delayed<usize> {
        self.reduction(Iterator::count, |counts| counts.into_iter().sum(), None)
    }

    /// The sum of all elements.
    pub fn sum(&self) -> Delayed<T>
    where
        T: Sum,
    {
        self.reduction(Iterator::sum, |sums| sums.into_iter().sum(), None)
    }
}

/// Puts values together, at most `width` at a time, until there is one.
fn tree<R: Data, G: Fn(Vec<R>) -> R + Copy + 'static>(
    mut values: Vec<Delayed<R>>,
    aggregate: G,
    width: usize,
) -> Delayed<R> {
    while values.len() > 1 {
        values = values.chunks(width.max(2)).map(|values| delayed(aggregate).pure().call(values)).collect();
    }
    values.remove(0)
}
