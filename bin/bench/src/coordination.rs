//! Locks and queues by name, used by the program and by a task, beside a task's round trip from there.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, percentile, require};
use crate::systems;
use crate::tasks::inc;
use serde_json::json;
use std::time::Instant;
use swath::{Client, current_client, delayed, try_delayed};

/// What is done, the round trip first.
const PARTS: [&str; 3] = ["roundtrip", "lock", "queue"];

/// Does one thing `n` times and gives the median of what it took, in microseconds.
fn median(part: &str, client: &Client, n: u64) -> swath::Result<f64> {
    let (lock, queue) = (client.lock("bench")?, client.queue::<u64>("bench", 4)?);
    let mut took = Vec::with_capacity(n as usize);
    for x in 0..n + 20 {
        let start = Instant::now();
        let result = match part {
            "lock" => lock.acquire().map(|guard| {
                drop(guard);
                x + 1
            })?,
            "queue" => {
                queue.put(x + 1)?;
                queue.get()?
            }
            _ => client.compute(&delayed(inc).call(x))?,
        };
        if x >= 20 {
            took.push(start.elapsed().as_secs_f64() * 1e6);
        }
        assert_eq!(result, x + 1, "what comes back");
    }
    Ok(percentile(&took, 0.5))
}

fn inside(part: String, n: u64) -> Result<f64, String> {
    let client = current_client().ok_or("not in a task")?;
    median(&part, &client, n).map_err(|e| e.to_string())
}

/// The medians of one turn of all parts.
fn turn(client: &Client, from: &str, n: u64) -> Outcome<Vec<f64>> {
    let one = |part: &&str| match from {
        "task" => client.compute(&try_delayed(inside).call(*part, n)),
        _ => median(part, client, n),
    };
    Ok(PARTS.iter().map(one).collect::<Result<_, _>>()?)
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let (n, workers) = (options.sizes(&[500], &[50])[0], options.width());
    let mut lines = Vec::new();
    report.for_each(|_, system| {
        let client = systems::open(system, workers)?;
        for from in ["client", "task"] {
            let turns =
                (0..options.repeat_or(5)).map(|_| turn(&client, from, n)).collect::<Outcome<Vec<Vec<f64>>>>()?;
            require(turns.iter().flatten().all(|us| *us > 0.0), "times")?;
            lines.push((system, from, turns));
        }
        Ok(())
    });
    for (system, from, turns) in lines {
        for (at, part) in PARTS.iter().enumerate() {
            let params = json!({"n": n, "workers": workers, "from": from, "part": part});
            let times: Vec<f64> = turns.iter().map(|turn| turn[at]).collect();
            report.emit_runs(system, &params, Metric::new("median", "us"), &times);
            if at > 0 {
                let ratios: Vec<f64> = turns.iter().map(|turn| turn[at] / turn[0]).collect();
                report.emit_runs(system, &params, Metric::new("round_trips", "1"), &ratios);
            }
        }
    }
}
