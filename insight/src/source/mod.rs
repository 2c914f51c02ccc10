//! What the pages ask for: of a saved log now, of what runs later, through one [`Source`].
//!
//! Every answer is bounded, whatever the number of tasks: lists come in pages of at most [`MOST_ROWS`] rows, the stream of
//! tasks and the memory over time in as many cells and points as are asked for. Answers are plain data for serde. As JSON
//! each of them has `version`, and within a version it only grows: what reads it steps over what it does not know.
//!
//! Times that end in `_ns` are nanoseconds, those `at` some time count from the start of the log. Texts are cut to a length,
//! and what would act on a terminal or turn the direction of writing is shown as a sign; they are not escaped for HTML.

mod answers;
mod cells;
mod deaths;
mod gathered;
mod memory;
mod profile;
mod saved;
mod words;

pub use answers::{
    Death, DeathTask, DiagnosisAnswer, EventRow, GroupRow, LogRow, NameRow, Path, Rows, RunState, Status, SystemFacts,
    TaskRow, WorkerRow, WorkerState,
};
pub use cells::{Cells, Mark, MarkKind, Stream, StreamName, StreamRow};
pub use memory::{MemoryOverTime, WorkerMemory};
pub use profile::{ProfileAnswer, ProfileName, ProfileNode, Wait};
pub use saved::SavedSource;

use std::time::Duration;

/// The version of the answers.
pub const VERSION: u32 = 1;
/// No page of a list has more rows.
pub const MOST_ROWS: usize = 200;
/// No stream has more cells in a row, and no memory over time more points.
pub const MOST_CELLS: usize = 4000;

/// Which part of a list is asked for.
///
/// ```
/// use swath_insight::source::{MOST_ROWS, Page};
/// let page = Page::at(400).search("parse");
/// assert_eq!((page.offset, page.limit, page.search.as_deref()), (400, MOST_ROWS, Some("parse")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// How many rows come before it.
    pub offset: usize,
    /// How many rows are wanted; more than [`MOST_ROWS`] are never given.
    pub limit: usize,
    /// Only rows with this text in a name, a key, a worker or what was said, whatever the case.
    pub search: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self::at(0)
    }
}

impl Page {
    /// A page that begins with that row.
    #[must_use]
    pub fn at(offset: usize) -> Self {
        Self { offset, limit: MOST_ROWS, search: None }
    }

    /// The same of the rows with this text.
    #[must_use]
    pub fn search(self, text: impl Into<String>) -> Self {
        Self { search: Some(text.into()), ..self }
    }

    /// The same with so many rows at most.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }
}

/// Which time is asked for, and how finely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Window {
    /// From this time.
    pub from: Duration,
    /// To this one.
    pub to: Duration,
    /// Into so many cells or points, as a screen has columns; [`MOST_CELLS`] at most.
    pub width: usize,
}

impl Window {
    /// From a time to another, in so many cells.
    #[must_use]
    pub fn new(from: Duration, to: Duration, width: usize) -> Self {
        Self { from, to: to.max(from), width: width.clamp(1, MOST_CELLS) }
    }

    /// How long a cell is: a nanosecond at least.
    pub(crate) fn cell(&self) -> u64 {
        let (from, to) = (crate::log::nanos::of(self.from), crate::log::nanos::of(self.to));
        (to - from).div_ceil(self.width as u64).max(1)
    }
}

/// Why a source has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no answer about {what}: {reason}")]
#[non_exhaustive]
pub struct SourceError {
    /// What was asked for.
    pub what: String,
    /// Why it is not known.
    pub reason: String,
}

impl SourceError {
    /// An answer that there is not.
    #[must_use]
    pub fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), reason: reason.into() }
    }
}

/// An answer, or why there is none.
pub type Answer<T> = Result<T, SourceError>;

/// What the pages ask for. [`SavedSource`] answers from a saved log.
pub trait Source {
    /// How far it is, in one line, and why it is not faster, in another; what there is and whether that is everything.
    ///
    /// # Errors
    /// Where there is no answer now; so with all others.
    fn status(&self) -> Answer<Status>;

    /// What became of the time.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn diagnosis(&self) -> Answer<DiagnosisAnswer>;

    /// The tasks of each graph and name, in the order of graphs and of their first runs.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn groups(&self, page: &Page) -> Answer<Rows<GroupRow>>;

    /// The names of tasks, those that took the most time first.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn names(&self, page: &Page) -> Answer<Rows<NameRow>>;

    /// The workers, by name.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn workers(&self, page: &Page) -> Answer<Rows<WorkerRow>>;

    /// Runs that are worth a look each: those that failed, were lost, were cancelled or have not ended, then the slowest.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn tasks(&self, page: &Page) -> Answer<Rows<TaskRow>>;

    /// What each thread ran.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn stream(&self, window: &Window) -> Answer<Stream>;

    /// The memory of the workers.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn memory(&self, window: &Window) -> Answer<MemoryOverTime>;

    /// Where tasks spent their time, by function.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn profile(&self) -> Answer<ProfileAnswer>;

    /// What tasks and workers printed and logged, the newest last.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn logs(&self, page: &Page) -> Answer<Rows<LogRow>>;

    /// What happened beside runs of tasks, the newest last.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn events(&self, page: &Page) -> Answer<Rows<EventRow>>;

    /// The workers that died.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn deaths(&self, page: &Page) -> Answer<Rows<Death>>;

    /// The machine, and who wrote this.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    fn system(&self) -> Answer<SystemFacts>;
}
