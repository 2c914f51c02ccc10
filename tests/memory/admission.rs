//! Readers start only when what they leave finds room beside what is there.

use crate::common::*;
use crate::{MIB, block, sum};
use swath::status::Mode;
use swath::{Buffer, Client, Delayed, delayed};

fn add(parts: Vec<Buffer<u64>>) -> u64 {
    parts.into_iter().map(sum).fold(0, u64::wrapping_add)
}

/// Reads 200 parts and reduces them in a tree, with two workers that could keep 16 parts each.
fn read_and_reduce(mib: usize, threads: usize, declared: bool) {
    let limit = (16 * mib * MIB) as u64;
    let client = Client::builder().workers(2).threads(threads).memory_limit(limit).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let read = || if declared { delayed(block).memory((mib * MIB) as u64) } else { delayed(block) };
    let parts: Vec<Delayed<Buffer<u64>>> = (0..200).map(|i| read().call(mib, i)).collect();
    let sums: Vec<Delayed<u64>> = parts.chunks(8).map(|eight| delayed(add).call(eight.to_vec())).collect();
    let total = client.compute(&delayed(|sums: Vec<u64>| sums.into_iter().fold(0, u64::wrapping_add)).call(sums));
    // As the parts are made: from the seed alone.
    let pages = |seed: u64| {
        let page = |i: u64| seed.wrapping_mul(0x9e37_79b9).wrapping_add(i) | 1;
        (0..(mib * MIB / 4096) as u64).fold(0, |sum: u64, i| (sum ^ page(i)).wrapping_mul(0x0100_0000_01b3))
    };
    assert_eq!(total.unwrap(), (0..200).map(pages).fold(0, u64::wrapping_add));
    let memory = client.memory().unwrap();
    for worker in &memory.workers {
        assert_eq!((worker.moved, worker.pauses), (0, 0), "{memory}");
    }
    assert_eq!(client.deaths().unwrap(), []);
}

#[test]
fn reading_and_reducing_more_than_fits_neither_spills_nor_pauses() {
    let _clean = Clean::start();
    for threads in [1, 2] {
        for declared in [false, true] {
            read_and_reduce(8, threads, declared);
        }
    }
}

#[test]
#[ignore = "full runtime: the same at full size: 200 x 64 MiB through two workers of 1 GiB"]
fn reading_and_reducing_200_parts_of_64_mib() {
    let _clean = Clean::start();
    for declared in [false, true] {
        let began = std::time::Instant::now();
        read_and_reduce(64, 1, declared);
        log::info!("declared: {declared}; took {:?}", began.elapsed());
    }
}

#[test]
fn what_readers_declare_is_kept_to_before_anything_is_known() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(8).memory_limit("256MiB").build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    let dir = directory();
    /// A little less than is declared: of three, two kept and one about to be, less than 70 %. A sum that has begun, and has
    /// not come to take its block yet, counts as one more.
    const MIB_READ: usize = 56;
    fn read(began: String, go: String, i: u64) -> Buffer<u64> {
        note(&began, i);
        wait_for_file(&go);
        block(MIB_READ, i)
    }
    let (began, go) = (path(&dir, "began"), path(&dir, "go"));
    let reads: Vec<_> = (0..8_u64).map(|i| delayed(read).memory(64 << 20).call(&*began, &*go, i)).collect();
    let futures = client.submit_all(&reads.iter().map(|r| delayed(sum).call(r)).collect::<Vec<_>>()).unwrap();
    until("as many as may have begun", || notes(&began).len() == 2);
    // A graph that was sent later and has been answered tells that the scheduler has decided about the first.
    assert_eq!(client.compute(&delayed(|x: i64| x + 1).call(1)).unwrap(), 2);
    assert_eq!(notes(&began).len(), 2, "a third would bring it over 60 %, although it has threads for eight");
    touch(&go);
    for (i, future) in (0..).zip(&futures) {
        assert_eq!(future.result().unwrap(), sum(block(MIB_READ, i)));
    }
    let memory = client.memory().unwrap();
    assert_eq!((memory.workers[0].moved, memory.workers[0].pauses), (0, 0), "{memory}");
}

#[test]
fn the_tasks_of_a_task_that_holds_much_memory_begin() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(2).memory_limit("200MB").build().unwrap();
    fn outer(mib: usize) -> u64 {
        let held = vec![1_u8; mib * MIB];
        let blocks: Vec<_> = (0..4).map(|i| delayed(sum).call(delayed(block).call(2_usize, i))).collect();
        let sums = swath::current_client().unwrap().compute(&blocks).unwrap();
        sums.into_iter().fold(held.len() as u64, u64::wrapping_add)
    }
    let wanted = |mib: usize| (0..4).map(|i| sum(block(2, i))).fold((mib * MIB) as u64, u64::wrapping_add);
    // More than where a worker stops to begin tasks, alone or two together.
    let one = client.submit(&delayed(outer).call(165)).unwrap();
    assert_eq!(one.result_timeout(LONG).unwrap(), wanted(165));
    let two = client.submit_all(&[delayed(outer).call(80), delayed(outer).call(81)]).unwrap();
    for (future, mib) in two.iter().zip([80, 81]) {
        assert_eq!(future.result_timeout(LONG).unwrap(), wanted(mib));
    }
    assert_eq!(client.deaths().unwrap(), []);
    // In threads, results that its task has kept take all that results may.
    fn keeps(n: u64) -> u64 {
        let client = swath::current_client().unwrap();
        let blocks: Vec<_> = (0..n).map(|i| delayed(block).call(2_usize, i)).collect();
        let kept = client.persist(&blocks).unwrap();
        let more: Vec<_> = (0..n).map(|i| delayed(sum).call(delayed(block).call(2_usize, i))).collect();
        let sums = client.compute(&more).unwrap();
        drop(kept);
        sums.into_iter().fold(0, u64::wrapping_add)
    }
    let client = Client::builder().mode(Mode::Threads).threads(2).memory_limit("8MiB").build().unwrap();
    let three = client.submit_all(&[delayed(keeps).call(6), delayed(keeps).call(7), delayed(keeps).call(8)]).unwrap();
    for (future, n) in three.iter().zip(6..) {
        let wanted = (0..n).map(|i| sum(block(2, i))).fold(0, u64::wrapping_add);
        assert_eq!(future.result_timeout(LONG).unwrap(), wanted);
    }
}
