//! A buffer on the wire: its bytes, or a place in a segment that comes with them.

use super::{Buffer, Element};
use crate::ipc::out_of_band::{self, LARGE};
use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;

/// What a buffer is on the wire.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Buffer")]
enum Wire<B> {
    Inline(B),
    Segment { index: u32, offset: u64, len: u64 },
}

impl<T: Element> Serialize for Buffer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_seq(self);
        }
        match out_of_band::counts(self.as_bytes(), self.is_on_disk()) {
            Some(true) => return serializer.serialize_bytes(self.as_bytes()),
            Some(false) => return serializer.serialize_unit(),
            None => {}
        }
        let large = self.as_bytes().len() >= LARGE;
        let bytes = || self.clone().cast().expect("everything is a whole number of bytes, and they lie anywhere");
        let wire = match large.then(|| out_of_band::add(bytes)).flatten() {
            Some(at) => Wire::Segment { index: at.index, offset: at.offset, len: self.len as u64 },
            None => Wire::Inline(Bytes(self.as_bytes())),
        };
        wire.serialize(serializer)
    }
}

impl<'de, T: Element> Deserialize<'de> for Buffer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Vec::deserialize(deserializer).map(Self::from);
        }
        match Wire::<Elements<T>>::deserialize(deserializer)? {
            Wire::Inline(Elements(values)) => Ok(values.into()),
            Wire::Segment { index, offset, len } => {
                let segment = out_of_band::segment(index)
                    .ok_or_else(|| D::Error::custom("a buffer lies in a segment that did not come with it"))?;
                Self::from_segment(segment, offset, len).map_err(D::Error::custom)
            }
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Elements<T>(Vec<T>);

impl<'de, T: Element> Deserialize<'de> for Elements<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor<T>(PhantomData<T>);
        impl<T: Element> Visitor<'_> for BytesVisitor<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "the bytes of a whole number of {}", type_name::<T>())
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<T>, E> {
                if !bytes.len().is_multiple_of(size_of::<T>()) {
                    return Err(E::invalid_length(bytes.len(), &self));
                }
                if !T::are_values(bytes) {
                    return Err(E::invalid_value(Unexpected::Bytes(&bytes[..bytes.len().min(8)]), &self));
                }
                let len = bytes.len() / size_of::<T>();
                let mut values = Vec::<T>::with_capacity(len);
                // SAFETY: there is room for `len` elements, which is as many bytes as are copied; the allocation is new,
                // so they don't overlap; and the bytes are values.
                unsafe {
                    ptr::copy_nonoverlapping(bytes.as_ptr(), values.as_mut_ptr().cast::<u8>(), bytes.len());
                    values.set_len(len);
                }
                Ok(values)
            }
        }
        deserializer.deserialize_bytes(BytesVisitor(PhantomData)).map(Self)
    }
}
