//! Where a panic began: addresses when it happens, words when somebody reads them.
//!
//! Looking up addresses takes the program's debug information, a tenth of a second the first time. So that is left to the
//! process that shows the backtrace, which is of the same build: addresses are counted from the start of the image.

use super::image;
use serde::{Deserialize, Serialize};
use std::env;
use std::ffi::c_void;
use std::fmt::{self, Write};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// Frames that are kept.
const MOST: usize = 256;
/// The function under which the standard library's own frames of a panic lie.
const BEGIN_OF_PANIC: &str = "__rust_end_short_backtrace";

/// The functions that led to a task's panic, the innermost first; nothing unless `RUST_BACKTRACE` was set where it ran.
///
/// It is a text, which is made when it is first read. That takes a tenth of a second for the first one in a process, and
/// less than a millisecond for others.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct TaskBacktrace(Option<Arc<Trace>>);

#[derive(Serialize, Deserialize)]
struct Trace {
    /// The build that the addresses are of.
    build: u64,
    /// Where calls return to, counted from the start of the image. 0: in another library.
    frames: Vec<u64>,
    #[serde(skip)]
    words: OnceLock<String>,
}

impl TaskBacktrace {
    /// The functions under way on this thread whose frames lie below an address of its stack.
    pub(crate) fn capture(below: usize) -> Self {
        if !is_wanted() {
            return Self::default();
        }
        let mut frames = Vec::with_capacity(32);
        let mut add = |frame: &backtrace::Frame| {
            frames.push(image::place_in_code(frame.ip() as usize).unwrap_or(0));
            (frame.sp() as usize) < below && frames.len() < MOST
        };
        // SAFETY: what has to be serialised is the access to the debugging library of another operating system; the unwinder
        // of this one has no state that threads share.
        unsafe { backtrace::trace_unsynchronized(&mut add) };
        Self(Some(Arc::new(Trace { build: image::build_hash(), frames, words: OnceLock::new() })))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", |trace| trace.words.get_or_init(|| trace.in_words()))
    }
}

impl Trace {
    fn in_words(&self) -> String {
        let mut text = String::new();
        if self.build != image::build_hash() {
            let _ = writeln!(text, "addresses in another program: {:x?}", self.frames);
            return text;
        }
        let mut number = 0;
        for &place in &self.frames {
            let mut is_known = false;
            let address = image::address_in_code(place).filter(|_| place > 0);
            backtrace::resolve(address.unwrap_or_default() as *mut c_void, |symbol| {
                let Some(name) = symbol.name() else { return };
                is_known = true;
                let name = format!("{name:#}");
                if name.contains(BEGIN_OF_PANIC) {
                    text.clear();
                    number = 0;
                    return;
                }
                let _ = writeln!(text, "{number:4}: {name}");
                number += 1;
                if let Some((file, line)) = symbol.filename().zip(symbol.lineno()) {
                    let column = symbol.colno().map(|c| format!(":{c}")).unwrap_or_default();
                    let _ = writeln!(text, "             at {}:{line}{column}", file.display());
                }
            });
            if !is_known {
                let _ = writeln!(text, "{number:4}: <unknown>");
                number += 1;
            }
        }
        text
    }
}

/// As the standard library decides it.
fn is_wanted() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| {
        let asked = env::var_os("RUST_LIB_BACKTRACE").or_else(|| env::var_os("RUST_BACKTRACE"));
        asked.is_some_and(|value| value != "0")
    })
}

impl Deref for TaskBacktrace {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for TaskBacktrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for TaskBacktrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
impl TaskBacktrace {
    pub(crate) fn of(build: u64, frames: Vec<u64>) -> Self {
        Self(Some(Arc::new(Trace { build, frames, words: OnceLock::new() })))
    }

    /// One of this process, wanted or not.
    #[inline(never)]
    fn here() -> Self {
        let mut frames = Vec::new();
        backtrace::trace(|frame| {
            frames.push(image::place_in_code(frame.ip() as usize).unwrap_or(0));
            true
        });
        Self::of(image::build_hash(), frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn deep_down() -> TaskBacktrace {
        std::hint::black_box(TaskBacktrace::here())
    }

    #[test]
    fn a_backtrace_is_put_into_words_by_whoever_reads_it() {
        let encoded = bincode::serde::encode_to_vec(deep_down(), bincode::config::standard()).expect("encodes");
        let (back, _): (TaskBacktrace, usize) =
            bincode::serde::decode_from_slice(&encoded, bincode::config::standard()).expect("decodes");
        assert!(back.contains("deep_down") && back.contains("task/backtrace.rs"), "{back}");
        assert!(TaskBacktrace::default().is_empty() && TaskBacktrace::default().as_str().is_empty());
    }

    #[test]
    fn one_of_another_program_is_only_addresses() {
        let other = TaskBacktrace::of(image::build_hash() ^ 1, vec![0x1234]);
        assert_eq!(other.as_str(), "addresses in another program: [1234]\n");
        let nonsense = TaskBacktrace::of(image::build_hash(), vec![0, u64::MAX, 1 << 40]);
        assert_eq!(nonsense.matches("<unknown>").count(), 3, "{nonsense}");
    }
}
