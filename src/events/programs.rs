//! What a recording of other programs needs to be told beside their runs: a local cluster's supervisors know neither the
//! functions of the programs nor what their clients count.

use super::journal::{JournalEntry, Step};
use crate::ids::{JobId, SessionId};
use crate::ipc::clock::ticks;
use crate::ipc::ring::RingRecord;
use crate::job::GroupCounts;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Graphs that wait to be recorded.
const GRAPHS: usize = 1 << 18;

/// What a supervisor tells.
#[derive(Debug)]
pub(crate) enum News {
    /// What a function is called, by its number in the log of events.
    Function(u64, String),
    /// A graph of so many calls is there.
    Graph(JobId, u32),
    /// What a worker has recorded that is there, or is not any more.
    Past { worker: String, records: Vec<RingRecord>, is_there: bool },
    /// What happened beside runs, as far as it is remembered.
    Steps(Vec<JournalEntry<Step>>),
    /// The tasks of a session, by name and state; it may have `ended` with them.
    Counts { session: SessionId, groups: Vec<GroupCounts>, ended: bool },
}

/// Keeps news of one program until a recorder takes them.
#[derive(Debug, Default)]
pub(crate) struct ProgramNews {
    /// Nobody takes them otherwise.
    is_on: bool,
    functions: Mutex<FxHashMap<u64, Arc<str>>>,
    state: Mutex<Unseen>,
}

/// What has come since it was asked last.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    /// Each with the time when it came, in ticks.
    pub(crate) graphs: Vec<(u64, JobId, u32)>,
    /// Graphs that there was no room for.
    pub(crate) missed: u64,
    pub(crate) past: Vec<(String, Vec<RingRecord>, bool)>,
    pub(crate) steps: Vec<JournalEntry<Step>>,
    /// The newest of each session.
    pub(crate) counts: FxHashMap<SessionId, Vec<GroupCounts>>,
    pub(crate) ended: Vec<SessionId>,
}

impl ProgramNews {
    /// For whom there is a recorder.
    pub(super) fn on() -> Self {
        Self { is_on: true, ..Self::default() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(crate) fn note(&self, news: News) {
        match news {
            _ if !self.is_on => {}
            News::Function(number, name) => {
                self.functions.lock().insert(number, name.into());
            }
            News::Graph(job, calls) => {
                let mut state = self.state.lock();
                if state.graphs.len() < GRAPHS {
                    state.graphs.push((ticks(), job, calls));
                } else {
                    state.missed += 1;
                }
            }
            News::Past { worker, records, is_there } => self.state.lock().past.push((worker, records, is_there)),
            News::Steps(steps) => self.state.lock().steps.extend(steps),
            News::Counts { session, groups, ended } => {
                let mut state = self.state.lock();
                state.counts.insert(session, groups);
                if ended {
                    state.ended.push(session);
                }
            }
        }
    }

    pub(crate) fn function(&self, number: u64) -> Option<Arc<str>> {
        self.functions.lock().get(&number).cloned()
    }

    pub(crate) fn take(&self) -> Unseen {
        std::mem::take(&mut self.state.lock())
    }
}
