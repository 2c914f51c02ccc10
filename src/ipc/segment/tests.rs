#![allow(clippy::unwrap_used)]
use super::pool::{PAGE, size_class};
use super::*;
use crate::ipc::ledger::Ledger;
use crate::ipc::testing;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const MIB: usize = 1 << 20;

fn pool(limit: u64) -> (SegmentPool, Ledger) {
    let ledger = Ledger::in_memory(limit);
    (SegmentPool::new(1, ledger.clone(), 64 * MIB), ledger)
}

fn filled(pool: &SegmentPool, len: usize, byte: u8) -> Arc<Segment> {
    let mut segment = pool.alloc(len).unwrap();
    segment.fill(byte);
    segment.freeze()
}

fn fd_of(segment: &Segment) -> OwnedFd {
    segment.as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn sizes_are_rounded_a_little() {
    assert_eq!(size_class(0).unwrap().get(), PAGE);
    assert_eq!(size_class(PAGE + 1).unwrap().get(), 2 * PAGE);
    assert_eq!(size_class(MIB).unwrap().get(), MIB);
    for len in [1usize, 65_000, 70_000, MIB + 1, 3 * MIB + 5, 1 << 40, (1 << 40) + 1] {
        let class = size_class(len).unwrap().get();
        assert!(class >= len && class.is_multiple_of(PAGE) && class - len <= (len / 8).max(PAGE), "{len} -> {class}");
        assert_eq!(size_class(class).unwrap().get(), class);
    }
    assert_eq!(size_class(usize::MAX), None);
    assert_eq!(size_class(isize::MAX as usize), None);
}

#[test]
fn another_mapping_sees_the_bytes() {
    let (pool, _) = pool(u64::MAX);
    let attachments = Attachments::new();
    let segment = filled(&pool, 100_000, 7);
    assert!(pool.lend(&segment));
    let theirs = attachments.attach(segment.id(), fd_of(&segment), segment.len()).unwrap();
    assert_eq!(theirs.bytes(), segment.bytes());
    assert_ne!(theirs.bytes().as_ptr(), segment.bytes().as_ptr());
    assert!(!theirs.is_own() && segment.is_own() && !pool.lend(&theirs));
    // Passed on, by a process that only has it mapped.
    let third = Attachments::new().attach(theirs.id(), fd_of(&theirs), theirs.len()).unwrap();
    assert_eq!(third.bytes()[99_999], 7);
}

#[test]
fn nobody_else_can_write_or_resize() {
    let (pool, _) = pool(u64::MAX);
    let segment = filled(&pool, 100_000, 7);
    let fd = fd_of(&segment);
    let len = NonZeroUsize::new(segment.len()).unwrap();
    assert!(Mapping::new(&fd, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).is_err());
    assert_eq!(nix::unistd::write(&fd, b"x"), Err(Errno::EBADF));
    assert!(ftruncate(&fd, 0).is_err());
    // Not even through /proc.
    let writable = File::options().write(true).open(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    assert_eq!(ftruncate(&writable, 0), Err(Errno::EPERM));
    assert_eq!(ftruncate(&writable, 1 << 30), Err(Errno::EPERM));
    assert_eq!(fcntl(&writable, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)), Err(Errno::EPERM));
    // We still can once it is free again.
    let old = segment.bytes().as_ptr();
    drop(segment);
    let again = filled(&pool, 100_000, 8);
    assert_eq!(again.bytes().as_ptr(), old);
    assert_eq!(again.bytes()[0], 8);
}

#[test]
fn used_segments_are_used_again_under_a_new_number() {
    let (pool, ledger) = pool(u64::MAX);
    let first = filled(&pool, MIB, 1);
    let id = first.id();
    drop(first);
    assert_eq!(pool.stats().free, 1);
    let second = pool.alloc(MIB - 10_000).unwrap();
    assert_eq!(second.len(), MIB - 10_000);
    assert!(second.iter().all(|b| *b == 1));
    drop(second);
    let third = pool.alloc_zeroed(MIB).unwrap();
    assert!(third.iter().all(|b| *b == 0));
    let third = third.freeze();
    assert_ne!(third.id(), id);
    assert_eq!((pool.stats().created, pool.stats().reused), (1, 2));
    drop(third);
    // Half as large: too wasteful.
    drop(pool.alloc(MIB / 4).unwrap());
    assert_eq!(pool.stats().created, 2);
    // The closest fit is taken.
    let small = filled(&pool, MIB / 8, 0);
    assert_eq!(small.len(), MIB / 4);
    drop(small);
    assert!(ledger.used() > 0);
    assert_eq!(pool.trim(), MIB + MIB / 4);
    assert_eq!(ledger.used(), 0);
}

#[test]
fn free_segments_are_bounded() {
    let ledger = Ledger::in_memory(u64::MAX);
    let pool = SegmentPool::new(1, ledger.clone(), 2 * MIB);
    let held: Vec<_> = (0..5).map(|_| filled(&pool, MIB, 1)).collect();
    assert_eq!(pool.stats().live, 5);
    drop(held);
    assert_eq!((pool.stats().free_bytes, pool.stats().live), (2 * MIB, 0));
    assert_eq!(ledger.used(), 2 * MIB as u64);
    drop(pool);
    assert_eq!(ledger.used(), 0);
}

#[test]
fn the_budget_holds_and_free_segments_yield_to_it() {
    let (pool, ledger) = pool(4 * MIB as u64);
    let held = filled(&pool, 2 * MIB, 1);
    drop(filled(&pool, MIB, 1));
    // 3 of 4 MiB are used, one of them by a free segment.
    let more = filled(&pool, 2 * MIB, 1);
    assert_eq!(ledger.used(), 4 * MIB as u64);
    let error = pool.alloc(MIB).unwrap_err();
    assert!(matches!(error, SegmentError::Budget(e) if e.limit == 4 * MIB as u64));
    assert!(error.to_string().contains("shared_memory_limit"));
    drop((held, more));
    pool.alloc(4 * MIB).unwrap();
}

#[test]
fn a_lent_segment_waits_for_its_return() {
    let (pool, _) = pool(u64::MAX);
    let segment = filled(&pool, MIB, 1);
    let id = segment.id();
    assert!(pool.lend(&segment));
    drop(segment);
    assert_eq!((pool.stats().parked, pool.stats().free), (1, 0));
    pool.returned(SegmentId { owner: 2, number: id.number }, 1);
    assert_eq!(pool.stats().parked, 1);
    pool.returned(id, 1);
    assert_eq!((pool.stats().live, pool.stats().free), (0, 1));
    pool.returned(id, 1);
    assert_eq!(pool.stats().free, 1);

    // Returned while we still have it.
    let segment = filled(&pool, MIB, 2);
    pool.lend(&segment);
    pool.returned(segment.id(), 1);
    assert_eq!(segment.bytes()[0], 2);
    drop(segment);
    assert_eq!(pool.stats().free, 1);
}

#[test]
fn what_somebody_may_still_read_is_neither_used_again_nor_emptied() {
    for abandoned_first in [true, false] {
        let (pool, ledger) = pool(u64::MAX);
        let segment = filled(&pool, MIB, 7);
        let id = segment.id();
        pool.lend(&segment);
        let theirs = Attachments::new().attach(id, fd_of(&segment), MIB).unwrap();
        if abandoned_first {
            pool.abandon(&[id]);
            pool.returned(id, 1);
            drop(segment);
        } else {
            drop(segment);
            pool.abandon(&[id, SegmentId { owner: 2, number: id.number }]);
            pool.returned(id, 1);
        }
        assert_eq!((pool.stats().live, pool.stats().free, ledger.used()), (0, 0, 0));
        filled(&pool, MIB, 8);
        assert!(theirs.bytes().iter().all(|b| *b == 7));
    }
}

#[test]
fn a_return_under_way_does_not_end_a_later_lending() {
    let (pool, _) = pool(u64::MAX);
    let segment = filled(&pool, MIB, 1);
    let id = segment.id();
    pool.lend(&segment);
    pool.lend(&segment);
    drop(segment);
    pool.returned(id, 1);
    assert_eq!((pool.stats().parked, pool.stats().free), (1, 0));
    pool.returned(id, 1);
    assert_eq!((pool.stats().parked, pool.stats().free), (0, 1));
}

#[test]
fn attached_segments_are_mapped_once_and_reported_with_their_count() {
    let (pool, _) = pool(u64::MAX);
    let attachments = Attachments::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    attachments.set_notifier(Box::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let segments = [filled(&pool, MIB, 1), filled(&pool, MIB, 2)];
    let attach = |s: &Arc<Segment>| attachments.attach(s.id(), fd_of(s), s.len()).unwrap();
    let a = attach(&segments[0]);
    let b = attach(&segments[0]);
    assert!(Arc::ptr_eq(&a, &b));
    let c = attach(&segments[1]);
    assert_eq!(attachments.len(), 2);
    drop(a);
    assert_eq!(attachments.take_released(), []);
    drop((b, c));
    assert_eq!(calls.load(Ordering::Relaxed), 1, "once until somebody takes");
    assert_eq!(attachments.take_released(), [(segments[0].id(), 2), (segments[1].id(), 1)]);
    drop(attach(&segments[1]));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!((attachments.len(), attachments.take_released().len()), (0, 1));
}

/// Lends a segment and has it attached.
fn delivered(pool: &SegmentPool, attachments: &Attachments, segment: &Arc<Segment>) -> Arc<Segment> {
    assert!(pool.lend(segment));
    attachments.attach(segment.id(), fd_of(segment), segment.len()).unwrap()
}

fn give_back(pool: &SegmentPool, attachments: &Attachments) {
    attachments.take_released().into_iter().for_each(|(id, deliveries)| pool.returned(id, deliveries));
}

#[test]
fn memory_that_comes_again_is_mapped_still() {
    let (pool, _) = pool(u64::MAX);
    let attachments = Attachments::new();
    attachments.keep(2 * MIB);
    let mut before = None;
    for byte in 1..4 {
        let segment = filled(&pool, MIB, byte);
        let theirs = delivered(&pool, &attachments, &segment);
        assert!(theirs.bytes().iter().all(|b| *b == byte));
        let at = theirs.bytes().as_ptr() as usize;
        assert!(before.replace((at, segment.id())).is_none_or(|(was, id)| was == at && id != segment.id()));
        drop((theirs, segment));
        assert_eq!((attachments.len(), attachments.kept()), (0, 1));
        give_back(&pool, &attachments);
        assert_eq!(pool.stats().free, 1, "a kept mapping is no use of the segment");
    }
    assert_eq!(pool.stats().created, 1);
}

#[test]
fn kept_mappings_are_bounded_and_the_oldest_go_first() {
    let (pool, _) = pool(u64::MAX);
    let attachments = Attachments::new();
    let segments: Vec<_> = (0..4).map(|i| filled(&pool, MIB, i)).collect();
    let attach = |i: usize| delivered(&pool, &attachments, &segments[i]);
    drop(attach(0));
    assert_eq!(attachments.kept(), 0, "none without being told to");
    attachments.keep(2 * MIB);
    let at: Vec<_> = (0..3).map(|i| attach(i).bytes().as_ptr()).collect();
    assert_eq!(attachments.kept(), 2);
    assert_eq!([attach(2).bytes().as_ptr(), attach(1).bytes().as_ptr()], [at[2], at[1]]);
    drop(attach(3));
    assert_eq!((attach(1).bytes().as_ptr(), attachments.kept()), (at[1], 2));
    let large = filled(&pool, 3 * MIB, 9);
    drop(delivered(&pool, &attachments, &large));
    assert_eq!(attachments.kept(), 2, "what is larger than all that may be kept is not");
}

#[test]
fn a_kept_mapping_keeps_no_memory_from_the_machine() {
    let (pool, ledger) = pool(u64::MAX);
    let attachments = Attachments::new();
    attachments.keep(64 * MIB);
    let segment = filled(&pool, MIB, 7);
    let fd = fd_of(&segment);
    let in_use = || fstat(&fd).unwrap().st_blocks * 512;
    drop(delivered(&pool, &attachments, &segment));
    drop(segment);
    pool.trim();
    assert_eq!((in_use(), pool.stats().parked), (MIB as i64, 1), "it is lent still");
    give_back(&pool, &attachments);
    assert_eq!((in_use(), pool.stats().free, attachments.kept()), (MIB as i64, 1, 1));
    assert_eq!(pool.trim(), MIB);
    assert_eq!((in_use(), ledger.used(), attachments.kept()), (0, 0, 1));
}

#[test]
fn nothing_of_an_owner_that_has_ended_is_kept() {
    let (pool, _) = pool(u64::MAX);
    let others = SegmentPool::new(2, Ledger::in_memory(u64::MAX), MIB);
    let attachments = Attachments::new();
    attachments.keep(64 * MIB);
    let (a, b, other) = (filled(&pool, MIB, 1), filled(&pool, MIB, 2), filled(&others, MIB, 3));
    drop((delivered(&pool, &attachments, &a), delivered(&others, &attachments, &other)));
    let late = delivered(&pool, &attachments, &b);
    assert_eq!(attachments.kept(), 2);
    attachments.forget(&[1]);
    assert_eq!((attachments.kept(), late.bytes()[0]), (1, 2));
    drop(late);
    assert_eq!(attachments.kept(), 1);
}

#[test]
fn what_its_owner_could_not_empty_is_not_kept() {
    let attachments = Attachments::new();
    attachments.keep(MIB);
    let fd = memfd_create(c"x", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&fd, 4096).unwrap();
    fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)).unwrap();
    drop(attachments.attach(SegmentId { owner: 3, number: 4 }, fd, 4096).unwrap());
    assert_eq!(attachments.kept(), 0);
}

#[test]
fn racing_deliveries_and_drops_lose_no_count() {
    let (pool, _) = pool(u64::MAX);
    let attachments = Attachments::new();
    attachments.keep(MIB);
    let segment = filled(&pool, 1000, 9);
    const EACH: u32 = 2000;
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                for _ in 0..EACH {
                    pool.lend(&segment);
                    let got = attachments.attach(segment.id(), fd_of(&segment), segment.len()).unwrap();
                    assert_eq!(got.bytes()[0], 9);
                }
            });
        }
    });
    let released = attachments.take_released();
    assert_eq!(released.iter().map(|(_, n)| n).sum::<u32>(), 3 * EACH);
    for (id, n) in released {
        pool.returned(id, n);
    }
    drop(segment);
    assert_eq!((pool.stats().live, pool.stats().free), (0, 1));
}

#[test]
fn hostile_descriptors_are_refused() {
    let attachments = Attachments::new();
    let id = SegmentId { owner: 3, number: 4 };
    let refused = |fd: OwnedFd, len, why: &str| {
        let error = attachments.attach(id, fd, len).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(attachments.take_released(), [(id, 1)]);
    };
    let memfd = |seals: SealFlag, len| {
        let fd = memfd_create(c"x", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        ftruncate(&fd, len).unwrap();
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        fd
    };
    let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    refused(memfd(SealFlag::F_SEAL_GROW, 4096), 4096, "not sealed");
    refused(memfd(SealFlag::F_SEAL_SHRINK, 4096), 4096, "not sealed");
    refused(memfd(fixed, 4096), 4097, "smaller");
    refused(memfd(fixed, 4096), usize::MAX, "smaller");
    refused(memfd(fixed, 0), 0, "empty");
    refused(tempfile::tempfile().unwrap().into(), 1, "not a memory file");
    refused(nix::unistd::pipe().unwrap().0, 1, "not a memory file");
    let (pool, _) = pool(u64::MAX);
    let good = filled(&pool, 4096, 1);
    let kept = attachments.attach(good.id(), fd_of(&good), good.len()).unwrap();
    assert!(attachments.attach(good.id(), fd_of(&good), good.len() + 1).is_err());
    drop(kept);
    assert_eq!(attachments.take_released(), [(good.id(), 2)]);
    assert_eq!(attachments.len(), 0);
}

#[test]
fn a_segment_no_machine_has_memory_for_is_an_error() {
    let (pool, ledger) = pool(u64::MAX);
    assert!(matches!(pool.alloc(1 << 60), Err(SegmentError::Memory { .. } | SegmentError::FileSize { .. })));
    assert!(matches!(pool.alloc(usize::MAX), Err(SegmentError::Memory { .. })));
    assert_eq!(ledger.used(), 0);
}

#[test]
fn numbers_in_use_are_skipped_when_they_wrap() {
    let (pool, _) = pool(u64::MAX);
    pool.0.state.lock().next_number = u32::MAX;
    let held: Vec<_> = (0..2).map(|_| filled(&pool, 1, 0)).collect();
    pool.0.state.lock().next_number = u32::MAX;
    assert_eq!(held.iter().map(|s| s.id().number).collect::<Vec<_>>(), [u32::MAX, 0]);
    assert_eq!(filled(&pool, 1, 0).id().number, 1);
}

#[test]
fn limits_of_the_process_are_typed_errors() {
    testing::run_child(&[], "ipc::segment::tests::child_limits");
}

#[test]
#[ignore = "run by limits_of_the_process_are_typed_errors"]
fn child_limits() {
    if !testing::is_child() {
        return;
    }
    let (pool, ledger) = pool(u64::MAX);
    // SAFETY: ignoring a signal runs no code in a handler.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, MIB as u64, MIB as u64).unwrap();
    let error = pool.alloc(2 * MIB).unwrap_err();
    assert_eq!(error, SegmentError::FileSize { wanted: 2 * MIB });
    assert!(error.to_string().contains("ulimit -f"));

    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, open + 8, open + 8).unwrap();
    let mut held: Vec<_> = Vec::new();
    let error = loop {
        match pool.alloc(MIB / 2) {
            Ok(segment) => held.push(segment),
            Err(e) => break e,
        }
    };
    assert_eq!(error, SegmentError::Descriptors);
    assert!(error.to_string().contains("ulimit -n"));
    // A free segment of another size gives up its descriptor.
    held.truncate(held.len() - 1);
    pool.alloc(MIB / 16).unwrap();
    drop(held);
    pool.trim();
    assert_eq!(ledger.used(), 0);
}
