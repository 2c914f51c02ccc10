//! What a worker does about its memory: samples in, decisions out. Pure: no clock, no I/O.
//!
//! Two quantities are watched. *Managed* memory is that of results the worker keeps, known exactly and at once.
//! *Process* memory is all the process really uses, known from samples; it contains the managed part, what tasks use
//! while they run, and what nobody accounts for.
//!
//! * Managed over *target*, or process over *spill* until it is down to target again: the difference is a *debt*, to be
//!   paid by moving the least recently used results to disk.
//! * Managed over *spill*, counting what the tasks that run are likely to add, or process over *pause*: no task starts
//!   until that has changed, while what runs goes on.
//! * A task starts only where what it needs fits below *terminate*, beside what is there and what those that run need.
//!   What is missing is a debt, too, also below *target*. What a function needs is learnt from its runs.
//! * Waiting must be for something. Where nothing runs and nothing can be moved, one task may start: it may be the one
//!   that frees memory, and if it needs too much the supervisor ends the worker.

use rustc_hash::FxHashMap;

/// Bytes at which something happens; `u64::MAX` where it never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) limit: u64,
    pub(crate) target: u64,
    /// Whether managed memory over the target is moved before the process comes to the level of spilling.
    pub(crate) moves_at_target: bool,
    pub(crate) spill: u64,
    pub(crate) pause: u64,
    pub(crate) terminate: u64,
}

/// Why no task starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Results are being moved to disk; so many bytes are still to go.
    Spilling { debt: u64 },
    /// What runs must end first.
    Paused { process: u64 },
}

/// The state of one worker's memory.
#[derive(Debug)]
pub(crate) struct Policy {
    levels: Levels,
    managed: u64,
    process: u64,
    /// Process memory came to the level of spilling and has not been at the target since.
    spilling: bool,
    /// Process memory came to the level of pausing and has not been clearly below it since.
    pausing: bool,
    /// Nothing could be moved the last time it was tried.
    stuck: bool,
    /// What a result takes that is large enough to be kept: a moving average.
    typical: u64,
    /// What runs of each function have lately needed at most.
    needs: FxHashMap<usize, u64>,
    /// What any run has lately needed at most.
    largest: u64,
    /// What the next task needs, which waits for room beside so many that run.
    wanted: Option<(usize, u64)>,
}

impl Policy {
    pub(crate) fn new(levels: Levels) -> Self {
        Self {
            levels,
            managed: 0,
            process: 0,
            spilling: false,
            pausing: false,
            stuck: false,
            typical: 0,
            needs: FxHashMap::default(),
            largest: 0,
            wanted: None,
        }
    }

    /// One that lets everything be.
    pub(crate) fn unlimited() -> Self {
        let never = u64::MAX;
        let levels = Levels {
            limit: never,
            target: never,
            moves_at_target: false,
            spill: never,
            pause: never,
            terminate: never,
        };
        Self::new(levels)
    }

    /// A result of `bytes` is kept.
    pub(crate) fn kept(&mut self, bytes: u64) {
        self.managed = self.managed.saturating_add(bytes);
        self.typical = if self.typical == 0 { bytes } else { self.typical - self.typical / 4 + bytes / 4 };
        self.stuck = false;
    }

    /// A result that took `bytes` is no longer in memory: dropped, taken, or moved to disk.
    pub(crate) fn freed(&mut self, bytes: u64) {
        self.managed = self.managed.saturating_sub(bytes);
        // The next sample tells the truth; until then this is the best guess.
        self.sampled(self.process.saturating_sub(bytes));
    }

    /// A result came back from disk and takes `bytes` of memory again.
    pub(crate) fn came_back(&mut self, bytes: u64) {
        self.managed = self.managed.saturating_add(bytes);
    }

    /// The process uses so much.
    pub(crate) fn sampled(&mut self, process: u64) {
        let Levels { target, spill, pause, .. } = self.levels;
        self.process = process;
        self.spilling = process > spill || (self.spilling && process > target);
        // A little below, so that a worker at the edge does not change its mind with every sample.
        self.pausing = process > pause || (self.pausing && process > pause - pause / 50);
    }

    /// Nothing could be moved just now: all is in use, on disk already, or the disk takes no more.
    pub(crate) fn stuck(&mut self) {
        self.stuck = true;
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Something may have become movable since.
    pub(crate) fn try_again(&mut self) {
        self.stuck = false;
    }

    /// A run of a function has taken so much more than was there when it began.
    pub(crate) fn ran(&mut self, function: usize, bytes: u64) {
        let ease = |known: u64| bytes.max(known - known / 8);
        let need = self.needs.entry(function).or_default();
        *need = ease(*need);
        self.largest = ease(self.largest);
    }

    /// What the next run of a function is expected to need, which reads results of `inputs` bytes, `absent` of which are to
    /// be brought to memory first. It may copy them, so that it may own them.
    pub(crate) fn need(&self, function: usize, inputs: u64, absent: u64) -> u64 {
        let learnt = self.needs.get(&function).copied().unwrap_or(self.typical);
        learnt.max(inputs).saturating_add(absent)
    }

    /// A task waits for room, or none does any more.
    pub(crate) fn wants(&mut self, task: Option<(usize, u64)>) {
        self.wanted = task;
    }

    /// What is missing below the level at which the worker is ended for a task that needs `need`, beside `running` others.
    fn missing(&self, running: usize, need: u64) -> u64 {
        let running = self.largest.saturating_mul(running as u64);
        // The process has a part of what those need already.
        let there = self.process.max(self.managed.saturating_add(running));
        there.saturating_add(need).saturating_sub(self.levels.terminate)
    }

    /// How many bytes of results are to be moved to disk. Never more than there are.
    pub(crate) fn debt(&self) -> u64 {
        let Levels { target, moves_at_target, .. } = self.levels;
        let results = if moves_at_target { self.managed.saturating_sub(target) } else { 0 };
        let process = if self.spilling { self.process.saturating_sub(target) } else { 0 };
        let wanted = self.wanted.map_or(0, |(running, need)| self.missing(running, need));
        results.max(process).max(wanted).min(self.managed)
    }

    /// Whether any tasks may start on as many threads, as far as they are like those that have run.
    pub(crate) fn is_open(&self, threads: usize) -> bool {
        self.may_start(threads, self.largest.max(self.typical.saturating_mul(2))).is_ok()
    }

    /// Whether a task that needs `need` may start beside `running` others.
    pub(crate) fn may_start(&self, running: usize, need: u64) -> Result<(), Wait> {
        let missing = self.missing(running, need);
        let debt = self.debt().max(missing.min(self.managed));
        let moving = debt > 0 && !self.stuck;
        if missing > 0 && moving {
            return Err(Wait::Spilling { debt });
        }
        if missing > 0 && running > 0 {
            return Err(Wait::Paused { process: self.process });
        }
        let coming = self.typical.saturating_mul(running as u64);
        if self.managed.saturating_add(coming) >= self.levels.spill && (moving || running > 0) {
            return Err(Wait::Spilling { debt });
        }
        if self.pausing && (moving || running > 0) {
            return Err(Wait::Paused { process: self.process });
        }
        Ok(())
    }

    /// Whether one more result of `bytes` could be kept at all, given that nothing can be moved to disk. Beside others there
    /// must be room left for the next run.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let kept = self.managed.saturating_add(bytes);
        let next = if self.managed == 0 { 0 } else { self.largest };
        kept <= self.levels.pause.min(self.levels.limit) && kept.saturating_add(next) <= self.levels.terminate
    }

    /// Whether memory that is freed, but not given back, should be given back before more is judged.
    pub(crate) fn should_trim(&self) -> bool {
        self.spilling || self.pausing || self.wanted.is_some_and(|(running, need)| self.missing(running, need) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::thresholds::Thresholds;
    use super::*;
    use proptest::prelude::*;

    fn policy() -> Policy {
        Policy::new(Thresholds::default().levels(1000))
    }

    #[test]
    fn results_over_the_target_are_owed_and_no_more() {
        let mut p = policy();
        p.kept(600);
        assert_eq!(p.debt(), 0);
        p.kept(50);
        assert_eq!((p.debt(), p.may_start(0, 0)), (50, Ok(())));
        p.freed(50);
        assert_eq!(p.debt(), 0);
    }

    #[test]
    fn a_process_over_the_level_of_spilling_pays_down_to_the_target() {
        let mut p = policy();
        p.kept(400);
        p.sampled(690);
        assert_eq!(p.debt(), 0);
        p.sampled(710);
        assert_eq!(p.debt(), 110);
        p.sampled(650);
        assert_eq!(p.debt(), 50, "it goes on until the target is reached");
        p.sampled(600);
        assert_eq!(p.debt(), 0);
        p.sampled(650);
        assert_eq!(p.debt(), 0, "and does not begin again before the level of spilling");
        p.sampled(990);
        assert_eq!(p.debt(), 390);
        p.freed(300);
        assert_eq!(p.debt(), 90, "no more than there is");
    }

    #[test]
    fn starts_wait_for_the_debt_to_be_paid() {
        let mut p = policy();
        p.kept(700);
        assert_eq!(p.may_start(0, 0), Err(Wait::Spilling { debt: 100 }));
        p.freed(50);
        assert_eq!(p.may_start(0, 0), Ok(()));
        assert!(p.may_start(1, 0).is_err(), "what runs is likely to add as much as others did");
    }

    #[test]
    fn a_paused_worker_waits_as_long_as_there_is_something_to_wait_for() {
        let mut p = policy();
        p.sampled(801);
        assert_eq!(p.may_start(1, 0), Err(Wait::Paused { process: 801 }));
        assert_eq!(p.may_start(0, 0), Ok(()), "nothing runs and nothing can be moved");
        p.sampled(790);
        assert!(p.may_start(1, 0).is_err(), "not at the edge");
        p.sampled(780);
        assert_eq!(p.may_start(1, 0), Ok(()));
    }

    #[test]
    fn a_worker_that_can_move_nothing_goes_on_one_task_at_a_time() {
        let mut p = policy();
        p.kept(900);
        assert!(p.may_start(0, 0).is_err());
        p.stuck();
        assert_eq!(p.may_start(0, 0), Ok(()));
        assert!(p.may_start(1, 0).is_err());
        assert!(!p.has_room(1) && policy().has_room(800) && !policy().has_room(801));
        p.kept(1);
        assert!(p.may_start(0, 0).is_err(), "something new may be movable");
    }

    #[test]
    fn a_worker_without_levels_does_nothing() {
        let off = Thresholds { target: None, spill: None, pause: None, terminate: None };
        let mut p = Policy::new(off.levels(1000));
        p.kept(5000);
        p.sampled(6000);
        assert_eq!((p.debt(), p.may_start(7, 0)), (0, Ok(())));
    }

    #[test]
    fn a_task_starts_where_what_it_needs_fits_beside_what_is_there() {
        let mut p = policy();
        p.ran(7, 200);
        assert_eq!((p.need(7, 50, 0), p.need(7, 250, 30), p.need(8, 10, 0)), (200, 280, 10));
        p.kept(580);
        p.sampled(800);
        assert_eq!((p.debt(), p.may_start(0, 151)), (200, Err(Wait::Spilling { debt: 200 })));
        let mut p = policy();
        p.kept(500);
        p.sampled(600);
        assert_eq!((p.debt(), p.may_start(0, 350)), (0, Ok(())), "nobody waits");
        assert_eq!(p.may_start(0, 400), Err(Wait::Spilling { debt: 50 }));
        p.wants(Some((0, 400)));
        assert_eq!((p.debt(), p.should_trim()), (50, true), "moved for the task that waits, below the target");
        p.freed(50);
        assert_eq!((p.debt(), p.may_start(0, 400)), (0, Ok(())));
        p.wants(Some((0, 2000)));
        assert_eq!(p.debt(), 450, "no more than there is");
        p.stuck();
        assert_eq!(p.may_start(0, 2000), Ok(()), "waiting would not help");
        assert_eq!(p.may_start(1, 2000), Err(Wait::Paused { process: 550 }));
    }

    #[test]
    fn what_a_function_needs_follows_its_runs() {
        let mut p = policy();
        p.ran(1, 800);
        p.ran(1, 80);
        assert_eq!(p.need(1, 0, 0), 700, "the most of its runs is forgotten slowly");
        p.ran(1, 900);
        assert_eq!((p.need(1, 0, 0), p.need(2, 0, 0)), (900, 0));
        assert!(!p.is_open(1), "two at a time are too much");
    }

    #[test]
    fn where_nothing_can_be_moved_room_is_left_for_the_next_run() {
        let mut p = policy();
        p.ran(1, 300);
        assert!(p.has_room(700), "the first one");
        p.kept(300);
        assert!(p.has_room(350) && !p.has_room(351));
    }

    #[derive(Clone, Debug)]
    enum Event {
        /// A task that was started ends and keeps a result.
        End(u64),
        /// The disk takes one result.
        Move,
        /// A result is dropped.
        Drop,
        Sample(u64),
        Stuck,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (1_u64..=60).prop_map(Event::End),
            3 => Just(Event::Move),
            1 => Just(Event::Drop),
            1 => (0_u64..=100).prop_map(Event::Sample),
            1 => Just(Event::Stuck),
        ]
    }

    proptest! {
        /// Tasks that are as large as expected never bring a worker that obeys to the level at which it is ended, whatever
        /// is kept; and none waits for nothing.
        #[test]
        fn tasks_that_fit_never_end_a_worker(
            steps in proptest::collection::vec((any::<bool>(), 1_u64..=200), 1..400),
            threads in 1_usize..4,
        ) {
            let mut p = policy();
            // Each run takes twice the size of its result, and ends with that.
            let mut results: Vec<u64> = Vec::new();
            let mut running: Vec<u64> = Vec::new();
            p.ran(0, 400);
            for (moves, size) in steps {
                let there = |results: &[u64], running: &[u64]| results.iter().sum::<u64>() + 2 * running.iter().sum::<u64>();
                p.ran(0, 400);
                p.sampled(there(&results, &running));
                let need = p.need(0, 0, 0);
                match p.may_start(running.len(), need) {
                    Ok(()) if running.len() < threads => {
                        p.wants(None);
                        running.push(size);
                    }
                    Ok(()) => {}
                    Err(_) => p.wants(Some((running.len(), need))),
                }
                prop_assert!(!running.is_empty() || (p.debt() > 0 && !results.is_empty()), "it waits for nothing");
                prop_assert!(there(&results, &running) <= 950, "{results:?} {running:?}");
                if moves && p.debt() > 0 && !results.is_empty() {
                    p.freed(results.remove(0));
                } else if !moves && !running.is_empty() {
                    let result = running.remove(0);
                    results.push(result);
                    p.kept(result);
                }
            }
        }

        /// A worker that obeys never keeps more than the level of spilling and what ran when it was reached, always has
        /// either something to do or a reason to wait, and owes no more than it has.
        #[test]
        fn obeying_keeps_the_level(events in proptest::collection::vec(event(), 1..400), threads in 1_usize..5) {
            let mut p = policy();
            let mut results: Vec<u64> = Vec::new();
            let mut running = 0;
            for event in events {
                while running < threads && p.may_start(running, 0).is_ok() {
                    running += 1;
                }
                prop_assert!(running > 0 || (p.debt() > 0 && !p.stuck), "it waits for nothing");
                match event {
                    Event::End(bytes) if running > 0 => {
                        running -= 1;
                        results.push(bytes);
                        p.kept(bytes);
                    }
                    Event::Move if p.debt() > 0 && !results.is_empty() => p.freed(results.remove(0)),
                    Event::Drop if !results.is_empty() => p.freed(results.remove(0)),
                    Event::Sample(extra) => p.sampled(results.iter().sum::<u64>() + extra),
                    // A disk that takes nothing is no reason to keep the level.
                    Event::Stuck if results.is_empty() => p.stuck(),
                    _ => {}
                }
                let managed: u64 = results.iter().sum();
                prop_assert_eq!(p.managed, managed);
                prop_assert!(p.debt() <= managed);
                prop_assert!(managed <= 700 + 60 * threads as u64, "{} kept by {} threads", managed, threads);
            }
        }
    }
}
