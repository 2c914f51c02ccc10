//! Where lines end.

use super::encoding::Encoding;
use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

/// Finds the ends of lines in bytes that begin with a line, or at least with a whole unit of the encoding.
pub(super) struct Delimiter {
    finder: Finder<'static>,
    unit: usize,
}

impl Delimiter {
    pub(super) fn new(text: &str, encoding: Encoding) -> Self {
        Self { finder: Finder::new(&encoding.encode(text)).into_owned(), unit: encoding.unit() }
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.finder.needle().len()
    }

    /// Whether one can begin inside of another. Where such lines end depends on where one begins to look.
    pub(super) fn overlaps_itself(&self) -> bool {
        let needle = self.finder.needle();
        (1..needle.len()).any(|n| needle.starts_with(&needle[n..]))
    }

    /// Where the first one begins.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<usize> {
        if let &[byte] = self.finder.needle() {
            return memchr(byte, bytes);
        }
        let mut from = 0;
        loop {
            let at = from + self.finder.find(&bytes[from..])?;
            if at.is_multiple_of(self.unit) {
                return Some(at);
            }
            from = at + 1;
        }
    }

    /// Where the last one ends, counted from the front.
    pub(super) fn last_end(&self, bytes: &[u8]) -> Option<usize> {
        if let &[byte] = self.finder.needle() {
            return memrchr(byte, bytes).map(|at| at + 1);
        }
        let mut end = 0;
        while let Some(at) = self.find(&bytes[end..]) {
            end += at + self.len();
        }
        (end > 0).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str, encoding: &str, bytes: &[u8]) -> (Option<usize>, Option<usize>) {
        let delimiter = Delimiter::new(text, Encoding::named(encoding).expect("known"));
        (delimiter.find(bytes), delimiter.last_end(bytes))
    }

    #[test]
    fn first_and_last() {
        assert_eq!(ends("\n", "utf-8", b"ab\nc\nd"), (Some(2), Some(5)));
        assert_eq!(ends("\n", "utf-8", b"ab"), (None, None));
        assert_eq!(ends("--", "utf-8", b"a---b--c"), (Some(1), Some(7)));
        assert_eq!(ends("--", "utf-8", b"a---"), (Some(1), Some(3)));
        assert_eq!(ends("\n", "utf-16le", b"a\0\n\0b\0"), (Some(2), Some(4)));
        // U+0A00 after U+000A: not every pair of bytes is a unit.
        assert_eq!(ends("\n", "utf-16be", b"\x0a\0\x0a\0\0\n"), (Some(4), Some(6)));
    }

    #[test]
    fn overlaps() {
        let overlaps = |text| Delimiter::new(text, Encoding::default()).overlaps_itself();
        assert!(!overlaps("\n") && !overlaps("\r\n") && overlaps("\n\n") && overlaps("aba"));
    }
}
