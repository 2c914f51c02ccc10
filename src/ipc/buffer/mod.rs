//! Immutable arrays of plain numbers that cost nothing to hand on, also to another process.

use crate::ipc::segment::{Segment, installed};
use std::any::{Any, type_name};
use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

const _: () = assert!(cfg!(target_endian = "little"), "swath writes numbers as they lie in memory, little endian");

mod buffer_mut;
mod element;
mod wire;

pub use buffer_mut::BufferMut;
pub use element::Element;

/// Why a [`Buffer`] could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BufferError {
    /// The bytes are no whole number of elements.
    #[error("{bytes} bytes are no whole number of elements of {element} bytes")]
    Length {
        /// Length of what was to be cast.
        bytes: usize,
        /// Size of one element of the type asked for.
        element: usize,
    },
    /// The first byte does not lie where an element may start.
    #[error("the bytes do not start at a multiple of {align}: copy them into a new buffer first")]
    Alignment {
        /// What the type asked for needs.
        align: usize,
    },
    /// Some bytes are no elements: a `bool` is 0 or 1.
    #[error("some of the bytes are no value of an element")]
    Value,
    /// There is no memory of that size to be had.
    #[error(
        "no memory for a buffer of {len} elements of {element} bytes; a task may have no more than its worker's memory limit"
    )]
    Memory {
        /// Number of elements asked for.
        len: usize,
        /// Size of each.
        element: usize,
    },
}

/// What keeps the memory of a buffer.
#[derive(Clone)]
enum Owner {
    Nobody,
    /// A `Vec<T>` of some element type, after a cast not the type of the view; or what a user gave.
    Heap(Arc<dyn Any + Send + Sync>),
    Segment(Arc<Segment>),
}

/// An immutable array of plain numbers. Cloning and slicing it copies nothing.
///
/// Inside any value that a task takes or returns, a buffer of 64 KiB or more crosses process borders in shared memory:
/// the receiver reads it in place. Anywhere else it is like an `Arc<[T]>` that a `Vec` turns into for free.
///
/// ```
/// use swath::Buffer;
///
/// let prices: Buffer<f64> = vec![1.5, 2.5, 4.0].into();
/// assert_eq!(prices.iter().sum::<f64>(), 8.0);
///
/// let last_two = prices.slice(1..); // a view, no copy
/// assert_eq!(&last_two[..], [2.5, 4.0]);
/// ```
pub struct Buffer<T: Element = u8> {
    owner: Owner,
    /// Aligned, and valid for reads of `len` elements as long as `owner` lives, in which nothing changes. Where `len` is not 0,
    /// the bytes there are values.
    ptr: NonNull<T>,
    len: usize,
}

// SAFETY: a buffer is a shared, never-changing slice of numbers and a reference-counted owner that is Send and Sync.
unsafe impl<T: Element> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Buffer<T> {}

impl<T: Element> Buffer<T> {
    /// A buffer of no elements.
    #[must_use]
    pub const fn new() -> Self {
        Self { owner: Owner::Nobody, ptr: NonNull::dangling(), len: 0 }
    }

    /// Copies a slice. In a worker, a large one is copied to where other processes can read it.
    ///
    /// ```
    /// use swath::Buffer;
    /// assert_eq!(&Buffer::from_slice(&[1u32, 2, 3])[..], [1, 2, 3]);
    /// ```
    pub fn from_slice(values: &[T]) -> Self {
        BufferMut::shared_copy(installed(), values).map_or_else(|| values.to_vec().into(), BufferMut::freeze)
    }

    /// Any memory as a buffer, without a copy: a memory map, an array of another library. It is kept until the last view of
    /// the buffer is dropped. Where it crosses a process border, it is copied once, into shared memory.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use swath::Buffer;
    ///
    /// let numbers: Arc<[f64]> = vec![1.0, 2.0, 3.0].into();
    /// let at = numbers.as_ptr();
    /// let buffer = Buffer::from_owner(numbers);
    /// assert_eq!(buffer.as_ptr(), at);
    /// assert_eq!(buffer.iter().sum::<f64>(), 6.0);
    /// ```
    pub fn from_owner(owner: impl AsRef<[T]> + Send + Sync + 'static) -> Self {
        let owner = Arc::new(owner);
        // What `as_ref` borrows from lies in the `Arc`, does not move, and is borrowed for as long as that lives: nobody gets
        // `&mut` to it. Only a `Vec` is taken out again, by the last user.
        let elements = NonNull::from((*owner).as_ref());
        if elements.is_empty() {
            return Self::new();
        }
        Self { ptr: elements.cast(), len: elements.len(), owner: Owner::Heap(owner) }
    }

    /// The buffer that a slice lies in, as a view of those elements: where it lies in memory that processes share, as the
    /// contents of a [`Buffer`] do that came from another process or was made large in a worker. So what only has a slice can
    /// be handed on without a copy. `None` for other memory, and for an empty slice.
    ///
    /// Costs a search among the segments of this process: less than a microsecond.
    ///
    /// ```
    /// use swath::{Buffer, Client, delayed};
    ///
    /// # fn main() -> swath::Result<()> {
    /// let client = Client::local(1, 1, "200MB")?;
    /// let there = client.compute(&delayed(|n: usize| Buffer::from_fn(n, |i| i as f64)).call(100_000))?;
    /// let column: &[f64] = &there[1_000..51_000];
    /// let buffer = Buffer::around(column).expect("it lies in shared memory");
    /// assert_eq!(buffer.as_ptr(), column.as_ptr());
    /// assert!(Buffer::around(&[1.0, 2.0]).is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn around(slice: &[T]) -> Option<Self> {
        let (segment, offset) = Segment::around(bytes_of(slice))?;
        // The bytes are those of a slice of elements, so they are values.
        Self::in_place(segment, offset as u64, slice.len() as u64).ok()
    }

    /// A buffer of `len` elements, each computed from its index. In a worker, a large one is written where other
    /// processes can read it, and is never copied again.
    ///
    /// ```
    /// use swath::Buffer;
    /// let squares = Buffer::from_fn(4, |i| (i * i) as u64);
    /// assert_eq!(&squares[..], [0, 1, 4, 9]);
    /// ```
    ///
    /// # Panics
    /// If there is no memory. [`BufferMut::try_from_fn`] returns an error instead.
    pub fn from_fn(len: usize, f: impl FnMut(usize) -> T) -> Self {
        match BufferMut::try_from_fn(len, f) {
            Ok(buffer) => buffer.freeze(),
            Err(e) => panic!("{e}"),
        }
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the invariant of `ptr`.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    /// The elements as they lie in memory, little endian.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        bytes_of(self)
    }

    /// A view of some of the elements. It shares the memory, all of which lives as long as any view of it.
    ///
    /// ```
    /// use swath::Buffer;
    /// let b: Buffer = (0..10).collect();
    /// assert_eq!(&b.slice(2..=4)[..], [2, 3, 4]);
    /// assert_eq!(b.slice(7..).slice(..1)[0], 7);
    /// ```
    ///
    /// # Panics
    /// If the range does not lie within the buffer, as for a slice.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let after = |n: usize| n.checked_add(1).expect("a range bound over the address space");
        let start = match range.start_bound() {
            Bound::Included(&n) => n,
            Bound::Excluded(&n) => after(n),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&n) => after(n),
            Bound::Excluded(&n) => n,
            Bound::Unbounded => self.len,
        };
        let part = &self[start..end];
        Self { owner: self.owner.clone(), ptr: NonNull::from(part).cast(), len: part.len() }
    }

    /// The same bytes as elements of another type, without a copy.
    ///
    /// ```
    /// use swath::Buffer;
    /// let bytes = Buffer::from_slice(&[1.0f64]).cast::<u8>().unwrap();
    /// assert_eq!(&bytes[..], 1.0f64.to_le_bytes());
    /// assert!(bytes.slice(..7).cast::<u32>().is_err());
    /// ```
    ///
    /// # Errors
    /// If the length is no multiple of the new type's size, or the start is not aligned for it, or the bytes are no `bool`s.
    pub fn cast<U: Element>(self) -> Result<Buffer<U>, BufferError> {
        let bytes = self.as_bytes().len();
        let ptr = self.ptr.cast::<U>();
        if !bytes.is_multiple_of(size_of::<U>()) {
            return Err(BufferError::Length { bytes, element: size_of::<U>() });
        }
        if bytes == 0 {
            return Ok(Buffer::new());
        }
        if !ptr.is_aligned() {
            return Err(BufferError::Alignment { align: align_of::<U>() });
        }
        if !U::are_values(self.as_bytes()) {
            return Err(BufferError::Value);
        }
        Ok(Buffer { owner: self.owner, ptr, len: bytes / size_of::<U>() })
    }

    /// The elements as a `Vec`. Without a copy where the buffer came from a `Vec` of that type, is all of it, and is its
    /// only user.
    ///
    /// ```
    /// use swath::Buffer;
    /// let numbers = vec![1u64, 2, 3];
    /// let at = numbers.as_ptr();
    /// let same = Buffer::from(numbers).into_vec();
    /// assert_eq!(same.as_ptr(), at);
    /// ```
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        let (ptr, len) = (self.ptr, self.len);
        let owner = match self.owner {
            Owner::Heap(owner) => match owner.downcast::<Vec<T>>() {
                Ok(vec) if ptr::eq(vec.as_ptr(), ptr.as_ptr()) && vec.len() == len => match Arc::try_unwrap(vec) {
                    Ok(vec) => return vec,
                    Err(vec) => Owner::Heap(vec),
                },
                Ok(vec) => Owner::Heap(vec),
                Err(other) => Owner::Heap(other),
            },
            owner => owner,
        };
        Self { owner, ptr, len }.as_slice().to_vec()
    }

    /// Whether the elements lie in memory that processes share.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(&self.owner, Owner::Segment(segment) if !segment.is_on_disk())
    }

    /// Whether the elements lie in a file, from which the kernel reads them as they are used.
    fn is_on_disk(&self) -> bool {
        matches!(&self.owner, Owner::Segment(segment) if segment.is_on_disk())
    }

    /// The segment that it lies in and that others can map, and its first byte there.
    pub(crate) fn in_segment(&self) -> Option<(&Arc<Segment>, usize)> {
        match &self.owner {
            Owner::Segment(segment) if !segment.is_on_disk() => {
                let start = segment.bytes().as_ptr().addr();
                Some((segment, self.ptr.as_ptr().addr() - start))
            }
            _ => None,
        }
    }

    /// A view of `len` elements in a segment, the first of them `offset` bytes from its start. Trusts nothing.
    pub(crate) fn from_segment(segment: Arc<Segment>, offset: u64, len: u64) -> Result<Self, &'static str> {
        let view = Buffer::<u8>::in_place(Arc::clone(&segment), offset, len.saturating_mul(size_of::<T>() as u64))?;
        if !T::are_values(&view) {
            return Err("some of its bytes are no values of its elements");
        }
        Self::in_place(segment, offset, len)
    }

    /// The same, for bytes that are known to be values.
    fn in_place(segment: Arc<Segment>, offset: u64, len: u64) -> Result<Self, &'static str> {
        let range = || {
            let start = usize::try_from(offset).ok()?;
            let len = usize::try_from(len).ok()?;
            let end = start.checked_add(len.checked_mul(size_of::<T>())?)?;
            Some((segment.bytes().get(start..end)?, len))
        };
        let Some((bytes, len)) = range() else { return Err("a buffer reaches past the end of its segment") };
        let ptr = NonNull::from(bytes).cast::<T>();
        if !ptr.is_aligned() {
            return Err("a buffer is not aligned in its segment");
        }
        Ok(Self { owner: Owner::Segment(segment), ptr, len })
    }
}

#[cfg(feature = "ndarray")]
impl<T: Element> Buffer<T> {
    /// The elements as an `ndarray` view of one dimension.
    pub fn view(&self) -> ndarray::ArrayView1<'_, T> {
        ndarray::ArrayView1::from(self.as_slice())
    }

    /// The elements as an `ndarray` view of any shape, for example `(rows, columns)`, or `(rows, columns).f()` for
    /// columns that lie together.
    ///
    /// ```
    /// use swath::Buffer;
    /// let b = Buffer::from_slice(&[1.0, 2.0, 3.0, 4.0]);
    /// assert_eq!(b.view_shaped((2, 2)).unwrap()[[1, 0]], 3.0);
    /// ```
    ///
    /// # Errors
    /// If the shape has more elements than the buffer.
    pub fn view_shaped<Sh, D>(&self, shape: Sh) -> Result<ndarray::ArrayView<'_, T, D>, ndarray::ShapeError>
    where
        Sh: Into<ndarray::StrideShape<D>>,
        D: ndarray::Dimension,
    {
        ndarray::ArrayView::from_shape(shape, self.as_slice())
    }
}

impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self { owner: self.owner.clone(), ptr: self.ptr, len: self.len }
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: Element> AsRef<[T]> for Buffer<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Element> Default for Buffer<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Element> From<Vec<T>> for Buffer<T> {
    fn from(values: Vec<T>) -> Self {
        if values.is_empty() {
            return Self::new();
        }
        let values = Arc::new(values);
        // Nobody has `&mut` to it again unless `into_vec` finds no other user, so the elements stay where they are.
        let elements = NonNull::from(values.as_slice());
        Self { ptr: elements.cast(), len: elements.len(), owner: Owner::Heap(values) }
    }
}

impl<T: Element> From<Buffer<T>> for Vec<T> {
    fn from(buffer: Buffer<T>) -> Self {
        buffer.into_vec()
    }
}

impl<T: Element> FromIterator<T> for Buffer<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Vec::from_iter(values).into()
    }
}

impl<'a, T: Element> IntoIterator for &'a Buffer<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Element> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Element + Eq> Eq for Buffer<T> {}

/// The type, the length and the first few elements.
impl<T: Element> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(f, "Buffer", self)
    }
}

fn short<T: Element>(f: &mut fmt::Formatter<'_>, name: &str, values: &[T]) -> fmt::Result {
    const SHOWN: usize = 8;
    write!(f, "{name}<{}>({}: ", type_name::<T>(), values.len())?;
    let mut list = f.debug_list();
    list.entries(values.iter().take(SHOWN));
    if values.len() > SHOWN { list.finish_non_exhaustive() } else { list.finish() }?;
    f.write_str(")")
}

/// Elements as they lie in memory.
fn bytes_of<T: Element>(elements: &[T]) -> &[u8] {
    // SAFETY: the same memory seen as bytes, of which elements consist without padding.
    unsafe { slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::ledger::Ledger;
    use crate::ipc::out_of_band::LARGE;
    use crate::ipc::segment::SegmentPool;
    use proptest::prelude::*;

    #[test]
    fn a_vec_goes_in_and_out_without_a_copy() {
        let values: Vec<u32> = (0..1000).collect();
        let at = values.as_ptr();
        let buffer = Buffer::from(values);
        assert_eq!(buffer.as_ptr(), at);
        let clone = buffer.clone();
        let copied = buffer.into_vec();
        assert_ne!(copied.as_ptr(), at);
        let part = clone.slice(1..);
        drop(clone);
        assert_eq!(part.into_vec(), copied[1..]);
        let buffer = Buffer::from(copied);
        let at = buffer.as_ptr();
        let there_and_back = buffer.cast::<f32>().unwrap().cast::<u32>().unwrap();
        let values = there_and_back.into_vec();
        assert_eq!(values.as_ptr(), at);
        // As another type it can't be that Vec any more.
        let bytes = Buffer::from(vec![1u32, 2]).cast::<u8>().unwrap().into_vec();
        assert_eq!(bytes, [1, 0, 0, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn views_keep_the_memory() {
        let view = {
            let whole: Buffer<i64> = (0..100).collect();
            whole.slice(10..20).slice(5..=6)
        };
        assert_eq!(&view[..], [15, 16]);
        assert!(view.slice(2..).is_empty());
        assert_eq!(view.slice((Bound::Excluded(0), Bound::Unbounded))[0], 16);
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn a_slice_past_the_end_panics() {
        Buffer::from(vec![1u8, 2]).slice(..3);
    }

    #[test]
    fn casts_check_length_and_alignment() {
        let bytes = Buffer::from(vec![0u64; 4]).cast::<u8>().unwrap();
        assert_eq!(bytes.clone().cast::<f64>().unwrap().len(), 4);
        assert_eq!(bytes.slice(..31).cast::<u16>(), Err(BufferError::Length { bytes: 31, element: 2 }));
        assert_eq!(bytes.slice(1..9).cast::<u64>(), Err(BufferError::Alignment { align: 8 }));
        assert!(bytes.slice(1..1).cast::<u64>().unwrap().is_empty());
        assert!(Buffer::<u8>::new().cast::<f64>().unwrap().as_slice().is_empty());
    }

    #[test]
    fn it_prints_short_and_compares_by_value() {
        assert_eq!(format!("{:?}", Buffer::from(vec![1u8, 2])), "Buffer<u8>(2: [1, 2])");
        let long: Buffer<f32> = (0..1000).map(|i| i as f32).collect();
        assert_eq!(format!("{long:?}"), "Buffer<f32>(1000: [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, ..])");
        assert_eq!(long, Buffer::from_slice(&long));
        assert_ne!(long, long.slice(1..));
        assert_eq!(Buffer::<f64>::default(), Buffer::from(vec![]));
        assert_eq!((&Buffer::from(vec![3u8])).into_iter().sum::<u8>(), 3);
    }

    #[test]
    fn without_a_pool_it_lies_on_the_heap() {
        let zeroes = BufferMut::<u64>::zeroed_in(None, 100_000).unwrap();
        assert!(zeroes.iter().all(|x| *x == 0) && zeroes.len() == 100_000);
        let frozen = zeroes.freeze();
        assert!(!frozen.is_shared() && frozen.in_segment().is_none());
        assert_eq!(frozen.into_vec().capacity(), 100_000);
        assert!(BufferMut::<u64>::zeroed_in(None, 0).unwrap().freeze().is_empty());
        let error = BufferError::Memory { len: usize::MAX, element: 8 };
        assert_eq!(BufferMut::<u64>::zeroed_in(None, usize::MAX).unwrap_err(), error);
        assert!(BufferMut::<u64>::zeroed_in(None, 1 << 58).is_err());
        assert!(BufferMut::<u64>::from_fn_in(None, 1 << 58, |_| 0).is_err());
    }

    #[test]
    fn with_a_pool_a_large_one_is_born_shared() {
        let pool = SegmentPool::new(1, Ledger::in_memory(1 << 20), 1 << 20);
        let make = |len| BufferMut::<u32>::from_fn_in(Some(&pool), len, |i| i as u32).unwrap().freeze();
        assert!(!make(LARGE / 4 - 1).is_shared());
        let shared = make(LARGE / 4);
        assert!(shared.is_shared() && shared.len() == LARGE / 4);
        assert!(shared.iter().zip(0..).all(|(a, b)| *a == b));
        let part = shared.slice(10..);
        assert_eq!(part.in_segment().unwrap().1, 40);
        drop(shared);
        assert_eq!(pool.stats().live, 1);
        assert_eq!(part.into_vec()[0], 10);
        assert_eq!((pool.stats().live, pool.stats().free), (0, 1));
        // Used again, and clean.
        let mut zeroes = BufferMut::<u32>::zeroed_in(Some(&pool), LARGE / 4).unwrap();
        assert_eq!(pool.stats().reused, 1);
        assert!(zeroes.iter().all(|x| *x == 0));
        zeroes[5] = 7;
        assert!(format!("{zeroes:?}").starts_with("BufferMut<u32>(16384: [0, 0, 0, 0, 0, 7"));
        assert_eq!(zeroes.freeze()[5], 7);
        // Past the budget there is the heap.
        assert!(!make(1 << 19).is_shared());
    }

    #[test]
    fn a_panic_while_filling_loses_nothing() {
        let pool = SegmentPool::new(1, Ledger::in_memory(u64::MAX), 1 << 20);
        let fill = || BufferMut::<u8>::from_fn_in(Some(&pool), LARGE, |i| if i == 9 { panic!("nine") } else { 1 });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(fill)).is_err());
        assert_eq!((pool.stats().live, pool.stats().free), (0, 1));
    }

    #[test]
    fn bytes_that_are_no_bool_are_refused_wherever_they_come_from() {
        let flags: Buffer<bool> = (0..200_000).map(|i| i % 3 == 0).collect();
        assert_eq!(flags.clone().cast::<u8>().unwrap().cast::<bool>().unwrap(), flags);
        assert_eq!(Buffer::from_slice(&[0_u8, 1, 2]).cast::<bool>().unwrap_err(), BufferError::Value);
        assert_eq!(
            Buffer::from_slice(&[256_u32]).cast::<u8>().unwrap().cast::<bool>().unwrap().into_vec(),
            [false, true, false, false]
        );
        let config = bincode::config::standard();
        let mut bytes = bincode::serde::encode_to_vec(Buffer::from_slice(&[true, false]), config).unwrap();
        let decode = |bytes: &[u8]| bincode::serde::borrow_decode_from_slice::<Buffer<bool>, _>(bytes, config);
        assert_eq!(decode(&bytes).unwrap().0.into_vec(), [true, false]);
        *bytes.last_mut().unwrap() = 3;
        assert!(decode(&bytes).is_err());
        // In a segment, where an earlier user left other bytes.
        let pool = SegmentPool::new(1, Ledger::in_memory(u64::MAX), 1 << 20);
        pool.alloc(LARGE).unwrap().fill(7);
        let made = BufferMut::<bool>::from_fn_in(Some(&pool), LARGE, |i| i == 5).unwrap().freeze();
        assert!(made.is_shared() && made[5] && pool.stats().reused == 1);
        let mut segment = pool.alloc(LARGE).unwrap();
        segment.fill(1);
        segment[77] = 2;
        let segment = segment.freeze();
        assert!(Buffer::<bool>::from_segment(Arc::clone(&segment), 0, LARGE as u64).is_err());
        assert!(Buffer::<bool>::from_segment(Arc::clone(&segment), 0, u64::MAX).is_err());
        assert!(Buffer::<bool>::from_segment(segment, 100, 1000).unwrap().iter().all(|flag| *flag));
    }

    #[test]
    fn any_memory_becomes_a_buffer_and_is_kept_as_long_as_a_view_of_it() {
        struct Counted(Box<[u16]>, #[expect(dead_code, reason = "it is counted")] Arc<()>);
        impl AsRef<[u16]> for Counted {
            fn as_ref(&self) -> &[u16] {
                &self.0
            }
        }
        let users = Arc::new(());
        let owner = Counted((0..100).collect(), Arc::clone(&users));
        let at = owner.0.as_ptr();
        let view = Buffer::from_owner(owner).slice(10..);
        assert_eq!((view.as_ptr(), view[0], Arc::strong_count(&users)), (at.wrapping_add(10), 10, 2));
        assert_eq!(view.clone().into_vec()[89], 99);
        drop(view);
        assert_eq!(Arc::strong_count(&users), 1);
        assert!(Buffer::from_owner(Counted(Box::default(), users)).is_empty());
        let vec = vec![1.5, 2.5];
        let at = vec.as_ptr();
        let same = Buffer::from_owner(vec).into_vec();
        assert_eq!(same.as_ptr(), at);
        // An array lies in its owner.
        assert_eq!(Buffer::from_owner([7_u8; 5]).into_vec(), [7; 5]);
    }

    #[test]
    fn a_slice_of_shared_memory_is_a_buffer_again_and_others_are_not() {
        let pool = SegmentPool::new(1, Ledger::in_memory(u64::MAX), 1 << 20);
        let make = |x: f64| BufferMut::<f64>::from_fn_in(Some(&pool), 20_000, |i| x + i as f64).unwrap().freeze();
        let (first, second) = (make(0.0), make(1e6));
        for buffer in [&first, &second] {
            let part = &buffer[5_000..20_000];
            let again = Buffer::around(part).unwrap();
            assert_eq!((again.as_ptr(), again.len()), (part.as_ptr(), 15_000));
            assert_eq!(again.in_segment().unwrap().0.id(), buffer.in_segment().unwrap().0.id());
        }
        assert!(Buffer::around(&first[..0]).is_none());
        assert!(Buffer::around(&[1_u8, 2]).is_none());
        let kept = Buffer::around(&first[1..2]).unwrap();
        drop(first);
        assert_eq!((kept[0], pool.stats().live), (1.0, 2));
        drop(kept);
        assert_eq!(pool.stats().live, 1);
        // What is being written is nobody else's.
        let writing = BufferMut::<u8>::zeroed_in(Some(&pool), LARGE).unwrap();
        assert!(Buffer::around(&writing).is_none());
    }

    #[cfg(feature = "complex")]
    #[test]
    fn complex_numbers_are_elements() {
        use num_complex::Complex;
        let values: Buffer<Complex<f64>> = (0..10_000).map(|i| Complex::new(f64::from(i), -1.0)).collect();
        let parts = values.clone().cast::<f64>().unwrap();
        assert_eq!((parts.len(), parts[200], parts[201]), (20_000, 100.0, -1.0));
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(&values, config).unwrap();
        let (back, _): (Buffer<Complex<f64>>, _) = bincode::serde::borrow_decode_from_slice(&bytes, config).unwrap();
        assert_eq!(back, values);
    }

    #[test]
    fn buffers_go_to_other_threads() {
        fn check<T: Send + Sync>(_: &T) {}
        let b = Buffer::from_fn(5, |i| i as u8);
        check(&b);
        let c = b.clone();
        assert_eq!(std::thread::spawn(move || c.iter().sum::<u8>()).join().unwrap(), 10);
        drop(b);
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn ndarray_sees_it_in_place() {
        let b = Buffer::from_fn(6, |i| i as f64);
        assert_eq!(b.view().sum(), 15.0);
        assert_eq!(b.view().as_ptr(), b.as_ptr());
        assert_eq!(b.view_shaped((2, 3)).unwrap()[[1, 0]], 3.0);
        assert_eq!(b.view_shaped(ndarray::IxDyn(&[3, 2])).unwrap().shape(), [3, 2]);
        assert!(b.view_shaped((7, 1)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_type_comes_back(values in prop::collection::vec(any::<i16>(), 0..100)) {
            fn trip<T: Element>(values: Vec<T>) {
                let config = bincode::config::standard();
                let buffer = Buffer::from(values.clone());
                let bytes = bincode::serde::encode_to_vec(&buffer, config).unwrap();
                let (back, used): (Buffer<T>, _) = bincode::serde::borrow_decode_from_slice(&bytes, config).unwrap();
                assert_eq!(used, bytes.len());
                assert_eq!(back.into_vec(), values);
            }
            trip(values.clone());
            trip(values.iter().map(|x| f64::from(*x)).collect());
            trip(values.iter().map(|x| f32::from(*x)).collect());
            trip(values.iter().map(|x| i64::from(*x)).collect());
            trip(values.iter().map(|x| *x as u8).collect());
            trip(values.iter().map(|x| i32::from(*x) as u32).collect());
        }
    }
}
