//! A log as other programs read it.

mod csv;
mod json_lines;
mod trace;

#[cfg(test)]
mod tests;

use super::{LogError, SavedLog};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes a file through a buffer.
fn write_file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), LogError>) -> Result<(), LogError> {
    let failed = |action, source| LogError::Io { action, path: path.into(), source };
    let file = match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => return Err(LogError::NotAFile { path: path.into() }),
        _ => File::create(path).map_err(|e| failed("create", e))?,
    };
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.flush().map_err(|e| failed("write", e))
}

impl SavedLog {
    /// Writes it as Chrome trace events, which Perfetto (`ui.perfetto.dev`) and `chrome://tracing` show: workers as
    /// processes with their threads, runs, memory and running tasks as counters, and arrows from results to the tasks that
    /// take them where that was recorded.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use swath_insight::log::{Head, Outcome, Run, SavedLog};
    /// # let mut run = Run::new("parse", 1, "worker-0", Duration::from_millis(1));
    /// # run.ended(Duration::from_millis(3), Outcome::Finished);
    /// # let log = SavedLog::of(Head::new("0.1.0", SystemTime::now()), [run], [], Vec::new());
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("t.json");
    /// log.trace(&path)?;
    /// let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    /// assert!(trace["traceEvents"].as_array().is_some_and(|events| events.iter().any(|e| e["name"] == "parse")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LogError::Io`] where the file cannot be written, [`LogError::NotAFile`] for a directory. Damaged chunks are left
    /// out.
    pub fn trace(&self, path: impl AsRef<Path>) -> Result<(), LogError> {
        let path = path.as_ref();
        write_file(path, |out| self.write_trace(out).map_err(|e| io_at(path, e)))
    }

    /// Writes it as JSON, an object a line: first the head, then runs, sums, samples and events, each with its `"kind"`.
    ///
    /// # Errors
    /// As [`trace`](Self::trace).
    pub fn json_lines(&self, path: impl AsRef<Path>) -> Result<(), LogError> {
        let path = path.as_ref();
        write_file(path, |out| self.write_json_lines(out).map_err(|e| io_at(path, e)))
    }

    /// Writes the runs as CSV, with a line of names above them. Times are in seconds since the start of the log.
    ///
    /// # Errors
    /// As [`trace`](Self::trace).
    pub fn csv(&self, path: impl AsRef<Path>) -> Result<(), LogError> {
        let path = path.as_ref();
        write_file(path, |out| self.write_csv(out).map_err(|e| io_at(path, e)))
    }
}

fn io_at(path: &Path, source: io::Error) -> LogError {
    LogError::Io { action: "write", path: path.into(), source }
}
