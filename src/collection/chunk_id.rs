//! Which chunk of a collection a task makes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The place of a chunk in its collection: its number, and its position where the chunks lie in a grid.
///
/// Errors and panics of the chunk's task name it: `chunk 3`, `chunk (1, 2)`, or `partition 3` where the chunks are
/// partitions of a sequence. A function of a layer that wants it takes it with
/// [`Input::place`](crate::collection::Input::place).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkId {
    number: u64,
    is_partition: bool,
    /// Empty where there is no grid.
    position: Vec<u32>,
}

impl ChunkId {
    /// The number of the chunk, from 0. In a grid the last axis runs fastest.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The position in the grid of chunks, one number for each axis.
    #[must_use]
    pub fn position(&self) -> Option<&[u32]> {
        (!self.position.is_empty()).then_some(&self.position[..])
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.position.is_empty() {
            return write!(f, "{} {}", if self.is_partition { "partition" } else { "chunk" }, self.number);
        }
        f.write_str("chunk (")?;
        for (i, at) in self.position.iter().enumerate() {
            write!(f, "{}{at}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

/// What the places of a list of chunks are called.
#[doc(hidden)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Places {
    #[default]
    Chunks,
    Partitions,
    /// The number of chunks along each axis.
    Grid(Arc<[u32]>),
}

impl Places {
    pub(crate) fn grid(shape: &[usize]) -> Self {
        // No axis has more chunks than there can be tasks.
        Self::Grid(shape.iter().map(|n| u32::try_from(*n).unwrap_or(u32::MAX)).collect())
    }

    /// The place of chunk number `number`.
    pub(crate) fn id(&self, number: u64) -> ChunkId {
        let mut position = Vec::new();
        if let Self::Grid(shape) = self {
            let mut left = number;
            position = vec![0; shape.len()];
            for (at, axis) in position.iter_mut().zip(shape.iter()).rev() {
                let axis = u64::from(*axis).max(1);
                (*at, left) = ((left % axis) as u32, left / axis);
            }
        }
        ChunkId { number, is_partition: matches!(self, Self::Partitions), position }
    }

    /// How many places there are, where that is fixed.
    pub(crate) fn len(&self) -> Option<u64> {
        match self {
            Self::Grid(shape) => Some(shape.iter().map(|n| u64::from(*n)).fold(1, u64::saturating_mul)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named() {
        assert_eq!(Places::Chunks.id(3).to_string(), "chunk 3");
        assert_eq!(Places::Partitions.id(3).to_string(), "partition 3");
        let grid = Places::Grid([2, 3, 4].into());
        assert_eq!(grid.id(23).to_string(), "chunk (1, 2, 3)");
        assert_eq!(grid.id(5).position(), Some(&[0, 1, 1][..]));
        assert_eq!(grid.len(), Some(24));
        assert_eq!(Places::Grid([7].into()).id(6).to_string(), "chunk (6)");
    }
}
