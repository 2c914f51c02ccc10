//! Chunks: what a log is made of after its head.
//!
//! A chunk is a header of 48 bytes and a payload. The header says what is in it, of which times, and has hashes of the
//! payload and of itself, the place in the file included, so that whoever has lost the thread finds the next one.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What a header begins with.
pub(super) const SYNC: [u8; 4] = *b"\xabCHK";
pub(super) const HEADER: usize = 48;
/// No payload is longer.
pub(super) const MOST_PAYLOAD: usize = 256 << 20;

/// What is in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChunkKind {
    /// Runs of tasks.
    Runs,
    /// Events.
    Events,
    /// Tasks counted by group and state: the newest count holds.
    Counts,
    /// Memory of workers.
    Memory,
    /// Time by use of workers' threads: the newest of each thread holds.
    Uses,
    /// Runs that are only counted and summed up.
    Folded,
    /// Which results tasks take.
    Inputs,
    /// The end of a log that was ended in order.
    End,
    /// Something that this version does not know, with its number.
    Unknown(u16),
}

impl ChunkKind {
    pub(super) fn of(number: u16) -> Self {
        match number {
            1 => Self::Runs,
            2 => Self::Events,
            3 => Self::Counts,
            4 => Self::Memory,
            5 => Self::Uses,
            6 => Self::Folded,
            7 => Self::Inputs,
            8 => Self::End,
            other => Self::Unknown(other),
        }
    }

    pub(super) fn number(self) -> u16 {
        match self {
            Self::Runs => 1,
            Self::Events => 2,
            Self::Counts => 3,
            Self::Memory => 4,
            Self::Uses => 5,
            Self::Folded => 6,
            Self::Inputs => 7,
            Self::End => 8,
            Self::Unknown(other) => other,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Runs => "chunk of runs",
            Self::Events => "chunk of events",
            Self::Counts => "chunk of counts",
            Self::Memory => "chunk of memory samples",
            Self::Uses => "chunk of time by use",
            Self::Folded => "chunk of sums",
            Self::Inputs => "chunk of inputs",
            Self::End => "end mark",
            Self::Unknown(_) => "chunk of an unknown kind",
        }
    }
}

/// The header of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: ChunkKind,
    /// How many rows it has.
    pub(super) count: u32,
    /// Bytes of its payload.
    pub(super) length: u32,
    /// The earliest and latest time in it, in nanoseconds.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) check: u64,
}

impl Header {
    pub(super) fn new(kind: ChunkKind, count: u32, times: (u64, u64), payload: &[u8]) -> Self {
        let (from, to) = times;
        Self { kind, count, length: payload.len() as u32, from, to, check: xxh3_64(payload) }
    }

    pub(super) fn encode(&self, offset: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&SYNC);
        bytes[4..6].copy_from_slice(&self.kind.number().to_le_bytes());
        bytes[8..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.from.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.to.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.check.to_le_bytes());
        let own = xxh3_64_with_seed(&bytes[..40], offset);
        bytes[40..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// The header at that place, if there is one.
    pub(super) fn decode(bytes: &[u8], offset: u64) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.first_chunk()?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if bytes[..4] != SYNC || word(40) != xxh3_64_with_seed(&bytes[..40], offset) {
            return None;
        }
        Some(Self {
            kind: ChunkKind::of(u16::from_le_bytes([bytes[4], bytes[5]])),
            count: half(8),
            length: half(12),
            from: word(16),
            to: word(24),
            check: word(32),
        })
    }

    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        xxh3_64(payload) == self.check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_only_itself_and_only_at_its_place() {
        let header = Header::new(ChunkKind::Folded, 3, (5, 7), b"what it says");
        let bytes = header.encode(1000);
        assert_eq!(Header::decode(&bytes, 1000), Some(header));
        assert_eq!(Header::decode(&bytes, 1001), None);
        assert_eq!(Header::decode(&bytes[..HEADER - 1], 1000), None);
        for bit in 0..HEADER * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&other, 1000), None, "bit {bit}");
        }
        assert!(header.fits(b"what it says") && !header.fits(b"what it said"));
        for number in 0..20 {
            assert_eq!(ChunkKind::of(number).number(), number);
        }
    }
}
