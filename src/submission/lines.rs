//! How long a task keeps its place while it waits for a lock, an item, an event.
//!
//! A task that waits gives its place to another one in the end, since that may be the one that it waits for. That costs a
//! thread. So it keeps its place for a moment, in which most waits are over, and for longer
//!
//! - where others have given theirs away for the same thing, up to a bound: so many tasks cost so much time altogether, and
//!   no more;
//! - where the thing moves, that is, serves one after the other: then there is nothing to start for it.
//!
//! Threads are not without number, so at some point no more places are given away: for what somebody holds, tasks wait in
//! their places then, as long as one after the other is served; otherwise they are refused, since whoever is to serve them may
//! wait for their places.

use crate::coordinator::{Kind, Target};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

/// Long enough for an answer.
pub(super) const MOMENT: Duration = Duration::from_micros(500);
/// What moves has its waiters keep their places for no longer than this since it did.
const MOVES: Duration = Duration::from_secs(30);
/// How many tasks may have given their places away.
const MOST: usize = 4096;

/// How much longer a task waits for each one that has given its place away, and at most.
fn growth(kind: Kind) -> (Duration, Duration) {
    match kind {
        // One after the other is served: another one that comes only waits, too.
        Kind::Lock | Kind::Semaphore | Kind::Queue => (Duration::from_micros(20), Duration::from_millis(20)),
        // All are served at once.
        Kind::Event | Kind::Variable => (Duration::from_micros(5), Duration::from_millis(1)),
    }
}

/// What tasks of a client wait for in this process, for more than a moment.
#[derive(Default)]
pub(super) struct Lines(Mutex<State>);

#[derive(Default)]
struct State {
    lines: FxHashMap<(Kind, String), Line>,
    /// Those who have given their places away, in all lines.
    aside: usize,
}

/// Those who wait for one thing.
struct Line {
    waiting: usize,
    /// Those of them that have given their places away.
    aside: u32,
    /// When the last one was served; before that, when the first one came.
    moved: Instant,
    /// How long it takes from one to the next. None before the first one.
    every: Option<Duration>,
}

/// One that waits.
pub(super) struct Waits<'a> {
    lines: &'a Lines,
    target: (Kind, String),
    came: Instant,
    is_aside: bool,
    /// Whether it has been served.
    pub(super) served: bool,
}

impl Lines {
    pub(super) fn join(&self, target: &Target, came: Instant) -> Waits<'_> {
        let target = (target.kind, target.name.clone());
        let mut state = self.0.lock();
        let line = state.lines.entry(target.clone()).or_insert_with(|| Line::new(came));
        line.waiting += 1;
        Waits { lines: self, target, came, is_aside: false, served: false }
    }
}

impl Line {
    fn new(now: Instant) -> Self {
        Self { waiting: 0, aside: 0, moved: now, every: None }
    }

    fn moves(&mut self, now: Instant) {
        let took = now.saturating_duration_since(self.moved);
        // What is as slow now and then is slow.
        self.every = Some(self.every.map_or(took, |every| took.max(every - every / 8)));
        self.moved = now;
    }

    /// Until when one that has come then keeps its place, as far as is known.
    fn keeps_until(&self, kind: Kind, came: Instant) -> Instant {
        let (more, most) = growth(kind);
        let pause = came + MOMENT + (more * self.aside).min(most);
        match self.every {
            Some(every) => pause.max(self.moved + (2 * every).min(MOVES)),
            None => pause,
        }
    }
}

impl Waits<'_> {
    /// Until when it keeps its place, as far as is known now.
    pub(super) fn keeps_until(&self) -> Instant {
        let (state, kind) = (self.lines.0.lock(), self.target.0);
        let line = state.lines.get(&self.target);
        if state.aside >= MOST && kind.has_holders() {
            return line.map_or(self.came, |line| line.moved + MOVES);
        }
        line.map_or(self.came, |line| line.keeps_until(kind, self.came))
    }

    /// It gives its place away. If it must not, since so many have already: how many that are.
    pub(super) fn step_aside(&mut self) -> Option<usize> {
        let mut state = self.lines.0.lock();
        if state.aside >= MOST {
            return Some(MOST);
        }
        state.aside += 1;
        if let Some(line) = state.lines.get_mut(&self.target) {
            line.aside += 1;
        }
        self.is_aside = true;
        None
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut state = self.lines.0.lock();
        state.aside -= usize::from(self.is_aside);
        let Some(line) = state.lines.get_mut(&self.target) else { return };
        line.waiting -= 1;
        line.aside -= u32::from(self.is_aside);
        if self.served {
            line.moves(Instant::now());
        }
        if line.waiting == 0 {
            state.lines.remove(&self.target);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn target(kind: Kind) -> Target {
        Target { kind, name: "x".to_string(), limit: 1, type_name: String::new(), shared: false }
    }

    /// How long it takes one thread until so many tasks have given their places away for something that nobody serves.
    fn cost(kind: Kind, tasks: usize) -> Duration {
        let (lines, began) = (Lines::default(), Instant::now());
        let mut now = began;
        let mut waiting = Vec::new();
        for _ in 0..tasks {
            let mut one = lines.join(&target(kind), now);
            now = one.keeps_until();
            assert_eq!(one.step_aside(), None);
            waiting.push(one);
        }
        now - began
    }

    #[test]
    fn twice_as_many_that_wait_cost_twice_as_much() {
        assert!(cost(Kind::Event, 200) < Duration::from_millis(250));
        assert!(cost(Kind::Event, 4000) < 2 * cost(Kind::Event, 2000) + Duration::from_millis(200));
        assert!(cost(Kind::Event, 2000) < Duration::from_secs(3));
        assert!(cost(Kind::Lock, 200) < Duration::from_millis(600));
        assert!(cost(Kind::Lock, 4000) < 2 * cost(Kind::Lock, 2000) + Duration::from_secs(12));
    }

    #[test]
    fn where_one_after_the_other_is_served_the_next_keep_their_places() {
        let (lines, came) = (Lines::default(), Instant::now());
        let mut first = lines.join(&target(Kind::Lock), came);
        let next = lines.join(&target(Kind::Lock), came);
        assert_eq!(next.keeps_until(), came + MOMENT);
        let served_in = Duration::from_secs(5);
        let earlier = came.checked_sub(served_in).unwrap();
        lines.0.lock().lines.values_mut().for_each(|line| line.moved = earlier);
        first.served = true;
        drop(first);
        assert!(next.keeps_until() > came + served_in, "until the next but one is served");
        assert!(next.keeps_until() < came + 3 * served_in);
        drop(next);
        assert!(lines.0.lock().lines.is_empty());
    }

    #[test]
    fn only_so_many_give_their_places_away() {
        let (lines, came) = (Lines::default(), Instant::now());
        let mut waiting: Vec<_> = (0..MOST).map(|_| lines.join(&target(Kind::Event), came)).collect();
        assert!(waiting.iter_mut().all(|one| one.step_aside().is_none()));
        assert_eq!(lines.join(&target(Kind::Queue), came).step_aside(), Some(MOST));
        let mut for_lock = lines.join(&target(Kind::Lock), came);
        assert!(for_lock.keeps_until() > came + MOVES / 2, "it may move");
        let earlier = came.checked_sub(MOVES).unwrap();
        lines.0.lock().lines.values_mut().for_each(|line| line.moved = earlier);
        assert!(for_lock.keeps_until() <= came, "it does not");
        assert_eq!(for_lock.step_aside(), Some(MOST));
        drop(for_lock);
        waiting.pop();
        assert_eq!(lines.join(&target(Kind::Queue), came).step_aside(), None);
        waiting.clear();
        assert_eq!(lines.0.lock().aside, 0);
    }
}
