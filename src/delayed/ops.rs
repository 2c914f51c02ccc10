//! Operators, indexing and taking apart.

use super::{Delayed, IntoArg, delayed, view};
use crate::task::Data;
use std::iter::{Product, Sum};
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Rem, Shl, Shr, Sub};
use std::sync::Arc;

macro_rules! binary {
    ($($trait:ident $method:ident),*) => {$(
        mod $method {
            use super::*;

            /// The operator as a task function, named after itself.
            fn $method<A: $trait<B>, B>(a: A, b: B) -> A::Output {
                a.$method(b)
            }

            pub(super) fn lazily<A, B>(a: impl IntoArg<A>, b: impl IntoArg<B>) -> Delayed<A::Output>
            where
                A: Data + $trait<B, Output: Data>,
                B: Data,
            {
                delayed($method::<A, B>).call(a, b)
            }
        }

        impl<A: Data + $trait<B, Output: Data>, B: Data> $trait<Delayed<B>> for Delayed<A> {
            type Output = Delayed<A::Output>;
            fn $method(self, other: Delayed<B>) -> Self::Output {
                $method::lazily::<A, B>(self, other)
            }
        }

        impl<A: Data + $trait<B, Output: Data>, B: Data> $trait<&Delayed<B>> for Delayed<A> {
            type Output = Delayed<A::Output>;
            fn $method(self, other: &Delayed<B>) -> Self::Output {
                $method::lazily::<A, B>(self, other)
            }
        }

        impl<A: Data + $trait<B, Output: Data>, B: Data> $trait<Delayed<B>> for &Delayed<A> {
            type Output = Delayed<A::Output>;
            fn $method(self, other: Delayed<B>) -> Self::Output {
                $method::lazily::<A, B>(self, other)
            }
        }

        impl<A: Data + $trait<B, Output: Data>, B: Data> $trait<&Delayed<B>> for &Delayed<A> {
            type Output = Delayed<A::Output>;
            fn $method(self, other: &Delayed<B>) -> Self::Output {
                $method::lazily::<A, B>(self, other)
            }
        }

        scalars!($trait $method: i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64 bool);
    )*};
}

macro_rules! scalars {
    ($trait:ident $method:ident: $($scalar:ident)*) => {$(
        impl<A: Data + $trait<$scalar, Output: Data>> $trait<$scalar> for Delayed<A> {
            type Output = Delayed<A::Output>;
            fn $method(self, other: $scalar) -> Self::Output {
                $method::lazily::<A, $scalar>(self, other)
            }
        }

        impl<A: Data + $trait<$scalar, Output: Data>> $trait<$scalar> for &Delayed<A> {
            type Output = Delayed<A::Output>;
            fn $method(self, other: $scalar) -> Self::Output {
                $method::lazily::<A, $scalar>(self, other)
            }
        }
    )*};
}

binary!(
    Add add, Sub sub, Mul mul, Div div, Rem rem, BitAnd bitand, BitOr bitor, BitXor bitxor, Shl shl, Shr shr
);

/// Operators with a number on the left. They are for delayed values of the same type only: with any other, Rust would look
/// through all of these for the type of an operand it does not know yet, in arithmetic that has nothing to do with
/// delayed values.
macro_rules! scalars_first {
    ($($trait:ident $method:ident),*: $scalars:tt) => {$( scalars_first!(@ $trait $method $scalars); )*};
    (@ $trait:ident $method:ident [$($scalar:ident)*]) => {$(
        impl $trait<Delayed<$scalar>> for $scalar {
            type Output = Delayed<$scalar>;
            fn $method(self, other: Delayed<$scalar>) -> Self::Output {
                $method::lazily::<$scalar, $scalar>(self, other)
            }
        }

        impl $trait<&Delayed<$scalar>> for $scalar {
            type Output = Delayed<$scalar>;
            fn $method(self, other: &Delayed<$scalar>) -> Self::Output {
                $method::lazily::<$scalar, $scalar>(self, other)
            }
        }
    )*};
}

scalars_first!(
    Add add, Sub sub, Mul mul, Div div, Rem rem: [i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64]
);
scalars_first!(
    BitAnd bitand, BitOr bitor, BitXor bitxor: [i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize bool]
);
scalars_first!(Shl shl, Shr shr: [i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize]);

macro_rules! unary {
    ($($trait:ident $method:ident),*) => {$(
        impl<A: Data + $trait<Output: Data>> $trait for Delayed<A> {
            type Output = Delayed<A::Output>;
            fn $method(self) -> Self::Output {
                (&self).$method()
            }
        }

        impl<A: Data + $trait<Output: Data>> $trait for &Delayed<A> {
            type Output = Delayed<A::Output>;
            fn $method(self) -> Self::Output {
                fn $method<A: $trait>(a: A) -> A::Output {
                    a.$method()
                }
                delayed($method::<A>).call(self)
            }
        }
    )*};
}

unary!(Neg neg, Not not);

impl<T: Data + Sum> Sum<Delayed<T>> for Delayed<T> {
    fn sum<I: Iterator<Item = Delayed<T>>>(items: I) -> Self {
        fn sum<T: Sum>(items: Vec<T>) -> T {
            items.into_iter().sum()
        }
        delayed(sum::<T>).call(items.collect::<Vec<_>>())
    }
}

impl<'a, T: Data + Sum> Sum<&'a Delayed<T>> for Delayed<T> {
    fn sum<I: Iterator<Item = &'a Delayed<T>>>(items: I) -> Self {
        items.cloned().sum()
    }
}

impl<T: Data + Product> Product<Delayed<T>> for Delayed<T> {
    fn product<I: Iterator<Item = Delayed<T>>>(items: I) -> Self {
        fn product<T: Product>(items: Vec<T>) -> T {
            items.into_iter().product()
        }
        delayed(product::<T>).call(items.collect::<Vec<_>>())
    }
}

impl<T: Data> Delayed<T> {
    /// Whether the two values are equal, lazily.
    pub fn equals(&self, other: impl IntoArg<T>) -> Delayed<bool>
    where
        T: PartialEq,
    {
        fn equals<T: PartialEq>(a: T, b: T) -> bool {
            a == b
        }
        delayed(equals::<T>).call(self, other)
    }

    /// Whether this value is less than the other, lazily.
    pub fn less_than(&self, other: impl IntoArg<T>) -> Delayed<bool>
    where
        T: PartialOrd,
    {
        fn less_than<T: PartialOrd>(a: T, b: T) -> bool {
            a < b
        }
        delayed(less_than::<T>).call(self, other)
    }

    /// The larger of the two values, lazily.
    pub fn max(&self, other: impl IntoArg<T>) -> Delayed<T>
    where
        T: Ord,
    {
        delayed(std::cmp::max::<T>).call(self, other)
    }

    /// The smaller of the two values, lazily.
    pub fn min(&self, other: impl IntoArg<T>) -> Delayed<T>
    where
        T: Ord,
    {
        delayed(std::cmp::min::<T>).call(self, other)
    }
}

impl<T: Data> Delayed<Vec<T>> {
    /// The item at a place, lazily. A place past the end fails the task. Copies that item, and no others.
    pub fn at(&self, place: impl IntoArg<usize>) -> Delayed<T> {
        fn at<T: Clone>(items: Arc<Vec<T>>, place: usize) -> T {
            items[place].clone()
        }
        view::at(at::<T>, self, place)
    }

    /// The number of items, lazily.
    pub fn len(&self) -> Delayed<usize> {
        fn len<T>(items: Arc<Vec<T>>) -> usize {
            items.len()
        }
        view::of(len::<T>, self)
    }

    /// Whether there is no item, lazily.
    pub fn is_empty(&self) -> Delayed<bool> {
        fn is_empty<T>(items: Arc<Vec<T>>) -> bool {
            items.is_empty()
        }
        view::of(is_empty::<T>, self)
    }
}
