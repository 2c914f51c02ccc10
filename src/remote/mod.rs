//! The client's side of worker processes: graphs go to a supervisor, word of their outputs comes back.
//!
//! It is the same for a supervisor in this process, for a local cluster behind a socket, and inside a task of a worker;
//! only the [`Uplink`] differs.

pub(crate) mod map;

use crate::error::{Cause, Error, Result, TaskError};
use crate::graph::label::TaskLabel;
use crate::graph::map::MapTasks;
use crate::graph::node;
use crate::graph::wire::argument_error;
use crate::graph::{Dag, Graph};
use crate::ids::{JobId, SessionId, TaskId};
use crate::ipc::segment::{SegmentError, SegmentPool};
use crate::job::{Delivered, Delivery, Failure, JobSpec, WantedResult};
use crate::message::question::{Ask, Explain};
use crate::message::{Answer, Question, Request, ToSession};
use crate::settings::{MOST_WORKERS, Settings};
use crate::status::{Explanation, Why};
use crate::status::{Mode, Progress};
use crate::submission::backend::{Backend, Shown, Want};
use crate::submission::handle::cancelled;
use crate::submission::handle::{ResultHandle, ResultState, Submission, Waiter};
use crate::submission::reply::Reply;
use crate::submission::task_map::{Gone, IndexRanges, TaskMap};
use crate::task::Value;
use crate::task::codec::Codec;
use crate::task::encode::encode;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// How requests get to the supervisor.
pub(crate) trait Uplink: Send + Sync {
    /// Sends a request, now or later. In a program it does not wait: handles are dropped in async code, too.
    fn send(&self, request: Request) -> Result<()>;

    /// What to wait for before more work is sent, if too much waits to be sent already.
    fn room(&self) -> Option<Reply<()>> {
        None
    }

    /// Takes in messages of the supervisor, for a thread that waits for one and holds no lock.
    fn poll(&self) {}

    /// Ends the connection, and what it was for; waits for that.
    fn close(&self);
}

/// Counts that the supervisor keeps for a client.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) done: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// Word of so many outputs that nobody holds any more is sent together, if nothing waits for it.
const RELEASES: usize = 256;

/// What is remembered of a run while outputs of it are to come.
pub(crate) struct RunEntry {
    pub(crate) run: Weak<Submission>,
    /// To name what fails. Empty when nothing can fail any more: it may hold the last handles of other results.
    pub(crate) graph: Graph,
    /// For each task of the job, the last of the graph's tasks it stands for.
    pub(crate) ends: Vec<u32>,
    /// Outputs that have not been released, and one more while there are outputs that have not been sent.
    pub(crate) claims: usize,
    /// Tasks that have been released, of which the supervisor has not been told.
    pub(crate) released: Vec<u32>,
    /// Tasks that this side has cancelled, and of which the supervisor may still say so.
    pub(crate) cancelled: FxHashSet<u32>,
}

impl RunEntry {
    pub(crate) fn new(run: &Arc<Submission>, graph: Graph) -> Self {
        let run = Arc::downgrade(run);
        Self { run, graph, ends: Vec::new(), claims: 0, released: Vec::new(), cancelled: FxHashSet::default() }
    }
}

/// What the client is called when it is printed.
pub(crate) struct Description {
    head: String,
    /// The sizes of its workers, as far as it knows: others may change the number of a local cluster's.
    settings: Option<Mutex<Settings>>,
}

impl Description {
    pub(crate) fn new(head: String, settings: Option<Settings>) -> Self {
        Self { head, settings: settings.map(Mutex::new) }
    }

    fn scaled(&self, n: usize) {
        if let Some(settings) = &self.settings {
            settings.lock().workers = n;
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        match &self.settings {
            Some(settings) => write!(f, ": {}", settings.lock().describe()),
            None => Ok(()),
        }
    }
}

pub(crate) struct Remote {
    pub(crate) uplink: Box<dyn Uplink>,
    session: SessionId,
    pub(crate) pool: SegmentPool,
    description: Description,
    pub(crate) runs: Mutex<FxHashMap<u32, RunEntry>>,
    pub(crate) next_run: AtomicU32,
    replies: Mutex<FxHashMap<u64, Reply>>,
    next_ticket: AtomicU64,
    pub(crate) total: AtomicU64,
    pub(crate) counters: Counters,
    closed: Mutex<Option<String>>,
    shut: AtomicBool,
}

impl Remote {
    pub(crate) fn new(
        uplink: Box<dyn Uplink>,
        session: SessionId,
        pool: SegmentPool,
        description: Description,
    ) -> Arc<Self> {
        Arc::new(Self {
            uplink,
            session,
            pool,
            description,
            runs: Mutex::default(),
            next_run: AtomicU32::new(0),
            replies: Mutex::default(),
            next_ticket: AtomicU64::new(0),
            total: AtomicU64::new(0),
            counters: Counters::default(),
            closed: Mutex::new(None),
            shut: AtomicBool::new(false),
        })
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        match &*self.closed.lock() {
            Some(reason) => Err(Error::Closed { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Takes in a word of the supervisor.
    pub(crate) fn receive(&self, word: ToSession) {
        match word {
            ToSession::Deliveries(deliveries) => self.deliver(deliveries),
            ToSession::Answer(ticket, answer) => {
                let reply = self.replies.lock().remove(&ticket);
                if let Some(reply) = reply {
                    reply.set(Ok(answer));
                }
            }
            ToSession::Abandon(segments) => self.pool.abandon(&segments),
            ToSession::Return(segments) => {
                segments.into_iter().for_each(|(id, deliveries)| self.pool.returned(id, deliveries));
            }
            ToSession::Closed { reason } => self.close(&reason),
            ToSession::Refused { number, reason } => {
                let run = self.runs.lock().remove(&number).and_then(|e| e.run.upgrade());
                if let Some(run) = run {
                    run.fail_rest(|label| closed(label, &reason));
                }
            }
        }
    }

    fn deliver(&self, deliveries: Vec<Delivery>) {
        let mut deliveries = deliveries.into_iter().peekable();
        while let Some(first) = deliveries.next() {
            let number = first.job.number;
            let run = self.runs.lock().get(&number).and_then(|entry| entry.run.upgrade());
            let Some(run) = run else { continue };
            let Some(made) = run.task_map() else { continue };
            let mut next = Some(first);
            let words = std::iter::from_fn(|| {
                let word = next.take().or_else(|| deliveries.next_if(|d| d.job.number == number))?;
                Some((word.index, word.result))
            });
            let mut failed = 0;
            let news: Vec<_> = made
                .slots(words)
                .into_iter()
                .filter_map(|(slot, result)| match result {
                    Ok(Delivered::Value(payload)) => Some((slot, ResultState::Payload(payload))),
                    Ok(Delivered::Ready { nbytes }) => Some((slot, ResultState::Remote { nbytes, asked: false })),
                    Err(failure) => {
                        failed += 1;
                        // Its value may be lost, or not get here, when its graph has been forgotten.
                        let own = run.task(slot) == Some(failure.task);
                        if own && matches!(failure.cause, Cause::Cancelled) && self.knew(failure.task) {
                            return None;
                        }
                        Some((slot, ResultState::Failed(self.error(number, &failure, &run.label(slot), own))))
                    }
                })
                .collect();
            self.counters.failed.fetch_add(failed, Ordering::Relaxed);
            run.settle(news);
            // What failed is the failure of later runs, too, which must be able to name it.
            if failed == 0 && run.has_succeeded() {
                let graph = self.runs.lock().get_mut(&number).map(|entry| std::mem::take(&mut entry.graph));
                drop(graph);
            }
        }
    }

    /// Cancels tasks that have been sent.
    pub(crate) fn cancel_tasks(&self, number: u32, outputs: Vec<u32>) {
        if let Some(entry) = self.runs.lock().get_mut(&number) {
            entry.cancelled.extend(&outputs);
        }
        self.send_quietly(Request::Cancel { number, outputs });
    }

    /// Whether this side has cancelled the task, which is said only once: it may have been told to run again since.
    fn knew(&self, task: TaskId) -> bool {
        self.runs.lock().get_mut(&task.job.number).is_some_and(|entry| entry.cancelled.remove(&task.index))
    }

    /// The error that a failure is, with the names that this side knows: of an output, whose `own` it is or that needed
    /// what failed.
    fn error(&self, number: u32, failure: &Failure, output: &TaskLabel, own: bool) -> TaskError {
        let named = match &failure.call {
            Some((name, hash)) => Some((node::key(name, *hash), name.clone())),
            None if own => Some((output.key(), output.name())),
            None => {
                let runs = self.runs.lock();
                let its = runs.get(&failure.task.job.number).and_then(|entry| {
                    let end = *entry.ends.get(failure.task.index as usize)?;
                    let label = ((end as usize) < entry.graph.len()).then(|| entry.graph.label(end))?;
                    Some((label.key(), label.name()))
                });
                its.or_else(|| label_of_held(&runs.get(&number)?.graph, failure.task))
            }
        };
        let (key, name) = named.unwrap_or_else(|| (format!("task-{}", failure.task), "task".to_string()));
        TaskError::new(key, name, failure.worker.clone(), Some(output.key()), failure.cause.clone())
    }

    /// Closes this side: nothing will come any more.
    pub(crate) fn close(&self, reason: &str) {
        {
            let mut closed = self.closed.lock();
            if closed.is_some() {
                return;
            }
            *closed = Some(reason.to_string());
        }
        let runs = std::mem::take(&mut *self.runs.lock());
        for run in runs.into_values().filter_map(|e| e.run.upgrade()) {
            run.fail_rest(|label| crate::remote::closed(label, reason));
        }
        for reply in std::mem::take(&mut *self.replies.lock()).into_values() {
            reply.set(Err(Error::Closed { reason: reason.to_string() }));
        }
    }

    pub(crate) fn job(&self, number: u32) -> JobId {
        JobId { session: self.session, number }
    }

    /// Registers a run and sends its job.
    fn send(&self, number: u32, entry: RunEntry, spec: JobSpec) -> Result<()> {
        self.check_open()?;
        let (tasks, data) = (spec.len(), spec.data.len());
        self.total.fetch_add((tasks - data) as u64, Ordering::Relaxed);
        if spec.outputs.is_empty() {
            return Ok(());
        }
        {
            let mut runs = self.runs.lock();
            // What is put there after the end would never hear of it.
            self.check_open()?;
            runs.insert(number, entry);
        }
        self.uplink.send(Request::Submit { number, spec }).inspect_err(|_| {
            self.runs.lock().remove(&number);
        })
    }

    /// The tasks of some outputs of a run that have been sent.
    fn tasks(run: &Submission, slots: &[u32]) -> Vec<u32> {
        let Some(made) = run.task_map() else { return Vec::new() };
        let mut tasks: Vec<u32> = slots.iter().filter_map(|&slot| made.task(slot)).collect();
        tasks.sort_unstable();
        tasks
    }

    /// Tells the supervisor that nobody holds some outputs any more: at once, unless that can wait for others.
    pub(crate) fn released(&self, number: u32, outputs: Vec<u32>, light: bool) {
        let mut forgotten = None;
        let outputs = {
            let mut runs = self.runs.lock();
            let Some(entry) = runs.get_mut(&number) else { return };
            entry.claims = entry.claims.saturating_sub(outputs.len());
            let outputs = if entry.released.is_empty() && !light {
                outputs
            } else {
                entry.released.extend(outputs);
                if light && entry.claims > 0 && entry.released.len() < RELEASES {
                    return;
                }
                std::mem::take(&mut entry.released)
            };
            if entry.claims == 0 {
                forgotten = runs.remove(&number);
            }
            outputs
        };
        self.send_quietly(Request::Release { number, outputs });
        // Its graph may hold the last handles of other results, which come back here.
        drop(forgotten);
    }

    pub(crate) fn send_quietly(&self, request: Request) {
        if self.check_open().is_ok()
            && let Err(e) = self.uplink.send(request)
        {
            log::debug!("the supervisor is not told: {e}");
        }
    }
}

/// Key and name of a task of an earlier submission whose result a graph uses.
fn label_of_held(graph: &Graph, task: TaskId) -> Option<(String, String)> {
    let Graph::Dag(dag) = graph else { return None };
    let mut handles = dag.all_held().filter_map(ResultHandle::of);
    let handle = handles.find(|handle| handle.submission.task(handle.index) == Some(task))?;
    Some((handle.key(), handle.name()))
}

/// Hands the result of an earlier output on to a slot of a later run.
pub(crate) fn forward(from: ResultHandle, to: Weak<Submission>, slot: u32) {
    let Some(run) = to.upgrade() else { return };
    let again = || {
        let from = from.clone();
        Waiter::Call(Box::new(move || forward(from, to, slot)))
    };
    if let Some(here) = from.submission.poll_here(from.index, again) {
        let new = match here {
            Ok(super::submission::handle::LocalValue::Value(value)) => ResultState::Value(value),
            Ok(super::submission::handle::LocalValue::Payload(payload)) => ResultState::Payload(payload),
            Err(e) => ResultState::Failed(e),
        };
        run.settle([(slot, new)]);
    }
}

pub(crate) fn closed(label: &TaskLabel, reason: &str) -> TaskError {
    TaskError::new(label.key(), label.name(), None, None, Cause::Closed { reason: reason.to_string() })
}

impl Backend for Remote {
    fn mode(&self) -> Mode {
        Mode::Processes
    }

    fn describe(&self) -> String {
        match &*self.closed.lock() {
            None => format!("{}, running", self.description),
            Some(reason) => format!("{}, closed: {reason}", self.description),
        }
    }

    fn room(&self) -> Option<Reply<()>> {
        self.uplink.room()
    }

    fn poll(&self) {
        self.uplink.poll();
    }

    fn submit(self: Arc<Self>, dag: Dag, want: Want) -> Result<Arc<Submission>> {
        self.check_open()?;
        let wired = dag.wire(Some(&self.pool), want == Want::Values)?;
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        let graph = Graph::Dag(dag);
        let run = Submission::new(number, self.clone(), &graph);
        let mut rows = IndexRanges::default();
        wired.slots.iter().zip(&wired.spec.outputs).for_each(|(slot, output)| rows.push(*slot, output.index));
        let aliases = match &graph {
            Graph::Dag(dag) if wired.slots.len() < run.len() => {
                let held = |(index, id): (u32, u32)| Some((index, ResultHandle::of(dag.held(id)?)?));
                (0..).zip(dag.outputs()).filter_map(held).collect()
            }
            _ => Vec::new(),
        };
        let forwarded = if want == Want::Values { aliases.clone() } else { Vec::new() };
        run.set_task_map(TaskMap::whole(self.job(number), rows, aliases));
        let claims = wired.spec.outputs.len();
        let entry = RunEntry { claims, ends: wired.ends, ..RunEntry::new(&run, graph) };
        self.send(number, entry, wired.spec)?;
        forwarded.into_iter().for_each(|(slot, from)| forward(from, Arc::downgrade(&run), slot));
        Ok(run)
    }

    fn submit_map(self: Arc<Self>, map: Arc<MapTasks>, shown: Shown<'_>) -> Result<Arc<Submission>> {
        self.check_open()?;
        self.send_map(map, shown)
    }

    fn scatter(
        self: Arc<Self>,
        values: Vec<(Value, &'static Codec, TaskLabel)>,
        broadcast: bool,
    ) -> Result<Arc<Submission>> {
        self.check_open()?;
        let n = values.len() as u32;
        let ends = vec![0; n as usize];
        let mut spec = JobSpec { body_ends: ends.clone(), dep_ends: ends, broadcast, ..JobSpec::default() };
        let mut labels = Vec::with_capacity(values.len());
        for (index, (value, codec, label)) in (0..).zip(values) {
            let payload = encode(Some(&self.pool), &value, codec).map_err(|e| argument_error(e, label.key(), codec))?;
            spec.data.push((index, payload));
            spec.outputs.push(WantedResult { index, deliver: false });
            labels.push(label);
        }
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        let run = Submission::of_values(number, self.clone(), labels);
        let mut rows = IndexRanges::default();
        (0..n).for_each(|i| rows.push(i, i));
        run.set_task_map(TaskMap::whole(self.job(number), rows, Vec::new()));
        // The client has the values already, as they are.
        run.settle(spec.data.iter().map(|(index, payload)| (*index, ResultState::Payload(payload.clone()))));
        let entry = RunEntry { claims: n as usize, ..RunEntry::new(&run, Graph::default()) };
        self.send(number, entry, spec)?;
        Ok(run)
    }

    fn ask(&self, run: &Submission, slots: &[u32]) {
        self.send_quietly(Request::Deliver { number: run.number, outputs: Self::tasks(run, slots) });
    }

    fn release(&self, run: &Submission, slots: &[u32]) {
        let Some(made) = run.task_map() else { return };
        let outputs = made.let_go(slots, Gone::Released);
        if outputs.is_empty() {
            return;
        }
        // What is here and small takes no room elsewhere that is worth a message of its own.
        let light = slots.len() == 1
            && run.with_state(slots[0], |slot| matches!(slot, ResultState::Payload(payload) if payload.is_small()));
        self.released(run.number, outputs, light);
    }

    fn cancel(&self, run: &Arc<Submission>, slots: &[u32]) {
        let outputs = run.task_map().map(|made| made.let_go(slots, Gone::Cancelled)).unwrap_or_default();
        if !outputs.is_empty() {
            self.cancel_tasks(run.number, outputs);
        }
        run.settle(slots.iter().map(|&s| (s, ResultState::Failed(cancelled(&run.label(s))))));
    }

    fn retry(self: Arc<Self>, run: &Arc<Submission>, slot: u32) -> Result<()> {
        self.check_open()?;
        if run.task_map().is_some_and(|made| made.task(slot).is_none()) {
            return self.retry_unsent(run, slot);
        }
        if run.reopen(slot) {
            self.uplink.send(Request::Retry { number: run.number, outputs: Self::tasks(run, &[slot]) })?;
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress {
            done: self.counters.done.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
        }
    }

    fn ask_supervisor(&self, question: Question) -> Reply {
        let reply = Reply::new();
        if let Err(e) = self.check_open() {
            return Reply::ready(Err(e));
        }
        if let Question::Scale(n) = question
            && (1..=MOST_WORKERS).contains(&n)
        {
            self.description.scaled(n);
        }
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        {
            let mut replies = self.replies.lock();
            if let Err(e) = self.check_open() {
                return Reply::ready(Err(e));
            }
            replies.insert(ticket, reply.clone());
        }
        if let Err(e) = self.uplink.send(Request::Ask { ticket, question }) {
            self.replies.lock().remove(&ticket);
            reply.set(Err(e));
        }
        reply
    }

    fn explain(&self, run: &Submission, slot: u32) -> Reply {
        let why = match run.task(slot) {
            Some(task) => return self.ask_supervisor(Explain(task).question()),
            None if !run.is_done(slot) => Why::NotSent,
            None => Why::GivenHere,
        };
        Reply::ready(Ok(Answer::Explanation(Box::new(Explanation::here(run.label(slot).key(), why)))))
    }

    fn shutdown(&self) {
        // Also where the supervisor has given up already: it still has to end.
        if !self.shut.swap(true, Ordering::AcqRel) {
            self.uplink.close();
            self.close("it was shut down");
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.lock().is_some()
    }
}

impl From<SegmentError> for Error {
    fn from(e: SegmentError) -> Self {
        Error::Resource { resource: "shared memory".to_string(), reason: e.to_string() }
    }
}
