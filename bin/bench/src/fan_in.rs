//! One task with many inputs that all succeed, or all fail.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require, seconds};
use crate::{systems, tasks};
use serde_json::json;
use swath::{Client, delayed, try_delayed};

fn refuse(x: u64) -> Result<u64, String> {
    if x < u64::MAX { Err(format!("{x} is refused")) } else { Ok(x) }
}

/// Milliseconds of each run.
fn measure(client: &Client, n: u64, failing: bool, repeat: usize) -> Outcome<Vec<f64>> {
    let took = seconds(
        repeat,
        || {
            let sum = if failing {
                delayed(tasks::merge).call(try_delayed(refuse).map(0..n))
            } else {
                delayed(tasks::merge).call(delayed(tasks::inc).map(0..n))
            };
            Ok(sum.compute(client))
        },
        |sum| match sum {
            Ok(sum) => require(!failing && sum == n * (n + 1) / 2, "the sum"),
            Err(error) => require(failing && error.to_string().contains("0 is refused"), "the first failure"),
        },
    )?;
    Ok(took.into_iter().map(|s| s * 1e3).collect())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let sizes = options.sizes(&[1000, 2000, 4000, 8000], &[100]);
    report.for_each(|report, system| {
        let metric = Metric::new("time", "ms");
        if system == "floor-serial" {
            for &n in &sizes {
                let sum = || Ok((0..n).map(refuse).filter(Result::is_err).count() as u64);
                let took = seconds(options.repeat, sum, |failed| require(failed == n, "failures"))?;
                report.emit(system, &json!({"n": n, "part": "failing"}), metric, median(&took) * 1e3);
            }
            return Ok(());
        }
        let client = systems::open(system, options.width())?;
        for &n in &sizes {
            let succeeding = measure(&client, n, false, options.repeat)?;
            report.emit_runs(system, &json!({"n": n, "part": "succeeding"}), metric, &succeeding);
            if options.wants_part("failing") {
                let failing = measure(&client, n, true, options.repeat)?;
                let params = json!({"n": n, "part": "failing"});
                report.emit_runs(system, &params, metric, &failing);
                report.emit(system, &params, Metric::new("succeeding", "1"), median(&failing) / median(&succeeding));
            }
        }
        Ok(())
    });
}
