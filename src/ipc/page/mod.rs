//! Control pages: a little named shared memory per process that others can read after its death. Behind the page itself
//! lies the ring of the task runs that a worker records.
//!
//! Only atomics are in a page, so a mapping of it is sound whatever the other side does; what is read from it is
//! numbers, and may be nonsense if a process went wild before it died.

pub(crate) mod account;
pub(crate) mod gauges;
mod name;

pub(crate) use name::{PageName, start_time};

use crate::ids::{Attempt, JobId, SessionId, TaskId};
use crate::ipc::captured::CapturedOutput;
use crate::ipc::file_limit::longest_file;
use crate::ipc::ring::{MemoryGauges, Ring, RingEntry, RunSource};
use crate::version::VERSION;
use account::Account;
use gauges::Gauges;
use name::SHM_DIR;
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use nix::unistd::geteuid;
use shared_memory::{Shmem, ShmemConf};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Executor threads of one worker whose tasks a page can show.
pub(crate) const MOST_THREADS: usize = 64;
/// Results whose own code runs outside of tasks that a page can show.
const MOST_RESULTS: usize = 4;
/// Memory samples kept.
pub(crate) const SAMPLES: usize = 16;
/// Bytes of log kept.
pub(crate) const LOG: usize = 2048;

/// Bytes kept of why a process ends by itself.
const REASON: usize = 256;

/// Changes with the layout.
const MAGIC: u64 = VERSION;

#[repr(C)]
struct Page {
    magic: AtomicU64,
    heartbeat_ms: AtomicU64,
    shm_used: AtomicU64,
    shm_files: AtomicU64,
    sample_cursor: AtomicU64,
    samples: [AtomicU64; SAMPLES],
    account: Account,
    gauges: Gauges,
    running: [RunningTaskCell; MOST_THREADS],
    progress: [AtomicU32; MOST_THREADS],
    /// Results that are being encoded or dropped.
    results: [RunningTaskCell; MOST_RESULTS],
    /// Which of these cells are in use, by bit.
    results_used: AtomicU64,
    log_cursor: AtomicU64,
    log: [AtomicU8; LOG],
    /// Whether the process reads its own output now.
    listens: AtomicU64,
    /// Whether the process has found descriptors of its own closed, and ends for that.
    robbed: AtomicU64,
    /// Why the process ends by itself, and how many bytes that has; none before.
    reason: [AtomicU8; REASON],
    reason_len: AtomicU64,
    captured: CapturedOutput,
    /// Until when, in milliseconds, the process should leave its output in the pipes.
    output_paused_ms: AtomicU64,
    run_cursor: AtomicU64,
    /// Entries of the ring behind the page: a power of two, or none.
    run_entries: AtomicU64,
}

const _: () = assert!(size_of::<Page>() <= 12 << 10 && align_of::<Page>() <= 4 << 10);

/// Where the ring of task runs begins.
const RING: usize = size_of::<Page>().next_multiple_of(align_of::<RingEntry>());

/// In a cell: the attempt has ended.
const ENDED: u64 = 1 << 63;
/// Where in a cell the number of the attempt begins.
const ATTEMPT: u32 = 40;
/// The bits of a cell in which the task's index lies, plus one.
const INDEX: u64 = (1 << ATTEMPT) - 1;

/// The last attempt at a task of one thread, in two words. `task` is its index plus one, with its number and whether it has
/// ended; 0 where there has been none.
#[repr(C)]
struct RunningTaskCell {
    job: AtomicU64,
    task: AtomicU64,
}

impl RunningTaskCell {
    fn begin(&self, Attempt { task, number }: Attempt) {
        // Emptied first, and each store seen by whoever sees a later one: a reader that finds the same task word before
        // and after has a job word that belongs to it, or to another task of the same index that ran here too.
        self.task.store(0, Ordering::Relaxed);
        let job = u64::from(task.job.session.0) << 32 | u64::from(task.job.number);
        self.job.store(job, Ordering::Release);
        self.task.store((u64::from(task.index) + 1) | u64::from(number) << ATTEMPT, Ordering::Release);
    }

    /// Only the thread itself may call it.
    fn end(&self) {
        self.task.store(self.task.load(Ordering::Relaxed) | ENDED, Ordering::Release);
    }

    /// The attempt, and whether it has ended.
    fn get(&self) -> Option<(Attempt, bool)> {
        // A cell that changes as it is read belongs to a worker that is alive. Its task may have ended by the time the
        // answer is used, so a few tries are enough.
        for _ in 0..8 {
            let task = self.task.load(Ordering::Acquire);
            let job = self.job.load(Ordering::Acquire);
            if self.task.load(Ordering::Relaxed) == task {
                let index = u32::try_from((task & INDEX).checked_sub(1)?).ok()?;
                let job = JobId { session: SessionId((job >> 32) as u32), number: job as u32 };
                let number = (task >> ATTEMPT) as u16;
                return Some((Attempt { task: TaskId { job, index }, number }, task & ENDED != 0));
            }
        }
        None
    }

    fn running(&self) -> Option<TaskId> {
        self.get().filter(|(_, ended)| !ended).map(|(attempt, _)| attempt.task)
    }
}

/// A result whose own code runs, as a page shows it.
pub(crate) struct ShownResult<'a> {
    cell: Option<&'a RunningTaskCell>,
    used: &'a AtomicU64,
    bit: u64,
}

impl Drop for ShownResult<'_> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell {
            cell.end();
            self.used.fetch_and(!self.bit, Ordering::Release);
        }
    }
}

/// Why there is no control page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PageError {
    #[error("{SHM_DIR} is full: free space there, or mount it with a larger `size=` (a control page takes {} KiB)", .0 >> 10)]
    NoSpace(usize),
    #[error("a control page takes {} KiB, which is over the file size limit: raise it with `ulimit -f`", .0 >> 10)]
    FileSize(usize),
    #[error("control page {name}: {source}{}", advice(source))]
    Io { name: String, source: io::Error },
    #[error("control page {name} is not one of this program's: {reason}")]
    Foreign { name: String, reason: &'static str },
}

/// What to do where a page cannot be made.
fn advice(why: &io::Error) -> &'static str {
    match why.raw_os_error() {
        Some(nix::libc::EMFILE | nix::libc::ENFILE) => "; raise the limit with `ulimit -n`",
        Some(nix::libc::ENOENT | nix::libc::EROFS | nix::libc::EACCES) => {
            "; swath needs `/dev/shm`, a `tmpfs` that it may write to"
        }
        _ => "",
    }
}

/// A mapped control page. Removed from /dev/shm when its creator drops it.
pub(crate) struct ControlPage {
    name: PageName,
    shmem: Shmem,
    /// Entries of the ring behind the page.
    runs: usize,
    /// Held by the creator, so that a sweep sees it alive even from where its process id means nothing.
    _lock: Option<File>,
}

// SAFETY: the mapping is not tied to a thread, lives as long as the value, and is only ever reached as a shared
// reference to atomics.
unsafe impl Send for ControlPage {}
// SAFETY: as above.
unsafe impl Sync for ControlPage {}

impl fmt::Debug for ControlPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ControlPage").field(&self.name.to_string()).finish()
    }
}

impl ControlPage {
    /// Makes a page, for our user only, with room for so many task runs (rounded up to a power of two).
    pub(crate) fn create(name: &PageName, runs: usize) -> Result<Self, PageError> {
        let runs = if runs == 0 { 0 } else { runs.next_power_of_two() };
        let size = RING + runs * size_of::<RingEntry>();
        if size as u64 > longest_file() {
            return Err(PageError::FileSize(size));
        }
        let conf = ShmemConf::new().os_id(name.to_string()).size(size);
        let shmem = conf.create().map_err(|e| name.shmem_error(e, size))?;
        let file = name.open_file().map_err(|e| name.io_error(e, size))?;
        // On a full /dev/shm the first touch of the mapping would be a SIGBUS; this is an error code instead.
        loop {
            match posix_fallocate(&file, 0, size as i64) {
                Ok(()) => break,
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(name.io_error(e.into(), size)),
            }
        }
        // Nobody can hold it: the name is new and unguessable. A sweep that does for a moment does no harm.
        let lock = file.try_lock().is_ok().then_some(file);
        let page = Self { name: name.clone(), shmem, runs, _lock: lock };
        page.page().run_entries.store(runs as u64, Ordering::Relaxed);
        page.page().magic.store(MAGIC, Ordering::Release);
        Ok(page)
    }

    /// Maps a page another process made.
    pub(crate) fn open(name: &PageName) -> Result<Self, PageError> {
        let foreign = |reason| PageError::Foreign { name: name.to_string(), reason };
        let file = name.open_file().map_err(|e| name.io_error(e, 0))?;
        let meta = file.metadata().map_err(|e| name.io_error(e, 0))?;
        if !meta.is_file() || meta.uid() != geteuid().as_raw() {
            return Err(foreign("it belongs to another user"));
        }
        let shmem = ShmemConf::new().os_id(name.to_string()).open().map_err(|e| name.shmem_error(e, 0))?;
        let Some(room) = shmem.len().checked_sub(RING) else { return Err(foreign("it is too small")) };
        let mut page = Self { name: name.clone(), shmem, runs: 0, _lock: None };
        if page.page().magic.load(Ordering::Acquire) != MAGIC {
            return Err(foreign("it has the layout of another version"));
        }
        let runs = page.page().run_entries.load(Ordering::Relaxed);
        page.runs = usize::try_from(runs).unwrap_or(usize::MAX);
        if page.runs > room / size_of::<RingEntry>() || (page.runs > 0 && !page.runs.is_power_of_two()) {
            return Err(foreign("it is too small"));
        }
        Ok(page)
    }

    pub(crate) fn name(&self) -> &PageName {
        &self.name
    }

    fn page(&self) -> &Page {
        // SAFETY: the mapping is at least a `Page` long (ours by size, others' checked in `open`), page-aligned, mapped
        // read-write until `self` is dropped, and backed by memory reserved at creation. Any bytes are a valid `Page`,
        // and all its parts are atomics, so other processes and threads may write to it meanwhile. Only a process of our
        // own user could shrink the file under us; that it can reach into this process anyway.
        unsafe { &*self.shmem.as_ptr().cast::<Page>() }
    }

    /// Notes whether the process reads itself what it writes to standard output and error.
    pub(crate) fn set_listening(&self, yes: bool) {
        self.page().listens.store(u64::from(yes), Ordering::Relaxed);
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.page().listens.load(Ordering::Relaxed) != 0
    }

    /// Output that it has read of its pipes and not yet sent.
    pub(crate) fn captured(&self) -> &CapturedOutput {
        &self.page().captured
    }

    /// Has the process leave its output in the pipes until then, by [`monotonic_ms`](crate::ipc::clock::monotonic_ms): it
    /// comes faster than it is taken.
    pub(crate) fn pause_output(&self, until_ms: u64) {
        self.page().output_paused_ms.store(until_ms, Ordering::Relaxed);
    }

    /// How long the process should leave its output in the pipes, in milliseconds.
    pub(crate) fn output_pause(&self, now_ms: impl FnOnce() -> u64) -> u64 {
        match self.page().output_paused_ms.load(Ordering::Relaxed) {
            0 => 0,
            until => until.saturating_sub(now_ms()),
        }
    }

    /// The runs of tasks that its process has recorded.
    pub(crate) fn ring(&self) -> Ring<'_> {
        // SAFETY: `create` made the mapping `RING + runs * size_of::<RingEntry>()` bytes long and `open` checked that it is.
        // `RING` is a multiple of an entry's alignment, and the mapping starts at a page. As in `page`, any bytes are valid
        // entries, all of them atomics, and the mapping lives as long as `self`.
        let entries =
            unsafe { std::slice::from_raw_parts(self.shmem.as_ptr().add(RING).cast::<RingEntry>(), self.runs) };
        Ring::new(&self.page().run_cursor, entries)
    }

    pub(super) fn account(&self) -> &Account {
        &self.page().account
    }

    pub(super) fn shm_used(&self) -> &AtomicU64 {
        &self.page().shm_used
    }

    pub(super) fn shm_files(&self) -> &AtomicU64 {
        &self.page().shm_files
    }

    pub(super) fn disk_used(&self) -> &AtomicU64 {
        &self.page().gauges.disk
    }

    /// What the process says of its memory.
    pub(crate) fn gauges(&self) -> &Gauges {
        &self.page().gauges
    }

    /// Bytes of segments this process made and still has.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.shm_used().load(Ordering::Relaxed)
    }

    /// A heartbeat at `now_ms`, on the clock of [`monotonic_ms`](crate::ipc::clock::monotonic_ms).
    pub(crate) fn beat(&self, now_ms: u64) {
        self.page().heartbeat_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When the last heartbeat was. 0: never.
    pub(crate) fn heartbeat(&self) -> u64 {
        self.page().heartbeat_ms.load(Ordering::Relaxed)
    }

    /// Notes what an executor thread runs. Threads past [`MOST_THREADS`] are not shown.
    pub(crate) fn begin_task(&self, thread: usize, attempt: Attempt) {
        if let Some(cell) = self.page().running.get(thread) {
            self.page().progress[thread].store(0, Ordering::Relaxed);
            self.gauges().restart_peak(thread);
            cell.begin(attempt);
        }
    }

    /// Notes that it has ended. What it was stays until the thread begins another one.
    pub(crate) fn end_task(&self, thread: usize) {
        if let Some(cell) = self.page().running.get(thread) {
            cell.end();
        }
    }

    /// Notes that a thread encodes, decodes or drops the result of a task, outside of any task, as long as the answer lives.
    /// Of more than a few at a time, some are not shown.
    pub(crate) fn begin_result(&self, id: TaskId) -> ShownResult<'_> {
        let page = self.page();
        let free = |used: u64| Some(used.trailing_ones()).filter(|&at| (at as usize) < MOST_RESULTS);
        let taken =
            page.results_used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| Some(used | 1 << free(used)?));
        let at = taken.ok().and_then(free);
        let cell = at.map(|at| &page.results[at as usize]);
        if let Some(cell) = cell {
            cell.begin(Attempt { task: id, number: 0 });
        }
        ShownResult { cell, used: &page.results_used, bit: at.map_or(0, |at| 1 << at) }
    }

    /// The tasks whose results are being handled so, or were when the process died.
    pub(crate) fn results(&self) -> Vec<TaskId> {
        self.page().results.iter().filter_map(RunningTaskCell::running).collect()
    }

    /// The process has found descriptors of its own closed, and ends for that.
    pub(crate) fn set_robbed(&self) {
        self.page().robbed.store(1, Ordering::Release);
    }

    /// The process ends by itself, and nobody may read what it logs.
    pub(crate) fn set_reason(&self, reason: &str) {
        let page = self.page();
        let bytes = &reason.as_bytes()[..reason.len().min(REASON)];
        page.reason.iter().zip(bytes).for_each(|(place, byte)| place.store(*byte, Ordering::Relaxed));
        page.reason_len.store(bytes.len() as u64, Ordering::Release);
    }

    /// Why the process has ended by itself, if it has said so.
    pub(crate) fn reason(&self) -> Option<String> {
        let page = self.page();
        let len = page.reason_len.load(Ordering::Acquire).min(REASON as u64) as usize;
        let bytes: Vec<u8> = page.reason[..len].iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
        (len > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn is_robbed(&self) -> bool {
        self.page().robbed.load(Ordering::Acquire) != 0
    }

    /// Whether the process has ever begun a task.
    pub(crate) fn has_begun(&self) -> bool {
        let begun = |cell: &RunningTaskCell| cell.task.load(Ordering::Acquire) != 0;
        self.page().running.iter().any(begun) || self.page().run_cursor.load(Ordering::Acquire) > 0
    }

    /// The attempts at tasks that are known to have begun, whether they have ended or not: the last one of each thread,
    /// and those in the ring. Some are there more than once.
    pub(crate) fn begun(&self) -> Vec<Attempt> {
        let mut begun = self.ring().attempts();
        begun.extend(self.page().running.iter().filter_map(RunningTaskCell::get).map(|(attempt, _)| attempt));
        begun
    }

    /// Notes how far the task of an executor thread is, in thousandths.
    pub(crate) fn set_progress(&self, thread: usize, per_mille: u32) {
        if let Some(p) = self.page().progress.get(thread) {
            p.store(per_mille, Ordering::Relaxed);
        }
    }

    /// The tasks that run, or ran when the process died.
    pub(crate) fn running(&self) -> Vec<TaskId> {
        self.page().running.iter().filter_map(RunningTaskCell::running).collect()
    }

    /// The same with the most memory that the process used meanwhile.
    pub(crate) fn peaks(&self) -> Vec<(TaskId, u64)> {
        let cells = self.page().running.iter().enumerate();
        cells.filter_map(|(thread, s)| Some((s.running()?, self.gauges().peak(thread)))).collect()
    }

    /// The same with their progress in thousandths.
    pub(crate) fn progress(&self) -> Vec<(TaskId, u32)> {
        let page = self.page();
        let both = page.running.iter().zip(&page.progress);
        both.filter_map(|(s, p)| Some((s.running()?, p.load(Ordering::Relaxed)))).collect()
    }

    /// Adds a sample of the memory that the process uses, in bytes.
    pub(crate) fn add_sample(&self, bytes: u64) {
        let page = self.page();
        let at = page.sample_cursor.load(Ordering::Relaxed);
        page.samples[at as usize % SAMPLES].store(bytes, Ordering::Relaxed);
        page.sample_cursor.store(at.wrapping_add(1), Ordering::Release);
    }

    /// The last samples, oldest first.
    pub(crate) fn samples(&self) -> Vec<u64> {
        let page = self.page();
        let end = page.sample_cursor.load(Ordering::Acquire);
        let count = end.min(SAMPLES as u64);
        (0..count)
            .map(|i| page.samples[(end.wrapping_sub(count).wrapping_add(i)) as usize % SAMPLES].load(Ordering::Relaxed))
            .collect()
    }

    /// Adds to the log. Threads that write at the same time write to different parts of it.
    pub(crate) fn log(&self, bytes: &[u8]) {
        let page = self.page();
        let bytes = &bytes[bytes.len().saturating_sub(LOG)..];
        let at = page.log_cursor.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        for (i, byte) in bytes.iter().enumerate() {
            page.log[at.wrapping_add(i as u64) as usize % LOG].store(*byte, Ordering::Relaxed);
        }
    }

    /// The end of the log, whole lines only where the start was lost.
    pub(crate) fn last_log(&self) -> Vec<u8> {
        let page = self.page();
        let end = page.log_cursor.load(Ordering::Relaxed);
        let count = end.min(LOG as u64);
        let byte = |i: u64| page.log[(end.wrapping_sub(count).wrapping_add(i)) as usize % LOG].load(Ordering::Relaxed);
        let mut out: Vec<u8> = (0..count).map(byte).collect();
        if end > LOG as u64
            && let Some(newline) = out.iter().position(|b| *b == b'\n')
            && newline + 1 < out.len()
        {
            out.drain(..=newline);
        }
        out
    }
}

impl RunSource for ControlPage {
    fn ring(&self) -> Ring<'_> {
        self.ring()
    }

    fn memory(&self) -> Option<MemoryGauges> {
        let gauges = self.gauges();
        let (managed, segments) = (gauges.managed(), gauges.segments());
        // A worker without a limit does not look at what its process uses.
        let private = self.samples().last().copied().unwrap_or(0);
        let used = (private + segments).max(managed);
        Some(MemoryGauges { used, limit: gauges.limit(), managed, segments, spilled: gauges.spilled() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::clock::monotonic_ms;
    use crate::ipc::ring::Ended;
    use crate::ipc::testing;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};
    use std::thread;

    fn task(session: u32, number: u32, index: u32) -> TaskId {
        TaskId { job: JobId { session: SessionId(session), number }, index }
    }

    fn attempt(session: u32, number: u32, index: u32) -> Attempt {
        Attempt { task: task(session, number, index), number: 1 }
    }

    #[test]
    fn the_other_side_reads_what_was_written_and_still_does_afterwards() {
        let name = PageName::new().unwrap();
        let mine = ControlPage::create(&name, 100).unwrap();
        assert_eq!(fs::metadata(name.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let theirs = ControlPage::open(&name.to_string().parse().unwrap()).unwrap();
        let now = monotonic_ms();
        assert_eq!(theirs.heartbeat(), 0);
        mine.beat(now);
        mine.begin_task(0, attempt(u32::MAX, 7, u32::MAX));
        mine.begin_task(MOST_THREADS - 1, attempt(1, u32::MAX, 0));
        mine.begin_task(MOST_THREADS, attempt(1, 2, 3));
        mine.set_progress(MOST_THREADS - 1, 250);
        mine.set_progress(MOST_THREADS, 250);
        mine.begin_task(1, attempt(1, 2, 3));
        mine.end_task(1);
        for i in 0..20 {
            mine.add_sample(i * 100);
        }
        mine.log(b"last words\n");
        assert_eq!(theirs.reason(), None);
        mine.set_reason(&"x".repeat(1000));
        assert_eq!(theirs.reason().map(|reason| reason.len()), Some(REASON));
        mine.set_reason("no more descriptors");
        let token = mine.ring().begin(attempt(1, 2, 3), 16, 7, 0, Some("named"), 50);
        drop(mine);
        assert!(!name.path().exists());
        assert!(matches!(ControlPage::open(&name), Err(PageError::Io { .. })));
        assert_eq!(theirs.heartbeat(), now);
        assert_eq!(theirs.running(), [task(u32::MAX, 7, u32::MAX), task(1, u32::MAX, 0)]);
        assert_eq!(theirs.begun().len(), 4, "that of the ring, and the last one of each thread");
        assert_eq!(theirs.begun()[2], attempt(1, 2, 3), "also one that has ended");
        assert_eq!(theirs.progress()[1], (task(1, u32::MAX, 0), 250));
        assert_eq!(theirs.samples(), (4..20).map(|i| i * 100).collect::<Vec<_>>());
        assert_eq!(theirs.last_log(), b"last words\n");
        assert_eq!(theirs.reason().as_deref(), Some("no more descriptors"));
        theirs.ring().end(token, Ended::Finished, 60, None);
        let runs = theirs.ring().read();
        assert_eq!((runs.len(), runs[0].start, runs[0].end), (1, 50, Some((60, Ended::Finished))));
        assert_eq!(runs[0].run.name.as_deref(), Some("named"));
    }

    #[test]
    fn results_are_shown_while_they_are_handled() {
        let page = ControlPage::create(&PageName::new().unwrap(), 0).unwrap();
        let id = |index| task(1, 2, index);
        let first = page.begin_result(id(7));
        let second = page.begin_result(id(8));
        assert_eq!(page.results(), [id(7), id(8)]);
        drop(first);
        assert_eq!(page.results(), [id(8)]);
        let more: Vec<_> = (0..MOST_RESULTS as u32 + 2).map(|index| page.begin_result(id(index))).collect();
        assert_eq!(page.results().len(), MOST_RESULTS, "those that have no place are not shown");
        drop((second, more));
        assert!(page.results().is_empty());
        let _again = page.begin_result(id(9));
        assert_eq!(page.results(), [id(9)]);
    }

    #[test]
    fn an_opener_does_not_remove_the_page() {
        let name = PageName::new().unwrap();
        let mine = ControlPage::create(&name, 0).unwrap();
        drop(ControlPage::open(&name).unwrap());
        assert!(name.path().exists());
        assert!(ControlPage::create(&name, 0).is_err(), "a name is taken once");
        assert!(name.path().exists());
        drop(mine);
    }

    #[test]
    fn the_log_keeps_its_end_in_whole_lines() {
        let page = ControlPage::create(&PageName::new().unwrap(), 0).unwrap();
        assert_eq!(page.last_log(), b"");
        for i in 0..1000 {
            page.log(format!("line {i}\n").as_bytes());
        }
        let text = String::from_utf8(page.last_log()).unwrap();
        assert!(text.starts_with("line ") && text.ends_with("line 999\n") && text.len() > LOG - 20, "{text}");
        page.log(&[b'x'; 3 * LOG]);
        assert_eq!(page.last_log(), [b'x'; LOG]);
    }

    #[test]
    fn a_cell_read_while_it_changes_shows_a_task_that_ran() {
        let page = ControlPage::create(&PageName::new().unwrap(), 0).unwrap();
        thread::scope(|s| {
            let writer = s.spawn(|| {
                for i in 0..50_000u32 {
                    // Neighbours never share an index, so a mix of two would show.
                    page.begin_task(3, attempt(i, i, i));
                    if i % 3 == 0 {
                        page.end_task(3);
                    }
                }
            });
            while !writer.is_finished() {
                for t in page.running() {
                    assert_eq!(t, task(t.index, t.index, t.index));
                }
            }
        });
    }

    #[test]
    fn pages_that_are_not_ours_are_refused() {
        let name = PageName::new().unwrap();
        fs::write(name.path(), [0; 100]).unwrap();
        assert!(matches!(ControlPage::open(&name), Err(PageError::Foreign { reason: "it is too small", .. })));
        fs::write(name.path(), [1; 8192]).unwrap();
        assert!(matches!(ControlPage::open(&name), Err(PageError::Foreign { .. })));
        fs::remove_file(name.path()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", name.path()).unwrap();
        assert!(ControlPage::open(&name).is_err());
        assert!(ControlPage::create(&name, 0).is_err());
        fs::remove_file(name.path()).unwrap();
    }

    #[test]
    fn a_full_shm_is_an_error_that_names_it() {
        let wrapper = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=64k none /dev/shm && exec \"$@\"", "sh"];
        let possible = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg("true")
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success());
        // Needs a kernel that lets us mount a small one for ourselves.
        if possible {
            testing::run_child(&wrapper, "ipc::page::tests::child_full_shm");
        }
    }

    #[test]
    fn a_page_over_the_file_size_limit_is_an_error_and_no_signal() {
        testing::run_child(&[], "ipc::page::tests::child_file_size");
    }

    #[test]
    #[ignore = "run by a_page_over_the_file_size_limit_is_an_error_and_no_signal"]
    fn child_file_size() {
        if !testing::is_child() {
            return;
        }
        use nix::sys::resource::{Resource, setrlimit};
        setrlimit(Resource::RLIMIT_FSIZE, 4096, 4096).unwrap();
        let name = PageName::new().unwrap();
        let error = ControlPage::create(&name, 1024).unwrap_err();
        assert!(matches!(error, PageError::FileSize(_)) && error.to_string().contains("ulimit -f"), "{error}");
        assert!(!name.path().exists());
    }

    #[test]
    #[ignore = "run by a_full_shm_is_an_error_that_names_it"]
    fn child_full_shm() {
        if !testing::is_child() {
            return;
        }
        let mut filler = File::create("/dev/shm/filler").unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
        let name = PageName::new().unwrap();
        let error = ControlPage::create(&name, 0).unwrap_err();
        assert!(matches!(error, PageError::NoSpace(_)) && error.to_string().contains("/dev/shm"), "{error}");
        assert!(!name.path().exists());
        // The file holds its space for as long as it is open.
        drop(filler);
        fs::remove_file("/dev/shm/filler").unwrap();
        ControlPage::create(&name, 0).unwrap().beat(1);
    }
}
