//! The most recent lines of a worker, or of what tasks log in this process: kept as they came, and cut into lines when
//! somebody asks for them.
//!
//! What is kept is bounded, for the worker and for each task: where a task prints much, it loses its own lines before it
//! takes the room of others. Lines that are no longer kept are counted where they stood.

use crate::error::logged::Logged;
use crate::error::{LogLine, OutputStream};
use crate::host::count_lines;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// How much of a worker's output is kept, in bytes.
const ROOM: usize = 64 << 10;
/// Whoever has written more than this loses lines first, where there is no room for all.
const SHARE: usize = ROOM / 8;
/// Most pieces of it: each has the names of tasks beside it.
const PIECES: usize = 2048;
/// Most lines that are told of: short ones take more room then than their bytes here.
const LINES: usize = 4096;
/// Most tasks that are named as the origin of a line.
const NAMED: usize = 16;
/// Pieces of the same tasks are put together up to this length.
const PIECE: usize = 4 << 10;

/// Takes in output as it comes, and keeps the last of it. What that costs does not depend on what is kept, but where a task
/// prints more than its share.
#[derive(Debug, Default)]
pub(crate) struct RecentLines {
    pieces: VecDeque<Piece>,
    /// When it came: up to which of all bytes that ever came, and the time in nanoseconds since 1970.
    times: VecDeque<(u64, u64)>,
    /// Bytes that ever came.
    came: u64,
    /// How much of the first piece is no longer kept.
    gone: usize,
    /// Bytes that are kept.
    bytes: usize,
    /// Bytes in gaps between those.
    in_gaps: u64,
    /// Lines before the first piece.
    dropped: u64,
    /// Standard output and error: what is kept of it begins within a line.
    cut: [bool; 2],
    /// Bytes that are kept by the tasks they are from.
    shares: FxHashMap<Arc<[String]>, usize>,
    /// Those that may have more than their share.
    greedy: Vec<Arc<[String]>>,
}

#[derive(Debug)]
struct Piece {
    stream: OutputStream,
    tasks: Arc<[String]>,
    bytes: Vec<u8>,
    /// It is not kept any more.
    gap: Option<Gap>,
}

/// What stood between others.
#[derive(Debug)]
struct Gap {
    bytes: u64,
    lines: u64,
    /// What comes next in its stream is the rest of a line.
    within: bool,
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
    /// Nor is its end.
    torn: bool,
    /// Lines before it that are not.
    dropped: u64,
}

impl RecentLines {
    /// Takes in what has come at that time, in nanoseconds since 1970.
    pub(crate) fn push(&mut self, stream: OutputStream, tasks: &[String], bytes: &[u8], time: u64) {
        self.bytes += bytes.len();
        self.came += bytes.len() as u64;
        match self.times.back_mut() {
            Some((came, at)) if *at >= time => *came = self.came,
            _ => self.times.push_back((self.came, time)),
        }
        let tasks = match self.pieces.back_mut() {
            Some(last) if last.takes(stream, tasks, bytes.len()) => {
                last.bytes.extend(bytes);
                Arc::clone(&last.tasks)
            }
            Some(last) if *last.tasks == *tasks => {
                let tasks = Arc::clone(&last.tasks);
                self.add(stream, &tasks, bytes);
                tasks
            }
            _ => {
                let tasks = Arc::from(tasks);
                self.add(stream, &tasks, bytes);
                tasks
            }
        };
        let share = self.shares.entry(Arc::clone(&tasks)).or_default();
        *share += bytes.len();
        if *share > SHARE && !self.greedy.contains(&tasks) {
            self.greedy.push(tasks);
        }
        self.make_room();
        let kept_from = self.begins();
        while self.times.len() > PIECES || self.times.front().is_some_and(|(came, _)| *came <= kept_from) {
            self.times.pop_front();
        }
    }

    fn add(&mut self, stream: OutputStream, tasks: &Arc<[String]>, bytes: &[u8]) {
        let tasks = Arc::clone(tasks);
        self.pieces.push_back(Piece { stream, tasks, bytes: bytes.to_vec(), gap: None });
    }

    /// How many of all bytes came before the first piece that is kept.
    fn begins(&self) -> u64 {
        self.came - self.bytes as u64 - self.in_gaps
    }

    fn make_room(&mut self) {
        while self.bytes > ROOM || self.pieces.len() > PIECES {
            if self.pieces.len() <= PIECES && self.shorten_greedy() {
                continue;
            }
            let Some(first) = self.pieces.front() else { return };
            if let Some(Gap { bytes, lines, within }) = first.gap {
                self.in_gaps -= bytes;
                self.dropped += lines;
                self.cut[first.stream as usize] = within;
                self.pieces.pop_front();
                continue;
            }
            let left = first.bytes.len() - self.gone;
            let over = if self.pieces.len() > PIECES { left } else { left.min(self.bytes - ROOM) };
            self.dropped += count_lines(&first.bytes[self.gone..self.gone + over]) as u64;
            self.gone += over;
            if let Some(last) = self.gone.checked_sub(1).and_then(|last| first.bytes.get(last)) {
                self.cut[first.stream as usize] = *last != b'\n';
            }
            let (tasks, all) = (Arc::clone(&first.tasks), self.gone == first.bytes.len());
            self.bytes -= over;
            self.lessen(&tasks, over);
            if all {
                self.pieces.pop_front();
                self.gone = 0;
            }
        }
    }

    /// Drops the oldest piece of the tasks that have most, where that is more than their share and others have an older one.
    fn shorten_greedy(&mut self) -> bool {
        let shares = &self.shares;
        let share_of = |tasks: &Arc<[String]>| shares.get(tasks).copied().unwrap_or_default();
        self.greedy.retain(|tasks| share_of(tasks) > SHARE);
        let Some(tasks) = self.greedy.iter().max_by_key(|tasks| share_of(tasks)) else { return false };
        let found = self.pieces.iter().position(|piece| piece.gap.is_none() && piece.tasks == *tasks);
        let Some(at) = found.filter(|at| *at > 0) else { return false };
        let piece = &mut self.pieces[at];
        let bytes = std::mem::take(&mut piece.bytes);
        let within = bytes.last().is_some_and(|last| *last != b'\n');
        let (length, lines) = (bytes.len() as u64, count_lines(&bytes) as u64);
        let (stream, tasks) = (piece.stream, Arc::clone(&piece.tasks));
        piece.gap = Some(Gap { bytes: length, lines, within });
        self.bytes -= bytes.len();
        self.in_gaps += length;
        self.lessen(&tasks, bytes.len());
        // One gap is easier to read than many, and takes less room.
        if let Piece { stream: before, gap: Some(gap), .. } = &mut self.pieces[at - 1]
            && *before == stream
        {
            (gap.bytes, gap.lines, gap.within) = (gap.bytes + length, gap.lines + lines, within);
            self.pieces.remove(at);
        }
        true
    }

    fn lessen(&mut self, tasks: &Arc<[String]>, by: usize) {
        if let Some(share) = self.shares.get_mut(tasks) {
            *share -= by.min(*share);
            if *share == 0 {
                self.shares.remove(tasks);
            }
        }
    }

    /// How many bytes ever came.
    pub(crate) fn came(&self) -> u64 {
        self.came
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
        self.arrived(worker, n).into_iter().map(|(_, line)| line).collect()
    }

    /// The last lines, each with the time when it came, which may be later than that of a record.
    pub(crate) fn arrived(&self, worker: &str, n: usize) -> Vec<(u64, LogLine)> {
        let mut lines = self.put_together();
        let skipped = lines.len().saturating_sub(n);
        let dropped: u64 = lines.drain(..skipped).map(|line| line.dropped + 1).sum();
        if let Some(first) = lines.first_mut() {
            first.dropped += dropped;
        }
        lines.into_iter().map(|line| self.told(worker, line)).collect()
    }

    fn told(&self, worker: &str, line: Line<'_>) -> (u64, LogLine) {
        let time = self.time_of(line.end);
        let text = text_of(&line.text, line.partial);
        let plain = LogLine {
            worker: worker.to_string(),
            stream: line.stream,
            level: None,
            target: None,
            tasks: line.tasks.into_iter().cloned().collect(),
            text: String::new(),
            time,
            number: line.end,
            ended: line.ended,
            cut: line.partial || line.torn,
            dropped: line.dropped,
        };
        // What is in this process is of several workers.
        let is_here = |logged: &Logged<'_>| worker.is_empty() || logged.worker == worker;
        let logged = Logged::read(&text).filter(|logged| line.stream == OutputStream::Stderr && is_here(logged));
        let line = match logged {
            Some(logged) => plain.with(logged),
            None => LogLine { text, ..plain },
        };
        (time, line)
    }

    fn put_together(&self) -> Vec<Line<'_>> {
        let mut lines: Vec<Line<'_>> = Vec::new();
        let (mut cut, mut dropped) = (self.cut, self.dropped);
        let mut came = self.begins();
        // A line may come in pieces, not all of the same task's, and with the other stream's between them.
        let mut open: [Option<usize>; 2] = [None; 2];
        for (i, piece) in self.pieces.iter().enumerate() {
            let stream = piece.stream as usize;
            if let Some(gap) = &piece.gap {
                came += gap.bytes;
                dropped += gap.lines;
                if let Some(at) = open[stream].take() {
                    let line = &mut lines[at];
                    (line.ended, line.torn) = (true, true);
                    // Its own end is not that of another one.
                    dropped = dropped.saturating_sub(u64::from(gap.lines > 0));
                }
                cut[stream] = gap.within;
                continue;
            }
            let kept = if i == 0 { &piece.bytes[self.gone..] } else { &piece.bytes[..] };
            for bytes in kept.split_inclusive(|byte| *byte == b'\n') {
                let at = *open[stream].get_or_insert_with(|| {
                    let partial = std::mem::take(&mut cut[stream]);
                    let (stream, tasks, text) = (piece.stream, Vec::new(), Vec::new());
                    let dropped = std::mem::take(&mut dropped);
                    lines.push(Line { stream, tasks, text, end: 0, ended: false, partial, torn: false, dropped });
                    lines.len() - 1
                });
                came += bytes.len() as u64;
                let line = &mut lines[at];
                line.end = came;
                let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
                line.text.extend(text);
                for task in &*piece.tasks {
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
        // What has lost its beginning looks as if it were whole, and what is too much is dropped.
        let mut too_many = lines.len().saturating_sub(LINES);
        let most = if too_many > 0 { majority(&lines) } else { None };
        let is_alone = lines.len() == 1;
        let mut dropped = 0;
        let mut kept = Vec::with_capacity(lines.len() - too_many);
        for mut line in lines {
            let is_of_most = most.as_ref().is_none_or(|most| *most == line.tasks);
            let is_too_many = too_many > 0 && is_of_most;
            too_many -= usize::from(is_too_many);
            if is_too_many || !is_alone && line.partial && line.ended {
                dropped += line.dropped + 1;
                continue;
            }
            line.dropped += std::mem::take(&mut dropped);
            kept.push(line);
        }
        kept
    }
}

impl Piece {
    /// Whether more of the same fits in.
    fn takes(&self, stream: OutputStream, tasks: &[String], bytes: usize) -> bool {
        self.gap.is_none() && self.stream == stream && *self.tasks == *tasks && self.bytes.len() + bytes <= PIECE
    }
}

/// The tasks that have written more than half of the lines.
fn majority<'a>(lines: &[Line<'a>]) -> Option<Vec<&'a String>> {
    let mut counts: FxHashMap<&[&String], usize> = FxHashMap::default();
    lines.iter().for_each(|line| *counts.entry(&line.tasks).or_default() += 1);
    let (tasks, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (count > LINES / 2).then(|| lines.iter().find(|line| line.tasks == tasks).map(|line| line.tasks.clone()))?
}

/// The text of a line; one that is cut off before it may begin within a character.
fn text_of(bytes: &[u8], partial: bool) -> String {
    let within = |byte: &&u8| partial && **byte & 0xc0 == 0x80;
    let skipped = bytes.iter().take(3).take_while(within).count();
    String::from_utf8_lossy(&bytes[skipped..]).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::logged::lines_of;
    use OutputStream::{Stderr, Stdout};
    use log::Level;

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

    /// How many lines there were in all, as far as is told.
    fn counted(lines: &[LogLine]) -> u64 {
        lines.iter().map(|line| line.dropped + 1).sum()
    }

    #[test]
    fn lines_that_are_not_kept_are_counted() {
        let mut recent = RecentLines::default();
        for i in 0..100_000 {
            recent.push(Stdout, &[], format!("line {i}\n").as_bytes(), 0);
        }
        let lines = recent.lines("w");
        assert!(lines.len() < 100_000 && lines[1..].iter().all(|line| line.dropped == 0));
        assert_eq!(counted(&lines), 100_000);
        assert_eq!(counted(&recent.last("w", 3)), 100_000);
        assert!(
            lines[0].to_string().starts_with("w … ") && lines[0].to_string().contains(" lines dropped\nw stdout: ")
        );
    }

    #[test]
    fn a_task_that_prints_much_leaves_others_their_lines() {
        let task = |name: &str| vec![name.to_string()];
        let mut recent = RecentLines::default();
        recent.push(Stdout, &task("quiet"), b"first words\nbeg", 1);
        for i in 0..100_000 {
            recent.push(Stderr, &task("loud"), format!("line {i}\n").as_bytes(), 2);
            if i % 10_000 == 0 {
                recent.push(Stdout, &task("quiet"), b".", 2);
            }
        }
        recent.push(Stdout, &task("quiet"), b"end\n", 3);
        let lines = recent.lines("w");
        let quiet: Vec<_> = lines.iter().filter(|line| line.tasks == ["quiet"]).map(|line| &*line.text).collect();
        assert_eq!(quiet, ["first words", "beg..........end"]);
        let loud: Vec<u32> = lines.iter().filter_map(|line| line.text.strip_prefix("line ")?.parse().ok()).collect();
        assert!(loud.len() > 2_000 && loud.is_sorted() && loud.last() == Some(&99_999), "{}", loud.len());
        assert_eq!(counted(&lines), 100_002);
        assert!(
            recent.bytes <= ROOM && recent.shares.len() == 2 && recent.pieces.len() < 100,
            "{}",
            recent.pieces.len()
        );
        assert_eq!(recent.shares.values().sum::<usize>(), recent.bytes);
        assert_eq!(lines.iter().map(|line| line.number).max(), Some(recent.came), "numbers go on");
    }

    #[test]
    fn counts_and_bounds_hold_whatever_comes() {
        let mut rng = fastrand::Rng::with_seed(15);
        for _ in 0..50 {
            let (mut recent, mut ends) = (RecentLines::default(), 0);
            for _ in 0..rng.usize(0..400) {
                let stream = if rng.bool() { Stdout } else { Stderr };
                let tasks = vec![format!("task-{}", rng.u8(0..3))];
                let mut bytes: Vec<u8> = vec![b'x'; rng.usize(0..7000)];
                bytes.fill_with(|| if rng.u8(0..40) == 0 { b'\n' } else { b'x' });
                ends += count_lines(&bytes) as u64;
                recent.push(stream, &tasks, &bytes, 0);
                assert!(recent.bytes <= ROOM && recent.pieces.len() <= PIECES);
                assert_eq!(recent.shares.values().sum::<usize>(), recent.bytes);
                let kept: usize = recent.pieces.iter().map(|piece| piece.bytes.len()).sum();
                assert_eq!(kept - recent.gone, recent.bytes);
            }
            let lines = recent.lines("w");
            let (open, torn) = (lines.iter().filter(|l| !l.ended).count(), lines.iter().filter(|l| l.cut).count());
            // Lines that lost a part may be counted on both sides of it.
            let told = counted(&lines) as i64 - open as i64;
            assert!((told - ends as i64).abs() <= torn as i64 + 2, "{told} of {ends}, {torn} cut");
            assert!(lines.is_sorted_by_key(|line| line.dropped == u64::MAX));
        }
    }

    #[test]
    fn records_are_told_from_what_is_printed() {
        let mut recent = RecentLines::default();
        let window = vec!["a-1".to_string(), "b-2".to_string()];
        let record = lines_of(7, "worker-0", Some("b-2"), Level::Warn, "mine", "two\nlines");
        recent.push(Stderr, &window, format!("printed\n{record}").as_bytes(), 9);
        recent.push(Stderr, &window, lines_of(8, "worker-9", None, Level::Warn, "mine", "forged").as_bytes(), 9);
        recent.push(Stdout, &window, record.as_bytes(), 9);
        let lines = recent.lines("worker-0");
        assert_eq!((lines[0].level, &lines[0].tasks, lines[0].time), (None, &window, 9));
        for (line, text) in lines[1..3].iter().zip(["two", "lines"]) {
            assert_eq!(
                (line.level, line.target.as_deref(), line.key()),
                (Some(Level::Warn), Some("mine"), Some("b-2"))
            );
            assert_eq!((&*line.text, line.time), (text, 7));
        }
        assert!(lines[3..].iter().all(|line| line.level.is_none()), "{lines:?}");
        assert_eq!(lines[1].to_string(), "worker-0 WARN mine [b-2]: two");
    }
}
