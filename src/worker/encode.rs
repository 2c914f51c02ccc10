//! What leaves a worker: encoded results and failures.

use super::limits;
use crate::error::{Cause, ReturnedError};
use crate::ipc::batch::{Batch, MOST_BYTES};
use crate::ipc::payload::{Payload, SMALL};
use crate::ipc::segment::{SegmentError, SegmentPool};
use crate::job::{Completion, Outcome};
use crate::message::Completions;
use crate::task::Value;
use crate::task::call::{Fault, guarded_serde};
use crate::task::codec::Codec;
use crate::task::encode::{EncodeError, encode as task_encode};
use crate::task::function::CallError;
use std::cell::Cell;
use std::vec::Drain;

/// Why a value was not sent.
pub(super) enum NotSent {
    /// It cannot be sent.
    Never(Cause),
    /// Shared memory has no room for it now; later it may.
    NoRoomNow(SegmentError),
}

impl From<NotSent> for Cause {
    fn from(not_sent: NotSent) -> Self {
        match not_sent {
            NotSent::Never(cause) => cause,
            NotSent::NoRoomNow(e) => Self::Resource { reason: e.to_string() },
        }
    }
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A value that is small once it is encoded. An error: its own code panics.
pub(super) fn encode_small(value: &Value, codec: &Codec) -> Result<Option<Payload>, Cause> {
    let mut bytes = SCRATCH.take();
    bytes.clear();
    let encoded = own_code(codec, || codec.encode(value, &mut bytes, SMALL).is_ok())?;
    let small = encoded.then(|| Payload::inline(&bytes));
    SCRATCH.set(bytes);
    Ok(small)
}

/// Runs the own code of a value that is encoded, or walked for its size.
pub(super) fn own_code<R>(codec: &Codec, f: impl FnOnce() -> R) -> Result<R, Cause> {
    guarded_serde("Serialize", f).map_err(|reason| Cause::Encode { type_name: codec.name().to_string(), reason })
}

pub(super) fn encode(pool: &SegmentPool, value: &Value, codec: &Codec) -> Result<Payload, NotSent> {
    let encode = || task_encode(Some(pool), value, codec);
    let encoded = match encode() {
        Err(EncodeError::NoRoom(SegmentError::Descriptors | SegmentError::FileSize { .. })) if limits::restore() => {
            encode()
        }
        encoded => encoded,
    };
    encoded.map_err(|e| match e {
        EncodeError::Refused(reason) => NotSent::Never(Cause::Encode { type_name: codec.name().to_string(), reason }),
        EncodeError::NoRoom(SegmentError::Budget(e)) if e.wanted > e.limit => {
            NotSent::Never(Cause::Resource { reason: e.to_string() })
        }
        EncodeError::NoRoom(e @ SegmentError::FileSize { .. }) => {
            NotSent::Never(Cause::Resource { reason: e.to_string() })
        }
        EncodeError::NoRoom(e) => NotSent::NoRoomNow(e),
    })
}

/// The failure that a fault is, for another process.
pub(super) fn cause(fault: Fault) -> Cause {
    match fault {
        Fault::Panic { message, location, backtrace } => Cause::Panic { message, location, backtrace },
        Fault::Call(CallError::Encode { type_name, reason }) => Cause::Encode { type_name, reason },
        Fault::Call(CallError::Decode { type_name, reason }) => Cause::Decode { type_name, reason },
        Fault::Call(CallError::InputLost { reason }) => Cause::InputLost { reason },
        Fault::Call(CallError::WrongLength { expected, found }) => Cause::WrongLength { expected, found },
        Fault::Call(CallError::Returned(error)) => {
            let encoded = error.value.as_ref().and_then(|(value, codec)| {
                let mut bytes = Vec::new();
                // An error that cannot be encoded is still known by its text.
                codec.encode(value, &mut bytes, MOST_BYTES).ok().map(|()| bytes)
            });
            Cause::Returned(ReturnedError::encoded(*error, encoded))
        }
    }
}

/// Puts results into messages, none too large.
pub(super) fn batches(mut done: Drain<'_, Completion>) -> impl Iterator<Item = Completions> {
    let mut size = Batch::default();
    std::iter::from_fn(move || {
        let left = done.as_slice();
        size.clear();
        let fits = |one: &&Completion| {
            let (segments, bytes) = message_size(one);
            let fits = size.fits(segments, bytes);
            size.add(segments, bytes);
            fits
        };
        let n = left.iter().take_while(fits).count();
        let mut batch = Completions::with_room(n);
        done.by_ref().take(n).for_each(|one| batch.push(one));
        (n > 0).then_some(batch)
    })
}

/// Segments and bytes of a completion. One without a value takes next to nothing.
fn message_size(one: &Completion) -> (usize, usize) {
    match &one.outcome {
        Outcome::Value(payload) => (payload.segments().len(), payload.bytes.len()),
        Outcome::Parts(_) => {
            let sizes = one.outcome.payloads().map(|payload| (payload.segments().len(), payload.bytes.len()));
            sizes.fold((0, 0), |(segments, bytes), (more, longer)| (segments + more, bytes + longer))
        }
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ids::{JobId, SessionId, TaskId};

    #[test]
    fn long_results_go_in_several_messages_in_order() {
        let lengths = [1, MOST_BYTES, 0, MOST_BYTES - 1, 1, 1, 2 * MOST_BYTES, 3];
        let job = JobId { session: SessionId(0), number: 1 };
        let completion = |(index, length): (u32, &usize)| Completion {
            id: TaskId { job, index },
            attempt: 1,
            run_us: 0,
            outcome: Outcome::Value(Payload::inline(&vec![7; *length])),
        };
        let mut done: Vec<_> = (0..).zip(&lengths).map(completion).collect();
        let sent: Vec<Vec<u32>> =
            batches(done.drain(..)).map(|b| b.unpack().unwrap().into_iter().map(|c| c.id.index).collect()).collect();
        assert_eq!(sent, [vec![0], vec![1, 2], vec![3, 4], vec![5], vec![6], vec![7]]);
        assert!(batches(Vec::new().drain(..)).next().is_none());
    }
}
