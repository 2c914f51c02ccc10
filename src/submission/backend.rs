//! What a scheduler mode must be able to do for a client.

use super::handle::Submission;
use super::waiter::{Waiter, wait_until};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::graph::label::TaskLabel;
use crate::memory::process::Statm;
use crate::memory::report::{MemoryReport, WorkerMemory};
use crate::message::{Answer, Question};
use crate::status::{Mode, Progress, WorkerInfo};
use crate::task::Value;
use crate::task::codec::Codec;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What to do with the results of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Bring them to the client.
    Values,
    /// Keep them where they are until they are asked for or released.
    Handles,
}

/// Is shown a run, to make what is needed for each of its outputs.
pub(crate) type Shown<'a> = &'a mut dyn FnMut(&Arc<Submission>);

/// One of the three modes, as a client's operations see it.
pub(crate) trait Backend: Send + Sync {
    fn mode(&self) -> Mode;

    fn describe(&self) -> String;

    /// What to wait for before more is submitted, if too much is on its way to the workers already.
    fn room(&self) -> Option<Reply> {
        None
    }

    /// Does what brings results, for a thread that waits for some and holds no lock.
    fn poll(&self) {}

    /// Starts running a graph.
    fn submit(self: Arc<Self>, graph: Graph, want: Want) -> Result<Arc<Submission>>;

    /// Starts running a graph that is a layer, to keep its results. Modes that run it elsewhere call `shown` before the tasks
    /// take the cores: a caller who makes a hundred thousand handles meanwhile would be kept from it for longer than the
    /// first result takes.
    fn submit_layer(self: Arc<Self>, graph: Graph, shown: Shown<'_>) -> Result<Arc<Submission>> {
        let run = self.submit(graph, Want::Handles)?;
        shown(&run);
        Ok(run)
    }

    /// Gives values to the workers; to each of them at once, or to those that ask.
    fn scatter(
        self: Arc<Self>,
        values: Vec<(Value, &'static Codec, TaskLabel)>,
        broadcast: bool,
    ) -> Result<Arc<Submission>>;

    /// Brings the values of outputs that are done, but not here.
    fn ask(&self, run: &Submission, slots: &[u32]);

    /// Nobody wants these outputs any more; what only they need is cancelled. Unknown and repeated ones are ignored.
    fn release(&self, run: &Submission, slots: &[u32]);

    /// Fails these outputs as cancelled, and cancels what only they need.
    fn cancel(&self, run: &Arc<Submission>, slots: &[u32]);

    /// Runs a failed output's graph again.
    fn retry(self: Arc<Self>, run: &Arc<Submission>, slot: u32) -> Result<()>;

    fn progress(&self) -> Progress;

    /// Asks about or for workers.
    fn ask_supervisor(&self, question: Question) -> Reply;

    /// Why an output is not there yet.
    fn explain(&self, run: &Submission, slot: u32) -> Reply;

    /// Cancels what runs and stops the workers. May wait for them.
    fn shutdown(&self);

    fn is_closed(&self) -> bool;
}

/// What the in-process modes answer: they have no workers but themselves.
pub(crate) fn answer_in_process(mode: Mode, names: Vec<String>, question: Question) -> Reply {
    let unsupported = |operation| Reply::ready(Err(Error::Unsupported { operation, mode: mode.name() }));
    let n = names.len();
    match question {
        Question::Workers => {
            Reply::ready(Ok(Answer::Workers(names.iter().map(|name| WorkerInfo::in_process(name)).collect())))
        }
        Question::Deaths => Reply::ready(Ok(Answer::Deaths(Vec::new()))),
        Question::Memory => Reply::ready(Ok(Answer::Memory(Box::new(in_process(mode, 0, None))))),
        Question::Logs => Reply::ready(Ok(Answer::Logs(Vec::new()))),
        Question::WaitForWorkers { n: wanted, .. } if wanted <= n => Reply::ready(Ok(Answer::Done)),
        Question::WaitForWorkers { .. } => {
            Reply::ready(Err(Error::invalid("n", format!("a client in {mode} mode has {n} worker(s), its threads"))))
        }
        Question::Scale(_) => unsupported("scale"),
        Question::Restart => unsupported("restart"),
        Question::Explain(..) | Question::Progress | Question::Events => unsupported("this question"),
    }
}

/// How this process uses its memory: results take `managed` bytes of it, where they are counted.
pub(crate) fn in_process(mode: Mode, managed: u64, limit: Option<u64>) -> MemoryReport {
    let process = WorkerMemory {
        name: mode.to_string(),
        pid: std::process::id(),
        private: Statm::of_self().private().unwrap_or(0),
        managed,
        limit,
        ..WorkerMemory::default()
    };
    MemoryReport { workers: vec![process], ..MemoryReport::default() }
}

/// An answer on its way: to be waited for, or awaited.
#[derive(Clone)]
pub(crate) struct Reply(Arc<Mutex<ReplyState>>);

enum ReplyState {
    Waiting(Vec<Waiter>),
    There(Result<Answer>),
}

impl Reply {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(ReplyState::Waiting(Vec::new()))))
    }

    pub(crate) fn ready(answer: Result<Answer>) -> Self {
        Self(Arc::new(Mutex::new(ReplyState::There(answer))))
    }

    pub(crate) fn set(&self, answer: Result<Answer>) {
        let before = std::mem::replace(&mut *self.0.lock(), ReplyState::There(answer));
        if let ReplyState::Waiting(watchers) = before {
            watchers.into_iter().for_each(Waiter::fire);
        }
    }

    fn poll_or(&self, watcher: impl FnOnce() -> Waiter) -> Option<Result<Answer>> {
        match &mut *self.0.lock() {
            ReplyState::Waiting(watchers) => {
                let watcher = watcher();
                if !watchers.iter().any(|other| other.wakes_as(&watcher)) {
                    watchers.push(watcher);
                }
                None
            }
            ReplyState::There(answer) => Some(answer.clone()),
        }
    }

    pub(crate) fn wait(&self) -> Result<Answer> {
        let mut found = None;
        wait_until(None, || {
            found = self.poll_or(Waiter::here);
            found.is_some()
        });
        found.unwrap_or_else(|| Err(Error::Closed { reason: "no answer came".to_string() }))
    }
}

impl Future for Reply {
    type Output = Result<Answer>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.poll_or(|| Waiter::Waker(cx.waker().clone())) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}
