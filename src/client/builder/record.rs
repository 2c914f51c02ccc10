//! Recording in a file.

use super::Builder;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::events::following::Following;
use crate::machine::cores;
use crate::memory::limit::MemoryLimit;
use crate::message::{Ask, question};
use crate::status::Mode;
use crate::submission::reply::Asked;
use std::path::PathBuf;
use std::sync::Arc;

/// How many runs the rings of recorded threads or workers have room for together: those of a tenth of a second, of the
/// shortest tasks that there are.
const RINGS: usize = 1 << 18;
/// The same in this process, where they take no shared memory: those of half a second.
const RINGS_HERE: usize = 1 << 20;
/// And each of them, at least.
const LEAST: usize = 1 << 14;

/// Where a client is recorded.
#[derive(Clone, Debug, Default)]
pub(super) struct Recording {
    path: Option<PathBuf>,
    limit: MemoryLimit,
}

impl Builder {
    /// Records all that happens, from the start of the client to its end, in a file: each run of a task, graphs, workers. It
    /// is written each second, so that a program that is killed loses no more than that; the file may be read meanwhile.
    /// `SWATH_RECORD=path` does the same for [`Client::from_env`].
    ///
    /// Only its owner may read the file. There are no values, arguments or variables in it. One that was there is replaced.
    /// Where the disk is full, the program goes on, with a warning, and the log says from when it is not complete. So that
    /// nothing is lost where a thread cannot keep up for a moment, more runs are [remembered](Self::events): a million by
    /// the threads of this process together, 262,144 by all workers, and 16,384 at least by each, of 64 bytes. What is
    /// overwritten all the same is counted, and the log says so.
    ///
    /// A program that is [attached](Self::cluster) to a local cluster is recorded by its own process, which reads what the
    /// workers remember of it: 4096 runs each, unless the cluster itself is started with `--record`.
    ///
    /// ```
    /// use swath::events::saved::SavedLog;
    /// use swath::status::Mode;
    /// use swath::{Client, delayed};
    /// # let directory = tempfile::tempdir().expect("a directory");
    /// # let path = directory.path().join("run.swath");
    /// let client = Client::builder().mode(Mode::Threads).record(&path).build()?;
    /// client.compute(&delayed(|x: u64| x * x).map(0..1000_u64))?;
    /// client.shutdown();
    /// let summary = SavedLog::open(&path).expect("a log").summary();
    /// assert!(summary.complete && summary.runs == 1000);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn record(mut self, path: impl Into<PathBuf>) -> Self {
        self.recording.path = Some(path.into());
        self
    }

    /// How large the file of [`record`](Self::record) may become: `"100MB"`, a number of bytes, 1 MB at least. Default: 1 GiB. At three
    /// quarters of it, runs are summed up by group and tenth of a second, but for those that failed and the slowest.
    ///
    /// [`build`](Self::build) refuses other limits.
    pub fn record_limit(mut self, limit: impl Into<MemoryLimit>) -> Self {
        self.recording.limit = limit.into();
        self
    }

    /// How many runs each worker or thread remembers.
    pub(super) fn recorded_runs(&self) -> usize {
        let (rings, sharers) = match self.mode {
            _ if !self.is_recorded() => return self.events,
            Mode::Sync => (RINGS_HERE, 1),
            Mode::Threads => (RINGS_HERE, self.threads.unwrap_or_else(cores)),
            Mode::Processes => (RINGS, self.workers.unwrap_or_else(cores).max(2)),
        };
        self.events.max((rings / sharers.max(1)).next_power_of_two().max(LEAST))
    }

    pub(super) fn check_recording(&self) -> Result<()> {
        self.recording.limit().map(drop)
    }

    /// The directory in which a local cluster records its programs, and the limit of its file.
    pub(crate) fn recorded_in(&self) -> Result<Option<(PathBuf, Option<u64>)>> {
        let limit = self.recording.limit()?;
        Ok(self.recording.path.clone().map(|path| (path, limit)))
    }

    /// Whether it is to be recorded.
    pub(super) fn is_recorded(&self) -> bool {
        self.recording.path.is_some()
    }
}

impl Recording {
    /// Begins to record a client, if it is to be.
    pub(super) fn begin(&self, client: Client) -> Result<Client> {
        let Some(path) = &self.path else { return Ok(client) };
        client.recorded(path, self.limit()?)
    }

    /// Bytes of the file, checked.
    fn limit(&self) -> Result<Option<u64>> {
        self.limit.of_all().map_err(|e| e.about("record_limit"))
    }
}

/// Follows the workers of the local cluster that a client is attached to.
pub(in crate::client) fn follow(client: &Client, operation: &'static str) -> Result<Following> {
    let Some(session) = client.0.backend.session() else {
        return Err(Error::Unsupported { operation, mode: client.mode().name() });
    };
    let backend = Arc::downgrade(&client.0.backend);
    let asks = move |seen| {
        let asked = Asked::<question::Follow>::new(backend.upgrade()?.ask(question::Follow(seen).question()));
        asked.wait().ok()
    };
    Ok(Following::new(session, Box::new(asks)))
}
