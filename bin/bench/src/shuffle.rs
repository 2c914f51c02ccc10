//! Each of n partitions sends something to each of n partitions: what one such piece costs.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require, seconds};
use crate::{floors, systems};
use serde_json::json;
use std::sync::Arc;
use swath::Client;
use swath::collection::{Input, Layer, Shuffle, Shuffled};

/// How many of the numbers `0..n * n` there are when those of `n` chunks have gone to `n` others.
fn shuffle(client: &Client, n: u64) -> Outcome<u64> {
    let numbers = Layer::over((Input::each(0..n), Input::shared(n)))
        .elements(|chunk: Arc<u64>, n: Arc<u64>| *chunk * *n..(*chunk + 1) * *n);
    let cut = Shuffle::<u64>::by_key(&numbers, n as usize, |x| *x);
    let counts = Layer::over((Input::shuffled(&cut),)).chunks(|all: Shuffled<u64>| all.count() as u64);
    Ok(client.compute(&counts.to_delayed())?.into_iter().sum())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    report.for_each(|report, system| {
        let client = systems::open_if_swath(system, workers)?;
        for n in options.sizes(&[100, 400], &[20]) {
            let once = || match &client {
                Some(client) => shuffle(client, n),
                None => floors::exchange(n),
            };
            let took = seconds(options.repeat, once, |count| require(count == n * n, "numbers are missing"))?;
            let cost: Vec<f64> = took.iter().map(|t| t * 1e6 / (n * n) as f64).collect();
            report.emit_runs(system, &json!({"n": n, "workers": workers}), Metric::new("piece", "us"), &cost);
        }
        Ok(())
    });
}
