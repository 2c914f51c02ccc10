//! Tasks of which each needs the one before: what one step from a task to the next costs.

use crate::floors::Pong;
use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require, seconds};
use crate::systems;
use crate::tasks::inc;
use serde_json::json;
use std::hint::black_box;
use swath::{Client, Delayed, delayed};

const LINK: Metric = Metric::new("link", "us");

/// All links in one graph.
fn graph(client: &Client, n: u64) -> Outcome<u64> {
    let inc = delayed(inc);
    let mut last = inc.call(0_u64);
    for _ in 1..n {
        last = inc.call(&last);
    }
    Ok(last.compute(client)?)
}

/// As [`graph`], but every link is an output, so that no two of them can be made one task.
fn kept(client: &Client, n: u64) -> Outcome<u64> {
    let inc = delayed(inc);
    let mut links: Vec<Delayed<u64>> = vec![inc.call(0_u64)];
    for i in 1..n as usize {
        links.push(inc.call(&links[i - 1]));
    }
    let futures = client.submit_all(&links)?;
    match futures.last() {
        Some(last) => Ok(last.result()?),
        None => Ok(0),
    }
}

/// Each link submitted with the future of the one before, none waited for but the last.
fn futures(client: &Client, n: u64) -> Outcome<u64> {
    let inc = delayed(inc);
    let mut last = client.submit(&inc.call(0_u64))?;
    for _ in 1..n {
        last = client.submit(&inc.call(&last))?;
    }
    Ok(last.result()?)
}

/// Each link submitted when the one before has its result.
fn waited(client: &Client, n: u64) -> Outcome<u64> {
    let inc = delayed(inc);
    let mut last = client.submit(&inc.call(0_u64))?;
    for _ in 1..n {
        last.result()?;
        last = client.submit(&inc.call(&last))?;
    }
    Ok(last.result()?)
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    report.for_each(|report, system| {
        for n in options.sizes(&[10_000], &[200]) {
            let measure = |via: &str, n: u64, run: &mut dyn FnMut() -> Outcome<u64>| {
                if !options.wants(system, via) {
                    return Ok(());
                }
                let took = seconds(options.repeat, run, |answer| require(answer == n, "not N"))?;
                let links: Vec<f64> = took.iter().map(|t| t * 1e6 / n as f64).collect();
                report.emit_runs(system, &json!({"n": n, "workers": workers, "via": via}), LINK, &links);
                Outcome::Ok(())
            };
            // A link that is waited for costs a round trip: a thousand of them say enough.
            let few = n.min(1000);
            match system {
                "floor-serial" => measure("loop", n, &mut || Ok((0..n).fold(0, |x, _| inc(black_box(x)))))?,
                "floor-socketpair" => {
                    let mut pong = Pong::start()?;
                    measure("64 B", few, &mut || (0..few).try_fold(0, |x, _| pong.inc(x)))?;
                }
                _ => {
                    let client = systems::open(system, workers)?;
                    measure("graph", n, &mut || graph(&client, n))?;
                    measure("kept", n, &mut || kept(&client, n))?;
                    measure("futures", n, &mut || futures(&client, n))?;
                    measure("submit", few, &mut || waited(&client, few))?;
                }
            }
        }
        Ok(())
    });
}
