//! What tasks log in this process: the last of it, and all of it where the client is recorded.

use crate::error::logged::lines_of;
use crate::error::{LogLine, OutputStream};
use crate::events::recent_lines::RecentLines;
use crate::events::sources::RunSources;
use crate::ipc::clock::wall_clock;
use crate::task::context::TaskInfo;
use log::Record;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a record at most.
const LONGEST: usize = 16 << 10;
/// In a fork of the process a lock may be taken for ever.
const BRIEFLY: Duration = Duration::from_millis(10);

/// Takes the records of tasks. Nothing of the user's runs under its lock.
pub(crate) struct TaskLogs {
    recent: Mutex<RecentLines>,
    sources: Arc<RunSources>,
}

impl TaskLogs {
    pub(crate) fn new(sources: Arc<RunSources>) -> Self {
        Self { recent: Mutex::default(), sources }
    }

    /// A task logs.
    pub(crate) fn add(&self, task: &TaskInfo, record: &Record<'_>) {
        let mut text = record.args().to_string();
        if text.len() > LONGEST {
            let more = text.len() - text.floor_char_boundary(LONGEST);
            text.truncate(text.len() - more);
            text.push_str(&format!(" … ({more} bytes more)"));
        }
        let time = wall_clock();
        let lines = lines_of(time, &task.worker, Some(&task.key), record.level(), record.target(), &text);
        if self.sources.lines.is_on() {
            lines.lines().for_each(|line| self.sources.lines.push(LogLine::logged(&task.worker, line, time)));
        }
        if let Some(mut recent) = self.recent.try_lock_for(BRIEFLY) {
            recent.push(OutputStream::Stderr, std::slice::from_ref(&task.key), lines.as_bytes(), time);
        }
    }

    /// The last lines of all tasks.
    pub(crate) fn lines(&self) -> Vec<LogLine> {
        self.recent.try_lock_for(BRIEFLY).map(|recent| recent.lines("")).unwrap_or_default()
    }
}
