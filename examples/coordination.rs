//! 200 tasks share a semaphore, a lock, a variable and a queue, while one of their four workers is killed every second.
//!
//! What a killed worker held is free again, and its tasks run again: so each says what it has done in a way that can be said
//! twice. Every number is counted, and counted once.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::Look;
use swath::coordination::{Lock, Queue, Semaphore, Variable};
use swath::{Client, Future, Result, try_delayed};

fn work(n: u64, disk: Semaphore, lock: Lock, sum: Variable<BTreeSet<u64>>, done: Queue<u64>) -> Result<()> {
    let permit = disk.acquire()?; // three at a time
    sleep(Duration::from_millis(50));
    drop(permit);
    let guard = lock.acquire()?; // one at a time
    let mut counted = sum.try_get()?.unwrap_or_default();
    counted.insert(n);
    sum.set(counted)?;
    drop(guard);
    done.put(n) // waits while ten lie there
}

#[allow(clippy::print_stdout)]
fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let look = Look::alone()?;
    let client = look.client(Client::builder().workers(4).threads(1).memory_limit("512MB").allowed_deaths(100))?;
    let _report = look.report(&client);
    let (disk, lock) = (client.semaphore("disk", 3)?, client.lock("counted")?);
    let (counted, done) = (client.variable("counted")?, client.queue("done", 10)?);
    let call = |n| try_delayed(work).call(n, disk.clone(), lock.clone(), counted.clone(), done.clone());
    let calls: Vec<_> = (0..200).map(call).collect();
    look.draw(&calls)?;
    let futures = client.submit_all(&calls)?;
    let (mut seen, began, mut kills) = (BTreeSet::new(), Instant::now(), 0);
    while !futures.iter().all(Future::is_done) || done.len()? > 0 {
        if let Ok(n) = done.get_timeout(Duration::from_millis(100)) {
            seen.insert(n);
        }
        if began.elapsed() > Duration::from_secs(kills + 1) {
            if let Some(worker) = client.workers()?.get(kills as usize % 4) {
                Command::new("kill").args(["-9", &worker.pid.to_string()]).status()?;
            }
            kills += 1;
        }
    }
    client.gather(&futures)?;
    println!("{} seen, {} counted, {} workers killed", seen.len(), counted.get()?.len(), client.deaths()?.len());
    Ok(())
}
