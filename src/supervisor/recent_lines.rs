//! The most recent output of a worker: kept as it came, and cut into lines when somebody asks for them.

use crate::LogLine;
use crate::OutputStream;
use std::collections::VecDeque;

/// How much of a worker's output is kept, in bytes.
const ROOM: usize = 64 << 10;
/// Most pieces of it: each has the names of tasks beside it.
const PIECES: usize = 2048;
/// Most lines that are told of: short ones take more room then than their bytes here.
const LINES: usize = 4096;
/// Most tasks that are named as the origin of a line.
const NAMED: usize = 16;
/// Pieces of the same tasks are put together up to this length.
const PIECE: usize = 4 << 10;

/// Takes in output as it comes, and keeps the last of it. What that costs does not depend on what is kept.
#[derive(Debug, Default)]
pub(crate) struct RecentLines {
    pieces: VecDeque<Piece>,
    /// When it came: up to which of all bytes that ever came, and the time in milliseconds since 1970.
    times: VecDeque<(u64, u64)>,
    /// Bytes that ever came.
    came: u64,
    /// How much of the first piece is no longer kept.
    gone: usize,
    /// Bytes that are kept.
    bytes: usize,
    /// Standard output and error: what is kept of it begins within a line.
    cut: [bool; 2],
}

#[derive(Debug)]
struct Piece {
    stream: OutputStream,
    tasks: Vec<String>,
    bytes: Vec<u8>,
}

/// A line that is put together.
struct Line<'a> {
    stream: OutputStream,
    tasks: Vec<&'a String>,
    text: Vec<u8>,
    /// How many bytes had come with its last one.
    end: u64,
    ended: bool,
    /// Its beginning is no longer kept.
    partial: bool,
}

impl RecentLines {
    /// Takes in what has come at that time, in milliseconds since 1970.
    pub(crate) fn push(&mut self, stream: OutputStream, tasks: &[String], bytes: &[u8], time: u64) {
        self.bytes += bytes.len();
        self.came += bytes.len() as u64;
        match self.times.back_mut() {
            Some((came, at)) if *at >= time => *came = self.came,
            _ => self.times.push_back((self.came, time)),
        }
        match self.pieces.back_mut() {
            Some(last) if last.stream == stream && last.tasks == tasks && last.bytes.len() + bytes.len() <= PIECE => {
                last.bytes.extend(bytes);
            }
            _ => self.pieces.push_back(Piece { stream, tasks: tasks.to_vec(), bytes: bytes.to_vec() }),
        }
        while self.bytes > ROOM || self.pieces.len() > PIECES {
            let Some(first) = self.pieces.front() else { return };
            let left = first.bytes.len() - self.gone;
            let over = if self.pieces.len() > PIECES { left } else { left.min(self.bytes - ROOM) };
            self.gone += over;
            self.bytes -= over;
            if let Some(last) = self.gone.checked_sub(1).and_then(|last| first.bytes.get(last)) {
                self.cut[first.stream as usize] = *last != b'\n';
            }
            if self.gone == first.bytes.len() {
                self.pieces.pop_front();
                self.gone = 0;
            }
        }
        let kept_from = self.came - self.bytes as u64;
        while self.times.len() > PIECES || self.times.front().is_some_and(|(came, _)| *came <= kept_from) {
            self.times.pop_front();
        }
    }

    /// When that of all bytes came, or a little later where that is no longer known.
    fn time_of(&self, byte: u64) -> u64 {
        let at = self.times.partition_point(|(came, _)| *came < byte);
        self.times.get(at).map_or(0, |(_, time)| *time)
    }

    /// The lines, oldest first. Of those whose beginning is no longer kept, only one that is still open.
    pub(crate) fn lines(&self, worker: &str) -> Vec<LogLine> {
        self.last(worker, usize::MAX)
    }

    /// The last lines.
    pub(crate) fn last(&self, worker: &str, n: usize) -> Vec<LogLine> {
        let lines = self.put_together();
        let skipped = lines.len().saturating_sub(n);
        let lines = lines.into_iter().skip(skipped).map(|line| LogLine {
            worker: worker.to_string(),
            time: self.time_of(line.end),
            number: line.end,
            ended: line.ended,
            stream: line.stream,
            tasks: line.tasks.into_iter().cloned().collect(),
            text: text_of(&line.text, line.partial),
        });
        lines.collect()
    }

    fn put_together(&self) -> Vec<Line<'_>> {
        let mut lines: Vec<Line<'_>> = Vec::new();
        let mut cut = self.cut;
        let mut came = self.came - self.bytes as u64;
        // A line may come in pieces, not all of the same task's, and with the other stream's between them.
        let mut open: [Option<usize>; 2] = [None; 2];
        for (i, piece) in self.pieces.iter().enumerate() {
            let kept = if i == 0 { &piece.bytes[self.gone..] } else { &piece.bytes[..] };
            let stream = piece.stream as usize;
            for bytes in kept.split_inclusive(|byte| *byte == b'\n') {
                let at = *open[stream].get_or_insert_with(|| {
                    let partial = std::mem::take(&mut cut[stream]);
                    let (stream, tasks, text) = (piece.stream, Vec::new(), Vec::new());
                    lines.push(Line { stream, tasks, text, end: 0, ended: false, partial });
                    lines.len() - 1
                });
                came += bytes.len() as u64;
                let line = &mut lines[at];
                line.end = came;
                let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
                line.text.extend(text);
                for task in &piece.tasks {
                    if !line.tasks.contains(&task) {
                        line.tasks.push(task);
                    }
                }
                let most = line.tasks.len().saturating_sub(NAMED);
                line.tasks.drain(..most);
                if text.len() < bytes.len() {
                    line.ended = true;
                    open[stream] = None;
                }
            }
        }
        if lines.len() > 1 {
            lines.retain(|line| !(line.partial && line.ended));
        }
        lines.drain(..lines.len().saturating_sub(LINES));
        lines
    }
}

/// The text of a line; one that is cut off before it may begin within a character.
fn text_of(bytes: &[u8], partial: bool) -> String {
    let within = |byte: &&u8| partial && **byte & 0xc0 == 0x80;
    let skipped = bytes.iter().take(3).take_while(within).count();
    String::from_utf8_lossy(&bytes[skipped..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};

    fn seen(recent: &RecentLines) -> Vec<(OutputStream, String, String)> {
        recent.lines("w").into_iter().map(|l| (l.stream, l.tasks.join("+"), l.text)).collect()
    }

    fn texts(recent: &RecentLines, n: usize) -> Vec<String> {
        recent.last("w", n).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_line_has_the_time_of_its_end_and_a_number_of_its_own() {
        let mut recent = RecentLines::default();
        recent.push(Stdout, &[], b"one\nbeg", 1000);
        recent.push(Stderr, &[], b"between\n", 2000);
        recent.push(Stdout, &[], b"in\nopen", 3000);
        let seen: Vec<_> = recent.lines("w").into_iter().map(|l| (l.text, l.time, l.number, l.ended)).collect();
        let wanted =
            [("one", 1000, 4, true), ("begin", 3000, 18, true), ("between", 2000, 15, true), ("open", 3000, 22, false)];
        assert_eq!(seen, wanted.map(|(text, time, number, ended)| (text.to_string(), time, number, ended)));
        for time in 0..100_000 {
            recent.push(Stdout, &[], b"\n", 4000 + time);
        }
        let lines = recent.lines("w");
        assert_eq!(lines.last().map(|l| l.time), Some(103_999));
        assert!(lines.is_sorted_by(|a, b| a.time <= b.time && a.number < b.number));
        assert!(recent.times.len() <= PIECES);
    }

    #[test]
    fn lines_in_pieces_are_put_together() {
        let mut recent = RecentLines::default();
        let task = |name: &str| vec![name.to_string()];
        recent.push(Stdout, &task("a"), b"one\ntw", 0);
        recent.push(Stderr, &task("a"), b"other\n", 0);
        recent.push(Stdout, &task("b"), b"o\n\nthree", 0);
        let wanted = [
            (Stdout, "a", "one"),
            (Stdout, "a+b", "two"),
            (Stderr, "a", "other"),
            (Stdout, "b", ""),
            (Stdout, "b", "three"),
        ];
        assert_eq!(seen(&recent), wanted.map(|(s, t, l)| (s, t.to_string(), l.to_string())));
        assert_eq!(texts(&recent, 2), ["", "three"]);
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut recent = RecentLines::default();
        for i in 0..100_000 {
            recent.push(Stdout, &[], format!("line {i}\n").as_bytes(), 0);
        }
        let lines = seen(&recent);
        assert_eq!(lines.last().map(|l| l.2.as_str()), Some("line 99999"));
        let total: usize = lines.iter().map(|l| l.2.len()).sum();
        assert!(total <= ROOM && total > ROOM / 2, "{total}");
        for _ in 0..3 {
            recent.push(Stdout, &[], "ä".repeat(ROOM).as_bytes(), 0);
        }
        let lines = seen(&recent);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].2.len() <= ROOM && lines[0].2.len() > ROOM - 4);
    }

    #[test]
    fn a_line_without_end_names_the_last_of_its_tasks() {
        let mut recent = RecentLines::default();
        for i in 0..20_000 {
            recent.push(Stdout, &[format!("dot-{i}")], b".", 0);
        }
        let lines = recent.lines("w");
        assert_eq!((lines.len(), lines[0].tasks.len()), (1, NAMED));
        assert_eq!(lines[0].tasks.last().map(String::as_str), Some("dot-19999"));
        assert!(recent.pieces.len() <= PIECES);
        assert_eq!(lines[0].text.len(), recent.pieces.len());
    }

    #[test]
    fn empty_lines_take_no_more_than_their_room() {
        let mut recent = RecentLines::default();
        for _ in 0..2_000 {
            recent.push(Stdout, &[], &[b'\n'; 1000], 0);
        }
        let kept: usize = recent.pieces.iter().map(|piece| piece.bytes.capacity()).sum();
        assert!(kept <= 2 * ROOM && recent.pieces.len() < 100, "{kept} bytes in {} pieces", recent.pieces.len());
        assert_eq!(texts(&recent, usize::MAX), vec![""; LINES]);
    }

    #[test]
    fn a_line_that_has_lost_its_beginning_is_told_while_it_is_open() {
        let mut recent = RecentLines::default();
        recent.push(Stdout, &[], b"lost ", 0);
        for _ in 0..ROOM / 4 {
            recent.push(Stderr, &[], b"err\n", 0);
        }
        recent.push(Stdout, &[], b"open", 0);
        let open = |recent: &RecentLines| texts(recent, usize::MAX).iter().filter(|line| *line == "open").count();
        assert_eq!(open(&recent), 1);
        recent.push(Stdout, &[], b"\n", 0);
        assert_eq!(open(&recent), 0, "it looks as if it were whole");
    }
}
