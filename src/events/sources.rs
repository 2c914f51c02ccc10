//! What a recording takes from: the rings of runs of all workers or threads, and what happens to workers.

use super::journal::{JournalEntry, WorkerStep};
use super::lines::LineQueue;
use super::programs::ProgramNews;
use crate::ipc::clock::ticks;
use crate::ipc::ring::{RingDrain, RingRecord, RunSource};
use parking_lot::Mutex;
use std::sync::Arc;

/// Steps of workers that are kept until they are taken.
const STEPS: usize = 1 << 14;

/// The rings of a client that is recorded. Those who make rings add them; one thread takes.
#[derive(Default)]
pub(crate) struct RunSources {
    rings: Mutex<Vec<Source>>,
    steps: Mutex<Vec<JournalEntry<WorkerStep>>>,
    /// What tasks print and log.
    pub(crate) lines: LineQueue,
    /// What is told of a program that is not ours.
    pub(crate) program: ProgramNews,
}

struct Source {
    worker: Arc<str>,
    ring: Arc<dyn RunSource>,
    drain: RingDrain,
}

/// A run that has been taken.
pub(crate) enum Taken {
    Ended,
    /// It has not ended, and nothing more comes of it: its worker has.
    Lost,
    /// It has not ended, and nobody waits for that.
    Running,
}

/// Is given each run with its worker.
pub(crate) type Take<'a> = &'a mut dyn FnMut(&Arc<str>, RingRecord, Taken);

impl RunSources {
    /// Those of a program that is not ours.
    pub(crate) fn of_program() -> Self {
        Self { program: ProgramNews::on(), ..Self::default() }
    }

    /// A worker or thread begins to record there.
    pub(crate) fn add(&self, worker: &str, ring: Arc<dyn RunSource>) {
        self.rings.lock().push(Source { worker: worker.into(), ring, drain: RingDrain::default() });
    }

    /// Something has happened to a worker.
    pub(crate) fn note(&self, step: WorkerStep) {
        self.note_at(ticks(), step);
    }

    /// The same, at that time.
    pub(crate) fn note_at(&self, at: u64, step: WorkerStep) {
        let mut steps = self.steps.lock();
        if steps.len() < STEPS {
            steps.push(JournalEntry { at, what: step });
        }
    }

    pub(crate) fn take_steps(&self) -> Vec<JournalEntry<WorkerStep>> {
        std::mem::take(&mut self.steps.lock())
    }

    /// Takes the runs that have ended; at the end of the recording, all. The answer is how many are missing at most.
    pub(crate) fn take(&self, is_end: bool, take: Take<'_>) -> u64 {
        // Nobody who adds a ring waits for those that are read.
        let mut rings = std::mem::take(&mut *self.rings.lock());
        let mut lost = 0;
        rings.retain_mut(|source| {
            // Before it is drained: nothing is written any more to a page that only we have.
            let is_left = Arc::strong_count(&source.ring) == 1;
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
