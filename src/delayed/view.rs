//! Tasks that read a value where it is: of a large one, no more is copied than what they give.

use super::{Delayed, IntoArg};
use crate::graph::node::{Arg, Node};
use crate::task::codec::CodecOf;
use crate::task::function::{Record, conjure};
use crate::task::{Data, Value};
use smallvec::smallvec;
use std::any::type_name;
use std::marker::PhantomData;
use std::sync::Arc;

/// Carries the record of the function `F` of a shared `A`, and perhaps a `B`.
struct View<F, A, B, R>(PhantomData<fn(F, A, B) -> R>);

impl<F: Fn(Arc<A>) -> R + Copy + 'static, A: Data, R: Data> View<F, A, (), R> {
    const RECORD: &'static Record = &Record::new::<Self>(
        type_name::<F>,
        |args| Ok(Value::new(conjure::<F>()(args.share(0)?))),
        CodecOf::<R>::CODEC,
    );
}

impl<F: Fn(Arc<A>, usize) -> R + Copy + 'static, A: Data, R: Data> View<F, A, usize, R> {
    const RECORD: &'static Record = &Record::new::<Self>(
        type_name::<F>,
        |args| Ok(Value::new(conjure::<F>()(args.share(0)?, args.take(1)?))),
        CodecOf::<R>::CODEC,
    );
}

/// What a function gives of a value.
pub(super) fn of<F, A: Data, R: Data>(_: F, value: &Delayed<A>) -> Delayed<R>
where
    F: Fn(Arc<A>) -> R + Copy + 'static,
{
    let args = smallvec![Arg::Task(Arc::clone(value.node()))];
    Delayed::from_node(Node::call(View::<F, A, (), R>::RECORD, args, None))
}

/// What a function gives of a value and a place in it.
pub(super) fn at<F, A: Data, R: Data>(_: F, value: &Delayed<A>, place: impl IntoArg<usize>) -> Delayed<R>
where
    F: Fn(Arc<A>, usize) -> R + Copy + 'static,
{
    let args = smallvec![Arg::Task(Arc::clone(value.node())), place.into_arg()];
    Delayed::from_node(Node::call(View::<F, A, usize, R>::RECORD, args, None))
}
