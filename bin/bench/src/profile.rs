//! What it costs that threads are sampled: tasks that compute, with the profile and without, by turns. Compared is the CPU time
//! of the tasks, which nobody else's work on the machine adds to.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require};
use crate::{systems, tasks};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use std::time::Duration;
use swath::{Client, delayed};

/// How long a task runs.
const TASK: Duration = Duration::from_millis(5);

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Does so many rounds of work, a few calls deep, and gives the nanoseconds that it took.
fn compute(rounds: u64) -> u64 {
    fn deeper(depth: u64, rounds: u64) -> u64 {
        if depth == 0 {
            tasks::spin(rounds);
            return 1;
        }
        std::hint::black_box(deeper(depth - 1, rounds)) + 1
    }
    let before = cpu();
    std::hint::black_box(deeper(20, rounds));
    (cpu() - before).as_nanos() as u64
}

/// The milliseconds of all tasks.
fn all(client: &Client, n: u64, rounds: u64) -> Outcome<f64> {
    let took: Vec<u64> = client.compute(delayed(compute).map((0..n).map(|_| rounds)))?;
    require(took.len() as u64 == n, "not N tasks")?;
    Ok(took.into_iter().sum::<u64>() as f64 / 1e6)
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    let rounds = (TASK.as_nanos() as f64 / tasks::spin_cost()) as u64;
    report.for_each(|report, system| {
        let client = systems::open(system, workers)?;
        for n in options.sizes(&[200], &[20]) {
            let (mut on, mut off) = (Vec::new(), Vec::new());
            all(&client, n, rounds)?;
            for _ in 0..options.quick_or(1, options.repeat * 3) {
                off.push(all(&client, n, rounds)?);
                let (took, profile) = client.profile_during(|| all(&client, n, rounds))?;
                on.push(took?);
                let samples = profile.of("compute").map_or(0, |compute| compute.samples);
                let expected = n * TASK.as_millis() as u64 / 10;
                require(samples * 3 > expected, &format!("{samples} samples, {expected} expected"))?;
            }
            let params = |via: &str| json!({"n": n, "workers": workers, "via": via});
            let time = Metric::new("cpu", "ms");
            report.emit_runs(system, &params("on"), time, &on);
            report.emit_runs(system, &params("off"), time, &off);
            let cost = (median(&on) / median(&off) - 1.0) * 100.0;
            report.emit(system, &params("on/off"), Metric::new("cost", "%"), cost);
        }
        Outcome::Ok(())
    });
}
