//! Which segments are lent to whom, and how their owners get them back.

use super::{Core, FIRST_OWNER, OWN, SessionEnd, owner_of};
use crate::ids::{ATTACHED_OWNERS, SessionId, WorkerId};
use crate::ipc::payload::Payload;
use crate::ipc::segment::{FileId, Segment, SegmentId};
use crate::message::{ToSession, ToWorker};
use crate::supervisor::effects::Effects;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Whom segments are lent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Borrower {
    Worker(WorkerId),
    Session(SessionId),
}

/// The segments that each borrower has, and how often each has been delivered there.
#[derive(Default)]
pub(crate) struct Loans(FxHashMap<Borrower, FxHashMap<SegmentId, (Arc<Segment>, u32)>>);

impl Loans {
    /// A payload is sent there.
    pub(super) fn lend(&mut self, to: Borrower, payload: &Payload) {
        for segment in payload.segments() {
            let entry = self.0.entry(to).or_default().entry(segment.id());
            entry.or_insert_with(|| (Arc::clone(segment), 0)).1 += 1;
        }
    }

    /// A borrower no longer uses some deliveries.
    pub(super) fn take_back(&mut self, from: Borrower, segments: Vec<(SegmentId, u32)>) {
        let Some(lent) = self.0.get_mut(&from) else { return };
        for (id, deliveries) in segments {
            if let Some(entry) = lent.get_mut(&id) {
                entry.1 = entry.1.saturating_sub(deliveries);
                if entry.1 == 0 {
                    lent.remove(&id);
                }
            }
        }
    }

    /// A borrower has ended; the answer is what it had.
    pub(super) fn end(&mut self, borrower: Borrower) -> Vec<SegmentId> {
        self.0.remove(&borrower).unwrap_or_default().into_keys().collect()
    }

    /// A segment that a borrower has, when it sends that on.
    pub(crate) fn held(&self, by: Borrower, id: SegmentId) -> std::result::Result<Arc<Segment>, String> {
        let held = self.0.get(&by).and_then(|lent| lent.get(&id));
        held.map(|(segment, _)| Arc::clone(segment)).ok_or_else(|| format!("segment {id} is not one it was lent"))
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.values().all(FxHashMap::is_empty)
    }

    /// Panics if a borrower has ended.
    #[cfg(test)]
    pub(super) fn validate(&self, worker: impl Fn(WorkerId) -> bool, session: impl Fn(SessionId) -> bool) {
        for borrower in self.0.keys() {
            let is_there = match borrower {
                Borrower::Worker(id) => worker(*id),
                Borrower::Session(id) => session(*id),
            };
            assert!(is_there, "{borrower:?} has ended and still has segments");
        }
    }
}

/// Whom a segment's maker is reached as.
enum Owner {
    Session(SessionId),
    Worker(WorkerId),
}

/// Sorts what concerns segments by who made them, where that is not this process.
fn by_owner<T>(all: impl IntoIterator<Item = T>, owner: impl Fn(&T) -> u32) -> Vec<(Owner, Vec<T>)> {
    let mut sorted: FxHashMap<u32, Vec<T>> = FxHashMap::default();
    for one in all {
        sorted.entry(owner(&one)).or_default().push(one);
    }
    let named = |(owner, all)| match owner {
        OWN => None,
        ATTACHED_OWNERS.. => Some((Owner::Session(SessionId(owner - ATTACHED_OWNERS)), all)),
        _ => Some((Owner::Worker(WorkerId(owner - FIRST_OWNER)), all)),
    };
    sorted.into_iter().filter_map(named).collect()
}

impl Core {
    /// Tells the owners of segments that a program had them when it left.
    pub(super) fn abandon<E: Effects>(&mut self, segments: Vec<SegmentId>, fx: &mut E) {
        for (owner, segments) in by_owner(segments, |id| id.owner) {
            match owner {
                Owner::Session(session) => self.tell_session(session, ToSession::Abandon(segments), fx),
                Owner::Worker(worker) => self.send(worker, &ToWorker::Abandon(segments), fx),
            }
        }
    }

    /// A process that has made segments has ended: nobody is to keep its memory files mapped.
    pub(super) fn owner_ended<E: Effects>(&mut self, owner: u32, fx: &mut E) {
        let files = fx.owner_ended(owner);
        self.tell_files_ended(files, owner, fx);
    }

    /// An owner has given up memory files of which nobody has a segment: nobody is to keep them mapped.
    pub(super) fn files_ended<E: Effects>(&mut self, mut files: Vec<FileId>, owner: u32, fx: &mut E) {
        files.retain(|file| file.owner == owner);
        fx.files_ended(&files);
        self.tell_files_ended(files, owner, fx);
    }

    fn tell_files_ended<E: Effects>(&mut self, files: Vec<FileId>, owner: u32, fx: &mut E) {
        if files.is_empty() {
            return;
        }
        let others: Vec<_> = self.fleet.ready().filter(|worker| owner_of(*worker) != owner).collect();
        others.into_iter().for_each(|id| self.send(id, &ToWorker::FilesEnded(files.clone()), fx));
        let attached = self.sessions.ends.iter().filter(|(_, end)| matches!(end, SessionEnd::Attached));
        let others: Vec<_> =
            attached.map(|(session, _)| *session).filter(|id| ATTACHED_OWNERS + id.0 != owner).collect();
        others.into_iter().for_each(|id| self.tell_session(id, ToSession::FilesEnded(files.clone()), fx));
    }

    /// Gives segments back to their owners that nobody here uses any more.
    pub(crate) fn return_segments<E: Effects>(&mut self, fx: &mut E) {
        for (owner, segments) in by_owner(fx.take_released(), |(id, _)| id.owner) {
            match owner {
                Owner::Session(session) => self.tell_session(session, ToSession::Return(segments), fx),
                Owner::Worker(worker) => self.send(worker, &ToWorker::Return(segments), fx),
            }
        }
    }
}
