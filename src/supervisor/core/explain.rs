//! Why a task is where it is: what the scheduler says, with what workers show of themselves, and what has been recorded.

use super::Core;
use super::memory::pause_of;
use crate::ids::{SessionId, TaskId};
use crate::ipc::ring::{Ended, RingRecord};
use crate::job::explained::{Explained, FindFrom, Found, FoundTask, SeenRun, is_of_name, middle};
use crate::job::{CallName, FailedCall};
use crate::supervisor::effects::{Effects, WorkerPage};
use rustc_hash::FxHashMap;
use std::ops::RangeInclusive;
use swath_insight::TaskState;
use swath_insight::explain::{KeyPrefix, PausedWorker, Place, Why};

/// How many of a worker's last runs are looked at for the runs of one task.
const RECENT: usize = 2048;
/// The same where it is not known which worker it was, and of how many workers.
const RECENT_OF_EACH: usize = 512;
const WORKERS: usize = 16;
/// How many runs of a worker one part of a search looks at.
const SEARCHED: usize = 8192;
/// How many runs of a task are told.
const RUNS: usize = 16;

impl Core {
    /// Why a task is where it is.
    pub(crate) fn explain<E: Effects>(&self, task: TaskId, fx: &E) -> Explained {
        let Some(mut told) = self.scheduler.explain(task) else { return Explained::gone(task) };
        let mut shown = Vec::new();
        for (id, state, why) in told.each() {
            self.complete(id, state, why, fx);
            shown.push((id, worker_of(why).map(str::to_string), matches!(state, TaskState::Running)));
        }
        // The task itself, and what runs.
        for (at, (id, worker, runs)) in shown.into_iter().enumerate() {
            if at == 0 || runs {
                let call = told.calls.get(at).cloned().flatten();
                self.add_runs(&mut told, id, worker.as_deref(), call.as_ref(), fx);
            }
        }
        self.note_loss(task, &mut told);
        told.name_tasks(|name| self.name_of_call(name));
        told
    }

    /// Adds what the scheduler does not know to a reason.
    fn complete<E: Effects>(&self, id: TaskId, state: &mut TaskState, why: &mut Why, fx: &E) {
        match why {
            Why::Busy { on: Some(worker), .. } => {
                let Some(page) = self.page_of(worker, fx) else { return };
                let shown = page.progress().into_iter().find(|(task, _)| *task == id);
                let progress = shown.map(|(_, per_mille)| per_mille);
                if let Some(per_mille) = progress {
                    let progress = (per_mille > 0).then(|| f64::from(per_mille) / 1000.0);
                    let worker = std::mem::take(worker);
                    *why = Why::Running { worker, thread: None, since: None, usual: None, progress };
                    *state = TaskState::Running;
                } else if pause_of(page).is_some() {
                    *why = Why::Memory { workers: vec![PausedWorker::named(std::mem::take(worker))] };
                    self.complete(id, state, why, fx);
                }
            }
            Why::NoWorker { starting, .. } => {
                *starting = self.fleet.workers.values().filter(|process| process.phase.is_start()).count() as u32;
            }
            Why::Memory { workers } => {
                for worker in workers {
                    let Some(page) = self.page_of(&worker.name, fx) else { continue };
                    let private = self.process_of(&worker.name).and_then(|id| fx.private_memory(id));
                    worker.used = private.unwrap_or(0) + page.gauges().segments;
                    worker.limit = self.settings.memory_limit;
                    worker.reason = pause_of(page).unwrap_or_default();
                }
            }
            Why::Stored { worker: Some(worker), bytes: Some(bytes), place: place @ Place::Memory } => {
                let Some(gauges) = self.page_of(worker, fx).map(WorkerPage::gauges) else { return };
                // A worker tells how much it has in memory and on disk, and not what.
                *place = match () {
                    () if gauges.spilled == 0 || gauges.spilled < *bytes => Place::Memory,
                    () if gauges.managed < *bytes => Place::Disk,
                    () => Place::MemoryOrDisk,
                };
            }
            Why::Lost { again: Some(again), .. } => self.complete(id, state, again, fx),
            _ => {}
        }
    }

    fn process_of(&self, worker: &str) -> Option<crate::ids::WorkerId> {
        self.fleet.slots.iter().find(|slot| slot.name == worker)?.worker
    }

    fn page_of<'a, E: Effects>(&self, worker: &str, fx: &'a E) -> Option<&'a E::Page> {
        fx.page(self.process_of(worker)?)
    }

    /// Adds what is recorded of a task, and for the first one how long tasks of its name take.
    fn add_runs<E: Effects>(
        &self,
        told: &mut Explained,
        task: TaskId,
        worker: Option<&str>,
        call: Option<&FailedCall>,
        fx: &E,
    ) {
        let mut times = Vec::new();
        let mut runs = Vec::new();
        let mut see = |worker: &str, record: RingRecord, gone: bool| {
            if let Some((end, Ended::Finished)) = record.end
                && call.is_some_and(|call| is_of_name(&record, &call.name))
            {
                times.push(end.saturating_sub(record.start));
            }
            if record.run.task == task && runs.len() < RUNS {
                runs.push(SeenRun { worker: worker.to_string(), record, gone });
            }
        };
        for (slot, past) in self.fleet.slots.iter().zip(&self.history.past_runs).take(WORKERS) {
            for record in past.iter().rev().take(RECENT_OF_EACH) {
                if record.run.task == task {
                    see(&slot.name, record.clone(), true);
                }
            }
        }
        match worker.and_then(|worker| Some((worker, self.page_of(worker, fx)?))) {
            Some((worker, page)) => page.recent(RECENT, &mut |record| see(worker, record, false)),
            None => {
                for slot in self.fleet.slots.iter().take(WORKERS) {
                    let page = slot.worker.and_then(|id| fx.page(id));
                    let see = &mut |record| see(&slot.name, record, false);
                    page.into_iter().for_each(|page| page.recent(RECENT_OF_EACH, see));
                }
            }
        }
        told.runs.extend(runs);
        told.usual.extend(middle(times).map(|usual| (task, usual)));
    }

    /// Says that a task runs again since its worker has ended, where it is no suspect of that.
    fn note_loss(&self, task: TaskId, told: &mut Explained) {
        let explanation = &mut told.explanation;
        let runs_again = matches!(explanation.state, TaskState::Waiting | TaskState::Ready | TaskState::Running);
        let is_told = matches!(explanation.why, Why::Lost { .. } | Why::CancelledRunEnding { .. });
        if !runs_again || is_told {
            return;
        }
        let lost = told.runs.iter().filter(|run| run.gone && run.record.run.task == task);
        // What failed or was cancelled there has not been lost.
        let lost = lost.filter(|run| matches!(run.record.end, None | Some((_, Ended::Finished))));
        if let Some(last) = lost.max_by_key(|run| run.record.start) {
            let again = Some(Box::new(std::mem::replace(&mut explanation.why, Why::Released)));
            explanation.why = Why::Lost { worker: last.worker.clone(), again };
        }
    }

    /// The name of a call, as far as it can be told from here.
    fn name_of_call(&self, name: &CallName) -> Option<String> {
        match name {
            CallName::Given(name) => Some(name.clone()),
            CallName::Function(offset) => self.function(*offset),
        }
    }

    /// One part of a search for the tasks of a session, or of all, whose keys begin so.
    pub(crate) fn find<E: Effects>(
        &self,
        session: Option<SessionId>,
        prefix: &KeyPrefix,
        from: FindFrom,
        fx: &E,
    ) -> Found {
        let mut known: FxHashMap<CallName, Option<RangeInclusive<u64>>> = FxHashMap::default();
        let mut fits = |name: &CallName| match known.get(name) {
            Some(numbers) => numbers.clone(),
            None => {
                let numbers = match self.name_of_call(name) {
                    Some(name) => prefix.numbers(&name),
                    // A function of another program that has not run: who asks may know its name.
                    None => Some(prefix.any_numbers()).filter(|numbers| *numbers != (0..=u64::MAX)),
                };
                known.insert(name.clone(), numbers.clone());
                numbers
            }
        };
        let mut found = Found::default();
        match from.runs {
            None => {
                let next = self.scheduler.find(session, from, &mut fits, &mut found.tasks);
                found.next = Some(next.unwrap_or(FindFrom { runs: Some(0), ..FindFrom::default() }));
            }
            Some(slot) => {
                self.find_runs(slot, session, &mut fits, &mut found.tasks, fx);
                let next = slot + 1;
                let more = (next as usize) < self.fleet.slots.len();
                found.next = more.then(|| FindFrom { runs: Some(next), ..FindFrom::default() });
            }
        }
        for task in &mut found.tasks {
            task.name = self.name_of_call(&task.call.name);
        }
        found
    }

    /// Adds the tasks of which the workers of a slot have recorded runs, where their keys fit.
    fn find_runs<E: Effects>(
        &self,
        slot: u32,
        session: Option<SessionId>,
        fits: crate::scheduler::Fits<'_>,
        found: &mut Vec<FoundTask>,
        fx: &E,
    ) {
        let Some(slot_of) = self.fleet.slots.get(slot as usize) else { return };
        let mut times: FxHashMap<CallName, Vec<u64>> = FxHashMap::default();
        let mut see = |record: RingRecord, gone: bool| {
            let submitter = record.run.task.job.session;
            if session.is_some_and(|session| submitter != session && !submitter.is_of_tasks()) {
                return;
            }
            let name = record.run.name.clone().map_or(CallName::Function(record.run.log_id), CallName::Given);
            let Some(numbers) = fits(&name) else { return };
            if let Some((end, Ended::Finished)) = record.end {
                times.entry(name.clone()).or_default().push(end.saturating_sub(record.start));
            }
            if numbers.contains(&record.run.key) {
                let call = FailedCall { name, key: record.run.key };
                add_run(found, call, SeenRun { worker: slot_of.name.clone(), record, gone });
            }
        };
        if let Some(page) = slot_of.worker.and_then(|id| fx.page(id)) {
            page.recent(SEARCHED, &mut |record| see(record, false));
        }
        let past = self.history.past_runs.get(slot as usize);
        past.into_iter().flat_map(|past| past.iter().rev().take(SEARCHED)).for_each(|record| see(record.clone(), true));
        for task in found {
            task.usual = times.get(&task.call.name).and_then(|times| middle(times.clone()));
        }
    }
}

/// Adds a recorded run to the task that it is of.
fn add_run(found: &mut Vec<FoundTask>, call: FailedCall, run: SeenRun) {
    const MOST: usize = 32;
    let task = run.record.run.task;
    let has_room = found.len() < MOST;
    match found.iter_mut().find(|known| known.task == task && known.call == call) {
        Some(known) if known.runs.len() < RUNS => known.runs.push(run),
        Some(_) => {}
        None if has_room => {
            let (runs, usual) = (vec![run], None);
            found.push(FoundTask { task, call, name: None, inner: false, seq: None, runs, usual });
        }
        None => {}
    }
}

/// The worker that a reason names.
fn worker_of(why: &Why) -> Option<&str> {
    match why {
        Why::Running { worker, .. } | Why::Busy { on: Some(worker), .. } => Some(worker),
        Why::Stored { worker, .. } | Why::CancelledRunEnding { worker, .. } => worker.as_deref(),
        Why::Lost { again, .. } => worker_of(again.as_ref()?),
        _ => None,
    }
}
