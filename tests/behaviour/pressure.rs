//! Back-pressure: many more requests at once than may be under way.

use crate::common::{Clean, LONG, block_on};
use std::pin::Pin;
use std::task::Poll;
use swath::events::EventKind;
use swath::status::Mode;
use swath::{Client, Future, delayed};

/// How many may be under way.
const AT_ONCE: usize = 4;
const CALLERS: i64 = 9;
/// All of them together are in the log of events.
const EACH: i64 = 200;

fn inc(x: i64) -> i64 {
    x + 1
}

fn blocking(client: &Client, xs: std::ops::Range<i64>) -> Vec<i64> {
    let futures: Vec<_> = xs.map(|x| client.submit(&delayed(inc).call(x)).unwrap()).collect();
    client.gather(&futures).unwrap()
}

async fn one_after_the_other(client: &Client, xs: std::ops::Range<i64>) -> Vec<i64> {
    let mut answers = Vec::new();
    for x in xs {
        answers.push(client.compute_async(&delayed(inc).call(x)).await.unwrap());
    }
    answers
}

type Submitting<'a> = Pin<Box<dyn std::future::Future<Output = swath::Result<Future<i64>>> + 'a>>;

/// All wait for room at the same time, and get it in the order in which they came.
async fn together(client: &Client, xs: std::ops::Range<i64>) -> Vec<i64> {
    let calls = delayed(inc).map(xs);
    let mut submitting: Vec<Submitting<'_>> =
        calls.iter().map(|call| Box::pin(client.submit_async(call)) as Submitting<'_>).collect();
    let mut futures: Vec<Future<i64>> = Vec::new();
    std::future::poll_fn(|cx| {
        let first = futures.len();
        for i in first..submitting.len() {
            if i < futures.len() {
                continue;
            }
            if let Poll::Ready(future) = submitting[i].as_mut().poll(cx) {
                // There may have been room for an earlier one since it was asked.
                while futures.len() < i {
                    let earlier = submitting[futures.len()].as_mut().poll(cx);
                    let Poll::Ready(earlier) = earlier else { panic!("a later one got in first") };
                    futures.push(earlier.unwrap());
                }
                futures.push(future.unwrap());
            }
        }
        if futures.len() == submitting.len() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    client.gather_async(&futures).await.unwrap()
}

/// The most graphs that were under way at a time, and how many there were.
fn under_way(client: &Client) -> (usize, usize) {
    let log = client.events().unwrap();
    let mut steps: Vec<_> = log
        .events()
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::GraphFinished { .. } => Some((event.at, 0)),
            EventKind::GraphSubmitted { .. } => Some((event.at, 1)),
            _ => None,
        })
        .collect();
    steps.sort();
    let (mut now, mut most, mut all) = (0_usize, 0, 0);
    for (_, begins) in steps {
        match begins {
            0 => now -= 1,
            _ => {
                now += 1;
                all += 1;
                most = most.max(now);
            }
        }
    }
    (most, all)
}

#[test]
fn all_requests_are_answered_and_few_are_under_way() {
    let _clean = Clean::start();
    for mode in [Mode::Threads, Mode::Processes] {
        let client = Client::builder().mode(mode).workers(2).threads(2).max_graphs(AT_ONCE).build().unwrap();
        client.wait_for_workers(2, LONG).unwrap();
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let client = &client;
                scope.spawn(move || {
                    let xs = caller * EACH..(caller + 1) * EACH;
                    let answers = match caller % 3 {
                        0 => blocking(client, xs.clone()),
                        1 => block_on(one_after_the_other(client, xs.clone())),
                        _ => block_on(together(client, xs.clone())),
                    };
                    assert_eq!(answers, xs.map(inc).collect::<Vec<_>>());
                });
            }
        });
        let (most, all) = under_way(&client);
        assert!((1..=AT_ONCE).contains(&most), "{most} in {mode} mode");
        assert_eq!(all, (CALLERS * EACH) as usize);
    }
}
