//! What is gathered from a saved log in one pass over its runs and one over its events.

use super::answers::{Death, EventRow, LogRow, WorkerState};
use super::cells::{Mark, MarkKind};
use super::deaths::Deaths;
use crate::log::{Event, EventKind, MemorySample, Outcome, Run, SavedLog, Summary, TimeByUse, nanos};
use crate::picture::text::cut;
use rustc_hash::FxHashMap;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

/// Names, keys, workers and labels are cut to so many characters.
pub(super) const LONGEST_NAME: usize = 160;
/// Lines and reasons are cut to so many.
const LONGEST_TEXT: usize = 2000;
/// So many runs that did not end well are kept, the first ones, and so many others, the slowest.
const MOST_UNWELL: usize = 2000;
const MOST_SLOW: usize = 500;
/// So many lines and events are kept, the last ones.
const MOST_LINES: usize = 5000;
const MOST_EVENTS: usize = 2000;
/// So many marks of a kind are kept of each worker.
const MOST_MARKS: usize = 2000;

/// A number that is not known.
pub(super) const NONE: u64 = u64::MAX;

/// A run, as far as the stream shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) hash: u64,
    pub(super) waited: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) name: u32,
    pub(super) row: u32,
    pub(super) outcome: Outcome,
}

impl Short {
    pub(super) fn took(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// What is known of a worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Worker {
    pub(super) pid: Option<u32>,
    pub(super) state: Option<WorkerState>,
    pub(super) reason: Option<String>,
    pub(super) runs: u64,
    pub(super) failed: u64,
    pub(super) busy: u64,
    pub(super) cpu: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) deaths: usize,
    pub(super) memory: Option<u64>,
    pub(super) limit: Option<u64>,
    pub(super) spilled: u64,
    pub(super) time: Option<TimeByUse>,
    pub(super) marks: Vec<Mark>,
}

/// What is said of a graph.
#[derive(Clone, Debug, Default)]
pub(super) struct GraphFacts {
    pub(super) label: Option<String>,
    pub(super) layers: FxHashMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The names by rank, whole, and the place of each.
    pub(super) names: Vec<Arc<str>>,
    pub(super) ranks: FxHashMap<Arc<str>, u32>,
    /// The median of the times of the runs of each name.
    pub(super) usual: Vec<Option<u64>>,
    /// In the order of rows and starts.
    pub(super) runs: Vec<Short>,
    /// The threads, by worker.
    pub(super) rows: Vec<(Arc<str>, u16)>,
    pub(super) workers: BTreeMap<Arc<str>, Worker>,
    pub(super) graphs: BTreeMap<u32, GraphFacts>,
    pub(super) unwell: Vec<Run>,
    pub(super) slow: Vec<Run>,
    pub(super) more_unwell: u64,
    pub(super) lines: VecDeque<LogRow>,
    pub(super) more_lines: u64,
    pub(super) events: VecDeque<EventRow>,
    pub(super) more_events: u64,
    pub(super) deaths: Vec<Death>,
    pub(super) memory: Vec<MemorySample>,
    /// The earliest time of a run or an event.
    pub(super) from: Option<u64>,
    /// When the first run of each graph and name began.
    pub(super) first: FxHashMap<(u32, u32), u64>,
}

/// A run and how long it took.
struct Slow(u64, Run);

impl PartialEq for Slow {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Slow {}

impl PartialOrd for Slow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The quickest is the greatest: it leaves first.
impl Ord for Slow {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cmp(&self.0)
    }
}

impl Gathered {
    /// Of a log and its summary. What is damaged is left out; the summary says so.
    pub(super) fn of(log: &SavedLog, summary: &Summary) -> Self {
        let mut all = Self::default();
        let counted = summary.groups.iter().map(|group| &group.name);
        for name in summary.names.iter().map(|name| &name.name).chain(counted) {
            let name: Arc<str> = name.as_str().into();
            all.rank(&name);
        }
        let mut deaths = Deaths::default();
        all.take_events(log, &mut deaths);
        all.take_runs(log, &mut deaths);
        all.take_memory(log);
        all.take_times(log);
        all.deaths = deaths.finish();
        all
    }

    fn rank(&mut self, name: &Arc<str>) -> u32 {
        if let Some(rank) = self.ranks.get(name) {
            return *rank;
        }
        let rank = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(Arc::clone(name));
        self.ranks.insert(Arc::clone(name), rank);
        rank
    }

    fn worker(&mut self, name: &str) -> &mut Worker {
        if !self.workers.contains_key(name) {
            self.workers.insert(name.into(), Worker::default());
        }
        // It is there: it has just been made if it was not.
        self.workers.get_mut(name).unwrap_or_else(|| unreachable!())
    }

    fn take_runs(&mut self, log: &SavedLog, deaths: &mut Deaths) {
        let until = nanos::of(log.until());
        let mut rows: FxHashMap<(Arc<str>, u16), u32> = FxHashMap::default();
        let mut times: Vec<Vec<u64>> = Vec::new();
        let mut slow: BinaryHeap<Slow> = BinaryHeap::new();
        // The worker and thread of the run before, and their row: runs of one thread come together.
        let mut last: Option<(Arc<str>, u16, u32)> = None;
        for run in log.runs().flatten() {
            let name = self.rank(&run.name);
            let row = match &last {
                Some((worker, thread, row)) if *thread == run.thread && Arc::ptr_eq(worker, &run.worker) => *row,
                _ => {
                    let next = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                    let row = *rows.entry((Arc::clone(&run.worker), run.thread)).or_insert(next);
                    last = Some((Arc::clone(&run.worker), run.thread, row));
                    row
                }
            };
            let short = short(&run, name, row, until);
            let first = self.first.entry((run.graph, name)).or_insert(short.start);
            *first = short.start.min(*first);
            let took = short.took();
            if run.end.is_some() {
                let name = name as usize;
                if times.len() <= name {
                    times.resize_with(name + 1, Vec::new);
                }
                times[name].push(took);
            }
            let worker = match self.workers.get_mut(&run.worker) {
                Some(worker) => worker,
                None => self.workers.entry(Arc::clone(&run.worker)).or_default(),
            };
            worker.runs += 1;
            worker.failed += u64::from(run.outcome == Outcome::Failed);
            worker.busy = worker.busy.saturating_add(took);
            worker.cpu = worker.cpu.saturating_add(run.cpu.map_or(0, nanos::of));
            self.runs.push(short);
            if run.outcome == Outcome::Lost {
                deaths.lost(&run, took);
            }
            if run.outcome != Outcome::Finished {
                match self.unwell.len() < MOST_UNWELL {
                    true => self.unwell.push(run),
                    false => self.more_unwell += 1,
                }
            } else if slow.len() < MOST_SLOW {
                slow.push(Slow(took, run));
            } else if slow.peek().is_some_and(|quickest| quickest.0 < took) {
                slow.pop();
                slow.push(Slow(took, run));
            }
        }
        let first = self.runs.iter().map(|run| run.start).min();
        self.from = self.from.into_iter().chain(first).min();
        self.slow = slow.into_sorted_vec().into_iter().map(|slow| slow.1).collect();
        self.usual = times.iter_mut().map(|times| median(times)).collect();
        self.sort_rows(rows);
    }

    /// Gives rows the order of workers and threads, and runs that of rows.
    fn sort_rows(&mut self, rows: FxHashMap<(Arc<str>, u16), u32>) {
        let mut sorted: Vec<_> = rows.into_iter().collect();
        sorted.sort_by(|(a, _), (b, _)| by_number(&a.0, &b.0).then(a.1.cmp(&b.1)));
        let mut places = vec![0; sorted.len()];
        for (place, (_, row)) in (0..).zip(&sorted) {
            places[*row as usize] = place;
        }
        self.rows = sorted.into_iter().map(|(row, _)| row).collect();
        self.runs.iter_mut().for_each(|run| run.row = places[run.row as usize]);
        self.runs.sort_unstable_by_key(|run| (run.row, run.start, std::cmp::Reverse(run.end)));
    }

    fn take_events(&mut self, log: &SavedLog, deaths: &mut Deaths) {
        for event in log.events().flatten() {
            let at = nanos::of(event.at);
            self.from = Some(self.from.map_or(at, |from| from.min(at)));
            if let EventKind::Line { worker, key, tasks, level, target, text } = event.kind {
                let several = || Some(format!("{} or {} more", tasks.first()?, tasks.len() - 1));
                let line = LogRow {
                    at_ns: at,
                    worker: cut(&worker, LONGEST_NAME),
                    key: key.or_else(several).map(|key| cut(&key, LONGEST_NAME)),
                    level: cut(&level, 20),
                    target: target.map(|target| cut(&target, LONGEST_NAME)),
                    text: cut(&text, LONGEST_TEXT),
                };
                deaths.line(&worker, &line);
                self.more_lines += u64::from(keep_last(&mut self.lines, line, MOST_LINES));
                continue;
            }
            let row = EventRow { at_ns: at, text: cut(&event.kind.to_string(), LONGEST_TEXT) };
            self.more_events += u64::from(keep_last(&mut self.events, row, MOST_EVENTS));
            self.take_event(event, deaths);
        }
    }

    fn take_event(&mut self, event: Event, deaths: &mut Deaths) {
        let at = nanos::of(event.at);
        match event.kind {
            EventKind::GraphSubmitted { graph, label, .. } => {
                let facts = self.graphs.entry(graph).or_default();
                facts.label = label.map(|label| cut(&label, LONGEST_NAME));
            }
            EventKind::GroupNamed { graph, name, layer, .. } => {
                self.graphs.entry(graph).or_default().layers.insert(name, cut(&layer, LONGEST_NAME));
            }
            EventKind::WorkerStarted { worker, pid } => self.worker_is(&worker, Some(pid), WorkerState::Starting, None),
            EventKind::WorkerReady { worker, pid } => self.worker_is(&worker, Some(pid), WorkerState::Ready, None),
            EventKind::WorkerPaused { worker, reason } => {
                self.worker(&worker).mark(MarkKind::Paused, at, NONE, 0);
                self.worker_is(&worker, None, WorkerState::Paused, Some(reason));
            }
            EventKind::WorkerResumed { worker } => {
                let marks = &mut self.worker(&worker).marks;
                if let Some(mark) = marks.iter_mut().rev().find(|mark| mark.kind == MarkKind::Paused) {
                    mark.to_ns = mark.to_ns.min(at);
                }
                self.worker_is(&worker, None, WorkerState::Ready, None);
            }
            EventKind::WorkerStalled { worker, reason } => {
                self.worker_is(&worker, None, WorkerState::Stalled, Some(reason));
            }
            EventKind::WorkerRetired { worker, pid } => self.worker_is(&worker, Some(pid), WorkerState::Retired, None),
            EventKind::WorkerLost { worker, pid, reason, .. } => {
                let reason = cut(&reason, LONGEST_TEXT);
                deaths.died(at, &worker, pid, reason.clone());
                let lost = self.worker(&worker);
                lost.deaths += 1;
                lost.mark(MarkKind::Death, at, at, 0);
                self.worker_is(&worker, Some(pid), WorkerState::Lost, Some(reason));
            }
            EventKind::Transfer { from, to, bytes, took, .. } => {
                let sender = self.worker(&from);
                sender.sent = sender.sent.saturating_add(bytes);
                let receiver = self.worker(&to);
                receiver.received = receiver.received.saturating_add(bytes);
                receiver.mark(MarkKind::Transfer, at.saturating_sub(nanos::of(took)), at, bytes);
            }
            EventKind::Spilled { worker, bytes, took, .. } => {
                self.worker(&worker).mark(MarkKind::Spill, at.saturating_sub(nanos::of(took)), at, bytes);
            }
            EventKind::Loaded { worker, bytes, took, .. } => {
                self.worker(&worker).mark(MarkKind::Load, at.saturating_sub(nanos::of(took)), at, bytes);
            }
            _ => {}
        }
    }

    fn worker_is(&mut self, worker: &str, pid: Option<u32>, state: WorkerState, reason: Option<String>) {
        let worker = self.worker(worker);
        worker.pid = pid.or(worker.pid);
        worker.state = Some(state);
        worker.reason = reason.map(|reason| cut(&reason, LONGEST_TEXT));
    }

    fn take_memory(&mut self, log: &SavedLog) {
        for sample in log.memory().flatten() {
            let worker = self.worker(&sample.worker);
            worker.memory = worker.memory.max(Some(sample.used));
            worker.limit = sample.limit.or(worker.limit);
            worker.spilled = worker.spilled.max(sample.spilled);
            self.memory.push(sample);
        }
        self.memory.sort_by_key(|sample| sample.at);
    }

    /// The sums of each thread; a worker that took the name of another one begins from nothing.
    fn take_times(&mut self, log: &SavedLog) {
        let mut threads: BTreeMap<(String, u16), (TimeByUse, TimeByUse)> = BTreeMap::new();
        for time in log.thread_times().flatten() {
            let (before, now) = threads.entry((time.worker, time.thread)).or_default();
            if time.uses.total() < now.total() {
                *before += *now;
            }
            *now = time.uses;
        }
        for ((worker, _), (before, now)) in threads {
            let time = self.worker(&worker).time.get_or_insert_default();
            *time += before;
            *time += now;
        }
    }
}

impl Worker {
    fn mark(&mut self, kind: MarkKind, from: u64, to: u64, bytes: u64) {
        if self.marks.iter().filter(|mark| mark.kind == kind).take(MOST_MARKS).count() < MOST_MARKS {
            self.marks.push(Mark { kind, from_ns: from, to_ns: to, bytes });
        }
    }
}

fn short(run: &Run, name: u32, row: u32, until: u64) -> Short {
    let start = nanos::of(run.start);
    let since = run.ready.or(run.submitted).map(nanos::of);
    Short {
        start,
        end: run.end.map_or(until, nanos::of).max(start),
        hash: run.hash,
        waited: since.map_or(NONE, |since| start.saturating_sub(since)),
        bytes_in: run.bytes_in.unwrap_or(NONE),
        bytes_out: run.bytes_out.unwrap_or(NONE),
        name,
        row,
        outcome: run.outcome,
    }
}

/// Appends one; whether the first one had to go for it.
fn keep_last<T>(kept: &mut VecDeque<T>, next: T, most: usize) -> bool {
    let is_full = kept.len() >= most;
    if is_full {
        kept.pop_front();
    }
    kept.push_back(next);
    is_full
}

fn median(times: &mut [u64]) -> Option<u64> {
    let middle = times.len() / 2;
    (!times.is_empty()).then(|| *times.select_nth_unstable(middle).1)
}

/// Names in order, with numbers in them by their value: `worker-2` comes before `worker-10`.
pub(super) fn by_number(a: &str, b: &str) -> Ordering {
    fn parts(name: &str) -> (&str, u64) {
        let text = name.trim_end_matches(|c: char| c.is_ascii_digit());
        (text, name[text.len()..].parse().unwrap_or(u64::MAX))
    }
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}
