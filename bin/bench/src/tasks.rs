//! What the tasks do.

use std::hint::black_box;
use std::time::{Duration, Instant};
use swath::Buffer;

pub(crate) fn inc(x: u64) -> u64 {
    x + 1
}

pub(crate) fn add(x: u64, y: u64) -> u64 {
    x + y
}

pub(crate) fn merge(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

pub(crate) fn sleep_inc(x: u64, micros: u64) -> u64 {
    std::thread::sleep(Duration::from_micros(micros));
    x + 1
}

pub(crate) fn slow_pid() -> u32 {
    std::thread::sleep(Duration::from_millis(2));
    std::process::id()
}

pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// Work for the processor, so many rounds of it. Each round needs the one before, so the compiler can shorten nothing.
pub(crate) fn spin(rounds: u64) {
    let mut x = black_box(rounds) | 1;
    for _ in 0..rounds {
        x = (x ^ (x >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    black_box(x);
}

pub(crate) fn stencil(rounds: u64, inputs: Vec<u64>) -> u64 {
    spin(rounds);
    (1 + inputs.iter().sum::<u64>()) % 1_000_003
}

/// Nanoseconds that one round of [`spin`] takes where nothing disturbs it.
pub(crate) fn spin_cost() -> f64 {
    let cost = |rounds: u64| {
        let once = |_| {
            let start = Instant::now();
            spin(rounds);
            start.elapsed().as_secs_f64() * 1e9
        };
        (0..50).map(once).fold(f64::MAX, f64::min)
    };
    (cost(110_000) - cost(10_000)) / 100_000.0
}

pub(crate) fn make_array(n: u64, k: u64) -> Buffer<f64> {
    Buffer::from_fn(n as usize, |i| (i as u64 % 1000 + k) as f64)
}

pub(crate) fn sum_of(values: &[f64]) -> f64 {
    // Eight running sums: one alone would wait for each addition. All values are integers, so the order is no matter.
    let (chunks, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

pub(crate) fn array_sum(values: Buffer<f64>) -> f64 {
    sum_of(&values)
}

/// The sum of an array of twice the numbers, without that array.
pub(crate) fn twice_array_sum(values: Buffer<f64>) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += 2.0 * x);
    }
    sums.iter().sum::<f64>() + rest.iter().map(|x| 2.0 * x).sum::<f64>()
}

/// What [`array_sum`] gives for [`make_array`].
pub(crate) fn array_sum_expected(n: u64, k: u64) -> f64 {
    let (full, rest) = (n / 1000, n % 1000);
    (full * 499_500 + rest * rest.saturating_sub(1) / 2 + k * n) as f64
}

/// Keeps what needs it waiting until nobody wants it any more.
pub(crate) fn gate() -> u64 {
    while !swath::cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_as_expected() {
        for (n, k) in [(0, 3), (1, 0), (999, 1), (1000, 0), (12_345, 7)] {
            assert_eq!(array_sum(make_array(n, k)), array_sum_expected(n, k), "{n} {k}");
            assert_eq!(twice_array_sum(make_array(n, k)), 2.0 * array_sum_expected(n, k), "{n} {k}");
        }
    }

    #[test]
    fn a_stencil_counts_its_inputs() {
        assert_eq!(stencil(10, vec![]), 1);
        assert_eq!(stencil(0, vec![1_000_002, 3]), 3);
    }
}
