//! An encoded value on its way between processes: its bytes, and the shared segments that its large buffers lie in.

use crate::bytes::Bytes;
use crate::ipc::segment::Segment;
use std::sync::Arc;

/// Longest encoded result that is sent along with the word that its task is done.
pub(crate) const SMALL: usize = 1 << 10;

/// An encoded value: its bytes, and the shared segments that its large buffers lie in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payload {
    /// The bytes, where they are not in a segment.
    pub(crate) bytes: Bytes,
    /// Most values have no large buffers.
    large: Option<Arc<Large>>,
}

#[derive(Debug)]
struct Large {
    segments: Vec<Arc<Segment>>,
    /// How many bytes lie in the last segment, because they are too many for a frame.
    in_segment: Option<u64>,
}

impl Payload {
    /// With `in_segment`, so many bytes lie in the last of the segments.
    pub(crate) fn new(bytes: impl Into<Bytes>, segments: Vec<Arc<Segment>>, in_segment: Option<u64>) -> Self {
        let large = !segments.is_empty() || in_segment.is_some();
        Self { bytes: bytes.into(), large: large.then(|| Arc::new(Large { segments, in_segment })) }
    }

    pub(crate) fn inline(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), large: None }
    }

    pub(crate) fn segments(&self) -> &[Arc<Segment>] {
        self.large.as_ref().map_or(&[], |large| &large.segments)
    }

    pub(crate) fn in_segment(&self) -> Option<u64> {
        self.large.as_ref()?.in_segment
    }

    /// The encoded value.
    pub(crate) fn content(&self) -> &[u8] {
        match self.in_segment() {
            None => &self.bytes,
            Some(n) => self.segments().last().and_then(|s| s.bytes().get(..n as usize)).unwrap_or(&[]),
        }
    }

    /// Whether its bytes are all there is of it.
    pub(crate) fn is_plain(&self) -> bool {
        self.large.is_none()
    }

    /// Whether it is cheap to send along unasked.
    pub(crate) fn is_small(&self) -> bool {
        self.segments().is_empty() && self.bytes.len() <= SMALL
    }

    /// Bytes this value takes, wherever they are.
    pub(crate) fn nbytes(&self) -> u64 {
        self.bytes.len() as u64 + self.segments().iter().map(|s| s.len() as u64).sum::<u64>()
    }
}
