//! What is in the chunks: rows of runs, of sums, of inputs, and of JSON objects, as columns.
//!
//! Each chunk has the names that its rows use, so that none of them needs another one.

use super::columns::{Columns, Cursor, Packer, put, put_difference};
use super::nanos;
use super::run::{Outcome, Run};
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// A name longer than this is cut, and ends in `…` then.
pub(super) const LONGEST_NAME: usize = 4096;

/// The columns by number. A number is never used again for something else.
mod column {
    pub(super) const STRINGS: u8 = 1;
    pub(super) const PRESENT: u8 = 2;
    pub(super) const OUTCOME: u8 = 3;
    pub(super) const NAME: u8 = 4;
    pub(super) const WORKER: u8 = 5;
    pub(super) const THREAD: u8 = 6;
    pub(super) const GRAPH: u8 = 7;
    pub(super) const TASK: u8 = 8;
    pub(super) const ATTEMPT: u8 = 9;
    pub(super) const HASH: u8 = 10;
    pub(super) const START: u8 = 11;
    pub(super) const TOOK: u8 = 12;
    pub(super) const ASSIGNED: u8 = 13;
    pub(super) const READY: u8 = 14;
    pub(super) const SUBMITTED: u8 = 15;
    pub(super) const CPU: u8 = 16;
    pub(super) const BYTES_IN: u8 = 17;
    pub(super) const BYTES_OUT: u8 = 18;
    pub(super) const PEAK: u8 = 19;
    pub(super) const BUCKET: u8 = 20;
    pub(super) const RUNS: u8 = 21;
    pub(super) const LONGEST: u8 = 22;
    pub(super) const INPUT_NAME: u8 = 23;
    pub(super) const INPUT_HASH: u8 = 24;
    pub(super) const OBJECTS: u8 = 25;
    pub(super) const END: u8 = 26;
}

/// The earliest and the latest time of some rows, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) u64, pub(super) u64);

impl Span {
    pub(super) const NONE: Self = Self(u64::MAX, 0);

    #[inline]
    pub(super) fn add(&mut self, from: u64, to: u64) {
        self.0 = self.0.min(from);
        self.1 = self.1.max(to);
    }

    pub(super) fn times(self) -> (u64, u64) {
        if self.0 > self.1 { (0, 0) } else { (self.0, self.1) }
    }
}

/// Numbers for the strings of one chunk.
#[derive(Default)]
pub(super) struct Strings {
    numbers: FxHashMap<Arc<str>, u64>,
    column: Vec<u8>,
    last: [Option<(Arc<str>, u64)>; 2],
}

impl Strings {
    /// The number of a string. Each of the two kinds remembers its last one.
    #[inline]
    fn number(&mut self, kind: usize, string: &Arc<str>) -> u64 {
        match &self.last[kind] {
            Some((last, number)) if Arc::ptr_eq(last, string) => *number,
            _ => self.look_up(kind, string),
        }
    }

    fn look_up(&mut self, kind: usize, string: &Arc<str>) -> u64 {
        let number = match self.numbers.get(string) {
            Some(number) => *number,
            None => {
                let number = self.numbers.len() as u64;
                self.numbers.insert(string.clone(), number);
                let kept = cut(string, LONGEST_NAME);
                put(&mut self.column, kept.len() as u64);
                self.column.extend_from_slice(kept.as_bytes());
                number
            }
        };
        self.last[kind] = Some((string.clone(), number));
        number
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn read(columns: &Columns<'_>) -> Option<Vec<Arc<str>>> {
        let column = columns.unpack(column::STRINGS)?;
        let mut cursor = Cursor(&column);
        let mut strings = Vec::new();
        while !cursor.0.is_empty() {
            let length = cursor.small()?;
            strings.push(std::str::from_utf8(cursor.bytes(length)?).ok()?.into());
        }
        Some(strings)
    }
}

/// The text, or so many bytes of it and `…`.
pub(super) fn cut(text: &str, most: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= most { text.into() } else { format!("{}…", &text[..text.floor_char_boundary(most)]).into() }
}

const SUBMITTED: u8 = 1;
const READY: u8 = 2;
const ASSIGNED: u8 = 4;
const END: u8 = 8;
const CPU: u8 = 16;
const BYTES_IN: u8 = 32;
const BYTES_OUT: u8 = 64;
const PEAK: u8 = 128;

/// Runs that are to become a chunk.
#[derive(Default)]
pub(super) struct RunRows {
    pub(super) count: u32,
    strings: Strings,
    present: Vec<u8>,
    outcome: Vec<u8>,
    name: Vec<u8>,
    worker: Vec<u8>,
    thread: Vec<u8>,
    graph: Vec<u8>,
    task: Vec<u8>,
    attempt: Vec<u8>,
    hash: Vec<u8>,
    start: Vec<u8>,
    took: Vec<u8>,
    assigned: Vec<u8>,
    ready: Vec<u8>,
    submitted: Vec<u8>,
    cpu: Vec<u8>,
    bytes_in: Vec<u8>,
    bytes_out: Vec<u8>,
    peak: Vec<u8>,
    last: Last,
    span: Option<Span>,
}

/// What the differences of a row count from.
#[derive(Default)]
struct Last {
    graph: u64,
    task: u64,
    start: u64,
    submitted: u64,
    bytes_in: u64,
    bytes_out: u64,
    peak: u64,
}

/// Appends the number, if there is one, as a difference to the last one, and says so.
#[inline]
fn optional(column: &mut Vec<u8>, number: Option<u64>, last: &mut u64, bit: u8) -> u8 {
    let Some(number) = number else { return 0 };
    put_difference(column, number, *last);
    *last = number;
    bit
}

impl RunRows {
    #[inline]
    pub(super) fn push(&mut self, run: &Run) {
        let last = &mut self.last;
        let start = nanos::of(run.start);
        let (name, worker) = (self.strings.number(0, &run.name), self.strings.number(1, &run.worker));
        put(&mut self.name, name);
        put(&mut self.worker, worker);
        put(&mut self.thread, u64::from(run.thread));
        put(&mut self.attempt, u64::from(run.attempt));
        put_difference(&mut self.graph, u64::from(run.graph), last.graph);
        last.graph = u64::from(run.graph);
        put_difference(&mut self.task, u64::from(run.task), last.task);
        last.task = u64::from(run.task);
        self.hash.extend_from_slice(&run.hash.to_le_bytes());
        put_difference(&mut self.start, start, last.start);
        last.start = start;

        // A task becomes ready, is assigned, starts and ends: each of these counts from the one that is nearest.
        let mut from = start;
        let assigned = optional(&mut self.assigned, run.assigned.map(nanos::of), &mut from, ASSIGNED);
        let ready = optional(&mut self.ready, run.ready.map(nanos::of), &mut from, READY);
        let submitted = run.submitted.map(nanos::of);
        let mut present = assigned | ready | optional(&mut self.submitted, submitted, &mut last.submitted, SUBMITTED);
        let mut end = start;
        present |= optional(&mut self.took, run.end.map(nanos::of), &mut end, END);
        // Most runs are on a processor for nearly all of their time.
        let mut took = end.wrapping_sub(start);
        present |= optional(&mut self.cpu, run.cpu.map(nanos::of), &mut took, CPU);
        present |= optional(&mut self.bytes_in, run.bytes_in, &mut last.bytes_in, BYTES_IN);
        present |= optional(&mut self.bytes_out, run.bytes_out, &mut last.bytes_out, BYTES_OUT);
        present |= optional(&mut self.peak, run.peak, &mut last.peak, PEAK);
        self.present.push(present);
        self.outcome.push(run.outcome.index() as u8);
        self.count += 1;
        self.span.get_or_insert(Span::NONE).add(start, end);
    }

    /// About how many bytes the rows take before they are packed.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.hash.len() * 3 + self.strings.column.len()
    }

    /// Takes the rows as a payload.
    pub(super) fn take(&mut self, packer: &mut Packer) -> (Vec<u8>, Span) {
        let mut payload = Vec::with_capacity(self.hash.len() * 3 + 512);
        packer.column(&mut payload, column::STRINGS, &self.strings.column);
        let columns = [
            &mut self.present,
            &mut self.outcome,
            &mut self.name,
            &mut self.worker,
            &mut self.thread,
            &mut self.graph,
            &mut self.task,
            &mut self.attempt,
            &mut self.hash,
            &mut self.start,
            &mut self.took,
            &mut self.assigned,
            &mut self.ready,
            &mut self.submitted,
            &mut self.cpu,
            &mut self.bytes_in,
            &mut self.bytes_out,
            &mut self.peak,
        ];
        for (number, bytes) in RUNS.into_iter().zip(columns) {
            match number {
                // Hashes are random.
                column::HASH => packer.stored(&mut payload, number, bytes),
                _ => packer.column(&mut payload, number, bytes),
            }
            bytes.clear();
        }
        self.strings.clear();
        self.last = Last::default();
        self.count = 0;
        (payload, self.span.take().unwrap_or(Span::NONE))
    }
}

const RUNS: [u8; 18] = [
    column::PRESENT,
    column::OUTCOME,
    column::NAME,
    column::WORKER,
    column::THREAD,
    column::GRAPH,
    column::TASK,
    column::ATTEMPT,
    column::HASH,
    column::START,
    column::TOOK,
    column::ASSIGNED,
    column::READY,
    column::SUBMITTED,
    column::CPU,
    column::BYTES_IN,
    column::BYTES_OUT,
    column::PEAK,
];

/// The runs of a payload; `None` where it has not that many whole ones.
pub(super) fn read_runs(payload: &[u8], count: u32) -> Option<Vec<Run>> {
    let columns = Columns::of(payload)?;
    let strings = Strings::read(&columns)?;
    let raw: Vec<Vec<u8>> = RUNS.into_iter().map(|number| columns.unpack(number)).collect::<Option<_>>()?;
    let [
        mut present,
        mut outcome,
        mut name,
        mut worker,
        mut thread,
        mut graph,
        mut task,
        mut attempt,
        mut hash,
        mut start,
        mut took,
        mut assigned,
        mut ready,
        mut submitted,
        mut cpu,
        mut bytes_in,
        mut bytes_out,
        mut peak,
    ] = std::array::from_fn(|i| Cursor(&raw[i]));
    let mut last = Last::default();
    // A row has a byte at least in the column of what is present.
    let count = count as usize;
    if present.0.len() != count {
        return None;
    }
    let next = |cursor: &mut Cursor<'_>, is_there: bool, last: &mut u64| -> Option<Option<u64>> {
        if !is_there {
            return Some(None);
        }
        *last = cursor.difference(*last)?;
        Some(Some(*last))
    };
    let time = |number: Option<u64>| number.map(Duration::from_nanos);
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        let has = present.byte()?;
        last.graph = graph.difference(last.graph)?;
        last.task = task.difference(last.task)?;
        last.start = start.difference(last.start)?;
        let mut from = last.start;
        let assigned = next(&mut assigned, has & ASSIGNED != 0, &mut from)?;
        let ready = next(&mut ready, has & READY != 0, &mut from)?;
        let submitted = next(&mut submitted, has & SUBMITTED != 0, &mut last.submitted)?;
        let mut end = last.start;
        let ended = next(&mut took, has & END != 0, &mut end)?;
        let mut took = end.wrapping_sub(last.start);
        runs.push(Run {
            graph: u32::try_from(last.graph).ok()?,
            task: u32::try_from(last.task).ok()?,
            attempt: attempt.small()?,
            name: strings.get(name.small::<usize>()?)?.clone(),
            hash: hash.word()?,
            worker: strings.get(worker.small::<usize>()?)?.clone(),
            thread: thread.small()?,
            submitted: time(submitted),
            ready: time(ready),
            assigned: time(assigned),
            start: Duration::from_nanos(last.start),
            end: time(ended),
            cpu: time(next(&mut cpu, has & CPU != 0, &mut took)?),
            bytes_in: next(&mut bytes_in, has & BYTES_IN != 0, &mut last.bytes_in)?,
            bytes_out: next(&mut bytes_out, has & BYTES_OUT != 0, &mut last.bytes_out)?,
            peak: next(&mut peak, has & PEAK != 0, &mut last.peak)?,
            outcome: *Outcome::ALL.get(usize::from(outcome.byte()?))?,
        });
    }
    Some(runs)
}

/// Runs of one group that are only counted and summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Folded {
    /// The number of their graph; none where those of several are counted together.
    pub graph: Option<u32>,
    /// Their name.
    pub name: Arc<str>,
    /// They ended between this time and the other.
    pub from: Duration,
    /// See `from`.
    pub to: Duration,
    /// How many there are of each [`Outcome`], in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// The sum of their times.
    pub took: Duration,
    /// The sum of their times on a processor.
    pub cpu: Duration,
    /// The sum of what went in.
    pub bytes_in: u64,
    /// The sum of what came out.
    pub bytes_out: u64,
    /// The longest of their times.
    pub longest: Duration,
}

impl Folded {
    /// How many runs.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.outcomes.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

pub(super) fn write_folded(rows: &[Folded], packer: &mut Packer) -> (Vec<u8>, Span) {
    let (mut strings, mut span) = (Strings::default(), Span::NONE);
    let mut columns: [Vec<u8>; 10] = Default::default();
    let mut last = (0, 0);
    for row in rows {
        let [name, graph, bucket, end, outcomes, took, cpu, bytes_in, bytes_out, longest] = &mut columns;
        let (from, to) = (nanos::of(row.from), nanos::of(row.to));
        put(name, strings.number(0, &row.name));
        let number = row.graph.map_or(0, |graph| u64::from(graph) + 1);
        put_difference(graph, number, last.0);
        put_difference(bucket, from, last.1);
        last = (number, from);
        put_difference(end, to, from);
        row.outcomes.iter().for_each(|n| put(outcomes, *n));
        put(took, nanos::of(row.took));
        put(cpu, nanos::of(row.cpu));
        put(bytes_in, row.bytes_in);
        put(bytes_out, row.bytes_out);
        put(longest, nanos::of(row.longest));
        span.add(from, to);
    }
    let mut payload = Vec::new();
    packer.column(&mut payload, column::STRINGS, &strings.column);
    for (number, bytes) in FOLDED.into_iter().zip(&columns) {
        packer.column(&mut payload, number, bytes);
    }
    (payload, span)
}

const FOLDED: [u8; 10] = [
    column::NAME,
    column::GRAPH,
    column::BUCKET,
    column::END,
    column::RUNS,
    column::TOOK,
    column::CPU,
    column::BYTES_IN,
    column::BYTES_OUT,
    column::LONGEST,
];

pub(super) fn read_folded(payload: &[u8], count: u32) -> Option<Vec<Folded>> {
    let columns = Columns::of(payload)?;
    let strings = Strings::read(&columns)?;
    let raw: Vec<Vec<u8>> = FOLDED.into_iter().map(|number| columns.unpack(number)).collect::<Option<_>>()?;
    let [
        mut name,
        mut graph,
        mut bucket,
        mut end,
        mut outcomes,
        mut took,
        mut cpu,
        mut bytes_in,
        mut bytes_out,
        mut longest,
    ] = std::array::from_fn(|i| Cursor(&raw[i]));
    let (mut rows, mut last) = (Vec::new(), (0, 0));
    let time = |cursor: &mut Cursor<'_>| cursor.number().map(Duration::from_nanos);
    for _ in 0..count {
        last = (graph.difference(last.0)?, bucket.difference(last.1)?);
        let mut runs = [0; Outcome::ALL.len()];
        for n in &mut runs {
            *n = outcomes.number()?;
        }
        rows.push(Folded {
            graph: if last.0 == 0 { None } else { Some(u32::try_from(last.0 - 1).ok()?) },
            name: strings.get(name.small::<usize>()?)?.clone(),
            from: Duration::from_nanos(last.1),
            to: Duration::from_nanos(end.difference(last.1)?),
            outcomes: runs,
            took: time(&mut took)?,
            cpu: time(&mut cpu)?,
            bytes_in: bytes_in.number()?,
            bytes_out: bytes_out.number()?,
            longest: time(&mut longest)?,
        });
    }
    Some(rows)
}

/// That a task takes the result of another one, in one graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Input {
    /// The number of the graph.
    pub graph: u32,
    /// The name of the task.
    pub name: Arc<str>,
    /// The number in its key.
    pub hash: u64,
    /// The name of the task whose result it takes.
    pub from_name: Arc<str>,
    /// The number in that one's key.
    pub from_hash: u64,
}

impl Input {
    /// That the first task takes the result of the second, each told by its name and the number in its key.
    #[must_use]
    pub fn new(graph: u32, task: (Arc<str>, u64), from: (Arc<str>, u64)) -> Self {
        Self { graph, name: task.0, hash: task.1, from_name: from.0, from_hash: from.1 }
    }
}

const INPUTS: [u8; 5] = [column::GRAPH, column::NAME, column::HASH, column::INPUT_NAME, column::INPUT_HASH];

pub(super) fn write_inputs(rows: &[Input], packer: &mut Packer) -> Vec<u8> {
    let mut strings = Strings::default();
    let mut columns: [Vec<u8>; 5] = Default::default();
    let mut last = 0;
    for row in rows {
        let [graph, name, hash, from_name, from_hash] = &mut columns;
        put_difference(graph, u64::from(row.graph), last);
        last = u64::from(row.graph);
        put(name, strings.number(0, &row.name));
        hash.extend_from_slice(&row.hash.to_le_bytes());
        put(from_name, strings.number(1, &row.from_name));
        from_hash.extend_from_slice(&row.from_hash.to_le_bytes());
    }
    let mut payload = Vec::new();
    packer.column(&mut payload, column::STRINGS, &strings.column);
    for (number, bytes) in INPUTS.into_iter().zip(&columns) {
        packer.column(&mut payload, number, bytes);
    }
    payload
}

pub(super) fn read_inputs(payload: &[u8], count: u32) -> Option<Vec<Input>> {
    let columns = Columns::of(payload)?;
    let strings = Strings::read(&columns)?;
    let raw: Vec<Vec<u8>> = INPUTS.into_iter().map(|number| columns.unpack(number)).collect::<Option<_>>()?;
    let [mut graph, mut name, mut hash, mut from_name, mut from_hash] = std::array::from_fn(|i| Cursor(&raw[i]));
    let (mut rows, mut last) = (Vec::new(), 0);
    for _ in 0..count {
        last = graph.difference(last)?;
        rows.push(Input {
            graph: u32::try_from(last).ok()?,
            name: strings.get(name.small::<usize>()?)?.clone(),
            hash: hash.word()?,
            from_name: strings.get(from_name.small::<usize>()?)?.clone(),
            from_hash: from_hash.word()?,
        });
    }
    Some(rows)
}

/// Objects that are to become a chunk: seldom ones, and those that will have more members one day.
#[derive(Default)]
pub(super) struct ObjectRows {
    pub(super) count: u32,
    lines: Vec<u8>,
    span: Option<Span>,
}

impl ObjectRows {
    pub(super) fn push(&mut self, at: Duration, object: &impl Serialize) {
        let before = self.lines.len();
        if serde_json::to_writer(&mut self.lines, object).is_err() {
            // Memory takes any bytes, and the objects are those of this crate: nothing can fail but a user's value.
            self.lines.truncate(before);
            return;
        }
        self.lines.push(b'\n');
        self.count += 1;
        self.span.get_or_insert(Span::NONE).add(nanos::of(at), nanos::of(at));
    }

    pub(super) fn size(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn take(&mut self, packer: &mut Packer) -> (Vec<u8>, Span) {
        let mut payload = Vec::new();
        packer.column(&mut payload, column::OBJECTS, &self.lines);
        self.lines.clear();
        self.count = 0;
        (payload, self.span.take().unwrap_or(Span::NONE))
    }
}

/// The objects of a payload. What is not known here is left out.
pub(super) fn read_objects<T: DeserializeOwned>(payload: &[u8], count: u32) -> Option<Vec<T>> {
    let lines = Columns::of(payload)?.unpack(column::OBJECTS)?;
    let mut objects = Vec::new();
    let mut lines_there = 0;
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        lines_there += 1;
        objects.extend(serde_json::from_slice(line).ok());
    }
    (lines_there == count).then_some(objects)
}
