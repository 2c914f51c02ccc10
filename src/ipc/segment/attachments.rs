//! The memory files and segments of other processes that this one has mapped.

use super::listing::{ListedFile, ListedSegment};
use super::memory::{FileId, ForeignFile, MemoryFile, Refused};
use super::{Home, PAGE, Segment, SegmentError, SegmentId, places};
use crate::host::report;
use crate::ipc::fork::Origin;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock, Weak};

/// What of other processes this one has mapped.
#[derive(Clone)]
pub(crate) struct Attachments(Arc<AttachShared>);

type Notifier = Box<dyn Fn() + Send + Sync>;

pub(super) struct AttachShared {
    state: Mutex<AttachState>,
    notifier: OnceLock<Notifier>,
    /// Descriptors of files stay open, so that others can be shown them.
    pass_on: bool,
    /// Others are told by that process alone, not by a fork of it.
    origin: Origin,
}

#[derive(Default)]
struct AttachState {
    /// What peers have shown, until its owner ends it. A segment has its file by itself.
    files: FxHashMap<FileId, ForeignFile>,
    live: FxHashMap<SegmentId, Attached>,
    released: Vec<(SegmentId, u32)>,
    generations: u64,
}

struct Attached {
    segment: Weak<Segment>,
    /// Tells this segment from an earlier one of the same id whose `Drop` has not got the lock yet.
    generation: u64,
    deliveries: u32,
}

impl Attachments {
    /// For a process that is shown everything by a supervisor.
    pub(crate) fn new() -> Self {
        Self::with(false)
    }

    /// For a supervisor, which shows what it has been shown to others.
    pub(crate) fn passing_on() -> Self {
        Self::with(true)
    }

    fn with(pass_on: bool) -> Self {
        Self(Arc::new(AttachShared {
            state: Mutex::default(),
            notifier: OnceLock::new(),
            pass_on,
            origin: Origin::here(),
        }))
    }

    /// `notifier` is called whenever there is something to take after there was nothing, on whichever thread drops the
    /// segment. Set once; a second one is ignored.
    pub(crate) fn set_notifier(&self, notifier: Notifier) {
        if self.0.notifier.set(notifier).is_err() {
            report!(Debug, "the notifier of released segments is set already");
        }
    }

    pub(super) fn is(&self, shared: &Arc<AttachShared>) -> bool {
        Arc::ptr_eq(&self.0, shared)
    }

    /// Takes in what comes with one message.
    pub(crate) fn arrival(&self) -> Arrival<'_> {
        Arrival { shared: &self.0, transient: Vec::new() }
    }

    /// These files have ended: nobody sends segments of them any more. Segments that are there can still be read.
    pub(crate) fn end_files(&self, files: &[FileId]) {
        let mut state = self.0.state.lock();
        let ended: Vec<_> = files.iter().filter_map(|id| state.files.remove(id)).collect();
        drop(state);
        drop(ended);
    }

    /// This owner of segments has ended. The answer is which files it had. Who is shown one of them from now on maps it
    /// only while it is used, so that none keeps memory from the machine.
    pub(crate) fn end_owner(&self, owner: u32) -> Vec<FileId> {
        let mut state = self.0.state.lock();
        let ended: Vec<_> = state.files.extract_if(|id, _| id.owner == owner).collect();
        drop(state);
        ended.iter().for_each(|(_, file)| file.set_orphaned());
        ended.iter().map(|(id, _)| *id).collect()
    }

    /// What is no longer used here since the last call, with the number of deliveries to return to the owner.
    pub(crate) fn take_released(&self) -> Vec<(SegmentId, u32)> {
        std::mem::take(&mut self.0.state.lock().released)
    }

    /// Number of segments that are used.
    pub(crate) fn len(&self) -> usize {
        self.0.state.lock().live.len()
    }

    /// Number of files mapped that have not ended.
    #[cfg(test)]
    pub(crate) fn files(&self) -> usize {
        self.0.state.lock().files.len()
    }
}

impl fmt::Debug for Attachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachments({} mapped)", self.len())
    }
}

/// What comes with one message.
pub(crate) struct Arrival<'a> {
    shared: &'a Arc<AttachShared>,
    /// Files that are mapped for the segments of this message alone.
    transient: Vec<ForeignFile>,
}

impl Arrival<'_> {
    /// Maps a file that is shown, unless it is mapped already.
    pub(crate) fn file(&mut self, listed: ListedFile, fd: OwnedFd) -> Result<(), SegmentError> {
        let ListedFile { id, len, transient } = listed;
        let mut state = self.shared.state.lock();
        if !transient && state.files.get(&id).is_some_and(|known| known.len() as u64 == len) {
            return Ok(());
        }
        let len = usize::try_from(len).map_err(|_| SegmentError::ForeignFile { id, reason: "it is too long" })?;
        let file = ForeignFile::attach(id, fd, len, self.shared.pass_on).map_err(|refused| match refused {
            Refused::For(reason) => SegmentError::ForeignFile { id, reason },
            Refused::Os(errno) => SegmentError::from_errno(errno, len),
        })?;
        match transient {
            true => {
                file.set_orphaned();
                self.transient.push(file);
            }
            false => drop(state.files.insert(id, file)),
        }
        Ok(())
    }

    /// Takes one delivery of a segment. One that is refused counts as released at once, so that an honest owner gets its
    /// segment back.
    pub(crate) fn segment(&mut self, listed: ListedSegment) -> Result<Arc<Segment>, SegmentError> {
        let id = listed.id;
        let mut state = self.shared.state.lock();
        if let Some(known) = state.live.get_mut(&id)
            && let Some(segment) = known.segment.upgrade()
        {
            known.deliveries = known.deliveries.saturating_add(1);
            drop(state);
            if (segment.len() as u64) < listed.len {
                return Err(SegmentError::Foreign { id, reason: "it is smaller than claimed" });
            }
            return Ok(segment);
        }
        let (file, start, len) = match self.locate(&state, listed) {
            Ok(located) => located,
            Err(refused) => {
                let notify = state.push_released(id, 1);
                drop(state);
                self.shared.notify(notify);
                return Err(refused);
            }
        };
        let generation = state.generations;
        state.generations += 1;
        let home = Home::Abroad { attachments: Arc::clone(self.shared), generation };
        let segment = Arc::new(Segment { id, file, start, len, home });
        // An entry that is still here is of a segment being dropped right now. Its deliveries pass over to this one.
        let before = state.live.get(&id).map_or(0, |old| old.deliveries);
        let attached = Attached { segment: Arc::downgrade(&segment), generation, deliveries: before.saturating_add(1) };
        state.live.insert(id, attached);
        drop(state);
        places::enter(&segment);
        Ok(segment)
    }

    fn locate(
        &self,
        state: &AttachState,
        listed: ListedSegment,
    ) -> Result<(Arc<MemoryFile>, usize, usize), SegmentError> {
        let foreign = |reason| SegmentError::Foreign { id: listed.id, reason };
        let id = FileId { owner: listed.id.owner, number: listed.file };
        let transient = self.transient.iter().find(|file| file.id() == id);
        let file = transient.or_else(|| state.files.get(&id));
        let file = file.ok_or_else(|| foreign("its memory file has not been shown"))?;
        let start = (listed.page as usize).checked_mul(PAGE);
        let len = usize::try_from(listed.len).ok().filter(|len| *len > 0).ok_or_else(|| foreign("it is empty"))?;
        let start = start.filter(|start| start.checked_add(len).is_some_and(|end| end <= file.len()));
        let start = start.ok_or_else(|| foreign("it reaches past the end of its memory file"))?;
        Ok((file.part(start, len)?, start, len))
    }
}

impl AttachShared {
    pub(super) fn release(&self, id: SegmentId, generation: u64) {
        if self.origin.is_elsewhere() {
            return;
        }
        let notify = {
            let mut state = self.state.lock();
            match state.live.get(&id) {
                Some(entry) if entry.generation == generation => {
                    let deliveries = entry.deliveries;
                    state.live.remove(&id);
                    state.push_released(id, deliveries)
                }
                // Attached anew meanwhile: that segment reports our deliveries too.
                _ => false,
            }
        };
        self.notify(notify);
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
