//! The sync mode: each task in the caller's thread, in graph order, the same every time.

mod explain;

use super::attempt::{GraphTask, Inputs, execute, result_of, results_of_parts};
use super::coordination::LocalCoordination;
use super::logs::TaskLogs;
use super::queries::answer_in_process;
use super::{Checks, on_machine, scattered};
use crate::coordinator;
use crate::error::{Cause, Error, Result, TaskError};
use crate::events::journal;
use crate::events::sources::{RingOwner, RunSources};
use crate::events::{EventKind, EventRecords, WorkerRuns};
use crate::graph::label::TaskLabel;
use crate::graph::map::MapTasks;
use crate::graph::{Dag, Graph};
use crate::ids::TaskId;
use crate::ipc::clock::ticks;
use crate::ipc::fork::Origin;
use crate::ipc::ring::{OwnRing, RunSource};
use crate::message::{Answer, Question};
use crate::profile::SampledThreads;
use crate::resources::Resources;
use crate::status::{Mode, Progress, RunningTask};
use crate::submission::Again;
use crate::submission::backend::{Backend, NoPlaces, Shown, Want};
use crate::submission::callbacks::Callbacks;
use crate::submission::calls::{Given, OpenCalls};
use crate::submission::context::BackendScope;
use crate::submission::counts::{GroupTable, Lane, Shard, Step, TaskCounts};
use crate::submission::handle::{ResultHandle, ResultState, SHUT_DOWN, Submission, cancelled};
use crate::submission::kept::KeptResults;
use crate::submission::published::PublishedValues;
use crate::submission::reply::Reply;
use crate::task::Value;
use crate::task::codec::Codec;
use crate::task::context;
use crate::task::context::{Aside, TaskInfo, TaskScope};
use crate::task::wait::{TaskWaits, WaitKind};
use parking_lot::Mutex;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Where tasks of this mode say they ran.
const HERE: &str = "caller";

pub(crate) struct SyncExecutor {
    /// What errors call where tasks ran.
    here: Arc<str>,
    recorded: Arc<OwnRing>,
    /// What tasks log.
    logs: TaskLogs,
    _owner: RingOwner,
    sources: Arc<RunSources>,
    submissions: AtomicU32,
    groups: Arc<GroupTable>,
    /// The graphs whose tasks run, each in the thread that submitted it, or in a task of an earlier one.
    running: Mutex<Vec<Arc<RunningGraph>>>,
    closed: AtomicBool,
    /// Whether values are encoded and decoded again, as between processes.
    encodes: bool,
    coordination: LocalCoordination,
    kept: KeptResults,
    published: PublishedValues,
    no_places: NoPlaces,
    resources: Resources,
    origin: Origin,
    callbacks: Arc<Callbacks>,
    sampled: SampledThreads,
}

/// A graph while its tasks run.
struct RunningGraph {
    number: u32,
    graph: Arc<Graph>,
    /// The task that runs, or ran last.
    task: AtomicU32,
    /// How much of it is done, in thousandths, as it says itself.
    per_mille: AtomicU32,
}

struct SyncScope {
    backend: Weak<SyncExecutor>,
    running: Arc<RunningGraph>,
    counts: Arc<TaskCounts>,
    /// When nobody waits for the graph any more.
    deadline: Option<Instant>,
}

impl SyncScope {
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }
}

impl BackendScope for SyncScope {
    fn backend(&self) -> Option<Arc<dyn Backend>> {
        self.backend.upgrade().map(|b| b as Arc<dyn Backend>)
    }
}

impl TaskScope for SyncScope {
    fn info(&self) -> Option<TaskInfo> {
        let label = self.running.graph.label(self.running.task.load(Ordering::Relaxed));
        Some(TaskInfo { key: label.key(), name: label.name(), worker: HERE.to_string() })
    }

    fn cancelled(&self) -> bool {
        self.is_late()
    }

    fn log(&self, record: &log::Record<'_>) {
        if let (Some(executor), Some(task)) = (self.backend.upgrade(), self.info()) {
            executor.logs.add(&task, record);
        }
    }

    fn set_progress(&self, per_mille: u32) {
        let before = self.running.per_mille.swap(per_mille, Ordering::Relaxed);
        let id = self.running.task.load(Ordering::Relaxed);
        self.counts.lane(Shard::Own(0)).partly_done(id, before, per_mille);
    }

    fn step_aside(&self, _kind: WaitKind) -> Option<Aside> {
        None
    }

    fn waits(&self) -> Option<Arc<TaskWaits>> {
        None
    }
}

impl RunningGraph {
    fn task(&self) -> RunningTask {
        let key = self.graph.label(self.task.load(Ordering::Relaxed)).key();
        RunningTask { key, progress: f64::from(self.per_mille.load(Ordering::Relaxed)) / 1000.0 }
    }
}

/// Notes that a graph runs, until it is dropped.
struct Noted<'a> {
    executor: &'a SyncExecutor,
    graph: Arc<RunningGraph>,
}

impl<'a> Noted<'a> {
    fn begin(executor: &'a SyncExecutor, graph: RunningGraph) -> Self {
        let graph = Arc::new(graph);
        if graph.graph.len() > 0 {
            executor.running.lock().push(Arc::clone(&graph));
        }
        Self { executor, graph }
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let mut running = self.executor.running.lock();
        // Mostly it is the last.
        if let Some(at) = running.iter().rposition(|graph| Arc::ptr_eq(graph, &self.graph)) {
            running.swap_remove(at);
        }
    }
}

/// The result of a finished task.
type Done = std::result::Result<Value, TaskError>;

impl SyncExecutor {
    fn check_open(&self) -> Result<()> {
        if let Some(reason) = self.origin.reason() {
            return Err(Error::Closed { reason });
        }
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::Closed { reason: SHUT_DOWN.to_string() }),
            false => Ok(()),
        }
    }

    /// An executor that remembers the last `recorded` runs.
    pub(crate) fn new(recorded: usize) -> Arc<Self> {
        Self::checking(recorded, Checks::default())
    }

    /// The same, with these checks.
    pub(crate) fn checking(recorded: usize, checks: Checks) -> Arc<Self> {
        let recorded = Arc::new(OwnRing::new(recorded));
        let owner = checks.sources.add(HERE, &(Arc::clone(&recorded) as Arc<dyn RunSource>));
        Arc::new(Self {
            here: Arc::from(HERE),
            recorded,
            logs: TaskLogs::new(Arc::clone(&checks.sources)),
            _owner: owner,
            sources: checks.sources,
            submissions: AtomicU32::new(0),
            groups: GroupTable::new(1),
            running: Mutex::default(),
            closed: AtomicBool::new(false),
            encodes: checks.encodes,
            coordination: LocalCoordination::new(true, checks.encodes),
            kept: KeptResults::default(),
            published: PublishedValues::default(),
            no_places: NoPlaces::new(checks.strict),
            resources: checks.resources,
            origin: Origin::here(),
            callbacks: Arc::default(),
            sampled: SampledThreads::new(),
        })
    }

    /// Runs a graph, and settles what it was submitted as.
    fn start(self: Arc<Self>, graph: Graph, want: Want) -> Result<Arc<Submission>> {
        self.check_open()?;
        let graph = Arc::new(graph);
        let number = self.submissions.fetch_add(1, Ordering::Relaxed);
        let submission = Submission::new(number, self.clone(), &graph, want, Again::of(&graph));
        let counts = TaskCounts::new(&self.groups, number, &graph, context::is_task(), want);
        submission.set_counts(&counts);
        let mut done = self.run(submission.number, &graph, submission.fails_fast(), &counts);
        submission.settle(outputs(&graph, &mut done, &counts));
        Ok(submission)
    }

    /// Runs a graph, or the part of it before the first failure if it `fails_fast`, and before its deadline. Gives what its tasks were, but for results
    /// that nobody uses any more.
    fn run(
        self: &Arc<Self>,
        number: u32,
        graph: &Arc<Graph>,
        fails_fast: bool,
        counts: &Arc<TaskCounts>,
    ) -> Vec<Option<Done>> {
        // A graph has one thread. Counters of others are for all.
        let shard = Shard::Own(0);
        let lane = counts.lane(shard);
        let mut uses = match &**graph {
            Graph::Dag(dag) => dag.uses(),
            Graph::Map(map) => vec![1; map.len()],
        };
        let mut done: Vec<Option<Done>> = Vec::new();
        done.resize_with(graph.len(), || None);
        let deadline = match &**graph {
            Graph::Dag(dag) => dag.deadline,
            Graph::Map(_) => None,
        };
        let (task, per_mille) = (AtomicU32::new(0), AtomicU32::new(0));
        let running = Noted::begin(self, RunningGraph { number, graph: Arc::clone(graph), task, per_mille });
        let (backend, counted) = (Arc::downgrade(self), Arc::clone(counts));
        let scope = Rc::new(SyncScope { backend, running: Arc::clone(&running.graph), counts: counted, deadline });
        let _entered = crate::submission::context::enter(scope.clone());
        let _sampled = self.sampled.borrow();
        let mut failed = false;
        match &**graph {
            Graph::Map(_) => counts.map_ready(),
            Graph::Dag(dag) => {
                counts.all_ready((0..dag.len() as u32).filter(|id| dag.refs(*id).is_empty()));
            }
        }
        // Most graphs have no parts, and need not be asked.
        let parts = match &**graph {
            Graph::Dag(dag) if dag.in_parts() > 0 => Some(dag),
            _ => None,
        };
        // Each task begins when the one before it ended, so that a task needs one reading of the clock.
        let mut now = ticks();
        for id in 0..graph.len() as u32 {
            if let Some(dag) = parts
                && dag.place(id).is_some()
            {
                // It has what its maker gave; nothing, where that has not run.
                if done[id as usize].is_none() {
                    done[id as usize] =
                        Results { graph, id, uses: &mut uses, done: &mut done, lane }.refusal().map(Err);
                }
                continue;
            }
            running.graph.task.store(id, Ordering::Relaxed);
            match graph.refs(id).is_empty() {
                true => lane.started(id),
                false => lane.begun(id),
            }
            let node = || graph.node(id).hash();
            let mut results = Results { graph, id, uses: &mut uses, done: &mut done, lane };
            if fails_fast && failed {
                // What needs the failed task fails with it; others do not run any more.
                let refusal = results.refusal();
                let step = if refusal.is_some() { Step::Failed } else { Step::Unneeded };
                counts.ended(shard, id, step, node);
                done[id as usize] = refusal.map(Err);
                continue;
            }
            let result = match scope.is_late() {
                true => Err(cancelled(&graph.label(id))),
                false => self.task(number, &mut results, &mut now),
            };
            if running.graph.per_mille.load(Ordering::Relaxed) != 0 {
                scope.set_progress(0);
            }
            match &result {
                Ok(_) => lane.done(id),
                Err(e) if matches!(e.cause(), Cause::Cancelled) => counts.ended(shard, id, Step::Cancelled, node),
                Err(_) => counts.ended(shard, id, Step::Failed, node),
            }
            failed |= result.is_err();
            if let Some(dag) = parts
                && dag.has_parts(id)
            {
                for (part, result) in results_of_parts(dag, id, &result) {
                    done[part as usize] = Some(result);
                }
            }
            // A result without uses (its future is gone) need not be kept.
            if uses[id as usize] > 0 {
                done[id as usize] = Some(result);
            }
        }
        done
    }

    fn task(&self, number: u32, results: &mut Results<'_>, now: &mut u64) -> Done {
        let Results { graph, id, .. } = *results;
        if let Graph::Dag(dag) = graph
            && let Some(held) = dag.held(id)
        {
            return ResultHandle::of(held).map_or_else(|| Err(cancelled(&held.label())), |handle| result_of(&handle));
        }
        let (ring, worker, encodes) = (self.recorded.ring(), &self.here, self.encodes);
        let coordination = &self.coordination;
        let task = GraphTask {
            graph,
            id,
            submission: number,
            ring,
            thread: 0,
            worker,
            encodes,
            sources: &self.sources,
            coordination,
        };
        let began = *now;
        let result = execute(&task, results, now);
        // One that was refused took no time.
        if *now != began {
            results.lane.ran(id, now.saturating_sub(began), result.is_err());
        }
        result
    }
}

/// What the outputs of a graph are, with their indices.
fn outputs(graph: &Graph, done: &mut [Option<Done>], counts: &TaskCounts) -> impl Iterator<Item = (u32, ResultState)> {
    let tasks = match graph {
        Graph::Dag(dag) => Some(dag.outputs()),
        Graph::Map(_) => None,
    };
    let len = tasks.as_ref().map_or(graph.len(), |tasks| tasks.len()) as u32;
    (0..len).filter_map(move |index| {
        let task = tasks.as_ref().map_or(index, |tasks| tasks[index as usize]);
        match done[task as usize].take()? {
            Ok(value) => {
                counts.output_done(index);
                Some((index, ResultState::Value(value)))
            }
            Err(e) => Some((index, ResultState::Failed(e))),
        }
    })
}

/// The results of a graph while a task of it runs.
struct Results<'a> {
    graph: &'a Graph,
    id: u32,
    /// Per task: uses of its result that are to come.
    uses: &'a mut [u32],
    done: &'a mut [Option<Done>],
    lane: Lane<'a>,
}

impl Inputs for Results<'_> {
    fn refusal(&self) -> Option<TaskError> {
        let failed = |&input: &u32| self.done[input as usize].as_ref()?.as_ref().err();
        let error = self.graph.refs(self.id).iter().find_map(failed)?;
        Some(error.needed(self.graph.label(self.id).task_name()))
    }

    fn copy(&mut self, input: u32) -> Value {
        value_of(self.done[input as usize].clone())
    }

    fn take(&mut self, input: u32) -> Value {
        self.release(input);
        let done = &mut self.done[input as usize];
        value_of(if self.uses[input as usize] == 0 { done.take() } else { done.clone() })
    }

    fn release(&mut self, input: u32) {
        self.uses[input as usize] -= 1;
        if self.uses[input as usize] == 0 && matches!(self.done[input as usize], Some(Ok(_))) {
            self.lane.used_up(input);
        }
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

fn value_of(done: Option<Done>) -> Value {
    match done {
        Some(Ok(value)) => value,
        _ => Value::new(()),
    }
}

impl Backend for SyncExecutor {
    fn mode(&self) -> Mode {
        Mode::Sync
    }

    fn describe(&self) -> String {
        let state = if self.is_closed() { "closed" } else { "running" };
        format!("sync client: tasks run in the calling thread{}, {state}", on_machine())
    }

    fn submit(self: Arc<Self>, dag: Dag, want: Want) -> Result<Arc<Submission>> {
        self.start(Graph::Dag(dag), want)
    }

    fn submit_map(self: Arc<Self>, map: Arc<MapTasks>, shown: Shown<'_>) -> Result<Arc<Submission>> {
        let submission = self.start(Graph::Map(map), Want::Handles)?;
        shown(&submission);
        Ok(submission)
    }

    fn scatter(
        self: Arc<Self>,
        values: Vec<(Value, &'static Codec, TaskLabel)>,
        _broadcast: bool,
    ) -> Result<Arc<Submission>> {
        self.check_open()?;
        let (values, labels): (Vec<_>, Vec<_>) = scattered(values, self.encodes)?.into_iter().unzip();
        let submission = Submission::of_values(self.submissions.fetch_add(1, Ordering::Relaxed), self.clone(), labels);
        submission.settle(values.into_iter().enumerate().map(|(i, v)| (i as u32, ResultState::Value(v))));
        Ok(submission)
    }

    fn fetch(&self, _submission: &Submission, _indices: &[u32]) {}

    fn release(&self, submission: &Submission, indices: &[u32]) {
        submission.released(indices);
        submission.forget_calls(indices);
    }

    fn cancel(&self, _submission: &Arc<Submission>, _indices: &[u32]) {}

    fn retry(self: Arc<Self>, submission: &Arc<Submission>, index: u32) -> Result<()> {
        self.check_open()?;
        let Some(dag) = submission.failed_call(index) else { return Ok(()) };
        if submission.reopen(index) {
            let graph = Arc::new(Graph::Dag(dag));
            let counts = match submission.counts() {
                Some(counts) => TaskCounts::again(counts, index, &graph),
                None => TaskCounts::new(&self.groups, submission.number, &graph, true, Want::Handles),
            };
            let mut done = self.run(submission.number, &graph, false, &counts);
            submission.settle(outputs(&graph, &mut done, &counts).map(|(_, state)| (index, state)));
        }
        Ok(())
    }

    fn sources(&self) -> Option<Arc<RunSources>> {
        Some(Arc::clone(&self.sources))
    }

    fn note(&self, _task: Option<TaskId>, kind: EventKind) {
        self.sources.note(journal::Step { session: None, kind });
    }

    fn progress(&self) -> Progress {
        self.groups.progress(self.is_closed())
    }

    fn coordinate(&self, request: coordinator::Request<Given>) -> Result<()> {
        self.check_open()?;
        self.coordination.request(request)
    }

    fn open_calls(&self) -> &OpenCalls {
        &self.coordination.calls
    }

    fn ask(&self, question: Question) -> Reply {
        if let Some(reason) = self.origin.reason() {
            return Reply::ready(Err(Error::Closed { reason }));
        }
        if let Question::Events = question {
            let runs = vec![WorkerRuns { worker: HERE.to_string(), records: self.recorded.ring().read() }];
            return Reply::ready(Ok(Answer::Events(Box::new(EventRecords { runs, steps: self.sources.steps() }))));
        }
        if let Question::Logs = question {
            return Reply::ready(Ok(Answer::Logs(self.logs.lines())));
        }
        if let Question::Explain(job, index) = question {
            return Reply::ready(Ok(Answer::Explained(Box::new(self.explain_task(TaskId { job, index })))));
        }
        if let Question::Find { prefix, .. } = &question {
            return Reply::ready(Ok(Answer::Found(Box::new(self.find(prefix)))));
        }
        if let Question::Profile(command) = question {
            return Reply::ready(Ok(Answer::Profile(vec![(HERE.to_string(), self.sampled.answer(command))])));
        }
        let running = self.running.lock().iter().map(|running| running.task()).collect();
        answer_in_process(Mode::Sync, vec![(HERE.to_string(), running)], question)
    }

    fn explain(&self, submission: &Submission, index: u32) -> Reply {
        Reply::ready(Ok(Answer::Explained(Box::new(self.explain_output(submission, index)))))
    }

    fn shutdown(&self) {
        self.closed.store(true, Ordering::Release);
        self.coordination.close(SHUT_DOWN);
        self.published.clear();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn resources(&self) -> Option<Vec<Resources>> {
        Some(vec![self.resources.clone()])
    }

    fn kept(&self) -> Option<&KeptResults> {
        Some(&self.kept)
    }

    fn published(&self) -> Option<&PublishedValues> {
        Some(&self.published)
    }

    fn no_places(&self) -> Option<&NoPlaces> {
        Some(&self.no_places)
    }

    fn callbacks(&self) -> &Arc<Callbacks> {
        &self.callbacks
    }

    fn origin(&self) -> Origin {
        self.origin
    }
}
