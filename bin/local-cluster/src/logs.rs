//! What the cluster and its workers have written, and write.

use crate::failure::{Failure, Outcome};
use crate::options::LogOptions;
use crate::saved::printable;
use crate::show::{json, say};
use jiff::Timestamp;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;
use swath::error::LogLine;
use swath::events::saved::{EventKind, SavedLog};
use swath::local::{self, Log};
use swath::status::WorkerInfo;

/// How often new lines are asked for.
const LOOK: Duration = Duration::from_millis(200);
/// How long before a look a line may have come that the look before has not seen, in nanoseconds.
const OVERLAP: u64 = 2_000_000_000;

impl LogOptions {
    /// Whether the cluster's own words are wanted, too.
    fn wants_own(&self) -> bool {
        self.worker.is_none() && self.task.is_none() && self.stream.is_none()
    }

    /// Whether the worker is wanted that is named so, as in `flights/worker-0`, of a program of that build.
    fn wants_worker(&self, source: &str, build: &str) -> bool {
        let Some(wanted) = &self.worker else { return true };
        let (program, worker) = source.rsplit_once('/').unwrap_or(("", source));
        match wanted.rsplit_once('/') {
            None => wanted == worker,
            Some((of, wanted)) => wanted == worker && (of == program || !of.is_empty() && build.starts_with(of)),
        }
    }

    fn wants(&self, line: &LogLine) -> bool {
        self.task.as_ref().is_none_or(|key| line.tasks.iter().any(|task| task.starts_with(key.as_str())))
            && self.stream.is_none_or(|stream| stream.is(line.stream))
            && self.since.is_none_or(|since| line.time >= since)
    }

    /// Whether a line of the cluster's log, which begins with its time, is recent enough.
    fn is_recent(&self, line: &str) -> bool {
        let Some(since) = self.since else { return true };
        let time = line.split(' ').next().and_then(|time| time.parse::<Timestamp>().ok());
        time.is_none_or(|time| u64::try_from(time.as_nanosecond()).is_ok_and(|time| time >= since))
    }

    fn is_plain(&self) -> bool {
        self.wants_own() && self.since.is_none()
    }
}

/// Shows what was written last, and what is written from then on.
pub(crate) fn logs(name: &str, options: &LogOptions) -> Outcome {
    if let Some(file) = &options.file {
        return saved(&SavedLog::open(file)?, options);
    }
    if options.follow {
        return follow(name, options);
    }
    let mut logs = local::logs(name)?;
    check_worker(name, options, &logs)?;
    if !options.is_plain() {
        logs.iter_mut().for_each(|log| narrow(log, options));
        logs.retain(|log| !log.text.is_empty());
    }
    if options.form.json {
        return json(&logs);
    }
    logs.iter().try_for_each(|log| {
        let end = if log.text.is_empty() || log.text.ends_with('\n') { "" } else { "\n" };
        say(&format!("--- {} ---\n", log.source))?;
        if log.lines.is_empty() {
            return say(&format!("{}{end}", log.text));
        }
        log.lines.iter().try_for_each(|line| {
            let (plain, tasks) = (line.plain(), line.tasks.join(", "));
            match (tasks.is_empty(), plain.split_once('\n').filter(|_| line.dropped > 0)) {
                (true, _) => say(&format!("{plain}\n")),
                (false, None) => say(&format!("[{tasks}] {plain}\n")),
                (false, Some((dropped, plain))) => say(&format!("{dropped}\n[{tasks}] {plain}\n")),
            }
        })
    })
}

/// Refuses a worker that is not there and has left no words. To be followed it may still come, where none has been started.
fn check_worker(name: &str, options: &LogOptions, logs: &[Log]) -> Outcome {
    let Some(wanted) = &options.worker else { return Ok(()) };
    let told = logs.iter().filter(|log| log.source != "cluster").map(|log| (log.source.clone(), log.build.clone()));
    let programs = local::status(name)?.programs;
    let there = programs.iter().flat_map(|program| {
        let named = |worker: &WorkerInfo| (format!("{}/{}", program.program, worker.name), program.build.clone());
        program.workers.iter().map(named)
    });
    let mut known: Vec<_> = told.chain(there).collect();
    if known.iter().any(|(source, build)| options.wants_worker(source, build)) || options.follow && known.is_empty() {
        return Ok(());
    }
    known.sort_unstable();
    known.dedup();
    let known: Vec<_> = known.into_iter().map(|(source, _)| source).collect();
    let known = if known.is_empty() { "none has been started".to_string() } else { known.join(", ") };
    Err(Failure::Failed(format!("local cluster `{name}`: there is no worker {wanted:?}; there are: {known}")))
}

fn narrow(log: &mut Log, options: &LogOptions) {
    let lines = match log.source == "cluster" {
        true if options.wants_own() => log.text.lines().filter(|line| options.is_recent(line)).collect(),
        true => Vec::new(),
        false => {
            let of_worker = options.wants_worker(&log.source, &log.build);
            // Lines that are no longer kept are told before the next that is wanted.
            let mut dropped = 0;
            log.lines.retain_mut(|line| {
                dropped += line.dropped;
                let wanted = of_worker && options.wants(line);
                if wanted {
                    line.dropped = std::mem::take(&mut dropped);
                }
                wanted
            });
            log.text = log.lines.iter().map(|line| format!("{}\n", line.plain())).collect();
            return;
        }
    };
    log.text = lines.into_iter().flat_map(|line| [line, "\n"]).collect();
}

/// Prints lines as they come, until the cluster ends.
fn follow(name: &str, options: &LogOptions) -> Outcome {
    let as_json = options.form.json;
    check_worker(name, options, &local::logs_since(name, 0)?)?;
    let mut own = if options.wants_own() { Some(OwnLog::of(name)?) } else { None };
    // By worker and build, how far its lines have been seen.
    let mut seen: HashMap<(String, String), u64> = HashMap::new();
    let mut since = options.since.unwrap_or(0);
    loop {
        let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0);
        let logs = local::logs_since(name, since);
        for line in own.iter_mut().flat_map(OwnLog::read) {
            if options.is_recent(&line) {
                match as_json {
                    true => json(&serde_json::json!({ "worker": "cluster", "text": line }))?,
                    false => say(&format!("{line}\n"))?,
                }
            }
        }
        let mut lines = Vec::new();
        for log in logs? {
            if !options.wants_worker(&log.source, &log.build) {
                continue;
            }
            let last = seen.entry((log.source, log.build)).or_default();
            let before = *last;
            for line in log.lines.into_iter().filter(|line| line.ended && line.number > before) {
                *last = (*last).max(line.number);
                lines.push(line);
            }
        }
        lines.sort_by_key(|line| (line.time, line.number));
        for line in lines.iter().filter(|line| options.wants(line)) {
            match as_json {
                true => json(line)?,
                false => say(&format!("{} {line}\n", time_of(line)))?,
            }
        }
        since = since.max(now.saturating_sub(OVERLAP));
        std::thread::sleep(LOOK);
    }
}

fn time_of(line: &LogLine) -> String {
    let time = Timestamp::from_nanosecond(line.time.into()).ok();
    time.map_or_else(|| line.time.to_string(), |time| format!("{time:.3}"))
}

/// Shows the lines of a saved log that are wanted.
fn saved(log: &SavedLog, options: &LogOptions) -> Outcome {
    let started = Timestamp::try_from(log.head().started).unwrap_or(Timestamp::UNIX_EPOCH).as_nanosecond();
    for event in log.events() {
        let event = event?;
        let time = u64::try_from(started).unwrap_or(0).saturating_add(event.at.as_nanos() as u64);
        if let EventKind::Gap { reason, events, .. } = &event.kind
            && *events > 0
            && !options.form.json
        {
            say(&format!("… {events} lines or events are missing here: {}\n", printable(reason)))?;
        }
        let EventKind::Line { worker, key, tasks, level, target, text } = event.kind else { continue };
        let tasks: Vec<String> = key.into_iter().chain(tasks).collect();
        let of = |wanted: &str| tasks.iter().any(|task| task.starts_with(wanted));
        let wanted = options.wants_worker(&worker, "")
            && options.task.as_deref().is_none_or(of)
            && options.stream.is_none_or(|stream| stream.is_named(&level))
            && options.since.is_none_or(|since| time >= since);
        if !wanted {
            continue;
        }
        if options.form.json {
            let (of_record, stream) = match level.as_str() {
                "stdout" | "stderr" => (None, level.as_str()),
                level => (Some(level), "stderr"),
            };
            json(&serde_json::json!({
                "worker": worker, "stream": stream, "level": of_record, "target": target, "tasks": tasks, "text": text,
                "time": time,
            }))?;
            continue;
        }
        let at = Timestamp::from_nanosecond(time.into()).map_or_else(|_| time.to_string(), |time| format!("{time:.3}"));
        let target = target.map_or(String::new(), |target| format!(" {target}"));
        let tasks = if tasks.is_empty() { String::new() } else { format!(" [{}]", tasks.join(", ")) };
        say(&format!("{at} {}\n", printable(&format!("{worker} {level}{target}{tasks}: {text}"))))?;
    }
    Ok(())
}

/// The cluster's own log.
struct OwnLog {
    path: PathBuf,
    at: u64,
    /// The beginning of a line that has no end yet.
    open: String,
}

impl OwnLog {
    fn of(name: &str) -> swath::Result<Self> {
        Ok(Self { path: local::log_file(name)?, at: 0, open: String::new() })
    }

    /// The lines that have come since the last call.
    fn read(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.at))?;
            file.read_to_end(&mut bytes)
        });
        // A cluster in the foreground has none, and one that has ended has it no more.
        self.at += read.unwrap_or(0) as u64;
        self.open.push_str(&String::from_utf8_lossy(&bytes));
        let Some(end) = self.open.rfind('\n') else { return Vec::new() };
        let rest = self.open.split_off(end + 1);
        let lines = std::mem::replace(&mut self.open, rest);
        lines.lines().map(ToString::to_string).collect()
    }
}
