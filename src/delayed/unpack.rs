//! Several results of one call: each part of a tuple or list as a value of its own.
//!
//! A call of [`Unpack`] takes the value apart, and each part is a node that stands for one of its results. In worker
//! processes the call that makes the value and the one that takes it apart are one task, so that the whole is never kept.

use super::Delayed;
use crate::graph::node::{Arg, Node};
use crate::graph::options::Options;
use crate::task::codec::CodecOf;
use crate::task::function::{Args, CallError, Record};
use crate::task::parts::Parts;
use crate::task::{Data, Value};
use smallvec::{SmallVec, smallvec};
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};

/// Taking a value apart depends on nothing else.
static PURE: LazyLock<Arc<Options>> = LazyLock::new(|| Arc::new(Options { pure: true, ..Options::default() }));

/// Carries the record of the function that takes a `T` apart.
struct Unpack<T>(PhantomData<fn(T)>);

fn name() -> &'static str {
    "unpack"
}

/// The call that takes a value apart.
fn maker(record: &'static Record, args: SmallVec<[Arg; 2]>) -> Arc<Node> {
    Arc::new(Node::call(record, args, Some(Arc::clone(&PURE))))
}

fn part<T>(maker: &Arc<Node>, place: usize) -> Delayed<T> {
    Delayed::from_node(Node::part(maker, place as u32))
}

impl<T: Data> Unpack<Vec<T>> {
    const RECORD: &'static Record =
        &Record::new::<Self>(name, Self::run, CodecOf::<Vec<T>>::CODEC).with_parts(|_| CodecOf::<T>::CODEC);

    fn run(args: &mut Args<'_, '_>) -> Result<Value, CallError> {
        let list = args.share::<Vec<T>>(0)?;
        let (expected, exactly) = args.take::<(u64, bool)>(1)?;
        let found = list.len() as u64;
        if found < expected || (exactly && found > expected) {
            return Err(CallError::WrongLength { expected, found });
        }
        Ok(match Arc::try_unwrap(list) {
            Ok(list) => {
                let mut items: Vec<Option<T>> = list.into_iter().map(Some).collect();
                Parts::value(move |place| items.get_mut(place as usize)?.take().map(|item| Value::new(item)))
            }
            Err(list) => Parts::value(move |place| Some(Value::new(list.get(place as usize)?.clone()))),
        })
    }

    /// `exactly`: it has no more items than these.
    fn of(list: &Delayed<Vec<T>>, items: usize, exactly: bool) -> Arc<Node> {
        let length = Arg::Value(Value::new((items as u64, exactly)), CodecOf::<(u64, bool)>::CODEC);
        maker(Self::RECORD, smallvec![Arg::Task(Arc::clone(list.node())), length])
    }
}

impl<T: Data> Delayed<Vec<T>> {
    /// The first `N` items as values of their own: for a function with several results of one type. See
    /// [`unpack_list`](Self::unpack_list), of which it differs in that the list may be longer.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let halves = delayed(|v: Vec<i64>| vec![v[..2].to_vec(), v[2..].to_vec()]).call(vec![1, 2, 3, 4]);
    /// let [low, high] = halves.unpack();
    /// let sum = |v: Vec<i64>| v.iter().sum::<i64>();
    /// assert_eq!(Client::sync().compute((&low.map(sum), &high.map(sum)))?, (3, 7));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn unpack<const N: usize>(&self) -> [Delayed<T>; N] {
        let maker = Unpack::of(self, N, false);
        std::array::from_fn(|place| part(&maker, place))
    }

    /// The `n` items of the list as values of their own: for a function with several results of one type, whose number is
    /// known when the graph is built.
    ///
    /// The call that makes the list is one task with `n` results. Each of them is placed, kept, moved to disk and dropped by
    /// itself; what nobody asks for is dropped as soon as the task ends. Where nobody else has the list, nothing is copied;
    /// otherwise each item that is asked for is. An item that is a view of something larger, as a slice of a
    /// [`Buffer`](crate::Buffer) is, keeps all of that in memory; one that was copied
    /// ([`Buffer::from_slice`](crate::Buffer::from_slice)) has memory of its own.
    ///
    /// A result that is lost with its worker is made again by a run of the whole call, which keeps only what is missing.
    ///
    /// Takes about a microsecond, and half of one for each item.
    ///
    /// # Errors
    /// Where the list has another number of items: all of them fail with
    /// [`Cause::WrongLength`](crate::Cause::WrongLength).
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// fn by_digit(numbers: Vec<u64>) -> Vec<Vec<u64>> {
    ///     (0..10).map(|digit| numbers.iter().copied().filter(|n| n % 10 == digit).collect()).collect()
    /// }
    ///
    /// let digits = delayed(by_digit).call((0..95).collect::<Vec<u64>>()).unpack_list(10);
    /// let counts: Vec<_> = digits.iter().map(|numbers| numbers.map(|n: Vec<u64>| n.len())).collect();
    /// assert_eq!(Client::threads(2).compute(&counts)?, [10, 10, 10, 10, 10, 9, 9, 9, 9, 9]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    #[must_use]
    pub fn unpack_list(&self, n: usize) -> Vec<Delayed<T>> {
        let maker = Unpack::of(self, n, true);
        (0..n).map(|place| part(&maker, place)).collect()
    }
}

macro_rules! unpack {
    ($($part:ident $place:tt),*) => {
        impl<$($part: Data),*> Unpack<($($part,)*)> {
            const RECORD: &'static Record = &Record::new::<Self>(name, Self::run, CodecOf::<($($part,)*)>::CODEC)
                .with_parts(|place| match place {
                    $($place => CodecOf::<$part>::CODEC,)*
                    _ => CodecOf::<($($part,)*)>::CODEC,
                });

            fn run(args: &mut Args<'_, '_>) -> Result<Value, CallError> {
                let tuple = args.share::<($($part,)*)>(0)?;
                Ok(match Arc::try_unwrap(tuple) {
                    Ok(tuple) => {
                        let mut parts = ($(Some(tuple.$place),)*);
                        Parts::value(move |place| match place {
                            $($place => parts.$place.take().map(|part| Value::new(part)),)*
                            _ => None,
                        })
                    }
                    Err(tuple) => Parts::value(move |place| match place {
                        $($place => Some(Value::new(tuple.$place.clone())),)*
                        _ => None,
                    }),
                })
            }
        }

        impl<$($part: Data),*> Delayed<($($part,)*)> {
            /// The parts of the tuple as values of their own: for a function with several results.
            ///
            /// The call that makes the tuple is one task with several results, see
            /// [`unpack_list`](Delayed::unpack_list): each is kept and dropped by itself, and what nobody asks for is
            /// dropped at once. Where nobody else has the tuple, nothing is copied.
            ///
            /// ```
            /// # use swath::{Client, delayed};
            /// let (quotient, rest) = delayed(|a: i64, b: i64| (a / b, a % b)).call(17, 5).unpack();
            /// assert_eq!((quotient * 5 + rest).compute(&Client::sync())?, 17);
            /// # Ok::<(), swath::Error>(())
            /// ```
            pub fn unpack(&self) -> ($(Delayed<$part>,)*) {
                let args = smallvec![Arg::Task(Arc::clone(self.node()))];
                let maker = maker(Unpack::<($($part,)*)>::RECORD, args);
                ($(part::<$part>(&maker, $place),)*)
            }
        }
    };
}

unpack!(A 0, B 1);
unpack!(A 0, B 1, C 2);
unpack!(A 0, B 1, C 2, D 3);
unpack!(A 0, B 1, C 2, D 3, E 4);
unpack!(A 0, B 1, C 2, D 3, E 4, F 5);
unpack!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
unpack!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
