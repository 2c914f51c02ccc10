//! How many bytes and how much time a recorded run takes, and how long it takes to open and read a log of a million runs:
//! `cargo run --release -p swath-insight --example log_speed`.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use swath_insight::log::{Head, Outcome, Run, SavedLog, Writer};

const RUNS: u64 = 1_000_000;

/// Numbers that look random, always the same.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

/// What eight threads of four workers run, each for so many nanoseconds, more or less.
fn runs(took: u64, names: usize, sizes: bool, measured: bool) -> Vec<Run> {
    let mut numbers = Numbers(1);
    let names: Vec<Arc<str>> = (0..names).map(|i| format!("function_{i}").into()).collect();
    let workers: Vec<Arc<str>> = (0..4).map(|i| format!("worker-{i}").into()).collect();
    let mut free = [0_u64; 8];
    (0..RUNS)
        .map(|i| {
            // Each worker's runs come in batches, as a drained ring gives them.
            let thread = ((i / 256 % 4) * 2 + i % 2) as usize;
            let start = free[thread] + 800 + numbers.below(1_500);
            let length = took + numbers.below(took / 10 + 1);
            free[thread] = start + length;
            let name = &names[numbers.below(names.len() as u64) as usize];
            let mut run =
                Run::new(name.clone(), numbers.next(), workers[thread / 2].clone(), Duration::from_nanos(start));
            (run.graph, run.task, run.thread) = ((i / 500_000) as u32, i as u32, (thread % 2) as u16);
            run.ended(Duration::from_nanos(start + length), Outcome::Finished);
            if measured {
                run.ready = Some(Duration::from_nanos(start.saturating_sub(5_000_000 + numbers.below(100_000))));
                run.assigned = Some(Duration::from_nanos(start.saturating_sub(1_000_000 + numbers.below(20_000))));
                run.submitted = Some(Duration::ZERO);
            }
            if measured && length >= 100_000 {
                run.cpu = Some(Duration::from_nanos(length - numbers.below(2_000)));
            }
            if sizes {
                run.bytes_in = Some(numbers.below(100_000));
                run.bytes_out = Some(8 + numbers.below(10_000));
            }
            run
        })
        .collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("runs.swath");
    let mut text = String::new();
    for (what, took, names, sizes, measured) in [
        ("no-ops, as today's rings know them", 300, 1, false, false),
        ("1 ms, as today's rings know them", 1_000_000, 1, false, false),
        ("1 ms, all times, CPU", 1_000_000, 1, false, true),
        ("1 ms, all times, CPU, 20 names, sizes", 1_000_000, 20, true, true),
    ] {
        let runs = runs(took, names, sizes, measured);
        let began = Instant::now();
        let mut writer = Writer::create(&path, &Head::new(env!("CARGO_PKG_VERSION"), SystemTime::now()))?;
        for some in runs.chunks(8_000) {
            some.iter().for_each(|run| writer.run(run));
            if took > 100_000 {
                // As if a second had passed.
                writer.flush()?;
            }
        }
        writer.finish()?;
        let written = began.elapsed();
        let bytes = std::fs::metadata(&path)?.len();

        let began = Instant::now();
        let log = SavedLog::open(&path)?;
        let opened = began.elapsed();
        let began = Instant::now();
        let read = log.runs().collect::<Result<Vec<_>, _>>()?;
        let all = began.elapsed();
        assert!(read == runs, "every run comes back");
        let began = Instant::now();
        let summary = log.summary();
        let summed = began.elapsed();
        assert!(summary.complete && summary.runs == RUNS, "nothing is missing");
        text += &format!(
            "{what:<40} {:>5.1} B a run, {:>4.0} ns a run; opened in {opened:.1?}, all runs read in {all:.0?}, summed up in {summed:.0?}\n",
            bytes as f64 / RUNS as f64,
            written.as_nanos() as f64 / RUNS as f64,
        );
    }
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
