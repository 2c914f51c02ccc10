//! Where results are written, and how.

use super::Compression;
use super::codec::Encoder;
use super::location::{Location, Sink, StoreOptions};
use super::pattern::escape;
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
/// directory, or an upload that the object store does not show. A file that was there is replaced then: its mode stays, its
/// owner where the system lets it, and one that could not be opened for writing is refused. Links are followed to their
/// end; a file that has several names gets the new contents under all of them. If writing fails nothing is left. If the process is killed, an upload in parts waits to be removed by the rules of its store, and a hidden
/// file (`.swath-…`) may stay: where that happens just before the file gets its name, or at any time on a file system that
/// knows no files without a name. Missing directories are made.
///
/// A device, a pipe or a socket is not replaced but written through, while the elements come: so what fails may have written
/// a part, and a task that runs again writes again. Writing to a pipe waits for somebody who reads it.
///
/// Where numbered files of more partitions are there already, writing fewer would leave some of them among the new ones, to
/// be read with them. That is refused; [`replace_all`](Self::replace_all) removes them.
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
#[must_use = "it only says how; nothing is done with it yet"]
pub struct Output {
    target: Target,
    names: Option<Arc<dyn Fn(usize) -> String + Send + Sync>>,
    compression: Option<Compression>,
    only_new: bool,
    replace_all: bool,
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
        Self {
            target,
            names: None,
            compression: None,
            only_new: false,
            replace_all: false,
            options: StoreOptions::new(),
        }
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

    /// Removes the files that match the pattern and are not written, once all others have been: numbered ones, or where there
    /// are [`names`](Self::names), any. `write_text` and `write_json` do so; who writes [`files`](Self::files) in tasks of
    /// their own finds them in [`old_parts`](Self::old_parts).
    ///
    /// ```
    /// # use swath::{Bag, Client, files::Output};
    /// # let dir = tempfile::tempdir()?;
    /// # let folder = dir.path();
    /// let client = Client::sync();
    /// Bag::range(0..100, 6).map(|i| i.to_string()).write_text(folder)?.compute(&client)?;
    /// let fewer = Bag::range(0..50, 3).map(|i| i.to_string());
    /// assert!(fewer.write_text(folder).is_err()); // 3.part, 4.part and 5.part would stay
    /// fewer.write_text(Output::new(folder).replace_all())?.compute(&client)?;
    /// assert_eq!(Bag::read_text(folder.join("*.part"))?.count().compute(&client)?, 50);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replace_all(mut self) -> Self {
        self.replace_all = true;
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
    /// pattern has more than one `*`; [`Error::File`] for an unknown kind of URL, where
    /// [`only_new`](Self::only_new) meets a file, or with [`FileProblem::OldParts`] where numbered files would be left of
    /// another writing and [`replace_all`](Self::replace_all) was not said.
    pub fn files(&self, n: usize) -> Result<Vec<OutputFile>> {
        let files = self.describe(self.paths(n)?)?;
        for file in files.iter().filter(|_| self.only_new) {
            if file.location.exists(&self.options)? {
                return Err(FileError::of(file.path(), FileProblem::Exists).into());
            }
        }
        if !self.replace_all
            && self.names.is_none()
            && let Some(old) = self.old_parts_beside(&files)?.first()
        {
            return Err(FileError::of(old.path(), FileProblem::OldParts { written: n }).into());
        }
        Ok(files)
    }

    /// What [`replace_all`](Self::replace_all) removes where `n` partitions are written: the files that are there now and
    /// are not among those. Without `replace_all`, nothing.
    ///
    /// # Errors
    /// As [`files`](Self::files), and [`Error::File`] where a directory cannot be read.
    pub fn old_parts(&self, n: usize) -> Result<Vec<OutputFile>> {
        match self.replace_all {
            true => self.old_parts_beside(&self.describe(self.paths(n)?)?),
            false => Ok(Vec::new()),
        }
    }

    fn old_parts_beside(&self, files: &[OutputFile]) -> Result<Vec<OutputFile>> {
        let Target::Pattern(pattern) = &self.target else { return Ok(Vec::new()) };
        let location = Location::parse(&starred(pattern)?)?;
        let whole = location.to_string();
        // A web server lists nothing.
        let is_web = matches!(location, Location::Remote(_)) && whole.starts_with("http");
        let Some((before, after)) = whole.rsplit_once('*').filter(|_| !is_web) else { return Ok(Vec::new()) };
        let pattern = Location::parse(&format!("{}*{}", escape(before), escape(after)))?;
        let found = match pattern.names(&self.options) {
            Ok(found) => found,
            // Who may write there need not be able to list what is there; and what else is wrong writing will tell.
            Err(e) if !self.replace_all => {
                log::warn!("whether old parts will stay beside those that are written is not known: {e}");
                return Ok(Vec::new());
            }
            Err(e) => return Err(e.into()),
        };
        let written: FxHashSet<&Location> = files.iter().map(|file| &file.location).collect();
        let is_part = |location: &Location| {
            let path = location.to_string();
            let name = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).unwrap_or_default();
            self.names.is_some() || !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
        };
        let old = found.into_iter().filter(|location| !written.contains(location) && is_part(location));
        old.map(|location| self.file(location).map_err(Into::into)).collect()
    }

    fn describe(&self, paths: Vec<String>) -> Result<Vec<OutputFile>> {
        let (mut known, mut known_files) = (FxHashSet::default(), FxHashSet::default());
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let location = Location::parse(&path)?;
            // Also by two names of one file.
            let is_known = location.file_id().is_some_and(|id| !known_files.insert(id));
            if !known.insert(location.clone()) || is_known {
                return Err(Error::invalid("output", format!("two partitions would be written to {location}")));
            }
            files.push(self.file(location)?);
        }
        Ok(files)
    }

    fn file(&self, location: Location) -> Result<OutputFile, FileError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let path = location.to_string();
        let compression = self.compression.unwrap_or_else(|| Compression::of_name(&path));
        compression.check().map_err(|problem| FileError::of(path, problem))?;
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Ok(OutputFile { location, compression, options: Arc::new(self.options.clone()), serial })
    }

    fn paths(&self, n: usize) -> Result<Vec<String>> {
        let pattern = match &self.target {
            Target::Paths(paths) if paths.len() == n => return paths.iter().map(|path| text(path)).collect(),
            Target::Paths(paths) => {
                let why = format!("{} paths for {n} partitions", paths.len());
                return Err(Error::invalid("output", why));
            }
            Target::Pattern(pattern) => starred(pattern)?,
        };
        let digits = n.saturating_sub(1).to_string().len();
        let name = |i| match &self.names {
            Some(name) => name(i),
            None => format!("{i:0digits$}"),
        };
        Ok((0..n).map(|i| pattern.replacen('*', &name(i), 1)).collect())
    }
}

/// What the paths are made of, with one `*`.
fn starred(pattern: &Path) -> Result<String> {
    let pattern = text(pattern)?;
    match pattern.matches('*').count() {
        0 => Ok(format!("{}/*.part", pattern.trim_end_matches('/'))),
        1 => Ok(pattern),
        _ => Err(Error::invalid("output", format!("`{pattern}` has more than one `*`"))),
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(String::from).ok_or_else(|| Error::invalid("output", "the path is not UTF-8 text"))
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
    #[must_use]
    pub fn path(&self) -> String {
        self.location.to_string()
    }

    /// How it will be compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Removes the file, if there is one.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn remove(&self) -> Result<(), FileError> {
        match self.location.remove(&self.options).map_err(FileProblem::from) {
            Ok(()) | Err(FileProblem::NotFound) => Ok(()),
            Err(problem) => Err(FileError::of(self.path(), problem)),
        }
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
