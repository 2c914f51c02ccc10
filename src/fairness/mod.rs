//! Which graph goes first, for the scheduler and for the pool of threads alike. It is plain state, and service is told to it.
//!
//! 1. The priority that the user has set, strictly.
//! 2. Graphs that running tasks wait for, the latest first.
//! 3. The program with the least service for its weight: thread-time spent, and what its tasks in flight are likely to take.
//!    One that comes back from idling starts at the least of those at work, so idling earns nothing.
//! 4. Of one program, the graph in the lowest level of service, attained or expected, and within a level the oldest: a small
//!    graph passes a large one, and equal graphs run one after the other. So that no level starves, one start in [`SHARE_OF_OLDEST`]
//!    goes to older graphs of other levels, every other time to the oldest; and one in as many of those that graphs of running
//!    tasks could have goes to others.

mod run_queue;

use crate::ids::SessionId;
#[cfg(test)]
pub(crate) use run_queue::put;
pub(crate) use run_queue::{Queued, RunQueue};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::{Bound, RangeInclusive};

/// A graph leaves each level but the last when it has had so much thread-time, or is known to need it, in nanoseconds.
const LEVEL_ENDS: [u64; 3] = [10_000_000, 1_000_000_000, 100_000_000_000];
/// One start in so many goes to what would wait for ever otherwise.
pub(crate) const SHARE_OF_OLDEST: u32 = 8;
/// What the weight of a program may be.
pub(crate) const WEIGHTS: RangeInclusive<f64> = 0.001..=1000.0;
/// Starts in a row of one program while others wait.
const TURN: u32 = 8;
/// A graph of at most so many tasks begins in the first level, whatever they take: it may be what somebody waits for.
const FEW: usize = 8;

/// When so many tasks of a graph have run, their mean says how long all of them take.
const ENOUGH: u8 = 16;

/// The thread-time that a graph has had, and its level. That never falls: tasks that start would overtake those of the same
/// graph that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attained {
    nanos: u64,
    runs: u8,
    level: u8,
}

/// The level of a graph that has had so many nanoseconds, or is expected to need them.
pub(crate) fn level_of(nanos: u64) -> u8 {
    LEVEL_ENDS.iter().map(|end| u8::from(nanos >= *end)).sum()
}

/// The nanoseconds that a graph of so many tasks is expected to need, where each takes so many.
///
/// One that is known to be large begins where it will be, so that equal graphs run one after the other from their first task
/// on, and hold no more results than one of them.
pub(crate) fn expected(tasks: usize, each: u64) -> u64 {
    if tasks > FEW { (tasks as u64).saturating_mul(each) } else { 0 }
}

impl Attained {
    pub(crate) fn level(self) -> u8 {
        self.level
    }

    /// A task of a graph of so many has run for that long; they take about `each`. Whether the graph is in another level now.
    #[inline]
    pub(crate) fn add(&mut self, nanos: u64, tasks: usize, each: u64) -> bool {
        self.nanos = self.nanos.saturating_add(nanos);
        self.runs = self.runs.saturating_add(1);
        let ahead = if self.runs == ENOUGH { expected(tasks, each) } else { 0 };
        self.raise(self.nanos.max(ahead))
    }

    /// The tasks of a graph of so many are known to take about `each`. Whether the graph is in another level now.
    pub(crate) fn expect(&mut self, tasks: usize, each: u64) -> bool {
        self.raise(expected(tasks, each))
    }

    #[inline]
    fn raise(&mut self, nanos: u64) -> bool {
        let before = self.level;
        self.level = before.max(level_of(nanos));
        self.level != before
    }
}

/// Who submits graphs: a program, or tasks that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Program(u32);

impl Program {
    /// The tasks that wait for tasks of their own, whosever they are.
    pub(crate) const TASKS: Self = Self(0);
    /// The program of a client that shares its workers with none.
    pub(crate) const ONLY: Self = Self(1);

    pub(crate) fn of(session: SessionId) -> Self {
        if session.is_of_tasks() { Self::TASKS } else { Self(session.0.saturating_add(1)) }
    }
}

/// Where the tasks of a graph that are alike stand among all others. The order is that in which one program's tasks start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) priority: Reverse<i32>,
    pub(crate) program: Program,
    pub(crate) level: u8,
    /// The graph's number in the order of submission. It tells graphs apart.
    pub(crate) seq: u64,
    pub(crate) job: u32,
    pub(crate) lane: u32,
}

/// How a task compares with others in the queue of a worker: the lower number goes first. Programs do not count there.
///
/// The lowest [`CLASS_BITS`] are what counts within one priority of the user's, the others are that priority.
pub(crate) type Rank = i64;

const CLASS_BITS: u32 = 3;

/// The rank of a task that goes behind all that are there, of a priority of 0.
pub(crate) const LAST: Rank = last_of(0);

/// The rank of a task that goes behind all that are there of its priority.
pub(crate) const fn last_of(rank: Rank) -> Rank {
    rank | ((1 << CLASS_BITS) - 1)
}

/// The user's priority that is part of a rank: the lower number goes first, strictly.
pub(crate) const fn urgency(rank: Rank) -> i64 {
    rank >> CLASS_BITS
}

impl Place {
    fn first_of(priority: Reverse<i32>, program: Program, level: u8) -> Self {
        Self { priority, program, level, seq: 0, job: 0, lane: 0 }
    }

    /// Whether both are of one graph and one priority.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        (self.priority, self.seq) == (other.priority, other.seq)
    }

    fn same_program(&self, other: &Self) -> bool {
        (self.priority, self.program) == (other.priority, other.program)
    }

    pub(crate) fn rank(&self) -> Rank {
        let class = if self.program == Program::TASKS { 0 } else { 1 + Rank::from(self.level) };
        class - (Rank::from(self.priority.0) << CLASS_BITS)
    }
}

/// What a program has had of the workers.
#[derive(Clone, Copy, Debug)]
struct Service {
    program: Program,
    weight: f64,
    /// Nanoseconds of thread-time of tasks that have ended, as if it had never idled.
    attained: u64,
    /// Those that its tasks in flight are likely to take.
    in_flight: u64,
    tasks: u32,
    /// Places of it that are listed.
    listed: u32,
    /// Starts since another level than the first one had its turn, and how many such turns there were.
    since_oldest: u32,
    turns: u32,
}

impl Service {
    fn new(program: Program) -> Self {
        Self { program, weight: 1.0, attained: 0, in_flight: 0, tasks: 0, listed: 0, since_oldest: 0, turns: 0 }
    }

    fn idles(&self) -> bool {
        self.listed == 0 && self.tasks == 0
    }

    fn weighted(&self, nanos: u64) -> f64 {
        nanos as f64 / self.weight
    }
}

/// Who starts next, and how many tasks in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Turn {
    pub(crate) place: Place,
    pub(crate) most: u32,
    /// Before which tasks in the queue of a worker there must be room.
    pub(crate) rank: Rank,
    oldest: Oldest,
    /// It comes before graphs that running tasks wait for.
    before_tasks: bool,
}

impl Turn {
    /// It is the turn of what would wait for ever otherwise, before those that would go first.
    pub(crate) fn is_of_oldest(&self) -> bool {
        self.oldest == Oldest::Turn || self.before_tasks
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Oldest {
    /// The graph whose turn it is, because it is the first anyway.
    First,
    /// The graph whose turn it is, because others have had theirs.
    Turn,
    /// Another one.
    Waits,
}

/// One look at all places, from the first on, in which some are passed over.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The places up to these are done with, each for all of its priority and program.
    passed: Vec<Place>,
    priority: Option<Reverse<i32>>,
    oldest_passed: bool,
}

impl Walk {
    /// Nothing more can start for this turn: all places of its graph up to this one are done with.
    pub(crate) fn pass(&mut self, turn: &Turn, last: Place) {
        if turn.is_of_oldest() {
            self.oldest_passed = true;
            return;
        }
        match self.passed.iter_mut().find(|passed| passed.same_program(&last)) {
            Some(passed) => *passed = last,
            None => self.passed.push(last),
        }
    }

    fn cursor(&self, priority: Reverse<i32>, program: Program) -> Bound<Place> {
        let passed = self.passed.iter().find(|p| (p.priority, p.program) == (priority, program));
        passed.map_or(Bound::Included(Place::first_of(priority, program, 0)), |place| Bound::Excluded(*place))
    }
}

/// The places that may have something to start.
#[derive(Debug, Default)]
pub(crate) struct Order {
    places: BTreeSet<Place>,
    /// Ascending.
    services: Vec<Service>,
    /// Starts of graphs that running tasks wait for since another one had its turn.
    tasks_in_row: u32,
}

impl Order {
    pub(crate) fn insert(&mut self, place: Place) {
        if self.places.insert(place)
            && let Some(at) = self.find(place.program)
        {
            if self.services[at].idles() {
                self.come_back(at);
            }
            self.services[at].listed += 1;
        }
    }

    pub(crate) fn remove(&mut self, place: &Place) {
        if self.places.remove(place)
            && let Some(service) = self.service(place.program)
        {
            service.listed -= 1;
        }
    }

    /// The tasks of a place stand elsewhere now.
    pub(crate) fn replace(&mut self, old: &Place, new: Place) {
        if self.places.remove(old) {
            self.places.insert(new);
        }
    }

    /// The lowest rank of all.
    pub(crate) fn first_rank(&self) -> Rank {
        self.places.first().map_or(Rank::MAX, Place::rank)
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, place: &Place) -> bool {
        self.places.contains(place)
    }

    pub(crate) fn after(&self, place: Place) -> Option<Place> {
        self.places.range((Bound::Excluded(place), Bound::Unbounded)).next().copied()
    }

    /// The places before this one.
    pub(crate) fn before(&self, place: &Place) -> impl Iterator<Item = &Place> {
        self.places.range(..place)
    }

    /// How many graphs of any program stand before this place; of very many, only so many are counted.
    pub(crate) fn graphs_before(&self, place: &Place) -> usize {
        const MOST: usize = 4096;
        let others = self.places.range(..place).map(|p| p.seq).filter(|seq| *seq != place.seq);
        let mut before: Vec<u64> = others.take(MOST).collect();
        before.sort_unstable();
        before.dedup();
        before.len()
    }

    fn find(&self, program: Program) -> Option<usize> {
        match &self.services[..] {
            [only] => (only.program == program).then_some(0),
            all => all.binary_search_by_key(&program, |s| s.program).ok(),
        }
    }

    fn service(&mut self, program: Program) -> Option<&mut Service> {
        self.find(program).map(|at| &mut self.services[at])
    }

    /// A program has work, perhaps for the first time.
    pub(crate) fn enter(&mut self, program: Program) {
        if program != Program::TASKS
            && let Err(at) = self.services.binary_search_by_key(&program, |s| s.program)
        {
            self.services.insert(at, Service::new(program));
        }
    }

    /// A program has gone, with all its graphs.
    pub(crate) fn leave(&mut self, program: Program) {
        self.services.retain(|s| s.program != program);
    }

    /// Of the workers' time a program gets so many times as much as one of weight 1.
    pub(crate) fn set_weight(&mut self, program: Program, weight: f64) {
        self.enter(program);
        if let Some(service) = self.service(program) {
            // What it has had counts as much as before, or a change would be a debt or a gift.
            service.attained = (service.attained as f64 / service.weight * weight) as u64;
            service.weight = weight;
        }
    }

    fn come_back(&mut self, at: usize) {
        let least = self.services.iter().filter(|s| !s.idles()).map(|s| s.weighted(s.attained)).reduce(f64::min);
        if let Some(least) = least {
            let service = &mut self.services[at];
            service.attained = service.attained.max((least * service.weight) as u64);
        }
    }

    /// A task of a program begins, which is likely to take so many nanoseconds.
    #[inline]
    pub(crate) fn begin(&mut self, program: Program, estimate: u32) {
        if let Some(service) = self.service(program) {
            service.in_flight += u64::from(estimate);
            service.tasks += 1;
        }
    }

    /// It is not in flight any more.
    #[inline]
    pub(crate) fn end(&mut self, program: Program, estimate: u32) {
        if let Some(service) = self.service(program) {
            service.in_flight -= u64::from(estimate);
            service.tasks -= 1;
        }
    }

    /// It has taken so many nanoseconds.
    #[inline]
    pub(crate) fn charge(&mut self, program: Program, nanos: u64) {
        if let Some(service) = self.service(program) {
            service.attained = service.attained.saturating_add(nanos);
        }
    }

    /// Tasks in flight of a program, and what they are likely to take.
    #[cfg(test)]
    pub(crate) fn in_flight(&self, program: Program) -> (u32, u64) {
        self.find(program).map_or((0, 0), |at| (self.services[at].tasks, self.services[at].in_flight))
    }

    /// Who is next. The turn is over when its tasks have [started](Self::started), or when it is [passed](Walk::pass).
    #[inline]
    pub(crate) fn next(&self, walk: &mut Walk) -> Option<Turn> {
        if self.places.len() == 1 && walk.priority.is_none() {
            let place = *self.places.first()?;
            walk.priority = Some(place.priority);
            return Some(Turn {
                place,
                most: u32::MAX,
                rank: place.rank(),
                oldest: Oldest::First,
                before_tasks: false,
            });
        }
        self.next_of_many(walk)
    }

    fn next_of_many(&self, walk: &mut Walk) -> Option<Turn> {
        loop {
            let start = match walk.priority {
                None => self.places.first()?.priority,
                Some(priority) => priority,
            };
            walk.priority = Some(start);
            let (tasks, first) = self.first_of(start, walk);
            match (tasks, first) {
                (Some(tasks), None) => return Some(self.turn(tasks, false, walk)),
                // Their share is at an end for now.
                (Some(tasks), Some((first, rivals))) => {
                    let turn = self.turn(first, rivals, walk);
                    return Some(Turn { most: 1, rank: tasks.rank(), before_tasks: true, ..turn });
                }
                (None, Some((first, rivals))) => return Some(self.turn(first, rivals, walk)),
                (None, None) => {}
            }
            // Nothing is left of this priority.
            let lower = Reverse(start.0.checked_sub(1)?);
            let next = self.places.range(Place::first_of(lower, Program::TASKS, 0)..).next()?;
            walk.priority = Some(next.priority);
        }
    }

    /// The first places of that priority that have not been passed: that of graphs which running tasks wait for, and unless
    /// these go before it anyway, that of programs, with whether others of them have some, too.
    fn first_of(&self, priority: Reverse<i32>, walk: &Walk) -> (Option<Place>, Option<(Place, bool)>) {
        let mut tasks = None;
        let mut best: Option<(Place, f64)> = None;
        let mut rivals = false;
        let mut program = Program::TASKS;
        loop {
            let none_passed = walk.passed.is_empty();
            let any = match none_passed && program == Program::TASKS {
                true => self.places.first(),
                false => self.places.range(Place::first_of(priority, program, 0)..).next(),
            };
            let Some(any) = any.filter(|place| place.priority == priority) else { break };
            program = any.program;
            let first = match none_passed {
                true => Some(any),
                false => {
                    let cursor = walk.cursor(priority, program);
                    self.places.range((cursor, Bound::Unbounded)).next().filter(|place| place.same_program(any))
                }
            };
            if let Some(first) = first
                && program == Program::TASKS
            {
                tasks = Some(*first);
                if self.tasks_in_row < SHARE_OF_OLDEST - 1 || walk.oldest_passed {
                    return (tasks, None);
                }
            } else if let Some(first) = first {
                let service = self.find(program).map_or(0.0, |at| {
                    let service = &self.services[at];
                    service.weighted(service.attained + service.in_flight)
                });
                rivals = best.is_some();
                if best.is_none_or(|(_, least)| service < least) {
                    best = Some((*first, service));
                }
            }
            match program.0.checked_add(1) {
                Some(next) if self.services.len() > 1 || program == Program::TASKS => program = Program(next),
                _ => break,
            }
        }
        (tasks, best.map(|(place, _)| (place, rivals)))
    }

    fn turn(&self, first: Place, rivals: bool, walk: &Walk) -> Turn {
        let most = if rivals { TURN } else { u32::MAX };
        let rank = first.rank();
        let mut turn = Turn { place: first, most, rank, oldest: Oldest::First, before_tasks: false };
        if first.program == Program::TASKS {
            // After so many others are asked; where there are none, it goes on.
            if let left @ 1.. = (SHARE_OF_OLDEST - 1).saturating_sub(self.tasks_in_row) {
                turn.most = left;
            }
            return turn;
        }
        if self.places.len() == 1 || walk.oldest_passed {
            return turn;
        }
        let end = Place::first_of(first.priority, Program(first.program.0.saturating_add(1)), 0);
        if self.places.range(..end).next_back().is_none_or(|last| last.level == first.level) {
            return turn;
        }
        let levels = (first.level + 1..=LEVEL_ENDS.len() as u8).filter_map(|level| {
            let from = Place::first_of(first.priority, first.program, level);
            self.places.range(from..).next().filter(|place| place.same_program(&first) && place.level == level)
        });
        let mut older: SmallVec<[Place; 3]> = levels.filter(|place| place.seq < first.seq).copied().collect();
        if older.is_empty() {
            return turn;
        }
        older.sort_unstable_by_key(|place| place.seq);
        let (since, turns) = self.find(first.program).map_or((0, 0), |at| {
            let service = &self.services[at];
            (service.since_oldest, service.turns)
        });
        // Every other turn is that of the oldest, and those between go round among the others.
        let others = older.len() - 1;
        let at = if turns % 2 == 0 || others == 0 { 0 } else { 1 + turns as usize / 2 % others };
        match (SHARE_OF_OLDEST - 1).saturating_sub(since) {
            0 => Turn { place: older[at], most: 1, oldest: Oldest::Turn, ..turn },
            left => Turn { most: most.min(left), oldest: Oldest::Waits, ..turn },
        }
    }

    /// So many tasks have started in a turn.
    pub(crate) fn started(&mut self, turn: &Turn, n: u32) {
        if n == 0 {
            return;
        }
        if turn.place.program == Program::TASKS {
            self.tasks_in_row = self.tasks_in_row.saturating_add(n);
            return;
        }
        self.tasks_in_row = 0;
        let Some(service) = self.service(turn.place.program) else { return };
        match turn.oldest {
            Oldest::Waits => service.since_oldest = service.since_oldest.saturating_add(n),
            Oldest::First => service.since_oldest = 0,
            Oldest::Turn => (service.since_oldest, service.turns) = (0, service.turns.wrapping_add(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(priority: i32, program: u32, level: u8, seq: u64) -> Place {
        Place { priority: Reverse(priority), program: Program(program), level, seq, job: seq as u32, lane: 0 }
    }

    fn order(places: &[Place]) -> Order {
        let mut order = Order::default();
        for &place in places {
            order.enter(place.program);
            order.insert(place);
        }
        order
    }

    fn first(order: &Order) -> u64 {
        order.next(&mut Walk::default()).map_or(u64::MAX, |turn| turn.place.seq)
    }

    /// Graphs with their tasks that are left, all of one length, on one thread: in which order tasks start.
    fn run(order: &mut Order, graphs: &mut [(Place, u32, Attained)], nanos: u64) -> Vec<u64> {
        let mut starts = Vec::new();
        while let Some(turn) = order.next(&mut Walk::default()) {
            let (place, left, attained) = graphs.iter_mut().find(|(p, ..)| p.seq == turn.place.seq).unwrap();
            starts.push(place.seq);
            order.started(&turn, 1);
            order.charge(place.program, nanos);
            let old = *place;
            *left -= 1;
            attained.add(nanos, 1, 0);
            place.level = attained.level();
            match *left {
                0 => order.remove(&old),
                _ => order.replace(&old, *place),
            }
        }
        starts
    }

    fn graph(program: u32, seq: u64, tasks: u32) -> (Place, u32, Attained) {
        (place(0, program, 0, seq), tasks, Attained::default())
    }

    fn run_all(graphs: &mut [(Place, u32, Attained)], nanos: u64) -> Vec<u64> {
        let mut order = order(&graphs.iter().map(|(place, ..)| *place).collect::<Vec<_>>());
        run(&mut order, graphs, nanos)
    }

    #[test]
    fn priority_goes_before_everything_then_what_running_tasks_wait_for() {
        let all = [place(0, 0, 0, 1), place(0, 1, 0, 2), place(3, 1, 3, 3), place(-2, 1, 0, 4), place(3, 0, 0, 5)];
        let mut order = order(&all);
        let mut starts = Vec::new();
        while let Some(turn) = order.next(&mut Walk::default()) {
            starts.push(turn.place.seq);
            order.remove(&turn.place);
        }
        assert_eq!(starts, [5, 3, 1, 2, 4]);
    }

    #[test]
    fn levels_are_by_attained_service() {
        let mut attained = Attained::default();
        assert!(!attained.add(9_999_999, 1, 0));
        assert!(attained.add(1, 1, 0));
        assert_eq!(attained.level(), 1);
        assert!(attained.add(200_000_000_000, 1, 0));
        assert_eq!(attained.level(), 3);
        assert!(!attained.add(u64::MAX, 1, 0));
    }

    #[test]
    fn a_graph_that_is_known_to_be_large_begins_where_it_will_be() {
        let mut attained = Attained::default();
        assert!(attained.expect(1000, 2_000_000));
        assert_eq!(attained.level(), 2);
        // Its tasks are shorter than was thought: it stays where it is.
        assert!(!attained.add(3000, 1000, 3000));
        assert!(!Attained::default().expect(FEW, u64::MAX));
    }

    #[test]
    fn a_graph_of_which_enough_has_run_is_known() {
        let mut attained = Attained::default();
        assert!((1..ENOUGH).all(|_| !attained.add(1000, 100_000, 1000)));
        assert!(attained.add(1000, 100_000, 1000));
        assert_eq!(attained.level(), 1);
    }

    #[test]
    fn a_small_graph_passes_a_large_one() {
        let order = order(&[place(0, 1, 2, 1), place(0, 1, 0, 2), place(0, 1, 0, 3)]);
        let turn = order.next(&mut Walk::default()).unwrap();
        assert_eq!((turn.place.seq, turn.most), (2, SHARE_OF_OLDEST - 1));
    }

    #[test]
    fn equal_graphs_of_one_program_run_one_after_the_other() {
        let mut graphs = [graph(1, 1, 50), graph(1, 2, 50), graph(1, 3, 50)];
        let starts = run_all(&mut graphs, 100_000);
        let expected: Vec<u64> = [1, 2, 3].iter().flat_map(|seq| [*seq; 50]).collect();
        assert_eq!(starts, expected);
    }

    #[test]
    fn one_start_in_eight_is_that_of_the_oldest() {
        let mut large = graph(1, 1, 300);
        large.2.add(2_000_000_000, 1, 0);
        large.0.level = large.2.level();
        let mut graphs: Vec<_> = std::iter::once(large).chain((2..200).map(|seq| graph(1, seq, 1))).collect();
        let starts = run_all(&mut graphs, 1_000_000);
        let of_oldest = starts[..160].iter().filter(|seq| **seq == 1).count();
        assert_eq!(of_oldest, 20, "{starts:?}");
        assert!(starts[..160].windows(8).all(|window| window.contains(&1)));
    }

    #[test]
    fn programs_share_by_weight() {
        let mut graphs = [graph(1, 1, 3000), graph(2, 2, 3000), graph(3, 3, 3000)];
        let mut order = order(&graphs.map(|(place, ..)| place));
        order.set_weight(Program(2), 2.0);
        order.set_weight(Program(3), 0.5);
        let starts = run(&mut order, &mut graphs, 1_000_000);
        let share = |seq| starts[..3500].iter().filter(|s| **s == seq).count();
        assert!(share(1).abs_diff(1000) < 20 && share(2).abs_diff(2000) < 20 && share(3).abs_diff(500) < 20);
    }

    #[test]
    fn a_program_that_idled_has_earned_nothing() {
        let mut order = order(&[place(0, 1, 0, 1)]);
        order.charge(Program(1), 5_000_000_000);
        order.enter(Program(2));
        order.insert(place(0, 2, 0, 2));
        let mut starts = [0; 3];
        for _ in 0..100 {
            let turn = order.next(&mut Walk::default()).unwrap();
            starts[turn.place.seq as usize] += 1;
            order.started(&turn, 1);
            order.charge(turn.place.program, 1_000_000);
        }
        assert_eq!(starts, [0, 50, 50]);
    }

    #[test]
    fn what_is_in_flight_counts_for_its_program() {
        let mut order = order(&[place(0, 1, 0, 1), place(0, 2, 0, 2)]);
        order.begin(Program(1), 4_000_000);
        assert_eq!(first(&order), 2);
        order.begin(Program(2), 5_000_000);
        assert_eq!(first(&order), 1);
        order.end(Program(2), 5_000_000);
        order.charge(Program(2), 1);
        assert_eq!(first(&order), 2);
    }

    #[test]
    fn what_is_passed_over_holds_up_nobody() {
        let all = [place(1, 1, 0, 1), place(0, 1, 0, 2), place(0, 1, 1, 3), place(0, 2, 0, 4), place(-1, 2, 0, 5)];
        let order = order(&all);
        let (mut walk, mut seen) = (Walk::default(), Vec::new());
        while let Some(turn) = order.next(&mut walk) {
            seen.push(turn.place.seq);
            walk.pass(&turn, turn.place);
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn graphs_before_a_place_are_counted_once() {
        let lane = |lane, place| Place { lane, ..place };
        let order = order(&[
            place(0, 1, 0, 1),
            lane(1, place(0, 1, 0, 1)),
            place(5, 1, 0, 1),
            place(0, 1, 0, 2),
            place(0, 1, 0, 3),
        ]);
        assert_eq!(order.graphs_before(&place(0, 1, 0, 3)), 2);
    }

    /// Starts of each graph in so many turns, where those of these places never end.
    fn shares(places: &[Place], starts: usize) -> Vec<usize> {
        let mut order = order(places);
        let mut counts = vec![0; places.len()];
        for _ in 0..starts {
            let turn = order.next(&mut Walk::default()).unwrap();
            order.started(&turn, 1);
            order.charge(turn.place.program, 1_000_000);
            counts[places.iter().position(|place| *place == turn.place).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn graphs_of_tasks_leave_a_share_to_others() {
        // Of that share again one in eight is the batch's.
        assert_eq!(shares(&[place(0, 0, 0, 9), place(0, 1, 0, 5), place(0, 1, 2, 1)], 640), [560, 70, 10]);
        assert_eq!(shares(&[place(0, 0, 0, 9), place(0, 1, 2, 1)], 640), [560, 80]);
    }

    #[test]
    fn each_program_has_a_share_for_its_older_graphs() {
        let all = [place(0, 1, 0, 5), place(0, 1, 2, 1), place(0, 2, 0, 6)];
        let [_, batch, _] = shares(&all, 640)[..] else { panic!() };
        assert!((35..=45).contains(&batch), "{batch}");
    }

    #[test]
    fn no_level_starves() {
        assert_eq!(shares(&[place(0, 1, 0, 9), place(0, 1, 1, 5), place(0, 1, 2, 1)], 640), [560, 40, 40]);
    }

    /// Whatever comes: a graph that is ready starts within a number of starts that depends on the number of graphs only.
    #[test]
    fn nobody_starves() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        for _ in 0..50 {
            let programs = 1 + below(3) as u32;
            let mut order = Order::default();
            let mut graphs: Vec<(Place, u32, Attained)> = Vec::new();
            let (mut seq, mut oldest, mut waited) = (0, 0, 0);
            for _ in 0..2000 {
                // New ones come all the time, but do not keep the worker busy by themselves.
                if graphs.is_empty() || (below(3) == 0 && graphs.len() < 20) {
                    seq += 1;
                    let place = place(0, 1 + below(u64::from(programs)) as u32, 0, seq);
                    order.enter(place.program);
                    order.insert(place);
                    graphs.push((place, 1 + below(40) as u32, Attained::default()));
                }
                let turn = order.next(&mut Walk::default()).unwrap();
                let at = graphs.iter().position(|(p, ..)| *p == turn.place).expect("only listed ones have turns");
                let nanos = 1000 << below(20);
                order.started(&turn, 1);
                order.charge(turn.place.program, nanos);
                let started = turn.place.seq;
                let (place, left, attained) = &mut graphs[at];
                let old = *place;
                *left -= 1;
                attained.add(nanos, 1, 0);
                place.level = attained.level();
                if *left == 0 {
                    order.remove(&old);
                    graphs.remove(at);
                } else {
                    order.replace(&old, *place);
                }
                let now = graphs.iter().map(|(p, ..)| p.seq).min().unwrap_or(0);
                waited = if now == started || now != oldest { 0 } else { waited + 1 };
                oldest = now;
                // Other levels have every other turn of that share.
                let most = 2 * SHARE_OF_OLDEST;
                assert!(programs > 1 || waited < most, "the oldest graph has waited for {waited} starts");
            }
        }
    }
}
