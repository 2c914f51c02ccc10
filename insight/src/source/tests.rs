//! Answers compared with plain recounts.

use super::*;
use crate::log::{Event, EventKind, Head, MemorySample, Outcome, Run, SavedLog, Writer, nanos};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::SystemTime;

fn head() -> Head {
    Head::new("0.1.0", SystemTime::now())
}

fn source(runs: Vec<Run>, events: Vec<Event>) -> SavedSource {
    SavedSource::of(&SavedLog::of(head(), runs, events, Vec::new()))
}

fn window(from: u64, to: u64, width: usize) -> Window {
    Window::new(Duration::from_nanos(from), Duration::from_nanos(to), width)
}

fn run(name: &str, thread: u16, from: u64, to: u64, outcome: Outcome) -> Run {
    let mut run = Run::new(name, from, format!("worker-{}", thread / 2), Duration::from_nanos(from));
    run.thread = thread % 2;
    run.ended(Duration::from_nanos(to), outcome);
    run
}

/// Runs of threads, one after the other on each.
fn some_runs() -> impl Strategy<Value = Vec<Run>> {
    let outcome = prop_oneof![8 => Just(Outcome::Finished), 1 => Just(Outcome::Failed), 1 => Just(Outcome::Lost)];
    let one = (0_u16..6, 0_usize..4, 0_u64..2_000, 0_u64..3_000, outcome);
    proptest::collection::vec(one, 0..300).prop_map(|steps| {
        let mut free = [0_u64; 6];
        let runs = steps.into_iter().map(|(thread, name, pause, took, outcome)| {
            let start = free[thread as usize] + pause;
            free[thread as usize] = start + took;
            run(["read", "parse", "sum", "write"][name], thread, start, start + took, outcome)
        });
        runs.collect()
    })
}

/// Each page of a list.
fn all<T>(ask: impl Fn(&Page) -> Answer<Rows<T>>) -> Vec<T> {
    let mut rows = Vec::new();
    loop {
        let page = ask(&Page::at(rows.len())).expect("an answer");
        assert!(page.rows.len() <= MOST_ROWS && page.version == VERSION);
        if page.rows.is_empty() {
            assert_eq!(rows.len(), page.total);
            return rows;
        }
        rows.extend(page.rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_run_is_in_the_stream_once_and_cells_are_bounded(runs in some_runs(), width in 1_usize..200) {
        let until = runs.iter().map(|run| nanos::of(run.end.expect("ended"))).max().unwrap_or(0);
        let stream = source(runs.clone(), Vec::new()).stream(&window(0, until, width)).expect("a stream");
        prop_assert_eq!(stream.runs, runs.len() as u64);
        let mut found: BTreeMap<(String, u16), (u64, u64)> = BTreeMap::new();
        for row in &stream.rows {
            let cells = &row.cells;
            let n = cells.start.len();
            prop_assert!(n <= width + 2, "{} cells in {}", n, width);
            prop_assert!(cells.took.len() == n && cells.name.len() == n && cells.hash.len() == n);
            prop_assert!(cells.name.iter().all(|name| (*name as usize) < stream.names.len()));
            let counts = cells.runs.clone().unwrap_or_else(|| vec![1; n]);
            let busy: u64 = cells.busy.as_ref().unwrap_or(&cells.took).iter().sum();
            found.insert((row.worker.clone(), row.thread), (counts.iter().map(|n| u64::from(*n)).sum(), busy));
            let ends = cells.start.iter().scan(0_i64, |at, step| { *at += step; Some(*at) });
            prop_assert!(ends.clone().collect::<Vec<_>>().is_sorted());
            // What failed is seen, whatever is summed up.
            let failed = runs.iter().any(|run| {
                *run.worker == row.worker && run.thread == row.thread && run.outcome == Outcome::Failed
            });
            let shown = cells.outcome.as_ref().is_some_and(|outcomes| outcomes.contains(&4));
            prop_assert_eq!(failed, shown);
        }
        let mut wanted: BTreeMap<(String, u16), (u64, u64)> = BTreeMap::new();
        for run in &runs {
            let sum = wanted.entry((run.worker.to_string(), run.thread)).or_default();
            *sum = (sum.0 + 1, sum.1 + nanos::of(run.took().expect("ended")));
        }
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn lists_are_recounts(runs in some_runs()) {
        let source = source(runs.clone(), Vec::new());
        let mut names: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for run in &runs {
            names.entry(&run.name).or_default().push(nanos::of(run.took().expect("ended")));
        }
        for row in all(|page| source.names(page)) {
            let mut times = names.remove(&*row.name).expect("a name of a run");
            times.sort_unstable();
            prop_assert_eq!(nanos::of(row.cost.took), times.iter().sum::<u64>());
            prop_assert_eq!((row.cost.runs, row.usual_ns), (times.len() as u64, Some(times[times.len() / 2])));
        }
        prop_assert!(names.is_empty());
        let tasks = all(|page| source.tasks(page));
        let unwell = runs.iter().filter(|run| run.outcome != Outcome::Finished).count();
        prop_assert_eq!(tasks.len(), runs.len());
        prop_assert!(tasks[..unwell].iter().all(|task| task.outcome != Outcome::Finished));
        prop_assert!(tasks[unwell..].is_sorted_by(|a, b| a.took_ns >= b.took_ns));
        let busy: u64 = all(|page| source.workers(page)).iter().map(|worker| worker.busy_ns).sum();
        prop_assert_eq!(busy, runs.iter().map(|run| nanos::of(run.took().expect("ended"))).sum::<u64>());
        let status = source.status().expect("a status");
        prop_assert_eq!(status.failed_runs, runs.iter().filter(|run| run.outcome == Outcome::Failed).count() as u64);
    }
}

#[test]
fn pages_are_bounded_and_searched() {
    let runs = (0..1000).map(|n| run(if n % 4 == 0 { "Parse" } else { "sum" }, 0, n * 10, n * 10 + 5, Outcome::Failed));
    let source = source(runs.collect(), Vec::new());
    let page = source.tasks(&Page::at(0).limit(usize::MAX)).expect("tasks");
    assert_eq!((page.rows.len(), page.total), (MOST_ROWS, 1000));
    let page = source.tasks(&Page::at(240).search("pARSE")).expect("tasks");
    assert_eq!((page.rows.len(), page.total, page.offset), (10, 250, 240));
    assert!(source.tasks(&Page::at(5000)).expect("tasks").rows.is_empty());
    assert_eq!(source.names(&Page::default().search("x")).expect("names").total, 0);
}

#[test]
fn more_than_is_kept_is_counted() {
    let line = |n: u64| {
        let kind = EventKind::Line {
            worker: "worker-0".into(),
            key: None,
            tasks: Vec::new(),
            level: "stdout".into(),
            target: None,
            text: format!("line {n}"),
        };
        Event::new(Duration::from_nanos(n), kind)
    };
    let runs = (0..2500).map(|n| run("a", 0, n * 10, n * 10 + 5, Outcome::Failed)).collect();
    let source = source(runs, (0..6000).map(line).collect());
    let logs = source.logs(&Page::default()).expect("lines");
    assert_eq!((logs.total, logs.dropped, &*logs.rows[0].text), (5000, 1000, "line 1000"));
    let tasks = source.tasks(&Page::default()).expect("tasks");
    assert_eq!((tasks.total, tasks.dropped), (2000, 500));
}

#[test]
fn a_death_has_what_was_lost_with_it_and_what_was_said_last() {
    let lost = |at: u64, pid: u32| {
        let (worker, reason) = ("worker-0".to_string(), "was killed".to_string());
        Event::new(
            Duration::from_nanos(at),
            EventKind::WorkerLost { worker, pid, reason, cause: serde_json::Value::Null },
        )
    };
    let said = |at: u64, text: &str| {
        let (worker, level, text) = ("worker-0".to_string(), "stderr".to_string(), text.to_string());
        let kind = EventKind::Line { worker, key: None, tasks: Vec::new(), level, target: None, text };
        Event::new(Duration::from_nanos(at), kind)
    };
    let runs = vec![
        run("a", 0, 10, 90, Outcome::Lost),
        run("b", 0, 150, 190, Outcome::Lost),
        run("c", 0, 210, 220, Outcome::Finished),
    ];
    let events = vec![said(50, "first"), lost(100, 1), said(180, "second"), lost(200, 2)];
    let source = source(runs, events);
    let deaths = all(|page| source.deaths(page));
    let told: Vec<_> =
        deaths.iter().map(|d| (d.pid, d.lost_runs, d.lost_ns, &*d.running[0].key, &*d.last_lines[0].text)).collect();
    assert_eq!(told, [(1, 1, 80, "a-000000000000000a", "first"), (2, 1, 40, "b-0000000000000096", "second")]);
    let worker = &all(|page| source.workers(page))[0];
    assert_eq!((worker.deaths, worker.state), (2, WorkerState::Lost));
}

#[test]
fn memory_holds_on_and_adds_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.swath");
    let mut writer = Writer::create(&path, &head()).expect("a log");
    for (at, worker, used) in [(0, "worker-2", 5), (10, "worker-10", 7), (40, "worker-2", 9), (41, "worker-2", 3)] {
        writer.memory(&MemorySample::new(Duration::from_nanos(at), worker, used));
    }
    writer.finish().expect("a log");
    let source = SavedSource::of(&SavedLog::open(&path).expect("a log"));
    let memory = source.memory(&window(0, 100, 10)).expect("memory");
    let names: Vec<_> = memory.workers.iter().map(|worker| &*worker.worker).collect();
    assert_eq!((names, memory.at_ns.len()), (vec!["worker-2", "worker-10"], 11));
    let used = |of: &WorkerMemory| of.used[..6].to_vec();
    assert_eq!(used(&memory.workers[0]), [5, 5, 5, 5, 9, 3].map(Some));
    assert_eq!(used(&memory.workers[1]), [None, Some(7), Some(7), Some(7), Some(7), Some(7)]);
    assert_eq!(memory.all.as_ref().map(used), Some([5, 12, 12, 12, 16, 10].map(Some).to_vec()));
    // What was known before the window holds on in it, too.
    let later = source.memory(&window(50, 100, 5)).expect("memory");
    assert_eq!(later.workers[0].used[0], Some(3));
    assert!(
        SavedSource::of(&SavedLog::of(head(), [], [], Vec::new()))
            .memory(&window(0, 1, 1))
            .expect("none")
            .all
            .is_none()
    );
}

#[test]
fn the_first_lines_say_how_it_went() {
    let first = |runs| source(runs, Vec::new()).status().expect("a status").first_line;
    assert_eq!(first(Vec::new()), "Nothing has run");
    let two = |outcome| {
        vec![run("a", 0, 0, 1_000_000_000, Outcome::Finished), run("b", 0, 1_000_000_000, 2_000_000_000, outcome)]
    };
    assert_eq!(first(two(Outcome::Finished)), "Finished in 2 s");
    assert_eq!(first(two(Outcome::Failed)), "Finished in 2 s · 1 failed, first b-000000003b9aca00");
    assert_eq!(first(two(Outcome::Cancelled)), "Finished in 2 s · 1 cancelled");
    let mut runs = two(Outcome::Running);
    runs[1].end = None;
    assert_eq!(first(runs), "50 % done after 1 s");
}
