//! What must be so, whatever happened.

use super::{BAD, GUILTY, HANGS, LOCAL, STUCK, Sim, decode, encode_failed};
use crate::error::Cause;
use crate::ids::TaskId;
use crate::job::{Delivered, Delivery, Failure, WireOptions};
use rustc_hash::{FxHashMap, FxHashSet};

impl Sim {
    /// No worker has both that name and that tag, or the only one of that name was not to be for a time.
    fn infeasible(&self, id: TaskId) -> bool {
        let mut options = self.specs[&id.job.number].options.iter().filter(|(index, _)| *index == id.index);
        let only_first = |o: &WireOptions| o.tag.is_some() || !o.resources.is_empty() || !o.among.is_empty();
        options.any(|(_, o)| o.worker.is_some() && (only_first(o) || self.was_small))
    }

    fn depends_on(&self, id: TaskId, on: TaskId) -> bool {
        let mut stack = vec![id];
        let mut seen = FxHashSet::default();
        while let Some(id) = stack.pop() {
            if id == on {
                return true;
            }
            if seen.insert(id) {
                stack.extend(self.inputs(id));
            }
        }
        false
    }

    pub(super) fn hear(&mut self, delivery: &Delivery) {
        let id = TaskId { job: delivery.job, index: delivery.index };
        match &delivery.result {
            Ok(Delivered::Value(payload)) => assert_eq!(decode(payload), self.values[&id], "value of {id}"),
            Ok(Delivered::Ready { .. }) => {}
            Err(failure) => self.justify(id, failure),
        }
        if let Some(claim) = self.wanted.get_mut(&id) {
            *claim = Some(delivery.clone());
        }
    }

    /// A failure must come from a task that could fail so, and that the output depends on.
    fn justify(&self, id: TaskId, failure: &Failure) {
        assert!(self.depends_on(id, failure.task), "{id} fails for {}, which it does not use", failure.task);
        let kind = self.kind(failure.task);
        match &failure.cause {
            Cause::Returned(_) => assert_eq!(kind, BAD, "{}", failure.task),
            Cause::TimedOut { .. } => assert!(kind == HANGS || kind == STUCK, "{}", failure.task),
            Cause::Cancelled => assert!(self.cancelled.contains(&failure.task), "{}", failure.task),
            Cause::WorkerDied(records) => {
                let of = |deaths: &FxHashMap<TaskId, usize>| deaths.get(&failure.task).copied().unwrap_or(0);
                let shared = of(&self.shared_deaths);
                assert!(records.len() >= self.allowed_deaths, "{}: {} deaths", failure.task, records.len());
                assert!(records.len() <= of(&self.deaths) + shared, "{}: more deaths than count", failure.task);
                let may_have = kind == GUILTY || self.kills > 0 || self.answerable.contains(&failure.task);
                assert!(may_have || shared > 0, "{} fails for its neighbours", failure.task);
            }
            Cause::MemoryLimit { records, .. } => {
                let (deaths, alone) = self.memory_deaths[&failure.task];
                assert!(alone && deaths >= 2 && !records.is_empty(), "{}: {deaths}", failure.task);
            }
            Cause::Encode { .. } => assert_eq!(kind, LOCAL, "{}", failure.task),
            Cause::Infeasible { .. } => assert!(self.infeasible(failure.task), "{}", failure.task),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn check_end(&mut self) {
        for (id, heard) in &self.wanted {
            let state = self.s.explain(*id);
            if heard.is_none() {
                let reasons = vec![state.clone()];
                panic!("{id} was never told: {reasons:#?}, {:#?}", self.s.stats());
            }
        }
        // Everything that is ready can be had.
        let ready: Vec<TaskId> = self
            .wanted
            .iter()
            .filter(|(_, d)| matches!(d, Some(Delivery { result: Ok(Delivered::Ready { .. }), .. })))
            .map(|(id, _)| *id)
            .collect();
        for id in &ready {
            self.s.deliver(id.job, &[id.index]);
        }
        self.run_out();
        for id in &ready {
            // A worker that had to be killed meanwhile took the session of its tasks along.
            let Some(heard) = self.wanted.get(id) else { continue };
            let full = matches!(heard, Some(Delivery { result: Ok(Delivered::Value(_)) | Err(_), .. }));
            assert!(full, "{id} was asked for and not sent");
        }
        // Without bad luck, a value is there exactly where a serial evaluation has one.
        let unlucky = |(id, n): (&TaskId, &usize)| self.kind(*id) != GUILTY && *n >= self.allowed_deaths.min(2);
        let for_memory = self.memory_deaths.values().any(|&(deaths, alone)| alone && deaths >= 2);
        let bad_luck = for_memory || self.deaths.iter().chain(&self.shared_deaths).any(unlucky);
        if self.cancelled.is_empty() && !self.was_small && !bad_luck {
            let mut bad = FxHashSet::default();
            for (number, spec) in &self.specs {
                for id in (0..spec.len() as u32).map(|index| self.task(*number, index)) {
                    let by_itself = matches!(self.kind(id), BAD | HANGS | STUCK | GUILTY) || self.infeasible(id);
                    if by_itself || self.inputs(id).iter().any(|input| bad.contains(input)) {
                        bad.insert(id);
                    }
                }
            }
            for (id, heard) in &self.wanted {
                match heard {
                    // Whether it had to be moved is a matter of luck.
                    Some(Delivery { result: Err(failure), .. })
                        if failure.cause.to_string() == encode_failed().to_string() => {}
                    heard => {
                        assert_eq!(
                            matches!(heard, Some(Delivery { result: Err(_), .. })),
                            bad.contains(id),
                            "{id}: {heard:?}"
                        )
                    }
                }
            }
        }
        let all: Vec<TaskId> = self.wanted.keys().copied().collect();
        for id in all {
            self.s.release(id.job, &[id.index]);
            self.s.validate();
        }
        self.wanted.clear();
        // Those that are stopped and owe nothing have to drop what they hold.
        self.workers.iter_mut().for_each(|w| w.stopped = false);
        self.run_out();
        assert!(self.s.is_idle(), "jobs are left: {:?}", self.s.stats());
        for w in &self.workers {
            assert!(w.store.is_empty(), "{:?} still holds {:?}", w.id, w.store.keys());
            assert!(w.shared.is_empty(), "{:?} still shares {:?}", w.id, w.shared);
            assert!(w.queue.is_empty() && w.running.is_empty(), "{:?} still works", w.id);
        }
        for w in self.s.stats().workers {
            assert_eq!((w.in_flight, w.held_values, w.held_bytes), (0, 0, 0), "{w:?}");
        }
        assert_eq!(self.s.stats().stale, 0, "no word was unexpected");
    }
}
