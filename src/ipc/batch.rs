//! How much one message may carry: counts the descriptors and bytes of what is put into it.

use super::frame::MAX_FDS;

/// Most bytes of values and programs that are put into one message, unless one of them is longer by itself.
pub(crate) const MOST_BYTES: usize = 1 << 20;

/// What has been put into a message so far.
///
/// A message that takes less than one frame's worth of descriptors needs no frames that only carry descriptors, and one of
/// bounded length leaves the connection to others before long.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batch {
    fds: usize,
    bytes: usize,
}

impl Batch {
    /// Whether the message may take one thing more. The first one always fits, however large it is.
    pub(crate) fn fits(&self, fds: usize, bytes: usize) -> bool {
        self.is_empty() || (self.fds + fds <= MAX_FDS && self.bytes + bytes <= MOST_BYTES)
    }

    pub(crate) fn add(&mut self, fds: usize, bytes: usize) {
        self.fds += fds;
        self.bytes += bytes;
    }

    /// The message has been sent, and another one begins.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_empty(&self) -> bool {
        self.fds == 0 && self.bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_full_of_descriptors_or_of_bytes() {
        let mut batch = Batch::default();
        batch.add(MAX_FDS - 1, MOST_BYTES - 10);
        assert!(batch.fits(1, 10));
        assert!(!batch.fits(2, 0));
        assert!(!batch.fits(0, 11));
        batch.add(1, 10);
        assert!(batch.fits(0, 0));
        assert!(!batch.fits(0, 1) && !batch.fits(1, 0));
    }

    #[test]
    fn the_first_thing_fits_whatever_its_size() {
        let mut batch = Batch::default();
        assert!(batch.fits(10 * MAX_FDS, 10 * MOST_BYTES));
        batch.add(10 * MAX_FDS, 0);
        assert!(!batch.fits(0, 1));
        batch.clear();
        assert!(batch.fits(MAX_FDS + 1, 1));
    }
}
