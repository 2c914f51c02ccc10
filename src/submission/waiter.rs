//! Waiting for word of other threads: who waits, and how.
//!
//! A thread that sleeps is woken by the kernel, which takes some microseconds, more where its core sleeps too: as long
//! as a small task takes altogether. So a caller spins for a moment before it parks, and a worker before it sleeps until the
//! next message. As spinning takes a core from whoever makes the answer, one thread of the process spins at a time; none
//! does where there is one core only, and no task does, since its thread's core is needed for what it waits for. After
//! spinning in vain, or where others want the core, the next waits park at once.

use super::completed::CompletionQueue;
use crate::error::name::TaskName;
use crate::error::{Cause, Error, TaskError};
use crate::task::call::tolerated;
use crate::task::wait::{NotWanted, Wait, WaitKind, in_vain_from, is_in_vain};
use crate::task::{Owned, context};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long a caller spins before it parks: the round trip of a short task through another process, on a busy machine.
const SPIN: Duration = Duration::from_micros(60);
/// How often it checks before it does something itself that may bring the answer: every microsecond or so.
const SPINS: u32 = 64;
/// How often it does so before it offers its core to others.
const TRIES: u32 = 4;
/// Where others use the core for so long when it is offered, the machine has more to do than cores. Who sleeps gets a core
/// as soon as its answer comes, then; who has spun has to wait for its turn.
const CROWDED: Duration = Duration::from_micros(20);
/// At least one in 2^this waits begins by spinning.
const SELDOM: u32 = 6;

/// Who wants to know when something is done.
pub(crate) enum Waiter {
    Thread(Arc<ParkedThread>),
    Waker(Owned<Waker>),
    Call(Call),
    /// A place in a queue, which is told to whoever reads that.
    Place(Weak<CompletionQueue>, usize),
}

impl Waiter {
    /// The thread that calls, which goes on to [`wait_until`] it is told.
    pub(crate) fn here() -> Self {
        Self::Thread(ParkedThread::here())
    }

    /// Somebody in async code. Cloning the waker runs the code of whoever made it.
    pub(crate) fn waker(waker: &Waker) -> Self {
        Self::Waker(Owned::new(waker.clone()))
    }

    pub(crate) fn fire(self) {
        match self {
            Self::Thread(thread) => thread.call(),
            // Users' code, in a thread that others depend on.
            Self::Waker(w) => tolerated("a waker panicked", || w.into_inner().wake()),
            Self::Call(f) => call(f),
            Self::Place(queue, place) => {
                if let Some(queue) = queue.upgrade() {
                    queue.arrive([place]);
                }
            }
        }
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Place(queue, _) if queue.strong_count() == 0)
    }

    /// Whether it would tell the same one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Thread(a), Self::Thread(b)) => Arc::ptr_eq(a, b),
            (Self::Waker(a), Self::Waker(b)) => a.will_wake(b),
            _ => false,
        }
    }

    pub(crate) fn will_wake(&self, waker: &Waker) -> bool {
        matches!(self, Self::Waker(w) if w.will_wake(waker))
    }
}

type Call = Box<dyn FnOnce() + Send>;

thread_local! {
    /// Calls that wait until this thread has made another one; `None` where it makes none.
    static CALLS: RefCell<Option<VecDeque<Call>>> = const { RefCell::new(None) };
}

/// The right of a thread's outermost call to make all others.
struct Calling;

impl Drop for Calling {
    fn drop(&mut self) {
        // There are some left only where one has panicked.
        let left = CALLS.try_with(RefCell::take);
        drop(left);
    }
}

/// Makes a call. Results may be handed on from one submission to the next, for as long a chain as users make: a call that is
/// fired inside another one is made after it.
fn call(f: Call) {
    let mut first = Some(f);
    // Where a thread ends and has no such list any more, calls go inside each other.
    let _ = CALLS.try_with(|calls| match &mut *calls.borrow_mut() {
        Some(calls) => calls.extend(first.take()),
        none => *none = Some(VecDeque::new()),
    });
    let Some(mut next) = first else { return };
    let _calling = Calling;
    loop {
        next();
        match CALLS.try_with(|calls| calls.borrow_mut().as_mut()?.pop_front()) {
            Ok(Some(waiting)) => next = waiting,
            Ok(None) | Err(_) => return,
        }
    }
}

/// A thread that waits.
pub(crate) struct ParkedThread {
    thread: Thread,
    /// It has been called, and has not seen to it.
    called: AtomicBool,
}

impl ParkedThread {
    fn here() -> Arc<Self> {
        thread_local! {
            static HERE: Arc<ParkedThread> = Arc::new(ParkedThread::new());
        }
        // At the end of a thread there is none any more. A new one is as good: any call ends the sleep.
        HERE.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(Self::new()))
    }

    fn new() -> Self {
        Self { thread: std::thread::current(), called: AtomicBool::new(false) }
    }

    fn call(&self) {
        self.called.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Looks for a call for a moment, if that may be worth it. A task does not: its thread's core is needed for what it
    /// waits for.
    fn spin(&self, help: impl Fn()) -> bool {
        !context::is_task() && spin_until(|| self.called.load(Ordering::Acquire), help)
    }
}

/// Looks for a moment whether it is `done`, if that may be worth it. `help` is what this thread can do meanwhile to come
/// closer to it.
pub(crate) fn spin_until(done: impl Fn() -> bool, help: impl Fn()) -> bool {
    let Some(turn) = SpinTurn::take() else { return false };
    let began = Instant::now();
    loop {
        for _ in 0..TRIES {
            for _ in 0..SPINS {
                if done() {
                    turn.end(true);
                    return true;
                }
                std::hint::spin_loop();
            }
            help();
        }
        if began.elapsed() >= SPIN {
            let done = done();
            turn.end(done);
            return done;
        }
        // Whoever is to answer may have been put on this core.
        let offered = Instant::now();
        std::thread::yield_now();
        if offered.elapsed() >= CROWDED {
            turn.crowded();
            return done();
        }
    }
}

impl Wake for ParkedThread {
    fn wake(self: Arc<Self>) {
        self.call();
    }
}

/// The right to spin, which one thread has at a time.
struct SpinTurn(());

static TAKEN: AtomicBool = AtomicBool::new(false);
/// Waits that are to park at once.
static SKIP: AtomicU32 = AtomicU32::new(0);
/// Times of spinning in vain since the last one that was not, up to [`SELDOM`].
static VAIN: AtomicU32 = AtomicU32::new(0);

impl SpinTurn {
    fn take() -> Option<Self> {
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores = *CORES.get_or_init(crate::machine::cores);
        if cores < 2 {
            return None;
        }
        // Only how often threads spin depends on these numbers, so their order with other memory does not matter.
        if SKIP.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            return None;
        }
        (!TAKEN.swap(true, Ordering::Relaxed)).then(|| Self(()))
    }

    fn end(self, paid: bool) {
        let vain = if paid { 0 } else { (VAIN.load(Ordering::Relaxed) + 1).min(SELDOM) };
        Self::skip(vain);
    }

    /// Others need the core: the next waits do not spin.
    fn crowded(self) {
        Self::skip(SELDOM);
    }

    fn skip(vain: u32) {
        VAIN.store(vain, Ordering::Relaxed);
        SKIP.store((1 << vain) - 1, Ordering::Relaxed);
    }
}

impl Drop for SpinTurn {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Relaxed);
    }
}

thread_local! {
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Runs what tells a client of its results. Users' code runs in it, wakers and drops of values. Others wait for this thread
/// to go on, so that nothing waits in it.
pub(crate) fn telling<R>(tell: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            TELLING.set(self.0);
        }
    }
    let _before = Before(TELLING.replace(true));
    tell()
}

/// Whether this thread is telling a client of its results.
pub(crate) fn is_telling() -> bool {
    TELLING.get()
}

/// The error of a wait that gave nothing: its time was over, its task is not wanted any more, or it would have waited for itself.
pub(crate) fn waited_in_vain(waited: Option<Duration>) -> Error {
    match is_telling() {
        true => Error::Unsupported { operation: "waiting in a waker or in the drop of a value", mode: "processes" },
        false if is_in_vain() => NotWanted.into(),
        false => Error::Timeout { waited: waited.unwrap_or_default() },
    }
}

/// What a task is told that waits and is not wanted any more.
impl From<NotWanted> for Error {
    fn from(_: NotWanted) -> Self {
        let (name, worker) = match context::current_task() {
            Some(task) => (TaskName::unknown(&task.name, task.key), Some(Arc::from(task.worker))),
            None => (TaskName::unknown("task", "task".to_string()), None),
        };
        TaskError::new(name, worker, Cause::Cancelled).into()
    }
}

/// Waits until `done` says so. Before it says no, it has seen to it that [`Waiter::here`] is fired when it may say yes.
/// `false`: the time was over before, the task that waits is not wanted any more, or this thread must not wait ([`telling`]).
///
/// A task that waits gives its place in the pool to another one meanwhile.
pub(crate) fn wait_until(deadline: Option<Instant>, done: impl FnMut() -> bool) -> bool {
    wait_polling(WaitKind::until(deadline), deadline, || (), done)
}

/// The same. `help` is what this thread can do to come closer to it.
pub(crate) fn wait_polling(
    kind: WaitKind,
    deadline: Option<Instant>,
    help: impl Fn(),
    mut done: impl FnMut() -> bool,
) -> bool {
    if done() {
        return true;
    }
    if is_telling() {
        return false;
    }
    let here = ParkedThread::here();
    if here.spin(help) {
        here.called.store(false, Ordering::Relaxed);
        if done() {
            return true;
        }
    }
    let _wait = Wait::begin(kind, || Waker::from(Arc::clone(&here)));
    let until = deadline.into_iter().chain(in_vain_from()).min();
    loop {
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            _ if is_in_vain() => return done(),
            None => std::thread::park(),
            Some(Duration::ZERO) => return done(),
            Some(left) => std::thread::park_timeout(left),
        }
        here.called.store(false, Ordering::Relaxed);
        if done() {
            return true;
        }
    }
}

/// The same for a task, which keeps its place meanwhile: it can `pass` the time, which ends early if something has come.
pub(crate) fn wait_in_place(until: Instant, pass: impl Fn(Duration), mut done: impl FnMut() -> bool) -> bool {
    loop {
        if done() {
            return true;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || is_telling() {
            return false;
        }
        pass(left);
    }
}

/// Drives a future in this thread. `None`: it has waited in vain, as in [`wait_until`].
pub(crate) fn drive<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    let waker = Waker::from(ParkedThread::here());
    let mut context = Context::from_waker(&waker);
    // Inside a task of tokio's, its budget would have the future wait until that task lets others run.
    let mut future = pin!(tokio::task::unconstrained(future));
    let mut found = None;
    wait_until(deadline, || {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            found = Some(output);
        }
        found.is_some()
    });
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use parking_lot::Mutex;
    use std::sync::mpsc::channel;

    /// Something that is answered once, and who wants to know.
    #[derive(Default)]
    struct Question(Mutex<(Option<u32>, Vec<Waiter>)>);

    impl Question {
        fn answer(&self, with: u32) {
            let waiters = {
                let mut state = self.0.lock();
                state.0 = Some(with);
                std::mem::take(&mut state.1)
            };
            waiters.into_iter().for_each(Waiter::fire);
        }

        fn wait(&self, deadline: Option<Instant>) -> Option<u32> {
            let mut found = None;
            wait_until(deadline, || {
                let mut state = self.0.lock();
                found = state.0;
                if found.is_none() {
                    state.1.push(Waiter::here());
                }
                found.is_some()
            });
            found
        }
    }

    #[test]
    fn each_of_many_answers_is_heard() {
        let (ask, asked) = channel::<Arc<Question>>();
        let other = std::thread::spawn(move || asked.iter().zip(0..).for_each(|(question, i)| question.answer(i)));
        for i in 0..20_000 {
            let question = Arc::<Question>::default();
            ask.send(Arc::clone(&question)).unwrap();
            assert_eq!(question.wait(None), Some(i));
        }
        drop(ask);
        other.join().unwrap();
    }

    #[test]
    fn a_call_that_comes_too_late_does_not_end_the_next_wait() {
        let past = Instant::now();
        let (late, next) = (Question::default(), Question::default());
        assert_eq!(late.wait(Some(past)), None);
        late.answer(1);
        assert_eq!(next.wait(Some(past + Duration::from_millis(1))), None);
        next.answer(2);
        assert_eq!((late.wait(None), next.wait(None)), (Some(1), Some(2)));
    }
}
