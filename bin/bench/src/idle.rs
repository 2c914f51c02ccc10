//! Workers that wait: for tasks, or for tasks that sleep.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report};
use crate::tasks::sleep_inc;
use crate::{process, systems};
use serde_json::json;
use std::time::{Duration, Instant};
use swath::{Client, delayed};

const CPU: Metric = Metric::new("cpu_per_worker", "%");
const WAKE_UPS: Metric = Metric::new("wake_ups_per_worker", "1/s");

/// Processor time of a process in per cent, and how often a second it was woken.
fn observe(pids: &[u32], time: Duration) -> Outcome<(f64, f64)> {
    let look = || -> Outcome<(u64, u64)> {
        let gone = || "a process has ended";
        let cpu = pids.iter().map(|&pid| process::cpu_nanos(pid)).sum::<Option<u64>>().ok_or_else(gone)?;
        let woken = pids.iter().map(|&pid| process::wake_ups(pid)).sum::<Option<u64>>().ok_or_else(gone)?;
        Ok((cpu, woken))
    };
    let (before, start) = (look()?, Instant::now());
    std::thread::sleep(time);
    let (after, took) = (look()?, start.elapsed().as_secs_f64());
    let each = |n: u64| n as f64 / pids.len() as f64 / took;
    Ok((each(after.0 - before.0) / 1e9 * 100.0, each(after.1 - before.1)))
}

/// Observes the workers of a client while they have nothing to do, or a task each that sleeps.
fn once(client: &Client, workers: usize, busy: bool, options: &Options) -> Outcome<(f64, f64)> {
    let pids: Vec<u32> = client.workers()?.iter().map(|w| w.pid).collect();
    let (settle, time) = options.quick_or((50, 100), (500, 4000));
    let (settle, time) = (Duration::from_millis(settle), Duration::from_millis(time));
    if !busy {
        std::thread::sleep(settle);
        return observe(&pids, time);
    }
    let sleep = delayed(sleep_inc);
    let micros = (settle + time + settle).as_micros() as u64;
    let futures = (0..workers as u64).map(|x| client.submit(&sleep.call(x, micros))).collect::<Result<Vec<_>, _>>()?;
    std::thread::sleep(settle);
    let seen = observe(&pids, time)?;
    client.gather(&futures)?;
    Ok(seen)
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    report.for_each(|report, system| {
        let client = match system {
            "floor-sleep" => None,
            _ => Some(systems::open(system, workers)?),
        };
        let parts: &[bool] = if options.busy { &[true] } else { &[false, true] };
        for &busy in parts {
            let seen = (0..options.repeat)
                .map(|_| match &client {
                    Some(client) => once(client, workers, busy, options),
                    None => {
                        let child = process::start_sleeper()?;
                        std::thread::sleep(Duration::from_millis(options.quick_or(50, 500)));
                        observe(&[child.0.id()], Duration::from_millis(options.quick_or(100, 1000)))
                    }
                })
                .collect::<Outcome<Vec<_>>>()?;
            let params = json!({"workers": workers, "part": if busy { "busy" } else { "idle" }});
            let (cpu, woken): (Vec<f64>, Vec<f64>) = seen.into_iter().unzip();
            report.emit_runs(system, &params, CPU, &cpu);
            report.emit_runs(system, &params, WAKE_UPS, &woken);
        }
        Ok(())
    });
}
