//! Options of single tasks, as far as all modes have them.

use crate::common::{LONG, comes_true, directory, note, notes, path};
use std::time::Duration;
use swath::{Cause, Client, delayed, try_delayed};

pub fn names(client: &Client) {
    let named = delayed(|x: i64| 1 / x).name("one over").call(0);
    let error = named.compute(client).unwrap_err();
    let task = error.task().unwrap();
    assert_eq!((task.name(), task.key()), ("one over", &*named.key()));
    assert!(task.key().starts_with("one over-"));
    let plain = delayed(|x: i64| 1 / x).call(0);
    let error = plain.compute(client).unwrap_err();
    assert_eq!(error.task().unwrap().name(), "names-closure");
    assert_eq!(error.task().unwrap().key(), plain.key());
}

/// Fails until there are `n` lines in the file.
fn fails(file: String, n: usize) -> Result<usize, String> {
    let before = notes(&file).len();
    note(&file, "run");
    if before < n { Err(format!("failed {before}")) } else { Ok(before) }
}

pub fn retries_until_it_works(client: &Client) {
    let dir = directory();
    let lazy = try_delayed(fails).retries(3).call(path(&dir, "a"), 3);
    assert_eq!((lazy + 10).compute(client).unwrap(), 13);
    assert_eq!(notes(&path(&dir, "a")).len(), 4);
    // A panic is repeated as well. Its inputs are there each time.
    let panics = delayed(|file: String, xs: Vec<i64>| match fails(file, 2) {
        Ok(_) => xs.iter().sum::<i64>(),
        Err(e) => panic!("{e}"),
    })
    .retries(2)
    .call(path(&dir, "b"), delayed(|n: i64| (0..n).collect::<Vec<_>>()).call(10));
    assert_eq!(panics.compute(client).unwrap(), 45);
}

pub fn retries_run_out(client: &Client) {
    let dir = directory();
    let error = try_delayed(fails).retries(2).call(path(&dir, "a"), 9).compute(client).unwrap_err();
    assert_eq!(error.task().unwrap().downcast::<String>().unwrap(), "failed 2");
    assert_eq!(notes(&path(&dir, "a")).len(), 3);
    let error = try_delayed(fails).call(path(&dir, "b"), 9).compute(client).unwrap_err();
    assert_eq!(error.task().unwrap().downcast::<String>().unwrap(), "failed 0");
    assert_eq!(notes(&path(&dir, "b")).len(), 1);
}

pub fn time_limits(client: &Client) {
    fn slow(sync: bool) -> i64 {
        let most = if sync { Duration::from_millis(60) } else { LONG };
        comes_true(most, swath::cancelled);
        1
    }
    let limit = Duration::from_millis(50);
    let lazy = delayed(slow).timeout(limit).call(client.mode() == swath::Mode::Sync);
    let error = (&lazy + 1).compute(client).unwrap_err();
    let task = error.task().unwrap();
    assert!(matches!(task.cause(), Cause::TimedOut { limit: l } if *l == limit), "{error}");
    assert_eq!((task.key(), task.name()), (&*lazy.key(), "slow"));
    // One that is fast enough has nothing to fear.
    let quick = delayed(|x: i64| x).timeout(LONG).call(3);
    assert_eq!(quick.compute(client).unwrap(), 3);
    assert!(client.deaths().unwrap().is_empty());
}

pub fn options_of_place_are_harmless(client: &Client) {
    let wherever = delayed(|x: i64| x + 1).on_worker("worker-0").memory(1000).priority(-3).call(1);
    assert_eq!(wherever.compute(client).unwrap(), 2);
}

pub fn options_hold_for_each_call(client: &Client) {
    let lazy = delayed(|x: i64| 1 / x).name("each").retries(1);
    let more = lazy.clone().name("other");
    let errors = [lazy.call(0), lazy.call(0), more.call(0)].map(|d| d.compute(client).unwrap_err());
    let names: Vec<_> = errors.iter().map(|e| e.task().unwrap().name()).collect();
    assert_eq!(names, ["each", "each", "other"]);
}
