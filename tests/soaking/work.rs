//! Graphs whose results are known beforehand.

use super::faults::Rng;
use crate::common::LONG;
use std::time::Duration;
use swath::{Bag, Buffer, BufferMut, Cause, Client, Delayed, Error, Future, current_client, delayed};

const KIB: usize = 1 << 10;

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

pub fn mix(a: u64, b: u64) -> u64 {
    std::thread::sleep(Duration::from_micros(300));
    (a ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

fn nested(n: u64) -> u64 {
    let client = current_client().unwrap();
    let squares = client.compute(&delayed(|x: u64| x * x).map(0..n)).unwrap();
    squares.iter().sum()
}

fn total(sums: Vec<u64>) -> u64 {
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// Takes far more than a worker has.
fn glutton(mib: usize) -> usize {
    let mut held = Vec::new();
    while held.len() < mib {
        held.push(vec![1_u8; 1 << 20]);
    }
    held.len()
}

/// A result that stays, and its checksum.
pub type Kept = (Delayed<Buffer<u64>>, u64);

/// So many blocks of 4 MiB.
pub fn keep(client: &Client, n: u64) -> Result<Vec<Kept>, Error> {
    (0..n).map(|i| Ok((client.persist(&delayed(block).call(4096_usize, i))?, checksum(block(4096, i))))).collect()
}

/// Fills a worker, whose task must fail for that reason.
pub fn fill(client: &Client) -> Result<(), Error> {
    let error = client.compute(&delayed(glutton).call(2000_usize)).unwrap_err();
    match error.task().map(|task| task.cause()) {
        Some(Cause::MemoryLimit { .. }) => Ok(()),
        _ => Err(error),
    }
}

/// Whether the reason is that the client's cluster has gone.
pub fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Closed { .. }) || error.task().is_some_and(|t| matches!(t.cause(), Cause::Closed { .. }))
}

pub struct Work {
    future: Future<u64>,
    wanted: u64,
    what: String,
}

impl Work {
    pub fn submit(client: &Client, rng: &mut Rng, kept: &[Kept]) -> Result<Self, Error> {
        let seed = rng.next();
        let (lazy, wanted, what) = match rng.below(7) {
            0 => {
                let n = 8 + rng.below(24) as u64;
                let sums: Vec<_> =
                    (0..n).map(|i| delayed(checksum).call(delayed(block).call(1024_usize, seed ^ i))).collect();
                let wanted = total((0..n).map(|i| checksum(block(1024, seed ^ i))).collect());
                (delayed(total).call(sums), wanted, format!("sums of {n} blocks"))
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
                let n = 4 + rng.below(8) as u64;
                let parts: Vec<_> = (0..n).map(|i| delayed(words).call(2000_usize, seed ^ i)).collect();
                let wanted = letters((0..n).map(|i| words(2000, seed ^ i)).collect());
                (delayed(letters).call(parts), wanted, format!("words in {n} parts"))
            }
            3 => {
                let n = 1 + rng.below(40) as u64;
                (delayed(nested).call(n), (0..n).map(|x| x * x).sum(), format!("{n} tasks of a task"))
            }
            4 => {
                let n = 1 + rng.below(3) as u64;
                let mine = (0..n).map(|i| client.scatter(block(512, seed ^ i))).collect::<Result<Vec<_>, _>>()?;
                let sums: Vec<_> = mine.iter().map(|block| delayed(checksum).call(block)).collect();
                let wanted = total((0..n).map(|i| checksum(block(512, seed ^ i))).collect());
                (delayed(total).call(sums), wanted, format!("sums of {n} blocks of the client's"))
            }
            5 => {
                let n = 1000 + rng.below(20_000) as i64;
                let groups = Bag::range(0..n, 6).groupby(|x| x % 101, 4);
                let sizes = groups.map(|(key, group)| group.len() as u64 * (key as u64 + 1)).sum();
                let wanted = (0..n).map(|x| x as u64 % 101 + 1).sum();
                (sizes, wanted, format!("{n} numbers in groups"))
            }
            _ => {
                let sums: Vec<_> = kept.iter().map(|(block, _)| delayed(checksum).call(block)).collect();
                let wanted = total(kept.iter().map(|(_, wanted)| *wanted).collect());
                (delayed(total).call(sums), wanted, format!("sums of {} blocks that are kept", kept.len()))
            }
        };
        Ok(Self { future: client.submit(&lazy)?, wanted, what })
    }

    /// Waits for the result, which must be right. An error is that of a cluster that has gone; any other is a failure.
    pub fn check(self, client: &Client, context: &str) -> Result<(), Error> {
        match self.future.result_timeout(2 * LONG) {
            Ok(found) => assert_eq!(found, self.wanted, "{}: {context}", self.what),
            Err(error) if is_lost(&error) => return Err(error),
            Err(error) => {
                let (state, memory) = (client.explain(&self.future), client.memory());
                panic!("{}: {context}: {error}; {state:?}; {memory:?}", self.what)
            }
        }
        Ok(())
    }
}
