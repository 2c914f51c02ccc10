//! How large buffers inside any serde value travel out of band: in segments, beside the encoded bytes.
//!
//! serde passes no context on, so [`encode_with`] and [`decode_with`] keep one in a thread-local. Within `encode_with` a
//! large [`Buffer`] writes only a reference (segment, offset, length). One that lies in a segment already is referred to;
//! one on the heap is copied, once, when encoding is done and all sizes are known: small ones share a segment, since
//! each segment is counted wherever it goes.

use crate::ipc::buffer::Buffer;
use crate::ipc::segment::{Segment, SegmentError, SegmentMut, SegmentPool};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::RefCell;
use std::sync::Arc;

/// Buffers of so many bytes travel in segments; smaller ones inline.
pub(crate) const LARGE: usize = 64 << 10;

/// Copies start at multiples of this: a cache line, and the widest vector registers.
const ALIGN: usize = 64;
/// A heap buffer this large gets a segment of its own, so that it can be let go by itself.
const ALONE: usize = 4 << 20;
/// Shared segments are begun anew at this size, for the same reason.
const SHARED_MAX: usize = 64 << 20;

/// Where a buffer was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferRef {
    pub(crate) index: u32,
    pub(crate) offset: u64,
}

/// One segment of an encoding.
enum SegmentPlan {
    Existing(Arc<Segment>),
    /// To be allocated, with this many bytes.
    New(usize),
}

/// Buffers of the heap that have been copied into segments, by address and length: values that share one share its copy.
#[derive(Default)]
pub(crate) struct Copies(FxHashMap<(*const u8, usize), Copied>);

struct Copied {
    /// Keeps it alive, so its address can't come to mean another.
    _buffer: Buffer<u8>,
    segment: Arc<Segment>,
    offset: u64,
}

#[derive(Default)]
struct Encoding {
    /// Where new segments come from. None where all buffers are laid out.
    pool: Option<SegmentPool>,
    /// Copies that earlier encodings have made.
    earlier: Copies,
    plans: Vec<SegmentPlan>,
    /// Plans of existing segments, by address of the segment.
    existing: FxHashMap<*const Segment, u32>,
    /// Heap buffers met, by address and length. `copies` keeps them alive, so an address can't come to mean another.
    placed: FxHashMap<(*const u8, usize), BufferRef>,
    copies: Vec<(Buffer<u8>, BufferRef)>,
    /// The plan of a new segment that takes further small buffers.
    shared: Option<u32>,
    /// All buffers are laid out one after the other, wherever they are; so many bytes have been given away.
    flat: Option<u64>,
}

impl Encoding {
    fn add(&mut self, bytes: Buffer<u8>) -> BufferRef {
        if let Some(pool) = &self.pool
            && let Some((segment, offset)) = bytes.in_segment()
            && pool.knows(segment)
        {
            return BufferRef { index: self.existing(segment), offset: offset as u64 };
        }
        let key = (bytes.as_ptr(), bytes.len());
        if let Some(&reference) = self.placed.get(&key) {
            return reference;
        }
        if let Some(Copied { segment, offset, .. }) = self.earlier.0.get(&key) {
            let (segment, offset) = (Arc::clone(segment), *offset);
            return BufferRef { index: self.existing(&segment), offset };
        }
        let reference = self.plan(bytes.len());
        self.placed.insert(key, reference);
        self.copies.push((bytes, reference));
        reference
    }

    /// The plan of a segment that is there.
    fn existing(&mut self, segment: &Arc<Segment>) -> u32 {
        *self.existing.entry(Arc::as_ptr(segment)).or_insert_with(|| {
            self.plans.push(SegmentPlan::Existing(Arc::clone(segment)));
            self.plans.len() as u32 - 1
        })
    }

    fn plan(&mut self, len: usize) -> BufferRef {
        if let Some(used) = &mut self.flat {
            let offset = used.next_multiple_of(ALIGN as u64);
            *used = offset + len as u64;
            return BufferRef { index: 0, offset };
        }
        if len >= ALONE {
            self.plans.push(SegmentPlan::New(len));
            return BufferRef { index: self.plans.len() as u32 - 1, offset: 0 };
        }
        if let Some(index) = self.shared
            && let SegmentPlan::New(used) = &mut self.plans[index as usize]
        {
            let offset = used.next_multiple_of(ALIGN);
            if offset + len <= SHARED_MAX {
                *used = offset + len;
                return BufferRef { index, offset: offset as u64 };
            }
        }
        let index = self.plans.len() as u32;
        self.plans.push(SegmentPlan::New(len));
        self.shared = Some(index);
        BufferRef { index, offset: 0 }
    }

    /// Makes the segments, and notes in `copies` what has been copied.
    fn finish(self, pool: &SegmentPool, copies: &mut Copies) -> Result<Vec<Arc<Segment>>, SegmentError> {
        enum Made {
            Existing(Arc<Segment>),
            New(SegmentMut),
        }
        let make = |plan| match plan {
            SegmentPlan::Existing(segment) => Ok(Made::Existing(segment)),
            SegmentPlan::New(len) => pool.alloc(len).map(Made::New),
        };
        let mut made = self.plans.into_iter().map(make).collect::<Result<Vec<_>, SegmentError>>()?;
        for (bytes, reference) in &self.copies {
            if let Made::New(segment) = &mut made[reference.index as usize] {
                let start = reference.offset as usize;
                segment[start..start + bytes.len()].copy_from_slice(bytes);
            }
        }
        let frozen = made.into_iter().map(|m| match m {
            Made::Existing(segment) => segment,
            Made::New(segment) => segment.freeze(),
        });
        let segments: Vec<_> = frozen.collect();
        *copies = self.earlier;
        copies.0.extend(self.copies.into_iter().map(|(buffer, BufferRef { index, offset })| {
            let segment = Arc::clone(&segments[index as usize]);
            ((buffer.as_ptr(), buffer.len()), Copied { _buffer: buffer, segment, offset })
        }));
        Ok(segments)
    }
}

/// The state of a sizing.
#[derive(Default)]
struct Sizing {
    /// Large buffers that have been counted.
    met: FxHashSet<(*const u8, usize)>,
    beside: Beside,
}

/// What a sizing has met beside the values that are written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside {
    /// Bytes that values [`report`]ed.
    pub(crate) reported: u64,
    /// Large buffers, each as often as it occurs.
    pub(crate) large: u64,
}

thread_local! {
    static SIZING: RefCell<Option<Sizing>> = const { RefCell::new(None) };
    static ENCODING: RefCell<Option<Encoding>> = const { RefCell::new(None) };
    static DECODING: RefCell<Vec<Arc<Segment>>> = const { RefCell::new(Vec::new()) };
}

/// Puts the state of the surrounding call back, also when the closure panics.
struct Restore<T: 'static> {
    cell: &'static std::thread::LocalKey<RefCell<T>>,
    outer: Option<T>,
}

impl<T> Restore<T> {
    fn enter(cell: &'static std::thread::LocalKey<RefCell<T>>, inner: T) -> Self {
        Self { cell, outer: Some(cell.replace(inner)) }
    }

    fn leave(mut self) -> T {
        let outer = self.outer.take().expect("left once, as it takes self");
        self.cell.replace(outer)
    }
}

impl<T> Drop for Restore<T> {
    fn drop(&mut self) {
        if let Some(outer) = self.outer.take() {
            self.cell.replace(outer);
        }
    }
}

/// Runs `f`, which encodes values; large buffers in them go to segments, which are returned in the order that
/// [`decode_with`] wants them. Without a pool everything is written inline.
///
/// Buffers of the heap of which there are `copies` are not copied again.
pub(crate) fn encode_with<R>(
    pool: Option<&SegmentPool>,
    copies: &mut Copies,
    f: impl FnOnce() -> R,
) -> Result<(R, Vec<Arc<Segment>>), SegmentError> {
    let new = |pool: &SegmentPool| {
        let earlier = std::mem::take(copies);
        Encoding { pool: Some(pool.clone()), earlier, ..Encoding::default() }
    };
    let context = Restore::enter(&ENCODING, pool.map(new));
    let result = f();
    let segments = match (context.leave(), pool) {
        (Some(encoding), Some(pool)) if !encoding.plans.is_empty() => encoding.finish(pool, copies)?,
        (Some(encoding), _) => {
            *copies = encoding.earlier;
            Vec::new()
        }
        (None, _) => Vec::new(),
    };
    Ok((result, segments))
}

/// Where the buffers of a value go, one after the other.
pub(crate) struct Layout {
    /// Each with its first byte, ascending, with gaps for alignment.
    pub(crate) buffers: Vec<(Buffer<u8>, u64)>,
    /// Bytes from the first to the last.
    pub(crate) len: u64,
}

/// Runs `f`, which encodes a value; large buffers in it are not copied, but laid out in one segment to come.
pub(crate) fn layout_with<R>(f: impl FnOnce() -> R) -> (R, Layout) {
    let context = Restore::enter(&ENCODING, Some(Encoding { flat: Some(0), ..Encoding::default() }));
    let result = f();
    let encoding = context.leave().unwrap_or_default();
    let buffers = encoding.copies.into_iter().map(|(bytes, reference)| (bytes, reference.offset)).collect();
    (result, Layout { buffers, len: encoding.flat.unwrap_or(0) })
}

/// Runs `f`, which walks a value, and says what that met beside what is written.
pub(crate) fn size_with<R>(f: impl FnOnce() -> R) -> (R, Beside) {
    let context = Restore::enter(&SIZING, Some(Sizing::default()));
    let result = f();
    (result, context.leave().unwrap_or_default().beside)
}

/// What the surrounding sizing has met so far.
pub(crate) fn beside() -> Beside {
    SIZING.with_borrow(|sizing| sizing.as_ref().map(|sizing| sizing.beside).unwrap_or_default())
}

/// Adds to the size of the value that is being walked, if one is.
pub(crate) fn report(bytes: u64) {
    SIZING.with_borrow_mut(|sizing| {
        if let Some(sizing) = sizing {
            sizing.beside.reported = sizing.beside.reported.saturating_add(bytes);
        }
    });
}

/// Whether the bytes of a buffer count, where a value is being walked. `None` where none is.
pub(super) fn counts(bytes: &[u8], on_disk: bool) -> Option<bool> {
    SIZING.with_borrow_mut(|sizing| {
        let sizing = sizing.as_mut()?;
        if bytes.len() < LARGE {
            return Some(!on_disk);
        }
        sizing.beside.large += 1;
        Some(!on_disk && sizing.met.insert((bytes.as_ptr(), bytes.len())))
    })
}

/// Runs `f`, which decodes what [`encode_with`] made; buffers in it become views of `segments`.
pub(crate) fn decode_with<R>(segments: &[Arc<Segment>], f: impl FnOnce() -> R) -> R {
    // Most values have no segments and lie in no other value.
    if segments.is_empty() && DECODING.with_borrow(Vec::is_empty) {
        return f();
    }
    let context = Restore::enter(&DECODING, segments.to_vec());
    let result = f();
    drop(context.leave());
    result
}

/// Has a large buffer travel out of band, and says where. `None` outside of [`encode_with`]: it is written inline.
pub(super) fn add(bytes: impl FnOnce() -> Buffer<u8>) -> Option<BufferRef> {
    ENCODING.with_borrow_mut(|encoding| Some(encoding.as_mut()?.add(bytes())))
}

/// The segment of that index, within [`decode_with`].
pub(super) fn segment(index: u32) -> Option<Arc<Segment>> {
    DECODING.with_borrow(|segments| segments.get(index as usize).cloned())
}

/// Puts encoded bytes that are themselves large into a segment. It may be longer than they are.
pub(crate) fn write_large(pool: &SegmentPool, bytes: &[u8]) -> Result<Arc<Segment>, SegmentError> {
    let mut segment = pool.alloc(bytes.len())?;
    segment.copy_from_slice(bytes);
    Ok(segment.freeze())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::ledger::Ledger;
    use crate::ipc::segment::Attachments;
    use crate::ipc::segment::listing::{self, Shown};
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const MIB: usize = 1 << 20;

    fn pool() -> SegmentPool {
        SegmentPool::new(1, Ledger::in_memory(u64::MAX), 256 * MIB)
    }

    fn config() -> impl bincode::config::Config {
        bincode::config::standard().with_limit::<{ 64 << 20 }>()
    }

    fn encode<T: Serialize>(pool: Option<&SegmentPool>, value: &T) -> (Vec<u8>, Vec<Arc<Segment>>) {
        let (bytes, segments) =
            encode_with(pool, &mut Copies::default(), || bincode::serde::encode_to_vec(value, config())).unwrap();
        (bytes.unwrap(), segments)
    }

    fn decode<'a, T: Deserialize<'a>>(
        bytes: &'a [u8],
        segments: &[Arc<Segment>],
    ) -> Result<T, bincode::error::DecodeError> {
        let decoded = decode_with(segments, || bincode::serde::borrow_decode_from_slice(bytes, config()));
        decoded.map(|(value, _)| value)
    }

    fn numbers(len: usize) -> Buffer<f64> {
        (0..len).map(|i| i as f64 * 0.5).collect()
    }

    #[test]
    fn a_large_buffer_travels_beside_the_bytes_and_is_read_in_place() {
        let pool = pool();
        let value = ("name".to_string(), numbers(100_000), vec![numbers(3)]);
        let (bytes, segments) = encode(Some(&pool), &value);
        assert!(bytes.len() < 80, "{}", bytes.len());
        assert_eq!(segments.len(), 1);
        let others = Attachments::new();
        pool.joins(&others);
        let there = listing::testing::deliver(&mut Shown::default(), &others, &segments).unwrap();
        let back: (String, Buffer<f64>, Vec<Buffer<f64>>) = decode(&bytes, &there).unwrap();
        assert_eq!(back, value);
        assert!(back.1.is_shared() && !back.2[0].is_shared());
        assert_eq!(back.1.as_bytes().as_ptr(), there[0].bytes().as_ptr());
        // It holds its segment by itself, and is passed on without another copy.
        let mapped = back.1.slice(1000..);
        drop((there, back));
        let (bytes, again) = encode(Some(&pool), &mapped);
        assert_eq!(again[0].id(), segments[0].id());
        assert_eq!(decode::<Buffer<f64>>(&bytes, &again).unwrap(), value.1.slice(1000..));
        // In another cluster its number would mean something else.
        let elsewhere = SegmentPool::new(9, Ledger::in_memory(u64::MAX), 0);
        let (bytes, copied) = encode(Some(&elsewhere), &mapped);
        assert_eq!((copied.len(), copied[0].id().owner), (1, 9));
        assert_eq!(decode::<Buffer<f64>>(&bytes, &copied).unwrap(), mapped);
    }

    #[test]
    fn without_a_scope_or_a_pool_everything_is_inline() {
        let value = vec![numbers(100_000), numbers(0), numbers(1)];
        let (bytes, segments) = encode(None, &value);
        assert!(segments.is_empty() && bytes.len() > 800_000);
        assert_eq!(decode::<Vec<Buffer<f64>>>(&bytes, &[]).unwrap(), value);
        assert_eq!(bytes, bincode::serde::encode_to_vec(&value, config()).unwrap());
        // Read by something that can't lend its bytes.
        let (owned, _): (Vec<Buffer<f64>>, _) = bincode::serde::decode_from_slice(&bytes, config()).unwrap();
        assert_eq!(owned, value);
        let (bytes, _) = encode(None, &numbers(2));
        assert_eq!(&bytes[2..], [0f64.to_le_bytes(), 0.5f64.to_le_bytes()].concat());
    }

    #[test]
    fn readable_formats_get_a_list_of_numbers() {
        let value = numbers(3);
        let text = serde_json::to_string(&value).unwrap();
        assert_eq!(text, "[0.0,0.5,1.0]");
        assert_eq!(serde_json::from_str::<Buffer<f64>>(&text).unwrap(), value);
    }

    #[test]
    fn equal_places_are_written_once() {
        let pool = pool();
        let a = numbers(10_000);
        let (bytes, segments) = encode(Some(&pool), &(&a, &a, a.clone(), numbers(10_000)));
        assert_eq!(segments.len(), 1);
        assert!(segments[0].len() < 3 * 80_000);
        type Four = (Buffer<f64>, Buffer<f64>, Buffer<f64>, Buffer<f64>);
        let back: Four = decode(&bytes, &segments).unwrap();
        assert_eq!(back.0.as_ptr(), back.2.as_ptr());
        assert_ne!(back.0.as_ptr(), back.3.as_ptr());
        assert_eq!((&back.1, &back.3), (&a, &a));
    }

    #[test]
    fn a_temporary_does_not_lend_its_address_to_the_next() {
        struct Fresh(u8);
        impl Serialize for Fresh {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                Buffer::from(vec![self.0; LARGE]).serialize(s)
            }
        }
        let (bytes, segments) = encode(Some(&pool()), &[Fresh(1), Fresh(2), Fresh(3)]);
        let back: [Buffer; 3] = decode(&bytes, &segments).unwrap();
        assert!(back.iter().zip(1..).all(|(b, n)| b.len() == LARGE && b.iter().all(|x| *x == n)));
    }

    #[test]
    fn small_ones_share_and_large_ones_stand_alone() {
        let pool = pool();
        let value: Vec<Buffer> = vec![vec![1; LARGE].into(), vec![2; ALONE].into(), vec![3; LARGE + 1].into()];
        let (bytes, segments) = encode(Some(&pool), &value);
        assert_eq!(segments.len(), 2);
        let back: Vec<Buffer> = decode(&bytes, &segments).unwrap();
        assert_eq!(back, value);
        assert!(back.iter().all(|b| b.as_ptr().addr().is_multiple_of(ALIGN)));
    }

    #[test]
    fn a_value_refers_to_as_many_segments_as_there_are() {
        let pool = pool();
        let existing: Vec<Buffer> = (0..1000_usize)
            .map(|i| Buffer::from_segment(write_large(&pool, &[i as u8; LARGE]).unwrap(), 0, LARGE as u64).unwrap())
            .collect();
        let value = (existing, Buffer::from(vec![1u8; ALONE]), Buffer::from(vec![2u8; LARGE]));
        let (bytes, segments) = encode(Some(&pool), &value);
        assert_eq!(segments.len(), 1002);
        assert_eq!(decode::<(Vec<Buffer>, Buffer, Buffer)>(&bytes, &segments).unwrap(), value);
    }

    #[test]
    fn no_budget_is_a_typed_error() {
        let pool = SegmentPool::new(1, Ledger::in_memory(MIB as u64), 0);
        let result =
            encode_with(Some(&pool), &mut Copies::default(), || bincode::serde::encode_to_vec(numbers(MIB), config()));
        assert!(matches!(result, Err(SegmentError::Budget(_))));
    }

    #[test]
    fn scopes_nest_and_survive_panics() {
        let pool = pool();
        let ((inner, inner_segments), outer) = encode_with(Some(&pool), &mut Copies::default(), || {
            let inner = encode(None, &numbers(10_000));
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                encode_with(Some(&pool), &mut Copies::default(), || panic!("in a scope"))
            }));
            assert!(unwound.is_err());
            bincode::serde::encode_to_vec(numbers(20_000), config()).unwrap();
            inner
        })
        .unwrap();
        assert!(inner_segments.is_empty() && inner.len() > 80_000);
        assert_eq!(outer.len(), 1);
        assert!(add(|| numbers(1).cast().unwrap()).is_none());
        decode_with(&outer, || {
            decode_with(&[], || assert!(segment(0).is_none()));
            assert!(segment(0).is_some());
        });
        assert!(segment(0).is_none());
    }

    #[test]
    fn encoded_bytes_can_lie_in_a_segment_whole() {
        let pool = pool();
        let bytes = vec![5; 300_000];
        let segment = write_large(&pool, &bytes).unwrap();
        assert_eq!(&segment.bytes()[..bytes.len()], bytes);
    }

    /// As a sender writes it, so that the numbers can be anything.
    #[derive(Serialize)]
    enum Forged {
        #[expect(dead_code, reason = "keeps the numbering of the variants")]
        Inline(()),
        Segment {
            index: u32,
            offset: u64,
            len: u64,
        },
    }

    fn near(n: u64) -> impl Strategy<Value = u64> {
        prop_oneof![0..n + 64, Just(u64::MAX), any::<u64>(), (0u64..64).prop_map(|s| u64::MAX >> s)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_forged_place_is_an_error_or_inside_its_segment(
            index in 0u32..3, offset in near(4096), len in near(512),
        ) {
            let segment = write_large(&pool(), &[7; 4096]).unwrap();
            let (bytes, _) = encode(None, &Forged::Segment { index, offset, len });
            let sound = index == 0 && offset % 8 == 0
                && len.checked_mul(8).and_then(|n| n.checked_add(offset)).is_some_and(|end| end <= 4096);
            match decode::<Buffer<u64>>(&bytes, std::slice::from_ref(&segment)) {
                Ok(buffer) => {
                    prop_assert!(sound);
                    prop_assert_eq!(buffer.len() as u64, len);
                    prop_assert!(buffer.iter().all(|x| *x == 0x0707_0707_0707_0707));
                }
                Err(_) => prop_assert!(!sound),
            }
        }

        #[test]
        fn any_bytes_decode_to_buffers_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let segment = write_large(&pool(), &[7; 4096]).unwrap();
            if let Ok(buffers) = decode::<Vec<Buffer<u32>>>(&bytes, std::slice::from_ref(&segment)) {
                let total: u64 = buffers.iter().flat_map(|b| b.iter()).map(|x| u64::from(*x)).sum();
                std::hint::black_box(total);
            }
        }
    }
}
