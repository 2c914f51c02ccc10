//! Chains of futures, each of which is described with the one before.

use crate::common::{comes_true, directory, is_sync, path, touch};
use std::path::Path;
use std::time::Duration;
use swath::{Client, Future, delayed, try_delayed};

/// What a thread's stack holds while it drops a chain. It is not enough for one call in another for each future.
const STACK: usize = 256 << 10;

fn inc(x: i64) -> i64 {
    x + 1
}

fn fails(_: i64) -> Result<i64, String> {
    Err("no".to_string())
}

/// Waits for a file, or until it is cancelled: longer than the longest chain takes to be described.
fn waits(file: String) -> i64 {
    let there = || Path::new(&file).exists();
    i64::from(comes_true(Duration::from_secs(3600), || there() || swath::cancelled()) && there())
}

/// So many futures, each with the one before as its argument; the last one.
fn chain(client: &Client, first: &Future<i64>, n: usize) -> Future<i64> {
    (0..n).fold(first.clone(), |last, _| client.submit(&delayed(inc).call(&last)).unwrap())
}

/// Drops the last handle of a chain in a thread with a small stack.
fn dropped(last: Future<i64>) {
    let thread = std::thread::Builder::new().stack_size(STACK);
    thread.spawn(move || drop(last)).unwrap().join().unwrap();
}

/// Chains that fail, that are pending, that are cancelled, and that succeed.
fn of(client: &Client, n: usize) {
    let failed = client.submit(&try_delayed(fails).call(1)).unwrap();
    let last = chain(client, &failed, n);
    let error = last.result().unwrap_err();
    assert_eq!(error.task().unwrap().key(), failed.key());
    drop(failed);
    dropped(last);
    let last = chain(client, &client.submit(&delayed(inc).call(0)).unwrap(), n);
    assert_eq!(last.result().unwrap(), n as i64 + 1);
    dropped(last);
    if is_sync(client) {
        return;
    }
    let dir = directory();
    let file = path(&dir, "go");
    let first = client.submit(&delayed(waits).call(&*file)).unwrap();
    dropped(chain(client, &first, n));
    let last = chain(client, &first, n);
    client.cancel(&first);
    assert!(last.result().unwrap_err().is_cancelled());
    dropped(last);
    drop(first);
    touch(&file);
    assert_eq!(delayed(inc).call(1).compute(client).unwrap(), 2);
}

pub fn long_chains_of_futures(client: &Client) {
    of(client, 5_000);
}

/// Takes minutes.
pub fn chains_of_a_million_futures(client: &Client) {
    of(client, 1_000_000);
}
