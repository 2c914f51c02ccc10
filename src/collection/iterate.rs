//! Reading a collection's chunks in the client, without having all of them in memory.

use super::chunks::Chunks;
use crate::client::Client;
use crate::client::buffered::Buffered;
use crate::error::Result;
use crate::task::Data;
use std::fmt;

impl<C: Data> Chunks<C> {
    /// The chunks in order, computed while they are read: the one that is read, and a few ahead of it (one for each thread
    /// that runs tasks).
    ///
    /// A chunk that fails gives its error once, in its place; the others follow. What has been computed and not read is
    /// dropped with the iterator, and what runs is cancelled.
    ///
    /// # Errors
    /// Where the client is closed, or the chunks cannot be made.
    pub fn iter(&self, client: &Client) -> Result<ChunkIter<C>> {
        self.check()?;
        Ok(ChunkIter(client.buffered(self.task_list())?))
    }
}

/// The chunks of a collection in order, see [`Chunks::iter`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct ChunkIter<C>(Buffered<C>);

impl<C: Data> ChunkIter<C> {
    /// How many have not been read.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.left()
    }

    /// [`next`](Iterator::next) for async code, under any runtime. Dropping the future loses nothing.
    pub async fn next_async(&mut self) -> Option<Result<C>> {
        self.0.next_async().await
    }
}

impl<C: Data> Iterator for ChunkIter<C> {
    type Item = Result<C>;

    fn next(&mut self) -> Option<Result<C>> {
        self.0.next()
    }
}

impl<C: Data> fmt::Debug for ChunkIter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkIter({} chunks left)", self.left())
    }
}
