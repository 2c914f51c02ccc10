//! How fast tasks end, and how long what is left of them takes.
//!
//! Snapshots of the counts are all there is to go by. What is left of a group takes its tasks times their mean run time,
//! divided by the threads that can take them; the groups of a graph follow each other, in the order in which the graph
//! names them. What threads lose between tasks is measured, and so is how many tasks a graph has at a time whose tasks wait
//! for each other.

use crate::{GroupProgress, Progress};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// The rate of a group is that of its tasks that ended in this time.
pub const RATE_WINDOW: Duration = Duration::from_secs(5);

/// Runs after which the mean run time of a group counts as known.
const KNOWN_RUNS: u64 = 3;
/// Snapshots that follow each other sooner are not remembered.
const APART: Duration = Duration::from_millis(100);
/// How far back it is looked for what threads lose, where tasks take long.
const LONGEST_WINDOW: Duration = Duration::from_secs(60);
/// How many tasks there are at a time is looked at for so long: it changes sooner than what threads lose.
const RECENTLY: Duration = Duration::from_secs(1);
/// So many run times of the longest tasks are looked at.
const RUN_TIMES: f64 = 4.0;
/// Threads do not lose more than this share of their time for good.
const LEAST_EFFICIENCY: f64 = 0.02;

/// What successive snapshots of one client's tasks tell: rates, and time left.
///
/// ```
/// use std::time::Duration;
/// use swath_insight::{Counts, GroupProgress, Pace, Progress, Totals};
///
/// // Two threads, and tasks of a second each.
/// let after = |seconds: u64| {
///     let done = 2 * seconds;
///     let counts = Counts { memory: done, running: 2, ready: 98 - done, ..Counts::default() };
///     let totals = Totals { counts, runs: done, run_time: Duration::from_secs(done), ..Totals::default() };
///     let mut progress = Progress::new([GroupProgress::new("parse", Some(0), totals)]);
///     progress.threads = 2;
///     progress
/// };
/// let mut pace = Pace::default();
/// let mut last = after(0);
/// for seconds in 0..=10 {
///     last = after(seconds);
///     pace.observe(Duration::from_secs(seconds), &mut last);
/// }
/// assert_eq!(last.groups[0].rate, Some(2.0));
/// // 78 that are ready, and half of the two that run.
/// assert_eq!(last.left.map(|left| left.as_secs_f64().round()), Some(40.0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// For each group that is not done, or was not a moment ago, how many of its tasks had ended when.
    ended: HashMap<Option<u32>, HashMap<String, Ended>>,
    /// What threads did until when.
    use_of_threads: VecDeque<ThreadUse>,
}

/// How many tasks had ended when.
type Ended = VecDeque<(Duration, u64)>;

/// Sums since the first snapshot.
#[derive(Clone, Copy, Debug, Default)]
struct ThreadUse {
    at: Duration,
    runs: u64,
    /// Seconds that tasks have run, those included that run.
    ran: f64,
    /// Seconds of threads for which there was something to run.
    usable: f64,
    /// How many threads there was something to run for at the end.
    now: f64,
}

/// What is left of one group.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    /// Seconds of one thread.
    work: f64,
    /// Seconds, where nothing else runs.
    time: f64,
}

/// How long a task runs in the mean, by name, where enough runs are known.
struct Means<'a> {
    by_name: HashMap<&'a str, (u64, Duration)>,
    by_graph: HashMap<u32, (u64, Duration)>,
}

impl<'a> Means<'a> {
    fn of(groups: &'a [GroupProgress]) -> Self {
        let mut means = Self { by_name: HashMap::new(), by_graph: HashMap::new() };
        // Only names of which something is left are looked up.
        for group in groups.iter().filter(|group| group.counts.unfinished() > 0) {
            means.by_name.entry(&group.name).or_default();
        }
        if means.by_name.is_empty() {
            return means;
        }
        for group in groups {
            if let Some((runs, time)) = means.by_name.get_mut(group.name.as_str()) {
                *runs += group.runs;
                *time += group.run_time;
            }
            if let Some(graph) = group.graph.filter(|_| group.runs >= KNOWN_RUNS) {
                let (runs, time) = means.by_graph.entry(graph).or_default();
                *runs += group.runs;
                *time += group.run_time;
            }
        }
        means
    }

    /// Seconds; that of the group itself, else of its name in all graphs, else of its graph.
    fn seconds(&self, group: &GroupProgress) -> Option<f64> {
        let known = |(runs, time): (u64, Duration)| (runs >= KNOWN_RUNS).then(|| time.as_secs_f64() / runs as f64);
        known((group.runs, group.run_time))
            .or_else(|| known(*self.by_name.get(group.name.as_str())?))
            .or_else(|| group.graph.and_then(|graph| known(*self.by_graph.get(&graph)?)))
    }
}

impl Pace {
    /// Takes the next snapshot of all tasks, `at` a time since any moment that is the same for all, and fills in the rates and the
    /// time left.
    pub fn observe(&mut self, at: Duration, progress: &mut Progress) {
        let means = Means::of(&progress.groups);
        let seconds: Vec<Option<f64>> = progress.groups.iter().map(|group| means.seconds(group)).collect();
        self.note_use(at, progress, &seconds);
        self.fill_rates(at, progress);
        let left = self.fill_left(progress, &seconds);
        progress.left = left;
    }

    /// The same for some of the groups, which are those of a snapshot that was observed, or were made from it: how long they
    /// take if nothing else runs.
    pub fn apart(&self, whole: &Progress, groups: Vec<GroupProgress>) -> Progress {
        let means = Means::of(&whole.groups);
        let mut some = Progress::new(groups);
        some.threads = whole.threads;
        let of_name = |group: &GroupProgress| {
            let same = whole.groups.iter().filter(|other| other.name == group.name);
            let (runs, time) = same.fold((0, Duration::ZERO), |(n, t), g| (n + g.runs, t + g.run_time));
            (runs >= KNOWN_RUNS).then(|| time.as_secs_f64() / runs as f64)
        };
        let seconds: Vec<_> = some.groups.iter().map(|g| means.seconds(g).or_else(|| of_name(g))).collect();
        some.left = self.fill_left(&mut some, &seconds);
        let rates: Vec<f64> = some.groups.iter().filter_map(|group| group.rate).collect();
        some.rate = (!rates.is_empty()).then(|| rates.iter().sum());
        some
    }

    fn note_use(&mut self, at: Duration, progress: &Progress, seconds: &[Option<f64>]) {
        let counts = &progress.counts;
        let (mut runs, mut ran, mut longest) = (0, 0.0, 0.0_f64);
        for (group, mean) in progress.groups.iter().zip(seconds) {
            runs += group.runs;
            ran += group.run_time.as_secs_f64();
            if let Some(mean) = mean.filter(|_| group.counts.running > 0) {
                ran += group.counts.running as f64 * mean / 2.0;
                longest = longest.max(mean);
            }
        }
        let now = (counts.running + counts.ready).min(progress.threads as u64) as f64;
        let mut next = ThreadUse { at, runs, ran, usable: 0.0, now };
        if let Some(last) = self.use_of_threads.back() {
            let passed = at.saturating_sub(last.at).as_secs_f64();
            // Between two snapshots it was something between both.
            next.usable = last.usable + passed * (last.now + now) / 2.0;
            if at < last.at + APART {
                return;
            }
        }
        self.use_of_threads.push_back(next);
        let window =
            RATE_WINDOW.max(Duration::from_secs_f64((longest * RUN_TIMES).clamp(0.0, 1e6))).min(LONGEST_WINDOW);
        while self.use_of_threads.get(1).is_some_and(|second| second.at + window <= at) {
            self.use_of_threads.pop_front();
        }
    }

    /// The share of the time of threads for which there was something to run that tasks ran.
    fn efficiency(&self) -> f64 {
        let (Some(first), Some(last)) = (self.use_of_threads.front(), self.use_of_threads.back()) else { return 1.0 };
        let usable = last.usable - first.usable;
        if last.runs < first.runs + KNOWN_RUNS || usable <= 0.0 {
            return 1.0;
        }
        ((last.ran - first.ran) / usable).clamp(LEAST_EFFICIENCY, 1.0)
    }

    /// For how many threads there was something to run, in the mean of the last second.
    fn usable_threads(&self) -> f64 {
        let Some(last) = self.use_of_threads.back() else { return 1.0 };
        let before = self.use_of_threads.iter().rev().find(|before| before.at + RECENTLY <= last.at);
        let first = before.or(self.use_of_threads.front()).unwrap_or(last);
        let passed = last.at.saturating_sub(first.at).as_secs_f64();
        if passed > 0.0 { (last.usable - first.usable) / passed } else { last.now }
    }

    fn fill_rates(&mut self, at: Duration, progress: &mut Progress) {
        let mut sum = None;
        for group in &mut progress.groups {
            let tracks = self.ended.get_mut(&group.graph);
            let mut track = tracks.and_then(|tracks| tracks.get_mut(&group.name));
            if track.is_none() && group.counts.unfinished() > 0 {
                let tracks = self.ended.entry(group.graph).or_default();
                track = Some(tracks.entry(group.name.clone()).or_default());
            }
            let Some(track) = track else { continue };
            let ended = group.counts.done() + group.counts.failed;
            while track.get(1).is_some_and(|(second, _)| *second + RATE_WINDOW <= at) {
                track.pop_front();
            }
            if track.back().is_none_or(|(last, _)| *last + APART <= at) {
                track.push_back((at, ended));
            }
            if let Some((first, before)) = track.front().filter(|(first, _)| *first < at) {
                let rate = ended.saturating_sub(*before) as f64 / (at - *first).as_secs_f64();
                group.rate = Some(rate);
                *sum.get_or_insert(0.0) += rate;
            }
        }
        progress.rate = sum;
        // What has not moved for so long is done, or its graph has gone.
        self.ended.retain(|_, tracks| {
            tracks.retain(|_, track| track.back().is_some_and(|(last, _)| *last + RATE_WINDOW > at));
            !tracks.is_empty()
        });
    }

    fn fill_left(&self, progress: &mut Progress, seconds: &[Option<f64>]) -> Option<Duration> {
        if progress.counts.unfinished() == 0 {
            return Some(Duration::ZERO);
        }
        let threads = progress.threads.max(1) as f64;
        let some_idle = ((progress.counts.running + progress.counts.ready) as f64) < threads;
        let usable = self.usable_threads().max(1.0);
        let efficiency = self.efficiency();
        let mut graphs: HashMap<Option<u32>, f64> = HashMap::new();
        let (mut work, mut longest) = (0.0, 0.0_f64);
        // What is known of the whole is worth something only where most of it is known.
        let (mut known, mut unknown) = (0_u64, 0_u64);
        let mut ends: Vec<Option<f64>> = Vec::with_capacity(progress.groups.len());
        for (group, mean) in progress.groups.iter().zip(seconds) {
            let unfinished = group.counts.unfinished();
            let Some(mean) = mean.filter(|_| unfinished > 0) else {
                unknown += unfinished;
                ends.push((unfinished == 0).then_some(0.0));
                continue;
            };
            known += unfinished;
            let rest = rest(group, mean, threads, some_idle.then_some(usable));
            work += rest.work;
            // Groups without a graph are of graphs of one task each: none waits for another.
            let before = match group.graph {
                Some(_) => graphs.entry(group.graph).or_default(),
                None => &mut 0.0,
            };
            *before += rest.time;
            ends.push(Some(*before));
            longest = longest.max(*before);
        }
        if known == 0 || unknown > known {
            return None;
        }
        // Several graphs share the threads.
        let all = longest.max(work / threads);
        let stretch = if longest > 0.0 { all / longest / efficiency } else { 1.0 };
        for (group, end) in progress.groups.iter_mut().zip(ends) {
            group.left = end.and_then(|end| Duration::try_from_secs_f64(end * stretch).ok());
        }
        Duration::try_from_secs_f64(longest * stretch).ok()
    }
}

/// What is left of a group whose tasks run so many seconds; where threads are idle, so many are used.
fn rest(group: &GroupProgress, mean: f64, threads: f64, used: Option<f64>) -> Rest {
    let counts = &group.counts;
    let running = counts.running as f64;
    let said = (group.partial as f64 / 1000.0).min(running);
    // Where tasks do not say how far they are, they are half done in the mean.
    let left_of_running = if said > 0.0 { running - said } else { running / 2.0 };
    let work = ((counts.waiting + counts.ready) as f64 + left_of_running) * mean;
    let mut width = (counts.unfinished() as f64).min(threads);
    if let Some(used) = used.filter(|_| counts.waiting > 0 && group.runs > 0) {
        // They wait for each other, or for others that do.
        width = width.min(used);
    }
    Rest { work, time: work / width.max(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counts, Totals};
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    const MS: u64 = 1;
    const SECOND: u64 = 1000 * MS;

    struct Task {
        group: usize,
        graph: u32,
        /// Milliseconds.
        takes: u64,
        after: Vec<usize>,
    }

    /// Runs that are simulated: threads take what is ready in the order of the tasks.
    #[derive(Default)]
    struct Run {
        names: Vec<&'static str>,
        tasks: Vec<Task>,
        threads: usize,
        /// What a thread needs between two tasks.
        overhead: u64,
        seed: u64,
    }

    impl Run {
        fn on(threads: usize) -> Self {
            Self { threads, seed: 7, ..Self::default() }
        }

        fn task(&mut self, name: &'static str, graph: u32, takes: u64, after: Vec<usize>) -> usize {
            let group = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
                self.names.push(name);
                self.names.len() - 1
            });
            // Run times vary by half.
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let takes = takes / 2 + (self.seed >> 33) % takes.max(1);
            self.tasks.push(Task { group, graph, takes: takes.max(1), after });
            self.tasks.len() - 1
        }

        /// For each task, when it is ready, begins and ends.
        fn times(&self) -> Vec<[u64; 3]> {
            let mut missing: Vec<usize> = self.tasks.iter().map(|task| task.after.len()).collect();
            let mut users: Vec<Vec<usize>> = vec![Vec::new(); self.tasks.len()];
            for (id, task) in self.tasks.iter().enumerate() {
                task.after.iter().for_each(|input| users[*input].push(id));
            }
            let mut times = vec![[0; 3]; self.tasks.len()];
            let mut ready: BinaryHeap<Reverse<usize>> =
                (0..self.tasks.len()).filter(|id| missing[*id] == 0).map(Reverse).collect();
            let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
            let mut now = 0;
            loop {
                while running.len() < self.threads
                    && let Some(Reverse(id)) = ready.pop()
                {
                    times[id][1] = now + self.overhead;
                    times[id][2] = now + self.overhead + self.tasks[id].takes;
                    running.push(Reverse((times[id][2], id)));
                }
                let Some(Reverse((end, id))) = running.pop() else { return times };
                now = end;
                for &user in &users[id] {
                    missing[user] -= 1;
                    if missing[user] == 0 {
                        times[user][0] = now;
                        ready.push(Reverse(user));
                    }
                }
            }
        }

        fn snapshot(&self, times: &[[u64; 3]], at: u64) -> Progress {
            let mut groups: HashMap<(u32, usize), Totals> = HashMap::new();
            for (task, [ready, begin, end]) in self.tasks.iter().zip(times) {
                let totals = groups.entry((task.graph, task.group)).or_default();
                let counts = &mut totals.counts;
                let state = match () {
                    () if *end <= at => &mut counts.memory,
                    () if *begin <= at => &mut counts.running,
                    () if *ready <= at => &mut counts.ready,
                    () => &mut counts.waiting,
                };
                *state += 1;
                if *end <= at {
                    totals.runs += 1;
                    totals.run_time += Duration::from_millis(end - begin);
                }
            }
            let mut groups: Vec<_> = groups.into_iter().collect();
            groups.sort_unstable_by_key(|(key, _)| *key);
            let groups = groups
                .into_iter()
                .map(|((graph, group), totals)| GroupProgress::new(self.names[group], Some(graph), totals));
            let mut progress = Progress::new(groups);
            progress.threads = self.threads;
            progress
        }

        /// The time left is right within 30 % of what it is from half-way on. At the very end it is as good as one run and a
        /// twentieth of the whole: how the last tasks wait for each other cannot be seen in their counts.
        fn check(&self, what: &str) {
            let times = self.times();
            let end = times.iter().map(|[_, _, end]| *end).max().unwrap_or_default();
            let longest = self.tasks.iter().map(|task| task.takes).max().unwrap_or_default() as f64 / 1e3;
            let mut pace = Pace::default();
            let mut off = Vec::new();
            for at in (0..end).step_by(100) {
                let mut progress = self.snapshot(&times, at);
                pace.observe(Duration::from_millis(at), &mut progress);
                if at < end / 2 {
                    continue;
                }
                let real = (end - at) as f64 / 1e3;
                let left = progress.left.expect("half of it has run").as_secs_f64();
                if (left - real).abs() > 0.3 * real + longest + end as f64 / 20e3 {
                    off.push((at, real, left));
                }
            }
            assert!(off.is_empty(), "{what}, {end} ms: (at, real, told) {off:?}");
        }
    }

    #[test]
    fn time_left_of_one_wide_layer() {
        for (threads, overhead, takes) in [(1, 0, 20), (8, 0, 50), (8, 30, 20), (4, 1, 2)] {
            let mut run = Run { overhead, ..Run::on(threads) };
            for _ in 0..4000 {
                run.task("parse", 0, takes, vec![]);
            }
            run.check("one layer");
        }
    }

    #[test]
    fn time_left_of_steps_and_what_ends_them() {
        let mut run = Run::on(8);
        let counted: Vec<usize> = (0..1000)
            .map(|_| {
                let parsed = run.task("parse", 0, 90, vec![]);
                run.task("count", 0, 30, vec![parsed])
            })
            .collect();
        run.task("total", 0, 200, counted);
        run.check("steps");
    }

    #[test]
    fn time_left_behind_a_slow_first_task_and_a_barrier() {
        let mut run = Run::on(8);
        let load = run.task("load", 0, 3 * SECOND, vec![]);
        let parsed: Vec<_> = (0..800).map(|_| run.task("parse", 0, 100, vec![load])).collect();
        let all = run.task("join", 0, 50, parsed);
        for _ in 0..800 {
            run.task("score", 0, 100, vec![all]);
        }
        run.check("barrier");
    }

    #[test]
    fn time_left_of_chains_that_leave_threads_idle() {
        for chains in [1, 3] {
            let mut run = Run::on(8);
            for _ in 0..chains {
                let mut last = vec![];
                for _ in 0..100 {
                    last = vec![run.task("step", 0, 200, last)];
                }
            }
            run.check("chains");
        }
    }

    #[test]
    fn time_left_of_a_tree_and_of_several_graphs() {
        let mut run = Run::on(4);
        // Tasks have their numbers depth first.
        fn tree(run: &mut Run, depth: u32) -> usize {
            if depth == 0 {
                return run.task("read", 0, 100, vec![]);
            }
            let pair = vec![tree(run, depth - 1), tree(run, depth - 1)];
            run.task("sum", 0, 50, pair)
        }
        tree(&mut run, 9);
        run.check("tree");
        let mut run = Run::on(4);
        for graph in 0..5 {
            let parsed: Vec<_> = (0..100).map(|_| run.task("parse", graph, 100, vec![])).collect();
            run.task("total", graph, 100, parsed);
        }
        run.check("graphs");
    }

    #[test]
    fn nothing_is_told_before_three_runs() {
        let told = |runs: u64, other: u64| {
            let group = |graph, runs: u64, ready| {
                let counts = Counts { memory: runs, ready, ..Counts::default() };
                let totals = Totals { counts, runs, run_time: Duration::from_secs(runs), ..Totals::default() };
                GroupProgress::new("parse", Some(graph), totals)
            };
            let mut progress = Progress::new([group(0, other, 0), group(1, runs, 10)]);
            progress.threads = 2;
            Pace::default().observe(Duration::ZERO, &mut progress);
            assert_eq!(progress.left, progress.groups[1].left);
            progress.left
        };
        assert_eq!(told(0, 0), None);
        assert_eq!(told(2, 0), None);
        assert_eq!(told(3, 0), Some(Duration::from_secs(5)));
        assert_eq!(told(0, 3), Some(Duration::from_secs(5)), "that of the name in another graph");
        let mut nothing = Progress::default();
        Pace::default().observe(Duration::ZERO, &mut nothing);
        assert_eq!((nothing.left, nothing.rate), (Some(Duration::ZERO), None));
    }

    #[test]
    fn what_has_no_runs_takes_the_mean_of_its_graph() {
        let group = |name, runs: u64, waiting| {
            let counts = Counts { memory: runs, waiting, ..Counts::default() };
            let totals = Totals { counts, runs, run_time: Duration::from_secs(2 * runs), ..Totals::default() };
            GroupProgress::new(name, Some(0), totals)
        };
        let mut progress = Progress::new([group("parse", 10, 20), group("total", 0, 1)]);
        progress.threads = 4;
        Pace::default().observe(Duration::ZERO, &mut progress);
        let left: Vec<_> = progress.groups.iter().map(|group| group.left.map(|left| left.as_secs())).collect();
        assert_eq!(left.last(), Some(&Some(left[0].unwrap_or_default() + 2)), "{progress:?}");
    }

    #[test]
    fn rates_are_those_of_the_last_five_seconds_and_forgotten() {
        let mut pace = Pace::default();
        let mut rates = Vec::new();
        for second in 0..40_u64 {
            // Ten a second, then none.
            let done = 10 * second.min(10);
            let counts = Counts { memory: done, ready: 1000 - done, ..Counts::default() };
            let mut progress = Progress::new([GroupProgress::new("f", Some(0), counts.into())]);
            pace.observe(Duration::from_secs(second), &mut progress);
            rates.push(progress.groups[0].rate);
        }
        assert_eq!(
            (rates[0], rates[3], rates[10], rates[12], rates[20]),
            (None, Some(10.0), Some(10.0), Some(6.0), Some(0.0))
        );
        let mut done = Progress::new([GroupProgress::new("f", Some(0), Counts::default().into())]);
        pace.observe(Duration::from_secs(60), &mut done);
        pace.observe(Duration::from_secs(70), &mut Progress::default());
        assert!(pace.ended.is_empty());
    }

    #[test]
    fn what_running_tasks_say_counts() {
        let totals = |partial| Totals {
            counts: Counts { memory: 3, running: 1, ..Counts::default() },
            runs: 3,
            run_time: Duration::from_secs(30),
            partial,
        };
        let left = |partial| {
            let mut progress = Progress::new([GroupProgress::new("f", Some(0), totals(partial))]);
            progress.threads = 1;
            Pace::default().observe(Duration::ZERO, &mut progress);
            (progress.left.map(|left| left.as_secs_f64()), progress.fraction())
        };
        assert_eq!(left(0), (Some(5.0), 0.75));
        assert_eq!(left(900), (Some(1.0), 0.975));
        // More than runs is not done.
        assert_eq!(left(5000), (Some(0.0), 1.0));
    }
}
