//! What is done to each element, or to each partition.

use super::Bag;
use crate::collection::pass::{self, Wanted};
use crate::collection::{Elements, Input, Layer};
use crate::delayed::IntoArg;
use crate::task::Data;
use crate::task::returned::IntoError;
use std::sync::Arc;

impl<T: Data> Bag<T> {
    /// A layer of functions without an argument, named after `N`.
    fn layer<N: 'static, I>(&self, function: impl Fn(Elements<T>, Arc<()>) -> I + Copy + Send + 'static) -> Bag<I::Item>
    where
        I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
    {
        self.layer_with::<N, (), I>((), function)
    }

    /// A layer of functions that share an argument, named after themselves.
    pub(super) fn steps<X: Data, F, I>(&self, x: impl IntoArg<X>, function: F) -> Bag<I::Item>
    where
        F: Fn(Elements<T>, Arc<X>) -> I + Copy + Send + 'static,
        I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
    {
        self.layer_with::<F, X, I>(x, function)
    }

    /// A layer of functions that share an argument, named after `N`.
    pub(super) fn layer_with<N: 'static, X: Data, I>(
        &self,
        x: impl IntoArg<X>,
        function: impl Fn(Elements<T>, Arc<X>) -> I + Copy + Send + 'static,
    ) -> Bag<I::Item>
    where
        I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
    {
        let layer = Layer::over((Input::elements(&self.partitions), Input::shared(x)));
        Bag::new(layer.named_after::<N>().elements(function))
    }

    /// The function of each element.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let lengths = Bag::from_sequence(["one", "three"].map(String::from), 2).map(|s| s.len());
    /// assert_eq!(lengths.compute(&Client::sync())?, [3, 5]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn map<F, U>(&self, function: F) -> Bag<U>
    where
        F: Fn(T) -> U + Copy + Send + 'static,
        U: Data,
    {
        self.layer::<F, _>(move |elements, _| elements.map(function))
    }

    /// The function of each element and an argument that is the same for all: a value or a lazy one.
    ///
    /// This is how a function gets what a closure would capture. Several values are a tuple.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let numbers = Bag::from_sequence([1.0, 2.0, 6.0], 2);
    /// let centred = numbers.map_with(|x, mean| x - mean, numbers.sum().map(|s| s / 3.0));
    /// assert_eq!(centred.compute(&Client::sync())?, [-2.0, -1.0, 3.0]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn map_with<F, X, U>(&self, function: F, argument: impl IntoArg<X>) -> Bag<U>
    where
        F: Fn(T, &X) -> U + Copy + Send + 'static,
        X: Data,
        U: Data,
    {
        self.layer_with::<F, X, _>(argument, move |elements, x| elements.map(move |e| function(e, &x)))
    }

    /// The function of each element, which may fail. The first error fails the task of the partition.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let words = Bag::from_sequence(["1", "2", "x"].map(String::from), 2);
    /// let numbers = words.try_map(|s| s.parse::<i64>().map_err(|e| e.to_string()));
    /// let error = numbers.sum().compute(&Client::sync()).unwrap_err().to_string();
    /// assert!(error.contains("invalid digit found in string (at element 1 of partition 1)"), "{error}");
    /// ```
    pub fn try_map<F, U, E>(&self, function: F) -> Bag<U>
    where
        F: Fn(T) -> Result<U, E> + Copy + Send + 'static,
        U: Data,
        E: IntoError,
    {
        self.layer::<F, _>(move |elements, _| pass::unfailing(elements.map(function)))
    }

    /// [`map_with`](Self::map_with) with a function that may fail, as in [`try_map`](Self::try_map).
    pub fn try_map_with<F, X, U, E>(&self, function: F, argument: impl IntoArg<X>) -> Bag<U>
    where
        F: Fn(T, &X) -> Result<U, E> + Copy + Send + 'static,
        X: Data,
        U: Data,
        E: IntoError,
    {
        self.layer_with::<F, X, _>(argument, move |elements, x| pass::unfailing(elements.map(move |e| function(e, &x))))
    }

    /// The elements for which the predicate holds.
    pub fn filter<F>(&self, predicate: F) -> Bag<T>
    where
        F: Fn(&T) -> bool + Copy + Send + 'static,
    {
        self.layer::<F, _>(move |elements, _| elements.filter(predicate))
    }

    /// The elements for which the predicate holds, given an argument that is the same for all.
    pub fn filter_with<F, X>(&self, predicate: F, argument: impl IntoArg<X>) -> Bag<T>
    where
        F: Fn(&T, &X) -> bool + Copy + Send + 'static,
        X: Data,
    {
        self.layer_with::<F, X, _>(argument, move |elements, x| elements.filter(move |e| predicate(e, &x)))
    }

    /// The elements for which the predicate does not hold.
    pub fn remove<F>(&self, predicate: F) -> Bag<T>
    where
        F: Fn(&T) -> bool + Copy + Send + 'static,
    {
        self.layer::<F, _>(move |elements, _| elements.filter(move |e| !predicate(e)))
    }

    /// The elements for which the function gives something.
    pub fn filter_map<F, U>(&self, function: F) -> Bag<U>
    where
        F: Fn(T) -> Option<U> + Copy + Send + 'static,
        U: Data,
    {
        self.layer::<F, _>(move |elements, _| elements.filter_map(function))
    }

    /// All that the function gives for each element, one after the other.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let lines = Bag::from_sequence(["a b", "c"].map(String::from), 2);
    /// let words = lines.flat_map(|line| line.split(' ').map(String::from).collect::<Vec<_>>());
    /// assert_eq!(words.compute(&Client::sync())?, ["a", "b", "c"]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn flat_map<F, I>(&self, function: F) -> Bag<I::Item>
    where
        F: Fn(T) -> I + Copy + Send + 'static,
        I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
    {
        self.layer::<F, _>(move |elements, _| elements.flat_map(move |e| Wanted(function(e).into_iter())))
    }

    /// [`flat_map`](Self::flat_map) with an argument that is the same for all elements.
    pub fn flat_map_with<F, X, I>(&self, function: F, argument: impl IntoArg<X>) -> Bag<I::Item>
    where
        F: Fn(T, &X) -> I + Copy + Send + 'static,
        X: Data,
        I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
    {
        self.layer_with::<F, X, _>(argument, move |elements, x| {
            elements.flat_map(move |e| Wanted(function(e, &x).into_iter()))
        })
    }

    /// The elements of elements that are lists themselves.
    pub fn flatten(&self) -> Bag<T::Item>
    where
        T: IntoIterator<Item: Data, IntoIter: Send + 'static>,
    {
        fn flatten<T: IntoIterator>(elements: Elements<T>, _: Arc<()>) -> impl Iterator<Item = T::Item> {
            elements.flat_map(|e| Wanted(e.into_iter()))
        }
        self.steps((), flatten::<T>)
    }

    /// What the function makes of the elements of each partition.
    ///
    /// It takes an iterator, and gives a list or another iterator: with one, a partition need not be in memory as a
    /// whole, and a chain of adapters in the function is compiled into one loop.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let sums = Bag::from_sequence(1..=6, 3).map_partitions(|numbers| [numbers.sum::<i32>()]);
    /// assert_eq!(sums.compute(&Client::sync())?, [3, 7, 11]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn map_partitions<F, I>(&self, function: F) -> Bag<I::Item>
    where
        F: Fn(Elements<T>) -> I + Copy + Send + 'static,
        I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
    {
        self.layer::<F, _>(move |elements, _| Wanted(function(elements).into_iter()))
    }

    /// [`map_partitions`](Self::map_partitions) with an argument that is the same for all partitions.
    pub fn map_partitions_with<F, X, I>(&self, function: F, argument: impl IntoArg<X>) -> Bag<I::Item>
    where
        F: Fn(Elements<T>, Arc<X>) -> I + Copy + Send + 'static,
        X: Data,
        I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
    {
        self.layer_with::<F, X, _>(argument, move |elements, x| Wanted(function(elements, x).into_iter()))
    }

    /// [`map_partitions`](Self::map_partitions) with a function that may fail.
    pub fn try_map_partitions<F, I, E>(&self, function: F) -> Bag<I::Item>
    where
        F: Fn(Elements<T>) -> Result<I, E> + Copy + Send + 'static,
        I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
        E: IntoError,
    {
        self.layer::<F, _>(move |elements, _| {
            function(elements).map_err(pass::fail).map(|made| Wanted(made.into_iter())).into_iter().flatten()
        })
    }
}

impl<A: Data, B: Data> Bag<(A, B)> {
    /// The first and the second parts of pairs, each as a bag of its own: what [`zip`](Self::zip) has put together.
    pub fn unzip(&self) -> (Bag<A>, Bag<B>) {
        (self.map(|(a, _)| a), self.map(|(_, b)| b))
    }
}

macro_rules! starmap {
    ($($t:ident $x:ident),*) => {
        impl<$($t: Data),*> Bag<($($t,)*)> {
            /// The function of each element's parts.
            ///
            /// ```
            /// # use swath::{Bag, Client};
            /// let pairs = Bag::from_sequence([(1, 2), (3, 4)], 2);
            /// assert_eq!(pairs.starmap(|a, b| a * b).compute(&Client::sync())?, [2, 12]);
            /// # Ok::<(), swath::Error>(())
            /// ```
            pub fn starmap<Func, Out>(&self, function: Func) -> Bag<Out>
            where
                Func: Fn($($t),*) -> Out + Copy + Send + 'static,
                Out: Data,
            {
                self.layer::<Func, _>(move |elements, _| elements.map(move |($($x,)*)| function($($x),*)))
            }
        }
    };
}

starmap!(A a, B b);
starmap!(A a, B b, C c);
starmap!(A a, B b, C c, D d);
