//! Mixed graphs with known results, while workers are killed, stopped, slowed, filled, restarted and scaled; while programs
//! that share a local cluster are killed; and while that cluster is killed itself. Every fault comes once before any comes
//! twice. It prints its seed; with that in `SWATH_SOAK_SEED` the same graphs meet the same faults in the same order. For a
//! long run set `SWATH_SOAK_SECONDS`, or use `tests/soak`.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, with its seed"
)]

mod common;
mod soaking {
    pub mod client;
    pub mod cluster;
    pub mod faults;
    pub mod work;
}

use common::{Clean, my_role};
use soaking::faults::Rng;
use std::time::Duration;

/// Runs one soak for its share of the time.
fn soak(run: fn(Rng, Duration)) {
    let _clean = Clean::start();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SWATH_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let seconds = number("SWATH_SOAK_SECONDS").unwrap_or(4);
    eprintln!("SWATH_SOAK_SEED={seed}");
    run(Rng(seed), Duration::from_secs(seconds) / 2);
}

#[test]
fn a_client_of_its_own() {
    soak(soaking::client::soak);
}

#[test]
fn programs_of_a_local_cluster() {
    soak(soaking::cluster::soak);
}

#[test]
fn soak_child() {
    match my_role().as_deref() {
        Some("cluster") => soaking::cluster::cluster(),
        Some("program") => soaking::cluster::program(),
        _ => {}
    }
}
