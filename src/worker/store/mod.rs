//! The results a worker keeps: in memory as they are, and on disk when memory runs short.
//!
//! Results are ordered by their last use. One that is to leave memory is written first and dropped then, so that a disk
//! that fails loses nothing. One that was read back is dropped without being written again, since results never change.
//! A thread of its own, the *mover*, writes; so does a thread that cannot go on without room. Reading back is mapping,
//! done by the thread that needs the value.
//!
//! Values of elsewhere that several tasks read are here too, encoded and decoded ([`shared`]). What is decoded of them is
//! the first to leave memory.

mod moves;
mod need;
mod shared;

use super::limits;
use crate::ids::TaskId;
use crate::ipc::allocator;
use crate::ipc::disk::{Disk, DiskError, OnDisk};
use crate::ipc::page::ControlPage;
use crate::ipc::page::gauges::Waits;
use crate::ipc::segment::SegmentPool;
use crate::job::SharedPayload;
use crate::memory::policy::{Policy, Wait};
use crate::memory::process::Statm;
use crate::message::Task;
use crate::task::Value;
use crate::task::call::guarded;
use crate::task::codec::Codec;
use crate::task::function::Record;
use crate::task::shared_input::SharedInput;
use crate::task::size::Size;
use log::Level;
use moves::{Moves, load};
use need::Used;
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use shared::SharedInputs;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long to wait before a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long at least between two times that free memory is given back to the machine.
const TRIM: Duration = Duration::from_millis(50);
/// It is not to take more than a part of the time that is one in so many.
const TRIM_SHARE: u32 = 20;
/// A run that is shorter can have touched next to nothing.
const BRIEF: Duration = Duration::from_micros(100);

/// Where a result comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) by: &'static Record,
    /// What it is encoded with: it may be a part of what the function gave.
    pub(super) codec: &'static Codec,
}

impl Made {
    /// All that a function gave.
    pub(super) fn whole(by: &'static Record) -> Self {
        Self { by, codec: by.result() }
    }
}

struct StoredResult {
    made: Made,
    /// Distinguishes it from an earlier result of the same id.
    generation: u64,
    /// Its key in the order of use.
    used: u64,
    value: Option<Value>,
    /// What a copy of the value takes, which has its large buffers in common with it.
    copied: u64,
    /// What the value takes in memory.
    bytes: u64,
    disk: Option<Arc<OnDisk>>,
    /// It must not be moved: it is being written, cannot be written, or is bound to this process.
    fixed: bool,
}

struct StoreState {
    entries: FxHashMap<TaskId, StoredResult>,
    /// Results in memory by their last use, oldest first.
    order: BTreeMap<u64, TaskId>,
    clock: u64,
    managed: u64,
    spilled: u64,
    shared: SharedInputs,
    policy: Policy,
    /// Why the disk takes nothing, and since when that is known.
    failing: Option<(String, Instant)>,
    /// When memory was last given back, and how long that took.
    trimmed: Option<(Instant, Duration)>,
    /// Shared memory has no room for a value that is to be sent.
    no_room_now: bool,
    /// Bytes of segments when room was asked for last.
    asked: Option<u64>,
    /// A task waits for memory.
    pausing: bool,
}

/// A result on its way to disk.
struct Victim {
    id: TaskId,
    generation: u64,
    value: Value,
    codec: &'static Codec,
}

pub(super) struct Store {
    state: Mutex<StoreState>,
    /// Wakes the mover when a result should be moved.
    debts: Condvar,
    /// Whether any number of tasks may start; if not, the policy decides about each.
    open: AtomicBool,
    threads: usize,
    /// Without a limit, memory is not watched and no result is moved.
    limited: bool,
    /// What the process used when it was last measured.
    process: AtomicU64,
    /// Bytes of results that were kept when it was last measured for a run that began.
    measured_at: AtomicU64,
    disk: Option<Disk>,
    pool: SegmentPool,
    page: Arc<ControlPage>,
    statm: Statm,
    moves: Moves,
}

impl Store {
    /// A store that keeps to `policy`, if there is one, and moves results to `disk`, if there is one. Decoded inputs that no
    /// task reads take at most `idle` bytes, apart from the one that was used last.
    pub(super) fn new(
        policy: Option<Policy>,
        disk: Option<Disk>,
        idle: u64,
        threads: usize,
        pool: SegmentPool,
        page: Arc<ControlPage>,
    ) -> Self {
        let limited = policy.is_some();
        let state = StoreState {
            entries: FxHashMap::default(),
            order: BTreeMap::new(),
            clock: 0,
            managed: 0,
            spilled: 0,
            shared: SharedInputs::new(idle),
            policy: policy.unwrap_or_else(Policy::unlimited),
            failing: None,
            trimmed: None,
            no_room_now: false,
            asked: None,
            pausing: false,
        };
        Self {
            state: Mutex::new(state),
            debts: Condvar::new(),
            open: AtomicBool::new(true),
            threads,
            limited,
            process: AtomicU64::new(0),
            measured_at: AtomicU64::new(u64::MAX),
            disk,
            pool,
            page,
            statm: Statm::of_self(),
            moves: Moves::default(),
        }
    }

    /// Whether there is a limit to keep to.
    pub(super) fn is_limited(&self) -> bool {
        self.limited
    }

    /// Keeps a result of that size. Refuses one that neither memory nor the disk has room for, and says why.
    pub(super) fn put(&self, id: TaskId, value: Value, made: Made, size: Size) -> Result<(), String> {
        let bytes = size.bytes;
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
            let entry = StoredResult {
                made,
                generation: used,
                used,
                value: Some(value),
                bytes,
                copied: size.encoded.min(bytes),
                disk: None,
                fixed: made.by.is_bound(),
            };
            state.entries.insert(id, entry);
            state.order.insert(used, id);
            state.managed += bytes;
            state.policy.kept(bytes);
            self.settle(&mut state);
            old
        };
        drop(old);
        Ok(())
    }

    /// Whether a result is here, in memory or on disk.
    pub(super) fn holds(&self, id: TaskId) -> bool {
        self.state.lock().entries.contains_key(&id)
    }

    /// Whether a result must be read from disk to be had.
    pub(super) fn is_on_disk_only(&self, id: TaskId) -> bool {
        self.state.lock().entries.get(&id).is_some_and(|entry| entry.value.is_none())
    }

    /// Bytes that a result takes in memory; 0 where it is on disk only, or not here.
    pub(super) fn bytes_in_memory(&self, id: TaskId) -> u64 {
        self.state.lock().entries.get(&id).filter(|entry| entry.value.is_some()).map_or(0, |entry| entry.bytes)
    }

    /// A result, brought back from disk where it is there only. `None`: it is not here.
    pub(super) fn get(&self, id: TaskId) -> Result<Option<(Value, Made)>, String> {
        let (on_disk, made, generation) = {
            let mut state = self.state.lock();
            let Some((value, entry)) = state.touch(id) else { return Ok(None) };
            match (value, &entry.disk) {
                (Some(value), _) => return Ok(Some((value, entry.made))),
                (None, Some(on_disk)) => (Arc::clone(on_disk), entry.made, entry.generation),
                (None, None) => return Ok(None),
            }
        };
        let began = Instant::now();
        let (value, bytes) = load(&on_disk, made.codec)?;
        self.moves.add(id, true, on_disk.len(), began);
        let mut state = self.state.lock();
        state.clock += 1;
        let used = state.clock;
        if let Some(entry) = state.entries.get_mut(&id)
            && entry.generation == generation
            && entry.value.is_none()
        {
            (entry.value, entry.bytes, entry.used) = (Some(value.clone()), bytes, used);
            state.order.insert(used, id);
            state.managed += bytes;
            state.policy.came_back(bytes);
            self.settle(&mut state);
        }
        Ok(Some((value, made)))
    }

    /// Removes a result and returns it. One that cannot be read back from disk stays.
    pub(super) fn take(&self, id: TaskId) -> Result<Option<Value>, String> {
        let (on_disk, codec, generation) = {
            let mut state = self.state.lock();
            match state.entries.get(&id) {
                Some(StoredResult { value: None, disk: Some(on_disk), made, generation, .. }) => {
                    (Arc::clone(on_disk), made.codec, *generation)
                }
                _ => {
                    let removed = state.remove(id);
                    self.settle(&mut state);
                    return Ok(removed.and_then(|entry| entry.value));
                }
            }
        };
        let began = Instant::now();
        let (value, _) = load(&on_disk, codec)?;
        self.moves.add(id, true, on_disk.len(), began);
        let removed = {
            let mut state = self.state.lock();
            let same = state.entries.get(&id).is_some_and(|entry| entry.generation == generation);
            let removed = same.then(|| state.remove(id)).flatten();
            self.settle(&mut state);
            removed
        };
        drop(removed);
        Ok(Some(value))
    }

    pub(super) fn forget(&self, ids: &[TaskId]) {
        // Dropping a value may take long or call the store, so it happens outside of the lock.
        let dropped: (Vec<StoredResult>, Vec<Arc<SharedInput>>) = {
            let mut state = self.state.lock();
            let dropped = ids.iter().filter_map(|id| state.remove(*id)).collect();
            let shared = ids.iter().filter_map(|id| state.remove_shared(*id)).collect();
            self.settle(&mut state);
            (dropped, shared)
        };
        drop(dropped.0);
        drop(dropped.1);
    }

    /// Keeps values of elsewhere for tasks that will name them.
    pub(super) fn share(&self, values: Vec<SharedPayload>) {
        let populated = values.iter().filter(|value| value.populate);
        populated.flat_map(|value| value.payload.segments()).for_each(|segment| segment.populate());
        let mut replaced = Vec::new();
        let mut state = self.state.lock();
        for SharedPayload { id, payload, .. } in values {
            replaced.extend(state.remove_shared(id));
            state.shared.insert(Arc::new(SharedInput::new(id, payload)));
        }
        drop(state);
        drop(replaced);
    }

    /// A value of elsewhere.
    pub(super) fn shared(&self, id: TaskId) -> Option<Arc<SharedInput>> {
        self.state.lock().shared.get(id)
    }

    /// A task has read these, and may have had them decoded: that counts as managed memory.
    pub(super) fn used(&self, inputs: &[Arc<SharedInput>]) {
        let mut idle = Vec::new();
        let mut state = self.state.lock();
        for input in inputs {
            let (before, after) = state.shared.used(input);
            state.uncount(before);
            state.managed += after;
            state.policy.came_back(after);
        }
        while let Some((value, bytes)) = state.shared.evict_over(inputs) {
            state.uncount(bytes);
            idle.push(value);
        }
        self.settle(&mut state);
        drop(state);
        drop(idle);
    }

    /// Whether a task that is there may start beside `running` others. If not, results are moved out for it.
    pub(super) fn may_start(&self, running: impl FnOnce() -> usize, task: &Task) -> Result<(), Wait> {
        if self.open.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.sample();
        let need = self.state.lock().need(task);
        self.may_start_needing(running(), need)
    }

    fn may_start_needing(&self, running: usize, need: u64) -> Result<(), Wait> {
        let mut state = self.state.lock();
        let answer = state.policy.may_start(running, need);
        if answer.is_err() && !state.pausing {
            self.page.gauges().count_pause();
        }
        state.pausing = answer.is_err();
        state.policy.wants(answer.is_err().then_some((running, need)));
        self.settle(&mut state);
        answer
    }

    /// No task waits for room any more, if one did.
    pub(super) fn none_waits(&self) {
        if !self.open.load(Ordering::Relaxed) {
            self.state.lock().policy.wants(None);
        }
    }

    /// What is used now, to be handed to [`ran`](Self::ran) when the run that begins has ended.
    pub(super) fn used_before(&self) -> Used {
        let managed = self.page.gauges().managed();
        // As long as no results come and go, what was measured last will do.
        if self.measured_at.swap(managed, Ordering::Relaxed) != managed {
            self.sample();
        }
        Used { process: self.process.load(Ordering::Relaxed), managed }
    }

    /// A function has run on an executor thread for so long, and what it returned is still there: learns what that needs.
    pub(super) fn ran(&self, task: &Task, thread: usize, took: Duration, before: Used) {
        if took < BRIEF {
            return;
        }
        let process = self.sample().max(self.page.gauges().peak(thread));
        let grown = Used { process, managed: self.page.gauges().managed() }.since(before);
        self.state.lock().policy.ran(need::function(task), grown);
    }

    /// A task has ended: what it used may be moved now.
    pub(super) fn unpinned(&self) {
        if !self.open.load(Ordering::Relaxed) {
            let mut state = self.state.lock();
            state.policy.try_again();
            self.settle(&mut state);
        }
    }

    /// Asks the mover to make room in shared memory by moving one more result. False if the last time did not help.
    pub(super) fn ask_for_room(&self) -> bool {
        let taken = self.page.segment_bytes();
        let mut state = self.state.lock();
        let helped = state.asked.replace(taken).is_none_or(|before| taken < before);
        state.no_room_now = self.disk.is_some();
        // A disk that failed is tried again only after `RETRY`.
        if state.failing.is_none() {
            state.policy.try_again();
        }
        self.debts.notify_one();
        helped && self.disk.is_some()
    }

    /// Measures how much memory the process uses. Takes two microseconds.
    pub(super) fn sample(&self) -> u64 {
        let Some(private) = self.statm.private() else { return 0 };
        let segments = self.page.segment_bytes().saturating_sub(self.pool.idle_bytes());
        self.page.gauges().set_process(private, segments);
        self.process.store(private + segments, Ordering::Relaxed);
        if self.limited {
            let mut state = self.state.lock();
            state.policy.sampled(private + segments);
            self.settle(&mut state);
        }
        private + segments
    }

    /// After a change: updates the page's gauges and wakes the mover if there is something to do.
    fn settle(&self, state: &mut StoreState) {
        self.page.gauges().set_results(state.managed, state.spilled);
        if !self.limited {
            return;
        }
        let open = state.policy.is_open(self.threads);
        self.open.store(open, Ordering::Relaxed);
        state.pausing &= !open;
        if state.owes() || state.policy.should_trim() {
            self.debts.notify_one();
        }
    }

    /// The mover's loop: moves results to disk while the policy asks for that. Calls `eased` after each step that may let
    /// a task start.
    pub(super) fn pay_debts(&self, eased: impl Fn()) {
        loop {
            let trim = {
                let mut state = self.state.lock();
                loop {
                    if state.failing.as_ref().is_some_and(|(_, since)| since.elapsed() >= RETRY) {
                        state.policy.try_again();
                    }
                    let due = |(at, took): (Instant, Duration)| at.elapsed() >= TRIM.max(took * TRIM_SHARE);
                    let trim = state.policy.should_trim() && state.trimmed.is_none_or(due);
                    if trim || state.owes() {
                        state.no_room_now &= trim;
                        break trim;
                    }
                    if state.failing.is_some() && (state.policy.debt() > 0 || state.no_room_now) {
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

    /// Gives free memory back to the machine, so that it is not counted as used.
    fn trim(&self) {
        let began = Instant::now();
        allocator::trim();
        self.state.lock().trimmed = Some((Instant::now(), began.elapsed()));
        // Unused segments are kept as long as their room is not needed.
        let used = self.sample();
        if !self.state.lock().policy.has_room(used.saturating_add(self.pool.free_bytes())) {
            self.pool.trim();
        }
    }

    /// Moves everything that can be moved out of memory, for a task that is to have all of it.
    pub(super) fn clear_out(&self) {
        while self.move_one() {}
        allocator::trim();
        self.pool.trim();
        self.sample();
    }

    /// Drops what is decoded of a shared input, or else moves the result that has not been used for longest. False if none
    /// can be moved.
    pub(super) fn move_one(&self) -> bool {
        let decoded = {
            let mut state = self.state.lock();
            let evicted = state.shared.evict();
            evicted.map(|(value, bytes)| {
                state.uncount(bytes);
                self.settle(&mut state);
                value
            })
        };
        if let Some(value) = decoded {
            drop(value);
            return true;
        }
        let Some(disk) = &self.disk else {
            self.state.lock().policy.stuck();
            return false;
        };
        let victim = {
            let mut state = self.state.lock();
            match state.next_victim() {
                Some(Ok(victim)) => victim,
                Some(Err((id, evicted))) => {
                    self.settle(&mut state);
                    drop(state);
                    let _shown = self.page.begin_result(id);
                    drop(evicted);
                    return true;
                }
                None => {
                    state.policy.stuck();
                    self.settle(&mut state);
                    return false;
                }
            }
        };
        // The value's own code runs: if it ends this process, it is to blame.
        let _shown = self.page.begin_result(victim.id);
        let (codec, began) = (victim.codec, Instant::now());
        let written = match codec.flat(&victim.value) {
            // As it lies in memory, of which there is little.
            Some(flat) => disk.write_plain(flat.parts()),
            None => disk.write(|| {
                let mut bytes = Vec::new();
                let encoded = guarded(|| Ok(codec.encode(&victim.value, &mut bytes, usize::MAX)));
                encoded.map_err(|fault| fault.to_string())?.map_err(|e| format!("{e:?}"))?;
                Ok(bytes)
            }),
        };
        let Victim { id, generation, value, .. } = victim;
        let mut state = self.state.lock();
        let mut moved = false;
        // Dropped and logged after the lock is released: both may take long.
        let (mut dropped, mut unwanted) = (None, None);
        let mut news = None;
        match written {
            Ok(on_disk) => {
                if state.failing.take().is_some() {
                    self.page.gauges().set_disk_fails(false);
                    news = Some((Level::Info, "results can be moved to disk again".to_string()));
                }
                let len = on_disk.len();
                self.page.gauges().count_moved(len);
                self.moves.add(id, false, len, began);
                let on_disk = Arc::new(on_disk);
                if let Some(entry) = state.entries.get_mut(&id).filter(|e| e.generation == generation) {
                    entry.disk = Some(Arc::clone(&on_disk));
                    entry.fixed = false;
                    // If it has come into use, it is dropped later, without being written again.
                    let unused = entry.value.as_ref().is_some_and(|v| v.handles() == 2);
                    state.spilled += len;
                    if unused {
                        dropped = state.evict(id);
                    }
                }
                unwanted = Some(on_disk);
                moved = true;
            }
            Err(e) => {
                let hopeless = matches!(e, DiskError::Encode(_));
                if let Some(entry) = state.entries.get_mut(&id).filter(|e| e.generation == generation) {
                    entry.fixed = hopeless;
                }
                if !hopeless && limits::restore() {
                    moved = true;
                } else if hopeless {
                    news = Some((Level::Warn, format!("the result of task {id} stays in memory: {e}")));
                    moved = true;
                } else {
                    let reason = e.to_string();
                    if state.failing.as_ref().is_none_or(|(known, _)| *known != reason) {
                        news = Some((Level::Error, format!("results cannot be moved to disk: {reason}")));
                    }
                    state.failing = Some((reason, Instant::now()));
                    state.policy.stuck();
                    self.page.gauges().set_disk_fails(true);
                }
            }
        }
        self.settle(&mut state);
        drop(state);
        drop(unwanted);
        drop(dropped);
        drop(value);
        if let Some((level, news)) = news {
            log::log!(level, "{news}");
        }
        moved
    }

    /// Shows on the page why the worker's tasks wait.
    pub(super) fn note_waits(&self, waits: Option<Wait>) {
        self.page.gauges().set_waits(match waits {
            None => Waits::No,
            Some(Wait::Spilling { .. }) => Waits::Spilling,
            Some(Wait::Paused { .. }) => Waits::Paused,
        });
    }
}

impl StoreState {
    /// Whether a result should be moved, and one can be.
    fn owes(&self) -> bool {
        (self.policy.debt() > 0 || self.no_room_now) && !self.policy.is_stuck()
    }

    /// Makes a result the one used last.
    fn touch(&mut self, id: TaskId) -> Option<(Option<Value>, &StoredResult)> {
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

    fn remove(&mut self, id: TaskId) -> Option<StoredResult> {
        let entry = self.entries.remove(&id)?;
        if entry.value.is_some() {
            self.order.remove(&entry.used);
            self.managed -= entry.bytes;
            self.policy.freed(entry.bytes);
        }
        self.spilled -= entry.disk.as_ref().map_or(0, |d| d.len());
        Some(entry)
    }

    /// So much of what is kept is no longer in memory.
    fn uncount(&mut self, bytes: u64) {
        if bytes > 0 {
            self.managed -= bytes;
            self.policy.freed(bytes);
        }
    }

    fn remove_shared(&mut self, id: TaskId) -> Option<Arc<SharedInput>> {
        let (input, counted) = self.shared.remove(id)?;
        self.uncount(counted);
        Some(input)
    }

    /// Takes the value in memory of a result that is on disk.
    fn evict(&mut self, id: TaskId) -> Option<Value> {
        let entry = self.entries.get_mut(&id)?;
        let value = entry.value.take()?;
        self.order.remove(&entry.used);
        self.managed -= entry.bytes;
        self.policy.freed(entry.bytes);
        Some(value)
    }

    /// The value that has been unused for longest: to be written, or, if it is on disk already, evicted. While the disk takes
    /// none, those that are there already go first.
    fn next_victim(&mut self) -> Option<Result<Victim, (TaskId, Value)>> {
        let unused = |entry: &StoredResult| {
            !entry.fixed && entry.bytes > 0 && entry.value.as_ref().is_some_and(|v| v.handles() == 1)
        };
        let oldest = |wanted: &dyn Fn(&StoredResult) -> bool| {
            self.order.values().copied().find(|id| self.entries.get(id).is_some_and(wanted))
        };
        let there = self.failing.as_ref().and_then(|_| oldest(&|entry| unused(entry) && entry.disk.is_some()));
        let id = there.or_else(|| oldest(&unused))?;
        let entry = self.entries.get_mut(&id)?;
        if entry.disk.is_some() {
            return self.evict(id).map(|value| Err((id, value)));
        }
        entry.fixed = true;
        Some(Ok(Victim { id, generation: entry.generation, value: entry.value.clone()?, codec: entry.made.codec }))
    }
}

#[cfg(test)]
mod tests;
