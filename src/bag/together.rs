//! Several bags at once, element by element.

use super::Bag;
use super::error::BagError;
use crate::collection::pass;
use crate::collection::{Chunks, Elements, Input, Layer, unfailing};
use crate::error::{Error, Result};
use crate::task::Data;
use crate::task::returned::KeepError;
use std::iter::from_fn;
use std::sync::Arc;

/// Elements at equal places, or that one list ends first.
type Row<T> = Result<T, KeepError<BagError>>;

fn uneven<T>(shorter: &str) -> Option<Row<T>> {
    pass::at_no_element();
    Some(Err(KeepError(BagError::Uneven { shorter: shorter.to_string() })))
}

fn pairs<A, B>(mut left: Elements<A>, mut right: Elements<B>) -> impl Iterator<Item = Row<(A, B)>> {
    from_fn(move || match (left.next(), right.next()) {
        (Some(a), Some(b)) => Some(Ok((a, b))),
        (None, None) => None,
        (None, Some(_)) => uneven("left"),
        (Some(_), None) => uneven("right"),
    })
}

fn triples<A, B, C>(
    mut first: Elements<A>,
    mut second: Elements<B>,
    mut third: Elements<C>,
) -> impl Iterator<Item = Row<(A, B, C)>> {
    from_fn(move || match (first.next(), second.next(), third.next()) {
        (Some(a), Some(b), Some(c)) => Some(Ok((a, b, c))),
        (None, None, None) => None,
        (None, ..) => uneven("first"),
        (_, None, _) => uneven("second"),
        (.., None) => uneven("third"),
    })
}

/// The place of a bag among several, counted from 0, in words.
fn ordinal(i: usize) -> String {
    match (i + 1) % 10 {
        _ if (i + 1) / 10 % 10 == 1 => format!("{}th", i + 1),
        1 => format!("{}st", i + 1),
        2 => format!("{}nd", i + 1),
        3 => format!("{}rd", i + 1),
        _ => format!("{}th", i + 1),
    }
}

fn rows<T>(lists: Vec<Vec<T>>) -> impl Iterator<Item = Row<Vec<T>>> {
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    from_fn(move || {
        if lists.iter().all(|list| list.len() == 0) {
            return None;
        }
        match lists.iter().position(|list| list.len() == 0) {
            Some(shorter) => uneven(&ordinal(shorter)),
            None => Some(Ok(lists.iter_mut().filter_map(Iterator::next).collect())),
        }
    })
}

/// Bags that are read side by side have equally many partitions.
fn check(what: &str, partitions: &[usize]) -> Result<()> {
    if partitions.windows(2).all(|two| two[0] == two[1]) {
        return Ok(());
    }
    let counts: Vec<String> = partitions.iter().map(usize::to_string).collect();
    let (last, others) = counts.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
    Err(Error::invalid(what, format!("{} and {last} partitions; `repartition` makes them equal", others.join(", "))))
}

impl<T: Data> Bag<T> {
    /// Pairs of the elements at equal places. Partitions of different lengths fail the task with
    /// [`BagError::Uneven`].
    ///
    /// # Errors
    /// [`Error::Invalid`] where the bags have different numbers of partitions.
    pub fn zip<U: Data>(&self, other: &Bag<U>) -> Result<Bag<(T, U)>> {
        fn zip<T, U>(left: Elements<T>, right: Elements<U>) -> impl Iterator<Item = (T, U)> {
            unfailing(pairs(left, right))
        }
        check("the bags to zip", &[self.npartitions(), other.npartitions()])?;
        let inputs = (Input::elements(&self.partitions), Input::elements(&other.partitions));
        Ok(Bag::new(Layer::over(inputs).elements(zip::<T, U>)))
    }

    /// The function of the elements at equal places of this bag and another one. Partitions of different lengths fail the
    /// task with [`BagError::Uneven`].
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let (prices, counts) = (Bag::from_sequence([2.5, 1.0, 4.0], 2), Bag::from_sequence([2, 3, 1], 2));
    /// let total = prices.map2(&counts, |price, n| price * f64::from(n))?.sum();
    /// assert_eq!(total.compute(&Client::sync())?, 12.0);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] where the bags have different numbers of partitions.
    pub fn map2<U, F, V>(&self, other: &Bag<U>, function: F) -> Result<Bag<V>>
    where
        U: Data,
        F: Fn(T, U) -> V + Copy + Send + 'static,
        V: Data,
    {
        check("the bags of `map2`", &[self.npartitions(), other.npartitions()])?;
        let both = move |left: Elements<T>, right: Elements<U>| {
            unfailing(pairs(left, right)).map(move |(a, b)| function(a, b))
        };
        let inputs = (Input::elements(&self.partitions), Input::elements(&other.partitions));
        Ok(Bag::new(Layer::over(inputs).named_after::<F>().elements(both)))
    }

    /// [`map2`](Self::map2) with two other bags.
    ///
    /// # Errors
    /// As [`map2`](Self::map2).
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let numbers = |first: i64| Bag::range(first..first + 4, 2);
    /// let sums = numbers(0).map3(&numbers(10), &numbers(100), |a, b, c| a + b + c)?;
    /// assert_eq!(sums.compute(&Client::sync())?, [110, 113, 116, 119]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn map3<U, V, F, W>(&self, second: &Bag<U>, third: &Bag<V>, function: F) -> Result<Bag<W>>
    where
        U: Data,
        V: Data,
        F: Fn(T, U, V) -> W + Copy + Send + 'static,
        W: Data,
    {
        check("the bags of `map3`", &[self.npartitions(), second.npartitions(), third.npartitions()])?;
        let all = move |first: Elements<T>, second: Elements<U>, third: Elements<V>| {
            unfailing(triples(first, second, third)).map(move |(a, b, c)| function(a, b, c))
        };
        let (first, second) = (Input::elements(&self.partitions), Input::elements(&second.partitions));
        let inputs = (first, second, Input::elements(&third.partitions));
        Ok(Bag::new(Layer::over(inputs).named_after::<F>().elements(all)))
    }

    /// The elements at equal places of any number of bags, as lists. Partitions of different lengths fail the task with
    /// [`BagError::Uneven`]. The partitions are in memory as a whole.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let rows = Bag::zip_all((0..3).map(|i| Bag::range(10 * i..10 * i + 2, 1)))?;
    /// assert_eq!(rows.compute(&Client::sync())?, [[0, 10, 20], [1, 11, 21]]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] where the bags have different numbers of partitions, or there is none.
    pub fn zip_all(bags: impl IntoIterator<Item = Bag<T>>) -> Result<Bag<Vec<T>>> {
        fn zip_all<T: Clone>(lists: Arc<Vec<Vec<T>>>, _: Arc<()>) -> impl Iterator<Item = Vec<T>> {
            unfailing(rows(Arc::unwrap_or_clone(lists)))
        }
        let bags: Vec<Bag<T>> = bags.into_iter().collect();
        let counts: Vec<usize> = bags.iter().map(Bag::npartitions).collect();
        let Some(&n) = counts.first() else {
            return Err(Error::invalid("the bags to zip", "there is none"));
        };
        check("the bags to zip", &counts)?;
        let all = Chunks::concat(bags.into_iter().map(|bag| bag.partitions));
        let columns = (0..n).map(|i| (0..counts.len()).map(move |bag| bag * n + i));
        let inputs = (Input::lists(&all, columns), Input::shared(()));
        Ok(Bag::new(Layer::over(inputs).in_partitions().elements(zip_all::<T>)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_words() {
        let words = [0, 1, 2, 3, 9, 10, 11, 12, 20, 110, 120].map(ordinal);
        assert_eq!(words.join(" "), "1st 2nd 3rd 4th 10th 11th 12th 13th 21st 111th 121st");
    }
}
