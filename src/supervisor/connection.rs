//! A connection of the supervisor to a worker or a program: frames out, by any thread; frames in, as they come.

use crate::host::report;
use crate::ipc::event_loop::register;
use crate::ipc::frame::{Decoder, Descriptor, Frame, FrameError, Outgoing};
use crate::ipc::segment::FileId;
use crate::ipc::socket::{NoDescriptor, Socket};
use crate::message;
use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use serde::Serialize;
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::runtime::Handle;

/// A peer that lets so many bytes pile up does not read any more.
const MOST_WAITING: usize = 1 << 30;

/// One connection in an event loop: frames out at once where the socket takes them, by any thread; frames in as they come.
pub(crate) struct Connection {
    fd: AsyncFd<Socket>,
    out: Mutex<SendQueue>,
    /// The connection has ended, as far as this side goes.
    broken: AtomicBool,
    /// The event loop, for senders in other threads.
    runtime: Handle,
}

#[derive(Default)]
struct SendQueue {
    waiting: Outgoing,
    /// The socket is full, and somebody waits for room.
    draining: bool,
}

impl Connection {
    /// Belongs to the event loop of this thread.
    pub(crate) fn new(socket: Socket) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        Ok(Arc::new(Self {
            fd: register(socket, Interest::READABLE)?,
            out: Mutex::default(),
            broken: AtomicBool::new(false),
            runtime: Handle::current(),
        }))
    }

    /// Sends a message: now, or when there is room. A connection that is broken is noticed by its reader.
    pub(crate) fn send<M: Serialize>(self: &Arc<Self>, message: &M) -> Result<(), message::Malformed> {
        self.push(message).map(|_| self.flush())
    }

    /// Sends what is no message of this version's.
    pub(crate) fn send_frame(
        self: &Arc<Self>,
        kind: u8,
        body: Vec<u8>,
        fds: Vec<Descriptor>,
    ) -> Result<(), message::Malformed> {
        self.push_with(|waiting| waiting.push(kind, body, fds)).map(|_| self.flush())
    }

    /// Puts a message behind those that wait to be sent; whether it is the first.
    pub(crate) fn push<M: Serialize>(&self, message: &M) -> Result<bool, message::Malformed> {
        let (body, segments) = message::encode(message)?;
        self.push_with(|waiting| waiting.push_message(message::KIND, body, &segments))
    }

    /// These memory files have ended, and the peer has been told.
    pub(crate) fn forget(&self, files: &[FileId]) {
        self.out.lock().waiting.forget(files);
    }

    fn push_with(
        &self,
        push: impl FnOnce(&mut Outgoing) -> Result<(), FrameError>,
    ) -> Result<bool, message::Malformed> {
        let mut out = self.out.lock();
        let first = out.waiting.is_empty();
        push(&mut out.waiting).map_err(|e| message::Malformed(e.to_string()))?;
        if out.waiting.len_bytes() > MOST_WAITING {
            self.close();
        }
        Ok(first)
    }

    /// Sends what waits to be sent: now, or when there is room.
    pub(crate) fn flush(self: &Arc<Self>) {
        let mut out = self.out.lock();
        if out.draining || self.is_broken() {
            return;
        }
        match out.waiting.flush(self.fd.get_ref()) {
            Ok(true) => {}
            Ok(false) => {
                out.draining = true;
                self.runtime.spawn(Arc::clone(self).drain());
            }
            Err(e) => {
                drop(out);
                self.fail(&e);
            }
        }
    }

    /// Whether all that was to be sent has been, or never will.
    pub(crate) fn is_flushed(&self) -> bool {
        self.is_broken() || self.out.lock().waiting.is_empty()
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Ends the connection, whatever waits to be sent. The reader, here and there, finds its end.
    pub(crate) fn close(&self) {
        self.broken.store(true, Ordering::Relaxed);
        // If it fails, the connection was closed already. Not logged: whoever closes may have a lock.
        let _ = shutdown(self.fd.get_ref().as_raw_fd(), Shutdown::Both);
    }

    async fn drain(self: Arc<Self>) {
        // A full socket is rare, so only then is room waited for, on a second descriptor of the same socket.
        let twin = self.fd.get_ref().as_fd().try_clone_to_owned().and_then(|fd| register(fd, Interest::WRITABLE));
        let twin = match twin {
            Ok(twin) => twin,
            Err(e) => {
                report!(Error, "a full socket cannot be waited for: {e}");
                return self.close();
            }
        };
        while let Ok(mut ready) = twin.writable().await {
            let mut out = self.out.lock();
            match out.waiting.flush(self.fd.get_ref()) {
                Ok(true) => {
                    out.draining = false;
                    return;
                }
                Ok(false) => ready.clear_ready(),
                Err(e) => {
                    drop(out);
                    return self.fail(&e);
                }
            }
        }
        self.close();
    }

    /// What waits cannot be sent. The peer may be there all the same, and silent: then its reader would not be woken.
    fn fail(&self, e: &io::Error) {
        report!(Debug, "a connection is ended, since nothing can be sent: {e}");
        self.close();
    }

    /// Waits until something has arrived, or the connection has ended.
    pub(super) async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, Socket>> {
        self.fd.readable().await
    }

    /// Waits for frames. None: the peer has closed the connection.
    pub(crate) async fn receive(&self, decoder: &mut Decoder) -> Result<Option<Vec<Frame>>, String> {
        loop {
            let mut ready = self.fd.readable().await.map_err(|e| e.to_string())?;
            match self.take(decoder) {
                Ok(Received::End) => return Ok(None),
                Ok(Received::Nothing) => ready.clear_ready(),
                Ok(Received::Frames { frames, all }) => {
                    if all {
                        ready.clear_ready();
                    }
                    if !frames.is_empty() {
                        return Ok(Some(frames));
                    }
                }
                Err(e) => return Err(e.reason),
            }
        }
    }

    /// Whether something has arrived that nobody has taken, or an end that nobody has seen.
    pub(super) fn has_something(&self) -> bool {
        !self.is_broken() && self.fd.get_ref().poll_readable(Some(0)).unwrap_or(false)
    }

    /// Takes what has arrived.
    pub(super) fn take(&self, decoder: &mut Decoder) -> Result<Received, Unreadable> {
        if self.is_broken() {
            return Ok(Received::End);
        }
        let mut fds = Vec::new();
        let spare = decoder.spare_mut();
        let room = spare.len();
        let all = match self.fd.get_ref().recv_nonblocking(spare, &mut fds) {
            Ok(0) => return decoder.finish().map(|()| Received::End).map_err(Unreadable::broken),
            Ok(n) => {
                // A stream that gives less than there is room for has no more, unless it stopped behind descriptors.
                let all = n < room && fds.is_empty();
                decoder.advance(n, fds);
                all
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(Received::End),
            Err(e) => {
                let is_ours = e.get_ref().is_some_and(|inner| inner.is::<NoDescriptor>());
                return Err(Unreadable { reason: e.to_string(), is_ours, lasting: false });
            }
        };
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next().map_err(Unreadable::broken)? {
            frames.push(frame);
        }
        Ok(Received::Frames { frames, all })
    }
}

/// Why what has arrived cannot be read.
pub(super) struct Unreadable {
    pub(super) reason: String,
    /// For want of something in this process: the peer is not to blame.
    pub(super) is_ours: bool,
    /// That will not pass by itself: tasks that bring it about again and again are to fail.
    pub(super) lasting: bool,
}

impl Unreadable {
    /// It makes no sense.
    pub(super) fn broken(e: impl Display) -> Self {
        Self { reason: e.to_string(), is_ours: false, lasting: false }
    }
}

/// What has arrived.
pub(super) enum Received {
    /// Whole frames, if any, and whether that is all there is.
    Frames {
        frames: Vec<Frame>,
        all: bool,
    },
    Nothing,
    End,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_reader_hears_that_nothing_can_be_sent_though_the_peer_is_silent() {
        actix::System::new().block_on(async {
            let (ours, _theirs) = Socket::pair().unwrap();
            shutdown(ours.as_raw_fd(), Shutdown::Write).unwrap();
            let connection = Connection::new(ours).unwrap();
            let mut decoder = Decoder::new(1 << 10);
            let read = connection.receive(&mut decoder);
            let send = async {
                tokio::task::yield_now().await;
                connection.send_frame(message::KIND, vec![1], Vec::new()).unwrap();
            };
            let heard = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(read, send).0 });
            assert!(matches!(heard.await, Ok(Ok(None))), "the connection has ended, and its reader is not told");
        });
    }
}
