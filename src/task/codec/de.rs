//! From bytes to values: the deserialiser of the format that [`super`] describes.

use super::run;
use crate::task::depth;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use std::fmt::{self, Display};

/// What keeps bytes from being read as a value.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The bytes end inside of a value, or a length says more than they, or any list, can hold.
    End,
    /// It is nested deeper than the stack has room for.
    TooDeep(u32),
    /// The type asks the bytes what comes next.
    Asks,
    Invalid(&'static str),
    Custom(String),
}

impl Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::End => f.write_str("the bytes end inside of a value, or a list in it is too long"),
            Unreadable::Asks => f.write_str(
                "the type can be read only where the data say what comes next, as JSON does and these bytes do not: \
                 `serde_json::Value` (take `swath::bag::Json`), `#[serde(untagged)]`, `#[serde(tag)]`, `#[serde(flatten)]`; \
                 remove the attribute, or wrap the value in `swath::bag::Json`",
            ),
            Unreadable::TooDeep(depth) => f.write_str(&depth::too_deep(*depth)),
            Unreadable::Invalid(what) => f.write_str(what),
            Unreadable::Custom(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Unreadable {}

impl de::Error for Unreadable {
    #[cold]
    fn custom<T: Display>(reason: T) -> Self {
        Unreadable::Custom(reason.to_string())
    }
}

/// Most elements of a list that takes no bytes at all, as that of a `Vec<()>`: more would be counted for minutes.
const MOST_EMPTY: u64 = 1 << 32;

/// The bytes that have not been read.
pub(super) struct Decoder<'de> {
    bytes: &'de [u8],
    /// How deep the value is nested that is read.
    depth: u32,
}

impl<'de> Decoder<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { bytes, depth: 0 }
    }

    pub(super) fn left(self) -> &'de [u8] {
        self.bytes
    }

    /// Reads what is in a value that may contain values of its own type.
    #[inline]
    fn inner<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, Unreadable>) -> Result<R, Unreadable> {
        self.depth += 1;
        if !depth::fits(self.depth) {
            return Err(Unreadable::TooDeep(self.depth));
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    #[inline]
    fn take(&mut self, n: usize) -> Result<&'de [u8], Unreadable> {
        let (taken, left) = self.bytes.split_at_checked(n).ok_or(Unreadable::End)?;
        self.bytes = left;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, left) = self.bytes.split_first_chunk().ok_or(Unreadable::End)?;
        self.bytes = left;
        Ok(*taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Unreadable> {
        match self.bytes {
            [byte @ 0..0x80, left @ ..] => {
                self.bytes = left;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Unreadable> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(Unreadable::Invalid("a length is larger than any there is"))
    }

    fn length(&mut self) -> Result<usize, Unreadable> {
        let n = self.varint()?;
        if n > MOST_EMPTY.max(self.bytes.len() as u64) {
            return Err(Unreadable::End);
        }
        Ok(n as usize)
    }

    fn text(&mut self) -> Result<&'de str, Unreadable> {
        let n = self.length()?;
        std::str::from_utf8(self.take(n)?).map_err(|_| Unreadable::Invalid("a text is not UTF-8"))
    }

    fn bool(&mut self, invalid: &'static str) -> Result<bool, Unreadable> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Unreadable::Invalid(invalid)),
        }
    }

    /// The next so many values.
    fn several(&mut self, len: usize) -> Several<'_, 'de> {
        Several { from: self, left: len }
    }
}

macro_rules! numbers {
    ($($name:ident $visit:ident: $t:ty),*) => {$(
        #[inline]
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
            visitor.$visit(<$t>::from_le_bytes(self.array()?))
        }
    )*};
}

macro_rules! unknown {
    ($($name:ident),*) => {$(
        fn $name<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unreadable> {
            Err(Unreadable::Asks)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = Unreadable;

    numbers!(
        deserialize_i8 visit_i8: i8, deserialize_i16 visit_i16: i16, deserialize_i32 visit_i32: i32,
        deserialize_i64 visit_i64: i64, deserialize_i128 visit_i128: i128, deserialize_u8 visit_u8: u8,
        deserialize_u16 visit_u16: u16, deserialize_u32 visit_u32: u32, deserialize_u64 visit_u64: u64,
        deserialize_u128 visit_u128: u128, deserialize_f32 visit_f32: f32, deserialize_f64 visit_f64: f64
    );

    unknown!(deserialize_any, deserialize_identifier, deserialize_ignored_any);

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_bool(self.bool("a `bool` is neither 0 nor 1")?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let c = char::from_u32(u32::from_le_bytes(self.array()?));
        visitor.visit_char(c.ok_or(Unreadable::Invalid("a `char` is none of Unicode's"))?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let n = self.length()?;
        visitor.visit_borrowed_bytes(self.take(n)?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        match self.bool(
            "an `Option` is neither there nor not: a field is read that was not written, as with \
             `#[serde(skip_serializing_if)]`; remove that attribute, or wrap the value in `swath::bag::Json`",
        )? {
            true => self.inner(|this| visitor.visit_some(this)),
            false => visitor.visit_none(),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let len = self.length()?;
        if let Some(units) = run::read_units::<V>(len) {
            return Ok(units);
        }
        let bytes = |each: usize| self.take(len.checked_mul(each).ok_or(Unreadable::End)?);
        match run::read::<V, _>(bytes, || Unreadable::Invalid("a `bool` is neither 0 nor 1")) {
            Some(list) => list,
            None => self.inner(|this| visitor.visit_seq(this.several(len))),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_seq(self.several(len))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        visitor.visit_seq(self.several(len))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let len = self.length()?;
        self.inner(|this| visitor.visit_map(this.several(len)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        visitor.visit_seq(self.several(fields.len()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        visitor.visit_enum(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Values that follow each other.
struct Several<'a, 'de> {
    from: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> Several<'_, 'de> {
    /// No more than there are bytes, so that nobody makes room for what cannot come.
    fn hint(&self) -> Option<usize> {
        Some(self.left.min(self.from.bytes.len()))
    }
}

impl<'de> de::SeqAccess<'de> for Several<'_, 'de> {
    type Error = Unreadable;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Unreadable> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.from).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> de::MapAccess<'de> for Several<'_, 'de> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unreadable> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unreadable> {
        seed.deserialize(&mut *self.from)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> de::EnumAccess<'de> for &mut Decoder<'de> {
    type Error = Unreadable;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Unreadable> {
        let variant = u32::try_from(self.varint()?).map_err(|_| Unreadable::Invalid("an enum has no such variant"))?;
        let value = seed.deserialize(IntoDeserializer::<Unreadable>::into_deserializer(variant))?;
        Ok((value, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Decoder<'de> {
    type Error = Unreadable;

    fn unit_variant(self) -> Result<(), Unreadable> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Unreadable> {
        self.inner(|this| seed.deserialize(this))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Unreadable> {
        self.inner(|this| visitor.visit_seq(this.several(len)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.inner(|this| visitor.visit_seq(this.several(fields.len())))
    }
}
