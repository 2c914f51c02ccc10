//! Record formats of files: readers of blocks and writers of lines, as iterators that know no collection.

pub(crate) mod csv;
mod finite;
pub(crate) mod json;
pub(crate) mod json_value;
mod quotes;
pub(crate) mod text;

use crate::files::{BadRecord, Block, FileError, OutputFile, Writer};
use std::io::{self, Write};

/// What there is instead of a record. Where it is not about the record alone, it is the last one.
pub(crate) type Found<T> = Result<T, BadRecord>;

/// A file that cannot be read on.
fn unreadable(error: FileError) -> BadRecord {
    BadRecord { error, text: String::new() }
}

/// Opens a block to read its records.
pub(crate) trait Format {
    type Records: Iterator;

    fn records(&self, block: &Block) -> Result<Self::Records, FileError>;
}

/// The records of several blocks.
pub(crate) struct Records<F: Format> {
    format: F,
    blocks: std::vec::IntoIter<Block>,
    current: Option<F::Records>,
}

impl<F: Format> Records<F> {
    pub(crate) fn new(blocks: Vec<Block>, format: F) -> Self {
        Self { format, blocks: blocks.into_iter(), current: None }
    }
}

impl<T, F: Format<Records: Iterator<Item = Found<T>>>> Iterator for Records<F> {
    type Item = Found<T>;

    #[inline]
    fn next(&mut self) -> Option<Found<T>> {
        loop {
            if let Some(records) = &mut self.current {
                match records.next() {
                    None => self.current = None,
                    record => return record,
                }
            }
            match self.format.records(&self.blocks.next()?) {
                Ok(records) => self.current = Some(records),
                Err(e) => return Some(Err(unreadable(e))),
            }
        }
    }
}

/// Writes each record as a line of a file. Where the records turn out not to be `complete` at their end, there is no file.
pub(crate) fn write_lines<T>(
    records: impl Iterator<Item = T>,
    file: &OutputFile,
    mut line: impl FnMut(&T, &mut Writer) -> io::Result<()>,
    complete: impl FnOnce() -> bool,
) -> Result<(), FileError> {
    file.write(|to| {
        for record in records {
            line(&record, to)?;
            to.write_all(b"\n")?;
        }
        if complete() { Ok(()) } else { Err(io::Error::other("the elements are not complete")) }
    })
}
