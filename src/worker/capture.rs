//! What tasks print: standard output and error are pipes that the worker reads itself, so that it can say which tasks
//! the words are from. Whatever it does not get to, because it has nothing to run or is dead, the supervisor reads.
//!
//! A look at the pipes costs as much as a short task, so it is taken after each task that is not short, after some short
//! ones, when there is nothing else to do, and by the watcher while a task goes on. The tasks that ran since the last
//! look are those that may have printed. While there is something to see, it is taken after every task.

use crate::graph::node;
use crate::ipc::captured::{CapturedOutput, OutputChunk, PIECE};
use crate::ipc::clock::ticks;
use crate::ipc::ring::Ring;
use crate::task::function::{Record, short_name};
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A task that takes so long is worth a look of its own.
const LONG: Duration = Duration::from_micros(5);
/// How many shorter ones share one.
const SHARED: u64 = 32;
/// For so long after words were seen, a look is taken after every task.
const CHATTY: Duration = Duration::from_millis(100);
/// Most tasks that are named.
const NAMED: usize = 16;
/// Most pieces that are read of a stream at one look: what a full pipe holds.
const PIECES: usize = 16;

pub(super) struct Streams {
    state: Mutex<State>,
    /// Tasks since the last look.
    unseen: AtomicU64,
}

struct State {
    /// Reading ends of standard output and error; none where these are no pipes.
    ends: [Option<File>; 2],
    looked: u64,
    chatty: Option<Instant>,
}

impl Streams {
    pub(super) fn open() -> Self {
        let end = |n: i32| {
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let end = File::from(open(format!("/proc/self/fd/{n}").as_str(), flags, Mode::empty()).ok()?);
            use std::os::unix::fs::FileTypeExt;
            end.metadata().is_ok_and(|m| m.file_type().is_fifo()).then_some(end)
        };
        let state = State { ends: [end(1), end(2)], looked: ticks(), chatty: None };
        Self { state: Mutex::new(state), unseen: AtomicU64::new(0) }
    }

    /// A task has run for so long. Whether a look is due.
    pub(super) fn ran(&self, took: Duration) -> bool {
        let unseen = self.unseen.fetch_add(1, Ordering::Relaxed);
        took >= LONG || unseen >= SHARED || self.state.try_lock().is_none_or(|s| s.chatty.is_some())
    }

    /// Whether tasks have run since the last look.
    pub(super) fn unseen(&self) -> bool {
        self.unseen.load(Ordering::Relaxed) > 0
    }

    /// Sends on what has been printed and not ended with a newline. Waits for a thread that is printing, and for room in
    /// the pipe.
    pub(super) fn flush() {
        // An error here is one that the task's own printing would have met.
        let _ = std::io::stdout().flush();
    }

    /// Takes what has been printed, and hands it over in order, with the keys of the tasks that may have written it.
    pub(super) fn look(
        &self,
        ring: Ring<'_>,
        carried: &CapturedOutput,
        mut found: impl FnMut(OutputChunk, Vec<String>),
    ) {
        let mut state = self.state.lock();
        self.unseen.store(0, Ordering::Relaxed);
        let since = std::mem::replace(&mut state.looked, ticks());
        if state.chatty.is_some_and(|at| at.elapsed() > CHATTY) {
            state.chatty = None;
        }
        let State { ends, chatty, .. } = &mut *state;
        let [out, err] = ends;
        let ready: smallvec::SmallVec<[(bool, &File); 2]> =
            [(false, out), (true, err)].into_iter().filter_map(|(stderr, end)| Some((stderr, end.as_ref()?))).collect();
        let mut fds: smallvec::SmallVec<[PollFd<'_>; 2]> =
            ready.iter().map(|(_, end)| PollFd::new(end.as_fd(), PollFlags::POLLIN)).collect();
        if !poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0) {
            return;
        }
        drop(fds);
        let mut tasks = None;
        for (stderr, end) in &ready {
            for _ in 0..PIECES {
                let Ok(Some(piece)) = carried.take(*end, *stderr) else { break };
                let full = piece.bytes.len() == PIECE;
                *chatty = Some(Instant::now());
                found(piece, tasks.get_or_insert_with(|| running_since(ring, since)).clone());
                carried.told();
                if !full {
                    break;
                }
            }
        }
    }
}

/// The tasks that have run since a time stamp, or run now.
fn running_since(ring: Ring<'_>, since: u64) -> Vec<String> {
    let mut tasks = Vec::new();
    for record in ring.read().into_iter().rev() {
        if record.end.is_some_and(|(end, _)| end < since) {
            continue;
        }
        let named = || Some(short_name(Record::at(record.run.place)?.path()));
        let Some(name) = record.run.name.or_else(named) else { continue };
        tasks.push(node::key(&name, record.run.key));
        if tasks.len() == NAMED {
            break;
        }
    }
    tasks.reverse();
    tasks
}
