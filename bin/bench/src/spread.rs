//! Tasks on one value that one worker holds: how much of the machine they use.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require};
use crate::systems;
use crate::tasks::make_array;
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use swath::client::WaitFor;
use swath::{Buffer, Client, Data, Delayed, delayed};

fn buffer(n: u64) -> Buffer<f64> {
    make_array(n, 0)
}

fn list(n: u64) -> Arc<Vec<f64>> {
    Arc::new(make_array(n, 0).into_vec())
}

/// Takes so long, and no processor: what is measured is where tasks wait for each other.
fn work(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}

fn on_buffer(values: Buffer<f64>, i: u64, micros: u64) -> f64 {
    work(micros);
    values[i as usize]
}

fn on_list(values: Arc<Vec<f64>>, i: u64, micros: u64) -> f64 {
    work(micros);
    values[i as usize]
}

/// How long `n` tasks are to take, and do take.
#[derive(Clone, Copy)]
struct Tasks {
    n: u64,
    micros: u64,
    workers: usize,
}

impl Tasks {
    fn ideal(&self) -> f64 {
        self.n.div_ceil(self.workers as u64) as f64 * self.micros as f64 / 1e6
    }

    /// The same where all workers but the one that holds the value begin only after `built` seconds, which it takes to
    /// have the value there: nobody can do better who makes a copy for each process.
    fn ideal_built(&self, built: f64) -> f64 {
        let (n, workers) = (self.n as f64, self.workers as f64);
        (n * self.micros as f64 / 1e6 + (workers - 1.0) * built) / workers
    }

    /// The share of the ideal of each run. Each has a value of its own, which is finished before.
    fn measure<T: Data>(
        &self,
        client: &Client,
        make: impl Fn() -> Delayed<T>,
        on: impl Fn(&swath::Future<T>, u64) -> Delayed<f64>,
        repeat: usize,
    ) -> Outcome<Vec<f64>> {
        let mut shares = Vec::with_capacity(repeat);
        for _ in 0..repeat {
            let held = client.submit(&make())?;
            client.wait(std::slice::from_ref(&held), WaitFor::All)?;
            let tasks: Vec<_> = (0..self.n).map(|i| on(&held, i)).collect();
            let start = Instant::now();
            let sum: f64 = client.compute(&tasks)?.into_iter().sum();
            shares.push(self.ideal() / start.elapsed().as_secs_f64());
            require(sum == (0..self.n).map(|i| (i % 1000) as f64).sum::<f64>(), "the sum of what was read")?;
        }
        Ok(shares)
    }
}

/// Seconds that it takes at the least to have a list in other processes too: it is copied once to be sent, and once by each
/// of them, all at the same time. Each copy goes to memory that was never used.
fn building(elements: u64, others: usize, repeat: usize) -> f64 {
    let list = list(elements);
    let copy = || drop(black_box(Vec::clone(&list)));
    let took = (0..repeat).map(|_| {
        let start = Instant::now();
        copy();
        std::thread::scope(|scope| (0..others).for_each(|_| drop(scope.spawn(copy))));
        start.elapsed().as_secs_f64()
    });
    took.fold(f64::INFINITY, f64::min)
}

/// The same work on threads that share the value, as many for each.
fn threads(tasks: Tasks) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..tasks.workers {
            scope.spawn(|| (0..tasks.n.div_ceil(tasks.workers as u64)).for_each(|_| work(tasks.micros)));
        }
    });
    tasks.ideal() / start.elapsed().as_secs_f64()
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let sizes = options.mib.map_or(options.quick_or(vec![1], vec![1, 16, 64, 256]), |mib| vec![mib]);
    let micros = options.t_ms.map_or(options.quick_or(1000, 10_000), |ms| (ms * 1000.0) as u64);
    let tasks = Tasks { n: options.n.unwrap_or(options.quick_or(8, 128)), micros, workers: options.width() };
    let metric = Metric::new("efficiency", "1");
    report.for_each(|report, system| {
        let params = |part: &str, mib: usize| json!({"part": part, "mib": mib, "n": tasks.n, "t_us": micros, "workers": tasks.workers});
        if system == "floor-threads" {
            let shares: Vec<f64> = (0..options.repeat).map(|_| threads(tasks)).collect();
            report.emit_runs(system, &params("work", 0), metric, &shares);
            return Ok(());
        }
        let client = systems::open(system, tasks.workers)?;
        for &mib in &sizes {
            let elements = (mib as u64) << 17;
            let made = || delayed(buffer).call(elements);
            let on = |held: &_, i| delayed(on_buffer).call(held, i, micros);
            report.emit_runs(system, &params("buffer", mib), metric, &tasks.measure(&client, made, on, options.repeat)?);
            let made = || delayed(list).call(elements);
            let on = |held: &_, i| delayed(on_list).call(held, i, micros);
            let shares = tasks.measure(&client, made, on, options.repeat)?;
            report.emit_runs(system, &params("list", mib), metric, &shares);
            if system == "swath-processes" {
                let ideal = tasks.ideal_built(building(elements, tasks.workers - 1, options.repeat)) / tasks.ideal();
                let shares: Vec<f64> = shares.iter().map(|share| share * ideal).collect();
                report.emit_runs(system, &params("list", mib), Metric::new("efficiency_of_copies", "1"), &shares);
            }
        }
        Ok(())
    });
}
