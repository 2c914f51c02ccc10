//! Output that a worker has taken out of a pipe and not yet told of, on its control page. Were it only in the worker's
//! own memory, the last words of a process that dies at that moment would be neither in the pipe nor in a message.

use nix::errno::Errno;
use nix::libc;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes at a time: as many as there is room for on a control page of three pages of memory.
pub(crate) const CHUNK: usize = 7 << 10;
/// They lie in words, of which as many as are needed are emptied and read.
const WORD: usize = size_of::<AtomicU64>();

/// The length of a chunk that is being read.
const UNKNOWN: u64 = 0xffff;

/// A chunk of output, numbered from 1, so that whoever is told of it in two ways takes it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputChunk {
    pub(crate) number: u64,
    pub(crate) stderr: bool,
    pub(crate) bytes: Vec<u8>,
}

/// One writer at a time; readers come when it is dead.
#[repr(C)]
pub(crate) struct CapturedOutput {
    /// The chunk's number, then a bit for its stream, then its length in 16 bits. 0 in the length: nothing is captured.
    state: AtomicU64,
    /// How many bytes have been written to since they were all 0.
    used: AtomicU64,
    words: [AtomicU64; CHUNK / WORD],
}

const _: () = assert!((CHUNK as u64) < UNKNOWN);

impl CapturedOutput {
    /// Reads what is in a pipe, straight into this memory. `None`: nothing is there, or nothing more will come.
    pub(crate) fn take(&self, pipe: &impl AsFd, stderr: bool) -> io::Result<Option<OutputChunk>> {
        let number = (self.state.load(Ordering::Relaxed) >> 17) + 1;
        let state = |length: u64| number << 17 | u64::from(stderr) << 16 | length;
        let used = self.used.load(Ordering::Relaxed) as usize;
        self.words.iter().take(used.div_ceil(WORD)).for_each(|word| word.store(0, Ordering::Relaxed));
        // Seen before the bytes are, so that they are not lost with a process that dies behind the read.
        self.state.store(state(UNKNOWN), Ordering::Release);
        // SAFETY: the memory is `CHUNK` bytes long, lives as long as `self`, and consists of atomics, so it may change
        // while references to it exist. The kernel writes bytes, of which any are valid.
        let read = unsafe { libc::read(pipe.as_fd().as_raw_fd(), self.words[0].as_ptr().cast(), CHUNK) };
        match Errno::result(read) {
            Ok(n @ 1..) => {
                self.used.store(n as u64, Ordering::Relaxed);
                self.state.store(state(n as u64), Ordering::Release);
                Ok(Some(OutputChunk { number, stderr, bytes: self.bytes(n as usize) }))
            }
            nothing => {
                self.told();
                nothing.map(|_| None).map_err(io::Error::from)
            }
        }
    }

    /// The first bytes.
    fn bytes(&self, length: usize) -> Vec<u8> {
        let length = length.min(CHUNK);
        let mut bytes = Vec::with_capacity(length.next_multiple_of(WORD));
        let words = self.words.iter().take(length.div_ceil(WORD));
        words.for_each(|word| bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()));
        bytes.truncate(length);
        bytes
    }

    /// The chunk has been told of.
    pub(crate) fn told(&self) {
        self.state.store(self.state.load(Ordering::Relaxed) & !0xffff, Ordering::Release);
    }

    /// What was captured, and not yet told of, when the process died.
    pub(crate) fn left(&self) -> Option<OutputChunk> {
        let state = self.state.load(Ordering::Acquire);
        let (number, stderr) = (state >> 17, state >> 16 & 1 == 1);
        let bytes = match state & 0xffff {
            // The memory was empty before.
            UNKNOWN => {
                let mut bytes = self.bytes(CHUNK);
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
                bytes
            }
            length => self.bytes(length as usize),
        };
        (!bytes.is_empty()).then_some(OutputChunk { number, stderr, bytes })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn empty() -> CapturedOutput {
        let words = [const { AtomicU64::new(0) }; CHUNK / WORD];
        CapturedOutput { state: AtomicU64::new(0), used: AtomicU64::new(0), words }
    }

    #[test]
    fn a_piece_is_there_until_it_is_told() {
        let (from, mut to) = io::pipe().unwrap();
        let captured = empty();
        assert_eq!(captured.left(), None);
        to.write_all(b"one").unwrap();
        let chunk = captured.take(&from, true).unwrap();
        assert_eq!(chunk, Some(OutputChunk { number: 1, stderr: true, bytes: b"one".to_vec() }));
        assert_eq!(captured.left(), chunk);
        captured.told();
        assert_eq!(captured.left(), None);
        to.write_all(&[b'x'; CHUNK + 1]).unwrap();
        let whole = captured.take(&from, false).unwrap().unwrap();
        assert_eq!((whole.number, whole.stderr, whole.bytes.len()), (2, false, CHUNK));
        assert_eq!(captured.take(&from, false).unwrap().unwrap().bytes, b"x");
        assert!(captured.words[1..].iter().all(|word| word.load(Ordering::Relaxed) == 0));
        drop(to);
        assert_eq!(captured.take(&from, false).unwrap(), None);
        assert_eq!(captured.left(), None);
    }

    #[test]
    fn what_was_read_when_the_process_died_is_left() {
        let captured = empty();
        captured.state.store(7 << 17 | UNKNOWN, Ordering::Relaxed);
        assert_eq!(captured.left(), None, "it died before the read");
        captured.words[0].store(u64::from_ne_bytes(*b"so long\n"), Ordering::Relaxed);
        assert_eq!(captured.left(), Some(OutputChunk { number: 7, stderr: false, bytes: b"so long\n".to_vec() }));
        // Nonsense of a process that went wild.
        captured.state.store(u64::MAX - 1, Ordering::Relaxed);
        assert_eq!(captured.left().unwrap().bytes.len(), CHUNK);
    }
}
