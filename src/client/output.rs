//! Results on their way: one submitted graph as its client sees it, and the handles of its outputs.

use super::backend::Backend;
use super::gate::Permit;
use crate::delayed::options::Options;
use crate::error::{Cause, Error, Result, TaskError};
use crate::graph::Graph;
use crate::graph::node::{self, Kind, Node};
use crate::ids::{JobId, TaskId};
use crate::ipc::scope::decode_scope;
use crate::protocol::Payload;
use crate::task::function::{Record, short_name};
use crate::task::{Data, Value, codec};
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::thread::Thread;
use std::time::{Duration, Instant};

/// What an output is called, without keeping the graph that makes it.
#[derive(Clone)]
pub(crate) struct Label {
    function: &'static Record,
    options: Option<Arc<Options>>,
    pub(crate) hash: u128,
}

impl Label {
    pub(crate) fn new(function: &'static Record, options: Option<Arc<Options>>, hash: u128) -> Self {
        Self { function, options, hash }
    }

    pub(crate) fn of(node: &Node) -> Self {
        match &node.kind {
            Kind::Call { function, options, .. } => Self::new(function, options.clone(), node.hash),
            Kind::Held(output) => output.label().clone(),
        }
    }

    pub(crate) fn name(&self) -> String {
        match self.options.as_deref().and_then(|o| o.name.as_deref()) {
            Some(name) => name.to_string(),
            None => short_name(self.function.path()),
        }
    }

    pub(crate) fn key(&self) -> String {
        node::key(&self.name(), (self.hash >> 64) as u64)
    }

    pub(crate) fn is_pure(&self) -> bool {
        self.options.as_deref().is_some_and(|o| o.pure)
    }
}

/// What is known of one output.
#[derive(Debug)]
pub(crate) enum Slot {
    Pending,
    /// It is there, in a worker or with the supervisor; `asked`: its value is on the way here.
    Remote {
        nbytes: u64,
        asked: bool,
    },
    Value(Value),
    Payload(Payload),
    Failed(TaskError),
    /// It was here, and its only owner has it now.
    Taken,
}

impl Slot {
    fn is_done(&self) -> bool {
        !matches!(self, Slot::Pending)
    }

    fn is_here(&self) -> bool {
        matches!(self, Slot::Value(_) | Slot::Payload(_) | Slot::Failed(_) | Slot::Taken)
    }
}

/// Who wants to know when an output is done.
pub(crate) enum Watcher {
    Thread(Thread),
    Waker(Waker),
    Call(Box<dyn FnOnce() + Send>),
}

impl Watcher {
    pub(crate) fn fire(self) {
        match self {
            Self::Thread(t) => t.unpark(),
            Self::Waker(w) => w.wake(),
            Self::Call(f) => f(),
        }
    }

    fn will_wake(&self, waker: &Waker) -> bool {
        matches!(self, Self::Waker(w) if w.will_wake(waker))
    }

    /// Whether both wake the same task.
    pub(crate) fn wakes_as(&self, other: &Self) -> bool {
        matches!(other, Self::Waker(w) if self.will_wake(w))
    }
}

type Watchers = SmallVec<[Watcher; 1]>;

struct State {
    slots: Vec<Slot>,
    /// The graphs of the outputs that have not succeeded: to name what fails, and to repeat it.
    nodes: Vec<Option<Arc<Node>>>,
    watchers: FxHashMap<u32, Watchers>,
    /// Outputs that are not done.
    pending: usize,
    failed: usize,
    /// Outputs whose value is not here.
    missing: usize,
    when_all: Watchers,
}

/// One submitted graph.
pub(crate) struct Run {
    pub(crate) number: u32,
    backend: Arc<dyn Backend>,
    labels: Vec<Label>,
    state: Mutex<State>,
    remote: OnceLock<Remote>,
    /// Counts this graph as under way.
    permit: Mutex<Option<Permit>>,
}

/// Where the outputs are made, if that is in other processes.
#[derive(Default)]
pub(crate) struct Remote {
    pub(crate) job: Option<JobId>,
    /// For each slot its task, or the earlier output that it is.
    pub(crate) places: Vec<Place>,
}

/// Where one output is made.
pub(crate) enum Place {
    Task(u32),
    Alias(Arc<Output>),
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({}, {} outputs)", self.number, self.labels.len())
    }
}

impl Run {
    /// The run of a graph, one slot for each of `Graph::outputs`.
    pub(crate) fn new(number: u32, backend: Arc<dyn Backend>, graph: &Graph) -> Arc<Self> {
        let nodes: Vec<_> = graph.outputs().iter().map(|&id| Arc::clone(&graph.nodes[id as usize])).collect();
        let labels = nodes.iter().map(|n| Label::of(n)).collect();
        let nodes = nodes.into_iter().map(Some).collect();
        Self::with(number, backend, labels, nodes)
    }

    /// The run of values that are given.
    pub(crate) fn of_values(number: u32, backend: Arc<dyn Backend>, labels: Vec<Label>) -> Arc<Self> {
        let nodes = labels.iter().map(|_| None).collect();
        Self::with(number, backend, labels, nodes)
    }

    fn with(number: u32, backend: Arc<dyn Backend>, labels: Vec<Label>, nodes: Vec<Option<Arc<Node>>>) -> Arc<Self> {
        let n = labels.len();
        let slots = std::iter::repeat_with(|| Slot::Pending).take(n).collect();
        let state = State {
            slots,
            nodes,
            watchers: FxHashMap::default(),
            pending: n,
            failed: 0,
            missing: n,
            when_all: SmallVec::new(),
        };
        Arc::new(Self {
            number,
            backend,
            labels,
            state: Mutex::new(state),
            remote: OnceLock::new(),
            permit: Mutex::new(None),
        })
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Says where the outputs are made. To be said once, before anybody sees the run.
    pub(crate) fn set_remote(&self, remote: Remote) {
        if self.remote.set(remote).is_err() {
            log::error!("run {} is at two places", self.number);
        }
    }

    /// The task that makes an output, if it is a task of another process.
    pub(crate) fn task(&self, slot: u32) -> Option<TaskId> {
        let remote = self.remote.get()?;
        match (remote.job, remote.places.get(slot as usize)?) {
            (Some(job), Place::Task(index)) => Some(TaskId { job, index: *index }),
            (_, Place::Alias(output)) => output.run.task(output.slot),
            _ => None,
        }
    }

    /// The earlier output that an output is.
    pub(crate) fn alias(&self, slot: u32) -> Option<&Arc<Output>> {
        match self.remote.get()?.places.get(slot as usize)? {
            Place::Alias(output) => Some(output),
            Place::Task(_) => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn label(&self, slot: u32) -> &Label {
        &self.labels[slot as usize]
    }

    /// The graph of an output that has not succeeded.
    pub(crate) fn node(&self, slot: u32) -> Option<Arc<Node>> {
        self.state.lock().nodes[slot as usize].clone()
    }

    /// Notes what became of some outputs, and tells who waits for them. A failure is final unless it is taken back by
    /// [`reopen`](Self::reopen); later word about a failed output is ignored.
    pub(crate) fn settle(&self, news: impl IntoIterator<Item = (u32, Slot)>) {
        let mut fire = Watchers::new();
        let mut state = self.state.lock();
        let State { slots, nodes, watchers, pending, failed, missing, when_all } = &mut *state;
        for (at, new) in news {
            let Some(old) = slots.get_mut(at as usize) else { continue };
            if old.is_here() {
                continue;
            }
            *pending -= usize::from(!old.is_done());
            *missing -= usize::from(new.is_here());
            match new {
                Slot::Failed(_) => *failed += 1,
                _ => nodes[at as usize] = None,
            }
            *old = new;
            if !watchers.is_empty()
                && let Some(waiting) = watchers.remove(&at)
            {
                fire.extend(waiting);
            }
        }
        if *missing == 0 {
            fire.append(when_all);
        }
        let all_done = *pending == 0;
        drop(state);
        if all_done {
            let permit = self.permit.lock().take();
            drop(permit);
        }
        fire.into_iter().for_each(Watcher::fire);
    }

    /// Counts this graph as under way until it is done.
    pub(crate) fn keep_until_done(&self, permit: Permit) {
        *self.permit.lock() = Some(permit);
        if self.is_all_done() {
            let permit = self.permit.lock().take();
            drop(permit);
        }
    }

    /// Makes a failed output pending again.
    pub(crate) fn reopen(&self, slot: u32) -> bool {
        let mut state = self.state.lock();
        let failed = matches!(state.slots[slot as usize], Slot::Failed(_));
        if failed {
            state.slots[slot as usize] = Slot::Pending;
            state.pending += 1;
            state.failed -= 1;
            state.missing += 1;
        }
        failed
    }

    /// Fails every output that is not here.
    pub(crate) fn fail_rest(&self, error: impl Fn(&Label) -> TaskError) {
        self.settle(self.labels.iter().enumerate().map(|(i, label)| (i as u32, Slot::Failed(error(label)))));
    }

    /// Looks at an output.
    pub(crate) fn look<R>(&self, slot: u32, f: impl FnOnce(&Slot) -> R) -> R {
        f(&self.state.lock().slots[slot as usize])
    }

    pub(crate) fn is_all_done(&self) -> bool {
        self.state.lock().pending == 0
    }

    /// Whether all outputs are done, and none of them failed.
    pub(crate) fn has_succeeded(&self) -> bool {
        let state = self.state.lock();
        state.pending == 0 && state.failed == 0
    }

    pub(crate) fn is_done(&self, slot: u32) -> bool {
        self.look(slot, Slot::is_done)
    }

    /// Calls back when the output is done; at once, if it is.
    pub(crate) fn when_done(&self, slot: u32, watcher: Watcher) {
        let mut state = self.state.lock();
        if state.slots[slot as usize].is_done() {
            drop(state);
            return watcher.fire();
        }
        state.watchers.entry(slot).or_default().push(watcher);
    }

    /// The output's value or failure, if it is here. If not, sees to it that it comes, and that `watcher` is told.
    pub(crate) fn poll_here(&self, slot: u32, watcher: impl FnOnce() -> Watcher) -> Option<Result<Here, TaskError>> {
        let mut state = self.state.lock();
        match &mut state.slots[slot as usize] {
            Slot::Value(value) => return Some(Ok(Here::Value(Arc::clone(value)))),
            Slot::Payload(payload) => return Some(Ok(Here::Payload(payload.clone()))),
            Slot::Failed(e) => return Some(Err(e.clone())),
            Slot::Taken => return Some(Err(cancelled(self.label(slot)))),
            Slot::Remote { asked, .. } => {
                let ask = !std::mem::replace(asked, true);
                Self::watch(&mut state, slot, watcher());
                drop(state);
                if ask {
                    self.backend.ask(self, slot);
                }
            }
            Slot::Pending => Self::watch(&mut state, slot, watcher()),
        }
        None
    }

    fn watch(state: &mut MutexGuard<'_, State>, slot: u32, watcher: Watcher) {
        let watchers = state.watchers.entry(slot).or_default();
        if let Watcher::Waker(w) = &watcher
            && watchers.iter().any(|other| other.will_wake(w))
        {
            return;
        }
        watchers.push(watcher);
    }

    /// Waits until every output is here; `false` if the time is over before.
    pub(crate) fn wait_all(&self, deadline: Option<Instant>) -> bool {
        let mut told = false;
        wait_until(deadline, || {
            let mut state = self.state.lock();
            if state.missing > 0 && !std::mem::replace(&mut told, true) {
                state.when_all.push(Watcher::Thread(std::thread::current()));
            }
            state.missing == 0
        })
    }

    /// Whether every output is here; if not, the waker is told when it is.
    pub(crate) fn poll_all(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.missing > 0 && !state.when_all.iter().any(|w| w.will_wake(waker)) {
            state.when_all.push(Watcher::Waker(waker.clone()));
        }
        state.missing == 0
    }

    /// Takes an output that is here, for the last time.
    pub(crate) fn take(&self, slot: u32) -> Result<Here, TaskError> {
        let mut state = self.state.lock();
        let place = &mut state.slots[slot as usize];
        if !place.is_here() {
            return Err(cancelled(self.label(slot)));
        }
        match std::mem::replace(place, Slot::Taken) {
            Slot::Value(value) => Ok(Here::Value(value)),
            Slot::Payload(payload) => Ok(Here::Payload(payload)),
            Slot::Failed(e) => Err(e),
            Slot::Pending | Slot::Remote { .. } | Slot::Taken => Err(cancelled(self.label(slot))),
        }
    }
}

/// A value that is in this process.
pub(crate) enum Here {
    Value(Value),
    Payload(Payload),
}

impl Here {
    pub(crate) fn into_typed<T: Data>(self, label: &Label) -> Result<T> {
        let wrong = |reason: String| Error::WrongType { key: label.key(), wanted: std::any::type_name::<T>(), reason };
        match self {
            Here::Value(value) => crate::task::unwrap_value(value)
                .ok_or_else(|| wrong("the task made a value of another type".to_string())),
            Here::Payload(payload) => {
                decode_scope(&payload.segments, || codec::decode::<T>(payload.content())).map_err(wrong)
            }
        }
    }
}

impl Here {
    /// The value as its task's codec knows it.
    pub(crate) fn into_value(self, label: &Label) -> Result<Value> {
        let payload = match self {
            Here::Value(value) => return Ok(value),
            Here::Payload(payload) => payload,
        };
        let codec = label.function.result();
        decode_scope(&payload.segments, || codec.decode(payload.content())).map_err(|reason| Error::WrongType {
            key: label.key(),
            wanted: codec.name(),
            reason,
        })
    }
}

/// Waits until `done` says so; whoever makes it so unparks this thread. `false`: the time was over before.
///
/// A task that waits gives its place in the pool to another one meanwhile.
pub(crate) fn wait_until(deadline: Option<Instant>, mut done: impl FnMut() -> bool) -> bool {
    if done() {
        return true;
    }
    crate::run::context::blocking(|| {
        loop {
            match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                None => std::thread::park(),
                Some(Duration::ZERO) => return done(),
                Some(left) => std::thread::park_timeout(left),
            }
            if done() {
                return true;
            }
        }
    })
}

/// The handle of one output. The last one that goes lets the result go.
pub struct Output {
    pub(crate) run: Arc<Run>,
    pub(crate) slot: u32,
}

impl Output {
    pub(crate) fn label(&self) -> &Label {
        self.run.label(self.slot)
    }

    pub(crate) fn name(&self) -> String {
        self.label().name()
    }

    pub(crate) fn key(&self) -> String {
        self.label().key()
    }

    pub(crate) fn hash(&self) -> u128 {
        self.label().hash
    }

    /// Waits for the value. `None`: the time was over before.
    pub(crate) fn wait_here(&self, deadline: Option<Instant>) -> Option<Result<Here, TaskError>> {
        let mut found = None;
        wait_until(deadline, || {
            found = self.run.poll_here(self.slot, || Watcher::Thread(std::thread::current()));
            found.is_some()
        });
        found
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({})", self.key())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.run.backend.release(&self.run, &[self.slot]);
    }
}

/// Lets go of all outputs of a run at once.
pub(crate) struct Whole(pub(crate) Arc<Run>);

impl Drop for Whole {
    fn drop(&mut self) {
        let all: Vec<u32> = (0..self.0.len() as u32).collect();
        self.0.backend.release(&self.0, &all);
    }
}

/// The error of a task, for the user.
pub(crate) fn cancelled(label: &Label) -> TaskError {
    TaskError::new(label.key(), label.name(), None, None, Cause::Cancelled)
}
