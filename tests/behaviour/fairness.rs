//! Whose turn it is: small requests beside batches, priorities of graphs, and batches beside many small requests.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use swath::client::Status;
use swath::status::Mode;
use swath::{Client, Future, delayed};

/// A task of some milliseconds.
fn sleepy(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

fn batch(client: &Client, tasks: usize) -> Vec<Future<u64>> {
    client.map(sleepy, vec![5; tasks]).unwrap()
}

/// How many have not ended.
fn left(futures: &[Future<u64>]) -> usize {
    futures.iter().filter(|future| future.status() == Status::Pending).count()
}

/// A service answers a request while a batch runs on its client.
pub fn a_request_does_not_wait_for_a_batch(client: &Client) {
    let futures = batch(client, 300);
    // The batch has had its first turns.
    futures[20].result().unwrap();
    for request in 0..5_u64 {
        assert_eq!(client.compute(&delayed(|x: u64| x + 1).call(request)).unwrap(), request + 1);
    }
    let waiting = left(&futures);
    assert!(
        client.mode() == Mode::Sync || waiting > 100,
        "the requests waited for the batch: {waiting} tasks are left"
    );
    assert_eq!(client.gather(&futures).unwrap(), vec![5; 300]);
}

/// What is to be done in the background gives way to what is submitted later.
pub fn a_graph_of_higher_priority_goes_first(client: &Client) {
    let background = client.with_priority(-1);
    let nightly = batch(&background, 200);
    let report = batch(client, 60);
    assert_eq!(client.gather(&report).unwrap(), vec![5; 60]);
    let waiting = left(&nightly);
    assert!(client.mode() == Mode::Sync || waiting > 100, "only {waiting} tasks of the background are left");
    // The handle shares everything else: results of one are inputs for the other.
    let sum = delayed(|a: u64, b: u64| a + b).call(&nightly[0], &report[0]);
    assert_eq!(background.compute(&sum).unwrap(), 10);
    assert_eq!(client.gather(&nightly).unwrap(), vec![5; 200]);
}

/// What a task submits is as urgent as the task itself.
pub fn what_a_task_submits_has_the_priority_of_the_task(client: &Client) {
    fn urgent(n: u64) -> u64 {
        let client = swath::current_client().unwrap();
        let inner = client.map(sleepy, vec![2; n as usize]).unwrap();
        client.gather(&inner).unwrap().len() as u64
    }
    let batch = batch(&client.with_priority(3), 200);
    assert_eq!(client.with_priority(5).compute(&delayed(urgent).call(10)).unwrap(), 10);
    let waiting = left(&batch);
    assert!(client.mode() == Mode::Sync || waiting > 50, "it waited for the batch: {waiting} tasks are left");
    assert_eq!(client.gather(&batch).unwrap(), vec![5; 200]);
}

/// What names a large graph is served, however soon it comes.
pub fn a_large_graph_is_used_as_soon_as_it_is_submitted(client: &Client) {
    let calls: Vec<_> = (0..20_000_u64).map(|x| delayed(|x: u64| x + 1).call(x)).collect();
    let mut futures = client.submit_all(&calls).unwrap();
    let sum = client.submit(&delayed(|a: u64, b: u64| a + b).call(&futures[0], &futures[19_999])).unwrap();
    client.cancel(&futures[7]);
    drop(futures.split_off(10_000));
    assert_eq!(sum.result().unwrap(), 20_001);
    assert_eq!(futures[9_999].result().unwrap(), 10_000);
    // One that nobody ever asks about.
    drop(client.submit_all(&calls).unwrap());
    assert_eq!(client.compute(&calls[3]).unwrap(), 4);
}

/// Requests that never cease do not keep a batch from its end.
pub fn a_batch_goes_on_beside_requests_that_never_cease(client: &Client) {
    if client.mode() == Mode::Sync {
        return;
    }
    const MOST: usize = 4000;
    let futures = batch(client, 60);
    let (stop, ended) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..MOST {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    client.compute(&delayed(sleepy).call(2)).unwrap();
                }
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        let results = client.gather(&futures);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(results.unwrap(), vec![5; 60]);
    });
    assert_eq!(ended.into_inner(), 0, "the batch had to wait for the end of the requests");
}

/// Steps of running graphs, each made ready by the one before it, give way between two of them. (For worker processes such a
/// chain is one task.)
pub fn a_request_does_not_wait_for_chains(client: &Client) {
    if client.mode() != Mode::Threads {
        return;
    }
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    let step = |_: u64| {
        STEPS.fetch_add(1, Ordering::Relaxed);
        sleepy(3)
    };
    let chain = || (0..200).fold(delayed(sleepy).call(3), |before, _| delayed(step).call(&before));
    let before = STEPS.load(Ordering::Relaxed);
    let futures = client.submit_all(&(0..4).map(|_| chain()).collect::<Vec<_>>()).unwrap();
    while STEPS.load(Ordering::Relaxed) < before + 20 {
        std::thread::yield_now();
    }
    assert_eq!(client.compute(&delayed(|x: u64| x + 1).call(1)).unwrap(), 2);
    assert_eq!(left(&futures), 4, "the request waited for the chains");
    for future in &futures {
        client.cancel(future);
    }
}

/// Who asks why a result is not there is told how many graphs go first.
pub fn it_is_told_how_many_graphs_are_before_one(client: &Client) {
    if client.mode() == Mode::Sync {
        return;
    }
    let futures = batch(client, 200);
    let later = client.with_priority(-1).submit(&delayed(sleepy).call(1)).unwrap();
    let why = client.explain(&later).unwrap().to_string();
    assert!(why.contains("1 graph is before it"), "{why}");
    drop(futures);
    assert_eq!(later.result().unwrap(), 1);
}
