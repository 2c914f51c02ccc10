//! The stream of tasks: what each thread ran, in as many cells as a screen has room for.

use super::gathered::{Gathered, LONGEST_NAME, NONE, Short};
use super::{VERSION, Window};
use crate::ended::OTHER_NAMES;
use crate::log::{Outcome, nanos};
use crate::picture::text::cut;
use rustc_hash::FxHashMap;
use serde::Serialize;

/// No stream has more rows.
const MOST_STREAM_ROWS: usize = 256;

/// So many names a stream refers to; others are one.
const MOST_NAMES: usize = 2000;
/// Among so many names of a cell the one is looked for that took the most time.
const MOST_NAMES_OF_CELL: usize = 16;
/// The place of the name for others, among all names.
const OTHERS: u32 = u32::MAX;

/// What each thread ran between two times.
///
/// A row has at most as many cells as were asked for: a run that is at least two of them long has a cell of its own, as has
/// any other that is alone in its place; shorter ones are one cell together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stream {
    /// The version of the answers.
    pub version: u32,
    /// From this time.
    pub from_ns: u64,
    /// To this one.
    pub to_ns: u64,
    /// Whether every run has a cell of its own.
    pub exact: bool,
    /// How many runs are in it.
    pub runs: u64,
    /// The names that cells refer to by their place here.
    pub names: Vec<StreamName>,
    /// A row a thread.
    pub rows: Vec<StreamRow>,
    /// How many more threads there are.
    pub hidden_rows: usize,
}

/// A name of tasks in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StreamName {
    /// The name.
    pub name: String,
    /// Its place among all, by time: it has the colour of that rank.
    pub rank: usize,
    /// The median of the times of its runs.
    pub usual_ns: Option<u64>,
}

/// What a thread ran.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StreamRow {
    /// Its worker.
    pub worker: String,
    /// Which of the worker's threads it is.
    pub thread: u16,
    /// How long it ran tasks.
    pub busy_ns: u64,
    /// What it ran.
    pub cells: Cells,
    /// What else happened to its worker; on the worker's first row only.
    pub marks: Vec<Mark>,
}

/// Cells, a column a fact, in the order of their starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cells {
    /// When the first run of each begins, as the time since the start of the cell before; of the first cell, since `from_ns`.
    /// Negative where a run has begun before that.
    pub start: Vec<i64>,
    /// From there to the end of the last run.
    pub took: Vec<u64>,
    /// How long runs took together; none where that is the same in all cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<Vec<u64>>,
    /// The name that took the most time.
    pub name: Vec<u32>,
    /// How many runs; none where all cells have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<u32>>,
    /// The worst outcome, as a number: 0 finished, 1 running, 2 cancelled, 3 lost, 4 failed. None where all finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Vec<u8>>,
    /// The number in the key of the task, of cells with one run; empty for others.
    pub hash: Vec<String>,
    /// How long the task had waited, where that is known, of cells with one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited: Option<Vec<Option<u64>>>,
    /// The size of its inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<Vec<Option<u64>>>,
    /// The size of its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<Vec<Option<u64>>>,
}

/// Something that happened to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Mark {
    /// What.
    pub kind: MarkKind,
    /// From when.
    pub from_ns: u64,
    /// Until when.
    pub to_ns: u64,
    /// How many bytes were moved.
    pub bytes: u64,
}

/// What happened to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MarkKind {
    /// A value came from another worker.
    Transfer,
    /// A value went to disk.
    Spill,
    /// A value was read from disk.
    Load,
    /// It started no tasks.
    Paused,
    /// It died.
    Death,
}

/// How bad an outcome is.
fn badness(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Finished => 0,
        Outcome::Running => 1,
        Outcome::Cancelled => 2,
        Outcome::Lost => 3,
        Outcome::Failed => 4,
    }
}

/// The cells of a row while they are made.
struct Builder {
    from: u64,
    /// How long a cell is in which runs are together.
    step: u64,
    /// The runs that are together, and the time of each name among them.
    open: Option<Open>,
    made: Vec<Made>,
}

struct Open {
    place: u64,
    first: Short,
    end: u64,
    busy: u64,
    runs: u32,
    names: Vec<(u32, u64)>,
    outcome: u8,
}

struct Made {
    run: Short,
    end: u64,
    busy: u64,
    runs: u32,
    name: u32,
    outcome: u8,
}

impl Builder {
    fn add(&mut self, run: &Short) {
        if run.took() >= self.step {
            self.made.push(Made {
                run: *run,
                end: run.end,
                busy: run.took(),
                runs: 1,
                name: run.name,
                outcome: badness(run.outcome),
            });
            return;
        }
        let place = run.start.saturating_sub(self.from) / self.step;
        if self.open.as_ref().is_some_and(|open| open.place != place) {
            self.close();
        }
        let open = self.open.get_or_insert(Open {
            place,
            first: *run,
            end: 0,
            busy: 0,
            runs: 0,
            names: Vec::new(),
            outcome: 0,
        });
        open.end = open.end.max(run.end);
        open.busy = open.busy.saturating_add(run.took());
        open.runs = open.runs.saturating_add(1);
        open.outcome = open.outcome.max(badness(run.outcome));
        match open.names.iter().position(|(name, _)| *name == run.name) {
            Some(place) => open.names[place].1 = open.names[place].1.saturating_add(run.took()),
            None if open.names.len() < MOST_NAMES_OF_CELL => open.names.push((run.name, run.took())),
            None => {}
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let name = open.names.iter().max_by_key(|(_, time)| *time).map_or(open.first.name, |(name, _)| *name);
            let Open { first: run, end, busy, runs, outcome, .. } = open;
            self.made.push(Made { run, end, busy, runs, name, outcome });
        }
    }

    fn finish(mut self, places: &mut FxHashMap<u32, u32>) -> Cells {
        self.close();
        self.made.sort_by_key(|made| made.run.start);
        let mut cells = Cells::default();
        let mut last = i128::from(self.from);
        let alone = |made: &Made| made.runs == 1;
        let optional = |of: fn(&Short) -> u64| {
            let known = |made: &Made| Some(of(&made.run)).filter(|n| *n != NONE && made.runs == 1);
            let column: Vec<Option<u64>> = self.made.iter().map(known).collect();
            column.iter().any(Option::is_some).then_some(column)
        };
        cells.waited = optional(|run| run.waited);
        cells.bytes_in = optional(|run| run.bytes_in);
        cells.bytes_out = optional(|run| run.bytes_out);
        if !self.made.iter().all(alone) {
            cells.runs = Some(self.made.iter().map(|made| made.runs).collect());
            cells.busy = Some(self.made.iter().map(|made| made.busy).collect());
        }
        if self.made.iter().any(|made| made.outcome > 0) {
            cells.outcome = Some(self.made.iter().map(|made| made.outcome).collect());
        }
        for made in &self.made {
            let start = i128::from(made.run.start);
            cells.start.push(i64::try_from(start - last).unwrap_or(i64::MAX));
            last = start;
            cells.took.push(made.end.saturating_sub(made.run.start));
            let is_known = places.len() < MOST_NAMES || places.contains_key(&made.name);
            let next = u32::try_from(places.len()).unwrap_or(u32::MAX);
            cells.name.push(*places.entry(if is_known { made.name } else { OTHERS }).or_insert(next));
            cells.hash.push(if alone(made) { format!("{:016x}", made.run.hash) } else { String::new() });
        }
        cells
    }
}

impl Gathered {
    pub(super) fn stream(&self, window: &Window) -> Stream {
        let (from, to) = (nanos::of(window.from), nanos::of(window.to));
        let step = window.cell().saturating_mul(2);
        let mut places: FxHashMap<u32, u32> = FxHashMap::default();
        let mut stream = Stream {
            version: VERSION,
            from_ns: from,
            to_ns: to,
            exact: true,
            runs: 0,
            names: Vec::new(),
            rows: Vec::new(),
            hidden_rows: self.rows.len().saturating_sub(MOST_STREAM_ROWS),
        };
        let mut before: Option<&str> = None;
        for (number, (worker, thread)) in (0_u32..).zip(self.rows.iter().take(MOST_STREAM_ROWS)) {
            let begin = self.runs.partition_point(|run| run.row < number);
            let end = begin + self.runs[begin..].partition_point(|run| run.row == number);
            let within = |run: &&Short| run.end >= from && run.start <= to;
            let mut builder = Builder { from, step, open: None, made: Vec::new() };
            let (mut busy, mut runs) = (0_u64, 0);
            for run in self.runs[begin..end].iter().filter(within) {
                busy = busy.saturating_add(run.end.min(to).saturating_sub(run.start.max(from)));
                runs += 1;
                builder.add(run);
            }
            let cells = builder.finish(&mut places);
            stream.exact &= cells.runs.is_none();
            stream.runs += runs;
            let is_first = before.replace(&**worker) != Some(&**worker);
            let marks = self.workers.get(worker).filter(|_| is_first).map_or_else(Vec::new, |worker| {
                let marks = worker.marks.iter().filter(|mark| mark.to_ns >= from && mark.from_ns <= to);
                marks.map(|mark| Mark { to_ns: mark.to_ns.min(to), ..*mark }).collect()
            });
            stream.rows.push(StreamRow {
                worker: cut(worker, LONGEST_NAME),
                thread: *thread,
                busy_ns: busy,
                cells,
                marks,
            });
        }
        let mut names: Vec<_> = places.into_iter().collect();
        names.sort_unstable_by_key(|(_, place)| *place);
        stream.names = names.into_iter().map(|(name, _)| self.stream_name(name)).collect();
        stream
    }

    fn stream_name(&self, rank: u32) -> StreamName {
        if rank == OTHERS {
            return StreamName { name: OTHER_NAMES.to_string(), rank: usize::MAX, usual_ns: None };
        }
        let rank = rank as usize;
        let name = self.names.get(rank).map_or_else(String::new, |name| cut(name, LONGEST_NAME));
        StreamName { name, rank, usual_ns: self.usual.get(rank).copied().flatten() }
    }
}
