//! Which process this is, for what must not act in a fork of the one it was made in.
//!
//! A fork has copies of its parent's memory, and shares sockets, files and shared memory with it. Whatever it did with these
//! would be done to its parent. Its own threads, which would do the work, are not there.

use crate::host::{self, report};
use nix::libc;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of this process. 0 where nobody has asked.
static HERE: AtomicU32 = AtomicU32::new(0);

/// The process that something was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(u32);

impl Origin {
    /// This one.
    pub(crate) fn here() -> Self {
        static FIRST: Once = Once::new();
        FIRST.call_once(|| {
            HERE.store(std::process::id(), Ordering::Relaxed);
            // SAFETY: what is registered takes locks that are had for moments only, and gives them back; it stores a number.
            let failed = unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_fork)) };
            if failed != 0 {
                report!(Debug, "forks are not noticed: {}", std::io::Error::from_raw_os_error(failed));
            }
        });
        Self(HERE.load(Ordering::Relaxed))
    }

    /// Whether this process is another, a fork of that one. A load of a number.
    #[inline]
    pub(crate) fn is_elsewhere(self) -> bool {
        HERE.load(Ordering::Relaxed) != self.0
    }

    /// Why what was made there cannot be used, if this is another process.
    #[inline]
    pub(crate) fn reason(self) -> Option<String> {
        if self.is_elsewhere() { Some(self.explain()) } else { None }
    }

    #[cold]
    fn explain(self) -> String {
        let here = HERE.load(Ordering::Relaxed);
        format!("it was made in process {}, used in its fork {here}: make a client there, after the fork", self.0)
    }
}

unsafe extern "C" fn before_fork() {
    host::before_fork();
}

unsafe extern "C" fn in_parent() {
    host::after_fork(false);
}

unsafe extern "C" fn in_fork() {
    host::after_fork(true);
    HERE.store(std::process::id(), Ordering::Relaxed);
}
