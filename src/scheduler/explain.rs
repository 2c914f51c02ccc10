//! What users are told of the scheduler's state: why a task is where it is, and how many tasks and values there are.

use super::Scheduler;
use super::job::{Job, KINDS, State, TaskRef, flag};
use super::ready::Isolation;
#[cfg(test)]
use super::worker::Leaving;
use super::worker::{Flight, Worker, WorkerIndex};
use crate::error::Cause;
#[cfg(test)]
use crate::ids::JobId;
use crate::ids::TaskId;
#[cfg(test)]
use crate::ids::WorkerId;
use crate::job::FailedCall;
use crate::job::explained::Explained;
use crate::units::HumanBytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use swath_insight::TaskState;
use swath_insight::explain::{Explanation, Isolated, PausedWorker, Place, Step, TaskName, Why};

/// How many workers an explanation names.
const MOST_NAMED: usize = 8;
/// How many steps down to the task that holds others up are named: the first ones, and the last.
const MOST_STEPS: usize = 8;
/// How many tasks are looked at for one explanation: a few hundred microseconds.
const MOST_LOOKED_AT: u32 = 20_000;
/// How many places in the line of graphs are looked at.
const MOST_PLACES: usize = 4096;

/// What there is to see of one task.
struct Looked {
    state: TaskState,
    why: Why,
    /// The task that it waits for.
    next: Option<TaskRef>,
    /// The call of the task that the reason names, if it names one.
    names: Option<Option<FailedCall>>,
    /// How many of its inputs are there, and their size, where it waits for some.
    there: Option<((u32, u32), u64)>,
}

/// Where a task stands, more exactly than users are told.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Unneeded,
    Waiting,
    Ready,
    Fetching,
    Running,
    Done,
    Released,
    Failed,
}

#[cfg(test)]
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
}

impl Scheduler {
    fn look_up(&self, task: TaskId) -> Option<(&Job, TaskRef)> {
        let slot = self.jobs.get(task.job)?;
        let job = &self.jobs[slot];
        ((task.index as usize) < job.tasks.len()).then_some((job, TaskRef { job: slot, index: task.index }))
    }

    /// Why a task waits, where it runs, or how it ended; and so of the first input that it waits for, and so on, down to the
    /// task that holds all of them up. Takes less than a millisecond whatever the graph.
    pub(crate) fn explain(&self, task: TaskId) -> Option<Explained> {
        let (_, named) = self.look_up(task)?;
        let r = self.behind(named);
        let mut left = MOST_LOOKED_AT;
        let Looked { state, why, next, names, there } = self.look(r, &mut left);
        let job = &self.jobs[r.job];
        let mut explanation = Explanation::new(TaskName::default(), state, why);
        explanation.task.graph = (!task.job.session.is_of_tasks()).then_some(task.job.number);
        if let Some((inputs, bytes)) = there {
            (explanation.timeline.inputs, explanation.timeline.input_bytes) = (Some(inputs), bytes);
        }
        let (mut ids, mut calls, mut named_calls) = (vec![task], vec![job.call(r.index)], vec![names]);
        let mut next = next;
        while let Some(r) = next.take().filter(|_| left > 0) {
            let looked = self.look(r, &mut left);
            let job = &self.jobs[r.job];
            let mut step = Step::new(TaskName::default(), looked.state, looked.why);
            if explanation.because.len() == MOST_STEPS {
                // The first ones stay, and the last one is the one that counts.
                let before = explanation.because.pop();
                step.left_out = 1 + before.map_or(0, |step| step.left_out);
                (_, _, _) = (ids.pop(), calls.pop(), named_calls.pop());
            }
            explanation.because.push(step);
            ids.push(job.task_id(r.index));
            calls.push(job.call(r.index));
            named_calls.push(looked.names);
            next = looked.next;
        }
        calls.extend(named_calls.into_iter().flatten());
        Some(Explained { explanation, ids, calls, runs: Vec::new(), usual: Vec::new() })
    }

    /// What there is to see of one task. `left`: how much may still be looked at.
    fn look(&self, r: TaskRef, left: &mut u32) -> Looked {
        let job = &self.jobs[r.job];
        let state = job.state(r.index);
        *left = left.saturating_sub(1);
        let mut looked = Looked { state: state.task_state(), why: Why::Released, next: None, names: None, there: None };
        let name = |worker| self.workers.get(worker).map(|w| w.spec.name.clone());
        let is_ending = job.tasks[r.index as usize].has(flag::ZOMBIE);
        looked.why = match state {
            State::Idle => Why::NotNeeded,
            State::Waiting { missing } if is_ending && missing <= 1 => {
                Why::CancelledRunEnding { worker: self.ends_on(job.task_id(r.index)), again: true }
            }
            State::Waiting { missing } => self.inputs(r, missing - u32::from(is_ending), left, &mut looked),
            State::Assigned { ahead, .. } if ahead > 0 => {
                looked.state = TaskState::Waiting;
                self.inputs(r, ahead.into(), left, &mut looked)
            }
            State::Fetching => self.why_fetching(r, left),
            State::Ready => self.why_ready(job, r),
            State::Assigned { worker, seq, .. } => self.why_queued(worker, seq),
            State::Done { value, .. } | State::Lent { value, .. } => {
                let value = &job.values[value];
                let place = if value.holder == WorkerIndex::NONE { Place::Supervisor } else { Place::Memory };
                Why::Stored { worker: name(value.holder), bytes: Some(value.nbytes), place }
            }
            State::Data { .. } => Why::Given,
            State::Released => Why::Released,
            State::Failed { cancelled: true, .. } if is_ending => {
                Why::CancelledRunEnding { worker: self.ends_on(job.task_id(r.index)), again: false }
            }
            State::Failed { failure, cancelled } => {
                let failure = &job.failures[failure as usize];
                let own = job.call(r.index);
                // Of a chain of calls it may be an earlier one.
                let is_earlier = |call: &FailedCall| own.as_ref().is_none_or(|own| own.key != call.key);
                let other = failure.task != job.task_id(r.index) || failure.call.as_ref().is_some_and(is_earlier);
                let root = other.then(TaskName::default);
                looked.names = root.is_some().then(|| failure.call.clone());
                match cancelled {
                    true => Why::Cancelled { by: root },
                    false => Why::Failed { error: error_text(&failure.cause), root },
                }
            }
        };
        if state.active()
            && let Some(worker) = self.lost_with(job, r.index)
        {
            let again = Some(Box::new(std::mem::replace(&mut looked.why, Why::Released)));
            looked.why = Why::Lost { worker, again };
        }
        looked
    }

    /// The last worker that died under a task.
    fn lost_with(&self, job: &Job, index: u32) -> Option<String> {
        let deaths = job.deaths.get(&index)?;
        deaths.shared.last().or(deaths.counted.last()).map(|record| record.worker.clone())
    }

    /// The worker on which a cancelled run of a task has not ended.
    fn ends_on(&self, task: TaskId) -> Option<String> {
        let worker = self.workers.iter().find(|w| w.zombies.iter().any(|zombie| zombie.id == task))?;
        Some(worker.spec.name.clone())
    }

    /// That a task waits for so many inputs, the first of which is to be looked at next.
    fn inputs(&self, r: TaskRef, missing: u32, left: &mut u32, looked: &mut Looked) -> Why {
        let job = &self.jobs[r.job];
        let deps = job.spec.deps(r.index);
        let most = deps.len().min(*left as usize);
        let (mut first, mut bytes) = (None, 0_u64);
        for &dep in &deps[..most] {
            let target = job.resolve(dep);
            match self.jobs[target.job].state(target.index).available() {
                true => bytes = bytes.saturating_add(self.value_bytes(target)),
                false if first.is_none() => first = Some(target),
                false => {}
            }
        }
        *left = left.saturating_sub(most as u32);
        let all = deps.len() as u32;
        looked.there = Some(((all.saturating_sub(missing), all), bytes));
        // A part of a result waits for the task that makes it.
        let first = first.map(|first| self.made_by(first));
        looked.next = first;
        looked.names = first.map(|first| self.jobs[first.job].call(first.index));
        Why::Inputs { missing, all, first: first.map(|_| TaskName::default()) }
    }

    /// The task that makes a result: another one, where that is a part.
    fn made_by(&self, r: TaskRef) -> TaskRef {
        let r = self.behind(r);
        let job = &self.jobs[r.job];
        match job.spec.deps(r.index).first() {
            Some(&maker) if job.tasks[r.index as usize].has(flag::PART) => job.resolve(maker),
            _ => r,
        }
    }

    fn why_fetching(&self, r: TaskRef, left: &mut u32) -> Why {
        let job = &self.jobs[r.job];
        let deps = job.spec.deps(r.index);
        let most = deps.len().min(*left as usize);
        let (mut bytes, mut from) = (0_u64, Vec::new());
        for &dep in &deps[..most] {
            let target = job.resolve(dep);
            let owner = &self.jobs[target.job];
            if let State::Done { value, .. } = owner.state(target.index)
                && owner.values[value].exporting
            {
                let value = &owner.values[value];
                bytes = bytes.saturating_add(value.nbytes);
                if let Some(holder) = self.workers.get(value.holder)
                    && !from.contains(&holder.spec.name)
                    && from.len() < MOST_NAMED
                {
                    from.push(holder.spec.name.clone());
                }
            }
        }
        *left = left.saturating_sub(most as u32);
        Why::Moving { bytes, from }
    }

    /// That a task has been sent to a worker; whether it runs there, others know.
    fn why_queued(&self, worker: WorkerIndex, seq: u32) -> Why {
        let Some(w) = self.workers.get(worker) else {
            return Why::Busy { workers: 1, on: None, ahead: 0, about: None, graphs: 0, wants: None };
        };
        let (ahead, load) = w.flight.ahead_of(seq);
        let about = (load > 0).then(|| Duration::from_nanos(load / u64::from(w.spec.threads.max(1))));
        let on = Some(w.spec.name.clone());
        Why::Busy { workers: 1, on, ahead: ahead.into(), about, graphs: 0, wants: None }
    }

    /// Why no worker has got a ready task.
    fn why_ready(&self, job: &Job, r: TaskRef) -> Why {
        let rule = job.lanes[job.lane_of(r.index) as usize].rule.as_ref();
        let allowed: Vec<&Worker> =
            self.workers.iter().filter(|w| rule.is_none_or(|rule| rule.allows(&w.spec))).collect();
        if self.workers.iter().next().is_none() {
            return Why::NoWorker { starting: 0, leaving: 0 };
        }
        if allowed.is_empty() {
            let asked = rule.map(|rule| rule.asks()).unwrap_or_default();
            let present = self.workers.iter().take(MOST_NAMED).map(|w| w.spec.to_string()).collect();
            return Why::Placement { asked, present };
        }
        let open: Vec<&&Worker> = allowed.iter().filter(|w| w.accepting()).collect();
        if open.is_empty() && allowed.iter().any(|w| w.paused) {
            let paused = allowed.iter().filter(|w| w.paused).take(MOST_NAMED);
            return Why::Memory { workers: paused.map(|w| PausedWorker::named(&*w.spec.name)).collect() };
        }
        if open.is_empty() {
            return Why::NoWorker { starting: 0, leaving: allowed.len() as u32 };
        }
        let reason = match rule.map_or(Isolation::None, |rule| rule.isolation) {
            Isolation::None => None,
            Isolation::Suspect | Isolation::Culprit => Some(Isolated::Suspect),
            Isolation::Worker => Some(Isolated::WorkerMemory),
            Isolation::Cluster => Some(Isolated::MachineMemory),
        };
        if let Some(reason) = reason {
            let cleared = open.iter().find(|w| w.clearing).filter(|_| reason != Isolated::MachineMemory);
            return Why::Alone { worker: cleared.map(|w| w.spec.name.clone()), reason };
        }
        let graphs = self.ready.order.graphs_before(&job.place(job.lane_of(r.index))) as u64;
        let workers = open.len() as u32;
        let wants = |what: String| Why::Busy { workers, on: None, ahead: 0, about: None, graphs, wants: Some(what) };
        if let Some(rule) = rule.filter(|rule| !open.iter().any(|w| w.fits(rule))) {
            return wants(format!("the {} of memory", HumanBytes(rule.memory)));
        }
        if let Some(rule) = rule.filter(|rule| !rule.resources.is_empty())
            && !open.iter().any(|w| self.has_room(w, rule))
        {
            return wants(format!("the {}", rule.resources));
        }
        if job.dep_range(r.index).is_empty() && open.iter().all(|w| self.sources(w, self.leaves(r)) == 0) {
            let bytes = open.iter().map(|w| w.held_bytes.saturating_sub(w.spilled)).sum();
            let waiting = [State::Waiting { missing: 0 }.kind(), State::Fetching.kind()];
            let consumers = waiting.iter().map(|kind| u64::from(job.counts[*kind])).sum();
            return Why::HeldBack { bytes, consumers };
        }
        let (waiting, time) = self.ready_before(job, r);
        let flights = || open.iter().map(|w| &w.flight);
        let ahead = waiting + flights().map(|flight| u64::from(flight.len())).sum::<u64>();
        let threads: u64 = open.iter().map(|w| u64::from(w.spec.threads)).sum();
        let time = time.saturating_add(flights().map(Flight::load).sum());
        // Of tasks that nothing like has run before nobody knows how long they take.
        let is_known = time > 0 && (job.estimate > 0 || waiting == 0);
        let about = is_known.then(|| Duration::from_nanos(time / threads.max(1)));
        Why::Busy { workers, on: None, ahead, about, graphs, wants: None }
    }

    /// About how many ready tasks stand before one, and how long they are likely to take on one thread, in nanoseconds.
    fn ready_before(&self, job: &Job, r: TaskRef) -> (u64, u64) {
        let at = job.lane_of(r.index);
        let mut sum = (0, 0_u64);
        let mut add = |tasks: u64, each: u32| {
            sum = (sum.0 + tasks, sum.1.saturating_add(tasks.saturating_mul(each.into())));
        };
        for place in self.ready.order.before(&job.place(at)).take(MOST_PLACES) {
            if let Some(other) = self.jobs.by_slot(place.job)
                && let Some(lane) = other.lanes.get(place.lane as usize)
            {
                add(lane.ready.into(), other.estimate);
            }
        }
        let lane = &job.lanes[at as usize];
        // Of its own lane those of lower index come first. They stand close together mostly.
        let behind = (lane.behind.len() as u64).min(lane.ready.saturating_sub(lane.ahead).into());
        let distance = match &lane.members {
            None => r.index.saturating_sub(lane.at),
            Some(members) => (members.partition_point(|member| *member < r.index) as u32).saturating_sub(lane.at),
        };
        add(
            if r.index >= lane.bound() { behind + u64::from(distance.min(lane.ahead)) } else { behind / 2 },
            job.estimate,
        );
        sum
    }
}

/// What has gone wrong, in words.
fn error_text(cause: &Cause) -> String {
    const MOST: usize = 4096;
    let text = cause.to_string();
    let mut text = text.strip_prefix("failed: ").map_or(text.clone(), str::to_string);
    text.truncate(text.floor_char_boundary(MOST));
    text
}
