//! A worker's memory limit is a hard one.

#![allow(clippy::unwrap_used)]

use swath::{Buffer, Cause, Client, delayed};

fn take(mib: usize) -> usize {
    let mut held = Vec::new();
    for _ in 0..mib {
        held.push(vec![1_u8; 1 << 20]);
    }
    held.iter().map(Vec::len).sum::<usize>() >> 20
}

fn take_at_once(mib: usize) -> usize {
    vec![1_u8; mib << 20].len() >> 20
}

#[test]
fn a_task_that_takes_far_more_than_the_limit_ends_its_worker_and_nothing_else() {
    let client = Client::local(1, 1, "200MB").unwrap();
    assert_eq!(client.compute(&delayed(take).call(100)).unwrap(), 100, "what fits is no problem");
    for task in [delayed(take).call(2000), delayed(take_at_once).call(2000)] {
        let error = client.compute(&task).unwrap_err();
        let Cause::WorkerDied(records) = error.task().unwrap().cause().clone() else { panic!("{error}") };
        assert_eq!(records.len(), 3);
        assert_eq!(records[0].memory_limit, Some(200_000_000));
        assert_eq!(records[0].running, [task.key()]);
        assert!(records[0].last_lines.iter().any(|l| l.contains("memory allocation")), "{:?}", records[0].last_lines);
        assert!(error.to_string().contains("memory limit 200000000 B"), "{error}");
    }
    assert_eq!(client.compute(&delayed(take).call(50)).unwrap(), 50, "the next task finds a new worker");
}

#[test]
fn shared_segments_have_a_budget_of_their_own() {
    let client = Client::builder().workers(1).memory_limit("200MB").shared_memory_limit("64MiB").build().unwrap();
    let small = delayed(|n: usize| Buffer::<u8>::from_fn(n, |i| i as u8)).call(16_usize << 20);
    assert_eq!(client.compute(&small).unwrap().len(), 16 << 20);
    let large = delayed(|n: usize| Buffer::<u8>::from_fn(n, |i| i as u8)).call(100_usize << 20);
    let error = client.compute(&large).unwrap_err();
    assert!(matches!(error.task().unwrap().cause(), Cause::Resource { .. }), "{error}");
    assert!(error.to_string().contains("shared_memory_limit"), "{error}");
    assert_eq!(client.compute(&small).unwrap().len(), 16 << 20, "nothing is lost");
}
