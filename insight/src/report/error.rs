//! Why there is no report.

use crate::source::SourceError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why there is no report: which file, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The name ends in something else.
    #[error("cannot write a report to {}: its name has to end in .html", path.display())]
    Ending {
        /// Which file.
        path: PathBuf,
    },
    /// A directory has that name.
    #[error("cannot write a report to {}: it is a directory; name a file in it, as {}", path.display(), path.join("report.html").display())]
    Directory {
        /// Which.
        path: PathBuf,
    },
    /// A device, a pipe or a socket has that name.
    #[error("cannot write a report to {}: it is no regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// The file cannot be written. One that was there is as it was.
    #[error("cannot {action} the report {}: {source}", path.display())]
    Io {
        /// What was tried, as `write`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// What the report is about does not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
}
