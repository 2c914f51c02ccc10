//! Where a value is encoded: the caller's memory, and for what is long a shared segment, so that it is written once.

use crate::ipc::segment::{Segment, SegmentError, SegmentMut, SegmentPool};
use std::ptr;
use std::sync::Arc;

/// So many bytes go to the caller's memory before there is a segment.
const IN_MEMORY: usize = 4 << 20;

/// Why bytes were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// There are more of them than the caller allowed.
    TooLong,
    /// There is no segment to be had. [`ByteSink::finish`] says why.
    NoRoom,
}

/// What was written.
pub(crate) enum Written {
    /// It is in the caller's memory.
    InMemory,
    /// So many bytes at the beginning of a segment.
    Segment(Arc<Segment>, usize),
}

/// Takes bytes, one after the other.
pub(crate) struct ByteSink<'a> {
    /// Where bytes go: valid for writes of `capacity` bytes, of which `len` are initialised. It points into `segment`, or
    /// else into `memory`, neither of which is touched but by `grow` and `finish`.
    to: *mut u8,
    len: usize,
    capacity: usize,
    /// The length that the bytes must not exceed.
    end: usize,
    memory: &'a mut Vec<u8>,
    /// Length of `memory` before.
    before: usize,
    segment: Option<SegmentMut>,
    long: Option<Long<'a>>,
    no_room: Option<SegmentError>,
}

/// What a sink needs for segments.
struct Long<'a> {
    pool: &'a SegmentPool,
    /// About how many bytes there will be.
    guess: &'a dyn Fn() -> u64,
}

impl<'a> ByteSink<'a> {
    /// Appends to `memory`, at most `limit` bytes.
    pub(crate) fn to_memory(memory: &'a mut Vec<u8>, limit: usize) -> Self {
        let before = memory.len();
        let mut sink = Self {
            to: ptr::null_mut(),
            len: before,
            capacity: before,
            end: before.saturating_add(limit),
            memory,
            before,
            segment: None,
            long: None,
            no_room: None,
        };
        sink.point_to_memory();
        sink
    }

    /// Writes to `memory`, which is empty, as long as that is short; all of it goes to a segment of the pool once it is not.
    /// Then `guess` says about how many bytes there will be.
    pub(crate) fn to_segment(memory: &'a mut Vec<u8>, pool: &'a SegmentPool, guess: &'a dyn Fn() -> u64) -> Self {
        debug_assert!(memory.is_empty());
        Self { long: Some(Long { pool, guess }), ..Self::to_memory(memory, usize::MAX) }
    }

    /// Takes bytes, or none of them.
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if bytes.len() > self.capacity - self.len {
            self.grow(bytes.len())?;
        }
        // SAFETY: there is room for that many bytes behind the `len` first, by the test or after `grow`; `bytes` lies
        // elsewhere, since what is written to is borrowed by `self`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.to.add(self.len), bytes.len()) };
        self.len += bytes.len();
        Ok(())
    }

    /// Says where the bytes are. With an error they are gone, and the caller's memory is as it was.
    pub(crate) fn finish(mut self) -> Result<Written, SegmentError> {
        if let Some(e) = self.no_room.take() {
            self.take_back();
            return Err(e);
        }
        match self.segment.take() {
            Some(mut segment) => {
                segment.shrink(self.len);
                Ok(Written::Segment(segment.freeze(), self.len))
            }
            None => {
                // SAFETY: the first `len` bytes of the memory have been written.
                unsafe { self.memory.set_len(self.len) };
                Ok(Written::InMemory)
            }
        }
    }

    /// Forgets what was written.
    pub(crate) fn take_back(&mut self) {
        self.segment = None;
        self.point_to_memory();
        self.len = self.before;
    }

    fn point_to_memory(&mut self) {
        self.to = self.memory.as_mut_ptr();
        self.capacity = self.memory.capacity().min(self.end);
    }

    #[cold]
    fn grow(&mut self, more: usize) -> Result<(), Full> {
        let needed = self.len.checked_add(more).filter(|needed| *needed <= self.end).ok_or(Full::TooLong)?;
        if self.segment.is_none() && (self.long.is_none() || needed <= IN_MEMORY) {
            // SAFETY: the first `len` bytes have been written, and are taken along.
            unsafe { self.memory.set_len(self.len) };
            self.memory.reserve(more);
            self.memory.truncate(self.before);
            self.point_to_memory();
            return Ok(());
        }
        let Some(long) = &self.long else { return Err(Full::TooLong) };
        let larger = needed.max(2 * self.len);
        let guess = usize::try_from((long.guess)()).unwrap_or(0).saturating_add(self.len / 8);
        // A guess may be far too much, also for what there is room for.
        let made = long.pool.alloc(larger.max(guess)).or_else(|_| long.pool.alloc(larger));
        let mut segment = made.or_else(|_| long.pool.alloc(needed + needed / 8)).map_err(|e| {
            self.no_room = Some(e);
            Full::NoRoom
        })?;
        let to = segment.as_mut_ptr();
        // SAFETY: what is there is `len` bytes, which fit, since the new place is longer; the two are different memory.
        unsafe { ptr::copy_nonoverlapping(self.to, to, self.len) };
        (self.to, self.capacity) = (to, segment.len());
        self.segment = Some(segment);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::ledger::Ledger;
    use proptest::prelude::*;

    const MIB: usize = 1 << 20;

    fn pool(limit: usize) -> (SegmentPool, Ledger) {
        let ledger = Ledger::in_memory(limit as u64);
        (SegmentPool::new(1, ledger.clone(), 64 * MIB), ledger)
    }

    #[test]
    fn bytes_are_appended_up_to_a_limit() {
        let mut memory = b"before".to_vec();
        let mut sink = ByteSink::to_memory(&mut memory, 5);
        sink.put(b"abc").unwrap();
        assert_eq!(sink.put(b"def"), Err(Full::TooLong));
        sink.put(b"de").unwrap();
        assert!(matches!(sink.finish(), Ok(Written::InMemory)));
        assert_eq!(memory, b"beforeabcde");
        let mut sink = ByteSink::to_memory(&mut memory, usize::MAX);
        sink.put(&[1; 100_000]).unwrap();
        sink.take_back();
        sink.put(b"!").unwrap();
        sink.finish().unwrap();
        assert_eq!(memory, b"beforeabcde!");
        let mut dropped = ByteSink::to_memory(&mut memory, usize::MAX);
        dropped.put(&[2; 200_000]).unwrap();
        dropped.put(&[2; 2_000_000]).unwrap();
        drop(dropped);
        assert_eq!(memory, b"beforeabcde!", "what is dropped leaves all as it was");
    }

    #[test]
    fn what_is_long_lies_in_a_segment_that_is_no_longer_than_it() {
        let (pool, ledger) = pool(usize::MAX);
        for guess in [0, 9 * MIB as u64, 100 * MIB as u64] {
            let mut memory = Vec::new();
            let guess = || guess;
            let mut sink = ByteSink::to_segment(&mut memory, &pool, &guess);
            for at in 0..9 * MIB / 8 {
                sink.put(&(at as u64).to_le_bytes()).unwrap();
            }
            let Ok(Written::Segment(segment, len)) = sink.finish() else { panic!("it is long") };
            assert_eq!((len, memory.len()), (9 * MIB, 0));
            assert!(segment.len() >= len && segment.len() <= len + len / 8, "{}", segment.len());
            let words = segment.bytes()[..len].chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
            assert!(words.eq(0..9 * MIB as u64 / 8));
            drop(segment);
            pool.trim();
            assert_eq!(ledger.used(), 0);
        }
    }

    #[test]
    fn without_room_it_is_an_error_and_nothing_stays() {
        let (pool, ledger) = pool(20 * MIB);
        let mut memory = Vec::new();
        let guess = || u64::MAX;
        let mut sink = ByteSink::to_segment(&mut memory, &pool, &guess);
        let ends = loop {
            if let Err(e) = sink.put(&[1; MIB]) {
                break e;
            }
        };
        assert_eq!(ends, Full::NoRoom);
        assert!(matches!(sink.finish(), Err(SegmentError::Budget(_))));
        pool.trim();
        assert_eq!((ledger.used(), memory.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn all_bytes_come_in_order(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..100)) {
            let mut memory = Vec::new();
            let mut sink = ByteSink::to_memory(&mut memory, usize::MAX);
            parts.iter().for_each(|part| sink.put(part).unwrap());
            sink.finish().unwrap();
            prop_assert_eq!(memory, parts.concat());
        }
    }
}
