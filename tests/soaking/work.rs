//! Graphs whose results are known beforehand.

use super::faults::Rng;
use crate::common::{LONG, comes_true};
use std::io::{Write, stderr, stdout};
use std::time::Duration;
use swath::buffer::BufferMut;
use swath::error::Cause;
use swath::{Bag, Buffer, Client, Delayed, Error, Future, current_client, delayed, try_delayed};

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

/// A buffer that is one of thousands: 66 or 80 kB.
fn small(seed: u64) -> Buffer<u64> {
    let n = if seed.is_multiple_of(2) { 8_250 } else { 10_000 };
    let mut values = BufferMut::zeroed(n).unwrap();
    values.fill(seed);
    values.freeze()
}

/// That all of a small buffer is right, and its first number.
fn ends(values: Buffer<u64>) -> u64 {
    if values[..] == small(values[0])[..] { values[0] } else { 0 }
}

fn fails(x: u64) -> Result<u64, String> {
    Err(refusal(x))
}

fn refusal(x: u64) -> String {
    format!("{x:x} is refused")
}

/// Ends when it is cancelled, and not before.
fn waits(x: u64) -> u64 {
    comes_true(4 * LONG, swath::cancelled);
    x
}

/// Prints lines, text without ends of lines, or much.
fn prints(how: u64, x: u64) -> u64 {
    let line = format!("{x:x}\n");
    let text = match how % 4 {
        0 => line,
        1 => line.repeat(100),
        2 => ".".repeat(100),
        _ => line.repeat((128 << 10) / line.len()),
    };
    stdout().write_all(text.as_bytes()).unwrap();
    if how.is_multiple_of(3) {
        stderr().write_all(text.as_bytes()).unwrap();
    }
    x.rotate_left(7)
}

/// Takes far more than a worker has.
fn glutton(mib: usize) -> usize {
    let mut held = Vec::new();
    while held.len() < mib {
        held.push(vec![1_u8; 1 << 20]);
    }
    held.len()
}

/// Results that stay.
#[derive(Default)]
pub struct Kept {
    /// Blocks, and their checksums.
    blocks: Vec<(Delayed<Buffer<u64>>, u64)>,
    /// What failed, and how.
    failures: Vec<(Future<u64>, String)>,
}

impl Kept {
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// So many blocks of 4 MiB, and some hundred failures.
pub fn keep(client: &Client, n: u64) -> Result<Kept, Error> {
    let kept = |i| Ok((client.persist(&delayed(block).call(4096_usize, i))?, checksum(block(4096, i))));
    let failed = |i| Ok((client.submit(&try_delayed(fails).pure().call(i))?, refusal(i)));
    let blocks = (0..n).map(kept).collect::<Result<_, Error>>()?;
    Ok(Kept { blocks, failures: (0..300).map(failed).collect::<Result<_, Error>>()? })
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

/// How a task is to end.
#[derive(Debug)]
enum Wanted {
    Value(u64),
    Failure(String),
    Cancelled,
}

use Wanted::*;

pub struct Work {
    futures: Vec<(Future<u64>, Wanted)>,
    what: String,
}

impl Work {
    pub fn submit(client: &Client, rng: &mut Rng, kept: &Kept) -> Result<Self, Error> {
        let seed = rng.next();
        let (lazy, wanted, what) = match rng.below(11) {
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
            6 => {
                let n = 10 + rng.below(40) as u64;
                let parts: Vec<_> = (0..n).map(|i| delayed(prints).call(seed ^ i, i)).collect();
                let wanted = total((0..n).map(|i| i.rotate_left(7)).collect());
                (delayed(total).call(parts), wanted, format!("{n} tasks that print"))
            }
            7 => {
                let n = 1000 + rng.below(500) as u64;
                let ends: Vec<_> = (1..=n).map(|i| delayed(ends).call(delayed(small).call(i))).collect();
                (delayed(total).call(ends), n * (n + 1) / 2, format!("{n} small buffers"))
            }
            8 => return Self::chain(client, rng),
            9 => return Self::failures(client, rng, kept),
            _ => {
                let sums: Vec<_> = kept.blocks.iter().map(|(block, _)| delayed(checksum).call(block)).collect();
                let wanted = total(kept.blocks.iter().map(|(_, wanted)| *wanted).collect());
                (delayed(total).call(sums), wanted, format!("sums of {} blocks that are kept", kept.blocks.len()))
            }
        };
        Ok(Self { futures: vec![(client.submit(&lazy)?, Value(wanted))], what })
    }

    /// A chain of futures, of which one link may fail or be cancelled: what comes before is right, and what comes after ends
    /// as that link does.
    fn chain(client: &Client, rng: &mut Rng) -> Result<Self, Error> {
        let (n, seed) = (10 + rng.below(100), rng.next());
        let (bad, how) = (rng.below(n), rng.below(3));
        let mut last = client.submit(&delayed(mix).call(seed, 0_u64))?;
        let mut right = mix(seed, 0);
        let mut futures = vec![(last.clone(), Value(right))];
        let (mut broken, mut cancelled) = (None, None);
        for i in 1..=n {
            let lazy = match how {
                1 if i == bad => {
                    broken = Some(refusal(right));
                    try_delayed(fails).call(&last)
                }
                2 if i == bad => delayed(waits).call(&last),
                _ => delayed(mix).call(&last, i as u64),
            };
            last = client.submit(&lazy)?;
            if how == 2 && i == bad {
                cancelled = Some(last.clone());
            }
            right = mix(right, i as u64);
            let wanted = match (&broken, &cancelled) {
                (Some(text), _) => Failure(text.clone()),
                (_, Some(_)) => Cancelled,
                _ => Value(right),
            };
            futures.push((last.clone(), wanted));
        }
        cancelled.iter().for_each(|future| client.cancel(future));
        Ok(Self { futures, what: format!("a chain of {n} futures, with end {how} at {bad}") })
    }

    /// Failures that are held, what needs them, and calls equal to them, which fail by themselves.
    fn failures(client: &Client, rng: &mut Rng, kept: &Kept) -> Result<Self, Error> {
        let some = (0..50).map(|_| &kept.failures[rng.below(kept.failures.len())]).collect::<Vec<_>>();
        let mut futures: Vec<_> = some.iter().map(|(future, text)| (future.clone(), Failure(text.clone()))).collect();
        for (i, (future, text)) in (0..).zip(&some) {
            let lazy = if i % 2 == 0 { delayed(mix).call(future, i) } else { delayed(mix).call(i, future) };
            futures.push((client.submit(&lazy)?, Failure(text.clone())));
        }
        let again = rng.below(300) as u64;
        futures.push((client.submit(&try_delayed(fails).pure().call(again))?, Failure(refusal(again))));
        Ok(Self { futures, what: format!("{} failures", kept.failures.len()) })
    }

    /// Waits for the results, which must be right. An error that is not wanted is that of a cluster that has gone; any other
    /// is a failure.
    pub fn check(self, client: &Client, context: &str) -> Result<(), Error> {
        for (future, wanted) in self.futures {
            let right = match (future.result_timeout(2 * LONG), &wanted) {
                (Ok(found), Value(wanted)) => found == *wanted,
                (Err(error), Failure(text)) if !is_lost(&error) => {
                    error.task().and_then(|task| task.downcast::<String>()).as_ref() == Some(text)
                }
                (Err(error), Cancelled) if error.is_cancelled() => true,
                (Err(error), _) if is_lost(&error) => return Err(error),
                _ => false,
            };
            if !right {
                let (found, state, memory) = (future.result_timeout(LONG), client.explain(&future), client.memory());
                panic!("{}: {context}: {found:?}, not {wanted:?}; {state:?}; {memory:?}", self.what)
            }
        }
        Ok(())
    }
}
