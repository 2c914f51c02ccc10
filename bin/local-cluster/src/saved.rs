//! What is made of saved logs.

use crate::failure::{Failure, Outcome};
use crate::show::{json, say};
use std::path::Path;
use swath::events::saved::{LogError, SavedLog};

impl From<LogError> for Failure {
    fn from(e: LogError) -> Self {
        Self::Failed(e.to_string())
    }
}

/// Says what is in a log.
pub(crate) fn events(file: &Path, as_json: bool) -> Outcome {
    let summary = SavedLog::open(file)?.summary();
    if as_json { json(&summary) } else { say(&summary.to_string()) }
}

/// Writes a log as a trace.
pub(crate) fn trace(file: &Path, output: &Path) -> Outcome {
    Ok(SavedLog::open(file)?.trace(output)?)
}
