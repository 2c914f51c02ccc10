//! One-task requests beside a batch: how long they wait, and what the batch loses.

use crate::floors::Pong;
use crate::options::Options;
use crate::report::{Metric, Outcome, Report, percentile, require};
use crate::systems;
use crate::tasks::{inc, merge, spin, spin_cost};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use swath::{Client, Delayed, Future, delayed};

/// Microseconds of work in each task of the batch.
const WORK: f64 = 90.0;
/// From the end of one request to the next one.
const PAUSE: Duration = Duration::from_millis(1);
/// Requests where nothing else runs.
const ALONE: usize = 1000;

fn leaf(x: u64, rounds: u64) -> u64 {
    spin(rounds);
    x + 1
}

/// Milliseconds that each request takes, until there were enough.
fn requests(mut enough: impl FnMut(usize) -> bool, mut one: impl FnMut(u64) -> Outcome<u64>) -> Outcome<Vec<f64>> {
    let mut took = Vec::new();
    while !enough(took.len()) {
        let x = took.len() as u64;
        let start = Instant::now();
        let result = one(x)?;
        took.push(start.elapsed().as_secs_f64() * 1000.0);
        require(result == x + 1, "not x + 1")?;
        std::thread::sleep(PAUSE);
    }
    Ok(took)
}

fn request(client: &Client, x: u64) -> Outcome<u64> {
    Ok(client.compute(&delayed(inc).call(x))?)
}

fn batch(client: &Client, n: u64, rounds: u64) -> Outcome<Future<u64>> {
    let leaves: Vec<Delayed<u64>> = (0..n).map(|x| delayed(leaf).call(x, rounds)).collect();
    Ok(client.submit(&delayed(merge).call(leaves))?)
}

/// What was seen once.
#[derive(Default)]
struct Pass {
    alone: f64,
    beside: f64,
    median_beside: f64,
    /// Percent of the batch's time.
    lost: f64,
}

fn of_client(client: &Client, n: u64, rounds: u64) -> Outcome<Pass> {
    let alone = requests(|n| n >= ALONE, |x| request(client, x))?;
    let start = Instant::now();
    require(batch(client, n, rounds)?.result()? == n * (n + 1) / 2, "not the sum")?;
    let before = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let future = batch(client, n, rounds)?;
    let beside = requests(|_| future.is_done(), |x| request(client, x))?;
    require(future.result()? == n * (n + 1) / 2, "not the sum")?;
    let lost = 100.0 * (start.elapsed().as_secs_f64() / before - 1.0);
    let median_beside = percentile(&beside, 0.5);
    Ok(Pass { alone: percentile(&alone, 0.99), beside: percentile(&beside, 0.99), median_beside, lost })
}

/// A bare socket between two processes, beside as many threads that spin as there are workers.
fn of_socket(pong: &mut Pong, workers: usize) -> Outcome<Pass> {
    let alone = requests(|n| n >= ALONE, |x| pong.inc(x))?;
    let stop = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let beside = requests(|n| n >= ALONE, |x| pong.inc(x));
        stop.store(true, Ordering::Relaxed);
        beside
    })?;
    let median_beside = percentile(&beside, 0.5);
    Ok(Pass { alone: percentile(&alone, 0.99), beside: percentile(&beside, 0.99), median_beside, lost: 0.0 })
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    let n = options.n.unwrap_or(options.quick_or(5000, 100_000));
    let rounds = (WORK * 1000.0 / spin_cost()) as u64;
    report.for_each(|report, system| {
        let mut passes = Vec::new();
        match system {
            "floor-socketpair" => {
                let mut pong = Pong::start()?;
                for _ in 0..options.repeat {
                    passes.push(of_socket(&mut pong, workers)?);
                }
            }
            _ => {
                let client = systems::open(system, workers)?;
                for _ in 0..options.repeat {
                    passes.push(of_client(&client, n, rounds)?);
                }
            }
        }
        let params = json!({"n": n, "us": WORK, "workers": workers});
        let runs = |of: fn(&Pass) -> f64| passes.iter().map(of).collect::<Vec<_>>();
        report.emit_runs(system, &params, Metric::new("p99_alone", "ms"), &runs(|p| p.alone));
        report.emit_runs(system, &params, Metric::new("p50_beside", "ms"), &runs(|p| p.median_beside));
        report.emit_runs(system, &params, Metric::new("p99_beside", "ms"), &runs(|p| p.beside));
        report.emit_runs(system, &params, Metric::new("of_alone", "1"), &runs(|p| p.beside / p.alone));
        if system != "floor-socketpair" {
            report.emit_runs(system, &params, Metric::new("batch_loses", "%"), &runs(|p| p.lost));
        }
        Ok(())
    });
}
