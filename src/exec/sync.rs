//! The sync mode: each task in the caller's thread, in graph order, the same every time.

use super::attempt::{GraphTask, Inputs, execute, result_of};
use super::queries::answer_in_process;
use crate::error::{Error, Result, TaskError};
use crate::events::{EventRecords, WorkerRuns};
use crate::graph::label::TaskLabel;
use crate::graph::map::MapTasks;
use crate::graph::{Dag, Graph};
use crate::ipc::clock::ticks;
use crate::ipc::ring::OwnRing;
use crate::message::{Answer, Question};
use crate::status::{Explanation, Mode, Progress, Why};
use crate::submission::backend::{Backend, Shown, Want};
use crate::submission::context::BackendScope;
use crate::submission::handle::{ResultHandle, ResultState, SHUT_DOWN, Submission, cancelled};
use crate::submission::reply::Reply;
use crate::task::Value;
use crate::task::codec::Codec;
use crate::task::context::{TaskInfo, TaskScope};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Where tasks of this mode say they ran.
const HERE: &str = "caller";

pub(crate) struct SyncExecutor {
    recorded: OwnRing,
    submissions: AtomicU32,
    done: AtomicU64,
    failed: AtomicU64,
    total: AtomicU64,
    closed: AtomicBool,
}

struct SyncScope {
    backend: Weak<SyncExecutor>,
    graph: Rc<Graph>,
    task: Cell<u32>,
}

impl BackendScope for SyncScope {
    fn backend(&self) -> Option<Arc<dyn Backend>> {
        self.backend.upgrade().map(|b| b as Arc<dyn Backend>)
    }
}

impl TaskScope for SyncScope {
    fn info(&self) -> TaskInfo {
        let label = self.graph.label(self.task.get());
        TaskInfo { key: label.key(), name: label.name(), worker: HERE.to_string() }
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn set_progress(&self, _fraction: f64) {}

    fn waiting(&self, _begins: bool) {}
}

/// The result of a finished task.
type Done = std::result::Result<Value, TaskError>;

impl SyncExecutor {
    fn check_open(&self) -> Result<()> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::Closed { reason: SHUT_DOWN.to_string() }),
            false => Ok(()),
        }
    }

    /// An executor that remembers the last `recorded` runs.
    pub(crate) fn new(recorded: usize) -> Arc<Self> {
        Arc::new(Self {
            recorded: OwnRing::new(recorded),
            submissions: AtomicU32::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            total: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// Runs a graph, and settles what it was submitted as.
    fn start(self: Arc<Self>, graph: Graph, want: Want) -> Result<Arc<Submission>> {
        self.check_open()?;
        let graph = Rc::new(graph);
        self.total.fetch_add(graph.len() as u64, Ordering::Relaxed);
        let submission = Submission::new(self.submissions.fetch_add(1, Ordering::Relaxed), self.clone(), &graph, want);
        let results = self.run(submission.number, &graph, submission.fails_fast());
        submission.settle(results);
        Ok(submission)
    }

    /// Runs a graph, or the part of it before the first failure if it `fails_fast`. Gives what its outputs are, with their indices.
    fn run(self: &Arc<Self>, number: u32, graph: &Rc<Graph>, fails_fast: bool) -> Vec<(u32, ResultState)> {
        let mut uses = match &**graph {
            Graph::Dag(dag) => dag.uses(),
            Graph::Map(map) => vec![1; map.len()],
        };
        let mut done: Vec<Option<Done>> = Vec::new();
        done.resize_with(graph.len(), || None);
        let scope = Rc::new(SyncScope { backend: Arc::downgrade(self), graph: Rc::clone(graph), task: Cell::new(0) });
        let _entered = crate::submission::context::enter(scope.clone());
        let mut failed = 0;
        // Each task begins when the one before it ended, so that a task needs one reading of the clock.
        let mut now = ticks();
        for id in 0..graph.len() as u32 {
            scope.task.set(id);
            if fails_fast && failed > 0 {
                // What needs the failed task fails with it; others do not run any more.
                done[id as usize] = Results { graph, id, uses: &mut uses, done: &mut done }.refusal().map(Err);
                failed += 1;
                continue;
            }
            let result = self.task(number, graph, id, &mut uses, &mut done, &mut now);
            failed += u64::from(result.is_err());
            // A result without uses (its future is gone) need not be kept.
            if uses[id as usize] > 0 {
                done[id as usize] = Some(result);
            }
        }
        self.done.fetch_add(graph.len() as u64 - failed, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
        let mut output = |(index, id): (u32, u32)| match done[id as usize].take()? {
            Ok(value) => Some((index, ResultState::Value(value))),
            Err(e) => Some((index, ResultState::Failed(e))),
        };
        match &**graph {
            Graph::Dag(dag) => (0..).zip(dag.outputs()).filter_map(output).collect(),
            Graph::Map(map) => (0..map.len() as u32).filter_map(|id| output((id, id))).collect(),
        }
    }

    fn task(
        &self,
        number: u32,
        graph: &Graph,
        id: u32,
        uses: &mut [u32],
        done: &mut [Option<Done>],
        now: &mut u64,
    ) -> Done {
        if let Graph::Dag(dag) = graph
            && let Some(held) = dag.held(id)
        {
            return ResultHandle::of(held).map_or_else(|| Err(cancelled(&held.label())), |handle| result_of(&handle));
        }
        let task = GraphTask { graph, id, submission: number, ring: self.recorded.ring(), thread: 0, worker: HERE };
        execute(&task, &mut Results { graph, id, uses, done }, now)
    }
}

/// The results of a graph while a task of it runs.
struct Results<'a> {
    graph: &'a Graph,
    id: u32,
    /// Per task: uses of its result that are to come.
    uses: &'a mut [u32],
    done: &'a mut [Option<Done>],
}

impl Inputs for Results<'_> {
    fn refusal(&self) -> Option<TaskError> {
        let failed = |&input: &u32| self.done[input as usize].as_ref()?.as_ref().err();
        let error = self.graph.refs(self.id).iter().find_map(failed)?;
        Some(error.clone().needed(self.graph.label(self.id).key()))
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
        format!("sync client: tasks run in the calling thread, {state}")
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
        let (values, labels): (Vec<_>, Vec<_>) = values.into_iter().map(|(v, _, label)| (v, label)).unzip();
        let submission = Submission::of_values(self.submissions.fetch_add(1, Ordering::Relaxed), self.clone(), labels);
        submission.settle(values.into_iter().enumerate().map(|(i, v)| (i as u32, ResultState::Value(v))));
        Ok(submission)
    }

    fn fetch(&self, _submission: &Submission, _indices: &[u32]) {}

    fn release(&self, _submission: &Submission, _indices: &[u32]) {}

    fn cancel(&self, _submission: &Arc<Submission>, _indices: &[u32]) {}

    fn retry(self: Arc<Self>, submission: &Arc<Submission>, index: u32) -> Result<()> {
        self.check_open()?;
        let Some(node) = submission.node(index) else { return Ok(()) };
        if submission.reopen(index) {
            let graph = Rc::new(Graph::Dag(Dag::of(&[&node])));
            self.total.fetch_add(graph.len() as u64, Ordering::Relaxed);
            let result = self.run(submission.number, &graph, false);
            let result = result.into_iter().map(|(_, state)| (index, state));
            submission.settle(result);
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress {
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
        }
    }

    fn ask(&self, question: Question) -> Reply {
        if let Question::Events = question {
            let runs = vec![WorkerRuns { worker: HERE.to_string(), records: self.recorded.ring().read() }];
            return Reply::ready(Ok(Answer::Events(Box::new(EventRecords { runs, workers: Vec::new() }))));
        }
        answer_in_process(Mode::Sync, vec![HERE.to_string()], question)
    }

    fn explain(&self, submission: &Submission, index: u32) -> Reply {
        let explanation = Explanation::here(submission.label(index).key(), Why::RanAtOnce);
        Reply::ready(Ok(Answer::Explanation(Box::new(explanation))))
    }

    fn shutdown(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
