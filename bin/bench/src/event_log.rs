//! What it costs that every run of a task is recorded: tasks that do nothing, with the event log and without, by turns.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require, seconds};
use crate::{noop, systems};
use serde_json::json;
use swath::Client;

fn records_runs(client: &Client) -> Outcome<bool> {
    Ok(!client.events()?.runs().is_empty())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    report.for_each(|report, system| {
        let with = systems::open(system, workers)?;
        let without = systems::open_with(system, workers, |builder| builder.events(0))?;
        require(records_runs(&with)? && !records_runs(&without)?, "which client records runs")?;
        for n in options.sizes(&[100_000], &[1000]) {
            let mut lanes = [("on", &with, Vec::new()), ("off", &without, Vec::new())];
            // More than usual: the difference is smaller than what two measurements on the same machine differ by.
            for _ in 0..options.quick_or(1, options.repeat * 7) {
                for (via, client, took) in lanes.iter_mut().filter(|(via, ..)| options.wants(system, via)) {
                    let check = |results: Vec<u64>| require(results.into_iter().eq(1..=n), &format!("events {via}"));
                    took.extend(seconds(1, || noop::compute(client, n), check)?);
                }
            }
            let params = |via: &str| json!({"n": n, "workers": workers, "via": via});
            for (via, _, took) in lanes.iter().filter(|(.., took)| !took.is_empty()) {
                let rates: Vec<f64> = took.iter().map(|t| n as f64 / t).collect();
                report.emit_runs(system, &params(via), noop::THROUGHPUT, &rates);
            }
            let [(.., on), (.., off)] = &lanes;
            if !on.is_empty() && !off.is_empty() {
                let cost = (median(on) / median(off) - 1.0) * 100.0;
                report.emit(system, &params("on/off"), Metric::new("cost", "%"), cost);
            }
        }
        Outcome::Ok(())
    });
}
