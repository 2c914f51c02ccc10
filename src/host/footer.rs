//! What is drawn at the bottom of the program's terminal, as progress bars are: text that goes to the terminal meanwhile goes
//! above it.
//!
//! Whoever draws implements [`Footer`] and says here when it begins and ends. What tasks print is held back until its line is
//! whole, so that a drawing never stands behind half a line.

use super::output;
use parking_lot::{Mutex, RwLock};
use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Half a line may wait so long for its other half, in bytes.
const LONGEST_LINE: usize = 64 << 10;

/// Something at the bottom of the terminal.
pub(crate) trait Footer: Send + Sync {
    /// Runs `write` while nothing is drawn.
    fn above(&self, write: &mut dyn FnMut());

    /// A thread of the program's has what it waited for, and may print now. Returns soon, whatever the terminal does.
    fn settle(&self);
}

/// The one there is, and how many drawings it has. A lock that a fork may find taken is not asked where there are none.
static FOOTER: RwLock<Option<Arc<dyn Footer>>> = RwLock::new(None);
static DRAWINGS: AtomicUsize = AtomicUsize::new(0);
/// What stands behind the last line end of each stream.
static REST: [Mutex<Vec<u8>>; 2] = [Mutex::new(Vec::new()), Mutex::new(Vec::new())];

thread_local! {
    /// Whether this thread writes above the footer already.
    static ABOVE: Cell<bool> = const { Cell::new(false) };
}

/// A drawing begins. There is one footer in a process.
pub(crate) fn begin(footer: &Arc<dyn Footer>) {
    *FOOTER.write() = Some(Arc::clone(footer));
    DRAWINGS.fetch_add(1, Ordering::SeqCst);
}

/// A drawing has ended, and is not on the terminal any more.
pub(crate) fn end() {
    if DRAWINGS.fetch_sub(1, Ordering::SeqCst) == 1 {
        flush();
    }
}

/// In a fork of the process nobody draws.
pub(super) fn forget() {
    DRAWINGS.store(0, Ordering::SeqCst);
}

fn footer() -> Option<Arc<dyn Footer>> {
    if DRAWINGS.load(Ordering::Relaxed) == 0 || ABOVE.get() {
        return None;
    }
    FOOTER.read().clone()
}

/// Has something written to the terminal above what is drawn there.
pub(crate) fn above<R>(write: impl FnOnce() -> R) -> R {
    let Some(footer) = footer() else { return write() };
    let (mut write, mut done) = (Some(write), None);
    let mut once = || {
        let _above = Above::begin();
        if let Some(write) = write.take() {
            done = Some(write());
        }
    };
    footer.above(&mut once);
    // A footer that does not call it has no say in whether text is written.
    match (done, write) {
        (Some(done), _) => done,
        (None, Some(write)) => write(),
        (None, None) => unreachable!("it has been called and has not panicked"),
    }
}

struct Above(bool);

impl Above {
    fn begin() -> Self {
        Self(ABOVE.replace(true))
    }
}

impl Drop for Above {
    fn drop(&mut self) {
        ABOVE.set(self.0);
    }
}

/// A thread of the program's goes on, with what it waited for.
#[inline]
pub(crate) fn settle() {
    if let Some(footer) = footer() {
        footer.settle();
    }
}

/// Writes what tasks have printed.
pub(super) fn write(stderr: bool, text: &[u8]) {
    let is_terminal = || if stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
    let footer = footer().filter(|_| is_terminal());
    let mut rest = REST[usize::from(stderr)].lock();
    if footer.is_none() && rest.is_empty() {
        drop(rest);
        return write_now(stderr, text);
    }
    rest.extend_from_slice(text);
    let end = match &footer {
        Some(_) => rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
        None => rest.len(),
    };
    let mut whole: Vec<u8> = rest.drain(..end).collect();
    if rest.len() > LONGEST_LINE {
        whole.append(&mut rest);
        whole.push(b'\n');
    }
    drop(rest);
    if !whole.is_empty() {
        above(|| write_now(stderr, &whole));
    }
}

/// Writes what is half a line.
pub(super) fn flush() {
    for (stderr, rest) in [false, true].into_iter().zip(&REST) {
        let rest = std::mem::take(&mut *rest.lock());
        if !rest.is_empty() {
            write_now(stderr, &rest);
        }
    }
}

fn write_now(stderr: bool, text: &[u8]) {
    fn to(stream: &mut impl Write, text: &[u8]) {
        output::write(stream, text);
    }
    if stderr { to(&mut io::stderr(), text) } else { to(&mut io::stdout(), text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Log(Mutex<Vec<&'static str>>);

    impl Footer for Log {
        fn above(&self, write: &mut dyn FnMut()) {
            self.0.lock().push("cleared");
            write();
            self.0.lock().push("drawn");
        }

        fn settle(&self) {
            self.0.lock().push("settled");
        }
    }

    #[test]
    fn text_goes_above_what_is_drawn_and_not_twice() {
        let log = Arc::new(Log::default());
        let footer: Arc<dyn Footer> = Arc::clone(&log) as _;
        assert_eq!(above(|| 1), 1);
        begin(&footer);
        let written = above(|| {
            log.0.lock().push("text");
            // A logger that logs.
            above(|| log.0.lock().push("more"));
            settle();
            2
        });
        settle();
        end();
        settle();
        assert_eq!(written, 2);
        assert_eq!(*log.0.lock(), ["cleared", "text", "more", "drawn", "settled"]);
    }
}
