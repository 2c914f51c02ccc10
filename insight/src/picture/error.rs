//! Why there is no picture.

use super::text::grouped;
use super::{MOST_EDGES, MOST_TASKS};
use std::fmt;
use std::path::PathBuf;

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PictureError {
    /// There are too many tasks to be drawn one by one, as was asked for.
    TooLarge {
        /// How many tasks there are.
        tasks: u64,
        /// How often they use each other.
        edges: u64,
    },
    /// The ending of the file's name is none that a picture can have.
    Ending {
        /// The file.
        path: PathBuf,
    },
    /// This kind of picture is a feature that the program was built without.
    Feature {
        /// The file.
        path: PathBuf,
        /// The feature.
        feature: &'static str,
    },
    /// The picture cannot be an image of pixels.
    Png {
        /// Why.
        reason: String,
    },
    /// Graphviz was to lay out the picture, and did not.
    Graphviz {
        /// What happened.
        reason: String,
    },
}

impl fmt::Display for PictureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { tasks, edges } => write!(
                f,
                "a picture of {} tasks with {} edges one by one could not be read: there can be {} tasks and {} edges; \
                 leave `Overview::Never` out for an overview by name",
                grouped(*tasks),
                grouped(*edges),
                grouped(MOST_TASKS),
                grouped(MOST_EDGES)
            ),
            Self::Ending { path } => write!(
                f,
                "cannot tell what kind of picture `{}` is to be: its name has to end in .svg, .html, .dot or .png",
                path.display()
            ),
            Self::Feature { path, feature } => write!(
                f,
                "no picture `{}` without the feature `{feature}` of the crate `swath`; .svg, .html and .dot need none",
                path.display()
            ),
            Self::Png { reason } => write!(f, "the picture cannot be a PNG: {reason}"),
            Self::Graphviz { reason } => {
                write!(
                    f,
                    "Graphviz cannot lay out the picture: {reason}; the layout of swath's own needs no other program"
                )
            }
        }
    }
}

impl std::error::Error for PictureError {}
