//! From values to bytes: the serialiser of the format that [`super`] describes.

use super::Refused;
use super::run::{self, Number};
use crate::ipc::sink::{ByteSink, Full};
use crate::task::depth;
use serde::ser::{self, Serialize};
use std::fmt::Display;

/// Where encoded bytes go.
pub(super) trait Output {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Refused>;
}

impl Output for ByteSink<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        ByteSink::put(self, bytes).map_err(|full| match full {
            Full::TooLong => Refused::TooLong,
            Full::NoRoom => Refused::Failed("there is no room for it in shared memory".to_string()),
        })
    }
}

/// A file or something like it.
pub(super) struct Stream<W>(pub(super) W);

impl<W: std::io::Write> Output for Stream<W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.0.write_all(bytes).map_err(|e| Refused::Failed(e.to_string()))
    }
}

impl ser::Error for Refused {
    fn custom<T: Display>(reason: T) -> Self {
        Refused::Failed(reason.to_string())
    }
}

impl Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::TooLong => f.write_str("it is too long"),
            Refused::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Refused {}

/// Writes one value. Lists, tuples and maps are written by it, too: they are what they contain, one after the other.
pub(super) struct Encoder<'a, O> {
    out: &'a mut O,
    /// How deep the value is nested.
    depth: u32,
}

impl<'a, O> Encoder<'a, O> {
    pub(super) fn new(out: &'a mut O) -> Self {
        Self { out, depth: 0 }
    }

    /// What is in a value that may contain values of its own type.
    #[inline]
    fn inner(mut self) -> Result<Self, Refused> {
        self.depth += 1;
        if depth::fits(self.depth) { Ok(self) } else { Err(Refused::Failed(depth::too_deep(self.depth))) }
    }

    /// One of the parts of the value.
    #[inline]
    fn part(&mut self) -> Encoder<'_, O> {
        Encoder { out: &mut *self.out, depth: self.depth }
    }
}

impl<O: Output> Encoder<'_, O> {
    fn length(&mut self, n: usize) -> Result<(), Refused> {
        self.varint(n as u64)
    }

    fn varint(&mut self, n: u64) -> Result<(), Refused> {
        let (bytes, len) = varint(n);
        self.out.put(&bytes[..len])
    }

    fn known(len: Option<usize>) -> Result<usize, Refused> {
        let why = "a list or map of which it is not known beforehand how long it is: `#[serde(flatten)]` makes one, and so \
                   does an iterator that is filtered; remove the attribute, collect the iterator, or wrap the value in \
                   `swath::bag::Json`";
        len.ok_or_else(|| Refused::Failed(why.to_string()))
    }

    /// A list of numbers that lie one after the other in memory.
    fn numbers<T: Number>(&mut self, numbers: &[T]) -> Result<(), Refused> {
        self.length(numbers.len())?;
        run::put(numbers, |bytes| self.out.put(bytes))
    }
}

/// Seven bits a byte, the lowest first (LEB128): the bytes, and how many there are.
#[inline]
pub(super) fn varint(mut n: u64) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    let mut len = 0;
    while n >= 0x80 {
        bytes[len] = n as u8 | 0x80;
        len += 1;
        n >>= 7;
    }
    bytes[len] = n as u8;
    (bytes, len + 1)
}

macro_rules! numbers {
    ($($name:ident: $t:ty),*) => {$(
        #[inline]
        fn $name(self, number: $t) -> Result<(), Refused> {
            self.out.put(&number.to_le_bytes())
        }
    )*};
}

impl<O: Output> ser::Serializer for Encoder<'_, O> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64
    );

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Refused> {
        self.out.put(&[u8::from(value)])
    }

    fn serialize_char(self, value: char) -> Result<(), Refused> {
        self.serialize_u32(value.into())
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), Refused> {
        self.serialize_bytes(text.as_bytes())
    }

    #[inline]
    fn serialize_bytes(mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.length(bytes.len())?;
        self.out.put(bytes)
    }

    fn serialize_none(self) -> Result<(), Refused> {
        self.out.put(&[0])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        self.out.put(&[1])?;
        value.serialize(self.inner()?)
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_unit_variant(mut self, _: &'static str, variant: u32, _: &'static str) -> Result<(), Refused> {
        self.varint(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.varint(variant.into())?;
        value.serialize(self.inner()?)
    }

    fn serialize_seq(mut self, len: Option<usize>) -> Result<Self, Refused> {
        self.length(Self::known(len)?)?;
        self.inner()
    }

    /// What `Vec`, slices and the like are written by.
    fn collect_seq<I>(mut self, items: I) -> Result<(), Refused>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        macro_rules! as_numbers {
            ($($t:ty),*) => {$(
                if let Some(numbers) = run::as_slice::<I, $t>(&items) {
                    return self.numbers(numbers);
                }
            )*};
        }
        if let Some(len) = run::units::<I>(&items) {
            return self.length(len);
        }
        as_numbers!(u8, f64, f32, i64, u64, i32, u32, bool, u16, i16, i8, u128, i128, usize, isize);
        let items = items.into_iter();
        let len = match items.size_hint() {
            (low, Some(high)) if low == high => Some(low),
            _ => None,
        };
        self.length(Self::known(len)?)?;
        let mut left = len.unwrap_or(0);
        let mut this = self.inner()?;
        for item in items {
            left =
                left.checked_sub(1).ok_or_else(|| Refused::Failed("a list has more elements than it says".into()))?;
            item.serialize(this.part())?;
        }
        match left {
            0 => Ok(()),
            _ => Err(Refused::Failed("a list has fewer elements than it says".into())),
        }
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        self.varint(variant.into())?;
        self.inner()
    }

    fn serialize_map(mut self, len: Option<usize>) -> Result<Self, Refused> {
        self.length(Self::known(len)?)?;
        self.inner()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        self.varint(variant.into())?;
        self.inner()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! parts {
    ($($trait:ident $method:ident ($($name:ty)?)),*) => {$(
        impl<O: Output> ser::$trait for Encoder<'_, O> {
            type Ok = ();
            type Error = Refused;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> Result<(), Refused> {
                value.serialize(self.part())
            }

            fn end(self) -> Result<(), Refused> {
                Ok(())
            }
        }
    )*};
}
parts!(
    SerializeSeq serialize_element (), SerializeTuple serialize_element (), SerializeTupleStruct serialize_field (),
    SerializeTupleVariant serialize_field (), SerializeStruct serialize_field (&'static str),
    SerializeStructVariant serialize_field (&'static str)
);

impl<O: Output> ser::SerializeMap for Encoder<'_, O> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        key.serialize(self.part())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        value.serialize(self.part())
    }

    fn end(self) -> Result<(), Refused> {
        Ok(())
    }
}
