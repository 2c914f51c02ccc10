//! Rows of runs: a column of numbers for each field.

use super::columns::{Columns, Cursor, Packer};
use super::nanos;
use super::packed::{Numbers, difference, differing};
use super::rows::{Span, Strings};
use super::run::{Outcome, Run};
use rustc_hash::FxHashMap;
use std::time::Duration;

/// The columns by number; that of strings is 1. A number is never used again for something else.
const HASH: u8 = 3;
const FIRST: u8 = 16;
/// The columns of numbers, from `FIRST` on.
const PRESENT: usize = 0;
const OUTCOME: usize = 1;
const NAME: usize = 2;
const WORKER: usize = 3;
const THREAD: usize = 4;
const GRAPH: usize = 5;
const TASK: usize = 6;
const ATTEMPT: usize = 7;
const START: usize = 8;
/// From here on a column has only the numbers that are present, each with its bit.
const OPTIONAL: usize = 9;
const SUBMITTED: usize = 9;
const READY: usize = 10;
const ASSIGNED: usize = 11;
const TOOK: usize = 12;
const CPU: usize = 13;
const BYTES_IN: usize = 14;
const BYTES_OUT: usize = 15;
const PEAK: usize = 16;
const READING: usize = 17;
const WRITING: usize = 18;
const SUSPENDED: usize = 19;
const COLUMNS: usize = 20;

/// About how many bytes a run takes, when there are enough of them.
const ROW: usize = 24;

/// What the numbers of a row count from.
#[derive(Default)]
struct Before {
    task: u64,
    submitted: u64,
    start: u64,
    /// When the last run of each thread had ended: the next one most often begins soon after.
    ends: FxHashMap<(u64, u64), u64>,
}

impl Before {
    /// From when the start of a run counts. Makes it the place of its end.
    #[inline]
    fn end_of(&mut self, worker: u64, thread: u64) -> &mut u64 {
        self.ends.entry((worker, thread)).or_insert(self.start)
    }
}

/// Runs that are to become a chunk.
#[derive(Default)]
pub(super) struct RunRows {
    pub(super) count: u32,
    strings: Strings,
    hashes: Vec<u8>,
    columns: [Numbers; COLUMNS],
    before: Before,
    span: Option<Span>,
}

impl RunRows {
    #[inline]
    pub(super) fn push(&mut self, run: &Run) {
        let (columns, before) = (&mut self.columns, &mut self.before);
        let (name, worker) = (self.strings.number(0, &run.name), self.strings.number(1, &run.worker));
        let thread = u64::from(run.thread);
        let start = nanos::of(run.start);
        columns[OUTCOME].push(run.outcome.index() as u64);
        columns[NAME].push(name);
        columns[WORKER].push(worker);
        columns[THREAD].push(thread);
        columns[GRAPH].push(u64::from(run.graph));
        columns[TASK].push(difference(u64::from(run.task), before.task));
        before.task = u64::from(run.task);
        columns[ATTEMPT].push(u64::from(run.attempt));
        self.hashes.extend_from_slice(&run.hash.to_le_bytes());
        let end = before.end_of(worker, thread);
        columns[START].push(difference(start, *end));
        *end = run.end.map_or(start, nanos::of);
        let end = *end;
        before.start = start;

        let mut present = 0;
        let mut optional = |column: usize, number: Option<u64>| {
            if let Some(number) = number {
                columns[column].push(number);
                present |= 1 << (column - OPTIONAL);
            }
        };
        // A task becomes ready, is assigned, starts and ends, mostly: each of these counts from the one that is nearest.
        let assigned = run.assigned.map(nanos::of);
        optional(ASSIGNED, assigned.map(|assigned| start.wrapping_sub(assigned)));
        let after_ready = assigned.unwrap_or(start);
        optional(READY, run.ready.map(|ready| after_ready.wrapping_sub(nanos::of(ready))));
        optional(TOOK, run.end.map(|_| end.wrapping_sub(start)));
        // Most runs are on a processor for nearly all of their time.
        optional(CPU, run.cpu.map(|cpu| difference(end.wrapping_sub(start), nanos::of(cpu))));
        if let Some(submitted) = run.submitted.map(nanos::of) {
            optional(SUBMITTED, Some(difference(submitted, before.submitted)));
            before.submitted = submitted;
        }
        optional(BYTES_IN, run.bytes_in);
        optional(BYTES_OUT, run.bytes_out);
        optional(PEAK, run.peak);
        optional(READING, run.reading.map(nanos::of));
        optional(WRITING, run.writing.map(nanos::of));
        optional(SUSPENDED, run.suspended.map(nanos::of));
        columns[PRESENT].push(present);
        self.count += 1;
        self.span.get_or_insert(Span::NONE).add(start, end);
    }

    /// About how many bytes the rows take.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.count as usize * ROW + self.strings.size()
    }

    /// Takes the rows as a payload.
    pub(super) fn take(&mut self, packer: &mut Packer) -> (Vec<u8>, Span) {
        let mut payload = Vec::with_capacity(self.size() + 512);
        self.strings.write(&mut payload, packer);
        // Hashes are random.
        Packer::stored(&mut payload, HASH, &self.hashes);
        for (number, column) in (FIRST..).zip(&mut self.columns) {
            Packer::numbers(&mut payload, number, column);
        }
        self.strings = Strings::default();
        self.before = Before::default();
        self.hashes.clear();
        self.count = 0;
        (payload, self.span.take().unwrap_or(Span::NONE))
    }
}

/// The runs of a payload; `None` where it has not that many whole ones.
pub(super) fn read_runs(payload: &[u8], count: u32) -> Option<Vec<Run>> {
    let count = count as usize;
    let columns = Columns::of(payload)?;
    let strings = Strings::read(&columns)?;
    let hashes = columns.unpack(HASH)?;
    let mut hashes = Cursor(&hashes);
    let numbers = |column: usize, count| columns.numbers(FIRST + column as u8, count);
    let always: Vec<Vec<u64>> = (0..OPTIONAL).map(|column| numbers(column, count)).collect::<Option<_>>()?;
    let optional = |column: usize| {
        let there = always[PRESENT].iter().filter(|present| *present >> (column - OPTIONAL) & 1 != 0).count();
        // Earlier versions have fewer columns.
        if there == 0 { Some(Vec::new().into_iter()) } else { numbers(column, there).map(Vec::into_iter) }
    };
    let mut optional: Vec<_> = (OPTIONAL..COLUMNS).map(optional).collect::<Option<_>>()?;
    let mut before = Before::default();
    let mut runs = Vec::with_capacity(count);
    for (i, present) in always[PRESENT].iter().copied().enumerate() {
        let at = |column: usize| always[column][i];
        let mut next = |column: usize| {
            let place = column - OPTIONAL;
            if present >> place & 1 != 0 { optional[place].next() } else { None }
        };
        let (worker, thread) = (at(WORKER), at(THREAD));
        let end = before.end_of(worker, thread);
        let start = differing(at(START), *end);
        let took = next(TOOK);
        *end = start.wrapping_add(took.unwrap_or(0));
        let ended = took.map(|_| *end);
        before.start = start;
        before.task = differing(at(TASK), before.task);
        let assigned = next(ASSIGNED).map(|before_start| start.wrapping_sub(before_start));
        let ready = next(READY).map(|earlier| assigned.unwrap_or(start).wrapping_sub(earlier));
        let submitted = next(SUBMITTED).map(|later| {
            before.submitted = differing(later, before.submitted);
            before.submitted
        });
        // The difference was taken from the time between start and end.
        let cpu = next(CPU).map(|less| undo(took.unwrap_or(0), less));
        let time = |number: Option<u64>| number.map(Duration::from_nanos);
        runs.push(Run {
            graph: u32::try_from(at(GRAPH)).ok()?,
            task: u32::try_from(before.task).ok()?,
            attempt: u16::try_from(at(ATTEMPT)).ok()?,
            name: strings.get(usize::try_from(at(NAME)).ok()?)?.clone(),
            hash: hashes.word()?,
            worker: strings.get(usize::try_from(worker).ok()?)?.clone(),
            thread: u16::try_from(thread).ok()?,
            submitted: time(submitted),
            ready: time(ready),
            assigned: time(assigned),
            start: Duration::from_nanos(start),
            end: time(ended),
            cpu: time(cpu),
            reading: time(next(READING)),
            writing: time(next(WRITING)),
            suspended: time(next(SUSPENDED)),
            bytes_in: next(BYTES_IN),
            bytes_out: next(BYTES_OUT),
            peak: next(PEAK),
            outcome: *Outcome::ALL.get(usize::try_from(at(OUTCOME)).ok()?)?,
        });
    }
    Some(runs)
}

/// What was taken from a number to leave this difference.
fn undo(number: u64, difference: u64) -> u64 {
    number.wrapping_sub(differing(difference, 0))
}
