//! Tasks that submit tasks and wait for them.

use crate::common::{LONG, block_on, directory, note, notes, path, pids, until, wait_for_file};
use std::future::Future as _;
use std::task::{Context, Waker};
use std::time::Duration;
use swath::client::WaitFor;
use swath::status::Mode;
use swath::{Client, Future, current_client, delayed, try_delayed};

fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let client = current_client().unwrap();
    let (a, b) = (delayed(fib).call(n - 1), delayed(fib).call(n - 2));
    (a + b).compute(&client).unwrap()
}

pub fn fibonacci(client: &Client) {
    assert_eq!(delayed(fib).call(9).compute(client).unwrap(), 34);
}

pub fn deep_waiting(client: &Client) {
    fn down(n: u64) -> u64 {
        match n {
            0 => 0,
            n => delayed(down).call(n - 1).compute(&current_client().unwrap()).unwrap() + 1,
        }
    }
    assert_eq!(delayed(down).call(60).compute(client).unwrap(), 60);
}

async fn inside(n: i64) -> i64 {
    fn square(x: i64) -> i64 {
        x * x
    }
    let client = current_client().unwrap();
    let one = client.compute_async(&delayed(square).call(n)).await.unwrap();
    let limited = client.compute_timeout_async(&delayed(square).call(n), LONG).await.unwrap();
    let futures = client.map_async(square, 0..n).await.unwrap();
    let gathered: i64 = client.gather_async(&futures).await.unwrap().iter().sum();
    let last = client.submit(&delayed(square).call(n)).unwrap().await.unwrap();
    let (mut completed, mut sum) = (client.as_completed(client.map(square, 0..n).unwrap()), 0);
    while let Some(future) = completed.next_async().await {
        sum += future.await.unwrap();
    }
    // What is no longer awaited gives nothing away.
    let mut left = Box::pin(client.compute_async(delayed(square).call(n)));
    drop(left.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    drop(left);
    one + limited + last + gathered - sum
}

/// Each worker's threads are all taken by tasks that await others.
pub fn waiting_in_async_code(client: &Client) {
    let wanted: Vec<i64> = (0..12).map(|n| 3 * n * n).collect();
    let outer = delayed(|n: i64| block_on(inside(n)));
    assert_eq!(client.compute(&outer.map(0..12)).unwrap(), wanted);
    let outer = delayed(|n: i64| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(inside(n))
    });
    assert_eq!(client.compute(&outer.map(0..12)).unwrap(), wanted);
    assert_eq!(delayed(fib).call(7).compute(client).unwrap(), 13, "all places are there again");
}

pub fn errors_of_inner_tasks(client: &Client) {
    fn outer(x: i64) -> Result<i64, String> {
        let inner = try_delayed(|x: i64| if x > 0 { Ok(x) } else { Err(format!("inner {x}")) }).call(x);
        match inner.compute(&current_client().unwrap()) {
            Ok(x) => Ok(x * 2),
            Err(e) => Err(format!("outer of {}", e.task().unwrap().downcast::<String>().unwrap())),
        }
    }
    assert_eq!(try_delayed(outer).call(4).compute(client).unwrap(), 8);
    let error = try_delayed(outer).call(-4).compute(client).unwrap_err();
    assert_eq!(error.task().unwrap().downcast::<String>().unwrap(), "outer of inner -4");
}

pub fn handles_inside_tasks(client: &Client) {
    fn outer(n: i64) -> i64 {
        let client = current_client().unwrap();
        let numbers = client.scatter((0..n).collect::<Vec<i64>>()).unwrap();
        let kept = client.persist(&delayed(|v: Vec<i64>| v.iter().sum::<i64>()).call(&numbers)).unwrap();
        let futures = client.map(|x: i64| x + 1, 0..n).unwrap();
        let more = client.map(|x: i64| x * 2, &futures).unwrap();
        let sum: i64 = client.as_completed(more).map(|f| f.result().unwrap()).sum();
        let again: i64 = client.gather(&futures).unwrap().iter().sum();
        sum + again + (&kept + 1).compute(&client).unwrap()
    }
    let n = 10;
    let wanted: i64 = (1..=n).map(|x| 2 * x).sum::<i64>() + (1..=n).sum::<i64>() + (0..n).sum::<i64>() + 1;
    assert_eq!(client.compute(&delayed(outer).map([10; 4])).unwrap(), [wanted; 4]);
}

pub fn context_is_restored(client: &Client) {
    fn outer() -> (String, String) {
        let client = current_client().unwrap();
        let before = swath::task::current_task().unwrap().key;
        let inner = delayed(|| swath::task::current_task().unwrap().key).call();
        let inner_key = inner.compute(&client).unwrap();
        assert_eq!(inner_key, inner.key());
        (before, swath::task::current_task().unwrap().key)
    }
    let lazy = delayed(outer).call();
    assert_eq!(lazy.compute(client).unwrap(), (lazy.key(), lazy.key()));
}

pub fn inner_tasks_of_many(client: &Client) {
    fn outer(n: i64) -> i64 {
        let client = current_client().unwrap();
        let futures: Vec<Future<i64>> = client.map(|x: i64| x * x, 0..n).unwrap();
        client.gather(&futures).unwrap().iter().sum()
    }
    let sums = client.compute(&delayed(outer).map(0..40_i64)).unwrap();
    assert_eq!(sums, (0..40).map(|n| (0..n).map(|x| x * x).sum()).collect::<Vec<i64>>());
}

pub fn wide_inner_graphs(client: &Client) {
    fn outer(n: u64) -> u64 {
        let client = current_client().unwrap();
        let parts = delayed(|x: u64| x % 7).map(0..n);
        delayed(|v: Vec<u64>| v.iter().sum::<u64>()).call(parts).compute(&client).unwrap()
    }
    let wanted: u64 = (0..2000).map(|x| x % 7).sum();
    assert_eq!(client.compute(&delayed(outer).map([2000_u64; 3])).unwrap(), [wanted; 3]);
}

/// The client of a task is not the task's to close.
pub fn shutting_down_inside_a_task(client: &Client) {
    fn shuts_down(x: i64) -> i64 {
        let inside = current_client().unwrap();
        inside.shutdown();
        crate::common::block_on(inside.shutdown_async());
        let twice = delayed(|x: i64| x * 2).call(x).compute(&inside).unwrap();
        current_client().unwrap().shutdown();
        twice
    }
    let futures: Vec<Future<i64>> = client.map(shuts_down, 0..10_i64).unwrap();
    assert_eq!(client.gather(&futures).unwrap(), (0..10).map(|x| x * 2).collect::<Vec<_>>());
    assert_eq!(delayed(fib).call(5).compute(client).unwrap(), 5, "later tasks may still submit tasks");
    assert_eq!(client.compute(&delayed(|x: i64| x + 1).map(0..10)).unwrap(), (1..11).collect::<Vec<_>>());
}

const WAYS_TO_WAIT: u64 = 14;

/// Waits for a task of its own, and notes what it is told.
fn waits(way: u64, notes: String, open: String) {
    fn gate(open: String) -> bool {
        wait_for_file(&open)
    }
    let client = current_client().unwrap();
    let call = delayed(gate).call(open);
    let inner = client.submit(&call).unwrap();
    note(&notes, "waits");
    let told = match way {
        0 => inner.result(),
        1 => inner.result_timeout(LONG),
        2 => client.compute(&call),
        3 => client.compute_timeout(&call, LONG),
        4 => client.gather(&[inner]).map(|all| all[0]),
        5 => client.wait(&[inner], WaitFor::Any).map(|()| true),
        6 => client.as_completed(vec![inner]).next().unwrap().result(),
        7 => block_on(async { inner.await }),
        8 => block_on(client.compute_async(&call)),
        9 => block_on(client.gather_async(&[inner])).map(|all| all[0]),
        10 => block_on(client.wait_async(&[inner], WaitFor::All)).map(|()| true),
        11 => block_on(client.as_completed(vec![inner]).next_async()).unwrap().result(),
        12 => block_on(inner.result_timeout_async(LONG)),
        _ => std::thread::scope(|scope| {
            // While another thread of the task waits, too.
            scope.spawn(|| inner.result_timeout(Duration::from_millis(50)).unwrap_err());
            inner.result()
        }),
    };
    let told = match told {
        Err(error) if error.is_cancelled() => "told".to_string(),
        other => format!("{other:?}"),
    };
    note(&notes, told);
}

/// Whoever waits in a task that is not wanted any more goes on at once, with an error.
pub fn a_task_that_waits_is_told_that_it_is_cancelled(client: &Client) {
    if client.mode() == Mode::Sync {
        return;
    }
    let dir = directory();
    let (open, before) = (path(&dir, "open"), pids(client));
    for way in 0..WAYS_TO_WAIT {
        let file = path(&dir, &format!("cancelled-{way}"));
        let outer = client.submit(&delayed(waits).call(way, &*file, &*open)).unwrap();
        until("it waits", || !notes(&file).is_empty());
        client.cancel(&outer);
        until("it is told", || notes(&file).len() > 1);
        assert_eq!(notes(&file), ["waits", "told"], "way {way}");
    }
    for way in [0, 7] {
        let file = path(&dir, &format!("overdue-{way}"));
        let call = delayed(waits).timeout(Duration::from_millis(200)).call(way, &*file, &*open);
        assert!(client.compute(&call).unwrap_err().to_string().contains("time"), "way {way}");
        until("it is told", || notes(&file).len() > 1);
        assert_eq!(notes(&file), ["waits", "told"], "way {way}");
    }
    assert_eq!(pids(client), before, "no worker was replaced");
}

/// Logs are asked for by keys, and a task prints what it prints whoever has submitted it.
pub fn tasks_of_tasks_have_keys_of_their_own(client: &Client) {
    fn own_key(_: u64) -> String {
        swath::task::current_task().unwrap().key
    }
    fn keys(n: u64) -> Vec<String> {
        let client = current_client().unwrap();
        client.gather(&client.map(own_key, 0..n).unwrap()).unwrap()
    }
    let mut all: Vec<String> = (0..3).flat_map(|_| client.compute(&delayed(keys).call(5)).unwrap()).collect();
    all.extend(client.gather(&client.map(own_key, 0..20_u64).unwrap()).unwrap());
    let n = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), n, "{all:?}");
}
