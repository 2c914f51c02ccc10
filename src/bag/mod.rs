//! Partitioned sequences of anything: for text, JSON, logs, and records before they have columns.

mod combine;
mod count;
pub(crate) mod error;
mod iterate;
mod make;
mod pluck;
mod random;
mod read;
mod reduce;
mod shuffle;
mod stats;
mod table;
mod together;
mod top;
mod transform;
mod write;

pub use crate::collection::elements::Elements;
pub use crate::files::formats::csv::Csv;
pub use crate::files::formats::json_value::{Json, JsonError};
pub use count::Counter;
pub use error::BagError;
pub use iterate::BagIter;
pub use pluck::Pluck;

use crate::client::Client;
use crate::client::picture::Picture;
use crate::collection::{Chunks, Collection, Lowering, TaskOption};
use crate::delayed::Delayed;
use crate::error::Result;
use crate::task::Data;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// A lazy sequence in partitions, which are worked on in parallel.
///
/// Nothing runs before [`compute`](Self::compute) or [`persist`](Self::persist). What is done to each element (`map`,
/// `filter`, …) is one task for each partition and one pass over it, whatever the number of steps; only what two results
/// have in common is put together in memory first. Reductions give a [`Delayed`], or a bag of one partition.
///
/// Functions are `fn` items or closures that capture nothing, as those of all tasks: what else they need is an argument,
/// see [`map_with`](Self::map_with). They should depend on nothing but their arguments: equal steps on equal bags
/// run once, and a step runs again where its result is needed again. Where one panics or fails, the error says at which
/// element of which partition: it is counted from 0 where the elements enter the task, as lines of a file for example.
///
/// Elements are of any type that tasks can take ([`Data`]): a struct that derives serde's traits, a tuple, a `String`; for
/// any JSON there is [`Json`] (`serde_json::Value` itself cannot be read back in another process).
///
/// The operations are those of Dask's Bag. Where they differ on purpose, `docs/DASK.md` tells why.
///
/// Cheap to clone.
///
/// ```
/// use swath::{Bag, Client};
///
/// let squares = Bag::from_sequence(1..=10_i64, 4).map(|x| x * x);
/// let even = squares.filter(|x| x % 2 == 0);
///
/// let client = Client::threads(2);
/// assert_eq!(even.compute(&client)?, [4, 16, 36, 64, 100]);
/// assert_eq!(client.compute((&even.count(), &squares.sum()))?, (5, 385));
/// # Ok::<(), swath::Error>(())
/// ```
#[must_use = "it is lazy: nothing runs until it is computed"]
pub struct Bag<T> {
    partitions: Chunks<Vec<T>>,
}

impl<T> Clone for Bag<T> {
    fn clone(&self) -> Self {
        Self { partitions: self.partitions.clone() }
    }
}

impl<T> fmt::Debug for Bag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bag({}, {} partitions)", self.partitions.task_name(), self.partitions.len())
    }
}

impl<T: Data> Bag<T> {
    /// A bag has at least one partition, so that every reduction has a task.
    fn new(partitions: impl Into<Chunks<Vec<T>>>) -> Self {
        let partitions = partitions.into();
        if partitions.is_empty() && partitions.check().is_ok() {
            return Self::from_partitions([]);
        }
        Self { partitions: partitions.in_partitions() }
    }

    /// How many partitions it has; at least one.
    #[must_use]
    pub fn npartitions(&self) -> usize {
        self.partitions.len()
    }

    /// The partitions as lazy values.
    #[must_use]
    pub fn to_delayed(&self) -> Vec<Delayed<Vec<T>>> {
        self.partitions.to_delayed()
    }

    /// The bag of some of the partitions, in the order given.
    ///
    /// # Panics
    /// Where there is no partition of that number.
    #[track_caller]
    pub fn select(&self, partitions: impl IntoIterator<Item = usize>) -> Self {
        Self::new(self.partitions.select(partitions))
    }

    /// Computes all elements, in order: [`Client::compute`] of this bag.
    ///
    /// # Errors
    /// The error of the first partition that failed, or that of the client.
    pub fn compute(&self, client: &Client) -> Result<Vec<T>> {
        client.compute(self)
    }

    /// [`compute`](Self::compute) for async code, under any runtime.
    ///
    /// # Errors
    /// As [`compute`](Self::compute).
    pub async fn compute_async(&self, client: &Client) -> Result<Vec<T>> {
        client.compute_async(self).await
    }

    /// Starts computing, and keeps the partitions with the client's workers: [`Client::persist`] of this bag.
    ///
    /// # Errors
    /// Where the graph cannot be submitted; a task that fails shows when its partition is used.
    pub fn persist(&self, client: &Client) -> Result<Self> {
        client.persist(self)
    }

    /// Draws the graph that computes the bag into a file: `.svg`, `.html` or `.dot`. More than 200 tasks are drawn as an
    /// overview; [`Picture`] has options.
    ///
    /// # Errors
    /// As [`Picture::of`] and [`Picture::save`].
    pub fn visualize(&self, path: impl AsRef<Path>) -> Result<()> {
        Picture::of(self)?.save(path)
    }

    /// The graph that computes the bag as lines of text, for terminals and logs: see [`Picture::outline`].
    ///
    /// # Errors
    /// As [`Picture::of`].
    pub fn outline(&self) -> Result<String> {
        Picture::of(self)?.outline()
    }

    fn with(&self, option: TaskOption) -> Self {
        Self { partitions: self.partitions.set(&option) }
    }

    /// Names the tasks that make the partitions. Default: the name of the last function.
    ///
    /// This and the other options are those of [`delayed`](fn@crate::delayed) functions. They hold for the tasks that make
    /// the partitions of this bag, with all the steps that become one task with them.
    pub fn name(&self, name: impl Into<String>) -> Self {
        self.with(TaskOption::Name(name.into()))
    }

    /// Runs before ready tasks of lower priority, see [`DelayedFn::priority`](crate::DelayedFn::priority).
    pub fn priority(&self, priority: i32) -> Self {
        self.with(TaskOption::Priority(priority))
    }

    /// Repeats failed tasks, see [`DelayedFn::retries`](crate::DelayedFn::retries).
    pub fn retries(&self, retries: u32) -> Self {
        self.with(TaskOption::Retries(retries))
    }

    /// Fails tasks that take longer, see [`DelayedFn::timeout`](crate::DelayedFn::timeout).
    pub fn timeout(&self, timeout: Duration) -> Self {
        self.with(TaskOption::Timeout(timeout))
    }

    /// Bytes that one task is expected to need, see [`DelayedFn::memory`](crate::DelayedFn::memory).
    pub fn memory(&self, bytes: u64) -> Self {
        self.with(TaskOption::Memory(bytes))
    }

    /// Runs only on workers that carry the tag, see [`DelayedFn::tag`](crate::DelayedFn::tag).
    pub fn tag(&self, tag: impl Into<String>) -> Self {
        self.with(TaskOption::Tag(tag.into()))
    }
}

impl<T: Data> Collection for Bag<T> {
    type Chunk = Vec<T>;
    type Output = Vec<T>;

    fn nchunks(&self) -> usize {
        self.partitions.len()
    }

    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        self.partitions.lower(lowering)
    }

    fn assemble(&self, chunks: Vec<Vec<T>>) -> Result<Vec<T>> {
        let mut partitions = chunks.into_iter();
        // The first is often the only one.
        let mut all = partitions.next().unwrap_or_default();
        all.reserve(partitions.as_slice().iter().map(Vec::len).sum());
        partitions.for_each(|p| all.extend(p));
        Ok(all)
    }

    fn with_chunks(&self, chunks: Chunks<Vec<T>>) -> Self {
        Bag::new(chunks)
    }
}

crate::computable!([T: Data] Bag<T>);
