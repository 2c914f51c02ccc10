//! What goes to the program that hosts a supervisor: what tasks print, and log records.
//!
//! The program may hold its standard output locked while it waits for a result, or have it in a pipe that nobody reads; its
//! logger may ask the client. So whoever has the core's lock, and the event loop, wait for none of these: text and records
//! go into bounded queues, each with a thread of its own, which is there while a supervisor is. What does not fit is
//! counted, and the number is told in its place. Where something is drawn on the terminal, they go above it ([`footer`]).
//!
//! In a process without a supervisor, [`report!`] is what `log`'s own macros are: a worker's log lines carry the task.

#[cfg_attr(not(feature = "progress"), allow(dead_code, reason = "nobody draws then"))]
pub(crate) mod footer;
mod fork;
mod output;
mod queue;
mod record;

pub(crate) use fork::{after_fork, before_fork};
pub(crate) use output::{count_lines, forward};
pub(crate) use record::{Origin, log_record};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// For so long a stream or logger may take nothing before it counts as stuck.
const STUCK: Duration = Duration::from_secs(1);
/// How often [`finish`] looks.
const LOOK: Duration = Duration::from_micros(200);

static SUPERVISORS: AtomicUsize = AtomicUsize::new(0);

/// Held by a supervisor: while there is one, the threads wait for more.
#[derive(Debug)]
pub(crate) struct Hosted(());

impl Hosted {
    pub(crate) fn begin() -> Self {
        SUPERVISORS.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        if SUPERVISORS.fetch_sub(1, Ordering::SeqCst) == 1 {
            output::STDOUT.wake();
            output::STDERR.wake();
            record::RECORDS.wake();
        }
    }
}

fn has_supervisor() -> bool {
    SUPERVISORS.load(Ordering::SeqCst) > 0
}

/// Waits until what is queued has been written and logged, or none of it has moved for a second.
pub(crate) fn finish() {
    // The logger itself may be who closes the client.
    if queue::is_own_thread() {
        return;
    }
    let left = || [output::STDOUT.left(), output::STDERR.left(), record::RECORDS.left()];
    let (mut before, mut moved) = (left(), Instant::now());
    while before.iter().any(|left| left.items > 0) && moved.elapsed() < STUCK {
        std::thread::park_timeout(LOOK);
        let now = left();
        if now != before {
            (before, moved) = (now, Instant::now());
        }
    }
    if before.iter().all(|left| left.items == 0) {
        footer::flush();
    }
}

/// Logs, without waiting for the logger where this process hosts a supervisor. The level's name comes first.
macro_rules! report {
    ($level:ident, $($text:tt)+) => {
        if log::Level::$level <= log::STATIC_MAX_LEVEL && log::Level::$level <= log::max_level() {
            let origin = $crate::host::Origin { module: module_path!(), file: file!(), line: line!() };
            $crate::host::log_record(log::Level::$level, origin, format_args!($($text)+));
        }
    };
}

pub(crate) use report;
