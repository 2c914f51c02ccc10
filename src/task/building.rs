//! Which worker-local state is being built, and for what: so that one that needs itself is an error, not a wait without end.
//!
//! A thread that builds a state carries its number, and so does every task that is submitted meanwhile, in whatever thread or
//! process it runs: these are a part of the building. One that asks for that state, where it is not there yet, asks for what
//! it is to help to make. Two that are built at the same time and wait for each other are found by who waits for what, and across
//! processes by the limit that such a wait has ([`WorkerLocal`](crate::WorkerLocal)).

use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::Arc;

/// The states whose building a thread, or a task, is a part of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Building(Option<Arc<[u64]>>);

thread_local! {
    static BUILDING: RefCell<Building> = const { RefCell::new(Building(None)) };
}

/// Within this process: what is a part of the building of the first waits for the second.
static WAITING: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

impl Building {
    /// Of the calling thread.
    pub(crate) fn current() -> Self {
        BUILDING.try_with(|building| building.borrow().clone()).unwrap_or_default()
    }

    /// As it came with a task.
    pub(crate) fn of(states: &[u64]) -> Self {
        Self((!states.is_empty()).then(|| states.into()))
    }

    pub(crate) fn states(&self) -> &[u64] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The same and one more.
    pub(crate) fn and(&self, state: u64) -> Self {
        Self(Some(self.states().iter().copied().chain([state]).collect()))
    }

    /// Whether it is no part of anything.
    pub(crate) fn is_outside(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn includes(&self, state: u64) -> bool {
        self.states().contains(&state)
    }

    /// Has the calling thread carry it until the answer is dropped. Most tasks are no part of anything, which costs nothing.
    #[inline]
    pub(crate) fn enter(&self) -> Option<Entered> {
        self.0.is_some().then(|| Entered(BUILDING.replace(self.clone())))
    }

    /// Notes that this waits for a state, until the answer is dropped. `None`: that state waits for this in turn.
    pub(crate) fn wait_for(&self, state: u64) -> Option<Waiting<'_>> {
        let mut waiting = WAITING.lock();
        let mut reached = vec![state];
        let mut at = 0;
        while at < reached.len() {
            let from = reached[at];
            if self.includes(from) {
                return None;
            }
            let next: Vec<u64> =
                waiting.iter().filter(|(f, to)| *f == from && !reached.contains(to)).map(|w| w.1).collect();
            reached.extend(next);
            at += 1;
        }
        waiting.extend(self.states().iter().map(|own| (*own, state)));
        Some(Waiting { building: self, state })
    }
}

/// Puts back what a thread carried before.
pub(crate) struct Entered(Building);

impl Drop for Entered {
    fn drop(&mut self) {
        BUILDING.replace(std::mem::take(&mut self.0));
    }
}

pub(crate) struct Waiting<'a> {
    building: &'a Building,
    state: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = WAITING.lock();
        for own in self.building.states() {
            if let Some(at) = waiting.iter().position(|w| *w == (*own, self.state)) {
                waiting.swap_remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_of_waits_is_found_and_a_line_is_none() {
        let [first, second, third] = [901, 902, 903].map(|state| Building::default().and(state));
        let outside = Building::default();
        let _outside = outside.wait_for(901).expect("nobody waits for what is outside");
        let one = first.wait_for(902).expect("a line");
        let _two = second.wait_for(903).expect("a longer line");
        assert!(third.wait_for(901).is_none(), "a circle of three");
        assert!(third.and(904).wait_for(905).is_some());
        drop(one);
        assert!(third.wait_for(901).is_some(), "the wait is over");
    }

    #[test]
    fn a_thread_carries_it_for_as_long_as_it_is_entered() {
        let outer = Building::of(&[910]).enter();
        {
            let _inner = Building::current().and(911).enter();
            assert_eq!(Building::current().states(), [910, 911]);
            assert!(Building::of(&[]).enter().is_none(), "a task that is no part of anything changes nothing");
        }
        assert_eq!(Building::current().states(), [910]);
        drop(outer);
        assert!(Building::current().states().is_empty());
    }
}
