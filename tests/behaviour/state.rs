//! What each process builds for itself.

use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use swath::status::Mode;
use swath::task::WorkerLocal;
use swath::{Client, current_client, delayed};

static BUILDS: AtomicUsize = AtomicUsize::new(0);
static SQUARES: WorkerLocal<Vec<u64>> = WorkerLocal::new(|| {
    BUILDS.fetch_add(1, Ordering::SeqCst);
    Ok((0..200).map(|x| x * x).collect())
});

fn square(x: u64) -> Result<(u32, usize, u64), String> {
    let squares = SQUARES.get()?;
    Ok((process::id(), BUILDS.load(Ordering::SeqCst), squares[x as usize]))
}

pub fn built_once_in_each_process(client: &Client) {
    let futures = client.try_map(square, 0..200).unwrap();
    for (x, (pid, builds, square)) in (0..).zip(client.gather(&futures).unwrap()) {
        assert_eq!((builds, square), (1, x * x));
        assert_eq!(pid == process::id(), client.mode() != Mode::Processes);
    }
}

static TRIES: AtomicUsize = AtomicUsize::new(0);
static FLAKY: WorkerLocal<usize> = WorkerLocal::new(|| match TRIES.fetch_add(1, Ordering::SeqCst) {
    0 => Err("not yet".to_string()),
    n => Ok(n),
});

fn tries(_: u64) -> Result<usize, String> {
    FLAKY.get().copied()
}

pub fn a_failed_build_is_the_tasks_error_and_tried_again(client: &Client) {
    let futures = client.try_map(tries, 0..50).unwrap();
    let failed = futures.iter().filter(|future| match future.result() {
        Ok(tries) => {
            assert_eq!(tries, 1);
            false
        }
        Err(e) => {
            assert_eq!(e.task().unwrap().downcast(), Some("not yet".to_string()));
            true
        }
    });
    let failed = failed.count();
    match client.mode() {
        Mode::Processes => assert!((1..=client.workers().unwrap().len()).contains(&failed), "{failed}"),
        // In this process an earlier case may have built it.
        _ => assert!(failed <= 1, "{failed}"),
    }
}

fn squares_of_ten() -> Result<u64, String> {
    let client = current_client().ok_or("no task")?;
    let squares = client.compute(&delayed(|x: u64| x * x).map(0..10)).map_err(|e| e.to_string())?;
    Ok(squares.iter().sum())
}

static OF_THE_CALLER: WorkerLocal<u64> = WorkerLocal::new(squares_of_ten);
static OF_THREADS: WorkerLocal<u64> = WorkerLocal::new(squares_of_ten);
static OF_PROCESSES: WorkerLocal<u64> = WorkerLocal::new(squares_of_ten);

/// Others wait for it, and leave their places to the tasks that it is built with.
pub fn built_with_tasks(client: &Client) {
    // In one process, one that a case before this has built is no use.
    let futures = match client.mode() {
        Mode::Sync => client.try_map(|x: u64| OF_THE_CALLER.get().map(|sum| sum + x), 0..20_u64),
        Mode::Threads => client.try_map(|x: u64| OF_THREADS.get().map(|sum| sum + x), 0..20_u64),
        _ => client.try_map(|x: u64| OF_PROCESSES.get().map(|sum| sum + x), 0..20_u64),
    };
    for (x, future) in (0..).zip(futures.unwrap()) {
        assert_eq!(future.result_timeout(crate::common::LONG).unwrap(), 285 + x);
    }
}

static ITSELF: WorkerLocal<u64> = WorkerLocal::new(|| {
    let client = current_client().ok_or("no task")?;
    // Through a task of a task, on whichever worker.
    let inner = delayed(|()| delayed(needs_itself).call(0).compute(&current_client().unwrap()).unwrap());
    client.compute(&inner.map([(), ()])).map(|sums| sums[0]).map_err(|e| e.to_string())
});

fn needs_itself(x: u64) -> u64 {
    *ITSELF.get().unwrap() + x
}

pub fn one_that_needs_itself_is_an_error(client: &Client) {
    let futures = client.map(needs_itself, 0..4_u64).unwrap();
    for future in futures {
        let error = future.result_timeout(crate::common::LONG).unwrap_err().to_string();
        assert!(error.contains("needs itself") && error.contains("u64"), "{error}");
    }
    assert_eq!(client.compute(&delayed(|x: u64| x + 1).call(1)).unwrap(), 2);
}

static ONE: WorkerLocal<u64> = WorkerLocal::new(|| compute(|| *OTHER.get().unwrap()));
static OTHER: WorkerLocal<u64> = WorkerLocal::new(|| compute(|| *ONE.get().unwrap()));

fn compute<F: Fn() -> u64 + Copy + Send + Sync + 'static>(f: F) -> Result<u64, String> {
    let client = current_client().ok_or("no task")?;
    client.compute(&delayed(f).call()).map_err(|e| e.to_string())
}

/// Asked for at once, each waits for the other where both are being built.
pub fn two_that_need_each_other_are_an_error(client: &Client) {
    let ones = client.map(|_: u64| *ONE.get().unwrap(), 0..3).unwrap();
    let others = client.map(|_: u64| *OTHER.get().unwrap(), 0..3).unwrap();
    for future in ones.iter().chain(&others) {
        let error = future.result_timeout(crate::common::LONG).unwrap_err().to_string();
        assert!(error.contains("needs itself"), "{error}");
    }
}
