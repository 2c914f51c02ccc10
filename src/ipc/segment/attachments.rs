//! The segments of other processes that this one has mapped.

use super::memory::{Identity, Mapping, Memory};
use super::{Home, Segment, SegmentError, SegmentId};
use crate::host::report;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::fmt;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock, Weak};

/// Most mappings that are kept unused.
const MOST_KEPT: usize = 64;

/// The segments of other processes that this one has mapped.
#[derive(Clone, Default)]
pub(crate) struct Attachments(Arc<AttachShared>);

type Notifier = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
pub(super) struct AttachShared {
    state: Mutex<AttachState>,
    notifier: OnceLock<Notifier>,
}

#[derive(Default)]
struct AttachState {
    live: FxHashMap<SegmentId, Attached>,
    released: Vec<(SegmentId, u32)>,
    generations: u64,
    kept: Kept,
}

struct Attached {
    segment: Weak<Segment>,
    /// Tells this mapping from an earlier one of the same id whose `Drop` has not got the lock yet.
    generation: u64,
    deliveries: u32,
}

impl Attachments {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Has mappings of up to so many bytes stay when nobody refers to them any more, in case that the memory comes again.
    pub(crate) fn keep(&self, bytes: usize) {
        self.0.state.lock().kept.most = bytes;
    }

    /// These owners have ended: their memory does not come again, and must not be kept from the machine.
    pub(crate) fn forget(&self, owners: &[u32]) {
        let unmap = self.0.state.lock().kept.forget(owners);
        drop(unmap);
    }

    /// `notifier` is called whenever there is something to take after there was nothing, on whichever thread drops the
    /// segment. Set once; a second one is ignored.
    pub(crate) fn set_notifier(&self, notifier: Notifier) {
        if self.0.notifier.set(notifier).is_err() {
            report!(Debug, "the notifier of released segments is set already");
        }
    }

    /// Takes one delivery of a segment of which the sender says that it has `len` bytes. A delivery that is refused
    /// counts as released at once, so that an honest owner gets its segment back.
    pub(crate) fn attach(&self, id: SegmentId, fd: OwnedFd, len: usize) -> Result<Arc<Segment>, SegmentError> {
        let mut state = self.0.state.lock();
        if let Some(known) = state.live.get_mut(&id)
            && let Some(segment) = known.segment.upgrade()
        {
            known.deliveries = known.deliveries.saturating_add(1);
            drop(state);
            if segment.len() < len {
                return Err(SegmentError::Foreign { id, reason: "it is smaller than claimed" });
            }
            return Ok(segment);
        }
        let memory = match NonZeroUsize::new(len) {
            Some(len) => Memory::attach(fd, len, |known| state.kept.take(known)).map_err(|reason| match reason {
                Ok(reason) => SegmentError::Foreign { id, reason },
                Err(errno) => SegmentError::from_errno(errno, len.get()),
            }),
            None => Err(SegmentError::Foreign { id, reason: "it is empty" }),
        };
        let memory = match memory {
            Ok(memory) => memory,
            Err(e) => {
                let notify = state.push_released(id, 1);
                drop(state);
                self.0.notify(notify);
                return Err(e);
            }
        };
        let generation = state.generations;
        state.generations += 1;
        let home = Home::Abroad { attachments: self.0.clone(), generation };
        let segment = Arc::new(Segment { id, memory: ManuallyDrop::new(memory), home });
        // An entry that is still here is of a mapping being dropped right now. Its deliveries pass over to this one.
        let before = state.live.get(&id).map_or(0, |old| old.deliveries);
        let attached = Attached { segment: Arc::downgrade(&segment), generation, deliveries: before.saturating_add(1) };
        state.live.insert(id, attached);
        Ok(segment)
    }

    /// What is no longer used here since the last call, with the number of deliveries to return to the owner.
    pub(crate) fn take_released(&self) -> Vec<(SegmentId, u32)> {
        std::mem::take(&mut self.0.state.lock().released)
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.0.state.lock().kept.mappings.len()
    }

    /// Number of segments mapped.
    pub(crate) fn len(&self) -> usize {
        self.0.state.lock().live.len()
    }
}

impl fmt::Debug for Attachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachments({} mapped)", self.len())
    }
}

impl AttachShared {
    pub(super) fn release(&self, id: SegmentId, generation: u64, memory: Memory) {
        let (notify, unmap) = {
            let mut state = self.state.lock();
            let notify = match state.live.get(&id) {
                Some(entry) if entry.generation == generation => {
                    let deliveries = entry.deliveries;
                    state.live.remove(&id);
                    state.push_released(id, deliveries)
                }
                // Mapped anew meanwhile: that mapping reports our deliveries too.
                _ => false,
            };
            (notify, state.kept.put(id.owner, memory))
        };
        self.notify(notify);
        // Outside of the lock, and when the owner has been told: this takes twenty microseconds a MiB.
        drop(unmap);
    }

    /// Not under the lock: the notifier may call back.
    fn notify(&self, wanted: bool) {
        if wanted && let Some(notifier) = self.notifier.get() {
            notifier();
        }
    }
}

impl AttachState {
    /// Whether the list was empty before.
    fn push_released(&mut self, id: SegmentId, deliveries: u32) -> bool {
        self.released.push((id, deliveries));
        self.released.len() == 1
    }
}

/// Mappings that nobody refers to.
#[derive(Default)]
struct Kept {
    /// With their owners, oldest first.
    mappings: VecDeque<(u32, Identity, Mapping)>,
    bytes: usize,
    most: usize,
    /// Owners that have ended. Numbers are not used again.
    ended: FxHashSet<u32>,
}

impl Kept {
    fn take(&mut self, known: Identity) -> Option<Mapping> {
        let at = self.mappings.iter().rposition(|(_, identity, _)| *identity == known)?;
        let (_, _, mapping) = self.mappings.remove(at)?;
        self.bytes -= mapping.len.get();
        Some(mapping)
    }

    /// Keeps a mapping if that makes sense. Answers with what is to be dropped.
    fn put(&mut self, owner: u32, memory: Memory) -> (Option<Memory>, Vec<Mapping>) {
        let Some(identity) = memory.identity.filter(|_| memory.capacity() <= self.most && !self.ended.contains(&owner))
        else {
            return (Some(memory), Vec::new());
        };
        let mut unmap = Vec::new();
        self.bytes += memory.capacity();
        self.mappings.push_back((owner, identity, memory.mapping));
        while self.bytes > self.most || self.mappings.len() > MOST_KEPT {
            let Some((_, _, oldest)) = self.mappings.pop_front() else { break };
            self.bytes -= oldest.len.get();
            unmap.push(oldest);
        }
        (None, unmap)
    }

    fn forget(&mut self, owners: &[u32]) -> Vec<Mapping> {
        self.ended.extend(owners);
        let (unused, stay) = std::mem::take(&mut self.mappings).into_iter().partition(|(o, ..)| owners.contains(o));
        self.mappings = stay;
        let unmap: Vec<_> = VecDeque::into_iter(unused).map(|(_, _, mapping)| mapping).collect();
        self.bytes -= unmap.iter().map(|m: &Mapping| m.len.get()).sum::<usize>();
        unmap
    }
}
