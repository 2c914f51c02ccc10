//! A value as a payload: its bytes, and its large buffers in shared segments.

use crate::bytes::Bytes;
use crate::ipc::payload::Payload;
use crate::ipc::segment::{SegmentError, SegmentPool};
use crate::task::Value;
use crate::task::codec::{Codec, Refused};

/// Longest encoded value that rides in a frame. A longer one lies in a shared segment.
pub(crate) const IN_FRAME: usize = 64 << 10;

/// Encodes a value with its large buffers in segments of `pool`.
pub(crate) fn encode(pool: Option<&SegmentPool>, value: &Value, codec: &Codec) -> Result<Payload, EncodeError> {
    let mut bytes = Vec::new();
    let (encoded, mut segments) =
        crate::ipc::out_of_band::encode_with(pool, || codec.encode(value, &mut bytes, usize::MAX))
            .map_err(EncodeError::NoRoom)?;
    encoded.map_err(|refused| match refused {
        Refused::TooLong => EncodeError::Refused("it is too long".to_string()),
        Refused::Failed(reason) => EncodeError::Refused(reason),
    })?;
    match pool {
        Some(pool) if bytes.len() > IN_FRAME => {
            segments.push(crate::ipc::out_of_band::write_large(pool, &bytes).map_err(EncodeError::NoRoom)?);
            Ok(Payload::new(Bytes::default(), segments, Some(bytes.len() as u64)))
        }
        _ => Ok(Payload::new(bytes, segments, None)),
    }
}

/// Why a value cannot be encoded.
#[derive(Debug)]
pub(crate) enum EncodeError {
    Refused(String),
    NoRoom(SegmentError),
}
