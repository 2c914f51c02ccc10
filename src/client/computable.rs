//! What can be computed in one go.

use super::lowering::Lowering;
use crate::client::{Client, Future};
use crate::delayed::Delayed;
use crate::error::{Result, TaskError};
use crate::graph::node::{Arg, Node};
use crate::graph::options::Options;
use crate::submission::handle::{LocalValue, ResultHandle, Submission};
use crate::task::codec::CodecOf;
use crate::task::function::Record;
use crate::task::{Data, Value};
use smallvec::smallvec;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// The results of the tasks that a [`Computable`] named, in the same order.
pub struct Results<'a> {
    pub(super) next: Box<dyn FnMut() -> (std::result::Result<LocalValue, TaskError>, ResultRef<'a>) + 'a>,
    /// How many belong to each collection.
    pub(super) counts: std::vec::IntoIter<usize>,
}

/// Handles of the results of the tasks that a [`Computable`] named, in the same order.
pub struct Handles<'a> {
    next: &'a mut dyn Iterator<Item = Successor>,
    /// How many belong to each collection.
    counts: std::vec::IntoIter<usize>,
}

/// What takes the place of a task.
pub(crate) enum Successor {
    Task(Arc<Node>),
    /// A task that passes on the value of the first when the second has run.
    Behind(Arc<Node>, Arc<Node>),
}

impl Successor {
    /// The result of a task that has been submitted.
    pub(super) fn held(output: &ResultHandle) -> Self {
        Self::Task(Arc::new(Node::held(output.held())))
    }

    fn typed<T: Data>(self) -> Delayed<T> {
        match self {
            Self::Task(node) => Delayed::from_arc(node),
            Self::Behind(value, other) => {
                let pure = Options { pure: true, ..Options::default() };
                let args = smallvec![Arg::Task(value), Arg::Task(other)];
                Delayed::from_node(Node::call(PassOn::<T>::RECORD, args, Some(Arc::new(pure))))
            }
        }
    }
}

/// Carries the record of the function that gives the first of its arguments.
struct PassOn<T>(PhantomData<T>);

impl<T: Data> PassOn<T> {
    const RECORD: &'static Record =
        &Record::new::<Self>(|| "wait_on", |args| Ok(Value::from(args.share::<T>(0)?)), CodecOf::<T>::CODEC);
}

/// An output of a submission.
pub(super) struct ResultRef<'a> {
    pub(super) submission: &'a Submission,
    pub(super) index: u32,
}

impl Results<'_> {
    fn typed<T: Data>(&mut self) -> Result<T> {
        let (here, from) = (self.next)();
        here?.into_typed(from.submission, from.index)
    }

    /// The results of the next collection.
    #[doc(hidden)]
    pub fn chunks<T: Data>(&mut self) -> Result<Vec<T>> {
        let count = self.counts.next().unwrap_or_default();
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            chunks.push(self.typed()?);
        }
        Ok(chunks)
    }
}

impl<'a> Handles<'a> {
    /// `counts`: how many belong to each collection.
    pub(crate) fn of(next: &'a mut dyn Iterator<Item = Successor>, counts: Vec<usize>) -> Self {
        Self { next, counts: counts.into_iter() }
    }

    fn handle<T: Data>(&mut self, or: &Arc<Node>) -> Delayed<T> {
        self.next.next().map_or_else(|| Delayed::from_arc(Arc::clone(or)), Successor::typed)
    }

    /// Handles of the results of the next collection.
    #[doc(hidden)]
    pub fn chunks<T: Data>(&mut self) -> Vec<Delayed<T>> {
        let count = self.counts.next().unwrap_or_default();
        self.next.take(count).map(Successor::typed).collect()
    }
}

impl fmt::Debug for Results<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Results(..)")
    }
}

impl fmt::Debug for Handles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handles(..)")
    }
}

/// Lazy values that [`Client::compute`](crate::Client::compute) and [`Client::persist`](crate::Client::persist) take:
/// a reference to a [`Delayed`] or [`Future`], a slice or `Vec` of them, collections, and tuples of all these.
///
/// Not to be implemented by hand, since what it consists of may change: swath implements it, and the macro of
/// [`collection`](crate::collection) does for a collection of your own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be computed",
    note = "pass a reference to a `Delayed`, a list of them, or a tuple: `client.compute((&a, &b))`"
)]
pub trait Computable {
    /// What computing gives.
    type Output;
    /// What persisting gives.
    type Persisted;

    /// Names the tasks it stands for.
    #[doc(hidden)]
    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()>;

    /// Puts the results together.
    #[doc(hidden)]
    fn output(&self, results: &mut Results<'_>) -> Result<Self::Output>;

    /// Puts handles of the results together.
    #[doc(hidden)]
    fn persisted(&self, handles: &mut Handles<'_>) -> Self::Persisted;
}

macro_rules! handles {
    ($($handle:ident),*) => {$(
        impl<T: Data> Computable for $handle<T> {
            type Output = T;
            type Persisted = Delayed<T>;

            fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
                lowering.node(self.node());
                Ok(())
            }

            fn output(&self, results: &mut Results<'_>) -> Result<T> {
                results.typed()
            }

            fn persisted(&self, handles: &mut Handles<'_>) -> Delayed<T> {
                handles.handle(self.node())
            }
        }
    )*};
}

handles!(Delayed, Future);

impl<C: Computable + ?Sized> Computable for &C {
    type Output = C::Output;
    type Persisted = C::Persisted;

    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        (**self).lower(lowering)
    }

    fn output(&self, results: &mut Results<'_>) -> Result<Self::Output> {
        (**self).output(results)
    }

    fn persisted(&self, handles: &mut Handles<'_>) -> Self::Persisted {
        (**self).persisted(handles)
    }
}

impl<C: Computable> Computable for [C] {
    type Output = Vec<C::Output>;
    type Persisted = Vec<C::Persisted>;

    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        self.iter().try_for_each(|c| c.lower(lowering))
    }

    fn output(&self, results: &mut Results<'_>) -> Result<Self::Output> {
        self.iter().map(|c| c.output(results)).collect()
    }

    fn persisted(&self, handles: &mut Handles<'_>) -> Self::Persisted {
        self.iter().map(|c| c.persisted(handles)).collect()
    }
}

impl<C: Computable> Computable for Vec<C> {
    type Output = Vec<C::Output>;
    type Persisted = Vec<C::Persisted>;

    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        self.as_slice().lower(lowering)
    }

    fn output(&self, results: &mut Results<'_>) -> Result<Self::Output> {
        self.as_slice().output(results)
    }

    fn persisted(&self, handles: &mut Handles<'_>) -> Self::Persisted {
        self.as_slice().persisted(handles)
    }
}

impl<C: Computable, const N: usize> Computable for [C; N] {
    type Output = Vec<C::Output>;
    type Persisted = Vec<C::Persisted>;

    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        self.as_slice().lower(lowering)
    }

    fn output(&self, results: &mut Results<'_>) -> Result<Self::Output> {
        self.as_slice().output(results)
    }

    fn persisted(&self, handles: &mut Handles<'_>) -> Self::Persisted {
        self.as_slice().persisted(handles)
    }
}

macro_rules! tuples {
    ($($c:ident $i:tt),*) => {
        impl<$($c: Computable),*> Computable for ($($c,)*) {
            type Output = ($($c::Output,)*);
            type Persisted = ($($c::Persisted,)*);

            fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
                $(self.$i.lower(lowering)?;)*
                Ok(())
            }

            fn output(&self, results: &mut Results<'_>) -> Result<Self::Output> {
                Ok(($(self.$i.output(results)?,)*))
            }

            fn persisted(&self, handles: &mut Handles<'_>) -> Self::Persisted {
                ($(self.$i.persisted(handles),)*)
            }
        }
    };
}

tuples!(A 0);
tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, D 3);
tuples!(A 0, B 1, C 2, D 3, E 4);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

impl<T: Data> Delayed<T> {
    /// Computes the value with a client: [`Client::compute`] of this one.
    ///
    /// # Errors
    /// The error of the task that failed, or that of the client.
    pub fn compute(&self, client: &Client) -> Result<T> {
        client.compute(self)
    }

    /// [`compute`](Self::compute) for async code, under any runtime.
    ///
    /// # Errors
    /// As [`compute`](Self::compute).
    pub async fn compute_async(&self, client: &Client) -> Result<T> {
        client.compute_async(self).await
    }

    /// Starts computing, and keeps the result with the client's workers: [`Client::persist`] of this one.
    ///
    /// # Errors
    /// Where the graph cannot be submitted; a task that fails shows when the result is used.
    pub fn persist(&self, client: &Client) -> Result<Delayed<T>> {
        client.persist(self)
    }

    /// [`persist`](Self::persist) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`persist`](Self::persist).
    pub async fn persist_async(&self, client: &Client) -> Result<Delayed<T>> {
        client.persist_async(self).await
    }

    /// Starts computing: [`Client::submit`] of this one.
    ///
    /// # Errors
    /// Where the graph cannot be submitted.
    pub fn submit(&self, client: &Client) -> Result<Future<T>> {
        client.submit(self)
    }

    /// [`submit`](Self::submit) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_async(&self, client: &Client) -> Result<Future<T>> {
        client.submit_async(self).await
    }
}
