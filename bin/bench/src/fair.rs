//! One-task requests beside a batch: how long they wait, and what the batch loses. How much of a local cluster two programs
//! get that always have work, and what several batches hold of results.

use crate::floors::Pong;
use crate::options::{Child, Options};
use crate::process::{Guard, SELF};
use crate::report::{Metric, Outcome, Report, percentile, require};
use crate::systems;
use crate::tasks::{inc, merge, spin, spin_cost};
use serde_json::json;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use swath::local::ClusterStatus;
use swath::{Buffer, Client, Delayed, Future, delayed};

/// Microseconds of work in each task of the batch.
const WORK: f64 = 90.0;
/// From the end of one request to the next one.
const PAUSE: Duration = Duration::from_millis(1);
/// Requests where nothing else runs.
const ALONE: usize = 1000;
/// Numbers in a block of 1 MiB.
const BLOCK: usize = 1 << 17;

fn leaf(x: u64, rounds: u64) -> u64 {
    spin(rounds);
    x + 1
}

/// Milliseconds that each request takes, until there were enough.
fn requests(mut enough: impl FnMut(usize) -> bool, mut one: impl FnMut(u64) -> Outcome<u64>) -> Outcome<Vec<f64>> {
    let mut took = Vec::new();
    while !enough(took.len()) {
        let x = took.len() as u64;
        let start = Instant::now();
        let result = one(x)?;
        took.push(start.elapsed().as_secs_f64() * 1000.0);
        require(result == x + 1, "not x + 1")?;
        std::thread::sleep(PAUSE);
    }
    Ok(took)
}

fn request(client: &Client, x: u64) -> Outcome<u64> {
    Ok(client.compute(&delayed(inc).call(x))?)
}

fn batch(client: &Client, n: u64, rounds: u64) -> Outcome<Future<u64>> {
    let leaves: Vec<Delayed<u64>> = (0..n).map(|x| delayed(leaf).call(x, rounds)).collect();
    Ok(client.submit(&delayed(merge).call(leaves))?)
}

/// What was seen once.
#[derive(Default)]
struct Pass {
    alone: f64,
    beside: f64,
    median_beside: f64,
    /// Percent of the batch's time.
    lost: f64,
}

fn of_client(client: &Client, n: u64, rounds: u64) -> Outcome<Pass> {
    let alone = requests(|n| n >= ALONE, |x| request(client, x))?;
    let start = Instant::now();
    require(batch(client, n, rounds)?.result()? == n * (n + 1) / 2, "not the sum")?;
    let before = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let future = batch(client, n, rounds)?;
    let beside = requests(|_| future.is_done(), |x| request(client, x))?;
    require(future.result()? == n * (n + 1) / 2, "not the sum")?;
    let lost = 100.0 * (start.elapsed().as_secs_f64() / before - 1.0);
    let median_beside = percentile(&beside, 0.5);
    Ok(Pass { alone: percentile(&alone, 0.99), beside: percentile(&beside, 0.99), median_beside, lost })
}

/// A bare socket between two processes, beside as many threads that spin as there are workers.
fn of_socket(pong: &mut Pong, workers: usize) -> Outcome<Pass> {
    let alone = requests(|n| n >= ALONE, |x| pong.inc(x))?;
    let stop = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let beside = requests(|n| n >= ALONE, |x| pong.inc(x));
        stop.store(true, Ordering::Relaxed);
        beside
    })?;
    let median_beside = percentile(&beside, 0.5);
    Ok(Pass { alone: percentile(&alone, 0.99), beside: percentile(&beside, 0.99), median_beside, lost: 0.0 })
}

/// Serves a local cluster until the input ends, under the name that this process has for its parent.
pub(crate) fn serve(options: &Options) -> Outcome {
    let name = cluster_name(std::process::id());
    let builder = Client::builder().workers(options.width()).threads(1).name(name.clone());
    let ready = |_: &ClusterStatus| {
        std::thread::spawn(move || {
            // Whatever the reading ends with, the parent has gone.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = swath::local::stop(name);
        });
        println!("ready");
    };
    Ok(swath::local::serve(builder, ready)?)
}

fn cluster_name(pid: u32) -> String {
    format!("bench-{pid}")
}

/// Percent of the tasks done that are the first program's, when one of two with equal batches is done.
fn share(cluster: &str, n: u64, rounds: u64) -> Outcome<f64> {
    let clients = [Client::connect(cluster)?, Client::connect(cluster)?];
    let start = |client: &Client| client.map(leaf_of, (0..n).map(|x| (x, rounds)));
    let batches = [start(&clients[0])?, start(&clients[1])?];
    let done = |batch: &[Future<u64>]| batch.iter().filter(|future| future.is_done()).count();
    // Until a tenth of both is done, one has begun before the other.
    while batches.iter().any(|batch| done(batch) < n as usize / 10) {
        std::thread::sleep(PAUSE);
    }
    let before = [done(&batches[0]), done(&batches[1])];
    while batches.iter().all(|batch| done(batch) < 9 * n as usize / 10) {
        std::thread::sleep(PAUSE);
    }
    let [first, second] = [0, 1].map(|i| (done(&batches[i]) - before[i]) as f64);
    Ok(100.0 * first / (first + second))
}

fn leaf_of((x, rounds): (u64, u64)) -> u64 {
    leaf(x, rounds)
}

fn shares(report: &Report, options: &Options, rounds: u64) -> Outcome {
    let name = Child::ALL.iter().find(|(_, c)| *c == Child::Serve).map_or("", |(name, _)| name);
    let workers = options.width();
    let mut command = Command::new(SELF);
    command.args([name, "--workers", &workers.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut cluster = Guard(command.spawn()?);
    let out = cluster.0.stdout.take().ok_or("no output")?;
    BufReader::new(out).read_line(&mut String::new())?;
    let n = options.n.unwrap_or(options.quick_or(2000, 20_000));
    let name = cluster_name(cluster.0.id());
    let shares = (0..options.repeat).map(|_| share(&name, n, rounds)).collect::<Outcome<Vec<f64>>>()?;
    swath::local::stop(&name)?;
    let params = json!({"n": n, "us": WORK, "workers": workers, "programs": 2});
    report.emit_runs("swath-cluster", &params, Metric::new("share_of_first", "%"), &shares);
    Ok(())
}

fn block(x: u64, rounds: u64) -> Buffer<u64> {
    spin(rounds);
    Buffer::from_fn(BLOCK, |i| x + i as u64)
}

fn join(a: Buffer<u64>, b: Buffer<u64>) -> Buffer<u64> {
    Buffer::from_fn(BLOCK, |i| a[i].wrapping_add(b[i]))
}

/// A tree of blocks, of which a batch in order holds few at a time.
fn tree(x: u64, blocks: u64, rounds: u64) -> Delayed<Buffer<u64>> {
    let mut level: Vec<_> = (0..blocks).map(|i| delayed(block).call(x + i, rounds)).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| delayed(join).call(&pair[0], &pair[1])).collect();
    }
    level.remove(0)
}

/// Most MiB of results that workers held at a time, until all of these are done.
fn peak(client: &Client, futures: &[Future<Buffer<u64>>]) -> Outcome<f64> {
    let mut most = 0;
    while !futures.iter().all(Future::is_done) {
        most = most.max(client.memory()?.workers.iter().map(|worker| worker.managed).sum::<u64>());
        std::thread::sleep(PAUSE / 2);
    }
    Ok(most as f64 / (1 << 20) as f64)
}

/// What four equal batches hold at a time when they are submitted together, and one after the other.
fn peaks(report: &Report, client: &Client, options: &Options) -> Outcome {
    let blocks = options.quick_or(32, 128);
    let rounds = (2.0e6 / spin_cost()) as u64;
    let submit = |x| client.submit(&tree(x, blocks, rounds));
    let (mut together, mut singly) = (Vec::new(), Vec::new());
    for _ in 0..options.repeat {
        let futures = (0..4).map(submit).collect::<Result<Vec<_>, _>>()?;
        together.push(peak(client, &futures)?);
        drop(futures);
        let mut done = Vec::new();
        let mut most = 0.0_f64;
        for x in 0..4 {
            done.push(submit(x)?);
            most = most.max(peak(client, &done)?);
        }
        singly.push(most);
    }
    let params = json!({"batches": 4, "blocks": blocks, "mib": 1, "workers": options.width()});
    report.emit_runs("swath-processes", &params, Metric::new("held_together", "MiB"), &together);
    report.emit_runs("swath-processes", &params, Metric::new("held_singly", "MiB"), &singly);
    Ok(())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    let n = options.n.unwrap_or(options.quick_or(5000, 100_000));
    let rounds = (WORK * 1000.0 / spin_cost()) as u64;
    report.for_each(|report, system| {
        let mut passes = Vec::new();
        match system {
            "floor-socketpair" => {
                let mut pong = Pong::start()?;
                for _ in 0..options.repeat {
                    passes.push(of_socket(&mut pong, workers)?);
                }
            }
            "swath-cluster" => return shares(report, options, rounds),
            _ => {
                let client = systems::open(system, workers)?;
                for _ in 0..options.repeat {
                    passes.push(of_client(&client, n, rounds)?);
                }
                if system == "swath-processes" {
                    peaks(report, &client, options)?;
                }
            }
        }
        let params = json!({"n": n, "us": WORK, "workers": workers});
        let runs = |of: fn(&Pass) -> f64| passes.iter().map(of).collect::<Vec<_>>();
        report.emit_runs(system, &params, Metric::new("p99_alone", "ms"), &runs(|p| p.alone));
        report.emit_runs(system, &params, Metric::new("p50_beside", "ms"), &runs(|p| p.median_beside));
        report.emit_runs(system, &params, Metric::new("p99_beside", "ms"), &runs(|p| p.beside));
        report.emit_runs(system, &params, Metric::new("of_alone", "1"), &runs(|p| p.beside / p.alone));
        if system != "floor-socketpair" {
            report.emit_runs(system, &params, Metric::new("batch_loses", "%"), &runs(|p| p.lost));
        }
        Ok(())
    });
}
