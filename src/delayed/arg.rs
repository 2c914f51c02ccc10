//! What may be passed where a task takes a value of some type.

use super::Delayed;
use crate::graph::node::{Arg, Kind, Node};
use crate::task::codec::CodecOf;
use crate::task::function::{Args, CallError, Record};
use crate::task::{Data, Value};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

/// Can be passed where a task takes a `T`.
///
/// That is a `T` itself, a [`Delayed<T>`] or [`Future<T>`](crate::Future) (or a reference to one), a `&str` for a `String`, and a list,
/// array, tuple, option or map that holds delayed values or futures.
///
/// Sealed: only swath implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed where the task takes `{T}`",
    label = "not a `{T}`, a `Delayed<{T}>` or a `Future<{T}>`",
    note = "a task function owns its arguments: it takes a `String`, not a `&str`, and a `Vec<T>`, not a `&[T]`",
    note = "a list may hold delayed values; `swath::delayed::value(x)` makes a delayed value of `x`, so that a list can mix both"
)]
pub trait IntoArg<T> {
    /// Makes an argument of it.
    #[doc(hidden)]
    fn into_arg(self) -> Arg;

    /// The value, where it is one; else the argument.
    #[doc(hidden)]
    fn into_value(self) -> Result<T, Arg>
    where
        Self: Sized,
    {
        Err(self.into_arg())
    }
}

/// A delayed value that is already there: for lists that mix values and results of tasks.
///
/// ```
/// use swath::delayed::value;
/// use swath::{Client, delayed};
/// let x = delayed(|x: i64| x + 1).call(1);
/// let total = delayed(|v: Vec<i64>| v.iter().sum::<i64>()).call(vec![x, value(40)]);
/// assert_eq!(total.compute(&Client::sync())?, 42);
/// # Ok::<(), swath::Error>(())
/// ```
pub fn value<T: Data>(value: T) -> Delayed<T> {
    Delayed::from_node(Node::call(Given::<T>::RECORD, smallvec::smallvec![value.into_arg()], None))
}

/// Carries the function that is called for a value that is already there.
struct Given<T>(PhantomData<T>);

impl<T: Data> Given<T> {
    const RECORD: &'static Record =
        &Record::new::<Self>(|| "given", |args| Ok(Value::new(args.take::<T>(0)?)), CodecOf::<T>::CODEC).given();
}

/// As an argument, a value that is already there is no task: equal calls are equal, whichever way it is passed.
#[inline]
fn argument(node: &Node, task: impl FnOnce() -> Arg) -> Arg {
    match &node.kind {
        Kind::Call { function, args, options: None } if function.is_given() && !args.is_empty() => args[0].clone(),
        _ => task(),
    }
}

impl<T: Data> IntoArg<T> for T {
    fn into_arg(self) -> Arg {
        Arg::Value(Value::new(self), CodecOf::<T>::CODEC)
    }

    fn into_value(self) -> Result<T, Arg> {
        Ok(self)
    }
}

impl IntoArg<String> for &str {
    fn into_arg(self) -> Arg {
        self.to_string().into_arg()
    }

    fn into_value(self) -> Result<String, Arg> {
        Ok(self.to_string())
    }
}

impl<T: Data> IntoArg<T> for Delayed<T> {
    fn into_arg(self) -> Arg {
        argument(&self.node, || Arg::Task(Arc::clone(&self.node)))
    }
}

impl<T: Data> IntoArg<T> for &Delayed<T> {
    fn into_arg(self) -> Arg {
        argument(&self.node, || Arg::Task(Arc::clone(&self.node)))
    }
}

/// Carries the function that puts a container together.
pub(crate) struct Inline<C>(PhantomData<C>);

fn all<T: Data>(args: &mut Args<'_, '_>) -> Result<Vec<T>, CallError> {
    (0..args.len()).map(|i| args.take(i)).collect()
}

fn pairs<K: Data, V: Data, M: FromIterator<(K, V)>>(args: &mut Args<'_, '_>) -> Result<M, CallError> {
    (0..args.len() / 2).map(|i| Ok((args.take(2 * i)?, args.take(2 * i + 1)?))).collect()
}

impl<T: Data> Inline<Vec<T>> {
    pub(crate) const RECORD: &'static Record =
        &Record::new::<Self>(|| "list", |args| Ok(Value::new(all::<T>(args)?)), CodecOf::<Vec<T>>::CODEC);
}

impl<T: Data, const N: usize> Inline<[T; N]>
where
    [T; N]: Data,
{
    pub(crate) const RECORD: &'static Record = &Record::new::<Self>(
        || "array",
        |args| {
            let items: [T; N] = all::<T>(args)?.try_into().map_err(|items: Vec<T>| CallError::Decode {
                type_name: std::any::type_name::<[T; N]>().to_string(),
                reason: format!("{} items for an array of {N}", items.len()),
            })?;
            Ok(Value::new(items))
        },
        CodecOf::<[T; N]>::CODEC,
    );
}

impl<T: Data> Inline<Option<T>> {
    pub(crate) const RECORD: &'static Record = &Record::new::<Self>(
        || "option",
        |args| Ok(Value::new(if args.len() == 0 { None } else { Some(args.take::<T>(0)?) })),
        CodecOf::<Option<T>>::CODEC,
    );
}

impl<K: Data + Eq + Hash, V: Data> Inline<HashMap<K, V>> {
    pub(crate) const RECORD: &'static Record = &Record::new::<Self>(
        || "map",
        |args| Ok(Value::new(pairs::<K, V, HashMap<K, V>>(args)?)),
        CodecOf::<HashMap<K, V>>::CODEC,
    );
}

impl<K: Data + Ord, V: Data> Inline<BTreeMap<K, V>> {
    pub(crate) const RECORD: &'static Record = &Record::new::<Self>(
        || "map",
        |args| Ok(Value::new(pairs::<K, V, BTreeMap<K, V>>(args)?)),
        CodecOf::<BTreeMap<K, V>>::CODEC,
    );
}

pub(crate) fn list<T: Data, I: IntoArg<T>>(items: impl IntoIterator<Item = I>) -> Arg {
    Arg::Inline(Inline::<Vec<T>>::RECORD, items.into_iter().map(IntoArg::into_arg).collect())
}

/// What lists, options and maps of a handle are as arguments.
macro_rules! lists {
    ($($handle:ident),*) => {$(
        impl<T: Data> IntoArg<Vec<T>> for Vec<$handle<T>> {
            fn into_arg(self) -> Arg {
               $crate::delayed::arg::list::<T, _>(self)
            }
        }

        impl<T: Data> IntoArg<Vec<T>> for &Vec<$handle<T>> {
            fn into_arg(self) -> Arg {
               $crate::delayed::arg::list::<T, _>(self)
            }
        }

        impl<T: Data> IntoArg<Vec<T>> for &[$handle<T>] {
            fn into_arg(self) -> Arg {
               $crate::delayed::arg::list::<T, _>(self)
            }
        }

        impl<T: Data, const N: usize> IntoArg<Vec<T>> for [$handle<T>; N] {
            fn into_arg(self) -> Arg {
               $crate::delayed::arg::list::<T, _>(self)
            }
        }

        impl<T: Data, const N: usize> IntoArg<Vec<T>> for &[$handle<T>; N] {
            fn into_arg(self) -> Arg {
               $crate::delayed::arg::list::<T, _>(self)
            }
        }

        impl<T: Data, const N: usize> IntoArg<[T; N]> for [$handle<T>; N]
        where
            [T; N]: Data,
        {
            fn into_arg(self) -> Arg {
                let items = self.into_iter().map(IntoArg::<T>::into_arg).collect();
                Arg::Inline($crate::delayed::arg::Inline::<[T; N]>::RECORD, items)
            }
        }

        impl<T: Data> IntoArg<Vec<Vec<T>>> for Vec<Vec<$handle<T>>> {
            fn into_arg(self) -> Arg {
                let items = self.into_iter().map($crate::delayed::arg::list::<T, _>).collect();
                Arg::Inline($crate::delayed::arg::Inline::<Vec<Vec<T>>>::RECORD, items)
            }
        }

        impl<T: Data> IntoArg<Option<T>> for Option<$handle<T>> {
            fn into_arg(self) -> Arg {
                let items = self.into_iter().map(IntoArg::<T>::into_arg).collect();
                Arg::Inline($crate::delayed::arg::Inline::<Option<T>>::RECORD, items)
            }
        }

        impl<K: Data + Eq + std::hash::Hash, T: Data> IntoArg<std::collections::HashMap<K, T>> for std::collections::HashMap<K, $handle<T>> {
            fn into_arg(self) -> Arg {
                let items = self.into_iter().flat_map(|(k, v)| [k.into_arg(), v.into_arg()]).collect();
                Arg::Inline($crate::delayed::arg::Inline::<std::collections::HashMap<K, T>>::RECORD, items)
            }
        }

        impl<K: Data + Ord, T: Data> IntoArg<std::collections::BTreeMap<K, T>> for std::collections::BTreeMap<K, $handle<T>> {
            fn into_arg(self) -> Arg {
                let items = self.into_iter().flat_map(|(k, v)| [k.into_arg(), v.into_arg()]).collect();
                Arg::Inline($crate::delayed::arg::Inline::<std::collections::BTreeMap<K, T>>::RECORD, items)
            }
        }
    )*};
}

pub(crate) use lists;

lists!(Delayed);

macro_rules! tuple_record {
    ($($t:ident $i:tt),*) => {
        impl<$($t: Data),*> Inline<($($t,)*)> {
            pub(crate) const RECORD: &'static Record = &Record::new::<Self>(
                || "tuple",
                |args| Ok(Value::new(($(args.take::<$t>($i)?,)*))),
                CodecOf::<($($t,)*)>::CODEC,
            );
        }
    };
}

tuple_record!(A 0, B 1);
tuple_record!(A 0, B 1, C 2);
tuple_record!(A 0, B 1, C 2, D 3);

/// One combination of values and delayed values in a tuple.
macro_rules! tuple {
    ($($t:ident $i:tt $item:ty),*) => {
        impl<$($t: Data),*> IntoArg<($($t,)*)> for ($($item,)*) {
            fn into_arg(self) -> Arg {
                Arg::Inline(Inline::<($($t,)*)>::RECORD, vec![$(IntoArg::<$t>::into_arg(self.$i)),*])
            }
        }
    };
}

tuple!(A 0 Delayed<A>, B 1 Delayed<B>);
tuple!(A 0 Delayed<A>, B 1 B);
tuple!(A 0 A, B 1 Delayed<B>);
tuple!(A 0 Delayed<A>, B 1 Delayed<B>, C 2 Delayed<C>);
tuple!(A 0 Delayed<A>, B 1 Delayed<B>, C 2 C);
tuple!(A 0 Delayed<A>, B 1 B, C 2 Delayed<C>);
tuple!(A 0 A, B 1 Delayed<B>, C 2 Delayed<C>);
tuple!(A 0 Delayed<A>, B 1 B, C 2 C);
tuple!(A 0 A, B 1 Delayed<B>, C 2 C);
tuple!(A 0 A, B 1 B, C 2 Delayed<C>);
tuple!(A 0 Delayed<A>, B 1 Delayed<B>, C 2 Delayed<C>, D 3 Delayed<D>);

impl<T: Data> FromIterator<Delayed<T>> for Delayed<Vec<T>> {
    /// Collects delayed values into one delayed list.
    fn from_iter<I: IntoIterator<Item = Delayed<T>>>(items: I) -> Self {
        fn list<T>(items: Vec<T>) -> Vec<T> {
            items
        }
        super::delayed(list::<T>).call(items.into_iter().collect::<Vec<Delayed<T>>>())
    }
}
