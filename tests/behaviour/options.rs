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

/// Runs a part of a test with options for each kind of client that has no workers, and says whether it is strict.
fn without_workers(part: impl Fn(swath::Builder, bool)) {
    for mode in [Mode::Sync, Mode::Threads] {
        for strict in [false, true] {
            part(Client::builder().mode(mode).strict(strict), strict);
        }
    }
}

#[test]
fn a_place_that_a_mode_does_not_have_is_refused_where_that_was_asked_for() {
    without_workers(|builder, strict| {
        let client = builder.build().unwrap();
        let calls = [delayed(|x: i64| x + 1).tag("gpu").call(1), delayed(|x: i64| x + 1).on_worker("worker-7").call(1)];
        for call in calls {
            for sum in [call.compute(&client), (call + 1).compute(&client).map(|x| x - 1)] {
                match sum {
                    Ok(x) => assert!(x == 2 && !strict),
                    Err(error) => {
                        assert!(strict && matches!(error, swath::Error::Unsupported { .. }), "{error}");
                        assert!(error.to_string().contains("`on_worker` or `tag` is not available in"), "{error}");
                    }
                }
            }
        }
        assert_eq!(delayed(|x: i64| x + 1).call(1).compute(&client).unwrap(), 2);
    });
    let client = Client::builder().workers(1).strict(true).build().unwrap();
    assert_eq!(delayed(|x: i64| x + 1).on_worker("worker-0").call(1).compute(&client).unwrap(), 2);
}

#[test]
fn options_that_a_mode_does_not_have_are_refused_where_that_was_asked_for() {
    type Set = fn(swath::Builder) -> swath::Builder;
    let options: [(&str, Set); 6] = [
        ("workers", |b| b.workers(2)),
        ("worker_env", |b| b.worker_env("A", "b")),
        ("worker_tags", |b| b.worker_tags(0, ["gpu"])),
        ("spill_limit", |b| b.spill_limit("1GB")),
        ("worker_timeout", |b| b.worker_timeout(Duration::from_secs(1))),
        ("memory_target", |b| b.memory_target(0.5)),
    ];
    without_workers(|builder, strict| {
        for (name, set) in options {
            match set(builder.clone()).build() {
                Ok(_) => assert!(!strict, "{name}"),
                Err(error) => assert!(strict && error.to_string().contains(name), "{name}: {error}"),
            }
        }
        builder.fail_fast(true).max_graphs(3).build().unwrap();
    });
    let refused = Client::builder().cluster("nowhere").threads(2).strict(true).build().unwrap_err();
    assert!(refused.to_string().contains("threads: it has no meaning for a client of a local cluster"), "{refused}");
}

#[test]
fn what_does_not_come_back_from_its_encoding_fails_where_that_was_asked_for() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Half {
        #[serde(skip_deserializing, default = "missing")]
        value: u64,
    }
    fn missing() -> u64 {
        panic!("no value")
    }
    for mode in [Mode::Sync, Mode::Threads] {
        let of = |encodes| Client::builder().mode(mode).encode_values(encodes).build().unwrap();
        let (plain, encoding) = (of(false), of(true));
        let made = delayed(|value: u64| Half { value }).call(1);
        let used = delayed(|half: Half| half.value).call(Half { value: 1 });
        let mapped = |client: &Client| client.map(|half: Half| half.value, [Half { value: 1 }]).unwrap()[0].result();
        let parts = |client: &Client| {
            let (_, half) = delayed(|value: u64| (value, Half { value })).call(1).unpack();
            half.compute(client).map(|half| half.value)
        };
        assert_eq!(made.compute(&plain).unwrap().value, 1);
        assert_eq!((used.compute(&plain).unwrap(), mapped(&plain).unwrap(), parts(&plain).unwrap()), (1, 1, 1));
        assert_eq!(plain.scatter(Half { value: 1 }).unwrap().result().unwrap().value, 1);
        for error in [
            made.compute(&encoding).map(drop).unwrap_err(),
            used.compute(&encoding).map(drop).unwrap_err(),
            mapped(&encoding).map(drop).unwrap_err(),
            parts(&encoding).map(drop).unwrap_err(),
        ] {
            assert!(matches!(error.task().unwrap().cause(), Cause::Decode { .. }), "{error}");
            assert!(error.to_string().contains("no value"), "{error}");
        }
        let error = encoding.scatter(Half { value: 1 }).map(drop).unwrap_err();
        assert!(error.to_string().contains("no value"), "{error}");
    }
}
