//! A job and the states of its tasks.

use super::groups::Calls;
use super::ready::{Isolation, Lane, ReadyLanes};
use super::values::TaskValues;
use super::worker::WorkerIndex;
use crate::error::{Cause, DeathRecord};
use crate::fairness::{Attained, Program};
use crate::ids::{JobId, SessionId, TaskId, WorkerId};
use crate::ipc::payload::Payload;
use crate::job::{EXTERNAL, FailedCall, Failure, JobSpec, SharedPayload, WantedPart, WantedResult, WireOptions};
use crate::lazy_map::{LazyMap, LazyVec};
use crate::resources::Resources;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::ops::{Index, IndexMut, Range};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The job of one task that has a result, without the task: all that is needed of it as long as somebody holds that.
static DONE: LazyLock<Arc<JobSpec>> = LazyLock::new(|| {
    let outputs = vec![WantedResult { index: 0, deliver: false }];
    Arc::new(JobSpec { body_ends: vec![0], dep_ends: vec![0], outputs, ..JobSpec::default() })
});

/// The largest result, in bytes, that is kept in place of the knowledge how to make it.
const MOST_KEPT: u64 = 64 << 10;

/// A task by the slot of its job: valid as long as the job is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskRef {
    pub(super) job: u32,
    pub(super) index: u32,
}

/// Where a task stands. What belongs to a state lives in its variant; large parts lie in slabs of the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// It has not run, because nobody needs it.
    #[default]
    Idle,
    /// This many inputs are not available.
    Waiting {
        missing: u32,
    },
    Ready,
    /// All inputs exist, but at least one is on its way out of another worker.
    Fetching,
    /// In flight; `seq` finds it in the worker's flight list. `ahead` counts the inputs that it was sent ahead of: results of
    /// tasks that were sent to the same worker before it.
    Assigned {
        worker: WorkerIndex,
        seq: u32,
        ahead: u8,
    },
    /// `last` is the worker that ran it: a hint, for that worker may have ended.
    Done {
        value: u32,
        last: WorkerIndex,
    },
    /// Done, but its last user may move the value out of the store, so nobody else can count on it.
    Lent {
        value: u32,
        last: WorkerIndex,
    },
    /// The value came with the job.
    Data {
        entry: u32,
    },
    /// It was done, and the value is no more.
    Released,
    /// `cancelled`: it was cancelled, or what it needs was.
    Failed {
        failure: u32,
        cancelled: bool,
    },
}

/// Number of variants of [`State`].
pub(super) const KINDS: usize = 10;

impl State {
    pub(super) fn kind(self) -> usize {
        match self {
            Self::Idle => 0,
            Self::Waiting { .. } => 1,
            Self::Ready => 2,
            Self::Fetching => 3,
            Self::Assigned { .. } => 4,
            Self::Done { .. } => 5,
            Self::Lent { .. } => 6,
            Self::Data { .. } => 7,
            Self::Released => 8,
            Self::Failed { .. } => 9,
        }
    }

    /// Whether others can use its value.
    pub(super) fn available(self) -> bool {
        matches!(self, Self::Done { .. } | Self::Data { .. })
    }

    /// Active, and with no worker.
    pub(super) fn pending(self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Ready | Self::Fetching)
    }

    /// Uses its inputs.
    pub(super) fn active(self) -> bool {
        self.pending() || matches!(self, Self::Assigned { .. })
    }

    /// Would have to be started to give a value.
    pub(super) fn idle(self) -> bool {
        matches!(self, Self::Idle | Self::Released)
    }
}

pub(super) mod flag {
    /// The session holds a claim to it.
    pub(in super::super) const CLAIMED: u16 = 1;
    /// The session is owed the value in full.
    pub(in super::super) const WANTED: u16 = 2;
    /// The session has been told that it is there.
    pub(in super::super) const TOLD: u16 = 4;
    /// It has an entry in the job's options.
    pub(in super::super) const OPTIONS: u16 = 8;
    /// It is in another lane than the default one.
    pub(in super::super) const LANED: u16 = 16;
    /// A cancelled run of it has not ended yet.
    pub(in super::super) const ZOMBIE: u16 = 32;
    /// An idle worker asked for it: where its inputs are does not matter this time.
    pub(in super::super) const ROAMS: u16 = 64;
    /// Other jobs use it.
    pub(in super::super) const SHARED: u16 = 128;
    /// It waits, but an input has failed: it fails when the others have ended.
    pub(in super::super) const DOOMED: u16 = 256;
    /// It runs with nothing beside it.
    pub(in super::super) const ISOLATED: u16 = 512;
    /// It is a part of the result of the task it depends on, and does not run itself.
    pub(in super::super) const PART: u16 = 1024;
    /// Its result is taken apart: its dependents are the parts, and it has no value itself.
    pub(in super::super) const MAKER: u16 = 2048;
    /// Its value is that of the one task it depends on, which is another job's; it does not run itself.
    pub(in super::super) const ALIAS: u16 = 4096;
    /// There are aliases of it.
    pub(in super::super) const KEPT: u16 = 8192;
}

/// The hot part of a task; everything that never changes stays in the spec.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Task {
    pub(super) state: State,
    /// Active dependents, plus the claim.
    pub(super) uses: u32,
    /// Number of the latest run.
    pub(super) attempt: u16,
    pub(super) flags: u16,
}

impl Task {
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn put(&mut self, flag: u16, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }
}

/// An external input: a task of another job. It counts as one use there, however many tasks here use it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExternalInput {
    pub(super) target: TaskRef,
    /// Active tasks of this job that use it.
    pub(super) uses: u32,
}

/// The deaths of workers that a task may have caused.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// Those that count against it: it was the only suspect.
    pub(super) counted: Vec<DeathRecord>,
    /// Those of which others were suspects, too.
    pub(super) shared: Vec<DeathRecord>,
    /// Its worker was encoding or dropping its result once: that is to be sent with the word of its end, so that the code of
    /// that runs while nothing else does.
    pub(super) of_result: bool,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) slot: u32,
    /// Place in the order of submission.
    pub(super) seq: u64,
    pub(super) program: Program,
    /// The thread-time that its tasks have had.
    pub(super) attained: Attained,
    pub(super) spec: Arc<JobSpec>,
    pub(super) tasks: Vec<Task>,
    /// The dependents of all tasks and then of all externals, in compressed rows. Both are empty where there are none.
    pub(super) dependent_ends: LazyVec<u32>,
    pub(super) dependents: LazyVec<u32>,
    pub(super) external_inputs: LazyVec<ExternalInput>,
    /// Who uses tasks of this job from outside: job slot and external.
    pub(super) users: LazyMap<u32, BTreeSet<(u32, u32)>>,
    pub(super) values: TaskValues,
    /// The workers that were sent a value which several tasks use, and keep it, by its task.
    pub(super) shared: LazyMap<u32, SmallVec<[WorkerId; 4]>>,
    pub(super) failures: LazyVec<Arc<Failure>>,
    pub(super) lanes: Vec<Lane>,
    /// The lane of each entry of the spec's options.
    pub(super) option_lanes: LazyVec<u32>,
    /// Failed runs of the tasks that may be repeated.
    pub(super) tries: LazyMap<u32, u32>,
    /// Doomed tasks, of which an input has failed: at most so many of their other inputs have not ended. When as many have,
    /// it is found out from scratch; so a task with many failing inputs is not looked at anew for each of them.
    pub(super) open: LazyMap<u32, u32>,
    /// The lanes of the tasks that are isolated.
    pub(super) isolated: LazyMap<u32, u32>,
    /// The workers that died under a task. Where there is an entry, it is under suspicion.
    pub(super) deaths: LazyMap<u32, Deaths>,
    pub(super) claims: u32,
    /// Externals of other jobs that name a task of this one.
    pub(super) refs: u32,
    /// Fetches under way.
    pub(super) exporting: u32,
    /// The first task that runs a function; the number of tasks, if there is none.
    pub(super) first: u32,
    /// Moving average of the run time of its tasks in nanoseconds; 0 is unknown.
    pub(super) estimate: u32,
    /// Whether a result of it was too large to come along with its completion.
    pub(super) bulky: bool,
    pub(super) counts: [u32; KINDS],
    /// The session that counts its tasks: its own, or that of the task that has submitted it.
    pub(super) owner: SessionId,
    pub(super) calls: Calls,
}

impl Job {
    pub(super) fn task_id(&self, index: u32) -> TaskId {
        TaskId { job: self.id, index }
    }

    /// The failure of a task, found here and not by its worker.
    pub(super) fn failure(&self, index: u32, worker: Option<String>, cause: Cause) -> Failure {
        Failure { task: self.task_id(index), step: 0, call: self.call(index), worker, cause }
    }

    /// The call whose result a task has, or takes apart; none where that is given.
    pub(super) fn call(&self, index: u32) -> Option<FailedCall> {
        self.spec.call(index, self.tasks[index as usize].has(flag::MAKER))
    }

    /// The place of that call's function, by which tasks are compared; 0 where there is none.
    pub(super) fn function(&self, index: u32) -> u64 {
        let (last, _) = self.spec.last_call(index, self.tasks[index as usize].has(flag::MAKER)).unwrap_or_default();
        last
    }

    pub(super) fn state(&self, index: u32) -> State {
        self.tasks[index as usize].state
    }

    /// The one way a task changes state.
    #[inline]
    pub(super) fn set(&mut self, index: u32, state: State, ready: &mut ReadyLanes) {
        let task = &mut self.tasks[index as usize];
        let old = std::mem::replace(&mut task.state, state);
        let laned = task.has(flag::LANED);
        self.counts[old.kind()] -= 1;
        self.counts[state.kind()] += 1;
        ready.groups.change(&self.calls, index, old.task_state(), state.task_state());
        if old == State::Ready {
            ready.total -= 1;
            let lane = if laned { self.lane_of(index) } else { 0 };
            let lane = &mut self.lanes[lane as usize];
            lane.leave(index);
            if laned {
                ready.count(lane.isolation(), false);
            }
        }
        if state == State::Ready {
            ready.total += 1;
            let at = if laned { self.lane_of(index) } else { 0 };
            let lane = &mut self.lanes[at as usize];
            lane.enter(index);
            if laned {
                ready.count(lane.isolation(), true);
            }
            if !lane.listed {
                self.list(at, ready);
            }
        }
    }

    /// Notes that a task is doomed, with so many inputs that have not ended; or that it is not.
    pub(super) fn doom(&mut self, index: u32, open: Option<u32>) {
        let task = &mut self.tasks[index as usize];
        match open {
            Some(open) => {
                task.put(flag::DOOMED, true);
                self.open.insert(index, open);
            }
            None if task.has(flag::DOOMED) => {
                task.put(flag::DOOMED, false);
                self.open.remove(&index);
            }
            None => {}
        }
    }

    /// An input of a doomed task has ended. Whether others certainly have not.
    pub(super) fn one_less_open(&mut self, index: u32) -> bool {
        self.open.get_mut(&index).is_some_and(|open| {
            *open = open.saturating_sub(1);
            *open > 0
        })
    }

    /// Forgets how its only task is run, if there is a result that cannot be lost; the result stays then as long as the job
    /// does. Futures are many, and each is such a job. `false`: it may have to run again.
    pub(super) fn forget_program(&mut self) -> bool {
        let [Task { state: State::Done { value, .. }, .. }] = self.tasks[..] else { return false };
        let value = &self.values[value];
        let spec = &*self.spec;
        let plain = spec.options.is_empty() && spec.building.is_empty() && !spec.open && spec.outputs == DONE.outputs;
        let small = value.nbytes <= MOST_KEPT;
        let safe = small && value.payload.is_some() && value.holder == WorkerIndex::NONE;
        if !plain || !safe || self.external_inputs.iter().any(|external| external.uses > 0) {
            return false;
        }
        self.spec = Arc::clone(&DONE);
        (self.dependent_ends, self.dependents) = Default::default();
        if let [lane] = &self.lanes[..]
            && !lane.listed
        {
            self.lanes = Vec::new();
        }
        true
    }

    /// The task whose value that of its only task is, where it is an alias.
    pub(super) fn alias_of(&self) -> Option<TaskRef> {
        match (&self.tasks[..], &self.external_inputs[..]) {
            ([task], [external]) if task.has(flag::ALIAS) => Some(external.target),
            _ => None,
        }
    }

    /// Whether a value is there to stay, whatever tasks run: it is claimed, by its session or others.
    pub(super) fn stays(&self, index: u32) -> bool {
        self.tasks[index as usize].has(flag::CLAIMED | flag::KEPT)
    }

    /// Whether its task can run no more.
    pub(super) fn is_final(&self) -> bool {
        Arc::ptr_eq(&self.spec, &DONE)
    }

    fn option_entry(&self, index: u32) -> Option<usize> {
        let options = &self.spec.options;
        // Where every task has options, the entry is the index.
        match options.get(index as usize) {
            Some((at, _)) if *at == index => Some(index as usize),
            _ => options.binary_search_by_key(&index, |(at, _)| *at).ok(),
        }
    }

    pub(super) fn options(&self, index: u32) -> Option<&WireOptions> {
        if !self.tasks[index as usize].has(flag::OPTIONS) {
            return None;
        }
        self.option_entry(index).map(|at| &self.spec.options[at].1)
    }

    /// How long one attempt may take.
    pub(super) fn time_limit(&self, index: u32) -> Option<Duration> {
        self.options(index)?.timeout_ms.map(Duration::from_millis)
    }

    pub(super) fn lane_of(&self, index: u32) -> u32 {
        let task = &self.tasks[index as usize];
        if !task.has(flag::LANED) {
            return 0;
        }
        if task.has(flag::ISOLATED)
            && let Some(&lane) = self.isolated.get(&index)
        {
            return lane;
        }
        self.options_lane(index)
    }

    /// The lane that the options of a task put it in.
    pub(super) fn options_lane(&self, index: u32) -> u32 {
        if !self.tasks[index as usize].has(flag::OPTIONS) {
            return 0;
        }
        self.option_entry(index).map_or(0, |at| self.option_lanes[at])
    }

    #[inline]
    pub(super) fn isolation(&self, index: u32) -> Isolation {
        if !self.tasks[index as usize].has(flag::ISOLATED) {
            return Isolation::None;
        }
        self.lanes[self.lane_of(index) as usize].isolation()
    }

    pub(super) fn retries(&self, index: u32) -> u32 {
        self.options(index).map_or(0, |o| o.retries)
    }

    #[inline]
    pub(super) fn memory(&self, index: u32) -> u64 {
        // The default lane has no rule.
        if !self.tasks[index as usize].has(flag::LANED) {
            return 0;
        }
        self.lanes[self.lane_of(index) as usize].rule.as_ref().map_or(0, |r| r.memory)
    }

    /// What a run of a task takes of its worker: memory and resources.
    pub(super) fn takes(&self, index: u32) -> (u64, Resources) {
        if !self.tasks[index as usize].has(flag::LANED) {
            return (0, Resources::default());
        }
        let rule = self.lanes[self.lane_of(index) as usize].rule.as_ref();
        rule.map_or((0, Resources::default()), |rule| (rule.memory, rule.resources.clone()))
    }

    /// The values that came with it, for workers to have before they are used.
    pub(super) fn given(&self) -> impl Iterator<Item = SharedPayload> {
        let shared = |(index, payload): &(u32, Payload)| SharedPayload {
            id: self.task_id(*index),
            payload: payload.clone(),
            populate: true,
        };
        self.spec.data.iter().map(shared)
    }

    /// Whether a task is in flight, and waits there for the result of another one.
    pub(super) fn is_ahead(&self, index: u32) -> bool {
        matches!(self.state(index), State::Assigned { ahead, .. } if ahead > 0)
    }

    pub(super) fn next_ready(&mut self, lane: u32) -> Option<u32> {
        let (tasks, isolated) = (&self.tasks, &self.isolated);
        if lane == 0 {
            self.lanes[0].next(|i| {
                let task = &tasks[i as usize];
                task.state == State::Ready && !task.has(flag::LANED)
            })
        } else {
            // A lane that a task was in before may still list it.
            let of_isolated = self.lanes[lane as usize].rule.as_ref().is_some_and(|rule| rule.is_isolated());
            let is_here = |i: u32| match tasks[i as usize].has(flag::ISOLATED) {
                true => isolated.get(&i) == Some(&lane),
                false => !of_isolated,
            };
            self.lanes[lane as usize].next(|i| tasks[i as usize].state == State::Ready && is_here(i))
        }
    }

    /// The parts of a task's result that somebody waits for.
    pub(super) fn wanted_parts(&self, maker: u32) -> Vec<WantedPart> {
        let parts = &self.spec.parts;
        let rows = &self.dependents[self.dependent_range(maker)];
        // Both ascend, and mostly the parts of one task stand together.
        let mut at = rows.first().map_or(0, |first| parts.partition_point(|(index, _)| index < first));
        let wanted = rows.iter().filter_map(|&index| {
            let task = &self.tasks[index as usize];
            if !matches!(task.state, State::Waiting { .. }) {
                return None;
            }
            if parts.get(at).is_none_or(|(part, _)| *part != index) {
                at = parts.binary_search_by_key(&index, |(part, _)| *part).ok()?;
            }
            at += 1;
            Some(WantedPart { index, place: parts[at - 1].1, deliver: task.has(flag::WANTED) })
        });
        wanted.collect()
    }

    pub(super) fn dep_range(&self, index: u32) -> Range<usize> {
        let i = index as usize;
        let start = if i == 0 { 0 } else { self.spec.dep_ends[i - 1] as usize };
        start..self.spec.dep_ends[i] as usize
    }

    /// The task a dependency means.
    pub(super) fn resolve(&self, dep: u32) -> TaskRef {
        if dep & EXTERNAL == 0 {
            TaskRef { job: self.slot, index: dep }
        } else {
            self.external_inputs[(dep & !EXTERNAL) as usize].target
        }
    }

    /// How many tasks are known to use a dependency of this job, which is a task of `owner`.
    pub(super) fn users_of(&self, dep: u32, owner: &Job) -> u32 {
        if dep & EXTERNAL == 0 {
            let task = &owner.tasks[dep as usize];
            task.uses - u32::from(task.has(flag::CLAIMED))
        } else {
            self.external_inputs[(dep & !EXTERNAL) as usize].uses
        }
    }

    /// The dependents in this job of row `row`: a task, or after those an external.
    pub(super) fn dependent_range(&self, row: u32) -> Range<usize> {
        let i = row as usize;
        let Some(&end) = self.dependent_ends.get(i) else { return 0..0 };
        let start = if i == 0 { 0 } else { self.dependent_ends[i - 1] as usize };
        start..end as usize
    }

    /// The number of an equal failure, remembered once.
    pub(super) fn remember(&mut self, failure: &Arc<Failure>) -> u32 {
        if !self.failures.last().is_some_and(|last| Arc::ptr_eq(last, failure)) {
            self.failures.push(failure.clone());
        }
        (self.failures.len() - 1) as u32
    }
}

/// All live jobs. A slot is reused when nothing refers to it any more.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    by_id: FxHashMap<JobId, u32>,
    slots: Vec<Option<Box<Job>>>,
    free: Vec<u32>,
    /// The job looked up last: messages about one job come in rows.
    last: Option<(JobId, u32)>,
}

impl Jobs {
    #[inline]
    pub(super) fn find(&mut self, id: JobId) -> Option<u32> {
        if let Some((last, slot)) = self.last
            && last == id
        {
            return Some(slot);
        }
        let slot = self.get(id)?;
        self.last = Some((id, slot));
        Some(slot)
    }

    pub(super) fn get(&self, id: JobId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn find_task(&mut self, id: TaskId) -> Option<TaskRef> {
        let job = self.find(id.job)?;
        ((id.index as usize) < self[job].tasks.len()).then_some(TaskRef { job, index: id.index })
    }

    /// The slot the next job will get.
    pub(super) fn next_slot(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.slots.len() as u32)
    }

    pub(super) fn insert(&mut self, job: Box<Job>) {
        let slot = job.slot;
        self.by_id.insert(job.id, slot);
        if self.free.pop().is_none() {
            self.slots.push(None);
        }
        self.slots[slot as usize] = Some(job);
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Box<Job>> {
        let job = self.slots[slot as usize].take()?;
        self.by_id.remove(&job.id);
        self.free.push(slot);
        self.last = None;
        Some(job)
    }

    /// The state of a task whose job may have been freed.
    pub(super) fn state_of(&self, r: TaskRef) -> Option<State> {
        let job = self.slots.get(r.job as usize)?.as_deref()?;
        Some(job.tasks.get(r.index as usize)?.state)
    }

    /// The job in a slot, if there is one.
    pub(super) fn by_slot(&self, slot: u32) -> Option<&Job> {
        self.slots.get(slot as usize)?.as_deref()
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn is_live(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(Option::is_some)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.slots.iter().flatten().map(|job| &**job)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Job> {
        self.slots.iter_mut().flatten().map(|job| &mut **job)
    }
}

impl Index<u32> for Jobs {
    type Output = Job;
    #[inline]
    fn index(&self, slot: u32) -> &Job {
        self.slots[slot as usize].as_deref().expect("a job lives as long as something refers to it")
    }
}

impl IndexMut<u32> for Jobs {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut Job {
        self.slots[slot as usize].as_deref_mut().expect("a job lives as long as something refers to it")
    }
}
