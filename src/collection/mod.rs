//! The kit that collections are made of: [`Bag`](crate::Bag) is built on it, and so can be one of your own, in any crate.
//!
//! A collection is a list of lazy **chunks** ([`Chunks`]), each the result of a task, and a few words about them: how many
//! there are, which tasks make them, how their values are put together, and what the same collection is with other chunks
//! ([`Collection`]). For that it gets the rest: it is computed and persisted beside lazy values and other collections, in
//! every mode, read chunk by chunk, drawn, and its tasks have options ([`CollectionExt`]).
//!
//! | what | with |
//! |---|---|
//! | one function over all chunks, of up to eight inputs | [`Layer`], [`Input`] |
//! | elements that are read while they are made, and several steps in one task | [`Layer::elements`], [`Input::elements`] |
//! | one value of all chunks | [`Chunks::tree`], [`Chunks::tree_then`] |
//! | elements with one key in one chunk | [`Shuffle`] |
//! | several results planned together, and planned late | [`Plan`], [`Lowering::plan`] |
//! | an error at an element, or in a chunk | [`fail`], [`Layer::try_chunks`] |
//! | an error type of the collection's own | [`Error::collection`](crate::Error::collection) |
//!
//! ```
//! use std::sync::Arc;
//! use swath::collection::{Chunks, Collection, CollectionExt, Input, Layer, Lowering};
//! use swath::{Client, Delayed, Result};
//!
//! /// Numbers in chunks.
//! #[derive(Clone)]
//! struct Numbers(Chunks<Vec<f64>>);
//!
//! impl Collection for Numbers {
//!     type Chunk = Vec<f64>;
//!     type Output = Vec<f64>;
//!
//!     fn nchunks(&self) -> usize {
//!         self.0.len()
//!     }
//!     fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
//!         self.0.lower(lowering)
//!     }
//!     fn assemble(&self, chunks: Vec<Vec<f64>>) -> Result<Vec<f64>> {
//!         Ok(chunks.concat())
//!     }
//!     fn with_chunks(&self, chunks: Chunks<Vec<f64>>) -> Self {
//!         Self(chunks)
//!     }
//! }
//! swath::computable!(Numbers);
//!
//! impl Numbers {
//!     fn ramp(chunks: u64, len: u64) -> Self {
//!         let chunk = |number: Arc<u64>, len: Arc<u64>| (0..*len).map(|i| (*number * *len + i) as f64).collect();
//!         Self(Layer::over((Input::each(0..chunks), Input::shared(len))).chunks(chunk))
//!     }
//!     fn add(&self, other: &Self) -> Self {
//!         fn add(a: Arc<Vec<f64>>, b: Arc<Vec<f64>>) -> Vec<f64> {
//!             a.iter().zip(b.iter()).map(|(a, b)| a + b).collect()
//!         }
//!         Self(Layer::over((Input::chunk(&self.0), Input::chunk(&other.0))).chunks(add))
//!     }
//!     fn sum(&self) -> Delayed<f64> {
//!         let sums = Layer::over((Input::chunk(&self.0),)).chunks(|chunk: Arc<Vec<f64>>| chunk.iter().sum());
//!         sums.tree(|sums: Vec<f64>| sums.iter().sum())
//!     }
//! }
//!
//! let client = Client::threads(2);
//! let x = Numbers::ramp(4, 3).persist(&client)?;
//! let doubled = x.add(&x);
//! assert_eq!(client.compute((&doubled, &doubled.sum()))?.1, 132.0);
//! let first = doubled.name("doubled").iter(&client)?.next().transpose()?;
//! assert_eq!(first, Some(vec![0.0, 2.0, 4.0]));
//! # Ok::<(), swath::Error>(())
//! ```

// How it works:
//
// A collection is a list of lazy chunks and nothing else: `Bag<T>` is `[Delayed<Vec<T>>]`. So its type is nameable,
// its partitions can be taken out and put in (`to_delayed`, `from_delayed`), `compute`, `persist` and several results
// at once are those of the client (`Computable`), and every scheduler runs it without knowing of collections.
//
// - **A layer is one task for each chunk**, made by `layer.rs` from a function without a size. Closures of ours that
//   capture a function of the user's have no size either, so `bag.map(f)` is a task function like any other: no
//   program is interpreted, and adapters inside a step are compiled into one loop.
// - **Steps become one task.** The task of a step reads its input as `Arg::Elements`. Its record has two forms: one
//   collects a `Vec`, the other (`Record::stream`) gives an iterator. When a graph is built (`graph/inline.rs`), a
//   step whose only user reads it as a stream becomes a part of that user (`Arg::Inline`, with the second form): one
//   task, one pass, no list in between, at the cost of one indirect call for each element and step. What two tasks
//   read stays a task: it runs once and its list is in memory, as in Dask. The same rule will serve any collection.
// - **Sources are steps without an input**: `Bag::generate` and `Bag::try_generate` take a function from an argument
//   (a block of a file, say) to an iterator, so that readers stream as well. What is shared by all chunks (`map_with`)
//   is one more argument, read without cloning it.
// - **Tasks of collections are pure**: their keys are hashes of function and inputs, so the same steps described twice
//   are one task. Options (`retries`, `memory`, …) set on a collection hold for the tasks that make its chunks, and a
//   task that takes in another takes on its options; steps with different places (`tag`) stay apart.
// - **The last step drives.** What takes all elements at once (a fold, a count, a list) hands its function down
//   through the steps to the source, whose loop it becomes (`Elements::fold`): faster than asking for one element
//   after the other. What may stop early (`take`, `any`) asks.
// - **Errors pass beside the iterators.** `pass.rs` keeps, for the thread that makes a pass, the number of the element
//   that was read last and the first error. A step that fails ends its iterator, or lets pass nothing more, and the
//   source stops; the pass then fails with that error, its type kept, and the place added. A panic gets its place the
//   same way.
//
// - **Reductions are trees**: a value of each partition, then as many at once as `split_every` says. Tables keep the
//   order in which keys are met, so that every mode gives the same.
// - **A shuffle is two layers.** The first cuts each partition into pieces by a hash of the keys and writes them to
//   the one nameless file of its process (`shuffle/store.rs`); the second reads its piece of every partition. What the
//   first layer's tasks give is an address in that file, which others open through `/proc`, and so it is *bound* to
//   its worker (`Record::bound`): it stays in the store, its drop gives the room back, and when the worker dies it is
//   lost even if the supervisor has a copy, and made again. A reader that finds it lost fails with `InputLost` and is
//   run again.
// - **Reading in the client** (`client/buffered.rs`) submits each partition by itself, a few ahead. What several need
//   is found in the graph of all, kept from the first that needs it until the last has been taken.
//
// Why not a type parameter for the chain of steps, like an iterator's? It would save the indirect call (2 ns an
// element), and cost names that nobody can write, no bag in a struct or a loop, and a compilation for every chain.
// Where each nanosecond counts, `map_partitions` takes a chain of iterator adapters.

pub(crate) mod chunk_id;
pub(crate) mod chunks;
pub(crate) mod elements;
mod input;
mod iterate;
mod layer;
mod order;
pub(crate) mod pass;
mod rule;
mod rule_picture;
pub(crate) mod shuffle;
mod traits;
mod tree;

#[doc(inline)]
pub use crate::client::{Handles, Lowered, Lowering, Plan, PlanContext};
#[doc(inline)]
pub use crate::computable;
pub use chunk_id::ChunkId;
pub use chunks::{Chunks, TaskOption};
pub use elements::Elements;
pub use input::{Input, Inputs, LayerFn, LayerInput, Parameters};
pub use iterate::ChunkIter;
pub use layer::{After, Itself, Layer, TaskName};
pub use order::{bind, checkpoint, clone_graph, wait_on};
pub use pass::{Wanted, fail, is_over, unfailing};
pub use shuffle::{Shuffle, ShuffleError, Shuffled, partition_of};
pub use traits::{Collection, CollectionExt};
#[doc(hidden)]
pub use {chunk_id::Places, input::Refused, rule::Source, traits::computed};
