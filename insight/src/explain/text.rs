//! Explanations in words.

use super::{Explanation, Isolated, Place, Step, TaskCost, Timeline, Why};
use crate::diagnosis::seconds;
use crate::log::plain;
use std::fmt;
use std::time::{Duration, SystemTime};

/// What a sentence about a task goes on with.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNeeded => f.write_str("has not run: no result that anybody asked for depends on it"),
            Self::NotSent { ahead } => {
                write!(
                    f,
                    "has not been sent to the workers yet: {} before it",
                    counted(*ahead, "call of its map is", "calls of its map are")
                )
            }
            Self::Inputs { missing, all: 1, .. } if *missing == 1 => f.write_str("waits for its only input"),
            Self::Inputs { missing, all, .. } => write!(f, "waits for {missing} of its {all} inputs"),
            Self::Moving { bytes, from } if from.is_empty() => {
                write!(f, "waits for {} of its inputs to be moved", size(*bytes))
            }
            Self::Moving { bytes, from } => {
                write!(f, "waits for {} of its inputs to be moved from {}", size(*bytes), listed(from))
            }
            Self::Memory { workers } => {
                f.write_str("waits for memory: every worker that may run it has to make room in its memory first: ")?;
                for (at, worker) in workers.iter().enumerate() {
                    write!(f, "{}{}", if at == 0 { "" } else { ", " }, plain(&worker.name))?;
                    let limit = worker.limit.map_or_else(String::new, |limit| format!(" of {}", size(limit)));
                    match (worker.used, worker.reason.as_str()) {
                        (0, "") => {}
                        (used, "") => write!(f, " (uses {}{limit})", size(used))?,
                        (used, reason) => write!(f, " (uses {}{limit}, {reason})", size(used))?,
                    }
                }
                Ok(())
            }
            Self::HeldBack { bytes, consumers } => {
                write!(
                    f,
                    "is held back: it would add to the {} of results in memory, and others are to use some of those first",
                    size(*bytes)
                )?;
                match consumers {
                    0 => Ok(()),
                    1 => f.write_str(" (1 task of its graph waits for results)"),
                    n => write!(f, " ({n} tasks of its graph wait for results)"),
                }
            }
            Self::Alone { worker, reason } => {
                f.write_str(match reason {
                    Isolated::Suspect => "is one of those that may have ended a worker, so it waits until it can run with no other beside it",
                    Isolated::WorkerMemory => "was running when a worker ran out of memory, so it waits until it can have one for itself",
                    Isolated::MachineMemory => "was running when the machine, or a control group, ran out of memory, so it waits until nothing else runs on any worker",
                })?;
                worker.as_ref().map_or(Ok(()), |worker| write!(f, ": {} is being cleared for it", plain(worker)))
            }
            Self::Placement { asked, present } => {
                write!(f, "waits for a worker that is not there: it wants {}, and ", plain(asked))?;
                match present.is_empty() {
                    true => f.write_str("there is none at all"),
                    false => {
                        write!(f, "there is {}", present.iter().map(|one| plain(one)).collect::<Vec<_>>().join(", "))
                    }
                }
            }
            Self::Busy { wants: Some(wants), graphs, .. } => {
                write!(
                    f,
                    "waits for {} that it asks for, which other tasks have on every worker that may run it{}",
                    plain(wants),
                    before(*graphs)
                )
            }
            Self::Busy { workers, on, ahead, about, graphs, .. } => {
                match on {
                    Some(on) => write!(f, "is ready and waits in the queue of {}", plain(on))?,
                    None if *workers == 1 => {
                        f.write_str("is ready and waits for a thread: the one that may run it is busy")?
                    }
                    None => write!(f, "is ready and waits for a thread: the {workers} that may run it are busy")?,
                }
                write!(f, ": {} ahead of it", counted(*ahead, "task is", "tasks are"))?;
                about.map_or(Ok(()), |about| write!(f, ", about {}", seconds(about)))?;
                f.write_str(&before(*graphs))
            }
            Self::NoWorker { starting: 0, leaving: 0 } => f.write_str("waits for a worker: there is none yet"),
            Self::NoWorker { starting, leaving: 0 } => {
                write!(
                    f,
                    "waits for a worker: there is none yet, and {} starting",
                    counted((*starting).into(), "is", "are")
                )
            }
            Self::NoWorker { starting, .. } => {
                f.write_str("waits for a worker: every one that may run it is about to go")?;
                match starting {
                    0 => Ok(()),
                    n => write!(f, ", and {} starting", counted((*n).into(), "is", "are")),
                }
            }
            Self::Running { worker, thread, since, usual, progress } => {
                write!(f, "runs on {}", plain(worker))?;
                thread.map_or(Ok(()), |thread| write!(f, ", thread {thread}"))?;
                since.map_or(Ok(()), |since| write!(f, ", for {}", seconds(since)))?;
                usual.map_or(Ok(()), |usual| write!(f, " (usual for its name: {})", seconds(usual)))?;
                progress.map_or(Ok(()), |share| write!(f, ", {:.0} % done as it says", 100.0 * share))
            }
            Self::CancelledRunEnding { worker, again } => {
                f.write_str(if *again {
                    "is to run again when its cancelled run has ended"
                } else {
                    "was cancelled, but its run has not ended"
                })?;
                worker.as_ref().map_or(Ok(()), |worker| write!(f, " on {}", plain(worker)))?;
                f.write_str(if *again { ": it must not run twice at a time" } else { " yet" })
            }
            Self::Stored { worker, bytes, place } => {
                f.write_str("is done: its result")?;
                bytes.map_or(Ok(()), |bytes| write!(f, " of {}", size(bytes)))?;
                let worker = worker.as_ref().map_or_else(|| "a worker".to_string(), |worker| plain(worker));
                match place {
                    Place::Memory => write!(f, " is in the memory of {worker}"),
                    Place::Disk => write!(f, " is on disk, where {worker} has moved it"),
                    Place::MemoryOrDisk => write!(f, " is with {worker}, in memory or on disk"),
                    Place::Supervisor => f.write_str(" is with the supervisor"),
                    Place::Program => f.write_str(" is in the memory of this program"),
                }
            }
            Self::Given => f.write_str("is a value that was given; it does not run"),
            Self::Released => f.write_str("has run; its result was let go, since nobody needs it any more"),
            Self::Failed { error, root: None } => write!(f, "failed itself: {}", told(error)),
            Self::Failed { error, root: Some(root) } => {
                write!(f, "failed because {} failed, which it needs: {}", plain(&root.key), told(error))
            }
            Self::Cancelled { by: None } => f.write_str("was cancelled"),
            Self::Cancelled { by: Some(by) } => write!(f, "was cancelled with {}, which it needs", plain(&by.key)),
            Self::Lost { worker, again } => {
                write!(f, "was lost with {}, which died", plain(worker))?;
                again.as_ref().map_or(Ok(()), |again| write!(f, ", and is done again: it {again}"))
            }
            Self::Forgotten { totals } => {
                let (counts, took) = (totals.counts, seconds(totals.run_time));
                f.write_str("is not known any more: its details are no longer kept; the totals of its name are ")?;
                write!(f, "{} in {took}", counted(totals.runs, "run", "runs"))?;
                match counts.failed + counts.cancelled {
                    0 => write!(f, ", {} done", counts.done()),
                    _ => {
                        write!(f, ", {} done, {} failed, {} cancelled", counts.done(), counts.failed, counts.cancelled)
                    }
                }
            }
        }
    }
}

/// The task and why, each step below it in a line, and what is known of times and costs.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, why, because, timeline, cost, .. } = self;
        write!(f, "{} ({})", plain(&task.name), plain(&task.key))?;
        task.label.as_ref().map_or(Ok(()), |label| write!(f, " of {:?}", plain(label)))?;
        write!(f, " {why}.")?;
        for Step { task, why, left_out, .. } in because {
            if *left_out > 0 {
                write!(
                    f,
                    "\n  {} between, each of which waits for the next.",
                    counted(*left_out, "task is", "tasks are")
                )?;
            }
            write!(f, "\n  {} {why}.", plain(&task.key))?;
        }
        if let Why::Failed { root, .. } = why {
            let which = if root.is_some() { "that one" } else { "it" };
            write!(
                f,
                "\nTo see {which} fail: `client.replay` with its call runs it in this program, for a debugger to stop in."
            )?;
        }
        write!(f, "{timeline}{cost}")
    }
}

/// A line of it; nothing, where nothing is known.
impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { submitted, ready, assigned, started, ended, inputs, input_bytes } = *self;
        let known = [
            ("submitted", submitted),
            ("ready", ready),
            ("given to a worker", assigned),
            ("started", started),
            ("ended", ended),
        ];
        let mut parts: Vec<String> =
            known.iter().filter_map(|(what, at)| Some(format!("{what} {}", clock((*at)?)))).collect();
        let waits = inputs.is_some_and(|(there, all)| there < all);
        if waits && ready.is_none() && started.is_none() {
            parts.push("ready never".to_string());
        }
        if !parts.is_empty() {
            write!(f, "\nSo far: {}.", parts.join(", "))?;
        }
        match inputs {
            Some((there, all)) if waits => {
                f.write_str(if parts.is_empty() { "\n" } else { " " })?;
                write!(f, "Inputs so far {there} of {all}")?;
                if input_bytes > 0 { write!(f, ", {}.", size(input_bytes)) } else { f.write_str(".") }
            }
            _ => Ok(()),
        }
    }
}

/// A line of it; nothing, where nothing is known.
impl fmt::Display for TaskCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, failed, lost, took, total, usual, cpu, bytes_in, bytes_out } = *self;
        if runs == 0 {
            return Ok(());
        }
        write!(f, "\nIt has run {}", if runs == 1 { "once".to_string() } else { format!("{runs} times") })?;
        if failed > 0 {
            write!(f, ", {failed} of that failed")?;
        }
        if lost > 0 {
            write!(f, ", {lost} lost with a worker")?;
        }
        if let Some(took) = took {
            write!(f, ", {}", seconds(took))?;
            if let Some(usual) = usual {
                write!(f, " (usual for its name: {})", seconds(usual))?;
            }
            if runs > 1 {
                write!(f, ", {} in all", seconds(total))?;
            }
        }
        cpu.map_or(Ok(()), |cpu| write!(f, ", {} on a processor", seconds(cpu)))?;
        bytes_in.map_or(Ok(()), |bytes| write!(f, ", {} in", size(bytes)))?;
        bytes_out.map_or(Ok(()), |bytes| write!(f, ", {} out", size(bytes)))?;
        f.write_str(".")
    }
}

/// What an error says, without a full stop at its end.
fn told(error: &str) -> String {
    plain(error).trim_end_matches('.').to_string()
}

fn before(graphs: u64) -> String {
    match graphs {
        0 => String::new(),
        1 => "; 1 graph is before it".to_string(),
        n => format!("; {n} graphs are before it"),
    }
}

fn counted(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| plain(name)).collect::<Vec<_>>().join(", ")
}

/// The time of day, as all clocks have it that are set to universal time.
fn clock(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (s, tenth) = (since.as_secs() % 86_400, since.subsec_millis() / 100);
    format!("{:02}:{:02}:{:02}.{tenth} UTC", s / 3600, s / 60 % 60, s % 60)
}

/// A size with one decimal.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut n = bytes as f64 / 1000.0;
    let mut unit = 0;
    while n >= 999.95 && unit + 1 < UNITS.len() {
        n /= 1000.0;
        unit += 1;
    }
    format!("{n:.1} {}", UNITS[unit])
}
