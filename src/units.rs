//! Small vocabulary: numbers of bytes as people read and write them, names for a reader, and how files are compressed.

use serde::{Deserialize, Serialize};

use std::fmt;

/// A number of bytes for a reader.
pub(crate) struct HumanBytes(pub(crate) u64);

impl fmt::Display for HumanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{} B", self.0),
            1_000..1_000_000 => write!(f, "{:.1} kB", n / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} MB", n / 1e6),
            _ => write!(f, "{:.1} GB", n / 1e9),
        }
    }
}

/// So many things: `1 task`, `2 tasks`.
pub(crate) fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A name that a user has given, for a reader: what a terminal would not show, or would take for a command, is escaped.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.split_inclusive(['\'', '"']).try_for_each(|part| match part.strip_suffix(['\'', '"']) {
            // Quotes can be read as they are.
            Some(text) => write!(f, "{}{}", text.escape_debug(), &part[text.len()..]),
            None => write!(f, "{}", part.escape_debug()),
        })
    }
}

/// How a file is compressed. Needs the feature `compression`, which is on by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// Gzip (`.gz`), also of several members one after the other.
    Gzip,
    /// Zstandard (`.zst`, `.zstd`).
    Zstd,
    /// Bzip2 (`.bz2`).
    Bzip2,
    /// Xz (`.xz`).
    Xz,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_what_cannot_be_seen() {
        let shown = |name: &str| Shown(name).to_string();
        assert_eq!(shown("it's \"disk 1\", größe 大"), "it's \"disk 1\", größe 大");
        assert_eq!(shown("a\u{202e}b\u{200b}c\u{1b}[2J\n"), r"a\u{202e}b\u{200b}c\u{1b}[2J\n");
        assert_eq!((shown(""), shown("'"), shown(r"C:\")), (String::new(), "'".to_string(), r"C:\\".to_string()));
    }
}
