//! Partitioned sequences of anything: for text, JSON, logs, and records before they have columns.

mod combine;
mod count;
pub(crate) mod error;
mod iterate;
mod make;
mod pluck;
mod read;
mod reduce;
mod shuffle;
mod stats;
mod table;
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

use crate::client::{Client, Computable, Results};
use crate::delayed::Delayed;
use crate::error::Result;
use crate::graph::node::Node;
use crate::graph::options::Options;
use crate::submission::handle::ResultHandle;
use crate::task::Data;
use std::fmt;
use std::sync::Arc;
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
pub struct Bag<T> {
    partitions: Arc<[Delayed<Vec<T>>]>,
    /// How many values its reductions put together at once.
    split_every: usize,
}

impl<T> Clone for Bag<T> {
    fn clone(&self) -> Self {
        Self { partitions: Arc::clone(&self.partitions), split_every: self.split_every }
    }
}

impl<T> fmt::Debug for Bag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bag({}, {} partitions)", self.partitions[0].node().name(), self.partitions.len())
    }
}

impl<T: Data> Bag<T> {
    /// A bag has at least one partition, so that every reduction has a task.
    fn new(partitions: Vec<Delayed<Vec<T>>>) -> Self {
        if partitions.is_empty() {
            return Self::from_partitions([]);
        }
        Self { partitions: partitions.into(), split_every: reduce::SPLIT_EVERY }
    }

    /// How many partitions it has; at least one.
    pub fn npartitions(&self) -> usize {
        self.partitions.len()
    }

    /// The partitions as lazy values.
    pub fn to_delayed(&self) -> Vec<Delayed<Vec<T>>> {
        self.partitions.to_vec()
    }

    /// The bag of some of the partitions, in the order given.
    ///
    /// # Panics
    /// Where there is no partition of that number.
    pub fn select(&self, partitions: impl IntoIterator<Item = usize>) -> Self {
        Self::new(partitions.into_iter().map(|i| self.partitions[i].clone()).collect())
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

    fn with_options(&self, set: impl Fn(&mut Options)) -> Self {
        let partition = |p: &Delayed<Vec<T>>| p.node().with_options(&set).map_or_else(|| p.clone(), Delayed::from_node);
        Self { partitions: self.partitions.iter().map(partition).collect(), ..*self }
    }

    /// Names the tasks that make the partitions. Default: the name of the last function.
    ///
    /// This and the other options are those of [`delayed`](crate::delayed) functions. They hold for the tasks that make
    /// the partitions of this bag, with all the steps that become one task with them.
    pub fn name(&self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.with_options(|o| o.name = Some(name.clone()))
    }

    /// Runs before ready tasks of lower priority, see [`DelayedFn::priority`](crate::DelayedFn::priority).
    pub fn priority(&self, priority: i32) -> Self {
        self.with_options(|o| o.priority = priority)
    }

    /// Repeats failed tasks, see [`DelayedFn::retries`](crate::DelayedFn::retries).
    pub fn retries(&self, retries: u32) -> Self {
        self.with_options(|o| o.retries = retries)
    }

    /// Fails tasks that take longer, see [`DelayedFn::timeout`](crate::DelayedFn::timeout).
    pub fn timeout(&self, timeout: Duration) -> Self {
        self.with_options(|o| o.timeout = Some(timeout))
    }

    /// Bytes that one task is expected to need, see [`DelayedFn::memory`](crate::DelayedFn::memory).
    pub fn memory(&self, bytes: u64) -> Self {
        self.with_options(|o| o.memory = Some(bytes))
    }

    /// Runs only on workers that carry the tag, see [`DelayedFn::tag`](crate::DelayedFn::tag).
    pub fn tag(&self, tag: impl Into<String>) -> Self {
        let tag = tag.into();
        self.with_options(|o| o.tag = Some(tag.clone()))
    }
}

impl<T: Data> Computable for Bag<T> {
    type Output = Vec<T>;
    type Persisted = Bag<T>;

    fn roots<'a>(&'a self, roots: &mut Vec<&'a Arc<Node>>) {
        self.partitions.roots(roots);
    }

    fn output(&self, results: &mut Results<'_>) -> Result<Vec<T>> {
        let mut partitions = self.partitions.output(results)?.into_iter();
        // The first is often the only one.
        let mut all = partitions.next().unwrap_or_default();
        all.reserve(partitions.as_slice().iter().map(Vec::len).sum());
        partitions.for_each(|p| all.extend(p));
        Ok(all)
    }

    fn persisted(&self, outputs: &mut dyn Iterator<Item = ResultHandle>) -> Bag<T> {
        Bag::new(self.partitions.persisted(outputs))
    }
}
