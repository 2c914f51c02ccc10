//! Options for all of a graph, and what becomes of the rest when a task fails.

use crate::graph::Dag;
use std::time::{Duration, Instant};

/// What [`Client::compute_with`](crate::Client::compute_with) and [`Client::gather_with`](crate::Client::gather_with) do when a
/// task fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failing {
    /// What the client was built for: [`Wait`](Self::Wait), unless
    /// [`Builder::fail_fast`](crate::Builder::fail_fast) says otherwise.
    #[default]
    AsBuilt,
    /// The graph runs to its end; what does not need the failed task is computed. The error is the failure of the first of
    /// what was asked for that has one, and where several inputs of a task fail, that of the first of them: it does not
    /// depend on which was faster.
    Wait,
    /// The first failure is returned at once, and cancels the rest.
    ///
    /// In sync mode that is the first in graph order, the same every time. Elsewhere it is the one that was told first; where
    /// it fails several of what was asked for, the error is that of the first of these. What was cancelled because of it is
    /// never the error. Attempts that are repeated ([`DelayedFn::retries`](crate::DelayedFn::retries)) are no failures.
    Fast,
    /// What failed is left out. That is for [`Client::gather_with`](crate::Client::gather_with) alone: what is computed has a
    /// place for each value, so there it is [`Error::Invalid`](crate::Error::Invalid).
    Skip,
}

/// How [`Client::compute_with`](crate::Client::compute_with) computes: options for all of a graph at once.
///
/// There may be more options in later versions, so the others are named by `..Default::default()`.
///
/// ```
/// use std::time::Duration;
/// use swath::client::{ComputeOptions, Failing};
/// use swath::{Client, delayed};
/// let options = ComputeOptions {
///     failing: Failing::Fast,
///     priority: 5,
///     retries: 2,
///     timeout: Some(Duration::from_secs(60)),
///     ..Default::default()
/// };
/// let squares = delayed(|x: u64| x * x).map(0..10_u64);
/// assert_eq!(Client::threads(2).compute_with(&squares, options)?.len(), 10);
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ComputeOptions {
    /// What becomes of the rest when a task fails.
    pub failing: Failing,
    /// Is added to the priority of each task, as by [`Client::with_priority`](crate::Client::with_priority).
    pub priority: i32,
    /// How long all of it may take, with the wait for room: then the work is cancelled, and the error is
    /// [`Error::Timeout`](crate::Error::Timeout). None: as long as it takes. In sync mode a task that runs goes on to its end,
    /// and no other begins.
    pub timeout: Option<Duration>,
    /// Each task may fail so many times before it counts as failed; more often where its own
    /// [`retries`](crate::DelayedFn::retries) say so.
    pub retries: u32,
    /// The names of the workers that may run the tasks which say nothing of their place; none: any. In threads and sync mode
    /// as [`on_worker`](crate::DelayedFn::on_worker).
    pub workers: Vec<String>,
    /// What each task takes of resources, see [`DelayedFn::resource`](crate::DelayedFn::resource); what it says itself goes
    /// before.
    pub resources: Vec<(String, f64)>,
    /// Whether chains of tasks may become one, as they do. Without, each task is placed, told and shown by itself, and takes
    /// its time.
    pub optimize: bool,
    /// Not `#[non_exhaustive]`, with which nobody else could write the struct, but nobody is to write all of it.
    #[doc(hidden)]
    pub _more: (),
}

impl Default for ComputeOptions {
    fn default() -> Self {
        let failing = Failing::default();
        let (workers, resources) = (Vec::new(), Vec::new());
        Self { failing, priority: 0, timeout: None, retries: 0, workers, resources, optimize: true, _more: () }
    }
}

impl ComputeOptions {
    /// When it has taken as long as it may, from now on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// Sets what is said of each task.
    pub(super) fn apply(&self, graph: &mut Dag) {
        if self.retries == 0 && self.workers.is_empty() && self.resources.is_empty() {
            return;
        }
        graph.set_options(|options| {
            options.retries = options.retries.max(self.retries);
            if options.worker.is_none() && options.tag.is_none() && options.among.is_empty() {
                options.among.clone_from(&self.workers);
            }
            for (name, amount) in &self.resources {
                if !options.resources.iter().any(|(known, _)| known == name) {
                    options.set_resource(name.clone(), *amount);
                }
            }
        });
    }
}
