//! Where results lie that memory has no room for: parts of one file, in the form that segments have in memory.
//!
//! The file never has a name that stays, so nothing is left of it when the process ends, however that happens, and
//! what happens to the directory later does not matter. A value is written as it would be sent, its large buffers first
//! and the rest behind them or in memory; reading it back is mapping it. A part is free again when the last mapping of
//! it is dropped: giving its space back may take as long as the disk likes, so a thread of its own does that, and whoever
//! drops a value goes on.

use crate::bytes::Bytes;
use crate::host::report;
use crate::ipc::file_limit::longest_file;
use crate::ipc::ledger::{Ledger, QuotaError};
use crate::ipc::out_of_band::{Layout, layout_with};
use crate::ipc::payload::Payload;
use crate::ipc::segment::{Segment, SegmentError};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::uio::{pread, pwrite};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock, Weak};

/// Parts begin and end at multiples of this, so that each can be mapped.
const PAGE: u64 = 4096;
/// Encoded bytes that stay in memory instead.
const HEAD: usize = 4 << 10;
/// What is written at once.
const CHUNK: usize = 4 << 20;

/// Why the disk takes nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("the spill directory {0} does not exist: create it, or choose another with `spill_directory`", .directory.display())]
    Missing { directory: PathBuf, source: io::Error },
    #[error("the spill directory {0} cannot be written to: choose another with `spill_directory`", .directory.display())]
    Denied { directory: PathBuf, source: io::Error },
    #[error(
        "the file system of the spill directory {0} is full: free space there, or choose another with `spill_directory`",
        .directory.display()
    )]
    Full { directory: PathBuf, source: io::Error },
    #[error("a file in the spill directory {0} is over the file size limit: raise it with `ulimit -f`", .directory.display())]
    FileSize { directory: PathBuf, source: io::Error },
    #[error(transparent)]
    Quota(#[from] QuotaError),
    #[error("the spill directory {0}: {source}", .directory.display())]
    Io { directory: PathBuf, source: io::Error },
    #[error("no thread to give space on disk back: {0}; raise the limit with `ulimit -u`")]
    Thread(io::Error),
    #[error("the value cannot be encoded: {0}")]
    Encode(String),
}

/// The results of one process on disk.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Shared>);

struct Shared {
    directory: PathBuf,
    /// None: what is written counts nowhere.
    ledger: Option<Ledger>,
    file: Mutex<Option<Opened>>,
    room: Mutex<Room>,
}

/// The file, made when it is needed first.
#[derive(Clone)]
struct Opened {
    fd: Arc<OwnedFd>,
    freed: Sender<Freed>,
}

/// Word to the thread that gives space back.
enum Freed {
    Part {
        disk: Arc<Shared>,
        at: u64,
        len: u64,
    },
    /// To be let go when everything before it has been given back.
    Mark {
        _held: Sender<()>,
    },
}

/// Which parts of the file are in use.
#[derive(Default)]
struct Room {
    /// Unused parts before the end: where they begin, and how long they are.
    holes: BTreeMap<u64, u64>,
    end: u64,
}

impl Room {
    /// Takes the first part that is large enough.
    fn take(&mut self, len: u64) -> u64 {
        let found = self.holes.iter().find(|(_, hole)| **hole >= len).map(|(at, hole)| (*at, *hole));
        match found {
            Some((at, hole)) => {
                self.holes.remove(&at);
                if hole > len {
                    self.holes.insert(at + len, hole - len);
                }
                at
            }
            None => {
                self.end += len;
                self.end - len
            }
        }
    }

    /// Gives a part back, and joins it with its neighbours.
    fn give(&mut self, mut at: u64, mut len: u64) {
        if let Some((&before, &hole)) = self.holes.range(..at).next_back()
            && before + hole == at
        {
            self.holes.remove(&before);
            (at, len) = (before, hole + len);
        }
        if let Some(hole) = self.holes.remove(&(at + len)) {
            len += hole;
        }
        if at + len == self.end {
            self.end = at;
        } else {
            self.holes.insert(at, len);
        }
    }
}

/// A part of the file. Free again when it is dropped.
pub(crate) struct Extent {
    disk: Arc<Shared>,
    file: Opened,
    offset: u64,
    /// A multiple of the page size, not 0.
    len: NonZeroUsize,
}

impl Extent {
    /// Where it is, for mapping it.
    pub(super) fn location(&self) -> (&Arc<OwnedFd>, i64, NonZeroUsize) {
        (&self.file.fd, self.offset as i64, self.len)
    }

    /// Where it begins in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.get() as u64
    }

    /// Keeps the first bytes, at least one page, and gives back the pages behind them.
    pub(crate) fn shrink(&mut self, len: u64) {
        let (len, before) = (len.max(1).next_multiple_of(PAGE), self.len());
        if let Some(kept) = usize::try_from(len).ok().and_then(NonZeroUsize::new).filter(|_| len < before) {
            self.len = kept;
            let (disk, at) = (Arc::clone(&self.disk), self.offset + len);
            let _ = self.file.freed.send(Freed::Part { disk, at, len: before - len });
        }
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut at = self.offset + at;
        for chunk in bytes.chunks(CHUNK) {
            file.write_all_at(chunk, at)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        let (at, len) = (self.offset, self.len.get() as u64);
        // The thread lives as long as it may get word.
        let _ = self.file.freed.send(Freed::Part { disk: Arc::clone(&self.disk), at, len });
    }
}

impl Shared {
    /// Frees a part of the file.
    fn give_back(&self, file: &OwnedFd, at: u64, len: u64) {
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // A file system that cannot do this keeps the space for what is written there next.
        if let Err(e) = fallocate(file, punch, at as i64, len as i64) {
            report!(Debug, "space on disk is not given back at once: {e}");
        }
        self.room.lock().give(at, len);
        if let Some(ledger) = &self.ledger {
            ledger.release_disk(len);
        }
    }

    /// Frees what is dropped, as long as anybody has a part of the file or may get one.
    fn give_back_all(file: &OwnedFd, freed: Receiver<Freed>) {
        for word in freed {
            if let Freed::Part { disk, at, len } = word {
                disk.give_back(file, at, len);
            }
        }
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match pwrite(file, &bytes[..bytes.len().min(CHUNK)], at as i64) {
            Ok(n) => (bytes, at) = (&bytes[n..], at + n as u64),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// A disk as long as anything lies there.
pub(crate) struct WeakDisk(Weak<Shared>);

impl WeakDisk {
    pub(crate) const fn new() -> Self {
        Self(Weak::new())
    }

    pub(crate) fn upgrade(&self) -> Option<Disk> {
        self.0.upgrade().map(Disk)
    }
}

/// Where the pieces of shuffles go that tasks of this process write.
static FOR_SHUFFLES: OnceLock<Disk> = OnceLock::new();

/// Has the pieces of shuffles go to `disk`, for as long as the process lives.
pub(crate) fn use_for_shuffles(disk: Disk) {
    // A process is a worker once.
    let _ = FOR_SHUFFLES.set(disk);
}

/// Where the pieces of shuffles go, if that has been said.
pub(crate) fn for_shuffles() -> Option<Disk> {
    FOR_SHUFFLES.get().cloned()
}

/// A value on disk.
pub(crate) struct OnDisk {
    /// The encoded value, where it is small.
    bytes: Bytes,
    in_segment: Option<u64>,
    /// The large buffers, and then the encoded value where it is not small.
    extents: Vec<Arc<Extent>>,
}

impl OnDisk {
    /// The value in encoded form, mapped. To be decoded in this process: no other one can map a file's part.
    pub(crate) fn payload(&self) -> Result<Payload, SegmentError> {
        let segments = self.extents.iter().map(Segment::on_disk).collect::<Result<_, _>>()?;
        Ok(Payload::new(self.bytes.clone(), segments, self.in_segment))
    }

    /// Bytes it takes on disk.
    pub(crate) fn len(&self) -> u64 {
        self.extents.iter().map(|e| e.len.get() as u64).sum()
    }
}

impl Opened {
    /// Waits until everything that has been dropped is free.
    fn settle(&self) {
        let (held, let_go) = channel();
        if self.freed.send(Freed::Mark { _held: held }).is_ok() {
            // An error means that the other end has been dropped, which is the answer.
            let _ = let_go.recv();
        }
    }
}

impl Disk {
    /// Waits until everything that has been dropped is free.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        if let Some(file) = self.0.file.lock().clone() {
            file.settle();
        }
    }

    /// What is written goes to a file in `directory` and is counted in `ledger`.
    pub(crate) fn new(directory: PathBuf, ledger: Ledger) -> Self {
        Self::with(directory, Some(ledger))
    }

    /// What is written goes to a file in `directory` and is not counted.
    pub(crate) fn uncounted(directory: PathBuf) -> Self {
        Self::with(directory, None)
    }

    fn with(directory: PathBuf, ledger: Option<Ledger>) -> Self {
        Self(Arc::new(Shared { directory, ledger, file: Mutex::default(), room: Mutex::default() }))
    }

    pub(crate) fn downgrade(&self) -> WeakDisk {
        WeakDisk(Arc::downgrade(&self.0))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// The file's descriptor in this process, as long as anything lies there. The file is made where there is none.
    pub(crate) fn descriptor(&self) -> Result<RawFd, DiskError> {
        self.open().map(|file| file.fd.as_raw_fd())
    }

    /// Writes bytes into a part, which the caller reads back with [`read_at`](Self::read_at).
    pub(crate) fn write_at(&self, extent: &Extent, bytes: &[u8], at: u64) -> Result<(), DiskError> {
        self.io(write_all(&extent.file.fd, bytes, extent.offset + at))
    }

    /// Reads bytes of the file.
    pub(crate) fn read_at(&self, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
        let file = self.open().map_err(io::Error::other)?;
        while !bytes.is_empty() {
            match pread(&file.fd, bytes, at as i64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => (bytes, at) = (&mut bytes[n..], at + n as u64),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Writes a value that `encode` encodes. Takes as long as the disk does; nothing changes where it fails.
    pub(crate) fn write(&self, encode: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<OnDisk, DiskError> {
        let (encoded, layout) = layout_with(encode);
        let encoded = encoded.map_err(DiskError::Encode)?;
        let mut extents = Vec::with_capacity(2);
        if layout.len > 0 {
            extents.push(self.write_buffers(&layout)?);
        }
        if encoded.len() <= HEAD {
            return Ok(OnDisk { bytes: encoded.into(), in_segment: None, extents });
        }
        let extent = self.extent(encoded.len() as u64)?;
        self.io(extent.write(&self.file()?, &encoded, 0))?;
        extents.push(Arc::new(extent));
        Ok(OnDisk { bytes: Bytes::default(), in_segment: Some(encoded.len() as u64), extents })
    }

    /// Writes a value that has been encoded as these parts, without large buffers of its own.
    pub(crate) fn write_plain(&self, parts: [&[u8]; 2]) -> Result<OnDisk, DiskError> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        if len <= HEAD {
            return Ok(OnDisk { bytes: parts.concat().into(), in_segment: None, extents: Vec::new() });
        }
        let extent = self.extent(len as u64)?;
        let file = self.file()?;
        let mut at = 0;
        for part in parts {
            self.io(extent.write(&file, part, at))?;
            at += part.len() as u64;
        }
        Ok(OnDisk { bytes: Bytes::default(), in_segment: Some(len as u64), extents: vec![Arc::new(extent)] })
    }

    fn write_buffers(&self, layout: &Layout) -> Result<Arc<Extent>, DiskError> {
        let extent = self.extent(layout.len)?;
        let file = self.file()?;
        for (bytes, at) in &layout.buffers {
            self.io(extent.write(&file, bytes, *at))?;
        }
        Ok(Arc::new(extent))
    }

    /// A part of the file of at least so many bytes, to be written by the caller.
    pub(crate) fn extent(&self, len: u64) -> Result<Extent, DiskError> {
        let len = len.next_multiple_of(PAGE);
        let whole = usize::try_from(len).ok().and_then(NonZeroUsize::new);
        let whole = whole.ok_or_else(|| DiskError::Full {
            directory: self.0.directory.clone(),
            source: io::ErrorKind::StorageFull.into(),
        })?;
        let file = self.open()?;
        if let Some(ledger) = &self.0.ledger
            && ledger.reserve_disk(len).is_err()
        {
            // What has been dropped may be on its way.
            file.settle();
            ledger.reserve_disk(len)?;
        }
        let offset = self.0.room.lock().take(len);
        let extent = Extent { disk: Arc::clone(&self.0), file, offset, len: whole };
        // The last page is mapped as a whole, and what lies past the end of a file must not be touched.
        self.io(self.grow(&extent.file.fd, offset + len))?;
        Ok(extent)
    }

    /// Makes the file at least so long.
    fn grow(&self, file: &OwnedFd, end: u64) -> io::Result<()> {
        // Under the lock: otherwise another writer could read the length before this and cut it off again.
        let _file = self.0.file.lock();
        if (nix::sys::stat::fstat(file)?.st_size as u64) < end {
            if end > longest_file() {
                return Err(Errno::EFBIG.into());
            }
            nix::unistd::ftruncate(file, end as i64)?;
        }
        Ok(())
    }

    /// The file, made where there is none yet.
    fn open(&self) -> Result<Opened, DiskError> {
        let mut known = self.0.file.lock();
        if let Some(file) = &*known {
            return Ok(file.clone());
        }
        let file = self.io(tempfile::tempfile_in(&self.0.directory))?;
        let fd = Arc::new(OwnedFd::from(file));
        let (freed, frees) = channel();
        let its = Arc::clone(&fd);
        let thread = std::thread::Builder::new().name("disk-space".to_string());
        thread.spawn(move || Shared::give_back_all(&its, frees)).map_err(DiskError::Thread)?;
        Ok(known.insert(Opened { fd, freed }).clone())
    }

    fn file(&self) -> Result<File, DiskError> {
        let file = self.open()?;
        self.io(file.fd.try_clone()).map(File::from)
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T, DiskError> {
        result.map_err(|source| {
            let directory = self.0.directory.clone();
            use io::ErrorKind;
            match source.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => DiskError::Missing { directory, source },
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => DiskError::Denied { directory, source },
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::Full { directory, source },
                ErrorKind::FileTooLarge => DiskError::FileSize { directory, source },
                _ => DiskError::Io { directory, source },
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::buffer::Buffer;
    use crate::ipc::out_of_band::decode_with;
    use crate::task::codec;
    use proptest::prelude::*;

    fn disk() -> (Disk, tempfile::TempDir, Ledger) {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::in_memory(u64::MAX);
        (Disk::new(dir.path().to_path_buf(), ledger.clone()), dir, ledger)
    }

    fn write<T: crate::Data>(disk: &Disk, value: &T) -> Result<OnDisk, DiskError> {
        disk.write(|| {
            let mut out = Vec::new();
            codec::encode(value, &mut out, usize::MAX).map_err(|e| format!("{e:?}"))?;
            Ok(out)
        })
    }

    fn read<T: crate::Data>(on_disk: &OnDisk) -> T {
        let payload = on_disk.payload().unwrap();
        decode_with(payload.segments(), || codec::decode(payload.content())).unwrap()
    }

    #[test]
    fn a_value_comes_back_and_its_buffers_are_read_in_place() {
        let (disk, dir, _) = disk();
        let numbers = Buffer::<f64>::from_fn(200_000, |i| i as f64);
        let value = ("name".to_string(), vec![numbers.clone(), numbers.slice(7..), Buffer::new()], vec![1_u8; 10]);
        let there = write(&disk, &value).unwrap();
        assert_eq!(there.len(), (1_600_000_u64 + 1_600_000 - 56 + 64).next_multiple_of(PAGE));
        let back: (String, Vec<Buffer<f64>>, Vec<u8>) = read(&there);
        assert_eq!(back, value);
        assert!(!back.1[0].is_shared() && back.1[0].in_segment().is_none());
        // What is read from disk takes no memory, and is written again like anything else.
        assert!(crate::size_of_value(&back.1) < 1000);
        let again = write(&disk, &back.1).unwrap();
        drop((back, there));
        assert_eq!(read::<Vec<Buffer<f64>>>(&again), value.1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn values_without_buffers_come_back_too() {
        let (disk, _dir, ledger) = disk();
        for n in [0, 10, 100_000] {
            let value: Vec<String> = (0..n).map(|i| i.to_string()).collect();
            let there = write(&disk, &value).unwrap();
            assert_eq!(read::<Vec<String>>(&there), value);
            assert_eq!(there.len() > 0, n == 100_000);
        }
        disk.settle();
        assert_eq!(ledger.reserve_disk(u64::MAX), Ok(()), "all of it has been given back");
    }

    #[test]
    fn a_part_is_free_when_its_last_mapping_is_gone() {
        let (disk, _dir, ledger) = disk();
        let value = Buffer::<u8>::from_fn(1 << 20, |i| i as u8);
        let first = write(&disk, &value).unwrap();
        let mapped: Buffer = read(&first);
        drop(first);
        assert!(ledger.reserve_disk(u64::MAX).is_err());
        let second = write(&disk, &Buffer::<u8>::from_fn(1 << 20, |_| 7)).unwrap();
        assert_eq!(mapped, value, "its part has not been used again");
        drop(mapped);
        disk.settle();
        let third = write(&disk, &value).unwrap();
        assert_eq!((third.extents[0].offset, second.extents[0].offset), (0, 1 << 20));
        let allocated = |disk: &Disk| {
            let file = disk.open().unwrap();
            nix::sys::stat::fstat(&*file.fd).unwrap().st_blocks as u64 * 512
        };
        assert!(allocated(&disk) >= 2 << 20);
        drop((second, third));
        disk.settle();
        assert!(allocated(&disk) < 1 << 20, "{}", allocated(&disk));
    }

    #[test]
    fn what_the_directory_lacks_is_said() {
        let (disk, dir, ledger) = disk();
        ledger.set_disk_limit(100_000);
        let value = Buffer::<u8>::from_fn(1 << 20, |i| i as u8);
        let error = write(&disk, &value).err().unwrap();
        assert!(matches!(error, DiskError::Quota(_)) && error.to_string().contains("spill_limit"), "{error}");
        ledger.set_disk_limit(u64::MAX);
        let there = write(&disk, &value).unwrap();
        // What is there stays, whatever happens to the directory.
        drop(dir);
        assert_eq!(read::<Buffer>(&there), value);
        write(&disk, &value).unwrap();
        let missing = Disk::new("/nonexistent/swath".into(), ledger.clone());
        let error = write(&missing, &value).err().unwrap();
        assert!(matches!(error, DiskError::Missing { .. }) && error.to_string().contains("spill_directory"), "{error}");
        let denied = Disk::new("/proc/self".into(), ledger);
        let error = write(&denied, &value).err().unwrap();
        assert!(
            matches!(error, DiskError::Missing { .. } | DiskError::Denied { .. } | DiskError::Io { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_file_over_the_size_limit_is_an_error_and_frees_what_it_took() {
        crate::ipc::testing::run_child(&[], "ipc::disk::tests::child_file_size");
    }

    #[test]
    #[ignore = "run by a_file_over_the_size_limit_is_an_error_and_frees_what_it_took"]
    fn child_file_size() {
        if !crate::ipc::testing::is_child() {
            return;
        }
        use nix::sys::resource::{Resource, setrlimit};
        // The signal would end this process: none is sent.
        let (disk, _dir, ledger) = disk();
        let small = write(&disk, &Buffer::<u8>::from_fn(1 << 18, |i| i as u8)).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, 1 << 20, 1 << 20).unwrap();
        let error = write(&disk, &Buffer::<u8>::from_fn(4 << 20, |i| i as u8)).err().unwrap();
        assert!(matches!(error, DiskError::FileSize { .. }) && error.to_string().contains("ulimit -f"), "{error}");
        assert_eq!(read::<Buffer>(&small).len(), 1 << 18);
        drop(small);
        disk.settle();
        assert_eq!(ledger.reserve_disk(u64::MAX), Ok(()));
    }

    proptest! {
        /// Parts never overlap, and when all are free nothing is left of the file.
        #[test]
        fn parts_do_not_overlap(steps in proptest::collection::vec((any::<bool>(), 1_u64..9, any::<prop::sample::Index>()), 1..200)) {
            let mut state = Room::default();
            let mut parts: Vec<(u64, u64)> = Vec::new();
            for (take, pages, which) in steps {
                if take || parts.is_empty() {
                    let len = pages * PAGE;
                    let at = state.take(len);
                    prop_assert!(parts.iter().all(|(a, l)| at + len <= *a || a + l <= at));
                    parts.push((at, len));
                } else {
                    let (at, len) = parts.swap_remove(which.index(parts.len()));
                    state.give(at, len);
                }
                let used: u64 = parts.iter().map(|p| p.1).sum();
                prop_assert_eq!(used + state.holes.values().sum::<u64>(), state.end);
            }
            for (at, len) in parts {
                state.give(at, len);
            }
            prop_assert_eq!((state.end, state.holes.len()), (0, 0));
        }
    }
}
