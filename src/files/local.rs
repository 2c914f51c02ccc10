//! Files of this machine.

use super::location::{Listed, Location, Sink};
use super::pattern::{Pattern, PatternPart, is_pattern};
use crate::error::file::{FileError, FileProblem};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::linkat;
use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File, Metadata, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A path as text. One that is not UTF-8 could not be written in an error, nor sent to a worker.
pub(super) fn name(path: PathBuf) -> Result<String, FileError> {
    path.into_os_string().into_string().map_err(|path| {
        FileError::of(path.to_string_lossy(), FileProblem::unsupported("the name of the file is not UTF-8 text"))
    })
}

pub(super) fn list(path: &str) -> Result<Vec<Listed>, FileError> {
    // A file may have a name that looks like a pattern.
    if !is_pattern(path) || Path::new(path).is_file() {
        return Ok(vec![stat(path.to_string())?.ok_or_else(|| FileError::of(path, FileProblem::Directory))?]);
    }
    let pattern = Pattern::new(path.trim_start_matches('/')).map_err(|problem| FileError::of(path, problem))?;
    let mut found = Vec::new();
    for path in matching(&pattern)? {
        found.extend(stat(name(path)?)?);
    }
    found.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(found)
}

/// Goes down level by level, so that only what can match is looked at.
fn matching(pattern: &Pattern) -> Result<BTreeSet<PathBuf>, FileError> {
    let mut found = BTreeSet::from([PathBuf::from("/")]);
    for (i, part) in pattern.parts().iter().enumerate() {
        let is_last = i + 1 == pattern.parts().len();
        let mut below = BTreeSet::new();
        for folder in found {
            if part.is_any_depth() {
                walk(folder, is_last, &mut below)?;
            } else if let Some(name) = part.literal() {
                below.extend(Some(folder.join(name)).filter(|path| path.symlink_metadata().is_ok()));
            } else {
                let entries = entries(&folder)?.into_iter().map(|entry| entry.path());
                below.extend(entries.filter(|path| matches(part, path) && (is_last || path.is_dir())));
            }
        }
        found = below;
    }
    Ok(found)
}

fn matches(part: &PatternPart, path: &Path) -> bool {
    path.file_name().is_some_and(|name| part.matches(&name.to_string_lossy()))
}

/// The directory and all below it that are not hidden, without those behind links, which may lead in a circle; or the files
/// in them.
fn walk(folder: PathBuf, files: bool, into: &mut BTreeSet<PathBuf>) -> Result<(), FileError> {
    for entry in entries(&folder)? {
        let kind = entry.file_type().map_err(|e| FileError::io(entry.path().to_string_lossy(), e))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if kind.is_dir() {
            walk(entry.path(), files, into)?;
        } else if files {
            into.insert(entry.path());
        }
    }
    if !files {
        into.insert(folder);
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>, FileError> {
    // A file is a directory without entries here.
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect);
    entries.map_err(|e| FileError::io(folder.to_string_lossy(), e))
}

/// What is there; `None` for a directory.
fn stat(path: String) -> Result<Option<Listed>, FileError> {
    let metadata = fs::metadata(&path).map_err(|e| FileError::io(&path, e))?;
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(FileError::of(path, not_a_file()));
    }
    let listed = Listed { size: metadata.len(), tag: tag(&metadata), location: Location::Local(path) };
    Ok((!metadata.is_dir()).then_some(listed))
}

/// Tells one version of the contents from another: when they were written.
fn tag(metadata: &Metadata) -> Option<String> {
    Some(format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec()))
}

/// Opens a file to read it. Anything else is refused at once: opening a pipe would wait for somebody who writes to it, and a
/// terminal could become this process's own.
pub(crate) fn open_file(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false if metadata.is_dir() => Err(FileProblem::Directory.into()),
        false => Err(not_a_file().into()),
    }
}

fn not_a_file() -> FileProblem {
    FileProblem::unsupported("it is a pipe, a socket or a device, not a file")
}

pub(super) fn open(path: &str, from: u64, listed: &Listed) -> io::Result<File> {
    let (mut file, metadata) = open_file(Path::new(path))?;
    if metadata.len() != listed.size || tag(&metadata) != listed.tag {
        return Err(FileProblem::Changed { listed: listed.size, found: metadata.len() }.into());
    }
    if from > 0 {
        file.seek(SeekFrom::Start(from))?;
    }
    Ok(file)
}

/// A file that gets its name at the end.
///
/// Before it has none at all, so that nothing is left even of a process that is killed; but it gets a hidden one for the
/// moment before its own, and a process that is killed just then leaves that. On a file system that has no files without a
/// name it has the hidden one all the time.
pub(super) enum TemporaryFile {
    Nameless { file: File, path: PathBuf },
    Hidden { file: NamedTempFile, path: PathBuf },
}

/// What hidden names begin with.
const HIDDEN: &str = ".swath-";

impl TemporaryFile {
    pub(super) fn create(path: &str) -> io::Result<Self> {
        let path = PathBuf::from(path);
        if path.is_dir() {
            return Err(FileProblem::Directory.into());
        }
        fs::create_dir_all(directory(&path))?;
        match Self::nameless(&path) {
            Ok(file) => Ok(Self::Nameless { file, path }),
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => Self::hidden(path),
            Err(e) => Err(e.into()),
        }
    }

    fn nameless(path: &Path) -> nix::Result<File> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        nix::fcntl::open(directory(path), flags, Mode::from_bits_truncate(NEW)).map(File::from)
    }

    fn hidden(path: PathBuf) -> io::Result<Self> {
        let permissions = Permissions::from_mode(NEW);
        let mut builder = tempfile::Builder::new();
        let file = builder.prefix(HIDDEN).permissions(permissions).tempfile_in(directory(&path))?;
        Ok(Self::Hidden { file, path })
    }

    fn file(&mut self) -> &mut File {
        match self {
            Self::Nameless { file, .. } => file,
            Self::Hidden { file, .. } => file.as_file_mut(),
        }
    }
}

/// The permissions of any new file; the process's mask is taken from them.
const NEW: u32 = 0o666;

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

impl Write for TemporaryFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl Sink for TemporaryFile {
    fn finish(self: Box<Self>) -> io::Result<()> {
        match *self {
            Self::Hidden { file, path } => file.persist(path).map(drop).map_err(|e| e.error),
            Self::Nameless { file, path } => {
                // A name can be given to a file only where there is none, so it gets another one first.
                let from = format!("/proc/self/fd/{}", file.as_raw_fd());
                let link = |to: &Path| {
                    linkat(AT_FDCWD, from.as_str(), AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW).map_err(io::Error::from)
                };
                let hidden = tempfile::Builder::new().prefix(HIDDEN).make_in(directory(&path), link)?;
                hidden.persist(path).map_err(|e| e.error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("made");
        let refused = |path: &Path| open_file(path).map(drop).map_err(FileProblem::from);
        assert_eq!(refused(&pipe), Err(not_a_file()));
        assert_eq!(refused(Path::new("/dev/null")), Err(not_a_file()));
        assert_eq!(refused(dir.path()), Err(FileProblem::Directory));
        fs::write(dir.path().join("a"), "text").expect("written");
        assert_eq!(refused(&dir.path().join("a")), Ok(()));
    }

    #[test]
    fn files_appear_when_they_are_finished_with_and_without_a_hidden_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.txt");
        let names = || {
            let entries = fs::read_dir(dir.path()).expect("there").map(|e| e.expect("an entry").file_name());
            entries.collect::<Vec<_>>()
        };
        let nameless =
            || TemporaryFile::nameless(&path).map(|file| TemporaryFile::Nameless { file, path: path.clone() });
        let (first, second) = (nameless().expect("created"), TemporaryFile::hidden(path.clone()).expect("created"));
        assert_eq!(names().len(), 1, "only one of them has a name");
        drop(TemporaryFile::hidden(path.clone()).expect("created"));
        drop(nameless().expect("created"));
        for (mut file, text) in [(first, "one"), (second, "two")] {
            file.write_all(text.as_bytes()).expect("written");
            Box::new(file).finish().expect("finished");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        assert_eq!(names(), ["a.txt"]);
    }
}
