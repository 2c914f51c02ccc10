//! Files of this machine that are written: replaced once they are whole, or written through where that cannot be.

use super::local::is_made_up;
use super::location::Sink;
use crate::error::file::FileProblem;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::linkat;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, BufWriter, ErrorKind, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::NamedTempFile;

/// So much is written at once.
const CHUNK: usize = 1 << 20;

/// Writes a file: all of it, or nothing. Where it is to be `durable` it is on disk when this returns.
pub(crate) fn write_whole(
    path: &Path,
    durable: bool,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    write_to(LocalOutput::create(path)?, durable, write)
}

/// The same of a file that only its owner may read.
pub(crate) fn write_private(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let to = LocalOutput::create(path)?;
    if let LocalOutput::Replacement(file) = &to {
        file.keep_private()?;
    }
    write_to(to, false, write)
}

fn write_to(to: LocalOutput, durable: bool, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(CHUNK, to);
    write(&mut to)?;
    let to = to.into_inner().map_err(io::IntoInnerError::into_error)?;
    match to {
        LocalOutput::Replacement(file) => file.finish(durable),
        LocalOutput::Through(_) => Ok(()),
    }
}

/// What is written where a path leads.
pub(super) enum LocalOutput {
    Replacement(Replacement),
    Through(Through),
}

impl LocalOutput {
    /// Follows links to their end. A file that could not be opened to be written is not replaced either.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let there = match fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            there => Some(there?),
        };
        let (end, is_bound) = end_of_links(path)?;
        match there {
            Some(there) if there.is_dir() => Err(FileProblem::Directory.into()),
            // Also an open file that goes by the name of its descriptor, as `/dev/stdout` does.
            Some(there) if !there.is_file() || is_bound || is_made_up(path) => {
                Through::open(path, &there).map(Self::Through)
            }
            Some(_) => {
                let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
                let old = File::options().write(true).custom_flags(flags).open(&end)?;
                let metadata = old.metadata()?;
                Replacement::create(end, Some((old, metadata))).map(Self::Replacement)
            }
            None => Replacement::create(end, None).map(Self::Replacement),
        }
    }
}

impl Write for LocalOutput {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Replacement(file) => file.file_mut().write(buf),
            Self::Through(file) => file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for LocalOutput {
    fn finish(self: Box<Self>) -> io::Result<()> {
        match *self {
            Self::Replacement(file) => file.finish(false),
            Self::Through(_) => Ok(()),
        }
    }
}

/// As many links as the system follows.
const MOST_LINKS: usize = 40;

/// Where a path leads; and whether one of its links is an open file of a process.
fn end_of_links(path: &Path) -> io::Result<(PathBuf, bool)> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let to = match fs::read_link(&path) {
            Ok(to) => to,
            Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => return Ok((path, false)),
            Err(e) => return Err(e),
        };
        let from = directory(&path);
        if is_made_up(from) {
            return Ok((path, true));
        }
        path = from.join(to);
    }
    Err(Errno::ELOOP.into())
}

pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

/// A file that gets its name at the end.
///
/// Before it has none at all, so that nothing is left even of a process that is killed; but it gets a hidden one for the
/// moment before its own, and a process that is killed just then leaves that. On a file system that has no files without a
/// name it has the hidden one all the time.
pub(super) struct Replacement {
    file: Draft,
    path: PathBuf,
    /// The file that was there, and its size, where it has other names too: it gets the new contents, so that they lead to
    /// the same.
    linked: Option<(File, u64)>,
}

enum Draft {
    Nameless(File),
    Hidden(NamedTempFile),
}

/// What hidden names begin with.
const HIDDEN: &str = ".swath-";
/// The permissions of any new file; the process's mask is taken from them.
const NEW: u32 = 0o666;
const OWNER_ONLY: u32 = 0o600;

impl Replacement {
    fn create(path: PathBuf, old: Option<(File, Metadata)>) -> io::Result<Self> {
        let file = match Draft::nameless(&path) {
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => Draft::hidden(&path)?,
            file => file?,
        };
        let mut new = Self { file, path, linked: None };
        if let Some((_, old)) = &old {
            new.take_over(old)?;
        }
        new.linked = old.filter(|(_, old)| old.nlink() > 1).map(|(file, old)| (file, old.len()));
        Ok(new)
    }

    /// Gives it mode and, where that is allowed, owner of the file that it replaces. Nobody else may do more with it than
    /// before.
    fn take_over(&self, old: &Metadata) -> io::Result<()> {
        let (file, new) = (self.file(), self.file().metadata()?);
        let (mut mode, uid, gid) = (old.mode() & 0o7777, Some(old.uid()), Some(old.gid()));
        let is_same = (new.uid(), new.gid()) == (old.uid(), old.gid());
        if !is_same && fchown(file, uid, gid).is_err() {
            mode &= 0o1777;
            if new.gid() != old.gid() && fchown(file, None, gid).is_err() {
                // Its group is another one, which may do what all may.
                mode &= !0o070 | (mode & 0o007) << 3;
            }
        }
        file.set_permissions(Permissions::from_mode(mode))
    }

    fn keep_private(&self) -> io::Result<()> {
        let linked = self.linked.iter().map(|(file, _)| file);
        linked.chain([self.file()]).try_for_each(|file| file.set_permissions(Permissions::from_mode(OWNER_ONLY)))
    }

    fn file(&self) -> &File {
        match &self.file {
            Draft::Nameless(file) => file,
            Draft::Hidden(file) => file.as_file(),
        }
    }

    fn file_mut(&mut self) -> &mut File {
        match &mut self.file {
            Draft::Nameless(file) => file,
            Draft::Hidden(file) => file.as_file_mut(),
        }
    }

    fn finish(mut self, durable: bool) -> io::Result<()> {
        if let Some((mut old, len)) = self.linked.take() {
            self.copy_to(&mut old, len)?;
            return if durable { old.sync_all() } else { Ok(()) };
        }
        if durable {
            self.file().sync_all()?;
        }
        let directory = directory(&self.path).to_path_buf();
        self.name()?;
        // The name is there for good only when the directory is on disk, too.
        if durable { File::open(directory)?.sync_all() } else { Ok(()) }
    }

    fn name(self) -> io::Result<()> {
        let path = &self.path;
        match self.file {
            Draft::Hidden(file) => file.persist(path).map(drop).map_err(|e| e.error),
            Draft::Nameless(file) => {
                // A name can be given to a file only where there is none, so it gets another one first.
                let from = format!("/proc/self/fd/{}", file.as_raw_fd());
                let link = |to: &Path| {
                    linkat(AT_FDCWD, from.as_str(), AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW).map_err(io::Error::from)
                };
                let hidden = tempfile::Builder::new().prefix(HIDDEN).make_in(directory(path), link)?;
                hidden.persist(path).map_err(|e| e.error)
            }
        }
    }

    /// Gives another file the contents. That there is room for them is found out before anything is lost.
    fn copy_to(&mut self, to: &mut File, before: u64) -> io::Result<()> {
        let from = self.file_mut();
        from.rewind()?;
        let len = from.metadata()?.len();
        if len > before {
            match fallocate(&*to, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len as i64) {
                Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        io::copy(from, to)?;
        to.set_len(len)
    }
}

impl Draft {
    fn nameless(path: &Path) -> nix::Result<Self> {
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        nix::fcntl::open(directory(path), flags, Mode::from_bits_truncate(NEW)).map(|fd| Self::Nameless(fd.into()))
    }

    fn hidden(path: &Path) -> io::Result<Self> {
        let permissions = Permissions::from_mode(NEW);
        let mut builder = tempfile::Builder::new();
        builder.prefix(HIDDEN).permissions(permissions).tempfile_in(directory(path)).map(Self::Hidden)
    }
}

/// A device, a pipe or a socket, or another thing that cannot be replaced: what is written arrives at once.
pub(super) struct Through(File);

/// How often a waiting task checks whether it has been cancelled.
const POLL: Duration = Duration::from_millis(50);
/// How often it looks whether somebody reads a pipe.
const RETRY: Duration = Duration::from_millis(5);

impl Through {
    fn open(path: &Path, there: &Metadata) -> io::Result<Self> {
        let kind = there.file_type();
        if kind.is_socket() {
            let stream = UnixStream::connect(path)?;
            stream.set_nonblocking(true)?;
            return Ok(Self(File::from(OwnedFd::from(stream))));
        }
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        loop {
            match File::options().write(true).truncate(kind.is_file()).custom_flags(flags).open(path) {
                // Nobody reads the pipe yet.
                Err(e) if kind.is_fifo() && e.raw_os_error() == Some(Errno::ENXIO as i32) => {}
                file => return file.map(Self),
            }
            if crate::cancelled() {
                return Err(FileProblem::Cancelled.into());
            }
            std::thread::sleep(RETRY);
        }
    }
}

impl Write for Through {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(buf) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                written => return written,
            }
            if crate::cancelled() {
                return Err(FileProblem::Cancelled.into());
            }
            let timeout = PollTimeout::try_from(POLL).unwrap_or(PollTimeout::NONE);
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_when_they_are_finished_with_and_without_a_hidden_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.txt");
        let names = || {
            let entries = fs::read_dir(dir.path()).expect("there").map(|e| e.expect("an entry").file_name());
            entries.collect::<Vec<_>>()
        };
        let nameless = || Draft::nameless(&path).map(|file| Replacement { file, path: path.clone(), linked: None });
        let hidden = || Draft::hidden(&path).map(|file| Replacement { file, path: path.clone(), linked: None });
        let (first, second) = (nameless().expect("created"), hidden().expect("created"));
        assert_eq!(names().len(), 1, "only one of them has a name");
        drop(hidden().expect("created"));
        drop(nameless().expect("created"));
        for (mut file, text) in [(first, "one"), (second, "two")] {
            file.file_mut().write_all(text.as_bytes()).expect("written");
            file.finish(false).expect("finished");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        assert_eq!(names(), ["a.txt"]);
    }
}
