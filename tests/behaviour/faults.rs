//! Each kind of fault, on each way to a result: the same error with the same text as in sync mode, but for the worker's name.

use super::same::told;
use crate::common::{LONG, block_on, comes_true, directory, is_sync, path, touch, until};
use std::time::Duration;
use swath::client::{ComputeOptions, Failing, WaitFor};
use swath::delayed::value;
use swath::error::Cause;
use swath::status::Mode;
use swath::{Bag, Client, Delayed, Error, delayed, try_delayed};

/// The ways on which the failure of a task is met, by name. `lazy` fails.
fn ways(client: &Client, lazy: &Delayed<i64>) -> Vec<(&'static str, Error)> {
    let needs = lazy + 1;
    let last = needs.clone() * 2;
    let future = client.submit(lazy).unwrap();
    client.wait_timeout(std::slice::from_ref(&future), WaitFor::All, LONG).unwrap();
    let later = client.submit(&(future.delayed() + 1)).unwrap();
    let kept = lazy.persist(client).unwrap();
    let all = client.persist(&vec![value(1), lazy.clone()]).unwrap();
    let fast = ComputeOptions { failing: Failing::Fast, ..Default::default() };
    let as_done = client.as_completed(vec![future.clone()]).next().unwrap();
    vec![
        ("compute", client.compute(lazy).unwrap_err()),
        ("compute_async", block_on(client.compute_async(lazy)).unwrap_err()),
        ("compute_timeout", client.compute_timeout(lazy, LONG).unwrap_err()),
        ("compute of several", client.compute((&value(1), lazy, &needs)).unwrap_err()),
        ("fast", client.compute_with((&needs, lazy), fast).unwrap_err()),
        ("dependent", client.compute(&needs).unwrap_err()),
        ("dependent of that", client.compute(&last).unwrap_err()),
        ("list", client.compute(&delayed(|xs: Vec<i64>| xs.len()).call(vec![value(1), lazy.clone()])).unwrap_err()),
        ("result", future.result().unwrap_err()),
        ("await", block_on(async { (&future).await }).unwrap_err()),
        ("gather", client.gather(&[client.submit(&value(1)).unwrap(), future.clone()]).unwrap_err()),
        ("as_completed", as_done.result().unwrap_err()),
        ("of a failed future", later.result().unwrap_err()),
        ("of a failed future, computed", client.compute(&(future.delayed() + 1)).unwrap_err()),
        ("persisted", kept.compute(client).unwrap_err()),
        ("of a persisted one", client.compute(&(&kept + 1)).unwrap_err()),
        ("of a persisted list", client.compute(&all).unwrap_err()),
        ("retried", {
            client.retry(&future).unwrap();
            future.result().unwrap_err()
        }),
    ]
}

/// What is told, where the keys of calls that the ways make themselves are as different as they should be.
fn told_plainly(error: &Error, lazy: &Delayed<i64>) -> String {
    let text = told(error);
    match error.task() {
        Some(task) => {
            assert!(task.key() == lazy.key() && task.key().starts_with(task.name()), "{text}");
            let by = task.needed_by().map(|by| by.rsplit_once('-').map_or(by, |(name, _)| name).to_string());
            text.replace(task.needed_by().unwrap_or("none"), by.as_deref().unwrap_or("none"))
        }
        None => text,
    }
}

fn compare(client: &Client, lazy: &Delayed<i64>, ends: &str) {
    let wanted = ways(&Client::sync(), lazy);
    for ((way, got), (_, wanted)) in ways(client, lazy).iter().zip(&wanted) {
        let (got, wanted) = (told_plainly(got, lazy), told_plainly(wanted, lazy));
        assert_eq!(got, wanted, "{way} in {client}");
        assert!(got.contains(ends), "{way} in {client}: {got}");
    }
}

/// The same of a bag, in which `element` fails.
fn compare_bags(client: &Client, bag: &Bag<i64>, ends: &str) {
    let outcomes = |client: &Client| {
        let total = bag.fold(0_i64, |a: i64, b: i64| a + b, |a: i64, b: i64| a + b);
        let kept = client.persist(bag).unwrap();
        vec![
            told(&client.compute(bag).unwrap_err()),
            told(&client.compute(&bag.count()).unwrap_err()),
            told(&client.compute(&total).unwrap_err()),
            told(&client.compute(&bag.frequencies()).unwrap_err()),
            told(&client.compute(&kept).unwrap_err()),
            told(&client.compute(&kept.count()).unwrap_err()),
        ]
    };
    for (got, wanted) in outcomes(client).iter().zip(outcomes(&Client::sync())) {
        assert_eq!(*got, wanted, "{client}");
        assert!(got.contains(ends), "{client}: {got}");
    }
}

pub fn failed(client: &Client) {
    compare(client, &try_delayed(|x: i64| -> Result<i64, String> { Err(format!("{x} is odd")) }).call(7), "7 is odd");
    let bag =
        Bag::from_sequence(0..20_i64, 4).try_map(|x: i64| if x == 13 { Err("unlucky".to_string()) } else { Ok(x) });
    compare_bags(client, &bag, "unlucky");
}

pub fn a_missing_file(client: &Client) {
    let dir = directory();
    let file = path(&dir, "not there");
    let lines = |file: String| -> Result<i64, String> {
        let text = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
        Ok(text.lines().count() as i64)
    };
    compare(client, &try_delayed(lines).call(&*file), "No such file");
    // It was there when the bag was made.
    touch(&file);
    std::fs::write(&file, "1\n2\n").unwrap();
    let bag = Bag::read_text(&*file).unwrap().map(|line: String| line.len() as i64);
    std::fs::remove_file(&file).unwrap();
    compare_bags(client, &bag, "not there");
}

pub fn panics(client: &Client) {
    compare(client, &delayed(|x: i64| -> i64 { panic!("cannot do {x}") }).call(3), "cannot do 3");
    compare_bags(client, &Bag::from_sequence(0..20_i64, 4).map(|x: i64| 10 / (x - 13)), "divide by zero");
}

pub fn timed_out(client: &Client) {
    let slow = delayed(|ms: u64| {
        std::thread::sleep(Duration::from_millis(ms));
        1_i64
    });
    compare(client, &slow.timeout(Duration::from_millis(10)).call(15), "took longer than its timeout of 10ms");
    let bag = Bag::from_sequence(0..4_i64, 4).map(|x: i64| {
        std::thread::sleep(Duration::from_millis(if x == 2 { 30 } else { 0 }));
        x
    });
    compare_bags(client, &bag.timeout(Duration::from_millis(20)), "took longer than its timeout of 20ms");
}

pub fn cancelled(client: &Client) {
    if is_sync(client) {
        // What has been submitted has run.
        return;
    }
    let lazy = delayed(|| i64::from(comes_true(LONG, swath::cancelled))).name("waits").call();
    let future = client.submit(&lazy).unwrap();
    let (needs, last) = (future.delayed() + 1, (future.delayed() + 1) * 2);
    let (later, latest) = (client.submit(&needs).unwrap(), client.submit(&last).unwrap());
    client.cancel(&future);
    let plain = format!("task {} was cancelled", lazy.key());
    let by = |what: &Delayed<i64>| format!("{plain} (needed by {})", what.key());
    assert_eq!(future.result().unwrap_err().to_string(), plain);
    assert_eq!(later.result().unwrap_err().to_string(), by(&needs));
    assert_eq!(latest.result().unwrap_err().to_string(), by(&last));
    let after = future.delayed() - 1;
    for error in [client.compute(&after).unwrap_err(), client.persist(&after).unwrap().compute(client).unwrap_err()] {
        assert_eq!(error.to_string(), by(&after));
    }
    assert_eq!(client.compute(&future).unwrap_err().to_string(), plain);
    assert!(block_on(async { (&future).await }).unwrap_err().is_cancelled());
    let bag = Bag::from_delayed([delayed(|| vec![i64::from(comes_true(LONG, swath::cancelled))]).call()]);
    assert!(matches!(client.compute_timeout(&bag, Duration::from_millis(1)).unwrap_err(), Error::Timeout { .. }));
}

pub fn died(client: &Client) {
    if client.mode() != Mode::Processes {
        return;
    }
    let lazy = delayed(|code: i32| -> i64 { std::process::exit(code) }).call(3);
    let future = client.submit(&lazy).unwrap();
    let needs = &lazy + 1;
    let kept = lazy.persist(client).unwrap();
    let bag = Bag::from_sequence(0..2_i64, 2).map(|x: i64| if x == 1 { std::process::exit(3) } else { x });
    let all = [
        client.compute(&lazy).unwrap_err(),
        future.result().unwrap_err(),
        kept.compute(client).unwrap_err(),
        client.compute(&needs).unwrap_err(),
        client.compute(&(future.delayed() + 1)).unwrap_err(),
        client.compute(&bag).unwrap_err(),
    ];
    for error in all {
        let task = error.task().unwrap_or_else(|| panic!("{error}"));
        let Cause::WorkerDied(records) = task.cause() else { panic!("{error}") };
        assert_eq!(records.len(), 3, "{error}");
        assert!(error.to_string().contains("lost its worker 3 time(s); "), "{error}");
    }
    until("the workers are there again", || client.wait_for_workers(1, LONG).is_ok());
}

/// What is shut down tells alike, wherever its tasks run.
pub fn shut_down(client: &Client) {
    let closed = "the client is closed: it was shut down";
    let wait = delayed(|stop: bool| i64::from(!stop && comes_true(LONG, swath::cancelled)));
    let lazy = wait.call(is_sync(client));
    let future = client.submit(&lazy).unwrap();
    let later = client.submit(&(future.delayed() + 1)).unwrap();
    let kept = lazy.persist(client).unwrap();
    client.shutdown();
    if !is_sync(client) {
        for (future, lazy) in [(&future, lazy.key()), (&later, later.key())] {
            let error = future.result().unwrap_err();
            assert!(matches!(error.task().unwrap().cause(), Cause::Closed { .. }), "{error}");
            assert_eq!(error.to_string(), format!("task {lazy} has no result: it was shut down"));
        }
    }
    let errors = [
        client.compute(&value(1)).unwrap_err(),
        block_on(client.compute_async(&value(1))).unwrap_err(),
        client.submit(&value(1)).map(drop).unwrap_err(),
        client.persist(&value(1)).map(drop).unwrap_err(),
        client.compute(&(&kept + 1)).unwrap_err(),
        client.scatter(1).map(drop).unwrap_err(),
        client.map(|x: i64| x, [1, 2]).map(drop).unwrap_err(),
        client.compute(&Bag::from_sequence(0..3_i64, 1)).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.to_string(), closed);
    }
}
