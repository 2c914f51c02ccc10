//! Text encodings.

use encoding_rs::{DecoderResult, UTF_8, UTF_16BE, UTF_16LE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// A text encoding. On the wire it is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoding(&'static encoding_rs::Encoding);

impl Default for Encoding {
    fn default() -> Self {
        Self(UTF_8)
    }
}

impl Encoding {
    /// The encoding of that name, as the Encoding Standard of the web or Python write it.
    pub(super) fn named(label: &str) -> Option<Self> {
        let plain = label.trim().to_ascii_lowercase().replace('_', "-");
        let find = |label: &str| encoding_rs::Encoding::for_label_no_replacement(label.as_bytes());
        find(&plain).or_else(|| find(&plain.replace('-', ""))).map(Self)
    }

    pub(super) fn name(self) -> &'static str {
        self.0.name()
    }

    pub(super) fn is_utf8(self) -> bool {
        self.0 == UTF_8
    }

    /// Whether no character looks like the middle or the end of another one. Line ends are safe everywhere.
    pub(super) fn is_self_synchronizing(self) -> bool {
        self.is_utf8() || self.unit() == 2 || self.0.is_single_byte()
    }

    /// Bytes of its units: a line end can only begin at a multiple of it.
    pub(super) fn unit(self) -> usize {
        if self.0 == UTF_16LE || self.0 == UTF_16BE { 2 } else { 1 }
    }

    /// Looks for a byte order mark at the start of a file: the encoding it means, and its length.
    pub(super) fn marked(self, start: &[u8]) -> (Self, usize) {
        match encoding_rs::Encoding::for_bom(start) {
            // A mark tells one UTF-16 from the other; it does not make another encoding of what was asked for.
            Some((found, len)) if found == self.0 || (found != UTF_8 && self.unit() == 2) => (Self(found), len),
            _ => (self, 0),
        }
    }

    /// Whether the encoding has all characters of a text.
    pub(super) fn has(self, text: &str) -> bool {
        self.unit() == 2 || !self.0.encode(text).2
    }

    /// Some text that the encoding [`has`](Self::has).
    pub(super) fn encode(self, text: &str) -> Vec<u8> {
        match self.unit() {
            2 if self.0 == UTF_16BE => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            2 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            _ => self.0.encode(text).0.into_owned(),
        }
    }

    /// Whether some bytes end with a carriage return.
    pub(super) fn ends_with_return(self, bytes: &[u8]) -> bool {
        match self.unit() {
            1 => bytes.last() == Some(&b'\r'),
            _ if self.0 == UTF_16BE => bytes.ends_with(b"\0\r"),
            _ => bytes.ends_with(b"\r\0"),
        }
    }

    /// The text of some bytes, or the number of good ones before the first that is not in the encoding.
    pub(super) fn decode(self, bytes: &[u8]) -> Result<Cow<'_, str>, usize> {
        if self.is_utf8() {
            return std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|e| e.valid_up_to());
        }
        match self.0.decode_without_bom_handling_and_without_replacement(bytes) {
            Some(text) => Ok(text),
            None => Err(self.good(bytes)),
        }
    }

    /// The text of some bytes, with `U+FFFD` for what is not in the encoding.
    pub(super) fn decode_lossy(self, bytes: &[u8]) -> Cow<'_, str> {
        self.0.decode_without_bom_handling(bytes).0
    }

    /// How many bytes can be decoded.
    fn good(self, bytes: &[u8]) -> usize {
        let mut decoder = self.0.new_decoder_without_bom_handling();
        let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len()).unwrap_or(bytes.len() * 4);
        match decoder.decode_to_utf8_without_replacement(bytes, &mut vec![0; room], true) {
            (DecoderResult::Malformed(wrong, after), read, _) => {
                read.saturating_sub(usize::from(wrong) + usize::from(after))
            }
            (_, read, _) => read,
        }
    }
}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(from)?;
        Self::named(&name).ok_or_else(|| serde::de::Error::custom(format!("unknown encoding `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_web_and_of_python() {
        for (label, name) in [
            ("utf-8", "UTF-8"),
            ("UTF8", "UTF-8"),
            ("utf_16", "UTF-16LE"),
            ("utf-16be", "UTF-16BE"),
            ("latin-1", "windows-1252"),
            ("iso-8859-15", "ISO-8859-15"),
            ("cp1252", "windows-1252"),
            ("shift_jis", "Shift_JIS"),
            ("gb18030", "gb18030"),
        ] {
            assert_eq!(Encoding::named(label).map(Encoding::name), Some(name), "{label}");
        }
        assert_eq!(Encoding::named("klingon"), None);
    }

    #[test]
    fn the_first_wrong_byte_is_found() {
        let sjis = Encoding::named("shift_jis").expect("known");
        assert_eq!(sjis.decode(b"ab\x83\x65").as_deref(), Ok("abテ"));
        assert_eq!(sjis.decode(b"ab\x83\x65\x81").map(Cow::into_owned), Err(4));
        assert_eq!(Encoding::default().decode(b"ab\xff").map(Cow::into_owned), Err(2));
        assert_eq!(Encoding::default().decode_lossy(b"ab\xff"), "ab\u{fffd}");
    }

    #[test]
    fn marks() {
        let (utf8, utf16) = (Encoding::default(), Encoding::named("utf-16").expect("known"));
        assert_eq!(utf8.marked(b"\xef\xbb\xbfx"), (utf8, 3));
        assert_eq!(utf8.marked(b"\xff\xfex\0"), (utf8, 0));
        assert_eq!(utf16.marked(b"\xff\xfex\0"), (utf16, 2));
        assert_eq!(utf16.marked(b"\xfe\xff\0x").0.name(), "UTF-16BE");
        assert_eq!(utf16.marked(b"x\0"), (utf16, 0));
    }
}
