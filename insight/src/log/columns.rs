//! Columns: numbers of one kind, one after the other, packed.
//!
//! A payload is its columns, each with a number, the way it is packed and its two lengths, so that a reader takes the
//! columns it knows and steps over others. Numbers are packed by bits, texts are deflated if that makes them shorter.

use super::packed::{Numbers, unpack};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// A column shorter than this is not worth deflating.
const WORTH: usize = 48;
/// Fast, and all the same with codes that are made for the text.
const LEVEL: u32 = 4;
/// No column of a chunk is longer than this, unpacked.
pub(super) const MOST_COLUMN: usize = 64 << 20;

const STORED: u8 = 0;
const DEFLATED: u8 = 1;
const NUMBERS: u8 = 2;

/// Appends a number.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a column from its beginning. Behind its end there is nothing.
#[derive(Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for (i, byte) in self.0.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Some(number);
            }
        }
        None
    }

    #[inline]
    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    #[inline]
    pub(super) fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }
}

/// Packs columns.
pub(super) struct Packer {
    deflate: Compress,
    packed: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> Self {
        Self { deflate: Compress::new(Compression::new(LEVEL), false), packed: Vec::new() }
    }

    /// Appends a column to a payload.
    pub(super) fn column(&mut self, payload: &mut Vec<u8>, number: u8, raw: &[u8]) {
        let is_shorter = raw.len() >= WORTH && self.deflate(raw) == Some(()) && self.packed.len() < raw.len();
        let (packing, bytes) = if is_shorter { (DEFLATED, self.packed.as_slice()) } else { (STORED, raw) };
        append(payload, number, packing, raw.len(), bytes);
    }

    /// Appends a column that nothing makes shorter.
    pub(super) fn stored(payload: &mut Vec<u8>, number: u8, raw: &[u8]) {
        append(payload, number, STORED, raw.len(), raw);
    }

    /// Appends a column of numbers, which begins anew.
    pub(super) fn numbers(payload: &mut Vec<u8>, number: u8, numbers: &mut Numbers) {
        let packed = numbers.take();
        append(payload, number, NUMBERS, packed.len(), &packed);
    }

    fn deflate(&mut self, raw: &[u8]) -> Option<()> {
        self.deflate.reset();
        self.packed.clear();
        // What cannot be made shorter is at most so much longer.
        self.packed.reserve(raw.len() + raw.len() / 8 + 64);
        match self.deflate.compress_vec(raw, &mut self.packed, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => Some(()),
            _ => None,
        }
    }
}

fn append(payload: &mut Vec<u8>, number: u8, packing: u8, length: usize, bytes: &[u8]) {
    payload.extend([number, packing]);
    put(payload, length as u64);
    put(payload, bytes.len() as u64);
    payload.extend_from_slice(bytes);
}

/// The columns of a payload, as they are packed.
pub(super) struct Columns<'a>(Vec<(u8, u8, usize, &'a [u8])>);

impl<'a> Columns<'a> {
    pub(super) fn of(payload: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor(payload);
        let mut columns = Vec::new();
        while !cursor.0.is_empty() {
            let (number, packing) = (cursor.byte()?, cursor.byte()?);
            let raw: usize = cursor.small()?;
            let length = cursor.small()?;
            columns.push((number, packing, raw, cursor.bytes(length)?));
        }
        Some(Self(columns))
    }

    /// So many numbers of a column.
    pub(super) fn numbers(&self, number: u8, count: usize) -> Option<Vec<u64>> {
        let &(_, packing, _, bytes) = self.0.iter().find(|(n, ..)| *n == number)?;
        if packing == NUMBERS { unpack(bytes, count) } else { None }
    }

    /// A column unpacked; nothing where it is not there, or not as it was.
    pub(super) fn unpack(&self, number: u8) -> Option<Vec<u8>> {
        let &(_, packing, length, bytes) = self.0.iter().find(|(n, ..)| *n == number)?;
        match packing {
            STORED => (bytes.len() == length).then(|| bytes.to_vec()),
            DEFLATED if length <= MOST_COLUMN => {
                let mut raw = Vec::with_capacity(length);
                let mut inflate = Decompress::new(false);
                let status = inflate.decompress_vec(bytes, &mut raw, FlushDecompress::Finish).ok()?;
                (status == Status::StreamEnd && raw.len() == length).then_some(raw)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(numbers in proptest::collection::vec(any::<u64>(), 0..50)) {
            let mut bytes = Vec::new();
            numbers.iter().for_each(|number| put(&mut bytes, *number));
            let mut cursor = Cursor(&bytes);
            for number in numbers {
                prop_assert_eq!(cursor.number(), Some(number));
            }
            prop_assert_eq!(cursor.number(), None);
        }

        #[test]
        fn columns_come_back(columns in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..500), 0..6)) {
            let (mut packer, mut payload) = (Packer::new(), Vec::new());
            for (number, column) in (1..).zip(&columns) {
                packer.column(&mut payload, number, column);
            }
            let read = Columns::of(&payload).unwrap();
            for (number, column) in (1..).zip(&columns) {
                let column_read = read.unpack(number);
                prop_assert_eq!(column_read.as_ref(), Some(column));
            }
            prop_assert!(read.unpack(100).is_none());
        }

        #[test]
        fn any_bytes_are_columns_or_not(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(columns) = Columns::of(&payload) {
                for number in 0..=255 {
                    columns.unpack(number);
                    columns.numbers(number, 100);
                }
            }
        }
    }
}
