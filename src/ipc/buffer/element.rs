//! What buffers consist of.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// Keeps [`Element`] to the types below.
pub trait Sealed {
    /// Whether any bytes are values.
    const ANY_BYTES: bool = true;

    /// Whether these bytes are values, one after the other.
    fn are_values(_: &[u8]) -> bool {
        true
    }
}

/// What a [`Buffer`](crate::Buffer) can hold: `u8` to `u64`, `i8` to `i64`, `f32`, `f64`, `bool`, and, with the feature
/// `complex`, `Complex<f32>` and `Complex<f64>` of the crate `num-complex`.
///
/// A `bool` takes a byte. Where one comes from other bytes, from another process or by [`cast`](crate::Buffer::cast), each of
/// them is looked at, once: 0 and 1 are values, others are refused.
///
/// # Safety
/// All bytes of which `are_values` says so are values, zeroes among them; there is no padding, and there is nothing to drop.
/// The trait is sealed.
pub unsafe trait Element:
    Sealed + Copy + Default + PartialEq + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

macro_rules! elements {
    ($($t:ty)*) => { $(
        impl Sealed for $t {}
        // SAFETY: primitive numbers: every bit pattern is a value, no padding, no drop.
        unsafe impl Element for $t {}
    )* };
}
elements!(u8 u16 u32 u64 i8 i16 i32 i64 f32 f64);

#[cfg(feature = "complex")]
elements!(num_complex::Complex<f32> num_complex::Complex<f64>);

impl Sealed for bool {
    const ANY_BYTES: bool = false;

    fn are_values(bytes: &[u8]) -> bool {
        // Without a branch for each, so that many are looked at at once.
        bytes.iter().fold(0, |all, byte| all | byte) <= 1
    }
}

// SAFETY: one byte, of which 0 and 1 are the values; no drop.
unsafe impl Element for bool {}
