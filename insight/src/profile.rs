//! Where tasks spend their time: on the CPU by function, off it by system call; for each name and second.
//!
//! Stacks of threads that run tasks are sampled by the time that they take on a CPU. What is not on a CPU is known from the
//! thread's clock, and by the system call that it waits in.

mod text;
mod tree;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
pub use tree::{NodeRef, StackTree};

/// How many nodes a tree of stacks has at most; time of other stacks is in one sum.
pub const MOST_NODES: usize = 4096;
/// How many slices of time a name has at most; where there would be more, two become one.
pub const MOST_SLICES: u64 = 600;
/// How many slices all names have together.
pub const MOST_SLICES_OF_ALL: u64 = 20_000;
/// How many names there are at most; what others took is counted under [`OTHER_NAMES`].
pub const MOST_NAMES: usize = 1000;
/// The name of what all names together took that there was no room for.
pub const OTHER_NAMES: &str = "other names";

/// Whose code a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameOrigin {
    /// The program's, or that of a crate it uses.
    Program,
    /// Rust's standard library's.
    Std,
    /// swath's.
    Swath,
    /// A shared library's.
    Library,
}

/// A function on a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frame {
    /// Its path, as `app::parse`; of a library without symbols, the library's name.
    pub function: Arc<str>,
    /// Whose it is.
    pub origin: FrameOrigin,
}

impl Frame {
    /// A function of that path.
    pub fn new(function: impl Into<Arc<str>>, origin: FrameOrigin) -> Self {
        Self { function: function.into(), origin }
    }
}

/// Which functions are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frames {
    /// Those of the program; what it calls of the standard library, of swath and of shared libraries is one function, the
    /// one that it called.
    #[default]
    Own,
    /// All.
    All,
}

/// Why there are no samples of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProfileOff {
    /// The program has a handler of its own for the signal SIGPROF, which is left alone.
    HandlerInUse,
    /// The program has a timer of its own that sends the signal SIGPROF (`ITIMER_PROF`), which is left alone.
    TimerInUse,
    /// The program has the signal SIGPROF blocked in threads that run tasks.
    Blocked,
    /// The process was forked from one that had its threads sampled.
    Forked,
    /// Stacks cannot be read on processors of this kind.
    Unsupported,
    /// The system refuses what is needed.
    Refused {
        /// What it says.
        reason: String,
    },
    /// The worker has not answered.
    Unanswered {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for ProfileOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandlerInUse => f.write_str("the program has a handler of its own for the signal SIGPROF"),
            Self::TimerInUse => f.write_str("the program has a timer of its own that sends the signal SIGPROF"),
            Self::Blocked => f.write_str("the program has the signal SIGPROF blocked in threads that run tasks"),
            Self::Forked => f.write_str("the process was forked from one that is profiled"),
            Self::Unsupported => f.write_str("stacks cannot be read on processors of this kind"),
            Self::Refused { reason } => write!(f, "the system refuses it: {reason}"),
            Self::Unanswered { reason } => write!(f, "the worker has not answered: {reason}"),
        }
    }
}

impl std::error::Error for ProfileOff {}

/// What tasks of one name did in a slice of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NameProfile {
    /// Nanoseconds on a CPU, by stack.
    pub on: StackTree<Frame>,
    /// Nanoseconds off it, by the system call that was waited in, or what else it was.
    pub off: BTreeMap<Arc<str>, u64>,
    /// How many stacks have been sampled.
    pub samples: u64,
}

impl NameProfile {
    /// Time on a CPU.
    #[must_use]
    pub fn on_cpu(&self) -> Duration {
        Duration::from_nanos(self.on.total())
    }

    /// Time off it.
    #[must_use]
    pub fn off_cpu(&self) -> Duration {
        Duration::from_nanos(self.off.values().fold(0, |sum, time| sum.saturating_add(*time)))
    }

    /// All time.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.on_cpu() + self.off_cpu()
    }

    /// The share of the time on a CPU, from 0 to 1, in which a function was under way, whoever called it. Its path may be
    /// given in part: `parse` is `app::parse`, too.
    ///
    /// ```
    /// use swath_insight::profile::{Frame, FrameOrigin, NameProfile};
    /// let frame = |path: &str| Frame::new(path, FrameOrigin::Program);
    /// let mut profile = NameProfile::default();
    /// profile.on.add([frame("app::task"), frame("app::parse")], 75);
    /// profile.on.add([frame("app::task"), frame("app::count")], 25);
    /// assert_eq!((profile.share("parse"), profile.share("app::task")), (0.75, 1.0));
    /// assert_eq!(profile.share("arse"), 0.0);
    /// ```
    #[must_use]
    pub fn share(&self, function: &str) -> f64 {
        let is_it =
            |path: &str| path.strip_suffix(function).is_some_and(|before| before.is_empty() || before.ends_with("::"));
        let stacks = self.on.stacks().filter(|(stack, _)| stack.iter().any(|frame| is_it(&frame.function)));
        let with = stacks.fold(0_u64, |sum, (_, time)| sum.saturating_add(time));
        if with == 0 { 0.0 } else { with as f64 / self.on.total() as f64 }
    }

    /// Adds what another one has.
    pub fn merge(&mut self, other: &Self) {
        self.on.merge(&other.on);
        for (call, time) in &other.off {
            self.add_off(call, *time);
        }
        self.samples += other.samples;
    }

    fn add_off(&mut self, call: &Arc<str>, time: u64) {
        let sum = self.off.entry(Arc::clone(call)).or_default();
        *sum = sum.saturating_add(time);
    }

    /// The same with these functions.
    #[must_use]
    pub fn with(&self, frames: Frames) -> Self {
        if frames == Frames::All {
            return self.clone();
        }
        let mut on = StackTree::default();
        on.add_other(self.on.other());
        for (stack, time) in self.on.stacks() {
            // What a function of the program calls is kept, and what that calls in turn is a part of it.
            let mut before = FrameOrigin::Program;
            let shown = stack.into_iter().filter(|frame| {
                let is_part = frame.origin != FrameOrigin::Program && before != FrameOrigin::Program;
                before = frame.origin;
                !is_part
            });
            on.add(shown.cloned(), time);
        }
        Self { on, off: self.off.clone(), samples: self.samples }
    }
}

/// Where tasks spent their time, by name and second: what `client.profile()` gives.
///
/// Printed, it is a tree with percentages for each name; `{:#}` shows the functions of the standard library and of swath,
/// too. Where a name has more than ten minutes, its slices are longer than a second.
///
/// ```
/// use std::time::Duration;
/// use swath_insight::profile::{Frame, FrameOrigin, Profile};
/// let frame = |path: &str| Frame::new(path, FrameOrigin::Program);
/// let mut profile = Profile::default();
/// profile.add_stack("parse", 1_700_000_000, [frame("app::parse"), frame("app::number")], Duration::from_millis(60), 6);
/// profile.add_wait("parse", 1_700_000_001, "read", Duration::from_millis(40));
/// assert_eq!(profile.names()[0].time(), Duration::from_millis(100));
/// assert!(profile.to_string().contains("60 %    app::number"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// How long a slice is, in seconds: a power of two.
    width: u64,
    /// By the second in which a slice begins, since 1970.
    names: BTreeMap<Arc<str>, BTreeMap<u64, NameProfile>>,
    lost: u64,
    off: BTreeMap<String, ProfileOff>,
}

impl Default for Profile {
    fn default() -> Self {
        Self { width: 1, names: BTreeMap::new(), lost: 0, off: BTreeMap::new() }
    }
}

/// What the tasks of a name took in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTime {
    /// The name.
    pub name: Arc<str>,
    /// Time on a CPU.
    pub on: Duration,
    /// Time off it.
    pub off: Duration,
}

impl NameTime {
    /// All time.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.on + self.off
    }
}

impl Profile {
    /// Whether nothing has been sampled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names, by time, and what each took.
    #[must_use]
    pub fn names(&self) -> Vec<NameTime> {
        let sum =
            |slices: &BTreeMap<u64, NameProfile>, part: fn(&NameProfile) -> Duration| slices.values().map(part).sum();
        let mut names: Vec<NameTime> = (self.names.iter())
            .map(|(name, slices)| NameTime {
                name: Arc::clone(name),
                on: sum(slices, NameProfile::on_cpu),
                off: sum(slices, NameProfile::off_cpu),
            })
            .collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.time()));
        names
    }

    /// What the tasks of a name did, in all slices.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<NameProfile> {
        let mut all = NameProfile::default();
        self.names.get(name)?.values().for_each(|slice| all.merge(slice));
        Some(all)
    }

    /// What the tasks of a name did in each slice, with the second in which it begins, since 1970.
    pub fn slices(&self, name: &str) -> impl Iterator<Item = (u64, &NameProfile)> {
        self.names.get(name).into_iter().flatten().map(|(second, slice)| (*second, slice))
    }

    /// How long a slice is.
    #[must_use]
    pub fn slice(&self) -> Duration {
        Duration::from_secs(self.width)
    }

    /// The seconds of which there is something, since 1970. Empty where there is nothing.
    #[must_use]
    pub fn seconds(&self) -> Range<u64> {
        let first = self.names.values().filter_map(|slices| slices.keys().next()).min();
        let last = self.names.values().filter_map(|slices| slices.keys().next_back()).max();
        first.zip(last).map_or(0..0, |(first, last)| *first..last + self.width)
    }

    /// Only the slices that begin in these seconds.
    #[must_use]
    pub fn between(&self, seconds: Range<u64>) -> Self {
        let within = |slices: &BTreeMap<u64, NameProfile>| -> BTreeMap<u64, NameProfile> {
            let found = slices.iter().filter(|(second, _)| seconds.contains(second));
            found.map(|(second, slice)| (*second, slice.clone())).collect()
        };
        let names = self.names.iter().map(|(name, slices)| (Arc::clone(name), within(slices)));
        Self { names: names.filter(|(_, slices)| !slices.is_empty()).collect(), ..self.clone() }
    }

    /// How many samples there was no room for.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Which workers are not sampled, and why.
    #[must_use]
    pub fn off(&self) -> &BTreeMap<String, ProfileOff> {
        &self.off
    }

    /// Adds time on a CPU: of a stack, outermost function first, seen so often.
    pub fn add_stack(
        &mut self,
        name: &str,
        second: u64,
        stack: impl IntoIterator<Item = Frame>,
        time: Duration,
        samples: u64,
    ) {
        let slice = self.at(name, second);
        slice.on.add(stack, nanos(time));
        slice.samples += samples;
    }

    /// Adds time off the CPU: in a system call, or what else is waited for.
    pub fn add_wait(&mut self, name: &str, second: u64, call: &str, time: Duration) {
        self.at(name, second).add_off(&Arc::from(call), nanos(time));
    }

    /// Adds a slice of time.
    pub fn add(&mut self, name: &str, second: u64, slice: &NameProfile) {
        self.at(name, second).merge(slice);
    }

    /// So many samples had no room.
    pub fn add_lost(&mut self, samples: u64) {
        self.lost = self.lost.saturating_add(samples);
    }

    /// A worker is not sampled.
    pub fn note_off(&mut self, worker: impl Into<String>, why: ProfileOff) {
        self.off.insert(worker.into(), why);
    }

    /// Adds what another one has. What it says of workers that are not sampled is the newer word.
    pub fn merge(&mut self, other: &Self) {
        for (name, slices) in &other.names {
            for (second, slice) in slices {
                self.add(name, *second, slice);
            }
        }
        self.add_lost(other.lost);
        self.off.extend(other.off.iter().map(|(worker, why)| (worker.clone(), why.clone())));
    }

    fn at(&mut self, name: &str, second: u64) -> &mut NameProfile {
        let is_known = self.names.contains_key(name);
        let name = if is_known || self.names.len() < MOST_NAMES { name } else { OTHER_NAMES };
        let mut begins = second - second % self.width;
        // Wider slices are fewer, but for those of many names that each have one.
        while self.has_no_room(name, begins) && self.width < 1 << 40 {
            self.widen();
            begins = second - second % self.width;
        }
        if !self.names.contains_key(name) {
            self.names.insert(Arc::from(name), BTreeMap::new());
        }
        // The name is there: it has just been made if it was not.
        self.names.get_mut(name).map(|slices| slices.entry(begins).or_default()).unwrap_or_else(|| unreachable!())
    }

    /// Whether there are too many slices for another one of a name.
    fn has_no_room(&self, name: &str, begins: u64) -> bool {
        let slices = self.names.get(name);
        if slices.is_some_and(|slices| slices.contains_key(&begins)) {
            return false;
        }
        let all = || self.names.values().map(|slices| slices.len() as u64).sum::<u64>();
        slices.is_some_and(|slices| slices.len() as u64 >= MOST_SLICES) || all() >= MOST_SLICES_OF_ALL
    }

    /// Makes one slice of two that lie in one of twice the length.
    fn widen(&mut self) {
        self.width *= 2;
        for slices in self.names.values_mut() {
            for (second, slice) in std::mem::take(slices) {
                slices.entry(second - second % self.width).or_default().merge(&slice);
            }
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(path: &str, origin: FrameOrigin) -> Frame {
        Frame::new(path, origin)
    }

    #[test]
    fn what_the_program_calls_is_one_function() {
        use FrameOrigin::{Library, Program, Std, Swath};
        let mut profile = NameProfile::default();
        let stack = [
            ("task", Program),
            ("iter::map", Std),
            ("alloc::grow", Std),
            ("libc.so.6", Library),
            ("closure", Program),
            ("swath::client::compute", Swath),
            ("std::park", Std),
        ];
        profile.on.add(stack.map(|(path, origin)| frame(path, origin)), 10);
        profile.on.add([frame("swath::bag::count", Swath), frame("core::fold", Std)], 5);
        let shown = profile.with(Frames::Own);
        let stacks: Vec<Vec<&str>> =
            shown.on.stacks().map(|(stack, _)| stack.iter().map(|frame| &*frame.function).collect()).collect();
        let expected: [&[&str]; 2] =
            [&["task", "iter::map", "closure", "swath::client::compute"], &["swath::bag::count"]];
        assert_eq!(stacks, expected);
        assert_eq!((shown.on.total(), profile.with(Frames::All)), (15, profile.clone()));
    }

    #[test]
    fn slices_become_longer_and_lose_nothing() {
        let mut profile = Profile::default();
        let second = Duration::from_secs(1);
        for at in 0..5 * MOST_SLICES {
            profile.add_stack("a", at, [frame("f", FrameOrigin::Program)], second, 1);
            profile.add_wait("b", at, "read", second);
        }
        assert_eq!(profile.slice(), Duration::from_secs(8));
        assert!(profile.slices("a").count() as u64 <= MOST_SLICES);
        let all = second * (5 * MOST_SLICES as u32);
        assert_eq!(profile.of("a").map(|a| (a.on_cpu(), a.samples)), Some((all, 5 * MOST_SLICES)));
        assert_eq!(profile.of("b").map(|b| b.off_cpu()), Some(all));
        assert_eq!(profile.seconds(), 0..5 * MOST_SLICES);
        let half = profile.between(0..8 * 100);
        assert_eq!(half.of("a").map(|a| a.on_cpu()), Some(second * 800));
        assert_eq!(profile.between(1 << 40..1 << 41), Profile { width: 8, ..Profile::default() });
    }

    #[test]
    fn names_are_bounded() {
        let mut profile = Profile::default();
        for number in 0..MOST_NAMES + 10 {
            profile.add_wait(&format!("name-{number}"), 1, "read", Duration::from_nanos(1));
        }
        assert_eq!(profile.names().len(), MOST_NAMES + 1);
        assert_eq!(profile.of(OTHER_NAMES).map(|other| other.off_cpu()), Some(Duration::from_nanos(10)));
    }

    #[test]
    fn slices_of_all_names_are_bounded() {
        let mut profile = Profile::default();
        for second in 0..100 {
            for name in 0..300 {
                profile.add_wait(&format!("name-{name}"), second, "read", Duration::from_nanos(1));
            }
        }
        let all: usize = (0..300).map(|name| profile.slices(&format!("name-{name}")).count()).sum();
        assert!(all as u64 <= MOST_SLICES_OF_ALL && profile.slice() == Duration::from_secs(2), "{all}");
        assert_eq!(profile.names().iter().map(|name| name.off).sum::<Duration>(), Duration::from_nanos(30_000));
    }

    #[test]
    fn profiles_are_merged_and_saved() {
        let mut profile = Profile::default();
        profile.add_stack("a", 7, [frame("f", FrameOrigin::Program)], Duration::from_millis(10), 1);
        profile.add_lost(2);
        profile.note_off("worker-1", ProfileOff::HandlerInUse);
        let mut both = profile.clone();
        both.merge(&profile);
        assert_eq!((both.lost(), both.names()[0].on), (4, Duration::from_millis(20)));
        assert_eq!(both.off()["worker-1"], ProfileOff::HandlerInUse);
        let text = serde_json::to_string(&profile).expect("it is written");
        assert_eq!(serde_json::from_str::<Profile>(&text).expect("it is read"), profile);
    }
}
