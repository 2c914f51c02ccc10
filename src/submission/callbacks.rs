//! Functions of the user's that are called when results are done.
//!
//! Results are told in threads that others depend on, so these functions have a thread of their own: one for each client,
//! which is there while there is something to call. It holds nothing of the client's but what the functions hold, and nobody
//! waits for it, so that a function may wait, submit, and drop or close the client.

use super::waiter::telling;
use crate::host::report;
use crate::task::call::tolerated;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

type Callback = Box<dyn FnOnce() + Send>;

/// Calls functions one after the other.
#[derive(Default)]
pub(crate) struct Callbacks(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Callback>,
    /// Whether there is a thread that calls them.
    calling: bool,
}

impl Callbacks {
    /// Has a function called behind those that wait.
    pub(crate) fn call(self: &Arc<Self>, callback: Callback) {
        {
            let mut state = self.0.lock();
            state.waiting.push_back(callback);
            if std::mem::replace(&mut state.calling, true) {
                return;
            }
        }
        let callbacks = Arc::clone(self);
        if let Err(e) = thread::Builder::new().name("swath-callbacks".to_string()).spawn(move || callbacks.call_all()) {
            report!(Error, "cannot start a thread for callbacks: {e}; they are called where results are told");
            telling(|| self.call_all());
        }
    }

    fn call_all(&self) {
        while let Some(callback) = self.next() {
            tolerated("a callback panicked", callback);
        }
    }

    fn next(&self) -> Option<Callback> {
        let mut state = self.0.lock();
        let next = state.waiting.pop_front();
        state.calling = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn they_are_called_in_order_by_one_thread_at_a_time_though_some_panic() {
        let callbacks = Arc::new(Callbacks::default());
        let (tell, told) = channel();
        for i in 0..1000 {
            let tell = tell.clone();
            callbacks.call(Box::new(move || {
                tell.send(i).unwrap();
                assert!(i % 7 > 0, "as it is");
            }));
        }
        drop(tell);
        assert!(told.iter().eq(0..1000));
    }

    #[test]
    fn one_may_ask_for_others() {
        let callbacks = Arc::new(Callbacks::default());
        let (tell, told) = channel();
        let inner = Arc::clone(&callbacks);
        callbacks.call(Box::new(move || inner.call(Box::new(move || tell.send(1).unwrap()))));
        assert_eq!(told.recv(), Ok(1));
    }
}
