//! Which segments are lent to whom, and how their owners get them back.

use super::{Borrower, Core, Phase};
use crate::ids::ATTACHED_OWNERS;
use crate::ids::{SessionId, WorkerId};
use crate::ipc::payload::Payload;
use crate::ipc::segment::{Segment, SegmentId};
use crate::message::{ToSession, ToWorker};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Sorts what concerns segments by who made them.
pub(super) fn by_owner<T>(all: impl IntoIterator<Item = T>, owner: impl Fn(&T) -> u32) -> FxHashMap<u32, Vec<T>> {
    let mut sorted: FxHashMap<u32, Vec<T>> = FxHashMap::default();
    for one in all {
        sorted.entry(owner(&one)).or_default().push(one);
    }
    sorted
}

impl Core {
    pub(super) fn lend(
        lent: &mut FxHashMap<Borrower, FxHashMap<SegmentId, (Arc<Segment>, u32)>>,
        to: Borrower,
        payload: &Payload,
    ) {
        for segment in payload.segments() {
            let entry = lent.entry(to).or_default().entry(segment.id());
            entry.or_insert_with(|| (Arc::clone(segment), 0)).1 += 1;
        }
    }

    pub(super) fn take_back(&mut self, from: Borrower, segments: Vec<(SegmentId, u32)>) {
        let Some(lent) = self.lent.get_mut(&from) else { return };
        for (id, deliveries) in segments {
            if let Some(entry) = lent.get_mut(&id) {
                entry.1 = entry.1.saturating_sub(deliveries);
                if entry.1 == 0 {
                    lent.remove(&id);
                }
            }
        }
    }

    /// Tells the owners of segments that a program had when it left.
    pub(super) fn abandon(&mut self, segments: impl Iterator<Item = SegmentId>) {
        for (owner, segments) in by_owner(segments, |id| id.owner) {
            if owner >= ATTACHED_OWNERS {
                self.tell_session(SessionId(owner - ATTACHED_OWNERS), ToSession::Forsake(segments));
            } else if owner > 0 {
                self.send(WorkerId(owner - 1), &ToWorker::Forsake(segments));
            }
        }
    }

    /// Nothing that this process has made comes again: nobody is to keep it mapped.
    pub(super) fn forget_owner(&mut self, owner: u32) {
        self.attachments.forget(&[owner]);
        let ready = self.workers.iter().filter(|(_, process)| process.phase == Phase::Ready);
        let ready: Vec<_> = ready.map(|(&id, _)| id).collect();
        ready.into_iter().for_each(|id| self.send(id, &ToWorker::Gone(vec![owner])));
    }

    /// Gives segments back to their owners that nobody here uses any more.
    pub(in crate::supervisor) fn return_segments(&mut self) {
        for (owner, segments) in by_owner(self.attachments.take_released(), |(id, _)| id.owner) {
            if owner >= ATTACHED_OWNERS {
                self.tell_session(SessionId(owner - ATTACHED_OWNERS), ToSession::Return(segments));
            } else if owner > 0 {
                self.send(WorkerId(owner - 1), &ToWorker::Return(segments));
            }
        }
    }
}
