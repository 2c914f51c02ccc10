//! The elements of a chunk that is a list, one after the other.

use super::pass::Counted;
use crate::task::Data;
use std::fmt;
use std::sync::Arc;

/// The elements of one partition as an iterator: what the functions of [`map_partitions`](crate::bag::Bag::map_partitions) and
/// [`reduction`](crate::bag::Bag::reduction) take.
///
/// They are made while they are read, so a partition need not be in memory as a whole. What takes all of them at once
/// ([`for_each`](Iterator::for_each), [`fold`](Iterator::fold), [`count`](Iterator::count), …) is faster than a `for` loop: then
/// the source's own loop drives all steps.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Elements<T>(Box<dyn Source<T> + Send>);

/// An iterator of any type, that can be told to hand over all it has.
trait Source<T>: Iterator<Item = T> {
    fn hand_over(self: Box<Self>, to: &mut dyn FnMut(T));
}

impl<I: Iterator> Source<I::Item> for I {
    fn hand_over(self: Box<Self>, to: &mut dyn FnMut(I::Item)) {
        (*self).for_each(to);
    }
}

impl<T: 'static> Elements<T> {
    /// The elements that another stage makes of its input. It is asked when the first is wanted.
    pub(crate) fn stage<I>(start: impl FnOnce() -> I + Send + 'static) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        Self(Box::new(std::iter::once_with(start).flatten()))
    }

    /// The first elements there are: those that count as the partition's.
    pub(crate) fn source<I>(start: impl FnOnce() -> I + Send + 'static) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        Self(Box::new(Counted::new(std::iter::once_with(start).flatten())))
    }

    /// With one before them that has been taken already.
    pub fn behind(self, first: Option<T>) -> Self
    where
        T: Send,
    {
        Self(Box::new(first.into_iter().chain(self)))
    }

    /// The elements of a list. Where others have it too they are cloned one by one.
    pub(super) fn of(list: Arc<Vec<T>>) -> Self
    where
        T: Data,
    {
        match Arc::try_unwrap(list) {
            Ok(list) => Self(Box::new(Counted::new(list.into_iter()))),
            Err(list) => Self(Box::new(Counted::new((0..list.len()).map(move |i| list[i].clone())))),
        }
    }
}

impl<T> Iterator for Elements<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }

    fn for_each<F: FnMut(T)>(self, mut f: F) {
        self.0.hand_over(&mut f);
    }

    fn fold<B, F: FnMut(B, T) -> B>(self, initial: B, mut f: F) -> B {
        let mut folded = Some(initial);
        self.for_each(|element| folded = folded.take().map(|before| f(before, element)));
        folded.unwrap_or_else(|| unreachable!("a panic of the function is not caught in between"))
    }
}

impl<T> fmt::Debug for Elements<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elements(..)")
    }
}
