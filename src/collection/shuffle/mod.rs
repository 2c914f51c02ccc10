//! Moving elements to where others with the same key are.
//!
//! Two layers of tasks. The first cuts each chunk by a hash of the keys into as many pieces as there are to be chunks, on
//! disk (see [`store`]); so it needs little memory, however large its chunk is. Each task of the second reads its pieces of
//! all chunks, and has only the elements of its own keys in memory.

mod blocks;
pub(crate) mod store;

use super::chunk_id::{ChunkId, Places};
use super::chunks::Chunks;
use super::elements::Elements;
use super::input::{Input, LayerInput, Refused};
use super::layer::Layer;
use super::pass;
use super::rule::Source;
use crate::delayed::IntoArg;
use crate::task::Data;
use crate::task::function::Args;
use crate::task::returned::KeepError;
use rustc_hash::FxHasher;
use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;
pub use store::ShuffleError;
use store::{OpenFiles, PieceReader, PieceWriter, Pieces};

/// In which of `n` parts a key belongs: the same in every process of a build.
pub fn partition_of<K: Hash + ?Sized>(key: &K, n: usize) -> usize {
    let mut hasher = FxHasher::default();
    key.hash(&mut hasher);
    // The tables of the second layer use the same hash. Mixed, its bits say nothing of those.
    let mixed = crate::graph::node::mix(hasher.finish());
    ((u128::from(mixed) * n as u128) >> 64) as usize
}

/// Cuts a chunk.
fn partition_by_key<T: Data, K: Hash>(
    elements: Elements<T>,
    n: usize,
    key: impl Fn(&T) -> K,
) -> Result<Pieces, ShuffleError> {
    let mut writer = PieceWriter::new(n)?;
    for element in elements {
        writer.append(partition_of(&key(&element), n), &element)?;
    }
    writer.finish()
}

/// The elements of chunks, cut by key into pieces: all with one key are in the pieces of one number.
///
/// The pieces lie on disk, in files without names: in the workers' spill directory where
/// [`spill_directory`](crate::Builder::spill_directory) was set, counted against
/// [`spill_limit`](crate::Builder::spill_limit); otherwise in the directory for temporary files (`TMPDIR`). What cannot be
/// written or read fails the task with an `E`.
///
/// ```
/// use swath::Client;
/// use swath::collection::{Chunks, Input, Layer, Shuffle, Shuffled};
/// use std::sync::Arc;
///
/// let numbers = Layer::over((Input::each([0_u64, 10]),)).elements(|from: Arc<u64>| *from..*from + 10);
/// let cut = Shuffle::<u64>::by_key(&numbers, 3, |x| x % 3);
/// // Each chunk has all numbers of some remainders.
/// let counts = Layer::over((Input::shuffled(&cut),)).elements(|all: Shuffled<u64>| {
///     let mut counts = [0; 3];
///     all.for_each(|x| counts[x as usize % 3] += 1);
///     counts.into_iter().filter(|n| *n > 0)
/// });
/// let mut counts = Client::threads(2).compute(&counts.to_delayed())?.concat();
/// counts.sort();
/// assert_eq!(counts, [6, 7, 7]);
/// # Ok::<(), swath::Error>(())
/// ```
#[must_use = "it is lazy: nothing runs until it is computed"]
pub struct Shuffle<T, E = ShuffleError> {
    pieces: Chunks<Pieces>,
    n: usize,
    places: Places,
    _elements: PhantomData<fn() -> (T, E)>,
}

impl<T, E> fmt::Debug for Shuffle<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shuffle({} chunks in {} pieces each)", self.pieces.len(), self.n)
    }
}

impl<T, E> Shuffle<T, E>
where
    T: Data,
    E: From<ShuffleError> + Data + Error,
{
    /// Cuts each chunk into `n` pieces (at least one) by a hash of the keys. The tasks are named after the function.
    pub fn by_key<K, F>(chunks: &Chunks<Vec<T>>, n: usize, key: F) -> Self
    where
        K: Hash,
        F: Fn(&T) -> K + Copy + Send + 'static,
    {
        let cut = move |elements: Elements<T>, n: Arc<usize>| match partition_by_key(elements, *n, key) {
            Ok(pieces) => pieces,
            Err(error) => {
                pass::fail(KeepError(E::from(error)));
                Pieces::none()
            }
        };
        let n = n.max(1);
        let inputs = (Input::elements(chunks), Input::shared(n));
        let pieces = Layer::over(inputs).named_after::<F>().bound_chunks(cut);
        Self { pieces, n, places: chunks.places.clone(), _elements: PhantomData }
    }
}

impl<T: Data, E: From<ShuffleError> + Data + Error> Input<Shuffled<T, E>> {
    /// For each chunk of the layer its pieces of all chunks that a shuffle has cut. There are as many chunks as pieces.
    #[must_use]
    pub fn shuffled(shuffle: &Shuffle<T, E>) -> Self {
        let source = match shuffle.pieces.check() {
            Ok(()) => Source::Times((&*shuffle.pieces.tasks()).into_arg(), shuffle.n),
            Err(error) => Source::Failed(error),
        };
        let places = if shuffle.places == Places::Partitions { Places::Partitions } else { Places::default() };
        Self::new(source, places)
    }
}

/// The elements that a shuffle brings to one chunk, in the order of the chunks that they come from.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Shuffled<T, E = ShuffleError> {
    pieces: Arc<Vec<Pieces>>,
    piece: usize,
    next: usize,
    current: Option<PieceReader>,
    files: OpenFiles,
    _elements: PhantomData<fn() -> (T, E)>,
}

impl<T: 'static, E: 'static> LayerInput for Shuffled<T, E> {
    const IS_STREAM: bool = false;

    fn take(args: &mut Args<'_, '_>, i: usize, chunk: &ChunkId) -> Result<Self, Refused> {
        let piece = chunk.number() as usize;
        Ok(Self {
            pieces: args.share(i)?,
            piece,
            next: 0,
            current: None,
            files: OpenFiles::default(),
            _elements: PhantomData,
        })
    }
}

impl<T: Data, E: From<ShuffleError> + Data + Error> Iterator for Shuffled<T, E> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(reader) = &mut self.current {
                match reader.next_value() {
                    Ok(Some(element)) => return Some(element),
                    Ok(None) => self.current = None,
                    Err(error) => {
                        pass::fail(KeepError(E::from(error)));
                        self.end();
                        return None;
                    }
                }
            }
            let pieces = self.pieces.get(self.next)?;
            self.next += 1;
            match pieces.open(&mut self.files, self.pieces.len()).map(|open| open.piece(self.piece)) {
                Ok(Ok(reader)) => self.current = Some(reader),
                Ok(Err(error)) => {
                    pass::fail(KeepError(E::from(error)));
                    self.end();
                }
                Err(lost) => {
                    pass::fault(lost);
                    self.end();
                }
            }
        }
    }
}

impl<T, E> Shuffled<T, E> {
    /// Gives no more.
    fn end(&mut self) {
        (self.current, self.next) = (None, self.pieces.len());
    }
}

impl<T, E> fmt::Debug for Shuffled<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shuffled(..)")
    }
}
