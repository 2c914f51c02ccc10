//! JSON, an object a line.

use crate::GroupProgress;
use crate::log::run::key;
use crate::log::{Event, Folded, Head, Input, MemorySample, Outcome, Run, SavedLog, ThreadTime, nanos};
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Head {
        format: u32,
        #[serde(flatten)]
        head: &'a Head,
    },
    Run(RunLine<'a>),
    Sum(SumLine<'a>),
    Event(&'a Event),
    Memory(&'a MemorySample),
    ThreadTime(&'a ThreadTime),
    Counts(&'a GroupProgress),
    Input {
        graph: u32,
        key: String,
        from: String,
    },
}

/// A run with times in nanoseconds since the start of the log.
#[derive(Serialize)]
struct RunLine<'a> {
    key: String,
    name: &'a str,
    graph: u32,
    task: u32,
    attempt: u16,
    worker: &'a str,
    thread: u16,
    submitted_ns: Option<u64>,
    ready_ns: Option<u64>,
    assigned_ns: Option<u64>,
    start_ns: u64,
    end_ns: Option<u64>,
    cpu_ns: Option<u64>,
    reading_ns: Option<u64>,
    writing_ns: Option<u64>,
    suspended_ns: Option<u64>,
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
    peak: Option<u64>,
    outcome: Outcome,
}

#[derive(Serialize)]
struct SumLine<'a> {
    name: &'a str,
    graph: Option<u32>,
    from_ns: u64,
    to_ns: u64,
    runs: u64,
    failed: u64,
    took_ns: u64,
    cpu_ns: u64,
    bytes_in: u64,
    bytes_out: u64,
    longest_ns: u64,
}

fn run_line(run: &Run) -> RunLine<'_> {
    let time = |time: Option<Duration>| time.map(nanos::of);
    RunLine {
        key: run.key(),
        name: &run.name,
        graph: run.graph,
        task: run.task,
        attempt: run.attempt,
        worker: &run.worker,
        thread: run.thread,
        submitted_ns: time(run.submitted),
        ready_ns: time(run.ready),
        assigned_ns: time(run.assigned),
        start_ns: nanos::of(run.start),
        end_ns: time(run.end),
        cpu_ns: time(run.cpu),
        reading_ns: time(run.reading),
        writing_ns: time(run.writing),
        suspended_ns: time(run.suspended),
        bytes_in: run.bytes_in,
        bytes_out: run.bytes_out,
        peak: run.peak,
        outcome: run.outcome,
    }
}

fn sum_line(sum: &Folded) -> SumLine<'_> {
    SumLine {
        name: &sum.name,
        graph: sum.graph,
        from_ns: nanos::of(sum.from),
        to_ns: nanos::of(sum.to),
        runs: sum.runs(),
        failed: sum.outcomes[Outcome::Failed.index()],
        took_ns: nanos::of(sum.took),
        cpu_ns: nanos::of(sum.cpu),
        bytes_in: sum.bytes_in,
        bytes_out: sum.bytes_out,
        longest_ns: nanos::of(sum.longest),
    }
}

impl SavedLog {
    /// As [`json_lines`](Self::json_lines), to any stream.
    ///
    /// # Errors
    /// What the stream says.
    pub fn write_json_lines(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = |line: &Line<'_>| -> io::Result<()> {
            serde_json::to_writer(&mut *out, line)?;
            out.write_all(b"\n")
        };
        line(&Line::Head { format: self.format(), head: self.head() })?;
        for group in self.counts().unwrap_or_default() {
            line(&Line::Counts(&group))?;
        }
        for event in self.events().filter_map(Result::ok) {
            line(&Line::Event(&event))?;
        }
        for run in self.runs().filter_map(Result::ok) {
            line(&Line::Run(run_line(&run)))?;
        }
        for sum in self.folded().filter_map(Result::ok) {
            line(&Line::Sum(sum_line(&sum)))?;
        }
        for sample in self.memory().filter_map(Result::ok) {
            line(&Line::Memory(&sample))?;
        }
        for time in self.thread_times().filter_map(Result::ok) {
            line(&Line::ThreadTime(&time))?;
        }
        for Input { graph, name, hash, from_name, from_hash } in self.inputs().filter_map(Result::ok) {
            line(&Line::Input { graph, key: key(&name, hash), from: key(&from_name, from_hash) })?;
        }
        Ok(())
    }
}
