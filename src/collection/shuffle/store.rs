//! Pieces of chunks on disk: written by the task that makes them, read by others, in other processes too.
//!
//! All pieces that a process writes lie in one file without a name, so nothing is left when the process ends, however that
//! happens. It is the file of the process's spilled results where a spill directory was set; else one in the directory for
//! temporary files, which is closed when the last piece is dropped. Who else wants to read opens it through `/proc` as long
//! as the process lives. When a piece is dropped, its room in the file is given back. A result that consists of pieces is
//! bound to its process ([`Record::bound`](crate::task::function::Record::bound)): if that dies, it is made again.

use super::blocks::{self, BlockKey};
use crate::files::open_file;
use crate::ipc::disk::{self, Disk, DiskError, Extent, WeakDisk};
use crate::task::Data;
use crate::task::codec;
use crate::task::codec::Refused;
use crate::task::function::CallError;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Most bytes that one write of pieces keeps in memory.
const IN_MEMORY: usize = 16 << 20;
/// A piece is written in blocks of at least so many bytes; what is left of all pieces in the end, in one go.
const BLOCK: usize = 4 << 10;
/// Room is taken from the file in parts of so many bytes, where there is so much.
const STEP: u64 = 1 << 20;
/// Bytes of a range as it is written.
const RANGE: u64 = 16;
/// Set in the length of a range that is a list of ranges.
const LIST: u64 = 1 << 63;
/// Most files that one reader of pieces keeps open.
const MOST_OPEN: usize = 16;
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
        /// The setting that changes this: `TMPDIR`, `spill_directory`, `spill_limit` or `ulimit -f`.
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
        "ulimit -f" => "raise the limit with `ulimit -f`".to_string(),
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
/// Tells this process from another one that has got its number. It is the system's randomness: two processes that begin at
/// the same moment would draw the same from a generator that is seeded with the time.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));

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
            DiskError::FileSize { .. } => {
                self.refused("its file would be over the file size limit".to_string(), "ulimit -f")
            }
            DiskError::Missing { source, .. }
            | DiskError::Denied { source, .. }
            | DiskError::Full { source, .. }
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
        let at = self.take(bytes.len() as u64)?;
        self.fill(at, bytes)?;
        Ok(at)
    }

    /// Takes room for so many bytes, which are to be written next.
    fn take(&mut self, len: u64) -> Result<u64, ShuffleError> {
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
        let at = extent.offset() + self.used;
        self.used += len;
        Ok(at)
    }

    /// Writes to room that has been taken last.
    fn fill(&self, at: u64, bytes: &[u8]) -> Result<(), ShuffleError> {
        let Some(extent) = self.extents.last() else { unreachable!("it has been taken") };
        self.file.disk.write_at(extent, bytes, at - extent.offset()).map_err(|e| self.file.no_room(e))
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
        Self::in_file(ShuffleFile::current(), pieces)
    }

    fn in_file(file: ShuffleFile, pieces: usize) -> Result<Self, ShuffleError> {
        let room = Room { file, extents: Vec::new(), used: 0 };
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
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        for piece in 0..self.pieces.len() {
            if self.pieces[piece].end.len() >= BLOCK {
                self.flush(piece)?;
            }
        }
        let is_whole = self.room.extents.is_empty();
        let most = |piece: &Piece| piece.end.len() as u64 + RANGE * (piece.written.len() as u64 + 2);
        let len = TOKEN + self.pieces.iter().map(most).sum::<u64>();
        let at = self.room.take(len)?;
        let (mut bytes, mut table) = (Vec::with_capacity(len as usize), Vec::with_capacity(self.pieces.len() * 16));
        for Piece { end, written } in &mut self.pieces {
            let here = at + bytes.len() as u64;
            if !end.is_empty() {
                written.push((here, end.len() as u64));
                bytes.append(end);
            }
            match written[..] {
                [] => put(&mut table, (0, 0)),
                [range] => put(&mut table, range),
                _ => {
                    put(&mut table, (at + bytes.len() as u64, (RANGE * written.len() as u64) | LIST));
                    written.iter().for_each(|range| put(&mut bytes, *range));
                }
            }
        }
        bytes.extend_from_slice(&PROCESS.to_le_bytes());
        let table_at = at + bytes.len() as u64;
        bytes.append(&mut table);
        self.room.fill(at, &bytes)?;
        self.room.close();
        let block = Block {
            at,
            len: if is_whole { bytes.len() as u64 } else { 0 },
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        };
        Ok(Pieces { table: table_at, block, at: PiecesAt::Local(Arc::new(self.room)) })
    }
}

fn put(out: &mut Vec<u8>, range: Range) {
    out.extend_from_slice(&range.0.to_le_bytes());
    out.extend_from_slice(&range.1.to_le_bytes());
}

/// What a task has written.
#[derive(Clone)]
pub(crate) struct Pieces {
    /// Where the range of each piece is, or of the list of its ranges. The process's number stands before it.
    table: u64,
    block: Block,
    at: PiecesAt,
}

/// What has been written last, with the table; of length 0 where that is not all.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Block {
    at: u64,
    len: u64,
    /// Tells it from all others of its process.
    serial: u64,
}

#[derive(Clone)]
enum PiecesAt {
    Local(Arc<Room>),
    /// In the file that another process has open.
    Remote(Address),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Address {
    pid: u32,
    descriptor: i32,
    token: u64,
}

impl Pieces {
    /// For a task that has failed.
    pub(crate) fn none() -> Self {
        Self { table: 0, block: Block::default(), at: PiecesAt::Remote(Address::default()) }
    }

    /// Opens them for reading. `files` are those that the caller has read from while it had these pieces, too; it reads
    /// from `n` such outputs.
    pub(crate) fn open(&self, files: &mut OpenFiles, n: usize) -> Result<Reader, CallError> {
        let Block { at, len, serial } = self.block;
        if len == 0 || !blocks::have_room(len, n) {
            return self.open_file(files);
        }
        let (process, token) = match &self.at {
            PiecesAt::Local(_) => (std::process::id(), *PROCESS),
            PiecesAt::Remote(address) => (address.pid, address.token),
        };
        let key = BlockKey { process, token, serial };
        let block = match blocks::get(key) {
            Some(block) => block,
            None => {
                let reader = self.open_file(files)?;
                // What cannot be read now is told when it is needed.
                let Ok(block) = reader.read((at, len)) else { return Ok(reader) };
                let block = Arc::from(block);
                blocks::put(key, &block);
                block
            }
        };
        Ok(Reader { table: self.table, file: Opened::Memory { block, at } })
    }

    fn open_file(&self, files: &mut OpenFiles) -> Result<Reader, CallError> {
        let address = match &self.at {
            PiecesAt::Local(room) => return Ok(Reader { table: self.table, file: Opened::Local(Arc::clone(room)) }),
            PiecesAt::Remote(address) => address,
        };
        if let Some((_, file)) = files.0.iter().find(|(at, _)| at == address) {
            return Ok(Reader { table: self.table, file: Opened::Remote(Arc::clone(file)) });
        }
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
                let file = Arc::new(file);
                if files.0.len() == MOST_OPEN {
                    files.0.clear();
                }
                files.0.push((*address, Arc::clone(&file)));
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
        (self.table, self.block, address).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (table, block, address) = Deserialize::deserialize(deserializer)?;
        Ok(Self { table, block, at: PiecesAt::Remote(address) })
    }
}

/// Files of other processes, each opened once for all pieces in it.
#[derive(Default)]
pub(crate) struct OpenFiles(Vec<(Address, Arc<File>)>);

/// Pieces that are open for reading.
pub(crate) struct Reader {
    table: u64,
    file: Opened,
}

enum Opened {
    Local(Arc<Room>),
    Remote(Arc<File>),
    /// Not a file, but a copy of all that is needed of it.
    Memory {
        block: Arc<[u8]>,
        at: u64,
    },
}

impl Reader {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> Result<(), ShuffleError> {
        let read = match &self.file {
            Opened::Local(room) => room.file.disk.read_at(bytes, at),
            Opened::Remote(file) => file.read_exact_at(bytes, at),
            Opened::Memory { block, at: first } => {
                let part = at.checked_sub(*first).and_then(|from| block.get(from as usize..)?.get(..bytes.len()));
                part.map(|part| bytes.copy_from_slice(part)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
        };
        read.map_err(|e| ShuffleError::Read { reason: e.to_string() })
    }

    fn read(&self, (at, len): Range) -> Result<Vec<u8>, ShuffleError> {
        let mut bytes = vec![0; len as usize];
        self.read_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// The values of a piece, in the order in which they were written.
    pub(crate) fn piece(self, piece: usize) -> Result<PieceReader, ShuffleError> {
        let mut entry = [0; RANGE as usize];
        self.read_at(&mut entry, self.table + RANGE * piece as u64)?;
        let mut written = SmallVec::<[Range; 1]>::new();
        for (at, len) in ranges(&entry) {
            if len & LIST != 0 {
                written.extend(ranges(&self.read((at, len & !LIST))?));
            } else if len > 0 {
                written.push((at, len));
            }
        }
        Ok(PieceReader { reader: self, ranges: written.into_iter(), block: Vec::new(), at: 0 })
    }
}

/// Reads the values of one piece.
pub(crate) struct PieceReader {
    reader: Reader,
    ranges: smallvec::IntoIter<[Range; 1]>,
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
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    bytes.chunks_exact(RANGE as usize).map(move |b| (number(&b[..8]), number(&b[8..])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::AsRawFd;

    fn written(pieces: usize, values: usize, len: usize) -> Pieces {
        written_in(ShuffleFile::current(), pieces, values, len)
    }

    fn written_in(file: ShuffleFile, pieces: usize, values: usize, len: usize) -> Pieces {
        let mut writer = PieceWriter::in_file(file, pieces).unwrap();
        for i in 0..values {
            writer.append(i % pieces, &(i, "x".repeat(len))).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(pieces: &Pieces, piece: usize) -> Vec<usize> {
        let mut all = Vec::new();
        let mut reader = pieces.open(&mut OpenFiles::default(), 1).unwrap().piece(piece).unwrap();
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
        let left = there.open(&mut OpenFiles::default(), 1).map(|_| ());
        assert!(matches!(left, Ok(()) | Err(CallError::InputLost { .. })));
    }

    #[test]
    fn pieces_of_all_lengths_come_back_from_a_file_that_is_opened_once() {
        // Nothing, less than a block, several blocks, and so much that it is written bit by bit.
        let lengths = [0, 1, 3000, 20_000, 10_000_000, 0, 5];
        let mut writer = PieceWriter::new(lengths.len()).unwrap();
        for (piece, len) in lengths.into_iter().enumerate() {
            (0..len).try_for_each(|i| writer.append(piece, &(i, piece as u64))).unwrap();
        }
        let pieces = writer.finish().unwrap();
        let mut bytes = Vec::new();
        codec::encode(&pieces, &mut bytes, usize::MAX).unwrap();
        let there: Pieces = codec::decode(&bytes).unwrap();
        let mut files = OpenFiles::default();
        for (piece, len) in lengths.into_iter().enumerate() {
            for pieces in [&pieces, &there] {
                let mut reader = pieces.open(&mut files, 1).unwrap().piece(piece).unwrap();
                let mut next = || reader.next_value::<(i32, u64)>().unwrap();
                assert!((0..len).all(|i| next() == Some((i, piece as u64))) && next().is_none(), "{piece}");
            }
        }
        assert_eq!(files.0.len(), 1);
    }

    #[test]
    fn many_small_pieces_are_read_at_once() {
        let pieces = written(50, 1000, 3);
        let mut bytes = Vec::new();
        codec::encode(&pieces, &mut bytes, usize::MAX).unwrap();
        let there: Pieces = codec::decode(&bytes).unwrap();
        let in_memory = |reader: Reader| matches!(reader.file, Opened::Memory { .. });
        assert!(!in_memory(there.open(&mut OpenFiles::default(), 1_000_000).unwrap()), "there is no room for so many");
        assert!(in_memory(there.open(&mut OpenFiles::default(), 50).unwrap()));
        assert_eq!(read(&there, 7), (7..1000).step_by(50).collect::<Vec<_>>());
        // What is there is read without its file, and is not taken for what lies in the same place later.
        drop(pieces);
        assert_eq!(read(&there, 8), (8..1000).step_by(50).collect::<Vec<_>>());
        let others = written(50, 100, 3);
        assert_eq!(read(&others, 8), [8, 58]);
    }

    #[test]
    fn blocks_of_two_processes_are_never_taken_for_each_other() {
        let (first, second) = (written(3, 30, 3), written(3, 60, 3));
        // As if another process had written the second, with the same serial, and even the same number drawn.
        let PiecesAt::Local(room) = &first.at else { unreachable!() };
        let descriptor = room.file.disk.descriptor().unwrap();
        let Pieces { block, table, .. } = second;
        let at = |pid| PiecesAt::Remote(Address { pid, descriptor, token: *PROCESS });
        let other = Pieces { block: Block { serial: first.block.serial, ..block }, table, at: at(u32::MAX) };
        assert_eq!(read(&first, 1).len(), 10);
        assert!(
            matches!(other.open(&mut OpenFiles::default(), 1), Err(CallError::InputLost { .. })),
            "it is no block of ours"
        );
    }

    #[test]
    fn room_is_given_back() {
        // In a file of its own: other tests write to that of the process.
        let disk = Disk::uncounted(std::env::temp_dir());
        let file = ShuffleFile { disk: disk.clone(), setting: "TMPDIR" };
        let (first, second) = (written_in(file.clone(), 3, 1000, 5000), written_in(file, 3, 10, 10));
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
        let lost = Pieces {
            table: 0,
            block: Block::default(),
            at: PiecesAt::Remote(Address { pid: u32::MAX, descriptor: 3, token: 1 }),
        };
        assert!(matches!(lost.open(&mut OpenFiles::default(), 1), Err(CallError::InputLost { .. })));
        // The number has become that of a pipe to which nobody writes.
        let (pipe, writer) = nix::unistd::pipe().unwrap();
        drop(writer);
        let address = Address { pid: std::process::id(), descriptor: pipe.as_raw_fd(), token: 1 };
        let lost = Pieces { table: 0, block: Block::default(), at: PiecesAt::Remote(address) };
        assert!(matches!(lost.open(&mut OpenFiles::default(), 1), Err(CallError::InputLost { .. })));
    }
}
