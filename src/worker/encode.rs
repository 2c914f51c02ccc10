//! What leaves a worker: encoded results, failures, log lines.

use crate::ipc::frame::MAX_FDS;
use crate::ipc::page::ControlPage;
use crate::ipc::payload::{Payload, SMALL};
use crate::ipc::segment::{SegmentError, SegmentPool};
use crate::job::{Completion, FailureCause, Outcome};
use crate::message::Completions;
use crate::task::Value;
use crate::task::call::{Fault, guarded};
use crate::task::context::current_task;
use crate::task::encode::EncodeError;
use crate::task::function::{CallError, Record};
use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;

/// Most bytes of results in one message.
const MESSAGE: usize = 1 << 20;

/// Why a value is not on its way.
pub(super) enum Unsent {
    /// It cannot be sent.
    Never(FailureCause),
    /// There is no room for it in shared memory now.
    Crowded(SegmentError),
}

impl From<Unsent> for FailureCause {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Never(cause) => cause,
            Unsent::Crowded(e) => Self::Resource { reason: e.to_string() },
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

pub(super) fn encode(pool: &SegmentPool, value: &Value, record: &Record) -> Result<Payload, Unsent> {
    let codec = record.result();
    // The value's own code may panic, and a thread that only reads must survive that.
    let encoded = guarded(|| Ok(crate::task::encode::encode(Some(pool), value, codec)));
    encoded.map_err(|fault| Unsent::Never(cause(fault)))?.map_err(|e| match e {
        EncodeError::Refused(reason) => {
            Unsent::Never(FailureCause::Encode { type_name: codec.name().to_string(), reason })
        }
        EncodeError::NoRoom(SegmentError::Budget(e)) if e.wanted > e.limit => {
            Unsent::Never(FailureCause::Resource { reason: e.to_string() })
        }
        EncodeError::NoRoom(e) => Unsent::Crowded(e),
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

/// Puts results into messages of which none is too large or carries too many descriptors.
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

/// Log lines of tasks go to standard error with the worker's and the task's name, and to the control page.
pub(super) fn install_logger(name: &str, page: &Arc<ControlPage>) {
    let (name, page) = (name.to_string(), Arc::clone(page));
    let built = env_logger::Builder::from_default_env()
        .format(move |out, record| {
            let task = current_task().map(|t| format!(" {}", t.key)).unwrap_or_default();
            let line = format!("[{name}{task}] {} {}: {}\n", record.level(), record.target(), record.args());
            page.log(line.as_bytes());
            out.write_all(line.as_bytes())
        })
        .try_init();
    if let Err(e) = built {
        log::debug!("another logger is there: {e}");
    }
}
