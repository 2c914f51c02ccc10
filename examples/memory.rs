//! What a memory limit does: results that do not fit go to disk, and a task that takes too much fails with a reason.
//!
//! Run it with `cargo run --example memory`. Its output is explained in `docs/MEMORY.md`.

#![allow(clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use support::Look;
use swath::buffer::BufferMut;
use swath::{Buffer, Client, Delayed, delayed};

const MIB: usize = 1 << 20;

/// 32 MiB of numbers, every page of which is written to.
fn block(seed: u64) -> Buffer<u64> {
    let mut values = BufferMut::zeroed(32 * MIB / 8).expect("memory for a block");
    for (i, page) in values.chunks_mut(512).enumerate() {
        page[0] = seed + i as u64;
    }
    values.freeze()
}

fn total(values: Buffer<u64>) -> u64 {
    values.chunks(512).map(|page| page[0]).sum()
}

/// Takes a megabyte at a time, and never stops.
fn glutton() -> usize {
    let mut held = Vec::new();
    loop {
        held.push(vec![1_u8; MIB]);
        if held.len() == usize::MAX {
            return held.len();
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let look = Look::alone()?;
    let client = look.client(Client::builder().workers(2).threads(1).memory_limit("256MiB").forward_output(false))?;
    let _report = look.report(&client);
    client.wait_for_workers(2, std::time::Duration::from_secs(10))?;

    // 1 GiB of results, for two workers that may use half of that together.
    let blocks: Vec<Delayed<Buffer<u64>>> = (0..32).map(|i| delayed(block).call(i)).collect();
    look.draw(&blocks)?;
    let kept = client.persist(&blocks)?;
    let totals: Vec<_> = kept.iter().map(|b| delayed(total).call(b)).collect();
    let sum: u64 = client.compute(&totals)?.iter().sum();
    println!("1 GiB of results add up to {sum}\n\n{}\n", client.memory()?);

    // One task that takes more than a worker has.
    if let Err(e) = client.compute(&delayed(glutton).call()) {
        println!("{e}\n");
    }
    for death in client.deaths()? {
        println!("{death}");
    }

    // What was kept has been computed again where a worker took it along.
    assert_eq!(client.compute(&totals)?.iter().sum::<u64>(), sum);
    println!("\nthe sum is still {sum}");
    Ok(())
}
