//! Lines that workers print: records of deaths have the last of them.

use super::words::words;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error. Log lines go there too.
    Stderr,
}

words!(OutputStream, "stream": Stdout "stdout", Stderr "stderr");

/// A line that a worker wrote.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogLine {
    /// The worker's name.
    pub worker: String,
    /// Where it was written to.
    pub stream: OutputStream,
    /// The keys of the tasks that may have written it: one, but for workers that run several at a time and for tasks of a
    /// few microseconds, which cannot be told apart; none, where it was written between tasks.
    pub tasks: Vec<String>,
    /// The line, without its end.
    pub text: String,
    /// When its end came, or what there is of it, in milliseconds since 1970.
    pub time: u64,
    /// Greater than that of each line of the same worker and its predecessors that ended before it.
    pub number: u64,
    /// Whether it has an end: more of it may come otherwise.
    pub ended: bool,
}

impl LogLine {
    /// A line of a worker's log, which goes to its standard error.
    pub(crate) fn logged(worker: &str, text: &str, time: u64) -> Self {
        let (worker, text) = (worker.to_string(), text.to_string());
        Self { worker, stream: OutputStream::Stderr, tasks: Vec::new(), text, time, number: 0, ended: true }
    }
}

/// `worker-0 stderr [parse-90c1e3f2d1b86e55]: no such file`
impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.worker, self.stream)?;
        if !self.tasks.is_empty() {
            write!(f, " [{}]", self.tasks.join(", "))?;
        }
        write!(f, ": {}", self.text)
    }
}
