//! What leaves a worker: encoded results and failures.

use crate::ipc::frame::MAX_FDS;
use crate::ipc::payload::{Payload, SMALL};
use crate::ipc::segment::{SegmentError, SegmentPool};
use crate::job::{Completion, FailureCause, Outcome};
use crate::message::Completions;
use crate::task::Value;
use crate::task::call::{Fault, guarded};
use crate::task::encode::{EncodeError, encode as task_encode};
use crate::task::function::{CallError, Record};
use std::cell::Cell;

/// Most bytes of results in one message.
const MESSAGE: usize = 1 << 20;

/// Why a value was not sent.
pub(super) enum NotSent {
    /// It cannot be sent.
    Never(FailureCause),
    /// Shared memory has no room for it now; later it may.
    NoRoomNow(SegmentError),
}

impl From<NotSent> for FailureCause {
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

/// A value that is small once it is encoded.
pub(super) fn encode_small(value: &Value, record: &Record) -> Option<Payload> {
    let mut bytes = SCRATCH.take();
    bytes.clear();
    let small = record.result().encode(value, &mut bytes, SMALL).is_ok().then(|| Payload::inline(&bytes));
    SCRATCH.set(bytes);
    small
}

pub(super) fn encode(pool: &SegmentPool, value: &Value, record: &Record) -> Result<Payload, NotSent> {
    let codec = record.result();
    // The value's own code may panic, and the thread that reads messages must survive that.
    let encoded = guarded(|| Ok(task_encode(Some(pool), value, codec)));
    encoded.map_err(|fault| NotSent::Never(cause(fault)))?.map_err(|e| match e {
        EncodeError::Refused(reason) => {
            NotSent::Never(FailureCause::Encode { type_name: codec.name().to_string(), reason })
        }
        EncodeError::NoRoom(SegmentError::Budget(e)) if e.wanted > e.limit => {
            NotSent::Never(FailureCause::Resource { reason: e.to_string() })
        }
        EncodeError::NoRoom(e) => NotSent::NoRoomNow(e),
    })
}

/// The failure that a fault is, for another process.
pub(super) fn cause(fault: Fault) -> FailureCause {
    match fault {
        Fault::Panic { message, location, backtrace } => FailureCause::Panic { message, location, backtrace },
        Fault::Call(CallError::Decode { type_name, reason }) => FailureCause::Decode { type_name, reason },
        Fault::Call(CallError::InputLost { reason }) => FailureCause::InputLost { reason },
        Fault::Call(CallError::Returned { message, error, codec }) => {
            let mut value = Vec::new();
            // An error that cannot be encoded is still known by its text.
            let _ = codec.encode(&error, &mut value, MESSAGE);
            FailureCause::Returned { message, type_name: codec.name().to_string(), value }
        }
    }
}

/// Puts results into messages, none too large or with too many descriptors.
pub(super) fn batches(done: impl Iterator<Item = Completion>) -> impl Iterator<Item = Completions> {
    let mut done = done.peekable();
    std::iter::from_fn(move || {
        done.peek()?;
        let mut batch = Completions::default();
        let (mut fds, mut bytes) = (0, 0);
        while let Some(one) = done.next_if(|one| match &one.outcome {
            Outcome::Value(payload) if !batch.is_empty() => {
                fds + payload.segments().len() <= MAX_FDS && bytes <= MESSAGE
            }
            _ => true,
        }) {
            if let Outcome::Value(payload) = &one.outcome {
                fds += payload.segments().len();
                bytes += payload.bytes.len();
            }
            batch.push(one);
        }
        Some(batch)
    })
}
