//! The signals of a worker process.
//!
//! A worker begins as a program of its own would: no signal is blocked and none is ignored, whatever the host has blocked or
//! ignored. What a worker must not die of has a handler that does nothing. It is not ignored: the programs that tasks start
//! would inherit that, but a handler ends with the program that has it. The host's own handlers and masks are never touched.

use crate::host::report;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal, sigprocmask};
use nix::sys::signal::{SigmaskHow, kill, raise};
use nix::unistd::{Pid, getpid, getppid};
use std::ffi::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// Lets all signals in, and has those that were ignored do by default what they do. To be called while the process has one
/// thread.
pub(crate) fn reset() {
    // Threads that start later have the mask of the thread that starts them.
    if let Err(e) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None) {
        report!(Debug, "blocked signals stay blocked: {e}");
    }
    for number in 1..=libc::SIGRTMAX() {
        if is_number_ignored(number) {
            // SAFETY: this installs no code that could run at a bad moment.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
}

/// Whether this process ignores the signal.
pub(crate) fn is_ignored(which: Signal) -> bool {
    is_number_ignored(which as c_int)
}

fn is_number_ignored(number: c_int) -> bool {
    // SAFETY: zeroes are a `sigaction`; the call writes to it only, and installs nothing.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// A peer that went away and a file that grew too large are error codes from here on.
pub(crate) fn survive_writes() {
    for signal in [Signal::SIGPIPE, Signal::SIGXFSZ] {
        handle(signal, nothing);
    }
}

extern "C" fn nothing(_: c_int) {}

fn handle(which: Signal, handler: extern "C" fn(c_int)) {
    let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::Handler(handler), flags, SigSet::empty());
    // SAFETY: the handlers of this module do nothing that a handler may not do.
    if let Err(e) = unsafe { sigaction(which, &action) } {
        report!(Debug, "{which} has no handler: {e}");
    }
}

/// This process, and the one that started it.
static SELF: AtomicI32 = AtomicI32::new(0);
static PARENT: AtomicI32 = AtomicI32::new(0);

/// Whether this is the worker, not a process that a task has forked.
fn is_worker() -> bool {
    getpid().as_raw() == SELF.load(Ordering::Acquire)
}

fn is_orphan() -> bool {
    is_worker() && getppid().as_raw() != PARENT.load(Ordering::Acquire)
}

/// Sees to it that this process ends soon after the one that started it, also when it is stopped, or when the end of its
/// socket cannot be seen because a fork of that process holds the other side open.
///
/// The signal that the kernel sends then must not kill at once: the socket's end is what makes a worker remove what the
/// supervisor has left behind.
pub(crate) fn die_with_parent() {
    SELF.store(getpid().as_raw(), Ordering::Release);
    PARENT.store(getppid().as_raw(), Ordering::Release);
    handle(Signal::SIGALRM, alarmed);
    handle(Signal::SIGCONT, continued);
    if let Err(e) = nix::sys::prctl::set_pdeathsig(Signal::SIGCONT) {
        report!(Debug, "no parent-death signal: {e}");
    }
}

/// Also called when somebody else lets the process go on, or when only the thread that started it has ended.
extern "C" fn continued(_: c_int) {
    if is_orphan() {
        // The process ends with that, unless it has ended by itself by then.
        nix::unistd::alarm::set(1);
    }
}

extern "C" fn alarmed(_: c_int) {
    if is_orphan() {
        // With what its tasks have started.
        let _ = kill(Pid::from_raw(0), Signal::SIGKILL);
    }
    die_of(Signal::SIGALRM);
}

static ON_SIGTERM: OnceLock<fn()> = OnceLock::new();

/// Has SIGTERM call this instead of ending the process. It is called inside a handler, and may do only what that may.
pub(crate) fn on_sigterm(call: fn()) {
    if ON_SIGTERM.set(call).is_ok() {
        handle(Signal::SIGTERM, terminated);
    }
}

extern "C" fn terminated(_: c_int) {
    match ON_SIGTERM.get() {
        Some(call) if is_worker() => {
            let before = Errno::last();
            call();
            before.set();
        }
        _ => die_of(Signal::SIGTERM),
    }
}

/// What the signal does by default.
fn die_of(which: Signal) {
    // SAFETY: this installs no code that could run at a bad moment. Both may be called by a handler.
    let _ = unsafe { signal(which, SigHandler::SigDfl) };
    // It is blocked until the handler returns.
    let _ = raise(which);
}
