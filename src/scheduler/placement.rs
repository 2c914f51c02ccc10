//! Which worker runs what.

use super::job::{State, TaskRef, flag};
use super::ready::{Isolation, Rule};
use super::values::TaskValue;
use super::worker::{Worker, WorkerIndex};
use super::{RunTask, Scheduler};
use crate::fairness::{Place, Rank, Turn, Walk, last_of, urgency};
use crate::ipc::payload::Payload;
use crate::job::Input;
use crate::resources::Resources;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::time::Duration;

/// The next ready tasks of the lanes of a group: index and lane.
pub(super) type Heads = BinaryHeap<Reverse<(u32, u32)>>;

/// So long nothing runs although tasks are ready, until isolated ones are let in beside those that wait: what these have waited
/// for may be done, and the word of that be on its way.
const STUCK: Duration = Duration::from_millis(20);

/// Most tasks without inputs that go to one worker in a row.
const MAX_BATCH: u32 = 512;
/// A transfer costs this many nanoseconds, besides what its bytes do.
const TRANSFER: u64 = 100_000;
/// So many bytes of a shared buffer are mapped in a nanosecond.
const MAPPED: u64 = 64;
/// What it costs to run a task away from where its small inputs were made, in nanoseconds: waking another process.
const AWAY: u64 = 20_000;

/// Tasks next to each other that go to one worker.
struct Stretch {
    worker: WorkerIndex,
    left: u32,
    lane: u32,
    /// What each is expected to leave with the worker.
    leaves: u64,
}

impl Default for Stretch {
    fn default() -> Self {
        Self { worker: WorkerIndex::NONE, left: 0, lane: 0, leaves: 0 }
    }
}

/// Why no more tasks of a group are placed. Its last lane, where there may be others behind it.
enum GroupEnd {
    /// It has started as many as it may in a row.
    TurnOver,
    /// Nothing is left of it that has room anywhere, but others may find some.
    Nothing(Place),
    NoRoom(Place),
}

/// What is to be sent to a worker before a task can run there.
#[derive(Clone, Copy, Default)]
pub(super) struct Transfer {
    bytes: u64,
    /// Nanoseconds that its bytes take.
    time: u64,
}

impl Transfer {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.time += other.time;
    }

    fn without(self, other: Self) -> Self {
        Self { bytes: self.bytes - other.bytes, time: self.time - other.time }
    }

    pub(super) fn cost(self) -> u64 {
        if self.bytes == 0 { 0 } else { TRANSFER + self.time }
    }
}

impl Scheduler {
    /// Hands out ready tasks, lane by lane, until there is no room.
    pub(super) fn place_all(&mut self) {
        let mut accepting = 0;
        self.exclusive = false;
        let jobs = &self.jobs;
        for w in self.workers.iter_mut() {
            w.incoming.retain(|r| jobs.state_of(*r) == Some(State::Fetching));
            w.reserved = false;
            w.awaited = Resources::default();
            w.clearing = false;
            w.awaited_by = None;
            accepting += u32::from(w.accepting());
            self.exclusive |= w.exclusive > 0 && w.busy() > 0;
        }
        self.held_up = false;
        if accepting == 0 {
            (self.stuck_since, self.held_up_since) = (None, None);
            return;
        }
        self.calm = self.workers.iter().all(|w| w.busy() == 0 && w.incoming.is_empty());
        self.others_had_their_turn = false;
        self.place_in_turn(accepting);
        let stuck = self.calm && self.ready.total > 0;
        self.stuck_since = stuck.then(|| self.stuck_since.unwrap_or(self.now));
        self.held_up_since = self.held_up.then(|| self.held_up_since.unwrap_or(self.now));
        if self.ready.suspects + self.ready.culprits > 0 || self.is_stuck() || self.was_held_up() {
            self.others_had_their_turn = true;
            self.place_in_turn(accepting);
        }
        self.recall();
    }

    /// When what waits is taken to wait for what is not let in beside it.
    fn stuck_at(&self) -> Option<Duration> {
        Some(self.stuck_since? + STUCK)
    }

    /// When what has found no room is looked at again, though nothing has ended.
    pub(super) fn retried_at(&self) -> Option<Duration> {
        let times = self.stuck_at().into_iter().chain(self.held_up_until());
        times.filter(|at| *at > self.now).min()
    }

    fn is_stuck(&self) -> bool {
        self.stuck_at().is_some_and(|at| at <= self.now)
    }

    fn place_in_turn(&mut self, accepting: u32) {
        let mut heads = std::mem::take(&mut self.heads);
        let mut walk = Walk::default();
        while let Some(turn) = self.ready.order.next(&mut walk) {
            if self.expect(turn.place) {
                continue;
            }
            let (started, end) = self.place_group(&turn, accepting, &mut heads);
            self.ready.order.started(&turn, started);
            match end {
                GroupEnd::TurnOver => {}
                GroupEnd::Nothing(last) => walk.pass(&turn, last),
                // What overtakes others may find room yet.
                GroupEnd::NoRoom(last) if turn.is_of_oldest() => walk.pass(&turn, last),
                GroupEnd::NoRoom(_) => break,
            }
        }
        self.heads = heads;
    }

    /// Looks again what the tasks of a job are likely to take of which none has run. Whether it is in another level for that.
    fn expect(&mut self, place: Place) -> bool {
        let job = &mut self.jobs[place.job];
        if job.estimate > 0 {
            return false;
        }
        job.estimate = self.run_times.of(&job.spec, job.first);
        job.estimate > 0 && job.expect(&mut self.ready)
    }

    /// Places ready tasks of one job and priority, from the lowest index up; a lane that no worker has room for is left.
    /// Says how many.
    fn place_group(&mut self, turn: &Turn, accepting: u32, heads: &mut Heads) -> (u32, GroupEnd) {
        let first = turn.place;
        // One that has its turn before others waits in no queue until they are through.
        let rank = if turn.is_of_oldest() { turn.rank } else { first.rank() };
        let mut last = first;
        let mut next = Some(first);
        while let Some(place) = next.filter(|place| place.is_beside(&first)) {
            last = place;
            match self.jobs[place.job].next_ready(place.lane) {
                Some(index) => heads.push(Reverse((index, place.lane))),
                None => self.unlist(place),
            }
            next = self.ready.order.after(place);
        }
        // Tasks without inputs go to workers in stretches, so that neighbours meet.
        let mut stretch = Stretch::default();
        let mut started = 0;
        loop {
            if started == turn.most {
                self.put_all_back(first.job, heads);
                return (started, GroupEnd::TurnOver);
            }
            let Some(mut head) = heads.peek_mut() else { return (started, GroupEnd::Nothing(last)) };
            let Reverse((index, lane)) = *head;
            let r = TaskRef { job: first.job, index };
            let mut worker = self.pick(r, lane, accepting, turn.rank, &mut stretch);
            if worker.is_none() && turn.is_of_oldest() {
                worker = self.queue_up(r, lane, turn.rank);
            }
            if let Some(worker) = worker {
                self.assign(r, worker, rank);
                started += 1;
                match self.jobs[first.job].next_ready(lane) {
                    Some(index) => *head = Reverse((index, lane)),
                    None => {
                        PeekMut::pop(head);
                        self.unlist(Place { lane, ..first });
                    }
                }
                continue;
            }
            PeekMut::pop(head);
            self.jobs[first.job].lanes[lane as usize].put_back(index);
            let job = &self.jobs[first.job];
            let rule = job.lanes[lane as usize].rule.clone();
            // Whether it is the memory for its result that is short, which what comes later may free.
            let would_leave_too_much = || {
                let source = job.dep_range(index).is_empty();
                source && self.least_loaded(rule.as_deref(), job.estimate, None, turn.rank).is_some()
            };
            match &rule {
                Some(rule) if rule.is_isolated() => self.clear(rule),
                Some(rule) => {
                    if !would_leave_too_much() {
                        self.reserve(rule);
                        self.keep_queues_for(Some(rule), rank);
                    }
                    self.held_up |= rule.nested && !rule.resources.is_empty() && {
                        let open = self.workers.with_index().filter(|(_, w)| w.accepting() && rule.allows(&w.spec));
                        open.map(|(worker, _)| worker).any(|worker| self.is_held_up(worker, rule))
                    };
                }
                // No thread is free anywhere, so everything later can wait too.
                None => {
                    let go_on = would_leave_too_much();
                    self.put_all_back(first.job, heads);
                    if !go_on {
                        self.keep_queues_for(None, rank);
                    }
                    return (started, if go_on { GroupEnd::Nothing(last) } else { GroupEnd::NoRoom(last) });
                }
            }
        }
    }

    fn put_all_back(&mut self, job: u32, heads: &mut Heads) {
        for Reverse((index, lane)) in heads.drain() {
            self.jobs[job].lanes[lane as usize].put_back(index);
        }
    }

    fn unlist(&mut self, place: Place) {
        self.jobs[place.job].lanes[place.lane as usize].listed = false;
        self.ready.order.remove(&place);
    }

    fn pick(&self, r: TaskRef, lane: u32, accepting: u32, rank: Rank, stretch: &mut Stretch) -> Option<WorkerIndex> {
        let job = &self.jobs[r.job];
        let rule = job.lanes[lane as usize].rule.as_deref();
        if !job.dep_range(r.index).is_empty() {
            return self.choose(r, rule, rank);
        }
        let leaves = self.leaves(r);
        if stretch.left == 0
            || (stretch.lane, stretch.leaves) != (lane, leaves)
            || rule.is_some_and(|rule| !self.has_room(&self.workers[stretch.worker], rule))
        {
            let (worker, left) = self.next_stretch(rule, (job.estimate, rank), leaves, accepting)?;
            *stretch = Stretch { worker, left, lane, leaves };
        }
        stretch.left -= 1;
        Some(stretch.worker)
    }

    /// The worker where a task would wait least, though it must wait. Where short tasks keep coming no thread would ever be
    /// free for a long one.
    fn queue_up(&self, r: TaskRef, lane: u32, rank: Rank) -> Option<WorkerIndex> {
        let job = &self.jobs[r.job];
        let rule = job.lanes[lane as usize].rule.as_deref();
        let source = job.dep_range(r.index).is_empty();
        let candidates = self.workers.with_index().filter(|(worker, w)| {
            let timed = rule.is_some_and(|rule| rule.timed);
            let open = !timed && w.can_queue(rank) && self.usable(*worker, rule).is_some();
            open && (!source || self.sources(w, self.leaves(r)) > 0)
        });
        candidates.min_by_key(|(_, w)| w.wait()).map(|(worker, _)| worker)
    }

    /// The next worker for tasks that could run anywhere, and how many of them.
    fn next_stretch(
        &self,
        rule: Option<&Rule>,
        (estimate, rank): (u32, Rank),
        leaves: u64,
        accepting: u32,
    ) -> Option<(WorkerIndex, u32)> {
        let worker = self.least_loaded(rule, estimate, Some(leaves), rank)?;
        let w = &self.workers[worker];
        let room = w.room(estimate, rule.is_some_and(|rule| rule.timed), self.config.prefetch, rank);
        let ready = self.ready.total.min(u32::MAX as usize) as u32;
        let batch = (ready / (2 * accepting)).clamp(1, MAX_BATCH);
        if rule.is_some_and(Rule::is_isolated) {
            return Some((worker, 1));
        }
        let share = w.free_threads().min(ready.div_ceil(accepting));
        let room = room.min(self.sources(w, leaves));
        Some((worker, room.min(batch.max(share)).max(1)))
    }

    /// How many more tasks without inputs that leave so many bytes each a worker may get.
    pub(super) fn sources(&self, w: &Worker, bytes: u64) -> u32 {
        w.sources(bytes, self.config.source_share, self.calm)
    }

    pub(super) fn usable(&self, worker: WorkerIndex, rule: Option<&Rule>) -> Option<&Worker> {
        let w = self.workers.get(worker)?;
        let let_in = |rule: &Rule| self.others_had_their_turn && self.was_held_up() && self.is_held_up(worker, rule);
        let allowed = rule.is_none_or(|rule| rule.allows(&w.spec) && (self.has_room(w, rule) || let_in(rule)));
        let isolation = rule.map_or(Isolation::None, |rule| rule.isolation);
        let company = match isolation {
            _ if self.exclusive => false,
            Isolation::None | Isolation::Worker => true,
            Isolation::Suspect | Isolation::Culprit => self.lets_in(isolation),
            Isolation::Cluster => self.workers.iter().all(Worker::is_idle),
        };
        (company && w.accepting() && allowed && w.admits(rule, self.others_had_their_turn && self.is_stuck()))
            .then_some(w)
    }

    /// The worker with a thread or room in its queue that would begin a task first. A task without inputs is to find room
    /// for what it leaves, too.
    fn least_loaded(&self, rule: Option<&Rule>, estimate: u32, leaves: Option<u64>, rank: Rank) -> Option<WorkerIndex> {
        let timed = rule.is_some_and(|rule| rule.timed);
        let mut best: Option<(u64, u32, WorkerIndex)> = None;
        for (worker, _) in self.workers.with_index() {
            let Some(w) = self.usable(worker, rule) else { continue };
            if w.room(estimate, timed, self.config.prefetch, rank) == 0
                || leaves.is_some_and(|bytes| self.sources(w, bytes) == 0)
            {
                continue;
            }
            let (wait, free) = (w.wait_of(rank), w.free_threads());
            if best.is_none_or(|(least, most, _)| wait < least || (wait == least && free > most)) {
                best = Some((wait, free, worker));
            }
        }
        best.map(|(_, _, worker)| worker)
    }

    /// The worker where a task with inputs would be done first: waiting for a thread, and for what must be moved there.
    fn choose(&self, r: TaskRef, rule: Option<&Rule>, rank: Rank) -> Option<WorkerIndex> {
        let job = &self.jobs[r.job];
        let estimate = job.estimate;
        let mut held: SmallVec<[(WorkerIndex, Transfer); 4]> = SmallVec::new();
        let mut total = Transfer::default();
        let mut last = WorkerIndex::NONE;
        if !job.tasks[r.index as usize].has(flag::ROAMS) {
            for &dep in job.spec.deps(r.index) {
                let target = job.resolve(dep);
                let owner = &self.jobs[target.job];
                let State::Done { value, last: at } = owner.state(target.index) else { continue };
                if last == WorkerIndex::NONE {
                    last = at;
                }
                let value = &owner.values[value];
                if value.payload.is_none() {
                    let transfer = self.transfer_of(value, job.users_of(dep, owner));
                    total.add(transfer);
                    match held.iter_mut().find(|(worker, _)| *worker == value.holder) {
                        Some((_, there)) => there.add(transfer),
                        None => held.push((value.holder, transfer)),
                    }
                }
            }
        }
        let timed = rule.is_some_and(|rule| rule.timed);
        let most = held.iter().max_by_key(|(_, there)| there.bytes).map_or(WorkerIndex::NONE, |(worker, _)| *worker);
        if (most == last || most == WorkerIndex::NONE) && held.len() <= 1 {
            // The usual case, in which nowhere else can be better.
            if self.usable(last, rule).is_some_and(|w| w.free_threads() > 0) {
                return Some(last);
            }
        }
        let least = self.least_loaded(rule, estimate, None, rank);
        let mut best: Option<(u64, WorkerIndex)> = None;
        for worker in [most, last].into_iter().chain(least) {
            let Some(w) = self.usable(worker, rule) else { continue };
            // Where the bulk of its inputs lies it may queue up, if the wait is shorter than the transfer elsewhere.
            let queue_up = worker == most && least.is_some() && !timed && w.can_queue(rank);
            if !queue_up && w.room(estimate, timed, self.config.prefetch, rank) == 0 {
                continue;
            }
            let here = held.iter().find(|(at, _)| *at == worker).map_or(Transfer::default(), |(_, there)| *there);
            let cost = w.wait_of(rank) + total.without(here).cost() + if worker == last { 0 } else { AWAY };
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, worker));
            }
        }
        best.map(|(_, worker)| worker)
    }

    /// Lets one worker run out of work, or all, for a task that no other is to run beside.
    fn clear(&mut self, rule: &Rule) {
        match rule.isolation {
            Isolation::Suspect | Isolation::Culprit if !self.lets_in(rule.isolation) => return,
            Isolation::Cluster => {
                let to_clear = self.workers.iter_mut().filter(|w| !w.waits_alone());
                return to_clear.for_each(|w| w.clearing = true);
            }
            _ => {}
        }
        // One that has nothing to do has no room for it for another reason, which others may end.
        let may_be_cleared =
            |w: &&mut Worker| w.accepting() && !w.is_idle() && !w.waits_alone() && rule.allows(&w.spec);
        let candidates = self.workers.iter_mut().filter(may_be_cleared);
        if let Some(w) = candidates.min_by_key(|w| (!w.clearing, w.in_flight())) {
            w.clearing = true;
        }
    }

    /// Sends a ready task, or first for those of its inputs that lie elsewhere.
    fn assign(&mut self, r: TaskRef, worker: WorkerIndex, rank: Rank) {
        self.calm = false;
        if self.others_had_their_turn {
            // Whoever waits for this one goes on before another is let in.
            self.held_up_since = self.held_up_since.map(|_| self.now);
        }
        if !self.jobs[r.job].dep_range(r.index).is_empty() && self.fetch_inputs(r, worker) {
            self.jobs[r.job].set(r.index, State::Fetching, &mut self.ready);
            self.workers[worker].incoming.push(r);
            return;
        }
        self.send(r, worker, 0, rank);
        self.send_follower(r, worker);
    }

    /// Sends a task, ahead of so many of its inputs; into a queue it goes by its rank.
    pub(super) fn send(&mut self, r: TaskRef, worker: WorkerIndex, ahead: u8, rank: Rank) {
        let inputs = self.inputs_of(r, worker, ahead == 0);
        let leaves = self.leaves(r);
        let job = &mut self.jobs[r.job];
        let w = &mut self.workers[worker];
        if w.free_threads() > 0 {
            w.progress = self.now;
        }
        w.ahead += u32::from(ahead > 0);
        w.futile = false;
        let in_queue = if w.overtakes(rank) { rank } else { last_of(rank) };
        w.least_urgent = w.least_urgent.max(urgency(rank));
        let estimate = w.estimate(job.estimate, self.config.prefetch);
        let seq = w.flight.push(r, estimate, leaves, rank);
        self.ready.order.begin(job.program, estimate);
        job.set(r.index, State::Assigned { worker, seq, ahead }, &mut self.ready);
        let task = &mut job.tasks[r.index as usize];
        task.attempt = task.attempt.wrapping_add(1);
        task.put(flag::ROAMS, false);
        let task = *task;
        if task.has(flag::LANED) {
            let (memory, resources) = job.takes(r.index);
            w.take(memory, &resources);
            if let Some(limit) = job.time_limit(r.index) {
                w.deadlines.push((self.now.saturating_add(limit), r));
            }
        }
        let isolation = job.isolation(r.index);
        let deaths = if job.deaths.is_empty() { None } else { job.deaths.get(&r.index) };
        let (suspect, of_result) = (deaths.is_some(), deaths.is_some_and(|deaths| deaths.of_result));
        w.enter(isolation);
        self.suspect_was_last = isolation.is_of_suspects();
        self.exclusive |= isolation == Isolation::Cluster;
        let parts = if task.has(flag::MAKER) { job.wanted_parts(r.index) } else { Vec::new() };
        w.outbox.run.push(RunTask {
            id: job.task_id(r.index),
            spec: job.spec.clone(),
            attempt: task.attempt,
            deliver: task.has(flag::WANTED) || of_result,
            alone: isolation >= Isolation::Worker,
            suspect,
            rank: in_queue,
            parts,
            inputs,
        });
    }

    /// Asks for the inputs that neither this worker nor the supervisor has. False if there are none.
    fn fetch_inputs(&mut self, r: TaskRef, worker: WorkerIndex) -> bool {
        let mut some = false;
        for k in self.jobs[r.job].dep_range(r.index) {
            let job = &self.jobs[r.job];
            let target = job.resolve(job.spec.deps[k]);
            let owner = &self.jobs[target.job];
            let State::Done { value, .. } = owner.state(target.index) else { continue };
            let value = &owner.values[value];
            if value.payload.is_none() && value.holder != worker {
                self.fetch(target);
                some = true;
            }
        }
        some
    }

    /// What a task is sent of its inputs. A value may be lent to it if it is sure to run.
    fn inputs_of(&mut self, r: TaskRef, worker: WorkerIndex, sure: bool) -> Vec<Input> {
        let range = self.jobs[r.job].dep_range(r.index);
        let mut inputs = Vec::with_capacity(range.len());
        let may_take = sure && !range.is_empty() && self.jobs[r.job].retries(r.index) == 0;
        for k in range {
            let job = &self.jobs[r.job];
            let target = job.resolve(job.spec.deps[k]);
            let owner = &mut self.jobs[target.job];
            let id = owner.task_id(target.index);
            let payload = match owner.state(target.index) {
                State::Done { value: at, last } => {
                    let sole = may_take && target.job == r.job && owner.tasks[target.index as usize].uses == 1;
                    let value = &mut owner.values[at];
                    match &value.payload {
                        // The store's own copy costs nothing to use.
                        Some(payload) if value.holder != worker => payload.clone(),
                        payload => {
                            let take = sole && payload.is_none() && !value.exporting;
                            if take {
                                value.taker = r.index;
                                owner.set(target.index, State::Lent { value: at, last }, &mut self.ready);
                            }
                            inputs.push(Input::Held { id, take });
                            continue;
                        }
                    }
                }
                State::Data { entry } => owner.spec.data[entry as usize].1.clone(),
                State::Assigned { .. } => {
                    inputs.push(Input::Pending { id });
                    continue;
                }
                // A ready task has all its inputs.
                _ => Payload::default(),
            };
            inputs.push(self.give(r.job, k, payload, worker));
        }
        inputs
    }

    /// What it takes each of `users` to have a held value sent to them: it is sent once, for all of them.
    fn transfer_of(&self, value: &TaskValue, users: u32) -> Transfer {
        let holder = &self.workers[value.holder];
        let shared = value.nbytes.saturating_sub(value.encoded);
        // Which of its values a worker has on disk is not known. Those are read and written again to be sent.
        let on_disk = match holder.spilled {
            0 => 0,
            spilled => (shared as f64 * (spilled as f64 / holder.held_bytes as f64).min(1.0)) as u64,
        };
        let time = self.sending_rate.time(value.encoded + on_disk) / u64::from(users.max(1)) + shared / MAPPED;
        Transfer { bytes: value.nbytes, time }
    }

    /// What of a task's inputs only this worker has.
    pub(super) fn only_there(&self, r: TaskRef, worker: WorkerIndex) -> Transfer {
        let job = &self.jobs[r.job];
        let mut there = Transfer::default();
        for &dep in job.spec.deps(r.index) {
            let target = job.resolve(dep);
            let owner = &self.jobs[target.job];
            if let State::Done { value, .. } | State::Lent { value, .. } = owner.state(target.index)
                && let value = &owner.values[value]
                && value.holder == worker
                && value.payload.is_none()
            {
                there.add(self.transfer_of(value, job.users_of(dep, owner)));
            }
        }
        there
    }
}
