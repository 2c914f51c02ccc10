//! Frames: how messages and their descriptors are cut out of a byte stream, and queued to go into one.
//!
//! A frame is a 16-byte header (magic, version, kind, number of descriptors, length; little endian) and a body. Its
//! descriptors travel with its first byte. What the kernel promises about them, and the decoder's checks rest on:
//! descriptors are received together with the byte they were sent with or in the same read as bytes before it, never
//! later; and one read never returns the descriptors of two sends.
//!
//! A frame may have more descriptors than the kernel takes in one message. The first of them then go ahead in *carriers*:
//! headers marked as such, without a body, whose descriptors belong to the frame behind them.

use crate::ipc::segment::listing::{self, Shown};
use crate::ipc::segment::{FileId, MemoryFile, Segment};
use crate::ipc::socket::Socket;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Longest body on a link between a supervisor and its own workers.
pub(crate) const MAX_FRAME: u64 = 1 << 30;
/// Most descriptors that travel together: what the kernel takes in one message.
pub(crate) const MAX_FDS: usize = 253;
/// Most descriptors of one frame, carriers included.
pub(crate) const MOST_FDS: usize = 1 << 14;

const MAGIC: u16 = 0x5357;
const VERSION: u8 = 1;
const HEADER: usize = 16;

/// Frames up to this size are received in a buffer that is used again; a larger one in its own.
const BUFFER: usize = 64 << 10;
/// Reading into less than this is not worth a system call.
const MIN_SPARE: usize = 4 << 10;
/// Parts of one write. More would not make it cheaper.
const MAX_SLICES: usize = 64;

/// One message.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// What the body means is not known here.
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Why a stream of frames can't be read on, or a frame not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("what arrived is no frame of swath (it starts with {0:#06x})")]
    Magic(u16),
    #[error("the peer speaks version {0} of the protocol, this is version {VERSION}: use the same version of swath")]
    Version(u8),
    #[error("a frame is marked with {0:#06x}, which means nothing")]
    Mark(u16),
    #[error("a frame of {len} bytes is longer than the {max} allowed here")]
    TooLong { len: u64, max: u64 },
    #[error("a frame with {0} file descriptors has too many")]
    TooManyDescriptors(usize),
    #[error("a frame came with {got} file descriptors instead of {claimed}")]
    MissingDescriptors { claimed: usize, got: usize },
    #[error("{0} file descriptors came that belong to no frame")]
    StrayDescriptors(usize),
    #[error("no memory for a frame of {0} bytes")]
    Memory(u64),
    #[error("the stream ended inside a frame")]
    Truncated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    kind: u8,
    fds: usize,
    len: usize,
    carrier: bool,
}

impl Header {
    fn encode(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        out[2] = VERSION;
        out[3] = self.kind;
        out[4..6].copy_from_slice(&(self.fds as u16).to_le_bytes());
        out[6..8].copy_from_slice(&u16::from(self.carrier).to_le_bytes());
        out[8..16].copy_from_slice(&(self.len as u64).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; HEADER], max_len: u64) -> Result<Self, FrameError> {
        let u16_at = |i: usize| u16::from_le_bytes([bytes[i], bytes[i + 1]]);
        let [.., a, b, c, d, e, f, g, h] = *bytes;
        let len = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let fds = usize::from(u16_at(4));
        if u16_at(0) != MAGIC {
            return Err(FrameError::Magic(u16_at(0)));
        }
        if bytes[2] != VERSION {
            return Err(FrameError::Version(bytes[2]));
        }
        let carrier = match u16_at(6) {
            0 => false,
            1 if len == 0 => true,
            mark => return Err(FrameError::Mark(mark)),
        };
        if fds > MAX_FDS {
            return Err(FrameError::TooManyDescriptors(fds));
        }
        if len > max_len {
            return Err(FrameError::TooLong { len, max: max_len });
        }
        Ok(Self { kind: bytes[3], fds, len: len as usize, carrier })
    }
}

/// A frame too large for the common buffer, on its way in.
#[derive(Debug)]
struct Partial {
    header: Header,
    body: Vec<u8>,
    filled: usize,
    fds: Vec<OwnedFd>,
}

impl Partial {
    fn missing(&self) -> usize {
        self.header.len - self.filled
    }
}

/// What is cut out of the stream.
enum Part {
    Whole(Frame),
    Carrier(Vec<OwnedFd>),
}

/// Turns received bytes and descriptors into frames. Does no I/O: the socket reads into [`spare_mut`](Self::spare_mut).
///
/// After an error it stays failed. Descriptors no frame took are closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Decoder {
    max_len: u64,
    /// Bytes received and not yet made frames are `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Precedes everything in `buffer`.
    partial: Option<Partial>,
    fds: VecDeque<OwnedFd>,
    /// Descriptors that came ahead of their frame.
    carried: Vec<OwnedFd>,
    failed: Option<FrameError>,
}

impl Decoder {
    /// Refuses frames whose body is longer than `max_len`.
    pub(crate) fn new(max_len: u64) -> Self {
        Self {
            // What the decoder allocates is limited by what arrives, so only a sane length needs to be kept.
            max_len: max_len.min(isize::MAX as u64),
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            partial: None,
            fds: VecDeque::new(),
            carried: Vec::new(),
            failed: None,
        }
    }

    /// Where to put the bytes received next. Never empty. Say with [`advance`](Self::advance) how many there are.
    pub(crate) fn spare_mut(&mut self) -> &mut [u8] {
        if let Err(e) = self.make_spare() {
            self.fail(e);
        }
        match &mut self.partial {
            Some(p) if p.missing() > 0 => &mut p.body[p.filled..],
            _ => &mut self.buffer[self.end..],
        }
    }

    fn make_spare(&mut self) -> Result<(), FrameError> {
        if let Some(p) = &mut self.partial
            && p.missing() > 0
        {
            if p.filled == p.body.len() {
                // Doubling: a header's claim alone gets no memory, bytes that really came do.
                let step = p.filled.max(BUFFER).min(p.missing());
                p.body.try_reserve_exact(step).map_err(|_| FrameError::Memory(p.header.len as u64))?;
                p.body.resize(p.filled + step, 0);
            }
            return Ok(());
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > BUFFER {
                self.buffer = vec![0; BUFFER];
            }
        }
        if self.buffer.len() - self.end < MIN_SPARE && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < MIN_SPARE {
            let step = self.buffer.len();
            self.buffer.try_reserve_exact(step).map_err(|_| FrameError::Memory(2 * step as u64))?;
            self.buffer.resize(2 * step, 0);
        }
        Ok(())
    }

    /// The first `n` bytes of the spare room have been filled, and `fds` came with them.
    ///
    /// # Panics
    /// If there was less room than `n`.
    pub(crate) fn advance(&mut self, n: usize, fds: impl IntoIterator<Item = OwnedFd>) {
        if self.failed.is_some() {
            return;
        }
        self.fds.extend(fds);
        match &mut self.partial {
            Some(p) if p.missing() > 0 => {
                assert!(n <= p.body.len() - p.filled, "more bytes than there was room for");
                p.filled += n;
            }
            _ => {
                assert!(n <= self.buffer.len() - self.end, "more bytes than there was room for");
                self.end += n;
            }
        }
    }

    /// Copies `bytes` in, for callers that have them elsewhere.
    #[cfg(test)]
    pub(crate) fn feed(&mut self, mut bytes: &[u8], fds: impl IntoIterator<Item = OwnedFd>) {
        self.advance(0, fds);
        while !bytes.is_empty() && self.failed.is_none() {
            let spare = self.spare_mut();
            let n = spare.len().min(bytes.len());
            spare[..n].copy_from_slice(&bytes[..n]);
            self.advance(n, []);
            bytes = &bytes[n..];
        }
    }

    /// The next whole frame. `None` means that more bytes are needed; call it until then after each read.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(e) = &self.failed {
            return Err(e.clone());
        }
        self.step().inspect_err(|e| self.fail(e.clone()))
    }

    /// To be called when the stream has ended: an error if it ended inside a frame.
    pub(crate) fn finish(&self) -> Result<(), FrameError> {
        match &self.failed {
            Some(e) => Err(e.clone()),
            None if self.start < self.end
                || self.partial.is_some()
                || !self.fds.is_empty()
                || !self.carried.is_empty() =>
            {
                Err(FrameError::Truncated)
            }
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: FrameError) {
        (self.start, self.end) = (0, 0);
        self.partial = None;
        self.fds.clear();
        self.carried.clear();
        self.failed = Some(error);
    }

    fn step(&mut self) -> Result<Option<Frame>, FrameError> {
        while let Some(frame) = self.part()? {
            match frame {
                Part::Carrier(fds) if self.carried.len() + fds.len() > MOST_FDS => {
                    return Err(FrameError::TooManyDescriptors(self.carried.len() + fds.len()));
                }
                Part::Carrier(fds) => self.carried.extend(fds),
                Part::Whole(frame) if self.carried.is_empty() => return Ok(Some(frame)),
                Part::Whole(mut frame) => {
                    let mut fds = std::mem::take(&mut self.carried);
                    fds.append(&mut frame.fds);
                    return Ok(Some(Frame { fds, ..frame }));
                }
            }
        }
        Ok(None)
    }

    fn part(&mut self) -> Result<Option<Part>, FrameError> {
        if let Some(p) = self.partial.take() {
            if p.missing() > 0 {
                self.partial = Some(p);
                return self.wait_with(0);
            }
            return Ok(Some(Part::Whole(Frame { kind: p.header.kind, body: p.body, fds: p.fds })));
        }
        let have = &self.buffer[self.start..self.end];
        let Some(head) = have.first_chunk() else {
            return self.wait_with(if have.is_empty() { 0 } else { MAX_FDS });
        };
        let header = Header::decode(head, self.max_len)?;
        if self.fds.len() < header.fds {
            return Err(FrameError::MissingDescriptors { claimed: header.fds, got: self.fds.len() });
        }
        let rest = &have[HEADER..];
        if rest.len() >= header.len {
            let body = rest[..header.len].to_vec();
            self.start += HEADER + header.len;
            let fds = self.fds.drain(..header.fds).collect();
            if header.carrier {
                return Ok(Some(Part::Carrier(fds)));
            }
            return Ok(Some(Part::Whole(Frame { kind: header.kind, body, fds })));
        }
        if header.len + HEADER > BUFFER {
            let (body, filled) = (rest.to_vec(), rest.len());
            let fds = self.fds.drain(..header.fds).collect();
            (self.start, self.end) = (0, 0);
            self.partial = Some(Partial { header, body, filled, fds });
            return self.wait_with(0);
        }
        self.wait_with(header.fds)
    }

    /// Every byte there is has been read, so at most the descriptors of the frame that is arriving may be here.
    fn wait_with(&self, claimed: usize) -> Result<Option<Part>, FrameError> {
        match self.fds.len() {
            n if n > claimed => Err(FrameError::StrayDescriptors(n - claimed)),
            _ => Ok(None),
        }
    }
}

/// A descriptor to be sent: one to give away, or that of a memory file.
#[derive(Debug)]
pub(crate) enum Descriptor {
    Owned(OwnedFd),
    /// One that has a descriptor.
    File(Arc<MemoryFile>),
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Self {
        Self::Owned(fd)
    }
}

impl Descriptor {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Owned(fd) => Some(fd.as_fd()),
            Self::File(file) => file.fd(),
        }
    }
}

#[derive(Debug)]
struct Item {
    header: [u8; HEADER],
    body: Vec<u8>,
    fds: Vec<Descriptor>,
}

/// Frames that wait to be sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: VecDeque<Item>,
    /// Bytes of the front frame that have been sent, and its descriptors with them.
    sent: usize,
    bytes: usize,
    shown: Shown,
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait, headers included.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message with its segments: their list goes behind its bytes, and the descriptors of the files that the peer
    /// has not been shown go along. Nothing is sent before [`flush`](Self::flush).
    pub(crate) fn push_message(
        &mut self,
        kind: u8,
        mut body: Vec<u8>,
        segments: &[Arc<Segment>],
    ) -> Result<(), FrameError> {
        // What cannot be sent shows nothing.
        let len = body.len().saturating_add(listing::most_len(segments.len())) as u64;
        if len > MAX_FRAME {
            return Err(FrameError::TooLong { len, max: MAX_FRAME });
        }
        let files = self.shown.append(&mut body, segments);
        self.push(kind, body, files.into_iter().map(Descriptor::File).collect())
    }

    /// These files have ended, and none of their segments is sent again.
    pub(crate) fn forget(&mut self, files: &[FileId]) {
        self.shown.forget(files);
    }

    /// Adds a frame. Nothing is sent before [`flush`](Self::flush).
    pub(crate) fn push(
        &mut self,
        kind: u8,
        body: impl Into<Vec<u8>>,
        mut fds: Vec<Descriptor>,
    ) -> Result<(), FrameError> {
        let body = body.into();
        if fds.len() > MOST_FDS {
            return Err(FrameError::TooManyDescriptors(fds.len()));
        }
        if body.len() as u64 > MAX_FRAME {
            return Err(FrameError::TooLong { len: body.len() as u64, max: MAX_FRAME });
        }
        while fds.len() > MAX_FDS {
            let rest = fds.split_off(MAX_FDS);
            self.add(0, true, Vec::new(), std::mem::replace(&mut fds, rest));
        }
        self.add(kind, false, body, fds);
        Ok(())
    }

    fn add(&mut self, kind: u8, carrier: bool, body: Vec<u8>, fds: Vec<Descriptor>) {
        let header = Header { kind, fds: fds.len(), len: body.len(), carrier }.encode();
        self.bytes += HEADER + body.len();
        self.queue.push_back(Item { header, body, fds });
    }

    /// Sends what the socket takes without waiting. True means that nothing is left, false that the socket is full.
    pub(crate) fn flush(&mut self, socket: &Socket) -> io::Result<bool> {
        while !self.is_empty() {
            match self.send_some(|slices, fds| socket.send_nonblocking(slices, fds)) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Sends everything, waiting for room. For a socket in blocking mode.
    pub(crate) fn flush_all(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.is_empty() {
            self.send_some(|slices, fds| socket.send(slices, fds))?;
        }
        Ok(())
    }

    /// One write: the front frame, and those behind it that have no descriptors.
    fn send_some(
        &mut self,
        send: impl FnOnce(&[IoSlice<'_>], &[BorrowedFd<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut slices: SmallVec<[IoSlice<'_>; MAX_SLICES]> = SmallVec::new();
        let mut fds: SmallVec<[BorrowedFd<'_>; 16]> = SmallVec::new();
        let mut skip = self.sent;
        for (i, item) in self.queue.iter().enumerate() {
            if i == 0 {
                if skip == 0 {
                    fds.extend(item.fds.iter().filter_map(Descriptor::fd));
                }
            } else if !item.fds.is_empty() || slices.len() + 2 > MAX_SLICES {
                break;
            }
            for part in [&item.header[..], &item.body[..]] {
                let sent = skip.min(part.len());
                skip -= sent;
                if sent < part.len() {
                    slices.push(IoSlice::new(&part[sent..]));
                }
            }
        }
        let n = send(&slices, &fds)?;
        drop((slices, fds));
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes -= n;
        self.sent += n;
        while let Some(front) = self.queue.front() {
            let len = HEADER + front.body.len();
            if self.sent < len {
                break;
            }
            self.sent -= len;
            self.queue.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::sys::socket::{setsockopt, sockopt};
    use proptest::prelude::*;
    use std::thread;

    fn bytes_of(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, body) in frames {
            out.extend(Header { kind: *kind, fds: 0, len: body.len(), carrier: false }.encode());
            out.extend(body);
        }
        out
    }

    fn fd() -> OwnedFd {
        Socket::pair().unwrap().0.into()
    }

    fn all(decoder: &mut Decoder) -> Vec<(u8, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some(f) = decoder.next().unwrap() {
            out.push((f.kind, f.body));
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_come_back_however_they_are_cut(
            frames in prop::collection::vec((any::<u8>(), prop_oneof![
                4 => prop::collection::vec(any::<u8>(), 0..200),
                1 => (0usize..300_000).prop_map(|n| vec![n as u8; n]),
            ]), 0..12),
            cuts in prop::collection::vec(1usize..100_000, 1..8),
        ) {
            let bytes = bytes_of(&frames);
            let mut decoder = Decoder::new(MAX_FRAME);
            let (mut got, mut rest, mut cuts) = (Vec::new(), &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                decoder.feed(now, []);
                got.extend(all(&mut decoder));
                rest = later;
            }
            prop_assert_eq!(&got, &frames);
            prop_assert_eq!(decoder.finish(), Ok(()));
            // All at once, and asked only then.
            let mut decoder = Decoder::new(MAX_FRAME);
            decoder.feed(&bytes, []);
            prop_assert_eq!(all(&mut decoder), frames);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400), valid in any::<bool>()) {
            let mut decoder = Decoder::new(1000);
            if valid {
                decoder.feed(&[0x57, 0x53, VERSION], []);
            }
            decoder.feed(&bytes, []);
            while let Ok(Some(_)) = decoder.next() {}
            prop_assert!(decoder.buffer.len() <= BUFFER && decoder.partial.is_none());
        }

        #[test]
        fn any_way_of_writing_sends_the_same(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..100), 0usize..3), 1..60),
            takes in prop::collection::vec(1usize..300, 1..8),
        ) {
            let mut outgoing = Outgoing::new();
            for (kind, body, fds) in &frames {
                outgoing.push(*kind, &body[..], (0..*fds).map(|_| fd().into()).collect()).unwrap();
            }
            let mut decoder = Decoder::new(MAX_FRAME);
            let (mut takes, mut got) = (takes.iter().cycle(), Vec::new());
            while !outgoing.is_empty() {
                outgoing.send_some(|slices, fds| {
                    let bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
                    let n = bytes.len().min(*takes.next().unwrap());
                    decoder.feed(&bytes[..n], fds.iter().map(|f| f.try_clone_to_owned().unwrap()));
                    Ok(n)
                }).unwrap();
                while let Some(f) = decoder.next().unwrap() {
                    got.push((f.kind, f.body, f.fds.len()));
                }
            }
            prop_assert_eq!(outgoing.len_bytes(), 0);
            prop_assert_eq!(decoder.finish(), Ok(()));
            prop_assert_eq!(got, frames);
        }
    }

    #[test]
    fn malformed_headers_are_named_and_stay_errors() {
        let good = Header { kind: 1, fds: 0, len: 10, carrier: false }.encode();
        let with = |i: usize, v: u8| {
            let mut h = good;
            h[i] = v;
            h
        };
        for (bytes, error) in [
            (with(0, 0), FrameError::Magic(0x5300)),
            (with(2, 9), FrameError::Version(9)),
            (with(6, 1), FrameError::Mark(1)),
            (with(7, 1), FrameError::Mark(0x100)),
            (with(4, 254), FrameError::TooManyDescriptors(254)),
            (with(8, 101), FrameError::TooLong { len: 101, max: 100 }),
            (with(4, 2), FrameError::MissingDescriptors { claimed: 2, got: 0 }),
        ] {
            let mut decoder = Decoder::new(100);
            decoder.feed(&bytes, []);
            assert_eq!(decoder.next().unwrap_err(), error);
            decoder.feed(&bytes_of(&[(1, vec![])]), [fd()]);
            assert_eq!(decoder.next().unwrap_err(), error);
            assert_eq!(decoder.finish().unwrap_err(), error);
            assert!(decoder.fds.is_empty());
        }
    }

    #[test]
    fn a_claimed_length_gets_no_memory_before_its_bytes() {
        let mut decoder = Decoder::new(MAX_FRAME);
        decoder.feed(&Header { kind: 1, fds: 0, len: 1 << 30, carrier: false }.encode(), []);
        assert!(decoder.next().unwrap().is_none());
        assert!(decoder.spare_mut().len() <= BUFFER);
        decoder.feed(&[1; 1000], []);
        assert!(decoder.partial.as_ref().unwrap().body.capacity() <= 2 * BUFFER);
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }

    #[test]
    fn descriptors_without_a_frame_are_refused() {
        let mut decoder = Decoder::new(100);
        decoder.feed(&[], [fd()]);
        assert_eq!(decoder.next().unwrap_err(), FrameError::StrayDescriptors(1));

        let mut decoder = Decoder::new(100);
        decoder.feed(&Header { kind: 1, fds: 1, len: 4, carrier: false }.encode(), [fd(), fd(), fd()]);
        assert_eq!(decoder.next().unwrap_err(), FrameError::StrayDescriptors(2));

        let mut decoder = Decoder::new(MAX_FRAME);
        decoder.feed(&Header { kind: 1, fds: 0, len: 1 << 20, carrier: false }.encode(), []);
        assert!(decoder.next().unwrap().is_none());
        decoder.feed(&[0; 10], [fd()]);
        assert_eq!(decoder.next().unwrap_err(), FrameError::StrayDescriptors(1));
    }

    #[test]
    fn descriptors_no_frame_took_are_closed() {
        let (a, b) = Socket::pair().unwrap();
        let mut decoder = Decoder::new(100);
        decoder.feed(&Header { kind: 1, fds: 1, len: 4, carrier: false }.encode(), [a.into()]);
        assert!(decoder.next().unwrap().is_none());
        drop(decoder);
        assert_eq!(b.recv(&mut [0; 1], &mut Vec::new()).unwrap(), 0);
    }

    #[test]
    fn too_much_is_refused_at_the_sender() {
        let mut outgoing = Outgoing::new();
        let body = vec![0; MAX_FRAME as usize + 1];
        assert!(matches!(outgoing.push(0, body, Vec::new()), Err(FrameError::TooLong { .. })));
        assert!(outgoing.is_empty());
    }

    #[test]
    fn more_descriptors_than_one_message_takes_arrive_with_their_frame_in_order() {
        let (a, b) = Socket::pair().unwrap();
        let (x, y) = (std::fs::File::open("/dev/null").unwrap(), std::fs::File::open("/dev/zero").unwrap());
        // The device tells which it is.
        let device = |fd: &OwnedFd| nix::sys::stat::fstat(fd).unwrap().st_rdev;
        let (null, zero) = (device(&OwnedFd::from(x)), device(&OwnedFd::from(y)));
        let open = |n: usize| std::fs::File::open(if n % 7 == 3 { "/dev/zero" } else { "/dev/null" }).unwrap();
        let mut outgoing = Outgoing::new();
        let fds = (0..2 * MAX_FDS + 20).map(|n| Descriptor::Owned(open(n).into())).collect();
        outgoing.push(7, b"many".to_vec(), fds).unwrap();
        outgoing.push(8, b"none".to_vec(), Vec::new()).unwrap();
        let sender = std::thread::spawn(move || outgoing.flush_all(&a).unwrap());
        let mut decoder = Decoder::new(100);
        let mut frames = Vec::new();
        while frames.len() < 2 {
            let mut fds = Vec::new();
            let n = b.recv(decoder.spare_mut(), &mut fds).unwrap();
            decoder.advance(n, fds);
            while let Some(frame) = decoder.next().unwrap() {
                frames.push(frame);
            }
        }
        sender.join().unwrap();
        decoder.finish().unwrap();
        assert_eq!((frames[0].kind, frames[0].body.as_slice()), (7, &b"many"[..]));
        let devices: Vec<_> = frames[0].fds.iter().map(device).collect();
        let expected: Vec<_> = (0..2 * MAX_FDS + 20).map(|n| if n % 7 == 3 { zero } else { null }).collect();
        assert_eq!(devices, expected);
        assert_eq!((frames[1].kind, frames[1].fds.len()), (8, 0));
    }

    #[test]
    fn carriers_without_a_frame_are_the_end_in_the_middle_and_have_no_body() {
        let carrier = Header { kind: 0, fds: 1, len: 0, carrier: true }.encode();
        let mut decoder = Decoder::new(100);
        decoder.feed(&carrier, [fd()]);
        assert!(decoder.next().unwrap().is_none());
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
        let mut decoder = Decoder::new(100);
        decoder.feed(&Header { kind: 0, fds: 0, len: 3, carrier: true }.encode(), []);
        assert_eq!(decoder.next().unwrap_err(), FrameError::Mark(1));
    }

    #[test]
    fn small_frames_share_a_write_and_descriptors_start_one() {
        let mut outgoing = Outgoing::new();
        for fds in [0, 0, 1, 0, 1] {
            outgoing.push(7, [1, 2, 3], (0..fds).map(|_| fd().into()).collect()).unwrap();
        }
        assert_eq!(outgoing.len_bytes(), 5 * 19);
        let mut writes = Vec::new();
        while !outgoing.is_empty() {
            let write = |slices: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]| {
                let n = slices.iter().map(|s| s.len()).sum();
                writes.push((n, fds.len()));
                Ok(n)
            };
            outgoing.send_some(write).unwrap();
        }
        assert_eq!(writes, [(38, 0), (38, 1), (19, 1)]);
    }

    #[test]
    fn a_narrow_socket_carries_everything_in_order() {
        let (a, b) = Socket::pair().unwrap();
        setsockopt(&a, sockopt::SndBuf, &1).unwrap();
        let frames: Vec<(u8, Vec<u8>)> =
            (0..40u8).map(|i| (i, vec![i; if i % 7 == 0 { 200_000 } else { 300 * i as usize }])).collect();
        let expected = frames.clone();
        let reader = thread::spawn(move || {
            let (mut decoder, mut fds, mut got, mut with) = (Decoder::new(MAX_FRAME), Vec::new(), Vec::new(), 0);
            loop {
                let n = b.recv(decoder.spare_mut(), &mut fds).unwrap();
                if n == 0 {
                    decoder.finish().unwrap();
                    return (got, with);
                }
                decoder.advance(n, fds.drain(..));
                while let Some(f) = decoder.next().unwrap() {
                    with += f.fds.len();
                    got.push((f.kind, f.body));
                }
            }
        });
        let mut outgoing = Outgoing::new();
        for (kind, body) in frames {
            let fds = (0..kind % 4).map(|_| fd().into()).collect();
            outgoing.push(kind, body, fds).unwrap();
            // What a full socket leaves is taken by the later flushes.
            outgoing.flush(&a).unwrap();
        }
        outgoing.flush_all(&a).unwrap();
        assert!(outgoing.is_empty() && outgoing.flush(&a).unwrap());
        drop(a);
        assert_eq!(reader.join().unwrap(), (expected, 60));
    }

    #[test]
    fn a_full_socket_is_no_error() {
        let (a, b) = Socket::pair().unwrap();
        let mut outgoing = Outgoing::new();
        outgoing.push(1, vec![0; 4 << 20], vec![]).unwrap();
        assert!(!outgoing.flush(&a).unwrap());
        assert!(outgoing.len_bytes() > 0);
        drop(b);
        assert!(outgoing.flush(&a).is_err());
    }
}
