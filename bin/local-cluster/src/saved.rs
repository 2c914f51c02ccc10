//! What is made of saved logs.

use crate::failure::{Failure, Outcome};
use crate::show::{json, say};
use std::path::Path;
use swath::events::diagnosis::Extent;
use swath::events::saved::{LogError, SavedLog};
use swath::local;

impl From<LogError> for Failure {
    fn from(e: LogError) -> Self {
        Self::Failed(e.to_string())
    }
}

/// Says why a task is where it is: of the cluster, or of a log.
pub(crate) fn explain(name: &str, key: &str, file: Option<&Path>, as_json: bool) -> Outcome {
    let told = match file {
        Some(file) => SavedLog::open(file)?.explain(key).map_err(|e| Failure::Failed(e.to_string()))?,
        None => local::explain(name, key)?,
    };
    if as_json { json(&told) } else { say(&format!("{told}\n")) }
}

/// Says what is in a log.
pub(crate) fn events(file: &Path, as_json: bool) -> Outcome {
    let summary = SavedLog::open(file)?.summary();
    if as_json { json(&summary) } else { say(&summary.to_string()) }
}

/// Says why what is in a log took as long as it did.
pub(crate) fn why(file: &Path, graph: Option<u32>, label: Option<&str>, as_json: bool) -> Outcome {
    let extent = match (graph, label) {
        (Some(graph), _) => Extent::of_graph(graph),
        (None, Some(label)) => Extent::of_label(label),
        (None, None) => Extent::default(),
    };
    let diagnosis = SavedLog::open(file)?.diagnose(&extent);
    if as_json { json(&diagnosis) } else { say(&format!("{diagnosis}\n")) }
}

/// Writes a log as a trace.
pub(crate) fn trace(file: &Path, output: &Path) -> Outcome {
    Ok(SavedLog::open(file)?.trace(output)?)
}
