//! How a value of a type becomes bytes and comes back.

use super::{Data, Value};
use crate::task::size::size_of_value;
use bincode::config::{Configuration, standard};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use std::any::Any;
use std::sync::Arc;

fn config() -> Configuration {
    standard()
}

/// Collects encoded bytes, up to a limit.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    end: usize,
}

impl Writer for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if self.out.len() + bytes.len() > self.end {
            return Err(EncodeError::UnexpectedEnd);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// What a codec says when it cannot encode.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refused {
    /// More bytes than the caller allowed.
    TooLong,
    /// The type's own `Serialize` refused, or a buffer found no room.
    Failed(String),
}

/// The table of functions for one type.
pub struct Codec {
    pub(crate) type_name: fn() -> &'static str,
    encode: fn(&(dyn Any + Send + Sync), &mut Vec<u8>, usize) -> Result<(), Refused>,
    decode: fn(&[u8]) -> Result<Value, String>,
    size: fn(&(dyn Any + Send + Sync)) -> u64,
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
        encode: |value, out, limit| match value.downcast_ref::<T>() {
            Some(value) => encode(value, out, limit),
            None => Err(Refused::Failed(format!("the value is not a `{}`", std::any::type_name::<T>()))),
        },
        decode: |bytes| decode::<T>(bytes).map(|v| Arc::new(v) as Value),
        size: |value| value.downcast_ref::<T>().map_or(0, size_of_value),
    };
}

impl Codec {
    /// Appends the encoded value to `out`; at most `limit` bytes. On refusal `out` is as it was.
    pub(crate) fn encode(&self, value: &Value, out: &mut Vec<u8>, limit: usize) -> Result<(), Refused> {
        (self.encode)(&**value, out, limit)
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Value, String> {
        (self.decode)(bytes)
    }

    /// About how many bytes of memory the value takes, see [`size_of_value`].
    pub(crate) fn size(&self, value: &Value) -> u64 {
        (self.size)(&**value)
    }

    pub(crate) fn name(&self) -> &'static str {
        (self.type_name)()
    }
}

/// Appends an encoded value to `out`; at most `limit` bytes. On refusal `out` is as it was.
pub(crate) fn encode<T: Data>(value: &T, out: &mut Vec<u8>, limit: usize) -> Result<(), Refused> {
    let start = out.len();
    let end = start.saturating_add(limit);
    bincode::serde::encode_into_writer(value, Sink { out, end }, config()).map_err(|e| {
        out.truncate(start);
        match e {
            EncodeError::UnexpectedEnd => Refused::TooLong,
            e => Refused::Failed(e.to_string()),
        }
    })
}

/// Writes an encoded value, all of it in one place whatever buffers it has.
pub(crate) fn encode_to<T: Data>(value: &T, out: &mut impl std::io::Write) -> Result<(), String> {
    bincode::serde::encode_into_std_write(value, out, config()).map(drop).map_err(|e| e.to_string())
}

/// Reads a value that fills `bytes` exactly.
pub(crate) fn decode<T: Data>(bytes: &[u8]) -> Result<T, String> {
    // The borrowing form checks a claimed length against the bytes that are there before it allocates.
    match bincode::serde::borrow_decode_from_slice::<T, _>(bytes, config()) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(format!("{} bytes are left over", bytes.len() - used)),
        Err(e) => Err(told(&e)),
    }
}

/// What has gone wrong, and what to do if it is the type.
fn told(error: &DecodeError) -> String {
    use bincode::serde::DecodeError::{AnyNotSupported, IdentifierNotSupported, IgnoredAnyNotSupported};
    match error {
        DecodeError::Serde(AnyNotSupported | IdentifierNotSupported | IgnoredAnyNotSupported) => {
            "the type can be read only where the data say what comes next, as JSON does and these bytes do not: \
             `serde_json::Value` (take `swath::Json`), untagged enums, flattened fields"
                .to_string()
        }
        e => e.to_string(),
    }
}

/// Reads one of several values that follow each other.
pub(crate) fn decode_next<T: Data>(bytes: &mut &[u8]) -> Result<T, String> {
    let (value, used) = bincode::serde::borrow_decode_from_slice::<T, _>(bytes, config()).map_err(|e| told(&e))?;
    *bytes = &bytes[used..];
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back() {
        let value: Value = Arc::new(vec![String::from("a"), String::from("b")]);
        let codec = CodecOf::<Vec<String>>::CODEC;
        let mut out = vec![7];
        codec.encode(&value, &mut out, 100).expect("encodes");
        let back = codec.decode(&out[1..]).expect("decodes");
        assert_eq!(super::super::unwrap_value::<Vec<String>>(back), Some(vec!["a".to_string(), "b".to_string()]));
    }

    #[test]
    fn too_long_leaves_the_output_as_it_was() {
        let mut out = vec![1, 2];
        assert_eq!(encode(&"0123456789".to_string(), &mut out, 5), Err(Refused::TooLong));
        assert_eq!(out, [1, 2]);
    }

    #[test]
    fn types_that_ask_the_data_are_told_what_to_do() {
        let mut bytes = Vec::new();
        encode(&serde_json::json!([1]), &mut bytes, 100).expect("encodes");
        let error = decode::<serde_json::Value>(&bytes).expect_err("not to be read");
        assert!(error.contains("take `swath::Json`"), "{error}");
    }

    #[test]
    fn rubbish_is_refused() {
        assert!(decode::<Vec<String>>(&[200, 1, 2]).is_err());
        assert!(decode::<u8>(&[1, 2]).is_err(), "bytes left over");
        assert!(decode::<Vec<u64>>(&[253, 255, 255, 255, 255, 255, 255, 255, 255]).is_err());
    }
}
