//! The same client from async code, under any runtime or none.

use crate::common::{block_on, comes_true, directory, is_sync, note, notes, path};
use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use swath::{Client, Delayed, WaitFor, delayed};

async fn everything(client: &Client) {
    let x = delayed(|x: i64| x + 1).call(1);
    assert_eq!(client.compute_async(&x).await.unwrap(), 2);
    assert_eq!(x.compute_async(client).await.unwrap(), 2);
    assert_eq!(client.compute_async((&x, &(&x * 10))).await.unwrap(), (2, 20));
    let future = client.submit(&x).unwrap();
    assert_eq!((&future).await.unwrap(), 2);
    assert_eq!(future.await.unwrap(), 2);
    let futures = client.map(|x: i64| x * x, 0..20_i64).unwrap();
    client.wait_async(&futures, WaitFor::Any).await;
    client.wait_async(&futures, WaitFor::All).await;
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
    let odd = client.try_map_async(|x: i64| if x % 2 == 1 { Ok(x) } else { Err(x) }, 1..2).await.unwrap();
    assert_eq!(client.gather_async(&odd).await.unwrap(), [1]);
    client.deaths_async().await.unwrap();
    client.logs_async().await.unwrap();
    client.wait_for_workers_async(1, Duration::from_secs(30)).await.unwrap();
    let total: Delayed<i64> = (0..100).map(|x| delayed(|x: i64| x).call(x)).sum();
    assert_eq!(client.compute_async(&total).await.unwrap(), 4950);
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
