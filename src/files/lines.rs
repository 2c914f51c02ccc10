//! Lines of text.

use super::block::{Block, Contents};
use super::delimiter::Delimiter;
use super::encoding::Encoding;
use super::location::Location;
use crate::error::file::{FileError, FileProblem, Place};
use std::borrow::Cow;
use std::io::{self, Read};

/// So much is read at once: fits the caches, and few enough system calls.
const CHUNK: usize = 256 << 10;

/// Reads the lines of a [`Block`] one after the other, without a string for each.
///
/// A line ends with `\n` or `\r\n`, or where [`Files::delimiter`](super::Files::delimiter) says; its end is not part of
/// it, unless [`Files::keep_line_ends`](super::Files::keep_line_ends) asks for that.
///
/// ```
/// use swath::files::Files;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("a.txt");
/// std::fs::write(&path, "to be or\nnot to be\n")?;
/// let mut lines = Files::new(&path).blocks()?[0].lines()?;
/// let mut words = 0;
/// while let Some(line) = lines.next_line()? {
///     words += line.split_whitespace().count();
/// }
/// assert_eq!((words, lines.line_number()), (6, Some(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lines {
    contents: Contents,
    block: Block,
    delimiter: Delimiter,
    encoding: Encoding,
    chunk: Chunk,
    /// Where in the chunk the next line begins.
    next: usize,
    /// Bytes of the file before the chunk.
    chunk_offset: u64,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    /// The current line in the chunk.
    line: std::ops::Range<usize>,
    /// How many lines there were, with the current one.
    count: u64,
    /// Lines of the file before the block, where known.
    before: Option<u64>,
    decoded: String,
    ended: bool,
}

/// Some lines.
enum Chunk {
    /// Known to be UTF-8.
    Text(String),
    /// To be decoded line by line.
    Bytes(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lines({}, after {} lines)", self.block.path(), self.count)
    }
}

impl Lines {
    pub(super) fn open(block: &Block) -> Result<Self, FileError> {
        let contents = Contents::open(block).map_err(|e| FileError::io(block.path(), e))?;
        Ok(Self {
            chunk_offset: contents.first,
            contents,
            delimiter: block.settings.delimiter(),
            encoding: block.settings.encoding,
            chunk: Chunk::Bytes(Vec::new()),
            next: 0,
            rest: Vec::new(),
            line: 0..0,
            count: 0,
            before: (block.start == 0).then_some(0),
            decoded: String::new(),
            ended: false,
            block: block.clone(),
        })
    }

    /// The next line; `None` behind the last one.
    ///
    /// # Errors
    /// Where the file cannot be read on; and where the line is not text in the file's encoding (unless
    /// [`Files::lossy`](super::Files::lossy) was said): then the next call goes on with the next line.
    pub fn next_line(&mut self) -> Result<Option<&str>, FileError> {
        if !self.advance()? {
            return Ok(None);
        }
        let line = self.line.clone();
        if let Chunk::Bytes(bytes) = &self.chunk {
            match self.encoding.decode(&bytes[line.clone()]) {
                Ok(text) => replace(&mut self.decoded, &text),
                Err(_) if self.block.settings.lossy => {
                    replace(&mut self.decoded, &self.encoding.decode_lossy(&bytes[line.clone()]));
                }
                Err(at) => {
                    let problem = FileProblem::NotText { encoding: self.encoding.name().to_string(), at: at as u64 };
                    return Err(FileError::new(self.locate(), problem));
                }
            }
        }
        Ok(Some(match &self.chunk {
            Chunk::Text(text) => &text[line],
            Chunk::Bytes(_) => &self.decoded,
        }))
    }

    /// Calls a function with each line that is left.
    ///
    /// # Errors
    /// As [`next_line`](Self::next_line).
    pub fn for_each(&mut self, mut f: impl FnMut(&str)) -> Result<(), FileError> {
        while let Some(line) = self.next_line()? {
            f(line);
        }
        Ok(())
    }

    /// Bytes of the file before the current line; of its decompressed contents, if it is compressed.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.chunk_offset + self.line.start as u64
    }

    /// Number of the current line in its file, from 1 on. `None` in a block that is not the first of its file: nobody has
    /// counted the lines before it.
    #[must_use]
    pub fn line_number(&self) -> Option<u64> {
        self.before.map(|before| before + self.count)
    }

    /// The block that is read.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Where the current line is. Counts the lines before the block, if that can be done without another download: for
    /// errors, not for every line.
    pub fn locate(&mut self) -> Place {
        if self.before.is_none() && matches!(self.block.file.location, Location::Local(_)) {
            self.before = self.count_before();
        }
        Place { path: self.block.path(), line: self.line_number(), offset: Some(self.offset()) }
    }

    /// The current line as text at any price.
    pub(crate) fn lossy_text(&self) -> Cow<'_, str> {
        self.encoding.decode_lossy(&self.chunk.bytes()[self.line.clone()])
    }

    /// Lines before the block. What goes wrong with it is not worth another error.
    fn count_before(&self) -> Option<u64> {
        let mut lines = Self::open(&self.block.until(self.contents.first)).ok()?;
        while lines.advance().ok()? {}
        Some(lines.count)
    }

    /// Goes on to the next line.
    fn advance(&mut self) -> Result<bool, FileError> {
        if self.next == self.chunk.bytes().len() && !self.fill()? {
            return Ok(false);
        }
        let bytes = self.chunk.bytes();
        let start = self.next;
        let (mut end, next) = match self.delimiter.find(&bytes[start..]) {
            Some(at) => (start + at, start + at + self.delimiter.len()),
            None => (bytes.len(), bytes.len()),
        };
        let settings = &self.block.settings;
        if settings.keep_ends {
            end = next;
        } else if settings.delimiter.is_none() && end < next && self.encoding.ends_with_return(&bytes[start..end]) {
            end -= self.encoding.unit();
        }
        (self.line, self.next) = (start..end, next);
        self.count += 1;
        Ok(true)
    }

    /// Reads more lines; `false` when there are none.
    fn fill(&mut self) -> Result<bool, FileError> {
        if self.ended {
            return Ok(false);
        }
        if crate::cancelled() {
            return Err(FileError::of(self.block.path(), FileProblem::Cancelled));
        }
        self.chunk_offset += self.chunk.bytes().len() as u64;
        let mut bytes = std::mem::replace(&mut self.chunk, Chunk::Bytes(Vec::new())).into_bytes();
        bytes.clear();
        bytes.append(&mut self.rest);
        (self.line, self.next) = (0..0, 0);
        if let Err(e) = self.read_lines(&mut bytes) {
            self.ended = true;
            let offset = self.chunk_offset + bytes.len() as u64;
            return Err(FileError::new(Place { path: self.block.path(), line: None, offset: Some(offset) }, e.into()));
        }
        let has_lines = self.next < bytes.len();
        self.chunk = if self.encoding.is_utf8() {
            String::from_utf8(bytes).map_or_else(|e| Chunk::Bytes(e.into_bytes()), Chunk::Text)
        } else {
            Chunk::Bytes(bytes)
        };
        Ok(has_lines)
    }

    /// Appends to `bytes` up to the end of a line, or the file's; what comes behind goes to the rest.
    fn read_lines(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.reserve(CHUNK);
        let mut searched = bytes.len();
        self.read_more(bytes)?;
        if self.chunk_offset == 0 {
            let (encoding, mark) = self.encoding.marked(bytes);
            if encoding != self.encoding {
                self.encoding = encoding;
                self.delimiter = self.block.settings.delimiter_in(encoding);
            }
            self.next = mark;
        }
        while !self.ended {
            // An end of a line may have begun in the last bytes; units of two bytes count from the beginning.
            let from = searched.saturating_sub(self.delimiter.len() - 1);
            let from = from - from % self.encoding.unit();
            if let Some(end) = self.delimiter.last_end(&bytes[from..]) {
                self.rest = bytes.split_off(from + end);
                break;
            }
            searched = bytes.len();
            self.read_more(bytes)?;
        }
        Ok(())
    }

    /// Appends about a chunk.
    fn read_more(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let got = self.contents.by_ref().take(CHUNK as u64).read_to_end(bytes)?;
        self.ended = got < CHUNK;
        Ok(())
    }
}

fn replace(text: &mut String, with: &str) {
    text.clear();
    text.push_str(with);
}
