//! Waiting at descriptors, which other threads can end.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use smallvec::SmallVec;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Wakes the one thread that waits here.
pub(crate) struct PollWaker {
    /// Whether a thread waits, or is about to.
    waiting: AtomicBool,
    descriptor: EventFd,
}

impl PollWaker {
    pub(crate) fn new() -> Result<Self, Errno> {
        let descriptor = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { waiting: AtomicBool::new(false), descriptor })
    }

    /// Ends the wait, where there is one, after something has changed that the waiting thread looks at.
    ///
    /// # Errors
    /// Where the descriptor is not what it was.
    pub(crate) fn wake(&self) -> Result<(), Errno> {
        // In one order with what `wait` does: either it sees the change, or this sees that it waits.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::AcqRel) {
            self.descriptor.write(1)?;
        }
        Ok(())
    }

    /// Waits until one of these can be read or another thread ends the wait; not at all, if something has changed already.
    /// False: the time is up.
    pub(crate) fn wait(
        &self,
        is_unchanged: impl FnOnce() -> bool,
        descriptors: &[BorrowedFd<'_>],
        timeout: PollTimeout,
    ) -> bool {
        self.waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut ready = true;
        if is_unchanged() {
            let all = std::iter::once(self.descriptor.as_fd()).chain(descriptors.iter().copied());
            let mut polled: SmallVec<[PollFd<'_>; 4]> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            ready = poll(&mut polled, timeout) != Ok(0);
        }
        if !self.waiting.swap(false, Ordering::AcqRel) {
            // Whoever has taken that away writes once; if that comes later still, it ends the next wait.
            let _ = self.descriptor.read();
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc::channel;

    #[test]
    fn no_change_is_missed() {
        let (waker, count) = (PollWaker::new().unwrap(), AtomicU32::new(0));
        let (done, next) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for seen in 0..20_000 {
                    while count.load(Ordering::Relaxed) == seen {
                        assert!(waker.wait(
                            || count.load(Ordering::Relaxed) == seen,
                            &[],
                            PollTimeout::from(10_000_u16)
                        ));
                    }
                    done.send(()).unwrap();
                }
            });
            for _ in 0..20_000 {
                count.fetch_add(1, Ordering::Relaxed);
                waker.wake().unwrap();
                next.recv().unwrap();
            }
        });
    }

    #[test]
    fn it_waits_for_descriptors_and_for_the_time_too() {
        let (waker, (read, mut write)) = (PollWaker::new().unwrap(), std::io::pipe().unwrap());
        assert!(!waker.wait(|| true, &[read.as_fd()], PollTimeout::from(1_u8)));
        write.write_all(b"x").unwrap();
        assert!(waker.wait(|| true, &[read.as_fd()], PollTimeout::NONE));
        assert!(waker.wait(|| false, &[], PollTimeout::NONE));
        waker.wake().unwrap();
        assert!(!waker.wait(|| true, &[], PollTimeout::from(1_u8)), "nobody waited then");
    }
}
