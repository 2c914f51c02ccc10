//! Tasks that sleep, on worker processes that are killed meanwhile: what their ends cost.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, median, require, seconds};
use crate::tasks::sleep_inc;
use crate::{floors, systems};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use swath::status::WorkerState;
use swath::{Client, delayed};

/// How long a worker may take to come back, before it is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is checked whether it is back.
const POLL: Duration = Duration::from_millis(1);

const TIME: Metric = Metric::new("time", "s");

/// Kills the first worker `kills` times at even distances within `ideal`; one that is not back when it is due is waited for.
/// Ends early when the other end of `over` does. Gives the process ids of the killed.
fn killer(client: &Client, kills: u32, ideal: Duration, over: Receiver<()>) -> Result<Vec<u32>, String> {
    let start = Instant::now();
    let mut killed = Vec::new();
    // Whether the work was over before the time was.
    let over_within = |time: Duration| over.recv_timeout(time) != Err(RecvTimeoutError::Timeout);
    for number in 1..=kills {
        let due = start + ideal * number / (kills + 1);
        if over_within(due.saturating_duration_since(Instant::now())) {
            return Ok(killed);
        }
        let victim = loop {
            let workers = client.workers().map_err(|e| e.to_string())?;
            let first = workers.iter().find(|w| w.name == "worker-0" && w.state == WorkerState::Running);
            if let Some(worker) = first.filter(|w| !killed.contains(&w.pid)) {
                break worker.pid;
            }
            if due.elapsed() > PATIENCE {
                return Err("the first worker did not come back".to_string());
            }
            if over_within(POLL) {
                return Ok(killed);
            }
        };
        kill(Pid::from_raw(victim as i32), Signal::SIGKILL).map_err(|e| format!("cannot kill worker {victim}: {e}"))?;
        killed.push(victim);
    }
    Ok(killed)
}

/// Seconds for the whole loop on new workers.
fn once(workers: usize, n: u64, micros: u64, kills: u32) -> Outcome<f64> {
    let client = systems::open("swath-processes", workers)?;
    let ideal = Duration::from_micros(n * micros / workers as u64);
    let (stop, over) = channel();
    let (took, results, killed) = std::thread::scope(|scope| {
        let there = &client;
        let killer = scope.spawn(move || killer(there, kills, ideal, over));
        let start = Instant::now();
        let results = client.compute((0..n).map(|x| delayed(sleep_inc).call(x, micros)).collect::<Vec<_>>());
        let took = start.elapsed().as_secs_f64();
        drop(stop);
        Outcome::Ok((took, results?, killer.join().map_err(|_| "the killer panicked")??))
    })?;
    require(results.into_iter().eq(1..=n), "not 1 to N in order")?;
    require(killed.len() == kills as usize, &format!("done after {} of {kills} kills", killed.len()))?;
    let dead: Vec<u32> = client.deaths()?.iter().map(|death| death.pid).collect();
    require(killed.iter().all(|pid| dead.contains(pid)), "a death without a record")?;
    Ok(took)
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    let (n, t_ms) = (options.n.unwrap_or(options.quick_or(100, 2000)), options.t_ms.unwrap_or(5.0));
    let micros = (t_ms * 1000.0) as u64;
    let most = options.kills.unwrap_or(options.quick_or(1, 3));
    let params = |kills: u32| json!({"n": n, "t_ms": t_ms, "workers": workers, "kills": kills});
    report.for_each(|report, system| {
        if system == "floor-sleep" {
            let check = |sum| require(sum == n * (n + 1) / 2, "not the sum of 1 to N");
            let took = seconds(options.repeat, || Ok(floors::sleeps(n, micros, workers)), check)?;
            report.emit_runs(system, &params(0), TIME, &took);
            return Ok(());
        }
        let runs = |kills| (0..options.repeat).map(|_| once(workers, n, micros, kills)).collect::<Outcome<Vec<_>>>();
        let calm = runs(0)?;
        report.emit_runs(system, &params(0), TIME, &calm);
        let stormy = runs(most)?;
        report.emit_runs(system, &params(most), TIME, &stormy);
        report.emit(system, &params(most), Metric::new("lost", "s"), median(&stormy) - median(&calm));
        Ok(())
    });
}
