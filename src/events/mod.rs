//! What has happened: every run of a task, every graph and every worker, with time stamps.
//!
//! Recording is always on and costs some twenty nanoseconds a task. [`Client::events`](crate::Client::events) gives what
//! was recorded; [`EventLog::save`] and [`Client::save_events`](crate::Client::save_events) write it to a file, which
//! [`EventLog::open`] reads, and [`saved::SavedLog`] bit by bit.

// Runs of tasks go into a bounded `ipc::ring`, one for each thread of the threads mode, one on each worker's control page
// (which outlives the worker), one for the sync mode. Graphs and workers change seldom and have a `journal`.

pub(crate) mod explain;
pub(crate) mod file;
mod filter;
pub(crate) mod following;
pub(crate) mod journal;
pub(crate) mod label;
pub(crate) mod lines;
pub(crate) mod programs;
pub(crate) mod reading;
pub(crate) mod recent_lines;
pub(crate) mod recorder;
pub(crate) mod sources;

/// Why a run took as long as it did.
pub use swath_insight::diagnosis;
/// Saved logs: what is in them, how they are written, read and exported.
pub use swath_insight::log as saved;

use crate::error::{DeathCause, Error, LogLine, Result};
use crate::ipc::clock::{Clock, Ruler, ticks};
use crate::ipc::ring::{Ended, RingRecord};
use crate::status::Progress;
use crate::task::function::{Record as Function, short_name};
use crate::task::image::build_id;
pub use filter::EventFilter;
use following::Following;
use journal::{ClientStep, JournalEntry, Step};
pub use label::{Label, label};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use saved::Head;
pub use saved::{Event, EventKind, Outcome, Run};
use serde::{Deserialize, Serialize};
use sources::RunSources;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use swath_insight::GroupProgress;

/// How many runs are kept for each worker or thread, if nothing else is said.
pub(crate) const DEFAULT_CAPACITY: usize = 4096;
/// The most that may be asked for.
pub(crate) const MOST: usize = 1 << 20;

/// What was recorded of a worker's death, where an event is one: the cause that its [`DeathRecord`] has.
///
/// [`DeathRecord`]: crate::error::DeathRecord
#[must_use]
pub fn death_cause(event: &EventKind) -> Option<DeathCause> {
    match event {
        // A cause of a later version is not known here.
        EventKind::WorkerLost { cause, .. } => Some(serde_json::from_value(cause.clone()).unwrap_or_default()),
        _ => None,
    }
}

/// Most bytes of what a note is about, and of what it says, as JSON.
const LONGEST_NOTE: (usize, usize) = (256, 64 << 10);

/// The event of a note, if it is not too long.
pub(crate) fn checked_note(key: Option<String>, topic: &str, value: &(impl Serialize + ?Sized)) -> Result<EventKind> {
    let (most, most_value) = LONGEST_NOTE;
    if topic.len() > most {
        return Err(Error::invalid(
            "note",
            format!("its topic has {} bytes, and {most} at most are kept", topic.len()),
        ));
    }
    let json =
        serde_json::to_vec(value).map_err(|e| Error::invalid("note", format!("it is not written as JSON: {e}")))?;
    if json.len() > most_value {
        return Err(Error::invalid(
            "note",
            format!("it takes {} bytes as JSON, and {most_value} at most are kept", json.len()),
        ));
    }
    let value = serde_json::from_slice(&json).map_err(|e| Error::invalid("note", e.to_string()))?;
    Ok(EventKind::Note { key, topic: topic.to_string(), value })
}

/// What has happened since a client was opened, as far as it is still known: the last runs of each worker or thread, and
/// the last events of graphs, workers, and tasks between their runs.
///
/// ```
/// use swath::events::{EventKind, Outcome};
/// use swath::{Client, delayed};
/// let client = Client::threads(2);
/// client.compute(&delayed(|x: i64| x + 1).call(1))?;
/// let log = client.events()?;
/// assert_eq!(log.runs().iter().filter(|run| run.outcome == Outcome::Finished).count(), 1);
/// assert!(matches!(log.events()[0].kind, EventKind::GraphSubmitted { tasks: 1, .. }));
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EventLog {
    head: Head,
    runs: Arc<[Run]>,
    events: Arc<[Event]>,
    /// What is missing, in words.
    problems: Vec<String>,
    /// The tasks by name and state, where they were counted.
    groups: Vec<GroupProgress>,
}

/// Equal logs say the same of the same time.
impl PartialEq for EventLog {
    fn eq(&self, other: &Self) -> bool {
        (self.started(), &self.runs, &self.events) == (other.started(), &other.runs, &other.events)
    }
}

impl EventLog {
    /// When the client was opened: what the times of the events count from.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.head.started
    }

    /// The events that are no runs, in the order of time.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The runs of tasks, in the order in which they began.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// What is missing in a log that was [opened](Self::open), in words: it is cut off, for example, or a part of it is
    /// damaged.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The same with what tasks have printed and logged, and with the tasks as they were counted.
    pub(crate) fn with(self, lines: Vec<LogLine>, progress: Progress) -> Self {
        let started = self.started();
        let lines = lines.into_iter().map(|line| lines::line_event(line, started));
        Self { events: self.events.iter().cloned().chain(lines).collect(), groups: progress.groups, ..self }
    }

    /// Of runs and of all else.
    fn of(head: Head, mut runs: Vec<Run>, mut events: Vec<Event>, problems: Vec<String>) -> Self {
        // Stable: what has the same time stamp stays in the order in which it was recorded.
        runs.sort_by_key(|run| run.start);
        events.sort_by_key(|event| event.at);
        Self { head, runs: runs.into(), events: events.into(), problems, groups: Vec::new() }
    }
}

/// The runs that one worker or thread recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerRuns {
    pub(crate) worker: String,
    pub(crate) records: Vec<RingRecord>,
}

/// The records that a mode has of its tasks and workers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct EventRecords {
    pub(crate) runs: Vec<WorkerRuns>,
    pub(crate) steps: Vec<JournalEntry<Step>>,
}

/// Which results tasks take, until a recording has it.
#[derive(Default)]
struct RecordedInputs {
    on: AtomicBool,
    waiting: Mutex<Vec<saved::Input>>,
}

/// The log of one client: when it was opened, and what happened to its graphs.
pub(crate) struct ClientLog {
    clock: Clock,
    started: SystemTime,
    inputs: RecordedInputs,
    pub(crate) steps: journal::Journal<ClientStep>,
}

impl ClientLog {
    pub(crate) fn new() -> Self {
        Self::started_at((Clock::start(), SystemTime::now()))
    }

    /// One whose times count from then.
    pub(crate) fn started_at((clock, started): (Clock, SystemTime)) -> Self {
        Self { clock, started, inputs: RecordedInputs::default(), steps: journal::Journal::new(DEFAULT_CAPACITY) }
    }

    /// Whether it is recorded which results tasks take.
    pub(crate) fn is_recorded(&self) -> bool {
        self.inputs.on.load(Ordering::Relaxed)
    }

    /// Has it recorded which results tasks take, unless it is already; whether it was not.
    pub(crate) fn begin_inputs(&self) -> bool {
        !self.inputs.on.swap(true, Ordering::Relaxed)
    }

    /// Gives what was recorded of it since the last time.
    pub(crate) fn take_inputs(&self) -> Vec<saved::Input> {
        std::mem::take(&mut *self.inputs.waiting.lock())
    }

    /// The end of what [`begin_inputs`](Self::begin_inputs) began.
    pub(crate) fn end_inputs(&self) {
        self.inputs.on.store(false, Ordering::Relaxed);
    }

    /// A line as an event of this log.
    pub(crate) fn line(&self, line: LogLine) -> Event {
        lines::line_event(line, self.started)
    }

    /// Which results the tasks of a graph take; of so many more that is not known.
    pub(crate) fn add_inputs(&self, graph: u32, mut inputs: Vec<saved::Input>, more: u64) {
        inputs.iter_mut().for_each(|input| input.graph = graph);
        self.inputs.waiting.lock().append(&mut inputs);
        if more > 0 {
            let reason = format!("graph {graph} has {more} inputs more than are recorded");
            let since = self.clock.ruler().since_start(ticks());
            self.steps.note(ClientStep::Event(EventKind::Gap { since, runs: 0, events: 0, reason }));
        }
    }

    /// Puts together what is known.
    pub(crate) fn log(&self, from: EventRecords) -> EventLog {
        let ruler = self.clock.ruler();
        let mut events = Vec::new();
        events.extend(self.steps.entries().into_iter().map(|step| client_event(step, &ruler)));
        events.extend(from.steps.into_iter().map(|step| event(step, &ruler)));
        let mut names = Names::default();
        let mut runs = Vec::with_capacity(from.runs.iter().map(|worker| worker.records.len()).sum());
        for WorkerRuns { worker, records } in from.runs {
            let worker = Arc::from(worker);
            runs.extend(records.into_iter().map(|record| run_of(record, &worker, &mut names, &ruler)));
        }
        EventLog::of(self.head(), runs, events, Vec::new())
    }

    /// Has what its cluster tells added to the sources, if it is time for that. The answer is how many events are missing.
    pub(crate) fn look(&self, following: &mut Following, sources: &RunSources, now: bool) -> u64 {
        following.look(sources, &self.clock, self.started, now)
    }

    /// The time that it is, since the start of the log.
    pub(crate) fn now(&self) -> Duration {
        self.clock.ruler().since_start(crate::ipc::clock::ticks())
    }

    /// What a saved log begins with.
    pub(crate) fn head(&self) -> Head {
        head_of(self.started, &self.clock)
    }
}

/// What a log begins with that this program writes.
pub(crate) fn head_of(started: SystemTime, clock: &Clock) -> Head {
    let mut head = Head::new(env!("CARGO_PKG_VERSION"), started);
    head.build = build_id().to_string();
    head.monotonic = clock.started();
    head
}

fn client_event(step: JournalEntry<ClientStep>, ruler: &Ruler) -> Event {
    let kind = match step.what {
        ClientStep::Submitted { graph, tasks, label, parent } => EventKind::GraphSubmitted {
            graph,
            tasks: tasks.into(),
            label: label.map(|label| label.to_string()),
            parent,
        },
        ClientStep::Finished { graph, began } => {
            EventKind::GraphFinished { graph, took: ruler.between(began, step.at) }
        }
        ClientStep::Event(kind) => kind,
    };
    Event::new(ruler.since_start(step.at), kind)
}

pub(crate) fn event(step: JournalEntry<Step>, ruler: &Ruler) -> Event {
    Event::new(ruler.since_start(step.at), step.what.kind)
}

/// The names of functions, each of them once.
#[derive(Default)]
pub(crate) struct Names {
    functions: FxHashMap<u64, Arc<str>>,
    /// Of the last task that has a name of its own.
    last: Option<Arc<str>>,
}

impl Names {
    /// A task's own name.
    pub(crate) fn once<S: AsRef<str> + Into<Arc<str>>>(&mut self, own: S) -> Arc<str> {
        match &self.last {
            Some(last) if **last == *own.as_ref() => last.clone(),
            _ => self.last.insert(own.into()).clone(),
        }
    }

    fn of(&mut self, own: Option<String>, function: u64) -> Arc<str> {
        if let Some(own) = own {
            return self.once(own);
        }
        let name = || match Function::at(function) {
            Some(function) => short_name(function.path()).into(),
            // It is in a shared library, which only an in-process mode can call.
            None => "task".into(),
        };
        self.functions.entry(function).or_insert_with(name).clone()
    }
}

fn run_of(record: RingRecord, worker: &Arc<str>, names: &mut Names, ruler: &Ruler) -> Run {
    let name = names.of(record.run.name.clone(), record.run.log_id);
    run_named(record, name, worker, ruler)
}

/// The run of a task of that name.
pub(crate) fn run_named(record: RingRecord, name: Arc<str>, worker: &Arc<str>, ruler: &Ruler) -> Run {
    let RingRecord { run: recorded, start, end, details } = record;
    let mut run = Run::new(name, recorded.key, worker.clone(), ruler.since_start(start));
    (run.graph, run.task, run.thread) = (recorded.task.job.number, recorded.task.index, recorded.thread);
    // The first has the number 1.
    run.attempt = recorded.attempt.saturating_sub(1);
    if let Some(details) = details {
        let measured = |what: u64| Some(what).filter(|what| *what > 0);
        run.assigned = measured(details.assigned).map(|at| ruler.since_start(at));
        run.cpu = measured(details.cpu).map(Duration::from_nanos);
        run.bytes_in = measured(details.bytes_in);
        run.bytes_out = measured(details.bytes_out);
        run.peak = measured(details.peak);
        let [reading, writing, suspended] = details.times.map(|time| measured(time).map(|time| ruler.between(0, time)));
        (run.reading, run.writing, run.suspended) = (reading, writing, suspended);
    }
    if let Some((end, ended)) = end {
        let outcome = match ended {
            Ended::Finished => Outcome::Finished,
            Ended::Failed => Outcome::Failed,
            Ended::Cancelled => Outcome::Cancelled,
        };
        run.ended(ruler.since_start(end), outcome);
    }
    run
}
