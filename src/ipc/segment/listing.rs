//! How a message says which segments belong to it: a list behind its bytes.
//!
//! A memory file is shown to a process once, with the first message that has a segment of it: its descriptor travels with
//! that message. From then on a segment is a number and a place in a file. Each direction of a connection stands for
//! itself: who sends knows what it has shown, and what it shows stays known until it says that the file has ended.

use super::memory::{FileId, MemoryFile};
use super::{PAGE, Segment, SegmentId};
use rustc_hash::FxHashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A segment that belongs to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListedSegment {
    pub(crate) id: SegmentId,
    /// Which file of its owner's it lies in.
    pub(super) file: u32,
    /// Where it begins there.
    pub(super) page: u32,
    /// Bytes.
    pub(crate) len: u64,
}

/// A memory file whose descriptor comes with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListedFile {
    pub(crate) id: FileId,
    /// Bytes.
    pub(super) len: u64,
    /// It is shown for this message only.
    pub(super) transient: bool,
}

/// Bytes that a segment takes in a message.
pub(crate) const SEGMENT_ENTRY: usize = 24;
const FILE_ENTRY: usize = 17;
/// The number of segments and that of files.
const COUNTS: usize = 8;

/// The most bytes that the list of so many segments takes.
pub(crate) const fn most_len(segments: usize) -> usize {
    segments.saturating_mul(SEGMENT_ENTRY + FILE_ENTRY).saturating_add(COUNTS)
}

/// What a peer has been shown.
#[derive(Debug, Default)]
pub(crate) struct Shown(FxHashSet<FileId>);

impl Shown {
    /// Appends to a message the list of its segments. The answer is the files whose descriptors are to go along.
    pub(crate) fn append(&mut self, body: &mut Vec<u8>, segments: &[Arc<Segment>]) -> Vec<Arc<MemoryFile>> {
        let mut files: Vec<Arc<MemoryFile>> = Vec::new();
        for segment in segments {
            body.extend_from_slice(&segment.id.owner.to_le_bytes());
            body.extend_from_slice(&segment.id.number.to_le_bytes());
            body.extend_from_slice(&segment.file.id().number.to_le_bytes());
            body.extend_from_slice(&((segment.start / PAGE) as u32).to_le_bytes());
            body.extend_from_slice(&(segment.len as u64).to_le_bytes());
            let file = &segment.file;
            let is_new = match file.is_orphaned() {
                true => !files.iter().any(|new| new.id() == file.id()),
                false => self.0.insert(file.id()),
            };
            if is_new && file.fd().is_some() {
                files.push(Arc::clone(file));
            }
        }
        for file in &files {
            body.extend_from_slice(&file.id().owner.to_le_bytes());
            body.extend_from_slice(&file.id().number.to_le_bytes());
            body.extend_from_slice(&(file.len() as u64).to_le_bytes());
            body.push(u8::from(file.is_orphaned()));
        }
        body.extend_from_slice(&(segments.len() as u32).to_le_bytes());
        body.extend_from_slice(&(files.len() as u32).to_le_bytes());
        files
    }

    /// These files have ended, and are not sent again.
    pub(crate) fn forget(&mut self, files: &[FileId]) {
        self.0.retain(|id| !files.contains(id));
    }
}

/// A message as it came: its bytes, what it shows, and its segments.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) files: Vec<(ListedFile, OwnedFd)>,
    pub(crate) segments: Vec<ListedSegment>,
}

/// Takes a message apart. Allocates no more than there are bytes.
pub(crate) fn split(frame: &[u8], fds: Vec<OwnedFd>) -> Result<Listed<'_>, String> {
    let short = || "it ends too early".to_string();
    let (rest, counts) = frame.split_last_chunk::<COUNTS>().ok_or_else(short)?;
    let (segments, files) = (word(&counts[..4]) as usize, word(&counts[4..]) as usize);
    if fds.len() != files {
        return Err(format!("{files} memory files with {} descriptors", fds.len()));
    }
    let before = |rest: usize, count: usize, each: usize| rest.checked_sub(count.checked_mul(each)?);
    let (rest, files) = rest.split_at(before(rest.len(), files, FILE_ENTRY).ok_or_else(short)?);
    let (body, segments) = rest.split_at(before(rest.len(), segments, SEGMENT_ENTRY).ok_or_else(short)?);
    let file = |listed: &[u8]| ListedFile {
        id: FileId { owner: word(&listed[..4]) as u32, number: word(&listed[4..8]) as u32 },
        len: word(&listed[8..16]),
        transient: listed[16] != 0,
    };
    let segment = |listed: &[u8]| ListedSegment {
        id: SegmentId { owner: word(&listed[..4]) as u32, number: word(&listed[4..8]) as u32 },
        file: word(&listed[8..12]) as u32,
        page: word(&listed[12..16]) as u32,
        len: word(&listed[16..]),
    };
    let files = files.chunks_exact(FILE_ENTRY).map(file).zip(fds).collect();
    Ok(Listed { body, files, segments: segments.chunks_exact(SEGMENT_ENTRY).map(segment).collect() })
}

/// Little endian, of up to eight bytes.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
}

#[cfg(test)]
pub(crate) mod testing {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::segment::{Attachments, SegmentError};

    /// Has a process get segments with a message, where it has been shown `shown`.
    pub(crate) fn deliver(
        shown: &mut Shown,
        to: &Attachments,
        segments: &[Arc<Segment>],
    ) -> Result<Vec<Arc<Segment>>, SegmentError> {
        let mut frame = b"message".to_vec();
        let files = shown.append(&mut frame, segments);
        assert!(frame.len() <= 7 + most_len(segments.len()));
        let fds = files.iter().map(|file| file.fd().unwrap().try_clone_to_owned().unwrap()).collect();
        let message = split(&frame, fds).unwrap();
        assert_eq!(message.body, b"message");
        let mut arrival = to.arrival();
        message.files.into_iter().try_for_each(|(listed, fd)| arrival.file(listed, fd))?;
        message.segments.into_iter().map(|listed| arrival.segment(listed)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::ledger::Ledger;
    use crate::ipc::segment::{Attachments, SegmentPool};
    use proptest::prelude::*;
    use testing::deliver;

    #[test]
    fn a_file_is_shown_once_and_again_where_it_does_not_stay() {
        let pool = SegmentPool::new(3, Ledger::in_memory(u64::MAX), 0);
        let segments: Vec<_> = (0..5).map(|_| pool.alloc(100_000).unwrap().freeze()).collect();
        let (mut shown, mut frame) = (Shown::default(), Vec::new());
        let supervisor = Attachments::passing_on();
        assert_eq!(shown.append(&mut frame, &segments).len(), 1);
        assert_eq!(shown.append(&mut frame, &segments).len(), 0);
        let there = deliver(&mut Shown::default(), &supervisor, &segments).unwrap();
        let (mut onward, worker) = (Shown::default(), Attachments::new());
        let far = deliver(&mut onward, &worker, &there).unwrap();
        assert_eq!(onward.append(&mut frame, &there[1..]).len(), 0);
        assert_eq!((supervisor.files(), worker.files()), (1, 1));
        // The owner ends, and what it made is sent on all the same.
        let ended = supervisor.end_owner(3);
        worker.end_files(&ended);
        onward.forget(&ended);
        drop(far);
        for _ in 0..2 {
            let again = deliver(&mut onward, &worker, &there[2..]).unwrap();
            assert_eq!((again[0].len(), worker.files(), supervisor.files()), (there[2].len(), 0, 0));
        }
    }

    #[test]
    fn a_file_that_one_only_has_mapped_is_not_shown() {
        let pool = SegmentPool::new(3, Ledger::in_memory(u64::MAX), 0);
        let worker = Attachments::new();
        let there = deliver(&mut Shown::default(), &worker, &[pool.alloc(10).unwrap().freeze()]).unwrap();
        assert_eq!(Shown::default().append(&mut Vec::new(), &there).len(), 0, "whoever sent it knows it");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = split(&bytes, Vec::new()) {
                prop_assert_eq!(message.body.len() + message.segments.len() * SEGMENT_ENTRY + COUNTS, bytes.len());
                let mut frame = bytes.clone();
                let at = frame.len() - COUNTS;
                frame[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
                prop_assert!(split(&frame, Vec::new()).is_err());
                let nothing = Attachments::new();
                let arrival = &mut nothing.arrival();
                prop_assert!(message.segments.iter().all(|listed| arrival.segment(*listed).is_err()));
            }
        }
    }
}
