//! What is remembered of workers: their deaths, their output, their runs of tasks, and what the tasks were called.

use super::blame::Suspects;
use super::{Core, WorkerProcess};
use crate::error::LogLine;
use crate::error::{DeathCause, DeathRecord};
use crate::events::journal::{Journal, Step};
use crate::events::recent_lines::RecentLines;
use crate::graph::node;
use crate::ids::TaskId;
use crate::ipc::ring::RingRecord;
use crate::job::CallName;
use crate::supervisor::effects::{Effects, WorkerPage};
use crate::task::function::{Record, short_name};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// How many deaths are remembered.
const DEATHS: usize = 100;
/// How many of the last lines go into the record of a death.
pub(super) const LAST_LINES: usize = 100;
/// How many functions a program may have; with more, something is wrong with it.
const MOST_FUNCTIONS: usize = 1 << 16;

pub(super) struct History {
    pub(super) deaths: VecDeque<DeathRecord>,
    /// How the last worker ended that was not replaced, whether it was to end or not.
    pub(super) last_end: Option<String>,
    /// The last worker that ended had not been set up.
    pub(super) unset: bool,
    /// By slot.
    pub(super) recent_lines: Vec<RecentLines>,
    /// By slot: what the workers that have ended had recorded.
    pub(super) past_runs: Vec<Vec<RingRecord>>,
    /// By log id: names of functions of a program that is not ours, as its workers have told them.
    functions: FxHashMap<u64, String>,
    pub(super) steps: Journal<Step>,
}

impl History {
    pub(super) fn new(events: usize) -> Self {
        Self {
            deaths: VecDeque::new(),
            last_end: None,
            unset: false,
            recent_lines: Vec::new(),
            past_runs: Vec::new(),
            functions: FxHashMap::default(),
            steps: Journal::new(events),
        }
    }

    pub(super) fn add_slot(&mut self) {
        self.recent_lines.push(RecentLines::default());
        self.past_runs.push(Vec::new());
    }

    pub(super) fn add_death(&mut self, record: DeathRecord) {
        self.deaths.push_back(record);
        while self.deaths.len() > DEATHS {
            self.deaths.pop_front();
        }
    }

    pub(super) fn add_function(&mut self, log_id: u64, name: String) {
        if self.functions.len() < MOST_FUNCTIONS {
            self.functions.insert(log_id, name);
        }
    }

    pub(super) fn functions(&self) -> impl Iterator<Item = (u64, String)> {
        self.functions.iter().map(|(log_id, name)| (*log_id, name.clone()))
    }

    /// The last lines that a worker has written to its standard output and error.
    pub(super) fn last_lines(&self, process: &WorkerProcess, name: &str) -> Vec<LogLine> {
        let lines = LAST_LINES.min(process.lines + usize::from(process.open_line));
        self.recent_lines[process.slot].last(name, lines)
    }
}

impl Core {
    pub(super) fn record<E: Effects>(
        &self,
        process: &WorkerProcess,
        suspects: &Suspects,
        cause: DeathCause,
        fx: &E,
    ) -> DeathRecord {
        let page = fx.page(process.id);
        let running = &suspects.running;
        // Its log lines are on its page too, where they survive what the pipe could not carry.
        let name = &self.fleet.slots[process.slot].name;
        let mut last_lines = self.history.last_lines(process, name);
        if last_lines.is_empty() {
            let log = page.map(WorkerPage::last_log).unwrap_or_default();
            let logged = |text: &str| LogLine::logged(name, text, fx.wall_clock());
            last_lines = String::from_utf8_lossy(&log).lines().map(logged).collect();
        }
        let peaks = page.map(WorkerPage::peaks).unwrap_or_default();
        let peak_of = |id: &TaskId| peaks.iter().find(|(task, _)| task == id).map_or(0, |(_, peak)| *peak);
        let gauges = page.map(WorkerPage::gauges);
        DeathRecord {
            worker: name.clone(),
            pid: process.pid,
            cause,
            memory_limit: self.settings.memory_limit,
            memory_samples: page.map(WorkerPage::samples).unwrap_or_default(),
            available: None,
            managed: gauges.map_or(0, |gauges| gauges.managed),
            spilled: gauges.map_or(0, |gauges| gauges.spilled),
            peak_bytes: running.iter().map(peak_of).collect(),
            running: running.iter().map(|id| self.key(process, *id, fx)).collect(),
            ended: suspects.results.iter().chain(&suspects.ended).map(|id| self.key(process, *id, fx)).collect(),
            input_bytes: running.iter().map(|id| self.scheduler.input_bytes(*id)).collect(),
            last_lines,
        }
    }

    /// The user-visible key of a task that a worker runs, as far as it can be told from here: of a chain of calls, of
    /// the one that runs.
    pub(super) fn key<E: Effects>(&self, process: &WorkerProcess, id: TaskId, fx: &E) -> String {
        let recorded = fx.page(process.id).and_then(|page| page.latest_run(id)).map(|record| record.run);
        let key = match recorded {
            Some(run) => run.name.or_else(|| self.function(run.log_id)).map(|name| node::key(&name, run.key)),
            // It has not called anything yet, or nothing is recorded.
            None => self.last_call(id),
        };
        // At least one by which it can be asked for.
        key.unwrap_or_else(|| self.scheduler.call(id).map_or("task".to_string(), |call| node::key("task", call.key)))
    }

    pub(super) fn function(&self, log_id: u64) -> Option<String> {
        match self.program.is_own {
            true => Record::at(log_id).map(|record| short_name(record.path())),
            false => self.history.functions.get(&log_id).cloned(),
        }
    }

    /// The key of the last call of a task, as far as its name is known here.
    pub(super) fn key_of(&self, id: TaskId) -> Option<String> {
        let call = self.scheduler.call(id)?;
        let name = match (&call.name, self.program.is_own) {
            (CallName::Function(log_id), false) => self.history.functions.get(log_id).cloned()?,
            (name, _) => name.name()?,
        };
        Some(node::key(&name, call.key))
    }

    /// The key of the last call of a task, which is also that of its result.
    fn last_call(&self, id: TaskId) -> Option<String> {
        // Records are found only in an image of our own build.
        if !self.program.is_own {
            return None;
        }
        let call = self.scheduler.call(id)?;
        Some(node::key(&call.name()?, call.key))
    }
}
