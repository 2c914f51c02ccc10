//! Descriptors in an event loop.

use super::socket::Socket;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Owns one descriptor, the same one as long as it lives.
///
/// # Safety
/// `as_raw_fd` must answer with the same open descriptor until the value is dropped.
pub(crate) unsafe trait OwnsDescriptor: AsRawFd {}

// SAFETY: a socket is its descriptor; nothing replaces it.
unsafe impl OwnsDescriptor for Socket {}
// SAFETY: so is a file.
unsafe impl OwnsDescriptor for File {}
// SAFETY: and one that is shared, which nobody can change.
unsafe impl OwnsDescriptor for Rc<File> {}
// SAFETY: and this is what the others are made of.
unsafe impl OwnsDescriptor for OwnedFd {}

/// Registers a descriptor with the event loop of this thread, to be told when there is something to read, or room to
/// write. Not both: a socket whose peer reads has room again, and waking for that each time costs as much as the message.
pub(crate) fn register<T: OwnsDescriptor>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: the registration needs the descriptor to stay open and the same, which is what the trait promises; the
    // event loop gives the registration up before it drops the value.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
