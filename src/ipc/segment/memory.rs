//! What a segment is made of: a sealed memory file and a mapping of it.

use super::{Errno, SegmentError};
use crate::host::report;
use crate::ipc::ledger::Ledger;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::unistd::ftruncate;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

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
    pub(super) fn new(fd: &OwnedFd, len: NonZeroUsize, protection: ProtFlags) -> nix::Result<Self> {
        Self::at(fd, 0, len, protection)
    }

    pub(super) fn at(fd: &OwnedFd, offset: i64, len: NonZeroUsize, protection: ProtFlags) -> nix::Result<Self> {
        // SAFETY: the kernel chooses a place that is free, so no memory in use is changed.
        let ptr = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, fd, offset) }?;
        Ok(Self { ptr: ptr.cast(), len })
    }

    /// Asks the kernel to read ahead.
    pub(super) fn will_need(&self) {
        self.advise(MmapAdvise::MADV_WILLNEED);
    }

    /// Fills the page tables. Without effect on kernels before 5.14.
    pub(super) fn populate(&self) {
        self.advise(MmapAdvise::MADV_POPULATE_READ);
    }

    /// Advice that changes no contents.
    fn advise(&self, advice: MmapAdvise) {
        // SAFETY: the range is this mapping, which lives as long as `self`.
        if let Err(e) = unsafe { madvise(self.ptr.cast(), self.len.get(), advice) } {
            report!(Debug, "advice on a mapping is not taken: {e}");
        }
    }

    /// Gives the pages back to the machine, whoever else has them mapped; they read as zeroes then.
    ///
    /// # Safety
    /// Nobody, in whatever process, refers to the bytes.
    unsafe fn empty(&self) {
        // SAFETY: the range is this mapping. Its contents change, which nobody sees: that is the caller's promise.
        if let Err(e) = unsafe { madvise(self.ptr.cast(), self.len.get(), MmapAdvise::MADV_REMOVE) } {
            report!(Debug, "a shared segment is given back when the last process lets go of it: {e}");
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

/// Bytes taken out of the budget, given back when dropped.
struct Grant {
    ledger: Ledger,
    bytes: u64,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.ledger.release(self.bytes);
        self.ledger.release_piece();
    }
}

/// Tells memory files apart, for as long as one has a mapping of the file: that keeps its inode, and so its number. Where
/// the numbers of the kernel have wrapped, times differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    made: (i64, i64),
}

impl Identity {
    /// None for a descriptor that is good for writing: the kernel then lets nobody empty the file, see
    /// [`Memory::create`]. What it has stays there until the last mapping of it goes.
    fn of(fd: &OwnedFd, stat: &FileStat) -> nix::Result<Option<Self>> {
        let mode = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
        let made = (stat.st_ctime, stat.st_ctime_nsec);
        Ok((mode == OFlag::O_RDONLY).then_some(Self { device: stat.st_dev, inode: stat.st_ino, made }))
    }
}

/// What a segment consists of. Fields are dropped in order: the budget gets its bytes back when the memory is freed.
pub(super) struct Memory {
    pub(super) mapping: Mapping,
    pub(super) fd: Arc<OwnedFd>,
    /// Of another process's memory: how to know it again.
    pub(super) identity: Option<Identity>,
    grant: Option<Grant>,
}

impl Memory {
    /// A new, zeroed, writable one.
    pub(super) fn create(capacity: NonZeroUsize, ledger: &Ledger) -> Result<Self, SegmentError> {
        let bytes = capacity.get() as u64;
        if !ledger.reserve_piece() {
            return Err(SegmentError::Descriptors);
        }
        ledger.reserve(bytes).inspect_err(|_| ledger.release_piece())?;
        let grant = Grant { ledger: ledger.clone(), bytes };
        Self::create_granted(capacity, grant).map_err(|e| SegmentError::from_errno(e, capacity.get()))
    }

    fn create_granted(capacity: NonZeroUsize, grant: Grant) -> nix::Result<Self> {
        let fd = memfd_create(c"swath", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&fd, i64::try_from(capacity.get()).map_err(|_| Errno::ENOMEM)?)?;
        let mapping = Mapping::new(&fd, capacity, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        // Others get a descriptor that is good for reading only. A seal against writing would do as well, but it would
        // also keep us from emptying the file while others have it mapped.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let shown = match open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(reading) => {
                fcntl(&fd, FcntlArg::F_ADD_SEALS(size))?;
                reading
            }
            Err(Errno::EMFILE | Errno::ENFILE) => return Err(Errno::EMFILE),
            // Some sandboxes have no /proc. We have mapped it, so our mapping stays writable; and some don't know the seal,
            // which is the second line of defence, so do without.
            Err(_) => {
                match fcntl(&fd, FcntlArg::F_ADD_SEALS(size | SealFlag::F_SEAL_FUTURE_WRITE)) {
                    Err(Errno::EINVAL) => fcntl(&fd, FcntlArg::F_ADD_SEALS(size))?,
                    sealed => sealed?,
                };
                fd
            }
        };
        Ok(Self { mapping, fd: Arc::new(shown), identity: None, grant: Some(grant) })
    }

    /// A part of a file of this process, mapped for reading.
    pub(super) fn of_file(mapping: Mapping, fd: Arc<OwnedFd>) -> Self {
        Self { mapping, fd, identity: None, grant: None }
    }

    /// Another process's, mapped for reading: by the mapping of it that `kept` gives, if any. Nothing about `fd` is taken
    /// on trust.
    pub(super) fn attach(
        fd: OwnedFd,
        len: NonZeroUsize,
        kept: impl FnOnce(Identity) -> Option<Mapping>,
    ) -> Result<Self, Result<&'static str, Errno>> {
        // Only memory files can be sealed, so this refuses everything else too: disk files, pipes, devices.
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).map_err(|_| Ok("it is not a memory file"))?;
        let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        if !SealFlag::from_bits_retain(seals).contains(fixed) {
            return Err(Ok("its size is not sealed"));
        }
        let stat = fstat(&fd).map_err(Err)?;
        if u64::try_from(stat.st_size).map_or(true, |size| size < len.get() as u64) {
            return Err(Ok("it is smaller than claimed"));
        }
        let identity = Identity::of(&fd, &stat).map_err(Err)?;
        let mapping = match identity.and_then(kept).filter(|kept| kept.len == len) {
            Some(kept) => kept,
            None => Mapping::new(&fd, len, ProtFlags::PROT_READ).map_err(Err)?,
        };
        Ok(Self { mapping, fd: Arc::new(fd), identity, grant: None })
    }

    pub(super) fn capacity(&self) -> usize {
        self.mapping.len.get()
    }

    /// Gives the memory of this process back to the machine, also where others still have it mapped.
    ///
    /// # Safety
    /// Nobody, in whatever process, refers to the bytes.
    pub(super) unsafe fn discard(self) {
        debug_assert!(self.grant.is_some());
        // SAFETY: the caller's promise.
        unsafe { self.mapping.empty() };
    }
}
