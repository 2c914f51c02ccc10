//! One large array between workers and client.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require, seconds};
use crate::tasks::{array_sum, array_sum_expected, make_array, pid, sum_of};
use crate::{floors, systems};
use serde_json::json;
use std::time::Instant;
use swath::{Buffer, Client, Future, WaitFor, delayed};

/// Makes an array on worker A; it is finished and stays there.
fn produce(client: &Client, n: u64, k: u64) -> Outcome<Future<Buffer<f64>>> {
    let array = client.submit(&delayed(make_array).on_worker("worker-0").call(n, k))?;
    client.wait(std::slice::from_ref(&array), WaitFor::All, None)?;
    Ok(array)
}

fn timed<T>(run: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    let start = Instant::now();
    let answer = run()?;
    Ok((start.elapsed().as_secs_f64(), answer))
}

fn swath(report: &Report, system: &str, options: &Options, mib: usize, n: u64) -> Outcome {
    let client = systems::open(system, 2)?;
    let place = |name: &str| delayed(pid).on_worker(name).call().compute(&client);
    let (a, b): (u32, u32) = (place("worker-0")?, place("worker-1")?);
    require((a != b) == (system == "swath-processes"), "A and B are two processes")?;

    let parts = ["worker_to_worker_sum", "worker_to_client", "put", "put_and_sum"];
    let mut times: [Vec<f64>; 4] = Default::default();
    let rounds = options.quick_or(1, options.repeat.max(5)) as u64;
    for k in 0..=rounds {
        let right = array_sum_expected(n, k);
        let array = produce(&client, n, k)?;
        let sum_on_b = || Ok(delayed(array_sum).on_worker("worker-1").call(&array).submit(&client)?.result()?);
        let (moved, sum) = timed(sum_on_b)?;
        require(sum == right, "sum on B")?;
        drop(array);

        let array = produce(&client, n, k)?;
        let (fetched, here) = timed(|| Ok(array.result()?))?;
        require(here.len() as u64 == n && sum_of(&here) == right, "array in the client")?;
        drop((array, here));

        let mine = Buffer::from(make_array(n, k).into_vec());
        let (put, held) = timed(|| Ok(client.scatter(mine.clone())?))?;
        let (summed, sum) = timed(|| Ok(delayed(array_sum).call(&held).submit(&client)?.result()?))?;
        require(sum == right, "sum of what was put")?;
        drop((held, mine));

        // The first round is for warming up.
        if k > 0 {
            times.iter_mut().zip([moved, fetched, put, put + summed]).for_each(|(all, t)| all.push(t));
        }
    }
    for (part, times) in parts.iter().zip(&times) {
        tell(report, system, part, mib, times);
    }
    Ok(())
}

fn tell(report: &Report, system: &str, part: &str, mib: usize, times: &[f64]) {
    let params = json!({"part": part, "mib": mib});
    let millis: Vec<f64> = times.iter().map(|t| t * 1000.0).collect();
    report.emit_runs(system, &params, Metric::new("time", "ms"), &millis);
    report.emit(system, &params, Metric::new("rate", "GiB/s"), mib as f64 / 1024.0 / median(times));
}

fn memcpy(report: &Report, system: &str, options: &Options, mib: usize, n: u64) -> Outcome {
    let repeat = options.repeat.max(5);
    let from = make_array(n, 0).into_vec();
    let right = array_sum_expected(n, 0);
    let sum = seconds(repeat, || Ok(sum_of(&from)), |sum| require(sum == right, "sum"))?;
    tell(report, system, "sum_in_place", mib, &sum);
    let mut to = vec![1.0; from.len()];
    let copy = seconds(
        repeat,
        || {
            to.copy_from_slice(&from);
            Ok(())
        },
        |()| Ok(()),
    )?;
    require(to == from, "copy")?;
    tell(report, system, "copy_in_place", mib, &copy);
    // Memory of this size goes back to the system each time, so each copy meets new pages.
    let touch = seconds(repeat, || Ok(floors::first_touch(&from)), |copy| require(copy == from, "copy"))?;
    tell(report, system, "first_touch", mib, &touch);
    Ok(())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let mib = options.mib.unwrap_or(options.quick_or(4, 64));
    let n = (mib << 20) as u64 / 8;
    report.for_each(|report, system| match system {
        "floor-memcpy" => memcpy(report, system, options, mib, n),
        _ => swath(report, system, options, mib, n),
    });
}
