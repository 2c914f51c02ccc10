//! Which ready task is next: of the graph that goes first ([`fairness`](crate::fairness)), the one of the lowest index.

use super::groups::Groups;
use super::job::Job;
use super::worker::WorkerSpec;
use crate::fairness::{Attained, Order, Place, Program};
use crate::ids::TaskId;
use crate::resources::Resources;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// The lanes that may have something ready. An empty lane may still be listed; a lane with something ready always is.
#[derive(Debug, Default)]
pub(super) struct ReadyLanes {
    pub(super) order: Order,
    /// Ready tasks of all lanes.
    pub(super) total: usize,
    /// Those of them that are isolated because they may have ended a worker, and those that certainly have.
    pub(super) suspects: usize,
    pub(super) culprits: usize,
    /// How many tasks of each name are in which state: what counts tasks that are ready counts all.
    pub(super) groups: Groups,
}

/// What a task shares with others while it runs: the further down, the less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Isolation {
    #[default]
    None,
    /// It may have ended a worker. No other task runs in its worker, so that the next death tells who it was.
    Suspect,
    /// A worker died with it as the only suspect. It comes after those that may not have done it.
    Culprit,
    /// A worker ran out of memory under it: it has one for itself, with all of the memory there.
    Worker,
    /// The kernel ran out of memory under it: no other task runs in any worker.
    Cluster,
}

/// What a worker must be to run the tasks of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    pub(super) worker: Option<String>,
    /// The names of those that may run them; none: any.
    pub(super) among: Vec<String>,
    pub(super) tag: Option<String>,
    /// Bytes each task needs while it runs.
    pub(super) memory: u64,
    /// What each takes of resources while it runs.
    pub(super) resources: Resources,
    /// The task that has submitted tasks which take resources: while it waits, what it has is there for them.
    pub(super) parent: Option<TaskId>,
    /// Such a task is sent to a free thread only, so that its time starts to run when it is sent.
    pub(super) timed: bool,
    pub(super) isolation: Isolation,
    /// Such a task is isolated or asks for memory or resources, and is of a task: another one may wait for it.
    pub(super) nested: bool,
}

impl ReadyLanes {
    /// Tasks of this isolation have become ready, or are no longer.
    pub(super) fn count(&mut self, isolation: Isolation, enters: bool) {
        let kind = match isolation {
            Isolation::Suspect => &mut self.suspects,
            Isolation::Culprit => &mut self.culprits,
            Isolation::None | Isolation::Worker | Isolation::Cluster => return,
        };
        *kind = if enters { *kind + 1 } else { *kind - 1 };
    }

    /// Those that have ended no worker, as far as is known.
    pub(super) fn others(&self) -> usize {
        self.total - self.suspects - self.culprits
    }
}

impl Isolation {
    /// Whether that is because of the deaths of workers.
    pub(super) fn is_of_suspects(self) -> bool {
        matches!(self, Self::Suspect | Self::Culprit)
    }
}

impl Rule {
    pub(super) fn is_isolated(&self) -> bool {
        self.isolation != Isolation::None
    }

    pub(super) fn allows(&self, spec: &WorkerSpec) -> bool {
        self.worker.as_ref().is_none_or(|name| *name == spec.name)
            && (self.among.is_empty() || self.among.contains(&spec.name))
            && self.tag.as_ref().is_none_or(|tag| spec.tags.contains(tag))
            && spec.memory_limit.is_none_or(|limit| self.memory <= limit)
            && spec.resources.cover(&self.resources)
    }

    /// Why no worker of the fleet can ever take such a task.
    pub(super) fn infeasible(&self, fleet: &[WorkerSpec]) -> Option<Arc<str>> {
        if fleet.iter().any(|w| self.allows(w)) {
            return None;
        }
        let mut there: Vec<String> = fleet.iter().take(8).map(WorkerSpec::to_string).collect();
        if fleet.len() > there.len() {
            there.push(format!("{} more", fleet.len() - there.len()));
        }
        let there = if there.is_empty() { "no worker".to_owned() } else { there.join(", ") };
        Some(format!("wants {}, but there is {there}", self.asks()).into())
    }

    /// What it asks of a worker, in words.
    pub(super) fn asks(&self) -> String {
        let mut wants = Vec::new();
        if let Some(name) = &self.worker {
            wants.push(format!("worker `{name}`"));
        }
        if !self.among.is_empty() {
            wants.push(format!("one of `{}`", self.among.join("`, `")));
        }
        if let Some(tag) = &self.tag {
            wants.push(format!("a worker tagged `{tag}`"));
        }
        if self.memory > 0 {
            wants.push(format!("{} B of memory", self.memory));
        }
        if !self.resources.is_empty() {
            wants.push(self.resources.to_string());
        }
        wants.join(" and ")
    }
}

/// The tasks of one job that are alike in priority and rule.
///
/// A cursor passes over the members in ascending order and stops only where something is ready; what becomes ready
/// behind the cursor goes into a heap. So everything in the heap comes before everything the cursor will find.
/// The heap may hold tasks that are no longer ready, also twice: the cursor skips them.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) priority: i32,
    pub(super) rule: Option<Arc<Rule>>,
    /// Why its tasks can never run, if so.
    pub(super) infeasible: Option<Arc<str>>,
    pub(super) ready: u32,
    pub(super) listed: bool,
    /// Ascending indexes; none for the default lane, whose members are all tasks that are in no other.
    pub(super) members: Option<Vec<u32>>,
    /// The cursor: an index, or a place in `members`.
    pub(super) at: u32,
    /// Ready tasks at and after the cursor.
    pub(super) ahead: u32,
    pub(super) behind: BinaryHeap<Reverse<u32>>,
}

impl Lane {
    /// The index the cursor stands at.
    pub(super) fn bound(&self) -> u32 {
        match &self.members {
            None => self.at,
            Some(members) => members.get(self.at as usize).copied().unwrap_or(u32::MAX),
        }
    }

    pub(super) fn isolation(&self) -> Isolation {
        self.rule.as_ref().map_or(Isolation::None, |rule| rule.isolation)
    }

    pub(super) fn enter(&mut self, index: u32) {
        self.ready += 1;
        if index >= self.bound() {
            self.ahead += 1;
        } else {
            self.behind.push(Reverse(index));
        }
    }

    pub(super) fn leave(&mut self, index: u32) {
        self.ready -= 1;
        if index >= self.bound() {
            self.ahead -= 1;
        }
        if self.ready == 0 {
            self.behind.clear();
        }
    }

    /// The next ready task, which the caller takes out of the state `Ready` or puts back.
    pub(super) fn next(&mut self, is_ready: impl Fn(u32) -> bool) -> Option<u32> {
        while let Some(Reverse(index)) = self.behind.pop() {
            if is_ready(index) {
                return Some(index);
            }
        }
        if self.ahead == 0 {
            return None;
        }
        loop {
            let index = self.bound();
            self.at += 1;
            if is_ready(index) {
                self.ahead -= 1;
                return Some(index);
            }
        }
    }

    pub(super) fn put_back(&mut self, index: u32) {
        self.behind.push(Reverse(index));
    }
}

impl Job {
    pub(super) fn list(&mut self, at: u32, ready: &mut ReadyLanes) {
        self.lanes[at as usize].listed = true;
        ready.order.insert(self.place(at));
    }

    /// The priority of a task, while it may run.
    pub(super) fn priority(&self, index: u32) -> i32 {
        self.lanes.get(self.lane_of(index) as usize).map_or(0, |lane| lane.priority)
    }

    /// Where a lane stands among all others.
    pub(super) fn place(&self, lane: u32) -> Place {
        let priority = Reverse(self.lanes[lane as usize].priority);
        let level = if self.program == Program::TASKS { 0 } else { self.attained.level() };
        Place { priority, program: self.program, level, seq: self.seq, job: self.slot, lane }
    }

    /// A task of it has run for so long. In another level its lanes stand elsewhere.
    pub(super) fn charge(&mut self, nanos: u64, ready: &mut ReadyLanes) {
        ready.order.charge(self.program, nanos);
        let before = self.attained;
        if self.attained.add(nanos, self.tasks.len(), self.estimate.into()) {
            self.stand_elsewhere(before, ready);
        }
    }

    /// Its tasks are known to take about what is estimated. Whether it is in another level now.
    pub(super) fn expect(&mut self, ready: &mut ReadyLanes) -> bool {
        let before = self.attained;
        let moves = self.attained.expect(self.tasks.len(), self.estimate.into());
        if moves {
            self.stand_elsewhere(before, ready);
        }
        moves
    }

    /// What is listed of it stood where it was `before`.
    #[cold]
    fn stand_elsewhere(&mut self, before: Attained, ready: &mut ReadyLanes) {
        let after = std::mem::replace(&mut self.attained, before);
        let listed: SmallVec<[u32; 8]> =
            (0..self.lanes.len() as u32).filter(|lane| self.lanes[*lane as usize].listed).collect();
        let old: SmallVec<[Place; 8]> = listed.iter().map(|&lane| self.place(lane)).collect();
        self.attained = after;
        listed.iter().zip(old).for_each(|(&lane, old)| ready.order.replace(&old, self.place(lane)));
    }
}
