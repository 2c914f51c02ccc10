//! The progress again and again.

use super::{OFTEN, Seen, Source};
use crate::client::blocking;
use crate::status::Progress;
use std::iter::FusedIterator;
use std::thread;
use std::time::{Duration, Instant};

/// While nothing has changed it is looked again after this.
const AGAIN: Duration = Duration::from_millis(20);

/// The progress whenever it has changed: see [`Client::watch_progress`](crate::Client::watch_progress).
#[must_use = "iterators are lazy and do nothing unless consumed"]
#[derive(Debug)]
pub struct WatchProgress {
    source: Source,
    last: Option<(Progress, Instant)>,
    ended: bool,
}

impl WatchProgress {
    pub(super) fn new(source: Source) -> Self {
        Self { source, last: None, ended: false }
    }

    /// The next state, for async code: a thread of its own keeps the time until it comes.
    ///
    /// ```
    /// # use swath::Client;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let futures = client.map(|x: u64| x * x, 0..1000_u64)?;
    /// let mut watch = client.watch_progress();
    /// let mut last = None;
    /// while let Some(progress) = watch.next_async().await {
    ///     last = Some(progress);
    /// }
    /// assert_eq!(last.map(|last| last.counts.done()), Some(1000));
    /// # drop(futures);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn next_async(&mut self) -> Option<Progress> {
        loop {
            match self.look() {
                Look::Show(progress) => return Some(progress),
                Look::End => return None,
                Look::Wait(time) => {
                    // Where there can be no thread, this one waits.
                    if blocking::timeout(time, std::future::pending::<()>()).await.is_err() {
                        thread::sleep(time);
                    }
                }
            }
        }
    }

    /// What to do now.
    fn look(&mut self) -> Look {
        if self.ended {
            return Look::End;
        }
        if let Some((_, at)) = &self.last {
            let passed = at.elapsed();
            if passed < OFTEN {
                return Look::Wait(OFTEN - passed);
            }
        }
        let Some(Seen { progress, closed }) = self.source.look() else {
            self.ended = true;
            return Look::End;
        };
        if closed || progress.counts.unfinished() == 0 {
            self.ended = true;
        } else if self.last.as_ref().is_some_and(|(last, _)| is_same(last, &progress)) {
            return Look::Wait(AGAIN);
        }
        self.last = Some((progress.clone(), Instant::now()));
        Look::Show(progress)
    }
}

/// Whether no task has changed; time passes by itself.
fn is_same(a: &Progress, b: &Progress) -> bool {
    let same = |(a, b): (&swath_insight::GroupProgress, &swath_insight::GroupProgress)| {
        (a.counts, a.partial, a.graph) == (b.counts, b.partial, b.graph) && a.name == b.name
    };
    a.groups.len() == b.groups.len() && a.groups.iter().zip(&b.groups).all(same)
}

enum Look {
    Show(Progress),
    Wait(Duration),
    End,
}

impl Iterator for WatchProgress {
    type Item = Progress;

    fn next(&mut self) -> Option<Progress> {
        loop {
            match self.look() {
                Look::Show(progress) => return Some(progress),
                Look::End => return None,
                Look::Wait(time) => thread::sleep(time),
            }
        }
    }
}

impl FusedIterator for WatchProgress {}
