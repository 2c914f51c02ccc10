//! One pass over a chunk: it knows which element it is at, and which error has ended it.
//!
//! Stages are plain iterators, so they have no way to hand an error or their place to each other. Both lie beside them, in
//! the thread that runs the pass.

use super::chunk_id::ChunkId;
use crate::task::call::message;
use crate::task::context::cancelled;
use crate::task::function::CallError;
use crate::task::returned::{IntoError, returned};
use std::cell::{Cell, RefCell};
use std::ops::ControlFlow::{Break, Continue};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// No element has been read, or there is none left.
const NONE: u64 = u64::MAX;
/// How many elements a pass reads before it checks whether it has been cancelled.
const CHECK_EVERY: u64 = 1 << 12;

thread_local! {
    /// The element that was read last.
    static AT: Cell<u64> = const { Cell::new(NONE) };
    /// The first error of a stage, and the element it was at.
    static FAULT: RefCell<Option<(u64, CallError)>> = const { RefCell::new(None) };
    /// Whether there is one. Looked at for each element, so it is apart.
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Counts the elements that enter a pass, and ends when it is over.
pub(crate) struct Counted<I> {
    elements: I,
    next: u64,
}

impl<I> Counted<I> {
    pub(crate) fn new(elements: I) -> Self {
        Self { elements, next: 0 }
    }
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        AT.set(self.next);
        if FAILED.get() || self.next % CHECK_EVERY == CHECK_EVERY - 1 && cancelled() {
            return None;
        }
        self.next += 1;
        let element = self.elements.next();
        if element.is_none() {
            AT.set(NONE);
        }
        element
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.elements.size_hint()
    }

    fn fold<B, F: FnMut(B, I::Item) -> B>(mut self, initial: B, mut f: F) -> B {
        AT.set(self.next);
        let folded = self.elements.try_fold(initial, |before, element| {
            let folded = f(before, element);
            self.next += 1;
            AT.set(self.next);
            match FAILED.get() || self.next.is_multiple_of(CHECK_EVERY) && cancelled() {
                true => Break(folded),
                false => Continue(folded),
            }
        });
        match folded {
            Continue(folded) => {
                AT.set(NONE);
                folded
            }
            Break(folded) => folded,
        }
    }
}

/// The elements of an iterator of the user's, as long as the pass has not failed: whoever takes all elements at once cannot
/// stop it.
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Wanted<I>(pub I);

impl<I: Iterator> Iterator for Wanted<I> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }

    #[inline]
    fn fold<B, F: FnMut(B, I::Item) -> B>(mut self, initial: B, mut f: F) -> B {
        let folded = self.0.try_fold(initial, |before, element| {
            let folded = f(before, element);
            if FAILED.get() { Break(folded) } else { Continue(folded) }
        });
        match folded {
            Continue(folded) | Break(folded) => folded,
        }
    }
}

/// Inside a function of a layer: ends the pass of this thread with an error. The function gives no more elements, or any
/// value; the task fails with the first error, whose text says at which element of which chunk. For
/// [`TaskError::downcast`](crate::TaskError::downcast) it is given in a [`KeepError`](crate::KeepError).
pub fn fail<E: IntoError>(error: E) {
    fault(returned(error));
}

/// What fails now is wrong with the chunk as a whole, not with the element that was read last.
pub(crate) fn at_no_element() {
    AT.set(NONE);
}

/// [`fail`] with what a call is told.
pub(crate) fn fault(error: CallError) {
    let later = FAULT.with_borrow_mut(|fault| match fault {
        Some(_) => Some(error),
        None => {
            *fault = Some((AT.get(), error));
            None
        }
    });
    FAILED.set(true);
    // Only the first counts. The error's own code runs here.
    drop(later);
}

/// For a pass that ended without a value and without an error.
pub(super) fn nothing() -> CallError {
    CallError::Decode { type_name: "chunk".to_string(), reason: "the function gave nothing".to_string() }
}

/// Inside a function of a layer: whether the pass of this thread has failed or is not wanted any more. Then the elements
/// have ended too early.
#[must_use]
pub fn is_over() -> bool {
    FAILED.get() || cancelled()
}

/// The elements of fallible ones, up to the first error, which ends the pass (see [`fail`]).
pub fn unfailing<T, E: IntoError, I: Iterator<Item = Result<T, E>>>(items: I) -> Unfailing<I> {
    Unfailing { items, ended: false }
}

/// See [`unfailing`].
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Unfailing<I> {
    items: I,
    ended: bool,
}

impl<T, E: IntoError, I: Iterator<Item = Result<T, E>>> Iterator for Unfailing<I> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.ended {
            return None;
        }
        let element = self.items.next().and_then(|item| item.map_err(fail).ok());
        self.ended = element.is_none();
        element
    }

    #[inline]
    fn fold<B, F: FnMut(B, T) -> B>(self, initial: B, mut f: F) -> B {
        if self.ended {
            return initial;
        }
        let mut ended = false;
        self.items.fold(initial, |before, item| match item {
            Ok(element) if !ended => f(before, element),
            Ok(_) => before,
            Err(error) => {
                ended = true;
                fail(error);
                before
            }
        })
    }
}

/// Where in a chunk something happened.
fn position(chunk: &ChunkId, at: u64) -> String {
    match at {
        NONE => format!("in {chunk}"),
        at => format!("at element {at} of {chunk}"),
    }
}

/// What the thread was at before, to be restored: a task may run others while it waits.
struct Before {
    at: u64,
    fault: Option<(u64, CallError)>,
}

impl Before {
    /// Begins anew.
    fn replaced() -> Self {
        FAILED.set(false);
        Self { at: AT.replace(NONE), fault: FAULT.take() }
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        AT.set(self.at);
        FAILED.set(self.fault.is_some());
        FAULT.set(self.fault.take());
    }
}

/// Makes a pass over a chunk. Panics and errors of its stages are told with the element's place.
pub(crate) fn run<R>(chunk: &ChunkId, pass: impl FnOnce() -> R) -> Result<R, CallError> {
    let _before = Before::replaced();
    match catch_unwind(AssertUnwindSafe(pass)) {
        Err(payload) => resume_unwind(Box::new(format!("{} ({})", message(&*payload), position(chunk, AT.get())))),
        Ok(result) => match FAULT.take() {
            None => Ok(result),
            Some((at, CallError::Returned(mut returned))) => {
                returned.place = Some(position(chunk, at));
                Err(CallError::Returned(returned))
            }
            Some((_, other)) => Err(other),
        },
    }
}
