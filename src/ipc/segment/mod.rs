//! Shared-memory segments: where bulk data lies so that processes need not copy it to each other.
//!
//! # Where segments lie
//! A segment is a range of pages of a *memory file*. A process makes few files, each of 64 MiB or as long as its longest
//! segment ([`SegmentPool`]), maps each of them once, and has one descriptor for each; what has not been written of a file
//! takes no memory. Other processes are shown a file with the first message that names a segment of it, map all of it for
//! reading, and need no descriptor then ([`listing`], [`Attachments`]). So descriptors and mappings are as many as there
//! are multiples of 64 MiB, not as there are values.
//!
//! # Who may write when
//! A segment is made by one process, its owner, from that process's pool. It goes through these steps:
//!
//! 1. `SegmentMut`: the owner fills it. Nobody else knows of it.
//! 2. `freeze` makes it an `Arc<Segment>`. From here on nobody writes.
//! 3. The owner may [`lend`](SegmentPool::lend) it: other processes are told where it lies, may pass it on, and say when
//!    their last reference is dropped ([`Attachments::take_released`]).
//! 4. When the owner's last `Arc` is dropped *and* every delivery has been [`returned`](SegmentPool::returned), in whatever
//!    order, its range is unused, and 1 is possible again, under a new number.
//! 5. A program that has left a local cluster may still read what it had. Its owner is told to
//!    [`abandon`](SegmentPool::abandon) that: it ends with 4, but its range is neither used again nor emptied.
//!
//! Deliveries are counted, not flagged: the owner may send a segment again while word of the return of an earlier
//! delivery is still under way, and that word must not free it.
//!
//! A segment can also be a part of a file that this process wrote to disk ([`Segment::on_disk`]): never lent, and by the
//! same rule never written while it is referred to.
//!
//! # Mappings that stay
//! A process keeps a file of another one mapped until it is told that the file has ended
//! ([`Attachments::end_files`]), whether it uses a segment of it or not: a mapping costs no memory, and a segment that comes
//! again at the same place costs no page faults, which otherwise cost more than reading it. Nobody refers to what is unused,
//! so the owner may write meanwhile. Nor does a mapping keep memory from the machine: an owner that gives a range up empties
//! it, whoever has it mapped, unless it is abandoned; and when an owner ends, the others are told
//! ([`Attachments::end_owner`]).
//!
//! # What makes it safe
//! So while a `&[u8]` into a segment exists in any process, the memory does not change. The kernel enforces most of it:
//! seals forbid resizing (a shrunk file would be SIGBUS for readers), and the descriptors that others get are not good for
//! writing. What is left is trust that the owner keeps to the protocol; it runs the same executable under the same
//! user, and could as well write into our memory through /proc. Data read from a segment is nevertheless checked before
//! it is believed: types read from it have no invalid bit patterns.

mod attachments;
pub(crate) mod listing;
mod memory;
mod places;
mod pool;
mod ranges;

pub(crate) use attachments::{Arrival, Attachments};
pub(crate) use memory::{FileId, MemoryFile};
pub(crate) use pool::SegmentPool;

use crate::ipc::disk::Extent;
use crate::ipc::page::account::LedgerError;
use attachments::AttachShared;
use memory::Mapping;
use nix::errno::Errno;
use nix::sys::mman::ProtFlags;
use pool::{PAGE, PoolShared, size_class};
use ranges::Range;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::{Arc, OnceLock};

/// Names a segment, within one supervisor. A number comes again once nobody has the segment any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SegmentId {
    /// The process that made it.
    pub(crate) owner: u32,
    pub(crate) number: u32,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.owner, self.number)
    }
}

/// Why there is no segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SegmentError {
    #[error(transparent)]
    Budget(#[from] LedgerError),
    #[error(
        "no file descriptor left for shared memory, which takes one for each 64 MiB, up to half of those that the limit \
         allows: raise it with `ulimit -n`, or release results earlier"
    )]
    Descriptors,
    #[error("a shared segment of {wanted} bytes is over the file size limit: raise it with `ulimit -f`")]
    FileSize { wanted: usize },
    #[error("no memory for a shared segment of {wanted} bytes: use smaller pieces, or free memory on the machine")]
    Memory { wanted: usize },
    #[error(
        "this process has no address space left to map {wanted} bytes of shared memory that another has sent: raise the \
         limit with `ulimit -v`, or release results earlier"
    )]
    AddressSpace { wanted: usize },
    #[error("segment {id} from another process can't be used: {reason}")]
    Foreign { id: SegmentId, reason: &'static str },
    #[error("memory file {id} from another process can't be used: {reason}")]
    ForeignFile { id: FileId, reason: &'static str },
    #[error("shared segment: {0}")]
    Os(Errno),
}

impl SegmentError {
    fn from_errno(errno: Errno, wanted: usize) -> Self {
        match errno {
            Errno::EMFILE | Errno::ENFILE => Self::Descriptors,
            Errno::EFBIG => Self::FileSize { wanted },
            Errno::ENOMEM | Errno::EINVAL | Errno::EOVERFLOW => Self::Memory { wanted },
            e => Self::Os(e),
        }
    }

    /// Memory of another process cannot be mapped.
    fn unmapped(errno: Errno, wanted: usize) -> Self {
        match errno {
            Errno::ENOMEM => Self::AddressSpace { wanted },
            e => Self::from_errno(e, wanted),
        }
    }

    /// Whether having fewer unused segments could help.
    fn eased_by_trim(&self) -> bool {
        matches!(self, Self::Budget(_) | Self::Descriptors | Self::Memory { .. })
    }
}

/// A frozen segment: its bytes don't change while anyone has it.
pub(crate) struct Segment {
    id: SegmentId,
    file: Arc<MemoryFile>,
    /// Its first byte there, and its length; both lie within the file.
    start: usize,
    len: usize,
    home: Home,
}

/// What takes the memory when the last reference is dropped.
enum Home {
    Pool(Arc<PoolShared>),
    Abroad {
        attachments: Arc<AttachShared>,
        generation: u64,
    },
    /// The part of the file, which is free again when it is dropped.
    Disk {
        _extent: Arc<Extent>,
    },
}

impl Segment {
    pub(crate) fn id(&self) -> SegmentId {
        self.id
    }

    /// Bytes. May be more than was asked for.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Maps a part of a file of this process, all of which has been written.
    pub(crate) fn on_disk(extent: &Arc<Extent>) -> Result<Arc<Self>, SegmentError> {
        let (fd, offset, len) = extent.location();
        let mapping = Mapping::at(fd, offset, len, ProtFlags::PROT_READ)
            .map_err(|errno| SegmentError::from_errno(errno, len.get()))?;
        mapping.will_need();
        let file = Arc::new(MemoryFile::on_disk(mapping));
        let home = Home::Disk { _extent: Arc::clone(extent) };
        let id = SegmentId { owner: u32::MAX, number: 0 };
        let segment = Arc::new(Self { id, file, start: 0, len: len.get(), home });
        places::enter(&segment);
        Ok(segment)
    }

    /// The segment that bytes lie in, and where, if they lie in one.
    pub(crate) fn around(bytes: &[u8]) -> Option<(Arc<Self>, usize)> {
        places::find(bytes)
    }

    /// Whether its bytes lie in a file, which no other process can map.
    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self.home, Home::Disk { .. })
    }

    /// Whether this process made it.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.home, Home::Pool(_))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range lies in the mapping, which lives as long as `self`. All of it is initialised, since files read
        // as zeroes where nothing was written, and backed by the file to its end, which is sealed or our own. Nobody writes
        // while a frozen segment is referred to: the module's text says why. A `SegmentMut` holds a `Segment` too, but
        // then its borrow rules apply.
        unsafe { slice::from_raw_parts(self.file.at(self.start), self.len) }
    }

    /// Fills the mapping, so that the first reader meets no page faults.
    pub(crate) fn populate(&self) {
        self.file.populate(self.start, self.len);
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        debug_assert!(self.is_own());
        // SAFETY: as for `bytes`. Only a `SegmentMut` gives out `&mut Segment`: it is of the pool, so mapped writable, and
        // no other segment has a part of its range; not frozen, so nobody else reads it; and the borrow makes it ours alone
        // here.
        unsafe { slice::from_raw_parts_mut(self.file.at(self.start), self.len) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        places::leave(self);
        match &self.home {
            Home::Pool(pool) => {
                let range = Range { file: self.file.id().number, start: self.start, len: self.len };
                pool.reclaim(self.id.number, range);
            }
            Home::Abroad { attachments, generation } => attachments.release(self.id, *generation),
            Home::Disk { .. } => {}
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({}, {} B)", self.id, self.len())
    }
}

/// A segment that is being filled. Dropped unfrozen, it goes back to the pool.
pub(crate) struct SegmentMut {
    segment: Segment,
    len: usize,
    /// Its memory is that of an earlier one.
    reused: bool,
}

impl SegmentMut {
    /// Makes it `len` bytes long, if it is longer, and gives back what is beyond.
    pub(crate) fn shrink(&mut self, len: usize) {
        self.len = self.len.min(len);
        if let (Home::Pool(pool), Some(capacity)) = (&self.segment.home, size_class(self.len))
            && capacity.get() < self.segment.len
        {
            let beyond = Range {
                file: self.segment.file.id().number,
                start: self.segment.start + capacity.get(),
                len: self.segment.len - capacity.get(),
            };
            self.segment.len = capacity.get();
            pool.give_back(beyond, self.reused);
        }
    }

    pub(crate) fn freeze(self) -> Arc<Segment> {
        let segment = Arc::new(self.segment);
        places::enter(&segment);
        segment
    }
}

impl Deref for SegmentMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.segment.bytes()[..self.len]
    }
}

impl DerefMut for SegmentMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.segment.bytes_mut()[..self.len]
    }
}

impl fmt::Debug for SegmentMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentMut({}, {} of {} B)", self.segment.id, self.len, self.segment.len())
    }
}

static INSTALLED: OnceLock<SegmentPool> = OnceLock::new();

/// Makes `pool` the one that large buffers of this process come from: what is made in a worker is made to be sent.
/// False if there is one already.
pub(crate) fn install(pool: SegmentPool) -> bool {
    INSTALLED.set(pool).is_ok()
}

/// The installed pool. There is one in worker processes only.
pub(crate) fn installed() -> Option<&'static SegmentPool> {
    INSTALLED.get()
}

#[cfg(test)]
mod tests;
