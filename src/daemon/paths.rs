//! Where a local cluster's files are: its socket, the file that holds its process id and lock, and its log.

use crate::error::{Error, Result};
use crate::host::report;
use crate::ipc::page::start_time;
use crate::ipc::socket::Socket;
use nix::unistd::geteuid;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of a cluster where none is given.
pub const DEFAULT_NAME: &str = "default";

/// The longest path of a socket, in bytes.
const LONGEST: usize = 107;

/// The files of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterPaths {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
}

impl ClusterPaths {
    /// The cluster that a user means: by its name, or by the path of its socket.
    pub(crate) fn of(target: &Path) -> Result<Self> {
        match target.to_str() {
            Some(name) if !name.contains('/') => Self::named(name),
            _ => Self::at(target),
        }
    }

    /// Of that name, in the runtime directory.
    pub(crate) fn named(name: &str) -> Result<Self> {
        check_name(name).map_err(|why| Error::invalid("the name of a local cluster", format!("{name:?}; {why}")))?;
        Self::with(name, directory().join(format!("{name}.sock")))
    }

    /// With that socket, from which it has its name; its other files lie beside it.
    fn at(socket: &Path) -> Result<Self> {
        let bad = |why: &str| Error::invalid("the socket of a local cluster", format!("{socket:?}; {why}"));
        let name = socket.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        check_name(name).map_err(|why| bad(&format!("its name has {why}")))?;
        if socket.extension().is_some_and(|ending| ending == "pid" || ending == "log") {
            return Err(bad("files of that ending lie beside it; call it `.sock`"));
        }
        // Also the janitor is told, which runs in another directory.
        let socket = std::path::absolute(socket).map_err(|e| bad(&format!("its absolute path is not known: {e}")))?;
        Self::with(name, socket)
    }

    fn with(name: &str, socket: PathBuf) -> Result<Self> {
        let length = socket.as_os_str().len();
        if length > LONGEST {
            let why = format!(
                "{} has {length} bytes, and the system takes {LONGEST}; set XDG_RUNTIME_DIR to a shorter directory, or name \
                 a shorter path",
                socket.display()
            );
            return Err(Error::invalid("the socket of a local cluster", why));
        }
        Ok(Self { name: name.to_string(), socket })
    }

    /// As a user names it to the command.
    pub(crate) fn as_told(&self) -> std::borrow::Cow<'_, str> {
        match self.socket.parent() == Some(&directory()) && self.socket.extension() == Some(OsStr::new("sock")) {
            true => self.name.as_str().into(),
            false => self.socket.to_string_lossy(),
        }
    }

    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        self.socket.parent().unwrap_or(Path::new("/"))
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.socket.with_file_name(format!("{}.pid", self.name))
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.socket.with_file_name(format!("{}.log", self.name))
    }

    pub(crate) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Cluster { name: self.name.clone(), reason: reason.into() }
    }

    fn remove(&self, files: &[PathBuf]) {
        for path in files {
            match fs::remove_file(path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => report!(Warn, "{} cannot be removed: {e}", path.display()),
            }
        }
    }
}

fn check_name(name: &str) -> std::result::Result<(), &'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !name.is_empty() && name.len() <= 40 && !name.starts_with('.') && name.chars().all(good) {
        true => Ok(()),
        false => Err("up to 40 letters, digits, `.`, `_` and `-`, and no `.` at the start"),
    }
}

/// Where sockets are looked for: `$XDG_RUNTIME_DIR/swath`, or `/tmp/swath-<uid>` where that is not set.
pub(crate) fn directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|d| Path::new(d).is_absolute()) {
        Some(dir) => PathBuf::from(dir).join("swath"),
        None => PathBuf::from(format!("/tmp/swath-{}", geteuid())),
    }
}

/// Makes the directory if it is not there. Refuses one that others could have tampered with.
pub(crate) fn make_directory(dir: &Path) -> Result<()> {
    let bad = |why: String| Error::Resource {
        resource: "the runtime directory".to_string(),
        reason: format!("{}: {why}", dir.display()),
    };
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(bad(format!("it cannot be made: {e}; set XDG_RUNTIME_DIR to a directory of yours"))),
    }
    let meta = fs::symlink_metadata(dir).map_err(|e| bad(e.to_string()))?;
    check_directory(meta.is_dir(), meta.uid(), meta.mode()).map_err(bad)
}

fn check_directory(is_dir: bool, owner: u32, mode: u32) -> std::result::Result<(), String> {
    match () {
        () if !is_dir => Err("it is no directory; remove it, or set XDG_RUNTIME_DIR".to_string()),
        () if owner != geteuid().as_raw() => {
            Err(format!("it belongs to user {owner}; set XDG_RUNTIME_DIR to a directory of yours"))
        }
        () if mode & 0o077 != 0 => {
            let mode = mode & 0o777;
            Err(format!(
                "others may enter it (mode {mode:03o}); if it is yours alone, make it private with `chmod 700`"
            ))
        }
        () => Ok(()),
    }
}

/// Held by a cluster as long as it runs. Its files are removed with [`remove`](Self::remove).
pub(crate) struct Lock {
    file: File,
    paths: ClusterPaths,
}

impl Lock {
    /// The lock of a cluster that has ended without giving it back. None: somebody has it.
    pub(crate) fn of_dead(paths: &ClusterPaths) -> io::Result<Option<Self>> {
        Self::lock_file(paths, false)
    }

    /// None: another process has it.
    pub(crate) fn take(paths: &ClusterPaths) -> Result<Option<Self>> {
        Self::lock_file(paths, true).map_err(|e| paths.error(format!("{}: {e}", paths.pid_file().display())))
    }

    fn lock_file(paths: &ClusterPaths, create: bool) -> io::Result<Option<Self>> {
        let path = paths.pid_file();
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(create).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
            // Whoever held it before may have removed the file meanwhile, and a third process made a new one.
            let locked = file.metadata()?;
            match fs::symlink_metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) => {
                    return Ok(Some(Self { file, paths: paths.clone() }));
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound && create => {}
                Err(e) => return Err(e),
            }
        }
    }

    pub(crate) fn write_pid(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())
    }

    /// Gives the name free for a cluster that has not come as far as to have other files.
    pub(crate) fn give_back(self) {
        self.paths.remove(&[self.paths.pid_file()]);
    }

    /// Removes the files of the cluster and gives the name free.
    pub(crate) fn remove(self) {
        // The file that carries the lock goes last, while it is still held.
        let paths = &self.paths;
        paths.remove(&[paths.socket.clone(), paths.log(), paths.pid_file()]);
    }

    /// The same for a cluster that was killed: what it said last is worth reading.
    pub(crate) fn remove_but_log(self) {
        self.paths.remove(&[self.paths.socket.clone(), self.paths.pid_file()]);
    }
}

/// The process id that a cluster wrote down.
pub(crate) fn pid(paths: &ClusterPaths) -> Option<u32> {
    fs::read_to_string(paths.pid_file()).ok()?.trim().parse().ok()
}

/// How much of the cluster's own log is shown.
const TAIL: u64 = 16 << 10;

/// The end of a log, in whole lines. None where there is no log.
pub(crate) fn last_lines(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match text.find('\n') {
        Some(newline) if len > TAIL => Some(text[newline + 1..].to_string()),
        _ => Some(text),
    }
}

/// Whether a cluster waits at the socket.
///
/// One that was killed does not, though its socket may still be open for a moment: in a process that it was just starting,
/// which has all its descriptors until it becomes a worker.
pub(crate) fn is_listening(paths: &ClusterPaths) -> bool {
    let socket = match Socket::connect(&paths.socket, Duration::from_millis(1)) {
        Ok(socket) => socket,
        Err(e) => return e.kind() == io::ErrorKind::TimedOut,
    };
    match socket.peer_process() {
        Ok(pid) if pid != 0 => start_time(pid).is_some(),
        _ => true,
    }
}

/// Makes room for a socket. The lock is held, so what is there can only be left over.
pub(crate) fn remove_stale_socket(paths: &ClusterPaths) -> Result<()> {
    match fs::symlink_metadata(&paths.socket) {
        Err(_) => Ok(()),
        Ok(meta) if !meta.file_type().is_socket() => {
            Err(paths.error(format!("{} is in the way: it is no socket", paths.socket.display())))
        }
        Ok(_) if is_listening(paths) => {
            Err(paths.error("it is already running, and its lock file was removed; stop it first"))
        }
        Ok(_) => fs::remove_file(&paths.socket).map_err(|e| paths.error(format!("its old socket stays: {e}"))),
    }
}

/// Removes the files of clusters that died without doing so.
pub(crate) fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension() != Some(OsStr::new("pid")) {
            continue;
        }
        let paths = path.file_stem().and_then(OsStr::to_str).and_then(|name| ClusterPaths::named(name).ok());
        let Some(paths) = paths.map(|p| ClusterPaths { socket: dir.join(format!("{}.sock", p.name)), ..p }) else {
            continue;
        };
        if let Ok(Some(lock)) = Lock::of_dead(&paths) {
            report!(Info, "removing what local cluster `{}` left when it died", paths.name);
            lock.remove_but_log();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(dir: &Path, name: &str) -> ClusterPaths {
        ClusterPaths { name: name.to_string(), socket: dir.join(format!("{name}.sock")) }
    }

    #[test]
    fn names_are_names_and_paths_are_paths() {
        for bad in ["", ".hidden", "a b", "ä", "x\0", &"x".repeat(41)] {
            assert!(ClusterPaths::of(Path::new(bad)).is_err(), "{bad:?}");
        }
        let paths = ClusterPaths::of(Path::new("my-cluster_1.2")).unwrap();
        assert_eq!(paths.socket, directory().join("my-cluster_1.2.sock"));
        let paths = ClusterPaths::of(Path::new("/run/x/y.sock")).unwrap();
        assert_eq!((paths.name.as_str(), paths.socket.as_path()), ("y", Path::new("/run/x/y.sock")));
        assert_eq!(paths.pid_file(), Path::new("/run/x/y.pid"));
        for bad in ["/", "a/", "a/.sock", "a/b\n", "a/b\n.sock", "/run/x/y.pid", "/run/x/y.log", "/run/x/a b.sock"] {
            let refused = ClusterPaths::of(Path::new(bad)).map(|paths| paths.socket);
            assert!(refused.is_err() || bad == "a/", "{bad:?}: {refused:?}");
        }
        let long = "x".repeat(120);
        assert!(ClusterPaths::of(Path::new(&format!("/{long}/y.sock"))).unwrap_err().to_string().contains("128 bytes"));
        let relative = ClusterPaths::of(Path::new("./y.sock")).unwrap();
        assert_eq!(relative.socket, std::env::current_dir().unwrap().join("y.sock"));
    }

    #[test]
    fn a_directory_that_others_can_reach_is_refused() {
        let us = geteuid().as_raw();
        check_directory(true, us, 0o40700).unwrap();
        assert!(check_directory(true, us, 0o40701).unwrap_err().contains("chmod 700"));
        assert!(check_directory(true, us + 1, 0o40700).unwrap_err().contains("belongs to user"));
        assert!(check_directory(false, us, 0o40700).is_err());
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("swath");
        make_directory(&inner).unwrap();
        make_directory(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().mode() & 0o777, 0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&inner, &link).unwrap();
        assert!(make_directory(&link).is_err());
        assert!(make_directory(&dir.path().join("no/such")).is_err());
    }

    #[test]
    fn a_lock_is_had_once_and_survives_removal_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let paths = at(dir.path(), "a");
        let mut first = Lock::take(&paths).unwrap().unwrap();
        first.write_pid().unwrap();
        assert_eq!(pid(&paths), Some(std::process::id()));
        assert!(Lock::take(&paths).unwrap().is_none());
        first.remove();
        assert!(!paths.pid_file().exists());
        assert!(Lock::take(&paths).unwrap().is_some());
    }

    #[test]
    fn a_sweep_takes_the_dead_and_leaves_the_living() {
        let dir = tempfile::tempdir().unwrap();
        let (dead, alive) = (at(dir.path(), "dead"), at(dir.path(), "alive"));
        for paths in [&dead, &alive] {
            fs::write(paths.log(), "words").unwrap();
            fs::write(&paths.socket, "").unwrap();
        }
        drop(Lock::take(&dead).unwrap().unwrap());
        let lock = Lock::take(&alive).unwrap().unwrap();
        fs::write(dir.path().join("other.txt"), "not ours").unwrap();
        // A process that another test is starting has the lock until it is another program.
        crate::ipc::testing::until(|| {
            sweep(dir.path());
            !dead.pid_file().exists()
        });
        assert!(dead.log().exists() && !dead.socket.exists() && !dead.pid_file().exists());
        assert!(alive.log().exists() && alive.socket.exists() && alive.pid_file().exists());
        assert!(dir.path().join("other.txt").exists());
        drop(lock);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let paths = at(dir.path(), "a");
        remove_stale_socket(&paths).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&paths.socket).unwrap();
        assert!(remove_stale_socket(&paths).unwrap_err().to_string().contains("already running"));
        drop(listener);
        remove_stale_socket(&paths).unwrap();
        assert!(!paths.socket.exists());
        fs::write(&paths.socket, "a file").unwrap();
        assert!(remove_stale_socket(&paths).unwrap_err().to_string().contains("no socket"));
        assert!(paths.socket.exists());
    }
}
