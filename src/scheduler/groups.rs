//! Tasks counted by state and name: each call of a task's program is in one of eight states, and belongs to the group of its
//! graph and name. A chain of calls that is one task here counts as many as it has, as it does in the other modes.
//!
//! A graph has groups of its own; when it is gone, their counts are kept in [`EndedGroups`]. Graphs of one call are too many
//! for that, and those of tasks have numbers of their workers': both are counted by name alone.

use super::Scheduler;
#[cfg(test)]
use super::job::flag;
use super::job::{Job, KINDS, State};
use crate::ids::{SessionId, TaskId};
use crate::job::{CallName, GroupCounts, JobSpec};
use crate::task::program;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::ops::Range;
use std::time::Duration;
use swath_insight::{Counts, EndedGroups, NAMES, OTHER_NAMES, TaskState, Totals};

/// How many calls are in each of the eight states.
pub(super) type StateCounts = [u32; 8];

/// What the kinds of states count as, in their order. No task has failed before it is taken in.
const KIND_STATES: [TaskState; KINDS] = [
    TaskState::Unneeded,
    TaskState::Waiting,
    TaskState::Ready,
    TaskState::Waiting,
    TaskState::Ready,
    TaskState::Memory,
    TaskState::Memory,
    TaskState::Memory,
    TaskState::Released,
    TaskState::Failed,
];

impl State {
    /// What a task in this state counts as. What has been sent to a worker counts as ready until its thread says that it runs.
    #[inline]
    pub(super) fn task_state(self) -> TaskState {
        match self {
            Self::Idle => TaskState::Unneeded,
            Self::Waiting { .. } | Self::Fetching => TaskState::Waiting,
            Self::Ready | Self::Assigned { .. } => TaskState::Ready,
            Self::Done { .. } | Self::Lent { .. } | Self::Data { .. } => TaskState::Memory,
            Self::Released => TaskState::Released,
            Self::Failed { cancelled: false, .. } => TaskState::Failed,
            Self::Failed { cancelled: true, .. } => TaskState::Cancelled,
        }
    }
}

/// The state of a call whose result another call of the same task has used up, by the state of that task.
#[inline]
fn inner(state: TaskState) -> TaskState {
    if state == TaskState::Memory { TaskState::Released } else { state }
}

/// Which groups the calls of a job's tasks belong to.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The places of the job's groups in the table. None before the job is taken in, or where it has no calls.
    groups: SmallVec<[u32; 1]>,
    /// The group of each call, task after task, as a place in `groups`. Empty: each task is one call, of the first group.
    of: Vec<u32>,
    ends: Vec<u32>,
}

/// The groups of a job that is to be taken in.
#[derive(Debug)]
pub(super) struct NewGroups {
    names: Vec<CallName>,
    counts: SmallVec<[StateCounts; 1]>,
}

impl Calls {
    /// Looks up the calls of all tasks of a job.
    pub(super) fn of(spec: &JobSpec) -> (Self, Vec<CallName>) {
        let mut names: Vec<CallName> = Vec::new();
        let mut functions: FxHashMap<u64, u32> = FxHashMap::default();
        let mut given: FxHashMap<&str, u32> = FxHashMap::default();
        let mut calls = Self::default();
        // As long as each task is one call of the first function, which most graphs are, nothing is noted.
        let mut plain = true;
        let mut options = spec.options.iter().peekable();
        let mut makers: Vec<u32> = spec.parts.iter().map(|(part, _)| spec.deps(*part)[0]).collect();
        makers.sort_unstable();
        let mut offsets: SmallVec<[u64; 8]> = SmallVec::new();
        for index in 0..spec.len() as u32 {
            let mut of_task = program::calls(spec.body(index));
            let (first, second) = (of_task.next(), of_task.next());
            // What most tasks are.
            if plain
                && second.is_none()
                && let (Some(first), [CallName::Function(known)]) = (first, &names[..])
                && first == *known
                && options.peek().is_none_or(|(at, _)| *at > index)
                && makers.is_empty()
            {
                continue;
            }
            offsets.clear();
            offsets.extend(first.into_iter().chain(second).chain(of_task));
            let name = options.next_if(|(at, _)| *at == index).and_then(|(_, options)| options.name.as_deref());
            // What takes a result apart is a part of the task that makes it.
            if !makers.is_empty() && makers.binary_search(&index).is_ok() {
                offsets.pop();
            }
            let named = offsets.len().wrapping_sub(1);
            let start = calls.of.len();
            for (at, &offset) in offsets.iter().enumerate() {
                let new = names.len() as u32;
                let group = match name.filter(|_| at == named) {
                    Some(name) => *given.entry(name).or_insert_with(|| {
                        names.push(CallName::Given(name.to_string()));
                        new
                    }),
                    None => *functions.entry(offset).or_insert_with(|| {
                        names.push(CallName::Function(offset));
                        new
                    }),
                };
                calls.of.push(group);
            }
            if plain && calls.of[start..] == [0] {
                calls.of.clear();
                continue;
            }
            if plain {
                // All before this one are.
                plain = false;
                calls.of.splice(0..0, std::iter::repeat_n(0, index as usize));
                calls.ends.extend(1..=index);
            }
            calls.ends.push(calls.of.len() as u32);
        }
        (calls, names)
    }

    fn is_plain(&self) -> bool {
        self.ends.is_empty()
    }

    fn range(&self, index: u32) -> Range<usize> {
        let i = index as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        start..self.ends[i] as usize
    }

    /// The groups of the calls of a task, the last one last.
    fn of_task(&self, index: u32) -> impl DoubleEndedIterator<Item = u32> + ExactSizeIterator {
        let of = if self.is_plain() { &[0][..self.groups.len().min(1)] } else { &self.of[self.range(index)] };
        of.iter().map(|group| self.groups[*group as usize])
    }

    /// Adds the calls of more tasks, whose groups have these places in the list of this job.
    fn append(&mut self, tasks: u32, more: Self, added: u32, places: &[u32]) {
        let plain = self.is_plain() && more.is_plain();
        if added == 0 || (plain && places.first() == Some(&0)) {
            return;
        }
        if self.is_plain() {
            self.of = vec![0; tasks as usize];
            self.ends = (1..=tasks).collect();
        }
        let before = self.of.len() as u32;
        if more.is_plain() {
            self.of.extend(std::iter::repeat_n(places[0], added as usize));
            self.ends.extend(before + 1..=before + added);
        } else {
            self.of.extend(more.of.iter().map(|group| places[*group as usize]));
            self.ends.extend(more.ends.iter().map(|end| before + end));
        }
    }
}

impl NewGroups {
    /// Those of a job whose tasks have their first states.
    pub(super) fn of(job: &mut Job) -> Self {
        let (calls, names) = Calls::of(&job.spec);
        let mut counts: SmallVec<[StateCounts; 1]> = SmallVec::from_elem([0; 8], names.len());
        let tasks = if calls.is_plain() { &[][..] } else { &job.tasks[..] };
        if let (true, Some(all)) = (calls.is_plain(), counts.first_mut()) {
            for (n, state) in job.counts.iter().zip(KIND_STATES) {
                all[state as usize] += n;
            }
        }
        for (index, task) in tasks.iter().enumerate() {
            let state = task.state.task_state();
            let of = &calls.of[calls.range(index as u32)];
            for (at, group) in of.iter().enumerate() {
                let state = if at + 1 == of.len() { state } else { inner(state) };
                counts[*group as usize][state as usize] += 1;
            }
        }
        job.calls = calls;
        Self { names, counts }
    }

    fn calls(&self) -> u64 {
        self.counts.iter().flatten().map(|n| u64::from(*n)).sum()
    }
}

/// The tasks of one graph, or of many, that have one name.
#[derive(Debug)]
struct Group {
    name: CallName,
    /// Whose tasks they are.
    owner: SessionId,
    /// The number of the graph; none: it is a group of graphs of one call each, or of tasks.
    graph: Option<u32>,
    /// Those of jobs that are there.
    live: StateCounts,
    /// Those of jobs that have gone.
    gone: Counts,
    /// How many runs of them have ended, and how many microseconds these took.
    runs: u64,
    run_us: u64,
    /// How many jobs are there.
    jobs: u32,
}

impl Group {
    fn new(name: CallName, owner: SessionId, graph: Option<u32>) -> Self {
        Self { name, owner, graph, live: [0; 8], gone: Counts::default(), runs: 0, run_us: 0, jobs: 0 }
    }

    fn totals(&self, counts: Counts) -> Totals {
        Totals { counts, runs: self.runs, run_time: Duration::from_micros(self.run_us), partial: 0 }
    }
}

/// What is counted for one session.
#[derive(Debug, Default)]
struct Owner {
    by_name: FxHashMap<CallName, u32>,
    ended: EndedGroups<CallName>,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    table: Vec<Option<Group>>,
    free: Vec<u32>,
    /// Sessions that have submitted something and have not ended.
    owners: FxHashMap<SessionId, Owner>,
}

impl Groups {
    fn insert(&mut self, group: Group) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.table[at as usize] = Some(group);
                at
            }
            None => {
                self.table.push(Some(group));
                self.table.len() as u32 - 1
            }
        }
    }

    fn remove(&mut self, at: u32) -> Option<Group> {
        let group = self.table[at as usize].take()?;
        self.free.push(at);
        Some(group)
    }

    /// The group of tasks of this name, whatever graph they are of.
    fn by_name(&mut self, owner: SessionId, name: CallName) -> u32 {
        let known = &mut self.owners.entry(owner).or_default().by_name;
        if let Some(&at) = known.get(&name) {
            return at;
        }
        let name = if known.len() < NAMES { name } else { CallName::Given(OTHER_NAMES.to_string()) };
        if let Some(&at) = known.get(&name) {
            return at;
        }
        let at = self.insert(Group::new(name.clone(), owner, None));
        self.owners.entry(owner).or_default().by_name.insert(name, at);
        at
    }

    /// A task of a job has changed its state.
    #[inline]
    pub(super) fn change(&mut self, calls: &Calls, index: u32, from: TaskState, to: TaskState) {
        if from == to {
            return;
        }
        if calls.is_plain() {
            let Some(group) = calls.groups.first().and_then(|at| self.table[*at as usize].as_mut()) else { return };
            group.live[from as usize] -= 1;
            group.live[to as usize] += 1;
            return;
        }
        let of = calls.of_task(index);
        let last = of.len().wrapping_sub(1);
        for (at, group) in of.enumerate() {
            let Some(group) = &mut self.table[group as usize] else { continue };
            let (from, to) = if at == last { (from, to) } else { (inner(from), inner(to)) };
            group.live[from as usize] -= 1;
            group.live[to as usize] += 1;
        }
    }

    /// A run of a task has ended. Its time is that of all its calls.
    #[inline]
    pub(super) fn ran(&mut self, calls: &Calls, index: u32, run_us: u32) {
        let of = calls.of_task(index);
        let each = run_us / (of.len().max(1) as u32);
        for group in of {
            let Some(group) = &mut self.table[group as usize] else { continue };
            group.runs += 1;
            group.run_us += u64::from(each);
        }
    }

    /// Takes in the groups of a new job.
    pub(super) fn enter(&mut self, job: &mut Job, new: NewGroups) {
        let owner = job.owner;
        let alone = job.id.session != owner || job.id.session.is_of_tasks();
        let by_name = alone || (new.calls() == 1 && !job.spec.open);
        if !new.names.is_empty() {
            self.owners.entry(owner).or_default();
        }
        for (name, counts) in new.names.into_iter().zip(new.counts) {
            let at = if by_name {
                self.by_name(owner, name)
            } else {
                let graph = Some(job.id.number);
                self.insert(Group::new(name, owner, graph))
            };
            job.calls.groups.push(at);
            let Some(group) = &mut self.table[at as usize] else { continue };
            group.jobs += 1;
            group.live.iter_mut().zip(counts).for_each(|(live, new)| *live += new);
        }
    }

    /// Takes in the calls of more tasks of a job, which has had so many. The tasks have their first states.
    pub(super) fn grow(&mut self, job: &mut Job, tasks: u32, (more, names): (Calls, Vec<CallName>)) {
        let by_name = job.id.session != job.owner || job.id.session.is_of_tasks();
        let mut places = Vec::new();
        for name in names {
            let known = job.calls.groups.iter().position(|at| {
                let group = self.table[*at as usize].as_ref();
                group.is_some_and(|group| group.name == name)
            });
            let place = known.unwrap_or_else(|| {
                let (owner, graph) = (job.owner, Some(job.id.number));
                let at = match by_name {
                    true => self.by_name(owner, name),
                    false => {
                        self.owners.entry(owner).or_default();
                        self.insert(Group::new(name, owner, graph))
                    }
                };
                if let Some(group) = &mut self.table[at as usize] {
                    group.jobs += 1;
                }
                job.calls.groups.push(at);
                job.calls.groups.len() - 1
            });
            places.push(place as u32);
        }
        let added = job.tasks.len() as u32 - tasks;
        job.calls.append(tasks, more, added, &places);
        for index in tasks..tasks + added {
            let state = job.state(index).task_state();
            self.count(&job.calls, index, state);
        }
    }

    fn count(&mut self, calls: &Calls, index: u32, state: TaskState) {
        let of = calls.of_task(index);
        let last = of.len().wrapping_sub(1);
        for (at, group) in of.enumerate() {
            let Some(group) = &mut self.table[group as usize] else { continue };
            let state = if at == last { state } else { inner(state) };
            group.live[state as usize] += 1;
        }
    }

    /// A job has gone.
    pub(super) fn leave(&mut self, job: &Job) {
        let mut ended = Vec::new();
        // A name that several of a job's groups have, beyond those that are counted, is there several times.
        for (place, &at) in job.calls.groups.iter().enumerate() {
            let Some(group) = &mut self.table[at as usize] else { continue };
            group.jobs -= 1;
            if group.graph.is_some() {
                if let Some(group) = self.remove(at) {
                    let totals = group.totals(counts(&group.live));
                    ended.push((group.name, totals));
                }
                continue;
            }
            let mut left = StateCounts::default();
            for index in 0..job.tasks.len() as u32 {
                let state = job.state(index).task_state();
                let of = if job.calls.is_plain() { &[0][..] } else { &job.calls.of[job.calls.range(index)] };
                for (call, group) in of.iter().enumerate() {
                    if *group as usize == place {
                        let state = if call + 1 == of.len() { state } else { inner(state) };
                        left[state as usize] += 1;
                    }
                }
            }
            group.live.iter_mut().zip(left).for_each(|(live, left)| *live -= left);
            group.gone += counts(&left).when_gone();
            if group.jobs == 0 && !self.owners.contains_key(&job.owner) {
                self.remove(at);
            }
        }
        if !ended.is_empty()
            && let Some(owner) = self.owners.get_mut(&job.owner)
        {
            owner.ended.push(job.id.number, ended);
        }
    }

    /// A session has ended: nobody asks for its groups any more.
    pub(super) fn close(&mut self, session: SessionId) {
        let Some(owner) = self.owners.remove(&session) else { return };
        for at in owner.by_name.into_values() {
            if self.table[at as usize].as_ref().is_some_and(|group| group.jobs == 0) {
                self.remove(at);
            }
        }
    }
}

/// The same, as others are told.
fn counts(live: &StateCounts) -> Counts {
    let mut counts = Counts::default();
    TaskState::ALL.iter().zip(live).for_each(|(state, n)| counts[*state] = u64::from(*n));
    counts
}

impl Scheduler {
    /// The groups of a session's tasks, those included that its tasks have submitted. `running` are the tasks that threads of
    /// workers run, each with how much of it is done, in thousandths. Where a task asks, by that number, it is about the session that the task is of.
    pub(crate) fn groups(
        &self,
        session: SessionId,
        by: Option<TaskId>,
        running: impl Iterator<Item = (TaskId, u32)>,
    ) -> Vec<GroupCounts> {
        let asker = by.and_then(|task| self.jobs.get(task.job)).map(|slot| self.jobs[slot].owner);
        let session = asker.unwrap_or(session);
        let groups = &self.ready.groups;
        let Some(owner) = groups.owners.get(&session) else { return Vec::new() };
        let mut run: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
        for (task, partial) in running {
            let Some(slot) = self.jobs.get(task.job) else { continue };
            let job = &self.jobs[slot];
            if let Some(State::Assigned { .. }) = job.tasks.get(task.index as usize).map(|task| task.state) {
                for group in job.calls.of_task(task.index) {
                    let (running, done) = run.entry(group).or_default();
                    *running += 1;
                    *done += u64::from(partial);
                }
            }
        }
        let ended = owner.ended.iter().map(|(name, graph, totals)| {
            let name = name.cloned().unwrap_or_else(|| CallName::Given(OTHER_NAMES.to_string()));
            GroupCounts { name, graph, totals }
        });
        let live = groups.table.iter().enumerate().filter_map(|(at, group)| {
            let group = group.as_ref().filter(|group| group.owner == session)?;
            let mut counts = counts(&group.live);
            let (running, partial) = run.get(&(at as u32)).copied().unwrap_or_default();
            let running = running.min(counts.ready);
            (counts.ready, counts.running) = (counts.ready - running, running);
            counts += group.gone;
            let totals = Totals { partial: partial.min(1000 * running), ..group.totals(counts) };
            Some(GroupCounts { name: group.name.clone(), graph: group.graph, totals })
        });
        let mut groups: Vec<_> = ended.chain(live).collect();
        groups.sort_by_key(|group| group.graph);
        groups
    }
}

#[cfg(test)]
impl Scheduler {
    /// Counts everything anew, from the tasks' programs and states.
    pub(super) fn validate_groups(&self) {
        let groups = &self.ready.groups;
        let mut live: Vec<StateCounts> = vec![[0; 8]; groups.table.len()];
        let mut jobs = vec![0; groups.table.len()];
        for job in self.jobs.iter() {
            job.calls.groups.iter().for_each(|at| jobs[*at as usize] += 1);
            for index in 0..job.tasks.len() as u32 {
                let of: Vec<u32> = job.calls.of_task(index).collect();
                if !job.is_final() {
                    let taken_apart = usize::from(job.tasks[index as usize].has(flag::MAKER));
                    let calls = program::calls(job.spec.body(index)).count().saturating_sub(taken_apart);
                    assert_eq!(of.len(), calls, "{}: its calls are counted", job.task_id(index));
                }
                let state = job.state(index).task_state();
                for (at, group) in of.iter().enumerate() {
                    let state = if at + 1 == of.len() { state } else { inner(state) };
                    live[*group as usize][state as usize] += 1;
                }
            }
        }
        for (at, group) in groups.table.iter().enumerate() {
            let Some(group) = group else {
                assert_eq!((jobs[at], live[at]), (0, [0; 8]), "a job counts in a group that has gone");
                continue;
            };
            assert_eq!((group.live, group.jobs), (live[at], jobs[at]), "counts of {group:?}");
            let kept = group.graph.is_none() && groups.owners.contains_key(&group.owner);
            assert!(group.jobs > 0 || kept, "nobody needs {group:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job of tasks with these calls each, by the offsets of their functions.
    fn job(tasks: &[&[u64]]) -> JobSpec {
        let mut spec = JobSpec::default();
        for calls in tasks {
            calls.iter().for_each(|offset| program::call_step(&mut spec.bodies, *offset, 0, 1));
            spec.body_ends.push(spec.bodies.len() as u32);
            spec.dep_ends.push(0);
        }
        spec
    }

    fn of(calls: &Calls) -> Vec<Vec<u32>> {
        if calls.is_plain() {
            return Vec::new();
        }
        (0..calls.ends.len() as u32).map(|index| calls.of[calls.range(index)].to_vec()).collect()
    }

    #[test]
    fn calls_are_found_in_programs() {
        let (calls, names) = Calls::of(&job(&[&[7], &[7], &[7]]));
        assert!(calls.is_plain());
        assert_eq!(names, [CallName::Function(7)]);
        let (calls, names) = Calls::of(&job(&[&[7], &[7], &[], &[8, 7], &[7]]));
        assert_eq!(of(&calls), [vec![0], vec![0], vec![], vec![1, 0], vec![0]]);
        assert_eq!(names, [CallName::Function(7), CallName::Function(8)]);
        let (calls, names) = Calls::of(&job(&[&[], &[9]]));
        assert_eq!((of(&calls), names.len()), (vec![vec![], vec![0]], 1));
    }

    #[test]
    fn more_calls_keep_their_groups() {
        let (mut calls, _) = Calls::of(&job(&[&[7], &[7]]));
        let (more, _) = Calls::of(&job(&[&[7]]));
        calls.append(2, more, 1, &[0]);
        assert!(calls.is_plain());
        let (more, _) = Calls::of(&job(&[&[8], &[8]]));
        calls.append(3, more, 2, &[1]);
        assert_eq!(of(&calls), [[0], [0], [0], [1], [1]]);
        let (more, _) = Calls::of(&job(&[&[8, 9]]));
        calls.append(5, more, 1, &[1, 2]);
        assert_eq!(of(&calls)[5], [1, 2]);
    }
}
