//! What can be wrong with the elements of a bag.

use crate::collection::ShuffleError;
use crate::collection::shuffle::store::remedy;
use serde::{Deserialize, Serialize};

/// Why a step of a bag fails by itself, not by the user's function. Comes back typed from
/// [`TaskError::downcast`](crate::TaskError::downcast).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BagError {
    /// An element has nothing under the key that was asked for.
    #[error("there is no {key} in the element; `pluck_or` gives such elements a default")]
    NoSuchKey {
        /// The key, as its `Debug` writes it.
        key: String,
    },
    /// Partitions were to be read side by side, and one ended before the others.
    #[error("the partitions of zipped bags must be equally long, and the {shorter} one ends first")]
    Uneven {
        /// Which: `left` or `right`; of three bags `first`, `second` or `third`; of any number `1st`, `2nd` and so on.
        shorter: String,
    },
    /// More elements were to be drawn than there are.
    #[error("{wanted} element(s) were to be drawn, and the bag has {found}")]
    TooFew {
        /// How many were to be drawn.
        wanted: u64,
        /// How many there are.
        found: u64,
    },
    /// Elements could not be written to disk, to be grouped.
    #[error("elements cannot be kept in {directory} while they are grouped: {reason}; {}", remedy(.setting))]
    Spool {
        /// The spill directory, where one was set; else that for temporary files.
        directory: String,
        /// What the system or the elements' `Serialize` says.
        reason: String,
        /// The setting that changes this: `TMPDIR`, `spill_directory` or `spill_limit`.
        setting: String,
    },
    /// Elements that were written to disk could not be read back.
    #[error("elements that were kept on disk cannot be read back: {reason}")]
    Unspool {
        /// What the system or the elements' `Deserialize` says.
        reason: String,
    },
}

impl From<ShuffleError> for BagError {
    fn from(error: ShuffleError) -> Self {
        match error {
            ShuffleError::Write { directory, reason, setting } => Self::Spool { directory, reason, setting },
            ShuffleError::Read { reason } => Self::Unspool { reason },
        }
    }
}
