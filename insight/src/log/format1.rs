//! Reads logs of format 1: a JSON object a line, the first of which names the format.

use super::LogError;
use super::event::{Event, EventKind};
use super::head::Head;
use super::run::{Outcome, Run, parse_key};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use xxhash_rust::xxh3::xxh3_64;

/// A line may be as long as this.
const MOST_LINE: u64 = 16 << 20;

#[derive(Deserialize)]
struct FirstLine {
    swath_events: u32,
    started: SystemTime,
}

#[derive(Deserialize)]
struct Line {
    at: Duration,
    kind: Kind,
}

#[derive(Deserialize)]
struct Task {
    key: String,
    name: String,
    graph: u32,
    worker: String,
    thread: u16,
}

#[derive(Deserialize)]
enum Kind {
    GraphSubmitted { graph: u32, tasks: u64 },
    GraphFinished { graph: u32, took: Duration },
    TaskStarted { task: Task },
    TaskFinished { task: Task, took: Duration },
    TaskFailed { task: Task, took: Duration },
    TaskCancelled { task: Task, took: Duration },
    WorkerStarted { worker: String, pid: u32 },
    WorkerReady { worker: String, pid: u32 },
    WorkerLost { worker: String, pid: u32, cause: serde_json::Value },
    WorkerRetired { worker: String, pid: u32 },
}

type Contents = (Head, Vec<Run>, Vec<Event>, bool);

/// Reads all of it. The last thing says whether its last line is cut off.
pub(super) fn read(file: File, path: &Path) -> Result<Contents, LogError> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut number = 0;
    let mut next = |line: &mut Vec<u8>| -> Result<bool, LogError> {
        line.clear();
        let failed = |source| LogError::Io { action: "read", path: path.into(), source };
        std::io::Read::take(&mut reader, MOST_LINE).read_until(b'\n', line).map_err(failed)?;
        Ok(!line.is_empty())
    };
    let wrong = |line: usize, reason: String| LogError::Line { path: path.into(), line, reason };
    next(&mut line)?;
    let first: FirstLine = serde_json::from_slice(&line).map_err(|e| wrong(1, e.to_string()))?;
    if first.swath_events != 1 {
        return Err(wrong(1, format!("format {}; one of JSON lines is of format 1", first.swath_events)));
    }
    let mut events = Vec::new();
    let mut gathered = Gathered::default();
    let mut is_cut = false;
    while next(&mut line)? {
        number += 1;
        let read: Line = match serde_json::from_slice(&line) {
            Ok(read) => read,
            // Only the last line has no end, and only where the file is cut off.
            Err(_) if !line.ends_with(b"\n") && (line.len() as u64) < MOST_LINE => {
                is_cut = true;
                break;
            }
            Err(e) => return Err(wrong(number + 1, e.to_string())),
        };
        let kind = match read.kind {
            Kind::TaskStarted { task } => {
                gathered.started(&task, read.at);
                continue;
            }
            Kind::TaskFinished { task, took } => {
                gathered.ended(&task, read.at, took, Outcome::Finished);
                continue;
            }
            Kind::TaskFailed { task, took } => {
                gathered.ended(&task, read.at, took, Outcome::Failed);
                continue;
            }
            Kind::TaskCancelled { task, took } => {
                gathered.ended(&task, read.at, took, Outcome::Cancelled);
                continue;
            }
            Kind::GraphSubmitted { graph, tasks } => {
                EventKind::GraphSubmitted { graph, tasks, label: None, parent: None }
            }
            Kind::GraphFinished { graph, took } => EventKind::GraphFinished { graph, took },
            Kind::WorkerStarted { worker, pid } => EventKind::WorkerStarted { worker, pid },
            Kind::WorkerReady { worker, pid } => EventKind::WorkerReady { worker, pid },
            Kind::WorkerRetired { worker, pid } => EventKind::WorkerRetired { worker, pid },
            Kind::WorkerLost { worker, pid, cause } => {
                EventKind::WorkerLost { worker, pid, reason: format!("died: {cause}"), cause }
            }
        };
        events.push(Event { at: read.at, kind });
    }
    let mut head = Head::unknown();
    head.started = first.started;
    Ok((head, gathered.runs, events, is_cut))
}

/// Runs of which start and end are found one after the other.
#[derive(Default)]
struct Gathered {
    runs: Vec<Run>,
    /// Those that have not ended, by key, graph, worker and thread.
    running: FxHashMap<(String, u32, String, u16), Vec<usize>>,
    strings: FxHashSet<Arc<str>>,
}

impl Gathered {
    fn string(&mut self, string: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(string) {
            return known.clone();
        }
        let new: Arc<str> = string.into();
        self.strings.insert(new.clone());
        new
    }

    fn run(&mut self, task: &Task, start: Duration) -> Run {
        let (name, worker) = (self.string(&task.name), self.string(&task.worker));
        // Every key is one of a name and a number; another one was not written by swath, and gets a number all the same.
        let hash = parse_key(&task.key).map_or_else(|| xxh3_64(task.key.as_bytes()), |(_, hash)| hash);
        let mut run = Run::new(name, hash, worker, start);
        (run.graph, run.thread) = (task.graph, task.thread);
        run
    }

    fn started(&mut self, task: &Task, at: Duration) {
        let run = self.run(task, at);
        let place = (task.key.clone(), task.graph, task.worker.clone(), task.thread);
        self.running.entry(place).or_default().push(self.runs.len());
        self.runs.push(run);
    }

    fn ended(&mut self, task: &Task, at: Duration, took: Duration, outcome: Outcome) {
        let place = (task.key.clone(), task.graph, task.worker.clone(), task.thread);
        let begun = self.running.get_mut(&place).and_then(Vec::pop);
        let index = begun.unwrap_or_else(|| {
            let run = self.run(task, at.saturating_sub(took));
            self.runs.push(run);
            self.runs.len() - 1
        });
        self.runs[index].ended(at, outcome);
    }
}
