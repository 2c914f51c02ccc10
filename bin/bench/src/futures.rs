//! One call after the other submitted, each with a future that is held: what a future takes, in time and in memory.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require};
use crate::tasks::inc;
use crate::{floors, process, systems};
use serde_json::json;
use std::time::Instant;
use swath::client::WaitFor;
use swath::{Client, Future, delayed};

/// Submits `n` calls, and waits until all have their results.
fn submit(client: &Client, via: &str, n: u64) -> Outcome<Vec<Future<u64>>> {
    let inc = if via == "pure" { delayed(inc).pure() } else { delayed(inc) };
    let mut futures: Vec<Future<u64>> = Vec::with_capacity(n as usize);
    for x in 0..n {
        let call = match futures.last() {
            Some(last) if via == "chain" => inc.call(last),
            _ => inc.call(x),
        };
        futures.push(client.submit(&call)?);
    }
    client.wait(&futures, WaitFor::All)?;
    Ok(futures)
}

/// Each system in a process of its own: memory that one left with the allocator would be the next one's for free.
pub(crate) fn run(report: &mut Report, options: &Options) {
    let alone = report.systems().len() == 1;
    report.for_each(|report, system| {
        if !alone {
            return process::again("futures", system, options);
        }
        let client = match system {
            "floor-channel" => None,
            _ => Some(systems::open(system, options.width())?),
        };
        for n in options.sizes(&[20_000], &[1000]) {
            for via in ["submit", "pure", "chain"] {
                if !options.wants(system, via) || client.is_none() && via != "submit" {
                    continue;
                }
                let (mut took, mut worked, mut held) = (Vec::new(), Vec::new(), Vec::new());
                let cpu = || process::cpu_nanos(std::process::id()).ok_or("this process has no times");
                // What is held stays, so that the next run takes its memory from the system, too.
                let mut kept = (Vec::new(), Vec::new());
                for run in 0..options.repeat as u64 {
                    let (before, worked_before, start) = (process::resident()?, cpu()?, Instant::now());
                    match &client {
                        Some(client) => kept.0.push(submit(client, via, n)?),
                        None => kept.1.push(floors::messages(n)?),
                    }
                    took.push(start.elapsed().as_secs_f64() * 1e6 / n as f64);
                    worked.push((cpu()? - worked_before) as f64 / 1000.0 / n as f64);
                    held.push(process::resident()?.saturating_sub(before) as f64 / n as f64);
                    if via == "pure" && run == 0 {
                        // Once more they would be the same.
                        break;
                    }
                }
                for futures in &kept.0 {
                    require(futures.last().map(|f| f.result()).transpose()? == Some(n), "the last result is not N")?;
                }
                let params = json!({"n": n, "workers": options.width(), "via": via});
                report.emit_runs(system, &params, Metric::new("time", "us"), &took);
                report.emit_runs(system, &params, Metric::new("cpu", "us"), &worked);
                report.emit_runs(system, &params, Metric::new("resident", "B"), &held);
            }
        }
        Ok(())
    });
}
