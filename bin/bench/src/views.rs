//! A part of a large value that is held: what asking for it costs, beside the round trip of a task without arguments.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require, seconds};
use crate::{floors, systems, tasks};
use serde_json::json;
use swath::client::WaitFor;
use swath::{Client, Delayed, delayed};

fn list(n: u64) -> Vec<u64> {
    (0..n).collect()
}

fn pair(n: u64) -> (Vec<u64>, u64) {
    (list(n), n)
}

/// Microseconds of each run.
fn micros(client: &Client, repeat: usize, part: &Delayed<u64>, right: u64) -> Outcome<Vec<f64>> {
    let took = seconds(repeat, || Ok(part.compute(client)?), |part| require(part == right, "part"))?;
    Ok(took.into_iter().map(|s| s * 1e6).collect())
}

fn swath(report: &Report, system: &str, options: &Options, mib: usize) -> Outcome {
    let client = systems::open(system, options.width())?;
    let repeat = options.quick_or(5, 200);
    let n = (mib as u64) << 17;
    let held = client.submit(&delayed(list).call(n))?;
    client.wait(std::slice::from_ref(&held), WaitFor::All)?;
    let both = client.submit(&delayed(pair).call(n))?;
    client.wait(std::slice::from_ref(&both), WaitFor::All)?;
    let params = |part: &str| json!({"part": part, "mib": mib});
    let metric = Metric::new("time", "us");
    let trip = micros(&client, repeat, &delayed(tasks::inc).call(1_u64), 2)?;
    report.emit(system, &params("round trip"), metric, median(&trip));
    let len = held.delayed().len().map(|n: usize| n as u64);
    let at = held.delayed().at(n as usize / 2);
    let second = both.delayed().unpack().1;
    for (name, part, right) in [("len", len, n), ("at", at, n / 2), ("unpack", second, n)] {
        let took = micros(&client, repeat, &part, right)?;
        report.emit(system, &params(name), metric, median(&took));
        report.emit(system, &params(name), Metric::new("round_trips", "1"), median(&took) / median(&trip));
    }
    Ok(())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let mib = options.mib.unwrap_or(16);
    report.for_each(|report, system| {
        if system != "floor-memcpy" {
            return swath(report, system, options, mib);
        }
        let from: Vec<f64> = list((mib as u64) << 17).into_iter().map(|x| x as f64).collect();
        let copy =
            seconds(options.repeat.max(5), || Ok(floors::first_touch(&from)), |copy| require(copy == from, "copy"))?;
        report.emit(system, &json!({"part": "copy", "mib": mib}), Metric::new("time", "us"), median(&copy) * 1e6);
        Ok(())
    });
}
