//! What looks at several partitions, bags, or the order of elements.

use super::Bag;
use crate::client::Client;
use crate::collection::{Chunks, Elements, Input, Layer};
use crate::delayed::{Delayed, IntoArg, delayed};
use crate::error::{Error, Result};
use crate::task::Data;
use crate::task::size::size_of_value;
use rustc_hash::FxHashMap;
use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;

impl<T: Data> Bag<T> {
    /// The bags one after the other: the partitions of all of them.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let all = Bag::concat([Bag::range(0..3, 1), Bag::range(7..9, 1)]);
    /// assert_eq!(all.compute(&Client::sync())?, [0, 1, 2, 7, 8]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn concat(bags: impl IntoIterator<Item = Bag<T>>) -> Bag<T> {
        Bag::new(Chunks::concat(bags.into_iter().map(|bag| bag.partitions)))
    }

    /// All pairs of an element of this bag and one of the other: a partition for each pair of partitions.
    pub fn product<U: Data>(&self, other: &Bag<U>) -> Bag<(T, U)> {
        fn product<T: Clone, U: Clone>(left: Elements<T>, right: Arc<Vec<U>>) -> impl Iterator<Item = (T, U)> {
            left.flat_map(move |a| {
                let right = Arc::clone(&right);
                (0..right.len()).map(move |i| (a.clone(), right[i].clone()))
            })
        }
        let (rows, columns) = (self.npartitions(), other.npartitions());
        let left = (0..rows).flat_map(|a| std::iter::repeat_n(a, columns));
        let right = (0..rows).flat_map(|_| 0..columns);
        let inputs = (Input::elements_at(&self.partitions, left), Input::chunk_at(&other.partitions, right));
        Bag::new(Layer::over(inputs).in_partitions().elements(product::<T, U>))
    }

    /// Pairs of an element of a local collection, a list or a lazy one, and an element of this bag, that have equal keys.
    ///
    /// Elements without a partner are left out. The local collection goes to each worker as a whole.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let people = Bag::from_sequence(["Alice", "Bob", "Charlie"].map(String::from), 2);
    /// let fruit = ["Apple", "Apricot", "Banana"].map(String::from).to_vec();
    /// let initial = |s: &String| s.chars().next();
    /// let pairs = people.join(fruit, initial, initial).starmap(|fruit, name| format!("{fruit} for {name}"));
    /// assert_eq!(pairs.compute(&Client::sync())?, ["Apple for Alice", "Apricot for Alice", "Banana for Bob"]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn join<U, K, F, G>(&self, other: impl IntoArg<Vec<U>>, on_self: F, on_other: G) -> Bag<(U, T)>
    where
        U: Data,
        K: Data + Hash + Eq,
        F: Fn(&T) -> K + Copy + Send + 'static,
        G: Fn(&U) -> K + Copy + Send + 'static,
    {
        let table = delayed(move |other: Vec<U>| {
            let mut table = FxHashMap::<K, Vec<U>>::default();
            other.into_iter().for_each(|u| table.entry(on_other(&u)).or_default().push(u));
            table
        });
        let join = move |elements: Elements<T>, table: Arc<FxHashMap<K, Vec<U>>>| {
            elements.flat_map(move |e| {
                let partners = table.get(&on_self(&e)).cloned().unwrap_or_default();
                partners.into_iter().map(move |u| (u, e.clone()))
            })
        };
        self.layer_with::<F, _, _>(table.pure().name("join-table").call(other), join)
    }

    /// Each element with its place in the bag, from 0.
    ///
    /// The elements before must be counted first: the partitions are in memory until then.
    pub fn enumerate(&self) -> Bag<(usize, T)> {
        fn enumerate<T>(elements: Elements<T>, before: Arc<usize>) -> impl Iterator<Item = (usize, T)> {
            (*before..).zip(elements)
        }
        fn add(a: usize, b: usize) -> usize {
            a + b
        }
        let mut before = vec![crate::value(0_usize)];
        let mut counts = self.counts().to_delayed();
        // What is behind the last one need not be known.
        counts.pop();
        for (i, count) in counts.iter().enumerate() {
            before.push(delayed(add).pure().call(&before[i], count));
        }
        let inputs = (Input::elements(&self.partitions), Input::each(before));
        Bag::new(Layer::over(inputs).elements(enumerate::<T>))
    }

    /// Running results: the first element, the function of it and the second, the function of that and the third, ….
    ///
    /// The partitions are worked on one after the other.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let sums = Bag::from_sequence(1..=5, 2).accumulate(|sum, x| sum + x);
    /// assert_eq!(sums.compute(&Client::sync())?, [1, 3, 6, 10, 15]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn accumulate<F>(&self, function: F) -> Bag<T>
    where
        F: Fn(&T, T) -> T + Copy + Send + 'static,
    {
        let step = move |elements: Elements<T>, carry: Arc<Option<T>>| {
            let mut last = Arc::unwrap_or_clone(carry);
            elements.map(move |e| {
                let next = match &last {
                    Some(last) => function(last, e),
                    None => e,
                };
                last = Some(next.clone());
                next
            })
        };
        self.running::<F, T, _, _>(None, step, step)
    }

    /// Running results from an initial value, which is the first of them.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let sums = Bag::from_sequence(1..=5, 2).accumulate_from(-1, |sum, x| sum + x);
    /// assert_eq!(sums.compute(&Client::sync())?, [-1, 0, 2, 5, 9, 14]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn accumulate_from<A, F>(&self, initial: A, function: F) -> Bag<A>
    where
        A: Data,
        F: Fn(&A, T) -> A + Copy + Send + 'static,
    {
        let step = move |elements: Elements<T>, carry: Arc<Option<A>>| {
            let mut last = Arc::unwrap_or_clone(carry);
            elements.filter_map(move |e| {
                last = last.as_ref().map(|last| function(last, e));
                last.clone()
            })
        };
        let first = move |elements: Elements<T>, carry: Arc<Option<A>>| {
            let initial = (*carry).clone();
            initial.into_iter().chain(step(elements, carry))
        };
        self.running::<F, A, _, _>(Some(initial), first, step)
    }

    /// Steps that each begin with the last element of the one before, if that has any.
    fn running<N: 'static, A, I, J>(
        &self,
        initial: Option<A>,
        first: impl Fn(Elements<T>, Arc<Option<A>>) -> I + Copy + Send + 'static,
        step: impl Fn(Elements<T>, Arc<Option<A>>) -> J + Copy + Send + 'static,
    ) -> Bag<A>
    where
        A: Data,
        I: IntoIterator<Item = A, IntoIter: Send + 'static> + 'static,
        J: IntoIterator<Item = A, IntoIter: Send + 'static> + 'static,
    {
        fn last<A: Clone>(elements: Arc<Vec<A>>, before: Arc<Option<A>>) -> Option<A> {
            elements.last().or((*before).as_ref()).cloned()
        }
        let mut carry = Input::shared(initial);
        let mut partitions = Vec::with_capacity(self.npartitions());
        for (i, part) in self.partitions.to_delayed().iter().enumerate() {
            let layer = Layer::over((Input::elements_of(part), carry.clone())).in_partitions().at(i).named_after::<N>();
            let part = if i == 0 { layer.elements(first) } else { layer.elements(step) }.into_delayed();
            let layer = Layer::over((Input::shared(&part), carry)).in_partitions().at(i).named_after::<N>();
            carry = Input::shared(layer.chunks(last::<A>).into_delayed());
            partitions.push(part);
        }
        Bag::new(partitions)
    }

    /// The same elements in another number of partitions: neighbours are put together, or each is cut into even parts.
    pub fn repartition(&self, npartitions: usize) -> Bag<T> {
        let (have, want) = (self.npartitions() as u64, npartitions.max(1) as u64);
        if want <= have {
            let groups = super::make::parts(have, Some(npartitions));
            return Bag::new(groups.enumerate().map(|(i, group)| self.joined(i, group)).collect::<Chunks<_>>());
        }
        let shares = super::make::parts(want, Some(self.npartitions()));
        self.cut(shares.map(|share| share.end - share.start))
    }

    /// The same elements in partitions of at most about so many bytes of memory.
    ///
    /// This computes the bag to learn the sizes of its partitions, so it should be persisted before if it is costly.
    ///
    /// # Errors
    /// As [`compute`](Self::compute), and [`Error::Invalid`] for a size of 0.
    pub fn repartition_by_size(&self, client: &Client, bytes: u64) -> Result<Bag<T>> {
        if bytes == 0 {
            return Err(Error::invalid("the size of partitions", "0 bytes; it is at least 1"));
        }
        fn size<T: Data>(elements: Elements<T>, _: Arc<()>) -> u64 {
            elements.map(|e| size_of_value(&e)).sum()
        }
        let sizes = client.compute(self.each((), size::<T>))?;
        let parts = |size: u64| size.div_ceil(bytes).max(1);
        let cut = self.cut(sizes.iter().map(|&size| parts(size)));
        let sizes =
            sizes.iter().flat_map(|&size| std::iter::repeat_n(size.div_ceil(parts(size)), parts(size) as usize));
        let (mut groups, mut filled) = (Vec::<Range<u64>>::new(), 0);
        for (i, size) in (0..).zip(sizes) {
            match groups.last_mut() {
                Some(group) if filled + size <= bytes => {
                    group.end = i + 1;
                    filled += size;
                }
                _ => {
                    groups.push(i..i + 1);
                    filled = size;
                }
            }
        }
        Ok(Bag::new(groups.into_iter().enumerate().map(|(i, group)| cut.joined(i, group)).collect::<Chunks<_>>()))
    }

    /// One partition of several neighbours.
    fn joined(&self, i: usize, group: Range<u64>) -> Delayed<Vec<T>> {
        fn repartition<T: Clone>(lists: Arc<Vec<Vec<T>>>, _: Arc<()>) -> impl Iterator<Item = T> {
            Arc::unwrap_or_clone(lists).into_iter().flatten()
        }
        let group = self.partitions.select(group.start as usize..group.end as usize);
        match group.len() {
            1 => group.into_delayed(),
            _ => {
                let inputs = (Input::all(&group), Input::shared(()));
                Layer::over(inputs).in_partitions().at(i).elements(repartition::<T>).into_delayed()
            }
        }
    }

    /// Each partition in so many even parts.
    fn cut(&self, parts: impl Iterator<Item = u64>) -> Bag<T> {
        fn repartition<T: Clone>(list: Arc<Vec<T>>, share: Arc<(u64, u64)>) -> impl Iterator<Item = T> {
            let (part, of) = *share;
            let at = |i| (list.len() as u128 * u128::from(i) / u128::from(of)) as usize;
            (at(part)..at(part + 1)).map(move |i| list[i].clone())
        }
        let mut cut = Vec::new();
        for (list, n) in self.partitions.to_delayed().into_iter().zip(parts) {
            if n == 1 {
                cut.push(list);
                continue;
            }
            for part in 0..n {
                let inputs = (Input::shared(&list), Input::shared((part, n)));
                let layer = Layer::over(inputs).in_partitions().at(cut.len());
                cut.push(layer.elements(repartition::<T>).into_delayed());
            }
        }
        Bag::new(cut)
    }
}
