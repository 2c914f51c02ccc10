#![allow(clippy::unwrap_used)]
use super::*;
use crate::log::{Event, Head, Input};
use std::time::SystemTime;

const MS: u64 = 1000;

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// A run of a thread, from and to in microseconds.
fn run(name: &str, task: u32, thread: u16, from: u64, to: u64) -> Run {
    let mut run = Run::new(name, u64::from(task), "worker-0", us(from));
    (run.task, run.thread) = (task, thread);
    run.ended(us(to), Outcome::Finished);
    run
}

fn log(runs: Vec<Run>, events: Vec<Event>) -> SavedLog {
    SavedLog::of(Head::new("0.1.0", SystemTime::UNIX_EPOCH), runs, events, Vec::new())
}

fn submitted(graph: u32, at: u64) -> Event {
    Event::new(us(at), EventKind::GraphSubmitted { graph, tasks: 1, label: None, parent: None })
}

fn finished(graph: u32, at: u64) -> Event {
    Event::new(us(at), EventKind::GraphFinished { graph, took: Duration::ZERO })
}

/// The only finding but that there is nothing to improve.
#[track_caller]
fn only(log: &SavedLog, problem: Problem, culprit: &str) -> Diagnosis {
    let diagnosis = log.diagnose(&Extent::default());
    let text = diagnosis.to_string();
    assert_eq!(diagnosis.time.total(), diagnosis.wall * diagnosis.threads as u32, "{text}");
    let found: Vec<_> = diagnosis.findings.iter().map(|finding| (finding.problem, &*finding.culprit)).collect();
    assert_eq!(found, [(problem, culprit)], "{text}");
    assert!(text.lines().all(|line| !line.contains("  lost") && line.len() < 300), "{text}");
    diagnosis
}

#[test]
fn an_empty_log_says_so() {
    let diagnosis = log(Vec::new(), Vec::new()).diagnose(&Extent::default());
    assert_eq!(diagnosis.to_string(), "nothing has run");
    assert!(diagnosis.findings.is_empty());
}

#[test]
fn threads_that_compute_all_the_time_have_nothing_to_improve() {
    let runs = (0..20).map(|i| run("f", i, (i % 2) as u16, u64::from(i / 2) * 10 * MS, u64::from(i / 2 + 1) * 10 * MS));
    let diagnosis = only(&log(runs.collect(), Vec::new()), Problem::NothingToImprove, "f");
    assert_eq!((diagnosis.wall, diagnosis.ideal, diagnosis.work), (us(100 * MS), us(100 * MS), us(200 * MS)));
    assert!(diagnosis.to_string().starts_with("2 threads computed 100 % of 100 ms"), "{diagnosis}");
}

#[test]
fn small_tasks_lose_time_between_them() {
    let runs = (0..1000).map(|i| run("tiny", i, 0, u64::from(i) * 30, u64::from(i) * 30 + 10));
    let diagnosis = only(&log(runs.collect(), Vec::new()), Problem::TasksTooSmall, "tiny");
    assert_eq!(diagnosis.findings[0].lost, us(20 * 999));
    assert!(diagnosis.to_string().contains("`tiny` ran 1000 times for 10.0 µs in the mean"), "{diagnosis}");
}

#[test]
fn a_straggler_is_named_and_what_it_costs_the_others() {
    let mut runs: Vec<_> = (0..12)
        .map(|i| run("f", i, (i % 4) as u16, u64::from(i / 4) * 10 * MS, u64::from(i / 4 + 1) * 10 * MS))
        .collect();
    runs.push(run("f", 12, 0, 30 * MS, 90 * MS));
    let diagnosis = only(&log(runs, Vec::new()), Problem::Straggler, "f-000000000000000c");
    assert_eq!(diagnosis.findings[0].lost, us(3 * 60 * MS));
    assert!(diagnosis.to_string().contains("usual for its name: 10.0 ms"), "{diagnosis}");
}

#[test]
fn too_few_tasks_leave_threads_idle() {
    // A chain, beside three threads that have run one task each before it began.
    let mut runs: Vec<_> = (0..4).map(|i| run("start", i, i as u16, 0, MS)).collect();
    runs.extend((0..20).map(|i| run("step", 10 + i, 0, MS + u64::from(i) * 5 * MS, MS + u64::from(i + 1) * 5 * MS)));
    let diagnosis = only(&log(runs, Vec::new()), Problem::TooFewTasks, "step");
    assert_eq!(diagnosis.findings[0].lost, us(3 * 100 * MS));
    // The same where it is known that there are threads that have never run anything.
    let alone = log(vec![run("step", 0, 0, 0, 10 * MS)], Vec::new());
    let diagnosis = alone.diagnose(&Extent::default().threads(2));
    assert_eq!((diagnosis.findings[0].problem, diagnosis.threads), (Problem::TooFewTasks, 2));
    assert_eq!(diagnosis.time.total(), us(20 * MS));
}

#[test]
fn a_slow_client_is_between_its_graphs() {
    let mut runs = Vec::new();
    let mut events = Vec::new();
    for graph in 0..4_u32 {
        let at = u64::from(graph) * 20 * MS;
        events.extend([submitted(graph, at), finished(graph, at + 8 * MS)]);
        let mut run = run("f", 0, 0, at, at + 8 * MS);
        run.graph = graph;
        runs.push(run);
    }
    let diagnosis = only(&log(runs, events), Problem::SlowClient, "the program");
    assert_eq!(diagnosis.findings[0].lost, us(3 * 12 * MS));
}

#[test]
fn waits_for_memory_and_for_starts_are_those_of_the_worker() {
    let name = || "worker-0".to_string();
    let runs = vec![run("f", 0, 0, 0, 10 * MS), run("f", 1, 0, 60 * MS, 70 * MS)];
    let paused = Event::new(us(12 * MS), EventKind::WorkerPaused { worker: name(), reason: "full".into() });
    let resumed = Event::new(us(60 * MS), EventKind::WorkerResumed { worker: name() });
    let diagnosis = log(runs, vec![paused, resumed]).diagnose(&Extent::default());
    assert_eq!((diagnosis.findings[0].problem, diagnosis.findings[0].lost), (Problem::Memory, us(48 * MS)));
    assert_eq!(diagnosis.findings[0].culprit, "worker-0");
    let ready = Event::new(us(50 * MS), EventKind::WorkerReady { worker: name(), pid: 1 });
    let late = vec![run("f", 0, 0, 50 * MS, 60 * MS)];
    only(&log(late, vec![submitted(0, 0), ready, finished(0, 60 * MS)]), Problem::Starting, "worker-0");
}

#[test]
fn what_runs_again_or_in_vain_is_told_with_its_time() {
    let again = vec![run("f", 0, 0, 0, 10 * MS), run("f", 0, 0, 10 * MS, 20 * MS), run("g", 1, 0, 20 * MS, 30 * MS)];
    let found = log(again, Vec::new()).diagnose(&Extent::default()).findings;
    assert_eq!((found[0].problem, found[0].lost, &*found[0].culprit), (Problem::Recomputed, us(10 * MS), "f"));
    for (outcome, problem, culprit) in
        [(Outcome::Failed, Problem::FailedRuns, "f"), (Outcome::Lost, Problem::WorkersLost, "worker-0")]
    {
        let mut first = run("f", 0, 0, 0, 10 * MS);
        first.outcome = outcome;
        let found =
            log(vec![first, run("f", 0, 0, 10 * MS, 20 * MS)], Vec::new()).diagnose(&Extent::default()).findings;
        assert_eq!((found[0].problem, found[0].lost, &*found[0].culprit), (problem, us(10 * MS), culprit));
    }
}

#[test]
fn a_thread_that_waits_for_memory_all_the_time_is_its_workers() {
    let events = [
        Event::new(us(0), EventKind::WorkerReady { worker: "worker-0".into(), pid: 1 }),
        Event::new(us(MS), EventKind::WorkerPaused { worker: "worker-0".into(), reason: "it is full".into() }),
        Event::new(us(9 * MS), EventKind::WorkerResumed { worker: "worker-0".into() }),
    ];
    let runs = vec![run("f", 0, 0, 0, 10 * MS)];
    let diagnosis = log(runs, events.to_vec()).diagnose(&Extent::default().threads(2));
    assert_eq!(diagnosis.time[Use::WaitingForMemory], us(8 * MS), "{diagnosis}");
    assert_eq!(diagnosis.time.total(), us(20 * MS));
}

#[test]
fn a_run_without_an_end_ended_with_its_worker() {
    let mut cut = run("f", 0, 0, 0, 10 * MS);
    (cut.end, cut.outcome) = (None, Outcome::Running);
    let cause = serde_json::Value::Null;
    let died = EventKind::WorkerLost { worker: "worker-0".into(), pid: 1, reason: "was killed".into(), cause };
    let runs = vec![cut, run("f", 0, 1, 50 * MS, 90 * MS)];
    let diagnosis = log(runs, vec![Event::new(us(20 * MS), died)]).diagnose(&Extent::default());
    assert_eq!(diagnosis.work, us(60 * MS));
    let lost = diagnosis.findings.iter().find(|finding| finding.problem == Problem::WorkersLost);
    assert_eq!(lost.map(|finding| finding.lost), Some(us(20 * MS)), "{diagnosis}");
}

#[test]
fn what_was_moved_is_told_with_the_largest_value() {
    let moved = |key: &str, bytes| EventKind::Transfer {
        key: key.into(),
        from: "worker-0".into(),
        to: "worker-1".into(),
        bytes,
        took: us(5 * MS),
    };
    let spilled = EventKind::Spilled { key: "k".into(), worker: "worker-3".into(), bytes: 7, took: us(9 * MS) };
    let events = [moved("small", 1_000_000), moved("large", 9_000_000), spilled].map(|kind| Event::new(us(1), kind));
    let found = log(vec![run("f", 0, 0, 0, 20 * MS)], events.to_vec()).diagnose(&Extent::default()).findings;
    let told: Vec<_> = found.iter().map(|finding| (finding.problem, &*finding.culprit)).collect();
    assert!(
        told.contains(&(Problem::BytesMoved, "large")) && told.contains(&(Problem::Spilling, "worker-3")),
        "{told:?}"
    );
}

#[test]
fn one_graph_is_looked_at_by_number_or_label() {
    let mut runs = vec![run("f", 0, 0, 0, 10 * MS), run("g", 0, 0, 10 * MS, 30 * MS)];
    runs[1].graph = 1;
    let label = Some("load".to_string());
    let event = EventKind::GraphSubmitted { graph: 1, tasks: 1, label, parent: None };
    let log = log(runs, vec![Event::new(us(10 * MS), event)]);
    for extent in [Extent::of_graph(1), Extent::of_label("load")] {
        let diagnosis = log.diagnose(&extent);
        assert_eq!((diagnosis.wall, diagnosis.names.len(), &*diagnosis.names[0].name), (us(20 * MS), 1, "g"));
    }
    assert_eq!(log.diagnose(&Extent::of_graph(7)), Diagnosis::default());
    assert_eq!(log.diagnose(&Extent::of_label("none")), Diagnosis::default());
}

#[test]
fn the_longest_chain_is_found_where_inputs_are_known() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let mut writer = crate::log::Writer::create(path.path(), &Head::new("0.1.0", SystemTime::UNIX_EPOCH)).unwrap();
    for run in [run("a", 1, 0, 0, 10), run("b", 2, 1, 0, 30), run("c", 3, 0, 30, 50), run("d", 4, 1, 30, 35)] {
        writer.run(&run);
    }
    let name = |name: &str, hash| (Arc::from(name), hash);
    for (task, from) in [(("c", 3), ("a", 1)), (("c", 3), ("b", 2)), (("d", 4), ("b", 2))] {
        writer.input(Input::new(0, name(task.0, task.1), name(from.0, from.1)));
    }
    writer.finish().unwrap();
    let path = SavedLog::open(path.path()).unwrap().diagnose(&Extent::default()).critical_path.unwrap();
    assert_eq!((path.took, path.tasks), (us(50), vec!["b-0000000000000002".to_string(), "c-0000000000000003".into()]));
}

#[test]
fn hostile_names_do_no_harm() {
    let name = "<script>\n\u{202e}".repeat(1000);
    let text = log(vec![run(&name, 0, 0, 0, 10)], Vec::new()).diagnose(&Extent::default()).to_string();
    assert!(!text.contains('\u{202e}') && text.lines().count() < 5, "{text}");
}

#[test]
fn what_runs_read_and_write_is_no_computing_and_adds_up() {
    let secs = Duration::from_secs;
    let runs = (0..4_u64).map(|i| {
        let mut run = Run::new(if i == 3 { "wait" } else { "parse" }, i, "worker-0", secs(2 * i));
        run.ended(secs(2 * i + 2), Outcome::Finished);
        match i {
            3 => run.suspended = Some(secs(1)),
            _ => {
                (run.reading, run.writing, run.bytes_in) =
                    (Some(secs(1)), Some(Duration::from_millis(500)), Some(1 << 20))
            }
        }
        run
    });
    let log = log(runs.collect(), Vec::new());
    let diagnosis = log.diagnose(&Extent::default());
    let time = diagnosis.time;
    assert_eq!((time.total(), time[Use::ReadingInputs], time[Use::Suspended]), (secs(8), secs(3), secs(1)));
    assert_eq!(
        (time[Use::WritingResults], time[Use::Computing]),
        (Duration::from_millis(1500), Duration::from_millis(2500))
    );
    let finding = &diagnosis.findings[0];
    assert_eq!(
        (finding.problem, finding.culprit.as_str(), finding.lost),
        (Problem::Encoding, "parse", Duration::from_millis(4500))
    );
    assert!(diagnosis.to_string().contains("decoded"), "{diagnosis}");
}
