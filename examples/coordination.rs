//! 200 tasks share a semaphore, a lock, a variable and a queue, while one of their four workers is killed every second.
//!
//! What a killed worker held is free again, and its tasks run again: so each says what it has done in a way that can be said
//! twice. Every number is counted, and counted once.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;
use swath::coordination::{Lock, Queue, Semaphore, Variable};
use swath::{Client, Error, Future, Result, try_delayed};

const TASKS: u64 = 200;

fn work(n: u64, disk: Semaphore, lock: Lock, sum: Variable<BTreeSet<u64>>, done: Queue<u64>) -> Result<()> {
    let permit = disk.acquire()?; // three at a time
    sleep(Duration::from_millis(50));
    drop(permit);
    let guard = lock.acquire()?; // one at a time
    let mut counted = sum.try_get()?.unwrap_or_default();
    counted.insert(n);
    sum.set(counted)?;
    drop(guard);
    done.put(n)
}

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let client = Client::builder().workers(4).threads(1).memory_limit("512MB").allowed_deaths(100).build()?;
    let (disk, lock) = (client.semaphore("disk", 3)?, client.lock("counted")?);
    let (counted, done) = (client.variable("counted")?, client.queue("done", 10)?);
    let call = |n| try_delayed(work).call(n, disk.clone(), lock.clone(), counted.clone(), done.clone());
    let futures = client.submit_all(&(0..TASKS).map(call).collect::<Vec<_>>())?;
    let over = AtomicBool::new(false);
    let kill = || {
        for victim in (0..4).cycle() {
            sleep(Duration::from_secs(1));
            if over.load(Ordering::Relaxed) {
                return;
            }
            if let Some(worker) = client.workers().unwrap_or_default().get(victim) {
                assert!(
                    Command::new("kill").args(["-9", &worker.pid.to_string()]).status().is_ok(),
                    "there is no `kill`"
                );
            }
        }
    };
    let take = || {
        let mut seen = BTreeSet::new();
        loop {
            match done.get_timeout(Duration::from_millis(100)) {
                Ok(n) => drop(seen.insert(n)), // tasks wait while ten lie there
                Err(Error::Timeout { .. }) if futures.iter().all(Future::is_done) => return Ok(seen),
                Err(Error::Timeout { .. }) => {}
                Err(e) => return Err(e),
            }
        }
    };
    let seen = scope(|scope| {
        scope.spawn(kill);
        let seen = take();
        over.store(true, Ordering::Relaxed);
        seen
    })?;
    client.gather(&futures)?;
    println!("{} seen, {} counted, {} workers killed", seen.len(), counted.get()?.len(), client.deaths()?.len());
    Ok(())
}
