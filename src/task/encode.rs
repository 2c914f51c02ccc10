//! A value as a payload: its bytes, and its large buffers in shared segments.

use crate::bytes::Bytes;
use crate::ipc::out_of_band::{Copies, encode_with, write_large};
use crate::ipc::payload::Payload;
use crate::ipc::segment::{SegmentError, SegmentPool};
use crate::ipc::sink::{ByteSink, Written};
use crate::task::Value;
use crate::task::call::guarded_serde;
use crate::task::codec::Codec;
use crate::task::function::CallError;
use std::cell::Cell;

/// Longest encoded value that rides in a frame. A longer one lies in a shared segment.
pub(crate) const IN_FRAME: usize = 64 << 10;

/// Longest encoding for which a thread keeps room, so that the next one is written to memory that is there.
const KEPT: usize = 4 << 20;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes a value with its large buffers in segments of `pool`.
///
/// A long text or list of numbers is copied once, into a segment; what has a structure is written to memory of this thread,
/// and from some MiB on to a segment.
///
/// Refused is also a value whose own code panics.
pub(crate) fn encode(pool: Option<&SegmentPool>, value: &Value, codec: &Codec) -> Result<Payload, EncodeError> {
    encode_sharing(pool, value, codec, &mut Copies::default())
}

/// The same. Buffers of the heap of which there are `copies` are not copied again.
pub(crate) fn encode_sharing(
    pool: Option<&SegmentPool>,
    value: &Value,
    codec: &Codec,
    copies: &mut Copies,
) -> Result<Payload, EncodeError> {
    if let Some(pool) = pool
        && let Some(flat) = codec.flat(value).filter(|flat| flat.len() > IN_FRAME)
    {
        let mut segment = pool.alloc(flat.len()).map_err(EncodeError::NoRoom)?;
        flat.write(&mut segment);
        return Ok(Payload::new(Bytes::default(), vec![segment.freeze()], Some(flat.len() as u64)));
    }
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let payload = guarded_serde("Serialize", || match pool {
        Some(pool) => encode_by(pool, value, codec, copies, &mut scratch),
        None => encode_inline(value, codec, &mut scratch),
    });
    // Without a pool it may have become long.
    if scratch.capacity() <= KEPT {
        SCRATCH.set(scratch);
    }
    payload.map_err(EncodeError::Refused)?
}

fn encode_inline(value: &Value, codec: &Codec, scratch: &mut Vec<u8>) -> Result<Payload, EncodeError> {
    let (encoded, _) = encode_with(None, &mut Copies::default(), || codec.encode(value, scratch, usize::MAX))
        .map_err(EncodeError::NoRoom)?;
    encoded.map_err(|refused| EncodeError::Refused(refused.to_string()))?;
    Ok(Payload::new(&scratch[..], Vec::new(), None))
}

fn encode_by(
    pool: &SegmentPool,
    value: &Value,
    codec: &Codec,
    copies: &mut Copies,
    scratch: &mut Vec<u8>,
) -> Result<Payload, EncodeError> {
    let guess = || codec.measure(value).encoded;
    let mut sink = ByteSink::to_segment(scratch, pool, &guess);
    let (encoded, mut segments) =
        encode_with(Some(pool), copies, || codec.encode_to(value, &mut sink)).map_err(EncodeError::NoRoom)?;
    // A sink that found no room says so itself.
    let written = sink.finish().map_err(EncodeError::NoRoom)?;
    encoded.map_err(|refused| EncodeError::Refused(refused.to_string()))?;
    match written {
        Written::Segment(segment, len) => {
            segments.push(segment);
            Ok(Payload::new(Bytes::default(), segments, Some(len as u64)))
        }
        Written::InMemory if scratch.len() > IN_FRAME => {
            segments.push(write_large(pool, scratch).map_err(EncodeError::NoRoom)?);
            Ok(Payload::new(Bytes::default(), segments, Some(scratch.len() as u64)))
        }
        Written::InMemory => Ok(Payload::new(&scratch[..], segments, None)),
    }
}

/// The value as another process would have it: encoded, and decoded again.
pub(crate) fn across(value: &Value, codec: &Codec) -> Result<Value, CallError> {
    let type_name = || codec.name().to_string();
    let mut bytes = Vec::new();
    let encoded = guarded_serde("Serialize", || codec.encode(value, &mut bytes, usize::MAX));
    let encoded = encoded.and_then(|encoded| encoded.map_err(|refused| refused.to_string()));
    encoded.map_err(|reason| CallError::Encode { type_name: type_name(), reason })?;
    let decoded = guarded_serde("Deserialize", || codec.decode(&bytes)).and_then(|decoded| decoded);
    decoded.map_err(|reason| CallError::Decode { type_name: type_name(), reason })
}

/// Why a value cannot be encoded.
#[derive(Debug)]
pub(crate) enum EncodeError {
    Refused(String),
    NoRoom(SegmentError),
}
