#![allow(clippy::unwrap_used)]
use super::*;
use crate::Counts;
use crate::log::{Event, EventKind, Head, Outcome, Run, SavedLog};

fn name(name: &str) -> TaskName {
    TaskName::of(name, 0x3f2a_0000_0000_0001)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One of each.
fn all() -> Vec<Why> {
    let totals = Totals { counts: Counts { released: 3, ..Counts::default() }, runs: 3, run_time: ms(9), partial: 0 };
    let paused = PausedWorker {
        used: 410_000_000,
        limit: Some(512_000_000),
        reason: "moves results to disk".into(),
        ..PausedWorker::named("worker-3")
    };
    let busy = Why::Busy { workers: 2, on: None, ahead: 6, about: Some(ms(400)), graphs: 1, wants: None };
    vec![
        Why::NotNeeded,
        Why::NotSent { ahead: 1 },
        Why::Inputs { missing: 3, all: 40, first: Some(name("parse")) },
        Why::Inputs { missing: 1, all: 1, first: Some(name("parse")) },
        Why::Moving { bytes: 9_100_000, from: vec!["worker-1".into(), "worker-2".into()] },
        Why::Memory { workers: vec![paused] },
        Why::HeldBack { bytes: 600_000_000, consumers: 12 },
        Why::Alone { worker: None, reason: Isolated::Suspect },
        Why::Alone { worker: Some("worker-0".into()), reason: Isolated::WorkerMemory },
        Why::Alone { worker: None, reason: Isolated::MachineMemory },
        Why::Placement { asked: "worker `gpu-0`".into(), present: vec!["`worker-0`".into(), "`worker-1`".into()] },
        busy.clone(),
        Why::Busy { workers: 1, on: Some("worker-1".into()), ahead: 1, about: None, graphs: 0, wants: None },
        Why::Busy { workers: 2, on: None, ahead: 0, about: None, graphs: 2, wants: Some("the 1 of `gpu`".into()) },
        Why::NoWorker { starting: 2, leaving: 0 },
        Why::NoWorker { starting: 0, leaving: 1 },
        Why::Running {
            worker: "worker-1".into(),
            thread: Some(0),
            since: Some(ms(1200)),
            usual: Some(ms(400)),
            progress: Some(0.25),
        },
        Why::CancelledRunEnding { worker: Some("worker-1".into()), again: true },
        Why::CancelledRunEnding { worker: Some("worker-1".into()), again: false },
        Why::Stored { worker: Some("worker-1".into()), bytes: Some(2_000_000), place: Place::Memory },
        Why::Stored { worker: Some("worker-1".into()), bytes: Some(2_000_000), place: Place::Disk },
        Why::Stored { worker: Some("worker-1".into()), bytes: None, place: Place::MemoryOrDisk },
        Why::Stored { worker: None, bytes: Some(12), place: Place::Supervisor },
        Why::Stored { worker: None, bytes: None, place: Place::Program },
        Why::Given,
        Why::Released,
        Why::Failed { error: "panicked: oh".into(), root: None },
        Why::Failed { error: "panicked: oh.".into(), root: Some(name("parse")) },
        Why::Cancelled { by: None },
        Why::Cancelled { by: Some(name("parse")) },
        Why::Lost { worker: "worker-1".into(), again: Some(Box::new(busy)) },
        Why::Lost { worker: "worker-1".into(), again: None },
        Why::Forgotten { totals },
    ]
}

#[test]
fn each_reason_is_told_in_words_that_differ() {
    let texts: Vec<String> = all().iter().map(ToString::to_string).collect();
    for (at, text) in texts.iter().enumerate() {
        assert!(!text.is_empty() && !text.ends_with('.') && !text.contains("  "), "{text}");
        assert!(!texts[..at].contains(text), "{text}");
    }
    let of = |start: &str| texts.iter().find(|text| text.starts_with(start)).unwrap().as_str();
    assert_eq!(of("waits for 3"), "waits for 3 of its 40 inputs");
    assert_eq!(
        of("waits for memory"),
        "waits for memory: every worker that may run it has to make room in its memory first: worker-3 (uses 410.0 MB of \
         512.0 MB, moves results to disk)"
    );
    assert_eq!(
        of("is ready and waits for"),
        "is ready and waits for a thread: the 2 that may run it are busy: 6 tasks are ahead of it, about 400 ms; 1 graph is \
         before it"
    );
    assert_eq!(
        of("runs on"),
        "runs on worker-1, thread 0, for 1.20 s (usual for its name: 400 ms), 25 % done as it says"
    );
}

#[test]
fn an_explanation_names_the_chain_and_ends_with_times_and_costs() {
    let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_millis(43_459_200) + Duration::from_secs(seconds));
    let mut told =
        Explanation::new(name("total"), TaskState::Waiting, Why::Inputs { missing: 3, all: 40, first: None });
    told.task.label = Some("load".into());
    let memory = Why::Memory { workers: vec![PausedWorker::named("worker-3")] };
    told.because.push(Step { left_out: 998, ..Step::new(name("count"), TaskState::Ready, memory) });
    told.timeline.submitted = at(0);
    (told.timeline.inputs, told.timeline.input_bytes) = (Some((37, 40)), 9_100_000);
    assert_eq!(
        told.to_string(),
        "total (total-3f2a000000000001) of \"load\" waits for 3 of its 40 inputs.\n  998 tasks are between, each of which \
         waits for the next.\n  count-3f2a000000000001 waits for memory: every worker that may run it has to make room in \
         its memory first: worker-3.\nSo far: submitted 12:04:19.2 UTC, ready never. Inputs so far 37 of 40, 9.1 MB."
    );
    let mut failed = Explanation::new(name("parse"), TaskState::Failed, Why::Failed { error: "oh".into(), root: None });
    failed.cost =
        TaskCost { runs: 2, failed: 2, took: Some(ms(9)), total: ms(18), usual: Some(ms(8)), ..TaskCost::default() };
    failed.timeline.started = at(1);
    let text = failed.to_string();
    assert!(text.contains("failed itself: oh.\n") && text.contains("client.replay"), "{text}");
    assert!(text.ends_with("So far: started 12:04:20.2 UTC.\nIt has run 2 times, 2 of that failed, 9.00 ms (usual for its name: 8.00 ms), 18.0 ms in all."), "{text}");
}

#[test]
fn names_cannot_act_on_a_terminal() {
    let bad = TaskName::new("a\n\u{1b}[2J\u{202e}", "a\n-1");
    let mut told = Explanation::new(
        bad.clone(),
        TaskState::Failed,
        Why::Failed { error: "\u{1b}[1m".into(), root: Some(bad.clone()) },
    );
    told.task.label = Some("\u{1b}]0;x\u{7}".into());
    told.because.push(Step::new(
        bad,
        TaskState::Ready,
        Why::Running { worker: "w\r".into(), thread: None, since: None, usual: None, progress: None },
    ));
    let text = told.to_string();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && text.lines().count() == 3, "{text:?}");
}

#[test]
fn explanations_are_data() {
    for why in all() {
        let mut told = Explanation::new(name("a"), TaskState::Ready, why.clone());
        told.because.push(Step::new(name("b"), TaskState::Waiting, why));
        told.timeline.submitted = Some(SystemTime::UNIX_EPOCH + ms(12));
        let json = serde_json::to_string(&told).unwrap();
        assert!(json.contains("\"submitted_ns\":12000000"), "{json}");
        assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), told);
    }
}

#[test]
fn keys_may_be_shortened() {
    let hash = 0x3f2a_91c2_0000_0001_u64;
    for (typed, fits) in [
        ("parse-3f2a91c200000001", true),
        ("parse-3f2a", true),
        ("parse-3f2a…", true),
        (" parse-3f2a... ", true),
        ("parse-", true),
        ("parse", true),
        ("par", true),
        ("", true),
        ("parse-3f2b", false),
        ("parse-3F2A", false),
        ("parse-3f2a91c2000000011", false),
        ("parse_all", false),
        ("arse", false),
    ] {
        let prefix = KeyPrefix::new(typed);
        assert_eq!(prefix.fits("parse", hash), fits, "{typed}");
        assert!(!fits || prefix.any_numbers().contains(&hash), "{typed}");
        assert!(!fits || TaskName::of("parse", hash).key.starts_with(prefix.text()), "{typed}");
    }
    assert!(KeyPrefix::new("a-b-3").fits("a-b", 0x3 << 60) && KeyPrefix::new("a-b").fits("a-b", 1));
    assert!(KeyPrefix::new("a-b").fits("a", 0xb << 60));
    let many = KeyError::ambiguous("p", (0..20).map(|n| format!("p-{n:016x}")).collect());
    let text = many.to_string();
    assert!(text.contains("p-0000000000000000, ") && text.ends_with(", …"), "{text}");
}

fn run(name: &str, hash: u64, from: u64, to: u64, outcome: Outcome) -> Run {
    let mut run = Run::new(name, hash, "worker-0", ms(from));
    run.ended(ms(to), outcome);
    run
}

fn log(runs: Vec<Run>) -> SavedLog {
    let submitted = EventKind::GraphSubmitted { graph: 0, tasks: 3, label: Some("load".into()), parent: None };
    SavedLog::of(Head::new("0.1.0", SystemTime::UNIX_EPOCH), runs, [Event::new(ms(1), submitted)], Vec::new())
}

#[test]
fn a_saved_log_tells_runs_attempts_and_outcomes() {
    const A: u64 = 0xa << 60;
    let mut runs = vec![run("parse", A, 2, 4, Outcome::Failed), run("parse", A, 5, 8, Outcome::Finished)];
    runs.extend((1..=9).map(|n| run("parse", n, 10, 11, Outcome::Finished)));
    let told = log(runs).explain("parse-a").unwrap();
    assert_eq!((told.state, &told.why), (TaskState::Released, &Why::Released));
    assert_eq!((told.cost.runs, told.cost.failed, told.cost.took), (2, 1, Some(ms(3))));
    assert_eq!((told.cost.usual, told.cost.total), (Some(ms(1)), ms(5)));
    assert_eq!((told.task.label.as_deref(), told.task.graph), (Some("load"), Some(0)));
    let at = |n| Some(SystemTime::UNIX_EPOCH + ms(n));
    assert_eq!((told.timeline.submitted, told.timeline.started, told.timeline.ended), (at(1), at(5), at(8)));
    let why = |outcome| log(vec![run("f", A, 0, 1, outcome)]).explain("f").unwrap().why;
    assert!(matches!(why(Outcome::Failed), Why::Failed { root: None, .. }));
    assert_eq!(why(Outcome::Cancelled), Why::Cancelled { by: None });
    assert_eq!(why(Outcome::Lost), Why::Lost { worker: "worker-0".into(), again: None });
    let mut running = Run::new("f", A, "worker-0", ms(3));
    running.thread = 1;
    let last = run("g", 1, 5, 10, Outcome::Finished);
    let told = log(vec![running, last]).explain("f-a").unwrap();
    assert!(matches!(told.why, Why::Running { thread: Some(1), since: Some(since), .. } if since == ms(7)), "{told}");
}

#[test]
fn an_unknown_key_and_one_of_several_are_errors() {
    let log = log(vec![run("parse", 1, 0, 1, Outcome::Finished), run("parse", 2, 0, 1, Outcome::Finished)]);
    assert_eq!(log.explain("nope"), Err(KeyError::unknown("nope")));
    let Err(KeyError::Ambiguous { candidates, more: false, .. }) = log.explain("parse-0") else { panic!() };
    assert_eq!(candidates, ["parse-0000000000000001", "parse-0000000000000002"]);
    let Why::Forgotten { totals } = log.explain("parse-00000000000000ff").unwrap().why else { panic!() };
    assert_eq!((totals.runs, totals.run_time), (2, ms(2)));
}

#[test]
fn the_same_key_in_several_graphs_is_that_of_the_latest() {
    let mut again = run("f", 1, 5, 9, Outcome::Failed);
    again.graph = 2;
    let told = log(vec![again, run("f", 1, 0, 1, Outcome::Finished)]).explain("f").unwrap();
    assert_eq!((told.task.graph, told.state, told.cost.runs), (Some(2), TaskState::Failed, 1));
}

#[test]
fn recorded_inputs_say_what_held_a_task_up() {
    use crate::log::{Input, Writer};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.swath");
    let mut writer = Writer::create(&path, &Head::new("0.1.0", SystemTime::UNIX_EPOCH)).unwrap();
    let task = |name: &str, hash: u64| (std::sync::Arc::from(name), hash);
    for (of, from) in [(("total", 9), ("count", 1)), (("total", 9), ("count", 2)), (("count", 2), ("parse", 3))] {
        writer.input(Input::new(0, task(of.0, of.1), task(from.0, from.1)));
    }
    writer.run(&run("count", 1, 0, 1, Outcome::Finished));
    writer.run(&run("parse", 3, 0, 2, Outcome::Failed));
    writer.finish().unwrap();
    let told = SavedLog::open(&path).unwrap().explain("total").unwrap();
    let root = Some(TaskName::of("parse", 3));
    assert!(matches!(&told.why, Why::Failed { root: found, .. } if *found == root), "{told}");
    assert_eq!(told.because.iter().map(|step| &*step.task.name).collect::<Vec<_>>(), ["count", "parse"]);
    assert_eq!(told.timeline.inputs, Some((1, 2)));
}
