//! What is in the chunks beside runs: rows of sums, of inputs, and of JSON objects.
//!
//! Each chunk has the names that its rows use, so that none of them needs another one.

use super::columns::{Columns, Cursor, Packer, put};
use super::nanos;
use super::packed::{Numbers, difference, differing};
use super::run::Outcome;
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// A name longer than this is cut, and ends in `…` then.
pub(super) const LONGEST_NAME: usize = 4096;

/// The columns by number. A number is never used again for something else in chunks of the same kind.
mod column {
    pub(super) const STRINGS: u8 = 1;
    pub(super) const OBJECTS: u8 = 2;
    /// The first of those of numbers.
    pub(super) const NUMBERS: u8 = 16;
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
    /// The last ones of each of two kinds.
    last: [Option<(Arc<str>, u64)>; 2],
}

impl Strings {
    /// How many bytes they take.
    pub(super) fn size(&self) -> usize {
        self.column.len()
    }

    /// Appends them to a payload.
    pub(super) fn write(&self, payload: &mut Vec<u8>, packer: &mut Packer) {
        packer.column(payload, column::STRINGS, &self.column);
    }

    /// The number of a string. Each of the two kinds remembers its last one.
    #[inline]
    pub(super) fn number(&mut self, kind: usize, string: &Arc<str>) -> u64 {
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

    pub(super) fn read(columns: &Columns<'_>) -> Option<Vec<Arc<str>>> {
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

/// Columns of numbers beside the outcomes.
const SUMS: usize = 9;

pub(super) fn write_folded(rows: &[Folded], packer: &mut Packer) -> (Vec<u8>, Span) {
    let (mut strings, mut span) = (Strings::default(), Span::NONE);
    let mut columns: [Numbers; SUMS + Outcome::ALL.len()] = Default::default();
    let mut last = 0;
    for row in rows {
        let (from, to) = (nanos::of(row.from), nanos::of(row.to));
        let numbers = [
            strings.number(0, &row.name),
            row.graph.map_or(0, |graph| u64::from(graph) + 1),
            difference(from, last),
            difference(to, from),
            nanos::of(row.took),
            nanos::of(row.cpu),
            row.bytes_in,
            row.bytes_out,
            nanos::of(row.longest),
        ];
        last = from;
        columns.iter_mut().zip(numbers.into_iter().chain(row.outcomes)).for_each(|(column, n)| column.push(n));
        span.add(from, to);
    }
    let mut payload = Vec::new();
    strings.write(&mut payload, packer);
    for (number, column) in (column::NUMBERS..).zip(&mut columns) {
        Packer::numbers(&mut payload, number, column);
    }
    (payload, span)
}

pub(super) fn read_folded(payload: &[u8], count: u32) -> Option<Vec<Folded>> {
    let columns = Columns::of(payload)?;
    let strings = Strings::read(&columns)?;
    let numbers = |i: u8| columns.numbers(column::NUMBERS + i, count as usize);
    let sums: Vec<_> = (0..SUMS as u8).map(numbers).collect::<Option<_>>()?;
    // Of a later version there may be fewer outcomes that are known here than there are.
    let outcomes: Vec<_> = (SUMS as u8..).zip(Outcome::ALL).map(|(i, _)| numbers(i)).collect::<Option<_>>()?;
    let mut last = 0;
    let row = |i: usize| {
        last = differing(sums[2][i], last);
        Some(Folded {
            graph: sums[1][i].checked_sub(1).map(u32::try_from).transpose().ok()?,
            name: strings.get(usize::try_from(sums[0][i]).ok()?)?.clone(),
            from: Duration::from_nanos(last),
            to: Duration::from_nanos(differing(sums[3][i], last)),
            outcomes: std::array::from_fn(|outcome| outcomes[outcome][i]),
            took: Duration::from_nanos(sums[4][i]),
            cpu: Duration::from_nanos(sums[5][i]),
            bytes_in: sums[6][i],
            bytes_out: sums[7][i],
            longest: Duration::from_nanos(sums[8][i]),
        })
    };
    (0..count as usize).map(row).collect()
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

const INPUTS: usize = 5;

pub(super) fn write_inputs(rows: &[Input], packer: &mut Packer) -> Vec<u8> {
    let mut strings = Strings::default();
    let mut columns: [Numbers; INPUTS] = Default::default();
    for row in rows {
        let (name, from_name) = (strings.number(0, &row.name), strings.number(1, &row.from_name));
        let numbers = [u64::from(row.graph), name, row.hash, from_name, row.from_hash];
        columns.iter_mut().zip(numbers).for_each(|(column, number)| column.push(number));
    }
    let mut payload = Vec::new();
    strings.write(&mut payload, packer);
    for (number, column) in (column::NUMBERS..).zip(&mut columns) {
        Packer::numbers(&mut payload, number, column);
    }
    payload
}

pub(super) fn read_inputs(payload: &[u8], count: u32) -> Option<Vec<Input>> {
    let columns = Columns::of(payload)?;
    let strings = Strings::read(&columns)?;
    let numbers = |i: u8| columns.numbers(column::NUMBERS + i, count as usize);
    let columns: Vec<_> = (0..INPUTS as u8).map(numbers).collect::<Option<_>>()?;
    let string = |number: u64| strings.get(usize::try_from(number).ok()?).cloned();
    let row = |i: usize| {
        Some(Input {
            graph: u32::try_from(columns[0][i]).ok()?,
            name: string(columns[1][i])?,
            hash: columns[2][i],
            from_name: string(columns[3][i])?,
            from_hash: columns[4][i],
        })
    };
    (0..count as usize).map(row).collect()
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
