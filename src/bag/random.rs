//! Elements by chance.
//!
//! The same seed gives the same elements in every mode and with any number of workers: each partition has dice of its own,
//! and so has each step that puts partitions together.

use super::Bag;
use super::error::BagError;
use super::top::top;
use crate::collection::pass;
use crate::collection::{Chunks, Elements, Input, Layer, unfailing};
use crate::delayed::Delayed;
use crate::error::Error;
use crate::task::Data;
use crate::task::returned::KeepError;
use fastrand::Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Elements with the keys by which they were drawn, and how many are wanted.
type Sample<T> = (usize, Vec<(u64, T)>);

/// The elements with the largest keys.
fn largest<T>(items: impl Iterator<Item = (u64, T)>, k: usize) -> Sample<T> {
    (k, top(items, k, |(a, _), (b, _)| a.cmp(b)))
}

/// How many draws are wanted, the seed of the next step, how many elements there are, and the draws: of one element each, and
/// none where there is no element.
type Draws<T> = (usize, u64, u64, Vec<T>);

/// Draws `k` times one of the elements, each of them equally likely, without knowing how many there are.
///
/// The first is that of every draw, until the `n`-th element takes its place, which it does with a chance of 1/n. So a draw
/// that is changed at `n` stays at least until `m` with a chance of n/m: when it is changed next is drawn at once, and the
/// elements in between are passed over.
fn draw<T: Clone>(elements: Elements<T>, k: usize, random: &mut Rng) -> (u64, Vec<T>) {
    let mut next = |n: u64| ((n as f64 / (1.0 - random.f64())) as u64).saturating_add(1);
    let (mut n, mut draws) = (0, Vec::<Arc<T>>::new());
    let mut due: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    elements.for_each(|element| {
        n += 1;
        if n == 1 {
            draws = std::iter::repeat_n(Arc::new(element), k).collect();
            due = (0..k).map(|draw| Reverse((next(1), draw))).collect();
            return;
        }
        if due.peek().is_none_or(|Reverse((at, _))| *at > n) {
            return;
        }
        let element = Arc::new(element);
        while let Some(mut first) = due.peek_mut()
            && first.0.0 <= n
        {
            draws[first.0.1] = Arc::clone(&element);
            first.0.0 = next(n);
        }
    });
    (n, draws.into_iter().map(Arc::unwrap_or_clone).collect())
}

/// Draws of all the elements: each is that of one of the parts, by their numbers of elements.
fn join<T>(parts: Vec<Draws<T>>) -> Draws<T> {
    let k = parts.first().map_or(0, |part| part.0);
    let mut random = Rng::with_seed(parts.iter().fold(0, |seed, part| seed.rotate_left(1) ^ part.1));
    let total = parts.iter().map(|part| part.2).sum();
    let mut parts: Vec<_> = parts.into_iter().map(|(.., n, draws)| (n, draws.into_iter())).collect();
    let mut one = || {
        let mut place = random.u64(0..total);
        let mut one = None;
        for (n, draws) in &mut parts {
            let draw = draws.next();
            if place < *n && one.is_none() {
                one = draw;
            }
            place = place.saturating_sub(*n);
        }
        one
    };
    let draws = if total == 0 { Vec::new() } else { (0..k).filter_map(|_| one()).collect() };
    (k, random.u64(..), total, draws)
}

/// So many of these, or an error where there are not so many.
fn so_many<T>(k: usize, found: Vec<T>) -> impl Iterator<Item = T> {
    let too_few = BagError::TooFew { wanted: k as u64, found: found.len() as u64 };
    let error = (found.len() < k).then_some(too_few).into_iter().map(|too_few| {
        pass::at_no_element();
        Err(KeepError(too_few))
    });
    unfailing(error.chain(found.into_iter().map(Ok)))
}

/// A bag of one partition, with what a function makes of a value.
fn bag_of<V: Data, T: Data, I>(
    value: Delayed<V>,
    function: impl Fn(Arc<V>, Arc<()>) -> I + Copy + Send + 'static,
) -> Bag<T>
where
    I: Iterator<Item = T> + Send + 'static,
{
    Bag::new(Layer::over((Input::shared(value), Input::shared(()))).in_partitions().at(0).elements(function))
}

impl<T: Data> Bag<T> {
    /// Something for each partition, and a seed for each.
    fn by_chance<X: Data, R: Data, F>(&self, x: X, seed: Option<u64>, function: F) -> Chunks<R>
    where
        F: Fn(Elements<T>, Arc<(X, u64)>) -> R + Copy + Send + 'static,
    {
        let mut seeds = seed.map_or_else(Rng::new, Rng::with_seed);
        let dice = (0..self.npartitions()).map(|_| (x.clone(), seeds.u64(..)));
        let layer = Layer::over((Input::elements(&self.partitions), Input::each(dice)));
        layer.chunks(function).split_every(self.partitions.most_at_once())
    }

    /// Each element with the given probability, by itself. `None` for the seed: another sample each time this is called.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the probability is not from 0 to 1.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let few = Bag::range(0..10_000, 10).random_sample(0.1, 42)?;
    /// let count = few.count().compute(&Client::sync())?;
    /// assert!((900..1100).contains(&count), "{count}");
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn random_sample(&self, probability: f64, seed: impl Into<Option<u64>>) -> Result<Bag<T>, Error> {
        fn random_sample<T>(elements: Elements<T>, dice: Arc<(f64, u64)>) -> impl Iterator<Item = T> {
            let (probability, mut random) = (dice.0, Rng::with_seed(dice.1));
            elements.filter(move |_| random.f64() < probability)
        }
        if !(0.0..=1.0).contains(&probability) {
            return Err(Error::invalid("probability", format!("{probability}; it is from 0 to 1")));
        }
        let mut seeds = seed.into().map_or_else(Rng::new, Rng::with_seed);
        let dice = (0..self.npartitions()).map(|_| (probability, seeds.u64(..)));
        let inputs = (Input::elements(&self.partitions), Input::each(dice));
        Ok(Bag::new(Layer::over(inputs).elements(random_sample::<T>)))
    }

    /// `k` different elements in random order, as a bag of one partition; each choice of `k` is equally likely. `None` for the
    /// seed: another sample each time this is called.
    ///
    /// A bag of fewer elements fails the task with [`BagError::TooFew`]. Keeps at most `2 k` elements of a partition in
    /// memory.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let client = Client::sync();
    /// let mut all = Bag::range(0..10, 3).sample(10, 42).compute(&client)?;
    /// assert_ne!(all, (0..10).collect::<Vec<_>>());
    /// all.sort();
    /// assert_eq!(all, (0..10).collect::<Vec<_>>());
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn sample(&self, k: usize, seed: impl Into<Option<u64>>) -> Bag<T> {
        fn sample<T>(elements: Elements<T>, dice: Arc<(usize, u64)>) -> Sample<T> {
            let mut random = Rng::with_seed(dice.1);
            largest(elements.map(|e| (random.u64(..), e)), dice.0)
        }
        fn join<T>(parts: Vec<Sample<T>>) -> Sample<T> {
            let k = parts.first().map_or(0, |part| part.0);
            largest(parts.into_iter().flat_map(|(_, list)| list), k)
        }
        fn elements<T: Clone>(sample: Arc<Sample<T>>, _: Arc<()>) -> impl Iterator<Item = T> {
            let (k, sample) = Arc::unwrap_or_clone(sample);
            so_many(k, sample.into_iter().map(|(_, e)| e).collect())
        }
        bag_of(self.by_chance(k, seed.into(), sample::<T>).tree(join::<T>), elements::<T>)
    }

    /// `k` times one of the elements, each equally likely each time, as a bag of one partition: the same may come more than
    /// once. `None` for the seed: others each time this is called.
    ///
    /// A bag without elements fails the task with [`BagError::TooFew`], but for `k` of 0. Each partition is read once, and
    /// `k` of its elements are in memory.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let rolls = Bag::range(1..7, 2).choices(6000, 42);
    /// let counts = rolls.frequencies().compute(&Client::sync())?;
    /// assert!(counts.iter().all(|(_, n)| (850..1150).contains(n)), "{counts:?}");
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn choices(&self, k: usize, seed: impl Into<Option<u64>>) -> Bag<T> {
        fn choices<T: Clone>(elements: Elements<T>, dice: Arc<(usize, u64)>) -> Draws<T> {
            let mut random = Rng::with_seed(dice.1);
            let (n, draws) = draw(elements, dice.0, &mut random);
            (dice.0, random.u64(..), n, draws)
        }
        fn elements<T: Clone>(draws: Arc<Draws<T>>, _: Arc<()>) -> impl Iterator<Item = T> {
            let (k, .., draws) = Arc::unwrap_or_clone(draws);
            so_many(k, draws)
        }
        bag_of(self.by_chance(k, seed.into(), choices::<T>).tree(join::<T>), elements::<T>)
    }
}
