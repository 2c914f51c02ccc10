//! Which parts of CSV text are within quotes, without making records of it.

use crate::files::{Block, FileError, FileProblem, Lines};
use memchr::memchr;
use std::io::Read;

/// So much is read at once.
const CHUNK: usize = 256 << 10;

/// Follows CSV text to know at each place whether a quoted field is open. It agrees with the parser: a quote opens a field
/// only at its beginning, two quotes within a quoted field are one of its characters, and what follows the closing quote
/// is taken as it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QuoteScanner {
    quote: u8,
    delimiter: u8,
    is_open: bool,
    /// Whether the last byte was a quote in a quoted field: it closes the field if no other quote follows.
    is_closing: bool,
    last: u8,
}

impl QuoteScanner {
    /// Begins behind a line end, which is part of a quoted field or is not.
    pub(super) fn new(delimiter: u8, quote: u8, is_open: bool) -> Self {
        Self { quote, delimiter, is_open, is_closing: false, last: b'\n' }
    }

    /// Goes over the next bytes of the text; whether a field was closed in them.
    pub(super) fn feed(&mut self, text: &[u8]) -> bool {
        let Some(&last) = text.last() else { return false };
        let (mut at, mut has_closed) = (0, false);
        while at < text.len() {
            if std::mem::take(&mut self.is_closing) {
                if text[at] == self.quote {
                    at += 1;
                    continue;
                }
                (self.is_open, has_closed) = (false, true);
            }
            let Some(quote) = memchr(self.quote, &text[at..]).map(|found| at + found) else { break };
            if self.is_open {
                self.is_closing = true;
            } else {
                let before = if quote == 0 { self.last } else { text[quote - 1] };
                self.is_open = before == self.delimiter || matches!(before, b'\n' | b'\r');
            }
            at = quote + 1;
        }
        self.last = last;
        has_closed
    }

    /// Whether a quoted field is open.
    pub(super) fn is_open(&self) -> bool {
        self.is_open && !self.is_closing
    }
}

/// Whether a quoted field is open behind the last line of a block, if none was before its first line, and if one was.
pub(crate) type QuoteEffect = (bool, bool);

/// Finds out what a block does, in one pass over its bytes.
pub(super) fn scan(block: &Block, delimiter: u8, quote: u8) -> Result<QuoteEffect, FileError> {
    let closed = QuoteScanner::new(delimiter, quote, false);
    let mut scanners = [closed, QuoteScanner::new(delimiter, quote, true)];
    let mut feed = |text: &[u8]| {
        let [closed, open] = &mut scanners;
        // Once both say the same they always will.
        let are_equal = closed == open;
        closed.feed(text);
        if are_equal {
            open.clone_from(closed);
        } else {
            open.feed(text);
        }
    };
    if block.is_like_ascii() && delimiter.is_ascii() && quote.is_ascii() {
        scan_bytes(block, &mut feed)?;
    } else {
        let mut lines = block.with_line_ends().lines()?;
        let mut text = String::new();
        while read_line(&mut lines, &mut text)?.is_some() {
            feed(text.as_bytes());
        }
    }
    let [closed, open] = scanners;
    Ok((closed.is_open(), open.is_open()))
}

fn scan_bytes(block: &Block, mut feed: impl FnMut(&[u8])) -> Result<(), FileError> {
    let failed = |e| FileError::io(block.path(), e);
    let mut contents = block.contents().map_err(failed)?;
    let mut bytes = Vec::with_capacity(CHUNK);
    let mut mark = (block.range().start == 0).then_some(b"\xef\xbb\xbf");
    loop {
        if crate::cancelled() {
            return Err(FileError::of(block.path(), FileProblem::Cancelled));
        }
        bytes.clear();
        if contents.by_ref().take(CHUNK as u64).read_to_end(&mut bytes).map_err(failed)? == 0 {
            return Ok(());
        }
        let mark = mark.take().filter(|mark| bytes.starts_with(*mark));
        feed(&bytes[mark.map_or(0, |mark| mark.len())..]);
    }
}

/// Replaces the text by that of the next line, or by what can be shown of one that is not text, which is an error to
/// be told later. `None` at the end.
pub(super) fn read_line(lines: &mut Lines, text: &mut String) -> Result<Option<Option<FileError>>, FileError> {
    text.clear();
    match lines.next_line() {
        Ok(None) => Ok(None),
        Ok(Some(line)) => {
            text.push_str(line);
            Ok(Some(None))
        }
        Err(e) if e.is_bad_record() => {
            text.push_str(&lines.lossy_text());
            Ok(Some(Some(e)))
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use csv::{ReaderBuilder, StringRecord};
    use proptest::prelude::*;

    /// Whether the parser takes a field to be open behind the text: then a line end is part of it.
    fn parser_has_open_field(text: &str) -> bool {
        let records = |text: String| {
            let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(std::io::Cursor::new(text));
            reader.into_records().map(|r| r.expect("a record")).collect::<Vec<StringRecord>>()
        };
        let last = |text: String| records(text).last().map(|r| r.iter().next_back().unwrap_or_default().to_string());
        last(format!("{text}\nx")).is_some_and(|field| field.ends_with("\nx"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_scanner_agrees_with_the_parser_however_the_text_is_cut(
            parts in prop::collection::vec(prop::sample::select(vec!["a", ",", "\"", "\"", "\n", "\r", "\r\n"]), 0..40),
            cut in 0..60_usize,
        ) {
            let text = parts.concat();
            let (first, second) = text.split_at(cut.min(text.len()));
            let mut scanner = QuoteScanner::new(b',', b'"', false);
            scanner.feed(first.as_bytes());
            scanner.feed(second.as_bytes());
            prop_assert_eq!(scanner.is_open(), parser_has_open_field(&text), "{:?}", text);
            let mut inside = QuoteScanner::new(b',', b'"', true);
            inside.feed(text.as_bytes());
            prop_assert_eq!(inside.is_open(), parser_has_open_field(&format!("\"{text}")), "{:?}", text);
        }
    }
}
