//! What is measured.

use crate::report::{Outcome, require};
use crate::tasks;
use std::time::Duration;
use swath::{Client, MemoryLimit, delayed};

/// A client that is ready: all its workers have answered, and it has run some tasks.
pub(crate) fn open(system: &str, workers: usize) -> Outcome<Client> {
    let client = match system {
        "swath-sync" => Client::sync(),
        "swath-threads" => Client::threads(workers),
        "swath-processes" => {
            let client = Client::local(workers, 1, MemoryLimit::None)?;
            client.wait_for_workers(workers, Duration::from_secs(30))?;
            client
        }
        other => return Err(format!("`{other}` is no client").into()),
    };
    for _ in 0..3 {
        let results = client.compute(delayed(tasks::inc).map(0..100_u64))?;
        require(results.into_iter().eq(1..=100), "warm-up")?;
    }
    Ok(client)
}
