//! Pieces of chunks on disk: written by the task that makes them, read by others, in other processes too.
//!
//! All pieces that a process writes lie in one file without a name, so nothing is left when the process ends, however that
//! happens. It is the file of the process's spilled results where a spill directory was set; else one in the directory for
//! temporary files, which is closed when the last piece is dropped. Who else wants to read opens it through `/proc` as long
//! as the process lives. When a piece is dropped, its room in the file is given back. A result that consists of pieces is
//! bound to its process ([`Record::bound`](crate::task::function::Record::bound)): if that dies, it is made again.

use crate::files::open_file;
use crate::ipc::disk::{self, Disk, DiskError, Extent, WeakDisk};
use crate::task::Data;
use crate::task::codec;
use crate::task::codec::Refused;
use crate::task::function::CallError;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Most bytes that one write of pieces keeps in memory.
const IN_MEMORY: usize = 16 << 20;
/// A piece is written in blocks of at least so many bytes, unless it ends before.
const BLOCK: usize = 4 << 10;
/// Room is taken from the file in parts of so many bytes, where there is so much.
const STEP: u64 = 1 << 20;
/// Bytes of a range as it is written.
const RANGE: u64 = 16;
/// Bytes of the number before a table of pieces, by which it is known.
const TOKEN: u64 = 8;
/// How long a task waits that has lost an input.
const PAUSE: Duration = Duration::from_millis(20);

/// Why elements cannot be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ShuffleError {
    /// Elements could not be written to disk.
    #[error("elements cannot be kept in {directory}: {reason}; {}", remedy(.setting))]
    Write {
        /// The directory.
        directory: String,
        /// What the system or the elements' `Serialize` says.
        reason: String,
        /// The setting that changes this: `TMPDIR`, `spill_directory` or `spill_limit`.
        setting: String,
    },
    /// Elements that were written to disk could not be read back.
    #[error("elements that were kept on disk cannot be read back: {reason}")]
    Read {
        /// What the system or the elements' `Deserialize` says.
        reason: String,
    },
}

/// What to do about a failed write.
pub(crate) fn remedy(setting: &str) -> String {
    match setting {
        "spill_limit" => "raise `spill_limit`".to_string(),
        "spill_directory" => "`spill_directory` names another directory".to_string(),
        other => format!("{other} names another directory"),
    }
}

/// The file of this process.
#[derive(Clone)]
struct ShuffleFile {
    disk: Disk,
    setting: &'static str,
}

/// The file in the directory for temporary files, as long as there are pieces in it.
static TEMPORARY: Mutex<WeakDisk> = Mutex::new(WeakDisk::new());
/// Tells this process from another one that has got its number.
static PROCESS: LazyLock<u64> = LazyLock::new(|| fastrand::Rng::new().u64(..));

impl ShuffleFile {
    fn current() -> Self {
        if let Some(disk) = disk::for_shuffles() {
            return Self { disk, setting: "spill_directory" };
        }
        let mut temporary = TEMPORARY.lock();
        let disk = temporary.upgrade().unwrap_or_else(|| {
            let disk = Disk::uncounted(std::env::temp_dir());
            *temporary = disk.downgrade();
            disk
        });
        Self { disk, setting: "TMPDIR" }
    }

    fn refused(&self, reason: String, setting: &str) -> ShuffleError {
        let directory = self.disk.directory().display().to_string();
        ShuffleError::Write { directory, reason, setting: setting.to_string() }
    }

    fn no_room(&self, error: DiskError) -> ShuffleError {
        match error {
            DiskError::Quota(quota) => {
                let reason = format!(
                    "{} bytes are to be written and {} of {} are on disk",
                    quota.wanted, quota.used, quota.limit
                );
                self.refused(reason, "spill_limit")
            }
            DiskError::Missing { source, .. }
            | DiskError::Denied { source, .. }
            | DiskError::Full { source, .. }
            | DiskError::FileSize { source, .. }
            | DiskError::Io { source, .. } => self.refused(source.to_string(), self.setting),
            other @ (DiskError::Thread(_) | DiskError::Encode(_)) => self.refused(other.to_string(), self.setting),
        }
    }
}

/// A part of the file: where it begins, and its length.
type Range = (u64, u64);

/// Room in the file, given back when this is dropped.
struct Room {
    file: ShuffleFile,
    extents: Vec<Extent>,
    /// How much of the last one has been written to.
    used: u64,
}

impl Room {
    fn write(&mut self, bytes: &[u8]) -> Result<u64, ShuffleError> {
        let len = bytes.len() as u64;
        if len == 0 {
            // Nothing is read there.
            return Ok(0);
        }
        if self.extents.last().is_none_or(|extent| extent.len() - self.used < len) {
            self.close();
            let disk = &self.file.disk;
            let extent = match disk.extent(len.max(STEP)) {
                Err(DiskError::Quota(_)) => disk.extent(len),
                extent => extent,
            };
            self.extents.push(extent.map_err(|e| self.file.no_room(e))?);
            self.used = 0;
        }
        let Some(extent) = self.extents.last() else { unreachable!("one has been pushed") };
        self.file.disk.write_at(extent, bytes, self.used).map_err(|e| self.file.no_room(e))?;
        let at = extent.offset() + self.used;
        self.used += len;
        Ok(at)
    }

    /// Gives back what is left of the last part.
    fn close(&mut self) {
        if let Some(extent) = self.extents.last_mut() {
            extent.shrink(self.used);
        }
    }
}

/// What a task writes: several pieces, each of which grows bit by bit.
pub(crate) struct PieceWriter {
    room: Room,
    pieces: Vec<Piece>,
    in_memory: usize,
}

/// The end of a piece, and where the rest of it has been written to.
#[derive(Clone, Default)]
struct Piece {
    end: Vec<u8>,
    written: Vec<Range>,
}

impl PieceWriter {
    pub(crate) fn new(pieces: usize) -> Result<Self, ShuffleError> {
        let room = Room { file: ShuffleFile::current(), extents: Vec::new(), used: 0 };
        // Where there can be no file, that is said before anything is read.
        room.file.disk.descriptor().map_err(|e| room.file.no_room(e))?;
        Ok(Self { room, pieces: vec![Piece::default(); pieces], in_memory: 0 })
    }

    /// Appends a value to a piece.
    pub(crate) fn append<T: Data>(&mut self, piece: usize, value: &T) -> Result<(), ShuffleError> {
        let most = (IN_MEMORY / self.pieces.len()).max(BLOCK);
        let end = &mut self.pieces[piece].end;
        let before = end.len();
        codec::encode(value, end, usize::MAX).map_err(|e| {
            let reason = match e {
                Refused::TooLong => "an element is too long".to_string(),
                Refused::Failed(reason) => reason,
            };
            self.room.file.refused(reason, self.room.file.setting)
        })?;
        self.in_memory += end.len() - before;
        if end.len() >= most {
            self.flush(piece)?;
        }
        if self.in_memory >= 2 * IN_MEMORY {
            (0..self.pieces.len()).try_for_each(|piece| self.flush(piece))?;
        }
        Ok(())
    }

    fn flush(&mut self, piece: usize) -> Result<(), ShuffleError> {
        let Piece { end, written } = &mut self.pieces[piece];
        if !end.is_empty() {
            written.push((self.room.write(end)?, end.len() as u64));
            self.in_memory -= end.len();
            end.clear();
        }
        Ok(())
    }

    /// The pieces, written as a whole.
    pub(crate) fn finish(mut self) -> Result<Pieces, ShuffleError> {
        (0..self.pieces.len()).try_for_each(|piece| self.flush(piece))?;
        let mut lists = Vec::new();
        let mut ends = vec![0];
        for piece in &self.pieces {
            piece.written.iter().for_each(|range| put(&mut lists, *range));
            ends.push(lists.len() as u64);
        }
        let lists_at = self.room.write(&lists)?;
        let mut table = PROCESS.to_le_bytes().to_vec();
        ends.windows(2).for_each(|ends| put(&mut table, (lists_at + ends[0], ends[1] - ends[0])));
        let table = self.room.write(&table)? + TOKEN;
        self.room.close();
        Ok(Pieces { table, at: PiecesAt::Local(Arc::new(self.room)) })
    }
}

fn put(out: &mut Vec<u8>, range: Range) {
    out.extend_from_slice(&range.0.to_le_bytes());
    out.extend_from_slice(&range.1.to_le_bytes());
}

/// What a task has written.
#[derive(Clone)]
pub(crate) struct Pieces {
    /// Where the list of each piece's ranges is, one range after the other. The process's number stands before it.
    table: u64,
    at: PiecesAt,
}

#[derive(Clone)]
enum PiecesAt {
    Local(Arc<Room>),
    /// In the file that another process has open.
    Remote(Address),
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Address {
    pid: u32,
    descriptor: i32,
    token: u64,
}

impl Pieces {
    /// For a task that has failed.
    pub(crate) fn none() -> Self {
        Self { table: 0, at: PiecesAt::Remote(Address::default()) }
    }

    /// Opens them for reading.
    pub(crate) fn open(&self) -> Result<Reader, CallError> {
        let address = match &self.at {
            PiecesAt::Local(room) => return Ok(Reader { table: self.table, file: Opened::Local(Arc::clone(room)) }),
            PiecesAt::Remote(address) => address,
        };
        let lost = |reason: String| {
            // The supervisor hears of the death at the same time; the next try must not come before that.
            std::thread::sleep(PAUSE);
            CallError::InputLost { reason: format!("process {} kept it on disk: {reason}", address.pid) }
        };
        // By now the number may be that of anything, in another process too.
        let path = format!("/proc/{}/fd/{}", address.pid, address.descriptor);
        let (file, _) = open_file(Path::new(&path)).map_err(|e| lost(e.to_string()))?;
        let mut token = [0; TOKEN as usize];
        match file.read_exact_at(&mut token, self.table.saturating_sub(TOKEN)) {
            Ok(()) if u64::from_le_bytes(token) == address.token => {
                Ok(Reader { table: self.table, file: Opened::Remote(file) })
            }
            Ok(()) => Err(lost("it has gone, and another has got its number".to_string())),
            Err(e) => Err(lost(e.to_string())),
        }
    }
}

impl Serialize for Pieces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = match &self.at {
            PiecesAt::Remote(address) => *address,
            PiecesAt::Local(room) => {
                // There is a file, since something has been written to it.
                let descriptor = room.file.disk.descriptor().unwrap_or(-1);
                Address { pid: std::process::id(), descriptor, token: *PROCESS }
            }
        };
        (self.table, address).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (table, address) = Deserialize::deserialize(deserializer)?;
        Ok(Self { table, at: PiecesAt::Remote(address) })
    }
}

/// Pieces that are open for reading.
pub(crate) struct Reader {
    table: u64,
    file: Opened,
}

enum Opened {
    Local(Arc<Room>),
    Remote(File),
}

impl Reader {
    fn read(&self, (at, len): Range) -> Result<Vec<u8>, ShuffleError> {
        let mut bytes = vec![0; len as usize];
        let read = match &self.file {
            Opened::Local(room) => room.file.disk.read_at(&mut bytes, at),
            Opened::Remote(file) => file.read_exact_at(&mut bytes, at),
        };
        read.map_err(|e| ShuffleError::Read { reason: e.to_string() })?;
        Ok(bytes)
    }

    /// The values of a piece, in the order in which they were written.
    pub(crate) fn piece(self, piece: usize) -> Result<PieceReader, ShuffleError> {
        let mut written = Vec::new();
        for list in ranges(&self.read((self.table + RANGE * piece as u64, RANGE))?) {
            written.extend(ranges(&self.read(list)?));
        }
        Ok(PieceReader { reader: self, ranges: written.into_iter(), block: Vec::new(), at: 0 })
    }
}

/// Reads the values of one piece.
pub(crate) struct PieceReader {
    reader: Reader,
    ranges: std::vec::IntoIter<Range>,
    block: Vec<u8>,
    at: usize,
}

impl PieceReader {
    /// The next value; none at the end.
    #[inline]
    pub(crate) fn next_value<T: Data>(&mut self) -> Result<Option<T>, ShuffleError> {
        while self.at == self.block.len() {
            let Some(range) = self.ranges.next() else { return Ok(None) };
            (self.block, self.at) = (self.reader.read(range)?, 0);
        }
        let mut left = &self.block[self.at..];
        let value = codec::decode_next(&mut left).map_err(|reason| ShuffleError::Read { reason })?;
        self.at = self.block.len() - left.len();
        Ok(Some(value))
    }
}

fn ranges(bytes: &[u8]) -> impl Iterator<Item = Range> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    bytes.chunks_exact(RANGE as usize).map(move |b| (number(&b[..8]), number(&b[8..])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::AsRawFd;

    fn written(pieces: usize, values: usize, len: usize) -> Pieces {
        let mut writer = PieceWriter::new(pieces).unwrap();
        for i in 0..values {
            writer.append(i % pieces, &(i, "x".repeat(len))).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(pieces: &Pieces, piece: usize) -> Vec<usize> {
        let mut all = Vec::new();
        let mut reader = pieces.open().unwrap().piece(piece).unwrap();
        while let Some((i, _)) = reader.next_value::<(usize, String)>().unwrap() {
            all.push(i);
        }
        all
    }

    #[test]
    fn pieces_come_back_here_and_elsewhere() {
        let pieces = written(7, 20_000, 2000);
        let mut bytes = Vec::new();
        codec::encode(&pieces, &mut bytes, usize::MAX).unwrap();
        let there: Pieces = codec::decode(&bytes).unwrap();
        assert!(matches!(there.at, PiecesAt::Remote(_)));
        for piece in 0..7 {
            let expected: Vec<_> = (piece..20_000).step_by(7).collect();
            assert_eq!(read(&pieces, piece), expected);
            assert_eq!(read(&there, piece), expected);
        }
        drop(pieces);
        // Its process may still have other pieces; if not, the file has been removed.
        let left = there.open().map(|_| ());
        assert!(matches!(left, Ok(()) | Err(CallError::InputLost { .. })));
    }

    #[test]
    fn room_is_given_back() {
        let (first, second) = (written(3, 1000, 5000), written(3, 10, 10));
        let PiecesAt::Local(room) = &second.at else { unreachable!() };
        let disk = room.file.disk.clone();
        let path = format!("/proc/self/fd/{}", disk.descriptor().unwrap());
        let blocks = || std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap());
        let before = blocks();
        drop(first);
        disk.settle();
        assert!(blocks() + 4_500_000 / 512 < before, "{} of {before} blocks left", blocks());
        assert_eq!(read(&second, 1), [1, 4, 7]);
    }

    #[test]
    fn a_process_that_is_gone_is_a_lost_input() {
        let lost = Pieces { table: 0, at: PiecesAt::Remote(Address { pid: u32::MAX, descriptor: 3, token: 1 }) };
        assert!(matches!(lost.open(), Err(CallError::InputLost { .. })));
        // The number has become that of a pipe to which nobody writes.
        let (pipe, writer) = nix::unistd::pipe().unwrap();
        drop(writer);
        let address = Address { pid: std::process::id(), descriptor: pipe.as_raw_fd(), token: 1 };
        let lost = Pieces { table: 0, at: PiecesAt::Remote(address) };
        assert!(matches!(lost.open(), Err(CallError::InputLost { .. })));
    }
}
