//! Why a log cannot be written or read.

use std::io;
use std::path::PathBuf;

/// Why a log cannot be written or read: which file, where in it, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file cannot be created, opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as `open`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A directory, a device, a pipe or a socket.
    #[error("{} is no regular file: name a file for the log", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Another recording writes to it.
    #[error("{} is being recorded by another program, or by another client of this one: name another file", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is no saved log of swath: {reason}", path.display())]
    NotALog {
        /// Which file.
        path: PathBuf,
        /// What it begins with.
        reason: String,
    },
    /// The file was written by a newer version.
    #[error("{} has format {format}, and this version reads formats 1 to {}: open it with swath {version} or newer", path.display(), super::FORMAT)]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The version that wrote it.
        version: String,
    },
    /// A part of the file is not what was written. What is outside it can be read.
    #[error("{}: the {part} at byte {offset} cannot be read: {reason}; all others can", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is there.
        part: String,
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A line of a log of format 1 is no event.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}
