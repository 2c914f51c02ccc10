//! Locks, queues and so on in the modes of this process.

use crate::coordinator::{Caller, Coordinator, Request, Scope, Told};
use crate::error::{Error, Result};
use crate::ids::SessionId;
use crate::submission::calls::{Given, OpenCalls};
use crate::submission::handle::LocalValue;
use crate::task::Value;
use crate::task::encode::across;
use crate::task::function::CallError;
use crate::units::Shown;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The scope of all names.
const SCOPE: Scope = Scope::Program(SessionId::CLIENT);

#[derive(Default)]
pub(super) struct LocalCoordination {
    state: Mutex<Coordinator<Value>>,
    pub(super) calls: OpenCalls,
    /// Whether the threads that call are all that run.
    by_thread: bool,
    /// Whether values are encoded and decoded again, as between processes.
    encodes: bool,
}

impl LocalCoordination {
    pub(super) fn new(by_thread: bool, encodes: bool) -> Self {
        Self { by_thread, encodes, ..Self::default() }
    }

    /// Takes a request, and tells those who go on.
    pub(super) fn request(&self, request: Request<Given>) -> Result<()> {
        let target = request.names().map(|(target, _)| (target.kind.name(), target.name.clone()));
        let encodes = self.encodes;
        let mut request = request.try_map(|given| match given {
            Given::New(value, codec) if encodes => across(&value, codec).map_err(|e| {
                let (kind, name) = target.unwrap_or_default();
                call_error(format!("the {kind} `{}`", Shown(&name)), codec.name(), e)
            }),
            Given::New(value, _) | Given::Back(LocalValue::Value(value)) => Ok(value),
            // There are none in this process.
            Given::Back(LocalValue::Payload(_)) => Err(Error::Closed { reason: "another client's value".to_string() }),
        })?;
        if self.by_thread
            && let Request::Call { call, .. } = &mut request
        {
            call.by.thread = Some(thread_number());
        }
        let by = request.names().map(|(_, by)| *by).unwrap_or_default();
        let caller = Caller { session: SessionId::CLIENT, by };
        let mut told = Told::default();
        self.state.lock().request(caller, SCOPE, request, &mut told);
        self.tell(told);
        Ok(())
    }

    /// A run of a task has ended that has left something.
    pub(super) fn run_ended(&self, run: u64) {
        // Nothing of it can be refused.
        let _ = self.request(Request::RunEnded { run });
    }

    /// Nobody waits any more.
    pub(super) fn close(&self, reason: &str) {
        self.calls.close(&Error::Closed { reason: reason.to_string() });
        let state = std::mem::take(&mut *self.state.lock());
        // Values of the user's go here.
        drop(state);
    }

    /// Users' wakers and drops run here, under no lock.
    fn tell(&self, told: Told<Value>) {
        for (_, ticket, answer) in told.answers {
            self.calls.answer(ticket, answer.map(LocalValue::Value));
        }
        drop(told.unused);
    }
}

fn call_error(key: String, type_name: &str, error: CallError) -> Error {
    match error {
        CallError::Encode { type_name, reason } => Error::Encode { key, type_name, reason },
        e => Error::Encode {
            key,
            type_name: type_name.to_string(),
            reason: crate::task::call::Fault::Call(e).to_string(),
        },
    }
}

/// A number that no other thread of this process has.
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // A thread at its end is one that never calls again.
    NUMBER.try_with(|number| *number).unwrap_or(u64::MAX)
}
