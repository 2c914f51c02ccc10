//! Every invariant, derived again from scratch. For tests: it takes time in proportion to everything there is.

use super::Scheduler;
use super::job::{KINDS, State, TaskRef, flag};
use super::ready::Isolation;
use super::transitions::Lacks;
use super::worker::WorkerIndex;
use crate::fairness::Program;
use crate::ids::TaskId;
use crate::job::EXTERNAL;
use crate::resources::Resources;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

type Held = Vec<(u64, u64, u32, u64)>;

impl Scheduler {
    /// Panics with a clear text if anything in the state contradicts anything else.
    pub(crate) fn validate(&self) {
        assert!(self.work.is_empty() && self.restart.is_empty(), "work lists are empty between events");
        assert!(self.leaving.is_empty(), "jobs that can go have gone");
        // By job slot, then by index.
        let slots = self.jobs.iter().map(|job| job.slot + 1).max().unwrap_or(0) as usize;
        let mut uses: Vec<Vec<u32>> = vec![Vec::new(); slots];
        for job in self.jobs.iter() {
            uses[job.slot as usize] = vec![0; job.tasks.len()];
        }
        let mut refs = vec![0; slots];
        for job in self.jobs.iter() {
            let here = &mut uses[job.slot as usize];
            let mut external_inputs = vec![0; job.external_inputs.len()];
            for (index, task) in job.tasks.iter().enumerate() {
                here[index] += u32::from(task.has(flag::CLAIMED));
                if task.state.active() {
                    for &dep in job.spec.deps(index as u32) {
                        match dep & EXTERNAL {
                            0 => here[dep as usize] += 1,
                            _ => external_inputs[(dep & !EXTERNAL) as usize] += 1,
                        }
                    }
                }
            }
            for (at, external) in job.external_inputs.iter().enumerate() {
                assert_eq!(external.uses, external_inputs[at], "{:?}: uses of external {at}", job.id);
                refs[external.target.job as usize] += 1;
                let owner = self.jobs[external.target.job].users.get(&external.target.index);
                let known = owner.is_some_and(|users| users.contains(&(job.slot, at as u32)));
                assert!(known, "{:?}: external {at} is unknown to its owner", job.id);
                uses[external.target.job as usize][external.target.index as usize] += u32::from(external.uses > 0);
            }
        }
        let mut zombies: Vec<TaskId> = self.workers.iter().flat_map(|w| w.zombies.iter().map(|z| z.id)).collect();
        zombies.sort_unstable();
        assert!(zombies.windows(2).all(|pair| pair[0] != pair[1]), "a task has two cancelled runs");
        // Values, bytes and fetches, by a worker's index.
        let mut held: Held =
            vec![(0, 0, 0, 0); self.workers.with_index().map(|(s, _)| s.0 as usize + 1).max().unwrap_or(0)];
        for job in self.jobs.iter() {
            assert_eq!(job.refs, refs[job.slot as usize], "{:?}: references from other jobs", job.id);
            self.validate_job(job.slot, &uses[job.slot as usize], &zombies, &mut held);
        }
        self.validate_ready();
        self.validate_groups();
        self.validate_workers(&held);
        for (program, left) in &self.departed {
            let there = self.jobs.iter().filter(|job| job.program == *program).count();
            assert_eq!(*left, there, "graphs of {program:?}, which has left");
        }
    }

    /// Panics if a worker idles beside a ready task that it may run. To be called after a dispatch.
    pub(crate) fn validate_busy(&self) {
        let idle: Vec<_> = self.workers.with_index().filter(|(_, w)| w.accepting() && w.free_threads() > 0).collect();
        if idle.is_empty() {
            return;
        }
        for job in self.jobs.iter().filter(|job| job.counts[State::Ready.kind()] > 0) {
            // The next task of each lane; what is behind it waits for it.
            let mut heads: BTreeMap<u32, u32> = BTreeMap::new();
            for index in (0..job.tasks.len() as u32).filter(|index| job.state(*index) == State::Ready) {
                heads.entry(job.lane_of(index)).or_insert(index);
            }
            let mut heads: Vec<(u32, u32)> = heads.into_iter().map(|(lane, index)| (index, lane)).collect();
            heads.sort_unstable();
            // What a task without a rule waits for, all of its job and priority wait for.
            let mut blocked = Vec::new();
            for (index, lane) in heads {
                let (rule, priority) = (job.lanes[lane as usize].rule.as_deref(), job.lanes[lane as usize].priority);
                let r = TaskRef { job: job.slot, index };
                let source = job.dep_range(index).is_empty();
                let may = idle.iter().find(|(worker, w)| {
                    self.usable(*worker, rule).is_some() && (!source || self.sources(w, self.leaves(r)) > 0)
                });
                match may {
                    Some((_, w)) if !blocked.contains(&priority) => {
                        panic!("{} idles beside {}, which is ready: {rule:?}", w.spec.name, job.task_id(index))
                    }
                    None if rule.is_none() => blocked.push(priority),
                    _ => {}
                }
            }
        }
    }

    fn validate_job(&self, slot: u32, uses: &[u32], zombies: &[TaskId], held: &mut Held) {
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
            assert_eq!(task.uses, uses[index as usize], "{id}: uses ({state:?})");
            let shared = !job.users.is_empty() && job.users.contains_key(&index);
            assert_eq!(task.has(flag::SHARED), shared, "{id}: used by other jobs");
            let mut users = job.users.get(&index).into_iter().flatten();
            let kept = users.any(|(user, _)| self.jobs[*user].alias_of().is_some());
            assert_eq!(task.has(flag::KEPT), kept, "{id}: has aliases");
            let zombie = !zombies.is_empty() && zombies.binary_search(&id).is_ok();
            assert_eq!(task.has(flag::ZOMBIE), zombie, "{id}: cancelled run in flight");

            let listed = job.spec.parts.binary_search_by_key(&index, |(part, _)| *part).is_ok();
            assert_eq!(task.has(flag::PART), listed, "{id}: is a part");
            if listed {
                let runs =
                    matches!(state, State::Ready | State::Fetching | State::Assigned { .. } | State::Data { .. });
                assert!(!runs, "{id} is a part, and {state:?}");
                assert!(job.tasks[job.spec.deps(index)[0] as usize].has(flag::MAKER), "{id}: its maker has parts");
            }
            if task.has(flag::MAKER) {
                let whole = matches!(state, State::Done { .. } | State::Lent { .. } | State::Data { .. });
                assert!(!whole && !task.has(flag::CLAIMED), "{id} has parts, and is {state:?}");
            }
            let r = TaskRef { job: slot, index };
            let Lacks { missing, open, failed, fails_fast } = self.lacks(r);
            assert!(!fails_fast || !task.has(flag::DOOMED), "{id} waits for others, though it is to fail fast");
            match state {
                State::Waiting { missing: counted } => {
                    assert!(missing > 0 || task.has(flag::ALIAS), "{id} waits for nothing");
                    assert_eq!(counted, missing, "{id}: missing inputs");
                }
                State::Ready | State::Fetching => assert_eq!(missing, 0, "{id} is {state:?} without its inputs"),
                State::Assigned { worker, seq, ahead } => {
                    assert!(u32::from(ahead) <= missing, "{id}: inputs it was sent ahead of");
                    let w = self.workers.get(worker).unwrap_or_else(|| panic!("{id} is with a dead worker"));
                    assert_eq!(w.flight.at(seq), Some(r), "{id}: place in the flight list");
                    assert!(!task.has(flag::ZOMBIE), "{id} is in flight twice");
                }
                State::Done { value, .. } | State::Lent { value, .. } => {
                    let value = &job.values[value];
                    assert_eq!(value.owner, index, "{id}: owner of its value");
                    assert!(value.payload.is_some() || value.holder != WorkerIndex::NONE, "{id}: value is nowhere");
                    let may_be_needed = job.is_final() && job.refs > 0;
                    assert!(task.uses > 0 || value.exporting || may_be_needed, "{id}: nobody needs the value");
                    if value.holder != WorkerIndex::NONE {
                        assert!(self.workers.get(value.holder).is_some(), "{id}: held by a dead worker");
                        let entry = &mut held[value.holder.0 as usize];
                        entry.0 += 1;
                        entry.1 += value.nbytes;
                        entry.2 += u32::from(value.exporting);
                        entry.3 += if job.stays(index) { value.nbytes } else { 0 };
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
                assert!(failed.is_none() || task.has(flag::DOOMED), "{id} waits, but an input has failed");
                let counted = job.open.get(&index).copied();
                assert_eq!(counted.is_some(), task.has(flag::DOOMED), "{id}: open inputs are counted of doomed tasks");
                assert!(
                    counted.is_none_or(|counted| counted <= open),
                    "{id}: {counted:?} inputs count as open of {open}"
                );
                assert!(failed.is_none() || open > 0, "{id} waits, but an input has failed and nothing is open");
                assert!(
                    job.lanes[job.lane_of(index) as usize].infeasible.is_none(),
                    "{id} waits, but no worker can ever run it"
                );
            }
            if let Some(source) = job.alias_of() {
                assert!(matches!(state, State::Waiting { .. } | State::Idle | State::Failed { .. }), "{id}: {state:?}");
                let owner = &self.jobs[source.job];
                assert!(owner.alias_of().is_none(), "{id} is an alias of an alias");
                let there = state.active() && owner.state(source.index).available();
                let told = task.has(flag::TOLD);
                assert!(!there || told || task.has(flag::WANTED), "{id} is there, and the session has not heard");
                if there && task.has(flag::WANTED) {
                    let sent = |value: u32| owner.values[value].exporting && owner.values[value].payload.is_none();
                    let comes = matches!(owner.state(source.index), State::Done { value, .. } if sent(value));
                    assert!(comes, "{id}: a delivery is owed and nothing is done about it");
                }
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
        assert!(job.claims + job.refs + job.exporting > 0 || job.spec.open, "{:?}: nobody needs this job", job.id);
        for (&index, workers) in job.shared.iter() {
            let id = job.task_id(index);
            let there = match job.state(index) {
                State::Done { value, .. } => job.values[value].payload.is_some(),
                State::Data { .. } => job.tasks[index as usize].uses > 0,
                _ => false,
            };
            assert!(there, "{id}: workers keep a value that is not here");
            let once = |at: usize| !workers[..at].contains(&workers[at]);
            assert!((0..workers.len()).all(once), "{id}: a worker was sent it twice");
        }
        let owned = job.values.enumerate().filter(|(at, value)| match job.state(value.owner) {
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
            let listed = self.ready.order.contains(&job.place(at as u32));
            assert_eq!(lane.listed, listed, "{:?}: listing of lane {at}", job.id);
            assert!(lane.listed || lane.ready == 0, "{:?}: lane {at} is ready and not listed", job.id);
        }
    }

    fn validate_ready(&self) {
        let lanes = || self.jobs.iter().flat_map(|job| &job.lanes);
        let of = |isolation| lanes().filter(|lane| lane.isolation() == isolation).map(|lane| lane.ready).sum::<u32>();
        let suspects = [Isolation::Suspect, Isolation::Culprit].map(|isolation| of(isolation) as usize);
        assert_eq!([self.ready.suspects, self.ready.culprits], suspects, "ready suspects of all jobs");
        let ready: u32 = self.jobs.iter().map(|j| j.counts[State::Ready.kind()]).sum();
        assert_eq!(self.ready.total, ready as usize, "ready tasks of all jobs");
        for key in self.ready.order.iter() {
            assert!(self.jobs.is_live(key.job), "a lane of a job that is gone");
            assert_eq!(self.jobs[key.job].seq, key.seq, "a lane of a job that is gone");
        }
        let mut in_flight: FxHashMap<Program, (u32, u64)> = FxHashMap::default();
        for (r, estimate) in self.workers.iter().flat_map(|w| w.flight.with_estimates()) {
            let (n, load) = in_flight.entry(self.jobs[r.job].program).or_default();
            (*n, *load) = (*n + 1, *load + u64::from(estimate));
        }
        for program in self.jobs.iter().map(|job| job.program).filter(|program| *program != Program::TASKS) {
            let counted = in_flight.get(&program).copied().unwrap_or_default();
            assert_eq!(self.ready.order.in_flight(program), counted, "{program:?}: in flight");
        }
    }

    fn validate_workers(&self, held: &Held) {
        for (index, w) in self.workers.with_index() {
            let name = &w.spec.name;
            assert_eq!(self.workers.find(w.id), Some(index), "{name}: found by its id");
            let ahead = w.flight.iter().filter(|r| self.jobs[r.job].is_ahead(r.index)).count();
            assert_eq!(w.ahead as usize, ahead, "{name}: tasks sent ahead of their inputs");
            let mut memory: u64 = w.zombies.iter().map(|z| z.memory).sum();
            let mut resources = w.zombies.iter().fold(Resources::default(), |sum, z| sum.plus(&z.resources));
            // What tasks submit may have been let in beside those that wait for it.
            let mut of_programs = Resources::default();
            let mut timed = 0;
            let mut isolated = [0; 3];
            let mut seen = Vec::new();
            for r in w.flight.iter() {
                let job = &self.jobs[r.job];
                seen.push((r.job, r.index));
                let here = matches!(job.state(r.index), State::Assigned { worker, .. } if worker == index);
                assert!(here, "{name}: {} is in the flight list only", job.task_id(r.index));
                memory += job.memory(r.index);
                resources = resources.plus(&job.takes(r.index).1);
                if job.program != Program::TASKS {
                    of_programs = of_programs.plus(&job.takes(r.index).1);
                }
                let isolation = job.isolation(r.index);
                isolated[0] += u32::from(isolation != Isolation::None);
                isolated[1] += u32::from(isolation.is_of_suspects());
                isolated[2] += u32::from(isolation == Isolation::Cluster);
                timed += usize::from(job.options(r.index).is_some_and(|o| o.timeout_ms.is_some()));
            }
            let sent = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(sent, seen.len(), "{name}: a task is in flight twice");
            assert_eq!(w.flight.len() as usize, sent, "{name}: tasks in flight");
            assert_eq!(w.memory, memory, "{name}: memory asked for");
            assert_eq!(w.resources, resources, "{name}: resources taken");
            assert!(w.spec.resources.cover(&of_programs), "{name}: more taken of a resource than there is");
            assert!(w.flight.adds_up(), "{name}: what is to come");
            assert_eq!(w.deadlines.len(), timed, "{name}: deadlines");
            assert_eq!([w.isolated, w.suspects, w.exclusive], isolated, "{name}: tasks that run in isolation");
            assert!(w.blocked <= w.in_flight(), "{name}: more blocked than running");
            let (values, bytes, exporting, claimed) = held[index.0 as usize];
            assert_eq!((w.held_values, w.held_bytes), (values, bytes), "{name}: held values");
            assert_eq!(w.claimed_bytes, claimed, "{name}: what is there to stay");
            assert_eq!(w.exporting, exporting, "{name}: fetches under way");
            assert_eq!(w.asked.len(), exporting as usize, "{name}: times of fetches");
            let of_programs = w.flight.iter().filter(|r| self.jobs[r.job].program != Program::TASKS);
            let memory: u64 = of_programs.map(|r| self.jobs[r.job].memory(r.index)).sum();
            assert!(
                w.spec.memory_limit.is_none_or(|limit| memory <= limit),
                "{name}: more memory promised than there is"
            );
        }
    }
}
