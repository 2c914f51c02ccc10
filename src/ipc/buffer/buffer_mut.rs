//! A buffer that is being filled.

use super::{Buffer, BufferError, Element, bytes_of, short};
use crate::host::report;
use crate::ipc::out_of_band::LARGE;
use crate::ipc::segment::{SegmentError, SegmentMut, SegmentPool, installed};
use std::alloc::{Layout, alloc_zeroed};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

/// A [`Buffer`] that is being filled.
///
/// In a worker, one of 64 KiB or more lies in shared memory from the start, so that what a task writes into it reaches
/// other processes without a copy. Where shared memory is used up it lies on the heap as elsewhere.
///
/// ```
/// use swath::buffer::BufferMut;
///
/// let mut b = BufferMut::<f64>::zeroed(3)?;
/// b[1] = 2.5;
/// let b = b.freeze();
/// assert_eq!(&b[..], [0.0, 2.5, 0.0]);
/// # Ok::<(), swath::buffer::BufferError>(())
/// ```
pub struct BufferMut<T: Element = u8>(Store<T>);

enum Store<T> {
    Heap(Vec<T>),
    /// A segment with room for that many elements.
    Segment(SegmentMut, usize),
}

impl<T: Element> BufferMut<T> {
    /// `len` zeroes.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn zeroed(len: usize) -> Result<Self, BufferError> {
        Self::zeroed_in(installed(), len)
    }

    /// `len` elements, each computed from its index, in order.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn try_from_fn(len: usize, f: impl FnMut(usize) -> T) -> Result<Self, BufferError> {
        Self::from_fn_in(installed(), len, f)
    }

    pub(super) fn zeroed_in(pool: Option<&SegmentPool>, len: usize) -> Result<Self, BufferError> {
        if let Some(segment) = Self::segment(pool, len, SegmentPool::alloc_zeroed) {
            return Ok(Self(Store::Segment(segment, len)));
        }
        let memory = BufferError::Memory { len, element: size_of::<T>() };
        let layout = Layout::array::<T>(len).map_err(|_| memory.clone())?;
        if layout.size() == 0 {
            return Ok(Self(Store::Heap(Vec::new())));
        }
        // Not `vec![0; len]`, which ends the process where there is no memory. Not a filled `Vec` either: fresh pages
        // from the kernel are zero already.
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start.cast::<T>()).ok_or(memory)?;
        // SAFETY: just allocated by the global allocator with the layout of `len` elements, which zeroes initialise.
        Ok(Self(Store::Heap(unsafe { Vec::from_raw_parts(start.as_ptr(), len, len) })))
    }

    pub(super) fn from_fn_in(
        pool: Option<&SegmentPool>,
        len: usize,
        mut f: impl FnMut(usize) -> T,
    ) -> Result<Self, BufferError> {
        // Elements are written over what an earlier user left, which must be elements.
        let alloc = if T::ANY_BYTES { SegmentPool::alloc } else { SegmentPool::alloc_zeroed };
        if let Some(segment) = Self::segment(pool, len, alloc) {
            let mut buffer = Self(Store::Segment(segment, len));
            for (i, x) in buffer.iter_mut().enumerate() {
                *x = f(i);
            }
            return Ok(buffer);
        }
        let mut values = Vec::new();
        values.try_reserve_exact(len).map_err(|_| BufferError::Memory { len, element: size_of::<T>() })?;
        values.extend((0..len).map(f));
        Ok(Self(Store::Heap(values)))
    }

    /// A copy of elements in a segment, where one is wanted and there is one.
    pub(super) fn shared_copy(pool: Option<&SegmentPool>, values: &[T]) -> Option<Self> {
        let mut segment = Self::segment(pool, values.len(), SegmentPool::alloc)?;
        let bytes = bytes_of(values);
        segment[..bytes.len()].copy_from_slice(bytes);
        Some(Self(Store::Segment(segment, values.len())))
    }

    /// A segment where one is wanted and there is one.
    fn segment(
        pool: Option<&SegmentPool>,
        len: usize,
        alloc: impl FnOnce(&SegmentPool, usize) -> Result<SegmentMut, SegmentError>,
    ) -> Option<SegmentMut> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|n| *n >= LARGE)?;
        // Without shared memory there is still the heap. The value may never cross a border; if it does, that is where
        // the lack of shared memory is an error, with a name.
        alloc(pool?, bytes).inspect_err(|e| report!(Debug, "a buffer of {bytes} bytes goes to the heap: {e}")).ok()
    }

    /// Ends the writing. Copies nothing.
    #[must_use]
    pub fn freeze(self) -> Buffer<T> {
        match self.0 {
            Store::Heap(values) => values.into(),
            Store::Segment(segment, len) => Buffer::in_place(segment.freeze(), 0, len as u64)
                .expect("allocated for that many elements, and aligned to a page"),
        }
    }
}

impl<T: Element> Deref for BufferMut<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Store::Heap(values) => values,
            // SAFETY: the segment has at least `len` elements' bytes, starts at a page, and is borrowed with `self`.
            // They are values: zeroes, what was written, or whatever is there of a type of which any bytes are values.
            Store::Segment(segment, len) => unsafe { slice::from_raw_parts(segment.as_ptr().cast(), *len) },
        }
    }
}

impl<T: Element> DerefMut for BufferMut<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Store::Heap(values) => values,
            // SAFETY: as for `deref`, and borrowed mutably with `self`.
            Store::Segment(segment, len) => unsafe { slice::from_raw_parts_mut(segment.as_mut_ptr().cast(), *len) },
        }
    }
}

impl<T: Element> fmt::Debug for BufferMut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(f, "BufferMut", self)
    }
}
