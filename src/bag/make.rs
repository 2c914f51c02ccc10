//! Where bags come from.

use super::Bag;
use crate::collection::{Chunks, Elements, Input, Layer, pass};
use crate::delayed::{Delayed, IntoArg};
use crate::task::Data;
use crate::task::returned::IntoError;
use std::ops::Range;
use std::sync::Arc;

/// How many partitions there are if nobody says.
const PARTITIONS: usize = 100;

/// Cuts `len` elements into `n` even parts (about [`PARTITIONS`], if it is not said); fewer where there are not so many.
pub(super) fn parts(len: u64, n: Option<usize>) -> impl Iterator<Item = Range<u64>> {
    let n = (n.unwrap_or(PARTITIONS) as u64).clamp(1, len.max(1));
    let at = move |i: u64| (u128::from(len) * u128::from(i) / u128::from(n)) as u64;
    (0..n).map(move |i| at(i)..at(i + 1))
}

impl<T: Data> Bag<T> {
    /// The elements of a sequence, in `npartitions` partitions; `None`: about a hundred.
    ///
    /// The elements become part of the graph: what can be read by the tasks should be ([`generate`](Self::generate)).
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let words = Bag::from_sequence(["a", "b", "c"].map(String::from), 2);
    /// assert_eq!(words.npartitions(), 2);
    /// assert_eq!(words.compute(&Client::sync())?, ["a", "b", "c"]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn from_sequence(elements: impl IntoIterator<Item = T>, npartitions: impl Into<Option<usize>>) -> Self {
        let elements: Vec<T> = elements.into_iter().collect();
        let parts = parts(elements.len() as u64, npartitions.into());
        let mut elements = elements.into_iter();
        Self::from_partitions(parts.map(|part| elements.by_ref().take((part.end - part.start) as usize).collect()))
    }

    /// One partition for each list.
    pub fn from_partitions(partitions: impl IntoIterator<Item = Vec<T>>) -> Self {
        fn sequence<T>(elements: Elements<T>, _: Arc<()>) -> Elements<T> {
            elements
        }
        let mut partitions: Vec<_> = partitions.into_iter().collect();
        if partitions.is_empty() {
            partitions.push(Vec::new());
        }
        let inputs = (Input::elements_each(partitions), Input::shared(()));
        Self::new(Layer::over(inputs).in_partitions().elements(sequence::<T>))
    }

    /// One partition for each lazy list.
    ///
    /// ```
    /// # use swath::{Bag, Client, delayed};
    /// let letters = delayed(|word: String| word.chars().collect::<Vec<char>>()).map(["ab", "c"]);
    /// assert_eq!(Bag::from_delayed(letters).compute(&Client::sync())?, ['a', 'b', 'c']);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn from_delayed(partitions: impl IntoIterator<Item = Delayed<Vec<T>>>) -> Self {
        Self::new(partitions.into_iter().collect::<Chunks<_>>())
    }

    /// One partition for each argument, with the elements that `function` makes of it.
    ///
    /// The function gives a list, or an iterator that makes the elements while they are read: then a partition need not
    /// be in memory as a whole.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let digits = Bag::generate(|from: u64| from..from + 10, [0_u64, 10, 20]);
    /// assert_eq!(digits.npartitions(), 3);
    /// assert_eq!(digits.count().compute(&Client::sync())?, 30);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn generate<A, F, I>(function: F, arguments: impl IntoIterator<Item: IntoArg<A>>) -> Self
    where
        A: Data,
        F: Fn(A) -> I + Copy + Send + 'static,
        I: IntoIterator<Item = T, IntoIter: Send + 'static> + 'static,
    {
        let make = move |argument: Arc<A>, _: Arc<()>| function(Arc::unwrap_or_clone(argument));
        let inputs = (Input::each(arguments), Input::shared(()));
        Self::new(Layer::over(inputs).in_partitions().named_after::<F>().elements(make))
    }

    /// [`generate`](Self::generate) with a function that may fail, at the start or at any element.
    ///
    /// The first error fails the task of the partition, and comes back typed: see
    /// [`TaskError::downcast`](crate::TaskError::downcast).
    pub fn try_generate<A, F, I, E>(function: F, arguments: impl IntoIterator<Item: IntoArg<A>>) -> Self
    where
        A: Data,
        F: Fn(A) -> Result<I, E> + Copy + Send + 'static,
        I: IntoIterator<Item = Result<T, E>, IntoIter: Send + 'static> + 'static,
        E: IntoError,
    {
        let make = move |argument: Arc<A>, _: Arc<()>| {
            let elements = function(Arc::unwrap_or_clone(argument)).map_err(pass::fail).ok().map(I::into_iter);
            pass::unfailing(elements.into_iter().flatten())
        };
        let inputs = (Input::each(arguments), Input::shared(()));
        Self::new(Layer::over(inputs).in_partitions().named_after::<F>().elements(make))
    }
}

impl Bag<i64> {
    /// The numbers of a range, in `npartitions` partitions; `None`: about a hundred. They are made by the tasks.
    pub fn range(range: Range<i64>, npartitions: impl Into<Option<usize>>) -> Self {
        fn range_of((from, to): (i64, i64)) -> Range<i64> {
            from..to
        }
        let len = if range.is_empty() { 0 } else { range.end.abs_diff(range.start) };
        let at = move |n: u64| range.start.wrapping_add_unsigned(n);
        let ends = parts(len, npartitions.into()).map(move |part| (at(part.start), at(part.end)));
        Self::generate(range_of, ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_even_and_none_is_empty() {
        for (len, n) in [(10, Some(3)), (3, Some(10)), (1000, None), (7, Some(7)), (5, Some(0))] {
            let parts: Vec<_> = parts(len, n).collect();
            let sizes: Vec<_> = parts.iter().map(|p| p.end - p.start).collect();
            assert_eq!(sizes.iter().sum::<u64>(), len);
            assert!(sizes.iter().max().zip(sizes.iter().min()).is_some_and(|(a, b)| a - b <= 1 && *b > 0), "{sizes:?}");
            assert!(parts.len() <= n.unwrap_or(100).max(1));
        }
        assert!(parts(0, None).eq(std::iter::once(0..0)));
    }
}
