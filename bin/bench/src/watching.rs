//! What it costs to look on: tasks that compute for a millisecond, with progress bars, with a performance report and without,
//! by turns. Bars are drawn where standard error is a terminal, which `benches/watch` gives it.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require};
use crate::{systems, tasks};
use serde_json::json;
use std::time::{Duration, Instant};
use swath::{Client, delayed};

/// How long a task computes.
const TASK: Duration = Duration::from_millis(1);

fn compute(rounds: u64) -> u64 {
    tasks::spin(rounds);
    1
}

/// Computes all, and with it what `until` does.
fn all(client: &Client, n: u64, rounds: u64, until: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let began = Instant::now();
    let done: Vec<u64> = client.compute(delayed(compute).map((0..n).map(|_| rounds)))?;
    until()?;
    let took = began.elapsed();
    require(done.len() as u64 == n, "not N tasks")?;
    Ok(took.as_secs_f64())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    let rounds = (TASK.as_nanos() as f64 / tasks::spin_cost()) as u64;
    report.for_each(|report, system| {
        let client = systems::open(system, workers)?;
        let directory = tempfile::tempdir()?;
        for n in options.sizes(&[10_000], &[100]) {
            let mut lanes = [("bare", Vec::new()), ("bars", Vec::new()), ("report", Vec::new())];
            all(&client, n / 10, rounds, || Ok(()))?;
            for round in 0..options.quick_or(1, options.repeat) {
                for (via, took) in lanes.iter_mut().filter(|(via, _)| options.wants(system, via)) {
                    took.push(match *via {
                        "bars" => {
                            let bars = client.progress_bars();
                            all(&client, n, rounds, move || {
                                drop(bars);
                                Ok(())
                            })?
                        }
                        "report" => {
                            let page = client.performance_report(directory.path().join(format!("{round}.html")));
                            all(&client, n, rounds, move || Ok(page.finish()?))?
                        }
                        _ => all(&client, n, rounds, || Ok(()))?,
                    });
                }
            }
            let params = |via: &str| json!({"n": n, "workers": workers, "via": via});
            for (via, took) in lanes.iter().filter(|(_, took)| !took.is_empty()) {
                report.emit_runs(system, &params(via), Metric::new("time", "s"), took);
                if *via != "bare" && !lanes[0].1.is_empty() {
                    let lost = median(took) - median(&lanes[0].1);
                    report.emit(system, &params(via), Metric::new("lost", "s"), lost);
                }
            }
        }
        Outcome::Ok(())
    });
}
