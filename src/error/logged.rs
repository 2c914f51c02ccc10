//! Log records as a line of text, for people to read, and for whoever is told of the text to know what they are:
//! `[2026-01-31T12:00:00.123456789Z worker-0 parse-90c1e3f2d1b86e55 WARN my_program] skipped a line`.
//!
//! So a record takes the way of all that a worker prints, in its place between what is printed, and it outlives the worker
//! as that does.

use log::Level;
use std::borrow::Cow;
use std::fmt::{self, Write};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// What is known of a line of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged<'a> {
    /// Nanoseconds since 1970.
    pub(crate) time: u64,
    pub(crate) worker: Cow<'a, str>,
    /// Of the task that logged it.
    pub(crate) key: Option<Cow<'a, str>>,
    pub(crate) level: Level,
    pub(crate) target: Cow<'a, str>,
    pub(crate) text: &'a str,
}

/// A whole record, as lines; each has an end.
pub(crate) fn lines_of(time: u64, worker: &str, key: Option<&str>, level: Level, target: &str, text: &str) -> String {
    let mut lines = String::new();
    let texts = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    for text in texts {
        let line = Logged { time, worker: worker.into(), key: key.map(Cow::from), level, target: target.into(), text };
        // A string takes everything.
        let _ = writeln!(lines, "{line}");
    }
    lines
}

impl fmt::Display for Logged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} {} ", Time(self.time), Word(&self.worker))?;
        if let Some(key) = &self.key {
            write!(f, "{} ", Word(key))?;
        }
        write!(f, "{} {}] {}", self.level, Word(&self.target), self.text)
    }
}

impl<'a> Logged<'a> {
    /// What a line says, if it is one of a record.
    pub(crate) fn read(line: &'a str) -> Option<Self> {
        let (head, text) = line.strip_prefix('[')?.split_once(']')?;
        let mut words = head.split(' ');
        let (time, worker, third, fourth, fifth) =
            (words.next()?, words.next()?, words.next()?, words.next()?, words.next());
        let (key, level, target) = match fifth {
            Some(target) => (Some(third), fourth, target),
            None => (None, third, fourth),
        };
        if words.next().is_some() {
            return None;
        }
        Some(Self {
            time: Time::read(time)?.0,
            worker: unescaped(worker)?,
            key: match key {
                Some(key) => Some(unescaped(key)?),
                None => None,
            },
            level: level.parse().ok()?,
            target: unescaped(target)?,
            text: text.strip_prefix(' ').unwrap_or(text),
        })
    }
}

/// A name without spaces, ends of lines and brackets.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("\\u{}");
        }
        self.0.chars().try_for_each(|c| match c {
            '\\' | ']' => write!(f, "{}", c.escape_unicode()),
            c if c.is_whitespace() || c.is_control() => write!(f, "{}", c.escape_unicode()),
            c => f.write_char(c),
        })
    }
}

fn unescaped(word: &str) -> Option<Cow<'_, str>> {
    if !word.contains('\\') {
        return Some(word.into());
    }
    let mut parts = word.split("\\u{");
    let mut whole = parts.next()?.to_string();
    for part in parts {
        let (code, rest) = part.split_once('}')?;
        if !code.is_empty() {
            whole.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        }
        whole.push_str(rest);
    }
    Some(whole.into())
}

/// Nanoseconds since 1970, as `2026-01-31T12:00:00.123456789Z`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Time(pub(crate) u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0 / SECOND, self.0 % SECOND);
        let (days, second) = (seconds / DAY, seconds % DAY);
        let (mut year, mut day) = (1970, days);
        while day >= days_of(year) {
            day -= days_of(year);
            year += 1;
        }
        let mut month = 1;
        while day >= days_in(year, month) {
            day -= days_in(year, month);
            month += 1;
        }
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z", day + 1)
    }
}

impl Time {
    fn read(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let mut numbers = date.split('-').chain(time.split([':', '.'])).map(|n| n.parse::<u64>().ok());
        let mut next = || numbers.next()?;
        let (year, month, day) = (next()?, next()?, next()?);
        let (hour, minute, second, nanos) = (next()?, next()?, next()?, next()?);
        // What fits into nanoseconds.
        let is_sound = (1970..2554).contains(&year) && (1..=12).contains(&month) && day >= 1;
        if !is_sound || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 || nanos >= SECOND {
            return None;
        }
        let years: u64 = (1970..year).map(days_of).sum();
        let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
        let seconds = (years + months + day - 1) * DAY + hour * 3600 + minute * 60 + second;
        Some(Self(seconds * SECOND + nanos))
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_of(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let names = ["worker-0", "a b", "x]", "", "\\u{41}", "größe\n\u{1b}[31m", "\u{2028}"];
        for (i, name) in names.iter().enumerate() {
            for key in [None, Some(*name)] {
                let (target, text) = (names[(i + 1) % names.len()], "[odd] ] text ");
                let lines = lines_of(1_793_000_000_123_456_789, name, key, Level::Warn, target, text);
                assert_eq!(lines.matches('\n').count(), 1, "{lines:?}");
                assert!(!lines.trim_end().chars().any(char::is_control), "{lines:?}");
                let read = Logged::read(lines.strip_suffix('\n').unwrap()).unwrap();
                assert_eq!((&*read.worker, read.key.as_deref(), &*read.target), (*name, key, target));
                assert_eq!((read.time, read.level, read.text), (1_793_000_000_123_456_789, Level::Warn, text));
            }
        }
    }

    #[test]
    fn a_record_of_several_lines_is_several() {
        let lines = lines_of(0, "w", None, Level::Error, "t", "one\r\n\nthree");
        assert_eq!(
            lines.lines().map(|line| Logged::read(line).unwrap().text).collect::<Vec<_>>(),
            ["one", "", "three"]
        );
        assert!(lines.starts_with("[1970-01-01T00:00:00.000000000Z w ERROR t] one\n"), "{lines}");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_827_696, "2000-02-29T12:34:56"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (1_793_398_828, "2026-10-30T22:20:28"),
        ] {
            let time = Time(seconds * SECOND + 7);
            assert_eq!(time.to_string(), format!("{text}.000000007Z"));
            assert_eq!(Time::read(&time.to_string()), Some(time));
        }
        let last = Time((2554 - 1970) * 365 * DAY * SECOND);
        assert_eq!(Time::read(&last.to_string()), Some(last));
    }

    #[test]
    fn other_lines_are_no_records() {
        for line in [
            "",
            "[",
            "[]",
            "hello",
            "[worker-0] WARN a: b",
            "[2026-01-31T12:00:00.5Z w WARN t",
            "[2026-13-31T12:00:00.5Z w WARN t] x",
            "[2026-02-29T12:00:00.5Z w WARN t] x",
            "[2026-01-31T24:00:00.5Z w WARN t] x",
            "[9999-01-31T12:00:00.5Z w WARN t] x",
            "[2026-01-31T12:00:00.5Z w LOUD t] x",
            "[2026-01-31T12:00:00.5Z w k WARN t more] x",
            "[2026-01-31T12:00:00.5Z w\\u{zz} WARN t] x",
            "[2026-01-31T12:00:00.99999999999999999999Z w WARN t] x",
        ] {
            assert_eq!(Logged::read(line), None, "{line}");
        }
    }
}
