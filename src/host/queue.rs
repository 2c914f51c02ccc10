//! A bounded queue that a thread of its own serves.

use super::{STUCK, has_supervisor};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long whoever fills a queue should wait when it is nearly full.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What such a queue holds.
pub(super) trait Item: Sized + Send + 'static {
    /// What is known of items that were dropped.
    type Dropped: Default + Send;

    /// How much of the room it takes.
    fn size(&self) -> usize;

    /// Adds what comes next to this one. It is given back where that makes no sense.
    fn append(&mut self, next: Self) -> Option<Self>;

    /// Counts this one as dropped.
    fn drop_into(self, dropped: &mut Self::Dropped);

    /// What is told in the place of those that were dropped.
    fn instead(dropped: Self::Dropped) -> Self;
}

pub(super) struct Queue<T: Item> {
    /// The name of its thread.
    name: &'static str,
    /// The sizes of all items that wait come to no more.
    room: usize,
    serve: fn(T),
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T: Item> {
    items: VecDeque<T>,
    size: usize,
    /// Those that would stand behind the last item.
    dropped: Option<T::Dropped>,
    /// There is a thread.
    runs: bool,
    /// It serves an item.
    serves: bool,
    /// How many have been served.
    served: u64,
    /// When that was last.
    moved: Option<Instant>,
}

/// How much there is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) items: usize,
    served: u64,
}

thread_local! {
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread serves a queue.
pub(super) fn is_own_thread() -> bool {
    IS_OWN.get()
}

impl<T: Item> Queue<T> {
    pub(super) const fn new(name: &'static str, room: usize, serve: fn(T)) -> Self {
        Self { name, room, serve, state: Mutex::new(State::EMPTY), changed: Condvar::new() }
    }

    /// Lets nobody else use it until what this gives is dropped.
    pub(super) fn hold(&self) -> Held<'_, T> {
        Held(self.state.lock())
    }

    /// Puts an item behind the others, or drops it if there is no room. Waits for nothing. The answer is how long whoever
    /// makes such items should make no more, so that none need be dropped: nothing, but where more than half of the room is
    /// taken, and gets free.
    pub(super) fn push(&'static self, item: T) -> Duration {
        let mut state = self.state.lock();
        // Once full, it takes nothing more until it is half empty: one gap is easier to read than many.
        let room = if state.dropped.is_some() { self.room / 2 } else { self.room };
        if state.size + item.size() > room {
            item.drop_into(state.dropped.get_or_insert_default());
        } else {
            if let Some(dropped) = state.dropped.take() {
                state.put(T::instead(dropped));
            }
            state.put(item);
        }
        let pause = state.pause(self.room);
        self.start(state);
        pause
    }

    /// Has the thread look whether it should end.
    pub(super) fn wake(&self) {
        // Behind whoever is about to wait, so that it is not missed.
        drop(self.state.lock());
        self.changed.notify_one();
    }

    pub(super) fn left(&self) -> Left {
        let state = self.state.lock();
        let items = state.items.len() + usize::from(state.serves) + usize::from(state.dropped.is_some());
        Left { items, served: state.served }
    }

    fn start(&'static self, mut state: MutexGuard<'_, State<T>>) {
        if state.runs {
            drop(state);
            self.changed.notify_one();
            return;
        }
        // Where there is no thread to be had, the next item asks again.
        let spawned = std::thread::Builder::new().name(self.name.to_string()).spawn(|| self.run());
        state.runs = spawned.is_ok();
    }

    fn run(&self) {
        IS_OWN.set(true);
        let mut state = self.state.lock();
        loop {
            let Some(item) = state.take() else {
                if !has_supervisor() {
                    state.runs = false;
                    return;
                }
                self.changed.wait(&mut state);
                continue;
            };
            state.serves = true;
            MutexGuard::unlocked(&mut state, || {
                // A logger that panics loses what it was to log.
                let _ = catch_unwind(AssertUnwindSafe(|| (self.serve)(item)));
            });
            state.serves = false;
            state.served += 1;
            state.moved = Some(Instant::now());
        }
    }
}

/// A queue while its process forks.
pub(super) struct Held<'a, T: Item>(MutexGuard<'a, State<T>>);

impl<T: Item> Held<'_, T> {
    /// In the fork: it has no thread, and what waits is its parent's.
    pub(super) fn begin_anew(&mut self) {
        *self.0 = State::EMPTY;
    }
}

impl<T: Item> State<T> {
    const EMPTY: Self =
        Self { items: VecDeque::new(), size: 0, dropped: None, runs: false, serves: false, served: 0, moved: None };

    fn put(&mut self, item: T) {
        self.size += item.size();
        let left = match self.items.back_mut() {
            Some(last) => last.append(item),
            None => Some(item),
        };
        self.items.extend(left);
    }

    fn pause(&self, room: usize) -> Duration {
        let over = self.size.saturating_sub(room / 2);
        let moves = || self.moved.is_some_and(|at| at.elapsed() < STUCK);
        match over > 0 && moves() {
            true => LONGEST_PAUSE.mul_f64((over as f64 / (room / 2) as f64).min(1.0)),
            false => Duration::ZERO,
        }
    }

    fn take(&mut self) -> Option<T> {
        match self.items.pop_front() {
            Some(item) => {
                self.size -= item.size();
                Some(item)
            }
            None => self.dropped.take().map(T::instead),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A word, and the number of those that were dropped.
    struct Word(String);

    impl Item for Word {
        type Dropped = usize;

        fn size(&self) -> usize {
            self.0.len()
        }

        fn append(&mut self, next: Self) -> Option<Self> {
            Some(next)
        }

        fn drop_into(self, dropped: &mut usize) {
            *dropped += 1;
        }

        fn instead(dropped: usize) -> Self {
            Self(format!("-{dropped}"))
        }
    }

    fn word(text: &str) -> Word {
        Word(text.to_string())
    }

    #[test]
    fn what_does_not_fit_is_counted_where_it_would_stand() {
        static SERVED: Mutex<Vec<String>> = Mutex::new(Vec::new());
        static GATE: Mutex<()> = Mutex::new(());
        static QUEUE: Queue<Word> = Queue::new("swath-test", 4, |word| {
            drop(GATE.lock());
            SERVED.lock().push(word.0);
        });
        let _hosted = crate::host::Hosted::begin();
        let gate = GATE.lock();
        QUEUE.push(word("a"));
        until(|| QUEUE.state.lock().serves);
        for text in ["bc", "de", "f", "g"] {
            QUEUE.push(word(text));
        }
        assert_eq!(QUEUE.left().items, 4);
        assert_eq!(QUEUE.push(word("h")), Duration::ZERO, "it is stuck");
        drop(gate);
        until(|| QUEUE.left().items == 0);
        QUEUE.push(word("i"));
        until(|| QUEUE.left().items == 0);
        assert_eq!(*SERVED.lock(), ["a", "bc", "de", "-3", "i"]);
    }

    #[test]
    fn whoever_fills_it_faster_than_it_empties_is_told_to_pause() {
        static GATE: Mutex<()> = Mutex::new(());
        static QUEUE: Queue<Word> = Queue::new("swath-test", 8, |_| drop(GATE.lock()));
        let _hosted = crate::host::Hosted::begin();
        QUEUE.push(word("a"));
        until(|| QUEUE.left().items == 0);
        let gate = GATE.lock();
        QUEUE.push(word("b"));
        until(|| QUEUE.state.lock().serves);
        assert_eq!(QUEUE.push(word("four")), Duration::ZERO);
        assert_eq!(QUEUE.push(word("c")), LONGEST_PAUSE / 4);
        assert_eq!(QUEUE.push(word("all")), LONGEST_PAUSE);
        drop(gate);
        until(|| QUEUE.left().items == 0);
    }

    #[test]
    fn its_thread_outlives_a_panic_and_ends_with_the_last_supervisor() {
        static QUEUE: Queue<Word> = Queue::new("swath-test", 8, |word| {
            if word.0 == "bad" {
                // Without the message of a panic.
                std::panic::resume_unwind(Box::new(()));
            }
        });
        QUEUE.push(word("bad"));
        QUEUE.push(word("good"));
        until(|| QUEUE.left().items == 0);
        assert_eq!(QUEUE.left().served, 2);
        // Other tests may have supervisors.
        until(|| {
            QUEUE.wake();
            !QUEUE.state.lock().runs || has_supervisor()
        });
    }

    fn until(mut done: impl FnMut() -> bool) {
        let began = std::time::Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
