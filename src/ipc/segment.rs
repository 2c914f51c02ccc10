//! Shared-memory segments: where bulk data lies so that processes need not copy it to each other.
//!
//! # Who may write when
//! A segment is made by one process, its owner, from that process's [`SegmentPool`]. Its life:
//!
//! 1. `SegmentMut`: the owner fills it. Nobody else knows of it.
//! 2. `freeze` makes it an `Arc<Segment>`. From here on nobody writes.
//! 3. The owner may [`lend`](SegmentPool::lend) it: its descriptor goes to another process, which maps it read-only
//!    ([`Attachments`]), may pass it on, and says when its last reference is gone ([`Attachments::take_released`]).
//! 4. When the owner's last `Arc` is gone *and* every delivery has been [`returned`](SegmentPool::returned), in whatever
//!    order, the memory goes back to the pool, under a new number, and 1 is possible again.
//!
//! Deliveries are counted, not flagged: the owner may send a segment again while word of the return of an earlier
//! delivery is still under way, and that word must not free it.
//!
//! So while a `&[u8]` into a segment exists in any process, the memory does not change. The kernel enforces most of it:
//! seals forbid resizing (a shrunk file would be SIGBUS for readers) and, except through the owner's own mapping,
//! writing. What is left is trust that the owner keeps to the protocol; it runs the same executable under the same
//! user, and could as well write into our memory through /proc. Data read from a segment is nevertheless checked before
//! it is believed: types read from it have no invalid bit patterns.

use crate::ipc::ledger::{Ledger, LedgerError};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, OnceLock, Weak};

/// Capacities are multiples of this; mappings are aligned to it.
const PAGE: usize = 4096;

/// Names one life of a segment, within one supervisor.
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
        "no file descriptor left for a shared segment, of which there are as many as half the limit of descriptors \
         allows: raise it with `ulimit -n`, use fewer and larger values, or release results earlier"
    )]
    Descriptors,
    #[error("a shared segment of {wanted} bytes is over the file size limit: raise it with `ulimit -f`")]
    FileSize { wanted: usize },
    #[error("no memory for a shared segment of {wanted} bytes: use smaller pieces, or free memory on the machine")]
    Memory { wanted: usize },
    #[error("segment {id} from another process can't be used: {reason}")]
    Foreign { id: SegmentId, reason: &'static str },
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

    /// Whether having fewer unused segments could help.
    fn eased_by_trim(&self) -> bool {
        matches!(self, Self::Budget(_) | Self::Descriptors | Self::Memory { .. })
    }
}

/// A mapped file, unmapped when dropped.
struct Mapping {
    ptr: NonNull<u8>,
    len: NonZeroUsize,
}

// SAFETY: a mapping belongs to the process, not to a thread. What is done through the pointer is up to its users.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: &OwnedFd, len: NonZeroUsize, protection: ProtFlags) -> nix::Result<Self> {
        // SAFETY: the kernel chooses a place that is free, so no memory in use is changed.
        let ptr = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { ptr: ptr.cast(), len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length; whoever holds a reference into it keeps `self` alive.
        if let Err(e) = unsafe { munmap(self.ptr.cast(), self.len.get()) } {
            log::warn!("a shared segment can't be unmapped: {e}");
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

/// What a segment consists of. Fields are dropped in order: the budget gets its bytes back when the memory is gone.
struct Memory {
    mapping: Mapping,
    fd: OwnedFd,
    _grant: Option<Grant>,
}

impl Memory {
    /// A new, zeroed, writable one.
    fn create(capacity: NonZeroUsize, ledger: &Ledger) -> Result<Self, SegmentError> {
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
        // Sealed after we have mapped it: from here on nobody can map it for writing, but our mapping stays writable.
        let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        match fcntl(&fd, FcntlArg::F_ADD_SEALS(size | SealFlag::F_SEAL_FUTURE_WRITE)) {
            // Some sandboxes don't know that seal. It is the second line of defence, so do without.
            Err(Errno::EINVAL) => fcntl(&fd, FcntlArg::F_ADD_SEALS(size))?,
            sealed => sealed?,
        };
        Ok(Self { mapping, fd, _grant: Some(grant) })
    }

    /// Another process's, mapped for reading. Nothing about `fd` is taken on trust.
    fn attach(fd: OwnedFd, len: NonZeroUsize) -> Result<Self, Result<&'static str, Errno>> {
        // Only memory files can be sealed, so this refuses everything else too: disk files, pipes, devices.
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).map_err(|_| Ok("it is not a memory file"))?;
        let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        if !SealFlag::from_bits_retain(seals).contains(fixed) {
            return Err(Ok("its size is not sealed"));
        }
        let size = fstat(&fd).map_err(Err)?.st_size;
        if u64::try_from(size).map_or(true, |size| size < len.get() as u64) {
            return Err(Ok("it is smaller than claimed"));
        }
        let mapping = Mapping::new(&fd, len, ProtFlags::PROT_READ).map_err(Err)?;
        Ok(Self { mapping, fd, _grant: None })
    }

    fn capacity(&self) -> usize {
        self.mapping.len.get()
    }
}

/// A frozen segment: its bytes don't change while anyone has it.
pub(crate) struct Segment {
    id: SegmentId,
    memory: ManuallyDrop<Memory>,
    home: Home,
}

/// Who hears of the last reference's end.
enum Home {
    Pool(Arc<PoolShared>),
    Abroad { attachments: Arc<AttachShared>, life: u64 },
}

impl Segment {
    pub(crate) fn id(&self) -> SegmentId {
        self.id
    }

    /// Bytes mapped. May be more than was asked for.
    pub(crate) fn len(&self) -> usize {
        self.memory.capacity()
    }

    /// Whether this process made it.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.home, Home::Pool(_))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let mapping = &self.memory.mapping;
        // SAFETY: the mapping is that long and lives as long as `self`. All of it is initialised, since files read as
        // zeroes where nothing was written, and backed by the file to its end, which is sealed or our own. Nobody writes
        // while a frozen segment is referred to: the module's text says why. A `SegmentMut` holds a `Segment` too, but
        // then its borrow rules apply.
        unsafe { slice::from_raw_parts(mapping.ptr.as_ptr(), mapping.len.get()) }
    }

    /// Fills the mapping, so that the first reader meets no page faults. Without effect on kernels before 5.14.
    pub(crate) fn populate(&self) {
        let mapping = &self.memory.mapping;
        // SAFETY: the range is the mapping's own, which lives as long as `self`; the advice changes no content.
        let filled = unsafe { madvise(mapping.ptr.cast(), mapping.len.get(), MmapAdvise::MADV_POPULATE_READ) };
        if let Err(e) = filled {
            log::debug!("a mapping is not filled ahead: {e}");
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        debug_assert!(self.is_own());
        let mapping = &self.memory.mapping;
        // SAFETY: as for `bytes`. Only a `SegmentMut` gives out `&mut Segment`: it is of the pool, so mapped writable;
        // not frozen, so no process but ours knows the memory; and the borrow makes it ours alone here.
        unsafe { slice::from_raw_parts_mut(mapping.ptr.as_ptr(), mapping.len.get()) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: drop runs once, and nothing uses the field after this line.
        let memory = unsafe { ManuallyDrop::take(&mut self.memory) };
        match &self.home {
            Home::Pool(pool) => pool.take_back(self.id.number, memory),
            Home::Abroad { attachments, life } => {
                drop(memory);
                attachments.release(self.id, *life);
            }
        }
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.fd.as_fd()
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
}

impl SegmentMut {
    pub(crate) fn freeze(self) -> Arc<Segment> {
        Arc::new(self.segment)
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

/// Makes segments and keeps unused ones: a new one costs ten times a used one, all of it page faults and zeroing.
#[derive(Clone)]
pub(crate) struct SegmentPool(Arc<PoolShared>);

struct PoolShared {
    owner: u32,
    ledger: Ledger,
    max_free_bytes: usize,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// By capacity; the last used is used first, since it may still be in the cache.
    free: BTreeMap<usize, Vec<Memory>>,
    free_bytes: usize,
    /// Every number in use.
    live: FxHashMap<u32, Life>,
    next_number: u32,
    created: u64,
    reused: u64,
}

#[derive(Default)]
struct Life {
    /// Deliveries to other processes not yet returned.
    lent: u32,
    /// Here once our own last reference is gone and deliveries are outstanding.
    parked: Option<Memory>,
}

/// What a pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolStats {
    /// Segments in use, here or elsewhere.
    pub(crate) live: usize,
    /// Those of them used elsewhere only.
    pub(crate) parked: usize,
    pub(crate) free: usize,
    pub(crate) free_bytes: usize,
    /// Segments made since the start, and times that one was used again instead.
    pub(crate) created: u64,
    pub(crate) reused: u64,
}

impl SegmentPool {
    /// A pool whose segments are named after `owner` and taken from `ledger`. It keeps at most `max_free_bytes` unused.
    pub(crate) fn new(owner: u32, ledger: Ledger, max_free_bytes: usize) -> Self {
        Self(Arc::new(PoolShared { owner, ledger, max_free_bytes, state: Mutex::default() }))
    }

    /// A segment of `len` bytes, with whatever contents an earlier user left.
    pub(crate) fn alloc(&self, len: usize) -> Result<SegmentMut, SegmentError> {
        Ok(self.alloc_inner(len)?.0)
    }

    /// The same, zeroed.
    pub(crate) fn alloc_zeroed(&self, len: usize) -> Result<SegmentMut, SegmentError> {
        let (mut segment, reused) = self.alloc_inner(len)?;
        if reused {
            segment.fill(0);
        }
        Ok(segment)
    }

    fn alloc_inner(&self, len: usize) -> Result<(SegmentMut, bool), SegmentError> {
        let capacity = size_class(len).ok_or(SegmentError::Memory { wanted: len })?;
        let pooled = self.0.state.lock().take_free(capacity.get());
        let reused = pooled.is_some();
        let memory = match pooled {
            Some(memory) => memory,
            None => match Memory::create(capacity, &self.0.ledger) {
                Err(e) if e.eased_by_trim() && self.trim() > 0 => Memory::create(capacity, &self.0.ledger)?,
                made => made?,
            },
        };
        let number = self.0.state.lock().begin_life(reused);
        let id = SegmentId { owner: self.0.owner, number };
        let segment = Segment { id, memory: ManuallyDrop::new(memory), home: Home::Pool(self.0.clone()) };
        Ok((SegmentMut { segment, len }, reused))
    }

    /// To be called once for each time that `segment` is sent to another process, before it is sent. False for a segment
    /// that is not this pool's: its owner knows already that it is out.
    pub(crate) fn lend(&self, segment: &Arc<Segment>) -> bool {
        if !matches!(&segment.home, Home::Pool(home) if Arc::ptr_eq(home, &self.0)) {
            return false;
        }
        let mut state = self.0.state.lock();
        let life = state.live.get_mut(&segment.id.number).expect("a referenced segment has a life");
        life.lent = life.lent.saturating_add(1);
        true
    }

    /// So many deliveries of `id` are no longer used by whoever got them.
    pub(crate) fn returned(&self, id: SegmentId, deliveries: u32) {
        let surplus = {
            let mut state = self.0.state.lock();
            let life = (id.owner == self.0.owner).then(|| state.live.get_mut(&id.number)).flatten();
            let Some(life) = life.filter(|life| life.lent > 0) else {
                log::debug!("segment {id} was returned, but is not lent");
                return;
            };
            life.lent = life.lent.saturating_sub(deliveries);
            if life.lent > 0 {
                return;
            }
            let Some(memory) = life.parked.take() else { return };
            state.live.remove(&id.number);
            state.keep(memory, self.0.max_free_bytes)
        };
        // Outside the lock: giving memory back to the kernel takes a third of a millisecond a MiB.
        drop(surplus);
    }

    /// Gives all unused segments back to the machine, and says how many bytes that was.
    pub(crate) fn trim(&self) -> usize {
        let (free, bytes) = {
            let mut state = self.0.state.lock();
            (std::mem::take(&mut state.free), std::mem::take(&mut state.free_bytes))
        };
        drop(free);
        bytes
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let state = self.0.state.lock();
        PoolStats {
            live: state.live.len(),
            parked: state.live.values().filter(|l| l.parked.is_some()).count(),
            free: state.free.values().map(Vec::len).sum(),
            free_bytes: state.free_bytes,
            created: state.created,
            reused: state.reused,
        }
    }
}

impl fmt::Debug for SegmentPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SegmentPool").field(&self.0.owner).field(&self.stats()).finish()
    }
}

impl PoolShared {
    fn take_back(&self, number: u32, memory: Memory) {
        let surplus = {
            let mut state = self.state.lock();
            match state.live.get_mut(&number) {
                Some(life) if life.lent > 0 => {
                    life.parked = Some(memory);
                    None
                }
                _ => {
                    state.live.remove(&number);
                    state.keep(memory, self.max_free_bytes)
                }
            }
        };
        drop(surplus);
    }
}

impl PoolState {
    /// The smallest unused segment that is large enough and not wastefully so.
    fn take_free(&mut self, capacity: usize) -> Option<Memory> {
        let (&found, _) = self.free.range(capacity..=capacity.saturating_mul(2)).next()?;
        let of_that_size = self.free.get_mut(&found)?;
        let memory = of_that_size.pop();
        if of_that_size.is_empty() {
            self.free.remove(&found);
        }
        self.free_bytes -= found;
        memory
    }

    /// Keeps it for later, or hands it back where that would be too much.
    fn keep(&mut self, memory: Memory, max_free_bytes: usize) -> Option<Memory> {
        let capacity = memory.capacity();
        if self.free_bytes.saturating_add(capacity) > max_free_bytes {
            return Some(memory);
        }
        self.free_bytes += capacity;
        self.free.entry(capacity).or_default().push(memory);
        None
    }

    fn begin_life(&mut self, reused: bool) -> u32 {
        if reused {
            self.reused += 1;
        } else {
            self.created += 1;
        }
        // Numbers wrap round in the end, and one may be in use since long ago.
        loop {
            let number = self.next_number;
            self.next_number = number.wrapping_add(1);
            if let std::collections::hash_map::Entry::Vacant(free) = self.live.entry(number) {
                free.insert(Life::default());
                return number;
            }
        }
    }
}

/// Rounds up so that lengths which differ a little share their segments: eight sizes to each doubling.
fn size_class(len: usize) -> Option<NonZeroUsize> {
    let len = len.max(1);
    // The power of two above is at most twice the length, so a step is at most an eighth of it.
    let step = (len.checked_next_power_of_two()? / 16).max(PAGE);
    let capacity = len.checked_next_multiple_of(step)?;
    NonZeroUsize::new(capacity).filter(|c| isize::try_from(c.get()).is_ok())
}

/// The segments of other processes that this one has mapped.
#[derive(Clone, Default)]
pub(crate) struct Attachments(Arc<AttachShared>);

type Notifier = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct AttachShared {
    state: Mutex<AttachState>,
    notifier: OnceLock<Notifier>,
}

#[derive(Default)]
struct AttachState {
    live: FxHashMap<SegmentId, Attached>,
    released: Vec<(SegmentId, u32)>,
    lives: u64,
}

struct Attached {
    segment: Weak<Segment>,
    /// Tells this mapping from an earlier one of the same id whose `Drop` has not got the lock yet.
    life: u64,
    deliveries: u32,
}

impl Attachments {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// `notifier` is called whenever there is something to take after there was nothing, on whichever thread drops the
    /// segment. Set once; a second one is ignored.
    pub(crate) fn set_notifier(&self, notifier: Notifier) {
        if self.0.notifier.set(notifier).is_err() {
            log::debug!("the notifier of released segments is set already");
        }
    }

    /// Takes one delivery of a segment of which the sender says that it has `len` bytes. A delivery that is refused
    /// counts as released at once, so that an honest owner gets its segment back.
    pub(crate) fn attach(&self, id: SegmentId, fd: OwnedFd, len: usize) -> Result<Arc<Segment>, SegmentError> {
        let mut state = self.0.state.lock();
        if let Some(known) = state.live.get_mut(&id)
            && let Some(segment) = known.segment.upgrade()
        {
            known.deliveries = known.deliveries.saturating_add(1);
            drop(state);
            if segment.len() < len {
                return Err(SegmentError::Foreign { id, reason: "it is smaller than claimed" });
            }
            return Ok(segment);
        }
        let memory = match NonZeroUsize::new(len) {
            Some(len) => Memory::attach(fd, len).map_err(|reason| match reason {
                Ok(reason) => SegmentError::Foreign { id, reason },
                Err(errno) => SegmentError::from_errno(errno, len.get()),
            }),
            None => Err(SegmentError::Foreign { id, reason: "it is empty" }),
        };
        let memory = match memory {
            Ok(memory) => memory,
            Err(e) => {
                let notify = state.push_released(id, 1);
                drop(state);
                self.0.notify(notify);
                return Err(e);
            }
        };
        let life = state.lives;
        state.lives += 1;
        let home = Home::Abroad { attachments: self.0.clone(), life };
        let segment = Arc::new(Segment { id, memory: ManuallyDrop::new(memory), home });
        // An entry that is still here is of a mapping being dropped right now. Its deliveries pass over to this one.
        let before = state.live.get(&id).map_or(0, |old| old.deliveries);
        let attached = Attached { segment: Arc::downgrade(&segment), life, deliveries: before.saturating_add(1) };
        state.live.insert(id, attached);
        Ok(segment)
    }

    /// What is no longer used here since the last call, with the number of deliveries to return to the owner.
    pub(crate) fn take_released(&self) -> Vec<(SegmentId, u32)> {
        std::mem::take(&mut self.0.state.lock().released)
    }

    /// Number of segments mapped.
    pub(crate) fn len(&self) -> usize {
        self.0.state.lock().live.len()
    }
}

impl fmt::Debug for Attachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachments({} mapped)", self.len())
    }
}

impl AttachShared {
    fn release(&self, id: SegmentId, life: u64) {
        let notify = {
            let mut state = self.state.lock();
            match state.live.get(&id) {
                Some(entry) if entry.life == life => {
                    let deliveries = entry.deliveries;
                    state.live.remove(&id);
                    state.push_released(id, deliveries)
                }
                // Mapped anew meanwhile: that mapping reports our deliveries too.
                _ => false,
            }
        };
        self.notify(notify);
    }

    /// Not under the lock: the notifier may call back.
    fn notify(&self, wanted: bool) {
        if wanted && let Some(notifier) = self.notifier.get() {
            notifier();
        }
    }
}

impl AttachState {
    /// Whether the list was empty before.
    fn push_released(&mut self, id: SegmentId, deliveries: u32) -> bool {
        self.released.push((id, deliveries));
        self.released.len() == 1
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::testing;
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::signal::{SigHandler, Signal, signal};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    const MIB: usize = 1 << 20;

    fn pool(limit: u64) -> (SegmentPool, Ledger) {
        let ledger = Ledger::in_memory(limit);
        (SegmentPool::new(1, ledger.clone(), 64 * MIB), ledger)
    }

    fn filled(pool: &SegmentPool, len: usize, byte: u8) -> Arc<Segment> {
        let mut segment = pool.alloc(len).unwrap();
        segment.fill(byte);
        segment.freeze()
    }

    fn fd_of(segment: &Segment) -> OwnedFd {
        segment.as_fd().try_clone_to_owned().unwrap()
    }

    #[test]
    fn sizes_are_rounded_a_little() {
        assert_eq!(size_class(0).unwrap().get(), PAGE);
        assert_eq!(size_class(PAGE + 1).unwrap().get(), 2 * PAGE);
        assert_eq!(size_class(MIB).unwrap().get(), MIB);
        for len in [1usize, 65_000, 70_000, MIB + 1, 3 * MIB + 5, 1 << 40, (1 << 40) + 1] {
            let class = size_class(len).unwrap().get();
            assert!(
                class >= len && class.is_multiple_of(PAGE) && class - len <= (len / 8).max(PAGE),
                "{len} -> {class}"
            );
            assert_eq!(size_class(class).unwrap().get(), class);
        }
        assert_eq!(size_class(usize::MAX), None);
        assert_eq!(size_class(isize::MAX as usize), None);
    }

    #[test]
    fn another_mapping_sees_the_bytes() {
        let (pool, _) = pool(u64::MAX);
        let attachments = Attachments::new();
        let segment = filled(&pool, 100_000, 7);
        assert!(pool.lend(&segment));
        let theirs = attachments.attach(segment.id(), fd_of(&segment), segment.len()).unwrap();
        assert_eq!(theirs.bytes(), segment.bytes());
        assert_ne!(theirs.bytes().as_ptr(), segment.bytes().as_ptr());
        assert!(!theirs.is_own() && segment.is_own() && !pool.lend(&theirs));
        // Passed on, by a process that only has it mapped.
        let third = Attachments::new().attach(theirs.id(), fd_of(&theirs), theirs.len()).unwrap();
        assert_eq!(third.bytes()[99_999], 7);
    }

    #[test]
    fn nobody_else_can_write_or_resize() {
        let (pool, _) = pool(u64::MAX);
        let segment = filled(&pool, 100_000, 7);
        let fd = fd_of(&segment);
        let len = NonZeroUsize::new(segment.len()).unwrap();
        assert_eq!(ftruncate(&fd, 0), Err(Errno::EPERM));
        assert_eq!(ftruncate(&fd, 1 << 30), Err(Errno::EPERM));
        assert!(Mapping::new(&fd, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).is_err());
        assert_eq!(nix::unistd::write(&fd, b"x"), Err(Errno::EPERM));
        assert!(fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).is_err());
        // We still can once it is free again.
        let old = segment.bytes().as_ptr();
        drop(segment);
        let again = filled(&pool, 100_000, 8);
        assert_eq!(again.bytes().as_ptr(), old);
        assert_eq!(again.bytes()[0], 8);
    }

    #[test]
    fn used_segments_are_used_again_under_a_new_number() {
        let (pool, ledger) = pool(u64::MAX);
        let first = filled(&pool, MIB, 1);
        let id = first.id();
        drop(first);
        assert_eq!(pool.stats().free, 1);
        let second = pool.alloc(MIB - 10_000).unwrap();
        assert_eq!(second.len(), MIB - 10_000);
        assert!(second.iter().all(|b| *b == 1));
        drop(second);
        let third = pool.alloc_zeroed(MIB).unwrap();
        assert!(third.iter().all(|b| *b == 0));
        let third = third.freeze();
        assert_ne!(third.id(), id);
        assert_eq!((pool.stats().created, pool.stats().reused), (1, 2));
        drop(third);
        // Half as large: too wasteful.
        drop(pool.alloc(MIB / 4).unwrap());
        assert_eq!(pool.stats().created, 2);
        // The closest fit is taken.
        let small = filled(&pool, MIB / 8, 0);
        assert_eq!(small.len(), MIB / 4);
        drop(small);
        assert!(ledger.used() > 0);
        assert_eq!(pool.trim(), MIB + MIB / 4);
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn free_segments_are_bounded() {
        let ledger = Ledger::in_memory(u64::MAX);
        let pool = SegmentPool::new(1, ledger.clone(), 2 * MIB);
        let held: Vec<_> = (0..5).map(|_| filled(&pool, MIB, 1)).collect();
        assert_eq!(pool.stats().live, 5);
        drop(held);
        assert_eq!((pool.stats().free_bytes, pool.stats().live), (2 * MIB, 0));
        assert_eq!(ledger.used(), 2 * MIB as u64);
        drop(pool);
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn the_budget_holds_and_free_segments_yield_to_it() {
        let (pool, ledger) = pool(4 * MIB as u64);
        let held = filled(&pool, 2 * MIB, 1);
        drop(filled(&pool, MIB, 1));
        // 3 of 4 MiB are used, one of them by a free segment.
        let more = filled(&pool, 2 * MIB, 1);
        assert_eq!(ledger.used(), 4 * MIB as u64);
        let error = pool.alloc(MIB).unwrap_err();
        assert!(matches!(error, SegmentError::Budget(e) if e.limit == 4 * MIB as u64));
        assert!(error.to_string().contains("shared_memory_limit"));
        drop((held, more));
        pool.alloc(4 * MIB).unwrap();
    }

    #[test]
    fn a_lent_segment_waits_for_its_return() {
        let (pool, _) = pool(u64::MAX);
        let segment = filled(&pool, MIB, 1);
        let id = segment.id();
        assert!(pool.lend(&segment));
        drop(segment);
        assert_eq!((pool.stats().parked, pool.stats().free), (1, 0));
        pool.returned(SegmentId { owner: 2, number: id.number }, 1);
        assert_eq!(pool.stats().parked, 1);
        pool.returned(id, 1);
        assert_eq!((pool.stats().live, pool.stats().free), (0, 1));
        pool.returned(id, 1);
        assert_eq!(pool.stats().free, 1);

        // Returned while we still have it.
        let segment = filled(&pool, MIB, 2);
        pool.lend(&segment);
        pool.returned(segment.id(), 1);
        assert_eq!(segment.bytes()[0], 2);
        drop(segment);
        assert_eq!(pool.stats().free, 1);
    }

    #[test]
    fn a_return_under_way_does_not_end_a_later_lending() {
        let (pool, _) = pool(u64::MAX);
        let segment = filled(&pool, MIB, 1);
        let id = segment.id();
        pool.lend(&segment);
        pool.lend(&segment);
        drop(segment);
        pool.returned(id, 1);
        assert_eq!((pool.stats().parked, pool.stats().free), (1, 0));
        pool.returned(id, 1);
        assert_eq!((pool.stats().parked, pool.stats().free), (0, 1));
    }

    #[test]
    fn attached_segments_are_mapped_once_and_reported_with_their_count() {
        let (pool, _) = pool(u64::MAX);
        let attachments = Attachments::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        attachments.set_notifier(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let segments = [filled(&pool, MIB, 1), filled(&pool, MIB, 2)];
        let attach = |s: &Arc<Segment>| attachments.attach(s.id(), fd_of(s), s.len()).unwrap();
        let a = attach(&segments[0]);
        let b = attach(&segments[0]);
        assert!(Arc::ptr_eq(&a, &b));
        let c = attach(&segments[1]);
        assert_eq!(attachments.len(), 2);
        drop(a);
        assert_eq!(attachments.take_released(), []);
        drop((b, c));
        assert_eq!(calls.load(Ordering::Relaxed), 1, "once until somebody takes");
        assert_eq!(attachments.take_released(), [(segments[0].id(), 2), (segments[1].id(), 1)]);
        drop(attach(&segments[1]));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        assert_eq!((attachments.len(), attachments.take_released().len()), (0, 1));
    }

    #[test]
    fn racing_deliveries_and_drops_lose_no_count() {
        let (pool, _) = pool(u64::MAX);
        let attachments = Attachments::new();
        let segment = filled(&pool, 1000, 9);
        const EACH: u32 = 2000;
        thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    for _ in 0..EACH {
                        pool.lend(&segment);
                        let got = attachments.attach(segment.id(), fd_of(&segment), segment.len()).unwrap();
                        assert_eq!(got.bytes()[0], 9);
                    }
                });
            }
        });
        let released = attachments.take_released();
        assert_eq!(released.iter().map(|(_, n)| n).sum::<u32>(), 3 * EACH);
        for (id, n) in released {
            pool.returned(id, n);
        }
        drop(segment);
        assert_eq!((pool.stats().live, pool.stats().free), (0, 1));
    }

    #[test]
    fn hostile_descriptors_are_refused() {
        let attachments = Attachments::new();
        let id = SegmentId { owner: 3, number: 4 };
        let refused = |fd: OwnedFd, len, why: &str| {
            let error = attachments.attach(id, fd, len).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(attachments.take_released(), [(id, 1)]);
        };
        let memfd = |seals: SealFlag, len| {
            let fd = memfd_create(c"x", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
            ftruncate(&fd, len).unwrap();
            fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
            fd
        };
        let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        refused(memfd(SealFlag::F_SEAL_GROW, 4096), 4096, "not sealed");
        refused(memfd(SealFlag::F_SEAL_SHRINK, 4096), 4096, "not sealed");
        refused(memfd(fixed, 4096), 4097, "smaller");
        refused(memfd(fixed, 4096), usize::MAX, "smaller");
        refused(memfd(fixed, 0), 0, "empty");
        refused(tempfile::tempfile().unwrap().into(), 1, "not a memory file");
        refused(nix::unistd::pipe().unwrap().0, 1, "not a memory file");
        let (pool, _) = pool(u64::MAX);
        let good = filled(&pool, 4096, 1);
        let kept = attachments.attach(good.id(), fd_of(&good), good.len()).unwrap();
        assert!(attachments.attach(good.id(), fd_of(&good), good.len() + 1).is_err());
        drop(kept);
        assert_eq!(attachments.take_released(), [(good.id(), 2)]);
        assert_eq!(attachments.len(), 0);
    }

    #[test]
    fn a_segment_no_machine_has_memory_for_is_an_error() {
        let (pool, ledger) = pool(u64::MAX);
        assert!(matches!(pool.alloc(1 << 60), Err(SegmentError::Memory { .. } | SegmentError::FileSize { .. })));
        assert!(matches!(pool.alloc(usize::MAX), Err(SegmentError::Memory { .. })));
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn numbers_in_use_are_skipped_when_they_wrap() {
        let (pool, _) = pool(u64::MAX);
        pool.0.state.lock().next_number = u32::MAX;
        let held: Vec<_> = (0..2).map(|_| filled(&pool, 1, 0)).collect();
        pool.0.state.lock().next_number = u32::MAX;
        assert_eq!(held.iter().map(|s| s.id().number).collect::<Vec<_>>(), [u32::MAX, 0]);
        assert_eq!(filled(&pool, 1, 0).id().number, 1);
    }

    #[test]
    fn limits_of_the_process_are_typed_errors() {
        testing::run_child(&[], "ipc::segment::tests::child_limits");
    }

    #[test]
    #[ignore = "run by limits_of_the_process_are_typed_errors"]
    fn child_limits() {
        if !testing::is_child() {
            return;
        }
        let (pool, ledger) = pool(u64::MAX);
        // SAFETY: ignoring a signal runs no code in a handler.
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, MIB as u64, MIB as u64).unwrap();
        let error = pool.alloc(2 * MIB).unwrap_err();
        assert_eq!(error, SegmentError::FileSize { wanted: 2 * MIB });
        assert!(error.to_string().contains("ulimit -f"));

        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        setrlimit(Resource::RLIMIT_NOFILE, open + 8, open + 8).unwrap();
        let mut held: Vec<_> = Vec::new();
        let error = loop {
            match pool.alloc(MIB / 2) {
                Ok(segment) => held.push(segment),
                Err(e) => break e,
            }
        };
        assert_eq!(error, SegmentError::Descriptors);
        assert!(error.to_string().contains("ulimit -n"));
        // A free segment of another size gives up its descriptor.
        held.truncate(held.len() - 1);
        pool.alloc(MIB / 16).unwrap();
        drop(held);
        pool.trim();
        assert_eq!(ledger.used(), 0);
    }
}
