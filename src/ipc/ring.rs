//! A bounded ring of task runs, in memory of this process or of a control page.
//!
//! A writer reserves an entry with one addition, so threads never wait for each other; when the ring is full the oldest
//! run is overwritten. Everything in an entry is an atomic word, so a reader in another process, or after the writer's
//! death, sees numbers and never a torn value: the entry's *sequence* is marked before its words change and set after, and
//! a reader that finds the same sequence before and after has words that belong together. A writer that is interrupted
//! for so long that the others have come round to its entry finds it taken, or they do: then the later one records nothing.

use crate::ids::{Attempt, JobId, SessionId, TaskId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Words of an entry: one cache line.
const WORDS: usize = 8;
/// Bytes of a name in one entry: all but its sequence.
const NAME: usize = (WORDS - 1) * 8;
/// Entries that a name may take, after that of its run.
const MOST_NAME: usize = 4;

const SEQUENCE: usize = 0;
/// In the sequence of an entry that belongs to a run and is not its first: a part of its name, or its details.
const IS_PART: u64 = 1 << 63;
/// In the sequence of an entry that is being written.
const BUSY: u64 = 1 << 62;
/// The number of a run that is not recorded.
const NOWHERE: u64 = u64::MAX;
const START: usize = 1;
const END: usize = 2;
const LOG_ID: usize = 3;
const KEY: usize = 4;
const JOB: usize = 5;
/// The task's index, the executor thread, and how many entries its name takes.
const DETAIL: usize = 6;
/// The length of its name in bytes, the number of the attempt, and how far behind it the entry with its details is.
const LENGTH: usize = 7;
/// Where that distance begins; 0: it has none.
const DISTANCE: u32 = 32;
/// A ring with fewer entries has no details: they would overwrite their runs.
const FEWEST: usize = 8;

/// In the low bits of `END`; the rest is the time stamp, or while it runs the entry's number.
const RUNNING: u64 = 0;
const ENDED: u64 = 2;

#[repr(C, align(64))]
#[derive(Default)]
pub(crate) struct RingEntry([AtomicU64; WORDS]);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ended {
    Finished,
    Failed,
    /// Its result was not wanted any more.
    Cancelled,
}

/// One run of a task function, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedRun {
    pub(crate) task: TaskId,
    /// Names the function: the number that its record gives for the log of events.
    pub(crate) log_id: u64,
    /// The hash in the task's key.
    pub(crate) key: u64,
    pub(crate) thread: u16,
    pub(crate) attempt: u16,
    /// The task's name, if it is not its function's.
    pub(crate) name: Option<String>,
}

/// What is measured of a run beside its times, where it was long or had much to do with. 0: that was not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunDetails {
    /// When it had come to its worker, by [`ticks`](super::clock::ticks).
    pub(crate) assigned: u64,
    /// Nanoseconds on a processor.
    pub(crate) cpu: u64,
    /// Bytes of its inputs and of its result.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// The most bytes that its process was seen to use meanwhile.
    pub(crate) peak: u64,
    /// How long it read inputs, wrote its result, and waited for tasks of its own, in ticks.
    pub(crate) times: [u64; 3],
}

/// A run with its times, read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RingRecord {
    pub(crate) run: RecordedRun,
    pub(crate) start: u64,
    /// `None`: it was running.
    pub(crate) end: Option<(u64, Ended)>,
    pub(crate) details: Option<RunDetails>,
}

/// Names a run that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token(u64);

/// How far a reader has come that asks again and again what has run.
#[derive(Debug, Default)]
pub(crate) struct RingReader {
    /// All entries before this one have been seen.
    next: u64,
    /// Those of them that are to be seen again, oldest first.
    again: Vec<u64>,
}

/// How far a reader has come that takes each run once, when it has ended.
#[derive(Debug, Default)]
pub(crate) struct RingDrain {
    /// All entries before this one have been taken.
    next: u64,
    /// But for these, whose runs had not ended.
    open: Vec<u64>,
}

/// What has a ring that can be read from any thread.
pub(crate) trait RunSource: Send + Sync {
    fn ring(&self) -> Ring<'_>;

    /// What memory its process uses, where that is a worker's.
    fn memory(&self) -> Option<MemoryGauges> {
        None
    }
}

/// What a worker says of its memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryGauges {
    pub(crate) used: u64,
    /// 0: there is none.
    pub(crate) limit: u64,
    pub(crate) managed: u64,
    pub(crate) segments: u64,
    pub(crate) spilled: u64,
}

/// A ring somewhere in memory.
#[derive(Clone, Copy)]
pub(crate) struct Ring<'a> {
    cursor: &'a AtomicU64,
    entries: &'a [RingEntry],
}

impl<'a> Ring<'a> {
    /// `entries.len()` is a power of two, or nothing, which turns recording off.
    pub(crate) fn new(cursor: &'a AtomicU64, entries: &'a [RingEntry]) -> Self {
        debug_assert!(entries.is_empty() || entries.len().is_power_of_two());
        Self { cursor, entries }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&self, number: u64) -> &'a RingEntry {
        &self.entries[number as usize & (self.entries.len() - 1)]
    }

    /// Writes an entry, if nobody else does and nothing newer is there.
    fn write(&self, number: u64, kind: u64, words: [u64; WORDS - 1]) -> bool {
        let entry = &self.entry(number).0;
        let before = entry[SEQUENCE].load(Ordering::Relaxed);
        let free = before & BUSY == 0 && before & !IS_PART <= number;
        // Acquired, so that the words of whoever was here before are not written after ours.
        let take = |to| entry[SEQUENCE].compare_exchange(before, to, Ordering::Acquire, Ordering::Relaxed);
        if !free || take(BUSY | number).is_err() {
            return false;
        }
        // Whoever sees one of the words below sees the mark too.
        fence(Ordering::Release);
        for (word, value) in entry[1..].iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        entry[SEQUENCE].store((number + 1) | kind, Ordering::Release);
        true
    }

    /// Records that a run has begun. `name` is the task's, if it is not its function's.
    #[inline]
    pub(crate) fn begin(
        &self,
        attempt: Attempt,
        log_id: u64,
        key: u64,
        thread: usize,
        name: Option<&str>,
        now: u64,
    ) -> Token {
        if self.is_off() {
            return Token(NOWHERE);
        }
        let name = name.map_or(&[][..], |n| &n.as_bytes()[..n.floor_char_boundary(NAME * MOST_NAME)]);
        let more = name.len().div_ceil(NAME);
        let number = self.cursor.fetch_add(1 + more as u64, Ordering::Relaxed);
        let Attempt { task, number: attempt } = attempt;
        let job = u64::from(task.job.session.0) << 32 | u64::from(task.job.number);
        let detail = u64::from(task.index) | (thread as u64 & 0xffff) << 32 | (more as u64) << 48;
        let length = name.len() as u64 | u64::from(attempt) << 16;
        let written = self.write(number, 0, [now, number << 2 | RUNNING, log_id, key, job, detail, length]);
        for (i, part) in name.chunks(NAME).enumerate() {
            let mut words = [0; WORDS - 1];
            for (word, bytes) in words.iter_mut().zip(part.chunks(8)) {
                let mut whole = [0; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_le_bytes(whole);
            }
            self.write(number + 1 + i as u64, IS_PART, words);
        }
        Token(if written { number } else { NOWHERE })
    }

    /// Records that a run has ended, if it has not been overwritten meanwhile.
    #[inline]
    pub(crate) fn end(&self, token: Token, ended: Ended, now: u64, details: Option<&RunDetails>) {
        if token.0 == NOWHERE {
            return;
        }
        if let Some(details) = details {
            self.add_details(token, details);
        }
        let how = match ended {
            Ended::Finished => ENDED,
            Ended::Failed => ENDED | 1,
            Ended::Cancelled => 1,
        };
        let end = &self.entry(token.0).0[END];
        // The running mark carries the entry's number: of another run in the same entry it differs.
        let _ = end.compare_exchange(token.0 << 2 | RUNNING, now << 2 | how, Ordering::Release, Ordering::Relaxed);
    }

    /// Writes the details of a run into an entry of their own, and where that is into the run's. Before its end is
    /// recorded: whoever sees that sees these.
    #[cold]
    fn add_details(&self, token: Token, details: &RunDetails) {
        if self.entries.len() < FEWEST {
            return;
        }
        let RunDetails { assigned, cpu, bytes_in, bytes_out, peak, times } = *details;
        // Few runs do anything but compute: the others have one entry less.
        let has_times = times != [0; 3];
        let number = self.cursor.fetch_add(1 + u64::from(has_times), Ordering::Relaxed);
        let words = [token.0, assigned, cpu, bytes_in, bytes_out, peak, has_times.into()];
        let mut written = self.write(number, IS_PART, words);
        if has_times {
            let [reading, writing, suspended] = times;
            written &= self.write(number + 1, IS_PART, [token.0, reading, writing, suspended, 0, 0, 0]);
        }
        let distance = number - token.0;
        if !written || distance >= self.entries.len() as u64 {
            return;
        }
        let length = &self.entry(token.0).0[LENGTH];
        let before = length.load(Ordering::Relaxed);
        // Of another run that has come to the entry meanwhile, the details say that they are not its own.
        if before >> DISTANCE == 0 {
            let after = before | distance << DISTANCE;
            let _ = length.compare_exchange(before, after, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// The details of a run, if it has some and they are still there.
    fn details(&self, number: u64, words: &[u64; WORDS]) -> Option<RunDetails> {
        let distance = words[LENGTH] >> DISTANCE;
        if distance == 0 {
            return None;
        }
        let at = number + distance;
        let [_, owner, assigned, cpu, bytes_in, bytes_out, peak, has_times] = self.words(at, IS_PART)?;
        let (more, times) = match has_times {
            0 => (owner, [0; 3]),
            _ => {
                let [_, owner, reading, writing, suspended, ..] = self.words(at + 1, IS_PART)?;
                (owner, [reading, writing, suspended])
            }
        };
        let is_its = owner == number && more == number;
        is_its.then_some(RunDetails { assigned, cpu, bytes_in, bytes_out, peak, times })
    }

    fn words(&self, number: u64, kind: u64) -> Option<[u64; WORDS]> {
        let entry = &self.entry(number).0;
        let before = entry[SEQUENCE].load(Ordering::Acquire);
        let words = std::array::from_fn(|i| entry[i].load(Ordering::Relaxed));
        // The words above are read before the sequence is read again.
        fence(Ordering::Acquire);
        let after = entry[SEQUENCE].load(Ordering::Relaxed);
        (before == (number + 1) | kind && after == before).then_some(words)
    }

    /// What is recorded, oldest first. Runs that are overwritten while it reads are left out.
    pub(crate) fn read(&self) -> Vec<RingRecord> {
        let mut records = Vec::new();
        if self.is_off() {
            return records;
        }
        records.extend(self.numbers().filter_map(|number| self.record(number, &self.words(number, 0)?)));
        records
    }

    /// The runs that have not ended before the window, oldest first; the last of them if there are more than `most`. What
    /// the reader has seen to end before the end of a window, it does not look at again.
    pub(crate) fn running_in(&self, window: Range<u64>, reader: &mut RingReader, most: usize) -> Vec<RingRecord> {
        if self.is_off() {
            return Vec::new();
        }
        let there = self.numbers();
        let unseen = reader.next.max(there.start)..there.end;
        reader.next = there.end;
        let again = std::mem::take(&mut reader.again);
        let mut found = VecDeque::new();
        for number in again.into_iter().filter(|number| *number >= there.start).chain(unseen) {
            let Some(words) = self.words(number, 0) else {
                if self.is_unwritten(number) {
                    reader.again.push(number);
                }
                continue;
            };
            let end = if words[END] & 3 == RUNNING { u64::MAX } else { words[END] >> 2 };
            if end >= window.end {
                reader.again.push(number);
            }
            if end >= window.start {
                found.push_back((number, words));
            }
            if found.len() > most {
                found.pop_front();
            }
        }
        found.into_iter().filter_map(|(number, words)| self.record(number, &words)).collect()
    }

    /// Takes the runs that have ended and were not taken before, oldest first but for those that others have overtaken. The
    /// answer is how many entries were overwritten before they could be taken: so many runs are missing at most.
    pub(crate) fn drain(&self, drain: &mut RingDrain, take: &mut dyn FnMut(RingRecord)) -> u64 {
        if self.is_off() {
            return 0;
        }
        let there = self.numbers();
        let mut lost = there.start.saturating_sub(drain.next);
        let unseen = drain.next.max(there.start)..there.end;
        drain.next = there.end;
        let open = std::mem::take(&mut drain.open);
        for number in open.into_iter().chain(unseen) {
            match self.words(number, 0) {
                Some(words) if words[END] & 3 == RUNNING => drain.open.push(number),
                Some(words) => match self.record(number, &words) {
                    Some(record) => take(record),
                    None => lost += 1,
                },
                None if self.is_unwritten(number) => drain.open.push(number),
                None => lost += u64::from(!self.is_part(number)),
            }
        }
        lost
    }

    /// Takes nothing of what has begun so far.
    pub(crate) fn skip(&self, drain: &mut RingDrain) {
        drain.next = self.numbers_end();
        drain.open.clear();
    }

    fn numbers_end(&self) -> u64 {
        if self.is_off() { 0 } else { self.cursor.load(Ordering::Acquire) }
    }

    /// The runs that are taken when they end, as far as they are still recorded.
    pub(crate) fn open(&self, drain: &RingDrain) -> Vec<RingRecord> {
        drain.open.iter().filter_map(|number| self.record(*number, &self.words(*number, 0)?)).collect()
    }

    /// Whether the entry is a part of a run, and not its first.
    fn is_part(&self, number: u64) -> bool {
        self.entry(number).0[SEQUENCE].load(Ordering::Relaxed) == (number + 1) | IS_PART
    }

    /// Whether the run, or part of a name, that an entry is for is still to be written to it.
    fn is_unwritten(&self, number: u64) -> bool {
        let sequence = self.entry(number).0[SEQUENCE].load(Ordering::Relaxed);
        sequence & !IS_PART & !BUSY <= number
    }

    /// The run of a task that began last, if it is still recorded. Fast for one that began a short time ago.
    pub(crate) fn latest(&self, task: TaskId) -> Option<RingRecord> {
        if self.is_off() {
            return None;
        }
        let found = self.numbers().rev().find_map(|number| {
            let words = self.words(number, 0)?;
            (task_of(&words) == task).then_some((number, words))
        });
        found.and_then(|(number, words)| self.record(number, &words))
    }

    /// Shows the runs that began last, the latest first: so many at most.
    pub(crate) fn recent(&self, most: usize, see: &mut dyn FnMut(RingRecord)) {
        if self.is_off() {
            return;
        }
        let numbers = self.numbers().rev().take(most);
        numbers.filter_map(|number| self.record(number, &self.words(number, 0)?)).for_each(see);
    }

    /// The attempts at tasks that are recorded to have begun, oldest first: once for each call of theirs.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        if self.is_off() {
            return Vec::new();
        }
        let attempt = |words: [u64; WORDS]| Attempt { task: task_of(&words), number: (words[LENGTH] >> 16) as u16 };
        self.numbers().filter_map(|number| self.words(number, 0).map(attempt)).collect()
    }

    /// The numbers of the entries that are there, oldest first.
    fn numbers(&self) -> std::ops::Range<u64> {
        let end = self.cursor.load(Ordering::Acquire);
        end.saturating_sub(self.entries.len() as u64)..end
    }

    /// What the words of a run say, with the name behind them.
    fn record(&self, number: u64, words: &[u64; WORDS]) -> Option<RingRecord> {
        let (more, length) = (words[DETAIL] >> 48, (words[LENGTH] & 0xffff) as usize);
        let mut name = Vec::with_capacity(length);
        for i in 0..more {
            let part = self.words(number + 1 + i, IS_PART)?;
            name.extend(part[1..].iter().flat_map(|w| w.to_le_bytes()));
        }
        name.truncate(length);
        let end = match words[END] & 3 {
            RUNNING => None,
            1 => Some((words[END] >> 2, Ended::Cancelled)),
            ENDED => Some((words[END] >> 2, Ended::Finished)),
            _ => Some((words[END] >> 2, Ended::Failed)),
        };
        let run = RecordedRun {
            task: task_of(words),
            log_id: words[LOG_ID],
            key: words[KEY],
            thread: (words[DETAIL] >> 32) as u16,
            attempt: (words[LENGTH] >> 16) as u16,
            name: (length > 0).then(|| String::from_utf8_lossy(&name).into_owned()),
        };
        Some(RingRecord { run, start: words[START], end, details: self.details(number, words) })
    }
}

fn task_of(words: &[u64; WORDS]) -> TaskId {
    let job = JobId { session: SessionId((words[JOB] >> 32) as u32), number: words[JOB] as u32 };
    TaskId { job, index: words[DETAIL] as u32 }
}

/// A ring in memory of its own.
pub(crate) struct OwnRing {
    cursor: AtomicU64,
    entries: Box<[RingEntry]>,
}

impl OwnRing {
    /// For so many runs, rounded up to a power of two; 0 turns recording off.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = if capacity == 0 { 0 } else { capacity.next_power_of_two() };
        Self { cursor: AtomicU64::new(0), entries: std::iter::repeat_with(RingEntry::default).take(capacity).collect() }
    }

    pub(crate) fn ring(&self) -> Ring<'_> {
        Ring::new(&self.cursor, &self.entries)
    }
}

impl RunSource for OwnRing {
    fn ring(&self) -> Ring<'_> {
        self.ring()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    fn task(index: u32) -> TaskId {
        TaskId { job: JobId { session: SessionId(3), number: 5 }, index }
    }

    fn attempt(index: u32) -> Attempt {
        Attempt { task: task(index), number: 1 }
    }

    #[test]
    fn what_is_written_is_read() {
        let own = OwnRing::new(8);
        let ring = own.ring();
        let first = ring.begin(attempt(1), 100, 7, 2, None, 10);
        let second = ring.begin(attempt(2), 200, 8, 3, Some("named"), 20);
        ring.end(second, Ended::Failed, 30, None);
        let records = ring.read();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].end, None);
        assert_eq!(
            records[0].run,
            RecordedRun { task: task(1), log_id: 100, key: 7, thread: 2, attempt: 1, name: None }
        );
        assert_eq!(records[1].run.name.as_deref(), Some("named"));
        assert_eq!((records[1].start, records[1].end), (20, Some((30, Ended::Failed))));
        ring.end(first, Ended::Finished, 40, None);
        assert_eq!(ring.read()[0].end, Some((40, Ended::Finished)));
        ring.begin(attempt(2), 300, 9, 3, Some("named again"), 50);
        assert_eq!(ring.latest(task(2)), ring.read().pop());
        assert_eq!(ring.latest(task(1)), Some(ring.read().remove(0)));
        assert_eq!(ring.latest(task(3)), None);
    }

    #[test]
    fn each_run_is_drained_once_and_what_was_overwritten_is_counted() {
        let own = OwnRing::new(8);
        let (ring, mut drain) = (own.ring(), RingDrain::default());
        let drained = |drain: &mut RingDrain| {
            let mut taken = Vec::new();
            let lost = ring.drain(drain, &mut |record| taken.push(record.run.task.index));
            (taken, lost)
        };
        let first = ring.begin(attempt(1), 1, 1, 0, None, 1);
        let second = ring.begin(attempt(2), 1, 1, 0, Some("named"), 2);
        ring.end(second, Ended::Finished, 3, None);
        assert_eq!(drained(&mut drain), (vec![2], 0));
        assert_eq!(ring.open(&drain).iter().map(|r| r.run.task.index).collect::<Vec<_>>(), [1]);
        ring.end(first, Ended::Failed, 4, None);
        assert_eq!(drained(&mut drain), (vec![1], 0));
        assert_eq!(drained(&mut drain), (vec![], 0));
        let slow = ring.begin(attempt(3), 1, 1, 0, None, 5);
        assert_eq!(drained(&mut drain), (vec![], 0));
        for i in 10..20 {
            ring.end(ring.begin(attempt(i), 1, 1, 0, None, 6), Ended::Finished, 7, None);
        }
        ring.end(slow, Ended::Finished, 8, None);
        // Two that were never seen, and the one that had not ended.
        assert_eq!(drained(&mut drain), ((12..20).collect(), 3));
        assert_eq!(drained(&mut drain), (vec![], 0));
    }

    #[test]
    fn what_is_drained_while_others_write_is_each_run_once() {
        const RUNS: u32 = 20_000;
        let own = Arc::new(OwnRing::new(64));
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let own = Arc::clone(&own);
                std::thread::spawn(move || {
                    for i in 0..RUNS {
                        let task = attempt(writer * RUNS + i);
                        let name = (i % 5 == 0).then_some("a name");
                        own.ring().end(own.ring().begin(task, 1, 1, 0, name, 1), Ended::Finished, 2, None);
                    }
                })
            })
            .collect();
        let (mut drain, mut seen, mut lost) = (RingDrain::default(), vec![0_u8; 2 * RUNS as usize], 0);
        loop {
            let is_over = writers.iter().all(std::thread::JoinHandle::is_finished);
            lost += own.ring().drain(&mut drain, &mut |record| seen[record.run.task.index as usize] += 1);
            if is_over {
                break;
            }
        }
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        assert!(seen.iter().all(|times| *times <= 1));
        let missing = seen.iter().filter(|times| **times == 0).count() as u64;
        assert!(
            missing <= lost && missing < u64::from(2 * RUNS),
            "{missing} are missing, {lost} entries were overwritten"
        );
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let own = OwnRing::new(16);
        let long = "ä".repeat(400);
        own.ring().begin(attempt(1), 1, 1, 0, Some(&long), 1);
        own.ring().begin(attempt(2), 1, 1, 0, None, 2);
        let records = own.ring().read();
        assert_eq!(records.len(), 2);
        let name = records[0].run.name.as_deref().unwrap_or_default();
        assert!(long.starts_with(name) && name.len() > 200 && name.len() <= NAME * MOST_NAME);
    }

    #[test]
    fn the_oldest_are_overwritten_and_a_late_end_spoils_nothing() {
        let own = OwnRing::new(4);
        let ring = own.ring();
        let old = ring.begin(attempt(0), 1, 1, 0, None, 1);
        for i in 1..=4 {
            let token = ring.begin(attempt(i), 1, 1, 0, None, u64::from(i));
            ring.end(token, Ended::Finished, 100 + u64::from(i), None);
        }
        ring.end(old, Ended::Failed, 999, None);
        let records = ring.read();
        assert_eq!(records.iter().map(|r| r.run.task.index).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(records.iter().all(|r| matches!(r.end, Some((_, Ended::Finished)))));
    }

    #[test]
    fn attempts_are_told_apart_also_where_the_task_has_a_name() {
        let own = OwnRing::new(8);
        let attempts = [7, u16::MAX, 0].map(|number| Attempt { number, ..attempt(1) });
        for attempt in attempts {
            let token = own.ring().begin(attempt, 1, 1, 0, (attempt.number == 7).then_some("named"), 1);
            own.ring().end(token, Ended::Finished, 2, None);
        }
        assert_eq!(own.ring().attempts(), attempts);
        assert_eq!(own.ring().read()[0].run.name.as_deref(), Some("named"));
        assert!(own.ring().read()[1..].iter().all(|record| record.run.name.is_none()));
    }

    #[test]
    fn a_reader_sees_each_run_until_it_has_ended_for_good() {
        let own = OwnRing::new(8);
        let mut reader = RingReader::default();
        let begin = |index, now| own.ring().begin(attempt(index), 1, 1, 0, (index == 2).then_some("named"), now);
        let mut seen = |window| -> Vec<u32> {
            own.ring().running_in(window, &mut reader, 2).iter().map(|record| record.run.task.index).collect()
        };
        let long = begin(1, 1);
        own.ring().end(begin(2, 2), Ended::Finished, 3, None);
        assert_eq!(seen(0..4), [1, 2]);
        own.ring().end(begin(3, 4), Ended::Finished, 6, None);
        assert_eq!(seen(4..6), [1, 3], "the third ended when the window did");
        assert_eq!(seen(6..8), [1, 3]);
        assert_eq!(seen(8..9), [1]);
        own.ring().end(long, Ended::Finished, 9, None);
        (4..7).for_each(|index| own.ring().end(begin(index, 9), Ended::Finished, 9, None));
        assert_eq!(seen(9..10), [5, 6], "the last two");
        assert_eq!(seen(10..11), [0; 0]);
        for index in 7..40 {
            begin(index, 11);
        }
        assert_eq!(seen(11..12), [38, 39], "others have been overwritten unseen");
    }

    #[test]
    fn nothing_is_kept_where_it_is_off() {
        let own = OwnRing::new(0);
        let token = own.ring().begin(attempt(0), 1, 1, 0, None, 1);
        own.ring().end(token, Ended::Finished, 2, None);
        assert!(own.ring().read().is_empty());
    }

    #[test]
    fn details_belong_to_their_run_or_are_not_there() {
        let details = |n| RunDetails {
            assigned: n,
            cpu: n + 1,
            bytes_in: n + 2,
            bytes_out: n + 3,
            peak: n + 4,
            times: [n, 0, n],
        };
        let own = OwnRing::new(16);
        let ring = own.ring();
        let begin = |i: u32, name| ring.begin(attempt(i), 1, u64::from(i), 0, name, 1);
        let tokens: Vec<_> = (0..4).map(|i| begin(i, (i == 2).then_some("named"))).collect();
        let mut drain = RingDrain::default();
        let mut taken = Vec::new();
        assert_eq!(ring.drain(&mut drain, &mut |record| taken.push(record)), 0);
        // In another order than they began, and one without.
        for i in [3, 0, 2] {
            ring.end(tokens[i], Ended::Finished, 9, Some(&details(10 * i as u64)));
        }
        ring.end(tokens[1], Ended::Failed, 9, None);
        let known: Vec<_> =
            ring.read().into_iter().map(|r| (r.run.key, r.run.name, r.run.attempt, r.details)).collect();
        let named = Some("named".to_string());
        let expected = [
            (0, None, 1, Some(details(0))),
            (1, None, 1, None),
            (2, named, 1, Some(details(20))),
            (3, None, 1, Some(details(30))),
        ];
        assert_eq!(known, expected);
        assert_eq!(ring.drain(&mut drain, &mut |record| taken.push(record)), 0);
        assert_eq!(taken.iter().filter(|r| r.details.is_some()).count(), 3);
        // What overwrites the details takes them from their run; what overwrites the run does not get them.
        let old = begin(5, None);
        (0..10).for_each(|i| ring.end(begin(10 + i, None), Ended::Finished, 2, None));
        ring.end(old, Ended::Finished, 3, Some(&details(7)));
        let read = ring.read();
        assert!(read.iter().any(|r| r.run.key == 5 && r.details == Some(details(7))));
        (0..12).for_each(|i| ring.end(begin(30 + i, None), Ended::Finished, 2, None));
        assert!(ring.read().iter().all(|r| r.details.is_none()));
        // A ring that is too small for it has the run.
        let small = OwnRing::new(4);
        small.ring().end(small.ring().begin(attempt(1), 1, 1, 0, None, 1), Ended::Finished, 2, Some(&details(1)));
        assert_eq!(small.ring().read()[0].details, None);
    }

    #[test]
    fn readers_see_whole_runs_while_threads_write() {
        let own = Arc::new(OwnRing::new(64));
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..2_u64)
            .map(|w| {
                let (own, stop) = (Arc::clone(&own), Arc::clone(&stop));
                std::thread::spawn(move || {
                    let mut n = w;
                    while !stop.load(Ordering::Relaxed) {
                        n += 2;
                        let name = n.is_multiple_of(5).then(|| format!("name-{n}"));
                        let token = own.ring().begin(attempt(n as u32), n, n, w as usize, name.as_deref(), n);
                        own.ring().end(token, Ended::Finished, n, None);
                    }
                })
            })
            .collect();
        let mut seen = 0;
        while seen < 100_000 {
            for record in own.ring().read() {
                let n = record.run.log_id;
                assert_eq!((record.run.key, record.start, record.run.task), (n, n, task(n as u32)));
                if let Some(name) = &record.run.name {
                    assert_eq!(name, &format!("name-{n}"));
                }
                seen += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|w| w.join().expect("no panic"));
    }
}
