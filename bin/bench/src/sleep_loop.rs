//! N tasks that each sleep, then one sum: how well the workers are kept busy.

use crate::options::Options;
use crate::report::{Metric, Report, require, seconds};
use crate::tasks::{merge, sleep_inc};
use crate::{floors, systems};
use serde_json::json;
use swath::delayed;

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.workers.unwrap_or(4);
    let settings = match (options.n, options.t_ms) {
        (None, None) => options.quick_or(vec![(100, 1.0)], vec![(1000, 10.0), (4000, 1.0)]),
        (n, t_ms) => vec![(n.unwrap_or(1000), t_ms.unwrap_or(10.0))],
    };
    report.for_each(|report, system| {
        let client = match system {
            "floor-sleep" => None,
            _ => Some(systems::open(system, workers)?),
        };
        for &(n, t_ms) in &settings {
            let micros = (t_ms * 1000.0) as u64;
            let ideal = n as f64 * t_ms / 1000.0 / workers as f64;
            let go = || match &client {
                Some(client) => {
                    let slept: Vec<_> = (0..n).map(|x| delayed(sleep_inc).call(x, micros)).collect();
                    Ok(delayed(merge).call(slept).compute(client)?)
                }
                None => Ok(floors::sleeps(n, micros, workers)),
            };
            let took = seconds(options.repeat, go, |sum| require(sum == n * (n + 1) / 2, "not the sum of 1 to N"))?;
            let params = json!({"n": n, "t_ms": t_ms, "workers": workers});
            let efficiency: Vec<f64> = took.iter().map(|t| ideal / t).collect();
            report.emit_runs(system, &params, Metric::new("efficiency", "1"), &efficiency);
            report.emit_runs(system, &params, Metric::new("time", "s"), &took);
        }
        Ok(())
    });
}
