//! Shared-memory segments.
/// stub
#[derive(Debug)]
pub(crate) struct Segment {}
impl Segment { pub(crate) fn len(&self) -> usize { 0 } }
