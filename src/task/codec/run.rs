//! Runs of numbers: lists whose bytes are moved as a whole instead of one element at a time.
//!
//! serde hands a list to a serialiser as an iterator and asks a deserialiser for its elements one by one. Both say by their
//! types what they are: where the iterator is that of a slice of numbers, and where the visitor is the one that makes a
//! `Vec` of numbers, the elements lie one after the other in memory, and their bytes are copied at once. Nothing else
//! about such a list is different: its length and its elements are written as for any other list.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::any::{Any, TypeId};
use std::convert::Infallible;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// Numbers of a fixed width, whose bytes in memory are those that are written, but for their order on big-endian machines.
///
/// # Safety
/// The type has no padding, and every value of `size_of::<Self>()` bytes for which `valid` is true, is a `Self`.
pub(super) unsafe trait Number: Copy + 'static {
    /// Whether some bytes are elements, one after the other.
    fn valid(_: &[u8]) -> bool {
        true
    }
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        // SAFETY: a primitive number has no padding, and any bytes are one.
        unsafe impl Number for $t {}
    )*};
}
numbers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);

// SAFETY: a `bool` is one byte, which is 0 or 1.
unsafe impl Number for bool {
    fn valid(bytes: &[u8]) -> bool {
        // Without a branch for each, so that the compiler takes many at once.
        bytes.iter().fold(0, |all, byte| all | byte) <= 1
    }
}

// SAFETY: a unit has no bytes.
unsafe impl Number for () {}

// serde writes both as numbers of 64 bits.
const _: () = assert!(size_of::<usize>() == 8 && size_of::<isize>() == 8);

/// The list as a slice of `T`, if that is what it is.
pub(super) fn as_slice<I, T: Number>(list: &I) -> Option<&[T]> {
    let is = typeid::of::<I>();
    if is == TypeId::of::<&'static Vec<T>>() {
        // SAFETY: `I` is `&Vec<T>`, of some lifetime that `list`, which is borrowed, lies in.
        Some(unsafe { *std::ptr::from_ref(list).cast::<&Vec<T>>() }.as_slice())
    } else if is == TypeId::of::<&'static [T]>() {
        // SAFETY: `I` is `&[T]`, likewise.
        Some(unsafe { *std::ptr::from_ref(list).cast::<&[T]>() })
    } else {
        None
    }
}

/// The length of a list of nothing but units, which is all there is to it, if that is what it is.
pub(super) fn units<I>(list: &I) -> Option<usize> {
    as_slice::<I, ()>(list).map(<[()]>::len)
}

/// The bytes of a list, if it is a list of numbers that lie one after the other.
pub(crate) fn number_bytes<I>(list: &I) -> Option<usize> {
    macro_rules! any_of {
        ($($t:ty),*) => {$(
            if let Some(numbers) = as_slice::<I, $t>(list) {
                return Some(size_of_val(numbers));
            }
        )*};
    }
    any_of!(u8, f64, f32, i64, u64, i32, u32, bool, u16, i16, i8, u128, i128, usize, isize);
    None
}

/// The length and the bytes of a value that is nothing but a text or a list of numbers, as they are written.
pub(super) fn flat<T: 'static>(value: &T) -> Option<(usize, &[u8])> {
    let value: &dyn Any = value;
    if let Some(text) = value.downcast_ref::<String>() {
        return Some((text.len(), text.as_bytes()));
    }
    if cfg!(target_endian = "big") {
        return None;
    }
    macro_rules! list_of {
        ($($t:ty),*) => {$(
            let list = None
                .or_else(|| value.downcast_ref::<Vec<$t>>().map(|list| &list[..]))
                .or_else(|| value.downcast_ref::<Box<[$t]>>().map(|list| &list[..]))
                .or_else(|| value.downcast_ref::<Arc<[$t]>>().map(|list| &list[..]));
            if let Some(list) = list {
                return Some((list.len(), bytes_of(list)));
            }
        )*};
    }
    list_of!(u8, f64, f32, i64, u64, i32, u32, bool, u16, i16, i8, u128, i128, usize, isize);
    None
}

fn bytes_of<T: Number>(numbers: &[T]) -> &[u8] {
    // SAFETY: a number has no padding, so all its bytes are initialised; and they are as long as `numbers` borrowed.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast::<u8>(), size_of_val(numbers)) }
}

/// Hands on the bytes of numbers as they are written: the least significant first.
pub(super) fn put<T: Number, E>(numbers: &[T], mut put: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let bytes = bytes_of(numbers);
    if cfg!(target_endian = "little") || size_of::<T>() == 1 {
        return put(bytes);
    }
    bytes.chunks_exact(size_of::<T>()).try_for_each(|number| {
        let mut reversed = [0; 16];
        let reversed = &mut reversed[..number.len()];
        reversed.copy_from_slice(number);
        reversed.reverse();
        put(reversed)
    })
}

/// The numbers that some bytes are; `None` where they are none. Their length is a multiple of a number's.
fn get<T: Number>(bytes: &[u8]) -> Option<Vec<T>> {
    if !T::valid(bytes) {
        return None;
    }
    let len = bytes.len() / size_of::<T>();
    let mut numbers = Vec::<T>::with_capacity(len);
    // SAFETY: there is room for `len` numbers, which are as many bytes as are written; the allocation is new, so that
    // the two do not overlap.
    unsafe {
        let to = numbers.as_mut_ptr().cast::<MaybeUninit<u8>>();
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), to, len * size_of::<T>());
        if cfg!(target_endian = "big") && size_of::<T>() > 1 {
            let to = std::slice::from_raw_parts_mut(to, len * size_of::<T>());
            to.chunks_exact_mut(size_of::<T>()).for_each(<[_]>::reverse);
        }
        // SAFETY: all of them have been written, and `valid` says that they are numbers.
        numbers.set_len(len);
    }
    Some(numbers)
}

/// Learns which visitor makes a `Vec<T>`.
struct Probe;

/// What the probe has to say.
#[derive(Debug)]
struct Found(TypeId);

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the visitor of a list")
    }
}

impl std::error::Error for Found {}

impl de::Error for Found {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Found(TypeId::of::<Infallible>())
    }
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Found;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Found> {
        Err(Found(TypeId::of::<Infallible>()))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Found> {
        Err(Found(typeid::of::<V>()))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Whether the visitor is the one of `Vec<T>`.
fn makes_vec<T: Number + for<'de> Deserialize<'de>>(visitor: TypeId) -> bool {
    matches!(Vec::<T>::deserialize(Probe), Err(Found(of)) if of == visitor)
}

/// Reads a list of numbers for the visitor that makes a `Vec` of them.
///
/// `bytes` gives the bytes of the list where its elements have that many; `None`: the visitor makes something else.
pub(super) fn read<'de, 'a, V: Visitor<'de>, E>(
    bytes: impl FnOnce(usize) -> Result<&'a [u8], E>,
    invalid: impl FnOnce() -> E,
) -> Option<Result<V::Value, E>> {
    let visitor = typeid::of::<V>();
    let value = typeid::of::<V::Value>();
    macro_rules! vec_of {
        ($($t:ty),*) => {$(
            if value == TypeId::of::<Vec<$t>>() {
                if !makes_vec::<$t>(visitor) {
                    return None;
                }
                let numbers = match bytes(size_of::<$t>()) {
                    Ok(bytes) => get::<$t>(bytes),
                    Err(e) => return Some(Err(e)),
                };
                let mut numbers = numbers.map(MaybeUninit::new);
                return Some(match &mut numbers {
                    // SAFETY: `V::Value` is `Vec<T>`, as its type id says, which is moved out here, once.
                    Some(numbers) => Ok(unsafe { numbers.as_ptr().cast::<V::Value>().read() }),
                    None => Err(invalid()),
                });
            }
        )*};
    }
    vec_of!(u8, f64, f32, i64, u64, i32, u32, bool, u16, i16, i8, u128, i128, usize, isize);
    None
}

/// Makes a list of `len` units for the visitor that makes a `Vec` of them. `None`: the visitor makes something else.
pub(super) fn read_units<'de, V: Visitor<'de>>(len: usize) -> Option<V::Value> {
    if typeid::of::<V::Value>() != TypeId::of::<Vec<()>>() || !makes_vec::<()>(typeid::of::<V>()) {
        return None;
    }
    let units = MaybeUninit::new(vec![(); len]);
    // SAFETY: `V::Value` is `Vec<()>`, as its type id says, which is moved out here, once.
    Some(unsafe { units.as_ptr().cast::<V::Value>().read() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_visitor_of_a_list_of_numbers_is_known() {
        // If serde makes its lists in another way one day, they are still read, but slowly: then this fails.
        assert!(matches!(Vec::<f64>::deserialize(Probe), Err(Found(of)) if of != TypeId::of::<Infallible>()));
        assert!(as_slice::<_, f64>(&&vec![1.0_f64]).is_some() && as_slice::<_, f64>(&&[1.0_f64][..]).is_some());
        assert!(as_slice::<_, f64>(&&vec![1_u64]).is_none());
    }
}
