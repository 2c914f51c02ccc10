//! Workers that are retired, replaced and adapted on command: none of it is a death, and nothing is lost or blamed.

use crate::common::{LONG, block_on, directory, note, notes, path, pids, touch, until, wait_for_file};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};
use swath::client::{AdaptOptions, WaitFor};
use swath::status::Mode;
use swath::task::current_task;
use swath::{Client, Error, current_client, delayed};

fn counted(file: String, x: i64) -> i64 {
    note(&file, x);
    std::thread::sleep(Duration::from_millis(200));
    x
}

fn noted_gate(file: String, gate: String, x: i64) -> i64 {
    note(&file, x);
    if wait_for_file(&gate) { x } else { -1 }
}

fn names(client: &Client) -> Vec<String> {
    client.workers().unwrap().into_iter().map(|worker| worker.name).collect()
}

fn with_workers(client: &Client, n: usize) -> bool {
    if client.mode() != Mode::Processes {
        return false;
    }
    client.scale(n).unwrap();
    client.wait_for_workers(n, LONG).unwrap();
    true
}

pub fn a_retired_worker_is_gone_and_nothing_runs_twice(client: &Client) {
    if !with_workers(client, 3) {
        assert!(matches!(client.retire(&["worker-0"]), Err(Error::Unsupported { operation: "retire", .. })));
        return;
    }
    let dir = directory();
    let (made, runs) = (path(&dir, "made"), path(&dir, "runs"));
    fn make(file: String, x: i64) -> Vec<i64> {
        note(&file, x);
        vec![x; 100_000]
    }
    let kept: Vec<_> = (0..6).map(|x| delayed(make).call(&*made, x)).collect();
    let kept = client.submit_all(&kept).unwrap();
    client.wait_timeout(&kept, WaitFor::All, LONG).unwrap();
    let futures: Vec<_> = (0..9).map(|x| delayed(counted).call(&*runs, x)).collect();
    let futures = client.submit_all(&futures).unwrap();
    until("some run", || notes(&runs).len() >= 2);
    let before = client.workers().unwrap();
    client.retire(&["worker-1"]).unwrap();
    assert_eq!(names(client), ["worker-0", "worker-2"], "it is gone when it has returned");
    assert_eq!(client.gather(&futures).unwrap(), (0..9).collect::<Vec<_>>());
    let sums: Vec<_> = kept.iter().map(|f| delayed(|v: Vec<i64>| v.len()).call(f)).collect();
    assert_eq!(client.compute(&sums).unwrap(), [100_000; 6]);
    assert_eq!((notes(&made).len(), notes(&runs).len()), (6, 9), "nothing has run twice");
    assert!(!pids(client).contains(&before[1].pid));
    assert!(client.deaths().unwrap().is_empty(), "{:?}", client.deaths());

    let error = client.retire(&["worker-0", "worker-1"]).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("worker-0, worker-2"), "{error}");
    let error = client.retire(&["worker-0", "worker-2"]).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("has to stay"), "{error}");
    client.retire(&[] as &[&str]).unwrap();
    client.scale(3).unwrap();
    client.wait_for_workers(3, LONG).unwrap();
    assert_eq!(names(client), ["worker-0", "worker-1", "worker-2"], "a name that is free is used again");
}

pub fn a_worker_is_replaced_in_order(client: &Client) {
    if !with_workers(client, 2) {
        let error = client.restart_worker("worker-0", LONG).unwrap_err();
        assert!(matches!(error, Error::Unsupported { operation: "restart_worker", .. }), "{error}");
        return;
    }
    let dir = directory();
    let runs = path(&dir, "runs");
    let futures: Vec<_> = (0..6).map(|x| delayed(counted).call(&*runs, x)).collect();
    let futures = client.submit_all(&futures).unwrap();
    until("some run", || !notes(&runs).is_empty());
    let before = pids(client);
    for name in ["worker-0", "worker-1"] {
        client.restart_worker(name, LONG).unwrap();
    }
    let now = client.workers().unwrap();
    assert!(now.len() == 2 && now.iter().all(|worker| !before.contains(&worker.pid)), "{now:?}");
    assert_eq!(client.gather(&futures).unwrap(), (0..6).collect::<Vec<_>>());
    assert_eq!(notes(&runs).len(), 6, "nothing has run twice");
    assert!(client.deaths().unwrap().is_empty(), "{:?}", client.deaths());
    let error = client.restart_worker("worker-7", LONG).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("worker-0, worker-1"), "{error}");
}

pub fn what_does_not_end_in_time_is_restarted_and_blamed_on_nobody(client: &Client) {
    if !with_workers(client, 2) {
        return;
    }
    let dir = directory();
    let (runs, gate) = (path(&dir, "runs"), path(&dir, "gate"));
    let future = client.submit(&delayed(noted_gate).call(&*runs, &*gate, 7)).unwrap();
    // More often than a task may end its worker.
    for round in 1..6 {
        until("it runs", || notes(&runs).len() == round);
        match round {
            5 => client.restart().unwrap(),
            _ => {
                let workers = client.workers().unwrap();
                let busy = workers.iter().find(|worker| worker.tasks > 0).unwrap();
                client.restart_worker(&busy.name, Duration::from_millis(30)).unwrap();
                assert!(!pids(client).contains(&busy.pid));
            }
        }
    }
    until("it runs again", || notes(&runs).len() == 6);
    touch(&gate);
    assert_eq!(future.result().unwrap(), 7);
    assert!(client.deaths().unwrap().is_empty(), "{:?}", client.deaths());
}

pub fn the_number_of_workers_follows_the_load(client: &Client) {
    let options = AdaptOptions { interval: Duration::from_millis(20), wait: 2, target: Duration::from_millis(50) };
    if !with_workers(client, 1) {
        assert!(matches!(client.adapt(1..=3, options), Err(Error::Unsupported { operation: "adapt", .. })));
        return;
    }
    let dir = directory();
    let (runs, gate) = (path(&dir, "runs"), path(&dir, "gate"));
    let adaptive = client.adapt(1..=3, options).unwrap();
    let futures: Vec<_> = (0..12).map(|x| delayed(noted_gate).call(&*runs, &*gate, x)).collect();
    let futures = client.submit_all(&futures).unwrap();
    until("there are more workers", || client.workers().unwrap().len() == 3);
    touch(&gate);
    assert_eq!(client.gather(&futures).unwrap(), (0..12).collect::<Vec<_>>());
    until("there are few again", || client.workers().unwrap().len() == 1);
    assert_eq!(client.gather(&futures).unwrap(), (0..12).collect::<Vec<_>>());
    assert_eq!(notes(&runs).len(), 12, "nothing has run twice");
    assert!(client.deaths().unwrap().is_empty(), "{:?}", client.deaths());
    // The later one counts, and the end of the earlier one ends nothing.
    let later = client.adapt(2..=2, options).unwrap();
    until("two are the fewest now", || client.workers().unwrap().len() == 2);
    drop(adaptive);
    client.scale(3).unwrap();
    until("it still adapts", || client.workers().unwrap().len() == 2);
    later.stop().unwrap();
    client.scale(3).unwrap();
    client.wait_for_workers(3, LONG).unwrap();
    let began = Instant::now();
    while began.elapsed() < 5 * options.interval {
        assert_eq!(client.workers().unwrap().len(), 3, "nobody adapts any more");
        std::thread::sleep(options.interval);
    }
    for range in [0..=3, RangeInclusive::new(3, 2), 1..=5000] {
        assert!(matches!(client.adapt(range, options), Err(Error::Invalid { .. })));
    }
    let hasty = AdaptOptions { interval: Duration::ZERO, ..options };
    assert!(matches!(client.adapt(1..=2, hasty), Err(Error::Invalid { .. })));
}

/// What became of a command that a task gave, as text.
fn told(done: swath::Result<()>) -> String {
    match done {
        Ok(()) => "done".to_string(),
        Err(Error::Deadlock { reason }) => format!("deadlock: {reason}"),
        Err(other) => other.to_string(),
    }
}

/// Ends a worker once all of these tasks run.
fn ends(how: String, worker: String, file: String, tasks: usize) -> String {
    let client = current_client().unwrap();
    note(&file, &worker);
    until("all run", || notes(&file).len() >= tasks);
    told(match how.as_str() {
        "retire" => client.retire(&[worker]),
        "restart" => client.restart_worker(&worker, Duration::from_secs(3600)),
        _ => block_on(client.retire_async(&[worker])),
    })
}

pub fn tasks_that_end_each_others_workers_are_told(client: &Client) {
    if client.mode() != Mode::Processes {
        return;
    }
    // Circles of two and of three, and of one: a task that ends its own worker.
    for (round, (how, tasks)) in
        [("retire", 2), ("restart", 2), ("async", 2), ("retire", 3), ("restart", 3), ("retire", 1)]
            .into_iter()
            .enumerate()
    {
        with_workers(client, 5);
        let dir = directory();
        let file = path(&dir, "ready");
        let worker = |n: usize| format!("worker-{}", n % tasks);
        let futures: Vec<_> =
            (0..tasks).map(|n| delayed(ends).on_worker(worker(n)).call(how, worker(n + 1), &*file, tasks)).collect();
        let futures = client.submit_all(&futures).unwrap();
        client.wait_timeout(&futures, WaitFor::All, LONG).unwrap();
        let told = client.gather(&futures).unwrap();
        let deadlocks: Vec<_> = told.iter().filter(|text| text.starts_with("deadlock")).collect();
        assert_eq!(deadlocks.len(), 1, "round {round}: the last one is told, the others go on: {told:?}");
        assert_eq!(told.iter().filter(|text| *text == "done").count(), tasks - 1, "round {round}: {told:?}");
        for part in ["on worker-", "the end of worker-", "this task", "Let the program ask"] {
            assert!(deadlocks[0].contains(part), "{part} is missing in {}", deadlocks[0]);
        }
        assert!(client.deaths().unwrap().is_empty(), "{:?}", client.deaths());
    }
}

pub fn a_task_that_would_end_the_worker_of_who_waits_for_it_is_told(client: &Client) {
    fn asks_another(how: String, file: String) -> String {
        let client = current_client().unwrap();
        let own = current_task().unwrap().worker;
        client.compute(&delayed(ends).on_worker("worker-1").call(how, own, file, 1)).unwrap()
    }
    for how in ["retire", "restart", "async"] {
        if !with_workers(client, 3) {
            return;
        }
        let dir = directory();
        let asks = delayed(asks_another).on_worker("worker-0").call(how, path(&dir, "ready"));
        let told = client.submit(&asks).unwrap().result_timeout(LONG).unwrap();
        assert!(
            told.starts_with("deadlock") && told.contains("which waits for this task on worker-1"),
            "{how}: {told}"
        );
    }
}

pub fn a_task_that_would_restart_all_workers_is_told(client: &Client) {
    fn restarts(file: String) -> String {
        note(&file, "restarts");
        current_client().unwrap().restart().unwrap_err().to_string()
    }
    if !with_workers(client, 2) {
        return;
    }
    let dir = directory();
    let file = path(&dir, "runs");
    let told = client.submit(&delayed(restarts).call(&*file)).unwrap().result_timeout(LONG).unwrap();
    assert!(told.contains("restart the other workers by name"), "{told}");
    assert_eq!(notes(&file).len(), 1);
}

pub fn a_task_that_ends_a_worker_makes_room_for_what_is_awaited_there(client: &Client) {
    fn waits_for_others(file: String) -> Vec<i64> {
        note(&file, "waits");
        until("the other one runs", || notes(&file).len() == 2);
        let others: Vec<_> = (0..3).map(|x| delayed(slow).call(x)).collect();
        current_client().unwrap().compute(&others).unwrap()
    }
    fn slow(x: i64) -> i64 {
        std::thread::sleep(Duration::from_millis(100));
        x
    }
    if !with_workers(client, 2) {
        return;
    }
    let dir = directory();
    let file = path(&dir, "ready");
    let waits = client.submit(&delayed(waits_for_others).on_worker("worker-1").call(&*file)).unwrap();
    let ends = client.submit(&delayed(ends).on_worker("worker-0").call("retire", "worker-1", &*file, 2)).unwrap();
    assert_eq!(waits.result_timeout(LONG).unwrap(), [0, 1, 2]);
    assert_eq!(ends.result_timeout(LONG).unwrap(), "done");
    assert_eq!(names(client), ["worker-0"]);
}

pub fn who_retires_workers_waits_no_longer_than_told(client: &Client) {
    const SHORT: Duration = Duration::from_millis(100);
    if !with_workers(client, 2) {
        let error = client.retire_timeout(&["worker-0"], SHORT).unwrap_err();
        assert!(matches!(error, Error::Unsupported { operation: "retire", .. }), "{error}");
        return;
    }
    let dir = directory();
    let (runs, gate) = (path(&dir, "runs"), path(&dir, "gate"));
    let future = client.submit(&delayed(noted_gate).on_worker("worker-1").call(&*runs, &*gate, 7)).unwrap();
    until("it runs", || notes(&runs).len() == 1);
    let late =
        [client.retire_timeout(&["worker-1"], SHORT), block_on(client.retire_timeout_async(&["worker-1"], SHORT))];
    assert!(matches!(late[0], Err(Error::Timeout { waited: SHORT })), "{late:?}");
    assert!(matches!(&late[1], Err(Error::Invalid { .. })), "it retires already: {late:?}");
    touch(&gate);
    until("it is gone", || names(client) == ["worker-0"]);
    assert_eq!(future.result().unwrap(), 7);
    assert_eq!(notes(&runs).len(), 1, "nothing has run twice");
    client.scale(2).unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    client.retire_timeout(&["worker-1"], LONG).unwrap();
}
