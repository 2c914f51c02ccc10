//! N independent tasks: submit all, gather all.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require, seconds};
use crate::tasks::inc;
use crate::{floors, pool, systems};
use serde_json::json;
use swath::{Client, delayed};

pub(crate) const THROUGHPUT: Metric = Metric::new("throughput", "tasks/s");

/// All tasks in one graph.
pub(crate) fn compute(client: &Client, n: u64) -> Outcome<Vec<u64>> {
    Ok(client.compute(delayed(inc).map(0..n))?)
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    report.for_each(|report, system| {
        let client = systems::open_if_swath(system, workers)?;
        let pool = pool::open(workers)?;
        pool::noops(&pool, 100);
        for n in options.sizes(&[2000, 10_000, 100_000, 1_000_000], &[1000]) {
            let measure = |via: &str, run: &dyn Fn() -> Outcome<Vec<u64>>| {
                if !options.wants(system, via) {
                    return Ok(());
                }
                let check = |results: Vec<u64>| require(results.into_iter().eq(1..=n), "not 1 to N in order");
                let took = seconds(options.repeat, run, check)?;
                let rates: Vec<f64> = took.iter().map(|t| n as f64 / t).collect();
                report.emit_runs(system, &json!({"n": n, "workers": workers, "via": via}), THROUGHPUT, &rates);
                Outcome::Ok(())
            };
            match &client {
                Some(client) => {
                    measure("compute", &|| compute(client, n))?;
                    measure("map", &|| Ok(client.gather(&client.map(inc, 0..n)?)?))?;
                    // A graph for each task: a hundred thousand of them say enough.
                    if n <= 100_000 {
                        measure("submit", &|| {
                            let inc = delayed(inc);
                            let futures = (0..n).map(|x| client.submit(&inc.call(x))).collect::<Result<Vec<_>, _>>()?;
                            Ok(client.gather(&futures)?)
                        })?;
                    }
                }
                None => match system {
                    "floor-serial" => measure("loop", &|| Ok(floors::serial(n)))?,
                    "floor-rayon" => measure("spawn", &|| Ok(pool::noops(&pool, n)))?,
                    "floor-threads" => measure("counter", &|| Ok(floors::threads(n, workers)))?,
                    _ => measure("scheduler", &|| {
                        let delivered = swath::bench::drive_noops(u32::try_from(n)?, u32::try_from(workers)?);
                        require(delivered == n, "results are missing")?;
                        Ok((1..=n).collect())
                    })?,
                },
            }
        }
        Ok(())
    });
}
