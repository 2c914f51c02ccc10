//! Reading a bag in the client, without having all of it in memory.

use super::Bag;
use crate::client::Client;
use crate::collection::ChunkIter;
use crate::error::Result;
use crate::task::Data;
use std::fmt;

impl<T: Data> Bag<T> {
    /// The first `k` elements, of as many partitions as that takes: partitions are read one after the other, a few ahead (one
    /// for each thread that runs tasks), until there are enough, and each only so far. Fewer where the bag has no more.
    ///
    /// [`take`](Self::take) is lazy and looks at a given number of partitions.
    ///
    /// # Errors
    /// Where a partition fails that is needed, or the client is closed.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let client = Client::threads(2);
    /// let rare = Bag::range(0..1_000_000, 1000).filter(|x| x % 400_000 == 1);
    /// assert_eq!(rare.first(2, &client)?, [1, 400_001]);
    /// assert_eq!(rare.first(9, &client)?, [1, 400_001, 800_001]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn first(&self, k: usize, client: &Client) -> Result<Vec<T>> {
        let mut found = Vec::new();
        let mut partitions = self.first_of_each(k).iter(client)?;
        while found.len() < k
            && let Some(some) = partitions.next()
        {
            found.extend(some?);
        }
        found.truncate(k);
        Ok(found)
    }

    /// [`first`](Self::first) for async code.
    ///
    /// # Errors
    /// As [`first`](Self::first).
    pub async fn first_async(&self, k: usize, client: &Client) -> Result<Vec<T>> {
        let mut found = Vec::new();
        let mut partitions = self.first_of_each(k).iter(client)?;
        while found.len() < k
            && let Some(some) = partitions.next_async().await
        {
            found.extend(some?);
        }
        found.truncate(k);
        Ok(found)
    }

    /// The elements in order, computed while they are read: the partition that is read, and a few ahead of it (one for
    /// each thread that runs tasks).
    ///
    /// A partition that fails gives its error once, in its place; the others follow. What has been computed and not read
    /// is dropped with the iterator, and what runs is cancelled.
    ///
    /// # Errors
    /// Where the client is closed.
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let client = Client::threads(2);
    /// let mut lengths = 0;
    /// for word in Bag::range(0..1_000_000, 1000).map(|x| x.to_string()).iter(&client)? {
    ///     lengths += word?.len();
    ///     if lengths > 100 {
    ///         break; // few of the partitions have been computed
    ///     }
    /// }
    /// # assert!(client.progress().counts.done() < 50);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn iter(&self, client: &Client) -> Result<BagIter<T>> {
        Ok(BagIter { partitions: self.partitions.iter(client)?, current: Vec::new().into_iter() })
    }
}

/// The elements of a bag in order, see [`Bag::iter`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct BagIter<T> {
    partitions: ChunkIter<Vec<T>>,
    current: std::vec::IntoIter<T>,
}

impl<T: Data> BagIter<T> {
    /// [`next`](Iterator::next) for async code, under any runtime. Dropping the future loses nothing.
    pub async fn next_async(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(element) = self.current.next() {
                return Some(Ok(element));
            }
            match self.partitions.next_async().await? {
                Ok(partition) => self.current = partition.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<T: Data> Iterator for BagIter<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(element) = self.current.next() {
                return Some(Ok(element));
            }
            match self.partitions.next()? {
                Ok(partition) => self.current = partition.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<T: Data> fmt::Debug for BagIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BagIter({} partitions left)", self.partitions.left())
    }
}
