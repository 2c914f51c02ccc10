//! What a task costs as graphs grow, and as workers become many more than processors: it should stay the same.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require, seconds};
use crate::{noop, process, shapes, systems};
use serde_json::{Value, json};

const COST: Metric = Metric::new("cost", "ns/task");

/// Fewer measurements of what takes long, more of what is over at once.
fn repeats(options: &Options, n: u64) -> usize {
    match n {
        0..=100_000 => options.repeat.max(options.quick_or(1, 7)),
        100_001..=1_000_000 => options.repeat,
        _ => 1,
    }
}

fn costs(report: &Report, system: &str, params: &Value, n: u64, took: &[f64]) {
    let costs: Vec<f64> = took.iter().map(|t| t * 1e9 / n as f64).collect();
    report.emit_runs(system, params, COST, &costs);
}

/// Seconds of the scheduler by itself.
fn scheduler_alone(options: &Options, n: u64, workers: usize) -> Outcome<Vec<f64>> {
    let (tasks, fleet) = (u32::try_from(n)?, u32::try_from(workers)?);
    let check = |delivered| require(delivered == n, "results are missing");
    seconds(repeats(options, n), || Ok(swath::bench::drive_noops(tasks, fleet)), check)
}

fn tasks(report: &Report, system: &str, options: &Options) -> Outcome {
    let sizes = options.sizes(&[1000, 10_000, 100_000, 1_000_000, 10_000_000], &[1000, 10_000]);
    let workers = options.width();
    let params = |shape: &str, n: u64| json!({"part": "tasks", "shape": shape, "n": n, "workers": workers});
    if system == "floor-scheduler" {
        for n in sizes {
            costs(report, system, &params("noop", n), n, &scheduler_alone(options, n, workers)?);
        }
        return Ok(());
    }
    let client = systems::open(system, workers)?;
    for n in sizes {
        let check = |results: Vec<u64>| require(results.into_iter().eq(1..=n), "not 1 to N in order");
        let took = seconds(repeats(options, n), || noop::compute(&client, n), check)?;
        costs(report, system, &params("noop", n), n, &took);
        // The tree that is nearest to the size.
        let depth = (n as f64).log2().round() as u32;
        let (leaves, n) = (1_u64 << depth, (1_u64 << depth) - 1);
        let check = |sum| require(sum == leaves * (leaves - 1) / 2, "another sum");
        let took = seconds(repeats(options, n), || shapes::tree_of(&client, depth), check)?;
        costs(report, system, &params("tree", n), n, &took);
    }
    Ok(())
}

fn workers(report: &Report, system: &str, options: &Options) -> Outcome {
    let n = options.n.unwrap_or(options.quick_or(1000, 100_000));
    for workers in options.workers.map_or(options.quick_or(vec![1, 4], vec![1, 2, 4, 8, 16, 32, 64]), |w| vec![w]) {
        let took = match system {
            "floor-scheduler" => scheduler_alone(options, n, workers)?,
            _ => {
                let client = systems::open(system, workers)?;
                let check = |results: Vec<u64>| require(results.into_iter().eq(1..=n), "not 1 to N in order");
                seconds(repeats(options, n), || noop::compute(&client, n), check)?
            }
        };
        let params = json!({"part": "workers", "shape": "noop", "n": n, "workers": workers});
        costs(report, system, &params, n, &took);
    }
    Ok(())
}

/// Each system in a process of its own: memory that one left with the allocator would be the next one's for free.
pub(crate) fn run(report: &mut Report, options: &Options) {
    let alone = report.systems().len() == 1;
    let wanted = |part: &str| options.part.as_ref().is_none_or(|only| only.iter().any(|p| p == part));
    report.for_each(|report, system| {
        if !alone {
            return process::again("scaling", system, options);
        }
        if wanted("tasks") {
            tasks(report, system, options)?;
        }
        if wanted("workers") {
            workers(report, system, options)?;
        }
        Ok(())
    });
}
