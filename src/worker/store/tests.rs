//! One test for each rule of the store.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::ids::{JobId, SessionId};
use crate::ipc::ledger::Ledger;
use crate::ipc::page::PageName;
use crate::ipc::payload::Payload;
use crate::memory::thresholds::Thresholds;
use crate::task::codec;
use crate::task::function::TaskFunction;
use crate::{Buffer, Data};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::{Cell, RefCell};
use tempfile::TempDir;

const KIB: u64 = 1 << 10;

fn id(index: u32) -> TaskId {
    TaskId { job: JobId { session: SessionId(1), number: 1 }, index }
}

fn record_of<A, R, F: TaskFunction<A, R>>(_: F) -> &'static Record {
    F::RECORD
}

fn made(x: u64) -> Buffer<u64> {
    Buffer::from_fn(12_800, |i| i as u64 * x)
}

struct Rig {
    store: Store,
    ledger: Ledger,
    _dir: TempDir,
}

/// A store with a limit of 1000 KiB; its process memory is what a test says.
fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let page = Arc::new(ControlPage::create(&PageName::new().unwrap(), 0).unwrap());
    let ledger = Ledger::in_memory(u64::MAX);
    let pool = SegmentPool::new(1, ledger.clone(), 0);
    let disk = Disk::new(dir.path().to_path_buf(), ledger.clone());
    let policy = Policy::new(Thresholds::default().levels(1000 * KIB));
    Rig { store: Store::new(Some(policy), Some(disk), u64::MAX, 1, pool, page), ledger, _dir: dir }
}

/// The size of a value without large buffers.
fn plain(bytes: u64) -> Size {
    Size { bytes, encoded: bytes }
}

impl Rig {
    /// Each takes 100 KiB and a little.
    fn put(&self, index: u32) -> Result<(), String> {
        let record = record_of(made);
        let value = Value::new(made(u64::from(index)));
        let bytes = record.result().size(&value);
        self.store.put(id(index), value, Made::whole(record), plain(bytes))
    }

    fn pay(&self) {
        while self.store.state.lock().owes() {
            self.store.move_one();
        }
    }

    fn in_memory(&self) -> Vec<u32> {
        let state = self.store.state.lock();
        let mut there: Vec<_> = state.entries.iter().filter(|(_, e)| e.value.is_some()).map(|(i, _)| i.index).collect();
        there.sort_unstable();
        assert_eq!(there.len(), state.order.len());
        there
    }

    fn check<T: Data + PartialEq + std::fmt::Debug>(&self, index: u32, wanted: &T) {
        let (value, _) = self.store.get(id(index)).unwrap().unwrap();
        assert_eq!(value.get::<T>().unwrap(), wanted);
    }
}

#[test]
fn what_was_used_longest_ago_goes_first_and_comes_back() {
    let rig = rig();
    (0..5).for_each(|i| rig.put(i).unwrap());
    assert!(!rig.store.state.lock().owes());
    rig.check(0, &made(0));
    (5..8).for_each(|i| rig.put(i).unwrap());
    rig.pay();
    assert_eq!(rig.in_memory(), [0, 4, 5, 6, 7], "0 was used after 1 to 3");
    let gauges = rig.store.page.gauges();
    assert_eq!(gauges.managed(), rig.store.state.lock().managed);
    assert!(gauges.spilled() >= 300 * KIB, "{}", gauges.spilled());
    (0..8).for_each(|i| rig.check(i, &made(u64::from(i))));
    // What is read from disk takes no memory, so that nothing has to go for it.
    rig.pay();
    assert_eq!(rig.in_memory(), (0..8).collect::<Vec<_>>());
    rig.store.forget(&(0..8).map(id).collect::<Vec<_>>());
    assert_eq!((gauges.managed(), gauges.spilled()), (0, 0));
    rig.store.disk.as_ref().unwrap().settle();
    assert_eq!(rig.ledger.reserve_disk(u64::MAX), Ok(()), "the disk is empty");
}

#[test]
fn what_is_in_use_stays() {
    let rig = rig();
    (0..6).for_each(|i| rig.put(i).unwrap());
    let used = rig.store.get(id(0)).unwrap();
    rig.put(6).unwrap();
    rig.put(7).unwrap();
    rig.pay();
    assert_eq!(rig.in_memory(), [0, 4, 5, 6, 7]);
    drop(used);
    assert!(rig.store.take(id(1)).unwrap().is_some_and(|v| v.get() == Some(&made(1))));
    assert!(rig.store.get(id(1)).unwrap().is_none() && rig.store.take(id(1)).unwrap().is_none());
    rig.store.clear_out();
    assert!(rig.in_memory().is_empty());
    assert!(rig.store.take(id(2)).unwrap().is_some_and(|v| v.get() == Some(&made(2))));
}

#[test]
fn a_value_that_came_back_is_not_written_twice() {
    fn words(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("{i:090}")).collect()
    }
    let rig = rig();
    let record = record_of(words);
    for i in 0..7 {
        rig.store.put(id(i), Value::new(words(1000)), Made::whole(record), plain(114 * KIB)).unwrap();
    }
    rig.pay();
    let used = rig.store.page.gauges().spilled();
    let there = rig.in_memory();
    assert_eq!(there, [2, 3, 4, 5, 6]);
    for _ in 0..3 {
        (0..7).for_each(|i| rig.check(i, &words(1000)));
        rig.pay();
        assert_eq!(rig.in_memory().len(), 5);
    }
    assert!(rig.store.page.gauges().spilled() <= 7 * used / 2, "each is there once");
}

#[test]
fn a_disk_that_fails_loses_nothing_and_then_results_are_refused() {
    let rig = rig();
    rig.ledger.set_disk_limit(0);
    (0..7).for_each(|i| rig.put(i).unwrap());
    rig.pay();
    assert_eq!(rig.in_memory().len(), 7);
    assert!(rig.store.page.gauges().disk_fails());
    assert_eq!(rig.store.may_start_needing(0, 0), Ok(()), "one at a time, since waiting would not help");
    assert!(rig.store.may_start_needing(1, 0).is_err());
    let error = rig.put(7).unwrap_err();
    assert!(error.contains("spill_limit") && error.contains("does not fit"), "{error}");
    (0..7).for_each(|i| rig.check(i, &made(u64::from(i))));
    // The disk has room again.
    rig.ledger.set_disk_limit(u64::MAX);
    rig.store.state.lock().policy.try_again();
    rig.pay();
    assert!(!rig.store.page.gauges().disk_fails());
    rig.put(7).unwrap();
    rig.pay();
    (0..8).for_each(|i| rig.check(i, &made(u64::from(i))));
}

#[test]
fn what_came_back_from_a_disk_that_fails_now_leaves_memory_again() {
    let rig = rig();
    (0..9).for_each(|i| rig.put(i).unwrap());
    rig.pay();
    rig.ledger.set_disk_limit(0);
    rig.put(9).unwrap();
    rig.pay();
    assert!(rig.store.page.gauges().disk_fails());
    // Read back, these were used last, and the oldest cannot be written.
    (0..4).for_each(|i| rig.check(i, &made(u64::from(i))));
    let before = rig.in_memory().len();
    rig.store.unpinned();
    rig.pay();
    assert!(rig.in_memory().len() < before, "{before} are there");
    assert!((0..4).all(|i| !rig.in_memory().contains(&i)), "those that are on disk went");
    (0..10).for_each(|i| rig.check(i, &made(u64::from(i))));
}

#[test]
fn a_value_dropped_while_it_is_written_stays_dropped() {
    let rig = rig();
    (0..7).for_each(|i| rig.put(i).unwrap());
    let victim = rig.store.state.lock().next_victim().unwrap().ok().unwrap();
    assert_eq!(victim.id, id(0));
    rig.store.forget(&[id(0)]);
    rig.put(0).unwrap();
    assert_ne!(rig.store.state.lock().entries[&id(0)].generation, victim.generation);
    drop(victim);
    rig.pay();
    rig.check(0, &made(0));
}

#[test]
fn the_mover_pays_what_is_owed() {
    let rig = Box::leak(Box::new(rig()));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(|| {
        rig.store.pay_debts(move || {
            let _ = tell.send(());
        })
    });
    (0..20).for_each(|i| rig.put(i).unwrap());
    while rig.store.page.gauges().managed() > 600 * KIB {
        told.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    (0..20).for_each(|i| rig.check(i, &made(u64::from(i))));
}

/// A value whose own code panics or fails while its trigger is set.
#[derive(Clone, Debug, PartialEq)]
struct Touchy {
    what: u8,
    filling: Vec<u64>,
}

thread_local! {
    static TRIGGER: Cell<u8> = const { Cell::new(0) };
}

const DROP: u8 = 1;
const SERIALIZE: u8 = 2;
const DESERIALIZE: u8 = 3;
const REFUSE: u8 = 4;

impl Touchy {
    fn triggered(&self, when: u8) -> bool {
        self.what == when && TRIGGER.get() == when
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        assert!(!self.triggered(DROP), "not to be dropped");
    }
}

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        assert!(!self.triggered(SERIALIZE), "not to be written");
        (self.what, &self.filling).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let (what, filling) = Deserialize::deserialize(d)?;
        let it = Self { what, filling };
        assert!(!it.triggered(DESERIALIZE), "not to be read");
        if it.triggered(REFUSE) {
            return Err(serde::de::Error::custom("not now"));
        }
        Ok(it)
    }
}

fn touchy(what: u8) -> Touchy {
    Touchy { what, filling: vec![u64::from(what); 12_800] }
}

impl Rig {
    fn put_touchy(&self, index: u32, what: u8) {
        let record = record_of(touchy);
        let value = Value::new(touchy(what));
        let bytes = record.result().size(&value);
        self.store.put(id(index), value, Made::whole(record), plain(bytes)).unwrap();
    }
}

#[test]
fn a_result_that_cannot_be_read_back_this_time_is_there_the_next() {
    let rig = rig();
    for (index, trigger, reason) in [(0, REFUSE, "not now"), (1, DESERIALIZE, "not to be read")] {
        rig.put_touchy(index, trigger);
        rig.store.clear_out();
        assert!(rig.store.is_on_disk_only(id(index)));
        TRIGGER.set(trigger);
        let error = rig.store.take(id(index)).unwrap_err();
        assert!(error.contains(reason), "{error}");
        let error = rig.store.get(id(index)).err().unwrap();
        assert!(error.contains(reason), "{error}");
        TRIGGER.set(0);
        assert!(rig.store.holds(id(index)));
        let value = rig.store.take(id(index)).unwrap().unwrap();
        assert_eq!(value.get(), Some(&touchy(trigger)));
        assert!(!rig.store.holds(id(index)));
    }
    assert_eq!(rig.store.page.gauges().spilled(), 0);
}

#[test]
fn a_value_that_panics_when_it_is_dropped_harms_nobody() {
    let rig = rig();
    (0..3).for_each(|index| rig.put_touchy(index, DROP));
    rig.put(3).unwrap();
    TRIGGER.set(DROP);
    rig.store.forget(&[id(0), id(1), id(3)]);
    assert!(rig.in_memory() == [2] && rig.store.page.gauges().managed() > 0);
    // One takes the place of another.
    rig.store.put(id(2), Value::new(made(2)), Made::whole(record_of(made)), plain(100 * KIB)).unwrap();
    rig.check(2, &made(2));
    rig.put_touchy(4, DROP);
    rig.store.clear_out();
    assert!(rig.in_memory().is_empty(), "one that has been written is dropped, whatever it says to that");
    TRIGGER.set(0);
    rig.check(4, &touchy(DROP));
}

#[test]
fn a_value_that_panics_when_it_is_written_stays_in_memory() {
    let rig = rig();
    rig.put_touchy(0, SERIALIZE);
    (1..8).for_each(|index| rig.put(index).unwrap());
    TRIGGER.set(SERIALIZE);
    rig.pay();
    TRIGGER.set(0);
    let there = rig.in_memory();
    assert!(there.contains(&0) && there.len() < 8, "{there:?}");
    rig.check(0, &touchy(SERIALIZE));
    (1..8).for_each(|index| rig.check(index, &made(u64::from(index))));
}

thread_local! {
    /// The store that is watched on this thread, and what was logged while it was locked.
    static WATCHED: RefCell<Option<(&'static Store, Vec<String>, u32)>> = const { RefCell::new(None) };
}

/// Notes what is logged while the watched store is locked.
struct Collecting;

impl log::Log for Collecting {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        WATCHED.with_borrow_mut(|watched| {
            let Some((store, locked, lines)) = watched else { return };
            *lines += 1;
            if store.state.try_lock().is_none() {
                locked.push(record.args().to_string());
            }
        });
    }

    fn flush(&self) {}
}

#[test]
fn nothing_is_logged_while_the_store_is_locked() {
    // A line waits for whoever reads standard error, and that one may need the store.
    log::set_logger(&Collecting).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let rig = Box::leak(Box::new(rig()));
    WATCHED.set(Some((&rig.store, Vec::new(), 0)));
    rig.put_touchy(0, SERIALIZE);
    TRIGGER.set(SERIALIZE);
    rig.store.clear_out();
    TRIGGER.set(0);
    (1..8).for_each(|index| rig.put(index).unwrap());
    rig.ledger.set_disk_limit(0);
    rig.pay();
    rig.ledger.set_disk_limit(u64::MAX);
    rig.store.state.lock().policy.try_again();
    rig.pay();
    let (_, locked, lines) = WATCHED.take().unwrap();
    assert_eq!(locked, Vec::<String>::new());
    assert_eq!(lines, 3, "one that stays, a disk that fails, and one that works again");
}

#[test]
fn room_in_shared_memory_is_made_by_the_mover() {
    let rig = Box::leak(Box::new(rig()));
    assert!(rig.store.ask_for_room(), "nobody has tried yet");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(|| {
        rig.store.pay_debts(move || {
            let _ = tell.send(());
        })
    });
    told.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(!rig.store.ask_for_room(), "there was nothing to move");
    told.recv_timeout(Duration::from_secs(10)).unwrap();
    (0..3).for_each(|i| rig.put(i).unwrap());
    rig.store.ask_for_room();
    while rig.in_memory().len() == 3 {
        told.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    // What this process uses may be a reason to move the others too.
    assert!(!rig.in_memory().contains(&0), "the oldest goes first");
}

/// A value of elsewhere that takes 100 KiB and a little once it is decoded.
fn share(rig: &Rig, index: u32) -> Arc<SharedInput> {
    let mut bytes = Vec::new();
    codec::encode(&vec![1_u8; 100 << 10], &mut bytes, usize::MAX).unwrap();
    rig.store.share(vec![SharedPayload { id: id(index), payload: Payload::inline(&bytes), populate: false }]);
    rig.store.shared(id(index)).unwrap()
}

fn read(rig: &Rig, input: &Arc<SharedInput>) {
    assert_eq!(input.share::<Vec<u8>>(false).unwrap().len(), 100 << 10);
    rig.store.used(std::slice::from_ref(input));
}

#[test]
fn what_is_decoded_counts_and_leaves_memory_before_any_result() {
    let rig = rig();
    let managed = || rig.store.state.lock().managed;
    (0..3).for_each(|i| rig.put(i).unwrap());
    let before = managed();
    let inputs = [share(&rig, 10), share(&rig, 11)];
    assert_eq!(managed(), before, "encoded it is not the worker's");
    inputs.iter().for_each(|input| read(&rig, input));
    assert!(managed() > before + 200 * KIB, "{}", managed());
    let in_use = inputs[1].share::<Vec<u8>>(false).unwrap();
    (3..6).for_each(|i| rig.put(i).unwrap());
    rig.pay();
    assert_eq!(rig.in_memory(), [2, 3, 4, 5], "one was not enough, and the other is in use");
    assert_eq!(inputs.each_ref().map(|input| input.decoded_bytes() > 0), [false, true]);
    drop(in_use);
    rig.put(6).unwrap();
    rig.pay();
    assert_eq!(rig.in_memory(), [2, 3, 4, 5, 6]);
    assert_eq!(inputs[1].decoded_bytes(), 0);
    // It is decoded again when it is read again, and goes when it is to be dropped, though a task has it still.
    read(&rig, &inputs[0]);
    rig.store.forget(&[id(10)]);
    assert!(rig.store.shared(id(10)).is_none());
    read(&rig, &inputs[0]);
    rig.store.forget(&(0..12).map(id).collect::<Vec<_>>());
    assert_eq!((managed(), rig.store.page.gauges().managed()), (0, 0));
}

#[test]
fn what_is_decoded_and_idle_is_bounded_without_a_limit() {
    let page = Arc::new(ControlPage::create(&PageName::new().unwrap(), 0).unwrap());
    let pool = SegmentPool::new(1, Ledger::in_memory(u64::MAX), 0);
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig { store: Store::new(None, None, 250 * KIB, 1, pool, page), ledger: Ledger::in_memory(0), _dir: dir };
    let inputs: Vec<_> = (0..4).map(|i| share(&rig, i)).collect();
    let decoded = || inputs.iter().map(|input| u32::from(input.decoded_bytes() > 0)).collect::<Vec<_>>();
    inputs[..3].iter().for_each(|input| read(&rig, input));
    assert_eq!(decoded(), [0, 1, 1, 0]);
    read(&rig, &inputs[1]);
    read(&rig, &inputs[3]);
    assert_eq!(decoded(), [0, 1, 0, 1], "what was used longest ago goes");
    inputs.iter().for_each(|input| drop(input.share::<Vec<u8>>(false).unwrap()));
    rig.store.used(&inputs);
    assert_eq!(decoded(), [1; 4], "one task needs all of them");
    read(&rig, &inputs[0]);
    assert_eq!(decoded().iter().sum::<u32>(), 2);
}
