//! The sources of a crate: the files under `src/` with their texts, read from a directory or made up in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A file's text, or why it could not be read.
pub type Text = Result<String, String>;

/// All sources of a crate by their path under `src/`, with `/` between the parts.
#[derive(Default)]
pub struct SourceTree {
    files: BTreeMap<String, Text>,
}

impl SourceTree {
    /// Reads all `.rs` files under `directory`. A file or directory that cannot be read is an entry too.
    pub fn read(directory: &Path) -> Self {
        let mut tree = Self::default();
        tree.read_directory(directory, "");
        tree
    }

    /// A made-up tree of (path, text).
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|&(path, text)| (path.to_owned(), Ok(text.to_owned()))).collect() }
    }

    /// Replaces the text of `path` with an error.
    pub fn with_unreadable(mut self, path: &str, reason: &str) -> Self {
        self.files.insert(path.to_owned(), Err(reason.to_owned()));
        self
    }

    pub fn get(&self, path: &str) -> Option<&Text> {
        self.files.get(path)
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) {
        let entries = match fs::read_dir(directory).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => entries,
            Err(error) => {
                self.files.insert(prefix.to_owned(), Err(error.to_string()));
                return;
            }
        };
        for entry in entries {
            let path = join(prefix, &entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                self.read_directory(&entry.path(), &path);
            } else if path.ends_with(".rs") {
                self.files.insert(path, fs::read_to_string(entry.path()).map_err(|error| error.to_string()));
            }
        }
    }
}

/// Joins two relative paths; `.` and `..` in the second are resolved.
pub fn join(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// The directory of a file.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}
