//! CSV: how its files are written, and their records as values of a type.

use super::{Format, Found, unreadable};
use crate::files::{BadRecord, Block, FileError, FileProblem, Lines, Place};
use ::csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Trim, WriterBuilder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::marker::PhantomData;

/// How CSV files are written.
///
/// ```
/// # use swath::files::Files;
/// # use swath::{Bag, Client, Csv};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("a.csv");
/// std::fs::write(&path, "oak;21.5\nash;18\n")?;
/// let trees = Bag::<(String, f64)>::read_csv(&path, Csv::new().delimiter(b';').headers(false))?;
/// assert_eq!(trees.map(|(_, height)| height).sum().compute(&Client::sync())?, 39.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Csv {
    delimiter: u8,
    quote: u8,
    headers: bool,
    trim: bool,
    flexible: bool,
}

impl Default for Csv {
    fn default() -> Self {
        Self::new()
    }
}

impl Csv {
    /// Fields between commas, quoted with `"` where necessary, and a first line with the names of the columns.
    pub fn new() -> Self {
        Self { delimiter: b',', quote: b'"', headers: true, trim: false, flexible: false }
    }

    /// What stands between fields.
    pub fn delimiter(mut self, byte: u8) -> Self {
        self.delimiter = byte;
        self
    }

    /// What stands around fields that contain delimiters or line ends.
    pub fn quote(mut self, byte: u8) -> Self {
        self.quote = byte;
        self
    }

    /// Whether the first line of each file has the names of the columns. Without them, records are tuples or lists.
    pub fn headers(mut self, headers: bool) -> Self {
        self.headers = headers;
        self
    }

    /// Takes white space off around fields.
    pub fn trim(mut self) -> Self {
        self.trim = true;
        self
    }

    /// Takes records with more or fewer fields than there are names. Otherwise they are bad.
    pub fn flexible(mut self) -> Self {
        self.flexible = true;
        self
    }

    fn reader<R: Read>(&self, data: R) -> Reader<R> {
        ReaderBuilder::new()
            .delimiter(self.delimiter)
            .quote(self.quote)
            .trim(if self.trim { Trim::All } else { Trim::None })
            // Their number is checked here, so that each bad record is told in the same way.
            .flexible(true)
            .has_headers(false)
            .from_reader(data)
    }
}

/// CSV records of a type.
pub(crate) struct CsvFormat<T>(pub(crate) Csv, pub(crate) PhantomData<fn() -> T>);

pub(crate) struct CsvRecords<T> {
    reader: Reader<LineText>,
    format: Csv,
    headers: Option<StringRecord>,
    record: StringRecord,
    _record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Format for CsvFormat<T> {
    type Records = CsvRecords<T>;

    fn records(&self, block: &Block) -> Result<CsvRecords<T>, FileError> {
        let mut reader = self.0.reader(LineText::open(block)?);
        let headers = match (self.0.headers, block.range().start) {
            (false, _) => None,
            (true, 0) => Some(header(&mut reader, block)?),
            (true, _) => {
                let names = header(&mut self.0.reader(LineText::open(&block.head())?), block)?;
                if names.is_empty() {
                    let problem = FileProblem::BadHeader { reason: "the first line is blank".to_string() };
                    return Err(FileError::of(block.path(), problem));
                }
                Some(names)
            }
        };
        let record = StringRecord::new();
        Ok(CsvRecords { reader, format: self.0.clone(), headers, record, _record: PhantomData })
    }
}

/// Reads the names of the columns.
fn header(reader: &mut Reader<LineText>, block: &Block) -> Result<StringRecord, FileError> {
    let mut names = StringRecord::new();
    reader.read_record(&mut names).map_err(|e| broken(block, e))?;
    let end = reader.position().byte();
    match reader.get_mut().take_lines(end) {
        Some(e) => Err(FileError::new(e.place().clone(), FileProblem::BadHeader { reason: e.problem().to_string() })),
        None => Ok(names),
    }
}

/// A file that cannot be read on: the parser itself refuses nothing.
fn broken(block: &Block, error: ::csv::Error) -> FileError {
    match error.into_kind() {
        ErrorKind::Io(e) => match e.downcast::<FileError>() {
            Ok(error) => error,
            Err(e) => FileError::io(block.path(), e),
        },
        other => {
            let reason = ::csv::Error::from(io::Error::other(format!("{other:?}"))).to_string();
            FileError::of(block.path(), FileProblem::BadRecord { format: "CSV".to_string(), reason })
        }
    }
}

impl<T: DeserializeOwned> CsvRecords<T> {
    fn deserialize(&self) -> Result<T, String> {
        if let Some(names) = &self.headers
            && names.len() != self.record.len()
            && !self.format.flexible
        {
            return Err(format!("{} fields for {} columns", self.record.len(), names.len()));
        }
        self.record.deserialize(self.headers.as_ref()).map_err(|e| match e.kind() {
            ErrorKind::Deserialize { err, .. } => {
                let field = err.field().and_then(|i| Some((i as usize, self.headers.as_ref()?.get(i as usize)?)));
                match field {
                    Some((i, name)) => format!("column `{name}` is {:?}: {}", &self.record[i], err.kind()),
                    None => err.kind().to_string(),
                }
            }
            _ => e.to_string(),
        })
    }

    /// The record as it would be written.
    fn text(&self) -> String {
        let mut writer =
            WriterBuilder::new().delimiter(self.format.delimiter).quote(self.format.quote).from_writer(Vec::new());
        // Into memory, and what has been read can be written.
        let _ = writer.write_record(&self.record);
        let bytes = writer.into_inner().unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_string()
    }
}

impl<T: DeserializeOwned> Iterator for CsvRecords<T> {
    type Item = Found<T>;

    fn next(&mut self) -> Option<Found<T>> {
        match self.reader.read_record(&mut self.record) {
            Ok(false) => return None,
            Ok(true) => {}
            Err(e) => {
                let block = self.reader.get_ref().lines.block();
                return Some(Err(unreadable(broken(block, e))));
            }
        }
        let end = self.reader.position().byte();
        let error = match (self.reader.get_mut().take_lines(end), self.deserialize()) {
            (None, Ok(record)) => return Some(Ok(record)),
            (Some(not_text), _) => not_text,
            (None, Err(reason)) => {
                let problem = FileProblem::BadRecord { format: "CSV".to_string(), reason };
                FileError::new(self.reader.get_mut().place(), problem)
            }
        };
        Some(Err(BadRecord { error, text: self.text() }))
    }
}

/// The lines of a block as UTF-8 text, for a parser that finds the records itself. It remembers where the lines came from
/// until their records have been read.
struct LineText {
    lines: Lines,
    text: String,
    /// So much of the text has been read.
    at: usize,
    /// Bytes of text made.
    made: u64,
    lines_read: u64,
    /// Of the lines whose records have not been read.
    positions: VecDeque<LinePosition>,
    /// Number and offset of the first line of the current record.
    record: (u64, u64),
}

/// Where a line came from.
struct LinePosition {
    /// Where it begins in the text.
    start: u64,
    /// And in the file.
    offset: u64,
    /// How many lines there were, with this one.
    index: u64,
    is_blank: bool,
    /// What is wrong with it.
    error: Option<FileError>,
}

impl LineText {
    fn open(block: &Block) -> Result<Self, FileError> {
        // A quoted field may contain line ends.
        let lines = block.with_line_ends().lines()?;
        Ok(Self {
            lines,
            text: String::new(),
            at: 0,
            made: 0,
            lines_read: 0,
            positions: VecDeque::new(),
            record: (0, 0),
        })
    }

    /// Takes the lines of the record that ends at some byte of the text; answers with what is wrong with them. A record
    /// begins with a line, and blank ones before it are none of it.
    fn take_lines(&mut self, end: u64) -> Option<FileError> {
        let count = self.positions.iter().take_while(|position| position.start < end).count();
        let mut lines = self.positions.drain(..count).skip_while(|position| position.is_blank);
        // A carriage return alone ends a record, too, but not a line.
        let first = lines.next()?;
        let error = first.error.or_else(|| lines.find_map(|position| position.error));
        self.record = (first.index, first.offset);
        error
    }

    /// Where the current record begins, or the line it is in.
    fn place(&mut self) -> Place {
        let (index, offset) = self.record;
        let mut place = self.lines.locate();
        place.line = place.line.map(|now| now - (self.lines_read - index));
        place.offset = Some(offset);
        place
    }

    /// Makes the text of the next line; `false` at the end.
    fn next_line(&mut self) -> Result<bool, FileError> {
        self.text.clear();
        self.at = 0;
        let error = match self.lines.next_line() {
            Ok(None) => return Ok(false),
            Ok(Some(line)) => {
                self.text.push_str(line);
                None
            }
            Err(e) if e.is_bad_record() => {
                self.text.push_str(&self.lines.lossy_text());
                Some(e)
            }
            Err(e) => return Err(e),
        };
        self.lines_read += 1;
        let is_blank = matches!(self.text.as_str(), "\n" | "\r\n");
        let position =
            LinePosition { start: self.made, offset: self.lines.offset(), index: self.lines_read, is_blank, error };
        self.positions.push_back(position);
        self.made += self.text.len() as u64;
        Ok(true)
    }
}

impl Read for LineText {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        while got < buf.len() {
            if self.at == self.text.len() && !self.next_line().map_err(io::Error::other)? {
                break;
            }
            let rest = &self.text.as_bytes()[self.at..];
            let some = rest.len().min(buf.len() - got);
            buf[got..got + some].copy_from_slice(&rest[..some]);
            (self.at, got) = (self.at + some, got + some);
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Files;
    use crate::files::formats::Records;
    use proptest::prelude::*;

    fn csv<T: DeserializeOwned>(text: &[u8], files: impl Fn(Files) -> Files, format: Csv) -> Vec<Found<T>> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.csv");
        std::fs::write(&path, text).expect("written");
        let blocks = files(Files::new(&path)).blocks().expect("listed");
        Records::new(blocks, CsvFormat(format, PhantomData)).collect()
    }

    fn place<T>(found: &Found<T>) -> Option<(Option<u64>, Option<u64>)> {
        found.as_ref().err().map(|bad| (bad.error.place().line, bad.error.place().offset))
    }

    #[test]
    fn bad_csv_records_are_placed() {
        let text = b"name,n\n\"two\nlines\",1\nbad,x\n\n\nshort\nworse,\xff\nlast,2";
        for blocksize in [None, Some(1), Some(9)] {
            // A quoted line end is no place to split.
            let text = if blocksize.is_some() { &text.replace_quoted()[..] } else { &text[..] };
            let set = |files: Files| blocksize.map_or(files.clone(), |n| files.blocksize(n));
            let found: Vec<Found<(String, i64)>> = csv(text, set, Csv::new());
            let good: Vec<_> = found.iter().filter_map(|r| r.as_ref().ok().map(|(_, n)| *n)).collect();
            assert_eq!(good, [1, 2], "{blocksize:?}");
            let places: Vec<_> = found.iter().filter_map(place).collect();
            let line = if blocksize.is_some() { 3 } else { 4 };
            let wanted = [(line, 21), (line + 3, 29), (line + 4, 35)].map(|(a, b)| (Some(a), Some(b)));
            assert_eq!(places, wanted, "{blocksize:?}");
            let errors: Vec<_> = found.iter().filter_map(|r| r.as_ref().err()).collect();
            assert!(errors[0].to_string().contains("column `n` is \"x\": invalid digit"), "{}", errors[0]);
            assert!(errors[1].to_string().contains("1 fields for 2 columns"), "{}", errors[1]);
            assert!(matches!(errors[2].error.problem(), FileProblem::NotText { at: 6, .. }), "{}", errors[2]);
            assert_eq!(
                errors.iter().map(|e| e.text.as_str()).collect::<Vec<_>>(),
                ["bad,x", "short", "worse,\u{fffd}"]
            );
        }
    }

    trait ReplaceQuoted {
        fn replace_quoted(&self) -> Vec<u8>;
    }

    impl ReplaceQuoted for [u8] {
        /// The same without the quoted line end, of the same length.
        fn replace_quoted(&self) -> Vec<u8> {
            let mut quoted = false;
            let mut replace = |b: u8| {
                quoted ^= b == b'"';
                if quoted && b == b'\n' { b' ' } else { b }
            };
            self.iter().map(|b| replace(*b)).collect()
        }
    }

    #[test]
    fn other_encodings_keep_their_offsets() {
        let text = "name;n\r\nöl;1\r\nüb;x\r\n";
        let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
        let format = Csv::new().delimiter(b';');
        let found: Vec<Found<(String, i64)>> = csv(&latin, |files| files.encoding("latin-1"), format);
        assert_eq!(found[0], Ok(("öl".to_string(), 1)));
        assert_eq!(place(&found[1]), Some((Some(3), Some(14))));
        assert_eq!(found[1].as_ref().err().map(|bad| bad.text.as_str()), Some("üb;x"));
    }

    #[test]
    fn reading_errors_of_csv_keep_their_place() {
        let place = Place::file("x");
        let error = FileError::new(place, FileProblem::Changed { listed: 1, found: 2 });
        let back = ::csv::Error::from(io::Error::other(error.clone()));
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("a"), "").expect("written");
        let block = &Files::new(dir.path().join("a")).blocks().expect("listed")[0];
        assert_eq!(broken(block, back), error);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn csv_records_are_those_of_the_parser(
            parts in prop::collection::vec(prop::sample::select(vec!["a", "b", ",", "\"", "\n", "\n", "\r\n"]), 0..40)
        ) {
            let text = parts.concat();
            let mut parser = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
            let wanted: Vec<StringRecord> = parser.records().map(|r| r.expect("a record")).collect();
            let format = Csv::new().headers(false).flexible();
            let found: Vec<Found<Vec<String>>> = csv(text.as_bytes(), |files| files, format.clone());
            prop_assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(&wanted) {
                prop_assert_eq!(found.as_ref().ok(), Some(&wanted.iter().map(String::from).collect()));
            }
            // The same again, with a type that none of them is.
            let bad: Vec<Found<Vec<u8>>> = csv(text.as_bytes(), |files| files, format);
            for (bad, wanted) in bad.iter().zip(&wanted) {
                let start = wanted.position().map_or(0, ::csv::Position::byte) as usize;
                let blank = text[start..].bytes().take_while(|b| matches!(b, b'\r' | b'\n')).count();
                let line = text[..start + blank].matches('\n').count() as u64 + 1;
                prop_assert_eq!(place(bad), Some((Some(line), Some((start + blank) as u64))), "{:?}", text);
            }
        }
    }
}
