//! Options of single tasks, as far as all modes have them.

use crate::common::{LONG, comes_true, directory, is_sync, note, notes, path, touch, until};
use std::path::Path;
use std::time::{Duration, Instant};
use swath::delayed::value;
use swath::error::Cause;
use swath::memory::MemoryLimit;
use swath::status::Mode;
use swath::{Client, Error, delayed, try_delayed};

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
    let lazy = delayed(slow).timeout(limit).call(client.mode() == swath::status::Mode::Sync);
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
fn without_workers(part: impl Fn(swath::client::Builder, bool)) {
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
fn what_a_client_is_strict_about_its_tasks_are_too() {
    fn placed(deep: u32) -> String {
        let client = swath::current_client().unwrap();
        match deep {
            0 => match delayed(|x: i64| x + 1).tag("gpu").call(1).compute(&client) {
                Ok(x) => x.to_string(),
                Err(error) => error.to_string(),
            },
            _ => delayed(placed).call(deep - 1).compute(&client).unwrap(),
        }
    }
    without_workers(|builder, strict| {
        let client = builder.build().unwrap();
        for deep in [0, 1] {
            let told = delayed(placed).call(deep).compute(&client).unwrap();
            assert_eq!(told != "2", strict, "{told}");
            assert_eq!(told.contains("`on_worker` or `tag` is not available in"), strict, "{told}");
        }
    });
}

#[test]
fn what_a_client_encodes_its_tasks_do_too() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Half {
        #[serde(skip)]
        value: u64,
    }
    fn nested(value: u64) -> u64 {
        let half = delayed(|value: u64| Half { value }).call(value);
        half.map(|half: Half| half.value).compute(&swath::current_client().unwrap()).unwrap()
    }
    for (mode, encodes, there) in
        [(Mode::Sync, false, 7), (Mode::Sync, true, 0), (Mode::Threads, false, 7), (Mode::Threads, true, 0)]
    {
        let client = Client::builder().mode(mode).encode_values(encodes).build().unwrap();
        assert_eq!(delayed(nested).call(7).compute(&client).unwrap(), there, "{mode}");
    }
}

/// Every setter, with values that make no sense, which are refused in every mode, and with extreme ones that do.
#[test]
fn values_that_make_no_sense_are_refused_with_what_is_permitted() {
    type Set = fn(swath::client::Builder) -> swath::client::Builder;
    const SHORT: Duration = Duration::from_nanos(1);
    let wrong: [(&str, Set, &str); 39] = [
        ("workers", |b| b.workers(0), "at least one worker is needed"),
        ("threads", |b| b.threads(0), "at least one thread is needed"),
        ("allowed_deaths", |b| b.allowed_deaths(0), "with the first death if it is 1"),
        ("recycle_after", |b| b.recycle_after(0), "Leave it out for never"),
        ("max_graphs", |b| b.max_graphs(0), "no graph could be submitted"),
        ("start_timeout", |b| b.start_timeout(Duration::ZERO), "must be 50ms at least"),
        ("start_timeout", |b| b.start_timeout(SHORT), "must be 50ms at least"),
        ("worker_timeout", |b| b.worker_timeout(Duration::ZERO), "must be 200ms at least"),
        ("worker_timeout", |b| b.worker_timeout(SHORT), "must be 200ms at least"),
        ("weight", |b| b.weight(0.0), "it must be 0.001 to 1000"),
        ("weight", |b| b.weight(-1.0), "it must be"),
        ("weight", |b| b.weight(f64::NAN), "it must be"),
        ("weight", |b| b.weight(f64::INFINITY), "it must be"),
        ("events", |b| b.events(usize::MAX), "it must be 0 to"),
        ("recycle_unmanaged", |b| b.recycle_unmanaged(0.0), "share of the limit up to 1"),
        ("recycle_unmanaged", |b| b.recycle_unmanaged(1.5), "share of the limit up to 1"),
        ("recycle_unmanaged", |b| b.recycle_unmanaged(f64::NAN), "share of the limit up to 1"),
        ("memory_target", |b| b.memory_target(0.0), ""),
        ("memory_target", |b| b.memory_target(7.0), ""),
        ("memory_spill", |b| b.memory_spill(f64::NAN), ""),
        ("memory_pause", |b| b.memory_pause(-1.0), ""),
        ("memory_terminate", |b| b.memory_terminate(1e9), ""),
        ("name", |b| b.name(""), "one character at least"),
        ("name", |b| b.name("two\nlines"), "none of control"),
        ("worker_tags", |b| b.worker_tags(0, [""]), "one character at least"),
        ("worker_resources", |b| b.worker_resources(0, [("", 1.0)]), "one character at least"),
        ("worker_resources", |b| b.worker_resources(0, [("gpu", -1.0)]), "0 or more"),
        ("worker_resources", |b| b.worker_resources(0, [("gpu", f64::NAN)]), "0 or more"),
        ("worker_resources", |b| b.worker_resources(0, [("gpu", f64::INFINITY)]), "nothing has so much"),
        ("threads_resources", |b| b.threads_resources([("gpu", -1.0)]), "0 or more"),
        ("worker_env", |b| b.worker_env("", "x"), "not empty"),
        ("worker_env", |b| b.worker_env("A=B", "x"), "has no `=`"),
        ("worker_env", |b| b.worker_env("A", "x\0y"), "NUL"),
        ("cluster", |b| b.cluster(""), "name of a local cluster"),
        ("memory limit", |b| b.memory_limit(0_u64), "MemoryLimit::None"),
        ("total_memory_limit", |b| b.total_memory_limit(0_u64), "MemoryLimit::None"),
        ("shared_memory_limit", |b| b.shared_memory_limit("nothing"), "512MiB"),
        ("spill_limit", |b| b.spill_limit("-1"), "512MiB"),
        ("size", |b| b.size("gigantic"), ""),
    ];
    // These are parsed where they are used.
    let late = ["memory limit", "total_memory_limit", "shared_memory_limit", "spill_limit", "size"];
    for mode in [Mode::Sync, Mode::Threads, Mode::Processes] {
        for (n, (name, set, permitted)) in wrong.iter().enumerate() {
            if late.contains(name) && mode != Mode::Processes {
                continue;
            }
            match set(Client::builder().mode(mode)).build() {
                Err(Error::Invalid { what, why }) => {
                    assert!(what.contains(name) && why.contains(permitted), "{n} in {mode}: {what}: {why}");
                }
                other => panic!("{name} ({n}) in {mode}: {other:?}"),
            }
        }
    }
    for (name, set) in [
        ("workers", (|b| b.workers(1 << 40)) as Set),
        ("threads", |b| b.threads(1 << 40)),
        ("worker_tags", |b| b.worker_tags(1 << 40, ["gpu"])),
        ("worker_resources", |b| b.worker_resources(1 << 40, [("gpu", 1.0)])),
        ("local_directory", |b| b.local_directory("/nowhere/at/all")),
        ("spill_directory", |b| b.spill_directory("/nowhere/at/all")),
        ("memory limit", |b| b.memory_limit(512_u64)),
        ("total_memory_limit", |b| b.total_memory_limit("1GB")),
    ] {
        let error = set(Client::builder()).build().unwrap_err();
        assert!(matches!(&error, Error::Invalid { what, .. } if what == name), "{name}: {error}");
    }
    // The longest there is, and the least that makes sense.
    let client = Client::builder()
        .workers(1)
        .start_timeout(Duration::MAX)
        .worker_timeout(Duration::MAX)
        .cancel_grace(Duration::MAX)
        .allowed_deaths(u32::MAX)
        .recycle_after(u64::MAX)
        .max_graphs(usize::MAX)
        .events(0)
        .memory_limit(MemoryLimit::gib(1))
        .build()
        .unwrap();
    assert_eq!(delayed(|x: i64| x + 1).call(1).compute(&client).unwrap(), 2);
    let client = Client::builder()
        .workers(1)
        .worker_timeout(Duration::from_millis(200))
        .cancel_grace(Duration::ZERO)
        .allowed_deaths(1)
        .recycle_after(1)
        .max_graphs(1)
        .build()
        .unwrap();
    assert_eq!(delayed(|x: i64| x + 1).call(1).compute(&client).unwrap(), 2);
}

#[test]
fn a_weight_is_refused_where_there_are_no_other_programs() {
    for mode in [Mode::Sync, Mode::Threads, Mode::Processes] {
        let builder = Client::builder().mode(mode).weight(2.0);
        let refused = builder.clone().strict(true).build().unwrap_err();
        assert!(refused.to_string().contains("weight: it has no meaning"), "{refused}");
        assert_eq!(delayed(|x: i64| x + 1).call(1).compute(&builder.build().unwrap()).unwrap(), 2);
    }
}

/// A cancelled task goes on for as long as it likes where the grace is as long as there can be.
#[test]
fn a_grace_without_an_end_ends_nothing() {
    for mode in [Mode::Threads, Mode::Processes] {
        let dir = crate::common::directory();
        let (runs, gate) = (crate::common::path(&dir, "runs"), crate::common::path(&dir, "gate"));
        fn goes_on(runs: String, gate: String) -> u32 {
            crate::common::note(&runs, "begun");
            crate::common::wait_for_file(&gate);
            crate::common::note(&runs, "ended");
            std::process::id()
        }
        let builder = Client::builder().mode(mode).threads(1);
        let builder = if mode == Mode::Processes { builder.workers(1).cancel_grace(Duration::MAX) } else { builder };
        let client = builder.build().unwrap();
        let future = client.submit(&delayed(goes_on).call(&*runs, &*gate)).unwrap();
        crate::common::until("it runs", || crate::common::notes(&runs).len() == 1);
        client.cancel(&future);
        assert!(future.result().unwrap_err().is_cancelled());
        // A spare thread is there for others.
        let other = client.submit(&delayed(std::process::id).call()).unwrap();
        let process = other.result_timeout(crate::common::LONG).unwrap();
        crate::common::touch(&gate);
        crate::common::until("it has ended by itself", || crate::common::notes(&runs).len() == 2);
        assert_eq!(delayed(std::process::id).call().compute(&client).unwrap(), process, "the worker is the same");
        assert!(client.deaths().unwrap().is_empty(), "{:?}", client.deaths());
    }
}

#[test]
fn options_that_a_mode_does_not_have_are_refused_where_that_was_asked_for() {
    type Set = fn(swath::client::Builder) -> swath::client::Builder;
    let options: [(&str, Set); 7] = [
        ("workers", |b| b.workers(2)),
        ("worker_env", |b| b.worker_env("A", "b")),
        ("worker_tags", |b| b.worker_tags(0, ["gpu"])),
        ("worker_resources", |b| b.worker_resources(0, [("gpu", 1.0)])),
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
    let of_cluster: [(&str, Set); 4] = [
        ("threads", |b| b.threads(2)),
        ("worker_tags", |b| b.worker_tags(0, ["gpu"])),
        ("worker_resources", |b| b.worker_resources(0, [("gpu", 1.0)])),
        ("threads_resources", |b| b.threads_resources([("gpu", 1.0)])),
    ];
    for (name, set) in of_cluster {
        let refused = set(Client::builder().cluster("nowhere").strict(true)).build().unwrap_err().to_string();
        let said = format!("{name}: it has no meaning for a client of a local cluster");
        assert!(refused.contains(&said), "{refused}");
    }
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
