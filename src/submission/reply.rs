//! Answers on their way: to be waited for, or awaited.

use super::waiter::{Waiter, wait_until, waited_in_vain};
use crate::error::{Error, Result};
use crate::ipc::fork::Origin;
use crate::message::{Answer, Ask};
use parking_lot::Mutex;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// An answer on its way.
pub(crate) struct Reply<T = Answer>(Arc<Mutex<ReplyState<T>>>, Origin);

enum ReplyState<T> {
    Waiting(Vec<Waiter>),
    There(Result<T>),
}

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), self.1)
    }
}

impl<T: Clone> Reply<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(ReplyState::Waiting(Vec::new()))), Origin::here())
    }

    pub(crate) fn ready(answer: Result<T>) -> Self {
        Self(Arc::new(Mutex::new(ReplyState::There(answer))), Origin::here())
    }

    pub(crate) fn set(&self, answer: Result<T>) {
        let before = std::mem::replace(&mut *self.0.lock(), ReplyState::There(answer));
        if let ReplyState::Waiting(waiters) = before {
            waiters.into_iter().for_each(Waiter::fire);
        }
    }

    fn answer(state: &ReplyState<T>) -> Option<Result<T>> {
        match state {
            ReplyState::Waiting(_) => None,
            ReplyState::There(answer) => Some(answer.clone()),
        }
    }

    /// The answer, if it has come.
    pub(super) fn answer_now(&self) -> Option<Result<T>> {
        if self.1.is_elsewhere() { None } else { Self::answer(&self.0.lock()) }
    }

    pub(super) fn poll_or(&self, waiter: impl FnOnce() -> Waiter) -> Option<Result<T>> {
        if let Some(reason) = self.1.reason() {
            return Some(Err(Error::Closed { reason }));
        }
        let answer = Self::answer(&self.0.lock());
        if answer.is_some() {
            return answer;
        }
        // Cloning a waker runs the code of whoever made it, and so does dropping one: not under the lock.
        let mut waiter = Some(waiter());
        let answer = match &mut *self.0.lock() {
            ReplyState::Waiting(waiters) => {
                if let Some(new) = waiter.take_if(|new| !waiters.iter().any(|other| other.is_same(new))) {
                    waiters.push(new);
                }
                None
            }
            there @ ReplyState::There(_) => Self::answer(there),
        };
        drop(waiter);
        answer
    }

    pub(crate) fn wait(&self) -> Result<T> {
        let mut found = None;
        wait_until(None, || {
            found = self.poll_or(Waiter::here);
            found.is_some()
        });
        found.unwrap_or_else(|| Err(waited_in_vain(None)))
    }
}

impl<T: Clone> Future for Reply<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.poll_or(|| Waiter::waker(cx.waker())) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

/// The answer to a question of type `A` on its way.
pub(crate) struct Asked<A>(Reply, PhantomData<fn() -> A>);

impl<A: Ask> Asked<A> {
    pub(crate) fn new(reply: Reply) -> Self {
        Self(reply, PhantomData)
    }

    pub(crate) fn wait(self) -> Result<A::Answer> {
        self.0.wait().and_then(A::answer)
    }
}

impl<A: Ask> Future for Asked<A> {
    type Output = Result<A::Answer>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.and_then(A::answer))
    }
}
