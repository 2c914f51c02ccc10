//! The threads that run tasks: what each runs now, and where its samples go.
//!
//! A thread has a slot, which is never freed but used again, so that a signal that comes late finds something that is there.
//! What is read in a signal handler is atomics alone; the lock in a slot is for threads.

use super::collect;
use super::sampler::{self, Clock, Sampling};
use crate::ipc::fork::Origin;
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering, fence};

/// Threads that can be known at a time; others are not sampled.
const MOST_THREADS: usize = 2048;
/// Words of a task's name; what is longer is cut.
const NAME_WORDS: usize = 16;

static SLOTS: [OnceLock<Box<Slot>>; MOST_THREADS] = [const { OnceLock::new() }; MOST_THREADS];
/// Slots from this number on have never been used.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Whose threads these are: a client's of a mode of this process, or a worker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner(pub(super) u64);

/// A task as it is told apart in samples: its function's `log_id`, and its name where it has one of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TaskKind {
    pub(super) function: u64,
    pub(super) name: Option<String>,
}

impl TaskKind {
    /// From the words of a cell or a sample.
    pub(super) fn of(function: u64, len: usize, words: impl IntoIterator<Item = u64>) -> Self {
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).take(len).collect();
        Self { function, name: (len > 0).then(|| String::from_utf8_lossy(&bytes).into_owned()) }
    }
}

/// What a thread runs. Only the thread writes it; a reader that finds the same even sequence before and after has words that
/// belong together.
#[derive(Default)]
pub(super) struct TaskCell {
    sequence: AtomicU64,
    /// 0: no task.
    function: AtomicU64,
    /// An address in the stack frame that calls the task.
    mark: AtomicUsize,
    len: AtomicUsize,
    name: [AtomicU64; NAME_WORDS],
}

impl TaskCell {
    /// Changes the cell. The thread's own signal handler, and other threads, see that it changes.
    #[inline]
    fn change(&self, change: impl FnOnce()) {
        let before = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(before | 1, Ordering::Relaxed);
        // Whoever sees one of the words below sees the odd sequence, too.
        fence(Ordering::Release);
        change();
        self.sequence.store((before | 1) + 1, Ordering::Release);
    }

    #[inline]
    fn begin(&self, function: u64, name: Option<&str>, mark: usize) {
        self.change(|| {
            self.function.store(function, Ordering::Relaxed);
            self.mark.store(mark, Ordering::Relaxed);
            match name {
                None => self.len.store(0, Ordering::Relaxed),
                Some(name) => self.set_name(name),
            }
        });
    }

    /// No task runs any more. A reader that has seen the function before that is just as right.
    #[inline]
    fn end(&self) {
        self.function.store(0, Ordering::Release);
    }

    fn set_name(&self, name: &str) {
        let name = &name.as_bytes()[..name.floor_char_boundary(8 * NAME_WORDS)];
        for (word, bytes) in self.name.iter().zip(name.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        self.len.store(name.len(), Ordering::Relaxed);
    }

    /// Whether a task runs. For the thread itself.
    fn is_taken(&self) -> bool {
        self.function.load(Ordering::Relaxed) != 0
    }

    /// What runs, by number of its run: `words` gets the name, of which the answer has the length in bytes. None: no task,
    /// or the cell is just being changed. It may be called in a signal handler.
    pub(super) fn read(&self, words: &mut [u64; NAME_WORDS]) -> Option<ReadTask> {
        let sequence = self.sequence.load(Ordering::Acquire);
        let function = self.function.load(Ordering::Relaxed);
        let mark = self.mark.load(Ordering::Relaxed);
        let len = self.len.load(Ordering::Relaxed).min(8 * NAME_WORDS);
        for (to, from) in words.iter_mut().zip(&self.name).take(len.div_ceil(8)) {
            *to = from.load(Ordering::Relaxed);
        }
        // The words above are read before the sequence is read again.
        fence(Ordering::Acquire);
        let whole = sequence & 1 == 0 && self.sequence.load(Ordering::Relaxed) == sequence;
        (whole && function != 0).then_some(ReadTask { sequence, function, mark, len })
    }

    /// What runs, with the number of its run.
    pub(super) fn kind(&self) -> Option<(u64, TaskKind)> {
        let mut words = [0; NAME_WORDS];
        let task = self.read(&mut words)?;
        Some((task.sequence, TaskKind::of(task.function, task.len, words)))
    }
}

/// What a cell says.
pub(super) struct ReadTask {
    sequence: u64,
    pub(super) function: u64,
    pub(super) mark: usize,
    pub(super) len: usize,
}

impl ReadTask {
    /// Room for a name.
    pub(super) const NAME: [u64; NAME_WORDS] = [0; NAME_WORDS];
}

/// A thread that runs tasks, or the place of one.
#[derive(Default)]
pub(super) struct Slot {
    claimed: AtomicBool,
    /// The thread's number; 0 where there is none.
    tid: AtomicI32,
    low: AtomicUsize,
    high: AtomicUsize,
    owner: AtomicU64,
    pub(super) task: TaskCell,
    pub(super) samples: sampler::Samples,
    pub(super) control: Mutex<Control>,
}

/// What other threads do with a thread's slot.
#[derive(Default)]
pub(super) struct Control {
    /// Its thread, which does not end while this is locked.
    pub(super) thread: Option<Clock>,
    pub(super) sampling: Option<Sampling>,
    /// The last look at the thread's clock.
    pub(super) looked: Option<Look>,
}

/// What a thread's clock said at some moment.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) at: u64,
    pub(super) cpu: u64,
    /// The run that was under way.
    pub(super) run: Option<u64>,
    /// What it was found to wait in.
    pub(super) call: i64,
}

impl Slot {
    pub(super) fn tid(&self) -> i32 {
        self.tid.load(Ordering::Acquire)
    }

    pub(super) fn owner(&self) -> Owner {
        Owner(self.owner.load(Ordering::Relaxed))
    }

    /// Where the thread's stack lies; empty where that is not known.
    pub(super) fn stack(&self) -> Range<usize> {
        self.low.load(Ordering::Relaxed)..self.high.load(Ordering::Relaxed)
    }

    /// The slot is the calling thread's from now on.
    fn take(&self) {
        let stack = sampler::stack_of_thread().unwrap_or(0..0);
        self.low.store(stack.start, Ordering::Relaxed);
        self.high.store(stack.end, Ordering::Relaxed);
        let mut control = self.control.lock();
        control.thread = Clock::of_thread();
        control.looked = None;
        self.tid.store(nix::unistd::gettid().as_raw(), Ordering::Release);
    }

    fn leave(&'static self) {
        collect::detach_ended(self);
        self.tid.store(0, Ordering::Release);
        self.claimed.store(false, Ordering::Release);
    }
}

/// The slot of this number. It may be called in a signal handler: it reads what was made before.
pub(super) fn slot(number: usize) -> Option<&'static Slot> {
    SLOTS.get(number)?.get().map(|slot| &**slot)
}

/// All slots, with their numbers.
pub(super) fn slots() -> impl Iterator<Item = (usize, &'static Slot)> {
    (0..USED.load(Ordering::Acquire).min(MOST_THREADS)).filter_map(|number| Some((number, slot(number)?)))
}

fn claim() -> Option<(usize, &'static Slot)> {
    for (number, slot) in SLOTS.iter().enumerate() {
        let slot: &'static Slot = slot.get_or_init(Box::default);
        let free = slot.claimed.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if free {
            USED.fetch_max(number + 1, Ordering::AcqRel);
            return Some((number, slot));
        }
    }
    None
}

thread_local! {
    /// The slot of this thread.
    static HERE: Cell<Option<(usize, &'static Slot)>> = const { Cell::new(None) };
    /// The slot of a thread that is not ours, as long as it lives.
    static OWN: RefCell<Option<Registered>> = const { RefCell::new(None) };
}

/// A thread that has a slot, until this is dropped there.
#[must_use]
pub(crate) struct Registered {
    slot: Option<(usize, &'static Slot)>,
    process: Origin,
}

impl Registered {
    /// The calling thread has one from now on.
    fn here(owner: Owner) -> Self {
        let slot = claim();
        if let Some((number, slot)) = slot {
            slot.owner.store(owner.0, Ordering::Relaxed);
            slot.take();
            HERE.set(Some((number, slot)));
            collect::attach_new(number, slot);
        }
        Self { slot, process: Origin::here() }
    }
}

#[cfg(test)]
impl Registered {
    pub(super) fn slot(&self) -> Option<&'static Slot> {
        self.slot.map(|(_, slot)| slot)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let slot = self.slot.take();
        let _ = HERE.try_with(|here| here.set(None));
        // The lock of a slot may have been had by a thread that is not there in a fork: then the slot is lost.
        if let Some((_, slot)) = slot.filter(|_| !self.process.is_elsewhere()) {
            slot.leave();
        }
    }
}

/// The calling thread runs tasks of this owner until the answer is dropped.
pub(super) fn register(owner: Owner) -> Registered {
    Registered::here(owner)
}

/// The calling thread, which is the program's, runs tasks of this owner until the answer is dropped. Inside a task of another
/// owner it stays that one's.
pub(super) fn borrow(owner: Owner) -> Borrowed {
    let is_known = HERE.get().is_some_and(|_| !is_of_parent());
    if !is_known {
        // A thread that is about to end has no place for it any more, and is not sampled.
        let _ = OWN.try_with(|own| {
            drop(own.take());
            own.replace(Some(Registered::here(owner)));
        });
    }
    let Some((number, slot)) = HERE.get() else { return Borrowed { slot: None, before: owner } };
    let before = slot.owner();
    if slot.task.is_taken() || before == owner {
        return Borrowed { slot: None, before };
    }
    slot.owner.store(owner.0, Ordering::Relaxed);
    collect::attach_new(number, slot);
    Borrowed { slot: Some(slot), before }
}

/// Whether the slot of the calling thread is that of the thread which has forked this process.
fn is_of_parent() -> bool {
    OWN.try_with(|own| own.borrow().as_ref().is_some_and(|own| own.process.is_elsewhere())).unwrap_or(false)
}

/// A thread that runs tasks of an owner for a while.
#[must_use]
pub(crate) struct Borrowed {
    slot: Option<&'static Slot>,
    before: Owner,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            slot.owner.store(self.before.0, Ordering::Relaxed);
        }
    }
}

/// A task runs on this thread until this is dropped.
#[must_use]
pub(crate) struct RunningTask {
    slot: Option<&'static Slot>,
    outer: Option<Box<(TaskKind, usize)>>,
}

/// The calling thread begins a task of this function, a `log_id`, and of this name, where it has one of its own. `mark`: an
/// address in the stack frame of the caller, above which nothing is the task's.
#[inline]
pub(crate) fn begin(function: u64, name: Option<&str>, mark: usize) -> RunningTask {
    let Some((_, slot)) = HERE.get() else { return RunningTask { slot: None, outer: None } };
    let outer = if slot.task.is_taken() { outer(&slot.task) } else { None };
    slot.task.begin(function, name, mark);
    RunningTask { slot: Some(slot), outer }
}

/// The task that waits for the one that begins.
#[cold]
fn outer(task: &TaskCell) -> Option<Box<(TaskKind, usize)>> {
    let (_, kind) = task.kind()?;
    Some(Box::new((kind, task.mark.load(Ordering::Relaxed))))
}

impl RunningTask {
    /// Another call of the task begins.
    #[inline]
    pub(crate) fn next(&self, function: u64, name: Option<&str>) {
        if let Some(slot) = self.slot {
            slot.task.begin(function, name, slot.task.mark.load(Ordering::Relaxed));
        }
    }
}

impl Drop for RunningTask {
    #[inline]
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        match self.outer.take() {
            None => slot.task.end(),
            Some(outer) => slot.task.begin(outer.0.function, outer.0.name.as_deref(), outer.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_shows_what_it_runs() {
        let registered = register(Owner(u64::MAX));
        let slot = registered.slot.map(|(_, slot)| slot).expect("there is room");
        let shown = || slot.task.kind().map(|(_, kind)| kind);
        let kind = |function, name: Option<&str>| Some(TaskKind { function, name: name.map(str::to_string) });
        assert_eq!(shown(), None);
        let outer = begin(7, Some("näme"), 1);
        assert_eq!(shown(), kind(7, Some("näme")));
        {
            let long = "é".repeat(100);
            let inner = begin(8, Some(&long), 2);
            assert_eq!(shown(), kind(8, Some(&long[..8 * NAME_WORDS])));
            inner.next(9, None);
            assert_eq!(shown(), kind(9, None));
        }
        assert_eq!(shown(), kind(7, Some("näme")));
        drop(outer);
        assert_eq!(shown(), None);
        drop(registered);
        assert_eq!((slot.tid(), HERE.get().is_none()), (0, true));
        drop(begin(1, None, 0));
    }

    #[test]
    fn slots_are_used_again() {
        let first = std::thread::spawn(|| register(Owner(u64::MAX)).slot.map(|(number, _)| number)).join();
        let first = first.ok().flatten().expect("there is room");
        for _ in 0..3 * MOST_THREADS {
            drop(register(Owner(u64::MAX)));
        }
        assert!(first < MOST_THREADS && USED.load(Ordering::Relaxed) < MOST_THREADS);
    }
}
