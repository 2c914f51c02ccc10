//! The log of events in a file: saved, opened, and as other programs read it.

use super::diagnosis::{Diagnosis, Extent};
use super::saved::{LogError, SavedLog, Stream, Writer};
use super::{EventKind, EventLog};
use crate::error::{DeathCause, Error, Result};
use crate::files::{write_private, write_whole};
use crate::status::Explanation;
use std::io::{self, Write};
use std::path::Path;

impl EventLog {
    /// Writes the log to a file that only its owner may read: all of it, or nothing. A file that was there is replaced, as
    /// by [`Output`](crate::files::Output). There are no values, arguments or variables in it.
    ///
    /// # Errors
    /// [`Error::Resource`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let write = |out: &mut dyn Write| {
            let mut writer = Writer::begin(Stream::new(out), path, &self.head).map_err(plain)?.limit(u64::MAX);
            self.events.iter().for_each(|event| writer.event(event.clone()));
            self.runs.iter().for_each(|run| writer.run(run));
            if !self.groups.is_empty() {
                let until = self.runs.iter().filter_map(|run| run.end).max().unwrap_or_default();
                writer.counts(until, &self.groups);
            }
            writer.finish().map_err(plain)
        };
        write_private(path, write).map_err(|e| not_written(path, &e))
    }

    /// Reads a log that [`save`](Self::save) or a recording has written, also one of format 1, the JSON lines of earlier
    /// versions. One that is cut off or damaged is read as far as it goes; [`problems`](Self::problems) says so.
    ///
    /// All of it is in memory then. [`SavedLog`] reads a log of any size bit by bit.
    ///
    /// # Errors
    /// [`Error::Resource`] where the file cannot be read, [`Error::Invalid`] where it is no log or one of a later format.
    ///
    /// ```
    /// use swath::events::EventLog;
    /// use swath::{Client, delayed};
    /// let client = Client::sync();
    /// client.compute(&delayed(|x: i64| x + 1).call(1))?;
    /// let file = std::env::temp_dir().join(format!("swath-events-{}.swath", std::process::id()));
    /// let log = client.events()?;
    /// log.save(&file)?;
    /// assert_eq!(EventLog::open(&file)?, log);
    /// # std::fs::remove_file(file).ok();
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let log = SavedLog::open(path).map_err(|e| match e {
            LogError::Io { path, source, .. } => not_read(&path, &source.to_string()),
            LogError::NotAFile { .. } => not_read(path, &e.to_string()),
            other => Error::invalid("event log", other.to_string()),
        })?;
        let mut problems = log.problems().to_vec();
        let mut read = |error: LogError| problems.push(error.to_string());
        let runs = log.runs().filter_map(|run| run.map_err(&mut read).ok()).collect();
        let events = log.events().filter_map(|event| event.map_err(&mut read).ok()).collect();
        Ok(Self::of(log.head().clone(), runs, events, problems))
    }

    /// Writes it as Chrome trace events, which Perfetto (`ui.perfetto.dev`) and `chrome://tracing` show.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::sync();
    /// client.compute(&delayed(|x: i64| x + 1).name("inc").call(1))?;
    /// let file = std::env::temp_dir().join(format!("swath-trace-{}.json", std::process::id()));
    /// client.events()?.trace(&file)?;
    /// assert!(std::fs::read_to_string(&file).expect("written").contains("\"name\":\"inc\""));
    /// # std::fs::remove_file(file).ok();
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn trace(&self, path: impl AsRef<Path>) -> Result<()> {
        self.export(path.as_ref(), SavedLog::write_trace)
    }

    /// What became of the time of what has run, all of it or a part: what the threads did, and what time was lost to.
    ///
    /// ```
    /// use swath::events::diagnosis::Extent;
    /// # use swath::{Client, delayed};
    /// let client = Client::sync();
    /// client.compute(&delayed(|x: i64| x + 1).call(1))?;
    /// let diagnosis = client.events()?.diagnose(&Extent::default());
    /// assert_eq!((diagnosis.threads, diagnosis.names[0].cost.runs), (1, 1));
    /// println!("{diagnosis}");
    /// # Ok::<(), swath::Error>(())
    /// ```
    #[must_use]
    pub fn diagnose(&self, extent: &Extent) -> Diagnosis {
        self.saved().diagnose(extent)
    }

    /// What is recorded of a task, by its key or the beginning of it.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::sync();
    /// client.compute(&delayed(|x: i64| x + 1).name("inc").call(1))?;
    /// let told = client.events()?.explain("inc")?;
    /// assert_eq!((told.cost.runs, told.timeline.ended.is_some()), (1, true));
    /// println!("{told}");
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Key`] where it has nothing of a task whose key begins so, or there are several.
    pub fn explain(&self, key: &str) -> Result<Explanation> {
        Ok(self.saved().explain(key)?)
    }

    /// Writes a report of it: one HTML file that needs nothing else, see
    /// [`Client::performance_report`](crate::Client::performance_report).
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::sync();
    /// client.compute(&delayed(|x: i64| x + 1).name("inc").call(1))?;
    /// let file = std::env::temp_dir().join(format!("swath-report-of-log-{}.html", std::process::id()));
    /// client.events()?.report(&file)?;
    /// assert!(std::fs::read_to_string(&file).expect("written").contains("<td class=\"name\">inc</td>"));
    /// # std::fs::remove_file(file).ok();
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Report`] where the name does not end in `.html`, or the file cannot be written; one that was there is as it was
    /// then.
    pub fn report(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(self.saved().report(path)?)
    }

    fn saved(&self) -> SavedLog {
        SavedLog::of(self.head.clone(), self.runs.clone(), self.events.clone(), Vec::new())
    }

    /// Writes it as JSON, an object a line, each with its `"kind"`: the head, runs and events.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn json_lines(&self, path: impl AsRef<Path>) -> Result<()> {
        self.export(path.as_ref(), SavedLog::write_json_lines)
    }

    /// Writes the runs as CSV.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn csv(&self, path: impl AsRef<Path>) -> Result<()> {
        self.export(path.as_ref(), SavedLog::write_csv)
    }

    fn export(&self, path: &Path, write: fn(&SavedLog, &mut dyn Write) -> io::Result<()>) -> Result<()> {
        let log = self.saved();
        write_whole(path, false, |out| write(&log, out)).map_err(|e| not_written(path, &e))
    }
}

/// What the system says, without the file's name.
fn plain(error: LogError) -> io::Error {
    match error {
        LogError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

fn not_written(path: &Path, error: &io::Error) -> Error {
    not_read(path, &error.to_string())
}

fn not_read(path: &Path, reason: &str) -> Error {
    Error::Resource { resource: path.display().to_string(), reason: reason.to_string() }
}

/// The death of a worker, as it is saved.
pub(crate) fn lost(worker: String, pid: u32, cause: &DeathCause) -> EventKind {
    let reason = cause.to_string();
    EventKind::WorkerLost { worker, pid, reason, cause: serde_json::to_value(cause).unwrap_or_default() }
}
