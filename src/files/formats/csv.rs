//! CSV: how its files are written, and their records as values of a type.

pub(crate) use super::quotes::QuoteEffect;
use super::quotes::{self, QuoteScanner, read_line};
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
/// # use swath::bag::Csv;
/// # use swath::{Bag, Client};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("a.csv");
/// std::fs::write(&path, "oak;21.5\nash;18\n")?;
/// let trees = Bag::<(String, f64)>::read_csv(&path, Csv::new().delimiter(b';').headers(false))?;
/// assert_eq!(trees.map(|(_, height)| height).sum().compute(&Client::sync())?, 39.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "it only says how; nothing is done with it yet"]
pub struct Csv {
    delimiter: u8,
    quote: u8,
    headers: bool,
    trim: bool,
    flexible: bool,
    quoting: bool,
    single_lines: bool,
}

impl Default for Csv {
    fn default() -> Self {
        Self::new()
    }
}

impl Csv {
    /// Fields between commas, quoted with `"` where necessary, and a first line with the names of the columns.
    pub fn new() -> Self {
        Self {
            delimiter: b',',
            quote: b'"',
            headers: true,
            trim: false,
            flexible: false,
            quoting: true,
            single_lines: false,
        }
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

    /// Whether quotes mean anything. Without it, one is a character as any other.
    pub fn quoting(mut self, quoting: bool) -> Self {
        self.quoting = quoting;
        self
    }

    /// Says that no field contains a line end. With [`Files::blocksize`](crate::files::Files::blocksize) each block is then
    /// read once: otherwise its quotes are counted before, which costs little where files are near, but another download
    /// where they are far. A record of several lines is an error then, which cannot be set aside.
    ///
    /// ```
    /// # use swath::files::Files;
    /// # use swath::bag::Csv;
    /// # use swath::{Bag, Client};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.csv");
    /// std::fs::write(&path, "1,\"of one line\"\n2,\"of\ntwo\"\n")?;
    /// let files = Files::new(&path).blocksize(5);
    /// let rows = Bag::<(u32, String)>::read_csv(&files, Csv::new().headers(false))?;
    /// assert_eq!(rows.compute(&Client::sync())?[1], (2, "of\ntwo".to_string()));
    /// let rows = Bag::<(u32, String)>::read_csv(&files, Csv::new().headers(false).single_lines())?;
    /// assert!(rows.compute(&Client::sync()).unwrap_err().to_string().contains("a.csv:2"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn single_lines(mut self) -> Self {
        self.single_lines = true;
        self
    }

    /// Whether it has to be found out where quoted fields are open before a file can be split.
    pub(crate) fn needs_scan(&self) -> bool {
        self.quoting && !self.single_lines
    }

    /// What a block does to quoted fields.
    pub(crate) fn scan(&self, block: &Block) -> Result<QuoteEffect, FileError> {
        quotes::scan(block, self.delimiter, self.quote)
    }

    fn scanner(&self, is_open: bool) -> QuoteScanner {
        QuoteScanner::new(self.delimiter, self.quote, is_open)
    }

    fn reader<R: Read>(&self, data: R) -> Reader<R> {
        ReaderBuilder::new()
            .delimiter(self.delimiter)
            .quote(self.quote)
            .quoting(self.quoting)
            .trim(if self.trim { Trim::All } else { Trim::None })
            // Their number is checked here, so that each bad record is told in the same way.
            .flexible(true)
            .has_headers(false)
            .from_reader(data)
    }
}

/// CSV records of a type.
pub(crate) struct CsvFormat<T> {
    csv: Csv,
    /// Whether a quoted field is open before the first line of each block.
    in_quotes: bool,
    _record: PhantomData<fn() -> T>,
}

impl<T> CsvFormat<T> {
    pub(crate) fn new(csv: Csv, in_quotes: bool) -> Self {
        Self { csv, in_quotes, _record: PhantomData }
    }
}

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
        let csv = &self.csv;
        let mut reader = csv.reader(LineText::open(block, csv, self.in_quotes)?);
        let headers = match (csv.headers, block.range().start) {
            (false, _) => None,
            (true, 0) => Some(header(&mut reader, block)?),
            (true, _) => {
                let names = header(&mut csv.reader(LineText::open(&block.head(), csv, false)?), block)?;
                if names.is_empty() {
                    let problem = FileProblem::BadHeader { reason: "the first line is blank".to_string() };
                    return Err(FileError::of(block.path(), problem));
                }
                Some(names)
            }
        };
        let record = StringRecord::new();
        Ok(CsvRecords { reader, format: csv.clone(), headers, record, _record: PhantomData })
    }
}

/// Reads the names of the columns.
fn header(reader: &mut Reader<LineText>, block: &Block) -> Result<StringRecord, FileError> {
    let mut names = StringRecord::new();
    reader.read_record(&mut names).map_err(|e| broken(block, e))?;
    let end = reader.position().byte();
    let error = reader.get_mut().take_lines(end);
    if let Some(reason) = reader.get_ref().left_open(end) {
        let reason = reason.to_string();
        return Err(FileError::new(reader.get_mut().place(), FileProblem::BadHeader { reason }));
    }
    match error {
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
        let not_text = self.reader.get_mut().take_lines(end);
        let left_open = self.reader.get_ref().left_open(end);
        if self.format.single_lines && (left_open.is_some() || self.reader.get_ref().record_lines > 1) {
            let why = "a record has several lines, though `Csv::single_lines` was said: leave that out";
            return Some(Err(unreadable(FileError::new(self.reader.get_mut().place(), FileProblem::unsupported(why)))));
        }
        let error = match (not_text, self.deserialize()) {
            (None, _) if left_open.is_some() => {
                let reason = left_open.unwrap_or_default().to_string();
                let problem = FileProblem::BadRecord { format: "CSV".to_string(), reason };
                FileError::new(self.reader.get_mut().place(), problem)
            }
            (None, Ok(record)) => return Some(Ok(record)),
            (Some(not_text), _) => not_text,
            (None, Err(reason)) => {
                let problem = FileProblem::BadRecord { format: "CSV".to_string(), reason };
                FileError::new(self.reader.get_mut().place(), problem)
            }
        };
        let mut text = self.text();
        if left_open.is_some() {
            // The rest of the file may be in it.
            text.truncate(text.find('\n').unwrap_or(text.len()));
        }
        Some(Err(BadRecord { error, text }))
    }
}

/// The lines of a block as UTF-8 text, for a parser that finds the records itself. It remembers where the lines came from
/// until their records have been read.
///
/// Records belong to the block in which they begin. Lines of a quoted field that was open before are left out, and where
/// one is open behind the last line, the lines up to its end come from behind the block.
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
    /// Where it ends in the text.
    record_end: u64,
    /// Number of its lines.
    record_lines: usize,
    /// The last of them.
    last_line: LinePosition,
    /// Knows whether a quoted field is open behind the last line; none where quotes mean nothing.
    quotes: Option<QuoteScanner>,
    single_lines: bool,
    /// How many lines are still to come from behind the block, once they do.
    behind: Option<u64>,
    has_ended: bool,
}

/// Where a line came from.
#[derive(Default)]
struct LinePosition {
    /// Where it begins in the text.
    start: u64,
    /// And in the file.
    offset: u64,
    /// Where what ends it begins.
    content_end: u64,
    /// How many lines there were, with this one.
    index: u64,
    /// What is wrong with it.
    error: Option<FileError>,
}

impl LinePosition {
    fn is_blank(&self) -> bool {
        self.content_end == self.start
    }
}

impl LineText {
    fn open(block: &Block, csv: &Csv, in_quotes: bool) -> Result<Self, FileError> {
        // A quoted field may contain line ends.
        let lines = block.with_line_ends().lines()?;
        let mut text = Self {
            lines,
            text: String::new(),
            at: 0,
            made: 0,
            lines_read: 0,
            positions: VecDeque::new(),
            record: (0, 0),
            record_end: 0,
            record_lines: 0,
            last_line: LinePosition::default(),
            quotes: csv.quoting.then(|| csv.scanner(in_quotes)),
            single_lines: csv.single_lines,
            behind: None,
            has_ended: false,
        };
        text.skip_open_field()?;
        Ok(text)
    }

    fn is_open(&self) -> bool {
        self.quotes.as_ref().is_some_and(QuoteScanner::is_open)
    }

    /// Leaves out the rest of a record that began before the block.
    fn skip_open_field(&mut self) -> Result<(), FileError> {
        while self.is_open() {
            if read_line(&mut self.lines, &mut self.text)?.is_none() {
                // All of the block is in the field.
                (self.has_ended, self.quotes) = (true, None);
                break;
            }
            self.lines_read += 1;
            if let Some(quotes) = &mut self.quotes {
                quotes.feed(self.text.as_bytes());
            }
        }
        self.text.clear();
        Ok(())
    }

    /// Goes on behind the block where a quoted field is open, up to the line in which it ends; `false` where it does not.
    fn go_on(&mut self) -> Result<bool, FileError> {
        let Some(behind) = self.lines.block().behind().filter(|_| self.is_open() && !self.single_lines) else {
            return Ok(false);
        };
        // Looks for the end first, lest the rest of a large file be taken for a field.
        let mut lines = behind.lines()?;
        let (mut quotes, mut read, mut most) = (self.quotes.clone(), 0, 0);
        while let Some(quotes) = quotes.as_mut().filter(|quotes| quotes.is_open()) {
            if read_line(&mut lines, &mut self.text)?.is_none() {
                break;
            }
            read += 1;
            if quotes.feed(self.text.as_bytes()) || !quotes.is_open() {
                most = read;
            }
        }
        (self.lines, self.behind) = (behind.lines()?, Some(most));
        Ok(most > 0)
    }

    /// What is wrong where the record that ends at some byte of the text is the last one and has an open field.
    fn left_open(&self, end: u64) -> Option<&'static str> {
        (self.has_ended && end == self.made && self.is_open()).then_some(
            "a quoted field has no end: close it, or say `Csv::quoting(false)` if quotes mean nothing in this file",
        )
    }

    /// Takes the lines of the record that ends at some byte of the text; answers with what is wrong with them. A record
    /// begins with a line, and blank ones before it are none of it.
    fn take_lines(&mut self, end: u64) -> Option<FileError> {
        // A carriage return alone ends a record, too, but not a line: then the next one begins in the same.
        let begins_in_last = self.record_end < self.last_line.content_end;
        let count = self.positions.iter().take_while(|position| position.start < end).count();
        let mut lines = self.positions.drain(..count).skip_while(|position| position.is_blank() && !begins_in_last);
        let (mut error, mut count) = (None, 0);
        if begins_in_last {
            (self.record, count) = ((self.last_line.index, self.last_line.offset), 1);
        }
        for mut line in &mut lines {
            if count == 0 {
                self.record = (line.index, line.offset);
            }
            error = error.or(line.error.take());
            count += 1;
            self.last_line = line;
        }
        (self.record_end, self.record_lines) = (end, count);
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
        (self.has_ended, self.at) = (self.has_ended || self.behind == Some(0), 0);
        let error = loop {
            if self.has_ended {
                self.text.clear();
                return Ok(false);
            }
            match read_line(&mut self.lines, &mut self.text)? {
                Some(error) => break error,
                None if self.behind.is_some() => self.has_ended = true,
                None => self.has_ended = !self.go_on()?,
            }
        };
        self.lines_read += 1;
        self.behind = self.behind.map(|left| left - 1);
        if let Some(quotes) = &mut self.quotes {
            quotes.feed(self.text.as_bytes());
        }
        if self.made == 0 && self.text.starts_with('\u{feff}') {
            // The mark of the file has been left out already; the parser would take this one for it.
            self.text.insert(0, '\n');
        }
        let content = self.text.trim_end_matches(['\n', '\r']).len() as u64;
        let (start, content_end) = (self.made, self.made + content);
        let position = LinePosition { start, offset: self.lines.offset(), content_end, index: self.lines_read, error };
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
        Records::new(blocks, CsvFormat::new(format, false)).collect()
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
            let found_len = found.len();
            // More text shows whether a quoted field is open at the end, which the parser takes for one that ends there.
            let more = format!("{text}\nZ");
            let more = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(more.as_bytes());
            let last = more.into_records().last().map(|r| r.expect("a record"));
            let is_open = last.is_some_and(|last| last.iter().next_back().is_some_and(|field| field.ends_with("\nZ")));
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                if is_open && i + 1 == found_len {
                    let told = found.as_ref().map_err(|bad| bad.to_string().contains("has no end"));
                    prop_assert_eq!(told.err(), Some(true));
                } else {
                    prop_assert_eq!(found.as_ref().ok(), Some(&wanted.iter().map(String::from).collect()));
                }
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
