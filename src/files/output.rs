//! Where results are written, and how.

use super::Compression;
use super::codec::Encoder;
use super::location::{Location, Sink, StoreOptions};
use crate::error::file::{FileError, FileProblem};
use crate::error::{Error, Result};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files to write: one for each partition.
///
/// Made from a path or URL with a `*`, which becomes the number of the partition with leading zeros; from a directory,
/// which means `directory/*.part`; or from a list of paths, one for each partition.
///
/// A file appears under its name when all of it has been written; before, it is a file without a name in the same
/// directory, or an upload that the object store does not show. A file that was there is replaced then. If writing fails
/// nothing is left. If the process is killed, an upload in parts waits to be removed by the rules of its store, and a hidden
/// file (`.swath-…`) may stay: where that happens just before the file gets its name, or at any time on a file system that
/// knows no files without a name. Missing directories are made.
///
/// ```
/// use swath::files::{Compression, Output};
/// let months = ["jan", "feb"];
/// let output = Output::new("reports/*.json.gz").names(move |i| months[i].to_string());
/// let files = output.files(2)?;
/// assert!(files[1].path().ends_with("/reports/feb.json.gz"));
/// assert_eq!(files[1].compression(), Compression::Gzip);
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone)]
pub struct Output {
    target: Target,
    names: Option<Arc<dyn Fn(usize) -> String + Send + Sync>>,
    compression: Option<Compression>,
    only_new: bool,
    options: StoreOptions,
}

#[derive(Clone, Debug)]
enum Target {
    Pattern(PathBuf),
    Paths(Vec<PathBuf>),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({:?})", self.target)
    }
}

impl Output {
    /// Files by a pattern, a directory or a list of paths.
    pub fn new(target: impl Into<Output>) -> Self {
        target.into()
    }

    fn of(target: Target) -> Self {
        Self { target, names: None, compression: None, only_new: false, options: StoreOptions::new() }
    }

    /// What the `*` becomes for each partition, from 0 on. Called by the client. Names in the order of their partitions
    /// sort such that reading the files gives the same order.
    pub fn names(mut self, name: impl Fn(usize) -> String + Send + Sync + 'static) -> Self {
        self.names = Some(Arc::new(name));
        self
    }

    /// How to compress, if the names don't say it ([`Compression::of_name`]).
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Refuses if one of the files is there when the writing is described, instead of replacing it.
    pub fn only_new(mut self) -> Self {
        self.only_new = true;
        self
    }

    /// Something for the object store, as [`Files::option`](super::Files::option).
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }

    /// The files of `n` partitions, as arguments for the tasks that write them.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there are not as many paths as partitions, two partitions have the same name, or the
    /// pattern has more than one `*`; [`Error::File`] for an unknown kind of URL, or where
    /// [`only_new`](Self::only_new) meets a file.
    pub fn files(&self, n: usize) -> Result<Vec<OutputFile>> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let options = Arc::new(self.options.clone());
        let mut known = FxHashSet::default();
        let mut files = Vec::with_capacity(n);
        for path in self.paths(n)? {
            let location = Location::parse(&path)?;
            if !known.insert(location.clone()) {
                return Err(Error::invalid("output", format!("two partitions would be written to {location}")));
            }
            let compression = self.compression.unwrap_or_else(|| Compression::of_name(&path));
            compression.check().map_err(|problem| FileError::of(&path, problem))?;
            if self.only_new && location.exists(&self.options)? {
                return Err(FileError::of(location.to_string(), FileProblem::Exists).into());
            }
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            files.push(OutputFile { location, compression, options: Arc::clone(&options), serial });
        }
        Ok(files)
    }

    fn paths(&self, n: usize) -> Result<Vec<String>> {
        let text = |path: &Path| {
            let path = path.to_str().map(String::from);
            path.ok_or_else(|| Error::invalid("output", "the path is not UTF-8 text"))
        };
        let pattern = match &self.target {
            Target::Paths(paths) if paths.len() == n => return paths.iter().map(|p| text(p)).collect(),
            Target::Paths(paths) => {
                let why = format!("{} paths for {n} partitions", paths.len());
                return Err(Error::invalid("output", why));
            }
            Target::Pattern(pattern) => text(pattern)?,
        };
        let pattern = match pattern.matches('*').count() {
            0 => format!("{}/*.part", pattern.trim_end_matches('/')),
            1 => pattern,
            _ => return Err(Error::invalid("output", format!("`{pattern}` has more than one `*`"))),
        };
        let digits = n.saturating_sub(1).to_string().len();
        let name = |i| match &self.names {
            Some(name) => name(i),
            None => format!("{i:0digits$}"),
        };
        Ok((0..n).map(|i| pattern.replacen('*', &name(i), 1)).collect())
    }
}

impl From<&str> for Output {
    fn from(pattern: &str) -> Self {
        Self::of(Target::Pattern(pattern.into()))
    }
}

impl From<String> for Output {
    fn from(pattern: String) -> Self {
        Self::of(Target::Pattern(pattern.into()))
    }
}

impl From<&Path> for Output {
    fn from(pattern: &Path) -> Self {
        Self::of(Target::Pattern(pattern.into()))
    }
}

impl From<PathBuf> for Output {
    fn from(pattern: PathBuf) -> Self {
        Self::of(Target::Pattern(pattern))
    }
}

impl<P: Into<PathBuf>> From<Vec<P>> for Output {
    fn from(paths: Vec<P>) -> Self {
        Self::of(Target::Paths(paths.into_iter().map(Into::into).collect()))
    }
}

impl<P: Into<PathBuf>, const N: usize> From<[P; N]> for Output {
    fn from(paths: [P; N]) -> Self {
        Self::of(Target::Paths(paths.into_iter().map(Into::into).collect()))
    }
}

/// One file to write: a small description, so it can be the argument of a task.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputFile {
    location: Location,
    compression: Compression,
    options: Arc<StoreOptions>,
    /// No two are equal, lest a task that writes be taken for one that has written the same before.
    serial: u64,
}

impl fmt::Debug for OutputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutputFile({})", self.location)
    }
}

impl OutputFile {
    /// Absolute path or URL.
    pub fn path(&self) -> String {
        self.location.to_string()
    }

    /// How it will be compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Writes the file: all of it, or nothing.
    ///
    /// ```
    /// use std::io::Write;
    /// # let dir = tempfile::tempdir()?;
    /// # let folder = dir.path().display();
    /// let file = &swath::files::Output::new(format!("{folder}/new/*.txt")).files(1)?[0];
    /// file.write(|out| writeln!(out, "a line"))?;
    /// assert_eq!(std::fs::read_to_string(dir.path().join("new/0.txt"))?, "a line\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Where the file cannot be written, or `write` fails.
    pub fn write(&self, write: impl FnOnce(&mut Writer) -> io::Result<()>) -> Result<(), FileError> {
        self.try_write(write).map_err(|e| FileError::io(self.path(), e))
    }

    fn try_write(&self, write: impl FnOnce(&mut Writer) -> io::Result<()>) -> io::Result<()> {
        let sink = self.location.create(&self.options)?;
        let mut writer = Writer(BufWriter::with_capacity(64 << 10, self.compression.encoder(sink)?));
        write(&mut writer)?;
        let encoder = writer.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        encoder.finish()?.finish()
    }
}

/// What [`OutputFile::write`] writes to. Buffered; compresses.
pub struct Writer(BufWriter<Encoder<Box<dyn Sink>>>);

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl Write for Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
