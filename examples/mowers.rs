//! One lawn, one to n mowers: the sum of a long list, made and added up in chunks, with more and more workers.
//!
//! ```text
//! cargo run --release --example mowers
//! cargo run --release --example mowers -- --workers 4 --items 50000000 --chunk 500000
//! cargo run --release --example mowers -- --mode threads
//! ```
//!
//! Each chunk of the list is a `Buffer`: numbers that stay where they were made, and are looked at without a copy. Only
//! one number per chunk, its sum, comes back. The time of a plain loop in this process stands beside the others, to
//! show what the workers cost and what they gain.

#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::Look;
use swath::status::Mode;
use swath::{Buffer, Client, Delayed, delayed};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "\
usage: mowers [--mode threads|processes] [--workers N] [--items N] [--chunk N]
  --mode     what the workers are: threads of this process, or processes (default)
  --workers  try one worker, two, … up to N (default: one for each processor)
  --items    length of the list (default 16000000)
  --chunk    length of a chunk (default 250000)
  --progress, --record FILE, --report FILE, --graph FILE   to see what it does";

struct Options {
    threads: bool,
    workers: usize,
    items: u64,
    chunk: u64,
    look: Look,
}

impl Options {
    fn parse() -> Result<Self> {
        use lexopt::prelude::*;
        let (look, args) = Look::from_args()?;
        let mut options = Self {
            threads: false,
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            items: 16_000_000,
            chunk: 250_000,
            look,
        };
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("mode") => {
                    options.threads = match parser.value()?.string()?.as_str() {
                        "threads" => true,
                        "processes" => false,
                        other => return Err(format!("--mode is threads or processes, not `{other}`").into()),
                    }
                }
                Long("workers") => options.workers = parser.value()?.parse()?,
                Long("items") => options.items = parser.value()?.parse()?,
                Long("chunk") => options.chunk = parser.value()?.parse()?,
                Short('h') | Long("help") => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
            }
        }
        if options.workers == 0 || options.items == 0 || options.chunk == 0 {
            return Err("--workers, --items and --chunk must be at least 1".into());
        }
        Ok(options)
    }

    /// First item and length of each chunk.
    fn chunks(&self) -> impl Iterator<Item = (u64, u64)> {
        let (items, chunk) = (self.items, self.chunk);
        (0..items.div_ceil(chunk)).map(move |i| (i * chunk, chunk.min(items - i * chunk)))
    }
}

/// Item number `i` of the list: a hash, stirred long enough that a blade of grass is some work.
fn item(i: u64) -> u64 {
    let mut x = i;
    for _ in 0..16 {
        x = (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    x >> 32
}

fn grow(first: u64, len: u64) -> Buffer<u64> {
    Buffer::from_fn(len as usize, |i| item(first + i as u64))
}

fn mow(chunk: Buffer<u64>) -> u64 {
    chunk.iter().sum()
}

/// The sum of the list as a plain loop makes it.
fn by_hand(options: &Options) -> (u64, Duration) {
    let started = Instant::now();
    let sum = options.chunks().map(|(first, len)| mow(grow(first, len))).sum();
    (sum, started.elapsed())
}

fn with_workers(workers: usize, options: &Options) -> Result<(u64, Duration)> {
    let look = options.look.numbered(workers);
    let client = if options.threads {
        look.client(Client::builder().mode(Mode::Threads).threads(workers))?
    } else {
        let builder = Client::builder().workers(workers).threads(1).memory_limit("1GB");
        let client = look.client(builder)?;
        client.wait_for_workers(workers, Duration::from_secs(30))?; // so that their start is not part of the race
        client
    };
    let _report = look.report(&client);
    println!("{client}");

    let started = Instant::now();
    let sums = options.chunks().map(|(first, len)| delayed(grow).call(first, len).map(mow));
    let sum = sums.sum::<Delayed<u64>>();
    look.draw(&sum)?;
    let sum = sum.compute(&client)?;
    Ok((sum, started.elapsed()))
}

fn run() -> Result {
    let options = Options::parse()?;
    let (wanted, alone) = by_hand(&options);
    println!("a plain loop: {alone:.1?}\n");

    let mut first = None;
    for workers in 1..=options.workers {
        let (sum, took) = with_workers(workers, &options)?;
        if sum != wanted {
            return Err(format!("{workers} worker(s): the sum is {sum}, wanted {wanted}").into());
        }
        let first = *first.get_or_insert(took);
        let faster = first.as_secs_f64() / took.as_secs_f64();
        println!("  {took:.1?}, {faster:.2} times as fast as one worker\n");
    }
    println!("sum of {} items: {wanted}", options.items);
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mowers: {error}");
            ExitCode::FAILURE
        }
    }
}
