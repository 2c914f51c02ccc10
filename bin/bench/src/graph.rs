//! Describing and submitting a large graph: time, and memory while all of it waits.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report};
use crate::tasks::{add, gate};
use crate::{process, systems};
use serde_json::json;
use std::time::Instant;
use swath::{Client, Delayed, delayed};

/// A binary tree of about `n` tasks whose leaves all need one task.
fn tree(leaf: &Delayed<u64>, n: u64) -> Delayed<u64> {
    let add = delayed(add);
    let mut level: Vec<_> = (0..n.div_ceil(2).max(1)).map(|x| add.call(leaf, x)).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [x, y] => add.call(x, y),
                rest => rest[0].clone(),
            })
            .collect();
    }
    level.swap_remove(0)
}

fn measure(report: &Report, system: &str, options: &Options, client: &Client, n: u64) -> Outcome {
    let params = json!({"n": n, "workers": options.width()});
    let per_task = |metric: &'static str, start: Instant| {
        let cost = start.elapsed().as_secs_f64() * 1e9 / n as f64;
        report.emit(system, &params, Metric::new(metric, "ns/task"), cost);
    };
    let before = process::resident()?;
    let start = Instant::now();
    let root = tree(&delayed(gate).call(), n);
    per_task("build", start);
    let described = process::resident()?;

    let start = Instant::now();
    let future = client.submit(&root)?;
    per_task("submit", start);
    // The answer comes after everything that was sent before.
    client.explain(&future)?;
    per_task("submit_and_take_in", start);
    let live = process::resident()?;
    let bytes = |from: u64, to: u64| to.saturating_sub(from) as f64 / n as f64;
    report.emit(system, &params, Metric::new("rss_described", "B/task"), bytes(before, described));
    report.emit(system, &params, Metric::new("rss_live", "B/task"), bytes(described, live));

    let start = Instant::now();
    client.cancel(&future);
    drop((root, future));
    client.workers()?;
    per_task("cancel", start);
    Ok(())
}

/// Each system in a process of its own: memory that one left with the allocator would be the next one's for free.
pub(crate) fn run(report: &mut Report, options: &Options) {
    let alone = report.systems().len() == 1;
    report.for_each(|report, system| {
        if !alone {
            return process::again("graph", system, options);
        }
        let client = systems::open(system, options.width())?;
        for n in options.sizes(&[1_000_000], &[10_000]) {
            measure(report, system, options, &client, n)?;
        }
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tree_of_any_size_adds_up() {
        for n in [1_u64, 2, 3, 10, 11, 100] {
            let leaves = n.div_ceil(2).max(1);
            let zero = delayed(|| 0_u64).call();
            assert_eq!(tree(&zero, n).compute(&Client::sync()).unwrap(), leaves * (leaves - 1) / 2, "{n}");
        }
    }
}
