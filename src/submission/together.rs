//! Waiting for all outputs of a submission together.

use super::waiter::{Waiter, wait_polling};
use super::{State, Submission};
use crate::host::footer::settle;
use crate::task::wait::WaitKind;
use std::task::Waker;
use std::time::Instant;

impl Submission {
    /// Whether nobody needs to wait any more; with `or_failure`, nobody who wants to know of the first failure.
    fn is_over(&self, state: &State, or_failure: bool) -> bool {
        state.missing == 0 || ((self.fails_fast || or_failure) && state.failed > 0)
    }

    /// Waits until every output is here, or one has failed where that ends it; `false` if the time is over before.
    pub(crate) fn wait_all(&self, deadline: Option<Instant>) -> bool {
        self.wait_over(deadline, false)
    }

    /// Waits until every output is here, or one has failed.
    pub(crate) fn wait_all_or_failure(&self) -> bool {
        self.wait_over(None, true)
    }

    fn wait_over(&self, deadline: Option<Instant>, or_failure: bool) -> bool {
        if self.origin.is_elsewhere() {
            return true;
        }
        let over = wait_polling(
            WaitKind::until(deadline),
            deadline,
            || self.backend.poll(),
            || {
                let mut state = self.state.lock();
                let over = self.is_over(&state, or_failure);
                if !over {
                    // The first failure calls all of these, also those that wait on.
                    Self::add_waiter(&mut *state.when_all, Waiter::here());
                }
                over
            },
        );
        settle();
        over
    }

    /// Whether every output is here, or one has failed where that ends it; if not, the waker is told when it is.
    pub(crate) fn poll_all(&self, waker: &Waker) -> bool {
        self.poll_over(waker, false)
    }

    /// Whether every output is here, or one has failed; if not, the waker is told when it is.
    pub(crate) fn poll_all_or_failure(&self, waker: &Waker) -> bool {
        self.poll_over(waker, true)
    }

    fn poll_over(&self, waker: &Waker, or_failure: bool) -> bool {
        if self.origin.is_elsewhere() {
            return true;
        }
        {
            let state = self.state.lock();
            if self.is_over(&state, or_failure) {
                return true;
            }
            if state.when_all.iter().any(|waiter| waiter.will_wake(waker)) {
                return false;
            }
        }
        // Cloning it runs the code of whoever made it.
        let waiter = Waiter::waker(waker);
        let mut state = self.state.lock();
        let over = self.is_over(&state, or_failure);
        let unused = if over { Some(waiter) } else { Self::add_waiter(&mut *state.when_all, waiter) };
        drop(state);
        drop(unused);
        over
    }
}
