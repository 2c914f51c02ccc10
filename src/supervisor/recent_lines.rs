//! The most recent lines that a worker wrote.

use crate::LogLine;
use crate::OutputStream;
use std::collections::VecDeque;

/// How much of a worker's output is kept, in bytes.
const ROOM: usize = 64 << 10;

/// Takes in output as it comes, and keeps the last of it.
#[derive(Debug, Default)]
pub(crate) struct RecentLines {
    lines: VecDeque<Line>,
    bytes: usize,
}

#[derive(Debug)]
struct Line {
    stream: OutputStream,
    tasks: Vec<String>,
    text: String,
    ended: bool,
}

impl RecentLines {
    pub(crate) fn push(&mut self, stream: OutputStream, tasks: &[String], bytes: &[u8]) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let text = String::from_utf8_lossy(piece);
            let (text, ended) = match text.strip_suffix('\n') {
                Some(text) => (text, true),
                None => (&*text, false),
            };
            self.bytes += text.len();
            // A line may come in pieces, and not all of the same task's.
            match self.lines.iter_mut().rev().find(|l| l.stream == stream) {
                Some(open) if !open.ended => {
                    open.text.push_str(text);
                    open.ended = ended;
                    for task in tasks {
                        if !open.tasks.contains(task) {
                            open.tasks.push(task.clone());
                        }
                    }
                }
                _ => self.lines.push_back(Line { stream, tasks: tasks.to_vec(), text: text.to_string(), ended }),
            }
        }
        while self.bytes > ROOM && self.lines.len() > 1 {
            self.bytes -= self.lines.pop_front().map_or(0, |l| l.text.len());
        }
        if let (true, Some(only)) = (self.bytes > ROOM, self.lines.front_mut()) {
            let cut = only.text.ceil_char_boundary(only.text.len() - ROOM);
            only.text.drain(..cut);
            self.bytes = only.text.len();
        }
    }

    /// The lines, oldest first.
    pub(crate) fn lines(&self, worker: &str) -> Vec<LogLine> {
        let line = |l: &Line| LogLine {
            worker: worker.to_string(),
            stream: l.stream,
            tasks: l.tasks.clone(),
            text: l.text.clone(),
        };
        self.lines.iter().map(line).collect()
    }

    /// The texts of the last lines.
    pub(crate) fn last(&self, n: usize) -> Vec<String> {
        self.lines.iter().skip(self.lines.len().saturating_sub(n)).map(|l| l.text.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};

    fn seen(recent: &RecentLines) -> Vec<(OutputStream, String, String)> {
        recent.lines("w").into_iter().map(|l| (l.stream, l.tasks.join("+"), l.text)).collect()
    }

    #[test]
    fn lines_in_pieces_are_put_together() {
        let mut recent = RecentLines::default();
        let task = |name: &str| vec![name.to_string()];
        recent.push(Stdout, &task("a"), b"one\ntw");
        recent.push(Stderr, &task("a"), b"other\n");
        recent.push(Stdout, &task("b"), b"o\n\nthree");
        let wanted = [
            (Stdout, "a", "one"),
            (Stdout, "a+b", "two"),
            (Stderr, "a", "other"),
            (Stdout, "b", ""),
            (Stdout, "b", "three"),
        ];
        assert_eq!(seen(&recent), wanted.map(|(s, t, l)| (s, t.to_string(), l.to_string())));
        assert_eq!(recent.last(2), ["", "three"]);
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut recent = RecentLines::default();
        for i in 0..100_000 {
            recent.push(Stdout, &[], format!("line {i}\n").as_bytes());
        }
        let lines = seen(&recent);
        assert_eq!(lines.last().map(|l| l.2.as_str()), Some("line 99999"));
        let total: usize = lines.iter().map(|l| l.2.len()).sum();
        assert!(total <= ROOM && total > ROOM / 2, "{total}");
        for _ in 0..3 {
            recent.push(Stdout, &[], "ä".repeat(ROOM).as_bytes());
        }
        let lines = seen(&recent);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].2.len() <= ROOM && lines[0].2.len() > ROOM - 4);
    }
}
