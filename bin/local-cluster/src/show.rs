//! What is printed.

use crate::failure::{Failure, Outcome};
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;
use swath::local::describe_sizes;
use swath::local::{self, ClusterStatus};

pub(crate) fn say(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Failed(format!("standard output: {e}")),
    })
}

pub(crate) fn json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string(value).map_err(|e| Failure::Failed(e.to_string()))?;
    say(&format!("{text}\n"))
}

pub(crate) fn started(status: &ClusterStatus) -> String {
    format!(
        "local cluster `{name}` is running: process {pid}, socket {socket}\n\
         {sizes} for each program that connects with Client::connect(\"{name}\") or SWATH_CLUSTER={name}\n",
        name = status.name,
        pid = status.pid,
        socket = status.socket.display(),
        sizes = describe_sizes_of(status),
    )
}

fn describe_sizes_of(status: &ClusterStatus) -> String {
    let limit =
        status.memory_limit.map_or("no memory limit".to_string(), |l| format!("memory limit {} each", bytes(l)));
    let total =
        status.total_memory_limit.map_or(String::new(), |l| format!(", {} for all programs together", bytes(l)));
    format!("{} worker(s) x {} thread(s), {limit}{total}", status.workers, status.threads)
}

fn bytes(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// Shows a cluster, once or again and again.
pub(crate) fn status(name: &str, as_json: bool, watch: Option<Duration>) -> Outcome {
    loop {
        let status = local::status(name)?;
        match (as_json, watch) {
            (true, _) => json(&status)?,
            (false, Some(_)) if std::io::stdout().is_terminal() => {
                // To the upper left corner of an empty screen.
                say(&format!("\x1b[H\x1b[2J{}", describe(&status)))?;
            }
            (false, Some(_)) => say(&format!("{}\n", describe(&status)))?,
            (false, None) => say(&describe(&status))?,
        }
        match watch {
            None => return Ok(()),
            Some(pause) => std::thread::sleep(pause),
        }
    }
}

fn describe(status: &ClusterStatus) -> String {
    let mut out = String::new();
    let mut line = |text: String| out.extend([text.as_str(), "\n"]);
    line(format!("local cluster `{}`, process {}, up {:.1} s", status.name, status.pid, status.uptime_seconds));
    if status.draining {
        line("  it lets nobody in, and stops when no graph is under way".to_string());
    }
    line(format!("  socket        {}", status.socket.display()));
    line(format!("  directory     {}", status.directory.display()));
    if let Some(path) = &status.record {
        line(format!("  recorded in   {}", path.display()));
    }
    line(format!("  machine       {}", status.machine));
    line(format!("  each program  {}", describe_sizes_of(status)));
    let (used, limit) = (bytes(status.shared_memory_used), bytes(status.shared_memory_limit));
    line(format!("  shared memory {used} of {limit}"));
    if status.programs.is_empty() {
        line("  no program is connected".to_string());
    }
    for program in &status.programs {
        let build = program.build.get(..12).unwrap_or(&program.build);
        let (name, sessions, unfinished) = (&program.program, program.sessions, program.unfinished);
        line(format!("{name} (build {build}), {sessions} connection(s), {unfinished} task(s) to do"));
        for w in &program.workers {
            let limit = w.limit.map_or(String::new(), |l| format!(" of {}", bytes(l)));
            let state = w.state;
            let memory = bytes(w.memory);
            line(format!("  {:<12} pid {:<8} {state:<9} {:>4} task(s)  {memory}{limit}", w.name, w.pid, w.tasks));
            let (shared, managed, spilled) = (bytes(w.shared_memory), bytes(w.managed), bytes(w.spilled));
            line(format!("               shared {shared}, results in memory {managed}, on disk {spilled}"));
            if let Some(why) = &w.paused {
                line(format!("               starts no tasks: {why}"));
            }
        }
        for object in &program.shared {
            line(format!("  {object}"));
        }
        for death in &program.deaths {
            line(format!("  died: {death}"));
        }
    }
    out
}

pub(crate) fn sizes(as_json: bool) -> Outcome {
    let sizes = describe_sizes()?;
    if as_json {
        return json(&sizes);
    }
    say(&format!("{:<8} {:>7} {:>10} {:>5}\n", "size", "threads", "memory", "fits"))?;
    sizes.iter().try_for_each(|size| {
        say(&format!("{:<8} {:>7} {:>10} {:>5}\n", size.name, size.threads, bytes(size.memory_bytes), size.fits))
    })?;
    say(&format!("of {}\n", local::machine()?))
}
