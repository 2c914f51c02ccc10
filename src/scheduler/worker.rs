//! What the scheduler knows of a worker: what is in flight there, what it holds, and the commands to come.

use super::job::TaskRef;
use super::ready::{Isolation, Rule};
use super::{Command, RunTask};
use crate::error::DeathCause;
use crate::fairness::{Rank, urgency};
use crate::ids::{TaskId, WorkerId};
use crate::job::SharedPayload;
use crate::resources::Resources;
use crate::task::wait::WaitKind;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Index, IndexMut};
use std::time::Duration;

/// So many cancelled tasks that go on have spare threads in their places; more of them hold up others.
const MOST_SPARE: u32 = 16;
/// Tasks in flight beyond a worker's threads, however short they are.
const MAX_QUEUED: u32 = 1024;

/// What a worker is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerSpec {
    pub(crate) name: String,
    pub(crate) threads: u32,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) tags: Vec<String>,
    pub(crate) resources: Resources,
}

impl fmt::Display for WorkerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.name)?;
        match self.memory_limit {
            Some(limit) => write!(f, " with {limit} B")?,
            None => write!(f, " without a memory limit")?,
        }
        if !self.tags.is_empty() {
            write!(f, " tagged `{}`", self.tags.join("`, `"))?;
        }
        if !self.resources.is_empty() {
            write!(f, " with {}", self.resources)?;
        }
        Ok(())
    }
}

/// A worker's position in the table. A later worker gets it after this one's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkerIndex(pub(super) u16);

impl WorkerIndex {
    pub(super) const NONE: Self = Self(u16::MAX);
}

/// The tasks in flight on a worker, in the order they were sent, found in O(1) by the number they got.
#[derive(Debug, Default)]
pub(super) struct Flight {
    base: u32,
    entries: VecDeque<Option<FlightEntry>>,
    live: u32,
    /// Estimated run time of all of them in nanoseconds.
    load: u64,
    /// What all of them are expected to leave with the worker, in bytes.
    leaves: u64,
    /// Those of which nothing was known when they were sent.
    unknown: u32,
    /// How many there are of each rank, and their estimated run time: mostly of one.
    ranks: SmallVec<[(Rank, u32, u64); 2]>,
}

#[derive(Clone, Copy, Debug)]
struct FlightEntry {
    task: TaskRef,
    estimate: u32,
    leaves: u64,
    rank: Rank,
}

impl Flight {
    pub(super) fn len(&self) -> u32 {
        self.live
    }

    pub(super) fn push(&mut self, task: TaskRef, estimate: u32, leaves: u64, rank: Rank) -> u32 {
        // A sum of what users declare; no worker has more.
        let leaves = leaves.min(1 << 50);
        self.entries.push_back(Some(FlightEntry { task, estimate, leaves, rank }));
        self.live += 1;
        self.load += u64::from(estimate);
        self.leaves += leaves;
        self.unknown += u32::from(leaves == 0);
        match self.ranks.iter_mut().find(|(known, ..)| *known == rank) {
            Some((_, n, load)) => (*n, *load) = (*n + 1, *load + u64::from(estimate)),
            None => self.ranks.push((rank, 1, estimate.into())),
        }
        self.base.wrapping_add(self.entries.len() as u32 - 1)
    }

    /// Gives what it was likely to take, in nanoseconds.
    pub(super) fn remove(&mut self, seq: u32) -> u32 {
        let at = seq.wrapping_sub(self.base) as usize;
        let entry = self.entries[at].take().expect("an assigned task is in flight");
        self.live -= 1;
        self.load -= u64::from(entry.estimate);
        self.leaves -= entry.leaves;
        self.unknown -= u32::from(entry.leaves == 0);
        if let Some(at) = self.ranks.iter().position(|(known, ..)| *known == entry.rank) {
            let (_, n, load) = &mut self.ranks[at];
            (*n, *load) = (*n - 1, *load - u64::from(entry.estimate));
            if *n == 0 && self.ranks.len() > 1 {
                self.ranks.swap_remove(at);
            }
        }
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.base = self.base.wrapping_add(1);
        }
        entry.estimate
    }

    /// What all of them are likely to take, in nanoseconds.
    pub(super) fn load(&self) -> u64 {
        self.load
    }

    /// How many were sent before the one with this number and have not ended, and what they are likely to take, in
    /// nanoseconds.
    pub(super) fn ahead_of(&self, seq: u32) -> (u32, u64) {
        let at = seq.wrapping_sub(self.base) as usize;
        let before = self.entries.iter().take(at).flatten();
        before.fold((0, 0), |(n, load), entry| (n + 1, load + u64::from(entry.estimate)))
    }

    /// Whether a task of this rank would be done before some of those that are here.
    pub(super) fn goes_before(&self, rank: Rank) -> bool {
        self.ranks.iter().any(|(other, n, _)| *other > rank && *n > 0)
    }

    /// Those that a task of this rank would not be done before, and what they are likely to take in nanoseconds.
    fn before(&self, rank: Rank) -> (u32, u64) {
        let before = self.ranks.iter().filter(|(other, ..)| *other <= rank);
        before.fold((0, 0), |(n, load), (_, more, time)| (n + more, load + time))
    }

    /// Whether a long task at the front keeps many gaps from being reclaimed.
    pub(super) fn sparse(&self) -> bool {
        self.entries.len() > 64 && self.entries.len() > 4 * self.live as usize
    }

    /// Closes the gaps: every task gets a new number, which `renumber` is told.
    pub(super) fn compact(&mut self, mut renumber: impl FnMut(TaskRef, u32)) {
        self.entries.retain(Option::is_some);
        for (at, entry) in self.entries.iter().enumerate() {
            if let Some(entry) = entry {
                renumber(entry.task, self.base.wrapping_add(at as u32));
            }
        }
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = TaskRef> {
        self.entries.iter().flatten().map(|e| e.task)
    }

    /// Oldest first.
    pub(super) fn with_ranks(&self) -> impl Iterator<Item = (TaskRef, Rank)> {
        self.entries.iter().flatten().map(|e| (e.task, e.rank))
    }

    /// Oldest first, each with what it was likely to take.
    pub(super) fn with_estimates(&self) -> impl Iterator<Item = (TaskRef, u32)> {
        self.entries.iter().flatten().map(|e| (e.task, e.estimate))
    }

    #[cfg(test)]
    pub(super) fn adds_up(&self) -> bool {
        let entries = || self.entries.iter().flatten();
        let ranked = |rank: Rank| entries().filter(move |e| e.rank == rank);
        let ranks = self.ranks.iter().all(|&(rank, n, load)| {
            (n, load) == (ranked(rank).count() as u32, ranked(rank).map(|e| u64::from(e.estimate)).sum())
        });
        let all = self.ranks.iter().map(|(_, n, _)| n).sum::<u32>();
        assert!(ranks && all == self.live, "ranks");
        let unknown = entries().filter(|e| e.leaves == 0).count();
        self.leaves == entries().map(|e| e.leaves).sum::<u64>() && self.unknown as usize == unknown
    }

    #[cfg(test)]
    pub(super) fn at(&self, seq: u32) -> Option<TaskRef> {
        self.entries.get(seq.wrapping_sub(self.base) as usize)?.map(|e| e.task)
    }
}

/// A cancelled run that has not ended.
#[derive(Debug)]
pub(super) struct Zombie {
    pub(super) id: TaskId,
    pub(super) attempt: u16,
    pub(super) memory: u64,
    pub(super) resources: Resources,
    /// When the worker is to be ended for it; set by the next dispatch, which knows the time.
    pub(super) kill_at: Option<Duration>,
}

/// How far a worker that is to end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// It finishes what runs.
    Draining {
        asked_back: bool,
    },
    /// Its results are being fetched.
    Exporting,
    /// It has been told to end.
    Told,
}

/// Why tasks that have not begun are asked back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retraction {
    /// Another worker is to run them.
    ToMove,
    /// More urgent ones are to begin before them.
    ToWait,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) spec: WorkerSpec,
    pub(super) flight: Flight,
    pub(super) zombies: Vec<Zombie>,
    /// Tasks meant for it whose inputs are being fetched; brought up to date by each dispatch.
    pub(super) incoming: Vec<TaskRef>,
    /// Tasks there that wait for tasks of their own, and so need no thread.
    pub(super) blocked: u32,
    /// Those of them that are known.
    pub(super) waiters: FxHashMap<TaskId, WaitKind>,
    /// Tasks in flight that wait for the results of others before them, and so need no thread yet.
    pub(super) ahead: u32,
    /// Sum of the memory the tasks in flight asked for.
    pub(super) memory: u64,
    /// Sum of the resources that the tasks in flight take.
    pub(super) resources: Resources,
    /// A task of an earlier lane waits for this worker's memory to become free.
    pub(super) reserved: bool,
    /// So much of resources tasks of earlier lanes wait for.
    pub(super) awaited: Resources,
    /// A task that is to run alone waits for this worker to have nothing else to do.
    pub(super) clearing: bool,
    /// The [`urgency`] of the most urgent task that waits for a thread here; nothing less urgent is to be in the queue.
    pub(super) awaited_by: Option<i64>,
    /// Nothing in the queue is less urgent.
    pub(super) least_urgent: i64,
    /// Tasks in flight that no other is to run beside: one at most, unless it waits for tasks of its own.
    pub(super) isolated: u32,
    /// Those of them that may have ended a worker, and those that no other is to run beside in any worker.
    pub(super) suspects: u32,
    pub(super) exclusive: u32,
    /// It starts nothing for want of memory.
    pub(super) paused: bool,
    pub(super) held_values: u64,
    pub(super) held_bytes: u64,
    /// Bytes of held values that a session has a claim to: they stay, whatever tasks run.
    pub(super) claimed_bytes: u64,
    /// Bytes of held values that are on disk, as far as the worker has reported.
    pub(super) spilled: u64,
    /// Fetches under way.
    pub(super) exporting: u32,
    /// Since when these are awaited, and how many bytes of them are to be encoded.
    pub(super) asked: Vec<(TaskId, Duration, u64)>,
    /// When the tasks with a time limit are overdue.
    pub(super) deadlines: Vec<(Duration, TaskRef)>,
    pub(super) leaving: Leaving,
    /// It is to go because a cancelled task does not stop.
    pub(super) deaf: bool,
    pub(super) killed: bool,
    /// A retraction that has not been answered.
    pub(super) retraction: Option<Retraction>,
    /// The last retraction gave no task back, and nothing has changed since.
    pub(super) futile: bool,
    /// When it last ended a task, or got one while a thread was free.
    pub(super) progress: Duration,
    /// When to check again whether tasks should be taken back from its queue.
    pub(super) probe: Option<Duration>,
    pub(super) outbox: Outbox,
}

/// Commands to come, by kind.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) cancel: Vec<TaskId>,
    pub(super) fetch: Vec<TaskId>,
    pub(super) share: Vec<SharedPayload>,
    pub(super) drop: Vec<TaskId>,
    pub(super) run: Vec<RunTask>,
    pub(super) retract: Vec<TaskId>,
    pub(super) kill: bool,
    pub(super) retire: bool,
}

impl Outbox {
    /// Shared values are to be dropped; one that has not been sent is not sent at all.
    pub(super) fn forget(&mut self, shared: impl Iterator<Item = TaskId>) {
        for id in shared {
            match self.share.iter().position(|waiting| waiting.id == id) {
                Some(at) => drop(self.share.remove(at)),
                None => self.drop.push(id),
            }
        }
    }
}

impl Worker {
    fn new(id: WorkerId, mut spec: WorkerSpec, now: Duration) -> Self {
        spec.threads = spec.threads.max(1);
        Self {
            id,
            spec,
            flight: Flight::default(),
            zombies: Vec::new(),
            incoming: Vec::new(),
            blocked: 0,
            waiters: FxHashMap::default(),
            ahead: 0,
            memory: 0,
            resources: Resources::default(),
            reserved: false,
            awaited: Resources::default(),
            clearing: false,
            awaited_by: None,
            least_urgent: i64::MIN,
            isolated: 0,
            suspects: 0,
            exclusive: 0,
            paused: false,
            held_values: 0,
            held_bytes: 0,
            claimed_bytes: 0,
            spilled: 0,
            exporting: 0,
            asked: Vec::new(),
            deadlines: Vec::new(),
            leaving: Leaving::No,
            deaf: false,
            killed: false,
            retraction: None,
            futile: false,
            progress: now,
            probe: None,
            outbox: Outbox::default(),
        }
    }

    /// Whether it may get new tasks.
    pub(super) fn accepting(&self) -> bool {
        self.stays() && !self.paused
    }

    /// Whether it is not on its way out.
    pub(super) fn stays(&self) -> bool {
        self.leaving == Leaving::No && !self.killed
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.flight.live + self.zombies.len() as u32
    }

    /// Tasks in flight that want a thread. A cancelled one that runs has a spare thread in its place.
    pub(super) fn busy(&self) -> u32 {
        let spare = (self.zombies.len() as u32).min(MOST_SPARE);
        self.in_flight().saturating_sub(spare + self.blocked + self.ahead)
    }

    /// Whether a task may join what is in flight: one that is isolated, or one beside it.
    ///
    /// A task that waits for others does not count: those may be the ones to be let in. `stuck`: nothing runs in any worker, and
    /// nothing else can begin, so that it may be another isolated one.
    pub(super) fn admits(&self, rule: Option<&Rule>, stuck: bool) -> bool {
        match rule.filter(|rule| rule.is_isolated()) {
            None => !self.clearing && (self.isolated == 0 || self.busy() == 0),
            Some(rule) => self.is_idle() && (self.isolated == 0 || rule.nested || stuck),
        }
    }

    /// Whether nothing runs or is to run there, but for tasks that wait for others.
    pub(super) fn is_idle(&self) -> bool {
        self.busy() == 0 && self.incoming.is_empty() && self.zombies.is_empty()
    }

    /// Whether only tasks that wait for others are there, one of them isolated: it ends when what it waits for has been let in.
    pub(super) fn waits_alone(&self) -> bool {
        self.isolated > 0 && self.busy() == 0
    }

    /// A task is in flight there.
    pub(super) fn enter(&mut self, isolation: Isolation) {
        self.isolated += u32::from(isolation != Isolation::None);
        self.suspects += u32::from(isolation.is_of_suspects());
        self.exclusive += u32::from(isolation == Isolation::Cluster);
    }

    /// It is no longer.
    pub(super) fn leave(&mut self, isolation: Isolation) {
        self.isolated -= u32::from(isolation != Isolation::None);
        self.suspects -= u32::from(isolation.is_of_suspects());
        self.exclusive -= u32::from(isolation == Isolation::Cluster);
    }

    /// Threads that have nothing to do and nothing coming.
    pub(super) fn free_threads(&self) -> u32 {
        self.spec.threads.saturating_sub(self.busy() + self.incoming.len() as u32)
    }

    /// Tasks in flight that have no thread yet.
    pub(super) fn queued(&self) -> u32 {
        self.busy().saturating_sub(self.spec.threads)
    }

    /// What a task of unknown length counts: one of them fills the queue.
    pub(super) fn estimate(&self, known: u32, prefetch: Duration) -> u32 {
        if known != 0 {
            return known;
        }
        self.queue_budget(prefetch).clamp(1, u64::from(u32::MAX)) as u32
    }

    fn queue_budget(&self, prefetch: Duration) -> u64 {
        prefetch.as_nanos() as u64 * u64::from(self.spec.threads)
    }

    /// How many more tasks of this length it should get.
    ///
    /// Those that a task of this rank would overtake do not count, as long as no more than the threads run.
    pub(super) fn room(&self, estimate: u32, timed: bool, prefetch: Duration, rank: Rank) -> u32 {
        let free = self.free_threads();
        if timed || self.keeps_queue_from(rank) {
            return free;
        }
        let estimate = u64::from(self.estimate(estimate, prefetch));
        if self.overtakes(rank) {
            let (n, load) = self.flight.before(rank);
            let more = self.queue_budget(prefetch).saturating_sub(load) / estimate;
            return more.min(u64::from(MAX_QUEUED.saturating_sub(n))) as u32;
        }
        let queued = match self.queued() {
            0 => 0,
            n => self.flight.load * u64::from(n) / u64::from(self.in_flight()),
        };
        let more = self.queue_budget(prefetch).saturating_sub(queued) / estimate;
        let cap = (self.spec.threads + MAX_QUEUED + self.blocked)
            .saturating_sub(self.in_flight() + self.incoming.len() as u32);
        (u64::from(free) + more).min(u64::from(cap)) as u32
    }

    /// Whether a task of this rank would start before some that wait here for a thread.
    pub(super) fn overtakes(&self, rank: Rank) -> bool {
        self.queued() > 0 && self.flight.goes_before(rank)
    }

    /// Whether something more urgent waits for a thread here.
    fn keeps_queue_from(&self, rank: Rank) -> bool {
        self.awaited_by.is_some_and(|waiting| urgency(rank) > waiting)
    }

    /// Whether a task of this rank may wait here for a thread: the queue has not reached the hard bound.
    pub(super) fn can_queue(&self, rank: Rank) -> bool {
        self.in_flight() < self.spec.threads + MAX_QUEUED && !self.keeps_queue_from(rank)
    }

    /// Has tasks given back that have not begun.
    pub(super) fn ask_back(&mut self, tasks: Vec<TaskId>, retraction: Retraction) {
        if !tasks.is_empty() {
            self.retraction = Some(retraction);
            self.outbox.retract = tasks;
        }
    }

    /// Whether one more task of this length may be sent ahead of its inputs.
    pub(super) fn can_send_ahead(&self, estimate: u32, prefetch: Duration, rank: Rank) -> bool {
        let welcome = self.accepting() && self.admits(None, false) && self.can_queue(rank);
        welcome && self.flight.load + u64::from(estimate) <= self.queue_budget(prefetch)
    }

    /// Nanoseconds until a thread is free, roughly.
    pub(super) fn wait(&self) -> u64 {
        if self.free_threads() > 0 { 0 } else { self.flight.load / u64::from(self.spec.threads) }
    }

    /// Nanoseconds until a task of this rank begins, roughly.
    pub(super) fn wait_of(&self, rank: Rank) -> u64 {
        match self.overtakes(rank) {
            true => self.flight.before(rank).1 / u64::from(self.spec.threads),
            false => self.wait(),
        }
    }

    /// Whether there is room for what a task under this rule asks for. Where all that is there waits for tasks of its own, it may
    /// be for this one, so that waiting would make no room.
    pub(super) fn fits(&self, rule: &Rule) -> bool {
        let is_awaited = || rule.nested && self.blocked > 0 && self.is_idle();
        let fits = |limit| self.memory.saturating_add(rule.memory) <= limit || is_awaited();
        rule.memory == 0 || self.spec.memory_limit.is_none_or(fits)
    }

    pub(super) fn has_memory(&self, rule: &Rule) -> bool {
        rule.memory == 0 || ((!self.reserved || rule.nested) && self.fits(rule))
    }

    /// What is not left of these, where so much of what is taken is there for whoever wants them.
    pub(super) fn lacks(&self, wanted: &Resources, passed_on: &Resources) -> Resources {
        self.resources.minus(passed_on).plus(wanted).minus(&self.spec.resources).min(wanted)
    }

    /// A run takes these.
    pub(super) fn take(&mut self, memory: u64, resources: &Resources) {
        self.memory += memory;
        if !resources.is_empty() {
            self.resources = self.resources.plus(resources);
        }
    }

    /// A run has ended that took these.
    pub(super) fn give_back(&mut self, memory: u64, resources: &Resources) {
        self.memory -= memory;
        if !resources.is_empty() {
            self.resources = self.resources.minus(resources);
        }
    }

    /// Takes in a value that a task has left with it.
    pub(super) fn hold(&mut self, bytes: u64, claimed: bool) {
        self.held_values += 1;
        self.held_bytes += bytes;
        self.claimed_bytes += if claimed { bytes } else { 0 };
    }

    /// A value is no longer there.
    pub(super) fn let_go(&mut self, bytes: u64, claimed: bool) {
        self.held_values -= 1;
        self.held_bytes -= bytes;
        self.claimed_bytes -= if claimed { bytes } else { 0 };
    }

    /// How many more tasks without inputs fit that leave so many bytes each, beside what is there and what the tasks in
    /// flight are expected to leave: as much, where nothing was known when they were sent. Where nothing is known of
    /// `bytes` either, only what is there counts.
    ///
    /// A worker with nothing to do gets one all the same where waiting would not make room: nothing runs anywhere (`calm`)
    /// that could use up results, or hardly any are there but those that stay.
    pub(super) fn sources(&self, bytes: u64, share: f64, calm: bool) -> u32 {
        let Some(limit) = self.spec.memory_limit else { return u32::MAX };
        let there = self.held_bytes.saturating_sub(self.spilled);
        let room = ((limit as f64 * share) as u64).saturating_sub(there);
        let hopeless = calm || there.saturating_sub(self.claimed_bytes) < bytes.max(1);
        let idle = u32::from(self.busy() == 0 && self.incoming.is_empty() && hopeless);
        let coming = bytes.saturating_mul(self.flight.unknown.into()).saturating_add(self.flight.leaves);
        match room.saturating_sub(coming).checked_div(bytes) {
            Some(n) => u32::try_from(n).unwrap_or(u32::MAX).max(idle),
            None if room > 0 => u32::MAX,
            None => idle,
        }
    }

    /// When it is to have no new tasks, because a cancelled one has gone on for half of its time: so that others can finish
    /// before that is over.
    pub(super) fn deaf_at(&self, grace: Duration) -> Option<Duration> {
        // What its tasks wait for may have nowhere else to run.
        if self.leaving != Leaving::No || self.blocked > 0 || self.killed {
            return None;
        }
        self.zombies.iter().filter_map(|z| Some(z.kill_at?.saturating_sub(grace / 2))).min()
    }

    /// Whether nothing runs there that it is to wait for.
    pub(super) fn is_drained(&self) -> bool {
        self.flight.len() == 0 && (self.deaf || self.zombies.is_empty())
    }

    /// It stays, as far as cancelled tasks are concerned.
    pub(super) fn stay_if_deaf(&mut self) {
        if self.deaf && matches!(self.leaving, Leaving::Draining { .. }) {
            self.leaving = Leaving::No;
            self.deaf = false;
        }
    }

    pub(super) fn start_grace(&mut self, now: Duration, grace: Duration) {
        for zombie in &mut self.zombies {
            zombie.kill_at.get_or_insert(now.saturating_add(grace));
        }
    }

    /// The order matters: what a cancelled run was to use may be dropped after it, and what is dropped must not be the
    /// result of a run sent after it.
    pub(super) fn flush(&mut self, out: &mut Vec<Command>) {
        let worker = self.id;
        let outbox = &mut self.outbox;
        let mut list = |tasks: &mut Vec<TaskId>, make: fn(WorkerId, Vec<TaskId>) -> Command| {
            if !tasks.is_empty() {
                out.push(make(worker, std::mem::take(tasks)));
            }
        };
        list(&mut outbox.cancel, |worker, tasks| Command::Cancel { worker, tasks });
        list(&mut outbox.fetch, |worker, tasks| Command::Fetch { worker, tasks });
        list(&mut outbox.drop, |worker, tasks| Command::Drop { worker, tasks });
        if !outbox.share.is_empty() {
            out.push(Command::Share { worker, values: std::mem::take(&mut outbox.share) });
        }
        if !outbox.run.is_empty() {
            out.push(Command::Run { worker, tasks: std::mem::take(&mut outbox.run) });
        }
        if !outbox.retract.is_empty() {
            out.push(Command::Retract { worker, tasks: std::mem::take(&mut outbox.retract) });
        }
        if std::mem::take(&mut outbox.kill) {
            out.push(Command::Kill { worker, cause: DeathCause::CancelIgnored });
        }
        if std::mem::take(&mut outbox.retire) {
            out.push(Command::Retire { worker });
        }
    }
}

/// All live workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    workers: Vec<Option<Worker>>,
    by_id: FxHashMap<WorkerId, WorkerIndex>,
}

impl Workers {
    pub(super) fn find(&self, id: WorkerId) -> Option<WorkerIndex> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, worker: WorkerIndex) -> Option<&Worker> {
        self.workers.get(worker.0 as usize)?.as_ref()
    }

    pub(super) fn insert(&mut self, id: WorkerId, spec: WorkerSpec, now: Duration) {
        let at = self.workers.iter().position(Option::is_none).unwrap_or(self.workers.len());
        let index = WorkerIndex(u16::try_from(at).expect("no machine runs 65535 workers"));
        if at == self.workers.len() {
            self.workers.push(None);
        }
        self.workers[at] = Some(Worker::new(id, spec, now));
        self.by_id.insert(id, index);
    }

    pub(super) fn remove(&mut self, index: WorkerIndex) {
        if let Some(worker) = self.workers[index.0 as usize].take() {
            self.by_id.remove(&worker.id);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.workers.iter_mut().flatten()
    }

    /// All live workers with their indices, in order.
    pub(super) fn with_index(&self) -> impl Iterator<Item = (WorkerIndex, &Worker)> {
        self.workers.iter().enumerate().filter_map(|(i, w)| Some((WorkerIndex(i as u16), w.as_ref()?)))
    }
}

impl Index<WorkerIndex> for Workers {
    type Output = Worker;
    #[inline]
    fn index(&self, worker: WorkerIndex) -> &Worker {
        self.workers[worker.0 as usize].as_ref().expect("states name live workers")
    }
}

impl IndexMut<WorkerIndex> for Workers {
    #[inline]
    fn index_mut(&mut self, worker: WorkerIndex) -> &mut Worker {
        self.workers[worker.0 as usize].as_mut().expect("states name live workers")
    }
}
