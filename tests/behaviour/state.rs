//! What each process builds for itself.

use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use swath::{Client, Mode, WorkerLocal};

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
