//! An input that several tasks of one process read: decoded once, for all of them.

use super::size::size_of_value;
use super::{Data, Value, codec};
use crate::ids::TaskId;
use crate::ipc::out_of_band::decode_with;
use crate::ipc::payload::Payload;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for a thread that decodes the same value. It runs the user's code, which might wait for the thread that
/// waits for it; that one decodes a value of its own then.
const PATIENCE: Duration = Duration::from_secs(60);

/// A value that was sent to this process once, and is kept encoded until it is to be dropped. Once it has been read it is
/// also kept decoded, as long as there is memory.
pub(crate) struct SharedInput {
    id: TaskId,
    payload: Payload,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    decoded: Option<Decoded>,
    /// Whether it has been decoded before, for a task that kept what it got.
    taken: bool,
}

struct Decoded {
    value: Value,
    /// What it takes in memory.
    bytes: u64,
}

impl SharedInput {
    pub(crate) fn new(id: TaskId, payload: Payload) -> Self {
        Self { id, payload, state: Mutex::default() }
    }

    /// The task whose result it is.
    /// Bytes of the value as it was sent.
    pub(crate) fn nbytes(&self) -> u64 {
        self.payload.nbytes()
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    /// The value, for reading. For the first task here, if it is the `sole` one that wants it, nothing is kept: the task
    /// may own what it gets without a clone, and the memory is free again after it.
    pub(crate) fn share<T: Data>(&self, sole: bool) -> Result<Arc<T>, String> {
        let Some(mut state) = self.state.try_lock_for(PATIENCE) else { return self.decode().map(Arc::new) };
        if let Some(decoded) = &state.decoded
            && let Some(value) = decoded.value.typed()
        {
            return Ok(value);
        }
        if sole && !std::mem::replace(&mut state.taken, true) {
            drop(state);
            return self.decode().map(Arc::new);
        }
        let value = Arc::new(self.decode::<T>()?);
        let bytes = size_of_value(&*value);
        state.decoded = Some(Decoded { value: Arc::clone(&value).into(), bytes });
        Ok(value)
    }

    /// A value of one's own.
    pub(crate) fn take<T: Data>(&self, sole: bool) -> Result<T, String> {
        self.share(sole).map(Arc::unwrap_or_clone)
    }

    fn decode<T: Data>(&self) -> Result<T, String> {
        decode_with(self.payload.segments(), || codec::decode(self.payload.content()))
    }

    /// Bytes that the decoded value takes; 0 while there is none.
    pub(crate) fn decoded_bytes(&self) -> u64 {
        self.state.lock().decoded.as_ref().map_or(0, |decoded| decoded.bytes)
    }

    /// Gives up the decoded value, unless a task reads it.
    pub(crate) fn evict(&self) -> Option<Value> {
        let mut state = self.state.try_lock()?;
        let unused = state.decoded.as_ref().is_some_and(|decoded| decoded.value.handles() == 1);
        if unused { state.decoded.take().map(|decoded| decoded.value) } else { None }
    }
}

impl fmt::Debug for SharedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedInput({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{JobId, SessionId};
    use serde::{Deserialize, Serialize};
    use std::sync::atomic::{AtomicU32, Ordering};

    static DECODED: AtomicU32 = AtomicU32::new(0);

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(from = "u64")]
    struct Counted(u64);

    impl From<u64> for Counted {
        fn from(n: u64) -> Self {
            DECODED.fetch_add(1, Ordering::Relaxed);
            Self(n)
        }
    }

    #[test]
    fn it_is_decoded_for_the_first_and_kept_while_it_may_be() {
        let id = TaskId { job: JobId { session: SessionId(0), number: 0 }, index: 0 };
        let mut bytes = Vec::new();
        codec::encode(&Counted(7), &mut bytes, 100).expect("encodes");
        let input = SharedInput::new(id, Payload::inline(&bytes));
        let times = || DECODED.load(Ordering::Relaxed);
        assert_eq!(input.take::<Counted>(true), Ok(Counted(7)));
        assert_eq!((times(), input.decoded_bytes()), (1, 0), "nobody else was known to want it");
        assert_eq!(input.take::<Counted>(true), Ok(Counted(7)));
        let held = input.share::<Counted>(true).expect("decodes");
        assert_eq!(input.take::<Counted>(false), Ok(Counted(7)));
        assert_eq!((times(), input.decoded_bytes()), (2, 8));
        assert!(input.evict().is_none(), "it is in use");
        drop(held);
        assert!(input.evict().is_some());
        assert_eq!(input.decoded_bytes(), 0);
        assert_eq!(input.take::<Counted>(true), Ok(Counted(7)));
        assert_eq!((times(), input.decoded_bytes()), (3, 8));
        assert!(input.share::<u32>(false).is_err(), "its bytes are too many");
        assert_eq!(input.take::<u64>(false), Ok(7), "another type is decoded anew");
    }
}
