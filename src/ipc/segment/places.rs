//! Which segment an address of this process lies in.

use super::Segment;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// All frozen segments by their first address. Two that are referred to never overlap.
static PLACES: RwLock<BTreeMap<usize, Weak<Segment>>> = RwLock::new(BTreeMap::new());

/// A segment is frozen, or has come from elsewhere.
pub(super) fn enter(segment: &Arc<Segment>) {
    let at = segment.bytes().as_ptr().addr();
    let before = PLACES.write().insert(at, Arc::downgrade(segment));
    drop(before);
}

/// The last reference to a segment is dropped. Another one may lie there already.
pub(super) fn leave(segment: &Segment) {
    let at = segment.bytes().as_ptr().addr();
    let mut places = PLACES.write();
    if let std::collections::btree_map::Entry::Occupied(entry) = places.entry(at)
        && std::ptr::eq(entry.get().as_ptr(), segment)
    {
        let left = entry.remove();
        drop(places);
        drop(left);
    }
}

/// The segment in which all of these bytes lie, and where.
pub(super) fn find(bytes: &[u8]) -> Option<(Arc<Segment>, usize)> {
    let at = bytes.as_ptr().addr();
    let places = PLACES.read();
    let (start, segment) = places.range(..=at).next_back()?;
    let (segment, offset) = (segment.upgrade()?, at - start);
    // Dropping what does not fit may come back here.
    drop(places);
    (!bytes.is_empty() && offset.checked_add(bytes.len())? <= segment.len()).then_some((segment, offset))
}
