//! One task at a time: submit it, wait for its result, then the next.

use crate::floors::{Pong, Thread};
use crate::options::Options;
use crate::report::{Metric, Outcome, Report, percentile, require};
use crate::tasks::inc;
use crate::{process, systems};
use serde_json::json;
use std::time::Instant;
use swath::{Client, delayed};

/// One way to make a round trip.
enum Way {
    Submit(Client),
    Compute(Client),
    Unpark(Thread),
    Socket(Pong),
}

impl Way {
    fn open(system: &str, workers: usize) -> Outcome<Vec<Way>> {
        Ok(match system {
            "floor-unpark" => vec![Way::Unpark(Thread::start()?)],
            "floor-socketpair" => vec![Way::Socket(Pong::start()?)],
            _ => {
                let client = systems::open(system, workers)?;
                vec![Way::Submit(client.clone()), Way::Compute(client)]
            }
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Way::Submit(_) => "submit",
            Way::Compute(_) => "compute",
            Way::Unpark(_) => "unpark",
            Way::Socket(_) => "64 B",
        }
    }

    fn go(&mut self, x: u64) -> Outcome<u64> {
        match self {
            Way::Submit(client) => Ok(client.submit(&delayed(inc).call(x))?.result()?),
            Way::Compute(client) => Ok(client.compute(&delayed(inc).call(x))?),
            Way::Unpark(thread) => thread.inc(x),
            Way::Socket(pong) => pong.inc(x),
        }
    }

    /// Makes `n` round trips, each timed alone.
    fn pass(&mut self, warm_up: u64, n: u64) -> Outcome<Pass> {
        let mut took = Vec::with_capacity(n as usize);
        let mut before = 0;
        for x in 0..warm_up + n {
            if x == warm_up {
                before = wake_ups()?;
            }
            let start = Instant::now();
            let result = self.go(x)?;
            let time = start.elapsed().as_secs_f64() * 1e6;
            require(result == x + 1, "not x + 1")?;
            if x >= warm_up {
                took.push(time);
            }
        }
        let wake_ups = wake_ups()?.saturating_sub(before) as f64 / n as f64;
        Ok(Pass { median: percentile(&took, 0.5), tail: percentile(&took, 0.99), wake_ups })
    }
}

struct Lane {
    system: &'static str,
    way: Way,
    passes: Vec<Pass>,
}

/// So many round trips.
struct Pass {
    median: f64,
    tail: f64,
    /// How often one of the processes or threads went to sleep, for each round trip.
    wake_ups: f64,
}

/// How often this process, and those it has started, have gone to sleep.
fn wake_ups() -> Outcome<u64> {
    Ok(process::family(std::process::id())?.into_iter().filter_map(process::wake_ups).sum())
}

/// The systems take turns, so that each pass has the floor right beside it: how fast this machine wakes a process changes
/// from one second to the next.
pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    let mut lanes = Vec::new();
    report.for_each(|_, system| {
        let lane = |way| Lane { system, way, passes: Vec::new() };
        let ways = Way::open(system, workers)?.into_iter().filter(|way| options.wants(system, way.name()));
        lanes.extend(ways.map(lane));
        Ok(())
    });
    for n in options.sizes(&[500], &[50]) {
        lanes.iter_mut().for_each(|lane| lane.passes.clear());
        for _ in 0..options.repeat_or(5) {
            lanes.retain_mut(|lane| match lane.way.pass(100, n) {
                Ok(pass) => {
                    lane.passes.push(pass);
                    true
                }
                Err(error) => {
                    report.fail(lane.system, error.as_ref());
                    false
                }
            });
        }
        for lane in &lanes {
            let params = json!({"n": n, "workers": workers, "via": lane.way.name()});
            let runs = |of: fn(&Pass) -> f64| lane.passes.iter().map(of).collect::<Vec<_>>();
            report.emit_runs(lane.system, &params, Metric::new("median", "us"), &runs(|p| p.median));
            report.emit_runs(lane.system, &params, Metric::new("p99", "us"), &runs(|p| p.tail));
            report.emit_runs(lane.system, &params, Metric::new("wake_ups", "1"), &runs(|p| p.wake_ups));
            let floor = lanes.iter().find(|l| l.system == "floor-socketpair");
            if let Some(floor) = floor.filter(|_| lane.system == "swath-processes") {
                let both = lane.passes.iter().zip(&floor.passes);
                let ratios: Vec<f64> = both.map(|(mine, floor)| mine.median / floor.median).collect();
                report.emit_runs(lane.system, &params, Metric::new("of_socketpair", "1"), &ratios);
            }
        }
    }
}
