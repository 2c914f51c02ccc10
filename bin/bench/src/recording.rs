//! What it costs to record a client in a file: tasks that do nothing, recorded and not, by turns. How many of the runs are in
//! the file is checked.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require, seconds};
use crate::{noop, systems};
use serde_json::json;
use swath::events::saved::SavedLog;

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    report.for_each(|report, system| {
        for n in options.sizes(&[100_000], &[1000]) {
            let directory = tempfile::tempdir()?;
            let path = directory.path().join("run.swath");
            let without = systems::open(system, workers)?;
            let with = systems::open_with(system, workers, |builder| builder.record(&path))?;
            let mut lanes = [("on", &with, Vec::new()), ("off", &without, Vec::new())];
            let mut rounds = 0;
            // More than usual: the difference is smaller than what two measurements on the same machine differ by.
            for _ in 0..options.quick_or(1, options.repeat * 7) {
                for (via, client, took) in lanes.iter_mut().filter(|(via, ..)| options.wants(system, via)) {
                    let check = |results: Vec<u64>| require(results.into_iter().eq(1..=n), &format!("recording {via}"));
                    took.extend(seconds(1, || noop::compute(client, n), check)?);
                    rounds += u64::from(*via == "on");
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
            with.shutdown();
            let summary = SavedLog::open(&path)?.summary();
            // What opening the client runs first is in the file, too.
            let is_whole = summary.complete && summary.runs >= rounds * n;
            require(
                is_whole,
                &format!("all runs in the file; {} of {}: {:?}", summary.runs, rounds * n, summary.problems),
            )?;
            let bytes = std::fs::metadata(&path)?.len() as f64 / summary.runs as f64;
            report.emit(system, &params("on"), Metric::new("size", "B/run"), bytes);
        }
        Outcome::Ok(())
    });
}
