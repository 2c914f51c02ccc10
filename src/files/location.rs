//! Where a file is, as people write it.

#[cfg(feature = "object-store")]
use super::object;
use super::{local, replace};
use crate::error::file::{FileError, FileProblem};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;

/// What an object store is told: credentials, endpoint, region, …
pub(super) type StoreOptions = BTreeMap<String, String>;

/// One file, or a pattern of some.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Location {
    /// An absolute path.
    Local(String),
    /// A URL.
    Remote(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(name) | Self::Remote(name) => f.write_str(name),
        }
    }
}

/// A file as it was when it was listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) location: Location,
    pub(super) size: u64,
    pub(super) size_is: ListedSize,
    /// Tells this version of the contents from others: what an object store calls it, or when it was written.
    pub(super) tag: Option<String>,
}

/// What the size of a listed file says of how much there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ListedSize {
    /// All of it, and what has another size has changed.
    Exact,
    /// That much is read, even if there is more by then.
    AtLeast,
    /// Nothing: it is read to its end.
    Unknown,
}

/// A file that is being written. Nothing is there under its name before it is finished, and nothing is left of it if
/// it is dropped before; but what is no ordinary file (a device, a pipe) is written at once.
pub(super) trait Sink: Write + Send {
    fn finish(self: Box<Self>) -> io::Result<()>;
}

const REMOTE: [&str; 10] = ["s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "http", "https"];

impl Location {
    /// Takes a path, relative to the current directory or with `~`, or a URL.
    pub(super) fn parse(text: &str) -> Result<Self, FileError> {
        if text.is_empty() {
            return Err(FileError::of(text, FileProblem::unsupported("the path is empty")));
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//")).unwrap_or(path);
            let path = percent_decode_str(path).decode_utf8();
            return Self::local(
                &path.map_err(|_| FileError::of(text, FileProblem::unsupported("the URL is not UTF-8 text")))?,
            );
        }
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return Self::local(text);
        };
        let scheme = scheme.to_ascii_lowercase();
        let unsupported = |reason: String| Err(FileError::of(text, FileProblem::unsupported(reason)));
        if !REMOTE.contains(&&*scheme) {
            return unsupported(format!("`{scheme}` is none of the places files can be: file, {}", REMOTE.join(", ")));
        }
        if cfg!(not(feature = "object-store")) {
            return unsupported(format!("`{scheme}://` needs swath's feature `object-store`"));
        }
        let scheme = if scheme == "gcs" { "gs" } else { &scheme };
        Ok(Self::Remote(format!("{scheme}://{rest}")))
    }

    fn local(path: &str) -> Result<Self, FileError> {
        let failed = |e| FileError::io(path, e);
        let path = match (path.strip_prefix("~/"), std::env::home_dir()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => path.into(),
        };
        // Workers of a local cluster may live in another directory.
        let path = std::path::absolute(path).map_err(failed)?;
        local::name(path).map(Self::Local)
    }

    /// The files it stands for: itself, or what matches the pattern, in the order of their names.
    pub(super) fn list(&self, options: &StoreOptions) -> Result<Vec<Listed>, FileError> {
        let found = match self {
            Self::Local(pattern) => local::list(pattern)?,
            #[cfg(feature = "object-store")]
            Self::Remote(url) => object::list(url, options)?,
            #[cfg(not(feature = "object-store"))]
            Self::Remote(_) => {
                let _ = options;
                Vec::new()
            }
        };
        match found.is_empty() {
            true => Err(FileError::of(self.to_string(), FileProblem::NotFound)),
            false => Ok(found),
        }
    }

    /// What is there and matches the pattern.
    pub(super) fn names(&self, options: &StoreOptions) -> Result<Vec<Location>, FileError> {
        match self {
            Self::Local(pattern) => Ok(local::names(pattern)?.into_iter().map(Self::Local).collect()),
            Self::Remote(_) => match self.list(options) {
                Ok(found) => Ok(found.into_iter().map(|listed| listed.location).collect()),
                Err(e) if *e.problem() == FileProblem::NotFound => Ok(Vec::new()),
                Err(e) => Err(e),
            },
        }
    }

    /// What two paths have in common that lead to one file of this machine.
    pub(super) fn file_id(&self) -> Option<(u64, u64)> {
        match self {
            Self::Local(path) => local::file_id(Path::new(path)),
            Self::Remote(_) => None,
        }
    }

    /// Removes the file.
    pub(super) fn remove(&self, options: &StoreOptions) -> io::Result<()> {
        match self {
            Self::Local(path) => std::fs::remove_file(path),
            #[cfg(feature = "object-store")]
            Self::Remote(url) => object::remove(url, options),
            #[cfg(not(feature = "object-store"))]
            Self::Remote(_) => {
                let _ = options;
                Err(FileProblem::NotFound.into())
            }
        }
    }

    /// Whether there is a file.
    pub(super) fn exists(&self, options: &StoreOptions) -> Result<bool, FileError> {
        let found = match self {
            Self::Local(path) => return Ok(std::fs::symlink_metadata(path).is_ok()),
            #[cfg(feature = "object-store")]
            Self::Remote(url) => object::list(url, options).map(drop),
            #[cfg(not(feature = "object-store"))]
            Self::Remote(_) => self.list(options).map(drop),
        };
        match found {
            Ok(()) => Ok(true),
            Err(e) if *e.problem() == FileProblem::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Creates the file, with its parent directories, or replaces it.
    pub(super) fn create(&self, options: &StoreOptions) -> io::Result<Box<dyn Sink>> {
        match self {
            Self::Local(path) => {
                std::fs::create_dir_all(replace::directory(Path::new(path)))?;
                Ok(Box::new(replace::LocalOutput::create(Path::new(path))?))
            }
            #[cfg(feature = "object-store")]
            Self::Remote(url) => Ok(Box::new(object::Upload::create(url, options)?)),
            #[cfg(not(feature = "object-store"))]
            Self::Remote(_) => {
                let _ = options;
                Err(FileProblem::NotFound.into())
            }
        }
    }
}

impl Listed {
    /// Opens the file at a byte. `wanted` is where the reader will probably stop. Fails if it is not what was listed.
    pub(super) fn open(&self, from: u64, wanted: u64, options: &StoreOptions) -> io::Result<Box<dyn Read + Send>> {
        let data: Box<dyn Read + Send> = match &self.location {
            Location::Local(path) => Box::new(local::open(path, from, self)?),
            #[cfg(feature = "object-store")]
            Location::Remote(url) => Box::new(object::Download::open(url, self, from..wanted, options)?),
            #[cfg(not(feature = "object-store"))]
            Location::Remote(_) => {
                let _ = (wanted, options);
                return Err(FileProblem::NotFound.into());
            }
        };
        if self.size_is == ListedSize::Unknown {
            return Ok(data);
        }
        Ok(Box::new(Exactly { data, size: self.size, left: self.size.saturating_sub(from) }))
    }
}

/// Data of known length.
struct Exactly {
    data: Box<dyn Read + Send>,
    size: u64,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let got = self.data.read(&mut buf[..most])?;
        if got == 0 {
            return Err(FileProblem::Changed { listed: self.size, found: self.size - self.left }.into());
        }
        self.left -= got as u64;
        Ok(got)
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Location::parse(text).map_or_else(|e| e.to_string(), |l| l.to_string())
    }

    #[test]
    fn paths_and_urls() {
        assert_eq!(parsed("/a/b.txt"), "/a/b.txt");
        assert_eq!(parsed("file:/a/b"), "/a/b");
        assert_eq!(parsed("file:///a/100%25 b"), "/a/100% b");
        assert_eq!(parsed("file://localhost/a"), "/a");
        assert!(parsed("b.txt").ends_with("/b.txt") && parsed("b.txt").starts_with('/'));
        assert!(parsed("ftp://a/b").contains("`ftp` is none of"));
        assert!(parsed("a:b://c").ends_with("/a:b:/c"), "no scheme, so a path");
        assert!(parsed("").contains("empty"));
        #[cfg(feature = "object-store")]
        assert_eq!(parsed("GCS://bucket/Key"), "gs://bucket/Key");
        #[cfg(not(feature = "object-store"))]
        assert!(parsed("s3://bucket/key").contains("feature `object-store`"));
    }
}
