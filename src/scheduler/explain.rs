//! What users are told of the scheduler's state: why a task is where it is, and how many tasks and values there are.

use super::Scheduler;
use super::job::{Job, KINDS, State, TaskRef, flag};
use super::ready::Isolation;
#[cfg(test)]
use super::worker::Leaving;
use super::worker::Worker;
#[cfg(test)]
use crate::ids::JobId;
use crate::ids::TaskId;
#[cfg(test)]
use crate::ids::WorkerId;
use crate::status::{Explanation, Stage, Why};
use serde::{Deserialize, Serialize};

/// How many inputs an explanation names.
const NAMED_INPUTS: usize = 16;

impl From<State> for Stage {
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
    /// Those of a job.
    pub(super) fn of(counts: &[u32; KINDS]) -> Self {
        let mut sum = Self::default();
        sum.add(counts);
        sum
    }

    /// Tasks that run, or could if there were room.
    pub(super) fn runnable(&self) -> u64 {
        self.ready + self.fetching + self.running
    }

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

    /// Tasks that are still to end.
    pub(crate) fn unfinished(&self) -> u64 {
        self.waiting + self.ready + self.fetching + self.running
    }
}

/// One worker as the scheduler sees it.
#[cfg(test)]
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
#[cfg(test)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) jobs: u64,
    pub(crate) tasks: Counts,
    pub(crate) workers: Vec<WorkerStats>,
    /// Messages that came too late to matter.
    pub(crate) stale: u64,
}

impl Scheduler {
    #[cfg(test)]
    pub(crate) fn stats(&self) -> Stats {
        let mut tasks = Counts::default();
        for job in self.jobs.iter().filter(|job| job.alias_of().is_none()) {
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
    pub(crate) fn task_state(&self, task: TaskId) -> Option<Stage> {
        self.look_up(task).map(|(job, r)| job.state(r.index).into())
    }

    fn look_up(&self, task: TaskId) -> Option<(&Job, TaskRef)> {
        let slot = self.jobs.get(task.job)?;
        let job = &self.jobs[slot];
        ((task.index as usize) < job.tasks.len()).then_some((job, TaskRef { job: slot, index: task.index }))
    }

    /// Why a task waits, where it runs, or how it ended.
    pub(crate) fn explain(&self, task: TaskId) -> Option<Explanation> {
        let (_, named) = self.look_up(task)?;
        let r = self.behind(named);
        let job = &self.jobs[r.job];
        let state = job.state(r.index);
        let (mut count, mut first) = (0, Vec::new());
        if state.pending() {
            for &dep in job.spec.deps(r.index) {
                let target = job.resolve(dep);
                let owner = &self.jobs[target.job];
                let input = owner.state(target.index);
                let moving = matches!(input, State::Done { value, .. } if owner.values[value].exporting);
                if !input.available() || (state == State::Fetching && moving) {
                    count += 1;
                    if first.len() < NAMED_INPUTS {
                        first.push((owner.task_id(target.index), input.into()));
                    }
                }
            }
        }
        let name = |worker| self.workers.get(worker).map(|w| w.spec.name.clone());
        let why = match state {
            State::Idle => Why::NotNeeded,
            State::Waiting { .. } if job.tasks[r.index as usize].has(flag::PART) => {
                Why::PartOf { maker: first.first().copied() }
            }
            State::Waiting { .. } if count == 0 => Why::CancelledRunEnding,
            State::Waiting { .. } | State::Fetching => Why::Inputs { count, first, moving: state == State::Fetching },
            State::Ready => self.why_ready(job, r),
            State::Assigned { worker, .. } => Why::Running {
                worker: name(worker),
                ahead: job.is_ahead(r.index),
                failed_runs: job.tries.get(&r.index).map_or(0, |n| *n),
                lost_workers: job
                    .deaths
                    .get(&r.index)
                    .map_or(0, |deaths| (deaths.counted.len() + deaths.shared.len()) as u32),
            },
            State::Done { value, .. } | State::Lent { value, .. } => {
                let value = &job.values[value];
                Why::Stored { bytes: value.nbytes, worker: name(value.holder) }
            }
            State::Data { .. } => Why::Given,
            State::Released => Why::Released,
            State::Failed { failure, .. } => {
                let root = job.failures[failure as usize].task;
                Why::Failed { root: (root != task).then_some(root) }
            }
        };
        Some(Explanation { task: task.to_string(), state: Some(state.into()), why })
    }

    /// Why no worker has got a ready task.
    fn why_ready(&self, job: &Job, r: TaskRef) -> Why {
        let rule = job.lanes[job.lane_of(r.index) as usize].rule.as_ref();
        let allowed: Vec<&Worker> =
            self.workers.iter().filter(|w| rule.is_none_or(|rule| rule.allows(&w.spec))).collect();
        if self.workers.iter().next().is_none() {
            return Why::NoWorker;
        }
        if allowed.is_empty() {
            return Why::Placement;
        }
        let open: Vec<&&Worker> = allowed.iter().filter(|w| w.accepting()).collect();
        if open.is_empty() && allowed.iter().any(|w| w.paused) {
            let workers = allowed.iter().filter(|w| w.paused).map(|w| w.spec.name.clone()).collect();
            return Why::Memory { workers };
        }
        if open.is_empty() {
            return Why::WorkersLeaving;
        }
        match rule.map_or(Isolation::None, |rule| rule.isolation) {
            Isolation::None => {}
            Isolation::Suspect | Isolation::Culprit => return Why::Suspect,
            Isolation::Worker => return Why::Alone,
            Isolation::Cluster => return Why::AloneEverywhere,
        }
        if let Some(rule) = rule.filter(|rule| !open.iter().any(|w| w.fits(rule))) {
            return Why::MemoryAsked { bytes: rule.memory };
        }
        if let Some(rule) = rule.filter(|rule| !rule.resources.is_empty())
            && !open.iter().any(|w| self.has_room(w, rule))
        {
            return Why::ResourcesAsked { resources: rule.resources.to_string() };
        }
        if job.dep_range(r.index).is_empty() && open.iter().all(|w| self.sources(w, self.leaves(r)) == 0) {
            return Why::HeldBack;
        }
        let before = self.ready.order.graphs_before(&job.place(job.lane_of(r.index)));
        Why::Busy { workers: open.len(), taken_back: job.tasks[r.index as usize].has(flag::ROAMS), before }
    }
}
