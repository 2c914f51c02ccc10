//! Pieces of partitions on disk: written by the task that makes them, read by others, in other processes too.
//!
//! All pieces that a process writes lie in one file without a name, so nothing is left when the process ends, however that
//! happens. Who else wants to read opens it through `/proc` as long as the process lives. When a piece is dropped, its
//! room in the file is given back; when the last one is, the file is closed. A result that consists of pieces is bound to
//! its process ([`Record::bound`](crate::task::function::Record::bound)): if that dies, it is made again.

use crate::bag::error::BagError;
use crate::files::open_file;
use crate::task::Data;
use crate::task::codec;
use crate::task::codec::Refused;
use crate::task::function::CallError;
use nix::fcntl::{FallocateFlags, fallocate};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

/// Most bytes that one write of pieces keeps in memory.
const IN_MEMORY: usize = 16 << 20;
/// A piece is written in blocks of at least so many bytes, unless it ends before.
const BLOCK: usize = 4 << 10;
/// Bytes of a range as it is written.
const RANGE: u64 = 16;
/// How long a task waits that has lost an input.
const PAUSE: Duration = Duration::from_millis(20);

/// The file of this process.
struct Spool {
    file: File,
    end: AtomicU64,
    /// Tells this process from another one that has got its number.
    token: u64,
}

static SPOOL: Mutex<Weak<Spool>> = Mutex::new(Weak::new());

impl Spool {
    /// The file of this process, made if there is none.
    fn current() -> Result<Arc<Self>, BagError> {
        let mut current = SPOOL.lock();
        if let Some(spool) = current.upgrade() {
            return Ok(spool);
        }
        static TOKEN: LazyLock<u64> = LazyLock::new(|| fastrand::Rng::new().u64(..));
        let file = tempfile::tempfile().map_err(no_room)?;
        file.write_all_at(&TOKEN.to_le_bytes(), 0).map_err(no_room)?;
        let spool = Arc::new(Self { file, end: AtomicU64::new(8), token: *TOKEN });
        *current = Arc::downgrade(&spool);
        Ok(spool)
    }
}

fn no_room(e: io::Error) -> BagError {
    BagError::Spool { directory: std::env::temp_dir().display().to_string(), reason: e.to_string() }
}

/// A part of the file: where it begins, and its length.
type Range = (u64, u64);

/// Room in the file, given back when this is dropped.
struct Room {
    spool: Arc<Spool>,
    ranges: Vec<Range>,
}

impl Room {
    fn write(&mut self, bytes: &[u8]) -> Result<u64, BagError> {
        if bytes.is_empty() {
            // Nothing is read there, and nothing could be given back.
            return Ok(0);
        }
        let (at, len) = (self.spool.end.fetch_add(bytes.len() as u64, Ordering::Relaxed), bytes.len() as u64);
        match self.ranges.last_mut() {
            Some(last) if last.0 + last.1 == at => last.1 += len,
            _ => self.ranges.push((at, len)),
        }
        self.spool.file.write_all_at(bytes, at).map_err(no_room)?;
        Ok(at)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if Arc::strong_count(&self.spool) == 1 {
            // The file goes as a whole.
            return;
        }
        for &(at, len) in &self.ranges {
            let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            if let Err(e) = fallocate(&self.spool.file, how, at as i64, len as i64) {
                log::debug!("the room of pieces on disk is not given back before the file is closed: {e}");
                return;
            }
        }
    }
}

/// What a task writes: several pieces, each of which grows bit by bit.
pub(crate) struct Writer {
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

impl Writer {
    pub(crate) fn new(pieces: usize) -> Result<Self, BagError> {
        let room = Room { spool: Spool::current()?, ranges: Vec::new() };
        Ok(Self { room, pieces: vec![Piece::default(); pieces], in_memory: 0 })
    }

    /// Appends a value to a piece.
    pub(crate) fn append<T: Data>(&mut self, piece: usize, value: &T) -> Result<(), BagError> {
        let most = (IN_MEMORY / self.pieces.len()).max(BLOCK);
        let end = &mut self.pieces[piece].end;
        let before = end.len();
        codec::encode(value, end, usize::MAX).map_err(|e| match e {
            Refused::TooLong => no_room(io::Error::other("an element is too long")),
            Refused::Failed(reason) => no_room(io::Error::other(reason)),
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

    fn flush(&mut self, piece: usize) -> Result<(), BagError> {
        let Piece { end, written } = &mut self.pieces[piece];
        if !end.is_empty() {
            written.push((self.room.write(end)?, end.len() as u64));
            self.in_memory -= end.len();
            end.clear();
        }
        Ok(())
    }

    /// The pieces, written as a whole.
    pub(crate) fn finish(mut self) -> Result<Pieces, BagError> {
        (0..self.pieces.len()).try_for_each(|piece| self.flush(piece))?;
        let mut lists = Vec::new();
        let mut ends = vec![0];
        for piece in &self.pieces {
            piece.written.iter().for_each(|range| put(&mut lists, *range));
            ends.push(lists.len() as u64);
        }
        let lists_at = self.room.write(&lists)?;
        let mut table = Vec::new();
        ends.windows(2).for_each(|ends| put(&mut table, (lists_at + ends[0], ends[1] - ends[0])));
        let table = self.room.write(&table)?;
        Ok(Pieces { table, place: Place::Here(Arc::new(self.room)) })
    }
}

fn put(out: &mut Vec<u8>, range: Range) {
    out.extend_from_slice(&range.0.to_le_bytes());
    out.extend_from_slice(&range.1.to_le_bytes());
}

/// What a task has written.
#[derive(Clone)]
pub(crate) struct Pieces {
    /// Where the list of each piece's ranges is, one range after the other.
    table: u64,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Here(Arc<Room>),
    /// In the file that another process has open.
    There(Address),
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
        Self { table: 0, place: Place::There(Address::default()) }
    }

    /// Opens them for reading.
    pub(crate) fn open(&self) -> Result<Reader, CallError> {
        let address = match &self.place {
            Place::Here(room) => return Ok(Reader { table: self.table, file: Opened::Here(Arc::clone(room)) }),
            Place::There(address) => address,
        };
        let lost = |reason: String| {
            // The supervisor hears of the death at the same time; the next try must not come before that.
            std::thread::sleep(PAUSE);
            CallError::InputLost { reason: format!("process {} kept it on disk: {reason}", address.pid) }
        };
        // By now the number may be that of anything, in another process too.
        let path = format!("/proc/{}/fd/{}", address.pid, address.descriptor);
        let (file, _) = open_file(Path::new(&path)).map_err(|e| lost(e.to_string()))?;
        let mut token = [0; 8];
        match file.read_exact_at(&mut token, 0) {
            Ok(()) if u64::from_le_bytes(token) == address.token => {
                Ok(Reader { table: self.table, file: Opened::There(file) })
            }
            Ok(()) => Err(lost("it has gone, and another has got its number".to_string())),
            Err(e) => Err(lost(e.to_string())),
        }
    }
}

impl Serialize for Pieces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = match &self.place {
            Place::There(address) => *address,
            Place::Here(room) => {
                Address { pid: std::process::id(), descriptor: room.spool.file.as_raw_fd(), token: room.spool.token }
            }
        };
        (self.table, address).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (table, address) = Deserialize::deserialize(deserializer)?;
        Ok(Self { table, place: Place::There(address) })
    }
}

/// Pieces that are open for reading.
pub(crate) struct Reader {
    table: u64,
    file: Opened,
}

enum Opened {
    Here(Arc<Room>),
    There(File),
}

impl Reader {
    fn read(&self, (at, len): Range) -> Result<Vec<u8>, BagError> {
        let file = match &self.file {
            Opened::Here(room) => &room.spool.file,
            Opened::There(file) => file,
        };
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, at).map_err(|e| BagError::Unspool { reason: e.to_string() })?;
        Ok(bytes)
    }

    /// Calls `each` with the values of a piece, in the order in which they were written.
    pub(crate) fn values<T: Data>(&self, piece: usize, mut each: impl FnMut(T)) -> Result<(), BagError> {
        for list in ranges(&self.read((self.table + RANGE * piece as u64, RANGE))?) {
            for range in ranges(&self.read(list)?) {
                let block = self.read(range)?;
                let mut left = &block[..];
                while !left.is_empty() {
                    each(codec::decode_next(&mut left).map_err(|reason| BagError::Unspool { reason })?);
                }
            }
        }
        Ok(())
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

    fn written(pieces: usize, values: usize, len: usize) -> Pieces {
        let mut writer = Writer::new(pieces).unwrap();
        for i in 0..values {
            writer.append(i % pieces, &(i, "x".repeat(len))).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(pieces: &Pieces, piece: usize) -> Vec<usize> {
        let mut all = Vec::new();
        pieces.open().unwrap().values(piece, |(i, _): (usize, String)| all.push(i)).unwrap();
        all
    }

    #[test]
    fn pieces_come_back_here_and_elsewhere() {
        let pieces = written(7, 20_000, 2000);
        let mut bytes = Vec::new();
        codec::encode(&pieces, &mut bytes, usize::MAX).unwrap();
        let there: Pieces = codec::decode(&bytes).unwrap();
        assert!(matches!(there.place, Place::There(_)));
        for piece in 0..7 {
            let expected: Vec<_> = (piece..20_000).step_by(7).collect();
            assert_eq!(read(&pieces, piece), expected);
            assert_eq!(read(&there, piece), expected);
        }
        drop(pieces);
        // Its process may still have other pieces; if not, the file is gone.
        let left = there.open().map(|_| ());
        assert!(matches!(left, Ok(()) | Err(CallError::InputLost { .. })));
    }

    #[test]
    fn room_is_given_back() {
        let (first, second) = (written(3, 1000, 5000), written(3, 10, 10));
        let Place::Here(room) = &second.place else { unreachable!() };
        let spool = Arc::clone(&room.spool);
        let blocks = || std::os::unix::fs::MetadataExt::blocks(&spool.file.metadata().unwrap());
        let before = blocks();
        drop(first);
        assert!(blocks() + 4_500_000 / 512 < before, "{} of {before} blocks left", blocks());
        assert_eq!(read(&second, 1), [1, 4, 7]);
    }

    #[test]
    fn a_process_that_is_gone_is_a_lost_input() {
        let gone = Pieces { table: 0, place: Place::There(Address { pid: u32::MAX, descriptor: 3, token: 1 }) };
        assert!(matches!(gone.open(), Err(CallError::InputLost { .. })));
        // The number has become that of a pipe to which nobody writes.
        let (pipe, writer) = nix::unistd::pipe().unwrap();
        drop(writer);
        let address = Address { pid: std::process::id(), descriptor: pipe.as_raw_fd(), token: 1 };
        let gone = Pieces { table: 0, place: Place::There(address) };
        assert!(matches!(gone.open(), Err(CallError::InputLost { .. })));
    }
}
