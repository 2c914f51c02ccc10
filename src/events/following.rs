//! Follows the workers of a local cluster, for a program that is attached to it and recorded: which there are, so that their
//! rings can be read, and what happens to them.

use super::journal::{JournalEntry, Step};
use super::sources::{RingOwner, RunSources};
use crate::error::LogLine;
use crate::ids::SessionId;
use crate::ipc::clock::Clock;
use crate::ipc::page::{ControlPage, PageName};
use crate::ipc::ring::RunSource;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often the cluster is asked.
const PAUSE: Duration = Duration::from_millis(50);

/// How far somebody has followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// How many steps there were.
    pub(crate) steps: u64,
    /// The number of the last line of each worker.
    pub(crate) lines: FxHashMap<String, u64>,
}

/// What there is to follow.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Workers {
    /// The workers that are there, by name.
    pub(crate) pages: Vec<(String, PageName)>,
    /// What has happened since it was asked last, and how much of it is not known any more.
    pub(crate) steps: Vec<JournalEntry<Step>>,
    pub(crate) missed: u64,
    pub(crate) lines: Vec<LogLine>,
    pub(crate) seen: Seen,
}

/// Asks the cluster. None: it does not answer any more.
pub(crate) type Asks = Box<dyn Fn(Seen) -> Option<Workers> + Send>;

/// Adds to the sources of a client what its cluster tells.
pub(crate) struct Following {
    pub(super) session: SessionId,
    asks: Asks,
    seen: Seen,
    owners: FxHashMap<PageName, RingOwner>,
    asked: Option<Instant>,
}

impl Following {
    pub(crate) fn new(session: SessionId, asks: Asks) -> Self {
        Self { session, asks, seen: Seen::default(), owners: FxHashMap::default(), asked: None }
    }

    /// Looks, if it is time for that. The answer is how many events are missing.
    pub(super) fn look(&mut self, sources: &RunSources, clock: &Clock, started: SystemTime, now: bool) -> u64 {
        if !now && self.asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return 0;
        }
        self.asked = Some(Instant::now());
        let Some(Workers { pages, steps, missed, lines, seen }) = (self.asks)(self.seen.clone()) else { return 0 };
        let is_first = self.seen.steps == 0;
        self.seen = seen;
        let ruler = clock.ruler();
        // What was before this client is none of its log.
        let after = |at: u64| !ruler.since_start(at).is_zero();
        steps.into_iter().filter(|step| after(step.at)).for_each(|step| sources.note_at(step));
        let began = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        lines.into_iter().filter(|line| u128::from(line.time) >= began).for_each(|line| sources.lines.push(line));
        for (worker, name) in &pages {
            // One that cannot be read has ended meanwhile.
            if !self.owners.contains_key(name)
                && let Ok(page) = ControlPage::open(name)
            {
                let owner = sources.add(worker, &(Arc::new(page) as Arc<dyn RunSource>));
                self.owners.insert(name.clone(), owner);
            }
        }
        self.owners.retain(|name, _| pages.iter().any(|(_, there)| there == name));
        if is_first { 0 } else { missed }
    }
}
