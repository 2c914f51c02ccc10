//! What is made of logs of events: saved ones, and what a running cluster has recorded or remembers.

use crate::failure::{Failure, Outcome};
use crate::options::GraphOf;
use crate::show::{json, say};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use swath::client::picture;
use swath::events::diagnosis::Extent;
use swath::events::saved::{Event, EventKind, LogError, SavedLog};
use swath::local;

impl From<LogError> for Failure {
    fn from(e: LogError) -> Self {
        Self::Failed(e.to_string())
    }
}

/// Says why a task is where it is: of the cluster, or of a log.
pub(crate) fn explain(name: &str, key: &str, file: Option<&Path>, as_json: bool) -> Outcome {
    let told = match file {
        Some(file) => SavedLog::open(file)?.explain(key).map_err(|e| Failure::Failed(e.to_string()))?,
        None => local::explain(name, key)?,
    };
    if as_json { json(&told) } else { say(&format!("{told}\n")) }
}

/// A saved log, or that of a running cluster.
pub(crate) fn open(name: &str, file: Option<&Path>) -> Result<SavedLog, Failure> {
    match file {
        Some(file) => Ok(SavedLog::open(file)?),
        None => Ok(local::events(name)?),
    }
}

/// Says what is in a log.
pub(crate) fn events(name: &str, file: Option<&Path>, as_json: bool) -> Outcome {
    let summary = open(name, file)?.summary();
    if as_json { json(&summary) } else { say(&summary.to_string()) }
}

/// Says why what is in a log took as long as it did.
pub(crate) fn why(name: &str, of: &GraphOf, graph: Option<u32>, label: Option<&str>, as_json: bool) -> Outcome {
    let (number, file) = of.parts()?;
    let extent = match (graph.or(number), label) {
        (Some(_), Some(_)) => return Err(Failure::Usage("a graph or a label, and not both".to_string())),
        (Some(graph), None) => Extent::of_graph(graph),
        (None, Some(label)) => Extent::of_label(label),
        (None, None) => Extent::default(),
    };
    let diagnosis = open(name, file)?.diagnose(&extent);
    if as_json { json(&diagnosis) } else { say(&format!("{diagnosis}\n")) }
}

/// Writes a log as a trace.
pub(crate) fn trace(name: &str, file: Option<&Path>, output: &Path) -> Outcome {
    Ok(open(name, file)?.trace(output)?)
}

/// Draws a graph, or all, into a file, or as lines of text.
pub(crate) fn graph(name: &str, of: &GraphOf, output: Option<&Path>) -> Outcome {
    let (graph, file) = of.parts()?;
    let log = open(name, file)?;
    match output {
        Some(path) => Ok(picture::save_log(&log, graph, path)?),
        None => say(&format!("{}\n", picture::outline_log(&log, graph)?.trim_end())),
    }
}

/// Lists workers that died.
pub(crate) fn deaths(name: &str, file: Option<&Path>, as_json: bool) -> Outcome {
    let deaths = match file {
        Some(file) => deaths_in(&SavedLog::open(file)?)?,
        None => deaths_now(name)?,
    };
    if as_json {
        return json(&deaths.iter().map(|(_, death)| death).collect::<Vec<_>>());
    }
    if deaths.is_empty() {
        return say("No worker has died.\n");
    }
    deaths.iter().try_for_each(|(text, _)| say(text))
}

/// In words and as data.
type Death = (String, serde_json::Value);

fn deaths_now(name: &str) -> Result<Vec<Death>, Failure> {
    let mut deaths = Vec::new();
    for program in local::status(name)?.programs {
        for death in &program.deaths {
            let mut text = format!("{}/{death}\n", program.program);
            for line in &death.last_lines {
                text.push_str(&format!("  {line}\n"));
            }
            let mut data = serde_json::to_value(death).map_err(|e| Failure::Failed(e.to_string()))?;
            data["program"] = program.program.clone().into();
            data["reason"] = death.cause.to_string().into();
            deaths.push((text, data));
        }
    }
    Ok(deaths)
}

/// How many of the last lines of a worker are told.
const LAST_LINES: usize = 20;

fn deaths_in(log: &SavedLog) -> Result<Vec<Death>, Failure> {
    let mut deaths = Vec::new();
    let mut events = Vec::new();
    for event in log.events() {
        let event = event?;
        if matches!(event.kind, EventKind::Line { .. } | EventKind::WorkerLost { .. }) {
            events.push(event);
        }
    }
    for (at, event) in events.iter().enumerate() {
        let EventKind::WorkerLost { worker: lost, pid, reason, cause } = &event.kind else { continue };
        // Its last words may have come a moment later than the news of its end.
        let is_before = |(i, line): &(usize, &Event)| *i < at || line.at <= event.at;
        let of_it = |line: &&Event| matches!(&line.kind, EventKind::Line { worker, .. } if worker == lost);
        let lines = events.iter().enumerate().filter(is_before).map(|(_, line)| line);
        let mut last: Vec<_> = lines.filter(of_it).collect();
        last.drain(..last.len().saturating_sub(LAST_LINES));
        let mut text = format!("{}\n", printable(&event.to_string()));
        last.iter().for_each(|line| text.push_str(&format!("  {}\n", printable(&line.kind.to_string()))));
        let data = serde_json::json!({
            "at_ns": u64::try_from(event.at.as_nanos()).unwrap_or(u64::MAX),
            "worker": lost, "pid": pid, "reason": reason, "cause": cause, "last_lines": last,
        });
        deaths.push((text, data));
    }
    Ok(deaths)
}

/// What is in a file may be anything: without what would act on a terminal.
pub(crate) fn printable(text: &str) -> String {
    let escape = |c: char| match c {
        '\t' => c.to_string(),
        c if c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
        {
            c.escape_debug().to_string()
        }
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Writes what a report of a problem needs: a file of JSON, and beside it the log.
pub(crate) fn dump(name: &str, output: &Path) -> Outcome {
    let log_path = output.with_extension("swath");
    if log_path == output {
        return Err(Failure::Usage(format!("{}: that is the name of the log beside it", output.display())));
    }
    let failed = |path: &Path, e: &dyn std::fmt::Display| Failure::Failed(format!("{}: {e}", path.display()));
    let status = local::status(name)?;
    // In a directory of its own, so that nothing is left half written under the names that were asked for.
    let beside = log_path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = beside.join(format!(".swath-dump-{}", std::process::id()));
    let there = local::save_events(name, &temporary)?;
    let placed = if status.record.as_ref() == Some(&there) {
        copy_private(&there, &log_path)
    } else {
        fs::rename(&temporary, &log_path)
    };
    placed.map_err(|e| {
        let _ = fs::remove_file(&temporary);
        failed(&log_path, &e)
    })?;
    let log = SavedLog::open(&log_path)?;
    let dump = serde_json::json!({
        "swath": local::version(),
        "log": log_path.file_name().map(|name| name.to_string_lossy()),
        "machine": log.head().machine,
        "status": status,
        "summary": log.summary(),
    });
    let text = serde_json::to_vec_pretty(&dump).map_err(|e| Failure::Failed(e.to_string()))?;
    write_private(output, &text).map_err(|e| failed(output, &e))?;
    say(&format!("{} and {}\n", output.display(), log_path.display()))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    private().open(path)?.write_all(bytes)
}

fn copy_private(from: &Path, to: &Path) -> std::io::Result<()> {
    std::io::copy(&mut fs::File::open(from)?, &mut private().open(to)?).map(drop)
}

/// Writes a report of a log.
pub(crate) fn report(name: &str, file: Option<&Path>, output: &Path) -> Outcome {
    open(name, file)?.report(output).map_err(|e| Failure::Failed(e.to_string()))
}
