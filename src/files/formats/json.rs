//! JSON lines: each line a record.

use super::finite::Finite;
use super::text::bad_line;
use super::{Format, Found};
use crate::files::{Block, FileError, FileProblem, Lines, Writer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::marker::PhantomData;

/// Each line a JSON value.
pub(crate) struct JsonLines<T>(pub(crate) PhantomData<fn() -> T>);

pub(crate) struct JsonRecords<T> {
    lines: Lines,
    _record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Format for JsonLines<T> {
    type Records = JsonRecords<T>;

    fn records(&self, block: &Block) -> Result<JsonRecords<T>, FileError> {
        Ok(JsonRecords { lines: block.lines()?, _record: PhantomData })
    }
}

impl<T: DeserializeOwned> Iterator for JsonRecords<T> {
    type Item = Found<T>;

    fn next(&mut self) -> Option<Found<T>> {
        loop {
            let wrong = match self.lines.next_line() {
                Ok(None) => return None,
                Ok(Some(line)) => match serde_json::from_str(line) {
                    Ok(record) => return Some(Ok(record)),
                    Err(_) if line.trim_ascii().is_empty() => continue,
                    Err(e) => e,
                },
                Err(e) => return Some(Err(bad_line(&self.lines, e))),
            };
            let problem = FileProblem::BadRecord { format: "JSON".to_string(), reason: in_line(&wrong) };
            let error = FileError::new(self.lines.locate(), problem);
            return Some(Err(bad_line(&self.lines, error)));
        }
    }
}

/// What serde says of one line: its number is not 1.
fn in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = match text.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())) {
        Some(reason) => format!("{reason} at column {}", error.column()),
        None => text,
    };
    match error.is_eof() {
        true => format!("{reason}; each value has to be on one line"),
        false => reason,
    }
}

/// Writes a record as a line of JSON, without its end. A number that is not finite is an error: JSON has none.
pub(crate) fn write_line<T: Serialize>(record: &T, file: &mut Writer) -> io::Result<()> {
    Ok(serde_json::to_writer(file, &Finite(record))?)
}
