//! Every invariant, derived again from scratch. For tests: it takes time in proportion to everything there is.

use super::Scheduler;
use super::job::{KINDS, State, TaskRef, flag};
use super::worker::Slot;
use crate::protocol::EXTERNAL;
use std::collections::{HashMap, HashSet};

impl Scheduler {
    /// Panics with a clear text if anything in the state contradicts anything else.
    pub(crate) fn validate(&self) {
        assert!(self.work.is_empty() && self.restart.is_empty(), "work lists are empty between events");
        assert!(self.leaving.is_empty(), "jobs that can go have gone");
        let mut uses: HashMap<(u32, u32), u32> = HashMap::new();
        let mut refs: HashMap<u32, u32> = HashMap::new();
        for job in self.jobs.iter() {
            for (at, link) in job.links.iter().enumerate() {
                *refs.entry(link.target.job).or_default() += 1;
                let users = self.jobs[link.target.job].users.get(&link.target.index);
                assert!(
                    users.is_some_and(|u| u.contains(&(job.slot, at as u32))),
                    "{:?}: link {at} is unknown to its owner",
                    job.id
                );
                let mut users_here = 0;
                for index in 0..job.tasks.len() as u32 {
                    let uses_it = job.spec.deps(index).contains(&(at as u32 | EXTERNAL));
                    users_here += u32::from(uses_it && job.state(index).active());
                }
                assert_eq!(link.uses, users_here, "{:?}: uses of link {at}", job.id);
                *uses.entry((link.target.job, link.target.index)).or_default() += u32::from(link.uses > 0);
            }
            for index in 0..job.tasks.len() as u32 {
                if job.state(index).active() {
                    for &dep in job.spec.deps(index) {
                        if dep & EXTERNAL == 0 {
                            *uses.entry((job.slot, dep)).or_default() += 1;
                        }
                    }
                }
                if job.tasks[index as usize].has(flag::CLAIMED) {
                    *uses.entry((job.slot, index)).or_default() += 1;
                }
            }
        }
        let mut held: HashMap<u16, (u64, u64, u32)> = HashMap::new();
        for job in self.jobs.iter() {
            let outside = refs.get(&job.slot).copied().unwrap_or(0);
            assert_eq!(job.refs, outside, "{:?}: references from other jobs", job.id);
            self.validate_job(job.slot, &uses, &mut held);
        }
        self.validate_ready();
        self.validate_workers(&held);
    }

    fn validate_job(
        &self,
        slot: u32,
        uses: &HashMap<(u32, u32), u32>,
        held: &mut HashMap<u16, (u64, u64, u32)>,
    ) {
        let job = &self.jobs[slot];
        let mut counts = [0; KINDS];
        let mut claims = 0;
        let mut exporting = 0;
        for index in 0..job.tasks.len() as u32 {
            let task = &job.tasks[index as usize];
            let id = job.task_id(index);
            let state = task.state;
            counts[state.kind()] += 1;
            claims += u32::from(task.has(flag::CLAIMED));
            let expected = uses.get(&(slot, index)).copied().unwrap_or(0);
            assert_eq!(task.uses, expected, "{id}: uses ({state:?})");
            assert_eq!(task.has(flag::SHARED), job.users.contains_key(&index), "{id}: SHARED");
            let zombies: usize = self.workers.iter().map(|w| w.zombies.iter().filter(|z| z.id == id).count()).sum();
            assert_eq!(usize::from(task.has(flag::ZOMBIE)), zombies, "{id}: zombies");

            let r = TaskRef { job: slot, index };
            let (missing, failed) = self.lacks(r);
            match state {
                State::Waiting { missing: counted } => {
                    assert!(missing > 0, "{id} waits for nothing");
                    assert_eq!(counted, missing, "{id}: missing inputs");
                }
                State::Ready | State::Fetching => assert_eq!(missing, 0, "{id} is {state:?} without its inputs"),
                State::Assigned { worker, seq } => {
                    let w = self.workers.get(worker).unwrap_or_else(|| panic!("{id} is with a dead worker"));
                    assert_eq!(w.flight.at(seq), Some(r), "{id}: place in the flight list");
                    assert!(!task.has(flag::ZOMBIE), "{id} is in flight twice");
                }
                State::Done { value, .. } | State::Lent { value, .. } => {
                    let value = &job.values[value];
                    assert_eq!(value.owner, index, "{id}: owner of its value");
                    assert!(value.payload.is_some() || value.holder != Slot::NONE, "{id}: value is nowhere");
                    assert!(task.uses > 0 || value.exporting, "{id}: nobody needs the value");
                    if value.holder != Slot::NONE {
                        assert!(self.workers.get(value.holder).is_some(), "{id}: held by a dead worker");
                        let entry = held.entry(value.holder.0).or_default();
                        entry.0 += 1;
                        entry.1 += value.nbytes;
                        entry.2 += u32::from(value.exporting);
                    }
                    exporting += u32::from(value.exporting);
                    if let State::Lent { .. } = state {
                        assert!(value.payload.is_none() && !value.exporting, "{id}: lent, but also elsewhere");
                        let taker = job.state(value.taker);
                        let State::Assigned { worker, .. } = taker else { panic!("{id}: lent to {taker:?}") };
                        assert_eq!(worker, value.holder, "{id}: lent to a task on another worker");
                    }
                }
                State::Idle | State::Released => assert_eq!(task.uses, 0, "{id}: needed, but nobody computes it"),
                State::Data { .. } | State::Failed { .. } => {}
            }
            if state == State::Fetching {
                assert!(self.awaits_transfer(r), "{id} waits for no transfer");
            }
            if state.pending() {
                assert!(failed.is_none(), "{id} waits, but an input has failed");
                assert!(
                    job.lanes[job.lane_of(index) as usize].infeasible.is_none(),
                    "{id} waits, but no worker can ever run it"
                );
            }
            if task.has(flag::WANTED) {
                assert!(task.has(flag::CLAIMED), "{id}: wanted without a claim");
                let owed = match state {
                    State::Done { value, .. } => job.values[value].exporting,
                    state => state.active(),
                };
                assert!(owed, "{id}: a delivery is owed and nothing is done about it ({state:?})");
            } else if task.has(flag::CLAIMED) && !state.active() {
                assert!(task.has(flag::TOLD), "{id}: ended, and the session has not heard ({state:?})");
            }
        }
        assert_eq!(job.counts, counts, "{:?}: counts", job.id);
        assert_eq!(job.claims, claims, "{:?}: claims", job.id);
        assert_eq!(job.exporting, exporting, "{:?}: fetches under way", job.id);
        assert!(job.claims + job.refs + job.exporting > 0, "{:?}: nobody needs this job", job.id);
        let owned = job.values.iter().filter(|(at, value)| match job.state(value.owner) {
            State::Done { value, .. } | State::Lent { value, .. } => value == *at,
            _ => false,
        });
        assert_eq!(owned.count(), job.values.iter().count(), "{:?}: values without a task", job.id);
        self.validate_lanes(slot);
    }

    fn validate_lanes(&self, slot: u32) {
        let job = &self.jobs[slot];
        let mut ready = vec![0; job.lanes.len()];
        let mut ahead = vec![0; job.lanes.len()];
        for index in (0..job.tasks.len() as u32).filter(|&i| job.state(i) == State::Ready) {
            let at = job.lane_of(index) as usize;
            let lane = &job.lanes[at];
            ready[at] += 1;
            if index >= lane.bound() {
                ahead[at] += 1;
            } else {
                let found = lane.behind.iter().any(|std::cmp::Reverse(i)| *i == index);
                assert!(found, "{}: ready, but not to be found", job.task_id(index));
            }
        }
        for (at, lane) in job.lanes.iter().enumerate() {
            assert_eq!((lane.ready, lane.ahead), (ready[at], ahead[at]), "{:?}: ready tasks of lane {at}", job.id);
            let listed = self.ready.lanes.contains(&job.lane_key(at as u32));
            assert_eq!(lane.listed, listed, "{:?}: listing of lane {at}", job.id);
            assert!(lane.listed || lane.ready == 0, "{:?}: lane {at} is ready and not listed", job.id);
        }
    }

    fn validate_ready(&self) {
        let ready: u32 = self.jobs.iter().map(|j| j.counts[State::Ready.kind()]).sum();
        assert_eq!(self.ready.total, ready as usize, "ready tasks of all jobs");
        for key in &self.ready.lanes {
            assert!(self.jobs.is_live(key.job), "a lane of a job that is gone");
            assert_eq!(self.jobs[key.job].seq, key.seq, "a lane of a job that is gone");
        }
    }

    fn validate_workers(&self, held: &HashMap<u16, (u64, u64, u32)>) {
        for (slot, w) in self.workers.slots() {
            let name = &w.spec.name;
            assert_eq!(self.workers.find(w.id), Some(slot), "{name}: found by its id");
            let mut memory: u64 = w.zombies.iter().map(|z| z.memory).sum();
            let mut timed = 0;
            let mut seen = HashSet::new();
            for r in w.flight.iter() {
                let job = &self.jobs[r.job];
                assert!(seen.insert((r.job, r.index)), "{name}: a task is in flight twice");
                let here = matches!(job.state(r.index), State::Assigned { worker, .. } if worker == slot);
                assert!(here, "{name}: {} is in the flight list only", job.task_id(r.index));
                memory += job.memory(r.index);
                timed += usize::from(job.options(r.index).is_some_and(|o| o.timeout_ms.is_some()));
            }
            assert_eq!(w.flight.len() as usize, seen.len(), "{name}: tasks in flight");
            assert_eq!(w.memory, memory, "{name}: memory asked for");
            assert_eq!(w.deadlines.len(), timed, "{name}: deadlines");
            assert!(w.blocked <= w.in_flight(), "{name}: more blocked than running");
            let (values, bytes, exporting) = held.get(&slot.0).copied().unwrap_or_default();
            assert_eq!((w.held_values, w.held_bytes), (values, bytes), "{name}: held values");
            assert_eq!(w.exporting, exporting, "{name}: fetches under way");
            if let Some(limit) = w.spec.memory_limit {
                assert!(w.memory <= limit, "{name}: more memory promised than there is");
            }
        }
    }
}
