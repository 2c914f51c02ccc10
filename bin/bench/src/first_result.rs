//! A map of many items: how soon the first result is here.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require};
use crate::tasks::inc;
use crate::{pool, systems};
use serde_json::json;
use std::time::Instant;
use swath::Client;

/// Milliseconds until the map was submitted, and until it gave a result.
struct Times {
    submitted: Vec<f64>,
    first: Vec<f64>,
}

/// Maps, and waits for the first item's result, or for whichever result is there first.
fn once(client: &Client, n: u64, whichever: bool) -> Outcome<(f64, f64)> {
    let start = Instant::now();
    let mut futures = client.map(inc, 0..n)?;
    let submitted = start.elapsed().as_secs_f64();
    if whichever {
        let mut completed = client.as_completed(futures);
        let result = completed.next().ok_or("nothing was completed")?.result()?;
        let first = start.elapsed().as_secs_f64();
        futures = completed.collect();
        let sum = client.gather(&futures)?.into_iter().sum::<u64>() + result;
        require(sum == n * (n + 1) / 2, "not 1 to N")?;
        return Ok((submitted, first));
    }
    let result = futures[0].result()?;
    let first = start.elapsed().as_secs_f64();
    require(result == 1 && client.gather(&futures)?.into_iter().eq(1..=n), "not 1 to N in order")?;
    Ok((submitted, first))
}

fn repeated(repeat: usize, mut once: impl FnMut() -> Outcome<(f64, f64)>) -> Outcome<Times> {
    let mut times = Times { submitted: Vec::new(), first: Vec::new() };
    for _ in 0..repeat {
        let (submitted, first) = once()?;
        times.submitted.push(submitted * 1000.0);
        times.first.push(first * 1000.0);
    }
    Ok(times)
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    report.for_each(|report, system| {
        for n in options.sizes(&[100_000], &[1000]) {
            let tell = |via: &str, times: Times| {
                let params = json!({"n": n, "workers": workers, "via": via});
                report.emit_runs(system, &params, Metric::new("submitted", "ms"), &times.submitted);
                report.emit_runs(system, &params, Metric::new("first_result", "ms"), &times.first);
            };
            if system == "floor-rayon" {
                let pool = pool::open(workers)?;
                let spawn = || {
                    let start = Instant::now();
                    let (spawned, result) = pool::first_of(&pool, n)?;
                    let first = start.elapsed().as_secs_f64();
                    require((1..=n).contains(&result), "not one of 1 to N")?;
                    Ok((spawned, first))
                };
                tell("spawn", repeated(options.repeat, spawn)?);
                continue;
            }
            let client = systems::open(system, workers)?;
            for (via, whichever) in [("map", false), ("as_completed", true)] {
                if options.wants(system, via) {
                    tell(via, repeated(options.repeat, || once(&client, n, whichever))?);
                }
            }
        }
        Ok(())
    });
}
