//! Layers: one function over all chunks, a task for each.

use super::chunk_id::{ChunkId, Places};
use super::chunks::Chunks;
use super::elements::Elements;
use super::input::{Inputs, LayerFn, Parameters};
use super::pass;
use super::rule::{Rule, Source};
use crate::delayed::{Delayed, IntoArg};
use crate::error::Error;
use crate::graph::node::Node;
use crate::graph::options::Options;
use crate::task::codec::CodecOf;
use crate::task::function::{Args, CallError, Passing, Record, conjure, short_name};
use crate::task::returned::IntoError;
use crate::task::{Data, Value};
use smallvec::SmallVec;
use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};

/// The tasks of collections are pure: what is described twice is one task.
static PURE: LazyLock<Arc<Options>> = LazyLock::new(|| Arc::new(Options { pure: true, ..Options::default() }));

/// One function over all chunks: a task for each, named after the function.
///
/// [`over`](Self::over) takes the inputs, a method like [`chunks`](Self::chunks) takes the function and makes the chunks.
/// There are as many as there are chunks in the inputs. Inputs of different numbers of chunks give [`Chunks`] that carry the
/// error: nothing panics, and computing fails before any task runs.
///
/// The function is an `fn` item or a closure that captures nothing, and depends on nothing but its arguments: equal layers
/// over equal chunks run once.
///
/// ```
/// use std::sync::Arc;
/// use swath::Client;
/// use swath::collection::{Chunks, Input, Layer};
///
/// let a = Layer::over((Input::each([1.0, 2.0]),)).chunks(|x: Arc<f64>| vec![*x; 3]);
/// let b = Layer::over((Input::each([10.0, 20.0]),)).chunks(|x: Arc<f64>| vec![*x; 3]);
/// fn add(a: Arc<Vec<f64>>, b: Arc<Vec<f64>>, scale: Arc<f64>) -> Vec<f64> {
///     a.iter().zip(b.iter()).map(|(a, b)| (a + b) * *scale).collect()
/// }
/// let sum = Layer::over((Input::chunk(&a), Input::chunk(&b), Input::shared(2.0))).chunks(add);
/// let client = Client::sync();
/// assert_eq!(client.compute(&sum.to_delayed())?, [vec![22.0; 3], vec![44.0; 3]]);
///
/// let one = sum.select([0]);
/// let error = Layer::over((Input::chunk(&one), Input::chunk(&b), Input::shared(2.0))).chunks(add).check().unwrap_err();
/// assert_eq!(error.to_string(), "bad value for the inputs of `add`: they have 1 and 2 chunks");
/// # Ok::<(), swath::Error>(())
/// ```
///
/// A stage with several results gives tuples, which are taken apart chunk by chunk. Each part is placed, kept and dropped by
/// itself, see [`Delayed::unpack_list`](crate::Delayed::unpack_list):
///
/// ```
/// # use std::sync::Arc;
/// # use swath::Client;
/// # use swath::collection::{Chunks, Input, Layer};
/// let both = Layer::over((Input::each([1.5, 2.25]),)).chunks(|x: Arc<f64>| (x.trunc(), vec![x.fract(); 2]));
/// let (whole, rest): (Vec<_>, Vec<_>) = both.to_delayed().iter().map(|both| both.unpack()).unzip();
/// let (whole, rest) = (Chunks::from(whole), Chunks::from(rest));
/// let sum = |whole: Arc<f64>, rest: Arc<Vec<f64>>| *whole + rest[1];
/// let sums = Layer::over((Input::chunk(&whole), Input::chunk(&rest))).chunks(sum);
/// assert_eq!(Client::sync().compute(&sums.to_delayed())?, [1.5, 2.25]);
/// # Ok::<(), swath::Error>(())
/// ```
#[must_use = "it describes a layer, which has no tasks yet"]
pub struct Layer<P, N = Itself> {
    inputs: SmallVec<[Source; 2]>,
    places: Places,
    first: u64,
    len: Option<usize>,
    is_rule: bool,
    _types: PhantomData<fn() -> (P, N)>,
}

/// Names tasks after the function of their layer.
#[derive(Debug)]
pub struct Itself;

/// Names tasks after the function `M`.
#[derive(Debug)]
pub struct After<M>(PhantomData<fn() -> M>);

/// What the tasks of a layer with the function `F` are named after.
pub trait TaskName<F> {
    /// Its type's name is the name.
    #[doc(hidden)]
    type Of: 'static;
}

impl<F: 'static> TaskName<F> for Itself {
    type Of = F;
}

impl<F, M: 'static> TaskName<F> for After<M> {
    type Of = M;
}

impl<P, N> fmt::Debug for Layer<P, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

impl<P: Parameters> Layer<P> {
    /// A layer with a tuple of up to eight inputs, of which each is a parameter of the function.
    pub fn over<I: Inputs<Parameters = P>>(inputs: I) -> Self {
        let (inputs, places) = inputs.sources();
        Self { inputs, places, first: 0, len: None, is_rule: false, _types: PhantomData }
    }
}

impl<P: Parameters, N> Layer<P, N> {
    /// Names the tasks after another function than the layer's own: the user's, where the layer's is a closure around it.
    pub fn named_after<M: 'static>(self) -> Layer<P, After<M>> {
        let Self { inputs, places, first, len, is_rule, .. } = self;
        Layer { inputs, places, first, len, is_rule, _types: PhantomData }
    }

    /// So many chunks: for a layer whose inputs leave that open.
    pub fn times(self, chunks: usize) -> Self {
        Self { len: Some(chunks), ..self }
    }

    /// A single chunk, whose number is `number`.
    pub fn at(self, number: usize) -> Self {
        Self { first: number as u64, len: Some(1), ..self }
    }

    /// The chunks lie in a grid: errors name positions. So do layers that are made of these chunks, if they do not say
    /// otherwise.
    pub fn in_grid(self, shape: &[usize]) -> Self {
        Self { places: Places::grid(shape), ..self }
    }

    /// Errors speak of partitions, not of chunks. So do those of layers that are made of these chunks.
    pub fn in_partitions(self) -> Self {
        Self { places: Places::Partitions, ..self }
    }

    /// Holds the layer as a rule instead of its tasks: they are made each time something is computed, and gone when that is
    /// under way. A layer of a million chunks then takes no room, and describing it no time.
    pub fn as_rule(self) -> Self {
        Self { is_rule: true, ..self }
    }

    /// Each chunk is what the function gives. A panic of the function is told with the chunk's place.
    pub fn chunks<F, R>(self, function: F) -> Chunks<R>
    where
        F: LayerFn<P, R>,
        N: TaskName<F>,
        R: Data,
    {
        let _ = function;
        self.build(ChunkRecords::<N::Of, F, P, R>::RECORD)
    }

    /// [`chunks`](Self::chunks) of a function that may fail. The error's text names the chunk; for
    /// [`TaskError::downcast`](crate::TaskError::downcast) it is returned in a [`KeepError`](crate::KeepError).
    pub fn try_chunks<F, R, E>(self, function: F) -> Chunks<R>
    where
        F: LayerFn<P, Result<R, E>>,
        N: TaskName<F>,
        R: Data,
        E: IntoError,
    {
        let _ = function;
        self.build(TryChunkRecords::<N::Of, F, P, R, E>::RECORD)
    }

    /// [`chunks`](Self::chunks) that are worth something only as long as the process lives that made them. They stay with
    /// it, and are made again if it dies.
    pub fn bound_chunks<F, R>(self, function: F) -> Chunks<R>
    where
        F: LayerFn<P, R>,
        N: TaskName<F>,
        R: Data,
    {
        let _ = function;
        self.build(ChunkRecords::<N::Of, F, P, R>::BOUND)
    }

    /// Each chunk is the list of the elements that the function gives, as a list or an iterator.
    ///
    /// Where the only layer that uses such a chunk asks for its [`elements`](super::Input::elements), both are one task and
    /// one pass, and the list is never made.
    pub fn elements<F, I>(self, function: F) -> Chunks<Vec<I::Item>>
    where
        F: LayerFn<P, I>,
        N: TaskName<F>,
        I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
    {
        let _ = function;
        self.build(StreamRecords::<N::Of, F, P, I>::RECORD)
    }

    fn build<R>(self, function: &'static Record) -> Chunks<R> {
        let Self { inputs, places, first, len, is_rule, .. } = self;
        let len = match self::len(function, &inputs, len, &places) {
            Ok(len) => len,
            Err(error) => return Chunks::failed(error),
        };
        let options = Arc::clone(&PURE);
        let of = places.clone();
        let rule = Arc::new(Rule { function, inputs, places, first, len, options, tasks: Default::default() });
        if is_rule {
            return Chunks::of_rule(rule, of);
        }
        let tasks = rule.expand(&mut Vec::new());
        drop(rule);
        let tasks = Arc::unwrap_or_clone(tasks).into_iter().map(Delayed::from_arc);
        Chunks::from_iter(tasks).with_places(of)
    }
}

/// How many chunks a layer has.
fn len(function: &'static Record, inputs: &[Source], declared: Option<usize>, places: &Places) -> Result<usize, Error> {
    inputs.iter().try_for_each(Source::error)?;
    let of_inputs: SmallVec<[usize; 4]> = inputs.iter().filter_map(Source::len).collect();
    let grid = places.len().filter(|_| declared != Some(1)).map(|n| n as usize);
    let Some(&len) = declared.iter().chain(&of_inputs).chain(&grid).next() else {
        let why = "they leave the number of chunks open; `times` or `in_grid` says it";
        return Err(Error::invalid(format!("the inputs of `{}`", short_name(function.path())), why));
    };
    if of_inputs.iter().any(|n| *n != len) {
        let mut counts: Vec<String> = of_inputs.iter().map(usize::to_string).collect();
        if let Some(declared) = declared.filter(|_| of_inputs.iter().all(|n| *n == of_inputs[0])) {
            counts = vec![of_inputs[0].to_string()];
            let why = format!("they have {} chunks, and the layer {declared}", counts[0]);
            return Err(Error::invalid(format!("the inputs of `{}`", short_name(function.path())), why));
        }
        let last = counts.pop().unwrap_or_default();
        let why = format!("they have {} and {last} chunks", counts.join(", "));
        return Err(Error::invalid(format!("the inputs of `{}`", short_name(function.path())), why));
    }
    if let Some(places) = grid.filter(|places| *places != len) {
        let why = format!("{places} places for {len} chunks");
        return Err(Error::invalid(format!("the grid of `{}`", short_name(function.path())), why));
    }
    Ok(len)
}

/// The record of a function that makes elements. `N` names the task: its type's name is that of the user's function.
struct StreamRecords<N, F, P, I>(PhantomData<(N, F, P, I)>);

impl<N: 'static, F, P, I> StreamRecords<N, F, P, I>
where
    F: LayerFn<P, I>,
    P: Parameters,
    I: IntoIterator<Item: Data, IntoIter: Send + 'static> + 'static,
{
    /// Inside another task: gives the elements as an iterator.
    const STREAM: &'static Record = &Record::new::<(F, P, I)>(
        type_name::<N>,
        |args| {
            let chunk = chunk_id::<P>(args)?;
            Ok(Passing::value(Self::elements(args, &chunk)?))
        },
        // The value never leaves its task.
        CodecOf::<()>::CODEC,
    );

    /// As a task of its own: collects the elements.
    const RECORD: &'static Record = &Record::new::<(F, P, I)>(
        type_name::<N>,
        |args| {
            let chunk = chunk_id::<P>(args)?;
            let elements = Self::elements(args, &chunk)?;
            Ok(Value::new(pass::run(&chunk, || list(elements))?))
        },
        CodecOf::<Vec<I::Item>>::CODEC,
    )
    .with_stream(Self::STREAM);

    fn elements(args: &mut Args<'_, '_>, chunk: &ChunkId) -> Result<Elements<I::Item>, CallError> {
        let (function, parameters) = (conjure::<F>(), P::take(args, chunk).map_err(|refused| refused.0)?);
        Ok(if P::IS_STREAM {
            Elements::stage(move || function.call(parameters))
        } else {
            Elements::source(move || function.call(parameters))
        })
    }
}

/// The id of a task's chunk, which comes behind its inputs.
fn chunk_id<P: Parameters>(args: &mut Args<'_, '_>) -> Result<Arc<ChunkId>, CallError> {
    args.share(P::COUNT)
}

/// The elements as a list; faster than `collect`, which takes one at a time.
fn list<T: 'static>(elements: Elements<T>) -> Vec<T> {
    let mut list = Vec::with_capacity(elements.size_hint().0);
    elements.for_each(|e| list.push(e));
    list
}

/// The record of a function that makes one value of a chunk's inputs.
struct ChunkRecords<N, F, P, R>(PhantomData<(N, F, P, R)>);

impl<N: 'static, F, P, R> ChunkRecords<N, F, P, R>
where
    F: LayerFn<P, R>,
    P: Parameters,
    R: Data,
{
    const VALUE: Record = Record::new::<(F, P, R)>(
        type_name::<N>,
        |args| {
            let chunk = chunk_id::<P>(args)?;
            let parameters = P::take(args, &chunk).map_err(|refused| refused.0)?;
            Ok(Value::new(pass::run(&chunk, || conjure::<F>().call(parameters))?))
        },
        CodecOf::<R>::CODEC,
    );
    const RECORD: &'static Record = &Self::VALUE;
    const BOUND: &'static Record = &Self::VALUE.bound();
}

/// The record of a function that makes one value, and may fail.
struct TryChunkRecords<N, F, P, R, E>(PhantomData<(N, F, P, R, E)>);

impl<N: 'static, F, P, R, E> TryChunkRecords<N, F, P, R, E>
where
    F: LayerFn<P, Result<R, E>>,
    P: Parameters,
    R: Data,
    E: IntoError,
{
    const RECORD: &'static Record = &Record::new::<(F, P, R, E)>(
        type_name::<N>,
        |args| {
            let chunk = chunk_id::<P>(args)?;
            let parameters = P::take(args, &chunk).map_err(|refused| refused.0)?;
            let value = pass::run(&chunk, || conjure::<F>().call(parameters).map_err(pass::fail).ok())?;
            value.map(Value::new).ok_or_else(pass::nothing)
        },
        CodecOf::<R>::CODEC,
    );
}

/// The record of a function that puts values together.
struct CombineRecords<N, G, R, S>(PhantomData<(N, G, R, S)>);

impl<N: 'static, G, R: Data, S: Data> CombineRecords<N, G, R, S>
where
    G: Fn(Vec<R>) -> S + Copy + Send + 'static,
{
    const RECORD: &'static Record = &Record::new::<(G, R, S)>(
        type_name::<N>,
        |args| Ok(Value::new(conjure::<G>()(args.take(0)?))),
        CodecOf::<S>::CODEC,
    );
}

/// A task that makes one value of several, named after `N`.
pub(super) fn combine<N, G, R, S>(_: G, values: &[Delayed<R>]) -> Delayed<S>
where
    N: 'static,
    G: Fn(Vec<R>) -> S + Copy + Send + 'static,
    R: Data,
    S: Data,
{
    let values = smallvec::smallvec![IntoArg::<Vec<R>>::into_arg(values)];
    Delayed::from_node(Node::call(CombineRecords::<N, G, R, S>::RECORD, values, Some(Arc::clone(&PURE))))
}
