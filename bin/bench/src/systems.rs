//! What is measured.

use crate::report::{Outcome, require};
use crate::tasks;
use std::time::Duration;
use swath::client::Builder;
use swath::status::Mode;
use swath::{Client, delayed};

/// A client that is ready: all its workers have answered, and it has run some tasks.
pub(crate) fn open(system: &str, workers: usize) -> Outcome<Client> {
    open_with(system, workers, |builder| builder)
}

/// As [`open`], and none for a floor.
pub(crate) fn open_if_swath(system: &str, workers: usize) -> Outcome<Option<Client>> {
    match system.starts_with("swath-") {
        true => open(system, workers).map(Some),
        false => Ok(None),
    }
}

/// As [`open`], with more options.
pub(crate) fn open_with(system: &str, workers: usize, options: impl FnOnce(Builder) -> Builder) -> Outcome<Client> {
    let mode: Mode = system.strip_prefix("swath-").ok_or_else(|| format!("`{system}` is no client"))?.parse()?;
    let builder = options(Client::builder().mode(mode));
    let client = match mode {
        Mode::Processes => builder.workers(workers).threads(1).build()?,
        _ => builder.threads(workers).build()?,
    };
    if mode == Mode::Processes {
        client.wait_for_workers(workers, Duration::from_secs(30))?;
    }
    for _ in 0..3 {
        let results = client.compute(delayed(tasks::inc).map(0..100_u64))?;
        require(results.into_iter().eq(1..=100), "warm-up")?;
    }
    Ok(client)
}
