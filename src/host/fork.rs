//! The queues in a fork of their process, which has copies of them and none of their threads. Without this, the fork might
//! find one locked for ever, by a thread that it does not have.

use super::SUPERVISORS;
use super::output::{STDERR, STDOUT, Text};
use super::queue::Held;
use super::record::{LogRecord, RECORDS};
use std::cell::RefCell;
use std::sync::atomic::Ordering;

type AllHeld = (Held<'static, Text>, Held<'static, Text>, Held<'static, LogRecord>);

thread_local! {
    static HELD: RefCell<Option<AllHeld>> = const { RefCell::new(None) };
}

/// This thread is about to fork.
pub(crate) fn before_fork() {
    let _ = HELD.try_with(|held| held.replace(Some((STDOUT.hold(), STDERR.hold(), RECORDS.hold()))));
}

/// It has: this is its parent, or the fork.
pub(crate) fn after_fork(in_fork: bool) {
    let held = HELD.try_with(RefCell::take).ok().flatten();
    if let (true, Some((mut stdout, mut stderr, mut records))) = (in_fork, held) {
        SUPERVISORS.store(0, Ordering::SeqCst);
        super::footer::forget();
        stdout.begin_anew();
        stderr.begin_anew();
        records.begin_anew();
    }
}
