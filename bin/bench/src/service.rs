//! Many small graphs at once, from many threads: what a service does with a client.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, percentile, require};
use crate::tasks::{inc, merge, spin, spin_cost};
use crate::{pool, systems};
use rayon_core::ThreadPool;
use serde_json::json;
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;
use swath::{Client, Delayed, Future, delayed};

/// Tasks of a graph that need no other; one more adds them up.
const LEAVES: u64 = 8;
/// Microseconds of work in each of them.
const WORK: f64 = 10.0;
/// Graphs under way at a time, of all callers together.
const AT_ONCE: usize = 1000;

fn leaf(x: u64, rounds: u64) -> u64 {
    spin(rounds);
    x + 1
}

/// What a graph about `x` gives.
fn expected(x: u64) -> u64 {
    LEAVES * (x + 1) + LEAVES * (LEAVES - 1) / 2
}

/// Something that runs graphs for callers in many threads.
trait Service: Sync {
    type Ticket;
    /// Starts a graph.
    fn submit(&self, x: u64, rounds: u64) -> Result<Self::Ticket, String>;
    /// Waits for its result.
    fn wait(ticket: Self::Ticket) -> Result<u64, String>;
    /// Starts a graph of `n` tasks that do nothing, to be in the others' way; gives the wait for their sum.
    fn crowd(&self, n: u64) -> Result<Self::Ticket, String>;
}

impl Service for Client {
    type Ticket = Future<u64>;

    fn submit(&self, x: u64, rounds: u64) -> Result<Future<u64>, String> {
        let leaves: Vec<Delayed<u64>> = (x..x + LEAVES).map(|x| delayed(leaf).call(x, rounds)).collect();
        Client::submit(self, &delayed(merge).call(leaves)).map_err(|e| e.to_string())
    }

    fn wait(ticket: Future<u64>) -> Result<u64, String> {
        ticket.result().map_err(|e| e.to_string())
    }

    fn crowd(&self, n: u64) -> Result<Future<u64>, String> {
        Client::submit(self, &delayed(merge).call(delayed(inc).map(0..n))).map_err(|e| e.to_string())
    }
}

/// Each graph is a spawn that forks and joins.
impl Service for ThreadPool {
    type Ticket = Receiver<u64>;

    fn submit(&self, x: u64, rounds: u64) -> Result<Receiver<u64>, String> {
        fn sum(first: u64, leaves: u64, rounds: u64) -> u64 {
            if leaves == 1 {
                return leaf(first, rounds);
            }
            let half = leaves / 2;
            let (x, y) = rayon_core::join(|| sum(first, half, rounds), || sum(first + half, leaves - half, rounds));
            x + y
        }
        let (sender, receiver) = channel();
        self.spawn(move || {
            let _ = sender.send(sum(x, LEAVES, rounds));
        });
        Ok(receiver)
    }

    fn wait(ticket: Receiver<u64>) -> Result<u64, String> {
        ticket.recv().map_err(|e| e.to_string())
    }

    fn crowd(&self, n: u64) -> Result<Receiver<u64>, String> {
        let (sender, receiver) = channel();
        self.spawn(move || {
            let sum = AtomicU64::new(0);
            rayon_core::scope(|scope| {
                for x in 0..n {
                    let sum = &sum;
                    scope.spawn(move |_| {
                        sum.fetch_add(inc(black_box(x)), Ordering::Relaxed);
                    });
                }
            });
            let _ = sender.send(sum.into_inner());
        });
        Ok(receiver)
    }
}

/// What one thread saw: milliseconds from each submission to its result, and graphs a second.
struct Caller {
    latencies: Vec<f64>,
    rate: f64,
}

/// Runs `graphs` graphs, `window` of them under way at a time.
fn call<S: Service>(service: &S, caller: usize, graphs: u64, window: usize, rounds: u64) -> Result<Caller, String> {
    let mut under_way: VecDeque<(u64, Instant, S::Ticket)> = VecDeque::with_capacity(window);
    let mut latencies = Vec::with_capacity(graphs as usize);
    let mut finish = |(x, since, ticket): (u64, Instant, S::Ticket)| {
        let answer = S::wait(ticket)?;
        latencies.push(since.elapsed().as_secs_f64() * 1000.0);
        if answer == expected(x) { Ok(()) } else { Err(format!("wrong answer: {answer} for {x}")) }
    };
    let start = Instant::now();
    for number in 0..graphs {
        if under_way.len() == window
            && let Some(oldest) = under_way.pop_front()
        {
            finish(oldest)?;
        }
        let x = caller as u64 * graphs + number;
        under_way.push_back((x, Instant::now(), service.submit(x, rounds)?));
    }
    under_way.into_iter().try_for_each(&mut finish)?;
    let rate = graphs as f64 / start.elapsed().as_secs_f64();
    Ok(Caller { latencies, rate })
}

/// Jain's index: 1 where all have the same, `1/N` where one has everything.
fn fairness(rates: &[f64]) -> f64 {
    let (sum, squares) = (rates.iter().sum::<f64>(), rates.iter().map(|r| r * r).sum::<f64>());
    if squares == 0.0 { 0.0 } else { sum * sum / (rates.len() as f64 * squares) }
}

/// All callers at once; seconds that all took, and what each saw. A crowd of tasks is submitted before them, if any.
fn all<S: Service>(
    service: &S,
    callers: usize,
    graphs: u64,
    rounds: u64,
    crowd: u64,
) -> Result<(f64, Vec<Caller>), String> {
    let window = (AT_ONCE / callers).max(1);
    let before = (crowd > 0).then(|| service.crowd(crowd)).transpose()?;
    let ready = Barrier::new(callers + 1);
    let ready = &ready;
    let seen = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|caller| {
                scope.spawn(move || {
                    ready.wait();
                    call(service, caller, graphs, window, rounds)
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        let seen: Result<Vec<Caller>, String> =
            threads.into_iter().map(|t| t.join().map_err(|_| "a caller panicked".to_string())?).collect();
        seen.map(|seen| (start.elapsed().as_secs_f64(), seen))
    })?;
    match before.map(S::wait).transpose()? {
        Some(sum) if sum != crowd * (crowd + 1) / 2 => Err("wrong answer: not the sum of the crowd".to_string()),
        _ => Ok(seen),
    }
}

fn measure<S: Service>(report: &Report, system: &str, options: &Options, service: &S) -> Outcome {
    let workers = options.width();
    let callers = options.callers.unwrap_or(64);
    let graphs = options.n.unwrap_or(options.quick_or(200, 20_000)).div_ceil(callers as u64);
    let rounds = (WORK * 1000.0 / spin_cost()) as u64;
    all(service, callers, graphs.min(20), rounds, 0)?;
    for crowd in [0, options.quick_or(1000, 100_000)] {
        let mut runs: [Vec<f64>; 5] = Default::default();
        for _ in 0..options.repeat {
            let (took, seen) = all(service, callers, graphs, rounds, crowd)?;
            let latencies: Vec<f64> = seen.iter().flat_map(|c| &c.latencies).copied().collect();
            require(latencies.len() as u64 == graphs * callers as u64, "graphs are missing")?;
            let rates: Vec<f64> = seen.iter().map(|c| c.rate).collect();
            let measured = [
                latencies.len() as f64 / took,
                percentile(&latencies, 0.5),
                percentile(&latencies, 0.99),
                latencies.iter().copied().fold(0.0, f64::max),
                fairness(&rates),
            ];
            runs.iter_mut().zip(measured).for_each(|(runs, value)| runs.push(value));
        }
        let params = json!({
            "graphs": graphs * callers as u64, "tasks": LEAVES + 1, "us": WORK, "callers": callers,
            "at_once": (AT_ONCE / callers).max(1) * callers, "crowd": crowd, "workers": workers,
        });
        let metrics = [("throughput", "graphs/s"), ("p50", "ms"), ("p99", "ms"), ("slowest", "ms"), ("fairness", "1")];
        for ((name, unit), runs) in metrics.into_iter().zip(&runs) {
            report.emit_runs(system, &params, Metric::new(name, unit), runs);
        }
    }
    Ok(())
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    report.for_each(|report, system| match system {
        "floor-rayon" => measure(report, system, options, &pool::open(workers)?),
        _ => measure(report, system, options, &systems::open(system, workers)?),
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fairness_is_between_one_and_all() {
        assert_eq!(fairness(&[2.0, 2.0, 2.0]), 1.0);
        assert_eq!(fairness(&[0.0, 3.0, 0.0]), 1.0 / 3.0);
        assert_eq!(fairness(&[]), 0.0);
    }

    #[test]
    fn every_service_gives_the_same() {
        fn answer<S: Service>(service: &S) -> u64 {
            S::wait(service.submit(5, 1).unwrap()).unwrap()
        }
        assert_eq!(expected(5), (6..14).sum::<u64>());
        assert_eq!(answer(&Client::threads(1)), expected(5));
        assert_eq!(answer(&pool::open(1).unwrap()), expected(5));
        let (_, seen) = all(&Client::threads(2), 3, 4, 1, 10).unwrap();
        assert!(seen.len() == 3 && seen.iter().all(|c| c.latencies.len() == 4 && c.rate > 0.0));
    }
}
