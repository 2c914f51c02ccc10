//! Where a log is written to.

use super::LogError;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Where a log is written to, from its beginning to its end.
pub trait Target {
    /// Writes all of these bytes behind what is there.
    ///
    /// # Errors
    /// Where there is no room for them, for example. A part of them may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Takes back what is behind the first so many bytes, after an error.
    ///
    /// # Errors
    /// Where that is not possible.
    fn take_back_to(&mut self, length: u64) -> io::Result<()>;

    /// Hands on what is kept back.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn take_back_to(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.seek(SeekFrom::Start(length)).map(drop)
    }
}

/// A stream that takes nothing back: after an error it takes nothing at all.
#[derive(Debug)]
pub struct Stream<W>(W, bool);

impl<W: Write> Stream<W> {
    /// Writes to this.
    pub fn new(to: W) -> Self {
        Self(to, false)
    }
}

impl<W: Write> Target for Stream<W> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.1 {
            return Err(io::Error::other("an earlier write has failed"));
        }
        self.0.write_all(bytes)
    }

    fn take_back_to(&mut self, _length: u64) -> io::Result<()> {
        self.1 = true;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

const OWNER_ONLY: u32 = 0o600;

/// Opens a regular file that is to be a log, empties it, and keeps others away.
pub(super) fn create(path: &Path) -> Result<File, LogError> {
    let failed = |source| LogError::Io { action: "create", path: path.into(), source };
    match std::fs::metadata(path) {
        // A pipe would have its opener wait for a reader.
        Ok(there) if !there.is_file() => return Err(LogError::NotAFile { path: path.into() }),
        _ => {}
    }
    let mut options = OpenOptions::new();
    // Emptied only once it is known that nobody else writes to it.
    let file = options.write(true).create(true).truncate(false).mode(OWNER_ONLY).open(path).map_err(failed)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(LogError::InUse { path: path.into() }),
        // Some file systems have no locks.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    file.set_permissions(Permissions::from_mode(OWNER_ONLY)).map_err(failed)?;
    file.set_len(0).map_err(failed)?;
    Ok(file)
}
