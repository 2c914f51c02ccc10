//! A job made ready to be taken in: checked completely, since it may come from a buggy or hostile program, and indexed. That
//! takes time in proportion to its tasks, and needs nothing of the scheduler, so another thread may do it.

use super::groups::{Calls, NewGroups};
use super::job::{ExternalInput, Job, KINDS, State, Task, TaskRef, flag};
use super::ready::{Isolation, Lane, Rule};
use super::submit::SubmitError;
use super::values::TaskValues;
use crate::fairness::{Attained, Program};
use crate::ids::{JobId, TaskId};
use crate::job::{EXTERNAL, JobSpec, WantedResult, WireOptions};
use crate::lazy_map::{LazyMap, LazyVec};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A job that lacks only what the scheduler knows: its place, its external inputs, and what can run where.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) job: Box<Job>,
    pub(super) groups: NewGroups,
}

impl Prepared {
    pub(crate) fn new(id: JobId, spec: Arc<JobSpec>) -> Result<Self, SubmitError> {
        check_shape(&spec)?;
        // Bodies are empty until then.
        let first = spec.body_ends.partition_point(|end| *end == 0) as u32;
        let nowhere = ExternalInput { target: TaskRef { job: u32::MAX, index: u32::MAX }, uses: 0 };
        let mut job = Box::new(Job {
            id,
            slot: u32::MAX,
            seq: 0,
            program: Program::of(id.session),
            attained: Attained::default(),
            tasks: vec![Task::default(); spec.len()],
            dependent_ends: LazyVec::default(),
            dependents: LazyVec::default(),
            external_inputs: vec![nowhere; spec.externals.len()].into(),
            users: LazyMap::default(),
            values: TaskValues::default(),
            shared: LazyMap::default(),
            failures: LazyVec::default(),
            lanes: vec![Lane { priority: spec.priority, ..Lane::default() }],
            option_lanes: LazyVec::default(),
            tries: LazyMap::default(),
            open: LazyMap::default(),
            isolated: LazyMap::default(),
            deaths: LazyMap::default(),
            claims: spec.outputs.len() as u32,
            refs: 0,
            exporting: 0,
            estimate: 0,
            first,
            bulky: false,
            counts: [0; KINDS],
            owner: id.session,
            calls: Calls::default(),
            spec,
        });
        job.sort_into_lanes();
        job.index(Start::default());
        let groups = NewGroups::of(&mut job);
        Ok(Self { job, groups })
    }

    /// A job of one task that has the value of that one.
    pub(super) fn alias(id: JobId, of: TaskId) -> Result<Self, SubmitError> {
        let spec = JobSpec {
            body_ends: vec![0],
            deps: vec![EXTERNAL],
            dep_ends: vec![1],
            externals: vec![of],
            outputs: vec![WantedResult { index: 0, deliver: false }],
            ..JobSpec::default()
        };
        let mut prepared = Self::new(id, spec.into())?;
        prepared.job.tasks.iter_mut().for_each(|task| task.put(flag::ALIAS, true));
        Ok(prepared)
    }
}

impl Job {
    fn sort_into_lanes(&mut self) {
        let spec = self.spec.clone();
        let mut known: FxHashMap<(i32, Rule), u32> = FxHashMap::default();
        let mut previous: Option<(&WireOptions, u32)> = None;
        for (index, options) in &spec.options {
            let same = |p: &WireOptions| {
                p.priority == options.priority
                    && p.worker == options.worker
                    && p.among == options.among
                    && p.tag == options.tag
                    && p.memory == options.memory
                    && p.resources == options.resources
                    && p.timeout_ms.is_some() == options.timeout_ms.is_some()
            };
            let lane = match previous {
                Some((p, lane)) if same(p) => lane,
                _ => {
                    let rule = Rule {
                        worker: options.worker.clone(),
                        among: options.among.clone(),
                        tag: options.tag.clone(),
                        memory: options.memory.unwrap_or(0),
                        resources: options.resources.clone(),
                        timed: options.timeout_ms.is_some(),
                        isolation: Isolation::None,
                        parent: match options.resources.is_empty() {
                            false => spec.parent.filter(|_| self.program == Program::TASKS),
                            true => None,
                        },
                        nested: (options.memory.is_some() || !options.resources.is_empty())
                            && self.program == Program::TASKS,
                    };
                    if options.priority == 0 && rule == Rule::default() {
                        0
                    } else {
                        let lanes = &mut self.lanes;
                        *known.entry((options.priority, rule)).or_insert_with_key(|(priority, rule)| {
                            let rule = (*rule != Rule::default()).then(|| Arc::new(rule.clone()));
                            let members = Some(Vec::new());
                            let priority = lanes[0].priority.saturating_add(*priority);
                            lanes.push(Lane { priority, rule, members, ..Lane::default() });
                            lanes.len() as u32 - 1
                        })
                    }
                }
            };
            previous = Some((options, lane));
            self.option_lanes.push(lane);
            let task = &mut self.tasks[*index as usize];
            task.put(flag::OPTIONS, true);
            if let Some(members) = &mut self.lanes[lane as usize].members {
                members.push(*index);
                task.put(flag::LANED, true);
            }
        }
    }

    /// Adds tasks at the end that have been checked; says where they start.
    pub(super) fn append(&mut self, more: JobSpec) -> Start {
        let spec = Arc::make_mut(&mut self.spec);
        let start = Start {
            task: spec.len() as u32,
            data: spec.data.len(),
            part: spec.parts.len(),
            output: spec.outputs.len(),
        };
        self.claims += more.outputs.len() as u32;
        spec.append(more);
        self.tasks.resize(spec.len(), Task::default());
        self.index(start);
        start
    }

    /// Finds out who uses what from a place on, and the first state of each task there. External inputs count as missing.
    fn index(&mut self, start: Start) {
        self.count_uses(start);
        self.index_dependents(start.task);
        self.first_states(start.task);
    }

    fn first_states(&mut self, first: u32) {
        let spec = self.spec.clone();
        let mut counts = [0; KINDS];
        let mut sources = 0;
        let mut start = self.dep_start(first);
        for index in first..spec.len() as u32 {
            let end = spec.dep_ends[index as usize] as usize;
            let deps = &spec.deps[start..end];
            start = end;
            let task = &self.tasks[index as usize];
            if task.uses > 0 && task.state == State::Idle {
                let there = |dep: u32| dep & EXTERNAL == 0 && self.tasks[dep as usize].state.available();
                let missing = deps.iter().filter(|dep| !there(**dep)).count() as u32;
                let lane = if task.has(flag::LANED) { self.lane_of(index) } else { 0 };
                match (missing, lane) {
                    (0, 0) => sources += 1,
                    (0, _) => self.lanes[lane as usize].enter(index),
                    _ => {}
                }
                let state = if missing > 0 { State::Waiting { missing } } else { State::Ready };
                self.tasks[index as usize].state = state;
            }
            counts[self.tasks[index as usize].state.kind()] += 1;
        }
        self.lanes[0].ready += sources;
        self.lanes[0].ahead += sources;
        self.counts.iter_mut().zip(counts).for_each(|(all, new)| *all += new);
    }

    /// Where the dependencies of a task start.
    fn dep_start(&self, index: u32) -> usize {
        if index == 0 { 0 } else { self.spec.dep_ends[index as usize - 1] as usize }
    }

    /// Who is needed for the outputs, and by how many. Dependencies point down, so one sweep from the top finds out.
    fn count_uses(&mut self, start: Start) {
        let spec = &self.spec;
        for (entry, (index, _)) in spec.data.iter().enumerate().skip(start.data) {
            self.tasks[*index as usize].state = State::Data { entry: entry as u32 };
        }
        for (index, _) in &spec.parts[start.part..] {
            self.tasks[*index as usize].put(flag::PART, true);
            let maker = spec.deps(*index)[0];
            self.tasks[maker as usize].put(flag::MAKER, true);
        }
        for output in &spec.outputs[start.output..] {
            let task = &mut self.tasks[output.index as usize];
            task.uses = 1;
            task.put(flag::CLAIMED, true);
            task.put(flag::WANTED, output.deliver);
        }
        if spec.deps.is_empty() {
            return;
        }
        let mut end = spec.deps.len();
        for index in (start.task as usize..spec.len()).rev() {
            let start = if index == 0 { 0 } else { spec.dep_ends[index - 1] as usize };
            if self.tasks[index].uses > 0 {
                for &dep in &spec.deps[start..end] {
                    if dep & EXTERNAL == 0 {
                        self.tasks[dep as usize].uses += 1;
                    } else {
                        self.external_inputs[(dep & !EXTERNAL) as usize].uses += 1;
                    }
                }
            }
            end = start;
        }
    }

    /// Who uses whom, from task `first` on. Those need nothing before it.
    fn index_dependents(&mut self, first: u32) {
        let spec = &self.spec;
        if spec.deps.is_empty() {
            return;
        }
        let n = spec.len() as u32;
        let row = |dep: u32| (if dep & EXTERNAL == 0 { dep } else { n + (dep & !EXTERNAL) } - first) as usize;
        let mut start = self.dep_start(first);
        // Counts, then the starts of rows, which move to their ends as the rows are filled.
        let mut ends = vec![0u32; (n - first) as usize + self.external_inputs.len()];
        for &dep in &spec.deps[start..] {
            ends[row(dep)] += 1;
        }
        let mut sum = self.dependents.len() as u32;
        // Tasks before the first that has dependencies have had no row.
        self.dependent_ends.resize(first as usize, sum);
        for end in &mut ends {
            sum += std::mem::replace(end, sum);
        }
        self.dependents.resize(sum as usize, 0);
        for (index, &end) in spec.dep_ends.iter().enumerate().skip(first as usize) {
            for &dep in &spec.deps[start..end as usize] {
                let at = &mut ends[row(dep)];
                self.dependents[*at as usize] = index as u32;
                *at += 1;
            }
            start = end as usize;
        }
        self.dependent_ends.append(&mut ends);
    }
}

/// Where the new tasks of a job start.
#[derive(Clone, Copy, Default)]
pub(super) struct Start {
    pub(super) task: u32,
    pub(super) data: usize,
    part: usize,
    output: usize,
}

fn malformed<T>(what: impl Into<String>) -> Result<T, SubmitError> {
    Err(SubmitError::Malformed(what.into()))
}

/// What can be said of more tasks of a job, and of all together.
pub(super) fn check_more(spec: &JobSpec, more: &JobSpec) -> Result<(), SubmitError> {
    check_shape(more)?;
    if !spec.externals.is_empty() || !more.externals.is_empty() || !more.options.is_empty() || more.broadcast {
        return malformed(
            "more tasks of an open job have externals, options or a broadcast, which only whole jobs have",
        );
    }
    let fits = |a: usize, b: usize| a.saturating_add(b) < EXTERNAL as usize;
    if !fits(spec.len(), more.len())
        || !fits(spec.bodies.len(), more.bodies.len())
        || !fits(spec.deps.len(), more.deps.len())
    {
        return malformed(
            "its tasks take more than 2 GiB of encoded arguments; scatter the large ones, or map fewer at once",
        );
    }
    Ok(())
}

/// Everything that can be said of a spec by itself.
fn check_shape(spec: &JobSpec) -> Result<(), SubmitError> {
    let n = spec.len();
    if n >= EXTERNAL as usize || spec.externals.len() >= EXTERNAL as usize {
        return malformed("too many tasks");
    }
    if spec.dep_ends.len() != n {
        return malformed(format!("{n} tasks, but dependencies of {}", spec.dep_ends.len()));
    }
    check_ends("bodies", &spec.body_ends, spec.bodies.len())?;
    check_ends("dependencies", &spec.dep_ends, spec.deps.len())?;
    check_deps(spec)?;
    check_indexes("outputs", n, spec.outputs.iter().map(|o| o.index))?;
    check_indexes("options", n, spec.options.iter().map(|(index, _)| *index))?;
    check_indexes("data", n, spec.data.iter().map(|(index, _)| *index))?;
    for (index, _) in &spec.data {
        if !spec.deps(*index).is_empty() || !spec.body(*index).is_empty() {
            return malformed(format!("task {index} has a given value, and yet a program or dependencies"));
        }
    }
    check_parts(spec)
}

fn check_parts(spec: &JobSpec) -> Result<(), SubmitError> {
    if spec.parts.is_empty() {
        return Ok(());
    }
    check_indexes("parts", spec.len(), spec.parts.iter().map(|(index, _)| *index))?;
    let (mut is_part, mut is_maker) = (vec![false; spec.len()], vec![false; spec.len()]);
    for &(index, _) in &spec.parts {
        match spec.deps(index) {
            &[maker] if maker & EXTERNAL == 0 && spec.body(index).is_empty() => {
                is_part[index as usize] = true;
                is_maker[maker as usize] = true;
            }
            _ => return malformed(format!("task {index} is a part, but not just of one other task's result")),
        }
    }
    let mut makers = (0..spec.len()).filter(|index| is_maker[*index]);
    let given = |index: usize| spec.data.binary_search_by_key(&(index as u32), |(index, _)| *index).is_ok();
    if let Some(index) = makers.find(|index| is_part[*index] || given(*index)) {
        return malformed(format!("task {index} has parts and does not run"));
    }
    if let Some((index, _)) = spec.options.iter().find(|(index, _)| is_part[*index as usize]) {
        return malformed(format!("task {index} is a part, and yet has options"));
    }
    let whole = |index: u32| is_maker[index as usize];
    let used_whole = |index: u32| {
        let mut deps = spec.deps(index).iter().filter(|dep| **dep & EXTERNAL == 0);
        !is_part[index as usize] && deps.any(|dep| whole(*dep))
    };
    if spec.outputs.iter().any(|output| whole(output.index)) || (0..spec.len() as u32).any(used_whole) {
        return malformed("the result of a task that has parts is used as a whole");
    }
    Ok(())
}

fn check_ends(what: &str, ends: &[u32], len: usize) -> Result<(), SubmitError> {
    let mut last = 0;
    for (index, &end) in ends.iter().enumerate() {
        if end < last {
            return malformed(format!("the {what} of task {index} end before they begin"));
        }
        last = end;
    }
    if last as usize != len {
        return malformed(format!("the {what} end at {last}, but there are {len}"));
    }
    Ok(())
}

fn check_deps(spec: &JobSpec) -> Result<(), SubmitError> {
    let n = spec.len() as u32;
    // Who named a task last; needed for long lists only.
    let mut named: Vec<u32> = Vec::new();
    let mut start = 0;
    for index in 0..n {
        let end = spec.dep_ends[index as usize] as usize;
        let deps = &spec.deps[start..end];
        start = end;
        for &dep in deps {
            let bound = if dep & EXTERNAL == 0 { index } else { spec.externals.len() as u32 };
            if dep & !EXTERNAL >= bound {
                return malformed(format!("task {index} depends on {dep:#x}, which does not come before it"));
            }
        }
        let twice = if deps.len() <= 8 {
            deps.iter().enumerate().any(|(at, dep)| deps[..at].contains(dep))
        } else {
            named.resize(spec.len() + spec.externals.len(), u32::MAX);
            deps.iter().any(|&dep| {
                let row = if dep & EXTERNAL == 0 { dep } else { n + (dep & !EXTERNAL) };
                std::mem::replace(&mut named[row as usize], index) == index
            })
        };
        if twice {
            return malformed(format!("task {index} names a dependency twice"));
        }
    }
    Ok(())
}

fn check_indexes(what: &str, n: usize, indexes: impl Iterator<Item = u32>) -> Result<(), SubmitError> {
    let mut next = 0;
    for index in indexes {
        if index < next || index as usize >= n {
            return malformed(format!("the {what} name task {index}, out of order or range"));
        }
        next = index + 1;
    }
    Ok(())
}
