//! What every collection is: chunks, or a plan of them, and a way to put them together.

use super::chunks::{Chunks, TaskOption};
use super::iterate::ChunkIter;
use crate::client::picture::Picture;
use crate::client::{Client, Computable, Handles, Lowering, Results};
use crate::delayed::Delayed;
use crate::error::Result;
use crate::task::Data;
use std::any::type_name;
use std::path::Path;
use std::time::Duration;

/// A lazy collection: several chunks that are computed by tasks, and a value that is made of them.
///
/// See the [module](crate::collection) for how one is built. The macro [`computable!`](crate::computable) makes it something
/// that [`Client::compute`] takes, beside lazy values and other collections, and gives it the methods of [`CollectionExt`].
pub trait Collection: Sized {
    /// The value of one chunk.
    type Chunk: Data;
    /// What computing gives.
    type Output;

    /// How many chunks it has. If it is put together of another number, computing it is an error that names the collection.
    fn nchunks(&self) -> usize;

    /// Says which tasks make the chunks, in their order: with [`Chunks::lower`], or as a [plan](Lowering::plan).
    ///
    /// # Errors
    /// What keeps the collection from being computed. Then nothing runs.
    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()>;

    /// Puts the chunks together.
    ///
    /// # Errors
    /// Where that is not possible: [`Error::collection`](crate::Error::collection) carries an error type of the collection's.
    fn assemble(&self, chunks: Vec<Self::Chunk>) -> Result<Self::Output>;

    /// The same collection of other chunks: those that a client holds, or whose tasks have other options.
    fn with_chunks(&self, chunks: Chunks<Self::Chunk>) -> Self;

    /// The same collection, whose tasks have another option. A collection that is a plan may keep it with the plan; if it does
    /// not say how, it is lowered first.
    fn with_option(&self, option: &TaskOption) -> Self {
        self.with_chunks(chunks_of(self).set(option))
    }
}

/// Lowers a collection by itself.
fn chunks_of<C: Collection>(collection: &C) -> Chunks<C::Chunk> {
    match Lowering::of_one(type_name::<C>(), collection.nchunks(), |lowering| collection.lower(lowering)) {
        Ok(tasks) => tasks.into_iter().map(Delayed::from_arc).collect(),
        Err(error) => Chunks::failed(error),
    }
}

/// What all collections can: methods of every [`Collection`] for which [`computable!`](crate::computable) was called.
pub trait CollectionExt: Collection + Computable<Output = <Self as Collection>::Output, Persisted = Self> {
    /// Computes all of it: [`Client::compute`] of this collection.
    ///
    /// # Errors
    /// The error of the first chunk that failed, that of [`Collection::lower`] or [`Collection::assemble`], or that of the
    /// client.
    fn compute(&self, client: &Client) -> Result<<Self as Collection>::Output> {
        client.compute(self)
    }

    /// [`compute`](Self::compute) for async code, under any runtime.
    ///
    /// # Errors
    /// As [`compute`](Self::compute).
    fn compute_async(&self, client: &Client) -> impl Future<Output = Result<<Self as Collection>::Output>> {
        client.compute_async(self)
    }

    /// Starts computing, and keeps the chunks with the client's workers: [`Client::persist`] of this collection.
    ///
    /// # Errors
    /// Where the graph cannot be submitted; a task that fails shows when its chunk is used.
    fn persist(&self, client: &Client) -> Result<Self> {
        client.persist(self)
    }

    /// [`persist`](Self::persist) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`persist`](Self::persist).
    fn persist_async(&self, client: &Client) -> impl Future<Output = Result<Self>> {
        client.persist_async(self)
    }

    /// The chunks as they are lowered when nothing else is computed beside them.
    fn lowered(&self) -> Chunks<Self::Chunk> {
        chunks_of(self)
    }

    /// The chunks as lazy values.
    ///
    /// # Errors
    /// That of [`Collection::lower`].
    fn to_delayed(&self) -> Result<Vec<Delayed<Self::Chunk>>> {
        let chunks = self.lowered();
        chunks.check().map(|()| chunks.to_delayed())
    }

    /// Draws the graph that computes the collection into a file: `.svg`, `.html` or `.dot`. More than 200 tasks are drawn as an
    /// overview; [`Picture`](crate::client::picture::Picture) has options.
    ///
    /// # Errors
    /// That of [`Collection::lower`], and as [`Picture::save`](crate::client::picture::Picture::save).
    fn visualize(&self, path: impl AsRef<Path>) -> Result<()> {
        Picture::of(self)?.save(path)
    }

    /// The graph that computes the collection as lines of text, for terminals and logs: see
    /// [`Picture::outline`](crate::client::picture::Picture::outline).
    ///
    /// # Errors
    /// That of [`Collection::lower`].
    fn outline(&self) -> Result<String> {
        Picture::of(self)?.outline()
    }

    /// The graph that computes the collection, as a picture in Graphviz's `dot` language, task by task.
    ///
    /// # Errors
    /// That of [`Collection::lower`].
    fn to_dot(&self) -> Result<String> {
        Client::dot(self)
    }

    /// The chunks in order, computed while they are read: see [`Chunks::iter`].
    ///
    /// # Errors
    /// That of [`Collection::lower`], or where the client is closed.
    fn iter(&self, client: &Client) -> Result<ChunkIter<Self::Chunk>> {
        self.lowered().iter(client)
    }

    /// Names the tasks that make the chunks. Default: the name of the last function.
    ///
    /// This and the other options are those of [`delayed`](fn@crate::delayed) functions. They hold for the tasks that make
    /// the chunks of this collection, with all the layers that become one task with them.
    fn name(&self, name: impl Into<String>) -> Self {
        self.with_option(&TaskOption::Name(name.into()))
    }

    /// Runs before ready tasks of lower priority.
    fn priority(&self, priority: i32) -> Self {
        self.with_option(&TaskOption::Priority(priority))
    }

    /// Repeats failed tasks.
    fn retries(&self, retries: u32) -> Self {
        self.with_option(&TaskOption::Retries(retries))
    }

    /// Fails tasks that take longer.
    fn timeout(&self, timeout: Duration) -> Self {
        self.with_option(&TaskOption::Timeout(timeout))
    }

    /// Bytes that one task is expected to need.
    fn memory(&self, bytes: u64) -> Self {
        self.with_option(&TaskOption::Memory(bytes))
    }

    /// Runs only on workers that carry the tag.
    fn tag(&self, tag: impl Into<String>) -> Self {
        self.with_option(&TaskOption::Tag(tag.into()))
    }
}

impl<C> CollectionExt for C where C: Collection + Computable<Output = <C as Collection>::Output, Persisted = C> {}

/// Chunks by themselves: computing gives a list of their values.
impl<C: Data> Collection for Chunks<C> {
    type Chunk = C;
    type Output = Vec<C>;

    fn nchunks(&self) -> usize {
        self.len()
    }

    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        Self::lower(self, lowering)
    }

    fn assemble(&self, chunks: Vec<C>) -> Result<Vec<C>> {
        Ok(chunks)
    }

    fn with_chunks(&self, chunks: Chunks<C>) -> Self {
        chunks.like(self)
    }

    fn with_option(&self, option: &TaskOption) -> Self {
        self.set(option)
    }
}

crate::computable!([C: Data] Chunks<C>);

/// What [`computable!`](crate::computable) writes.
#[doc(hidden)]
pub mod computed {
    use super::*;

    /// Lowers a collection as a member of a call.
    pub fn lower<'a, C: Collection>(collection: &'a C, lowering: &mut Lowering<'a>) -> Result<()> {
        lowering.collection(type_name::<C>(), collection.nchunks(), |lowering| collection.lower(lowering))
    }

    /// Puts its results together.
    pub fn output<C: Collection>(collection: &C, results: &mut Results<'_>) -> Result<C::Output> {
        collection.assemble(results.chunks()?)
    }

    /// Puts handles of its results together.
    pub fn persisted<C: Collection>(collection: &C, handles: &mut Handles<'_>) -> C {
        collection.with_chunks(handles.chunks().into())
    }
}

/// Makes a [`Collection`] something that [`Client::compute`](crate::Client::compute) and
/// [`Client::persist`](crate::Client::persist) take.
///
/// The type stands alone, or behind its generic parameters in brackets:
///
/// ```text
/// swath::computable!(Table);
/// swath::computable!([T: Data] Numbers<T>);
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! computable {
    ([$($generics:tt)*] $collection:ty) => {
        impl<$($generics)*> $crate::Computable for $collection {
            type Output = <Self as $crate::collection::Collection>::Output;
            type Persisted = Self;

            fn lower<'lowering>(
                &'lowering self,
                lowering: &mut $crate::collection::Lowering<'lowering>,
            ) -> $crate::Result<()> {
                $crate::collection::computed::lower(self, lowering)
            }

            fn output(&self, results: &mut $crate::Results<'_>) -> $crate::Result<Self::Output> {
                $crate::collection::computed::output(self, results)
            }

            fn persisted(&self, handles: &mut $crate::collection::Handles<'_>) -> Self {
                $crate::collection::computed::persisted(self, handles)
            }
        }
    };
    ($collection:ty) => {
        $crate::computable!([] $collection);
    };
}
