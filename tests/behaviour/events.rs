//! The log of events.

use crate::common::LONG;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use swath::client::WaitFor;
use swath::error::DeathCause;
use swath::events::saved::SavedLog;
use swath::events::{Event, EventKind, EventLog, TaskRun};
use swath::{Client, cancelled, delayed, try_delayed};

fn spin(ms: u64) -> u64 {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(ms) {
        std::hint::spin_loop();
    }
    ms
}

/// The end of a graph is noted as soon as its last result is told, which may be a moment later.
fn log_with_end(client: &Client, graph: u32) -> EventLog {
    let began = Instant::now();
    loop {
        let log = client.events().unwrap();
        if log.events().iter().any(|e| matches!(e.kind, EventKind::GraphFinished { graph: g, .. } if g == graph)) {
            return log;
        }
        assert!(began.elapsed() < LONG, "graph {graph} does not end: {log:?}");
        std::thread::yield_now();
    }
}

fn ends(log: &EventLog) -> Vec<(&Event, &TaskRun, Duration)> {
    let ends = log.events().iter().filter_map(|e| match &e.kind {
        EventKind::TaskFinished { task, took }
        | EventKind::TaskFailed { task, took }
        | EventKind::TaskCancelled { task, took } => Some((e, task, *took)),
        _ => None,
    });
    ends.collect()
}

pub fn of_graphs_and_tasks(client: &Client) {
    let chain = delayed(spin).name("first").call(5).map(spin).map(spin);
    let key = chain.key();
    assert_eq!(client.compute(&chain).unwrap(), 5);
    let log = log_with_end(client, 0);
    assert!(log.events().is_sorted_by_key(|e| e.at));
    let at = |wanted: &dyn Fn(&EventKind) -> bool| {
        let found: Vec<_> = log.events().iter().filter(|e| wanted(&e.kind)).map(|e| e.at).collect();
        assert_eq!(found.len(), 1, "{log:?}");
        found[0]
    };
    let submitted = at(&|k| matches!(k, EventKind::GraphSubmitted { graph: 0, tasks: 3 }));
    let done = at(&|k| matches!(k, EventKind::GraphFinished { graph: 0, took } if *took >= Duration::from_millis(15)));
    assert!(done - submitted >= Duration::from_millis(15));
    let ends = ends(&log);
    let names: Vec<_> = ends.iter().map(|(_, task, _)| task.name.as_str()).collect();
    assert_eq!(names, ["first", "spin", "spin"]);
    assert_eq!(ends[2].1.key, key);
    let workers: Vec<_> = client.workers().unwrap().into_iter().map(|w| w.name).collect();
    for (event, task, took) in ends {
        assert!(matches!(event.kind, EventKind::TaskFinished { .. }));
        assert!(took >= Duration::from_millis(5) && took <= done - submitted, "{took:?}");
        let started = at(&|k| matches!(k, EventKind::TaskStarted { task: t } if t.key == task.key));
        let error = (event.at - started).abs_diff(took);
        assert!(started >= submitted && event.at <= done && error < Duration::from_micros(1), "{log:?}");
        assert!(workers.contains(&task.worker), "{} is none of {workers:?}", task.worker);
    }
}

fn odd_fails(x: i64) -> Result<i64, String> {
    if x % 2 == 0 { Ok(x) } else { Err("odd".to_string()) }
}

pub fn of_failures(client: &Client) {
    let failing = try_delayed(odd_fails).retries(2).call(1).map(|x: i64| x + 1);
    client.compute(&failing).unwrap_err();
    let log = log_with_end(client, 0);
    let ends = ends(&log);
    // Three attempts, and nothing of what depends on them.
    assert_eq!(ends.len(), 3, "{log:?}");
    assert!(ends.iter().all(|(e, task, _)| matches!(e.kind, EventKind::TaskFailed { .. }) && task.name == "odd_fails"));
}

pub fn of_cancelled_tasks(client: &Client) {
    fn until_cancelled(_: u64) -> u64 {
        let began = Instant::now();
        while !cancelled() && began.elapsed() < LONG {
            std::thread::yield_now();
        }
        0
    }
    if client.mode() == swath::status::Mode::Sync {
        return;
    }
    let future = client.submit(&delayed(until_cancelled).call(1)).unwrap();
    let began = Instant::now();
    let running = |kind: &EventKind| matches!(kind, EventKind::TaskStarted { .. });
    while !client.events().unwrap().events().iter().any(|e| running(&e.kind)) {
        assert!(began.elapsed() < LONG, "it does not start");
        std::thread::yield_now();
    }
    client.cancel(&future);
    client.wait_timeout(&[future], WaitFor::All, LONG).unwrap();
    while !client.events().unwrap().events().iter().any(|e| matches!(e.kind, EventKind::TaskCancelled { .. })) {
        assert!(began.elapsed() < LONG, "{:?}", client.events());
        std::thread::yield_now();
    }
}

/// A log as earlier versions have saved it.
const FORMAT_1: &str = r#"{"swath_events":1,"started":{"secs_since_epoch":1700000000,"nanos_since_epoch":5}}
{"at":{"secs":0,"nanos":1000},"kind":{"GraphSubmitted":{"graph":0,"tasks":1}}}
{"at":{"secs":0,"nanos":2000},"kind":{"TaskStarted":{"task":{"key":"spin-00000000000000ff","name":"spin","graph":0,"worker":"worker-0","thread":1}}}}
{"at":{"secs":0,"nanos":5000},"kind":{"TaskFailed":{"task":{"key":"spin-00000000000000ff","name":"spin","graph":0,"worker":"worker-0","thread":1},"took":{"secs":0,"nanos":3000}}}}
{"at":{"secs":0,"nanos":6000},"kind":{"WorkerLost":{"worker":"worker-0","pid":7,"cause":{"Signal":9}}}}
"#;

pub fn saved_and_opened(client: &Client) {
    client.compute(&delayed(spin).map([0_u64, 0, 0])).unwrap();
    let log = log_with_end(client, 0);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.swath");
    log.save(&file).unwrap();
    let opened = EventLog::open(&file).unwrap();
    assert_eq!(opened, log);
    assert_eq!((opened.runs(), opened.problems()), (log.runs(), &[][..]));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
    client.save_events(&file).unwrap();
    let summary = SavedLog::open(&file).unwrap().summary();
    assert!(summary.complete && summary.format == 2, "{summary:?}");
    let group = summary.groups.iter().find(|group| group.name == "spin").unwrap();
    assert_eq!((summary.runs, group.graph, group.counts.done(), group.cost.runs), (3, Some(0), 3, 3));

    let trace = directory.path().join("t.json");
    log.trace(&trace).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    assert_eq!(read["traceEvents"].as_array().unwrap().iter().filter(|e| e["name"] == "spin").count(), 3);
    log.json_lines(&trace).unwrap();
    let lines = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains("\"kind\":\"run\"")).count(), 3, "{lines}");
    log.csv(&trace).unwrap();
    assert_eq!(std::fs::read_to_string(&trace).unwrap().lines().count(), 4);
    assert!(log.trace(directory.path()).is_err() && log.csv(directory.path().join("none").join("x")).is_err());

    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let cut = EventLog::open(&file).unwrap();
    assert_eq!((cut.runs().len(), cut.problems().len()), (3, 1), "{:?}", cut.problems());
    std::fs::write(&file, FORMAT_1).unwrap();
    let first = EventLog::open(&file).unwrap();
    let told: Vec<_> = first.events().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[1].contains("task spin-00000000000000ff of graph 0 on worker-0, thread 1, started"), "{told:?}");
    assert!(matches!(&first.events()[3].kind, EventKind::WorkerLost { cause: DeathCause::Signal(9), .. }), "{told:?}");
    std::fs::write(&file, "{\"no\": \"log\"}\n").unwrap();
    let error = EventLog::open(&file).unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
    assert!(log.save(directory.path()).is_err());
}
