//! The text of progress bars, as a function of what is known and of the room there is.

use crate::status::{Counts, Progress};
use rustc_hash::FxHashMap;
use std::fmt::Write;
use std::time::Duration;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Names that have lines of their own; the rest is in one line.
const MOST_NAMES: usize = 8;
/// A name takes no more columns where there is room, and may have to do with less.
const LONGEST_NAME: usize = 24;
const SHORTEST_NAME: usize = 6;
/// A bar is as wide as there is room, within this.
const WIDEST_BAR: usize = 24;
const NARROWEST_BAR: usize = 8;
/// What stands between two columns.
const GAP: usize = 2;

/// How it may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Lines are shorter than this.
    pub(super) columns: usize,
    pub(super) unicode: bool,
}

/// What had ended before, by name, and is not shown.
#[derive(Debug, Default)]
pub(super) struct Baseline(FxHashMap<String, (Counts, Duration)>);

impl Baseline {
    /// All that has ended but for what belongs to graphs that go on.
    pub(super) fn of(progress: &Progress) -> Self {
        let mut before = FxHashMap::<String, (Counts, Duration)>::default();
        let goes_on: Vec<Option<u32>> =
            progress.groups.iter().filter(|g| g.counts.unfinished() > 0).map(|g| g.graph).collect();
        for group in &progress.groups {
            if group.graph.is_some() && goes_on.contains(&group.graph) {
                continue;
            }
            let (counts, time) = before.entry(group.name.clone()).or_default();
            *counts += Counts { waiting: 0, ready: 0, running: 0, ..group.counts };
            *time += group.run_time;
        }
        Self(before)
    }
}

/// One line's numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    name: String,
    done: u64,
    total: u64,
    /// Of tasks that run, in tasks.
    partial: f64,
    failed: u64,
    cancelled: u64,
    unfinished: u64,
    rate: Option<f64>,
    left: Option<Duration>,
    run_time: Duration,
}

impl Row {
    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.total += other.total;
        self.partial += other.partial;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.unfinished += other.unfinished;
        self.run_time += other.run_time;
        self.rate = [self.rate, other.rate].into_iter().flatten().reduce(|a, b| a + b);
        self.left = self.left.max(other.left);
    }

    fn fraction(&self) -> f64 {
        if self.total == 0 { 1.0 } else { ((self.done as f64 + self.partial) / self.total as f64).clamp(0.0, 1.0) }
    }

    /// What went wrong, if something did.
    fn marks(&self) -> String {
        let mut marks = Vec::new();
        for (n, word) in [(self.failed, "failed"), (self.cancelled, "cancelled")] {
            if n > 0 {
                marks.push(format!("{n} {word}"));
            }
        }
        marks.join(", ")
    }
}

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View {
    rows: Vec<Row>,
    all: Row,
    elapsed: Duration,
}

impl View {
    /// Of what has been counted since `before`; `elapsed` is how long it has taken.
    pub(super) fn of(progress: &Progress, before: &Baseline, elapsed: Duration) -> Self {
        let mut places: FxHashMap<&str, usize> = FxHashMap::default();
        let mut rows: Vec<Row> = Vec::new();
        for group in &progress.groups {
            let at = *places.entry(&group.name).or_insert_with(|| {
                rows.push(Row { name: group.name.clone(), ..Row::default() });
                rows.len() - 1
            });
            let counts = &group.counts;
            rows[at].add(&Row {
                name: String::new(),
                done: counts.done(),
                // What nobody needs is never done.
                total: counts.total() - counts.unneeded,
                partial: group.partial as f64 / 1000.0,
                failed: counts.failed,
                cancelled: counts.cancelled,
                unfinished: counts.unfinished(),
                rate: group.rate,
                left: group.left.filter(|_| counts.unfinished() > 0),
                run_time: group.run_time,
            });
        }
        for row in &mut rows {
            let Some((counts, time)) = before.0.get(&row.name) else { continue };
            row.done = row.done.saturating_sub(counts.done());
            row.total = row.total.saturating_sub(counts.total() - counts.unneeded).max(row.done + row.unfinished);
            row.failed = row.failed.saturating_sub(counts.failed);
            row.cancelled = row.cancelled.saturating_sub(counts.cancelled);
            row.run_time = row.run_time.saturating_sub(*time);
        }
        rows.retain(|row| row.total > 0);
        let mut all = Row { name: "all".to_string(), ..Row::default() };
        rows.iter().for_each(|row| all.add(row));
        all.left = progress.left.filter(|_| all.unfinished > 0);
        Self { rows, all, elapsed }
    }

    /// Those names that took the most time, in the order in which they came; and all others together.
    fn shown(&self) -> Vec<Row> {
        if self.rows.len() <= MOST_NAMES {
            return self.rows.clone();
        }
        let mut by_time: Vec<usize> = (0..self.rows.len()).collect();
        by_time.sort_by_key(|at| std::cmp::Reverse(self.rows[*at].run_time));
        let rest = by_time.split_off(MOST_NAMES);
        by_time.sort_unstable();
        let mut shown: Vec<Row> = by_time.into_iter().map(|at| self.rows[at].clone()).collect();
        let mut others = Row { name: format!("+{} names", rest.len()), ..Row::default() };
        rest.into_iter().for_each(|at| others.add(&self.rows[at]));
        shown.push(others);
        shown
    }

    /// A line for each name, and that of all.
    pub(super) fn lines(&self, look: Look) -> Vec<String> {
        let mut rows = self.shown();
        let names = rows.len();
        rows.push(self.all.clone());
        let cells: Vec<Cells> = rows
            .iter()
            .enumerate()
            .map(|(at, row)| Cells::of(row, (at == names).then_some(self.elapsed), look.unicode))
            .collect();
        Columns::fitting(&cells, look.columns.saturating_sub(1)).lines(&cells, look.unicode)
    }

    /// One line without a bar, for a log.
    pub(super) fn plain(&self) -> String {
        let Cells { count, percent, left, marks, .. } = Cells::of(&self.all, None, false);
        let elapsed = clock(self.elapsed);
        let parts = [format!("all  {count}"), percent, elapsed, left, marks];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
    }

    /// What is left on the terminal. `first`: the key of the first task that failed.
    pub(super) fn last_line(&self, first: impl FnOnce() -> Option<String>) -> String {
        let Row { done, total, unfinished, .. } = self.all;
        let mut line = format!("all  {done}");
        if unfinished > 0 {
            let _ = write!(line, " of {total}");
        }
        let _ = write!(line, " done in {}", span(self.elapsed));
        let marks = self.all.marks();
        if !marks.is_empty() {
            let _ = write!(line, ", {marks}");
        }
        if self.all.failed > 0
            && let Some(key) = first()
        {
            let _ = write!(line, ": first {}", printable(&key, true));
        }
        line
    }
}

/// The texts of a line.
struct Cells {
    name: String,
    fraction: f64,
    count: String,
    percent: String,
    rate: String,
    left: String,
    marks: String,
}

impl Cells {
    fn of(row: &Row, elapsed: Option<Duration>, unicode: bool) -> Self {
        let fraction = row.fraction();
        Self {
            name: printable(&row.name, unicode),
            fraction,
            count: format!("{}/{}", row.done, row.total),
            // All but the last are not all.
            percent: format!("{:.0} %", (fraction * 100.0).floor()),
            rate: elapsed.map(clock).or(row.rate.map(rate)).unwrap_or_default(),
            left: row.left.map(|left| format!("{} left", clock(left))).unwrap_or_default(),
            marks: row.marks(),
        }
    }

    fn text(&self, column: Column) -> &str {
        match column {
            Column::Count => &self.count,
            Column::Percent => &self.percent,
            Column::Rate => &self.rate,
            Column::Left => &self.left,
            Column::Marks => &self.marks,
        }
    }
}

/// What may stand beside a name and its bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Count,
    Percent,
    Rate,
    Left,
    Marks,
}

/// In the order in which they stand.
const COLUMNS: [Column; 5] = [Column::Count, Column::Percent, Column::Rate, Column::Left, Column::Marks];
/// In the order in which they are left out, where there is no room.
const LEFT_OUT: [Column; 4] = [Column::Rate, Column::Count, Column::Left, Column::Marks];

/// The widths of what is shown.
struct Columns {
    name: usize,
    /// 0: there is none.
    bar: usize,
    others: Vec<(Column, usize)>,
}

impl Columns {
    /// As much as fits.
    fn fitting(cells: &[Cells], room: usize) -> Self {
        let widest = |text: fn(&Cells) -> &str| cells.iter().map(|cells| text(cells).width()).max().unwrap_or(0);
        let name = widest(|cells| &cells.name).clamp(3, LONGEST_NAME);
        let mut others: Vec<(Column, usize)> = COLUMNS
            .into_iter()
            .map(|column| (column, cells.iter().map(|cells| cells.text(column).width()).max().unwrap_or(0)))
            .filter(|(_, width)| *width > 0)
            .collect();
        let taken = |others: &[(Column, usize)]| others.iter().map(|(_, width)| GAP + width).sum::<usize>();
        let short = name.min(2 * SHORTEST_NAME);
        for out in LEFT_OUT {
            if short + GAP + NARROWEST_BAR + taken(&others) <= room {
                break;
            }
            others.retain(|(column, _)| *column != out);
        }
        let left = room.saturating_sub(taken(&others));
        if left >= short + GAP + NARROWEST_BAR {
            // First the name, then the bar.
            let name = name.min(left - GAP - NARROWEST_BAR);
            return Self { name, bar: (left - GAP - name).min(WIDEST_BAR), others };
        }
        // No bar: rather more words.
        let mut some: Vec<(Column, usize)> = Vec::new();
        let least = name.min(SHORTEST_NAME);
        for column in [Column::Percent, Column::Marks, Column::Left, Column::Count] {
            let width = cells.iter().map(|cells| cells.text(column).width()).max().unwrap_or(0);
            if width > 0 && least + taken(&some) + GAP + width <= room {
                some.push((column, width));
            }
        }
        some.sort_by_key(|(column, _)| COLUMNS.iter().position(|other| other == column));
        Self { name: name.min(room.saturating_sub(taken(&some))), bar: 0, others: some }
    }

    fn lines(&self, all: &[Cells], unicode: bool) -> Vec<String> {
        let line = |cells: &Cells| {
            let mut line = cut(&cells.name, self.name, unicode);
            pad(&mut line, self.name);
            if self.bar > 0 {
                let _ = write!(line, "{:GAP$}{}", "", bar(cells.fraction, self.bar, unicode));
            }
            for (column, width) in &self.others {
                let text = cells.text(*column);
                let before = if *column == Column::Marks { 0 } else { width - text.width() };
                let _ = write!(line, "{:GAP$}{:before$}{text}", "", "");
            }
            line.truncate(line.trim_end().len());
            line
        };
        all.iter().map(line).collect()
    }
}

fn pad(text: &mut String, width: usize) {
    let missing = width.saturating_sub(text.width());
    text.extend(std::iter::repeat_n(' ', missing));
}

/// So much of a bar of that width is full.
fn bar(fraction: f64, width: usize, unicode: bool) -> String {
    const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let parts = if unicode { 8 } else { 1 };
    let filled = (fraction * (width * parts) as f64) as usize;
    let (full, part) = (filled / parts, filled % parts);
    let mut bar: String = std::iter::repeat_n(if unicode { '█' } else { '#' }, full).collect();
    if part > 0 {
        bar.push(EIGHTHS[part - 1]);
    }
    let empty = width - full - usize::from(part > 0);
    bar.extend(std::iter::repeat_n(if unicode { '░' } else { '.' }, empty));
    bar
}

/// A name without what would move the cursor or turn the direction of writing, and no longer than can be shown anyhow.
fn printable(name: &str, unicode: bool) -> String {
    let replaced = |c: char| {
        let turns = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || turns || (!unicode && !c.is_ascii()) { '?' } else { c }
    };
    // Of a very long one, both ends are enough.
    if name.len() > 16 * LONGEST_NAME {
        let start = name.chars().take(2 * LONGEST_NAME);
        let end: Vec<char> = name.chars().rev().take(2 * LONGEST_NAME).collect();
        return start.chain(end.into_iter().rev()).map(replaced).collect();
    }
    name.chars().map(replaced).collect()
}

/// A text of that width at most; what is too long is cut in the middle.
fn cut(text: &str, width: usize, unicode: bool) -> String {
    if text.width() <= width {
        return text.to_string();
    }
    let mark = if unicode { "…" } else { "~" };
    let room = width.saturating_sub(mark.width());
    let (at_start, at_end) = (room - room / 2, room / 2);
    let take = |chars: &mut dyn Iterator<Item = char>, room: usize| {
        let mut taken = Vec::new();
        let mut used = 0;
        for c in chars {
            used += c.width().unwrap_or(0);
            if used > room {
                break;
            }
            taken.push(c);
        }
        taken
    };
    let start = take(&mut text.chars(), at_start);
    let mut end = take(&mut text.chars().rev(), at_end);
    end.reverse();
    start.into_iter().chain(mark.chars().take(width)).chain(end).collect()
}

/// As in `1.2 k/s`.
fn rate(rate: f64) -> String {
    match rate {
        _ if rate >= 1e7 => format!("{:.0} M/s", rate / 1e6),
        _ if rate >= 999_500.0 => format!("{:.1} M/s", rate / 1e6),
        _ if rate >= 9950.0 => format!("{:.0} k/s", rate / 1e3),
        _ if rate >= 999.5 => format!("{:.1} k/s", rate / 1e3),
        _ if rate >= 9.95 || rate == 0.0 => format!("{rate:.0} /s"),
        _ => format!("{rate:.1} /s"),
    }
}

/// As in `1:02:03`; what is left of a second counts as one.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_millis() >= 500);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        1..100 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{} d", hours / 24),
    }
}

/// As in `21.4 s`, to three digits.
fn span(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 9.995 => format!("{seconds:.2} s"),
        seconds if seconds < 99.95 => format!("{seconds:.1} s"),
        _ => clock(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{GroupProgress, Totals};

    fn group(name: &str, graph: u32, counts: Counts, seconds: u64) -> GroupProgress {
        let totals =
            Totals { counts, runs: counts.done(), run_time: Duration::from_secs(seconds), ..Totals::default() };
        GroupProgress::new(name, Some(graph), totals)
    }

    /// The three groups of the design's sketch.
    fn sketch() -> Progress {
        let parse = Counts { released: 1306, waiting: 692, failed: 2, ..Counts::default() };
        let count = Counts { memory: 498, waiting: 1502, ..Counts::default() };
        let mut groups = [
            group("parse", 0, parse, 20),
            group("count_part", 0, count, 10),
            group("total", 0, Counts { waiting: 3, ..Counts::default() }, 0),
        ];
        groups[0].rate = Some(1234.0);
        groups[0].left = Some(Duration::from_secs(4));
        groups[1].rate = Some(430.0);
        groups[1].left = Some(Duration::from_secs(12));
        let mut progress = Progress::new(groups);
        progress.left = Some(Duration::from_secs(12));
        progress
    }

    fn lines(progress: &Progress, columns: usize, unicode: bool) -> Vec<String> {
        View::of(progress, &Baseline::default(), Duration::from_secs(8)).lines(Look { columns, unicode })
    }

    #[test]
    fn lines_are_as_in_the_sketch() {
        let wanted = "\
parse       ███████████████▋░░░░░░░░  1306/2000  65 %  1.2 k/s  0:04 left  2 failed
count_part  █████▉░░░░░░░░░░░░░░░░░░   498/2000  24 %   430 /s  0:12 left
total       ░░░░░░░░░░░░░░░░░░░░░░░░        0/3   0 %
all         ██████████▊░░░░░░░░░░░░░  1804/4003  45 %     0:08  0:12 left  2 failed";
        assert_eq!(lines(&sketch(), 100, true).join("\n"), wanted);
        let ascii = "parse       ###############.........  1306/2000  65 %  1.2 k/s  0:04 left  2 failed";
        assert_eq!(lines(&sketch(), 100, false)[0], ascii);
        assert!(lines(&sketch(), 100, false).iter().all(|line| line.is_ascii()));
    }

    #[test]
    fn lines_fit_any_terminal() {
        let mut progress = sketch();
        for name in [
            "文字列を数える関数の名前はとても長い",
            "a_function_with_a_name_of_more_than_thirty_letters",
            "\u{202e}gnp.exe\n\t\x1b[2J",
            "",
        ] {
            progress.groups.push(group(name, 0, Counts { ready: 1_000_000, ..Counts::default() }, 1));
        }
        progress.groups.push(group(&"x".repeat(1 << 20), 0, Counts { failed: 12_345, ..Counts::default() }, 1));
        for columns in 1..200 {
            for unicode in [true, false] {
                for line in lines(&progress, columns, unicode) {
                    assert!(line.width() < columns.max(5), "{columns}: {line:?}");
                    assert!(!line.contains(char::is_control) && !line.contains('\u{202e}'), "{line:?}");
                }
            }
        }
        let narrow = ["parse       65 %", "count_part  24 %", "total        0 %", "all         45 %"];
        let lines = lines(&sketch(), 20, true);
        assert_eq!(lines, narrow);
    }

    #[test]
    fn names_are_cut_in_the_middle() {
        assert_eq!(cut("count_part", 10, true), "count_part");
        assert_eq!(cut("count_part", 7, true), "cou…art");
        assert_eq!(cut("count_part", 6, false), "cou~rt");
        assert_eq!(cut("文字列", 4, true), "文…");
        assert_eq!(cut("count_part", 0, true), "");
        assert_eq!(printable("a\nb\u{202e}c\u{e9}", true), "a?b?c\u{e9}");
        assert_eq!(printable("\u{e9}", false), "?");
    }

    #[test]
    fn what_is_too_much_is_in_one_line() {
        let groups = (0..11).map(|i| group(&format!("f{i}"), 0, Counts { ready: 1, ..Counts::default() }, i));
        let lines = lines(&Progress::new(groups), 80, true);
        assert_eq!(lines.len(), 10);
        assert!(lines[0].starts_with("f3 ") && lines[7].starts_with("f10 "), "{lines:#?}");
        assert!(lines[8].starts_with("+3 names") && lines[8].contains("0/3"), "{lines:#?}");
        assert!(lines[9].starts_with("all") && lines[9].contains("0/11"), "{lines:#?}");
    }

    #[test]
    fn what_was_there_before_is_not_shown() {
        let counts = |released, waiting| Counts { released, waiting, ..Counts::default() };
        let mut before = Progress::new([
            group("f", 0, counts(10, 0), 1),
            group("f", 1, counts(5, 5), 1),
            group("g", 2, Counts { failed: 3, ..Counts::default() }, 1),
        ]);
        before.groups.push(GroupProgress::new("one", None, counts(100, 1).into()));
        let baseline = Baseline::of(&before);
        let mut now = before.clone();
        now.groups[1].counts = counts(7, 3);
        now.groups[3].counts = counts(101, 0);
        let view = View::of(&now, &baseline, Duration::ZERO);
        let shown: Vec<_> = view.rows.iter().map(|row| (&*row.name, row.done, row.total, row.failed)).collect();
        assert_eq!(shown, [("f", 7, 10, 0), ("one", 1, 1, 0)]);
        assert_eq!(view.all.total, 11);
    }

    #[test]
    fn the_last_line_says_what_ended_it() {
        let view = |released, failed, waiting| {
            let counts = Counts { released, failed, waiting, ..Counts::default() };
            View::of(&Progress::new([group("f", 0, counts, 1)]), &Baseline::default(), Duration::from_millis(21_437))
        };
        assert_eq!(view(4003, 0, 0).last_line(|| Some("parse-3f2a".to_string())), "all  4003 done in 21.4 s");
        assert_eq!(
            view(4001, 2, 0).last_line(|| Some("parse-3f2a".to_string())),
            "all  4001 done in 21.4 s, 2 failed: first parse-3f2a"
        );
        assert_eq!(view(1, 0, 9).last_line(|| Some("parse-3f2a".to_string())), "all  1 of 10 done in 21.4 s");
        assert_eq!(view(1, 1, 8).plain(), "all  1/10  10 %  0:21  1 failed");
    }

    #[test]
    fn what_running_tasks_say_moves_the_bar() {
        let mut running = group("f", 0, Counts { running: 2, ..Counts::default() }, 0);
        running.partial = 1000;
        let lines = lines(&Progress::new([running]), 60, false);
        assert!(lines[0].contains("0/2  50 %"), "{lines:?}");
        assert!(lines[0].matches('#').count() == lines[0].matches('.').count(), "{lines:?}");
    }

    #[test]
    fn numbers_have_three_digits() {
        for (number, text) in [
            (0.0, "0 /s"),
            (0.26, "0.3 /s"),
            (12.3, "12 /s"),
            (999.4, "999 /s"),
            (1234.0, "1.2 k/s"),
            (56_000.0, "56 k/s"),
            (1.2e6, "1.2 M/s"),
            (3.4e7, "34 M/s"),
        ] {
            assert_eq!(rate(number), text);
        }
        for (seconds, text) in [(0.4, "0:00"), (59.6, "1:00"), (3723.0, "1:02:03"), (1e6, "11 d")] {
            assert_eq!(clock(Duration::from_secs_f64(seconds)), text);
        }
        for (seconds, text) in [(0.3, "0.30 s"), (21.44, "21.4 s"), (123.0, "2:03")] {
            assert_eq!(span(Duration::from_secs_f64(seconds)), text);
        }
    }
}
