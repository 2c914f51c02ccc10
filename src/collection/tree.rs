//! From the values of all chunks to one, some at a time.

use super::chunks::{Chunks, never};
use super::layer::combine;
use crate::delayed::Delayed;
use crate::task::Data;

impl<R: Data> Chunks<R> {
    /// Puts the values together, at most [`split_every`](Self::split_every) in one task, until there is one. The function is
    /// called at least once where there are several values, in their order, and must be associative; it is called with an
    /// empty list where there is none. The tasks are named after it.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use swath::Client;
    /// use swath::collection::{Input, Layer};
    /// let squares = Layer::over((Input::each(0..100_u64),)).chunks(|x: Arc<u64>| *x * *x);
    /// let sum = squares.tree(|some: Vec<u64>| some.iter().sum());
    /// assert_eq!(sum.compute(&Client::sync())?, 328_350);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn tree<G>(&self, function: G) -> Delayed<R>
    where
        G: Fn(Vec<R>) -> R + Copy + Send + 'static,
    {
        self.tree_named_after::<G, G>(function)
    }

    /// [`tree`](Self::tree), whose tasks are named after the function `N`.
    pub fn tree_named_after<N, G>(&self, function: G) -> Delayed<R>
    where
        N: 'static,
        G: Fn(Vec<R>) -> R + Copy + Send + 'static,
    {
        if let Err(error) = self.check() {
            return never(error.to_string());
        }
        let mut values = self.tasks().into_owned();
        while values.len() > 1 {
            let some = values.chunks(self.most_at_once());
            values = some.map(|some| combine::<N, G, R, R>(function, some)).collect();
        }
        values.pop().unwrap_or_else(|| combine::<N, G, R, R>(function, &[]))
    }

    /// [`tree`](Self::tree) whose last task makes something else of the values that are left, also of a single one or of
    /// none. The tasks are named after the function `N`.
    pub fn tree_then<N, S, G, L>(&self, function: G, last: L) -> Delayed<S>
    where
        N: 'static,
        S: Data,
        G: Fn(Vec<R>) -> R + Copy + Send + 'static,
        L: Fn(Vec<R>) -> S + Copy + Send + 'static,
    {
        if let Err(error) = self.check() {
            return never(error.to_string());
        }
        let mut values = self.tasks().into_owned();
        while values.len() > self.most_at_once() {
            let some = values.chunks(self.most_at_once());
            values = some.map(|some| combine::<N, G, R, R>(function, some)).collect();
        }
        combine::<N, L, R, S>(last, &values)
    }
}
