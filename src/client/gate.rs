//! Back-pressure: only so many graphs are under way at a time, and whoever submits one more waits.

use super::watcher::{Watcher, wait_until};
use crate::events::Diary;
use crate::events::journal::GraphStep;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

/// Counts graphs under way.
pub(crate) struct Gate {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    inside: usize,
    /// First come, first served.
    waiting: VecDeque<Watcher>,
}

/// The right to have one graph under way; given back when dropped.
pub(crate) struct Permit {
    gate: Arc<Gate>,
    /// Where the end of the graph is to be noted: its number, and when it was submitted.
    note: Option<(Arc<Diary>, u32, u64)>,
}

impl Permit {
    /// The graph was submitted: notes that, and its end when it comes.
    pub(crate) fn submitted(mut self, diary: &Arc<Diary>, graph: u32, tasks: usize, began: u64) -> Self {
        diary.graphs.note_at(began, GraphStep::Submitted { graph, tasks });
        self.note = Some((Arc::clone(diary), graph, began));
        self
    }
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), state: Mutex::default() })
    }

    fn enter_or(self: &Arc<Self>, watcher: impl FnOnce() -> Watcher) -> Option<Permit> {
        let mut state = self.state.lock();
        if state.inside < self.limit {
            state.inside += 1;
            return Some(Permit { gate: Arc::clone(self), note: None });
        }
        state.waiting.push_back(watcher());
        None
    }

    /// Waits for room.
    pub(crate) fn enter(self: &Arc<Self>) -> Permit {
        let mut permit = None;
        loop {
            wait_until(None, || {
                permit = self.enter_or(Watcher::here);
                permit.is_some()
            });
            if let Some(permit) = permit.take() {
                return permit;
            }
        }
    }

    pub(crate) async fn enter_async(self: &Arc<Self>) -> Permit {
        std::future::poll_fn(|cx| match self.enter_or(|| Watcher::Waker(cx.waker().clone())) {
            Some(permit) => Poll::Ready(permit),
            None => Poll::Pending,
        })
        .await
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((diary, graph, began)) = self.note.take() {
            diary.graphs.note(GraphStep::Finished { graph, began });
        }
        let next = {
            let mut state = self.gate.state.lock();
            state.inside -= 1;
            // One that has given up waiting would swallow the word, so all are told when few are left.
            if state.inside * 2 <= self.gate.limit {
                std::mem::take(&mut state.waiting)
            } else {
                state.waiting.pop_front().into_iter().collect()
            }
        };
        next.into_iter().for_each(Watcher::fire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn one_more_waits_until_one_leaves() {
        let gate = Gate::new(2);
        let (first, _second) = (gate.enter(), gate.enter());
        let (tell, told) = mpsc::channel();
        let waiting = {
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || {
                let _third = gate.enter();
                tell.send(()).expect("somebody listens");
            })
        };
        while gate.state.lock().waiting.is_empty() {
            std::thread::yield_now();
        }
        assert!(told.try_recv().is_err());
        drop(first);
        told.recv().expect("it got in");
        waiting.join().expect("no panic");
        assert_eq!(gate.state.lock().inside, 1);
    }
}
