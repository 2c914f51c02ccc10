//! Calls of one function with the items of an iterator that is read only as far as its calls are wanted.

use super::{Client, Future};
use crate::delayed::{Delayed, IntoArg};
use crate::error::{Error, Result};
use crate::graph::node::Node;
use crate::status::Mode;
use crate::submission::completed::{CompletionQueue, ListPositions};
use crate::submission::limit::Permit;
use crate::task::Data;
use crate::task::function::{Record, TaskFunction, TryTaskFunction};
use crate::task::returned::IntoError;
use crate::task::wait::{is_in_vain, poll_waiting};
use rustc_hash::FxHashMap;
use smallvec::smallvec;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Calls that are started as their items are read.
struct Source<I, A, R> {
    client: Client,
    function: &'static Record,
    /// None: it has ended, or nothing more can be submitted.
    items: Option<I>,
    /// How many calls may be under way.
    most: usize,
    _call: PhantomData<fn(A) -> R>,
}

impl<I, A, R> Source<I, A, R>
where
    I: Iterator,
    I::Item: IntoArg<A>,
{
    /// Starts the next call. Its result is wanted here.
    fn start(&mut self, permit: Permit) -> Option<Result<Future<R>>> {
        let Some(item) = self.items.as_mut()?.next() else {
            self.items = None;
            return None;
        };
        let call = Delayed::from_node(Node::call(self.function, smallvec![item.into_arg()], None));
        let started = self.client.submit_one(&call, permit);
        match &started {
            Ok(future) => {
                let output = future.output();
                output.submission.want_here([output.index]);
            }
            Err(_) => self.items = None,
        }
        Some(started)
    }

    fn wants_more(&self, under_way: usize) -> bool {
        self.items.is_some() && under_way < self.most
    }
}

/// Results in the order of the items, see [`Client::map_ahead`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct MapAhead<I, A, R> {
    source: Source<I, A, R>,
    under_way: VecDeque<Result<Future<R>>>,
}

/// Results in the order in which they are there, see [`MapAhead::as_completed`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct CompletedAhead<I, A, R> {
    source: Source<I, A, R>,
    under_way: FxHashMap<usize, Future<R>>,
    arrivals: Arc<CompletionQueue>,
    /// How many calls have been started.
    started: usize,
    /// Why no more calls can be.
    refused: Option<Error>,
}

impl Client {
    /// Calls `function` with each item of an iterator, at most `n` of them at a time, and gives the results in the order of the
    /// items. Items are read when there is room for their calls, so the iterator may be endless, or larger than memory.
    ///
    /// A call that fails gives its error in its place; the others follow. Where a call cannot be submitted, that error is the last
    /// result. When the iterator is dropped, what is under way is cancelled. In sync mode each call runs when its result is
    /// asked for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `n` = 0.
    ///
    /// ```
    /// use swath::Client;
    /// let client = Client::threads(2);
    /// let mut squares = client.map_ahead(|x: u64| x * x, 0.., 4)?;
    /// assert_eq!(squares.next().transpose()?, Some(0));
    /// assert_eq!(squares.take(3).collect::<Result<Vec<_>, _>>()?, [1, 4, 9]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn map_ahead<F, A, R, I>(&self, function: F, items: I, n: usize) -> Result<MapAhead<I::IntoIter, A, R>>
    where
        F: TaskFunction<(A,), R> + Fn(A) -> R,
        A: Data,
        R: Data,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        let _ = function;
        self.ahead(F::RECORD, items.into_iter(), n)
    }

    /// [`map_ahead`](Self::map_ahead) of a function that may fail.
    ///
    /// # Errors
    /// As [`map_ahead`](Self::map_ahead).
    pub fn try_map_ahead<F, A, T, E, I>(&self, function: F, items: I, n: usize) -> Result<MapAhead<I::IntoIter, A, T>>
    where
        F: TryTaskFunction<(A,), T, E> + Fn(A) -> Result<T, E>,
        A: Data,
        T: Data,
        E: IntoError,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        let _ = function;
        self.ahead(F::RECORD, items.into_iter(), n)
    }

    fn ahead<I, A, R>(&self, function: &'static Record, items: I, n: usize) -> Result<MapAhead<I, A, R>> {
        if n == 0 {
            return Err(Error::invalid("n of map_ahead", "0; at least one call is under way at a time"));
        }
        let most = if self.mode() == Mode::Sync { 1 } else { n };
        let source = Source { client: self.clone(), function, items: Some(items), most, _call: PhantomData };
        Ok(MapAhead { source, under_way: VecDeque::new() })
    }
}

impl<I, A, R> MapAhead<I, A, R>
where
    I: Iterator,
    I::Item: IntoArg<A>,
    R: Data,
{
    /// The results in the order in which they are there, each with the number of its item, from 0. A slow call holds up no
    /// others.
    ///
    /// ```
    /// use swath::Client;
    /// let client = Client::threads(2);
    /// for (place, half) in client.try_map_ahead(|s: String| s.parse::<u8>(), ["7", "x"], 2)?.as_completed() {
    ///     assert_eq!(half.is_ok(), place == 0);
    /// }
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn as_completed(self) -> CompletedAhead<I, A, R> {
        let Self { source, under_way } = self;
        let (under_way_now, arrivals) = (FxHashMap::default(), Arc::default());
        let mut completed = CompletedAhead { source, under_way: under_way_now, arrivals, started: 0, refused: None };
        under_way.into_iter().for_each(|started| completed.add(started));
        completed
    }

    /// [`next`](Iterator::next) for async code, under any runtime. Dropping the future loses nothing.
    pub async fn next_async(&mut self) -> Option<Result<R>> {
        while self.source.wants_more(self.under_way.len()) {
            let permit = self.source.client.permit_async().await;
            self.under_way.extend(self.source.start(permit));
        }
        // It stays in the queue while it is waited for: this future may be dropped.
        if let Some(Ok(future)) = self.under_way.front() {
            let _ = future.await;
        }
        Some(self.under_way.pop_front()?.and_then(|future| future.result()))
    }
}

impl<I, A, R> Iterator for MapAhead<I, A, R>
where
    I: Iterator,
    I::Item: IntoArg<A>,
    R: Data,
{
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        while self.source.wants_more(self.under_way.len()) {
            let permit = self.source.client.permit();
            self.under_way.extend(self.source.start(permit));
        }
        Some(self.under_way.pop_front()?.and_then(|future| future.result()))
    }
}

impl<I, A, R> CompletedAhead<I, A, R>
where
    I: Iterator,
    I::Item: IntoArg<A>,
    R: Data,
{
    fn add(&mut self, started: Result<Future<R>>) {
        match started {
            Ok(future) => {
                let (output, place) = (future.output().clone(), self.started);
                self.under_way.insert(place, future);
                self.started += 1;
                let mut places = ListPositions::default();
                places.push(output.index, 1, place);
                output.submission.tell_each(places, &self.arrivals);
            }
            Err(error) => self.refused = Some(error),
        }
    }

    /// For a task that is not wanted any more: one that is not done, whose result says so at once.
    fn any_left(&self) -> Option<usize> {
        if is_in_vain() { self.under_way.keys().next().copied() } else { None }
    }

    /// The result at a place, which is there.
    fn hand_out(&mut self, place: usize) -> Option<(usize, Result<R>)> {
        self.under_way.remove(&place).map(|future| (place, future.result()))
    }

    fn last(&mut self) -> Option<(usize, Result<R>)> {
        self.refused.take().map(|error| (self.started, Err(error)))
    }

    /// [`next`](Iterator::next) for async code, under any runtime. Dropping the future loses nothing.
    pub async fn next_async(&mut self) -> Option<(usize, Result<R>)> {
        while self.source.wants_more(self.under_way.len()) {
            let permit = self.source.client.permit_async().await;
            let started = self.source.start(permit);
            started.into_iter().for_each(|started| self.add(started));
        }
        if self.under_way.is_empty() {
            return self.last();
        }
        let place = poll_waiting(|cx| self.arrivals.poll(cx.waker())).await.ok().or_else(|| self.any_left())?;
        self.hand_out(place)
    }
}

impl<I, A, R> Iterator for CompletedAhead<I, A, R>
where
    I: Iterator,
    I::Item: IntoArg<A>,
    R: Data,
{
    type Item = (usize, Result<R>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.source.wants_more(self.under_way.len()) {
            let permit = self.source.client.permit();
            let started = self.source.start(permit);
            started.into_iter().for_each(|started| self.add(started));
        }
        if self.under_way.is_empty() {
            return self.last();
        }
        let place = self.arrivals.pop(None).or_else(|| self.any_left())?;
        self.hand_out(place)
    }
}

impl<I, A, R> fmt::Debug for MapAhead<I, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MapAhead({}, {} under way)", self.source.function.path(), self.under_way.len())
    }
}

impl<I, A, R> fmt::Debug for CompletedAhead<I, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompletedAhead({}, {} under way)", self.source.function.path(), self.under_way.len())
    }
}
