//! One large array between workers and client, and given to all workers.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require, seconds};
use crate::tasks::{array_sum, array_sum_expected, make_array, pid, sum_of};
use crate::{floors, process, systems};
use serde_json::json;
use std::time::Instant;
use swath::client::WaitFor;
use swath::{Buffer, Client, Future, delayed};

const PARTS: [&str; 6] =
    ["worker_to_worker_sum", "worker_to_client", "put", "put_and_sum", "broadcast_and_sum", "make_and_fetch"];

const MIB: f64 = (1 << 20) as f64;

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
        self.client.wait(std::slice::from_ref(&array), WaitFor::All)?;
        Ok(array)
    }

    fn sum_on(&self, worker: usize, array: &Future<Buffer<f64>>) -> Outcome<Future<f64>> {
        let sum = delayed(array_sum).on_worker(format!("worker-{worker}")).call(array);
        Ok(self.client.submit(&sum)?)
    }

    /// The sum on each worker.
    fn sums(&self, array: &Future<Buffer<f64>>) -> Outcome<Vec<f64>> {
        let sums = (0..self.workers).map(|w| self.sum_on(w, array)).collect::<Outcome<Vec<_>>>()?;
        Ok(self.client.gather(&sums)?)
    }

    /// Seconds of each part, with other numbers than in any round before.
    fn round(&self, k: u64) -> Outcome<[f64; PARTS.len()]> {
        let right = array_sum_expected(self.n, k);

        let array = self.produced(k)?;
        let (moved, sum) = timed(|| Ok(self.sum_on(1, &array)?.result()?))?;
        require(sum == right, "sum on B")?;
        drop(array);

        let array = self.produced(k)?;
        let (fetched, here) = timed(|| Ok(array.result()?))?;
        require(here.len() as u64 == self.n && sum_of(&here) == right, "array in the client")?;
        drop((array, here));

        let mine = Buffer::from(make_array(self.n, k).into_vec());
        let (put, held) = timed(|| Ok(self.client.scatter(mine.clone())?))?;
        let (summed, sum) = timed(|| Ok(self.client.submit(&delayed(array_sum).call(&held))?.result()?))?;
        require(sum == right, "sum of what was put")?;
        drop(held);

        let (broadcast, sums) = timed(|| self.sums(&self.client.broadcast(mine.clone())?))?;
        require(sums.iter().all(|&sum| sum == right), "sum on a worker")?;
        drop(mine);

        let (made, here) = timed(|| Ok(delayed(make_array).call(self.n, k).compute(self.client)?))?;
        require(here.len() as u64 == self.n && sum_of(&here) == right, "array made and fetched")?;
        Ok([moved, fetched, put, put + summed, broadcast, made])
    }

    /// How many more times an array is in memory after what copies of it may be made for. Only in a client that has had no
    /// array before: later it has memory from then to put them in.
    ///
    /// And the seconds of a sum on B, which has never seen memory of A: page by page it is mapped then.
    fn copies(&self) -> Outcome<([(&'static str, f64); 3], f64)> {
        let right = array_sum_expected(self.n, 0);
        let mine = Buffer::from(make_array(self.n, 0).into_vec());
        let array = self.produced(0)?;
        let made = self.arrays()?;
        let (first, sum) = timed(|| Ok(self.sum_on(1, &array)?.result()?))?;
        require(sum == right, "sum on B")?;
        let moved = self.arrays()?;
        let here = array.result()?;
        require(sum_of(&here) == right, "array in the client")?;
        let fetched = self.arrays()?;
        let everywhere = self.client.broadcast(mine.clone())?;
        require(self.sums(&everywhere)?.iter().all(|&sum| sum == right), "sum on a worker")?;
        let broadcast = self.arrays()?;
        Ok(([(PARTS[0], moved - made), (PARTS[1], fetched - moved), (PARTS[4], broadcast - fetched)], first))
    }
}

fn swath(report: &Report, system: &str, options: &Options, mib: usize) -> Outcome {
    let workers = options.width().max(2);
    let client = systems::open(system, workers)?;
    let pid_of = |name: &str| delayed(pid).on_worker(name).call().compute(&client);
    let (a, b): (u32, u32) = (pid_of("worker-0")?, pid_of("worker-1")?);
    require((a != b) == (system == "swath-processes"), "A and B are two processes")?;

    let plane = Plane { client: &client, n: elements(mib), workers };
    let (copies, first) = plane.copies()?;
    report.emit(system, &json!({"part": "first_sum", "mib": mib}), Metric::new("time", "ms"), first * 1000.0);
    for (part, copies) in copies {
        let params = json!({"part": part, "mib": mib, "workers": workers});
        report.emit(system, &params, Metric::new("copies", "1"), copies);
    }
    // The first round is for warming up.
    let rounds = (0..=rounds(options, mib)).map(|k| plane.round(k)).collect::<Outcome<Vec<_>>>()?;
    for (i, part) in PARTS.iter().enumerate() {
        tell(report, system, part, mib, &rounds[1..].iter().map(|round| round[i]).collect::<Vec<_>>());
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
