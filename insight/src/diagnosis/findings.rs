//! What time was lost to.

use super::spans::{Span, Spans};
use super::{Diagnosis, Gathered, HAND_OUT, seconds};
use crate::log::{EventKind, Outcome, Run, SavedLog, TimeByUse, Use, nanos, plain};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// Handing tasks to threads takes a large part of the time that they run.
    TasksTooSmall,
    /// There were fewer tasks than threads to run them.
    TooFewTasks,
    /// At the end of a graph one task ran alone.
    Straggler,
    /// No graph was under way: the program was building, sending or reading results.
    SlowClient,
    /// Workers started no tasks for want of memory.
    Memory,
    /// Results were moved between workers.
    BytesMoved,
    /// Inputs were decoded and results encoded.
    Encoding,
    /// Results were moved to disk and back.
    Spilling,
    /// Tasks that had a result ran again, since that was lost or released.
    Recomputed,
    /// Runs failed.
    FailedRuns,
    /// Runs were lost with their workers.
    WorkersLost,
    /// Workers were not ready yet.
    Starting,
    /// The threads computed nearly all the time.
    NothingToImprove,
}

/// Something that time was lost to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What it is about.
    pub problem: Problem,
    /// The time of threads that it explains.
    #[serde(rename = "lost_ns", with = "nanos")]
    pub lost: Duration,
    /// The name, task, worker or graph that is most to blame.
    pub culprit: String,
    /// What happened.
    pub what: String,
    /// What to change.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.problem != Problem::NothingToImprove {
            write!(f, "{} lost: ", seconds(self.lost))?;
        }
        write!(f, "{} {}", self.what, self.advice)
    }
}

/// What the threads did while they ran nothing.
pub(super) struct Idle {
    pub(super) time: TimeByUse,
    /// How long threads waited for the next task to be handed to them, by the name of that.
    hand_out: BTreeMap<Arc<str>, Duration>,
    /// How long there was nothing for a thread.
    nothing: Duration,
    /// How long each worker was paused or not ready, over its threads.
    paused: FxHashMap<Arc<str>, Duration>,
    starting: FxHashMap<Arc<str>, Duration>,
}

/// When a run began, and its name.
type Start<'a> = (Duration, &'a Arc<str>);

impl Idle {
    pub(super) fn of(gathered: &Gathered) -> Self {
        let mut idle = Self {
            time: TimeByUse::default(),
            hand_out: BTreeMap::new(),
            nothing: Duration::ZERO,
            paused: FxHashMap::default(),
            starting: FxHashMap::default(),
        };
        let extent = gathered.extent;
        // Runs are in the order of their starts, so those of a thread are, too.
        let mut starts: FxHashMap<(&str, u16), Vec<Start<'_>>> = FxHashMap::default();
        for run in &gathered.runs {
            starts.entry((&run.worker, run.thread)).or_default().push((run.start, &run.name));
        }
        let none = Spans::default();
        let seen = gathered.busy.iter().map(|((worker, thread), busy)| (worker, Some(*thread), busy));
        let unseen = gathered.unseen_threads();
        let all = seen.chain(unseen.iter().map(|worker| (worker, None, &none)));
        for (worker, thread, busy) in all {
            let busy = busy.and(&Spans::of([extent]));
            idle.time[Use::Computing] += busy.total();
            let gaps = busy.gaps(extent);
            let used = gaps.and(&gathered.under_way);
            idle.time[Use::WaitingForClient] += gaps.without(&gathered.under_way).total();
            let not_ready = used.and(gathered.starting.get(worker).unwrap_or(&none));
            let ready = used.without(&not_ready);
            let paused = ready.and(gathered.paused.get(worker).unwrap_or(&none));
            *idle.starting.entry(Arc::clone(worker)).or_default() += not_ready.total();
            *idle.paused.entry(Arc::clone(worker)).or_default() += paused.total();
            let starts = thread.and_then(|thread| starts.get(&(&**worker, thread))).map_or(&[][..], Vec::as_slice);
            for (from, to) in ready.without(&paused).iter() {
                let next = starts.binary_search_by_key(&to, |(start, _)| *start).ok().map(|place| starts[place].1);
                match next.filter(|_| to - from <= HAND_OUT) {
                    Some(name) => *idle.hand_out.entry(Arc::clone(name)).or_default() += to - from,
                    None => idle.nothing += to - from,
                }
            }
        }
        idle.split_runs(gathered);
        // Threads of nobody knows which worker that have never run anything had nothing to run.
        let unseen = gathered.threads.saturating_sub(gathered.busy.len() + unseen.len());
        let unseen = u32::try_from(unseen).unwrap_or(u32::MAX);
        let all = Spans::of([extent]);
        idle.nothing += all.and(&gathered.under_way).total() * unseen;
        idle.time[Use::WaitingForClient] += all.without(&gathered.under_way).total() * unseen;
        idle.time[Use::WaitingForInputs] = idle.nothing;
        idle.time[Use::WaitingForHandOut] = idle.hand_out.values().sum();
        idle.time[Use::WaitingForMemory] = idle.paused.values().sum();
        idle.time[Use::Starting] = idle.starting.values().sum();
        idle
    }
}

impl Idle {
    /// Runs do not compute all the time: takes what they read, wrote and waited from that. Of a run that is partly in the
    /// extent, in proportion.
    fn split_runs(&mut self, gathered: &Gathered) {
        let (from, to) = gathered.extent;
        for run in &gathered.runs {
            let parts = [
                (Use::ReadingInputs, run.reading),
                (Use::WritingResults, run.writing),
                (Use::Suspended, run.suspended),
            ];
            if parts.iter().all(|(_, time)| time.is_none()) {
                continue;
            }
            let (start, end) = (run.start, run.end.unwrap_or(run.start));
            let within = end.min(to).saturating_sub(start.max(from));
            let share = within.as_secs_f64() / (end - start).as_secs_f64().max(f64::MIN_POSITIVE);
            for (of, time) in parts {
                // A thread may have run another task while one waited: never more than it computed.
                let time = time.unwrap_or_default().mul_f64(share.min(1.0)).min(self.time[Use::Computing]);
                self.time[Use::Computing] -= time;
                self.time[of] += time;
            }
        }
    }
}

/// What is gathered while findings are made.
struct Findings<'a> {
    diagnosis: &'a Diagnosis,
    found: Vec<Finding>,
}

impl Findings<'_> {
    /// Whether that is worth a finding: a hundredth of all time at least.
    fn matters(&self, lost: Duration) -> bool {
        lost > Duration::ZERO && lost.as_secs_f64() >= 0.01 * self.diagnosis.time.total().as_secs_f64()
    }

    fn add(&mut self, problem: Problem, lost: Duration, culprit: impl Into<String>, what: String, advice: &str) {
        if self.matters(lost) {
            let culprit = plain(&culprit.into());
            self.found.push(Finding { problem, lost, culprit, what, advice: advice.to_string() });
        }
    }
}

/// The largest, with its name.
fn most<K: Ord + Clone>(of: impl IntoIterator<Item = (K, Duration)>) -> Option<(K, Duration)> {
    of.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)))
}

pub(super) fn find(diagnosis: &Diagnosis, gathered: &Gathered, idle: &Idle, log: &SavedLog) -> Vec<Finding> {
    let mut findings = Findings { diagnosis, found: Vec::new() };
    if gathered.threads == 0 {
        return Vec::new();
    }
    let stragglers = stragglers(gathered);
    let alone: Duration = stragglers.iter().map(|(_, lost)| *lost).sum();
    small_tasks(&mut findings, idle);
    if let Some((run, lost)) = stragglers.iter().max_by_key(|(_, lost)| *lost) {
        let usual = usual(gathered, &run.name);
        let usual = usual.map_or(String::new(), |usual| format!(" (usual for its name: {})", seconds(usual)));
        let what = format!(
            "`{}` ran alone at the end of graph {}, {} in all{usual}, for {} of them.",
            plain(&run.key()),
            run.graph,
            seconds(run.took().unwrap_or_default()),
            seconds(*lost / u32::try_from(gathered.threads.max(2) - 1).unwrap_or(1)),
        );
        findings.add(
            Problem::Straggler,
            alone.min(idle.nothing),
            run.key(),
            what,
            "Let it begin earlier (`priority`), or cut it into smaller tasks.",
        );
    }
    let nothing = idle.nothing.saturating_sub(alone);
    let while_under_way = gathered.under_way.and(&Spans::of([gathered.extent])).total().as_secs_f64();
    let at_once = diagnosis.time[Use::Computing].as_secs_f64() / while_under_way.max(f64::MIN_POSITIVE);
    let name = diagnosis.names.first().map_or_else(String::new, |name| name.name.clone());
    findings.add(
        Problem::TooFewTasks,
        nothing,
        name,
        format!("{at_once:.1} of {} threads had a task in the mean.", gathered.threads),
        "Cut the work into more tasks that do not need each other: more partitions or chunks, wider trees.",
    );
    findings.add(
        Problem::SlowClient,
        diagnosis.time[Use::WaitingForClient],
        "the program",
        format!(
            "no graph was under way for {}.",
            seconds(Spans::of([gathered.extent]).without(&gathered.under_way).total())
        ),
        "Submit the next graph before waiting for the last one, and build fewer, larger graphs.",
    );
    if let Some((worker, _)) = most(idle.paused.iter().map(|(worker, time)| (worker.clone(), *time))) {
        findings.add(
            Problem::Memory,
            diagnosis.time[Use::WaitingForMemory],
            &*worker,
            format!("workers started no tasks for want of memory, {} the longest.", plain(&worker)),
            "Give workers more memory (`memory_limit`), or let tasks make smaller results.",
        );
    }
    if let Some((worker, _)) = most(idle.starting.iter().map(|(worker, time)| (worker.clone(), *time))) {
        findings.add(
            Problem::Starting,
            diagnosis.time[Use::Starting],
            &*worker,
            "tasks were ready before workers were.".to_string(),
            "Open the client earlier, or use a local cluster, whose workers are there already.",
        );
    }
    encoded(&mut findings, gathered);
    repeated(&mut findings, gathered);
    moved(&mut findings, gathered.extent, log);
    let mut found = findings.found;
    found.sort_by_key(|finding| std::cmp::Reverse(finding.lost));
    let share = diagnosis.time.share(Use::Computing);
    // Runs that were in vain computed, too.
    let all = diagnosis.time.total().as_secs_f64();
    let is_well = share >= 0.9 && found.first().is_none_or(|most| most.lost.as_secs_f64() < 0.1 * all);
    if is_well || found.is_empty() {
        let what = format!("the threads computed {:.0} % of the time.", 100.0 * share);
        let name = diagnosis.names.first().map_or_else(String::new, |name| plain(&name.name));
        let advice = format!("What is left is the work itself, most of it in `{name}`: make that faster.");
        let lost = diagnosis.time.total().saturating_sub(diagnosis.time[Use::Computing]);
        found.insert(0, Finding { problem: Problem::NothingToImprove, lost, culprit: name, what, advice });
    }
    found
}

/// Handing tasks out took more than 30 % of the time that they ran, or a tenth of all time.
fn small_tasks(findings: &mut Findings<'_>, idle: &Idle) {
    let time = &findings.diagnosis.time;
    let lost = time[Use::WaitingForHandOut];
    let too_small =
        lost.as_secs_f64() > 0.3 * time[Use::Computing].as_secs_f64() || time.share(Use::WaitingForHandOut) > 0.1;
    let Some((name, _)) = most(idle.hand_out.iter().map(|(name, time)| (name.clone(), *time))) else { return };
    let cost = findings.diagnosis.names.iter().find(|cost| *cost.name == *name).map(|name| name.cost);
    if let (true, Some(cost)) = (too_small, cost) {
        let mean = cost.took.div_f64(cost.runs.max(1) as f64);
        findings.add(
            Problem::TasksTooSmall,
            lost,
            &*name,
            format!(
                "`{}` ran {} times for {} in the mean; handing a task to a thread is not free.",
                plain(&name),
                cost.runs,
                seconds(mean)
            ),
            "Give each task more to do: larger partitions or chunks, several items a call.",
        );
    }
}

/// For each graph at whose end one task ran alone for more than a tenth of its time: that, and the time of the other threads.
fn stragglers(gathered: &Gathered) -> Vec<(&Run, Duration)> {
    if gathered.threads < 2 {
        return Vec::new();
    }
    let mut last: FxHashMap<u32, (&Run, Duration, Duration)> = FxHashMap::default();
    for run in &gathered.runs {
        let end = run.end.unwrap_or(run.start);
        match last.get_mut(&run.graph) {
            None => {
                last.insert(run.graph, (run, Duration::ZERO, run.start));
            }
            Some((latest, before, _)) => {
                let latest_end = latest.end.unwrap_or(latest.start);
                if end > latest_end {
                    (*latest, *before) = (run, latest_end);
                } else {
                    *before = (*before).max(end);
                }
            }
        }
    }
    let mut found = Vec::new();
    for (run, before, first) in last.into_values() {
        let end = run.end.unwrap_or(run.start);
        // A graph of one task at a time has no stragglers: it has too few tasks.
        let alone = end.saturating_sub(before.max(run.start));
        let waited_for = before > run.start || before > first;
        if waited_for && before > Duration::ZERO && alone.as_secs_f64() > 0.1 * (end - first).as_secs_f64() {
            found.push((run, alone * u32::try_from(gathered.threads - 1).unwrap_or(u32::MAX)));
        }
    }
    found
}

/// The median time of the runs of a name.
fn usual(gathered: &Gathered, name: &str) -> Option<Duration> {
    let mut times: Vec<_> = gathered.runs.iter().filter(|run| &*run.name == name).filter_map(Run::took).collect();
    times.sort_unstable();
    (times.len() >= 3).then(|| times[times.len() / 2])
}

/// Decoding and encoding, which copying values as a whole avoids.
fn encoded(findings: &mut Findings<'_>, gathered: &Gathered) {
    let mut by_name: BTreeMap<&str, (Duration, u64)> = BTreeMap::new();
    for run in &gathered.runs {
        let time = run.reading.unwrap_or_default() + run.writing.unwrap_or_default();
        if !time.is_zero() {
            let sum = by_name.entry(&run.name).or_default();
            let bytes = run.bytes_in.unwrap_or(0).saturating_add(run.bytes_out.unwrap_or(0));
            *sum = (sum.0 + time, sum.1.saturating_add(bytes));
        }
    }
    let time = &findings.diagnosis.time;
    let lost = time[Use::ReadingInputs] + time[Use::WritingResults];
    // Less than a tenth of what is computed is the price of having processes.
    if lost.as_secs_f64() < 0.1 * time[Use::Computing].as_secs_f64() {
        return;
    }
    if let Some((name, _)) = most(by_name.iter().map(|(name, (time, _))| (*name, *time))) {
        let bytes = by_name.get(name).map_or(0, |(_, bytes)| *bytes);
        findings.add(
            Problem::Encoding,
            lost,
            name,
            format!(
                "inputs were decoded and results encoded, most in `{}` ({:.1} MB in and out).",
                plain(name),
                bytes as f64 / 1e6
            ),
            "Pass values that are copied as a whole (`Buffer`, lists of numbers), or do more with them in one task.",
        );
    }
}

/// Runs that were in vain, or whose tasks had run before.
fn repeated(findings: &mut Findings<'_>, gathered: &Gathered) {
    let mut finished: FxHashSet<(u32, u32, u64)> = FxHashSet::default();
    let mut again: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut failed: BTreeMap<&str, (Duration, u64)> = BTreeMap::new();
    let mut lost: BTreeMap<&str, (Duration, u64)> = BTreeMap::new();
    for run in &gathered.runs {
        let took = run.took().unwrap_or_default();
        let add = |sums: &mut (Duration, u64)| *sums = (sums.0 + took, sums.1 + 1);
        match run.outcome {
            Outcome::Finished if !finished.insert((run.graph, run.task, run.hash)) => {
                *again.entry(&run.name).or_default() += took;
            }
            Outcome::Failed => add(failed.entry(&run.name).or_default()),
            Outcome::Lost => add(lost.entry(&run.worker).or_default()),
            _ => {}
        }
    }
    if let Some((name, _)) = most(again.iter().map(|(name, took)| (*name, *took))) {
        findings.add(
            Problem::Recomputed,
            again.values().sum(),
            name,
            format!(
                "tasks ran again that had run before, most of them `{}`: their results were lost or released.",
                plain(name)
            ),
            "Keep what is used again (`persist`), and look why workers died (`client.deaths()`).",
        );
    }
    if let Some((name, _)) = most(failed.iter().map(|(name, (took, _))| (*name, *took))) {
        let runs: u64 = failed.values().map(|(_, runs)| runs).sum();
        findings.add(
            Problem::FailedRuns,
            failed.values().map(|(took, _)| *took).sum(),
            name,
            format!("{runs} runs failed, most of their time in `{}`.", plain(name)),
            "Look at the errors; a check before the costly part fails sooner.",
        );
    }
    if let Some((worker, _)) = most(lost.iter().map(|(worker, (took, _))| (*worker, *took))) {
        let runs: u64 = lost.values().map(|(_, runs)| runs).sum();
        findings.add(
            Problem::WorkersLost,
            lost.values().map(|(took, _)| *took).sum(),
            worker,
            format!("{runs} runs ended with their workers, the most time on {}.", plain(worker)),
            "Look why the workers died (`client.deaths()`).",
        );
    }
}

/// What was moved between workers, and to disk and back.
fn moved(findings: &mut Findings<'_>, extent: Span, log: &SavedLog) {
    let (mut transfers, mut disk) = ((Duration::ZERO, 0_u64), (Duration::ZERO, 0_u64));
    let (mut largest, mut busiest) = ((0, String::new()), BTreeMap::<String, Duration>::new());
    for event in log.events().flatten().filter(|event| (extent.0..=extent.1).contains(&event.at)) {
        match event.kind {
            EventKind::Transfer { key, bytes, took, .. } => {
                transfers = (transfers.0 + took, transfers.1.saturating_add(bytes));
                if bytes >= largest.0 {
                    largest = (bytes, key);
                }
            }
            EventKind::Spilled { worker, bytes, took, .. } | EventKind::Loaded { worker, bytes, took, .. } => {
                disk = (disk.0 + took, disk.1.saturating_add(bytes));
                *busiest.entry(worker).or_default() += took;
            }
            _ => {}
        }
    }
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    findings.add(
        Problem::BytesMoved,
        transfers.0,
        largest.1.clone(),
        format!(
            "{:.1} MB were moved between workers, the largest value is `{}`.",
            megabytes(transfers.1),
            plain(&largest.1)
        ),
        "Let tasks that use a large value run where it is (fewer, larger chunks), or give it to all (`scatter`).",
    );
    if let Some((worker, _)) = most(busiest) {
        findings.add(
            Problem::Spilling,
            disk.0,
            worker.clone(),
            format!("{:.1} MB went to disk and back, most on {}.", megabytes(disk.1), plain(&worker)),
            "Give workers more memory (`memory_limit`), or make chunks smaller so that fewer are needed at once.",
        );
    }
}
