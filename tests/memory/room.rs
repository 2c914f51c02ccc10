//! Tasks wait for room: what a worker keeps, and what tasks take that fit, never ends it.

use super::disks::with_directory;
use crate::common::*;
use crate::limited;
use swath::error::Cause;
use swath::{Client, Delayed, delayed};

/// Values of 8 MB each, in memory that the allocator gives.
fn values() -> Vec<Delayed<Vec<u64>>> {
    delayed(|i: u64| vec![i; 1_000_000]).map(0..40_u64)
}

fn total(part: Vec<u64>) -> u64 {
    part.iter().sum()
}

fn persisted_and_used_again(limit: &str) {
    let client = Client::local(2, 1, limit).unwrap();
    for _ in 0..10 {
        let kept = client.persist(&values()).unwrap();
        let sums = client.compute(&kept.iter().map(|part| part.map(total)).collect::<Vec<_>>()).unwrap();
        assert_eq!(sums, (0..40).map(|i| i * 1_000_000).collect::<Vec<_>>());
    }
    assert_eq!(client.deaths().unwrap(), []);
}

#[test]
fn large_results_in_little_memory_are_kept_and_used_without_a_death() {
    let _clean = Clean::start();
    persisted_and_used_again("100MB");
}

#[test]
fn large_results_in_less_memory_are_kept_and_used_without_a_death() {
    let _clean = Clean::start();
    persisted_and_used_again("64MB");
}

#[test]
fn roles() {
    let Some(role) = my_role() else { return };
    assert_eq!(role, "refused");
    let client = limited(2, "64MB").spill_directory(std::env::var("SWATH_TEST_DIR").unwrap()).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let kept = client.persist(&values()).unwrap();
    let sums: Vec<_> = kept.iter().map(|part| client.compute(&part.map(total))).collect();
    for (i, sum) in sums.iter().enumerate() {
        match sum {
            Ok(sum) => assert_eq!(*sum, i as u64 * 1_000_000),
            Err(e) => {
                assert!(matches!(e.task().unwrap().cause(), Cause::Resource { .. }), "{e}");
                assert!(e.to_string().contains("does not fit"), "{e}");
            }
        }
    }
    assert_eq!(client.deaths().unwrap(), []);
    say(sums.iter().filter(|sum| sum.is_ok()).count());
}

/// How many of the values there was room for.
fn kept_where(setup: &str) -> Option<usize> {
    let dir = directory();
    let words = play(with_directory(dir.path(), setup, "true", ("memory::room::roles", "refused"))?);
    Some(words[0].parse().unwrap())
}

#[test]
fn large_results_that_find_the_disk_full_fail_without_a_death() {
    let _clean = Clean::start();
    let Some(kept) = kept_where("mount -t tmpfs -o size=40m tmpfs \"$SWATH_TEST_DIR\"") else { return };
    // Up to five on disk, and at least two in the memory of each.
    assert!((6..=17).contains(&kept), "{kept}");
}

#[test]
fn large_results_that_find_the_disk_read_only_fail_without_a_death() {
    let _clean = Clean::start();
    let mount = "mount --bind \"$SWATH_TEST_DIR\" \"$SWATH_TEST_DIR\" && mount -o remount,bind,ro \"$SWATH_TEST_DIR\"";
    let Some(kept) = kept_where(mount) else { return };
    assert!((4..=12).contains(&kept), "{kept}");
}
