//! Mixed graphs with known results, while workers are killed, stopped, filled, restarted and scaled, and clients come and
//! go. It prints its seed; with that in `SWATH_SOAK_SEED` the same graphs meet the same faults in the same order. For a
//! long run set `SWATH_SOAK_SECONDS`.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says its seed")]

mod common;

use common::*;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use swath::{Buffer, BufferMut, Cause, Client, Delayed, Future, current_client, delayed};

const KIB: usize = 1 << 10;

struct Rng(u64);

impl Rng {
    /// Splitmix64 (Steele, Lea and Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A block of which every page is written to.
fn block(kib: usize, seed: u64) -> Buffer<u64> {
    let mut values = BufferMut::zeroed(kib * KIB / 8).unwrap();
    for (i, page) in values.chunks_mut(512).enumerate() {
        page[i % 512] = seed.wrapping_mul(0x9e37_79b9).wrapping_add(i as u64) | 1;
    }
    values.freeze()
}

fn checksum(values: Buffer<u64>) -> u64 {
    values.chunks(512).enumerate().fold(7, |sum, (i, page)| (sum ^ page[i % 512]).wrapping_mul(0x0100_0000_01b3))
}

fn words(n: usize, seed: u64) -> Vec<String> {
    (0..n as u64).map(|i| format!("{:x}", i.wrapping_mul(seed))).collect()
}

fn letters(parts: Vec<Vec<String>>) -> u64 {
    parts.iter().flatten().map(|word| word.len() as u64).sum()
}

fn mix(a: u64, b: u64) -> u64 {
    std::thread::sleep(Duration::from_micros(300));
    (a ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

fn nested(n: u64) -> u64 {
    let client = current_client().unwrap();
    let squares = client.compute(&delayed(|x: u64| x * x).map(0..n)).unwrap();
    squares.iter().sum()
}

/// Takes far more than a worker has.
fn glutton(mib: usize) -> usize {
    let mut held = Vec::new();
    while held.len() < mib {
        held.push(vec![1_u8; 1 << 20]);
    }
    held.len()
}

/// A graph whose result is known beforehand.
struct Work {
    future: Future<u64>,
    wanted: u64,
    what: String,
}

impl Work {
    fn submit(client: &Client, rng: &mut Rng, kept: &[(Delayed<Buffer<u64>>, u64)]) -> Self {
        let seed = rng.next();
        let (lazy, wanted, what) = match rng.below(5) {
            0 => {
                let n = 8 + rng.below(24);
                let sums = (0..n as u64).map(|i| delayed(checksum).call(delayed(block).call(1024_usize, seed ^ i)));
                let sums: Vec<_> = sums.collect();
                let wanted = (0..n as u64).fold(0, |sum: u64, i| sum.wrapping_add(checksum(block(1024, seed ^ i))));
                let total = delayed(|xs: Vec<u64>| xs.iter().fold(0, |a: u64, b| a.wrapping_add(*b))).call(sums);
                (total, wanted, format!("sums of {n} blocks"))
            }
            1 => {
                let n = 20 + rng.below(200) as u64;
                let mut lazy = delayed(mix).call(seed, 0_u64);
                let mut wanted = mix(seed, 0);
                for i in 1..n {
                    lazy = delayed(mix).call(lazy, i);
                    wanted = mix(wanted, i);
                }
                (lazy, wanted, format!("a chain of {n}"))
            }
            2 => {
                let n = 4 + rng.below(8);
                let parts: Vec<_> = (0..n as u64).map(|i| delayed(words).call(2000_usize, seed ^ i)).collect();
                let wanted = letters((0..n as u64).map(|i| words(2000, seed ^ i)).collect());
                (delayed(letters).call(parts), wanted, format!("words in {n} parts"))
            }
            3 => {
                let n = 1 + rng.below(40) as u64;
                (delayed(nested).call(n), (0..n).map(|x| x * x).sum(), format!("{n} tasks of a task"))
            }
            _ => {
                let sums: Vec<_> = kept.iter().map(|(block, _)| delayed(checksum).call(block)).collect();
                let wanted = kept.iter().fold(0, |sum: u64, (_, wanted)| sum.wrapping_add(*wanted));
                let total = delayed(|xs: Vec<u64>| xs.iter().fold(0, |a: u64, b| a.wrapping_add(*b))).call(sums);
                (total, wanted, format!("sums of {} blocks that are kept", kept.len()))
            }
        };
        Self { future: client.submit(&lazy).unwrap(), wanted, what }
    }
}

/// Does some harm; answers with what it was.
fn harm(client: &Client, rng: &mut Rng) -> String {
    let pids = pids(client);
    let victim = pids.get(rng.below(pids.len().max(1))).copied();
    match (rng.below(9), victim) {
        (0, Some(pid)) => send_signal(pid, Signal::SIGKILL),
        (1, Some(pid)) => send_signal(pid, Signal::SIGSEGV),
        (2, Some(pid)) => send_signal(pid, Signal::SIGSTOP),
        (3, _) => {
            let error = client.compute(&delayed(glutton).call(2000_usize)).unwrap_err();
            let cause = error.task().unwrap_or_else(|| panic!("{error}")).cause().clone();
            assert!(matches!(cause, Cause::MemoryLimit { .. }), "{error}");
            return "a worker was filled".to_string();
        }
        (4, _) => {
            client.restart().unwrap();
            return "all were restarted".to_string();
        }
        (5, _) => {
            let n = 1 + rng.below(3);
            client.scale(n).unwrap();
            return format!("there are to be {n}");
        }
        (6, _) => {
            let futures: Vec<Future<u64>> =
                (0..20_u64).map(|x| client.submit(&delayed(mix).call(x, x)).unwrap()).collect();
            futures.iter().take(10).for_each(|future| client.cancel(future));
            return "some work was cancelled and some dropped".to_string();
        }
        (7, _) => {
            let other = Client::local(1, 1, "100MB").unwrap();
            let _work = other.submit(&delayed(mix).call(1_u64, 2_u64)).unwrap();
            return "another client came and went".to_string();
        }
        _ => return "nothing happened".to_string(),
    }
    format!("process {victim:?} got a signal")
}

fn soak(seed: u64, length: Duration) {
    eprintln!("SWATH_SOAK_SEED={seed}");
    let mut rng = Rng(seed);
    let client = Client::builder()
        .workers(2)
        .threads(2)
        .memory_limit("100MB")
        .allowed_deaths(1000)
        .worker_timeout(Duration::from_millis(400))
        .forward_output(false)
        .build()
        .unwrap();
    // More than fits into the memory of two workers.
    let kept: Vec<(Delayed<Buffer<u64>>, u64)> = (0..40_u64)
        .map(|i| (client.persist(&delayed(block).call(4096_usize, i)).unwrap(), checksum(block(4096, i))))
        .collect();
    let began = Instant::now();
    let mut rounds = 0;
    while began.elapsed() < length {
        rounds += 1;
        let works: Vec<_> = (0..1 + rng.below(4)).map(|_| Work::submit(&client, &mut rng, &kept)).collect();
        let mut harms = Vec::new();
        for _ in 0..rng.below(3) {
            harms.push(harm(&client, &mut rng));
        }
        for Work { future, wanted, what } in works {
            let context = || format!("seed {seed}, round {rounds}: {what}, after {harms:?}");
            match future.result_timeout(2 * LONG) {
                Ok(found) => assert_eq!(found, wanted, "{}", context()),
                Err(e) => panic!("{}: {e}; {:?}; {}", context(), client.explain(&future), client.memory().unwrap()),
            }
        }
    }
    assert!(rounds > 1, "{rounds}");
    let memory = client.memory().unwrap();
    eprintln!("{rounds} rounds, {} deaths in the list\n{memory}", client.deaths().unwrap().len());
    drop(kept);
    until("nothing is kept", || {
        let memory = client.memory().unwrap();
        memory.workers.iter().all(|w| w.managed == 0 && w.spilled == 0)
    });
}

#[test]
fn results_are_right_whatever_happens() {
    let _clean = Clean::start();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SWATH_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    soak(seed, Duration::from_secs(number("SWATH_SOAK_SECONDS").unwrap_or(5)));
}

/// Writes `n` blocks to a file and reads them back, as plainly as it can be done.
fn bare_disk(directory: &std::path::Path, n: u64, kib: usize) -> (Duration, Duration) {
    use std::os::unix::fs::FileExt;
    let mut file = tempfile::tempfile_in(directory).unwrap();
    let bytes = kib * KIB;
    let began = Instant::now();
    let mut contents = vec![0_u8; bytes];
    for i in 0..n {
        contents.iter_mut().step_by(4096).for_each(|b| *b = i as u8);
        std::io::Write::write_all(&mut file, &contents).unwrap();
    }
    let written = began.elapsed();
    let began = Instant::now();
    for i in 0..n {
        file.read_exact_at(&mut contents, i * bytes as u64).unwrap();
        assert!(contents.iter().step_by(4096).all(|b| *b == i as u8));
    }
    (written, began.elapsed())
}

/// The size and the sizes of the workers are those of the out-of-core workload, twice over.
#[test]
#[ignore = "takes 16 GiB of disk and some minutes: run it by hand"]
fn eight_gigabytes_go_through_two_workers_of_one() {
    let _clean = Clean::start();
    let directory = std::env::var("SWATH_SOAK_DIRECTORY").unwrap_or_else(|_| "/var/tmp".to_string());
    let (n, kib) = (256, 32 * KIB);
    let (wrote, read) = bare_disk(directory.as_ref(), n, kib);
    let client =
        Client::builder().workers(2).threads(1).memory_limit("1GiB").spill_directory(&directory).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let watch = || client.memory().unwrap().workers.iter().map(|w| w.process()).max().unwrap();
    let mut most = 0;
    let began = Instant::now();
    let blocks: Vec<_> = (0..n).map(|i| delayed(block).call(kib, i)).collect();
    let kept = client.submit_all(&blocks).unwrap();
    while !kept.iter().all(Future::is_done) {
        most = most.max(watch());
        std::thread::sleep(Duration::from_millis(2));
    }
    let persisted = began.elapsed();
    eprintln!("{}", client.memory().unwrap());
    let began = Instant::now();
    let sums: Vec<_> = client.submit_all(&kept.iter().map(|b| delayed(checksum).call(b)).collect::<Vec<_>>()).unwrap();
    while !sums.iter().all(Future::is_done) {
        most = most.max(watch());
        std::thread::sleep(Duration::from_millis(2));
    }
    let summed = began.elapsed();
    let sums = client.gather(&sums).unwrap();
    for (i, sum) in (0..n).zip(&sums) {
        assert_eq!(*sum, checksum(block(kib, i)), "block {i}");
    }
    assert_eq!(client.deaths().unwrap(), []);
    eprintln!(
        "bare disk: written in {wrote:.1?}, read in {read:.1?}; swath: persisted in {persisted:.1?}, summed in {summed:.1?}; \
         at most {} MiB in a worker",
        most >> 20
    );
    assert!(most < 1 << 30, "{most}");
    assert!(persisted + summed < 2 * (wrote + read), "it takes at most twice as long as the disk alone");
}
