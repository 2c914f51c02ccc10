//! Runs one task function: catches panics, and lets the function know which task it is.

use super::Value;
use super::backtrace::TaskBacktrace;
use super::function::{Argument, CallError, Record};
use crate::host::report;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Why a call has no result.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Panic { message: String, location: String, backtrace: TaskBacktrace },
    Call(CallError),
}

/// In one line, where there is nobody to carry the parts to.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic { message, location, .. } => write!(f, "panicked at {location}: {message}"),
            Self::Call(CallError::Returned(returned)) => f.write_str(&returned.message()),
            Self::Call(
                CallError::Encode { reason, .. } | CallError::Decode { reason, .. } | CallError::InputLost { reason },
            ) => f.write_str(reason),
            Self::Call(CallError::WrongLength { expected, found }) => {
                write!(f, "a list of {found} items was to be unpacked into {expected}")
            }
        }
    }
}

impl From<CallError> for Fault {
    fn from(e: CallError) -> Self {
        Self::Call(e)
    }
}

thread_local! {
    /// How many calls are under way on this thread, one inside the other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// An address in the stack frame of the innermost one.
    static FRAME: Cell<usize> = const { Cell::new(0) };
    /// Whether the innermost one is no part of a task, though a task's thread makes it.
    static BESIDE: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic of such a call began.
    static LAST: RefCell<Option<(String, TaskBacktrace)>> = const { RefCell::new(None) };
}

/// Notes where a panic inside a task begins. The unwinding itself only carries the message.
fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                return before(info);
            }
            let location = info.location().map(ToString::to_string).unwrap_or_default();
            let trace = TaskBacktrace::capture(FRAME.get());
            let _ = LAST.try_with(|last| last.replace(Some((location, trace))));
        }));
    });
}

/// Calls the function. A panic becomes a fault with its message, place and (with `RUST_BACKTRACE=1`) backtrace, and is
/// not reported by the panic hook of the program: the error carries it.
pub(crate) fn call(record: &'static Record, args: &mut [Argument<'_>]) -> Result<Value, Fault> {
    guarded(|| record.run(args).map_err(Fault::Call))
}

/// Calls a function without arguments that is no task. An error says how it failed, with all its sources.
pub(crate) fn run_hook(record: &'static Record) -> Result<(), String> {
    call(record, &mut []).map(drop).map_err(|fault| match &fault {
        Fault::Call(CallError::Returned(returned)) => {
            returned.sources.iter().fold(format!("failed: {fault}"), |text, source| format!("{text}: {source}"))
        }
        _ => fault.to_string(),
    })
}

/// Runs something that may panic.
pub(crate) fn guarded<R>(f: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
    install_hook();
    let here = 0_u8;
    let outer = FRAME.replace(&raw const here as usize);
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(f));
    DEPTH.set(DEPTH.get() - 1);
    FRAME.set(outer);
    result.unwrap_or_else(|payload| {
        let (message, location, backtrace) = told(payload);
        Err(Fault::Panic { message, location, backtrace })
    })
}

/// What a panic that has been caught said, where it began, and how it came there. Nothing of it is left.
fn told(payload: Box<dyn Any + Send>) -> (String, String, TaskBacktrace) {
    let (location, backtrace) = LAST
        .try_with(RefCell::take)
        .ok()
        .flatten()
        .unwrap_or_else(|| ("a place that is not known".to_string(), TaskBacktrace::default()));
    let message = message(&*payload);
    DEPTH.set(DEPTH.get() + 1);
    // The payload is a value of the user's, too. What its own `drop` throws might panic when it is dropped as well.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
        let _ = LAST.try_with(RefCell::take);
    }
    DEPTH.set(DEPTH.get() - 1);
    (message, location, backtrace)
}

/// Runs a value's own code of that trait, `Serialize` or `Deserialize`. If it panics, the answer says how.
pub(crate) fn guarded_serde<R>(name: &str, f: impl FnOnce() -> R) -> Result<R, String> {
    guarded(|| Ok(f())).map_err(|fault| format!("its `{name}` {fault}"))
}

/// Drops a value, whose own code may panic: nobody else is to suffer from that.
pub(crate) fn dropping(drop: impl FnOnce()) {
    tolerated("a value panicked when it was dropped", drop);
}

/// Runs code of the user's that owes nobody an answer. A panic is logged, as `what`, and nothing else: it happens in threads
/// that others depend on.
pub(crate) fn tolerated(what: &str, f: impl FnOnce()) {
    install_hook();
    DEPTH.set(DEPTH.get() + 1);
    let before = BESIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    BESIDE.set(before);
    DEPTH.set(DEPTH.get() - 1);
    if let Err(payload) = result {
        let (message, location, _) = told(payload);
        report!(Error, "{what}, at {location}: {message}");
    }
}

/// Whether what this thread runs is [`tolerated`], and so no part of its task.
pub(super) fn is_beside_task() -> bool {
    BESIDE.get()
}

/// What a panic said.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(s) = payload.downcast_ref::<&str>() {
        (*s).to_string()
    } else if let Some(s) = payload.downcast_ref::<String>() {
        s.clone()
    } else {
        "a panic whose payload is not text".to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_what_and_where() {
        let r: Result<(), Fault> = guarded(|| panic!("no {}", "luck"));
        match r {
            Err(Fault::Panic { message, location, .. }) => {
                assert_eq!(message, "no luck");
                assert!(location.contains("call.rs"), "{location}");
            }
            other => unreachable!("{other:?}"),
        }
    }
}
