//! The results a worker keeps: in memory as they are, and on disk when memory runs short.
//!
//! Every result has a place in the order of use. One that is to leave memory is written first and dropped then, so that
//! whatever happens to the disk, nothing is lost; what came back from disk and has not changed, which no result does,
//! is dropped without being written again. Writing is done by a thread of its own, the *mover*, and by whoever cannot go
//! on without room; reading back is mapping, done by whoever needs the value.

use crate::ids::TaskId;
use crate::ipc::disk::{Disk, DiskError, OnDisk};
use crate::ipc::gauges::Waits;
use crate::ipc::heap;
use crate::ipc::page::ControlPage;
use crate::ipc::scope::decode_scope;
use crate::ipc::segment::SegmentPool;
use crate::memory::policy::{Policy, Wait};
use crate::memory::process::Statm;
use crate::protocol::Payload;
use crate::task::Value;
use crate::task::function::Record;
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long to wait before a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long between two times that free memory is given back to the machine.
const TRIM: Duration = Duration::from_secs(1);

struct Entry {
    record: &'static Record,
    /// Tells it from an earlier entry of the same id.
    life: u64,
    /// Its key in the order of use.
    used: u64,
    value: Option<Value>,
    /// What the value takes in memory.
    bytes: u64,
    disk: Option<Arc<OnDisk>>,
    /// It is being written, or cannot be written at all, or what is written would be worth nothing.
    fixed: bool,
}

struct State {
    entries: FxHashMap<TaskId, Entry>,
    /// Entries in memory by their last use, oldest first.
    order: BTreeMap<u64, TaskId>,
    clock: u64,
    managed: u64,
    spilled: u64,
    policy: Policy,
    /// Why the disk takes nothing, and when that was seen.
    failing: Option<(String, Instant)>,
    trimmed: Option<Instant>,
}

/// A result on its way to disk.
struct Victim {
    id: TaskId,
    life: u64,
    value: Value,
    record: &'static Record,
}

pub(super) struct Store {
    state: Mutex<State>,
    /// Values of others that are to stay mapped.
    shared: Mutex<FxHashMap<TaskId, Payload>>,
    /// The mover waits here for a debt.
    debts: Condvar,
    /// Whether any number of tasks may start. What is false here is looked up.
    open: AtomicBool,
    threads: usize,
    /// Where there is no limit, nothing is watched and nothing is moved.
    limited: bool,
    disk: Option<Disk>,
    pool: SegmentPool,
    page: Arc<ControlPage>,
    statm: Statm,
}

impl Store {
    /// A store that keeps to `policy`, if there is one, and moves results to `disk`, if there is one.
    pub(super) fn new(
        policy: Option<Policy>,
        disk: Option<Disk>,
        threads: usize,
        pool: SegmentPool,
        page: Arc<ControlPage>,
    ) -> Self {
        let limited = policy.is_some();
        let state = State {
            entries: FxHashMap::default(),
            order: BTreeMap::new(),
            clock: 0,
            managed: 0,
            spilled: 0,
            policy: policy.unwrap_or_else(Policy::unlimited),
            failing: None,
            trimmed: None,
        };
        Self {
            state: Mutex::new(state),
            shared: Mutex::default(),
            debts: Condvar::new(),
            open: AtomicBool::new(true),
            threads,
            limited,
            disk,
            pool,
            page,
            statm: Statm::of_self(),
        }
    }

    /// Whether there is a limit to keep to.
    pub(super) fn is_limited(&self) -> bool {
        self.limited
    }

    /// Keeps a result of `bytes`. Refuses one that neither memory nor the disk has room for, and says why.
    pub(super) fn put(&self, id: TaskId, value: Value, record: &'static Record, bytes: u64) -> Result<(), String> {
        let old = {
            let mut state = self.state.lock();
            if let Some((reason, _)) = &state.failing
                && !state.policy.has_room(bytes)
            {
                return Err(format!(
                    "its result of {bytes} B does not fit beside {} B of others: {reason}",
                    state.managed
                ));
            }
            let old = state.remove(id);
            state.clock += 1;
            let used = state.clock;
            let entry =
                Entry { record, life: used, used, value: Some(value), bytes, disk: None, fixed: record.is_bound() };
            state.entries.insert(id, entry);
            state.order.insert(used, id);
            state.managed += bytes;
            state.policy.kept(bytes);
            self.settle(&state);
            old
        };
        drop(old);
        Ok(())
    }

    /// Whether a result is here, in memory or on disk.
    pub(super) fn holds(&self, id: TaskId) -> bool {
        self.state.lock().entries.contains_key(&id)
    }

    /// A result, brought back from disk where it is there only. `None`: it is not here.
    pub(super) fn get(&self, id: TaskId) -> Result<Option<(Value, &'static Record)>, String> {
        let (on_disk, record, life) = {
            let mut state = self.state.lock();
            let Some((value, entry)) = state.touch(id) else { return Ok(None) };
            match (value, &entry.disk) {
                (Some(value), _) => return Ok(Some((value, entry.record))),
                (None, Some(on_disk)) => (Arc::clone(on_disk), entry.record, entry.life),
                (None, None) => return Ok(None),
            }
        };
        let value = load(&on_disk, record)?;
        // Counted again, since what lies on disk takes no memory.
        let bytes = record.result().size(&value);
        let mut state = self.state.lock();
        state.clock += 1;
        let used = state.clock;
        if let Some(entry) = state.entries.get_mut(&id)
            && entry.life == life
            && entry.value.is_none()
        {
            (entry.value, entry.bytes, entry.used) = (Some(value.clone()), bytes, used);
            state.order.insert(used, id);
            state.managed += bytes;
            state.policy.came_back(bytes);
            self.settle(&state);
        }
        Ok(Some((value, record)))
    }

    /// Takes a result out of the store.
    pub(super) fn take(&self, id: TaskId) -> Result<Option<Value>, String> {
        let removed = {
            let mut state = self.state.lock();
            let removed = state.remove(id);
            self.settle(&state);
            removed
        };
        match removed {
            Some(Entry { value: Some(value), .. }) => Ok(Some(value)),
            Some(Entry { disk: Some(on_disk), record, .. }) => load(&on_disk, record).map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn forget(&self, ids: &[TaskId]) {
        // A value's own drop may take long or come back here, so it happens outside of the lock.
        let dropped: Vec<_> = {
            let mut state = self.state.lock();
            let dropped = ids.iter().filter_map(|id| state.remove(*id)).collect();
            self.settle(&state);
            dropped
        };
        drop(dropped);
        let mut shared = self.shared.lock();
        if !shared.is_empty() {
            ids.iter().for_each(|id| drop(shared.remove(id)));
        }
    }

    /// Keeps values in reach: their segments mapped, and the mappings filled.
    pub(super) fn share(&self, values: Vec<(TaskId, Payload)>) {
        values.iter().flat_map(|(_, payload)| payload.segments()).for_each(|segment| segment.populate());
        self.shared.lock().extend(values);
    }

    /// Whether a task may start beside `running` others.
    pub(super) fn may_start(&self, running: usize) -> Result<(), Wait> {
        if self.open.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.state.lock().policy.may_start(running)
    }

    /// A task has ended: what it used may be moved now.
    pub(super) fn unpinned(&self) {
        if !self.open.load(Ordering::Relaxed) {
            let mut state = self.state.lock();
            state.policy.try_again();
            self.settle(&state);
        }
    }

    /// Looks how much memory the process uses. Takes two microseconds.
    pub(super) fn sample(&self) -> u64 {
        let Some(private) = self.statm.private() else { return 0 };
        let segments = self.page.segment_bytes().saturating_sub(self.pool.idle_bytes());
        self.page.gauges().set_process(private, segments);
        if self.limited {
            let mut state = self.state.lock();
            state.policy.sampled(private + segments);
            self.settle(&state);
        }
        private + segments
    }

    /// Tells the page and whoever waits what has become of a change.
    fn settle(&self, state: &State) {
        self.page.gauges().set_results(state.managed, state.spilled);
        if !self.limited {
            return;
        }
        self.open.store(state.policy.may_start(self.threads).is_ok(), Ordering::Relaxed);
        if state.owes() || state.policy.should_trim() {
            self.debts.notify_one();
        }
    }

    /// The mover's life: pays debts as they come up. `eased` is told after each step that may let a task start.
    pub(super) fn pay_debts(&self, eased: impl Fn()) {
        loop {
            let trim = {
                let mut state = self.state.lock();
                loop {
                    if state.failing.as_ref().is_some_and(|(_, since)| since.elapsed() >= RETRY) {
                        state.policy.try_again();
                    }
                    let trim = state.policy.should_trim() && state.trimmed.is_none_or(|at| at.elapsed() >= TRIM);
                    if trim {
                        state.trimmed = Some(Instant::now());
                    }
                    if trim || state.owes() {
                        break trim;
                    }
                    if state.failing.is_some() && state.policy.debt() > 0 {
                        self.debts.wait_for(&mut state, RETRY);
                    } else {
                        self.debts.wait(&mut state);
                    }
                }
            };
            if trim {
                self.trim();
            } else if self.move_one() {
                self.sample();
            }
            eased();
        }
    }

    /// Gives back what is free, so that it is not taken for used.
    fn trim(&self) {
        heap::trim();
        // Unused segments are worth keeping as long as nobody needs their room.
        let used = self.sample();
        if !self.state.lock().policy.has_room(used.saturating_add(self.pool.free_bytes())) {
            self.pool.trim();
        }
    }

    /// Moves everything that can be moved out of memory, for a task that is to have all of it.
    pub(super) fn clear_out(&self) {
        while self.move_one() {}
        heap::trim();
        self.pool.trim();
        self.sample();
    }

    /// Moves the result that has not been used for longest. False if none can be moved.
    pub(super) fn move_one(&self) -> bool {
        let Some(disk) = &self.disk else {
            self.state.lock().policy.stuck();
            return false;
        };
        let victim = {
            let mut state = self.state.lock();
            match state.next_victim() {
                Some(Ok(victim)) => victim,
                Some(Err(evicted)) => {
                    self.settle(&state);
                    drop(state);
                    drop(evicted);
                    return true;
                }
                None => {
                    state.policy.stuck();
                    self.settle(&state);
                    return false;
                }
            }
        };
        let written = disk.write(|| {
            let mut bytes = Vec::new();
            victim.record.result().encode(&victim.value, &mut bytes, usize::MAX).map_err(|e| format!("{e:?}"))?;
            Ok(bytes)
        });
        let Victim { id, life, value, .. } = victim;
        let mut state = self.state.lock();
        let mut moved = false;
        let mut dropped = None;
        match written {
            Ok(on_disk) => {
                if state.failing.take().is_some() {
                    self.page.gauges().set_disk_fails(false);
                    log::info!("results can be moved to disk again");
                }
                let len = on_disk.len();
                if let Some(entry) = state.entries.get_mut(&id).filter(|e| e.life == life) {
                    entry.disk = Some(Arc::new(on_disk));
                    entry.fixed = false;
                    // Somebody may have begun to use it: then it is dropped later, without being written again.
                    let unused = entry.value.as_ref().is_some_and(|v| Arc::strong_count(v) == 2);
                    state.spilled += len;
                    if unused {
                        dropped = state.evict(id);
                    }
                }
                moved = true;
            }
            Err(e) => {
                let hopeless = matches!(e, DiskError::Encode(_));
                if let Some(entry) = state.entries.get_mut(&id).filter(|e| e.life == life) {
                    entry.fixed = hopeless;
                }
                if hopeless {
                    log::warn!("the result of task {id} stays in memory: {e}");
                    moved = true;
                } else {
                    let reason = e.to_string();
                    if state.failing.as_ref().is_none_or(|(known, _)| *known != reason) {
                        log::error!("results cannot be moved to disk: {reason}");
                    }
                    state.failing = Some((reason, Instant::now()));
                    state.policy.stuck();
                    self.page.gauges().set_disk_fails(true);
                }
            }
        }
        self.settle(&state);
        drop(state);
        drop((dropped, value));
        moved
    }

    /// Why a worker waits, for its page.
    pub(super) fn note_waits(&self, waits: Option<Wait>) {
        self.page.gauges().set_waits(match waits {
            None => Waits::No,
            Some(Wait::Spilling { .. }) => Waits::Spilling,
            Some(Wait::Paused { .. }) => Waits::Paused,
        });
    }
}

fn load(on_disk: &OnDisk, record: &Record) -> Result<Value, String> {
    let payload = on_disk.payload().map_err(|e| format!("a result cannot be read back from disk: {e}"))?;
    decode_scope(payload.segments(), || record.result().decode(payload.content()))
}

impl State {
    /// Whether there is a debt that can be paid.
    fn owes(&self) -> bool {
        self.policy.debt() > 0 && !self.policy.is_stuck()
    }

    /// Makes an entry the one used last.
    fn touch(&mut self, id: TaskId) -> Option<(Option<Value>, &Entry)> {
        self.clock += 1;
        let entry = self.entries.get_mut(&id)?;
        let value = entry.value.clone();
        if value.is_some() {
            self.order.remove(&entry.used);
            entry.used = self.clock;
            self.order.insert(entry.used, id);
        }
        Some((value, entry))
    }

    fn remove(&mut self, id: TaskId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if entry.value.is_some() {
            self.order.remove(&entry.used);
            self.managed -= entry.bytes;
            self.policy.gone(entry.bytes);
        }
        self.spilled -= entry.disk.as_ref().map_or(0, |d| d.len());
        Some(entry)
    }

    /// Takes the value of an entry that is on disk.
    fn evict(&mut self, id: TaskId) -> Option<Value> {
        let entry = self.entries.get_mut(&id)?;
        let value = entry.value.take()?;
        self.order.remove(&entry.used);
        self.managed -= entry.bytes;
        self.policy.gone(entry.bytes);
        Some(value)
    }

    /// The oldest value that nobody uses: to be written, or, where it is on disk already, evicted.
    fn next_victim(&mut self) -> Option<Result<Victim, Value>> {
        let unused = |entry: &Entry| {
            !entry.fixed && entry.bytes > 0 && entry.value.as_ref().is_some_and(|v| Arc::strong_count(v) == 1)
        };
        let id = self.order.values().copied().find(|id| self.entries.get(id).is_some_and(unused))?;
        let entry = self.entries.get_mut(&id)?;
        if entry.disk.is_some() {
            return self.evict(id).map(Err);
        }
        entry.fixed = true;
        Some(Ok(Victim { id, life: entry.life, value: entry.value.clone()?, record: entry.record }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ids::{JobId, SessionId};
    use crate::ipc::ledger::Ledger;
    use crate::ipc::page::PageName;
    use crate::memory::thresholds::Thresholds;
    use crate::task::function::TaskFunction;
    use crate::{Buffer, Data};
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
        Rig { store: Store::new(Some(policy), Some(disk), 1, pool, page), ledger, _dir: dir }
    }

    impl Rig {
        /// Each takes 100 KiB and a little.
        fn put(&self, index: u32) -> Result<(), String> {
            let record = record_of(made);
            let value: Value = Arc::new(made(u64::from(index)));
            let bytes = record.result().size(&value);
            self.store.put(id(index), value, record, bytes)
        }

        fn pay(&self) {
            while self.store.state.lock().owes() {
                self.store.move_one();
            }
        }

        fn in_memory(&self) -> Vec<u32> {
            let state = self.store.state.lock();
            let mut there: Vec<_> =
                state.entries.iter().filter(|(_, e)| e.value.is_some()).map(|(i, _)| i.index).collect();
            there.sort_unstable();
            assert_eq!(there.len(), state.order.len());
            there
        }

        fn check<T: Data + PartialEq + std::fmt::Debug>(&self, index: u32, wanted: &T) {
            let (value, _) = self.store.get(id(index)).unwrap().unwrap();
            assert_eq!(value.downcast_ref::<T>().unwrap(), wanted);
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
        assert!(rig.store.take(id(1)).unwrap().is_some_and(|v| v.downcast_ref() == Some(&made(1))));
        assert!(rig.store.get(id(1)).unwrap().is_none() && rig.store.take(id(1)).unwrap().is_none());
        rig.store.clear_out();
        assert!(rig.in_memory().is_empty());
        assert!(rig.store.take(id(2)).unwrap().is_some_and(|v| v.downcast_ref() == Some(&made(2))));
    }

    #[test]
    fn a_value_that_came_back_is_not_written_twice() {
        fn words(n: usize) -> Vec<String> {
            (0..n).map(|i| format!("{i:090}")).collect()
        }
        let rig = rig();
        let record = record_of(words);
        for i in 0..7 {
            rig.store.put(id(i), Arc::new(words(1000)), record, 114 * KIB).unwrap();
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
        assert_eq!(rig.store.may_start(0), Ok(()), "one at a time, since waiting would not help");
        assert!(rig.store.may_start(1).is_err());
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
    fn a_value_dropped_while_it_is_written_stays_dropped() {
        let rig = rig();
        (0..7).for_each(|i| rig.put(i).unwrap());
        let victim = rig.store.state.lock().next_victim().unwrap().ok().unwrap();
        assert_eq!(victim.id, id(0));
        rig.store.forget(&[id(0)]);
        rig.put(0).unwrap();
        assert_ne!(rig.store.state.lock().entries[&id(0)].life, victim.life);
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
}
