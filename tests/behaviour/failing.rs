//! Computing that ends with the first failure.

use crate::common::{Clean, LONG, block_on, comes_true, directory, note, notes, path, processes, until};
use std::time::Duration;
use swath::client::{ComputeOptions, Failing};
use swath::error::Cause;
use swath::status::Mode;
use swath::{Client, Delayed, Error, delayed, try_delayed};

fn fast() -> ComputeOptions {
    ComputeOptions { failing: Failing::Fast, ..Default::default() }
}

fn half(x: i64) -> Result<i64, String> {
    if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) }
}

/// Runs until it is told to stop, and notes that.
fn endless(file: String) -> i64 {
    if comes_true(2 * LONG, swath::cancelled) {
        note(&file, "told to stop");
    }
    1
}

fn said(error: &Error) -> String {
    error.task().unwrap_or_else(|| panic!("{error}")).downcast::<String>().unwrap_or_else(|| panic!("{error}"))
}

/// The odd one fails at once; others would go on for ever. In sync mode they must not begin.
fn hopeless(file: &str) -> (Delayed<i64>, Delayed<i64>) {
    (try_delayed(half).call(7), delayed(endless).call(file))
}

pub fn the_first_failure_is_told_at_once_and_cancels_the_rest(client: &Client) {
    let dir = directory();
    let file = path(&dir, "stopped");
    let (bad, long) = hopeless(&file);
    assert_eq!(said(&client.compute_with((&bad, &long), fast()).unwrap_err()), "7 is odd");
    // Where others are needed for the same result, too.
    let (bad, long) = hopeless(&file);
    let error = client.compute_with(&(&bad + &long), fast()).unwrap_err();
    assert_eq!((said(&error), error.task().unwrap().key()), ("7 is odd".to_string(), &*bad.key()));
    let (bad, long) = hopeless(&file);
    let error = block_on(client.compute_with_async(&vec![bad, long], fast())).unwrap_err();
    assert_eq!(said(&error), "7 is odd");
    // What ran was told to stop, and leaves its place to others.
    assert_eq!(try_delayed(half).call(4).compute(client).unwrap(), 2);
    if client.mode() == Mode::Sync {
        assert!(notes(&file).is_empty());
    }
}

pub fn what_runs_is_told_that_nobody_waits_for_it(client: &Client) {
    if client.workers().unwrap().iter().map(|worker| worker.threads).sum::<usize>() < 2 {
        // Only one task runs at a time.
        return;
    }
    let dir = directory();
    let (file, began) = (path(&dir, "stopped"), path(&dir, "began"));
    let long = delayed(|began: String, file: String| {
        note(&began, "");
        endless(file)
    });
    let bad = try_delayed(|began: String| {
        comes_true(LONG, || !notes(&began).is_empty());
        half(7)
    });
    let (long, bad) = (long.call(&*began, &*file), bad.call(&*began));
    assert_eq!(said(&client.compute_with((&long, &bad), fast()).unwrap_err()), "7 is odd");
    until("the other task is told to stop", || !notes(&file).is_empty());
}

pub fn the_first_failure_names_the_first_that_needs_it(client: &Client) {
    let bad = try_delayed(half).name("odd").call(7);
    let (a, b, c) = (&bad + 1, &bad * 2, delayed(|x: i64| x).call(5));
    let (d, e) = (&a + &c, &b + &c);
    for _ in 0..5 {
        let error = client.compute_with((&c, &d, &e, &bad), fast()).unwrap_err();
        let task = error.task().unwrap();
        assert_eq!((task.key(), task.needed_by()), (&*bad.key(), Some(&*d.key())), "{error}");
    }
    // An input that is under way already, and fails later.
    let slow = try_delayed(|x: i64| {
        std::thread::sleep(Duration::from_millis(30));
        half(x)
    });
    let future = client.submit(&slow.call(9)).unwrap();
    let error = client.compute_with((&(future.delayed() + 1), &c), fast()).unwrap_err();
    assert_eq!((said(&error), error.task().unwrap().key()), ("9 is odd".to_string(), &*future.key()));
}

pub fn what_does_not_fail_is_computed_as_ever(client: &Client) {
    let dir = directory();
    let parts: Vec<_> = (0..50).map(|i| try_delayed(half).call(2 * i)).collect();
    assert_eq!(client.compute_with(&parts, fast()).unwrap(), (0..50).collect::<Vec<_>>());
    let total: Delayed<i64> = parts.iter().sum();
    assert_eq!(client.compute_with((&total, &parts[7]), fast()).unwrap(), (1225, 7));
    // An attempt that is repeated is no failure.
    let again = try_delayed(|file: String| {
        note(&file, "run");
        if notes(&file).len() < 3 { Err("not yet".to_string()) } else { Ok(3) }
    });
    let again = again.retries(2).call(path(&dir, "runs"));
    assert_eq!(client.compute_with((&again, &total), fast()).unwrap(), (3, 1225));
    // Without the option all of the graph ends.
    let good: Vec<_> = (0..10).map(|i| delayed(|f: String, i: i64| note(&f, i)).call(path(&dir, "all"), i)).collect();
    let wait = ComputeOptions { failing: Failing::Wait, ..Default::default() };
    for options in [wait, ComputeOptions::default()] {
        client.compute_with((&try_delayed(half).call(1), &good), options).unwrap_err();
    }
    assert_eq!(notes(&path(&dir, "all")).len(), 20);
}

/// What is shared with others goes on.
pub fn what_others_hold_is_not_cancelled(client: &Client) {
    let kept = client
        .submit(
            &delayed(|x: i64| {
                std::thread::sleep(Duration::from_millis(50));
                x
            })
            .call(8),
        )
        .unwrap();
    let bad = try_delayed(half).call(7);
    assert_eq!(said(&client.compute_with((&bad, &(kept.delayed() + 1)), fast()).unwrap_err()), "7 is odd");
    assert_eq!(kept.result().unwrap(), 8);
    assert_eq!((kept.delayed() + 1).compute(client).unwrap(), 9);
}

#[test]
fn clients_that_are_built_to_fail_fast() {
    let _clean = Clean::start();
    let dir = directory();
    let build = |mode: Mode| Client::builder().mode(mode).workers(2).threads(1).fail_fast(true).build().unwrap();
    for client in [build(Mode::Sync), build(Mode::Threads), build(Mode::Processes)] {
        let both = || hopeless(&path(&dir, "stopped"));
        let errors = [
            client.compute(both()).unwrap_err(),
            client.compute_timeout(both(), LONG).unwrap_err(),
            block_on(client.compute_async(both())).unwrap_err(),
            block_on(client.compute_timeout_async(both(), LONG)).unwrap_err(),
        ];
        assert!(errors.iter().all(|error| said(error) == "7 is odd"), "{client}");
        // It can be said otherwise for one call.
        let file = path(&dir, &format!("all of {}", client.mode()));
        let good: Vec<_> = (0..10).map(|i| delayed(|f: String, i: i64| note(&f, i)).call(&*file, i)).collect();
        let wait = ComputeOptions { failing: Failing::Wait, ..Default::default() };
        client.compute_with((&try_delayed(half).call(1), &good), wait).unwrap_err();
        assert_eq!(notes(&file).len(), 10, "{client}");
        // What is submitted runs to its end.
        let futures = client.submit_all(&[try_delayed(half).call(1), try_delayed(half).call(2)]).unwrap();
        assert!(matches!(futures[0].result().unwrap_err().task().unwrap().cause(), Cause::Returned(_)));
        assert_eq!(futures[1].result().unwrap(), 1);
    }
}

/// A bag is computed in the same way.
#[test]
fn a_bag_ends_with_its_first_failure() {
    let _clean = Clean::start();
    let bag = swath::Bag::from_sequence(0..40_i64, 20).map(|x: i64| {
        // The others would take a minute.
        if x > 1 {
            comes_true(3 * LONG, swath::cancelled);
        }
        10 / x
    });
    for client in [Client::sync(), Client::threads(2), processes(2, 1)] {
        let error = client.compute_with(&bag, fast()).unwrap_err();
        assert!(error.to_string().contains("divide by zero"), "{client}: {error}");
    }
}
