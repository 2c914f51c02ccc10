//! What the machine itself needs for the same work, done by the plainest code there is.

use crate::options::Child;
use crate::pattern::Grid;
use crate::process::{Guard, SELF};
use crate::report::{Outcome, require};
use crate::tasks;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::hint::{black_box, spin_loop};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A loop.
pub(crate) fn serial(n: u64) -> Vec<u64> {
    (0..n).map(|x| tasks::inc(black_box(x))).collect()
}

/// New threads that take one number after the other from a counter.
pub(crate) fn threads(n: u64, workers: usize) -> Vec<u64> {
    let results: Vec<AtomicU64> = (0..n).map(|_| AtomicU64::new(0)).collect();
    each(n, workers, |x| results[x as usize].store(tasks::inc(black_box(x)), Ordering::Relaxed));
    results.into_iter().map(AtomicU64::into_inner).collect()
}

/// New threads that take turns to sleep; the sum of what they were to return.
pub(crate) fn sleeps(n: u64, micros: u64, workers: usize) -> u64 {
    let sum = AtomicU64::new(0);
    each(n, workers, |x| {
        sum.fetch_add(tasks::sleep_inc(x, micros), Ordering::Relaxed);
    });
    sum.into_inner()
}

fn each(n: u64, workers: usize, run: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let x = next.fetch_add(1, Ordering::Relaxed);
                    if x >= n {
                        return;
                    }
                    run(x);
                }
            });
        }
    });
}

/// A grid with a fixed thread for each column, and threads that spin until their inputs are done.
pub(crate) fn grid(grid: Grid, workers: usize, rounds: u64) -> Vec<u64> {
    let column = || (AtomicUsize::new(0), (0..grid.steps).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
    let columns: Vec<_> = (0..grid.width).map(|_| column()).collect();
    let input = |step: usize, j: usize| {
        let (done, values) = &columns[j];
        let mut tries = 0_u32;
        while done.load(Ordering::Acquire) < step {
            tries += 1;
            if tries.is_multiple_of(1000) { std::thread::yield_now() } else { spin_loop() }
        }
        values[step - 1].load(Ordering::Relaxed)
    };
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (columns, input) = (&columns, &input);
            scope.spawn(move || {
                let share = worker * grid.width / workers..(worker + 1) * grid.width / workers;
                for step in 0..grid.steps {
                    for i in share.clone().filter(|&i| i < grid.width_at(step)) {
                        let inputs = grid.inputs(step, i).into_iter().map(|j| input(step, j)).collect();
                        columns[i].1[step].store(tasks::stencil(rounds, inputs), Ordering::Relaxed);
                        columns[i].0.store(step + 1, Ordering::Release);
                    }
                }
            });
        }
    });
    columns.iter().map(|(_, values)| values[grid.steps - 1].load(Ordering::Relaxed)).collect()
}

/// A copy into memory that was never used.
pub(crate) fn first_touch(from: &[f64]) -> Vec<f64> {
    from.to_vec()
}

/// Seconds in which so many blocks are written to a file, and read again. With `through`, all of them are on the disk before
/// they are read, and none is in memory any more.
pub(crate) fn disk(directory: &Path, blocks: u64, bytes: usize, through: bool) -> Outcome<(f64, f64)> {
    let mut file = tempfile::tempfile_in(directory)?;
    let mut block = vec![0; bytes];
    let began = Instant::now();
    for i in 0..blocks {
        block.iter_mut().step_by(4096).for_each(|b| *b = i as u8);
        file.write_all(&block)?;
    }
    if through {
        file.sync_data()?;
    }
    let write = began.elapsed().as_secs_f64();
    if through {
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    let began = Instant::now();
    for i in 0..blocks {
        file.read_exact_at(&mut block, i * bytes as u64)?;
        require(block.iter().step_by(4096).all(|b| *b == i as u8), "what was written")?;
    }
    Ok((write, began.elapsed().as_secs_f64()))
}

/// A thread that sleeps until it is given a number.
pub(crate) struct Thread {
    cell: Arc<Cell>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Cell {
    /// Given to the thread, or answered by it; 0 is neither.
    given: AtomicU64,
    answer: AtomicU64,
    end: AtomicBool,
}

impl Thread {
    pub(crate) fn start() -> Outcome<Self> {
        let cell = Arc::new(Cell::default());
        let (there, caller) = (Arc::clone(&cell), std::thread::current());
        let serve = move || {
            while !there.end.load(Ordering::Acquire) {
                match there.given.swap(0, Ordering::AcqRel) {
                    0 => std::thread::park(),
                    x => {
                        there.answer.store(x + 1, Ordering::Release);
                        caller.unpark();
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().spawn(serve)?;
        Ok(Self { cell, thread: Some(thread) })
    }

    /// To be called by the thread that started this.
    pub(crate) fn inc(&mut self, x: u64) -> Outcome<u64> {
        // Zero means nothing here, so all numbers are one larger on their way.
        self.cell.given.store(x + 1, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        loop {
            match self.cell.answer.swap(0, Ordering::AcqRel) {
                0 => std::thread::park(),
                answer => return Ok(answer - 1),
            }
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.cell.end.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic.
            let _ = thread.join();
        }
    }
}

/// A number, and room for what a future needs.
pub(crate) type Message = Arc<(AtomicU64, [u64; 12])>;

/// A number and room for what a future is for, each made for itself, given to another thread and answered by it; all of
/// them when they are answered.
pub(crate) fn messages(n: u64) -> Outcome<Vec<Message>> {
    let (sender, given) = std::sync::mpsc::channel::<Message>();
    let thread = std::thread::Builder::new().spawn(move || {
        for message in given {
            message.0.fetch_add(1, Ordering::AcqRel);
        }
    })?;
    let messages = (0..n).map(|x| {
        let message = Arc::new((AtomicU64::new(x), [x; 12]));
        sender.send(Arc::clone(&message)).map(|()| message)
    });
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    drop(sender);
    thread.join().map_err(|_| "the thread has panicked")?;
    require(messages.iter().map(|m| m.0.load(Ordering::Acquire)).eq(1..=n), "not 1 to N")?;
    Ok(messages)
}

/// `n` times `n` numbers written to a file in `n` writes, and read from it again one by one; how many these were.
pub(crate) fn exchange(n: u64) -> Outcome<u64> {
    let file = tempfile::tempfile()?;
    for chunk in 0..n {
        let numbers: Vec<u8> = (chunk * n..(chunk + 1) * n).flat_map(u64::to_le_bytes).collect();
        file.write_all_at(&numbers, chunk * n * 8)?;
    }
    let (mut seen, mut number) = (0, [0; 8]);
    for i in 0..n {
        for chunk in 0..n {
            file.read_exact_at(&mut number, (chunk * n + i) * 8)?;
            seen += u64::from(u64::from_le_bytes(number) == chunk * n + i);
        }
    }
    Ok(seen)
}

/// Sleeps until the standard input ends.
pub(crate) fn sleep() -> Outcome {
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

const MESSAGE: usize = 64;

/// Another process at the other end of a socket.
pub(crate) struct Pong {
    socket: UnixStream,
    _child: Guard,
}

impl Pong {
    pub(crate) fn start() -> Outcome<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let name = Child::ALL.iter().find(|(_, c)| *c == Child::Pong).map_or("", |(name, _)| name);
        let child = Guard(Command::new(SELF).arg(name).stdin(Stdio::from(OwnedFd::from(theirs))).spawn()?);
        let mut pong = Self { socket, _child: child };
        require(pong.inc(1)? == 2, "the other process answers")?;
        Ok(pong)
    }

    pub(crate) fn inc(&mut self, x: u64) -> Outcome<u64> {
        let mut message = [0; MESSAGE];
        message[..8].copy_from_slice(&x.to_le_bytes());
        self.socket.write_all(&message)?;
        self.socket.read_exact(&mut message)?;
        Ok(number(&message))
    }
}

fn number(message: &[u8; MESSAGE]) -> u64 {
    message.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The other process: answers on its standard input until that ends.
pub(crate) fn pong() -> Outcome {
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut message = [0; MESSAGE];
    while socket.read_exact(&mut message).is_ok() {
        let x = number(&message);
        message[..8].copy_from_slice(&(x + 1).to_le_bytes());
        socket.write_all(&message)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn floors_give_right_answers() {
        assert!(serial(10).into_iter().eq(1..=10));
        assert!(threads(1000, 3).into_iter().eq(1..=1000));
        assert_eq!(sleeps(4, 1, 2), 10);
        assert_eq!(first_touch(&[1.0, 2.0]), [1.0, 2.0]);
        for through in [false, true] {
            let (write, read) = disk(&std::env::temp_dir(), 3, 10_000, through).unwrap();
            assert!(write > 0.0 && read > 0.0);
        }
        assert_eq!(messages(100).unwrap().len(), 100);
        assert_eq!(exchange(10).unwrap(), 100);
        let mut thread = Thread::start().unwrap();
        assert!((0..100).all(|x| thread.inc(x).unwrap() == x + 1));
    }
}
