//! Lines that tasks print and log, on their way into a recording.

use super::saved::{Event, EventKind};
use crate::error::{LogLine, OutputStream};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Bytes of lines that may wait to be recorded.
const ROOM: usize = 4 << 20;
/// What a line takes beside its text, about.
const BESIDE: usize = 200;
/// Bytes of a line at most; of a longer one, its beginning is recorded.
const LONGEST: usize = 16 << 10;

/// Holds lines until a recorder takes them, where there is one.
#[derive(Debug, Default)]
pub(crate) struct LineQueue {
    is_on: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<LogLine>,
    bytes: usize,
    dropped: u64,
}

impl LineQueue {
    /// Somebody takes lines from now on.
    pub(crate) fn turn_on(&self) {
        self.is_on.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Waits for nobody. A line that finds no room is counted.
    pub(crate) fn push(&self, line: LogLine) {
        let mut waiting = self.waiting.lock();
        let size = line.text.len() + BESIDE;
        if waiting.bytes + size > ROOM {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += size;
        waiting.lines.push(line);
    }

    /// The lines that have come since the last call, and how many there were no room for.
    pub(crate) fn take(&self) -> (Vec<LogLine>, u64) {
        let Waiting { lines, dropped, .. } = std::mem::take(&mut *self.waiting.lock());
        (lines, dropped)
    }
}

/// Makes lines of what a worker prints, as it comes.
#[derive(Debug, Default)]
pub(crate) struct LineCutter {
    /// Standard output and error.
    open: [Open; 2],
}

/// A line that has no end yet.
#[derive(Debug, Default)]
struct Open {
    bytes: Vec<u8>,
    tasks: Vec<String>,
    /// How much more of it there was.
    more: usize,
}

impl LineCutter {
    /// What a worker has printed then, in nanoseconds since 1970; each line that has its end now is told.
    pub(crate) fn cut(
        &mut self,
        worker: &str,
        stream: OutputStream,
        tasks: &[String],
        bytes: &[u8],
        time: u64,
        mut found: impl FnMut(LogLine),
    ) {
        let open = &mut self.open[stream as usize];
        for bytes in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            let taken = text.len().min(LONGEST - open.bytes.len());
            open.bytes.extend_from_slice(&text[..taken]);
            open.more += text.len() - taken;
            if open.tasks.is_empty() {
                open.tasks = tasks.to_vec();
            }
            if text.len() < bytes.len() {
                found(open.take(worker, stream, time, true));
            }
        }
    }

    /// The worker has ended, and with it its lines.
    pub(crate) fn end(&mut self, worker: &str, time: u64, mut found: impl FnMut(LogLine)) {
        for (open, stream) in self.open.iter_mut().zip([OutputStream::Stdout, OutputStream::Stderr]) {
            if !open.bytes.is_empty() {
                found(open.take(worker, stream, time, false));
            }
        }
    }
}

impl Open {
    fn take(&mut self, worker: &str, stream: OutputStream, time: u64, ended: bool) -> LogLine {
        let Self { bytes, tasks, more } = std::mem::take(self);
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if more > 0 {
            text.push_str(&format!(" … ({more} bytes more)"));
        }
        let plain = LogLine::logged(if stream == OutputStream::Stderr { worker } else { "" }, &text, time);
        let tasks = if plain.level.is_some() { plain.tasks.clone() } else { tasks };
        LogLine { worker: worker.to_string(), stream, tasks, ended, cut: more > 0, ..plain }
    }
}

/// A line as it is saved in a log that began then.
pub(crate) fn line_event(line: LogLine, started: SystemTime) -> Event {
    let kind = line.kind();
    let LogLine { worker, target, mut tasks, text, time, .. } = line;
    let began = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = Duration::from_nanos(time).saturating_sub(began);
    let key = if tasks.len() == 1 { tasks.pop() } else { None };
    Event::new(at, EventKind::Line { worker, key, tasks, level: kind, target, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};

    fn cut(cutter: &mut LineCutter, stream: OutputStream, task: &str, bytes: &[u8]) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let tasks = [task.to_string()];
        cutter.cut("w", stream, &tasks, bytes, 1, |line| lines.push((line.tasks.join("+"), line.text)));
        lines
    }

    fn told(lines: &[(&str, &str)]) -> Vec<(String, String)> {
        lines.iter().map(|(task, text)| (task.to_string(), text.to_string())).collect()
    }

    #[test]
    fn lines_are_told_when_they_end() {
        let mut cutter = LineCutter::default();
        assert_eq!(cut(&mut cutter, Stdout, "a", b"one\ntw"), told(&[("a", "one")]));
        assert_eq!(cut(&mut cutter, Stderr, "a", b"between\n"), told(&[("a", "between")]));
        assert_eq!(cut(&mut cutter, Stdout, "b", b"o\n\nop\xffen"), told(&[("a", "two"), ("b", "")]));
        let mut left = Vec::new();
        cutter.end("w", 2, |line| left.push((line.text, line.ended)));
        assert_eq!(left, [("op\u{fffd}en".to_string(), false)]);
    }

    #[test]
    fn of_a_long_line_the_beginning_is_kept() {
        let mut cutter = LineCutter::default();
        for _ in 0..1000 {
            assert!(cut(&mut cutter, Stderr, "a", &[b'x'; 1000]).is_empty());
        }
        assert!(cutter.open[1].bytes.len() <= LONGEST);
        let lines = cut(&mut cutter, Stderr, "a", b"\n");
        let more = 1_000_000 - LONGEST;
        assert!(lines[0].1.starts_with("xxx") && lines[0].1.ends_with(&format!("x … ({more} bytes more)")));
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let queue = LineQueue::default();
        let line = || LogLine::logged("w", &"x".repeat(10_000), 0);
        (0..1000).for_each(|_| queue.push(line()));
        let (lines, dropped) = queue.take();
        assert!(lines.len() > 300 && lines.len() as u64 + dropped == 1000);
        queue.push(line());
        assert_eq!((queue.take().0.len(), queue.take().1), (1, 0));
    }
}
