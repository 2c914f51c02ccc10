//! The same client from async code, under any runtime or none.

use crate::common::{LONG, block_on, comes_true, directory, is_sync, note, notes, path, touch, wait_for_file};
use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use swath::client::WaitFor;
use swath::memory::MemoryLimit;
use swath::status::Mode;
use swath::{Client, Delayed, Error, delayed, try_delayed};

fn square(x: i64) -> i64 {
    x * x
}

fn is_there(file: String) -> Result<i64, String> {
    if std::path::Path::new(&file).exists() { Ok(1) } else { Err(format!("no {file}")) }
}

#[allow(clippy::print_stdout)]
fn speak() {
    println!("words from an async caller's task");
}

async fn everything(client: &Client) {
    let x = delayed(|x: i64| x + 1).call(1);
    assert_eq!(client.compute_async(&x).await.unwrap(), 2);
    assert_eq!(x.compute_async(client).await.unwrap(), 2);
    assert_eq!(client.compute_async((&x, &(&x * 10))).await.unwrap(), (2, 20));
    let future = client.submit(&x).unwrap();
    assert_eq!((&future).await.unwrap(), 2);
    assert_eq!(future.await.unwrap(), 2);
    let futures = client.map(|x: i64| x * x, 0..20_i64).unwrap();
    client.wait_async(&futures, WaitFor::Any).await.unwrap();
    client.wait_async(&futures, WaitFor::All).await.unwrap();
    assert_eq!(client.gather_async(&futures).await.unwrap(), (0..20).map(|x| x * x).collect::<Vec<_>>());
    client.explain_async(&futures[0]).await.unwrap();
    let (mut completed, mut sum) = (client.as_completed(futures), 0);
    while let Some(future) = completed.next_async().await {
        sum += future.await.unwrap();
    }
    assert_eq!(sum, (0..20).map(|x| x * x).sum::<i64>());
    let error = delayed(|x: i64| 1 / x).call(0).compute_async(client).await.unwrap_err();
    assert!(error.to_string().contains("divide by zero"));
    assert!(!client.workers_async().await.unwrap().is_empty());
    assert_eq!(client.submit_async(&x).await.unwrap().await.unwrap(), 2);
    assert_eq!((client.persist_async(&x).await.unwrap() + 1).compute_async(client).await.unwrap(), 3);
    let squares = client.map_async(|x: i64| x * x, 0..3).await.unwrap();
    assert_eq!(client.gather_async(&squares).await.unwrap(), [0, 1, 4]);
    let odd = client.try_map_async(|x: i64| if x % 2 == 1 { Ok(x) } else { Err(x.to_string()) }, 1..2).await.unwrap();
    assert_eq!(client.gather_async(&odd).await.unwrap(), [1]);
    client.deaths_async().await.unwrap();
    client.logs_async().await.unwrap();
    client.wait_for_workers_async(1, Duration::from_secs(30)).await.unwrap();
    let total: Delayed<i64> = (0..100).map(|x| delayed(|x: i64| x).call(x)).sum();
    assert_eq!(client.compute_async(&total).await.unwrap(), 4950);
    given_and_kept(client).await;
    limited(client).await;
    repeated(client).await;
    looked_at(client).await;
    opened(client).await;
}

/// Values that are given to the workers, and results that stay with them.
async fn given_and_kept(client: &Client) {
    let x = delayed(square).call(3);
    let given = client.scatter_async(7_i64).await.unwrap();
    assert_eq!(delayed(square).call(&given).compute_async(client).await.unwrap(), 49);
    let several = client.scatter_all_async(vec![1_i64, 2, 3]).await.unwrap();
    assert_eq!(client.gather_async(&several).await.unwrap(), [1, 2, 3]);
    let everywhere = client.broadcast_async("all".to_string()).await.unwrap();
    assert_eq!(delayed(|s: String| s.len()).call(&everywhere).compute_async(client).await.unwrap(), 3);
    assert_eq!(x.submit_async(client).await.unwrap().await.unwrap(), 9);
    assert_eq!((x.persist_async(client).await.unwrap() + 1).compute_async(client).await.unwrap(), 10);
    let all = client.submit_all_async(&[x.clone(), &x * 2, x]).await.unwrap();
    assert_eq!(client.gather_async(&all).await.unwrap(), [9, 18, 9]);
    let dir = directory();
    let lazy = delayed(square).pure().map(0..4);
    for _ in 0..2 {
        let kept = client.persist_to_async(dir.path(), &lazy).await.unwrap();
        assert_eq!(client.compute_async(&kept).await.unwrap(), [0, 1, 4, 9]);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
}

/// Time limits, whatever the runtime has of timers.
async fn limited(client: &Client) {
    let x = delayed(square).call(3);
    assert_eq!(client.compute_timeout_async(&x, LONG).await.unwrap(), 9);
    let future = client.submit_async(&x).await.unwrap();
    client.wait_timeout_async(std::slice::from_ref(&future), WaitFor::All, LONG).await.unwrap();
    assert_eq!(future.result_timeout_async(LONG).await.unwrap(), 9);
    if is_sync(client) {
        return;
    }
    let (dir, short) = (directory(), Duration::from_millis(5));
    let file = path(&dir, "go on");
    let waits = delayed(|file: String| wait_for_file(&file)).call(&*file);
    assert!(
        matches!(client.compute_timeout_async(&waits, short).await, Err(Error::Timeout { waited }) if waited == short)
    );
    let future = client.submit_async(&waits).await.unwrap();
    assert!(matches!(future.result_timeout_async(short).await, Err(Error::Timeout { waited }) if waited == short));
    let both = [future.clone(), future.clone()];
    let waited = client.wait_timeout_async(&both, WaitFor::Any, short).await;
    assert!(matches!(waited, Err(Error::Timeout { .. })));
    touch(&file);
    assert!(future.await.unwrap(), "the work goes on");
}

async fn repeated(client: &Client) {
    let dir = directory();
    let file = path(&dir, "there");
    let fails = try_delayed(is_there).call(&*file);
    let future = client.submit_async(&fails).await.unwrap();
    (&future).await.unwrap_err();
    let again = client.replay_async(&fails).await.unwrap_err();
    assert_eq!(again.task().unwrap().downcast(), Some(format!("no {file}")));
    touch(&file);
    client.retry_async(&future).await.unwrap();
    assert_eq!(future.await.unwrap(), 1);
    assert_eq!(client.replay_async(&fails).await.unwrap(), 1);
}

/// What is known of the workers, and more or other ones.
async fn looked_at(client: &Client) {
    assert!(!client.memory_async().await.unwrap().workers.is_empty());
    assert!(!client.events_async().await.unwrap().events().is_empty());
    let quiet = client.submit_async(&delayed(square).call(3)).await.unwrap();
    (&quiet).await.unwrap();
    assert!(client.logs_of_async(&quiet).await.unwrap().iter().all(|line| !line.text.contains("async caller")));
    if client.mode() != Mode::Processes {
        assert!(matches!(client.scale_async(2).await, Err(Error::Unsupported { .. })));
        assert!(matches!(client.restart_async().await, Err(Error::Unsupported { .. })));
        return;
    }
    client.scale_async(3).await.unwrap();
    client.wait_for_workers_async(3, LONG).await.unwrap();
    let pids = |workers: Vec<swath::status::WorkerInfo>| workers.into_iter().map(|w| w.pid).collect::<Vec<_>>();
    let before = pids(client.workers_async().await.unwrap());
    client.restart_async().await.unwrap();
    let began = Instant::now();
    loop {
        let now = pids(client.workers_async().await.unwrap());
        if now.len() == 3 && now.iter().all(|pid| !before.contains(pid)) {
            break;
        }
        assert!(began.elapsed() < LONG, "{before:?} {now:?}");
    }
    let spoken = client.submit_async(&delayed(speak).call()).await.unwrap();
    (&spoken).await.unwrap();
    let began = Instant::now();
    // Words come on their own way, maybe after the result.
    while !client.logs_of_async(&spoken).await.unwrap().iter().any(|line| line.text.contains("async caller")) {
        assert!(began.elapsed() < LONG, "{:?}", client.logs_async().await);
    }
}

/// Clients of its own.
async fn opened(client: &Client) {
    let own = Client::builder().mode(client.mode()).workers(1).threads(1).build_async().await.unwrap();
    assert_eq!(delayed(square).call(3).compute_async(&own).await.unwrap(), 9);
    own.shutdown_async().await;
    assert!(Client::builder().workers(0).build_async().await.is_err());
    if client.mode() == Mode::Processes {
        let own = Client::local_async(1, 1, MemoryLimit::None).await.unwrap();
        assert_eq!(delayed(square).call(3).compute_async(&own).await.unwrap(), 9);
        own.shutdown_async().await;
    }
}

pub fn no_runtime(client: &Client) {
    block_on(async {
        everything(client).await;
        client.shutdown_async().await;
        assert!(client.submit(&delayed(|| 1).call()).is_err());
    });
}

pub fn tokio_runtime(client: &Client) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        everything(client).await;
        // Many at once, each its own graph.
        let requests: Vec<_> = (0..50_i64)
            .map(|i| {
                let client = client.clone();
                tokio::spawn(async move { (delayed(|x: i64| x * 2).call(i) + 1).compute_async(&client).await })
            })
            .collect();
        for (i, request) in (0..).zip(requests) {
            assert_eq!(request.await.unwrap().unwrap(), i * 2 + 1);
        }
        // Blocking calls work in there, too.
        assert_eq!(delayed(|| 5_i64).call().compute(client).unwrap(), 5);
    });
}

pub fn actix_runtime(client: &Client) {
    // What actix keeps for a thread goes with the thread.
    let thread = std::thread::scope(|scope| {
        let run = || {
            actix_rt::System::new().block_on(async {
                everything(client).await;
                let client = client.clone();
                let other = actix_rt::spawn(async move { delayed(|| 5_i64).call().compute_async(&client).await });
                assert_eq!(other.await.unwrap().unwrap(), 5);
            });
        };
        scope.spawn(run).join()
    });
    thread.unwrap();
}

pub fn dropped_computation(client: &Client) {
    if is_sync(client) {
        return;
    }
    fn until_cancelled(file: String) -> bool {
        note(&file, "began");
        comes_true(Duration::from_secs(30), swath::cancelled)
    }
    let dir = directory();
    let file = path(&dir, "runs");
    let lazy = delayed(until_cancelled).call(&*file);
    {
        let mut computing = pin!(client.compute_async(&lazy));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(computing.as_mut().poll(&mut context), Poll::Pending));
        crate::common::until("it runs", || !notes(&file).is_empty());
    }
    // The thread is free long before those 30 seconds are over.
    let next = client.submit(&delayed(|| 1_i64).call()).unwrap();
    assert_eq!(next.result_timeout(Duration::from_secs(20)).unwrap(), 1);
    assert!(client.deaths().unwrap().is_empty());
}
