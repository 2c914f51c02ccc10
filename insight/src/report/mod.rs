//! The report: what a run did, as one page of HTML that needs nothing else.
//!
//! It is what a dashboard shows, over a [`Source`] whose answers are in the page: modules of JavaScript as `data:` URLs, one
//! style sheet, and the answers as JSON, compressed. It opens from a file and asks for nothing from anywhere; its policy
//! allows its own scripts and style sheets, by their hashes and as `data:`. Without JavaScript it has the summary, the
//! diagnosis, the names and the deaths as tables.
//!
//! What tasks are called and print is taken as hostile: it is cut to a length, cleaned, and escaped.

mod assets;
mod embedded;
mod error;
mod plain;
#[cfg(test)]
mod tests;

pub use error::ReportError;

use crate::log::SavedLog;
use crate::source::{Answer, SavedSource, Source};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The report of a source, as HTML.
///
/// # Errors
/// Where the source has no answer to a question.
pub fn html(source: &dyn Source) -> Answer<String> {
    let status = source.status()?;
    let data = embedded::encoded(source, &status)?;
    let mut out = String::with_capacity(data.len() + (1 << 19));
    assets::push_head(&mut out, &status);
    out.push_str("<body>\n<div id=\"app\"></div>\n");
    plain::push_page(&mut out, source, &status)?;
    out.push_str("<script type=\"application/octet-stream\" id=\"data\">");
    out.push_str(&data);
    out.push_str("</script>\n");
    assets::push_start(&mut out);
    out.push_str("</body>\n</html>\n");
    Ok(out)
}

/// Writes the report of a source to a file whose name ends in `.html`, and which only its owner may read. One that was there
/// is replaced once the new one is whole.
///
/// # Errors
/// [`ReportError`] says which file, and why it cannot be written.
pub fn save(source: &dyn Source, path: impl AsRef<Path>) -> Result<(), ReportError> {
    let path = path.as_ref();
    check(path)?;
    let html = html(source)?;
    replace(path, html.as_bytes())
}

/// Whether a report can be written there, as far as that is known before: nothing is written.
///
/// # Errors
/// [`ReportError`], if not.
pub fn check(path: impl AsRef<Path>) -> Result<(), ReportError> {
    let path = path.as_ref();
    let there = match fs::metadata(path) {
        Ok(there) => Some(there),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(not_written(path, source)),
    };
    if there.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(ReportError::Directory { path: path.into() });
    }
    let ending = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
    if !ending.is_some_and(|ending| ending == "html" || ending == "htm") {
        return Err(ReportError::Ending { path: path.into() });
    }
    if there.is_some_and(|there| !there.is_file()) {
        return Err(ReportError::NotAFile { path: path.into() });
    }
    // The folder is where the new file is made.
    let folder = folder(path);
    match fs::metadata(folder) {
        Ok(there) if there.is_dir() => Ok(()),
        Ok(_) => Err(not_written(path, io::ErrorKind::NotADirectory.into())),
        Err(source) => Err(not_written(path, source)),
    }
}

fn not_written(path: &Path, source: io::Error) -> ReportError {
    ReportError::Io { action: "write", path: path.into(), source: source.into() }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a new file beside the one that is to be replaced, and puts it in its place when it is whole.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    // The end of a link is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let beside: PathBuf = folder(&target).join(format!(".swath-report-{}-{number}.tmp", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut file| {
        let done = file.write_all(bytes).and_then(|()| fs::rename(&beside, &target));
        if done.is_err() {
            // What went wrong first is what is told.
            let _ = fs::remove_file(&beside);
        }
        done
    });
    written.map_err(|source| not_written(path, source))
}

impl SavedLog {
    /// Writes a report of the log: one HTML file that needs nothing else, with summary, diagnosis, progress, what each thread
    /// ran, workers, memory, logs, deaths and versions. Its name ends in `.html`; only its owner may read it.
    ///
    /// Runs are summed up to what a screen can show; those that did not end well, and the slowest, are in it in full.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use swath_insight::log::{Head, Outcome, Run, SavedLog};
    /// let mut run = Run::new("parse", 1, "worker-0", Duration::ZERO);
    /// run.ended(Duration::from_secs(2), Outcome::Finished);
    /// let log = SavedLog::of(Head::new("0.1.0", SystemTime::now()), [run], [], Vec::new());
    /// let path = std::env::temp_dir().join(format!("swath-report-{}.html", std::process::id()));
    /// log.report(&path)?;
    /// assert!(std::fs::read_to_string(&path)?.contains("Finished in 2 s"));
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReportError`] says which file, and why it cannot be written.
    pub fn report(&self, path: impl AsRef<Path>) -> Result<(), ReportError> {
        // What would be in vain is not made.
        check(&path)?;
        save(&SavedSource::of(self), path)
    }

    /// Writes a [`report`](Self::report) to what takes bytes.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_report(&self, out: &mut dyn Write) -> io::Result<()> {
        let html = html(&SavedSource::of(self)).map_err(io::Error::other)?;
        out.write_all(html.as_bytes())
    }
}
