//! What is known of a worker's death, and the keys of the tasks it ran.

use super::{Core, Executable, WorkerProcess};
use crate::error::{DeathCause, DeathRecord};
use crate::graph::node;
use crate::ids::TaskId;
use crate::task::function::{Record, short_name};
use crate::task::program::{Op, Ops};

impl Core {
    pub(super) fn record(&self, process: &WorkerProcess, running: &[TaskId], cause: DeathCause) -> DeathRecord {
        // Its log lines are on its page too, where they survive what the pipe could not carry.
        let mut last_lines = self.last_words(process);
        if last_lines.is_empty() {
            last_lines = String::from_utf8_lossy(&process.page.last_log()).lines().map(ToString::to_string).collect();
        }
        let peaks = process.page.peaks();
        let peak_of = |id: &TaskId| peaks.iter().find(|(task, _)| task == id).map_or(0, |(_, peak)| *peak);
        DeathRecord {
            worker: self.slots[process.slot].name.clone(),
            pid: process.pid,
            cause,
            memory_limit: self.settings.memory_limit,
            memory_samples: process.page.samples(),
            machine_available: None,
            managed: process.page.gauges().managed(),
            spilled: process.page.gauges().spilled(),
            peak_bytes: running.iter().map(peak_of).collect(),
            running: running.iter().map(|id| self.key(process, *id)).collect(),
            input_bytes: running.iter().map(|id| self.scheduler.input_bytes(*id)).collect(),
            last_lines,
        }
    }

    /// The user-visible key of a task that a worker runs, as far as it can be told from here: of a chain of calls, of
    /// the one that runs.
    pub(super) fn key(&self, process: &WorkerProcess, id: TaskId) -> String {
        let recorded = process.page.ring().latest(id).map(|record| record.run);
        let key = match recorded {
            Some(run) => run.name.or_else(|| self.function(run.place)).map(|name| node::key(&name, run.key)),
            // It has not called anything yet, or nothing is recorded.
            None => self.last_call(id),
        };
        key.unwrap_or_else(|| format!("task-{id}"))
    }

    fn function(&self, place: u64) -> Option<String> {
        match self.executable {
            Executable::Own => Record::at(place).map(|record| short_name(record.path())),
            Executable::Of(_) => self.functions.get(&place).cloned(),
        }
    }

    /// The key of the last call of a task, which is also that of its result.
    fn last_call(&self, id: TaskId) -> Option<String> {
        // Records are found only in an image of our own build.
        if !matches!(self.executable, Executable::Own) {
            return None;
        }
        let spec = self.scheduler.spec(id.job)?;
        let calls = Ops::new(spec.body(id.index)).filter_map(|op| match op {
            Ok(Op::Call { record, key, .. }) => Some((record, key)),
            _ => None,
        });
        let (record, hash) = calls.last()?;
        let given = spec.options.binary_search_by_key(&id.index, |o| o.0).ok();
        let name = given.and_then(|at| spec.options[at].1.name.clone());
        Some(node::key(&name.unwrap_or_else(|| short_name(record.path())), hash))
    }
}
