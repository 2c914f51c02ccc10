//! More results held than the workers' memory takes, and then used, beside the bare disk with as many bytes.
//!
//! In the part `array` the page cache is left alone, as it is where the workers of others are measured: what is written may
//! still be in memory when it is read. In the part `disk` both sides write everything to the disk before it is read, and
//! read it from there.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require};
use crate::tasks::{array_sum, array_sum_expected, make_array, twice_array_sum};
use crate::{floors, systems};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use swath::client::WaitFor;
use swath::{Buffer, Client, Delayed, Future, delayed};

/// How often the workers' memory is read.
const POLL: Duration = Duration::from_millis(5);
/// Rounds, at most: each moves gigabytes.
const ROUNDS: usize = 2;

/// One amount of data on one kind of workers.
struct Case {
    part: &'static str,
    gib: f64,
    /// Arrays, and elements of each.
    chunks: u64,
    n: u64,
    workers: usize,
    /// Of each worker, in bytes.
    limit: u64,
    directory: PathBuf,
}

/// Seconds, and what else was seen.
struct Held {
    persist: f64,
    sum: f64,
    /// Not by way of the disk: what is read for the first sum stays mapped.
    sum_again: Option<f64>,
    /// The most memory that a worker was seen to use, in bytes.
    most: u64,
    spilled: u64,
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    for (part, usual) in [("array", vec![4.0, 8.0]), ("disk", vec![8.0])] {
        if !options.wants_part(part) {
            continue;
        }
        for gib in options.gib.map_or(options.quick_or(vec![0.125], usual), |gib| vec![gib]) {
            let measured = Case::new(part, gib, options).and_then(|case| case.measure(report, options));
            if let Err(error) = measured {
                report.fail("swath-processes", error.as_ref());
            }
        }
    }
}

impl Case {
    /// A chunk is a 32nd part of a worker's memory.
    fn new(part: &'static str, gib: f64, options: &Options) -> Outcome<Self> {
        let limit: u64 = options.quick_or(32 << 20, 1 << 30);
        let chunk = limit / 32;
        let chunks = (gib * (1_u64 << 30) as f64 / chunk as f64).round() as u64;
        let directory = options.directory.clone().unwrap_or_else(usual_directory);
        let directory = fs::canonicalize(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        Ok(Self { part, gib, chunks, n: chunk / 8, workers: options.width(), limit, directory })
    }

    /// Whether all is written to the disk before it is read.
    fn by_disk(&self) -> bool {
        self.part == "disk"
    }

    fn params(&self) -> Value {
        let mib = self.limit >> 20;
        let limit = if mib.is_multiple_of(1024) { format!("{}GiB", mib >> 10) } else { format!("{mib}MiB") };
        let chunk = (self.n * 8) >> 20;
        json!({"part": self.part, "gib": self.gib, "memory_limit": limit, "chunk_mib": chunk, "workers": self.workers})
    }

    fn measure(&self, report: &Report, options: &Options) -> Outcome {
        let (mut disk, mut held) = (Vec::new(), Vec::new());
        let wanted = |system: &str| report.systems().contains(&system);
        // By turns, so that both meet the same disk.
        for _ in 0..options.repeat.min(ROUNDS) {
            if wanted("floor-disk") {
                disk.push(floors::disk(&self.directory, self.chunks, self.n as usize * 8, self.by_disk())?);
            }
            if wanted("swath-processes") {
                held.push(self.hold()?);
            }
        }
        let params = self.params();
        let tell = |system: &str, metric: Metric, runs: Vec<f64>| {
            if !runs.is_empty() {
                report.emit_runs(system, &params, metric, &runs);
            }
        };
        tell("floor-disk", Metric::new("write", "s"), disk.iter().map(|(write, _)| *write).collect());
        tell("floor-disk", Metric::new("read", "s"), disk.iter().map(|(_, read)| *read).collect());
        tell("swath-processes", Metric::new("persist", "s"), held.iter().map(|h| h.persist).collect());
        tell("swath-processes", Metric::new("sum", "s"), held.iter().map(|h| h.sum).collect());
        tell("swath-processes", Metric::new("sum_again", "s"), held.iter().filter_map(|h| h.sum_again).collect());
        let times = held.iter().zip(&disk).map(|(held, (write, read))| (held.persist + held.sum) / (write + read));
        tell("swath-processes", Metric::new("times_disk", "1"), times.collect());
        let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        tell("swath-processes", Metric::new("most_memory", "MiB"), held.iter().map(|h| mib(h.most)).collect());
        tell("swath-processes", Metric::new("spilled", "MiB"), held.iter().map(|h| mib(h.spilled)).collect());
        Ok(())
    }

    fn hold(&self) -> Outcome<Held> {
        let options =
            |builder: swath::client::Builder| builder.memory_limit(self.limit).spill_directory(&self.directory);
        let client = systems::open_with("swath-processes", self.workers, options)?;
        let (stop, over) = channel();
        let (held, most) = std::thread::scope(|scope| {
            let there = &client;
            let watcher = scope.spawn(move || most_memory(there, over));
            let held = self.steps(&client);
            drop(stop);
            Outcome::Ok((held?, watcher.join().map_err(|_| "the watch panicked")??))
        })?;
        require(most <= self.limit, &format!("a worker used {most} B of {} B", self.limit))?;
        require(client.deaths()?.is_empty(), "a worker was ended")?;
        Ok(Held { most, ..held })
    }

    fn steps(&self, client: &Client) -> Outcome<Held> {
        let right = self.chunks as f64 * array_sum_expected(self.n, 0);
        let began = Instant::now();
        let chunks: Vec<_> = (0..self.chunks).map(|_| delayed(make_array).call(self.n, 0)).collect();
        let chunks = client.submit_all(&chunks)?;
        client.wait(&chunks, WaitFor::All)?;
        if self.by_disk() {
            self.for_each_file(client, File::sync_data)?;
        }
        let persist = began.elapsed().as_secs_f64();
        let spilled = client.memory()?.spilled();
        let least = (self.chunks * self.n * 8).saturating_sub(self.limit * self.workers as u64);
        require(spilled >= least, &format!("{spilled} B are on disk, where at least {least} B must be"))?;

        let sum = self.sum(client, &chunks, |chunk| delayed(array_sum).call(chunk), right)?;
        let twice = |chunk: &_| delayed(twice_array_sum).call(chunk);
        let sum_again = if self.by_disk() { None } else { Some(self.sum(client, &chunks, twice, 2.0 * right)?) };
        Ok(Held { persist, sum, sum_again, most: 0, spilled })
    }

    fn sum(
        &self,
        client: &Client,
        chunks: &[Future<Buffer<f64>>],
        of_chunk: fn(&Future<Buffer<f64>>) -> Delayed<f64>,
        right: f64,
    ) -> Outcome<f64> {
        if self.by_disk() {
            self.for_each_file(client, |file| Ok(posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?))?;
        }
        let began = Instant::now();
        let sums: Vec<f64> = client.compute(chunks.iter().map(of_chunk).collect::<Vec<_>>())?;
        let took = began.elapsed().as_secs_f64();
        require(sums.iter().sum::<f64>() == right, "sum")?;
        Ok(took)
    }

    /// Does something to the files in which the workers keep results. They have no names, but can be opened through `/proc`.
    fn for_each_file(&self, client: &Client, act: impl Fn(&File) -> std::io::Result<()>) -> Outcome {
        for worker in client.workers()? {
            let mut found = false;
            for entry in fs::read_dir(format!("/proc/{}/fd", worker.pid))? {
                let path = entry?.path();
                if fs::read_link(&path).is_ok_and(|target| target.starts_with(&self.directory)) {
                    act(&File::open(&path)?)?;
                    found = true;
                }
            }
            require(found, &format!("{} has no file in {}", worker.name, self.directory.display()))?;
        }
        Ok(())
    }
}

/// Where clients keep results, if it is not said.
fn usual_directory() -> PathBuf {
    let usual = Path::new("/var/tmp");
    if usual.is_dir() { usual.to_path_buf() } else { std::env::temp_dir() }
}

/// The most memory that a worker is seen to use until the other end of `over` is dropped.
fn most_memory(client: &Client, over: Receiver<()>) -> Result<u64, String> {
    let mut most = 0;
    loop {
        let memory = client.memory().map_err(|e| e.to_string())?;
        most = memory.workers.iter().map(|w| w.process()).fold(most, u64::max);
        if over.recv_timeout(POLL) != Err(RecvTimeoutError::Timeout) {
            return Ok(most);
        }
    }
}
