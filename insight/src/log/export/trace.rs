//! Chrome trace events.
//!
//! The format: a JSON object with a list of events; each has a phase, `ph`: `X` a run with its length, `i` an instant,
//! `C` a counter, `s` and `f` the two ends of an arrow, `M` the name of a process or thread. Times are in microseconds.

use crate::log::run::key;
use crate::log::{EventKind, Input, Outcome, Run, SavedLog, nanos};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// The process under which what belongs to no worker is shown.
const CLIENT: u32 = 1;

/// Microseconds with all digits. A number of JSON has no fewer than these need.
fn micros(time: Duration) -> Value {
    let ns = nanos::of(time);
    if ns.is_multiple_of(1000) { (ns / 1000).into() } else { (ns as f64 / 1000.0).into() }
}

/// Writes the events of the list.
struct Events<'a> {
    out: &'a mut dyn Write,
    is_first: bool,
}

impl Events<'_> {
    fn push(&mut self, event: &Value) -> io::Result<()> {
        self.out.write_all(if std::mem::take(&mut self.is_first) { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *self.out, event)?;
        Ok(())
    }
}

/// The numbers of the workers as processes.
#[derive(Default)]
struct Processes {
    numbers: FxHashMap<Arc<str>, u32>,
    threads: FxHashSet<(u32, u16)>,
}

impl Processes {
    /// The number of a worker, which is introduced.
    fn number(&mut self, worker: &str, events: &mut Events<'_>) -> io::Result<u32> {
        if let Some(number) = self.numbers.get(worker) {
            return Ok(*number);
        }
        let number = CLIENT + 1 + self.numbers.len() as u32;
        self.numbers.insert(worker.into(), number);
        events.push(&json!({ "ph": "M", "name": "process_name", "pid": number, "args": { "name": worker } }))?;
        events.push(
            &json!({ "ph": "M", "name": "process_sort_index", "pid": number, "args": { "sort_index": number } }),
        )?;
        Ok(number)
    }

    fn of_run(&mut self, run: &Run, events: &mut Events<'_>) -> io::Result<u32> {
        let process = self.number(&run.worker, events)?;
        if self.threads.insert((process, run.thread)) {
            let name = format!("thread {}", run.thread);
            let args = json!({ "name": name });
            events
                .push(&json!({ "ph": "M", "name": "thread_name", "pid": process, "tid": run.thread, "args": args }))?;
        }
        Ok(process)
    }
}

/// An end of an arrow: when, in which process, on which thread.
type Place = (Duration, u32, u16);
/// A task: graph and number in its key.
type Task = (u32, u64);

impl SavedLog {
    /// As [`trace`](Self::trace), to any stream.
    ///
    /// # Errors
    /// What the stream says.
    pub fn write_trace(&self, out: &mut dyn Write) -> io::Result<()> {
        let head = self.head();
        let data = json!({ "swath": head.version, "build": head.build, "format": self.format() });
        write!(out, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{data},\"traceEvents\":[")?;
        let mut events = Events { out, is_first: true };
        events.push(&json!({ "ph": "M", "name": "process_name", "pid": CLIENT, "args": { "name": "client" } }))?;
        let mut processes = Processes::default();

        // Arrows are between tasks that are known to be inputs of each other; only their places are remembered.
        let inputs: Vec<Input> = self.inputs().filter_map(Result::ok).collect();
        let mut makers: FxHashMap<Task, Option<Place>> =
            inputs.iter().map(|input| ((input.graph, input.from_hash), None)).collect();
        let mut takers: FxHashMap<Task, Option<Place>> =
            inputs.iter().map(|input| ((input.graph, input.hash), None)).collect();
        let mut changes: BTreeMap<Duration, i64> = BTreeMap::new();
        let until = self.until();
        for run in self.runs().filter_map(Result::ok) {
            let process = processes.of_run(&run, &mut events)?;
            let end = run.end.unwrap_or(until).max(run.start);
            events.push(&run_event(&run, process, end))?;
            // Counted in steps of a millisecond, so that the counter is no longer than can be shown.
            *changes.entry(rounded(run.start)).or_default() += 1;
            *changes.entry(rounded(end)).or_default() -= 1;
            let task = (run.graph, run.hash);
            if let Some(place) = makers.get_mut(&task).filter(|_| run.outcome == Outcome::Finished) {
                *place = Some((end, process, run.thread));
            }
            if let Some(place) = takers.get_mut(&task) {
                *place = Some((run.start, process, run.thread));
            }
        }
        let mut running = 0_i64;
        for (at, change) in changes.into_iter().filter(|(_, change)| *change != 0) {
            running += change;
            let args = json!({ "tasks": running });
            events.push(&json!({ "ph": "C", "name": "running", "pid": CLIENT, "ts": micros(at), "args": args }))?;
        }
        let places = inputs.iter().filter_map(|input| {
            let (graph, task, from) = (input.graph, input.hash, input.from_hash);
            Some(((*makers.get(&(graph, from))?)?, (*takers.get(&(graph, task))?)?))
        });
        for (id, (from, to)) in places.filter(|(from, to)| from.0 <= to.0).enumerate() {
            // An arrow leaves a run before its end.
            let at = from.0.saturating_sub(Duration::from_nanos(1));
            events.push(&json!({ "ph": "s", "id": id, "cat": "input", "name": "input", "ts": micros(at), "pid": from.1, "tid": from.2 }))?;
            events.push(&json!({ "ph": "f", "bp": "e", "id": id, "cat": "input", "name": "input", "ts": micros(to.0), "pid": to.1, "tid": to.2 }))?;
        }
        for sample in self.memory().filter_map(Result::ok) {
            let process = processes.number(&sample.worker, &mut events)?;
            let args = json!({
                "results": sample.managed,
                "shared": sample.shared,
                "other": sample.used.saturating_sub(sample.managed).saturating_sub(sample.shared),
            });
            let at = micros(sample.at);
            events.push(&json!({ "ph": "C", "name": "memory", "pid": process, "ts": at, "args": args }))?;
            let disk = json!({ "bytes": sample.spilled });
            events.push(&json!({ "ph": "C", "name": "on disk", "pid": process, "ts": at, "args": disk }))?;
        }
        for event in self.events().filter_map(Result::ok) {
            let process = match worker_of(&event.kind) {
                Some(worker) => processes.number(worker, &mut events)?,
                None => CLIENT,
            };
            let (at, text) = (micros(event.at), event.kind.to_string());
            events.push(&match &event.kind {
                EventKind::GraphFinished { graph, took } => json!({
                    "ph": "X", "name": format!("graph {graph}"), "cat": "graph", "pid": CLIENT, "tid": graph,
                    "ts": micros(event.at.saturating_sub(*took)), "dur": micros(*took),
                }),
                EventKind::Transfer { took, bytes, key, .. }
                | EventKind::Spilled { took, bytes, key, .. }
                | EventKind::Loaded { took, bytes, key, .. } => json!({
                    "ph": "X", "name": text, "cat": "bytes", "pid": process, "tid": MOVES, "dur": micros(*took),
                    "ts": micros(event.at.saturating_sub(*took)), "args": { "bytes": bytes, "key": key },
                }),
                _ => json!({ "ph": "i", "name": text, "cat": "event", "s": "p", "pid": process, "tid": 0, "ts": at }),
            })?;
        }
        out.write_all(b"\n]}\n")
    }
}

/// The thread under which moved bytes are shown: one that no worker has.
const MOVES: u32 = 1 << 16;

fn rounded(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn run_event(run: &Run, process: u32, end: Duration) -> Value {
    let mut args = json!({ "key": key(&run.name, run.hash), "graph": run.graph, "outcome": run.outcome });
    let optional = [
        ("attempt", Some(u64::from(run.attempt)).filter(|attempt| *attempt > 0)),
        ("cpu_ns", run.cpu.map(nanos::of)),
        ("reading_ns", run.reading.map(nanos::of)),
        ("writing_ns", run.writing.map(nanos::of)),
        ("suspended_ns", run.suspended.map(nanos::of)),
        ("waited_ns", run.ready.map(|ready| nanos::of(run.start.saturating_sub(ready)))),
        ("bytes_in", run.bytes_in),
        ("bytes_out", run.bytes_out),
        ("peak", run.peak),
    ];
    for (name, number) in optional {
        if let Some(number) = number {
            args[name] = number.into();
        }
    }
    let mut event = json!({
        "ph": "X", "name": &*run.name, "cat": run.outcome, "pid": process, "tid": run.thread,
        "ts": micros(run.start), "dur": micros(end - run.start), "args": args,
    });
    // A reserved name of the format's colours.
    match run.outcome {
        Outcome::Failed | Outcome::Lost => event["cname"] = "terrible".into(),
        Outcome::Cancelled => event["cname"] = "grey".into(),
        Outcome::Running | Outcome::Finished => {}
    }
    event
}

fn worker_of(kind: &EventKind) -> Option<&str> {
    match kind {
        EventKind::WorkerStarted { worker, .. }
        | EventKind::WorkerReady { worker, .. }
        | EventKind::WorkerPaused { worker, .. }
        | EventKind::WorkerResumed { worker }
        | EventKind::WorkerStalled { worker, .. }
        | EventKind::WorkerRetired { worker, .. }
        | EventKind::WorkerLost { worker, .. }
        | EventKind::Spilled { worker, .. }
        | EventKind::Loaded { worker, .. }
        | EventKind::Retracted { worker, .. }
        | EventKind::Line { worker, .. } => Some(worker),
        EventKind::Transfer { to, .. } => Some(to),
        _ => None,
    }
}
