//! What users are told of the scheduler's state: why a task is where it is, and how many tasks and values there are.

use super::Scheduler;
use super::job::{Job, KINDS, State, TaskRef, flag};
use super::worker::{Leaving, Worker};
#[cfg(test)]
use crate::ids::JobId;
use crate::ids::{TaskId, WorkerId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How many inputs an explanation names.
const NAMED_INPUTS: usize = 16;

/// The state of a task as users are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TaskState {
    /// It has not run and nobody needs it.
    Unneeded,
    /// It waits for its inputs.
    Waiting,
    /// It waits for a worker.
    Ready,
    /// It waits for inputs to be moved.
    Fetching,
    /// It has been sent to a worker.
    Running,
    Done,
    /// It was done, and its value has been dropped.
    Released,
    Failed,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unneeded => "not needed",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Fetching => "fetching inputs",
            Self::Running => "running",
            Self::Done => "done",
            Self::Released => "released",
            Self::Failed => "failed",
        })
    }
}

impl From<State> for TaskState {
    fn from(state: State) -> Self {
        match state {
            State::Idle => Self::Unneeded,
            State::Waiting { .. } => Self::Waiting,
            State::Ready => Self::Ready,
            State::Fetching => Self::Fetching,
            State::Assigned { .. } => Self::Running,
            State::Done { .. } | State::Lent { .. } | State::Data { .. } => Self::Done,
            State::Released => Self::Released,
            State::Failed { .. } => Self::Failed,
        }
    }
}

/// Why a task is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explanation {
    pub(crate) task: TaskId,
    pub(crate) state: TaskState,
    /// Where it runs, or ran.
    pub(crate) worker: Option<WorkerId>,
    /// The first of the inputs it waits for.
    pub(crate) missing: Vec<(TaskId, TaskState)>,
    /// All inputs it waits for.
    pub(crate) missing_count: u32,
    pub(crate) reason: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} is {}: {}", self.task, self.state, self.reason)
    }
}

/// How many tasks are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) unneeded: u64,
    pub(crate) waiting: u64,
    pub(crate) ready: u64,
    pub(crate) fetching: u64,
    pub(crate) running: u64,
    pub(crate) done: u64,
    pub(crate) released: u64,
    pub(crate) failed: u64,
}

impl Counts {
    fn add(&mut self, counts: &[u32; KINDS]) {
        let of = |kinds: &[usize]| kinds.iter().map(|&k| u64::from(counts[k])).sum::<u64>();
        self.unneeded += of(&[0]);
        self.waiting += of(&[1]);
        self.ready += of(&[2]);
        self.fetching += of(&[3]);
        self.running += of(&[4]);
        self.done += of(&[5, 6, 7]);
        self.released += of(&[8]);
        self.failed += of(&[9]);
    }

    /// All tasks.
    pub(crate) fn total(&self) -> u64 {
        self.unneeded + self.unfinished() + self.done + self.released + self.failed
    }

    /// Tasks that are still to end.
    pub(crate) fn unfinished(&self) -> u64 {
        self.waiting + self.ready + self.fetching + self.running
    }
}

/// One worker as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerStats {
    pub(crate) id: WorkerId,
    pub(crate) name: String,
    pub(crate) threads: u32,
    /// Tasks sent and not ended, cancelled ones included.
    pub(crate) in_flight: u32,
    /// Cancelled ones among them.
    pub(crate) cancelled: u32,
    /// Those that wait for tasks of their own.
    pub(crate) blocked: u32,
    pub(crate) held_values: u64,
    pub(crate) held_bytes: u64,
    pub(crate) retiring: bool,
}

/// The scheduler in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) jobs: u64,
    pub(crate) tasks: Counts,
    pub(crate) workers: Vec<WorkerStats>,
    /// Messages that came too late to matter.
    pub(crate) stale: u64,
}

impl Scheduler {
    pub(crate) fn stats(&self) -> Stats {
        let mut tasks = Counts::default();
        for job in self.jobs.iter() {
            tasks.add(&job.counts);
        }
        let workers = self.workers.iter().map(|w| WorkerStats {
            id: w.id,
            name: w.spec.name.clone(),
            threads: w.spec.threads,
            in_flight: w.in_flight(),
            cancelled: w.zombies.len() as u32,
            blocked: w.blocked,
            held_values: w.held_values,
            held_bytes: w.held_bytes,
            retiring: w.leaving != Leaving::No,
        });
        Stats { jobs: self.jobs.len() as u64, tasks, workers: workers.collect(), stale: self.stale }
    }

    /// How far a job is; none if it is not there or not there any more.
    #[cfg(test)]
    pub(crate) fn job_counts(&self, job: JobId) -> Option<Counts> {
        let mut counts = Counts::default();
        counts.add(&self.jobs[self.jobs.get(job)?].counts);
        Some(counts)
    }

    #[cfg(test)]
    pub(crate) fn task_state(&self, task: TaskId) -> Option<TaskState> {
        self.look_up(task).map(|(job, r)| job.state(r.index).into())
    }

    fn look_up(&self, task: TaskId) -> Option<(&Job, TaskRef)> {
        let slot = self.jobs.get(task.job)?;
        let job = &self.jobs[slot];
        ((task.index as usize) < job.tasks.len()).then_some((job, TaskRef { job: slot, index: task.index }))
    }

    /// Why a task waits, where it runs, or how it ended.
    pub(crate) fn explain(&self, task: TaskId) -> Option<Explanation> {
        let (job, r) = self.look_up(task)?;
        let state = job.state(r.index);
        let mut missing = Vec::new();
        let mut missing_count = 0;
        if state.pending() {
            for &dep in job.spec.deps(r.index) {
                let target = job.resolve(dep);
                let owner = &self.jobs[target.job];
                let input = owner.state(target.index);
                let moving = matches!(input, State::Done { value, .. } if owner.values[value].exporting);
                if !input.available() || (state == State::Fetching && moving) {
                    missing_count += 1;
                    if missing.len() < NAMED_INPUTS {
                        missing.push((owner.task_id(target.index), input.into()));
                    }
                }
            }
        }
        let slot = match state {
            State::Assigned { worker, .. } => Some(worker),
            State::Done { last, .. } | State::Lent { last, .. } => Some(last),
            _ => None,
        };
        let worker = slot.and_then(|slot| self.workers.get(slot));
        let reason = match state {
            State::Idle => "no result that anybody asked for depends on it".to_owned(),
            State::Waiting { .. } if missing_count == 0 => {
                "its cancelled run has not ended on its worker yet, and it must not run twice at a time".to_owned()
            }
            State::Waiting { .. } | State::Fetching => {
                let names: Vec<String> = missing.iter().map(|(id, state)| format!("{id} ({state})")).collect();
                let rest = missing_count as usize - names.len();
                let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
                let what = if state == State::Fetching { "moved" } else { "computed" };
                format!("{missing_count} of its inputs must be {what} first: {}{more}", names.join(", "))
            }
            State::Ready => self.why_ready(job, r),
            State::Assigned { .. } => {
                let name = worker.map_or("a worker", |w| w.spec.name.as_str());
                let failed = job.tries.get(&r.index).map_or(0, |n| *n);
                let died = job.deaths.get(&r.index).map_or(0, Vec::len);
                let order = if job.is_ahead(r.index) { ", to run as soon as what it needs has run there" } else { "" };
                format!("it was sent to {name}{order}, after {failed} failed runs and {died} lost workers")
            }
            State::Done { value, .. } | State::Lent { value, .. } => {
                let value = &job.values[value];
                let place = self.workers.get(value.holder).map_or("the supervisor", |w| w.spec.name.as_str());
                format!("its result of {} B is with {place}", value.nbytes)
            }
            State::Data { .. } => "its value was given".to_owned(),
            State::Released => "nobody needs its result any more".to_owned(),
            State::Failed { failure } => {
                let failure = &job.failures[failure as usize];
                if failure.task == task {
                    "it failed itself".to_owned()
                } else {
                    format!("task {} failed, which it depends on", failure.task)
                }
            }
        };
        let worker = worker.map(|w| w.id);
        Some(Explanation { task, state: state.into(), worker, missing, missing_count, reason })
    }

    fn why_ready(&self, job: &Job, r: TaskRef) -> String {
        let rule = job.lanes[job.lane_of(r.index) as usize].rule.as_ref();
        let allowed: Vec<&Worker> =
            self.workers.iter().filter(|w| rule.is_none_or(|rule| rule.allows(&w.spec))).collect();
        if self.workers.iter().next().is_none() {
            return "there is no worker yet".to_owned();
        }
        if allowed.is_empty() {
            return "none of the workers that are there now is what its options ask for".to_owned();
        }
        let open: Vec<&&Worker> = allowed.iter().filter(|w| w.accepting()).collect();
        if open.is_empty() && allowed.iter().any(|w| w.paused) {
            let paused: Vec<&str> = allowed.iter().filter(|w| w.paused).map(|w| w.spec.name.as_str()).collect();
            let names = paused.join(", ");
            return format!("every worker that may run it has to make room in its memory first: {names}");
        }
        if open.is_empty() {
            return "every worker that may run it is about to go".to_owned();
        }
        if rule.is_some_and(|rule| rule.alone) {
            return "a worker ran out of memory under it, so it waits until it can have one for itself".to_owned();
        }
        let memory = rule.map_or(0, |rule| rule.memory);
        if memory > 0 && !open.iter().any(|w| w.fits(memory)) {
            return format!("the {memory} B it asks for are in use by other tasks on every worker that may run it");
        }
        if job.dep_range(r.index).is_empty() && open.iter().all(|w| self.sources(w, self.leaves(r)) == 0) {
            return "it would add to the results in memory, and others are to use some of those first".to_owned();
        }
        let moved =
            if job.tasks[r.index as usize].has(flag::ROAMS) { " (it was taken back from a busy worker)" } else { "" };
        format!("the {} workers that may run it have their hands full{moved}", open.len())
    }
}
