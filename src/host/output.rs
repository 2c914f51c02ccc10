//! What tasks print, on its way to the program's own standard output and error.

use super::footer;
use super::queue::{Item, Queue};
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

/// Bytes of each stream that may wait.
const ROOM: usize = 16 << 20;
/// Pieces that are so short are put together.
const SHORT: usize = 4 << 10;
/// Up to this length.
const BLOCK: usize = 64 << 10;
/// How long a stream that takes nothing now, and does not wait, is left alone.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) static STDOUT: Queue<Text> = Queue::new("swath-stdout", ROOM, |text| footer::write(false, &text.0));
pub(super) static STDERR: Queue<Text> = Queue::new("swath-stderr", ROOM, |text| footer::write(true, &text.0));

/// Has bytes written to standard output or error. The answer is how long it would be better if no more came.
pub(crate) fn forward(stderr: bool, bytes: &[u8]) -> Duration {
    let stream = if stderr { &STDERR } else { &STDOUT };
    stream.push(Text(bytes.to_vec()))
}

/// How many line ends there are.
pub(crate) fn count_lines(bytes: &[u8]) -> usize {
    // Sums of bytes, of which the processor makes many at a time.
    let ends = |part: &[u8]| usize::from(part.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>());
    bytes.chunks(usize::from(u8::MAX)).map(ends).sum()
}

pub(super) struct Text(Vec<u8>);

#[derive(Default)]
pub(super) struct DroppedText {
    lines: u64,
    bytes: u64,
}

impl Item for Text {
    type Dropped = DroppedText;

    fn size(&self) -> usize {
        self.0.len()
    }

    fn append(&mut self, next: Self) -> Option<Self> {
        if next.0.len() > SHORT || self.0.len() + next.0.len() > BLOCK {
            return Some(next);
        }
        self.0.extend(next.0);
        None
    }

    fn drop_into(self, dropped: &mut DroppedText) {
        dropped.lines += count_lines(&self.0) as u64;
        dropped.bytes += self.0.len() as u64;
    }

    fn instead(DroppedText { lines, bytes }: DroppedText) -> Self {
        // The text before it may end within a line.
        Self(format!("\n… {lines} lines of tasks' output ({bytes} bytes) were dropped here, because they were not taken in time\n").into())
    }
}

/// Writes as much as the stream takes. What tasks print is theirs to print: a stream of ours that is closed is no reason
/// to stop.
pub(super) fn write(stream: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return,
            Ok(n) => bytes = &bytes[n..],
            Err(e) if !passes(&e) => return,
            Err(_) => {}
        }
    }
    while stream.flush().is_err_and(|e| passes(&e)) {}
}

/// Whether an error passes; some need a pause. Others may have set the stream not to block.
fn passes(e: &io::Error) -> bool {
    match e.kind() {
        ErrorKind::Interrupted => true,
        ErrorKind::WouldBlock => {
            std::thread::sleep(PAUSE);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Takes three bytes at a time, and every other time none.
    #[derive(Default)]
    struct Reluctant {
        taken: Vec<u8>,
        refuses: bool,
        flushed: usize,
    }

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.refuses = !self.refuses;
            if self.refuses {
                return Err(ErrorKind::WouldBlock.into());
            }
            let n = bytes.len().min(3);
            self.taken.extend(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.flushed += 1;
            if self.flushed == 1 { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn a_stream_that_takes_little_gets_all_of_it() {
        let mut stream = Reluctant::default();
        write(&mut stream, b"one\ntwo\nthree");
        assert_eq!((&*stream.taken, stream.flushed), (&b"one\ntwo\nthree"[..], 2));
    }

    #[test]
    fn lines_are_counted() {
        for (text, lines) in [("", 0), ("a", 0), ("a\nb\n", 2), (&"\n".repeat(1000), 1000), (&"x\n".repeat(500), 500)] {
            assert_eq!(count_lines(text.as_bytes()), lines);
        }
    }

    #[test]
    fn short_pieces_are_put_together() {
        let mut text = Text(b"a".to_vec());
        assert!(text.append(Text(b"b\n".to_vec())).is_none());
        assert_eq!(text.0, b"ab\n");
        assert_eq!(text.append(Text(vec![0; BLOCK])).unwrap().0.len(), BLOCK);
        let mut dropped = DroppedText::default();
        text.drop_into(&mut dropped);
        Text(b"\n\n".to_vec()).drop_into(&mut dropped);
        let told = String::from_utf8(Text::instead(dropped).0).unwrap();
        assert!(told.contains("3 lines") && told.contains("5 bytes"), "{told}");
    }
}
