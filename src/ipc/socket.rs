//! A connected unix stream socket that carries descriptors.

use crate::ipc::frame::MAX_FDS;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, sendmsg, setsockopt,
    socket, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Why what has arrived cannot be read: for want of something in this process, and by no fault of the peer's.
#[derive(Debug, thiserror::Error)]
#[error(
    "file descriptors sent by another process could not be received, since this one has none left: raise the limit with \
     `ulimit -n`"
)]
pub(crate) struct NoDescriptor;

/// One end of a connection. Knows nothing of frames.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Two connected ends, neither inherited by child processes.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    /// Connects to who listens there. [`TimedOut`](io::ErrorKind::TimedOut): it has let so many wait that there was no room for
    /// one more in that time.
    pub(crate) fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let own = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let wait = |time: Duration| {
            let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 2);
            setsockopt(&own, sockopt::SendTimeout, &TimeVal::microseconds(micros))
        };
        // None at all would be for ever.
        wait(patience.max(Duration::from_millis(1)))?;
        let address = UnixAddr::new(path)?;
        loop {
            match connect(own.as_raw_fd(), &address) {
                Ok(()) => break,
                Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        wait(Duration::ZERO)?;
        Ok(Self(own))
    }

    pub(crate) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let mut flags = OFlag::from_bits_retain(fcntl(&self.0, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_NONBLOCK, on);
        fcntl(&self.0, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    /// Sends some of `slices`, and all of `fds` with the first byte. At most [`MAX_FDS`] of them.
    pub(crate) fn send(&self, slices: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.send_with(slices, fds, MsgFlags::empty())
    }

    /// Like [`send`](Self::send), but a full socket is `WouldBlock` whatever mode the socket is in.
    pub(crate) fn send_nonblocking(&self, slices: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.send_with(slices, fds, MsgFlags::MSG_DONTWAIT)
    }

    fn send_with(&self, slices: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: MsgFlags) -> io::Result<usize> {
        let raw: SmallVec<[RawFd; 16]> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        // A peer that went away is an error code here, not a signal to the host program.
        let flags = flags | MsgFlags::MSG_NOSIGNAL;
        loop {
            return match sendmsg::<()>(self.0.as_raw_fd(), slices, control, flags, None) {
                Ok(n) => Ok(n),
                Err(Errno::EINTR) => continue,
                Err(Errno::ETOOMANYREFS) => Err(io::Error::other(
                    "more file descriptors are on their way to other processes than the limit allows: \
                     raise it with `ulimit -n`",
                )),
                Err(e) => Err(e.into()),
            };
        }
    }

    /// Reads into `bytes` and appends the descriptors that came along. 0 means the peer has closed.
    pub(crate) fn recv(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        self.recv_with(bytes, fds, 0)
    }

    /// Like [`recv`](Self::recv), but an empty socket is `WouldBlock` whatever mode the socket is in.
    pub(crate) fn recv_nonblocking(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        self.recv_with(bytes, fds, libc::MSG_DONTWAIT)
    }

    // nix's recvmsg hides the descriptors of a truncated control message, which would leak them; hence libc.
    fn recv_with(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>, flags: libc::c_int) -> io::Result<usize> {
        let mut control = ControlSpace(MaybeUninit::uninit());
        let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: msghdr is plain integers and pointers, for which all zeroes is a valid value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN as _;
        let received = loop {
            // SAFETY: the header points at one iovec over `bytes` and at `control`, both exclusively ours and alive
            // across the call, with their true lengths.
            let n = unsafe { libc::recvmsg(self.0.as_raw_fd(), &mut message, flags | libc::MSG_CMSG_CLOEXEC) };
            match Errno::result(n) {
                Ok(n) => break n as usize,
                // The kernel changes nothing in the header when it fails, so it can be used again.
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
        };
        let before = fds.len();
        // SAFETY: recvmsg succeeded, so `msg_control..+msg_controllen` was initialised by the kernel.
        unsafe { take_rights(&message, fds) };
        if message.msg_flags & libc::MSG_CTRUNC != 0 {
            // There is room for all that one message may carry, so what is missing is room in our descriptor table.
            fds.truncate(before);
            return Err(io::Error::other(NoDescriptor));
        }
        Ok(received)
    }

    /// The user the peer ran as when it connected.
    pub(crate) fn peer_uid(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.0, sockopt::PeerCredentials)?.uid())
    }

    /// The process that listened when this one connected; 0 where it is none of ours to see, as in another container.
    pub(crate) fn peer_process(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.0, sockopt::PeerCredentials)?.pid().unsigned_abs())
    }

    /// Waits until there is something to read, or the end. `None` waits forever; false means time is up.
    pub(crate) fn poll_readable(&self, timeout_ms: Option<u64>) -> io::Result<bool> {
        let end = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        loop {
            let timeout = match end {
                None => PollTimeout::NONE,
                Some(end) => {
                    // Rounded up, lest the last part of a millisecond is spent spinning.
                    let left = end.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
                    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
                }
            };
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) if end.is_some_and(|end| Instant::now() >= end) => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => return Ok(true),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.0
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

// SAFETY: CMSG_SPACE is arithmetic on its argument.
const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE((MAX_FDS * size_of::<RawFd>()) as u32) } as usize;

/// Room for one control message, aligned as its header must be.
#[repr(C, align(8))]
struct ControlSpace(MaybeUninit<[u8; CONTROL_LEN]>);

const _: () = assert!(align_of::<ControlSpace>() >= align_of::<libc::cmsghdr>());

/// Appends the descriptors a received message carries.
///
/// # Safety
/// `message` was filled by a successful `recvmsg` that has not been read yet, and its control space is alive.
unsafe fn take_rights(message: &libc::msghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: (of each call) the control space is initialised up to msg_controllen, and the CMSG macros stay within it.
    // CMSG_FIRSTHDR and CMSG_NXTHDR return null or an aligned header inside it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: as above: not null, so it points at a header the kernel wrote.
        let (level, kind, len) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: arithmetic only.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            // SAFETY: the data of a header the kernel wrote lies behind it.
            let data: *const RawFd = unsafe { libc::CMSG_DATA(header) }.cast();
            for i in 0..len.saturating_sub(head) / size_of::<RawFd>() {
                // SAFETY: the kernel wrote that many descriptors; each is newly opened for us and owned by nobody else.
                fds.push(unsafe { OwnedFd::from_raw_fd(data.add(i).read_unaligned()) });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::testing;
    use nix::sys::resource::{Resource, setrlimit};
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::thread;

    #[test]
    fn who_lets_all_wait_is_not_waited_for() {
        use nix::sys::socket::{Backlog, bind, listen};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("busy.sock");
        let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let patience = Duration::from_millis(20);
        let waiting = Socket::connect(&path, patience).unwrap();
        let began = Instant::now();
        assert_eq!(Socket::connect(&path, patience).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= patience);
        drop((listener, waiting));
        assert_eq!(Socket::connect(&path, patience).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let nowhere = dir.path().join("nowhere");
        assert_eq!(Socket::connect(&nowhere, patience).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn bytes_and_descriptors_arrive() {
        let (a, b) = Socket::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"inside").unwrap();
        file.rewind().unwrap();
        let n = a.send(&[IoSlice::new(b"he"), IoSlice::new(b"llo")], &[file.as_fd(), file.as_fd()]).unwrap();
        assert_eq!(n, 5);
        let (mut bytes, mut fds) = ([0; 16], Vec::new());
        assert_eq!(b.recv(&mut bytes, &mut fds).unwrap(), 5);
        assert_eq!(&bytes[..5], b"hello");
        assert_eq!(fds.len(), 2);
        let flags = nix::fcntl::fcntl(&fds[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        let mut text = String::new();
        File::from(fds.pop().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
    }

    #[test]
    fn the_most_descriptors_a_message_may_have_arrive() {
        let (a, b) = Socket::pair().unwrap();
        let fds = vec![a.as_fd(); MAX_FDS];
        a.send(&[IoSlice::new(b"x")], &fds).unwrap();
        let mut got = Vec::new();
        assert_eq!(b.recv(&mut [0; 4], &mut got).unwrap(), 1);
        assert_eq!(got.len(), MAX_FDS);
        assert!(a.send(&[IoSlice::new(b"x")], &vec![a.as_fd(); MAX_FDS + 1]).is_err());
    }

    #[test]
    fn two_messages_with_descriptors_are_read_apart() {
        let (a, b) = Socket::pair().unwrap();
        a.send(&[IoSlice::new(b"plain")], &[]).unwrap();
        a.send(&[IoSlice::new(b"one")], &[a.as_fd()]).unwrap();
        a.send(&[IoSlice::new(b"two")], &[a.as_fd(), a.as_fd()]).unwrap();
        let (mut bytes, mut fds) = ([0; 64], Vec::new());
        // The decoder relies on this: descriptors come no later than the first byte they were sent with, and never
        // together with those of another message.
        assert_eq!(b.recv(&mut bytes, &mut fds).unwrap(), 8);
        assert_eq!(fds.len(), 1);
        assert_eq!(b.recv(&mut bytes, &mut fds).unwrap(), 3);
        assert_eq!(fds.len(), 3);
    }

    #[test]
    fn a_full_socket_writes_partly_and_then_would_block() {
        let (a, b) = Socket::pair().unwrap();
        setsockopt(&a, sockopt::SndBuf, &1).unwrap();
        let data = vec![7; 1 << 20];
        let n = a.send_nonblocking(&[IoSlice::new(&data)], &[]).unwrap();
        assert!(n < data.len());
        assert_eq!(a.send_nonblocking(&[IoSlice::new(&data)], &[]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut got = vec![0; data.len()];
        let mut read = 0;
        while read < n {
            read += b.recv(&mut got, &mut Vec::new()).unwrap();
        }
        assert_eq!(read, n);
        assert_eq!(b.recv_nonblocking(&mut got, &mut Vec::new()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        a.set_nonblocking(true).unwrap();
        assert_eq!(a.recv(&mut got, &mut Vec::new()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        a.set_nonblocking(false).unwrap();
    }

    #[test]
    fn a_closed_peer_is_the_end_or_an_error_but_no_signal() {
        let (a, b) = Socket::pair().unwrap();
        assert!(!b.poll_readable(Some(0)).unwrap());
        a.send(&[IoSlice::new(b"bye")], &[]).unwrap();
        assert!(b.poll_readable(Some(0)).unwrap());
        drop(a);
        assert!(b.poll_readable(None).unwrap());
        assert_eq!(b.recv(&mut [0; 8], &mut Vec::new()).unwrap(), 3);
        assert!(b.poll_readable(None).unwrap());
        assert_eq!(b.recv(&mut [0; 8], &mut Vec::new()).unwrap(), 0);
        assert_eq!(b.send(&[IoSlice::new(b"x")], &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn waiting_ends_when_the_peer_writes() {
        let (a, b) = Socket::pair().unwrap();
        let waiter = thread::spawn(move || b.poll_readable(None).unwrap());
        a.send(&[IoSlice::new(b"x")], &[]).unwrap();
        assert!(waiter.join().unwrap());
        let (_a, b) = Socket::pair().unwrap();
        assert!(!b.poll_readable(Some(2)).unwrap());
    }

    #[test]
    fn the_peer_of_a_pair_is_us() {
        let (a, _b) = Socket::pair().unwrap();
        assert_eq!(a.peer_uid().unwrap(), nix::unistd::geteuid().as_raw());
    }

    #[test]
    fn descriptors_lost_to_the_limit_are_an_error_and_none_leaks() {
        testing::run_child(&[], "ipc::socket::tests::child_descriptor_limit");
    }

    #[test]
    #[ignore = "run by descriptors_lost_to_the_limit_are_an_error_and_none_leaks"]
    fn child_descriptor_limit() {
        if !testing::is_child() {
            return;
        }
        let count = || std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        let (a, b) = Socket::pair().unwrap();
        a.send(&[IoSlice::new(b"x")], &[a.as_fd(); 50]).unwrap();
        let before = count();
        setrlimit(Resource::RLIMIT_NOFILE, before + 20, before + 20).unwrap();
        let mut fds = Vec::new();
        let error = b.recv(&mut [0; 8], &mut fds).unwrap_err();
        assert!(error.to_string().contains("ulimit -n"), "{error}");
        assert!(fds.is_empty());
        assert_eq!(count(), before);
    }
}
