//! The segments that this process has made.

use super::memory::Memory;
use super::{Home, Segment, SegmentError, SegmentId, SegmentMut};
use crate::ipc::ledger::Ledger;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::fmt;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Capacities are multiples of this; mappings are aligned to it.
pub(super) const PAGE: usize = 4096;

/// Makes segments and keeps unused ones: a new one costs ten times a used one, all of it page faults and zeroing.
#[derive(Clone)]
pub(crate) struct SegmentPool(pub(super) Arc<PoolShared>);

pub(super) struct PoolShared {
    owner: u32,
    ledger: Ledger,
    max_free_bytes: usize,
    pub(super) state: Mutex<PoolState>,
}

#[derive(Default)]
pub(super) struct PoolState {
    /// By capacity; the last used is used first, since it may still be in the cache.
    free: BTreeMap<usize, Vec<Memory>>,
    free_bytes: usize,
    parked_bytes: usize,
    /// Every number in use.
    live: FxHashMap<u32, LiveSegment>,
    pub(super) next_number: u32,
    created: u64,
    reused: u64,
}

#[derive(Default)]
struct LiveSegment {
    /// Deliveries to other processes not yet returned.
    lent: u32,
    /// The memory, once our own last reference is dropped while deliveries are outstanding.
    parked: Option<Memory>,
    /// Somebody who had it can no longer be asked whether it still reads it.
    abandoned: bool,
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
        let number = self.0.state.lock().begin(reused);
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
        let entry = state.live.get_mut(&segment.id.number).expect("a referenced segment is live");
        entry.lent = entry.lent.saturating_add(1);
        true
    }

    /// A program that had these has left, and may still read them. So their memory is not used again, and stays until the
    /// last process that has them mapped lets go. To be called before they are returned.
    pub(crate) fn abandon(&self, ids: &[SegmentId]) {
        let mut state = self.0.state.lock();
        for id in ids.iter().filter(|id| id.owner == self.0.owner) {
            if let Some(entry) = state.live.get_mut(&id.number) {
                entry.abandoned = true;
            }
        }
    }

    /// So many deliveries of `id` are no longer used by whoever got them.
    pub(crate) fn returned(&self, id: SegmentId, deliveries: u32) {
        let surplus = {
            let mut state = self.0.state.lock();
            let entry = (id.owner == self.0.owner).then(|| state.live.get_mut(&id.number)).flatten();
            let Some(entry) = entry.filter(|entry| entry.lent > 0) else {
                drop(state);
                log::debug!("segment {id} was returned, but is not lent");
                return;
            };
            entry.lent = entry.lent.saturating_sub(deliveries);
            if entry.lent > 0 {
                return;
            }
            let Some(memory) = entry.parked.take() else { return };
            state.parked_bytes -= memory.capacity();
            state.end(id.number, memory, self.0.max_free_bytes)
        };
        surplus.discard();
    }

    /// Gives all unused segments back to the machine, and says how many bytes that was.
    pub(crate) fn trim(&self) -> usize {
        let (free, bytes) = {
            let mut state = self.0.state.lock();
            (std::mem::take(&mut state.free), std::mem::take(&mut state.free_bytes))
        };
        free.into_values().flatten().for_each(discard);
        bytes
    }

    /// Bytes of segments that this process has and does not use: kept for later, or used by others only.
    pub(crate) fn idle_bytes(&self) -> u64 {
        let state = self.0.state.lock();
        (state.free_bytes + state.parked_bytes) as u64
    }

    /// Bytes of segments that wait to be used again.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.0.state.lock().free_bytes as u64
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
    pub(super) fn reclaim(&self, number: u32, memory: Memory) {
        let surplus = {
            let mut state = self.state.lock();
            match state.live.get_mut(&number) {
                Some(entry) if entry.lent > 0 => {
                    let bytes = memory.capacity();
                    entry.parked = Some(memory);
                    state.parked_bytes += bytes;
                    Surplus::None
                }
                _ => state.end(number, memory, self.max_free_bytes),
            }
        };
        surplus.discard();
    }
}

/// What is to be given back. Not under a lock: it takes a third of a millisecond a MiB.
enum Surplus {
    None,
    Unused(Memory),
    Abandoned(Memory),
}

impl Surplus {
    fn discard(self) {
        match self {
            Self::None => {}
            Self::Unused(memory) => discard(memory),
            // Only our own mapping of it goes.
            Self::Abandoned(memory) => drop(memory),
        }
    }
}

/// Gives back memory that no segment uses any more.
fn discard(memory: Memory) {
    // SAFETY: it comes from the list of the unused, or would have been put there: our own last reference is dropped, and every
    // delivery to others has been returned.
    unsafe { memory.discard() }
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

    /// Keeps the memory of a segment that has ended for later, or hands it back where that would be wrong or too much.
    fn end(&mut self, number: u32, memory: Memory, max_free_bytes: usize) -> Surplus {
        let capacity = memory.capacity();
        if self.live.remove(&number).is_some_and(|entry| entry.abandoned) {
            return Surplus::Abandoned(memory);
        }
        if self.free_bytes.saturating_add(capacity) > max_free_bytes {
            return Surplus::Unused(memory);
        }
        self.free_bytes += capacity;
        self.free.entry(capacity).or_default().push(memory);
        Surplus::None
    }

    fn begin(&mut self, reused: bool) -> u32 {
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
                free.insert(LiveSegment::default());
                return number;
            }
        }
    }
}

/// Rounds up so that lengths which differ a little share their segments: eight sizes to each doubling.
pub(super) fn size_class(len: usize) -> Option<NonZeroUsize> {
    let len = len.max(1);
    // The power of two above is at most twice the length, so a step is at most an eighth of it.
    let step = (len.checked_next_power_of_two()? / 16).max(PAGE);
    let capacity = len.checked_next_multiple_of(step)?;
    NonZeroUsize::new(capacity).filter(|c| isize::try_from(c.get()).is_ok())
}
