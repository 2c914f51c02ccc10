//! Values that are no `Buffer`, as arguments and results of tasks: what sending them costs beside a clone of them.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require, seconds};
use crate::systems;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hint::black_box;
use std::time::Instant;
use swath::client::WaitFor;
use swath::{Client, Data, delayed};

/// A value with lists inside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Picture {
    name: String,
    width: u32,
    image: Vec<u8>,
    rows: Vec<Vec<f32>>,
    columns: BTreeMap<String, Vec<f64>>,
}

fn picture(bytes: usize) -> Picture {
    let third = bytes / 3;
    Picture {
        name: "picture".to_string(),
        width: 640,
        image: (0..third).map(|i| i as u8).collect(),
        rows: (0..16).map(|row| (0..third / 64).map(|i| (row * i) as f32).collect()).collect(),
        columns: (0..8).map(|c| (format!("column {c}"), (0..third / 64).map(|i| (c * i) as f64).collect())).collect(),
    }
}

/// A kind of value, and how it is measured.
struct Kind {
    name: &'static str,
    measure: fn(&Report, &str, Option<&Client>, &Options, usize) -> Outcome,
}

macro_rules! kind {
    ($name:literal, $t:ty, $make:expr) => {
        Kind {
            name: $name,
            measure: |report, system, client, options, bytes| {
                measure::<$t>(report, system, client, options, $name, bytes, &$make(bytes), ways::<$t>)
            },
        }
    };
}

const KINDS: [Kind; 9] = [
    kind!("bytes", Vec<u8>, |n| (0..n).map(|i| i as u8).collect()),
    kind!("f64", Vec<f64>, |n| (0..n / 8).map(|i| i as f64).collect()),
    kind!("i64", Vec<i64>, |n| (0..n / 8).map(|i| i as i64 - 1000).collect()),
    kind!("u32", Vec<u32>, |n| (0..n / 4).map(|i| i as u32).collect()),
    kind!("pairs", Vec<(u64, f64)>, |n| (0..n / 16).map(|i| (i as u64, i as f64)).collect()),
    kind!("string", String, |n| "twelve bytes".repeat(n / 12)),
    kind!("strings", Vec<String>, |n| (0..n / 44).map(|i| format!("{i:020}")).collect()),
    kind!("nested", Vec<Vec<f32>>, |n| (0..n / 4000).map(|i| vec![i as f32; 1000]).collect()),
    kind!("struct", Picture, picture),
];

/// Gives the argument back. What has been made of it would say that it has come.
fn same<T>(value: T) -> T {
    value
}

/// Takes an argument and forgets it.
fn taken<T>(value: T) -> bool {
    drop(black_box(value));
    true
}

/// Seconds of each run: a value as an argument of a task, and a finished result that is fetched.
type Ways<T> = fn(&Client, &T, usize) -> Outcome<[Vec<f64>; 2]>;

/// The same, with the number of the call.
fn taken_by<T>(value: T, call: u64) -> u64 {
    drop(black_box(value));
    call
}

/// Seconds of each run: one graph in which `uses` calls take a clone each.
fn uses<T: Data>(client: &Client, value: &T, uses: usize, repeat: usize) -> Outcome<Vec<f64>> {
    let mut clones = vec![value.clone(); uses * repeat];
    seconds(
        repeat,
        || {
            let clones = clones.drain(..uses).zip(0_u64..);
            let calls: Vec<_> = clones.map(|(clone, call)| delayed(taken_by::<T>).call(clone, call)).collect();
            Ok(client.compute(&calls)?)
        },
        |calls| require(calls.into_iter().eq(0..uses as u64), "all were taken"),
    )
}

fn ways<T: Data + PartialEq>(client: &Client, value: &T, repeat: usize) -> Outcome<[Vec<f64>; 2]> {
    let there: T = delayed(same::<T>).call(value.clone()).compute(client)?;
    require(&there == value, "the value comes back")?;
    drop(there);
    // The clone is what the caller hands over, and no part of what is measured.
    let mut clones = vec![value.clone(); repeat];
    let argument = seconds(
        repeat,
        || Ok(delayed(taken::<T>).call(clones.pop().ok_or("a clone for each run")?).compute(client)?),
        |taken| require(taken, "taken"),
    )?;
    let mut result = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        // It is there before it is asked for: what is measured is its way.
        let there = client.submit(&delayed(same::<T>).call(value.clone()))?;
        client.wait(std::slice::from_ref(&there), WaitFor::All)?;
        let start = Instant::now();
        let here = there.result()?;
        result.push(start.elapsed().as_secs_f64());
        require(&here == value, "the result comes back")?;
    }
    Ok([argument, result])
}

#[allow(clippy::too_many_arguments)]
fn measure<T: Data + PartialEq + Debug>(
    report: &Report,
    system: &str,
    client: Option<&Client>,
    options: &Options,
    kind: &str,
    bytes: usize,
    value: &T,
    ways: Ways<T>,
) -> Outcome {
    let repeat = options.repeat.max(options.quick_or(1, 11));
    let params = |part: &str| json!({"type": kind, "bytes": bytes, "part": part});
    // All of them are kept, so that each meets memory that was never used, as the first clone of a value does.
    let mut clones = Vec::with_capacity(repeat);
    let clone = seconds(
        repeat,
        || Ok(value.clone()),
        |clone| {
            clones.push(clone);
            Ok(())
        },
    )?;
    require(clones.iter().all(|clone| clone == value), "clone")?;
    drop(clones);
    let millis = |times: &[f64]| times.iter().map(|t| t * 1000.0).collect::<Vec<_>>();
    let Some(client) = client else {
        report.emit_runs(system, &params("clone"), Metric::new("time", "ms"), &millis(&clone));
        return Ok(());
    };
    if let Some(n) = options.uses {
        let took = uses(client, value, n, repeat)?;
        let params = json!({"type": kind, "bytes": bytes, "part": "uses", "uses": n});
        report.emit_runs(system, &params, Metric::new("time", "ms"), &millis(&took));
        report.emit(system, &params, Metric::new("clones", "1"), median(&took) / median(&clone));
        return Ok(());
    }
    for (part, took) in ["argument", "result"].into_iter().zip(ways(client, value, repeat)?) {
        report.emit_runs(system, &params(part), Metric::new("time", "ms"), &millis(&took));
        report.emit(system, &params(part), Metric::new("clones", "1"), median(&took) / median(&clone));
    }
    Ok(())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let sizes = options.mib.map_or(options.quick_or(vec![100_000], vec![3_200_000, 32_000_000]), |mib| vec![mib << 20]);
    report.for_each(|report, system| {
        let client = if system == "floor-clone" { None } else { Some(systems::open(system, options.width())?) };
        for &bytes in &sizes {
            for kind in KINDS.iter().filter(|kind| options.wants_part(kind.name)) {
                (kind.measure)(report, system, client.as_ref(), options, bytes)?;
            }
        }
        Ok(())
    });
}
