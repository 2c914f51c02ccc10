//! One task at a time: submit it, wait for its result, then the next.

use crate::floors::{Pong, Thread};
use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, percentile, require};
use crate::systems;
use crate::tasks::inc;
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

    /// Microseconds of `n` round trips, each timed alone.
    fn pass(&mut self, warm_up: u64, n: u64) -> Outcome<Vec<f64>> {
        let mut took = Vec::with_capacity(n as usize);
        for x in 0..warm_up + n {
            let start = Instant::now();
            let result = self.go(x)?;
            let time = start.elapsed().as_secs_f64() * 1e6;
            require(result == x + 1, "not x + 1")?;
            if x >= warm_up {
                took.push(time);
            }
        }
        Ok(took)
    }
}

struct Lane {
    system: &'static str,
    way: Way,
    medians: Vec<f64>,
    tails: Vec<f64>,
}

/// The systems take turns, so that each pass has the floor right beside it: how fast this machine wakes a process changes
/// from one second to the next.
pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    let mut lanes = Vec::new();
    report.for_each(|_, system| {
        let lane = |way| Lane { system, way, medians: Vec::new(), tails: Vec::new() };
        let ways = Way::open(system, workers)?.into_iter().filter(|way| options.wants(system, way.name()));
        lanes.extend(ways.map(lane));
        Ok(())
    });
    for n in options.sizes(&[500], &[50]) {
        lanes.iter_mut().for_each(|lane| (lane.medians, lane.tails) = Default::default());
        for _ in 0..options.repeat {
            lanes.retain_mut(|lane| match lane.way.pass(100, n) {
                Ok(took) => {
                    lane.medians.push(percentile(&took, 0.5));
                    lane.tails.push(percentile(&took, 0.99));
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
            report.emit_runs(lane.system, &params, Metric::new("median", "us"), &lane.medians);
            report.emit_runs(lane.system, &params, Metric::new("p99", "us"), &lane.tails);
        }
        let middle = |system: &str, via: &str| {
            let lane = lanes.iter().find(|l| l.system == system && l.way.name() == via)?;
            Some(median(&lane.medians))
        };
        if let (Some(task), Some(floor)) = (middle("swath-processes", "submit"), middle("floor-socketpair", "64 B")) {
            eprintln!("bench: roundtrip: {:.2} times the bare socket", task / floor);
        }
    }
}
