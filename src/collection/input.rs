//! What the functions of a layer take, and where it comes from.

use super::chunk_id::{ChunkId, Places};
use super::chunks::Chunks;
use super::elements::Elements;
use super::rule::Source;
use crate::delayed::{Delayed, IntoArg};
use crate::task::Data;
use crate::task::function::{Args, CallError};
use smallvec::{SmallVec, smallvec};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// One parameter of a layer's function, filled for each chunk: what [`Layer::over`](super::Layer::over) takes, up to eight
/// of them.
///
/// | made by | the function takes | it is |
/// |---|---|---|
/// | [`chunk`](Input::chunk), [`chunk_at`](Input::chunk_at) | `Arc<C>` | a chunk as a whole |
/// | [`elements`](Input::elements), [`elements_at`](Input::elements_at), [`elements_of`](Input::elements_of), [`elements_each`](Input::elements_each) | [`Elements<T>`] | the elements of a chunk that is a list, one by one |
/// | [`shared`](Input::shared) | `Arc<X>` | an argument that is the same for all |
/// | [`each`](Input::each) | `Arc<X>` | an argument of its own |
/// | [`all`](Input::all), [`lists`](Input::lists) | `Arc<Vec<C>>` | several chunks |
/// | [`place`](Input::place) | [`ChunkId`] | the place of the chunk |
/// | [`shuffled`](Input::shuffled) | [`Shuffled<T>`](super::Shuffled) | what a shuffle brings here |
pub struct Input<P> {
    pub(super) source: Source,
    /// What the chunks that it comes from are called.
    pub(super) places: Places,
    _parameter: PhantomData<fn() -> P>,
}

impl<P> Input<P> {
    pub(super) fn new(source: Source, places: Places) -> Self {
        Self { source, places, _parameter: PhantomData }
    }
}

impl<P> Clone for Input<P> {
    fn clone(&self) -> Self {
        Self::new(self.source.clone(), self.places.clone())
    }
}

impl<P> fmt::Debug for Input<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({:?})", self.source)
    }
}

impl<T: Data> Input<Elements<T>> {
    /// The elements of each chunk, one after the other. A layer that makes such chunks becomes a part of the task that reads
    /// them, if nobody else does.
    #[must_use]
    pub fn elements(chunks: &Chunks<Vec<T>>) -> Self {
        Self::new(Source::chunks(chunks, None, true), chunks.places.clone())
    }

    /// For each chunk of the layer the elements of the chunk with that number.
    pub fn elements_at(chunks: &Chunks<Vec<T>>, numbers: impl IntoIterator<Item = usize>) -> Self {
        Self::new(Source::chunks(chunks, Some(numbers.into_iter().collect()), true), Places::default())
    }

    /// The elements of a list of its own for each chunk: a value or a lazy one. Their number is that of the layer's chunks.
    pub fn elements_each(lists: impl IntoIterator<Item: IntoArg<Vec<T>>>) -> Self {
        Self::new(Source::Each(lists.into_iter().map(IntoArg::into_arg).collect()), Places::default())
    }

    /// The elements of one lazy list.
    #[must_use]
    pub fn elements_of(list: &Delayed<Vec<T>>) -> Self {
        Self::new(Source::elements_of(list), Places::default())
    }
}

impl<C: Data> Input<Arc<C>> {
    /// Each chunk as a whole. Where nobody else needs it, the function may take it out of the `Arc`
    /// ([`Arc::unwrap_or_clone`]) without a copy.
    #[must_use]
    pub fn chunk(chunks: &Chunks<C>) -> Self {
        Self::new(Source::chunks(chunks, None, false), chunks.places.clone())
    }

    /// For each chunk of the layer the chunk with that number: how operands of other shapes are read.
    pub fn chunk_at(chunks: &Chunks<C>, numbers: impl IntoIterator<Item = usize>) -> Self {
        Self::new(Source::chunks(chunks, Some(numbers.into_iter().collect()), false), Places::default())
    }

    /// An argument that is the same for all: a value or a lazy one.
    pub fn shared(argument: impl IntoArg<C>) -> Self {
        Self::new(Source::Same(argument.into_arg()), Places::default())
    }

    /// An argument for each chunk. Their number is that of the layer's chunks.
    pub fn each(arguments: impl IntoIterator<Item: IntoArg<C>>) -> Self {
        let arguments = arguments.into_iter().map(IntoArg::into_arg).collect();
        Self::new(Source::Each(arguments), Places::default())
    }
}

impl<C: Data> Input<Arc<Vec<C>>> {
    /// All chunks, for each chunk of the layer.
    #[must_use]
    pub fn all(chunks: &Chunks<C>) -> Self {
        let source = match chunks.check() {
            Ok(()) => Source::Same((&*chunks.tasks()).into_arg()),
            Err(error) => Source::Failed(error),
        };
        Self::new(source, Places::default())
    }

    /// Several chunks for each chunk of the layer, by their numbers.
    ///
    /// # Panics
    /// Where there is no chunk of that number.
    pub fn lists(chunks: &Chunks<C>, lists: impl IntoIterator<Item: IntoIterator<Item = usize>>) -> Self {
        if let Err(error) = chunks.check() {
            return Self::new(Source::Failed(error), Places::default());
        }
        let tasks = chunks.tasks();
        let list = |numbers: Vec<Delayed<C>>| numbers.into_arg();
        let lists = lists.into_iter().map(|numbers| list(numbers.into_iter().map(|i| tasks[i].clone()).collect()));
        Self::new(Source::Each(lists.collect()), Places::default())
    }
}

impl Input<ChunkId> {
    /// The place of the chunk.
    #[must_use]
    pub fn place() -> Self {
        // The place comes with every task; this stands for it among the arguments.
        Self::new(Source::Same(IntoArg::<()>::into_arg(())), Places::default())
    }
}

/// A type of parameter that functions of layers have: [`Elements`], `Arc<C>`, [`ChunkId`], [`Shuffled`](super::Shuffled).
pub trait LayerInput: Sized + Send + 'static {
    /// Whether it is the elements of a chunk.
    #[doc(hidden)]
    const IS_STREAM: bool;

    /// Takes it out of a task's arguments.
    #[doc(hidden)]
    fn take(args: &mut Args<'_, '_>, i: usize, chunk: &ChunkId) -> Result<Self, Refused>;
}

/// Why a task's argument cannot be taken.
#[doc(hidden)]
#[derive(Debug)]
pub struct Refused(pub(super) CallError);

impl From<CallError> for Refused {
    fn from(error: CallError) -> Self {
        Self(error)
    }
}

impl<T: Data> LayerInput for Elements<T> {
    const IS_STREAM: bool = true;

    fn take(args: &mut Args<'_, '_>, i: usize, _: &ChunkId) -> Result<Self, Refused> {
        match args.passed(i) {
            Some(elements) => Ok(elements),
            None => Ok(args.share(i).map(Self::of)?),
        }
    }
}

impl<C: Data> LayerInput for Arc<C> {
    const IS_STREAM: bool = false;

    fn take(args: &mut Args<'_, '_>, i: usize, _: &ChunkId) -> Result<Self, Refused> {
        Ok(args.share(i)?)
    }
}

impl LayerInput for ChunkId {
    const IS_STREAM: bool = false;

    fn take(_: &mut Args<'_, '_>, _: usize, chunk: &ChunkId) -> Result<Self, Refused> {
        Ok(chunk.clone())
    }
}

/// All parameters of a layer's function, as a tuple.
pub trait Parameters: Sized + Send + 'static {
    #[doc(hidden)]
    const COUNT: usize;
    #[doc(hidden)]
    const IS_STREAM: bool;

    #[doc(hidden)]
    fn take(args: &mut Args<'_, '_>, chunk: &ChunkId) -> Result<Self, Refused>;
}

/// Inputs for all parameters of a layer's function, as a tuple of [`Input`]s.
pub trait Inputs {
    /// What the function takes.
    type Parameters: Parameters;

    #[doc(hidden)]
    fn sources(self) -> (SmallVec<[Source; 2]>, Places);
}

/// A function of a layer: an `fn` item, or a closure that captures nothing but such functions. So it has no size.
#[diagnostic::on_unimplemented(
    message = "this cannot be the function of a layer",
    note = "it takes what the layer's inputs give: `Arc<C>`, `Elements<T>`, `ChunkId`; a closure needs types: `|x: Arc<Vec<f64>>| x.len()`"
)]
pub trait LayerFn<P, R>: Copy + Send + 'static {
    #[doc(hidden)]
    fn call(self, parameters: P) -> R;
}

macro_rules! parameters {
    ($($p:ident $i:tt),*) => {
        impl<$($p: LayerInput),*> Parameters for ($($p,)*) {
            const COUNT: usize = [$($i),*].len();
            const IS_STREAM: bool = $($p::IS_STREAM)||*;

            fn take(args: &mut Args<'_, '_>, chunk: &ChunkId) -> Result<Self, Refused> {
                Ok(($($p::take(args, $i, chunk)?,)*))
            }
        }

        impl<$($p: LayerInput),*> Inputs for ($(Input<$p>,)*) {
            type Parameters = ($($p,)*);

            fn sources(self) -> (SmallVec<[Source; 2]>, Places) {
                let all = [$(&self.$i.places),*];
                let places = all.into_iter().find(|places| **places != Places::default()).cloned();
                (smallvec![$(self.$i.source),*], places.unwrap_or_default())
            }
        }

        impl<Func, R, $($p: LayerInput),*> LayerFn<($($p,)*), R> for Func
        where
            Func: Fn($($p),*) -> R + Copy + Send + 'static,
        {
            #[inline]
            fn call(self, parameters: ($($p,)*)) -> R {
                self($(parameters.$i),*)
            }
        }
    };
}

parameters!(A 0);
parameters!(A 0, B 1);
parameters!(A 0, B 1, C 2);
parameters!(A 0, B 1, C 2, D 3);
parameters!(A 0, B 1, C 2, D 3, E 4);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
parameters!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
