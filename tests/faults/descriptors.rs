//! Programs with few file descriptors: shared memory takes one for each 64 MiB, however many values lie there.

use crate::common::*;
use nix::sys::resource::{Resource, setrlimit};
use std::fs::File;
use swath::delayed::value;
use swath::{Buffer, Client, delayed};

const MANY: u64 = 5_000;
const FEW: u64 = 600;

/// 66 kB.
fn small(i: u64) -> Buffer<u64> {
    Buffer::from_slice(&[i; 8_250])
}

/// 80 kB.
fn larger(i: u64) -> Buffer<u8> {
    Buffer::from_slice(&[i as u8; 80_000])
}

fn last(buffer: Buffer<u64>) -> u64 {
    buffer[8_249]
}

fn open() -> u64 {
    std::fs::read_dir("/proc/self/fd").unwrap().count() as u64
}

fn limit(most: u64) {
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

/// Results, kept results, scattered values and results on disk, all of them small and many.
fn everything() {
    let client = processes(2, 1);
    let values = client.compute(&delayed(larger).map(0..FEW)).unwrap();
    assert!(values.iter().zip(0..).all(|(buffer, i)| *buffer == larger(i)));
    let many = client.compute(&delayed(small).map(0..MANY)).unwrap();
    assert!(many.iter().zip(0..).all(|(buffer, i)| buffer[8_249] == i));
    assert!(many.iter().all(Buffer::is_shared));
    drop((values, many));

    let kept = client.persist(&delayed(small).map(0..MANY)).unwrap();
    let sums: Vec<_> = kept.iter().map(|kept| delayed(last).call(kept)).collect();
    assert_eq!(client.compute(&sums).unwrap(), (0..MANY).collect::<Vec<_>>());
    let futures = client.submit_all(&delayed(small).map(0..MANY)).unwrap();
    let many = client.gather(&futures).unwrap();
    assert!(many.iter().zip(0..).all(|(buffer, i)| buffer[0] == i));

    // Values that come back from where they went, and go there again.
    let sums: Vec<_> = many.iter().map(|buffer| delayed(last).call(value(buffer.clone()))).collect();
    assert_eq!(client.compute(&sums).unwrap(), (0..MANY).collect::<Vec<_>>());
    let own: Vec<Buffer<u64>> = (0..MANY).map(small).collect();
    let scattered: Vec<_> = own.iter().map(|buffer| client.scatter(buffer.clone()).unwrap()).collect();
    let sums: Vec<_> = scattered.iter().map(|there| delayed(last).call(there)).collect();
    assert_eq!(client.compute(&sums).unwrap(), (0..MANY).collect::<Vec<_>>());
    assert_eq!(client.deaths().unwrap().len(), 0);
}

/// More than memory holds: most of it goes to disk, and comes back.
fn spilled() {
    let dir = directory();
    let builder = Client::builder().workers(2).threads(1).memory_limit("100MB").spill_directory(dir.path());
    let client = builder.shared_memory_limit("1GB").build().unwrap();
    let kept = client.persist(&delayed(small).map(0..MANY)).unwrap();
    let sums: Vec<_> = kept.iter().map(|kept| delayed(last).call(kept)).collect();
    assert_eq!(client.compute(&sums).unwrap(), (0..MANY).collect::<Vec<_>>());
    let moved: u64 = client.memory().unwrap().workers.iter().map(|worker| worker.moved).sum();
    assert!(moved > 50 << 20, "{moved}");
    let values = client.compute(&kept).unwrap();
    assert!(values.iter().zip(0..).all(|(buffer, i)| buffer[0] == i));
    assert_eq!(client.deaths().unwrap().len(), 0);
}

/// The program itself has all of its descriptors but a few.
fn crowded() {
    let client = processes(2, 1);
    limit(open() + 40 + 300);
    let held: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
    let values = client.compute(&delayed(larger).map(0..FEW)).unwrap();
    assert!(values.iter().zip(0..).all(|(buffer, i)| *buffer == larger(i)));
    let kept = client.persist(&delayed(small).map(0..MANY)).unwrap();
    assert_eq!(client.compute(&kept).unwrap().len(), MANY as usize);
    assert_eq!(client.deaths().unwrap().len(), 0);
    drop(held);
}

/// The program has no descriptor left, for a while.
fn robbed() {
    let client = Client::builder().workers(2).threads(1).allowed_deaths(1).build().unwrap();
    limit(open() + 20);
    let held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let futures = client.submit_all(&delayed(larger).map(0..10)).unwrap();
    let values = std::thread::scope(|scope| {
        let gathered = scope.spawn(|| client.gather(&futures));
        until("a worker is replaced", || !client.deaths().unwrap().is_empty());
        drop(held);
        gathered.join().unwrap().unwrap()
    });
    assert!(values.iter().zip(0..).all(|(buffer, i)| *buffer == larger(i)));
}

/// Small values in the workers' own memory, which need no segment.
fn a_hundred_thousand() {
    let client = processes(2, 1);
    let kept = client.persist(&delayed(|i: u64| Buffer::from_slice(&[i; 1_024])).map(0..100_000)).unwrap();
    let first = delayed(|buffer: Buffer<u64>| buffer[0]);
    let sums: Vec<_> = kept.iter().map(|kept| first.call(kept)).collect();
    assert_eq!(client.compute(&sums).unwrap(), (0..100_000).collect::<Vec<_>>());
    let part = client.compute(&kept[..10_000]).unwrap();
    assert!(part.iter().zip(0..).all(|(buffer, i)| buffer[1_023] == i));
    assert_eq!(client.deaths().unwrap().len(), 0);
}

pub(crate) fn play_role(role: &str) {
    let (what, most) = role.split_once(' ').unwrap();
    match most.parse().unwrap() {
        0 => {}
        most => limit(most),
    }
    match what {
        "everything" => everything(),
        "spilled" => spilled(),
        "crowded" => crowded(),
        "robbed" => robbed(),
        "hundred-thousand" => a_hundred_thousand(),
        other => panic!("{other}"),
    }
    say("well");
}

fn plays(what: &str, most: u64) {
    let _clean = Clean::start();
    assert_eq!(play(role("roles", &format!("few descriptors: {what} {most}"))), ["well"]);
}

#[test]
fn thousands_of_small_values_with_256_descriptors() {
    plays("everything", 256);
}

#[test]
fn thousands_of_small_values_with_1024_descriptors() {
    plays("everything", 1024);
}

#[test]
fn thousands_of_small_values_of_another_user() {
    let _clean = Clean::start();
    let dir = directory();
    let Some(command) = permitted::role_as_another_user(&dir, "roles", "few descriptors: everything 256") else {
        return permitted::skip("no process can be started as another user");
    };
    assert_eq!(play(command), ["well"]);
}

#[test]
fn thousands_of_small_values_that_are_spilled() {
    plays("spilled", 256);
}

#[test]
fn a_program_that_has_used_most_of_its_descriptors() {
    plays("crowded", 0);
}

#[test]
fn a_program_without_any_descriptor_left_blames_no_task() {
    plays("robbed", 0);
}

#[test]
fn a_hundred_thousand_kept_results_with_1024_descriptors() {
    plays("hundred-thousand", 1024);
}
