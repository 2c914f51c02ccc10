//! How the layers of a graph are built: one task for each partition, of functions that read partitions as iterators.

use super::elements::{Elements, Take};
use super::pass;
use crate::delayed::{Delayed, IntoArg};
use crate::graph::node::{Arg, Node};
use crate::graph::options::Options;
use crate::task::Data;
use crate::task::codec::CodecOf;
use crate::task::function::{Args, CallError, Passing, Record, conjure};
use std::any::type_name;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};

/// A function that is part of a bag: an `fn` item or a closure that captures nothing but such functions.
///
/// So it has no size, and a closure of ours that captures a function of the user's is one, too.
pub(crate) trait Stage<A, B, R>: Fn(A, B) -> R + Copy + Send + 'static {}

impl<A, B, R, F: Fn(A, B) -> R + Copy + Send + 'static> Stage<A, B, R> for F {}

/// The records of a function that makes elements. `N` names the task: its type's name is that of the user's function.
struct Streaming<N, F, A, B, I>(PhantomData<(N, F, A, B, I)>);

impl<N, F, A, B, I> Streaming<N, F, A, B, I>
where
    F: Stage<A, B, I>,
    A: Take,
    B: Take,
    I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
{
    /// Inside another task: gives the elements as an iterator.
    const STREAM: &'static Record = &Record::new::<(F, A, B, I)>(
        type_name::<N>,
        |args| Ok(Passing::value(Self::elements(args)?)),
        // The value never leaves its task.
        CodecOf::<()>::CODEC,
    );

    /// As a task of its own: collects the elements.
    const RECORD: &'static Record = &Record::new::<(F, A, B, I)>(
        type_name::<N>,
        |args| {
            let (partition, elements) = (args.take(2)?, Self::elements(args)?);
            Ok(Arc::new(pass::run(partition, || list(elements))?))
        },
        CodecOf::<Vec<I::Item>>::CODEC,
    )
    .with_stream(Self::STREAM);

    fn elements(args: &mut Args<'_, '_>) -> Result<Elements<I::Item>, CallError> {
        let (function, a, b) = (conjure::<F>(), A::take(args, 0)?, B::take(args, 1)?);
        Ok(if A::IS_STREAM {
            Elements::stage(move || function(a, b))
        } else {
            Elements::source(move || function(a, b))
        })
    }
}

/// The elements as a list; faster than `collect`, which takes one at a time.
fn list<T: 'static>(elements: Elements<T>) -> Vec<T> {
    let mut list = Vec::with_capacity(elements.size_hint().0);
    elements.for_each(|e| list.push(e));
    list
}

/// The record of a function that makes one value of a partition.
struct Reducing<N, F, A, B, R>(PhantomData<(N, F, A, B, R)>);

impl<N, F, A, B, R> Reducing<N, F, A, B, R>
where
    F: Stage<A, B, R>,
    A: Take,
    B: Take,
    R: Data,
{
    const VALUE: Record = Record::new::<(F, A, B, R)>(
        type_name::<N>,
        |args| {
            let (partition, a, b) = (args.take(2)?, A::take(args, 0)?, B::take(args, 1)?);
            Ok(Arc::new(pass::run(partition, || conjure::<F>()(a, b))?))
        },
        CodecOf::<R>::CODEC,
    );
    const RECORD: &'static Record = &Self::VALUE;
    const BOUND: &'static Record = &Self::VALUE.bound();
}

/// The record of a function that puts values together.
struct Aggregating<N, G, R, S>(PhantomData<(N, G, R, S)>);

impl<N, G, R: Data, S: Data> Aggregating<N, G, R, S>
where
    G: Fn(Vec<R>) -> S + Copy + 'static,
{
    const RECORD: &'static Record = &Record::new::<(G, R, S)>(
        type_name::<N>,
        |args| Ok(Arc::new(conjure::<G>()(args.take(0)?))),
        CodecOf::<S>::CODEC,
    );
}

/// Tasks of collections are pure: what is described twice is one task.
static PURE: LazyLock<Arc<Options>> = LazyLock::new(|| Arc::new(Options { pure: true, ..Options::default() }));

fn task<R>(record: &'static Record, partition: usize, a: Arg, b: Arg) -> Delayed<R> {
    let partition = Arg::Value(Arc::new(partition as u64), CodecOf::<u64>::CODEC);
    Delayed::from_node(Node::call(record, smallvec::smallvec![a, b, partition], Some(Arc::clone(&PURE))))
}

/// A task that makes partition number `partition`, named after `N`.
pub(crate) fn partition<N, F, A, B, I>(_: F, partition: usize, a: Arg, b: Arg) -> Delayed<Vec<I::Item>>
where
    F: Stage<A, B, I>,
    A: Take,
    B: Take,
    I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
{
    task(Streaming::<N, F, A, B, I>::RECORD, partition, a, b)
}

/// [`partition`], named after the function itself.
pub(crate) fn named<F, A, B, I>(stage: F, i: usize, a: Arg, b: Arg) -> Delayed<Vec<I::Item>>
where
    F: Stage<A, B, I>,
    A: Take,
    B: Take,
    I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
{
    partition::<F, F, A, B, I>(stage, i, a, b)
}

/// A task that makes one value of partition number `partition`, named after `N`.
pub(crate) fn value<N, F, A, B, R>(_: F, partition: usize, a: Arg, b: Arg) -> Delayed<R>
where
    F: Stage<A, B, R>,
    A: Take,
    B: Take,
    R: Data,
{
    task(Reducing::<N, F, A, B, R>::RECORD, partition, a, b)
}

/// A task that makes one value of several, named after `N`.
pub(crate) fn aggregate<N, G, R, S>(_: G, values: &[Delayed<R>]) -> Delayed<S>
where
    G: Fn(Vec<R>) -> S + Copy + 'static,
    R: Data,
    S: Data,
{
    let values = smallvec::smallvec![IntoArg::<Vec<R>>::into_arg(values)];
    Delayed::from_node(Node::call(Aggregating::<N, G, R, S>::RECORD, values, Some(Arc::clone(&PURE))))
}

/// [`value`], of a result that is worth something only as long as the process lives that made it.
pub(crate) fn bound<N, F, A, B, R>(_: F, partition: usize, a: Arg, b: Arg) -> Delayed<R>
where
    F: Stage<A, B, R>,
    A: Take,
    B: Take,
    R: Data,
{
    task(Reducing::<N, F, A, B, R>::BOUND, partition, a, b)
}

/// The argument of a stage that has none.
pub(crate) fn nothing() -> Arg {
    Arg::Value(Arc::new(()), CodecOf::<()>::CODEC)
}

/// The elements of a partition as an argument.
pub(crate) fn stream<T>(partition: &Delayed<Vec<T>>) -> Arg {
    Arg::Elements(Arc::clone(partition.node()))
}
