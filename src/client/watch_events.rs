//! What happens, as it happens.

use super::builder::follow;
use super::{Client, blocking};
use crate::error::Result;
use crate::events::following::Following;
use crate::events::journal::ClientStep;
use crate::events::reading::Reading;
use crate::events::sources::RunSources;
use crate::events::{Event, EventFilter, Run, checked_note};
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// While nothing happens it is looked again after this.
const AGAIN: Duration = Duration::from_millis(20);

/// What [`Client::watch_events`] gives.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Happened {
    /// A run of a task has ended.
    Run(Run),
    /// Something else has happened.
    Event(Event),
    /// So much was overwritten before it could be given: whoever watches was slower than the tasks.
    Missed {
        /// Runs, at most.
        runs: u64,
        /// Events.
        events: u64,
    },
}

/// What happens, as it happens: see [`Client::watch_events`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct WatchEvents {
    client: Client,
    filter: EventFilter,
    reading: Reading,
    /// What a local cluster tells, and where that is noted.
    following: Option<(Following, Arc<RunSources>)>,
    found: VecDeque<Happened>,
    ended: bool,
}

impl Client {
    /// What happens from now on: runs as they end, and events of graphs, workers and tasks. It blocks until there is something,
    /// and ends when the client is closed. [`WatchEvents::next_async`] is for async code. It is Dask's `subscribe_topic`.
    ///
    /// Nothing runs for it in between: each call reads what has happened since the last one, where that was recorded. So it is
    /// bounded by what each worker [remembers](crate::client::Builder::events); what was overwritten meanwhile is told as
    /// [`Happened::Missed`].
    ///
    /// ```
    /// use swath::client::Happened;
    /// use swath::events::EventFilter;
    /// use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let mut watch = client.watch_events(EventFilter::default().runs().name("double"))?;
    /// client.compute(&delayed(|x: i64| 2 * x).name("double").call(4))?;
    /// let Some(Happened::Run(run)) = watch.next() else { panic!("a run was expected") };
    /// assert_eq!(&*run.name, "double");
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// A program that is attached to a local cluster asks that for its workers, twenty times a second at most.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for the client of a task.
    pub fn watch_events(&self, filter: EventFilter) -> Result<WatchEvents> {
        let log = &self.0.log;
        let (reading, following) = match self.0.backend.sources() {
            Some(sources) => (Reading::from_now(&sources, log), None),
            None => {
                let (sources, mut following) = (Arc::<RunSources>::default(), follow(self, "watch_events")?);
                let mut reading = Reading::from_now(&sources, log).of_session(self.0.backend.session());
                // The reader has the rings of the workers that are there from here on, and skips what they have run by now.
                log.look(&mut following, &sources, true);
                reading.skip(log);
                (reading, Some((following, sources)))
            }
        };
        Ok(WatchEvents { client: self.clone(), filter, reading, following, found: VecDeque::new(), ended: false })
    }

    /// Notes something in the log of events: for whoever watches them, and for saved logs. In a task, it is
    /// [`note`](crate::client::note()).
    ///
    /// ```
    /// # use swath::Client;
    /// use swath::events::EventKind;
    /// let client = Client::sync();
    /// client.note("epoch", &3)?;
    /// let noted = |kind: &EventKind| matches!(kind, EventKind::Note { topic, .. } if topic == "epoch");
    /// assert!(client.events()?.events().iter().any(|event| noted(&event.kind)));
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a topic of more than 256 bytes, for a value that takes more than 64 KiB as JSON, and for one that
    /// cannot be written as that.
    pub fn note(&self, topic: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
        let kind = checked_note(None, topic, value)?;
        self.0.log.steps.note(ClientStep::Event(kind));
        Ok(())
    }
}

enum Look {
    Show(Box<Happened>),
    Wait,
    End,
}

impl WatchEvents {
    fn look(&mut self) -> Look {
        if let Some(first) = self.found.pop_front() {
            return Look::Show(Box::new(first));
        }
        if self.ended {
            return Look::End;
        }
        // Before it is read: what happens until then is read.
        self.ended = self.client.0.backend.is_closed();
        let unseen = match &mut self.following {
            Some((following, sources)) => self.client.0.log.look(following, sources, self.ended),
            None => 0,
        };
        let Self { filter, found, client, .. } = self;
        let mut events = Vec::new();
        let (lost, missed) = self.reading.take(
            &client.0.log,
            self.ended,
            &mut |run| {
                if filter.takes_run(&run) {
                    found.push_back(Happened::Run(run));
                }
            },
            &mut |event| events.push(event),
        );
        found.extend(events.into_iter().filter(|event| filter.takes_event(event)).map(Happened::Event));
        // In the order of time, as far as it came together.
        found.make_contiguous().sort_by_key(|happened| match happened {
            Happened::Run(run) => run.end.unwrap_or(run.start),
            Happened::Event(event) => event.at,
            Happened::Missed { .. } => Duration::ZERO,
        });
        if (lost, missed + unseen) != (0, 0) {
            found.push_front(Happened::Missed { runs: lost, events: missed + unseen });
        }
        match found.pop_front() {
            Some(first) => Look::Show(Box::new(first)),
            None if self.ended => Look::End,
            None => Look::Wait,
        }
    }

    /// What has happened and was not given yet; none at once where that is nothing.
    #[must_use = "what is given is not given again"]
    pub fn try_next(&mut self) -> Option<Happened> {
        match self.look() {
            Look::Show(happened) => Some(*happened),
            Look::Wait | Look::End => None,
        }
    }

    /// The next, for async code: a thread of its own keeps the time until it comes. None when the client is closed.
    pub async fn next_async(&mut self) -> Option<Happened> {
        loop {
            match self.look() {
                Look::Show(happened) => return Some(*happened),
                Look::End => return None,
                Look::Wait => {
                    // Where there can be no thread, this one waits.
                    if blocking::timeout(AGAIN, std::future::pending::<()>()).await.is_err() {
                        thread::sleep(AGAIN);
                    }
                }
            }
        }
    }
}

impl Iterator for WatchEvents {
    type Item = Happened;

    fn next(&mut self) -> Option<Happened> {
        loop {
            match self.look() {
                Look::Show(happened) => return Some(*happened),
                Look::End => return None,
                Look::Wait => thread::sleep(AGAIN),
            }
        }
    }
}

impl FusedIterator for WatchEvents {}

impl fmt::Debug for WatchEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WatchEvents({:?}, {} found)", self.filter, self.found.len())
    }
}
