//! The scheduler by itself: what nothing built on it can be faster than.

use crate::options::Options;
use crate::report::{Metric, Report, median, require, seconds};
use serde_json::json;

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    report.for_each(|report, system| {
        for n in options.sizes(&[10_000, 1_000_000], &[10_000]) {
            let (tasks, fleet) = (u32::try_from(n)?, u32::try_from(workers)?);
            let check = |delivered| require(delivered == n, "results are missing");
            let took = seconds(options.repeat, || Ok(swath::bench::drive_noops(tasks, fleet)), check)?;
            let params = json!({"n": n, "workers": workers});
            let costs: Vec<f64> = took.iter().map(|t| t * 1e9 / n as f64).collect();
            report.emit_runs(system, &params, Metric::new("cost", "ns/task"), &costs);
            report.emit(system, &params, Metric::new("throughput", "tasks/s"), n as f64 / median(&took));
        }
        Ok(())
    });
}
