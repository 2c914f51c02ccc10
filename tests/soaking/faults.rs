//! What goes wrong, and in which order.

use crate::common::send_signal;
use nix::sys::signal::Signal;
use std::time::Duration;

pub struct Rng(pub u64);

impl Rng {
    /// Splitmix64 (Steele, Lea and Flood 2014).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// One of these. Draws one number, also where there is nothing to choose from, so that what follows does not depend on it.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let n = self.next();
        all.get((n % all.len().max(1) as u64) as usize).copied()
    }
}

/// Faults in random order, each once before any comes again.
pub struct Deck<F: 'static> {
    all: &'static [F],
    left: Vec<F>,
    pub rounds: usize,
}

impl<F: Copy> Deck<F> {
    pub fn new(all: &'static [F]) -> Self {
        Self { all, left: all.to_vec(), rounds: 0 }
    }

    pub fn draw(&mut self, rng: &mut Rng) -> F {
        let fault = self.left.swap_remove(rng.below(self.left.len()));
        if self.left.is_empty() {
            self.left = self.all.to_vec();
            self.rounds += 1;
        }
        fault
    }
}

/// Lets some time pass between two faults.
pub fn pause(rng: &mut Rng) {
    std::thread::sleep(Duration::from_micros(rng.below(20_000) as u64));
}

/// For a tenth of a second, a process gets the processor for a third of the time.
pub fn slow_down(pid: u32) {
    for _ in 0..7 {
        send_signal(pid, Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(10));
        send_signal(pid, Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(5));
    }
}
