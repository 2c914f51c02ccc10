//! How much one message may carry: counts the bytes of what is put into it.

use super::segment::listing::SEGMENT_ENTRY;

/// Most bytes of values and programs that are put into one message, unless one of them is longer by itself.
pub(crate) const MOST_BYTES: usize = 1 << 20;

/// What has been put into a message so far. One of bounded length leaves the connection to others before long.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batch {
    bytes: usize,
}

/// Bytes that so many segments and bytes take in a message.
const fn len(segments: usize, bytes: usize) -> usize {
    segments.saturating_mul(SEGMENT_ENTRY).saturating_add(bytes)
}

impl Batch {
    /// Whether the message may take one thing more. The first one always fits, however large it is.
    pub(crate) fn fits(&self, segments: usize, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(len(segments, bytes)) <= MOST_BYTES
    }

    pub(crate) fn add(&mut self, segments: usize, bytes: usize) {
        self.bytes = self.bytes.saturating_add(len(segments, bytes));
    }

    /// The message has been sent, and another one begins.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_full_of_segments_or_of_bytes() {
        let mut batch = Batch::default();
        batch.add(1, MOST_BYTES - 2 * SEGMENT_ENTRY - 10);
        assert!(batch.fits(1, 10));
        assert!(!batch.fits(2, 0));
        assert!(!batch.fits(0, SEGMENT_ENTRY + 11));
        batch.add(1, 10);
        assert!(batch.fits(0, 0));
        assert!(!batch.fits(0, 1) && !batch.fits(1, 0));
    }

    #[test]
    fn the_first_thing_fits_whatever_its_size() {
        let mut batch = Batch::default();
        assert!(batch.fits(10 * MOST_BYTES, 10 * MOST_BYTES));
        batch.add(10 * MOST_BYTES, 0);
        assert!(!batch.fits(0, 1));
        batch.clear();
        assert!(batch.fits(usize::MAX, 1));
    }
}
