//! Which files are read, and how.

use super::Compression;
use super::block::{Block, ReadSettings};
use super::encoding::Encoding;
use super::local;
use super::location::{Listed, ListedSize, Location};
use crate::error::file::{FileError, FileProblem};
use crate::error::{Error, Result};
use std::fmt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many URLs are looked up at a time.
const REQUESTS: usize = 16;

/// Files to read, and how.
///
/// Each path is that of a file, a pattern (`*`, `?`, `[a-z]`, and `**` for any directories; hidden files have to be named),
/// or a URL: `file:`, and with the feature `object-store` `s3://`, `gs://`, `az://`, `http://` and `https://`, of which all
/// but the last two may be patterns too. What matches a pattern is taken in the order of its names, several paths one
/// after the other.
///
/// Everything that reads files takes this, or a path, or a list of paths. The files are listed when it is used, by the
/// client; they are read by tasks. A file that has changed by then is an error (see also [`growing`](Self::growing)). What
/// says nothing true of its size, as the files of `/proc` and `/sys` do, is read to its end, and not split.
///
/// ```
/// use swath::files::Files;
/// # let dir = tempfile::tempdir()?;
/// # let logs = dir.path();
/// std::fs::write(logs.join("monday.log"), "one\ntwo\nthree\n")?;
/// std::fs::write(logs.join("sunday.log"), "four\n")?;
///
/// let whole = Files::new(logs.join("*.log")).blocks()?;
/// assert!(whole[0].path().ends_with("/monday.log"));
/// let parts = Files::new(["sunday.log", "monday.log"].map(|name| logs.join(name))).blocksize(7).blocks()?;
/// assert_eq!(parts.len(), 3);
/// assert!(Files::new(logs.join("*.txt")).blocks().is_err()); // there is none
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq)]
#[must_use = "it only says how; nothing is done with it yet"]
pub struct Files {
    paths: Vec<PathBuf>,
    blocksize: Option<u64>,
    files_per_partition: usize,
    compression: Option<Compression>,
    /// As the user wrote it; looked at when it is used.
    encoding: Option<String>,
    growing: bool,
    settings: ReadSettings,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the options: passwords are among them.
        write!(f, "Files({:?})", self.paths)
    }
}

impl Files {
    /// Files by a path, a pattern or URL, or a list of them.
    pub fn new(paths: impl Into<Files>) -> Self {
        paths.into()
    }

    fn of(paths: Vec<PathBuf>) -> Self {
        Self {
            paths,
            blocksize: None,
            files_per_partition: 1,
            compression: None,
            encoding: None,
            growing: false,
            settings: ReadSettings::default(),
        }
    }

    /// Splits each file into blocks of at most about so many bytes, which end at line ends; a task reads each. Without it,
    /// a task reads a whole file.
    ///
    /// Compressed files can't be split, nor files in UTF-16: for these it is an error.
    pub fn blocksize(mut self, bytes: u64) -> Self {
        self.blocksize = Some(bytes);
        self
    }

    /// Lets a task read so many files, one after the other: for many small ones. Default 1.
    pub fn files_per_partition(mut self, n: usize) -> Self {
        self.files_per_partition = n;
        self
    }

    /// How the files are compressed, if their names don't say it ([`Compression::of_name`]).
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// The encoding of the files, by a name such as `utf-8` (the default), `latin-1`, `utf-16` or `shift_jis`: those of the
    /// [Encoding Standard](https://encoding.spec.whatwg.org/#names-and-labels), where `latin-1` is `windows-1252`. A byte
    /// order mark is left out, and decides for `utf-16`.
    pub fn encoding(mut self, name: impl Into<String>) -> Self {
        self.encoding = Some(name.into());
        self
    }

    /// Reads what is not text in the encoding as `U+FFFD` (�). Otherwise it is an error.
    pub fn lossy(mut self) -> Self {
        self.settings.lossy = true;
        self
    }

    /// What ends a line, instead of `\n` or `\r\n`.
    pub fn delimiter(mut self, delimiter: impl Into<String>) -> Self {
        self.settings.delimiter = Some(delimiter.into());
        self
    }

    /// Leaves their ends on the lines.
    pub fn keep_line_ends(mut self) -> Self {
        self.settings.keep_ends = true;
        self
    }

    /// Says that something is being written to the end of the files, as to logs: each is read up to the size that it had when
    /// it was listed, and that it is larger by then is no error. That it is smaller, or another file, is one. The last line
    /// may be a part of what it will be.
    ///
    /// ```
    /// # use std::{fs::File, io::Write};
    /// # use swath::{Bag, Client, files::Files};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.log");
    /// let mut log = File::create(&path)?;
    /// writeln!(log, "one")?;
    /// let lines = Bag::read_text(Files::new(&path).growing())?;
    /// writeln!(log, "two")?;
    /// assert_eq!(lines.compute(&Client::sync())?, ["one"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn growing(mut self) -> Self {
        self.growing = true;
        self
    }

    /// Something for the object store: `region`, `endpoint`, `access_key_id`, `secret_access_key`, `allow_http`, … as in
    /// the [`object_store`](https://docs.rs/object_store/0.13) crate's configuration keys.
    ///
    /// Options travel to the workers with the tasks. Without any, each process looks at its usual environment variables
    /// (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`, …); an
    /// option goes before its variable.
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.options.insert(key.into(), value.into());
        self
    }

    /// The blocks of all files, in order.
    ///
    /// # Errors
    /// [`Error::File`] where a file or directory cannot be looked at, nothing matches a pattern, or a file cannot be split
    /// as asked; [`Error::Invalid`] for an unknown encoding, an empty delimiter or a blocksize of 0.
    pub fn blocks(&self) -> Result<Vec<Block>> {
        let settings = Arc::new(self.settings()?);
        let mut blocks = Vec::new();
        for file in self.list()? {
            self.split(file, &settings, &mut blocks)?;
        }
        Ok(blocks)
    }

    /// The blocks that each task reads: one, or the files of a partition.
    ///
    /// # Errors
    /// As [`blocks`](Self::blocks); and [`Error::Invalid`] where both blocksize and files per partition are given.
    pub(crate) fn partitions(&self) -> Result<Vec<Vec<Block>>> {
        match self.files_per_partition {
            0 => Err(Error::invalid("files_per_partition", "0; it is at least 1")),
            1 => Ok(self.blocks()?.into_iter().map(|block| vec![block]).collect()),
            _ if self.blocksize.is_some() => Err(Error::invalid(
                "files_per_partition",
                "files are either split into blocks or read several by a task",
            )),
            n => Ok(self.blocks()?.chunks(n).map(<[Block]>::to_vec).collect()),
        }
    }

    /// [`partitions`](Self::partitions) for a format with line ends of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] where other line ends are asked for; otherwise as [`partitions`](Self::partitions).
    pub(crate) fn csv_partitions(&self) -> Result<Vec<Vec<Block>>> {
        match self.settings.delimiter {
            Some(_) => {
                Err(Error::invalid("delimiter", "CSV records end with lines; between fields it is `Csv::delimiter`"))
            }
            None => self.partitions(),
        }
    }

    fn settings(&self) -> Result<ReadSettings> {
        let mut settings = self.settings.clone();
        if let Some(name) = &self.encoding {
            settings.encoding = Encoding::named(name)
                .ok_or_else(|| Error::invalid("encoding", format!("`{name}` is not known; one such is `utf-8`")))?;
        }
        if settings.delimiter.is_some() && !settings.encoding.is_self_synchronizing() {
            let name = settings.encoding.name();
            return Err(Error::invalid("delimiter", format!("in {name} it could be found within a character")));
        }
        if let Some(text) = settings.delimiter.as_deref().filter(|text| !settings.encoding.has(text)) {
            let name = settings.encoding.name();
            return Err(Error::invalid("delimiter", format!("{name} has no `{text}`")));
        }
        if settings.delimiter.as_deref() == Some("") {
            return Err(Error::invalid("delimiter", "empty; for whole files use `Block::bytes`"));
        }
        if self.blocksize == Some(0) {
            return Err(Error::invalid("blocksize", "0; it is at least 1"));
        }
        if self.blocksize.is_some() && settings.delimiter().overlaps_itself() {
            return Err(Error::invalid(
                "delimiter",
                format!(
                    "{:?} can begin within another one, so a file cannot be split there: leave out the blocksize",
                    settings.delimiter.unwrap_or_default()
                ),
            ));
        }
        Ok(settings)
    }

    fn list(&self) -> Result<Vec<Listed>> {
        if self.paths.is_empty() {
            return Err(Error::invalid("files", "the list of paths is empty"));
        }
        let parse = |path: &PathBuf| Location::parse(&local::name(path.clone())?);
        let locations = self.paths.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let list = |location: &Location| location.list(&self.settings.options);
        // Each of many URLs is a request: several at a time. The order stays.
        let mut files = Vec::new();
        for some in locations.chunks(REQUESTS) {
            let listed: Vec<_> = match some {
                [Location::Remote(_), _, ..] => std::thread::scope(|scope| {
                    let threads: Vec<_> = some.iter().map(|location| scope.spawn(move || list(location))).collect();
                    threads.into_iter().map(|thread| thread.join().unwrap_or_else(|e| resume_unwind(e))).collect()
                }),
                _ => some.iter().map(list).collect(),
            };
            for found in listed {
                files.extend(found?);
            }
        }
        for file in files.iter_mut().filter(|_| self.growing) {
            if let Location::Local(path) = file.location.clone() {
                local::grows(&path, file)?;
            }
        }
        Ok(files)
    }

    fn split(&self, file: Listed, settings: &Arc<ReadSettings>, blocks: &mut Vec<Block>) -> Result<()> {
        let name = file.location.to_string();
        let compression = self.compression.unwrap_or_else(|| Compression::of_name(&name));
        let unsplittable = |why: String| FileError::of(&name, FileProblem::unsupported(why));
        compression.check().map_err(|problem| FileError::of(&name, problem))?;
        let mut parts = 1;
        if let Some(blocksize) = self.blocksize {
            if compression != Compression::None {
                return Err(unsplittable(format!(
                    "it is compressed ({compression}), so it cannot be split: leave out the blocksize, or decompress it"
                ))
                .into());
            }
            if settings.encoding.unit() > 1 {
                let name = settings.encoding.name();
                return Err(unsplittable(format!("{name} cannot be split: leave out the blocksize")).into());
            }
            if file.size_is != ListedSize::Unknown {
                parts = file.size.div_ceil(blocksize).max(1);
            }
        }
        // All of about the same size, lest the last one be tiny.
        let cut = |i: u64| (u128::from(file.size) * u128::from(i) / u128::from(parts)) as u64;
        blocks.extend((0..parts).map(|i| Block {
            file: file.clone(),
            compression,
            start: cut(i),
            end: cut(i + 1),
            settings: Arc::clone(settings),
        }));
        Ok(())
    }
}

macro_rules! from_one {
    ($($type:ty)*) => {$(
        impl From<$type> for Files {
            fn from(path: $type) -> Self {
                Self::of(vec![path.into()])
            }
        }
    )*};
}

from_one!(&str &String String &Path &PathBuf PathBuf);

impl<P: Into<PathBuf>> From<Vec<P>> for Files {
    fn from(paths: Vec<P>) -> Self {
        Self::of(paths.into_iter().map(Into::into).collect())
    }
}

impl<P: AsRef<Path>> From<&[P]> for Files {
    fn from(paths: &[P]) -> Self {
        Self::of(paths.iter().map(|p| p.as_ref().to_path_buf()).collect())
    }
}

impl<P: AsRef<Path>> From<&Vec<P>> for Files {
    fn from(paths: &Vec<P>) -> Self {
        Self::from(&paths[..])
    }
}

impl<P: Into<PathBuf>, const N: usize> From<[P; N]> for Files {
    fn from(paths: [P; N]) -> Self {
        Self::of(paths.into_iter().map(Into::into).collect())
    }
}

impl From<&Files> for Files {
    fn from(files: &Files) -> Self {
        files.clone()
    }
}
