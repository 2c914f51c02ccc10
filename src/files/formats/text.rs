//! Text: each line a record.

use super::{Format, Found};
use crate::files::{BadRecord, Block, FileError, Lines, Writer};
use std::io::{self, Write};

/// Each line a string.
pub(crate) struct Text;

pub(crate) struct TextRecords(Lines);

impl Format for Text {
    type Records = TextRecords;

    fn records(&self, block: &Block) -> Result<TextRecords, FileError> {
        block.lines().map(TextRecords)
    }
}

impl Iterator for TextRecords {
    type Item = Found<String>;

    #[inline]
    fn next(&mut self) -> Option<Found<String>> {
        match self.0.next_line() {
            Ok(line) => line.map(|line| Ok(line.to_string())),
            Err(e) => Some(Err(bad_line(&self.0, e))),
        }
    }
}

/// The current line, if something is wrong with it, or the end of the file.
pub(super) fn bad_line(lines: &Lines, error: FileError) -> BadRecord {
    let text = if error.is_bad_record() { lines.lossy_text().into_owned() } else { String::new() };
    BadRecord { error, text }
}

/// Writes a record as a line of text, without its end.
pub(crate) fn write_line<T: AsRef<str>>(record: &T, file: &mut Writer) -> io::Result<()> {
    file.write_all(record.as_ref().as_bytes())
}
