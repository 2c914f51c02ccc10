//! What a scheduler mode must be able to do for a client.

use super::callbacks::Callbacks;
use super::calls::{Given, OpenCalls};
use super::handle::Submission;
use super::kept::KeptResults;
use super::published::PublishedValues;
use super::reply::Reply;
use crate::coordinator;
use crate::error::{Error, Result};
use crate::events::EventKind;
use crate::events::sources::RunSources;
use crate::graph::Dag;
use crate::graph::label::TaskLabel;
use crate::graph::map::MapTasks;
use crate::ids::TaskId;
use crate::ipc::fork::Origin;
use crate::message::Question;
use crate::resources::Resources;
use crate::status::{Mode, Progress};
use crate::task::Value;
use crate::task::codec::Codec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What to do with the results of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Bring them to the client.
    Values,
    /// The same, until a task fails: nobody waits for the rest then.
    ValuesOrFailure,
    /// Keep them where they are until they are asked for or released.
    Handles,
}

impl Want {
    /// Whether the values are to come to the client as soon as they are there.
    pub(crate) fn here(self) -> bool {
        self != Self::Handles
    }
}

/// Is shown a submission, to make what is needed for each of its outputs.
pub(crate) type Shown<'a> = &'a mut dyn FnMut(&Arc<Submission>);

/// What a mode without workers makes of tasks that are to run on certain ones. It is the mode's, so that it holds for the
/// clients of tasks, too.
#[derive(Debug, Default)]
pub(crate) struct NoPlaces {
    strict: bool,
    /// It has been warned of.
    warned: AtomicBool,
}

impl NoPlaces {
    pub(crate) fn new(strict: bool) -> Self {
        Self { strict, warned: AtomicBool::new(false) }
    }

    /// Whether they are refused.
    pub(crate) fn is_strict(&self) -> bool {
        self.strict
    }

    /// Whether there is nothing more to be said of them.
    pub(crate) fn is_settled(&self) -> bool {
        !self.strict && self.warned.load(Ordering::Relaxed)
    }

    /// Whether it is to be warned of them now.
    pub(crate) fn warns(&self) -> bool {
        !self.warned.swap(true, Ordering::Relaxed)
    }
}

/// One of the three modes, as a client's operations see it.
pub(crate) trait Backend: Send + Sync {
    fn mode(&self) -> Mode;

    fn describe(&self) -> String;

    /// Where it has no workers that a task could ask for.
    fn no_places(&self) -> Option<&NoPlaces> {
        None
    }

    /// What this process keeps of results, where it has no workers that do.
    fn kept(&self) -> Option<&KeptResults> {
        None
    }

    /// What is published in this process, where it has no workers that keep it.
    fn published(&self) -> Option<&PublishedValues> {
        None
    }

    /// A submission of one output, whose task the supervisor is to be asked for under its number. An error in the modes that have
    /// none.
    fn expect(self: Arc<Self>, label: TaskLabel) -> Result<Arc<Submission>> {
        let _ = label;
        Err(Error::Unsupported { operation: "a result of the supervisor's", mode: self.mode().name() })
    }

    /// What each worker has of resources, as far as that is known.
    fn resources(&self) -> Option<Vec<Resources>> {
        None
    }

    /// What to wait for before more is submitted, if too much is on its way to the workers already.
    fn room(&self) -> Option<Reply<()>> {
        None
    }

    /// Does what brings results, for a thread that waits for some and holds no lock.
    fn poll(&self) {}

    /// Has the thread of a task wait for a moment, at most that long, in its own place: for what comes to this process, and
    /// for whoever wakes it. It holds no lock.
    fn pass(&self, time: Duration) {
        std::thread::park_timeout(time);
    }

    /// Starts running a graph.
    fn submit(self: Arc<Self>, dag: Dag, want: Want) -> Result<Arc<Submission>>;

    /// Starts running the calls of a map, to keep their results. Modes that run them elsewhere call `shown` before the tasks
    /// take the cores: a caller who makes a hundred thousand handles meanwhile would be kept from it for longer than the
    /// first result takes.
    fn submit_map(self: Arc<Self>, map: Arc<MapTasks>, shown: Shown<'_>) -> Result<Arc<Submission>>;

    /// Gives values to the workers; to each of them at once, or to those that ask.
    fn scatter(
        self: Arc<Self>,
        values: Vec<(Value, &'static Codec, TaskLabel)>,
        broadcast: bool,
    ) -> Result<Arc<Submission>>;

    /// Brings the values of outputs that are done, but not here.
    fn fetch(&self, submission: &Submission, indices: &[u32]);

    /// Nobody wants these outputs any more; what only they need is cancelled. Unknown and repeated ones are ignored.
    fn release(&self, submission: &Submission, indices: &[u32]);

    /// Fails these outputs as cancelled, and cancels what only they need.
    fn cancel(&self, submission: &Arc<Submission>, indices: &[u32]);

    /// Runs a failed output's graph again.
    fn retry(self: Arc<Self>, submission: &Arc<Submission>, index: u32) -> Result<()>;

    fn progress(&self) -> Progress;

    /// Where those who record or watch what happens read it; none where that is not in this process.
    fn sources(&self) -> Option<Arc<RunSources>> {
        None
    }

    /// A task of that number, where it has one, has something to say.
    fn note(&self, task: Option<TaskId>, kind: EventKind);

    /// Takes a request about locks, queues and so on. What is to be answered is answered to `open_calls`, where it has been
    /// noted before.
    fn coordinate(&self, request: coordinator::Request<Given>) -> Result<()>;

    fn open_calls(&self) -> &OpenCalls;

    /// Asks about or for workers.
    fn ask(&self, question: Question) -> Reply;

    /// Why an output is where it is.
    fn explain(&self, submission: &Submission, index: u32) -> Reply;

    /// The submissions of which somebody may have results.
    fn held(&self) -> Vec<Arc<Submission>> {
        self.kept().map(KeptResults::submissions).unwrap_or_default()
    }

    /// Cancels what runs and stops the workers. May wait for them.
    fn shutdown(&self);

    fn is_closed(&self) -> bool;

    /// What calls functions of the user's when results are done.
    fn callbacks(&self) -> &Arc<Callbacks>;

    /// The process it was made in. In a fork of that nothing comes any more, and nothing may be told to anybody.
    fn origin(&self) -> Origin;
}
