//! One large array between workers and client, and given to all workers.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require, seconds};
use crate::tasks::{array_sum, array_sum_expected, make_array, pid, sum_of};
use crate::{floors, process, systems};
use serde_json::json;
use std::time::Instant;
use swath::{Buffer, Client, Future, WaitFor, delayed};

const MIB: f64 = (1 << 20) as f64;

/// Measurements of one part.
#[derive(Default)]
struct Part {
    seconds: Vec<f64>,
    /// How many times the array came to be in memory meanwhile.
    copies: Vec<f64>,
}

fn timed<T>(run: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    let start = Instant::now();
    let answer = run()?;
    Ok((start.elapsed().as_secs_f64(), answer))
}

/// Arrays of one size in one client.
struct Plane<'a> {
    client: &'a Client,
    /// Elements of an array.
    n: u64,
    workers: usize,
}

impl Plane<'_> {
    /// Memory of this process and its workers, in arrays. What several have mapped counts once.
    fn arrays(&self) -> Outcome<f64> {
        let mut all = 0.0;
        for pid in process::family(std::process::id())? {
            all += process::usage(pid)?.pss;
        }
        Ok(all * MIB / (self.n as f64 * 8.0))
    }

    /// An array that worker A has made; it is finished and stays there.
    fn produced(&self, k: u64) -> Outcome<Future<Buffer<f64>>> {
        let array = self.client.submit(&delayed(make_array).on_worker("worker-0").call(self.n, k))?;
        self.client.wait(std::slice::from_ref(&array), WaitFor::All, None)?;
        Ok(array)
    }

    fn sum_on(&self, worker: usize, array: &Future<Buffer<f64>>) -> Outcome<Future<f64>> {
        let sum = delayed(array_sum).on_worker(format!("worker-{worker}")).call(array);
        Ok(self.client.submit(&sum)?)
    }

    /// Runs a part, and adds what it measured if it is no round for warming up. What the part gives is still alive when
    /// memory is counted.
    fn part<T>(&self, part: &mut Part, warm: bool, run: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let before = self.arrays()?;
        let (seconds, answer) = timed(run)?;
        if warm {
            part.seconds.push(seconds);
            part.copies.push(self.arrays()? - before);
        }
        Ok(answer)
    }

    /// One round of all parts, with other numbers than any round before.
    fn round(&self, k: u64, parts: &mut [Part; 5]) -> Outcome {
        let right = array_sum_expected(self.n, k);
        let (warm, [moved, fetched, put, put_and_sum, broadcast]) = (k > 0, parts);

        let array = self.produced(k)?;
        let sum = self.part(moved, warm, || Ok(self.sum_on(1, &array)?.result()?))?;
        require(sum == right, "sum on B")?;
        drop(array);

        let array = self.produced(k)?;
        let here = self.part(fetched, warm, || Ok(array.result()?))?;
        require(here.len() as u64 == self.n && sum_of(&here) == right, "array in the client")?;
        drop((array, here));

        let mine = Buffer::from(make_array(self.n, k).into_vec());
        let held = self.part(put, warm, || Ok(self.client.scatter(mine.clone())?))?;
        let sum = || Ok(self.client.submit(&delayed(array_sum).call(&held))?.result()?);
        let sum = self.part(put_and_sum, warm, sum)?;
        require(sum == right, "sum of what was put")?;
        if let (true, Some(both), Some(put)) = (warm, put_and_sum.seconds.last_mut(), put.seconds.last()) {
            *both += put;
        }
        drop(held);

        let (_array, sums) = self.part(broadcast, warm, || {
            let array = self.client.broadcast(mine.clone())?;
            let sums = (0..self.workers).map(|w| self.sum_on(w, &array)).collect::<Outcome<Vec<_>>>()?;
            Ok((array, self.client.gather(&sums)?))
        })?;
        require(sums.iter().all(|&sum| sum == right), "sum on a worker")
    }
}

fn swath(report: &Report, system: &str, options: &Options, mib: usize) -> Outcome {
    let workers = options.width().max(2);
    let client = systems::open(system, workers)?;
    let place = |name: &str| delayed(pid).on_worker(name).call().compute(&client);
    let (a, b): (u32, u32) = (place("worker-0")?, place("worker-1")?);
    require((a != b) == (system == "swath-processes"), "A and B are two processes")?;

    let plane = Plane { client: &client, n: elements(mib), workers };
    let mut parts: [Part; 5] = Default::default();
    for k in 0..=rounds(options, mib) {
        plane.round(k, &mut parts)?;
    }
    let names = ["worker_to_worker_sum", "worker_to_client", "put", "put_and_sum", "broadcast_and_sum"];
    for (name, part) in names.into_iter().zip(&parts) {
        tell(report, system, name, mib, &part.seconds);
        // Where values are shared by reference they are never copied, and where they are mapped it should be once at most.
        report.emit_runs(system, &json!({"part": name, "mib": mib}), Metric::new("copies", "1"), &part.copies);
    }
    Ok(())
}

fn elements(mib: usize) -> u64 {
    (mib << 20) as u64 / 8
}

/// Measured rounds; few of what takes long.
fn rounds(options: &Options, mib: usize) -> u64 {
    match (options.quick, mib) {
        (true, _) => 1,
        (false, ..=256) => options.repeat.max(5) as u64,
        (false, _) => options.repeat.min(2) as u64,
    }
}

fn tell(report: &Report, system: &str, part: &str, mib: usize, times: &[f64]) {
    let params = json!({"part": part, "mib": mib});
    let millis: Vec<f64> = times.iter().map(|t| t * 1000.0).collect();
    report.emit_runs(system, &params, Metric::new("time", "ms"), &millis);
    report.emit(system, &params, Metric::new("rate", "GiB/s"), mib as f64 / 1024.0 / median(times));
}

fn memcpy(report: &Report, system: &str, options: &Options, mib: usize) -> Outcome {
    let (repeat, n) = (rounds(options, mib) as usize, elements(mib));
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
    let sizes = options.mib.map_or(options.quick_or(vec![4], vec![64, 1024]), |mib| vec![mib]);
    report.for_each(|report, system| {
        for &mib in &sizes {
            match system {
                "floor-memcpy" => memcpy(report, system, options, mib)?,
                _ => swath(report, system, options, mib)?,
            }
        }
        Ok(())
    });
}
