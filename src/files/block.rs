//! Parts of files that tasks read.

use super::Compression;
use super::delimiter::Delimiter;
use super::encoding::Encoding;
use super::lines::Lines;
use super::location::{Listed, StoreOptions};
use crate::error::file::{FileError, Place};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

/// How the files of one source are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ReadSettings {
    pub(super) encoding: Encoding,
    /// Whether what is not text in the encoding becomes `U+FFFD` instead of an error.
    pub(super) lossy: bool,
    /// What ends a line, if not a line end.
    pub(super) delimiter: Option<String>,
    /// Whether lines keep their ends.
    pub(super) keep_ends: bool,
    pub(super) options: StoreOptions,
}

impl ReadSettings {
    pub(super) fn delimiter(&self) -> Delimiter {
        self.delimiter_in(self.encoding)
    }

    pub(super) fn delimiter_in(&self, encoding: Encoding) -> Delimiter {
        Delimiter::new(self.delimiter.as_deref().unwrap_or("\n"), encoding)
    }
}

/// A part of a file that one task reads: the whole file, or those of its lines that begin in a range of bytes.
///
/// It is a description, small and serialisable, so it can be the argument of a task; the task opens the file. Blocks
/// come from [`Files::blocks`](super::Files::blocks).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    pub(super) file: Listed,
    pub(super) compression: Compression,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) settings: Arc<ReadSettings>,
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, {}..{})", self.file.location, self.start, self.end)
    }
}

impl Block {
    /// Absolute path or URL of the file.
    #[must_use]
    pub fn path(&self) -> String {
        self.file.location.to_string()
    }

    /// The bytes of the file in which its lines begin.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<u64> {
        self.start..self.end
    }

    /// Size of the whole file in bytes, as it is stored.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        self.file.size
    }

    /// How the file is compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Opens the block to read its lines.
    ///
    /// # Errors
    /// Where the file cannot be opened or is not as it was listed.
    pub fn lines(&self) -> Result<Lines, FileError> {
        Lines::open(self)
    }

    /// Reads all of the block: decompressed, but as bytes of the file's encoding. A part of a file begins with the
    /// beginning of a line and ends with the end of one.
    ///
    /// # Errors
    /// Where the file cannot be read or is not as it was listed.
    pub fn bytes(&self) -> Result<Vec<u8>, FileError> {
        let failed = |e| FileError::io(self.path(), e);
        let mut contents = Contents::open(self).map_err(failed)?;
        let mut bytes = Vec::new();
        if self.compression == Compression::None {
            bytes.reserve_exact(usize::try_from(self.end - self.start).unwrap_or_default());
        }
        contents.read_to_end(&mut bytes).map_err(|e| {
            let offset = contents.first + bytes.len() as u64;
            FileError::new(Place { path: self.path(), line: None, offset: Some(offset) }, e.into())
        })?;
        Ok(bytes)
    }

    /// The bytes that lie in the block, to be read one chunk after the other.
    pub(crate) fn contents(&self) -> io::Result<impl Read + use<>> {
        Contents::open(self)
    }

    /// Whether each byte below 128 is the ASCII character, wherever it stands.
    pub(crate) fn is_like_ascii(&self) -> bool {
        self.settings.encoding.is_self_synchronizing() && self.settings.encoding.unit() == 1
    }

    /// The first line of the file alone.
    pub(crate) fn head(&self) -> Self {
        self.until(1)
    }

    /// The same, with lines that keep their ends.
    pub(crate) fn with_line_ends(&self) -> Self {
        let mut block = self.clone();
        Arc::make_mut(&mut block.settings).keep_ends = true;
        block
    }

    /// The lines of the file that begin before a byte.
    pub(super) fn until(&self, end: u64) -> Self {
        Self { start: 0, end: end.min(self.file.size), ..self.clone() }
    }

    /// The lines of the file behind the block; `None` where there are none.
    pub(crate) fn behind(&self) -> Option<Self> {
        (!self.is_last()).then(|| Self { start: self.end, end: self.file.size, ..self.clone() })
    }

    /// Whether it reads to the end of the file. The lengths of what is compressed are not known.
    fn is_last(&self) -> bool {
        self.end >= self.file.size || self.compression != Compression::None
    }
}

/// The bytes of a block, decompressed.
///
/// With `line(x)` for the offset of the first line that begins at `x` or behind, a block from `a` to `b` has the
/// bytes from `line(a)` to `line(b)`. Both are found in the same way, by looking for the first end of a line that ends at
/// `x` or behind, so neighbours agree on it whoever reads first, and each line is in exactly one block.
pub(super) struct Contents {
    data: Box<dyn Read + Send>,
    delimiter: Delimiter,
    /// Where the first line begins.
    pub(super) first: u64,
    /// Where the next byte of `data` lies.
    position: u64,
    /// From where on to look for the end of the last line.
    search_from: u64,
    /// The end of the last line, once found.
    last_line: Option<Cursor<Vec<u8>>>,
}

/// So much is read at once where the end of a line is searched for.
const STEP: u64 = 16 << 10;

impl Contents {
    pub(super) fn open(block: &Block) -> io::Result<Self> {
        let delimiter = block.settings.delimiter();
        let before = |x: u64| x.saturating_sub(delimiter.len() as u64);
        let from = if block.start == 0 { 0 } else { before(block.start) };
        // Most lines are short: the last one ends soon.
        let wanted = if block.is_last() { block.file.size } else { block.file.size.min(block.end + STEP) };
        let data = block.file.open(from, wanted, &block.settings.options)?;
        let data = block.compression.decoder(data)?;
        let search_from = if block.is_last() { u64::MAX } else { before(block.end) };
        let mut contents = Self { data, delimiter, first: from, position: from, search_from, last_line: None };
        if block.start > 0 {
            contents.skip_line()?;
            if contents.first >= block.end {
                contents.last_line = Some(Cursor::default());
            }
        }
        Ok(contents)
    }

    /// Goes on behind the next end of a line.
    fn skip_line(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            let more = read_some(&mut self.data, &mut bytes)?;
            let end = self.delimiter.find(&bytes).map(|at| at + self.delimiter.len());
            if let Some(end) = end {
                self.first += end as u64;
                self.position = self.first;
                bytes.drain(..end);
                let data = std::mem::replace(&mut self.data, Box::new(io::empty()));
                self.data = Box::new(Cursor::new(bytes).chain(data));
                return Ok(());
            }
            if !more {
                // No line begins here.
                self.first += bytes.len() as u64;
                self.last_line = Some(Cursor::default());
                return Ok(());
            }
            // The end may have begun in the last bytes.
            let done = bytes.len().saturating_sub(self.delimiter.len() - 1);
            self.first += done as u64;
            bytes.drain(..done);
        }
    }

    /// The rest of the last line.
    fn find_line_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let searched = bytes.len().saturating_sub(self.delimiter.len() - 1);
            let more = read_some(&mut self.data, &mut bytes)?;
            if let Some(at) = self.delimiter.find(&bytes[searched..]) {
                bytes.truncate(searched + at + self.delimiter.len());
                return Ok(bytes);
            }
            if !more {
                return Ok(bytes);
            }
        }
    }
}

impl Read for Contents {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.last_line.is_none() && self.position < self.search_from {
            let most = usize::try_from(self.search_from - self.position).unwrap_or(usize::MAX).min(buf.len());
            let got = self.data.read(&mut buf[..most])?;
            self.position += got as u64;
            return Ok(got);
        }
        if self.last_line.is_none() {
            let last_line = self.find_line_end()?;
            self.last_line = Some(Cursor::new(last_line));
        }
        self.last_line.as_mut().map_or(Ok(0), |last_line| last_line.read(buf))
    }
}

/// Appends a few bytes; `false` at the end.
fn read_some(data: &mut dyn Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    data.take(STEP).read_to_end(bytes).map(|got| got > 0)
}
