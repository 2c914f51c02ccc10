//! Explanations of tasks: found by key, and put together with what is recorded of them.

use super::ClientLog;
use super::journal::ClientStep;
use crate::ipc::clock::ticks;
use crate::ipc::ring::Ended;
use crate::job::explained::{Explained, FindFrom, Found, FoundTask, SeenRun};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};
use swath_insight::TaskState;
use swath_insight::explain::{Explanation, KeyError, KeyPrefix, TaskName, Why};

/// How many tasks a search keeps. Where there are more, the key says too little anyway.
const MOST: usize = 64;

/// A search for the task of a key, which is made in parts.
pub(crate) struct KeySearch {
    prefix: KeyPrefix,
    /// Whether the functions of the tasks are this program's.
    is_own: bool,
    /// By name and number.
    found: FxHashMap<(String, u64), FoundTask>,
}

impl KeySearch {
    pub(crate) fn new(key: &str, is_own: bool) -> Self {
        Self { prefix: KeyPrefix::new(key), is_own, found: FxHashMap::default() }
    }

    pub(crate) fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// Takes in what a part has found; the answer is where to go on, if anything is still to be looked for.
    pub(crate) fn take(&mut self, found: Found) -> Option<FindFrom> {
        for task in found.tasks {
            let named = task.name.clone().or_else(|| if self.is_own { task.call.name() } else { None });
            // Of a function that is not known here, who asks knows the name.
            let name = named.or_else(|| Some(self.prefix.text().rsplit_once('-')?.0.to_string()));
            if let Some(name) = name
                && self.prefix.fits(&name, task.call.key)
            {
                self.add(name, task);
            }
        }
        let next = found.next?;
        // Of a whole key what is there counts. Of a shortened one all are told that it fits.
        let is_over = next.runs.is_some() && self.prefix.whole().is_some() && self.has_live();
        (!is_over).then_some(next)
    }

    fn add(&mut self, name: String, new: FoundTask) {
        let place = (name, new.call.key);
        let is_full = self.found.len() >= MOST;
        match self.found.get_mut(&place) {
            Some(known) if known.seq > new.seq => {}
            // Runs of the same key may be of several tasks: the last one counts.
            Some(known) if known.seq.is_none() && new.seq.is_none() && known.task == new.task => {
                known.runs.extend(new.runs);
                known.usual = known.usual.or(new.usual);
            }
            Some(known) if new.seq.is_none() && latest(&known.runs) > latest(&new.runs) => {}
            Some(known) => *known = new,
            None if is_full => {}
            None => drop(self.found.insert(place, new)),
        }
    }

    /// Whether a task has been found that is there.
    pub(crate) fn has_live(&self) -> bool {
        self.found.values().any(|task| task.seq.is_some())
    }

    /// The only task that is meant, with its name. `others`: keys that are known otherwise.
    pub(crate) fn only(self, others: impl Iterator<Item = String>) -> Result<Option<(TaskName, FoundTask)>, KeyError> {
        let found = self.found.keys().map(|(name, number)| TaskName::of(name, *number).key);
        let keys: BTreeSet<String> = found.chain(others).collect();
        if keys.len() > 1 {
            return Err(KeyError::ambiguous(self.prefix.text(), keys.into_iter().collect()));
        }
        Ok(self.found.into_iter().next().map(|((name, number), task)| (TaskName::of(&name, number), task)))
    }
}

fn latest(runs: &[SeenRun]) -> u64 {
    runs.iter().map(|run| run.record.start).max().unwrap_or(0)
}

impl ClientLog {
    /// An explanation of a task that was found by its key; none: of which only runs are left.
    pub(crate) fn explain_found(
        &self,
        (called, found): (TaskName, FoundTask),
        told: Option<Explained>,
        is_own: bool,
    ) -> Explanation {
        let mut told = told.unwrap_or_else(|| Explained::gone(found.task));
        if told.is_gone() {
            (told.explanation.state, told.explanation.why) = ended(&found.runs);
            told.usual.extend(found.usual.map(|usual| (found.task, usual)));
            told.runs = found.runs;
        }
        if found.inner && matches!(told.explanation.why, Why::Stored { .. }) {
            (told.explanation.state, told.explanation.why) = (TaskState::Released, Why::Released);
        }
        let task = &mut told.explanation.task;
        (task.name, task.key) = (called.name, called.key);
        self.explanation(told, is_own)
    }

    /// Names, dates and counts what is told of a task. `is_own`: of this client's, whose graphs are in this log.
    pub(crate) fn explanation(&self, mut told: Explained, is_own: bool) -> Explanation {
        if is_own {
            told.name_tasks(|name| name.name());
        }
        told.name_the_rest();
        let ruler = self.clock.ruler();
        let now = ticks();
        let at = |stamp: u64| -> Option<SystemTime> { self.started.checked_add(ruler.since_start(stamp)) };
        let (runs, times) = (std::mem::take(&mut told.runs), std::mem::take(&mut told.usual));
        let usual_of = |task| {
            let known = times.iter().find(|(of, _)| Some(*of) == task);
            known.map(|(_, ticks)| ruler.between(0, *ticks))
        };
        for (id, _, why) in told.each() {
            if let Some(running) = running(why) {
                let open = |run: &&SeenRun| run.record.run.task == id && run.record.end.is_none() && !run.gone;
                if let Some(run) = runs.iter().filter(open).max_by_key(|run| run.record.start)
                    && let Why::Running { thread, since, usual: its_usual, .. } = running
                {
                    *thread = thread.or(Some(run.record.run.thread));
                    *since = Some(ruler.between(run.record.start, now));
                    *its_usual = usual_of(Some(id));
                }
            }
        }
        let task = told.ids.first().copied();
        let mut explanation = told.explanation;
        let number = explanation.task.key.rsplit_once('-').and_then(|(_, hex)| u64::from_str_radix(hex, 16).ok());
        let mut its: Vec<&SeenRun> = runs.iter().filter(|run| Some(run.record.run.task) == task).collect();
        // A chain of calls is one task, and each call is recorded.
        if its.iter().any(|run| Some(run.record.run.key) == number) {
            its.retain(|run| Some(run.record.run.key) == number);
        }
        its.sort_by_key(|run| run.record.start);
        let cost = &mut explanation.cost;
        cost.runs = its.len() as u32;
        cost.usual = usual_of(task).filter(|_| !its.is_empty());
        for run in &its {
            match run.record.end {
                Some((end, how)) => {
                    let took = ruler.between(run.record.start, end);
                    cost.failed += u32::from(how == Ended::Failed);
                    (cost.took, cost.total) = (Some(took), cost.total + took);
                }
                None => cost.lost += u32::from(run.gone),
            }
        }
        if let Why::Stored { bytes, .. } = explanation.why {
            cost.bytes_out = bytes;
        }
        let timeline = &mut explanation.timeline;
        if let Some(last) = its.last() {
            timeline.started = at(last.record.start);
            timeline.ended = last.record.end.and_then(|(end, _)| at(end));
        }
        if let Some(details) = its.last().and_then(|last| last.record.details.as_ref()) {
            let measured = |what: u64| Some(what).filter(|what| *what > 0);
            timeline.assigned = measured(details.assigned).and_then(at);
            cost.cpu = measured(details.cpu).map(Duration::from_nanos);
            cost.bytes_in = measured(details.bytes_in);
            cost.bytes_out = cost.bytes_out.or(measured(details.bytes_out));
        }
        if is_own && let Some(graph) = explanation.task.graph {
            let is_its =
                |step: &ClientStep| matches!(step, ClientStep::Submitted { graph: number, .. } if *number == graph);
            let steps = self.steps.entries();
            if let Some(step) = steps.iter().rev().find(|step| is_its(&step.what))
                && let ClientStep::Submitted { label, .. } = &step.what
            {
                explanation.timeline.submitted = at(step.at);
                explanation.task.label = label.as_ref().map(ToString::to_string);
            }
        }
        explanation
    }
}

/// The reason that a task runs, if that is the reason, or what is behind it.
fn running(why: &mut Why) -> Option<&mut Why> {
    match why {
        Why::Running { .. } => Some(why),
        Why::Lost { again: Some(again), .. } => running(again),
        _ => None,
    }
}

/// What became of a task of which only runs are left.
fn ended(runs: &[SeenRun]) -> (TaskState, Why) {
    let Some(last) = runs.iter().max_by_key(|run| run.record.start) else {
        return (TaskState::Released, Why::Released);
    };
    match last.record.end {
        Some((_, Ended::Failed)) => {
            let error = format!("on {}; what it said is no longer kept", last.worker);
            (TaskState::Failed, Why::Failed { error, root: None })
        }
        Some((_, Ended::Cancelled)) => (TaskState::Cancelled, Why::Cancelled { by: None }),
        None if last.gone => (TaskState::Waiting, Why::Lost { worker: last.worker.clone(), again: None }),
        None => {
            let (worker, thread) = (last.worker.clone(), Some(last.record.run.thread));
            (TaskState::Running, Why::Running { worker, thread, since: None, usual: None, progress: None })
        }
        Some((_, Ended::Finished)) => (TaskState::Released, Why::Released),
    }
}
