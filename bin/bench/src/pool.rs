//! A plain work-stealing pool: what threads mode is held against.

use crate::report::Outcome;
use crate::tasks::{add, inc};
use rayon_core::{ThreadPool, ThreadPoolBuilder};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) fn open(workers: usize) -> Outcome<ThreadPool> {
    Ok(ThreadPoolBuilder::new().num_threads(workers).build()?)
}

/// One spawn for each task.
pub(crate) fn noops(pool: &ThreadPool, n: u64) -> Vec<u64> {
    let results: Vec<AtomicU64> = (0..n).map(|_| AtomicU64::new(0)).collect();
    pool.scope(|scope| {
        for (x, result) in (0..n).zip(&results) {
            scope.spawn(move |_| result.store(inc(black_box(x)), Ordering::Relaxed));
        }
    });
    results.into_iter().map(AtomicU64::into_inner).collect()
}

/// The sum of `0..2^depth` by halves, one join for each addition.
pub(crate) fn tree(pool: &ThreadPool, depth: u32) -> u64 {
    fn sum(first: u64, depth: u32) -> u64 {
        if depth == 1 {
            return add(black_box(first), black_box(first + 1));
        }
        let half = 1 << (depth - 1);
        let (x, y) = rayon_core::join(|| sum(first, depth - 1), || sum(first + half, depth - 1));
        add(black_box(x), black_box(y))
    }
    pool.install(|| sum(0, depth))
}

/// Spawns a task for each number, and then waits for the first that gets done: the seconds that spawning took, and its
/// result.
pub(crate) fn first_of(pool: &ThreadPool, n: u64) -> Outcome<(f64, u64)> {
    let start = std::time::Instant::now();
    let (sender, results) = std::sync::mpsc::channel();
    for x in 0..n {
        let sender = sender.clone();
        // Those that are done when nobody listens any more have nobody to tell.
        pool.spawn(move || {
            let _ = sender.send(inc(black_box(x)));
        });
    }
    let spawned = start.elapsed().as_secs_f64();
    Ok((spawned, results.recv()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_pool_gives_right_answers() {
        let pool = open(2).unwrap();
        assert!(noops(&pool, 1000).into_iter().eq(1..=1000));
        assert_eq!(tree(&pool, 1), 1);
        assert_eq!(tree(&pool, 10), 1024 * 1023 / 2);
        assert!((1..=100).contains(&first_of(&pool, 100).unwrap().1));
    }
}
