//! How a value of a type becomes bytes and comes back.
//!
//! # Format
//! What a value is made of, one after the other, as its `Serialize` names it; the bytes do not say what comes next. Numbers
//! have their own width, least significant byte first; a `bool` is 0 or 1, a `char` a `u32`. A text, bytes, a list or a map
//! begins with its length, a variant with its number, both in LEB128; an `Option` with 0 or 1. Tuples, structs and units
//! add nothing. Lists of numbers are copied as a whole ([`run`]).
//!
//! A value that is nested deeper than the thread's stack has room for is refused ([`depth`](super::depth)).
//!
//! The format is that of one build of a program: nothing is kept readable for another one.

mod de;
pub(crate) mod run;
mod ser;

use super::{Data, Value};
use crate::ipc::sink::ByteSink;
use crate::task::size::{Size, measure};
use de::Decoder;
use ser::{Encoder, Stream};

/// What a codec says when it cannot encode.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refused {
    /// More bytes than the caller allowed.
    TooLong,
    /// The type's own `Serialize` refused, or a buffer found no room.
    Failed(String),
}

/// Gives the length and the bytes of a value that is nothing but a text or a list of numbers.
type FlatParts = fn(&Value) -> Option<(usize, &[u8])>;

/// The table of functions for one type.
pub struct Codec {
    pub(crate) type_name: fn() -> &'static str,
    encode: fn(&Value, &mut ByteSink<'_>) -> Result<(), Refused>,
    decode: fn(&[u8]) -> Result<Value, String>,
    flat: FlatParts,
    measure: fn(&Value) -> Size,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codec({})", (self.type_name)())
    }
}

/// Carries the codec of `T` as a constant.
pub(crate) struct CodecOf<T>(std::marker::PhantomData<T>);

impl<T: Data> CodecOf<T> {
    pub(crate) const CODEC: &'static Codec = &Codec {
        type_name: std::any::type_name::<T>,
        encode: |value, sink| match value.get::<T>() {
            Some(value) => value.serialize(Encoder::new(sink)),
            None => Err(Refused::Failed(format!("the value is not a `{}`", std::any::type_name::<T>()))),
        },
        decode: |bytes| decode::<T>(bytes).map(Value::new),
        flat: |value| run::flat(value.get::<T>()?),
        measure: |value| value.get::<T>().map_or(Size { bytes: 0, encoded: 0 }, measure),
    };
}

impl Codec {
    /// Appends the encoded value to `out`; at most `limit` bytes. On refusal `out` is as it was.
    pub(crate) fn encode(&self, value: &Value, out: &mut Vec<u8>, limit: usize) -> Result<(), Refused> {
        into_memory(out, limit, |sink| (self.encode)(value, sink))
    }

    /// Writes the encoded value. On refusal the sink may have a part of it.
    pub(crate) fn encode_to(&self, value: &Value, sink: &mut ByteSink<'_>) -> Result<(), Refused> {
        (self.encode)(value, sink)
    }

    /// What is to be copied for a value that is nothing but a text or a list of numbers.
    pub(crate) fn flat<'a>(&self, value: &'a Value) -> Option<Flat<'a>> {
        let (len, bytes) = (self.flat)(value)?;
        Some(Flat { head: ser::varint(len as u64), bytes })
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Value, String> {
        (self.decode)(bytes)
    }

    /// About how many bytes of memory the value takes, see [`size_of_value`].
    pub(crate) fn size(&self, value: &Value) -> u64 {
        self.measure(value).bytes
    }

    /// The same, and how much of it is written one by one when it is sent.
    pub(crate) fn measure(&self, value: &Value) -> Size {
        (self.measure)(value)
    }

    pub(crate) fn name(&self) -> &'static str {
        (self.type_name)()
    }
}

/// A text or a list of numbers, encoded: its length, and the bytes that it has in memory.
pub(crate) struct Flat<'a> {
    head: ([u8; 10], usize),
    bytes: &'a [u8],
}

impl Flat<'_> {
    pub(crate) fn len(&self) -> usize {
        self.head.1 + self.bytes.len()
    }

    /// All but its length.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// All of it: its length, and the rest.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        [&self.head.0[..self.head.1], self.bytes]
    }

    /// Whether these bytes are it.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        let head = &self.head.0[..self.head.1];
        bytes.strip_prefix(head).is_some_and(|rest| rest == self.bytes)
    }

    /// Copies all of it, to as many bytes as it is long.
    pub(crate) fn write(&self, to: &mut [u8]) {
        let (head, bytes) = to.split_at_mut(self.head.1);
        head.copy_from_slice(&self.head.0[..self.head.1]);
        bytes.copy_from_slice(self.bytes);
    }
}

/// Appends an encoded value to `out`; at most `limit` bytes. On refusal `out` is as it was.
pub(crate) fn encode<T: Data>(value: &T, out: &mut Vec<u8>, limit: usize) -> Result<(), Refused> {
    into_memory(out, limit, |sink| value.serialize(Encoder::new(sink)))
}

fn into_memory(
    out: &mut Vec<u8>,
    limit: usize,
    encode: impl FnOnce(&mut ByteSink<'_>) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let mut sink = ByteSink::to_memory(out, limit);
    // Dropped on refusal, the sink leaves all as it was.
    encode(&mut sink)?;
    sink.finish().map(drop).map_err(|e| Refused::Failed(e.to_string()))
}

/// Writes an encoded value, all of it in one place whatever buffers it has.
pub(crate) fn encode_to<T: Data>(value: &T, out: &mut impl std::io::Write) -> Result<(), String> {
    value.serialize(Encoder::new(&mut Stream(out))).map_err(|e| e.to_string())
}

/// Reads a value that fills `bytes` exactly. Never allocates much more than `bytes` can fill.
pub(crate) fn decode<T: Data>(bytes: &[u8]) -> Result<T, String> {
    let mut left = bytes;
    let value = decode_next(&mut left)?;
    if left.is_empty() { Ok(value) } else { Err(format!("{} bytes are left over", left.len())) }
}

/// Reads one of several values that follow each other.
pub(crate) fn decode_next<T: Data>(bytes: &mut &[u8]) -> Result<T, String> {
    let mut decoder = Decoder::new(bytes);
    let value = T::deserialize(&mut decoder).map_err(|e| e.to_string())?;
    *bytes = decoder.left();
    Ok(value)
}

#[cfg(test)]
mod tests;
