//! Text in pictures: made harmless, cut to a length, escaped; and numbers as words.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// So many characters of a name are kept where there is room for a line of its own.
pub(crate) const LONGEST: usize = 160;

/// The text with nothing in it that changes how what stands around it is read: control characters and marks that turn the
/// direction of writing are shown as signs.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unseen) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_unseen(c) { sign(c) } else { c }).collect())
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// The sign for a character that is not shown itself.
fn sign(c: char) -> char {
    match c {
        '\u{7f}' => '\u{2421}',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        _ => '\u{fffd}',
    }
}

/// At most so many characters, cut in the middle, where names differ least; cleaned.
pub(crate) fn cut(text: &str, most: usize) -> String {
    // Most names are short, and one of a megabyte is not walked through for its length.
    if text.char_indices().nth(most).is_none() {
        return clean(text).into_owned();
    }
    let tail = most.saturating_sub(1) / 2;
    let head = most.saturating_sub(1) - tail;
    let end = text.char_indices().nth(head).map_or(text.len(), |(at, _)| at);
    let start = match tail {
        0 => text.len(),
        _ => text.char_indices().rev().nth(tail - 1).map_or(0, |(at, _)| at),
    };
    format!("{}\u{2026}{}", clean(&text[..end]), clean(&text[start.max(end)..]))
}

/// How many columns of a font of fixed width it takes.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}

fn is_wide(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{a4cf}' | '\u{a960}'..='\u{a97c}' | '\u{ac00}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ffef}' | '\u{fdfd}'
        | '\u{12000}'..='\u{123ff}' | '\u{16800}'..='\u{18fff}' | '\u{1b000}'..='\u{1b2ff}' | '\u{1f000}'..)
        || matches!(c, '\u{2600}'..='\u{27bf}')
}

/// Cut to so many columns, and cleaned.
pub(crate) fn cut_to_columns(text: &str, most: usize) -> String {
    let mut chars = most;
    loop {
        let short = cut(text, chars);
        if columns(&short) <= most || chars <= 1 {
            return short;
        }
        chars -= 1;
    }
}

/// Appends text, escaped for XML and HTML. It has been cleaned.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

/// A number of things: exact up to 99,999, in thousands and millions beyond.
///
/// A number that was rounded has three digits.
pub(crate) fn count(n: u64) -> String {
    match n {
        0..=99_999 => grouped(n),
        _ => scaled(n as f64, 1000.0, &["", " k", " M", " G", " T", " P"]),
    }
}

/// All digits, in groups of three.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many of something: `1 task`, `2,000 tasks`.
pub(crate) fn many(n: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// A number of bytes.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..=999 => format!("{n} B"),
        _ => scaled(n as f64, 1000.0, &[" B", " kB", " MB", " GB", " TB", " PB", " EB"]),
    }
}

/// A time, to three digits.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 3600.0 {
        let minutes = time.as_secs() / 60;
        return format!("{} h {:02} min", minutes / 60, minutes % 60);
    }
    if seconds >= 100.0 {
        return format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60);
    }
    match time.as_nanos() {
        0..1000 => format!("{} ns", time.as_nanos()),
        1000..1_000_000 => three_digits(seconds * 1e6, " \u{b5}s"),
        1_000_000..1_000_000_000 => three_digits(seconds * 1e3, " ms"),
        _ => three_digits(seconds, " s"),
    }
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (value, 0);
    // What would be rounded to a thousand is one of the next unit.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    three_digits(value, units[unit])
}

fn three_digits(value: f64, unit: &str) -> String {
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let mut text = format!("{value:.digits$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text + unit
}

/// Appends a coordinate: no more than one digit behind the point.
pub(crate) fn push_number(out: &mut String, value: f64) {
    let tenths = (value * 10.0).round();
    // Neither `-0`, nor anything that is no number.
    let tenths = if tenths.is_finite() { tenths as i64 } else { 0 };
    let sign = if tenths < 0 { "-" } else { "" };
    let (whole, tenth) = (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10);
    // Writing to a `String` does not fail.
    let _ = match tenth {
        0 => write!(out, "{sign}{whole}"),
        _ => write!(out, "{sign}{whole}.{tenth}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_shown_as_a_sign() {
        assert_eq!(clean("a\nb\0\u{7f}\u{202e}c\u{85}"), "a\u{240a}b\u{2400}\u{2421}\u{fffd}c\u{fffd}");
        assert!(matches!(clean("caf\u{e9} \u{5d0}"), Cow::Borrowed(_)));
    }

    #[test]
    fn long_names_are_cut_in_the_middle() {
        assert_eq!(cut("abcdefgh", 8), "abcdefgh");
        assert_eq!(cut("abcdefghi", 8), "abcd\u{2026}ghi");
        assert_eq!(cut("abc", 1), "\u{2026}");
        assert_eq!(cut("abc", 2), "a\u{2026}");
        assert_eq!(cut(&"\u{1f980}".repeat(100), 5).chars().count(), 5);
        assert_eq!(columns(&cut_to_columns(&"\u{6f22}".repeat(100), 9)), 9);
        let long = "x".repeat(1 << 20);
        assert_eq!(cut(&long, LONGEST).chars().count(), LONGEST);
    }

    #[test]
    fn text_is_escaped() {
        let mut out = String::new();
        push_escaped(&mut out, "<script>&\"'");
        assert_eq!(out, "&lt;script&gt;&amp;&quot;&#39;");
    }

    #[test]
    fn numbers_are_words() {
        assert_eq!([0, 999, 1000, 99_999].map(count), ["0", "999", "1,000", "99,999"]);
        assert_eq!(
            [100_000, 200_000, 999_999, 1_000_000, 1_234_567].map(count),
            ["100 k", "200 k", "1 M", "1 M", "1.23 M"]
        );
        assert_eq!([0, 999, 1000, 999_700, 1_500_000].map(bytes), ["0 B", "999 B", "1 kB", "1 MB", "1.5 MB"]);
        let times = [0, 999, 1500, 12_345_678, 1_000_000_000, 61_200_000_000, 125_000_000_000, 7_384_000_000_000];
        assert_eq!(
            times.map(|t| time(Duration::from_nanos(t))),
            ["0 ns", "999 ns", "1.5 \u{b5}s", "12.3 ms", "1 s", "61.2 s", "2 min 05 s", "2 h 03 min"]
        );
        assert_eq!((grouped(u64::MAX).as_str(), many(1, "task").as_str()), ("18,446,744,073,709,551,615", "1 task"));
    }

    #[test]
    fn coordinates_are_short() {
        let mut out = String::new();
        for value in [0.0, -0.04, 1.25, -3.5, f64::NAN, f64::INFINITY, 1e300] {
            push_number(&mut out, value);
            out.push(' ');
        }
        assert!(out.starts_with("0 0 1.3 -3.5 0 0 "), "{out}");
    }
}
