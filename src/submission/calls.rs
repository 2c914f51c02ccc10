//! Calls to what has a name, as locks and queues, on their way: to be waited for, or awaited.
//!
//! Each is answered once. Who does not wait any more, since its time is over or its future is gone, says so, and what was on
//! its way to it goes back when it comes: a lock is released, an item is put back.

use super::backend::Backend;
use super::context::{current_backend, decoding_for};
use super::handle::LocalValue;
use super::lines::{Lines, MOMENT, Waits};
use super::reply::Reply;
use super::waiter::{Waiter, wait_in_place, wait_polling, waited_in_vain};
use crate::coordinator::{Answer, By, Call, Kind, Operation, Patience, Refusal, Request, Target};
use crate::error::{CoordinationError, Error, Result};
use crate::ids::TaskId;
use crate::task::Value;
use crate::task::codec::Codec;
use crate::task::context;
use crate::task::run::{self, Held};
use crate::task::wait::{AsyncWait, NotWanted, WaitKind, waiting};
use crate::units::Shown;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A value that is handed over.
pub(crate) enum Given {
    New(Value, &'static Codec),
    /// As it came from there.
    Back(LocalValue),
}

pub(crate) type CallAnswer = Answer<LocalValue>;
type CallReply = Reply<CallAnswer>;

/// The calls of a client that have not been answered.
#[derive(Default)]
pub(crate) struct OpenCalls {
    next: AtomicU64,
    open: Mutex<Open>,
    lines: Lines,
}

#[derive(Default)]
struct Open {
    calls: FxHashMap<u64, (CallReply, Option<TaskId>)>,
    /// None will be answered any more.
    closed: Option<Error>,
}

impl OpenCalls {
    /// A call begins, of that task.
    fn begin(&self, task: Option<TaskId>) -> Result<(u64, CallReply)> {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let reply = Reply::new();
        let mut open = self.open.lock();
        if let Some(error) = &open.closed {
            return Err(error.clone());
        }
        open.calls.insert(ticket, (reply.clone(), task));
        Ok((ticket, reply))
    }

    fn end(&self, ticket: u64) -> Option<CallReply> {
        self.open.lock().calls.remove(&ticket).map(|(reply, _)| reply)
    }

    pub(crate) fn answer(&self, ticket: u64, answer: CallAnswer) {
        if let Some(reply) = self.end(ticket) {
            reply.set(Ok(answer));
        }
    }

    /// The calls of such tasks.
    pub(crate) fn of_tasks(&self, which: impl Fn(TaskId) -> bool) -> Vec<u64> {
        let open = self.open.lock();
        let of_task = open.calls.iter().filter(|(_, (_, task))| task.is_some_and(&which));
        of_task.map(|(ticket, _)| *ticket).collect()
    }

    /// Nothing is answered any more.
    pub(crate) fn close(&self, error: &Error) {
        let calls = {
            let mut open = self.open.lock();
            open.closed.get_or_insert_with(|| error.clone());
            std::mem::take(&mut open.calls)
        };
        calls.into_values().for_each(|(reply, _)| reply.set(Err(error.clone())));
    }
}

/// Has such tasks, which have been cancelled, wait no more.
pub(crate) fn forget_tasks(backend: &dyn Backend, which: impl Fn(TaskId) -> bool) {
    for ticket in backend.open_calls().of_tasks(which) {
        tell(backend, Request::Forget { ticket });
    }
}

/// Says something that is not answered.
fn tell(backend: &dyn Backend, request: Request<Given>) {
    if let Err(e) = backend.coordinate(request) {
        log::debug!("nobody is told: {e}");
    }
}

/// A call that has not been answered.
pub(crate) struct Waiting {
    backend: Arc<dyn Backend>,
    ticket: u64,
    /// None, when it has been answered.
    reply: Option<CallReply>,
    target: Target,
    by: By,
    patience: Patience,
    held: Option<Held>,
    wait: AsyncWait,
}

/// What a call has brought.
pub(crate) enum Got {
    Done,
    Lease(Lease),
    Value(LocalValue),
    Is(bool),
    Len(u64),
    /// It was not to be had at once.
    Nothing,
}

/// What a caller has acquired, until it is dropped or released.
pub(crate) struct Lease {
    backend: Arc<dyn Backend>,
    /// The ticket of the call. None, when it has been released.
    ticket: Option<u64>,
    kind: Kind,
    name: String,
    _held: Option<Held>,
}

impl Waiting {
    pub(crate) fn start(
        backend: &Arc<dyn Backend>,
        target: Target,
        operation: Operation<Given>,
        patience: Patience,
    ) -> Result<Self> {
        if let Some(reason) = backend.origin().reason() {
            return Err(Error::Closed { reason });
        }
        let is_own = |other: Arc<dyn Backend>| Arc::ptr_eq(&other, backend);
        let is_inside = current_backend().is_some_and(is_own);
        let held = if is_inside { run::hold() } else { None };
        let task = if held.is_some() { context::task() } else { None };
        let by = By { task, run: held.as_ref().map(Held::run), thread: None };
        let (ticket, reply) = backend.open_calls().begin(task)?;
        let call = Call { target: target.clone(), operation, patience, by };
        // A value that is encoded and decoded at once may have handles in it.
        if let Err(e) = decoding_for(backend, || backend.coordinate(Request::Call { ticket, call })) {
            backend.open_calls().end(ticket);
            return Err(e);
        }
        // Whoever cancels the task from now on finds the call.
        if task.is_some() && patience != Patience::None && context::cancelled() {
            tell(&**backend, Request::Forget { ticket });
        }
        let (backend, wait) = (Arc::clone(backend), AsyncWait::new(WaitKind::ForOthers));
        Ok(Self { backend, ticket, reply: Some(reply), target, by, patience, held, wait })
    }

    /// Waits for the answer.
    pub(crate) fn wait(self) -> Result<Got> {
        self.wait_until(None, None)
    }

    /// The same, until the time is over: what does not come then does not come later.
    pub(crate) fn wait_timeout(self, timeout: Duration) -> Result<Got> {
        self.wait_until(Instant::now().checked_add(timeout), Some(timeout))
    }

    fn wait_until(mut self, deadline: Option<Instant>, timeout: Option<Duration>) -> Result<Got> {
        let Some(reply) = self.reply.clone() else { return Err(waited_in_vain(timeout)) };
        let mut answer = None;
        let mut come = || {
            answer = reply.poll_or(Waiter::here);
            answer.is_some()
        };
        let mut given_up = None;
        let backend = Arc::clone(&self.backend);
        let (came, mut waits) = self.keep_place(backend.open_calls(), deadline, &mut come);
        if !came {
            let full = waits.as_mut().and_then(Waits::step_aside);
            if let Some(most) = full {
                let (kind, name) = (self.target.kind.name(), self.target.name.clone());
                given_up = Some(CoordinationError::TooManyWait { kind, name, most }.into());
            } else if !wait_polling(WaitKind::ForOthers, deadline, || self.backend.poll(), &mut come)
                && deadline.is_some()
            {
                given_up = Some(Error::Timeout { waited: timeout.unwrap_or_default() });
            }
            if given_up.is_some() {
                tell(&*self.backend, Request::Forget { ticket: self.ticket });
                // What comes now is that nothing comes, or what was on its way.
                wait_polling(WaitKind::ForOthers, None, || self.backend.poll(), come);
            }
        }
        // So that the value is the caller's alone.
        drop(reply);
        let served = matches!(answer, Some(Ok(Answer::Done | Answer::Value(_) | Answer::Item(..))));
        waits.iter_mut().for_each(|waits| waits.served = served);
        match (answer, given_up) {
            (Some(Ok(Answer::Unavailable)), Some(error)) => {
                self.reply = None;
                Err(error)
            }
            (Some(answer), _) => self.answered(answer),
            (None, _) => Err(waited_in_vain(timeout)),
        }
    }

    /// Waits in the place of the task that calls, if it is one, as long as that keeps it. Gives whether the answer has come, and
    /// its place in the line, where that took more than a moment.
    fn keep_place<'a>(
        &self,
        calls: &'a OpenCalls,
        deadline: Option<Instant>,
        mut come: impl FnMut() -> bool,
    ) -> (bool, Option<Waits<'a>>) {
        if self.held.is_none() {
            return (false, None);
        }
        let began = Instant::now();
        let mut wait = |until: Instant| {
            wait_in_place(deadline.map_or(until, |at| at.min(until)), |time| self.backend.pass(time), &mut come)
        };
        if wait(began + MOMENT) {
            return (true, None);
        }
        let waits = calls.lines.join(&self.target, began);
        loop {
            let until = waits.keeps_until();
            if wait(until) {
                return (true, Some(waits));
            }
            // What moves meanwhile is waited for again.
            let now = Instant::now();
            if now < until || waits.keeps_until() <= now {
                return (false, Some(waits));
            }
        }
    }

    /// It has been answered.
    fn answered(&mut self, answer: Result<CallAnswer>) -> Result<Got> {
        self.reply = None;
        match answer? {
            Answer::Done if self.target.kind.has_holders() => Ok(Got::Lease(Lease {
                backend: Arc::clone(&self.backend),
                ticket: Some(self.ticket),
                kind: self.target.kind,
                name: std::mem::take(&mut self.target.name),
                _held: self.held.take(),
            })),
            Answer::Done => Ok(Got::Done),
            Answer::Value(value) | Answer::Item(value, _) => Ok(Got::Value(value)),
            Answer::Is(so) => Ok(Got::Is(so)),
            Answer::Len(len) => Ok(Got::Len(len)),
            Answer::Unavailable if self.patience == Patience::None => Ok(Got::Nothing),
            Answer::Unavailable => Err(NotWanted.into()),
            Answer::Refused(why) => Err(refused(why, &self.target)),
        }
    }
}

impl Future for Waiting {
    type Output = Result<Got>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Got>> {
        let answer = self.reply.as_ref().and_then(|reply| reply.poll_or(|| Waiter::waker(cx.waker())));
        let answer = answer.map_or(Poll::Pending, Poll::Ready);
        match ready!(self.wait.polled(cx, answer)) {
            Ok(answer) => Poll::Ready(self.answered(answer)),
            Err(not_wanted) => Poll::Ready(Err(not_wanted.into())),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(reply) = self.reply.take() else { return };
        if self.backend.origin().is_elsewhere() {
            return;
        }
        tell(&*self.backend, Request::Forget { ticket: self.ticket });
        let backend = Arc::clone(&self.backend);
        let (ticket, by) = (self.ticket, self.by);
        let mut target = Some(self.target.clone());
        let later = reply.clone();
        let call = move || {
            if let Some(Ok(answer)) = later.answer_now()
                && let Some(target) = target.take()
            {
                give_back(&*backend, ticket, target, by, answer);
            }
        };
        if reply.poll_or(|| Waiter::Call(Box::new(call))).is_some()
            && let Some(Ok(answer)) = reply.answer_now()
        {
            give_back(&*self.backend, self.ticket, self.target.clone(), self.by, answer);
        }
    }
}

/// What came when nobody waited for it any more goes back.
fn give_back(backend: &dyn Backend, ticket: u64, target: Target, by: By, answer: CallAnswer) {
    match answer {
        Answer::Done if target.kind.has_holders() => tell(backend, Request::Release { lease: ticket, ticket: None }),
        Answer::Item(value, place) => {
            tell(backend, Request::PutBack { target, value: Given::Back(value), place, by });
        }
        _ => {}
    }
}

impl Lease {
    /// Ends it. An error: it had ended before.
    pub(crate) async fn release(mut self) -> Result<()> {
        let Some(lease) = self.ticket.take() else { return Ok(()) };
        let (ticket, reply) = self.backend.open_calls().begin(None)?;
        if let Err(e) = self.backend.coordinate(Request::Release { lease, ticket: Some(ticket) }) {
            self.backend.open_calls().end(ticket);
            return Err(e);
        }
        match waiting(reply).await?? {
            Answer::Refused(_) => {
                Err(CoordinationError::NotHeld { kind: self.kind.name(), name: std::mem::take(&mut self.name) }.into())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(lease) = self.ticket.take()
            && !self.backend.origin().is_elsewhere()
        {
            tell(&*self.backend, Request::Release { lease, ticket: None });
        }
    }
}

fn refused(why: Refusal, target: &Target) -> Error {
    let (kind, name) = (target.kind.name(), target.name.clone());
    let number = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    match why {
        Refusal::OtherType { there } => {
            CoordinationError::WrongType { kind, name, wanted: target.type_name.clone(), there }.into()
        }
        Refusal::OtherLimit { there } => {
            CoordinationError::OtherLimit { kind, name, wanted: number(target.limit), there: number(there) }.into()
        }
        Refusal::NotHeld => CoordinationError::NotHeld { kind, name }.into(),
        Refusal::Deadlock(reason) => Error::Deadlock { reason },
        Refusal::Gone => Error::Closed { reason: format!("the program whose {kind} `{}` is has left", Shown(&name)) },
        Refusal::NoSuchOperation => Error::Closed { reason: format!("the {kind} `{}` cannot do that", Shown(&name)) },
    }
}
