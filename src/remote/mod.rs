//! The client's side of worker processes: graphs go to a supervisor, word of their outputs comes back.
//!
//! It is the same for a supervisor in this process, for a local cluster behind a socket, and inside a task of a worker;
//! only the [`Uplink`] differs.

mod failure;
mod groups;
pub(crate) mod map;

use crate::coordinator;
use crate::error::{Cause, Error, Result};
use crate::events::EventKind;
use crate::events::journal::Step;
use crate::events::sources::RunSources;
use crate::graph::label::TaskLabel;
use crate::graph::map::MapTasks;
use crate::graph::wire::{Wired, argument_error};
use crate::graph::{Dag, Graph};
use crate::host::report;
use crate::ids::{JobId, SessionId, TaskId};
use crate::ipc::fork::Origin;
use crate::ipc::payload::Payload;
use crate::ipc::segment::SegmentPool;
use crate::job::explained::Explained;
use crate::job::{Delivered, Delivery, JobSpec, WantedResult};
use crate::message::question::{Ask, Explain, Groups};
use crate::message::{Answer, Question, Request, ToSession};
use crate::resources::Resources;
use crate::settings::{MOST_WORKERS, Settings};
use crate::status::{Mode, Progress};
use crate::submission::Again;
use crate::submission::backend::{Backend, Shown, Want};
use crate::submission::callbacks::Callbacks;
use crate::submission::calls::{Given, OpenCalls};
use crate::submission::context::{ClientId, encoding_for};
use crate::submission::explain::{called, of_output};
use crate::submission::handle::{LocalValue, ResultHandle, ResultState, Submission, Waiter};
use crate::submission::handle::{SHUT_DOWN, cancelled, closed, not_started};
use crate::submission::reply::Reply;
use crate::submission::task_map::{Dropped, IndexRanges, TaskMap};
use crate::submission::waiter::telling;
use crate::task::Value;
use crate::task::building::Building;
use crate::task::codec::Codec;
use crate::task::encode::{EncodeError, encode};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use swath_insight::TaskState;
use swath_insight::explain::{Explanation, Why};

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

    /// The same for a request about locks, queues and so on, of a thread that holds no lock.
    fn coordinate(&self, request: coordinator::Request<Payload>) -> Result<()> {
        self.send(Request::Coordinate(request))
    }

    /// As [`Backend::pass`].
    fn pass(&self, time: Duration) {
        std::thread::park_timeout(time);
    }

    /// As [`Backend::sources`].
    fn sources(&self) -> Option<Arc<RunSources>> {
        None
    }

    /// Ends the connection, and what it was for; waits for that.
    fn close(&self);
}

/// Word of so many outputs that nobody holds any more is sent together, if nothing waits for it.
const RELEASES: usize = 256;

/// What is remembered of a submission while outputs of it are to come.
pub(crate) struct SubmissionEntry {
    pub(crate) submission: Weak<Submission>,
    /// Outputs that have not been released, and one more while there are outputs that have not been sent.
    pub(crate) unreleased: u32,
    /// What was said of some of its tasks.
    pub(crate) said: Option<Box<Said>>,
}

/// What this side has said of tasks of a submission.
#[derive(Default)]
pub(crate) struct Said {
    /// Tasks that have been released, of which the supervisor has not been told.
    pub(crate) released: Vec<u32>,
    /// Tasks that this side has cancelled, and of which the supervisor may still say so.
    pub(crate) cancelled: FxHashSet<u32>,
}

impl SubmissionEntry {
    /// `unreleased`: see there.
    pub(crate) fn new(submission: &Arc<Submission>, unreleased: u32) -> Self {
        Self { submission: Arc::downgrade(submission), unreleased, said: None }
    }
}

/// What the client is called when it is printed.
pub(crate) struct Description {
    head: String,
    /// The sizes of its workers, as far as it knows: others may change the number of a local cluster's.
    settings: Option<Mutex<Settings>>,
    /// What each worker has of resources, where that is all that is known of them.
    resources: Option<Vec<Resources>>,
}

impl Description {
    pub(crate) fn new(head: String, settings: Option<Settings>) -> Self {
        Self { head, settings: settings.map(Mutex::new), resources: None }
    }

    /// That of a client inside a task.
    pub(crate) fn inside(worker: &str, resources: Vec<Resources>) -> Self {
        let head = format!("processes client inside {worker}");
        Self { head, settings: None, resources: Some(resources) }
    }

    /// What each worker has of resources.
    fn resources(&self) -> Option<Vec<Resources>> {
        let known = self.settings.as_ref().map(|settings| settings.lock().resources_of_workers());
        known.or_else(|| self.resources.clone())
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

/// Why nothing comes any more.
#[derive(Clone)]
struct Closing {
    reason: String,
    /// No worker could be set up.
    unstarted: bool,
}

impl Closing {
    fn error(&self) -> Error {
        let reason = self.reason.clone();
        if self.unstarted { Error::Spawn { reason } } else { Error::Closed { reason } }
    }
}

pub(crate) struct Remote {
    pub(crate) uplink: Box<dyn Uplink>,
    session: SessionId,
    pub(crate) pool: SegmentPool,
    description: Description,
    pub(crate) submissions: Mutex<FxHashMap<u32, SubmissionEntry>>,
    pub(crate) next_number: AtomicU32,
    replies: Mutex<FxHashMap<u64, Reply>>,
    next_ticket: AtomicU64,
    calls: OpenCalls,
    groups: groups::RemoteGroups,
    closed: Mutex<Option<Closing>>,
    shut: AtomicBool,
    origin: Origin,
    callbacks: Arc<Callbacks>,
}

impl Remote {
    /// Encodes a value for what runs the tasks.
    fn encode(&self, value: &Value, codec: &Codec) -> std::result::Result<Payload, EncodeError> {
        encoding_for(ClientId::of(self), || encode(Some(&self.pool), value, codec))
    }

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
            submissions: Mutex::default(),
            next_number: AtomicU32::new(0),
            replies: Mutex::default(),
            next_ticket: AtomicU64::new(0),
            calls: OpenCalls::default(),
            groups: groups::RemoteGroups::default(),
            closed: Mutex::new(None),
            shut: AtomicBool::new(false),
            origin: Origin::here(),
            callbacks: Arc::default(),
        })
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        // Before any lock: another thread may have had it when the process was forked.
        if let Some(reason) = self.origin.reason() {
            return Err(Error::Closed { reason });
        }
        match &*self.closed.lock() {
            Some(closing) => Err(closing.error()),
            None => Ok(()),
        }
    }

    /// Takes in a word of the supervisor.
    pub(crate) fn receive(&self, word: ToSession) {
        telling(|| self.take_in(word));
    }

    fn take_in(&self, word: ToSession) {
        match word {
            ToSession::Deliveries(deliveries) => self.deliver(deliveries),
            ToSession::Answer(ticket, answer) => {
                let reply = self.replies.lock().remove(&ticket);
                if let Answer::Retired { left } = answer {
                    self.description.scaled(left);
                }
                if let Some(reply) = reply {
                    reply.set(Ok(answer));
                }
            }
            ToSession::Called(ticket, answer) => self.calls.answer(ticket, answer.map(LocalValue::Payload)),
            ToSession::Abandon(segments) => self.pool.abandon(&segments),
            ToSession::Return(segments) => {
                segments.into_iter().for_each(|(id, deliveries)| self.pool.returned(id, deliveries));
                let ended = self.pool.take_ended();
                if !ended.is_empty()
                    && let Err(e) = self.uplink.send(Request::FilesEnded(ended))
                {
                    report!(Debug, "others keep memory files mapped that have ended: {e}");
                }
            }
            // Whoever reads what is sent from elsewhere has what it mapped.
            ToSession::FilesEnded(_) => {}
            ToSession::Closed { reason, unstarted } => self.end(Closing { reason, unstarted }),
            ToSession::Refused { number, reason } => {
                let entry = self.submissions.lock().remove(&number);
                if let Some(submission) = entry.and_then(|e| e.submission.upgrade()) {
                    submission.fail_rest(|label| closed(label, &reason));
                }
            }
        }
    }

    fn deliver(&self, deliveries: Vec<Delivery>) {
        let mut deliveries = deliveries.into_iter().peekable();
        while let Some(first) = deliveries.next() {
            let number = first.job.number;
            let submission = self.submissions.lock().get(&number).and_then(|entry| entry.submission.upgrade());
            let Some(submission) = submission else { continue };
            let Some(task_map) = submission.task_map() else { continue };
            let mut news = Vec::with_capacity(1 + deliveries.len());
            let (mut next, mut near) = (Some(first), None);
            while let Some(word) = next {
                next = deliveries.next_if(|d| d.job.number == number);
                let Some(index) = task_map.index(word.index, &mut near) else { continue };
                let state = match word.result {
                    Ok(Delivered::Value(payload)) => ResultState::Payload(payload),
                    Ok(Delivered::Ready { nbytes }) => ResultState::Remote { nbytes, asked: false },
                    Err(failure) => {
                        // Its value may be lost, or not get here, when its graph has been forgotten.
                        let own = submission.task(index) == Some(failure.task);
                        if own && matches!(failure.cause, Cause::Cancelled) && self.knew(failure.task) {
                            continue;
                        }
                        ResultState::Failed(Self::error(&failure, &submission.label(index), own))
                    }
                };
                news.push((index, state));
            }
            submission.settle(news);
        }
    }

    /// Cancels tasks that have been sent.
    pub(crate) fn cancel_tasks(&self, number: u32, outputs: Vec<u32>) {
        if let Some(entry) = self.submissions.lock().get_mut(&number) {
            entry.said.get_or_insert_default().cancelled.extend(&outputs);
        }
        self.send_quietly(Request::Cancel { number, outputs });
    }

    /// Whether this side has cancelled the task, which is said only once: it may have been told to run again since.
    fn knew(&self, task: TaskId) -> bool {
        self.submissions
            .lock()
            .get_mut(&task.job.number)
            .and_then(|entry| entry.said.as_mut())
            .is_some_and(|said| said.cancelled.remove(&task.index))
    }

    /// Closes this side: nothing will come any more.
    pub(crate) fn close(&self, reason: &str) {
        self.end(Closing { reason: reason.to_string(), unstarted: false });
    }

    fn end(&self, closing: Closing) {
        {
            let mut closed = self.closed.lock();
            if closed.is_some() {
                return;
            }
            *closed = Some(closing.clone());
        }
        let submissions = std::mem::take(&mut *self.submissions.lock());
        for submission in submissions.into_values().filter_map(|e| e.submission.upgrade()) {
            submission.fail_rest(|label| match closing.unstarted {
                true => not_started(label, &closing.reason),
                false => closed(label, &closing.reason),
            });
        }
        let replies = std::mem::take(&mut *self.replies.lock());
        for reply in replies.into_values() {
            reply.set(Err(closing.error()));
        }
        self.calls.close(&closing.error());
    }

    pub(crate) fn job(&self, number: u32) -> JobId {
        JobId { session: self.session, number }
    }

    /// Registers a submission and sends its job.
    fn send(&self, number: u32, entry: SubmissionEntry, mut spec: JobSpec) -> Result<()> {
        spec.building = Building::current().states().to_vec();
        self.check_open()?;
        if spec.outputs.is_empty() {
            return Ok(());
        }
        {
            let mut submissions = self.submissions.lock();
            // What is put there after the end would never hear of it.
            self.check_open()?;
            submissions.insert(number, entry);
        }
        self.uplink.send(Request::Submit { number, spec }).inspect_err(|_| {
            self.submissions.lock().remove(&number);
        })
    }

    /// The tasks of some outputs of a submission that have been sent.
    fn tasks(submission: &Submission, indices: &[u32]) -> Vec<u32> {
        let Some(task_map) = submission.task_map() else { return Vec::new() };
        let mut tasks: Vec<u32> = indices.iter().filter_map(|&index| task_map.task(index)).collect();
        tasks.sort_unstable();
        tasks
    }

    /// Tells the supervisor that nobody holds some outputs any more: at once, unless that can wait for others.
    pub(crate) fn released(&self, number: u32, outputs: Vec<u32>, light: bool) {
        let outputs = {
            let mut submissions = self.submissions.lock();
            let Some(entry) = submissions.get_mut(&number) else { return };
            entry.unreleased = entry.unreleased.saturating_sub(outputs.len() as u32);
            let waits = light && entry.unreleased > 0;
            let outputs = match &mut entry.said {
                None if !waits => outputs,
                said => {
                    let said = said.get_or_insert_default();
                    said.released.extend(outputs);
                    if waits && said.released.len() < RELEASES {
                        return;
                    }
                    std::mem::take(&mut said.released)
                }
            };
            if entry.unreleased == 0 {
                submissions.remove(&number);
            }
            outputs
        };
        self.send_quietly(Request::Release { number, outputs });
    }

    pub(crate) fn send_quietly(&self, request: Request) {
        if self.check_open().is_ok()
            && let Err(e) = self.uplink.send(request)
        {
            report!(Debug, "the supervisor is not told: {e}");
        }
    }
}

/// Hands the result of an earlier output on to an output of a later submission, which has a handle of it. With that goes the
/// claim to the result, if nobody else has one.
pub(crate) fn forward(from: &Weak<Submission>, output: u32, to: Weak<Submission>, index: u32) {
    let (Some(earlier), Some(submission)) = (from.upgrade(), to.upgrade()) else { return };
    let again = || {
        let from = Weak::clone(from);
        Waiter::Call(Box::new(move || forward(&from, output, to, index)))
    };
    if let Some(here) = earlier.poll_here(output, again) {
        let new = match here {
            Ok(super::submission::handle::LocalValue::Value(value)) => ResultState::Value(value),
            Ok(super::submission::handle::LocalValue::Payload(payload)) => ResultState::Payload(payload),
            Err(e) => ResultState::Failed(e),
        };
        submission.settle([(index, new)]);
    }
}

impl Backend for Remote {
    fn mode(&self) -> Mode {
        Mode::Processes
    }

    fn describe(&self) -> String {
        if let Some(reason) = self.origin.reason() {
            return format!("processes client, closed: {reason}");
        }
        match &*self.closed.lock() {
            None => format!("{}, running", self.description),
            Some(closing) => format!("{}, closed: {}", self.description, closing.reason),
        }
    }

    fn resources(&self) -> Option<Vec<Resources>> {
        self.description.resources()
    }

    fn room(&self) -> Option<Reply<()>> {
        if self.origin.is_elsewhere() { None } else { self.uplink.room() }
    }

    fn poll(&self) {
        if !self.origin.is_elsewhere() {
            self.uplink.poll();
        }
    }

    fn pass(&self, time: Duration) {
        self.uplink.pass(time);
    }

    fn submit(self: Arc<Self>, dag: Dag, want: Want) -> Result<Arc<Submission>> {
        self.check_open()?;
        let Wired { mut spec, indices } =
            encoding_for(ClientId::of(&*self), || dag.wire(Some(&self.pool), want.here()))?;
        spec.fails_fast = want == Want::ValuesOrFailure;
        spec.priority = dag.priority;
        spec.parent = crate::task::context::id();
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        // It has all that a retry needs in the spec. With the graph go handles that it has of earlier results, which the
        // supervisor is told of behind the job that uses them.
        let graph = Graph::Dag(dag);
        let submission = Submission::new(number, self.clone(), &graph, want, Again::Elsewhere);
        let mut rows = IndexRanges::default();
        indices.iter().zip(&spec.outputs).for_each(|(index, output)| rows.push(*index, output.index));
        let aliases = match &graph {
            Graph::Dag(dag) if indices.len() < submission.len() => {
                let held = |(index, id): (u32, u32)| Some((index, ResultHandle::of(dag.held(id)?)?.first()));
                (0..).zip(dag.outputs()).filter_map(held).collect()
            }
            _ => Vec::new(),
        };
        let forwarded = if want.here() { aliases.clone() } else { Vec::new() };
        submission.set_task_map(TaskMap::whole(self.job(number), rows, aliases));
        let entry = SubmissionEntry::new(&submission, spec.outputs.len() as u32);
        self.send(number, entry, spec)?;
        for (index, from) in forwarded {
            forward(&Arc::downgrade(&from.submission), from.index, Arc::downgrade(&submission), index);
        }
        Ok(submission)
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
            let payload = self.encode(&value, codec).map_err(|e| argument_error(e, label.key(), codec))?;
            spec.data.push((index, payload));
            spec.outputs.push(WantedResult { index, deliver: false });
            labels.push(label);
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let submission = Submission::of_values(number, self.clone(), labels);
        let mut rows = IndexRanges::default();
        (0..n).for_each(|i| rows.push(i, i));
        submission.set_task_map(TaskMap::whole(self.job(number), rows, Vec::new()));
        // The client has the values already, as they are.
        submission.settle(spec.data.iter().map(|(index, payload)| (*index, ResultState::Payload(payload.clone()))));
        let entry = SubmissionEntry::new(&submission, n);
        self.send(number, entry, spec)?;
        Ok(submission)
    }

    fn expect(self: Arc<Self>, label: TaskLabel) -> Result<Arc<Submission>> {
        self.check_open()?;
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let submission = Submission::of_values(number, self.clone(), vec![label]);
        let mut rows = IndexRanges::default();
        rows.push(0, 0);
        submission.set_task_map(TaskMap::whole(self.job(number), rows, Vec::new()));
        let mut submissions = self.submissions.lock();
        self.check_open()?;
        submissions.insert(number, SubmissionEntry::new(&submission, 1));
        drop(submissions);
        Ok(submission)
    }

    fn fetch(&self, submission: &Submission, indices: &[u32]) {
        self.send_quietly(Request::Deliver { number: submission.number, outputs: Self::tasks(submission, indices) });
    }

    fn release(&self, submission: &Submission, indices: &[u32]) {
        if self.origin.is_elsewhere() {
            return;
        }
        let Some(task_map) = submission.task_map() else { return };
        let outputs = task_map.drop_outputs(indices, Dropped::Released);
        if outputs.is_empty() {
            return;
        }
        // What is here and small takes no room elsewhere that is worth a message of its own.
        let light = indices.len() == 1
            && submission
                .with_state(indices[0], |state| matches!(state, ResultState::Payload(payload) if payload.is_small()));
        self.released(submission.number, outputs, light);
    }

    fn cancel(&self, submission: &Arc<Submission>, indices: &[u32]) {
        if self.origin.is_elsewhere() {
            return;
        }
        let outputs = submission
            .task_map()
            .map(|task_map| task_map.drop_outputs(indices, Dropped::Cancelled))
            .unwrap_or_default();
        if !outputs.is_empty() {
            self.cancel_tasks(submission.number, outputs);
        }
        submission.settle(indices.iter().map(|&s| (s, ResultState::Failed(cancelled(&submission.label(s))))));
    }

    fn retry(self: Arc<Self>, submission: &Arc<Submission>, index: u32) -> Result<()> {
        self.check_open()?;
        if submission.task_map().is_some_and(|task_map| task_map.task(index).is_none()) {
            return self.retry_unsent(submission, index);
        }
        if submission.reopen(index) {
            self.uplink
                .send(Request::Retry { number: submission.number, outputs: Self::tasks(submission, &[index]) })?;
        }
        Ok(())
    }

    fn sources(&self) -> Option<Arc<RunSources>> {
        self.uplink.sources()
    }

    fn note(&self, task: Option<TaskId>, kind: EventKind) {
        // Where the connection has gone, nobody is left to be told.
        let step = Step { session: task.map(|task| task.job.session), kind };
        let _ = self.uplink.send(Request::Note(Box::new(step)));
    }

    fn progress(&self) -> Progress {
        if self.origin.is_elsewhere() {
            return Progress::default();
        }
        self.groups.progress(|| Groups::answer(self.ask(Groups.question()).wait()?))
    }

    fn coordinate(&self, request: coordinator::Request<Given>) -> Result<()> {
        self.check_open()?;
        let named = request.names().map(|(target, _)| format!("the {} `{}`", target.kind.name(), target.name));
        let request = request.try_map(|given| match given {
            Given::New(value, codec) => {
                self.encode(&value, codec).map_err(|e| argument_error(e, named.unwrap_or_default(), codec))
            }
            Given::Back(LocalValue::Payload(payload)) => Ok(payload),
            // There are none of other processes.
            Given::Back(LocalValue::Value(_)) => Err(Error::Closed { reason: "another client's value".to_string() }),
        })?;
        self.uplink.coordinate(request)
    }

    fn open_calls(&self) -> &OpenCalls {
        &self.calls
    }

    fn ask(&self, question: Question) -> Reply {
        if let Err(e) = self.check_open() {
            return Reply::ready(Err(e));
        }
        let reply = Reply::new();
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
            let asked = self.replies.lock().remove(&ticket);
            drop(asked);
            reply.set(Err(e));
        }
        reply
    }

    fn explain(&self, submission: &Submission, index: u32) -> Reply {
        if let Some(task) = submission.task(index) {
            return self.ask(Explain(task).question());
        }
        let (state, why) = of_output(submission, index).unwrap_or_else(|| {
            let ahead = submission.task_map().map_or(0, |task_map| task_map.unsent_before(index));
            (TaskState::Waiting, Why::NotSent { ahead })
        });
        let mut explanation = Explanation::new(called(&submission.label(index)), state, why);
        explanation.task.graph = Some(submission.number);
        let task = TaskId { job: self.job(submission.number), index };
        Reply::ready(Ok(Answer::Explained(Box::new(Explained::of(task, explanation)))))
    }

    fn held(&self) -> Vec<Arc<Submission>> {
        if self.origin.is_elsewhere() {
            return Vec::new();
        }
        let entries: Vec<_> = self.submissions.lock().values().map(|entry| Weak::clone(&entry.submission)).collect();
        // Not under the lock: it may be the last to have one, with values of the user's.
        entries.into_iter().filter_map(|submission| submission.upgrade()).collect()
    }

    fn shutdown(&self) {
        // Also where the supervisor has given up already: it still has to end.
        if !self.origin.is_elsewhere() && !self.shut.swap(true, Ordering::AcqRel) {
            self.uplink.close();
            self.close(SHUT_DOWN);
        }
    }

    fn is_closed(&self) -> bool {
        self.check_open().is_err()
    }

    fn callbacks(&self) -> &Arc<Callbacks> {
        &self.callbacks
    }

    fn origin(&self) -> Origin {
        self.origin
    }
}
