//! All that the core has done by others: processes, messages, timers, and what it sees of the world.
//!
//! The core decides; it starts no process, writes to no socket and reads no clock. [`LiveEffects`](super::live_effects)
//! does these for it, and the simulation in `sim` plays them.

use crate::error::{OutputStream, Result};
use crate::events::journal::Step;
use crate::events::programs::News;
use crate::ids::{Attempt, JobId, SessionId, TaskId, WorkerId};
use crate::ipc::captured::OutputChunk;
use crate::ipc::page::ControlPage;
use crate::ipc::page::gauges::Waits;
use crate::ipc::ring::RingRecord;
use crate::ipc::segment::{FileId, SegmentId};
use crate::job::JobSpec;
use crate::machine::AvailableMemory;
use crate::memory::oom::Verdict;
use crate::message::{Malformed, ToSession, ToWorker};
use crate::scheduler::{Prepared, SubmitError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the core asks to be reminded of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// To check deadlines, and workers that do not answer, then.
    Check(Instant),
    /// To start a worker in the slot of that number.
    Refill(usize),
    /// To adapt the number of workers to their load, if that is still done under that number.
    Adapt(u64),
}

pub(crate) trait Effects {
    type Page: WorkerPage;

    fn now(&self) -> Instant;

    /// The time of day, for those who read what is remembered: nanoseconds since 1970.
    fn wall_clock(&self) -> u64;

    /// Has a large graph prepared by another thread, and the core told by [`Core::prepared`](super::core::Core::prepared).
    /// Some: it is done already.
    fn prepare(&mut self, job: JobId, spec: JobSpec) -> Option<std::result::Result<Prepared, SubmitError>>;

    /// Starts a worker, one of so many that there are to be: its process, its connection and its control page. The answer is
    /// the process's number.
    fn spawn(&mut self, worker: WorkerId, of: usize) -> Result<u32>;

    /// Kills the process of a worker with all processes that its tasks have started. Its end is told to the core as that of
    /// any other.
    fn kill(&mut self, worker: WorkerId);

    /// Forgets a worker whose process has ended, with what it still had of the shared memory. Its page goes with the answer.
    fn forget(&mut self, worker: WorkerId) -> Option<Arc<ControlPage>>;

    /// Has a message sent to a worker when the core is done. An error: it cannot be put into one frame.
    fn send(&mut self, worker: WorkerId, message: &ToWorker) -> std::result::Result<(), Malformed>;

    /// Has a message sent to the client in this process, or to an attached program.
    fn notify(&mut self, session: SessionId, message: ToSession);

    /// The session has ended: no message goes there any more.
    fn close(&mut self, session: SessionId);

    /// Something has happened, to a worker or a task: those who record or watch are told of it.
    fn noted(&mut self, _worker: Option<WorkerId>, _step: &Step) {}

    /// What a worker shows of itself.
    fn page(&self, worker: WorkerId) -> Option<&Self::Page>;

    /// Bytes that the process of a worker shares with no other. None: it has ended.
    fn private_memory(&self, worker: WorkerId) -> Option<u64>;

    /// The same with the processes that its tasks have started, where `own` is what it has itself. It is measured more
    /// exactly where it is more than `suspicious`.
    fn family_memory(&mut self, worker: WorkerId, own: u64, suspicious: u64) -> u64;

    /// Whether the process of a worker is stopped by a signal.
    fn is_stopped(&self, worker: WorkerId) -> bool;

    /// Reads what memory there is. To be called now and then.
    fn poll_machine(&mut self);

    /// Who killed a process that the core has not killed, and what memory there was.
    fn verdict(&mut self) -> (Verdict, Option<AvailableMemory>);

    /// Bytes of shared memory in use, and how many may be.
    fn shared_memory(&self) -> (u64, u64);

    /// A process that made segments has ended: its memory files need not stay mapped. The answer is which there were.
    fn owner_ended(&mut self, owner: u32) -> Vec<FileId>;

    /// Nobody has a segment of these memory files any more: they need not stay mapped.
    fn files_ended(&mut self, files: &[FileId]);

    /// Segments that nobody here uses any more since the last call, with how often they had been delivered.
    fn take_released(&mut self) -> Vec<(SegmentId, u32)>;

    /// Takes a name for a result that is to be published. An error: programs of another build, which it names, have it.
    fn take_name(&mut self, name: &str) -> std::result::Result<(), String>;

    /// Gives such a name back.
    fn free_name(&mut self, name: &str);

    /// The other build whose programs have published something under that name.
    fn name_elsewhere(&self, name: &str) -> Option<String>;

    /// Passes on what a worker has written, and has it pause where that comes faster than it is taken.
    fn print(&mut self, worker: WorkerId, stderr: bool, bytes: &[u8]);

    /// Whether a recording of other programs is told [news](Self::tell).
    fn takes_news(&self) -> bool {
        false
    }

    /// Something that such a recording cannot find out.
    fn tell(&mut self, _news: News) {}

    /// A worker of that name has written something, which a recording is told of.
    fn printed(&mut self, _worker: WorkerId, _name: &str, _stream: OutputStream, _tasks: &[String], _bytes: &[u8]) {}

    /// Has [`Core::timer`](super::core::Core::timer) called after that time.
    fn call_later(&mut self, after: Duration, what: Timer);

    /// The supervisor has nothing left to do.
    fn stop(&mut self);
}

/// What a worker shows of itself in shared memory, also when it does not answer, or has died.
pub(crate) trait WorkerPage {
    /// How long ago its last heartbeat was.
    fn silence(&self) -> Duration;

    /// The tasks that it runs.
    fn running(&self) -> Vec<TaskId>;

    /// Whether it has ever begun a task.
    fn has_begun(&self) -> bool;

    /// The attempts at tasks that it is known to have begun, whether they have ended or not.
    fn begun(&self) -> Vec<Attempt>;

    /// The tasks whose results it encodes or drops, outside of any task.
    fn results(&self) -> Vec<TaskId>;

    /// Whether it has found descriptors of its own closed, and ended for that.
    fn is_robbed(&self) -> bool;
    /// Why the process has ended by itself, if it has said so.
    fn reason(&self) -> Option<String>;

    /// Those that it runs, each with the most memory that the process used since it began.
    fn peaks(&self) -> Vec<(TaskId, u64)>;

    /// The same, each with how far it has come, in thousandths.
    fn progress(&self) -> Vec<(TaskId, u32)>;

    /// What memory the process used lately.
    fn samples(&self) -> Vec<u64>;

    fn last_log(&self) -> Vec<u8>;

    /// What it had read of its own output when it died.
    fn left_output(&self) -> Option<OutputChunk>;

    /// Bytes of the shared memory that it has.
    fn segment_bytes(&self) -> u64;

    fn gauges(&self) -> GaugeValues;

    /// The last recorded run of a task.
    fn latest_run(&self, task: TaskId) -> Option<RingRecord>;

    fn runs(&self) -> Vec<RingRecord>;

    /// Shows the recorded runs that began last, the latest first: so many at most.
    fn recent(&self, most: usize, see: &mut dyn FnMut(RingRecord));
}

/// What a worker says of its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GaugeValues {
    /// Bytes of results, in memory.
    pub(crate) managed: u64,
    /// And on disk.
    pub(crate) spilled: u64,
    /// Bytes of segments of its own in use.
    pub(crate) segments: u64,
    /// Bytes of results that have ever been moved to disk.
    pub(crate) moved: u64,
    /// How often tasks had to wait for memory.
    pub(crate) pauses: u64,
    pub(crate) waits: Waits,
    /// Whether the disk takes nothing.
    pub(crate) disk_fails: bool,
}
