//! How far everything is: looked at once, watched, or drawn as bars.
//!
//! Whoever watches asks for the counts anew, at most ten times a second, and keeps nothing alive: neither the client nor
//! results. Nobody is told of a task.

#[cfg(feature = "progress")]
mod bars;
#[cfg(feature = "progress")]
mod lines;
mod part;
#[cfg(feature = "progress")]
mod screen;
mod watch;

#[cfg(feature = "progress")]
pub(super) use bars::Wish;
#[cfg(feature = "progress")]
pub use bars::{AboveBars, ProgressBars};
pub use part::ProgressOf;
pub use watch::WatchProgress;

use super::Client;
#[cfg(feature = "progress")]
use crate::events::{ClientLog, Outcome, Run};
use crate::ipc::fork::Origin;
#[cfg(feature = "progress")]
use crate::message::question::{Ask, Events};
use crate::status::Progress;
use crate::submission::backend::Backend;
#[cfg(feature = "progress")]
use crate::submission::limit::SubmissionLimit;
use parking_lot::{Condvar, Mutex};
use part::Part;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use swath_insight::Pace;

/// Whoever watches is told no more often.
const OFTEN: Duration = Duration::from_millis(100);
/// So long it is waited for somebody who looks, too. In a fork of the process that may be for ever.
const BRIEFLY: Duration = Duration::from_millis(10);

/// What those who look at a client share.
pub(super) struct Looks {
    began: Instant,
    pace: Mutex<Pace>,
    bell: Bell,
}

impl Looks {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), pace: Mutex::default(), bell: Bell::new() })
    }

    /// Something is about to run.
    #[inline]
    pub(super) fn begins(&self) {
        self.bell.ring();
    }

    /// Fills in rates and time left.
    fn observe(&self, progress: &mut Progress) {
        if let Some(mut pace) = self.pace.try_lock_for(BRIEFLY) {
            pace.observe(self.began.elapsed(), progress);
        }
    }
}

/// Wakes those who look when something begins.
struct Bell {
    /// In a fork of that process nobody listens, and locks may be taken for ever.
    origin: Origin,
    /// How many listen.
    listeners: AtomicUsize,
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    fn new() -> Self {
        let (listeners, rung, changed) = (AtomicUsize::new(0), Mutex::default(), Condvar::new());
        Self { origin: Origin::here(), listeners, rung, changed }
    }

    #[inline]
    fn ring(&self) {
        if self.listeners.load(Ordering::SeqCst) > 0 && !self.origin.is_elsewhere() {
            *self.rung.lock() += 1;
            self.changed.notify_all();
        }
    }

    /// Waits until it has been rung more often than that, or the time is over; gives how often it has been.
    #[cfg(feature = "progress")]
    fn wait(&self, heard: u64, until: Instant) -> u64 {
        let mut rung = self.rung.lock();
        while *rung == heard && !self.changed.wait_until(&mut rung, until).timed_out() {}
        *rung
    }
}

/// Where those who look get the counts from. It keeps nothing alive.
#[derive(Clone)]
struct Source {
    backend: Weak<dyn Backend>,
    #[cfg(feature = "progress")]
    limit: Weak<SubmissionLimit>,
    #[cfg(feature = "progress")]
    log: Weak<ClientLog>,
    looks: Arc<Looks>,
    /// What it is about; all, if nothing is said.
    part: Option<Arc<Part>>,
}

/// What somebody sees who looks.
struct Seen {
    progress: Progress,
    /// Nothing changes any more.
    closed: bool,
}

impl Source {
    fn of(client: &Client, part: Option<Part>) -> Self {
        Self {
            backend: Arc::downgrade(&client.0.backend),
            #[cfg(feature = "progress")]
            limit: Arc::downgrade(&client.0.limit),
            #[cfg(feature = "progress")]
            log: Arc::downgrade(&client.0.log),
            looks: Arc::clone(&client.0.looks),
            part: part.map(Arc::new),
        }
    }

    /// The counts now. `None`: the client is gone.
    fn look(&self) -> Option<Seen> {
        let backend = self.backend.upgrade().filter(|backend| !backend.origin().is_elsewhere())?;
        // Before the counts are: they are the last if it was closed by then.
        let closed = backend.is_closed();
        let mut progress = backend.progress();
        self.looks.observe(&mut progress);
        if let Some(part) = &self.part {
            // Results may go here, and values of the user's with them: not under the lock.
            let groups = part.of(&progress);
            progress = match self.looks.pace.try_lock_for(BRIEFLY) {
                Some(pace) => pace.apart(&progress, groups),
                None => Pace::default().apart(&progress, groups),
            };
        }
        Some(Seen { progress, closed })
    }

    /// The key of the first task that has failed in the last time, among those groups, as far as runs are remembered.
    #[cfg(feature = "progress")]
    fn first_failed(&self, within: Duration, progress: &Progress) -> Option<String> {
        let (backend, log) = self.backend.upgrade().zip(self.log.upgrade())?;
        let records = Events::answer(backend.ask(Events.question()).wait().ok()?).ok()?;
        let (events, now) = (log.log(records), log.now());
        let is_shown = |run: &Run| {
            let groups = progress.groups.iter().filter(|group| group.counts.failed > 0);
            groups
                .into_iter()
                .any(|group| group.name == *run.name && group.graph.is_none_or(|graph| graph == run.graph))
        };
        let failed = |run: &&Run| run.outcome == Outcome::Failed && run.start + within >= now && is_shown(run);
        events.runs().iter().filter(failed).min_by_key(|run| run.end).map(Run::key)
    }

    /// Whether no graph of the client's own is under way.
    #[cfg(feature = "progress")]
    fn is_quiet(&self) -> bool {
        self.limit.upgrade().is_none_or(|limit| limit.is_unused())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source(..)")
    }
}

impl Client {
    /// How far everything is that was submitted through this client, and by its tasks: how many tasks are in which state, of
    /// each name in each graph, how fast they end, and how long the rest takes.
    ///
    /// The eight [`Counts`](crate::status::Counts) add up to the number of tasks at every moment, and the totals of a program
    /// are the same in every mode: each call counts, also where several run as one task. A chain that runs as one task in a
    /// worker fails as one. Graphs of one call, those that tasks submit, and those that ended before the last
    /// [`ENDED_GRAPHS`](crate::status::ENDED_GRAPHS) are counted by name alone.
    ///
    /// In processes mode the supervisor is asked, which takes some microseconds; after a large graph has been submitted, as
    /// long as that is on its way. A client that is closed tells what it knew last.
    ///
    /// Rates are known when it has been asked before, some time ago; [`watch_progress`](Self::watch_progress) and bars ask.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// client.compute(&delayed(|x: u64| x + 1).map(0..10_u64))?;
    /// let progress = client.progress();
    /// assert_eq!((progress.counts.done(), progress.counts.total(), progress.threads), (10, 10, 2));
    /// # Ok::<(), swath::Error>(())
    /// ```
    #[must_use]
    pub fn progress(&self) -> Progress {
        let mut progress = self.0.backend.progress();
        if !self.0.backend.origin().is_elsewhere() {
            self.0.looks.observe(&mut progress);
        }
        progress
    }

    /// The progress again and again: at once, and then whenever something has changed, at most ten times a second. It ends with
    /// the last state when nothing is left to be done, or the client is closed, and does not keep the client.
    ///
    /// ```
    /// use swath::Client;
    /// let client = Client::threads(2);
    /// let futures = client.map(|x: u64| x * x, 0..1000_u64)?;
    /// for progress in client.watch_progress() {
    ///     println!("{progress}");
    /// }
    /// assert!(futures.iter().all(|future| future.is_done()));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn watch_progress(&self) -> WatchProgress {
        WatchProgress::new(Source::of(self, None))
    }
}
