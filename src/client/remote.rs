//! The client's side of worker processes: graphs go to a supervisor, word of their outputs comes back.
//!
//! It is the same for a supervisor in this process, for a local cluster behind a socket, and inside a task of a worker;
//! only the [`Uplink`] differs.

use super::backend::{Backend, Reply, Want};
use super::output::{Label, Output, Place, Remote as RemotePlaces, Run, Slot, Watcher, cancelled};
use super::{Mode, Progress};
use crate::cluster::{MOST_WORKERS, Settings};
use crate::error::{Cause, Error, Result, ReturnedError, TaskError};
use crate::graph::node::{self, Kind, Node};
use crate::graph::{Graph, wire};
use crate::ids::{JobId, SessionId, TaskId};
use crate::ipc::segment::{SegmentError, SegmentPool};
use crate::message::{Answer, Question, Request, ToSession};
use crate::protocol::{Delivered, Delivery, EXTERNAL, Failure, FailureCause, JobSpec, Output as Wanted};
use crate::task::Value;
use crate::task::codec::Codec;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How requests get to the supervisor.
pub(crate) trait Uplink: Send + Sync {
    /// Sends a request, now or later. In a program it does not wait: handles are dropped in async code, too.
    fn send(&self, request: Request) -> Result<()>;

    /// What to wait for before more work is sent, if too much waits to be sent already.
    fn room(&self) -> Option<Reply> {
        None
    }

    /// Ends the connection, and what it was for; waits for that.
    fn close(&self);
}

/// Counts that the supervisor keeps for a client.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) done: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// What is remembered of a run while outputs of it are to come.
struct Entry {
    run: Weak<Run>,
    /// Task of each output, ascending, with its slot.
    outputs: Vec<(u32, u32)>,
    /// To name what fails. Empty when nothing can fail any more: it may hold the last handles of other results.
    graph: Graph,
    /// For each task of the job, the last of the graph's tasks it stands for.
    ends: Vec<u32>,
    /// Outputs that have not been released.
    claims: usize,
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
    uplink: Box<dyn Uplink>,
    session: SessionId,
    pool: SegmentPool,
    description: Description,
    runs: Mutex<FxHashMap<u32, Entry>>,
    next_run: AtomicU32,
    replies: Mutex<FxHashMap<u64, Reply>>,
    next_ticket: AtomicU64,
    total: AtomicU64,
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

    fn check_open(&self) -> Result<()> {
        match &*self.closed.lock() {
            Some(reason) => Err(Error::Closed { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Takes in a word of the supervisor.
    pub(crate) fn hear(&self, word: ToSession) {
        match word {
            ToSession::Deliveries(deliveries) => self.deliver(deliveries),
            ToSession::Answer(ticket, answer) => {
                let reply = self.replies.lock().remove(&ticket);
                if let Some(reply) = reply {
                    reply.set(Ok(answer));
                }
            }
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
            let runs = self.runs.lock();
            let Some(entry) = runs.get(&number) else { continue };
            let Some(run) = entry.run.upgrade() else { continue };
            let mut news = Vec::with_capacity(deliveries.len() + 1);
            let mut next = Some(first);
            let mut failed = 0;
            while let Some(delivery) = next {
                if let Ok(at) = entry.outputs.binary_search_by_key(&delivery.index, |o| o.0) {
                    let slot = entry.outputs[at].1;
                    let new = match delivery.result {
                        Ok(Delivered::Value(payload)) => Slot::Payload(payload),
                        Ok(Delivered::Ready { nbytes }) => Slot::Remote { nbytes, asked: false },
                        Err(failure) => {
                            failed += 1;
                            // Its value may be lost, or not get here, when its graph has been forgotten.
                            let own = run.task(slot) == Some(failure.task);
                            Slot::Failed(self.error(&runs, entry, &failure, run.label(slot), own))
                        }
                    };
                    news.push((slot, new));
                }
                next = deliveries.next_if(|d| d.job.number == number);
            }
            drop(runs);
            self.counters.failed.fetch_add(failed, Ordering::Relaxed);
            run.settle(news);
            // What failed is the failure of later runs, too, which must be able to name it.
            if run.has_succeeded() {
                let graph = self.runs.lock().get_mut(&number).map(|entry| std::mem::take(&mut entry.graph));
                drop(graph);
            }
        }
    }

    /// The error that a failure is, with the names that this side knows: of an output, whose `own` it is or that needed
    /// what failed.
    fn error(
        &self,
        runs: &FxHashMap<u32, Entry>,
        entry: &Entry,
        failure: &Failure,
        output: &Label,
        own: bool,
    ) -> TaskError {
        let named = match &failure.call {
            Some((name, hash)) => Some((node::key(name, *hash), name.clone())),
            None if own => Some((output.key(), output.name())),
            None => {
                let its = runs.get(&failure.task.job.number).and_then(|entry| {
                    let end = *entry.ends.get(failure.task.index as usize)?;
                    let node = entry.graph.nodes.get(end as usize)?;
                    Some((node.key(), node.name()))
                });
                its.or_else(|| entry.graph.nodes.iter().find_map(|node| handle_of(node, failure.task)))
            }
        };
        let (key, name) = named.unwrap_or_else(|| (format!("task-{}", failure.task), "task".to_string()));
        TaskError::new(key, name, failure.worker.clone(), Some(output.key()), cause(&failure.cause))
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
            run.fail_rest(|label| self::closed(label, reason));
        }
        for reply in std::mem::take(&mut *self.replies.lock()).into_values() {
            reply.set(Err(Error::Closed { reason: reason.to_string() }));
        }
    }

    fn job(&self, number: u32) -> JobId {
        JobId { session: self.session, number }
    }

    /// Registers a run and sends its job.
    fn send(&self, number: u32, entry: Entry, spec: JobSpec) -> Result<()> {
        self.check_open()?;
        let (tasks, data) = (spec.len(), spec.data.len());
        self.total.fetch_add((tasks - data) as u64, Ordering::Relaxed);
        if spec.outputs.is_empty() {
            return Ok(());
        }
        self.runs.lock().insert(number, entry);
        self.uplink.send(Request::Submit { number, spec }).inspect_err(|_| {
            self.runs.lock().remove(&number);
        })
    }

    /// The tasks of some outputs of a run.
    fn tasks(run: &Run, slots: &[u32]) -> Vec<u32> {
        let mut tasks: Vec<u32> =
            slots.iter().filter(|&&s| run.alias(s).is_none()).filter_map(|&s| run.task(s)).map(|t| t.index).collect();
        tasks.sort_unstable();
        tasks
    }

    fn tell(&self, request: Request) {
        if self.check_open().is_ok()
            && let Err(e) = self.uplink.send(request)
        {
            log::debug!("the supervisor is not told: {e}");
        }
    }
}

/// Key and name of a task, if the node is a handle of its result.
fn handle_of(node: &Node, task: TaskId) -> Option<(String, String)> {
    match &node.kind {
        Kind::Held(output) if output.run.task(output.slot) == Some(task) => Some((node.key(), node.name())),
        _ => None,
    }
}

/// Hands the result of an earlier output on to a slot of a later run.
fn forward(from: Arc<Output>, to: Weak<Run>, slot: u32) {
    let Some(run) = to.upgrade() else { return };
    let again = || {
        let from = Arc::clone(&from);
        Watcher::Call(Box::new(move || forward(from, to, slot)))
    };
    if let Some(here) = from.run.poll_here(from.slot, again) {
        let new = match here {
            Ok(super::output::Here::Value(value)) => Slot::Value(value),
            Ok(super::output::Here::Payload(payload)) => Slot::Payload(payload),
            Err(e) => Slot::Failed(e),
        };
        run.settle([(slot, new)]);
    }
}

fn closed(label: &Label, reason: &str) -> TaskError {
    TaskError::new(label.key(), label.name(), None, None, Cause::Closed { reason: reason.to_string() })
}

fn cause(cause: &FailureCause) -> Cause {
    match cause.clone() {
        FailureCause::Panic { message, location, backtrace } => Cause::Panic { message, location, backtrace },
        FailureCause::Returned { message, type_name, value } => {
            Cause::Returned(ReturnedError::encoded(message, type_name, value))
        }
        FailureCause::WorkerDied(records) => Cause::WorkerDied(records),
        FailureCause::MemoryLimit { limit, peak, records } => Cause::MemoryLimit { limit, peak, records },
        FailureCause::TimedOut { limit_ms } => Cause::TimedOut { limit: Duration::from_millis(limit_ms) },
        FailureCause::Cancelled => Cause::Cancelled,
        FailureCause::Encode { type_name, reason } => Cause::Encode { type_name, reason },
        FailureCause::Decode { type_name, reason } => Cause::Decode { type_name, reason },
        FailureCause::Resource { reason } => Cause::Resource { reason },
        FailureCause::InputLost { reason } => Cause::InputLost { reason },
        FailureCause::Infeasible { reason } => Cause::Infeasible { reason },
    }
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

    fn room(&self) -> Option<Reply> {
        self.uplink.room()
    }

    fn submit(self: Arc<Self>, graph: Graph, want: Want) -> Result<Arc<Run>> {
        self.check_open()?;
        let wired = graph.wire(Some(&self.pool), want == Want::Values)?;
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        let run = Run::new(number, self.clone(), &graph);
        let mut places = Vec::with_capacity(run.len());
        let mut tasks = wired.spec.outputs.iter().map(|o| o.index);
        let mut aliases = Vec::new();
        for (slot, id) in graph.outputs().into_iter().enumerate() {
            places.push(match &graph.nodes[id as usize].kind {
                Kind::Held(output) => {
                    aliases.push((slot as u32, Arc::clone(output)));
                    Place::Alias(Arc::clone(output))
                }
                Kind::Call { .. } => Place::Task(tasks.next().unwrap_or(EXTERNAL)),
            });
        }
        run.set_remote(RemotePlaces { job: Some(self.job(number)), places });
        let outputs: Vec<_> = wired.spec.outputs.iter().map(|o| o.index).zip(wired.slots).collect();
        let n = outputs.len();
        let entry = Entry { run: Arc::downgrade(&run), claims: n, outputs, graph, ends: wired.ends };
        self.send(number, entry, wired.spec)?;
        if want == Want::Values {
            aliases.into_iter().for_each(|(slot, from)| forward(from, Arc::downgrade(&run), slot));
        }
        Ok(run)
    }

    fn scatter(self: Arc<Self>, values: Vec<(Value, &'static Codec, Label)>, broadcast: bool) -> Result<Arc<Run>> {
        self.check_open()?;
        let n = values.len() as u32;
        let ends = vec![0; n as usize];
        let mut spec = JobSpec { body_ends: ends.clone(), dep_ends: ends, broadcast, ..JobSpec::default() };
        let mut labels = Vec::with_capacity(values.len());
        for (index, (value, codec, label)) in (0..).zip(values) {
            let payload =
                wire::encode(Some(&self.pool), &value, codec).map_err(|e| e.for_argument(label.key(), codec))?;
            spec.data.push((index, payload));
            spec.outputs.push(Wanted { index, deliver: false });
            labels.push(label);
        }
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        let run = Run::of_values(number, self.clone(), labels);
        run.set_remote(RemotePlaces { job: Some(self.job(number)), places: (0..n).map(Place::Task).collect() });
        // The client has the values already, as they are.
        run.settle(spec.data.iter().map(|(index, payload)| (*index, Slot::Payload(payload.clone()))));
        let entry = Entry {
            run: Arc::downgrade(&run),
            outputs: (0..n).map(|i| (i, i)).collect(),
            graph: Graph::default(),
            ends: Vec::new(),
            claims: n as usize,
        };
        self.send(number, entry, spec)?;
        Ok(run)
    }

    fn ask(&self, run: &Run, slot: u32) {
        self.tell(Request::Deliver { number: run.number, outputs: Self::tasks(run, &[slot]) });
    }

    fn release(&self, run: &Run, slots: &[u32]) {
        let outputs = Self::tasks(run, slots);
        if outputs.is_empty() {
            return;
        }
        let forgotten = {
            let mut runs = self.runs.lock();
            match runs.get_mut(&run.number) {
                Some(entry) => {
                    entry.claims = entry.claims.saturating_sub(outputs.len());
                    if entry.claims == 0 { runs.remove(&run.number) } else { None }
                }
                None => None,
            }
        };
        self.tell(Request::Release { number: run.number, outputs });
        // Its graph may hold the last handles of other results, which come back here.
        drop(forgotten);
    }

    fn cancel(&self, run: &Arc<Run>, slots: &[u32]) {
        let outputs = Self::tasks(run, slots);
        self.tell(Request::Cancel { number: run.number, outputs });
        run.settle(slots.iter().map(|&s| (s, Slot::Failed(cancelled(run.label(s))))));
    }

    fn retry(self: Arc<Self>, run: &Arc<Run>, slot: u32) -> Result<()> {
        self.check_open()?;
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

    fn ask_cluster(&self, question: Question) -> Reply {
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
        self.replies.lock().insert(ticket, reply.clone());
        if let Err(e) = self.uplink.send(Request::Ask { ticket, question }) {
            self.replies.lock().remove(&ticket);
            reply.set(Err(e));
        }
        reply
    }

    fn explain(&self, run: &Run, slot: u32) -> Reply {
        match run.task(slot) {
            Some(task) => self.ask_cluster(Question::Explain(task.job, task.index)),
            None => Reply::ready(Ok(Answer::Text(format!("{} is given", run.label(slot).key())))),
        }
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
