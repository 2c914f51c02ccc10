//! Options of single tasks, as far as all modes have them.

use crate::common::{LONG, comes_true, directory, is_sync, note, notes, path, touch, until};
use std::path::Path;
use std::time::{Duration, Instant};
use swath::{Cause, Client, Error, Mode, delayed, try_delayed, value};

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

/// Does not look whether it is to stop.
fn deaf(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

pub fn a_run_over_its_limit_never_succeeds(client: &Client) {
    let limit = Duration::from_millis(50);
    let over = delayed(deaf).timeout(limit).call(80);
    for error in [over.compute(client).unwrap_err(), client.submit(&over).unwrap().result().unwrap_err()] {
        let text = error.to_string();
        let task = error.task().unwrap();
        assert!(matches!(task.cause(), Cause::TimedOut { limit: l } if *l == limit), "{error}");
        assert!(task.worker().is_some() && text.ends_with("took longer than its timeout of 50ms"), "{text}");
    }
    // Limits are whole milliseconds, so that they are told alike everywhere.
    let error = delayed(deaf).timeout(Duration::from_micros(1300)).call(30).compute(client).unwrap_err();
    assert!(error.to_string().ends_with("timeout of 2ms"), "{error}");
    // One that fails late has failed for that.
    let late = try_delayed(|| -> Result<u64, String> { Err(deaf(80).to_string()) }).timeout(limit).call();
    assert!(late.compute(client).unwrap_err().to_string().ends_with("timeout of 50ms"));
    assert_eq!(delayed(deaf).timeout(LONG).call(1).compute(client).unwrap(), 1);
}

pub fn a_limit_is_told_when_it_is_over(client: &Client) {
    if is_sync(client) {
        return;
    }
    let limit = Duration::from_millis(50);
    let late = |ask: &dyn Fn() -> Error| {
        let tell = || {
            let began = Instant::now();
            let error = ask();
            let took = began.elapsed();
            assert!(matches!(error.task().unwrap().cause(), Cause::TimedOut { .. }), "{error}");
            // The function goes on; it must not be in the way of the next.
            std::thread::sleep(Duration::from_millis(160).saturating_sub(took));
            took - limit
        };
        // The machine may be busy now and then.
        let mut late: Vec<_> = (0..5).map(|_| tell()).collect();
        late.sort();
        late[2]
    };
    let over = || delayed(deaf).timeout(limit).call(150);
    let once = late(&|| over().compute(client).unwrap_err());
    let submitted = late(&|| client.submit(&over()).unwrap().result().unwrap_err());
    let needed = late(&|| (over() + 1).compute(client).unwrap_err());
    // Another task had more time, and was there before.
    let behind = late(&|| {
        let other = client.submit(&delayed(deaf).timeout(LONG).call(1)).unwrap();
        let error = over().compute(client).unwrap_err();
        other.result().unwrap();
        error
    });
    let all = [once, submitted, needed, behind];
    assert!(all.iter().all(|late| *late <= Duration::from_millis(20)), "told so late: {all:?}");
}

pub fn what_took_too_long_is_tried_again(client: &Client) {
    let dir = directory();
    let attempt = |file: String, xs: Vec<u64>| {
        note(&file, "run");
        deaf(if notes(&file).len() == 1 { 200 } else { 0 });
        xs.len()
    };
    let xs = delayed(|n: u64| (0..n).collect::<Vec<_>>()).call(7);
    let again = delayed(attempt).timeout(Duration::from_millis(100)).retries(1).call(path(&dir, "a"), &xs);
    assert_eq!((again + 1).compute(client).unwrap(), 8);
    assert_eq!(notes(&path(&dir, "a")).len(), 2);
}

/// In threads mode, where nothing can end a function.
pub fn functions_that_hang_are_in_nobodys_way(client: &Client) {
    if client.mode() != Mode::Threads {
        return;
    }
    let dir = directory();
    let hang = |i: u64, file: String, ended: String| {
        if i.is_multiple_of(3) {
            // It does not look whether it is to stop.
            comes_true(LONG, || Path::new(&file).exists());
            note(&ended, i);
        }
        i
    };
    let hang = delayed(hang).timeout(Duration::from_millis(50)).retries(1);
    let calls: Vec<_> = (0..30).map(|i| hang.call(i, path(&dir, "end"), path(&dir, "ended"))).collect();
    let futures = client.submit_all(&calls).unwrap();
    for (i, future) in (0..).zip(&futures) {
        match future.result_timeout(LONG) {
            Ok(x) => assert_eq!((x, i % 3 == 0), (i, false)),
            Err(error) => {
                assert!(matches!(error.task().unwrap().cause(), Cause::TimedOut { .. }), "{i}: {error}");
                assert_eq!(i % 3, 0);
            }
        }
    }
    assert_eq!(value(1).compute(client).unwrap(), 1);
    touch(&path(&dir, "end"));
    until("the functions end", || notes(&path(&dir, "ended")).len() == 20);
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
