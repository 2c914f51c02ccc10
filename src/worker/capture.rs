//! Captures what tasks print: standard output and error are pipes that the worker reads itself, so that it can name the
//! tasks that may have printed. What it does not read, because it has nothing to run or is dead, the supervisor reads.
//!
//! Reading the pipes costs as much as a short task. So they are read after each long task, after several short ones,
//! when no task is left, and by the watcher while a task runs. The tasks that ran since the pipes were read last are
//! those that may have printed. While there is output, the pipes are read after every task.

use super::descriptors::{self, Closed, Descriptors};
use crate::error::logged::lines_of;
use crate::graph::node;
use crate::ipc::captured::{CHUNK, CapturedOutput, OutputChunk};
use crate::ipc::clock::{ticks, wall_clock};
use crate::ipc::page::ControlPage;
use crate::ipc::ring::{Ring, RingReader, RingRecord};
use crate::task::context::current_task;
use crate::task::function::{Record, short_name};
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// After a task that takes so long, the pipes are read.
const LONG: Duration = Duration::from_micros(5);
/// How many shorter tasks run before the pipes are read.
const SHARED: u64 = 32;
/// For so long after the last output, the pipes are read after every task.
const CHATTY: Duration = Duration::from_millis(100);
/// Most tasks that are named as the origin of an output.
const NAMED: usize = 16;
/// With so much in a pipe, it is being filled by a task that prints as fast as it can.
const MUCH: usize = CHUNK;
/// What such a pipe is enlarged to, so that the task need not wait for whoever empties it, and most that is read at a time.
const LARGE_PIPE: usize = 256 << 10;

pub(super) struct OutputCapture {
    /// Reading ends of standard output and error; none where these are no pipes.
    ends: [Option<File>; 2],
    state: Mutex<CaptureState>,
    descriptors: Descriptors,
    /// Tasks that ended since the pipes were read.
    unseen: AtomicU64,
    /// There was much in a pipe when it was read last.
    flows: AtomicBool,
    /// Tasks have printed a short time ago.
    chatty: AtomicBool,
}

struct CaptureState {
    /// Which of the pipes have been enlarged.
    large: [bool; 2],
    read_at: u64,
    runs: RingReader,
    /// When tasks have printed last, as long as that is a short time ago.
    printed: Option<Instant>,
}

impl OutputCapture {
    pub(super) fn open() -> Self {
        let end = |n: i32| {
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let end = File::from(open(format!("/proc/self/fd/{n}").as_str(), flags, Mode::empty()).ok()?);
            use std::os::unix::fs::FileTypeExt;
            end.metadata().is_ok_and(|m| m.file_type().is_fifo()).then_some(end)
        };
        let state = CaptureState { large: [false; 2], read_at: ticks(), runs: RingReader::default(), printed: None };
        Self {
            ends: [end(1), end(2)],
            state: Mutex::new(state),
            descriptors: Descriptors::new(),
            unseen: AtomicU64::new(0),
            flows: AtomicBool::new(false),
            chatty: AtomicBool::new(false),
        }
    }

    /// What becomes readable when tasks print.
    pub(super) fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ends.iter().flatten().map(AsFd::as_fd)
    }

    /// Whether a task that took so long has left this process its descriptors.
    pub(super) fn is_intact(&self, took: Duration) -> bool {
        took < LONG || self.descriptors.is_intact()
    }

    /// Counts a task that took so long. Returns whether the pipes should be read now.
    pub(super) fn ran(&self, took: Duration) -> bool {
        let unseen = self.unseen.fetch_add(1, Ordering::Relaxed);
        took >= LONG || unseen >= SHARED || self.chatty.load(Ordering::Relaxed)
    }

    /// Whether tasks have ended since the pipes were read.
    pub(super) fn unseen(&self) -> bool {
        self.unseen.load(Ordering::Relaxed) > 0
    }

    /// Whether a task fills a pipe as fast as it can.
    pub(super) fn flows(&self) -> bool {
        self.flows.load(Ordering::Relaxed)
    }

    /// Flushes output that does not end with a newline. Waits for a thread that is printing, and for room in the pipe.
    pub(super) fn flush() {
        // The task's own printing would have had the same error.
        let _ = std::io::stdout().flush();
    }

    /// Reads what has been printed, and passes it on in order, with the keys of the tasks that may have printed it. The
    /// answer: what tasks have closed that is not theirs.
    pub(super) fn read(
        &self,
        ring: Ring<'_>,
        captured: &CapturedOutput,
        mut found: impl FnMut(OutputChunk, Vec<String>),
    ) -> Closed {
        let mut state = self.state.lock();
        let CaptureState { large, read_at, runs, printed } = &mut *state;
        self.unseen.store(0, Ordering::Relaxed);
        self.flows.store(false, Ordering::Relaxed);
        let now = ticks();
        let since = std::mem::replace(read_at, now);
        if printed.is_some_and(|at| at.elapsed() > CHATTY) {
            *printed = None;
            self.chatty.store(false, Ordering::Relaxed);
        }
        let [out, err] = &self.ends;
        let ready: smallvec::SmallVec<[(bool, &File); 2]> =
            [(false, out), (true, err)].into_iter().filter_map(|(stderr, end)| Some((stderr, end.as_ref()?))).collect();
        let mut fds: smallvec::SmallVec<[PollFd<'_>; 6]> =
            ready.iter().map(|(_, end)| PollFd::new(end.as_fd(), PollFlags::POLLIN)).collect();
        fds.extend(self.descriptors.polled());
        if !poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0) {
            return Closed::Nothing;
        }
        let closed = descriptors::closed(&fds);
        drop(fds);
        let closed = self.descriptors.reopen(&closed);
        if closed == Closed::ForGood {
            return closed;
        }
        let mut tasks = None;
        for (stderr, end) in &ready {
            let mut taken = 0;
            while taken < LARGE_PIPE {
                let Ok(Some(chunk)) = captured.take(*end, *stderr) else { break };
                let got = chunk.bytes.len();
                let tasks = tasks.get_or_insert_with(|| names(&ring.running_in(since..now, runs, NAMED)));
                found(chunk, tasks.clone());
                captured.told();
                taken += got;
                if got < CHUNK {
                    break;
                }
            }
            if taken > 0 {
                *printed = Some(Instant::now());
                self.chatty.store(true, Ordering::Relaxed);
            }
            if taken >= MUCH {
                self.flows.store(true, Ordering::Relaxed);
                if !std::mem::replace(&mut large[usize::from(*stderr)], true) {
                    // With many workers the kernel may refuse, and the pipe stays as it is.
                    let _ = fcntl(end, FcntlArg::F_SETPIPE_SZ(LARGE_PIPE as i32));
                }
            }
        }
        closed
    }
}

/// The keys of the tasks whose runs these are.
fn names(runs: &[RingRecord]) -> Vec<String> {
    let key = |record: &RingRecord| {
        let named = || Some(short_name(Record::at(record.run.log_id)?.path()));
        Some(node::key(&record.run.name.clone().or_else(named)?, record.run.key))
    };
    runs.iter().filter_map(key).collect()
}

/// Log lines of tasks go to standard error with the worker's and the task's name, and to the control page.
pub(super) fn install_logger(name: &str, page: &Arc<ControlPage>) {
    let (name, page) = (name.to_string(), Arc::clone(page));
    let built = env_logger::Builder::from_default_env()
        .format(move |out, record| {
            let (task, text) = (current_task(), record.args().to_string());
            let key = task.as_ref().map(|task| &*task.key);
            let lines = lines_of(wall_clock(), &name, key, record.level(), record.target(), &text);
            page.log(lines.as_bytes());
            out.write_all(lines.as_bytes())
        })
        .try_init();
    if let Err(e) = built {
        log::debug!("another logger is there: {e}");
    }
}
