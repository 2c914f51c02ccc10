//! Memory files, sealed and mapped: what segments lie in.

use super::{Errno, SegmentError};
use crate::host::report;
use crate::ipc::fork::Origin;
use crate::ipc::ledger::Ledger;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::ftruncate;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names a memory file, within one supervisor. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct FileId {
    /// The process that made it.
    pub(crate) owner: u32,
    pub(crate) number: u32,
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.owner, self.number)
    }
}

/// A mapped file, unmapped when dropped.
pub(super) struct Mapping {
    pub(super) ptr: NonNull<u8>,
    pub(super) len: NonZeroUsize,
}

// SAFETY: a mapping belongs to the process, not to a thread. What is done through the pointer is up to its users.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(fd: impl AsFd, len: NonZeroUsize, protection: ProtFlags) -> nix::Result<Self> {
        Self::at(fd, 0, len, protection)
    }

    pub(super) fn at(fd: impl AsFd, offset: i64, len: NonZeroUsize, protection: ProtFlags) -> nix::Result<Self> {
        // SAFETY: the kernel chooses a place that is free, so no memory in use is changed.
        let ptr = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, fd, offset) }?;
        Ok(Self { ptr: ptr.cast(), len })
    }

    /// Asks the kernel to read ahead.
    pub(super) fn will_need(&self) {
        self.advise(0, self.len.get(), MmapAdvise::MADV_WILLNEED);
    }

    /// Advice that changes no contents, about a range that lies within.
    fn advise(&self, start: usize, len: usize, advice: MmapAdvise) {
        debug_assert!(start.checked_add(len).is_some_and(|end| end <= self.len.get()));
        // SAFETY: the range lies in this mapping, which lives as long as `self`.
        if let Err(e) = unsafe { madvise(self.ptr.add(start).cast(), len, advice) } {
            report!(Debug, "advice on a mapping is not taken: {e}");
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length; whoever holds a reference into it keeps `self` alive.
        if let Err(e) = unsafe { munmap(self.ptr.cast(), self.len.get()) } {
            report!(Warn, "a shared segment can't be unmapped: {e}");
        }
    }
}

/// One of the files that there may be, given back when dropped.
struct Counted(Ledger, Origin);

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.1.is_elsewhere() {
            self.0.release_file();
        }
    }
}

/// A mapped memory file, or a mapped part of one or of a file on disk.
pub(crate) struct MemoryFile {
    pub(super) id: FileId,
    mapping: Mapping,
    /// Where in the file the mapping begins.
    base: usize,
    /// Bytes of the whole file.
    len: usize,
    /// For processes that are to map it, too. None where nobody is shown it from here.
    fd: Option<Arc<OwnedFd>>,
    /// Parts of it can be given back to the machine, whoever has it mapped.
    pub(super) can_be_emptied: bool,
    /// Its owner has ended.
    orphaned: Arc<AtomicBool>,
    _counted: Option<Counted>,
}

impl MemoryFile {
    /// A new one, which reads as zeroes, can be written by this process, and takes no memory where nothing was written.
    pub(super) fn create(id: FileId, len: NonZeroUsize, ledger: &Ledger) -> Result<Self, SegmentError> {
        if !ledger.reserve_file() {
            return Err(SegmentError::Descriptors);
        }
        let counted = Counted(ledger.clone(), Origin::here());
        let made = Self::create_counted(id, len, counted);
        made.map_err(|e| SegmentError::from_errno(e, len.get()))
    }

    fn create_counted(id: FileId, len: NonZeroUsize, counted: Counted) -> nix::Result<Self> {
        let fd = memfd_create(c"swath", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&fd, i64::try_from(len.get()).map_err(|_| Errno::ENOMEM)?)?;
        let mapping = Mapping::new(&fd, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        // Others get a descriptor that is good for reading only. A seal against writing would do as well, but it would
        // also keep us from emptying the file while others have it mapped.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let (fd, can_be_emptied) = match open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(reading) => {
                fcntl(&fd, FcntlArg::F_ADD_SEALS(size))?;
                (reading, true)
            }
            Err(Errno::EMFILE | Errno::ENFILE) => return Err(Errno::EMFILE),
            // Some sandboxes have no /proc. We have mapped it, so our mapping stays writable; and some don't know the seal,
            // which is the second line of defence, so do without.
            Err(_) => {
                match fcntl(&fd, FcntlArg::F_ADD_SEALS(size | SealFlag::F_SEAL_FUTURE_WRITE)) {
                    Err(Errno::EINVAL) => fcntl(&fd, FcntlArg::F_ADD_SEALS(size))?,
                    sealed => sealed?,
                };
                (fd, false)
            }
        };
        Ok(Self {
            id,
            mapping,
            base: 0,
            len: len.get(),
            fd: Some(Arc::new(fd)),
            can_be_emptied,
            orphaned: Arc::default(),
            _counted: Some(counted),
        })
    }

    /// A part of a file of this process on disk, mapped for reading.
    pub(super) fn on_disk(mapping: Mapping) -> Self {
        let id = FileId { owner: u32::MAX, number: 0 };
        let len = mapping.len.get();
        Self { id, mapping, base: 0, len, fd: None, can_be_emptied: false, orphaned: Arc::default(), _counted: None }
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Bytes of the file, of which only those that were written take memory.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The byte at a place of the file that is mapped.
    pub(super) fn at(&self, start: usize) -> *mut u8 {
        debug_assert!(start >= self.base && start - self.base <= self.mapping.len.get());
        self.mapping.ptr.as_ptr().wrapping_add(start - self.base)
    }

    /// What others map. None where nobody is shown the file from here: whoever needs it knows it already.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(|fd| fd.as_fd())
    }

    /// Its owner has ended: whoever is shown it maps it for as long as it is used, and is shown it each time.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.orphaned.load(Ordering::Relaxed)
    }

    /// Fills the page tables of a range that lies within. Without effect on kernels before 5.14.
    pub(super) fn populate(&self, start: usize, len: usize) {
        self.mapping.advise(start - self.base, len, MmapAdvise::MADV_POPULATE_READ);
    }

    /// Gives the pages of a range back to the machine, whoever else has them mapped; they read as zeroes then. Whether that
    /// was possible.
    ///
    /// # Safety
    /// The range lies within, and nobody, in whatever process, refers to its bytes.
    pub(super) unsafe fn empty(&self, start: usize, len: usize) -> bool {
        debug_assert!(start.checked_add(len).is_some_and(|end| end <= self.len()));
        // SAFETY: the range lies in this mapping. Its contents change, which nobody sees: both are the caller's promise.
        let emptied = unsafe { madvise(self.mapping.ptr.add(start - self.base).cast(), len, MmapAdvise::MADV_REMOVE) };
        if let Err(e) = emptied {
            report!(Debug, "a shared segment is given back when the last process lets go of it: {e}");
        }
        emptied.is_ok()
    }
}

/// The memory file of another process. It is mapped as a whole where there is address space for that, and else as its
/// segments are used, each by itself.
#[derive(Clone)]
pub(super) enum ForeignFile {
    Mapped(Arc<MemoryFile>),
    Unmapped { id: FileId, fd: Arc<OwnedFd>, len: usize, orphaned: Arc<AtomicBool> },
}

impl ForeignFile {
    /// One that has been shown. Nothing about `fd` is taken on trust. It stays open where the file is to be shown to others.
    pub(super) fn attach(id: FileId, fd: OwnedFd, len: usize, pass_on: bool) -> Result<Self, Refused> {
        // Only memory files can be sealed, so this refuses everything else too: disk files, pipes, devices.
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).map_err(|_| Refused::For("it is not a memory file"))?;
        let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        if !SealFlag::from_bits_retain(seals).contains(fixed) {
            return Err(Refused::For("its size is not sealed"));
        }
        let len = NonZeroUsize::new(len).ok_or(Refused::For("it is empty"))?;
        let stat = fstat(&fd).map_err(Refused::Os)?;
        if u64::try_from(stat.st_size).map_or(true, |size| size < len.get() as u64) {
            return Err(Refused::For("it is smaller than claimed"));
        }
        let orphaned = Arc::default();
        let mapping = match Mapping::new(&fd, len, ProtFlags::PROT_READ) {
            Ok(mapping) => mapping,
            Err(Errno::ENOMEM) => return Ok(Self::Unmapped { id, fd: Arc::new(fd), len: len.get(), orphaned }),
            Err(e) => return Err(Refused::Os(e)),
        };
        let (len, fd) = (len.get(), pass_on.then(|| Arc::new(fd)));
        let file = MemoryFile { id, mapping, base: 0, len, fd, can_be_emptied: false, orphaned, _counted: None };
        Ok(Self::Mapped(Arc::new(file)))
    }

    pub(super) fn id(&self) -> FileId {
        match self {
            Self::Mapped(file) => file.id,
            Self::Unmapped { id, .. } => *id,
        }
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Mapped(file) => file.len,
            Self::Unmapped { len, .. } => *len,
        }
    }

    /// The file mapped, from a page on that lies within at least for `len` bytes, which do too.
    pub(super) fn part(&self, start: usize, len: usize) -> Result<Arc<MemoryFile>, SegmentError> {
        let (id, fd, whole, orphaned) = match self {
            Self::Mapped(file) => return Ok(Arc::clone(file)),
            Self::Unmapped { id, fd, len, orphaned } => (*id, fd, *len, orphaned),
        };
        let mapped = NonZeroUsize::new(len).ok_or(Errno::EINVAL);
        let mapping = mapped.and_then(|mapped| Mapping::at(fd, start as i64, mapped, ProtFlags::PROT_READ));
        let mapping = mapping.map_err(|e| SegmentError::unmapped(e, len))?;
        Ok(Arc::new(MemoryFile {
            id,
            mapping,
            base: start,
            len: whole,
            fd: Some(Arc::clone(fd)),
            can_be_emptied: false,
            orphaned: Arc::clone(orphaned),
            _counted: None,
        }))
    }

    pub(super) fn set_orphaned(&self) {
        let orphaned = match self {
            Self::Mapped(file) => &file.orphaned,
            Self::Unmapped { orphaned, .. } => orphaned,
        };
        orphaned.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryFile({}, {} B)", self.id, self.len())
    }
}

/// Why a file of another process is not mapped.
#[derive(Debug)]
pub(super) enum Refused {
    For(&'static str),
    Os(Errno),
}
