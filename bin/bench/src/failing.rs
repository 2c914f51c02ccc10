//! Tasks that fail: by a panic, and by an error that they return. Each with backtraces asked for and without, in a process
//! of its own, since that is read once.

use crate::options::Options;
use crate::process;
use crate::report::{Metric, Outcome, Report, require};
use crate::systems;
use serde_json::json;
use std::time::Instant;
use swath::{Client, delayed, try_delayed};

fn panics(x: u64) -> u64 {
    panic!("no {x}")
}

fn errs(x: u64) -> Result<u64, String> {
    Err(format!("no {x}"))
}

fn fits(x: u64) -> Result<u64, String> {
    Ok(x)
}

/// Microseconds of the first and of each of `n` more tasks, until the client has what became of it; and of putting one
/// failure into words.
fn once(client: &Client, part: &str, n: u64) -> Outcome<(f64, f64, f64)> {
    let (panics, errs, fits) = (delayed(panics), try_delayed(errs), try_delayed(fits));
    let call = |x: u64| match part {
        "panic" => panics.call(x),
        "err" => errs.call(x),
        _ => fits.call(x),
    };
    let start = Instant::now();
    let first = client.submit(&call(n))?.result();
    let first_took = start.elapsed().as_secs_f64() * 1e6;
    let start = Instant::now();
    let futures = (0..n).map(|x| client.submit(&call(x))).collect::<Result<Vec<_>, _>>()?;
    let results: Vec<_> = futures.iter().map(|f| f.result()).collect();
    let took = start.elapsed().as_secs_f64() * 1e6 / n as f64;
    let start = Instant::now();
    let words = first.err().map(|e| format!("{e:?}")).unwrap_or_default();
    let shown = start.elapsed().as_secs_f64() * 1e6;
    require(results.iter().all(|r| r.is_ok() == (part == "none")), "what fails")?;
    require((part == "none") == words.is_empty(), "words")?;
    Ok((first_took, took, shown))
}

/// Measures one system, with backtraces or without, as this process was started.
pub(crate) fn child(options: &Options) -> Outcome {
    let system = options.systems.iter().flatten().next().ok_or("no system")?;
    let traced = std::env::var("RUST_BACKTRACE").is_ok_and(|v| v != "0");
    let report = Report::new("failing", Vec::new());
    let n = options.n.unwrap_or(1000);
    for part in ["panic", "err", "none"] {
        if !options.wants_part(part) {
            continue;
        }
        let client = systems::open(system, options.width())?;
        let mut runs = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.repeat {
            let (first, each, shown) = once(&client, part, n)?;
            runs.0.push(first);
            runs.1.push(each);
            runs.2.push(shown);
        }
        let params = json!({"n": n, "workers": options.width(), "part": part, "backtrace": traced});
        report.emit(system, &params, Metric::new("first", "us"), runs.0[0]);
        report.emit_runs(system, &params, Metric::new("each", "us"), &runs.1);
        if part != "none" {
            report.emit_runs(system, &params, Metric::new("shown", "us"), &runs.2);
        }
    }
    Ok(())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let n = options.sizes(&[1000], &[50])[0];
    report.for_each(|_, system| {
        for traced in ["0", "1"] {
            process::again_with("failing-child", system, &Options { n: Some(n), ..options.clone() }, |command| {
                command.env("RUST_BACKTRACE", traced);
            })?;
        }
        Ok(())
    });
}
