//! What can be wrong with a published result.

use serde::{Deserialize, Serialize};

/// A result cannot be published under a name, or not be had by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Nothing is published under that name.
    #[error("nothing is published as `{name}`")]
    Missing {
        /// The name.
        name: String,
    },
    /// Something is published under that name already. It stays.
    #[error("something is published as `{name}` already: unpublish it before, or take another name")]
    Taken {
        /// The name.
        name: String,
    },
    /// What is published under that name has another type.
    #[error("what is published as `{name}` is of type `{there}`, and not `{wanted}`")]
    WrongType {
        /// The name.
        name: String,
        /// The type that the caller takes it for.
        wanted: String,
        /// The type that it has.
        there: String,
    },
    /// Programs of another build have published something under that name on the same local cluster. Only they can use it,
    /// or unpublish it.
    #[error(
        "what is published as `{name}` is of programs of another build ({there}) than this one ({here}): only those can use it. \
         Take another name, or run the same executable with the same `worker_init` and `worker_exit`"
    )]
    OtherBuild {
        /// The name.
        name: String,
        /// The build of the caller's program.
        here: String,
        /// The build of the programs whose it is.
        there: String,
    },
}
