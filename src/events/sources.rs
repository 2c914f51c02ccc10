//! What a recording and those who watch events take from: the rings of runs of all workers or threads, and what happens
//! beside runs.

use super::journal::{Journal, JournalEntry, Step};
use super::lines::LineQueue;
use super::programs::ProgramNews;
use super::saved::MemorySample;
use crate::ipc::ring::{RingDrain, RingRecord, RunSource};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Steps that are kept for readers.
const STEPS: usize = 1 << 12;

/// The rings and steps of a client. Those who make rings add them; readers take, each with cursors of its own.
#[derive(Debug)]
pub(crate) struct RunSources {
    rings: Mutex<Rings>,
    steps: Journal<Step>,
    /// What tasks print and log, where that is recorded.
    pub(crate) lines: LineQueue,
    /// What is told of a program that is not ours.
    pub(crate) program: ProgramNews,
}

#[derive(Default)]
struct Rings {
    /// Those whose owners are there.
    live: Vec<OwnedRing>,
    readers: Vec<Weak<Mutex<Vec<Source>>>>,
}

#[derive(Clone)]
struct OwnedRing {
    worker: Arc<str>,
    ring: Weak<dyn RunSource>,
    owner: Weak<()>,
}

/// Whoever writes to a ring has this as long as it does.
#[derive(Debug)]
#[must_use = "the ring is taken for one that has ended"]
pub(crate) struct RingOwner(#[allow(dead_code, reason = "it is counted")] Arc<()>);

struct Source {
    worker: Arc<str>,
    ring: Arc<dyn RunSource>,
    owner: Weak<()>,
    drain: RingDrain,
}

/// Takes each run and each step once.
pub(crate) struct SourceReader {
    sources: Arc<RunSources>,
    rings: Arc<Mutex<Vec<Source>>>,
    steps: u64,
}

/// A run that has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Ended,
    /// It has not ended, and nothing more comes of it: its worker has.
    Lost,
    /// It has not ended, and nobody waits for that.
    Running,
}

/// Is given each run with its worker.
pub(crate) type Take<'a> = &'a mut dyn FnMut(&Arc<str>, RingRecord, Taken);

impl Default for RunSources {
    fn default() -> Self {
        let (lines, program) = (LineQueue::default(), ProgramNews::default());
        Self { rings: Mutex::default(), steps: Journal::new(STEPS), lines, program }
    }
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rings({} live, {} readers)", self.live.len(), self.readers.len())
    }
}

impl RunSources {
    /// Those of a program that is not ours, which is recorded.
    pub(crate) fn of_program() -> Self {
        let sources = Self { program: ProgramNews::on(), ..Self::default() };
        sources.lines.turn_on();
        sources
    }

    /// A worker or thread begins to record there, until the answer is dropped.
    pub(crate) fn add(&self, worker: &str, ring: &Arc<dyn RunSource>) -> RingOwner {
        let owner = Arc::new(());
        let mut rings = self.rings.lock();
        let owned = OwnedRing { worker: worker.into(), ring: Arc::downgrade(ring), owner: Arc::downgrade(&owner) };
        rings.readers.retain(|reader| reader.upgrade().map(|read| read.lock().extend(owned.source())).is_some());
        rings.live.retain(|ring| ring.owner.strong_count() > 0);
        rings.live.push(owned);
        RingOwner(owner)
    }

    /// Something has happened.
    pub(crate) fn note(&self, step: Step) {
        self.steps.note(step);
    }

    /// Something has happened then.
    pub(super) fn note_at(&self, entry: JournalEntry<Step>) {
        self.steps.note_at(entry.at, entry.what);
    }

    /// The last steps.
    pub(crate) fn steps(&self) -> Vec<JournalEntry<Step>> {
        self.steps.entries()
    }

    /// A reader of all that has not been overwritten yet, or of what comes from now on.
    pub(crate) fn reader(self: &Arc<Self>, from_now: bool) -> SourceReader {
        let mut rings = self.rings.lock();
        let sources: Vec<_> = rings.live.iter().filter_map(OwnedRing::source).collect();
        let taken = Arc::new(Mutex::new(sources));
        rings.readers.push(Arc::downgrade(&taken));
        drop(rings);
        let mut reader = SourceReader { sources: Arc::clone(self), rings: taken, steps: 0 };
        if from_now {
            reader.skip();
        }
        reader
    }
}

impl OwnedRing {
    fn source(&self) -> Option<Source> {
        let OwnedRing { worker, ring, owner } = self.clone();
        Some(Source { worker, ring: ring.upgrade()?, owner, drain: RingDrain::default() })
    }
}

impl SourceReader {
    /// Takes nothing of what has happened by now.
    pub(super) fn skip(&mut self) {
        self.steps = self.sources.steps.noted();
        self.rings.lock().iter_mut().for_each(|source| source.ring.ring().skip(&mut source.drain));
    }

    /// The steps that were not taken before, and how many are missing.
    pub(crate) fn take_steps(&mut self) -> (Vec<JournalEntry<Step>>, u64) {
        self.sources.steps.since(&mut self.steps)
    }

    /// What memory each worker uses that is there, since the start of a log so long ago.
    pub(crate) fn memory(&self, at: Duration) -> Vec<MemorySample> {
        let rings = self.rings.lock();
        let there = rings.iter().filter(|source| source.owner.strong_count() > 0);
        let sample = |source: &Source| {
            let gauges = source.ring.memory()?;
            let mut sample = MemorySample::new(at, &*source.worker, gauges.used);
            sample.limit = Some(gauges.limit).filter(|limit| *limit > 0);
            (sample.managed, sample.shared, sample.spilled) = (gauges.managed, gauges.segments, gauges.spilled);
            Some(sample)
        };
        there.filter_map(sample).collect()
    }

    /// Takes the runs that have ended; at the end of the recording, all. The answer is how many are missing at most.
    pub(crate) fn take_runs(&mut self, is_end: bool, take: Take<'_>) -> u64 {
        // Nobody who adds a ring waits for those that are read.
        let mut rings = std::mem::take(&mut *self.rings.lock());
        let mut lost = 0;
        rings.retain_mut(|source| {
            // Before it is drained: nothing is written any more after that.
            let is_left = source.owner.strong_count() == 0;
            let (worker, ring) = (&source.worker, source.ring.ring());
            lost += ring.drain(&mut source.drain, &mut |record| take(worker, record, Taken::Ended));
            if is_left || is_end {
                for record in ring.open(&source.drain) {
                    take(worker, record, if is_left { Taken::Lost } else { Taken::Running });
                }
            }
            !is_left
        });
        let mut added = self.rings.lock();
        rings.append(&mut added);
        *added = rings;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventKind;
    use crate::ids::{Attempt, JobId, SessionId, TaskId};
    use crate::ipc::ring::{Ended, OwnRing};

    fn run(ring: &OwnRing, key: u64, ends: bool) {
        let task = TaskId { job: JobId { session: SessionId::CLIENT, number: 0 }, index: 0 };
        let token = ring.ring().begin(Attempt { task, number: 0 }, 1, key, 0, None, 1);
        if ends {
            ring.ring().end(token, Ended::Finished, 2, None);
        }
    }

    fn taken(reader: &mut SourceReader) -> Vec<(u64, Taken)> {
        let mut runs = Vec::new();
        assert_eq!(reader.take_runs(false, &mut |_, record, taken| runs.push((record.run.key, taken))), 0);
        runs
    }

    #[test]
    fn each_reader_takes_each_run_once_also_of_rings_that_come_and_go() {
        let sources: Arc<RunSources> = Arc::default();
        let ring = Arc::new(OwnRing::new(16));
        let shared = Arc::clone(&ring) as Arc<dyn RunSource>;
        let owner = sources.add("a", &shared);
        run(&ring, 1, true);
        let (mut all, mut new) = (sources.reader(false), sources.reader(true));
        run(&ring, 2, true);
        let second = Arc::new(OwnRing::new(16));
        let other = Arc::clone(&second) as Arc<dyn RunSource>;
        let other_owner = sources.add("b", &other);
        run(&second, 3, true);
        run(&second, 4, false);
        let ended = |keys: &[u64]| keys.iter().map(|key| (*key, Taken::Ended)).collect::<Vec<_>>();
        assert_eq!((taken(&mut all), taken(&mut new)), (ended(&[1, 2, 3]), ended(&[2, 3])));
        // Whose owner has gone is read to its end, by each reader.
        drop((other_owner, other, second));
        let lost = vec![(4, Taken::Lost)];
        assert_eq!((taken(&mut all), taken(&mut new)), (lost.clone(), lost));
        run(&ring, 5, true);
        assert_eq!((taken(&mut all), taken(&mut new)), (ended(&[5]), ended(&[5])));
        drop((owner, shared));
        assert_eq!((taken(&mut all), taken(&mut new)), (vec![], vec![]));
        drop((all, new));
        assert_eq!(Arc::strong_count(&ring), 1, "nobody keeps it");
    }

    #[test]
    fn a_reader_is_told_of_steps_since_it_began() {
        let sources: Arc<RunSources> = Arc::default();
        let step = |graph| Step { session: None, kind: EventKind::GraphCancelled { graph } };
        sources.note(step(1));
        let (mut all, mut new) = (sources.reader(false), sources.reader(true));
        sources.note(step(2));
        let graphs = |reader: &mut SourceReader| {
            let (steps, missed) = reader.take_steps();
            (steps.into_iter().map(|step| step.what.kind).collect::<Vec<_>>(), missed)
        };
        assert_eq!(graphs(&mut all), (vec![step(1).kind, step(2).kind], 0));
        assert_eq!(graphs(&mut new), (vec![step(2).kind], 0));
    }
}
