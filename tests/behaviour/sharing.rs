//! What runs once, what is named how.

use crate::common::{directory, is_sync, note, notes, path, touch};
use std::time::Duration;
use swath::delayed::value;
use swath::{Client, Delayed, delayed, try_delayed};

/// Leaves a line for each run.
fn counted(file: String, x: i64) -> i64 {
    note(&file, x);
    x
}

fn total(xs: Vec<i64>) -> i64 {
    xs.iter().sum()
}

/// The compiler may keep constants of different modules apart.
mod elsewhere {
    use swath::{Delayed, delayed};

    pub fn called(file: &str, x: i64) -> Delayed<i64> {
        delayed(super::counted).pure().call(file, x)
    }

    pub fn listed(file: &str) -> Delayed<i64> {
        delayed(super::total).pure().call(vec![called(file, 1), called(file, 2)])
    }
}

pub fn shared_parts_run_once(client: &Client) {
    let dir = directory();
    let file = path(&dir, "runs");
    let x = delayed(counted).call(&*file, 5);
    let (a, b) = (&x + 1, &x * 2);
    let many: Vec<_> = (0..50).map(|i| &x + i).collect();
    let total: Delayed<i64> = many.iter().sum();
    let (a, b, c, d, e) = client.compute((&a, &b, &x, &x, &total)).unwrap();
    assert_eq!((a, b, c, d, e), (6, 10, 5, 5, 50 * 5 + 49 * 25));
    assert_eq!(notes(&file), ["5"]);
    // Not needed, not run.
    let unused = delayed(counted).call(&*file, 6);
    assert_eq!((&x + 0).compute(client).unwrap(), 5);
    drop(unused);
    assert_eq!(notes(&file), ["5", "5"]);
}

pub fn pure_calls_run_once(client: &Client) {
    let dir = directory();
    let file = path(&dir, "runs");
    let pure = delayed(counted).pure();
    let xs: Vec<_> = (0..30).map(|i| pure.call(&*file, i % 3)).collect();
    assert_eq!(client.compute(&xs).unwrap(), (0..30).map(|i| i % 3).collect::<Vec<_>>());
    let mut runs = notes(&file);
    runs.sort();
    assert_eq!(runs, ["0", "1", "2"]);
    // Wherever they are described.
    assert_eq!(elsewhere::called(&file, 1).key(), xs[1].key());
    let listed = delayed(total).pure().call(vec![pure.call(&*file, 1), pure.call(&*file, 2)]);
    assert_eq!(elsewhere::listed(&file).key(), listed.key());
    // Through what they need, too.
    let other = path(&dir, "other");
    let y = |i: i64| delayed(counted).pure().call(&*other, delayed(|x: i64| x).pure().call(i));
    assert_eq!(client.compute((&y(1), &y(1), &y(2))).unwrap(), (1, 1, 2));
    assert_eq!(notes(&other).len(), 2);
    // A value that is passed as a delayed one is the same argument.
    let given = path(&dir, "given");
    let z = |i: i64| delayed(counted).pure().call(&*given, value(i));
    assert_eq!(z(1).key(), delayed(counted).pure().call(&*given, 1).key());
    assert_eq!(client.compute((&z(1), &z(1), &delayed(counted).pure().call(&*given, 1))).unwrap(), (1, 1, 1));
    let listed = |one: Delayed<i64>| delayed(total).pure().call(vec![one, z(2)]);
    assert_eq!(listed(value(7)).key(), listed(value(7)).key());
    assert_eq!(client.compute((&listed(value(7)), &listed(value(7)))).unwrap(), (9, 9));
    assert_eq!(notes(&given), ["1", "2"]);
    // Calls that are not pure are each their own.
    let third = path(&dir, "third");
    let zs: Vec<_> = (0..3).map(|_| delayed(counted).call(&*third, 1)).collect();
    client.compute(&zs).unwrap();
    assert_eq!(notes(&third).len(), 3);
}

pub fn pure_results_that_are_held_are_used(client: &Client) {
    let dir = directory();
    let file = path(&dir, "runs");
    let call = |x| delayed(counted).pure().call(&*file, x);
    let held = client.submit(&call(1)).unwrap();
    assert_eq!(held.result().unwrap(), 1);
    assert_eq!(call(1).compute(client).unwrap(), 1);
    assert_eq!((call(1) + 10).compute(client).unwrap(), 11);
    assert_eq!(client.compute((&call(1), &call(1))).unwrap(), (1, 1));
    let second = client.submit(&call(1)).unwrap();
    assert_eq!(second.result().unwrap(), 1);
    assert_eq!(notes(&file).len(), 1);
    drop(held);
    assert_eq!(call(1).compute(client).unwrap(), 1);
    assert_eq!(notes(&file).len(), 1);
    drop(second);
    assert_eq!(call(1).compute(client).unwrap(), 1);
    assert_eq!(notes(&file).len(), 2);
}

pub fn persisted_tasks_do_not_run_again(client: &Client) {
    let dir = directory();
    let file = path(&dir, "runs");
    let x = delayed(counted).call(&*file, 5).persist(client).unwrap();
    for i in 0..5 {
        assert_eq!((&x + i).compute(client).unwrap(), 5 + i);
    }
    assert_eq!(x.compute(client).unwrap(), 5);
    assert_eq!(notes(&file).len(), 1);
}

pub fn moved_and_cloned_values(client: &Client) {
    // Each consumer owns what it gets; what one does to it no other sees.
    let list = delayed(|n: i64| (0..n).collect::<Vec<i64>>()).call(1000);
    let push = delayed(|mut v: Vec<i64>, x: i64| {
        v.push(x);
        v.iter().sum::<i64>()
    });
    let all: Vec<_> = (0..10).map(|i| push.call(&list, i)).collect();
    assert_eq!(client.compute(&all).unwrap(), (0..10).map(|i| 499_500 + i).collect::<Vec<_>>());
    let both = delayed(|mut a: Vec<i64>, b: Vec<i64>| {
        a.clear();
        (a.len(), b.len())
    });
    assert_eq!(both.call(&list, &list).compute(client).unwrap(), (0, 1000));
    let kept = client.submit(&list).unwrap();
    assert_eq!(push.call(&kept, 1).compute(client).unwrap(), 499_501);
    assert_eq!(kept.result().unwrap().len(), 1000);
}

pub fn keys_and_names(client: &Client) {
    fn plus(a: i64, b: i64) -> i64 {
        a + b
    }
    let pure = delayed(plus).pure();
    let (a, b, c) = (pure.call(1, 2), pure.call(1, 2), pure.call(2, 1));
    assert_eq!(a.key(), b.key());
    assert_ne!(a.key(), c.key());
    assert!(a.key().starts_with("plus-"), "{}", a.key());
    assert_eq!(pure.call(&a, 1).key(), pure.call(&b, 1).key());
    assert_ne!(delayed(plus).call(1, 2).key(), delayed(plus).call(1, 2).key());
    let named = delayed(plus).name("total of").call(1, 2);
    assert!(named.key().starts_with("total of-"), "{}", named.key());
    assert_eq!(client.submit(&named).unwrap().key(), named.key());
    let closures = (delayed(|x: i64| x + 1).pure().call(1), delayed(|x: i64| x + 2).pure().call(1));
    assert_ne!(closures.0.key(), closures.1.key());
    assert_eq!(client.compute((&closures.0, &closures.1)).unwrap(), (2, 3));
}

/// The contents of a file, as soon as there is one.
fn contents(file: String) -> Result<String, String> {
    std::fs::read_to_string(&file).map_err(|e| e.to_string())
}

/// Waits for a file, or until nobody wants the result any more.
fn waits_for(file: String, x: i64) -> Result<i64, String> {
    while !swath::cancelled() {
        if std::path::Path::new(&file).exists() {
            return Ok(x);
        }
        std::thread::yield_now();
    }
    Err("it was not to wait any longer".to_string())
}

pub fn what_returned_an_error_answers_no_equal_call(client: &Client) {
    let dir = directory();
    let file = path(&dir, "late");
    let call = || try_delayed(contents).pure().call(&*file);
    let failed = client.submit(&call()).unwrap();
    assert!(failed.result().is_err());
    std::fs::write(&file, "here").unwrap();
    assert_eq!(call().compute(client).unwrap(), "here");
    assert_eq!(client.submit(&call()).unwrap().result().unwrap(), "here");
    let kept = call().persist(client).unwrap();
    assert_eq!(kept.compute(client).unwrap(), "here");
    assert_eq!(delayed(|text: String| text.len()).call(call()).compute(client).unwrap(), 4);
    // One handle's failure and another one's value, in one graph.
    let both = delayed(|a: String, b: String| a + &b);
    assert_eq!(both.call(&kept, call()).compute(client).unwrap(), "herehere");
    assert!(both.call(&failed, call()).compute(client).is_err());
    assert!(both.call(&kept, &failed).compute(client).is_err());
    // A failure stays that of its own handles, until they are told to try again.
    assert!(failed.result().is_err() && failed.clone().result().is_err());
    client.retry(&failed).unwrap();
    assert_eq!(failed.result().unwrap(), "here");
}

pub fn what_took_too_long_answers_no_equal_call(client: &Client) {
    let dir = directory();
    let file = path(&dir, "late");
    let wait = try_delayed(waits_for).pure();
    let late = client.submit(&wait.clone().timeout(Duration::from_millis(20)).call(&*file, 3)).unwrap();
    assert!(late.result().is_err());
    touch(&file);
    assert_eq!(wait.call(&*file, 3).compute(client).unwrap(), 3);
    assert!(late.result().is_err());
}

pub fn what_was_cancelled_answers_no_equal_call(client: &Client) {
    if is_sync(client) {
        return;
    }
    let dir = directory();
    let file = path(&dir, "late");
    let call = || try_delayed(waits_for).pure().call(&*file, 3);
    let cancelled = client.submit(&call()).unwrap();
    client.cancel(&cancelled);
    assert!(cancelled.result().unwrap_err().is_cancelled());
    touch(&file);
    assert_eq!(call().compute(client).unwrap(), 3);
    let bag = swath::Bag::from_delayed(vec![delayed(|x: i64| vec![x]).pure().call(call())]);
    assert_eq!(bag.compute(client).unwrap(), [3]);
    assert!(cancelled.result().unwrap_err().is_cancelled());
}

pub fn calls_with_other_options_are_not_equal(client: &Client) {
    let dir = directory();
    let file = path(&dir, "runs");
    let call = |retries| delayed(counted).pure().retries(retries).call(&*file, 1);
    assert_eq!(client.compute((&call(0), &call(2), &call(0), &call(2))).unwrap(), (1, 1, 1, 1));
    assert_eq!(notes(&file).len(), 2);
    // A result is one, whatever was said about how to get it.
    let held = client.submit(&call(3)).unwrap();
    assert_eq!(held.result().unwrap(), 1);
    assert_eq!(client.compute((&call(4), &call(5))).unwrap(), (1, 1));
    assert_eq!(notes(&file).len(), 3);
}
