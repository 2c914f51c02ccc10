//! Files of this machine.

use super::error::{FileError, FileProblem};
use super::location::{Listed, Location, MATCHING, Sink, is_pattern};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A path as text. One that is not UTF-8 could not be written in an error, nor sent to a worker.
pub(super) fn name(path: PathBuf) -> Result<String, FileError> {
    path.into_os_string().into_string().map_err(|path| {
        FileError::of(path.to_string_lossy(), FileProblem::unsupported("the name of the file is not UTF-8 text"))
    })
}

pub(super) fn list(pattern: &str) -> Result<Vec<Listed>, FileError> {
    // A file may have a name that looks like a pattern.
    if !is_pattern(pattern) || Path::new(pattern).is_file() {
        return Ok(vec![look(pattern.to_string())?.ok_or_else(|| FileError::of(pattern, FileProblem::Directory))?]);
    }
    let paths = glob::glob_with(pattern, MATCHING)
        .map_err(|e| FileError::of(pattern, FileProblem::unsupported(format!("the pattern is wrong: {e}"))))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.map_err(|e| FileError::io(e.path().to_string_lossy().into_owned(), e.into()))?;
        found.extend(look(name(path)?)?);
    }
    found.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(found)
}

/// What is there; `None` for a directory.
fn look(path: String) -> Result<Option<Listed>, FileError> {
    let metadata = fs::metadata(&path).map_err(|e| FileError::io(&path, e))?;
    let listed = Listed { size: metadata.len(), tag: tag(&metadata), location: Location::Local(path) };
    Ok((!metadata.is_dir()).then_some(listed))
}

/// Tells one version of the contents from another: when they were written.
fn tag(metadata: &Metadata) -> Option<String> {
    Some(format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec()))
}

pub(super) fn open(path: &str, from: u64, listed: &Listed) -> io::Result<File> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() != listed.size || tag(&metadata) != listed.tag {
        return Err(FileProblem::Changed { listed: listed.size, found: metadata.len() }.into());
    }
    if from > 0 {
        file.seek(SeekFrom::Start(from))?;
    }
    Ok(file)
}

/// A file with a hidden name beside its later one, which it gets at the end.
pub(super) struct TemporaryFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl TemporaryFile {
    pub(super) fn create(path: &str) -> io::Result<Self> {
        let path = PathBuf::from(path);
        if path.is_dir() {
            return Err(FileProblem::Directory.into());
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        // As for any new file; the process's mask is taken from it.
        let permissions = Permissions::from_mode(0o666);
        let file = tempfile::Builder::new().prefix(".swath-").permissions(permissions).tempfile_in(directory)?;
        Ok(Self { file, path })
    }
}

impl Write for TemporaryFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

impl Sink for TemporaryFile {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.file.persist(&self.path).map(drop).map_err(|e| e.error)
    }
}
