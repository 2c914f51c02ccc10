//! Many tasks that read one value: what reading it costs each of them, beside a `Buffer` of as many bytes.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require, seconds};
use crate::systems;
use serde_json::json;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use swath::{Buffer, Client, Data, delayed};

const BYTES: usize = 3_200_000;
const ENTRIES: u64 = 50_000;

fn numbers() -> Vec<f64> {
    (0..BYTES / 8).map(|i| i as f64).collect()
}

fn tree() -> BTreeMap<u64, f64> {
    (0..ENTRIES).map(|i| (i, i as f64)).collect()
}

fn of_buffer(values: Buffer<f64>, i: u64) -> f64 {
    values[i as usize]
}

fn of_numbers(values: Arc<Vec<f64>>, i: u64) -> f64 {
    values[i as usize]
}

fn of_tree(values: Arc<BTreeMap<u64, f64>>, i: u64) -> f64 {
    values[&i]
}

fn of_own_numbers(values: Vec<f64>, i: u64) -> f64 {
    values[i as usize]
}

/// Microseconds a task, of each run. The first run also has the value sent and decoded.
fn measure<T: Data>(
    client: &Client,
    value: T,
    of: fn(&Client, &swath::Future<T>, u64) -> Outcome<f64>,
    n: u64,
    repeat: usize,
) -> Outcome<Vec<f64>> {
    let held = client.scatter(value)?;
    let right = (n * (n - 1) / 2) as f64;
    let took = seconds(repeat, || of(client, &held, n), |sum| require(sum == right, "the sum of what was read"))?;
    Ok(took.into_iter().map(|s| s * 1e6 / n as f64).collect())
}

macro_rules! tasks {
    ($read:expr) => {
        |client, held, n| {
            let read: Vec<_> = (0..n).map(|i| delayed($read).call(held, i)).collect();
            Ok(client.compute(&read)?.into_iter().sum())
        }
    };
}

fn clone_of<T: Clone>(value: &T, repeat: usize) -> Outcome<Vec<f64>> {
    // What is dropped is part of it, as it is of a task.
    let once = || {
        drop(black_box(value.clone()));
        Ok(())
    };
    let took = seconds(repeat, once, |()| Ok(()))?;
    Ok(took.into_iter().map(|s| s * 1e6).collect())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let n = options.n.unwrap_or(options.quick_or(20, 1000));
    let repeat = options.repeat.max(options.quick_or(1, 5));
    report.for_each(|report, system| {
        let params = |part: &str| json!({"part": part, "n": n});
        if system == "floor-clone" {
            let metric = Metric::new("time", "us");
            report.emit_runs(system, &params("numbers"), metric, &clone_of(&numbers(), repeat)?);
            report.emit_runs(system, &params("tree"), metric, &clone_of(&tree(), repeat)?);
            return Ok(());
        }
        let client = systems::open(system, options.width())?;
        let buffer = measure(&client, Buffer::from(numbers()), tasks!(of_buffer), n, repeat)?;
        let parts = [
            ("numbers", measure(&client, Arc::new(numbers()), tasks!(of_numbers), n, repeat)?),
            ("tree", measure(&client, Arc::new(tree()), tasks!(of_tree), n, repeat)?),
            ("own numbers", measure(&client, numbers(), tasks!(of_own_numbers), n.min(200), repeat)?),
        ];
        report.emit_runs(system, &params("buffer"), Metric::new("time", "us"), &buffer);
        for (part, took) in parts {
            report.emit_runs(system, &params(part), Metric::new("time", "us"), &took);
            report.emit(system, &params(part), Metric::new("buffers", "1"), median(&took) / median(&buffer));
        }
        Ok(())
    });
}
