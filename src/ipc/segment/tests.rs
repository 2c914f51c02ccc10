#![allow(clippy::unwrap_used)]
use super::listing::testing::deliver;
use super::listing::{ListedFile, Shown};
use super::pool::{FILE, PAGE, size_class};
use super::*;
use crate::ipc::ledger::Ledger;
use crate::ipc::testing;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use proptest::prelude::*;
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
    segment.file.fd().unwrap().try_clone_to_owned().unwrap()
}

/// Has a process get a segment that may be the first.
fn attach(attachments: &Attachments, segment: &Arc<Segment>) -> Arc<Segment> {
    deliver(&mut Shown::default(), attachments, std::slice::from_ref(segment)).unwrap().remove(0)
}

/// Bytes of a segment's file that take memory.
fn resident(segment: &Segment) -> usize {
    fstat(segment.file.fd().unwrap()).unwrap().st_blocks as usize * 512
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
    let attachments = Attachments::passing_on();
    let segment = filled(&pool, 100_000, 7);
    assert!(pool.lend(&segment));
    let theirs = attach(&attachments, &segment);
    assert_eq!(theirs.bytes(), segment.bytes());
    assert_ne!(theirs.bytes().as_ptr(), segment.bytes().as_ptr());
    assert!(!theirs.is_own() && segment.is_own() && !pool.lend(&theirs));
    // Passed on, by a process that only has it mapped.
    let third = attach(&Attachments::new(), &theirs);
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
    // A smaller one takes a part.
    let small = filled(&pool, MIB / 4, 0);
    assert_eq!((pool.stats().reused, pool.stats().free_bytes), (3, MIB - MIB / 4));
    drop(small);
    assert_eq!(pool.stats().free, 1, "parts that touch become one");
    assert!(ledger.used() > 0);
    assert_eq!(pool.trim(), MIB);
    assert_eq!((ledger.used(), pool.stats().files), (0, 1));
}

#[test]
fn free_segments_are_bounded() {
    let ledger = Ledger::in_memory(u64::MAX);
    let pool = SegmentPool::new(1, ledger.clone(), 2 * MIB);
    let held: Vec<_> = (0..5).map(|_| filled(&pool, MIB, 1)).collect();
    assert_eq!(pool.stats().live, 5);
    drop(held);
    assert_eq!((pool.stats().free_bytes, pool.stats().live, pool.stats().files), (2 * MIB, 0, 1));
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
        let other = filled(&pool, MIB, 9);
        let theirs = attach(&Attachments::new(), &segment);
        if abandoned_first {
            pool.abandon(&[id]);
            pool.returned(id, 1);
            drop(segment);
        } else {
            drop(segment);
            pool.abandon(&[id, SegmentId { owner: 2, number: id.number }]);
            pool.returned(id, 1);
        }
        assert_eq!((pool.stats().live, pool.stats().free, ledger.used()), (1, 0, MIB as u64));
        filled(&pool, MIB, 8);
        pool.trim();
        assert!(theirs.bytes().iter().all(|b| *b == 7));
        // Its file goes when nothing else is in use there.
        let file = other.file.id();
        assert!(!pool.take_ended().contains(&file));
        assert!(other.bytes().iter().all(|b| *b == 9));
        drop(other);
        assert_eq!((pool.take_ended(), ledger.used()), (vec![file], 0));
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
    let attach = |s: &Arc<Segment>| attach(&attachments, s);
    let a = attach(&segments[0]);
    let b = attach(&segments[0]);
    assert!(Arc::ptr_eq(&a, &b));
    let c = attach(&segments[1]);
    assert_eq!(attachments.files(), 1, "both lie in one file");
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
    attach(attachments, segment)
}

fn give_back(pool: &SegmentPool, attachments: &Attachments) {
    attachments.take_released().into_iter().for_each(|(id, deliveries)| pool.returned(id, deliveries));
}

#[test]
fn memory_that_comes_again_is_mapped_still() {
    let (pool, _) = pool(u64::MAX);
    let attachments = Attachments::new();
    let mut before = None;
    for byte in 1..4 {
        let segment = filled(&pool, MIB, byte);
        let theirs = delivered(&pool, &attachments, &segment);
        assert!(theirs.bytes().iter().all(|b| *b == byte));
        let at = theirs.bytes().as_ptr() as usize;
        assert!(before.replace((at, segment.id())).is_none_or(|(was, id)| was == at && id != segment.id()));
        drop((theirs, segment));
        assert_eq!((attachments.len(), attachments.files()), (0, 1));
        give_back(&pool, &attachments);
        assert_eq!(pool.stats().free, 1, "a mapping is no use of the segment");
    }
    assert_eq!(pool.stats().created, 1);
}

#[test]
fn a_mapping_keeps_no_memory_from_the_machine() {
    let (pool, ledger) = pool(u64::MAX);
    let attachments = Attachments::new();
    let (segment, other) = (filled(&pool, MIB, 7), filled(&pool, 10, 1));
    drop(delivered(&pool, &attachments, &segment));
    drop(segment);
    pool.trim();
    assert_eq!((resident(&other), pool.stats().parked), (MIB + PAGE, 1), "it is lent still");
    give_back(&pool, &attachments);
    assert_eq!((resident(&other), pool.stats().free), (MIB + PAGE, 1));
    assert_eq!(pool.trim(), MIB);
    assert_eq!((resident(&other), ledger.used() as usize, attachments.files()), (PAGE, PAGE, 1));
}

#[test]
fn nothing_of_an_owner_that_has_ended_stays_mapped() {
    let (pool, _) = pool(u64::MAX);
    let others = SegmentPool::new(2, Ledger::in_memory(u64::MAX), MIB);
    let attachments = Attachments::new();
    let (a, b, other) = (filled(&pool, MIB, 1), filled(&pool, MIB, 2), filled(&others, MIB, 3));
    drop((delivered(&pool, &attachments, &a), delivered(&others, &attachments, &other)));
    let late = delivered(&pool, &attachments, &b);
    assert_eq!(attachments.files(), 2);
    assert_eq!(attachments.end_owner(1), [b.file.id()]);
    assert_eq!((attachments.files(), late.bytes()[0]), (1, 2));
}

#[test]
fn small_segments_share_files_and_a_long_one_has_its_own() {
    let (pool, ledger) = pool(u64::MAX);
    let small: Vec<_> = (0..5000).map(|i| filled(&pool, 66_000, i as u8)).collect();
    let files = (5000 * small[0].len()).div_ceil(FILE / small[0].len() * small[0].len());
    assert_eq!(pool.stats().files, files, "{:?}", pool.stats());
    let attachments = Attachments::new();
    let there = deliver(&mut Shown::default(), &attachments, &small).unwrap();
    assert_eq!((attachments.files(), attachments.len()), (files, 5000));
    assert!(there.iter().zip(0..).all(|(segment, i)| segment.bytes()[65_999] == i as u8));
    let long = filled(&pool, FILE + 1, 1);
    assert_eq!(pool.stats().files, files + 1);
    drop((there, small));
    assert!(pool.stats().free_bytes <= 64 * MIB && pool.stats().files <= 3, "{:?}", pool.stats());
    pool.trim();
    assert_eq!(pool.stats().files, 1, "files of which nothing is used end");
    assert_eq!(pool.take_ended().len(), files);
    assert_eq!(ledger.used() as usize, long.len());
}

#[test]
fn a_file_of_which_one_segment_is_used_takes_the_memory_of_that_one() {
    let ledger = Ledger::in_memory(u64::MAX);
    let pool = SegmentPool::new(1, ledger.clone(), 0);
    let mut held: Vec<_> = (0..200).map(|i| filled(&pool, 64 << 10, i)).collect();
    assert_eq!(resident(&held[0]), 200 << 16);
    held.retain(|segment| segment.bytes()[0] == 77);
    assert_eq!((resident(&held[0]), ledger.used()), (1 << 16, 1 << 16));
    assert!(held[0].bytes().iter().all(|b| *b == 77));
}

#[test]
fn a_file_that_cannot_be_emptied_is_kept_until_nothing_of_it_is_used() {
    let ledger = Ledger::in_memory(u64::MAX);
    let pool = SegmentPool::new(1, ledger.clone(), 0);
    drop(filled(&pool, MIB, 1));
    {
        let mut state = pool.0.state.lock();
        for own in state.files.values_mut() {
            Arc::get_mut(&mut own.file).unwrap().can_be_emptied = false;
        }
    }
    let (a, b) = (filled(&pool, MIB, 1), filled(&pool, MIB, 2));
    drop(a);
    assert_eq!((pool.trim(), ledger.used()), (0, 2 * MIB as u64));
    assert_eq!(b.bytes()[5], 2);
    drop(b);
    assert_eq!((pool.trim(), ledger.used(), pool.stats().files), (2 * MIB, 0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Make(usize),
    Lend(usize),
    Drop(usize),
    Return(usize),
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..400_000_usize).prop_map(Step::Make),
        2 => any::<usize>().prop_map(Step::Lend),
        4 => any::<usize>().prop_map(Step::Drop),
        2 => any::<usize>().prop_map(Step::Return),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any workload: what is taken out of the budget, and what the kernel has given, is at most twice what is in use
    /// and what may be kept; and no segment's bytes change while anybody has it.
    #[test]
    fn memory_is_bounded_by_what_is_used(steps in steps()) {
        const KEPT: usize = MIB;
        let ledger = Ledger::in_memory(u64::MAX);
        let pool = SegmentPool::new(1, ledger.clone(), KEPT);
        let attachments = Attachments::new();
        let mut shown = Shown::default();
        let (mut own, mut lent) = (Vec::<(Arc<Segment>, usize, u8)>::new(), Vec::<(Arc<Segment>, usize, u8)>::new());
        let mut byte = 0_u8;
        for step in steps {
            match step {
                Step::Make(len) => {
                    byte = byte.wrapping_add(1);
                    own.push((filled(&pool, len, byte), len, byte));
                }
                Step::Lend(at) if !own.is_empty() => {
                    let (segment, len, byte) = &own[at % own.len()];
                    pool.lend(segment);
                    let there = deliver(&mut shown, &attachments, std::slice::from_ref(segment)).unwrap().remove(0);
                    lent.push((there, *len, *byte));
                }
                Step::Drop(at) if !own.is_empty() => drop(own.swap_remove(at % own.len())),
                Step::Return(at) if !lent.is_empty() => {
                    drop(lent.swap_remove(at % lent.len()));
                    give_back(&pool, &attachments);
                }
                Step::Trim => drop(pool.trim()),
                _ => {}
            }
            let ended = pool.take_ended();
            attachments.end_files(&ended);
            shown.forget(&ended);
            let mut used: Vec<_> = own.iter().chain(&lent).map(|(segment, len, _)| (segment.id(), *len)).collect();
            used.sort();
            used.dedup();
            let used: usize = used.iter().map(|(_, len)| len.next_multiple_of(PAGE)).sum();
            prop_assert!(ledger.used() as usize <= 2 * used + KEPT, "{} of {used}", ledger.used());
            let memory: usize = pool.0.state.lock().files.values().map(|own| {
                fstat(own.file.fd().unwrap()).unwrap().st_blocks as usize * 512
            }).sum();
            prop_assert!(memory <= 2 * used + KEPT, "{memory} of {used}");
            prop_assert_eq!(attachments.files() <= pool.stats().files, true);
        }
        for (segment, len, byte) in own.iter().chain(&lent) {
            prop_assert!(segment.bytes()[..*len].iter().all(|b| b == byte));
        }
        own.clear();
        lent.clear();
        give_back(&pool, &attachments);
        pool.trim();
        prop_assert_eq!((ledger.used(), pool.stats().live), (0, 0));
        prop_assert!(pool.stats().files <= 1);
    }
}

#[test]
fn racing_deliveries_and_drops_lose_no_count() {
    let (pool, _) = pool(u64::MAX);
    let attachments = Attachments::new();
    let segment = filled(&pool, 1000, 9);
    const EACH: u32 = 2000;
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                for _ in 0..EACH {
                    pool.lend(&segment);
                    let got = attach(&attachments, &segment);
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
    let id = FileId { owner: 3, number: 4 };
    let refused = |fd: OwnedFd, len, why: &str| {
        for transient in [false, true] {
            let fd = fd.try_clone().unwrap();
            let error = attachments.arrival().file(ListedFile { id, len, transient }, fd).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
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
    refused(memfd(fixed, 4096), u64::MAX, "smaller");
    refused(memfd(fixed, 0), 0, "empty");
    refused(tempfile::tempfile().unwrap().into(), 1, "not a memory file");
    refused(nix::unistd::pipe().unwrap().0, 1, "not a memory file");
    assert_eq!(attachments.files(), 0);
}

#[test]
fn segments_that_lie_nowhere_are_refused_and_count_as_released() {
    let (pool, _) = pool(u64::MAX);
    let good = filled(&pool, 4096, 1);
    let attachments = Attachments::new();
    let at = |file, page, len| {
        let listed = listing::ListedSegment { id: good.id(), file, page, len };
        attachments.arrival().segment(listed).map(|segment| segment.len())
    };
    let refused = |answer: Result<usize, SegmentError>, why: &str| {
        let error = answer.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(attachments.take_released(), [(good.id(), 1)]);
    };
    refused(at(0, 0, 4096), "has not been shown");
    drop(attach(&attachments, &good));
    assert_eq!(attachments.take_released(), [(good.id(), 1)]);
    let pages = (FILE / PAGE) as u32;
    refused(at(1, 0, 4096), "has not been shown");
    refused(at(0, 0, 0), "empty");
    refused(at(0, pages, 1), "past the end");
    refused(at(0, pages - 1, 4097), "past the end");
    refused(at(0, 1, FILE as u64), "past the end");
    refused(at(0, u32::MAX, 1), "past the end");
    refused(at(0, 0, u64::MAX), "past the end");
    assert_eq!(at(0, pages - 1, 4096), Ok(4096));
    assert_eq!(attachments.take_released(), [(good.id(), 1)]);
    let kept = attach(&attachments, &good);
    assert!(at(0, 0, good.len() as u64 + 1).unwrap_err().to_string().contains("smaller"));
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
fn a_file_that_there_is_no_address_space_for_is_mapped_in_parts() {
    testing::run_child(&[], "ipc::segment::tests::child_address_space");
}

#[test]
#[ignore = "run by a_file_that_there_is_no_address_space_for_is_mapped_in_parts"]
fn child_address_space() {
    if !testing::is_child() {
        return;
    }
    let (pool, _) = pool(u64::MAX);
    let segments: Vec<_> = (0..20_u8).map(|i| filled(&pool, 100_000, i)).collect();
    let large = filled(&pool, 40 * MIB, 1);
    for segment in segments.iter().chain([&large]) {
        assert!(pool.lend(segment));
    }
    let attachments = Attachments::passing_on();
    let used = std::fs::read_to_string("/proc/self/statm").unwrap();
    let used = used.split(' ').next().unwrap().parse::<u64>().unwrap() * PAGE as u64;
    // Not enough for the file, which has 64 MiB.
    let limit = used + (24 << 20);
    setrlimit(Resource::RLIMIT_AS, limit, limit).unwrap();
    let mut shown = Shown::default();
    let mut theirs = deliver(&mut shown, &attachments, &segments[..10]).unwrap();
    theirs.extend(deliver(&mut shown, &attachments, &segments[10..]).unwrap());
    for (theirs, ours) in theirs.iter().zip(&segments) {
        theirs.populate();
        assert_eq!(theirs.bytes(), ours.bytes());
    }
    // Passed on, by a process that has only a part mapped, to one that has no more room either.
    let third = attach(&Attachments::new(), &theirs[3]);
    assert_eq!(third.bytes(), segments[3].bytes());
    let error = deliver(&mut shown, &attachments, std::slice::from_ref(&large)).unwrap_err();
    assert_eq!(error, SegmentError::AddressSpace { wanted: large.len() });
    assert!(error.to_string().contains("ulimit -v"), "{error}");
    // What was refused is given back all the same.
    assert_eq!(attachments.take_released().len(), 1);
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
