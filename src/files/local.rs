//! Files of this machine: finding them, and reading them.

use super::location::{Listed, ListedSize, Location};
use super::pattern::{Pattern, PatternPart, is_pattern};
use crate::error::file::{FileError, FileProblem};
use nix::fcntl::OFlag;
use nix::sys::statfs;
use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A path as text. One that is not UTF-8 could not be written in an error, nor sent to a worker.
pub(super) fn name(path: PathBuf) -> Result<String, FileError> {
    path.into_os_string().into_string().map_err(|path| {
        FileError::of(path.to_string_lossy(), FileProblem::unsupported("the name of the file is not UTF-8 text"))
    })
}

/// The number of a file.
pub(super) fn file_id(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().filter(Metadata::is_file).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The paths of what matches a pattern, but directories.
pub(super) fn names(pattern: &str) -> Result<Vec<String>, FileError> {
    let pattern = Pattern::new(pattern.trim_start_matches('/')).map_err(|problem| FileError::of(pattern, problem))?;
    matching(&pattern)?.into_iter().filter(|path| !path.is_dir()).map(name).collect()
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
    // What takes no room on a disk may be made by the kernel while it is read, and its size is then made up.
    let is_sized = metadata.len() > 0 && (metadata.blocks() > 0 || !is_made_up(Path::new(&path)));
    let size_is = if is_sized { ListedSize::Exact } else { ListedSize::Unknown };
    let listed = Listed { size: metadata.len(), size_is, tag: tag(&metadata), location: Location::Local(path) };
    Ok((!metadata.is_dir()).then_some(listed))
}

/// Takes a file for one that grows: only that it is another one will be a change.
pub(super) fn grows(path: &str, listed: &mut Listed) -> Result<(), FileError> {
    let metadata = fs::metadata(path).map_err(|e| FileError::io(path, e))?;
    if listed.size_is == ListedSize::Exact || listed.size == 0 && !is_made_up(Path::new(path)) {
        (listed.size_is, listed.tag) = (ListedSize::AtLeast, Some(metadata.ino().to_string()));
    }
    Ok(())
}

/// Whether a path is on a file system of the kernel's own, such as `/proc`, whose files say nothing true of their sizes
/// and times.
pub(super) fn is_made_up(path: &Path) -> bool {
    const KINDS: [statfs::FsType; 9] = [
        statfs::PROC_SUPER_MAGIC,
        statfs::SYSFS_MAGIC,
        statfs::DEBUGFS_MAGIC,
        statfs::TRACEFS_MAGIC,
        statfs::CGROUP_SUPER_MAGIC,
        statfs::CGROUP2_SUPER_MAGIC,
        statfs::SECURITYFS_MAGIC,
        statfs::SELINUX_MAGIC,
        statfs::BPF_FS_MAGIC,
    ];
    statfs::statfs(path).is_ok_and(|system| KINDS.contains(&system.filesystem_type()))
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
    let is_the_same = match listed.size_is {
        ListedSize::Exact => metadata.len() == listed.size && tag(&metadata) == listed.tag,
        ListedSize::AtLeast => metadata.len() >= listed.size && Some(metadata.ino().to_string()) == listed.tag,
        ListedSize::Unknown => metadata.len() == listed.size,
    };
    if !is_the_same {
        return Err(FileProblem::Changed { listed: listed.size, found: metadata.len() }.into());
    }
    if from > 0 {
        file.seek(SeekFrom::Start(from))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
        let refused = |path: &Path| open_file(path).map(drop).map_err(FileProblem::from);
        assert_eq!(refused(&pipe), Err(not_a_file()));
        assert_eq!(refused(Path::new("/dev/null")), Err(not_a_file()));
        assert_eq!(refused(dir.path()), Err(FileProblem::Directory));
        fs::write(dir.path().join("a"), "text").expect("written");
        assert_eq!(refused(&dir.path().join("a")), Ok(()));
    }
}
