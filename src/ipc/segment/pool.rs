//! The segments that this process has made, and the memory files that they lie in.

use super::memory::{FileId, MemoryFile};
use super::ranges::{Pages, Range, Ranges};
use super::{Attachments, Home, Segment, SegmentError, SegmentId, SegmentMut};
use crate::host::report;
use crate::ipc::file_limit;
use crate::ipc::fork::Origin;
use crate::ipc::ledger::Ledger;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

/// Segments begin at multiples of this, and so do their capacities.
pub(super) const PAGE: usize = 4096;

/// Length of a memory file, but for one that is made for a longer segment. So a process has about one descriptor for each
/// so many bytes that it shares, however small its segments are.
pub(super) const FILE: usize = 64 << 20;

/// Makes segments, and keeps the memory of unused ones: new memory costs ten times as much as used, all of it page faults
/// and zeroing.
///
/// # Waste
/// A segment takes at most an eighth more than was asked for, or a page. Beyond that the memory of a process is what it
/// uses, and at most `max_free_bytes` that are kept: what else is unused of a file has been given back to the machine,
/// page by page, so that a file of which one segment is used takes the memory of that one.
#[derive(Clone)]
pub(crate) struct SegmentPool(pub(super) Arc<PoolShared>);

pub(super) struct PoolShared {
    owner: u32,
    /// Its memory is shared with that process, and not given back in a fork of it.
    origin: Origin,
    ledger: Ledger,
    max_free_bytes: usize,
    /// The segments of the others in the same cluster.
    others: OnceLock<Attachments>,
    pub(super) state: Mutex<PoolState>,
}

#[derive(Default)]
pub(super) struct PoolState {
    ranges: Ranges,
    pub(super) files: FxHashMap<u32, OwnFile>,
    next_file: u32,
    /// Files that are no more, of which others are to be told.
    ended: Vec<FileId>,
    parked_bytes: usize,
    /// Every number in use.
    live: FxHashMap<u32, LiveSegment>,
    pub(super) next_number: u32,
    created: u64,
    reused: u64,
}

pub(super) struct OwnFile {
    pub(super) file: Arc<MemoryFile>,
    /// Ranges that segments have, or that are being emptied.
    used: usize,
    /// Bytes of it that are taken out of the budget.
    charged: usize,
    /// Somebody may still read a part of it that no segment has any more: nothing of it is used again.
    closing: bool,
}

#[derive(Default)]
struct LiveSegment {
    /// Deliveries to other processes not yet returned.
    lent: u32,
    /// Where it lies, once our own last reference is dropped while deliveries are outstanding.
    parked: Option<Range>,
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
    /// Memory files.
    pub(crate) files: usize,
    /// Unused parts of them whose memory is kept.
    pub(crate) free: usize,
    pub(crate) free_bytes: usize,
    /// Segments with new memory since the start, and with used.
    pub(crate) created: u64,
    pub(crate) reused: u64,
}

/// A segment's number and memory.
struct Place {
    number: u32,
    file: Arc<MemoryFile>,
    range: Range,
    reused: bool,
}

impl SegmentPool {
    /// A pool whose segments are named after `owner` and taken from `ledger`. It keeps at most `max_free_bytes` unused.
    pub(crate) fn new(owner: u32, ledger: Ledger, max_free_bytes: usize) -> Self {
        Self(Arc::new(PoolShared {
            owner,
            origin: Origin::here(),
            ledger,
            max_free_bytes,
            others: OnceLock::new(),
            state: Mutex::default(),
        }))
    }

    /// Says which segments of others can be sent where those of this pool are. Set once; a second one is ignored.
    pub(crate) fn joins(&self, others: &Attachments) {
        if self.0.others.set(others.clone()).is_err() {
            report!(Debug, "a pool has joined the segments of others before");
        }
    }

    /// Whether who gets segments of this pool can also be sent this one. Numbers of another cluster's mean others there.
    pub(crate) fn knows(&self, segment: &Segment) -> bool {
        match &segment.home {
            Home::Pool(home) => Arc::ptr_eq(home, &self.0),
            Home::Abroad { attachments, .. } => self.0.others.get().is_some_and(|others| others.is(attachments)),
            Home::Disk { .. } => false,
        }
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
        let made = match self.0.make(capacity) {
            Err(e) if e.eased_by_trim() && self.trim() > 0 => self.0.make(capacity),
            made => made,
        };
        let Place { number, file, range, reused } = made?;
        let id = SegmentId { owner: self.0.owner, number };
        let segment = Segment { id, file, start: range.start, len: range.len, home: Home::Pool(self.0.clone()) };
        Ok((SegmentMut { segment, len, reused }, reused))
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
    /// file that they lie in has no other use and the last process that has it mapped lets go. To be called before they
    /// are returned.
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
                report!(Debug, "segment {id} was returned, but is not lent");
                return;
            };
            entry.lent = entry.lent.saturating_sub(deliveries);
            if entry.lent > 0 {
                return;
            }
            let Some(range) = entry.parked.take() else { return };
            state.parked_bytes -= range.len;
            self.0.end(&mut state, id.number, range)
        };
        self.0.discard(surplus);
    }

    /// Gives all unused memory back to the machine, and says how many bytes that was.
    pub(crate) fn trim(&self) -> usize {
        let mut surplus = Surplus::default();
        {
            let mut state = self.0.state.lock();
            let state = &mut *state;
            let parts = state.ranges.take_resident(|file| state.files[&file].can_be_emptied());
            parts.into_iter().for_each(|range| state.set_aside(range, &mut surplus));
            // What cannot be emptied in parts is given back whole.
            let whole =
                state.files.iter().filter(|(number, own)| !own.can_be_emptied() && state.ranges.is_unused(**number));
            let whole: Vec<u32> = whole.map(|(number, _)| *number).collect();
            whole.into_iter().for_each(|file| self.0.end_file(state, file, &mut surplus));
        }
        self.0.discard(surplus)
    }

    /// The memory files that have ended since the last call, of which nobody has a segment: other processes need not have
    /// them mapped.
    pub(crate) fn take_ended(&self) -> Vec<FileId> {
        std::mem::take(&mut self.0.state.lock().ended)
    }

    /// Bytes of segments that this process has and does not use: kept for later, or used by others only.
    pub(crate) fn idle_bytes(&self) -> u64 {
        let state = self.0.state.lock();
        (state.ranges.resident_bytes() + state.parked_bytes) as u64
    }

    /// Bytes of segments that wait to be used again.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.0.state.lock().ranges.resident_bytes() as u64
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let state = self.0.state.lock();
        PoolStats {
            live: state.live.len(),
            parked: state.live.values().filter(|l| l.parked.is_some()).count(),
            files: state.files.len(),
            free: state.ranges.resident_parts(),
            free_bytes: state.ranges.resident_bytes(),
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
    /// Begins a segment, with memory that is there, or else with new.
    fn make(&self, capacity: NonZeroUsize) -> Result<Place, SegmentError> {
        let mut state = self.state.lock();
        let (range, reused) = match state.ranges.take(capacity.get(), Pages::Resident) {
            Some(range) => (range, true),
            None => (self.new_range(&mut state, capacity)?, false),
        };
        let number = state.begin(reused);
        let own = state.own(range.file);
        own.used += 1;
        Ok(Place { number, file: Arc::clone(&own.file), range, reused })
    }

    fn new_range(&self, state: &mut PoolState, capacity: NonZeroUsize) -> Result<Range, SegmentError> {
        let bytes = capacity.get();
        self.ledger.reserve(bytes as u64)?;
        let range = match state.ranges.take(bytes, Pages::Empty) {
            Some(range) => Ok(range),
            None => self.add_file(state, capacity),
        };
        match &range {
            Ok(range) => state.own(range.file).charged += bytes,
            Err(_) => self.ledger.release(bytes as u64),
        }
        range
    }

    /// Makes a file and takes its beginning. Where the process may not have one of the usual length, it is as short as it
    /// can be.
    fn add_file(&self, state: &mut PoolState, capacity: NonZeroUsize) -> Result<Range, SegmentError> {
        let (bytes, longest) = (capacity.get(), longest_file());
        if bytes > longest {
            return Err(SegmentError::FileSize { wanted: bytes });
        }
        let id = FileId { owner: self.owner, number: state.next_file };
        let usual = NonZeroUsize::new(FILE.min(longest).max(bytes)).unwrap_or(capacity);
        let file = match MemoryFile::create(id, usual, &self.ledger) {
            Err(SegmentError::Memory { .. }) if usual != capacity => MemoryFile::create(id, capacity, &self.ledger)?,
            made => made?,
        };
        state.next_file = state.next_file.wrapping_add(1);
        state.ranges.add_file(id.number, file.len());
        state.files.insert(id.number, OwnFile { file: Arc::new(file), used: 0, charged: 0, closing: false });
        state.ranges.take(bytes, Pages::Empty).ok_or(SegmentError::Memory { wanted: bytes })
    }

    /// The end of a range that is used, and that nobody has written to if its memory was new.
    pub(super) fn give_back(&self, range: Range, reused: bool) {
        let mut state = self.state.lock();
        if !reused {
            state.own(range.file).charged -= range.len;
            self.ledger.release(range.len as u64);
        }
        state.ranges.put(range, if reused { Pages::Resident } else { Pages::Empty });
    }

    /// The last reference of this process is dropped.
    pub(super) fn reclaim(&self, number: u32, range: Range) {
        if self.origin.is_elsewhere() {
            return;
        }
        let surplus = {
            let mut state = self.state.lock();
            match state.live.get_mut(&number) {
                Some(entry) if entry.lent > 0 => {
                    entry.parked = Some(range);
                    state.parked_bytes += range.len;
                    return;
                }
                _ => self.end(&mut state, number, range),
            }
        };
        self.discard(surplus);
    }

    /// Keeps the memory of a segment that has ended for later, or sets it aside where that would be wrong or too much.
    fn end(&self, state: &mut PoolState, number: u32, range: Range) -> Surplus {
        let mut surplus = Surplus::default();
        let abandoned = state.live.remove(&number).is_some_and(|entry| entry.abandoned);
        let much = state.ranges.resident_bytes().saturating_add(range.len) > self.max_free_bytes;
        let own = state.own(range.file);
        own.used -= 1;
        if abandoned {
            own.charged -= range.len;
            self.ledger.release(range.len as u64);
            if !std::mem::replace(&mut own.closing, true) {
                let unused = state.ranges.remove_file(range.file);
                unused.into_iter().for_each(|range| state.set_aside(range, &mut surplus));
            }
        } else if own.closing || (much && own.can_be_emptied()) {
            state.set_aside(range, &mut surplus);
        } else {
            state.ranges.put(range, Pages::Resident);
        }
        let own = state.own(range.file);
        if own.closing && own.used == 0 {
            self.end_file(state, range.file, &mut surplus);
        }
        surplus
    }

    /// Ends a file of which nothing is used.
    fn end_file(&self, state: &mut PoolState, file: u32, surplus: &mut Surplus) {
        state.ranges.remove_file(file);
        state.ended.push(FileId { owner: self.owner, number: file });
        if let Some(own) = state.files.remove(&file) {
            self.ledger.release(own.charged as u64);
            surplus.files.push((own.file, own.charged));
        }
    }

    /// Gives back what was set aside, and says how many bytes that was. Not under the lock: it takes a third of a
    /// millisecond a MiB.
    fn discard(&self, surplus: Surplus) -> usize {
        let mut bytes = 0;
        let mut ended = Surplus { files: surplus.files, ranges: SmallVec::new() };
        for (file, range) in surplus.ranges {
            // SAFETY: the range lies in the file, since it was taken from there. It was on the list of the unused, or would
            // have been put there: our own last reference is dropped, and every delivery to others has been returned. It is
            // on no list now, so nobody begins to use it.
            let emptied = unsafe { file.empty(range.start, range.len) };
            let mut state = self.state.lock();
            let own = state.own(range.file);
            own.used -= 1;
            let closing = own.closing;
            if emptied {
                bytes += range.len;
                own.charged -= range.len;
                self.ledger.release(range.len as u64);
            }
            if !closing {
                state.ranges.put(range, if emptied { Pages::Empty } else { Pages::Resident });
            }
            // One of the usual length stays, for the next segments.
            let last = file.len() <= FILE && state.files.len() == 1;
            let done =
                if closing { state.own(range.file).used == 0 } else { state.ranges.is_empty(range.file) && !last };
            if done {
                self.end_file(&mut state, range.file, &mut ended);
            }
        }
        bytes + ended.files.iter().map(|(_, charged)| charged).sum::<usize>()
    }
}

impl Drop for PoolShared {
    fn drop(&mut self) {
        if self.origin.is_elsewhere() {
            return;
        }
        let charged: usize = self.state.get_mut().files.values().map(|own| own.charged).sum();
        self.ledger.release(charged as u64);
    }
}

/// What is to be given back, without the lock.
#[derive(Default)]
struct Surplus {
    /// To be emptied. Until that is done each counts as used.
    ranges: SmallVec<[(Arc<MemoryFile>, Range); 1]>,
    /// Files that have ended, with the bytes that they were charged for. They are not emptied, since somebody may still
    /// read them: only our own mapping of each goes.
    files: Vec<(Arc<MemoryFile>, usize)>,
}

impl OwnFile {
    fn can_be_emptied(&self) -> bool {
        self.file.can_be_emptied
    }
}

impl PoolState {
    fn own(&mut self, file: u32) -> &mut OwnFile {
        self.files.get_mut(&file).expect("a file of which a range is used is there")
    }

    /// A range that is unused is to be emptied.
    fn set_aside(&mut self, range: Range, surplus: &mut Surplus) {
        let own = self.own(range.file);
        own.used += 1;
        surplus.ranges.push((Arc::clone(&own.file), range));
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

/// Bytes that a file of this process may have, in whole pages.
fn longest_file() -> usize {
    usize::try_from(file_limit::longest_file()).unwrap_or(usize::MAX) / PAGE * PAGE
}

/// Rounds up so that lengths which differ a little share their places: eight sizes to each doubling.
pub(super) fn size_class(len: usize) -> Option<NonZeroUsize> {
    let len = len.max(1);
    // The power of two above is at most twice the length, so a step is at most an eighth of it.
    let step = (len.checked_next_power_of_two()? / 16).max(PAGE);
    let capacity = len.checked_next_multiple_of(step)?;
    NonZeroUsize::new(capacity).filter(|c| isize::try_from(c.get()).is_ok())
}
