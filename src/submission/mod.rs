//! One submitted graph as its client sees it.

mod again;
pub(crate) mod backend;
pub(crate) mod callbacks;
pub(crate) mod calls;
pub(crate) mod completed;
pub(crate) mod context;
pub(crate) mod counts;
pub(crate) mod explain;
pub(crate) mod handle;
pub(crate) mod kept;
pub(crate) mod limit;
mod lines;
pub(crate) mod note;
pub(crate) mod published;
pub(crate) mod reply;
pub(crate) mod task_map;
mod together;
pub(crate) mod waiter;

pub(crate) use again::Again;

use crate::error::{Error, TaskError};
use crate::graph::Graph;
use crate::graph::label::TaskLabel;
use crate::graph::map::MapNames;
use crate::graph::node::Node;
use crate::host::report;
use crate::ids::TaskId;
use crate::ipc::fork::Origin;
use crate::lazy_map::{LazyMap, LazyVec};
use crate::submission::backend::{Backend, Want};
use crate::submission::completed::{CompletionQueue, ListPositions};
use crate::submission::counts::TaskCounts;
use crate::submission::handle::{LocalValue, ResultHandle, ResultState, Waiter, cancelled};
use crate::submission::limit::Permit;
use crate::submission::task_map::TaskMap;
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use smallvec::SmallVec;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

type Waiters = SmallVec<[Waiter; 1]>;

/// What the outputs are called.
enum Labels {
    Each(SmallVec<[TaskLabel; 1]>),
    Map(MapNames),
}

/// How many handles an output has, without the first. It is released when that one is.
#[derive(Default)]
pub(crate) struct HandleCount(AtomicU32);

impl HandleCount {
    const RELEASED: u32 = u32::MAX;

    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds one if there is another one.
    pub(crate) fn add_to_some(&self) -> bool {
        // There is no number above that of a released one.
        self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, |n: u32| n.checked_add(1)).is_ok()
    }

    /// Takes one away; whether it was the last.
    pub(crate) fn remove(&self) -> bool {
        // One less than no more than the first is none at all.
        self.0.fetch_sub(1, Ordering::AcqRel) == 0
    }

    pub(crate) fn is_released(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::RELEASED
    }
}

/// Somebody who waits for each of many outputs.
struct Subscriber {
    to: Weak<CompletionQueue>,
    places: ListPositions,
    left: usize,
    /// What is done and has not been told.
    done: Vec<usize>,
    /// Outputs that have been told, and may be done once more.
    told: FxHashSet<u32>,
}

impl Subscriber {
    fn settled(&mut self, index: u32) {
        if !self.told.contains(&index) {
            let before = self.done.len();
            self.done.extend(self.places.of(index));
            self.left -= self.done.len() - before;
        }
    }
}

static PENDING: ResultState = ResultState::Pending { wanted: false };

/// What is known of each output. A state takes memory as soon as something is known of it, or of one behind it, so that
/// describing many costs the caller nothing.
struct ResultStates {
    known: SmallVec<[ResultState; 1]>,
    len: usize,
}

impl ResultStates {
    fn new(len: usize) -> Self {
        Self { known: SmallVec::with_capacity(len), len }
    }

    fn get(&self, index: u32) -> &ResultState {
        self.known.get(index as usize).unwrap_or(&PENDING)
    }

    fn get_mut(&mut self, index: u32) -> &mut ResultState {
        let at = index as usize;
        if at >= self.known.len() {
            // Several at once: growing takes longer than filling.
            let some = self.len.min((at + 1).next_multiple_of(64));
            self.known.resize_with(some, || ResultState::Pending { wanted: false });
        }
        &mut self.known[at]
    }

    fn iter(&self) -> impl Iterator<Item = &ResultState> {
        self.known.iter().chain(std::iter::repeat_n(&PENDING, self.len - self.known.len()))
    }
}

struct State {
    results: ResultStates,
    again: Again,
    waiters: LazyMap<u32, Waiters>,
    groups: LazyVec<Subscriber>,
    /// Outputs that are not done.
    pending: u32,
    failed: u32,
    /// Outputs whose value is not here.
    missing: u32,
    when_all: LazyVec<Waiter>,
    /// Counts this graph as under way.
    permit: Option<Permit>,
    /// Some outputs have been released before their values were here, which are to be dropped when they come.
    forgotten: bool,
}

/// One submitted graph. Some threads count handles while others settle results: what is between their fields keeps them
/// in other cache lines.
#[repr(C)]
pub(crate) struct Submission {
    handles: SmallVec<[HandleCount; 2]>,
    backend: Arc<dyn Backend>,
    /// In a fork of that process no lock is touched: another thread may have had it.
    origin: Origin,
    labels: Labels,
    task_map: OnceLock<TaskMap>,
    /// What counts its tasks, where they run in this process.
    counts: OnceLock<Arc<TaskCounts>>,
    pub(crate) number: u32,
    /// Whether it ends with the first failure.
    fails_fast: bool,
    /// Whether its results stay for whoever has handles.
    keeps: bool,
    state: Mutex<State>,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Submission({}, {} outputs)", self.number, self.len())
    }
}

impl Submission {
    /// The submission of a graph, one result for each output of a DAG, or each call of a map.
    pub(crate) fn new(number: u32, backend: Arc<dyn Backend>, graph: &Graph, want: Want, again: Again) -> Arc<Self> {
        let (n, labels) = match graph {
            Graph::Dag(dag) => {
                let outputs = dag.outputs();
                let label = |&id: &u32| TaskLabel::of(&dag.nodes[id as usize]);
                (outputs.len(), Labels::Each(outputs.iter().map(label).collect()))
            }
            Graph::Map(map) => (map.len(), Labels::Map(map.names)),
        };
        Self::with(number, backend, labels, n, again, want)
    }

    /// The submission of values that are given.
    pub(crate) fn of_values(number: u32, backend: Arc<dyn Backend>, labels: Vec<TaskLabel>) -> Arc<Self> {
        let n = labels.len();
        Self::with(number, backend, Labels::Each(labels.into()), n, Again::Elsewhere, Want::Handles)
    }

    fn with(number: u32, backend: Arc<dyn Backend>, labels: Labels, n: usize, again: Again, want: Want) -> Arc<Self> {
        let state = State {
            results: ResultStates::new(n),
            again,
            waiters: LazyMap::default(),
            groups: LazyVec::default(),
            pending: n as u32,
            failed: 0,
            missing: n as u32,
            when_all: LazyVec::default(),
            permit: None,
            forgotten: false,
        };
        let this = Arc::new(Self {
            handles: std::iter::repeat_with(HandleCount::default).take(n).collect(),
            origin: backend.origin(),
            backend,
            labels,
            task_map: OnceLock::new(),
            counts: OnceLock::new(),
            number,
            fails_fast: want == Want::ValuesOrFailure,
            keeps: want == Want::Handles,
            state: Mutex::new(state),
        });
        if this.keeps
            && let Some(kept) = this.backend.kept()
        {
            kept.add(&this);
        }
        this
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub(crate) fn handles(&self, index: u32) -> &HandleCount {
        &self.handles[index as usize]
    }

    /// Says where the outputs are made. To be said once, before anybody sees the submission.
    pub(crate) fn set_task_map(&self, task_map: TaskMap) {
        if self.task_map.set(task_map).is_err() {
            report!(Error, "submission {} has two task maps", self.number);
        }
    }

    /// Where the outputs are made, if that is in other processes.
    pub(crate) fn task_map(&self) -> Option<&TaskMap> {
        self.task_map.get()
    }

    /// The task that makes an output, if it is a task of another process and has been sent there.
    pub(crate) fn task(&self, index: u32) -> Option<TaskId> {
        let task_map = self.task_map.get()?;
        match task_map.alias(index) {
            Some(output) => output.submission.task(output.index),
            None => match task_map.task(index) {
                Some(index) => Some(TaskId { job: task_map.job, index }),
                None => task_map.replacement(index).and_then(|again| again.submission.task(again.index)),
            },
        }
    }

    /// The same, once it has been sent.
    pub(crate) fn task_sent(&self, index: u32) -> Option<TaskId> {
        if let Some(task_map) = self.task_map.get() {
            if self.origin.is_elsewhere() {
                return None;
            }
            task_map.wait_sent(index);
        }
        self.task(index)
    }

    /// The earlier output that an output is.
    pub(crate) fn alias(&self, index: u32) -> Option<&ResultHandle> {
        self.task_map.get()?.alias(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.handles.len()
    }

    pub(crate) fn label(&self, index: u32) -> TaskLabel {
        match &self.labels {
            Labels::Each(labels) => labels[index as usize].clone(),
            Labels::Map(names) => TaskLabel::plain(names.function, names.hash(index)),
        }
    }

    pub(crate) fn hash(&self, index: u32) -> u128 {
        match &self.labels {
            Labels::Each(labels) => labels[index as usize].hash(),
            Labels::Map(names) => names.hash(index),
        }
    }

    /// Whether outputs may be those of pure tasks, which others find by their hashes.
    pub(crate) fn may_be_pure(&self, index: u32) -> bool {
        match &self.labels {
            Labels::Each(labels) => labels[index as usize].is_pure(),
            Labels::Map(_) => false,
        }
    }

    /// Why nothing can be done with it, in a fork of the process it was made in.
    pub(crate) fn check_origin(&self) -> Result<(), Error> {
        self.origin.reason().map_or(Ok(()), |reason| Err(Error::Closed { reason }))
    }

    /// In a fork, the error that each of its outputs has there.
    #[inline]
    fn elsewhere(&self, index: u32) -> Option<TaskError> {
        let reason = self.origin.reason()?;
        Some(handle::closed(&self.label(index), &reason))
    }

    /// Lets go of the calls of outputs that nobody holds any more.
    pub(crate) fn forget_calls(&self, indices: &[u32]) {
        if self.origin.is_elsewhere() {
            return;
        }
        let mut state = self.state.lock();
        let unused: SmallVec<[Arc<Node>; 1]> = indices.iter().filter_map(|&index| state.again.take(index)).collect();
        drop(state);
        // With them go values of the user's.
        drop(unused);
    }

    /// Lets go of all calls: whoever runs them has them.
    pub(crate) fn forget_all_calls(&self) {
        let unused = std::mem::replace(&mut self.state.lock().again, Again::Elsewhere);
        drop(unused);
    }

    /// Notes what became of some outputs, and tells who waits for them. A failure is final unless it is taken back by
    /// [`reopen`](Self::reopen); later word about a failed output is ignored.
    pub(crate) fn settle(&self, news: impl IntoIterator<Item = (u32, ResultState)>) {
        if self.origin.is_elsewhere() {
            return;
        }
        let mut fire = Waiters::new();
        let mut ask = Vec::new();
        // What nobody needs any more: values of the user's, whose drops run their own code, and that not under the lock.
        let mut unused = Vec::new();
        let mut succeeded: SmallVec<[Arc<Node>; 1]> = SmallVec::new();
        let mut guard = self.state.lock();
        let State { results, again, waiters, groups, pending, failed, missing, when_all, permit, forgotten } =
            &mut *guard;
        let had_failed = *failed > 0;
        for (at, mut new) in news {
            if *forgotten && self.handles(at).is_released() && !matches!(new, ResultState::Failed(_)) {
                unused.push(std::mem::replace(&mut new, ResultState::Taken));
            }
            if at as usize >= results.len || results.get(at).is_here() {
                unused.push(new);
                continue;
            }
            let old = results.get_mut(at);
            if let ResultState::Pending { wanted } = *old {
                *pending -= 1;
                if !groups.is_empty() {
                    groups.iter_mut().for_each(|group| group.settled(at));
                }
                if let ResultState::Remote { asked, .. } = &mut new
                    && wanted
                {
                    *asked = true;
                    ask.push(at);
                }
            }
            *missing -= u32::from(new.is_here());
            match new {
                ResultState::Failed(_) => *failed += 1,
                _ => succeeded.extend(again.take(at)),
            }
            *old = new;
            if !waiters.is_empty()
                && let Some(waiting) = waiters.remove(&at)
            {
                fire.extend(waiting);
            }
        }
        if (*missing == 0 || (*failed > 0 && !had_failed)) && !when_all.is_empty() {
            fire.extend(when_all.drain(..));
        }
        let all_done = *pending == 0;
        let needless = match all_done && *failed == 0 {
            true => std::mem::replace(again, Again::Elsewhere),
            false => Again::Elsewhere,
        };
        let permit = if all_done { permit.take() } else { None };
        let arrived = Self::arrived(groups);
        drop(guard);
        drop((needless, unused, succeeded, permit));
        if !ask.is_empty() {
            self.backend.fetch(self, &ask);
        }
        arrived.into_iter().for_each(|(to, places)| to.arrive(places));
        fire.into_iter().for_each(Waiter::fire);
    }

    /// Whether a result that is released goes before the others: where the whole goes with it, or with others at the same
    /// time, that would only cost.
    fn forgets(&self) -> bool {
        matches!(&self.labels, Labels::Each(labels) if labels.len() > 1)
    }

    /// Drops the value of an output that nobody holds any more.
    pub(crate) fn forget(&self, index: u32) {
        if !self.forgets() || self.origin.is_elsewhere() {
            return;
        }
        let mut state = self.state.lock();
        let old = match state.results.get(index) {
            ResultState::Value(_) | ResultState::Payload(_) => {
                Some(std::mem::replace(state.results.get_mut(index), ResultState::Taken))
            }
            ResultState::Pending { .. } | ResultState::Remote { .. } => {
                state.forgotten = true;
                None
            }
            ResultState::Failed(_) | ResultState::Taken => None,
        };
        drop(state);
        // The value's own code runs here.
        drop(old);
    }

    /// Whom to tell of what, apart from those who do not listen any more.
    fn arrived(groups: &mut LazyVec<Subscriber>) -> SmallVec<[(Arc<CompletionQueue>, Vec<usize>); 1]> {
        if groups.is_empty() {
            return SmallVec::new();
        }
        let news = groups.iter_mut().filter(|group| !group.done.is_empty());
        let arrived = news.filter_map(|group| Some((group.to.upgrade()?, std::mem::take(&mut group.done)))).collect();
        groups.retain(|group| group.left > 0 && group.to.strong_count() > 0);
        if groups.is_empty() {
            *groups = LazyVec::default();
        }
        arrived
    }

    /// Tells of each of these outputs when it is done; of what is done, at once.
    pub(crate) fn tell_each(&self, places: ListPositions, to: &Arc<CompletionQueue>) {
        if self.origin.is_elsewhere() {
            // Each is told that its client is closed when it is asked.
            return to.arrive(places.each().map(|(_, place)| place));
        }
        let mut state = self.state.lock();
        // Nothing is known of those behind.
        let known = places.before(state.results.known.len() as u32);
        let done: Vec<usize> =
            known.filter(|(index, _)| state.results.get(*index).is_done()).map(|(_, place)| place).collect();
        let left = places.len() - done.len();
        if left > 0 {
            if !state.groups.is_empty() {
                state.groups.retain(|group| group.to.strong_count() > 0);
            }
            let (to, told) = (Arc::downgrade(to), FxHashSet::default());
            state.groups.push(Subscriber { to, places, left, done: Vec::new(), told });
        }
        drop(state);
        if !done.is_empty() {
            to.arrive(done);
        }
    }

    /// Tells of one output when it is done; at once, if it is.
    pub(crate) fn tell_one(&self, index: u32, place: usize, to: &Arc<CompletionQueue>) {
        if self.is_done(index) {
            return to.arrive([place]);
        }
        self.when_done(index, Waiter::Place(Arc::downgrade(to), place));
    }

    /// Counts this graph as under way until it is done.
    pub(crate) fn keep_until_done(&self, permit: Permit) {
        let mut state = self.state.lock();
        let needless = match state.pending {
            0 => Some(permit),
            _ => state.permit.replace(permit),
        };
        drop(state);
        drop(needless);
    }

    /// Makes a failed output pending again.
    pub(crate) fn reopen(&self, index: u32) -> bool {
        if self.origin.is_elsewhere() {
            return false;
        }
        let mut state = self.state.lock();
        let State { results, groups, .. } = &mut *state;
        let place = results.get_mut(index);
        if !matches!(place, ResultState::Failed(_)) {
            return false;
        }
        let failure = std::mem::replace(place, ResultState::Pending { wanted: false });
        if !groups.is_empty() {
            for group in groups.iter_mut() {
                group.told.insert(index);
            }
        }
        state.pending += 1;
        state.failed -= 1;
        state.missing += 1;
        drop(state);
        // It may have an error of the user's.
        drop(failure);
        true
    }

    /// Fails every output that is not here.
    pub(crate) fn fail_rest(&self, error: impl Fn(&TaskLabel) -> TaskError) {
        if self.origin.is_elsewhere() {
            return;
        }
        let left: Vec<u32> = {
            let state = self.state.lock();
            (0..).zip(state.results.iter()).filter(|(_, index)| !index.is_here()).map(|(at, _)| at).collect()
        };
        self.settle(left.into_iter().map(|at| (at, ResultState::Failed(error(&self.label(at))))));
    }

    /// Looks at an output.
    pub(crate) fn with_state<R>(&self, index: u32, f: impl FnOnce(&ResultState) -> R) -> R {
        match self.elsewhere(index) {
            Some(closed) => f(&ResultState::Failed(closed)),
            None => f(self.state.lock().results.get(index)),
        }
    }

    pub(crate) fn is_done(&self, index: u32) -> bool {
        self.with_state(index, ResultState::is_done)
    }

    /// Calls back when the output is done; at once, if it is.
    pub(crate) fn when_done(&self, index: u32, waiter: Waiter) {
        if self.origin.is_elsewhere() {
            return waiter.fire();
        }
        let mut state = self.state.lock();
        if state.results.get(index).is_done() {
            drop(state);
            return waiter.fire();
        }
        let waiters = state.waiters.or_default(index);
        waiters.retain(|waiter| !waiter.is_gone());
        waiters.push(waiter);
    }

    /// Has the values of these outputs sent here, each as soon as it is there.
    pub(crate) fn want_here(&self, indices: impl IntoIterator<Item = u32>) {
        if self.origin.is_elsewhere() {
            return;
        }
        let mut ask = Vec::new();
        let mut state = self.state.lock();
        for index in indices {
            match state.results.get_mut(index) {
                ResultState::Pending { wanted } => *wanted = true,
                ResultState::Remote { asked: asked @ false, .. } => {
                    *asked = true;
                    ask.push(index);
                }
                _ => {}
            }
        }
        drop(state);
        if !ask.is_empty() {
            self.backend.fetch(self, &ask);
        }
    }

    /// The output's value or failure, if it is here.
    #[inline]
    pub(crate) fn if_here(&self, index: u32) -> Option<Result<LocalValue, TaskError>> {
        match self.elsewhere(index) {
            Some(closed) => Some(Err(closed)),
            None => self.here(&self.state.lock(), index),
        }
    }

    /// The same. If it is not here, sees to it that it comes, and that `waiter` is told.
    pub(crate) fn poll_here(
        &self,
        index: u32,
        waiter: impl FnOnce() -> Waiter,
    ) -> Option<Result<LocalValue, TaskError>> {
        if let Some(here) = self.if_here(index) {
            return Some(here);
        }
        // Cloning a waker runs the code of whoever made it, and so does dropping one.
        let waiter = waiter();
        let mut state = self.state.lock();
        let here = self.here(&state, index);
        if here.is_some() {
            drop(state);
            return here;
        }
        let ask = match state.results.get_mut(index) {
            ResultState::Remote { asked, .. } => !std::mem::replace(asked, true),
            ResultState::Pending { wanted } => {
                *wanted = true;
                false
            }
            _ => false,
        };
        let unused = Self::add_waiter(state.waiters.or_default(index), waiter);
        drop(state);
        drop(unused);
        if ask {
            self.backend.fetch(self, &[index]);
        }
        None
    }

    #[inline]
    fn here(&self, state: &State, index: u32) -> Option<Result<LocalValue, TaskError>> {
        match state.results.get(index) {
            ResultState::Value(value) => Some(Ok(LocalValue::Value(value.clone()))),
            ResultState::Payload(payload) => Some(Ok(LocalValue::Payload(payload.clone()))),
            ResultState::Failed(e) => Some(Err(e.clone())),
            ResultState::Taken => Some(Err(cancelled(&self.label(index)))),
            ResultState::Remote { .. } | ResultState::Pending { .. } => None,
        }
    }

    /// Adds one who waits to some; gives it back if it is among them already.
    fn add_waiter(waiters: &mut (impl Extend<Waiter> + AsRef<[Waiter]>), waiter: Waiter) -> Option<Waiter> {
        if waiters.as_ref().iter().any(|other| other.is_same(&waiter)) {
            return Some(waiter);
        }
        waiters.extend([waiter]);
        None
    }

    /// Whether it ends with the first failure.
    pub(crate) fn fails_fast(&self) -> bool {
        self.fails_fast
    }

    /// The failure that has ended it before all outputs were there: that of the first of these which has one.
    pub(crate) fn early_failure(&self, indices: &[u32]) -> Option<TaskError> {
        if self.origin.is_elsewhere() {
            return None;
        }
        let state = self.state.lock();
        if !self.fails_fast || state.failed == 0 {
            return None;
        }
        indices.iter().find_map(|&index| match state.results.get(index) {
            ResultState::Failed(e) => Some(e.clone()),
            _ => None,
        })
    }

    /// Takes an output that is here, for the last time.
    pub(crate) fn take(&self, index: u32) -> Result<LocalValue, TaskError> {
        if let Some(closed) = self.elsewhere(index) {
            return Err(closed);
        }
        let mut state = self.state.lock();
        let place = state.results.get_mut(index);
        if !place.is_here() {
            return Err(cancelled(&self.label(index)));
        }
        match std::mem::replace(place, ResultState::Taken) {
            ResultState::Value(value) => Ok(LocalValue::Value(value)),
            ResultState::Payload(payload) => Ok(LocalValue::Payload(payload)),
            ResultState::Failed(e) => Err(e),
            ResultState::Pending { .. } | ResultState::Remote { .. } | ResultState::Taken => {
                Err(cancelled(&self.label(index)))
            }
        }
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if self.keeps
            && !self.origin.is_elsewhere()
            && let Some(kept) = self.backend.kept()
        {
            kept.remove(self.number);
        }
    }
}
