//! Runs one task function: catches panics, and lets the function know which task it is.

use super::Value;
use super::backtrace::TaskBacktrace;
use super::function::{Argument, CallError, Record};
use std::any::Any;
use std::cell::RefCell;
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
            Self::Call(CallError::Returned { message, .. }) => f.write_str(message),
            Self::Call(CallError::Decode { reason, .. } | CallError::InputLost { reason }) => f.write_str(reason),
        }
    }
}

impl From<CallError> for Fault {
    fn from(e: CallError) -> Self {
        Self::Call(e)
    }
}

#[derive(Default)]
struct Watch {
    /// How many calls are under way on this thread, one inside the other.
    depth: u32,
    /// An address in the stack frame of the innermost one.
    frame: usize,
    /// Where the last panic of such a call began.
    last: Option<(String, TaskBacktrace)>,
}

thread_local! {
    static WATCH: RefCell<Watch> = const { RefCell::new(Watch { depth: 0, frame: 0, last: None }) };
}

/// Notes where a panic inside a task begins. The unwinding itself only carries the message.
fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let watched = WATCH.try_with(|w| Some(w.try_borrow().ok().filter(|w| w.depth > 0)?.frame));
            let Ok(Some(frame)) = watched else { return before(info) };
            let location = info.location().map(ToString::to_string).unwrap_or_default();
            let trace = TaskBacktrace::capture(frame);
            WATCH.with(|w| w.borrow_mut().last = Some((location, trace)));
        }));
    });
}

/// Calls the function. A panic becomes a fault with its message, place and (with `RUST_BACKTRACE=1`) backtrace, and is
/// not reported by the panic hook of the program: the error carries it.
pub(crate) fn call(record: &'static Record, args: &mut [Argument<'_>]) -> Result<Value, Fault> {
    guarded(|| record.run(args).map_err(Fault::Call))
}

/// Runs something that may panic.
pub(crate) fn guarded<R>(f: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
    install_hook();
    let here = 0_u8;
    let enter = |w: &mut Watch| {
        w.depth += 1;
        std::mem::replace(&mut w.frame, &raw const here as usize)
    };
    let outer = WATCH.with(|w| enter(&mut w.borrow_mut()));
    let result = catch_unwind(AssertUnwindSafe(f));
    let leave = |w: &mut Watch| {
        w.depth -= 1;
        w.frame = outer;
    };
    WATCH.with(|w| leave(&mut w.borrow_mut()));
    result.unwrap_or_else(|payload| {
        let (location, backtrace) = WATCH.with(|w| w.borrow_mut().last.take()).unwrap_or_default();
        Err(Fault::Panic { message: message(&*payload), location, backtrace })
    })
}

/// Drops a value, whose own code may panic: nobody else is to suffer from that.
pub(crate) fn discard<T>(value: T) {
    let dropped = guarded(|| {
        drop(value);
        Ok(())
    });
    if let Err(Fault::Panic { message, location, .. }) = dropped {
        log::error!("a value panicked at {location} when it was dropped: {message}");
    }
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
