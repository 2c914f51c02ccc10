//! What can be wrong with a file, and where in it.

use crate::units::Compression;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Place {
    /// Path or URL of the file.
    pub path: String,
    /// Number of the line, from 1 on, where it is known: that of a block in the middle of a remote file is not.
    pub line: Option<u64>,
    /// Bytes of the file before the line or record; of its decompressed contents, if it is compressed.
    pub offset: Option<u64>,
}

impl Place {
    /// The file as a whole.
    pub(crate) fn file(path: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, offset: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " (byte {offset})")?;
        }
        Ok(())
    }
}

/// A file that cannot be read or written, or a record in it that makes no sense: where, and why.
///
/// It is the error of the tasks that read and write files, and [`TaskError::downcast`](crate::TaskError::downcast) gives it. A
/// function of your own that returns it is to [keep](crate::DelayedFn::keep_error) it for that.
///
/// ```
/// use swath::files::{FileError, FileProblem, Files};
/// use swath::{Client, try_delayed};
///
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("latin.txt");
/// std::fs::write(&path, b"one\ntw\xf6\n")?;
/// let blocks = Files::new(&path).blocks()?;
/// let lines = try_delayed(|block: swath::files::Block| {
///     let mut lines = block.lines()?;
///     let mut count = 0;
///     while lines.next_line()?.is_some() {
///         count += 1;
///     }
///     Ok::<u64, FileError>(count)
/// });
/// let error = lines.keep_error().call(blocks[0].clone()).compute(&Client::sync()).unwrap_err();
/// let error: FileError = error.task().unwrap().downcast().unwrap();
/// assert_eq!((error.place().line, error.place().offset), (Some(2), Some(4)));
/// assert!(matches!(error.problem(), FileProblem::NotText { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileError(Box<FileErrorInner>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileErrorInner {
    place: Place,
    problem: FileProblem,
}

impl FileError {
    pub(crate) fn new(place: Place, problem: FileProblem) -> Self {
        Self(Box::new(FileErrorInner { place, problem }))
    }

    /// The error of a whole file.
    pub(crate) fn of(path: impl Into<String>, problem: FileProblem) -> Self {
        Self::new(Place::file(path), problem)
    }

    pub(crate) fn io(path: impl Into<String>, error: io::Error) -> Self {
        Self::of(path, error.into())
    }

    /// Where.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &FileProblem {
        &self.0.problem
    }

    /// Whether it is about one line or record, behind which reading can go on.
    #[must_use]
    pub fn is_bad_record(&self) -> bool {
        matches!(self.0.problem, FileProblem::NotText { .. } | FileProblem::BadRecord { .. })
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.place, self.0.problem)
    }
}

impl fmt::Debug for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileError({self})")
    }
}

impl std::error::Error for FileError {}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// There is no such file, or nothing that matches.
    #[error("no such file")]
    NotFound,
    /// It may not be read or written.
    #[error("permission denied")]
    Denied,
    /// It is a directory.
    #[error("is a directory: name a file in it or, to read all of them, a pattern such as `{{directory}}/*`")]
    Directory,
    /// It was there already, and was not to be replaced.
    #[error("exists already")]
    Exists,
    /// It is a part of an earlier writing, and would be read with those that are written now.
    #[error(
        "is left of an earlier writing, and {written} files would be written beside it, to be read with it: remove it, \
         write elsewhere, or say `Output::replace_all`"
    )]
    OldParts {
        /// How many files would be written.
        written: usize,
    },
    /// It has changed since it was listed.
    #[error("has changed since it was listed: {}", changed(*listed, *found))]
    Changed {
        /// Its size in bytes when the blocks were made.
        listed: u64,
        /// Its size in bytes when it was read, or so many as there were to read.
        found: u64,
    },
    /// It is not what its compression says, or only the beginning of it.
    #[error("is not whole {compression} data: {reason}")]
    Corrupt {
        /// The compression.
        compression: Compression,
        /// What the decoder says.
        reason: String,
    },
    /// A line is not text in the encoding of the file.
    #[error("byte {at} of the line is not {encoding}")]
    NotText {
        /// Name of the encoding.
        encoding: String,
        /// Bytes of the line before the wrong one.
        at: u64,
    },
    /// A record is not what it should be.
    #[error("bad {format} record: {reason}")]
    BadRecord {
        /// Name of the format: `JSON`, `CSV`, …
        format: String,
        /// What is wrong.
        reason: String,
    },
    /// The names of the columns are not what they should be, so no record can be read.
    #[error("bad header: {reason}")]
    BadHeader {
        /// What is wrong.
        reason: String,
    },
    /// This build or place cannot do it.
    #[error("cannot be used: {reason}")]
    Unsupported {
        /// What, and what to do.
        reason: String,
    },
    /// The task was cancelled meanwhile.
    #[error("reading was cancelled")]
    Cancelled,
    /// The system or the server says no.
    #[error("{reason}")]
    Io {
        /// What it says.
        reason: String,
    },
}

fn changed(listed: u64, found: u64) -> String {
    match listed == found {
        true => "it has other contents".to_string(),
        false if listed < found => {
            format!(
                "it had {listed} bytes, now {found}; if something is being written to its end, say `Files::growing`"
            )
        }
        false => format!("it had {listed} bytes, now {found}"),
    }
}

impl FileProblem {
    pub(crate) fn unsupported(reason: impl Into<String>) -> Self {
        Self::Unsupported { reason: reason.into() }
    }
}

/// Readers are `io::Read`, so what they find out travels inside an `io::Error`.
impl From<FileProblem> for io::Error {
    fn from(problem: FileProblem) -> Self {
        io::Error::other(problem)
    }
}

impl From<io::Error> for FileProblem {
    fn from(error: io::Error) -> Self {
        if let Some(problem) = error.get_ref().and_then(|e| e.downcast_ref::<FileProblem>()) {
            return problem.clone();
        }
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::IsADirectory => Self::Directory,
            io::ErrorKind::AlreadyExists => Self::Exists,
            _ => Self::Io { reason: error.to_string() },
        }
    }
}

/// A record that was set aside: what is wrong with it, and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BadRecord {
    /// Where it is and what is wrong.
    pub error: FileError,
    /// The record as it stands in the file; what is not text shows as `U+FFFD`.
    pub text: String,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}
