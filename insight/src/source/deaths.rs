//! Workers that died: what they ran, and what they said last.

use super::answers::{Death, DeathTask, LogRow};
use super::gathered::LONGEST_NAME;
use crate::log::{Run, nanos};
use crate::picture::text::cut;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// So many deaths are kept, and of each so many lines and tasks.
const MOST_DEATHS: usize = 1000;
const MOST_LINES: usize = 8;
const MOST_TASKS: usize = 32;

#[derive(Default)]
pub(super) struct Deaths {
    deaths: Vec<Death>,
    /// The places of the deaths of each worker, in the order of time.
    of_worker: FxHashMap<String, Vec<usize>>,
    lines: FxHashMap<String, VecDeque<LogRow>>,
}

impl Deaths {
    pub(super) fn line(&mut self, worker: &str, line: &LogRow) {
        let lines = match self.lines.get_mut(worker) {
            Some(lines) => lines,
            None => self.lines.entry(worker.to_string()).or_default(),
        };
        if lines.len() >= MOST_LINES {
            lines.pop_front();
        }
        lines.push_back(line.clone());
    }

    pub(super) fn died(&mut self, at: u64, worker: &str, pid: u32, reason: String) {
        let last_lines = self.lines.remove(worker).map_or_else(Vec::new, Vec::from);
        if self.deaths.len() < MOST_DEATHS {
            self.of_worker.entry(worker.to_string()).or_default().push(self.deaths.len());
            self.deaths.push(Death {
                at_ns: at,
                worker: cut(worker, LONGEST_NAME),
                pid,
                reason,
                running: Vec::new(),
                lost_runs: 0,
                lost_ns: 0,
                last_lines,
            });
        }
    }

    /// A run that ended with its worker.
    pub(super) fn lost(&mut self, run: &Run, took: u64) {
        let start = nanos::of(run.start);
        let places = self.of_worker.get(&*run.worker);
        let place = places.and_then(|places| places.iter().find(|place| self.deaths[**place].at_ns >= start));
        let Some(death) = place.map(|place| &mut self.deaths[*place]) else { return };
        death.lost_runs += 1;
        let ran = match run.end {
            Some(_) => took,
            None => death.at_ns.saturating_sub(start),
        };
        death.lost_ns = death.lost_ns.saturating_add(ran);
        if death.running.len() < MOST_TASKS {
            death.running.push(DeathTask {
                key: cut(&run.key(), LONGEST_NAME),
                thread: run.thread,
                ran_ns: ran,
                bytes_in: run.bytes_in,
                peak: run.peak,
            });
        }
    }

    pub(super) fn finish(mut self) -> Vec<Death> {
        self.deaths.sort_by_key(|death| death.at_ns);
        self.deaths
    }
}
