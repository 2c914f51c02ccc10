//! Lazy calls: wrap a function, call it with values or other lazy calls, compute when everything is described.
//!
//! [`delayed`](fn@crate::delayed) is where to begin; the traits here say which functions it wraps and what its calls take.

pub(crate) mod arg;
mod ops;
mod unpack;
mod view;

pub use crate::task::function::{TaskFunction, TryTaskFunction};
pub use crate::task::returned::{IntoError, KeepError};
pub use arg::{IntoArg, value};

use crate::error::Result;
use crate::graph::node::{Arg, Node};
use crate::graph::options::Options;
use crate::task::Data;
use crate::task::function::Record;
use smallvec::SmallVec;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Wraps a function so that calling it describes work instead of doing it.
///
/// The function is any `fn` item or closure that captures nothing, with up to eight arguments; it may run in another
/// process. Its call takes, for each argument of type `T`, a `T`, a [`Delayed<T>`] or a [`Future<T>`](crate::Future), and for
/// lists, tuples, options and maps also one with delayed values inside.
///
/// ```
/// use swath::{Client, delayed};
///
/// fn inc(x: i64) -> i64 {
///     x + 1
/// }
/// fn add(x: i64, y: i64) -> i64 {
///     x + y
/// }
///
/// let x = delayed(inc).call(10);
/// let y = delayed(add).call(&x, 5);
/// let total = (&x + &y) * 2;
/// assert_eq!(total.compute(&Client::sync())?, 54);
/// # Ok::<(), swath::Error>(())
/// ```
pub fn delayed<F, S>(function: F) -> DelayedFn<F, S>
where
    F: Signature<S>,
{
    let _ = function;
    DelayedFn { options: None, _function: PhantomData }
}

/// Wraps a function that returns `Result<T, E>`: the lazy call is a `Delayed<T>`, and an `Err` fails the task.
///
/// `E` is any error that becomes a `Box<dyn Error + Send + Sync>`: those of `std` and of other crates, boxed ones,
/// `anyhow::Error`, swath's own, a `String`. Its text and those of its sources, its type's name and what its `{:?}` prints
/// come back with the task's error, see [`ReturnedError`](crate::ReturnedError); with [`keep_error`](DelayedFn::keep_error) also
/// the error itself. Where a `Result` is meant as an ordinary value, [`delayed`](fn@crate::delayed) makes a `Delayed<Result<T, E>>`.
///
/// ```
/// use swath::{Client, try_delayed};
///
/// fn half(x: i64) -> Result<i64, String> {
///     if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) }
/// }
///
/// let client = Client::sync();
/// assert_eq!(try_delayed(half).call(10).compute(&client)?, 5);
/// let error = try_delayed(half).call(5).compute(&client).unwrap_err();
/// assert!(error.to_string().ends_with("failed: 5 is odd"));
/// # Ok::<(), swath::Error>(())
/// ```
pub fn try_delayed<F, S>(function: F) -> DelayedFn<F, Fallible<S>>
where
    F: TrySignature<S>,
{
    let _ = function;
    DelayedFn { options: None, _function: PhantomData }
}

/// A wrapped function, see [`delayed`](fn@crate::delayed). Options given here hold for each call made with it.
#[must_use = "it describes calls: nothing runs until one is computed"]
pub struct DelayedFn<F, S> {
    options: Option<Arc<Options>>,
    _function: PhantomData<(F, fn() -> S)>,
}

/// The old name of [`DelayedFn`].
#[deprecated(since = "0.1.0", note = "it is called `DelayedFn` now")]
pub type Lazy<F, S> = DelayedFn<F, S>;

/// Marks the signature of a function that may fail.
#[derive(Debug)]
pub struct Fallible<S>(PhantomData<S>);

impl<F, S> Clone for DelayedFn<F, S> {
    fn clone(&self) -> Self {
        Self { options: self.options.clone(), _function: PhantomData }
    }
}

impl<F, S> fmt::Debug for DelayedFn<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delayed({})", std::any::type_name::<F>())
    }
}

impl<F, S> DelayedFn<F, S> {
    fn with(mut self, set: impl FnOnce(&mut Options)) -> Self {
        set(Arc::make_mut(self.options.get_or_insert_with(Arc::default)));
        self
    }

    /// Names the tasks; the name stands before the hash in their keys. Default: the function's name.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with(|o| o.name = Some(name.into()))
    }

    /// Says that the function depends on nothing but its arguments and has no effect but its result.
    ///
    /// Equal calls with the same options then have equal keys, run once in a graph, and use a result that the client still
    /// holds; what failed or was cancelled answers none of them. Arguments are encoded when the call is described, and
    /// compared by that: what a type does not serialise (`#[serde(skip)]`) does not count.
    pub fn pure(self) -> Self {
        self.with(|o| o.pure = true)
    }

    /// Runs before ready tasks of lower priority. Default 0.
    pub fn priority(self, priority: i32) -> Self {
        self.with(|o| o.priority = priority)
    }

    /// Repeats a failed run up to so many times before the task counts as failed. Default 0.
    pub fn retries(self, retries: u32) -> Self {
        self.with(|o| o.retries = retries)
    }

    /// Fails the task when one attempt takes longer, in whole milliseconds, rounded up, one at least. An attempt that took longer never
    /// gives a result, in any mode.
    ///
    /// The function is asked to stop (see [`cancelled`](crate::cancelled)). Where the task runs elsewhere, the caller is told
    /// within some milliseconds of the limit, whatever the function does:
    /// - In processes mode a worker whose function does not stop is replaced
    ///   ([`cancel_grace`](crate::Builder::cancel_grace)).
    /// - In threads mode nothing can stop a function: it goes on aside, beside the pool, until it returns, and what it
    ///   returns is dropped. Another thread takes its place, also for the next attempt. Functions that never return
    ///   keep a thread each.
    /// - In sync mode the limit is looked at when the function returns.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|o| o.set_timeout(timeout))
    }

    /// Bytes the function is expected to need while it runs: only so many tasks share a worker as fit its limit. A task
    /// without inputs is taken to leave as much, until results of its function have been seen.
    pub fn memory(self, bytes: u64) -> Self {
        self.with(|o| o.memory = Some(bytes))
    }

    /// Runs only on the worker of that name (`worker-0`, …). Has no meaning in threads and sync mode: it is ignored there with a
    /// warning in the log, and refused by a [strict](crate::Builder::strict) client.
    pub fn on_worker(self, name: impl Into<String>) -> Self {
        self.with(|o| o.worker = Some(name.into()))
    }

    /// Runs only on workers that carry the tag, see [`Builder::worker_tags`](crate::Builder::worker_tags). Has no
    /// meaning in threads and sync mode, as [`on_worker`](Self::on_worker).
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.with(|o| o.tag = Some(tag.into()))
    }

    /// Takes so much of a resource of its worker while it runs: of graphics cards, licences, connections to a service, or
    /// whatever else there is so much of. Names and amounts are yours ([`Builder::worker_resources`](crate::Builder::worker_resources),
    /// [`threads_resources`](crate::Builder::threads_resources)); they are counted, in millionths, and not looked at otherwise.
    ///
    /// A task runs only where so much is left of each resource that it names. In contrast to a [tag](Self::tag), which any
    /// number of tasks may ask for, the sum of what tasks take that run is never more than there is, but for two cases below, in
    /// which tasks wait for tasks of their own. A task that was cancelled keeps what it took until it has ended. 0 is the same
    /// as to name none.
    ///
    /// A task that waits for tasks of its own keeps what it took, too, so that nobody else takes it. As it does not run, these,
    /// and theirs, may use it meanwhile, together no more than it has, and what else is left; while it runs they may not.
    /// What is left may have been taken by other tasks that wait in the same way, each for what the others have. As
    /// none of those runs, or would ever again, one of the tasks that are waited for is let in beside them, and when it has
    /// ended, or waits itself, the next. So the result is that of sync mode, in which tasks run one by one. Nobody is let in
    /// while one of those that have the resource waits for a lock, an event or an item, or with a time limit: that may come, and
    /// what never comes is waited for as long. Where a waiting task uses a resource all the same (memory of a graphics card that
    /// it has filled), have it ask for as much as it and its tasks need together.
    ///
    /// What a task has lent in this way it cannot take back from what runs. A task that goes on before its own have ended,
    /// since its time limit is over ([`result_timeout`](crate::Future::result_timeout)) or the lock, event or item that it
    /// waited for is there, runs beside those of them that still use it: for as long, both do.
    ///
    /// An amount below 0 or not a number, and more than any worker has, is [`Error::Invalid`](crate::Error::Invalid) when it
    /// is submitted, in every mode, also in a task.
    ///
    /// ```
    /// use swath::status::Mode;
    /// use swath::{Client, delayed};
    /// // Three threads, of which two at a time talk to the service.
    /// let client = Client::builder().mode(Mode::Threads).threads(3).threads_resources([("service", 2.0)]).build()?;
    /// let ask = delayed(|x: u64| x + 1).resource("service", 1.0);
    /// assert_eq!(client.compute(&ask.map(0..4_u64))?, [1, 2, 3, 4]);
    ///
    /// let greedy = delayed(|x: u64| x).resource("service", 3.0).call(1);
    /// let error = client.compute(&greedy).unwrap_err().to_string();
    /// assert!(error.ends_with("3 of `service` are asked for, and no worker has more than 2"), "{error}");
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn resource(self, name: impl Into<String>, amount: f64) -> Self {
        self.with(|o| o.set_resource(name.into(), amount))
    }

    fn build<R>(&self, function: &'static Record, args: SmallVec<[Arg; 2]>) -> Delayed<R> {
        Delayed::from_node(Node::call(function, args, self.options.clone()))
    }
}

/// Says that `Self` is a task function with signature `S`, written as a function pointer type.
///
/// Sealed: only swath implements it, for all such functions.
#[diagnostic::on_unimplemented(
    message = "this cannot be a task function",
    note = "a task function takes up to eight owned arguments; arguments and result are `Clone + Send + Sync + 'static` with serde's `Serialize` and `Deserialize`",
    note = "a closure needs types: `delayed(|x: i64| x + 1)`"
)]
pub trait Signature<S> {
    /// Only swath implements this.
    #[doc(hidden)]
    const SEAL: Seal;
}

/// Says that `Self` is a task function with signature `S` that returns a `Result`.
///
/// Sealed: only swath implements it, for all such functions.
#[diagnostic::on_unimplemented(
    message = "this cannot be a task function that returns a `Result`",
    note = "a task function takes up to eight owned arguments; arguments and value are `Clone + Send + Sync + 'static` with serde's `Serialize` and `Deserialize`; the error implements `std::error::Error`, or is a text"
)]
pub trait TrySignature<S> {
    /// Only swath implements this.
    #[doc(hidden)]
    const SEAL: Seal;
}

/// Has no name for others, so that they cannot implement what mentions it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Seal(());

macro_rules! calls {
    ($($arg:ident $name:ident),*) => {
        impl<F, R, $($arg),*> Signature<fn($($arg),*) -> R> for F
        where
            F: Fn($($arg),*) -> R + Copy + 'static
        {
            const SEAL: Seal = Seal(());
        }

        impl<F, T, E, $($arg),*> TrySignature<fn($($arg),*) -> Result<T, E>> for F
        where
            F: Fn($($arg),*) -> Result<T, E> + Copy + 'static
        {
            const SEAL: Seal = Seal(());
        }

        impl<F, R, $($arg),*> DelayedFn<F, fn($($arg),*) -> R> {
            /// Describes a call of the function.
            #[allow(clippy::too_many_arguments, reason = "as many as the function has")]
            pub fn call(&self, $($name: impl IntoArg<$arg>),*) -> Delayed<R>
            where
                R: Data,
                $($arg: Data,)*
                F: TaskFunction<($($arg,)*), R>,
            {
                self.build(F::RECORD, smallvec::smallvec![$($name.into_arg()),*])
            }
        }

        impl<F, T, E, $($arg),*> DelayedFn<F, Fallible<fn($($arg),*) -> Result<T, E>>> {
            /// Describes a call of the function.
            #[allow(clippy::too_many_arguments, reason = "as many as the function has")]
            pub fn call(&self, $($name: impl IntoArg<$arg>),*) -> Delayed<T>
            where
                T: Data,
                E: IntoError,
                $($arg: Data,)*
                F: TryTaskFunction<($($arg,)*), T, E>,
            {
                self.build(F::RECORD, smallvec::smallvec![$($name.into_arg()),*])
            }
        }

        impl<F, T, E, $($arg),*> DelayedFn<F, Fallible<KeepError<fn($($arg),*) -> Result<T, E>>>> {
            /// Describes a call of the function.
            #[allow(clippy::too_many_arguments, reason = "as many as the function has")]
            pub fn call(&self, $($name: impl IntoArg<$arg>),*) -> Delayed<T>
            where
                T: Data,
                E: Data + Error,
                $($arg: Data,)*
                F: TryTaskFunction<($($arg,)*), T, E>,
            {
                self.build(F::keeping(), smallvec::smallvec![$($name.into_arg()),*])
            }
        }
    };
}

calls!();
calls!(A0 a);
calls!(A0 a, A1 b);
calls!(A0 a, A1 b, A2 c);
calls!(A0 a, A1 b, A2 c, A3 d);
calls!(A0 a, A1 b, A2 c, A3 d, A4 e);
calls!(A0 a, A1 b, A2 c, A3 d, A4 e, A5 f);
calls!(A0 a, A1 b, A2 c, A3 d, A4 e, A5 f, A6 g);
calls!(A0 a, A1 b, A2 c, A3 d, A4 e, A5 f, A6 g, A7 h);

impl<F, A, R> DelayedFn<F, fn(A) -> R> {
    /// Describes one call for each item.
    pub fn map<I>(&self, items: I) -> Vec<Delayed<R>>
    where
        A: Data,
        R: Data,
        F: TaskFunction<(A,), R>,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        items.into_iter().map(|item| self.call(item)).collect()
    }
}

impl<F, A, T, E> DelayedFn<F, Fallible<fn(A) -> Result<T, E>>> {
    /// Describes one call for each item.
    pub fn map<I>(&self, items: I) -> Vec<Delayed<T>>
    where
        A: Data,
        T: Data,
        E: IntoError,
        F: TryTaskFunction<(A,), T, E>,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        items.into_iter().map(|item| self.call(item)).collect()
    }
}

impl<F, A, T, E> DelayedFn<F, Fallible<KeepError<fn(A) -> Result<T, E>>>> {
    /// Describes one call for each item.
    pub fn map<I>(&self, items: I) -> Vec<Delayed<T>>
    where
        A: Data,
        T: Data,
        E: Data + Error,
        F: TryTaskFunction<(A,), T, E>,
        I: IntoIterator,
        I::Item: IntoArg<A>,
    {
        items.into_iter().map(|item| self.call(item)).collect()
    }
}

impl<F, S> DelayedFn<F, Fallible<S>> {
    /// Keeps the error of the function as a value: [`TaskError::downcast`](crate::TaskError::downcast) gives it, in every
    /// mode. For errors with serde's `Serialize` and `Deserialize`; a `String` needs it not.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use swath::{Client, try_delayed};
    ///
    /// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
    /// #[error("{0} is odd")]
    /// struct Odd(i64);
    ///
    /// fn half(x: i64) -> Result<i64, Odd> {
    ///     if x % 2 == 0 { Ok(x / 2) } else { Err(Odd(x)) }
    /// }
    ///
    /// let error = try_delayed(half).keep_error().call(5).compute(&Client::sync()).unwrap_err();
    /// assert_eq!(error.task().unwrap().downcast::<Odd>(), Some(Odd(5)));
    /// ```
    pub fn keep_error(self) -> DelayedFn<F, Fallible<KeepError<S>>> {
        DelayedFn { options: self.options, _function: PhantomData }
    }
}

/// A value that will be a `T` once it is computed: a lazy call, or the handle of a result that a client holds.
///
/// Cheap to clone; clones are the same task.
#[must_use = "it is lazy, and what a client holds for it is released when it is dropped"]
pub struct Delayed<T> {
    node: Arc<Node>,
    _value: PhantomData<fn() -> T>,
}

impl<T> Clone for Delayed<T> {
    fn clone(&self) -> Self {
        Self { node: Arc::clone(&self.node), _value: PhantomData }
    }
}

impl<T> fmt::Debug for Delayed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delayed({})", self.key())
    }
}

impl<T> Delayed<T> {
    pub(crate) fn from_node(node: Node) -> Self {
        Self::from_arc(Arc::new(node))
    }

    pub(crate) fn from_arc(node: Arc<Node>) -> Self {
        Self { node, _value: PhantomData }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The task's key, for example `inc-3f2a90c1e3f2d1b8`: its name, and a hash that differs from task to task (and is
    /// equal for equal calls of [pure](DelayedFn::pure) functions).
    #[must_use]
    pub fn key(&self) -> String {
        self.node.key()
    }

    /// The graph that computes this value, as a picture in Graphviz's `dot` language.
    ///
    /// ```
    /// # use swath::delayed;
    /// let x = delayed(|x: i64| x + 1).call(1);
    /// assert!((&x * &x).to_dot().starts_with("digraph"));
    /// ```
    #[must_use]
    pub fn to_dot(&self) -> String {
        crate::graph::picture::dot(&[&self.node])
    }
}

impl<T: Data> Delayed<T> {
    /// Describes a call of `function` with this value.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let words = delayed(|s: String| s.split(' ').count()).call("three small words");
    /// assert_eq!(words.map(|n: usize| n * 2).compute(&Client::sync())?, 6);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn map<F, R>(&self, function: F) -> Delayed<R>
    where
        F: TaskFunction<(T,), R>,
    {
        let _ = function;
        Delayed::from_node(Node::call(F::RECORD, smallvec::smallvec![Arg::Task(Arc::clone(&self.node))], None))
    }

    /// Describes a call of `function`, which may fail, with this value.
    pub fn try_map<F, R, E>(&self, function: F) -> Delayed<R>
    where
        F: TryTaskFunction<(T,), R, E>,
    {
        let _ = function;
        Delayed::from_node(Node::call(F::RECORD, smallvec::smallvec![Arg::Task(Arc::clone(&self.node))], None))
    }
}
