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

pub(crate) mod chunk_id;
pub(crate) mod chunks;
pub(crate) mod elements;
mod input;
mod iterate;
mod layer;
pub(crate) mod pass;
mod rule;
pub(crate) mod shuffle;
mod traits;
mod tree;

pub use crate::client::{Handles, Lowered, Lowering, Plan, PlanContext};
pub use chunk_id::ChunkId;
pub use chunks::{Chunks, TaskOption};
pub use elements::Elements;
pub use input::{Input, Inputs, LayerFn, LayerInput, Parameters};
pub use iterate::ChunkIter;
pub use layer::{After, Itself, Layer, TaskName};
pub use pass::{Wanted, fail, is_over, unfailing};
pub use shuffle::{Shuffle, ShuffleError, Shuffled, partition_of};
pub use traits::{Collection, CollectionExt};
#[doc(hidden)]
pub use {chunk_id::Places, input::Refused, rule::Source, traits::computed};
