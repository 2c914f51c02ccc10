//! From nothing to a client whose workers have all answered, and what that costs while it idles.

use crate::options::Options;
use crate::process::{self, Usage};
use crate::report::{Metric, Outcome, Report, require, seconds};
use crate::tasks::slow_pid;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use swath::memory::MemoryLimit;
use swath::{Client, delayed};

/// What the child says when it is ready.
#[derive(Serialize, Deserialize)]
struct Ready {
    seconds: f64,
    pids: BTreeSet<u32>,
}

/// Starts a client, says when all its workers have answered, and waits for the end of its input.
pub(crate) fn child(options: &Options) -> Outcome {
    let workers = options.width();
    let threads = options.systems.as_ref().is_some_and(|s| s.iter().any(|s| s == "swath-threads"));
    let start = Instant::now();
    let client = match threads {
        true => Client::threads(workers),
        false => Client::local(workers, 1, MemoryLimit::None)?,
    };
    let wanted = if threads { 1 } else { workers };
    let mut pids = BTreeSet::new();
    while pids.len() < wanted {
        if start.elapsed() > Duration::from_secs(60) {
            return Err("not every worker answered".into());
        }
        let tasks: Vec<_> = (0..2 * workers).map(|_| delayed(slow_pid).call()).collect();
        pids.extend(client.compute(tasks)?);
    }
    let ready = Ready { seconds: start.elapsed().as_secs_f64(), pids };
    println!("{}", serde_json::to_string(&ready)?);
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_until(b'\n', &mut Vec::new())?;
    client.shutdown();
    Ok(())
}

const MEASURED: [Metric; 8] = [
    Metric::new("exec_to_first_results", "s"),
    Metric::new("constructor_to_first_results", "s"),
    Metric::new("rss_per_worker", "MiB"),
    Metric::new("private_per_worker", "MiB"),
    Metric::new("rss_all_processes", "MiB"),
    Metric::new("pss_all_processes", "MiB"),
    Metric::new("processes", "1"),
    Metric::new("idle_cpu", "%"),
];

/// One start, as [`MEASURED`].
fn once(system: &str, workers: usize, settle: Duration, idle: Duration) -> Outcome<[f64; 8]> {
    let start = Instant::now();
    let mut child = process::Guard(
        Command::new(process::SELF)
            .args(["startup-child", "--systems", system, "--workers", &workers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut line = String::new();
    let out = child.0.stdout.take().ok_or("the child has no output")?;
    BufReader::new(out).read_line(&mut line)?;
    let cold = start.elapsed().as_secs_f64();
    let ready: Ready = serde_json::from_str(&line).map_err(|_| "the child did not get ready")?;

    let busy = |family: &[u32]| family.iter().filter_map(|&pid| process::cpu_nanos(pid)).sum::<u64>() as f64;
    std::thread::sleep(settle);
    let family = process::family(child.0.id())?;
    let (from, since) = (busy(&family), Instant::now());
    std::thread::sleep(idle);
    let cpu = (busy(&family) - from) / since.elapsed().as_nanos() as f64 * 100.0;

    let usage: Vec<(u32, Usage)> = family.iter().map(|&pid| Ok((pid, process::usage(pid)?))).collect::<Outcome<_>>()?;
    let mine: Vec<&Usage> = usage.iter().filter(|(pid, _)| ready.pids.contains(pid)).map(|(_, u)| u).collect();
    require(mine.len() == ready.pids.len(), "worker processes are not there")?;
    let mean = |of: fn(&Usage) -> f64| mine.iter().map(|u| of(u)).sum::<f64>() / mine.len() as f64;
    let all = |of: fn(&Usage) -> f64| usage.iter().map(|(_, u)| of(u)).sum::<f64>();
    let measured = [
        cold,
        ready.seconds,
        mean(|u| u.rss),
        mean(|u| u.private),
        all(|u| u.rss),
        all(|u| u.pss),
        usage.len() as f64,
        cpu,
    ];
    drop(child.0.stdin.take());
    require(child.0.wait()?.success(), "the child failed")?;
    Ok(measured)
}

fn exec(report: &Report, system: &str, options: &Options) -> Outcome {
    for (name, program, args) in [("true", "/bin/true", &[][..]), ("bench", process::SELF, &["exec-child"][..])] {
        let spawn = || Ok(Command::new(program).args(args).status()?);
        let took = seconds(options.quick_or(3, 30), spawn, |status| require(status.success(), "exit code"))?;
        report.emit_runs(system, &json!({"program": name}), Metric::new("exec_to_exit", "s"), &took);
    }
    Ok(())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    // The first part of two seconds is for what is still being put away.
    let (settle, idle) = options.quick_or((50, 100), (500, 1500));
    let (settle, idle) = (Duration::from_millis(settle), Duration::from_millis(idle));
    report.for_each(|report, system| {
        if system == "floor-exec" {
            return exec(report, system, options);
        }
        let runs = options.quick_or(1, options.repeat);
        let starts = (0..runs).map(|_| once(system, workers, settle, idle)).collect::<Outcome<Vec<_>>>()?;
        for (i, metric) in MEASURED.iter().enumerate() {
            let values: Vec<f64> = starts.iter().map(|s| s[i]).collect();
            report.emit_runs(system, &json!({"workers": workers}), *metric, &values);
        }
        Ok(())
    });
}
